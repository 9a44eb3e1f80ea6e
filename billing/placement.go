package billing

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"mete/catalogue"
	"mete/ledger"
	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Placement says whether an app may be placed in the marketplace because of one month,
// and why. It is measured without calls of the certified API, and knows no payments.
type Placement struct {
	App            partner.AppID         `json:"app"`
	Name           string                `json:"name"`
	Partner        partner.ID            `json:"partner"`
	Month          period.Month          `json:"month"`
	Calls          int64                 `json:"calls"` // other than of class certified_api
	NotScoredBelow int64                 `json:"not_scored_below,omitempty"`
	NotScored      string                `json:"not_scored,omitempty"` // why nothing can be said of it; then it is not eligible
	Eligible       bool                  `json:"eligible"`
	Requirements   []pricing.Requirement `json:"requirements"`
	Slots          []SlotPlacement       `json:"slots,omitempty"`
}

// SlotPlacement says whether an app may have one of the places, which may require more.
type SlotPlacement struct {
	Slot         string                `json:"slot"`
	Name         string                `json:"name"`
	Eligible     bool                  `json:"eligible"`
	Requirements []pricing.Requirement `json:"requirements"` // those of the slot alone
}

// Placements are all apps of a month.
type Placements struct {
	Month  period.Month `json:"month"`
	Frozen bool         `json:"frozen"` // kept at the month's close; else measured now
	Apps   []Placement  `json:"apps"`
}

// Placements tells of every app whether it may be placed: as it was kept when the month
// was closed, or, before, as it is by now. It fails with ErrNotFound where the
// marketplace has no rules of placement.
func (c *Closer) Placements(ctx context.Context, m period.Month) (Placements, error) {
	out := Placements{Month: m, Apps: []Placement{}}
	status, err := c.Store.Month(ctx, m)
	if err != nil {
		return out, fmt.Errorf("placement of %s: %w", m, err)
	}
	r, err := c.openRun(ctx, status)
	if err != nil {
		return out, fmt.Errorf("placement of %s: %w", m, err)
	}
	if r.snapshots[m].Marketplace.Placement == nil {
		return out, fmt.Errorf("placement of %s: the marketplace's document has no placement: %w", m, ErrNotFound)
	}
	if out.Frozen = status.State == ledger.Closed || status.State == ledger.Locked; out.Frozen {
		out.Apps, err = c.Store.Placements(ctx, m)
	} else {
		out.Apps, err = r.placements(ctx, m)
	}
	if err != nil {
		return out, fmt.Errorf("placement of %s: %w", m, err)
	}
	return out, nil
}

// placements measures every app of the catalogue; none without rules of placement.
func (r *run) placements(ctx context.Context, m period.Month) ([]Placement, error) {
	snap := r.snapshots[m]
	if snap.Marketplace.Placement == nil {
		return nil, nil
	}
	rules, err := readPlacement(snap.Marketplace.Placement)
	if err != nil {
		return nil, err
	}
	zones := map[partner.AppID]period.Period{}
	for _, a := range r.scoredApps(m) {
		zones[a.app.ID] = a.period
	}
	var out []Placement
	for _, id := range slices.Sorted(maps.Keys(snap.Apps)) {
		p, ok := zones[id]
		if !ok {
			p = m.In(snap.Marketplace.Zone)
		}
		card, err := r.placementCard(ctx, scoredApp{snap.Apps[id], p}, m)
		if err != nil {
			return nil, err
		}
		out = append(out, rules.place(snap.Apps[id], card))
	}
	return out, nil
}

// placementCard is an app's scorecard without its calls of the certified API.
func (r *run) placementCard(ctx context.Context, a scoredApp, m period.Month) (*pricing.Scorecard, error) {
	s, err := r.reader.span(ctx, a.period)
	if err != nil {
		return nil, err
	}
	facts, err := r.reader.factsUntil(ctx, a.period.End)
	if err != nil {
		return nil, err
	}
	var cells []metering.Usage
	for _, u := range s.cells[a.app.ID] {
		if u.Class != metering.CertifiedAPI {
			cells = append(cells, u)
		}
	}
	cards, err := r.corrected(ctx, m, []pricing.Scorecard{scorecard(a.app, a.period, m, cells, facts, r.undated())})
	if err != nil {
		return nil, err
	}
	return &cards[0], nil
}

// placementRules are a marketplace's rules of placement with their conditions read.
type placementRules struct {
	requires *pricing.Condition
	below    int64
	slots    []slotRule
}

type slotRule struct {
	id, name string
	requires *pricing.Condition // nil: nothing more
}

func readPlacement(p *catalogue.Placement) (placementRules, error) {
	out := placementRules{below: p.NotScoredBelow}
	var err error
	if out.requires, err = pricing.ParseCondition(p.Requires); err != nil {
		return out, fmt.Errorf("placement.requires: %w", err)
	}
	for _, id := range slices.Sorted(maps.Keys(p.Slots)) {
		s := slotRule{id: id, name: p.Slots[id].Name}
		if text := p.Slots[id].Requires; text != "" {
			if s.requires, err = pricing.ParseCondition(text); err != nil {
				return out, fmt.Errorf("placement.slots.%s.requires: %w", id, err)
			}
		}
		out.slots = append(out.slots, s)
	}
	return out, nil
}

// place holds an app's scorecard against the rules.
func (x placementRules) place(app partner.App, card *pricing.Scorecard) Placement {
	p := Placement{App: app.ID, Name: app.Name, Partner: app.Partner, Month: card.Month, Calls: card.Calls, NotScoredBelow: x.below, Requirements: x.requires.Ask(card)}
	if card.Calls < x.below {
		p.NotScored = fmt.Sprintf("%s calls, fewer than %s", groupInt(card.Calls), groupInt(x.below))
	}
	p.Eligible = p.NotScored == "" && allHold(p.Requirements)
	for _, s := range x.slots {
		sp := SlotPlacement{Slot: s.id, Name: s.name, Requirements: []pricing.Requirement{}}
		if s.requires != nil {
			sp.Requirements = s.requires.Ask(card)
		}
		sp.Eligible = p.Eligible && allHold(sp.Requirements)
		p.Slots = append(p.Slots, sp)
	}
	return p
}

func allHold(rs []pricing.Requirement) bool {
	return !slices.ContainsFunc(rs, func(r pricing.Requirement) bool { return !r.Holds })
}

// requirementText is a requirement with what was measured, for people.
func requirementText(r pricing.Requirement) string {
	var is []string
	for _, m := range r.Measured {
		value := m.Value
		if value == "" {
			value = "without data"
		}
		is = append(is, m.Measure+" is "+value)
	}
	text := r.Needs + ": " + strings.Join(is, ", ")
	if r.Missing != "" {
		text += "; " + r.Missing
	}
	return text
}

// WriteText lists every app with the reasons.
func (p Placements) WriteText(w io.Writer) error {
	state := "as events say by now"
	if p.Frozen {
		state = "as kept at its close"
	}
	eligible := 0
	for _, a := range p.Apps {
		if a.Eligible {
			eligible++
		}
	}
	fmt.Fprintf(w, "Placement because of %s, %s: %d of %d apps eligible\n\n", p.Month, state, eligible, len(p.Apps))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, a := range p.Apps {
		fmt.Fprintf(t, "%s\t%s\t%s\n", a.App, a.Partner, eligibleText(a.Eligible))
		if a.NotScored != "" {
			fmt.Fprintf(t, "\t  not scored\t%s\n", a.NotScored)
		}
		writeRequirements(t, a.Requirements)
		for _, s := range a.Slots {
			fmt.Fprintf(t, "\t  %s\t%s\n", s.Name, eligibleText(s.Eligible))
			writeRequirements(t, s.Requirements)
		}
	}
	return t.Flush()
}

func eligibleText(yes bool) string {
	if yes {
		return "eligible"
	}
	return "not eligible"
}

func writeRequirements(w io.Writer, rs []pricing.Requirement) {
	for _, r := range rs {
		verdict := "holds"
		if !r.Holds {
			verdict = "does not hold"
		}
		fmt.Fprintf(w, "\t  %s\t%s\n", verdict, requirementText(r))
	}
}

// WriteCSV writes a row for each app and requirement; rows of a slot name it.
func (p Placements) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	rows := [][]string{{"app", "partner", "month", "frozen", "slot", "eligible", "not_scored", "needs", "holds", "measured", "missing"}}
	for _, a := range p.Apps {
		add := func(slot string, eligible bool, rs []pricing.Requirement) {
			if len(rs) == 0 {
				rs = []pricing.Requirement{{Holds: eligible}}
			}
			for _, r := range rs {
				var is []string
				for _, m := range r.Measured {
					is = append(is, m.Measure+"="+m.Value)
				}
				rows = append(rows, []string{string(a.App), string(a.Partner), a.Month.String(), strconv.FormatBool(p.Frozen), slot, strconv.FormatBool(eligible), a.NotScored,
					r.Needs, strconv.FormatBool(r.Holds), strings.Join(is, " "), r.Missing})
			}
		}
		add("", a.Eligible, a.Requirements)
		for _, s := range a.Slots {
			add(s.Slot, s.Eligible, s.Requirements)
		}
	}
	return out.WriteAll(rows)
}
