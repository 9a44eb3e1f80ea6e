package plain_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"mete/pricing"
)

// head is a contract that says all that a contract as a whole can say, the rules apart.
const head = `contract: northwind-agreement
partner: northwind
apps: [scheduler, reminders]
currency: USD
zone: America/Chicago
effective: {from: 2026-02-01, until: 2027-02-01}
collects: platform
presentation: agent
processor: stripe
rounding: {per: line, mode: half_even, places: 1}
late_limit_months: 6
notice: 30 days
payout: {minimum: 25.00, keep: 10.00, due: {period: quarter, lock_after: 1 month, pay_after: 15 days}, reserve: {rate: 5%, of: earned, release_after: 90 days}, setoff: false}
tiers: restart
rules:
`

// corpus is rules of every kind and model; together they say every field that a rule can
// have. Each is one contract, with what its rules need beside them.
var corpus = []string{
	`- {id: subscriptions, kind: share, of: sale.paid, class: marketplace, apps: [scheduler], text: Subscriptions, platform: {tiers: {mode: graduated, on: net, window: lifetime since 2026-01-01, per: app}, steps: [{to: 1_000_000, rate: 0%}, {to: 2_000_000, rate: 15%}, {rate: 13%}], points: [{by: region, is: us-tx, platform_rate: +0.5 points}]}, refunds: reduce_base}
- {id: other, kind: share, of: sale.paid, class: value_added, platform: {rate: 15%}, refunds: platform_keeps_share}
- {id: cosell, kind: split, of: sale.paid, base: gross, to: {helio: 30%, lumen: 10%}, deals: [D-1, D-2]}`,
	`- {id: subscriptions, kind: share, of: sale.paid, class: marketplace, platform: {rate: 10%}}
- {id: other, kind: share, of: sale.paid, class: value_added, platform: {rate: 15%}}
- {id: trust, kind: quality, adjusts: subscriptions, gate: {require: certification.state == "valid", otherwise: +5 points}, bands: [{when: availability >= 0.999 && incidents.open == 0, platform_rate: -2 points}, {when: (calls > 10) || slow < 5, platform_rate: +1 points}], bounds: {min: 8%, max: 25%}, not_scored_below: 1000 calls}
- {id: factors, kind: quality, adjusts: other, factors: [{when: availability >= 0.9, times: 0.9}, {times: within}], floor: 0.8, cap: 1.2}`,
	`- {id: deals, kind: share, of: sale.paid, class: marketplace, platform: {tiers: {mode: volume, window: contract year, per: deal}, steps: [{below: 1_000_000, rate: 3%}, {rate: 2%}], deals: {D-17: 4_250_000}}}
- {id: tenure, kind: share, of: sale.paid, class: value_added, platform: {tiers: {on: paid_months, grace: 60 days}, steps: [{to: 12, rate: 30%}, {rate: 15%}]}}
- {id: by, kind: share, of: sale.paid, class: api, platform: {by: reference, rates: {new: 3%, renewal: 1.5%}, rate: 2%}}
- {id: infrastructure, kind: pass_through, of: sale.paid, class: support, to: platform}`,
	`- {id: s, kind: share, of: sale.paid, class: api, platform: {tiers: {on: net, window: month}, steps: [{to: 10, rate: 3%}, {rate: 2%}]}}
- {id: u, kind: share, of: sale.paid, class: support, platform: {by: region, rates: {us-tx: 3%}}}
- {id: q, kind: quality, adjusts: s, bands: [{when: "support.open in [1, 2]", platform_rate: +1 point}]}
- {id: partners, kind: pass_through, of: sale.paid, class: value_added, to: partner}`,
	`- {id: u, kind: usage_fee, meter: calls, class: api, per: app, window: quarter, price: {model: per_unit, unit: 0.002}, quantity: {as: sum, multiply_by: 3, divide_by: 1_000, round: up, to: 100, free: 0.5}, cost_basis: ledger 4711, criterion: {basis: cost, text: what it costs}, certified_access: independent, information_source: lakeside, ehi_individual_access: false}
- {id: floor, kind: commitment, on: [u], units: 100, true_up: false, overage: 1.5, window: year, prorate: day}`,
	`- {id: u, kind: usage_fee, meter: calls, price: {model: graduated, steps: [{to: 100_000, unit: 0, flat: 1.00}, {to: 1_000_000, unit: 0.0004, cap: 50.00}, {unit: 0.00025, flat: 100.00}], charge_at_zero: true}}`,
	`- {id: u, kind: usage_fee, meter: seats, price: {model: volume, steps: [{to: 15, unit: 10}, {unit: 5, flat: 1.00}]}, quantity: {as: peak, less: seats_removed}}`,
	`- {id: u, kind: usage_fee, meter: seats, price: {model: flat, steps: [{below: 10, flat: 50.00}, {flat: 200.00}]}, quantity: {as: max, each: day}}`,
	`- {id: u, kind: usage_fee, meter: sms, price: {model: package, size: 100, price: 5.00, partial: down}}`,
	`- {id: u, kind: usage_fee, meter: sms, price: {model: block, steps: [{to: 1_000, size: 100, price: 1.00}, {size: 1_000, price: 0.50}], blocks: top_step}}`,
	`- {id: u, kind: usage_fee, of: sale.paid, price: {model: percentage, rate: 1.3%, fixed: 2.00, free_events: 3, free_amount: 250.00, min: 1.75, max: 12.00}}`,
	`- {id: u, kind: usage_fee, of: sale.paid, price: {model: graduated_percentage, steps: [{to: 1_000, rate: 1%, flat: 2.00}, {rate: 2%}]}}`,
	`- {id: u, kind: usage_fee, meter: cost, price: {model: multiplier, factor: 1.2}}`,
	`- {id: u, kind: usage_fee, meter: tokens, price: {model: event_amount, factor: 2}}`,
	`- {id: u, kind: usage_fee, price: {model: capacity, steps: [{limits: {seats: 100, storage_gb: 50}, price: 10.00}, {price: 30.00}]}}`,
	`- {id: f, kind: fixed_fee, class: listing, due: monthly on 10, amount: 49.00, per: app, prorate: day}
- {id: g, kind: fixed_fee, class: placement, due: yearly on 10-15, amount: 1200.00, charged: in_arrears}
- {id: h, kind: fixed_fee, class: certification, due: fee.due, reference: renewal, amount: 9.00, amounts: {renewal: 250.00, first: 500.00}}
- {id: i, kind: fixed_fee, class: support, due: every 7 days, amount: 5.00}
- {id: ref, kind: referral, from: platform, to: partner, flat: 200.00, attributes: lead, touch: last, window: 90 days, clawback: 60 days}
- {id: leads, kind: referral, class: referral, from: partner, to: helio, percent: 10%, of: sale.paid, term: 12 months, cap: 2000.00}`,
	`- {id: u, kind: usage_fee, meter: calls, price: {model: per_unit, unit: 0.01}}
- {id: off, kind: discount, on: [u], percent: 20%, maximum: 50.00, when: support.open == 0, term: 3 months, window: quarter, prorate: day}`,
	`- {id: s, kind: share, of: sale.paid, platform: {rate: 20%}}
- {id: u, kind: usage_fee, meter: calls, price: {model: per_unit, unit: 0.01}}
- {id: cap, kind: cap, on: [u, s], maximum: 100.00, per: customer, window: year, prorate: day}
- {id: least, kind: commitment, on: [u], minimum: 10.00, window: month}
- {id: sure, kind: guarantee, on: [s, u], minimum: 1_000.00, window: quarter, prorate: day}
- {id: less, kind: discount, on: [u], amount: 35.00}
- {id: vat, kind: tax, on: [u], rate: 20%, jurisdiction: gb}
- {id: free, kind: credit, on: [u], amount: 500.00, granted: yearly, expires: 3 months, maximum: 50.00}`,
}

// wholes are contracts that say, as a whole, what [head] cannot say beside the rest.
var wholes = []string{
	`contract: northwind-customer
partner: northwind
customer: lakeside
currency: USD
zone: UTC
effective: {from: 2026-02-01}
collects: partner
payout: {setoff: true}
rules:
- {id: s, kind: share, of: sale.paid, platform: {rate: 15%}}
`,
	`contract: northwind-deal
partner: northwind
deal: D-17
currency: USD
zone: UTC
effective: {from: 2026-02-01}
presentation: principal
rules:
- {id: s, kind: share, of: sale.paid, basis: invoiced, platform: {rate: 15%}, chargebacks: {fee: partner}}
- {id: f, kind: fixed_fee, class: listing, due: fee.due, amount: 9.00, recognise: over 12 months}
`,
	`contract: northwind-exchange
partner: northwind
currency: USD
zone: UTC
effective: {from: 2026-02-01}
fx: {rates: ecb, at: month_end, convert: [EUR, CAD], markup: 1%}
rules:
- {id: s, kind: share, of: sale.paid, platform: {rate: 15%}}
`,
}

// documents are the contracts of the corpus as trees that can be changed.
func documents(t testing.TB) []any {
	var docs []any
	for _, rules := range corpus {
		docs = append(docs, tree(t, head+rules+"\n"))
	}
	for _, whole := range wholes {
		docs = append(docs, tree(t, whole))
	}
	return docs
}

// grouped is a number with underscores, which YAML readers disagree about.
var grouped = regexp.MustCompile(`[0-9]+(_[0-9]+)+`)

func tree(t testing.TB, text string) any {
	var doc any
	text = grouped.ReplaceAllStringFunc(text, func(s string) string { return strings.ReplaceAll(s, "_", "") })
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	if _, err := parsed(doc); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return doc
}

// parsed is the terms that a tree says; JSON is YAML.
func parsed(doc any) (*pricing.Terms, error) {
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	return pricing.ParseTerms("contract.yaml", text)
}

// clone is a tree with nothing in common with the other.
func clone(t testing.TB, doc any) any {
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// place is one node of a tree: what the schema calls it, and how to change it.
type place struct {
	path string // share.platform.tiers.window, or effective.from outside of rules
	set  func(root any, to any, drop bool)
	now  any
}

// places are all nodes of a tree but the root.
func places(doc any) []place {
	var out []place
	var walk func(n any, path string, reach func(root any) any)
	walk = func(n any, path string, reach func(root any) any) {
		switch n := n.(type) {
		case map[string]any:
			kind, _ := n["kind"].(string)
			for _, k := range slices.Sorted(maps.Keys(n)) {
				sub := k
				switch {
				case path == "rules[]":
					sub = kind + "." + k
				case path != "":
					sub = path + "." + k
				}
				out = append(out, place{path: sub, now: n[k], set: func(root, to any, drop bool) {
					m := reach(root).(map[string]any)
					if drop {
						delete(m, k)
						return
					}
					m[k] = to
				}})
				walk(n[k], sub, func(root any) any { return reach(root).(map[string]any)[k] })
			}
		case []any:
			for i := range n {
				out = append(out, place{path: path + "[]", now: n[i], set: func(root, to any, drop bool) {
					if !drop {
						reach(root).([]any)[i] = to
					}
				}})
				walk(n[i], path+"[]", func(root any) any { return reach(root).([]any)[i] })
			}
		}
	}
	walk(doc, "", func(root any) any { return root })
	return out
}

// shapes are what fields of a shape are tried with; those that do not fit are refused by
// the reader of contracts.
var shapes = []struct {
	like   *regexp.Regexp
	values []any
}{
	{regexp.MustCompile(`^[0-9.]+%$`), []any{"7%", "3.25%"}},
	{regexp.MustCompile(`^[0-9.]+$`), []any{"11", "0.25", "2", "0.5"}},
	{regexp.MustCompile(`^[0-9]{4}-`), []any{"2026-03-01", "2027-04-01"}},
	{regexp.MustCompile(`^[+-]`), []any{"+3 points", "-1 point"}},
	{regexp.MustCompile(`^(true|false)$`), []any{true, false}},
	{regexp.MustCompile(`^[0-9]+ (day|month)`), []any{"7 days", "7 months"}},
	{regexp.MustCompile(`^[0-9]+ calls`), []any{"400 calls"}},
	{regexp.MustCompile(`[=<>]`), []any{"calls > 7", "availability>=0.999", `certification.state != "none"`}},
	{regexp.MustCompile(`month|quarter|year|every|once|rolling|lifetime`), []any{"month", "quarter", "year", "contract year", "contract year from 2026-01-15", "rolling 1 month", "rolling 4 months",
		"lifetime since 2025-12-01", "once", "monthly", "monthly on 3", "every 9 days", "every 1 day", "yearly on 03-04", "yearly", "sale", "over 3 months"}},
	{regexp.MustCompile(``), []any{"EUR", "JPY", "America/Denver", "line", "transaction", "half_up", "half_even", "up", "down", "proceeds", "net_sales", "earned", "gross", "net", "graduated", "volume", "step", "flat",
		"partner", "group", "app", "customer", "subscription", "deal", "platform", "lead", "first", "last", "day", "hour", "in_advance", "in_arrears", "sum", "max", "peak", "weighted", "prorated", "required", "independent",
		"at_original_rate", "reduce_base", "platform_keeps_share", "each_step", "top_step", "region", "dimensions.offer", "other", "cost", "volume", "certified_api", "marketplace", "listing", "support", "scheduler", "reminders", "helio", "slow", "u", "s", "x-1"}},
}

var conditions = regexp.MustCompile(`[=<>]`)

// values are what a field is tried with instead of what it says now.
func values(now any) []any {
	switch now := now.(type) {
	case []any:
		if len(now) < 2 {
			return []any{}
		}
		return []any{now[:len(now)-1], now[1:], reversed(now)}
	case map[string]any:
		out := []any{}
		for _, k := range slices.Sorted(maps.Keys(now)) {
			other := maps.Clone(now)
			delete(other, k)
			other["another"] = now[k]
			out = append(out, other)
		}
		return out
	}
	for _, s := range shapes {
		if s.like.MatchString(fmt.Sprint(now)) {
			if tight := strings.ReplaceAll(fmt.Sprint(now), " ", ""); conditions.MatchString(tight) {
				return append([]any{tight}, s.values...) // the same in another way
			}
			return s.values
		}
	}
	return nil
}

// declared are the fields that a rule of any kind may have, each with two words for it.
var declared = map[string][2]any{
	"class": {"api", "support"}, "apps": {[]any{"scheduler"}, []any{"reminders"}}, "text": {"A", "B"}, "cost_basis": {"A", "B"},
	"criterion":        {map[string]any{"basis": "cost", "text": "A"}, map[string]any{"basis": "other", "text": "A"}},
	"certified_access": {"required", "independent"}, "information_source": {"lakeside", "hillside"}, "ehi_individual_access": {true, false},
}

func reversed(list []any) []any {
	out := slices.Clone(list)
	slices.Reverse(out)
	return out
}

// decoded is what terms say, without their document.
func decoded(t testing.TB, terms *pricing.Terms) string {
	c := *terms
	c.Document = ""
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(string(b), terms.NamesLimit)
}
