package money

import (
	"fmt"

	"github.com/shopspring/decimal"
)

// Mode says what happens to the part below the last kept decimal.
type Mode string

// The rounding modes a contract may name. Half-up is half away from zero, the
// commercial rule; up and down are away from and towards zero.
const (
	HalfUp   Mode = "half_up"
	HalfEven Mode = "half_even"
	Up       Mode = "up"
	Down     Mode = "down"
)

// ParseMode reads a rounding mode by name; empty is [HalfUp].
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case "":
		return HalfUp, nil
	case HalfUp, HalfEven, Up, Down:
		return m, nil
	}
	return "", fmt.Errorf("rounding mode %q: want half_up, half_even, up or down", s)
}

// RoundDecimal rounds d to the given number of decimals.
func RoundDecimal(d decimal.Decimal, places int32, m Mode) decimal.Decimal {
	switch m {
	case HalfEven:
		return d.RoundBank(places)
	case Up:
		return d.RoundUp(places)
	case Down:
		return d.RoundDown(places)
	}
	return d.Round(places)
}

// Round rounds d to the currency's minor unit. It fails with [ErrOverflow].
func Round(d decimal.Decimal, c Currency, m Mode) (Amount, error) {
	return fromMinor(RoundDecimal(d, c.Digits(), m).Shift(c.Digits()), c)
}
