package review

import (
	"fmt"
	"slices"
	"strings"

	"mete/catalogue"
	"mete/partner"
	"mete/period"
	"mete/pricing"
	"mete/pricing/plain"
)

// name is a contract, or its version, for people.
func name(s catalogue.Standing) string {
	switch {
	case s.Number > 0:
		return fmt.Sprintf("%s version %d", s.Terms.Contract, s.Number)
	case s.File != "":
		return fmt.Sprintf("%s (%s)", s.Terms.Contract, s.File)
	}
	return s.Terms.Contract
}

// span is days for which terms hold; until is exclusive, zero is open.
type span struct{ from, until period.Date }

func (a span) meets(b span) bool {
	return (a.until.IsZero() || b.from.Before(a.until)) && (b.until.IsZero() || a.from.Before(b.until))
}

// holds is the time for which terms hold: to their end, or to the beginning of the next
// version.
func (r *reviewer) holds(s catalogue.Standing) span {
	out := span{s.Terms.From, s.Terms.Until}
	for _, o := range r.b.Contracts {
		later := o.Terms.Contract == s.Terms.Contract && s.Terms.From.Before(o.Terms.From)
		if later && (out.until.IsZero() || o.Terms.From.Before(out.until)) {
			out.until = o.Terms.From
		}
	}
	return out
}

// time looks for days with no terms or with two.
func (r *reviewer) time() {
	t := r.t
	if !t.Until.IsZero() && !r.set.On.IsZero() && !r.set.On.Before(t.Until) {
		r.find(TimeOver, "", "effective.until", fmt.Sprintf("the terms end before %s, which is before today, %s", t.Until, r.set.On), "give them a later end, or none, unless they are kept as they were")
	}
	r.versions()
	mine := r.holds(r.s)
	var covered []span
	for _, o := range r.b.Contracts {
		if o.Terms.Partner != t.Partner {
			continue
		}
		theirs := r.holds(o)
		covered = append(covered, theirs)
		if o.Terms.Contract != t.Contract && o.Terms.Currency == t.Currency && mine.meets(theirs) {
			r.chargedTwice(o, theirs, mine)
			r.dueApart(o)
		}
	}
	r.gapOfPartner(covered)
}

// versions looks at the version before and after this one.
func (r *reviewer) versions() {
	var before *catalogue.Standing
	for i := range r.b.Contracts {
		o := &r.b.Contracts[i]
		if o.Terms.Contract == r.t.Contract && o.Terms.From.Before(r.t.From) && o.Corrects == 0 {
			before = o
		}
	}
	if before == nil || r.s.Corrects > 0 || before.Terms.Until.IsZero() {
		return
	}
	switch until := before.Terms.Until; {
	case until.Before(r.t.From):
		r.find(TimeGap, "", "effective.from", fmt.Sprintf("%s ends before %s, and these terms begin on %s: in between nothing of %s is in force", name(*before), until, r.t.From, r.t.Contract),
			fmt.Sprintf("begin on %s, if nothing is meant to be priced in between", until))
	case r.t.From.Before(until):
		r.find(TimeOverlap, "", "effective.from", fmt.Sprintf("%s is agreed until %s, and these terms begin on %s: they cut it short", name(*before), until, r.t.From),
			fmt.Sprintf("begin on %s, if the version before is meant to last as long as it says", until))
	}
}

// notice looks at how long before these terms begin the partner was told of them, or
// can be. What the partner accepted is waived.
func (r *reviewer) notice() {
	n := r.b.Notice(r.s, r.set.On)
	if r.s.State == catalogue.Accepted || r.set.On.IsZero() || !n.Short(r.t.From) {
		return
	}
	told := fmt.Sprintf("nobody recorded that the partner was told; told today, %s, it would have", r.set.On)
	if !r.s.Told.IsZero() {
		told = fmt.Sprintf("the partner was told on %s and has", r.s.Told)
	}
	r.find(ShortNotice, "", "effective.from", fmt.Sprintf("%s promises %s of notice, and these terms begin on %s: %s that notice from %s on",
		name(n.Before), pricing.Duration{Days: n.Days}, r.t.From, told, n.Earliest),
		fmt.Sprintf("begin on %s or later; or ask the partner to accept them as they are, which waives the notice: without its acceptance they are not in force in any case", n.Earliest))
}

// gapOfPartner looks for days before these terms on which no contract of the partner is
// in force, though one was earlier.
func (r *reviewer) gapOfPartner(all []span) {
	slices.SortFunc(all, func(a, b span) int { return a.from.Compare(b.from) })
	var end period.Date
	for i, s := range all {
		if i > 0 && !end.IsZero() && end.Before(s.from) && s.from == r.t.From && !r.ended(TimeGap) {
			r.find(TimeGap, "", "effective.from", fmt.Sprintf("from %s to %s no contract of %s is in force", end, s.from.AddDays(-1), r.t.Partner),
				"begin these terms, or end the ones before, so that no day is left out, if that is meant")
		}
		if i == 0 || !end.IsZero() && (s.until.IsZero() || end.Before(s.until)) {
			end = s.until
		}
	}
}

// ended reports whether such a finding is there already.
func (r *reviewer) ended(what string) bool {
	return slices.ContainsFunc(r.out, func(f Finding) bool { return f.ID == what })
}

// chargedTwice looks for rules of two contracts that are about the same sales, or charge
// for the same usage.
func (r *reviewer) chargedTwice(o catalogue.Standing, theirs, mine span) {
	from := mine.from
	if from.Before(theirs.from) {
		from = theirs.from
	}
	for i := range r.t.Rules {
		a := &r.t.Rules[i]
		for j := range o.Terms.Rules {
			b := &o.Terms.Rules[j]
			if !sameThing(a, b) || a.Class != "" && b.Class != "" && a.Class != b.Class || !r.appsMeet(a, o.Terms, b) {
				continue
			}
			what := "both divide the same sales"
			if _, usage := a.Body.(*pricing.UsageFee); usage {
				what = "both charge for the same usage"
			}
			f := r.find(TimeOverlap, a.ID, fmt.Sprintf("rules[%d]", i), fmt.Sprintf("rule %s and rule %s of %s %s, from %s on", a.ID, b.ID, name(o), what, from),
				"name other apps or classes in one of them, or end one contract before the other begins")
			f.Blocks = true
		}
	}
}

// dueApart looks at when another contract on the partner's statements is due. It is no
// mistake, but one of the two promises moves.
func (r *reviewer) dueApart(o catalogue.Standing) {
	a, b := dueDay(r.t), dueDay(o.Terms)
	if a != b {
		r.find(DueDays, "", "payout.due", fmt.Sprintf("%s is due %s, and these terms %s: one statement holds both, and all of it is paid on the later day", name(o), b, a),
			"say the same in both, if one of them is not meant to wait for the other")
	}
}

func dueDay(t *pricing.Terms) string {
	if t.Payout.Due == nil {
		return "on the marketplace's pay day"
	}
	return plain.Due(*t.Payout.Due)
}

// sameThing reports whether two rules would take the same events for the same purpose.
func sameThing(a, b *pricing.Rule) bool {
	switch x := a.Body.(type) {
	case *pricing.Share:
		y, ok := b.Body.(*pricing.Share)
		return ok && x.Of == y.Of
	case *pricing.UsageFee:
		y, ok := b.Body.(*pricing.UsageFee)
		return ok && x.Of == y.Of && (x.Of != "" || slices.ContainsFunc(x.Meters(), func(m string) bool { return slices.Contains(y.Meters(), m) }))
	}
	return false
}

// appsMeet reports whether two rules of different contracts share an app. Of sales, a
// contract for all apps yields to one that names the app.
func (r *reviewer) appsMeet(a *pricing.Rule, other *pricing.Terms, b *pricing.Rule) bool {
	mine, theirs := apps(r.t, a), apps(other, b)
	if len(mine) == 0 || len(theirs) == 0 {
		_, sale := a.Body.(*pricing.Share)
		return !sale || len(mine) == len(theirs)
	}
	return slices.ContainsFunc(mine, func(x partner.AppID) bool { return slices.Contains(theirs, x) })
}

// apps are those that a rule names, by itself or by its contract; none: all of the
// partner's.
func apps(t *pricing.Terms, r *pricing.Rule) []partner.AppID {
	if len(r.Apps) > 0 {
		return r.Apps
	}
	return t.Apps
}

func list[T ~string](ids []T) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return strings.Join(out, ", ")
}
