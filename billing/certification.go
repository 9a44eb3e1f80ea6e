package billing

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// maxFactsShown bounds the facts that are shown behind a certification, the newest.
const maxFactsShown = 100

// CertificationView is how an app's certification stands at the end of a day, why, and
// what contracts make of it. It is of all that is stored by now, in closed months too:
// what came late for them the next close prices forward.
type CertificationView struct {
	App         partner.AppID       `json:"app"`
	Name        string              `json:"name"`
	Partner     partner.ID          `json:"partner"`
	On          period.Date         `json:"on"`
	Zone        string              `json:"zone"`
	Tier        int                 `json:"tier"` // 0: not certified
	State       string              `json:"state"`
	Since       period.Date         `json:"since,omitzero"`
	DueOn       period.Date         `json:"due_on,omitzero"`
	OverdueDays int                 `json:"overdue_days"`
	Extensions  []GrantedExtension  `json:"extensions"` // granted and not closed, those that ended too
	Facts       []CertificationFact `json:"facts"`      // up to the day, in time order
	Older       int                 `json:"older_facts,omitempty"`
	Standings   []pricing.Standing  `json:"standings,omitempty"` // of the month so far, if its days differ
	Contracts   []RuleOutcome       `json:"contracts"`
}

// GrantedExtension is an extension with the event that granted it.
type GrantedExtension struct {
	metering.Extension
	ID        string      `json:"id"`
	GrantedOn period.Date `json:"granted_on"`
	Counts    bool        `json:"counts"` // it moves the day on which the review is due
}

// CertificationFact is an event that a certification follows from.
type CertificationFact struct {
	On        period.Date `json:"on"`
	Type      string      `json:"type"`
	Source    string      `json:"source"`
	ID        string      `json:"id"`
	Reference string      `json:"reference,omitempty"`
	RefersTo  string      `json:"refers_to,omitempty"`
}

// RuleOutcome is what a quality rule makes of an app's scorecard for sales of a day.
type RuleOutcome struct {
	Contract string `json:"contract"`
	Version  int    `json:"version"`
	Rule     string `json:"rule"`
	Adjusts  string `json:"adjusts"`
	pricing.Outcome
}

// Certification tells how an app stands at the end of a day. A day to come is answered
// as if nothing happened until then.
func (c *Closer) Certification(ctx context.Context, id partner.AppID, on period.Date) (CertificationView, error) {
	v := CertificationView{App: id, On: on, Extensions: []GrantedExtension{}, Facts: []CertificationFact{}, Contracts: []RuleOutcome{}}
	m := on.MonthOf()
	status, err := c.Store.Month(ctx, m)
	if err != nil {
		return v, fmt.Errorf("certification of %s: %w", id, err)
	}
	r, err := c.openRun(ctx, status)
	if err != nil {
		return v, fmt.Errorf("certification of %s: %w", id, err)
	}
	snap := r.snapshots[m]
	app, ok := snap.Apps[id]
	if !ok {
		return v, fmt.Errorf("certification of %s: no such app on %s: %w", id, on, ErrNotFound)
	}
	v.Name, v.Partner, v.Tier = app.Name, app.Partner, app.CertificationTier
	zone := snap.Marketplace.Zone
	for _, x := range r.scoredApps(m) {
		if x.app.ID == id {
			zone = x.period.Zone
		}
	}
	v.Zone = zone.String()
	facts, err := r.reader.until(ctx, on.AddDays(1).In(zone), standingTypes)
	if err != nil {
		return v, fmt.Errorf("certification of %s: %w", id, err)
	}
	k := certifierOf(app, zone, facts)
	v.read(k, on)
	month := m.In(zone)
	month.End = on.AddDays(1).In(zone)
	v.Standings = k.standings(month)
	if v.Contracts, err = r.outcomes(ctx, id, on); err != nil {
		return v, fmt.Errorf("certification of %s: %w", id, err)
	}
	return v, nil
}

// read fills in what follows from the facts alone.
func (v *CertificationView) read(k *certifier, on period.Date) {
	s, d := k.on(on), k.upTo(on)
	v.State, v.DueOn, v.OverdueDays, v.Since = s.State, s.DueOn, s.OverdueDays, k.since(on)
	for _, x := range d.extensions {
		v.Extensions = append(v.Extensions, GrantedExtension{x.Extension, x.id, period.DateOf(x.at, k.zone), x.Until == s.DueOn})
	}
	v.Older = max(0, len(k.facts)-maxFactsShown)
	for _, f := range k.facts[v.Older:] {
		v.Facts = append(v.Facts, CertificationFact{period.DateOf(f.Time, k.zone), f.Type, f.Source, f.ID, f.Data.Reference, f.Data.RefersTo})
	}
}

// openRun is like a close of the month that is never kept: under the manifest's catalogue if
// the month has one, else under today's, and with all that is stored.
func (c *Closer) openRun(ctx context.Context, status MonthStatus) (_ *run, err error) {
	manifest := Manifest{Month: status.Month, Engine: Engine}
	if status.Manifest != nil {
		manifest.Catalogue = status.Manifest.Catalogue
	} else {
		snap, err := c.Catalogue.At(ctx, status.Month.Last(), time.Time{})
		if err != nil {
			return nil, fmt.Errorf("catalogue: %w", err)
		}
		manifest.Catalogue = snap.Refs()
	}
	if manifest.Cutoff, err = c.Events.Cutoff(ctx); err != nil {
		return nil, err
	}
	return c.newRun(ctx, manifest)
}

// outcomes are what the quality rules about an app, in force on a day, make of its
// scorecard: the frozen one of a closed month, else the one of the month so far.
func (r *run) outcomes(ctx context.Context, id partner.AppID, on period.Date) ([]RuleOutcome, error) {
	out := []RuleOutcome{}
	card, err := r.cardOf(ctx, on.MonthOf(), id)
	if err != nil {
		return nil, err
	}
	for _, v := range r.snapshots[on.MonthOf()].ContractsIn(on.MonthOf()) {
		if !v.Period.Contains(on.In(v.Terms.Zone)) || !slices.Contains(r.snapshots[on.MonthOf()].AppsOf(v.Terms), id) {
			continue
		}
		for _, rule := range v.Terms.Rules {
			if q, ok := rule.Body.(*pricing.Quality); ok && (len(rule.Apps) == 0 || slices.Contains(rule.Apps, id)) {
				out = append(out, RuleOutcome{v.Terms.Contract, v.Terms.Version, rule.ID, q.Adjusts, q.On(card, on)})
			}
		}
	}
	return out, nil
}

// cardOf is an app's scorecard: frozen, with the certification that facts give it by
// now, or of the month so far; nil if it has none.
func (r *run) cardOf(ctx context.Context, m period.Month, id partner.AppID) (*pricing.Scorecard, error) {
	cards, err := r.Store.Scorecards(ctx, m)
	switch {
	case err != nil:
	case len(cards) == 0:
		cards, err = r.scorecards(ctx, m)
	default:
		cards, err = r.redated(ctx, m, cards)
	}
	if err == nil {
		cards, err = r.corrected(ctx, m, cards)
	}
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(cards, func(c pricing.Scorecard) bool { return c.App == id }); i >= 0 {
		cards[i].PartnerTier = r.tierOf(m, id)
		return &cards[i], nil
	}
	return nil, nil
}

// tierOf is the tier that an app's partner has in a month.
func (r *run) tierOf(m period.Month, id partner.AppID) partner.Tier {
	snap := r.snapshots[m]
	return snap.Partners[snap.Apps[id].Partner].Tier
}

// WriteText writes the view for people.
func (v CertificationView) WriteText(w io.Writer) error {
	tier := fmt.Sprintf("tier %d", v.Tier)
	if v.Tier == 0 {
		tier = "no certification tier"
	}
	fmt.Fprintf(w, "%s (%s), %s, on %s in %s\n\n", v.Name, v.App, tier, v.On, v.Zone)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	state := v.State
	if !v.Since.IsZero() {
		state += " since " + v.Since.String()
	}
	fmt.Fprintf(t, "state\t%s\n", state)
	fmt.Fprintf(t, "due\t%s\n", v.due())
	for _, x := range v.Extensions {
		effect := "extended"
		if !x.Counts {
			effect = "extension without effect now"
		}
		fmt.Fprintf(t, "%s\tuntil %s, granted on %s by %s: %s (%s)\n", effect, x.Until, x.GrantedOn, x.By, x.Reason, x.ID)
	}
	for i, s := range v.Standings {
		to := v.On
		if i+1 < len(v.Standings) {
			to = v.Standings[i+1].From.AddDays(-1)
		}
		fmt.Fprintf(t, "days\t%s to %s %s\n", s.From, to, s.State)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nFacts")
	if len(v.Facts) == 0 {
		fmt.Fprintln(w, "  none: it was never reviewed")
	}
	if v.Older > 0 {
		fmt.Fprintf(w, "  %d older ones are left out\n", v.Older)
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range v.Facts {
		what := f.Reference
		if f.RefersTo != "" {
			what = strings.TrimSpace(what + " refers to " + f.RefersTo)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s %s\t%s\n", f.On, f.Type, f.Source, f.ID, what)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nContracts, for sales of %s\n", v.On)
	if len(v.Contracts) == 0 {
		fmt.Fprintln(w, "  no quality rule in force looks at this app")
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, o := range v.Contracts {
		fmt.Fprintf(t, "  %s v%d\t%s of %s\t%s\t%s\n", o.Contract, o.Version, o.Rule, o.Adjusts, o.Outcome, strings.Join(o.Held, "; "))
	}
	return t.Flush()
}

// due is when the next review is due, for people.
func (v CertificationView) due() string {
	switch {
	case v.State == StandingSuspended:
		return "a review that lifts the suspension"
	case v.DueOn.IsZero():
		return "a first review"
	case v.OverdueDays > 0:
		return fmt.Sprintf("%s, %s ago", v.DueOn, dayCount(v.OverdueDays))
	}
	return fmt.Sprintf("%s, in %s", v.DueOn, dayCount(v.On.DaysUntil(v.DueOn)))
}

func dayCount(n int) string {
	if n == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", n)
}

// scoredApps are the apps of contracts in a month, each once, in order.
func (r *run) scoredApps(m period.Month) []scoredApp {
	snap := r.snapshots[m]
	seen := map[partner.AppID]bool{}
	var apps []scoredApp
	for _, v := range snap.ContractsIn(m) {
		for _, id := range snap.AppsOf(v.Terms) {
			if app, ok := snap.Apps[id]; ok && !seen[id] {
				seen[id] = true
				apps = append(apps, scoredApp{app, m.In(v.Terms.Zone)})
			}
		}
	}
	slices.SortFunc(apps, func(a, b scoredApp) int { return cmp.Compare(a.app.ID, b.app.ID) })
	return apps
}
