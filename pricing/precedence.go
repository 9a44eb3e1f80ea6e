package pricing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"mete/metering"
	"mete/partner"
)

// Level is how specific a contract's claim to a sale is. Of contracts of one partner
// that share a sale, the one with the highest level takes it.
type Level int

// The levels, from the general to the specific.
const (
	ForPartner  Level = iota // all apps of the partner
	ForApp                   // apps that the rule, or the contract, names
	ForCustomer              // one customer
	ForDeal                  // one deal
)

// LevelOf is the level of what a rule of the terms claims.
func (t *Terms) LevelOf(r *Rule) Level {
	switch {
	case t.Deal != "":
		return ForDeal
	case t.Customer != "":
		return ForCustomer
	case len(r.Apps) > 0 || len(t.Apps) > 0:
		return ForApp
	}
	return ForPartner
}

// Reach is what a rule of the terms claims, for people.
func (t *Terms) Reach(r *Rule) string {
	switch t.LevelOf(r) {
	case ForDeal:
		return "deal " + t.Deal
	case ForCustomer:
		return "customer " + string(t.Customer)
	case ForApp:
		apps := r.Apps
		if len(apps) == 0 {
			apps = t.Apps
		}
		words := make([]string, len(apps))
		for i, a := range apps {
			words[i] = string(a)
		}
		if len(apps) == 1 {
			return "app " + words[0]
		}
		return "apps " + strings.Join(words, ", ")
	}
	return "all apps of " + string(t.Partner)
}

// IsFor reports whether the terms are about a customer's events of a deal: those that
// name neither a customer nor a deal are about all.
func (t *Terms) IsFor(c partner.CustomerID, deal string) bool {
	return (t.Customer == "" || t.Customer == c) && (t.Deal == "" || t.Deal == deal)
}

// specific reports whether the terms are about some events of their apps only.
func (t *Terms) specific() bool { return t.Customer != "" || t.Deal != "" }

// place gives refunds, chargebacks, write-offs and payments of invoices that name their sale to
// the contract that has the sale, whether or not they name its deal.
func (p *pricer) place() {
	sales := map[saleKey]*transaction{}
	each := func(do func(s *segment, t *transaction)) {
		for _, s := range p.segments {
			if s.Terms.specific() {
				for i := range s.transactions {
					do(s, &s.transactions[i])
				}
			}
		}
	}
	each(func(s *segment, t *transaction) {
		if t.Type == metering.SalePaid || t.Type == metering.SaleInvoiced {
			sales[saleKey{s.Terms.Contract, t.Source, t.ID}] = t
		}
	})
	each(func(s *segment, t *transaction) {
		if t.Type == metering.SaleInvoiced || !t.ofCustomer() && t.Type != metering.SaleWrittenOff && !contests(t) || t.Data.RefersTo == "" || !s.own[t.Data.App] {
			return
		}
		if t.Type == metering.SalePaid { // of an invoice, or a sale that refers to something else
			sale := sales[saleKey{s.Terms.Contract, t.Source, t.Data.RefersTo}]
			if sale != nil && sale.Type == metering.SaleInvoiced {
				t.own = sale.own
			} else if slices.ContainsFunc(s.Terms.Rules, func(r Rule) bool { return p.invoice(s, r.ID, unpaidTotal, t) != nil }) {
				t.own = true
			}
			return
		}
		if sale := sales[saleKey{s.Terms.Contract, t.Source, t.Data.RefersTo}]; sale != nil {
			t.own = sale.own
		} else if p.attributed(s, t) {
			t.own = true
		}
	})
}

// claim is one contract's claim to a sale.
type claim struct {
	s     *segment
	r     *Rule
	level Level
	own   bool // the sale is in the contract's currency
}

// claimTo is the segment's claim to an event of its own or of a rival segment; false
// where it has none.
func (s *segment) claimTo(t *transaction) (claim, bool) {
	same := t
	if len(s.rivals) > 0 {
		same = s.events[t.Key]
	}
	if same == nil || !same.own || !s.Terms.Converts(t.Data.Currency) {
		return claim{}, false
	}
	r := s.shareRule(same)
	if r == nil {
		return claim{}, false
	}
	return claim{s, r, s.Terms.LevelOf(r), s.Terms.Currency == t.Data.Currency}, true
}

// compareClaims is the order of precedence, the stronger first: the more specific
// contract, and of two that are equally specific the one in the sale's own currency.
func compareClaims(a, b claim) int {
	return cmp.Or(cmp.Compare(b.level, a.level), btoi(b.own)-btoi(a.own))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// sharedElsewhere reports whether another contract of the partner has the sale: one
// that converts or has its currency, and of several the one that goes first. A refund
// is where its sale is. Two that are equally specific are an error.
func (p *pricer) sharedElsewhere(s *segment, t *transaction) (bool, error) {
	if len(s.rivals) == 0 {
		return false, nil
	}
	if t.Type != metering.SalePaid && t.Data.RefersTo != "" {
		if sale := p.sales[saleKey{s.Terms.Contract, t.Source, t.Data.RefersTo}]; sale != nil {
			for _, o := range p.segments { // a sale of this month may lie in another version
				if o.Terms.Contract == s.Terms.Contract && o.events[sale.Key] == sale {
					return p.sharedElsewhere(o, sale)
				}
			}
		}
		if p.attributed(s, t) {
			return false, nil
		}
		for _, o := range s.rivals {
			sale := p.sales[saleKey{o.Terms.Contract, t.Source, t.Data.RefersTo}]
			if p.attributed(o, t) {
				return true, nil
			}
			if sale != nil && o.events[sale.Key] == sale {
				if _, claims := o.claimTo(sale); claims {
					taken, err := p.sharedElsewhere(o, sale)
					if err != nil || !taken {
						return !taken, err
					}
				}
			}
		}
	}
	mine, claims := s.claimTo(t)
	for _, o := range s.rivals {
		other, ok := o.claimTo(t)
		switch {
		case !ok:
		case !claims || compareClaims(other, mine) < 0:
			return true, nil
		case compareClaims(other, mine) == 0:
			return false, fmt.Errorf("contracts %s (rule %s) and %s (rule %s) both share the sale %s of %s, and are both for %s: name other apps or classes, or end one before the other begins",
				s.Terms.Contract, mine.r.ID, o.Terms.Contract, other.r.ID, t.ID, t.Source, s.Terms.Reach(mine.r))
		}
	}
	return false, nil
}

// attributed reports whether the contract took its part of the sale that a refund
// names, in an earlier month.
func (p *pricer) attributed(s *segment, t *transaction) bool {
	return slices.ContainsFunc(s.Terms.Rules, func(r Rule) bool {
		return r.Shares() && p.originals[originalKey{t.Source, t.Data.RefersTo, s.Terms.Contract, r.ID}] != nil
	})
}

// shareRule is the rule that shares the sale, or a refund of an unknown one, which may
// leave its class out; nil: none. An invoice is a sale where invoices count.
func (s *segment) shareRule(t *transaction) *Rule {
	invoice := t.Type == metering.SaleInvoiced
	any := t.Type != metering.SalePaid && !invoice && t.Data.Class == ""
	for i := range s.Terms.Rules {
		r := &s.Terms.Rules[i]
		if b, ok := r.Body.(*Share); ok && s.about(r, t.Data.App) && (any || hasClass(r.Class, t.Data.Class)) && (!invoice || b.Basis == Invoiced) {
			return r
		}
	}
	return nil
}

// Shares reports whether the rule divides sales: a share, or one that passes them
// through.
func (r *Rule) Shares() bool {
	_, ok := r.Body.(*Share)
	return ok
}

// Meets reports whether some sale could be of both rules, each of its own terms, as far
// as apps, customer and deal say.
func (t *Terms) Meets(r *Rule, o *Terms, other *Rule) bool {
	mine, theirs := r.Apps, other.Apps
	if len(mine) == 0 {
		mine = t.Apps
	}
	if len(theirs) == 0 {
		theirs = o.Apps
	}
	return appsMeet(mine, theirs) && (t.Customer == "" || o.Customer == "" || t.Customer == o.Customer) && (t.Deal == "" || o.Deal == "" || t.Deal == o.Deal)
}

// holds reports whether the contract is about an event, or a cell, of one of its apps.
func (s *segment) holds(u *metering.Usage, t *transaction) bool {
	if t != nil {
		return t.own
	}
	return s.own[u.App] && s.Terms.IsFor(u.Customer, "")
}

// leaves reports whether what a contract for a customer or a deal is not about is told
// of by another contract of the partner: by one that is about it, or else by the first
// with the app.
func (s *segment) leaves(u *metering.Usage, t *transaction) bool {
	return slices.ContainsFunc(s.rivals, func(o *segment) bool {
		if covers, _ := o.says(s, u, t); covers {
			return true
		}
		return o.Terms.Contract < s.Terms.Contract && o.sees(s, u, t)
	})
}

// sees reports whether the event, or the cell, is also in another segment of the app.
func (s *segment) sees(of *segment, u *metering.Usage, t *transaction) bool {
	if !s.own[u.App] {
		return false
	}
	if t != nil {
		return s.events[t.Key] != nil
	}
	_, ok := s.cells[keyOfCell(u)]
	return ok && s.Period.Start.Equal(of.Period.Start) && s.Period.End.Equal(of.Period.End)
}

// maxDeal bounds the name of a deal, in bytes.
const maxDeal = 100

// readReach reads the customer or the deal that a contract is for.
func (c *contract) readReach(o *object) {
	f, deal := o.get("deal")
	if deal {
		var ok bool
		if c.terms.Deal, ok = f.text(); ok && c.terms.Deal == "" {
			f.bad("is empty", "the deal as events name it, or leave the field out")
		}
		if len(c.terms.Deal) > maxDeal {
			f.bad(fmt.Sprintf("%d characters", len(c.terms.Deal)), fmt.Sprintf("a deal's name has at most %d", maxDeal))
		}
	}
	if g, ok := o.get("customer"); ok {
		id, _ := g.id()
		c.terms.Customer = partner.CustomerID(id)
		if deal {
			g.bad("a contract is for a customer or for a deal", "keep one: a deal goes before a customer")
		}
	}
}

// checkReach refuses rules that cannot be told apart by customer or deal.
func (c *contract) checkReach() {
	for i, r := range c.terms.Rules {
		switch {
		case c.terms.specific() && r.Kind == "referral":
			c.rules[i].bad("commissions are paid for leads, whoever the contract is for", "put the rule into a contract without customer and deal")
		case c.terms.Deal != "" && r.Kind == "usage_fee":
			c.rules[i].bad("usage is not metered by deal", "put the rule into a contract without deal")
		}
	}
}
