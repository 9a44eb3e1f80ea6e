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
)

// parts are what a line of a rule can be, in the order in which they are shown.
var parts = []string{"sales", "refunds", "chargebacks", "share", "quality", "usage", "fee", "referral", "clawback"}

// lineBuilder gathers what falls under one rounding key until it is rounded.
type lineBuilder struct {
	Line
	order  int // of the rule in its contract
	round  Rounding
	digits int32

	base    decimal.Decimal
	hasBase bool
	free    decimal.Decimal  // sales at 0%
	freeOf  string           // which part of the ladder that is
	fixed   *decimal.Decimal // amount decided otherwise than by rounding Exact
	taxes   map[string]decimal.Decimal
	steps   map[stepKey]int // into Derivation
	cells   map[allocKey]*allocCell
	notes   map[string]bool
	types   map[string]bool
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
	events int64
	exact  decimal.Decimal
}

// line is the builder of a key, made on first use. The signs are the party's.
func (p *pricer) line(s *segment, r *Rule, part, scope string, party, payer partner.ID) *lineBuilder {
	key := LineKey{Contract: s.Terms.Contract, Rule: r.ID, Part: part, Scope: scope, Month: p.in.Month, Currency: s.Terms.Currency, Party: party}
	b := p.lines[key]
	if b == nil {
		b = &lineBuilder{
			Line:  Line{LineKey: key, Payer: payer, Events: Selection{Period: s.Period}},
			order: s.order[r.ID], digits: s.Terms.Currency.Digits(),
			steps: map[stepKey]int{}, cells: map[allocKey]*allocCell{},
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
	return b
}

// add is one multiplication of the derivation; equal ones are added up. It returns
// the product.
func (b *lineBuilder) add(what string, of, times decimal.Decimal) decimal.Decimal {
	is := of.Mul(times)
	k := stepKey{what, times.String()}
	if i, ok := b.steps[k]; ok {
		st := &b.Derivation[i]
		st.Of, st.Is = st.Of.Add(of), st.Is.Add(is)
	} else {
		b.steps[k] = len(b.Derivation)
		b.Derivation = append(b.Derivation, Step{what, of, times, is})
	}
	b.Exact = b.Exact.Add(is)
	return is
}

// allocate puts a part of the line on an app and customer.
func (b *lineBuilder) allocate(app partner.AppID, customer partner.CustomerID, events int64, exact decimal.Decimal) {
	k := allocKey{app, customer}
	c := b.cells[k]
	if c == nil {
		c = &allocCell{}
		b.cells[k] = c
	}
	c.events += events
	c.exact = c.exact.Add(exact)
}

func (b *lineBuilder) addBase(d decimal.Decimal) { b.base, b.hasBase = b.base.Add(d), true }

func (b *lineBuilder) tax(jurisdiction string, d decimal.Decimal) {
	if d.IsZero() {
		return
	}
	if b.taxes == nil {
		b.taxes = map[string]decimal.Decimal{}
	}
	if jurisdiction == "" {
		jurisdiction = "unassigned"
	}
	b.taxes[jurisdiction] = b.taxes[jurisdiction].Add(d)
}

func (b *lineBuilder) note(text string) {
	if b.notes == nil {
		b.notes = map[string]bool{}
	}
	b.notes[text] = true
}

func (b *lineBuilder) behind(types ...string) {
	if b.types == nil {
		b.types = map[string]bool{}
	}
	for _, t := range types {
		b.types[t] = true
	}
}

// rounded is d as money under the line's rounding.
func (r Rounding) money(d decimal.Decimal, c money.Currency) (money.Amount, error) {
	places := c.Digits()
	if r.Places != nil {
		places = *r.Places
	}
	return money.Exact(money.RoundDecimal(d, places, r.Mode), c)
}

// finish rounds the line and shares its amount out.
func (b *lineBuilder) finish() (Line, error) {
	var err error
	if b.fixed != nil {
		b.Amount, err = money.Exact(*b.fixed, b.Currency)
	} else {
		b.Amount, err = b.round.money(b.Exact, b.Currency)
	}
	if err != nil {
		return b.Line, fmt.Errorf("%s rule %s: %w", b.Contract, b.Rule, err)
	}
	if b.hasBase {
		base, err := money.Round(b.base, b.Currency, money.HalfUp)
		if err != nil {
			return b.Line, fmt.Errorf("%s rule %s: base: %w", b.Contract, b.Rule, err)
		}
		b.Base = &base
	}
	if b.free.IsPositive() {
		b.Text += "; " + groupedMoney(b.free, b.Currency) + " of it at 0%" + b.freeOf
	}
	for _, j := range sortedKeys(b.taxes) {
		a, err := money.Exact(b.taxes[j], b.Currency)
		if err != nil {
			return b.Line, fmt.Errorf("%s rule %s: tax of %s: %w", b.Contract, b.Rule, j, err)
		}
		b.Taxes = append(b.Taxes, Tax{j, a})
	}
	b.Notes, b.Events.Types = sortedKeys(b.notes), sortedKeys(b.types)
	if err := b.shareOut(); err != nil {
		return b.Line, err
	}
	b.check()
	return b.Line, nil
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
	keys := make([]allocKey, 0, len(b.cells))
	for k := range b.cells {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y allocKey) int {
		return cmp.Or(strings.Compare(string(x.app), string(y.app)), strings.Compare(string(x.customer), string(y.customer)))
	})
	if len(keys) == 1 && !b.cells[keys[0]].exact.IsZero() {
		b.Allocations = []Allocation{{keys[0].app, keys[0].customer, b.cells[keys[0]].events, b.Amount}}
		return nil
	}
	up, down := make([]decimal.Decimal, len(keys)), make([]decimal.Decimal, len(keys))
	var ups, downs decimal.Decimal
	for i, k := range keys {
		if e := b.cells[k].exact; e.IsPositive() {
			up[i], ups = e, ups.Add(e)
		} else {
			down[i], downs = e.Neg(), downs.Add(e.Neg())
		}
	}
	total := b.Amount.Minor
	var gain, loss int64
	switch {
	case ups.IsZero() && downs.IsZero():
		if total != 0 || len(keys) == 0 { // nobody caused it: it stays with the line
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
	for i, k := range keys {
		b.Allocations = append(b.Allocations, Allocation{k.app, k.customer, b.cells[k].events, money.New(gains[i]-losses[i], b.Currency)})
	}
	return nil
}

// check holds the line against itself; what it finds is a mistake of this package.
func (b *lineBuilder) check() {
	sum := decimal.Zero
	for _, s := range b.Derivation {
		if !s.Of.Mul(s.Times).Equal(s.Is) {
			panic(fmt.Sprintf("pricing: internal error: %s/%s: %s × %s is not %s", b.Contract, b.Rule, s.Of, s.Times, s.Is))
		}
		sum = sum.Add(s.Is)
	}
	if !sum.Equal(b.Exact) {
		panic(fmt.Sprintf("pricing: internal error: %s/%s %s: derivation %s, exact %s", b.Contract, b.Rule, b.Part, sum, b.Exact))
	}
	var minor int64
	for _, a := range b.Allocations {
		minor += a.Amount.Minor
	}
	if minor != b.Amount.Minor {
		panic(fmt.Sprintf("pricing: internal error: %s/%s %s: allocations %d, amount %d", b.Contract, b.Rule, b.Part, minor, b.Amount.Minor))
	}
	unit := decimal.New(1, -b.digits)
	if b.round.Places != nil {
		unit = decimal.New(1, -*b.round.Places)
	}
	if b.fixed == nil && b.Amount.Decimal().Sub(b.Exact).Abs().GreaterThanOrEqual(unit) {
		panic(fmt.Sprintf("pricing: internal error: %s/%s %s: %s is not %s rounded", b.Contract, b.Rule, b.Part, b.Amount, b.Exact))
	}
}

// compareLines orders by contract, rule as written, part, scope and party.
func compareLines(a, b *lineBuilder) int {
	return cmp.Or(
		strings.Compare(a.Contract, b.Contract),
		a.order-b.order,
		strings.Compare(a.Rule, b.Rule),
		slices.Index(parts, a.Part)-slices.Index(parts, b.Part),
		strings.Compare(a.Scope, b.Scope),
		strings.Compare(string(a.Currency), string(b.Currency)),
		strings.Compare(string(a.Party), string(b.Party)),
	)
}

func hasClass(rule, event metering.Class) bool { return rule == "" || rule == event }
