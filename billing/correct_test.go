package billing_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mete/billing"
	"mete/period"
)

// rightTerms are northwind's with the rates and prices that were meant, from a day of
// January on.
func rightTerms(t *testing.T) string {
	t.Helper()
	doc := changed(t, "contract: northwind-scheduling", "from: 2026-01-01", "from: 2026-01-15", "{to: 3000, rate: 15%}, {rate: 7.5%}", "{to: 3000, rate: 12.5%}, {rate: 5%}", "unit: 0.013", "unit: 0.017")
	return strings.Replace(doc, "\n", "\ncorrects: 1\n", 1)
}

// agreeAt brings documents into force on a day.
func (w *world) agreeAt(t tester, text string, at time.Time) {
	t.Helper()
	if err := agree(context.Background(), w.catalogue, text, at); err != nil {
		t.Fatal(err)
	}
}

// TestCorrectedOrNot: whenever wrong terms are corrected, before a month is closed or
// after several were, and whatever comes late meanwhile, statements add up, key by key
// and cent by cent, to what they come to had the correction been there from the start.
func TestCorrectedOrNot(t *testing.T) {
	right := rightTerms(t)
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		events := drawEvents(t)
		corrected, always := newWorld(t), newWorld(t)
		defer corrected.remove()
		defer always.remove()
		always.agreeAt(t, right, time.Date(2025, 12, 20, 12, 0, 0, 0, time.UTC))
		for _, d := range events {
			always.deliver(t, 0, d.Event)
		}
		when := jan.Add(rapid.IntRange(1, months+lateMonths-1).Draw(t, "corrected before the close of"))
		for m := jan; m.Before(jan.Add(months + lateMonths)); m = m.Add(1) {
			deliverMonth(t, corrected, events, m)
			if m == when {
				corrected.agreeAt(t, right, m.First().In(time.UTC).Add(36*time.Hour))
			}
			report := corrected.closeMonth(t, m)
			if got := len(report.Corrections); got != 0 != (m == when) {
				t.Fatalf("the close of %s prices %d corrections forward; they were agreed on for that of %s", m, got, when)
			}
			always.closeMonth(t, m)
		}
		corrected.checkAll(t)
		corrected.explainAll(t)
		checkStatements(t, corrected, seen)
		if d := differ(corrected.lines(t), always.lines(t)); d != nil {
			t.Fatalf("a correction is not what the terms would have come to:\n%s", strings.Join(d, "\n"))
		}
		if d := differ(corrected.balances(t), always.balances(t)); d != nil {
			t.Fatalf("a correction changes the books:\n%s", strings.Join(d, "\n"))
		}
		for _, l := range corrected.corrections(t) {
			if strings.HasPrefix(l.Cause, "corrected terms: ") {
				seen["differences of corrected terms"]++
			}
		}
	})
	for _, k := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%-32s %d", k, seen[k])
	}
	if seen["differences of corrected terms"] == 0 && !raceEnabled {
		t.Error("no draw had a difference of corrected terms: the test is weaker than it says")
	}
}

// corrections are the lines of section D of all statements.
func (w *world) corrections(t tester) []billing.Line {
	t.Helper()
	rs, err := w.db.Statements(context.Background(), period.Month{}, "")
	if err != nil {
		t.Fatal(err)
	}
	var out []billing.Line
	for _, r := range rs {
		for _, l := range r.Lines {
			if l.Section == billing.Corrections {
				out = append(out, l)
			}
		}
	}
	return out
}

// TestCorrectionIsPricedForward: what wrong terms cost in closed months stands once, as
// differences with their cause, on the statement of the first close that knows the
// correction; statements that were made before stay as they are.
func TestCorrectionIsPricedForward(t *testing.T) {
	w := testWorld(t)
	w.deliver(t, 0, sale("a", "scheduler", "lakeside", noon(jan, 10), "1400.00"), sale("b", "scheduler", "lakeside", noon(jan, 20), "600.00"), sale("c", "scheduler", "lakeside", noon(feb, 5), "200.00"))
	w.closeMonth(t, jan)
	w.closeMonth(t, feb)
	before := w.digests(t)
	w.agreeAt(t, rightTerms(t), time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC))
	w.deliver(t, 0, sale("late", "scheduler", "harbor", noon(feb, 6), "100.00"))
	report := w.closeMonth(t, mar)
	if len(report.Corrections) != 1 || report.Corrections[0].String() != "version 2 of northwind-scheduling takes the place of version 1 from 2026-01-15 on" || report.LateEvents != 1 {
		t.Errorf("the close says %v, %d late events", report.Corrections, report.LateEvents)
	}
	var got []string
	for _, l := range w.corrections(t) {
		got = append(got, fmt.Sprintf("%s %s v%d %s: %s", l.Corrects, l.Part, l.Version, l.Amount, l.Cause))
	}
	because := "corrected terms: version 2 of northwind-scheduling takes the place of version 1 from 2026-01-15 on"
	want := []string{
		"2026-01 share v2 15.00 USD: " + because,                                                       // 600.00 at 12.5% in place of 15%
		"2026-02 sales v2 100.00 USD: " + because + "; 1 event of February reached us after its close", // late
		"2026-02 share v2 -7.50 USD: " + because,                                                       // 300.00 at 12.5% in place of 200.00 at 15%
	}
	if !slices.Equal(got, want) {
		t.Errorf("the differences:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	w.closeMonth(t, apr)
	if n := len(w.corrections(t)); n != len(want) {
		t.Errorf("%d differences after April, want %d: they stand once", n, len(want))
	}
	after := w.digests(t)
	for id, d := range before {
		if after[id] != d {
			t.Errorf("statement %s was %s, is %s", id, d, after[id])
		}
	}
	w.checkAll(t) // all months verify, and everything reconciles
	sim := w.simulate(t, jan, apr, strings.Replace(rightTerms(t), "corrects: 1\n", "", 1))
	for _, a := range sim.Accounts {
		if a.Partner == "northwind" && (a.Stated != a.Old.Earned || !a.Difference.IsZero()) {
			t.Errorf("simulated: old %s, stated %s, difference %s; want the corrected terms to be the old ones", a.Old.Earned, a.Stated, a.Difference)
		}
	}
}

// TestCorrectedBeforeThisEngine: a month that the engine before closed without pricing a
// correction forward is derived as it was; the next close makes up for it.
func TestCorrectedBeforeThisEngine(t *testing.T) {
	w := testWorld(t)
	w.deliver(t, 0, sale("b", "scheduler", "lakeside", noon(jan, 20), "1600.00"))
	w.closeMonth(t, jan)
	w.agreeAt(t, rightTerms(t), time.Date(2026, 2, 20, 12, 0, 0, 0, time.UTC))
	w.beginAs(t, feb, "mete-2")
	if r := w.closeMonth(t, feb); len(r.Corrections) != 0 {
		t.Errorf("mete-2 priced %v forward", r.Corrections)
	}
	w.checkAll(t)
	if r := w.closeMonth(t, mar); len(r.Corrections) != 1 {
		t.Errorf("the close of March prices %v forward", r.Corrections)
	}
	if got := w.corrections(t); len(got) != 1 || got[0].Amount != usd("15.00") {
		t.Errorf("%d differences, want one of 15.00: %+v", len(got), got)
	}
	w.checkAll(t)
}
