package store

import (
	"strings"
	"testing"

	"mete/internal/pgtest"
	"mete/ledger"
	"mete/partner"
	"mete/payouts"
	"mete/payouts/payoutstest"
	"mete/period"
)

func TestPayouts(t *testing.T) {
	for name, dsn := range map[string]func(testing.TB) string{"sqlite": sqliteDSN, "postgres": pgtest.New} {
		t.Run(name, func(t *testing.T) {
			payoutstest.TestStore(t, func(t *testing.T) payoutstest.Books { return openTest(t, dsn(t)) })
		})
	}
}

// sentPayout is a store with one payout in transit.
func sentPayout(t *testing.T, db *DB) (*payouts.Desk, payouts.Run) {
	t.Helper()
	desk := &payouts.Desk{Store: db, Books: db, Rails: map[string]payouts.Rail{"testbank": &payoutstest.Bank{}}}
	payoutstest.Fund(t, db, "northwind", "northwind", payoutstest.USD("100.00"))
	r, err := desk.Plan(t.Context(), payoutstest.Input("testbank", "2026-11-20", payoutstest.Candidate("northwind", "testbank", "2026-10")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := desk.Approve(t.Context(), payouts.Approval{Run: r.ID, Content: r.Short(), By: "a.kim", At: payoutstest.At}); err != nil {
		t.Fatal(err)
	}
	if _, err := desk.Submit(t.Context(), payouts.Order{Run: r.ID, By: "m.ortiz", At: payoutstest.At}); err != nil {
		t.Fatal(err)
	}
	return desk, r
}

// TestPayoutFactsStand changes and deletes facts behind the program's back.
func TestPayoutFactsStand(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		desk, r := sentPayout(t, db)
		p := r.Payouts[0]
		if _, err := desk.Confirm(t.Context(), []payouts.Confirmation{{Payout: p.ID, Outcome: payouts.Paid, Amount: p.Amount, BankOn: p.PayOn, BankRef: "W", By: "x", At: payoutstest.At.AddDate(0, 1, 0)}}); err != nil {
			t.Fatal(err)
		}
		payoutstest.Fund(t, db, "more", "northwind", payoutstest.USD("5.00"))
		if _, err := desk.Hold(t.Context(), payouts.Hold{ID: "h", Partner: "northwind", Currency: "USD", Amount: payoutstest.USD("5.00"), Reason: "r", By: "x", At: payoutstest.At, On: p.PayOn}); err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{
			`UPDATE payout_plans SET content = 'x'`, `DELETE FROM payout_plans`,
			`UPDATE payout_approvals SET approved_by = 'x'`, `DELETE FROM payout_approvals`,
			`UPDATE payout_attempts SET params_hash = 'x'`, `DELETE FROM payout_attempts`,
			`UPDATE payout_receipts SET outcome = 'paid'`, `DELETE FROM payout_receipts`,
			`UPDATE payout_confirmations SET amount_minor = 1`, `DELETE FROM payout_confirmations`,
			`UPDATE payout_holds SET amount_minor = 1`, `DELETE FROM payout_holds`,
			`DELETE FROM payouts`,
			`UPDATE payout_facts SET digest = chain`, `DELETE FROM payout_facts`, `UPDATE payout_head SET seq = -2`, `INSERT INTO payout_head VALUES (2, 0)`,
			`INSERT INTO payout_attempts VALUES ('` + p.ID + `', 2, 'k', 'h', '', '')`,
			`INSERT INTO payout_attempts VALUES ('` + p.ID + `', 1, 'k', 'h', '', '')`,
		} {
			if _, err := db.write.ExecContext(t.Context(), q); err == nil {
				t.Errorf("done: %s", q)
			}
		}
	})
}

// TestAlteredPayout changes an amount and an account by hand after the approval.
func TestAlteredPayout(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		desk, r := sentPayout(t, db)
		for _, q := range []string{`UPDATE payouts SET amount_minor = 1`, `UPDATE payouts SET amount_minor = 10000, account = 'acct-thief'`} {
			if _, err := db.write.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
			_, err := desk.Submit(t.Context(), payouts.Order{Run: r.ID, By: "m.ortiz", At: payoutstest.At})
			if err == nil || !strings.Contains(err.Error(), "the database was changed by hand") {
				t.Errorf("%s: %v", q, err)
			}
		}
	})
}

// TestBookedInOpenMonths closes months under payouts: they are booked on the first
// day of the first open month, and stay there.
func TestBookedInOpenMonths(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		desk, r := sentPayout(t, db)
		november := period.Month{Year: 2026, Month: 11}
		if err := db.SetMonthState(t.Context(), november, ledger.Open, ledger.Closing, payoutstest.At); err != nil {
			t.Fatal(err)
		}
		p := r.Payouts[0]
		paid := []payouts.Confirmation{{Payout: p.ID, Outcome: payouts.Paid, Amount: p.Amount, BankOn: p.PayOn, BankRef: "W", By: "x", At: payoutstest.At.AddDate(0, 1, 0)}}
		for range 2 {
			if _, err := desk.Confirm(t.Context(), paid); err != nil {
				t.Fatal(err)
			}
		}
		for id, want := range map[string]string{":submit": "2026-11-20", ":settle": "2026-12-01"} {
			e, err := db.Entry(t.Context(), "payout:"+p.ID+id)
			if err != nil || e.ValueOn != p.PayOn || e.BookedOn != payoutstest.Day(want) {
				t.Errorf("%s: of %s, booked on %s, %v; want %s", id, e.ValueOn, e.BookedOn, err, want)
			}
		}
	})
}

func TestOnePayoutOpen(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		sentPayout(t, db)
		_, err := db.write.ExecContext(t.Context(), `INSERT INTO payouts (id, run_id, revision, partner, currency, amount_minor, account, pay_on, document, state, reason)
			SELECT 'P-2026-11-20-999', run_id, revision, partner, currency, amount_minor, account, pay_on, document, 'planned', '' FROM payouts`)
		if !unique(err) {
			t.Errorf("a second open payout: %v", err)
		}
		all, err := db.Payouts(t.Context(), payouts.PayoutFilter{Partner: partner.ID("northwind"), Currency: "USD", Open: true, PayOn: payoutstest.Day("2026-11-20")})
		if err != nil || len(all) != 1 {
			t.Errorf("%d open, %v", len(all), err)
		}
		if none, err := db.Payouts(t.Context(), payouts.PayoutFilter{Partner: "quill"}); err != nil || len(none) != 0 {
			t.Errorf("of another partner: %d, %v", len(none), err)
		}
	})
}

// TestFactsOfOlderStore opens a store that kept payouts before there were facts: each
// row gets one, once. What was taken away by hand is not given back.
func TestFactsOfOlderStore(t *testing.T) {
	for name, dsn := range map[string]string{"sqlite": sqliteDSN(t), "postgres": pgtest.New(t)} {
		t.Run(name, func(t *testing.T) {
			reopened := func(queries ...string) *payouts.Desk {
				db := openTest(t, dsn)
				for _, q := range queries {
					if _, err := db.write.ExecContext(t.Context(), q); err != nil {
						t.Fatal(err)
					}
				}
				db = openTest(t, dsn)
				return &payouts.Desk{Store: db, Books: db}
			}
			unguard := `DROP TRIGGER payout_facts_no_delete`
			if name == "postgres" {
				unguard = `ALTER TABLE payout_facts DISABLE TRIGGER ALL`
			}
			payoutstest.World(t, openTest(t, dsn))
			payoutstest.Sound(t, reopened(unguard, `DELETE FROM payout_facts`, `UPDATE payout_head SET seq = -1`))
			for what, queries := range map[string][]string{
				"facts deleted":          {`DELETE FROM payout_facts`},
				"facts and head deleted": {`DELETE FROM payout_head`},
			} {
				a, err := reopened(queries...).Check(t.Context())
				if err != nil || len(a.Findings) == 0 {
					t.Errorf("%s: %v, %v", what, a.Findings, err)
				}
			}
		})
	}
}
