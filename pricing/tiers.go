package pricing

import (
	"fmt"
	"strings"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/period"
)

// Tiers say which running total decides the step that applies.
type Tiers struct {
	Mode   string `json:"mode"`         // graduated: each step's rate on the part that falls in it
	On     string `json:"on,omitempty"` // gross | net, of sales
	Window Window `json:"window"`
	Per    string `json:"per"` // partner | group | app | customer
}

// Window is how long a running total runs before it begins again at zero.
type Window struct {
	Kind  string      `json:"kind"`            // month | year | lifetime
	Since period.Date `json:"since,omitempty"` // first day of a lifetime
}

func (w Window) String() string {
	if w.Kind == "lifetime" {
		return "lifetime since " + w.Since.String()
	}
	return w.Kind
}

// start is the first day of the window that holds the month.
func (w Window) start(m period.Month) period.Date {
	switch w.Kind {
	case "lifetime":
		return w.Since
	case "year":
		return period.Date{Year: m.Year, Month: 1, Day: 1}
	}
	return m.First()
}

// TierStep is one step of a tier ladder. The bound is the total up to which the step
// reaches: including it (to) or excluding it (below); the last step has none.
type TierStep struct {
	To    *decimal.Decimal `json:"to,omitempty"`
	Below bool             `json:"below,omitempty"`
	Rate  decimal.Decimal  `json:"rate,omitzero"` // share of money
	Unit  decimal.Decimal  `json:"unit,omitzero"` // price of one
	Flat  decimal.Decimal  `json:"flat,omitzero"` // once, when the total exceeds the lower bound
}

// Steps is a tier ladder from zero upwards, without gaps. The lowest step also holds
// totals below zero, which refunds of an earlier window can cause.
type Steps []TierStep

// piece is the part of a movement that falls in one step; negative on the way down.
type piece struct {
	step int
	part decimal.Decimal
}

// walk moves the total from at by move and says how much of it falls in each step.
func (s Steps) walk(pieces []piece, at, move decimal.Decimal) []piece {
	switch move.Sign() {
	case 1:
		for i := range s {
			if s[i].To == nil || at.LessThan(*s[i].To) {
				take := move
				if s[i].To != nil {
					take = decimal.Min(move, s[i].To.Sub(at))
				}
				pieces = append(pieces, piece{i, take})
				at, move = at.Add(take), move.Sub(take)
				if move.IsZero() {
					break
				}
			}
		}
	case -1:
		left := move.Neg()
		for i := len(s) - 1; i >= 0; i-- {
			take := left
			if i > 0 {
				lower := *s[i-1].To
				if !at.GreaterThan(lower) {
					continue
				}
				take = decimal.Min(left, at.Sub(lower))
			}
			pieces = append(pieces, piece{i, take.Neg()})
			at, left = at.Sub(take), left.Sub(take)
			if left.IsZero() {
				break
			}
		}
	}
	return pieces
}

// entered reports whether the total exceeds step i's lower bound: with `below` the
// bound itself belongs to the step, with `to` to the step before.
func (s Steps) entered(i int, total decimal.Decimal) bool {
	if i == 0 {
		return total.IsPositive()
	}
	if s[i-1].Below {
		return total.GreaterThanOrEqual(*s[i-1].To)
	}
	return total.GreaterThan(*s[i-1].To)
}

// span is step i for people: "first 100,000", "above 1,000,000".
func (s Steps) span(i int, show func(decimal.Decimal) string) string {
	switch {
	case len(s) == 1:
		return "all"
	case i == 0:
		return "first " + show(*s[0].To)
	case s[i].To == nil:
		return "above " + show(*s[i-1].To)
	}
	return show(*s[i-1].To) + " to " + show(*s[i].To)
}

// tiers reads the tier terms of a rule.
func (v value) tiers(from period.Date, on []string, per []string) Tiers {
	t := Tiers{Mode: "graduated", Window: Window{Kind: "month"}, Per: per[0]}
	o := v.d.object(v)
	if o == nil {
		return t
	}
	if f, ok := o.get("mode"); ok {
		f.oneOf("graduated")
	}
	if on != nil {
		t.On = on[0]
		if f, ok := o.get("on"); ok {
			t.On, _ = f.oneOf(on...)
		}
	}
	if f, ok := o.need("window", "one of: month, year, lifetime since YYYY-MM-DD"); ok {
		t.Window = f.window(from)
	}
	if f, ok := o.get("per"); ok {
		t.Per, _ = f.oneOf(per...)
	}
	o.done()
	return t
}

// window reads month, year or lifetime since 2026-01-01.
func (v value) window(from period.Date) Window {
	s, ok := v.text()
	if !ok {
		return Window{}
	}
	since, lifetime := strings.CutPrefix(s, "lifetime since ")
	switch {
	case s == "month" || s == "year":
		return Window{Kind: s}
	case lifetime:
		d, err := period.ParseDate(since)
		if err != nil {
			v.bad(err.Error(), "")
			return Window{}
		}
		if !from.IsZero() && from.Before(d) {
			v.bad(fmt.Sprintf("the lifetime begins %s, after the contract (%s)", d, from), "sales in between would belong to no tier: let it begin with the contract or before")
		}
		return Window{Kind: "lifetime", Since: d}
	}
	v.bad(fmt.Sprintf("%q is no window", clip(s)), "one of: month, year, lifetime since YYYY-MM-DD")
	return Window{}
}

// steps reads a tier ladder whose steps carry a rate (of money) or a unit price.
func (v value) steps(price string, c money.Currency) Steps {
	list := v.list()
	if list != nil && len(list) == 0 {
		v.bad("no step", "give at least one, such as {"+price+": …}")
	}
	var out Steps
	bound := ""
	for i, e := range list {
		o := v.d.object(e)
		if o == nil {
			return nil
		}
		var st TierStep
		last, given := i == len(list)-1, false
		for _, word := range []string{"to", "below"} {
			f, ok := o.get(word)
			if !ok {
				continue
			}
			given = true
			n, ok := f.notNegative()
			switch {
			case !ok:
			case last:
				f.bad("the last step has an end", "leave it open, so that nothing falls beyond the ladder")
			case bound != "" && bound != word:
				f.bad("`to` (inclusive) and `below` (exclusive) are mixed in one ladder", "use `"+bound+"` throughout")
			case st.To != nil:
				f.bad("a step has one end", "keep `to` or `below`")
			case !n.IsPositive() || len(out) > 0 && out[len(out)-1].To != nil && !n.GreaterThan(*out[len(out)-1].To):
				f.bad(fmt.Sprintf("ends at %s, not above the step before", n), "steps rise from zero without gaps")
			default:
				st.To, st.Below, bound = &n, word == "below", word
			}
		}
		if !given && !last {
			e.bad("only the last step may be open", "give it an end: `to: …`")
		}
		if f, ok := o.need(price, "what this step costs"); ok {
			if price == "rate" {
				st.Rate, _ = f.percent()
			} else {
				st.Unit, _ = f.notNegative()
			}
		}
		if price == "unit" {
			if f, ok := o.get("flat"); ok {
				if a, ok := f.amount(c); ok {
					st.Flat = a.Decimal()
				}
			}
		}
		o.done()
		out = append(out, st)
	}
	return out
}
