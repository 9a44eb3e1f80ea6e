package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"mete/internal/failpoint"
	"mete/metering"
)

// Intake publishes validated events to the permanent stream. Fill in Streams; the
// other fields have defaults.
//
// Callers share the cost of the disk: while a partition's messages are being synced,
// what arrives gathers in the next ones. Nothing waits when nothing is under way.
type Intake struct {
	Streams   *Streams
	MaxQueued int           // events taken and not yet on disk; 0 = 50,000
	InFlight  int           // messages under way per partition; 0 = 4
	Patience  time.Duration // how long one message is tried; 0 = 20 s, at most half the duplicate window
	Now       func() time.Time

	mu     sync.Mutex
	queued int
	closed bool
	idle   chan struct{} // made by Close, closed when nothing is queued
	lanes  []*lane
}

// Defaults of an [Intake].
const (
	DefaultMaxQueued = 50_000
	DefaultInFlight  = 4
	DefaultPatience  = 20 * time.Second

	tryTimeout = 2 * time.Second        // of one publish; a slow one tried again is stored once
	tryPause   = 100 * time.Millisecond // before the next
)

// Fail-points.
const (
	beforePublish failpoint.Point = "intake.before-publish"
	afterPublish  failpoint.Point = "intake.after-publish" // on disk, nobody told
)

// BusyError says that the intake's queue is full or that the broker takes no events.
// Nothing of the call was accepted if Unknown is false; else events may be in the
// stream, and sending them again is safe.
type BusyError struct {
	Reason  string
	Unknown bool
	After   time.Duration // when to try again
	Err     error
}

func (e *BusyError) Error() string {
	if e.Err != nil {
		return e.Reason + ": " + e.Err.Error()
	}
	return e.Reason
}

func (e *BusyError) Unwrap() error { return e.Err }

// RetryAfter is when to try again.
func (e *BusyError) RetryAfter() time.Duration { return e.After }

// Overloaded reports whether the sender is too fast, rather than the broker down.
func (e *BusyError) Overloaded() bool { return e.Err == nil }

// ErrClosed says that the intake takes no more events.
var ErrClosed = errors.New("the intake is closed")

// Accept publishes events and returns when all are on the broker's disk, with their
// positions (without incarnation: the store counts it). An event without a time gets
// the time of this call. Events must have passed metering.Validate.
//
// After an error some may have been accepted all the same; sending all again is
// safe, since the store counts each once.
func (in *Intake) Accept(ctx context.Context, events []metering.Event) ([]metering.Position, error) {
	if len(events) == 0 {
		return nil, nil
	}
	if err := in.reserve(len(events)); err != nil {
		return nil, err
	}
	now := in.now()
	w := &waiter{positions: make([]metering.Position, len(events)), left: len(events), done: make(chan struct{})}
	lanes := in.lanesOf()
	byLane := make([][]item, len(lanes))
	var b []byte
	ends := make([]int, len(events))
	for i := range events {
		e := events[i]
		e.Accept(now)
		b = append(metering.AppendCanonical(b, e), '\n')
		ends[i] = len(b)
	}
	from := 0
	for i := range events {
		p := events[i].Key().Partition(len(lanes))
		byLane[p] = append(byLane[p], item{line: b[from:ends[i]:ends[i]], w: w, index: i})
		from = ends[i]
	}
	for p, items := range byLane {
		if len(items) > 0 {
			lanes[p].add(items)
		}
	}
	select {
	case <-w.done:
		return w.positions, w.err
	case <-ctx.Done():
		return nil, fmt.Errorf("accept %d events: they may be accepted or not, send them again: %w", len(events), ctx.Err())
	}
}

// Queued is how many events were taken and are not on disk yet.
func (in *Intake) Queued() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.queued
}

// Close takes no more events and waits until those it took are on disk or given up.
func (in *Intake) Close(ctx context.Context) error {
	in.mu.Lock()
	in.closed = true
	if in.idle == nil {
		in.idle = make(chan struct{})
		if in.queued == 0 {
			close(in.idle)
		}
	}
	in.mu.Unlock()
	select {
	case <-in.idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close intake with %d events under way: %w", in.Queued(), ctx.Err())
	}
}

func (in *Intake) now() time.Time {
	if in.Now != nil {
		return in.Now()
	}
	return time.Now()
}

// reserve takes room for n events in the queue.
func (in *Intake) reserve(n int) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return ErrClosed
	}
	bound := in.MaxQueued
	if bound == 0 {
		bound = DefaultMaxQueued
	}
	if in.queued+n > bound {
		return &BusyError{Reason: fmt.Sprintf("%d events wait for the disk, room for %d; send %d later", in.queued, bound, n), After: time.Second}
	}
	in.queued += n
	return nil
}

func (in *Intake) release(n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.queued -= n
	if in.queued == 0 && in.idle != nil {
		close(in.idle)
	}
}

func (in *Intake) lanesOf() []*lane {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.lanes == nil {
		in.lanes = make([]*lane, in.Streams.Partitions())
		for p := range in.lanes {
			in.lanes[p] = &lane{intake: in, partition: p}
		}
	}
	return in.lanes
}

// item is one event on its way.
type item struct {
	line  []byte
	w     *waiter
	index int
}

// waiter is one call of Accept.
type waiter struct {
	mu        sync.Mutex
	positions []metering.Position
	left      int
	err       error
	done      chan struct{}
}

// lane is the way into one partition.
type lane struct {
	intake    *Intake
	partition int

	mu      sync.Mutex
	pending []item
	bytes   int
	flying  int
}

func (l *lane) add(items []item) {
	l.mu.Lock()
	l.pending = append(l.pending, items...)
	for _, it := range items {
		l.bytes += len(it.line)
	}
	l.dispatch()
	l.mu.Unlock()
}

// dispatch sends what may go: a full message whenever a place is free, a part-filled
// one only when nothing is under way, so that the next sync carries more.
func (l *lane) dispatch() {
	places := l.intake.InFlight
	if places == 0 {
		places = DefaultInFlight
	}
	for len(l.pending) > 0 && l.flying < places && (l.flying == 0 || l.bytes >= MaxPayload-firstLine || len(l.pending) >= MaxCount) {
		n, size := 0, firstLine
		for n < len(l.pending) && n < MaxCount && (n == 0 || size+len(l.pending[n].line) <= MaxPayload) {
			size += len(l.pending[n].line)
			n++
		}
		batch := l.pending[:n:n]
		l.pending = l.pending[n:]
		l.bytes -= size - firstLine
		l.flying++
		go l.send(batch)
	}
	if len(l.pending) == 0 {
		l.pending = nil
	}
}

// send publishes one message and tells those who wait.
func (l *lane) send(batch []item) {
	lines := make([][]byte, len(batch))
	for i, it := range batch {
		lines[i] = it.line
	}
	sequence, err := l.publish(pack(l.partition, lines, l.intake.now()))
	l.mu.Lock()
	l.flying--
	l.dispatch()
	l.mu.Unlock()
	l.intake.release(len(batch))
	for i, it := range batch {
		it.w.mu.Lock()
		it.w.positions[it.index] = metering.Position{Partition: l.partition, Sequence: sequence, Index: i}
		if err != nil && it.w.err == nil {
			it.w.err = err
		}
		it.w.left--
		last := it.w.left == 0
		it.w.mu.Unlock()
		if last {
			close(it.w.done)
		}
	}
}

// publish tries the same bytes until the broker says that they are on disk, well
// within the time in which it recognises them.
func (l *lane) publish(m *nats.Msg) (uint64, error) {
	patience := l.intake.Patience
	if patience == 0 {
		patience = DefaultPatience
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(patience, DuplicateWindow/2))
	defer cancel()
	for {
		ack, err := l.try(ctx, m)
		if err == nil {
			return ack.Sequence, nil
		}
		var refused *js.APIError
		if errors.As(err, &refused) && isFinal(refused.ErrorCode) {
			return 0, &BusyError{Reason: "the stream takes no more events", After: time.Minute, Err: err}
		}
		select {
		case <-time.After(tryPause):
		case <-ctx.Done():
			return 0, &BusyError{Reason: "the broker did not confirm", Unknown: true, After: 5 * time.Second, Err: err}
		}
	}
}

func (l *lane) try(ctx context.Context, m *nats.Msg) (*js.PubAck, error) {
	if err := beforePublish.Hit(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	ack, err := l.intake.Streams.js.PublishMsg(ctx, m)
	if err != nil {
		return nil, err
	}
	if err := afterPublish.Hit(); err != nil {
		return nil, err
	}
	return ack, nil
}

// isFinal reports whether the broker refused for a reason that a retry does not mend.
func isFinal(code js.ErrorCode) bool {
	switch code {
	case 10023, // insufficient resources
		10047, // insufficient storage
		10054, // message exceeds maximum size
		10060, // expected another stream
		10077: // stream store failed: maximum bytes
		return true
	}
	return false
}
