package billing_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"mete/billing"
	"mete/ledger"
	"mete/ledger/ledgertest"
	"mete/metering"
	"mete/metering/meteringtest"
	"mete/period"
)

// ahead is a partner who pays fees that we earn over months.
const ahead = `partner: marlow
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
- {id: store, kind: share, of: sale.paid, class: marketplace, platform: {rate: 10%}}
- {id: renewal, kind: fixed_fee, class: certification, due: fee.due, recognise: over 3 months}
- {id: slot, kind: fixed_fee, class: placement, due: every 90 days, prorate: day, amount: 90.00, recognise: over 3 months}
`

// newAhead is a marketplace with that partner; more contracts may follow.
func newAhead(t tester, later ...string) *world {
	t.Helper()
	w := newWorld(t)
	at := time.Date(2025, 12, 2, 15, 0, 0, 0, time.UTC)
	for i, text := range append([]string{ahead}, later...) {
		if err := agree(t.(*testing.T).Context(), w.catalogue, text, at.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// feeDue is a certification fee of the suite.
func feeDue(id string, at time.Time, amount string) metering.Event {
	e := sale(id, "suite", "", at, amount)
	e.Type, e.Data = metering.FeeDue, metering.Data{App: "suite", Class: metering.Certification, Amount: meteringtest.Decimal(amount), Currency: "USD"}
	return e
}

// held is what an account holds at the end of a month, credit positive.
func (w *world) held(t *testing.T, a ledger.Account, m period.Month) string {
	t.Helper()
	bs, err := w.db.Balances(t.Context(), ledger.Filter{Prefix: a, UpTo: m.Last(), Booked: true})
	if err != nil {
		t.Fatal(err)
	}
	sum := usd("0")
	for _, b := range bs {
		if sum, err = sum.Sub(b.Amount); err != nil {
			t.Fatal(err)
		}
	}
	return sum.Plain()
}

// TestFeeEarnedOverMonths: 100.00 over three months are 33.33, 33.34 and 33.33, whatever
// else happens; the partner owes all of it at once.
func TestFeeEarnedOverMonths(t *testing.T) {
	w := newAhead(t)
	t.Cleanup(w.remove)
	w.deliver(t, 0, feeDue("f", noon(jan, 5), "100.00"))
	for i, want := range []struct{ deferred, earned string }{{"66.67", "33.33"}, {"33.33", "66.67"}, {"0.00", "100.00"}, {"0.00", "100.00"}} {
		m := jan.Add(i)
		w.closeMonth(t, m)
		if got := w.held(t, ledger.Deferred("certification"), m); got != want.deferred {
			t.Errorf("%s: %s deferred, want %s", m, got, want.deferred)
		}
		if got := w.held(t, ledger.Income("certification"), m); got != want.earned {
			t.Errorf("%s: %s earned, want %s", m, got, want.earned)
		}
	}
	if got := w.held(t, ledger.Payable("marlow"), jan); got != "-190.00" {
		t.Errorf("the partner gets %s in January, want -190.00: both fees at once", got)
	}
	w.checkAll(t)
	w.explainAll(t)
	entries := w.entries(t)
	ledgertest.TestHledger(t, w.db, entries, jan.Last(), feb.Last(), apr.Last())
}

// TestReducedFeeVoided: a discount on a deferred fee is given back where it was kept when
// the fee is voided after its month was closed, and nothing is left for it to reduce.
func TestReducedFeeVoided(t *testing.T) {
	const reduced = `contract: marlow-reduced
partner: marlow
apps: [suite]
currency: USD
zone: UTC
effective: {from: 2026-01-01}
rules:
- {id: audit, kind: fixed_fee, class: certification, due: fee.due, recognise: over 3 months}
- {id: less, kind: discount, on: [audit], percent: 3.3%}
`
	w := newWorld(t)
	t.Cleanup(w.remove)
	if err := agree(t.Context(), w.catalogue, "partner: marlow\nname: Marlow\n---\napps: [{id: suite, partner: marlow, name: Suite}]\n---\n"+reduced, time.Date(2025, 12, 2, 15, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	fee := feeDue("f", noon(jan, 5), "100.00")
	w.deliver(t, 0, fee)
	w.closeMonth(t, jan)
	if got := w.held(t, ledger.Deferred("certification"), jan); got != "64.47" {
		t.Errorf("%s deferred, want 64.47: two thirds of 96.70", got)
	}
	w.deliver(t, 1, void("v", fee, noon(jan, 6)))
	w.closeMonth(t, feb)
	for _, kind := range []string{"certification", "usage"} {
		for _, a := range []ledger.Account{ledger.Deferred(kind), ledger.Income(kind)} {
			if got := w.held(t, a, feb); got != "0.00" {
				t.Errorf("%s holds %s after the fee was voided, want nothing", a, got)
			}
		}
	}
	if got := w.held(t, ledger.Payable("marlow"), feb); got != "0.00" {
		t.Errorf("the partner is owed %s, want nothing", got)
	}
	w.checkAll(t)
	w.explainAll(t)
}

// entries are all entries of the books.
func (w *world) entries(t *testing.T) []ledger.Entry {
	t.Helper()
	var out []ledger.Entry
	for e, err := range w.db.Entries(t.Context(), ledger.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// TestFeeGivenBack: what is given back of a fee takes first what is not earned yet.
func TestFeeGivenBack(t *testing.T) {
	t.Run("voided late", func(t *testing.T) {
		w := newAhead(t)
		t.Cleanup(w.remove)
		fee := feeDue("f", noon(jan, 5), "100.00")
		w.deliver(t, 0, fee)
		w.closeMonth(t, jan)
		w.deliver(t, 1, void("v", fee, noon(jan, 6)))
		w.closeMonth(t, feb)
		// As if it had never been charged: what January earned of it is reversed.
		for _, a := range []ledger.Account{ledger.Deferred("certification"), ledger.Income("certification")} {
			if got := w.held(t, a, feb); got != "0.00" {
				t.Errorf("%s holds %s, want nothing", a, got)
			}
		}
		w.checkAll(t)
		w.explainAll(t)
	})
	t.Run("by an adjustment", func(t *testing.T) {
		for _, c := range []struct{ amount, deferred, earned, then string }{
			{"50.00", "8.33", "41.67", "50.00"}, // of the 66.67 left in January 16.67 stay, for two months
			{"90.00", "0.00", "10.00", "10.00"}, // 23.33 of what January earned goes back too
		} {
			w := newAhead(t)
			t.Cleanup(w.remove)
			w.deliver(t, 0, feeDue("f", noon(jan, 5), "100.00"))
			w.closeMonth(t, jan)
			s, err := w.db.Statement(t.Context(), "meridian-us.marlow.usd.2026-01")
			if err != nil {
				t.Fatal(err)
			}
			n := slices.IndexFunc(s.Lines, func(l billing.Line) bool { return l.Rule == "renewal" })
			adj, err := w.closer.ProposeAdjustment(t.Context(), billing.Adjustment{Partner: "marlow", Amount: usd(c.amount), Account: "certification", Statement: s.ID, Line: n + 1, Reason: "review was late", ProposedBy: "m.ortiz"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.closer.ApproveAdjustment(t.Context(), adj.ID, "a.kim", closedAt(jan)); err != nil {
				t.Fatal(err)
			}
			w.closeMonth(t, feb)
			if got := w.held(t, ledger.Deferred("certification"), feb); got != c.deferred {
				t.Errorf("%s given back: %s deferred, want %s", c.amount, got, c.deferred)
			}
			if got := w.held(t, ledger.Income("certification"), feb); got != c.earned {
				t.Errorf("%s given back: %s earned, want %s", c.amount, got, c.earned)
			}
			w.closeMonth(t, mar)
			if got := w.held(t, ledger.Income("certification"), mar); got != c.then {
				t.Errorf("%s given back: %s earned in the end, want %s", c.amount, got, c.then)
			}
			w.checkAll(t)
			w.explainAll(t)
		}
	})
	t.Run("by another version", func(t *testing.T) {
		_, contract, _ := strings.Cut(ahead, "contract: marlow-suite")
		later := "contract: marlow-suite" + strings.NewReplacer("from: 2026-01-01", "from: 2026-02-10", "amount: 90.00", "amount: 180.00").Replace(contract)
		w := newAhead(t, later)
		t.Cleanup(w.remove)
		for m := jan; m != apr.Add(1); m = m.Add(1) {
			w.closeMonth(t, m)
		}
		// January earns 30.00 of 90.00. In February 50.00 are given back, all of it not
		// earned yet, and 180.00 charged: 5.00 and 60.00 are earned a month.
		for m, want := range map[period.Month]string{jan: "30.00", feb: "95.00", mar: "160.00", apr: "220.00"} {
			if got := w.held(t, ledger.Income("placement"), m); got != want {
				t.Errorf("%s: %s earned of the slot, want %s", m, got, want)
			}
		}
		w.checkAll(t)
		w.explainAll(t)
	})
}

// TestDeferredMutants alters what is kept of fees that are earned over months, one fact
// at a time, and wants it named.
func TestDeferredMutants(t *testing.T) {
	base := newAhead(t)
	t.Cleanup(base.remove)
	base.deliver(t, 0, feeDue("f", noon(jan, 5), "100.00"))
	base.closeMonth(t, jan)
	base.closeMonth(t, feb)
	if f := base.findings(); len(f) > 0 {
		t.Fatalf("the checkers find something where nothing is wrong: %v", f)
	}
	const entry = `(SELECT seq FROM entries WHERE id = 'recognition:meridian-us.marlow.usd.2026-02')`
	for name, sql := range map[string][]string{
		"row deleted":       {`DELETE FROM deferred_lines WHERE content LIKE '%"renewal"%'`},
		"row doubled":       {`INSERT INTO deferred_lines SELECT statement_id, line + 7, month, content FROM deferred_lines WHERE content LIKE '%"renewal"%'`},
		"charge altered":    {`UPDATE deferred_lines SET content = replace(content, '"100.00"', '"100.01"') WHERE content LIKE '%"renewal"%'`},
		"months altered":    {`UPDATE deferred_lines SET content = replace(content, '"months":3', '"months":4')`},
		"row of next month": {`UPDATE deferred_lines SET month = '2026-02'`},
		"entry deleted":     append(slices.Clone(free), `DELETE FROM postings WHERE entry_seq = `+entry, `DELETE FROM entries WHERE id = 'recognition:meridian-us.marlow.usd.2026-02'`),
		"entry altered":     append(slices.Clone(free), `UPDATE postings SET amount_minor = amount_minor + sign(amount_minor) WHERE account LIKE '%certification' AND entry_seq = `+entry),
		"entry moved":       append(slices.Clone(free), `UPDATE postings SET account = 'income:support' WHERE account = 'income:certification' AND entry_seq = `+entry),
		"balance altered":   {`UPDATE balances SET balance_minor = balance_minor + 1 WHERE account = 'liabilities:deferred:certification'`},
		"earned altered":    {`UPDATE statements SET content = json_set(content, '$.earnings[0].earned.amount', '1.00') WHERE id = 'meridian-us.marlow.usd.2026-02'`},
		"line not deferred": {`UPDATE statements SET content = replace(content, '"deferral"', '"other"') WHERE id = 'meridian-us.marlow.usd.2026-01'`},
	} {
		t.Run(name, func(t *testing.T) {
			w := base.copy(t)
			defer w.remove()
			if n := w.exec(t, relationalFile, sql...); n == 0 {
				t.Fatal("the mutant changed no row")
			}
			found := w.findings()
			if len(found) == 0 {
				t.Fatal("no checker names it")
			}
			for _, k := range slices.Sorted(maps.Keys(found)) {
				t.Logf("%-20s %-14s %s", name, k, clip(found[k][0], 150))
			}
		})
	}
	t.Run("posted by hand", func(t *testing.T) { // only the sum of the books tells
		w := base.copy(t)
		defer w.remove()
		e := ledger.Entry{ID: "by-hand", Kind: "other", ValueOn: mar.First(), BookedOn: mar.First(), Postings: []ledger.Posting{
			{Account: ledger.Deferred("certification"), Amount: usd("1.00")}, {Account: ledger.Income("certification"), Amount: usd("-1.00")}}}
		if err := w.db.Post(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if found := fmt.Sprint(w.findings()["reconcile"]); !strings.Contains(found, "liabilities:deferred:certification") {
			t.Errorf("reconcile does not name the account: %s", found)
		}
	})
}
