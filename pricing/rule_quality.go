package pricing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/partner"
	"mete/period"
)

const qualityDoc = "Moves the rate of a share rule by points or by a factor, by what an app's scorecard of the month says, its certification by the day of the sale."

// Quality is the body of a quality rule. When the gate's condition does not hold, its
// points apply alone; otherwise the factors of all that hold are multiplied, within
// their floor and cap, and the points of all bands that hold add up. They move only
// rates above zero; the bounds stop only what they move.
type Quality struct {
	Adjusts   string           `json:"adjusts"` // the id of a share rule
	Gate      *Gate            `json:"gate,omitempty"`
	Bands     []Band           `json:"bands,omitempty"`
	Factors   []Factor         `json:"factors,omitempty"`
	Floor     *decimal.Decimal `json:"floor,omitempty"` // least that the factors come to
	Cap       *decimal.Decimal `json:"cap,omitempty"`   // most that the factors come to
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

// Factor multiplies the rate, while a condition holds if there is one, by a number or by
// a measure of the scorecard.
type Factor struct {
	When    *Condition      `json:"when,omitempty"`
	Times   decimal.Decimal `json:"times"`
	Measure string          `json:"measure,omitempty"`
}

// of is the factor that a scorecard earns; nothing of a measure without data.
func (f Factor) of(c *Scorecard) (decimal.Decimal, bool) {
	if f.Measure == "" {
		return f.Times, true
	}
	v, ok := measures[f.Measure].read(c)
	n, number := v.(number)
	return n.Decimal, ok && number
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
	if f, ok := o.get("factors"); ok {
		b.readFactors(c, o, f)
	}
	if b.Gate == nil && b.Bands == nil && b.Factors == nil {
		o.bad("neither gate nor bands nor factors", "bands: [{when: availability >= 0.999, platform_rate: -2 points}]")
	}
	if f, ok := o.get("bounds"); ok {
		b.readBounds(c, f)
	}
	if f, ok := o.get("not_scored_below"); ok {
		b.NotScored = f.calls()
	}
	return b
}

// readFactors reads what multiplies the rate, and how far.
func (b *Quality) readFactors(c *contract, o *object, f value) {
	for _, e := range f.list() {
		g := c.object(e)
		if g == nil {
			return
		}
		var x Factor
		if h, ok := g.get("when"); ok {
			x.When = h.condition()
		}
		if h, ok := g.need("times", "such as 0.9, or a measure such as within"); ok {
			x.readTimes(h)
		}
		g.done()
		b.Factors = append(b.Factors, x)
	}
	for name, to := range map[string]**decimal.Decimal{"floor": &b.Floor, "cap": &b.Cap} {
		if g, ok := o.get(name); ok {
			if d, ok := g.notNegative(); ok {
				*to = &d
			}
		}
	}
	if b.Floor != nil && b.Cap != nil && b.Floor.GreaterThan(*b.Cap) {
		o.at("floor").bad(fmt.Sprintf("floor %s is above cap %s", b.Floor, b.Cap), "swap them")
	}
}

// readTimes reads a number, or the name of a measure that is one.
func (f *Factor) readTimes(v value) {
	if s, ok := scalarText(v.node); ok {
		if m, known := measures[s]; known && m.typ == numberType {
			f.Measure = s
			return
		}
	}
	f.Times, _ = v.notNegative()
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
		"bands": listOf("points of all bands that hold add up", object1("one move of the rate", schema{
			"when": cond, "platform_rate": pts,
		}.require("when", "platform_rate"))),
		"factors": listOf("factors of all that hold are multiplied; they apply before points", object1("one factor", schema{
			"when":  cond,
			"times": described("times the rate: a number, or a measure of the scorecard", schema{"anyOf": []schema{numberSchema("a number"), enum("a measure of the scorecard", measureNames()...)}}),
		}.require("times"))),
		"floor": numberSchema("least that the factors come to"),
		"cap":   numberSchema("most that the factors come to"),
		"bounds": object1("stop what points and factors move", schema{
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
	dated map[standingKey]standingSales // of apps whose standing changed within the month
}

// adjuster answers, for one sale, what quality does to a rate. Without a quality rule
// it does nothing.
type adjuster struct {
	rule *Rule
	body *Quality
	score
	moved map[string]movedPart
	went  func(outcome string, at int, name string)

	days []standingSpan // if the standing changed within the month
	day  int            // into days: the sale's
	sold decimal.Decimal
}

// score is what a scorecard earns.
type score struct {
	points decimal.Decimal
	factor decimal.Decimal
	held   []string
	why    string // not scored, and why: then neither points nor a factor
}

// unscored is a score that moves nothing.
func unscored(why string) score { return score{factor: one, why: why} }

type movedPart struct {
	base decimal.Decimal
	by   decimal.Decimal
}

func (p *pricer) adjuster(e *saleEvent) *adjuster {
	for i := range e.s.Terms.Rules {
		r := &e.s.Terms.Rules[i]
		if b, ok := r.Body.(*Quality); ok && b.Adjusts == e.r.ID {
			q := &adjuster{rule: r, body: b}
			q.went = func(outcome string, at int, name string) { p.took(e.s, r, outcome, at, name) }
			card := p.cards[e.app]
			if q.days = p.standings(e.s, r, b, e.app); q.days != nil {
				day := period.DateOf(e.t.Time, e.s.Terms.Zone)
				q.day = max(0, slices.IndexFunc(q.days, func(d standingSpan) bool { return !d.to.Before(day) }))
				card = card.On(day)
			}
			q.score = b.score(card, q.went)
			if q.why != "" {
				q.went(wentUnscored, 0, "")
			}
			return q
		}
	}
	return nil
}

// score is the points and the factor a scorecard earns, or why it is not scored. It
// tells which conditions held.
func (b *Quality) score(c *Scorecard, went func(outcome string, at int, name string)) score {
	if c == nil {
		return unscored("no scorecard")
	}
	if c.Calls < b.NotScored {
		return unscored(fmt.Sprintf("%s calls, fewer than %s", money.Group(fmt.Sprint(c.Calls)), money.Group(fmt.Sprint(b.NotScored))))
	}
	for _, cond := range b.conditions() {
		if m, missing := cond.Missing(c); missing {
			return unscored("no data for " + m)
		}
	}
	holds := func(cond *Condition, what string, at int) bool {
		if !cond.Holds(c) {
			went(wentNot, at, what)
			return false
		}
		went(wentHolds, at, what)
		return true
	}
	if b.Gate != nil && !holds(b.Gate.Require, "gate", 0) {
		return score{points: b.Gate.Otherwise, factor: one, held: []string{"not " + b.Gate.Require.Text}}
	}
	x := score{factor: one}
	for i, f := range b.Factors {
		if f.When != nil && !holds(f.When, "factor", i+1) {
			continue
		}
		times, ok := f.of(c)
		if !ok {
			return unscored("no data for " + f.Measure)
		}
		if f.When == nil {
			went(wentHolds, i+1, "factor")
		}
		x.factor, x.held = x.factor.Mul(times), append(x.held, f.text(times))
	}
	for i, band := range b.Bands {
		if holds(band.When, "band", i+1) {
			x.points, x.held = x.points.Add(band.Points), append(x.held, band.When.Text)
		}
	}
	switch {
	case b.Floor != nil && x.factor.LessThan(*b.Floor):
		x.factor = *b.Floor
		went(wentLeast, 0, "")
	case b.Cap != nil && x.factor.GreaterThan(*b.Cap):
		x.factor = *b.Cap
		went(wentMost, 0, "")
	}
	return x
}

// text is why the factor counts, for people.
func (f Factor) text(times decimal.Decimal) string {
	if f.Measure == "" && f.When != nil {
		return f.When.Text
	}
	return strings.TrimSpace(f.Measure + " " + times.String())
}

// conditions are all that the rule asks a scorecard.
func (b *Quality) conditions() []*Condition {
	var out []*Condition
	if b.Gate != nil {
		out = append(out, b.Gate.Require)
	}
	for _, f := range b.Factors {
		if f.When != nil {
			out = append(out, f.When)
		}
	}
	for _, band := range b.Bands {
		out = append(out, band.When)
	}
	return out
}

// move is the rate after factor and points: only above zero, and stopped by bounds only
// on the side to which they move it.
func (q *adjuster) move(rate decimal.Decimal) decimal.Decimal {
	b := q.body
	to := rate.Mul(q.factor).Add(q.points)
	if !rate.IsPositive() || to.Equal(rate) {
		return rate
	}
	switch up := to.GreaterThan(rate); {
	case up && b.Max != nil && to.GreaterThan(*b.Max):
		to = decimal.Max(rate, *b.Max)
		q.went(wentMax, 0, "")
	case !up && b.Min != nil && to.LessThan(*b.Min):
		to = decimal.Min(rate, *b.Min)
		q.went(wentMin, 0, "")
	}
	if to.IsNegative() {
		return decimal.Zero
	}
	return decimal.Min(one, to)
}

// rate is the adjusted rate of one step of one app, remembering what it moved.
func (q *adjuster) rate(app partner.AppID, rate, part decimal.Decimal) decimal.Decimal {
	if q == nil {
		return rate
	}
	to := q.move(rate)
	q.sold = q.sold.Add(part)
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
		p.quality[key] = &adjustment{s: e.s, rule: q.rule, share: share.LineKey, line: l}
		l.Text = cmp.Or(q.rule.Text, "Quality")
	}
	q.body.noteAppeals(p.cards[e.app], l)
	switch {
	case q.days != nil:
		p.quality[key].sell(standingKey{e.s, q.rule.ID, e.app}, q)
	case q.why != "":
		l.note(fmt.Sprintf("not scored: %s (%s)", q.why, e.app))
	case len(q.held) > 0:
		l.note(fmt.Sprintf("%s (%s)", strings.Join(q.held, "; "), e.app))
		l.rated(q.text())
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

// sell counts a sale under the standing of its day.
func (a *adjustment) sell(k standingKey, q *adjuster) {
	if a.dated == nil {
		a.dated = map[standingKey]standingSales{}
	}
	x, ok := a.dated[k]
	if !ok {
		x = standingSales{q.days, make([]decimal.Decimal, len(q.days))}
		a.dated[k] = x
		a.line.rateDays(q.days)
	}
	x.sales[q.day] = x.sales[q.day].Add(q.sold)
}

// rateDays remembers the move of the rate for people: one that all days share, several,
// or none if no condition holds on any day.
func (b *lineBuilder) rateDays(spans []standingSpan) {
	text := func(o Outcome) string {
		if len(o.Held) == 0 {
			return ""
		}
		return o.String()
	}
	first := text(spans[0].outcome)
	switch {
	case slices.ContainsFunc(spans, func(d standingSpan) bool { return text(d.outcome) != first }):
		b.rated("several")
	case first != "":
		b.rated(first)
	}
}

// text is the move of the rate for people.
func (q *adjuster) text() string { return moveText(q.points, q.factor) }

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
			for k, x := range a.dated {
				x.note(k.app, a.line)
			}
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
