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
	Meter  string `json:"meter,omitempty"` // what counts; or
	Of     string `json:"of,omitempty"`    // the events of a percentage, sale.paid
	Per    string `json:"per"`             // partner | app | customer: each begins its own ladder and line
	Window Window `json:"window"`
	Price  Model  `json:"price"`
}

// Model is how a quantity becomes money.
type Model struct {
	Model        string          `json:"model"`                    // per_unit | graduated | percentage
	Unit         decimal.Decimal `json:"unit,omitzero"`            // per_unit
	Steps        Steps           `json:"steps,omitempty"`          // graduated
	ChargeAtZero bool            `json:"charge_at_zero,omitempty"` // the first step's flat fee even without usage
	Rate         decimal.Decimal `json:"rate,omitzero"`            // percentage, of each event's amount
	Fixed        decimal.Decimal `json:"fixed,omitzero"`           // percentage, per event
}

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
	switch {
	case hasMeter && hasOf:
		of.bad("a meter and `of` together", "a percentage takes `of`, the other models a meter")
	case hasOf && b.Price.Model != "percentage" && b.Price.Model != "":
		of.bad("`of` is for model percentage", "name a meter")
	case !hasMeter && !hasOf:
		o.bad("nothing is metered", "name a meter, or `of: sale.paid` for a percentage")
	}
	if f, ok := o.get("per"); ok {
		b.Per, _ = f.oneOf("partner", "app", "customer")
	}
	if f, ok := o.get("window"); ok {
		b.Window = f.window(c.terms.From)
	}
	if b.Price.ChargeAtZero && (b.Per == "customer" || b.Window.Kind != "month") {
		o.at("price").bad("charge_at_zero needs the window month and per partner or app", "otherwise it is not known who used nothing, and when")
	}
	return b
}

func (b *UsageFee) readPrice(c *contract, f value) {
	o := c.object(f)
	if o == nil {
		return
	}
	m := &b.Price
	if g, ok := o.need("model", "one of: per_unit, graduated, percentage"); ok {
		m.Model, _ = g.oneOf("per_unit", "graduated", "percentage")
	}
	switch m.Model {
	case "per_unit":
		if g, ok := o.need("unit", "the price of one, such as 0.001"); ok {
			m.Unit, _ = g.notNegative()
		}
	case "graduated":
		if g, ok := o.need("steps", "such as [{to: 1000, unit: 0}, {unit: 0.001}]"); ok {
			m.Steps = g.steps("unit", c.terms.Currency)
		}
		if g, ok := o.get("charge_at_zero"); ok {
			m.ChargeAtZero = g.flag()
		}
	case "percentage":
		rate, hasRate := o.get("rate")
		fixed, hasFixed := o.get("fixed")
		if hasRate {
			m.Rate, _ = rate.percent()
		}
		if hasFixed {
			m.Fixed, _ = fixed.notNegative()
		}
		if !hasRate && !hasFixed {
			o.bad("a percentage without rate and fixed amount", "such as rate: 2.9%, fixed: 0.30")
		}
	default:
		return // reported; the model decides which fields are known
	}
	o.done()
}

func usageFeeSchema() schema {
	return schema{
		"meter": text("the id of a meter"),
		"of":    enum("the events of a percentage", metering.SalePaid),
		"price": object1("how a quantity becomes money", schema{
			"model":          enum("how", "per_unit", "graduated", "percentage"),
			"unit":           numberSchema("price of one"),
			"steps":          stepsSchema("unit"),
			"charge_at_zero": boolean("the first step's flat fee even without usage"),
			"rate":           percentSchema("of each event's amount"),
			"fixed":          numberSchema("per event"),
		}.require("model")),
		"per":    enum("each begins its own ladder and has its own line", "partner", "app", "customer"),
		"window": windowSchema(),
	}.require("price")
}

// usageSum is the usage of one scope instance in one segment.
type usageSum struct {
	line     string // scope of the line
	quantity decimal.Decimal
	amount   decimal.Decimal
	events   int64
	cells    map[allocKey]*allocCell
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
			sums, err := p.usage(s, r, b)
			if err != nil {
				return err
			}
			for _, scope := range sortedKeys(sums) {
				p.chargeUsage(s, r, b, scope, sums[scope])
			}
		}
	}
	p.chargeAtZero()
	return nil
}

// usage adds up the cells that a rule prices, by scope instance.
func (p *pricer) usage(s *segment, r *Rule, b *UsageFee) (map[string]*usageSum, error) {
	m := metering.Meter{Type: b.Of}
	if b.Meter != "" {
		var ok bool
		if m, ok = p.meters[b.Meter]; !ok {
			return nil, fmt.Errorf("contract %s rule %s: meter %s is not given", s.Terms.Contract, r.ID, b.Meter)
		}
	}
	sums := map[string]*usageSum{}
	for i := range s.Usage {
		u := &s.Usage[i]
		if !m.Matches(*u) || !hasClass(r.Class, u.Class) || !s.about(r, u.App) {
			continue
		}
		if b.Price.Model == "percentage" && u.Currency != s.Terms.Currency {
			continue
		}
		s.cellRules[i] = append(s.cellRules[i], r.ID)
		scope, line := p.scope(s, b.Per, u.App, u.Customer)
		sum := sums[scope]
		if sum == nil {
			sum = &usageSum{line: line, cells: map[allocKey]*allocCell{}}
			sums[scope] = sum
		}
		q := m.Read(*u)
		sum.quantity, sum.amount, sum.events = sum.quantity.Add(q), sum.amount.Add(u.Amount), sum.events+u.Count
		k := allocKey{u.App, u.Customer}
		c := sum.cells[k]
		if c == nil {
			c = &allocCell{}
			sum.cells[k] = c
		}
		c.events += u.Count
		if b.Price.Model == "percentage" {
			q = u.Amount.Mul(b.Price.Rate).Add(b.Price.Fixed.Mul(decimal.NewFromInt(u.Count)))
		}
		c.exact = c.exact.Add(q)
	}
	return sums, nil
}

// chargeUsage prices the usage of one scope instance.
func (p *pricer) chargeUsage(s *segment, r *Rule, b *UsageFee, scope string, sum *usageSum) {
	l := p.usageLine(s, r, b, sum.line)
	l.Count += sum.events
	before := l.Exact
	one, minus := decimal.NewFromInt(1), decimal.NewFromInt(-1)
	if b.Price.Model == "percentage" {
		l.addBase(sum.amount)
		l.Rate = percentageRate(b.Price)
		if !b.Price.Rate.IsZero() || b.Price.Fixed.IsZero() {
			l.add("amounts at "+Percent(b.Price.Rate), sum.amount, b.Price.Rate.Neg())
		}
		if !b.Price.Fixed.IsZero() {
			l.add(b.Price.Fixed.String()+" per event", decimal.NewFromInt(sum.events), b.Price.Fixed.Neg())
		}
	} else {
		l.Quantity = l.Quantity.Add(sum.quantity)
		steps := b.steps()
		t := p.total(s, r.ID, "quantity", scope, b.Window)
		at, to := t.Value, t.Value.Add(sum.quantity)
		t.Value = to
		p.pieces = steps.walk(p.pieces[:0], at, sum.quantity)
		for _, pc := range p.pieces {
			l.add(steps.span(pc.step, grouped)+" at "+steps[pc.step].Unit.String(), pc.part, steps[pc.step].Unit.Neg())
		}
		for i, st := range steps {
			if !st.Flat.IsZero() && !steps.entered(i, at) && steps.entered(i, to) {
				l.add("flat fee of "+steps.span(i, grouped), st.Flat, minus)
			}
		}
	}
	charged := l.Exact.Sub(before)
	p.spread(l, sum, charged, one)
}

// spread puts what was charged on apps and customers by what they used.
func (p *pricer) spread(l *lineBuilder, sum *usageSum, charged, one decimal.Decimal) {
	whole := decimal.Zero
	for _, c := range sum.cells {
		whole = whole.Add(c.exact)
	}
	for k, c := range sum.cells {
		part := decimal.Zero
		switch {
		case whole.IsPositive() && !c.exact.IsNegative():
			part = charged.Mul(c.exact).DivRound(whole, refundPlaces)
		case len(sum.cells) == 1:
			part = charged.Mul(one)
		}
		l.allocate(k.app, k.customer, c.events, part)
	}
}

// steps is the ladder; a price per unit is one open step.
func (b *UsageFee) steps() Steps {
	if b.Price.Model == "per_unit" {
		return Steps{{Unit: b.Price.Unit}}
	}
	return b.Price.Steps
}

func (p *pricer) usageLine(s *segment, r *Rule, b *UsageFee, scope string) *lineBuilder {
	l := p.line(s, r, "usage", scope, s.Terms.Partner, partner.Platform)
	m := p.meters[b.Meter]
	typ := cmp.Or(m.Type, b.Of)
	l.behind(typ)
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
	standard := cmp.Or(m.Description, b.Meter)
	if b.Of != "" {
		standard = "Processing of sales"
	}
	if st := b.steps(); len(st) > 1 && st[0].Unit.IsZero() && st[0].Flat.IsZero() {
		standard += ", first " + grouped(*st[0].To) + " free"
	}
	l.Text = cmp.Or(r.Text, standard)
	if b.Price.Model != "percentage" {
		l.Rate = b.unitRate()
	}
	return l
}

func (b *UsageFee) unitRate() string {
	var rates []string
	for _, s := range b.steps() {
		if u := s.Unit.String(); !s.Unit.IsZero() && !slices.Contains(rates, u) {
			rates = append(rates, u)
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
