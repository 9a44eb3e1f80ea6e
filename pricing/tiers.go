package pricing

import (
	"fmt"

	"github.com/shopspring/decimal"

	"mete/money"
)

// Tiers say which running total decides the step that applies.
type Tiers struct {
	Mode   string   `json:"mode"`         // graduated | volume | step
	On     string   `json:"on,omitempty"` // gross | net | proceeds, of sales; paid_months
	Window Window   `json:"window"`
	Per    string   `json:"per"`            // partner | group | app | customer | subscription | deal
	Grace  Duration `json:"grace,omitzero"` // on paid_months: a longer gap begins them anew
}

// TierStep is one step of a tier ladder. The bound is the total up to which the step
// reaches: including it (to) or excluding it (below); the last step has none.
type TierStep struct {
	To    *decimal.Decimal `json:"to,omitempty"`
	Below bool             `json:"below,omitempty"`
	Rate  decimal.Decimal  `json:"rate,omitzero"`  // share of money
	Unit  decimal.Decimal  `json:"unit,omitzero"`  // price of one
	Flat  decimal.Decimal  `json:"flat,omitzero"`  // once, when the total exceeds the lower bound
	Cap   *decimal.Decimal `json:"cap,omitempty"`  // most that the units of this step cost
	Size  decimal.Decimal  `json:"size,omitzero"`  // units in a block, block by block
	Price decimal.Decimal  `json:"price,omitzero"` // of a block
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
					take = decimal.Min(move, minus(*s[i].To, at))
				}
				pieces = append(pieces, piece{i, take})
				at, move = plus(at, take), minus(move, take)
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
				take = decimal.Min(left, minus(at, lower))
			}
			pieces = append(pieces, piece{i, take.Neg()})
			at, left = minus(at, take), minus(left, take)
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

// reached is the step that the total stands in; none, -1, of an empty one.
func (s Steps) reached(total decimal.Decimal) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s.entered(i, total) {
			return i
		}
	}
	return -1
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

// allAt is a step at whose price all is, for people: "above 1,000, all at 5%".
func (s Steps) allAt(i int, show func(decimal.Decimal) string, price string) string {
	if len(s) == 1 {
		return "all at " + price
	}
	return s.span(i, show) + ", all at " + price
}

// stepForm is what the steps of a ladder say beside their bounds.
type stepForm struct {
	need []string
	may  []string
}

// The forms of ladders.
var (
	rateSteps    = stepForm{need: []string{"rate"}}
	unitSteps    = stepForm{need: []string{"unit"}, may: []string{"flat", "cap"}}
	volumeSteps  = stepForm{need: []string{"unit"}, may: []string{"flat"}}
	flatSteps    = stepForm{need: []string{"flat"}}
	blockSteps   = stepForm{need: []string{"size", "price"}}
	percentSteps = stepForm{need: []string{"rate"}, may: []string{"flat"}}
)

// steps reads a tier ladder.
func (v value) steps(form stepForm, c money.Currency) Steps {
	list := v.list()
	if list != nil && len(list) == 0 {
		v.bad("no step", "give at least one, such as {"+form.need[0]+": …}")
	}
	var out Steps
	bound := ""
	for i, e := range list {
		o := v.d.object(e)
		if o == nil {
			return nil
		}
		st := TierStep{}
		bound = st.readBound(o, out, bound, i == len(list)-1)
		for _, name := range form.need {
			if f, ok := o.need(name, "what this step costs"); ok {
				st.read(name, f, c)
			}
		}
		for _, name := range form.may {
			if f, ok := o.get(name); ok {
				st.read(name, f, c)
			}
		}
		o.done()
		out = append(out, st)
	}
	return out
}

// readBound reads where the step ends; bound is the word that the ladder uses.
func (st *TierStep) readBound(o *object, before Steps, bound string, last bool) string {
	given := false
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
		case !n.IsPositive() || len(before) > 0 && before[len(before)-1].To != nil && !n.GreaterThan(*before[len(before)-1].To):
			f.bad(fmt.Sprintf("ends at %s, not above the step before", n), "steps rise from zero without gaps")
		default:
			st.To, st.Below, bound = &n, word == "below", word
		}
	}
	if !given && !last {
		o.bad("only the last step may be open", "give it an end: `to: …`")
	}
	return bound
}

// read reads what a step costs.
func (st *TierStep) read(name string, f value, c money.Currency) {
	switch name {
	case "rate":
		st.Rate, _ = f.percent()
	case "unit":
		st.Unit, _ = f.notNegative()
	case "price":
		st.Price, _ = f.notNegative()
	case "size":
		st.Size, _ = f.positive()
	case "flat":
		if a, ok := f.amount(c); ok {
			st.Flat = a.Decimal()
		}
	case "cap":
		if a, ok := f.amount(c); ok {
			d := a.Decimal()
			st.Cap = &d
		}
	}
}
