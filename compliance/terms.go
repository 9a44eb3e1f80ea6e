package compliance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/shopspring/decimal"

	"mete/pricing"
)

// wholePredicates find a rule in the terms as a whole: in which contract rule, if in
// one, and what.
var wholePredicates = map[string]func(*Case) (*pricing.Rule, string){
	"retroactive-terms": retroactiveTerms,
}

// retroactiveTerms finds terms that begin before the day they are judged on and change
// what was in force then, unless every change can be shown to be no worse for the
// partner. What cannot be compared counts as worse.
func retroactiveTerms(c *Case) (*pricing.Rule, string) {
	if c.Before == nil || !c.Terms.From.Before(c.On) {
		return nil, ""
	}
	r, why := c.worse()
	if why == "" {
		return nil, ""
	}
	return r, fmt.Sprintf("the terms begin on %s, it is %s, and version %d was in force: %s", c.Terms.From, c.On, c.Before.Version, why)
}

// worse is the first change against the partner, "" if all are shown to be none.
func (c *Case) worse() (*pricing.Rule, string) {
	old, now := c.Before, c.Terms
	was := Case{Facts: c.Facts, Terms: old}
	if old.Currency != now.Currency || old.ZoneName != now.ZoneName || old.Restart != now.Restart || !same(old.Round, now.Round) || !same(old.FX, now.FX) || !same(old.Apps, now.Apps) || old.Deal != now.Deal || old.Customer != now.Customer {
		return nil, "currency, conversion, zone, rounding, running totals, apps, customer or deal change, which cannot be shown to be no worse for the partner"
	}
	if why := worsePayout(old, now); why != "" {
		return nil, why
	}
	for i := range now.Rules {
		r := &now.Rules[i]
		o := ruleOf(old, r.ID)
		if o == nil {
			if r.Kind == "quality" || c.priceOf(r).charges {
				return r, r.ID + " is new"
			}
			continue
		}
		if why := c.worseRule(&was, o, r); why != "" {
			return r, why
		}
	}
	for i := range old.Rules {
		o := &old.Rules[i]
		if ruleOf(now, o.ID) == nil && (!was.priceOf(o).charges || o.Kind == "quality") {
			return nil, o.ID + ", which may have been to the partner's advantage, is gone"
		}
	}
	return nil, ""
}

func ruleOf(t *pricing.Terms, id string) *pricing.Rule {
	if i := slices.IndexFunc(t.Rules, func(r pricing.Rule) bool { return r.ID == id }); i >= 0 {
		return &t.Rules[i]
	}
	return nil
}

func worsePayout(old, now *pricing.Terms) string {
	o, n := old.Payout, now.Payout
	switch {
	case n.Minimum != nil && (o.Minimum == nil || n.Minimum.Minor > o.Minimum.Minor):
		return "the smallest payout rises"
	case n.Reserve != nil && (o.Reserve == nil || n.Reserve.Of != o.Reserve.Of || n.Reserve.Rate.GreaterThan(o.Reserve.Rate) || n.Reserve.ReleaseAfter > o.Reserve.ReleaseAfter):
		return "more is kept in reserve, or longer"
	case old.LateLimit > 0 && (now.LateLimit == 0 || now.LateLimit > old.LateLimit), old.NamesLimit != now.NamesLimit:
		return "late events may be charged for longer"
	case now.Notice < old.Notice:
		return "less notice of other terms is promised"
	}
	return ""
}

// worseRule says why a rule may be worse than the one of its name before.
func (c *Case) worseRule(was *Case, o, r *pricing.Rule) string {
	cannot := r.ID + " changes in a way that cannot be shown to be no worse for the partner"
	if o.Kind != r.Kind || o.Class != r.Class || !same(o.Apps, r.Apps) {
		return cannot
	}
	if same(o.Body, r.Body) {
		return ""
	}
	var before, after []decimal.Decimal
	var restBefore, restAfter any // without prices: what else there is, of today's fields and tomorrow's
	paid := false                 // the partner is paid by the rule, so that less is worse
	switch b := r.Body.(type) {
	case *pricing.Share:
		a := o.Body.(*pricing.Share)
		x, y := *a, *b
		x.Rate, x.Steps, y.Rate, y.Steps = decimal.Zero, unpriced(a.Steps), decimal.Zero, unpriced(b.Steps)
		restBefore, restAfter = x, y
		before, after = stepPrices(a.Steps), stepPrices(b.Steps)
	case *pricing.UsageFee:
		a := o.Body.(*pricing.UsageFee)
		if !slices.Contains([]string{"per_unit", "graduated", "percentage"}, b.Price.Model) {
			return cannot
		}
		x, y := *a, *b
		x.Price.Unit, x.Price.Rate, x.Price.Fixed, x.Price.Steps = decimal.Zero, decimal.Zero, decimal.Zero, unpriced(a.Price.Steps)
		y.Price.Unit, y.Price.Rate, y.Price.Fixed, y.Price.Steps = decimal.Zero, decimal.Zero, decimal.Zero, unpriced(b.Price.Steps)
		y.Price.ChargeAtZero = b.Price.ChargeAtZero || a.Price.ChargeAtZero // no longer charging at zero is no worse
		restBefore, restAfter = x, y
		before, after = modelPrices(a.Price), modelPrices(b.Price)
	case *pricing.FixedFee:
		a := o.Body.(*pricing.FixedFee)
		if a.Amount == nil || b.Amount == nil {
			return cannot
		}
		x, y := *a, *b
		x.Amount, y.Amount = nil, nil
		restBefore, restAfter = x, y
		before, after = []decimal.Decimal{*a.Amount}, []decimal.Decimal{*b.Amount}
	case *pricing.Referral:
		a := o.Body.(*pricing.Referral)
		if (a.Flat == nil) != (b.Flat == nil) {
			return cannot
		}
		x, y := *a, *b
		x.Flat, x.Percent, y.Flat, y.Percent = nil, nil, nil, nil
		restBefore, restAfter = x, y
		paid = c.party(b.From) != c.Terms.Partner
		before, after = commission(a), commission(b)
	default:
		return cannot
	}
	if !same(restBefore, restAfter) || len(before) != len(after) {
		return cannot
	}
	for i := range after {
		if paid && after[i].LessThan(before[i]) || !paid && after[i].GreaterThan(before[i]) {
			return fmt.Sprintf("%s becomes worse for the partner: %s, and was %s", r.ID, rateText(c, r), rateText(was, o))
		}
	}
	return ""
}

func rateText(c *Case, r *pricing.Rule) string {
	of, _ := c.rateOf(c.Terms, r)
	return of.rate
}

// unpriced are the steps without their prices.
func unpriced(steps pricing.Steps) pricing.Steps {
	out := slices.Clone(steps)
	for i := range out {
		out[i].Rate, out[i].Unit, out[i].Flat = decimal.Zero, decimal.Zero, decimal.Zero
	}
	return out
}

func stepPrices(s pricing.Steps) []decimal.Decimal {
	var out []decimal.Decimal
	for _, step := range s {
		out = append(out, step.Rate, step.Unit, step.Flat)
	}
	return out
}

func modelPrices(m pricing.Model) []decimal.Decimal {
	return append(stepPrices(m.Steps), m.Unit, m.Rate, m.Fixed)
}

func commission(b *pricing.Referral) []decimal.Decimal {
	if b.Percent != nil {
		return []decimal.Decimal{*b.Percent}
	}
	return []decimal.Decimal{*b.Flat}
}

// same compares by what the two say in JSON.
func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	if errX != nil || errY != nil {
		panic(fmt.Sprintf("compliance: internal error: compare: %v %v", errX, errY))
	}
	return bytes.Equal(x, y)
}
