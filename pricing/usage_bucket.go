package pricing

import (
	"fmt"
	"time"

	"github.com/shopspring/decimal"
)

// buckets are the parts of a month that can begin a ladder each.
var buckets = []string{"hour", "day"}

// bucket is the part of the month in which an instant lies.
func (q *Quantity) bucket(at time.Time, zone *time.Location) string {
	if q.Each == "hour" {
		return at.In(zone).Format("2006-01-02T15Z07:00")
	}
	return at.In(zone).Format("2006-01-02")
}

// chargeBuckets prices the figure of each hour or day for itself, from the beginning of
// the ladder.
func (p *pricer) chargeBuckets(s *segment, r *Rule, b *UsageFee) {
	scopes := map[string]map[string]*usageSum{}
	p.events(s, r, p.meters[b.Meter], func(t *transaction, read decimal.Decimal) {
		t.priced(r)
		scope, line := p.scope(s, b.Per, t.Data.App, t.Customer)
		if scopes[scope] == nil {
			scopes[scope] = usageSums{}
		}
		sum := usageSums(scopes[scope]).of(b.Quantity.bucket(t.Time, s.Terms.Zone), line)
		sum.quantity = b.Quantity.reading(sum, read)
		sum.events++
		sum.add(t.Data.App, t.Customer, 1, read)
	})
	for _, scope := range sortedKeys(scopes) {
		for _, k := range sortedKeys(scopes[scope]) {
			sum := scopes[scope][k]
			l := p.usageLine(s, r, b, sum.line)
			before := l.Exact
			l.Count += sum.events
			l.Quantity = l.Quantity.Add(sum.quantity)
			l.note(fmt.Sprintf("each %s for itself", b.Quantity.Each))
			p.chargeTotal(l, &b.Price, decimal.Zero, b.Quantity.billed(sum.quantity))
			p.spread(l, sum, l.Exact.Sub(before))
		}
	}
}

// reading is the figure after an event came to those before.
func (q *Quantity) reading(sum *usageSum, read decimal.Decimal) decimal.Decimal {
	switch {
	case q.As == "sum":
		return sum.quantity.Add(read)
	case q.As == "last" || sum.events == 0:
		return read
	}
	return decimal.Max(sum.quantity, read)
}
