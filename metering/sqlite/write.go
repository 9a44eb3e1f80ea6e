package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"mete/metering"
)

// mergeAt is how many recent keys are gathered before they move into the sorted
// table. More means fewer pages written and a longer pause for the block that does it.
const mergeAt = 1 << 17

// maxCachedCells bounds the cells whose numbers are kept in memory.
const maxCachedCells = 1 << 16

// writer is the one connection that changes the file, with what it remembers of it.
// What it remembers is dropped after any failed write and whenever another process
// has written.
type writer struct {
	conn    *sql.Conn
	mergeAt int // recent keys
	stmts   map[string]*sql.Stmt
	stale   bool
	closed  bool

	version int64                  // of the file, as this connection sees it
	recent  map[metering.Key]int64 // keys_recent: key → place
	waiting int64                  // voids without target
	cells   map[cell]int64
	sources map[string]int64
}

// write runs f in one transaction, alone. Nothing of it remains when f or the
// commit fails, or ctx ends before the commit.
func (s *Store) write(ctx context.Context, f func(*writer) error) error {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.turn <- struct{}{} }()
	w := s.w
	if w.closed {
		return errors.New("the store is closed")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err := w.transaction(ctx, f)
	if err != nil {
		w.stale = true
		if ctx.Err() != nil {
			return ctx.Err() // the engine only says that it was interrupted
		}
	}
	return err
}

func (w *writer) transaction(ctx context.Context, f func(*writer) error) error {
	// Nothing may leave the transaction open, whatever becomes of ctx.
	lasting := context.WithoutCancel(ctx)
	rollback := func(err error) error {
		if _, e := w.conn.ExecContext(lasting, `ROLLBACK`); e != nil && !w.rolledBack(lasting) {
			return errors.Join(err, fmt.Errorf("roll back: %w", e))
		}
		return err
	}
	if _, err := w.conn.ExecContext(ctx, `BEGIN IMMEDIATE`); err != nil {
		// It may have begun all the same, just before ctx ended.
		return rollback(fmt.Errorf("begin: is another process filling this store? %w", err))
	}
	if err := w.refresh(ctx); err != nil {
		return rollback(err)
	}
	if err := f(w); err != nil {
		return rollback(err)
	}
	if err := ctx.Err(); err != nil {
		return rollback(err)
	}
	if _, err := w.conn.ExecContext(lasting, `COMMIT`); err != nil {
		return rollback(fmt.Errorf("commit: %w", err))
	}
	return nil
}

// rolledBack reports whether the engine has ended the transaction by itself, as it
// does when the disk is full: then a new one can begin.
func (w *writer) rolledBack(ctx context.Context) bool {
	if _, err := w.conn.ExecContext(ctx, `BEGIN`); err != nil {
		return false
	}
	_, err := w.conn.ExecContext(ctx, `ROLLBACK`)
	return err == nil
}

// refresh reads again what the writer remembers, if that may be out of date.
func (w *writer) refresh(ctx context.Context) error {
	var version int64
	if err := w.queryRow(ctx, `PRAGMA data_version`, nil, &version); err != nil {
		return err
	}
	if !w.stale && version == w.version {
		return nil
	}
	w.version = version
	w.cells, w.sources = map[cell]int64{}, map[string]int64{}
	w.recent = map[metering.Key]int64{}
	if err := w.queryRow(ctx, `SELECT count(*) FROM voids WHERE target IS NULL`, nil, &w.waiting); err != nil {
		return err
	}
	rows, err := w.conn.QueryContext(ctx, `SELECT place, event_key FROM keys_recent`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var place int64
		var key sql.RawBytes
		if err := rows.Scan(&place, &key); err != nil {
			return err
		}
		w.recent[toKey(key)] = place
	}
	if err := rows.Err(); err != nil {
		return err
	}
	w.stale = false
	return nil
}

// stmt prepares a statement once for the life of the connection.
func (w *writer) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if st := w.stmts[query]; st != nil {
		return st, nil
	}
	st, err := w.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if w.stmts == nil {
		w.stmts = map[string]*sql.Stmt{}
	}
	w.stmts[query] = st
	return st, nil
}

func (w *writer) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	st, err := w.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.ExecContext(ctx, args...)
}

func (w *writer) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	st, err := w.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

func (w *writer) queryRow(ctx context.Context, query string, args []any, into ...any) error {
	st, err := w.stmt(ctx, query)
	if err != nil {
		return err
	}
	return st.QueryRowContext(ctx, args...).Scan(into...)
}

func (w *writer) close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	var errs []error
	for _, st := range w.stmts {
		errs = append(errs, st.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// toKey copies a stored key. A damaged one becomes the zero key, which no event has.
func toKey(b []byte) (k metering.Key) {
	if len(b) == len(k) {
		copy(k[:], b)
	}
	return k
}
