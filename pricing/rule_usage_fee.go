package pricing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
)

const usageFeeDoc = "What the partner pays for metered usage, or per event on money that moves."

// UsageFee is the body of a usage fee.
type UsageFee struct {
	Meter    string    `json:"meter,omitempty"` // what counts; or
	Of       string    `json:"of,omitempty"`    // the events of a percentage, sale.paid
	Per      string    `json:"per"`             // partner | app | customer: each begins its own ladder and line
	Window   Window    `json:"window"`
	Price    Model     `json:"price"`
	Quantity *Quantity `json:"quantity,omitempty"` // nil: the sum of all usage
}

// Meters are those that the fee reads, sorted.
func (b *UsageFee) Meters() []string {
	ids := b.Price.Meters()
	if b.Meter != "" {
		ids = append(ids, b.Meter)
	}
	if b.Quantity != nil && b.Quantity.Less != "" {
		ids = append(ids, b.Quantity.Less)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// EachEvent reports whether the fee looks at usage events one by one.
func (b *UsageFee) EachEvent() bool { return b.Price.eachEvent() || b.Quantity.eachEvent() }

func decodeUsageFee(c *contract, o *object) any {
	b := &UsageFee{Per: "partner", Window: Window{Kind: "month"}}
	meter, hasMeter := o.get("meter")
	of, hasOf := o.get("of")
	if hasMeter {
		b.Meter, _ = meter.text()
	}
	if hasOf {
		b.Of, _ = of.oneOf(metering.SalePaid)
	}
	if f, ok := o.need("price", "price: {model: per_unit, unit: 0.001}"); ok {
		b.readPrice(c, f)
	}
	money := b.Price.Model == "percentage" || b.Price.Model == "graduated_percentage"
	switch {
	case hasMeter && hasOf:
		of.bad("a meter and `of` together", "a percentage takes `of`, the other models a meter")
	case hasOf && !money && b.Price.Model != "":
		of.bad("`of` is for models percentage and graduated_percentage", "name a meter")
	case b.Price.Model == "capacity" && hasMeter:
		meter.bad("capacities name their meters in `limits`", "leave it out")
	case !hasMeter && !hasOf && b.Price.Model != "capacity":
		o.bad("nothing is metered", "name a meter, or `of: sale.paid` for a percentage")
	}
	if f, ok := o.get("per"); ok {
		b.Per, _ = f.oneOf("partner", "app", "customer")
	}
	if f, ok := o.get("window"); ok {
		b.Window = f.window(c.terms.From)
	}
	if f, ok := o.get("quantity"); ok {
		b.readQuantity(c, f)
	}
	b.checkFigure(o)
	if b.Price.ChargeAtZero && (b.Per == "customer" || b.Window.Kind != "month") {
		o.at("price").bad("charge_at_zero needs the window month and per partner or app", "otherwise it is not known who used nothing, and when")
	}
	return b
}

// checkFigure refuses figures of a month that the model or the window cannot have.
func (b *UsageFee) checkFigure(o *object) {
	q, model := b.Quantity, b.Price.Model
	switch {
	case q == nil:
	case b.ofMoney():
		o.at("quantity").bad("model "+model+" prices money, not a quantity", "leave it out")
	case b.Quantity.eachEvent() && b.Window.Kind != "month":
		o.at("window").bad("the "+q.As+" of usage is a figure of one month", "leave the window out")
	case q.Each != "" && (model == "capacity" || b.Price.ChargeAtZero):
		o.at("quantity").bad("neither capacities nor charge_at_zero know single "+q.Each+"s", "leave `each` out")
	case q.As == "prorated" && model != "per_unit" && model != "graduated" && model != "volume":
		o.at("quantity").bad("model "+model+" cannot be charged by days", "models: per_unit, graduated, volume")
	case q.As == "prorated" && !b.Price.linear() && model == "graduated":
		o.at("price").bad("a step with a cap cannot be charged by days", "leave the cap out")
	case q.As == "prorated" && (q.Multiply.IsPositive() || q.Divide.IsPositive() || q.Round != "" || q.Free.IsPositive()):
		o.at("quantity").bad("a prorated quantity is neither converted nor rounded nor free", "give a first step at 0 for what is free")
	case model == "capacity" && (q.As == "weighted" || q.Less != ""):
		o.at("quantity").bad("capacities know the sum, max, last and peak of usage only", "leave it out")
	}
}

func usageFeeSchema() schema {
	return schema{
		"meter": text("the id of a meter"),
		"of":    enum("the events of a percentage", metering.SalePaid),
		"price": object1("how a quantity becomes money", schema{
			"model": enum("per_unit: unit each · graduated: each step's unit on what falls in it · volume: all at the step reached · flat: one price for the step reached · package: whole packages · block: blocks begun, step by step · percentage: of each event's amount · graduated_percentage: each step's rate on the money that falls in it · multiplier: quantity × factor · event_amount: what the events say · capacity: the first price whose limits hold", models...),
			"unit":  numberSchema("per_unit: price of one"),
			"steps": schema{"description": "what the model names, step by step from zero upwards", "anyOf": []schema{stepsSchema(unitSteps), stepsSchema(flatSteps), stepsSchema(blockSteps), stepsSchema(percentSteps),
				listOf("capacity: the first step whose limits hold", object1("one price and its limits", schema{
					"limits": schema{"type": "object", "description": "the most of each meter, inclusive", "minProperties": 1, "additionalProperties": numberSchema("the most of this meter")},
					"price":  numberSchema("for the month"),
				}.require("price")))}},
			"charge_at_zero": boolean("the first step's flat fee even without usage"),
			"rate":           percentSchema("percentage: of each event's amount"),
			"fixed":          numberSchema("percentage: per event"),
			"free_events":    described("percentage: so many events of each window are free, while free_amount lasts too", schema{"type": "integer", "minimum": 1}),
			"free_amount":    numberSchema("percentage: so much money of each window is free, while free_events last too"),
			"min":            numberSchema("percentage: least for an event that is not free"),
			"max":            numberSchema("percentage: most for an event"),
			"size":           numberSchema("package: how many are in one"),
			"price":          numberSchema("package: of one"),
			"partial":        enum("package: whether a part of one counts", "up", "down"),
			"blocks":         enum("block: each step's blocks on what falls in it, or all in blocks of the step reached", "each_step", "top_step"),
			"factor":         numberSchema("multiplier, event_amount: times the quantity, times the amount"),
		}.require("model")),
		"per":      enum("each begins its own ladder and has its own line", "partner", "app", "customer"),
		"window":   windowSchema(),
		"quantity": quantitySchema(),
	}.require("price")
}

// usageSum is the usage of one scope instance in one segment.
type usageSum struct {
	line     string // scope of the line
	quantity decimal.Decimal
	amount   decimal.Decimal
	events   int64
	cells    allocCells

	begin, end decimal.Decimal // of a level
	moves      []levelMove     // in time

	foreign []*transaction // whose amounts were converted
}

// add takes usage of an app and customer in.
func (u *usageSum) add(app partner.AppID, customer partner.CustomerID, events int64, weight decimal.Decimal) {
	u.cells.add(allocKey{app, customer}, events, weight)
}

// usageSums is the usage of a rule by scope instance.
type usageSums map[string]*usageSum

func (us usageSums) of(scope, line string) *usageSum {
	if us[scope] == nil {
		us[scope] = &usageSum{line: line}
	}
	return us[scope]
}

// priceUsageFees walks the segments of each contract in time, so that a ladder runs on
// across versions.
func priceUsageFees(p *pricer) error {
	for _, s := range p.segments {
		for i := range s.Terms.Rules {
			r := &s.Terms.Rules[i]
			b, ok := r.Body.(*UsageFee)
			if !ok {
				continue
			}
			for _, id := range b.Meters() {
				if _, ok := p.meters[id]; !ok {
					return fmt.Errorf("contract %s rule %s: meter %s is not given", s.Terms.Contract, r.ID, id)
				}
			}
			p.priceUsageFee(s, r, b)
		}
	}
	p.chargeAtZero()
	return nil
}

// priceUsageFee prices one rule in one segment.
func (p *pricer) priceUsageFee(s *segment, r *Rule, b *UsageFee) {
	var sums usageSums
	switch {
	case b.Price.Model == "capacity":
		p.chargeCapacity(s, r, b)
		return
	case b.Price.eachEvent():
		p.chargeEach(s, r, b)
		return
	case b.Quantity != nil && b.Quantity.Each != "":
		p.chargeBuckets(s, r, b)
		return
	case b.Quantity.ofLevel():
		sums = p.levels(s, r, b)
	case b.Quantity.eachEvent():
		sums = p.readings(s, r, b, b.Meter)
	default:
		sums = p.usage(s, r, b, b.Meter)
	}
	p.expect(len(sums))
	for _, scope := range sortedKeys(sums) {
		switch {
		case b.Price.Model == "percentage":
			p.chargePercentage(s, r, b, sums[scope])
		case b.Quantity != nil && b.Quantity.As == "prorated":
			p.chargeProrated(s, r, b, scope, sums[scope])
		default:
			p.chargeQuantity(s, r, b, scope, sums[scope])
		}
	}
}

// meterOf is the meter that a fee reads; a percentage of sales reads all of them.
func (p *pricer) meterOf(b *UsageFee, id string) metering.Meter {
	if id == "" {
		return metering.Meter{Type: b.Of}
	}
	return p.meters[id]
}

// usage adds up the cells that a rule prices, by scope instance.
func (p *pricer) usage(s *segment, r *Rule, b *UsageFee, meter string) usageSums {
	m := p.meterOf(b, meter)
	sums := usageSums{}
	for i := range s.Usage {
		u := &s.Usage[i]
		if !m.Matches(*u) || !hasClass(r.Class, u.Class) || !s.about(r, u.App) || !s.Terms.IsFor(u.Customer, "") {
			continue
		}
		if b.ofMoney() && u.Currency != s.Terms.Currency {
			continue
		}
		s.cellRules[i] = append(s.cellRules[i], r.ID)
		b.take(sums.of(p.scope(s, b.Per, u.App, u.Customer)), u, m.Read(*u))
	}
	if b.ofMoney() {
		p.foreignUsage(s, r, b, m, sums)
	}
	return sums
}

// take adds usage and what the meter reads of it.
func (b *UsageFee) take(sum *usageSum, u *metering.Usage, q decimal.Decimal) {
	sum.quantity, sum.amount, sum.events = plus(sum.quantity, q), plus(sum.amount, u.Amount), sum.events+u.Count
	switch b.Price.Model {
	case "percentage":
		q = u.Amount.Mul(b.Price.Rate).Add(b.Price.Fixed.Mul(decimal.NewFromInt(u.Count)))
	default:
		if b.ofMoney() {
			q = u.Amount
		}
	}
	sum.add(u.App, u.Customer, u.Count, q)
}

// events hands out what a meter counts of a rule, event by event in time.
func (p *pricer) events(s *segment, r *Rule, m metering.Meter, yield func(t *transaction, read decimal.Decimal)) {
	for i := range s.transactions {
		t := &s.transactions[i]
		u := cellOf(t.Transaction)
		if t.state == "sandbox" || !m.Matches(u) || !hasClass(r.Class, u.Class) || !s.about(r, u.App) || !s.Terms.IsFor(t.Customer, t.Data.Deal) {
			continue
		}
		yield(t, m.Read(u))
	}
}

// cellOf is an event as a meter reads it.
func cellOf(t *metering.Transaction) metering.Usage {
	u := metering.Usage{App: t.Data.App, Customer: t.Customer, Type: t.Type, Class: t.Data.Class, Operation: t.Data.Operation,
		Status: t.Data.Status, Currency: t.Data.Currency, Count: 1, Quantity: one, Bytes: t.Data.Bytes}
	if t.Data.Quantity != nil {
		u.Quantity = *t.Data.Quantity
	}
	if t.Data.Amount != nil {
		u.Amount = *t.Data.Amount
	}
	return u
}

// readings is the largest or the last quantity that one event says.
func (p *pricer) readings(s *segment, r *Rule, b *UsageFee, meter string) usageSums {
	sums := usageSums{}
	p.events(s, r, p.meters[meter], func(t *transaction, read decimal.Decimal) {
		t.priced(r)
		sum := sums.of(p.scope(s, b.Per, t.Data.App, t.Customer))
		sum.quantity = b.Quantity.reading(sum, read)
		sum.events++
		sum.add(t.Data.App, t.Customer, 1, read)
	})
	return sums
}

// chargeQuantity prices the usage of one scope instance: what its total costs now, less
// what it cost before.
func (p *pricer) chargeQuantity(s *segment, r *Rule, b *UsageFee, scope string, sum *usageSum) {
	l := p.usageLine(s, r, b, sum.line)
	l.Count += sum.events
	sum.exchange(l)
	before := l.Exact
	figure := sum.quantity
	if b.ofMoney() {
		figure = sum.amount
		l.addBase(figure)
	}
	t := p.total(s, r.ID, "quantity", scope, b.Window)
	at, moved := t.at(), figure
	to := b.Quantity.moves(at, figure)
	if b.Quantity != nil {
		moved = minus(to, at)
	}
	t.Value = plus(t.Value, moved)
	l.Quantity = plus(l.Quantity, b.shown(sum, moved))
	from, billed := b.Quantity.billed(at), b.Quantity.billed(to)
	if b.Quantity != nil && !billed.Equal(to) {
		l.note(b.Quantity.text(to, billed))
	}
	if b.Price.Model == "event_amount" && sum.quantity.IsZero() {
		billed = from // what no quantity is behind costs nothing, whatever the events say
	}
	if b.Quantity != nil && b.Quantity.Free.IsPositive() && to.IsPositive() && billed.IsZero() {
		l.took(wentFree, 0, "")
	}
	p.chargeTotal(l, &b.Price, from, billed)
	p.spread(l, sum, minus(l.Exact, before))
}

// shown is the quantity that the line is about.
func (b *UsageFee) shown(sum *usageSum, moved decimal.Decimal) decimal.Decimal {
	switch {
	case b.Of != "":
		return decimal.Zero
	case b.ofMoney():
		return sum.quantity
	case b.Quantity.ofLevel():
		return moved.Round(shownPlaces)
	}
	return moved
}

// shownPlaces is how many decimals of a quotient a line shows as its quantity.
const shownPlaces = 6

// moves is the total after a figure of the month, or of a part of it, came to it.
func (q *Quantity) moves(at, figure decimal.Decimal) decimal.Decimal {
	switch {
	case q == nil || q.As == "sum" || q.As == "weighted":
		return plus(at, figure)
	case q.As == "last":
		return figure
	}
	return decimal.Max(at, figure)
}

// chargeTotal charges what it costs to move a total.
func (p *pricer) chargeTotal(l *lineBuilder, m *Model, from, to decimal.Decimal) {
	if !m.linear() {
		for _, x := range m.terms(to) {
			m.tookTerm(l, x)
			l.add(x.what, x.of, x.times.Neg())
		}
		for _, x := range m.terms(from) {
			l.add("less what came before: "+x.what, x.of, x.times)
		}
		return
	}
	steps := m.ladder()
	p.pieces = steps.walk(p.pieces[:0], from, minus(to, from))
	for _, pc := range p.pieces {
		m.tookStep(l, pc.step)
		l.add(m.said.steps[pc.step].what, pc.part, m.said.steps[pc.step].times)
	}
	for i, st := range steps {
		if !st.Flat.IsZero() && !steps.entered(i, from) && steps.entered(i, to) {
			l.add(m.said.steps[i].flat, st.Flat, one.Neg())
		}
	}
}

// chargePercentage charges a percentage of the sum of amounts, and a fixed fee each.
func (p *pricer) chargePercentage(s *segment, r *Rule, b *UsageFee, sum *usageSum) {
	l := p.usageLine(s, r, b, sum.line)
	l.Count += sum.events
	sum.exchange(l)
	before := l.Exact
	l.addBase(sum.amount)
	l.Rate = percentageRate(b.Price)
	l.took(wentPrice, 0, "")
	if !b.Price.Rate.IsZero() || b.Price.Fixed.IsZero() {
		l.add("amounts at "+Percent(b.Price.Rate), sum.amount, b.Price.Rate.Neg())
	}
	if !b.Price.Fixed.IsZero() {
		l.add(b.Price.Fixed.String()+" per event", decimal.NewFromInt(sum.events), b.Price.Fixed.Neg())
	}
	p.spread(l, sum, minus(l.Exact, before))
}

// spread puts what was charged on apps and customers by what they used.
func (p *pricer) spread(l *lineBuilder, sum *usageSum, charged decimal.Decimal) {
	cells := sum.cells.all
	if len(cells) == 1 {
		l.allocate(cells[0].app, cells[0].customer, cells[0].events, charged)
		return
	}
	whole := decimal.Zero
	for _, c := range cells {
		whole = plus(whole, c.exact)
	}
	for _, c := range cells {
		part := decimal.Zero
		if whole.IsPositive() && !c.exact.IsNegative() {
			part = charged.Mul(c.exact).DivRound(whole, refundPlaces)
		}
		l.allocate(c.app, c.customer, c.events, part)
	}
}

func (p *pricer) usageLine(s *segment, r *Rule, b *UsageFee, scope string) *lineBuilder {
	l := p.line(s, r, "usage", scope, s.Terms.Partner, partner.Platform)
	m := p.meters[b.Meter]
	if b.Meter != "" && b.Quantity == nil {
		l.behind(m.Type)
	} else {
		l.behind(p.typesOf(b)...)
	}
	l.Events.Operations, l.Events.StatusBelow = slices.Clone(m.Operations), m.StatusBelow
	l.Events.Class = cmp.Or(r.Class, m.Class)
	if c, ok := strings.CutPrefix(scope, "customer:"); ok {
		l.Events.Customer = partner.CustomerID(c)
	}
	if a, ok := strings.CutPrefix(scope, "app:"); ok {
		l.Events.Apps = []partner.AppID{partner.AppID(a)}
	}
	if l.Text != "" {
		return l
	}
	standard := cmp.Or(m.Description, b.Meter, "Plan by "+strings.Join(b.Meters(), ", "))
	if b.Of != "" {
		standard = "Processing of sales"
	}
	l.Text = cmp.Or(r.Text, standard+b.Price.said.free)
	if b.Price.Model != "percentage" {
		l.Rate = b.Price.said.rates
	}
	return l
}

// typesOf are the types of events that a fee counts.
func (p *pricer) typesOf(b *UsageFee) []string {
	if b.Of != "" {
		return []string{b.Of}
	}
	var types []string
	for _, id := range b.Meters() {
		types = append(types, p.meters[id].Type)
	}
	return types
}

// rates are the prices of one, for people.
func (m Model) rates() string {
	switch m.Model {
	case "package":
		return m.Price.String() + " per " + grouped(m.Size)
	case "flat", "block", "capacity":
		return ""
	case "event_amount":
		if m.Factor.Equal(one) {
			return ""
		}
		return "× " + m.Factor.String()
	}
	var rates []string
	for _, s := range m.ladder() {
		if price, text := m.price(s); !price.IsZero() && !slices.Contains(rates, text) {
			rates = append(rates, text)
		}
	}
	switch len(rates) {
	case 0:
		return "0"
	case 1:
		return rates[0]
	}
	return rates[0] + " to " + rates[len(rates)-1]
}

func percentageRate(m Model) string {
	switch {
	case m.Fixed.IsZero():
		return Percent(m.Rate)
	case m.Rate.IsZero():
		return m.Fixed.String() + " each"
	}
	return Percent(m.Rate) + " + " + m.Fixed.String()
}

// chargeAtZero adds the first flat fee of ladders that ask for it where the month had
// no usage at all, under the last version in force.
func (p *pricer) chargeAtZero() {
	for i, s := range p.segments {
		if i+1 < len(p.segments) && p.segments[i+1].Terms.Contract == s.Terms.Contract {
			continue
		}
		for j := range s.Terms.Rules {
			r := &s.Terms.Rules[j]
			b, ok := r.Body.(*UsageFee)
			if !ok || !b.Price.ChargeAtZero {
				continue
			}
			for _, app := range s.instances(r, b.Per) {
				scope, line := p.scope(s, b.Per, app, "")
				if t := p.total(s, r.ID, "quantity", scope, b.Window); !t.Value.IsZero() {
					continue
				}
				l := p.usageLine(s, r, b, line)
				l.took(wentAtZero, 0, "")
				l.add("flat fee without usage", b.Price.Steps[0].Flat, decimal.NewFromInt(-1))
				l.allocate(app, "", 0, b.Price.Steps[0].Flat.Neg())
			}
		}
	}
}

// instances is one app per scope instance: each app of the rule, or none for the partner.
func (s *segment) instances(r *Rule, per string) []partner.AppID {
	if per == "app" {
		return s.ruleApps(r)
	}
	return []partner.AppID{""}
}
