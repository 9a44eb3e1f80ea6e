package pricing_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// A contract with every kind in it, for tests of what holds whatever the terms say.
var everything = strings.Replace(doc(
	"{id: store, kind: share, of: sale.paid, class: marketplace, platform: {tiers: {on: net, window: lifetime since 2015-01-01, per: customer}, steps: [{to: 300, rate: 0%}, {to: 900, rate: 15%}, {rate: 7.5%}]}}",
	"{id: extra, kind: share, of: sale.paid, class: value_added, refunds: platform_keeps_share, platform: {rate: 2.35%}}",
	"{id: calls, kind: usage_fee, meter: m, class: api, per: customer, window: year, price: {model: graduated, steps: [{to: 50, unit: 0}, {to: 200, unit: 0.013, flat: 1.00}, {unit: 0.007}]}}",
	"{id: card, kind: usage_fee, of: sale.paid, price: {model: percentage, rate: 2.9%, fixed: 0.30}}",
	"{id: join, kind: fixed_fee, class: listing, due: once, amount: 19.00, per: app}",
	"{id: due, kind: fixed_fee, class: certification, due: fee.due}",
	"{id: refer, kind: referral, from: platform, to: partner, percent: 10%, cap: 40.00, clawback: 1 year}",
	"{id: trust, kind: quality, adjusts: store, bands: [{when: availability >= 0.999, platform_rate: -2 points}, {when: incidents.open > 0, platform_rate: +3 points}], bounds: {min: 6%}}",
), "apps: [a]", "apps: [a, b]", 1)

// more is a contract with the kinds and models that everything has no place for: levels
// and single events of usage, fees by days, ladders that re-rate, and rules that follow.
var more = strings.Replace(doc(
	"{id: store, kind: share, of: sale.paid, class: marketplace, platform: {tiers: {mode: volume, on: net, window: quarter, per: customer}, steps: [{to: 300, rate: 13.7%}, {to: 900, rate: 15%}, {rate: 7.5%}]}}",
	"{id: extra, kind: share, of: sale.paid, class: value_added, platform: {tiers: {on: paid_months, grace: 20 days}, steps: [{to: 2, rate: 30%}, {rate: 15%}], points: [{by: app, is: b, platform_rate: +0.5 points}]}}",
	"{id: through, kind: pass_through, of: sale.paid, class: support, to: platform}",
	"{id: with, kind: split, to: {zeta: 33.3%, helio: 10%}}",
	"{id: calls, kind: usage_fee, meter: m, class: api, window: quarter, quantity: {divide_by: 7, round: up, free: 3}, price: {model: volume, steps: [{to: 20, unit: 0.313, flat: 1.00}, {unit: 0.207}]}}",
	"{id: packs, kind: usage_fee, meter: m, per: customer, window: year, price: {model: package, size: 50, price: 1.99}}",
	"{id: blocks, kind: usage_fee, meter: m, per: app, price: {model: block, steps: [{to: 100, size: 30, price: 0.77}, {size: 70, price: 1.11}]}}",
	"{id: card, kind: usage_fee, of: sale.paid, price: {model: percentage, rate: 2.9%, fixed: 0.30, free_events: 3, free_amount: 400.00, min: 0.50, max: 9.00}}",
	"{id: ladder, kind: usage_fee, of: sale.paid, window: rolling 2 months, price: {model: graduated_percentage, steps: [{to: 500, rate: 0.11%, flat: 1.00}, {rate: 0.07%, flat: 2.00}]}}",
	"{id: days, kind: usage_fee, meter: seats, quantity: {as: prorated, less: gone}, per: customer, price: {model: graduated, steps: [{to: 5, unit: 3.33}, {unit: 1.11, flat: 2.00}]}}",
	"{id: average, kind: usage_fee, meter: seats, quantity: {as: weighted, less: gone}, price: {model: per_unit, unit: 0.77}}",
	"{id: plan, kind: usage_fee, quantity: {as: max}, price: {model: capacity, steps: [{limits: {seats: 5, gone: 4}, price: 3.00}, {price: 7.00}]}}",
	"{id: licence, kind: fixed_fee, class: support, due: monthly on 10, prorate: day, amount: 49.99, per: app}",
	"{id: start, kind: discount, on: [calls, packs, licence], percent: 12.5%, when: availability >= 0.995}",
	"{id: most, kind: cap, on: [calls, packs, blocks, start], window: quarter, maximum: 60.00, prorate: day}",
	"{id: least, kind: commitment, on: [days, average], minimum: 25.00, overage: 1.25}",
	"{id: vat, kind: tax, on: [licence, least], rate: 19%, jurisdiction: x}",
	"{id: credits, kind: credit, on: [licence, plan, vat], amount: 30.00, granted: monthly, expires: 2 months}",
	"{id: floor, kind: guarantee, on: [store, extra], minimum: 200.00, window: quarter}",
), "apps: [a]", "apps: [a, b]", 1)

// drawMonth makes up a month for the contract.
func drawMonth(t *rapid.T, m string, terms *pricing.Terms) pricing.Input {
	start, _ := time.Parse("2006-01", m)
	var txs []metering.Transaction
	var sales []metering.Transaction
	amount := func() string {
		return fmt.Sprintf("%d.%02d", rapid.IntRange(0, 700).Draw(t, "whole"), rapid.IntRange(0, 99).Draw(t, "cents"))
	}
	for i := range rapid.IntRange(0, 30).Draw(t, "events") {
		at := start.Add(time.Duration(rapid.IntRange(0, 27*24).Draw(t, "hour")) * time.Hour)
		x := tx(metering.SalePaid, fmt.Sprintf("%s-%d", m, i), at, amount())
		x.Customer = partner.CustomerID(rapid.SampledFrom([]string{"c1", "c2"}).Draw(t, "customer"))
		x.Data.App = partner.AppID(rapid.SampledFrom([]string{"a", "a", "a", "b", "z"}).Draw(t, "app"))
		x.Data.Class = rapid.SampledFrom([]metering.Class{metering.Marketplace, metering.Marketplace, metering.Marketplace, metering.ValueAdded, metering.Support}).Draw(t, "class")
		x.Data.Environment = rapid.SampledFrom([]metering.Environment{"", "", "", "", "", "", metering.Sandbox}).Draw(t, "environment")
		x.Data.Currency = rapid.SampledFrom([]money.Currency{"USD", "USD", "USD", "USD", "USD", "USD", "EUR"}).Draw(t, "currency")
		switch typ := rapid.SampledFrom([]string{"usage.seats", "usage.seats", "usage.gone", metering.SalePaid, metering.SalePaid, metering.SalePaid, metering.SalePaid, metering.SaleRefunded, metering.SaleChargebackLost, metering.SaleChargedBack, metering.FeeDue, metering.LeadQualified}).Draw(t, "type"); {
		case strings.HasPrefix(typ, "usage."):
			q := decimal.NewFromInt(int64(rapid.IntRange(0, 9).Draw(t, "seats")))
			x.Type, x.Data = typ, metering.Data{App: x.Data.App, Quantity: &q}
		case typ == metering.SalePaid:
			sales = append(sales, x)
		case typ == metering.FeeDue:
			x.Type, x.Data.Class = typ, metering.Certification
		case len(sales) > 0 && typ != metering.LeadQualified:
			s := rapid.SampledFrom(sales).Draw(t, "of")
			x.Type, x.Data.RefersTo, x.Data.App, x.Data.Class, x.Customer = typ, s.ID, s.Data.App, s.Data.Class, s.Customer
		default:
			x.Type = typ
		}
		txs = append(txs, x)
	}
	slices.SortFunc(txs, func(a, b metering.Transaction) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(string(a.Key[:]), string(b.Key[:]))
	})
	in := month(m, []*pricing.Terms{terms}, nil)
	in.Segments[0].Transactions = txs
	in.Segments[0].Usage = cellsOf(txs)
	for i := range rapid.IntRange(0, 8).Draw(t, "cells") {
		u := calls(fmt.Sprint(rapid.IntRange(0, 300).Draw(t, "calls")), rapid.SampledFrom([]string{"c1", "c2", "c3"}).Draw(t, "customer"))
		u.App = partner.AppID(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "app"))
		u.Class = rapid.SampledFrom([]metering.Class{metering.API, metering.CertifiedAPI}).Draw(t, "class")
		u.Status = rapid.SampledFrom([]int{200, 404, 503}).Draw(t, "status")
		u.Operation = fmt.Sprint("op", i)
		in.Segments[0].Usage = append(in.Segments[0].Usage, u)
	}
	in.Meters[0].StatusBelow = 400
	for _, id := range []string{"seats", "gone"} {
		in.Meters = append(in.Meters, metering.Meter{ID: id, Type: "usage." + id, Aggregate: metering.AggregateQuantity})
	}
	in.Apps = []partner.App{{ID: "a", Partner: "quill"}, {ID: "b", Partner: "quill"}, {ID: "z", Partner: "zeta"}}
	avail := decimal.New(int64(rapid.IntRange(990, 1000).Draw(t, "availability")), -3)
	in.Scorecards = []pricing.Scorecard{{App: "a", Month: in.Month, Calls: 10, Availability: &avail, IncidentsOpen: int64(rapid.IntRange(0, 1).Draw(t, "incidents"))}}
	in.Leads = []partner.Lead{{ID: "l", Referrer: "quill", Customer: "c1", QualifiedAt: start.AddDate(0, -1, 0), ConvertedAt: start.AddDate(0, 0, 3)}}
	return in
}

// Whatever happens in a month: every event is counted once, every line can be computed
// again by somebody else, allocations add up, and neither order nor writing down
// changes anything.
func TestWhateverHappens(t *testing.T) {
	t.Run("everything", func(t *testing.T) { whateverHappens(t, parse(t, everything), true) })
	t.Run("more", func(t *testing.T) { whateverHappens(t, parse(t, more), false) })
}

// whateverHappens holds a contract's months against what must hold. Where a ladder
// re-rates earlier sales, a sale's fee is not what its line was charged for it.
func whateverHappens(t *testing.T, terms *pricing.Terms, attributed bool) {
	ways := map[pricing.Branch]bool{}
	for _, b := range terms.Branches() {
		if ways[b.Branch] {
			t.Fatalf("%+v is listed twice", b)
		}
		ways[b.Branch] = true
	}
	seen := map[string]int{} // parts and states that were not empty, to know what the draws reach
	defer func() { t.Log(seen) }()
	rapid.Check(t, func(t *rapid.T) {
		in := drawMonth(t, "2026-03", terms)
		res, err := pricing.Price(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range res.Lines {
			if !l.Amount.IsZero() {
				seen[l.Part]++
			}
		}
		for _, c := range res.Counted {
			seen[c.State+" "+c.Why]++
		}
		for _, b := range res.Taken {
			if !ways[b] {
				t.Fatalf("a way that the terms do not list: %+v", b)
			}
			seen[b.Rule+" "+b.Outcome]++
		}
		var given, counted int64
		for _, u := range in.Segments[0].Usage {
			given += u.Count
		}
		for _, c := range res.Counted {
			counted += c.Events
			if (c.State == "unpriced") != (c.Why != "") {
				t.Fatalf("unpriced without a reason, or a reason without: %+v", c)
			}
		}
		if given != counted {
			t.Fatalf("%d events in, %d counted", given, counted)
		}
		for _, l := range res.Lines {
			recompute(t, l)
		}
		// The sum of a sale's fees is the unrounded share, refunds aside.
		fees := decimal.Zero
		for _, a := range res.Attributions {
			if a.Rule == "store" || a.Rule == "extra" {
				fees = fees.Add(a.Fee)
			}
		}
		share := decimal.Zero
		for _, l := range res.Lines {
			if l.Part == "share" {
				for _, s := range l.Derivation {
					if !strings.HasPrefix(s.What, "given back") {
						share = share.Sub(s.Is)
					}
				}
			}
		}
		if attributed && !share.Equal(fees) {
			t.Fatalf("shares of %s, fees of %s", share, fees)
		}
		// Any order of cells, facts and events is the same Input and gives the same Result.
		other := in
		other.Segments = slices.Clone(in.Segments)
		s := &other.Segments[0]
		s.Usage, s.Transactions = slices.Clone(s.Usage), slices.Clone(s.Transactions)
		rng := rand.New(rand.NewPCG(1, rapid.Uint64().Draw(t, "seed")))
		rng.Shuffle(len(s.Usage), func(i, j int) { s.Usage[i], s.Usage[j] = s.Usage[j], s.Usage[i] })
		rng.Shuffle(len(s.Transactions), func(i, j int) { s.Transactions[i], s.Transactions[j] = s.Transactions[j], s.Transactions[i] })
		if other.Digest() != in.Digest() {
			t.Fatal("another order, another Input digest")
		}
		again, err := pricing.Price(other)
		if err != nil || again.Digest() != res.Digest() || !slices.Equal(again.Taken, res.Taken) {
			t.Fatalf("another order, another Result: %v", err)
		}
		// Cells cut into smaller cells are the same usage.
		for i, u := range s.Usage {
			if u.Type == metering.UsageAPI && u.Count > 1 {
				half := u
				half.Count, half.Quantity = 1, decimal.NewFromInt(1)
				s.Usage[i].Count, s.Usage[i].Quantity = u.Count-1, u.Quantity.Sub(half.Quantity)
				s.Usage = append(s.Usage, half)
			}
		}
		if again, err = pricing.Price(other); err != nil || again.Digest() != res.Digest() {
			t.Fatalf("smaller cells, another Result: %v", err)
		}
		// Written down and read again it is the same Input.
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var back pricing.Input
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if back.Digest() != in.Digest() {
			t.Fatal("written and read, another Input digest")
		}
		if again, err = pricing.Price(back); err != nil || again.Digest() != res.Digest() {
			t.Fatalf("written and read, another Result: %v", err)
		}
	})
}

// Months after each other: what is in force for more than one month adds up however the
// months are cut by another version of the same terms, and nothing is lost on the way.
func TestVersionsChangeNothing(t *testing.T) {
	terms := parse(t, more)
	again := parse(t, strings.Replace(more, "from: 2015-01-01", "from: 2026-04-01", 1))
	rapid.Check(t, func(t *rapid.T) {
		var one, two []pricing.Total
		for i := range 4 {
			m := period.Month{Year: 2026, Month: 2}.Add(i)
			in := drawMonth(t, m.String(), terms)
			in.Before = one
			res, err := pricing.Price(in)
			if err != nil {
				t.Fatal(err)
			}
			other := in
			other.Before = two
			other.Segments = slices.Clone(in.Segments)
			if i >= 2 {
				other.Segments[0].Terms = again
			}
			changed, err := pricing.Price(other)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := sum(res, "", "", false), sum(changed, "", "", false); !a.Equal(b) {
				t.Fatalf("%s: %s under one version, %s under two", m, a, b)
			}
			one, two = res.After, changed.After
		}
	})
}

// recompute is somebody else's arithmetic over a line: big-integer fractions of the
// derivation, rounded half away from zero by hand.
func recompute(t *rapid.T, l pricing.Line) {
	sum := dec("0").Rat()
	for _, s := range l.Derivation {
		is := s.Of.Rat()
		is.Mul(is, s.Times.Rat())
		if is.Cmp(s.Is.Rat()) != 0 {
			t.Fatalf("%s %s: %s × %s is not %s", l.Rule, s.What, s.Of, s.Times, s.Is)
		}
		sum.Add(sum, is)
	}
	if sum.Cmp(l.Exact.Rat()) != 0 {
		t.Fatalf("%s: derivation %s, exact %s", l.Rule, sum.FloatString(10), l.Exact)
	}
	if l.Part != "quality" {
		if got := sum.FloatString(2); dec(got).Cmp(l.Amount.Decimal()) != 0 {
			t.Fatalf("%s: %s rounds to %s, not %s", l.Rule, sum.FloatString(10), got, l.Amount)
		}
	}
	var minor int64
	for _, a := range l.Allocations {
		minor += a.Amount.Minor
	}
	if minor != l.Amount.Minor {
		t.Fatalf("%s: allocations of %d, amount %d", l.Rule, minor, l.Amount.Minor)
	}
}

// With quality, share and adjustment together are the adjusted share rounded once.
func TestShareAndQualityRoundTogether(t *testing.T) {
	terms := parse(t, doc("{id: s, kind: share, of: sale.paid, platform: {rate: 15%}}",
		"{id: q, kind: quality, adjusts: s, bands: [{when: calls > 0, platform_rate: +0.37 points}]}"))
	rapid.Check(t, func(t *rapid.T) {
		amount := decimal.New(int64(rapid.IntRange(0, 100000).Draw(t, "cents")), -2)
		in := month("2026-03", []*pricing.Terms{terms}, []metering.Transaction{tx(metering.SalePaid, "s", time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC), amount.String())})
		in.Scorecards = []pricing.Scorecard{{App: "a", Month: in.Month, Calls: 1}}
		res, err := pricing.Price(in)
		if err != nil {
			t.Fatal(err)
		}
		together := sum(res, "s", "share", false).Add(sum(res, "q", "", false))
		if want := amount.Mul(dec("0.1537")).Round(2).Neg(); !together.Equal(want) {
			t.Fatalf("%s: %s, want %s", amount, together, want)
		}
	})
}

// The ladder priced unit by unit, each unit at the step that holds it.
func TestLadderIsTheSumOfItsUnits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.IntRange(1, 20).Draw(t, "first")
		b := a + rapid.IntRange(1, 20).Draw(t, "second")
		before := rapid.IntRange(0, 60).Draw(t, "before")
		q := rapid.IntRange(1, 60).Draw(t, "quantity")
		terms, err := pricing.ParseTerms("t", []byte(doc(fmt.Sprintf("{id: u, kind: usage_fee, meter: m, window: year, price: {model: graduated, steps: [{to: %d, unit: 0.07}, {to: %d, unit: 0, flat: 3}, {unit: 0.011, flat: 5}]}}", a, b))))
		if err != nil {
			t.Fatal(err)
		}
		in := month("2026-03", []*pricing.Terms{terms}, nil, calls(fmt.Sprint(q), "c1"))
		in.Before = []pricing.Total{{Contract: "c", Rule: "u", What: "quantity", Scope: "partner:quill", Since: period.Date{Year: 2026, Month: 1, Day: 1}, Value: decimal.NewFromInt(int64(before))}}
		res, err := pricing.Price(in)
		if err != nil {
			t.Fatal(err)
		}
		want := decimal.Zero
		for n := before + 1; n <= before+q; n++ {
			switch {
			case n <= a:
				want = want.Add(dec("0.07"))
			case n > b:
				want = want.Add(dec("0.011"))
			}
			if n == a+1 {
				want = want.Add(dec("3"))
			}
			if n == b+1 {
				want = want.Add(dec("5"))
			}
		}
		if got := sum(res, "u", "", true).Neg(); !got.Equal(want) {
			t.Fatalf("%d after %d in %d/%d: %s, want %s", q, before, a, b, got, want)
		}
	})
}

// Months of a lifetime ladder, one after the other, come to what one month with all
// their sales comes to, before rounding; so do versions that cut a month in two.
func TestLifetimeIsTheSumOfItsMonths(t *testing.T) {
	rule := ladder("partner", "lifetime since 2015-01-01", "[{to: 500, rate: 1%}, {to: 1_500, rate: 13%}, {rate: 7.77%}]")
	terms := parse(t, doc(rule))
	second := parse(t, strings.Replace(doc(rule), "from: 2015-01-01", "from: 2026-05-11", 1))
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(t, "sales")
		var before []pricing.Total
		apart := decimal.Zero
		var all []metering.Transaction
		for i := range n {
			m := period.Month{Year: 2026, Month: 1}.Add(i)
			amount := decimal.New(int64(rapid.IntRange(1, 90000).Draw(t, "cents")), -2)
			in := month(m.String(), []*pricing.Terms{terms}, []metering.Transaction{tx(metering.SalePaid, fmt.Sprint(i), m.First().In(time.UTC), amount.String())})
			in.Before = before
			res, err := pricing.Price(in)
			if err != nil {
				t.Fatal(err)
			}
			before, apart = res.After, apart.Add(sum(res, "s", "share", true))
			all = append(all, tx(metering.SalePaid, fmt.Sprint(i), time.Date(2026, 5, 1+3*i, 0, 0, 0, 0, time.UTC), amount.String()))
		}
		for _, versions := range [][]*pricing.Terms{{terms}, {terms, second}} {
			res, err := pricing.Price(month("2026-05", versions, all))
			if err != nil {
				t.Fatal(err)
			}
			if got := sum(res, "s", "share", true); !got.Equal(apart) {
				t.Fatalf("%d versions: together %s, apart %s", len(versions), got, apart)
			}
			if len(res.Lines) != 2 || len(res.After) != 1 || !res.After[0].Value.Equal(before[0].Value) {
				t.Fatalf("%d versions: %d lines, after %+v, apart %+v", len(versions), len(res.Lines), res.After, before)
			}
		}
	})
}

// What is wrong with an Input is an error that says what.
func TestPriceErrors(t *testing.T) {
	terms := parse(t, doc("{id: u, kind: usage_fee, meter: m, price: {model: per_unit, unit: 1}}"))
	at := time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC)
	sale := tx(metering.SalePaid, "s1", at, "1.00")
	for want, change := range map[string]func(*pricing.Input){
		"meter m is not given":                             func(in *pricing.Input) { in.Meters = nil },
		"a segment has no terms":                           func(in *pricing.Input) { in.Segments[0].Terms = nil },
		"the segment is no part of the month":              func(in *pricing.Input) { in.Segments[0].Period = in.Month.Add(1).In(time.UTC) },
		"two segments of contract c overlap":               func(in *pricing.Input) { in.Segments = append(in.Segments, in.Segments[0]) },
		"lies outside the segment":                         func(in *pricing.Input) { in.Segments[0].Transactions[0].Time = at.AddDate(0, 1, 0) },
		"event s1 of s is given twice":                     func(in *pricing.Input) { in.Segments[0].Transactions = append(in.Segments[0].Transactions, sale) },
		"1 events sale.paid of app a are in no usage cell": func(in *pricing.Input) { in.Segments[0].Usage = nil },
		"1 events sale.paid of app a are in no usage cell, or in one that counts fewer": func(in *pricing.Input) { in.Segments[0].Usage[0].Count = 0 },
		"two scorecards of app a": func(in *pricing.Input) {
			in.Scorecards = []pricing.Scorecard{{App: "a", Month: in.Month}, {App: "a", Month: in.Month}}
		},
		"scorecard of app a is of 2026-02": func(in *pricing.Input) { in.Scorecards = []pricing.Scorecard{{App: "a", Month: in.Month.Add(-1)}} },
		"two totals quantity of rule u for partner:quill": func(in *pricing.Input) {
			in.Before = slices.Repeat([]pricing.Total{{Contract: "c", Rule: "u", What: "quantity", Scope: "partner:quill"}}, 2)
		},
		"terms were not read by ParseTerms": func(in *pricing.Input) {
			in.Segments[0].Terms = &pricing.Terms{Contract: "c", Zone: time.UTC, Rules: []pricing.Rule{{ID: "u"}}}
		},
	} {
		in := month("2026-03", []*pricing.Terms{terms}, []metering.Transaction{sale})
		change(&in)
		if _, err := pricing.Price(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		} else if !strings.HasPrefix(err.Error(), "price 2026-03 of group g: ") {
			t.Error(err)
		}
	}
	in := month("2026-03", []*pricing.Terms{terms}, nil, calls("9_000_000_000_000_000_000"[:1]+strings.Repeat("0", 18), "c1"))
	in.Segments[0].Usage[0].Count = 1
	if _, err := pricing.Price(in); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("overflow: %v", err)
	}
}

// Terms say what billing must gather for them.
func TestNeeds(t *testing.T) {
	terms := parse(t, everything)
	if got := terms.Meters(); !slices.Equal(got, []string{"m"}) || !terms.SeesOtherApps() || !terms.NeedsLeads() || terms.Groups() {
		t.Errorf("%v %v", got, terms.SeesOtherApps())
	}
	b, err := json.Marshal(terms)
	if err != nil {
		t.Fatal(err)
	}
	var back pricing.Terms
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	c, _ := json.Marshal(&back)
	if string(b) != string(c) {
		t.Errorf("terms change when written and read:\n%s\n%s", b, c)
	}
}

// Whatever is sold and given back in a quarter, and in whichever months, a volume ladder
// comes to the rate of the step that the quarter reached, on what was kept of its sales.
func TestVolumeIsTheRateOfItsWindow(t *testing.T) {
	rate := func(total decimal.Decimal) decimal.Decimal {
		switch {
		case total.LessThan(dec("500")):
			return dec("0.2")
		case total.LessThan(dec("900")):
			return dec("0.13")
		}
		return dec("0.05")
	}
	for _, on := range []string{"gross", "net"} {
		terms := parse(t, doc("{id: s, kind: share, of: sale.paid, platform: {tiers: {mode: volume, on: "+on+", window: quarter}, steps: [{below: 500, rate: 20%}, {below: 900, rate: 13%}, {rate: 5%}]}}"))
		rapid.Check(t, func(t *rapid.T) {
			var before []pricing.Total
			var known []pricing.Attribution
			var sales []metering.Transaction
			left := map[string]decimal.Decimal{}
			gross, net, charged := decimal.Zero, decimal.Zero, decimal.Zero
			for m := range 3 {
				start := time.Date(2026, time.Month(4+m), 1, 0, 0, 0, 0, time.UTC)
				var txs []metering.Transaction
				for i := range rapid.IntRange(0, 6).Draw(t, "events") {
					at := start.Add(time.Duration(i+1) * time.Hour)
					id := fmt.Sprintf("%d-%d", m, i)
					if len(sales) > 0 && rapid.IntRange(0, 2).Draw(t, "refund") == 0 {
						of := rapid.SampledFrom(sales).Draw(t, "of")
						back := decimal.Min(left[of.ID], decimal.New(int64(rapid.IntRange(1, 60000).Draw(t, "back")), -2))
						if back.IsPositive() {
							r := tx(metering.SaleRefunded, id, at, back.String())
							r.Data.RefersTo = of.ID
							txs, left[of.ID], net = append(txs, r), left[of.ID].Sub(back), net.Sub(back)
						}
						continue
					}
					amount := decimal.New(int64(rapid.IntRange(1, 60000).Draw(t, "cents")), -2)
					s := tx(metering.SalePaid, id, at, amount.String())
					txs, sales = append(txs, s), append(sales, s)
					left[id], gross, net = amount, gross.Add(amount), net.Add(amount)
				}
				in := month(start.Format("2006-01"), []*pricing.Terms{terms}, txs)
				in.Before, in.Originals = before, known
				res, err := pricing.Price(in)
				if err != nil {
					t.Fatal(err)
				}
				before, known = res.After, append(known, res.Attributions...)
				charged = charged.Sub(sum(res, "s", "share", true))
			}
			reached := map[string]decimal.Decimal{"gross": gross, "net": net}[on]
			if want := net.Mul(rate(reached)); !charged.Equal(want) {
				t.Fatalf("on %s: %s of %s kept of %s, want %s", on, charged, net, gross, want)
			}
		})
	}
}
