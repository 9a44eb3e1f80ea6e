package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"mete/internal/failpoint"
	"mete/metering"
)

// Worker fills a store from the stream. The store's position is the truth: each
// partition goes on from stored position + 1, strictly in sequence, and the broker
// keeps no mark of what was read. Fill in Streams and Store.
//
// A worker that meets what cannot be (a hole, a stream made anew, a stream that ends
// before the stored position) stops for good with an error that names both sides.
type Worker struct {
	Streams *Streams
	Store   metering.Store

	AppendTries  int           // per block; 0 = 6, some ten seconds
	ReadPatience time.Duration // how long a broker may be away; 0 = 5 min

	mu      sync.Mutex
	appends []time.Time // last append of each partition
	reading []error     // why each partition cannot be read now, nil if it can
	stopped error       // why Run ended, nil while it has not failed
}

// Defaults of a [Worker], and how it waits.
const (
	DefaultAppendTries  = 6
	DefaultReadPatience = 5 * time.Minute

	firstRetry = 150 * time.Millisecond // doubles with each try
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
	w.appends = make([]time.Time, w.Streams.Partitions())
	w.reading = make([]error, w.Streams.Partitions())
	w.mu.Unlock()
	incarnation, err := w.Streams.Attach(ctx, w.Store)
	if err != nil {
		return fmt.Errorf("metering worker: %w", err)
	}
	all, ctx := errgroup.WithContext(ctx)
	for p := range w.Streams.Partitions() {
		stored, err := w.Store.Position(ctx, p)
		if err != nil {
			return fmt.Errorf("metering worker: %w", err)
		}
		all.Go(func() error { return w.follow(ctx, incarnation, p, stored+1) })
	}
	if err := all.Wait(); err != nil {
		return fmt.Errorf("metering worker: %w", err)
	}
	return nil
}

// follow reads a partition from a sequence on and appends it. The next block is read
// and decoded while one is appended; what was read before a failure is stored.
func (w *Worker) follow(ctx context.Context, incarnation, partition int, from uint64) error {
	ctx, stop := context.WithCancel(ctx)
	ahead := make(chan metering.Block, 1)
	var readErr error
	go func() {
		defer close(ahead)
		readErr = w.read(ctx, incarnation, partition, from, ahead)
	}()
	err := w.fill(ctx, partition, ahead)
	stop()
	for range ahead { // wait for the reader
	}
	if err != nil {
		return err
	}
	return readErr
}

// read decodes the partition from a sequence on.
func (w *Worker) read(ctx context.Context, incarnation, partition int, from uint64, ahead chan<- metering.Block) error {
	r, err := w.Streams.reader(partition)
	if err != nil {
		return err
	}
	defer r.close()
	pause, checked, lastAnswer := idleFirst, time.Now(), time.Now()
	for {
		got, err := r.read(ctx, from)
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
		for _, b := range blocks(incarnation, partition, got) {
			select {
			case ahead <- b:
				from = b.Last + 1
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// fill appends the partition's blocks.
func (w *Worker) fill(ctx context.Context, partition int, ahead <-chan metering.Block) error {
	for b := range ahead {
		if err := w.append(ctx, b); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		w.mu.Lock()
		w.appends[partition] = time.Now()
		w.mu.Unlock()
	}
	return nil
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

// append stores a block.
func (w *Worker) append(ctx context.Context, b metering.Block) error {
	if err := w.confirm(ctx, b); err != nil {
		return err
	}
	tries := w.AppendTries
	if tries == 0 {
		tries = DefaultAppendTries
	}
	pause := firstRetry
	for try := 1; ; try++ {
		err := w.appendOnce(ctx, b)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, metering.ErrGap), errors.Is(err, metering.ErrIncarnation), ctx.Err() != nil, try >= tries:
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

// Health asks broker and store how far the store is.
func (w *Worker) Health(ctx context.Context) (Health, error) {
	h := Health{Partitions: make([]Lag, w.Streams.Partitions()), Err: errors.Join(w.failure(), w.unread())}
	for p := range h.Partitions {
		s, err := w.Streams.State(ctx, p)
		if err != nil {
			return h, err
		}
		stored, err := w.Store.Position(ctx, p)
		if err != nil {
			return h, err
		}
		h.Partitions[p] = Lag{Partition: p, Stored: stored, Last: s.Last, Behind: s.Last - min(s.Last, stored), Bytes: s.Bytes, MaxBytes: s.MaxBytes, OldestAt: s.Oldest}
	}
	w.mu.Lock()
	for p, at := range w.appends {
		h.Partitions[p].LastAppendAt = at
	}
	w.mu.Unlock()
	return h, nil
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
