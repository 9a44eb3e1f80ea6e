package billing

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// standingFacts are the facts that certifications follow from, by app and in time order,
// as a cutoff knows them.
type standingFacts map[partner.AppID][]metering.Transaction

// standingFacts reads them once, up to an instant.
func (r *usageReader) standingFacts(ctx context.Context, end time.Time) (standingFacts, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if got, ok := r.standing[end.UnixMicro()]; ok {
		return got, nil
	}
	facts, err := r.until(ctx, end, standingTypes)
	if err != nil {
		return nil, err
	}
	out := standingFacts{}
	for _, f := range facts {
		out[f.Data.App] = append(out[f.Data.App], f)
	}
	r.standing[end.UnixMicro()] = out
	return out, nil
}

// allStandingFacts are those of all time that can matter to the run.
func (r *run) allStandingFacts(ctx context.Context, reader *usageReader) (standingFacts, error) {
	return reader.standingFacts(ctx, r.manifest.Month.Add(2).First().In(time.UTC)) // whatever the zone; a day asks only for what was before its end
}

// redated are the cards that a closed month was frozen with, with the certification that
// the facts known to the run give its days. What was measured stays as it was frozen,
// and so does what an appeal decided: a certification is no measure of a month but a
// fact of a day, and one that comes late reaches closed months as a sale does. The frozen
// cards themselves are not touched.
//
// Months that engines before mete-3 closed keep the certification of their end.
func (r *run) redated(ctx context.Context, m period.Month, cards []pricing.Scorecard) ([]pricing.Scorecard, error) {
	if r.undated() || len(cards) == 0 {
		return cards, nil
	}
	status, err := r.Store.Month(ctx, m)
	if err != nil {
		return nil, err
	}
	if status.Manifest == nil || undated(status.Manifest.Engine) {
		return cards, nil
	}
	if _, err := r.snapshot(ctx, m); err != nil {
		return nil, err
	}
	facts, err := r.allStandingFacts(ctx, r.reader)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(cards)
	apps := r.scoredApps(m)
	for i := range out {
		if j := slices.IndexFunc(apps, func(a scoredApp) bool { return a.app.ID == out[i].App }); j >= 0 {
			out[i] = out[i].Certified(apps[j].certification(facts))
		}
	}
	return out, nil
}

// certification is an app's at the end of its month, and on its days if they differ.
func (a scoredApp) certification(facts standingFacts) (pricing.Certification, []pricing.Standing) {
	c := certifierOf(a.app, a.period.Zone, facts[a.app.ID])
	_, last := daysOf(a.period)
	return c.on(last), c.standings(a.period)
}

// recertified is what facts that came since the last close make of a closed month's
// certifications, in words, by app; only of apps that something late reaches.
func (p *pricer) recertified(ctx context.Context, m period.Month) (map[partner.AppID]string, error) {
	if p.undated() || p.late.since == nil || len(p.late.apps) == 0 {
		return nil, nil
	}
	now, err := p.allStandingFacts(ctx, p.reader)
	if err != nil {
		return nil, err
	}
	if p.before == nil {
		p.before = newUsageReader(p.Events, p.late.since)
	}
	before, err := p.allStandingFacts(ctx, p.before)
	if err != nil {
		return nil, err
	}
	out := map[partner.AppID]string{}
	for _, a := range p.scoredApps(m) {
		from, late := p.late.apps[a.app.ID]
		if !late || m.Before(from) {
			continue
		}
		wasEnd, was := a.certification(before)
		isEnd, is := a.certification(now)
		if wasEnd == isEnd && slices.Equal(was, is) {
			continue
		}
		old, text := standingText(wasEnd, was, false), standingText(isEnd, is, false)
		if old == text { // only the day on which it is due moved
			old, text = standingText(wasEnd, was, true), standingText(isEnd, is, true)
		}
		out[a.app.ID] = fmt.Sprintf("facts that reached us after the close of %s make the certification of %s %s; it counted as %s", m, a.app.ID, text, old)
	}
	return out, nil
}

// standingText is a month's certification in words: valid, re-review from 2026-01-15.
func standingText(end pricing.Certification, days []pricing.Standing, due bool) string {
	if len(days) == 0 {
		days = []pricing.Standing{{State: end.State, DueOn: end.DueOn}}
	}
	var out []string
	for i, s := range days {
		if !due && i > 0 && days[i-1].State == s.State {
			continue
		}
		text := s.State
		if due && !s.DueOn.IsZero() {
			text += ", due on " + s.DueOn.String() + ","
		}
		if i > 0 {
			text += " from " + s.From.String()
		}
		out = append(out, strings.TrimSuffix(text, ","))
	}
	return strings.Join(out, ", ")
}

// cause says why a key of a closed month changed. It is certain where events or facts
// moved the line itself, and not only what other lines left behind.
func (p *pricer) cause(m period.Month, now, posted *pricing.Line, recertified map[partner.AppID]string) (cause string, certain bool) {
	cause = p.late.cause(m, now, posted)
	if len(recertified) == 0 {
		return cause, false
	}
	l := now
	if l == nil {
		l = posted
	}
	var facts []string
	if l.Kind == "quality" || l.Kind == "discount" {
		for _, app := range slices.Sorted(maps.Keys(recertified)) {
			if len(l.Events.Apps) == 0 || slices.Contains(l.Events.Apps, app) {
				facts = append(facts, recertified[app])
			}
		}
	}
	moved := now == nil || posted == nil || now.Count != posted.Count
	switch {
	case len(facts) == 0 && !moved && p.late.appealed(m) == "":
		return fmt.Sprintf("late events or facts of a certification moved what %s was priced at", m), false
	case len(facts) == 0:
		return cause, false
	case moved || p.late.appealed(m) != "":
		return cause + "; " + strings.Join(facts, "; "), true
	}
	return strings.Join(facts, "; "), true
}
