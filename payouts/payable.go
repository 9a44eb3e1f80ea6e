package payouts

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"mete/money"
	"mete/period"
)

// reasons says why a candidate with something due is not paid now: all that stands in
// the way, most fundamental first. None means payable.
func (p *planner) reasons(c Candidate, due money.Amount) ([]Reason, error) {
	if due.Minor < 0 {
		since := ""
		if c.OwesSince != (period.Month{}) {
			since = " since " + c.OwesSince.Month.String()
			if c.OwesSince.Year != p.in.PayOn.Year {
				since += fmt.Sprintf(" %d", c.OwesSince.Year)
			}
		}
		return []Reason{{"owes", "owes us" + since, "next sales", "finance (write-off: two)",
			"the balance is in our favour; it is set off against later earnings or written off by two people"}}, nil
	}
	if due.Minor == 0 {
		return nil, nil
	}
	out, err := p.against(c)
	if err != nil {
		return nil, err
	}
	if len(c.Statements) > 0 && len(p.dueStatements(c)) == 0 {
		out = append(out, Reason{"no statement", "no statement is due yet", "one is due", "–", "a payout pays up to a named, issued statement that is due"})
	}
	if keep := p.kept(c, due); !keep.IsZero() && keep == due {
		out = append(out, keepReason(*c.Keep))
	} else if c.Minimum != nil && due.Minor-keep.Minor < c.Minimum.Minor {
		out = append(out, Reason{"minimum", "below " + c.Minimum.Grouped(), "next run", "–",
			"the contract pays from " + c.Minimum.Grouped() + "; the balance is carried forward"})
	}
	return out, nil
}

// against is what stands against paying a payee anything, whatever the amount.
//
// A payee without a tax form is not paid at all rather than paid less 24% backup
// withholding: withholding too much is hard to give back, and the form usually comes.
// Only where finance said from which day tax is withheld is it, see [WithholdingRule].
func (p *planner) against(c Candidate) ([]Reason, error) {
	var out []Reason
	add := func(r Reason) { out = append(out, r) }
	for _, h := range p.in.Holds {
		if h.Partner == c.Partner.ID && h.All {
			add(Reason{"hold", "on hold: " + h.Reason, p.until(h.Until, "released"), h.By,
				fmt.Sprintf("hold %s placed by %s on %s; it ends when released, not by date", h.ID, h.By, h.On)})
		}
	}
	if open, ok := p.in.Unfinished[c.Partner.ID]; ok {
		add(openReason(open))
	}
	if len(c.Statements) == 0 || slices.ContainsFunc(c.Statements, func(s Statement) bool { return s.IssuedOn.IsZero() }) {
		add(Reason{"no statement", "no issued statement", "one is issued", "finance", "a payout pays up to a named, issued statement"})
	}
	add2, err := p.account(c)
	if err != nil {
		return nil, err
	}
	return append(append(out, add2...), p.papers(c)...), nil
}

func openReason(o Payout) Reason {
	if o.State == Planned {
		return Reason{"open", o.ID + " planned", "run submitted", "finance",
			fmt.Sprintf("payout %s of run %s is open; a payee has one open payout in a currency", o.ID, o.Run)}
	}
	return Reason{"open", o.ID + " in transit", "bank confirms", "finance",
		fmt.Sprintf("payout %s of run %s is not confirmed; a payee has one open payout in a currency", o.ID, o.Run)}
}

// account says what is wrong with where the money would go.
func (p *planner) account(c Candidate) ([]Reason, error) {
	to := c.Partner.Payee
	if to.Account == "" {
		return []Reason{{"no account", "no bank account on file", "account comes", "partner", "there is nowhere to pay to"}}, nil
	}
	var out []Reason
	if c.AccountGone != "" {
		out = append(out, Reason{"account", c.AccountGone, "account works", "partner", "the rail would refuse the payment"})
	}
	if cmp.Or(to.Rail, p.in.Rail) != p.in.Rail {
		out = append(out, Reason{"rail", fmt.Sprintf("paid by %s, not %s", to.Rail, p.in.Rail), "its own run", "–",
			"a run pays by one rail; the payee's account is at another"})
	}
	if cmp.Or(to.Currency, p.in.Currency) != p.in.Currency {
		out = append(out, Reason{"currency", fmt.Sprintf("account takes %s, not %s", to.Currency, p.in.Currency), "account changes", "partner",
			"the account is in another currency, and this run converts nothing"})
	}
	if !to.ChangedOn.IsZero() {
		until, err := p.in.Calendar.AddBusinessDays(to.ChangedOn, p.in.Rules.CoolingOff)
		if err != nil {
			return nil, err
		}
		if p.in.PayOn.Before(until) {
			out = append(out, Reason{"changed", "account changed " + p.day(to.ChangedOn), p.day(until), "finance, two people",
				fmt.Sprintf("%d business days after a change of bank details nothing is paid, so that a false change is noticed", p.in.Rules.CoolingOff)})
			return out, nil
		}
	}
	if to.ConfirmedOn.IsZero() || p.in.PayOn.Before(to.ConfirmedOn) {
		out = append(out, Reason{"unconfirmed", "account not confirmed", "it is confirmed", "finance", "nobody has proven that the account belongs to the payee"})
	}
	return out, nil
}

// papers says which tax form or screening is missing.
func (p *planner) papers(c Candidate) []Reason {
	var out []Reason
	to := c.Partner.Payee
	form := cmp.Or(to.TaxForm, c.TaxWanted, "tax form")
	why := "without a valid form US law asks for 24% backup withholding; until finance decides on that, nothing is paid"
	switch {
	case p.withheldFrom(c): // decided: paid, less the tax
	case to.TaxForm == "":
		text := form + " missing"
		if c.TaxAsked > 0 {
			text += fmt.Sprintf(" (asked %d×)", c.TaxAsked)
		}
		out = append(out, Reason{"tax form", text, strings.TrimPrefix(form, "tax ") + " comes", "partner", why})
	case !to.TaxFormExpiresOn.IsZero() && !p.in.PayOn.Before(to.TaxFormExpiresOn):
		out = append(out, Reason{"tax form", form + " expired " + p.day(to.TaxFormExpiresOn), "new form", "partner", why})
	}
	switch on := to.ScreenedOn; {
	case on.IsZero():
		out = append(out, Reason{"screening", "not screened (OFAC, LEIE)", "screened", "finance", "sanctioned and excluded parties must not be paid"})
	case p.in.Rules.ScreeningDays > 0 && on.DaysUntil(p.in.PayOn) > p.in.Rules.ScreeningDays:
		out = append(out, Reason{"screening", "last screened " + p.day(on), "screened again", "finance",
			fmt.Sprintf("a clean screening counts for %d days", p.in.Rules.ScreeningDays)})
	}
	return out
}

func (p *planner) until(d period.Date, otherwise string) string {
	if d.IsZero() {
		return otherwise
	}
	return p.day(d)
}

// heldWhy names what keeps a payee's money on payable:held.
func (p *planner) heldWhy(c Candidate) string {
	var why []string
	for _, h := range p.in.Holds {
		if h.Partner == c.Partner.ID {
			why = append(why, h.Reason)
		}
	}
	if c.OpenDisputes != "" {
		why = append(why, c.OpenDisputes)
	}
	if len(why) == 0 {
		return "see payable:held in the ledger"
	}
	return strings.Join(why, "; ")
}
