package payouts

import (
	"fmt"
	"strings"

	"mete/ledger"
	"mete/money"
)

// The kinds of entries that payouts post.
const (
	KindPayout = "payout"
	KindHold   = "hold"
)

// submitEntry moves what is paid from due to in transit. Its guard refuses it unless
// payable:due holds the amount.
func submitEntry(p Payout) ledger.Entry {
	due := ledger.PayableDue(string(p.Partner))
	return ledger.Entry{
		ID: "payout:" + p.ID + ":submit", Kind: KindPayout, ValueOn: p.PayOn,
		Memo:     fmt.Sprintf("Payout %s to %s up to %s", p.ID, p.Partner, p.UpTo),
		Postings: p.withTax(move(due, ledger.InTransit(p.Rail), p.Amount), 1),
		Guards:   []ledger.Guard{noDebit(due, p.Amount.Currency)},
	}
}

// withTax adds the tax that is withheld with a payment (sign 1), or is not owed to the
// authority any more since nothing was paid (-1), to what moves on payable:due.
func (p Payout) withTax(ps []ledger.Posting, sign int64) []ledger.Posting {
	if p.Withheld == nil {
		return ps
	}
	due, tax := ledger.PayableDue(string(p.Partner)), money.New(sign*p.Withheld.Amount.Minor, p.Amount.Currency)
	for i := range ps {
		if ps[i].Account == due {
			ps[i].Amount.Minor += tax.Minor // gross, which was one amount when it was planned
		}
	}
	return append(ps, ledger.Posting{Account: ledger.TaxWithheld(p.Withheld.Authority), Amount: tax.Neg()})
}

// confirmEntry books what a bank confirmed, given the state the payout was in.
func confirmEntry(p Payout, c Confirmation) ledger.Entry {
	due, transit, cash := ledger.PayableDue(string(p.Partner)), ledger.InTransit(p.Rail), ledger.Cash(p.Rail)
	e := ledger.Entry{Kind: KindPayout, ValueOn: c.BankOn}
	switch {
	case c.Outcome == Paid:
		e.ID, e.Memo = "payout:"+p.ID+":settle", fmt.Sprintf("Payout %s paid, %s", p.ID, c.BankRef)
		e.Postings = move(transit, cash, p.Amount)
	case c.Outcome == Refused:
		e.ID, e.Memo = "payout:"+p.ID+":fail", fmt.Sprintf("Payout %s failed, due again", p.ID)
		e.Postings = p.withTax(move(transit, due, p.Amount), -1)
	case p.State == Settled:
		e.ID, e.Memo = "payout:"+p.ID+":return", fmt.Sprintf("Payout %s returned, due again", p.ID)
		e.Postings = p.withTax(move(cash, due, p.Amount), -1)
	default: // returned before we heard that it was paid: the cash never counted as gone
		e.ID, e.Memo = "payout:"+p.ID+":return", fmt.Sprintf("Payout %s returned before it settled, due again", p.ID)
		e.Postings = p.withTax(move(transit, due, p.Amount), -1)
	}
	e.Memo = clean(e.Memo)
	return e
}

func holdEntry(h Hold) ledger.Entry {
	due, held := ledger.PayableDue(string(h.Partner)), ledger.PayableHeld(string(h.Partner))
	return ledger.Entry{
		ID: "hold:" + h.ID + ":place", Kind: KindHold, ValueOn: h.On,
		Memo:     clean(fmt.Sprintf("Hold %s on %s: %s", h.ID, h.Partner, h.Reason)),
		Postings: move(due, held, h.Amount),
		Guards:   []ledger.Guard{noDebit(due, h.Amount.Currency)},
	}
}

func releaseEntry(h Hold) ledger.Entry {
	due, held := ledger.PayableDue(string(h.Partner)), ledger.PayableHeld(string(h.Partner))
	return ledger.Entry{
		ID: "hold:" + h.ID + ":release", Kind: KindHold, ValueOn: h.ReleasedOn,
		Memo:     clean(fmt.Sprintf("Hold %s on %s released: %s", h.ID, h.Partner, h.ReleaseWhy)),
		Postings: move(held, due, h.Amount),
		Guards:   []ledger.Guard{noDebit(held, h.Amount.Currency)},
	}
}

// move debits one account and credits another.
func move(debit, credit ledger.Account, a money.Amount) []ledger.Posting {
	return []ledger.Posting{{Account: debit, Amount: a}, {Account: credit, Amount: a.Neg()}}
}

// noDebit refuses to take more from a liability than it holds.
func noDebit(a ledger.Account, c money.Currency) ledger.Guard {
	most := int64(0)
	return ledger.Guard{Account: a, Currency: c, Max: &most}
}

// clean keeps what people and banks wrote on one line of a journal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ';':
			return ','
		case r < ' ' || r == 0x7f:
			return ' '
		}
		return r
	}, s)
}
