package ledgertest

import (
	"context"
	"fmt"
	"iter"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"mete/ledger"
	"mete/money"
	"mete/period"
)

// Model is the books as a person would keep them on paper: a list of entries, and
// everything else added up from it each time. It is what stores are compared with.
type Model struct {
	mu      sync.Mutex
	entries []ledger.Entry
	months  map[period.Month]ledger.MonthState
}

var _ Books = (*Model)(nil)

// NewModel has empty books.
func NewModel() *Model { return &Model{months: map[period.Month]ledger.MonthState{}} }

// Post implements [ledger.Store].
func (m *Model) Post(ctx context.Context, entries ...ledger.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, e := range entries {
		if err := e.Validate(); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	booked := m.entries
	for _, e := range entries {
		if i := slices.IndexFunc(booked, func(b ledger.Entry) bool { return b.ID == e.ID }); i >= 0 {
			if diff := booked[i].Difference(e); diff != "" {
				return fmt.Errorf("post %q: %s: %w", e.ID, diff, ledger.ErrConflict)
			}
			continue
		}
		if s := m.state(e.BookedOn.MonthOf()); s != ledger.Open {
			return fmt.Errorf("post %q: %s is %s: %w", e.ID, e.BookedOn.MonthOf(), s, ledger.ErrClosed)
		}
		plain := e
		plain.Guards = nil
		booked = append(slices.Clip(booked), plain)
		if err := check(booked, e); err != nil {
			return fmt.Errorf("post %q: %w", e.ID, err)
		}
	}
	m.entries = booked
	return nil
}

// check refuses sums that no amount can hold, at every step of the entry, and broken
// guards.
func check(booked []ledger.Entry, e ledger.Entry) error {
	before := booked[:len(booked)-1]
	for i, p := range e.Postings {
		part := e
		part.Postings = e.Postings[:i+1]
		v := total(append(slices.Clip(before), part), p.Account, p.Amount.Currency)
		if _, err := money.New(0, p.Amount.Currency).Add(money.New(v.Int64(), p.Amount.Currency)); err != nil || !v.IsInt64() {
			return money.ErrOverflow
		}
	}
	for _, g := range e.Guards {
		v := total(booked, g.Account, g.Currency).Int64()
		if g.Min != nil && v < *g.Min || g.Max != nil && v > *g.Max {
			return fmt.Errorf("it would leave %s at %s: %w", g.Account, money.New(v, g.Currency), ledger.ErrGuard)
		}
	}
	return nil
}

func total(entries []ledger.Entry, a ledger.Account, c money.Currency) *big.Int {
	sum := new(big.Int)
	for _, e := range entries {
		for _, p := range e.Postings {
			if p.Account == a && p.Amount.Currency == c {
				sum.Add(sum, big.NewInt(p.Amount.Minor))
			}
		}
	}
	return sum
}

func (m *Model) state(month period.Month) ledger.MonthState {
	if s, ok := m.months[month]; ok {
		return s
	}
	return ledger.Open
}

// Entry implements [ledger.Store].
func (m *Model) Entry(_ context.Context, id string) (ledger.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		if e.ID == id {
			return e, nil
		}
	}
	return ledger.Entry{}, fmt.Errorf("entry %q: %w", id, ledger.ErrNotFound)
}

// Balances implements [ledger.Store].
func (m *Model) Balances(_ context.Context, f ledger.Filter) ([]ledger.Balance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var bs []ledger.Balance
	for i, e := range m.entries {
		if int64(i+1) <= f.After || !byEntry(f, e) {
			continue
		}
		for _, p := range e.Postings {
			if !byPosting(f, p) {
				continue
			}
			at := slices.IndexFunc(bs, func(b ledger.Balance) bool {
				return b.Account == p.Account && b.Amount.Currency == p.Amount.Currency
			})
			if at < 0 {
				at = len(bs)
				bs = append(bs, ledger.Balance{Account: p.Account, Amount: money.New(0, p.Amount.Currency)})
			}
			bs[at].Amount.Minor += p.Amount.Minor // wraps on the way, right in the end
			bs[at].Postings++
		}
	}
	slices.SortFunc(bs, func(a, b ledger.Balance) int {
		return strings.Compare(string(a.Account)+"\x00"+string(a.Amount.Currency), string(b.Account)+"\x00"+string(b.Amount.Currency))
	})
	if f.Limit > 0 && len(bs) > f.Limit {
		bs = bs[:f.Limit]
	}
	return bs, nil
}

func byEntry(f ledger.Filter, e ledger.Entry) bool {
	on := e.ValueOn.String()
	if f.Booked {
		on = e.BookedOn.String()
	}
	return (f.From.IsZero() || on >= f.From.String()) && (f.UpTo.IsZero() || on <= f.UpTo.String()) &&
		(f.Kind == "" || f.Kind == e.Kind)
}

func byPosting(f ledger.Filter, p ledger.Posting) bool {
	return (f.Prefix == "" || p.Account.Under(f.Prefix)) && (f.Currency == "" || f.Currency == p.Amount.Currency)
}

// History implements [ledger.Store].
func (m *Model) History(_ context.Context, a ledger.Account, f ledger.Filter) iter.Seq2[ledger.Movement, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ms []ledger.Movement
	sums := map[money.Currency]int64{}
	for i, e := range m.entries {
		for _, p := range e.Postings {
			if p.Account != a {
				continue
			}
			sums[p.Amount.Currency] += p.Amount.Minor
			if int64(i+1) > f.After && byEntry(f, e) && (f.Currency == "" || f.Currency == p.Amount.Currency) && (f.Limit == 0 || len(ms) < f.Limit) {
				ms = append(ms, ledger.Movement{Sequence: int64(i + 1), Entry: e, Amount: p.Amount, After: money.New(sums[p.Amount.Currency], p.Amount.Currency)})
			}
		}
	}
	return all(ms)
}

// Entries implements [ledger.Store].
func (m *Model) Entries(_ context.Context, f ledger.Filter) iter.Seq2[ledger.Entry, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	var es []ledger.Entry
	for i, e := range m.entries {
		touches := f.Prefix == "" && f.Currency == "" || slices.ContainsFunc(e.Postings, func(p ledger.Posting) bool { return byPosting(f, p) })
		if int64(i+1) > f.After && byEntry(f, e) && touches && (f.Limit == 0 || len(es) < f.Limit) {
			es = append(es, e)
		}
	}
	return all(es)
}

func all[T any](list []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// SetMonthState implements [Books].
func (m *Model) SetMonthState(_ context.Context, month period.Month, from, to ledger.MonthState, _ time.Time) error {
	if err := from.CheckStep(to); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	is := m.state(month)
	if is == to {
		return nil
	}
	if is != from {
		return fmt.Errorf("month %s is %s: %w", month, is, ledger.ErrMonthState)
	}
	m.months[month] = to
	return nil
}

// MonthState implements [Books].
func (m *Model) MonthState(_ context.Context, month period.Month) (ledger.MonthState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state(month), nil
}

// BookedOn implements [Books].
func (m *Model) BookedOn(_ context.Context, valueOn period.Date) (period.Date, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	month := valueOn.MonthOf()
	for m.state(month) != ledger.Open {
		month = month.Add(1)
		valueOn = month.First()
	}
	return valueOn, nil
}

// TrialBalance implements [Books].
func (m *Model) TrialBalance(ctx context.Context, upTo period.Date) (ledger.TrialBalance, error) {
	bs, err := m.Balances(ctx, ledger.Filter{UpTo: upTo, Booked: true})
	if err != nil {
		return ledger.TrialBalance{}, err
	}
	return ledger.Trial(upTo, bs)
}

// Verify implements [Books]: there is nothing to derive.
func (m *Model) Verify(context.Context) ([]ledger.Finding, error) { return nil, nil }
