package pricing

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
)

// Invoiced is the basis on which a sale counts when it is invoiced. What the partner gets
// of it is accrued: it is not due until the customer pays, and comes to nothing if the
// invoice is written off.
const Invoiced = "invoiced"

// Totals of each invoice that is not paid in full: what is open of it, before tax, and
// what of that is the partner's.
const (
	unpaidTotal  = "unpaid"
	accruedTotal = "accrued"
)

// readBasis reads when a sale counts. On the invoiced basis each invoice has its own
// part, so whatever changes it afterwards is refused.
func (b *Share) readBasis(c *contract, o *object) {
	f, ok := o.get("basis")
	if !ok {
		return
	}
	if s, _ := f.oneOf("paid", Invoiced); s != Invoiced {
		return
	}
	b.Basis = Invoiced
	switch {
	case b.Tiers != nil && b.Tiers.Mode == "volume":
		f.bad("a volume ladder changes what was accrued of invoices before", "basis: paid, or mode: graduated")
	case b.Tiers != nil && b.Tiers.On == "paid_months":
		f.bad("paid months are counted by payments", "basis: paid")
	case b.Refunds == ReduceBase:
		f.bad("a refund at today's rates is not what was accrued of its invoice", "refunds: at_original_rate")
	case c.terms.Collects == PartnerCollects:
		f.bad("the partner invoices and collects: nothing waits with us", "basis: paid")
	case c.terms.Payout.Reserve != nil && c.terms.Payout.Reserve.Of == "net_sales":
		f.bad("a reserve of net sales would be kept of what is not paid", "payout.reserve.of: proceeds")
	}
}

// checkInvoiced refuses to split sales that are not paid: another partner would be paid
// before the customer has.
func checkInvoiced(c *contract, r *Rule, at *object) {
	if c.terms.Invoices() {
		at.value.bad("sales on the invoiced basis are not split", "basis: paid")
	}
}

// Invoices reports whether a rule shares sales when they are invoiced.
func (t *Terms) Invoices() bool {
	return slices.ContainsFunc(t.Rules, func(r Rule) bool {
		b, ok := r.Body.(*Share)
		return ok && b.Basis == Invoiced
	})
}

// invoices reports whether a rule shares the event as an invoice.
func (s *segment) invoices(t *transaction) bool {
	return t.Type == metering.SaleInvoiced && s.own[t.Data.App] && slices.ContainsFunc(s.Terms.Rules, func(r Rule) bool {
		b, ok := r.Body.(*Share)
		return ok && b.Basis == Invoiced && s.about(&r, t.Data.App) && hasClass(r.Class, t.Data.Class)
	})
}

// invoice is the total of an invoice that a payment, refund or write-off is of.
func (p *pricer) invoice(s *segment, rule, what string, t *transaction) *Total {
	return p.totals[totalKey{s.Terms.Contract, rule, what, invoiceScope(t.Source, t.Data.RefersTo)}]
}

func invoiceScope(source, id string) string { return "invoice:" + source + "/" + id }

// pays reports whether the event is the payment of an invoice.
func (e *saleEvent) pays() bool { return e.t.Type == metering.SalePaid && e.settles }

// bySale reports whether the platform's part of each sale is rounded by itself.
func (e *saleEvent) bySale() bool {
	return e.s.Terms.Round.Per == "transaction" || e.t.Type == metering.SaleInvoiced
}

// payment finds the rule under which the sale that is paid was invoiced. It is claimed if
// there is one, here or in another contract of the partner, or if none can be.
func (p *pricer) payment(s *segment, t *transaction, e *saleEvent) (claimed, ok bool) {
	for i := range s.Terms.Rules {
		if r := &s.Terms.Rules[i]; p.invoiced(s, r, t) {
			e.r, e.body, e.settles = r, r.Body.(*Share), true
			var why string
			if e.amount, why = s.amount(t); why != "" {
				t.unpriced(why)
				return true, false
			}
			return true, true
		}
	}
	for _, o := range s.rivals {
		if slices.ContainsFunc(o.Terms.Rules, func(r Rule) bool { return p.invoiced(o, &r, t) }) {
			t.state = "elsewhere"
			return true, false
		}
	}
	if s.Terms.Invoices() {
		t.unpriced("no_open_invoice")
		return true, false
	}
	return false, false
}

// invoiced reports whether the sale that the event refers to was invoiced under the rule,
// and not paid before this month.
func (p *pricer) invoiced(s *segment, r *Rule, t *transaction) bool {
	b, ok := r.Body.(*Share)
	if !ok {
		return false
	}
	if p.invoice(s, r.ID, unpaidTotal, t) != nil {
		return true
	}
	sale := p.sales[saleKey{s.Terms.Contract, t.Source, t.Data.RefersTo}]
	return sale != nil && sale.Type == metering.SaleInvoiced && b.Basis == Invoiced && s.about(r, sale.Data.App) && hasClass(r.Class, sale.Data.Class) &&
		p.has(s.Terms.Contract, sale)
}

// has reports whether a sale of this month is the contract's, and no rival's.
func (p *pricer) has(contract string, sale *transaction) bool {
	for _, s := range p.segments { // the sale may lie in another version
		if s.Terms.Contract == contract && s.events[sale.Key] == sale {
			elsewhere, err := p.sharedElsewhere(s, sale)
			return err == nil && !elsewhere // a tie is told where the sale is priced
		}
	}
	return true // without rivals
}

// accruedLine is the line of what waits for customers' payments.
func (p *pricer) accruedLine(e *saleEvent) *lineBuilder {
	l := p.line(e.s, e.r, "accrued", "", e.s.Terms.Partner, partner.Platform)
	l.Text = saleText(e.r.Text, "Not due until your customers pay")
	l.behind(e.t.Type)
	if l.unpaid == nil {
		l.unpaid = &decimal.Decimal{}
	}
	return l
}

// accrue keeps the partner's part of an invoice until it is paid.
func (p *pricer) accrue(e *saleEvent, part decimal.Decimal) {
	for what, value := range map[string]decimal.Decimal{unpaidTotal: e.amount, accruedTotal: part} {
		t := &Total{Contract: e.s.Terms.Contract, Rule: e.r.ID, What: what, Scope: invoiceScope(e.t.Source, e.t.ID), Since: p.in.Month.First(), Value: value}
		p.totals[totalKey{t.Contract, t.Rule, t.What, t.Scope}] = t
	}
	l := p.accruedLine(e)
	l.allocate(e.app, e.customer, 0, l.add("of invoices not paid yet", part, one.Neg()))
	p.unpaid(l, e, e.amount, one)
}

// unpaid moves what customers have not paid by so much of the event, with its tax.
func (p *pricer) unpaid(l *lineBuilder, e *saleEvent, amount, sign decimal.Decimal) {
	if tax := e.t.Data.TaxAmount; tax != nil && !e.amount.IsZero() {
		amount = amount.Add(e.s.Terms.Round.decimal(tax.Mul(amount).DivRound(e.amount, refundPlaces), e.s.Terms.Currency))
	}
	sum := l.unpaid.Add(amount.Mul(sign))
	l.unpaid = &sum
}

// release takes so much off what is open of the event's invoice, and gives what of it is
// the partner's. What is paid in full leaves nothing.
func (p *pricer) release(e *saleEvent, most decimal.Decimal) (amount, part decimal.Decimal) {
	open, accrued := p.invoice(e.s, e.r.ID, unpaidTotal, e.t), p.invoice(e.s, e.r.ID, accruedTotal, e.t)
	if open == nil || accrued == nil {
		return decimal.Zero, decimal.Zero
	}
	amount = decimal.Min(most, open.Value)
	part = accrued.Value
	if amount.LessThan(open.Value) {
		part = e.s.Terms.Round.decimal(accrued.Value.Mul(amount).DivRound(open.Value, refundPlaces), e.s.Terms.Currency)
	}
	open.Value, accrued.Value = open.Value.Sub(amount), accrued.Value.Sub(part)
	if open.Value.IsZero() {
		p.forget(open)
		p.forget(accrued)
	}
	return amount, part
}

// settle makes due what the payment covers of the partner's part.
func (p *pricer) settle(e *saleEvent) {
	amount, part := p.release(e, e.amount)
	if amount.IsZero() && !e.amount.IsZero() {
		e.t.unpriced("no_open_invoice")
		return
	}
	e.t.priced(e.r)
	l := p.accruedLine(e)
	l.Count++
	l.allocate(e.app, e.customer, 1, l.add("of invoices paid", part, one))
	p.unpaid(l, e, amount, one.Neg())
	if rest := e.amount.Sub(amount); rest.IsPositive() {
		l.note(fmt.Sprintf("%s was paid beyond what invoices had open: nobody's until it is sold or refunded", groupedMoney(rest, e.s.Terms.Currency)))
	}
}

// credit takes a refund or write-off off what its invoice has open.
func (p *pricer) credit(e *saleEvent) {
	e.credited, e.released = p.release(e, e.amount)
	if e.credited.IsZero() {
		return
	}
	l := p.accruedLine(e)
	what := "of invoices " + strings.TrimPrefix(e.t.Type, "sale.")
	if e.t.Type == metering.SaleWrittenOff {
		what = "of invoices written off"
	}
	l.allocate(e.app, e.customer, 0, l.add(what, e.released, one))
	p.unpaid(l, e, e.credited, one.Neg())
}
