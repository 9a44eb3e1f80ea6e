// Package ledger keeps the books: accounts, postings, and entries that sum to zero.
//
// It refuses to know prices, contracts and events. An [Entry] is one fact with an ID
// made from that fact; posting it again changes nothing, posting other content under
// the same ID fails. Account names are made in chart.go and nowhere else. Read
// [Entry.Validate] and [Store] first.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"mete/money"
	"mete/period"
)

// Posting is a signed amount on an account: positive = debit, negative = credit.
type Posting struct {
	Account Account      `json:"account"`
	Amount  money.Amount `json:"amount"`
}

// Entry is one booked fact. It never holds the time it was recorded: both dates are
// decided once, on the row that causes it, so a retry is equal byte for byte.
type Entry struct {
	ID       string      `json:"id"`   // from facts: statement:meridian-us.northwind.usd.2026-10
	Kind     string      `json:"kind"` // statement | issue | receipt | payout | …
	ValueOn  period.Date `json:"value_on"`
	BookedOn period.Date `json:"booked_on"` // ValueOn, or the first day of the first open month
	Memo     string      `json:"memo"`
	Postings []Posting   `json:"postings"`
	Guards   []Guard     `json:"guards,omitempty"` // checked when first posted, not part of the content
}

// Guard refuses an entry that would leave an account on the wrong side: after
// posting, the balance (debit positive) must be at least Min and at most Max, where
// set.
type Guard struct {
	Account  Account
	Currency money.Currency
	Min, Max *int64
}

// Errors that callers branch on.
var (
	ErrConflict = errors.New("an entry with this ID and other content is in the books")
	ErrClosed   = errors.New("the month is closed")
	ErrGuard    = errors.New("the account does not hold enough")
	ErrNotFound = errors.New("not in the books")
)

// MaxPostings bounds one entry.
const MaxPostings = 10_000

// Validate reports what is wrong with the entry by itself: IDs, dates, accounts,
// and a sum that is not zero in some currency.
func (e Entry) Validate() error {
	if e.ID == "" || e.Kind == "" || e.ValueOn.IsZero() || e.BookedOn.IsZero() {
		return fmt.Errorf("entry %q: id, kind, value date and booking date are needed", e.ID)
	}
	if strings.ContainsAny(e.ID+e.Memo, "\n\r;") {
		return fmt.Errorf("entry %q: id and memo must not hold line breaks or ';'", e.ID)
	}
	if len(e.Postings) < 2 || len(e.Postings) > MaxPostings {
		return fmt.Errorf("entry %q: %d postings, want 2 to %d", e.ID, len(e.Postings), MaxPostings)
	}
	sums := map[money.Currency]money.Amount{}
	for _, p := range e.Postings {
		if err := p.Account.Validate(); err != nil {
			return fmt.Errorf("entry %q: %w", e.ID, err)
		}
		if p.Amount.IsZero() {
			return fmt.Errorf("entry %q: a posting of zero on %s; leave it out", e.ID, p.Account)
		}
		sum, ok := sums[p.Amount.Currency]
		if !ok {
			sum = money.New(0, p.Amount.Currency)
		}
		sum, err := sum.Add(p.Amount)
		if err != nil {
			return fmt.Errorf("entry %q: %w", e.ID, err)
		}
		sums[p.Amount.Currency] = sum
	}
	for _, s := range sums {
		if !s.IsZero() {
			return fmt.Errorf("entry %q does not balance: debits and credits differ by %s", e.ID, s)
		}
	}
	return nil
}

// Balance is what an account holds in one currency, debit positive.
type Balance struct {
	Account  Account      `json:"account"`
	Amount   money.Amount `json:"amount"`
	Postings int64        `json:"postings"`
}

// Movement is one posting in an account's history with the balance after it.
type Movement struct {
	Sequence int64        `json:"sequence"`
	Entry    Entry        `json:"entry"`
	Amount   money.Amount `json:"amount"`
	After    money.Amount `json:"after"`
}

// Filter narrows a question. Zero fields do not narrow. A prefix ends on an account
// part: liabilities:payable matches liabilities:payable:p but not liabilities:payables.
type Filter struct {
	Prefix   Account
	Currency money.Currency
	UpTo     period.Date // last ValueOn that counts
	From     period.Date // first ValueOn that counts
	Booked   bool        // compare BookedOn instead of ValueOn
	Kind     string
	Limit    int
}

// Store is the books. Implementations pass ledgertest.TestStore.
type Store interface {
	// Post books the entries, all or none, in order. An entry already booked with
	// the same content is skipped; with other content the call fails with
	// ErrConflict. It fails with ErrClosed when BookedOn lies in a month that is
	// closing, closed or locked (unless the month's close posts it), and with
	// ErrGuard when a guard would be broken.
	Post(ctx context.Context, entries ...Entry) error

	// Entry returns a booked entry or ErrNotFound.
	Entry(ctx context.Context, id string) (Entry, error)

	// Balances returns non-zero balances and, with Postings > 0, zero ones, sorted
	// by account and currency.
	Balances(ctx context.Context, f Filter) ([]Balance, error)

	// History yields the movements of one account in booking order.
	History(ctx context.Context, a Account, f Filter) iter.Seq2[Movement, error]

	// Entries yields entries in booking order.
	Entries(ctx context.Context, f Filter) iter.Seq2[Entry, error]
}
