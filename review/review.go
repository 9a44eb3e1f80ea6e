// Package review holds a contract against what it stands beside: the partner's other
// contracts in time, the notice that was promised, what can reach its rules and steps,
// how much of a sale the platform takes, and how long its terms are to read.
//
// What it finds is for whoever writes the contract. It refuses to know law, which package
// compliance holds, and what may be approved: it stops nobody. It asks for no time and
// reads no events. Read [Finding] and [Contract].
package review

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/shopspring/decimal"

	"mete/catalogue"
	"mete/period"
	"mete/pricing"
	"mete/pricing/plain"
)

// Finding is one thing that should be looked at: where it stands, what it is, and what
// to do about it.
type Finding struct {
	ID       string // WHAT/CONTRACT-RULE, or WHAT when it is about the terms as a whole
	Rule     string // of the contract
	Blocks   bool   // the terms should not be agreed like this
	Field    string // rules[0].platform.steps[1]
	Line     int
	Column   int
	Title    string
	What, Do string
}

// Settings are the house's own limits.
type Settings struct {
	Ceiling   decimal.Decimal // most that the platform takes of net sales: 0.3
	Reference decimal.Decimal // the sale, in the contract's currency, that the take is computed for
	On        period.Date     // today, where the marketplace is
}

// What is found, as IDs begin.
const (
	TimeGap     = "time-gap"     // nothing is in force for some days
	TimeOverlap = "time-overlap" // two contracts or versions are agreed for the same days
	TimeOver    = "time-over"    // the terms end before today
	ShortNotice = "notice"       // the terms begin with less notice than was promised
	DueDays     = "due-days"     // another contract on the same statement is due on another day
	Unreachable = "unreachable"  // a step or condition that nothing can reach
	NeverUsed   = "never-applies"
	TakeRate    = "take-rate"
	Length      = "length"
)

var titles = map[string]string{
	TimeGap: "Days without terms", TimeOverlap: "Days with two terms", TimeOver: "Terms that are over",
	ShortNotice: "Less notice than was promised",
	DueDays:     "Another due day on the same statement",
	Unreachable: "A step or condition that nothing reaches", NeverUsed: "A rule that never applies",
	TakeRate: "The platform takes more than the ceiling", Length: "More than a page of terms",
}

// reviewer looks at one contract.
type reviewer struct {
	b   catalogue.Beside
	s   catalogue.Standing
	t   *pricing.Terms
	set Settings
	out []Finding
}

// Contract is what is found in one contract of those in b, in the order of its text.
func Contract(b catalogue.Beside, s catalogue.Standing, set Settings) []Finding {
	r := &reviewer{b: b, s: s, t: s.Terms, set: set}
	r.time()
	r.notice()
	for i := range r.t.Rules {
		r.reach(i)
		r.steps(i)
		r.take(i)
	}
	r.length()
	slices.SortStableFunc(r.out, func(x, y Finding) int { return cmp.Or(x.Line-y.Line, x.Column-y.Column) })
	return r.out
}

// find notes a finding at a field.
func (r *reviewer) find(what, rule, field, says, do string) *Finding {
	f := Finding{ID: what, Rule: rule, Field: field, Title: titles[what], What: says, Do: do}
	if rule != "" {
		f.ID += "/" + rule
	}
	f.Line, f.Column = r.s.Place(field)
	r.out = append(r.out, f)
	return &r.out[len(r.out)-1]
}

// length counts the lines of the term sheet.
func (r *reviewer) length() {
	if n := plain.Of(r.t, r.b.Names()).Lines(); n > plain.PageLines {
		r.find(Length, "", "rules", fmt.Sprintf("the term sheet has %d lines of %d characters, and a page has %d", n, plain.PageColumns, plain.PageLines),
			"leave out what says what holds in any case, or part the contract; mete contract render shows the lines that are counted (all but what the statement will show)")
	}
}
