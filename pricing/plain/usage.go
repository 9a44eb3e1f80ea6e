package plain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/pricing"
)

func (w *writer) usageFee(r *pricing.Rule, b *pricing.UsageFee) {
	switch {
	case b.Of != "":
		w.say("of", "The partner pays the marketplace for each sale that a customer has paid.")
	case b.Meter != "":
		w.say("meter", "The partner pays the marketplace for %s.", w.meter(b.Meter)).is("what is paid for", w.meter(b.Meter))
		if class := w.n.Meters[b.Meter].Class; class != "" && r.Class == "" {
			w.say("meter.class", "It counts the class %s only.", code(string(class))).is("the class that it counts", code(string(class)))
		}
	default:
		meters := make([]string, len(b.Price.Meters()))
		for i, id := range b.Price.Meters() {
			meters[i] = w.meter(id)
		}
		w.say("meters", "The partner pays the marketplace for capacity: %s.", and(meters)).is("what is paid for", and(meters))
	}
	if b.Quantity != nil {
		w.quantity(b, b.Quantity)
	}
	w.model(b)
	w.say("per", "%s", usagePer[b.Per]).is("what counts for itself", usagePerShort[b.Per])
	w.say("window", "The count is of %s.", window(b.Window)).is("the time that the count is of", window(b.Window))
}

var usagePer = map[string]string{
	"partner":  "All of the partner's use counts together.",
	"app":      "The use of each app counts for itself.",
	"customer": "The use of each customer counts for itself.",
}

var usagePerShort = map[string]string{"partner": "all of the partner's use together", "app": "each app", "customer": "each customer"}

// quantity is which figure of the usage is priced, and in which unit.
func (w *writer) quantity(b *pricing.UsageFee, q *pricing.Quantity) {
	w.say("quantity.as", "What is priced is %s.", figures[q.As]).is("the figure that is priced", figures[q.As])
	if q.Each != "" {
		w.say("quantity.each", "Each %s is priced for itself, from the first step on.", q.Each).is("what is priced for itself", "each "+q.Each)
	}
	if q.Less != "" {
		w.say("quantity.less", "The level is lowered by %s.", w.meter(q.Less)).is("what lowers the level", w.meter(q.Less))
	}
	if q.Multiply.IsPositive() {
		w.say("quantity.multiply_by", "It is multiplied by %s to convert it.", number(q.Multiply)).is("the factor of conversion", number(q.Multiply))
	}
	if q.Divide.IsPositive() {
		w.say("quantity.divide_by", "It is divided by %s to convert it.", number(q.Divide)).is("the divisor of conversion", number(q.Divide))
	}
	if q.Round != "" {
		how := fmt.Sprintf("%s, to multiples of %s", rounding(q.Round), number(q.To))
		w.say("quantity.round", "It is rounded %s.", how).is("how the quantity is rounded", how)
	}
	if q.Free.IsPositive() {
		w.say("quantity.free", "The first %s of it are free.", number(q.Free)).is("what is free", number(q.Free))
	}
}

var figures = map[string]string{
	"sum":      "the sum of the usage",
	"max":      "the largest quantity that one event says",
	"last":     "the last quantity that an event says",
	"peak":     "the highest level in the month of what usage adds and takes away",
	"weighted": "the average level over the month of what usage adds and takes away",
	"prorated": "each change of the level, for the days that are left of the month",
}

// model is how the quantity becomes money.
func (w *writer) model(b *pricing.UsageFee) {
	m := b.Price
	unit := w.unit(b.Meter)
	switch m.Model {
	case "per_unit":
		w.say("price", "Each %s costs %s.", unit, w.amount(m.Unit)).is("the price of each "+unit, w.amount(m.Unit))
	case "graduated":
		w.units(b, unit, "What falls into a step costs the price of that step:")
	case "volume":
		w.units(b, unit, "All of it costs the price of the step that it reaches:")
	case "flat":
		w.steps(m, "There is one price for the step that is reached:", ladder{head: []string{"Price"}, term: "the price", cells: func(s pricing.TierStep) []string { return []string{w.amount(s.Flat)} }})
	case "block":
		text := "What falls into a step is charged in blocks of that step, each begun block whole:"
		if m.TopStep {
			text = "All of it is charged in blocks of the step that it reaches, each begun block whole:"
		}
		w.steps(m, text, ladder{head: []string{"Block of", "Price of a block"}, term: "the price",
			cells: func(s pricing.TierStep) []string { return []string{number(s.Size), w.amount(s.Price)} },
			value: func(c []string, _ pricing.TierStep) string { return c[1] + " for each " + c[0] }})
	case "package":
		part := "a package that is begun counts whole"
		if m.Partial == "down" {
			part = "a package that is not full does not count"
		}
		value := fmt.Sprintf("%s for each %s, where %s", w.amount(m.Price), number(m.Size), part)
		w.say("price", "It costs %s.", value).is("the price", value)
	case "percentage":
		w.percentage(m)
	case "graduated_percentage":
		head, cells := []string{"Rate"}, func(s pricing.TierStep) []string { return []string{pricing.Percent(s.Rate)} }
		if anyFlat(m.Steps) {
			head, cells = []string{"Rate", "And once"}, func(s pricing.TierStep) []string {
				return []string{pricing.Percent(s.Rate), w.amount(s.Flat)}
			}
		}
		w.steps(m, "The money that falls into a step costs the rate of that step"+once(m.Steps)+":", ladder{show: w.amount, head: head, cells: cells, term: "the rate"})
	case "multiplier":
		w.say("price", "It costs the quantity, which is an amount of money, times %s.", number(m.Factor)).is("the factor", number(m.Factor))
	case "event_amount":
		w.say("price", "It costs the amount that the events say, times %s; nothing where their quantity is zero.", number(m.Factor)).is("the factor", number(m.Factor))
	case "capacity":
		w.capacity(m)
	default:
		panic("plain: internal error: no words for the model " + m.Model)
	}
	if m.ChargeAtZero {
		w.say("charge_at_zero", "The flat fee of the first step is due even in a month without usage.")
	}
}

func anyFlat(s pricing.Steps) bool {
	return slices.ContainsFunc(s, func(s pricing.TierStep) bool { return !s.Flat.IsZero() })
}

// once introduces flat fees of a ladder that has some.
func once(s pricing.Steps) string {
	if anyFlat(s) {
		return ", and a step's flat fee once when the total passes its lower bound"
	}
	return ""
}

// units is a ladder of prices for a unit.
func (w *writer) units(b *pricing.UsageFee, unit, text string) {
	steps := b.Price.Steps
	l := ladder{head: []string{"Each " + unit}, term: "the price of each " + unit}
	flat := anyFlat(steps)
	capped := slices.ContainsFunc(steps, func(s pricing.TierStep) bool { return s.Cap != nil })
	if flat {
		l.head = append(l.head, "And once")
	}
	if capped {
		l.head = append(l.head, "At most")
	}
	l.cells = func(s pricing.TierStep) []string {
		cells := []string{w.amount(s.Unit)}
		if flat {
			cells = append(cells, w.amount(s.Flat))
		}
		if !capped {
			return cells
		}
		if s.Cap == nil {
			return append(cells, "no limit")
		}
		return append(cells, w.amount(*s.Cap))
	}
	l.value = func(cells []string, s pricing.TierStep) string {
		v := cells[0]
		if !s.Flat.IsZero() {
			v += " and " + w.amount(s.Flat) + " once"
		}
		if s.Cap != nil {
			v += ", at most " + w.amount(*s.Cap) + " in the step"
		}
		return v
	}
	w.steps(b.Price, strings.TrimSuffix(text, ":")+once(steps)+":", l)
}

func (w *writer) steps(m pricing.Model, text string, l ladder) {
	l.what, l.of = "Total", "all"
	if l.show == nil {
		l.show = number
	}
	w.say("steps", "%s", text).Table = l.table(m.Steps)
}

func (w *writer) percentage(m pricing.Model) {
	price := pricing.Percent(m.Rate) + " of its amount"
	switch {
	case m.Rate.IsZero() && !m.Fixed.IsZero():
		price = w.amount(m.Fixed)
	case !m.Fixed.IsZero():
		price += " and " + w.amount(m.Fixed)
	}
	w.say("rate", "Each event costs %s.", price).is("the price of each event", price)
	if m.FreeEvents > 0 {
		n := number(decimal.NewFromInt(m.FreeEvents))
		w.say("free_events", "The first %s events are free, while the free amount lasts too if there is one.", n).is("the number of free events", n)
	}
	if m.FreeAmount != nil {
		w.say("free_amount", "The first %s are free, while the free events last too if there are any.", w.amount(*m.FreeAmount)).is("the free amount", w.amount(*m.FreeAmount))
	}
	if m.Min != nil {
		w.say("min", "An event that is not free costs at least %s.", w.amount(*m.Min)).is("the least that an event costs", w.amount(*m.Min))
	}
	if m.Max != nil {
		w.say("max", "An event costs at most %s.", w.amount(*m.Max)).is("the most that an event costs", w.amount(*m.Max))
	}
}

func (w *writer) capacity(m pricing.Model) {
	t := &Table{Head: []string{"Up to and including", "Price"}}
	for i, s := range m.Capacities {
		limits := "everything beyond"
		if len(s.Limits) > 0 {
			var parts []string
			for _, id := range sortedKeys(s.Limits) {
				parts = append(parts, fmt.Sprintf("%s of %s", number(s.Limits[id]), w.meter(id)))
			}
			limits = and(parts)
		}
		t.Rows = append(t.Rows, Row{Key: fmt.Sprintf("%d %s", i, limits), Cells: []string{limits, w.amount(s.Price)}, Term: "the price of " + limits, Value: w.amount(s.Price)})
	}
	w.say("steps", "The price is the first one whose limits hold for every meter:").Table = t
}

func (w *writer) fixedFee(r *pricing.Rule, b *pricing.FixedFee) {
	who := "the partner"
	if b.Per == "app" {
		who = "each app"
	}
	w.say("class", "The partner pays the marketplace a fee for %s.", code(string(r.Class))).is("what the fee is for", code(string(r.Class)))
	w.say("due", "It is due %s.", due(b)).is("when the fee is due", due(b))
	switch {
	case b.Amount != nil && b.Amounts != nil:
		w.say("amount", "It is %s where the event's reference is none of those below.", w.amount(*b.Amount)).is("the fee", w.amount(*b.Amount))
	case b.Amount != nil:
		w.say("amount", "It is %s.", w.amount(*b.Amount)).is("the fee", w.amount(*b.Amount))
	default:
		w.say("amount", "It is what the event says, where the contract names no amount.").is("the fee", "what the event says")
	}
	if b.Amounts != nil {
		w.say("amounts", "Fees by the event's reference:").Table = values("the fee for", [2]string{"Reference", "Fee"}, sortedKeys(b.Amounts), func(n string) string { return w.amount(b.Amounts[n]) }, quoted)
	}
	if b.Reference != "" {
		w.say("reference", "Only events with the reference %s count.", quoted(b.Reference)).is("the reference of events that count", quoted(b.Reference))
	}
	w.say("per", "It is charged for %s.", who).is("who is charged", who)
	if b.Prorate != "" {
		w.say("prorate", "A cycle in which the terms begin, end or change is charged, and given back, by days.")
	}
	if b.Charged == "in_arrears" {
		w.say("charged", "It is charged on the last day of each cycle, in arrears.")
	}
	if b.Over > 0 {
		w.say("recognise", "It is charged at once; in the marketplace's books it is earned over %s.", months(b.Over)).is("over what time the fee is earned", months(b.Over))
	}
}

// due is when a fixed fee is due.
func due(b *pricing.FixedFee) string {
	switch {
	case b.Every == 1:
		return "every day from the first day of these terms"
	case b.Every > 0:
		return fmt.Sprintf("every %d days from the first day of these terms", b.Every)
	case b.Due == "yearly":
		return fmt.Sprintf("each year on %02d-%02d (month and day)", int(b.Month), b.Day)
	case b.CycleDay > 0:
		return fmt.Sprintf("each month on day %d, or on the last day of a shorter month", b.CycleDay)
	case b.Due == "monthly":
		return "each month"
	case b.Due == metering.FeeDue:
		return "when an event " + code(metering.FeeDue) + " says so"
	}
	return "once"
}

// feeName is what the statement calls a fee without a text.
func feeName(r *pricing.Rule) string { return sentence(string(r.Class)) + " fee" }
