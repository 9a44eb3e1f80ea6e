package pricing

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"

	"mete/period"
)

// Window is how long a running total runs before it begins again at zero. It is made
// of whole months: one that begins or ends inside a month begins with that month.
type Window struct {
	Kind   string      `json:"kind"`             // month | quarter | year | contract year | lifetime | rolling
	Since  period.Date `json:"since,omitempty"`  // first day of a lifetime, or of the first contract year
	Months int         `json:"months,omitempty"` // rolling: how many, this one included
}

func (w Window) String() string {
	switch w.Kind {
	case "lifetime":
		return "lifetime since " + w.Since.String()
	case "contract year":
		return "contract year from " + w.Since.String()
	case "rolling":
		return fmt.Sprintf("rolling %d months", w.Months)
	}
	return w.Kind
}

// unit is what people call one such window.
func (w Window) unit() string {
	switch w.Kind {
	case "lifetime":
		return "lifetime"
	case "":
		return "month"
	}
	return w.Kind
}

// start is the first day of the window that holds the month.
func (w Window) start(m period.Month) period.Date {
	switch w.Kind {
	case "lifetime":
		return w.Since
	case "quarter":
		return period.Date{Year: m.Year, Month: (m.Month-1)/3*3 + 1, Day: 1}
	case "year":
		return period.Date{Year: m.Year, Month: 1, Day: 1}
	case "contract year":
		first := w.Since.MonthOf()
		years := m.Year - first.Year
		if m.Month < first.Month {
			years--
		}
		return first.Add(12 * years).First()
	case "rolling":
		return m.Add(1 - w.Months).First()
	}
	return m.First()
}

// end is the first day after the window that holds the month; zero when there is none.
func (w Window) end(m period.Month) period.Date {
	start := w.start(m).MonthOf()
	switch w.Kind {
	case "month":
		return start.Add(1).First()
	case "quarter":
		return start.Add(3).First()
	case "year", "contract year":
		return start.Add(12).First()
	}
	return period.Date{}
}

// running is a running total at some point of the month, with what earlier months of
// a rolling window brought.
type running struct {
	before decimal.Decimal
	*Total
}

// at is how far the total has come.
func (r running) at() decimal.Decimal {
	if r.before.IsZero() {
		return r.Value
	}
	return r.before.Add(r.Value)
}

// total is the running figure of a rule's scope in the window that holds the month,
// begun at zero where the window or the version begins anew. In a rolling window each
// month has a figure of its own.
func (p *pricer) total(s *segment, rule, what, scope string, w Window) running {
	contract := s.Terms.Contract
	if strings.HasPrefix(scope, "group:") {
		contract = "" // contracts of an account group share the totals of rules with the same id
	}
	since := w.start(p.in.Month)
	restart := s.Terms.Restart && since.Before(s.Terms.From)
	if restart {
		since = s.Terms.From
	}
	r := running{}
	if w.Kind == "rolling" {
		for m := w.start(p.in.Month).MonthOf(); m.Before(p.in.Month); m = m.Add(1) {
			t := p.totals[totalKey{contract, rule, what + " in " + m.String(), scope}]
			if t != nil && !(restart && t.Since.Before(s.Terms.From)) {
				r.before = r.before.Add(t.Value)
			}
		}
		what, since = what+" in "+p.in.Month.String(), p.in.Month.First()
		if s.Terms.Restart && since.Before(s.Terms.From) {
			since = s.Terms.From
		}
	}
	k := totalKey{contract, rule, what, scope}
	r.Total = p.totals[k]
	if r.Total == nil || r.Since.Before(since) {
		r.Total = &Total{Contract: contract, Rule: rule, What: what, Scope: scope, Since: since}
		p.totals[k] = r.Total
	}
	return r
}

// What totals are called that outlive every window: they say how things stand.
const (
	levelTotal = "level"      // units that usage events added and did not take away
	paidUntil  = "paid_until" // end of the time that a subscription has paid for, in Since
	advance    = "advance"    // time a fee was charged for ahead
)

// stands reports whether a total outlives every window.
func stands(what string) bool {
	return what == contestedTotal || what == contestedFees || what == unpaidTotal || what == accruedTotal || strings.HasPrefix(what, levelTotal) || what == paidUntil || what == paidMonths || strings.HasPrefix(what, advance)
}

// standing is a total that outlives every window.
func (p *pricer) standing(s *segment, rule, what, scope string) *Total {
	k := totalKey{s.Terms.Contract, rule, what, scope}
	if p.totals[k] == nil {
		p.totals[k] = &Total{Contract: k.contract, Rule: rule, What: what, Scope: scope, Since: period.DateOf(s.Period.Start, s.Terms.Zone)}
	}
	return p.totals[k]
}

// windowWords are the windows of whole months.
var windowWords = []string{"month", "quarter", "year"}

const windowHelp = "one of: month, quarter, year, contract year, rolling N months, lifetime since YYYY-MM-DD"

// rollingForm is "rolling 3 months".
var rollingForm = regexp.MustCompile(`^rolling ([0-9]{1,3}) months?$`)

// maxRolling bounds how many months a rolling window holds.
const maxRolling = 60

// window reads month, quarter, year, contract year, rolling 3 months or lifetime since
// 2026-01-01.
func (v value) window(from period.Date) Window {
	s, ok := v.text()
	if !ok {
		return Window{}
	}
	for _, word := range windowWords {
		if s == word {
			return Window{Kind: word}
		}
	}
	if s == "contract year" {
		return Window{Kind: s, Since: from}
	}
	if m := rollingForm.FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[1])
		if n < 1 || n > maxRolling {
			v.bad(fmt.Sprintf("a rolling window of %d months", n), fmt.Sprintf("want 1 to %d", maxRolling))
		}
		return Window{Kind: "rolling", Months: n}
	}
	for _, kind := range []string{"lifetime since ", "contract year from "} {
		if day, ok := strings.CutPrefix(s, kind); ok {
			return v.windowSince(kind, day, from)
		}
	}
	v.bad(fmt.Sprintf("%q is no window", clip(s)), windowHelp)
	return Window{}
}

// windowSince reads the day from which a window counts.
func (v value) windowSince(kind, day string, from period.Date) Window {
	d, err := period.ParseDate(day)
	if err != nil {
		v.bad(err.Error(), "")
		return Window{}
	}
	if kind == "contract year from " {
		return Window{Kind: "contract year", Since: d}
	}
	if !from.IsZero() && from.Before(d) {
		v.bad(fmt.Sprintf("the lifetime begins %s, after the contract (%s)", d, from), "sales in between would belong to no tier: let it begin with the contract or before")
	}
	return Window{Kind: "lifetime", Since: d}
}
