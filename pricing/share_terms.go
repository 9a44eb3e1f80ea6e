package pricing

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/metering"
)

// readPlatform reads the rate, the rates by attribute, or the ladder of a share.
func (b *Share) readPlatform(c *contract, f value) {
	o := c.object(f)
	if o == nil {
		return
	}
	rate, hasRate := o.get("rate")
	by, hasBy := o.get("by")
	tiers, hasTiers := o.get("tiers")
	steps, hasSteps := o.get("steps")
	switch {
	case hasRate && (hasTiers || hasSteps):
		rate.bad("one rate and a ladder of rates", "keep `rate`, or `tiers` with `steps`")
	case hasBy && (hasTiers || hasSteps):
		by.bad("rates by attribute and a ladder of rates", "keep `by` with `rates`, or `tiers` with `steps`")
	case hasBy:
		b.readRates(c, o, by)
	case hasRate:
		b.Rate, _ = rate.percent()
		b.Steps = Steps{{Rate: b.Rate}}
	case hasTiers && hasSteps:
		b.readTiers(c, tiers)
		b.Steps = steps.steps(rateSteps, c.terms.Currency)
	case hasTiers || hasSteps:
		o.bad("a ladder needs both `tiers` and `steps`", "such as tiers: {window: month}, steps: [{to: 1000, rate: 0%}, {rate: 15%}]")
	default:
		o.bad("no rate", "platform: {rate: 15%}, or tiers and steps")
	}
	b.readPoints(c, o)
	b.readDeals(c, o)
	o.done()
}

// attributes are what of a sale may choose its rate, beside dimensions.NAME.
var attributes = []string{"region", "reference", "deal", "operation", "unit", "class", "app", "customer"}

const attributeHelp = "one of: region, reference, deal, operation, unit, class, app, customer, dimensions.NAME"

// attribute reads the name of an attribute of a sale.
func (v value) attribute() string {
	s, ok := v.text()
	if name, dim := strings.CutPrefix(s, "dimensions."); ok && !(dim && name != "") && !slices.Contains(attributes, s) {
		v.bad(fmt.Sprintf("%q is no attribute of a sale", clip(s)), attributeHelp)
		return ""
	}
	return s
}

// attribute is what the event says of itself; empty when it says nothing.
func (t *transaction) attribute(by string) string {
	if name, ok := strings.CutPrefix(by, "dimensions."); ok {
		return t.Data.Dimensions[name]
	}
	switch by {
	case "region":
		return t.Data.Region
	case "reference":
		return t.Data.Reference
	case "deal":
		return t.Data.Deal
	case "operation":
		return t.Data.Operation
	case "unit":
		return t.Data.Unit
	case "class":
		return string(t.Data.Class)
	case "app":
		return string(t.Data.App)
	}
	return string(t.Customer)
}

// readRates reads a rate for each value of an attribute.
func (b *Share) readRates(c *contract, o *object, by value) {
	b.By = by.attribute()
	if f, ok := o.need("rates", "such as rates: {renewal: 1.5%, new: 3%}"); ok {
		if g := c.object(f); g != nil {
			b.Rates = map[string]decimal.Decimal{}
			for _, name := range sortedKeys(g.fields) {
				if h, ok := g.get(name); ok {
					b.Rates[name], _ = h.percent()
				}
			}
		}
	}
	if f, ok := o.get("rate"); ok {
		b.Rate, b.Others = first(f.percent()), true
	}
	b.Steps = Steps{{Rate: b.Rate}}
}

func first[T any](v T, _ bool) T { return v }

// readPoints reads by how much an attribute moves the rate.
func (b *Share) readPoints(c *contract, o *object) {
	f, ok := o.get("points")
	if !ok {
		return
	}
	if b.Tiers != nil && b.Tiers.Mode == "volume" {
		f.bad("a volume ladder has one rate for all sales", "make a rule for each class, or mode: graduated")
	}
	for _, e := range f.list() {
		g := c.object(e)
		if g == nil {
			return
		}
		var u Uplift
		if h, ok := g.need("by", attributeHelp); ok {
			u.By = h.attribute()
		}
		if h, ok := g.need("is", "the value that moves the rate"); ok {
			u.Is, _ = h.text()
		}
		if h, ok := g.need("platform_rate", "such as +0.5 points"); ok {
			u.Points, _ = h.points()
		}
		g.done()
		b.Points = append(b.Points, u)
	}
}

// readDeals reads what deals are worth in all.
func (b *Share) readDeals(c *contract, o *object) {
	f, ok := o.get("deals")
	if !ok {
		return
	}
	if b.Tiers == nil || b.Tiers.Mode != "volume" || b.Tiers.Per != "deal" {
		f.bad("the worth of deals chooses a step of tiers per deal", "tiers: {mode: volume, per: deal, …}")
	}
	g := c.object(f)
	if g == nil {
		return
	}
	b.Deals = map[string]decimal.Decimal{}
	for _, name := range sortedKeys(g.fields) {
		h, ok := g.get(name)
		if !ok {
			continue
		}
		if a, ok := h.amount(c.terms.Currency); ok {
			b.Deals[name] = a.Decimal()
		}
	}
}

// What a tier can be about, and whose.
var (
	tierModes = []string{"graduated", "volume", "step"}
	tierTotal = []string{"gross", "net", "proceeds", "paid_months"}
	tierScope = []string{"partner", "group", "app", "customer", "subscription", "deal"}
)

// readTiers reads which total decides the step.
func (b *Share) readTiers(c *contract, f value) {
	t := &Tiers{Mode: "graduated", On: "gross", Window: Window{Kind: "month"}, Per: "partner"}
	b.Tiers = t
	o := c.object(f)
	if o == nil {
		return
	}
	if g, ok := o.get("on"); ok {
		t.On, _ = g.oneOf(tierTotal...)
	}
	if t.On == "paid_months" {
		t.Mode, t.Per = "step", "subscription"
	}
	if g, ok := o.get("mode"); ok {
		t.Mode, _ = g.oneOf(tierModes...)
		switch {
		case t.On == "proceeds" && t.Mode != "step", t.On == "paid_months" && t.Mode != "step":
			g.bad(t.On+" decide the rate of the next sale", "mode: step")
		case t.Mode == "volume" && c.terms.Round.Per == "transaction":
			g.bad("a volume ladder rates sums, not sales", "rounding: {per: line}")
		}
	} else if t.On == "proceeds" {
		t.Mode = "step"
	}
	b.readWindow(c, o, t)
	if g, ok := o.get("per"); ok {
		t.Per, _ = g.oneOf(tierScope...)
	}
	o.done()
}

// readWindow reads how long the total runs; months that a subscription has paid for
// are counted from its beginning.
func (b *Share) readWindow(c *contract, o *object, t *Tiers) {
	if t.On == "paid_months" {
		t.Window = Window{}
		if g, ok := o.get("window"); ok {
			g.bad("paid months are counted from the first", "leave it out; a grace ends a subscription that lapses")
		}
		if g, ok := o.get("grace"); ok {
			t.Grace, _ = g.duration()
		}
		return
	}
	if g, ok := o.need("window", windowHelp); ok {
		t.Window = g.window(c.terms.From)
	}
}

func shareSchema() schema {
	return schema{
		"of": enum("the event that is shared", metering.SalePaid),
		"chargebacks": object1("a chargeback that is opened is contested money until it is won or lost", schema{
			"fee": enum("who bears the processor's fee of one that is lost", "platform", "partner"),
		}),
		"basis": enum("when a sale counts: when it is paid; or when it is invoiced, and what is the partner's waits until it is paid", "paid", Invoiced),
		"platform": object1("the platform's part", schema{
			"rate":  percentSchema("one rate for all; beside `by`: for all other values"),
			"by":    attributeSchema("the attribute of the sale that chooses the rate"),
			"rates": schema{"type": "object", "description": "the rate for each value of the attribute", "minProperties": 1, "additionalProperties": percentSchema("the rate for this value")},
			"points": listOf("sales that have an attribute are charged more or less", object1("one value of an attribute", schema{
				"by": attributeSchema("an attribute of the sale"), "is": text("its value"),
				"platform_rate": pattern("such as +0.5 points", `^[+-][0-9][0-9_]*(\.[0-9]+)? points?$`),
			}.require("by", "is", "platform_rate"))),
			"tiers": tiersSchema(),
			"steps": stepsSchema(rateSteps),
			"deals": schema{"type": "object", "description": "tiers volume per deal: what deals are worth in all, which decides their step from the first sale on", "additionalProperties": numberSchema("what this deal is worth in all")},
		}),
		"refunds": enum("what a refund or lost chargeback does to the platform's part", AtOriginalRate, ReduceBase, PlatformKeepsShare),
	}.require("of", "platform")
}

func attributeSchema(doc string) schema {
	return pattern(doc, `^(`+strings.Join(attributes, "|")+`|dimensions\..+)$`)
}

func tiersSchema() schema {
	return object1("which total decides the step", schema{
		"mode":   enum("graduated: each step's rate on the part that falls in it · volume: all of the window at the step it reaches · step: a whole sale at the step that the total before it stands in", tierModes...),
		"on":     enum("the total: gross sales, net of refunds and lost chargebacks, the partner's proceeds, or the months that a subscription has paid for", tierTotal...),
		"window": windowSchema(),
		"per":    enum("whose total; a subscription is a customer with an app", tierScope...),
		"grace":  durationSchema("paid_months: a subscription that lapses for longer begins anew"),
	})
}
