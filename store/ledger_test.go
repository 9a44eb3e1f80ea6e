package store

import (
	"context"
	"database/sql"
	"errors"
	cmdline "flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mete/internal/pgtest"
	"mete/ledger"
	"mete/ledger/ledgertest"
	"mete/period"
)

func TestLedger(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		ledgertest.TestStore(t, func(t testing.TB) ledgertest.Books { return openTest(t, sqliteDSN(t)) })
	})
	t.Run("postgres", func(t *testing.T) {
		fewerChecks(t, 10) // each makes a database
		ledgertest.TestStore(t, func(t testing.TB) ledgertest.Books { return openTest(t, pgtest.New(t)) })
	})
}

// fewerChecks has rapid try less, unless the command line says how often.
func fewerChecks(t *testing.T, n int) {
	f := cmdline.Lookup("rapid.checks")
	was := f.Value.String()
	if was != f.DefValue {
		return
	}
	if err := f.Value.Set(fmt.Sprint(n)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(was) })
}

// One connection is enough for everything, whoever waits for whom.
func TestLedgerOneConnection(t *testing.T) {
	eachEngine(t, func(t *testing.T, _ *DB) {
		dsn := sqliteDSN
		if strings.HasSuffix(t.Name(), "postgres") {
			dsn = pgtest.New
		}
		ledgertest.TestConcurrency(t, func(t testing.TB) ledgertest.Books {
			db := openTest(t, dsn(t))
			db.write.SetMaxOpenConns(1)
			db.read.SetMaxOpenConns(1)
			return db
		})
	})
}

func TestLedgerHledger(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		ledgertest.TestHledger(t, db, ledgertest.Journal(), ledgertest.Day("2026-11-24"), ledgertest.Day("2030-05-02"))
	})
}

func dollars(id string, minor int64) ledger.Entry {
	return ledgertest.Move(id, "2026-10-15", ledger.Clearing("stripe"), ledger.PayableDue("p"), minor, "USD")
}

// Calls that share a transaction are judged one by one.
func TestGroupCommit(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		least, ctx := int64(0), t.Context()
		guarded := dollars("guarded", 1)
		guarded.Guards = []ledger.Guard{{Account: ledger.PayableDue("p"), Currency: "USD", Min: &least}}
		other := dollars("twice", 2)
		calls := [][]ledger.Entry{
			{dollars("a", 1)}, {guarded, dollars("with-guarded", 1)}, {dollars("twice", 1)}, {dollars("twice", 1)},
			{dollars("with-other", 1), other}, {dollars("b", 1), dollars("c", 1)},
		}
		want := []error{nil, ledger.ErrGuard, nil, nil, ledger.ErrConflict, nil}
		// Hold the head until all calls wait.
		tx, err := db.write.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.lockHead(ctx, tx); err != nil {
			t.Fatal(err)
		}
		got := make([]error, len(calls))
		var wg sync.WaitGroup
		for i, c := range calls {
			wg.Go(func() { got[i] = db.Post(ctx, c...) })
			waitFor(t, func() bool { return len(db.posts.room) == i+1 })
			waitFor(t, func() bool { db.posts.mu.Lock(); defer db.posts.mu.Unlock(); return len(db.posts.waiting) == i+1 })
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		for i := range calls {
			if !errors.Is(got[i], want[i]) {
				t.Errorf("call %d: %v, want %v", i, got[i], want[i])
			}
		}
		var booked []string
		for e, err := range db.Entries(ctx, ledger.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			booked = append(booked, e.ID)
		}
		if !slices.Equal(booked, []string{"a", "twice", "b", "c"}) {
			t.Errorf("booked %q", booked)
		}
		wantGreen(t, db)
	})
}

// A call whose context ends while it waits is taken back, and the others go on.
func TestPostLeavesQueue(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		tx, err := db.write.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.lockHead(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
		stays := make(chan error, 1)
		go func() { stays <- db.Post(t.Context(), dollars("stays", 1)) }()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if err := db.Post(ctx, dollars("leaves", 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if err := <-stays; err != nil {
			t.Error(err)
		}
		if _, err := db.Entry(t.Context(), "leaves"); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("the call that left was booked: %v", err)
		}
	})
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("waited in vain")
		}
	}
}

// The close of a month posts into it while nobody else can, and not after.
func TestPostOfClose(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		ctx, m := t.Context(), period.Month{Year: 2026, Month: 10}
		close := func(id string, closing period.Month) error {
			return db.tx(ctx, func(tx *sql.Tx) error { return db.post(ctx, tx, []ledger.Entry{dollars(id, 1)}, closing) })
		}
		set := func(from, to ledger.MonthState) {
			t.Helper()
			if err := db.SetMonthState(ctx, m, from, to, time.Unix(5, 0)); err != nil {
				t.Fatal(err)
			}
		}
		set(ledger.Open, ledger.Closing)
		if err := close("a", m); err != nil {
			t.Error(err)
		}
		for _, other := range []period.Month{{}, m.Add(1), m.Add(-1)} {
			if err := close("b", other); !errors.Is(err, ledger.ErrClosed) {
				t.Errorf("closing %q: %v, want ErrClosed", other, err)
			}
		}
		set(ledger.Closing, ledger.Closed)
		if err := close("a", m); err != nil {
			t.Errorf("the close run again: %v", err)
		}
		if err := close("b", m); !errors.Is(err, ledger.ErrClosed) {
			t.Errorf("into the closed month: %v, want ErrClosed", err)
		}
		wantGreen(t, db)
	})
}

// An entry and the row that causes it are one fact: a failure after posting takes the
// entry back.
func TestPostRollsBack(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		boom := errors.New("boom")
		err := db.tx(t.Context(), func(tx *sql.Tx) error {
			if err := db.post(t.Context(), tx, []ledger.Entry{dollars("a", 1)}, noMonth); err != nil {
				return err
			}
			return boom
		})
		if !errors.Is(err, boom) {
			t.Fatal(err)
		}
		if bs, err := db.Balances(t.Context(), ledger.Filter{}); err != nil || len(bs) != 0 {
			t.Errorf("%v %v", bs, err)
		}
		wantGreen(t, db)
	})
}

func findings(t *testing.T, db *DB) []ledger.Finding {
	t.Helper()
	fs, err := db.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

func wantGreen(t *testing.T, db *DB) {
	t.Helper()
	for _, f := range findings(t, db) {
		t.Errorf("verify: %s", f)
	}
}

func TestRebuildBalances(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		if err := db.Post(ctx, ledgertest.Journal()...); err != nil {
			t.Fatal(err)
		}
		want, err := db.Balances(ctx, ledger.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := db.RebuildBalances(ctx); n != 0 || err != nil {
			t.Fatalf("%d changed, %v; want none", n, err)
		}
		for _, q := range []string{
			`UPDATE balances SET balance_minor = balance_minor + 1 WHERE account = 'income:share'`,
			`DELETE FROM balances WHERE account = 'income:usage'`,
			`INSERT INTO balances (account, currency, balance_minor, postings) VALUES ('income:nothing', 'USD', 5, 1)`,
		} {
			if _, err := db.write.ExecContext(ctx, q); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := db.RebuildBalances(ctx); n != 3 || err != nil {
			t.Fatalf("%d changed, %v; want 3", n, err)
		}
		if got, err := db.Balances(ctx, ledger.Filter{}); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v %v", got, err)
		}
		wantGreen(t, db)
	})
}

func TestJoinHalves(t *testing.T) {
	for _, v := range []int64{0, 1, -1, 1 << 32, -(1 << 32), 1<<63 - 1, -(1<<63 - 1), 1<<32 - 1, 3 - 1<<32} {
		if got, ok := join(v/(1<<32), v%(1<<32)); !ok || got != v {
			t.Errorf("%d: %d %v", v, got, ok)
		}
	}
	if _, ok := join(-1<<31, 0); ok {
		t.Error("the smallest int64 is an amount")
	}
	if _, ok := join(1<<31, 0); ok {
		t.Error("2^63 fits")
	}
	if got, ok := join(1<<31, -1); !ok || got != 1<<63-1 {
		t.Errorf("2^63-1: %d %v", got, ok)
	}
}
