package pricing

import (
	"fmt"
	"slices"

	"mete/money"
	"mete/partner"
	"mete/period"
)

// LateLimitIn is the late limit of the terms in a marketplace whose own limit is
// given: the one they name, none included, or else the marketplace's. 0 is none.
func (t *Terms) LateLimitIn(market int) int {
	if t.NamesLimit {
		return t.LateLimit
	}
	return market
}

// Barred says which differences of a closed month late limits keep off the statements
// of the month that closes, where that is more months later than the limit of the
// terms that were in force. A limit bars what charges a party: our share together with
// its quality, usage, fees, a commission together with what is taken back of it, and
// what caps, discounts and the like make of them together with what they follow. It
// never bars what a party is owed, what customers paid and took back, and what one
// partner owes another.
func Barred(inForce []*Terms, market int, closing period.Month, differences []Line) (map[LineKey]bool, error) {
	limits, adjusts, followed := map[string]int{}, map[[2]string]string{}, roots{}
	for _, t := range inForce {
		limits[t.Contract] = t.LateLimitIn(market)
		followed.add(t)
		for _, r := range t.Rules {
			if q, ok := r.Body.(*Quality); ok {
				adjusts[[2]string{t.Contract, r.ID}] = q.Adjusts
			}
		}
	}
	// together is the key of what is charged or not as one.
	together := func(k LineKey) LineKey {
		switch k.Part {
		case "quality":
			k.Rule, k.Part = adjusts[[2]string{k.Contract, k.Rule}], "share"
		case "clawback":
			k.Part = "referral"
		}
		if root, ok := followed[[2]string{k.Contract, k.Rule}]; ok {
			k.Rule, k.Part, k.Scope = root, "", ""
		}
		return k
	}
	sums := map[LineKey]money.Amount{}
	late := func(l *Line) bool {
		limit := limits[l.Contract]
		age := (closing.Year-l.Month.Year)*12 + int(closing.Month-l.Month.Month)
		return limit > 0 && age > limit && l.Payer == partner.Platform && !ofCustomers(l.Part)
	}
	for i := range differences {
		l := &differences[i]
		if !late(l) {
			continue
		}
		k := together(l.LineKey)
		sum, ok := sums[k]
		if !ok {
			sum = money.New(0, l.Currency)
		}
		var err error
		if sums[k], err = sum.Add(l.Amount); err != nil {
			return nil, fmt.Errorf("contract %s rule %s: late differences: %w", l.Contract, l.Rule, err)
		}
	}
	out := map[LineKey]bool{}
	for i := range differences {
		if l := &differences[i]; late(l) && sums[together(l.LineKey)].Minor < 0 {
			out[l.LineKey] = true
		}
	}
	return out, nil
}

// roots tells, of the rules of contracts that others follow and of those that follow,
// by which rule all that hang together are known.
type roots map[[2]string]string

// add joins the rules of terms with those that they follow.
func (f roots) add(t *Terms) {
	for _, r := range t.Rules {
		b, ok := r.Body.(follower)
		if !ok {
			continue
		}
		ids := append([]string{r.ID}, b.follows()...)
		root := ""
		for _, id := range ids {
			if known, ok := f[[2]string{t.Contract, id}]; ok && (root == "" || known < root) {
				root = known
			}
		}
		if root == "" {
			root = slices.Min(ids)
		}
		for _, id := range ids {
			f.join(t.Contract, id, root)
		}
	}
}

// join gives a rule the root, and with it all that had the rule's.
func (f roots) join(contract, id, root string) {
	k := [2]string{contract, id}
	if was, ok := f[k]; ok && was != root {
		for other, r := range f {
			if other[0] == contract && r == was {
				f[other] = root
			}
		}
	}
	f[k] = root
}

// ofCustomers reports whether lines of the part are money of customers: what they paid
// and what they took back.
func ofCustomers(part string) bool {
	return part == "sales" || part == "refunds" || part == "chargebacks" || part == "written_off" || part == "collected" || part == "accrued" || part == "contested"
}
