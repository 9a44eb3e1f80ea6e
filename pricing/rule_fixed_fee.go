package pricing

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
	"mete/period"
)

const fixedFeeDoc = "A listing, certification, placement or support fee: once, by the calendar, or when an event says it is due."

// FixedFee is the body of a fixed fee.
type FixedFee struct {
	Due       string                     `json:"due"`                 // once | monthly | yearly | fee.due
	Month     time.Month                 `json:"month,omitempty"`     // yearly
	Day       int                        `json:"day,omitempty"`       // yearly
	Amount    *decimal.Decimal           `json:"amount,omitempty"`    // nil: the event says it
	Amounts   map[string]decimal.Decimal `json:"amounts,omitempty"`   // fee.due: by the event's reference
	Reference string                     `json:"reference,omitempty"` // fee.due: only events that carry it
	Per       string                     `json:"per"`                 // partner | app
}

// feeClasses are the classes a fixed fee may have.
var feeClasses = []string{string(metering.Listing), string(metering.Certification), string(metering.Placement), string(metering.Support)}

func decodeFixedFee(c *contract, o *object) any {
	b := &FixedFee{Per: "partner"}
	if f, ok := o.need("class", "one of: "+strings.Join(feeClasses, ", ")); ok {
		f.oneOf(feeClasses...)
	}
	if f, ok := o.need("due", "one of: once, monthly, yearly on MM-DD, fee.due"); ok {
		b.readDue(f)
	}
	amount, hasAmount := o.get("amount")
	if hasAmount {
		if a, ok := amount.amount(c.terms.Currency); ok {
			d := a.Decimal()
			b.Amount = &d
		}
	}
	if f, ok := o.get("amounts"); ok {
		if g := c.object(f); g != nil {
			b.Amounts = map[string]decimal.Decimal{}
			for name := range g.fields {
				h, ok := g.get(name)
				if !ok {
					continue
				}
				if a, ok := h.amount(c.terms.Currency); ok {
					b.Amounts[name] = a.Decimal()
				}
			}
		}
		if b.Due != metering.FeeDue {
			f.bad("amounts by reference need `due: fee.due`", "use `amount`")
		}
	}
	if f, ok := o.get("reference"); ok {
		b.Reference, _ = f.text()
		if b.Due != metering.FeeDue {
			f.bad("a reference needs `due: fee.due`", "leave it out")
		}
	}
	if !hasAmount && b.Due != metering.FeeDue && b.Due != "" {
		o.bad("amount is missing", "only `due: fee.due` may take it from the event")
	}
	if f, ok := o.get("per"); ok {
		b.Per, _ = f.oneOf("partner", "app")
	}
	return b
}

func (b *FixedFee) readDue(f value) {
	s, ok := f.text()
	if !ok {
		return
	}
	on, yearly := strings.CutPrefix(s, "yearly on ")
	switch {
	case s == "once" || s == "monthly" || s == metering.FeeDue:
		b.Due = s
	case yearly:
		t, err := time.Parse("2006-01-02", "2001-"+on) // no leap year, so 02-29 is refused
		if err != nil {
			f.bad(fmt.Sprintf("%q is no day of every year", clip(on)), "write it like yearly on 10-15")
			return
		}
		b.Due, b.Month, b.Day = "yearly", t.Month(), t.Day()
	default:
		f.bad(fmt.Sprintf("%q is not known here", clip(s)), "one of: once, monthly, yearly on MM-DD, fee.due")
	}
}

func fixedFeeSchema() schema {
	return schema{
		"class":     enum("what the fee is for", feeClasses...),
		"due":       pattern("once, monthly, yearly on MM-DD, or on the event fee.due", `^(once|monthly|fee\.due|yearly on [0-9]{2}-[0-9]{2})$`),
		"amount":    numberSchema("the fee; with fee.due the event's amount if left out"),
		"amounts":   schema{"type": "object", "description": "the fee by the event's reference", "additionalProperties": numberSchema("")},
		"reference": text("only fee.due events that carry it"),
		"per":       enum("who is charged once", "partner", "app"),
	}.require("class", "due")
}

func priceFixedFees(p *pricer) error {
	monthly := map[LineKey]bool{}
	for _, s := range p.segments {
		for i := range s.Terms.Rules {
			r := &s.Terms.Rules[i]
			b, ok := r.Body.(*FixedFee)
			if !ok {
				continue
			}
			if b.Due == metering.FeeDue {
				p.feesDue(s, r, b)
				continue
			}
			for _, app := range s.instances(r, b.Per) {
				p.calendarFee(s, r, b, app, monthly)
			}
		}
	}
	return nil
}

// calendarFee charges what the calendar makes due in the segment: once ever, once a
// month whatever versions it has, or on the day of the year.
func (p *pricer) calendarFee(s *segment, r *Rule, b *FixedFee, app partner.AppID, monthly map[LineKey]bool) {
	scope, line := p.scope(s, b.Per, app, "")
	what := "fee"
	switch b.Due {
	case "once":
		k := totalKey{s.Terms.Contract, r.ID, "charged", scope}
		if p.totals[k] != nil {
			return
		}
		p.totals[k] = &Total{Contract: s.Terms.Contract, Rule: r.ID, What: "charged", Scope: scope, Since: period.DateOf(s.Period.Start, s.Terms.Zone), Value: decimal.NewFromInt(1)}
		what = "once"
	case "monthly":
		k := LineKey{Contract: s.Terms.Contract, Rule: r.ID, Scope: line}
		if monthly[k] {
			return
		}
		monthly[k] = true
		what = p.in.Month.Name()
	case "yearly":
		day := period.Date{Year: p.in.Month.Year, Month: b.Month, Day: b.Day}
		if !s.Period.Contains(day.In(s.Terms.Zone)) {
			return
		}
		what = "due " + day.Short()
	}
	l := p.feeLine(s, r, line)
	l.add(what, *b.Amount, decimal.NewFromInt(-1))
	l.allocate(app, "", 0, b.Amount.Neg())
}

func (p *pricer) feeLine(s *segment, r *Rule, scope string) *lineBuilder {
	l := p.line(s, r, "fee", scope, s.Terms.Partner, partner.Platform)
	if l.Text == "" {
		name := string(r.Class)
		l.Text = cmp.Or(r.Text, strings.ToUpper(name[:1])+name[1:]+" fee")
	}
	if a, ok := strings.CutPrefix(scope, "app:"); ok {
		l.Events.Apps = []partner.AppID{partner.AppID(a)}
	}
	return l
}

// feesDue charges the events fee.due of the rule's class and reference. The first rule
// that names an event takes it.
func (p *pricer) feesDue(s *segment, r *Rule, b *FixedFee) {
	for i := range s.transactions {
		t := &s.transactions[i]
		if t.Type != metering.FeeDue || t.state == "sandbox" || t.state == "priced" || !t.own ||
			t.Data.Class != r.Class || !s.about(r, t.Data.App) || b.Reference != "" && b.Reference != t.Data.Reference {
			continue
		}
		var amount decimal.Decimal
		named, ok := b.Amounts[t.Data.Reference]
		switch {
		case ok:
			amount = named
		case b.Amount != nil:
			amount = *b.Amount
		default:
			var why string
			if amount, why = s.amount(t); why != "" {
				t.unpriced(why)
				continue
			}
		}
		t.priced(r)
		_, line := p.scope(s, b.Per, t.Data.App, "")
		l := p.feeLine(s, r, line)
		l.Count++
		l.behind(metering.FeeDue)
		what := cmp.Or(t.Data.Reference, "due") + ", " + period.DateOf(t.Time, s.Terms.Zone).Short()
		l.add(what, amount, decimal.NewFromInt(-1))
		l.allocate(t.Data.App, t.Customer, 1, amount.Neg())
		if t.Data.TaxAmount != nil {
			l.note("tax of the event is not charged here")
		}
	}
}
