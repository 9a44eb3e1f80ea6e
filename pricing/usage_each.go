package pricing

import "github.com/shopspring/decimal"

// chargeEach charges a percentage event by event, in time: an event is free while both
// allowances that are given last, one that the free amount covers in part pays for the
// rest and its fixed fee, and what is not free costs at least min and at most max.
func (p *pricer) chargeEach(s *segment, r *Rule, b *UsageFee) {
	m := b.Price
	p.events(s, r, p.meterOf(b, b.Meter), func(t *transaction, _ decimal.Decimal) {
		amount, why := s.amount(t)
		if why != "" {
			t.unpriced(why)
			return
		}
		t.priced(r)
		scope, line := p.scope(s, b.Per, t.Data.App, t.Customer)
		l := p.usageLine(s, r, b, line)
		l.Count++
		l.Rate = percentageRate(m)
		l.exchange(t, one)
		before := l.Exact
		charged, free := p.free(s, r, b, scope, amount)
		if charged.IsPositive() || !free {
			l.addBase(charged)
			m.chargeOne(l, charged)
		}
		if rest := amount.Sub(charged); rest.IsPositive() || free {
			l.took(wentFree, 0, "")
			l.add("free", rest, decimal.Zero)
		}
		l.allocate(t.Data.App, t.Customer, 1, l.Exact.Sub(before))
	})
}

// free takes an event out of the allowances: the part of its amount that is charged,
// and whether all of it is free.
func (p *pricer) free(s *segment, r *Rule, b *UsageFee, scope string, amount decimal.Decimal) (charged decimal.Decimal, free bool) {
	m := b.Price
	if m.FreeEvents == 0 && m.FreeAmount == nil {
		return amount, false
	}
	events, used := p.total(s, r.ID, "events", scope, b.Window), p.total(s, r.ID, "amount", scope, b.Window)
	count, at := events.at(), used.at()
	events.Value, used.Value = events.Value.Add(one), used.Value.Add(amount)
	if m.FreeEvents > 0 && count.GreaterThanOrEqual(decimal.NewFromInt(m.FreeEvents)) {
		return amount, false
	}
	if m.FreeAmount == nil {
		return decimal.Zero, true
	}
	left := decimal.Max(decimal.Zero, m.FreeAmount.Sub(at))
	if left.IsZero() {
		return amount, false
	}
	charged = decimal.Max(decimal.Zero, amount.Sub(left))
	return charged, charged.IsZero()
}

// chargeOne charges one event that is not free.
func (m Model) chargeOne(l *lineBuilder, amount decimal.Decimal) {
	switch fee := amount.Mul(m.Rate).Add(m.Fixed); {
	case m.Min != nil && fee.LessThan(*m.Min):
		l.took(wentLeast, 0, "")
		l.add("at least "+m.Min.String()+" per event", one, m.Min.Neg())
	case m.Max != nil && fee.GreaterThan(*m.Max):
		l.took(wentMost, 0, "")
		l.add("at most "+m.Max.String()+" per event", one, m.Max.Neg())
	default:
		l.took(wentPrice, 0, "")
		if !m.Rate.IsZero() || m.Fixed.IsZero() {
			l.add("amounts at "+Percent(m.Rate), amount, m.Rate.Neg())
		}
		if !m.Fixed.IsZero() {
			l.add(m.Fixed.String()+" per event", one, m.Fixed.Neg())
		}
	}
}
