package pricing

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
)

const splitDoc = "Co-selling: other partners get parts of the sales that this contract shares, out of what its partner gets."

// Split is the body of a split.
type Split struct {
	Of    string                         `json:"of"`              // sale.paid, and what is given back of it
	Base  string                         `json:"base"`            // gross | proceeds: after the platform's part
	To    map[partner.ID]decimal.Decimal `json:"to"`              // parts by partner
	Deals []string                       `json:"deals,omitempty"` // only sales of these deals
}

func decodeSplit(c *contract, o *object) any {
	b := &Split{Of: metering.SalePaid, Base: "proceeds", To: map[partner.ID]decimal.Decimal{}}
	if f, ok := o.get("of"); ok {
		b.Of, _ = f.oneOf(metering.SalePaid)
	}
	if f, ok := o.get("base"); ok {
		b.Base, _ = f.oneOf("gross", "proceeds")
	}
	if f, ok := o.need("to", "the partners and their parts, such as to: {helio: 30%}"); ok {
		b.readTo(c, f)
	}
	if f, ok := o.get("deals"); ok {
		for _, e := range f.list() {
			if s, ok := e.text(); ok {
				b.Deals = append(b.Deals, s)
			}
		}
		if b.Deals == nil {
			f.bad("no deal is named", "leave the field out for all sales")
		}
	}
	return b
}

// readTo reads who gets which part.
func (b *Split) readTo(c *contract, f value) {
	o := c.object(f)
	if o == nil {
		return
	}
	sum := decimal.Zero
	for _, name := range sortedKeys(o.fields) {
		g, ok := o.get(name)
		if !ok {
			continue
		}
		id := partner.ID(name)
		switch err := partner.CheckID(name); {
		case err != nil:
			g.bad(err.Error(), "name a partner")
		case id == partner.Platform || id == c.terms.Partner || name == "partner":
			g.bad(fmt.Sprintf("%s is a party already", id), "name other partners; the rest stays with the contract's")
		}
		if d, ok := g.percent(); ok {
			b.To[id], sum = d, sum.Add(d)
		}
	}
	switch {
	case len(b.To) == 0 && len(o.fields) == 0:
		f.bad("nobody gets a part", "such as to: {helio: 30%}")
	case sum.GreaterThan(one):
		f.bad(fmt.Sprintf("the parts add up to %s", Percent(sum)), "100% at most; the rest stays with the contract's partner")
	}
}

func splitSchema() schema {
	return schema{
		"of":    enum("the sales that are split, with their refunds and lost chargebacks", metering.SalePaid),
		"base":  enum("what is split: sales, or what is left after the platform's part", "gross", "proceeds"),
		"to":    schema{"type": "object", "description": "the part of each partner; the rest stays with the contract's", "minProperties": 1, "additionalProperties": percentSchema("the part of this partner")},
		"deals": listOf("only sales of these deals", text("the deal, as sales name it")),
	}.require("to")
}

// Parties are the partners that get a part, sorted.
func (b *Split) Parties() []partner.ID { return sortedKeys(b.To) }

// priceSplits gives parts of the month's sales to other partners.
func priceSplits(p *pricer) error {
	for _, s := range p.segments {
		for i := range s.Terms.Rules {
			r := &s.Terms.Rules[i]
			if b, ok := r.Body.(*Split); ok {
				p.splitSales(s, r, b)
			}
		}
	}
	return nil
}

func (p *pricer) splitSales(s *segment, r *Rule, b *Split) {
	for i := range p.sold {
		e := &p.sold[i]
		if e.s != s || e.body.Passes != "" || !s.about(r, e.app) || !hasClass(r.Class, e.class()) ||
			len(b.Deals) > 0 && !slices.Contains(b.Deals, e.deal) {
			continue
		}
		amount := e.money
		if b.Base == "proceeds" {
			amount = amount.Sub(e.taken)
		}
		for _, id := range b.Parties() {
			p.giveSplit(s, r, b, e, id, amount)
		}
	}
}

// class is that of the sale's rule where the event, a refund, says none.
func (e *saleEvent) class() metering.Class { return cmp.Or(e.t.Data.Class, e.r.Class) }

// giveSplit books one partner's part of one sale on the lines of both parties.
func (p *pricer) giveSplit(s *segment, r *Rule, b *Split, e *saleEvent, id partner.ID, amount decimal.Decimal) {
	part := b.To[id]
	what := b.Base + " at " + Percent(part)
	p.took(s, r, wentValue, 0, string(id))
	for _, side := range []struct {
		party, payer partner.ID
		scope        string
		sign         decimal.Decimal
	}{{s.Terms.Partner, id, "to:" + string(id), one.Neg()}, {id, s.Terms.Partner, "", one}} {
		l := p.line(s, r, "split", side.scope, side.party, side.payer)
		l.Text = cmp.Or(r.Text, "Split of sales")
		l.Rate = Percent(part)
		l.behind(e.t.Type)
		l.addBase(amount)
		l.allocate(e.app, e.customer, 0, l.add(what, amount, part.Mul(side.sign)))
	}
}
