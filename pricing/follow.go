package pricing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// Rules that follow others change what those come to: a cap, a discount, a commitment.
// They work on amounts as they stand on the statement, rounded, in the order in which
// the contract writes them, on the whole month under the version in force at its end.

// follower is the body of a rule that follows others.
type follower interface {
	follows() []string // ids of rules above it
}

// follow prices the rules that follow others, contract by contract.
func (p *pricer) follow() error {
	for i, s := range p.segments {
		if i+1 < len(p.segments) && p.segments[i+1].Terms.Contract == s.Terms.Contract {
			continue // not the last version of the month
		}
		for j := range s.Terms.Rules {
			r := &s.Terms.Rules[j]
			for _, k := range kinds() {
				if k.name == r.Kind && k.follow != nil {
					if err := k.follow(p, s, r); err != nil {
						return fmt.Errorf("%s rule %s: %w", s.Terms.Contract, r.ID, err)
					}
				}
			}
		}
	}
	return nil
}

// finished are the lines of a contract's partner so far, rounded, in their order.
func (p *pricer) finished(s *segment) ([]*lineBuilder, error) {
	var out []*lineBuilder
	for k, b := range p.lines {
		if k.Contract == s.Terms.Contract && k.Party == s.Terms.Partner {
			if err := b.finish(); err != nil {
				return nil, err
			}
			out = append(out, b)
		}
	}
	slices.SortFunc(out, compareLines)
	return out, nil
}

// base is what the rules that are followed come to for one scope instance: positive is
// what the partner gets.
type base struct {
	line   string // scope of the line
	amount decimal.Decimal
	rules  map[string]decimal.Decimal
	cells  map[allocKey]decimal.Decimal
	of     string // part of the first line
	class  metering.Class
}

// bases adds up what the rules charge, by partner, app or customer: their lines without
// the money of customers.
func (p *pricer) bases(s *segment, on []string, per string) (map[string]*base, error) {
	return p.basesOf(s, on, per, func(l *lineBuilder) bool { return !ofCustomers(l.Part) })
}

// basesOf adds up the lines of the rules that are wanted.
func (p *pricer) basesOf(s *segment, on []string, per string, wanted func(*lineBuilder) bool) (map[string]*base, error) {
	lines, err := p.finished(s)
	if err != nil {
		return nil, err
	}
	out := map[string]*base{}
	if per == "partner" {
		scope, line := p.scope(s, per, "", "")
		out[scope] = newBase(line)
	}
	for _, l := range lines {
		if !slices.Contains(on, l.Rule) || !wanted(l) {
			continue
		}
		for _, a := range l.Allocations {
			scope, line := p.scope(s, per, a.App, a.Customer)
			b := out[scope]
			if b == nil {
				b = newBase(line)
				out[scope] = b
			}
			d := a.Amount.Decimal()
			b.amount, b.rules[l.Rule] = b.amount.Add(d), b.rules[l.Rule].Add(d)
			k := allocKey{a.App, a.Customer}
			b.cells[k] = b.cells[k].Add(d)
			if b.of == "" {
				b.of, b.class = cmp.Or(l.Of, l.Part), l.Class
			}
		}
	}
	return out, nil
}

func newBase(line string) *base {
	return &base{line: line, rules: map[string]decimal.Decimal{}, cells: map[allocKey]decimal.Decimal{}}
}

// charges is the base as a charge: positive is what the partner owes.
func (b *base) charges() decimal.Decimal { return b.amount.Neg() }

// text is the rules and what they come to, for people.
func (b *base) text(c money.Currency) string {
	var parts []string
	for _, id := range sortedKeys(b.rules) {
		parts = append(parts, id+" "+groupedMoney(b.rules[id], c))
	}
	return strings.Join(parts, ", ")
}

// followLine is the line of a rule that follows others.
func (p *pricer) followLine(s *segment, r *Rule, part string, b *base, text string) *lineBuilder {
	l := p.line(s, r, part, b.line, s.Terms.Partner, partner.Platform)
	l.Of = b.of
	l.Class = cmp.Or(r.Class, b.class)
	l.Text = cmp.Or(r.Text, text)
	l.Events.Period = p.in.Month.In(s.Terms.Zone)
	if a, ok := strings.CutPrefix(b.line, "app:"); ok {
		l.Events.Apps = []partner.AppID{partner.AppID(a)}
	}
	if c, ok := strings.CutPrefix(b.line, "customer:"); ok {
		l.Events.Customer = partner.CustomerID(c)
	}
	if t := b.text(s.Terms.Currency); t != "" {
		l.note("on " + t)
	}
	l.reduces(s.Terms.over(r))
	return l
}

// share puts what the line came to on apps and customers by what they were charged; of
// a base that is nobody's it stays with the line.
func (b *base) share(l *lineBuilder) {
	whole := decimal.Zero
	for _, d := range b.cells {
		whole = whole.Add(d)
	}
	for k, d := range b.cells {
		part := decimal.Zero
		if !whole.IsZero() && d.Sign() == whole.Sign() {
			part = l.Exact.Mul(d).DivRound(whole, refundPlaces)
		}
		l.allocate(k.app, k.customer, 0, part)
	}
}

// readFollowed reads the ids of the rules that a rule follows.
func (c *contract) readFollowed(o *object, name string) []string {
	f, ok := o.need(name, "the ids of rules above, such as "+name+": [api-calls]")
	if !ok {
		return nil
	}
	var ids []string
	for _, e := range f.list() {
		id, ok := e.text()
		if ok && slices.Contains(ids, id) {
			e.bad(fmt.Sprintf("%s is named twice", clip(id)), "keep one")
		}
		ids = append(ids, id)
	}
	if ids == nil {
		f.bad("no rule is named", "the ids of rules above")
	}
	return ids
}

// checkFollowed refuses a rule that follows one which is not written above it.
func checkFollowed(c *contract, r *Rule, at *object) {
	var above []string
	for i := range c.terms.Rules {
		if &c.terms.Rules[i] == r {
			break
		}
		above = append(above, c.terms.Rules[i].ID)
	}
	for _, id := range r.Body.(follower).follows() {
		if id != "" && !slices.Contains(above, id) {
			at.at("on").bad(fmt.Sprintf("no rule above is called %s", clip(id)), "rules above: "+strings.Join(above, ", "))
		}
	}
	checkOver(c, r, at)
}

func followedSchema() schema {
	return listOf("ids of rules above it; their amounts on the statement are what it works on", text("the id of a rule above"))
}

// Limit is an amount for a window, whole or by the days that the terms are in force.
type Limit struct {
	Window  Window `json:"window"`
	Prorate string `json:"prorate,omitempty"` // day
}

// lasts is the window of the rule's totals.
func (m Limit) lasts() Window { return m.Window }

// read reads the window of a limit and whether it is prorated.
func (m *Limit) read(c *contract, o *object) {
	m.Window = Window{Kind: "month"}
	if f, ok := o.get("window"); ok {
		m.Window = f.window(c.terms.From)
		if m.Window.Kind == "rolling" {
			f.bad("a rolling window never ends", "one of: month, quarter, year, contract year, lifetime since YYYY-MM-DD")
		}
	}
	if f, ok := o.get("prorate"); ok {
		m.Prorate, _ = f.oneOf("day")
		if m.Window.Kind == "lifetime" {
			f.bad("a lifetime has no number of days", "leave it out")
		}
	}
}

func (m *Limit) schema(fields schema) schema {
	fields["window"] = windowSchema()
	fields["prorate"] = enum("by the days of the window in which the terms are in force", "day")
	return fields
}

// days is how many days of the window that holds the month the rule is in force, and
// how many the window has. Days of earlier months are kept as a total.
func (p *pricer) days(s *segment, r *Rule, m Limit) (in, of int) {
	start, end := m.Window.start(p.in.Month), m.Window.end(p.in.Month)
	of = start.DaysUntil(end)
	now := 0
	for _, x := range p.segments {
		if i, ok := x.order[r.ID]; ok && x.Terms.Contract == s.Terms.Contract && x.Terms.Rules[i].Kind == r.Kind {
			from, until := x.dates()
			now += from.DaysUntil(until)
		}
	}
	t := p.total(s, r.ID, "days", "", m.Window)
	before := int(t.Value.IntPart())
	t.Value = t.Value.Add(decimal.NewFromInt(int64(now)))
	_, until := s.dates()
	last := end
	if !s.Terms.Until.IsZero() && s.Terms.Until.Before(last) {
		last = s.Terms.Until
	}
	return before + now + max(0, until.DaysUntil(last)), of
}

// limit is the amount for the window, prorated if the rule says so, and how people
// call it.
func (p *pricer) limit(s *segment, r *Rule, m Limit, amount decimal.Decimal) (decimal.Decimal, string) {
	text := groupedMoney(amount, s.Terms.Currency)
	if m.Prorate == "" {
		return amount, text
	}
	in, of := p.days(s, r, m)
	if in < of {
		text += fmt.Sprintf(", %d of %d days", in, of)
	}
	return prorate(amount, in, of), text
}

// ends reports whether the window or the terms end with this month.
func (m Limit) ends(s *segment, month period.Month) bool {
	next := month.Add(1).First()
	return m.Window.end(month) == next || !s.Terms.Until.IsZero() && !next.Before(s.Terms.Until)
}
