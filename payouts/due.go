package payouts

import (
	"slices"

	"mete/money"
	"mete/period"
)

// Not due is what statements added to an account whose net terms name a later day. It is
// no account of its own: payable:due holds it with the rest, and each plan works out
// anew how much of the balance has to stay.

// isDue reports whether a run may pay a statement. Pay dates are business days, so a due
// day on a day off is met by the next business day without more.
func (s Statement) isDue(payOn period.Date) bool { return !payOn.Before(s.DueOn) }

// dueStatements are those that a payout of the candidate pays.
func (p *planner) dueStatements(c Candidate) []Statement {
	return slices.DeleteFunc(slices.Clone(c.Statements), func(s Statement) bool { return !s.isDue(p.in.PayOn) })
}

// later is a part of a balance that is not due before a day.
type later struct {
	on     period.Date
	amount money.Amount
}

// split divides a balance into what is due now and the parts that are due later, by day.
// Each statement that adds something and is not due keeps it back; one that takes
// something away lowers what is paid at once, since nobody is owed what the balance does
// not hold. So where the balance holds less than the parts, those due first are lowered.
func (p *planner) split(c Candidate, balance money.Amount) (money.Amount, []later, error) {
	var parts []later
	for _, s := range c.Statements {
		if s.isDue(p.in.PayOn) || s.Adds.Minor <= 0 {
			continue
		}
		i := slices.IndexFunc(parts, func(x later) bool { return x.on == s.DueOn })
		if i < 0 {
			parts = append(parts, later{s.DueOn, *s.Adds})
			continue
		}
		var err error
		if parts[i].amount, err = parts[i].amount.Add(*s.Adds); err != nil {
			return balance, nil, err
		}
	}
	if balance.Minor <= 0 {
		return balance, nil, nil
	}
	slices.SortFunc(parts, func(a, b later) int { return b.on.Compare(a.on) })
	for i, x := range parts {
		parts[i].amount = money.New(min(x.amount.Minor, balance.Minor), p.in.Currency)
		var err error
		if balance, err = balance.Sub(parts[i].amount); err != nil {
			return balance, nil, err
		}
	}
	slices.Reverse(parts)
	return balance, slices.DeleteFunc(parts, func(x later) bool { return x.amount.IsZero() }), nil
}

// notDueReason says when a part is due, and on which business day it can be paid.
func (p *planner) notDueReason(on period.Date) (Reason, error) {
	next, err := p.in.Calendar.AddBusinessDays(on, 0)
	if err != nil {
		return Reason{}, err
	}
	return Reason{"not due", "due on " + on.Short(), p.day(next), "–",
		"net terms of the contract: what a statement adds is not paid before its due day"}, nil
}

// netTerms reports whether any statement of the run has a due day.
func (p *planner) netTerms() bool {
	return slices.ContainsFunc(p.in.Candidates, func(c Candidate) bool {
		return slices.ContainsFunc(c.Statements, func(s Statement) bool { return !s.DueOn.IsZero() })
	})
}
