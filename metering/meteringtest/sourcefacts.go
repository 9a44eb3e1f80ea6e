package meteringtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// TestSourceFacts checks every promise of [metering.SourceFacts] and
// [metering.SumsBySource].
func TestSourceFacts[S interface {
	metering.Store
	metering.SourceFacts
	metering.SumsBySource
}](t *testing.T, open func(t *testing.T) S) {
	for _, c := range []struct {
		name string
		test func(*testing.T, S)
	}{
		{"TotalsStayBesideEachOther", func(t *testing.T, s S) { testTotals(t, s) }},
		{"TotalsAreBounded", func(t *testing.T, s S) { testTotalsBounded(t, s) }},
		{"HeartbeatsLieInSlots", func(t *testing.T, s S) { testHeartbeats(t, s) }},
		{"SumsBySource", func(t *testing.T, s S) { testSumsBySource(t, s, s) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			closeAfter(t, s)
			attach(t, s, partitions)
			c.test(t, s)
		})
	}
}

// said are totals of a source's day.
func said(t *testing.T, source string, day int, events ...int64) metering.DayTotals {
	t.Helper()
	d := metering.DayTotals{Source: source, Day: period.Date{Year: 2026, Month: 9, Day: day}, Zone: "America/Chicago", SentBy: "owner"}
	for i, n := range events {
		d.Totals = append(d.Totals, metering.DayTotal{App: partner.AppID(fmt.Sprint("app-", i)), Type: metering.SalePaid, Events: n, Amount: Decimal("12.50"), Currency: "USD"})
	}
	if err := d.Seal(day0(day + 2)); err != nil {
		t.Fatal(err)
	}
	return d
}

// day0 is the beginning of a day of September in UTC.
func day0(d int) time.Time { return time.Date(2026, 9, d, 0, 0, 0, 0, time.UTC) }

func testTotals(t *testing.T, s metering.SourceFacts) {
	ctx := context.Background()
	keep := func(d metering.DayTotals, want metering.Kept) {
		t.Helper()
		got, err := s.KeepTotals(ctx, d)
		if err != nil || got != want {
			t.Fatalf("keep totals of %s, %s: %s, %v, want %s", d.Source, d.Day, got, err, want)
		}
	}
	first, other, next, idle := said(t, "gateway", 14, 7, 8), said(t, "gateway", 14, 9), said(t, "gateway", 15, 1), said(t, "another", 14)
	keep(next, metering.KeptNew)
	keep(first, metering.KeptNew)
	again := first
	again.ReceivedAt = again.ReceivedAt.Add(time.Hour)
	keep(again, metering.KeptSame)
	keep(other, metering.KeptConflict)
	keep(other, metering.KeptSame)
	keep(first, metering.KeptSame)
	keep(idle, metering.KeptNew)
	for since, want := range map[period.Date][]metering.DayTotals{
		{}: {idle, first, other, next}, first.Day: {idle, first, other, next}, next.Day: {next}, next.Day.AddDays(1): nil,
	} {
		got := collect(t, "totals", s.Totals(ctx, since))
		for i := range got {
			if len(got[i].Totals) == 0 {
				got[i].Totals = nil
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("totals since %s: %s", since, diff)
		}
	}
	for range s.Totals(ctx, period.Date{}) {
		break // whoever has enough leaves
	}
	if _, err := s.KeepTotals(ctx, metering.DayTotals{Source: "gateway", Day: first.Day, Zone: "UTC"}); err == nil {
		t.Error("totals without a digest were kept")
	}
}

func testTotalsBounded(t *testing.T, s metering.SourceFacts) {
	ctx := context.Background()
	for n := range int64(metering.MaxTotalConflicts) {
		if _, err := s.KeepTotals(ctx, said(t, "gateway", 14, n)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.KeepTotals(ctx, said(t, "gateway", 14, 99)); !errors.Is(err, metering.ErrTooManyTotals) {
		t.Errorf("one more: %v, want ErrTooManyTotals", err)
	}
	if got, err := s.KeepTotals(ctx, said(t, "gateway", 14, 3)); err != nil || got != metering.KeptSame {
		t.Errorf("one that is kept: %s, %v", got, err)
	}
	if got, err := s.KeepTotals(ctx, said(t, "gateway", 15, 99)); err != nil || got != metering.KeptNew {
		t.Errorf("another day: %s, %v", got, err)
	}
}

func testHeartbeats(t *testing.T, s metering.SourceFacts) {
	ctx := context.Background()
	at := time.Date(2026, 9, 30, 18, 31, 7, 250_000_000, time.UTC)
	for _, h := range []time.Time{at, at, at.Add(time.Minute), at.Add(metering.HeartbeatSlot)} {
		if err := s.KeepHeartbeat(ctx, metering.Heartbeat{Source: "gateway", At: h, SentBy: "owner", ReceivedAt: day0(30)}); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		source      string
		from, until time.Time
		want        bool
	}{
		"its instant":           {"gateway", at, at.Add(time.Microsecond), true},
		"up to its instant":     {"gateway", at.AddDate(0, 0, -2), at, false},
		"after both":            {"gateway", at.Add(metering.HeartbeatSlot + time.Microsecond), at.AddDate(0, 0, 1), false},
		"another of its slot":   {"gateway", at.Add(time.Second), at.Add(2 * time.Minute), false},
		"days before month end": {"gateway", at.AddDate(0, 0, -2), at.Add(time.Hour), true},
		"another source":        {"billing", at.AddDate(0, 0, -2), at.Add(time.Hour), false},
	} {
		if got, err := s.Alive(ctx, c.source, c.from, c.until); err != nil || got != c.want {
			t.Errorf("%s: %t, %v, want %t", name, got, err, c.want)
		}
	}
}

func testSumsBySource(t *testing.T, s metering.Store, by metering.SumsBySource) {
	f := NewFeed()
	f.Partitions = partitions
	sale := func(id, amount string, currency money.Currency, change func(*metering.Event)) metering.Event {
		return Call(id, "scheduler", day, func(e *metering.Event) {
			e.Source, e.Type, e.Data.Amount, e.Data.Currency = "billing", metering.SalePaid, Decimal(amount), currency
			change(e)
		})
	}
	plain := func(*metering.Event) {}
	events := []metering.Event{
		sale("a", "10.00", "USD", plain), sale("b", "2.50", "USD", func(e *metering.Event) { e.Data.Environment, e.Customer = metering.Sandbox, "another" }),
		sale("c", "7", "JPY", plain), Call("d", "scheduler", day), Call("e", "scheduler", day.Add(time.Second)), Call("f", "reminders", day),
		sale("g", "1.00", "USD", func(e *metering.Event) { e.Time = day.Add(time.Hour) }), Call("h", "scheduler", day.Add(-time.Microsecond)),
		sale("i", "0", "USD", func(e *metering.Event) { e.Data.Amount = nil }),
	}
	events = append(events, Void("v", In("gateway", "d", 0, partitions), day))
	for i := range events {
		events[i].ID = In(events[i].Source, events[i].ID, 0, partitions)
	}
	add(t, s, f.Block(0, events, events[:2]), metering.Outcome{Stored: len(events), Duplicate: 2})
	got, err := by.SumsBySource(context.Background(), day, day.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for _, x := range got {
		amount := "none"
		if x.Amount != nil {
			amount = x.Amount.String()
		}
		lines[fmt.Sprint(x.Source, " ", x.App, " ", x.Type, " ", x.Currency)] = fmt.Sprint(x.Events, " ", amount)
	}
	if diff := cmp.Diff(map[string]string{
		"billing scheduler sale.paid USD": "2 12.5", "billing scheduler sale.paid JPY": "1 7", "billing scheduler sale.paid ": "1 none",
		"gateway scheduler usage.api ": "2 none", "gateway reminders usage.api ": "1 none", "gateway  usage.voided ": "1 none",
	}, lines); diff != "" || len(got) != len(lines) {
		t.Errorf("sums of %d: %s", len(got), diff)
	}
}
