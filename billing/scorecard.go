package billing

import (
	"context"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// cadenceMonths is how long a certification stays valid, by tier of risk: tier 1 two
// years, tiers 4 and 5 half a year. A change of scope on tier 2 and above makes a
// new review due at once.
var cadenceMonths = [...]int{1: 24, 2: 12, 3: 12, 4: 6, 5: 6}

// dueSoonDays is how long before its date a renewal counts as due.
const dueSoonDays = 30

// Scorecard measures one app's month from its usage and its facts up to the month's
// end. It is computed once, at close, and frozen.
func Scorecard(app partner.App, p period.Period, m period.Month, cells []metering.Usage, facts []metering.Transaction) pricing.Scorecard {
	card := pricing.Scorecard{App: app.ID, Month: m}
	customers := map[partner.CustomerID]bool{}
	for _, u := range cells {
		if u.Type != metering.UsageAPI || u.Environment == metering.Sandbox {
			continue
		}
		card.Calls += u.Count
		card.Slow += u.Slow
		if u.Status >= 500 {
			card.Failed += u.Count
		}
		if u.Customer != "" {
			customers[u.Customer] = true
		}
	}
	card.ActiveCustomers = int64(len(customers))
	if card.Calls > 0 {
		calls := decimal.NewFromInt(card.Calls)
		share := func(good int64) *decimal.Decimal {
			d := decimal.NewFromInt(good).DivRound(calls, 12)
			return &d
		}
		card.Availability = share(card.Calls - card.Failed)
		card.Within = share(card.Calls - card.Slow)
	}
	foldFacts(&card, app, p, facts)
	return card
}

// foldFacts folds an app's facts, in time order, into certification, incidents,
// exceptions and support.
func foldFacts(card *pricing.Scorecard, app partner.App, p period.Period, facts []metering.Transaction) {
	var reviewed, changed time.Time
	var suspended bool
	tier := app.CertificationTier
	incidents, exceptions, support := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, f := range facts {
		if f.Data.App != app.ID || !f.Time.Before(p.End) {
			continue
		}
		switch f.Type {
		case metering.ReviewDecided:
			if f.Data.Reference == "suspended" || f.Data.Reference == "rejected" {
				suspended = true
				break
			}
			reviewed, suspended = f.Time, false
		case metering.ScopeChanged:
			changed = f.Time
		case metering.IncidentOpened:
			incidents[f.ID] = true
			if p.Contains(f.Time) {
				card.IncidentsOpened++
			}
		case metering.IncidentClosed:
			delete(incidents, f.Data.RefersTo)
		case metering.ExceptionGranted:
			exceptions[f.ID] = true
		case metering.ExceptionClosed:
			delete(exceptions, f.Data.RefersTo)
		case metering.SupportOpened:
			support[f.ID] = true
		case metering.SupportAnswered:
			if p.Contains(f.Time) {
				card.SupportAnswered++
			}
			delete(support, f.Data.RefersTo)
		case metering.SupportClosed:
			delete(support, f.Data.RefersTo)
		}
	}
	card.IncidentsOpen = int64(len(incidents))
	card.ExceptionsOpen = int64(len(exceptions))
	card.SupportOpen = int64(len(support))
	card.Certification = certification(tier, reviewed, changed, suspended, p)
}

// certification is the standing at the end of the period.
func certification(tier int, reviewed, changed time.Time, suspended bool, p period.Period) pricing.Certification {
	c := pricing.Certification{Tier: tier, State: "none"}
	last := period.DateOf(p.End.Add(-time.Microsecond), p.Zone)
	switch {
	case suspended:
		c.State = "suspended"
		return c
	case reviewed.IsZero():
		return c
	case tier >= 2 && changed.After(reviewed):
		c.State = "re-review"
		c.DueOn = period.DateOf(changed, p.Zone)
	default:
		months := cadenceMonths[len(cadenceMonths)-1]
		if tier > 0 && tier < len(cadenceMonths) {
			months = cadenceMonths[tier]
		}
		c.DueOn = period.DateOf(reviewed, p.Zone).AddMonths(months)
		switch left := last.DaysUntil(c.DueOn); {
		case left < 0:
			c.State = "overdue"
		case left <= dueSoonDays:
			c.State = "due"
		default:
			c.State = "valid"
		}
	}
	if over := c.DueOn.DaysUntil(last); over > 0 {
		c.OverdueDays = over
	}
	return c
}

// scorecards computes the scorecards of apps in their contracts' month.
func (r *usageReader) scorecards(ctx context.Context, m period.Month, apps []scoredApp) ([]pricing.Scorecard, error) {
	var out []pricing.Scorecard
	facts := map[int64][]metering.Transaction{}
	for _, a := range apps {
		s, err := r.span(ctx, a.period)
		if err != nil {
			return nil, err
		}
		end := a.period.End.UnixMicro()
		if _, ok := facts[end]; !ok {
			if facts[end], err = r.until(ctx, a.period.End, factTypes); err != nil {
				return nil, err
			}
		}
		out = append(out, Scorecard(a.app, a.period, m, s.cells[a.app.ID], facts[end]))
	}
	return out, nil
}

// scoredApp is an app with its contract's month.
type scoredApp struct {
	app    partner.App
	period period.Period
}
