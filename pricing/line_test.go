package pricing_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"mete/metering"
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
