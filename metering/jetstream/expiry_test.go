package jetstream

import (
	"testing"
	"time"

	"mete/metering"
)

// Messages expire by the broker's own clock: those up to the checkpoint after the wanted
// time, those after it not at all, and without a checkpoint none.
func TestExpiryUpToTheCheckpoint(t *testing.T) {
	const keep = 3 * time.Second
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 2, Keep: keep})
	ctx := within(t, 60*time.Second)
	accept := func(prefix string) metering.Cutoff {
		t.Helper()
		if _, err := (&Intake{Streams: b.streams}).Accept(ctx, events(prefix, 300)); err != nil {
			t.Fatal(err)
		}
		last, err := b.streams.Last(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		return last
	}
	expired := func() metering.Cutoff {
		t.Helper()
		last, err := b.streams.Last(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		gone, err := b.streams.Expired(ctx, last)
		if err != nil {
			t.Fatal(err)
		}
		return gone
	}
	// hold tells the stream for so long, as a service would.
	hold := func(checkpoint metering.Cutoff, d time.Duration) {
		t.Helper()
		for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
			if err := b.streams.Hold(ctx, checkpoint, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := accept("a")
	hold(nil, 2*keep)
	if gone := expired(); gone.Of(0)+gone.Of(1) > 0 {
		t.Fatalf("%s expired without a checkpoint", gone)
	}
	messages, announced, err := b.streams.Totals(ctx, first)
	if err != nil || announced != 300 {
		t.Fatalf("%d events, %v", announced, err)
	}
	second := accept("b")
	for p := range 2 {
		if second.Of(p) <= first.Of(p) {
			t.Fatalf("partition %d got nothing the second time", p)
		}
	}
	hold(first, 2*keep)
	if gone := expired(); gone.String() != first.String() {
		t.Fatalf("expired up to %s, want up to the checkpoint at %s", gone, first)
	}
	m, a, err := b.streams.TotalsAfter(ctx, first, second)
	if err != nil || a != 300 || m == 0 {
		t.Errorf("after the checkpoint: %d messages, %d events, %v", m, a, err)
	}
	if again, left, err := b.streams.Totals(ctx, second); err != nil || again != m || left != a {
		t.Errorf("of %d messages %d are left with %d events, %v; want %d with %d", messages+m, again, left, err, m, a)
	}
	if err := b.streams.Verify(ctx); err != nil {
		t.Error(err)
	}
	hold(second, 2*keep)
	if gone := expired(); gone.String() != second.String() {
		t.Errorf("expired up to %s, want all of %s", gone, second)
	}
	third := accept("c") // positions go on
	if third.Of(0) <= second.Of(0) {
		t.Errorf("after all expired the stream goes on at %s, was at %s", third, second)
	}
}
