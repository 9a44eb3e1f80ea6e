package pricing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
	"mete/period"
)

// pricer is one call of Price: the input in an order that does not depend on how it
// was given, and what has been said about it so far.
type pricer struct {
	in       *Input
	segments []*segment
	partners map[partner.ID]partner.Partner
	apps     map[partner.AppID]partner.App
	meters   map[string]metering.Meter
	cards    map[partner.AppID]*Scorecard

	totals    map[totalKey]*Total
	originals map[originalKey]*Attribution // of this and of earlier months
	sales     map[saleKey]*transaction     // of this month
	given     []*Attribution               // of this month, in time order
	lines     map[LineKey]*lineBuilder
	builders  []lineBuilder           // room for the next ones
	quality   map[LineKey]*adjustment // beside the share line of the key
	dated     map[standingKey][]standingSpan
	pieces    []piece     // scratch of the tier walk
	sold      []saleEvent // of this month, in time order

	volumes     map[volumeKey]*volume
	volumeOrder []*volume

	taken *takenWays
}

// segment is a Segment of the input and what became of its events.
type segment struct {
	Segment
	order        map[string]int // of rules, by id
	own          map[partner.AppID]bool
	rivals       []*segment // of the partner's other contracts; only with some are these filled:
	events       map[metering.Key]*transaction
	cells        map[cellKey]int
	transactions []transaction
	cellRules    [][]string // rules that priced a usage cell
	ruled        map[*Rule][]partner.AppID
}

// transaction is one event and what became of it.
type transaction struct {
	*metering.Transaction
	own   bool
	state string // "": nothing said yet
	why   string
	rules []string

	exchanged *exchanged // nil: not in a currency that is converted, or no rate is there
}

type totalKey struct{ contract, rule, what, scope string }

type saleKey struct{ contract, source, id string }

type originalKey struct{ source, id, contract, rule string }

// Price turns one month of one scope group into lines. It depends on nothing but the
// Input: not on the order of its usage cells, segments, leads or transactions.
func Price(in Input) (Result, error) {
	p, err := prepare(&in)
	if err != nil {
		return Result{}, fmt.Errorf("price %s of group %s: %w", in.Month, in.Group, err)
	}
	for _, k := range kinds() {
		if k.price == nil {
			continue
		}
		if err := k.price(p); err != nil {
			return Result{}, fmt.Errorf("price %s of group %s: %w", in.Month, in.Group, err)
		}
	}
	if err := p.follow(); err != nil {
		return Result{}, fmt.Errorf("price %s of group %s: %w", in.Month, in.Group, err)
	}
	res, err := p.result()
	if err != nil {
		return Result{}, fmt.Errorf("price %s of group %s: %w", in.Month, in.Group, err)
	}
	return res, nil
}

func prepare(in *Input) (*pricer, error) {
	p := &pricer{
		in:       in,
		partners: map[partner.ID]partner.Partner{}, apps: map[partner.AppID]partner.App{},
		meters: map[string]metering.Meter{}, cards: map[partner.AppID]*Scorecard{},
		totals: map[totalKey]*Total{}, originals: map[originalKey]*Attribution{},
		sales: map[saleKey]*transaction{}, volumes: map[volumeKey]*volume{}, taken: &takenWays{all: map[Branch]bool{}},
		lines: map[LineKey]*lineBuilder{}, quality: map[LineKey]*adjustment{},
		dated: map[standingKey][]standingSpan{},
	}
	for _, x := range in.Partners {
		p.partners[x.ID] = x
	}
	for _, x := range in.Apps {
		p.apps[x.ID] = x
	}
	for _, x := range in.Meters {
		p.meters[x.ID] = x
	}
	for _, x := range in.Scorecards {
		if _, twice := p.cards[x.App]; twice {
			return nil, fmt.Errorf("two scorecards of app %s", x.App)
		}
		if x.Month != in.Month {
			return nil, fmt.Errorf("scorecard of app %s is of %s", x.App, x.Month)
		}
		x.PartnerTier = p.partners[p.apps[x.App].Partner].Tier
		p.cards[x.App] = &x
	}
	for _, x := range in.Before {
		k := totalKey{x.Contract, x.Rule, x.What, x.Scope}
		if _, twice := p.totals[k]; twice {
			return nil, fmt.Errorf("two totals %s of rule %s for %s", x.What, x.Rule, x.Scope)
		}
		t := x
		p.totals[k] = &t
	}
	for i, x := range in.Originals {
		p.originals[originalKey{x.Source, x.ID, x.Contract, x.Rule}] = &in.Originals[i]
	}
	for _, x := range in.Segments {
		s, err := p.segment(x)
		if err != nil {
			return nil, err
		}
		p.segments = append(p.segments, s)
	}
	slices.SortStableFunc(p.segments, func(a, b *segment) int {
		return cmp.Or(strings.Compare(a.Terms.Contract, b.Terms.Contract), a.Period.Start.Compare(b.Period.Start))
	})
	for _, s := range p.segments {
		for _, o := range p.segments {
			if o.Terms.Partner == s.Terms.Partner && o.Terms.Contract != s.Terms.Contract {
				s.rivals = append(s.rivals, o)
			}
		}
		if len(s.rivals) > 0 {
			s.index()
		}
	}
	p.place()
	for i, s := range p.segments[:max(0, len(p.segments)-1)] {
		if next := p.segments[i+1]; next.Terms.Contract == s.Terms.Contract && next.Period.Start.Before(s.Period.End) {
			return nil, fmt.Errorf("two segments of contract %s overlap", s.Terms.Contract)
		}
	}
	return p, nil
}

// index makes events and cells be found by what they are.
func (s *segment) index() {
	s.events, s.cells = map[metering.Key]*transaction{}, map[cellKey]int{}
	for i := range s.transactions {
		s.events[s.transactions[i].Key] = &s.transactions[i]
	}
	for i := range s.Usage {
		s.cells[keyOfCell(&s.Usage[i])] = i
	}
}

func (p *pricer) segment(x Segment) (*segment, error) {
	t := x.Terms
	if t == nil {
		return nil, fmt.Errorf("a segment has no terms")
	}
	month := p.in.Month.In(t.Zone)
	if x.Period.IsEmpty() || x.Period.Start.Before(month.Start) || x.Period.End.After(month.End) {
		return nil, fmt.Errorf("contract %s: the segment is no part of the month", t.Contract)
	}
	s := &segment{Segment: x, order: map[string]int{}, own: map[partner.AppID]bool{}, cellRules: make([][]string, len(x.Usage))}
	for i, r := range t.Rules {
		s.order[r.ID] = i
		if r.Body == nil {
			return nil, fmt.Errorf("contract %s rule %s: terms were not read by ParseTerms", t.Contract, r.ID)
		}
	}
	for _, a := range t.Apps {
		s.own[a] = true
	}
	if len(t.Apps) == 0 {
		for _, a := range p.in.Apps {
			if a.Partner == t.Partner {
				s.own[a.ID] = true
			}
		}
	}
	s.transactions = make([]transaction, len(x.Transactions))
	for i := range x.Transactions {
		tx := &x.Transactions[i]
		if !x.Period.Contains(tx.Time) {
			return nil, fmt.Errorf("contract %s: event %s of %s at %s lies outside the segment", t.Contract, tx.ID, tx.Source, tx.Time.UTC().Format("2006-01-02T15:04:05Z"))
		}
		s.transactions[i] = transaction{Transaction: tx, own: s.own[tx.Data.App] && t.IsFor(tx.Customer, tx.Data.Deal)}
		if tx.Data.Environment == metering.Sandbox {
			s.transactions[i].state = "sandbox"
		}
	}
	slices.SortStableFunc(s.transactions, func(a, b transaction) int { return compareEvents(a.Transaction, b.Transaction) })
	for i := 1; i < len(s.transactions); i++ {
		if s.transactions[i].Key == s.transactions[i-1].Key && s.transactions[i].ID == s.transactions[i-1].ID {
			return nil, fmt.Errorf("contract %s: event %s of %s is given twice", t.Contract, s.transactions[i].ID, s.transactions[i].Source)
		}
	}
	p.convert(s)
	return s, nil
}

// compareEvents is the (time, key) order in which running totals move.
func compareEvents(a, b *metering.Transaction) int {
	if c := a.Time.Compare(b.Time); c != 0 {
		return c
	}
	return cmp.Or(strings.Compare(string(a.Key[:]), string(b.Key[:])), strings.Compare(a.ID, b.ID))
}

// ruleApps is the apps a rule is about, sorted. All lines of the rule share it.
func (s *segment) ruleApps(r *Rule) []partner.AppID {
	if apps, ok := s.ruled[r]; ok {
		return apps
	}
	apps := slices.Clone(r.Apps)
	if len(apps) == 0 {
		for a := range s.own {
			apps = append(apps, a)
		}
	}
	slices.Sort(apps)
	apps = slices.Clip(apps)
	if s.ruled == nil {
		s.ruled = map[*Rule][]partner.AppID{}
	}
	s.ruled[r] = apps
	return apps
}

// about reports whether the rule is about the app.
func (s *segment) about(r *Rule, app partner.AppID) bool {
	if len(r.Apps) == 0 {
		return s.own[app]
	}
	return slices.Contains(r.Apps, app)
}

// priced says that a rule looked at the event and priced it.
func (t *transaction) priced(r *Rule) {
	t.state, t.why = "priced", ""
	if !slices.Contains(t.rules, r.ID) {
		t.rules = append(t.rules, r.ID)
	}
}

// unpriced says why no rule could price the event, unless one did.
func (t *transaction) unpriced(why string) {
	if t.state == "" {
		t.state, t.why = "unpriced", why
	}
}

// scope names the instance of a scope that an event belongs to. The second result is
// the line's scope: empty where the rule has one line for all.
func (p *pricer) scope(s *segment, per string, app partner.AppID, customer partner.CustomerID) (total, line string) {
	switch per {
	case "app":
		total = "app:" + string(app)
		return total, total
	case "customer":
		total = "customer:" + string(customer)
		return total, total
	case "group":
		if g := p.partners[s.Terms.Partner].AccountGroup; g != "" {
			return "group:" + g, ""
		}
	}
	return "partner:" + string(s.Terms.Partner), ""
}

// result rounds the lines and writes everything down in a fixed order.
func (p *pricer) result() (Result, error) {
	var res Result
	builders := make([]*lineBuilder, 0, len(p.lines))
	for _, b := range p.lines {
		builders = append(builders, b)
	}
	slices.SortFunc(builders, compareLines)
	res.Lines = slices.Grow(res.Lines, len(builders))
	for _, b := range builders {
		if err := b.finish(); err != nil {
			return Result{}, err
		}
		res.Lines = append(res.Lines, b.Line)
	}
	for _, a := range p.given {
		res.Attributions = append(res.Attributions, *a)
	}
	res.After, res.Taken = p.after(), p.branchesTaken()
	res.NoRates = p.missingRates()
	counted, err := p.counted()
	res.Counted = counted
	return res, err
}

// after is the totals that the next month begins with: those whose window goes on.
func (p *pricer) after() []Total {
	windows := map[[2]string]Window{}
	for _, s := range p.segments {
		for _, r := range s.Terms.Rules {
			w, ok := r.window()
			if !ok {
				continue
			}
			if b, share := r.Body.(*Share); share && b.Tiers.Per == "group" {
				windows[[2]string{"", r.ID}] = w
			}
			windows[[2]string{s.Terms.Contract, r.ID}] = w
		}
	}
	next := p.in.Month.Add(1)
	var out []Total
	for _, t := range p.totals {
		if w, ok := windows[[2]string{t.Contract, t.Rule}]; ok && !stands(t.What) && t.Since.Before(w.start(next)) {
			continue
		}
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b Total) int {
		return cmp.Or(strings.Compare(a.Contract, b.Contract), strings.Compare(a.Rule, b.Rule),
			strings.Compare(a.What, b.What), strings.Compare(a.Scope, b.Scope))
	})
	return out
}

// window is the window of the rule's running totals, if it has tiers.
func (r *Rule) window() (Window, bool) {
	switch b := r.Body.(type) {
	case *Share:
		if b.Tiers != nil {
			return b.Tiers.Window, true
		}
	case *UsageFee:
		return b.Window, true
	case interface{ lasts() Window }:
		return b.lasts(), true
	}
	return Window{}, false
}

// addTo is the instant a duration after the day that holds at, in the zone.
func (d Duration) after(day period.Date) period.Date {
	if d.Months > 0 {
		return day.AddMonths(d.Months)
	}
	return day.AddDays(d.Days)
}

// money of an event in the contract's currency, or why there is none.
func (s *segment) amount(tx *transaction) (decimal.Decimal, string) {
	switch {
	case tx.Data.Amount == nil:
		return decimal.Zero, "no_amount"
	case tx.exchanged != nil:
		return tx.exchanged.amount, ""
	case s.Terms.foreign(tx.Transaction):
		return decimal.Zero, NoExchangeRate
	case tx.Data.Currency != s.Terms.Currency:
		return decimal.Zero, "other_currency"
	}
	return *tx.Data.Amount, ""
}
