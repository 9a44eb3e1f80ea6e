package compliance

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// facts are those of a certified developer with one of everything that matters.
func facts() Facts {
	return Facts{
		Settings: Settings{CertifiedDeveloper: true},
		Partners: map[partner.ID]partner.Partner{
			"northwind": {ID: "northwind", Type: partner.Developer}, "quill": {ID: "quill"},
			"lakeside-group": {ID: "lakeside-group", Type: partner.Provider}, "pharma": {ID: "pharma", Type: partner.Manufacturer},
		},
		Apps: map[partner.AppID]partner.App{
			"scheduler": {ID: "scheduler", Partner: "northwind"}, "orders": {ID: "orders", Partner: "northwind", SteersOrders: true},
			"patients": {ID: "patients", Partner: "northwind", IndividualAccess: true},
		},
		Customers: map[partner.CustomerID]partner.Customer{
			"lakeside": {ID: "lakeside", Hosting: partner.HostedByPlatform, Partner: "northwind"},
			"harbor":   {ID: "harbor", Hosting: partner.HostedBySelf, Partner: "northwind"},
			"summit":   {ID: "summit", Partner: "northwind"},
			"prairie":  {ID: "prairie", Hosting: partner.HostedByPlatform, Partner: "quill"},
			"maple":    {ID: "maple", Hosting: partner.HostedByPlatform},
		},
		Meters: map[string]metering.Meter{
			"calls": {ID: "calls", Type: "usage.api"}, "certified": {ID: "certified", Type: "usage.api", Class: metering.CertifiedAPI},
			"added": {ID: "added", Type: "usage.api", Class: metering.ValueAdded}, "tries": {ID: "tries", Type: "usage.api", Class: metering.API, Description: "Calls to the sandbox"},
		},
	}
}

// terms are northwind's, of the app scheduler, with the rules.
func terms(t *testing.T, rules ...string) *pricing.Terms {
	t.Helper()
	return contract(t, "contract: c\npartner: northwind\napps: [scheduler, orders, patients]\ncurrency: USD\nzone: UTC\neffective: {from: 2026-10-01}\n", rules...)
}

func contract(t *testing.T, head string, rules ...string) *pricing.Terms {
	t.Helper()
	terms, err := pricing.ParseTerms("c.yaml", []byte(head+"rules:\n  - "+strings.Join(rules, "\n  - ")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return terms
}

const (
	scheduler = "apps: [scheduler]"
	hosted    = "information_source: lakeside, cost_basis: HC-4"
)

// perUnit is a usage fee of the scheduler of 0.01 with more fields.
func perUnit(more string) string { return usage("{model: per_unit, unit: 0.01}", more) }

func usage(price, more string) string {
	return "{id: u, kind: usage_fee, apps: [scheduler], price: " + price + ", " + more + "}"
}

// examples hold for each rule what it must catch and near-misses that must pass: the
// rules of a contract, the one at issue first.
var examples = map[string]struct{ catch, pass [][]string }{
	"certified-api-price": {
		catch: [][]string{
			{perUnit("meter: calls, class: certified_api")},
			{perUnit("meter: calls, class: certified_api, cost_basis: HC-4")}, // costs make no API user pay
			{perUnit("meter: certified")},
			{perUnit("meter: calls")}, // no class: every class
			{usage("{model: graduated, steps: [{to: 1000, unit: 0}, {unit: 0.01}]}", "meter: certified")},
			{usage("{model: graduated, steps: [{to: 1000, unit: 0}, {unit: 0, flat: 5}]}", "meter: certified")},
			{usage("{model: percentage, fixed: 0.30}", "of: sale.paid, class: certified_api")},
			{"{id: s, kind: share, of: sale.paid, platform: {rate: 15%}}"},
			{"{id: s, kind: share, of: sale.paid, class: certified_api, platform: {tiers: {window: year}, steps: [{to: 1000, rate: 0%}, {rate: 1%}]}}"},
			{perUnit("meter: certified, cost_basis: HC-4, information_source: prairie")}, // another partner's practice
			{perUnit("meter: certified, cost_basis: HC-4, information_source: maple")},   // nobody's
		},
		pass: [][]string{
			{perUnit("meter: certified, " + hosted)},
			{perUnit("meter: calls, class: api")},
			{perUnit("meter: added")},
			{usage("{model: per_unit, unit: 0}", "meter: certified")},
			{usage("{model: graduated, steps: [{to: 1000, unit: 0}, {unit: 0}]}", "meter: certified")},
			{"{id: s, kind: share, of: sale.paid, class: certified_api, platform: {rate: 0%}}"},
			{"{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 15%}}"},
			{"{id: f, kind: fixed_fee, class: support, due: monthly, amount: 10}"},
			{"{id: r, kind: referral, from: platform, to: partner, percent: 5%}"},
		},
	},
	"certified-api-percentage": {
		catch: [][]string{
			{"{id: s, kind: share, of: sale.paid, class: certified_api, platform: {rate: 15%}}"},
			{"{id: s, kind: share, of: sale.paid, platform: {rate: 15%}, information_source: lakeside, cost_basis: HC-4}"}, // whoever pays
			{usage("{model: percentage, rate: 2.9%}", "of: sale.paid, class: certified_api")},
			{"{id: s, kind: share, of: sale.paid, class: certified_api, platform: {by: reference, rates: {new: 3%, renewal: 0%}}}"},
			{"{id: p, kind: pass_through, of: sale.paid, class: certified_api, to: platform}"},
			{perUnit("meter: certified, criterion: {basis: revenue, text: by the revenue of the app}, " + hosted)},
		},
		pass: [][]string{
			{"{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 15%}}"},
			{"{id: s, kind: share, of: sale.paid, class: certified_api, platform: {rate: 0%}}"},
			{usage("{model: percentage, fixed: 0.30}", "of: sale.paid, class: certified_api")},
			{perUnit("meter: certified")},
			{perUnit("meter: certified, criterion: {basis: volume, text: calls}, " + hosted)},
			{perUnit("meter: added, criterion: {basis: revenue, text: by the revenue of the app}")},
		},
	},
	"certified-api-cost-basis": {
		catch: [][]string{{perUnit("meter: certified")}, {perUnit("meter: certified, information_source: lakeside")}, {perUnit("meter: calls")}},
		pass: [][]string{{perUnit("meter: certified, cost_basis: HC-4")}, {perUnit("meter: added")}, {usage("{model: per_unit, unit: 0}", "meter: certified")},
			{"{id: s, kind: share, of: sale.paid, platform: {rate: 15%}}"}}, // no usage: another rule
	},
	"certified-api-self-hosted": {
		catch: [][]string{{perUnit("meter: certified, cost_basis: HC-4, information_source: harbor")}, {perUnit("meter: certified, cost_basis: HC-4, information_source: summit")}},
		pass: [][]string{{perUnit("meter: certified, " + hosted)}, {perUnit("meter: added, information_source: harbor")},
			{usage("{model: per_unit, unit: 0}", "meter: certified, information_source: harbor")}, {perUnit("meter: certified")}},
	},
	"certified-api-criterion": {
		catch: [][]string{
			{perUnit("meter: certified, criterion: {basis: competition, text: competes with our scheduler}")},
			{perUnit("meter: calls, criterion: {basis: exclusivity, text: sells nowhere else}")},
			{usage("{model: per_unit, unit: 0}", "meter: certified, criterion: {basis: exclusivity, text: free if it sells nowhere else}")},
		},
		pass: [][]string{{perUnit("meter: certified, criterion: {basis: cost, text: hosting}")}, {perUnit("meter: added, criterion: {basis: exclusivity, text: x}")}, {perUnit("meter: certified")}},
	},
	"certified-api-quality": {
		catch: [][]string{
			{"{id: q, kind: quality, adjusts: s, bands: [{when: calls > 1, platform_rate: +1 points}]}", "{id: s, kind: share, of: sale.paid, class: certified_api, platform: {rate: 5%}}"},
			{"{id: q, kind: quality, adjusts: s, bands: [{when: calls > 1, platform_rate: -1 points}]}", "{id: s, kind: share, of: sale.paid, platform: {rate: 5%}}"},
		},
		pass: [][]string{{"{id: q, kind: quality, adjusts: s, bands: [{when: calls > 1, platform_rate: +1 points}]}", "{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 5%}}"}},
	},
	"individual-access-fee": {
		catch: [][]string{
			{"{id: u, kind: usage_fee, apps: [patients], meter: calls, class: api, price: {model: per_unit, unit: 0.01}}"},
			{"{id: u, kind: usage_fee, meter: calls, price: {model: per_unit, unit: 0.01}}"}, // all apps of the contract, patients among them
			{"{id: u, kind: usage_fee, apps: [scheduler], meter: added, price: {model: per_unit, unit: 0.01}, ehi_individual_access: true}"},
			{"{id: s, kind: share, apps: [patients], of: sale.paid, class: certified_api, platform: {rate: 5%}}"},
		},
		pass: [][]string{
			{"{id: u, kind: usage_fee, apps: [scheduler], meter: calls, class: api, price: {model: per_unit, unit: 0.01}}"},
			{"{id: u, kind: usage_fee, apps: [patients], meter: calls, class: api, price: {model: per_unit, unit: 0}}"},
			{"{id: u, kind: usage_fee, apps: [patients], meter: calls, class: api, price: {model: per_unit, unit: 0.01}, ehi_individual_access: false}"},
			{"{id: u, kind: usage_fee, apps: [patients], meter: added, price: {model: per_unit, unit: 0.01}}"},
			{"{id: s, kind: share, apps: [patients], of: sale.paid, class: marketplace, platform: {rate: 15%}}"},
		},
	},
	"listing-fee": {
		catch: [][]string{{"{id: f, kind: fixed_fee, class: listing, due: monthly, amount: 49}"}, {"{id: f, kind: fixed_fee, class: listing, due: fee.due}"},
			{"{id: s, kind: share, of: sale.paid, class: listing, platform: {rate: 5%}}"}},
		pass: [][]string{{"{id: f, kind: fixed_fee, class: listing, due: monthly, amount: 0}"}, {"{id: f, kind: fixed_fee, class: placement, due: monthly, amount: 49}"}},
	},
	"sandbox-or-documentation-fee": {
		catch: [][]string{
			{"{id: sandbox-access, kind: fixed_fee, class: support, due: monthly, amount: 49}"},
			{"{id: f, kind: fixed_fee, class: support, due: once, amount: 49, text: API documentation and training}"},
			{"{id: f, kind: fixed_fee, class: support, due: fee.due, amounts: {test_environment: 49}}"},
			{"{id: f, kind: fixed_fee, class: support, due: fee.due, reference: developer-portal}"},
			{perUnit("meter: tries")},
		},
		pass: [][]string{
			{"{id: sandbox-access, kind: fixed_fee, class: support, due: monthly, amount: 0}"},
			{"{id: documents, kind: usage_fee, apps: [scheduler], meter: added, price: {model: per_unit, unit: 1}}"}, // of patients' records, not about the API
			{"{id: support, kind: fixed_fee, class: support, due: monthly, amount: 49, text: Priority support}"},
		},
	},
	"certification-gate": {
		catch: [][]string{
			{"{id: f, kind: fixed_fee, class: certification, due: yearly on 10-15, amount: 250}"},
			{"{id: f, kind: fixed_fee, class: certification, due: fee.due, certified_access: required}"},
			{"{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 5%}, certified_access: required}"},
		},
		pass: [][]string{
			{"{id: f, kind: fixed_fee, class: certification, due: yearly on 10-15, amount: 250, certified_access: independent}"},
			{"{id: f, kind: fixed_fee, class: certification, due: yearly on 10-15, amount: 0}"},
			{"{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 5%}}"},
			{"{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 0%}, certified_access: required}"},
		},
	},
	"referral-remuneration": {
		catch: [][]string{
			{"{id: r, kind: referral, apps: [orders], from: platform, to: partner, flat: 200}"},
			{"{id: r, kind: referral, apps: [scheduler], from: partner, to: lakeside-group, flat: 200}"},
			{"{id: r, kind: referral, apps: [scheduler], from: pharma, to: partner, percent: 5%}"},
			{"{id: x, kind: split, apps: [scheduler], to: {lakeside-group: 30%}}", share},
			{"{id: r, kind: referral, from: platform, to: partner, flat: 200}"}, // orders is an app of the contract
			{"{id: q, kind: quality, apps: [orders], adjusts: s, bands: [{when: calls > 1, platform_rate: +1 points}]}", "{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 5%}}"},
			{"{id: f, kind: fixed_fee, apps: [orders], class: placement, due: fee.due, amount: 10}"},
			{"{id: u, kind: usage_fee, apps: [orders], meter: calls, class: placement, price: {model: per_unit, unit: 0.01}}"},
		},
		pass: [][]string{
			{"{id: r, kind: referral, apps: [scheduler], from: platform, to: partner, flat: 200}"},
			{"{id: r, kind: referral, apps: [scheduler], from: quill, to: partner, flat: 200}"},
			{"{id: x, kind: split, apps: [scheduler], to: {quill: 30%}}", share},
			{"{id: r, kind: referral, apps: [orders], from: platform, to: partner, flat: 0}"},
			{"{id: f, kind: fixed_fee, apps: [orders], class: placement, due: monthly, amount: 1200}"}, // does not vary
			{"{id: u, kind: usage_fee, apps: [orders], meter: calls, class: value_added, price: {model: per_unit, unit: 0.01}}"},
		},
	},
	"unequal-rates": { // against quill's, below
		catch: [][]string{
			{"{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 20%}}"},
			{"{id: u, kind: usage_fee, meter: calls, class: api, price: {model: per_unit, unit: 0.02}}"},
			{"{id: f, kind: fixed_fee, class: listing, due: monthly, amount: 50}"},
			{"{id: r, kind: referral, from: platform, to: partner, flat: 300}"},
		},
		pass: [][]string{
			{"{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 15.0%}}"},
			{"{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 20%}, criterion: {basis: service_level, text: no support from us}}"},
			{"{id: s, kind: share, of: sale.paid, class: value_added, platform: {rate: 20%}}"},             // another class
			{"{id: u, kind: usage_fee, meter: added, class: api, price: {model: per_unit, unit: 0.02}}"},   // another meter
			{"{id: u, kind: usage_fee, meter: calls, class: api, price: {model: per_unit, unit: 0.0100}}"}, // the same number
			{"{id: r, kind: referral, from: partner, to: platform, flat: 300}"},                            // the other direction
			{"{id: f, kind: fixed_fee, class: placement, due: monthly, amount: 900}"},                      // quill's other rate has its criterion
		},
	},
	"criterion-of-competition": {
		catch: [][]string{{"{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 20%}, criterion: {basis: exclusivity, text: sells nowhere else}}"}},
		pass: [][]string{{"{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 20%}, criterion: {basis: term, text: three years}}"},
			{perUnit("meter: certified, criterion: {basis: exclusivity, text: x}")}}, // a block of its own
	},
}

var quills = []string{
	"{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 15%}}",
	"{id: u, kind: usage_fee, meter: calls, class: api, price: {model: per_unit, unit: 0.01}}",
	"{id: f, kind: fixed_fee, class: listing, due: monthly, amount: 49}",
	"{id: p, kind: fixed_fee, class: placement, due: monthly, amount: 800, criterion: {basis: term, text: two years}}",
	"{id: r, kind: referral, from: platform, to: partner, flat: 200}",
}

func quillsTerms(t *testing.T) *pricing.Terms {
	return contract(t, "contract: q\npartner: quill\ncurrency: USD\nzone: UTC\neffective: {from: 2026-01-01}\n", quills...)
}

var today = period.Date{Year: 2026, Month: 9, Day: 1}

func ids(res Result) []string {
	var out []string
	for _, f := range res.Findings {
		out = append(out, f.ID)
	}
	return out
}

// Every rule finds its examples, at the rule of the contract and its line, and none of
// its near-misses.
func TestExamples(t *testing.T) {
	for _, rule := range Rules() {
		if _, whole := wholePredicates[rule.ID]; whole {
			continue
		}
		e := examples[rule.ID]
		if len(e.catch) == 0 || len(e.pass) == 0 {
			t.Errorf("rule %s has no examples", rule.ID)
		}
		c := Case{Facts: facts(), On: today}
		c.Others = []*pricing.Terms{quillsTerms(t)}
		for _, rules := range e.catch {
			c.Terms = terms(t, rules...)
			res := Screen(c)
			at := c.Terms.Rules[0]
			f := res.Find(rule.ID + "/" + at.ID)
			if f == nil {
				t.Errorf("%s passes %s, found %q", rule.ID, rules[0], ids(res))
				continue
			}
			if f.Line != at.Line || at.Line != 8 || f.ContractRule != at.ID || f.Severity != rule.Severity || len(f.Citation) == 0 || !strings.Contains(f.What, at.ID) || f.Do == "" {
				t.Errorf("%s: finding %+v of line %d", rule.ID, f, at.Line)
			}
		}
		for _, rules := range e.pass {
			c.Terms = terms(t, rules...)
			if res := Screen(c); slices.ContainsFunc(ids(res), func(id string) bool { return id == rule.ID+"/"+c.Terms.Rules[0].ID }) {
				t.Errorf("%s catches %s: %s", rule.ID, rules[0], res.Find(rule.ID+"/"+c.Terms.Rules[0].ID).What)
			}
		}
	}
	for id := range examples {
		if !slices.ContainsFunc(Rules(), func(r Rule) bool { return r.ID == id }) {
			t.Errorf("examples of %s, which is no rule", id)
		}
	}
}

// A free basic listing answers the rule about listings.
func TestFreeBasicListing(t *testing.T) {
	c := Case{Facts: facts(), On: today, Terms: terms(t, examples["listing-fee"].catch[0][0])}
	c.Settings.FreeBasicListing = true
	if got := ids(Screen(c)); len(got) != 0 {
		t.Errorf("found %q", got)
	}
}

// Who the marketplace is decides which rules there are; the others do not depend on it.
func TestSettingsDecide(t *testing.T) {
	c := Case{Facts: facts(), On: today, Terms: terms(t,
		"{id: s, kind: share, apps: [scheduler], of: sale.paid, class: certified_api, platform: {rate: 15%}}",
		"{id: r, kind: referral, apps: [orders], from: platform, to: partner, flat: 200}")}
	for _, s := range []struct {
		Settings
		want string
	}{
		{Settings{CertifiedDeveloper: true}, "certified-api-price/s certified-api-percentage/s referral-remuneration/r"},
		{Settings{Actor: ActorProvider}, "certified-api-percentage/s referral-remuneration/r"},
		{Settings{}, "referral-remuneration/r"},
	} {
		c.Settings = s.Settings
		if got := strings.Join(ids(Screen(c)), " "); got != s.want {
			t.Errorf("%+v: found %s, want %s", s.Settings, got, s.want)
		}
	}
}

// Mending what one rule about usage asks for leaves what the others ask for.
func TestUsageOfCertifiedAPI(t *testing.T) {
	for more, want := range map[string]string{
		"":                               "certified-api-price certified-api-cost-basis",
		", cost_basis: HC-4":             "certified-api-price",
		", information_source: lakeside": "certified-api-cost-basis",
		", information_source: harbor":   "certified-api-cost-basis certified-api-self-hosted",
		", information_source: harbor, cost_basis: HC-4":   "certified-api-self-hosted",
		", information_source: lakeside, cost_basis: HC-4": "",
	} {
		c := Case{Facts: facts(), On: today, Terms: terms(t, perUnit("meter: certified"+more))}
		if got := strings.ReplaceAll(strings.Join(ids(Screen(c)), " "), "/u", ""); got != want {
			t.Errorf("with %q: %s, want %s", more, got, want)
		}
	}
}

// A partner's own other contracts are no others.
func TestOwnRatesAreNotCompared(t *testing.T) {
	c := Case{Facts: facts(), On: today, Terms: terms(t, strings.Replace(share, "15%", "20%", 1))}
	c.Others = []*pricing.Terms{terms(t, share)}
	if got := ids(Screen(c)); len(got) != 0 {
		t.Errorf("found %q", got)
	}
}

const share = "{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 15%}}"

func TestRetroactiveTerms(t *testing.T) {
	const head = "contract: c\npartner: northwind\napps: [scheduler]\ncurrency: USD\nzone: UTC\n"
	const from = head + "effective: {from: 2026-10-01}\n"
	usage := func(price string) string {
		return "{id: u, kind: usage_fee, meter: calls, class: api, price: " + price + "}"
	}
	ladder := func(a, b string) string {
		return "{id: s, kind: share, of: sale.paid, class: marketplace, platform: {tiers: {window: year}, steps: [{to: 1000, rate: " + a + "}, {rate: " + b + "}]}}"
	}
	finder := func(more string) string { return "{id: r, kind: referral, from: platform, to: partner, " + more + "}" }
	fee := func(due string, amount int) string {
		return fmt.Sprintf("{id: f, kind: fixed_fee, class: support, due: %s, amount: %d}", due, amount)
	}
	quality := "{id: q, kind: quality, adjusts: s, bands: [{when: calls > 1, platform_rate: -1 points}]}"
	for _, c := range []struct {
		name     string
		old, now *pricing.Terms
		on       string
		want     string // part of the finding; empty: none
	}{
		{"a higher rate", contract(t, from, share), contract(t, from, strings.Replace(share, "15%", "16%", 1)), "2026-10-02", "16%, and was 15%"},
		{"a lower rate", contract(t, from, share), contract(t, from, strings.Replace(share, "15%", "14%", 1)), "2026-10-02", ""},
		{"the same", contract(t, from, share), contract(t, from, share), "2026-10-02", ""},
		{"not yet begun", contract(t, from, share), contract(t, from, strings.Replace(share, "15%", "16%", 1)), "2026-10-01", ""},
		{"nothing before", nil, contract(t, from, share), "2026-10-02", ""},
		{"lower on one step, higher on another", contract(t, from, ladder("1%", "2%")), contract(t, from, ladder("0%", "3%")), "2026-10-02", "becomes worse"},
		{"lower on both steps", contract(t, from, ladder("1%", "2%")), contract(t, from, ladder("0%", "2%")), "2026-10-02", ""},
		{"other steps", contract(t, from, ladder("1%", "2%")), contract(t, from, strings.Replace(ladder("1%", "2%"), "1000", "2000", 1)), "2026-10-02", "cannot be shown"},
		{"another kind of refund", contract(t, from, share), contract(t, from, strings.Replace(share, "15%}", "15%}, refunds: platform_keeps_share", 1)), "2026-10-02", "cannot be shown"},
		{"a dearer call", contract(t, from, usage("{model: per_unit, unit: 1}")), contract(t, from, usage("{model: per_unit, unit: 1.01}")), "2026-10-02", "becomes worse"},
		{"a cheaper call", contract(t, from, usage("{model: per_unit, unit: 1}")), contract(t, from, usage("{model: per_unit, unit: 0.99}")), "2026-10-02", ""},
		{"another model", contract(t, from, usage("{model: per_unit, unit: 1}")), contract(t, from, usage("{model: graduated, steps: [{unit: 0.5}]}")), "2026-10-02", "cannot be shown"},
		{"no longer charged at zero", contract(t, from, usage("{model: graduated, charge_at_zero: true, steps: [{unit: 0.5, flat: 5}]}")), contract(t, from, usage("{model: graduated, steps: [{unit: 0.5, flat: 5}]}")), "2026-10-02", ""},
		{"now charged at zero", contract(t, from, usage("{model: graduated, steps: [{unit: 0.5, flat: 5}]}")), contract(t, from, usage("{model: graduated, charge_at_zero: true, steps: [{unit: 0.5, flat: 5}]}")), "2026-10-02", "cannot be shown"},
		{"a lower monthly fee", contract(t, from, fee("monthly", 5)), contract(t, from, fee("monthly", 4)), "2026-10-02", ""},
		{"a higher monthly fee", contract(t, from, fee("monthly", 5)), contract(t, from, fee("monthly", 6)), "2026-10-02", "6 USD per partner, and was 5 USD"},
		{"a yearly fee monthly", contract(t, from, fee("yearly on 10-15", 5)), contract(t, from, fee("monthly", 4)), "2026-10-02", "cannot be shown"},
		{"another meter", contract(t, from, usage("{model: per_unit, unit: 1}")), contract(t, from, strings.Replace(usage("{model: per_unit, unit: 1}"), "calls", "added", 1)), "2026-10-02", "cannot be shown"},
		{"a percentage for an amount", contract(t, from, finder("flat: 5")), contract(t, from, finder("percent: 5%")), "2026-10-02", "cannot be shown"},
		{"a markup", contract(t, strings.Replace(from, "zone:", "fx: {rates: ecb, at: sale, convert: all}\nzone:", 1), share), contract(t, strings.Replace(from, "zone:", "fx: {rates: ecb, at: sale, convert: all, markup: 1%}\nzone:", 1), share), "2026-10-02", "conversion"},
		{"another currency", contract(t, from, share), contract(t, strings.Replace(from, "USD", "EUR", 1), share), "2026-10-02", "currency"},
		{"another zone", contract(t, from, share), contract(t, strings.Replace(from, "UTC", "America/Chicago", 1), share), "2026-10-02", "zone"},
		{"totals that begin anew", contract(t, from, share), contract(t, from+"tiers: restart\n", share), "2026-10-02", "running totals"},
		{"another app", contract(t, from, share), contract(t, strings.Replace(from, "scheduler", "orders", 1), share), "2026-10-02", "apps, customer or deal change"},
		{"a new fee", contract(t, from, share), contract(t, from, share, usage("{model: per_unit, unit: 1}")), "2026-10-02", "u is new"},
		{"a new price of nothing", contract(t, from, share), contract(t, from, share, usage("{model: per_unit, unit: 0}")), "2026-10-02", ""},
		{"a fee is gone", contract(t, from, share, usage("{model: per_unit, unit: 1}")), contract(t, from, share), "2026-10-02", ""},
		{"a commission is gone", contract(t, from, share, finder("flat: 5")), contract(t, from, share), "2026-10-02", "r, which may have been to the partner's advantage, is gone"},
		{"a smaller commission", contract(t, from, finder("flat: 5")), contract(t, from, finder("flat: 4")), "2026-10-02", "4 per converted lead, and was 5"},
		{"a larger commission", contract(t, from, finder("flat: 5")), contract(t, from, finder("flat: 6")), "2026-10-02", ""},
		{"a commission with a cap", contract(t, from, finder("flat: 5")), contract(t, from, finder("flat: 6, cap: 7")), "2026-10-02", "cannot be shown"},
		{"a new scorecard", contract(t, from, share), contract(t, from, share, quality), "2026-10-02", "q is new"},
		{"a scorecard is gone", contract(t, from, share, quality), contract(t, from, share), "2026-10-02", "q, which may have been"},
		{"more in reserve", contract(t, from, share), contract(t, from+"payout: {reserve: {rate: 5%, release_after: 90 days}}\n", share), "2026-10-02", "reserve"},
		{"a larger smallest payout", contract(t, from+"payout: {minimum: 25}\n", share), contract(t, from+"payout: {minimum: 50}\n", share), "2026-10-02", "smallest payout"},
		{"a longer late limit", contract(t, from+"late_limit_months: 1\n", share), contract(t, from+"late_limit_months: 2\n", share), "2026-10-02", "late events"},
		{"less notice", contract(t, from+"notice: 30 days\n", share), contract(t, from+"notice: 10 days\n", share), "2026-10-02", "less notice"},
		{"more notice", contract(t, from, share), contract(t, from+"notice: 10 days\n", share), "2026-10-02", ""},
		{"another class", contract(t, from, share), contract(t, from, strings.Replace(share, "marketplace", "value_added", 1)), "2026-10-02", "cannot be shown"},
		{"another rounding", contract(t, from, share), contract(t, from+"rounding: {mode: up}\n", share), "2026-10-02", "rounding"},
	} {
		on, err := period.ParseDate(c.on)
		if err != nil {
			t.Fatal(err)
		}
		res := Screen(Case{Facts: facts(), On: on, Terms: c.now, Before: c.old})
		f := res.Find("retroactive-terms")
		switch {
		case c.want == "" && f != nil:
			t.Errorf("%s: found %s", c.name, f.What)
		case c.want != "" && (f == nil || !strings.Contains(f.What, c.want) || f.Severity != Block):
			t.Errorf("%s: found %+v, want %q", c.name, f, c.want)
		}
	}
}

// The rules are read strictly, and each has a function, and each function a rule.
func TestRules(t *testing.T) {
	named := map[string]bool{}
	for _, r := range Rules() {
		named[r.ID] = true
	}
	for id := range predicates {
		if !named[id] {
			t.Errorf("the function of %s has no rule", id)
		}
	}
	for id := range wholePredicates {
		if !named[id] || predicates[id] != nil {
			t.Errorf("the function of %s has no rule, or there are two", id)
		}
	}
	good := string(rulesText)
	for _, change := range [][2]string{
		{"id: listing-fee", "id: listing-fees"}, {"severity: counsel", "severity: stern"}, {"status: in_force", "status: hoped"},
		{"to: anyone", "to: everyone"}, {"checked_on: 2026-11-27", "checked_on: lately"}, {"looks_for: A rule that", "seeks: A rule that"},
		{"title: A price on the certified API that the partner must pay", `title: ""`}, {"id: listing-fee", "id: certified-api-price"},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Fatalf("%s changes nothing", change[0])
		}
		if _, err := parseRules([]byte(bad)); err == nil {
			t.Errorf("rules with %s are read", change[1])
		}
	}
	if rules, err := parseRules([]byte(good)); err != nil || len(rules) != len(predicates)+len(wholePredicates) {
		t.Errorf("%d rules, %v", len(rules), err)
	}
}

// A rule whose law is proposed or removed is listed and finds nothing.
func TestOnlyLawInForce(t *testing.T) {
	for _, r := range Rules() {
		if r.Status != InForce {
			continue
		}
		for _, s := range []Status{Proposed, Removed} {
			r.Status = s
			if r.applies(Settings{CertifiedDeveloper: true}) {
				t.Errorf("%s applies though it is %s", r.ID, s)
			}
		}
	}
}

// What the screen cannot read it does not pass.
func TestUnknownKind(t *testing.T) {
	c := Case{Facts: facts(), On: today, Terms: terms(t, share)}
	c.Terms.Rules = []pricing.Rule{{ID: "x", Kind: "commitment", Class: metering.CertifiedAPI}, {ID: "y", Kind: "discount", Class: metering.CertifiedAPI},
		{ID: "z", Kind: "usage_fee", Apps: []partner.AppID{"scheduler"}, Class: metering.CertifiedAPI, Declared: pricing.Declared{CostBasis: "HC-4"}, Body: &pricing.UsageFee{Price: pricing.Model{Model: "volume"}}}}
	if got := strings.Join(ids(Screen(c)), " "); got != "certified-api-price/x certified-api-price/z" {
		t.Errorf("found %s", got)
	}
}

// No text of ours says that a contract complies.
func TestNothingIsCalledCompliant(t *testing.T) {
	texts := []string{Notice, string(rulesText)}
	for _, text := range texts {
		if strings.Contains(strings.ToLower(text), "compliant") {
			t.Errorf("%.60s… calls something compliant", text)
		}
	}
	if !strings.Contains(Notice, "not legal advice") {
		t.Error("the notice says no longer what it is")
	}
}
