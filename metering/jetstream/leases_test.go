package jetstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// floor is what a store knows of epochs.
type floor struct {
	mu      sync.Mutex
	highest map[int]uint64
	at      map[int]string // who works on a partition now
	grants  []Lease
}

func (f *floor) of(_ context.Context, partition int) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.highest[partition], nil
}

// busy is the work of one worker: it is there until its context ends.
func (f *floor) busy(owner string) func(context.Context, int, uint64) error {
	return func(ctx context.Context, partition int, epoch uint64) error {
		f.mu.Lock()
		if epoch <= f.highest[partition] {
			f.mu.Unlock()
			return fmt.Errorf("partition %d was given with epoch %d, %d is known", partition, epoch, f.highest[partition])
		}
		f.highest[partition] = epoch
		f.at[partition] = owner
		f.grants = append(f.grants, Lease{Partition: partition, Owner: owner, Epoch: epoch})
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.at[partition] == owner {
			delete(f.at, partition)
		}
		return nil
	}
}

// spread is how many partitions each owner has.
func (f *floor) spread() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := map[string]int{}
	for _, owner := range f.at {
		n[owner]++
	}
	return n
}

func (f *floor) waitFor(t *testing.T, want map[string]int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !maps.Equal(f.spread(), want) {
		if time.Now().After(deadline) {
			t.Fatalf("partitions are spread %v, want %v", f.spread(), want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

const testTTL = time.Second

// worker runs leases of one worker over a connection of its own.
type leased struct {
	conn *nats.Conn
	stop func() // as at an orderly end
	ran  chan error
}

func (f *floor) join(t *testing.T, b *broker, owner string) leased {
	t.Helper()
	conn, err := b.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	s, err := Ensure(within(t, 10*time.Second), conn, Settings{Partitions: 4, MaxBytes: 64 << 20, Facts: b.Facts})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	l := &Leases{Streams: s, Owner: owner, Floor: f.of, TTL: testTTL}
	w := leased{conn, stop, make(chan error, 1)}
	go func() { w.ran <- l.Run(ctx, f.busy(owner)) }()
	return w
}

// Partitions are spread evenly; who comes gets some, who goes leaves them at once, who
// dies leaves them after a TTL; and an epoch is never given twice.
func TestLeasesSpread(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 4})
	f := &floor{highest: map[int]uint64{2: 41}, at: map[int]string{}}
	one := f.join(t, b, "one")
	f.waitFor(t, map[string]int{"one": 4})
	two := f.join(t, b, "two")
	f.waitFor(t, map[string]int{"one": 2, "two": 2})
	three := f.join(t, b, "three")
	f.waitFor(t, map[string]int{"one": 2, "two": 1, "three": 1}) // in order of their names

	two.stop()
	left := time.Now()
	f.waitFor(t, map[string]int{"one": 2, "three": 2})
	if took := time.Since(left); took > testTTL+3*testTTL/4 {
		t.Errorf("what was given back was taken after %s", took)
	}
	if err := <-two.ran; err != nil {
		t.Error(err)
	}

	one.conn.Close() // as if its machine were gone
	died := time.Now()
	deadline := died.Add(10 * testTTL)
	for f.spread()["three"] != 4 {
		if time.Now().After(deadline) {
			t.Fatalf("partitions are spread %v", f.spread())
		}
		time.Sleep(5 * time.Millisecond)
	}
	if took := time.Since(died); took < testTTL/4 || took > 4*testTTL {
		t.Errorf("partitions of a dead worker moved after %s, want about %s", took, testTTL)
	}
	one.stop()
	three.stop()
	for _, w := range []leased{one, three} {
		if err := <-w.ran; err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			t.Error(err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	given := map[string]bool{}
	for _, g := range f.grants {
		k := fmt.Sprintf("%d/%d", g.Partition, g.Epoch)
		if given[k] {
			t.Errorf("epoch %d of partition %d was given twice", g.Epoch, g.Partition)
		}
		given[k] = true
	}
	if !slices.ContainsFunc(f.grants, func(g Lease) bool { return g.Partition == 2 && g.Epoch == 42 }) {
		t.Errorf("the store knew epoch 41 of partition 2; grants: %v", f.grants)
	}
}

// A store that is away for a moment when a partition changes hands is asked again.
func TestHandOverOutlastsStore(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
	if _, err := (&Intake{Streams: b.streams}).Accept(within(t, 10*time.Second), events("a", 100)); err != nil {
		t.Fatal(err)
	}
	m := newMemory()
	w := &Worker{Streams: b.streams, Store: m}
	w.Leases = &Leases{Streams: b.streams, Owner: "one", TTL: testTTL, Changed: func(_ Lease, held bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if held {
			m.away = 3
		}
	}}
	ctx, stop := context.WithCancel(within(t, 30*time.Second))
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()
	for announced := 0; announced < 100; time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-ran:
			t.Fatalf("the worker ended: %v", err)
		default:
		}
		m.mu.Lock()
		announced = m.announced
		m.mu.Unlock()
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// The lease's own record lost, epochs go on above what the store knows.
func TestLeasesForgotten(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 4})
	f := &floor{highest: map[int]uint64{}, at: map[int]string{}}
	one := f.join(t, b, "one")
	f.waitFor(t, map[string]int{"one": 4})
	one.stop()
	if err := <-one.ran; err != nil {
		t.Fatal(err)
	}
	if err := b.streams.js.DeleteKeyValue(within(t, 5*time.Second), leaseBucket); err != nil {
		t.Fatal(err)
	}
	two := f.join(t, b, "two")
	f.waitFor(t, map[string]int{"two": 4})
	two.stop()
	if err := <-two.ran; err != nil {
		t.Error(err)
	}
}

// Messages that wait while the stored position stands still are an error after a
// minute, seen by a process that fills nothing itself; a backlog that shrinks is none.
func TestSilence(t *testing.T) {
	w := &Worker{}
	at := testTime
	lag := func(stored, last uint64, waiting time.Duration) []Lag {
		l := Lag{Stored: stored, Last: last, Behind: last - stored}
		if l.Behind > 0 {
			l.WaitingSince = at.Add(-waiting)
		}
		return []Lag{l}
	}
	for _, step := range []struct {
		after time.Duration
		lag   []Lag
		red   bool
	}{
		{0, lag(7, 7, 0), false},
		{10 * time.Second, lag(7, 9, 9*time.Second), false},
		{59 * time.Second, lag(7, 9, 60*time.Second), false},
		{5 * time.Second, lag(7, 9, 65*time.Second), true},
		{time.Second, lag(8, 9, 65*time.Second), false}, // it moves, with a backlog
		{50 * time.Second, lag(8, 90, 2*time.Minute), false},
		{20 * time.Second, lag(8, 99, 2*time.Minute), true},
		{time.Second, lag(99, 99, 0), false},
	} {
		at = at.Add(step.after)
		for i := range step.lag {
			if !step.lag[i].WaitingSince.IsZero() {
				step.lag[i].WaitingSince = at.Add(step.lag[i].WaitingSince.Sub(testTime))
			}
		}
		if err := w.silent(step.lag, at); (err != nil) != step.red {
			t.Errorf("%s: %+v: %v, want red %t", at.Format(time.TimeOnly), step.lag, err, step.red)
		}
	}
}
