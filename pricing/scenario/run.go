package scenario

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// month is one month as priced last.
type month struct {
	month  period.Month
	events []event
	cards  []pricing.Scorecard
	result pricing.Result
	before []pricing.Total
}

// runner prices month after month and keeps what later ones need.
type runner struct {
	*scenario
	months []*month
}

func (s *scenario) run() ([]MonthReport, error) {
	r := &runner{scenario: s}
	var out []MonthReport
	for i, b := range s.blocks {
		if i > 0 { // months without a block are priced too
			for m := s.blocks[i-1].month.Add(1); m.Before(b.month); m = m.Add(1) {
				if _, err := r.close(&block{month: m}); err != nil {
					return out, err
				}
			}
		}
		late, err := r.close(b)
		if err != nil {
			return out, err
		}
		for _, w := range b.wants {
			rep, err := r.compare(b, w, late)
			if err != nil {
				return out, err
			}
			out = append(out, rep)
		}
	}
	return out, nil
}

// difference is what a late event changed on a closed month's line.
type difference struct {
	key    pricing.LineKey
	amount decimal.Decimal
}

// close prices a month; what arrives late first re-prices its own month and all that
// follow.
func (r *runner) close(b *block) ([]difference, error) {
	first := len(r.months)
	next := &month{month: b.month, cards: b.cards}
	for _, e := range b.events {
		if !e.late {
			next.events = append(next.events, e)
			continue
		}
		for i, m := range r.months {
			if period.MonthOf(e.at, r.zone()) == m.month {
				m.events = append(m.events, e)
				first = min(first, i)
			}
		}
	}
	var late []difference
	for i := first; i < len(r.months); i++ {
		before := amounts(r.months[i].result.Lines)
		if err := r.price(i); err != nil {
			return nil, err
		}
		late = append(late, differences(before, amounts(r.months[i].result.Lines))...)
	}
	r.months = append(r.months, next)
	return late, r.price(len(r.months) - 1)
}

func amounts(lines []pricing.Line) map[pricing.LineKey]decimal.Decimal {
	m := map[pricing.LineKey]decimal.Decimal{}
	for _, l := range lines {
		m[l.LineKey] = l.Amount.Decimal()
	}
	return m
}

func differences(before, after map[pricing.LineKey]decimal.Decimal) []difference {
	var out []difference
	for k, a := range after {
		if d := a.Sub(before[k]); !d.IsZero() {
			out = append(out, difference{k, d})
		}
	}
	for k, b := range before {
		if _, there := after[k]; !there && !b.IsZero() {
			out = append(out, difference{k, b.Neg()})
		}
	}
	return out
}

func (r *runner) price(i int) error {
	m := r.months[i]
	m.before = nil
	if i > 0 {
		m.before = r.months[i-1].result.After
	}
	in := r.input(i)
	res, err := pricing.Price(in)
	if err != nil {
		return err
	}
	if err := balanced(in, res); err != nil {
		return err
	}
	m.result = res
	return nil
}

// balanced holds the counts of the result against the cells that went in.
func balanced(in pricing.Input, res pricing.Result) error {
	var given, counted int64
	for _, s := range in.Segments {
		for _, u := range s.Usage {
			given += u.Count
		}
	}
	for _, c := range res.Counted {
		counted += c.Events
	}
	if given != counted {
		return fmt.Errorf("%s: %d events went in, %d came out", in.Month, given, counted)
	}
	return nil
}

// input gathers what the month is priced from.
func (r *runner) input(i int) pricing.Input {
	m := r.months[i]
	in := pricing.Input{Group: "scenario", Month: m.month, Before: m.before, Scorecards: m.cards}
	for _, x := range r.meters {
		in.Meters = append(in.Meters, x)
	}
	for _, x := range r.apps {
		in.Apps = append(in.Apps, x)
	}
	for _, x := range r.partners {
		in.Partners = append(in.Partners, x)
	}
	var leadEvents []metering.Transaction
	for j, earlier := range r.months[:i+1] {
		if j < i {
			in.Originals = append(in.Originals, earlier.result.Attributions...)
		}
		for _, e := range earlier.events {
			if e.tx != nil {
				leadEvents = append(leadEvents, *e.tx)
			}
		}
	}
	in.Leads = pricing.FoldLeads(leadEvents, r.codes)
	for j, t := range r.terms {
		p := t.InForce(m.month)
		for _, later := range r.terms[j+1:] {
			if from := later.From.In(t.Zone); later.Contract == t.Contract && from.Before(p.End) {
				p.End = from
			}
		}
		if !p.IsEmpty() {
			in.Segments = append(in.Segments, r.segment(t, p, m.events))
		}
	}
	return in
}

func (r *runner) segment(t *pricing.Terms, p period.Period, events []event) pricing.Segment {
	s := pricing.Segment{Terms: t, Period: p}
	for _, e := range events {
		if !p.Contains(e.at) {
			continue
		}
		if e.cell != nil {
			if r.covers(t, e.cell.App) {
				s.Usage = append(s.Usage, *e.cell)
			}
			continue
		}
		if r.covers(t, e.tx.Data.App) || t.SeesOtherApps() && strings.HasPrefix(e.tx.Type, "sale.") {
			s.Transactions = append(s.Transactions, *e.tx)
		}
	}
	slices.SortFunc(s.Transactions, func(a, b metering.Transaction) int {
		return cmp.Or(a.Time.Compare(b.Time), strings.Compare(string(a.Key[:]), string(b.Key[:])))
	})
	s.Usage = append(s.Usage, Cells(s.Transactions)...)
	return s
}

func (r *runner) covers(t *pricing.Terms, app partner.AppID) bool {
	if len(t.Apps) == 0 {
		return r.apps[app].Partner == t.Partner
	}
	return slices.Contains(t.Apps, app)
}

// Cells is the usage cells that a metering store would hold for the transactions.
func Cells(txs []metering.Transaction) []metering.Usage {
	at := map[string]int{}
	var cells []metering.Usage
	for _, t := range txs {
		u := metering.Usage{
			App: t.Data.App, Customer: t.Customer, Type: t.Type, Class: t.Data.Class, Operation: t.Data.Operation,
			Unit: t.Data.Unit, Currency: t.Data.Currency, Status: t.Data.Status, Environment: t.Data.Environment,
		}
		if len(t.Data.Dimensions) > 0 {
			b, _ := json.Marshal(t.Data.Dimensions)
			u.Dimensions = string(b)
		}
		k, _ := json.Marshal(u) // sums are still zero, so these are the dimensions alone
		i, ok := at[string(k)]
		if !ok {
			i = len(cells)
			at[string(k)] = i
			cells = append(cells, u)
		}
		c := &cells[i]
		c.Count++
		c.Bytes += t.Data.Bytes
		if t.Data.Quantity != nil {
			c.Quantity = c.Quantity.Add(*t.Data.Quantity)
		} else {
			c.Quantity = c.Quantity.Add(decimal.NewFromInt(1))
		}
		if t.Data.Amount != nil {
			c.Amount = c.Amount.Add(*t.Data.Amount)
		}
	}
	return cells
}

// got is the priced rows of one party, by name and month of a difference.
type got struct {
	order  []rowKey
	rows   map[rowKey]decimal.Decimal
	notes  map[rowKey][]string
	silent map[string]decimal.Decimal // rows that need not be wanted
}

type rowKey struct {
	name  string
	month period.Month
}

func (g *got) add(name string, m period.Month, d decimal.Decimal) {
	k := rowKey{name, m}
	if _, ok := g.rows[k]; !ok {
		g.order = append(g.order, k)
	}
	g.rows[k] = g.rows[k].Add(d)
}

// rowName is how a scenario calls a line: sales, refunds and chargebacks by what they
// are, all others by their rule.
func rowName(k pricing.LineKey) string {
	switch k.Part {
	case "sales", "refunds", "chargebacks":
		return k.Part
	case "clawback":
		return k.Rule + ".clawback"
	}
	return k.Rule
}

func (r *runner) got(party partner.ID, late []difference) (*got, error) {
	g := &got{rows: map[rowKey]decimal.Decimal{}, notes: map[rowKey][]string{}, silent: map[string]decimal.Decimal{}}
	m := r.months[len(r.months)-1]
	none, earned, reserve, tax := period.Month{}, decimal.Zero, decimal.Zero, decimal.Zero
	for _, l := range m.result.Lines {
		if l.Party != party {
			continue
		}
		name := rowName(l.LineKey)
		g.add(name, none, l.Amount.Decimal())
		g.notes[rowKey{name, none}] = append(g.notes[rowKey{name, none}], l.Notes...)
		earned = earned.Add(l.Amount.Decimal())
		for _, t := range l.Taxes {
			tax = tax.Add(t.Amount.Decimal())
		}
		fine := []string{l.Rule + "." + l.Part, l.Rule + "." + l.Part + ".exact"}
		if l.Scope != "" {
			fine = append(fine, name+"@"+l.Scope)
		}
		for _, f := range fine {
			d := l.Amount.Decimal()
			if strings.HasSuffix(f, ".exact") {
				d = l.Exact
			}
			g.silent[f] = g.silent[f].Add(d)
		}
	}
	slices.SortFunc(late, func(a, b difference) int {
		return cmp.Or(a.key.Month.Compare(b.key.Month), strings.Compare(a.key.Rule, b.key.Rule), strings.Compare(a.key.Part, b.key.Part), strings.Compare(a.key.Scope, b.key.Scope))
	})
	for _, d := range late {
		if d.key.Party == party {
			g.add(rowName(d.key), d.key.Month, d.amount)
			earned = earned.Add(d.amount)
		}
	}
	seen := map[string]bool{}
	for _, t := range r.terms {
		if t.Partner != party || t.InForce(m.month).IsEmpty() {
			continue
		}
		if seen[t.Contract] { // the last version's payout terms count
			continue
		}
		for _, later := range r.terms {
			if later.Contract == t.Contract && !later.InForce(m.month).IsEmpty() {
				t = later
			}
		}
		seen[t.Contract] = true
		_, kept, err := t.Reserved(m.result.Lines)
		if err != nil {
			return nil, err
		}
		reserve = reserve.Add(kept.Decimal())
	}
	for _, c := range m.result.Counted {
		n := decimal.NewFromInt(c.Events)
		g.silent["events."+c.State] = g.silent["events."+c.State].Add(n)
		if c.Why != "" {
			g.silent["events."+c.State+"."+c.Why] = g.silent["events."+c.State+"."+c.Why].Add(n)
		}
	}
	g.silent["tax"], g.silent["earned"] = tax, earned
	g.silent["reserve"], g.silent["payable"] = reserve.Neg(), earned.Sub(reserve)
	return g, nil
}

// compare puts the wanted rows beside what was priced. A row that is priced, not zero
// and not wanted is a difference too.
func (r *runner) compare(b *block, w want, late []difference) (MonthReport, error) {
	rep := MonthReport{Month: b.month.String(), Party: string(w.party), Line: w.line}
	g, err := r.got(w.party, late)
	if err != nil {
		return rep, err
	}
	places := r.terms[0].Currency.Digits()
	show := func(d decimal.Decimal) string {
		if d.Exponent() < -places && !d.Equal(d.Truncate(places)) {
			return d.String()
		}
		return money.Group(d.StringFixed(places))
	}
	wanted := map[rowKey]bool{}
	for _, row := range w.rows {
		k := rowKey{row.name, row.month}
		have, ok := g.rows[k]
		if !ok && row.month == (period.Month{}) {
			have, ok = g.silent[row.name]
			if !ok && strings.HasPrefix(row.name, "events.") {
				ok = true
			}
		}
		wanted[k] = true
		out := Row{Name: row.name, Month: row.month.String(), Want: show(row.amount), OK: ok && have.Equal(row.amount)}
		if ok {
			out.Got = show(have)
		}
		switch {
		case !ok:
			out.Why = "no such line"
		case !out.OK:
			out.Why = "off by " + show(have.Sub(row.amount))
		case row.note != "" && !slices.ContainsFunc(g.notes[k], func(n string) bool { return strings.Contains(n, row.note) }):
			out.OK, out.Why = false, fmt.Sprintf("no note with %q: %s", row.note, strings.Join(g.notes[k], " | "))
		}
		rep.Rows = append(rep.Rows, out)
	}
	for _, k := range g.order {
		if !wanted[k] && !g.rows[k].IsZero() {
			rep.Rows = append(rep.Rows, Row{Name: k.name, Month: k.month.String(), Got: show(g.rows[k]), Why: "not wanted"})
		}
	}
	return rep, nil
}
