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
	"math"
	"regexp"
	"unicode"
	"unicode/utf8"

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
	ErrConflict   = errors.New("an entry with this ID and other content is in the books")
	ErrClosed     = errors.New("the month is closed")
	ErrGuard      = errors.New("the account does not hold enough")
	ErrNotFound   = errors.New("not in the books")
	ErrMonthState = errors.New("the month is not in the state this step needs")
)

// Bounds of one entry, so that a page of entries fits in memory.
const (
	MaxPostings = 10_000
	MaxID       = 200 // bytes
	MaxKind     = 40
	MaxMemo     = 500
)

var (
	idForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@+=#~-]*$`)
	kindForm = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
)

// Validate reports what is wrong with the entry by itself: names, dates, accounts,
// and a sum that is not zero in some currency.
func (e Entry) Validate() error {
	if err := e.validateHead(); err != nil {
		return fmt.Errorf("entry %q: %w", e.ID, err)
	}
	if len(e.Postings) < 2 || len(e.Postings) > MaxPostings {
		return fmt.Errorf("entry %q: %d postings, want 2 to %d", e.ID, len(e.Postings), MaxPostings)
	}
	sums := map[money.Currency]*sides{}
	for i, p := range e.Postings {
		s := sums[p.Amount.Currency]
		if s == nil {
			s = &sides{}
			sums[p.Amount.Currency] = s
		}
		if err := s.add(p); err != nil {
			return fmt.Errorf("entry %q, posting %d on %q: %w", e.ID, i+1, p.Account, err)
		}
	}
	for c, s := range sums {
		if s.debit != s.credit {
			return fmt.Errorf("entry %q does not balance: debits %s, credits %s", e.ID, money.New(s.debit, c), money.New(s.credit, c))
		}
	}
	for _, g := range e.Guards {
		if err := g.Account.Validate(); err != nil {
			return fmt.Errorf("entry %q: guard: %w", e.ID, err)
		}
	}
	return nil
}

func (e Entry) validateHead() error {
	switch {
	case len(e.ID) > MaxID || !idForm.MatchString(e.ID):
		return fmt.Errorf("the id must be 1 to %d letters, digits or any of . _ : / @ + = # ~ -, beginning with a letter or digit", MaxID)
	case len(e.Kind) > MaxKind || !kindForm.MatchString(e.Kind):
		return fmt.Errorf("kind %q must be 1 to %d lower-case letters, digits or '-'", e.Kind, MaxKind)
	case !realDate(e.ValueOn) || !realDate(e.BookedOn):
		return fmt.Errorf("value date %q and booking date %q must be days of the calendar", e.ValueOn, e.BookedOn)
	case e.BookedOn.Before(e.ValueOn):
		return fmt.Errorf("booked on %s, before its value date %s; book it on the value date or in a later open month", e.BookedOn, e.ValueOn)
	}
	return CheckMemo(e.Memo)
}

// CheckMemo reports why s cannot be an entry's memo: it is one line of text that
// plain-text accounting tools read back as written.
func CheckMemo(s string) error {
	if len(s) > MaxMemo || !utf8.ValidString(s) {
		return fmt.Errorf("the memo must be UTF-8 text of at most %d bytes, it has %d", MaxMemo, len(s))
	}
	for _, r := range s {
		if r == ';' || unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return fmt.Errorf("the memo must not hold %q: no line breaks, control characters or ';'", r)
		}
	}
	return nil
}

func realDate(d period.Date) bool {
	return d.Year >= 1 && d.Year <= 9999 && d == d.AddDays(0)
}

// sides keeps debits and credits apart, so that no order of adding overflows where
// another does not.
type sides struct{ debit, credit int64 }

func (s *sides) add(p Posting) error {
	if err := p.Account.Validate(); err != nil {
		return err
	}
	if _, err := money.ParseCurrency(string(p.Amount.Currency)); err != nil {
		return err
	}
	minor := p.Amount.Minor
	if minor == 0 {
		return errors.New("the amount is zero; leave the posting out")
	}
	if minor == math.MinInt64 {
		return money.ErrOverflow
	}
	side := &s.debit
	if minor < 0 {
		side, minor = &s.credit, -minor
	}
	if *side > math.MaxInt64-minor {
		return fmt.Errorf("one side of the entry: %w", money.ErrOverflow)
	}
	*side += minor
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
	After    int64 // only what was booked after this sequence
	Limit    int   // at most so many results; 0 = all
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

	// History yields the movements of one account in booking order. After is the
	// account's balance right behind the movement, whatever the filter hides.
	History(ctx context.Context, a Account, f Filter) iter.Seq2[Movement, error]

	// Entries yields entries in booking order: the ones that were booked when the
	// iteration began, with a posting under Prefix and in Currency where set.
	Entries(ctx context.Context, f Filter) iter.Seq2[Entry, error]
}
