package billing

import (
	"context"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Scorecard measures one app's month from its usage and its facts up to the month's
// end. It is computed once, at close, and frozen. Facts are in time order.
func Scorecard(app partner.App, p period.Period, m period.Month, cells []metering.Usage, facts []metering.Transaction) pricing.Scorecard {
	return scorecard(app, p, m, cells, facts, false)
}

// scorecard is Scorecard, or, plain, what engines before mete-3 made of the same: one
// certification for the whole month, which no exception extended.
func scorecard(app partner.App, p period.Period, m period.Month, cells []metering.Usage, facts []metering.Transaction, plain bool) pricing.Scorecard {
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
	foldFacts(&card, app, p, facts, plain)
	c := certifierOf(app, p.Zone, facts)
	c.plain = plain
	_, last := daysOf(p)
	card.Certification = c.on(last)
	if !plain {
		card.Standings = c.standings(p)
	}
	return card
}

// foldFacts folds an app's facts, in time order, into incidents, exceptions and support.
// An exception that extends a review until a day is open up to that day.
func foldFacts(card *pricing.Scorecard, app partner.App, p period.Period, facts []metering.Transaction, plain bool) {
	_, last := daysOf(p)
	incidents, exceptions, support := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, f := range facts {
		if f.Data.App != app.ID || !f.Time.Before(p.End) || f.Data.Environment == metering.Sandbox {
			continue
		}
		switch f.Type {
		case metering.IncidentOpened:
			incidents[f.ID] = true
			if p.Contains(f.Time) {
				card.IncidentsOpened++
			}
		case metering.IncidentClosed:
			delete(incidents, f.Data.RefersTo)
		case metering.ExceptionGranted:
			x, extends, _ := metering.ExtensionOf(f.Data.Reference)
			if plain || !extends || !x.Until.Before(last) {
				exceptions[f.ID] = true
			}
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
}

// scorecards computes the scorecards of apps in their contracts' month.
func (r *usageReader) scorecards(ctx context.Context, m period.Month, apps []scoredApp, plain bool) ([]pricing.Scorecard, error) {
	var out []pricing.Scorecard
	for _, a := range apps {
		s, err := r.span(ctx, a.period)
		if err != nil {
			return nil, err
		}
		facts, err := r.factsUntil(ctx, a.period.End)
		if err != nil {
			return nil, err
		}
		out = append(out, scorecard(a.app, a.period, m, s.cells[a.app.ID], facts, plain))
	}
	return out, nil
}

// scoredApp is an app with its contract's month.
type scoredApp struct {
	app    partner.App
	period period.Period
}
