package jetstream

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"mete/metering"
	"mete/metering/sqlite"
)

// The stream gives back what a worker stored from it, block by block, within bounds, and
// says what it does not have.
func TestHistory(t *testing.T) {
	ctx := context.Background()
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 2})
	in := &Intake{Streams: b.streams}
	for _, prefix := range []string{"a", "b", "a"} {
		if _, err := in.Accept(within(t, 10*time.Second), events(prefix, 900)); err != nil {
			t.Fatal(err)
		}
	}
	store, err := sqlite.Open(filepath.Join(t.TempDir(), "events.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	made, err := sqlite.Open(filepath.Join(t.TempDir(), "new.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	drain(t, &Worker{Streams: b.streams, Store: store})
	h := History{Streams: b.streams, Incarnation: 1}
	if err := h.Whole(ctx); err != nil {
		t.Errorf("a whole stream: %v", err)
	}
	last, err := b.streams.Last(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := &metering.Refill{Old: store, Stream: h, To: made, Name: b.streams.Name(), Partitions: 2, UpTo: last}
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	c, err := r.Verify(ctx)
	if err != nil || c.Told > 0 || len(c.Notes) > 0 {
		t.Errorf("filled from the stream: %q, %q, %v", c.Findings, c.Notes, err)
	}
	if n, err := made.Counts(ctx, nil); err != nil || n.Stored != 1800 || n.Duplicate != 900 {
		t.Errorf("it has %+v, %v", n, err)
	}
	for p, end := range last {
		if end.Sequence < 3 {
			t.Fatalf("partition %d has %d messages", p, end.Sequence)
		}
		one, err := h.BlockAfter(ctx, p, 1, end.Sequence, 1)
		if err != nil || one.First != 2 || one.Last != 2 || one.Validate() != nil {
			t.Errorf("one message: %d to %d, %v, %v", one.First, one.Last, err, one.Validate())
		}
		two, err := h.BlockAfter(ctx, p, 0, 2, 100_000)
		if err != nil || two.First != 1 || two.Last != 2 || two.Validate() != nil {
			t.Errorf("two messages: %d to %d, %v, %v", two.First, two.Last, err, two.Validate())
		}
		if _, err := h.BlockAfter(ctx, p, end.Sequence, end.Sequence+1, 1); !errors.Is(err, metering.ErrGap) {
			t.Errorf("behind the last message: %v, want ErrGap", err)
		}
	}
}
