package pricing

import (
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/period"
)

const creditDoc = "A balance that pays what other rules charge, until it is used up or expires."

// Credit is the body of a credit.
type Credit struct {
	On      []string         `json:"on"`
	Amount  decimal.Decimal  `json:"amount"`
	Granted string           `json:"granted"` // once | monthly | yearly
	Expires Duration         `json:"expires,omitzero"`
	Maximum *decimal.Decimal `json:"maximum,omitempty"` // used in one month
}

func (b *Credit) follows() []string { return b.On }

func decodeCredit(c *contract, o *object) any {
	b := &Credit{On: c.readFollowed(o, "on"), Granted: "once"}
	if f, ok := o.need("amount", "such as 500.00"); ok {
		if a, ok := f.amount(c.terms.Currency); ok {
			b.Amount = a.Decimal()
		}
	}
	if f, ok := o.get("granted"); ok {
		b.Granted, _ = f.oneOf("once", "monthly", "yearly")
	}
	if f, ok := o.get("expires"); ok {
		if b.Expires, ok = f.duration(); ok && b.Expires.Months == 0 {
			f.bad("credit is used by whole months", "such as 3 months; the month of the grant is the first")
		}
	}
	if f, ok := o.get("maximum"); ok {
		if a, ok := f.amount(c.terms.Currency); ok {
			d := a.Decimal()
			b.Maximum = &d
		}
	}
	return b
}

func creditSchema() schema {
	return schema{
		"on":      followedSchema(),
		"amount":  numberSchema("granted, each time"),
		"granted": enum("once, when the terms begin; or also in each month, or each year of the terms", "once", "monthly", "yearly"),
		"expires": durationSchema("how many months a grant can be used, its own included; for ever if left out"),
		"maximum": numberSchema("most that is used in one month"),
	}.require("on", "amount")
}

// grantTotal is what totals of grants are called; behind it stands the month.
const grantTotal = "credit of "

// followCredit grants, lets expire, and uses the oldest credit first.
func followCredit(p *pricer, s *segment, r *Rule) error {
	b := r.Body.(*Credit)
	bases, err := p.bases(s, b.On, "partner")
	if err != nil {
		return err
	}
	for _, scope := range sortedKeys(bases) {
		x := bases[scope]
		b.grant(p, s, r, scope)
		want := decimal.Max(decimal.Zero, x.charges())
		if b.Maximum != nil && want.GreaterThan(*b.Maximum) {
			want = *b.Maximum
			p.took(s, r, wentMost, 0, "")
		}
		l := p.followLine(s, r, "credit", x, "Credit")
		left := decimal.Zero
		for _, g := range b.usable(p, s, r, scope) {
			use := decimal.Min(want, g.Value)
			if use.IsPositive() {
				l.took(wentPrice, 0, "")
				l.add(g.What, use, one)
			}
			g.Value, want = g.Value.Sub(use), want.Sub(use)
			left = left.Add(g.Value)
		}
		if want.IsPositive() {
			l.took(wentExceeded, 0, "")
		}
		l.note(groupedMoney(left, s.Terms.Currency) + " of credit left")
		x.share(l)
	}
	return nil
}

// grant makes the month's grant, if there is one.
func (b *Credit) grant(p *pricer, s *segment, r *Rule, scope string) {
	first, m := p.firstGrant(s, r, scope), p.in.Month
	if b.Granted == "once" && m != first || b.Granted == "yearly" && m.Month != first.Month {
		return
	}
	k := totalKey{s.Terms.Contract, r.ID, grantTotal + m.String(), scope}
	if p.totals[k] == nil {
		p.totals[k] = &Total{Contract: k.contract, Rule: r.ID, What: k.what, Scope: scope, Since: m.First(), Value: b.Amount}
	}
}

// firstGrant is the month of the first grant, which is remembered across versions.
func (p *pricer) firstGrant(s *segment, r *Rule, scope string) period.Month {
	k := totalKey{s.Terms.Contract, r.ID, "granted", scope}
	if p.totals[k] == nil {
		p.totals[k] = &Total{Contract: k.contract, Rule: r.ID, What: k.what, Scope: scope, Since: p.in.Month.First()}
	}
	return p.totals[k].Since.MonthOf()
}

// usable are the grants that have not expired, oldest first; others are dropped.
func (b *Credit) usable(p *pricer, s *segment, r *Rule, scope string) []*Total {
	var out []*Total
	for k, t := range p.totals {
		if k.contract != s.Terms.Contract || k.rule != r.ID || k.scope != scope || !strings.HasPrefix(k.what, grantTotal) {
			continue
		}
		if !b.Expires.IsZero() && !p.in.Month.Before(t.Since.MonthOf().Add(b.Expires.Months)) || t.Value.IsZero() && t.Since.MonthOf() != p.in.Month {
			if t.Value.IsPositive() {
				p.took(s, r, wentExpired, 0, "")
			}
			p.forget(t)
			continue
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *Total) int { return a.Since.Compare(b.Since) })
	return out
}
