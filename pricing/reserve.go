package pricing

import "mete/money"

// Payout is what all of a partner's terms in one currency together say about paying
// out a month.
type Payout struct {
	PayoutTerms
	Round money.Mode // of the reserve

	direct map[string]bool // contracts under which the partner collects: nothing is kept back of them
}

// PayoutOf puts together the terms that were in force in a month, in order of contract
// and beginning: those of the first count, and a reserve, a minimum or what is kept that only a
// later one names is taken from there. The reserve rounds as the last of them does. When
// the month is due is no part of it, see [DueOf].
func PayoutOf(inForce []*Terms) Payout {
	p := Payout{direct: map[string]bool{}}
	for _, t := range inForce {
		if t.Collects == PartnerCollects {
			p.direct[t.Contract] = true
			p.SetOff = p.SetOff || t.Payout.SetOff
		}
		if p.Minimum == nil {
			p.Minimum = t.Payout.Minimum
		}
		if p.Keep == nil {
			p.Keep = t.Payout.Keep
		}
		if p.Reserve == nil {
			p.Reserve = t.Payout.Reserve
		}
		p.Round = t.Round.Mode
	}
	return p
}

// Reserved is the part of a month that is kept back, and the base it is computed on,
// from the lines of the month itself on the partner's account in the currency. Both
// are zero without a reserve; nothing is kept of a base below zero.
func (p Payout) Reserved(lines []Line, c money.Currency) (base, kept money.Amount, err error) {
	base, kept = money.New(0, c), money.New(0, c)
	if p.Reserve == nil {
		return base, kept, nil
	}
	for _, l := range lines {
		if !p.Reserve.counts(l.Part) || p.direct[l.Contract] {
			continue
		}
		if base, err = base.Add(l.Amount); err != nil {
			return base, kept, err
		}
	}
	if base.Minor > 0 {
		kept, err = money.Round(base.Decimal().Mul(p.Reserve.Rate), c, p.Round)
	}
	return base, kept, err
}

// counts reports whether lines of the part are in the base: net sales are what
// customers paid less refunds and lost chargebacks, proceeds are that less what the
// platform and others get of it, earned is everything.
func (r *Reserve) counts(part string) bool {
	switch {
	case ofCustomers(part):
		return true
	case part == "share", part == "quality", part == "pass_through", part == "split":
		return r.Of != "net_sales"
	}
	return r.Of == "earned"
}
