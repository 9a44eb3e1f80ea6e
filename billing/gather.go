package billing

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// factTypes are the events that pricing looks at one by one.
var factTypes = []string{
	metering.SalePaid, metering.SaleInvoiced, metering.SaleRefunded, metering.SaleChargedBack,
	metering.SaleChargebackWon, metering.SaleChargebackLost, metering.SaleWrittenOff, metering.FeeDue,
	metering.LeadQualified, metering.LeadConverted, metering.LeadCancelled,
	metering.AppRegistered, metering.AppInstalled, metering.AppUninstalled, metering.ScopeChanged,
	metering.ReviewSubmitted, metering.ReviewDecided, metering.ExceptionGranted, metering.ExceptionClosed,
	metering.IncidentOpened, metering.IncidentClosed,
	metering.SupportOpened, metering.SupportAnswered, metering.SupportClosed,
}

var leadTypes = []string{metering.LeadQualified, metering.LeadConverted, metering.LeadCancelled}

// usageReader reads usage at one cutoff. A span is read once for all apps and kept,
// because most contracts ask for the same month in one of a few zones.
type usageReader struct {
	store  metering.Store
	cutoff metering.Cutoff
	shadow bool // read what came from a sandbox as if it were real, and nothing else
	kept   map[spanKey]*spanUsage
	facts  map[int64][]metering.Transaction // of all time before an instant
}

// sees reports whether the reader shows what came from the environment, which it
// then makes the real one.
func (r *usageReader) sees(e *metering.Environment) bool {
	if !r.shadow {
		return true
	}
	sandbox := *e == metering.Sandbox
	*e = ""
	return sandbox
}

type spanKey struct{ start, end int64 }

type spanUsage struct {
	cells map[partner.AppID][]metering.Usage
	facts []metering.Transaction // in (time, key) order
}

func newUsageReader(store metering.Store, cutoff metering.Cutoff) *usageReader {
	return &usageReader{store: store, cutoff: cutoff, kept: map[spanKey]*spanUsage{}, facts: map[int64][]metering.Transaction{}}
}

// span reads the usage and facts of a period.
func (r *usageReader) span(ctx context.Context, p period.Period) (*spanUsage, error) {
	key := spanKey{p.Start.UnixMicro(), p.End.UnixMicro()}
	if got, ok := r.kept[key]; ok {
		return got, nil
	}
	out := &spanUsage{cells: map[partner.AppID][]metering.Usage{}}
	s := metering.Span{Start: p.Start, End: p.End, UpTo: r.cutoff}
	for u, err := range r.store.Usage(ctx, s) {
		if err != nil {
			return nil, fmt.Errorf("usage from %s to %s: %w", instant(p.Start), instant(p.End), err)
		}
		if r.sees(&u.Environment) {
			out.cells[u.App] = append(out.cells[u.App], u)
		}
	}
	for t, err := range r.store.Transactions(ctx, s, factTypes) {
		if err != nil {
			return nil, fmt.Errorf("transactions from %s to %s: %w", instant(p.Start), instant(p.End), err)
		}
		if r.sees(&t.Data.Environment) {
			out.facts = append(out.facts, t)
		}
	}
	r.kept[key] = out
	return out, nil
}

// until reads the facts of all time before an instant.
func (r *usageReader) until(ctx context.Context, end time.Time, types []string) ([]metering.Transaction, error) {
	var out []metering.Transaction
	for t, err := range r.store.Transactions(ctx, metering.Span{End: end, UpTo: r.cutoff}, types) {
		if err != nil {
			return nil, fmt.Errorf("facts before %s: %w", instant(end), err)
		}
		if r.sees(&t.Data.Environment) {
			out = append(out, t)
		}
	}
	return out, nil
}

// factsUntil reads the facts of all time and apps before an instant, once.
func (r *usageReader) factsUntil(ctx context.Context, end time.Time) ([]metering.Transaction, error) {
	key := end.UnixMicro()
	if got, ok := r.facts[key]; ok {
		return got, nil
	}
	facts, err := r.until(ctx, end, factTypes)
	if err != nil {
		return nil, err
	}
	r.facts[key] = facts
	return facts, nil
}

// alone reads the usage of the apps that terms look at event by event, in a period.
func (r *usageReader) alone(ctx context.Context, p period.Period, apps []partner.AppID, types []string) ([]metering.Transaction, error) {
	if len(types) == 0 || len(apps) == 0 {
		return nil, nil
	}
	var out []metering.Transaction
	for t, err := range r.store.Transactions(ctx, metering.Span{Start: p.Start, End: p.End, UpTo: r.cutoff, Apps: apps}, types) {
		if err != nil {
			return nil, fmt.Errorf("events of types %q from %s to %s: %w", types, instant(p.Start), instant(p.End), err)
		}
		if r.sees(&t.Data.Environment) {
			out = append(out, t)
		}
	}
	return out, nil
}

// typesAlone are the types of usage that terms look at event by event, but for those
// that pricing always sees so.
func typesAlone(t *pricing.Terms, meters map[string]metering.Meter) []string {
	var types []string
	for _, id := range t.EachEvent() {
		if m, ok := meters[id]; ok && !slices.Contains(factTypes, m.Type) {
			types = append(types, m.Type)
		}
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// cellsOf are the cells of the apps.
func (s *spanUsage) cellsOf(apps []partner.AppID) []metering.Usage {
	var out []metering.Usage
	for _, a := range apps {
		out = append(out, s.cells[a]...)
	}
	return out
}

// of are the cells and facts of the apps, and those of the customers with any app.
func (s *spanUsage) of(apps []partner.AppID, also map[partner.CustomerID]bool) ([]metering.Usage, []metering.Transaction) {
	cells := s.cellsOf(apps)
	for app, us := range s.cells {
		if slices.Contains(apps, app) {
			continue
		}
		for _, u := range us {
			if also[u.Customer] && u.Type != metering.UsageAPI {
				cells = append(cells, u)
			}
		}
	}
	var facts []metering.Transaction
	for _, t := range s.facts {
		if slices.Contains(apps, t.Data.App) || also[t.Customer] {
			facts = append(facts, t)
		}
	}
	return cells, facts
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }
