package pricing

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const head = `contract: c
partner: quill
apps: [quill-notes]
currency: USD
zone: UTC
effective: {from: 2026-01-01}
`

const store = head + "rules:\n  - {id: store, kind: share, of: sale.paid, platform: {rate: 15%}}\n"

// Every mistake a person can make in a contract, and what it is told.
func TestProblems(t *testing.T) {
	rule := func(r string) string { return head + "rules:\n  - " + r + "\n" }
	ladder := func(steps string) string {
		return rule("{id: a, kind: share, of: sale.paid, platform: {tiers: {window: month}, steps: " + steps + "}}")
	}
	quality := func(q string) string { return store + "  - {id: q, kind: quality, " + q + "}\n" }
	tests := []struct{ name, text, want string }{
		{"empty", "", "c.yaml:1:1: want one YAML document with the fields of a contract; begin with `contract: NAME`"},
		{"no fields", "hello", "c.yaml:1:1: want fields, such as `name: value`, not a single value"},
		{"syntax", "a: [1\nb: 2", "c.yaml:2:1: this is no YAML: ',' or ']' must be specified"},
		{"twice", store + "zone: UTC", `c.yaml:9:1: this is no YAML: mapping key "zone" already defined at [5:1]`},
		{"missing", "contract: c\n", "c.yaml:1:1: partner is missing; name who the contract is with"},
		{"unknown field", store + "reserv: 5%\n", "c.yaml:9:1: reserv: no such field; fields here: contract, partner, apps,"},
		{"near field", strings.Replace(store, "currency", "curency", 1), "c.yaml:4:1: curency: no such field; did you mean currency?"},
		{"null", strings.Replace(store, "zone: UTC", "zone:", 1), "c.yaml:5:6: zone: has no value; give one or leave the field out"},
		{"anchor", strings.Replace(store, "zone: UTC", "zone: &z UTC", 1), "c.yaml:5:7: zone: want one value, not an anchor, alias or tag"},
		{"id", strings.Replace(store, "contract: c", "contract: My Contract", 1), `c.yaml:1:11: contract: "My Contract" is no identifier: use lower-case letters, digits`},
		{"platform", strings.Replace(store, "partner: quill", "partner: platform", 1), "c.yaml:2:10: partner: the platform has no contract with itself; name a partner"},
		{"no app", strings.Replace(store, "[quill-notes]", "[]", 1), "c.yaml:3:7: apps: no app is named; leave the field out for all apps of the partner"},
		{"deal and customer", strings.Replace(store, "currency:", "deal: D-1\ncustomer: mesa\ncurrency:", 1), "c.yaml:5:11: customer: a contract is for a customer or for a deal; keep one: a deal goes before a customer"},
		{"no deal", strings.Replace(store, "currency:", "deal: ''\ncurrency:", 1), "c.yaml:4:7: deal: is empty; the deal as events name it, or leave the field out"},
		{"usage of a deal", strings.Replace(store, "currency:", "deal: D-1\ncurrency:", 1) + "  - {id: calls, kind: usage_fee, meter: calls, price: {model: per_unit, unit: 0.10}}\n",
			"c.yaml:10:5: rules[1]: usage is not metered by deal; put the rule into a contract without deal"},
		{"commission of a customer", strings.Replace(store, "currency:", "customer: mesa\ncurrency:", 1) + "  - {id: brought, kind: referral, from: platform, to: partner, flat: 5.00}\n",
			"c.yaml:10:5: rules[1]: commissions are paid for leads, whoever the contract is for; put the rule into a contract without customer and deal"},
		{"fx of nothing", strings.Replace(store, "zone:", "fx: {rates: ecb, at: sale, convert: []}\nzone:", 1), "c.yaml:5:37: fx.convert: no currency is named; such as [EUR, CAD], or all"},
		{"fx of its own", strings.Replace(store, "zone:", "fx: {rates: ecb, at: sale, convert: [USD]}\nzone:", 1), "c.yaml:5:38: fx.convert[0]: USD is the contract's own currency; name others"},
		{"fx twice", strings.Replace(store, "zone:", "fx: {rates: ecb, at: sale, convert: [EUR, EUR]}\nzone:", 1), "c.yaml:5:43: fx.convert[1]: EUR is named twice; keep one"},
		{"fx without rates", strings.Replace(store, "zone:", "fx: {at: sale, convert: all}\nzone:", 1), "c.yaml:5:5: fx: rates is missing; the name of an fx document, such as rates: ecb"},
		{"app twice", strings.Replace(store, "[quill-notes]", "[a, a]", 1), "c.yaml:3:11: apps[1]: a is named twice; keep one"},
		{"currency", strings.Replace(store, "USD", "usd", 1), `c.yaml:4:11: currency: currency "usd": not an ISO 4217 currency code; three capital letters, such as USD`},
		{"zone", strings.Replace(store, "zone: UTC", "zone: Chicago", 1), `c.yaml:5:7: zone: "Chicago" is no time zone; an IANA name, such as America/Chicago or UTC`},
		{"date", strings.Replace(store, "2026-01-01", "1 Jan 2026", 1), `c.yaml:6:19: effective.from: date "1 Jan 2026": want YYYY-MM-DD, such as 2026-10-31`},
		{"until", strings.Replace(store, "2026-01-01", "2026-01-01, until: 2025-01-01", 1), "c.yaml:6:38: effective.until: 2025-01-01 does not lie after 2026-01-01; until is the first day after these terms"},
		{"collects", store + "collects: nobody\n", `c.yaml:9:11: collects: "nobody" is not known here; one of: platform, partner`},
		{"presentation", store + "presentation: gross\n", `c.yaml:9:15: presentation: "gross" is not known here; one of: agent, principal`},
		{"principal collects", store + "collects: partner\npresentation: principal\n", "c.yaml:10:15: presentation: who sells in their own name takes the customers' money; presentation: agent, or collects: platform"},
		{"reserve of nothing", store + "collects: partner\npayout: {reserve: {rate: 5%, release_after: 9 days}}\n", "c.yaml:10:19: payout.reserve: there is nothing to keep back: the partner has the customers' money; leave it out"},
		{"mode", store + "rounding: {mode: half}\n", `c.yaml:9:18: rounding.mode: "half" is not known here; one of: half_up, half_even, up, down`},
		{"places", store + "rounding: {places: 3}\n", "c.yaml:9:20: rounding.places: USD has 2 decimals; want 0 to 2"},
		{"late limit", store + "late_limit_months: 1.5\n", "c.yaml:9:20: late_limit_months: 1.5 is out of range; want a whole number from 0 to 120"},
		{"notice in months", store + "notice: 1 month\n", "c.yaml:9:9: notice: 1 month is no length of notice; count days, from 1 to 366, such as 30 days"},
		{"notice of years", store + "notice: 367 days\n", "c.yaml:9:9: notice: 367 days is no length of notice; count days, from 1 to 366, such as 30 days"},
		{"notice of nothing", store + "notice: 0 days\n", "c.yaml:9:9: notice: a length of zero; leave the field out instead"},
		{"exponent", store + "late_limit_months: 1e1\n", `c.yaml:9:20: late_limit_months: "1e1" is not a plain decimal number; write it like 1_000_000 or 0.0004`},
		{"hex", store + "payout: {minimum: 0x10}\n", `c.yaml:9:19: payout.minimum: "0x10" is not a plain decimal number; write it like 1_000_000 or 0.0004`},
		{"too fine", store + "payout: {minimum: 0.001}\n", "c.yaml:9:19: payout.minimum: 0.001 USD: amount is finer than the currency's minor unit"},
		{"negative", store + "payout: {minimum: -1}\n", "c.yaml:9:19: payout.minimum: -1 is negative; want zero or more"},
		{"flag", store + "payout: {setoff: yes please}\n", `c.yaml:9:18: payout.setoff: "yes please" is not known here; one of: true, false`},
		{"reserve months", store + "payout: {reserve: {rate: 5%, release_after: 3 months}}\n", "c.yaml:9:45: payout.reserve.release_after: months are uneven; count days from the month's end, such as 90 days"},
		{"duration", store + "payout: {reserve: {rate: 5%, release_after: 90}}\n", `c.yaml:9:45: payout.reserve.release_after: "90" is no length of time; write it like 90 days or 12 months`},
		{"no time", store + "payout: {reserve: {rate: 5%, release_after: 0 days}}\n", "c.yaml:9:45: payout.reserve.release_after: a length of zero; leave the field out instead"},
		{"due without days", store + "payout: {due: {period: quarter}}\n", "c.yaml:9:15: payout.due: pay_after is missing; days from the lock day to the due day, such as 15 days"},
		{"due of a week", store + "payout: {due: {period: week, pay_after: 1 day}}\n", `c.yaml:9:24: payout.due.period: "week" is not known here; one of: month, quarter`},
		{"locked by days", store + "payout: {due: {lock_after: 30 days, pay_after: 15 days}}\n", "c.yaml:9:28: payout.due.lock_after: a lock day is the end of a month; whole months, such as 1 month; days go into pay_after"},
		{"locked late", store + "payout: {due: {lock_after: 3 years, pay_after: 15 days}}\n", "c.yaml:9:28: payout.due.lock_after: 36 months; at most 24"},
		{"due after months", store + "payout: {due: {pay_after: 2 months}}\n", "c.yaml:9:27: payout.due.pay_after: months are uneven; days, such as 15 days; whole months go into lock_after"},
		{"due too late", store + "payout: {due: {pay_after: 367 days}}\n", "c.yaml:9:27: payout.due.pay_after: 367 days; at most 366"},
		{"due at once", store + "payout: {due: {pay_after: 0 days}}\n", "c.yaml:9:27: payout.due.pay_after: a length of zero; leave the field out instead"},
		{"due as text", store + "payout: {due: net 45}\n", "c.yaml:9:15: payout.due: want fields, such as `name: value`, not a single value"},
		{"no rule", head + "rules: []\n", "c.yaml:7:8: rules: no rule; a contract prices something"},
		{"no list", head + "rules: store\n", "c.yaml:7:8: rules: want a list, such as [a, b], not a single value"},
		{"rule id twice", store + "  - {id: store, kind: fixed_fee, class: listing, due: once, amount: 1}\n", "c.yaml:9:10: rules[1].id: two rules are called store; give each its own id"},
		{"kind", rule("{id: a, kind: shares}"), `c.yaml:8:19: rules[0].kind: "shares" is not known here; one of: share, usage_fee, fixed_fee, referral, pass_through, split, quality, cap, commitment, guarantee, discount, tax, credit; did you mean share?`},
		{"class", rule("{id: a, kind: share, class: api_v2, of: sale.paid, platform: {rate: 1%}}"), `c.yaml:8:33: rules[0].class: "api_v2" is not known here; one of: certified_api, api, value_added, listing, marketplace, placement, referral, certification, support`},
		{"rule app", rule("{id: a, kind: share, apps: [x], of: sale.paid, platform: {rate: 1%}}"), "c.yaml:8:32: rules[0].apps: x is no app of this contract; add it to the contract's apps"},
		{"text", rule("{id: a, kind: share, text: " + strings.Repeat("x", 81) + ", of: sale.paid, platform: {rate: 1%}}"), "c.yaml:8:32: rules[0].text: 81 characters; a line's text has at most 80"},
		{"overlap", store + "  - {id: deal, kind: share, class: marketplace, of: sale.paid, platform: {rate: 5%}}\n", "c.yaml:9:5: rules[1]: rules store and deal claim the same sales; give them different classes or apps: one share rule per sale"},
		{"bare rate", rule("{id: a, kind: share, of: sale.paid, platform: {rate: 15}}"), `c.yaml:8:58: rules[0].platform.rate: "15" is no percentage; write the % sign, such as 15%`},
		{"rate text", rule("{id: a, kind: share, of: sale.paid, platform: {rate: many%}}"), `c.yaml:8:58: rules[0].platform.rate: "many" is not a plain decimal number; write it like 15% or 2.5%`},
		{"rate range", rule("{id: a, kind: share, of: sale.paid, platform: {rate: 115%}}"), "c.yaml:8:58: rules[0].platform.rate: 115% is out of range; want 0% to 100%"},
		{"no rate", rule("{id: a, kind: share, of: sale.paid, platform: {}}"), "c.yaml:8:51: rules[0].platform: no rate; platform: {rate: 15%}, or tiers and steps"},
		{"rate and tiers", rule("{id: a, kind: share, of: sale.paid, platform: {rate: 1%, tiers: {window: month}}}"), "c.yaml:8:58: rules[0].platform.rate: one rate and a ladder of rates; keep `rate`, or `tiers` with `steps`"},
		{"half a ladder", rule("{id: a, kind: share, of: sale.paid, platform: {tiers: {window: month}}}"), "c.yaml:8:51: rules[0].platform: a ladder needs both `tiers` and `steps`; such as tiers: {window: month}, steps: [{to: 1000, rate: 0%}, {rate: 15%}]"},
		{"of", rule("{id: a, kind: share, of: sale.invoiced, platform: {rate: 1%}}"), `c.yaml:8:30: rules[0].of: "sale.invoiced" is not known here; one of: sale.paid`},
		{"reduce on gross", rule("{id: a, kind: share, of: sale.paid, refunds: reduce_base, platform: {tiers: {window: month}, steps: [{rate: 1%}]}}"), "c.yaml:8:50: rules[0].refunds: reduce_base needs tiers on net sales: on gross a refund moves no total; use `on: net`, or refunds: at_original_rate"},
		{"no step", ladder("[]"), "rules[0].platform.steps: no step; give at least one, such as {rate: …}"},
		{"open middle", ladder("[{rate: 1%}, {rate: 2%}]"), "rules[0].platform.steps[0]: only the last step may be open; give it an end: `to: …`"},
		{"closed end", ladder("[{to: 5, rate: 1%}, {to: 9, rate: 2%}]"), "rules[0].platform.steps[1].to: the last step has an end; leave it open, so that nothing falls beyond the ladder"},
		{"mixed ends", ladder("[{to: 5, rate: 1%}, {below: 9, rate: 2%}, {rate: 3%}]"), "rules[0].platform.steps[1].below: `to` (inclusive) and `below` (exclusive) are mixed in one ladder; use `to` throughout"},
		{"both ends", ladder("[{to: 5, below: 5, rate: 1%}, {rate: 3%}]"), "are mixed in one ladder"},
		{"falling", ladder("[{to: 5, rate: 1%}, {to: 5, rate: 2%}, {rate: 3%}]"), "rules[0].platform.steps[1].to: ends at 5, not above the step before; steps rise from zero without gaps"},
		{"no price", ladder("[{to: 5}, {rate: 3%}]"), "rules[0].platform.steps[0]: rate is missing; what this step costs"},
		{"window", rule("{id: a, kind: share, of: sale.paid, platform: {tiers: {window: decade}, steps: [{rate: 1%}]}}"), `rules[0].platform.tiers.window: "decade" is no window; one of: month, quarter, year, contract year, rolling N months, lifetime since YYYY-MM-DD`},
		{"late lifetime", rule("{id: a, kind: share, of: sale.paid, platform: {tiers: {window: lifetime since 2026-02-01}, steps: [{rate: 1%}]}}"), "the lifetime begins 2026-02-01, after the contract (2026-01-01); sales in between would belong to no tier: let it begin with the contract or before"},
		{"lifetime date", rule("{id: a, kind: share, of: sale.paid, platform: {tiers: {window: lifetime since ever}, steps: [{rate: 1%}]}}"), `date "ever": want YYYY-MM-DD, such as 2026-10-31`},
		{"mode", rule("{id: a, kind: share, of: sale.paid, platform: {tiers: {mode: whole, window: month}, steps: [{rate: 1%}]}}"), `rules[0].platform.tiers.mode: "whole" is not known here; one of: graduated, volume, step`},

		{"no meter", rule("{id: a, kind: usage_fee, price: {model: per_unit, unit: 1}}"), "c.yaml:8:5: rules[0]: nothing is metered; name a meter, or `of: sale.paid` for a percentage"},
		{"meter and of", rule("{id: a, kind: usage_fee, meter: m, of: sale.paid, price: {model: percentage, rate: 1%}}"), "a meter and `of` together; a percentage takes `of`, the other models a meter"},
		{"of per unit", rule("{id: a, kind: usage_fee, of: sale.paid, price: {model: per_unit, unit: 1}}"), "rules[0].of: `of` is for models percentage and graduated_percentage; name a meter"},
		{"model", rule("{id: a, kind: usage_fee, meter: m, price: {model: stairs}}"), `rules[0].price.model: "stairs" is not known here; one of: per_unit, graduated, volume, flat, package, block, percentage, graduated_percentage, multiplier, event_amount, capacity`},
		{"unit", rule("{id: a, kind: usage_fee, meter: m, price: {model: per_unit}}"), "rules[0].price: unit is missing; the price of one, such as 0.001"},
		{"empty percentage", rule("{id: a, kind: usage_fee, of: sale.paid, price: {model: percentage}}"), "rules[0].price: a percentage without rate and fixed amount; such as rate: 2.9%, fixed: 0.30"},
		{"at zero", rule("{id: a, kind: usage_fee, meter: m, per: customer, price: {model: graduated, steps: [{unit: 1}], charge_at_zero: true}}"), "rules[0].price: charge_at_zero needs the window month and per partner or app; otherwise it is not known who used nothing, and when"},

		{"fee class", rule("{id: a, kind: fixed_fee, class: api, due: once, amount: 1}"), `rules[0].class: "api" is not known here; one of: listing, certification, placement, support`},
		{"fee due", rule("{id: a, kind: fixed_fee, class: listing, due: weekly, amount: 1}"), `rules[0].due: "weekly" is not known here; one of: once, monthly, monthly on DD, yearly on MM-DD, every N days, fee.due`},
		{"leap fee", rule("{id: a, kind: fixed_fee, class: listing, due: yearly on 02-29, amount: 1}"), `rules[0].due: "02-29" is no day of every year; write it like yearly on 10-15`},
		{"fee amount", rule("{id: a, kind: fixed_fee, class: listing, due: once}"), "rules[0]: amount is missing; only `due: fee.due` may take it from the event"},
		{"fee amounts", rule("{id: a, kind: fixed_fee, class: listing, due: once, amount: 1, amounts: {x: 1}}"), "rules[0].amounts: amounts by reference need `due: fee.due`; use `amount`"},
		{"fee reference", rule("{id: a, kind: fixed_fee, class: listing, due: once, amount: 1, reference: x}"), "rules[0].reference: a reference needs `due: fee.due`; leave it out"},

		{"same party", rule("{id: a, kind: referral, from: partner, to: quill, flat: 1}"), "rules[0].to: quill pays quill; name two parties"},
		{"no party", rule("{id: a, kind: referral, from: platform, to: zeta, flat: 1}"), "rules[0].to: quill, with whom the contract is, is not a party; let it pay or be paid: `partner`"},
		{"no commission", rule("{id: a, kind: referral, from: platform, to: partner}"), "rules[0]: no commission; flat: 200.00 per converted lead, or percent: 10% of what the customers pay"},
		{"two commissions", rule("{id: a, kind: referral, from: platform, to: partner, flat: 1, percent: 1%}"), "rules[0].percent: flat and percent together; keep one; make a second rule for the other"},
		{"flat term", rule("{id: a, kind: referral, from: platform, to: partner, flat: 1, term: 1 year}"), "rules[0].term: a flat commission has no term; leave it out"},

		{"adjusts", quality("adjusts: stor, bands: [{when: calls > 1, platform_rate: +1 points}]"), "rules[1].adjusts: no share rule is called stor; share rules here: store"},
		{"two quality", quality("adjusts: store, bands: [{when: calls > 1, platform_rate: +1 points}]") + "  - {id: r, kind: quality, adjusts: store, bands: [{when: calls > 1, platform_rate: +1 points}]}\n", "rules[2].adjusts: q adjusts store already; put all bands in one rule"},
		{"no bands", quality("adjusts: store"), "rules[1]: neither gate nor bands nor factors; bands: [{when: availability >= 0.999, platform_rate: -2 points}]"},
		{"points", quality("adjusts: store, bands: [{when: calls > 1, platform_rate: 5%}]"), `rules[1].bands[0].platform_rate: "5%" is no move of a rate; write it like +5 points or -2 points`},
		{"no points", quality("adjusts: store, bands: [{when: calls > 1, platform_rate: +0 points}]"), `"+0 points" moves the rate by nothing or by more than 100 points`},
		{"bounds", quality("adjusts: store, bounds: {min: 9%, max: 8%}, bands: [{when: calls > 1, platform_rate: +1 points}]"), "rules[1].bounds: min 9% is above max 8%; swap them"},
		{"calls", quality("adjusts: store, not_scored_below: 1000, bands: [{when: calls > 1, platform_rate: +1 points}]"), `rules[1].not_scored_below: "1000" is no number of calls; write it like 1000 calls`},
		{"measure", quality("adjusts: store, bands: [{when: availabilty > 0.9, platform_rate: +1 points}]"), "c.yaml:9:59: rules[1].bands[0].when: no measure is called availabilty; did you mean availability?"},
		{"equality", quality("adjusts: store, bands: [{when: calls = 1, platform_rate: +1 points}]"), `c.yaml:9:65: rules[1].bands[0].when: "=" is not expected here; equality is ==`},
		{"quoted", quality("adjusts: store, bands: [{when: \"calls > 'a'\", platform_rate: +1 points}]"), "c.yaml:9:68: rules[1].bands[0].when: > needs a number, not text; compare like with like"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseTerms("c.yaml", []byte(tt.text))
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got:\n%v\nwant:\n%s", err, tt.want)
			}
			var p Problem
			if !errors.As(err, &p) || p.File != "c.yaml" || p.Line < 1 || p.Column < 1 {
				t.Errorf("no Problem with a place: %#v", err)
			}
		})
	}
}

func TestProblemsAreReportedTogetherAndBounded(t *testing.T) {
	text := store
	for i := range 30 {
		text += fmt.Sprintf("x%d: 1\n", i)
	}
	_, err := ParseTerms("c.yaml", []byte(text))
	var ps Problems
	if !errors.As(err, &ps) || len(ps) != MaxProblems+1 {
		t.Fatalf("%d problems: %v", len(ps), err)
	}
	if got := ps[MaxProblems].Problem; got != "10 more problems are not shown" {
		t.Error(got)
	}
	if _, err := ParseTerms("c.yaml", make([]byte, MaxDocument+1)); err == nil || !strings.Contains(err.Error(), "at most 262144 are read") {
		t.Error(err)
	}
}

func TestConditions(t *testing.T) {
	d := func(s string) *Scorecard {
		n, err := parseNumber(s)
		if err != nil {
			t.Fatal(err)
		}
		return &Scorecard{Calls: 1000, Availability: &n, Certification: Certification{State: "due", Tier: 3, OverdueDays: 30}, IncidentsOpen: 2}
	}
	holds := []struct {
		text  string
		avail string
		want  bool
	}{
		{"availability >= 0.999", "0.999", true},
		{"availability >= 0.999", "0.9989999999999999999999999", false}, // equal as a binary double
		{"availability == 0.1 + 0.2", "0.3", true},                      // not so in binary
		{"availability * 1000 >= 999", "0.999", true},
		{"certification.overdue_days > 30", "1", false},
		{"certification.overdue_days >= 30 && incidents.open == 0", "1", false},
		{"certification.overdue_days > 30 || incidents.open - 2 == 0", "1", true},
		{"!(certification.state == 'valid')", "1", true},
		{`certification.state in ["valid", "due"]`, "1", true},
		{`certification.tier in [1, 2]`, "1", false},
		{"incidents.open > -1", "1", true},
		{"true && !false", "1", true},
		{"(availability < 1) == true", "1", false},
		{"calls != 1000 || failed == 0 && slow == 0", "1", true},
	}
	for _, tt := range holds {
		c, err := compileCondition(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if got := c.Holds(d(tt.avail)); got != tt.want {
			t.Errorf("%s at %s is %v", tt.text, tt.avail, got)
		}
	}
	for text, want := range map[string]string{
		"":                               "at 0: the condition ends too early; such as availability >= 0.999",
		"calls":                          "at 0: the condition yields a number; compare it, such as availability >= 0.999",
		"calls > 1e3":                    `at 8: "1e3" is not a plain decimal number; write it like 0.999, without exponent, prefix or suffix`,
		"calls > 0x10":                   `at 8: "0x10" is not a plain decimal number`,
		"calls > 5u":                     `at 8: "5u" is not a plain decimal number`,
		"calls > 1 and slow < 2":         `at 10: "and" is not expected here; write &&`,
		"calls > 1 or slow < 2":          "write ||",
		"calls / 2 > 1":                  "conditions know + - * only",
		"calls > 1 ? true : false":       "conditions know + - * only",
		"certification.state > 'a'":      "at 0: > needs a number, not text; compare like with like",
		"calls && true":                  "at 0: && needs true or false, not a number",
		"!calls":                         "at 1: ! needs true or false, not a number",
		"-(calls > 1) > 2":               "at 2: - needs a number, not true or false",
		"(calls > 1":                     "at 10: a parenthesis is not closed; add )",
		"certification.state == 'x":      "at 23: the quoted text has no end; close the quote",
		`certification.state == "x\n"`:   "escapes are not read",
		"calls in 1":                     "in needs a list",
		"calls in [1":                    "the list has no end",
		"has(calls)":                     "no measure is called has; measures are active_customers,",
		"1.5.2 > calls":                  `"1.5.2" is not a plain decimal number`,
		strings.Repeat("(", 40) + "true": "at 30: nested more than 30 deep",
		strings.Repeat("x", 501):         "a condition of 501 characters; at most 500 are read",
	} {
		if _, err := compileCondition(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}
