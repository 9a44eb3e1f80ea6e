package pricing

import (
	"math"
	"math/bits"

	"github.com/shopspring/decimal"

	"mete/money"
)

// Decimals of up to 18 digits, which are nearly all there are, are added, multiplied and
// compared here as whole numbers. Whatever does not fit is left to the library, which
// makes a big integer of each. The results are the same numbers.

// smallDigits is how many digits surely fit an int64.
const smallDigits = 18

// powers are those of ten that fit an int64.
var powers = func() (p [smallDigits + 1]int64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

// small is a decimal as coef × 10^exp, if its coefficient is one of [smallDigits].
func small(d decimal.Decimal) (coef int64, exp int32, ok bool) {
	if d.NumDigits() > smallDigits {
		return 0, 0, false
	}
	return d.CoefficientInt64(), d.Exponent(), true
}

// aligned are two small decimals as coefficients of one exponent, the lower one.
func aligned(a, b decimal.Decimal) (x, y int64, exp int32, ok bool) {
	x, e, okX := small(a)
	y, f, okY := small(b)
	if !okX || !okY {
		return 0, 0, 0, false
	}
	switch {
	case e > f:
		x, ok = scaled(x, e-f)
		return x, y, f, ok
	case f > e:
		y, ok = scaled(y, f-e)
	default:
		ok = true
	}
	return x, y, e, ok
}

// scaled is n × 10^by, if that fits.
func scaled(n int64, by int32) (int64, bool) {
	if by > smallDigits {
		return 0, n == 0
	}
	return times64(n, powers[by])
}

// times64 is the product of two numbers, if that fits.
func times64(a, b int64) (int64, bool) {
	hi, lo := bits.Mul64(magnitude(a), magnitude(b))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	if (a < 0) != (b < 0) {
		return -int64(lo), true
	}
	return int64(lo), true
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

// plus64 is the sum of two numbers, if that fits.
func plus64(a, b int64) (int64, bool) {
	sum := a + b
	return sum, (sum > a) == (b > 0)
}

// plus is a + b.
func plus(a, b decimal.Decimal) decimal.Decimal {
	switch {
	case b.IsZero():
		return a
	case a.IsZero():
		return b
	}
	if x, y, exp, ok := aligned(a, b); ok {
		if sum, ok := plus64(x, y); ok {
			return decimal.New(sum, exp)
		}
	}
	return a.Add(b)
}

// minus is a − b.
func minus(a, b decimal.Decimal) decimal.Decimal {
	if b.IsZero() {
		return a
	}
	if x, y, exp, ok := aligned(a, b); ok {
		if sum, ok := plus64(x, -y); ok {
			return decimal.New(sum, exp)
		}
	}
	return a.Sub(b)
}

// product is a × b.
func product(a, b decimal.Decimal) decimal.Decimal {
	x, e, okX := small(a)
	y, f, okY := small(b)
	if okX && okY {
		if p, ok := times64(x, y); ok {
			return decimal.New(p, e+f)
		}
	}
	return a.Mul(b)
}

// isProduct reports whether a × b is c.
func isProduct(a, b, c decimal.Decimal) bool {
	x, e, okX := small(a)
	y, f, okY := small(b)
	z, g, okZ := small(c)
	if okX && okY && okZ && e+f == g {
		if p, ok := times64(x, y); ok {
			return p == z
		}
	}
	return a.Mul(b).Equal(c)
}

// sum is a sum of decimals that grows without making one of each.
type sum struct {
	coef int64
	exp  int32
	wide decimal.Decimal // the rest, of what did not fit
}

func (s *sum) add(d decimal.Decimal) {
	if x, e, ok := small(d); ok {
		at := *s
		switch {
		case e < at.exp:
			at.coef, ok = scaled(at.coef, at.exp-e)
			at.exp = e
		case e > at.exp:
			x, ok = scaled(x, e-at.exp)
		}
		if ok {
			if at.coef, ok = plus64(at.coef, x); ok {
				*s = at
				return
			}
		}
	}
	s.wide = s.wide.Add(d)
}

// equal reports whether the sum is d.
func (s *sum) equal(d decimal.Decimal) bool {
	if x, e, ok := small(d); ok && s.wide.IsZero() {
		switch {
		case s.exp == e:
			return s.coef == x
		case s.exp < e:
			if x, ok = scaled(x, e-s.exp); ok {
				return s.coef == x
			}
		default:
			if coef, ok := scaled(s.coef, s.exp-e); ok {
				return coef == x
			}
		}
	}
	return s.decimal().Equal(d)
}

func (s *sum) decimal() decimal.Decimal { return plus(decimal.New(s.coef, s.exp), s.wide) }

// rounded is d at that many decimals, as a whole number of the last one, if it is small.
// It rounds as [money.RoundDecimal] does.
func rounded(d decimal.Decimal, places int32, mode money.Mode) (int64, bool) {
	x, e, ok := small(d)
	if !ok {
		return 0, false
	}
	drop := -places - e
	if drop <= 0 {
		return scaled(x, -drop)
	}
	if drop > smallDigits {
		return 0, false
	}
	whole, rest := x/powers[drop], magnitude(x%powers[drop])
	half := uint64(powers[drop]) / 2 // a power of ten from 10 on is even
	up := false
	switch mode {
	case money.HalfEven:
		up = rest > half || rest == half && whole%2 != 0
	case money.Up:
		up = rest > 0
	case money.Down:
	default:
		up = rest >= half
	}
	if up && x < 0 {
		return whole - 1, true
	}
	if up {
		return whole + 1, true
	}
	return whole, true
}

// within reports whether a and b differ by less than one in that decimal.
func within(a, b decimal.Decimal, places int32) bool {
	if x, y, exp, ok := aligned(a, b); ok && exp <= -places {
		unit, okUnit := scaled(1, -places-exp)
		if off, ok := plus64(x, -y); ok && okUnit {
			return magnitude(off) < magnitude(unit)
		}
	}
	return a.Sub(b).Abs().LessThan(decimal.New(1, -places))
}
