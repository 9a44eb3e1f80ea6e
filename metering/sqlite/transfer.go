package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"mete/metering"
)

// TakeRedactions keeps redactions of another store, see [metering.Transfer].
func (s *Store) TakeRedactions(ctx context.Context, rs []metering.Redaction) error {
	err := s.write(ctx, func(w *writer) error {
		for _, r := range rs {
			if err := w.take(ctx, r); err != nil {
				return fmt.Errorf("%s: %w", r.ID, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("take %d redactions over: %w", len(rs), err)
	}
	return nil
}

func (w *writer) take(ctx context.Context, r metering.Redaction) error {
	proposed, err := micros("proposed_at", r.ProposedAt)
	if err != nil {
		return err
	}
	if _, err := w.exec(ctx, `INSERT INTO redactions (id, event_key, field, reason, proposed_by, proposed_us) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		r.ID, r.Key[:], r.Field, r.Reason, r.ProposedBy, proposed); err != nil || !r.Applied() {
		return err
	}
	approved, err := micros("approved_at", r.ApprovedAt)
	if err != nil {
		return err
	}
	_, err = w.exec(ctx, `INSERT INTO redactions_approved (id, approved_by, approved_us) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, r.ID, r.ApprovedBy, approved)
	return err
}

// TakeRefused keeps refusals of another store with their replays, see
// [metering.Transfer].
func (s *Store) TakeRefused(ctx context.Context, rs []metering.Refused) error {
	err := s.write(ctx, func(w *writer) error {
		for i := range rs {
			if err := w.takeRefused(ctx, &rs[i]); err != nil {
				return fmt.Errorf("refusal %q: %w", rs[i].ID, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("take %d refusals over: %w", len(rs), err)
	}
	return nil
}

func (w *writer) takeRefused(ctx context.Context, r *metering.Refused) error {
	if err := w.refuse(ctx, &r.Refusal); err != nil {
		return err
	}
	if r.ErasedBy != "" {
		var key []byte
		if err := w.queryRow(ctx, `SELECT r.event_key`+redactionTables+`WHERE r.id = $1 AND a.id IS NOT NULL`, []any{r.ErasedBy}, &key); errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("its form was erased by redaction %s, which this store does not know: take redactions over first", r.ErasedBy)
		} else if err != nil {
			return err
		}
		if _, err := w.exec(ctx, `UPDATE refusals SET event_key = $1 WHERE id = $2 AND event IS NULL`, key, r.ID); err != nil {
			return err
		}
		if err := w.erased(ctx, r.ID, &metering.Redaction{ID: r.ErasedBy}); err != nil {
			return err
		}
	}
	for i := range r.Replays {
		if err := w.keepReplay(ctx, &r.Replays[i]); err != nil {
			return err
		}
	}
	return nil
}

// Heartbeats are all signs of life that are kept, see [metering.Transfer].
func (s *Store) Heartbeats(ctx context.Context) iter.Seq2[metering.Heartbeat, error] {
	return stream("heartbeats", func(yield func(metering.Heartbeat) error) error {
		return s.read(ctx, func(tx *sql.Tx) error {
			return each(ctx, tx, `SELECT source, at_us, sent_by, received_us FROM heartbeats ORDER BY source, slot`, nil, func(scan func(...any) error) error {
				var h metering.Heartbeat
				var at, received int64
				if err := scan(&h.Source, &at, &h.SentBy, &received); err != nil {
					return err
				}
				h.At, h.ReceivedAt = instant(&at), instant(&received)
				return yield(h)
			})
		})
	})
}

// TakeHeartbeats keeps signs of life of another store, see [metering.Transfer].
func (s *Store) TakeHeartbeats(ctx context.Context, hs []metering.Heartbeat) error {
	if len(hs) == 0 {
		return nil
	}
	err := s.write(ctx, func(w *writer) error {
		for _, h := range hs {
			if err := w.keepHeartbeat(ctx, h); err != nil {
				return fmt.Errorf("of source %s: %w", h.Source, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("take %d heartbeats over: %w", len(hs), err)
	}
	return nil
}
