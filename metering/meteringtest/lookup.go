package meteringtest

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mete/metering"
)

// TestLookup checks every promise of [metering.Lookup].
func TestLookup[S interface {
	metering.Store
	metering.Lookup
}](t *testing.T, open func(t *testing.T) S) {
	ctx := context.Background()
	s := open(t)
	closeAfter(t, s)
	f := NewFeed()
	f.Partitions = partitions
	attach(t, s, partitions)
	var keys []metering.Key
	var events []metering.Event
	for i := range metering.MaxFindMany - 3 {
		e := Call(in(i%partitions, fmt.Sprint("e-", i)), "scheduler", day)
		events, keys = append(events, e), append(keys, e.Key())
	}
	for p := range partitions {
		var own []metering.Event
		for i, e := range events {
			if i%partitions == p {
				own = append(own, e)
			}
		}
		void := Void(in(p, fmt.Sprint("v-", p)), own[0].ID, day)
		again := Void(in(p, fmt.Sprint("w-", p)), own[0].ID, day)
		add(t, s, f.Block(p, append(own, void, again), own[1:3]), metering.Outcome{Stored: len(own) + 2, Duplicate: 2})
		keys = append(keys, void.Key())
	}
	none := metering.KeyOf("gateway", "never")
	keys = keys[2:] // of as many as may be asked for, one is not stored and one is there twice
	got, err := s.FindMany(ctx, append([]metering.Key{none, keys[0]}, keys...))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := got[none]; ok || len(got) != len(keys) {
		t.Errorf("%d of %d found, the one that is not stored among them: %t", len(got), len(keys), ok)
	}
	for i, k := range keys {
		if f := got[k]; f.Event == nil || f.Event.Key != k || f.Event.Event.Key() != k {
			t.Fatalf("%s: found %+v", k, f)
		}
		if i > 10 && i%40 != 0 && i < len(keys)-2*partitions {
			continue // one question for each takes an engine long
		}
		want := findKey(t, s, k)
		want.Duplicates, want.Conflicts, want.Redactions = nil, nil, nil
		if diff := cmp.Diff(want, got[k]); diff != "" {
			t.Fatalf("%s: %s", k, diff)
		}
	}
	if v := got[events[2].Key()].Voided; v == nil {
		t.Error("a voided event is not said to be voided")
	}
	if got, err := s.FindMany(ctx, nil); err != nil || len(got) > 0 {
		t.Errorf("no keys: %v, %v", got, err)
	}
	if _, err := s.FindMany(ctx, make([]metering.Key, metering.MaxFindMany+1)); err == nil {
		t.Error("more keys than the bound were asked for, without an error")
	}
}

// TestTallies checks every promise of [metering.Tallies].
func TestTallies[S interface {
	metering.Store
	metering.Tallies
}](t *testing.T, open func(t *testing.T) S) {
	ctx := context.Background()
	s := open(t)
	closeAfter(t, s)
	f := NewFeed()
	f.Partitions = partitions
	attach(t, s, partitions)
	want := func(name string, after, upTo metering.Cutoff, want metering.Tally) {
		t.Helper()
		got, err := s.Tally(ctx, after, upTo)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	want("nothing", nil, nil, metering.Tally{})
	empty := cutoff(t, s)
	a, b := Calls("a", 3, "scheduler", day), Calls("b", 2, "scheduler", day)
	for i := range a {
		a[i].ID = in(0, a[i].ID)
	}
	other := a[0]
	other.Data.Status = 500
	first := f.Block(0, a)
	add(t, s, first, metering.Outcome{Stored: 3})
	one := cutoff(t, s)
	last := f.Messages(1, Message{Events: b, Undecoded: []string{"truncated"}})
	add(t, s, last, metering.Outcome{Stored: 2, Undecoded: 1})
	second := f.Block(0, a[:2], []metering.Event{other})
	add(t, s, second, metering.Outcome{Duplicate: 2, Conflict: 1})
	two := cutoff(t, s)
	all := metering.Tally{Messages: 4, Announced: 9, Stored: 5, Duplicate: 2, Conflict: 1, Undecoded: 1, NewestAt: second.Messages[1].AcceptedAt}
	want("all", nil, nil, all)
	want("all up to the cutoff", nil, two, all)
	want("behind an empty store", empty, two, all)
	want("the first", nil, one, metering.Tally{Messages: 1, Announced: 3, Stored: 3, NewestAt: first.Messages[0].AcceptedAt})
	want("what came since", one, two, metering.Tally{Messages: 3, Announced: 6, Stored: 2, Duplicate: 2, Conflict: 1, Undecoded: 1, NewestAt: second.Messages[1].AcceptedAt})
	want("nothing since", two, two, metering.Tally{})
	mixed := metering.Cutoff{one[0], two[1], one[2]} // of no moment: partition 1 further than 0
	want("up to a mixed cutoff", nil, mixed, metering.Tally{Messages: 2, Announced: 6, Stored: 5, Undecoded: 1, NewestAt: last.Messages[0].AcceptedAt})
	want("behind a mixed cutoff", mixed, nil, metering.Tally{Messages: 2, Announced: 3, Duplicate: 2, Conflict: 1, NewestAt: second.Messages[1].AcceptedAt})
	if got, err := s.Tally(ctx, nil, nil); err != nil || got.Accounted() != got.Announced {
		t.Errorf("%d accounted, %d announced, %v", got.Accounted(), got.Announced, err)
	}
}
