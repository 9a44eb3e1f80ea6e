package billing

import (
	"bufio"
	"context"
	"fmt"
	"slices"

	"mete/pricing"
)

// others names the other contracts of the partner that share sales of the line's apps
// in its month, and says which of them goes before which.
func (t tracer) others(ctx context.Context, l Line) ([]string, error) {
	if l.Contract == "" {
		return nil, nil
	}
	status, err := t.Store.Month(ctx, l.LineKey.Month)
	if err != nil {
		return nil, err
	}
	snap, err := t.snapshot(ctx, status)
	if err != nil {
		return nil, err
	}
	var mine *pricing.Terms
	inForce := snap.ContractsIn(l.LineKey.Month)
	for _, v := range inForce {
		if v.Terms.Contract == l.Contract && v.Terms.Version == l.Version {
			mine = v.Terms
		}
	}
	if mine == nil {
		return nil, nil
	}
	i := slices.IndexFunc(mine.Rules, func(r pricing.Rule) bool { return r.ID == l.Rule && r.Shares() })
	if i < 0 {
		return nil, nil
	}
	own := &mine.Rules[i]
	var out []string
	for _, v := range inForce {
		o := v.Terms
		if o.Partner != mine.Partner || o.Contract == mine.Contract {
			continue
		}
		for j := range o.Rules {
			r := &o.Rules[j]
			if !r.Shares() || r.Class != "" && own.Class != "" && r.Class != own.Class || !mine.Meets(own, o, r) {
				continue
			}
			text := precedence(mine, own, o, r)
			if !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
	}
	return out, nil
}

// precedence says which of two contracts takes a sale that both could.
func precedence(mine *pricing.Terms, own *pricing.Rule, other *pricing.Terms, r *pricing.Rule) string {
	a, b := mine.LevelOf(own), other.LevelOf(r)
	switch {
	case a > b:
		return fmt.Sprintf("%s is for %s: it takes them before %s, which is for %s", mine.Contract, mine.Reach(own), other.Contract, other.Reach(r))
	case a < b:
		return fmt.Sprintf("without what %s takes before %s: it is for %s, %s for %s", other.Contract, mine.Contract, other.Reach(r), mine.Contract, mine.Reach(own))
	case mine.Currency != other.Currency:
		return fmt.Sprintf("%s has sales in %s; both are for %s", other.Contract, other.Currency, mine.Reach(own))
	}
	return fmt.Sprintf("%s takes others: both are for %s", other.Contract, mine.Reach(own))
}

// writePrecedence writes why the line's contract has its sales, where others could.
func (x Explanation) writePrecedence(b *bufio.Writer) {
	if len(x.Others) == 0 {
		return
	}
	fmt.Fprintln(b, "\n  Whose sales")
	for _, o := range x.Others {
		for _, t := range wrap(o, pageWidth-8) {
			fmt.Fprintln(b, "    "+t)
		}
	}
}
