package billing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// replyDays is how long after the month's end a partner may question a line.
const replyDays = 100

// account is what one partner's statement in one currency is assembled from.
type account struct {
	partner     partner.Partner
	currency    money.Currency
	zone        string
	terms       []TermsRef
	inForce     []*pricing.Terms // in order of contract and beginning
	priced      []Line
	corrections []Line
	adjustments []Line
	due         []Layer    // layers released in this month
	open        []Layer    // layers that stay
	deferred    []Deferred // what earlier statements charged to be earned over months
	evidence    Evidence
}

// assemble makes the statement of an account. Everything it adds comes from the
// books as they were booked up to the month's end, its own entries left out.
func (c *run) assemble(ctx context.Context, m period.Month, a account) (Statement, error) {
	snap := c.snapshots[m]
	market := snap.Marketplace
	s := Statement{
		ID: NewStatementID(market.Entity, a.partner.ID, a.currency, m), Entity: market.Entity,
		Market: market.Name, Contact: market.Contact,
		Partner: a.partner.ID, Name: a.partner.Name, Currency: a.currency, Month: m, Zone: a.zone, Terms: a.terms,
		Evidence: a.evidence, ReplyBy: m.Last().AddDays(replyDays),
	}
	if err := s.addLines(a); err != nil {
		return Statement{}, fmt.Errorf("statement %s: %w", s.ID, err)
	}
	if err := s.reserve(a); err != nil {
		return Statement{}, fmt.Errorf("statement %s: reserve: %w", s.ID, err)
	}
	if err := s.earn(a.deferred); err != nil {
		return Statement{}, fmt.Errorf("statement %s: deferred: %w", s.ID, err)
	}
	if err := c.balances(ctx, &s, a); err != nil {
		return Statement{}, fmt.Errorf("statement %s: balances: %w", s.ID, err)
	}
	before, err := c.Store.Statement(ctx, NewStatementID(market.Entity, a.partner.ID, a.currency, m.Add(-1)))
	switch {
	case err == nil:
		s.Before = &Rate{before.Month, before.Charges, before.NetSales}
	case !errors.Is(err, ErrNotFound):
		return Statement{}, fmt.Errorf("statement %s: last month's: %w", s.ID, err)
	}
	if a.partner.Payee.Rail != "" {
		s.PayTo = a.partner.Payee.Rail + " ****" + a.partner.Payee.Last4
	}
	payout := pricing.PayoutOf(a.inForce)
	s.Minimum, s.Keep = payout.Minimum, payout.Keep
	if s.PayOn, s.Due, err = payDays(snap, m, a.inForce); err != nil {
		return Statement{}, fmt.Errorf("statement %s: pay date: %w", s.ID, err)
	}
	s.comes(before.Coming)
	return s, nil
}

// addLines puts the lines in the order of the page and adds them up.
func (s *Statement) addLines(a account) error {
	lines := slices.Concat(a.priced, a.corrections, a.adjustments)
	slices.SortStableFunc(lines, func(x, y Line) int {
		return cmp.Or(cmp.Compare(x.Section, y.Section), x.Corrects.Compare(y.Corrects), cmp.Compare(partOrder(x), partOrder(y)))
	})
	s.Earned, s.NetSales, s.Charges = money.New(0, s.Currency), money.New(0, s.Currency), money.New(0, s.Currency)
	var err error
	for i := range lines {
		l := &lines[i]
		l.Number = i + 1
		if s.Earned, err = s.Earned.Add(l.Amount); err != nil {
			return err
		}
		switch {
		case l.Part == "collected", l.Part == "accrued", l.Part == "contested":
		case l.Section == Sales:
			s.NetSales, err = s.NetSales.Add(l.Amount)
		case l.Section == Charges:
			s.Charges, err = s.Charges.Sub(l.Amount)
		}
		if err != nil {
			return err
		}
		if l.Adjustment == "" {
			s.Evidence.Counted += l.events()
		}
	}
	s.Lines = lines
	return nil
}

// events are the events that a line counts on its own account: sales and refunds for
// themselves, fees and usage for theirs. A share or quality line rests on the sales
// that stand above it.
func (l Line) events() int64 {
	if l.Part == "share" || l.Part == "quality" {
		return 0
	}
	return l.Count
}

// partOrder is where a part stands inside its section.
func partOrder(l Line) int {
	return slices.Index(pricing.Parts(), l.Part)
}

// section is where a priced line stands.
func section(l pricing.Line) Section {
	switch l.Part {
	case "sales", "refunds", "chargebacks", "written_off", "collected", "accrued", "contested":
		return Sales
	case "referral", "clawback":
		if l.Part == "referral" && l.Amount.Minor < 0 || l.Part == "clawback" && l.Amount.Minor > 0 {
			return Charges
		}
		return Besides
	case "split", "guarantee", "pass_through", "tax":
		return Besides
	}
	return Charges
}

// line is the adjustment as a statement shows it.
func (a Adjustment) line(m period.Month) Line {
	sec := Corrections
	return Line{
		Section: sec, Adjustment: a.ID, Account: a.Account, Corrects: a.Corrects, Cause: a.Reason,
		Line: pricing.Line{
			LineKey: pricing.LineKey{Rule: a.ID, Part: "adjustment", Month: m, Currency: a.Amount.Currency, Party: a.Partner},
			Kind:    "adjustment", Payer: partner.Platform, Amount: a.Amount, Exact: a.Amount.Decimal(),
			Text: "Adjustment " + a.ID + ": " + a.Reason,
			Derivation: []pricing.Step{{
				What: fmt.Sprintf("agreed by %s and %s", a.ProposedBy, a.ApprovedBy),
				Of:   a.Amount.Decimal(), Times: decimal.NewFromInt(1), Is: a.Amount.Decimal(),
			}},
		},
	}
}

// reserve keeps the contract's part of this month and releases what is due.
func (s *Statement) reserve(a account) error {
	for _, l := range a.due {
		s.Releases = append(s.Releases, Release{Layer: l, On: l.ReleaseOn})
	}
	s.Layers = a.open
	var lines []pricing.Line // of the month itself
	for _, l := range s.Lines {
		if l.Section != Corrections {
			lines = append(lines, l.Line)
		}
	}
	payout := pricing.PayoutOf(a.inForce)
	base, kept, err := payout.Reserved(lines, s.Currency)
	if err != nil || kept.IsZero() {
		return err
	}
	r := payout.Reserve
	s.Kept = &Kept{
		Rate: r.Rate.Shift(2).String() + "%", Of: r.Of, Base: base, Amount: kept,
		ReleaseOn: s.Month.Last().AddDays(r.ReleaseAfter),
	}
	s.Layers = append(slices.Clone(s.Layers), Layer{
		Statement: s.ID, Partner: s.Partner, Month: s.Month, Amount: kept, ReleaseOn: s.Kept.ReleaseOn,
	})
	return nil
}

// balances fills in the movement of the partner's payable and reserve, as booked.
func (c *run) balances(ctx context.Context, s *Statement, a account) error {
	own := map[string]bool{s.EntryID(): true, "reserve:" + string(s.ID): true, s.setOffID(): true}
	for _, r := range s.Releases {
		own["release:"+string(r.Statement)] = true
	}
	payable, err := c.movements(ctx, *s, ledger.Payable(string(s.Partner)), own)
	if err != nil {
		return err
	}
	reserve, err := c.movements(ctx, *s, ledger.ReserveOf(string(s.Partner)), own)
	if err != nil {
		return err
	}
	if err := c.accrue(ctx, s); err != nil {
		return err
	}
	if err := c.charge(ctx, s); err != nil {
		return err
	}
	earned := Movement{What: "Earned", Kind: "earned", Amount: s.toPayable()}
	if s.Owed != nil {
		earned.What = "Earned, what you owe us apart"
	}
	payable = append(payable, earned)
	if s.Kept != nil {
		what := fmt.Sprintf("Reserve: %s of %s (%s)", s.Kept.Rate, s.Kept.Base.Grouped(), strings.ReplaceAll(s.Kept.Of, "_", " "))
		payable = append(payable, Movement{what, "reserve", s.Kept.Amount.Neg()})
		reserve = append(reserve, Movement{what, "reserve", s.Kept.Amount})
	}
	for _, r := range s.Releases {
		what := fmt.Sprintf("Reserve of %s released %d %s", r.Month.Month, r.On.Day, r.On.Month)
		payable = append(payable, Movement{what, "release", r.Amount})
		reserve = append(reserve, Movement{what, "release", r.Amount.Neg()})
	}
	if payable, err = c.setOff(ctx, s, a, payable); err != nil {
		return err
	}
	if s.Payable, err = closeMovements(payable, s.Month); err != nil {
		return err
	}
	s.Reserve, err = closeMovements(reserve, s.Month)
	return err
}

// movementOrder is the order of kinds in the balance block.
var movementOrder = []string{"opening", "earned", "reserve", "release", "set off", "charged", "withheld", "paid", "returned", "received", "other", "closing"}

// movements are the opening balance of a liability and what was booked on it in the
// statement's month by others than the statement itself, credit positive.
func (c *run) movements(ctx context.Context, s Statement, prefix ledger.Account, own map[string]bool) ([]Movement, error) {
	opening := money.New(0, s.Currency)
	bs, err := c.Ledger.Balances(ctx, ledger.Filter{Prefix: prefix, Currency: s.Currency, UpTo: s.Month.First().AddDays(-1), Booked: true})
	if err != nil {
		return nil, err
	}
	for _, b := range bs {
		if opening, err = opening.Sub(b.Amount); err != nil {
			return nil, err
		}
	}
	out := []Movement{{fmt.Sprintf("Opening %d %s", 1, s.Month.Month), "opening", opening}}
	f := ledger.Filter{Prefix: prefix, Currency: s.Currency, From: s.Month.First(), UpTo: s.Month.Last(), Booked: true}
	for e, err := range c.Ledger.Entries(ctx, f) {
		if err != nil {
			return nil, err
		}
		if own[e.ID] {
			continue
		}
		sum, tax := money.New(0, s.Currency), money.New(0, s.Currency) // tax: withheld from a payout, or given back with it
		for _, p := range e.Postings {
			if p.Amount.Currency != s.Currency {
				continue
			}
			switch {
			case p.Account.Under(prefix):
				sum, err = sum.Sub(p.Amount)
			case p.Account.Under(ledger.TaxesWithheld()):
				tax, err = tax.Add(p.Amount)
			}
			if err != nil {
				return nil, err
			}
		}
		if !sum.IsZero() && !tax.IsZero() {
			if sum, err = sum.Sub(tax); err != nil {
				return nil, err
			}
			out = append(out, Movement{"Tax withheld: " + e.Memo, "withheld", tax})
		}
		if !sum.IsZero() {
			out = append(out, Movement{e.Memo, movementKind(e.Kind, sum), sum})
		}
	}
	return out, nil
}

func movementKind(entryKind string, credit money.Amount) string {
	switch {
	case entryKind == "received":
		return "received"
	case entryKind != "payout":
		return "other"
	case credit.Minor > 0:
		return "returned"
	}
	return "paid"
}

// closeMovements sorts the rows and adds the closing balance.
func closeMovements(ms []Movement, m period.Month) ([]Movement, error) {
	slices.SortStableFunc(ms, func(a, b Movement) int {
		return slices.Index(movementOrder, a.Kind) - slices.Index(movementOrder, b.Kind)
	})
	sum := money.New(0, ms[0].Amount.Currency)
	var err error
	for _, x := range ms {
		if sum, err = sum.Add(x.Amount); err != nil {
			return nil, err
		}
	}
	return append(ms, Movement{fmt.Sprintf("Closing %d %s", m.Last().Day, m.Month), "closing", sum}), nil
}
