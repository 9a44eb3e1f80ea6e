package billing

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"mete/catalogue"
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
// because most contracts ask for the same month in one of a few zones. Several may ask at
// once; what one reads, the others wait for.
type usageReader struct {
	mu sync.Mutex // over what is kept, held while it is read

	store  metering.Store
	cutoff metering.Cutoff
	shadow bool // read what came from a sandbox as if it were real, and nothing else
	kept   map[spanKey]*spanUsage
	facts  map[int64][]metering.Transaction // of all time before an instant
	leads  map[leadsKey]*leadBook

	standing map[int64]standingFacts // before an instant
}

// forget lets go of all that was kept.
func (r *usageReader) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.kept)
	clear(r.facts)
	clear(r.leads)
	clear(r.standing)
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
	facts []metering.Transaction    // in (time, key) order
	byApp map[partner.AppID][]int32 // positions in facts

	// What customers did with any app, made when it is first asked for: cells, calls
	// apart, and positions in facts.
	customers     sync.Once
	customerCells map[partner.CustomerID][]metering.Usage
	customerFacts map[partner.CustomerID][]int32
}

func newUsageReader(store metering.Store, cutoff metering.Cutoff) *usageReader {
	return &usageReader{store: store, cutoff: cutoff, kept: map[spanKey]*spanUsage{}, facts: map[int64][]metering.Transaction{}, leads: map[leadsKey]*leadBook{}, standing: map[int64]standingFacts{}}
}

// span reads the usage and facts of a period.
func (r *usageReader) span(ctx context.Context, p period.Period) (*spanUsage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := spanKey{p.Start.UnixMicro(), p.End.UnixMicro()}
	if got, ok := r.kept[key]; ok {
		return got, nil
	}
	out := &spanUsage{cells: map[partner.AppID][]metering.Usage{}, byApp: map[partner.AppID][]int32{}}
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
			out.byApp[t.Data.App] = append(out.byApp[t.Data.App], int32(len(out.facts)))
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
	r.mu.Lock()
	defer r.mu.Unlock()
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
	var at []int32
	for _, a := range apps {
		at = append(at, s.byApp[a]...)
	}
	if len(also) > 0 {
		s.customers.Do(s.indexCustomers)
	}
	for c := range also {
		at = append(at, s.customerFacts[c]...)
		for _, u := range s.customerCells[c] {
			if !slices.Contains(apps, u.App) {
				cells = append(cells, u)
			}
		}
	}
	slices.Sort(at)
	var facts []metering.Transaction
	for _, i := range slices.Compact(at) {
		facts = append(facts, s.facts[i])
	}
	return cells, facts
}

func (s *spanUsage) indexCustomers() {
	s.customerCells, s.customerFacts = map[partner.CustomerID][]metering.Usage{}, map[partner.CustomerID][]int32{}
	for _, us := range s.cells {
		for _, u := range us {
			if u.Type != metering.UsageAPI {
				s.customerCells[u.Customer] = append(s.customerCells[u.Customer], u)
			}
		}
	}
	for i, t := range s.facts {
		s.customerFacts[t.Customer] = append(s.customerFacts[t.Customer], int32(i))
	}
}

// leadsKey names what leads are folded from: events before an instant, and the codes of
// a catalogue.
type leadsKey struct {
	end  int64
	snap *catalogue.Snapshot
}

// leadBook is every lead, and where those of a referrer or customer stand.
type leadBook struct {
	all        []partner.Lead
	byReferrer map[partner.ID][]int
	byCustomer map[partner.CustomerID][]int
}

// leadsUntil folds the leads of all time before an instant, once for all groups.
func (r *usageReader) leadsUntil(ctx context.Context, end time.Time, snap *catalogue.Snapshot) (*leadBook, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := leadsKey{end.UnixMicro(), snap}
	if got, ok := r.leads[key]; ok {
		return got, nil
	}
	facts, err := r.until(ctx, end, leadTypes)
	if err != nil {
		return nil, err
	}
	b := &leadBook{all: pricing.FoldLeads(facts, snap.CodeList()), byReferrer: map[partner.ID][]int{}, byCustomer: map[partner.CustomerID][]int{}}
	for i, l := range b.all {
		b.byReferrer[l.Referrer] = append(b.byReferrer[l.Referrer], i)
		b.byCustomer[l.Customer] = append(b.byCustomer[l.Customer], i)
	}
	r.leads[key] = b
	return b, nil
}

// broughtBy are the leads of those who bring customers, in order, and their customers;
// with others, leads of the same customers by anybody too, since a customer is brought
// once.
func (b *leadBook) broughtBy(bringers map[partner.ID]bool, others bool) (leads []partner.Lead, referred map[partner.CustomerID]bool) {
	referred = map[partner.CustomerID]bool{}
	var at []int
	for id := range bringers {
		at = append(at, b.byReferrer[id]...)
	}
	for _, i := range at {
		referred[b.all[i].Customer] = true
	}
	if others {
		for c := range referred {
			at = append(at, b.byCustomer[c]...)
		}
	}
	slices.Sort(at)
	for _, i := range slices.Compact(at) {
		leads = append(leads, b.all[i])
	}
	return leads, referred
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }
