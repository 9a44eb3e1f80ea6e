package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/period"
)

// KeepTotals keeps what a source says that it sent of a day, see
// [metering.SourceFacts].
func (s *Store) KeepTotals(ctx context.Context, t metering.DayTotals) (metering.Kept, error) {
	kept := metering.KeptNew
	err := s.write(ctx, func(w *writer) error {
		received, err := micros("received_at", t.ReceivedAt)
		if err != nil {
			return err
		}
		if t.Digest == (metering.Hash{}) {
			return fmt.Errorf("they are not sealed: %w", metering.ErrTotals)
		}
		var others, same int
		if err := w.queryRow(ctx, `SELECT count(*), coalesce(sum(digest = $3), 0) FROM day_totals WHERE source = $1 AND day = $2`,
			[]any{t.Source, t.Day.String(), t.Digest[:]}, &others, &same); err != nil {
			return err
		}
		switch {
		case same > 0:
			kept = metering.KeptSame
			return nil
		case others >= metering.MaxTotalConflicts:
			return metering.ErrTooManyTotals
		case others > 0:
			kept = metering.KeptConflict
		}
		if t.Totals == nil {
			t.Totals = []metering.DayTotal{}
		}
		totals, err := json.Marshal(t.Totals)
		if err != nil {
			return err
		}
		_, err = w.exec(ctx, `INSERT INTO day_totals (source, day, zone, totals, digest, sent_by, received_us) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			t.Source, t.Day.String(), t.Zone, string(totals), t.Digest[:], t.SentBy, received)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("keep totals of source %s for %s: %w", t.Source, t.Day, err)
	}
	return kept, nil
}

// Totals are the totals that are kept, see [metering.SourceFacts].
func (s *Store) Totals(ctx context.Context, since period.Date) iter.Seq2[metering.DayTotals, error] {
	return stream("control totals", func(yield func(metering.DayTotals) error) error {
		return s.read(ctx, func(tx *sql.Tx) error {
			return each(ctx, tx, `SELECT source, day, zone, totals, digest, sent_by, received_us FROM day_totals WHERE day >= $1 ORDER BY day, source, number`,
				[]any{since.String()}, func(scan func(...any) error) error {
					var t metering.DayTotals
					var day string
					var totals, digest []byte
					var received int64
					if err := scan(&t.Source, &day, &t.Zone, &totals, &digest, &t.SentBy, &received); err != nil {
						return err
					}
					var err error
					if t.Day, err = period.ParseDate(day); err == nil {
						err = json.Unmarshal(totals, &t.Totals)
					}
					if err != nil {
						return fmt.Errorf("those of source %s for %s are damaged: %w", t.Source, day, err)
					}
					t.ReceivedAt = instant(&received)
					copy(t.Digest[:], digest)
					return yield(t)
				})
		})
	})
}

// slotOf is the number of the slot in which an instant lies.
func slotOf(us int64) int64 {
	const slot = int64(metering.HeartbeatSlot / time.Microsecond)
	n := us / slot
	if us < 0 && us%slot != 0 {
		n--
	}
	return n
}

// KeepHeartbeat keeps a source's sign of life, see [metering.SourceFacts].
func (s *Store) KeepHeartbeat(ctx context.Context, h metering.Heartbeat) error {
	if err := s.write(ctx, func(w *writer) error { return w.keepHeartbeat(ctx, h) }); err != nil {
		return fmt.Errorf("keep heartbeat of source %s: %w", h.Source, err)
	}
	return nil
}

func (w *writer) keepHeartbeat(ctx context.Context, h metering.Heartbeat) error {
	at, err := micros("at", h.At.Truncate(time.Microsecond))
	if err != nil {
		return err
	}
	received, err := micros("received_at", h.ReceivedAt)
	if err != nil {
		return err
	}
	_, err = w.exec(ctx, `INSERT INTO heartbeats (source, slot, at_us, sent_by, received_us) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		h.Source, slotOf(at), at, h.SentBy, received)
	return err
}

// Alive reports whether a source gave a sign of life, see [metering.SourceFacts].
func (s *Store) Alive(ctx context.Context, source string, from, until time.Time) (bool, error) {
	var alive bool
	err := s.readers.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM heartbeats WHERE source = $1 AND slot BETWEEN $2 AND $3 AND at_us >= $4 AND at_us < $5)`,
		source, slotOf(ceilMicros(from)), slotOf(ceilMicros(until)), ceilMicros(from), ceilMicros(until)).Scan(&alive)
	if err != nil {
		return false, fmt.Errorf("heartbeats of source %s: %w", source, err)
	}
	return alive, nil
}

// SumsBySource adds up the events of a span by source, see [metering.SumsBySource].
func (s *Store) SumsBySource(ctx context.Context, start, end time.Time) ([]metering.SourceSum, error) {
	var all []metering.SourceSum
	err := s.read(ctx, func(tx *sql.Tx) error {
		return each(ctx, tx, `
			SELECT s.name, c.app, c.type, iif(g.priced, c.currency, ''), g.priced, sum(g.n), sum(g.minor)
			  FROM (SELECT e.source AS source, e.cell AS cell, e.amount_minor IS NOT NULL AS priced, count(*) AS n, coalesce(sum(e.amount_minor), 0) AS minor
			          FROM events e INDEXED BY events_by_time WHERE e.occurred_us >= $1 AND e.occurred_us < $2 GROUP BY 1, 2, 3) g
			  CROSS JOIN cells c ON c.id = g.cell CROSS JOIN sources s ON s.id = g.source
			 GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4`, []any{ceilMicros(start), ceilMicros(end)}, func(scan func(...any) error) error {
			var x metering.SourceSum
			var priced bool
			var minor int64
			if err := scan(&x.Source, &x.App, &x.Type, &x.Currency, &priced, &x.Events, &minor); err != nil {
				return err
			}
			if priced {
				var d decimal.Decimal = money.New(minor, x.Currency).Decimal()
				x.Amount = &d
			}
			all = append(all, x)
			return nil
		})
	})
	if isOverflow(err) {
		err = fmt.Errorf("a sum of amounts exceeds 64 bits; ask for a shorter span: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("events by source from %s to %s: %w", start.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339), err)
	}
	return all, nil
}
