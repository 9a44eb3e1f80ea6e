package pricing

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/partner"
)

// parts are what a line of a rule can be, in the order in which they are shown.
var parts = []string{"sales", "refunds", "chargebacks", "written_off", "collected", "accrued", "contested", "share", "quality", "usage", "fee", "chargeback_fee", "referral", "clawback",
	"pass_through", "split", "discount", "cap", "commitment", "tax", "credit", "guarantee"}

// Parts are what a line of a rule can be, in the order in which they are shown.
func Parts() []string { return slices.Clone(parts) }

// lineBuilder gathers what falls under one rounding key until it is rounded.
type lineBuilder struct {
	Line
	order  int // of the rule in its contract
	part   int // in parts
	round  Rounding
	digits int32

	base      decimal.Decimal
	hasBase   bool
	free      decimal.Decimal  // sales at 0%
	freeOf    string           // which part of the ladder that is
	fixed     *decimal.Decimal // amount decided otherwise than by rounding Exact
	over      *recognition     // of a fee that is earned over months
	contested *contested       // of chargebacks that are not decided
	unpaid    *decimal.Decimal // change of what customers have not paid, tax included
	taxes     map[taxKey]decimal.Decimal
	steps     map[stepKey]int // into Derivation, once there are many
	cells     allocCells
	notes     []string
	types     []string

	exchanged map[ExchangeKey]*exchangedSum

	rerated bool // drop steps that came to nothing because all moved to another one
	done    bool // rounded: nothing may be added any more
	taken   *takenWays
}

type taxKey struct {
	jurisdiction string
	currency     money.Currency
}

type stepKey struct {
	what  string
	times string
}

type allocKey struct {
	app      partner.AppID
	customer partner.CustomerID
}

type allocCell struct {
	allocKey
	events int64
	exact  decimal.Decimal
}

// allocCells are what falls to each app and customer. There is mostly one.
type allocCells struct {
	all   []allocCell
	index map[allocKey]int // once there are many
}

// fewCells is up to how many are looked through.
const fewCells = 8

func (cs *allocCells) of(k allocKey) *allocCell {
	if cs.index == nil {
		if i := slices.IndexFunc(cs.all, func(c allocCell) bool { return c.allocKey == k }); i >= 0 {
			return &cs.all[i]
		}
	} else if i, ok := cs.index[k]; ok {
		return &cs.all[i]
	}
	if cs.index == nil && len(cs.all) == fewCells {
		cs.index = map[allocKey]int{}
		for i, c := range cs.all {
			cs.index[c.allocKey] = i
		}
	}
	if cs.index != nil {
		cs.index[k] = len(cs.all)
	}
	cs.all = append(cs.all, allocCell{allocKey: k})
	return &cs.all[len(cs.all)-1]
}

// add puts a part and its events on an app and customer.
func (cs *allocCells) add(k allocKey, events int64, exact decimal.Decimal) {
	c := cs.of(k)
	c.events += events
	c.exact = plus(c.exact, exact)
}

// line is the builder of a key, made on first use. The signs are the party's.
func (p *pricer) line(s *segment, r *Rule, part, scope string, party, payer partner.ID) *lineBuilder {
	key := LineKey{Contract: s.Terms.Contract, Rule: r.ID, Part: part, Scope: scope, Month: p.in.Month, Currency: s.Terms.Currency, Party: party}
	b := p.lines[key]
	if b == nil {
		b = p.newBuilder()
		*b = lineBuilder{
			Line:  Line{LineKey: key, Payer: payer, Events: Selection{Period: s.Period}},
			order: s.order[r.ID], part: slices.Index(parts, part), digits: s.Terms.Currency.Digits(), taken: p.taken,
		}
		p.lines[key] = b
	}
	b.Kind, b.Class, b.Version, b.round = r.Kind, r.Class, s.Terms.Version, s.Terms.Round
	if s.Period.Start.Before(b.Events.Period.Start) {
		b.Events.Period.Start = s.Period.Start
	}
	if s.Period.End.After(b.Events.Period.End) {
		b.Events.Period.End = s.Period.End
	}
	if b.Events.Apps == nil {
		b.Events.Apps = s.ruleApps(r)
	}
	b.Events.Class = r.Class
	if s.Terms.Customer != "" {
		b.Events.Customer = s.Terms.Customer
	}
	return b
}

// How many builders are made at once: ever more, within bounds.
const (
	fewBuilders  = 4
	manyBuilders = 128
)

func (p *pricer) newBuilder() *lineBuilder {
	if len(p.builders) == cap(p.builders) {
		p.builders = make([]lineBuilder, 0, min(max(2*cap(p.builders), fewBuilders), manyBuilders))
	}
	p.builders = p.builders[:len(p.builders)+1]
	return &p.builders[len(p.builders)-1]
}

// expect makes room for the lines and totals of n more scope instances.
func (p *pricer) expect(n int) {
	if n > len(p.lines) && n > fewBuilders {
		lines := make(map[LineKey]*lineBuilder, len(p.lines)+n)
		maps.Copy(lines, p.lines)
		p.lines = lines
	}
	if n > len(p.totals) && n > fewBuilders {
		totals := make(map[totalKey]*Total, len(p.totals)+n)
		maps.Copy(totals, p.totals)
		p.totals = totals
	}
}

// fewSteps is up to how many steps of a derivation are looked through.
const fewSteps = 8

// step is where the derivation has this multiplication, or -1.
func (b *lineBuilder) step(what string, times decimal.Decimal) int {
	if b.steps == nil && len(b.Derivation) <= fewSteps {
		return slices.IndexFunc(b.Derivation, func(s Step) bool { return s.What == what && s.Times.Equal(times) })
	}
	if b.steps == nil {
		b.steps = map[stepKey]int{}
	}
	for i := len(b.steps); i < len(b.Derivation); i++ {
		s := &b.Derivation[i]
		b.steps[stepKey{s.What, s.Times.String()}] = i
	}
	if i, ok := b.steps[stepKey{what, times.String()}]; ok {
		return i
	}
	return -1
}

// add is one multiplication of the derivation; equal ones are added up. It returns
// the product.
func (b *lineBuilder) add(what string, of, times decimal.Decimal) decimal.Decimal {
	is := product(of, times)
	if i := b.step(what, times); i >= 0 {
		st := &b.Derivation[i]
		st.Of, st.Is = plus(st.Of, of), plus(st.Is, is)
	} else {
		if b.Derivation == nil {
			b.Derivation = make([]Step, 0, 3)
		}
		b.Derivation = append(b.Derivation, Step{what, of, times, is})
	}
	b.Exact = plus(b.Exact, is)
	return is
}

// allocate puts a part of the line on an app and customer.
func (b *lineBuilder) allocate(app partner.AppID, customer partner.CustomerID, events int64, exact decimal.Decimal) {
	b.cells.add(allocKey{app, customer}, events, exact)
}

func (b *lineBuilder) addBase(d decimal.Decimal) { b.base, b.hasBase = b.base.Add(d), true }

// tax is tax that came with the line, in the currency in which it came.
func (b *lineBuilder) tax(jurisdiction string, c money.Currency, d decimal.Decimal) {
	if d.IsZero() {
		return
	}
	if b.taxes == nil {
		b.taxes = map[taxKey]decimal.Decimal{}
	}
	if jurisdiction == "" {
		jurisdiction = "unassigned"
	}
	k := taxKey{jurisdiction, c}
	b.taxes[k] = b.taxes[k].Add(d)
}

func (b *lineBuilder) note(text string) {
	if !slices.Contains(b.notes, text) {
		b.notes = append(b.notes, text)
	}
}

func (b *lineBuilder) behind(types ...string) {
	for _, t := range types {
		if !slices.Contains(b.types, t) {
			b.types = append(b.types, t)
		}
	}
}

// rounded is d as money under the line's rounding.
func (r Rounding) money(d decimal.Decimal, c money.Currency) (money.Amount, error) {
	places := c.Digits()
	if r.Places != nil {
		places = *r.Places
	}
	if places == c.Digits() {
		if minor, ok := rounded(d, places, r.Mode); ok {
			return money.New(minor, c), nil
		}
	}
	return money.Exact(money.RoundDecimal(d, places, r.Mode), c)
}

// finish rounds the line and shares its amount out, once.
func (b *lineBuilder) finish() error {
	if b.done {
		return nil
	}
	b.done = true
	if b.rerated {
		b.Derivation = slices.DeleteFunc(b.Derivation, func(s Step) bool { return s.Of.IsZero() })
	}
	var err error
	if b.fixed != nil {
		b.Amount, err = money.Exact(*b.fixed, b.Currency)
	} else {
		b.Amount, err = b.round.money(b.Exact, b.Currency)
	}
	if err != nil {
		return fmt.Errorf("%s rule %s: %w", b.Contract, b.Rule, err)
	}
	if b.hasBase {
		base, err := money.Round(b.base, b.Currency, money.HalfUp)
		if err != nil {
			return fmt.Errorf("%s rule %s: base: %w", b.Contract, b.Rule, err)
		}
		b.Base = &base
	}
	if b.free.IsPositive() {
		b.Text += "; " + groupedMoney(b.free, b.Currency) + " of it at 0%" + b.freeOf
	}
	for k, d := range b.taxes {
		a, err := money.Exact(d, k.currency)
		if err != nil {
			return fmt.Errorf("%s rule %s: tax of %s: %w", b.Contract, b.Rule, k.jurisdiction, err)
		}
		b.Taxes = append(b.Taxes, Tax{k.jurisdiction, a})
	}
	slices.SortFunc(b.Taxes, func(x, y Tax) int {
		return cmp.Or(strings.Compare(x.Jurisdiction, y.Jurisdiction), cmp.Compare(x.Amount.Currency, y.Amount.Currency))
	})
	if err := b.finishExchanged(); err != nil {
		return err
	}
	if err := b.holdContested(); err != nil {
		return fmt.Errorf("%s rule %s: chargebacks: %w", b.Contract, b.Rule, err)
	}
	slices.Sort(b.notes)
	slices.Sort(b.types)
	b.Notes, b.Events.Types = b.notes, b.types
	if b.unpaid != nil {
		a, err := money.Exact(*b.unpaid, b.Currency)
		if err != nil {
			return fmt.Errorf("%s rule %s: what customers have not paid: %w", b.Contract, b.Rule, err)
		}
		b.Unpaid = &a
	}
	if err := b.recognise(); err != nil {
		return fmt.Errorf("%s rule %s: %w", b.Contract, b.Rule, err)
	}
	if err := b.shareOut(); err != nil {
		return err
	}
	b.check()
	return nil
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	var keys []K
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// shareOut makes the allocations: what raises the line and what lowers it are each
// split by largest remainder, so that both add up to the line.
func (b *lineBuilder) shareOut() error {
	cells := b.cells.all
	slices.SortFunc(cells, func(x, y allocCell) int { return compareAllocs(x.allocKey, y.allocKey) })
	if len(cells) == 1 && !cells[0].exact.IsZero() {
		b.Allocations = []Allocation{{cells[0].app, cells[0].customer, cells[0].events, b.Amount}}
		return nil
	}
	up, down := make([]decimal.Decimal, len(cells)), make([]decimal.Decimal, len(cells))
	var ups, downs decimal.Decimal
	for i, c := range cells {
		if e := c.exact; e.IsPositive() {
			up[i], ups = e, plus(ups, e)
		} else {
			down[i], downs = e.Neg(), minus(downs, e)
		}
	}
	total := b.Amount.Minor
	var gain, loss int64
	switch {
	case ups.IsZero() && downs.IsZero():
		if total != 0 || len(cells) == 0 { // nobody caused it: it stays with the line
			b.Allocations = append(b.Allocations, Allocation{Events: 0, Amount: b.Amount})
			total = 0
		}
	case downs.IsZero():
		gain = total
	case ups.IsZero():
		loss = -total
	default:
		a, err := money.Round(ups, b.Currency, money.HalfUp)
		if err != nil {
			return fmt.Errorf("%s rule %s: %w", b.Contract, b.Rule, err)
		}
		gain = max(a.Minor, total)
		loss = gain - total
	}
	gains, err := money.Split(gain, up)
	if err != nil {
		return fmt.Errorf("%s rule %s: %w", b.Contract, b.Rule, err)
	}
	losses, err := money.Split(loss, down)
	if err != nil {
		return fmt.Errorf("%s rule %s: %w", b.Contract, b.Rule, err)
	}
	for i, c := range cells {
		b.Allocations = append(b.Allocations, Allocation{c.app, c.customer, c.events, money.New(gains[i]-losses[i], b.Currency)})
	}
	return nil
}

func compareAllocs(x, y allocKey) int {
	return cmp.Or(strings.Compare(string(x.app), string(y.app)), strings.Compare(string(x.customer), string(y.customer)))
}

// check holds the line against itself; what it finds is a mistake of this package.
func (b *lineBuilder) check() {
	var total sum
	for _, s := range b.Derivation {
		if !isProduct(s.Of, s.Times, s.Is) {
			panic(fmt.Sprintf("pricing: internal error: %s/%s: %s × %s is not %s", b.Contract, b.Rule, s.Of, s.Times, s.Is))
		}
		total.add(s.Is)
	}
	if !total.equal(b.Exact) {
		panic(fmt.Sprintf("pricing: internal error: %s/%s %s: derivation %s, exact %s", b.Contract, b.Rule, b.Part, total.decimal(), b.Exact))
	}
	var minor int64
	for _, a := range b.Allocations {
		minor += a.Amount.Minor
	}
	if minor != b.Amount.Minor {
		panic(fmt.Sprintf("pricing: internal error: %s/%s %s: allocations %d, amount %d", b.Contract, b.Rule, b.Part, minor, b.Amount.Minor))
	}
	places := b.digits
	if b.round.Places != nil {
		places = *b.round.Places
	}
	if b.fixed == nil && !within(b.Amount.Decimal(), b.Exact, places) {
		panic(fmt.Sprintf("pricing: internal error: %s/%s %s: %s is not %s rounded", b.Contract, b.Rule, b.Part, b.Amount, b.Exact))
	}
}

// compareLines orders by contract, rule as written, part, scope and party.
func compareLines(a, b *lineBuilder) int {
	return cmp.Or(
		strings.Compare(a.Contract, b.Contract),
		a.order-b.order,
		strings.Compare(a.Rule, b.Rule),
		a.part-b.part,
		strings.Compare(a.Scope, b.Scope),
		strings.Compare(string(a.Currency), string(b.Currency)),
		strings.Compare(string(a.Party), string(b.Party)),
	)
}

func hasClass(rule, event metering.Class) bool { return rule == "" || rule == event }

// LadderStep is the step of its rule's ladder on which the line ends, as its derivation
// names it: "above 1,000,000.00 at 15%". It is empty for a line without a ladder.
func (l *Line) LadderStep() string {
	for _, s := range slices.Backward(l.Derivation) {
		if from, _, between := strings.Cut(s.What, " to "); strings.HasPrefix(s.What, "first ") || strings.HasPrefix(s.What, "above ") ||
			between && from != "" && strings.Trim(from, "0123456789,.") == "" {
			return s.What
		}
	}
	return ""
}
