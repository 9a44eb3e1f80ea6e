package pricing_test

import (
	"fmt"
	"testing"
	"time"

	"mete/metering"
	"mete/partner"
	"mete/pricing"
)

// BenchmarkPrice prices months of 1,000 scope instances; a line is one priced row: one
// instance of a ladder with its derivation, allocation and rounding.
func BenchmarkPrice(b *testing.B) {
	const n = 1000
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var sales []metering.Transaction
	var cells []metering.Usage
	for i := range n {
		s := tx(metering.SalePaid, fmt.Sprintf("%08d", i), at.Add(time.Duration(i)*time.Second), fmt.Sprintf("%d.%02d", 100+i%900, i%100))
		s.Customer = partner.CustomerID(fmt.Sprint("practice-", i))
		sales = append(sales, s)
		cells = append(cells, calls(fmt.Sprint(500+i), fmt.Sprint("practice-", i)))
	}
	for _, bb := range []struct {
		name, rule string
		in         func(*pricing.Terms) pricing.Input
	}{
		{"share/graduated", ladder("customer", "lifetime since 2015-01-01", "[{to: 200, rate: 0%}, {to: 500, rate: 15%}, {rate: 12%}]"),
			func(t *pricing.Terms) pricing.Input { return month("2026-03", []*pricing.Terms{t}, sales) }},
		{"share/one-line", ladder("partner", "lifetime since 2015-01-01", "[{to: 200, rate: 0%}, {to: 500, rate: 15%}, {rate: 12%}]"),
			func(t *pricing.Terms) pricing.Input { return month("2026-03", []*pricing.Terms{t}, sales) }},
		{"usage_fee/graduated", "{id: u, kind: usage_fee, meter: m, per: customer, price: {model: graduated, steps: [{to: 100, unit: 0}, {to: 1_000, unit: 0.0004}, {unit: 0.00025}]}}",
			func(t *pricing.Terms) pricing.Input { return month("2026-03", []*pricing.Terms{t}, nil, cells...) }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			in := bb.in(parse(b, doc(bb.rule)))
			b.ReportAllocs()
			rows := 0
			for b.Loop() {
				res, err := pricing.Price(in)
				if err != nil {
					b.Fatal(err)
				}
				rows = len(res.Lines)
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
			b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "instances/s")
		})
	}
}
