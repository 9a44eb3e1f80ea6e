package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mete/internal/failpoint"
	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/payouts"
)

var _ payouts.Store = (*DB)(nil)

const (
	payoutBeforeCommit failpoint.Point = "payout.store.before-commit"
	payoutAfterCommit  failpoint.Point = "payout.store.after-commit"
)

// SavePayoutRun implements [payouts.Store].
func (db *DB) SavePayoutRun(ctx context.Context, r payouts.Run) (payouts.Run, error) {
	doc, err := r.Bytes()
	if err != nil {
		return r, fmt.Errorf("save run %s: %w", r.ID, err)
	}
	if got := payouts.ContentOf(doc); got != r.Content {
		panic("store: internal error: run " + r.ID + " is not what its content hash says")
	}
	err = db.tx(ctx, func(tx *sql.Tx) error {
		r.Revision, r.State, r.Approvals, r.SentBack = 1, payouts.RunPlanned, nil, nil
		was, err := db.lockRun(ctx, tx, r.ID)
		switch {
		case errors.Is(err, payouts.ErrNotFound):
			_, err = tx.ExecContext(ctx, `INSERT INTO payout_runs (id, revision, pay_on, state) VALUES ($1, $2, $3, $4)`,
				r.ID, r.Revision, r.PayOn.String(), string(r.State))
		case err == nil:
			r.Revision = was.Revision + 1
			err = db.replacePlan(ctx, tx, r, was)
		}
		if err != nil {
			return err
		}
		return db.insertPlan(ctx, tx, r, string(doc))
	})
	if unique(err) {
		return r, fmt.Errorf("save run %s: a payee has an open payout in another run, or was paid again meanwhile; plan again: %w", r.ID, payouts.ErrConflict)
	}
	if err != nil {
		return r, fmt.Errorf("save run %s: %w", r.ID, err)
	}
	return r, nil
}

// replacePlan makes room for the next revision of a run.
func (db *DB) replacePlan(ctx context.Context, tx *sql.Tx, r payouts.Run, was payouts.RunRow) error {
	var attempts int
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM payout_attempts a JOIN payouts p ON p.id = a.payout_id WHERE p.run_id = $1`, r.ID).Scan(&attempts); err != nil {
		return err
	}
	state := payouts.RunState(was.State)
	if attempts > 0 || state != payouts.RunPlanned && state != payouts.RunApproved && state != payouts.RunSentBack {
		return fmt.Errorf("it is %s and %d of its payouts were handed over; plan another run of the day, number 2: %w", state, attempts, payouts.ErrState)
	}
	if err := db.cancelPlanned(ctx, tx, r.ID, payouts.PlannedAgain(r.Revision)); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `UPDATE payout_runs SET revision = $2, state = $3 WHERE id = $1`, r.ID, r.Revision, string(r.State))
	return err
}

// cancelPlanned cancels the payouts of a run that are planned.
func (db *DB) cancelPlanned(ctx context.Context, tx *sql.Tx, run, reason string) error {
	ids, err := texts(ctx, tx, `UPDATE payouts SET state = $2, reason = $3 WHERE run_id = $1 AND state = 'planned' RETURNING id`, run, string(payouts.Cancelled), reason)
	if err != nil {
		return err
	}
	slices.Sort(ids)
	rows := make([]payouts.Row, len(ids))
	for i, id := range ids {
		rows[i] = payouts.StateRow{ID: id, State: string(payouts.Cancelled), Reason: reason}
	}
	return db.keepFacts(ctx, tx, run, rows...)
}

// insertPlan keeps a revision of a run, whose row says so already.
func (db *DB) insertPlan(ctx context.Context, tx *sql.Tx, r payouts.Run, doc string) error {
	plan := payouts.PlanRow{Run: r.ID, Revision: r.Revision, Content: r.Content, Document: doc, PlannedAt: stamp(r.PlannedAt)}
	if _, err := tx.ExecContext(ctx, `INSERT INTO payout_plans (run_id, revision, content, document, planned_at) VALUES ($1, $2, $3, $4, $5)`,
		plan.Run, plan.Revision, plan.Content, plan.Document, plan.PlannedAt); err != nil {
		return err
	}
	rows := []payouts.Row{payouts.RunRow{ID: r.ID, Revision: r.Revision, PayOn: r.PayOn.String(), State: string(r.State)}, plan}
	for _, p := range r.Payouts {
		body, err := json.Marshal(p)
		if err != nil {
			return err
		}
		row := payouts.PayoutRow{ID: p.ID, Run: r.ID, Revision: r.Revision, Partner: string(p.Partner), Currency: string(p.Amount.Currency), Minor: p.Amount.Minor,
			Account: p.Account, PayOn: p.PayOn.String(), Replaces: p.Replaces, Document: string(body), State: string(p.State)}
		replaces := sql.NullString{String: row.Replaces, Valid: row.Replaces != ""}
		if _, err := tx.ExecContext(ctx, `INSERT INTO payouts (id, run_id, revision, partner, currency, amount_minor, account, pay_on, replaces, document, state, reason)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			row.ID, row.Run, row.Revision, row.Partner, row.Currency, row.Minor, row.Account, row.PayOn, replaces, row.Document, row.State, row.Reason); err != nil {
			return fmt.Errorf("payout %s to %s: %w", p.ID, p.Partner, err)
		}
		rows = append(rows, row)
	}
	return db.keepFacts(ctx, tx, r.ID, rows...)
}

// lockRun holds the run's row until commit: all that changes a run or its payouts
// takes this lock first.
func (db *DB) lockRun(ctx context.Context, tx *sql.Tx, id string) (payouts.RunRow, error) {
	r := payouts.RunRow{ID: id}
	err := tx.QueryRowContext(ctx, `SELECT revision, pay_on, state FROM payout_runs WHERE id = $1`+db.engine.lockRow, id).Scan(&r.Revision, &r.PayOn, &r.State)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("run %s: %w", id, payouts.ErrNotFound)
	}
	return r, err
}

// ChangePayoutRun implements [payouts.Store].
func (db *DB) ChangePayoutRun(ctx context.Context, id string, decide func(payouts.Run) (payouts.Run, error)) (payouts.Run, error) {
	var kept payouts.Run
	err := db.tx(ctx, func(tx *sql.Tx) error {
		was, err := db.lockRun(ctx, tx, id)
		if err != nil {
			return err
		}
		old, err := loadRun(ctx, tx, id)
		if err != nil {
			return err
		}
		next, err := decide(old)
		if err != nil {
			return err
		}
		for _, a := range next.Approvals[min(len(old.Approvals), len(next.Approvals)):] {
			if err := db.insertApproval(ctx, tx, a, old); err != nil {
				return err
			}
		}
		if next.SentBack != nil && old.SentBack == nil {
			if err := db.insertReturn(ctx, tx, *next.SentBack, old); err != nil {
				return err
			}
		}
		if err := db.moveRun(ctx, tx, was, next.State); err != nil {
			return err
		}
		kept, err = loadRun(ctx, tx, id)
		return err
	})
	return kept, err
}

func (db *DB) insertApproval(ctx context.Context, tx *sql.Tx, a payouts.Approval, r payouts.Run) error {
	row := payouts.ApprovalRow{Run: r.ID, Revision: r.Revision, Approver: a.Approver(), By: a.By, Content: a.Content, At: stamp(a.At), Unauthenticated: flag(a.Unauthenticated)}
	if _, err := tx.ExecContext(ctx, `INSERT INTO payout_approvals (run_id, revision, approver, approved_by, content, approved_at, unauthenticated)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`, row.Run, row.Revision, row.Approver, row.By, row.Content, row.At, row.Unauthenticated); err != nil {
		return err
	}
	return db.keepFacts(ctx, tx, r.ID, row)
}

// insertReturn keeps that a run was sent back, and cancels its payouts.
func (db *DB) insertReturn(ctx context.Context, tx *sql.Tx, b payouts.SentBack, r payouts.Run) error {
	row := payouts.ReturnRow{Run: r.ID, Revision: r.Revision, By: b.By, At: stamp(b.At), Reason: b.Reason}
	if _, err := tx.ExecContext(ctx, `INSERT INTO payout_returns (run_id, revision, sent_by, sent_at, reason) VALUES ($1, $2, $3, $4, $5)`,
		row.Run, row.Revision, row.By, row.At, row.Reason); err != nil {
		return err
	}
	if err := db.keepFacts(ctx, tx, r.ID, row); err != nil {
		return err
	}
	return db.cancelPlanned(ctx, tx, r.ID, b.Cancels())
}

// moveRun moves a run to a state; one that was handed over, to what its payouts say.
func (db *DB) moveRun(ctx context.Context, tx *sql.Tx, was payouts.RunRow, to payouts.RunState) error {
	if to.HandedOver() {
		names, err := texts(ctx, tx, `SELECT state FROM payouts WHERE run_id = $1 AND revision = $2`, was.ID, was.Revision)
		if err != nil {
			return err
		}
		states := make([]payouts.State, len(names))
		for i, s := range names {
			states[i] = payouts.State(s)
		}
		to = payouts.Progress(states)
	}
	if was.State == string(to) {
		return nil
	}
	was.State = string(to)
	if _, err := tx.ExecContext(ctx, `UPDATE payout_runs SET state = $2 WHERE id = $1`, was.ID, was.State); err != nil {
		return err
	}
	return db.keepFacts(ctx, tx, was.ID, was)
}

// ChangePayout implements [payouts.Store].
func (db *DB) ChangePayout(ctx context.Context, id string, decide func(payouts.History) (payouts.Step, error)) (payouts.History, error) {
	var kept payouts.History
	changed := false
	err := db.tx(ctx, func(tx *sql.Tx) error {
		changed = false
		var run string
		err := tx.QueryRowContext(ctx, `SELECT run_id FROM payouts WHERE id = $1`, id).Scan(&run)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("payout %s: %w", id, payouts.ErrNotFound)
		}
		if err != nil {
			return err
		}
		was, err := db.lockRun(ctx, tx, run)
		if err != nil {
			return err
		}
		found, err := loadPayouts(ctx, tx, payouts.PayoutFilter{ID: id})
		if err != nil {
			return err
		}
		kept = found[0]
		step, err := decide(kept)
		if err != nil || step.None() {
			return err
		}
		if err := db.keepStep(ctx, tx, kept, step); err != nil {
			return err
		}
		if err := db.moveRun(ctx, tx, was, payouts.RunState(was.State)); err != nil {
			return err
		}
		if found, err = loadPayouts(ctx, tx, payouts.PayoutFilter{ID: id}); err != nil {
			return err
		}
		kept, changed = found[0], true
		return payoutBeforeCommit.Hit()
	})
	if err == nil && changed {
		err = payoutAfterCommit.Hit()
	}
	return kept, err
}

// keepStep writes one step of a payout and books its entry.
func (db *DB) keepStep(ctx context.Context, tx *sql.Tx, h payouts.History, s payouts.Step) error {
	on, err := db.bookOnce(ctx, tx, s.Entry)
	if err != nil {
		return err
	}
	var rows []payouts.Row
	if a := s.Attempt; a != nil {
		r := payouts.AttemptRow{Payout: h.ID, Number: a.Number, Key: a.Key, ParamsHash: a.ParamsHash, At: stamp(a.At), BookedOn: on}
		_, err = tx.ExecContext(ctx, `INSERT INTO payout_attempts (payout_id, number, key, params_hash, attempted_at, booked_on) VALUES ($1, $2, $3, $4, $5, $6)`,
			r.Payout, r.Number, r.Key, r.ParamsHash, r.At, r.BookedOn)
		rows = append(rows, r)
	}
	if t := s.Receipt; t != nil && err == nil {
		r := payouts.ReceiptRow{Payout: h.ID, Number: h.Attempt.Number, Outcome: string(t.Outcome), Ref: t.Ref, On: t.On.String(), Reason: t.Reason}
		_, err = tx.ExecContext(ctx, `INSERT INTO payout_receipts (payout_id, number, outcome, ref, told_on, reason) VALUES ($1, $2, $3, $4, $5, $6)`,
			r.Payout, r.Number, r.Outcome, r.Ref, r.On, r.Reason)
		rows = append(rows, r)
	}
	if c := s.Confirmation; c != nil && err == nil {
		r := payouts.ConfirmationRow{Payout: h.ID, Outcome: string(c.Outcome), Minor: c.Amount.Minor, BankOn: c.BankOn.String(), BankRef: c.BankRef,
			Reason: c.Reason, By: c.By, At: stamp(c.At), Source: c.Source, BookedOn: on}
		_, err = tx.ExecContext(ctx, `INSERT INTO payout_confirmations (payout_id, outcome, amount_minor, bank_on, bank_ref, reason, imported_by, imported_at, source, booked_on)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			r.Payout, r.Outcome, r.Minor, r.BankOn, r.BankRef, r.Reason, r.By, r.At, r.Source, r.BookedOn)
		rows = append(rows, r)
	}
	if s.To != "" && err == nil {
		r := payouts.StateRow{ID: h.ID, State: string(s.To), Reason: s.Reason}
		_, err = tx.ExecContext(ctx, `UPDATE payouts SET state = $2, reason = $3 WHERE id = $1`, r.ID, r.State, r.Reason)
		rows = append(rows, r)
	}
	if err != nil {
		return err
	}
	return db.keepFacts(ctx, tx, h.Run, rows...)
}

// bookOnce decides the day an entry is booked on and books it. It answers that day,
// for the row that causes the entry.
func (db *DB) bookOnce(ctx context.Context, tx *sql.Tx, e *ledger.Entry) (string, error) {
	if e == nil {
		return "", nil
	}
	on, err := bookedOn(ctx, tx, e.ValueOn)
	if err != nil {
		return "", err
	}
	entry := *e
	entry.BookedOn = on
	return on.String(), db.post(ctx, tx, []ledger.Entry{entry}, noMonth)
}

// ChangeHold implements [payouts.Store].
func (db *DB) ChangeHold(ctx context.Context, id string, decide func(*payouts.Hold) (payouts.Hold, *ledger.Entry, error)) (payouts.Hold, error) {
	var kept payouts.Hold
	err := db.tx(ctx, func(tx *sql.Tx) error {
		found, err := loadHolds(ctx, tx, payouts.HoldFilter{ID: id})
		if err != nil {
			return err
		}
		var old *payouts.Hold
		if len(found) > 0 {
			old = &found[0]
		}
		next, entry, err := decide(old)
		if err != nil {
			return err
		}
		kept = next
		if old != nil && old.Released == next.Released {
			return nil
		}
		on, err := db.bookOnce(ctx, tx, entry)
		if err != nil {
			return err
		}
		if err := db.insertHold(ctx, tx, next, on); err != nil {
			return err
		}
		if found, err = loadHolds(ctx, tx, payouts.HoldFilter{ID: id}); err != nil {
			return err
		}
		kept = found[0]
		return nil
	})
	if unique(err) {
		err = fmt.Errorf("hold %s: somebody else placed or released it this moment; look again: %w", id, payouts.ErrConflict)
	}
	return kept, err
}

// insertHold keeps the newest fact of a hold.
func (db *DB) insertHold(ctx context.Context, tx *sql.Tx, h payouts.Hold, booked string) error {
	r := payouts.HoldRow{Hold: h.ID, Step: payouts.HoldPlaced, Partner: string(h.Partner), Currency: string(h.Currency), Minor: h.Amount.Minor, All: flag(h.All),
		Reason: h.Reason, Until: h.Until.String(), By: h.By, At: stamp(h.At), On: h.On.String(), BookedOn: booked}
	if h.Released {
		r.Step, r.Reason, r.By, r.At, r.On = payouts.HoldReleased, h.ReleaseWhy, h.ReleasedBy, stamp(h.ReleasedAt), h.ReleasedOn.String()
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO payout_holds (hold_id, fact, partner, currency, amount_minor, everything, reason, until_on, done_by, done_at, done_on, booked_on)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		r.Hold, r.Step, r.Partner, r.Currency, r.Minor, r.All, r.Reason, r.Until, r.By, r.At, r.On, r.BookedOn); err != nil {
		return err
	}
	return db.keepFacts(ctx, tx, "", r)
}

// PayoutRun implements [payouts.Store].
func (db *DB) PayoutRun(ctx context.Context, id string) (payouts.Run, error) {
	return loadRun(ctx, db.read, id)
}

// PayoutRuns implements [payouts.Store].
func (db *DB) PayoutRuns(ctx context.Context, f payouts.RunFilter) ([]payouts.Run, error) {
	limit := f.Limit
	if limit <= 0 {
		limit = maxRuns
	}
	ids, err := texts(ctx, db.read, `SELECT id FROM payout_runs WHERE substr(id, 1, $2) = $1 ORDER BY pay_on DESC, id LIMIT $3`, f.Prefix, len(f.Prefix), limit)
	if err != nil {
		return nil, fmt.Errorf("payout runs: %w", err)
	}
	runs := make([]payouts.Run, len(ids))
	for i, id := range ids {
		if runs[i], err = loadRun(ctx, db.read, id); err != nil {
			return nil, err
		}
	}
	return runs, nil
}

// maxRuns bounds a list of runs.
const maxRuns = 1000

// loadRun reads the last revision of a run. Amounts, accounts and states of payouts
// come from their rows, so that a row changed by hand no longer fits the content hash.
func loadRun(ctx context.Context, q querier, id string) (payouts.Run, error) {
	var r payouts.Run
	var state, content, doc, at string
	err := q.QueryRowContext(ctx, `SELECT r.revision, r.state, p.content, p.document, p.planned_at
		FROM payout_runs r JOIN payout_plans p ON p.run_id = r.id AND p.revision = r.revision WHERE r.id = $1`, id).
		Scan(&r.Revision, &state, &content, &doc, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return r, fmt.Errorf("run %s: %w", id, payouts.ErrNotFound)
	}
	if err != nil {
		return r, fmt.Errorf("run %s: %w", id, err)
	}
	if err := json.Unmarshal([]byte(doc), &r.Proposal); err != nil {
		return r, fmt.Errorf("run %s: %w", id, err)
	}
	r.State, r.Content = payouts.RunState(state), content
	if r.PlannedAt, err = unstamp(at); err != nil {
		return r, fmt.Errorf("run %s: planned at: %w", id, err)
	}
	rows, err := loadPayouts(ctx, q, payouts.PayoutFilter{Run: id})
	if err != nil {
		return r, err
	}
	byID := map[string]payouts.Payout{}
	for _, h := range rows {
		byID[h.ID] = h.Payout
	}
	for i, p := range r.Payouts {
		if row, ok := byID[p.ID]; ok {
			r.Payouts[i] = row
		}
	}
	if r.SentBack, err = loadReturn(ctx, q, id, r.Revision); err != nil || r.SentBack != nil {
		return r, err
	}
	r.Approvals, err = loadApprovals(ctx, q, id, r.Revision)
	return r, err
}

func loadReturn(ctx context.Context, q querier, id string, revision int) (*payouts.SentBack, error) {
	b := payouts.SentBack{Run: id}
	var at string
	err := q.QueryRowContext(ctx, `SELECT sent_by, sent_at, reason FROM payout_returns WHERE run_id = $1 AND revision = $2`, id, revision).Scan(&b.By, &at, &b.Reason)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("run %s: sent back: %w", id, err)
	}
	b.At, err = unstamp(at)
	return &b, err
}

func loadApprovals(ctx context.Context, q querier, id string, revision int) ([]payouts.Approval, error) {
	rows, err := q.QueryContext(ctx, `SELECT content, approved_by, approved_at, unauthenticated FROM payout_approvals
		WHERE run_id = $1 AND revision = $2 ORDER BY approved_at, approver`, id, revision)
	if err != nil {
		return nil, fmt.Errorf("run %s: approvals: %w", id, err)
	}
	defer rows.Close()
	var out []payouts.Approval
	for rows.Next() {
		a := payouts.Approval{Run: id}
		var at string
		var unauthenticated int
		if err := rows.Scan(&a.Content, &a.By, &at, &unauthenticated); err != nil {
			return nil, fmt.Errorf("run %s: approvals: %w", id, err)
		}
		a.Unauthenticated = unauthenticated == 1
		if a.At, err = unstamp(at); err != nil {
			return nil, fmt.Errorf("run %s: approvals: %w", id, err)
		}
		out = append(out, a)
	}
	return out, rows.Err()
}

// Payouts implements [payouts.Store].
func (db *DB) Payouts(ctx context.Context, f payouts.PayoutFilter) ([]payouts.History, error) {
	return loadPayouts(ctx, db.read, f)
}

// payoutWhere narrows payouts p by a filter, naming only columns that are asked for,
// so that an index serves each.
func payoutWhere(f payouts.PayoutFilter) (where string, args []any) {
	where = " WHERE 1 = 1"
	for _, c := range []struct{ column, value string }{
		{"p.id", f.ID}, {"p.run_id", f.Run}, {"p.partner", string(f.Partner)}, {"p.currency", string(f.Currency)}, {"p.pay_on", f.PayOn.String()},
	} {
		if c.value != "" {
			args = append(args, c.value)
			where += fmt.Sprintf(" AND %s = $%d", c.column, len(args))
		}
	}
	if f.Open {
		where += " AND p.state IN ('planned', 'in transit')"
	}
	return where, args
}

func loadPayouts(ctx context.Context, q querier, f payouts.PayoutFilter) ([]payouts.History, error) {
	where, args := payoutWhere(f)
	rows, err := q.QueryContext(ctx, `SELECT p.document, p.amount_minor, p.account, p.state, p.reason, r.state,
		COALESCE(a.number, 0), COALESCE(a.key, ''), COALESCE(a.params_hash, ''), COALESCE(a.attempted_at, ''), COALESCE(a.booked_on, ''),
		COALESCE(t.outcome, 'unknown'), COALESCE(t.ref, '')
		FROM payouts p JOIN payout_runs r ON r.id = p.run_id
		LEFT JOIN payout_attempts a ON a.payout_id = p.id
		LEFT JOIN payout_receipts t ON t.payout_id = a.payout_id AND t.number = a.number`+where+`
		ORDER BY p.pay_on DESC, length(p.id) DESC, p.id DESC`, args...)
	if err != nil {
		return nil, fmt.Errorf("payouts: %w", err)
	}
	defer rows.Close()
	var out []payouts.History
	at := map[string]int{}
	for rows.Next() {
		h, err := scanPayout(rows)
		if err != nil {
			return nil, err
		}
		at[h.ID] = len(out)
		out = append(out, h)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, fmt.Errorf("payouts: %w", err)
	}
	return out, loadConfirmations(ctx, q, f, out, at)
}

func scanPayout(rows *sql.Rows) (payouts.History, error) {
	var h payouts.History
	var a payouts.Attempt
	var doc, account, state, reason, run, when, booked, outcome string
	var minor int64
	if err := rows.Scan(&doc, &minor, &account, &state, &reason, &run, &a.Number, &a.Key, &a.ParamsHash, &when, &booked, &outcome, &a.RailRef); err != nil {
		return h, fmt.Errorf("payouts: %w", err)
	}
	if err := json.Unmarshal([]byte(doc), &h.Payout); err != nil {
		return h, fmt.Errorf("payouts: document: %w", err)
	}
	h.Amount.Minor, h.Account = minor, account
	h.State, h.Reason, h.RunState = payouts.State(state), reason, payouts.RunState(run)
	if a.Number == 0 {
		return h, nil
	}
	var err error
	if a.At, err = unstamp(when); err != nil {
		return h, fmt.Errorf("payout %s: attempted at: %w", h.ID, err)
	}
	if err := a.BookedOn.UnmarshalText([]byte(booked)); err != nil {
		return h, fmt.Errorf("payout %s: attempt: %w", h.ID, err)
	}
	a.Payout, a.State = h.ID, payouts.Outcome(outcome)
	h.Attempt = &a
	return h, nil
}

// loadConfirmations adds what banks said, in the order it can be said in.
func loadConfirmations(ctx context.Context, q querier, f payouts.PayoutFilter, out []payouts.History, at map[string]int) error {
	if len(out) == 0 {
		return nil
	}
	where, args := payoutWhere(f)
	rows, err := q.QueryContext(ctx, `SELECT c.payout_id, c.outcome, c.amount_minor, c.bank_on, c.bank_ref, c.reason, c.imported_by, c.imported_at, c.source
		FROM payout_confirmations c JOIN payouts p ON p.id = c.payout_id`+where+` ORDER BY c.payout_id, c.imported_at, c.outcome`, args...)
	if err != nil {
		return fmt.Errorf("payout confirmations: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var c payouts.Confirmation
		var outcome, on, when string
		var minor int64
		if err := rows.Scan(&c.Payout, &outcome, &minor, &on, &c.BankRef, &c.Reason, &c.By, &when, &c.Source); err != nil {
			return fmt.Errorf("payout confirmations: %w", err)
		}
		i, ok := at[c.Payout]
		if !ok {
			continue // came into being after the first query
		}
		c.Outcome, c.Amount = payouts.Outcome(outcome), money.New(minor, out[i].Amount.Currency)
		if c.At, err = unstamp(when); err != nil {
			return fmt.Errorf("payout %s: confirmed at: %w", c.Payout, err)
		}
		if err := c.BankOn.UnmarshalText([]byte(on)); err != nil {
			return fmt.Errorf("payout %s: bank date: %w", c.Payout, err)
		}
		out[i].Confirmations = append(out[i].Confirmations, c)
	}
	return rows.Err()
}

// Holds implements [payouts.Store].
func (db *DB) Holds(ctx context.Context, f payouts.HoldFilter) ([]payouts.Hold, error) {
	return loadHolds(ctx, db.read, f)
}

func loadHolds(ctx context.Context, q querier, f payouts.HoldFilter) ([]payouts.Hold, error) {
	rows, err := q.QueryContext(ctx, `SELECT p.hold_id, p.partner, p.currency, p.amount_minor, p.everything, p.reason, p.until_on, p.done_by, p.done_at, p.done_on, p.booked_on,
		COALESCE(r.done_by, ''), COALESCE(r.reason, ''), COALESCE(r.done_at, ''), COALESCE(r.done_on, ''), COALESCE(r.booked_on, '')
		FROM payout_holds p LEFT JOIN payout_holds r ON r.hold_id = p.hold_id AND r.fact = 'release'
		WHERE p.fact = 'place' AND ($1 = '' OR p.hold_id = $1) AND ($2 = '' OR p.partner = $2) AND ($3 = '' OR p.currency = $3)
		AND ($4 = 0 OR r.hold_id IS NULL) ORDER BY p.done_at, p.hold_id`,
		f.ID, string(f.Partner), string(f.Currency), flag(f.InForce))
	if err != nil {
		return nil, fmt.Errorf("holds: %w", err)
	}
	defer rows.Close()
	var out []payouts.Hold
	for rows.Next() {
		h, err := scanHold(rows)
		if err != nil {
			return nil, fmt.Errorf("hold %s: %w", h.ID, err)
		}
		out = append(out, h)
	}
	return out, rows.Err()
}

func scanHold(rows *sql.Rows) (payouts.Hold, error) {
	var h payouts.Hold
	var who, currency, until, at, on, booked, freedAt, freedOn, freedBooked string
	var minor int64
	var all int
	err := rows.Scan(&h.ID, &who, &currency, &minor, &all, &h.Reason, &until, &h.By, &at, &on, &booked,
		&h.ReleasedBy, &h.ReleaseWhy, &freedAt, &freedOn, &freedBooked)
	if err != nil {
		return h, err
	}
	h.Partner, h.Currency, h.All = partner.ID(who), money.Currency(currency), all == 1
	h.Amount, h.Released = money.New(minor, h.Currency), h.ReleasedBy != ""
	var atErr, freedErr error
	h.At, atErr = unstamp(at)
	h.ReleasedAt, freedErr = unstamp(freedAt)
	return h, errors.Join(atErr, freedErr, h.Until.UnmarshalText([]byte(until)), h.On.UnmarshalText([]byte(on)), h.HeldBooked.UnmarshalText([]byte(booked)),
		h.ReleasedOn.UnmarshalText([]byte(freedOn)), h.FreedBooked.UnmarshalText([]byte(freedBooked)))
}

// unique reports whether a row would break a unique constraint.
func unique(err error) bool {
	var pg interface{ SQLState() string }
	if errors.As(err, &pg) {
		return pg.SQLState() == "23505"
	}
	return err != nil && strings.Contains(err.Error(), "UNIQUE constraint failed")
}
