package clickhouse

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"mete/metering"
)

// FindMany answers about many keys in one state of the store, see [metering.Lookup].
func (s *Store) FindMany(ctx context.Context, keys []metering.Key) (map[metering.Key]metering.Found, error) {
	found, err := s.findMany(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("find %d events: %w", len(keys), err)
	}
	return found, nil
}

func (s *Store) findMany(ctx context.Context, keys []metering.Key) (map[metering.Key]metering.Found, error) {
	found := map[metering.Key]metering.Found{}
	if len(keys) > metering.MaxFindMany {
		return nil, fmt.Errorf("ask for at most %d at a time", metering.MaxFindMany)
	}
	if len(keys) == 0 {
		return found, nil
	}
	sent, err := s.sentHashes(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := s.visible(ctx)
	if err != nil {
		return nil, err
	}
	visible := ` AND ` + counts
	if err := s.each(ctx, `SELECT `+eventNames+` FROM events WHERE (type, app, occurred_at) GLOBAL IN (
		SELECT type, app, occurred_at FROM keys WHERE `+inKeys("event_key", keys)+visible+`) AND `+inKeys("event_key", keys)+visible, func(scan func(...any) error) error {
		a, err := scanEvent(scan)
		sent(&a)
		found[a.Key] = metering.Found{Event: &a}
		return err
	}); err != nil {
		return nil, err
	}
	return found, s.each(ctx, `SELECT target_key, epoch, sequence, idx FROM voids WHERE `+inKeys("target_key", keys)+visible+`
		 ORDER BY `+firstVoid+` LIMIT 1 BY target_key`, func(scan func(...any) error) error {
		var target metering.Key
		p, err := scanPosition(func(into ...any) error { return scan(append([]any{&target}, into...)...) })
		if f, ok := found[target]; ok && f.Event.Type != metering.UsageVoided {
			f.Voided = &p
			found[target] = f
		}
		return err
	})
}

// firstVoid orders voids of one event: the first accepted took it out.
var firstVoid = `accepted_at NULLS FIRST, bitAnd(epoch, ` + strconv.Itoa(maxPartitions-1) + `), sequence, idx`

// Tally adds up what messages were stored as, see [metering.Tallies].
func (s *Store) Tally(ctx context.Context, after, upTo metering.Cutoff) (metering.Tally, error) {
	n, err := s.tally(ctx, metering.Span{After: after, UpTo: upTo})
	if err != nil {
		return metering.Tally{}, fmt.Errorf("tally messages: %w", err)
	}
	return n, nil
}

func (s *Store) tally(ctx context.Context, sp metering.Span) (n metering.Tally, err error) {
	r, err := s.resolve(ctx, sp)
	if err != nil {
		return n, err
	}
	err = s.each(ctx, `SELECT toInt64(count()), toInt64(sum(announced)), toInt64(sum(stored)), toInt64(sum(duplicate)), toInt64(sum(conflict)), toInt64(sum(undecoded)),
		max(accepted_at) FROM messages WHERE `+r.stored(""), func(scan func(...any) error) error {
		var newest *time.Time
		err := scan(&n.Messages, &n.Announced, &n.Stored, &n.Duplicate, &n.Conflict, &n.Undecoded, &newest)
		if newest != nil {
			n.NewestAt = newest.UTC()
		}
		return err
	})
	return n, err
}
