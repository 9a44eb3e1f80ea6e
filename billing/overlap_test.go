package billing_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mete/billing"
	"mete/metering"
)

// TestOneSaleOneContract: a partner has a contract for all its apps, one that names an
// app, and one in another currency. Each sale is shared once, whatever covers its app,
// every event is told of once, and statements say which line rests on it.
func TestOneSaleOneContract(t *testing.T) {
	w := testWorld(t)
	all := strings.Replace(changed(t, "contract: northwind-scheduling", "apps: [scheduler]\n", ""), "contract: northwind-scheduling", "contract: northwind-all", 1)
	euro := strings.Replace(changed(t, "contract: northwind-scheduling", "currency: USD", "currency: EUR", "fx: {rates: ecb, at: sale, convert: [EUR]}\n", ""), "contract: northwind-scheduling", "contract: northwind-euro", 1)
	w.agree(t, all, euro, "app: planner\npartner: northwind\nname: Planner\n")
	inEuro := sale("c", "scheduler", "lakeside", noon(jan, 7), "70.00")
	inEuro.Data.Currency = "EUR"
	inPounds := sale("d", "scheduler", "lakeside", noon(jan, 8), "60.00")
	inPounds.Data.Currency = "GBP"
	failed := calls("f", "scheduler", "lakeside", noon(jan, 9), 5)
	failed.Data.Status = 503
	w.deliver(t, 0, sale("a", "scheduler", "lakeside", noon(jan, 5), "100.00"), sale("b", "planner", "lakeside", noon(jan, 6), "30.00"),
		inEuro, inPounds, failed, fromSandbox(sale("e", "scheduler", "lakeside", noon(jan, 5), "1.00")))
	w.closeMonth(t, jan)
	back := refund("r", inEuro, noon(feb, 5), "35.00")
	back.Data.Currency = "EUR"
	w.deliver(t, 0, back)
	w.closeMonth(t, feb)
	w.checkAll(t)
	want := map[string]int64{
		`northwind northwind-scheduling/subscriptions sales "" 2026-01 USD`: 10000,
		`northwind northwind-all/subscriptions sales "" 2026-01 USD`:        3000,
		`northwind northwind-euro/subscriptions sales "" 2026-01 EUR`:       7000,
	}
	got := map[string]int64{}
	for k, v := range w.lines(t) {
		if strings.Contains(k, " sales ") && strings.HasPrefix(k, "northwind ") && !strings.HasSuffix(k, " events") {
			got[k] = v
		}
	}
	if d := differ(got, want); d != nil {
		t.Errorf("sales on statements: %v", d)
	}
	r, err := w.reconciler().Reconcile(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var became []string
	for _, b := range r.Became {
		became = append(became, strings.TrimSpace(fmt.Sprintf("%s %s %d", b.State, b.Why, b.Events)))
	}
	if want := []string{"priced  4", "sandbox  1", "unpriced failed_call_free 1", "unpriced other_currency 1"}; !slices.Equal(became, want) {
		t.Errorf("reconcile says %q, want %q", became, want)
	}
	for id, want := range map[string]string{
		"a": "on statement meridian-us.northwind.usd.2026-01, line 2: Sales | on statement meridian-us.northwind.usd.2026-01, line 4: Share; 100.00 of it at 0% (first 1,000)",
		"d": "unpriced: it is in GBP and contract northwind-all v1 in USD, which converts only EUR",
	} {
		found, err := w.events.Find(t.Context(), metering.KeyOf("billing", id))
		if err != nil || found.Event == nil {
			t.Fatal(found, err)
		}
		says, err := w.closer.TraceEvent(t.Context(), *found.Event)
		if got := strings.Join(says, " | "); err != nil || got != want {
			t.Errorf("event %s: %q, %v; want %q", id, got, err, want)
		}
	}
	var behind []string
	for n := range 2 {
		x, err := w.closer.Explain(t.Context(), "meridian-us.northwind.usd.2026-01", n+1, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range x.Events {
			behind = append(behind, x.Line.Contract+" "+e.ID)
		}
	}
	if want := []string{"northwind-all b", "northwind-scheduling a"}; !slices.Equal(behind, want) {
		t.Errorf("behind the sales lines: %q, want %q", behind, want)
	}
	var evidence billing.Evidence
	rs, err := w.db.Statements(t.Context(), jan, "northwind")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range rs {
		evidence.Unpriced += s.Evidence.Unpriced
		evidence.Sandbox += s.Evidence.Sandbox
		evidence.Counted += s.Evidence.Counted
	}
	if want := (billing.Evidence{Counted: 3, Unpriced: 2, Sandbox: 1}); evidence != want {
		t.Errorf("the pages count %+v, want %+v", evidence, want)
	}
}
