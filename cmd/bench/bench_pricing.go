package main

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
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

// pricingRows are the scope instances of one month, and pricingCases how many random ones
// are held against the peer before anything is measured.
const (
	pricingRows  = 2000
	pricingCases = 1_000_000
)

// ladder is three steps of a graduated fee.
type ladder struct {
	to   [2]string // the last step is open
	unit [3]string
}

// usualLadder is what is measured.
var usualLadder = ladder{[2]string{"100", "1000"}, [3]string{"0", "0.0004", "0.00025"}}

func (l ladder) contract() string {
	return fmt.Sprintf(`contract: bench
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
    price: {model: graduated, steps: [{to: %s, unit: %s}, {to: %s, unit: %s}, {unit: %s}]}
`, l.to[0], l.unit[0], l.to[1], l.unit[1], l.unit[2])
}

// benchPricing prices a month of a contract per practice: a priced row is one
// practice with its own tier walk, rounding and complete line. The peer walks the
// same steps with math/big.Rat and keeps only the amount.
func benchPricing(ctx context.Context, _ bool, emit func(Result)) error {
	began := time.Now()
	if err := agree(ctx); err != nil {
		return err
	}
	emit(Result{Name: "cases in which both agree", Value: pricingCases, Note: fmt.Sprintf(
		"random ladders and quantities, whole and with up to six decimals, to the cent · %.0fs", time.Since(began).Seconds())})
	for _, of := range []struct {
		name   string
		places int32
	}{{"priced lines, whole quantities", 0}, {"priced lines, quantities with six decimals", 6}} {
		var quantities []decimal.Decimal
		for i := range int64(pricingRows) {
			quantities = append(quantities, decimal.New(50+i*7%4000, 0).Add(decimal.New(i*123_457%1_000_000, -6)).Truncate(of.places))
		}
		in, err := pricingInput(usualLadder, quantities)
		if err != nil {
			return err
		}
		ours, allocs, err := rate(ctx, pricingRows, func() error {
			_, err := pricing.Price(in)
			return err
		})
		if err != nil {
			return err
		}
		rats, steps := fractions(quantities), usualLadder.fractions()
		peer, _, err := rate(ctx, pricingRows, func() error {
			for _, q := range rats {
				steps.fee(q)
			}
			return nil
		})
		if err != nil {
			return err
		}
		emit(Result{Name: of.name, Value: ours, Unit: "/s", Allocs: allocs, Limit: Limit{"math/big.Rat, amount only", peer},
			Note: "graduated usage fee per practice, one core, complete line with derivation"})
	}
	return nil
}

// agree prices random months and holds every line against the peer.
func agree(ctx context.Context) error {
	random := rand.New(rand.NewPCG(1, 2))
	for done := 0; done < pricingCases; done += pricingRows {
		if err := ctx.Err(); err != nil {
			return err
		}
		first := 1 + random.Int64N(5000)
		l := ladder{
			to:   [2]string{decimal.New(first, -random.Int32N(3)).String(), decimal.New(first+1+random.Int64N(100_000), 0).String()},
			unit: [3]string{price(random), price(random), price(random)},
		}
		quantities := make([]decimal.Decimal, pricingRows)
		for i := range quantities {
			quantities[i] = decimal.New(1+random.Int64N(1_000_000_000_000), -random.Int32N(7))
		}
		in, err := pricingInput(l, quantities)
		if err != nil {
			return err
		}
		res, err := pricing.Price(in)
		if err != nil {
			return err
		}
		if len(res.Lines) != pricingRows {
			return fmt.Errorf("priced %d lines, want %d", len(res.Lines), pricingRows)
		}
		steps := l.fractions()
		for i, line := range res.Lines { // customers are numbered, lines in their order
			if want := steps.fee(quantities[i].Rat()); line.Amount.Minor != -want {
				return fmt.Errorf("%s of %v: priced %d minor units, the peer says %d", quantities[i], l, -line.Amount.Minor, want)
			}
		}
	}
	return nil
}

// price is a random one of up to six decimals, now and then nothing.
func price(random *rand.Rand) string {
	return decimal.New(max(0, random.Int64N(20_000)-2_000), -random.Int32N(7)).String()
}

func pricingInput(l ladder, quantities []decimal.Decimal) (pricing.Input, error) {
	terms, err := pricing.ParseTerms("bench.yaml", []byte(l.contract()))
	if err != nil {
		return pricing.Input{}, err
	}
	terms.Version = 1
	m := period.Month{Year: 2026, Month: time.March}
	seg := pricing.Segment{Terms: terms, Period: m.In(time.UTC)}
	for i, q := range quantities {
		seg.Usage = append(seg.Usage, metering.Usage{App: "bench-app", Customer: partner.CustomerID(fmt.Sprintf("practice-%05d", i)),
			Type: metering.UsageAPI, Class: metering.API, Status: 200, Count: 1, Quantity: q})
	}
	return pricing.Input{
		Group: "bench", Month: m, Segments: []pricing.Segment{seg},
		Meters:   []metering.Meter{{ID: "calls", Type: metering.UsageAPI, Class: metering.API, Aggregate: metering.AggregateQuantity}},
		Apps:     []partner.App{{ID: "bench-app", Partner: "bench"}},
		Partners: []partner.Partner{{ID: "bench", Name: "Bench"}},
	}, nil
}

func fractions(ds []decimal.Decimal) []*big.Rat {
	rats := make([]*big.Rat, len(ds))
	for i, d := range ds {
		rats[i] = d.Rat()
	}
	return rats
}

// ratLadder is a ladder in exact fractions.
type ratLadder struct{ to, unit []*big.Rat }

func (l ladder) fractions() ratLadder {
	var r ratLadder
	for _, s := range l.to {
		r.to = append(r.to, decimal.RequireFromString(s).Rat())
	}
	for _, s := range l.unit {
		r.unit = append(r.unit, decimal.RequireFromString(s).Rat())
	}
	return r
}

// fee walks the steps with exact fractions and rounds half up to cents.
func (l ratLadder) fee(quantity *big.Rat) int64 {
	fee, from := new(big.Rat), new(big.Rat)
	for i, unit := range l.unit {
		upTo := quantity
		if i < len(l.to) && l.to[i].Cmp(quantity) < 0 {
			upTo = l.to[i]
		}
		if upTo.Cmp(from) > 0 {
			in := new(big.Rat).Sub(upTo, from)
			fee.Add(fee, in.Mul(in, unit))
			from = upTo
		}
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
