package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
)

// errStop ends a read whose consumer has had enough.
var errStop = errors.New("stop")

// stream turns a read that hands out values into an iterator. It ends with the
// read's error, if any.
func stream[T any](what string, read func(yield func(T) error) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := read(func(v T) error {
			if !yield(v, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			var none T
			yield(none, fmt.Errorf("%s: %w", what, err))
		}
	}
}

// each scans every row of a query.
func each(ctx context.Context, tx *sql.Tx, query string, args []any, row func(scan func(...any) error) error) error {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// describe names a span in errors.
func describe(s metering.Span) string {
	side := func(t time.Time) string {
		if t.IsZero() {
			return "…"
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	text := fmt.Sprintf("from %s to %s", side(s.Start), side(s.End))
	if s.Apps != nil {
		text += fmt.Sprintf(" of %d apps", len(s.Apps))
	}
	return text
}

// Usage yields the cells of the span, see [metering.Store]. Sums are exact; one that
// does not fit 64 bits is an error.
func (s *Store) Usage(ctx context.Context, sp metering.Span) iter.Seq2[metering.Usage, error] {
	return stream("usage "+describe(sp), func(yield func(metering.Usage) error) error {
		err := s.read(ctx, func(tx *sql.Tx) error {
			r, err := resolveSpan(ctx, tx, sp)
			if err != nil {
				return err
			}
			q, err := usageQuery(&r)
			if err != nil {
				return err
			}
			return each(ctx, tx, q.text.String(), q.args, func(scan func(...any) error) error {
				var c cell
				var u metering.Usage
				var absent, whole, billionths, minor int64
				if err := scan(append(c.into(), &u.Count, &absent, &whole, &billionths, &u.Bytes, &minor, &u.Slow)...); err != nil {
					return err
				}
				u.App, u.Customer, u.Type, u.Class, u.Operation, u.Unit = c.app, c.customer, c.kind, c.class, c.operation, c.unit
				u.Currency, u.Status, u.Environment, u.Dimensions = c.currency, c.status, c.environment, c.dimensions
				u.Quantity = quantityOf(whole, billionths).Add(decimal.NewFromInt(absent)) // absent counts one
				u.Amount = *majorOf(&minor, c.currency)
				return yield(u)
			})
		})
		if isOverflow(err) {
			return fmt.Errorf("a sum of quantity, bytes or amount exceeds 64 bits; ask for a shorter span or fewer apps: %w", err)
		}
		return err
	})
}

// usageQuery adds up the events of a span by cell.
func usageQuery(r *span) (*condition, error) {
	var q condition
	q.add(`SELECT ` + cellColumns + `, g.count, g.absent, g.whole, g.billionths, g.bytes, g.minor, g.slow FROM (
		SELECT e.cell AS cell, count(*) AS count,
		       count(*) - count(e.quantity_whole) AS absent, coalesce(sum(e.quantity_whole), 0) AS whole,
		       coalesce(sum(e.quantity_nano), 0) AS billionths,
		       sum(e.bytes) AS bytes, coalesce(sum(e.amount_minor), 0) AS minor, sum(e.slow) AS slow
		  FROM events e ` + r.index() + ` WHERE `)
	q.occurred(r)
	q.add(` AND `)
	q.stored(`e.place`, r)
	q.add(` AND e.cell NOT IN (SELECT id FROM cells WHERE type = 'usage.voided') AND `)
	if r.Apps != nil {
		q.add(`e.cell IN (SELECT id FROM cells WHERE `)
		if err := oneOf(&q, `app`, r.Apps); err != nil {
			return nil, err
		}
		q.add(`) AND `)
	}
	q.notVoided(r)
	q.add(` GROUP BY e.cell) g CROSS JOIN cells c ON c.id = g.cell`)
	return &q, nil
}

// Transactions yields the events of the given types in (time, key) order, see
// [metering.Store].
func (s *Store) Transactions(ctx context.Context, sp metering.Span, types []string) iter.Seq2[metering.Transaction, error] {
	return stream(fmt.Sprintf("transactions of types %q %s", types, describe(sp)), func(yield func(metering.Transaction) error) error {
		return s.events(ctx, sp, false, func(c *condition) error {
			c.add(` AND `)
			return oneOf(c, `type`, types)
		}, func(a metering.Accepted) error {
			return yield(metering.Transaction{Key: a.Key, Position: a.Position, Event: a.Event})
		})
	})
}

// Events yields the events of the span that the filter names, in (time, key) order,
// see [metering.Store].
func (s *Store) Events(ctx context.Context, sp metering.Span, f metering.Filter) iter.Seq2[metering.Accepted, error] {
	return stream("events "+describe(sp), func(yield func(metering.Accepted) error) error {
		return s.events(ctx, sp, f.Voided, func(c *condition) error {
			for _, e := range []struct{ column, value string }{
				{"app", string(f.App)}, {"customer", string(f.Customer)}, {"type", f.Type}, {"operation", f.Operation}, {"class", string(f.Class)},
			} {
				if e.value != "" {
					c.add(` AND `+e.column+` = ?`, e.value)
				}
			}
			return nil
		}, yield)
	})
}

// events reads the events of a span that eventsQuery finds.
func (s *Store) events(ctx context.Context, sp metering.Span, voided bool, filter func(*condition) error, yield func(metering.Accepted) error) error {
	return s.read(ctx, func(tx *sql.Tx) error {
		r, err := resolveSpan(ctx, tx, sp)
		if err != nil {
			return err
		}
		var f condition
		if err := filter(&f); err != nil {
			return err
		}
		q, err := eventsQuery(&r, voided, &f)
		if err != nil {
			return err
		}
		return each(ctx, tx, q.text.String(), q.args, func(scan func(...any) error) error {
			e, err := scanEvent(scan)
			if err != nil {
				return err
			}
			return yield(e.Accepted)
		})
	})
}

// eventsQuery reads the events of a span in (time, key) order. Filter holds
// conditions on columns of cells, each behind AND.
func eventsQuery(r *span, voided bool, f *condition) (*condition, error) {
	if r.Apps != nil {
		f.add(` AND `)
		if err := oneOf(f, `app`, r.Apps); err != nil {
			return nil, err
		}
	}
	index := r.index()
	if r.after == nil {
		index = `INDEXED BY events_by_time` // gives the order too
	}
	var q condition
	q.add(`SELECT ` + eventColumns + ` FROM events e ` + index + eventJoins + ` WHERE `)
	q.occurred(r)
	q.add(` AND `)
	q.stored(`e.place`, r)
	if len(f.args) > 0 {
		q.add(` AND e.cell IN (SELECT id FROM cells WHERE 1`+f.text.String()+`)`, f.args...)
	}
	if !voided {
		q.add(` AND `)
		q.notVoided(r)
	}
	q.add(` ORDER BY e.occurred_us, e.event_key`)
	return &q, nil
}

// Late counts the events that lie between the span's cutoffs, by app and month, see
// [metering.Store].
func (s *Store) Late(ctx context.Context, sp metering.Span) ([]metering.Late, error) {
	type group struct {
		app   partner.AppID
		month string
	}
	at := map[group]int{}
	var late []metering.Late
	err := s.read(ctx, func(tx *sql.Tx) error {
		r, err := resolveSpan(ctx, tx, sp)
		if err != nil {
			return err
		}
		var apps condition
		if sp.Apps != nil {
			apps.add(` AND `)
			if err := oneOf(&apps, `c.app`, sp.Apps); err != nil {
				return err
			}
		}
		var events, voids condition
		events.add(`SELECT c.app, e.occurred_us FROM events e ` + r.index() + ` CROSS JOIN cells c ON c.id = e.cell WHERE c.type <> 'usage.voided' AND `)
		events.occurred(&r)
		events.add(` AND `)
		events.stored(`e.place`, &r)
		events.add(apps.text.String(), apps.args...)
		// A void changes the month of what it takes out, if that counts at all.
		voids.add(`SELECT c.app, e.occurred_us FROM voids v CROSS JOIN events e ON e.place = v.target CROSS JOIN cells c ON c.id = e.cell WHERE c.type <> 'usage.voided' AND `)
		voids.occurred(&r)
		voids.add(` AND `)
		voids.stored(`v.place`, &r)
		voids.add(` AND `)
		voids.within(`e.place`, r.upTo)
		voids.add(apps.text.String(), apps.args...)
		for _, q := range []*condition{&events, &voids} {
			if err := each(ctx, tx, q.text.String(), q.args, func(scan func(...any) error) error {
				var g group
				var us int64
				if err := scan(&g.app, &us); err != nil {
					return err
				}
				t := time.UnixMicro(us).UTC()
				g.month = t.Format("2006-01")
				i, ok := at[g]
				if !ok {
					i = len(late)
					at[g] = i
					late = append(late, metering.Late{App: g.app, Month: g.month, Earliest: t})
				}
				late[i].Count++
				if t.Before(late[i].Earliest) {
					late[i].Earliest = t
				}
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("late events %s: %w", describe(sp), err)
	}
	slices.SortFunc(late, func(a, b metering.Late) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Month, b.Month))
	})
	return late, nil
}

// Find answers where an event went, see [metering.Store].
func (s *Store) Find(ctx context.Context, k metering.Key) (metering.Found, error) {
	var f metering.Found
	err := s.read(ctx, func(tx *sql.Tx) error {
		redactions, err := redactionsIn(ctx, tx, []metering.Key{k})
		if err != nil {
			return err
		}
		for _, r := range redactions {
			if r.Applied() {
				f.Redactions = append(f.Redactions, r)
			}
		}
		e, err := eventOf(ctx, tx, k)
		if err != nil || e == nil {
			return err
		}
		f.Event = &e.Accepted
		if f.Event.Type != metering.UsageVoided {
			if err := each(ctx, tx, firstVoid, []any{e.place}, func(scan func(...any) error) error {
				p, err := scanPosition(scan)
				f.Voided = &p
				return err
			}); err != nil {
				return err
			}
		}
		if err := each(ctx, tx, placesOf(`duplicates`, `t.event_key = $1`)+` LIMIT $2`, []any{k[:], metering.MaxFound}, func(scan func(...any) error) error {
			p, err := scanPosition(scan)
			f.Duplicates = append(f.Duplicates, p)
			return err
		}); err != nil {
			return err
		}
		return each(ctx, tx, `
			SELECT t.place, t.event_key, t.content_hash, t.accepted_us, t.event, m.incarnation, m.partition, m.sequence
			  FROM conflicts t JOIN messages m ON m.id = t.place >> 20
			 WHERE t.event_key = $1 ORDER BY t.place LIMIT $2`, []any{k[:], metering.MaxFound}, func(scan func(...any) error) error {
			a, err := scanConflict(scan)
			f.Conflicts = append(f.Conflicts, a)
			return err
		})
	})
	if err != nil {
		return metering.Found{}, fmt.Errorf("find event %s: %w", k, err)
	}
	return f, nil
}

// eventOf is the event that is stored under a key, nil if there is none.
func eventOf(ctx context.Context, tx *sql.Tx, k metering.Key) (*stored, error) {
	var place int64
	err := tx.QueryRowContext(ctx, `
		SELECT place FROM keys WHERE event_key = $1 UNION ALL SELECT place FROM keys_recent WHERE event_key = $1`, k[:]).Scan(&place)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e, err := scanEvent(tx.QueryRowContext(ctx, `SELECT `+eventColumns+` FROM events e`+eventJoins+` WHERE e.place = $1`, place).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errors.New("its key is stored, its row is not; run the store's check and restore from a backup")
	}
	return e, err
}

// firstVoid is the void of a target that was accepted first, whichever was stored first.
const (
	firstVoid = `SELECT t.place, m.incarnation, m.partition, m.sequence FROM voids t JOIN messages m ON m.id = t.place >> 20
		 WHERE t.target = $1` + inAcceptance + ` LIMIT 1`
	inAcceptance = ` ORDER BY m.accepted_us, m.partition, m.sequence, t.place`
)

// placesOf reads positions of rows of a table t in the order of storing.
func placesOf(table, where string) string {
	return `SELECT t.place, m.incarnation, m.partition, m.sequence FROM ` + table +
		` t JOIN messages m ON m.id = t.place >> 20 WHERE ` + where + ` ORDER BY t.place`
}

func scanPosition(scan func(...any) error) (metering.Position, error) {
	var p metering.Position
	var place, sequence int64
	err := scan(&place, &p.Incarnation, &p.Partition, &sequence)
	p.Sequence, p.Index = uint64(sequence), int(place&maxIndex)
	return p, err
}

// Counts are the totals up to the cutoff, see [metering.Store]. All but Announced
// are counted from rows.
func (s *Store) Counts(ctx context.Context, upTo metering.Cutoff) (metering.Counts, error) {
	return s.CountsBetween(ctx, nil, upTo)
}

// CountsBetween are the totals between two cutoffs, see [metering.Store].
func (s *Store) CountsBetween(ctx context.Context, after, upTo metering.Cutoff) (metering.Counts, error) {
	var n metering.Counts
	err := s.read(ctx, func(tx *sql.Tx) error {
		r, err := resolveSpan(ctx, tx, metering.Span{After: after, UpTo: upTo})
		if err != nil {
			return err
		}
		var q condition
		column := func(text, place, rest string) {
			q.add(text)
			q.stored(place, &r)
			q.add(rest)
		}
		column(`SELECT (SELECT count(*) FROM messages t WHERE `, `(t.id << 20)`, `), `)
		column(`(SELECT coalesce(sum(announced), 0) FROM messages t WHERE `, `(t.id << 20)`, `), `)
		column(`(SELECT count(*) FROM events e WHERE `, `e.place`, `), `)
		column(`(SELECT count(*) FROM keys k WHERE `, `k.place`, `) + `)
		column(`(SELECT count(*) FROM keys_recent k WHERE `, `k.place`, `), `)
		column(`(SELECT count(*) FROM duplicates d WHERE `, `d.place`, `), `)
		column(`(SELECT count(*) FROM conflicts d WHERE `, `d.place`, `), `)
		column(`(SELECT count(*) FROM undecoded d WHERE `, `d.place`, `), `)
		column(`(SELECT count(*) FROM events e WHERE e.cell IN (SELECT id FROM cells WHERE environment = 'sandbox') AND `, `e.place`, `), `)
		q.add(`(SELECT count(*) FROM events e WHERE e.place IN (SELECT v.target FROM voids v WHERE v.target IS NOT NULL AND `)
		q.within(`v.place`, r.upTo)
		q.add(` AND NOT EXISTS (SELECT 1 FROM voids w WHERE w.place = v.target)) AND `)
		column(``, `e.place`, `)`)
		return tx.QueryRowContext(ctx, q.text.String(), q.args...).Scan(&n.Messages, &n.Announced, &n.Stored, &n.Keys,
			&n.Duplicate, &n.Conflict, &n.Undecoded, &n.Sandbox, &n.Voided)
	})
	if err != nil {
		return metering.Counts{}, fmt.Errorf("count events: %w", err)
	}
	return n, nil
}
