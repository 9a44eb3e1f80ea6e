package compliance

import (
	"fmt"
	"slices"
	"strings"

	"mete/metering"
	"mete/partner"
	"mete/pricing"
)

// referralRemuneration finds payments, in either direction, that vary with volume or
// value, where a party or an app can steer what federal programmes pay for.
func referralRemuneration(c *Case, r *pricing.Rule) string {
	how := varies(r)
	if how == "" {
		return ""
	}
	for _, id := range c.parties(r) {
		if t := c.Partners[id].Type; t == partner.Provider || t == partner.Manufacturer {
			return fmt.Sprintf("%s is %s, and %s is a %s", r.ID, how, id, t)
		}
	}
	for _, id := range c.appsOf(r) {
		if c.Apps[id].SteersOrders {
			return fmt.Sprintf("%s is %s, and %s steers orders", r.ID, how, id)
		}
	}
	return ""
}

// varies says how a payment varies with volume or value, "" if it is none of those that
// are paid for bringing or steering business.
func varies(r *pricing.Rule) string {
	switch b := r.Body.(type) {
	case *pricing.Referral:
		if b.Flat != nil && !positive(*b.Flat) || b.Percent != nil && !positive(*b.Percent) {
			return ""
		}
		return "a commission of " + referralRate(b)
	case *pricing.Quality:
		return "an adjustment of what is paid by an app's scorecard"
	case *pricing.FixedFee:
		if r.Class == metering.Placement && b.Due == metering.FeeDue {
			return "a placement fee for each event"
		}
		return ""
	case *pricing.UsageFee, *pricing.Share:
		if r.Class == metering.Placement || r.Class == metering.Referral {
			return fmt.Sprintf("a payment for %s that varies with volume or value", r.Class)
		}
		return ""
	}
	if r.Kind == "split" || r.Class == metering.Placement || r.Class == metering.Referral {
		return fmt.Sprintf("a %s that may vary with volume or value", r.Kind)
	}
	return ""
}

// unequalRates finds a rate that another partner does not have, for the same thing.
func unequalRates(c *Case, r *pricing.Rule) string {
	if r.Criterion != nil {
		return ""
	}
	mine, ok := c.rateOf(c.Terms, r)
	if !ok {
		return ""
	}
	var others []string
	for _, t := range c.Others {
		if t.Partner == c.Terms.Partner {
			continue
		}
		for i := range t.Rules {
			theirs, ok := c.rateOf(t, &t.Rules[i])
			if t.Rules[i].Criterion != nil { // why theirs is another is recorded
				continue
			}
			if ok && theirs.thing == mine.thing && theirs.rate != mine.rate {
				others = append(others, fmt.Sprintf("%s has %s (%s)", t.Partner, theirs.rate, t.Contract))
			}
		}
	}
	if len(others) == 0 {
		return ""
	}
	slices.Sort(others)
	others = slices.Compact(others)
	more := ""
	if n := len(others) - maxNamed; n > 0 {
		others, more = others[:maxNamed], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%s is %s for %s, %s%s, and no criterion is recorded", r.ID, mine.rate, mine.thing, strings.Join(others, ", "), more)
}

// maxNamed bounds how many others one finding names.
const maxNamed = 5
