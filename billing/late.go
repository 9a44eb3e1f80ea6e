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

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// lateEvents are what came after the last close for time before this month: how
// many, and from which closed month on they reach each app.
type lateEvents struct {
	count   int64
	first   period.Month                   // of all apps; the month that is closed when nothing is late
	apps    map[partner.AppID]period.Month // first month reached
	appeals []Appeal                       // of closed months, accepted since; they reach months as events do
	since   metering.Cutoff                // of the last close; nil: there is none
}

// reach says that something late reaches an app from a month on.
func (l *lateEvents) reach(app partner.AppID, m period.Month) {
	if was, ok := l.apps[app]; !ok || m.Before(was) {
		l.apps[app] = m
	}
	if m.Before(l.first) {
		l.first = m
	}
}

// lateEvents are what reaches closed months, events and appeals.
func (r *run) lateEvents(ctx context.Context) (lateEvents, error) {
	late := lateEvents{first: r.manifest.Month, apps: map[partner.AppID]period.Month{}}
	months, err := r.Store.Months(ctx)
	if err != nil {
		return late, err
	}
	var closed []MonthStatus
	for _, s := range months {
		if s.Month.Before(r.manifest.Month) && s.Manifest != nil {
			closed = append(closed, s)
		}
	}
	if len(closed) == 0 {
		return late, nil
	}
	earliest, last := closed[0].Month, closed[len(closed)-1]
	late.since = last.Manifest.Cutoff
	var end time.Time
	for _, b := range r.manifest.Bounds {
		end = later(end, b.Start)
	}
	found, err := r.Events.Late(ctx, metering.Span{After: last.Manifest.Cutoff, UpTo: r.manifest.Cutoff, End: end})
	if err != nil {
		return late, fmt.Errorf("late events: %w", err)
	}
	for _, l := range found {
		late.count += l.Count
		// The instant lies in one month or its neighbour, depending on the zone;
		// starting one too early prices a month that comes to the same.
		m := period.MonthOf(l.Earliest, time.UTC).Add(-1)
		if m.Before(earliest) {
			m = earliest
		}
		late.reach(l.App, m)
	}
	if late.appeals, err = r.lateAppeals(ctx); err != nil {
		return late, err
	}
	for _, a := range late.appeals {
		late.reach(a.App, a.Month)
	}
	return late, nil
}

// reprice prices a closed month's groups again under its own manifest and turns what
// changed into corrections.
func (p *pricer) reprice(ctx context.Context, m period.Month, out *outcome) error {
	before, err := p.Store.PricedMonth(ctx, m, p.manifest.Month)
	if err != nil {
		return err
	}
	old := map[string]Priced{}
	for _, b := range before {
		old[b.Group] = b
	}
	groups, err := p.month(ctx, m, old)
	if err != nil {
		return err
	}
	var recertified map[partner.AppID]string
	if len(groups) > 0 {
		if recertified, err = p.recertified(ctx, m); err != nil {
			return err
		}
	}
	for i := range groups {
		was := old[groups[i].Group]
		lines, barred, err := p.differences(m, was, groups[i], recertified)
		if err != nil {
			return fmt.Errorf("group %s: %w", groups[i].Group, err)
		}
		groups[i].Barred = barred // against what statements hold, so with what was barred before
		out.priced = append(out.priced, groups[i])
		out.corrections = append(out.corrections, lines...)
		out.barred = append(out.barred, barred...)
	}
	if len(groups) > 0 {
		out.repriced = append(out.repriced, m)
	}
	return nil
}

// differences are the lines that bring a group's posted month to what it comes to now,
// and apart from them those that late limits bar: the contracts' own, or the
// marketplace's as the month's manifest has it.
func (p *pricer) differences(m period.Month, was, now Priced, recertified map[partner.AppID]string) (lines []Line, barred []pricing.Line, err error) {
	snap := p.snapshots[m]
	var inForce []*pricing.Terms
	terms := map[string]*pricing.Terms{}
	for _, v := range snap.ContractsIn(m) {
		inForce = append(inForce, v.Terms)
		terms[v.Terms.Contract] = v.Terms
	}
	posted := was.posted()
	keys := map[pricing.LineKey]bool{}
	current := map[pricing.LineKey]*pricing.Line{}
	for i := range now.Result.Lines {
		l := &now.Result.Lines[i]
		current[l.LineKey] = l
		keys[l.LineKey] = true
	}
	for k := range posted {
		keys[k] = true
	}
	var all []Line
	var amounts []pricing.Line
	for _, k := range slices.SortedFunc(maps.Keys(keys), compareKeys) {
		cause, certain := p.cause(m, current[k], posted[k], recertified)
		l, differs, err := difference(posted[k], current[k], cause)
		if err != nil {
			return nil, nil, err
		}
		if differs {
			p.amended.say(&l, m, p.late.count > 0 && l.Count != 0 || certain)
			l = l.under(terms[k.Contract])
			all, amounts = append(all, l), append(amounts, l.Line)
		}
	}
	tooLate, err := pricing.Barred(inForce, snap.Marketplace.LateLimitMonths, p.manifest.Month, amounts)
	if err != nil {
		return nil, nil, err
	}
	if p.first() {
		tooLate = barredByFirst(inForce, p.manifest.Month, amounts)
	}
	for _, l := range all {
		if tooLate[l.LineKey] {
			barred = append(barred, l.Line)
		} else {
			lines = append(lines, l)
		}
	}
	return lines, barred, nil
}

// posted is what the statements so far hold of the group's month, by key: the newest
// pricing without what a late limit barred.
func (p Priced) posted() map[pricing.LineKey]*pricing.Line {
	out := map[pricing.LineKey]*pricing.Line{}
	for i := range p.Result.Lines {
		l := p.Result.Lines[i]
		out[l.LineKey] = &l
	}
	for i := range p.Barred {
		b := p.Barred[i]
		l, ok := out[b.LineKey]
		if !ok { // what the pricing no longer has still stands on statements
			gone := b
			gone.Text = strings.TrimPrefix(b.Text, lateText(b.Month, ""))
			gone.Amount, gone.Count, gone.Quantity, gone.Taxes, gone.Exchanged, gone.Deferral, gone.Unpaid, gone.Contested = money.New(0, b.Currency), 0, decimal.Zero, nil, nil, nil, nil, nil
			l, out[b.LineKey] = &gone, &gone
		}
		l.Amount = must(l.Amount.Sub(b.Amount))
		if d := b.Deferral; d != nil { // what is barred was never deferred
			posted := &pricing.Deferral{Months: d.Months, Charged: d.Charged.Neg(), Back: d.Back.Neg()}
			if was := l.Deferral; was != nil {
				posted.Charged, posted.Back = must(was.Charged.Sub(d.Charged)), must(was.Back.Sub(d.Back))
			}
			l.Deferral = posted
		}
	}
	return out
}

// cause says in words why a closed month changed.
func (late lateEvents) cause(m period.Month, now, posted *pricing.Line) string {
	var delta int64
	if now != nil {
		delta += now.Count
	}
	if posted != nil {
		delta -= posted.Count
	}
	switch {
	case delta == 1:
		return fmt.Sprintf("1 event of %s reached us after its close", m.Month)
	case delta == -1:
		return fmt.Sprintf("1 event of %s was voided after its close", m.Month)
	case delta > 0:
		return fmt.Sprintf("%s events of %s reached us after its close", groupInt(delta), m.Month)
	case delta < 0:
		return fmt.Sprintf("%s events of %s were voided after its close", groupInt(-delta), m.Month)
	}
	if a := late.appealed(m); a != "" {
		return a
	}
	return fmt.Sprintf("late events moved the tiers or refunds that %s was priced at", m.Month)
}

// appealed names the appeals that were accepted of a month, or of one before it.
func (late lateEvents) appealed(m period.Month) string {
	var of, before []string
	for _, a := range late.appeals {
		switch {
		case a.Month == m:
			of = append(of, fmt.Sprintf("appeal %s was accepted: %s of %s is %s", a.ID, a.Measure, a.App, a.Decision.Value))
		case a.Month.Before(m):
			before = append(before, a.ID)
		}
	}
	switch {
	case len(of) > 0:
		return strings.Join(of, "; ")
	case len(before) > 0 && late.count == 0:
		return fmt.Sprintf("appeal %s moved the tiers or refunds that %s was priced at", strings.Join(before, ", "), m)
	}
	return ""
}

func compareKeys(a, b pricing.LineKey) int {
	return cmp.Or(a.Month.Compare(b.Month), cmp.Compare(a.Party, b.Party), cmp.Compare(a.Contract, b.Contract),
		cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Part, b.Part), cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Currency, b.Currency))
}

// difference is the line that brings a closed month's key from what was posted to
// what it comes to now. It is false when nothing changed; late events that cost
// nothing change the count, and stand on the page for that.
func difference(posted, now *pricing.Line, cause string) (Line, bool, error) {
	if posted != nil && now != nil && now.Of == "" && posted.Of != "" {
		// Nothing is left that the rule follows, so its line does not say of what it is:
		// what was posted is taken back from where it was posted.
		still := *now
		still.Of, still.Class = posted.Of, posted.Class
		now = &still
	}
	base := now
	if base == nil {
		base = posted
	}
	old, recomputed := money.New(0, base.Currency), money.New(0, base.Currency)
	var oldCount, count int64
	oldQuantity, quantity := decimal.Zero, decimal.Zero
	taxes := map[taxKey]money.Amount{}
	if posted != nil {
		old, oldCount, oldQuantity = posted.Amount, posted.Count, posted.Quantity
		if err := addTaxes(taxes, posted.Taxes, true); err != nil {
			return Line{}, false, err
		}
	}
	if now != nil {
		recomputed, count, quantity = now.Amount, now.Count, now.Quantity
		if err := addTaxes(taxes, now.Taxes, false); err != nil {
			return Line{}, false, err
		}
	}
	amount, err := recomputed.Sub(old)
	if err != nil {
		return Line{}, false, err
	}
	l := Line{
		Section: Corrections, Corrects: base.Month, Posted: &old, Recomputed: &recomputed, Cause: cause,
		Line: *base,
	}
	l.Amount, l.Count, l.Exact, l.Quantity = amount, count-oldCount, amount.Decimal(), quantity.Sub(oldQuantity)
	l.Text = lateText(base.Month, base.Text)
	l.Taxes, l.Allocations, l.Base = nil, nil, nil
	if l.Contested, err = contestedBetween(posted, now); err != nil {
		return Line{}, false, err
	}
	if l.Unpaid, err = unpaidBetween(posted, now); err != nil {
		return Line{}, false, err
	}
	if l.Deferral, err = deferralBetween(posted, now); err != nil {
		return Line{}, false, err
	}
	if l.Exchanged, err = pricing.ExchangedLess(now, posted); err != nil {
		return Line{}, false, err
	}
	what := "recomputed with the late events"
	if strings.HasPrefix(cause, "appeal ") {
		what = "recomputed with the accepted appeal"
	}
	l.Derivation = []pricing.Step{
		{What: what, Of: recomputed.Decimal(), Times: decimal.NewFromInt(1), Is: recomputed.Decimal()},
		{What: "less what was posted before", Of: old.Decimal(), Times: decimal.NewFromInt(-1), Is: old.Decimal().Neg()},
	}
	for _, k := range slices.SortedFunc(maps.Keys(taxes), compareTaxes) {
		if !taxes[k].IsZero() {
			l.Taxes = append(l.Taxes, pricing.Tax{Jurisdiction: k.jurisdiction, Amount: taxes[k]})
		}
	}
	return l, !amount.IsZero() || len(l.Taxes) > 0 || len(l.Exchanged) > 0 || l.events() != 0 || l.Deferral != nil || l.Unpaid != nil || l.Contested != nil, nil
}

// contestedBetween is what changed of what customers' banks contest, nil if nothing did.
func contestedBetween(posted, now *pricing.Line) (*pricing.Contested, error) {
	var out *pricing.Contested
	for _, l := range []*pricing.Line{posted, now} {
		if l == nil || l.Contested == nil {
			continue
		}
		held, fees := l.Contested.Held, l.Contested.Fees
		if l == posted {
			held, fees = held.Neg(), fees.Neg()
		}
		if out != nil {
			var errHeld, errFees error
			held, errHeld = held.Add(out.Held)
			fees, errFees = fees.Add(out.Fees)
			if err := errors.Join(errHeld, errFees); err != nil {
				return nil, err
			}
		}
		out = &pricing.Contested{Held: held, Fees: fees}
	}
	if out == nil || out.Held.IsZero() && out.Fees.IsZero() {
		return nil, nil
	}
	return out, nil
}

// unpaidBetween is what changed of what customers have not paid, nil if nothing did.
func unpaidBetween(posted, now *pricing.Line) (*money.Amount, error) {
	var out *money.Amount
	for _, l := range []*pricing.Line{posted, now} {
		if l == nil || l.Unpaid == nil {
			continue
		}
		a := *l.Unpaid
		if l == posted {
			a = a.Neg()
		}
		if out != nil {
			var err error
			if a, err = a.Add(*out); err != nil {
				return nil, err
			}
		}
		out = &a
	}
	if out == nil || out.IsZero() {
		return nil, nil
	}
	return out, nil
}

// deferralBetween is what changed of the part of a line that is earned over months, nil
// if nothing did.
func deferralBetween(posted, now *pricing.Line) (*pricing.Deferral, error) {
	var out *pricing.Deferral
	for _, l := range []*pricing.Line{posted, now} {
		if l == nil || l.Deferral == nil {
			continue
		}
		if out == nil {
			out = &pricing.Deferral{Charged: money.New(0, l.Amount.Currency), Back: money.New(0, l.Amount.Currency)}
		}
		charged, back := l.Deferral.Charged, l.Deferral.Back
		if l == posted {
			charged, back = charged.Neg(), back.Neg()
		}
		out.Months = l.Deferral.Months
		var err error
		if out.Charged, err = out.Charged.Add(charged); err != nil {
			return nil, err
		}
		if out.Back, err = out.Back.Add(back); err != nil {
			return nil, err
		}
	}
	if out == nil || out.Charged.IsZero() && out.Back.IsZero() {
		return nil, nil
	}
	return out, nil
}

// lateText is what a difference of a closed month is called.
func lateText(m period.Month, text string) string { return fmt.Sprintf("%s: %s", m.Month, text) }

// taxKey is a jurisdiction and the currency in which tax was collected for it.
type taxKey struct {
	jurisdiction string
	currency     money.Currency
}

func compareTaxes(a, b taxKey) int {
	return cmp.Or(strings.Compare(a.jurisdiction, b.jurisdiction), cmp.Compare(a.currency, b.currency))
}

func addTaxes(sums map[taxKey]money.Amount, taxes []pricing.Tax, subtract bool) error {
	for _, t := range taxes {
		a := t.Amount
		if subtract {
			a = a.Neg()
		}
		k := taxKey{t.Jurisdiction, a.Currency}
		sum, ok := sums[k]
		if !ok {
			sum = money.New(0, a.Currency)
		}
		sum, err := sum.Add(a)
		if err != nil {
			return err
		}
		sums[k] = sum
	}
	return nil
}
