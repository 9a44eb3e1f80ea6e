package money

import (
	"fmt"
	"math/big"
	"slices"

	"github.com/shopspring/decimal"
)

// Split cuts total into parts proportional to weights by largest remainder.
//
// The parts always sum to total; a weight of zero gets nothing; equal remainders
// go to the earlier part. Weights must not be negative, and their sum must be
// positive unless total is zero.
func Split(total int64, weights []decimal.Decimal) ([]int64, error) {
	parts := make([]int64, len(weights))
	sum := decimal.Zero
	var least int32
	for i, w := range weights {
		if w.IsNegative() {
			return nil, fmt.Errorf("split %d: weight %d is negative: %s", total, i, w)
		}
		sum = sum.Add(w)
		least = min(least, w.Exponent())
	}
	if total == 0 {
		return parts, nil
	}
	if !sum.IsPositive() {
		return nil, fmt.Errorf("split %d: weights sum to %s, nobody to give it to", total, sum)
	}
	scale := func(d decimal.Decimal) *big.Int { return d.Shift(-least).BigInt() }
	whole := scale(sum)
	abs := new(big.Int).Abs(big.NewInt(total))
	type rest struct {
		at  int
		rem *big.Int
	}
	rests := make([]rest, 0, len(weights))
	left := new(big.Int).Set(abs)
	mags := make([]*big.Int, len(weights))
	for i, w := range weights {
		q, r := new(big.Int).QuoRem(new(big.Int).Mul(abs, scale(w)), whole, new(big.Int))
		mags[i] = q
		left.Sub(left, q)
		if r.Sign() > 0 {
			rests = append(rests, rest{i, r})
		}
	}
	slices.SortStableFunc(rests, func(a, b rest) int { return b.rem.Cmp(a.rem) })
	for i := 0; left.Sign() > 0; i++ {
		mags[rests[i].at].Add(mags[rests[i].at], big.NewInt(1))
		left.Sub(left, big.NewInt(1))
	}
	for i, m := range mags {
		if total < 0 {
			m.Neg(m)
		}
		parts[i] = m.Int64()
	}
	return parts, nil
}
