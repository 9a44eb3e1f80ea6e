package clickhouse

import (
	"context"
	"fmt"
	"iter"
	"time"

	"mete/metering"
)

// TakeRedactions keeps redactions of another store, see [metering.Transfer].
func (s *Store) TakeRedactions(ctx context.Context, rs []metering.Redaction) error {
	fail := func(err error) error { return fmt.Errorf("take %d redactions over: %w", len(rs), err) }
	for _, r := range rs {
		for _, t := range []time.Time{r.ProposedAt, r.ApprovedAt} {
			if err := instant("time of "+r.ID, t); err != nil {
				return fail(err)
			}
		}
	}
	kept, err := s.redactionsOf(ctx)
	if err != nil {
		return fail(err)
	}
	applied := map[string]bool{}
	for _, r := range kept {
		applied[r.ID] = r.Applied()
	}
	var fresh []metering.Redaction
	for _, r := range rs {
		if done, known := applied[r.ID]; !known || r.Applied() && !done {
			fresh = append(fresh, r)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := s.keepRedactions(ctx, fresh); err != nil {
		return fail(err)
	}
	return nil
}

// TakeRefused keeps refusals of another store with their replays, see
// [metering.Transfer].
func (s *Store) TakeRefused(ctx context.Context, rs []metering.Refused) error {
	if len(rs) == 0 {
		return nil
	}
	if err := s.takeRefused(ctx, rs); err != nil {
		return fmt.Errorf("take %d refusals over: %w", len(rs), err)
	}
	return nil
}

func (s *Store) takeRefused(ctx context.Context, rs []metering.Refused) error {
	var refusals []metering.Refusal
	erased := map[string]string{}
	var replays []metering.Replay
	for i := range rs {
		r := &rs[i]
		refusals = append(refusals, r.Refusal)
		if r.ErasedBy != "" {
			erased[r.ID] = r.ErasedBy
		}
		for _, p := range r.Replays {
			if err := instant("time of the replay", p.At); err != nil {
				return fmt.Errorf("refusal %q: %w", r.ID, err)
			}
			replays = append(replays, p)
		}
	}
	if err := s.refuse(ctx, refusals, erased); err != nil || len(replays) == 0 {
		return err
	}
	return s.keepReplays(ctx, replays) // equal rows are one
}

// Heartbeats are all signs of life that are kept, see [metering.Transfer].
func (s *Store) Heartbeats(ctx context.Context) iter.Seq2[metering.Heartbeat, error] {
	return iterate("heartbeats", func(yield func(metering.Heartbeat) error) error {
		return s.each(ctx, `SELECT source, beat_at, sent_by, received_at FROM heartbeats ORDER BY source, slot, kept_at, beat_at LIMIT 1 BY source, slot`, func(scan func(...any) error) error {
			var h metering.Heartbeat
			var received *time.Time
			if err := scan(&h.Source, &h.At, &h.SentBy, &received); err != nil {
				return err
			}
			if h.At = h.At.UTC(); received != nil {
				h.ReceivedAt = received.UTC()
			}
			return yield(h)
		})
	})
}

// TakeHeartbeats keeps signs of life of another store, see [metering.Transfer]. One that
// is known already is stored once more, and is not the first of its slot.
func (s *Store) TakeHeartbeats(ctx context.Context, hs []metering.Heartbeat) error {
	if len(hs) == 0 {
		return nil
	}
	for i := range hs {
		for _, t := range []time.Time{hs[i].At, hs[i].ReceivedAt} {
			if err := instant("time of a heartbeat", t); err != nil {
				return fmt.Errorf("take %d heartbeats over: of source %s: %w", len(hs), hs[i].Source, err)
			}
		}
	}
	if err := s.keepHeartbeats(ctx, hs); err != nil {
		return fmt.Errorf("take %d heartbeats over: %w", len(hs), err)
	}
	return nil
}

func (s *Store) keepHeartbeats(ctx context.Context, hs []metering.Heartbeat) error {
	type beat = metering.Heartbeat
	at := now()
	return s.insert(ctx, "heartbeats", "", []column{
		{"source", textType, values(hs, func(h beat) string { return h.Source })},
		{"slot", "Int64", values(hs, func(h beat) int64 { return slotOf(h.At) })},
		{"kept_at", instantType, values(hs, func(beat) time.Time { return at })},
		{"beat_at", instantType, values(hs, func(h beat) time.Time { return h.At })},
		{"sent_by", textType, values(hs, func(h beat) string { return h.SentBy })},
		{"received_at", optionalInstant, values(hs, func(h beat) *time.Time { return optionalTime(&h.ReceivedAt) })},
	})
}
