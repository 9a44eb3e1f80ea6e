package plain

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/partner"
	"mete/pricing"
)

var one = decimal.NewFromInt(1)

// code is text that stands as written in the contract.
func code(s string) string {
	if strings.ContainsFunc(s, unicode.IsControl) {
		s = strconv.Quote(s)
	}
	return string(CodeBegin) + s + string(CodeEnd)
}

func codes[T ~string](ids []T) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = code(string(id))
	}
	return and(out)
}

// quoted is a person's words.
func quoted(s string) string { return strconv.Quote(s) }

// and joins words: a, b and c.
func and(words []string) string { return joined(words, "and") }

func joined(words []string, last string) string {
	n := len(words)
	if n < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:n-1], ", ") + " " + last + " " + words[n-1]
}

// named is what something is called, with its ID.
func (w *writer) named(name, id string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, name)
	if name == "" || name == id {
		return code(id)
	}
	return name + " (" + code(id) + ")"
}

// party is a party of the contract as its sentences call it.
func (w *writer) party(id partner.ID) string {
	switch id {
	case partner.Platform:
		return "the marketplace"
	case w.t.Partner, "partner":
		return "the partner"
	}
	return w.named(w.n.Partners[id], string(id))
}

func (w *writer) apps(ids []partner.AppID) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = w.named(w.n.Apps[id], string(id))
	}
	if len(out) == 1 {
		return "the app " + out[0]
	}
	return "the apps " + and(out)
}

func (w *writer) customer(id partner.CustomerID) string {
	return w.named(w.n.Customers[id], string(id))
}

// meter is what a meter counts.
func (w *writer) meter(id string) string { return w.named(w.n.Meters[id].Description, id) }

// unit is what one of a meter's is called.
func (w *writer) unit(id string) string {
	if u := w.n.Meters[id].Unit; u != "" && !strings.ContainsFunc(u, unicode.IsControl) {
		return u
	}
	return "unit"
}

// amount is money of the contract's currency, with at least its decimals.
func (w *writer) amount(d decimal.Decimal) string {
	c := w.t.Currency
	s := d.String()
	if d.Equal(d.Truncate(c.Digits())) {
		s = d.StringFixed(c.Digits())
	}
	return money.Group(s) + " " + string(c)
}

func number(d decimal.Decimal) string { return money.Group(d.String()) }

// points is a move of a rate: "2 points less".
func points(d decimal.Decimal) string {
	word := "more"
	if d.IsNegative() {
		word = "less"
	}
	s := d.Abs().Shift(2).String()
	if s == "1" {
		return s + " percentage point " + word
	}
	return s + " percentage points " + word
}

// window is how long a running total runs.
func window(w pricing.Window) string {
	switch w.Kind {
	case "lifetime":
		return "all time since " + w.Since.String() + ", without beginning anew"
	case "contract year":
		return "each contract year, counted from the month of " + w.Since.String()
	case "rolling":
		if w.Months == 1 {
			return "the last month, as a window that rolls"
		}
		return fmt.Sprintf("the last %d months, the current one included", w.Months)
	case "":
		return "each subscription"
	}
	return "each calendar " + w.Kind
}

// windowEnds is when a window ends, for what is settled then.
func windowEnds(w pricing.Window) string {
	switch w.Kind {
	case "lifetime":
		return "over all time since " + w.Since.String()
	case "contract year":
		return "in each contract year, counted from the month of " + w.Since.String()
	}
	return "in each calendar " + w.Kind
}

// rounding is how a half, or the rest, is rounded.
func rounding(m money.Mode) string {
	switch m {
	case money.HalfEven:
		return "to the nearest, a half to the even neighbour"
	case money.Up:
		return "up, away from zero"
	case money.Down:
		return "down, towards zero"
	}
	return "to the nearest, a half away from zero"
}

func sortedKeys[K ~string, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// ladder is a table of steps: where each begins and ends, and what it costs.
type ladder struct {
	what  string                                          // what is counted: of gross sales
	show  func(decimal.Decimal) string                    // a bound for people
	head  []string                                        // of what each step costs
	cells func(pricing.TierStep) []string                 // what it costs
	term  string                                          // what changes: the marketplace's share
	of    string                                          // of a single step: of all
	value func(cells []string, s pricing.TierStep) string // what it costs in a sentence about its change
}

// table is the steps, each with the range of totals that it holds.
func (l ladder) table(steps pricing.Steps) *Table {
	t := &Table{Head: append([]string{l.what}, l.head...)}
	for i, s := range steps {
		var span string
		up := "up to and including "
		over := "above "
		if i > 0 && steps[i-1].Below || i == 0 && s.Below {
			over, up = "from ", "below "
		}
		switch {
		case len(steps) == 1:
			span = l.of
		case i == 0:
			span = up + l.show(*s.To)
		case s.To == nil:
			span = over + l.show(*steps[i-1].To)
		default:
			span = over + l.show(*steps[i-1].To) + ", " + up + l.show(*s.To)
		}
		cells := l.cells(s)
		value := strings.Join(cells, ", ")
		if l.value != nil {
			value = l.value(cells, s)
		}
		t.Rows = append(t.Rows, Row{Key: span, Cells: append([]string{span}, cells...), Term: strings.TrimSpace(l.term + " " + span), Value: value})
	}
	return t
}

// values is a table of a figure for each of several names.
func values[T ~string](term string, head [2]string, names []T, value, show func(T) string) *Table {
	t := &Table{Head: head[:]}
	for _, n := range names {
		t.Rows = append(t.Rows, Row{Key: string(n), Cells: []string{show(n), value(n)}, Term: term + " " + show(n), Value: value(n)})
	}
	return t
}
