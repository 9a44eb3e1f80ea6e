package sqlite

import (
	"context"
	"database/sql"
	"fmt"

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
	var event any
	if r.Event != nil {
		event = r.Event
	}
	_, err = w.exec(ctx, `
		INSERT INTO refusals (id, class, reason, detail, field, source, location, digest, event, received_us)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING`,
		r.ID, r.Class, r.Reason, r.Detail, r.Field, r.Source, r.Where, r.Digest, event, received)
	return err
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
		return each(ctx, tx, `
			SELECT id, class, reason, detail, field, source, location, digest, event, received_us
			  FROM refusals WHERE `+where+` ORDER BY received_us DESC, id DESC LIMIT $2`,
			[]any{source, max(0, min(limit, maxRefusals))}, func(scan func(...any) error) error {
				var r metering.Refusal
				var received *int64
				if err := scan(&r.ID, &r.Class, &r.Reason, &r.Detail, &r.Field, &r.Source, &r.Where, &r.Digest, &r.Event, &received); err != nil {
					return err
				}
				r.ReceivedAt = instant(received)
				rs = append(rs, r)
				return nil
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
