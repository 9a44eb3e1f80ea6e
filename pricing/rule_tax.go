package pricing

import "github.com/shopspring/decimal"

const taxDoc = "A tax on what other rules charge, which we must add and owe to an authority."

// TaxRule is the body of a tax on our own charges. Tax on sales comes with the sales.
type TaxRule struct {
	On           []string        `json:"on"`
	Rate         decimal.Decimal `json:"rate"`
	Jurisdiction string          `json:"jurisdiction"`
}

func (b *TaxRule) follows() []string { return b.On }

func decodeTax(c *contract, o *object) any {
	b := &TaxRule{On: c.readFollowed(o, "on")}
	if f, ok := o.need("rate", "such as 20%"); ok {
		b.Rate, _ = f.percent()
	}
	if f, ok := o.need("jurisdiction", "to whom it is owed, such as gb or us-tx"); ok {
		b.Jurisdiction, _ = f.id()
	}
	return b
}

func taxSchema() schema {
	return schema{
		"on":           followedSchema(),
		"rate":         percentSchema("of what the rules charge, as it stands on the statement"),
		"jurisdiction": idSchema("to whom the tax is owed"),
	}.require("on", "rate", "jurisdiction")
}

// followTax adds the tax on what the rules charge.
func followTax(p *pricer, s *segment, r *Rule) error {
	b := r.Body.(*TaxRule)
	bases, err := p.bases(s, b.On, "partner")
	if err != nil {
		return err
	}
	for _, scope := range sortedKeys(bases) {
		x := bases[scope]
		l := p.followLine(s, r, "tax", x, "Tax at "+Percent(b.Rate)+", "+b.Jurisdiction)
		l.Rate, l.Of = Percent(b.Rate), b.Jurisdiction
		l.addBase(x.charges())
		if !x.charges().IsZero() {
			l.took(wentPrice, 0, "")
		}
		l.add("charges at "+l.Rate, x.charges(), b.Rate.Neg())
		x.share(l)
	}
	return nil
}
