package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"mete/internal/failpoint"
	"mete/metering"
)

// The step of a redaction at which a crash is tried.
const afterOverwrite failpoint.Point = "redact.after-overwrite"

// redactionColumns are what [scanRedaction] reads.
const (
	redactionColumns = `r.id, r.event_key, r.field, r.reason, r.proposed_by, r.proposed_us, coalesce(a.approved_by, ''), a.approved_us`
	redactionTables  = ` FROM redactions r LEFT JOIN redactions_approved a ON a.id = r.id `
)

func scanRedaction(scan func(...any) error) (metering.Redaction, error) {
	var r metering.Redaction
	var key []byte
	var proposed int64
	var approved *int64
	err := scan(&r.ID, &key, &r.Field, &r.Reason, &r.ProposedBy, &proposed, &r.ApprovedBy, &approved)
	r.Key, r.ProposedAt, r.ApprovedAt = toKey(key), instant(&proposed), instant(approved)
	return r, err
}

// Redactions yields those of the keys, or all, in the order of proposals, see
// [metering.Redactor].
func (s *Store) Redactions(ctx context.Context, keys ...metering.Key) ([]metering.Redaction, error) {
	var rs []metering.Redaction
	err := s.read(ctx, func(tx *sql.Tx) (err error) {
		rs, err = redactionsIn(ctx, tx, keys)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("redactions: %w", err)
	}
	return rs, nil
}

func redactionsIn(ctx context.Context, tx *sql.Tx, keys []metering.Key) ([]metering.Redaction, error) {
	query := `SELECT ` + redactionColumns + redactionTables
	var args []any
	if len(keys) > 0 {
		query += `WHERE r.event_key IN (?` + strings.Repeat(",?", len(keys)-1) + `) `
		for _, k := range keys {
			args = append(args, k[:])
		}
	}
	var rs []metering.Redaction
	err := each(ctx, tx, query+`ORDER BY r.number`, args, func(scan func(...any) error) error {
		r, err := scanRedaction(scan)
		rs = append(rs, r)
		return err
	})
	return rs, err
}

// ProposeRedaction keeps a proposal, see [metering.Redactor].
func (s *Store) ProposeRedaction(ctx context.Context, r metering.Redaction) (metering.Redaction, error) {
	var kept metering.Redaction
	err := s.write(ctx, func(w *writer) error {
		proposed, err := micros("proposed_at", r.ProposedAt)
		if err != nil {
			return err
		}
		u, err := w.under(ctx, r.Key)
		if err != nil {
			return err
		}
		old, err := w.redactions(ctx, r.Key)
		if err != nil {
			return err
		}
		for _, o := range old {
			if o.Field == r.Field {
				kept = o
				return nil
			}
		}
		if !u.has(r.Field) {
			return metering.ErrNoValue
		}
		kept = r
		_, err = w.exec(ctx, `INSERT INTO redactions (id, event_key, field, reason, proposed_by, proposed_us) VALUES ($1, $2, $3, $4, $5, $6)`,
			r.ID, r.Key[:], r.Field, r.Reason, r.ProposedBy, proposed)
		return err
	})
	if err != nil {
		return r, fmt.Errorf("propose redaction of %s of event %s: %w", r.Field, r.Key, err)
	}
	return kept, nil
}

// ApproveRedactions keeps approvals and overwrites, see [metering.Redactor]. The file is
// then written anew: a page keeps copies of rows that moved to others, which no
// statement reaches.
func (s *Store) ApproveRedactions(ctx context.Context, ids []string, by string, at time.Time) ([]metering.Redaction, error) {
	var rs []metering.Redaction
	err := s.write(ctx, func(w *writer) error {
		for _, id := range ids {
			r, err := w.approve(ctx, id, by, at)
			if err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			rs = append(rs, r)
		}
		return nil
	})
	if err == nil {
		err = afterOverwrite.Hit()
	}
	if err == nil {
		err = s.rewrite(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("approve redactions: %w", err)
	}
	return rs, nil
}

func (w *writer) approve(ctx context.Context, id, by string, at time.Time) (r metering.Redaction, err error) {
	rows, err := w.query(ctx, `SELECT `+redactionColumns+redactionTables+`WHERE r.id = $1`, id)
	if err != nil {
		return r, err
	}
	known := rows.Next()
	if known {
		r, err = scanRedaction(rows.Scan)
	}
	if err := errors.Join(err, rows.Err(), rows.Close()); err != nil {
		return r, err
	}
	if !known {
		return r, metering.ErrNoRedaction
	}
	if r.Applied() {
		return r, nil // what may remain is to write the file anew
	}
	if r, err = r.Approve(by, at); err != nil {
		return r, err
	}
	return r, w.redact(ctx, r)
}

// redact overwrites everything that is stored under the redaction's key.
func (w *writer) redact(ctx context.Context, r metering.Redaction) error {
	approved, err := micros("approved_at", r.ApprovedAt)
	if err != nil {
		return err
	}
	w.stale = true // a cell that nobody names any more goes
	if _, err := w.exec(ctx, `INSERT INTO redactions_approved (id, approved_by, approved_us) VALUES ($1, $2, $3)`, r.ID, r.ApprovedBy, approved); err != nil {
		return err
	}
	u, err := w.under(ctx, r.Key)
	if err != nil {
		return err
	}
	if u.event != nil && metering.ValueOf(&u.event.Event, r.Field) != "" {
		if err := w.redactEvent(ctx, r, u.event); err != nil {
			return err
		}
	}
	for i := range u.conflicts {
		if c := &u.conflicts[i]; metering.ValueOf(&c.Event, r.Field) != "" {
			r.Apply(&c.Event)
			if err := w.rewriteConflict(ctx, c.place, c.Event); err != nil {
				return err
			}
			if err := w.redacted(ctx, c.place, r, c.Event); err != nil {
				return err
			}
		}
	}
	for _, f := range u.forms {
		if metering.ValueOf(&f.event, r.Field) != "" {
			if err := w.eraseForm(ctx, f.refusal, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// redactEvent overwrites a field of a stored event.
func (w *writer) redactEvent(ctx context.Context, r metering.Redaction, e *stored) error {
	was, err := cellOf(&e.Event)
	if err != nil {
		return err
	}
	r.Apply(&e.Event)
	now, err := cellOf(&e.Event)
	if err != nil {
		return err
	}
	cellID, err := w.number(ctx, now.args(), findCell, addCell)
	if err != nil {
		return err
	}
	d := &e.Data
	if _, err := w.exec(ctx, `UPDATE events SET cell = $1, event_id = $2, deal = $3, lead = $4, refers_to = $5, reference = $6, region = $7 WHERE place = $8`,
		cellID, e.ID, d.Deal, d.Lead, d.RefersTo, d.Reference, d.Region, e.place); err != nil {
		return err
	}
	if was != now {
		if _, err := w.exec(ctx, `DELETE FROM cells WHERE app = $1 AND customer = $2 AND type = $3 AND class = $4 AND operation = $5 AND unit = $6
			AND currency = $7 AND status = $8 AND environment = $9 AND dimensions = $10 AND NOT EXISTS (SELECT 1 FROM events e WHERE e.cell = cells.id)`, was.args()...); err != nil {
			return err
		}
	}
	return w.redacted(ctx, e.place, r, e.Event)
}

func (w *writer) rewriteConflict(ctx context.Context, place int64, e metering.Event) error {
	form, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = w.exec(ctx, `UPDATE conflicts SET event = $1 WHERE place = $2`, string(form), place)
	return err
}

// redacted keeps what a row says since it was overwritten.
func (w *writer) redacted(ctx context.Context, place int64, r metering.Redaction, e metering.Event) error {
	hash := metering.ContentHash(e)
	_, err := w.exec(ctx, `INSERT INTO redacted_rows (place, redaction, content_hash) VALUES ($1, $2, $3)`, place, r.ID, hash[:])
	return err
}

// eraseForm erases the kept form of a refusal, and what its details quote of it.
func (w *writer) eraseForm(ctx context.Context, refusal string, r metering.Redaction) error {
	for _, q := range []string{
		`UPDATE refusals SET event = NULL, detail = $1 WHERE id = $2`,
		`UPDATE replays SET detail = $1 WHERE refusal = $2 AND detail <> ''`,
	} {
		if _, err := w.exec(ctx, q, erasedDetail(r), refusal); err != nil {
			return err
		}
	}
	return w.erased(ctx, refusal, &r)
}

// refuseRedacted takes the form out of a refusal if it holds what was redacted under its
// key, and returns the redaction, nil if it holds nothing.
func (w *writer) refuseRedacted(ctx context.Context, r *metering.Refusal) (*metering.Redaction, error) {
	if r.Event == nil {
		return nil, nil
	}
	e, err := metering.DecodeCanonical(r.Event)
	if err != nil {
		return nil, nil // no key, nothing to find it by
	}
	redactions, err := w.applied(ctx, e.Key())
	for i := range redactions {
		if by := &redactions[i]; metering.ValueOf(&e, by.Field) != "" {
			r.Event, r.Detail = nil, erasedDetail(*by)
			return by, nil
		}
	}
	return nil, err
}

// erasedDetail stands where details of a refusal quoted its event.
func erasedDetail(r metering.Redaction) string {
	return "the kept form was erased with what was told of it, by redaction " + r.ID
}

func (w *writer) erased(ctx context.Context, refusal string, r *metering.Redaction) error {
	_, err := w.exec(ctx, `INSERT INTO erased_forms (refusal, redaction) VALUES ($1, $2) ON CONFLICT DO NOTHING`, refusal, r.ID)
	return err
}

// applied are the redactions of a key that hold for whatever comes later under it.
func (w *writer) applied(ctx context.Context, k metering.Key) ([]metering.Redaction, error) {
	all, err := w.redactions(ctx, k)
	var rs []metering.Redaction
	for _, r := range all {
		if r.Applied() {
			rs = append(rs, r)
		}
	}
	return rs, err
}

func (w *writer) redactions(ctx context.Context, k metering.Key) ([]metering.Redaction, error) {
	rows, err := w.query(ctx, `SELECT `+redactionColumns+redactionTables+`WHERE r.event_key = $1 ORDER BY r.number`, k[:])
	if err != nil {
		return nil, err
	}
	var rs []metering.Redaction
	for rows.Next() {
		r, err := scanRedaction(rows.Scan)
		if err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		rs = append(rs, r)
	}
	return rs, errors.Join(rows.Err(), rows.Close())
}

// underKey is everything that is stored under a key.
type underKey struct {
	event     *stored
	conflicts []stored
	forms     []keptForm
}

type keptForm struct {
	refusal string
	event   metering.Event
}

func (u *underKey) has(field string) bool {
	if u.event != nil && metering.ValueOf(&u.event.Event, field) != "" {
		return true
	}
	for i := range u.conflicts {
		if metering.ValueOf(&u.conflicts[i].Event, field) != "" {
			return true
		}
	}
	for i := range u.forms {
		if metering.ValueOf(&u.forms[i].event, field) != "" {
			return true
		}
	}
	return false
}

func (w *writer) under(ctx context.Context, k metering.Key) (u underKey, err error) {
	for _, q := range []struct {
		query string
		row   func(scan func(...any) error) error
	}{
		{`SELECT ` + eventColumns + ` FROM events e` + eventJoins + ` WHERE e.place = (
			SELECT place FROM keys WHERE event_key = $1 UNION ALL SELECT place FROM keys_recent WHERE event_key = $1)`,
			func(scan func(...any) error) (err error) {
				u.event, err = scanEvent(scan)
				return err
			}},
		{`SELECT t.place, t.event_key, t.content_hash, t.accepted_us, t.event, m.incarnation, m.partition, m.sequence
			FROM conflicts t JOIN messages m ON m.id = t.place >> 20 WHERE t.event_key = $1 ORDER BY t.place`,
			func(scan func(...any) error) error {
				c, err := scanPlacedConflict(scan)
				u.conflicts = append(u.conflicts, c)
				return err
			}},
		{`SELECT id, event FROM refusals WHERE event_key = $1 AND event IS NOT NULL ORDER BY id`,
			func(scan func(...any) error) error {
				var f keptForm
				var form []byte
				if err := scan(&f.refusal, &form); err != nil {
					return err
				}
				if f.event, err = metering.DecodeCanonical(form); err != nil {
					return fmt.Errorf("refusal %s: %w", f.refusal, err)
				}
				u.forms = append(u.forms, f)
				return nil
			}},
	} {
		rows, err := w.query(ctx, q.query, k[:])
		if err != nil {
			return u, err
		}
		for rows.Next() {
			if err := q.row(rows.Scan); err != nil {
				return u, errors.Join(err, rows.Close())
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return u, err
		}
	}
	return u, nil
}

// How long a redaction waits for questions that still see the store as it was before,
// and how often it looks.
const (
	logPatience = 20 * time.Second
	logLook     = 50 * time.Millisecond
)

// rewrite writes the whole file anew, from what it says now, and cuts its log off.
// Nothing can be stored meanwhile. It waits for questions that read older pages.
func (s *Store) rewrite(ctx context.Context) error {
	err := s.alone(ctx, func(w *writer) error {
		w.stale = true
		_, err := w.conn.ExecContext(ctx, `VACUUM`)
		return err
	})
	if err != nil {
		return fmt.Errorf("the values are overwritten, but the file could not be written anew, which needs as much free disk as it is large, here and in the temporary folder; approve again: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, logPatience)
	defer cancel()
	for {
		busy := 0
		err := s.alone(ctx, func(w *writer) (err error) {
			busy, err = w.truncateLog(ctx)
			return err
		})
		if err == nil && busy == 0 {
			return nil
		}
		if err == nil {
			select {
			case <-ctx.Done():
				err = ctx.Err()
			case <-time.After(logLook):
			}
		}
		if err != nil {
			return fmt.Errorf("the values are overwritten, but pages from before stay in the file's log while questions are open that read them; approve again: %w", err)
		}
	}
}

// alone runs f while nobody else writes, outside of a transaction.
func (s *Store) alone(ctx context.Context, f func(*writer) error) error {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.turn <- struct{}{} }()
	if s.w.closed {
		return errors.New("the store is closed")
	}
	return f(s.w)
}

func (w *writer) truncateLog(ctx context.Context) (busy int, err error) {
	// It would itself wait for the busy timeout, with the turn in its hands.
	if _, err := w.conn.ExecContext(ctx, `PRAGMA busy_timeout = 1`); err != nil {
		return 0, err
	}
	defer w.conn.ExecContext(context.WithoutCancel(ctx), `PRAGMA busy_timeout = 10000`)
	var pages, moved int
	err = w.conn.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &pages, &moved)
	return busy, err
}

// SameValue yields the keys of other events with the same value, see
// [metering.Redactor].
func (s *Store) SameValue(ctx context.Context, k metering.Key, field string) ([]metering.Key, error) {
	var keys []metering.Key
	err := s.read(ctx, func(tx *sql.Tx) error {
		e, err := eventOf(ctx, tx, k)
		if err != nil || e == nil {
			return err
		}
		value := metering.ValueOf(&e.Event, field)
		if value == "" {
			return nil
		}
		column, args := map[string]string{
			"id": `e.event_id`, "subject": `c.customer`, "data.operation": `c.operation`, "data.unit": `c.unit`, "data.deal": `e.deal`,
			"data.lead": `e.lead`, "data.refers_to": `e.refers_to`, "data.reference": `e.reference`, "data.region": `e.region`,
		}[field], []any{value, e.place, metering.MaxFound}
		if name, ok := strings.CutPrefix(field, "data.dimensions."); ok {
			path, err := json.Marshal(name)
			if err != nil {
				return err
			}
			column = `iif(c.dimensions = '', NULL, json_extract(c.dimensions, '$.' || $4))`
			args = append(args, string(path))
		}
		if column == "" {
			return metering.CheckRedactable(field)
		}
		return each(ctx, tx, `SELECT e.event_key FROM events e CROSS JOIN cells c ON c.id = e.cell WHERE `+column+` = $1 AND e.place <> $2 ORDER BY e.place LIMIT $3`, args,
			func(scan func(...any) error) error {
				var key []byte
				err := scan(&key)
				keys = append(keys, toKey(key))
				return err
			})
	})
	if err != nil {
		return nil, fmt.Errorf("events with the same %s as event %s: %w", field, k, err)
	}
	return keys, nil
}
