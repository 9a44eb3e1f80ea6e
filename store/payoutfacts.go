package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strings"

	"mete/payouts"
)

// notBegun is the head of facts while the rows kept before the first have none.
const notBegun = -1

// keepFacts keeps a fact for each row of a run that the transaction wrote; holds have
// no run. It holds the head until commit, so call it last: after the row of the run,
// after the ledger's head.
func (db *DB) keepFacts(ctx context.Context, tx *sql.Tx, run string, rows ...payouts.Row) error {
	if len(rows) == 0 {
		return nil
	}
	var head int64
	if err := tx.QueryRowContext(ctx, `SELECT seq FROM payout_head WHERE id = 1`+db.engine.lockRow).Scan(&head); err != nil {
		return fmt.Errorf("head of payout facts: %w", err)
	}
	if head == notBegun {
		return fmt.Errorf("payout facts: the rows kept before have none; open the store again")
	}
	return db.appendFacts(ctx, tx, head, run, rows)
}

func (db *DB) appendFacts(ctx context.Context, tx *sql.Tx, head int64, run string, rows []payouts.Row) error {
	chain, err := texts(ctx, tx, `SELECT chain FROM payout_facts WHERE run_id = $1 ORDER BY seq DESC LIMIT 1`, run)
	if err != nil {
		return fmt.Errorf("payout facts: %w", err)
	}
	before := strings.Join(chain, "")
	var facts [][]any
	for i, r := range rows {
		f := payouts.FactRow{Seq: head + int64(i) + 1, Run: run, Fact: r.Fact()}
		f.Chain = f.Link(before)
		before = f.Chain
		facts = append(facts, []any{f.Seq, f.Run, string(f.Kind), f.Key, f.Digest, f.Chain})
	}
	if err := db.insertRows(ctx, tx, `payout_facts (seq, run_id, kind, key, digest, chain)`, "", facts); err != nil {
		return fmt.Errorf("payout facts: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE payout_head SET seq = $1 WHERE id = 1`, head+int64(len(rows))); err != nil {
		return fmt.Errorf("head of payout facts: %w", err)
	}
	return nil
}

// beginFacts gives the rows of a store that had no facts yet one each, once. Where
// facts or their head were taken away by hand it leaves them so, to be found.
func (db *DB) beginFacts(ctx context.Context) error {
	return db.tx(ctx, func(tx *sql.Tx) error {
		var head int64
		err := tx.QueryRowContext(ctx, `SELECT seq FROM payout_head WHERE id = 1`+db.engine.lockRow).Scan(&head)
		if errors.Is(err, sql.ErrNoRows) || err == nil && head != notBegun {
			return nil
		}
		if err != nil {
			return fmt.Errorf("head of payout facts: %w", err)
		}
		var facts int64
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM payout_facts`).Scan(&facts); err != nil || facts > 0 {
			return err
		}
		runs, err := runsKept(ctx, tx)
		if err != nil {
			return err
		}
		head = 0
		for _, run := range append(runs, "") {
			k, err := kept(ctx, tx, run)
			if err != nil {
				return err
			}
			rows := k.Rows()
			if err := db.appendFacts(ctx, tx, head, run, rows); err != nil {
				return err
			}
			head += int64(len(rows))
		}
		return nil
	})
}

// Kept implements [payouts.Store].
func (db *DB) Kept(ctx context.Context) iter.Seq2[payouts.Kept, error] {
	return func(yield func(payouts.Kept, error) bool) {
		tx, err := db.read.BeginTx(ctx, &db.engine.snapshot)
		if err != nil {
			yield(payouts.Kept{}, fmt.Errorf("payouts kept: begin: %w", err))
			return
		}
		defer tx.Rollback()
		runs, err := runsKept(ctx, tx)
		if err != nil {
			yield(payouts.Kept{}, fmt.Errorf("payouts kept: %w", err))
			return
		}
		for _, run := range append(runs, "") {
			k, err := kept(ctx, tx, run)
			if err != nil {
				err = fmt.Errorf("payouts kept of run %q: %w", run, err)
			}
			if !yield(k, err) || err != nil {
				return
			}
		}
	}
}

// runsKept are the names of runs that any row has, of rows that stand alone too.
func runsKept(ctx context.Context, q querier) ([]string, error) {
	return texts(ctx, q, `SELECT r.name FROM (SELECT id AS name FROM payout_runs UNION SELECT run_id FROM payout_plans
		UNION SELECT run_id FROM payout_approvals UNION SELECT run_id FROM payout_returns UNION SELECT run_id FROM payouts
		UNION SELECT run_id FROM payout_facts) r WHERE r.name <> '' ORDER BY r.name`)
}

// kept reads the rows of one run. What names a payout that is not there belongs to no
// run, and so do holds and the head of the facts.
func kept(ctx context.Context, q querier, run string) (payouts.Kept, error) {
	k := payouts.Kept{Run: run}
	of := ` WHERE payout_id IN (SELECT id FROM payouts WHERE run_id = $1)`
	if run == "" {
		of = ` WHERE NOT EXISTS (SELECT 1 FROM payouts p WHERE p.id = payout_id AND p.run_id <> $1)`
	}
	read := reading{q: q, run: run}
	readRows(ctx, &read, &k.Runs, `SELECT id, revision, pay_on, state FROM payout_runs WHERE id = $1`,
		func(r *payouts.RunRow) []any { return []any{&r.ID, &r.Revision, &r.PayOn, &r.State} })
	readRows(ctx, &read, &k.Plans, `SELECT run_id, revision, content, document, planned_at FROM payout_plans WHERE run_id = $1 ORDER BY revision`,
		func(r *payouts.PlanRow) []any {
			return []any{&r.Run, &r.Revision, &r.Content, &r.Document, &r.PlannedAt}
		})
	readRows(ctx, &read, &k.Approvals, `SELECT run_id, revision, approver, approved_by, content, approved_at, unauthenticated
		FROM payout_approvals WHERE run_id = $1 ORDER BY revision, approver`,
		func(r *payouts.ApprovalRow) []any {
			return []any{&r.Run, &r.Revision, &r.Approver, &r.By, &r.Content, &r.At, &r.Unauthenticated}
		})
	readRows(ctx, &read, &k.Returns, `SELECT run_id, revision, sent_by, sent_at, reason FROM payout_returns WHERE run_id = $1 ORDER BY revision`,
		func(r *payouts.ReturnRow) []any { return []any{&r.Run, &r.Revision, &r.By, &r.At, &r.Reason} })
	readRows(ctx, &read, &k.Payouts, `SELECT id, run_id, revision, partner, currency, amount_minor, account, pay_on, COALESCE(replaces, ''), document, state, reason
		FROM payouts WHERE run_id = $1 ORDER BY id`,
		func(r *payouts.PayoutRow) []any {
			return []any{&r.ID, &r.Run, &r.Revision, &r.Partner, &r.Currency, &r.Minor, &r.Account, &r.PayOn, &r.Replaces, &r.Document, &r.State, &r.Reason}
		})
	readRows(ctx, &read, &k.Attempts, `SELECT payout_id, number, key, params_hash, attempted_at, booked_on FROM payout_attempts`+of+` ORDER BY payout_id, number`,
		func(r *payouts.AttemptRow) []any {
			return []any{&r.Payout, &r.Number, &r.Key, &r.ParamsHash, &r.At, &r.BookedOn}
		})
	readRows(ctx, &read, &k.Receipts, `SELECT payout_id, number, outcome, ref, told_on, reason FROM payout_receipts`+of+` ORDER BY payout_id, number`,
		func(r *payouts.ReceiptRow) []any {
			return []any{&r.Payout, &r.Number, &r.Outcome, &r.Ref, &r.On, &r.Reason}
		})
	readRows(ctx, &read, &k.Confirmations, `SELECT payout_id, outcome, amount_minor, bank_on, bank_ref, reason, imported_by, imported_at, source, booked_on
		FROM payout_confirmations`+of+` ORDER BY payout_id, outcome`,
		func(r *payouts.ConfirmationRow) []any {
			return []any{&r.Payout, &r.Outcome, &r.Minor, &r.BankOn, &r.BankRef, &r.Reason, &r.By, &r.At, &r.Source, &r.BookedOn}
		})
	readRows(ctx, &read, &k.Facts, `SELECT seq, run_id, kind, key, digest, chain FROM payout_facts WHERE run_id = $1 ORDER BY seq`,
		func(r *payouts.FactRow) []any { return []any{&r.Seq, &r.Run, &r.Kind, &r.Key, &r.Digest, &r.Chain} })
	if run == "" {
		readRows(ctx, &read, &k.Holds, `SELECT hold_id, fact, partner, currency, amount_minor, everything, reason, until_on, done_by, done_at, done_on, booked_on
			FROM payout_holds WHERE $1 = '' ORDER BY hold_id, fact`,
			func(r *payouts.HoldRow) []any {
				return []any{&r.Hold, &r.Step, &r.Partner, &r.Currency, &r.Minor, &r.All, &r.Reason, &r.Until, &r.By, &r.At, &r.On, &r.BookedOn}
			})
		readRows(ctx, &read, &k.Heads, `SELECT id, seq FROM payout_head WHERE $1 = '' ORDER BY id`,
			func(h *payouts.Head) []any { return []any{&h.ID, &h.Seq} })
	}
	return k, read.err
}

// reading is a row of queries about one run; the first error ends it.
type reading struct {
	q   querier
	run string
	err error
}

// readRows reads rows into a list; fields says where the columns go.
func readRows[T any](ctx context.Context, r *reading, list *[]T, query string, fields func(*T) []any) {
	if r.err != nil {
		return
	}
	rows, err := r.q.QueryContext(ctx, query, r.run)
	if err != nil {
		r.err = err
		return
	}
	defer rows.Close()
	for rows.Next() {
		var row T
		if r.err = rows.Scan(fields(&row)...); r.err != nil {
			return
		}
		*list = append(*list, row)
	}
	r.err = rows.Err()
}
