package compliance

import (
	"strings"
	"testing"

	"mete/partner"
	"mete/pricing"
	"mete/pricing/plain"
)

// A schedule says of each kind of rule who pays whom, for what, how much, when and on
// what basis.
func TestSchedule(t *testing.T) {
	f := facts()
	f.Partners["northwind"] = partner.Partner{ID: "northwind", Name: "Northwind LLC"}
	f.Customers["lakeside"] = partner.Customer{ID: "lakeside", Name: "Lakeside Pediatrics"}
	terms := terms(t,
		"{id: s, kind: share, of: sale.paid, class: marketplace, apps: [scheduler], platform: {tiers: {window: lifetime since 2026-01-01, on: net}, steps: [{below: 1_000_000, rate: 0%}, {rate: 15%}]}, refunds: reduce_base}",
		perUnit("meter: certified, "+hosted),
		"{id: p, kind: usage_fee, of: sale.paid, class: value_added, price: {model: percentage, rate: 2.9%, fixed: 0.30}}",
		"{id: f, kind: fixed_fee, class: certification, due: yearly on 10-15, amount: 250, per: app}",
		"{id: g, kind: fixed_fee, class: support, due: fee.due, amounts: {b: 2, a: 1}, text: Help}",
		"{id: r, kind: referral, from: platform, to: partner, percent: 5%, term: 12 months, cap: 2000}",
		"{id: q, kind: quality, adjusts: s, gate: {require: certification.state == \"valid\", otherwise: +5 points}, bands: [{when: availability >= 0.999, platform_rate: -2 points}], bounds: {max: 25%}}",
		"{id: cap, kind: cap, on: [u], maximum: 10}", "{id: vat, kind: tax, on: [u], rate: 20%, jurisdiction: gb}", "{id: x, kind: split, to: {quill: 30%}}")
	terms.Version = 2
	next := contract(t, "contract: c\npartner: northwind\ncurrency: USD\nzone: UTC\neffective: {from: 2027-01-01}\n", share)
	next.Version = 3
	s := ScheduleOf(f, terms, []*pricing.Terms{next})
	if s.Version != 2 || s.Partner != "Northwind LLC" || strings.Join(s.Next, "") != "version 3 from 2027-01-01 on" || s.Notice != Notice {
		t.Errorf("%+v", s)
	}
	later := "with the next version of the contract"
	want := []struct {
		rule, pays, basis, changes string
		says                       []string
	}{
		{"s", "Northwind LLC pays the marketplace", "adjusted by q", "from step to step with the running total; " + later, []string{"below 1,000,000.00 USD: 0%; the marketplace's share from 1,000,000.00 USD: 15%.", "counts as a negative sale", "the app `scheduler` only", "class `marketplace` only"}},
		{"u", "Northwind LLC pays the marketplace, as the practice Lakeside Pediatrics", "costs: HC-4", later, []string{"The partner pays the marketplace for `certified`.", "It counts the class `certified_api` only.", "Each unit costs 0.01 USD."}},
		{"p", "Northwind LLC pays the marketplace", "", later, []string{"for each sale that a customer has paid.", "Each event costs 2.9% of its amount and 0.30 USD."}},
		{"f", "Northwind LLC pays the marketplace", "", later, []string{"a fee for `certification`.", "It is due each year on 10-15", "It is 250.00 USD.", "It is charged for each app."}},
		{"g", "Northwind LLC pays the marketplace", "", later, []string{"It is due when an event `fee.due` says so.", `the fee for "a": 1.00 USD; the fee for "b": 2.00 USD.`, `The statement calls it "Help".`}},
		{"r", "the marketplace pays Northwind LLC", "", later, []string{"The marketplace pays the partner a commission", "The commission is 5% of what these customers pay", "within 12 months of becoming a customer", "at most 2,000.00 USD, for ever"}},
		{"q", "moves what Northwind LLC pays the marketplace", "", later, []string{"a certification that is valid. When it does not, the rate is 5 percentage points more", "availability of at least 99.9%: 2 percentage points less", "does not bring a rate above 25%"}},
		{"cap", "moves what Northwind LLC pays the marketplace", "", later, []string{"The rules `u` together charge at most 10.00 USD in each calendar month"}},
		{"vat", "Northwind LLC pays the marketplace", "", later, []string{"tax of 20%"}},
		{"x", "Northwind LLC pays the partners named", "", later, []string{"the part of `quill`: 30%"}},
	}
	for i, w := range want {
		f := s.Fees[i]
		said := strings.Join(f.Says, " ")
		if f.Rule != w.rule || f.Pays != w.pays || f.Basis != w.basis || f.Changes != w.changes {
			t.Errorf("fee\n%+v, want\n%+v", f, w)
		}
		for _, part := range w.says {
			if !strings.Contains(said, part) {
				t.Errorf("fee %s does not say %q but %s", w.rule, part, said)
			}
		}
	}
	var text, md strings.Builder
	if err := WriteSchedules(&text, Text, []Schedule{s}); err != nil {
		t.Fatal(err)
	}
	if err := WriteSchedules(&md, Markdown, []Schedule{s}); err != nil {
		t.Fatal(err)
	}
	for _, f := range s.Fees {
		for i, says := range f.Says {
			if !strings.Contains(text.String(), "  "+says+"\n") || !strings.Contains(md.String(), strings.ReplaceAll(plain.Escape(f.marked[i]), "|", `\|`)) {
				t.Errorf("neither form may leave out %q", says)
			}
		}
	}
	for _, out := range []string{text.String(), md.String()} {
		if !strings.HasSuffix(strings.Trim(out, "*\n"), Notice) || strings.Contains(strings.ToLower(out), "compliant") {
			t.Errorf("ends\n%s", out[len(out)-200:])
		}
	}
}

// Rates of a class stand beside each other, and unequal ones with what is recorded.
func TestUniformity(t *testing.T) {
	ours := terms(t, "{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 20%}, criterion: {basis: term, text: three years}}",
		"{id: u, kind: usage_fee, meter: calls, class: api, price: {model: per_unit, unit: 0.010}}",
		"{id: q, kind: quality, adjusts: s, bands: [{when: calls > 1, platform_rate: -1 points}]}")
	got := Uniformity(facts(), []*pricing.Terms{ours, quillsTerms(t)})
	things := map[string]Uniform{}
	for _, u := range got {
		things[u.Thing] = u
	}
	s, u := things["share on marketplace in USD"], things["usage_fee on api (calls) in USD"]
	if s.Equal || len(s.Rates) != 2 || s.Rates[0].Partner != "northwind" || s.Rates[0].Rate != "20%" || s.Rates[0].Criterion != "term: three years" ||
		s.Rates[1].Rate != "15%" || s.Rates[1].Criterion != "" {
		t.Errorf("shares %+v", s)
	}
	if !u.Equal || len(u.Rates) != 2 {
		t.Errorf("calls %+v", u)
	}
	if len(got) != 5 || got[0].Class != "api" {
		t.Errorf("%d things, first %+v", len(got), got[0])
	}
}
