package ledger

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"mete/money"
	"mete/period"
)

// TrialBalance lists what every account holds, debits and credits in their columns.
// Both columns have the same total in each currency.
type TrialBalance struct {
	UpTo   period.Date  `json:"up_to,omitzero"` // last day of booking that counts
	Rows   []TrialRow   `json:"rows"`           // accounts that hold something, by account and currency
	Totals []TrialTotal `json:"totals"`
}

// TrialRow is one account in one currency; one of the columns is zero.
type TrialRow struct {
	Account Account      `json:"account"`
	Debit   money.Amount `json:"debit"`
	Credit  money.Amount `json:"credit"`
}

// TrialTotal is the sum of both columns in one currency.
type TrialTotal struct {
	Debit  money.Amount `json:"debit"`
	Credit money.Amount `json:"credit"`
}

// Trial arranges balances as a trial balance. It fails when the columns differ: then
// the books were changed past the guards of the database.
func Trial(upTo period.Date, balances []Balance) (TrialBalance, error) {
	tb := TrialBalance{UpTo: upTo, Rows: []TrialRow{}, Totals: []TrialTotal{}}
	totals := map[money.Currency]TrialTotal{}
	for _, b := range balances {
		if b.Amount.IsZero() {
			continue
		}
		if b.Amount.Minor == math.MinInt64 { // what is booked up to a day can come to more than what is booked in all
			return tb, fmt.Errorf("trial balance: %s in %s: %w", b.Account, b.Amount.Currency, money.ErrOverflow)
		}
		zero := money.New(0, b.Amount.Currency)
		row := TrialRow{b.Account, b.Amount, zero}
		if b.Amount.Minor < 0 {
			row = TrialRow{b.Account, zero, b.Amount.Neg()}
		}
		tb.Rows = append(tb.Rows, row)
		t, ok := totals[b.Amount.Currency]
		if !ok {
			t = TrialTotal{zero, zero}
		}
		var err error
		if t.Debit, err = t.Debit.Add(row.Debit); err == nil {
			t.Credit, err = t.Credit.Add(row.Credit)
		}
		if err != nil {
			return tb, fmt.Errorf("trial balance: %w", err)
		}
		totals[b.Amount.Currency] = t
	}
	for _, c := range slices.Sorted(maps.Keys(totals)) {
		t := totals[c]
		tb.Totals = append(tb.Totals, t)
		if t.Debit != t.Credit {
			return tb, fmt.Errorf("trial balance in %s: debits %s, credits %s: the books were changed from outside; check the ledger", c, t.Debit.Plain(), t.Credit.Plain())
		}
	}
	return tb, nil
}
