package compliance

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/pricing"
)

// thing is what two parties may be charged or paid alike for: a kind of rule on a
// class, in one currency, of one meter or occasion.
type thing struct {
	kind, class, of string
	currency        money.Currency
}

func (t thing) String() string {
	s := t.kind + " on " + cmp.Or(t.class, "every class")
	if t.of != "" {
		s += " (" + t.of + ")"
	}
	return s + " in " + string(t.currency)
}

// rate is what a rule charges or pays for a thing, in words that are equal exactly
// when the prices are.
type rate struct {
	thing
	rate string
}

// rateOf reads the rate of a rule of any contract. A quality rule has none of its own,
// and of a kind that is not known nobody can say what is equal.
func (c *Case) rateOf(t *pricing.Terms, r *pricing.Rule) (rate, bool) {
	of := Case{Facts: c.Facts, Terms: t}
	out := rate{thing: thing{kind: r.Kind, class: string(of.class(r)), currency: t.Currency}}
	switch b := r.Body.(type) {
	case *pricing.Share:
		out.rate = ladder(b.Steps, pricing.Percent, func(s pricing.TierStep) decimal.Decimal { return s.Rate }, string(t.Currency))
		if tiers := b.Tiers; tiers != nil {
			out.rate += fmt.Sprintf(" of %s sales per %s, %s", tiers.On, tiers.Per, tiers.Window)
			out.rate += unless(tiers.Mode == "graduated", tiers.Mode)
		}
		if len(b.Rates)+len(b.Points)+len(b.Deals) > 0 {
			out.rate = written(b)
		}
	case *pricing.UsageFee:
		out.of, out.rate = cmp.Or(b.Meter, b.Of), usageRate(b, string(t.Currency))
	case *pricing.FixedFee:
		out.of, out.rate = cmp.Or(b.Reference, b.Due), fixedRate(b, string(t.Currency))
	case *pricing.Referral:
		out.of = "to the partner"
		if of.party(b.From) == t.Partner {
			out.of = "from the partner"
		}
		out.rate = referralRate(b)
		if b.Cap != nil {
			out.rate += ", at most " + b.Cap.String() + " per customer"
		}
	default:
		return rate{}, false
	}
	return out, true
}

func usageRate(b *pricing.UsageFee, currency string) string {
	var s string
	switch m := b.Price; m.Model {
	case "per_unit":
		s = m.Unit.String() + " " + currency + " each"
	case "percentage":
		s = pricing.Percent(m.Rate)
		if positive(m.Fixed) {
			s += " and " + m.Fixed.String() + " " + currency + " per event"
		}
	case "graduated":
		s = ladder(m.Steps, func(d decimal.Decimal) string { return d.String() + " " + currency + " each" },
			func(s pricing.TierStep) decimal.Decimal { return s.Unit }, "")
	default: // in no words of ours: as it is written, so that another price is never taken for the same
		s = written(m)
	}
	rest := b.Price
	rest.Model, rest.Unit, rest.Rate, rest.Fixed = "", decimal.Zero, decimal.Zero, decimal.Zero
	if rest.Steps = nil; b.Quantity != nil || b.Price.Model != "" && !same(rest, pricing.Model{ChargeAtZero: rest.ChargeAtZero}) || len(b.Price.Steps) > 0 && b.Price.Model != "graduated" {
		s = written(b)
	}
	if b.Window.Kind != "month" || b.Per != "partner" {
		s += fmt.Sprintf(", counted per %s, %s", b.Per, b.Window)
	}
	return s
}

// written is v as JSON, for what there are no words for.
func written(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("compliance: internal error: %v", err))
	}
	return string(b)
}

func unless(is bool, word string) string {
	if is {
		return ""
	}
	return ", " + word
}

func fixedRate(b *pricing.FixedFee, currency string) string {
	var s string
	switch {
	case b.Amount != nil:
		s = b.Amount.String() + " " + currency
	case len(b.Amounts) > 0:
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(b.Amounts)) {
			parts = append(parts, name+" "+b.Amounts[name].String()+" "+currency)
		}
		s = strings.Join(parts, ", ")
	default:
		s = "what each event says"
	}
	s += " per " + b.Per
	for _, more := range []string{b.Prorate, b.Charged} {
		s += unless(more == "", more)
	}
	if b.Every > 0 {
		s += fmt.Sprintf(", every %d days", b.Every)
	}
	return s
}

// ladder is a price by steps in words: 0% up to 1,000,000, then 15%.
func ladder(steps pricing.Steps, text func(decimal.Decimal) string, price func(pricing.TierStep) decimal.Decimal, unit string) string {
	parts := make([]string, len(steps))
	for i, s := range steps {
		parts[i] = text(price(s))
		if positive(s.Flat) {
			parts[i] += " and " + s.Flat.String() + " once in the step"
		}
		if s.To == nil {
			continue
		}
		word := " up to "
		if s.Below {
			word = " below "
		}
		parts[i] += strings.TrimRight(word+money.Group(s.To.String())+" "+unit, " ")
	}
	return strings.Join(parts, ", then ")
}
