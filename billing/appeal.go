package billing

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"mete/ledger"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// maxAppeals bounds the appeals of one app's month; maxAppealText a reason or evidence.
const (
	maxAppeals    = 100
	maxAppealText = 500
)

// The states of an appeal.
const (
	AppealOpen     = "open"
	AppealAccepted = "accepted"
	AppealDeclined = "declined"
)

// Appeal questions one measure of an app's scorecard. It is never changed: a decision
// is kept beside it.
//
// Before the close an accepted value is what the card freezes with. What is open at the
// close freezes as measured, and the card says so; accepted later, it comes onto the
// next statement as a difference, and the frozen card stays as it is.
type Appeal struct {
	ID              string          `json:"id"`
	App             partner.AppID   `json:"app"`
	Month           period.Month    `json:"month"`
	Measure         string          `json:"measure"`
	Number          int             `json:"number"` // of the appeals of this measure, from 1
	Measured        string          `json:"measured,omitempty"`
	Frozen          bool            `json:"frozen"` // the card was frozen when it was opened
	Reason          string          `json:"reason"`
	Evidence        string          `json:"evidence,omitempty"`
	OpenedBy        string          `json:"opened_by"`
	OpenedAt        time.Time       `json:"opened_at"`
	Unauthenticated bool            `json:"unauthenticated"`
	Decision        *AppealDecision `json:"decision,omitempty"`
	CarriedBy       period.Month    `json:"carried_by,omitzero"` // the close that took the accepted value
}

// AppealDecision is what another person than who opened it decided.
type AppealDecision struct {
	Accepted        bool      `json:"accepted"`
	Value           string    `json:"value,omitempty"` // accepted: what the measure is
	Reason          string    `json:"reason"`
	By              string    `json:"by"`
	At              time.Time `json:"at"`
	Unauthenticated bool      `json:"unauthenticated"`
}

// State is open, accepted or declined.
func (a Appeal) State() string {
	switch {
	case a.Decision == nil:
		return AppealOpen
	case a.Decision.Accepted:
		return AppealAccepted
	}
	return AppealDeclined
}

// appealID follows from what is appealed, so that opening it twice is one appeal.
func appealID(a Appeal) string {
	return "AP-" + digestOf([]any{a.App, a.Month, a.Measure, a.Number})[:10]
}

// OpenAppeal keeps an appeal against a measure of an app's month, closed or not. While
// one of the same measure is open, the same again is that one, and another is refused
// with ErrState.
func (c *Closer) OpenAppeal(ctx context.Context, a Appeal) (Appeal, error) {
	what := fmt.Sprintf("appeal of %s in %s", a.App, a.Month)
	switch {
	case a.OpenedBy == "":
		return a, fmt.Errorf("%s: the name of who opens it is needed: --as NAME", what)
	case strings.TrimSpace(a.Reason) == "":
		return a, fmt.Errorf("%s: a reason is needed: --reason TEXT", what)
	case len(a.Reason) > maxAppealText || len(a.Evidence) > maxAppealText:
		return a, fmt.Errorf("%s: reason and evidence have at most %d bytes each: name where the rest lies", what, maxAppealText)
	}
	card, frozen, err := c.Scorecard(ctx, a.App, a.Month)
	if err != nil {
		return a, fmt.Errorf("%s: %w", what, err)
	}
	was, known := card.Card.Measure(a.Measure)
	if err := pricing.CheckMeasure(a.Measure, cmp.Or(was, "0")); err != nil && !known {
		return a, fmt.Errorf("%s: %w", what, err)
	}
	if a.Measure == "certification.tier" || a.Measure == "partner.tier" {
		return a, fmt.Errorf("%s: %s stands in a document: mete apply changes it", what, a.Measure)
	}
	a.Measured, a.Frozen, a.Number, a.OpenedAt = was, frozen, 1, a.OpenedAt.UTC()
	if len(card.Appeals) >= maxAppeals {
		return a, fmt.Errorf("%s: it has %d appeals, more are not taken: %w", what, len(card.Appeals), ErrState)
	}
	for _, old := range card.Appeals {
		if old.Measure != a.Measure {
			continue
		}
		if old.Decision == nil {
			if old.OpenedBy == a.OpenedBy && old.Reason == a.Reason && old.Evidence == a.Evidence {
				return old, nil
			}
			return a, fmt.Errorf("%s: %s of %s is open already, opened by %s: decide it first: %w", what, old.ID, a.Measure, old.OpenedBy, ErrState)
		}
		a.Number++
	}
	a.ID = appealID(a)
	return a, c.Store.OpenAppeal(ctx, a)
}

// DecideAppeal keeps the decision of another person than who opened the appeal. The same
// again is nothing; another decision fails with ErrConflict.
func (c *Closer) DecideAppeal(ctx context.Context, id string, d AppealDecision) (Appeal, error) {
	a, err := c.Appeal(ctx, id)
	if err != nil {
		return a, err
	}
	switch {
	case d.By == "" || d.By == a.OpenedBy:
		return a, fmt.Errorf("appeal %s was opened by %s; another person must decide: --as NAME: %w", id, a.OpenedBy, ErrState)
	case strings.TrimSpace(d.Reason) == "":
		return a, fmt.Errorf("appeal %s: a reason is needed: --reason TEXT", id)
	case len(d.Reason) > maxAppealText:
		return a, fmt.Errorf("appeal %s: a reason has at most %d bytes", id, maxAppealText)
	case d.Accepted && d.Value == "":
		return a, fmt.Errorf("appeal %s: an accepted appeal needs the corrected value of %s", id, a.Measure)
	case !d.Accepted && d.Value != "":
		return a, fmt.Errorf("appeal %s: a declined appeal has no value", id)
	}
	if d.Accepted {
		if err := pricing.CheckMeasure(a.Measure, d.Value); err != nil {
			return a, fmt.Errorf("appeal %s: %s: %w", id, a.Measure, err)
		}
	}
	d.At = d.At.UTC()
	if old := a.Decision; old != nil && old.Accepted == d.Accepted && old.Value == d.Value && old.Reason == d.Reason && old.By == d.By {
		return a, nil
	}
	if err := c.Store.DecideAppeal(ctx, id, d); err != nil {
		return a, err
	}
	return c.Appeal(ctx, id)
}

// Appeal is one appeal, or ErrNotFound.
func (c *Closer) Appeal(ctx context.Context, id string) (Appeal, error) {
	all, err := c.Appeals(ctx)
	if err != nil {
		return Appeal{}, err
	}
	if i := slices.IndexFunc(all, func(a Appeal) bool { return a.ID == id }); i >= 0 {
		return all[i], nil
	}
	return Appeal{}, fmt.Errorf("appeal %s: %w; mete appeal list shows all", id, ErrNotFound)
}

// Appeals are all appeals, oldest first, each with the close that carried it.
func (c *Closer) Appeals(ctx context.Context) ([]Appeal, error) {
	all, err := c.Store.Appeals(ctx)
	if err != nil {
		return nil, fmt.Errorf("appeals: %w", err)
	}
	carried, err := c.carriedAppeals(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].CarriedBy = carried[all[i].ID]
	}
	return all, nil
}

// carriedAppeals are the closes whose manifests took an appeal, by its ID.
func (c *Closer) carriedAppeals(ctx context.Context) (map[string]period.Month, error) {
	months, err := c.Store.Months(ctx)
	if err != nil {
		return nil, err
	}
	carried := map[string]period.Month{}
	for _, s := range months {
		if s.Manifest != nil {
			for _, id := range s.Manifest.Appeals {
				carried[id] = s.Month
			}
		}
	}
	return carried, nil
}

// pinAppeals says what a manifest pins of appeals: those accepted, of its month or of a
// closed one, that no close took before, and those of its month that are open.
func (c *Closer) pinAppeals(ctx context.Context, m *Manifest) error {
	all, err := c.Appeals(ctx)
	if err != nil {
		return err
	}
	for _, a := range all {
		switch {
		case a.State() == AppealAccepted && a.CarriedBy == (period.Month{}) && !m.Month.Before(a.Month):
			m.Appeals = append(m.Appeals, a.ID)
		case a.State() == AppealOpen && a.Month == m.Month:
			m.OpenAppeals = append(m.OpenAppeals, a.ID)
		}
	}
	return nil
}

// kept reports whether the run's manifest is one that is kept. Others see everything
// that was decided by now.
func (r *run) kept() bool { return r.manifest.ClosedBy != "" }

// appealsOf are the accepted appeals that count for a month's cards in this run, in the
// order in which they were opened: those of manifests up to the run's own.
func (r *run) appealsOf(ctx context.Context, m period.Month) ([]Appeal, error) {
	all, err := r.allAppeals(ctx)
	if err != nil {
		return nil, err
	}
	var out []Appeal
	for _, a := range all {
		switch {
		case a.Month != m || a.State() != AppealAccepted:
		case r.kept() && !slices.Contains(r.manifest.Appeals, a.ID) && (a.CarriedBy == (period.Month{}) || r.manifest.Month.Before(a.CarriedBy)):
		default:
			out = append(out, a)
		}
	}
	return out, nil
}

// allAppeals are all appeals, read once in a run.
func (r *run) allAppeals(ctx context.Context) ([]Appeal, error) {
	if r.appeals == nil {
		all, err := r.Appeals(ctx)
		if err != nil {
			return nil, err
		}
		r.appeals = append([]Appeal{}, all...)
	}
	return r.appeals, nil
}

// corrected are the cards of a month with the values of accepted appeals, each once.
func (r *run) corrected(ctx context.Context, m period.Month, cards []pricing.Scorecard) ([]pricing.Scorecard, error) {
	accepted, err := r.appealsOf(ctx, m)
	if err != nil || len(accepted) == 0 {
		return cards, err
	}
	out := slices.Clone(cards)
	for i := range out {
		for _, a := range accepted {
			if a.App != out[i].App || slices.ContainsFunc(out[i].Corrections, func(x pricing.Correction) bool { return x.Appeal == a.ID }) {
				continue
			}
			if out[i], err = out[i].Correct(a.ID, a.Measure, a.Decision.Value); err != nil {
				return nil, fmt.Errorf("appeal %s: %w", a.ID, err)
			}
		}
	}
	return out, nil
}

// frozenCards are the cards as the run's month freezes: measured, corrected, and with
// what is open named.
func (r *run) frozenCards(ctx context.Context) ([]pricing.Scorecard, error) {
	m := r.manifest.Month
	cards, err := r.scorecards(ctx, m)
	if err != nil {
		return nil, err
	}
	if cards, err = r.corrected(ctx, m, cards); err != nil {
		return nil, err
	}
	all, err := r.allAppeals(ctx)
	if err != nil {
		return nil, err
	}
	for i := range cards {
		for _, a := range all {
			if a.App == cards[i].App && slices.Contains(r.manifest.OpenAppeals, a.ID) {
				cards[i].Appealed = append(cards[i].Appealed, pricing.Appealed{Appeal: a.ID, Measure: a.Measure})
			}
		}
	}
	return cards, nil
}

// lateAppeals are the appeals of closed months that this close carries: they reach their
// app's month as late events do.
func (r *run) lateAppeals(ctx context.Context) ([]Appeal, error) {
	if len(r.manifest.Appeals) == 0 {
		return nil, nil
	}
	all, err := r.allAppeals(ctx)
	if err != nil {
		return nil, err
	}
	var out []Appeal
	for _, a := range all {
		if slices.Contains(r.manifest.Appeals, a.ID) && a.Month.Before(r.manifest.Month) {
			out = append(out, a)
		}
	}
	return out, nil
}

// ScorecardView is an app's scorecard of a month with its appeals.
type ScorecardView struct {
	State   string            `json:"state"` // provisional | frozen
	Card    pricing.Scorecard `json:"scorecard"`
	Now     pricing.Scorecard `json:"corrected"` // with what was accepted after it was frozen, and the certification by facts that came since
	Appeals []Appeal          `json:"appeals"`
}

// Scorecard is an app's scorecard: as it was frozen at the month's close, or, before,
// provisional: what events say by now, with the appeals that were accepted. It fails
// with ErrNotFound for an app without a contract in that month.
func (c *Closer) Scorecard(ctx context.Context, id partner.AppID, m period.Month) (v ScorecardView, frozen bool, err error) {
	v = ScorecardView{State: "provisional", Appeals: []Appeal{}}
	status, err := c.Store.Month(ctx, m)
	if err != nil {
		return v, false, err
	}
	r, err := c.openRun(ctx, status)
	if err != nil {
		return v, false, err
	}
	var cards []pricing.Scorecard
	if frozen = status.State == ledger.Closed || status.State == ledger.Locked; frozen {
		v.State = "frozen"
		cards, err = c.Store.Scorecards(ctx, m)
	} else if cards, err = r.scorecards(ctx, m); err == nil {
		cards, err = r.corrected(ctx, m, cards)
	}
	if err != nil {
		return v, frozen, err
	}
	i := slices.IndexFunc(cards, func(x pricing.Scorecard) bool { return x.App == id })
	if i < 0 {
		return v, frozen, fmt.Errorf("no contract in force in %s has app %s, so it has no scorecard: %w", m, id, ErrNotFound)
	}
	now := cards[i : i+1]
	if frozen {
		if now, err = r.redated(ctx, m, now); err != nil {
			return v, frozen, err
		}
	}
	if now, err = r.corrected(ctx, m, now); err != nil {
		return v, frozen, err
	}
	v.Card, v.Now = cards[i], now[0]
	v.Card.PartnerTier, v.Now.PartnerTier = r.tierOf(m, id), r.tierOf(m, id)
	all, err := r.allAppeals(ctx)
	if err != nil {
		return v, frozen, err
	}
	for _, a := range all {
		if a.App == id && a.Month == m {
			v.Appeals = append(v.Appeals, a)
		}
	}
	return v, frozen, nil
}
