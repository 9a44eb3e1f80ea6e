package pricing

import (
	"github.com/shopspring/decimal"
)

// volume is a ladder whose step rates all sales of its window: what the month's sales
// of one scope come to is known at its end.
type volume struct {
	line  *lineBuilder
	steps Steps
	step  int             // whose rate all bear now
	moved decimal.Decimal // what the line was charged so far, as the platform's part
	sales []*volumeSale   // of the month
}

// reached is the step that a total stands in; the lowest holds what is below zero.
func (v *volume) reached(total running) int { return max(0, v.steps.reached(total.at())) }

// volumeSale is one sale, refund or refund of a former month's sale in a volume ladder.
type volumeSale struct {
	e      *saleEvent
	amount decimal.Decimal // moved: a refund is negative
	given  *Attribution    // of a sale
}

// volumeKey is a version's ladder of one scope.
type volumeKey struct {
	s           *segment
	rule, scope string
}

// volume is the ladder of the event's scope.
func (p *pricer) volume(e *saleEvent) *volume {
	scope, _ := p.saleScope(e)
	k := volumeKey{e.s, e.r.ID, scope}
	v := p.volumes[k]
	if v == nil {
		v = &volume{line: p.shareLine(e), steps: e.body.Steps}
		v.step = v.reached(p.tierTotal(e))
		v.line.rerated = true
		p.volumes[k] = v
		p.volumeOrder = append(p.volumeOrder, v)
	}
	return v
}

// rated is the money that bears the rate of the reached step: the window's sales less
// those that were given back.
func (p *pricer) rated(e *saleEvent) running {
	scope, _ := p.saleScope(e)
	return p.total(e.s, e.r.ID, "rated", scope, e.body.Tiers.Window)
}

// takeVolume moves the ladder's total and re-rates all that bears its rate when it
// reaches another step.
func (p *pricer) takeVolume(e *saleEvent, amount decimal.Decimal) error {
	v, total := p.volume(e), p.tierTotal(e)
	total.Value = total.Value.Add(amount)
	p.rerate(e, v, v.reached(total), amount)
	l, rate := v.line, v.steps[v.step].Rate
	own := amount.Mul(rate)
	q := p.adjuster(e)
	adjusted := amount.Mul(q.rate(e.app, rate, amount))
	l.addBase(amount)
	q.adjust(p, l, e, adjusted.Sub(own))
	e.taken = adjusted
	sale := &volumeSale{e: e, amount: amount}
	if e.money.IsPositive() {
		sale.given = e.attribution(p.in.Month, own, adjusted)
		p.attribute(sale.given)
	}
	v.sales = append(v.sales, sale)
	return nil
}

// lower moves the ladder's total by a refund that does not move what bears its rate.
func (p *pricer) lower(e *saleEvent) {
	v, total := p.volume(e), p.tierTotal(e)
	total.Value = total.Value.Sub(e.amount)
	p.rerate(e, v, v.reached(total), decimal.Zero)
}

// rerate moves what bears the ladder's rate by an amount, and all of it to a step.
func (p *pricer) rerate(e *saleEvent, v *volume, to int, amount decimal.Decimal) {
	steps, from := v.steps, v.step
	show := func(d decimal.Decimal) string { return groupedMoney(d, e.s.Terms.Currency) }
	what := func(i int) string { return v.steps.allAt(i, show, Percent(steps[i].Rate)) }
	rated := p.rated(e)
	before := rated.at()
	rated.Value = rated.Value.Add(amount)
	if from == to {
		v.moved = v.moved.Sub(v.line.add(what(to), amount, steps[to].Rate.Neg()))
	} else {
		v.moved = v.moved.Sub(v.line.add(what(from), before.Neg(), steps[from].Rate.Neg()))
		v.moved = v.moved.Sub(v.line.add(what(to), before.Add(amount), steps[to].Rate.Neg()))
	}
	v.step = to
}

// volumeBack gives a refund back at the rate that its sale bears now, where the sale is
// of the window that still runs. It is false when the sale's own rate is final.
func (p *pricer) volumeBack(e *saleEvent, o *Attribution) bool {
	t := e.body.Tiers
	if t == nil || t.Mode != "volume" || e.known() {
		return false
	}
	if o.Month.First().Before(t.Window.start(p.in.Month)) || e.s.Terms.Restart && o.Month.First().Before(e.s.Terms.From) {
		return false
	}
	amount := decimal.Min(e.amount, o.Amount)
	v := p.volume(e)
	step := v.step
	p.rerate(e, v, step, amount.Neg())
	q := p.adjuster(e)
	moved := o.Adjusted.Sub(o.Fee).Mul(amount.DivRound(o.Amount, refundPlaces))
	q.adjust(p, v.line, e, moved.Neg())
	e.taken = amount.Mul(v.steps[step].Rate).Add(moved).Neg()
	v.sales = append(v.sales, &volumeSale{e: e, amount: amount.Neg()})
	return true
}

// settleVolumes attributes to each sale of the month the rate that the ladder reached
// in it. What earlier months' sales were re-rated by falls to the sale that did it last.
func (p *pricer) settleVolumes() {
	for _, v := range p.volumeOrder {
		if len(v.sales) > 0 {
			v.line.took(wentStep, v.step+1, "")
		}
		rest := v.moved
		for _, x := range v.sales {
			fee := x.amount.Mul(v.steps[v.step].Rate)
			rest = rest.Sub(fee)
			if x.given != nil {
				x.given.Adjusted = x.given.Adjusted.Add(fee.Sub(x.given.Fee))
				x.given.Fee = fee
				x.e.taken = x.given.Adjusted
			}
			v.line.allocate(x.e.app, x.e.customer, 0, fee.Neg())
		}
		if last := len(v.sales) - 1; last >= 0 && !rest.IsZero() {
			v.line.allocate(v.sales[last].e.app, v.sales[last].e.customer, 0, rest.Neg())
		}
	}
}
