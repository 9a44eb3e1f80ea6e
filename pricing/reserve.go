package pricing

import (
	"fmt"

	"mete/money"
)

// Bases are the sums of a contract's lines that people compare: what customers paid
// less refunds and lost chargebacks, that less the platform's share, and all lines.
type Bases struct {
	NetSales money.Amount `json:"net_sales"`
	Proceeds money.Amount `json:"proceeds"` // net sales − share, quality included
	Earned   money.Amount `json:"earned"`
}

// BasesOf sums the lines of one contract on its partner's account.
func (t *Terms) BasesOf(lines []Line) (Bases, error) {
	zero := money.New(0, t.Currency)
	b := Bases{zero, zero, zero}
	for _, l := range lines {
		if l.Contract != t.Contract || l.Party != t.Partner || l.Currency != t.Currency {
			continue
		}
		var err error
		add := func(to *money.Amount) {
			if err == nil {
				*to, err = to.Add(l.Amount)
			}
		}
		switch l.Part {
		case "sales", "refunds", "chargebacks":
			add(&b.NetSales)
			add(&b.Proceeds)
		case "share", "quality":
			add(&b.Proceeds)
		}
		add(&b.Earned)
		if err != nil {
			return b, fmt.Errorf("contract %s: %w", t.Contract, err)
		}
	}
	return b, nil
}

// Reserved is the part of the month that the contract keeps back and the base it is
// computed on; zero without a reserve or on a base below zero.
func (t *Terms) Reserved(lines []Line) (base, kept money.Amount, err error) {
	base, kept = money.New(0, t.Currency), money.New(0, t.Currency)
	r := t.Payout.Reserve
	if r == nil {
		return base, kept, nil
	}
	b, err := t.BasesOf(lines)
	if err != nil {
		return base, kept, err
	}
	base = map[string]money.Amount{"net_sales": b.NetSales, "proceeds": b.Proceeds, "earned": b.Earned}[r.Of]
	if base.Minor > 0 {
		kept, err = t.Round.money(base.Decimal().Mul(r.Rate), t.Currency)
	}
	return base, kept, err
}
