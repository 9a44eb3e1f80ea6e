package pricing

import (
	"fmt"
	"strings"

	"github.com/shopspring/decimal"
)

// chargeCapacity charges the first price whose limits hold for every meter.
func (p *pricer) chargeCapacity(s *segment, r *Rule, b *UsageFee) {
	before, after := map[string]map[string]decimal.Decimal{}, map[string]map[string]decimal.Decimal{}
	all := usageSums{}
	for _, id := range b.Meters() {
		sums := p.usageOf(s, r, b, id)
		for _, scope := range sortedKeys(sums) {
			sum := all.of(scope, sums[scope].line)
			sum.events += sums[scope].events
			for _, c := range sums[scope].cells.all {
				sum.add(c.app, c.customer, c.events, c.exact)
			}
			t := p.total(s, r.ID, "quantity of "+id, scope, b.Window)
			if before[scope] == nil {
				before[scope], after[scope] = map[string]decimal.Decimal{}, map[string]decimal.Decimal{}
			}
			before[scope][id] = t.at()
			after[scope][id] = b.Quantity.billed(b.Quantity.moves(t.at(), sums[scope].quantity))
			t.Value = t.Value.Add(b.Quantity.moves(t.at(), sums[scope].quantity).Sub(t.at()))
		}
	}
	for _, scope := range sortedKeys(all) {
		l := p.usageLine(s, r, b, all[scope].line)
		l.Count += all[scope].events
		was := l.Exact
		m := b.Price
		used := p.capacityUse(s, r, b, scope, after[scope])
		i := m.reached(used)
		m.tookStep(l, i)
		l.add("capacity of step "+fmt.Sprint(i+1)+": "+capacityText(used), m.Capacities[i].Price, one.Neg())
		if p.charged(s, r, b, scope) {
			j := m.reached(p.capacityUse(s, r, b, scope, before[scope]))
			l.add("less what came before: capacity of step "+fmt.Sprint(j+1), m.Capacities[j].Price, one)
		}
		p.total(s, r.ID, "charged", scope, b.Window).Value = one
		p.spread(l, all[scope], l.Exact.Sub(was))
	}
}

// usageOf is the figure of one meter of a capacity.
func (p *pricer) usageOf(s *segment, r *Rule, b *UsageFee, meter string) usageSums {
	switch {
	case b.Quantity.ofLevel():
		return p.levels(s, r, &UsageFee{Meter: meter, Per: b.Per, Window: b.Window, Price: b.Price, Quantity: b.Quantity})
	case b.Quantity.eachEvent():
		return p.readings(s, r, b, meter)
	}
	return p.usage(s, r, b, meter)
}

// capacityUse is what all meters have come to, given those that moved.
func (p *pricer) capacityUse(s *segment, r *Rule, b *UsageFee, scope string, moved map[string]decimal.Decimal) map[string]decimal.Decimal {
	used := map[string]decimal.Decimal{}
	for _, id := range b.Meters() {
		if q, ok := moved[id]; ok {
			used[id] = q
			continue
		}
		used[id] = b.Quantity.billed(p.total(s, r.ID, "quantity of "+id, scope, b.Window).at())
	}
	return used
}

// charged reports whether the scope was charged for its capacity in this window.
func (p *pricer) charged(s *segment, r *Rule, b *UsageFee, scope string) bool {
	return p.total(s, r.ID, "charged", scope, b.Window).at().IsPositive()
}

func capacityText(used map[string]decimal.Decimal) string {
	var parts []string
	for _, id := range sortedKeys(used) {
		parts = append(parts, id+" "+grouped(used[id]))
	}
	return strings.Join(parts, ", ")
}
