package pricing

import (
	"slices"
	"strings"
	"time"

	"mete/metering"
	"mete/partner"
)

// FoldLeads says what lead events say together, one Lead per id in order of id. Of
// events of one type the first in time counts; the referrer is the partner of the
// first known code (the event's reference). The order of the events does not matter;
// sandbox events and events without a lead id are left out.
func FoldLeads(txs []metering.Transaction, codes []partner.ReferralCode) []partner.Lead {
	referrer := map[string]partner.ID{}
	for _, c := range codes {
		referrer[c.Code] = c.Partner
	}
	sorted := make([]*metering.Transaction, 0, len(txs))
	for i := range txs {
		sorted = append(sorted, &txs[i])
	}
	slices.SortStableFunc(sorted, compareEvents)
	leads := map[string]*partner.Lead{}
	for _, t := range sorted {
		id := t.Data.Lead
		if id == "" || !strings.HasPrefix(t.Type, "lead.") || t.Data.Environment == metering.Sandbox {
			continue
		}
		l := leads[id]
		if l == nil {
			l = &partner.Lead{ID: id}
			leads[id] = l
		}
		if l.Customer == "" {
			l.Customer = t.Customer
		}
		if l.App == "" {
			l.App = t.Data.App
		}
		if l.Referrer == "" {
			l.Referrer = referrer[t.Data.Reference]
		}
		first := func(at *time.Time) {
			if at.IsZero() {
				*at = t.Time
			}
		}
		switch t.Type {
		case metering.LeadQualified:
			first(&l.QualifiedAt)
		case metering.LeadConverted:
			first(&l.ConvertedAt)
		case metering.LeadCancelled:
			first(&l.CancelledAt)
		}
	}
	var out []partner.Lead
	for _, id := range sortedKeys(leads) {
		out = append(out, *leads[id])
	}
	return out
}
