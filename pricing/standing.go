package pricing

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/partner"
	"mete/period"
)

// Standing is an app's certification from a day of its scorecard's month until the
// next one begins. It changes on the day of the fact that changes it, and that whole day.
type Standing struct {
	From  period.Date `json:"from"`
	Tier  int         `json:"tier"`
	State string      `json:"state"`
	DueOn period.Date `json:"due_on,omitzero"`
}

// On is the certification of a day under the standing.
func (s Standing) On(day period.Date) Certification {
	c := Certification{Tier: s.Tier, State: s.State, DueOn: s.DueOn}
	if !s.DueOn.IsZero() {
		c.OverdueDays = max(0, s.DueOn.DaysUntil(day))
	}
	return c
}

// On is the scorecard as conditions see it for a sale of the day: the measures of the
// month with the certification of that day.
func (c *Scorecard) On(day period.Date) *Scorecard {
	if len(c.Standings) == 0 {
		return c
	}
	at := c.Standings[0]
	for _, s := range c.Standings[1:] {
		if !day.Before(s.From) {
			at = s
		}
	}
	on := *c
	on.Certification = at.On(day)
	return &on
}

// asksCertification reports whether the rule's outcome can differ between days.
func (b *Quality) asksCertification() bool {
	certification := func(measure string) bool { return strings.HasPrefix(measure, "certification.") }
	return slices.ContainsFunc(b.conditions(), func(c *Condition) bool { return slices.ContainsFunc(c.Measures, certification) }) ||
		slices.ContainsFunc(b.Factors, func(f Factor) bool { return certification(f.Measure) })
}

// Outcome is what a quality rule makes of a scorecard on a day.
type Outcome struct {
	Points decimal.Decimal `json:"points"`
	Factor decimal.Decimal `json:"factor"`
	Held   []string        `json:"held,omitempty"` // the conditions behind it
	Why    string          `json:"not_scored,omitempty"`
}

// On is what the rule makes of a scorecard, nil if there is none, for sales of a day.
func (b *Quality) On(c *Scorecard, day period.Date) Outcome {
	if c != nil {
		c = c.On(day)
	}
	x := b.score(c, func(string, int, string) {})
	return Outcome{x.points, x.factor, x.held, x.why}
}

// String is the move of the rate for people.
func (o Outcome) String() string {
	switch {
	case o.Why != "":
		return "not scored: " + o.Why
	case len(o.Held) == 0:
		return "no condition holds"
	}
	return moveText(o.Points, o.Factor)
}

// moveText is a move of a rate for people: +3 pts, × 0.9, or both.
func moveText(points, factor decimal.Decimal) string {
	switch {
	case factor.Equal(one):
		return Points(points)
	case points.IsZero():
		return "× " + factor.String()
	}
	return "× " + factor.String() + ", " + Points(points)
}

// standingSpan is days of a segment on which a rule makes the same of an app's standing.
type standingSpan struct {
	from, to period.Date
	state    string
	outcome  Outcome
}

// standingKey is whose spans they are.
type standingKey struct {
	s    *segment
	rule string
	app  partner.AppID
}

// standings are the spans of a segment for one rule and app; none if the rule makes the
// same of each day.
func (p *pricer) standings(s *segment, r *Rule, b *Quality, app partner.AppID) []standingSpan {
	k := standingKey{s, r.ID, app}
	if spans, ok := p.dated[k]; ok {
		return spans
	}
	var spans []standingSpan
	if card := p.cards[app]; card != nil && len(card.Standings) > 0 && b.asksCertification() {
		first, last := days(s.Period, s.Terms.Zone)
		for day := first; !last.Before(day); day = day.AddDays(1) { // at most a month's
			o, state := b.On(card, day), card.On(day).Certification.State
			if n := len(spans) - 1; n >= 0 && spans[n].state == state && spans[n].outcome.same(o) {
				spans[n].to = day
				continue
			}
			spans = append(spans, standingSpan{day, day, state, o})
		}
	}
	if len(spans) < 2 || spans[0].outcome.Why != "" { // why nothing is scored is the same on all days
		spans = nil
	}
	p.dated[k] = spans
	return spans
}

func (o Outcome) same(x Outcome) bool {
	return o.Points.Equal(x.Points) && o.Factor.Equal(x.Factor) && o.Why == x.Why && slices.Equal(o.Held, x.Held)
}

// days are the first and last day of a period in a zone.
func days(p period.Period, zone *time.Location) (first, last period.Date) {
	return period.DateOf(p.Start, zone), period.DateOf(p.End.Add(-time.Microsecond), zone)
}

// standingSales are the sales of a line under each span.
type standingSales struct {
	spans []standingSpan
	sales []decimal.Decimal
}

// note says on the line which days were of which standing, what was sold on them and
// what the rule made of it.
func (x standingSales) note(app partner.AppID, l *lineBuilder) {
	for i, span := range x.spans {
		days := span.from.String()
		if span.to != span.from {
			days += " to " + span.to.String()
		}
		why := span.outcome.String()
		if len(span.outcome.Held) > 0 {
			why += ", " + strings.Join(span.outcome.Held, "; ")
		}
		l.note(fmt.Sprintf("%s %s, certification %s: %s; sales %s", app, days, span.state, why, groupedMoney(x.sales[i], l.Currency)))
	}
}
