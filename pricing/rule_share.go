package pricing

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
)

const shareDoc = "The platform's part of what customers paid; the rest is the partner's."

// Share is the body of a share rule: a rate, rates by an attribute of the sale, or a
// ladder of rates. A pass_through rule is a share of all or nothing.
type Share struct {
	Of      string                     `json:"of"`            // sale.paid: cash basis
	Rate    decimal.Decimal            `json:"rate,omitzero"` // without tiers
	By      string                     `json:"by,omitempty"`  // the attribute that chooses the rate
	Rates   map[string]decimal.Decimal `json:"rates,omitempty"`
	Others  bool                       `json:"others,omitempty"` // with By: Rate is for all other values
	Points  []Uplift                   `json:"points,omitempty"`
	Tiers   *Tiers                     `json:"tiers,omitempty"`
	Deals   map[string]decimal.Decimal `json:"deals,omitempty"` // mode volume: what deals are worth in all
	Steps   Steps                      `json:"steps"`           // one step without tiers
	Refunds string                     `json:"refunds"`
	Passes  string                     `json:"passes,omitempty"`      // pass_through: to whom
	Contest *Chargebacks               `json:"chargebacks,omitempty"` // nil: only lost ones move money
	Basis   string                     `json:"basis,omitempty"`       // invoiced: a sale counts when it is invoiced, and is due when it is paid
}

// Uplift moves the rate of sales that have an attribute.
type Uplift struct {
	By     string          `json:"by"`
	Is     string          `json:"is"`
	Points decimal.Decimal `json:"points"`
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
	b.readBasis(c, o)
	b.readChargebacks(c, o)
	return b
}

// checkShare refuses two share rules that could both claim one sale.
func checkShare(c *contract, r *Rule, at *object) {
	for i := range c.terms.Rules {
		other := &c.terms.Rules[i]
		if other == r {
			return
		}
		if _, shares := other.Body.(*Share); shares && (r.Class == "" || other.Class == "" || r.Class == other.Class) && appsMeet(r.Apps, other.Apps) {
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
	deal     string
	money    decimal.Decimal // what it moved: a refund is negative
	taken    decimal.Decimal // the platform's part of it, quality included
	credited decimal.Decimal // of a refund or write-off: what of it was not paid yet
	released decimal.Decimal // the partner's part of that
	settles  bool            // it pays an invoice
}

// sells reports whether the event is a sale, paid or invoiced, and no payment of an invoice.
func (e *saleEvent) sells() bool {
	return e.t.Type == metering.SaleInvoiced || e.t.Type == metering.SalePaid && !e.pays()
}

// takesBack reports whether the event takes a sale back, in full or in part.
func (e *saleEvent) takesBack() bool { return !e.sells() && !e.pays() && !contests(e.t) }

// priceShares walks all sales of the group in (time, key) order, so that a tier that
// several contracts share fills in the order of the facts. Refunds at the original
// rate look their sale up afterwards.
func priceShares(p *pricer) error {
	var events []saleEvent
	for _, s := range p.segments {
		for i := range s.transactions {
			if t := &s.transactions[i]; (t.Type == metering.SalePaid || s.invoices(t)) && t.own {
				p.sales[saleKey{s.Terms.Contract, t.Source, t.ID}] = t
			}
		}
	}
	for _, s := range p.segments {
		for i := range s.transactions {
			e, ok, err := p.saleEvent(s, &s.transactions[i])
			if err != nil {
				return err
			}
			if ok {
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
		if e := &events[i]; e.takesBack() && (e.body.Refunds == AtOriginalRate || e.t.Type == metering.SaleWrittenOff) {
			p.giveBack(e)
		}
	}
	p.sold = slices.DeleteFunc(events, func(e saleEvent) bool { return !e.sells() && !e.takesBack() })
	p.settleVolumes()
	return nil
}

// saleEvent finds the rule that claims the event and says so, or why none does.
func (p *pricer) saleEvent(s *segment, t *transaction) (saleEvent, bool, error) {
	e := saleEvent{s: s, t: t, app: t.Data.App, customer: t.Customer, deal: t.Data.Deal}
	back := t.Type == metering.SaleRefunded || t.Type == metering.SaleChargebackLost || t.Type == metering.SaleWrittenOff || contests(t)
	if t.Type != metering.SalePaid && t.Type != metering.SaleInvoiced && !back || t.state == "sandbox" || !t.own {
		return e, false, nil
	}
	if t.Type == metering.SaleInvoiced && !s.invoices(t) || t.Type == metering.SaleWrittenOff && !s.Terms.Invoices() {
		return e, false, nil
	}
	if t.Type == metering.SalePaid && t.Data.RefersTo != "" {
		if claimed, ok := p.payment(s, t, &e); claimed {
			return e, ok, nil
		}
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
		if contests(t) && b.Contest == nil {
			continue
		}
		fits := hasClass(r.Class, class) && (t.Type != metering.SaleInvoiced || b.Basis == Invoiced)
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
		return e, false, nil
	}
	if taken, err := p.sharedElsewhere(s, t); err != nil {
		return e, false, err
	} else if taken {
		t.state = "elsewhere"
		return e, false, nil
	}
	if back && e.body.Refunds == AtOriginalRate {
		p.convertBack(s, t, e.original)
	}
	var why string
	if e.amount, why = s.amount(t); why == "" && e.rateless() {
		why = "no_rate"
	}
	if why != "" {
		t.unpriced(why)
		return e, false, nil
	}
	if sale := p.sales[saleKey{s.Terms.Contract, t.Source, t.Data.RefersTo}]; back && sale != nil && e.deal == "" {
		e.deal = sale.Data.Deal
	}
	t.priced(e.r)
	return e, true, nil
}

// rateless reports whether no rate is agreed for a sale with its attribute.
func (e *saleEvent) rateless() bool {
	if e.body.By == "" || e.body.Others || !e.sells() {
		return false
	}
	_, ok := e.body.Rates[e.t.attribute(e.body.By)]
	return !ok
}

// moveSale books a sale's money, or a refund's, and the platform's part of a sale.
func (p *pricer) moveSale(e *saleEvent) error {
	s, r := e.s, e.r
	switch {
	case e.pays():
		p.settle(e)
		return nil
	case contests(e.t):
		p.contest(e)
		return nil
	}
	part, sign, text := "sales", decimal.NewFromInt(1), "Sales"
	switch e.t.Type {
	case metering.SaleRefunded:
		part, sign, text = "refunds", decimal.NewFromInt(-1), "Refunds"
	case metering.SaleChargebackLost:
		part, sign, text = "chargebacks", decimal.NewFromInt(-1), "Chargebacks lost"
	case metering.SaleWrittenOff:
		part, sign, text = "written_off", decimal.NewFromInt(-1), "Never paid, written off"
	}
	l := p.line(s, r, part, "", s.Terms.Partner, partner.Platform)
	l.Text = saleText(r.Text, text)
	l.Count++
	l.behind(e.t.Type)
	is := l.addMoney(e.t, text, e.amount, sign)
	e.money = is
	l.allocate(e.app, e.customer, 1, is)
	if s.Terms.Collects == PartnerCollects {
		p.collected(e)
	} else if e.t.Data.TaxAmount != nil {
		l.tax(e.t.Data.Region, e.t.Data.Currency, e.t.Data.TaxAmount.Mul(sign))
	}
	if !e.sells() {
		p.credit(e)
	}
	if e.t.Type == metering.SaleChargebackLost && e.body.Contest != nil {
		p.lose(e)
	}
	tiers := e.body.Tiers
	switch {
	case e.sells():
		return p.take(e, e.amount)
	case tiers != nil && tiers.On == "paid_months":
		p.unpay(e)
	case tiers != nil && tiers.On == "net" && tiers.Mode == "volume" && e.body.Refunds != ReduceBase && !e.known():
		p.lower(e)
	case tiers != nil && tiers.On == "net" && e.body.Refunds != ReduceBase,
		tiers != nil && tiers.On == "proceeds" && e.body.Refunds == PlatformKeepsShare:
		t := p.tierTotal(e)
		t.Value = t.Value.Sub(e.amount)
	}
	if e.body.Refunds != AtOriginalRate {
		p.took(s, r, wentRefund, 0, "")
	}
	if e.body.Refunds == ReduceBase {
		return p.take(e, e.amount.Neg())
	}
	return nil
}

// collected takes off the partner's account what its customers paid it themselves, with
// the tax: what is left there is what it owes us of it.
func (p *pricer) collected(e *saleEvent) {
	l := p.line(e.s, e.r, "collected", "", e.s.Terms.Partner, partner.Platform)
	l.Text = saleText(e.r.Text, "You collected")
	l.behind(e.t.Type)
	l.allocate(e.app, e.customer, 0, l.add("paid to you by your customers", e.money, one.Neg()))
}

// saleScope is the scope of a sale's tier total and of its share line.
func (p *pricer) saleScope(e *saleEvent) (total, line string) {
	switch per := e.body.Tiers.Per; per {
	case "deal":
		total = "deal:" + cmp.Or(e.deal, "none")
		return total, total
	case "subscription":
		return "subscription:" + string(e.app) + "/" + string(e.customer), ""
	default:
		return p.scope(e.s, per, e.app, e.customer)
	}
}

// tierTotal is the running total that decides the event's step.
func (p *pricer) tierTotal(e *saleEvent) running {
	scope, _ := p.saleScope(e)
	return p.total(e.s, e.r.ID, e.body.Tiers.On, scope, e.body.Tiers.Window)
}

// shareLine is the line on which the platform's part of the event lands.
func (p *pricer) shareLine(e *saleEvent) *lineBuilder {
	scope, part, text := "", "share", "Share"
	if e.body.Tiers != nil {
		_, scope = p.saleScope(e)
	}
	if e.body.Passes != "" {
		part, text = "pass_through", "Passed through"
	}
	l := p.line(e.s, e.r, part, scope, e.s.Terms.Partner, partner.Platform)
	if l.Text == "" {
		l.Text = text
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
	steps := b.Steps
	if b.By != "" {
		if !b.Others {
			steps = nil
		}
		for _, value := range sortedKeys(b.Rates) {
			steps = append(steps[:len(steps):len(steps)], TierStep{Rate: b.Rates[value]})
		}
		slices.SortStableFunc(steps, func(x, y TierStep) int { return x.Rate.Cmp(y.Rate) })
	}
	for _, s := range steps {
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
	if e.body.Tiers != nil && e.body.Tiers.Mode == "volume" && !e.known() {
		return p.takeVolume(e, amount)
	}
	steps := e.ladder()
	p.pieces = p.split(e, steps, amount)
	l := p.shareLine(e)
	q := p.adjuster(e)
	fee, adjusted, free := decimal.Zero, decimal.Zero, decimal.Zero
	e.tookPoints(l)
	for _, pc := range p.pieces {
		e.tookStep(l, pc.step)
		step := steps[pc.step]
		fee = fee.Add(l.add(e.stepName(pc.step)+" at "+Percent(step.Rate), pc.part, step.Rate.Neg()).Neg())
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
	if e.bySale() {
		var err error
		if fee, adjusted, err = p.roundEach(e, l, fee, adjusted); err != nil {
			return err
		}
	}
	l.allocate(e.app, e.customer, 0, fee.Neg())
	q.adjust(p, l, e, adjusted.Sub(fee))
	e.taken = adjusted
	if t := e.body.Tiers; t != nil && t.On == "proceeds" {
		total := p.tierTotal(e)
		total.Value = total.Value.Add(amount).Sub(fee)
	}
	if e.sells() {
		p.attribute(e.attribution(p.in.Month, fee, adjusted))
	}
	if e.t.Type == metering.SaleInvoiced {
		p.accrue(e, amount.Sub(adjusted))
	}
	return nil
}

// attribution is what was taken of a sale, for its refunds.
func (e *saleEvent) attribution(m period.Month, fee, adjusted decimal.Decimal) *Attribution {
	a := &Attribution{
		Sale: e.t.Key, Source: e.t.Source, ID: e.t.ID, Contract: e.s.Terms.Contract, Rule: e.r.ID,
		App: e.app, Customer: e.customer, Month: m, Amount: e.amount, Fee: fee, Adjusted: adjusted, Exchange: e.t.rate(),
	}
	if t := e.body.Tiers; t != nil && t.On == "paid_months" {
		a.PaidMonths = e.paidMonths()
	}
	if t := e.body.Tiers; t != nil && t.Per == "deal" {
		a.Deal = e.deal
	}
	return a
}

// split cuts the amount into the steps that it falls in, and moves the tier total.
func (p *pricer) split(e *saleEvent, steps Steps, amount decimal.Decimal) []piece {
	tiers, out := e.body.Tiers, p.pieces[:0]
	switch {
	case tiers == nil:
		return steps.walk(out, decimal.Zero, amount)
	case tiers.On == "paid_months":
		return append(out, piece{max(0, steps.reached(p.pay(e))), amount})
	}
	total := p.tierTotal(e)
	at := total.at()
	if tiers.On != "proceeds" {
		total.Value = total.Value.Add(amount)
	}
	switch {
	case e.known():
		return append(out, piece{max(0, steps.reached(e.body.Deals[e.deal])), amount})
	case tiers.Mode == "step":
		return append(out, piece{max(0, steps.reached(at)), amount})
	}
	return steps.walk(out, at, amount)
}

// known reports whether the sale's deal has a known worth, which decides its step.
func (e *saleEvent) known() bool {
	_, ok := e.body.Deals[e.deal]
	return ok
}

// ladder is the steps that apply to the sale.
func (e *saleEvent) ladder() Steps {
	steps := e.body.Steps
	if e.body.By != "" {
		if rate, ok := e.body.Rates[e.t.attribute(e.body.By)]; ok {
			steps = Steps{{Rate: rate}}
		}
	}
	if len(e.body.Points) == 0 {
		return steps
	}
	return e.uplifted(steps)
}

// stepName is what people call a step of the ladder.
func (e *saleEvent) stepName(i int) string {
	switch t := e.body.Tiers; {
	case e.body.By != "":
		value := e.t.attribute(e.body.By)
		if _, ok := e.body.Rates[value]; !ok {
			return "others"
		}
		return value
	case t != nil && t.On == "paid_months":
		return e.body.Steps.span(i, grouped) + " paid months"
	}
	cur := e.s.Terms.Currency
	return e.body.Steps.span(i, func(d decimal.Decimal) string { return groupedMoney(d, cur) })
}

// uplifted is the steps with the points that the sale's attributes move them by.
func (e *saleEvent) uplifted(steps Steps) Steps {
	points := decimal.Zero
	for _, u := range e.body.Points {
		if e.t.attribute(u.By) == u.Is {
			points = points.Add(u.Points)
		}
	}
	if points.IsZero() {
		return steps
	}
	steps = slices.Clone(steps)
	for i := range steps {
		steps[i].Rate = decimal.Min(one, decimal.Max(decimal.Zero, steps[i].Rate.Add(points)))
	}
	return steps
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
	if o != nil && e.deal == "" {
		e.deal = o.Deal
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
	l.took(wentRefund, 0, "")
	if p.volumeBack(e, o) {
		return
	}
	paid := e.amount.Sub(e.credited) // the rest was never paid: its part is known
	share := paid.DivRound(o.Amount, refundPlaces)
	if share.GreaterThan(decimal.NewFromInt(1)) {
		l.note("a refund exceeds its sale: the fee is given back once")
		share = decimal.NewFromInt(1)
	}
	back, adjusted := o.Fee.Mul(share), o.Adjusted.Mul(share)
	if e.bySale() || e.credited.IsPositive() {
		r := e.s.Terms.Round
		back, adjusted = r.decimal(back, e.s.Terms.Currency), r.decimal(adjusted, e.s.Terms.Currency)
	}
	if e.credited.IsPositive() {
		rest := e.credited.Sub(e.released) // of the partner nothing is left, so this is what we took
		fee := rest
		if !o.Adjusted.IsZero() {
			fee = e.s.Terms.Round.decimal(rest.Mul(o.Fee).DivRound(o.Adjusted, refundPlaces), e.s.Terms.Currency)
		}
		back, adjusted = back.Add(fee), adjusted.Add(rest)
	}
	l.add("given back at the rate of the sale", back, decimal.NewFromInt(1))
	l.allocate(e.app, e.customer, 0, back)
	q.adjust(p, l, e, adjusted.Sub(back).Neg())
	e.taken = adjusted.Neg()
	if t := e.body.Tiers; t != nil && t.On == "proceeds" {
		total := p.tierTotal(e)
		total.Value = total.Value.Sub(e.amount).Add(back)
	}
}

// decimal is d rounded, still exact.
func (r Rounding) decimal(d decimal.Decimal, c money.Currency) decimal.Decimal {
	places := c.Digits()
	if r.Places != nil {
		places = *r.Places
	}
	return money.RoundDecimal(d, places, r.Mode)
}
