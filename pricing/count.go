package pricing

import (
	"encoding/json"
	"fmt"
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
	sums := map[string]*Counted{}
	for _, s := range p.segments {
		byCell := map[cellKey][]*transaction{}
		for i := range s.transactions {
			t := &s.transactions[i]
			k := keyOfEvent(t.Transaction)
			byCell[k] = append(byCell[k], t)
		}
		for i := range s.Usage {
			u := &s.Usage[i]
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
	var out []Counted
	for _, k := range sortedKeys(sums) {
		out = append(out, *sums[k])
	}
	return out, nil
}

// count adds events of one cell; t is nil for those that are not looked at alone.
func (p *pricer) count(sums map[string]*Counted, s *segment, u *metering.Usage, t *transaction, cellRules []string, n int64) {
	c := Counted{Contract: s.Terms.Contract, App: u.App, Type: u.Type, Class: u.Class}
	rules := slices.Clone(cellRules)
	state, why := "", ""
	if t != nil {
		rules, state, why = append(rules, t.rules...), t.state, t.why
	}
	switch {
	case u.Environment == metering.Sandbox:
		c.State = "sandbox"
	case !s.own[u.App]:
		c.State = "elsewhere"
	case len(rules) > 0:
		c.State = "priced"
	case state != "":
		c.State, c.Why = state, why
	case fact(u.Type):
		c.State = "fact"
	default:
		c.State, c.Why = "unpriced", p.whyNot(s, u, t)
	}
	slices.Sort(rules)
	for _, r := range slices.Compact(rules) {
		c.Rules = append(c.Rules, s.Terms.Contract+"/"+r)
	}
	k := strings.Join([]string{c.Contract, string(c.App), c.Type, string(c.Class), c.State, c.Why, strings.Join(c.Rules, ",")}, "\x00")
	if sums[k] == nil {
		sums[k] = &c
	}
	sums[k].Events += n
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
		m := p.meters[b.Meter]
		failed := *u
		failed.Status = 0
		if m.StatusBelow > 0 && u.Status >= m.StatusBelow && m.Matches(failed) {
			return "failed_call_free"
		}
	}
	return "no_rule"
}
