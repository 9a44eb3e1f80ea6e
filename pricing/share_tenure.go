package pricing

import (
	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/period"
)

const paidMonths = "paid_months" // months that a subscription has paid for

// paidMonths is how many months a sale pays for: one, unless it says more.
func (e *saleEvent) paidMonths() int { return max(1, e.t.Data.PaidMonths) }

// pay counts the months that a sale pays for, and says which one its first is. A
// subscription that lapsed for longer than its grace begins anew.
func (p *pricer) pay(e *saleEvent) decimal.Decimal {
	scope, _ := p.saleScope(e)
	months := p.standing(e.s, e.r.ID, paidMonths, scope)
	until := p.standing(e.s, e.r.ID, paidUntil, scope)
	day := period.DateOf(e.t.Time, e.s.Terms.Zone)
	if e.t.Type != metering.SalePaid {
		return months.Value
	}
	grace := e.body.Tiers.Grace
	if !grace.IsZero() && months.Value.IsPositive() && grace.after(until.Since).Before(day) {
		months.Value = decimal.Zero
		p.took(e.s, e.r, wentLapse, 0, "")
	}
	which := months.Value.Add(one)
	months.Value = months.Value.Add(decimal.NewFromInt(int64(e.paidMonths())))
	until.Since = day.AddMonths(e.paidMonths())
	return which
}

// unpay takes the months of a sale that is given back in full out of the count.
func (p *pricer) unpay(e *saleEvent) {
	o := e.original
	if o == nil {
		o = p.originals[originalKey{e.t.Source, e.t.Data.RefersTo, e.s.Terms.Contract, e.r.ID}]
	}
	if o == nil || e.amount.LessThan(o.Amount) {
		return
	}
	scope, _ := p.saleScope(e)
	months := p.standing(e.s, e.r.ID, paidMonths, scope)
	months.Value = decimal.Max(decimal.Zero, months.Value.Sub(decimal.NewFromInt(int64(max(1, o.PaidMonths)))))
}
