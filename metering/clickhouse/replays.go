package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"mete/metering"
)

// judged are refusals with what came of their replays.
const judged = `(SELECT r.*, if(p.again > 0, p.newest, r.reason) AS newest_reason, p.good > 0 AS has_passed, r.class = 'unusable' AND r.event IS NOT NULL AS fits
	  FROM ` + firstRefusals + ` AS r
	  GLOBAL LEFT JOIN (SELECT refusal, countIf(NOT passed) AS again, countIf(passed) AS good, argMaxIf(reason, tried_at, NOT passed) AS newest
	         FROM replays GROUP BY refusal) AS p ON p.refusal = r.id)`

// Refused answers a query about refusals, see [metering.Replays].
func (s *Store) Refused(ctx context.Context, q metering.RefusedQuery) ([]metering.Refused, error) {
	rs, err := s.refused(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("refusals: %w", err)
	}
	return rs, nil
}

func (s *Store) refused(ctx context.Context, q metering.RefusedQuery) ([]metering.Refused, error) {
	asked := len(q.IDs) + len(q.Keys) + len(q.Digests)
	if asked > metering.MaxRefusedAsked {
		return nil, fmt.Errorf("%d receipts, keys and digests asked for: ask for at most %d at a time", asked, metering.MaxRefusedAsked)
	}
	where := []string{"1"}
	if asked > 0 {
		any := []string{oneOf("id", q.IDs), oneOf("digest", q.Digests)}
		if len(q.Keys) > 0 {
			any = append(any, inKeys("assumeNotNull(event_key)", q.Keys)+" AND event_key IS NOT NULL")
		}
		where = append(where, "("+strings.Join(any, " OR ")+")")
	}
	if q.Source != "" {
		where = append(where, "source = "+quote(q.Source))
	}
	if q.Reason != "" {
		where = append(where, "newest_reason = "+quote(q.Reason))
	}
	if q.Waiting {
		where = append(where, "fits AND NOT has_passed")
	}
	if q.After != nil {
		if err := instant("received_at", q.After.ReceivedAt); err != nil {
			return nil, err
		}
		if id := quote(q.After.ID); q.After.ReceivedAt.IsZero() { // no time comes first
			where = append(where, "(received_at IS NOT NULL OR id > "+id+")")
		} else {
			at := instantText(q.After.ReceivedAt)
			where = append(where, "(received_at > "+at+" OR received_at = "+at+" AND id > "+id+")")
		}
	}
	limit := metering.MaxRefused
	if q.Limit > 0 {
		limit = min(limit, q.Limit)
	}
	var rs []metering.Refused
	if err := s.each(ctx, `SELECT `+refusalNames+`, erased_by FROM `+judged+` WHERE `+strings.Join(where, " AND ")+` ORDER BY received_at NULLS FIRST, id LIMIT `+strconv.Itoa(limit),
		func(scan func(...any) error) error {
			var erased string
			r, err := scanRefusal(func(into ...any) error { return scan(append(into, &erased)...) })
			rs = append(rs, metering.Refused{Refusal: r, ErasedBy: erased})
			return err
		}); err != nil {
		return nil, err
	}
	return rs, s.replaysOf(ctx, rs)
}

// replaysOf fills in what is kept of the refusals' replays.
func (s *Store) replaysOf(ctx context.Context, rs []metering.Refused) error {
	at := make(map[string]*metering.Refused, len(rs))
	ids := make([]string, len(rs))
	for i := range rs {
		ids[i], at[rs[i].ID] = rs[i].ID, &rs[i]
	}
	for chunk := range slices.Chunk(ids, metering.MaxRefusedAsked) {
		if err := s.each(ctx, `SELECT DISTINCT refusal, tried_at, tried_by, passed, receipt, position, class, reason, detail, field FROM replays WHERE `+oneOf("refusal", chunk)+`
			 ORDER BY tried_at, passed, class, reason, detail, field, tried_by`, func(scan func(...any) error) error {
			var p metering.Replay
			if err := scan(&p.Refusal, &p.At, &p.By, &p.Passed, &p.Receipt, &p.Position, &p.Class, &p.Reason, &p.Detail, &p.Field); err != nil {
				return err
			}
			p.At = p.At.UTC()
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
	if err := s.replayed(ctx, rs); err != nil {
		return fmt.Errorf("keep %d replays: %w", len(rs), err)
	}
	return nil
}

func (s *Store) replayed(ctx context.Context, rs []metering.Replay) error {
	if len(rs) > maxRefusals {
		return fmt.Errorf("want at most %d at a time", maxRefusals)
	}
	fits := map[string]bool{}
	ids := values(rs, func(r metering.Replay) string { return r.Refusal })
	for chunk := range slices.Chunk(ids, metering.MaxRefusedAsked) {
		if err := s.each(ctx, `SELECT id, fits FROM `+judged+` WHERE `+oneOf("id", chunk), func(scan func(...any) error) error {
			var id string
			var fit bool
			err := scan(&id, &fit)
			fits[id] = fit
			return err
		}); err != nil {
			return err
		}
	}
	for i := range rs {
		fit, known := fits[rs[i].Refusal]
		err := errors.Join(rs[i].Check(), instant("time of the replay", rs[i].At))
		switch {
		case err == nil && !known:
			err = errors.New("no refusal has this receipt")
		case err == nil && !fit:
			err = errors.New("nothing of it is kept that could be replayed")
		}
		if err != nil {
			return fmt.Errorf("refusal %q: %w", rs[i].Refusal, err)
		}
	}
	return s.keepReplays(ctx, rs)
}

func (s *Store) keepReplays(ctx context.Context, rs []metering.Replay) error {
	type replay = metering.Replay
	text := func(name string, of func(replay) string) column { return column{name, textType, values(rs, of)} }
	return s.insert(ctx, "replays", "", []column{
		text("refusal", func(r replay) string { return r.Refusal }),
		{"tried_at", instantType, values(rs, func(r replay) time.Time { return r.At })},
		text("tried_by", func(r replay) string { return r.By }),
		{"passed", "Bool", values(rs, func(r replay) bool { return r.Passed })},
		text("receipt", func(r replay) string { return r.Receipt }),
		text("position", func(r replay) string { return r.Position }),
		text("class", func(r replay) string { return r.Class }),
		text("reason", func(r replay) string { return r.Reason }),
		text("detail", func(r replay) string { return r.Detail }),
		text("field", func(r replay) string { return r.Field }),
	})
}

// RefusedCounts counts refusals by class and newest reason, see [metering.Replays].
func (s *Store) RefusedCounts(ctx context.Context) ([]metering.RefusedCount, error) {
	var counts []metering.RefusedCount
	err := s.each(ctx, `SELECT class, newest_reason, count(), countIf(has_passed), countIf(fits AND NOT has_passed) FROM `+judged+`
		 GROUP BY class, newest_reason ORDER BY class, newest_reason`, func(scan func(...any) error) error {
		var c metering.RefusedCount
		var refused, replayed, waiting uint64
		err := scan(&c.Class, &c.Reason, &refused, &replayed, &waiting)
		c.Refused, c.Replayed, c.Waiting = int64(refused), int64(replayed), int64(waiting)
		counts = append(counts, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count refusals: %w", err)
	}
	return counts, nil
}
