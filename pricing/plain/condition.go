package plain

import (
	"regexp"
	"strings"

	"mete/money"
	"mete/pricing"
)

// condition is a question to a scorecard in words where it is simple: measures compared
// with a number or a text, all of which or one of which must hold. Anything else is
// quoted as it is written.
func condition(c *pricing.Condition) string {
	if c == nil {
		return "always"
	}
	text := strings.TrimSpace(c.Text)
	for _, join := range []struct{ sign, word string }{{"&&", "and"}, {"||", "or"}} {
		var parts []string
		for _, p := range strings.Split(text, join.sign) {
			if words := comparison(strings.TrimSpace(p)); words != "" {
				parts = append(parts, words)
			}
		}
		if n := strings.Count(text, join.sign) + 1; len(parts) == n {
			return joined(parts, join.word)
		}
	}
	return code(text)
}

var (
	compared = regexp.MustCompile(`^([a-z_.]+) *(>=|<=|==|!=|>|<) *([0-9]+(?:\.[0-9]+)?)$`)
	equalled = regexp.MustCompile(`^([a-z_.]+) *(==|!=) *"([a-z-]+)"$`)
)

// counted is what measures are called that count something.
var counted = map[string]string{
	"calls": "calls in the month", "failed": "calls that failed", "slow": "slow calls", "active_customers": "customers with a call",
	"exceptions.open": "exceptions open at month end", "incidents.opened": "incidents opened in the month", "incidents.open": "incidents open at month end",
	"support.answered": "support questions answered", "support.open": "support questions open at month end",
	"certification.overdue_days": "days by which the certification is overdue",
}

// parts of the calls of a month.
var parts = map[string]string{"availability": "availability", "within": "a share of calls that were not slow"}

// comparison is one comparison in words, empty if it is not simple.
func comparison(text string) string {
	if m := equalled.FindStringSubmatch(text); m != nil && m[1] == "certification.state" {
		if m[2] == "==" {
			return "a certification that is " + m[3]
		}
		return "a certification that is not " + m[3]
	}
	m := compared.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	measure, sign, value := m[1], m[2], m[3]
	d, err := money.ParseDecimal(value)
	if err != nil {
		return ""
	}
	if what, ok := parts[measure]; ok {
		return what + " of " + signs[sign] + pricing.Percent(d)
	}
	if measure == "certification.tier" {
		return "a certification tier of " + signs[sign] + number(d)
	}
	what, ok := counted[measure]
	if !ok {
		return ""
	}
	if d.IsZero() && sign == "==" {
		return "no " + what
	}
	return signs[sign] + number(d) + " " + what
}

var signs = map[string]string{
	">=": "at least ", "<=": "at most ", "==": "exactly ", "!=": "other than ", ">": "more than ", "<": "less than ",
}
