package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"mete/metering"
)

// maxRefusals bounds one answer of Refusals.
const maxRefusals = 10_000

// Refuse keeps refusals in one transaction; the same ID again changes nothing. An
// unclean refusal that carries an event fails: what is unclean is never kept.
func (s *Store) Refuse(ctx context.Context, rs []metering.Refusal) error {
	if len(rs) == 0 {
		return nil
	}
	err := s.write(ctx, func(w *writer) error {
		for i := range rs {
			if err := w.refuse(ctx, &rs[i]); err != nil {
				return fmt.Errorf("refusal %q: %w", rs[i].ID, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep %d refusals: %w", len(rs), err)
	}
	return nil
}

func (w *writer) refuse(ctx context.Context, r *metering.Refusal) error {
	if r.ID == "" {
		return fmt.Errorf("it has no receipt; give each refusal an ID")
	}
	switch r.Class {
	case metering.Unclean:
		if r.Event != nil {
			return fmt.Errorf("it is unclean and carries an event; drop the event")
		}
	case metering.Unusable:
	default:
		return fmt.Errorf("class %q: want %s or %s", r.Class, metering.Unclean, metering.Unusable)
	}
	received, err := optionalMicros("received_at", r.ReceivedAt)
	if err != nil {
		return err
	}
	key := refusedKey(r.Event)
	kept := *r
	redaction, err := w.refuseRedacted(ctx, &kept)
	if err != nil {
		return err
	}
	var event any
	if kept.Event != nil {
		event = kept.Event
	}
	_, err = w.exec(ctx, `
		INSERT INTO refusals (id, class, reason, detail, field, source, sender, location, digest, event, event_key, received_us)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id) DO NOTHING`,
		r.ID, r.Class, r.Reason, kept.Detail, r.Field, r.Source, r.Sender, r.Where, r.Digest, event, key, received)
	if err == nil && redaction != nil {
		err = w.erased(ctx, r.ID, redaction)
	}
	return err
}

// refusedKey is the key of a kept form, nil if there is none or it cannot be read: then
// it is kept all the same, and found by its receipt.
func refusedKey(form []byte) any {
	if form == nil {
		return nil
	}
	e, err := metering.DecodeCanonical(form)
	if err != nil {
		return nil
	}
	k := e.Key()
	return k[:]
}

// refusalColumns are what [scanRefusal] reads.
const refusalColumns = `r.id, r.class, r.reason, r.detail, r.field, r.source, r.sender, r.location, r.digest, r.event, r.received_us`

func scanRefusal(scan func(...any) error, more ...any) (metering.Refusal, error) {
	var r metering.Refusal
	var received *int64
	err := scan(append([]any{&r.ID, &r.Class, &r.Reason, &r.Detail, &r.Field, &r.Source, &r.Sender, &r.Where, &r.Digest, &r.Event, &received}, more...)...)
	r.ReceivedAt = instant(received)
	return r, err
}

// Refusals yields the refusals of a source, or of all if it is empty, newest first,
// at most limit and never more than 10,000.
func (s *Store) Refusals(ctx context.Context, source string, limit int) ([]metering.Refusal, error) {
	where := `$1 = ''`
	if source != "" {
		where = `source = $1`
	}
	var rs []metering.Refusal
	err := s.read(ctx, func(tx *sql.Tx) error {
		return each(ctx, tx, `SELECT `+refusalColumns+` FROM refusals r WHERE `+where+` ORDER BY received_us DESC, id DESC LIMIT $2`,
			[]any{source, max(0, min(limit, maxRefusals))}, func(scan func(...any) error) error {
				r, err := scanRefusal(scan)
				rs = append(rs, r)
				return err
			})
	})
	if err != nil {
		return nil, fmt.Errorf("refusals of source %q: %w", source, err)
	}
	return rs, nil
}

// RefusalCounts counts refusals by class and reason, under names such as
// unusable/unknown_app.
func (s *Store) RefusalCounts(ctx context.Context) (map[string]int64, error) {
	counts := map[string]int64{}
	err := s.read(ctx, func(tx *sql.Tx) error {
		return each(ctx, tx, `SELECT class || '/' || reason, count(*) FROM refusals GROUP BY class, reason`, nil, func(scan func(...any) error) error {
			var name string
			var n int64
			err := scan(&name, &n)
			counts[name] = n
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("count refusals: %w", err)
	}
	return counts, nil
}

// Parts of queries about refusals r.
const (
	newestReason = `coalesce((SELECT p.reason FROM replays p WHERE p.refusal = r.id AND p.passed = 0 ORDER BY p.tried_us DESC, p.id DESC LIMIT 1), r.reason)`
	hasPassed    = `EXISTS (SELECT 1 FROM replays p WHERE p.refusal = r.id AND p.passed = 1)`
	isReplayable = `r.class = 'unusable' AND r.event IS NOT NULL`
)

// Refused answers a query about refusals, see [metering.Replays].
func (s *Store) Refused(ctx context.Context, q metering.RefusedQuery) ([]metering.Refused, error) {
	var rs []metering.Refused
	err := s.read(ctx, func(tx *sql.Tx) error {
		c, err := refusedQuery(&q)
		if err != nil {
			return err
		}
		if err := each(ctx, tx, c.text.String(), c.args, func(scan func(...any) error) error {
			var f metering.Refused
			var err error
			f.Refusal, err = scanRefusal(scan, &f.ErasedBy)
			rs = append(rs, f)
			return err
		}); err != nil {
			return err
		}
		return replaysOf(ctx, tx, rs)
	})
	if err != nil {
		return nil, fmt.Errorf("refusals: %w", err)
	}
	return rs, nil
}

func refusedQuery(q *metering.RefusedQuery) (*condition, error) {
	asked := len(q.IDs) + len(q.Keys) + len(q.Digests)
	if asked > metering.MaxRefusedAsked {
		return nil, fmt.Errorf("%d receipts, keys and digests asked for: ask for at most %d at a time", asked, metering.MaxRefusedAsked)
	}
	var c condition
	c.add(`SELECT ` + refusalColumns + `, coalesce((SELECT x.redaction FROM erased_forms x WHERE x.refusal = r.id), '') FROM refusals r WHERE `)
	if asked > 0 {
		c.add(`r.id IN (`)
		if err := oneOf(&c, `SELECT id FROM refusals WHERE id`, q.IDs); err != nil {
			return nil, err
		}
		c.add(` UNION `)
		if err := oneOf(&c, `SELECT id FROM refusals WHERE digest`, q.Digests); err != nil {
			return nil, err
		}
		for _, k := range q.Keys {
			c.add(` UNION SELECT id FROM refusals WHERE event_key = ?`, k[:])
		}
		c.add(`)`)
	} else {
		c.add(`1`)
	}
	if q.Source != "" {
		c.add(` AND r.source = ?`, q.Source)
	}
	if q.Reason != "" {
		c.add(` AND `+newestReason+` = ?`, q.Reason)
	}
	if q.Waiting {
		c.add(` AND ` + isReplayable + ` AND NOT ` + hasPassed)
	}
	if q.After != nil {
		at, err := optionalMicros("received_at", q.After.ReceivedAt)
		if err != nil {
			return nil, err
		}
		if at == nil { // no time comes first
			c.add(` AND (r.received_us IS NOT NULL OR r.id > ?)`, q.After.ID)
		} else {
			c.add(` AND (r.received_us, r.id) > (?, ?)`, at, q.After.ID)
		}
	}
	limit := metering.MaxRefused
	if q.Limit > 0 {
		limit = min(limit, q.Limit)
	}
	c.add(` ORDER BY r.received_us, r.id LIMIT ?`, limit)
	return &c, nil
}

// replaysOf fills in what is kept of the refusals' replays.
func replaysOf(ctx context.Context, tx *sql.Tx, rs []metering.Refused) error {
	at := make(map[string]*metering.Refused, len(rs))
	ids := make([]string, len(rs))
	for i := range rs {
		ids[i], at[rs[i].ID] = rs[i].ID, &rs[i]
	}
	for chunk := range slices.Chunk(ids, metering.MaxRefusedAsked) {
		var c condition
		if err := oneOf(&c, `SELECT refusal, tried_us, tried_by, passed, receipt, position, class, reason, detail, field FROM replays WHERE refusal`, chunk); err != nil {
			return err
		}
		c.add(` ORDER BY tried_us, id`)
		if err := each(ctx, tx, c.text.String(), c.args, func(scan func(...any) error) error {
			var p metering.Replay
			var tried int64
			if err := scan(&p.Refusal, &tried, &p.By, &p.Passed, &p.Receipt, &p.Position, &p.Class, &p.Reason, &p.Detail, &p.Field); err != nil {
				return err
			}
			p.At = instant(&tried)
			r := at[p.Refusal]
			r.Replays = append(r.Replays, p)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// Replayed keeps what became of refusals at the gate, see [metering.Replays].
func (s *Store) Replayed(ctx context.Context, rs []metering.Replay) error {
	if len(rs) == 0 {
		return nil
	}
	err := s.write(ctx, func(w *writer) error {
		for i := range rs {
			if err := w.replayed(ctx, &rs[i]); err != nil {
				return fmt.Errorf("refusal %q: %w", rs[i].Refusal, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep %d replays: %w", len(rs), err)
	}
	return nil
}

func (w *writer) replayed(ctx context.Context, p *metering.Replay) error {
	if err := p.Check(); err != nil {
		return err
	}
	var fits bool
	if err := w.queryRow(ctx, `SELECT `+isReplayable+` FROM refusals r WHERE r.id = $1`, []any{p.Refusal}, &fits); errors.Is(err, sql.ErrNoRows) {
		return errors.New("no refusal has this receipt")
	} else if err != nil {
		return err
	}
	if !fits {
		return errors.New("nothing of it is kept that could be replayed")
	}
	return w.keepReplay(ctx, p)
}

func (w *writer) keepReplay(ctx context.Context, p *metering.Replay) error {
	tried, err := micros("time of the replay", p.At)
	if err != nil {
		return err
	}
	_, err = w.exec(ctx, `
		INSERT INTO replays (refusal, tried_us, tried_by, passed, receipt, position, class, reason, detail, field)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
		p.Refusal, tried, p.By, p.Passed, p.Receipt, p.Position, p.Class, p.Reason, p.Detail, p.Field)
	return err
}

// RefusedCounts counts refusals by class and newest reason, see [metering.Replays].
func (s *Store) RefusedCounts(ctx context.Context) ([]metering.RefusedCount, error) {
	var counts []metering.RefusedCount
	err := s.read(ctx, func(tx *sql.Tx) error {
		return each(ctx, tx, `
			SELECT class, newest, count(*), sum(passed), sum(fits AND NOT passed) FROM (
				SELECT r.class, `+newestReason+` AS newest, `+hasPassed+` AS passed, `+isReplayable+` AS fits FROM refusals r)
			 GROUP BY class, newest ORDER BY class, newest`, nil, func(scan func(...any) error) error {
			var c metering.RefusedCount
			err := scan(&c.Class, &c.Reason, &c.Refused, &c.Replayed, &c.Waiting)
			counts = append(counts, c)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("count refusals: %w", err)
	}
	return counts, nil
}

// keyBatch is how many refusals get their key in one transaction.
const keyBatch = 1000

// fillRefusedKeys gives refusals from before keys were kept the key of their form.
func (s *Store) fillRefusedKeys(ctx context.Context) error {
	for after, n := "", keyBatch; n == keyBatch; {
		n = 0
		if err := s.write(ctx, func(w *writer) error {
			rows, err := w.query(ctx, `SELECT id, event FROM refusals WHERE event IS NOT NULL AND event_key IS NULL AND id > $1 ORDER BY id LIMIT $2`, after, keyBatch)
			if err != nil {
				return err
			}
			keys := map[string]any{}
			for rows.Next() {
				var form []byte
				if err := rows.Scan(&after, &form); err != nil {
					return errors.Join(err, rows.Close())
				}
				n++
				if k := refusedKey(form); k != nil {
					keys[after] = k
				}
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil {
				return err
			}
			for id, k := range keys {
				if _, err := w.exec(ctx, `UPDATE refusals SET event_key = $1 WHERE id = $2`, k, id); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return fmt.Errorf("give refusals their keys: %w", err)
		}
	}
	return nil
}
