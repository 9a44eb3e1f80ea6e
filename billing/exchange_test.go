package billing_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"mete/billing"
	"mete/metering"
	"mete/metering/meteringtest"
	"mete/period"
	"mete/pricing"
)

// inEuros is an event in euros.
func inEuros(e metering.Event) metering.Event {
	e.Data.Currency = "EUR"
	return e
}

// trace is what is said of a stored event.
func (w *world) trace(t *testing.T, e metering.Event) string {
	t.Helper()
	found, err := w.events.Find(t.Context(), metering.KeyOf(e.Source, e.ID))
	if err != nil || found.Event == nil {
		t.Fatalf("event %s: %+v, %v", e.ID, found, err)
	}
	says, err := w.closer.TraceEvent(t.Context(), *found.Event)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(says, "\n")
}

// TestConvertedSale: what customers paid in euros is booked in euros where it was paid,
// and its worth in dollars where it is owed; each currency balances, and the page and the
// explanation say at which rate.
func TestConvertedSale(t *testing.T) {
	w := testWorld(t)
	a := inEuros(taxed(sale("a", "insights", "lakeside", noon(jan, 12), "100.00"))) // 1.1659 of 9 January, less 1.5%
	b := sale("b", "insights", "lakeside", noon(jan, 13), "50.00")
	w.deliver(t, 0, a, b)
	w.closeMonth(t, jan)
	back := inEuros(refund("r", a, noon(feb, 20), "40.00")) // the rate of the sale, not that of 13 February
	w.deliver(t, 0, back)
	w.closeMonth(t, feb)
	got := w.balances(t)
	maps.DeleteFunc(got, func(k string, _ int64) bool {
		return strings.HasPrefix(k, "income") || strings.HasPrefix(k, "owed to quill")
	})
	want := map[string]int64{
		"assets:clearing:stripe EUR":      11000 - 4000,
		"assets:clearing:stripe USD":      5000,
		"assets:clearing:fx EUR":          -10000 + 4000,
		"assets:clearing:fx USD":          11659 - 4664, // 116.59 and 46.636
		"liabilities:sales-tax:us-tx EUR": -1000,
		"expenses:fx USD":                 -(11659 - 11484) + (4664 - 4594), // 114.84 and 45.94 are the partner's sales
		"owed to cedarpoint USD":          -(11484 + 5000 - 4594) + 3297 - 919,
	}
	if d := differ(got, want); d != nil {
		t.Errorf("the books:\n%s", strings.Join(d, "\n"))
	}
	s, err := w.db.Statement(t.Context(), "meridian-us.cedarpoint.usd.2026-01")
	if err != nil {
		t.Fatal(err)
	}
	var page, explained strings.Builder
	if err := s.WriteText(&page); err != nil {
		t.Fatal(err)
	}
	if want := "of it 100.00 EUR came to 114.84 at 1.1659 of 2026-01-09, European Central Bank, less 1.5%"; !strings.Contains(strings.Join(strings.Fields(page.String()), " "), want) {
		t.Errorf("the page does not say %q:\n%s", want, page.String())
	}
	x, err := w.closer.Explain(t.Context(), s.ID, 1, 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.WriteText(&explained); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Sales in EUR, rate of 2026-01-09", "1.1484115", "converted amounts, rounded one by one",
		"EUR to USD at 1.1659 of 2026-01-09, European Central Bank, less 1.5%", "sale.paid 100.00 EUR"} {
		if !strings.Contains(explained.String(), want) {
			t.Errorf("explain does not say %q:\n%s", want, explained.String())
		}
	}
	if says := w.trace(t, back); !strings.Contains(says, "meridian-us.cedarpoint.usd.2026-02, line 1") {
		t.Errorf("the refund: %s", says)
	}
	w.checkAll(t)
}

// TestRateCorrectedLater: a closed month keeps the table that its manifest names. What
// comes late for it, and what is given back of its sales, is at the rates that were
// known then; the next month is at the corrected ones.
func TestRateCorrectedLater(t *testing.T) {
	w := testWorld(t)
	a := inEuros(sale("a", "notes", "mesa", noon(jan, 12), "100.00")) // at the month's end: 1.1911
	w.deliver(t, 0, a)
	w.closeMonth(t, jan)
	before := w.digests(t)
	corrected := `fx: ecb
source: European Central Bank
rates:
- {date: 2026-01-30, from: EUR, to: USD, rate: 2.0000}
- {date: 2026-02-27, from: EUR, to: USD, rate: 3.0000}
`
	if err := agree(t.Context(), w.catalogue, corrected, time.Date(2026, 2, 10, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	w.deliver(t, 0, inEuros(sale("late", "notes", "mesa", noon(jan, 13), "10.00")), inEuros(sale("b", "notes", "mesa", noon(feb, 13), "10.00")))
	w.closeMonth(t, feb)
	lines := w.lines(t)
	for k, want := range map[string]int64{
		`quill quill-notes/subscriptions sales "" 2026-01 USD`: 11911 + 1191,
		`quill quill-notes/subscriptions sales "" 2026-02 USD`: 3000,
	} {
		if lines[k] != want {
			t.Errorf("%s: %d, want %d", k, lines[k], want)
		}
	}
	after := w.digests(t)
	for id, d := range before {
		if after[id] != d {
			t.Errorf("statement %s was %s, is %s", id, d, after[id])
		}
	}
	w.checkAll(t) // both months verify
}

// TestNoExchangeRate: a sale without a rate is kept and counted, the close and the event
// say which rate is missing, and nothing is given back of it.
func TestNoExchangeRate(t *testing.T) {
	w := testWorld(t)
	for m := jan; m != mar; m = m.Add(1) {
		w.closeMonth(t, m)
	}
	a := inEuros(sale("a", "insights", "lakeside", noon(mar, 10), "100.00")) // the last rate is of 27 February
	b := inEuros(sale("b", "insights", "lakeside", noon(mar, 6), "10.00"))   // seven days old
	back := inEuros(refund("r", a, noon(mar, 16), "100.00"))
	w.deliver(t, 0, a, b, back)
	if says := w.trace(t, a); !strings.Contains(says, "add it to that fx document before the month is closed") {
		t.Errorf("while March is open: %s", says)
	}
	report := w.closeMonth(t, mar)
	day := period.Date{Year: 2026, Month: 3, Day: 10}
	want := []billing.NoRate{
		{Month: mar, MissingRate: pricing.MissingRate{Contract: "cedarpoint-insights", Table: "ecb", From: "EUR", To: "USD", On: day, Events: 1}},
		{Month: mar, MissingRate: pricing.MissingRate{Contract: "cedarpoint-insights", Table: "ecb", From: "EUR", To: "USD", On: day.AddDays(6), Events: 1}},
	}
	if !slices.Equal(report.NoRates, want) {
		t.Errorf("the close says %v, want %v", report.NoRates, want)
	}
	s, err := w.db.Statement(t.Context(), "meridian-us.cedarpoint.usd.2026-03")
	if err != nil {
		t.Fatal(err)
	}
	if s.Evidence.NoRate != 2 || s.Evidence.Unpriced != 0 || s.NetSales != usd("11.81") { // 10 × 1.1987 × 0.985 = 11.8071…
		t.Errorf("evidence %+v, net sales %s", s.Evidence, s.NetSales)
	}
	if says := w.trace(t, a); !strings.Contains(says, "table ecb has no rate of EUR to USD on 2026-03-10, nor on the 7 days before") || !strings.Contains(says, "by an adjustment") {
		t.Errorf("after the close: %s", says)
	}
	w.checkAll(t)
}

// TestConvertedUsage: a percentage of amounts that are in another currency is of what
// they came to.
func TestConvertedUsage(t *testing.T) {
	w := newSuite(t, exchanging(suite))
	t.Cleanup(w.remove)
	e := inEuros(sale("a", "suite", "lakeside", noon(jan, 9), "1000.00"))
	e.Data.TaxAmount = meteringtest.Decimal("1.00")
	w.deliver(t, 0, e)
	w.closeMonth(t, jan)
	lines := w.lines(t)
	if got := lines[`marlow marlow-suite/card usage "" 2026-01 USD`]; got != -900 { // 1,182.17 less the free 400.00, at most 9.00
		t.Errorf("card: %d, want -900", got)
	}
	if got := lines[`marlow marlow-suite/store sales "" 2026-01 USD`]; got != 118217 { // 1.1911 less 0.75%: 1,182.16675
		t.Errorf("sales: %d, want 118217", got)
	}
	w.checkAll(t)
}
