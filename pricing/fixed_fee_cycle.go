package pricing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/period"
)

// cycle is the time that one charge of a recurring fee is for.
type cycle struct{ from, until period.Date }

func (c cycle) days() int { return c.from.DaysUntil(c.until) }

// cycle is the one that holds a day, under terms that begin on a day.
func (b *FixedFee) cycle(day, begin period.Date) cycle {
	switch {
	case b.Every > 0:
		n := begin.DaysUntil(day) / b.Every * b.Every
		return cycle{begin.AddDays(n), begin.AddDays(n + b.Every)}
	case b.Due == "yearly":
		from := period.Date{Year: day.Year, Month: b.Month, Day: b.Day}
		if day.Before(from) {
			from.Year--
		}
		return cycle{from, period.Date{Year: from.Year + 1, Month: b.Month, Day: b.Day}}
	}
	at := func(m period.Month) period.Date { return m.First().AddDays(min(max(b.CycleDay, 1), m.Last().Day) - 1) }
	from := at(day.MonthOf())
	if day.Before(from) {
		from = at(day.MonthOf().Add(-1))
	}
	return cycle{from, at(from.MonthOf().Add(1))}
}

// recurring reports whether the fee is charged by cycles of its own, and not simply
// once in each month or year.
func (b *FixedFee) recurring() bool {
	return b.Every > 0 || b.CycleDay > 0 || b.Prorate != "" || b.Charged != ""
}

// dates are the first day of the segment and the first one after it.
func (s *segment) dates() (from, until period.Date) {
	return period.DateOf(s.Period.Start, s.Terms.Zone), period.DateOf(s.Period.End.Add(-time.Nanosecond), s.Terms.Zone).AddDays(1)
}

// cycleFee charges the cycles of a recurring fee that begin or, in arrears, end in the
// segment.
func (p *pricer) cycleFee(s *segment, r *Rule, b *FixedFee, app feeScope) {
	switch {
	case b.Prorate == "":
		p.wholeCycles(s, r, b, app)
	case b.Charged == "in_arrears":
		from, until := s.dates()
		c := cycle{p.in.Month.First(), p.in.Month.Add(1).First()}
		p.chargeDays(s, r, b, app, from, until, c)
	default:
		p.cyclesAhead(s, r, b, app)
	}
}

// wholeCycles charges the whole fee in the segment that holds the first day of a cycle,
// or in arrears its last day.
func (p *pricer) wholeCycles(s *segment, r *Rule, b *FixedFee, app feeScope) {
	from, until := s.dates()
	for day := from; day.Before(until); {
		c := b.cycle(day, s.Terms.From)
		due := c.from
		if b.Charged == "in_arrears" {
			due = c.until.AddDays(-1)
		}
		if !due.Before(from) && due.Before(until) {
			p.chargeDays(s, r, b, app, c.from, c.until, c)
		}
		day = c.until
	}
}

// cyclesAhead charges cycles from their first day in the segment to their end, or to
// that of the terms, by days. What was charged ahead goes on into the next month.
func (p *pricer) cyclesAhead(s *segment, r *Rule, b *FixedFee, app feeScope) {
	from, until := s.dates()
	paid := p.paidAhead(s.Terms.Contract, r.ID, app.total)
	if paid != nil && from.Before(paid.Since) {
		from = paid.Since
	}
	for day := from; day.Before(until); {
		c := b.cycle(day, s.Terms.From)
		end := c.until
		if !s.Terms.Until.IsZero() && s.Terms.Until.Before(end) {
			end = s.Terms.Until
		}
		if !day.Before(end) {
			break
		}
		p.chargeDays(s, r, b, app, day, end, c)
		p.payAhead(s, r, b, app.total, c.days(), end)
		day = end
	}
}

// chargeDays charges the part of a cycle's fee that lies between two days.
func (p *pricer) chargeDays(s *segment, r *Rule, b *FixedFee, app feeScope, from, until period.Date, c cycle) {
	what := from.Short() + " to " + until.AddDays(-1).Short()
	if days := from.DaysUntil(until); days != c.days() {
		what += fmt.Sprintf(": %d of %d days of %s", days, c.days(), groupedMoney(*b.Amount, s.Terms.Currency))
		p.took(s, r, wentDays, 0, "")
	} else {
		p.took(s, r, wentPrice, 0, "")
	}
	l, amount := p.addFee(s, r, app, what, prorate(*b.Amount, from.DaysUntil(until), c.days()), one.Neg())
	l.charge(b.Over, amount)
}

// addFee is one part of a fee; with rounding by transaction each part is rounded.
func (p *pricer) addFee(s *segment, r *Rule, app feeScope, what string, amount, sign decimal.Decimal) (*lineBuilder, decimal.Decimal) {
	if s.Terms.Round.Per == "transaction" {
		amount = s.Terms.Round.decimal(amount, s.Terms.Currency)
	}
	l := p.feeLine(s, r, app.line)
	l.allocate(app.app(), "", 0, l.add(what, amount, sign))
	return l, amount
}

// advanceForm is what totals of fees charged ahead are called: how many days the cycle
// has and what class the fee is of. Since is the day up to which it was charged, Value
// the fee of the whole cycle. One that is earned over months says so behind it.
const (
	advanceForm = advance + " of %d days %s"
	overForm    = " over %d months"
)

// paidAhead is the total of a fee that was charged ahead.
func (p *pricer) paidAhead(contract, rule, scope string) *Total {
	for k, t := range p.totals {
		if k.contract == contract && k.rule == rule && k.scope == scope && strings.HasPrefix(k.what, advance) {
			return t
		}
	}
	return nil
}

// payAhead notes up to which day a fee was charged.
func (p *pricer) payAhead(s *segment, r *Rule, b *FixedFee, scope string, days int, until period.Date) {
	p.forget(p.paidAhead(s.Terms.Contract, r.ID, scope))
	t := &Total{Contract: s.Terms.Contract, Rule: r.ID, What: fmt.Sprintf(advanceForm, days, r.Class), Scope: scope, Since: until, Value: *b.Amount}
	if b.Over > 0 {
		t.What += fmt.Sprintf(overForm, b.Over)
	}
	p.totals[totalKey{t.Contract, t.Rule, t.What, t.Scope}] = t
}

// forget drops a total.
func (p *pricer) forget(t *Total) {
	if t != nil {
		delete(p.totals, totalKey{t.Contract, t.Rule, t.What, t.Scope})
	}
}

// creditUnused gives back what fees of the version before charged beyond the day on
// which this one begins.
func (p *pricer) creditUnused(s *segment) {
	begin, _ := s.dates()
	if s.Terms.From != begin {
		return
	}
	for _, t := range p.advances(s.Terms.Contract) {
		var days int
		var class metering.Class
		if _, err := fmt.Sscanf(t.What, advanceForm, &days, &class); err != nil || !begin.Before(t.Since) {
			continue
		}
		r := &Rule{ID: t.Rule, Kind: "fixed_fee", Class: class}
		if i, ok := s.order[t.Rule]; ok && s.Terms.Rules[i].Kind == r.Kind {
			r = &s.Terms.Rules[i]
		}
		left := begin.DaysUntil(t.Since)
		what := fmt.Sprintf("unused from %s: %d of %d days of %s", begin.Short(), left, days, groupedMoney(t.Value, s.Terms.Currency))
		l, amount := p.addFee(s, r, feeScope{t.Scope, lineScope(t.Scope)}, what, prorate(t.Value, left, days), one)
		var over int
		if _, err := fmt.Sscanf(t.What, advanceForm+overForm, &days, &class, &over); err == nil {
			l.giveBack(over, amount)
		}
		p.forget(t)
	}
}

// advances are the totals of fees that a contract charged ahead, in order.
func (p *pricer) advances(contract string) []*Total {
	var out []*Total
	for k, t := range p.totals {
		if k.contract == contract && strings.HasPrefix(k.what, advance) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *Total) int {
		return cmp.Or(strings.Compare(a.Rule, b.Rule), strings.Compare(a.Scope, b.Scope))
	})
	return out
}

// endAdvances drops what was charged ahead and is used up by the month's end.
func (p *pricer) endAdvances() {
	next := p.in.Month.Add(1).First()
	for _, t := range p.totals {
		if strings.HasPrefix(t.What, advance) && !next.Before(t.Since) {
			p.forget(t)
		}
	}
}
