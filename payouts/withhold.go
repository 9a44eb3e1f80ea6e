package payouts

import (
	"fmt"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/period"
)

// WithholdingRule is the tax that a marketplace keeps back from payees of whom its tax
// authority asks it. In the US that is backup withholding: 24% of what is paid to a payee
// who gave no certified taxpayer number or about whom the IRS sent a notice, once what a
// year's payments come to has to be reported (26 USC 3406; IRS Publication 1281).
type WithholdingRule struct {
	Authority string          `json:"authority"` // us-irs; its account is liabilities:tax-withheld:AUTHORITY
	Rate      decimal.Decimal `json:"rate"`      // 0.24
	From      money.Amount    `json:"from"`      // from so much a year on, this payment included
}

// Withholding is the tax kept back from one payout: Of × Rate, half cents up.
type Withholding struct {
	Authority string          `json:"authority"`
	Of        money.Amount    `json:"of"`
	Rate      decimal.Decimal `json:"rate"`
	Amount    money.Amount    `json:"amount"`
	Since     period.Date     `json:"since"` // since when it applies to the payee
}

// Gross is what the payout takes from payable:due: what is paid and what is withheld.
func (p Payout) Gross() money.Amount {
	if p.Withheld == nil {
		return p.Amount
	}
	sum, err := p.Amount.Add(p.Withheld.Amount)
	if err != nil {
		panic("payouts: internal error: " + err.Error()) // they were one amount before
	}
	return sum
}

// withheldFrom reports whether tax is to be kept back from a payee of the run at all:
// somebody said so of the payee. A form on file changes nothing about a notice.
func (p *planner) withheldFrom(c Candidate) bool {
	since := c.Partner.Payee.WithholdFrom
	return p.in.Rules.Withholding != nil && p.in.Rules.Withholding.From.Currency == p.in.Currency &&
		!since.IsZero() && !p.in.PayOn.Before(since)
}

// withhold is the tax on paying an amount now, nil for none.
func (p *planner) withhold(c Candidate, of money.Amount) (*Withholding, error) {
	if !p.withheldFrom(c) {
		return nil, nil
	}
	rule := p.in.Rules.Withholding
	year := of
	if before, ok := p.in.PaidInYear[c.Partner.ID]; ok {
		var err error
		if year, err = before.Add(of); err != nil {
			return nil, fmt.Errorf("paid in %d: %w", p.in.PayOn.Year, err)
		}
	}
	if year.Minor < rule.From.Minor {
		return nil, nil
	}
	tax, err := money.Round(of.Decimal().Mul(rule.Rate), p.in.Currency, money.HalfUp)
	if err != nil || tax.IsZero() {
		return nil, err
	}
	return &Withholding{rule.Authority, of, rule.Rate, tax, c.Partner.Payee.WithholdFrom}, nil
}

// kept is what the contract leaves on the account of what is due.
func (p *planner) kept(c Candidate, due money.Amount) money.Amount {
	if c.Keep == nil || due.Minor <= 0 {
		return p.zero()
	}
	return money.New(min(c.Keep.Minor, due.Minor), p.in.Currency)
}

func keepReason(keep money.Amount) Reason {
	return Reason{"keep", keep.Grouped() + " stay on the account", "contract ends", "–",
		"the contract leaves " + keep.Grouped() + " on the account for refunds to come; only what is above it is paid"}
}
