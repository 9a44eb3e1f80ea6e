package billing

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mete/metering"
	"mete/metering/meteringtest"
	"mete/metering/sqlite"
	"mete/partner"
)

// asked is what the questions of a close see of a store in a span.
func asked(t *testing.T, s metering.Store, sp metering.Span) (cells, facts []string) {
	t.Helper()
	ctx := context.Background()
	for u, err := range s.Usage(ctx, sp) {
		if err != nil {
			t.Fatal(err)
		}
		cells = append(cells, fmt.Sprintf("%+v %s %s", u, u.Quantity, u.Amount))
	}
	slices.Sort(cells)
	for tx, err := range s.Transactions(ctx, sp, []string{metering.SalePaid, metering.UsageAPI}) {
		if err != nil {
			t.Fatal(err)
		}
		facts = append(facts, fmt.Sprintf("%s %s", tx.Key, metering.AppendCanonical(nil, tx.Event)))
	}
	for e, err := range s.Events(ctx, sp, metering.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		facts = append(facts, fmt.Sprintf("%s %s %v", e.Key, metering.AppendCanonical(nil, e.Event), e.Position))
	}
	return cells, facts
}

// TestOverwritten: what a close would see without the values is what it sees once they
// are overwritten, in every span.
func TestOverwritten(t *testing.T) {
	ctx := context.Background()
	day := time.Date(2026, 9, 10, 12, 0, 0, 0, time.UTC)
	store, err := sqlite.Open(filepath.Join(t.TempDir(), "events.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if _, err := store.Attach(ctx, "usage", 3); err != nil {
		t.Fatal(err)
	}
	f := meteringtest.NewFeed()
	call := func(id string, change func(*metering.Event)) metering.Event {
		return meteringtest.Call(id, "scheduler", day, func(e *metering.Event) {
			e.Data.Quantity, e.Data.Bytes, e.Data.LatencyMS = meteringtest.Decimal("2.5"), 7, meteringtest.Decimal("1500")
			e.Data.Dimensions = map[string]string{"room": "<a&b>"}
			change(e)
		})
	}
	plain := func(*metering.Event) {}
	alone := call("alone", func(e *metering.Event) { e.Customer = "alone" })
	sale := call("sale", func(e *metering.Event) {
		e.Type, e.Data.Amount, e.Data.Currency, e.Data.Reference = metering.SalePaid, meteringtest.Decimal("12.34"), "USD", "ref"
	})
	voided := call("voided", plain)
	events := [][]metering.Event{{call("a", plain), call("b", plain), alone}, {sale, voided}, {call("late", plain)}}
	var cutoffs []metering.Cutoff
	for i, es := range events {
		if _, err := store.Append(ctx, f.Block(i, es)); err != nil {
			t.Fatal(err)
		}
		c, err := store.Cutoff(ctx)
		if err != nil {
			t.Fatal(err)
		}
		cutoffs = append(cutoffs, c)
	}
	if _, err := store.Append(ctx, f.Block(1, []metering.Event{meteringtest.Void("v", "voided", day)})); err != nil {
		t.Fatal(err)
	}
	spans := map[string]metering.Span{
		"all": {}, "before": {End: day}, "its instant": {Start: day, End: day.Add(time.Microsecond)}, "after": {Start: day.Add(time.Microsecond)},
		"first cutoff": {UpTo: cutoffs[0]}, "second cutoff": {UpTo: cutoffs[1]}, "between": {After: cutoffs[0], UpTo: cutoffs[1]}, "late": {After: cutoffs[1]},
		"app": {Apps: []partner.AppID{"scheduler"}}, "other app": {Apps: []partner.AppID{"other"}}, "none": {Apps: []partner.AppID{}},
	}
	var rs []metering.Redaction
	for _, x := range []struct {
		e     metering.Event
		field string
	}{{events[0][0], "subject"}, {alone, "subject"}, {alone, "data.operation"}, {sale, "data.reference"}, {sale, "subject"}, {sale, "id"},
		{voided, "data.operation"}, {events[2][0], "data.dimensions.room"}, {events[2][0], "data.unit"}} {
		r, err := metering.ProposeRedaction(x.e.Key(), x.field, "looks like a person", "k.lee", day)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.ProposeRedaction(ctx, r); err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	o, _, err := (&Closer{Events: store}).overwrite(ctx, rs)
	if err != nil {
		t.Fatal(err)
	}
	type answer struct{ cells, facts []string }
	want := map[string]answer{}
	for name, sp := range spans {
		for range 2 { // asked again, the same
			cells, facts := asked(t, o, sp)
			want[name] = answer{cells, facts}
		}
	}
	if _, facts := asked(t, store, metering.Span{}); strings.Contains(strings.Join(facts, "\n"), "redacted:") {
		t.Fatal("the view changed the store")
	}
	for _, r := range rs {
		if _, err := store.ApproveRedactions(ctx, []string{r.ID}, "r.shah", day); err != nil {
			t.Fatal(err)
		}
	}
	for name, sp := range spans {
		cells, facts := asked(t, store, sp)
		if diff := cmp.Diff(cells, want[name].cells); diff != "" {
			t.Errorf("cells, %s: (-overwritten +seen before) %s", name, diff)
		}
		if diff := cmp.Diff(facts, want[name].facts); diff != "" {
			t.Errorf("facts, %s: (-overwritten +seen before) %s", name, diff)
		}
	}
}
