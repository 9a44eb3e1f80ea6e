package pricing

import (
	"fmt"
	"strings"

	"github.com/shopspring/decimal"

	"mete/money"
)

// Quantity says what of the metered usage a price is for: which figure of the month,
// in which unit, rounded how, and how much of it is free.
type Quantity struct {
	As       string          `json:"as"`             // see quantities
	Each     string          `json:"each,omitempty"` // hour | day: each begins its own ladder
	Less     string          `json:"less,omitempty"` // a meter whose usage lowers the level
	Multiply decimal.Decimal `json:"multiply,omitzero"`
	Divide   decimal.Decimal `json:"divide,omitzero"`
	Round    money.Mode      `json:"round,omitempty"`
	To       decimal.Decimal `json:"to,omitzero"` // the step that is rounded to
	Free     decimal.Decimal `json:"free,omitzero"`
}

// quantities are the figures of a month that can be priced: the sum of all usage; the
// largest and the last quantity that one event says; and of a level that usage raises
// and the meter `less` lowers, the highest one, its average over time, and the sum of
// its changes, each for the days that are left of the month.
var quantities = []string{"sum", "max", "last", "peak", "weighted", "prorated"}

// eachEvent reports whether the figure needs events one by one.
func (q *Quantity) eachEvent() bool { return q != nil && (q.As != "sum" || q.Each != "") }

// ofLevel reports whether the figure is about a level that goes on from month to month.
func (q *Quantity) ofLevel() bool {
	return q != nil && (q.As == "peak" || q.As == "weighted" || q.As == "prorated")
}

// billed is what of a total is priced: converted, rounded, and less what is free.
func (q *Quantity) billed(total decimal.Decimal) decimal.Decimal {
	if q == nil {
		return total
	}
	if q.Multiply.IsPositive() {
		total = total.Mul(q.Multiply)
	}
	if q.Divide.IsPositive() {
		total = total.DivRound(q.Divide, quantityPlaces)
	}
	if q.Round != "" {
		n := total.DivRound(q.To, quantityPlaces)
		total = money.RoundDecimal(n, 0, q.Round).Mul(q.To)
	}
	if q.Free.IsPositive() {
		total = decimal.Max(decimal.Zero, total.Sub(q.Free))
	}
	return total
}

// quantityPlaces is the precision of a quotient of quantities.
const quantityPlaces = 24

// text is the way from the metered quantity to the billed one, for people.
func (q *Quantity) text(from, to decimal.Decimal) string {
	var b strings.Builder
	b.WriteString(grouped(from))
	if q.Multiply.IsPositive() {
		b.WriteString(" × " + q.Multiply.String())
	}
	if q.Divide.IsPositive() {
		b.WriteString(" ÷ " + grouped(q.Divide))
	}
	if q.Round != "" {
		fmt.Fprintf(&b, ", rounded %s to %s", strings.ReplaceAll(string(q.Round), "_", " "), q.To)
	}
	if q.Free.IsPositive() {
		b.WriteString(", " + grouped(q.Free) + " free")
	}
	return b.String() + ": " + grouped(to)
}

// readQuantity reads which figure is priced.
func (b *UsageFee) readQuantity(c *contract, f value) {
	o := c.object(f)
	if o == nil {
		return
	}
	q := &Quantity{As: "sum"}
	b.Quantity = q
	if g, ok := o.get("as"); ok {
		q.As, _ = g.oneOf(quantities...)
	}
	if g, ok := o.get("each"); ok {
		if q.Each, _ = g.oneOf(buckets...); q.ofLevel() {
			g.bad("the "+q.As+" of a level is one of the month", "as: sum, max or last")
		}
	}
	if g, ok := o.get("less"); ok {
		q.Less, _ = g.text()
		if !q.ofLevel() {
			g.bad("only a level is lowered", "as: peak, weighted or prorated")
		}
	}
	multiply, hasMultiply := o.get("multiply_by")
	divide, hasDivide := o.get("divide_by")
	if hasMultiply {
		q.Multiply, _ = multiply.positive()
	}
	if hasDivide {
		q.Divide, _ = divide.positive()
	}
	if g, ok := o.get("round"); ok {
		s, _ := g.oneOf(string(money.HalfUp), string(money.HalfEven), string(money.Up), string(money.Down))
		q.Round, q.To = money.Mode(s), one
	}
	if g, ok := o.get("to"); ok {
		if q.Round == "" {
			g.bad("a step to round to, but no way to round", "round: up, down, half_up or half_even")
		}
		q.To, _ = g.positive()
	}
	if g, ok := o.get("free"); ok {
		q.Free, _ = g.notNegative()
	}
	o.done()
}

func quantitySchema() schema {
	return object1("which figure of the usage is priced", schema{
		"as":          enum("sum of all usage; largest (max) or last quantity of one event; of the level that usage raises and `less` lowers: its highest (peak), its average over time (weighted), or each change for the days left (prorated)", quantities...),
		"each":        enum("each hour or day of the contract's zone is priced for itself, from the beginning of the ladder", buckets...),
		"less":        text("the id of a meter whose usage lowers the level"),
		"multiply_by": numberSchema("converts the metered unit into the priced one"),
		"divide_by":   numberSchema("converts the metered unit into the priced one"),
		"round":       enum("how the window's converted total is rounded", string(money.Up), string(money.Down), string(money.HalfUp), string(money.HalfEven)),
		"to":          numberSchema("what it is rounded to: 1 if left out, 100 for hundreds, 0.01 for hundredths"),
		"free":        numberSchema("the first so many of each window, in the priced unit"),
	})
}
