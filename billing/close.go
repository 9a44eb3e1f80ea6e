package billing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mete/catalogue"
	"mete/internal/failpoint"
	"mete/ledger"
	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// The steps of a close at which a crash is tried.
const (
	afterManifest   failpoint.Point = "close.after-manifest"
	afterScorecards failpoint.Point = "close.after-scorecards"
	afterGroup      failpoint.Point = "close.after-group"
	afterStatement  failpoint.Point = "close.after-statement"
	beforeFinish    failpoint.Point = "close.before-finish"
)

// Stream tells how far accepted events have come.
type Stream interface {
	// Last is the last position of every partition of the stream now.
	Last(ctx context.Context) (metering.Cutoff, error)

	// WaitStored returns when everything up to the cutoff is in the store, or with
	// an error that says what is missing.
	WaitStored(ctx context.Context, upTo metering.Cutoff) error
}

// Catalogue answers which versions were in force.
type Catalogue interface {
	// At is the catalogue in force on a day, as recorded up to an instant; the zero
	// instant is now.
	At(ctx context.Context, on period.Date, recordedUpTo time.Time) (*catalogue.Snapshot, error)

	// Current is the catalogue with the last version of everything.
	Current(ctx context.Context) (*catalogue.Snapshot, error)

	// History is every version of one object, oldest first.
	History(ctx context.Context, k catalogue.Kind, id string) ([]catalogue.Version, error)

	// FromRefs is the catalogue of exactly these versions.
	FromRefs(ctx context.Context, refs []catalogue.Ref) (*catalogue.Snapshot, error)
}

// Closer closes months. Its fields are set once, by main.
type Closer struct {
	Store     Store
	Ledger    ledger.Store
	Events    metering.Store
	Stream    Stream
	Catalogue Catalogue
	Progress  func(step string, done, of int) // may be nil

	// Redactions are the values that were overwritten in the metering store; nil: none.
	Redactions metering.Redactor

	// Facts are what sources say beside their events; nil: nothing.
	Facts metering.SourceFacts
}

// CloseRequest says which month is closed, by whom and when.
type CloseRequest struct {
	Month  period.Month
	By     string
	At     time.Time
	Accept []AcceptedGap
}

// CloseReport is what a close did.
type CloseReport struct {
	Month      period.Month      `json:"month"`
	Already    bool              `json:"already,omitempty"` // it was closed before; nothing was done
	Statements []StatementRecord `json:"statements"`
	Groups     int               `json:"groups"`
	Repriced   []period.Month    `json:"repriced,omitempty"` // closed months priced again, for late events or corrected terms
	LateEvents int64             `json:"late_events"`
	TooLate    []pricing.Line    `json:"too_late,omitempty"` // differences a late limit bars
	NoRates    []NoRate          `json:"no_rates,omitempty"` // amounts that no exchange rate was there for

	Corrections []catalogue.Correction `json:"corrections,omitempty"`  // of terms, that this close is the first to price forward
	OpenAppeals []string               `json:"open_appeals,omitempty"` // their measures froze as measured
}

// Close closes a month: it pins everything the month depends on, waits for the
// store, freezes scorecards, prices the month and what late events change in closed
// ones, and commits each statement with its entries. It may be interrupted at any
// point and run again; what is done stays as it is.
func (c *Closer) Close(ctx context.Context, req CloseRequest) (CloseReport, error) {
	status, err := c.Store.Month(ctx, req.Month)
	if err != nil {
		return CloseReport{}, err
	}
	if status.State == ledger.Closed || status.State == ledger.Locked {
		rs, err := c.Store.Statements(ctx, req.Month, "")
		return CloseReport{Month: req.Month, Already: true, Statements: rs}, err
	}
	m, err := c.manifest(ctx, status, req)
	if err != nil {
		return CloseReport{}, fmt.Errorf("close %s: %w", req.Month, err)
	}
	if err := afterManifest.Hit(); err != nil {
		return CloseReport{}, err
	}
	c.progress("waiting for the store", 0, 1)
	if err := c.Stream.WaitStored(ctx, m.Cutoff); err != nil {
		return CloseReport{}, fmt.Errorf("close %s: the store is behind: %w", req.Month, err)
	}
	run, err := c.newRun(ctx, m)
	if err != nil {
		return CloseReport{}, fmt.Errorf("close %s: %w", req.Month, err)
	}
	if err := run.freeze(ctx); err != nil {
		return CloseReport{}, fmt.Errorf("close %s: scorecards: %w", req.Month, err)
	}
	if err := afterScorecards.Hit(); err != nil {
		return CloseReport{}, err
	}
	out, err := run.price(ctx)
	if err != nil {
		return CloseReport{}, fmt.Errorf("close %s: %w", req.Month, err)
	}
	for i, p := range out.priced {
		if err := c.Store.SavePriced(ctx, p); err != nil {
			return CloseReport{}, fmt.Errorf("close %s: group %s: %w", req.Month, p.Group, err)
		}
		c.progress("pricing", i+1, len(out.priced))
		if err := afterGroup.Hit(); err != nil {
			return CloseReport{}, err
		}
	}
	statements, err := run.statements(ctx, out)
	if err != nil {
		return CloseReport{}, fmt.Errorf("close %s: %w", req.Month, err)
	}
	report := CloseReport{Month: req.Month, Groups: out.groups, Repriced: out.repriced, LateEvents: out.late, TooLate: out.barred, OpenAppeals: m.OpenAppeals, NoRates: out.noRates(), Corrections: out.corrected}
	for i, s := range statements {
		entries, err := s.Entries()
		if err != nil {
			return report, fmt.Errorf("close %s: %w", req.Month, err)
		}
		if err := c.Store.CommitStatement(ctx, s, entries); err != nil {
			return report, fmt.Errorf("close %s: statement %s: %w", req.Month, s.ID, err)
		}
		c.progress("statements", i+1, len(statements))
		if err := afterStatement.Hit(); err != nil {
			return report, err
		}
	}
	if err := c.checkBalances(ctx, statements); err != nil {
		return report, fmt.Errorf("close %s: %w", req.Month, err)
	}
	if err := beforeFinish.Hit(); err != nil {
		return report, err
	}
	if err := c.Store.FinishClose(ctx, req.Month); err != nil {
		return report, fmt.Errorf("close %s: %w", req.Month, err)
	}
	report.Statements, err = c.Store.Statements(ctx, req.Month, "")
	return report, err
}

func (c *Closer) progress(step string, done, of int) {
	if c.Progress != nil {
		c.Progress(step, done, of)
	}
}

// manifest pins what the close depends on, or goes on under the one pinned before.
func (c *Closer) manifest(ctx context.Context, status MonthStatus, req CloseRequest) (Manifest, error) {
	if status.Manifest != nil {
		return *status.Manifest, nil
	}
	if req.By == "" {
		return Manifest{}, errors.New("a close needs the name of who closes: --as NAME")
	}
	snap, err := c.Catalogue.At(ctx, req.Month.Last(), time.Time{})
	if err != nil {
		return Manifest{}, fmt.Errorf("catalogue: %w", err)
	}
	bounds := zonesOf(snap, req.Month)
	last := slices.MaxFunc(bounds, func(a, b period.Period) int { return a.End.Compare(b.End) })
	if ready := readyAt(snap, last); req.At.Before(ready) {
		return Manifest{}, fmt.Errorf("the month ends in %s at %s and waits %d days for late events: not before %s: %w",
			last.Zone, instant(last.End), snap.Marketplace.CloseLagDays, instant(ready), ErrState)
	}
	cutoff, err := c.Stream.Last(ctx)
	if err != nil {
		return Manifest{}, fmt.Errorf("last position of the stream: %w", err)
	}
	c.progress("waiting for the store", 0, 1)
	if err := c.Stream.WaitStored(ctx, cutoff); err != nil {
		return Manifest{}, fmt.Errorf("the store is behind: %w", err)
	}
	if err := c.checkSilent(ctx, snap, req, cutoff); err != nil {
		return Manifest{}, err
	}
	adjustments, err := c.Store.Adjustments(ctx)
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{
		Entity: snap.Marketplace.Entity, Month: req.Month, Cutoff: cutoff, Catalogue: snap.Refs(), Bounds: bounds,
		Engine: Engine, Accepted: req.Accept, ClosedBy: req.By, ClosedAt: req.At.UTC(),
	}
	for _, a := range adjustments {
		if a.ApprovedBy != "" && a.CarriedBy == (period.Month{}) {
			m.Adjust = append(m.Adjust, a.ID)
		}
	}
	if err := c.pinAppeals(ctx, &m); err != nil {
		return Manifest{}, err
	}
	return c.Store.BeginClose(ctx, m)
}

// checkSilent refuses the close while a source that must speak was silent before
// month end for longer than its catalogue allows, unless it is accepted by name. It
// speaks by an event or by a heartbeat: one that has nothing to send says so.
func (c *Closer) checkSilent(ctx context.Context, snap *catalogue.Snapshot, req CloseRequest, cutoff metering.Cutoff) error {
	end := req.Month.In(snap.Marketplace.Zone).End
	var silent []string
	for _, s := range snap.SourceList() {
		accepted := slices.ContainsFunc(req.Accept, func(g AcceptedGap) bool { return g.Source == s.Name })
		if s.SilentAfterDays == 0 || accepted {
			continue
		}
		since := end.AddDate(0, 0, -s.SilentAfterDays)
		spoke, err := c.spoke(ctx, s.Name, metering.Span{Start: since, End: end, UpTo: cutoff})
		if err != nil {
			return err
		}
		if !spoke && c.Facts != nil {
			if spoke, err = c.Facts.Alive(ctx, s.Name, since, end); err != nil {
				return err
			}
		}
		if !spoke {
			silent = append(silent, fmt.Sprintf("%s since %s or before", s.Name, instant(since)))
		}
	}
	if len(silent) == 0 {
		return nil
	}
	return fmt.Errorf("silent before the month's end: %s; find out why, or accept it by name and reason: --accept-silent SOURCE=REASON: %w",
		strings.Join(silent, ", "), ErrState)
}

// spoke reports whether an event of the source lies in the span.
func (c *Closer) spoke(ctx context.Context, source string, s metering.Span) (bool, error) {
	for e, err := range c.Events.Events(ctx, s, metering.Filter{Voided: true}) {
		if err != nil {
			return false, fmt.Errorf("last events of source %s: %w", source, err)
		}
		if e.Source == source {
			return true, nil
		}
	}
	return false, nil
}

// zonesOf are the month's instants in every zone a contract uses.
func zonesOf(snap *catalogue.Snapshot, m period.Month) []period.Period {
	zones := map[string]*time.Location{snap.Marketplace.ZoneName: snap.Marketplace.Zone}
	for _, v := range snap.ContractsIn(m) {
		zones[v.Terms.ZoneName] = v.Terms.Zone
	}
	var out []period.Period
	for _, name := range slices.Sorted(maps.Keys(zones)) {
		out = append(out, m.In(zones[name]))
	}
	return out
}

// readyAt is when a month that ended may be closed.
func readyAt(snap *catalogue.Snapshot, b period.Period) time.Time {
	return b.End.AddDate(0, 0, snap.Marketplace.CloseLagDays)
}

// payDay is the day of the following month on which payouts go out when the
// marketplace names none.
const payDay = 20

// payDays is the business day on which a month's statement is paid, and what it follows
// from where a contract has net terms. A contract without any counts with the
// marketplace's day then: a statement is paid as a whole, on the latest day.
func payDays(snap *catalogue.Snapshot, m period.Month, inForce []*pricing.Terms) (period.Date, *pricing.Due, error) {
	pay := snap.Marketplace.Pay
	next := m.Add(1)
	on := period.Date{Year: next.Year, Month: next.Month, Day: cmp.Or(pay.Day, payDay)}
	due, others := pricing.DueOf(inForce, m)
	if due != nil {
		if others && due.DueOn.Before(on) {
			due.DueOn = on
		}
		on = due.DueOn
	}
	on, err := snap.Calendars[pay.Calendar].AddBusinessDays(on, 0)
	return on, due, err
}

// run is one close, or its derivation again: everything in it follows from the
// manifest and what was kept before this month.
type run struct {
	*Closer
	manifest  Manifest
	snapshots map[period.Month]*catalogue.Snapshot
	reader    *usageReader
	appeals   []Appeal // nil: not read yet
}

func (c *Closer) newRun(ctx context.Context, m Manifest) (*run, error) {
	snap, err := c.Catalogue.FromRefs(ctx, m.Catalogue)
	if err != nil {
		return nil, fmt.Errorf("catalogue of the manifest: %w", err)
	}
	return &run{
		Closer: c, manifest: m, reader: newUsageReader(c.Events, m.Cutoff),
		snapshots: map[period.Month]*catalogue.Snapshot{m.Month: snap},
	}, nil
}

// snapshot is the catalogue that a month is priced under: that of its own manifest,
// with the corrections that the month that closes has.
func (r *run) snapshot(ctx context.Context, m period.Month) (*catalogue.Snapshot, error) {
	if s, ok := r.snapshots[m]; ok {
		return s, nil
	}
	status, err := r.Store.Month(ctx, m)
	if err != nil {
		return nil, err
	}
	if status.Manifest == nil {
		return nil, fmt.Errorf("month %s has no manifest: %w", m, ErrNotFound)
	}
	s, err := r.Catalogue.FromRefs(ctx, status.Manifest.Catalogue)
	if err != nil {
		return nil, fmt.Errorf("catalogue of %s: %w", m, err)
	}
	if forward(r.manifest.Engine) {
		s = s.CorrectedBy(r.snapshots[r.manifest.Month])
	}
	r.snapshots[m] = s
	return s, nil
}

// freeze computes and keeps the month's scorecards, and which apps may be placed.
func (r *run) freeze(ctx context.Context) error {
	cards, err := r.frozenCards(ctx)
	if err != nil {
		return err
	}
	if err := r.Store.FreezeScorecards(ctx, r.manifest.Month, cards); err != nil {
		return err
	}
	placed, err := r.placements(ctx, r.manifest.Month)
	if err != nil {
		return fmt.Errorf("placement: %w", err)
	}
	return r.Store.FreezePlacements(ctx, r.manifest.Month, placed)
}

func (r *run) scorecards(ctx context.Context, m period.Month) ([]pricing.Scorecard, error) {
	return r.reader.scorecards(ctx, m, r.scoredApps(m), r.undated())
}

// outcome is what pricing a close comes to.
type outcome struct {
	priced      []Priced // in the order they were priced
	corrections []Line
	barred      []pricing.Line
	repriced    []period.Month
	late        int64
	groups      int
	corrected   []catalogue.Correction
}

// price prices what late events changed in closed months, in order of time, and then
// the month itself.
func (r *run) price(ctx context.Context) (outcome, error) {
	var out outcome
	late, err := r.lateEvents(ctx)
	if err != nil {
		return out, err
	}
	out.late = late.count
	p := r.pricer(late)
	if p.amended, err = r.newCorrections(ctx); err != nil {
		return out, err
	}
	if first := p.amended.first; len(p.amended.all) > 0 && first.Before(p.start) {
		p.start = first
	}
	out.corrected = p.amended.all
	if p.after, err = r.totalsAfter(ctx, p.start.Add(-1)); err != nil {
		return out, err
	}
	for m := p.start; m.Before(r.manifest.Month); m = m.Add(1) {
		if err := p.reprice(ctx, m, &out); err != nil {
			return out, fmt.Errorf("late events of %s: %w", m, err)
		}
	}
	groups, err := p.month(ctx, r.manifest.Month, nil)
	if err != nil {
		return out, err
	}
	out.groups = len(groups)
	out.priced = append(out.priced, groups...)
	return out, nil
}

// totalKey says whose a running total is: a contract's, or, where a ladder runs over
// an account group, the group's.
func totalKey(t pricing.Total) string {
	if t.Contract == "" {
		return t.Scope
	}
	return t.Contract
}

// totalKeys are the keys of all totals that a scope group has.
func totalKeys(snap *catalogue.Snapshot, g catalogue.ScopeGroup) []string {
	var keys []string
	for _, v := range g.Contracts {
		keys = append(keys, v.Terms.Contract)
	}
	for _, id := range g.Partners {
		if group := snap.Partners[id].AccountGroup; group != "" {
			keys = append(keys, "group:"+group)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// keysIn are the keys of all totals that contracts in force in a month have.
func keysIn(snap *catalogue.Snapshot, m period.Month) []string {
	var keys []string
	for _, g := range snap.Groups(m) {
		keys = append(keys, totalKeys(snap, g)...)
	}
	return keys
}

// totalsAfter are the running totals at the end of a month, by contract or account
// group, from the newest pricing before this close. A contract that rested in that
// month has those of the last closed month in which it was in force.
func (r *run) totalsAfter(ctx context.Context, m period.Month) (map[string][]pricing.Total, error) {
	out, need := map[string][]pricing.Total{}, map[string]bool{}
	for w := m.Add(1); !r.manifest.Month.Before(w); w = w.Add(1) {
		snap, err := r.snapshot(ctx, w)
		if err != nil {
			return nil, err
		}
		for _, k := range keysIn(snap, w) {
			need[k] = true
		}
	}
	months, err := r.Store.Months(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range slices.Backward(months) {
		if m.Before(s.Month) || s.Manifest == nil ||
			!slices.ContainsFunc(keysIn(r.snapshots[r.manifest.Month], s.Month), func(k string) bool { return need[k] }) {
			continue
		}
		if err := r.takeTotals(ctx, s.Month, need, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// takeTotals takes the needed totals that a closed month left.
func (r *run) takeTotals(ctx context.Context, m period.Month, need map[string]bool, out map[string][]pricing.Total) error {
	snap, err := r.snapshot(ctx, m)
	if err != nil {
		return err
	}
	priced, err := r.Store.PricedMonth(ctx, m, r.manifest.Month)
	if err != nil {
		return err
	}
	for _, p := range priced {
		for _, t := range p.Result.After {
			if k := totalKey(t); need[k] {
				out[k] = append(out[k], t)
			}
		}
	}
	for _, k := range keysIn(snap, m) {
		delete(need, k)
	}
	return nil
}

// pricer walks months in order, carrying totals and attributions from one to the
// next.
type pricer struct {
	*run
	late    lateEvents
	amended corrections
	only    map[partner.ID]bool                        // nil: price the groups of all partners
	dirty   map[string]bool                            // totals that late events changed in this walk
	start   period.Month                               // of the walk
	after   map[string][]pricing.Total                 // by contract, at the end of the month before
	fresh   map[SaleRef]map[string]pricing.Attribution // made in this walk, by sale and contract/rule
	before  *usageReader                               // at the cutoff of the last close; nil: not asked yet

	trial bool // nothing of it is kept, nor a digest of what it was priced from
}

// pricer begins a walk at the first month that late events reach, with no totals yet.
func (r *run) pricer(late lateEvents) *pricer {
	return &pricer{run: r, late: late, start: late.first, dirty: map[string]bool{}, after: map[string][]pricing.Total{},
		fresh: map[SaleRef]map[string]pricing.Attribution{}}
}

// cards are the scorecards that a month is priced with: frozen, or, while it is being
// closed, as they will be, with what appeals and late facts of certifications changed
// since. A shadow is not scored.
func (p *pricer) cards(ctx context.Context, m period.Month) ([]pricing.Scorecard, error) {
	if p.reader.shadow {
		return nil, nil
	}
	cards, err := p.Store.Scorecards(ctx, m)
	switch {
	case err != nil:
	case len(cards) == 0 && !p.kept():
		cards, err = p.scorecards(ctx, m)
	case m != p.manifest.Month || !p.kept(): // its own cards were frozen with what it knows
		cards, err = p.redated(ctx, m, cards)
	}
	if err != nil {
		return nil, err
	}
	return p.corrected(ctx, m, cards)
}

// month prices the groups of a month and makes its totals the ones before the next. Of
// a month that was priced before it returns only the groups that come to something
// else, and looks only at those that late events can reach.
func (p *pricer) month(ctx context.Context, m period.Month, old map[string]Priced) ([]Priced, error) {
	snap, err := p.snapshot(ctx, m)
	if err != nil {
		return nil, err
	}
	cards, err := p.cards(ctx, m)
	if err != nil {
		return nil, err
	}
	after := map[string][]pricing.Total{}
	maps.Copy(after, p.after) // a contract that rests for a month keeps its totals
	var out []Priced
	for _, g := range snap.Groups(m) {
		if p.only != nil && !slices.ContainsFunc(g.Partners, func(id partner.ID) bool { return p.only[id] }) {
			continue
		}
		was, priced := old[g.ID]
		keys := totalKeys(snap, g)
		if priced && !p.reached(snap, m, g, keys) {
			carry(after, keys, was.Result.After)
			p.remember(was.Result.Attributions)
			continue
		}
		in, err := p.input(ctx, snap, m, g, cards)
		if err != nil {
			return nil, fmt.Errorf("group %s of %s: %w", g.ID, m, err)
		}
		res, err := pricing.Price(in)
		if err != nil {
			return nil, fmt.Errorf("group %s of %s: %w", g.ID, m, err)
		}
		carry(after, keys, res.After)
		p.remember(res.Attributions)
		if priced && sameResult(was.Result, res) {
			continue
		}
		for _, k := range keys {
			p.dirty[k] = true
		}
		x := Priced{Close: p.manifest.Month, Month: m, Group: g.ID, Result: res}
		if !p.trial {
			x.Input = in.Digest()
		}
		out = append(out, x)
	}
	p.after = after
	return out, nil
}

// remember keeps what was attributed to sales in this walk, for later refunds.
func (p *pricer) remember(as []pricing.Attribution) {
	for _, a := range as {
		ref := SaleRef{a.Source, a.ID}
		if p.fresh[ref] == nil {
			p.fresh[ref] = map[string]pricing.Attribution{}
		}
		p.fresh[ref][a.Contract+"/"+a.Rule] = a
	}
}

// reached reports whether late events or corrected terms can change a group's month: its
// own, those of customers it referred, or ones that changed its totals before.
func (p *pricer) reached(snap *catalogue.Snapshot, m period.Month, g catalogue.ScopeGroup, keys []string) bool {
	if slices.ContainsFunc(keys, func(k string) bool { return p.dirty[k] }) {
		return true
	}
	if p.amended.reach(m, g) {
		return true
	}
	for _, v := range g.Contracts {
		if v.Terms.NeedsLeads() && !m.Before(p.late.first) {
			return true
		}
		for _, a := range snap.AppsOf(v.Terms) {
			if from, late := p.late.apps[a]; late && !m.Before(from) {
				return true
			}
		}
	}
	return false
}

// input gathers what one group's month is priced from.
func (p *pricer) input(ctx context.Context, snap *catalogue.Snapshot, m period.Month, g catalogue.ScopeGroup, cards []pricing.Scorecard) (pricing.Input, error) {
	in := pricing.Input{Group: g.ID, Month: m, Meters: snap.MeterList()}
	var end time.Time
	apps := map[partner.AppID]bool{}
	parties := map[partner.ID]bool{}
	bringers := map[partner.ID]bool{}
	for _, v := range g.Contracts {
		end = later(end, v.Period.End)
		for _, a := range snap.AppsOf(v.Terms) {
			apps[a] = true
		}
		parties[v.Terms.Partner] = true
		for _, id := range v.Terms.Bringers() {
			bringers[id] = true
		}
	}
	var referred map[partner.CustomerID]bool
	if len(bringers) > 0 {
		if p.first() {
			bringers = parties
		}
		book, err := p.reader.leadsUntil(ctx, end, snap)
		if err != nil {
			return in, err
		}
		in.Leads, referred = book.broughtBy(bringers, !p.first())
	}
	var refunds []SaleRef
	for _, v := range g.Contracts {
		s, err := p.reader.span(ctx, v.Period)
		if err != nil {
			return in, err
		}
		seg := pricing.Segment{Terms: v.Terms, Period: v.Period}
		var also map[partner.CustomerID]bool
		if v.Terms.SeesOtherApps() {
			also = referred
		}
		seg.Usage, seg.Transactions = s.of(snap.AppsOf(v.Terms), also)
		alone, err := p.reader.alone(ctx, v.Period, snap.AppsOf(v.Terms), typesAlone(v.Terms, snap.Meters))
		if err != nil {
			return in, err
		}
		seg.Transactions = append(seg.Transactions, alone...)
		for _, t := range seg.Transactions {
			if t.Data.RefersTo != "" && (t.Type == metering.SaleRefunded || t.Type == metering.SaleChargebackLost || t.Type == metering.SaleWrittenOff) {
				refunds = append(refunds, SaleRef{t.Source, t.Data.RefersTo})
			}
		}
		in.Segments = append(in.Segments, seg)
	}
	for _, key := range totalKeys(snap, g) {
		in.Before = append(in.Before, p.after[key]...)
	}
	originals, err := p.originals(ctx, refunds)
	if err != nil {
		return in, err
	}
	in.Originals = originals
	for _, c := range cards {
		if apps[c.App] {
			in.Scorecards = append(in.Scorecards, c)
		}
	}
	in.GatherRates(rateRows(snap))
	for _, id := range slices.Sorted(maps.Keys(apps)) {
		in.Apps = append(in.Apps, snap.Apps[id])
	}
	for _, id := range slices.Sorted(maps.Keys(parties)) {
		in.Partners = append(in.Partners, snap.Partners[id])
	}
	return in, nil
}

// carry puts a group's totals in the place of those it had.
func carry(after map[string][]pricing.Total, keys []string, totals []pricing.Total) {
	for _, k := range keys {
		delete(after, k)
	}
	for _, t := range totals {
		after[totalKey(t)] = append(after[totalKey(t)], t)
	}
}

// originals are what was attributed to the sales that refunds name: made in this
// walk, or kept by an earlier close for a month before it. What was kept for a month
// of the walk counts no more, since it is priced again here. Nothing is kept of what
// shadows attribute, and what is kept is not theirs.
func (p *pricer) originals(ctx context.Context, refs []SaleRef) ([]pricing.Attribution, error) {
	if len(refs) == 0 || p.reader.shadow {
		return nil, nil
	}
	kept, err := p.Store.Attributions(ctx, refs, p.manifest.Month)
	if err != nil {
		return nil, err
	}
	all := map[SaleRef]map[string]pricing.Attribution{}
	for _, a := range kept {
		if !a.Month.Before(p.start) {
			continue
		}
		ref := SaleRef{a.Source, a.ID}
		if all[ref] == nil {
			all[ref] = map[string]pricing.Attribution{}
		}
		all[ref][a.Contract+"/"+a.Rule] = a
	}
	for _, ref := range refs {
		if fresh, ok := p.fresh[ref]; ok {
			all[ref] = fresh
		}
	}
	var out []pricing.Attribution
	for _, ref := range slices.SortedFunc(maps.Keys(all), compareRefs) {
		for _, rule := range slices.Sorted(maps.Keys(all[ref])) {
			out = append(out, all[ref][rule])
		}
	}
	return out, nil
}

func compareRefs(a, b SaleRef) int {
	return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.ID, b.ID))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
