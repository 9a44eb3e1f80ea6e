package pricing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/partner"
)

const qualityDoc = "Moves the rate of a share rule by points, by what an app's scorecard of the month says."

// Quality is the body of a quality rule. When the gate's condition does not hold, its
// points apply alone; otherwise the points of all bands that hold add up. Points move
// only rates above zero; the bounds stop only what points move.
type Quality struct {
	Adjusts   string           `json:"adjusts"` // the id of a share rule
	Gate      *Gate            `json:"gate,omitempty"`
	Bands     []Band           `json:"bands,omitempty"`
	Min       *decimal.Decimal `json:"min,omitempty"`
	Max       *decimal.Decimal `json:"max,omitempty"`
	NotScored int64            `json:"not_scored_below_calls,omitempty"`
}

// Gate is the condition for bands to count at all.
type Gate struct {
	Require   *Condition      `json:"require"`
	Otherwise decimal.Decimal `json:"otherwise"` // points when it does not hold
}

// Band is a move of the rate while a condition holds.
type Band struct {
	When   *Condition      `json:"when"`
	Points decimal.Decimal `json:"points"`
}

func decodeQuality(c *contract, o *object) any {
	b := &Quality{}
	if f, ok := o.need("adjusts", "the id of a share rule of this contract"); ok {
		b.Adjusts, _ = f.text()
	}
	if f, ok := o.get("gate"); ok {
		if g := c.object(f); g != nil {
			b.Gate = &Gate{}
			if h, ok := g.need("require", `such as certification.state == "valid"`); ok {
				b.Gate.Require = h.condition()
			}
			if h, ok := g.get("otherwise"); ok {
				b.Gate.Otherwise, _ = h.points()
			}
			g.done()
		}
	}
	if f, ok := o.get("bands"); ok {
		for _, e := range f.list() {
			g := c.object(e)
			if g == nil {
				continue
			}
			var band Band
			if h, ok := g.need("when", "such as availability >= 0.999"); ok {
				band.When = h.condition()
			}
			if h, ok := g.need("platform_rate", "such as -2 points"); ok {
				band.Points, _ = h.points()
			}
			g.done()
			b.Bands = append(b.Bands, band)
		}
	}
	if b.Gate == nil && b.Bands == nil {
		o.bad("neither gate nor bands", "bands: [{when: availability >= 0.999, platform_rate: -2 points}]")
	}
	if f, ok := o.get("bounds"); ok {
		b.readBounds(c, f)
	}
	if f, ok := o.get("not_scored_below"); ok {
		b.NotScored = f.calls()
	}
	return b
}

func (b *Quality) readBounds(c *contract, f value) {
	o := c.object(f)
	if o == nil {
		return
	}
	if g, ok := o.get("min"); ok {
		if d, ok := g.percent(); ok {
			b.Min = &d
		}
	}
	if g, ok := o.get("max"); ok {
		if d, ok := g.percent(); ok {
			b.Max = &d
		}
	}
	if b.Min != nil && b.Max != nil && b.Min.GreaterThan(*b.Max) {
		f.bad(fmt.Sprintf("min %s is above max %s", Percent(*b.Min), Percent(*b.Max)), "swap them")
	}
	o.done()
}

// calls reads "1000 calls".
func (v value) calls() int64 {
	s, ok := v.text()
	if !ok {
		return 0
	}
	num, found := strings.CutSuffix(s, " calls")
	d, err := parseNumber(num)
	if !found || err != nil || !d.IsInteger() || !d.IsPositive() || d.GreaterThan(decimal.New(1, 15)) {
		v.bad(fmt.Sprintf("%q is no number of calls", clip(s)), "write it like 1000 calls")
		return 0
	}
	return d.IntPart()
}

func checkQuality(c *contract, r *Rule, at *object) {
	b := r.Body.(*Quality)
	i := slices.IndexFunc(c.terms.Rules, func(o Rule) bool { return o.ID == b.Adjusts && o.Kind == "share" })
	if i < 0 && b.Adjusts != "" {
		var shares []string
		for _, o := range c.terms.Rules {
			if o.Kind == "share" {
				shares = append(shares, o.ID)
			}
		}
		at.at("adjusts").bad(fmt.Sprintf("no share rule is called %s", clip(b.Adjusts)), "share rules here: "+strings.Join(shares, ", "))
	}
	for j := range c.terms.Rules {
		o := &c.terms.Rules[j]
		if o == r {
			return
		}
		if q, ok := o.Body.(*Quality); ok && q.Adjusts == b.Adjusts {
			at.at("adjusts").bad(fmt.Sprintf("%s adjusts %s already", o.ID, b.Adjusts), "put all bands in one rule")
		}
	}
}

func qualitySchema() schema {
	cond := text("a condition over the scorecard; measures: " + strings.Join(measureNames(), ", "))
	pts := pattern("a move of the rate, such as +5 points", `^[+-][0-9][0-9_]*(\.[0-9]+)? points?$`)
	return schema{
		"adjusts": text("the id of a share rule"),
		"gate": object1("bands count only while this holds", schema{
			"require": cond, "otherwise": pts,
		}.require("require")),
		"bands": listOf("points of all bands that hold add up", object1("", schema{
			"when": cond, "platform_rate": pts,
		}.require("when", "platform_rate"))),
		"bounds": object1("stop what points move", schema{
			"min": percentSchema("lowest rate"), "max": percentSchema("highest rate"),
		}),
		"not_scored_below": pattern("fewer calls are not scored", `^[0-9][0-9_]* calls$`),
	}.require("adjusts")
}

// adjustment gathers, beside one share line, what quality moves.
type adjustment struct {
	s     *segment
	rule  *Rule
	share LineKey
	line  *lineBuilder
}

// adjuster answers, for one sale, what quality does to a rate. Without a quality rule
// it does nothing.
type adjuster struct {
	rule   *Rule
	body   *Quality
	points decimal.Decimal
	why    string // not scored, and why
	held   []string
	moved  map[string]movedPart
}

type movedPart struct {
	base decimal.Decimal
	by   decimal.Decimal
}

func (p *pricer) adjuster(e *saleEvent) *adjuster {
	for i := range e.s.Terms.Rules {
		r := &e.s.Terms.Rules[i]
		if b, ok := r.Body.(*Quality); ok && b.Adjusts == e.r.ID {
			q := &adjuster{rule: r, body: b}
			q.points, q.held, q.why = b.score(p.cards[e.app])
			return q
		}
	}
	return nil
}

// score is the points a scorecard earns, or why it is not scored.
func (b *Quality) score(c *Scorecard) (points decimal.Decimal, held []string, why string) {
	if c == nil {
		return decimal.Zero, nil, "no scorecard"
	}
	if c.Calls < b.NotScored {
		return decimal.Zero, nil, fmt.Sprintf("%s calls, fewer than %s", money.Group(fmt.Sprint(c.Calls)), money.Group(fmt.Sprint(b.NotScored)))
	}
	conditions := make([]*Condition, 0, len(b.Bands)+1)
	if b.Gate != nil {
		conditions = append(conditions, b.Gate.Require)
	}
	for _, band := range b.Bands {
		conditions = append(conditions, band.When)
	}
	for _, cond := range conditions {
		if m, missing := cond.Missing(c); missing {
			return decimal.Zero, nil, "no data for " + m
		}
	}
	if b.Gate != nil && !b.Gate.Require.Holds(c) {
		return b.Gate.Otherwise, []string{"not " + b.Gate.Require.Text}, ""
	}
	for _, band := range b.Bands {
		if band.When.Holds(c) {
			points, held = points.Add(band.Points), append(held, band.When.Text)
		}
	}
	return points, held, ""
}

// move is the rate after points: only above zero, and stopped by bounds only on the
// side to which the points move it.
func (b *Quality) move(rate, points decimal.Decimal) decimal.Decimal {
	if !rate.IsPositive() || points.IsZero() {
		return rate
	}
	to := rate.Add(points)
	switch {
	case points.IsPositive() && b.Max != nil && to.GreaterThan(*b.Max):
		to = decimal.Max(rate, *b.Max)
	case points.IsNegative() && b.Min != nil && to.LessThan(*b.Min):
		to = decimal.Min(rate, *b.Min)
	}
	if to.IsNegative() {
		return decimal.Zero
	}
	if one := decimal.NewFromInt(1); to.GreaterThan(one) {
		return one
	}
	return to
}

// rate is the adjusted rate of one step of one app, remembering what it moved.
func (q *adjuster) rate(app partner.AppID, rate, part decimal.Decimal) decimal.Decimal {
	if q == nil {
		return rate
	}
	to := q.body.move(rate, q.points)
	if !to.Equal(rate) {
		if q.moved == nil {
			q.moved = map[string]movedPart{}
		}
		k := fmt.Sprintf("%s: %s becomes %s", app, Percent(rate), Percent(to))
		m := q.moved[k]
		q.moved[k] = movedPart{m.base.Add(part), to.Sub(rate)}
	}
	return to
}

// adjust books what quality moved of one event: diff is what it adds to the
// platform's part.
func (q *adjuster) adjust(p *pricer, share *lineBuilder, e *saleEvent, diff decimal.Decimal) {
	if q == nil {
		return
	}
	key := share.LineKey
	key.Rule, key.Part = q.rule.ID, "quality"
	l := p.line(e.s, q.rule, "quality", share.Scope, share.Party, share.Payer)
	l.Class, l.Events.Class, l.Events.Apps = e.r.Class, e.r.Class, e.s.ruleApps(e.r)
	l.behind(e.t.Type)
	if p.quality[key] == nil {
		p.quality[key] = &adjustment{e.s, q.rule, share.LineKey, l}
		l.Text = cmp.Or(q.rule.Text, "Quality")
	}
	switch {
	case q.why != "":
		l.note(fmt.Sprintf("not scored: %s (%s)", q.why, e.app))
	case len(q.held) > 0:
		l.note(fmt.Sprintf("%s (%s)", strings.Join(q.held, "; "), e.app))
		l.rated(Points(q.points))
	default:
		l.note(fmt.Sprintf("no condition holds (%s)", e.app))
	}
	done := decimal.Zero
	for _, what := range sortedKeys(q.moved) {
		m := q.moved[what]
		done = done.Add(l.add(what, m.base, m.by.Neg()))
		l.addBase(m.base)
	}
	if rest := diff.Neg().Sub(done); !rest.IsZero() {
		what := "given back at the rate of the sale"
		if e.t.Type == "sale.paid" {
			what = "rounded sale by sale"
		}
		l.add(what, rest, decimal.NewFromInt(1))
	}
	l.allocate(e.app, e.customer, 0, diff.Neg())
}

// rated remembers the rate for people; several are "several".
func (b *lineBuilder) rated(rate string) {
	if b.Rate != "" && b.Rate != rate {
		rate = "several"
	}
	b.Rate = rate
}

// priceQuality decides the amounts: round(with quality) − round(without), rule after
// rule where versions of one month had different ones.
func priceQuality(p *pricer) error {
	byShare := map[LineKey][]*adjustment{}
	for _, a := range p.quality {
		byShare[a.share] = append(byShare[a.share], a)
	}
	for key, list := range byShare {
		slices.SortFunc(list, func(a, b *adjustment) int { return compareLines(a.line, b.line) })
		share := p.lines[key]
		exact := share.Exact
		before, err := share.round.money(exact, key.Currency)
		if err != nil {
			return fmt.Errorf("%s rule %s: %w", key.Contract, key.Rule, err)
		}
		for _, a := range list {
			exact = exact.Add(a.line.Exact)
			after, err := share.round.money(exact, key.Currency)
			if err != nil {
				return fmt.Errorf("%s rule %s: %w", key.Contract, a.rule.ID, err)
			}
			d := after.Decimal().Sub(before.Decimal())
			a.line.fixed, before = &d, after
		}
	}
	return nil
}
