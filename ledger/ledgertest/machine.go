package ledgertest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mete/ledger"
	"mete/money"
	"mete/period"
)

// testModel gives the store and the model the same random commands and questions;
// their answers must be the same.
func testModel(t *testing.T, open func(t testing.TB) Books) {
	rapid.Check(t, func(rt *rapid.T) {
		scope := &scope{TB: t}
		defer scope.end()
		m := &machine{store: open(scope), model: NewModel(), ctx: t}
		rt.Repeat(map[string]func(*rapid.T){
			"post":    m.post,
			"month":   m.month,
			"ask":     m.ask,
			"history": m.history,
		})
		green(t, m.store)
	})
}

// scope ends what a test opens at the end of one run of it.
type scope struct {
	testing.TB
	ends []func()
}

func (s *scope) Cleanup(f func()) { s.ends = append(s.ends, f) }

func (s *scope) end() {
	for i := len(s.ends) - 1; i >= 0; i-- {
		s.ends[i]()
	}
}

type machine struct {
	store, model Books
	ctx          testing.TB
}

var (
	accounts   = []ledger.Account{cash, stock, due, ledger.PayableHeld("northwind"), ledger.PayableDue("helio"), ledger.Income("share")}
	currencies = []money.Currency{"USD", "JPY", "KWD"}
	days       = []string{"2026-08-31", "2026-09-01", "2026-09-30", "2026-10-15", "2026-11-01"}
	kinds      = []string{"statement", "payout"}
	prefixes   = []ledger.Account{"", "assets", "liabilities:payable", "liabilities:payable:northwind", due, "income:s"}
)

func drawEntry(t *rapid.T) ledger.Entry {
	value := Day(rapid.SampledFrom(days).Draw(t, "value"))
	booked := Day(rapid.SampledFrom(days).Draw(t, "booked"))
	if booked.Before(value) {
		booked = value
	}
	e := ledger.Entry{ID: fmt.Sprintf("e%d", rapid.IntRange(1, 15).Draw(t, "id")), Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), ValueOn: value, BookedOn: booked}
	// Few amounts, so that an ID often returns with the same content; big ones, so
	// that sums overflow.
	minor := rapid.SampledFrom([]int64{1, 1, 1, 1, 250, -250, 1 << 62}).Draw(t, "minor")
	for range rapid.IntRange(1, 2).Draw(t, "pairs") {
		c := rapid.SampledFrom(currencies).Draw(t, "currency")
		e.Postings = append(e.Postings,
			ledger.Posting{Account: rapid.SampledFrom(accounts).Draw(t, "debit"), Amount: money.New(minor, c)},
			ledger.Posting{Account: rapid.SampledFrom(accounts).Draw(t, "credit"), Amount: money.New(-minor, c)})
	}
	if rapid.IntRange(0, 3).Draw(t, "guarded") == 0 {
		bound := rapid.SampledFrom([]int64{0, 1, -250}).Draw(t, "bound")
		g := ledger.Guard{Account: rapid.SampledFrom(accounts).Draw(t, "guard"), Currency: "USD", Max: &bound}
		if rapid.Bool().Draw(t, "least") {
			g.Min, g.Max = &bound, nil
		}
		e.Guards = []ledger.Guard{g}
	}
	return e
}

func (m *machine) post(t *rapid.T) {
	entries := rapid.SliceOfN(rapid.Custom(drawEntry), 1, 4).Draw(t, "entries")
	if again := rapid.IntRange(0, 15).Draw(t, "again"); again > 0 { // one that may be in the books
		if e, err := m.model.Entry(m.ctx.Context(), fmt.Sprintf("e%d", again)); err == nil {
			entries = append(entries[:1:1], e)
		}
	}
	sameError(t, m.store.Post(m.ctx.Context(), entries...), m.model.Post(m.ctx.Context(), entries...))
}

func (m *machine) month(t *rapid.T) {
	month := period.Month{Year: 2026, Month: time.Month(rapid.IntRange(8, 10).Draw(t, "month"))}
	states := []ledger.MonthState{ledger.Open, ledger.Closing, ledger.Closed, ledger.Locked}
	from := rapid.IntRange(0, 2).Draw(t, "from")
	to := rapid.SampledFrom([]int{from + 1, from + 1, from + 1, 0}).Draw(t, "to")
	ctx := m.ctx.Context()
	sameError(t, m.store.SetMonthState(ctx, month, states[from], states[to], time.Unix(9, 0)), m.model.SetMonthState(ctx, month, states[from], states[to], time.Unix(9, 0)))
	got, err := m.store.MonthState(ctx, month)
	want, _ := m.model.MonthState(ctx, month)
	same(t, got, want, err)
	on := Day(rapid.SampledFrom(days).Draw(t, "on"))
	bookedOn, err := m.store.BookedOn(ctx, on)
	wantOn, _ := m.model.BookedOn(ctx, on)
	same(t, bookedOn, wantOn, err)
}

func drawFilter(t *rapid.T) ledger.Filter {
	f := ledger.Filter{
		Prefix:   rapid.SampledFrom(prefixes).Draw(t, "prefix"),
		Currency: rapid.SampledFrom(append(currencies, "", "")).Draw(t, "currency"),
		Booked:   rapid.Bool().Draw(t, "by booking date"),
		Kind:     rapid.SampledFrom(append(kinds, "", "")).Draw(t, "kind"),
		After:    rapid.Int64Range(0, 8).Draw(t, "after"),
		Limit:    rapid.IntRange(0, 5).Draw(t, "limit"),
	}
	if rapid.Bool().Draw(t, "bounded below") {
		f.From = Day(rapid.SampledFrom(days).Draw(t, "from"))
	}
	if rapid.Bool().Draw(t, "bounded above") {
		f.UpTo = Day(rapid.SampledFrom(days).Draw(t, "up to"))
	}
	return f
}

func (m *machine) ask(t *rapid.T) {
	ctx, f := m.ctx.Context(), drawFilter(t)
	got, err := m.store.Balances(ctx, f)
	want, _ := m.model.Balances(ctx, f)
	if errors.Is(err, money.ErrOverflow) { // a part of the postings can sum to more than all of them
		return
	}
	same(t, got, want, err)
	gotEntries, err := collect(m.store.Entries(ctx, f))
	wantEntries, _ := collect(m.model.Entries(ctx, f))
	same(t, gotEntries, wantEntries, err)
	upTo := Day(rapid.SampledFrom(days).Draw(t, "trial"))
	tb, err := m.store.TrialBalance(ctx, upTo)
	wantTB, wantErr := m.model.TrialBalance(ctx, upTo)
	if wantErr == nil && !errors.Is(err, money.ErrOverflow) {
		same(t, tb, wantTB, err)
	}
}

func (m *machine) history(t *rapid.T) {
	ctx, f := m.ctx.Context(), drawFilter(t)
	a := rapid.SampledFrom(accounts).Draw(t, "account")
	got, err := collect(m.store.History(ctx, a, f))
	want, _ := collect(m.model.History(ctx, a, f))
	same(t, got, want, err)
}

func collect[T any](seq func(yield func(T, error) bool)) ([]T, error) {
	var list []T
	for v, err := range seq {
		if err != nil {
			return list, err
		}
		list = append(list, v)
	}
	return list, nil
}

func same[T any](t *rapid.T, got, want T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("the store differs from the model (- model, + store):\n%s", diff)
	}
}

// sameError compares what callers branch on. A posting that overflows where another
// guard would fail too is refused either way.
func sameError(t *rapid.T, got, want error) {
	t.Helper()
	for _, sentinel := range []error{ledger.ErrConflict, ledger.ErrClosed, ledger.ErrGuard, ledger.ErrMonthState, money.ErrOverflow} {
		if errors.Is(got, sentinel) != errors.Is(want, sentinel) {
			t.Fatalf("the store answers %v, the model %v", got, want)
		}
	}
	if (got == nil) != (want == nil) {
		t.Fatalf("the store answers %v, the model %v", got, want)
	}
}
