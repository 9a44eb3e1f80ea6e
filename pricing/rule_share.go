package pricing

import (
	"fmt"
	"slices"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/partner"
)

const shareDoc = "The platform's part of what customers paid; the rest is the partner's."

// Share is the body of a share rule: a rate, or a ladder of rates.
type Share struct {
	Of      string          `json:"of"`            // sale.paid: cash basis
	Rate    decimal.Decimal `json:"rate,omitzero"` // without tiers
	Tiers   *Tiers          `json:"tiers,omitempty"`
	Steps   Steps           `json:"steps"` // one step without tiers
	Refunds string          `json:"refunds"`
}

// What happens to the platform's part when a sale is refunded or a chargeback lost.
const (
	AtOriginalRate     = "at_original_rate"     // the fee attributed to that sale is given back in proportion
	ReduceBase         = "reduce_base"          // a negative sale at today's rates
	PlatformKeepsShare = "platform_keeps_share" // nothing is given back
)

func decodeShare(c *contract, o *object) any {
	b := &Share{Of: metering.SalePaid, Refunds: AtOriginalRate}
	if f, ok := o.need("of", "of: sale.paid"); ok {
		b.Of, _ = f.oneOf(metering.SalePaid)
	}
	if f, ok := o.need("platform", "platform: {rate: 15%}, or tiers and steps"); ok {
		b.readPlatform(c, f)
	}
	if f, ok := o.get("refunds"); ok {
		b.Refunds, _ = f.oneOf(AtOriginalRate, ReduceBase, PlatformKeepsShare)
		if b.Refunds == ReduceBase && b.Tiers != nil && b.Tiers.On == "gross" {
			f.bad("reduce_base needs tiers on net sales: on gross a refund moves no total", "use `on: net`, or refunds: at_original_rate")
		}
	}
	return b
}

func (b *Share) readPlatform(c *contract, f value) {
	o := c.object(f)
	if o == nil {
		return
	}
	rate, hasRate := o.get("rate")
	tiers, hasTiers := o.get("tiers")
	steps, hasSteps := o.get("steps")
	switch {
	case hasRate && (hasTiers || hasSteps):
		rate.bad("one rate and a ladder of rates", "keep `rate`, or `tiers` with `steps`")
	case hasRate:
		b.Rate, _ = rate.percent()
		b.Steps = Steps{{Rate: b.Rate}}
	case hasTiers && hasSteps:
		t := tiers.tiers(c.terms.From, []string{"gross", "net"}, []string{"partner", "group", "app", "customer"})
		b.Tiers, b.Steps = &t, steps.steps("rate", c.terms.Currency)
	case hasTiers || hasSteps:
		o.bad("a ladder needs both `tiers` and `steps`", "such as tiers: {window: month}, steps: [{to: 1000, rate: 0%}, {rate: 15%}]")
	default:
		o.bad("no rate", "platform: {rate: 15%}, or tiers and steps")
	}
	o.done()
}

// checkShare refuses two share rules that could both claim one sale.
func checkShare(c *contract, r *Rule, at *object) {
	for i := range c.terms.Rules {
		other := &c.terms.Rules[i]
		if other == r {
			return
		}
		if other.Kind == "share" && (r.Class == "" || other.Class == "" || r.Class == other.Class) && appsMeet(r.Apps, other.Apps) {
			at.value.bad(fmt.Sprintf("rules %s and %s claim the same sales", other.ID, r.ID), "give them different classes or apps: one share rule per sale")
		}
	}
}

func appsMeet(a, b []partner.AppID) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	return slices.ContainsFunc(a, func(x partner.AppID) bool { return slices.Contains(b, x) })
}

func shareSchema() schema {
	return schema{
		"of": enum("the event that is shared", metering.SalePaid),
		"platform": object1("the platform's part", schema{
			"rate":  percentSchema("one rate for all"),
			"tiers": tiersSchema([]string{"gross", "net"}, []string{"partner", "group", "app", "customer"}),
			"steps": stepsSchema("rate"),
		}),
		"refunds": enum("what a refund or lost chargeback does to the platform's part", AtOriginalRate, ReduceBase, PlatformKeepsShare),
	}.require("of", "platform")
}

// saleEvent is a sale, refund or lost chargeback with the rule that it falls under.
type saleEvent struct {
	s        *segment
	t        *transaction
	r        *Rule
	body     *Share
	amount   decimal.Decimal
	original *Attribution // of a refund, once known
	app      partner.AppID
	customer partner.CustomerID
}

// priceShares walks all sales of the group in (time, key) order, so that a tier that
// several contracts share fills in the order of the facts. Refunds at the original
// rate look their sale up afterwards.
func priceShares(p *pricer) error {
	var events []saleEvent
	for _, s := range p.segments {
		for i := range s.transactions {
			if t := &s.transactions[i]; t.Type == metering.SalePaid && t.own {
				p.sales[saleKey{s.Terms.Contract, t.Source, t.ID}] = t
			}
		}
	}
	for _, s := range p.segments {
		for i := range s.transactions {
			if e, ok := p.saleEvent(s, &s.transactions[i]); ok {
				events = append(events, e)
			}
		}
	}
	slices.SortStableFunc(events, func(a, b saleEvent) int { return compareEvents(a.t.Transaction, b.t.Transaction) })
	for i := range events {
		if err := p.moveSale(&events[i]); err != nil {
			return err
		}
	}
	for i := range events {
		if e := &events[i]; e.t.Type != metering.SalePaid && e.body.Refunds == AtOriginalRate {
			p.giveBack(e)
		}
	}
	return nil
}

// saleEvent finds the rule that claims the event and says so, or why none does.
func (p *pricer) saleEvent(s *segment, t *transaction) (saleEvent, bool) {
	e := saleEvent{s: s, t: t, app: t.Data.App, customer: t.Customer}
	back := t.Type == metering.SaleRefunded || t.Type == metering.SaleChargebackLost
	if t.Type != metering.SalePaid && !back || t.state == "sandbox" || !t.own {
		return e, false
	}
	app, class := t.Data.App, t.Data.Class
	if sale := p.sales[saleKey{s.Terms.Contract, t.Source, t.Data.RefersTo}]; back && sale != nil {
		app, class = sale.Data.App, sale.Data.Class // it belongs where its sale does
	}
	for i := range s.Terms.Rules {
		r := &s.Terms.Rules[i]
		b, ok := r.Body.(*Share)
		if !ok || !s.about(r, app) {
			continue
		}
		fits := hasClass(r.Class, class)
		if back && t.Data.RefersTo != "" {
			if o := p.originals[originalKey{t.Source, t.Data.RefersTo, s.Terms.Contract, r.ID}]; o != nil {
				e.original, fits = o, true
			}
		}
		if back && class == "" { // a refund may leave the class to its sale
			fits = true
		}
		if fits && (e.r == nil || e.original != nil) {
			e.r, e.body = r, b
		}
		if e.original != nil {
			break
		}
	}
	if e.r == nil {
		return e, false
	}
	var why string
	if e.amount, why = s.amount(t); why != "" {
		t.unpriced(why)
		return e, false
	}
	t.priced(e.r)
	return e, true
}

// moveSale books a sale's money, or a refund's, and the platform's part of a sale.
func (p *pricer) moveSale(e *saleEvent) error {
	s, r := e.s, e.r
	part, sign, text := "sales", decimal.NewFromInt(1), "Sales"
	switch e.t.Type {
	case metering.SaleRefunded:
		part, sign, text = "refunds", decimal.NewFromInt(-1), "Refunds"
	case metering.SaleChargebackLost:
		part, sign, text = "chargebacks", decimal.NewFromInt(-1), "Chargebacks lost"
	}
	l := p.line(s, r, part, "", s.Terms.Partner, partner.Platform)
	l.Text = saleText(r.Text, text)
	l.Count++
	l.behind(e.t.Type)
	is := l.add(text+", before tax", e.amount, sign)
	l.allocate(e.app, e.customer, 1, is)
	if e.t.Data.TaxAmount != nil {
		l.tax(e.t.Data.Region, e.t.Data.TaxAmount.Mul(sign))
	}
	net := e.body.Tiers != nil && e.body.Tiers.On == "net"
	switch {
	case e.t.Type == metering.SalePaid:
		return p.take(e, e.amount)
	case e.body.Refunds == ReduceBase:
		return p.take(e, e.amount.Neg())
	case net:
		scope, _ := p.scope(s, e.body.Tiers.Per, e.app, e.customer)
		t := p.total(s, r.ID, e.body.Tiers.On, scope, e.body.Tiers.Window)
		t.Value = t.Value.Sub(e.amount)
	}
	return nil
}

// shareLine is the line on which the platform's part of the event lands.
func (p *pricer) shareLine(e *saleEvent) *lineBuilder {
	scope := ""
	if e.body.Tiers != nil {
		_, scope = p.scope(e.s, e.body.Tiers.Per, e.app, e.customer)
	}
	l := p.line(e.s, e.r, "share", scope, e.s.Terms.Partner, partner.Platform)
	if l.Text == "" {
		l.Text = "Share"
		if e.r.Text != "" {
			l.Text += ", " + e.r.Text
		}
		l.Rate = e.body.rates()
	}
	l.behind(e.t.Type)
	return l
}

// saleText names a line of money: sales are called what the rule is called.
func saleText(own, standard string) string {
	switch {
	case own == "":
		return standard
	case standard == "Sales":
		return own
	}
	return standard + ", " + own
}

// rates is the ladder for people: "15%", "0% to 15%".
func (b *Share) rates() string {
	var above []string
	for _, s := range b.Steps {
		if t := Percent(s.Rate); s.Rate.IsPositive() && !slices.Contains(above, t) {
			above = append(above, t)
		}
	}
	switch len(above) {
	case 0:
		return "0%"
	case 1:
		return above[0]
	}
	return above[0] + " to " + above[len(above)-1]
}

// take moves the tier total by the amount and takes the platform's part of it: of a
// sale forward, of a refund that reduces the base backward.
func (p *pricer) take(e *saleEvent, amount decimal.Decimal) error {
	at := decimal.Zero
	if e.body.Tiers != nil {
		scope, _ := p.scope(e.s, e.body.Tiers.Per, e.app, e.customer)
		total := p.total(e.s, e.r.ID, e.body.Tiers.On, scope, e.body.Tiers.Window)
		at = total.Value
		total.Value = total.Value.Add(amount)
	}
	p.pieces = e.body.Steps.walk(p.pieces[:0], at, amount)
	l := p.shareLine(e)
	cur := e.s.Terms.Currency
	show := func(d decimal.Decimal) string { return groupedMoney(d, cur) }
	q := p.adjuster(e)
	fee, adjusted, free := decimal.Zero, decimal.Zero, decimal.Zero
	for _, pc := range p.pieces {
		step := e.body.Steps[pc.step]
		fee = fee.Add(l.add(e.body.Steps.span(pc.step, show)+" at "+Percent(step.Rate), pc.part, step.Rate.Neg()).Neg())
		adjusted = adjusted.Add(pc.part.Mul(q.rate(e.app, step.Rate, pc.part)))
		if step.Rate.IsPositive() {
			l.addBase(pc.part)
		} else {
			free = free.Add(pc.part)
		}
	}
	if !free.IsZero() {
		l.free = l.free.Add(free)
		l.freeOf = e.body.freeSpan()
	}
	if e.s.Terms.Round.Per == "transaction" {
		var err error
		if fee, adjusted, err = p.roundEach(e, l, fee, adjusted); err != nil {
			return err
		}
	}
	l.allocate(e.app, e.customer, 0, fee.Neg())
	q.adjust(p, l, e, adjusted.Sub(fee))
	if e.t.Type == metering.SalePaid {
		p.attribute(&Attribution{
			Sale: e.t.Key, Source: e.t.Source, ID: e.t.ID, Contract: e.s.Terms.Contract, Rule: e.r.ID,
			App: e.app, Customer: e.customer, Month: p.in.Month, Amount: amount, Fee: fee, Adjusted: adjusted,
		})
	}
	return nil
}

// freeSpan is the part of the ladder that costs nothing, for people.
func (b *Share) freeSpan() string {
	for i, st := range b.Steps {
		if st.Rate.IsZero() && len(b.Steps) > 1 {
			return " (" + b.Steps.span(i, grouped) + ")"
		}
	}
	return ""
}

// roundEach rounds the platform's part of one sale and writes the difference down.
func (p *pricer) roundEach(e *saleEvent, l *lineBuilder, fee, adjusted decimal.Decimal) (decimal.Decimal, decimal.Decimal, error) {
	f, err := e.s.Terms.Round.money(fee, e.s.Terms.Currency)
	if err != nil {
		return fee, adjusted, fmt.Errorf("%s rule %s: %w", e.s.Terms.Contract, e.r.ID, err)
	}
	a, err := e.s.Terms.Round.money(adjusted, e.s.Terms.Currency)
	if err != nil {
		return fee, adjusted, fmt.Errorf("%s rule %s: %w", e.s.Terms.Contract, e.r.ID, err)
	}
	if diff := f.Decimal().Sub(fee); !diff.IsZero() {
		l.add("rounded sale by sale", diff, decimal.NewFromInt(-1))
	}
	return f.Decimal(), a.Decimal(), nil
}

// attribute keeps what was taken of a sale, for its refunds.
func (p *pricer) attribute(a *Attribution) {
	p.originals[originalKey{a.Source, a.ID, a.Contract, a.Rule}] = a
	p.given = append(p.given, a)
}

// refundPlaces is the precision of a refund's proportion of its sale; a whole refund
// is exactly 1.
const refundPlaces = 24

// giveBack returns the refunded proportion of the fee that was taken of the sale.
func (p *pricer) giveBack(e *saleEvent) {
	o := e.original
	if o == nil {
		o = p.originals[originalKey{e.t.Source, e.t.Data.RefersTo, e.s.Terms.Contract, e.r.ID}]
	}
	l := p.shareLine(e)
	q := p.adjuster(e)
	if o == nil || o.Amount.IsZero() {
		l.note(fmt.Sprintf("%s of %s: its sale is not known here, nothing is given back", e.t.Type, groupedMoney(e.amount, e.s.Terms.Currency)))
		q.adjust(p, l, e, decimal.Zero)
		return
	}
	if e.app == "" {
		e.app, e.customer = o.App, o.Customer
	}
	share := e.amount.DivRound(o.Amount, refundPlaces)
	if share.GreaterThan(decimal.NewFromInt(1)) {
		l.note("a refund exceeds its sale: the fee is given back once")
		share = decimal.NewFromInt(1)
	}
	back, adjusted := o.Fee.Mul(share), o.Adjusted.Mul(share)
	if e.s.Terms.Round.Per == "transaction" {
		r := e.s.Terms.Round
		back, adjusted = r.decimal(back, e.s.Terms.Currency), r.decimal(adjusted, e.s.Terms.Currency)
	}
	l.add("given back at the rate of the sale", back, decimal.NewFromInt(1))
	l.allocate(e.app, e.customer, 0, back)
	q.adjust(p, l, e, adjusted.Sub(back).Neg())
}

// decimal is d rounded, still exact.
func (r Rounding) decimal(d decimal.Decimal, c money.Currency) decimal.Decimal {
	places := c.Digits()
	if r.Places != nil {
		places = *r.Places
	}
	return money.RoundDecimal(d, places, r.Mode)
}
