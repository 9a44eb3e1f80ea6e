package store

import (
	"testing"

	"mete/ledger"
	"mete/money"
	"mete/period"
)

func TestPostSmoke(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		d := period.Date{Year: 2026, Month: 10, Day: 31}
		e := ledger.Entry{ID: "a", Kind: "test", ValueOn: d, BookedOn: d, Postings: []ledger.Posting{
			{Account: ledger.Clearing("stripe"), Amount: money.New(5, "USD")},
			{Account: ledger.PayablePending("p"), Amount: money.New(-5, "USD")}}}
		for range 2 {
			if err := db.Post(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		bs, err := db.Balances(t.Context(), ledger.Filter{UpTo: d, Prefix: "liabilities"})
		if err != nil || len(bs) != 1 || bs[0].Amount.Minor != -5 {
			t.Fatal(bs, err)
		}
		for m, err := range db.History(t.Context(), ledger.Clearing("stripe"), ledger.Filter{}) {
			t.Log(m, err)
		}
	})
}
