package pricing

import (
	"github.com/shopspring/decimal"
)

const commitmentDoc = "The partner owes at least this much for other rules in a window: the rest is charged at its end, and what is beyond may cost more."

// Commitment is the body of a commitment. Exactly one of Minimum and Units is set.
type Commitment struct {
	On      []string         `json:"on"`
	Minimum *decimal.Decimal `json:"minimum,omitempty"`
	Units   *decimal.Decimal `json:"units,omitempty"` // of the one usage fee in On, at its own price
	TrueUp  bool             `json:"true_up"`         // the rest is charged when the window or the terms end
	Overage decimal.Decimal  `json:"overage"`         // 1: what is beyond costs what it costs
	Limit
}

func (b *Commitment) follows() []string { return b.On }

func decodeCommitment(c *contract, o *object) any {
	b := &Commitment{On: c.readFollowed(o, "on"), TrueUp: true, Overage: one}
	minimum, hasMinimum := o.get("minimum")
	units, hasUnits := o.get("units")
	switch {
	case hasMinimum && hasUnits:
		units.bad("a minimum in money and one in units", "keep one")
	case hasMinimum:
		if a, ok := minimum.amount(c.terms.Currency); ok {
			d := a.Decimal()
			b.Minimum = &d
		}
	case hasUnits:
		if d, ok := units.positive(); ok {
			b.Units = &d
		}
		if len(b.On) != 1 {
			units.bad("units of several rules", "a minimum in units is for one usage_fee: on: [ID]")
		}
	default:
		o.bad("no minimum", "minimum: 100.00, or units: 1_000 of a usage fee")
	}
	if f, ok := o.get("true_up"); ok {
		b.TrueUp = f.flag()
	}
	if f, ok := o.get("overage"); ok {
		if b.Overage, ok = f.number(); ok && b.Overage.LessThan(one) {
			f.bad("an overage factor below 1", "what is beyond the minimum costs its price times this, such as 1.5")
		}
	}
	b.read(c, o)
	if b.TrueUp && b.Window.Kind == "lifetime" {
		o.at("window").bad("a lifetime has no end at which the rest is charged", "one of: month, quarter, year, contract year")
	}
	return b
}

func checkCommitment(c *contract, r *Rule, at *object) {
	checkFollowed(c, r, at)
	b := r.Body.(*Commitment)
	if b.Units == nil {
		return
	}
	for _, o := range c.terms.Rules {
		fee, usage := o.Body.(*UsageFee)
		if len(b.On) == 1 && o.ID == b.On[0] && (!usage || fee.Price.Model == "capacity" || fee.ofMoney()) {
			at.at("units").bad(o.ID+" has no price for units", "use `minimum`")
		}
	}
}

func commitmentSchema() schema {
	return (&Limit{}).schema(schema{
		"on":      followedSchema(),
		"minimum": numberSchema("least that the rules charge in a window"),
		"units":   numberSchema("the minimum as a quantity of the one usage fee, at its own price"),
		"true_up": boolean("the rest is charged when the window or the terms end; true if left out"),
		"overage": numberSchema("what is beyond the minimum costs its price times this; 1 if left out"),
	}.require("on"))
}

// least is the minimum in money.
func (b *Commitment) least(s *segment) decimal.Decimal {
	if b.Minimum != nil {
		return *b.Minimum
	}
	fee := s.Terms.Rules[s.order[b.On[0]]].Body.(*UsageFee)
	cost := decimal.Zero
	if fee.Price.linear() {
		steps := fee.Price.ladder()
		for _, pc := range steps.walk(nil, decimal.Zero, *b.Units) {
			price, _ := fee.Price.price(steps[pc.step])
			cost = cost.Add(pc.part.Mul(price))
		}
		for i, st := range steps {
			if steps.entered(i, *b.Units) {
				cost = cost.Add(st.Flat)
			}
		}
		return cost
	}
	for _, x := range fee.Price.terms(*b.Units) {
		cost = cost.Add(x.of.Mul(x.times))
	}
	return cost
}

// followCommitment charges what is missing from the minimum at the end of the window,
// and more for what is beyond it, as it comes.
func followCommitment(p *pricer, s *segment, r *Rule) error {
	b := r.Body.(*Commitment)
	bases, err := p.bases(s, b.On, "partner")
	if err != nil {
		return err
	}
	whole := b.least(s)
	least, text := p.limit(s, r, b.Limit, whole)
	for _, scope := range sortedKeys(bases) {
		x := bases[scope]
		t := p.total(s, r.ID, "charges", scope, b.Window)
		more := p.total(s, r.ID, "overage", scope, b.Window)
		t.Value = t.Value.Add(x.charges())
		l := p.followLine(s, r, "commitment", x, "Minimum of "+groupedMoney(whole, s.Terms.Currency)+" a "+b.Window.unit())
		if beyond := decimal.Max(decimal.Zero, t.Value.Sub(least)); b.Overage.GreaterThan(one) && !(beyond.IsZero() && more.Value.IsZero()) {
			l.took(wentOverage, 0, "")
			l.add("beyond "+text+", each "+b.Overage.String()+" times", beyond, b.Overage.Sub(one).Neg())
			if !more.Value.IsZero() {
				l.add("less what came before: beyond "+text, more.Value, b.Overage.Sub(one))
			}
			more.Value = beyond
		}
		if !t.Value.LessThan(least) {
			l.took(wentHolds, 0, "")
		}
		if missing := least.Sub(t.Value); b.TrueUp && missing.IsPositive() && b.ends(s, p.in.Month) {
			l.took(wentBelow, 0, "")
			l.add("minimum of "+text, least, one.Neg())
			l.add("charged for it in the "+b.Window.unit(), t.Value, one)
			t.Value = least // is not asked for twice
		}
		x.share(l)
	}
	return nil
}
