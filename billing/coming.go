package billing

import (
	"fmt"
	"slices"

	"mete/money"
	"mete/period"
)

// Coming is what a statement added under net terms and is not to be paid before a
// business day. The planner of payouts does not read it: it goes by each statement's own
// due day. It is here so that a page can say when which part of its balance is paid.
type Coming struct {
	Statement StatementID  `json:"statement"`
	On        period.Date  `json:"on"`
	Amount    money.Amount `json:"amount"`
}

// comes takes over what the statement before left to come, and adds what this one adds.
// A statement that takes something away lowers what is paid at once.
func (s *Statement) comes(before []Coming) {
	for _, c := range before {
		if s.Month.Last().Before(c.On) {
			s.Coming = append(s.Coming, c)
		}
	}
	if adds := s.ToPending(); s.Due != nil && adds.Minor > 0 {
		s.Coming = append(s.Coming, Coming{s.ID, s.PayOn, adds})
	}
}

// payment is a part of the closing balance and when it is paid; without a day it is due.
type payment struct {
	on     period.Date
	amount money.Amount
}

// payments are the parts in which the closing balance is paid if nothing else happens:
// first what is due at the month's end, then day by day what becomes due, as payouts are
// planned: nothing below the minimum, and without what is kept on the account.
func (s Statement) payments() []payment {
	days := []period.Date{{}}
	for _, c := range s.Coming {
		if !slices.Contains(days, c.On) {
			days = append(days, c.On)
		}
	}
	slices.SortFunc(days[1:], period.Date.Compare)
	var out []payment
	left := s.Closing()
	for _, on := range days {
		ready := left
		for _, c := range s.Coming {
			if on.Before(c.On) {
				ready = must(ready.Sub(c.Amount))
			}
		}
		if s.Keep != nil {
			ready = must(ready.Sub(*s.Keep))
		}
		if ready.Minor <= 0 || s.Minimum != nil && ready.Minor < s.Minimum.Minor {
			continue
		}
		out = append(out, payment{on, ready})
		left = must(left.Sub(ready))
	}
	return out
}

// paymentRows say how a balance is paid that is paid in parts, the last part apart.
func (s Statement) paymentRows() []string {
	if len(s.Coming) == 0 || !s.isPaid() {
		return nil
	}
	parts := s.payments()
	var rows []string
	for _, p := range parts[:max(len(parts)-1, 0)] {
		rows = append(rows, fmt.Sprintf("%s of it %s", p.amount.Grouped(), onText(p.on)))
	}
	return rows
}

// onText is the day of a payment for people.
func onText(on period.Date) string {
	if on.IsZero() {
		return "with the next payouts: it is due"
	}
	return fmt.Sprintf("on %s %s", on.Weekday().String()[:3], on.Short())
}

// dueText says what net terms make of the statement.
func (s Statement) dueText() string {
	paid := "not paid before"
	if s.PayOn != s.Due.DueOn {
		paid = "paid on " + s.PayOn.Short()
	}
	return fmt.Sprintf("Locked on %s. What this statement adds is due on %s, %s.", s.Due.LockOn.Short(), s.Due.DueOn.Short(), paid)
}
