package plain

import (
	"fmt"
	"slices"
	"strings"

	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// agreement is who agrees on what, from when until when.
func (w *writer) agreement() {
	t := w.t
	market := "the platform (“the marketplace”)"
	if w.n.Marketplace != "" {
		market = w.named(w.n.Marketplace, string(partner.Platform)) + " (“the marketplace”)"
	}
	who := w.named(w.n.Partners[t.Partner], string(t.Partner))
	w.say("parties", "The contract %s is between %s and %s (“the partner”).", code(t.Contract), market, who).is("the parties of the contract", code(t.Contract)+" with "+who)
	if len(t.Apps) > 0 {
		w.say("apps", "It covers %s.", w.apps(t.Apps)).is("what the contract covers", w.apps(t.Apps))
	} else {
		w.say("apps", "It covers all apps of the partner.").is("what the contract covers", "all apps of the partner")
	}
	if t.Customer != "" {
		w.say("customer", "It is about what the customer %s does and pays only; of its sales it goes before contracts that name no customer and no deal.", code(string(t.Customer))).is("the customer", code(string(t.Customer)))
	}
	if t.Deal != "" {
		w.say("deal", "It is about sales of the deal %s only, and goes before any other contract for them.", quoted(t.Deal)).is("the deal", quoted(t.Deal))
	}
	term := "from " + t.From.String() + ", without a last day"
	if !t.Until.IsZero() {
		term = fmt.Sprintf("from %s to %s, both days included", t.From, t.Until.AddDays(-1))
	}
	w.say("term", "These terms are in force %s.", term).is("the term", term)
	if t.Restart {
		w.say("tiers", "Running totals of earlier versions end: with these terms they begin anew at zero.")
	} else {
		w.say("tiers", "Running totals of an earlier version go on under these terms.")
	}
	if t.Notice > 0 {
		days := pricing.Duration{Days: t.Notice}.String()
		w.say("notice", "The marketplace tells the partner of other terms at least %s before they begin. They are in force only if the partner accepts them; an acceptance waives what is missing of the notice.", days).is("the notice of other terms", days)
	}
	if len(t.Rules) > 1 {
		w.say("order", "Its rules, in this order: %s.", codes(ruleIDs(t))).is("the order of the rules", codes(ruleIDs(t)))
	}
}

func ruleIDs(t *pricing.Terms) []string {
	ids := make([]string, len(t.Rules))
	for i, r := range t.Rules {
		ids[i] = r.ID
	}
	return ids
}

// money is what amounts and days are, who collects, and how is rounded.
func (w *writer) money() {
	t := w.t
	if x := Exchange(t); x != "" {
		w.say("currency", "All amounts are in %s.", t.Currency).is("the currency", string(t.Currency))
		w.say("fx", "%s", x).is("how other currencies are converted", x)
	} else {
		w.say("currency", "All amounts are in %s; nothing in another currency is converted.", t.Currency).is("the currency", string(t.Currency))
	}
	w.say("zone", "Days and months begin and end at midnight in the time zone %s.", code(t.ZoneName)).is("the time zone", code(t.ZoneName))
	if t.Collects == pricing.PartnerCollects {
		w.say("collects", "The partner collects what its customers pay, and owes the marketplace its part of it. The payment processor of these terms is %s.", code(t.Processor)).is("who collects", "the partner; processor "+code(t.Processor))
	} else {
		w.say("collects", "The marketplace collects what customers pay, through the payment processor %s.", code(t.Processor)).is("who collects", "the marketplace, through "+code(t.Processor))
	}
	if t.Presentation == pricing.Principal {
		w.say("presentation", "The marketplace sells in its own name: the whole sale is its income, and the partner's part an expense. What the partner gets is the same.").is("in whose name is sold", "the marketplace's")
	} else {
		w.say("presentation", "The marketplace acts as the partner's agent: its income is its share and its fees, not the whole sale.").is("in whose name is sold", "the partner's")
	}
	w.rounding()
	switch {
	case !t.NamesLimit:
		w.say("late_limit", "For what is found late, the limit is the marketplace's own, if it has one: older differences are not charged to the partner. What the partner is owed is never barred.").is("the late limit", "the marketplace's own")
	case t.LateLimit == 0:
		w.say("late_limit", "There is no limit for what is found late: differences of any closed month are charged or paid.").is("the late limit", "none")
	default:
		w.say("late_limit", "What is found more than %s after its month is not charged to the partner any more. What the partner is owed is never barred.", months(t.LateLimit)).is("the late limit", months(t.LateLimit))
	}
}

// Exchange says how amounts in other currencies are converted; empty where they are not.
func Exchange(t *pricing.Terms) string {
	fx := t.FX
	if fx == nil {
		return ""
	}
	which := "every other currency"
	if len(fx.Convert) > 0 {
		names := make([]string, len(fx.Convert))
		for i, c := range fx.Convert {
			names[i] = string(c)
		}
		which = strings.Join(names, ", ")
	}
	day := "the day of the sale"
	if fx.At == pricing.AtMonthEnd {
		day = "the last day of the month"
	}
	text := fmt.Sprintf("Amounts in %s are converted to %s at the rate of %s in table %s, or the last of the %d days before", which, t.Currency, day, fx.Rates, pricing.MaxRateAge)
	if !fx.Markup.IsZero() {
		text += "; for what customers paid it is lowered by " + pricing.Percent(fx.Markup)
	}
	return text + "."
}

func months(n int) string { return pricing.Duration{Months: n}.String() }

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func (w *writer) rounding() {
	r := w.t.Round
	places := fmt.Sprintf("the decimals of %s", w.t.Currency)
	if r.Places != nil {
		places = fmt.Sprintf("%d decimals", *r.Places)
		if *r.Places == 1 {
			places = "1 decimal"
		}
	}
	value := fmt.Sprintf("once for each line of the statement, to %s, %s", places, rounding(r.Mode))
	text := "Amounts are computed exactly and rounded " + value + "."
	if r.Per == "transaction" {
		value = fmt.Sprintf("sale by sale, to %s, %s", places, rounding(r.Mode))
		text = "Amounts of each sale are computed exactly and rounded " + value + "."
	}
	w.say("rounding", "%s", text).is("rounding", value)
}

// payout is when what was earned is paid.
func (w *writer) payout() {
	p := w.t.Payout
	if p.Minimum != nil {
		w.say("minimum", "The smallest payout is %s; a smaller balance is carried forward.", w.amount(p.Minimum.Decimal())).is("the smallest payout", w.amount(p.Minimum.Decimal()))
	} else {
		w.say("minimum", "The contract names no smallest payout.").is("the smallest payout", "none")
	}
	if p.Keep != nil {
		keep := w.amount(p.Keep.Decimal())
		w.say("keep", "%s stay on the account; what is due above that is paid.", keep).is("what stays on the account", keep)
	}
	if p.Due != nil {
		due := Due(*p.Due)
		w.say("due", "What a month adds to the account is due %s. It is not paid before; where that is no business day, it is paid on the next one.", due).is("when what was earned is due", due)
		if p.Due.LockAfter > 0 || p.Due.Period == "quarter" {
			jan := p.Due.Of(period.Month{Year: 2025, Month: 1})
			w.say("due.example", "For example, January 2025 is locked on %s, stated on %s and due on %s.", jan.LockOn.Short(), jan.StatementOn.Short(), jan.DueOn.Short())
		}
	}
	if r := p.Reserve; r != nil {
		of := bases[r.Of]
		w.say("reserve", "Each month the marketplace keeps back %s of %s as a reserve.", pricing.Percent(r.Rate), of).is("the reserve", pricing.Percent(r.Rate)+" of "+of)
		days := pricing.Duration{Days: r.ReleaseAfter}.String()
		w.say("reserve.release", "A month's reserve is released %s after the month's last day.", days).is("the release of the reserve", days+" after the month's last day")
	} else {
		w.say("reserve", "Nothing is kept back as a reserve.").is("the reserve", "none")
	}
	if p.SetOff && w.t.Collects == pricing.PartnerCollects {
		w.say("setoff", "What the partner owes of what it collected is set off against what is due to it.")
	} else if p.SetOff {
		w.say("setoff", "The contract asks to set off; nothing is set off, since the partner has one account in each currency.")
	}
}

// Due says when what a month adds to the account is due under net terms.
func Due(d pricing.DueTerms) string {
	end := "the end of the month"
	if d.Period == "quarter" {
		end = "the end of its calendar quarter"
	}
	days := pricing.Duration{Days: d.PayAfter}.String()
	if d.LockAfter == 0 {
		return days + " after " + end
	}
	return fmt.Sprintf("%s after its lock day, which is the month end %s after %s", days, months(d.LockAfter), end)
}

var bases = map[string]string{
	"proceeds":  "the month's proceeds (sales less refunds and lost chargebacks, less the marketplace's part and what others get)",
	"net_sales": "the month's net sales (sales less refunds and lost chargebacks)",
	"earned":    "everything that the partner earned in the month",
}

// statement is what the partner will find on its statement, rule by rule.
func (w *writer) statement() {
	w.say("when", "After each month the partner gets a statement in %s: what customers paid (section A), what the marketplace charges (B), what it owes besides (C) and corrections of earlier months (D), then the balance and what is paid out when.", w.t.Currency)
	rows := &Table{Head: []string{"Rule", "Lines of the statement"}}
	for i := range w.t.Rules {
		r := &w.t.Rules[i]
		line := w.lines(r)
		rows.Rows = append(rows.Rows, Row{Key: r.ID, Cells: []string{code(r.ID), line}, Term: "the lines of " + code(r.ID), Value: line})
	}
	w.say("lines", "Each line names its rule, what it counts, the rate and the amount; its arithmetic can be asked for.").Table = rows
}

// lines are those that a rule makes.
func (w *writer) lines(r *pricing.Rule) string {
	called := func(standard string) string {
		if r.Text != "" {
			return quoted(r.Text)
		}
		return quoted(standard)
	}
	switch b := r.Body.(type) {
	case *pricing.Share:
		with := func(standard string) string {
			if r.Text != "" {
				standard += ", " + r.Text
			}
			return quoted(standard)
		}
		part := "Share"
		if b.Passes != "" {
			part = "Passed through"
		}
		return fmt.Sprintf("%s, %s and %s, before tax (A); %s (B)", called("Sales"), with("Refunds"), with("Chargebacks lost"), with(part)) + each(w.tiersPer(b))
	case *pricing.UsageFee:
		standard := "Processing of sales"
		if b.Of == "" {
			standard = strings.Join(b.Meters(), ", ")
			if m := w.n.Meters[b.Meter]; m.Description != "" {
				standard = m.Description
			}
		}
		return called(standard) + " (B)" + each(b.Per)
	case *pricing.FixedFee:
		return called(feeName(r)) + " (B)" + each(b.Per)
	case *pricing.Referral:
		side := "(B)"
		if b.To == "partner" || partner.ID(b.To) == w.t.Partner {
			side = "(C)"
		}
		return called("Referral of customers") + " " + side + ", and what is taken back"
	case *pricing.Split:
		return called("Split of sales") + " for each other partner, and the same amount on that partner's statement"
	case *pricing.Quality:
		return called("Quality") + " beside the share: what the scorecard moves, and why"
	case *pricing.Cap:
		return called("At most …") + ", what is given back" + each(b.Per)
	case *pricing.Commitment:
		return called("Minimum of …") + ", what is missing or beyond"
	case *pricing.Guarantee:
		return called("Guarantee of …") + ", what is missing, when its time ends"
	case *pricing.Discount:
		return called("Discount of …") + ", what is taken off"
	case *pricing.TaxRule:
		return called("Tax at " + pricing.Percent(b.Rate) + ", " + b.Jurisdiction)
	case *pricing.Credit:
		return called("Credit") + ", what is used of it and what is left"
	}
	return called(r.Kind)
}

func (w *writer) tiersPer(b *pricing.Share) string {
	if b.Tiers == nil {
		return ""
	}
	return b.Tiers.Per
}

// each says whether there is a line for every app, customer or deal.
func each(per string) string {
	if slices.Contains([]string{"app", "customer", "deal"}, per) {
		return ", one line for each " + per
	}
	return ""
}
