package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/billing"
	"mete/catalogue"
	"mete/metering"
	"mete/metering/sqlite"
	"mete/partner"
	"mete/period"
	"mete/store"
)

// past is a marketplace with closed months, to be priced again under other terms.
type past struct {
	months, partners, apps int // apps of each partner
	events                 int // of each month
}

// The pasts of benchSimulate: a year of a marketplace, and of a large one.
var (
	pastYear  = past{months: 12, partners: 100, apps: 20, events: 100_000}
	largeYear = past{months: 12, partners: 1000, apps: 20, events: 1_000_000}
)

const (
	pastLate    = 200 // one event in so many comes after its month was closed
	pastSales   = 25  // one event in so many is a sale
	pastRefunds = 50  // one sale in so many is refunded
	pastBlock   = 50_000
)

var pastStart = period.Month{Year: 2026, Month: time.January}

// benchSimulate prices a year of a marketplace again under other terms for every
// partner, from events in the embedded store, those that came after their month was
// closed included. On the way it closes the twelve months.
func benchSimulate(ctx context.Context, long bool, emit func(Result)) error {
	if long {
		return largeYear.run(ctx, emit)
	}
	return pastYear.run(ctx, emit)
}

func (p past) run(ctx context.Context, emit func(Result)) (err error) {
	dir, err := os.MkdirTemp("", "mete-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db, err := store.Open(ctx, filepath.Join(dir, "mete.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	events, err := sqlite.Open(filepath.Join(dir, "events.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	if _, err := events.Attach(ctx, "bench", dedupPartitions); err != nil {
		return err
	}
	cat := catalogue.Catalogue{Store: db}
	if err := inForce(ctx, cat, p.documents()+p.contracts("30%")); err != nil {
		return err
	}
	closer := &billing.Closer{Store: db, Ledger: db, Events: events, Stream: allStored{events}, Catalogue: cat, Redactions: events, Facts: events}
	closing, err := p.close(ctx, closer, events)
	if err != nil {
		return err
	}
	slices.Sort(closing)
	emit(Result{Name: "a close", Value: closing[len(closing)/2].Seconds(), Unit: "s", Note: fmt.Sprintf(
		"median of %d months · %s events a month, %d partners, %d apps each, %d with late events · longest %.1f s", p.months, number(float64(p.events)), p.partners, p.apps, p.months-1, closing[len(closing)-1].Seconds())})

	last := pastStart.Add(p.months - 1)
	began := time.Now()
	read, err := p.readOnce(ctx, events)
	if err != nil {
		return err
	}
	reading := time.Since(began)
	docs := catalogue.Parse("tried.yaml", []byte(p.contracts("25%")))
	began = time.Now()
	sim, err := closer.Simulate(ctx, billing.SimulationRequest{From: pastStart, To: last, Terms: docs.Objects})
	if err != nil {
		return err
	}
	took := time.Since(began)
	late := 0
	for _, t := range sim.Totals {
		rest, err := t.Old.Earned.Sub(t.Stated)
		if err != nil {
			return err
		}
		if rest.Minor != 0 {
			late++
		}
	}
	if len(sim.Accounts) != p.partners || late == 0 || sim.Totals[0].Difference.Minor <= 0 {
		return fmt.Errorf("of %d partners %d have accounts, %d totals have something late, difference %s", p.partners, len(sim.Accounts), late, sim.Totals[0].Difference)
	}
	emit(Result{Name: "simulate", Value: took.Seconds(), Unit: "s", Limit: Limit{"reading the same events once", reading.Seconds()}, Note: fmt.Sprintf(
		"%d months × %d partners × %d apps, %s events stored, %s cells and facts read · %d groups priced, %s a second · peak of the process %s MB",
		p.months, p.partners, p.apps, number(float64(p.months*p.events)), number(float64(read)), sim.Groups, number(float64(sim.Groups)/took.Seconds()), number(peakMB()))})
	return nil
}

// peakMB is what the process has had from the machine at most.
func peakMB() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.Sys) / 1e6
}

// readOnce reads what the months are priced from, and keeps nothing.
func (p past) readOnce(ctx context.Context, events metering.Store) (n int, err error) {
	cutoff, err := events.Cutoff(ctx)
	if err != nil {
		return 0, err
	}
	for i := range p.months {
		m := pastStart.Add(i)
		s := metering.Span{Start: m.First().In(time.UTC), End: m.Add(1).First().In(time.UTC), UpTo: cutoff}
		for _, err := range events.Usage(ctx, s) {
			if err != nil {
				return n, err
			}
			n++
		}
		for _, err := range events.Transactions(ctx, s, []string{metering.SalePaid, metering.SaleRefunded}) {
			if err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

// close stores the events of each month and closes it; what comes late is stored with
// the month after.
func (p past) close(ctx context.Context, closer *billing.Closer, events metering.Store) (took []time.Duration, err error) {
	positions := make([]uint64, dedupPartitions)
	var late []metering.Event
	for i := range p.months + 1 {
		next := pastStart.Add(i)
		put := late
		late = nil
		for from := 0; i < p.months && from < p.events; from += pastBlock {
			for n := from; n < min(from+pastBlock, p.events); n++ {
				if e := p.event(i, n); n%pastLate == pastLate-1 {
					late = append(late, e)
				} else {
					put = append(put, e)
				}
			}
			if err := storeAll(ctx, events, put, positions); err != nil {
				return nil, err
			}
			put = nil
		}
		if err := storeAll(ctx, events, put, positions); err != nil {
			return nil, err
		}
		if i == p.months {
			break // the last month's late events wait for a close that does not come
		}
		began := time.Now()
		if _, err := closer.Close(ctx, billing.CloseRequest{Month: next, By: "m.ortiz", At: next.Add(1).First().In(time.UTC).AddDate(0, 0, 4)}); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

func storeAll(ctx context.Context, events metering.Store, es []metering.Event, positions []uint64) error {
	for _, b := range blocks(es, positions, keysPerMessage, keysPerBlock) {
		if _, err := events.Append(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// event is one of a month's events: a call, a sale, or the refund of an earlier sale.
func (p past) event(month, n int) metering.Event {
	first := pastStart.Add(month).First().In(time.UTC)
	all := load{first, pastStart.Add(month+1).First().In(time.UTC).Sub(first) / time.Duration(p.events)}
	e := all.event(month*p.events + n)
	e.Time = first.Add(time.Duration(n) * all.step).Truncate(time.Microsecond)
	h := n * 7919 % (p.partners * p.apps)
	e.Data.App = pastApp(h/p.apps, h%p.apps)
	if n%pastSales != 0 {
		return e
	}
	amount := decimal.New(int64(1900+n%977*13), -2)
	e.Type, e.Data = metering.SalePaid, metering.Data{App: e.Data.App, Class: metering.Marketplace, Amount: &amount, Currency: "USD"}
	e.ID = fmt.Sprintf("sale-%d-%d", month, n)
	if n%(pastSales*pastRefunds) == pastSales && n > pastSales*pastRefunds { // one that was made earlier in the month
		sale := p.event(month, n-pastSales*pastRefunds+pastSales)
		e.ID, e.Type = "refund-"+e.ID, metering.SaleRefunded
		e.Customer, e.Data = sale.Customer, sale.Data
		e.Data.RefersTo = sale.ID
	}
	return e
}

func pastPartner(i int) partner.ID    { return partner.ID(fmt.Sprintf("partner-%04d", i)) }
func pastApp(of, i int) partner.AppID { return partner.AppID(fmt.Sprintf("app-%04d-%02d", of, i)) }

// documents are the catalogue without its contracts.
func (p past) documents() string {
	var b strings.Builder
	fmt.Fprintf(&b, `marketplace: bench
name: Bench
zone: UTC
currency: USD
contact: partners@bench.example
close: {lag: 3 days}
pay: {day: 20}
processors: {card: {name: Card}}
---
meter: api_calls
type: usage.api
class: api
unit: call
aggregate: quantity
status_below: 400
---
sources:
- {name: %s, kind: billing, owner: bench}
---
customers:
`, loadSource)
	for i := range loadCustomers {
		fmt.Fprintf(&b, "- {id: practice-%03d, name: Practice %d}\n", i, i)
	}
	for i := range p.partners {
		fmt.Fprintf(&b, "---\npartner: %s\nname: Partner %d\n", pastPartner(i), i)
	}
	b.WriteString("---\napps:\n")
	for i := range p.partners {
		for j := range p.apps {
			fmt.Fprintf(&b, "- {id: %s, partner: %s, name: App %d of %d}\n", pastApp(i, j), pastPartner(i), j, i)
		}
	}
	return b.String()
}

// contracts are those of all partners: a share by a ladder of the year, fees for calls by
// a ladder of the month, and a fee for being listed. The ladder ends with the rate.
func (p past) contracts(rate string) string {
	var b strings.Builder
	for i := range p.partners {
		fmt.Fprintf(&b, `---
contract: %[1]s
partner: %[1]s
currency: USD
zone: UTC
effective: {from: 2026-01-01}
processor: card
rules:
- id: sales
  kind: share
  of: sale.paid
  class: marketplace
  platform:
    tiers: {mode: graduated, on: gross, window: year, per: partner}
    steps: [{to: 2000, rate: 15%%}, {to: 10000, rate: 20%%}, {rate: %[2]s}]
  refunds: at_original_rate
- id: calls
  kind: usage_fee
  meter: api_calls
  class: api
  price: {model: graduated, steps: [{to: 100, unit: 0}, {to: 500, unit: 0.013}, {unit: 0.007}]}
- {id: listing, kind: fixed_fee, class: listing, amount: 49.00, due: monthly}
`, pastPartner(i), rate)
	}
	return b.String()
}

// allStored is a stream whose events are all in the store.
type allStored struct{ events metering.Store }

func (s allStored) Last(ctx context.Context) (metering.Cutoff, error)       { return s.events.Cutoff(ctx) }
func (s allStored) WaitStored(ctx context.Context, _ metering.Cutoff) error { return ctx.Err() }

// inForce applies documents and brings their contracts into force. It does not screen
// them, which reads all of the catalogue for each.
func inForce(ctx context.Context, c catalogue.Catalogue, text string) error {
	at := time.Date(2025, 12, 1, 12, 0, 0, 0, time.UTC)
	changes, err := c.Plan(ctx, catalogue.Parse("bench.yaml", []byte(text)))
	if err != nil {
		return err
	}
	vs, err := c.Apply(ctx, changes, catalogue.Person{Name: "ada"}, at)
	if err != nil {
		return err
	}
	head, err := c.Store.CatalogueHead(ctx)
	if err != nil {
		return err
	}
	for _, v := range vs {
		if v.Kind != catalogue.KindContract {
			continue
		}
		hash := sha256.Sum256([]byte(v.Document))
		for verdict, by := range map[catalogue.Verdict]string{catalogue.Approve: "grace", catalogue.Accept: "nora"} {
			d := catalogue.Decision{Ref: v.Ref, Verdict: verdict, By: catalogue.Person{Name: by}, At: at, RecordedAt: at, Document: hex.EncodeToString(hash[:])}
			if err := c.Store.RecordDecision(ctx, head, d); err != nil {
				return err
			}
			head++
		}
	}
	return nil
}
