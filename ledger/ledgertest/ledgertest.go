// Package ledgertest holds what every keeper of the books promises, as a test to run
// over each implementation, and a model of the books to compare with.
//
// It refuses to know how books are kept. Read [TestStore] first.
package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mete/ledger"
	"mete/money"
	"mete/period"
)

// Books is a store with the months that open and close it.
type Books interface {
	ledger.Store
	MonthState(ctx context.Context, m period.Month) (ledger.MonthState, error)
	SetMonthState(ctx context.Context, m period.Month, from, to ledger.MonthState, at time.Time) error
	BookedOn(ctx context.Context, valueOn period.Date) (period.Date, error)
	TrialBalance(ctx context.Context, upTo period.Date) (ledger.TrialBalance, error)
	Verify(ctx context.Context) ([]ledger.Finding, error)
}

type promise struct {
	name string
	test func(t *testing.T, b Books)
}

// TestStore runs every promise over empty books that open gives.
func TestStore(t *testing.T, open func(t testing.TB) Books) {
	run(t, open, []promise{
		{"idempotent", testIdempotent},
		{"conflict", testConflict},
		{"atomic", testAtomic},
		{"months", testMonths},
		{"guards", testGuards},
		{"refused", testRefused},
		{"balances", testBalances},
		{"history", testHistory},
		{"overflow", testOverflow},
	})
	TestConcurrency(t, open)
	t.Run("against the model", func(t *testing.T) { testModel(t, open) })
}

// TestConcurrency runs the promises that need several connections, or must do without
// them.
func TestConcurrency(t *testing.T, open func(t testing.TB) Books) {
	run(t, open, []promise{
		{"paging", testPaging},
		{"hot account", testHotAccount},
		{"overlapping batches", testOverlapping},
		{"cancelled", testCancelled},
	})
}

func run(t *testing.T, open func(t testing.TB) Books, promises []promise) {
	for _, p := range promises {
		t.Run(p.name, func(t *testing.T) {
			b := open(t)
			p.test(t, b)
			green(t, b)
		})
	}
}

func green(t testing.TB, b Books) {
	t.Helper()
	findings, err := b.Verify(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Errorf("verify: %s", f)
	}
}

// Day is a date by its text.
func Day(s string) period.Date {
	d, err := period.ParseDate(s)
	if err != nil {
		panic(err)
	}
	return d
}

// Move is an entry that takes an amount from one account to another.
func Move(id, on string, debit, credit ledger.Account, minor int64, c money.Currency) ledger.Entry {
	return ledger.Entry{ID: id, Kind: "test", ValueOn: Day(on), BookedOn: Day(on), Memo: "moves " + id, Postings: []ledger.Posting{
		{Account: debit, Amount: money.New(minor, c)},
		{Account: credit, Amount: money.New(-minor, c)},
	}}
}

var (
	cash  = ledger.Cash("ach")
	stock = ledger.Clearing("stripe")
	due   = ledger.PayableDue("northwind")
)

func sale(id string, minor int64) ledger.Entry {
	return Move(id, "2026-10-15", stock, due, minor, "USD")
}

func post(t *testing.T, b Books, entries ...ledger.Entry) {
	t.Helper()
	if err := b.Post(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, err, want error, texts ...string) {
	t.Helper()
	if err == nil || want != nil && !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
}

func ids(t *testing.T, b Books, f ledger.Filter) []string {
	t.Helper()
	var out []string
	for e, err := range b.Entries(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.ID)
	}
	return out
}

func wantIDs(t *testing.T, b Books, want ...string) {
	t.Helper()
	if got := ids(t, b, ledger.Filter{}); !slices.Equal(got, want) {
		t.Fatalf("booked %q, want %q", got, want)
	}
}

func balance(t *testing.T, b Books, a ledger.Account, c money.Currency) int64 {
	t.Helper()
	bs, err := b.Balances(t.Context(), ledger.Filter{Prefix: a, Currency: c})
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, x := range bs {
		sum += x.Amount.Minor
	}
	return sum
}

func testIdempotent(t *testing.T, b Books) {
	a, z := sale("a", 100), sale("z", 50)
	post(t, b)
	post(t, b, a, z, a)
	post(t, b, a)
	post(t, b, z, a)
	wantIDs(t, b, "a", "z")
	if got := balance(t, b, due, "USD"); got != -150 {
		t.Errorf("due holds %d, want -150", got)
	}
	got, err := b.Entry(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, got); diff != "" {
		t.Errorf("entry read back: %s", diff)
	}
	if _, err := b.Entry(t.Context(), "b"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("unknown entry: %v, want ErrNotFound", err)
	}
}

// changes are edits of an entry that leave it valid, by the field that says so.
var changes = map[string]func(e *ledger.Entry){
	"kind":                 func(e *ledger.Entry) { e.Kind = "other" },
	"value_on":             func(e *ledger.Entry) { e.ValueOn = Day("2026-10-14") },
	"booked_on":            func(e *ledger.Entry) { e.BookedOn = Day("2026-11-01") },
	"memo":                 func(e *ledger.Entry) { e.Memo += "!" },
	"number of postings":   func(e *ledger.Entry) { e.Postings = append(e.Postings, e.Postings...) },
	"account of posting 2": func(e *ledger.Entry) { e.Postings[1].Account = ledger.PayableHeld("northwind") },
	"amount of posting 1": func(e *ledger.Entry) {
		e.Postings[0].Amount.Minor++
		e.Postings[1].Amount.Minor--
	},
}

func testConflict(t *testing.T, b Books) {
	post(t, b, sale("a", 100))
	for field, change := range changes {
		e := sale("a", 100)
		change(&e)
		refused(t, b.Post(t.Context(), sale("n", 1), e), ledger.ErrConflict, `"a"`, field)
	}
	e := sale("a", 100)
	e.Postings[0], e.Postings[1] = e.Postings[1], e.Postings[0]
	refused(t, b.Post(t.Context(), e), ledger.ErrConflict, "account of posting 1")
	for i := range e.Postings {
		e.Postings[i].Amount.Currency = "EUR"
	}
	refused(t, b.Post(t.Context(), e), ledger.ErrConflict)
	wantIDs(t, b, "a")
}

func testAtomic(t *testing.T, b Books) {
	post(t, b, sale("a", 100))
	if err := b.SetMonthState(t.Context(), period.Month{Year: 2026, Month: 9}, ledger.Open, ledger.Closing, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	other := sale("a", 101)
	closed := Move("c", "2026-09-30", stock, due, 1, "USD")
	guarded := sale("g", 1)
	least := int64(0)
	guarded.Guards = []ledger.Guard{{Account: due, Currency: "USD", Min: &least}}
	unbalanced := sale("u", 1)
	unbalanced.Postings[0].Amount.Minor = 2
	for _, bad := range []ledger.Entry{other, closed, guarded, unbalanced} {
		refused(t, b.Post(t.Context(), sale("x", 1), bad, sale("y", 1)), nil)
		wantIDs(t, b, "a")
		if got := balance(t, b, due, "USD"); got != -100 {
			t.Fatalf("after a refusal due holds %d, want -100", got)
		}
	}
	post(t, b, sale("x", 1), sale("y", 1))
	wantIDs(t, b, "a", "x", "y")
}

func testMonths(t *testing.T, b Books) {
	ctx, m, at := t.Context(), period.Month{Year: 2026, Month: 10}, time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	state := func(m period.Month, want ledger.MonthState) {
		t.Helper()
		if got, err := b.MonthState(ctx, m); err != nil || got != want {
			t.Fatalf("%s is %q (%v), want %q", m, got, err, want)
		}
	}
	on := func(valueOn, want string) {
		t.Helper()
		if got, err := b.BookedOn(ctx, Day(valueOn)); err != nil || got != Day(want) {
			t.Fatalf("%s is booked on %s (%v), want %s", valueOn, got, err, want)
		}
	}
	set := func(m period.Month, from, to ledger.MonthState) {
		t.Helper()
		for range 2 { // again is nothing
			if err := b.SetMonthState(ctx, m, from, to, at); err != nil {
				t.Fatal(err)
			}
		}
		state(m, to)
	}
	post(t, b, sale("a", 100))
	state(m, ledger.Open)
	on("2026-10-31", "2026-10-31")
	refused(t, b.SetMonthState(ctx, m, ledger.Closing, ledger.Closed, at), ledger.ErrMonthState, "2026-10")
	refused(t, b.SetMonthState(ctx, m, ledger.Open, ledger.Locked, at), ledger.ErrMonthState)
	for _, step := range [][2]ledger.MonthState{{ledger.Open, ledger.Closing}, {ledger.Closing, ledger.Closed}, {ledger.Closed, ledger.Locked}} {
		set(m, step[0], step[1])
		refused(t, b.Post(ctx, sale("b", 1)), ledger.ErrClosed, `"b"`, "2026-10", string(step[1]))
		post(t, b, sale("a", 100)) // in the books already
		on("2026-10-31", "2026-11-01")
		on("2026-09-30", "2026-09-30")
	}
	refused(t, b.SetMonthState(ctx, m, ledger.Open, ledger.Closing, at), ledger.ErrMonthState)
	set(m.Add(1), ledger.Open, ledger.Closing)
	on("2026-10-31", "2026-12-01")
	on("2026-11-30", "2026-12-01")
	late := sale("b", 1)
	late.BookedOn = Day("2026-12-01")
	post(t, b, late)
	wantIDs(t, b, "a", "b")
	tb, err := b.TrialBalance(ctx, m.Last())
	if err != nil || len(tb.Rows) != 2 || tb.Totals[0].Debit != money.New(100, "USD") {
		t.Fatalf("trial balance of the closed month: %v %v, want the 1.00 booked in it", tb, err)
	}
}

func testGuards(t *testing.T, b Books) {
	zero, ten := int64(0), int64(10)
	pay := func(id string, minor int64) ledger.Entry {
		e := Move(id, "2026-10-20", due, cash, minor, "USD")
		e.Guards = []ledger.Guard{{Account: due, Currency: "USD", Max: &zero}}
		return e
	}
	post(t, b, sale("a", 100))
	refused(t, b.Post(t.Context(), pay("p1", 101)), ledger.ErrGuard, `"p1"`, string(due), "0.01 USD")
	post(t, b, pay("p1", 60))
	refused(t, b.Post(t.Context(), pay("p2", 41)), ledger.ErrGuard)
	post(t, b, pay("p1", 60)) // booked: its guard is not asked again
	post(t, b, pay("p2", 40))
	post(t, b, pay("p1", 60), pay("p2", 40))
	refused(t, b.Post(t.Context(), pay("p3", 1)), ledger.ErrGuard)
	other := sale("other", 1) // a guard on an account that the entry does not touch, and that nobody has
	other.Guards = []ledger.Guard{{Account: ledger.PayableHeld("helio"), Currency: "EUR", Min: &ten}}
	refused(t, b.Post(t.Context(), other), ledger.ErrGuard, "helio", "0.00 EUR")
	held := Move("h", "2026-10-20", due, ledger.PayableHeld("northwind"), 1, "USD")
	held.Guards = []ledger.Guard{{Account: due, Currency: "USD", Min: &ten}}
	refused(t, b.Post(t.Context(), sale("before", 5), held), ledger.ErrGuard)
	wantIDs(t, b, "a", "p1", "p2")
}

func testRefused(t *testing.T, b Books) {
	for _, id := range []string{"", " ", "a b", "a;b", "a\nb", "a)b", "(a", "ä", "a'b", `a"b`, "a\x00b", "-a", strings.Repeat("a", ledger.MaxID+1)} {
		refused(t, b.Post(t.Context(), sale(id, 1)), nil, "id")
	}
	for name, change := range map[string]func(e *ledger.Entry){
		"line break in the memo":     func(e *ledger.Entry) { e.Memo = "a\nb" },
		"semicolon in the memo":      func(e *ledger.Entry) { e.Memo = "a;b" },
		"separator in the memo":      func(e *ledger.Entry) { e.Memo = "a\u2028b" },
		"broken text in the memo":    func(e *ledger.Entry) { e.Memo = "a\xff" },
		"no kind":                    func(e *ledger.Entry) { e.Kind = "" },
		"31 February":                func(e *ledger.Entry) { e.ValueOn = period.Date{Year: 2026, Month: 2, Day: 31} },
		"booked too early":           func(e *ledger.Entry) { e.BookedOn = Day("2026-10-14") },
		"one posting":                func(e *ledger.Entry) { e.Postings = e.Postings[:1] },
		"zero":                       func(e *ledger.Entry) { e.Postings[0].Amount.Minor, e.Postings[1].Amount.Minor = 0, 0 },
		"unbalanced":                 func(e *ledger.Entry) { e.Postings[0].Amount.Minor++ },
		"balanced across currencies": func(e *ledger.Entry) { e.Postings[0].Amount.Currency = "EUR" },
		"unknown currency": func(e *ledger.Entry) {
			e.Postings[0].Amount.Currency, e.Postings[1].Amount.Currency = "XXY", "XXY"
		},
		"account": func(e *ledger.Entry) { e.Postings[0].Account = "Assets:Cash" },
	} {
		e := sale("e", 1)
		change(&e)
		if err := b.Post(t.Context(), sale("n", 1), e); err == nil {
			t.Errorf("%s: booked", name)
		}
	}
	wantIDs(t, b)
}

func testBalances(t *testing.T, b Books) {
	late := Move("late", "2026-10-20", stock, due, 7, "USD")
	late.BookedOn = Day("2026-11-01")
	payment := Move("pay", "2026-11-20", due, cash, 90, "USD")
	payment.Kind = "payout"
	post(t, b,
		Move("one", "2026-10-01", stock, due, 100, "USD"),
		Move("yen", "2026-10-31", stock, due, 5000, "JPY"),
		Move("two", "2026-10-31", stock, ledger.PayableDue("northwind2"), 30, "USD"),
		late, payment,
		Move("zero", "2026-12-01", ledger.Cash("manual"), ledger.Opening(), 1, "USD"),
		Move("back", "2026-12-02", ledger.Opening(), ledger.Cash("manual"), 1, "USD"))
	d := func(s string) period.Date { return Day(s) }
	for _, c := range []struct {
		name string
		f    ledger.Filter
		want string
	}{
		{"everything", ledger.Filter{}, "assets:cash:ach -0.90 USD 1, assets:cash:manual 0.00 USD 2, assets:clearing:stripe 5000 JPY 1, assets:clearing:stripe 1.37 USD 3, equity:opening 0.00 USD 2, " +
			"liabilities:payable:northwind2:due -0.30 USD 1, liabilities:payable:northwind:due -5000 JPY 1, liabilities:payable:northwind:due -0.17 USD 3"},
		{"a prefix ends on a part", ledger.Filter{Prefix: "liabilities:payable:northwind"}, "liabilities:payable:northwind:due -5000 JPY 1, liabilities:payable:northwind:due -0.17 USD 3"},
		{"half a part is none", ledger.Filter{Prefix: "liabilities:payable:north"}, ""},
		{"currency", ledger.Filter{Currency: "JPY"}, "assets:clearing:stripe 5000 JPY 1, liabilities:payable:northwind:due -5000 JPY 1"},
		{"by value date", ledger.Filter{Prefix: due, Currency: "USD", UpTo: d("2026-10-31")}, "liabilities:payable:northwind:due -1.07 USD 2"},
		{"by booking date", ledger.Filter{Prefix: due, Currency: "USD", UpTo: d("2026-10-31"), Booked: true}, "liabilities:payable:northwind:due -1.00 USD 1"},
		{"the last day counts", ledger.Filter{Prefix: due, Currency: "JPY", From: d("2026-10-31"), UpTo: d("2026-10-31")}, "liabilities:payable:northwind:due -5000 JPY 1"},
		{"from", ledger.Filter{Prefix: due, Currency: "USD", From: d("2026-10-02")}, "liabilities:payable:northwind:due 0.83 USD 2"},
		{"kind", ledger.Filter{Kind: "payout"}, "assets:cash:ach -0.90 USD 1, liabilities:payable:northwind:due 0.90 USD 1"},
		{"limit", ledger.Filter{Limit: 1}, "assets:cash:ach -0.90 USD 1"},
		{"after a sequence", ledger.Filter{After: 6}, "assets:cash:manual -0.01 USD 1, equity:opening 0.01 USD 1"},
		{"before anything", ledger.Filter{UpTo: d("2020-01-01")}, ""},
		{"not a prefix but a text", ledger.Filter{Prefix: "assets%"}, ""},
	} {
		bs, err := b.Balances(t.Context(), c.f)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range bs {
			got = append(got, fmt.Sprintf("%s %s %d", x.Account, x.Amount, x.Postings))
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
	for f, want := range map[ledger.Filter]string{
		{Prefix: "assets:cash"}: "pay zero back",
		{Currency: "JPY"}:       "yen",
		{Prefix: "liabilities:payable:northwind2", Currency: "USD"}: "two",
		{Prefix: "liabilities:payable:northwind2", Currency: "JPY"}: "",
		{UpTo: d("2026-10-31"), Booked: true}:                       "one yen two",
		{UpTo: d("2026-10-31")}:                                     "one yen two late",
		{From: d("2026-11-01"), Booked: true, Kind: "test"}:         "late zero back",
		{After: 2, Limit: 2}:                                        "two late",
	} {
		if got := strings.Join(ids(t, b, f), " "); got != want {
			t.Errorf("entries of %+v: %q, want %q", f, got, want)
		}
	}
}

func testHistory(t *testing.T, b Books) {
	twice := Move("twice", "2026-10-04", stock, due, 3, "USD")
	twice.Postings = append(twice.Postings, twice.Postings...)
	mixed := Move("mixed", "2026-10-02", stock, due, 9, "USD")
	mixed.Postings = append(mixed.Postings, Move("", "2026-10-02", stock, due, 50, "EUR").Postings...)
	post(t, b, Move("b", "2026-10-03", stock, due, 10, "USD"), mixed)
	post(t, b, Move("elsewhere", "2026-10-03", stock, cash, 10, "USD"))
	post(t, b, Move("a", "2026-10-01", due, cash, 4, "USD"), twice)
	for _, c := range []struct {
		f    ledger.Filter
		want string
	}{
		{ledger.Filter{}, "1 b -0.10 USD -0.10 USD; 2 mixed -0.09 USD -0.19 USD; 2 mixed -0.50 EUR -0.50 EUR; 4 a 0.04 USD -0.15 USD; 5 twice -0.03 USD -0.18 USD; 5 twice -0.03 USD -0.21 USD"},
		{ledger.Filter{Currency: "EUR"}, "2 mixed -0.50 EUR -0.50 EUR"},
		{ledger.Filter{From: Day("2026-10-03")}, "1 b -0.10 USD -0.10 USD; 5 twice -0.03 USD -0.18 USD; 5 twice -0.03 USD -0.21 USD"},
		{ledger.Filter{After: 2}, "4 a 0.04 USD -0.15 USD; 5 twice -0.03 USD -0.18 USD; 5 twice -0.03 USD -0.21 USD"},
		{ledger.Filter{After: 2, Limit: 2}, "4 a 0.04 USD -0.15 USD; 5 twice -0.03 USD -0.18 USD"},
		{ledger.Filter{Kind: "other"}, ""},
	} {
		var got []string
		for m, err := range b.History(t.Context(), due, c.f) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%d %s %s %s", m.Sequence, m.Entry.ID, m.Amount, m.After))
		}
		if s := strings.Join(got, "; "); s != c.want {
			t.Errorf("history %+v:\n got %s\nwant %s", c.f, s, c.want)
		}
	}
}

// testPaging walks more entries than fit a page, stops early, and posts while it reads.
func testPaging(t *testing.T, b Books) {
	const n = 1203
	var entries []ledger.Entry
	for i := range n {
		entries = append(entries, sale(fmt.Sprintf("e%05d", i), int64(i+1)))
	}
	post(t, b, entries...)
	if got := ids(t, b, ledger.Filter{}); len(got) != n || !slices.IsSorted(got) {
		t.Fatalf("%d entries, sorted %v; want %d in order", len(got), slices.IsSorted(got), n)
	}
	if got := ids(t, b, ledger.Filter{After: 100, Limit: 600}); len(got) != 600 || got[0] != "e00100" {
		t.Fatalf("%d entries from %s, want 600 from e00100", len(got), got[0])
	}
	seen, sum := 0, int64(0)
	for m, err := range b.History(t.Context(), due, ledger.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if sum += m.Amount.Minor; m.After.Minor != sum {
			t.Fatalf("movement %d: %s after it, want %d", m.Sequence, m.After, sum)
		}
		if seen++; seen%400 == 0 {
			post(t, b, sale(fmt.Sprintf("while-reading-%d", seen), 1))
		}
	}
	if seen != n {
		t.Errorf("%d movements, want the %d of the beginning", seen, n)
	}
	for range b.Entries(t.Context(), ledger.Filter{}) {
		break
	}
}

func testOverflow(t *testing.T, b Books) {
	most := int64(math.MaxInt64)
	big := func(id string, debit, credit ledger.Account, minor int64) ledger.Entry {
		return Move(id, "2026-10-15", debit, credit, minor, "USD")
	}
	post(t, b, big("a", stock, due, most))
	refused(t, b.Post(t.Context(), big("b", stock, due, 1)), money.ErrOverflow, `"b"`)
	refused(t, b.Post(t.Context(), big("x", cash, stock, 1), big("b", due, stock, 1), big("c", stock, due, 2)), money.ErrOverflow)
	wantIDs(t, b, "a")
	post(t, b, big("d", due, cash, most), big("e", ledger.Cash("manual"), stock, most))
	post(t, b, big("f", stock, due, most))
	bs, err := b.Balances(t.Context(), ledger.Filter{Prefix: stock, UpTo: Day("2026-10-15")})
	if err != nil || len(bs) != 1 || bs[0].Amount.Minor != most {
		t.Errorf("balances %v %v, want all of it", bs, err)
	}
	if bs, err = b.Balances(t.Context(), ledger.Filter{Prefix: due, After: 1, UpTo: Day("2026-10-15")}); err != nil || bs[0].Amount.Minor != 0 {
		t.Errorf("balances %v %v, want zero", bs, err)
	}
	low := big("low", stock, due, 1)
	low.Postings[0].Amount.Minor, low.Postings[1].Amount.Minor = math.MinInt64, math.MinInt64
	refused(t, b.Post(t.Context(), low), money.ErrOverflow)
	sides := sale("sides", 1)
	for i := range 2 {
		sides.Postings[i].Amount.Minor = most
	}
	sides.Postings = append(sides.Postings, ledger.Posting{Account: cash, Amount: money.New(-most, "USD")}, ledger.Posting{Account: cash, Amount: money.New(-most, "USD")})
	refused(t, b.Post(t.Context(), sides), money.ErrOverflow)

	// Up to a day an account can hold what no amount is, although all of it is one.
	const half = 1 << 62
	post(t, b, Move("later", "2026-11-10", stock, due, half, "JPY"))
	post(t, b, Move("half", "2026-10-16", due, stock, half, "JPY"), Move("half.2", "2026-10-16", due, stock, half, "JPY"))
	if _, err := b.TrialBalance(t.Context(), Day("2026-10-31")); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("trial balance: %v, want %v", err, money.ErrOverflow)
	}
	if _, err := b.Balances(t.Context(), ledger.Filter{Prefix: stock, Currency: "JPY"}); err != nil {
		t.Errorf("balances of all days: %v", err)
	}
}

// testHotAccount has many callers post on the same accounts, everything twice, and
// spend more than there is.
func testHotAccount(t *testing.T, b Books) {
	const callers, each = 12, 25
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				for range 2 {
					if err := b.Post(t.Context(), sale(fmt.Sprintf("s-%d-%d", c/2, i), 10)); err != nil {
						t.Errorf("caller %d: %v", c, err)
					}
				}
			}
		})
	}
	wg.Wait()
	const facts = callers / 2 * each
	if n, sum := len(ids(t, b, ledger.Filter{})), balance(t, b, due, "USD"); n != facts || sum != -10*facts {
		t.Fatalf("%d entries, %d due; want %d and %d", n, sum, facts, -10*facts)
	}
	var mu sync.Mutex
	paid := 0
	zero := int64(0)
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				e := Move(fmt.Sprintf("p-%d-%d", c, i), "2026-10-20", due, cash, 10, "USD")
				e.Guards = []ledger.Guard{{Account: due, Currency: "USD", Max: &zero}}
				err := b.Post(t.Context(), e)
				if err != nil && !errors.Is(err, ledger.ErrGuard) {
					t.Errorf("caller %d: %v", c, err)
				}
				mu.Lock()
				if err == nil {
					paid++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if paid != facts || balance(t, b, due, "USD") != 0 {
		t.Errorf("%d paid, %d left; want %d and nothing", paid, balance(t, b, due, "USD"), facts)
	}
}

// testOverlapping posts batches over the same accounts in every order, some of them
// refused: nobody waits for ever, and a refusal spoils nobody else's.
func testOverlapping(t *testing.T, b Books) {
	const callers, each, accounts = 8, 12, 10
	post(t, b, sale("taken", 1))
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(c), 1))
			for i := range each {
				var batch []ledger.Entry
				for n, to := range r.Perm(accounts) {
					batch = append(batch, Move(fmt.Sprintf("o-%d-%d-%d", c, i, n), "2026-10-15", stock, ledger.PayableDue(fmt.Sprint("p", to)), 1, "USD"))
				}
				bad := i%4 == 3
				if bad {
					batch = append(batch, sale("taken", 2))
				}
				err := b.Post(t.Context(), batch...)
				if bad != errors.Is(err, ledger.ErrConflict) || !bad && err != nil {
					t.Errorf("caller %d, batch %d: %v", c, i, err)
				}
			}
		})
	}
	wg.Wait()
	want := 1 + callers*each*3/4*accounts
	if got := ids(t, b, ledger.Filter{}); len(got) != want {
		t.Errorf("%d entries, want %d", len(got), want)
	}
	if got := balance(t, b, stock, "USD"); got != int64(want) {
		t.Errorf("clearing holds %d, want %d", got, want)
	}
}

func testCancelled(t *testing.T, b Books) {
	ctx, cancel := context.WithCancel(t.Context())
	post(t, b, sale("a", 1))
	cancel()
	refused(t, b.Post(ctx, sale("b", 1)), context.Canceled)
	wantIDs(t, b, "a")
	// Whatever a call answers whose context ends at any moment is the truth.
	var wg sync.WaitGroup
	var mu sync.Mutex
	booked := map[string]bool{"a": true}
	for i := range 60 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
			defer cancel()
			id := fmt.Sprintf("t%02d", i)
			err := b.Post(ctx, sale(id, 1))
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			mu.Lock()
			booked[id] = err == nil
			mu.Unlock()
		})
	}
	wg.Wait()
	got := ids(t, b, ledger.Filter{})
	for id, want := range booked {
		if slices.Contains(got, id) != want {
			t.Errorf("%s: acknowledged %v, booked %v", id, want, !want)
		}
	}
}
