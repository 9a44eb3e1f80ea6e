package billing_test

import (
	"slices"
	"strings"
	"testing"
)

// specific is a contract of northwind's for a deal or a customer.
func specific(id, of, rate string) string {
	return "contract: northwind-" + id + "\npartner: northwind\n" + of + `
currency: USD
zone: America/Chicago
effective: {from: 2026-01-01}
rules:
- {id: store, kind: share, of: sale.paid, class: marketplace, platform: {rate: ` + rate + `}}
`
}

// TestPrecedence: a deal's sales are the deal's, a customer's the customer's, and the
// others those of the contract that names the app. Every event is told of once, refunds
// are where their sales are, and lines say why their contract has them.
func TestPrecedence(t *testing.T) {
	w := testWorld(t)
	w.agree(t, specific("deal", "deal: D-17", "10%"), specific("mesa", "customer: mesa", "20%"))
	deal := sale("d", "scheduler", "mesa", noon(jan, 5), "100.00")
	deal.Data.Deal = "D-17"
	other := sale("o", "scheduler", "lakeside", noon(jan, 8), "10.00")
	other.Data.Deal = "D-18"
	w.deliver(t, 0, deal, sale("c", "scheduler", "mesa", noon(jan, 6), "50.00"), sale("a", "scheduler", "lakeside", noon(jan, 7), "1500.00"), other,
		calls("u", "scheduler", "mesa", noon(jan, 9), 300), calls("v", "scheduler", "harbor", noon(jan, 9), 10))
	w.closeMonth(t, jan)
	w.deliver(t, 0, refund("r", deal, noon(feb, 3), "40.00"))
	w.closeMonth(t, feb)
	w.checkAll(t)
	lines := w.lines(t)
	for k, want := range map[string]int64{
		`northwind northwind-deal/store sales "" 2026-01 USD`:                 10000,
		`northwind northwind-deal/store share "" 2026-01 USD`:                 -1000,
		`northwind northwind-deal/store refunds "" 2026-02 USD`:               -4000,
		`northwind northwind-deal/store share "" 2026-02 USD`:                 400,
		`northwind northwind-mesa/store sales "" 2026-01 USD`:                 5000,
		`northwind northwind-mesa/store share "" 2026-01 USD`:                 -1000,
		`northwind northwind-scheduling/subscriptions sales "" 2026-01 USD`:   151000,
		`northwind northwind-scheduling/subscriptions share "" 2026-01 USD`:   -7650, // 15% of the 510.00 above 1,000.00
		`northwind northwind-scheduling/calls usage "" 2026-01 USD events`:    2,
		`northwind northwind-scheduling/subscriptions refunds "" 2026-02 USD`: 0,
	} {
		if lines[k] != want {
			t.Errorf("%s: %d, want %d", k, lines[k], want)
		}
	}
	s, err := w.db.Statement(t.Context(), "meridian-us.northwind.usd.2026-01")
	if err != nil {
		t.Fatal(err)
	}
	behind, why := map[string][]string{}, map[string][]string{}
	for _, l := range s.Lines {
		x, err := w.closer.Explain(t.Context(), s.ID, l.Number, 10)
		if err != nil {
			t.Fatal(err)
		}
		if l.Part == "sales" {
			for _, e := range x.Events {
				behind[l.Contract] = append(behind[l.Contract], e.ID)
			}
			why[l.Contract] = x.Others
		}
	}
	for contract, want := range map[string]string{"northwind-deal": "d", "northwind-mesa": "c", "northwind-scheduling": "a o"} {
		if got := strings.Join(behind[contract], " "); got != want {
			t.Errorf("behind the sales of %s: %q, want %q", contract, got, want)
		}
	}
	for contract, want := range map[string][]string{
		"northwind-deal": {
			"northwind-deal is for deal D-17: it takes them before northwind-mesa, which is for customer mesa",
			"northwind-deal is for deal D-17: it takes them before northwind-scheduling, which is for app scheduler",
		},
		"northwind-scheduling": {
			"without what northwind-deal takes before northwind-scheduling: it is for deal D-17, northwind-scheduling for app scheduler",
			"without what northwind-mesa takes before northwind-scheduling: it is for customer mesa, northwind-scheduling for app scheduler",
		},
	} {
		if !slices.Equal(why[contract], want) {
			t.Errorf("why %s has them: %q, want %q", contract, why[contract], want)
		}
	}
	for id, want := range map[string]string{"d": "line 1", "c": "line 2", "a": "line 3", "o": "line 3"} {
		e := sale(id, "", "", noon(jan, 1), "0")
		if says := w.trace(t, e); !strings.HasPrefix(says, "on statement meridian-us.northwind.usd.2026-01, "+want) || strings.Count(says, "Sales") != 1 {
			t.Errorf("event %s: %s", id, says)
		}
	}
}

// TestDealWithoutContract: what is of no contract's deal or customer, and of no other
// contract, is told of once, and that no contract covers it.
func TestDealWithoutContract(t *testing.T) {
	w := testWorld(t)
	w.agree(t, "app: planner\npartner: northwind\nname: Planner\n", specific("deal", "apps: [planner]\ndeal: D-17", "10%"), specific("mesa", "apps: [planner]\ncustomer: mesa", "20%"))
	e := sale("x", "planner", "lakeside", noon(jan, 5), "100.00")
	w.deliver(t, 0, e, calls("u", "planner", "lakeside", noon(jan, 9), 300))
	w.closeMonth(t, jan)
	w.checkAll(t)
	if says := w.trace(t, e); says != "unpriced: no contract in force covers app planner at that time" {
		t.Errorf("%s", says)
	}
	s, err := w.db.Statement(t.Context(), "meridian-us.northwind.usd.2026-01")
	if err != nil || s.Evidence.Unpriced != 2 {
		t.Errorf("evidence %+v, %v; want 2 unpriced", s.Evidence, err)
	}
}
