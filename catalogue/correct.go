package catalogue

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"mete/partner"
	"mete/pricing"
)

// Correction is an accepted version of a contract that takes the place of one that was
// wrong, from a day on that may have passed.
type Correction struct {
	Ref      Ref            `json:"ref"`
	Corrects int            `json:"corrects"` // the number of the version that was wrong
	Terms    *pricing.Terms `json:"-"`
}

func (c Correction) String() string {
	return fmt.Sprintf("version %d of %s takes the place of version %d from %s on", c.Ref.Number, c.Ref.ID, c.Corrects, c.Terms.From)
}

// Corrections are the snapshot's, in order of contract and number.
func (s *Snapshot) Corrections() []Correction {
	var out []Correction
	for _, id := range s.Contracts() {
		for _, a := range s.contracts[id] {
			if a.corrects > 0 {
				out = append(out, Correction{a.ref, a.corrects, a.terms})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Correction) int {
		return cmp.Or(cmp.Compare(a.Ref.ID, b.Ref.ID), cmp.Compare(a.Ref.Number, b.Ref.Number))
	})
	return out
}

// CorrectedBy is the snapshot with those corrections of a later one that correct what it
// holds, and with the meters, apps and tables of rates that only they name. All else
// stays as it was. The snapshot itself does not change.
func (s *Snapshot) CorrectedBy(later *Snapshot) *Snapshot {
	known := map[Ref]bool{}
	numbers := map[string]map[int]bool{}
	note := func(r Ref) {
		known[r] = true
		if numbers[r.ID] == nil {
			numbers[r.ID] = map[int]bool{}
		}
		numbers[r.ID][r.Number] = true
	}
	for _, r := range s.refs {
		if r.Kind == KindContract {
			note(r)
		}
	}
	out, changed := *s, false
	for _, c := range later.Corrections() {
		if known[c.Ref] || !numbers[c.Ref.ID][c.Corrects] {
			continue
		}
		if !changed {
			changed = true
			out.contracts, out.Meters, out.Apps, out.FX = maps.Clone(s.contracts), maps.Clone(s.Meters), maps.Clone(s.Apps), maps.Clone(s.FX)
			out.refs = slices.Clone(s.refs)
		}
		note(c.Ref)
		out.refs = append(out.refs, c.Ref)
		i := slices.IndexFunc(later.contracts[c.Ref.ID], func(a agreed) bool { return a.ref == c.Ref })
		out.contracts[c.Ref.ID] = withAgreed(out.contracts[c.Ref.ID], later.contracts[c.Ref.ID][i])
		out.lend(later, c.Terms)
	}
	if !changed {
		return s
	}
	return &out
}

// withAgreed is the versions with one more, in order of beginning; of two that begin on
// one day the later number counts.
func withAgreed(list []agreed, a agreed) []agreed {
	list = slices.Clone(list)
	at, found := slices.BinarySearchFunc(list, a, func(x, y agreed) int { return x.terms.From.Compare(y.terms.From) })
	switch {
	case !found:
		return slices.Insert(list, at, a)
	case list[at].ref.Number < a.ref.Number:
		list[at] = a
	}
	return list
}

// lend takes over what terms name and the snapshot does not have.
func (s *Snapshot) lend(later *Snapshot, t *pricing.Terms) {
	take(s.Meters, later.Meters, t.Meters()...)
	take(s.Apps, later.Apps, append(slices.Clone(t.Apps), appsOfRules(t)...)...)
	if t.FX != nil {
		take(s.FX, later.FX, t.FX.Rates)
	}
}

func appsOfRules(t *pricing.Terms) []partner.AppID {
	var apps []partner.AppID
	for _, r := range t.Rules {
		apps = append(apps, r.Apps...)
	}
	return apps
}

func take[K comparable, V any](to, from map[K]V, keys ...K) {
	for _, k := range keys {
		if v, ok := from[k]; ok {
			if _, has := to[k]; !has {
				to[k] = v
			}
		}
	}
}

// checkKeeps refuses a correction that moves what differences cannot carry: whose
// account it is, which days are covered, who is priced together, where money lies.
func (p *planner) checkKeeps(o Object, v Version) {
	was, err := reread(v)
	if err != nil || was.Terms == nil || o.Terms == nil {
		return // reported where it is read
	}
	keeps := func(field, what string, old, now any, remedy string) {
		if old != now {
			p.report(o, field, fmt.Sprintf("%s of version %d is %v, and of this %v: a correction keeps it", what, v.Number, old, now), remedy)
		}
	}
	keeps("partner", "the partner", was.Terms.Partner, o.Terms.Partner, "reject it, and agree on a contract with the other partner")
	end := func(t *pricing.Terms) string {
		if t.Until.IsZero() {
			return "open"
		}
		return t.Until.String()
	}
	keeps("effective.until", "the end", end(was.Terms), end(o.Terms), "keep the end; a contract is ended by a later version")
	keeps("processor", "the processor", was.Terms.Processor, o.Terms.Processor, "keep it: what was collected lies there; change it by a later version")
	if a, b := parties(was.Terms), parties(o.Terms); !slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))) {
		p.report(o, "rules", fmt.Sprintf("they name other partners than version %d (%v, and now %v), who would be priced together with this contract in closed months", v.Number, a, b),
			"put the rules with other partners into a later version, and pay for the past by adjustments")
	}
}
