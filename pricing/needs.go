package pricing

import (
	"slices"

	"mete/partner"
)

// Meters is the ids of the meters that the rules read, sorted.
func (t *Terms) Meters() []string {
	var ids []string
	for _, r := range t.Rules {
		if b, ok := r.Body.(*UsageFee); ok {
			ids = append(ids, b.Meters()...)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// EachEvent is the ids of the meters whose events the rules look at one by one, sorted;
// amounts in other currencies are converted one by one:
// the events must be in the Input's transactions beside being counted in its usage.
func (t *Terms) EachEvent() []string {
	var ids []string
	for _, r := range t.Rules {
		if b, ok := r.Body.(*UsageFee); ok && (b.EachEvent() || t.FX != nil && b.ofMoney()) {
			ids = append(ids, b.Meters()...)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// SeesOtherApps reports whether a rule needs the customers' transactions with apps
// that are not the contract's: a referral that pays a percentage of all they buy.
func (t *Terms) SeesOtherApps() bool {
	return slices.ContainsFunc(t.Rules, func(r Rule) bool {
		b, ok := r.Body.(*Referral)
		return ok && b.Percent != nil
	})
}

// Bringers are who is paid for leads, in order: a partner, or the platform.
func (t *Terms) Bringers() []partner.ID {
	var ids []partner.ID
	for _, r := range t.Rules {
		if b, ok := r.Body.(*Referral); ok {
			ids = append(ids, b.party(t, b.To))
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// NeedsLeads reports whether a rule pays for leads.
func (t *Terms) NeedsLeads() bool {
	return slices.ContainsFunc(t.Rules, func(r Rule) bool { return r.Kind == "referral" })
}

// Groups reports whether a tier of the terms runs over the partner's account group.
func (t *Terms) Groups() bool {
	return slices.ContainsFunc(t.Rules, func(r Rule) bool {
		b, ok := r.Body.(*Share)
		return ok && b.Tiers != nil && b.Tiers.Per == "group"
	})
}

// RatedBy is the attributes of sales that choose or move a rate, sorted.
func (t *Terms) RatedBy() []string {
	var by []string
	for _, r := range t.Rules {
		b, ok := r.Body.(*Share)
		if !ok {
			continue
		}
		if b.By != "" {
			by = append(by, b.By)
		}
		for _, u := range b.Points {
			by = append(by, u.By)
		}
	}
	slices.Sort(by)
	return slices.Compact(by)
}
