package pricing

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/money"
)

// Model is how a quantity becomes money.
type Model struct {
	Model        string           `json:"model"`                    // see models
	Unit         decimal.Decimal  `json:"unit,omitzero"`            // per_unit
	Steps        Steps            `json:"steps,omitempty"`          // graduated, volume, flat, block, graduated_percentage
	ChargeAtZero bool             `json:"charge_at_zero,omitempty"` // the first step's flat fee even without usage
	Rate         decimal.Decimal  `json:"rate,omitzero"`            // percentage, of each event's amount
	Fixed        decimal.Decimal  `json:"fixed,omitzero"`           // percentage, per event
	FreeEvents   int64            `json:"free_events,omitempty"`    // percentage: the first so many of the window
	FreeAmount   *decimal.Decimal `json:"free_amount,omitempty"`    // percentage: the first so much money of the window
	Min          *decimal.Decimal `json:"min,omitempty"`            // percentage: of an event that is not free, fixed fee included
	Max          *decimal.Decimal `json:"max,omitempty"`
	Size         decimal.Decimal  `json:"size,omitzero"`        // package
	Price        decimal.Decimal  `json:"price,omitzero"`       // package
	Partial      string           `json:"partial,omitempty"`    // package: up | down
	TopStep      bool             `json:"top_step,omitempty"`   // block: all at the step reached
	Factor       decimal.Decimal  `json:"factor,omitzero"`      // multiplier, event_amount
	Capacities   []CapacityStep   `json:"capacities,omitempty"` // capacity

	said said // what every line of the model says alike
}

// said is what the lines of a linear model say alike, written once.
type said struct {
	steps []saidStep
	rates string // prices of one
	free  string // what begins the ladder at no price
}

// saidStep is one step of the ladder as a derivation names it, and what one costs, seen
// from who pays it.
type saidStep struct {
	what, flat string
	times      decimal.Decimal
}

// say writes what the lines of the model say alike.
func (m *Model) say() {
	if i := slices.IndexFunc(m.Steps, func(s TierStep) bool { return s.To == nil }); i >= 0 && i < len(m.Steps)-1 {
		return // reported where it was read
	}
	m.said = said{rates: m.rates()}
	if st := m.Steps; m.Model == "graduated" && len(st) > 1 && st[0].Unit.IsZero() && st[0].Flat.IsZero() {
		m.said.free = ", first " + grouped(*st[0].To) + " free"
	}
	steps := m.ladder()
	for i, s := range steps {
		price, text := m.price(s)
		span := steps.span(i, grouped)
		m.said.steps = append(m.said.steps, saidStep{span + " at " + text, "flat fee of " + span, price.Neg()})
	}
}

// CapacityStep is a price for as long as no meter exceeds its limit.
type CapacityStep struct {
	Limits map[string]decimal.Decimal `json:"limits,omitempty"` // by meter, inclusive; a meter that is not named has none
	Price  decimal.Decimal            `json:"price"`
}

// models are the ways in which a quantity becomes money, in the order of the manual.
var models = []string{"per_unit", "graduated", "volume", "flat", "package", "block", "percentage", "graduated_percentage", "multiplier", "event_amount", "capacity"}

// ofMoney reports whether the fee prices amounts that events carry, not a quantity. A
// ladder of percentages on a meter takes what the meter counts for money.
func (b *UsageFee) ofMoney() bool {
	return b.Of != "" || b.Price.Model == "percentage" || b.Price.Model == "event_amount"
}

// eachEvent reports whether the model must see events one by one.
func (m Model) eachEvent() bool {
	return m.FreeEvents > 0 || m.FreeAmount != nil || m.Min != nil || m.Max != nil
}

// linear reports whether a movement costs what lies in each step of it, whatever came
// before: then it is shown by itself, not as a difference of two totals.
func (m Model) linear() bool {
	switch m.Model {
	case "per_unit", "multiplier", "event_amount", "graduated_percentage":
		return true
	}
	return m.Model == "graduated" && !slices.ContainsFunc(m.Steps, func(s TierStep) bool { return s.Cap != nil })
}

// ladder is the steps of a linear model; a price per unit is one open step.
func (m Model) ladder() Steps {
	switch m.Model {
	case "per_unit":
		return Steps{{Unit: m.Unit}}
	case "multiplier", "event_amount":
		return Steps{{Unit: m.Factor}}
	}
	return m.Steps
}

// price of one in the step, and how people write it.
func (m Model) price(s TierStep) (decimal.Decimal, string) {
	if m.Model == "graduated_percentage" {
		return s.Rate, Percent(s.Rate)
	}
	return s.Unit, s.Unit.String()
}

// term is one multiplication of what a total costs.
type term struct {
	what      string
	of, times decimal.Decimal
	step      int
	capped    bool
}

var one = decimal.NewFromInt(1)

// terms are what a total costs, of models that are not linear.
func (m Model) terms(total decimal.Decimal) []term {
	switch m.Model {
	case "graduated":
		return m.cappedTerms(total)
	case "volume":
		return m.volumeTerms(total, total)
	case "flat":
		return m.volumeTerms(decimal.Zero, total)
	case "package":
		return m.packageTerms(total)
	case "block":
		return m.blockTerms(total)
	}
	return nil
}

// cappedTerms is a ladder in which steps cost at most their caps.
func (m Model) cappedTerms(total decimal.Decimal) []term {
	var out []term
	for _, pc := range m.Steps.walk(nil, decimal.Zero, total) {
		st, span := m.Steps[pc.step], m.Steps.span(pc.step, grouped)
		if st.Cap != nil && pc.part.Mul(st.Unit).GreaterThan(*st.Cap) {
			out = append(out, term{span + " at " + st.Unit.String() + ", at most " + st.Cap.String(), *st.Cap, one, pc.step, true})
			continue
		}
		out = append(out, term{span + " at " + st.Unit.String(), pc.part, st.Unit, pc.step, false})
	}
	for i, st := range m.Steps {
		if !st.Flat.IsZero() && m.Steps.entered(i, total) {
			out = append(out, term{"flat fee of " + m.Steps.span(i, grouped), st.Flat, one, i, false})
		}
	}
	return out
}

// volumeTerms is a quantity at the step that the total stands in, with its flat fee.
func (m Model) volumeTerms(quantity, total decimal.Decimal) []term {
	i := m.Steps.reached(total)
	if i < 0 {
		return nil
	}
	st, span := m.Steps[i], m.Steps.span(i, grouped)
	var out []term
	if m.Model == "volume" {
		out = append(out, term{m.Steps.allAt(i, grouped, st.Unit.String()), quantity, st.Unit, i, false})
	}
	if !st.Flat.IsZero() {
		out = append(out, term{"flat fee of step " + span, st.Flat, one, i, false})
	}
	return out
}

// packageTerms is the packages that a total fills or begins.
func (m Model) packageTerms(total decimal.Decimal) []term {
	if !total.IsPositive() {
		return nil
	}
	return []term{{fmt.Sprintf("packages of %s at %s", grouped(m.Size), m.Price), blocks(total, m.Size, m.Partial == "down"), m.Price, 0, false}}
}

// blockTerms is the blocks that a total begins, step by step, or all of the step that
// it reaches.
func (m Model) blockTerms(total decimal.Decimal) []term {
	show := func(i int) string {
		st := m.Steps[i]
		return fmt.Sprintf("blocks of %s at %s, step %s", grouped(st.Size), st.Price, m.Steps.span(i, grouped))
	}
	if m.TopStep {
		i := m.Steps.reached(total)
		if i < 0 {
			return nil
		}
		return []term{{show(i), blocks(total, m.Steps[i].Size, false), m.Steps[i].Price, i, false}}
	}
	var out []term
	for _, pc := range m.Steps.walk(nil, decimal.Zero, total) {
		if pc.part.IsPositive() {
			out = append(out, term{show(pc.step), blocks(pc.part, m.Steps[pc.step].Size, false), m.Steps[pc.step].Price, pc.step, false})
		}
	}
	return out
}

// blocks is how many blocks of a size hold the quantity: a part of one counts whole, or
// not at all.
func blocks(quantity, size decimal.Decimal, down bool) decimal.Decimal {
	n, rest := quantity.QuoRem(size, 0)
	if rest.IsPositive() && !down {
		n = n.Add(one)
	}
	return n
}

// readPrice reads the model and its fields.
func (b *UsageFee) readPrice(c *contract, f value) {
	o := c.object(f)
	if o == nil {
		return
	}
	m := &b.Price
	if g, ok := o.need("model", "one of: "+strings.Join(models, ", ")); ok {
		m.Model, _ = g.oneOf(models...)
	}
	cur := c.terms.Currency
	switch m.Model {
	case "per_unit":
		if g, ok := o.need("unit", "the price of one, such as 0.001"); ok {
			m.Unit, _ = g.notNegative()
		}
	case "graduated":
		m.readSteps(o, unitSteps, "[{to: 1000, unit: 0}, {unit: 0.001}]", cur)
	case "volume":
		m.readSteps(o, volumeSteps, "[{to: 1000, unit: 0.002}, {unit: 0.001}]", cur)
	case "flat":
		m.readSteps(o, flatSteps, "[{to: 10, flat: 5.00}, {flat: 9.00}]", cur)
	case "graduated_percentage":
		m.readSteps(o, percentSteps, "[{to: 1000, rate: 3%}, {rate: 2%}]", cur)
	case "block":
		m.readSteps(o, blockSteps, "[{to: 1000, size: 100, price: 1.00}, {size: 1000, price: 5.00}]", cur)
		if g, ok := o.get("blocks"); ok {
			word, _ := g.oneOf("each_step", "top_step")
			m.TopStep = word == "top_step"
		}
	case "package":
		m.readPackage(o)
	case "percentage":
		m.readPercentage(o, cur)
	case "multiplier":
		if g, ok := o.need("factor", "such as 1.2"); ok {
			m.Factor, _ = g.notNegative()
		}
	case "event_amount":
		m.Factor = one
		if g, ok := o.get("factor"); ok {
			m.Factor, _ = g.notNegative()
		}
	case "capacity":
		m.readCapacity(o, cur)
	default:
		return // reported; the model decides which fields are known
	}
	o.done()
	m.say()
}

// readSteps reads a ladder and whether its first flat fee is due without usage.
func (m *Model) readSteps(o *object, form stepForm, such string, c money.Currency) {
	if g, ok := o.need("steps", "such as "+such); ok {
		m.Steps = g.steps(form, c)
	}
	if !slices.Contains(append(form.need, form.may...), "flat") {
		return
	}
	if g, ok := o.get("charge_at_zero"); ok {
		m.ChargeAtZero = g.flag()
	}
}

func (m *Model) readPackage(o *object) {
	m.Partial = "up"
	if g, ok := o.need("size", "how many are in a package, such as 100"); ok {
		m.Size, _ = g.positive()
	}
	if g, ok := o.need("price", "of a package, such as 5.00"); ok {
		m.Price, _ = g.notNegative()
	}
	if g, ok := o.get("partial"); ok {
		m.Partial, _ = g.oneOf("up", "down")
	}
}

func (m *Model) readPercentage(o *object, c money.Currency) {
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
	if g, ok := o.get("free_events"); ok {
		n, _ := g.whole(1, 1_000_000_000)
		m.FreeEvents = int64(n)
	}
	for name, to := range map[string]**decimal.Decimal{"free_amount": &m.FreeAmount, "min": &m.Min, "max": &m.Max} {
		if g, ok := o.get(name); ok {
			if a, ok := g.amount(c); ok {
				d := a.Decimal()
				*to = &d
			}
		}
	}
	if m.Min != nil && m.Max != nil && m.Min.GreaterThan(*m.Max) {
		o.at("min").bad(fmt.Sprintf("min %s is above max %s", m.Min, m.Max), "swap them")
	}
}

// readCapacity reads prices with the limits up to which each holds.
func (m *Model) readCapacity(o *object, c money.Currency) {
	g, ok := o.need("steps", "such as [{limits: {seats: 100, storage_gb: 50}, price: 10.00}, {price: 30.00}]")
	if !ok {
		return
	}
	list := g.list()
	if list != nil && len(list) == 0 {
		g.bad("no step", "give at least one, such as {price: 30.00}")
	}
	for i, e := range list {
		s := m.capacityStep(e, c)
		if s == nil {
			return
		}
		switch last := i == len(list)-1; {
		case !last && len(s.Limits) == 0:
			e.bad("only the last step may be without limits", "limits: {METER: …}")
		case last && len(s.Limits) > 0:
			e.bad("the last step has limits", "leave them out, so that nothing falls beyond the ladder")
		}
		m.Capacities = append(m.Capacities, *s)
	}
	if len(m.Capacities) > 0 && len(m.Meters()) == 0 {
		g.bad("no meter is limited", "such as [{limits: {seats: 100}, price: 10.00}, {price: 30.00}]")
	}
}

func (m *Model) capacityStep(e value, c money.Currency) *CapacityStep {
	o := e.d.object(e)
	if o == nil {
		return nil
	}
	s := &CapacityStep{}
	if f, ok := o.get("limits"); ok {
		if l := e.d.object(f); l != nil {
			s.Limits = map[string]decimal.Decimal{}
			for _, name := range sortedKeys(l.fields) {
				if h, ok := l.get(name); ok {
					s.Limits[name], _ = h.notNegative()
				}
			}
		}
	}
	if f, ok := o.need("price", "what this step costs"); ok {
		if a, ok := f.amount(c); ok {
			s.Price = a.Decimal()
		}
	}
	o.done()
	return s
}

// Meters are those that capacities limit, sorted.
func (m Model) Meters() []string {
	var ids []string
	for _, s := range m.Capacities {
		for id := range s.Limits {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// reached is the first capacity that holds all quantities: the last one has no limits.
func (m Model) reached(quantities map[string]decimal.Decimal) int {
	for i, s := range m.Capacities {
		holds := true
		for id, limit := range s.Limits {
			if quantities[id].GreaterThan(limit) {
				holds = false
			}
		}
		if holds {
			return i
		}
	}
	return len(m.Capacities) - 1
}
