package metering

import (
	"math/big"
	"strconv"

	"github.com/shopspring/decimal"
)

// Bounds of the text of one number. They keep a short text such as 1e999999999 from
// becoming a long number.
const (
	maxNumberText = 64
	maxExponent   = 40
	maxDigits     = 40
)

// parseDecimal reads the text of a JSON number exactly. The result has no trailing
// zeros behind the point and never a positive exponent, so that equal numbers are
// equal values.
func parseDecimal(b []byte) (decimal.Decimal, bool) {
	n, ok := scanDecimal(b)
	if !ok {
		return decimal.Decimal{}, false
	}
	if !n.big {
		return decimal.New(n.coef, n.exp), true
	}
	c, ok := new(big.Int).SetString(string(n.digits), 10)
	if !ok {
		return decimal.Decimal{}, false
	}
	if n.neg {
		c.Neg(c)
	}
	return decimal.NewFromBigInt(c, n.exp), true
}

// scanned is a number as coefficient and exponent, exp ≤ 0.
type scanned struct {
	coef   int64
	exp    int32
	big    bool // coef does not fit: digits and neg say it
	neg    bool
	digits []byte
}

// scanDecimal takes a number of the JSON grammar apart, without allocating unless it
// has more than 18 digits.
func scanDecimal(b []byte) (scanned, bool) {
	if len(b) == 0 || len(b) > maxNumberText {
		return scanned{}, false
	}
	var n scanned
	var space [maxNumberText + maxExponent]byte
	digits := space[:0]
	i := 0
	if b[i] == '-' {
		n.neg = true
		i++
	}
	whole := i
	for ; i < len(b) && isDigit(b[i]); i++ {
		digits = append(digits, b[i])
	}
	if i == whole || i > whole+1 && b[whole] == '0' {
		return scanned{}, false
	}
	exp := 0
	if i < len(b) && b[i] == '.' {
		i++
		frac := i
		for ; i < len(b) && isDigit(b[i]); i++ {
			digits = append(digits, b[i])
		}
		if i == frac {
			return scanned{}, false
		}
		exp = -(i - frac)
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		negative := false
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			negative = b[i] == '-'
			i++
		}
		first, e := i, 0
		for ; i < len(b) && isDigit(b[i]); i++ {
			if e = 10*e + int(b[i]-'0'); e > maxExponent {
				return scanned{}, false
			}
		}
		if i == first {
			return scanned{}, false
		}
		if negative {
			e = -e
		}
		exp += e
	}
	if i != len(b) {
		return scanned{}, false
	}
	for len(digits) > 1 && digits[0] == '0' {
		digits = digits[1:]
	}
	for exp < 0 && len(digits) > 1 && digits[len(digits)-1] == '0' {
		digits, exp = digits[:len(digits)-1], exp+1
	}
	if digits[0] == '0' && len(digits) == 1 {
		return scanned{}, true // zero has one form
	}
	for ; exp > 0; exp-- {
		digits = append(digits, '0')
	}
	if len(digits) > maxDigits || exp < -maxExponent {
		return scanned{}, false
	}
	n.exp = int32(exp)
	if len(digits) > 18 {
		n.big, n.digits = true, append([]byte(nil), digits...)
		return n, true
	}
	for _, c := range digits {
		n.coef = 10*n.coef + int64(c-'0')
	}
	if n.neg {
		n.coef = -n.coef
	}
	return n, true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// int64 is the number if it is whole and fits.
func (n scanned) int64() (int64, bool) {
	if n.exp != 0 {
		return 0, false
	}
	if !n.big {
		return n.coef, true
	}
	text := string(n.digits)
	if n.neg {
		text = "-" + text
	}
	v, err := strconv.ParseInt(text, 10, 64)
	return v, err == nil
}

// scaled is the number times 10^places, rounded towards minus infinity, if it fits.
func (n scanned) scaled(places int32) (int64, bool) {
	if n.big {
		return n.scaledBig(places)
	}
	v, exp := n.coef, n.exp+places
	for ; exp > 0; exp-- {
		if v > 922_337_203_685_477_580 || v < -922_337_203_685_477_580 {
			return 0, false
		}
		v *= 10
	}
	for ; exp < 0; exp++ {
		q := v / 10
		if v < 0 && v%10 != 0 {
			q--
		}
		v = q
	}
	return v, true
}

func (n scanned) scaledBig(places int32) (int64, bool) {
	v, ok := new(big.Int).SetString(string(n.digits), 10)
	if !ok {
		return 0, false
	}
	if n.neg {
		v.Neg(v)
	}
	exp := n.exp + places
	power := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(exp, -exp))), nil)
	if exp >= 0 {
		v.Mul(v, power)
	} else {
		v.Div(v, power) // towards minus infinity, as power > 0
	}
	return v.Int64(), v.IsInt64()
}

// normal is d without trailing zeros behind the point and without a positive
// exponent: the one form of its value.
func normal(d decimal.Decimal) decimal.Decimal {
	if d.IsZero() {
		return decimal.Decimal{}
	}
	exp := d.Exponent()
	if exp > 0 {
		return decimal.NewFromBigInt(d.BigInt(), 0)
	}
	if exp == 0 {
		return d
	}
	c, ten, rest, q := d.Coefficient(), big.NewInt(10), new(big.Int), new(big.Int)
	for exp < 0 {
		if q.QuoRem(c, ten, rest); rest.Sign() != 0 {
			break
		}
		c.Set(q)
		exp++
	}
	return decimal.NewFromBigInt(c, exp)
}

// places is the number of decimals that the value needs.
func places(d decimal.Decimal) int32 {
	if d.Exponent() >= 0 {
		return 0
	}
	if d.NumDigits() <= 18 {
		c, n := d.CoefficientInt64(), -d.Exponent()
		for n > 0 && c%10 == 0 {
			c /= 10
			n--
		}
		return n
	}
	return -normal(d).Exponent()
}

// appendDecimal writes the value as plain digits in its one form.
func appendDecimal(b []byte, d decimal.Decimal) []byte {
	exp := d.Exponent()
	if exp > 0 || exp < -18 || d.NumDigits() > 18 {
		return append(b, normal(d).String()...)
	}
	c := d.CoefficientInt64()
	if c == 0 {
		return append(b, '0')
	}
	for exp < 0 && c%10 == 0 {
		c /= 10
		exp++
	}
	if c < 0 {
		b = append(b, '-')
		c = -c
	}
	var space [20]byte
	digits := strconv.AppendInt(space[:0], c, 10)
	point := len(digits) + int(exp)
	if point <= 0 {
		b = append(b, '0')
	} else {
		b = append(b, digits[:point]...)
		digits = digits[point:]
	}
	if exp < 0 {
		b = append(b, '.')
		for ; point < 0; point++ {
			b = append(b, '0')
		}
		b = append(b, digits...)
	}
	return b
}
