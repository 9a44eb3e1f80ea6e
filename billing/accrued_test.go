package billing_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"mete/ledger"
	"mete/ledger/ledgertest"
	"mete/metering"
	"mete/metering/meteringtest"
)

// onInvoice is a partner whose sales count when they are invoiced.
const onInvoice = `partner: marlow
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
- {id: store, kind: share, of: sale.paid, basis: invoiced, class: marketplace, platform: {rate: 15%}}
`

func newOnInvoice(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	t.Cleanup(w.remove)
	if err := agree(t.Context(), w.catalogue, onInvoice, time.Date(2025, 12, 2, 15, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	return w
}

// about is an event of another type that refers to a sale, with its tax.
func about(id, typ string, of metering.Event, at time.Time) metering.Event {
	e := of
	e.ID, e.Type, e.Time, e.Data.RefersTo = id, typ, at, of.ID
	return e
}

// TestInvoiceAccruedUntilPaid: of an invoice of 100.00 the partner's 85.00 wait until the
// customer pays; of one that is written off nothing remains.
func TestInvoiceAccruedUntilPaid(t *testing.T) {
	w := newOnInvoice(t)
	a := taxed(sale("a", "suite", "lakeside", noon(jan, 5), "100.00"))
	b := taxed(sale("b", "suite", "harbor", noon(jan, 6), "40.00"))
	a.Type, b.Type = metering.SaleInvoiced, metering.SaleInvoiced
	w.deliver(t, 0, a, b)
	w.closeMonth(t, jan)
	w.issueMonth(t, jan)
	w.holds(t, jan, map[ledger.Account]string{
		ledger.ReceivableCustomer(): "-154.00", ledger.SalesTax("us-tx"): "14.00", ledger.Income("share"): "21.00",
		ledger.Accrued("marlow"): "119.00", ledger.Payable("marlow"): "0.00", ledger.Clearing("processor"): "0.00",
	})
	for _, want := range []string{"YOU GET 0.00 nothing is due", "Net sales 140.00", "Not due until your customers pay -119.00", "EARNED IN JANUARY 0.00",
		"Not in it: your part of sales that your customers have not paid yet, 119.00."} {
		if text := strings.Join(strings.Fields(page(t, w, marlowJan)), " "); !strings.Contains(text, want) {
			t.Errorf("no %q on the page:\n%s", want, text)
		}
	}
	w.deliver(t, 1, about("p", metering.SalePaid, a, noon(feb, 3)))
	w.closeMonth(t, feb)
	w.issueMonth(t, feb)
	w.holds(t, mar, map[ledger.Account]string{
		ledger.ReceivableCustomer(): "-44.00", ledger.Clearing("processor"): "-110.00", ledger.Accrued("marlow"): "34.00", ledger.PayableDue("marlow"): "85.00",
	})
	w.deliver(t, 1, about("w", metering.SaleWrittenOff, b, noon(mar, 3)))
	w.closeMonth(t, mar)
	w.holds(t, mar, map[ledger.Account]string{
		ledger.ReceivableCustomer(): "0.00", ledger.Clearing("processor"): "-110.00", ledger.Accrued("marlow"): "0.00", ledger.Payable("marlow"): "85.00",
		ledger.Income("share"): "15.00", ledger.SalesTax("us-tx"): "10.00",
	})
	w.checkAll(t)
	ledgertest.TestHledger(t, w.db, w.entries(t), jan.Last(), feb.Last(), mar.Last())

	for name, sql := range map[string][]string{
		"accrued moved to payable": append(slices.Clone(free), `UPDATE postings SET account = 'liabilities:payable:marlow:pending' WHERE account = 'liabilities:accrued:marlow' AND amount_minor = -11900`),
		"not due altered":          {`UPDATE statements SET content = json_set(content, '$.not_due.amount', '1.00') WHERE id = '` + marlowJan + `'`},
		"unpaid altered":           {`UPDATE statements SET content = replace(content, '"154.00"', '"153.00"') WHERE id = '` + marlowJan + `'`},
		"open invoice dropped":     {`UPDATE priced_groups SET result = json_remove(result, '$.after[0]') WHERE close_month = '2026-01' AND group_id LIKE 'marlow%'`},
		"customers' debt altered":  {`UPDATE balances SET balance_minor = balance_minor + 1 WHERE account = 'assets:receivable:customer'`},
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

// TestInvoiceLate: an invoice that reaches us after its payment was closed over makes the
// payment due then, and both months come to what they would have.
func TestInvoiceLate(t *testing.T) {
	late, onTime := newOnInvoice(t), newOnInvoice(t)
	a := taxed(sale("a", "suite", "lakeside", noon(jan, 5), "100.00"))
	a.Type = metering.SaleInvoiced
	paid := about("p", metering.SalePaid, a, noon(feb, 3))
	onTime.deliver(t, 0, a, paid)
	for m := jan; m != apr; m = m.Add(1) {
		onTime.closeMonth(t, m)
	}
	late.closeMonth(t, jan)
	late.deliver(t, 0, paid)
	late.closeMonth(t, feb)
	late.holds(t, feb, map[ledger.Account]string{ledger.Payable("marlow"): "0.00"}) // a payment of nothing we know
	late.deliver(t, 1, a)
	late.closeMonth(t, mar)
	late.holds(t, mar, map[ledger.Account]string{ledger.Payable("marlow"): "85.00"})
	if d := differ(late.balances(t), onTime.balances(t)); d != nil {
		t.Errorf("late delivery changes the books:\n%s", strings.Join(d, "\n"))
	}
	if d := differ(late.lines(t), onTime.lines(t)); d != nil {
		t.Errorf("late delivery changes what is billed:\n%s", strings.Join(d, "\n"))
	}
	late.checkAll(t)
}

// TestChargebacks: contested money and its fee leave clearing when the chargeback is
// opened; a won one comes back, and a lost one is taken from what was contested.
func TestChargebacks(t *testing.T) {
	for _, bears := range []string{"platform", "partner"} {
		w := newWorld(t)
		t.Cleanup(w.remove)
		contract := strings.Replace(onInvoice, "basis: invoiced", "chargebacks: {fee: "+bears+"}", 1)
		if err := agree(t.Context(), w.catalogue, contract, time.Date(2025, 12, 2, 15, 0, 0, 0, time.UTC)); err != nil {
			t.Fatal(err)
		}
		a := taxed(sale("a", "suite", "lakeside", noon(jan, 5), "100.00"))
		b := taxed(sale("b", "suite", "lakeside", noon(jan, 5), "100.00"))
		opened, other := about("ca", metering.SaleChargedBack, a, noon(jan, 9)), about("cb", metering.SaleChargedBack, b, noon(jan, 9))
		opened.Data.Fee, other.Data.Fee = meteringtest.Decimal("15"), meteringtest.Decimal("15")
		w.deliver(t, 0, a, b, opened)
		w.closeMonth(t, jan)
		w.holds(t, jan, map[ledger.Account]string{
			ledger.ClearingChargeback(): "-110.00", ledger.Expense("chargeback"): "-15.00", ledger.Clearing("processor"): "-95.00", ledger.Payable("marlow"): "170.00",
		})
		w.deliver(t, 1, other, about("wb", metering.SaleChargebackWon, b, noon(feb, 3)), about("la", metering.SaleChargebackLost, a, noon(feb, 4)))
		w.closeMonth(t, feb)
		want := map[ledger.Account]string{
			ledger.ClearingChargeback(): "0.00", ledger.Expense("chargeback"): "-30.00", ledger.Clearing("processor"): "-80.00",
			ledger.Payable("marlow"): "85.00", ledger.Income("share"): "15.00", ledger.SalesTax("us-tx"): "10.00",
		}
		if bears == "partner" {
			want[ledger.Expense("chargeback")], want[ledger.Payable("marlow")] = "-15.00", "70.00"
		}
		w.holds(t, feb, want)
		w.checkAll(t)
		ledgertest.TestHledger(t, w.db, w.entries(t), jan.Last(), feb.Last())
	}
}
