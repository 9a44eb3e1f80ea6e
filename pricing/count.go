package pricing

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"mete/metering"
	"mete/money"
	"mete/partner"
)

// cellKey is the dimensions of a usage cell.
type cellKey struct {
	app        partner.AppID
	customer   partner.CustomerID
	typ        string
	class      metering.Class
	operation  string
	unit       string
	currency   money.Currency
	status     int
	sandbox    bool
	dimensions string
}

func keyOfCell(u *metering.Usage) cellKey {
	return cellKey{u.App, u.Customer, u.Type, u.Class, u.Operation, u.Unit, u.Currency, u.Status, u.Environment == metering.Sandbox, u.Dimensions}
}

func keyOfEvent(t *metering.Transaction) cellKey {
	dims := ""
	if len(t.Data.Dimensions) > 0 {
		b, _ := json.Marshal(t.Data.Dimensions) // map keys are sorted; strings always encode
		dims = string(b)
	}
	d := t.Data
	return cellKey{d.App, t.Customer, t.Type, d.Class, d.Operation, d.Unit, d.Currency, d.Status, d.Environment == metering.Sandbox, dims}
}

// single reports whether pricing looks at events of the type one by one.
func single(typ string) bool { return typ != metering.UsageAPI }

// fact reports whether events of the type feed leads and scorecards instead of lines.
func fact(typ string) bool {
	switch typ {
	case metering.UsageAPI, metering.SalePaid, metering.SaleRefunded, metering.SaleChargebackLost, metering.FeeDue:
		return false
	}
	return true
}

// counted says of every event of every usage cell what became of it.
func (p *pricer) counted() ([]Counted, error) {
	sums := map[countKey]*Counted{}
	for _, s := range p.segments {
		byCell := map[cellKey][]*transaction{}
		for i := range s.transactions {
			t := &s.transactions[i]
			k := keyOfEvent(t.Transaction)
			byCell[k] = append(byCell[k], t)
		}
		for i := range s.Usage {
			u := &s.Usage[i]
			if len(byCell) == 0 {
				if u.Count > 0 {
					p.count(sums, s, u, nil, s.cellRules[i], u.Count)
				}
				continue
			}
			k := keyOfCell(u)
			alone := byCell[k]
			alone = alone[:min(int64(len(alone)), u.Count)]
			for _, t := range alone {
				p.count(sums, s, u, t, s.cellRules[i], 1)
			}
			if byCell[k] = byCell[k][len(alone):]; len(byCell[k]) == 0 {
				delete(byCell, k)
			}
			if left := u.Count - int64(len(alone)); left > 0 {
				p.count(sums, s, u, nil, s.cellRules[i], left)
			}
		}
		for i := range s.transactions {
			if t := &s.transactions[i]; len(byCell[keyOfEvent(t.Transaction)]) > 0 {
				return nil, fmt.Errorf("contract %s: %d events %s of app %s are in no usage cell, or in one that counts fewer",
					s.Terms.Contract, len(byCell[keyOfEvent(t.Transaction)]), t.Type, t.Data.App)
			}
		}
	}
	out := slices.Grow([]Counted(nil), len(sums))
	for _, k := range slices.SortedFunc(maps.Keys(sums), countKey.compare) {
		out = append(out, *sums[k])
	}
	return out, nil
}

// countKey is what events have in common that are counted together.
type countKey struct {
	contract string
	app      partner.AppID
	typ      string
	class    metering.Class
	state    string
	why      string
	rules    string
}

func (k countKey) compare(o countKey) int {
	return cmp.Or(strings.Compare(k.contract, o.contract), strings.Compare(string(k.app), string(o.app)), strings.Compare(k.typ, o.typ),
		strings.Compare(string(k.class), string(o.class)), strings.Compare(k.state, o.state), strings.Compare(k.why, o.why), strings.Compare(k.rules, o.rules))
}

// count adds events of one cell; t is nil for those that are not looked at alone.
func (p *pricer) count(sums map[countKey]*Counted, s *segment, u *metering.Usage, t *transaction, cellRules []string, n int64) {
	k := countKey{contract: s.Terms.Contract, app: u.App, typ: u.Type, class: u.Class}
	rules, state, why := cellRules, "", ""
	if t != nil {
		rules, state, why = slices.Concat(rules, t.rules), t.state, t.why
	}
	switch {
	case !s.own[u.App]:
		k.state = "elsewhere"
	case s.Terms.specific() && !s.holds(u, t) && s.leaves(u, t):
		k.state = "elsewhere"
		if u.Environment == metering.Sandbox {
			k.why = "sandbox"
		}
	case s.Terms.specific() && !s.holds(u, t) && u.Environment != metering.Sandbox && !fact(u.Type):
		k.state, k.why = "unpriced", "no_contract"
	case len(rules) == 0 && s.toldElsewhere(u, t):
		k.state = "elsewhere"
		if u.Environment == metering.Sandbox {
			k.why = "sandbox"
		}
	case u.Environment == metering.Sandbox:
		k.state = "sandbox"
	case len(rules) > 0:
		k.state = "priced"
	case state != "":
		k.state, k.why = state, why
	case fact(u.Type):
		k.state = "fact"
	default:
		k.state, k.why = "unpriced", p.whyNot(s, u, t)
	}
	if len(rules) == 1 {
		k.rules = rules[0]
	} else if len(rules) > 1 {
		rules = slices.Compact(slices.Sorted(slices.Values(rules)))
		k.rules = strings.Join(rules, ",")
	}
	c := sums[k]
	if c == nil {
		c = &Counted{Contract: k.contract, App: k.app, Type: k.typ, Class: k.class, State: k.state, Why: k.why}
		for _, r := range rules {
			c.Rules = append(c.Rules, k.contract+"/"+r)
		}
		sums[k] = c
	}
	c.Events += n
}

// toldElsewhere reports whether what is not priced here is told of by another contract
// of the partner: by one that prices it, or else by the first that covers it.
func (s *segment) toldElsewhere(u *metering.Usage, t *transaction) bool {
	return slices.ContainsFunc(s.rivals, func(o *segment) bool {
		covers, priced := o.says(s, u, t)
		return covers && (priced || o.Terms.Contract < s.Terms.Contract)
	})
}

// says reports whether the segment covers an event, or a cell, of another one, and
// whether it prices it. A cell is the same where the spans are.
func (s *segment) says(of *segment, u *metering.Usage, t *transaction) (covers, priced bool) {
	cell, ok := s.cells[keyOfCell(u)]
	if t != nil {
		same := s.events[t.Key]
		return same != nil && same.own, same != nil && same.own && (same.state == "priced" || ok && len(s.cellRules[cell]) > 0)
	}
	covers = ok && s.holds(u, nil) && s.Period.Start.Equal(of.Period.Start) && s.Period.End.Equal(of.Period.End)
	return covers, covers && len(s.cellRules[cell]) > 0
}

// whyNot is why no rule priced the cell's events.
func (p *pricer) whyNot(s *segment, u *metering.Usage, t *transaction) string {
	if t == nil && single(u.Type) {
		return "not_given" // counted in a cell, but not given one by one
	}
	for i := range s.Terms.Rules {
		r := &s.Terms.Rules[i]
		b, ok := r.Body.(*UsageFee)
		if !ok || !s.about(r, u.App) || !hasClass(r.Class, u.Class) {
			continue
		}
		if b.Of == u.Type && u.Currency != s.Terms.Currency {
			return "other_currency"
		}
		failed := *u
		failed.Status = 0
		for _, id := range b.Meters() {
			if m := p.meters[id]; m.StatusBelow > 0 && u.Status >= m.StatusBelow && m.Matches(failed) {
				return "failed_call_free"
			}
		}
	}
	return "no_rule"
}
