package review_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/shopspring/decimal"

	"mete/catalogue"
	"mete/period"
	"mete/review"
)

// market is what contracts of these tests stand beside.
const market = `marketplace: m
name: M
zone: UTC
currency: USD
contact: a@m.example
close: {lag: 1 day}
---
partners: [{id: northwind, name: Northwind}, {id: quill, name: Quill}]
---
apps: [{id: scheduler, partner: northwind, name: S}, {id: reminders, partner: northwind, name: R}, {id: notes, partner: quill, name: N}]
---
meters:
  - {id: calls, type: usage.api, aggregate: count}
  - {id: certified, type: usage.api, class: certified_api, aggregate: count}
  - {id: storage, type: usage.storage, aggregate: quantity}
---
sources: [{name: billing, kind: billing, owner: billing, apps: [scheduler, notes]}]
---
referral_code: NW-1
partner: northwind
---
`

// contract is a contract document; more are lines before its rules.
func contract(id, effective, more string, rules ...string) string {
	return fmt.Sprintf("contract: %s\npartner: northwind\ncurrency: USD\nzone: UTC\neffective: {%s}\n%srules:\n  - %s\n---\n", id, effective, more, strings.Join(rules, "\n  - "))
}

// review is what is found in the last contract of the documents, as ID at line:column.
func found(t *testing.T, text string) []review.Finding {
	t.Helper()
	docs := catalogue.Parse("c.yaml", []byte(text))
	if err := docs.Check(); err != nil {
		t.Fatal(err)
	}
	b, err := docs.Beside()
	if err != nil {
		t.Fatal(err)
	}
	last := docs.Objects[len(docs.Objects)-1]
	i := slices.IndexFunc(b.Contracts, func(s catalogue.Standing) bool { return s.Terms == last.Terms })
	return review.Contract(b, b.Contracts[i], review.Settings{Ceiling: decimal.RequireFromString("0.3"), Reference: decimal.NewFromInt(100), On: period.Date{Year: 2026, Month: 10, Day: 2}})
}

// open is the term of most contracts here.
const open = "from: 2026-01-01"

const sales = "{id: sales, kind: share, of: sale.paid, apps: [scheduler], platform: {rate: 20%}}"

// Each finding stands beside a contract that differs in what it is about, and has none.
func TestFindings(t *testing.T) {
	for _, c := range []struct {
		want      string // ID
		field     string
		says      string // a part of what it says
		bad, good string
	}{
		{"time-over", "effective.until", "end before 2026-10-02", contract("a", "from: 2026-01-01, until: 2026-10-02", "", sales), contract("a", "from: 2026-01-01, until: 2026-10-03", "", sales)},
		{"time-gap", "effective.from", "a (c.yaml) ends before 2026-06-01, and these terms begin on 2026-06-02",
			contract("a", "from: 2026-01-01, until: 2026-06-01", "", sales) + contract("a", "from: 2026-06-02", "", sales),
			contract("a", "from: 2026-01-01, until: 2026-06-01", "", sales) + contract("a", "from: 2026-06-01", "", sales)},
		{"time-gap", "effective.from", "from 2026-06-01 to 2026-06-30 no contract of northwind is in force",
			contract("a", "from: 2026-01-01, until: 2026-06-01", "", sales) + contract("b", "from: 2026-07-01", "", sales),
			contract("a", "from: 2026-01-01, until: 2026-07-01", "", sales) + contract("b", "from: 2026-07-01", "", sales)},
		{"notice", "effective.from", "a (c.yaml) promises 30 days of notice, and these terms begin on 2026-10-31: nobody recorded that the partner was told; told today, 2026-10-02, it would have that notice from 2026-11-01 on",
			contract("a", open, "notice: 30 days\n", sales) + contract("a", "from: 2026-10-31", "", sales),
			contract("a", open, "notice: 30 days\n", sales) + contract("a", "from: 2026-11-01", "", sales)},
		{"notice", "effective.from", "a (c.yaml) promises 1 day of notice, and these terms begin on 2026-10-02",
			contract("a", open, "notice: 1 day\n", sales) + contract("a", "from: 2026-10-02", "notice: 2 days\n", sales), // those before promise, not these
			contract("a", open, "", sales) + contract("a", "from: 2026-10-02", "notice: 2 days\n", sales)},
		{"notice", "effective.from", "a (c.yaml) promises 30 days of notice",
			contract("a", "from: 2026-01-01, until: 2026-10-11", "notice: 30 days\n", sales) + contract("a", "from: 2026-10-10", "", sales),
			contract("a", "from: 2026-01-01, until: 2026-10-10", "notice: 30 days\n", sales) + contract("a", "from: 2026-10-10", "", sales)}, // they are over
		{"time-overlap", "effective.from", "they cut it short",
			contract("a", "from: 2026-01-01, until: 2027-01-01", "", sales) + contract("a", "from: 2026-12-01", "", sales),
			contract("a", "from: 2026-01-01", "", sales) + contract("a", "from: 2026-12-01", "", sales)},
		{"time-overlap/sales", "rules[0]", "rule sales and rule s2 of b (c.yaml) both divide the same sales, from 2026-03-01 on",
			contract("b", "from: 2026-03-01", "", strings.Replace(sales, "id: sales", "id: s2", 1)) + contract("a", open, "", sales),
			contract("b", "from: 2026-03-01", "", strings.Replace(sales, "[scheduler]", "[reminders, scheduler], class: api", 1)) + contract("a", open, "", strings.Replace(sales, "kind", "class: support, kind", 1))},
		{"time-overlap/u", "rules[0]", "both charge for the same usage",
			contract("b", open, "", "{id: v, kind: usage_fee, meter: storage, apps: [scheduler], price: {model: per_unit, unit: 1}}") + contract("a", open, "", "{id: u, kind: usage_fee, meter: storage, apps: [scheduler], price: {model: per_unit, unit: 2}}"),
			contract("b", open, "", "{id: v, kind: usage_fee, meter: calls, apps: [scheduler], price: {model: per_unit, unit: 1}}") + contract("a", open, "", "{id: u, kind: usage_fee, meter: storage, apps: [scheduler], price: {model: per_unit, unit: 2}}")},
		{"due-days", "payout.due", "b (c.yaml) is due on the marketplace's pay day, and these terms 30 days after the end of the month: one statement holds both",
			contract("b", open, "", strings.Replace(sales, "[scheduler]", "[reminders]", 1)) + contract("a", open, "payout: {due: {pay_after: 30 days}}\n", sales),
			contract("b", open, "payout: {due: {period: month, pay_after: 30 days}}\n", strings.Replace(sales, "[scheduler]", "[reminders]", 1)) + contract("a", open, "payout: {due: {pay_after: 30 days}}\n", sales)},
		{"due-days", "payout.due", "b (c.yaml) is due 15 days after its lock day, which is the month end 1 month after the end of its calendar quarter, and these terms on the marketplace's pay day",
			contract("b", open, "payout: {due: {period: quarter, lock_after: 1 month, pay_after: 15 days}}\n", strings.Replace(sales, "[scheduler]", "[reminders]", 1)) + contract("a", open, "", sales),
			contract("b", "from: 2025-01-01, until: 2026-01-01", "payout: {due: {pay_after: 30 days}}\n", strings.Replace(sales, "[scheduler]", "[reminders]", 1)) + contract("a", open, "", sales)},
		{"never-applies/u", "rules[0].class", "counts the class certified_api only, and the rule is about api",
			contract("a", open, "", "{id: u, kind: usage_fee, apps: [scheduler], class: api, meter: certified, price: {model: per_unit, unit: 1}}"),
			contract("a", open, "", "{id: u, kind: usage_fee, apps: [scheduler], class: certified_api, meter: certified, price: {model: per_unit, unit: 1}}")},
		{"never-applies/u", "rules[0].apps", "the app notes is quill's",
			contract("a", open, "", "{id: u, kind: usage_fee, apps: [scheduler, notes], meter: storage, price: {model: per_unit, unit: 1}}"),
			contract("a", open, "", "{id: u, kind: usage_fee, apps: [scheduler], meter: storage, price: {model: per_unit, unit: 1}}")},
		{"never-applies/u", "rules[0].apps", "no source may report the apps that it is about: reminders",
			contract("a", open, "", "{id: u, kind: usage_fee, apps: [reminders], meter: storage, price: {model: per_unit, unit: 1}}"),
			contract("a", open, "", "{id: u, kind: usage_fee, apps: [reminders, scheduler], meter: storage, price: {model: per_unit, unit: 1}}")},
		{"never-applies/sales", "rules[0].platform.tiers.per", "northwind is in none",
			contract("a", open, "", "{id: sales, kind: share, of: sale.paid, apps: [scheduler], platform: {tiers: {per: group, window: month}, steps: [{rate: 1%}]}}"),
			contract("a", open, "", "{id: sales, kind: share, of: sale.paid, apps: [scheduler], platform: {tiers: {per: partner, window: month}, steps: [{rate: 1%}]}}")},
		{"never-applies/sales", "rules[0]", "other contracts name every app of northwind (reminders, scheduler)",
			contract("b", open, "", "{id: s, kind: share, of: sale.paid, apps: [scheduler, reminders], platform: {rate: 1%}}") + contract("a", open, "", strings.Replace(sales, "apps: [scheduler], ", "", 1)),
			contract("b", open, "", "{id: s, kind: share, of: sale.paid, apps: [scheduler], platform: {rate: 1%}}") + contract("a", open, "", strings.Replace(sales, "apps: [scheduler], ", "", 1))},
		{"never-applies/f", "rules[0].due", "03-01 is on no day from 2026-11-01 until 2027-02-01",
			contract("a", "from: 2026-11-01, until: 2027-02-01", "", "{id: f, kind: fixed_fee, class: listing, due: yearly on 03-01, amount: 1}"),
			contract("a", "from: 2026-11-01, until: 2027-02-01", "", "{id: f, kind: fixed_fee, class: listing, due: yearly on 01-31, amount: 1}")},
		{"never-applies/g", "rules[1]", "rule f above takes every event of the class listing",
			contract("a", open, "", "{id: f, kind: fixed_fee, class: listing, due: fee.due}", "{id: g, kind: fixed_fee, class: listing, due: fee.due, reference: renewal, amount: 1}"),
			contract("a", open, "", "{id: g, kind: fixed_fee, class: listing, due: fee.due, reference: renewal, amount: 1}", "{id: f, kind: fixed_fee, class: listing, due: fee.due}")},
		{"never-applies/r", "rules[0].cap", "the cap of 100 is below the commission of 200",
			contract("a", open, "", "{id: r, kind: referral, from: platform, to: partner, flat: 200, cap: 100}"),
			contract("a", open, "", "{id: r, kind: referral, from: platform, to: partner, flat: 200, cap: 200}")},
		{"never-applies/r", "rules[0].to", "platform has no referral code",
			contract("a", open, "", "{id: r, kind: referral, from: partner, to: platform, flat: 200}"),
			contract("a", open, "", "{id: r, kind: referral, from: platform, to: partner, flat: 200}")},
		{"never-applies/x", "rules[1]", "none divides sales of its class and apps",
			contract("a", open, "", "{id: sales, kind: share, of: sale.paid, class: support, apps: [scheduler], platform: {rate: 20%}}", "{id: x, kind: split, apps: [scheduler], class: api, to: {quill: 1%}}"),
			contract("a", open, "", sales, "{id: x, kind: split, apps: [scheduler], to: {quill: 1%}}")},
		{"never-applies/q", "rules[1].adjusts", "sales has none",
			contract("a", open, "", "{id: sales, kind: share, of: sale.paid, apps: [scheduler], platform: {rate: 0%}}", "{id: q, kind: quality, adjusts: sales, bands: [{when: calls > 1, platform_rate: +1 point}]}"),
			contract("a", open, "", sales, "{id: q, kind: quality, adjusts: sales, bands: [{when: calls > 1, platform_rate: +1 point}]}")},
		{"unreachable/q", "rules[1].bands[0].when", "availability is never above 1",
			contract("a", open, "", sales, "{id: q, kind: quality, adjusts: sales, bands: [{when: availability >= 99.9, platform_rate: +1 point}]}"),
			contract("a", open, "", sales, "{id: q, kind: quality, adjusts: sales, bands: [{when: availability >= 1, platform_rate: +1 point}]}")},
		{"unreachable/q", "rules[1].bands[0].when", "calls is never below 1000, since fewer calls are not scored",
			contract("a", open, "", sales, "{id: q, kind: quality, adjusts: sales, bands: [{when: calls < 500, platform_rate: +1 point}], not_scored_below: 1000 calls}"),
			contract("a", open, "", sales, "{id: q, kind: quality, adjusts: sales, bands: [{when: calls < 500, platform_rate: +1 point}], not_scored_below: 400 calls}")},
		{"unreachable/q", "rules[1].gate.require", `no certification is ever "passed"`,
			contract("a", open, "", sales, `{id: q, kind: quality, adjusts: sales, gate: {require: certification.state == "passed", otherwise: +1 point}}`),
			contract("a", open, "", sales, `{id: q, kind: quality, adjusts: sales, gate: {require: certification.state == "valid", otherwise: +1 point}}`)},
		{"unreachable/u", "rules[0].price.steps[1]", "no total stands in step 2: the meter counts whole events",
			contract("a", open, "", "{id: u, kind: usage_fee, apps: [scheduler], meter: calls, price: {model: volume, steps: [{to: 10, unit: 1}, {to: 10.5, unit: 2}, {unit: 3}]}}"),
			contract("a", open, "", "{id: u, kind: usage_fee, apps: [scheduler], meter: storage, price: {model: volume, steps: [{to: 10, unit: 1}, {to: 10.5, unit: 2}, {unit: 3}]}}")},
		{"unreachable/u", "rules[0].price.steps[0]", "no total stands in step 1: the quantity is rounded to multiples of 100",
			contract("a", open, "", "{id: u, kind: usage_fee, apps: [scheduler], meter: storage, price: {model: volume, steps: [{to: 50, unit: 1}, {unit: 3}]}, quantity: {round: up, to: 100}}"),
			contract("a", open, "", "{id: u, kind: usage_fee, apps: [scheduler], meter: storage, price: {model: volume, steps: [{to: 100, unit: 1}, {unit: 3}]}, quantity: {round: up, to: 100}}")},
		{"unreachable/t", "rules[0].platform.steps[1]", "paid months are whole",
			contract("a", open, "", "{id: t, kind: share, of: sale.paid, apps: [scheduler], platform: {tiers: {on: paid_months}, steps: [{to: 12, rate: 3%}, {to: 12.5, rate: 2%}, {rate: 1%}]}}"),
			contract("a", open, "", "{id: t, kind: share, of: sale.paid, apps: [scheduler], platform: {tiers: {on: paid_months}, steps: [{below: 12, rate: 3%}, {below: 12.5, rate: 2%}, {rate: 1%}]}}")},
		{"unreachable/u", "rules[0].price.steps[1]", "whatever fits into step 2 fits into step 1",
			contract("a", open, "", "{id: u, kind: usage_fee, apps: [scheduler], price: {model: capacity, steps: [{limits: {storage: 10}, price: 1}, {limits: {storage: 5, calls: 7}, price: 2}, {price: 3}]}}"),
			contract("a", open, "", "{id: u, kind: usage_fee, apps: [scheduler], price: {model: capacity, steps: [{limits: {storage: 10}, price: 1}, {limits: {storage: 20, calls: 7}, price: 2}, {price: 3}]}}")},
		{"take-rate/sales", "rules[0].platform.steps[1].rate", "of a sale of 100.00 USD in step 2 the platform takes up to 30.01, 30.01% of net sales; the ceiling is 30%",
			contract("a", open, "", "{id: sales, kind: share, of: sale.paid, apps: [scheduler], platform: {tiers: {window: month}, steps: [{to: 10, rate: 27%}, {rate: 28%}]}}", "{id: p, kind: usage_fee, of: sale.paid, price: {model: percentage, rate: 1.71%, fixed: 0.30}}"),
			contract("a", open, "", "{id: sales, kind: share, of: sale.paid, apps: [scheduler], platform: {tiers: {window: month}, steps: [{to: 10, rate: 27%}, {rate: 28%}]}}", "{id: p, kind: usage_fee, of: sale.paid, price: {model: percentage, rate: 1.70%, fixed: 0.30}}")},
		{"take-rate/sales", "rules[0].platform.rate", "takes up to 31.00",
			contract("a", open, "", strings.Replace(sales, "20%", "25%", 1), "{id: q, kind: quality, adjusts: sales, bands: [{when: calls > 1, platform_rate: +4 points}, {when: calls > 2, platform_rate: +2 points}]}"),
			contract("a", open, "", strings.Replace(sales, "20%", "25%", 1), "{id: q, kind: quality, adjusts: sales, bands: [{when: calls > 1, platform_rate: +4 points}, {when: calls > 2, platform_rate: +2 points}], bounds: {max: 30%}}")},
	} {
		at := func(list []review.Finding) (out []string) {
			for _, f := range list {
				if f.ID == c.want && f.Field == c.field && strings.Contains(f.What, c.says) {
					out = append(out, f.ID)
				}
				if f.Line < 1 || f.Column < 1 || f.Do == "" || f.Title == "" {
					t.Errorf("%s: no place, title or remedy: %+v", c.want, f)
				}
			}
			return out
		}
		if got := found(t, market+c.bad); len(at(got)) != 1 {
			t.Errorf("%s: want it at %s once (%s), got %+v", c.want, c.field, c.says, got)
		}
		if got := found(t, market+c.good); len(at(got)) != 0 || slices.ContainsFunc(got, func(f review.Finding) bool { return f.ID == c.want && f.Field == c.field }) {
			t.Errorf("%s: it is found where it is not: %+v", c.want, got)
		}
	}
}

// A class is known not to be sent where every source is a log with a class of its own.
func TestClassNobodySends(t *testing.T) {
	const source = "sources: [{name: billing, kind: billing, owner: billing, apps: [scheduler, notes]}]"
	text := contract("a", open, "", "{id: u, kind: usage_fee, class: support, meter: calls, price: {model: per_unit, unit: 1}}")
	for more, want := range map[string]int{"class: api": 1, "class: support": 0, "owner: o": 0} {
		log := "sources: [{name: edge, kind: gateway, owner: edge, mapping: nginx, " + more + "}]"
		if more == "owner: o" {
			log = "sources: [{name: edge, kind: gateway, owner: edge, mapping: nginx}]"
		}
		got := found(t, strings.Replace(market, source, log, 1)+text)
		if len(got) != want || want == 1 && (got[0].Field != "rules[0].class" || !strings.Contains(got[0].What, "no source sends the class support: edge api")) {
			t.Errorf("%s: %+v", more, got)
		}
	}
}

// The length is that of the term sheet without what the statement will show.
func TestLength(t *testing.T) {
	var rules []string
	for i := range 14 {
		rules = append(rules, fmt.Sprintf("{id: f%d, kind: fixed_fee, class: listing, due: monthly, amount: %d}", i, i+1))
	}
	text := contract("a", open, "", rules...)
	got := found(t, market+text)
	if len(got) != 1 || got[0].ID != review.Length || got[0].Blocks || !strings.Contains(got[0].What, "a page has 60") {
		t.Errorf("%+v", got)
	}
	if got := found(t, market+contract("a", open, "", rules[:6]...)); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// A finding names the line and column of the file where its field stands.
func TestPlace(t *testing.T) {
	got := found(t, market+contract("a", open, "", sales, "{id: q, kind: quality, adjusts: sales, bands: [{when: availability > 2, platform_rate: +1 point}]}"))
	lines := strings.Split(market+contract("a", open, "", sales, "{id: q, kind: quality, adjusts: sales, bands: [{when: availability > 2, platform_rate: +1 point}]}"), "\n")
	if len(got) != 1 || !strings.HasPrefix(lines[got[0].Line-1][got[0].Column-1:], "availability > 2") {
		t.Errorf("%+v", got)
	}
}
