package pricing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
	"mete/period"
)

const referralDoc = "A commission for customers that one party brought to the other: flat per converted lead, or a percentage of what they pay."

// Referral is the body of a referral rule. Exactly one of Flat and Percent is set.
type Referral struct {
	From       string           `json:"from"` // platform | partner | a partner id: who pays
	To         string           `json:"to"`   // who brought the customer and is paid
	Flat       *decimal.Decimal `json:"flat,omitempty"`
	Percent    *decimal.Decimal `json:"percent,omitempty"`
	Attributes string           `json:"attributes"`        // lead | customer
	Touch      string           `json:"touch"`             // first | last: whose customer it is when several leads name it
	Window     Duration         `json:"window,omitzero"`   // from qualified to converted
	Term       Duration         `json:"term,omitzero"`     // percent: from converted
	Cap        *decimal.Decimal `json:"cap,omitempty"`     // per customer, for ever
	Clawback   Duration         `json:"clawback,omitzero"` // from converted: a cancellation takes all back
}

func decodeReferral(c *contract, o *object) any {
	b := &Referral{From: "platform", To: "partner", Touch: "first"}
	if f, ok := o.get("class"); ok {
		f.oneOf(string(metering.Referral))
	}
	if f, ok := o.need("from", "who pays: platform, partner or a partner id"); ok {
		b.From, _ = f.id()
	}
	if f, ok := o.need("to", "who is paid: platform, partner or a partner id"); ok {
		b.To, _ = f.id()
		from, to := b.party(c.terms, b.From), b.party(c.terms, b.To)
		switch {
		case from == to:
			f.bad(fmt.Sprintf("%s pays %s", from, to), "name two parties")
		case from != c.terms.Partner && to != c.terms.Partner:
			f.bad(fmt.Sprintf("%s, with whom the contract is, is not a party", c.terms.Partner), "let it pay or be paid: `partner`")
		}
	}
	flat, hasFlat := o.get("flat")
	percent, hasPercent := o.get("percent")
	switch {
	case hasFlat && hasPercent:
		percent.bad("flat and percent together", "keep one; make a second rule for the other")
	case hasFlat:
		b.Attributes = "lead"
		if a, ok := flat.amount(c.terms.Currency); ok {
			d := a.Decimal()
			b.Flat = &d
		}
	case hasPercent:
		b.Attributes = "customer"
		if d, ok := percent.percent(); ok {
			b.Percent = &d
		}
	default:
		o.bad("no commission", "flat: 200.00 per converted lead, or percent: 10% of what the customers pay")
	}
	if f, ok := o.get("of"); ok {
		f.oneOf(metering.SalePaid)
	}
	if f, ok := o.get("attributes"); ok {
		b.Attributes, _ = f.oneOf("lead", "customer")
	}
	if f, ok := o.get("touch"); ok {
		b.Touch, _ = f.oneOf("first", "last")
	}
	if f, ok := o.get("window"); ok {
		b.Window, _ = f.duration()
	}
	if f, ok := o.get("term"); ok {
		b.Term, _ = f.duration()
		if hasFlat {
			f.bad("a flat commission has no term", "leave it out")
		}
	}
	if f, ok := o.get("cap"); ok {
		if a, ok := f.amount(c.terms.Currency); ok {
			d := a.Decimal()
			b.Cap = &d
		}
	}
	if f, ok := o.get("clawback"); ok {
		b.Clawback, _ = f.duration()
	}
	return b
}

func referralSchema() schema {
	return schema{
		"from":       text("who pays: platform, partner or a partner id"),
		"to":         text("who brought the customer and is paid: platform, partner or a partner id"),
		"flat":       numberSchema("per converted lead"),
		"percent":    percentSchema("of what the referred customers paid, net of refunds"),
		"of":         enum("the sales of a percentage", metering.SalePaid),
		"attributes": enum("what is brought: each lead, or the customer with all it buys", "lead", "customer"),
		"touch":      enum("whose customer it is when several leads name it", "first", "last"),
		"window":     durationSchema("longest time from qualified to converted"),
		"term":       durationSchema("how long after conversion sales count"),
		"cap":        numberSchema("most per customer, for ever"),
		"clawback":   durationSchema("a cancellation this long after conversion takes the commission back"),
	}.require("from", "to")
}

func (b *Referral) party(t *Terms, word string) partner.ID {
	if word == "partner" {
		return t.Partner
	}
	return partner.ID(word)
}

// referred is a lead that counts, with the conversion that counts for it.
type referred struct {
	partner.Lead
	convertedAt time.Time
}

// active reports whether a sale at t earns commission.
func (l *referred) active(b *Referral, t time.Time, zone *time.Location) bool {
	switch {
	case t.Before(l.convertedAt), !l.CancelledAt.IsZero() && !t.Before(l.CancelledAt):
		return false
	case b.Term.IsZero():
		return true
	}
	return period.DateOf(t, zone).Before(b.Term.after(period.DateOf(l.convertedAt, zone)))
}

// inTime reports whether the lead was qualified, and no longer before the conversion
// than the window.
func (b *Referral) inTime(l partner.Lead, converted time.Time, zone *time.Location) bool {
	if l.QualifiedAt.IsZero() || l.QualifiedAt.After(converted) {
		return false
	}
	return b.Window.IsZero() || !b.Window.after(period.DateOf(l.QualifiedAt, zone)).Before(period.DateOf(converted, zone))
}

// tooLate reports whether the window had passed before the conversion.
func (b *Referral) tooLate(l partner.Lead, converted time.Time, zone *time.Location) bool {
	return !l.QualifiedAt.IsZero() && !l.QualifiedAt.After(converted) && !b.inTime(l, converted, zone)
}

// won is the leads that the paid party brought, in the order of conversion.
func (b *Referral) won(leads []partner.Lead, to partner.ID, zone *time.Location) []*referred {
	sorted := slices.Clone(leads)
	slices.SortFunc(sorted, func(x, y partner.Lead) int {
		return cmp.Or(x.QualifiedAt.Compare(y.QualifiedAt), strings.Compare(x.ID, y.ID))
	})
	var out []*referred
	if b.Attributes == "lead" {
		for _, l := range sorted {
			if l.Referrer == to && !l.ConvertedAt.IsZero() && b.inTime(l, l.ConvertedAt, zone) {
				out = append(out, &referred{l, l.ConvertedAt})
			}
		}
	} else {
		first := map[partner.CustomerID]time.Time{}
		for _, l := range sorted {
			if at, ok := first[l.Customer]; !l.ConvertedAt.IsZero() && (!ok || l.ConvertedAt.Before(at)) {
				first[l.Customer] = l.ConvertedAt
			}
		}
		winner := map[partner.CustomerID]*referred{}
		for _, l := range sorted {
			at, ok := first[l.Customer]
			if ok && b.inTime(l, at, zone) && (winner[l.Customer] == nil || b.Touch == "last") {
				winner[l.Customer] = &referred{l, at}
			}
		}
		for _, c := range sortedKeys(winner) {
			if w := winner[c]; w.Referrer == to {
				out = append(out, w)
			}
		}
	}
	out = slices.DeleteFunc(out, func(l *referred) bool {
		return !l.CancelledAt.IsZero() && l.CancelledAt.Before(l.convertedAt)
	})
	slices.SortFunc(out, func(x, y *referred) int {
		return cmp.Or(x.convertedAt.Compare(y.convertedAt), strings.Compare(x.ID, y.ID))
	})
	return out
}

func priceReferrals(p *pricer) error {
	for _, s := range p.segments {
		for i := range s.Terms.Rules {
			r := &s.Terms.Rules[i]
			b, ok := r.Body.(*Referral)
			if !ok {
				continue
			}
			j := &referralJob{p: p, s: s, r: r, b: b, seen: map[string]bool{}}
			to := b.party(s.Terms, b.To)
			j.leads = b.won(p.in.Leads, to, s.Terms.Zone)
			for _, l := range p.in.Leads {
				if l.Referrer == to && s.Period.Contains(l.ConvertedAt) && b.tooLate(l, l.ConvertedAt, s.Terms.Zone) {
					p.took(s, r, wentTooLate, 0, "")
				}
			}
			if b.Flat != nil {
				j.flat()
			} else {
				j.percent()
			}
			j.clawBack()
		}
	}
	return nil
}

// referralJob prices one referral rule in one segment.
type referralJob struct {
	p     *pricer
	s     *segment
	r     *Rule
	b     *Referral
	leads []*referred
	seen  map[string]bool // leads counted on the line
	of    *transaction    // the sale or refund that is being booked; nil: none
}

// took notes that the rule went a way.
func (j *referralJob) took(outcome string) { j.p.took(j.s, j.r, outcome, 0, "") }

// afterTerm reports whether only the term keeps a sale from earning commission.
func (j *referralJob) afterTerm(l *referred, t *transaction) bool {
	endless := *j.b
	endless.Term = Duration{}
	return !l.active(j.b, t.Time, j.s.Terms.Zone) && l.active(&endless, t.Time, j.s.Terms.Zone)
}

// paid is the running commission of a scope.
func (j *referralJob) paid(scope string) *Total {
	k := totalKey{j.s.Terms.Contract, j.r.ID, "paid", scope}
	t := j.p.totals[k]
	if t == nil {
		t = &Total{Contract: k.contract, Rule: k.rule, What: k.what, Scope: scope, Since: j.s.Terms.From}
		j.p.totals[k] = t
	}
	return t
}

// book puts a commission (or its return, negative) on the lines of both parties.
func (j *referralJob) book(part string, l *referred, app partner.AppID, what string, of, times decimal.Decimal, typ string, base bool) {
	from, to := j.b.party(j.s.Terms, j.b.From), j.b.party(j.s.Terms, j.b.To)
	put := func(party, payer partner.ID, sign decimal.Decimal) {
		if party == partner.Platform {
			return
		}
		b := j.p.line(j.s, j.r, part, "", party, payer)
		b.Class, b.Events.Class = metering.Referral, ""
		b.Events.Apps = slices.Clone(j.r.Apps)
		b.behind(typ)
		b.Text = cmp.Or(j.r.Text, "Referral of customers")
		if part == "clawback" {
			b.Text = cmp.Or(j.r.Text, "Referral of customers") + ", taken back"
		}
		if j.b.Percent != nil {
			b.Rate = Percent(*j.b.Percent)
		} else {
			b.Rate = j.b.Flat.StringFixed(j.s.Terms.Currency.Digits()) + " each"
		}
		is := b.add(what, of, times.Mul(sign))
		if j.of != nil {
			b.exchange(j.of, one)
		}
		if base {
			b.addBase(of)
		}
		events := int64(0)
		if k := part + "\x00" + string(party) + "\x00" + l.ID; !j.seen[k] {
			j.seen[k], events = true, 1
			b.Count++
		}
		b.allocate(app, l.Customer, events, is)
		if !j.b.Term.IsZero() && part == "referral" {
			b.note(fmt.Sprintf("%s: month %d of its term of %s", l.Customer, j.monthOf(l), j.b.Term))
		}
	}
	put(to, from, decimal.NewFromInt(1))
	put(from, to, decimal.NewFromInt(-1))
}

// monthOf is which month since conversion this one is, from 1.
func (j *referralJob) monthOf(l *referred) int {
	m := period.MonthOf(l.convertedAt, j.s.Terms.Zone)
	return (j.p.in.Month.Year-m.Year)*12 + int(j.p.in.Month.Month-m.Month) + 1
}

// flat pays each lead once, in the segment that holds its conversion.
func (j *referralJob) flat() {
	for _, l := range j.leads {
		if !j.s.Period.Contains(l.convertedAt) || !j.about(l.App) {
			continue
		}
		lead, customer := j.paid("lead:"+l.ID), j.paid("customer:"+string(l.Customer))
		if lead.Value.IsPositive() {
			continue
		}
		pay := j.capped(*j.b.Flat, customer)
		what := fmt.Sprintf("lead %s, converted %s", l.ID, period.DateOf(l.convertedAt, j.s.Terms.Zone).Short())
		if pay.LessThan(*j.b.Flat) {
			what += ", up to the cap"
			j.took(wentMost)
		} else {
			j.took(wentPrice)
		}
		lead.Value, customer.Value = lead.Value.Add(pay), customer.Value.Add(pay)
		j.book("referral", l, l.App, what, decimal.NewFromInt(1), pay, metering.LeadConverted, false)
	}
}

func (j *referralJob) capped(pay decimal.Decimal, customer *Total) decimal.Decimal {
	if j.b.Cap == nil {
		return pay
	}
	return decimal.Max(decimal.Zero, decimal.Min(pay, j.b.Cap.Sub(customer.Value)))
}

// about reports whether the rule is about an app; without apps it is about all.
func (j *referralJob) about(app partner.AppID) bool {
	return len(j.r.Apps) == 0 || app == "" || slices.Contains(j.r.Apps, app)
}

// lead is the lead that a sale belongs to.
func (j *referralJob) lead(t *transaction) *referred {
	for _, l := range j.leads {
		switch {
		case t.Customer != l.Customer:
		case j.b.Attributes == "customer", t.Data.Lead == l.ID, t.Data.Lead == "" && l.App != "" && t.Data.App == l.App:
			return l
		}
	}
	return nil
}

// percent pays on the referred customers' sales and takes back on refunds.
func (j *referralJob) percent() {
	for i := range j.s.transactions {
		t := &j.s.transactions[i]
		sale := t.Type == metering.SalePaid
		if !sale && t.Type != metering.SaleRefunded && t.Type != metering.SaleChargebackLost ||
			t.state == "sandbox" || !j.about(t.Data.App) {
			continue
		}
		l := j.lead(t)
		if l == nil {
			continue
		}
		active := l.active(j.b, t.Time, j.s.Terms.Zone)
		original := j.p.originals[originalKey{t.Source, t.Data.RefersTo, j.s.Terms.Contract, j.r.ID}]
		if sale && j.afterTerm(l, t) {
			j.took(wentAfter)
		}
		if sale && !active || !sale && original == nil && !active {
			continue
		}
		if !sale {
			j.p.convertBack(j.s, t, original)
		}
		amount, why := j.s.amount(t)
		if why != "" {
			t.unpriced(why)
			continue
		}
		t.priced(j.r)
		j.of = t
		if sale {
			j.earn(l, t, amount)
		} else {
			j.giveBack(l, t, amount, original)
		}
	}
	j.of = nil
}

func (j *referralJob) earn(l *referred, t *transaction, amount decimal.Decimal) {
	lead, customer := j.paid("lead:"+l.ID), j.paid("customer:"+string(l.Customer))
	full := amount.Mul(*j.b.Percent)
	if j.s.Terms.Round.Per == "transaction" {
		full = j.s.Terms.Round.decimal(full, j.s.Terms.Currency)
	}
	pay := j.capped(full, customer)
	what := "sales of " + string(l.Customer) + " at " + Percent(*j.b.Percent)
	if pay.Equal(full) {
		j.took(wentPrice)
	} else {
		j.took(wentMost)
	}
	if j.s.Terms.Round.Per == "transaction" || !pay.Equal(full) {
		what = "sales of " + string(l.Customer)
		if !pay.Equal(full) {
			what += ", up to the cap"
		}
		j.book("referral", l, t.Data.App, what, pay, decimal.NewFromInt(1), t.Type, false)
	} else {
		j.book("referral", l, t.Data.App, what, amount, *j.b.Percent, t.Type, true)
	}
	lead.Value, customer.Value = lead.Value.Add(pay), customer.Value.Add(pay)
	j.p.attribute(&Attribution{
		Sale: t.Key, Source: t.Source, ID: t.ID, Contract: j.s.Terms.Contract, Rule: j.r.ID,
		App: t.Data.App, Customer: t.Customer, Month: j.p.in.Month, Amount: amount, Fee: pay, Adjusted: pay, Exchange: t.rate(),
	})
}

func (j *referralJob) giveBack(l *referred, t *transaction, amount decimal.Decimal, original *Attribution) {
	lead, customer := j.paid("lead:"+l.ID), j.paid("customer:"+string(l.Customer))
	back := amount.Mul(*j.b.Percent)
	if original != nil && !original.Amount.IsZero() {
		back = original.Fee.Mul(decimal.Min(decimal.NewFromInt(1), amount.DivRound(original.Amount, refundPlaces)))
	}
	if j.s.Terms.Round.Per == "transaction" {
		back = j.s.Terms.Round.decimal(back, j.s.Terms.Currency)
	}
	back = decimal.Min(back, decimal.Max(lead.Value, decimal.Zero)) // never more than was paid
	j.took(wentRefund)
	lead.Value, customer.Value = lead.Value.Sub(back), customer.Value.Sub(back)
	j.book("clawback", l, t.Data.App, "refunds of "+string(l.Customer), back, decimal.NewFromInt(-1), t.Type, false)
}

// clawBack takes back what a lead was paid when it is cancelled, or a sale that names
// it is refunded under a flat commission, within the clawback time after conversion.
func (j *referralJob) clawBack() {
	if j.b.Clawback.IsZero() {
		return
	}
	for _, l := range j.leads {
		at, typ := l.CancelledAt, metering.LeadCancelled
		if j.b.Flat != nil {
			for i := range j.s.transactions {
				t := &j.s.transactions[i]
				if (t.Type == metering.SaleRefunded || t.Type == metering.SaleChargebackLost) && t.Data.Lead == l.ID &&
					t.state != "sandbox" && (at.IsZero() || t.Time.Before(at)) {
					at, typ = t.Time, t.Type
					t.priced(j.r)
				}
			}
		}
		if at.IsZero() || !j.s.Period.Contains(at) ||
			j.b.Clawback.after(period.DateOf(l.convertedAt, j.s.Terms.Zone)).Before(period.DateOf(at, j.s.Terms.Zone)) {
			continue
		}
		lead := j.paid("lead:" + l.ID)
		if !lead.Value.IsPositive() {
			continue
		}
		customer := j.paid("customer:" + string(l.Customer))
		day := period.DateOf(at, j.s.Terms.Zone).Short()
		what := fmt.Sprintf("lead %s, cancelled %s", l.ID, day)
		if typ != metering.LeadCancelled {
			what = fmt.Sprintf("lead %s, sale refunded %s", l.ID, day)
		}
		j.took(wentClawback)
		j.book("clawback", l, l.App, what, lead.Value, decimal.NewFromInt(-1), typ, false)
		customer.Value = customer.Value.Sub(lead.Value)
		lead.Value = decimal.Zero
	}
}
