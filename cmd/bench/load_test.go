package main

import (
	"context"
	"testing"

	"mete/internal/chtest"
	"mete/metering"
	"mete/metering/clickhouse"
)

// What is posted is the event that a benchmark thinks it is, and no gate refuses it.
func TestBody(t *testing.T) {
	decoded, err := metering.DecodeJSON(calls.body(3, 100), metering.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := loadDirectory(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range decoded {
		want := calls.event(3 + i)
		if d.Refusal != nil || metering.ContentHash(d.Event) != metering.ContentHash(want) {
			t.Fatalf("event %d: %+v, want %+v", 3+i, d, want)
		}
		if r := metering.Validate(d.Event, dir, want.Time); r != nil {
			t.Fatalf("event %d: %+v", 3+i, r)
		}
	}
}

// The tables of a benchmark, filled in bulk, are such as the store fills: its own check
// finds nothing wrong, it counts what was sent once, and it knows what it was sent.
func TestFilledInBulk(t *testing.T) {
	ctx := t.Context()
	e, err := engineOf(chtest.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	store, err := clickhouse.Open(ctx, clickhouse.Options{DSN: e.DSN(e.database)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Attach(ctx, "bench", dedupPartitions); err != nil {
		t.Fatal(err)
	}
	d := dedup{engine: e, sent: 27_000}
	if err := d.fill(ctx); err != nil {
		t.Fatal(err)
	}
	if found, err := store.Check(ctx); err != nil || len(found) > 0 {
		t.Fatalf("%v: %q", err, found)
	}
	n, err := store.Counts(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(d.sent / 10); n.Announced != 10*want || n.Stored != 9*want || n.Keys != 9*want || n.Duplicate != want || n.Conflict != 0 {
		t.Errorf("%+v, want %d sent, one in ten of them again", n, d.sent)
	}
	want := d.load().event(1234)
	found, err := store.Find(ctx, want.Key())
	if err != nil || found.Event == nil {
		t.Fatalf("event 1234: %+v, %v", found, err)
	}
	if got := found.Event.Event; metering.ContentHash(got) != metering.ContentHash(want) {
		t.Errorf("event 1234 is %+v, want %+v", got, want)
	}
}

// Blocks are such as a worker makes: no store refuses them.
func TestBlocks(t *testing.T) {
	positions := []uint64{3, 0, 7, 1}
	events := 0
	for _, b := range blocks(calls.events(0, 1000), positions, 10, 40) {
		if err := b.Validate(); err != nil {
			t.Fatal(err)
		}
		for _, m := range b.Messages {
			events += m.Announced
		}
	}
	if events != 1000 {
		t.Errorf("%d events in blocks, want 1000", events)
	}
}
