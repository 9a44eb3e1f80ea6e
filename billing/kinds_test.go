//go:build !race

package billing_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mete/billing"
	"mete/metering"
	"mete/metering/meteringtest"
	"mete/partner"
)

// suiteApps are the suite's apps in the place of those that are drawn.
var suiteApps = map[partner.AppID]partner.AppID{"notes": "suite", "claims": "suite", "insights": "annex", "finder": "annex", "planner": "club"}

// suiteEvents are drawn events, of the suite's apps, and seats.
func suiteEvents(t *rapid.T) []due {
	out := drawEvents(t)
	for i := range out {
		if app, ok := suiteApps[out[i].Data.App]; ok {
			out[i].Data.App = app
		}
	}
	for _, x := range slices.Clone(out) {
		if x.Data.App == "annex" && x.Type == metering.SalePaid {
			out = append(out, invoiced(t, out, x.Event)...)
		}
		if x.Data.App == "suite" && x.Type == metering.SalePaid {
			out = append(out, contested(t, x.Event)...)
		}
	}
	for i := range rapid.IntRange(0, 12).Draw(t, "seats") {
		q := *meteringtest.Decimal(fmt.Sprint(rapid.IntRange(0, 7).Draw(t, "how many")))
		at := jan.Add(rapid.IntRange(0, months-1).Draw(t, "month")).First().In(time.UTC).Add(time.Duration(rapid.IntRange(9, 27*24).Draw(t, "hour")) * time.Hour)
		typ := rapid.SampledFrom([]string{"usage.seats", "usage.seats", "usage.gone"}).Draw(t, "type")
		customer := rapid.SampledFrom([]partner.CustomerID{"lakeside", "harbor"}).Draw(t, "customer")
		e := sale(fmt.Sprintf("seat%02d", i), "suite", customer, at, "0")
		e.Type, e.Data = typ, metering.Data{App: "suite", Quantity: &q}
		out = append(out, due{e, rapid.SampledFrom([]int{0, 0, 1, lateMonths}).Draw(t, "late")})
	}
	return out
}

// contested are chargebacks of a sale, opened and some of them decided, in any order.
func contested(t *rapid.T, sale metering.Event) []due {
	var more []due
	for i := range rapid.IntRange(0, 3).Draw(t, "chargebacks") {
		e := sale
		e.ID, e.Data.RefersTo, e.Data.Fee = fmt.Sprintf("%s-c%d", sale.ID, i), sale.ID, meteringtest.Decimal("15")
		e.Type = []string{metering.SaleChargedBack, rapid.SampledFrom([]string{metering.SaleChargebackWon, metering.SaleChargebackLost}).Draw(t, "decided"), metering.SaleChargebackLost}[i]
		if i > 0 && rapid.Bool().Draw(t, "no fee") {
			e.Data.Fee = nil
		}
		e.Time = sale.Time.AddDate(0, 0, rapid.IntRange(0, 50).Draw(t, "days"))
		if e.Time.Before(jan.Add(months).First().In(time.UTC)) {
			more = append(more, due{e, rapid.SampledFrom([]int{0, 0, 1, lateMonths}).Draw(t, "late")})
		}
	}
	return more
}

// invoiced makes most sales of the annex invoices, in place, and returns what customers
// pay of one, and what is written off: in full or in part, now and then too much.
func invoiced(t *rapid.T, out []due, sale metering.Event) []due {
	if rapid.IntRange(0, 3).Draw(t, "paid at once") == 0 {
		return nil
	}
	for i := range out {
		if out[i].ID == sale.ID {
			out[i].Type = metering.SaleInvoiced
		}
	}
	var more []due
	for i := range rapid.IntRange(0, 3).Draw(t, "payments") {
		e := sale
		e.ID, e.Data.RefersTo = fmt.Sprintf("%s-%d", sale.ID, i), sale.ID
		e.Time = sale.Time.AddDate(0, 0, rapid.IntRange(-2, 50).Draw(t, "days"))
		if rapid.Bool().Draw(t, "in part") {
			part := sale.Data.Amount.Div(*meteringtest.Decimal("3")).Truncate(2)
			e.Data.Amount, e.Data.TaxAmount = &part, nil
		}
		if rapid.Bool().Draw(t, "written off") {
			e.Type = metering.SaleWrittenOff
		}
		if e.Time.Before(jan.Add(months).First().In(time.UTC)) {
			more = append(more, due{e, rapid.SampledFrom([]int{0, 0, 1, lateMonths}).Draw(t, "late")})
		}
	}
	return more
}

// TestLateOrNotOfEveryKind: as TestLateOrNot, for the kinds and models of the suite.
func TestLateOrNotOfEveryKind(t *testing.T) {
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		events := suiteEvents(t)
		terms := suite
		if rapid.Bool().Draw(t, "exchanging") {
			terms = exchanging(terms)
		}
		late, onTime := newSuite(t, terms), newSuite(t, terms)
		defer late.remove()
		defer onTime.remove()
		for _, d := range events {
			onTime.deliver(t, 0, d.Event)
		}
		for m := jan; m.Before(jan.Add(months + lateMonths)); m = m.Add(1) {
			seen["late"] += deliverMonth(t, late, events, m)
			late.closeMonth(t, m)
			onTime.closeMonth(t, m)
		}
		late.checkAll(t)
		late.explainAll(t)
		checkStatements(t, late, seen)
		if d := differ(late.lines(t), onTime.lines(t)); d != nil {
			t.Fatalf("late delivery changes what is billed:\n%s", strings.Join(d, "\n"))
		}
		if d := differ(late.balances(t), onTime.balances(t)); d != nil {
			t.Fatalf("late delivery changes the books:\n%s", strings.Join(d, "\n"))
		}
	})
	for _, k := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%-28s %d", k, seen[k])
	}
	for _, part := range []string{"line collected", "line accrued", "line written_off", "line contested", "line split", "line discount", "line cap", "line commitment", "line tax", "line credit", "line guarantee", "converted sales", "converted usage", "rule mesa"} {
		if seen[part] == 0 && !raceEnabled {
			t.Errorf("no draw had %q: the test is weaker than it says", part)
		}
	}
}

// TestBooksOfEveryKind: each kind stands on the page and in the books where it belongs.
func TestBooksOfEveryKind(t *testing.T) {
	w := newSuite(t, suite)
	t.Cleanup(w.remove)
	w.deliver(t, 0, sale("a", "suite", "lakeside", noon(jan, 9), "500.00"), calls("c", "suite", "lakeside", noon(jan, 10), 300))
	for m := jan; m != apr; m = m.Add(1) {
		w.closeMonth(t, m)
	}
	var page strings.Builder
	s, err := w.db.Statement(t.Context(), "meridian-us.marlow.usd.2026-01")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteText(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Besides our share and fees", "Tax at 19%, gb", "Credit", "At most 1.00 a quarter", "Minimum of 25.00 a month", "Discount of 12.5%", "Split of sales", "Plan by gone, seats"} {
		if got := strings.Contains(page.String(), want); got != (want != "Plan by gone, seats") {
			t.Errorf("%q on the page: %t\n%s", want, got, page.String())
		}
	}
	balances := w.balances(t)
	for _, account := range []string{"income:contra:discount", "income:contra:credit", "liabilities:sales-tax:gb", "expenses:guarantee", "income:usage", "income:support", "income:share"} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(balances)), func(k string) bool { return strings.Contains(k, account) }) {
			t.Errorf("nothing on %s: %v", account, balances)
		}
	}
}

// TestRedactionOfARate: what a rate is by may not be overwritten while a close is to
// come; under contracts whose rates are by something else it may.
func TestRedactionOfARate(t *testing.T) {
	w := newWorld(t)
	t.Cleanup(w.remove)
	contract := `partner: marlow
name: Marlow Suites
---
apps: [{id: suite, partner: marlow, name: Suite}]
---
contract: marlow-suite
partner: marlow
apps: [suite]
currency: USD
zone: UTC
effective: {from: 2026-01-01}
rules:
- {id: store, kind: share, of: sale.paid, platform: {by: unit, rates: {seat: 10%}, rate: 20%}}
`
	if err := agree(t.Context(), w.catalogue, contract, time.Date(2025, 12, 2, 15, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	rated := sale("inv-1", "suite", "lakeside", noon(jan, 5), "100.00")
	other := sale("inv-2", "scheduler", "lakeside", noon(jan, 5), "100.00")
	rated.Data.Unit, other.Data.Unit = "seat", "seat"
	w.deliver(t, 0, rated, other)
	for _, c := range []struct {
		e  metering.Event
		ok bool
	}{{rated, false}, {other, true}} {
		r, err := metering.ProposeRedaction(c.e.Key(), "data.unit", "looks like a person", "k.lee", noon(feb, 1))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.closer.CheckRedactions(t.Context(), r); (err == nil) != c.ok || !c.ok && !errors.Is(err, billing.ErrPriced) {
			t.Errorf("%s: %v, want allowed: %t", c.e.ID, err, c.ok)
		}
	}
}
