package pricing

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/period"
)

// levelMove is one event that raises or lowers a level.
type levelMove struct {
	at    time.Time
	delta decimal.Decimal
}

// levels reads the level of each scope instance through the segment: what it began
// with, how it moved, and the figure of it that is priced. The level goes on into the
// next month, so a scope with a level is priced in months without an event too.
func (p *pricer) levels(s *segment, r *Rule, b *UsageFee) usageSums {
	sums := usageSums{}
	what := levelTotal
	if b.Price.Model == "capacity" {
		what += " of " + b.Meter
	}
	for k, t := range p.totals {
		if k.contract == s.Terms.Contract && k.rule == r.ID && k.what == what && !t.Value.IsZero() {
			sums.of(k.scope, lineScope(k.scope))
		}
	}
	move := func(t *transaction, delta decimal.Decimal) {
		t.priced(r)
		sum := sums.of(p.scope(s, b.Per, t.Data.App, t.Customer))
		sum.events++
		sum.moves = append(sum.moves, levelMove{t.Time, delta})
		sum.add(t.Data.App, t.Customer, 1, delta.Abs())
	}
	p.events(s, r, p.meters[b.Meter], move)
	if less := b.Quantity.Less; less != "" {
		p.events(s, r, p.meters[less], func(t *transaction, read decimal.Decimal) { move(t, read.Neg()) })
	}
	for _, scope := range sortedKeys(sums) {
		sum := sums[scope]
		slices.SortStableFunc(sum.moves, func(x, y levelMove) int { return x.at.Compare(y.at) })
		level := p.standing(s, r.ID, what, scope)
		sum.begin, sum.end = level.Value, level.Value
		for _, m := range sum.moves {
			sum.end = sum.end.Add(m.delta)
		}
		level.Value = sum.end
		sum.quantity = sum.figure(b.Quantity.As, s.Period, p.in.Month.In(s.Terms.Zone))
	}
	return sums
}

// lineScope is the scope of the line of a total's scope.
func lineScope(scope string) string {
	if strings.HasPrefix(scope, "partner:") {
		return ""
	}
	return scope
}

// figure is the highest level of a part of the month, or the part's share of the
// month's average. A level below zero counts as none.
func (u *usageSum) figure(as string, part, month period.Period) decimal.Decimal {
	level, since, highest, area := u.begin, part.Start, u.begin, decimal.Zero
	hold := func(until time.Time) {
		area = area.Add(decimal.Max(decimal.Zero, level).Mul(micros(until.Sub(since))))
		since = until
	}
	for _, m := range u.moves {
		hold(m.at)
		level = level.Add(m.delta)
		highest = decimal.Max(highest, level)
	}
	hold(part.End)
	if as == "peak" {
		return decimal.Max(decimal.Zero, highest)
	}
	return area.DivRound(micros(month.End.Sub(month.Start)), timePlaces)
}

func micros(d time.Duration) decimal.Decimal { return decimal.NewFromInt(d.Microseconds()) }

// chargeProrated charges each change of a level for the days that are left, its own
// included. Where in the ladder it lies is said by whole units; flat fees are due for
// the highest level reached.
func (p *pricer) chargeProrated(s *segment, r *Rule, b *UsageFee, scope string, sum *usageSum) {
	l := p.usageLine(s, r, b, sum.line)
	l.Count += sum.events
	highest := p.total(s, r.ID, "quantity", scope, b.Window)
	from := highest.Value
	if sum.end.IsNegative() {
		l.note("the level ends below zero: nothing is charged")
		p.spread(l, sum, decimal.Zero)
		return
	}
	j := &prorating{l: l, m: b.Price, steps: b.Price.ladder(), days: daysOf(p.in.Month), end: period.DateOf(s.Period.End, s.Terms.Zone)}
	before := l.Exact
	j.move(decimal.Zero, sum.begin, period.DateOf(s.Period.Start, s.Terms.Zone))
	level, top := sum.begin, sum.begin
	for _, m := range sum.moves {
		j.move(level, m.delta, period.DateOf(m.at, s.Terms.Zone))
		level = level.Add(m.delta)
		top = decimal.Max(top, level)
	}
	l.Quantity = l.Quantity.Add(j.quantity.Round(shownPlaces))
	highest.Value = decimal.Max(from, top)
	if b.Price.Model == "volume" {
		for _, x := range b.Price.volumeTerms(j.quantity, sum.end) {
			b.Price.tookTerm(l, x)
			l.add(x.what, x.of, x.times.Neg())
		}
	} else {
		for i, st := range j.steps {
			if !st.Flat.IsZero() && !j.steps.entered(i, from) && j.steps.entered(i, highest.Value) {
				l.add("flat fee of "+j.steps.span(i, grouped), st.Flat, one.Neg())
			}
		}
	}
	p.spread(l, sum, l.Exact.Sub(before))
}

// prorating charges changes of a level by days.
type prorating struct {
	l        *lineBuilder
	m        Model
	steps    Steps
	days     int         // of the month
	end      period.Date // first day after the part of the month
	quantity decimal.Decimal
}

// move charges one change from a day on.
func (j *prorating) move(at, delta decimal.Decimal, day period.Date) {
	left := day.DaysUntil(j.end)
	if delta.IsZero() || left <= 0 {
		return
	}
	prorated := func(part decimal.Decimal) decimal.Decimal { return prorate(part, left, j.days) }
	j.quantity = j.quantity.Add(prorated(delta))
	if j.m.Model == "volume" {
		return
	}
	for _, pc := range j.steps.walk(nil, at, delta) {
		unit := j.steps[pc.step].Unit
		j.m.tookStep(j.l, pc.step)
		what := fmt.Sprintf("%s at %s, %d of %d days", j.steps.span(pc.step, grouped), unit, left, j.days)
		j.l.add(what, prorated(pc.part), unit.Neg())
	}
}

// timePlaces is the precision of the part of a figure that falls to a time: a person can
// still write it down.
const timePlaces = 12

// prorate is the part of a figure for some days out of a period's.
func prorate(d decimal.Decimal, days, of int) decimal.Decimal {
	if days == of {
		return d
	}
	return d.Mul(decimal.NewFromInt(int64(days))).DivRound(decimal.NewFromInt(int64(of)), timePlaces)
}

// daysOf is how many days the month has.
func daysOf(m period.Month) int { return m.Last().Day }
