// Package money holds amounts of money: a whole number of a currency's minor
// units, exact decimal rates, and the few operations that finance needs on them.
//
// It refuses to know what an amount is for, and it has no binary floating point.
// Overflow is an error, never a wrapped number. Read [Split] first: it is the
// one place where a sum is cut into parts.
package money

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/bojanz/currency"
	"github.com/shopspring/decimal"
)

// Currency is an ISO 4217 alphabetic code, such as USD.
type Currency string

// ErrOverflow says that a result does not fit an int64 number of minor units.
var ErrOverflow = errors.New("amount exceeds 9,223,372,036,854,775,807 minor units")

// ErrTooFine says that an amount has more decimals than its currency.
var ErrTooFine = errors.New("amount is finer than the currency's minor unit")

// ErrCurrency says that a code is not an ISO 4217 currency.
var ErrCurrency = errors.New("not an ISO 4217 currency code")

// ErrMixed says that two amounts of different currencies were put together.
var ErrMixed = errors.New("amounts of different currencies")

// ParseCurrency accepts an upper-case ISO 4217 code.
func ParseCurrency(code string) (Currency, error) {
	if !currency.IsValid(code) {
		return "", fmt.Errorf("currency %q: %w", code, ErrCurrency)
	}
	return Currency(code), nil
}

// Digits is the number of decimals of the currency's minor unit (ISO 4217), 2
// for an unknown code.
func (c Currency) Digits() int32 {
	d, ok := currency.GetDigits(string(c))
	if !ok {
		return 2
	}
	return int32(d)
}

// Amount is a signed number of minor units of one currency. Its JSON is
// {"amount":"12.34","currency":"USD"}: text, so that no reader rounds it.
type Amount struct {
	Minor    int64
	Currency Currency
}

// New makes an amount from minor units.
func New(minor int64, c Currency) Amount { return Amount{Minor: minor, Currency: c} }

// Parse reads a decimal number such as "1200.50" or "1_200.50" as an amount.
// It fails with [ErrTooFine] when the text has more decimals than the currency.
func Parse(text string, c Currency) (Amount, error) {
	d, err := ParseDecimal(text)
	if err != nil {
		return Amount{}, err
	}
	return Exact(d, c)
}

// ParseDecimal reads a plain decimal number: digits, one point, underscores as
// separators, no exponent.
func ParseDecimal(text string) (decimal.Decimal, error) {
	t := strings.ReplaceAll(strings.TrimSpace(text), "_", "")
	if t == "" || len(t) > maxDecimalText || strings.ContainsAny(t, "eE") {
		return decimal.Decimal{}, fmt.Errorf("%q is not a plain decimal number of at most %d characters", text, maxDecimalText)
	}
	d, err := decimal.NewFromString(t)
	if err != nil {
		return decimal.Decimal{}, fmt.Errorf("%q is not a decimal number", text)
	}
	return d, nil
}

// maxDecimalText bounds the text of one number.
const maxDecimalText = 60

// Exact turns a decimal into an amount, failing with [ErrTooFine] or
// [ErrOverflow] where that would lose something.
func Exact(d decimal.Decimal, c Currency) (Amount, error) {
	m := d.Shift(c.Digits())
	if !m.IsInteger() {
		return Amount{}, fmt.Errorf("%s %s: %w", d, c, ErrTooFine)
	}
	return fromMinor(m, c)
}

func fromMinor(m decimal.Decimal, c Currency) (Amount, error) {
	b := m.BigInt()
	if !b.IsInt64() {
		return Amount{}, fmt.Errorf("%s minor units of %s: %w", m, c, ErrOverflow)
	}
	return Amount{b.Int64(), c}, nil
}

// Decimal is the amount in major units.
func (a Amount) Decimal() decimal.Decimal { return decimal.New(a.Minor, -a.Currency.Digits()) }

// IsZero reports whether no minor unit is left.
func (a Amount) IsZero() bool { return a.Minor == 0 }

// Neg is the amount with the other sign. The smallest int64 has no counterpart
// and fails in [Amount.Add]; here it panics, because no parsed amount reaches it.
func (a Amount) Neg() Amount {
	if a.Minor == math.MinInt64 {
		panic("money: internal error: negation of the smallest amount")
	}
	return Amount{-a.Minor, a.Currency}
}

// Add is a + b. It fails with [ErrMixed] or [ErrOverflow].
func (a Amount) Add(b Amount) (Amount, error) {
	if a.Currency != b.Currency {
		return Amount{}, fmt.Errorf("%s + %s: %w", a, b, ErrMixed)
	}
	s := a.Minor + b.Minor
	if (s > a.Minor) != (b.Minor > 0) || s == math.MinInt64 {
		return Amount{}, fmt.Errorf("%s + %s: %w", a, b, ErrOverflow)
	}
	return Amount{s, a.Currency}, nil
}

// Sub is a − b, failing as [Amount.Add] does.
func (a Amount) Sub(b Amount) (Amount, error) { return a.Add(b.Neg()) }

// String is the amount with its currency's decimals and code: "-1200.50 USD".
func (a Amount) String() string { return a.Plain() + " " + string(a.Currency) }

// Plain is the amount without separators or code: "-1200.50".
func (a Amount) Plain() string { return a.Decimal().StringFixed(a.Currency.Digits()) }

// Grouped is the amount for people, with thousands separated: "-1,200.50".
func (a Amount) Grouped() string { return Group(a.Plain()) }

// Group separates the thousands of a plain decimal number by commas.
func Group(plain string) string {
	sign, rest := "", plain
	if strings.HasPrefix(rest, "-") {
		sign, rest = "-", rest[1:]
	}
	whole, frac, hasFrac := strings.Cut(rest, ".")
	var b strings.Builder
	b.WriteString(sign)
	for i, r := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	if hasFrac {
		b.WriteString("." + frac)
	}
	return b.String()
}

type amountJSON struct {
	Amount   string   `json:"amount"`
	Currency Currency `json:"currency"`
}

// MarshalJSON writes the amount as decimal text.
func (a Amount) MarshalJSON() ([]byte, error) {
	return json.Marshal(amountJSON{a.Plain(), a.Currency})
}

// UnmarshalJSON reads what MarshalJSON writes, strictly.
func (a *Amount) UnmarshalJSON(b []byte) error {
	var j amountJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	c, err := ParseCurrency(string(j.Currency))
	if err != nil {
		return err
	}
	*a, err = Parse(j.Amount, c)
	return err
}
