package billing

import (
	"context"
	"fmt"
	"strings"

	"mete/catalogue"
	"mete/period"
)

// corrections are those of terms that a close is the first to price forward.
type corrections struct {
	all   []catalogue.Correction
	first period.Month // the first closed month that one of them reaches
}

// newCorrections are the corrections of the month's manifest that the close before did
// not know, and that reach into closed months. One that knew them and did not price
// them forward, because its engine did not, counts as if it had not known them: a month
// that was closed under them comes to the same.
func (r *run) newCorrections(ctx context.Context) (corrections, error) {
	var out corrections
	if !forward(r.manifest.Engine) {
		return out, nil
	}
	months, err := r.Store.Months(ctx)
	if err != nil {
		return out, err
	}
	var first, last *Manifest
	for _, s := range months {
		if s.Manifest != nil && s.Month.Before(r.manifest.Month) {
			if first == nil {
				first = s.Manifest
			}
			last = s.Manifest
		}
	}
	if last == nil {
		return out, nil
	}
	known := map[catalogue.Ref]bool{}
	if forward(last.Engine) {
		for _, ref := range last.Catalogue {
			known[ref] = true
		}
	}
	for _, c := range r.snapshots[r.manifest.Month].Corrections() {
		from := period.Month{Year: c.Terms.From.Year, Month: c.Terms.From.Month}
		if from.Before(first.Month) {
			from = first.Month
		}
		if known[c.Ref] || !from.Before(r.manifest.Month) {
			continue
		}
		if len(out.all) == 0 || from.Before(out.first) {
			out.first = from
		}
		out.all = append(out.all, c)
	}
	return out, nil
}

// of are the corrections of a contract that can change a month.
func (cs corrections) of(contract string, m period.Month) []catalogue.Correction {
	var out []catalogue.Correction
	for _, c := range cs.all {
		if c.Ref.ID == contract && !m.Last().Before(c.Terms.From) {
			out = append(out, c)
		}
	}
	return out
}

// reach reports whether a correction can change a group's month.
func (cs corrections) reach(m period.Month, g catalogue.ScopeGroup) bool {
	for _, v := range g.Contracts {
		if len(cs.of(v.Ref.ID, m)) > 0 {
			return true
		}
	}
	return false
}

// say gives a difference its cause where terms were corrected: those of its contract, or
// else of another one that moved its totals. What came late and moved the line along
// with it stays in it.
func (cs corrections) say(l *Line, m period.Month, late bool) {
	if len(cs.all) == 0 {
		return
	}
	own := cs.of(l.Contract, m)
	switch {
	case len(own) > 0:
		texts := make([]string, len(own))
		for i, c := range own {
			texts[i] = c.String()
		}
		cause := "corrected terms: " + strings.Join(texts, "; ")
		if late {
			cause += "; " + l.Cause
		}
		l.Cause = cause
		l.Derivation[0].What = "recomputed under the corrected terms"
	case l.Count == 0 && !late:
		l.Cause = fmt.Sprintf("corrected terms or late events moved the tiers or refunds that %s was priced at", m)
		l.Derivation[0].What = "recomputed"
	}
}

// correctedCatalogue is a closed month's catalogue with the corrections that the newest
// close priced forward.
func (c *Closer) correctedCatalogue(ctx context.Context, of, newest Manifest) (*catalogue.Snapshot, error) {
	s, err := c.Catalogue.FromRefs(ctx, of.Catalogue)
	if err != nil || of.Month == newest.Month || !forward(newest.Engine) {
		return s, err
	}
	by, err := c.Catalogue.FromRefs(ctx, newest.Catalogue)
	if err != nil {
		return nil, err
	}
	return s.CorrectedBy(by), nil
}
