package pricing

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/partner"
	"mete/period"
)

// hundred turns percent into a factor.
var hundred = decimal.NewFromInt(100)

// plainNumber is how a number is written: digits, optionally grouped by underscores,
// one point.
var plainNumber = regexp.MustCompile(`^[+-]?[0-9][0-9_]*(\.[0-9]+)?$`)

// number reads a decimal number from its text, never through floating point.
func (v value) number() (decimal.Decimal, bool) {
	s, ok := v.text()
	if !ok {
		return decimal.Zero, false
	}
	d, err := parseNumber(s)
	if err != nil {
		v.bad(err.Error(), "write it like 1_000_000 or 0.0004")
		return decimal.Zero, false
	}
	return d, true
}

func parseNumber(s string) (decimal.Decimal, error) {
	if !plainNumber.MatchString(s) || strings.HasSuffix(s, "_") || strings.Contains(s, "__") || strings.Contains(s, "_.") {
		return decimal.Zero, fmt.Errorf("%q is not a plain decimal number", clip(s))
	}
	return money.ParseDecimal(s)
}

// notNegative is a number of at least zero.
func (v value) notNegative() (decimal.Decimal, bool) {
	d, ok := v.number()
	if ok && d.IsNegative() {
		v.bad(fmt.Sprintf("%s is negative", d), "want zero or more")
		return decimal.Zero, false
	}
	return d, ok
}

// positive is a number above zero.
func (v value) positive() (decimal.Decimal, bool) {
	d, ok := v.number()
	if ok && !d.IsPositive() {
		v.bad(fmt.Sprintf("%s is not above zero", d), "want more than zero")
		return decimal.Zero, false
	}
	return d, ok
}

// whole is a whole number between the bounds.
func (v value) whole(least, most int) (int, bool) {
	d, ok := v.number()
	if !ok {
		return 0, false
	}
	if !d.IsInteger() || d.LessThan(decimal.NewFromInt(int64(least))) || d.GreaterThan(decimal.NewFromInt(int64(most))) {
		v.bad(fmt.Sprintf("%s is out of range", d), fmt.Sprintf("want a whole number from %d to %d", least, most))
		return 0, false
	}
	return int(d.IntPart()), true
}

// percent reads "15%" as 0.15; a bare number is refused because 15 and 0.15 are
// both taken for fifteen percent by somebody.
func (v value) percent() (decimal.Decimal, bool) {
	s, ok := v.text()
	if !ok {
		return decimal.Zero, false
	}
	num, found := strings.CutSuffix(s, "%")
	d, err := parseNumber(strings.TrimSpace(num))
	switch {
	case !found:
		v.bad(fmt.Sprintf("%q is no percentage", clip(s)), "write the % sign, such as 15%")
	case err != nil:
		v.bad(err.Error(), "write it like 15% or 2.5%")
	case d.IsNegative() || d.GreaterThan(hundred):
		v.bad(fmt.Sprintf("%s%% is out of range", d), "want 0% to 100%")
	default:
		return d.Shift(-2), true
	}
	return decimal.Zero, false
}

// points reads "+5 points" as 0.05.
func (v value) points() (decimal.Decimal, bool) {
	s, ok := v.text()
	if !ok {
		return decimal.Zero, false
	}
	num, found := strings.CutSuffix(s, " points")
	if !found {
		num, found = strings.CutSuffix(s, " point")
	}
	d, err := parseNumber(strings.TrimSpace(num))
	switch {
	case !found || err != nil || !strings.HasPrefix(s, "+") && !strings.HasPrefix(s, "-"):
		v.bad(fmt.Sprintf("%q is no move of a rate", clip(s)), "write it like +5 points or -2 points")
	case d.IsZero() || d.Abs().GreaterThan(hundred):
		v.bad(fmt.Sprintf("%q moves the rate by nothing or by more than 100 points", clip(s)), "")
	default:
		return d.Shift(-2), true
	}
	return decimal.Zero, false
}

// amount reads money of the contract's currency.
func (v value) amount(c money.Currency) (money.Amount, bool) {
	d, ok := v.notNegative()
	if !ok || c == "" { // without a currency the problem is reported there
		return money.Amount{}, false
	}
	a, err := money.Exact(d, c)
	if err != nil {
		v.bad(err.Error(), "")
		return a, false
	}
	return a, true
}

// date reads 2026-01-01.
func (v value) date() (period.Date, bool) {
	s, ok := v.text()
	if !ok {
		return period.Date{}, false
	}
	d, err := period.ParseDate(s)
	if err != nil {
		v.bad(err.Error(), "")
		return d, false
	}
	return d, true
}

// flag reads true or false.
func (v value) flag() bool {
	s, _ := v.oneOf("true", "false")
	return s == "true"
}

// id reads an identifier.
func (v value) id() (string, bool) {
	s, ok := v.text()
	if !ok {
		return "", false
	}
	if err := partner.CheckID(s); err != nil {
		v.bad(err.Error(), "")
		return "", false
	}
	return s, true
}

// Duration is a length of time as contracts name it: days or months, counted in the
// contract's zone.
type Duration struct {
	Days   int `json:"days,omitempty"`
	Months int `json:"months,omitempty"`
}

// IsZero reports whether no length is given.
func (d Duration) IsZero() bool { return d == Duration{} }

func (d Duration) String() string {
	switch {
	case d.Months == 1:
		return "1 month"
	case d.Months > 0:
		return fmt.Sprintf("%d months", d.Months)
	case d.Days == 1:
		return "1 day"
	}
	return fmt.Sprintf("%d days", d.Days)
}

// durationForm is "90 days" or "12 months".
var durationForm = regexp.MustCompile(`^([0-9]{1,5}) (day|month|year)s?$`)

// duration reads "90 days", "12 months" or "2 years".
func (v value) duration() (Duration, bool) {
	s, ok := v.text()
	if !ok {
		return Duration{}, false
	}
	m := durationForm.FindStringSubmatch(s)
	if m == nil {
		v.bad(fmt.Sprintf("%q is no length of time", clip(s)), "write it like 90 days or 12 months")
		return Duration{}, false
	}
	n, _ := strconv.Atoi(m[1])
	switch {
	case n == 0:
		v.bad("a length of zero", "leave the field out instead")
		return Duration{}, false
	case m[2] == "day":
		return Duration{Days: n}, true
	case m[2] == "year":
		n *= 12
	}
	return Duration{Months: n}, true
}

// Percent is a factor for people: 0.15 is "15%".
func Percent(factor decimal.Decimal) string { return factor.Shift(2).String() + "%" }

// Points is a move of a rate for people: -0.02 is "-2 pts".
func Points(factor decimal.Decimal) string {
	sign := ""
	if factor.IsPositive() {
		sign = "+"
	}
	return sign + factor.Shift(2).String() + " pts"
}

// grouped is a quantity for people: 1,000,000 or 99.5.
func grouped(d decimal.Decimal) string { return money.Group(d.String()) }

// groupedMoney is an exact amount for people, with at least the currency's decimals.
func groupedMoney(d decimal.Decimal, c money.Currency) string {
	if d.Exponent() < 0 && !d.Equal(d.Truncate(c.Digits())) {
		return money.Group(d.String())
	}
	return money.Group(d.StringFixed(c.Digits()))
}
