package pricing

import "slices"

// Meters is the ids of the meters that the rules read, sorted.
func (t *Terms) Meters() []string {
	var ids []string
	for _, r := range t.Rules {
		if b, ok := r.Body.(*UsageFee); ok && b.Meter != "" {
			ids = append(ids, b.Meter)
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
