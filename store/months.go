package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mete/ledger"
	"mete/period"
)

// MonthState is how far the books of a month are; a month without a row is open.
func (db *DB) MonthState(ctx context.Context, m period.Month) (ledger.MonthState, error) {
	return monthState(ctx, db.read, m, "")
}

// monthState reads a month's state; lock is appended to the query.
func monthState(ctx context.Context, q querier, m period.Month, lock string) (ledger.MonthState, error) {
	var s string
	err := q.QueryRowContext(ctx, `SELECT state FROM months WHERE month = $1`, m.String()).Scan(&s)
	if errors.Is(err, sql.ErrNoRows) {
		return ledger.Open, nil
	}
	if err != nil {
		return "", fmt.Errorf("state of %s: %w", m, err)
	}
	return ledger.MonthState(s), nil
}

// SetMonthState moves a month one state on. It does nothing when the month is there
// already, and fails with [ledger.ErrMonthState] when it is neither there nor in from.
func (db *DB) SetMonthState(ctx context.Context, m period.Month, from, to ledger.MonthState, at time.Time) error {
	return db.tx(ctx, func(tx *sql.Tx) error { return db.setMonthState(ctx, tx, m, from, to, at) })
}

// setMonthState is SetMonthState inside the caller's transaction. It holds the head until
// commit, so that no entry slips into a month while it closes.
func (db *DB) setMonthState(ctx context.Context, tx *sql.Tx, m period.Month, from, to ledger.MonthState, at time.Time) error {
	if m == (period.Month{}) {
		return errors.New("month state: no month given")
	}
	if err := from.CheckStep(to); err != nil {
		return fmt.Errorf("month %s: %w", m, err)
	}
	seq, err := db.lockHead(ctx, tx)
	if err != nil {
		return err
	}
	is, err := monthState(ctx, tx, m, db.engine.lockRow)
	if err != nil || is == to {
		return err
	}
	if is != from {
		return fmt.Errorf("month %s is %s, not %s: %w", m, is, from, ledger.ErrMonthState)
	}
	query := `UPDATE months SET state = 'locked', locked_seq = $2, locked_at = $3 WHERE month = $1`
	switch to {
	case ledger.Closing:
		query = `INSERT INTO months (month, state, closing_seq, closing_at) VALUES ($1, 'closing', $2, $3)
			ON CONFLICT (month) DO UPDATE SET state = excluded.state, closing_seq = excluded.closing_seq, closing_at = excluded.closing_at`
	case ledger.Closed:
		query = `UPDATE months SET state = 'closed', closed_seq = $2, closed_at = $3 WHERE month = $1`
	}
	if _, err := tx.ExecContext(ctx, query, m.String(), seq, stamp(at)); err != nil {
		return fmt.Errorf("month %s: %w", m, err)
	}
	return nil
}

// maxMonthsAhead bounds the search for an open month: two hundred years.
const maxMonthsAhead = 2400

// BookedOn is the booking date of a fact of the given day: that day while its month
// is open, else the first day of the first open month behind it. Decide it once and
// keep it with the fact, so that a retry posts the same entry.
func (db *DB) BookedOn(ctx context.Context, valueOn period.Date) (period.Date, error) {
	return bookedOn(ctx, db.read, valueOn)
}

func bookedOn(ctx context.Context, q querier, valueOn period.Date) (period.Date, error) {
	if valueOn.IsZero() {
		return period.Date{}, errors.New("booking date: no value date given")
	}
	m := valueOn.MonthOf()
	for range maxMonthsAhead {
		state, err := monthState(ctx, q, m, "")
		if err != nil {
			return period.Date{}, err
		}
		if state != ledger.Open {
			m = m.Add(1)
			continue
		}
		if m == valueOn.MonthOf() {
			return valueOn, nil
		}
		return m.First(), nil
	}
	return period.Date{}, fmt.Errorf("booking date of %s: no open month within %d months", valueOn, maxMonthsAhead)
}
