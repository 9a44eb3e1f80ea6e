package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"mete/metering"
)

// FindMany answers about many events at a time, see [metering.Lookup].
func (s *Store) FindMany(ctx context.Context, keys []metering.Key) (map[metering.Key]metering.Found, error) {
	found := map[metering.Key]metering.Found{}
	if len(keys) > metering.MaxFindMany {
		return nil, fmt.Errorf("find %d events: ask for at most %d at a time", len(keys), metering.MaxFindMany)
	}
	if len(keys) == 0 {
		return found, nil
	}
	err := s.read(ctx, func(tx *sql.Tx) error {
		args := make([]any, len(keys))
		for i := range keys {
			args[i] = keys[i][:]
		}
		in := `IN (?1` // both tables take the same arguments
		for i := 2; i <= len(args); i++ {
			in += fmt.Sprintf(",?%d", i)
		}
		in += `)`
		places := map[int64]metering.Key{}
		var targets []any
		if err := each(ctx, tx, `SELECT `+eventColumns+` FROM (
				SELECT place FROM keys WHERE event_key `+in+` UNION ALL SELECT place FROM keys_recent WHERE event_key `+in+`) k
				CROSS JOIN events e ON e.place = k.place`+eventJoins, args, func(scan func(...any) error) error {
			e, err := scanEvent(scan)
			if err != nil {
				return err
			}
			found[e.Key] = metering.Found{Event: &e.Accepted}
			if e.Type != metering.UsageVoided {
				places[e.place] = e.Key
				targets = append(targets, e.place)
			}
			return nil
		}); err != nil || len(targets) == 0 {
			return err
		}
		return each(ctx, tx, `SELECT t.target, t.place, m.incarnation, m.partition, m.sequence FROM voids t JOIN messages m ON m.id = t.place >> 20
			 WHERE t.target IN (?`+strings.Repeat(",?", len(targets)-1)+`)`+inAcceptance, targets, func(scan func(...any) error) error {
			var target int64
			p, err := scanPosition(func(into ...any) error { return scan(append([]any{&target}, into...)...) })
			if f := found[places[target]]; err == nil && f.Voided == nil {
				f.Voided = &p
				found[places[target]] = f
			}
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("find %d events: %w", len(keys), err)
	}
	return found, nil
}

// Tally adds up what messages were stored as, see [metering.Tallies].
func (s *Store) Tally(ctx context.Context, after, upTo metering.Cutoff) (metering.Tally, error) {
	var n metering.Tally
	err := s.read(ctx, func(tx *sql.Tx) error {
		r, err := resolveSpan(ctx, tx, metering.Span{After: after, UpTo: upTo})
		if err != nil {
			return err
		}
		var q condition
		q.add(`SELECT count(*), coalesce(sum(announced), 0), coalesce(sum(stored), 0), coalesce(sum(duplicate), 0), coalesce(sum(conflict), 0),
			coalesce(sum(undecoded), 0), max(accepted_us) FROM messages t WHERE `)
		q.messages(&r)
		var newest *int64
		err = tx.QueryRowContext(ctx, q.text.String(), q.args...).Scan(&n.Messages, &n.Announced, &n.Stored, &n.Duplicate, &n.Conflict, &n.Undecoded, &newest)
		n.NewestAt = instant(newest)
		return err
	})
	if err != nil {
		return metering.Tally{}, fmt.Errorf("tally messages: %w", err)
	}
	return n, nil
}

// messages adds: message t lies between the span's cutoffs. Its number alone is compared
// first, so that SQLite reads a range of them.
func (c *condition) messages(s *span) {
	if s.after != nil {
		c.add(`t.id >= ? AND `, s.after.full>>placeBits)
	}
	c.stored(`(t.id << 20)`, s)
}
