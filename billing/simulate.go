package billing

import (
	"bufio"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"mete/catalogue"
	"mete/ledger"
	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// MaxSimulated is how many months one simulation may have.
const MaxSimulated = 60

// SimulationRequest names months, the first and the last, and the contracts to try on
// them. A contract that the catalogue has is tried in place of what was agreed from its
// beginning on; one that begins after the last month is taken as if it had begun with the
// first.
type SimulationRequest struct {
	From, To period.Month
	Terms    []catalogue.Object
}

// Simulation is what months come to under the terms that are in force, and under those
// that are tried, from the same events: all that is stored now, the late ones too. It is
// no statement: nothing of it is kept or posted.
type Simulation struct {
	From      period.Month       `json:"from"`
	To        period.Month       `json:"to"`
	Tried     []catalogue.Ref    `json:"tried"`
	Groups    int                `json:"groups"` // scope groups that were priced, both ways, in all months
	Accounts  []SimulatedAccount `json:"accounts"`
	Totals    []SimulatedAccount `json:"totals"` // by currency, without partner
	Crossings []Crossing         `json:"crossings,omitempty"`
	Cutoff    metering.Cutoff    `json:"cutoff"` // events up to here were looked at
}

// SimulatedAccount is a partner's account in one currency, over all months. Only
// partners whom the contracts that are tried can touch have one.
type SimulatedAccount struct {
	Partner    partner.ID       `json:"partner,omitempty"`
	Name       string           `json:"name,omitempty"`
	Currency   money.Currency   `json:"currency"`
	Old        SimulatedSums    `json:"old"`
	New        SimulatedSums    `json:"new"`
	Difference money.Amount     `json:"difference"` // of what is earned: positive = the partner gets more
	Months     []SimulatedMonth `json:"months,omitempty"`

	// Stated is what statements hold of these months so far, adjustments apart. What Old
	// has beyond it is late and comes with the next close, or was barred by a late limit,
	// or is of months that are open.
	Stated money.Amount `json:"stated"`
}

// SimulatedSums are what statements of the months would add up to.
type SimulatedSums struct {
	NetSales money.Amount `json:"net_sales"`
	Charges  money.Amount `json:"charges"`
	Earned   money.Amount `json:"earned"`
	TakeRate string       `json:"take_rate,omitempty"` // charges ÷ net sales, empty without sales
}

// SimulatedMonth is what one month of an account comes to.
type SimulatedMonth struct {
	Month      period.Month `json:"month"`
	Old        money.Amount `json:"old"`
	New        money.Amount `json:"new"`
	Difference money.Amount `json:"difference"`
}

// Crossing says that a rule's ladder ends a month on another step than it would have.
type Crossing struct {
	Partner  partner.ID   `json:"partner"`
	Contract string       `json:"contract"`
	Rule     string       `json:"rule"`
	Scope    string       `json:"scope,omitempty"`
	Month    period.Month `json:"month"`
	Old      string       `json:"old"` // the step, as the line's derivation names it; empty: no line
	New      string       `json:"new"`
}

// Simulate prices months again, as they were and with other terms. Closed months are
// priced with the documents that their manifests pin and with their frozen scorecards,
// open ones with those of today; totals begin with what the month before the first one
// left. It writes nothing.
func (c *Closer) Simulate(ctx context.Context, req SimulationRequest) (Simulation, error) {
	sim := Simulation{From: req.From, To: req.To}
	if err := req.Check(); err != nil {
		return sim, err
	}
	months := req.months()
	fail := func(err error) (Simulation, error) {
		return sim, fmt.Errorf("simulate %s to %s: %w", req.From, req.To, err)
	}
	old, err := c.simulated(ctx, months)
	if err != nil {
		return fail(err)
	}
	sim.Cutoff = old.manifest.Cutoff
	tried := *old
	tried.snapshots = map[period.Month]*catalogue.Snapshot{}
	terms := req.terms()
	for m, snap := range old.snapshots {
		if tried.snapshots[m], err = snap.With(terms...); err != nil {
			return fail(err)
		}
	}
	sim.Tried = tried.snapshots[req.To].Refs()[len(old.snapshots[req.To].Refs()):]
	w, err := newSimulating(ctx, old, &tried, months, req.Terms)
	if err != nil {
		return fail(err)
	}
	for i, m := range months {
		if err := w.month(ctx, m); err != nil {
			return fail(err)
		}
		c.progress("simulate", i+1, len(months))
	}
	sim.Groups, sim.Crossings = w.groups, w.crossings
	if sim.Accounts, sim.Totals, err = w.accounts(); err != nil {
		return fail(err)
	}
	return sim, nil
}

// Check reports what is wrong with the request.
func (req SimulationRequest) Check() error {
	switch {
	case req.To.Before(req.From):
		return fmt.Errorf("simulate: %s lies before %s: name the first month first", req.To, req.From)
	case !req.To.Before(req.From.Add(MaxSimulated)):
		return fmt.Errorf("simulate %s to %s: at most %d months", req.From, req.To, MaxSimulated)
	case len(req.Terms) == 0:
		return errors.New("simulate: no contract to try")
	}
	seen := map[string]bool{}
	for _, o := range req.Terms {
		if seen[o.ID] {
			return fmt.Errorf("simulate: contract %s is there twice: try one version at a time", o.ID)
		}
		seen[o.ID] = true
	}
	return nil
}

func (req SimulationRequest) months() []period.Month {
	var months []period.Month
	for m := req.From; !req.To.Before(m); m = m.Add(1) {
		months = append(months, m)
	}
	return months
}

// terms are the contracts as they are tried.
func (req SimulationRequest) terms() []catalogue.Object {
	all := slices.Clone(req.Terms)
	for i, o := range all {
		if o.Terms != nil && req.To.Last().Before(o.Terms.From) {
			terms := *o.Terms
			terms.From = req.From.First()
			all[i].Terms = &terms
		}
	}
	return all
}

// simulated is a close of the last month that is never kept. It sees all that is stored.
func (c *Closer) simulated(ctx context.Context, months []period.Month) (*run, error) {
	cutoff, err := c.Events.Cutoff(ctx)
	if err != nil {
		return nil, err
	}
	last := months[len(months)-1]
	r := &run{Closer: c, manifest: Manifest{Month: last, Engine: Engine, Cutoff: cutoff}, reader: newUsageReader(c.Events, cutoff), snapshots: map[period.Month]*catalogue.Snapshot{}}
	for _, m := range months {
		status, err := c.Store.Month(ctx, m)
		if err != nil {
			return nil, err
		}
		if status.Manifest != nil {
			r.snapshots[m], err = c.Catalogue.FromRefs(ctx, status.Manifest.Catalogue)
		} else {
			r.snapshots[m], err = c.Catalogue.At(ctx, m.Last(), time.Time{})
		}
		if err != nil {
			return nil, fmt.Errorf("catalogue of %s: %w", m, err)
		}
	}
	today, err := c.Catalogue.Current(ctx)
	if err != nil {
		return nil, err
	}
	for m, s := range r.snapshots {
		r.snapshots[m] = s.CorrectedBy(today)
	}
	return r, nil
}

// simulating walks the months both ways, side by side.
type simulating struct {
	old, tried *pricer
	groups     int
	sums       map[accountKey]*simulatedSums
	steps      map[stepKey][2]string // where each ladder stood last, old and tried
	crossings  []Crossing
}

// simulatedSums add up one account.
type simulatedSums struct {
	name   string
	sums   [2]Statement // old, tried: only the sums
	stated money.Amount
	months []SimulatedMonth
}

func newSimulating(ctx context.Context, old, tried *run, months []period.Month, terms []catalogue.Object) (*simulating, error) {
	w := &simulating{
		old: old.pricer(lateEvents{first: months[0]}), tried: tried.pricer(lateEvents{first: months[0]}),
		sums: map[accountKey]*simulatedSums{}, steps: map[stepKey][2]string{},
	}
	touched := touchedBy(old, tried, months, terms)
	for _, p := range []*pricer{w.old, w.tried} {
		after, err := p.totalsAfter(ctx, months[0].Add(-1))
		if err != nil {
			return nil, err
		}
		p.after, p.only, p.trial = after, touched, true
	}
	return w, nil
}

// touchedBy are the partners whose scope groups one of the contracts is in, with or
// without it: nobody else's lines can change.
func touchedBy(old, tried *run, months []period.Month, terms []catalogue.Object) map[partner.ID]bool {
	contracts := map[string]bool{}
	for _, o := range terms {
		contracts[o.ID] = true
	}
	touched := map[partner.ID]bool{}
	for before := -1; before != len(touched); { // each round adds a partner, or is the last
		before = len(touched)
		for _, m := range months {
			for _, snap := range []*catalogue.Snapshot{old.snapshots[m], tried.snapshots[m]} {
				for _, g := range snap.Groups(m) {
					if !slices.ContainsFunc(g.Partners, func(p partner.ID) bool { return touched[p] }) &&
						!slices.ContainsFunc(g.Contracts, func(v catalogue.VersionInForce) bool { return contracts[v.Ref.ID] }) {
						continue
					}
					for _, p := range g.Partners {
						touched[p] = true
					}
				}
			}
		}
	}
	return touched
}

// month prices one month both ways at once, and lets go of what it read.
func (w *simulating) month(ctx context.Context, m period.Month) error {
	lines := map[accountKey]*[2][]Line{}
	now := map[stepKey][2]string{}
	var ways [2][]Priced
	all, walking := errgroup.WithContext(ctx)
	for i, p := range []*pricer{w.old, w.tried} {
		all.Go(func() (err error) {
			ways[i], err = p.month(walking, m, nil)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	for i, groups := range ways {
		w.groups += len(groups)
		for _, g := range groups {
			for _, l := range g.Result.Lines {
				k := accountKey{l.Party, l.Currency}
				if lines[k] == nil {
					lines[k] = new([2][]Line)
				}
				lines[k][i] = append(lines[k][i], Line{Section: section(l), Line: l})
				if step := l.LadderStep(); step != "" {
					at := stepKey{l.Party, l.Contract, l.Rule, l.Scope}
					both := now[at]
					both[i] = step
					now[at] = both
				}
			}
		}
	}
	w.old.reader.forget() // both have the same reader
	w.cross(m, now)
	for _, k := range slices.SortedFunc(maps.Keys(lines), compareAccounts) {
		if err := w.add(m, k, *lines[k]); err != nil {
			return fmt.Errorf("%s in %s, %s: %w", k.partner, k.currency, m, err)
		}
	}
	return w.addStated(ctx, m)
}

// stepKey names one instance of a ladder.
type stepKey struct {
	party                 partner.ID
	contract, rule, scope string
}

// cross tells where ladders begin to stand on different steps, or go on to others that
// differ.
func (w *simulating) cross(m period.Month, now map[stepKey][2]string) {
	for _, k := range slices.SortedFunc(maps.Keys(now), func(a, b stepKey) int {
		return cmp.Or(cmp.Compare(a.party, b.party), cmp.Compare(a.contract, b.contract), cmp.Compare(a.rule, b.rule), cmp.Compare(a.scope, b.scope))
	}) {
		if both := now[k]; both != w.steps[k] {
			w.steps[k] = both
			if both[0] != both[1] {
				w.crossings = append(w.crossings, Crossing{k.party, k.contract, k.rule, k.scope, m, both[0], both[1]})
			}
		}
	}
}

func (w *simulating) of(k accountKey) *simulatedSums {
	s := w.sums[k]
	if s == nil {
		s = newSums(k.currency)
		s.name = cmp.Or(w.tried.snapshots[w.tried.manifest.Month].Partners[k.partner].Name, string(k.partner))
		w.sums[k] = s
	}
	return s
}

func newSums(c money.Currency) *simulatedSums {
	none := money.New(0, c)
	s := &simulatedSums{stated: none}
	for i := range s.sums {
		s.sums[i] = Statement{Currency: c, NetSales: none, Charges: none, Earned: none}
	}
	return s
}

// add puts the month's lines on an account.
func (w *simulating) add(m period.Month, k accountKey, lines [2][]Line) error {
	s := w.of(k)
	var of [2]Statement
	for i := range of {
		of[i] = Statement{Currency: k.currency, Month: m}
		if err := of[i].addLines(account{priced: lines[i]}); err != nil {
			return err
		}
		if err := s.sums[i].addSums(of[i]); err != nil {
			return err
		}
	}
	d, err := of[1].Earned.Sub(of[0].Earned)
	s.months = append(s.months, SimulatedMonth{m, of[0].Earned, of[1].Earned, d})
	return err
}

// addSums adds another statement's sums.
func (s *Statement) addSums(of Statement) (err error) {
	if s.NetSales, err = s.NetSales.Add(of.NetSales); err != nil {
		return err
	}
	if s.Charges, err = s.Charges.Add(of.Charges); err != nil {
		return err
	}
	s.Earned, err = s.Earned.Add(of.Earned)
	return err
}

// addStated adds up what statements hold of a closed month, differences included.
func (w *simulating) addStated(ctx context.Context, m period.Month) error {
	status, err := w.old.Store.Month(ctx, m)
	if err != nil || status.State == ledger.Open || status.Manifest == nil {
		return err
	}
	priced, err := w.old.Store.PricedMonth(ctx, m, lastMonth)
	if err != nil {
		return err
	}
	for _, p := range priced {
		for _, l := range p.posted() {
			if !w.old.only[l.Party] {
				continue
			}
			s := w.of(accountKey{l.Party, l.Currency})
			if s.stated, err = s.stated.Add(l.Amount); err != nil {
				return err
			}
		}
	}
	return nil
}

// lastMonth lies after every month that is closed.
var lastMonth = period.Month{Year: 9999, Month: time.December}

// accounts are what was added up, and the sums of each currency.
func (w *simulating) accounts() (accounts, totals []SimulatedAccount, err error) {
	all := map[money.Currency]*simulatedSums{}
	for _, k := range slices.SortedFunc(maps.Keys(w.sums), compareAccounts) {
		s := w.sums[k]
		a, err := s.account(k)
		if err != nil {
			return nil, nil, err
		}
		accounts = append(accounts, a)
		sum := all[k.currency]
		if sum == nil {
			sum = newSums(k.currency)
			all[k.currency] = sum
		}
		for i := range sum.sums {
			if err := sum.sums[i].addSums(s.sums[i]); err != nil {
				return nil, nil, err
			}
		}
		if sum.stated, err = sum.stated.Add(s.stated); err != nil {
			return nil, nil, err
		}
	}
	for _, c := range slices.Sorted(maps.Keys(all)) {
		a, err := all[c].account(accountKey{currency: c})
		if err != nil {
			return nil, nil, err
		}
		totals = append(totals, a)
	}
	return accounts, totals, nil
}

func (s *simulatedSums) account(k accountKey) (SimulatedAccount, error) {
	a := SimulatedAccount{Partner: k.partner, Name: s.name, Currency: k.currency, Months: s.months, Stated: s.stated}
	for i, to := range []*SimulatedSums{&a.Old, &a.New} {
		of := s.sums[i]
		*to = SimulatedSums{of.NetSales, of.Charges, of.Earned, takeRate(of.Charges, of.NetSales)}
	}
	var err error
	a.Difference, err = a.New.Earned.Sub(a.Old.Earned)
	return a, err
}

// maxCrossings bounds how many crossings the text shows; JSON has all.
const maxCrossings = 40

// WriteText writes the simulation for people.
func (s Simulation) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	var names []string
	for _, r := range s.Tried {
		names = append(names, r.ID)
	}
	fmt.Fprintf(b, "SIMULATION %s to %s · %d scope groups priced · nothing is kept, posted or owed\n", s.From, s.To, s.Groups)
	for _, t := range wrap("tried: "+strings.Join(names, ", "), pageWidth) {
		fmt.Fprintln(b, t)
	}
	fmt.Fprintln(b)
	line := func(name, old, new, difference, was, now string) {
		fmt.Fprintln(b, pad(short(name, 26), 27)+left(old, 17)+left(new, 17)+left(difference, 16)+left(was, 10)+left(now, 8))
	}
	line("", "earned, old", "new", "difference", "take, old", "new")
	write := func(name string, a SimulatedAccount) {
		line(name, a.Old.Earned.Grouped(), a.New.Earned.Grouped(), signed(a.Difference), cmp.Or(a.Old.TakeRate, "–"), cmp.Or(a.New.TakeRate, "–"))
	}
	for _, a := range s.Accounts {
		if len(s.Totals) > 1 {
			write(string(a.Currency)+" "+a.Name, a)
		} else {
			write(a.Name, a)
		}
	}
	for _, a := range s.Totals {
		write("TOTAL "+string(a.Currency), a)
		if rest, err := a.Old.Earned.Sub(a.Stated); err == nil && rest.Minor != 0 {
			fmt.Fprintf(b, "  old is %s on statements and %s that is late, barred by a late limit, or of open months\n", a.Stated.Grouped(), signed(rest))
		}
	}
	if len(s.Crossings) > 0 {
		fmt.Fprintln(b, "\nLadders that end a month on another step")
		for i, c := range s.Crossings {
			if i == maxCrossings {
				fmt.Fprintf(b, "  … and %d more: --json has all\n", len(s.Crossings)-i)
				break
			}
			fmt.Fprintf(b, "  %s  %s %s/%s%s: %s, was %s\n", c.Month, c.Partner, c.Contract, c.Rule, scopeText(c.Scope), cmp.Or(c.New, "no line"), cmp.Or(c.Old, "no line"))
		}
	}
	return b.Flush()
}

func scopeText(scope string) string {
	if scope == "" {
		return ""
	}
	return " " + scope
}

func signed(a money.Amount) string {
	if a.Minor > 0 {
		return "+" + a.Grouped()
	}
	return a.Grouped()
}

// WriteCSV writes one row for each account and month, and one for the account's sum,
// whose month is empty. Amounts are plain decimals.
func (s Simulation) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	rows := [][]string{{"partner", "currency", "month", "old_earned", "new_earned", "difference", "old_take_rate", "new_take_rate"}}
	for _, a := range s.Accounts {
		for _, m := range a.Months {
			rows = append(rows, []string{string(a.Partner), string(a.Currency), m.Month.String(), m.Old.Plain(), m.New.Plain(), m.Difference.Plain(), "", ""})
		}
		rows = append(rows, []string{string(a.Partner), string(a.Currency), "", a.Old.Earned.Plain(), a.New.Earned.Plain(), a.Difference.Plain(), a.Old.TakeRate, a.New.TakeRate})
	}
	return out.WriteAll(rows)
}
