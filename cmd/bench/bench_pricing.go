package main

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// benchSpan is how long each figure is measured at least.
const benchSpan = 2 * time.Second

const pricingContract = `contract: bench
partner: bench
apps: [bench-app]
currency: USD
zone: UTC
effective: {from: 2026-01-01}
rules:
  - id: calls
    kind: usage_fee
    meter: calls
    class: api
    per: customer
    price: {model: graduated, steps: [{to: 100, unit: 0}, {to: 1_000, unit: 0.0004}, {unit: 0.00025}]}
`

// benchPricing prices a month of a contract per practice: a priced row is one
// practice with its own tier walk, rounding and complete line. The peer walks the
// same steps with math/big.Rat and keeps only the amount.
func benchPricing(ctx context.Context, emit func(Result)) error {
	const rows = 2000
	in, quantities, err := pricingInput(rows)
	if err != nil {
		return err
	}
	res, err := pricing.Price(in)
	if err != nil {
		return err
	}
	if len(res.Lines) != rows {
		return fmt.Errorf("priced %d lines, want %d", len(res.Lines), rows)
	}
	for _, l := range res.Lines {
		if want := ratFee(quantities[l.Scope]); l.Amount.Minor != -want {
			return fmt.Errorf("%s: priced %d minor units, the peer says %d", l.Scope, l.Amount.Minor, -want)
		}
	}
	ours, allocs, err := rate(ctx, rows, func() error {
		_, err := pricing.Price(in)
		return err
	})
	if err != nil {
		return err
	}
	peer, _, err := rate(ctx, rows, func() error {
		for _, q := range quantities {
			ratFee(q)
		}
		return nil
	})
	if err != nil {
		return err
	}
	emit(Result{Name: "priced lines", Value: ours, Unit: "/s", Allocs: allocs, Limit: Limit{"math/big.Rat, amount only", peer},
		Note: "graduated usage fee per practice, one core, complete line with derivation"})
	return nil
}

func pricingInput(rows int) (pricing.Input, map[string]int64, error) {
	terms, err := pricing.ParseTerms("bench.yaml", []byte(pricingContract))
	if err != nil {
		return pricing.Input{}, nil, err
	}
	terms.Version = 1
	m := period.Month{Year: 2026, Month: time.March}
	seg := pricing.Segment{Terms: terms, Period: m.In(time.UTC)}
	quantities := map[string]int64{}
	for i := range rows {
		customer := partner.CustomerID(fmt.Sprintf("practice-%05d", i))
		n := int64(50 + i*7%4000)
		quantities["customer:"+string(customer)] = n
		seg.Usage = append(seg.Usage, metering.Usage{App: "bench-app", Customer: customer, Type: metering.UsageAPI, Class: metering.API, Status: 200, Count: n, Quantity: decimal.NewFromInt(n)})
	}
	return pricing.Input{
		Group: "bench", Month: m, Segments: []pricing.Segment{seg},
		Meters:   []metering.Meter{{ID: "calls", Type: metering.UsageAPI, Class: metering.API, Aggregate: metering.AggregateCount}},
		Apps:     []partner.App{{ID: "bench-app", Partner: "bench"}},
		Partners: []partner.Partner{{ID: "bench", Name: "Bench"}},
	}, quantities, nil
}

// ratFee walks the same steps with exact fractions and rounds half up to cents.
func ratFee(q int64) int64 {
	fee := new(big.Rat)
	var from int64
	for _, s := range []struct {
		to   int64
		unit *big.Rat
	}{{100, big.NewRat(0, 1)}, {1000, big.NewRat(4, 10000)}, {1 << 62, big.NewRat(25, 100000)}} {
		if in := min(q, s.to) - from; in > 0 {
			fee.Add(fee, new(big.Rat).Mul(big.NewRat(in, 1), s.unit))
		}
		from = s.to
	}
	fee.Mul(fee, big.NewRat(100, 1)).Add(fee, big.NewRat(1, 2))
	return new(big.Int).Quo(fee.Num(), fee.Denom()).Int64()
}

// rate runs fn over and over for benchSpan and says how many of its n operations it
// does in a second, and allocations for each.
func rate(ctx context.Context, n int, fn func() error) (perSecond, allocs float64, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, runs := time.Now(), 0
	for time.Since(began) < benchSpan {
		if err := errors.Join(ctx.Err(), fn()); err != nil {
			return 0, 0, err
		}
		runs++
	}
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	done := float64(runs * n)
	return done / took.Seconds(), float64(after.Mallocs-before.Mallocs) / done, nil
}
