package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"mete/internal/failpoint"
	"mete/metering"
)

// Worker fills a store from the stream. The store's position is the truth: each
// partition goes on from stored position + 1, strictly in sequence, and the broker
// keeps no mark of what was read. Fill in Streams and Store.
//
// A worker that meets what cannot be (a hole, a stream made anew, a stream that ends
// before the stored position) stops for good with an error that names both sides.
//
// Without Leases it fills every partition and must be the only one that does. With
// them it fills those that it has a lease of, under the lease's epoch, beside others.
type Worker struct {
	Streams *Streams
	Store   metering.Store
	Leases  *Leases

	BlockEvents int           // events of a block, roughly: a message is never parted; 0 = 5,000
	Gather      time.Duration // blocks of a partition that are not full are at least so far apart; 0 = at once

	AppendTries  int           // of the store, per block and question; 0 = 6, some ten seconds
	ReadPatience time.Duration // how long a broker may be away; 0 = 5 min
	SilentAfter  time.Duration // messages may wait so long while nothing is stored before health is red; 0 = 1 min

	room *semaphore.Weighted // for events that are decoded and not stored

	mu      sync.Mutex
	began   time.Time   // Run; zero: this process fills nothing
	appends []time.Time // last append of each partition
	reading []error     // why each partition cannot be read now, nil if it can
	stopped error       // why Run ended, nil while it has not failed
	moved   []moved     // what Health has seen of each partition, whoever fills it
}

// moved is when a stored position was first seen where it is.
type moved struct {
	stored uint64
	at     time.Time
}

// Defaults of a [Worker], and how it waits.
const (
	DefaultAppendTries  = 6
	DefaultReadPatience = 5 * time.Minute
	DefaultSilentAfter  = time.Minute

	maxDecoded = 50_000 // events in memory, of all partitions; some 35 MB. One block always fits

	firstRetry = 150 * time.Millisecond // doubles with each try
	growEvery  = 20 * time.Millisecond  // a block that waits for its turn
	idleFirst  = 5 * time.Millisecond   // pause after reading nothing; doubles
	idleLast   = 100 * time.Millisecond
	idleCheck  = 5 * time.Second // how often an idle partition checks the stream itself
)

// Fail-points.
const (
	beforeAppend failpoint.Point = "worker.before-append"
	afterAppend  failpoint.Point = "worker.after-append"
)

// Run fills the store until ctx ends (nil) or something is wrong. It may be called
// again.
func (w *Worker) Run(ctx context.Context) error {
	err := w.run(ctx)
	if ctx.Err() != nil {
		err = nil
	}
	w.mu.Lock()
	w.stopped = err
	w.mu.Unlock()
	return err
}

func (w *Worker) run(ctx context.Context) error {
	w.mu.Lock()
	w.stopped = nil
	w.began = time.Now()
	w.appends = make([]time.Time, w.Streams.Partitions())
	w.reading = make([]error, w.Streams.Partitions())
	w.mu.Unlock()
	w.room = semaphore.NewWeighted(maxDecoded)
	incarnation, err := w.Streams.Attach(ctx, w.Store)
	if err != nil {
		return fmt.Errorf("metering worker: %w", err)
	}
	if w.Leases != nil {
		if err := w.Leases.Run(ctx, func(ctx context.Context, partition int, epoch uint64) error {
			return w.hold(ctx, incarnation, partition, epoch)
		}); err != nil {
			return fmt.Errorf("metering worker: %w", err)
		}
		return nil
	}
	all, ctx := errgroup.WithContext(ctx)
	for p := range w.Streams.Partitions() {
		stored, err := w.position(ctx, p)
		if err != nil {
			return fmt.Errorf("metering worker: %w", err)
		}
		all.Go(func() error {
			_, err := w.follow(ctx, incarnation, p, 0, stored)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return fmt.Errorf("metering worker: %w", err)
	}
	return nil
}

// holdTries bounds how often a partition is begun again under one lease.
const holdTries = 3

// hold fills a partition while this worker has its lease. A worker that had it before
// may still move the stored position until ours is known to the store, and a store that
// is restored goes back; then the partition is begun again from where the store is.
func (w *Worker) hold(ctx context.Context, incarnation, partition int, epoch uint64) error {
	for try := 1; ; try++ {
		stored, err := w.position(ctx, partition)
		if err != nil {
			return err
		}
		stored, err = w.follow(ctx, incarnation, partition, epoch, stored)
		switch {
		case errors.Is(err, metering.ErrFenced):
			return nil // another worker has it; this one may take it again, with a higher epoch
		case errors.Is(err, metering.ErrGap) && try < holdTries:
			now, perr := w.Store.Position(ctx, partition)
			if perr != nil || now >= stored {
				return err
			}
		default:
			return err
		}
	}
}

// position asks the store where a partition is, as patiently as it is given a block.
func (w *Worker) position(ctx context.Context, partition int) (uint64, error) {
	pause := firstRetry
	for try := 1; ; try++ {
		stored, err := w.Store.Position(ctx, partition)
		if err == nil || ctx.Err() != nil || try >= w.tries() {
			return stored, err
		}
		if !sleep(ctx, pause) {
			return 0, ctx.Err()
		}
		pause *= 2
	}
}

// handing hands blocks from who reads to who appends. Each block takes one turn, which is
// there while the other waits for a block.
type handing struct {
	turn chan struct{}
	next chan metering.Block
}

// follow reads a partition from behind the stored position on and appends it, and
// returns up to where it is stored then. The next block is read and decoded while one is
// appended; what was read before a failure is stored.
func (w *Worker) follow(ctx context.Context, incarnation, partition int, epoch, stored uint64) (uint64, error) {
	ctx, stop := context.WithCancel(ctx)
	h := handing{make(chan struct{}, 1), make(chan metering.Block)}
	var readErr error
	go func() {
		defer close(h.next)
		readErr = w.read(ctx, incarnation, partition, stored+1, h)
	}()
	last, err := w.fill(ctx, partition, epoch, h)
	stop()
	for b := range h.next { // wait for the reader
		w.room.Release(weight(announced(b)))
	}
	if err == nil {
		err = readErr
	}
	return max(stored, last), err
}

// read reads and decodes the partition from a sequence on. What is not enough for a block
// grows while the one before is appended, so that a slow store gets fewer and larger ones.
func (w *Worker) read(ctx context.Context, incarnation, partition int, from uint64, h handing) error {
	r, err := w.Streams.reader(partition)
	if err != nil {
		return err
	}
	defer r.close()
	pause, checked, lastAnswer := idleFirst, time.Now(), time.Now()
	for {
		began := time.Now()
		got, full, err := r.gather(ctx, from, nil, w.blockEvents())
		if err == nil && len(got) == 0 && time.Since(checked) > idleCheck {
			_, err = w.Streams.continues(ctx, partition, from-1)
			checked = time.Now()
		}
		if ctx.Err() != nil {
			return nil
		}
		w.mu.Lock()
		w.reading[partition] = err
		w.mu.Unlock()
		switch {
		case errors.Is(err, metering.ErrGap), errors.Is(err, metering.ErrIncarnation):
			return err
		case err != nil && time.Since(lastAnswer) > w.patience():
			return fmt.Errorf("no answer for %s: %w", w.patience(), err)
		case err == nil:
			lastAnswer = time.Now()
		}
		if len(got) == 0 {
			if !sleep(ctx, pause) {
				return nil
			}
			pause = min(2*pause, idleLast)
			continue
		}
		pause = idleFirst
		mine := false
		for grown := full; !mine && !grown; {
			select {
			case <-h.turn:
				mine = true
			case <-time.After(growEvery):
				got, grown, _ = r.gather(ctx, from, got, w.blockEvents()) // an error is met again at the next
			case <-ctx.Done():
				return nil
			}
		}
		room := func(events int) bool { return w.room.Acquire(ctx, weight(events)) == nil }
		for b := range blocks(incarnation, partition, got, w.blockEvents(), room) {
			if !h.hand(ctx, b, mine) {
				w.room.Release(weight(announced(b)))
				return nil
			}
			from, mine = b.Last+1, false
		}
		if ctx.Err() != nil {
			return nil
		}
		if !full && !sleep(ctx, w.Gather-time.Since(began)) {
			return nil
		}
	}
}

// hand hands a block over when its turn comes, or has come already.
func (h handing) hand(ctx context.Context, b metering.Block, mine bool) bool {
	if !mine {
		select {
		case <-h.turn:
		case <-ctx.Done():
			return false
		}
	}
	select {
	case h.next <- b:
		return true
	case <-ctx.Done():
		return false
	}
}

// WorkerMemory is the soft limit, in bytes, of a process that does nothing but fill a
// store elsewhere: beyond it the collector works harder (see [debug.SetMemoryLimit]).
// What the store's key filter takes comes on top.
const WorkerMemory = 224 << 20

// LimitMemory sets that limit, unless the environment sets one.
func LimitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(WorkerMemory)
	}
}

// weight is how much room events take.
func weight(events int) int64 { return int64(min(events, maxDecoded)) }

// announced counts the events of a block.
func announced(b metering.Block) int {
	n := 0
	for i := range b.Messages {
		n += b.Messages[i].Announced
	}
	return n
}

func (w *Worker) blockEvents() int { return cmp.Or(w.BlockEvents, blockEvents) }

// fill appends the partition's blocks, and returns the last message of the last one.
func (w *Worker) fill(ctx context.Context, partition int, epoch uint64, h handing) (last uint64, err error) {
	for {
		h.turn <- struct{}{} // there is room: who handed the last block took its turn
		b, more := <-h.next
		if !more {
			return last, nil
		}
		b.Epoch = epoch
		err := w.append(ctx, b)
		w.room.Release(weight(announced(b)))
		if err != nil {
			if ctx.Err() != nil {
				return last, nil
			}
			return last, err
		}
		last = b.Last
		w.mu.Lock()
		w.appends[partition] = time.Now()
		w.mu.Unlock()
	}
}

// confirm asks whether the stream is still the one that was attached: a block read
// from a stream made anew must not be stored.
func (w *Worker) confirm(ctx context.Context, b metering.Block) error {
	since, pause := time.Now(), firstRetry
	for {
		_, err := w.Streams.continues(ctx, b.Partition, b.Last)
		switch {
		case err == nil, errors.Is(err, metering.ErrGap): // what expired after it was read is no gap
			return nil
		case errors.Is(err, metering.ErrIncarnation):
			return err
		case time.Since(since) > w.patience():
			return fmt.Errorf("no answer for %s: %w", w.patience(), err)
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
		pause = min(2*pause, time.Second)
	}
}

func (w *Worker) patience() time.Duration {
	if w.ReadPatience == 0 {
		return DefaultReadPatience
	}
	return w.ReadPatience
}

func (w *Worker) tries() int { return cmp.Or(w.AppendTries, DefaultAppendTries) }

// append stores a block.
func (w *Worker) append(ctx context.Context, b metering.Block) error {
	if err := w.confirm(ctx, b); err != nil {
		return err
	}
	tries, pause := w.tries(), firstRetry
	for try := 1; ; try++ {
		err := w.appendOnce(ctx, b)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, metering.ErrGap), errors.Is(err, metering.ErrIncarnation), errors.Is(err, metering.ErrFenced), ctx.Err() != nil, try >= tries:
			return fmt.Errorf("append messages %d to %d of partition %d, try %d of %d: %w", b.First, b.Last, b.Partition, try, tries, err)
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
		pause *= 2
	}
}

func (w *Worker) appendOnce(ctx context.Context, b metering.Block) error {
	if err := beforeAppend.Hit(); err != nil {
		return err
	}
	if _, err := w.Store.Append(ctx, b); err != nil {
		return err
	}
	return afterAppend.Hit()
}

// sleep waits; it reports false if ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// Lag is how far the store is behind in one partition, in messages.
type Lag struct {
	Partition    int       `json:"partition"`
	Stored       uint64    `json:"stored"`
	Last         uint64    `json:"last"`
	Behind       uint64    `json:"behind"`
	WaitingSince time.Time `json:"waiting_since,omitzero"`  // when the first message that is not stored was
	LastAppendAt time.Time `json:"last_append_at,omitzero"` // by this process
	Bytes        uint64    `json:"bytes"`
	MaxBytes     int64     `json:"max_bytes"`
	OldestAt     time.Time `json:"oldest_at,omitzero"` // first message of the stream
}

// Health is the worker's figures now.
type Health struct {
	Partitions []Lag `json:"partitions"`
	Err        error `json:"-"` // why the worker has stopped, or what it cannot read now and tries again
}

// Freshness is how long the oldest event that is not stored has waited, 0 if none does.
func (h Health) Freshness(now time.Time) time.Duration {
	var oldest time.Duration
	for _, l := range h.Partitions {
		if !l.WaitingSince.IsZero() {
			oldest = max(oldest, now.Sub(l.WaitingSince))
		}
	}
	return oldest
}

// Health asks broker and store how far the store is. It is for any process, also one
// whose Run fills nothing: messages that wait while the stored position stands still
// are an error, whoever should have stored them.
func (w *Worker) Health(ctx context.Context) (Health, error) {
	h := Health{Partitions: make([]Lag, w.Streams.Partitions()), Err: errors.Join(w.failure(), w.unread())}
	if w.Leases != nil {
		_, err := w.Leases.State()
		h.Err = errors.Join(h.Err, err)
	}
	for p := range h.Partitions {
		s, err := w.Streams.State(ctx, p)
		if err != nil {
			return h, err
		}
		stored, err := w.Store.Position(ctx, p)
		if err != nil {
			return h, err
		}
		l := &h.Partitions[p]
		*l = Lag{Partition: p, Stored: stored, Last: s.Last, Behind: s.Last - min(s.Last, stored), Bytes: s.Bytes, MaxBytes: s.MaxBytes, OldestAt: s.Oldest}
		if l.Behind > 0 {
			if l.WaitingSince, err = w.Streams.storedAt(ctx, p, stored+1); err != nil {
				return h, err
			}
		}
	}
	w.mu.Lock()
	for p, at := range w.appends {
		h.Partitions[p].LastAppendAt = at
	}
	w.mu.Unlock()
	h.Err = errors.Join(h.Err, w.silent(h.Partitions, time.Now()))
	return h, nil
}

// silent names the partitions that stand still although messages wait.
func (w *Worker) silent(lags []Lag, now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.moved) != len(lags) {
		w.moved = make([]moved, len(lags))
		for p, l := range lags {
			w.moved[p] = moved{l.Stored, l.WaitingSince} // as if it stood still since then
		}
	}
	most := cmp.Or(w.SilentAfter, DefaultSilentAfter)
	var still []error
	for p, l := range lags {
		m := &w.moved[p]
		if l.Behind == 0 || l.Stored != m.stored || m.at.IsZero() {
			*m = moved{l.Stored, now}
		}
		since, working := now.Sub(m.at), now.Sub(later(l.LastAppendAt, w.began)) // who has just begun had no time yet
		if l.Behind > 0 && since > most && now.Sub(l.WaitingSince) > most && working > most {
			still = append(still, fmt.Errorf("partition %d stands still at %d for %s: %d messages wait, the first since %s; is a worker running that can reach the store?",
				p, l.Stored, since.Round(time.Second), l.Behind, l.WaitingSince.UTC().Format(time.RFC3339)))
		}
	}
	return errors.Join(still...)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (w *Worker) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped
}

func (w *Worker) unread() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.reading...)
}

// WaitDrained returns when the store has everything that lay in the stream when it
// was called, or as soon as the worker has failed, or with what is missing when ctx
// ends. Progress, if given, is told the lags as they shrink.
func (w *Worker) WaitDrained(ctx context.Context, progress func([]Lag)) error {
	h, err := w.Health(ctx)
	if err != nil {
		return fmt.Errorf("wait for the metering store: %w", err)
	}
	lags, pause := h.Partitions, idleFirst
	for {
		behind := uint64(0)
		for i := range lags {
			l := &lags[i]
			if l.Behind > 0 {
				if l.Stored, err = w.Store.Position(ctx, l.Partition); err != nil {
					break
				}
				l.Behind = l.Last - min(l.Last, l.Stored)
			}
			behind += l.Behind
		}
		if err == nil {
			err = w.failure()
		}
		if progress != nil {
			progress(lags)
		}
		if behind == 0 && err == nil {
			return nil
		}
		if err != nil || !sleep(ctx, pause) {
			return fmt.Errorf("wait for the metering store: %s: %w", missing(lags), errors.Join(err, ctx.Err(), w.unread()))
		}
		pause = min(2*pause, idleLast)
	}
}

func missing(lags []Lag) string {
	text := ""
	for _, l := range lags {
		if l.Behind > 0 {
			text += fmt.Sprintf("partition %d is at %d of %d; ", l.Partition, l.Stored, l.Last)
		}
	}
	if text == "" {
		return "nothing is missing"
	}
	return text[:len(text)-2]
}
