package billing

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"mete/ledger"
	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Finding is one thing that verify or reconcile found to be different from what it
// must be.
type Finding struct {
	Check string `json:"check"` // what was compared
	Where string `json:"where"` // statement, line, entry, app
	Want  string `json:"want"`
	Got   string `json:"got"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: want %s, got %s", f.Check, f.Where, f.Want, f.Got)
}

// Verification is what verify compared and found.
type Verification struct {
	Month      period.Month      `json:"month"`
	Statements int               `json:"statements"`
	Lines      int               `json:"lines"`
	Entries    int               `json:"entries"`
	Digests    map[string]string `json:"digests"` // derived again, by statement
	Findings   []Finding         `json:"findings"`

	// Redacted are the redactions whose events may have had a part in the month. Where
	// there are any, a digest of what was priced may be of a value that is gone, and no
	// difference of digests is a finding; what came of it must be the same all the same.
	Redacted []metering.Redaction `json:"redacted,omitempty"`
	Inputs   int                  `json:"inputs_redacted,omitempty"` // digests that differ for that reason
}

func (v *Verification) find(check, where, want, got string) {
	v.Findings = append(v.Findings, Finding{check, where, want, got})
}

// Verify derives a closed month again from the metering store, the manifest and what
// was kept before, and compares: scorecards, placements, priced lines, attributions, every
// statement's digest, its entries in the books, whether it was issued, the reserve it
// leaves and the adjustments it carries.
func (c *Closer) Verify(ctx context.Context, m period.Month) (Verification, error) {
	v := Verification{Month: m, Digests: map[string]string{}}
	status, err := c.Store.Month(ctx, m)
	if err != nil {
		return v, err
	}
	if status.State != ledger.Closed && status.State != ledger.Locked {
		return v, fmt.Errorf("verify %s: the month is %s, only a closed month can be verified: %w", m, status.State, ErrState)
	}
	if status.Manifest == nil {
		v.find("manifest", m.String(), "a manifest", "none")
		return v, nil
	}
	if !derives(status.Manifest.Engine) {
		return v, fmt.Errorf("verify %s: closed by engine %s, this is %s: verify it with that version", m, status.Manifest.Engine, Engine)
	}
	if v.Redacted, err = c.redactionsIn(ctx, status); err != nil {
		return v, fmt.Errorf("verify %s: redactions: %w", m, err)
	}
	run, err := c.newRun(ctx, *status.Manifest)
	if err != nil {
		return v, fmt.Errorf("verify %s: %w", m, err)
	}
	if err := run.verifyScorecards(ctx, &v); err != nil {
		return v, fmt.Errorf("verify %s: scorecards: %w", m, err)
	}
	if err := run.verifyPlacements(ctx, &v); err != nil {
		return v, fmt.Errorf("verify %s: placement: %w", m, err)
	}
	out, err := run.price(ctx)
	if err != nil {
		return v, fmt.Errorf("verify %s: %w", m, err)
	}
	if err := run.verifyPriced(ctx, out, &v); err != nil {
		return v, fmt.Errorf("verify %s: %w", m, err)
	}
	statements, err := run.statements(ctx, out)
	if err != nil {
		return v, fmt.Errorf("verify %s: %w", m, err)
	}
	for _, step := range []func(context.Context, []Statement, *Verification) error{run.verifyStatements, run.verifyLayers, run.verifyDeferred, run.verifyAdjustments} {
		if err := step(ctx, statements, &v); err != nil {
			return v, fmt.Errorf("verify %s: %w", m, err)
		}
	}
	return v, nil
}

func (r *run) verifyScorecards(ctx context.Context, v *Verification) error {
	kept, err := r.Store.Scorecards(ctx, r.manifest.Month)
	if errors.Is(err, ErrNotFound) {
		v.find("scorecards", r.manifest.Month.String(), "frozen scorecards", "none")
		return nil
	}
	if err != nil {
		return err
	}
	now, err := r.frozenCards(ctx)
	if err != nil {
		return err
	}
	byApp := map[partner.AppID]pricing.Scorecard{}
	for _, k := range kept {
		byApp[k.App] = k
	}
	for _, n := range now {
		if want, got := digestOf(n), digestOf(byApp[n.App]); want != got {
			v.find("scorecard", string(n.App), "as derived, digest "+want[:12], "as kept, digest "+got[:12])
		}
		delete(byApp, n.App)
	}
	for app := range byApp {
		v.find("scorecard", string(app), "none", "one that nothing gives rise to")
	}
	return nil
}

// verifyPlacements compares which apps may be placed with what was kept.
func (r *run) verifyPlacements(ctx context.Context, v *Verification) error {
	kept, err := r.Store.Placements(ctx, r.manifest.Month)
	if err != nil {
		return err
	}
	now, err := r.placements(ctx, r.manifest.Month)
	if err != nil {
		return err
	}
	byApp := map[partner.AppID]Placement{}
	for _, k := range kept {
		byApp[k.App] = k
	}
	for _, n := range now {
		if want, got := digestOf(n), digestOf(byApp[n.App]); want != got {
			v.find("placement", string(n.App), "as derived, digest "+want[:12], "as kept, digest "+got[:12])
		}
		delete(byApp, n.App)
	}
	for _, app := range slices.Sorted(maps.Keys(byApp)) {
		v.find("placement", string(app), "none", "one that nothing gives rise to")
	}
	return nil
}

func (r *run) verifyPriced(ctx context.Context, out outcome, v *Verification) error {
	kept, err := r.Store.PricedBy(ctx, r.manifest.Month)
	if err != nil {
		return err
	}
	name := func(p Priced) string { return p.Month.String() + " " + p.Group }
	have := map[string]Priced{}
	for _, k := range kept {
		have[name(k)] = k
	}
	for _, p := range out.priced {
		k, ok := have[name(p)]
		if ok && k.Input != p.Input && len(v.Redacted) > 0 {
			v.Inputs++
			k.Input = p.Input
		}
		switch {
		case !ok:
			v.find("priced group", name(p), "kept by the close", "missing")
		case k.Input != p.Input:
			v.find("input", name(p), p.Input[:12], k.Input[:min(12, len(k.Input))])
		case !sameResult(k.Result, p.Result):
			v.find("result", name(p), "as derived", "another result kept")
		case !slices.EqualFunc(k.Barred, p.Barred, func(a, b pricing.Line) bool { return digestOf(a) == digestOf(b) }):
			v.find("barred by a late limit", name(p), fmt.Sprintf("%d lines as derived", len(p.Barred)), fmt.Sprintf("%d lines kept", len(k.Barred)))
		}
		delete(have, name(p))
	}
	for _, n := range slices.Sorted(maps.Keys(have)) {
		v.find("priced group", n, "none", "one that nothing gives rise to")
	}
	return r.verifyAttributions(ctx, out, v)
}

// verifyAttributions compares what refunds will be given back from with what the
// close attributed.
func (r *run) verifyAttributions(ctx context.Context, out outcome, v *Verification) error {
	kept, err := r.Store.AttributionsBy(ctx, r.manifest.Month)
	if err != nil {
		return err
	}
	name := func(a pricing.Attribution) string {
		return fmt.Sprintf("sale %s of %s under %s/%s", a.ID, a.Source, a.Contract, a.Rule)
	}
	have := map[string]pricing.Attribution{}
	for _, a := range kept {
		have[name(a)] = a
	}
	for _, p := range out.priced {
		for _, a := range p.Result.Attributions {
			k, ok := have[name(a)]
			switch {
			case !ok:
				v.find("attribution", name(a), "a fee of "+a.Fee.String(), "missing")
			case digestOf(k) != digestOf(a):
				v.find("attribution", name(a), fmt.Sprintf("a fee of %s on %s", a.Fee, a.Amount), fmt.Sprintf("%s on %s", k.Fee, k.Amount))
			}
			delete(have, name(a))
		}
	}
	for _, n := range slices.Sorted(maps.Keys(have)) {
		v.find("attribution", n, "none", "one that nothing gives rise to")
	}
	return nil
}

// verifyLayers compares the reserve that is open after the month with what the
// statements say.
func (r *run) verifyLayers(ctx context.Context, derived []Statement, v *Verification) error {
	open, err := r.Store.OpenLayers(ctx, r.manifest.Month.Add(1))
	if err != nil {
		return err
	}
	have := map[StatementID]Layer{}
	for _, l := range open {
		have[l.Statement] = l
	}
	for _, s := range derived {
		for _, l := range s.Layers {
			k, ok := have[l.Statement]
			switch {
			case !ok:
				v.find("reserve layer", string(l.Statement), l.String(), "missing")
			case k != l:
				v.find("reserve layer", string(l.Statement), l.String(), k.String())
			}
			delete(have, l.Statement)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(have)) {
		v.find("reserve layer", string(id), "none", have[id].String())
	}
	return nil
}

func (l Layer) String() string {
	return fmt.Sprintf("%s of %s, to be released %s", l.Amount, l.Month, l.ReleaseOn)
}

// verifyAdjustments compares the adjustments that say this close carried them with
// those its manifest names.
func (r *run) verifyAdjustments(ctx context.Context, _ []Statement, v *Verification) error {
	all, err := r.Store.Adjustments(ctx)
	if err != nil {
		return err
	}
	named := map[string]bool{}
	for _, id := range r.manifest.Adjust {
		named[id] = true
	}
	for _, a := range all {
		switch carried := a.CarriedBy == r.manifest.Month; {
		case named[a.ID] && !carried:
			v.find("adjustment", a.ID, "carried by "+r.manifest.Month.String(), "not carried by it: it would be paid again")
		case carried && !named[a.ID]:
			v.find("adjustment", a.ID, "in the manifest of "+r.manifest.Month.String(), "not in it")
		case named[a.ID] && (a.ApprovedBy == "" || a.ApprovedBy == a.ProposedBy):
			v.find("adjustment", a.ID, "approved by somebody else than "+a.ProposedBy, fmt.Sprintf("%q", a.ApprovedBy))
		}
		delete(named, a.ID)
	}
	for _, id := range slices.Sorted(maps.Keys(named)) {
		v.find("adjustment", id, "kept", "missing")
	}
	return nil
}

func (r *run) verifyStatements(ctx context.Context, derived []Statement, v *Verification) error {
	kept, err := r.Store.Statements(ctx, r.manifest.Month, "")
	if err != nil {
		return err
	}
	have := map[StatementID]StatementRecord{}
	for _, k := range kept {
		if _, twice := have[k.ID]; twice {
			v.find("statement", string(k.ID), "once", "kept twice")
		}
		have[k.ID] = k
	}
	for _, s := range derived {
		v.Statements++
		v.Lines += len(s.Lines)
		v.Digests[string(s.ID)] = s.Digest()
		k, ok := have[s.ID]
		delete(have, s.ID)
		if !ok {
			v.find("statement", string(s.ID), "kept by the close", "missing")
			continue
		}
		if k.Digest != s.Digest() {
			v.find("digest", string(s.ID), s.Digest(), k.Digest)
		}
		compareStatements(s, k.Statement, v)
		if err := r.verifyEntries(ctx, s, k, v); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(have)) {
		v.find("statement", string(id), "none", "one that nothing gives rise to")
	}
	return nil
}

// compareStatements names the lines and balances in which a kept statement differs.
func compareStatements(want, got Statement, v *Verification) {
	if got.Digest() == want.Digest() {
		return
	}
	named := len(v.Findings)
	for i := range max(len(want.Lines), len(got.Lines)) {
		where := fmt.Sprintf("%s line %d", want.ID, i+1)
		switch {
		case i >= len(got.Lines):
			v.find("line", where, want.Lines[i].Text+" "+want.Lines[i].Amount.String(), "missing")
		case i >= len(want.Lines):
			v.find("line", where, "none", got.Lines[i].Text+" "+got.Lines[i].Amount.String())
		case digestOf(want.Lines[i]) != digestOf(got.Lines[i]):
			v.find("line", where, want.Lines[i].Text+" "+want.Lines[i].Amount.String(), got.Lines[i].Text+" "+got.Lines[i].Amount.String())
		}
	}
	if digestOf(want.Payable) != digestOf(got.Payable) || digestOf(want.Reserve) != digestOf(got.Reserve) || digestOf(want.Owed) != digestOf(got.Owed) {
		v.find("balance", string(want.ID), digestOf(want.Payable)[:12], digestOf(got.Payable)[:12])
	}
	if named == len(v.Findings) {
		v.find("statement", string(want.ID), "the content as derived", "other content")
	}
}

func (r *run) verifyEntries(ctx context.Context, s Statement, k StatementRecord, v *Verification) error {
	entries, err := s.Entries()
	if err != nil {
		return err
	}
	if k.State == Issued {
		if e := s.IssueEntry(k.IssuedOn, k.BookedOn); e != nil {
			entries = append(entries, *e)
		}
		if k.IssuedBy == r.manifest.ClosedBy {
			v.find("issue", string(s.ID), "issued by somebody else than "+r.manifest.ClosedBy, k.IssuedBy)
		}
	} else if e, err := r.Ledger.Entry(ctx, s.issueID()); err == nil {
		v.find("issue", string(s.ID), "issued, as "+e.ID+" in the books says", k.State)
	} else if !errors.Is(err, ledger.ErrNotFound) {
		return err
	}
	for _, e := range entries {
		v.Entries++
		booked, err := r.Ledger.Entry(ctx, e.ID)
		switch {
		case errors.Is(err, ledger.ErrNotFound):
			v.find("entry", e.ID, "in the books", "missing")
		case err != nil:
			return err
		case digestOf(booked) != digestOf(e):
			v.find("entry", e.ID, describeEntry(e), describeEntry(booked))
		}
	}
	return r.verifyClosing(ctx, s, v)
}

func (r *run) verifyClosing(ctx context.Context, s Statement, v *Verification) error {
	for _, side := range []struct {
		name   string
		prefix ledger.Account
		page   string
	}{
		{"payable", ledger.Payable(string(s.Partner)), s.Closing().String()},
		{"reserve", ledger.ReserveOf(string(s.Partner)), s.ClosingReserve().String()},
		{"accrued", ledger.Accrued(string(s.Partner)), s.accrued().String()},
		{"receivable", ledger.ReceivablePartner(string(s.Partner)), s.Owes().Neg().String()},
	} {
		book, err := r.credit(ctx, side.prefix, s.Currency, s.Month.Last())
		if err != nil {
			return err
		}
		if book.String() != side.page {
			v.find("closing "+side.name, string(s.ID), side.page, book.String())
		}
	}
	return nil
}

func describeEntry(e ledger.Entry) string {
	out := fmt.Sprintf("%s %s", e.ValueOn, e.Kind)
	for _, p := range e.Postings {
		out += fmt.Sprintf(" · %s %s", p.Account, p.Amount)
	}
	return out
}
