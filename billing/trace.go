package billing

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/catalogue"
	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// TraceEvent says where an event ended: the statement lines that rest on it, or why
// there is none. Where no line says it, the event is priced alone, as its month would
// price it, and what pricing says of it is the answer.
func (c *Closer) TraceEvent(ctx context.Context, e metering.Accepted) ([]string, error) {
	months, err := c.Store.Months(ctx)
	if err != nil {
		return nil, err
	}
	var newest *Manifest
	for _, s := range months {
		if s.Manifest != nil {
			newest = s.Manifest
		}
	}
	t := c.tracer(newest)
	snap, err := c.Catalogue.Current(ctx)
	if err != nil {
		return nil, err
	}
	app, ok := snap.Apps[e.Data.App]
	if !ok && e.Data.App != "" {
		return []string{fmt.Sprintf("unpriced: app %s is not in the catalogue", e.Data.App)}, nil
	}
	if e.Data.Environment == metering.Sandbox {
		return t.sandbox(ctx, e)
	}
	out, err := t.lines(ctx, e, app)
	if err != nil {
		return nil, err
	}
	late, err := t.tooLate(ctx, e)
	if err != nil {
		return nil, err
	}
	if late != "" {
		out = append(out, late)
	}
	if len(out) > 0 {
		return out, nil
	}
	is, err := t.alone(ctx, e)
	if err != nil {
		return nil, err
	}
	return []string{is.text(e)}, nil
}

// tracer looks for one event, or for several ones; what it needs of the catalogue it
// reads once.
type tracer struct {
	*Closer
	by        *Manifest // of the close whose view counts: it knows corrections of terms of closed months
	snapshots map[seenBy]*catalogue.Snapshot
}

// seenBy is a month, and the month whose close looks at it; zero: its own.
type seenBy struct{ month, by period.Month }

// tracer sees closed months as a close did, under the terms that were corrected by then.
func (c *Closer) tracer(by *Manifest) tracer {
	return tracer{Closer: c, by: by, snapshots: map[seenBy]*catalogue.Snapshot{}}
}

// of is the tracer with the view of another close.
func (t tracer) of(by *Manifest) tracer {
	t.by = by
	return t
}

// lines are the statement lines that rest on the event.
func (t tracer) lines(ctx context.Context, e metering.Accepted, app partner.App) ([]string, error) {
	var out []string
	ss, err := t.Store.Statements(ctx, period.Month{}, partner.ID(""))
	if err != nil {
		return nil, err
	}
	for _, s := range ss {
		status, err := t.Store.Month(ctx, s.Month)
		if err != nil {
			return nil, err
		}
		if status.Manifest == nil || !holds(status.Manifest.Cutoff, e.Position) {
			continue
		}
		for _, l := range s.Lines {
			if l.Adjustment != "" || !inSelection(l.Events, e) || s.Partner != app.Partner && len(l.Events.Apps) > 0 {
				continue
			}
			is, err := t.of(status.Manifest).behind(ctx, l, e)
			if err != nil {
				return nil, err
			}
			if is {
				out = append(out, fmt.Sprintf("on statement %s, line %d: %s", s.ID, l.Number, strings.TrimSpace(l.Text)))
			}
		}
	}
	return out, nil
}

func inSelection(s pricing.Selection, e metering.Accepted) bool {
	return s.Period.Contains(e.Time) && slices.Contains(s.Types, e.Type) && (len(s.Apps) == 0 || slices.Contains(s.Apps, e.Data.App))
}

// behind reports whether an event of the line's period, apps and types is behind it. An
// amount in another currency may be and may not: a fee can be the contract's own.
func (t tracer) behind(ctx context.Context, l Line, e metering.Accepted) (bool, error) {
	s := l.Events
	if s.Class != "" && e.Data.Class != s.Class || s.Customer != "" && e.Customer != s.Customer ||
		len(s.Operations) > 0 && !slices.Contains(s.Operations, e.Data.Operation) ||
		s.StatusBelow > 0 && e.Data.Status >= s.StatusBelow || e.Data.Environment == metering.Sandbox {
		return false, nil
	}
	if strings.HasPrefix(e.Type, "lead.") { // counts wherever a rule pays for it
		return true, nil
	}
	if several, err := t.several(ctx, l, e); err != nil || !several && (e.Data.Currency == "" || e.Data.Currency == l.Currency) {
		return err == nil, err
	}
	all, err := t.verdicts(ctx, e)
	return slices.ContainsFunc(all, func(v verdict) bool {
		return v.Contract == l.Contract && v.State != "elsewhere" && v.State != "unpriced"
	}), err
}

// several reports whether more than one contract covers the app in the line's month, or
// one that is about a deal only.
func (t tracer) several(ctx context.Context, l Line, e metering.Accepted) (bool, error) {
	status, err := t.Store.Month(ctx, l.LineKey.Month)
	if err != nil {
		return false, err
	}
	snap, err := t.snapshot(ctx, status)
	if err != nil {
		return false, err
	}
	first := ""
	for _, v := range snap.ContractsIn(l.LineKey.Month) {
		if !slices.Contains(snap.AppsOf(v.Terms), e.Data.App) {
			continue
		}
		if v.Terms.Deal != "" {
			return true, nil // it is about some events of the app only
		}
		if first != "" && first != v.Terms.Contract {
			return true, nil
		}
		first = v.Terms.Contract
	}
	return false, nil
}

// tooLate says that a late limit bars what the event would be charged.
func (t tracer) tooLate(ctx context.Context, e metering.Accepted) (string, error) {
	months, err := t.Store.Months(ctx)
	if err != nil {
		return "", err
	}
	near := period.MonthOf(e.Time, time.UTC)
	inTime, late := map[period.Month]bool{}, false // for the close of the month
	for _, s := range months {
		inTime[s.Month] = s.Manifest != nil && holds(s.Manifest.Cutoff, e.Position)
		if !inTime[s.Month] && s.Manifest != nil && !s.Month.Before(near.Add(-1)) && !near.Add(1).Before(s.Month) {
			late = true
		}
	}
	for _, s := range months {
		if !late || !inTime[s.Month] {
			continue
		}
		priced, err := t.Store.PricedBy(ctx, s.Month)
		if err != nil {
			return "", err
		}
		for _, p := range priced {
			for _, l := range p.Barred {
				if !inTime[l.Month] && inSelection(l.Events, e) {
					return fmt.Sprintf("too late: %s was closed before it came, and a late limit bars what rule %s of %s would charge for it",
						l.Month, l.Rule, l.Contract), nil
				}
			}
		}
	}
	return "", nil
}

// sandbox says what becomes of an event of a sandbox.
func (t tracer) sandbox(ctx context.Context, e metering.Accepted) ([]string, error) {
	real := e
	real.Data.Environment = ""
	is, err := t.alone(ctx, real)
	if err != nil {
		return nil, err
	}
	out := "sandbox: metered, never billed; in its shadow "
	switch {
	case is.State == "priced":
		out += fmt.Sprintf("priced by %s: mete statement shadow %s", is.rules(), is.month)
	default:
		out += is.text(real)
	}
	return []string{out}, nil
}

// verdict is what pricing says of an event, and the terms it says it under.
type verdict struct {
	pricing.Counted
	terms *pricing.Terms // nil: no contract covers it
	month period.Month
	open  bool

	noRates []pricing.MissingRate
}

// alone is the verdict that counts for the event: of the contract that prices it, or
// else of the first that covers it.
func (t tracer) alone(ctx context.Context, e metering.Accepted) (verdict, error) {
	all, err := t.verdicts(ctx, e)
	is := verdict{Counted: pricing.Counted{State: "unpriced", Why: "no_contract"}, month: period.MonthOf(e.Time, time.UTC)}
	for _, v := range all {
		if v.State != "elsewhere" && (is.terms == nil || v.State == "priced" && is.State != "priced") {
			is = v
		}
	}
	return is, err
}

// verdicts price the event by itself under all terms that cover it: those of its
// month's manifest, or, while the month is open, those of today.
func (t tracer) verdicts(ctx context.Context, e metering.Accepted) ([]verdict, error) {
	near := period.MonthOf(e.Time, time.UTC)
	var originals []pricing.Attribution // of the sale that it takes back
	if e.Data.RefersTo != "" && strings.HasPrefix(e.Type, "sale.") {
		var err error
		if originals, err = t.Store.Attributions(ctx, []SaleRef{{e.Source, e.Data.RefersTo}}, farFuture); err != nil {
			return nil, err
		}
	}
	var out []verdict
	for _, m := range []period.Month{near.Add(-1), near, near.Add(1)} { // in a contract's zone it may lie in the month beside
		status, err := t.Store.Month(ctx, m)
		if err != nil {
			return nil, err
		}
		snap, err := t.snapshot(ctx, status)
		if err != nil {
			return nil, err
		}
		var covering []catalogue.VersionInForce
		for _, v := range snap.ContractsIn(m) {
			if v.Period.Contains(e.Time) && slices.Contains(snap.AppsOf(v.Terms), e.Data.App) {
				covering = append(covering, v)
			}
		}
		if len(covering) == 0 {
			continue
		}
		res, err := priceAlone(snap, m, covering, e, originals)
		if err != nil {
			return nil, fmt.Errorf("event %s of %s alone: %w", e.ID, e.Source, err)
		}
		for _, c := range res.Counted {
			i := slices.IndexFunc(covering, func(v catalogue.VersionInForce) bool { return v.Terms.Contract == c.Contract })
			out = append(out, verdict{c, covering[i].Terms, m, status.Manifest == nil, res.NoRates})
		}
	}
	return out, nil
}

func (t tracer) snapshot(ctx context.Context, status MonthStatus) (*catalogue.Snapshot, error) {
	k := seenBy{month: status.Month}
	if t.by != nil {
		k.by = t.by.Month
	}
	if s, ok := t.snapshots[k]; ok {
		return s, nil
	}
	var s *catalogue.Snapshot
	var err error
	switch {
	case status.Manifest == nil:
		s, err = t.Catalogue.At(ctx, status.Month.Last(), time.Time{})
	case t.by == nil || t.by.Month.Before(status.Month):
		s, err = t.Catalogue.FromRefs(ctx, status.Manifest.Catalogue)
	default:
		s, err = t.correctedCatalogue(ctx, *status.Manifest, *t.by)
	}
	t.snapshots[k] = s
	return s, err
}

// priceAlone is what pricing says of the event, contract by contract. Originals are
// what was attributed to the sale that it takes back.
func priceAlone(snap *catalogue.Snapshot, m period.Month, covering []catalogue.VersionInForce, e metering.Accepted, originals []pricing.Attribution) (pricing.Result, error) {
	u := metering.Usage{
		App: e.Data.App, Customer: e.Customer, Type: e.Type, Class: e.Data.Class, Operation: e.Data.Operation, Unit: e.Data.Unit,
		Currency: e.Data.Currency, Status: e.Data.Status, Environment: e.Data.Environment, Count: 1, Bytes: e.Data.Bytes, Quantity: decimal.NewFromInt(1),
	}
	if e.Data.Quantity != nil {
		u.Quantity = *e.Data.Quantity
	}
	if e.Data.Amount != nil {
		u.Amount = *e.Data.Amount
	}
	if len(e.Data.Dimensions) > 0 {
		b, err := json.Marshal(e.Data.Dimensions)
		if err != nil {
			return pricing.Result{}, err
		}
		u.Dimensions = string(b)
	}
	in := pricing.Input{Group: "alone", Month: m, Meters: snap.MeterList(), Originals: originals}
	apps, parties := map[partner.AppID]bool{}, map[partner.ID]bool{}
	for _, v := range covering {
		seg := pricing.Segment{Terms: v.Terms, Period: v.Period, Usage: []metering.Usage{u}}
		if slices.Contains(factTypes, e.Type) || slices.Contains(typesAlone(v.Terms, snap.Meters), e.Type) {
			seg.Transactions = []metering.Transaction{{Key: e.Key, Position: e.Position, Event: e.Event}}
		}
		in.Segments = append(in.Segments, seg)
		parties[v.Terms.Partner] = true
		for _, a := range snap.AppsOf(v.Terms) {
			apps[a] = true
		}
	}
	for _, a := range slices.Sorted(maps.Keys(apps)) {
		in.Apps = append(in.Apps, snap.Apps[a])
	}
	for _, p := range slices.Sorted(maps.Keys(parties)) {
		in.Partners = append(in.Partners, snap.Partners[p])
	}
	in.GatherRates(rateRows(snap))
	return pricing.Price(in)
}

// rules are the rules that price the event, for people.
func (v verdict) rules() string { return "rule " + strings.Join(v.Rules, ", ") }

// text says what becomes of an event that no statement line rests on.
func (v verdict) text(e metering.Accepted) string {
	contract := ""
	if v.terms != nil {
		contract = fmt.Sprintf("%s v%d", v.terms.Contract, v.terms.Version)
	}
	switch {
	case e.Data.App == "":
		return "a fact: not on a statement itself; leads count in the contracts that pay for them"
	case v.State == "fact":
		return "a fact: it has no amount of its own"
	case v.State == "priced" && v.open:
		return fmt.Sprintf("not on a statement yet: %s is open; %s prices it", v.month, v.rules())
	case v.State == "priced":
		return fmt.Sprintf("not on a statement yet: it came after %s was closed, so the next close posts what it changes; %s prices it", v.month, v.rules())
	}
	switch v.Why {
	case "no_contract":
		return fmt.Sprintf("unpriced: no contract in force covers app %s at that time", e.Data.App)
	case "no_rule":
		return fmt.Sprintf("unpriced: no rule of contract %s is about it (%s, class %s)", contract, e.Type, orNone(string(e.Data.Class)))
	case "other_currency":
		return fmt.Sprintf("unpriced: it is in %s and contract %s in %s, which converts %s", orNone(string(e.Data.Currency)), contract, v.terms.Currency, convertedBy(v.terms))
	case pricing.NoExchangeRate:
		return v.noRate(e, contract)
	case "failed_call_free":
		return fmt.Sprintf("unpriced: the call failed with status %d, and failed calls are free under contract %s", e.Data.Status, contract)
	case "no_amount":
		return fmt.Sprintf("unpriced: it has no amount, which contract %s prices", contract)
	}
	return fmt.Sprintf("unpriced: %s (contract %s)", strings.ReplaceAll(v.Why, "_", " "), contract)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// holds reports whether a position lies at or before the cutoff.
func holds(c metering.Cutoff, p metering.Position) bool {
	for _, x := range c {
		if x.Partition == p.Partition {
			return p.Incarnation < x.Incarnation || p.Incarnation == x.Incarnation && p.Sequence <= x.Sequence
		}
	}
	return false
}
