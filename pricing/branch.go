package pricing

import (
	"cmp"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/metering"
)

// Branch is one way that a rule can go: a step of its ladder, a band that holds, a
// refund that gives something back. [Terms.Branches] lists the ways of a contract,
// [Result] those that a month went.
type Branch struct {
	Contract string `json:"contract"`
	Version  int    `json:"version"`
	Rule     string `json:"rule"`
	Outcome  string `json:"outcome"`        // see the outcomes below
	At       int    `json:"at,omitempty"`   // which step, band or factor, from 1
	Name     string `json:"name,omitempty"` // the value that chooses a rate or an amount; the partner of a split
}

// The outcomes of rules.
const (
	wentPrice    = "price"     // the only price, rate or amount
	wentStep     = "step"      // a step of a ladder
	wentStepCap  = "step_cap"  // a step that costs no more than its cap
	wentValue    = "value"     // the rate or amount of a value
	wentOthers   = "others"    // the rate of all other values
	wentPoints   = "points"    // an attribute that moves the rate
	wentLapse    = "lapse"     // a subscription that begins anew
	wentRefund   = "refund"    // a refund or lost chargeback
	wentUnscored = "unscored"  // no scorecard, too few calls, no data
	wentHolds    = "holds"     // the condition of a gate, band, factor or discount
	wentNot      = "not"       // that condition does not hold
	wentLeast    = "least"     // a lower limit counts
	wentMost     = "most"      // an upper limit counts
	wentMin      = "min"       // the lower bound of what quality moves
	wentMax      = "max"       // the upper one
	wentFree     = "free"      // an allowance
	wentAtZero   = "at_zero"   // a fee without usage
	wentDays     = "days"      // a part of a cycle
	wentTooLate  = "too_late"  // a conversion after the window
	wentAfter    = "after"     // after the term
	wentClawback = "clawback"  // a commission taken back
	wentBelow    = "below"     // a limit is not reached
	wentOverage  = "overage"   // beyond a commitment
	wentPart     = "part"      // less than the whole, because no more was charged
	wentExpired  = "expired"   // credit that nobody used
	wentExceeded = "exhausted" // charges that no credit is left for
)

// BranchText is a branch and what it is called, for people.
type BranchText struct {
	Branch
	Line int    `json:"line"` // of the rule in the contract
	Text string `json:"text"`
}

// Branches lists every way that the rules can go, rule by rule as written. A way that
// only another version of the contract opens, such as giving back what that one charged
// ahead, is not among them.
func (t *Terms) Branches() []BranchText {
	var out []BranchText
	for i := range t.Rules {
		r := &t.Rules[i]
		l := &branches{of: Branch{Contract: t.Contract, Version: t.Version, Rule: r.ID}, line: r.Line}
		switch b := r.Body.(type) {
		case *Share:
			b.branches(t, l)
		case interface{ branches(*branches) }:
			b.branches(l)
		default:
			l.add(wentPrice, 0, "", "charged")
		}
		out = append(out, l.list...)
	}
	return out
}

// branches gathers those of one rule.
type branches struct {
	of   Branch
	line int
	list []BranchText
}

func (l *branches) add(outcome string, at int, name, text string) {
	b := l.of
	b.Outcome, b.At, b.Name = outcome, at, name
	l.list = append(l.list, BranchText{b, l.line, text})
}

// addIf adds a branch that only some rules of a kind have.
func (l *branches) addIf(has bool, outcome, text string) {
	if has {
		l.add(outcome, 0, "", text)
	}
}

// asked adds both answers to a condition.
func (l *branches) asked(what string, at int, c *Condition) {
	l.add(wentHolds, at, what, strings.TrimSpace(what+" "+c.Text))
	l.add(wentNot, at, what, strings.TrimSpace(what+" not "+c.Text))
}

// takenWays is the ways that a month went. Most events go the way of the one before them.
type takenWays struct {
	last Branch
	all  map[Branch]bool
}

func (t *takenWays) add(b Branch) {
	if b != t.last {
		t.last, t.all[b] = b, true
	}
}

// took notes that the rule of a segment went a way.
func (p *pricer) took(s *segment, r *Rule, outcome string, at int, name string) {
	p.taken.add(Branch{s.Terms.Contract, s.Terms.Version, r.ID, outcome, at, name})
}

// took notes that the line's rule went a way.
func (b *lineBuilder) took(outcome string, at int, name string) {
	b.taken.add(Branch{b.Contract, b.Version, b.Rule, outcome, at, name})
}

// branchesTaken is every way that the month went, sorted.
func (p *pricer) branchesTaken() []Branch {
	var out []Branch
	for b := range p.taken.all {
		out = append(out, b)
	}
	slices.SortFunc(out, compareBranches)
	return out
}

func compareBranches(a, b Branch) int {
	return cmp.Or(strings.Compare(a.Contract, b.Contract), cmp.Compare(a.Version, b.Version), strings.Compare(a.Rule, b.Rule),
		strings.Compare(a.Outcome, b.Outcome), cmp.Compare(a.At, b.At), strings.Compare(a.Name, b.Name))
}

func (b *Share) branches(t *Terms, l *branches) {
	show := func(d decimal.Decimal) string { return groupedMoney(d, t.Currency) }
	switch {
	case b.Passes != "":
		l.add(wentPrice, 0, "", "passed through to the "+b.Passes)
	case b.By != "":
		for _, v := range sortedKeys(b.Rates) {
			l.add(wentValue, 0, v, b.By+" "+v+" at "+Percent(b.Rates[v]))
		}
		l.addIf(b.Others, wentOthers, "others at "+Percent(b.Rate))
	case b.Tiers == nil:
		l.add(wentPrice, 0, "", "all at "+Percent(b.Rate))
	default:
		months := ""
		if b.Tiers.On == paidMonths {
			show, months = grouped, " paid months"
		}
		for i, st := range b.Steps {
			l.add(wentStep, i+1, "", b.Steps.span(i, show)+months+" at "+Percent(st.Rate))
		}
		l.addIf(!b.Tiers.Grace.IsZero(), wentLapse, "begins anew after a lapse of more than "+b.Tiers.Grace.String())
	}
	for i, u := range b.Points {
		l.add(wentPoints, i+1, "", u.By+" "+u.Is+": "+Points(u.Points))
	}
	l.add(wentRefund, 0, "", "refund, "+strings.ReplaceAll(b.Refunds, "_", " "))
}

// tookStep notes which rate a part of a sale bears.
func (e *saleEvent) tookStep(l *lineBuilder, step int) {
	switch b := e.body; {
	case b.By != "":
		value := e.t.attribute(b.By)
		if _, ok := b.Rates[value]; ok {
			l.took(wentValue, 0, value)
		} else {
			l.took(wentOthers, 0, "")
		}
	case b.Tiers == nil:
		l.took(wentPrice, 0, "")
	default:
		l.took(wentStep, step+1, "")
	}
}

// tookPoints notes which attributes move the rate of a sale.
func (e *saleEvent) tookPoints(l *lineBuilder) {
	for i, u := range e.body.Points {
		if e.t.attribute(u.By) == u.Is {
			l.took(wentPoints, i+1, "")
		}
	}
}

func (b *Quality) branches(l *branches) {
	l.add(wentUnscored, 0, "", "not scored")
	if b.Gate != nil {
		l.asked("gate", 0, b.Gate.Require)
	}
	for i, f := range b.Factors {
		if f.When != nil {
			l.asked("factor", i+1, f.When)
			continue
		}
		l.add(wentHolds, i+1, "factor", "× "+cmp.Or(f.Measure, f.Times.String()))
	}
	for i, x := range b.Bands {
		l.asked("band", i+1, x.When)
	}
	if b.Floor != nil {
		l.add(wentLeast, 0, "", "factors come to the floor of "+b.Floor.String())
	}
	if b.Cap != nil {
		l.add(wentMost, 0, "", "factors come to the cap of "+b.Cap.String())
	}
	if b.Min != nil {
		l.add(wentMin, 0, "", "stopped at "+Percent(*b.Min))
	}
	if b.Max != nil {
		l.add(wentMax, 0, "", "stopped at "+Percent(*b.Max))
	}
}

func (b *UsageFee) branches(l *branches) {
	m := b.Price
	show := grouped
	switch m.Model {
	case "percentage":
		l.add(wentPrice, 0, "", percentageRate(m))
		l.addIf(m.FreeEvents > 0 || m.FreeAmount != nil, wentFree, "free")
		if m.Min != nil {
			l.add(wentLeast, 0, "", "at least "+m.Min.String()+" per event")
		}
		if m.Max != nil {
			l.add(wentMost, 0, "", "at most "+m.Max.String()+" per event")
		}
	case "per_unit", "multiplier", "event_amount", "package":
		l.add(wentPrice, 0, "", cmp.Or(m.rates(), "as the events say"))
	case "capacity":
		for i := range m.Capacities {
			l.add(wentStep, i+1, "", "capacity of step "+grouped(decimal.NewFromInt(int64(i+1))))
		}
	default:
		for i, st := range m.Steps {
			l.add(wentStep, i+1, "", m.Steps.span(i, show)+m.stepText(st))
			if st.Cap != nil {
				l.add(wentStepCap, i+1, "", m.Steps.span(i, show)+", at most "+st.Cap.String())
			}
		}
	}
	l.addIf(m.ChargeAtZero, wentAtZero, "flat fee without usage")
	l.addIf(b.Quantity != nil && b.Quantity.Free.IsPositive(), wentFree, "no more than what is free")
}

// stepText is what a step of a ladder costs, for people.
func (m Model) stepText(st TierStep) string {
	switch m.Model {
	case "flat":
		return ": " + st.Flat.String()
	case "block":
		return ": blocks of " + grouped(st.Size) + " at " + st.Price.String()
	}
	_, text := m.price(st)
	if !st.Flat.IsZero() {
		text += " + " + st.Flat.String()
	}
	return " at " + text
}

// tookStep notes which price of a model is charged.
func (m *Model) tookStep(l *lineBuilder, step int) {
	switch m.Model {
	case "per_unit", "multiplier", "event_amount", "package":
		l.took(wentPrice, 0, "")
	default:
		l.took(wentStep, step+1, "")
	}
}

// tookTerm notes the price behind one multiplication.
func (m *Model) tookTerm(l *lineBuilder, x term) {
	if x.capped {
		l.took(wentStepCap, x.step+1, "")
		return
	}
	m.tookStep(l, x.step)
}

func (b *FixedFee) branches(l *branches) {
	for _, name := range sortedKeys(b.Amounts) {
		if b.Reference == "" || b.Reference == name {
			l.add(wentValue, 0, name, name+" "+b.Amounts[name].String())
		}
	}
	_, named := b.Amounts[b.Reference]
	switch {
	case named: // all events that the rule takes
	case b.Due != metering.FeeDue:
		l.add(wentPrice, 0, "", b.Due+" "+b.Amount.String())
	case b.Amount != nil:
		l.add(wentPrice, 0, "", "due "+b.Amount.String())
	default:
		l.add(wentPrice, 0, "", "due, as the event says")
	}
	l.addIf(b.Prorate != "", wentDays, "a part of a cycle, by days")
}

func (b *Referral) branches(l *branches) {
	if b.Flat != nil {
		l.add(wentPrice, 0, "", b.Flat.String()+" per converted lead")
	} else {
		l.add(wentPrice, 0, "", Percent(*b.Percent)+" of sales")
		l.add(wentRefund, 0, "", "refund, taken back")
	}
	if b.Cap != nil {
		l.add(wentMost, 0, "", "up to the cap of "+b.Cap.String())
	}
	l.addIf(!b.Window.IsZero(), wentTooLate, "converted after the window of "+b.Window.String())
	l.addIf(!b.Term.IsZero(), wentAfter, "sale after the term of "+b.Term.String())
	l.addIf(!b.Clawback.IsZero(), wentClawback, "cancelled within "+b.Clawback.String()+", taken back")
}

func (b *Split) branches(l *branches) {
	for _, id := range b.Parties() {
		l.add(wentValue, 0, string(id), Percent(b.To[id])+" to "+string(id))
	}
}

func (b *Cap) branches(l *branches) {
	l.add(wentBelow, 0, "", "charges within "+b.Maximum.String())
	l.add(wentMost, 0, "", "charges beyond "+b.Maximum.String())
}

func (b *Commitment) branches(l *branches) {
	l.addIf(b.TrueUp, wentBelow, "true-up of what is missing")
	l.add(wentHolds, 0, "", "minimum met")
	l.addIf(b.Overage.GreaterThan(one), wentOverage, "beyond the minimum, "+b.Overage.String()+" times")
}

func (b *Guarantee) branches(l *branches) {
	l.add(wentBelow, 0, "", "the rest of "+b.Minimum.String()+" is paid")
	l.add(wentHolds, 0, "", b.Minimum.String()+" earned")
}

func (b *Discount) branches(l *branches) {
	if b.Percent != nil {
		l.add(wentPrice, 0, "", Percent(*b.Percent)+" off")
		l.addIf(b.Maximum != nil, wentMost, "no more than the maximum")
	} else {
		l.add(wentPrice, 0, "", b.Amount.String()+" off")
		l.add(wentPart, 0, "", "no more than is charged")
	}
	if b.When != nil {
		l.asked("", 0, b.When)
		l.add(wentUnscored, 0, "", "not scored")
	}
	l.addIf(!b.Term.IsZero(), wentAfter, "after its term of "+b.Term.String())
}

func (b *Credit) branches(l *branches) {
	l.add(wentPrice, 0, "", "credit used")
	l.add(wentExceeded, 0, "", "charges beyond the credit")
	l.addIf(b.Maximum != nil, wentMost, "no more than the maximum of a month")
	l.addIf(!b.Expires.IsZero(), wentExpired, "unused credit expires")
}

func (b *TaxRule) branches(l *branches) {
	l.add(wentPrice, 0, "", Percent(b.Rate)+" of charges")
}
