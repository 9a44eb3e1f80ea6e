package pricing

import (
	"fmt"

	"mete/period"
)

// DueTerms say how long after the earnings what was earned is to be paid: net terms.
// They count from the end of the month or of its calendar quarter.
type DueTerms struct {
	Period    string `json:"period"`                      // month | quarter
	LockAfter int    `json:"lock_after_months,omitempty"` // whole months, from month end to month end
	PayAfter  int    `json:"pay_after_days"`              // after the lock day
}

// Due are the days that follow from net terms for one month. DueOn is a day of the
// calendar; who pays moves it to a business day.
type Due struct {
	LockOn      period.Date `json:"lock_on"`
	StatementOn period.Date `json:"statement_on"` // the day after
	DueOn       period.Date `json:"due_on"`
}

// Bounds of net terms.
const (
	maxLockAfter = 24  // months
	maxPayAfter  = 366 // days
)

// Of are the days of a month's earnings. Months stay on month ends: 31 January and one
// month is the last day of February.
func (d DueTerms) Of(m period.Month) Due {
	if d.Period == "quarter" {
		m = m.Add((12 - int(m.Month)) % 3)
	}
	lock := m.Add(d.LockAfter).Last()
	return Due{lock, lock.AddDays(1), lock.AddDays(d.PayAfter)}
}

// DueOf are the days of a month under all of a partner's terms in one currency that were
// in force in it: the latest due day of those that have net terms. others reports
// whether there are terms without any. It is nil where none has them.
func DueOf(inForce []*Terms, m period.Month) (latest *Due, others bool) {
	for _, t := range inForce {
		if t.Payout.Due == nil {
			others = true
			continue
		}
		d := t.Payout.Due.Of(m)
		if latest == nil || latest.DueOn.Before(d.DueOn) || latest.DueOn == d.DueOn && latest.LockOn.Before(d.LockOn) {
			latest = &d
		}
	}
	return latest, others
}

// readDue reads payout.due.
func (c *contract) readDue(f value) *DueTerms {
	o := c.object(f)
	if o == nil {
		return nil
	}
	d := &DueTerms{Period: "month"}
	if g, ok := o.get("period"); ok {
		d.Period, _ = g.oneOf("month", "quarter")
	}
	if g, ok := o.get("lock_after"); ok {
		length, ok := g.duration()
		switch {
		case ok && length.Days > 0:
			g.bad("a lock day is the end of a month", "whole months, such as 1 month; days go into pay_after")
		case length.Months > maxLockAfter:
			g.bad(fmt.Sprintf("%d months", length.Months), fmt.Sprintf("at most %d", maxLockAfter))
		}
		d.LockAfter = length.Months
	}
	if g, ok := o.need("pay_after", "days from the lock day to the due day, such as 15 days"); ok {
		length, ok := g.duration()
		switch {
		case ok && length.Months > 0:
			g.bad("months are uneven", "days, such as 15 days; whole months go into lock_after")
		case length.Days > maxPayAfter:
			g.bad(fmt.Sprintf("%d days", length.Days), fmt.Sprintf("at most %d", maxPayAfter))
		}
		d.PayAfter = length.Days
	}
	o.done()
	return d
}

func dueSchema() schema {
	return object1("net terms: what a month adds to the account is not paid before its due day", schema{
		"period":     enum("whose end is counted from: the month of the earnings, or its calendar quarter; month if left out", "month", "quarter"),
		"lock_after": pattern("from that end to the lock day, from month end to month end; none if left out", `^[0-9]{1,2} (months?|years?)$`),
		"pay_after":  pattern("from the lock day to the due day", `^[0-9]{1,3} days?$`),
	}.require("pay_after"))
}
