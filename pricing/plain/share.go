package plain

import (
	"fmt"

	"github.com/shopspring/decimal"

	"mete/partner"
	"mete/pricing"
)

func (w *writer) share(r *pricing.Rule, b *pricing.Share) {
	if b.Passes != "" {
		w.passThrough(b)
		return
	}
	if b.Basis == pricing.Invoiced {
		w.say("of", "Of every sale that a customer is invoiced, before tax, the marketplace keeps a part; the rest is the partner's, and is due when the customer pays. What is never paid comes to nothing.").is("when a sale counts", "when it is invoiced")
	} else {
		w.say("of", "Of every sale that a customer has paid, before tax, the marketplace keeps a part; the rest is the partner's.").is("when a sale counts", "when it is paid")
	}
	switch {
	case b.Tiers != nil:
		w.tiers(b)
	case b.By != "":
		w.rates(b)
	default:
		w.say("rate", "The marketplace keeps %s of each sale; the partner gets %s.", pricing.Percent(b.Rate), rest(b.Rate)).is("the marketplace's share", pricing.Percent(b.Rate))
	}
	if len(b.Points) > 0 {
		t := &Table{Head: []string{"Sales whose", "Rate"}}
		for i, p := range b.Points {
			what := fmt.Sprintf("%s is %s", code(p.By), quoted(p.Is))
			t.Rows = append(t.Rows, Row{Key: fmt.Sprintf("%d %s", i, what), Cells: []string{what, points(p.Points)}, Term: "the rate of sales whose " + what, Value: points(p.Points)})
		}
		w.say("points", "Some sales have another rate, never below 0%% or above 100%%; what applies to one sale adds up:").Table = t
	}
	if len(b.Deals) > 0 {
		t := values("the worth of the deal", [2]string{"Deal", "Worth in all"}, sortedKeys(b.Deals), func(d string) string { return w.amount(b.Deals[d]) }, code)
		w.say("deals", "The worth of these deals decides their step, from the first sale on:").Table = t
	}
	w.say("refunds", "%s", refunds[b.Refunds]).is("what a refund does", refundsShort[b.Refunds])
	if c := b.Contest; c != nil {
		who := "the marketplace"
		if c.Fee == "partner" {
			who = "the partner"
		}
		w.say("chargebacks", "Money that a customer's bank contests is held from the day the chargeback is opened until it is won or lost. %s bears the payment processor's fee of a lost one.", sentence(who)).is("who bears the fee of a lost chargeback", who)
	}
}

// rest is what the partner gets.
func rest(rate decimal.Decimal) string { return pricing.Percent(one.Sub(rate)) }

var refunds = map[string]string{
	pricing.AtOriginalRate:     "When a sale is refunded, or a chargeback of it is lost, the marketplace gives back its part of that sale, in proportion to what is refunded.",
	pricing.ReduceBase:         "A refund or a lost chargeback counts as a negative sale, at the rate that stands when it happens.",
	pricing.PlatformKeepsShare: "When a sale is refunded, or a chargeback of it is lost, the marketplace keeps its part; the partner bears the whole refund.",
}

var refundsShort = map[string]string{
	pricing.AtOriginalRate:     "it gives back the marketplace's part of that sale",
	pricing.ReduceBase:         "it counts as a negative sale",
	pricing.PlatformKeepsShare: "it leaves the marketplace its part",
}

func (w *writer) passThrough(b *pricing.Share) {
	if partner.ID(b.Passes) == partner.Platform {
		w.say("passes", "What customers pay is passed through to the marketplace, which bears what was sold; it is no income of the partner, and no fee is taken of it. Refunds go the same way.").is("to whom it is passed through", "the marketplace")
		return
	}
	w.say("passes", "What customers pay is passed through to the partner whole; no fee is taken of it. Refunds go the same way.").is("to whom it is passed through", "the partner")
}

// rates is a rate for each value of an attribute.
func (w *writer) rates(b *pricing.Share) {
	t := values("the marketplace's share of sales with", [2]string{b.By, "The marketplace keeps"}, sortedKeys(b.Rates),
		func(v string) string { return pricing.Percent(b.Rates[v]) }, func(v string) string { return b.By + " " + quoted(v) })
	for i, v := range sortedKeys(b.Rates) {
		t.Rows[i].Cells[0] = quoted(v)
	}
	w.say("by", "What the marketplace keeps depends on what the sale says of its %s:", code(b.By)).is("what chooses the rate", code(b.By)).Table = t
	if b.Others {
		w.say("rate", "Of all other sales it keeps %s.", pricing.Percent(b.Rate)).is("the share of all other sales", pricing.Percent(b.Rate))
	} else {
		w.say("rate", "A sale that says something else has no rate: it is not priced, and the statement says so.").is("the share of all other sales", "none agreed")
	}
}

// tiers is a ladder of rates.
func (w *writer) tiers(b *pricing.Share) {
	t := b.Tiers
	w.say("tiers.on", "The rate depends on %s.", totals[t.On]).is("the total that decides the rate", totals[t.On])
	w.say("tiers.per", "%s", sentence(tierScopes[t.Per])+" has a total of its own.").is("whose total it is", tierScopes[t.Per])
	if t.On != "paid_months" {
		w.say("tiers.window", "The total is of %s.", window(t.Window)).is("the time that the total is of", window(t.Window))
	}
	w.say("tiers.mode", "%s", tierModes[t.Mode]).is("how the steps apply", tierModesShort[t.Mode])
	if !t.Grace.IsZero() {
		w.say("tiers.grace", "A subscription that lapses for longer than %s begins anew.", t.Grace).is("the lapse after which a subscription begins anew", t.Grace.String())
	}
	show := w.amount
	if t.On == "paid_months" {
		show = func(d decimal.Decimal) string { return number(d) + " paid months" }
	}
	l := ladder{what: "Total", show: show, head: []string{"The marketplace keeps", "The partner gets"}, of: "all sales",
		cells: func(s pricing.TierStep) []string { return []string{pricing.Percent(s.Rate), rest(s.Rate)} },
		term:  "the marketplace's share", value: func(cells []string, _ pricing.TierStep) string { return cells[0] }}
	w.say("steps", "The steps:").Table = l.table(b.Steps)
}

var totals = map[string]string{
	"gross":       "the running total of sales, before refunds",
	"net":         "the running total of sales less refunds and lost chargebacks",
	"proceeds":    "the running total of what the partner got of sales, after the marketplace's part",
	"paid_months": "the months that a subscription has paid for, the one at hand included",
}

var tierScopes = map[string]string{
	"partner":      "the partner, with all its sales under this rule,",
	"group":        "the partner's account group, with all its sales under rules of this name,",
	"app":          "each app",
	"customer":     "each customer",
	"subscription": "each subscription (a customer with an app)",
	"deal":         "each deal",
}

var tierModes = map[string]string{
	"graduated": "Each part of a sale bears the rate of the step in which it falls.",
	"volume":    "All sales of the time bear the rate of the step that the total reaches; when it reaches another step, earlier sales are charged or given back the difference.",
	"step":      "A sale as a whole bears the rate of the step in which the total stands when it is made.",
}

var tierModesShort = map[string]string{
	"graduated": "each part of a sale at the rate of its step", "volume": "all at the step that is reached", "step": "a whole sale at the step that stands",
}

func (w *writer) split(b *pricing.Split) {
	of := "what is left of each sale after the marketplace's part"
	if b.Base == "gross" {
		of = "each sale, before the marketplace's part"
	}
	w.say("base", "Other partners get parts of %s; refunds and lost chargebacks take them back. They come out of what the partner gets; the rest stays with the partner.", of).is("what is split", of)
	t := values("the part of", [2]string{"Partner", "Part"}, b.Parties(), func(id partner.ID) string { return pricing.Percent(b.To[id]) }, w.party)
	w.say("to", "The parts:").Table = t
	if len(b.Deals) > 0 {
		w.say("deals", "Only sales of these deals are split: %s.", codes(b.Deals)).is("the deals that are split", codes(b.Deals))
	}
}

func (w *writer) referral(r *pricing.Rule, b *pricing.Referral) {
	from, to := w.party(partner.ID(b.From)), w.party(partner.ID(b.To))
	w.say("parties", "%s pays %s a commission for customers that %s brought.", sentence(from), to, to).is("who pays whom", from+" pays "+to)
	if b.Flat != nil {
		w.say("flat", "The commission is %s for each lead that becomes a customer.", w.amount(*b.Flat)).is("the commission", w.amount(*b.Flat)+" for each converted lead")
	}
	if b.Percent != nil {
		w.say("percent", "The commission is %s of what these customers pay, before tax; a refund or a lost chargeback takes its part back.", pricing.Percent(*b.Percent)).is("the commission", pricing.Percent(*b.Percent)+" of what the customers pay")
	}
	if b.Attributes == "lead" {
		w.say("attributes", "What is brought is each lead: only it, and the sales that belong to it, count.").is("what is brought", "each lead")
	} else {
		w.say("attributes", "What is brought is the customer, with all that it buys.").is("what is brought", "the customer")
	}
	w.say("touch", "When several leads name a customer, it belongs to whoever brought the %s of them.", b.Touch).is("whose customer it is when several leads name it", "the "+b.Touch+" lead's")
	limit := func(key, none, term, format string, d pricing.Duration) {
		if d.IsZero() {
			w.say(key, "%s", none).is(term, "no limit")
			return
		}
		w.say(key, format, d).is(term, d.String())
	}
	limit("window", "A lead may become a customer however long after it was qualified.", "the time from qualified lead to customer",
		"A lead counts if it becomes a customer no later than %s after it was qualified.", b.Window)
	if b.Percent != nil {
		limit("term", "Commission is due for as long as the customer pays.", "the time for which commission is due",
			"Commission is due for sales within %s of becoming a customer.", b.Term)
	}
	if b.Cap != nil {
		w.say("cap", "One customer brings at most %s, for ever.", w.amount(*b.Cap)).is("the most that one customer brings", w.amount(*b.Cap))
	}
	if b.Clawback.IsZero() {
		w.say("clawback", "A lead that is cancelled later does not take its commission back.").is("the time in which a cancellation takes the commission back", "none")
	} else {
		also := ""
		if b.Flat != nil {
			also = ", or whose sale is refunded,"
		}
		w.say("clawback", "A lead that is cancelled%s within %s of becoming a customer takes its commission back.", also, b.Clawback).is("the time in which a cancellation takes the commission back", b.Clawback.String())
	}
}
