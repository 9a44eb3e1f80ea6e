// Package billing closes months: it brings usage, contracts and the books together
// and makes statements that can be explained line by line and derived again.
//
// It refuses to know how events arrive, how SQL is written and how money is sent. A
// closed month is never edited: what comes late is priced again and its difference
// stands on the next statement. Read [Closer.Close] first, then [Statement.Entries].
package billing

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// StatementID names a statement by what it is of: entity.partner.currency.month.
type StatementID string

// NewStatementID makes the ID of a partner's statement.
func NewStatementID(entity string, p partner.ID, c money.Currency, m period.Month) StatementID {
	return StatementID(fmt.Sprintf("%s.%s.%s.%s", entity, p, strings.ToLower(string(c)), m))
}

// Statement is one partner's account of one month in one currency. All of it except
// State is content: it is fixed when the month closes and its digest is derived
// again by verify.
type Statement struct {
	ID       StatementID    `json:"id"`
	Entity   string         `json:"entity"`
	Market   string         `json:"market"` // name of the marketplace
	Contact  string         `json:"contact,omitempty"`
	Partner  partner.ID     `json:"partner"`
	Name     string         `json:"name"`
	Currency money.Currency `json:"currency"`
	Month    period.Month   `json:"month"`
	Zone     string         `json:"zone"`
	Terms    []TermsRef     `json:"terms"`
	Lines    []Line         `json:"lines"`
	Earned   money.Amount   `json:"earned"` // sum of the lines
	Payable  []Movement     `json:"payable"`
	Reserve  []Movement     `json:"reserve"`
	Owed     *Owed          `json:"owed,omitempty"`     // where the partner collects
	NotDue   *money.Amount  `json:"not_due,omitempty"`  // accrued at the month's end: the partner's part of what customers have not paid
	Layers   []Layer        `json:"layers,omitempty"`   // open reserve after this month
	Releases []Release      `json:"releases,omitempty"` // layers released in this month
	Kept     *Kept          `json:"kept,omitempty"`     // reserve kept from this month
	Earnings []Earning      `json:"earnings,omitempty"` // of fees that we earn over months
	NetSales money.Amount   `json:"net_sales"`
	Charges  money.Amount   `json:"charges"` // all our charges of the month, positive
	Before   *Rate          `json:"rate_before,omitempty"`
	Evidence Evidence       `json:"evidence"`
	PayTo    string         `json:"pay_to,omitempty"` // manual ****4417
	PayOn    period.Date    `json:"pay_on,omitempty"` // a business day
	Due      *pricing.Due   `json:"due,omitempty"`    // net terms: what the statement adds is not paid before
	Coming   []Coming       `json:"coming,omitempty"` // what this and earlier statements added that is not due at the month's end
	ReplyBy  period.Date    `json:"reply_by"`
	Minimum  *money.Amount  `json:"minimum,omitempty"`
	Keep     *money.Amount  `json:"keep,omitempty"` // stays on the account
}

// TermsRef names the version of a contract that priced the month.
type TermsRef struct {
	Contract string      `json:"contract"`
	Version  int         `json:"version"`
	Accepted period.Date `json:"accepted,omitempty"`
	By       string      `json:"accepted_by,omitempty"`

	Collects     string `json:"collects,omitempty"`     // partner
	Presentation string `json:"presentation,omitempty"` // principal
}

// Section is the part of the page a line stands in.
type Section string

// The sections of a statement, in order.
const (
	Sales       Section = "A" // your customers paid
	Charges     Section = "B" // our share and fees
	Besides     Section = "C" // we owe you besides
	Corrections Section = "D" // of closed months
)

// Line is a priced line, a correction or an adjustment, numbered on its statement.
type Line struct {
	Number  int     `json:"number"`
	Section Section `json:"section"`
	pricing.Line
	Corrects   period.Month  `json:"corrects,omitzero"`    // the closed month that this is a difference of
	Posted     *money.Amount `json:"posted,omitempty"`     // what that month's statements had posted under the key
	Recomputed *money.Amount `json:"recomputed,omitempty"` // what the key comes to now
	Cause      string        `json:"cause,omitempty"`
	Adjustment string        `json:"adjustment,omitempty"`   // ID of the adjustment this line carries
	Account    string        `json:"account_kind,omitempty"` // adjustments: income or expense kind
	Processor  string        `json:"processor,omitempty"`
	Direct     bool          `json:"direct,omitempty"`    // on the account of what the partner owes us, since it collects
	Principal  bool          `json:"principal,omitempty"` // of a sale in our own name
	Defers     *Fee          `json:"defers,omitempty"`    // adjustments: the fee, earned over months, that it gives back
}

// Movement is one row of the balance block.
type Movement struct {
	What   string       `json:"what"`
	Kind   string       `json:"kind"` // opening | earned | reserve | release | paid | returned | other | closing
	Amount money.Amount `json:"amount"`
}

// Kept is the reserve kept from this month.
type Kept struct {
	Rate      string       `json:"rate"`
	Of        string       `json:"of"`
	Base      money.Amount `json:"base"`
	Amount    money.Amount `json:"amount"`
	ReleaseOn period.Date  `json:"release_on"`
}

// Layer is reserve that was kept with one statement and waits for its date.
type Layer struct {
	Statement StatementID  `json:"statement"`
	Partner   partner.ID   `json:"partner"`
	Month     period.Month `json:"month"`
	Amount    money.Amount `json:"amount"`
	ReleaseOn period.Date  `json:"release_on"`
}

// Release is a layer given back.
type Release struct {
	Layer
	On period.Date `json:"on"`
}

// Rate is our charges as a part of net sales.
type Rate struct {
	Month    period.Month `json:"month"`
	Charges  money.Amount `json:"charges"`
	NetSales money.Amount `json:"net_sales"`
}

// Evidence counts the events behind the statement.
type Evidence struct {
	Counted    int64 `json:"counted"` // the counts of the lines and the facts behind lines without one
	Duplicates int64 `json:"duplicates"`
	Conflicts  int64 `json:"conflicts"`
	Unpriced   int64 `json:"unpriced"`
	NoRate     int64 `json:"no_rate,omitempty"` // not converted: no exchange rate was there
	Sandbox    int64 `json:"sandbox"`
}

// Digest is the SHA-256 of the statement's canonical JSON.
func (s Statement) Digest() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("billing: internal error: statement does not marshal: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Line returns the line with the number.
func (s Statement) Line(n int) (Line, error) {
	for _, l := range s.Lines {
		if l.Number == n {
			return l, nil
		}
	}
	return Line{}, fmt.Errorf("statement %s has no line %d; it has lines 1 to %d", s.ID, n, len(s.Lines))
}

// Closing is what the month leaves payable.
func (s Statement) Closing() money.Amount { return s.Payable[len(s.Payable)-1].Amount }

// ClosingReserve is what the month leaves in reserve.
func (s Statement) ClosingReserve() money.Amount { return s.Reserve[len(s.Reserve)-1].Amount }

// ToPending is what the statement moves into the partner's pending account: earned,
// less reserve kept, plus reserve released, without what is on the account of what it
// owes us, and less what is set off against that. Issuing moves it on to due.
func (s Statement) ToPending() money.Amount {
	sum := s.toPayable()
	if s.Owed != nil {
		sum = must(sum.Sub(s.Owed.SetOff))
	}
	if s.Kept != nil {
		sum = must(sum.Sub(s.Kept.Amount))
	}
	for _, r := range s.Releases {
		sum = must(sum.Add(r.Amount))
	}
	return sum
}

// Entries are the books' side of the statement: one entry for what was earned, one
// for reserve kept, one for each layer released, one for what is set off, one for what
// we earned of fees charged ahead. The same statement always gives the
// same entries.
func (s Statement) Entries() ([]ledger.Entry, error) {
	b := newPostings(s.Currency)
	p := string(s.Partner)
	for _, l := range s.Lines {
		if err := l.post(b); err != nil {
			return nil, fmt.Errorf("statement %s line %d: %w", s.ID, l.Number, err)
		}
	}
	b.add(ledger.PayablePending(p), -s.toPayable().Minor)
	if s.Owed != nil {
		b.add(ledger.ReceivablePartner(p), s.Owed.Charged.Minor)
	}
	var out []ledger.Entry
	if ps := b.postings(); len(ps) > 0 {
		out = append(out, ledger.Entry{
			ID: s.EntryID(), Kind: "statement", ValueOn: s.Month.Last(), BookedOn: s.Month.Last(),
			Memo: fmt.Sprintf("statement %s of %s", s.Month, s.Partner), Postings: ps,
		})
	}
	if s.Kept != nil && !s.Kept.Amount.IsZero() {
		out = append(out, ledger.Entry{
			ID: "reserve:" + string(s.ID), Kind: "reserve", ValueOn: s.Month.Last(), BookedOn: s.Month.Last(),
			Memo: fmt.Sprintf("reserve kept from %s of %s, to be released %s", s.Month, s.Partner, s.Kept.ReleaseOn),
			Postings: []ledger.Posting{
				{Account: ledger.PayablePending(p), Amount: s.Kept.Amount},
				{Account: ledger.ReserveOf(p), Amount: s.Kept.Amount.Neg()},
			},
		})
	}
	for _, r := range s.Releases {
		out = append(out, ledger.Entry{
			ID: "release:" + string(r.Statement), Kind: "release", ValueOn: r.On, BookedOn: r.On,
			Memo: fmt.Sprintf("reserve of %s of %s released", r.Month, s.Partner),
			Postings: []ledger.Posting{
				{Account: ledger.ReserveOf(p), Amount: r.Amount},
				{Account: ledger.PayablePending(p), Amount: r.Amount.Neg()},
			},
		})
	}
	if e := s.setOffEntry(); e != nil {
		out = append(out, *e)
	}
	earn, err := s.earnEntry()
	if err != nil {
		return nil, fmt.Errorf("statement %s: %w", s.ID, err)
	}
	if earn != nil {
		out = append(out, *earn)
	}
	for _, e := range out {
		if err := e.Validate(); err != nil {
			return nil, fmt.Errorf("statement %s: %w", s.ID, err)
		}
	}
	return out, nil
}

// EntryID is the ID of the entry that books what was earned.
func (s Statement) EntryID() string { return "statement:" + string(s.ID) }

// IssueEntry moves what the statement added from pending to due on the day it is
// issued. It is nil when the statement moved nothing.
func (s Statement) IssueEntry(valueOn, bookedOn period.Date) *ledger.Entry {
	amount := s.ToPending()
	if amount.IsZero() {
		return nil
	}
	p := string(s.Partner)
	return &ledger.Entry{
		ID: s.issueID(), Kind: "issue", ValueOn: valueOn, BookedOn: bookedOn,
		Memo: fmt.Sprintf("statement %s of %s issued", s.Month, s.Partner),
		Postings: []ledger.Posting{
			{Account: ledger.PayablePending(p), Amount: amount},
			{Account: ledger.PayableDue(p), Amount: amount.Neg()},
		},
	}
}

func (s Statement) issueID() string { return "issue:" + string(s.ID) }

// must unwraps arithmetic whose inputs were checked when the statement was made.
func must(a money.Amount, err error) money.Amount {
	if err != nil {
		panic("billing: internal error: " + err.Error())
	}
	return a
}
