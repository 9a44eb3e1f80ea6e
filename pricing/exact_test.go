package pricing

import (
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"mete/money"
)

// anyDecimal draws numbers short and long, so that both ways of reckoning are taken.
func anyDecimal() *rapid.Generator[decimal.Decimal] {
	return rapid.Custom(func(t *rapid.T) decimal.Decimal {
		d := decimal.New(rapid.Int64().Draw(t, "coefficient"), rapid.Int32Range(-24, 6).Draw(t, "exponent"))
		if rapid.Bool().Draw(t, "short") {
			d = decimal.New(rapid.Int64Range(-1_000_000, 1_000_000).Draw(t, "short coefficient"), rapid.Int32Range(-9, 3).Draw(t, "short exponent"))
		}
		if rapid.Bool().Draw(t, "long") {
			d = d.Mul(decimal.New(rapid.Int64().Draw(t, "factor"), 0))
		}
		return d
	})
}

// TestExact holds what is reckoned as whole numbers against the library.
func TestExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyDecimal().Draw(t, "a"), anyDecimal().Draw(t, "b")
		for _, c := range []struct {
			what      string
			got, want decimal.Decimal
		}{
			{"+", plus(a, b), a.Add(b)},
			{"-", minus(a, b), a.Sub(b)},
			{"*", product(a, b), a.Mul(b)},
		} {
			if !c.got.Equal(c.want) || c.got.String() != c.want.String() {
				t.Fatalf("%s %s %s is %s, not %s", a, c.what, b, c.want, c.got)
			}
		}
		places := rapid.Int32Range(0, 4).Draw(t, "places")
		mode := rapid.SampledFrom([]money.Mode{money.HalfUp, money.HalfEven, money.Up, money.Down}).Draw(t, "mode")
		near := decimal.New(rapid.Int64Range(-2000, 2000).Draw(t, "near"), -places-rapid.Int32Range(0, 3).Draw(t, "finer"))
		for _, d := range []decimal.Decimal{a, near} {
			if got, ok := rounded(d, places, mode); ok && !decimal.New(got, -places).Equal(money.RoundDecimal(d, places, mode)) {
				t.Fatalf("%s to %d decimals, %s: %d", d, places, mode, got)
			}
			for _, x := range []decimal.Decimal{b, d, d.Add(decimal.New(1, -places)), d.Sub(decimal.New(1, -places)), d.Add(decimal.New(9, -places-1))} {
				if got, want := within(d, x, places), d.Sub(x).Abs().LessThan(decimal.New(1, -places)); got != want {
					t.Fatalf("%s and %s differ by less than one in decimal %d: said %t, is %t", d, x, places, got, want)
				}
			}
		}
		c := rapid.SampledFrom([]decimal.Decimal{a.Mul(b), a, b, a.Mul(b).Add(decimal.New(1, -30)), a.Mul(b).Neg()}).Draw(t, "c")
		if got, want := isProduct(a, b, c), a.Mul(b).Equal(c); got != want {
			t.Fatalf("%s × %s = %s: said %t, is %t", a, b, c, got, want)
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		var s sum
		want := decimal.Zero
		for _, d := range rapid.SliceOfN(anyDecimal(), 0, 8).Draw(t, "numbers") {
			s.add(d)
			want = want.Add(d)
		}
		if !s.equal(want) || !s.decimal().Equal(want) {
			t.Fatalf("the sum is %s, not %s", want, s.decimal())
		}
		if s.equal(want.Add(decimal.New(1, -25))) {
			t.Fatalf("%s is not told from a sum that is a little more", want)
		}
	})
}
