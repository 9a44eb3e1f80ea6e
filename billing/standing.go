package billing

import (
	"slices"
	"time"

	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// cadenceMonths is how long a certification stays valid, by tier of risk: tier 1 two
// years, tiers 4 and 5 half a year. A change of scope on tier 2 and above makes a
// new review due at once.
var cadenceMonths = [...]int{1: 24, 2: 12, 3: 12, 4: 6, 5: 6}

// rescopedFrom is the lowest tier on which a change of scope needs a new review.
const rescopedFrom = 2

// dueSoonDays is how long before its date a renewal counts as due.
const dueSoonDays = 30

// The states of a certification.
const (
	StandingNone      = "none"      // never reviewed
	StandingValid     = "valid"     // reviewed, and not due within 30 days
	StandingDue       = "due"       // due within 30 days
	StandingOverdue   = "overdue"   // past the day it was due, extensions counted
	StandingReReview  = "re-review" // the scope changed after the last review, tier 2 and above
	StandingSuspended = "suspended" // the last decision suspended or rejected it
)

// standingTypes are the facts that an app's certification follows from.
var standingTypes = []string{metering.ReviewDecided, metering.ScopeChanged, metering.ExceptionGranted, metering.ExceptionClosed}

// certifier says how one app's certification stands on any day, from its facts.
type certifier struct {
	tier  int
	zone  *time.Location
	facts []metering.Transaction // of the app and of standingTypes, in time order

	// plain is how engines before mete-3 saw it: exceptions extended nothing.
	plain bool
}

// certifierOf takes an app's facts out of all facts, which are in time order.
func certifierOf(app partner.App, zone *time.Location, facts []metering.Transaction) *certifier {
	c := &certifier{tier: app.CertificationTier, zone: zone}
	for _, f := range facts {
		if f.Data.App == app.ID && f.Data.Environment != metering.Sandbox && slices.Contains(standingTypes, f.Type) {
			c.facts = append(c.facts, f)
		}
	}
	return c
}

// extension is an extension with what granted it.
type extension struct {
	metering.Extension
	id string
	at time.Time
}

// decided is what the facts up to a day come to.
type decided struct {
	reviewed, changed time.Time
	suspended         bool
	extensions        []extension // granted and not closed
}

// upTo folds the facts of all days up to one, that day included.
func (c *certifier) upTo(day period.Date) decided {
	var d decided
	end := day.AddDays(1).In(c.zone)
	for _, f := range c.facts {
		if !f.Time.Before(end) {
			break
		}
		switch f.Type {
		case metering.ReviewDecided:
			if suspends(f) {
				d.suspended = true
				continue
			}
			d.reviewed, d.suspended = f.Time, false
		case metering.ScopeChanged:
			d.changed = f.Time
		case metering.ExceptionGranted:
			if x, ok, _ := metering.ExtensionOf(f.Data.Reference); ok && !c.plain {
				d.extensions = append(d.extensions, extension{x, f.ID, f.Time})
			}
		case metering.ExceptionClosed:
			d.extensions = slices.DeleteFunc(d.extensions, func(x extension) bool { return x.id == f.Data.RefersTo })
		}
	}
	return d
}

// suspends reports whether a decided review takes the certification away.
func suspends(f metering.Transaction) bool {
	return f.Data.Reference == "suspended" || f.Data.Reference == "rejected"
}

// on is the standing at the end of a day.
func (c *certifier) on(day period.Date) pricing.Certification {
	d := c.upTo(day)
	s := pricing.Certification{Tier: c.tier, State: StandingNone}
	switch {
	case d.suspended:
		s.State = StandingSuspended
		return s
	case d.reviewed.IsZero():
		return s
	case c.tier >= rescopedFrom && d.changed.After(d.reviewed):
		s.State = StandingReReview
		s.DueOn = d.extended(d.changed, period.DateOf(d.changed, c.zone))
	default:
		months := cadenceMonths[len(cadenceMonths)-1]
		if c.tier > 0 && c.tier < len(cadenceMonths) {
			months = cadenceMonths[c.tier]
		}
		s.DueOn = d.extended(d.reviewed, period.DateOf(d.reviewed, c.zone).AddMonths(months))
		switch left := day.DaysUntil(s.DueOn); {
		case left < 0:
			s.State = StandingOverdue
		case left <= dueSoonDays:
			s.State = StandingDue
		default:
			s.State = StandingValid
		}
	}
	s.OverdueDays = max(0, s.DueOn.DaysUntil(day))
	return s
}

// extended is the day on which a review is due with the extensions that were granted
// since it was asked for; one that ends earlier changes nothing.
func (d decided) extended(since time.Time, due period.Date) period.Date {
	for _, x := range d.extensions {
		if !x.at.Before(since) && due.Before(x.Until) {
			due = x.Until
		}
	}
	return due
}

// standings are the standings of a month's days; none if all days stand alike.
func (c *certifier) standings(p period.Period) []pricing.Standing {
	first, last := daysOf(p)
	var out []pricing.Standing
	for day := first; !last.Before(day); day = day.AddDays(1) {
		s := c.on(day)
		if n := len(out) - 1; n < 0 || out[n].Tier != s.Tier || out[n].State != s.State || out[n].DueOn != s.DueOn {
			out = append(out, pricing.Standing{From: day, Tier: s.Tier, State: s.State, DueOn: s.DueOn})
		}
	}
	if len(out) == 1 && out[0].On(first) == out[0].On(last) {
		return nil
	}
	return out
}

// since is the first day of the standing's state that a day has.
func (c *certifier) since(day period.Date) period.Date {
	state, since := c.on(day).State, day
	if len(c.facts) == 0 {
		return period.Date{}
	}
	first := period.DateOf(c.facts[0].Time, c.zone)
	for d := day; !d.Before(first); d = d.AddDays(-1) { // bounded by the app's own history
		if c.on(d).State != state {
			return since
		}
		since = d
	}
	if state == StandingNone {
		return period.Date{}
	}
	return since
}

// daysOf are the first and the last day of a period in its zone.
func daysOf(p period.Period) (first, last period.Date) {
	return period.DateOf(p.Start, p.Zone), period.DateOf(p.End.Add(-time.Microsecond), p.Zone)
}
