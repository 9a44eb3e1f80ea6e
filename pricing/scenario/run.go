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
	terms  []*pricing.Terms // in force, in order of contract and beginning
	result pricing.Result
	before []pricing.Total
	posted map[pricing.LineKey]pricing.Line // as statements hold them: without what a late limit barred
}

// runner prices month after month and keeps what later ones need.
type runner struct {
	*scenario
	months []*month
	barred map[partner.ID]decimal.Decimal // by late limits, from the statements of the last month
	priced []*month                       // for the last month: itself, and what late events priced again
	open   func() Books
	booked *booked // once they are needed
}

func (s *scenario) run(open func() Books) ([]MonthReport, []tried, error) {
	r := &runner{scenario: s, open: open}
	taken := map[pricing.Branch]bool{}
	out, err := r.runMonths(taken)
	var all []tried
	for i, t := range s.terms {
		x := tried{file: s.files[i], terms: t, taken: map[pricing.Branch]bool{}}
		for _, b := range t.Branches() {
			if taken[b.Branch] {
				x.taken[b.Branch] = true
				delete(taken, b.Branch)
			}
		}
		all = append(all, x)
	}
	if len(taken) > 0 && err == nil {
		panic(fmt.Sprintf("scenario: internal error: rules went ways that the terms do not list: %v", taken))
	}
	return out, all, err
}

// runMonths closes month after month, compares what is wanted, and keeps the branches
// that were taken for it.
func (r *runner) runMonths(taken map[pricing.Branch]bool) ([]MonthReport, error) {
	s := r.scenario
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
		for _, m := range r.priced {
			for _, x := range m.result.Taken {
				if len(b.wants) > 0 {
					taken[x] = true
				}
			}
		}
	}
	return out, nil
}

// difference is what a late event changed on a closed month's line.
type difference struct {
	key    pricing.LineKey
	amount decimal.Decimal
	line   RowLine // as it is now
}

// close prices a month; what arrives late first re-prices its own month and all that
// follow.
func (r *runner) close(b *block) ([]difference, error) {
	first := len(r.months)
	next := &month{month: b.month, cards: b.cards, posted: map[pricing.LineKey]pricing.Line{}}
	r.barred, r.priced = map[partner.ID]decimal.Decimal{}, nil
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
	var moved []Late
	for i := first; i < len(r.months); i++ {
		if err := r.price(i); err != nil {
			return nil, err
		}
		ds, ls, err := r.post(r.months[i], b.month)
		if err != nil {
			return nil, err
		}
		late, moved = append(late, ds...), append(moved, ls...)
	}
	r.months = append(r.months, next)
	if err := r.price(len(r.months) - 1); err != nil {
		return nil, err
	}
	if _, _, err := r.post(next, b.month); err != nil {
		return nil, err
	}
	return late, r.postBooks(moved)
}

// post brings what statements hold of a month to what it was priced at, by the
// statements of the month that closes, and says what that takes.
func (r *runner) post(m *month, closing period.Month) ([]difference, []Late, error) {
	now := map[pricing.LineKey]pricing.Line{}
	for k, l := range m.posted {
		l.Amount = money.New(0, k.Currency)
		now[k] = l
	}
	current := map[pricing.LineKey]*pricing.Line{}
	for i, l := range m.result.Lines {
		now[l.LineKey], current[l.LineKey] = l, &m.result.Lines[i]
	}
	var ds []pricing.Line
	for k, l := range now {
		if was, ok := m.posted[k]; ok {
			var err error
			if l.Amount, err = l.Amount.Sub(was.Amount); err != nil {
				return nil, nil, err
			}
		}
		ds = append(ds, l)
	}
	barred, err := pricing.Barred(m.terms, r.lateLimit, closing, ds)
	if err != nil {
		return nil, nil, err
	}
	var out []difference
	var moved []Late
	for _, d := range ds {
		switch {
		case barred[d.LineKey]:
			r.barred[d.Party] = r.barred[d.Party].Add(d.Amount.Decimal())
			continue
		case !d.Amount.IsZero():
			l := rowLine(now[d.LineKey])
			if was, ok := m.posted[d.LineKey]; ok {
				l.Posted = was.Amount.Neg().Grouped()
			}
			out = append(out, difference{d.LineKey, d.Amount.Decimal(), l})
		}
		x := Late{Now: current[d.LineKey]}
		if was, ok := m.posted[d.LineKey]; ok {
			x.Posted = &was
		}
		moved = append(moved, x)
		m.posted[d.LineKey] = now[d.LineKey]
	}
	return out, moved, nil
}

func (r *runner) price(i int) error {
	m := r.months[i]
	m.before = nil
	if i > 0 {
		m.before = r.months[i-1].result.After
	}
	in := r.input(i)
	m.terms = nil
	for _, s := range in.Segments {
		m.terms = append(m.terms, s.Terms)
	}
	res, err := pricing.Price(in)
	if err != nil {
		return err
	}
	if err := balanced(in, res); err != nil {
		return err
	}
	m.result = res
	r.priced = append(r.priced, m)
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
	slices.SortStableFunc(in.Segments, func(a, b pricing.Segment) int {
		return cmp.Or(strings.Compare(a.Terms.Contract, b.Terms.Contract), a.Period.Start.Compare(b.Period.Start))
	})
	in.GatherRates(func(table string) []pricing.ExchangeRate {
		return slices.DeleteFunc(slices.Clone(r.rates), func(x pricing.ExchangeRate) bool { return x.Table != table })
	})
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
	lines  map[rowKey][]RowLine       // behind the rows of both
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
	case "sales", "refunds", "chargebacks", "written_off", "collected", "accrued", "contested":
		return k.Part
	case "clawback":
		return k.Rule + ".clawback"
	case "chargeback_fee":
		return k.Rule + ".chargeback_fee"
	}
	return k.Rule
}

func (r *runner) got(party partner.ID, late []difference) (*got, error) {
	g := &got{rows: map[rowKey]decimal.Decimal{}, notes: map[rowKey][]string{}, silent: map[string]decimal.Decimal{}, lines: map[rowKey][]RowLine{}}
	m := r.months[len(r.months)-1]
	none, earned, tax := period.Month{}, decimal.Zero, decimal.Zero
	for _, l := range m.result.Lines {
		if l.Party != party {
			continue
		}
		name := rowName(l.LineKey)
		g.add(name, none, l.Amount.Decimal())
		g.notes[rowKey{name, none}] = append(g.notes[rowKey{name, none}], l.Notes...)
		g.lines[rowKey{name, none}] = append(g.lines[rowKey{name, none}], rowLine(l))
		earned = earned.Add(l.Amount.Decimal())
		for _, t := range l.Taxes {
			if t.Amount.Currency == l.Currency {
				tax = tax.Add(t.Amount.Decimal())
				continue
			}
			name := "tax." + string(t.Amount.Currency)
			g.silent[name] = g.silent[name].Add(t.Amount.Decimal())
		}
		for _, x := range l.Exchanged {
			name := rowName(l.LineKey) + "." + string(x.From)
			g.silent[name] = g.silent[name].Add(x.Original.Decimal())
		}
		fine := []string{l.Rule + "." + l.Part, l.Rule + "." + l.Part + ".exact"}
		if l.Scope != "" {
			fine = append(fine, name+"@"+l.Scope)
		}
		if x := l.Contested; x != nil {
			g.silent["contested.held"] = g.silent["contested.held"].Add(x.Held.Decimal())
			g.silent["contested.fees"] = g.silent["contested.fees"].Add(x.Fees.Decimal())
		}
		if x := l.Deferral; x != nil {
			g.silent[l.Rule+".deferred"] = g.silent[l.Rule+".deferred"].Add(x.Charged.Decimal()).Sub(x.Back.Decimal())
		}
		for _, f := range fine {
			d := l.Amount.Decimal()
			if strings.HasSuffix(f, ".exact") {
				d = l.Exact
			}
			g.silent[f] = g.silent[f].Add(d)
			if f != name {
				g.lines[rowKey{f, none}] = append(g.lines[rowKey{f, none}], rowLine(l))
			}
		}
	}
	slices.SortFunc(late, func(a, b difference) int {
		return cmp.Or(a.key.Month.Compare(b.key.Month), strings.Compare(a.key.Rule, b.key.Rule), strings.Compare(a.key.Part, b.key.Part), strings.Compare(a.key.Scope, b.key.Scope))
	})
	for _, d := range late {
		if d.key.Party == party {
			k := rowKey{rowName(d.key), d.key.Month}
			g.add(k.name, k.month, d.amount)
			g.lines[k] = append(g.lines[k], d.line)
			earned = earned.Add(d.amount)
		}
	}
	reserve, err := r.reserved(m, party)
	if err != nil {
		return nil, err
	}
	for _, c := range m.result.Counted {
		n := decimal.NewFromInt(c.Events)
		g.silent["events."+c.State] = g.silent["events."+c.State].Add(n)
		if c.Why != "" {
			g.silent["events."+c.State+"."+c.Why] = g.silent["events."+c.State+"."+c.Why].Add(n)
		}
	}
	g.silent["tax"], g.silent["earned"], g.silent["too_late"] = tax, earned, r.barred[party]
	g.silent["reserve"], g.silent["payable"] = reserve.Neg(), earned.Sub(reserve)
	return g, nil
}

// reserved is what is kept back of a party's month, in all currencies: there is a
// statement for each.
func (r *runner) reserved(m *month, party partner.ID) (decimal.Decimal, error) {
	terms := map[money.Currency][]*pricing.Terms{}
	for _, t := range m.terms {
		if t.Partner == party {
			terms[t.Currency] = append(terms[t.Currency], t)
		}
	}
	sum := decimal.Zero
	for c, ts := range terms {
		var lines []pricing.Line
		for _, l := range m.result.Lines {
			if l.Party == party && l.Currency == c {
				lines = append(lines, l)
			}
		}
		_, kept, err := pricing.PayoutOf(ts).Reserved(lines, c)
		if err != nil {
			return sum, err
		}
		sum = sum.Add(kept.Decimal())
	}
	return sum, nil
}

// isRule reports whether a contract has the rule: one without a line comes to nothing.
func (r *runner) isRule(name string) bool {
	return slices.ContainsFunc(r.terms, func(t *pricing.Terms) bool {
		return slices.ContainsFunc(t.Rules, func(x pricing.Rule) bool { return x.ID == name })
	})
}

// compare puts the wanted rows beside what was priced. A row that is priced, not zero
// and not wanted is a difference too.
func (r *runner) compare(b *block, w want, late []difference) (MonthReport, error) {
	rep := MonthReport{Month: b.month.String(), Party: string(w.party), Line: w.line}
	g, err := r.got(w.party, late)
	if err != nil {
		return rep, err
	}
	if r.booked != nil {
		r.booked.add(g, w)
	}
	places := r.terms[0].Currency.Digits()
	show := func(d decimal.Decimal) string { return shown(d, places) }
	wanted := map[rowKey]bool{}
	for _, row := range w.rows {
		k := rowKey{row.name, row.month}
		have, ok := g.rows[k]
		if !ok && row.month == (period.Month{}) {
			have, ok = g.silent[row.name]
			if !ok && (strings.HasPrefix(row.name, "events.") || row.amount.IsZero() && strings.HasPrefix(row.name, entryRow+" ") || row.amount.IsZero() && r.isRule(row.name)) {
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
		if !out.OK {
			out.Lines = g.lines[k]
		}
		rep.Rows = append(rep.Rows, out)
	}
	for _, k := range g.order {
		if !wanted[k] && !g.rows[k].IsZero() {
			rep.Rows = append(rep.Rows, Row{Name: k.name, Month: k.month.String(), Got: show(g.rows[k]), Why: "not wanted", Lines: g.lines[k]})
		}
	}
	return rep, nil
}
