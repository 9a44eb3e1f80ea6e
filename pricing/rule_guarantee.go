package pricing

import (
	"github.com/shopspring/decimal"
)

const guaranteeDoc = "The partner gets at least this much from other rules in a window: the rest is paid at its end."

// Guarantee is the body of a guarantee.
type Guarantee struct {
	On      []string        `json:"on"`
	Minimum decimal.Decimal `json:"minimum"`
	Limit
}

func (b *Guarantee) follows() []string { return b.On }

func decodeGuarantee(c *contract, o *object) any {
	b := &Guarantee{On: c.readFollowed(o, "on")}
	if f, ok := o.need("minimum", "such as 1_000.00"); ok {
		if a, ok := f.amount(c.terms.Currency); ok {
			b.Minimum = a.Decimal()
		}
	}
	b.read(c, o)
	if b.Window.Kind == "lifetime" {
		o.at("window").bad("a lifetime has no end at which the rest is paid", "one of: month, quarter, year, contract year")
	}
	return b
}

func guaranteeSchema() schema {
	return (&Limit{}).schema(schema{
		"on":      followedSchema(),
		"minimum": numberSchema("least that the partner gets from the rules in a window, sales and charges together"),
	}.require("on", "minimum"))
}

// followGuarantee pays what is missing from the guaranteed amount at the end of the
// window.
func followGuarantee(p *pricer, s *segment, r *Rule) error {
	b := r.Body.(*Guarantee)
	bases, err := p.basesOf(s, b.On, "partner", func(l *lineBuilder) bool { return l.Part != "collected" })
	if err != nil {
		return err
	}
	least, text := p.limit(s, r, b.Limit, b.Minimum)
	for _, scope := range sortedKeys(bases) {
		x := bases[scope]
		t := p.total(s, r.ID, "earned", scope, b.Window)
		t.Value = t.Value.Add(x.amount)
		if b.ends(s, p.in.Month) && !t.Value.LessThan(least) {
			p.took(s, r, wentHolds, 0, "")
		}
		if !b.ends(s, p.in.Month) || !t.Value.LessThan(least) {
			continue
		}
		p.took(s, r, wentBelow, 0, "")
		l := p.followLine(s, r, "guarantee", x, "Guarantee of "+groupedMoney(b.Minimum, s.Terms.Currency)+" a "+b.Window.unit())
		l.add("guaranteed "+text, least, one)
		l.add("earned in the "+b.Window.unit(), t.Value, one.Neg())
		t.Value = least
		x.share(l)
	}
	return nil
}
