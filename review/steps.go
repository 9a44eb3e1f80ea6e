package review

import (
	"fmt"
	"slices"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/pricing"
)

var one = decimal.NewFromInt(1)

// steps looks for steps of rule i that no total can stand in.
func (r *reviewer) steps(i int) {
	rule := &r.t.Rules[i]
	at := fmt.Sprintf("rules[%d]", i)
	switch b := rule.Body.(type) {
	case *pricing.Share:
		if b.Tiers != nil && b.Tiers.On == "paid_months" {
			r.grid(rule, at+".platform.steps", b.Steps, one, "paid months are whole")
		}
	case *pricing.UsageFee:
		switch {
		case b.Price.Model == "capacity":
			r.capacities(rule, at, b.Price.Capacities)
		case b.Quantity != nil && b.Quantity.Round != "":
			if b.Quantity.Free.IsZero() {
				r.grid(rule, at+".price.steps", b.Price.Steps, b.Quantity.To, "the quantity is rounded to multiples of "+b.Quantity.To.String())
			}
		case r.counts(b):
			r.grid(rule, at+".price.steps", b.Price.Steps, one, "the meter counts whole events")
		}
	}
}

// counts reports whether what is priced is a whole number.
func (r *reviewer) counts(b *pricing.UsageFee) bool {
	m, ok := r.b.Meters[b.Meter]
	q := b.Quantity
	return ok && m.Aggregate != metering.AggregateQuantity && b.Price.Model != "graduated_percentage" &&
		(q == nil || q.As != "weighted" && q.As != "prorated" && q.Multiply.IsZero() && q.Divide.IsZero() && q.Free.IsZero())
}

// grid looks for steps without a multiple of a unit in them.
func (r *reviewer) grid(rule *pricing.Rule, at string, steps pricing.Steps, unit decimal.Decimal, why string) {
	for i, s := range steps {
		if s.To == nil {
			continue
		}
		n, rest := s.To.QuoRem(unit, 0)
		highest := n.Mul(unit) // in the step
		if s.Below && rest.IsZero() {
			highest = highest.Sub(unit)
		}
		var begins bool // the step holds its lower bound
		lower := decimal.Zero
		if i > 0 {
			lower, begins = *steps[i-1].To, s.Below
		}
		if highest.LessThan(lower) || highest.Equal(lower) && !begins {
			r.find(Unreachable, rule.ID, fmt.Sprintf("%s[%d]", at, i), fmt.Sprintf("no total stands in step %d: %s", i+1, why), "leave the step out, or move its bound")
		}
	}
}

// capacities looks for steps whose limits an earlier step holds already.
func (r *reviewer) capacities(rule *pricing.Rule, at string, steps []pricing.CapacityStep) {
	for i := range steps {
		for j := range steps[:i] {
			if len(steps[i].Limits) > 0 && within(steps[i].Limits, steps[j].Limits) {
				r.find(Unreachable, rule.ID, fmt.Sprintf("%s.price.steps[%d]", at, i), fmt.Sprintf("whatever fits into step %d fits into step %d before it", i+1, j+1), "raise a limit of the step, or leave it out")
				break
			}
		}
	}
}

// within reports whether whatever keeps the limits of a keeps those of b.
func within(a, b map[string]decimal.Decimal) bool {
	for id, most := range b {
		limit, ok := a[id]
		if !ok || limit.GreaterThan(most) {
			return false
		}
	}
	return true
}

// take computes, for share rule i, what the platform takes of one sale in each step, and
// compares it with the ceiling. It counts the share with the points and quality that move
// it up the most, percentages and fixed amounts on the same sale, and commissions that the
// partner pays the platform; not what discounts, caps, credits or free amounts take off,
// nor fees that no sale causes.
func (r *reviewer) take(i int) {
	rule := &r.t.Rules[i]
	b, ok := rule.Body.(*pricing.Share)
	if !ok || b.Passes != "" || !r.set.Reference.IsPositive() {
		return
	}
	at := fmt.Sprintf("rules[%d].platform", i)
	more := r.besides(rule)
	check := func(rate decimal.Decimal, field, which string) {
		rate = r.moved(rule, b, rate)
		taken := rate.Mul(r.set.Reference).Add(more)
		if of := taken.Div(r.set.Reference); of.GreaterThan(r.set.Ceiling) {
			f := r.find(TakeRate, rule.ID, field, fmt.Sprintf("of a sale of %s %s%s the platform takes up to %s, %s of net sales; the ceiling is %s", r.set.Reference.StringFixed(r.t.Currency.Digits()), r.t.Currency, which,
				taken.StringFixed(r.t.Currency.Digits()), pricing.Percent(of.Round(4)), pricing.Percent(r.set.Ceiling)), "lower the rate or what is charged beside it, or raise contracts.take_rate in mete.yaml; what counts is said in the manual")
			f.Blocks = true
		}
	}
	if b.By != "" {
		for value, rate := range b.Rates {
			check(rate, at+".rates."+value, fmt.Sprintf(" with %s %q", b.By, value))
		}
		if b.Others {
			check(b.Rate, at+".rate", " with another "+b.By)
		}
		return
	}
	for j, s := range b.Steps {
		field, which := at+".rate", ""
		if b.Tiers != nil {
			field, which = fmt.Sprintf("%s.steps[%d].rate", at, j), fmt.Sprintf(" in step %d", j+1)
		}
		check(s.Rate, field, which)
	}
}

// moved is the highest rate that points and quality can make of a rate.
func (r *reviewer) moved(rule *pricing.Rule, b *pricing.Share, rate decimal.Decimal) decimal.Decimal {
	add := map[string]decimal.Decimal{} // one value of each attribute holds
	for _, p := range b.Points {
		if p.Points.GreaterThan(add[p.By]) {
			add[p.By] = p.Points
		}
	}
	for _, d := range add {
		rate = rate.Add(d)
	}
	for _, o := range r.t.Rules {
		q, ok := o.Body.(*pricing.Quality)
		if !ok || q.Adjusts != rule.ID || !rate.IsPositive() {
			continue
		}
		factor, points := one, decimal.Zero
		for _, x := range q.Factors {
			if x.Times.GreaterThan(one) {
				factor = factor.Mul(x.Times)
			}
		}
		if q.Cap != nil {
			factor = decimal.Min(factor, *q.Cap)
		}
		for _, x := range q.Bands {
			points = points.Add(decimal.Max(decimal.Zero, x.Points))
		}
		to := rate.Mul(factor).Add(points)
		if q.Gate != nil {
			to = decimal.Max(to, rate.Add(q.Gate.Otherwise))
		}
		if q.Max != nil && to.GreaterThan(*q.Max) {
			to = decimal.Max(rate, *q.Max)
		}
		rate = decimal.Max(rate, to)
	}
	return decimal.Min(one, decimal.Max(decimal.Zero, rate))
}

// besides is what other rules charge for the same sale.
func (r *reviewer) besides(rule *pricing.Rule) decimal.Decimal {
	sale, sum := r.set.Reference, decimal.Zero
	for _, o := range r.t.Rules {
		if !meet(string(o.Class), string(rule.Class)) || !appsMeet(o.Apps, rule.Apps) {
			if o.Kind != "referral" {
				continue
			}
		}
		switch b := o.Body.(type) {
		case *pricing.UsageFee:
			if b.Of == "" {
				continue
			}
			m := b.Price
			if m.Model == "percentage" {
				fee := sale.Mul(m.Rate).Add(m.Fixed)
				if m.Min != nil {
					fee = decimal.Max(fee, *m.Min)
				}
				if m.Max != nil {
					fee = decimal.Min(fee, *m.Max)
				}
				sum = sum.Add(fee)
				continue
			}
			rates := []decimal.Decimal{decimal.Zero}
			for _, s := range m.Steps {
				rates = append(rates, s.Rate)
			}
			sum = sum.Add(sale.Mul(slices.MaxFunc(rates, decimal.Decimal.Cmp)))
		case *pricing.Referral:
			if b.To == "platform" && b.Percent != nil {
				sum = sum.Add(sale.Mul(*b.Percent))
			}
		}
	}
	return sum
}
