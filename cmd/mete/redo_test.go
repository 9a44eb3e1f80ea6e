package main

import (
	"bytes"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mete/billing"
	"mete/pricing"
	"mete/pricing/scenario"
)

// What a partner can do with an explanation: read it and compute it again. Nothing here
// knows how pricing computes; numbers are fractions read from the printed page.

var (
	printedStep   = regexp.MustCompile(`^    (.*?) +(-?[0-9,.]+) × (-?[0-9.]+) *= *(-?[0-9,.]+)$`)
	printedSum    = regexp.MustCompile(`^    sum; (?:rounded once|with its share rounded) to (-?[0-9,.]+) +(-?[0-9,.]+)$`)
	printedAmount = regexp.MustCompile(`^  .* (-?[0-9,.]+) [A-Z]{3}$`)
	printedShare  = regexp.MustCompile(`^    .* [0-9,]+ +(-?[0-9,.]+)$`)

	namedPercent     = regexp.MustCompile(` at (-?[0-9.]+)%(?:,|$)`)
	namedUnit        = regexp.MustCompile(` at ([0-9.]+)(?:, step .*|, [0-9]+ of [0-9]+ days)?$`)
	namedMove        = regexp.MustCompile(`: (-?[0-9.]+)% becomes (-?[0-9.]+)%$`)
	printedConverted = regexp.MustCompile(`^ +[0-9,]+ +-?[0-9,.]+ [A-Z]{3} +(-?[0-9,.]+) [A-Z]{3} `)
	namedDays        = regexp.MustCompile(`: ([0-9]+) of ([0-9]+) days of ([0-9,.]+)$`)
)

// redo computes a printed explanation again: every multiplication, the rate that its name
// promises, the sum, the rounding and what falls to apps and customers.
func redo(text string, round pricing.Rounding, places int, whole bool) error {
	sum, amount, shared := new(big.Rat), "", new(big.Rat)
	fromRates, converted, byRate := new(big.Rat), new(big.Rat), false
	steps, shares, more, below := 0, 0, false, ""
	for i, line := range strings.Split(text, "\n") {
		switch {
		case i == 1:
			m := printedAmount.FindStringSubmatch(line)
			if m == nil {
				return fmt.Errorf("no amount in %q", line)
			}
			amount = m[1]
		case line == "  The arithmetic", strings.HasPrefix(line, "  Converted"), strings.HasPrefix(line, "  Falls to"), strings.HasPrefix(line, "  Booked in"):
			below = strings.Fields(line)[0]
		case strings.HasPrefix(line, "    sum; "):
			m := printedSum.FindStringSubmatch(line)
			if m == nil {
				return fmt.Errorf("no sum in %q", line)
			}
			if m[1] != amount {
				return fmt.Errorf("the line says %s, its arithmetic %s", amount, m[1])
			}
			if number(m[2]).Cmp(sum) != 0 {
				return fmt.Errorf("the steps add up to %s, printed is %s", sum.RatString(), m[2])
			}
		case below == "The" && strings.HasPrefix(line, "    "):
			is, err := redoStep(line)
			if err != nil {
				return err
			}
			sum.Add(sum, is)
			steps++
			if strings.Contains(line, ", rate of ") || strings.Contains(line, "converted amounts, rounded one by one") {
				fromRates.Add(fromRates, is)
				byRate = true
			}
		case below == "Converted" && strings.HasPrefix(line, "    "):
			m := printedConverted.FindStringSubmatch(line)
			if m == nil {
				return fmt.Errorf("no converted amount in %q", line)
			}
			converted.Add(converted, number(m[1]))
		case below == "Falls" && strings.Contains(line, " more; --json"):
			more = true
		case below == "Falls" && strings.HasPrefix(line, "    "):
			m := printedShare.FindStringSubmatch(line)
			if m == nil {
				return fmt.Errorf("no share in %q", line)
			}
			shared.Add(shared, number(m[1]))
			shares++
		}
	}
	if byRate && converted.Cmp(fromRates) != 0 {
		return fmt.Errorf("the converted amounts add up to %s, their steps to %s", converted.RatString(), fromRates.RatString())
	}
	if shares > 0 && !more && shared.Cmp(number(amount)) != 0 {
		return fmt.Errorf("what falls to apps and customers adds up to %s, the line is %s", shared.RatString(), amount)
	}
	if round.Places != nil {
		places = int(*round.Places)
	}
	off := new(big.Rat).Sub(number(amount), sum)
	unit := new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(places)), nil))
	switch {
	case whole && number(amount).Cmp(rounded(sum, unit, string(round.Mode))) != 0:
		return fmt.Errorf("%s rounded %s is not %s", sum.RatString(), round.Mode, amount)
	case off.Abs(off).Cmp(unit) >= 0:
		return fmt.Errorf("%s is not %s rounded", amount, sum.RatString())
	}
	return nil
}

// redoStep computes one multiplication again and holds its factor against its name.
func redoStep(line string) (*big.Rat, error) {
	m := printedStep.FindStringSubmatch(line)
	if m == nil {
		return nil, fmt.Errorf("no multiplication in %q", line)
	}
	what, of, times, is := m[1], number(m[2]), number(m[3]), number(m[4])
	if new(big.Rat).Mul(of, times).Cmp(is) != 0 {
		return nil, fmt.Errorf("%s × %s is not %s", m[2], m[3], m[4])
	}
	factor := new(big.Rat).Abs(times)
	named := func(want *big.Rat) error {
		if factor.Cmp(want) != 0 {
			return fmt.Errorf("%q, but the factor is %s", what, m[3])
		}
		return nil
	}
	hundred := big.NewRat(100, 1)
	if n := namedMove.FindStringSubmatch(what); n != nil {
		move := new(big.Rat).Sub(number(n[2]), number(n[1]))
		return is, named(move.Abs(move.Quo(move, hundred)))
	}
	if n := namedPercent.FindStringSubmatch(what); n != nil {
		return is, named(new(big.Rat).Quo(number(n[1]), hundred))
	}
	if n := namedUnit.FindStringSubmatch(what); n != nil {
		return is, named(number(n[1]))
	}
	if n := namedDays.FindStringSubmatch(what); n != nil {
		part := new(big.Rat).Mul(number(n[3]), new(big.Rat).Quo(number(n[1]), number(n[2])))
		if off := part.Sub(part, of); off.Abs(off).Cmp(big.NewRat(1, 100)) >= 0 {
			return nil, fmt.Errorf("%q is not %s", what, m[2])
		}
	}
	return is, nil
}

// number reads a printed number.
func number(s string) *big.Rat {
	r, ok := new(big.Rat).SetString(strings.ReplaceAll(s, ",", ""))
	if !ok {
		panic("no number: " + s)
	}
	return r
}

// rounded is a fraction rounded to a multiple of the unit.
func rounded(x, unit *big.Rat, mode string) *big.Rat {
	units := new(big.Rat).Quo(new(big.Rat).Abs(x), unit)
	down, rest := new(big.Int).QuoRem(units.Num(), units.Denom(), new(big.Int))
	half := new(big.Int).Lsh(rest, 1).Cmp(units.Denom())
	if rest.Sign() > 0 && (mode == "up" || mode != "down" && half > 0 ||
		half == 0 && (mode == "half_up" || mode == "half_even" && down.Bit(0) == 1)) {
		down.Add(down, big.NewInt(1))
	}
	out := new(big.Rat).Mul(new(big.Rat).SetInt(down), unit)
	if x.Sign() < 0 {
		out.Neg(out)
	}
	return out
}

// explained is one line as explain prints it, and how its contract rounds.
type explained struct {
	where, text string
	round       pricing.Rounding
	places      int
	whole       bool // the line is its steps, rounded; a quality line is a difference of two such
}

// explainScenario is every line of every statement that a scenario makes.
func explainScenario(t *testing.T, path string) []explained {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rounds := map[string]pricing.Rounding{}
	var lines []billing.Line
	open := func() scenario.Books {
		post := scenarioBooks()
		return func(m scenario.PartyMonth) ([]scenario.Posting, error) {
			for _, x := range m.InForce {
				rounds[fmt.Sprint(x.Contract, x.Version)] = x.Round
			}
			s, err := imagined(m, nil).Statement()
			if err != nil {
				return nil, err
			}
			lines = append(lines, s.Lines...)
			return post(m)
		}
	}
	// A row about the books makes every month be posted; what it compares is not looked at.
	asked := string(text) + "\nwant nobody\n  balance equity  0.00\n"
	scenario.RunText(path, []byte(asked), func(name string) (string, []byte, error) {
		file := filepath.Join(filepath.Dir(path), name+".yaml")
		b, err := os.ReadFile(file)
		return file, b, err
	}, open)
	var out []explained
	for _, l := range lines {
		var b bytes.Buffer
		if err := (billing.Explanation{Statement: "redo", State: "closed", Line: l}).WriteText(&b); err != nil {
			t.Fatal(err)
		}
		round, ok := rounds[fmt.Sprint(l.Contract, l.Version)]
		if !ok {
			t.Errorf("%s: a line of %s version %d, of which nobody is a party", path, l.Contract, l.Version)
		}
		out = append(out, explained{
			where: fmt.Sprintf("%s: %s %s/%s %s %s", path, l.Month, l.Contract, l.Rule, l.Part, l.Scope), text: b.String(),
			round: round, places: int(l.Currency.Digits()),
			whole: l.Part != "quality" && l.Section != billing.Corrections,
		})
	}
	return out
}

// Every line of every scenario and programme can be computed again from its explanation.
func TestExplanationsCanBeRedone(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../../pricing/testdata/*/*.txt", programs + "/*/*.txt"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, found, err)
		}
		files = append(files, found...)
	}
	n := 0
	for _, f := range files {
		for _, x := range explainScenario(t, f) {
			n++
			if err := redo(x.text, x.round, x.places, x.whole); err != nil {
				t.Errorf("%s: %v\n%s", x.where, err, x.text)
			}
		}
	}
	t.Logf("%d lines of %d scenarios computed again", n, len(files))
	if n < 500 {
		t.Errorf("%d lines are few", n)
	}
}

// A printed digit that is changed is seen, wherever it stands.
func TestRedoSeesEveryDigit(t *testing.T) {
	files, err := filepath.Glob(programs + "/*/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	changed := 0
	for _, f := range files {
		for _, x := range explainScenario(t, f) {
			for _, at := range printedDigits(x.text) {
				digits := []byte(x.text)
				digits[at] = '0' + (digits[at]-'0'+1)%10
				changed++
				if redo(string(digits), x.round, x.places, x.whole) == nil {
					t.Fatalf("%s: digit %d was changed, and nothing was seen:\n%s", x.where, at, digits)
				}
			}
		}
	}
	t.Logf("%d digits changed, all seen", changed)
	if changed < 5000 {
		t.Errorf("%d digits are few", changed)
	}
}

// printedDigits are the places of the digits that an explanation computes with. What is
// multiplied by zero may be anything.
func printedDigits(text string) []int {
	var out []int
	add := func(from int, line string, span []int, groups ...int) {
		for _, g := range groups {
			for i := span[2*g]; i < span[2*g+1]; i++ {
				if line[i] >= '0' && line[i] <= '9' {
					out = append(out, from+i)
				}
			}
		}
	}
	at, below := 0, ""
	for i, line := range strings.Split(text, "\n") {
		switch {
		case i == 1:
			add(at, line, printedAmount.FindStringSubmatchIndex(line), 1)
		case line == "  The arithmetic", strings.HasPrefix(line, "  Falls to"), strings.HasPrefix(line, "  Booked in"):
			below = strings.Fields(line)[0]
		case strings.HasPrefix(line, "    sum; "):
			add(at, line, printedSum.FindStringSubmatchIndex(line), 1, 2)
		case below == "The" && printedStep.MatchString(line):
			m := printedStep.FindStringSubmatchIndex(line)
			if number(line[m[6]:m[7]]).Sign() != 0 {
				add(at, line, m, 2)
			}
			if number(line[m[4]:m[5]]).Sign() != 0 {
				add(at, line, m, 3)
			}
			add(at, line, m, 4)
			for _, named := range []*regexp.Regexp{namedPercent, namedMove} {
				if n := named.FindStringSubmatchIndex(line[:m[3]]); n != nil {
					add(at, line, n, 1)
					break
				}
			}
		case below == "Falls" && !strings.Contains(line, "more;") && printedShare.MatchString(line):
			add(at, line, printedShare.FindStringSubmatchIndex(line), 1)
		}
		at += len(line) + 1
	}
	return out
}
