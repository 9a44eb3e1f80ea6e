package pricing

import (
	"errors"
	"strings"
	"testing"
)

// mistake is a rule that a person can write wrong, and what it is told.
type mistake struct{ name, rule, want string }

// checkMistakes reads each rule behind the beginning of a contract.
func checkMistakes(t *testing.T, begin string, all []mistake) {
	t.Helper()
	for _, m := range all {
		t.Run(m.name, func(t *testing.T) {
			_, err := ParseTerms("c.yaml", []byte(begin+"  - "+m.rule+"\n"))
			if err == nil || !strings.Contains(err.Error(), m.want) {
				t.Errorf("got:\n%v\nwant:\n%s", err, m.want)
			}
			var p Problem
			if !errors.As(err, &p) || p.Line < 8 || p.Column < 1 {
				t.Errorf("no Problem with a place: %#v", err)
			}
		})
	}
}

func TestProblemsOfUsageFee(t *testing.T) {
	checkMistakes(t, head+"rules:\n", []mistake{
		{`package size`, `{id: a, kind: usage_fee, meter: m, price: {model: package, price: 5}}`, `rules[0].price: size is missing; how many are in a package, such as 100`},
		{`empty package`, `{id: a, kind: usage_fee, meter: m, price: {model: package, size: 0, price: 5}}`, `rules[0].price.size: 0 is not above zero; want more than zero`},
		{`partial`, `{id: a, kind: usage_fee, meter: m, price: {model: package, size: 10, price: 5, partial: half}}`, `rules[0].price.partial: "half" is not known here; one of: up, down`},
		{`volume steps`, `{id: a, kind: usage_fee, meter: m, price: {model: volume}}`, `rules[0].price: steps is missing; such as [{to: 1000, unit: 0.002}, {unit: 0.001}]`},
		{`cap of volume`, `{id: a, kind: usage_fee, meter: m, price: {model: volume, steps: [{unit: 1, cap: 5}]}}`, `rules[0].price.steps[0].cap: no such field`},
		{`flat unit`, `{id: a, kind: usage_fee, meter: m, price: {model: flat, steps: [{unit: 1}]}}`, `rules[0].price.steps[0]: flat is missing; what this step costs`},
		{`blocks`, `{id: a, kind: usage_fee, meter: m, price: {model: block, blocks: top, steps: [{size: 5, price: 1}]}}`, `rules[0].price.blocks: "top" is not known here; one of: each_step, top_step`},
		{`free events`, `{id: a, kind: usage_fee, of: sale.paid, price: {model: percentage, rate: 1%, free_events: 0}}`, `rules[0].price.free_events: 0 is out of range; want a whole number from 1 to 1000000000`},
		{`min and max`, `{id: a, kind: usage_fee, of: sale.paid, price: {model: percentage, rate: 1%, min: 5, max: 4}}`, `rules[0].price.min: min 5 is above max 4; swap them`},
		{`factor`, `{id: a, kind: usage_fee, meter: m, price: {model: multiplier}}`, `rules[0].price: factor is missing; such as 1.2`},
		{`capacity meter`, `{id: a, kind: usage_fee, meter: m, price: {model: capacity, steps: [{limits: {m: 1}, price: 1}, {price: 2}]}}`, "rules[0].meter: capacities name their meters in `limits`; leave it out"},
		{`open capacity`, `{id: a, kind: usage_fee, price: {model: capacity, steps: [{price: 1}, {price: 2}]}}`, `rules[0].price.steps[0]: only the last step may be without limits; limits: {METER: …}`},
		{`closed capacity`, `{id: a, kind: usage_fee, price: {model: capacity, steps: [{limits: {m: 1}, price: 1}]}}`, `rules[0].price.steps[0]: the last step has limits; leave them out, so that nothing falls beyond the ladder`},
		{`no limits`, `{id: a, kind: usage_fee, price: {model: capacity, steps: [{price: 1}]}}`, `rules[0].price.steps: no meter is limited`},
		{`figure`, `{id: a, kind: usage_fee, meter: m, quantity: {as: mean}, price: {model: per_unit, unit: 1}}`, `rules[0].quantity.as: "mean" is not known here; one of: sum, max, last, peak, weighted, prorated`},
		{`less of a sum`, `{id: a, kind: usage_fee, meter: m, quantity: {less: n}, price: {model: per_unit, unit: 1}}`, `rules[0].quantity.less: only a level is lowered; as: peak, weighted or prorated`},
		{`rounded to`, `{id: a, kind: usage_fee, meter: m, quantity: {to: 10}, price: {model: per_unit, unit: 1}}`, `rules[0].quantity.to: a step to round to, but no way to round; round: up, down, half_up or half_even`},
		{`figure of a year`, `{id: a, kind: usage_fee, meter: m, window: year, quantity: {as: max}, price: {model: per_unit, unit: 1}}`, `rules[0].window: the max of usage is a figure of one month; leave the window out`},
		{`prorated package`, `{id: a, kind: usage_fee, meter: m, quantity: {as: prorated}, price: {model: package, size: 1, price: 1}}`, `rules[0].quantity: model package cannot be charged by days; models: per_unit, graduated, volume`},
		{`prorated and free`, `{id: a, kind: usage_fee, meter: m, quantity: {as: prorated, free: 5}, price: {model: per_unit, unit: 1}}`, `rules[0].quantity: a prorated quantity is neither converted nor rounded nor free; give a first step at 0 for what is free`},
		{`quantity of money`, `{id: a, kind: usage_fee, of: sale.paid, quantity: {free: 5}, price: {model: percentage, rate: 1%}}`, `rules[0].quantity: model percentage prices money, not a quantity; leave it out`},
		{`rolling`, `{id: a, kind: usage_fee, meter: m, window: rolling 99 months, price: {model: per_unit, unit: 1}}`, `rules[0].window: a rolling window of 99 months; want 1 to 60`},
	})
}

func TestProblemsOfCycles(t *testing.T) {
	checkMistakes(t, head+"rules:\n", []mistake{
		{`cycle day`, `{id: a, kind: fixed_fee, class: listing, due: monthly on 32, amount: 1}`, `rules[0].due: "32" is no day of a month; write it like monthly on 10; a shorter month takes its last day`},
		{`every`, `{id: a, kind: fixed_fee, class: listing, due: every 0 days, amount: 1}`, `rules[0].due: a fee every 0 days; want 1 to 366`},
		{`prorated once`, `{id: a, kind: fixed_fee, class: listing, due: once, amount: 1, prorate: day}`, `rules[0].prorate: only a fee that recurs is prorated; due: monthly, yearly on MM-DD or every N days`},
		{`arrears by event`, `{id: a, kind: fixed_fee, class: listing, due: fee.due, charged: in_arrears}`, `rules[0].charged: only a fee that recurs is charged in advance or in arrears; leave it out`},
		{`earned in arrears`, `{id: a, kind: fixed_fee, class: listing, due: monthly, amount: 1, charged: in_arrears, recognise: over 3 months}`, `rules[0].recognise: what is charged in arrears has been earned; recognise: at once, or charged: in_advance`},
		{`earned by days`, `{id: a, kind: fixed_fee, class: listing, due: once, amount: 1, recognise: over 90 days}`, `rules[0].recognise: a fee is earned by whole months; at once, or over a number of months: over 12 months`},
		{`earned for ever`, `{id: a, kind: fixed_fee, class: listing, due: once, amount: 1, recognise: over 11 years}`, `rules[0].recognise: a fee earned over 132 months; want 1 to 120`},
		{`earned somehow`, `{id: a, kind: fixed_fee, class: listing, due: once, amount: 1, recognise: later}`, `rules[0].recognise: "later" is not known here; at once, or over a number of months: over 12 months`},
		{`earned apart`, "{id: a, kind: fixed_fee, class: listing, due: once, amount: 1, recognise: over 3 months}\n  - {id: b, kind: fixed_fee, class: support, due: once, amount: 1}\n  - {id: most, kind: cap, on: [a, b], maximum: 1}", `rules[2].on: a and b are not earned over the same time; give each its own rule`},
		{`arrears by days`, `{id: a, kind: fixed_fee, class: listing, due: every 7 days, amount: 1, prorate: day, charged: in_arrears}`, `rules[0].charged: in arrears only calendar months are prorated; due: monthly, or charged: in_advance`},
	})
}

func TestProblemsOfFollowers(t *testing.T) {
	checkMistakes(t, store, []mistake{
		{`cap of nothing`, `{id: a, kind: cap, maximum: 5}`, `rules[1]: on is missing; the ids of rules above, such as on: [api-calls]`},
		{`cap of unknown`, `{id: a, kind: cap, on: [stor], maximum: 5}`, `rules[1].on: no rule above is called stor; rules above: store`},
		{`cap of itself`, `{id: a, kind: cap, on: [a], maximum: 5}`, `rules[1].on: no rule above is called a; rules above: store`},
		{`named twice`, `{id: a, kind: cap, on: [store, store], maximum: 5}`, `rules[1].on[1]: store is named twice; keep one`},
		{`no rule named`, `{id: a, kind: cap, on: [], maximum: 5}`, `rules[1].on: no rule is named; the ids of rules above`},
		{`rolling cap`, `{id: a, kind: cap, on: [store], maximum: 5, window: rolling 2 months}`, `rules[1].window: a rolling window never ends; one of: month, quarter, year, contract year, lifetime since YYYY-MM-DD`},
		{`prorated lifetime`, `{id: a, kind: cap, on: [store], maximum: 5, window: lifetime since 2026-01-01, prorate: day}`, `rules[1].prorate: a lifetime has no number of days; leave it out`},
		{`no minimum`, `{id: a, kind: commitment, on: [store]}`, `rules[1]: no minimum; minimum: 100.00, or units: 1_000 of a usage fee`},
		{`two minimums`, `{id: a, kind: commitment, on: [store], minimum: 1, units: 1}`, `rules[1].units: a minimum in money and one in units; keep one`},
		{`units of a share`, `{id: a, kind: commitment, on: [store], units: 1}`, "rules[1].units: store has no price for units; use `minimum`"},
		{`overage`, `{id: a, kind: commitment, on: [store], minimum: 1, overage: 0.5}`, `rules[1].overage: an overage factor below 1; what is beyond the minimum costs its price times this, such as 1.5`},
		{`endless commitment`, `{id: a, kind: commitment, on: [store], minimum: 1, window: lifetime since 2026-01-01}`, `rules[1].window: a lifetime has no end at which the rest is charged; one of: month, quarter, year, contract year`},
		{`endless guarantee`, `{id: a, kind: guarantee, on: [store], minimum: 1, window: lifetime since 2026-01-01}`, `rules[1].window: a lifetime has no end at which the rest is paid; one of: month, quarter, year, contract year`},
		{`no reduction`, `{id: a, kind: discount, on: [store]}`, `rules[1]: no reduction; percent: 20%, or amount: 35.00`},
		{`two reductions`, `{id: a, kind: discount, on: [store], percent: 1%, amount: 1}`, `rules[1].percent: percent and amount together; keep one; make a second rule for the other`},
		{`maximum of an amount`, `{id: a, kind: discount, on: [store], amount: 1, maximum: 1}`, `rules[1].maximum: an amount is its own maximum; leave it out`},
		{`discount for days`, `{id: a, kind: discount, on: [store], percent: 1%, term: 10 days}`, `rules[1].term: a discount holds for whole months; such as 3 months`},
		{`discount when`, `{id: a, kind: discount, on: [store], percent: 1%, when: availabilty > 0.9}`, `rules[1].when: no measure is called availabilty; did you mean availability?`},
		{`credit for days`, `{id: a, kind: credit, on: [store], amount: 1, expires: 10 days}`, `rules[1].expires: credit is used by whole months; such as 3 months; the month of the grant is the first`},
		{`negative credit`, `{id: a, kind: credit, on: [store], amount: -1}`, `rules[1].amount: -1 is negative; want zero or more`},
		{`tax`, `{id: a, kind: tax, on: [store], rate: 20%}`, `rules[1]: jurisdiction is missing; to whom it is owed, such as gb or us-tx`},
	})
}

func TestProblemsOfSales(t *testing.T) {
	checkMistakes(t, head+"rules:\n", []mistake{
		{`proceeds`, `{id: a, kind: share, of: sale.paid, platform: {tiers: {mode: graduated, on: proceeds, window: year}, steps: [{rate: 1%}]}}`, `rules[0].platform.tiers.mode: proceeds decide the rate of the next sale; mode: step`},
		{`window of months`, `{id: a, kind: share, of: sale.paid, platform: {tiers: {on: paid_months, window: year}, steps: [{rate: 1%}]}}`, `rules[0].platform.tiers.window: paid months are counted from the first; leave it out; a grace ends a subscription that lapses`},
		{`by and steps`, `{id: a, kind: share, of: sale.paid, platform: {by: region, tiers: {window: year}, steps: [{rate: 1%}]}}`, "rules[0].platform.by: rates by attribute and a ladder of rates; keep `by` with `rates`, or `tiers` with `steps`"},
		{`attribute`, `{id: a, kind: share, of: sale.paid, platform: {by: colour, rates: {red: 1%}}}`, `rules[0].platform.by: "colour" is no attribute of a sale; one of: region, reference, deal, operation, unit, class, app, customer, dimensions.NAME`},
		{`no rates`, `{id: a, kind: share, of: sale.paid, platform: {by: region}}`, `rules[0].platform: rates is missing; such as rates: {renewal: 1.5%, new: 3%}`},
		{`points of volume`, `{id: a, kind: share, of: sale.paid, platform: {tiers: {mode: volume, window: year}, steps: [{rate: 1%}], points: [{by: region, is: x, platform_rate: +1 points}]}}`, `rules[0].platform.points: a volume ladder has one rate for all sales; make a rule for each class, or mode: graduated`},
		{`deals of a partner`, `{id: a, kind: share, of: sale.paid, platform: {tiers: {mode: volume, window: year}, steps: [{rate: 1%}], deals: {d: 5}}}`, `rules[0].platform.deals: the worth of deals chooses a step of tiers per deal; tiers: {mode: volume, per: deal, …}`},
		{`passed and shared`, "{id: a, kind: pass_through, of: sale.paid, to: platform}\n  - {id: b, kind: share, of: sale.paid, platform: {rate: 1%}}", `rules[1]: rules a and b claim the same sales; give them different classes or apps: one share rule per sale`},
		{`passed to`, `{id: a, kind: pass_through, of: sale.paid, to: helio}`, `rules[0].to: "helio" is not known here; one of: platform, partner`},
		{`split to nobody`, `{id: a, kind: split, to: {}}`, `rules[0].to: nobody gets a part; such as to: {helio: 30%}`},
		{`split to itself`, `{id: a, kind: split, to: {quill: 30%}}`, `rules[0].to.quill: quill is a party already; name other partners; the rest stays with the contract's`},
		{`split beyond`, `{id: a, kind: split, to: {helio: 60%, nord: 50%}}`, `rules[0].to: the parts add up to 110%; 100% at most; the rest stays with the contract's partner`},
	})
}

func TestProblemsOfInvoices(t *testing.T) {
	const begin = "contract: c\npartner: quill\napps: [a]\ncurrency: USD\nzone: UTC\neffective: {from: 2026-01-01}\n"
	checkMistakes(t, begin+"rules:\n", []mistake{
		{`volume`, `{id: a, kind: share, of: sale.paid, basis: invoiced, platform: {tiers: {mode: volume, window: year}, steps: [{rate: 1%}]}}`, `rules[0].basis: a volume ladder changes what was accrued of invoices before; basis: paid, or mode: graduated`},
		{`paid months`, `{id: a, kind: share, of: sale.paid, basis: invoiced, platform: {tiers: {on: paid_months}, steps: [{rate: 1%}]}}`, `rules[0].basis: paid months are counted by payments; basis: paid`},
		{`reduce`, `{id: a, kind: share, of: sale.paid, basis: invoiced, refunds: reduce_base, platform: {rate: 1%}}`, `rules[0].basis: a refund at today's rates is not what was accrued of its invoice; refunds: at_original_rate`},
		{`split`, "{id: a, kind: share, of: sale.paid, basis: invoiced, platform: {rate: 1%}}\n  - {id: b, kind: split, to: {helio: 30%}}", `rules[1]: sales on the invoiced basis are not split; basis: paid`},
		{`basis`, `{id: a, kind: share, of: sale.paid, basis: accrual, platform: {rate: 1%}}`, `rules[0].basis: "accrual" is not known here; one of: paid, invoiced`},
	})
	checkMistakes(t, begin+"collects: partner\nrules:\n", []mistake{{`contested`, `{id: a, kind: share, of: sale.paid, chargebacks: {fee: partner}, platform: {rate: 1%}}`, `rules[0].chargebacks: the partner's processor contests the partner's money; leave it out`},
		{`collects`, `{id: a, kind: share, of: sale.paid, basis: invoiced, platform: {rate: 1%}}`, `rules[0].basis: the partner invoices and collects: nothing waits with us; basis: paid`}})
	checkMistakes(t, begin+"payout: {reserve: {rate: 5%, of: net_sales, release_after: 9 days}}\nrules:\n", []mistake{{`reserve`, `{id: a, kind: share, of: sale.paid, basis: invoiced, platform: {rate: 1%}}`, `rules[0].basis: a reserve of net sales would be kept of what is not paid; payout.reserve.of: proceeds`}})
}

func TestProblemsOfFactors(t *testing.T) {
	checkMistakes(t, store, []mistake{
		{"times", `{id: q, kind: quality, adjusts: store, factors: [{when: calls > 1, times: -1}]}`, `rules[1].factors[0].times: -1 is negative; want zero or more`},
		{"times a word", `{id: q, kind: quality, adjusts: store, factors: [{times: certification.state}]}`, `rules[1].factors[0].times: "certification.state" is not a plain decimal number`},
		{"floor", `{id: q, kind: quality, adjusts: store, factors: [{when: calls > 1, times: 1}], floor: 2, cap: 1}`, `rules[1].floor: floor 2 is above cap 1; swap them`},
		{"floor of nothing", `{id: q, kind: quality, adjusts: store, floor: 2, bands: [{when: calls > 1, platform_rate: +1 points}]}`, `rules[1].floor: no such field`},
	})
}
