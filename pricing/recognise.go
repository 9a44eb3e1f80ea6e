package pricing

import (
	"fmt"

	"github.com/shopspring/decimal"

	"mete/money"
)

// Deferral is the part of a line that is charged now and earned over months: the month
// of the line is the first of them. What the line charges and gives back beyond it is
// earned, or reversed, with the line.
type Deferral struct {
	Months  int          `json:"months"`
	Charged money.Amount `json:"charged"` // to be earned in equal parts; negative: less of it
	Back    money.Amount `json:"back"`    // given back of what was charged before: first of what is not earned yet
}

// maxOver bounds over how many months a fee is earned.
const maxOver = 120

// readRecognition reads when the fee is earned.
func (b *FixedFee) readRecognition(o *object) {
	f, ok := o.get("recognise")
	if !ok {
		return
	}
	s, ok := f.text()
	if !ok || s == "at once" {
		return
	}
	const help = "at once, or over a number of months: over 12 months"
	var n int
	var unit string
	if k, err := fmt.Sscanf(s, "over %d %s", &n, &unit); err != nil || k != 2 || s != fmt.Sprintf("over %d %s", n, unit) {
		f.bad(fmt.Sprintf("%q is not known here", clip(s)), help)
		return
	}
	switch unit {
	case "year", "years":
		n *= 12
	case "month", "months":
	default:
		f.bad("a fee is earned by whole months", help)
		return
	}
	switch {
	case n < 1 || n > maxOver:
		f.bad(fmt.Sprintf("a fee earned over %d months", n), fmt.Sprintf("want 1 to %d", maxOver))
	case b.Charged == "in_arrears":
		f.bad("what is charged in arrears has been earned", "recognise: at once, or charged: in_advance")
	default:
		b.Over = n
	}
}

func recogniseSchema() schema {
	return pattern("when the fee is our income: when it is charged, or in equal parts over months, that of the charge included", `^(at once|over [0-9]{1,3} (months?|years?))$`)
}

// over is the number of months over which what the rule charges, or reduces, is earned;
// 0 is at once. A reduction of a fee is one of its income.
func (t *Terms) over(r *Rule) int {
	switch b := r.Body.(type) {
	case *FixedFee:
		return b.Over
	case *Cap, *Discount, *Credit:
		return t.overAll(b.(follower).follows())
	}
	return 0
}

// overAll is the number of months of the rules with the ids, if they have one in common.
func (t *Terms) overAll(ids []string) int {
	n := 0
	for i := range t.Rules {
		for _, id := range ids {
			if t.Rules[i].ID == id {
				n = t.over(&t.Rules[i])
			}
		}
	}
	return n
}

// checkOver refuses a rule that reduces fees of which some are earned at once and others
// over months, or over other ones: nobody could say what of it is earned when.
func checkOver(c *contract, r *Rule, at *object) {
	switch r.Body.(type) {
	case *Cap, *Discount, *Credit:
	default:
		return
	}
	first, months := "", 0
	for i := range c.terms.Rules {
		other := &c.terms.Rules[i]
		if other == r {
			return
		}
		for _, id := range r.Body.(follower).follows() {
			if id != other.ID {
				continue
			}
			n := c.terms.over(other)
			if first != "" && n != months {
				at.at("on").bad(fmt.Sprintf("%s and %s are not earned over the same time", first, id), "give each its own rule")
				return
			}
			first, months = id, n
		}
	}
}

// recognition gathers what of a line is earned over months.
type recognition struct {
	months        int
	charged, back decimal.Decimal
	reduces       bool // all of the line reduces fees that are
}

// later is the line's recognition, made on first use.
func (b *lineBuilder) later(months int) *recognition {
	if b.over == nil {
		b.over = &recognition{}
	}
	b.over.months = months
	return b.over
}

// charge says over how many months a charge that was added to the line is earned.
func (b *lineBuilder) charge(over int, amount decimal.Decimal) {
	if over > 0 {
		x := b.later(over)
		x.charged = x.charged.Add(amount)
	}
}

// giveBack says of a credit that was added to the line that it is of a fee earned over
// months.
func (b *lineBuilder) giveBack(over int, amount decimal.Decimal) {
	x := b.later(over)
	x.back = x.back.Add(amount)
}

// reduces says of a line that all of it reduces fees which are earned over months.
func (b *lineBuilder) reduces(over int) {
	if over > 0 {
		b.later(over).reduces = true
	}
}

// recognise rounds what is earned over months. Where that is the whole line, charge and
// credit come to its amount to the cent.
func (b *lineBuilder) recognise() error {
	x := b.over
	if x == nil {
		return nil
	}
	back, err := b.round.money(x.back, b.Currency)
	if err != nil {
		return err
	}
	charged, err := b.round.money(x.charged, b.Currency)
	if err != nil {
		return err
	}
	if x.reduces || b.Exact.Equal(x.back.Sub(x.charged)) {
		if charged, err = back.Sub(b.Amount); err != nil {
			return err
		}
	}
	b.Deferral = &Deferral{Months: x.months, Charged: charged, Back: back}
	return nil
}
