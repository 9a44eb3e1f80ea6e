package pricing

import (
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

func mustCompile(t testing.TB, text string) *Condition {
	t.Helper()
	c, err := compileCondition(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

func mustNumber(t interface{ Fatal(...any) }, text string) decimal.Decimal {
	d, err := parseNumber(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Numbers are what the text says, to the last digit and beyond what CEL's own hold.
func TestConditionNumbers(t *testing.T) {
	avail := mustNumber(t, "0.999")
	s := &Scorecard{Calls: 9007199254740993, Availability: &avail} // 2^53 + 1
	for text, want := range map[string]bool{
		"0.1 + 0.2 == 0.3":       true,
		"0.1 * 3 == 0.3":         true,
		"1 == 1.0":               true,
		"1 in [0.5, 1.00]":       true,
		"0.30 in [0.1 + 0.2]":    true,
		"availability >= 0.999":  true,
		"availability <= 0.999":  true,
		"availability > 0.999":   false,
		"availability < 0.999":   false,
		"availability != 0.9990": false,
		"availability > 0.99899999999999999999999999999999999999999999999":                           true,
		"availability < 0.99900000000000000000000000000000000000000000001":                           true,
		"calls == 9007199254740993":                                                                  true,
		"calls == 9007199254740992":                                                                  false,
		"calls < 9007199254740992.9999999999999999999999":                                            false,
		"18446744073709551616 > 18446744073709551615":                                                true, // past uint64
		"99999999999999999999999999999999999999999999999999 > calls":                                 true,
		"99999999999999999999999999999999 + 1 == 100000000000000000000000000000000":                  true,
		"9999999999999999999.5 * 9999999999999999999.5 == 99999999999999999990000000000000000000.25": true,
		"-9223372036854775809 < -9223372036854775808":                                                true,
		"-0.1 - -0.1 == 0":   true,
		"--1 == 1":           true,
		"- 1 == 0 - 1":       true,
		"-(-1) == 1":         true,
		"calls -1 < calls":   true,
		"2*-3 == -6":         true,
		"007 == 7":           true,
		"1 + 2 * 3 - 4 == 3": true,
		"10 - 5 - 3 == 2":    true,
		"certification.state == '1' || '0.10' == '0.10' && '0.1' != '0.10'": true, // no number in quotes
	} {
		if got := mustCompile(t, text).Holds(s); got != want {
			t.Errorf("%s is %v", text, got)
		}
	}
}

// What CEL knows besides is not said in contracts.
func TestConditionsAreNarrow(t *testing.T) {
	for text, want := range map[string]string{
		"calls == 1 ? true : false":           `at 11: "?" is not expected here; conditions know + - * only`,
		"calls % 2 == 1":                      `at 6: "%" is not expected here; conditions know + - * only`,
		"[1] == [1]":                          `at 0: "[" is not expected here; a list stands after in only`,
		"{1: 2} == {}":                        `at 0: "{" is not expected here`,
		"null == null":                        `at 0: "null" is not expected here`,
		"b'a' == b'a'":                        `at 0: "b" is not expected here`,
		"int(calls) == 1":                     "at 0: no measure is called int",
		"'a'.size() == 1":                     `at 8: "(" is not expected here`,
		"certification.state.matches('a')":    `at 27: "(" is not expected here`,
		"[1, 2].exists(x, x > 1)":             "is not expected here",
		"[1, 2].map(x, x * x) == [1, 4]":      "is not expected here",
		"timestamp('2026-01-01') == 1":        "no measure is called timestamp",
		"google.protobuf.Int64Value{} == 1":   `"{" is not expected here`,
		"certification['state'] == 'x'":       `at 13: "[" is not expected here`,
		"@number == 1":                        `at 0: "@" is not expected here`,
		"'''a 1''' == 'a'":                    "at 0: doubled quotes are not read",
		`"""a"1"2""" == 'a'`:                  "at 0: doubled quotes are not read",
		"calls > 1 // fine":                   "at 10: comments are not read",
		".5 < calls":                          `at 0: ".5" is not a plain decimal number`,
		"calls > 5.":                          `at 8: "5." is not a plain decimal number`,
		"calls > 1_000":                       `at 8: "1_000" is not a plain decimal number`,
		"calls > " + strings.Repeat("9", 61):  "is not a plain decimal number",
		"1 < 2 < 3":                           "at 0: < needs a number, not true or false",
		"calls == 'a'":                        "at 9: == needs a number, not text",
		"calls in ['a']":                      "at 9: in needs a list of numbers, not a list of text",
		"certification.state in ['a', 1]":     "at 29: the list needs text, not a number",
		"certification.state + 'a' == 'b'":    "at 0: + needs a number, not text",
		"certification > 1":                   "at 0: no measure is called certification",
		"incidents.opne > 1":                  "at 0: no measure is called incidents.opne; did you mean incidents.open?",
		"calls.x > 1":                         "at 0: no measure is called calls.x; did you mean calls?",
		"calls >\n\n 1 &&\n availabilty > 1":  "at 16: no measure is called availabilty; did you mean availability?",
		"certification.state == 'é' && callz": "at 31: no measure is called callz; did you mean calls?",
		"calls > 1)":                          `at 9: ")" is not expected here`,
		"(calls > 1]":                         `at 10: "]" is not expected here`,
		"§ > 1":                               `at 0: "§" is not expected here`,
	} {
		if _, err := compileCondition(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// The dearest conditions are answered, over any scorecard.
func TestConditionCost(t *testing.T) {
	s := &Scorecard{Certification: Certification{State: strings.Repeat("x", 1<<20)}}
	for text, want := range map[string]bool{
		strings.Repeat("1 in[]||", 61) + "true":                                   true,
		strings.Repeat("calls in[calls]&&", 29) + "true":                          true,
		strings.Repeat("1+", 240) + "1 == 241":                                    true,
		"1 in [" + strings.Repeat("0,", 240) + "2]":                               false,
		strings.Repeat("certification.state==certification.state&&", 11) + "true": true,
		strings.Repeat("!(", 30) + "calls == 1" + strings.Repeat(")", 30):         false,
		strings.Repeat("99999999999999999999*", 22) + "1 > 1":                     true,
		strings.Repeat("-", 490) + "1 == 1":                                       true,
	} {
		if got := mustCompile(t, text).Holds(s); got != want {
			t.Errorf("%s is %v", text, got)
		}
	}
}

// One compiled condition answers several goroutines.
func TestConditionIsShared(t *testing.T) {
	c := mustCompile(t, "calls * 2 > 100 && certification.state in ['valid', 'due'] && calls in [51, failed + 52, 53]")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range int64(200) {
				s := &Scorecard{Calls: n, Certification: Certification{State: []string{"due", "overdue"}[i%2]}}
				if got, want := c.Holds(s), i%2 == 0 && n >= 51 && n <= 53; got != want {
					t.Errorf("%d calls: %v", n, got)
				}
			}
		})
	}
	wg.Wait()
}

// drawn is a random condition and what it says, worked out in fractions beside it.
type drawn struct {
	text string
	num  *big.Rat
	yes  bool
}

func drawNumber(t *rapid.T, s *Scorecard, depth int) drawn {
	if depth == 0 {
		if rapid.Bool().Draw(t, "measure") {
			name := rapid.SampledFrom([]string{"calls", "failed", "availability", "within", "incidents.open", "certification.tier"}).Draw(t, "name")
			v, _ := measures[name].read(s)
			return drawn{text: name, num: v.(number).Rat()}
		}
		text := rapid.StringMatching(`-?([0-9]|[1-9][0-9]{1,24})(\.[0-9]{1,24})?`).Draw(t, "number")
		n, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("%q", text)
		}
		return drawn{text: text, num: n}
	}
	a, b := drawNumber(t, s, depth-1), drawNumber(t, s, rapid.IntRange(0, depth-1).Draw(t, "depth"))
	switch rapid.IntRange(0, 3).Draw(t, "operation") {
	case 0:
		return drawn{text: "(" + a.text + " + " + b.text + ")", num: new(big.Rat).Add(a.num, b.num)}
	case 1:
		return drawn{text: "(" + a.text + "-" + b.text + ")", num: new(big.Rat).Sub(a.num, b.num)}
	case 2:
		return drawn{text: a.text + " * " + b.text, num: new(big.Rat).Mul(a.num, b.num)}
	}
	return drawn{text: "-(" + a.text + ")", num: new(big.Rat).Neg(a.num)}
}

func drawTruth(t *rapid.T, s *Scorecard, depth int) drawn {
	kind := rapid.IntRange(0, 6).Draw(t, "kind")
	if depth == 0 {
		kind = max(kind, 4)
	}
	switch kind {
	case 0, 1, 2:
		a, b := drawTruth(t, s, depth-1), drawTruth(t, s, depth-1)
		switch kind {
		case 0:
			return drawn{text: "(" + a.text + " && " + b.text + ")", yes: a.yes && b.yes}
		case 1:
			return drawn{text: "(" + a.text + " || " + b.text + ")", yes: a.yes || b.yes}
		}
		return drawn{text: "(" + a.text + ") != (" + b.text + ")", yes: a.yes != b.yes}
	case 3:
		a := drawTruth(t, s, depth-1)
		return drawn{text: "!(" + a.text + ")", yes: !a.yes}
	case 4:
		state := rapid.SampledFrom([]string{"valid", "due", "re-review"}).Draw(t, "state")
		return drawn{text: "certification.state in ['none', \"" + state + "\"]", yes: s.Certification.State == state}
	case 5:
		a, b, c := drawNumber(t, s, depth), drawNumber(t, s, 0), drawNumber(t, s, 0)
		return drawn{text: a.text + " in [" + b.text + ", " + c.text + "]", yes: a.num.Cmp(b.num) == 0 || a.num.Cmp(c.num) == 0}
	}
	a, b := drawNumber(t, s, depth), drawNumber(t, s, depth)
	if rapid.IntRange(0, 3).Draw(t, "same") == 0 { // equal in value, not in text
		b = drawn{text: "(" + a.text + ")*1.00", num: a.num}
	}
	op := rapid.SampledFrom([]string{"==", "!=", "<", "<=", ">", ">="}).Draw(t, "comparison")
	sign := a.num.Cmp(b.num)
	yes := map[string]bool{"==": sign == 0, "!=": sign != 0, "<": sign < 0, "<=": sign <= 0, ">": sign > 0, ">=": sign >= 0}[op]
	return drawn{text: a.text + " " + op + " " + b.text, yes: yes}
}

// Conditions answer as fractions do.
func TestConditionsAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := mustNumber(t, rapid.StringMatching(`[01]\.[0-9]{1,30}`).Draw(t, "availability"))
		s := &Scorecard{
			Calls: rapid.Int64().Draw(t, "calls"), Failed: rapid.Int64Range(0, 9).Draw(t, "failed"), IncidentsOpen: 1, Availability: &a, Within: &a,
			Certification: Certification{Tier: 3, State: rapid.SampledFrom([]string{"valid", "due"}).Draw(t, "state")},
		}
		d := drawTruth(t, s, rapid.IntRange(0, 2).Draw(t, "depth"))
		if len(d.text) > MaxCondition {
			t.Skip("too long")
		}
		c, bad := compileCondition(d.text)
		if bad != nil {
			t.Fatalf("%s: %v", d.text, bad)
		}
		if got := c.Holds(s); got != d.yes {
			t.Fatalf("%s is %v", d.text, got)
		}
	})
}

func BenchmarkCondition(b *testing.B) {
	const text = "availability >= 0.999 && incidents.open == 0"
	b.Run("compile", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := compileCondition(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, avail := range []string{"0.999", "0.99"} {
		b.Run(fmt.Sprint("holds/", avail), func(b *testing.B) {
			c, n := mustCompile(b, text), mustNumber(b, avail)
			s := &Scorecard{Availability: &n}
			b.ReportAllocs()
			for b.Loop() {
				c.Holds(s)
			}
		})
	}
}
