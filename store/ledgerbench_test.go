package store

import (
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"mete/internal/pgtest"
	"mete/ledger"
	"mete/ledger/ledgertest"
)

const benchAccounts = 1000

// benchEntry is a usage-like fact: one hot account, one of many.
func benchEntry(n int64) ledger.Entry {
	return ledgertest.Move(fmt.Sprintf("usage:2026-10:%09d", n), "2026-10-15", ledger.Clearing("stripe"),
		ledger.PayableDue(fmt.Sprintf("p%04d", n%benchAccounts)), 1+n%1000, "USD")
}

func benchEntries(from int64, n int) []ledger.Entry {
	list := make([]ledger.Entry, n)
	for i := range list {
		list[i] = benchEntry(from + int64(i))
	}
	return list
}

// BenchmarkPost books entries through the store: an operation is one entry. raw is the
// limit of the same tables: the same rows inserted, and the balances updated, by
// prepared text without looking at anything, triggers included.
func BenchmarkPost(b *testing.B) {
	for _, engine := range []struct {
		name string
		dsn  func(testing.TB) string
	}{{"sqlite", sqliteDSN}, {"postgres", pgtest.New}} {
		b.Run(engine.name+"/one by one", func(b *testing.B) { benchPost(b, openTest(b, engine.dsn(b)), 1) })
		b.Run(engine.name+"/16 callers", func(b *testing.B) { benchCallers(b, openTest(b, engine.dsn(b)), 16) })
		b.Run(engine.name+"/64 callers", func(b *testing.B) { benchCallers(b, openTest(b, engine.dsn(b)), 64) })
		b.Run(engine.name+"/batches of 1000", func(b *testing.B) { benchPost(b, openTest(b, engine.dsn(b)), 1000) })
		b.Run(engine.name+"/raw one by one", func(b *testing.B) { benchRaw(b, openTest(b, engine.dsn(b)), 1) })
		b.Run(engine.name+"/raw batches of 1000", func(b *testing.B) { benchRaw(b, openTest(b, engine.dsn(b)), 1000) })
	}
}

func perSecond(b *testing.B) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(0, "ns/op")
}

func benchPost(b *testing.B, db *DB, batch int) {
	for done := 0; done < b.N; done += batch {
		if err := db.Post(b.Context(), benchEntries(int64(done), min(batch, b.N-done))...); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b)
}

func benchCallers(b *testing.B, db *DB, callers int) {
	var next atomic.Int64
	b.SetParallelism((callers + 1) / 2) // times two processors
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := db.Post(b.Context(), benchEntry(next.Add(1))); err != nil {
				b.Error(err)
				return
			}
		}
	})
	perSecond(b)
}

func benchRaw(b *testing.B, db *DB, batch int) {
	hash := strings.Repeat("0", 64)
	for done := 0; done < b.N; done += batch {
		entries := benchEntries(int64(done), min(batch, b.N-done))
		err := db.once(b.Context(), func(tx *sql.Tx) error {
			var postings, heads, balances [][]any
			changed := map[ledger.Account]bool{}
			for i, e := range entries {
				seq := int64(done + i + 1)
				for j, p := range e.Postings {
					postings = append(postings, []any{seq, int64(j), string(p.Account), "USD", p.Amount.Minor})
					if !changed[p.Account] {
						balances = append(balances, []any{string(p.Account), "USD", int64(1), int64(1)})
					}
					changed[p.Account] = true
				}
				heads = append(heads, []any{seq, e.ID, e.Kind, "2026-10-15", "2026-10-15", e.Memo, hash})
			}
			if err := db.insertRows(b.Context(), tx, `postings (entry_seq, idx, account, currency, amount_minor)`, "", postings); err != nil {
				return err
			}
			if err := db.insertRows(b.Context(), tx, `entries (seq, id, kind, value_on, booked_on, memo, content_hash)`, "", heads); err != nil {
				return err
			}
			return db.insertRows(b.Context(), tx, `balances (account, currency, balance_minor, postings)`,
				` ON CONFLICT (account, currency) DO UPDATE SET balance_minor = balances.balance_minor + excluded.balance_minor`, balances)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b)
}

// BenchmarkVerify checks books of 50,000 entries.
func BenchmarkVerify(b *testing.B) {
	for name, dsn := range map[string]func(testing.TB) string{"sqlite": sqliteDSN, "postgres": pgtest.New} {
		b.Run(name, func(b *testing.B) {
			const n = 50_000
			db := openTest(b, dsn(b))
			for i := 0; i < n; i += 1000 {
				if err := db.Post(b.Context(), benchEntries(int64(i), 1000)...); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			for range b.N {
				if fs, err := db.Verify(b.Context()); err != nil || len(fs) > 0 {
					b.Fatal(fs, err)
				}
			}
			b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
