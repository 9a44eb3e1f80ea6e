package billing_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"mete/billing"
	"mete/ledger"
	"mete/ledger/ledgertest"
	"mete/period"
)

// collecting is a partner who collects under one contract, and we under another; the
// first says the rest.
func collecting(clauses string) string {
	return `partner: marlow
name: Marlow Suites
---
apps:
- {id: suite, partner: marlow, name: Suite}
- {id: annex, partner: marlow, name: Annex}
---
contract: marlow-suite
partner: marlow
apps: [suite]
currency: USD
zone: UTC
effective: {from: 2026-01-01}
collects: partner
` + clauses + `
rules:
- {id: store, kind: share, of: sale.paid, class: marketplace, platform: {rate: 15%}}
---
contract: marlow-annex
partner: marlow
apps: [annex]
currency: USD
zone: UTC
effective: {from: 2026-01-01}
payout: {reserve: {rate: 10%, of: proceeds, release_after: 20 days}}
rules:
- {id: store, kind: share, of: sale.paid, class: marketplace, platform: {rate: 10%}}
`
}

func newCollecting(t *testing.T, clauses string) *world {
	t.Helper()
	w := newWorld(t)
	t.Cleanup(w.remove)
	if err := agree(t.Context(), w.catalogue, collecting(clauses), time.Date(2025, 12, 2, 15, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	return w
}

const marlowJan = "meridian-us.marlow.usd.2026-01"

func page(t *testing.T, w *world, id billing.StatementID) string {
	t.Helper()
	s, err := w.db.Statement(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := s.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// holds fails the test unless accounts hold so much at the month's end, credit positive.
func (w *world) holds(t *testing.T, m period.Month, want map[ledger.Account]string) {
	t.Helper()
	for _, a := range slices.Sorted(maps.Keys(want)) {
		if got := w.held(t, a, m); got != want[a] {
			t.Errorf("%s: %s holds %s, want %s", m, a, got, want[a])
		}
	}
}

// TestPartnerCollects: of 1,000.00 that the partner collected it owes us 150.00; of 200.00
// that we collected we owe it 180.00, 18.00 of them in reserve. The two are apart.
func TestPartnerCollects(t *testing.T) {
	w := newCollecting(t, "")
	direct := taxed(sale("a", "suite", "lakeside", noon(jan, 5), "1000.00"))
	w.deliver(t, 0, direct, sale("b", "annex", "lakeside", noon(jan, 6), "200.00"))
	w.closeMonth(t, jan)
	w.issueMonth(t, jan)
	w.holds(t, jan, map[ledger.Account]string{
		ledger.ReceivablePartner("marlow"): "-150.00", ledger.Payable("marlow"): "162.00", ledger.ReserveOf("marlow"): "18.00",
		ledger.Clearing("processor"): "-200.00", ledger.Income("share"): "170.00", "liabilities:sales-tax": "0.00",
	})
	w.holds(t, feb, map[ledger.Account]string{ledger.PayableDue("marlow"): "162.00"}) // all that a payout may spend
	text := strings.Join(strings.Fields(page(t, w, marlowJan)), " ")
	for _, want := range []string{"YOU GET 162.00", "YOU OWE US 150.00 please pay, naming " + marlowJan, "We collect as your agent, and you where it says so.",
		"Net sales 1,200.00", "You collected -1,000.00", "Earned, what you owe us apart 180.00", "Charged 150.00 Closing 31 January = our ledger 150.00"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q on the page:\n%s", want, text)
		}
	}

	// A refund of March gives back 30.00. It is credited down to nothing owed, and what
	// remains we owe the partner.
	if _, _, err := w.closer.Receive(t.Context(), received("W-1", "140.00", feb.First())); err != nil {
		t.Fatal(err)
	}
	w.closeMonth(t, feb)
	w.deliver(t, 1, refund("r", direct, noon(mar, 3), "200.00"))
	w.closeMonth(t, mar)
	w.holds(t, mar, map[ledger.Account]string{ledger.ReceivablePartner("marlow"): "0.00", ledger.PayablePending("marlow"): "38.00", ledger.Cash("manual"): "-140.00"})
	w.checkAll(t)
	w.explainAll(t)
	ledgertest.TestHledger(t, w.db, w.entries(t), jan.Last(), feb.Last(), mar.Last())
}

func received(reference, amount string, on period.Date) billing.Received {
	return billing.Received{Partner: "marlow", Reference: reference, On: on, Amount: usd(amount), Rail: "manual", By: "m.ortiz"}
}

// TestSetOff: where the contract says so, what the partner owes is taken from what we owe.
func TestSetOff(t *testing.T) {
	w := newCollecting(t, "payout: {setoff: true}")
	w.deliver(t, 0, sale("a", "suite", "lakeside", noon(jan, 5), "2000.00"), sale("b", "annex", "lakeside", noon(jan, 6), "200.00"))
	w.closeMonth(t, jan)
	w.issueMonth(t, jan)
	// 300.00 owed, 180.00 less 18.00 of reserve against it.
	w.holds(t, jan, map[ledger.Account]string{ledger.ReceivablePartner("marlow"): "-138.00", ledger.Payable("marlow"): "0.00", ledger.ReserveOf("marlow"): "18.00"})
	if text := page(t, w, marlowJan); !strings.Contains(text, "YOU OWE US       138.00   after set-off; please pay, naming") || !strings.Contains(text, "Set off against what you owe us") {
		t.Errorf("the page does not say what was set off:\n%s", text)
	}
	w.deliver(t, 0, sale("c", "annex", "lakeside", noon(feb, 6), "1000.00"))
	w.closeMonth(t, feb)
	w.issueMonth(t, feb)
	// 900.00 less 90.00, and 18.00 of January's reserve, less 138.00.
	w.holds(t, mar, map[ledger.Account]string{ledger.ReceivablePartner("marlow"): "0.00", ledger.PayableDue("marlow"): "690.00"})
	w.checkAll(t)
	w.explainAll(t)
	ledgertest.TestHledger(t, w.db, w.entries(t), jan.Last(), feb.Last(), mar.Last())
}

// TestReceived: what the partner pays counts for the oldest statement, once.
func TestReceived(t *testing.T) {
	w := newCollecting(t, "")
	w.deliver(t, 0, sale("a", "suite", "lakeside", noon(jan, 5), "1000.00"), sale("b", "suite", "lakeside", noon(feb, 5), "100.00"))
	w.closeMonth(t, jan)
	w.closeMonth(t, feb)
	ctx, day := t.Context(), mar.First().AddDays(9)
	if _, _, err := w.closer.Receive(ctx, received("W-1", "165.01", day)); !errors.Is(err, ledger.ErrGuard) {
		t.Errorf("more than is owed: %v", err)
	}
	for i := range 2 {
		if _, isNew, err := w.closer.Receive(ctx, received("W-2", "155.00", day)); err != nil || isNew != (i == 0) {
			t.Errorf("time %d: new %t, %v", i+1, isNew, err)
		}
	}
	if _, _, err := w.closer.Receive(ctx, received("W-2", "1.00", day)); !errors.Is(err, billing.ErrConflict) {
		t.Errorf("another amount under the reference: %v", err)
	}
	for on, want := range map[period.Date]string{
		jan.Last(): "150.00: 2026-01 150.00, 0 days", feb.Last(): "165.00: 2026-01 150.00, 28 days; 2026-02 15.00, 0 days", day: "10.00: 2026-02 10.00, 10 days",
	} {
		rs, err := w.closer.Receivables(ctx, on)
		if err != nil || len(rs) != 1 {
			t.Fatalf("%s: %v, %v", on, rs, err)
		}
		var items []string
		for _, i := range rs[0].Items {
			items = append(items, fmt.Sprintf("%s %s, %d days", i.Month, i.Open.Plain(), i.Days))
		}
		if got := rs[0].Total.Plain() + ": " + strings.Join(items, "; "); got != want {
			t.Errorf("%s: %s, want %s", on, got, want)
		}
	}
	w.checkAll(t)
	w.explainAll(t)
	for name, sql := range map[string][]string{
		"payment deleted":   {`DELETE FROM partner_payments`},
		"payment altered":   {`UPDATE partner_payments SET content = replace(content, '"155.00"', '"154.00"')`},
		"payment doubled":   {`INSERT INTO partner_payments SELECT partner, 'W-3', paid_on, replace(content, '"W-2"', '"W-3"') FROM partner_payments`},
		"receivable moved":  append(slices.Clone(free), `UPDATE postings SET account = 'liabilities:payable:marlow:pending' WHERE account = 'assets:receivable:partner:marlow' AND amount_minor = 1500`),
		"owed account made": {`UPDATE statements SET content = json_set(content, '$.owed.charged.amount', '14.00') WHERE id = 'meridian-us.marlow.usd.2026-02'`},
	} {
		m := w.copy(t)
		if n := m.exec(t, relationalFile, sql...); n == 0 {
			t.Errorf("%s: the mutant changed no row", name)
		}
		if len(m.findings()) == 0 {
			t.Errorf("%s: no checker names it", name)
		}
		m.remove()
	}
}

// TestPrincipal: a sale in our own name is our income, and the partner's part an expense;
// the partner's statement says the same as if we were its agent.
func TestPrincipal(t *testing.T) {
	lines := map[string]string{}
	for _, presentation := range []string{"agent", "principal"} {
		w := newWorld(t)
		t.Cleanup(w.remove)
		contract := strings.ReplaceAll(collecting("presentation: "+presentation), "collects: partner\n", "")
		if err := agree(context.Background(), w.catalogue, contract, time.Date(2025, 12, 2, 15, 0, 0, 0, time.UTC)); err != nil {
			t.Fatal(err)
		}
		a := taxed(sale("a", "suite", "lakeside", noon(jan, 5), "100.00"))
		w.deliver(t, 0, a)
		w.closeMonth(t, jan)
		w.deliver(t, 0, refund("r", a, noon(jan, 20), "40.00"), sale("late", "suite", "lakeside", noon(jan, 20), "10.00"))
		w.closeMonth(t, feb)
		want := map[ledger.Account]string{ledger.Payable("marlow"): "59.50", ledger.Income("share"): "10.50", ledger.Clearing("processor"): "-80.00", ledger.SalesTax("us-tx"): "10.00", ledger.Income("sales"): "0.00", ledger.Expense("partner-share"): "0.00"}
		if presentation == "principal" {
			want[ledger.Income("share")], want[ledger.Income("sales")], want[ledger.Expense("partner-share")] = "0.00", "70.00", "-59.50"
		}
		w.holds(t, feb, want)
		w.checkAll(t)
		w.explainAll(t)
		ledgertest.TestHledger(t, w.db, w.entries(t), jan.Last(), feb.Last())
		lines[presentation] = fmt.Sprint(w.lines(t))
		if text := page(t, w, marlowJan); presentation == "principal" && !strings.Contains(text, "We collect as your agent or sell in our own name, as agreed.") {
			t.Errorf("the page does not say whose sale it is:\n%s", text)
		}
	}
	if lines["agent"] != lines["principal"] {
		t.Errorf("the partner's lines differ:\nagent     %s\nprincipal %s", lines["agent"], lines["principal"])
	}
}
