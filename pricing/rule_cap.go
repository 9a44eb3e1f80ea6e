package pricing

import (
	"github.com/shopspring/decimal"
)

const capDoc = "The most that other rules charge in a window; what is beyond is given back."

// Cap is the body of a cap.
type Cap struct {
	On      []string        `json:"on"`
	Maximum decimal.Decimal `json:"maximum"`
	Per     string          `json:"per"` // partner | app | customer
	Limit
}

func (b *Cap) follows() []string { return b.On }

func decodeCap(c *contract, o *object) any {
	b := &Cap{On: c.readFollowed(o, "on"), Per: "partner"}
	if f, ok := o.need("maximum", "such as 100.00"); ok {
		if a, ok := f.amount(c.terms.Currency); ok {
			b.Maximum = a.Decimal()
		}
	}
	if f, ok := o.get("per"); ok {
		b.Per, _ = f.oneOf("partner", "app", "customer")
	}
	b.read(c, o)
	return b
}

func capSchema() schema {
	return (&Limit{}).schema(schema{
		"on":      followedSchema(),
		"maximum": numberSchema("most that the rules charge in a window"),
		"per":     enum("each has a maximum and a line of its own", "partner", "app", "customer"),
	}.require("on", "maximum"))
}

// followCap gives back what the window's charges exceed the maximum by, less what
// months before gave back.
func followCap(p *pricer, s *segment, r *Rule) error {
	b := r.Body.(*Cap)
	bases, err := p.bases(s, b.On, b.Per)
	if err != nil {
		return err
	}
	most, text := p.limit(s, r, b.Limit, b.Maximum)
	for _, scope := range sortedKeys(bases) {
		x := bases[scope]
		t := p.total(s, r.ID, "charges", scope, b.Window)
		given := p.total(s, r.ID, "given", scope, b.Window)
		t.Value = t.Value.Add(x.charges())
		beyond := decimal.Max(decimal.Zero, t.Value.Sub(most))
		switch {
		case beyond.IsPositive():
			p.took(s, r, wentMost, 0, "")
		case x.charges().IsPositive():
			p.took(s, r, wentBelow, 0, "")
		}
		if beyond.IsZero() && given.Value.IsZero() {
			continue
		}
		l := p.followLine(s, r, "cap", x, "At most "+groupedMoney(b.Maximum, s.Terms.Currency)+" a "+b.Window.unit())
		l.add("charges of the "+b.Window.unit()+" beyond "+text, beyond, one)
		if !given.Value.IsZero() {
			l.add("given back before", given.Value, one.Neg())
		}
		given.Value = given.Value.Add(s.Terms.Round.decimal(l.Exact, s.Terms.Currency))
		x.share(l)
	}
	return nil
}
