package review

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// reach looks for a reason why rule i can never apply.
func (r *reviewer) reach(i int) {
	rule := &r.t.Rules[i]
	at := fmt.Sprintf("rules[%d]", i)
	never := func(field, says, do string) { r.find(NeverUsed, rule.ID, at+field, says, do) }
	r.apps(rule, at)
	switch b := rule.Body.(type) {
	case *pricing.Share:
		r.yields(rule, at)
		if b.Tiers != nil && b.Tiers.Per == "group" && r.b.Partners[r.t.Partner].ID != "" && r.b.Partners[r.t.Partner].AccountGroup == "" {
			never(".platform.tiers.per", fmt.Sprintf("the total is of the account group, and %s is in none", r.t.Partner), "per: partner, or put account_group into the partner's document")
		}
	case *pricing.UsageFee:
		if m, ok := r.b.Meters[b.Meter]; ok && m.Class != "" && rule.Class != "" && m.Class != rule.Class {
			never(".class", fmt.Sprintf("the meter %s counts the class %s only, and the rule is about %s: no event is both", b.Meter, m.Class, rule.Class), fmt.Sprintf("class: %s, or leave it out", m.Class))
		}
		if m, ok := r.b.Meters[b.Meter]; ok && m.Class == "" {
			r.classSent(rule, at, m.Type)
		}
	case *pricing.FixedFee:
		r.dueInTerm(rule, b, at)
		r.shadowed(i, b, at)
	case *pricing.Referral:
		if b.Flat != nil && b.Cap != nil && b.Cap.LessThan(*b.Flat) {
			never(".cap", fmt.Sprintf("the cap of %s is below the commission of %s, which is never paid whole", b.Cap, b.Flat), "raise the cap, or lower the commission to it")
		}
		r.code(rule, b, at)
	case *pricing.Split:
		if !slices.ContainsFunc(r.t.Rules, func(o pricing.Rule) bool {
			s, ok := o.Body.(*pricing.Share)
			return ok && s.Passes == "" && meet(string(o.Class), string(rule.Class)) && appsMeet(o.Apps, rule.Apps)
		}) {
			never("", "it splits sales that a share rule of this contract divides, and none divides sales of its class and apps", "add the share rule, or put the split into the contract that has it")
		}
	case *pricing.Quality:
		r.quality(rule, b, at)
	case *pricing.Discount:
		if b.When != nil {
			if why := impossible(b.When, 0); why != "" {
				never(".when", why, "compare with a figure that the measure can have")
			}
		}
	}
}

func meet(a, b string) bool { return a == "" || b == "" || a == b }

func appsMeet(a, b []partner.AppID) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(x partner.AppID) bool { return slices.Contains(b, x) })
}

// apps looks for apps that are another partner's, or that no source may report.
func (r *reviewer) apps(rule *pricing.Rule, at string) {
	field := at + ".apps"
	if len(rule.Apps) == 0 {
		field = "apps"
	}
	var lost []partner.AppID
	for _, id := range apps(r.t, rule) {
		app, known := r.b.Apps[id]
		if known && app.Partner != r.t.Partner && rule.Kind != "referral" { // a commission may be of others' apps
			r.find(NeverUsed, rule.ID, field, fmt.Sprintf("the app %s is %s's and not %s's: its events reach no rule of this contract", id, app.Partner, r.t.Partner), "name apps of the contract's partner")
			continue
		}
		if r.unreported(id) {
			lost = append(lost, id)
		}
	}
	if n := len(lost); n > 0 && n == len(apps(r.t, rule)) {
		r.find(NeverUsed, rule.ID, field, fmt.Sprintf("no source may report the apps that it is about: %s", list(lost)), "add the app to the apps of a source, or name another app")
	}
}

// unreported reports whether every source names the apps that it may report, and none
// names this one.
func (r *reviewer) unreported(id partner.AppID) bool {
	if len(r.b.Sources) == 0 {
		return false
	}
	for _, s := range r.b.Sources {
		if len(s.Apps) == 0 || slices.Contains(s.Apps, id) {
			return false
		}
	}
	return true
}

// classSent looks for a class that no source sends, where all sources that send API calls
// are logs with a class of their own.
func (r *reviewer) classSent(rule *pricing.Rule, at, eventType string) {
	if rule.Class == "" || eventType != metering.UsageAPI || len(r.b.Sources) == 0 {
		return
	}
	var sent []string
	for _, id := range slices.Sorted(maps.Keys(r.b.Sources)) {
		s := r.b.Sources[id]
		if s.Mapping == "" || s.Class == "" {
			return // it may send any class
		}
		if s.Class == rule.Class {
			return
		}
		sent = append(sent, id+" "+string(s.Class))
	}
	r.find(NeverUsed, rule.ID, at+".class", fmt.Sprintf("no source sends the class %s: %s", rule.Class, strings.Join(sent, ", ")), "name a class that is sent, or give a source this one")
}

// yields looks for a contract for all apps whose every app another contract names.
func (r *reviewer) yields(rule *pricing.Rule, at string) {
	if len(apps(r.t, rule)) > 0 {
		return
	}
	var own []partner.AppID
	for id, a := range r.b.Apps {
		if a.Partner == r.t.Partner {
			own = append(own, id)
		}
	}
	mine := r.holds(r.s)
	taken := func(id partner.AppID) bool {
		for _, o := range r.b.Contracts {
			if o.Terms.Contract == r.t.Contract || o.Terms.Partner != r.t.Partner || o.Terms.Currency != r.t.Currency {
				continue
			}
			theirs := r.holds(o)
			if theirs.from.Compare(mine.from) > 0 || !theirs.until.IsZero() && (mine.until.IsZero() || theirs.until.Before(mine.until)) {
				continue // some days are left
			}
			if slices.ContainsFunc(o.Terms.Rules, func(b pricing.Rule) bool {
				_, share := b.Body.(*pricing.Share)
				return share && slices.Contains(apps(o.Terms, &b), id) && (b.Class == "" || b.Class == rule.Class)
			}) {
				return true
			}
		}
		return false
	}
	if len(own) > 0 && !slices.ContainsFunc(own, func(id partner.AppID) bool { return !taken(id) }) {
		slices.Sort(own)
		r.find(NeverUsed, rule.ID, at, fmt.Sprintf("other contracts name every app of %s (%s), and their more specific rules take the sales", r.t.Partner, list(own)), "leave the rule out, or take an app out of the other contracts")
	}
}

// shadowed looks for a rule above that takes all events of a fee.
func (r *reviewer) shadowed(i int, b *pricing.FixedFee, at string) {
	rule := &r.t.Rules[i]
	if b.Due != metering.FeeDue {
		return
	}
	for _, o := range r.t.Rules[:i] {
		above, ok := o.Body.(*pricing.FixedFee)
		if !ok || above.Due != b.Due || o.Class != rule.Class || above.Reference != "" && above.Reference != b.Reference {
			continue
		}
		mine, theirs := apps(r.t, rule), apps(r.t, &o)
		if len(theirs) > 0 && (len(mine) == 0 || slices.ContainsFunc(mine, func(a partner.AppID) bool { return !slices.Contains(theirs, a) })) {
			continue
		}
		r.find(NeverUsed, rule.ID, at, fmt.Sprintf("rule %s above takes every event of the class %s that this one would charge", o.ID, rule.Class), "put the more specific rule first: the first one that fits an event takes it")
		return
	}
}

// dueInTerm looks for a yearly fee whose day is not in the term.
func (r *reviewer) dueInTerm(rule *pricing.Rule, b *pricing.FixedFee, at string) {
	if b.Due != "yearly" || b.Prorate != "" || b.Charged != "" || r.t.Until.IsZero() {
		return
	}
	day := period.Date{Year: r.t.From.Year, Month: b.Month, Day: b.Day}
	if day.Before(r.t.From) {
		day.Year++
	}
	if !day.Before(r.t.Until) {
		r.find(NeverUsed, rule.ID, at+".due", fmt.Sprintf("%02d-%02d is on no day from %s until %s", int(b.Month), b.Day, r.t.From, r.t.Until), "name a day within the term, or due: once")
	}
}

// code looks for a referrer without a code, whose leads must name it in another way.
func (r *reviewer) code(rule *pricing.Rule, b *pricing.Referral, at string) {
	if len(r.b.Codes) == 0 && r.b.Market.Entity == "" {
		return // no catalogue is known
	}
	to := partner.ID(b.To)
	if b.To == "partner" {
		to = r.t.Partner
	}
	for _, c := range r.b.Codes {
		if c.Partner == to {
			return
		}
	}
	r.find(NeverUsed, rule.ID, at+".to", fmt.Sprintf("%s has no referral code, and the referrer of a lead is known by the code that it carries", to), "give it a referral_code in the catalogue")
}

// quality looks for conditions that no scorecard can meet, and for rates that are not
// moved.
func (r *reviewer) quality(rule *pricing.Rule, b *pricing.Quality, at string) {
	find := func(c *pricing.Condition, field string) {
		if c == nil {
			return
		}
		if why := impossible(c, b.NotScored); why != "" {
			r.find(Unreachable, rule.ID, at+field, why, "compare with a figure that the measure can have")
		}
	}
	if b.Gate != nil {
		find(b.Gate.Require, ".gate.require")
	}
	for i, x := range b.Bands {
		find(x.When, fmt.Sprintf(".bands[%d].when", i))
	}
	for i, x := range b.Factors {
		find(x.When, fmt.Sprintf(".factors[%d].when", i))
	}
	for _, o := range r.t.Rules {
		s, ok := o.Body.(*pricing.Share)
		if ok && o.ID == b.Adjusts && !slices.ContainsFunc(rates(s), decimal.Decimal.IsPositive) {
			r.find(NeverUsed, rule.ID, at+".adjusts", fmt.Sprintf("it moves rates above zero only, and %s has none", o.ID), "name a share rule that charges something, or leave it out")
		}
	}
}

// rates are all rates of a share.
func rates(b *pricing.Share) []decimal.Decimal {
	var out []decimal.Decimal
	for _, s := range b.Steps {
		out = append(out, s.Rate)
	}
	for _, rate := range b.Rates {
		out = append(out, rate)
	}
	for _, p := range b.Points {
		out = append(out, p.Points)
	}
	return append(out, b.Rate)
}

var (
	compared = regexp.MustCompile(`^([a-z_.]+) *(>=|<=|==|>|<) *([0-9]+(?:\.[0-9]+)?)$`)
	equalled = regexp.MustCompile(`^certification\.state *== *"([^"]*)"$`)
	states   = []string{"valid", "due", "overdue", "re-review", "suspended", "none"}
)

// impossible says why no scorecard meets a condition that is made of comparisons which
// must all hold; empty if one may. Fewer calls than scored are not scored.
func impossible(c *pricing.Condition, scored int64) string {
	for _, part := range strings.Split(c.Text, "&&") {
		part = strings.TrimSpace(part)
		if m := equalled.FindStringSubmatch(part); m != nil && !slices.Contains(states, m[1]) {
			return fmt.Sprintf("no certification is ever %q: the states are %s", m[1], strings.Join(states, ", "))
		}
		m := compared.FindStringSubmatch(part)
		if m == nil {
			continue
		}
		d, err := money.ParseDecimal(m[3])
		if err != nil {
			continue
		}
		least, most := decimal.Zero, decimal.Decimal{}
		bounded := false
		switch m[1] {
		case "availability", "within":
			most, bounded = decimal.NewFromInt(1), true
		case "certification.tier":
			least, most, bounded = decimal.NewFromInt(1), decimal.NewFromInt(5), true
		case "calls":
			least = decimal.NewFromInt(scored)
		}
		low := d.LessThan(least) && (m[2] == "==" || m[2] == "<" || m[2] == "<=") || d.Equal(least) && m[2] == "<"
		high := bounded && (d.GreaterThan(most) && m[2] != "<" && m[2] != "<=" || d.Equal(most) && m[2] == ">")
		if low || high {
			says := fmt.Sprintf("%s never holds: %s is never below %s", part, m[1], least)
			if high {
				says = fmt.Sprintf("%s never holds: %s is never above %s", part, m[1], most)
			}
			if m[1] == "calls" && scored > 0 {
				says += ", since fewer calls are not scored"
			}
			return says
		}
	}
	return ""
}
