package pricing

import (
	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/partner"
)

// Chargebacks say that a chargeback counts from the day it is opened: the processor takes
// the money at once, and it is contested until it is won or lost.
type Chargebacks struct {
	Fee string `json:"fee"` // platform | partner: who bears the processor's fee of a lost one
}

// Contested is how a month moves the money that customers' banks contest: with tax, and
// what processors charged for it. A line of it moves no party's account.
type Contested struct {
	Held money.Amount `json:"held"` // positive: contested; negative: decided
	Fees money.Amount `json:"fees"`
}

// Totals of each sale whose chargeback is not decided: what is contested, with tax, and
// the fees.
const (
	contestedTotal = "contested"
	contestedFees  = "fees of chargeback"
)

func (b *Share) readChargebacks(c *contract, o *object) {
	f, ok := o.get("chargebacks")
	if !ok {
		return
	}
	g := c.object(f)
	if g == nil {
		return
	}
	b.Contest = &Chargebacks{Fee: "platform"}
	if h, ok := g.get("fee"); ok {
		b.Contest.Fee, _ = h.oneOf("platform", "partner")
	}
	g.done()
	if c.terms.Collects == PartnerCollects {
		f.bad("the partner's processor contests the partner's money", "leave it out")
	}
}

// contests reports whether the event opens a chargeback or says that it was won.
func contests(t *transaction) bool {
	return t.Type == metering.SaleChargedBack || t.Type == metering.SaleChargebackWon
}

// contested gathers a line's contested money.
type contested struct{ held, fees decimal.Decimal }

// holdContested writes down what of a line is contested, and says it.
func (b *lineBuilder) holdContested() error {
	if b.contested == nil {
		return nil
	}
	held, err := money.Exact(b.contested.held, b.Currency)
	if err != nil {
		return err
	}
	fees, err := money.Exact(b.contested.fees, b.Currency)
	if err != nil {
		return err
	}
	b.Contested = &Contested{Held: held, Fees: fees}
	b.note("with tax: contested " + held.Grouped() + ", the processors' fees " + fees.Grouped())
	return nil
}

// contestedLine is the line of chargebacks opened and decided.
func (p *pricer) contestedLine(e *saleEvent) *lineBuilder {
	l := p.line(e.s, e.r, "contested", "", e.s.Terms.Partner, partner.Platform)
	l.Text = saleText(e.r.Text, "Chargebacks not decided")
	l.behind(e.t.Type)
	if l.contested == nil {
		l.contested = &contested{}
	}
	return l
}

// held is the sale's total of what is contested or of its fees. It is the contract's, for
// a chargeback may leave out by which the rule of its sale is found.
func (p *pricer) held(e *saleEvent, what string) *Total {
	k := totalKey{e.s.Terms.Contract, "", what, "sale:" + e.t.Source + "/" + e.t.Data.RefersTo}
	if p.totals[k] == nil {
		p.totals[k] = &Total{Contract: k.contract, What: what, Scope: k.scope, Since: p.in.Month.First()}
	}
	return p.totals[k]
}

// decided takes up to so much off what is contested of the sale. With nothing left its
// fees are known in full, and given back for who bears them.
func (p *pricer) decided(e *saleEvent) (held, fees decimal.Decimal) {
	open, cost := p.held(e, contestedTotal), p.held(e, contestedFees)
	held = decimal.Min(e.gross(), open.Value)
	if open.Value = open.Value.Sub(held); open.Value.IsZero() {
		fees = cost.Value
		p.forget(open)
		p.forget(cost)
	}
	return held, fees
}

// gross is the event's amount with its tax.
func (e *saleEvent) gross() decimal.Decimal {
	if e.t.Data.TaxAmount == nil {
		return e.amount
	}
	return e.amount.Add(*e.t.Data.TaxAmount)
}

// cost is the processor's fee of the event.
func (e *saleEvent) cost() decimal.Decimal {
	if e.t.Data.Fee == nil {
		return decimal.Zero
	}
	return *e.t.Data.Fee
}

// contest holds the money of a chargeback that is opened, and frees that of one that was
// won. The fee of a won one stays with us.
func (p *pricer) contest(e *saleEvent) {
	l := p.contestedLine(e)
	l.Count++
	l.allocate(e.app, e.customer, 1, decimal.Zero)
	l.contested.fees = l.contested.fees.Add(e.cost())
	if e.t.Type == metering.SaleChargebackWon {
		held, _ := p.decided(e)
		l.contested.held = l.contested.held.Sub(held)
		return
	}
	open, cost := p.held(e, contestedTotal), p.held(e, contestedFees)
	open.Value, cost.Value = open.Value.Add(e.gross()), cost.Value.Add(e.cost())
	l.contested.held = l.contested.held.Add(e.gross())
}

// lose takes what is lost off what was contested, and charges the fee to who bears it.
func (p *pricer) lose(e *saleEvent) {
	held, fees := p.decided(e)
	if !held.IsZero() || !e.cost().IsZero() {
		l := p.contestedLine(e)
		l.contested.held = l.contested.held.Sub(held)
		l.contested.fees = l.contested.fees.Add(e.cost())
		l.allocate(e.app, e.customer, 0, decimal.Zero)
	}
	fees = fees.Add(e.cost())
	if e.body.Contest.Fee != "partner" || fees.IsZero() {
		return
	}
	l := p.line(e.s, e.r, "chargeback_fee", "", e.s.Terms.Partner, partner.Platform)
	l.Text = saleText(e.r.Text, "Fees of chargebacks lost")
	l.behind(e.t.Type)
	l.allocate(e.app, e.customer, 0, l.add("what the processor charged", fees, one.Neg()))
}
