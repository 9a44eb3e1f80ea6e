package billing

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Where the partner takes its customers' money, our part of it is a receivable: an
// account of its own, beside what we owe the partner, which no payout spends. What the
// partner owes is taken from what we owe it where a contract says so; else it is
// invoiced, by the statement, and received.

// Owed is the account of what a partner owes us because it collects.
type Owed struct {
	Charged money.Amount `json:"charged"` // by this statement; negative: credited, down to nothing owed
	SetOff  money.Amount `json:"set_off"` // taken from what we owe the partner
	Account []Movement   `json:"account"` // from opening to closing; positive: the partner owes it
}

// under says what the line's contract means for the books.
func (l Line) under(t *pricing.Terms) Line {
	if t != nil {
		l.Processor = t.Processor
		l.Direct = t.Collects == pricing.PartnerCollects && l.Party == t.Partner
		l.Principal = t.Presentation == pricing.Principal && l.Party == t.Partner
	}
	return l
}

// toPayable is what the statement earned without what is on the account of what the
// partner owes us.
func (s Statement) toPayable() money.Amount {
	if s.Owed == nil {
		return s.Earned
	}
	return must(s.Earned.Add(s.Owed.Charged))
}

// Owes is what the partner owes us after the month because it collects.
func (s Statement) Owes() money.Amount {
	if s.Owed == nil {
		return money.New(0, s.Currency)
	}
	return s.Owed.Account[len(s.Owed.Account)-1].Amount
}

func (s Statement) setOffID() string { return "setoff:" + string(s.ID) }

// setOffEntry books what was taken from what we owe the partner.
func (s Statement) setOffEntry() *ledger.Entry {
	if s.Owed == nil || s.Owed.SetOff.IsZero() {
		return nil
	}
	p := string(s.Partner)
	return &ledger.Entry{
		ID: s.setOffID(), Kind: "setoff", ValueOn: s.Month.Last(), BookedOn: s.Month.Last(),
		Memo: fmt.Sprintf("statement %s of %s: what it owes us, set off against what we owe", s.Month, s.Partner),
		Postings: []ledger.Posting{
			{Account: ledger.PayablePending(p), Amount: s.Owed.SetOff},
			{Account: ledger.ReceivablePartner(p), Amount: s.Owed.SetOff.Neg()},
		},
	}
}

// charge moves the account of what the partner owes us by the lines of contracts under
// which it collects. What these lines credit beyond what is owed we owe the partner.
func (c *run) charge(ctx context.Context, s *Statement) error {
	lines, direct := money.New(0, s.Currency), false
	var err error
	for _, l := range s.Lines {
		if l.Direct {
			direct = true
			if lines, err = lines.Add(l.Amount); err != nil {
				return err
			}
		}
	}
	own := map[string]bool{s.EntryID(): true, s.setOffID(): true}
	account, err := c.movements(ctx, *s, ledger.ReceivablePartner(string(s.Partner)), own)
	if err != nil {
		return err
	}
	before := money.New(0, s.Currency)
	for i := range account { // what was read is a credit where it is positive
		account[i].Amount = account[i].Amount.Neg()
		if before, err = before.Add(account[i].Amount); err != nil {
			return err
		}
	}
	direct = direct || slices.ContainsFunc(s.Terms, func(t TermsRef) bool { return t.Collects == pricing.PartnerCollects })
	if !direct && len(account) == 1 && before.IsZero() {
		return nil
	}
	charged := lines.Neg()
	if after, err := before.Add(charged); err != nil {
		return err
	} else if after.Minor < 0 {
		charged = before.Neg()
	}
	account = append(account, Movement{What: "Charged", Kind: "charged", Amount: charged})
	s.Owed = &Owed{Charged: charged, SetOff: money.New(0, s.Currency), Account: account}
	return nil
}

// setOff takes what the partner owes us from what we owe it, where a contract says so:
// from all that is payable at the month's end and not held. It ends the account.
func (c *run) setOff(ctx context.Context, s *Statement, a account, payable []Movement) ([]Movement, error) {
	if s.Owed == nil {
		return payable, nil
	}
	var err error
	if pricing.PayoutOf(a.inForce).SetOff {
		held, err := c.credit(ctx, ledger.PayableHeld(string(s.Partner)), s.Currency, s.Month.Last())
		if err != nil {
			return nil, err
		}
		free, owes := held.Neg(), money.New(0, s.Currency)
		for _, m := range payable {
			if free, err = free.Add(m.Amount); err != nil {
				return nil, err
			}
		}
		for _, m := range s.Owed.Account {
			if owes, err = owes.Add(m.Amount); err != nil {
				return nil, err
			}
		}
		s.Owed.SetOff = money.New(max(0, min(free.Minor, owes.Minor)), s.Currency)
	}
	if off := s.Owed.SetOff; !off.IsZero() {
		s.Owed.Account = append(s.Owed.Account, Movement{"Set off against what we owe you", "set off", off.Neg()})
		payable = append(payable, Movement{"Set off against what you owe us", "set off", off.Neg()})
	}
	s.Owed.Account, err = closeMovements(s.Owed.Account, s.Month)
	return payable, err
}

// who says whose customers' money it is, and whose sale.
func (s Statement) who() string {
	direct, principal := 0, 0
	for _, t := range s.Terms {
		if t.Collects == pricing.PartnerCollects {
			direct++
		}
		if t.Presentation == pricing.Principal {
			principal++
		}
	}
	switch all := len(s.Terms); {
	case direct == 0 && principal == 0:
		return "We collect as your agent."
	case direct == all:
		return "You collect; we charge you our part."
	case principal == all:
		return "We sell to your customers in our own name."
	case principal == 0:
		return "We collect as your agent, and you where it says so."
	}
	return "We collect as your agent or sell in our own name, as agreed."
}

// oweText says what becomes of what the partner owes.
func (s Statement) oweText() string {
	switch {
	case s.Owes().IsZero() && !s.Owed.SetOff.IsZero():
		return "all was set off against what we owe you"
	case s.Owes().IsZero():
		return "nothing"
	case s.Owed.SetOff.IsZero():
		return "please pay, naming " + string(s.ID)
	}
	return "after set-off; please pay, naming " + string(s.ID)
}

// writeOwed writes the account of what the partner owes, if it collects.
func (s Statement) writeOwed(b *bufio.Writer) {
	if s.Owed == nil {
		return
	}
	row := func(what string, a money.Amount) {
		fmt.Fprintln(b, pad("   "+short(what, textWidth+2), textWidth+7)+left(a.Grouped(), 16))
	}
	fmt.Fprintln(b, pad("   What you collected and owe us of it", textWidth+7)+left("you owe", 16))
	for i, m := range s.Owed.Account {
		what := m.What
		if i == len(s.Owed.Account)-1 {
			what += " = our ledger"
		}
		row(what, m.Amount)
	}
	fmt.Fprintln(b)
}

// Received is what a partner paid us of what it owes.
type Received struct {
	Partner         partner.ID   `json:"partner"`
	Reference       string       `json:"reference"` // of the payment, as the bank has it
	On              period.Date  `json:"on"`
	Amount          money.Amount `json:"amount"`
	Rail            string       `json:"rail"` // whose bank account it reached
	BookedOn        period.Date  `json:"booked_on"`
	By              string       `json:"by"` // who recorded it
	Unauthenticated bool         `json:"unauthenticated,omitempty"`
}

// Same reports whether two say the same of a payment, whoever recorded it and when.
func (r Received) Same(other Received) bool {
	r.BookedOn, r.By, r.Unauthenticated = other.BookedOn, other.By, other.Unauthenticated
	return r == other
}

// Entry books the payment. It is refused if the partner owes less.
func (r Received) Entry() ledger.Entry {
	owes, none := ledger.ReceivablePartner(string(r.Partner)), int64(0)
	return ledger.Entry{
		ID: fmt.Sprintf("received:%s:%s", r.Partner, r.Reference), Kind: "received", ValueOn: r.On, BookedOn: r.BookedOn,
		Memo: fmt.Sprintf("%s pays what it owes, %s", r.Partner, r.Reference),
		Postings: []ledger.Posting{
			{Account: ledger.Cash(r.Rail), Amount: r.Amount},
			{Account: owes, Amount: r.Amount.Neg()},
		},
		Guards: []ledger.Guard{{Account: owes, Currency: r.Amount.Currency, Min: &none}},
	}
}

// Receive books what a partner paid us. The same again is nothing; under a reference that
// is known with other figures it fails with ErrConflict, and with [ledger.ErrGuard] if
// the partner owes less.
func (c *Closer) Receive(ctx context.Context, r Received) (Received, bool, error) {
	switch {
	case r.Amount.Minor <= 0:
		return r, false, errors.New("received: the amount must be above zero")
	case r.Reference == "":
		return r, false, errors.New("received: the payment's reference is needed: --reference TEXT; it tells one payment from another")
	case r.By == "":
		return r, false, errors.New("received: the name of who records it is needed: --as NAME")
	}
	var err error
	if r.BookedOn, err = c.Store.BookedOn(ctx, r.On); err != nil {
		return r, false, err
	}
	isNew, err := c.Store.CommitReceived(ctx, r, r.Entry())
	if errors.Is(err, ledger.ErrGuard) {
		return r, false, fmt.Errorf("received: %s of %s is more than %s owes; mete receivable list shows what that is: %w", r.Reference, r.Amount, r.Partner, err)
	}
	if err != nil {
		return r, false, fmt.Errorf("received: %s of %s: %w", r.Reference, r.Partner, err)
	}
	return r, isNew, nil
}

// reconcileReceived compares what partners paid with what was booked for it.
func (c *Reconciler) reconcileReceived(ctx context.Context, r *Reconciliation) error {
	all, err := c.Store.Received(ctx)
	if err != nil {
		return err
	}
	known := map[string]ledger.Entry{}
	for _, k := range all {
		e := k.Entry()
		e.Guards = nil
		known[e.ID] = e
	}
	for e, err := range c.Ledger.Entries(ctx, ledger.Filter{Kind: "received"}) {
		if err != nil {
			return err
		}
		want, ok := known[e.ID]
		switch {
		case !ok:
			r.Findings = append(r.Findings, Finding{"received", e.ID, "a payment of a partner", "none, but " + describeEntry(e) + " is booked"})
		case digestOf(want) != digestOf(e):
			r.Findings = append(r.Findings, Finding{"received", e.ID, describeEntry(want), describeEntry(e)})
		}
		delete(known, e.ID)
	}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		r.Findings = append(r.Findings, Finding{"received", id, describeEntry(known[id]), "not booked"})
	}
	return nil
}

// Receivable is what one partner owes us in one currency because it collects, by the
// statements that charged it. What it paid, what was set off and what was credited counts
// for the oldest first.
type Receivable struct {
	Partner  partner.ID     `json:"partner"`
	Currency money.Currency `json:"currency"`
	Total    money.Amount   `json:"total"`
	Items    []OpenItem     `json:"items"`
}

// OpenItem is what is not paid of one statement.
type OpenItem struct {
	Statement StatementID  `json:"statement"`
	Month     period.Month `json:"month"`
	Charged   money.Amount `json:"charged"`
	Open      money.Amount `json:"open"`
	Days      int          `json:"days"` // since the month's end
}

// Receivables are what partners owe us on a day, as booked by then, oldest item first.
func (c *Closer) Receivables(ctx context.Context, on period.Date) ([]Receivable, error) {
	statements, err := c.Store.Statements(ctx, period.Month{}, "")
	if err != nil {
		return nil, err
	}
	open := map[accountKey]*Receivable{}
	for _, s := range statements {
		if s.Owed == nil || on.Before(s.Month.Last()) {
			continue
		}
		k := accountKey{s.Partner, s.Currency}
		if open[k] == nil {
			open[k] = &Receivable{Partner: s.Partner, Currency: s.Currency}
		}
		if s.Owed.Charged.Minor > 0 {
			open[k].Items = append(open[k].Items, OpenItem{s.ID, s.Month, s.Owed.Charged, s.Owed.Charged, s.Month.Last().DaysUntil(on)})
		}
	}
	out := []Receivable{}
	for _, k := range slices.SortedFunc(maps.Keys(open), compareAccounts) {
		r := open[k]
		credit, err := c.credit(ctx, ledger.ReceivablePartner(string(k.partner)), k.currency, on)
		if err != nil {
			return nil, err
		}
		r.Total = credit.Neg()
		paid := r.Total.Neg()
		for _, i := range r.Items {
			if paid, err = paid.Add(i.Charged); err != nil {
				return nil, err
			}
		}
		if paid.Minor < 0 {
			return nil, fmt.Errorf("receivable of %s: the books hold %s, the statements charged %s less: run mete reconcile", k.partner, r.Total, paid.Neg())
		}
		for i := range r.Items {
			take := min(paid.Minor, r.Items[i].Open.Minor)
			paid.Minor, r.Items[i].Open.Minor = paid.Minor-take, r.Items[i].Open.Minor-take
		}
		r.Items = slices.DeleteFunc(r.Items, func(i OpenItem) bool { return i.Open.IsZero() })
		slices.SortStableFunc(r.Items, func(a, b OpenItem) int {
			return cmp.Or(a.Month.Compare(b.Month), cmp.Compare(a.Statement, b.Statement))
		})
		if !r.Total.IsZero() {
			out = append(out, *r)
		}
	}
	return out, nil
}
