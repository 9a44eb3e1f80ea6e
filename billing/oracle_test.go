package billing_test

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mete/billing"
	"mete/catalogue"
	"mete/metering"
	"mete/metering/meteringtest"
	"mete/period"
	"mete/pricing"
)

// laterTerms are versions and contracts that a world may have: other rates in the
// middle of a month and of a window that counts for life, quality on a frozen scorecard,
// a zone that moves where months begin, another refund policy in the middle of a ladder
// that two partners share; a contract for all apps beside one that names an app, and one
// in another currency.
var laterTerms = map[string]string{
	"northwind from mid-February": `contract: northwind-scheduling
partner: northwind
apps: [scheduler]
currency: USD
zone: America/Chicago
effective: {from: 2026-02-14}
processor: stripe
payout: {minimum: 25.00, reserve: {rate: 5%, of: proceeds, release_after: 40 days}}
rules:
- id: subscriptions
  kind: share
  of: sale.paid
  class: marketplace
  platform:
    tiers: {mode: graduated, on: gross, window: lifetime since 2026-01-01, per: partner}
    steps: [{to: 700, rate: 1%}, {to: 2000, rate: 12.5%}, {rate: 9%}]
  refunds: at_original_rate
- id: calls
  kind: usage_fee
  meter: api_calls
  class: api
  window: lifetime since 2026-01-01
  price: {model: graduated, steps: [{to: 150, unit: 0}, {to: 400, unit: 0.011, flat: 2.00}, {unit: 0.009}]}
- id: trust
  kind: quality
  adjusts: subscriptions
  bands:
  - {when: failed > 0, platform_rate: +3 points}
  - {when: incidents.open > 0, platform_rate: +5 points}
  - {when: failed == 0 && incidents.opened == 0, platform_rate: -2 points}
  bounds: {min: 0.5%, max: 15%}
`,
	"quill in another zone from March": `contract: quill-notes
partner: quill
apps: [notes]
currency: USD
zone: Asia/Tokyo
effective: {from: 2026-03-01}
rules:
- id: subscriptions
  kind: share
  of: sale.paid
  class: marketplace
  platform:
    tiers: {mode: graduated, on: net, window: month, per: customer}
    steps: [{to: 100, rate: 2%}, {rate: 25%}]
  refunds: reduce_base
- {id: calls, kind: usage_fee, meter: api_calls, class: api, window: year, price: {model: graduated, steps: [{to: 200, unit: 0.02}, {unit: 0.005}]}}
- {id: brought, kind: referral, from: platform, to: partner, percent: 8%, term: 2 months, cap: 60.00}
- {id: renewals, kind: fixed_fee, class: certification, due: fee.due, per: partner}
`,
	"northwind for all its apps": `app: planner
partner: northwind
name: Planner
---
contract: northwind-all
partner: northwind
currency: USD
zone: America/New_York
effective: {from: 2026-01-01, until: 2026-04-11}
processor: stripe
rules:
- id: everything
  kind: share
  of: sale.paid
  platform:
    tiers: {mode: graduated, on: net, window: lifetime since 2026-01-01, per: app}
    steps: [{to: 400, rate: 3%}, {rate: 14%}]
  refunds: reduce_base
`,
	"northwind in euros": `contract: northwind-euro
partner: northwind
currency: EUR
zone: Europe/Berlin
effective: {from: 2026-02-10}
processor: stripe
payout: {reserve: {rate: 5%, of: proceeds, release_after: 40 days}}
rules:
- id: subscriptions
  kind: share
  of: sale.paid
  class: marketplace
  platform:
    tiers: {mode: graduated, on: gross, window: year, per: partner}
    steps: [{to: 300, rate: 4%}, {rate: 16%}]
  refunds: at_original_rate
`,
	"cedarpoint from April": `contract: cedarpoint-insights
partner: cedarpoint
apps: [insights]
currency: USD
zone: America/Los_Angeles
effective: {from: 2026-04-03}
processor: stripe
payout: {reserve: {rate: 10%, of: net_sales, release_after: 20 days}}
rules:
- id: subscriptions
  kind: share
  of: sale.paid
  class: marketplace
  platform:
    tiers: {mode: graduated, on: net, window: year, per: group}
    steps: [{to: 500, rate: 18%}, {rate: 11%}]
  refunds: platform_keeps_share
`,
}

// oracle prices everything that ever happened month after month, each month once, in
// one scope group, from the events as they were drawn. It knows nothing of closes,
// cutoffs and lateness, and does without the store, the reader and the groups of the
// product.
type oracle struct {
	terms  *catalogue.Snapshot // every version there is
	events []metering.Event    // what counts, in order of time and key
}

// newOracle takes out what was voided and what came from a sandbox.
func newOracle(terms *catalogue.Snapshot, drawn []due) oracle {
	gone := map[metering.Key]bool{}
	for _, d := range drawn {
		if d.Type == metering.UsageVoided {
			gone[metering.KeyOf(d.Source, d.Data.RefersTo)] = true
		}
	}
	o := oracle{terms: terms}
	for _, d := range drawn {
		if !gone[metering.KeyOf(d.Source, d.ID)] && d.Type != metering.UsageVoided && d.Data.Environment != metering.Sandbox {
			o.events = append(o.events, d.Event)
		}
	}
	slices.SortFunc(o.events, func(a, b metering.Event) int {
		x, y := metering.KeyOf(a.Source, a.ID), metering.KeyOf(b.Source, b.ID)
		return cmp.Or(a.Time.Compare(b.Time), slices.Compare(x[:], y[:]))
	})
	return o
}

// lines are the sums that all statements together must come to.
func (o oracle) lines(t tester, first, last period.Month, cards func(period.Month) []pricing.Scorecard) map[string]int64 {
	t.Helper()
	sums := map[string]int64{}
	var before []pricing.Total
	var sold []pricing.Attribution
	for m := first; !last.Before(m); m = m.Add(1) {
		in := pricing.Input{Group: "everything", Month: m, Before: before, Originals: sold, Scorecards: cards(m),
			Meters: o.terms.MeterList(), Apps: o.terms.AppList(), Partners: o.terms.PartnerList()}
		var known []metering.Transaction
		for _, v := range o.terms.ContractsIn(m) {
			in.Segments = append(in.Segments, o.segment(v))
		}
		for _, e := range o.events {
			if strings.HasPrefix(e.Type, "lead.") {
				known = append(known, single(e))
			}
		}
		in.Leads = pricing.FoldLeads(known, o.terms.CodeList())
		for name, table := range o.terms.FX { // all rows, needed or not
			for _, r := range table.Rates {
				in.Rates = append(in.Rates, pricing.ExchangeRate{Table: name, Source: table.Source, Date: r.Date, From: r.From, To: r.To, Rate: r.Rate})
			}
		}
		res, err := pricing.Price(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range res.Lines {
			addLine(sums, l)
		}
		before, sold = res.After, append(sold, res.Attributions...)
	}
	return withoutZeros(sums)
}

func single(e metering.Event) metering.Transaction {
	return metering.Transaction{Key: metering.KeyOf(e.Source, e.ID), Event: e}
}

// segment is everything that happened while the terms were in force: with the
// contract's apps, and with any app where a rule pays on what customers buy elsewhere.
func (o oracle) segment(v catalogue.VersionInForce) pricing.Segment {
	s := pricing.Segment{Terms: v.Terms, Period: v.Period}
	apps := o.terms.AppsOf(v.Terms)
	for _, e := range o.events {
		calls := e.Type == metering.UsageAPI
		if !v.Period.Contains(e.Time) || !slices.Contains(apps, e.Data.App) && (calls || !v.Terms.SeesOtherApps()) {
			continue
		}
		u := metering.Usage{App: e.Data.App, Customer: e.Customer, Type: e.Type, Class: e.Data.Class, Operation: e.Data.Operation,
			Unit: e.Data.Unit, Currency: e.Data.Currency, Status: e.Data.Status, Environment: e.Data.Environment, Count: 1, Quantity: one}
		if e.Data.Quantity != nil {
			u.Quantity = *e.Data.Quantity
		}
		if e.Data.Amount != nil {
			u.Amount = *e.Data.Amount
		}
		s.Usage = append(s.Usage, u) // a cell for each event: pricing adds up
		if !calls {
			s.Transactions = append(s.Transactions, single(e))
		}
	}
	return s
}

// one is the quantity of an event that says none.
var one = *meteringtest.Decimal("1")

// TestOnePricing: in whatever order, in whatever messages and however late events
// arrive, whatever versions of terms change in between, all statements add up to one
// pricing of all events under the frozen scorecards, key by key and cent by cent.
func TestOnePricing(t *testing.T) {
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		events := drawEvents(t)
		w := newWorld(t)
		defer w.remove()
		for _, name := range slices.Sorted(maps.Keys(laterTerms)) {
			if rapid.Bool().Draw(t, name) {
				seen[name]++
				if err := agree(context.Background(), w.catalogue, laterTerms[name], time.Date(2025, 12, 10, 0, 0, 0, 0, time.UTC)); err != nil {
					t.Fatal(err)
				}
			}
		}
		last := jan.Add(months + lateMonths - 1)
		for m := jan; !last.Before(m); m = m.Add(1) {
			seen["late"] += deliverMonth(t, w, events, m)
			w.closeMonth(t, m)
		}
		w.checkAll(t)
		terms, err := w.catalogue.Current(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		got := w.lines(t)
		want := newOracle(terms, events).lines(t, jan, last, func(m period.Month) []pricing.Scorecard {
			cards, err := w.db.Scorecards(context.Background(), m)
			if err != nil {
				t.Fatal(err)
			}
			return cards
		})
		if d := differ(got, want); d != nil {
			t.Fatalf("statements are not what one pricing of all events says:\n%s", strings.Join(d, "\n"))
		}
		seen["keys compared"] += len(want)
		for k := range want {
			seen["part "+strings.Fields(k)[2]]++
			if strings.HasSuffix(k, " EUR") {
				seen["in euros"]++
			}
		}
		rs, err := w.db.Statements(context.Background(), period.Month{}, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			for _, l := range r.Lines {
				if l.Section == billing.Corrections {
					seen["corrections"]++
				}
			}
		}
	})
	for _, k := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%-32s %d", k, seen[k])
	}
	for _, k := range append(slices.Collect(maps.Keys(laterTerms)), "late", "in euros", "corrections", "part sales", "part refunds", "part share", "part quality", "part usage", "part referral", "part clawback", "part fee") {
		if seen[k] == 0 && !raceEnabled {
			t.Errorf("no draw had %q: the test is weaker than it says", k)
		}
	}
}
