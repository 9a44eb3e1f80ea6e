package pricing

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
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
	Due       string                     `json:"due"`                 // once | monthly | yearly | every | fee.due
	Month     time.Month                 `json:"month,omitempty"`     // yearly
	Day       int                        `json:"day,omitempty"`       // yearly
	Amount    *decimal.Decimal           `json:"amount,omitempty"`    // nil: the event says it
	Amounts   map[string]decimal.Decimal `json:"amounts,omitempty"`   // fee.due: by the event's reference
	Reference string                     `json:"reference,omitempty"` // fee.due: only events that carry it
	Per       string                     `json:"per"`                 // partner | app
	CycleDay  int                        `json:"cycle_day,omitempty"` // monthly on a day
	Every     int                        `json:"every_days,omitempty"`
	Prorate   string                     `json:"prorate,omitempty"`     // day: cycles that terms begin, end or change in are charged by days
	Charged   string                     `json:"charged,omitempty"`     // in_arrears: when the cycle ends
	Over      int                        `json:"over_months,omitempty"` // months over which it is earned; 0: when it is charged
}

// feeClasses are the classes a fixed fee may have.
var feeClasses = []string{string(metering.Listing), string(metering.Certification), string(metering.Placement), string(metering.Support)}

func decodeFixedFee(c *contract, o *object) any {
	b := &FixedFee{Per: "partner"}
	if f, ok := o.need("class", "one of: "+strings.Join(feeClasses, ", ")); ok {
		f.oneOf(feeClasses...)
	}
	if f, ok := o.need("due", dueHelp); ok {
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
	b.readCycles(o)
	b.readRecognition(o)
	return b
}

const dueHelp = "one of: once, monthly, monthly on DD, yearly on MM-DD, every N days, fee.due"

// readCycles reads how the cycles of a recurring fee are charged.
func (b *FixedFee) readCycles(o *object) {
	recurs := b.Due == "monthly" || b.Due == "yearly" || b.Due == "every" || b.Due == ""
	if f, ok := o.get("prorate"); ok {
		if b.Prorate, _ = f.oneOf("day"); !recurs {
			f.bad("only a fee that recurs is prorated", "due: monthly, yearly on MM-DD or every N days")
		}
	}
	if f, ok := o.get("charged"); ok {
		word, _ := f.oneOf("in_advance", "in_arrears")
		switch {
		case !recurs:
			f.bad("only a fee that recurs is charged in advance or in arrears", "leave it out")
		case word == "in_arrears" && b.Prorate != "" && (b.Due != "monthly" || b.CycleDay > 1):
			f.bad("in arrears only calendar months are prorated", "due: monthly, or charged: in_advance")
		case word == "in_arrears":
			b.Charged = word
		}
	}
}

// everyForm is "every 7 days".
var everyForm = regexp.MustCompile(`^every ([0-9]{1,3}) days?$`)

func (b *FixedFee) readDue(f value) {
	s, ok := f.text()
	if !ok {
		return
	}
	on, yearly := strings.CutPrefix(s, "yearly on ")
	day, monthly := strings.CutPrefix(s, "monthly on ")
	every := everyForm.FindStringSubmatch(s)
	switch {
	case monthly:
		n, err := strconv.Atoi(day)
		if err != nil || n < 1 || n > 31 {
			f.bad(fmt.Sprintf("%q is no day of a month", clip(day)), "write it like monthly on 10; a shorter month takes its last day")
			return
		}
		b.Due, b.CycleDay = "monthly", n
	case every != nil:
		n, _ := strconv.Atoi(every[1])
		if n < 1 || n > 366 {
			f.bad(fmt.Sprintf("a fee every %d days", n), "want 1 to 366")
			return
		}
		b.Due, b.Every = "every", n
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
		f.bad(fmt.Sprintf("%q is not known here", clip(s)), dueHelp)
	}
}

func fixedFeeSchema() schema {
	return schema{
		"class":     enum("what the fee is for", feeClasses...),
		"due":       pattern("once, monthly, monthly on DD, yearly on MM-DD, every N days from effective.from, or on the event fee.due", `^(once|monthly( on [0-9]{1,2})?|fee\.due|yearly on [0-9]{2}-[0-9]{2}|every [0-9]{1,3} days?)$`),
		"amount":    numberSchema("the fee; with fee.due the event's amount if left out"),
		"amounts":   schema{"type": "object", "description": "the fee by the event's reference", "additionalProperties": numberSchema("the fee for this reference")},
		"reference": text("only fee.due events that carry it"),
		"per":       enum("who is charged once", "partner", "app"),
		"prorate":   enum("a cycle in which terms begin, end or change is charged, and given back, by days", "day"),
		"charged":   enum("on the first day of each cycle, or on its last", "in_advance", "in_arrears"),
		"recognise": recogniseSchema(),
	}.require("class", "due")
}

func priceFixedFees(p *pricer) error {
	monthly := map[LineKey]bool{}
	for _, s := range p.segments {
		p.creditUnused(s)
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
				if b.recurring() {
					total, line := p.scope(s, b.Per, app, "")
					p.cycleFee(s, r, b, feeScope{total, line})
					continue
				}
				p.calendarFee(s, r, b, app, monthly)
			}
		}
	}
	p.endAdvances()
	return nil
}

// feeScope is whom a recurring fee is charged to: the scope of its totals and of its
// line.
type feeScope struct{ total, line string }

// app is the app that is charged, if the fee is charged by app.
func (f feeScope) app() partner.AppID {
	a, _ := strings.CutPrefix(f.line, "app:")
	return partner.AppID(a)
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
	l.took(wentPrice, 0, "")
	l.add(what, *b.Amount, decimal.NewFromInt(-1))
	l.charge(b.Over, *b.Amount)
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
		exchanged := false // the event's own amount, which may be in another currency
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
			exchanged = true
		}
		t.priced(r)
		_, line := p.scope(s, b.Per, t.Data.App, "")
		l := p.feeLine(s, r, line)
		if exchanged {
			l.exchange(t, one)
		}
		if ok {
			l.took(wentValue, 0, t.Data.Reference)
		} else {
			l.took(wentPrice, 0, "")
		}
		l.Count++
		l.behind(metering.FeeDue)
		what := cmp.Or(t.Data.Reference, "due") + ", " + period.DateOf(t.Time, s.Terms.Zone).Short()
		l.add(what, amount, decimal.NewFromInt(-1))
		l.charge(b.Over, amount)
		l.allocate(t.Data.App, t.Customer, 1, amount.Neg())
		if t.Data.TaxAmount != nil {
			l.note("tax of the event is not charged here")
		}
	}
}
