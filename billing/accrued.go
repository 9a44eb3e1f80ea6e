package billing

import (
	"context"

	"mete/ledger"
	"mete/money"
)

// accrue says how much of what the partner earned on invoices is not due at the month's
// end because customers have not paid: what the books hold, and the statement's lines.
func (c *run) accrue(ctx context.Context, s *Statement) error {
	account := ledger.Accrued(string(s.Partner))
	rows, err := c.movements(ctx, *s, account, map[string]bool{s.EntryID(): true})
	if err != nil {
		return err
	}
	sum, some := money.New(0, s.Currency), false
	for _, m := range rows {
		some = some || !m.Amount.IsZero()
		if sum, err = sum.Add(m.Amount); err != nil {
			return err
		}
	}
	for _, l := range s.Lines {
		if l.Part == "accrued" {
			some = true
			if sum, err = sum.Sub(l.Amount); err != nil {
				return err
			}
		}
	}
	if some {
		s.NotDue = &sum
	}
	return nil
}

// accrued is the same, zero where nothing ever was.
func (s Statement) accrued() money.Amount {
	if s.NotDue == nil {
		return money.New(0, s.Currency)
	}
	return *s.NotDue
}
