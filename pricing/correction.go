package pricing

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/money"
)

// Correction is a measure of a scorecard that an appeal put in the place of what was
// measured. It changes that measure alone: corrected failures move no availability.
type Correction struct {
	Appeal  string `json:"appeal"`
	Measure string `json:"measure"`
	Was     string `json:"was,omitempty"` // as measured; empty: no data
	Is      string `json:"is"`
}

// certificationStates are what a certification may be corrected to.
var certificationStates = []string{"valid", "due", "overdue", "re-review", "suspended", "none"}

// CheckMeasure reports why a text is no value of a measure.
func CheckMeasure(measure, value string) error {
	var c Scorecard
	return c.set(measure, value)
}

// Measure is the value of a measure as text. It is false for a measure without data.
func (c *Scorecard) Measure(name string) (string, bool) {
	m, known := measures[name]
	if !known {
		return "", false
	}
	v, ok := m.read(c)
	if !ok {
		return "", false
	}
	if n, is := v.(number); is {
		return n.String(), true
	}
	return fmt.Sprint(v.Value()), true
}

// Correct is the scorecard with a measure corrected. A correction of the certification
// holds for all days of the month.
func (c Scorecard) Correct(appeal, measure, value string) (Scorecard, error) {
	was, _ := c.Measure(measure)
	if err := c.set(measure, value); err != nil {
		return c, err
	}
	is, _ := c.Measure(measure)
	c.Corrections = append(slices.Clone(c.Corrections), Correction{appeal, measure, was, is})
	return c, nil
}

// Certified is the scorecard with another certification, of its month's end and of its
// days. What an appeal decided of the certification stays decided.
func (c Scorecard) Certified(end Certification, days []Standing) Scorecard {
	c.Certification, c.Standings = end, days
	for _, x := range c.Corrections {
		if !strings.HasPrefix(x.Measure, "certification.") {
			continue
		}
		if err := c.set(x.Measure, x.Is); err != nil {
			panic(fmt.Sprintf("pricing: internal error: appeal %s: %v", x.Appeal, err)) // it was set before
		}
	}
	return c
}

func (c *Scorecard) set(measure, value string) error {
	counts := map[string]*int64{
		"calls": &c.Calls, "failed": &c.Failed, "slow": &c.Slow, "active_customers": &c.ActiveCustomers, "exceptions.open": &c.ExceptionsOpen,
		"incidents.opened": &c.IncidentsOpened, "incidents.open": &c.IncidentsOpen, "support.answered": &c.SupportAnswered, "support.open": &c.SupportOpen,
	}
	ratios := map[string]**decimal.Decimal{"availability": &c.Availability, "within": &c.Within}
	switch {
	case measure == "certification.state":
		if !slices.Contains(certificationStates, value) {
			return fmt.Errorf("%q is no state of a certification: want one of %s", value, strings.Join(certificationStates, ", "))
		}
		c.Certification.State, c.Standings = value, nil
		if value != "overdue" && value != "re-review" {
			c.Certification.OverdueDays = 0
		}
		return nil
	case measure == "certification.overdue_days":
		n, err := wholeNumber(value)
		if err != nil {
			return err
		}
		c.Certification.OverdueDays, c.Standings = int(n), nil
		return nil
	case counts[measure] != nil:
		n, err := wholeNumber(value)
		if err != nil {
			return err
		}
		*counts[measure] = n
		return nil
	case ratios[measure] != nil:
		d, err := money.ParseDecimal(value)
		if err != nil || d.IsNegative() || d.GreaterThan(one) {
			return fmt.Errorf("%q is no share: want a decimal from 0 to 1, such as 0.9995", value)
		}
		*ratios[measure] = &d
		return nil
	}
	var names []string
	for _, n := range measureNames() {
		if n != "certification.tier" && n != "partner.tier" { // facts of documents
			names = append(names, n)
		}
	}
	return fmt.Errorf("%q is no measure that can be corrected: want one of %s", measure, strings.Join(names, ", "))
}

func wholeNumber(value string) (int64, error) {
	d, err := money.ParseDecimal(value)
	if err != nil || d.IsNegative() || !d.IsInteger() || d.GreaterThan(decimal.New(1, 9)) {
		return 0, fmt.Errorf("%q is no count: want a whole number from 0 to 1_000_000_000", value)
	}
	return d.IntPart(), nil
}

// noteAppeals says on a line which of the measures that its rule asks were corrected,
// or were under appeal when the card was frozen.
func (b *Quality) noteAppeals(c *Scorecard, l *lineBuilder) {
	if c == nil || len(c.Corrections)+len(c.Appealed) == 0 {
		return
	}
	asks := map[string]bool{}
	for _, cond := range b.conditions() {
		for _, m := range cond.Measures {
			asks[m] = true
		}
	}
	for _, f := range b.Factors {
		asks[f.Measure] = true
	}
	for _, x := range c.Corrections {
		if asks[x.Measure] || x.Measure == "calls" && b.NotScored > 0 {
			l.note(fmt.Sprintf("appeal %s: %s is %s, measured was %s (%s)", x.Appeal, x.Measure, x.Is, orNoData(x.Was), c.App))
		}
	}
	for _, x := range c.Appealed {
		if asks[x.Measure] || x.Measure == "calls" && b.NotScored > 0 {
			l.note(fmt.Sprintf("appeal %s was open: %s as measured (%s)", x.Appeal, x.Measure, c.App))
		}
	}
}

func orNoData(value string) string {
	if value == "" {
		return "without data"
	}
	return value
}
