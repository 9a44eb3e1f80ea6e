package money

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

var drawCurrency = rapid.SampledFrom([]Currency{"USD", "EUR", "JPY", "KWD", "CHF"})

// decimals are numbers with up to six decimals.
var decimals = rapid.Custom(func(t *rapid.T) decimal.Decimal {
	return decimal.New(rapid.Int64Range(-1e15, 1e15).Draw(t, "digits"), -int32(rapid.IntRange(0, 6).Draw(t, "places")))
})

func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.Int64().Draw(t, "total")
		if total == math.MinInt64 {
			total++
		}
		weights := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) decimal.Decimal {
			return decimal.New(rapid.Int64Range(0, 1e9).Draw(t, "weight"), -int32(rapid.IntRange(0, 9).Draw(t, "places")))
		}), 0, 20).Draw(t, "weights")
		sum := new(big.Rat)
		for _, w := range weights {
			sum.Add(sum, w.Rat())
		}
		parts, err := Split(total, weights)
		if sum.Sign() == 0 && total != 0 {
			if err == nil {
				t.Fatal("split among nobody")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		back := new(big.Int)
		for i, p := range parts {
			back.Add(back, big.NewInt(p))
			if weights[i].IsZero() && p != 0 {
				t.Fatalf("weight %d is zero and gets %d", i, p)
			}
			if total != 0 { // each part is its exact share cut or raised to a whole unit
				exact := new(big.Rat).Mul(weights[i].Rat(), new(big.Rat).SetInt64(total))
				exact.Quo(exact, sum)
				diff := exact.Sub(exact, new(big.Rat).SetInt64(p))
				if diff.Abs(diff).Cmp(big.NewRat(1, 1)) >= 0 {
					t.Fatalf("part %d is %d, a whole unit or more off its share", i, p)
				}
			}
			for j := range parts {
				if weights[i].GreaterThan(weights[j]) && abs(parts[i]) < abs(parts[j]) {
					t.Fatalf("weight %s gets %d, weight %s gets %d", weights[i], parts[i], weights[j], parts[j])
				}
			}
		}
		if back.Cmp(big.NewInt(total)) != 0 {
			t.Fatalf("parts sum to %s, not %d", back, total)
		}
		// The other sign gives the mirror image.
		mirror, err := Split(-total, weights)
		if err != nil {
			t.Fatal(err)
		}
		for i := range parts {
			if mirror[i] != -parts[i] {
				t.Fatalf("-%d: part %d is %d, not %d", total, i, mirror[i], -parts[i])
			}
		}
	})
}

func abs(n int64) int64 { return max(n, -n) }

func TestSplitByHand(t *testing.T) {
	w := func(ws ...string) []decimal.Decimal {
		var out []decimal.Decimal
		for _, s := range ws {
			d, _ := decimal.NewFromString(s)
			out = append(out, d)
		}
		return out
	}
	for _, tt := range []struct {
		total   int64
		weights []decimal.Decimal
		want    []int64
	}{
		{100, w("1", "1", "1"), []int64{34, 33, 33}},
		{-100, w("1", "1", "1"), []int64{-34, -33, -33}},
		{5, w("0", "0.5", "0.5"), []int64{0, 3, 2}},
		{1, w("1", "2"), []int64{0, 1}},
		{0, w("0", "0"), []int64{0, 0}},
		{math.MaxInt64, w("1"), []int64{math.MaxInt64}},
	} {
		got, err := Split(tt.total, tt.weights)
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("Split(%d, %v) = %v, want %v", tt.total, tt.weights, got, tt.want)
			}
		}
	}
	if _, err := Split(1, w("2", "-1")); err == nil || err.Error() != "split 1: weight 1 is negative: -1" {
		t.Error(err)
	}
	if _, err := Split(1, nil); err == nil || err.Error() != "split 1: weights sum to 0, nobody to give it to" {
		t.Error(err)
	}
}

// Rounding against its definition in big-integer fractions.
func TestRounding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := decimals.Draw(t, "number")
		places := int32(rapid.IntRange(0, 4).Draw(t, "places"))
		scaled := d.Shift(places).Rat()
		for _, m := range []Mode{HalfUp, HalfEven, Up, Down} {
			got := RoundDecimal(d, places, m)
			if !got.Shift(places).IsInteger() {
				t.Fatalf("%s %s to %d places is %s", m, d, places, got)
			}
			if want := roundRat(scaled, m); got.Shift(places).BigInt().Cmp(want) != 0 {
				t.Fatalf("%s %s to %d places is %s, want %s units", m, d, places, got, want)
			}
			if mirror := RoundDecimal(d.Neg(), places, m); !mirror.Equal(got.Neg()) {
				t.Fatalf("%s is not the same on both sides of zero: %s, %s", m, got, mirror)
			}
			if again := RoundDecimal(got, places, m); !again.Equal(got) {
				t.Fatalf("%s: rounding %s again gives %s", m, got, again)
			}
		}
	})
}

func roundRat(r *big.Rat, m Mode) *big.Int {
	whole, rest := new(big.Int).QuoRem(new(big.Int).Abs(r.Num()), r.Denom(), new(big.Int))
	half := new(big.Int).Lsh(rest, 1).Cmp(r.Denom())
	up := m == Up && rest.Sign() > 0 ||
		m == HalfUp && half >= 0 ||
		m == HalfEven && (half > 0 || half == 0 && whole.Bit(0) == 1)
	if up {
		whole.Add(whole, big.NewInt(1))
	}
	if r.Sign() < 0 {
		whole.Neg(whole)
	}
	return whole
}

func TestAmountsSurviveText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := New(rapid.Int64().Draw(t, "minor"), drawCurrency.Draw(t, "currency"))
		if back, err := Parse(a.Plain(), a.Currency); err != nil || back != a {
			t.Fatalf("%s read again: %v, %v", a.Plain(), back, err)
		}
		if back, err := Parse(strings.ReplaceAll(a.Grouped(), ",", "_"), a.Currency); err != nil || back != a {
			t.Fatalf("%s read again: %v, %v", a.Grouped(), back, err)
		}
		if back, err := Exact(a.Decimal(), a.Currency); err != nil || back != a {
			t.Fatalf("%s: %v, %v", a, back, err)
		}
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var back Amount
		if err := json.Unmarshal(b, &back); err != nil || back != a {
			t.Fatalf("%s read again: %v, %v", b, back, err)
		}
	})
}

// Addition is that of whole numbers, or an error; never a wrapped number.
func TestAddition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := New(rapid.Int64().Draw(t, "a"), "USD"), New(rapid.Int64().Draw(t, "b"), "USD")
		want := new(big.Int).Add(big.NewInt(a.Minor), big.NewInt(b.Minor))
		got, err := a.Add(b)
		if want.IsInt64() && want.Int64() != math.MinInt64 {
			if err != nil || got.Minor != want.Int64() {
				t.Fatalf("%s + %s = %v, %v", a, b, got, err)
			}
		} else if !errors.Is(err, ErrOverflow) {
			t.Fatalf("%s + %s = %v, %v", a, b, got, err)
		}
	})
	if _, err := New(1, "USD").Add(New(1, "EUR")); !errors.Is(err, ErrMixed) {
		t.Error(err)
	}
	if d, err := New(5, "USD").Sub(New(7, "USD")); err != nil || d != New(-2, "USD") {
		t.Error(d, err)
	}
}

func TestTexts(t *testing.T) {
	for text, want := range map[string]string{
		"":                            `"" is not a plain decimal number of at most 60 characters`,
		"1e3":                         `"1e3" is not a plain decimal number of at most 60 characters`,
		"1,000":                       `"1,000" is not a decimal number`,
		"0.001":                       "0.001 USD: amount is finer than the currency's minor unit",
		"1" + strings.Repeat("0", 18): "100000000000000000000 minor units of USD: amount exceeds 9,223,372,036,854,775,807 minor units",
	} {
		if _, err := Parse(text, "USD"); err == nil || err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	for a, want := range map[Amount]string{
		New(-120050, "USD"):   "-1,200.50",
		New(5, "USD"):         "0.05",
		New(1234567, "JPY"):   "1,234,567",
		New(-999, "KWD"):      "-0.999",
		New(100000000, "USD"): "1,000,000.00",
	} {
		if a.Grouped() != want {
			t.Errorf("%v is shown as %s, want %s", a, a.Grouped(), want)
		}
	}
	if _, err := ParseCurrency("usd"); err == nil || err.Error() != `currency "usd": not an ISO 4217 currency code` {
		t.Error(err)
	}
	if _, err := ParseMode("half"); err == nil || err.Error() != `rounding mode "half": want half_up, half_even, up or down` {
		t.Error(err)
	}
	if m, err := ParseMode(""); m != HalfUp || err != nil {
		t.Error(m, err)
	}
	var a Amount
	for _, bad := range []string{`{"amount":1.5,"currency":"USD"}`, `{"amount":"1.5","currency":"XXY"}`, `{"amount":"x","currency":"USD"}`} {
		if err := json.Unmarshal([]byte(bad), &a); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

// What Parse accepts is exactly that number; nothing makes it panic.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"1_200.50", "-0.01", "+3", "1e9", "..", "_", "9223372036854775807", "0x1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := Parse(text, "USD")
		if err != nil {
			return
		}
		r, ok := new(big.Rat).SetString(strings.ReplaceAll(strings.TrimSpace(text), "_", ""))
		if !ok || r.Cmp(a.Decimal().Rat()) != 0 {
			t.Fatalf("%q was read as %s", text, a)
		}
	})
}
