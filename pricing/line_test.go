package pricing_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"mete/metering"
	"mete/period"
	"mete/pricing"
)

// What a partner reads on the lines of a first month, and how the amounts came about.
func TestLinesReadWell(t *testing.T) {
	text, err := os.ReadFile("testdata/design/northwind-scheduling.yaml")
	if err != nil {
		t.Fatal(err)
	}
	terms := parse(t, string(text))
	sale := tx(metering.SalePaid, "s", time.Date(2026, 1, 9, 12, 0, 0, 0, time.UTC), "1200000.00")
	sale.Data.App = "northwind-scheduler"
	used := calls("150000", "c1")
	used.App, used.Class = "northwind-scheduler", metering.API
	in := month("2026-01", []*pricing.Terms{terms}, []metering.Transaction{sale}, used)
	in.Meters = []metering.Meter{{ID: "api_calls", Description: "API calls", Type: metering.UsageAPI, Aggregate: metering.AggregateCount}}
	var b strings.Builder
	for _, l := range price(t, in).Lines {
		base := ""
		if l.Base != nil {
			base = " base " + l.Base.Grouped()
		}
		fmt.Fprintf(&b, "%s | count %d%s | rate %s | %s %v\n", l.Text, l.Count, base, l.Rate, l.Amount.Grouped(), l.Notes)
		for _, s := range l.Derivation {
			fmt.Fprintf(&b, "    %s: %s × %s = %s\n", s.What, s.Of, s.Times, s.Is)
		}
	}
	want := `Sales | count 1 | rate  | 1,200,000.00 []
    Sales, before tax: 1200000 × 1 = 1200000
Share; 1,000,000.00 of it at 0% (first 1,000,000) | count 0 base 200,000.00 | rate 15% | -30,000.00 []
    first 1,000,000.00 at 0%: 1000000 × 0 = 0
    above 1,000,000.00 at 15%: 200000 × -0.15 = -30000
API calls, first 100,000 free | count 150000 | rate 0.0004 to 0.00025 | -20.00 []
    first 100,000 at 0: 100000 × 0 = 0
    100,000 to 1,000,000 at 0.0004: 50000 × -0.0004 = -20
Quality | count 0 | rate  | 0.00 [not scored: no scorecard (northwind-scheduler)]
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// What is read on lines of rules that follow others, of steps, and of time.
func TestLinesOfOtherKindsReadWell(t *testing.T) {
	terms := parse(t, strings.Replace(doc(
		"{id: store, kind: share, of: sale.paid, platform: {tiers: {mode: volume, window: quarter}, steps: [{to: 1_000, rate: 20%}, {rate: 10%}]}}",
		"{id: seats, kind: usage_fee, meter: added, quantity: {as: prorated, less: removed}, price: {model: graduated, steps: [{to: 5, unit: 10, flat: 1.00}, {unit: 5}]}}",
		"{id: packs, kind: usage_fee, meter: m, quantity: {divide_by: 1_000, round: up, free: 1}, price: {model: package, size: 10, price: 4.00}}",
		"{id: plan, kind: fixed_fee, class: support, due: monthly on 10, prorate: day, amount: 31.00}",
		"{id: most, kind: cap, on: [packs], window: quarter, maximum: 5.00}",
		"{id: least, kind: commitment, on: [seats, plan], minimum: 200.00, prorate: day}"), "from: 2015-01-01", "from: 2026-03-06", 1))
	at := time.Date(2026, 3, 12, 12, 0, 0, 0, time.UTC)
	in := month("2026-03", []*pricing.Terms{terms}, []metering.Transaction{
		tx(metering.SalePaid, "s", at, "800.00"), tx(metering.SalePaid, "t", at.Add(time.Hour), "300.00"), change("c", at, "7")}, calls("12345", "c1"))
	in.Meters = caseMeters()
	in.Before = []pricing.Total{
		{Contract: "c", Rule: "store", What: "gross", Scope: "partner:quill", Since: period.Date{Year: 2026, Month: 1, Day: 1}, Value: dec("100")},
		{Contract: "c", Rule: "store", What: "rated", Scope: "partner:quill", Since: period.Date{Year: 2026, Month: 1, Day: 1}, Value: dec("100")},
	}
	var b strings.Builder
	for _, l := range price(t, in).Lines {
		if l.Part == "sales" {
			continue
		}
		if step := l.LadderStep(); l.Part == "share" && step != "above 1,000.00, all at 10%" {
			t.Errorf("the share stands on %q", step)
		}
		fmt.Fprintf(&b, "%s | rate %s | %s %v\n", l.Text, l.Rate, l.Amount.Grouped(), l.Notes)
		for _, s := range l.Derivation {
			fmt.Fprintf(&b, "    %s: %s × %s = %s\n", s.What, s.Of, s.Times, s.Is)
		}
	}
	want := `Share | rate 20% to 10% | -100.00 []
    first 1,000.00, all at 20%: -100 × -0.2 = 20
    above 1,000.00, all at 10%: 1200 × -0.1 = -120
added | rate 10 to 5 | -39.71 []
    first 5 at 10, 20 of 31 days: 3.225806451613 × -10 = -32.25806451613
    above 5 at 5, 20 of 31 days: 1.290322580645 × -5 = -6.451612903225
    flat fee of first 5: 1 × -1 = -1
m | rate 4 per 10 | -8.00 [12,345 ÷ 1,000, rounded up to 1, 1 free: 12]
    packages of 10 at 4: 2 × -4 = -8
Support fee | rate  | -35.43 []
    6 Mar 2026 to 9 Mar 2026: 4 of 28 days of 31.00: 4.428571428571 × -1 = -4.428571428571
    10 Mar 2026 to 9 Apr 2026: 31 × -1 = -31
At most 5.00 a quarter | rate  | 3.00 [on packs -8.00]
    charges of the quarter beyond 5.00: 3 × 1 = 3
Minimum of 200.00 a month | rate  | -92.60 [on plan -35.43, seats -39.71]
    minimum of 200.00, 26 of 31 days: 167.741935483871 × -1 = -167.741935483871
    charged for it in the month: 75.14 × 1 = 75.14
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
