package pricing

import (
	"fmt"
	"maps"
	"slices"

	"github.com/shopspring/decimal"
)

const discountDoc = "A reduction of what other rules charge: a percentage, or an amount in each window; for a time, or for apps whose scorecard says so."

// Discount is the body of a discount. Exactly one of Percent and Amount is set.
type Discount struct {
	On      []string         `json:"on"`
	Percent *decimal.Decimal `json:"percent,omitempty"`
	Amount  *decimal.Decimal `json:"amount,omitempty"` // in a window, and no more than is charged
	Maximum *decimal.Decimal `json:"maximum,omitempty"`
	When    *Condition       `json:"when,omitempty"` // of the app's scorecard
	Term    Duration         `json:"term,omitzero"`  // from effective.from
	Limit
}

func (b *Discount) follows() []string { return b.On }

func decodeDiscount(c *contract, o *object) any {
	b := &Discount{On: c.readFollowed(o, "on")}
	percent, hasPercent := o.get("percent")
	amount, hasAmount := o.get("amount")
	switch {
	case hasPercent && hasAmount:
		percent.bad("percent and amount together", "keep one; make a second rule for the other")
	case hasPercent:
		if d, ok := percent.percent(); ok {
			b.Percent = &d
		}
	case hasAmount:
		if a, ok := amount.amount(c.terms.Currency); ok {
			d := a.Decimal()
			b.Amount = &d
		}
	default:
		o.bad("no reduction", "percent: 20%, or amount: 35.00")
	}
	if f, ok := o.get("maximum"); ok {
		if a, ok := f.amount(c.terms.Currency); ok {
			d := a.Decimal()
			b.Maximum = &d
		}
		if hasAmount {
			f.bad("an amount is its own maximum", "leave it out")
		}
	}
	if f, ok := o.get("when"); ok {
		b.When = f.condition()
	}
	if f, ok := o.get("term"); ok {
		if b.Term, ok = f.duration(); ok && b.Term.Months == 0 {
			f.bad("a discount holds for whole months", "such as 3 months")
		}
	}
	b.read(c, o)
	return b
}

func discountSchema() schema {
	return (&Limit{}).schema(schema{
		"on":      followedSchema(),
		"percent": percentSchema("of what the rules charge"),
		"amount":  numberSchema("off what the rules charge in each window, and never more than that"),
		"maximum": numberSchema("most that a percentage gives in a window"),
		"when":    text("only for apps whose scorecard of the month says so; measures as in quality"),
		"term":    durationSchema("how long from effective.from, in months"),
	}.require("on"))
}

// followDiscount reduces what the rules charge.
func followDiscount(p *pricer, s *segment, r *Rule) error {
	b := r.Body.(*Discount)
	if !b.Term.IsZero() && !p.in.Month.Before(s.Terms.From.MonthOf().Add(b.Term.Months)) {
		p.took(s, r, wentAfter, 0, "")
		return nil
	}
	bases, err := p.bases(s, b.On, "partner")
	if err != nil {
		return err
	}
	for _, scope := range sortedKeys(bases) {
		x := bases[scope]
		l := p.followLine(s, r, "discount", x, b.text(s))
		if b.When != nil {
			p.keepScored(x, l, b.When)
		}
		b.reduce(p, s, r, scope, x, l)
		x.share(l)
	}
	return nil
}

func (b *Discount) text(s *segment) string {
	if b.Percent != nil {
		return "Discount of " + Percent(*b.Percent)
	}
	return "Discount of " + groupedMoney(*b.Amount, s.Terms.Currency)
}

// reduce puts on the line what the window's charges are reduced by, less what months
// before were.
func (b *Discount) reduce(p *pricer, s *segment, r *Rule, scope string, x *base, l *lineBuilder) {
	if b.Percent != nil && b.Maximum == nil {
		l.Rate = Percent(*b.Percent)
		if x.charges().IsPositive() {
			l.took(wentPrice, 0, "")
		}
		l.add("charges at "+l.Rate, x.charges(), *b.Percent)
		return
	}
	t, given := p.total(s, r.ID, "charges", scope, b.Window), p.total(s, r.ID, "given", scope, b.Window)
	t.Value = t.Value.Add(x.charges())
	reduced := decimal.Max(decimal.Zero, t.Value)
	var most decimal.Decimal
	var text string
	if b.Percent != nil {
		most, text = p.limit(s, r, b.Limit, *b.Maximum)
		reduced = reduced.Mul(*b.Percent)
	} else {
		most, text = p.limit(s, r, b.Limit, *b.Amount)
	}
	switch {
	case !reduced.IsPositive():
	case most.LessThan(reduced) && b.Percent != nil:
		l.took(wentMost, 0, "")
	case most.GreaterThan(reduced) && b.Percent == nil:
		l.took(wentPart, 0, "")
	default:
		l.took(wentPrice, 0, "")
	}
	what := "up to " + text + " of the charges"
	if b.Percent != nil {
		what = Percent(*b.Percent) + " of the charges, at most " + text
	}
	l.add(what, decimal.Min(most, reduced), one)
	if !given.Value.IsZero() {
		l.add("given before in the "+b.Window.unit(), given.Value, one.Neg())
	}
	given.Value = given.Value.Add(s.Terms.Round.decimal(l.Exact, s.Terms.Currency))
}

// keepScored leaves in the base only apps whose scorecard the condition holds for.
func (p *pricer) keepScored(x *base, l *lineBuilder, when *Condition) {
	kept := newBase(x.line)
	for _, k := range slices.SortedFunc(maps.Keys(x.cells), compareAllocs) {
		card := p.cards[k.app]
		missing, lacks := "no scorecard", card == nil
		if card != nil {
			if missing, lacks = when.Missing(card); lacks {
				missing = "no data for " + missing
			}
		}
		switch {
		case lacks:
			l.took(wentUnscored, 0, "")
			l.note(fmt.Sprintf("not scored: %s (%s)", missing, k.app))
		case !when.Holds(card):
			l.took(wentNot, 0, "")
			l.note(fmt.Sprintf("not %s (%s)", when.Text, k.app))
		default:
			l.took(wentHolds, 0, "")
			l.note(fmt.Sprintf("%s (%s)", when.Text, k.app))
			kept.cells[k], kept.amount = x.cells[k], kept.amount.Add(x.cells[k])
		}
	}
	x.cells, x.amount = kept.cells, kept.amount
}
