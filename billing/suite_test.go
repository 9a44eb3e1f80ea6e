package billing_test

import (
	"context"
	"strings"
	"time"
)

// suite is a partner whose contract has the kinds and models that the marketplace of
// the other tests has no place for, and a second version of it within these months.
const suite = `partner: marlow
name: Marlow Suites
---
partner: oakley
name: Oakley Partners
---
apps:
- {id: suite, partner: marlow, name: Suite}
- {id: annex, partner: oakley, name: Annex}
- {id: club, partner: oakley, name: Club}
---
contract: oakley-annex
partner: oakley
apps: [annex]
currency: USD
zone: America/New_York
effective: {from: 2026-01-01}
rounding: {mode: down}
rules:
- {id: store, kind: share, of: sale.paid, basis: invoiced, platform: {tiers: {mode: step, on: proceeds, window: quarter, per: customer}, steps: [{to: 300, rate: 30%}, {rate: 11.1%}], points: [{by: customer, is: mesa, platform_rate: +1 points}]}}
- {id: daily, kind: usage_fee, meter: api_calls, quantity: {as: max, each: day}, price: {model: flat, steps: [{to: 100, flat: 1.00}, {flat: 2.50}]}}
---
contract: oakley-mesa
partner: oakley
customer: mesa
currency: USD
zone: America/New_York
effective: {from: 2026-02-10}
presentation: principal
rules:
- {id: mesa, kind: share, of: sale.paid, class: marketplace, platform: {rate: 4.4%}}
- {id: calls, kind: usage_fee, meter: api_calls, price: {model: per_unit, unit: 0.011}}
---
contract: oakley-club
partner: oakley
apps: [club]
currency: USD
zone: UTC
effective: {from: 2026-01-01}
collects: partner
payout: {setoff: true}
rounding: {per: transaction}
rules:
- {id: store, kind: share, of: sale.paid, platform: {tiers: {on: paid_months, grace: 20 days}, steps: [{to: 2, rate: 30%}, {rate: 15%}]}}
---
meters:
- {id: seats, type: usage.seats, aggregate: quantity}
- {id: gone, type: usage.gone, aggregate: quantity}
---
contract: marlow-suite
partner: marlow
apps: [suite]
currency: USD
zone: America/New_York
effective: {from: 2026-01-05}
payout: {reserve: {rate: 5%, of: proceeds, release_after: 40 days}}
rules:
- {id: store, kind: share, of: sale.paid, class: marketplace, chargebacks: {fee: partner}, platform: {tiers: {mode: volume, on: gross, window: quarter, per: customer}, steps: [{to: 300, rate: 13.7%}, {to: 900, rate: 10%}, {rate: 7.5%}]}}
- {id: with, kind: split, to: {oakley: 33.3%}}
- {id: calls, kind: usage_fee, meter: api_calls, class: api, window: quarter, quantity: {divide_by: 7, round: up, free: 3}, price: {model: volume, steps: [{to: 20, unit: 0.313, flat: 1.00}, {unit: 0.207}]}}
- {id: packs, kind: usage_fee, meter: api_calls, per: customer, window: year, price: {model: package, size: 50, price: 1.99}}
- {id: card, kind: usage_fee, of: sale.paid, window: rolling 2 months, price: {model: percentage, rate: 2.9%, fixed: 0.30, free_events: 3, free_amount: 400.00, min: 0.50, max: 9.00}}
- {id: days, kind: usage_fee, meter: seats, quantity: {as: prorated, less: gone}, per: customer, price: {model: graduated, steps: [{to: 5, unit: 3.33}, {unit: 1.11, flat: 2.00}]}}
- {id: average, kind: usage_fee, meter: seats, quantity: {as: weighted, less: gone}, price: {model: per_unit, unit: 0.77}}
- {id: plan, kind: usage_fee, quantity: {as: max}, price: {model: capacity, steps: [{limits: {seats: 5, gone: 4}, price: 3.00}, {price: 7.00}]}}
- {id: licence, kind: fixed_fee, class: support, due: monthly on 10, prorate: day, amount: 49.99}
- {id: audit, kind: fixed_fee, class: certification, due: fee.due, recognise: over 3 months}
- {id: slot, kind: fixed_fee, class: placement, due: every 45 days, prorate: day, amount: 100.01, recognise: over 4 months}
- {id: less, kind: discount, on: [audit], percent: 3.3%}
- {id: start, kind: discount, on: [calls, packs], percent: 12.5%, term: 2 months}
- {id: most, kind: cap, on: [calls, packs, start], window: quarter, maximum: 1.00, prorate: day}
- {id: least, kind: commitment, on: [days, average], minimum: 25.00, overage: 1.25}
- {id: vat, kind: tax, on: [licence, least], rate: 19%, jurisdiction: gb}
- {id: credits, kind: credit, on: [licence, plan, vat], amount: 30.00, granted: monthly, expires: 2 months}
- {id: floor, kind: guarantee, on: [store], minimum: 900.00, window: quarter}
`

// exchanging is the suite where sales in other currencies are converted; chargebacks
// that count from the day they are opened cannot be.
func exchanging(suite string) string {
	return strings.NewReplacer("chargebacks: {fee: partner}, ", "", "effective: {from: 2026-01-05}\n", "effective: {from: 2026-01-05}\nfx: {rates: ecb, at: month_end, convert: all, markup: 0.75%}\n").Replace(suite)
}

// suiteLater is the next version: another plan, and other prices.
func suiteLater(suite string) string {
	_, contract, _ := strings.Cut(suite, "contract: marlow-suite")
	return "contract: marlow-suite" + strings.NewReplacer("from: 2026-01-05", "from: 2026-03-17", "49.99", "79.99", "100.01", "60.07", "unit: 3.33", "unit: 2.22").Replace(contract)
}

// newSuite is a marketplace with a suite in it.
func newSuite(t tester, suite string) *world {
	t.Helper()
	w := newWorld(t)
	at := time.Date(2025, 12, 2, 15, 0, 0, 0, time.UTC)
	for i, text := range []string{suite, suiteLater(suite)} {
		if err := agree(context.Background(), w.catalogue, text, at.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}
