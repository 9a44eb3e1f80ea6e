package clickhouse

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math/big"
	"strconv"
	"time"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// firstTotals are the rows of day_totals that count: of equal contents of one day the
// one that was kept first.
const firstTotals = `(SELECT * FROM day_totals ORDER BY day, source, digest, kept_at LIMIT 1 BY day, source, digest)`

// KeepTotals keeps what a source says that it sent of a day, see
// [metering.SourceFacts]. Two that are told at the same moment are both kept; which
// counts is seen by who reads them.
func (s *Store) KeepTotals(ctx context.Context, t metering.DayTotals) (metering.Kept, error) {
	kept, err := s.keepTotals(ctx, t)
	if err != nil {
		return "", fmt.Errorf("keep totals of source %s for %s: %w", t.Source, t.Day, err)
	}
	return kept, nil
}

func (s *Store) keepTotals(ctx context.Context, t metering.DayTotals) (metering.Kept, error) {
	if t.Digest == (metering.Hash{}) {
		return "", fmt.Errorf("they are not sealed: %w", metering.ErrTotals)
	}
	if err := instant("received_at", t.ReceivedAt); err != nil {
		return "", err
	}
	at, others, same := now(), 0, false
	if err := s.each(ctx, `SELECT digest, kept_at FROM `+firstTotals+` WHERE source = `+quote(t.Source)+` AND day = `+quote(t.Day.String()), func(scan func(...any) error) error {
		var digest metering.Hash
		var before time.Time
		if err := scan(&digest, &before); err != nil {
			return err
		}
		others++
		same = same || digest == t.Digest
		at = later(at, before)
		return nil
	}); err != nil {
		return "", err
	}
	kept := metering.KeptNew
	switch {
	case same:
		return metering.KeptSame, nil
	case others >= metering.MaxTotalConflicts:
		return "", metering.ErrTooManyTotals
	case others > 0:
		kept = metering.KeptConflict
	}
	if t.Totals == nil {
		t.Totals = []metering.DayTotal{}
	}
	totals, err := json.Marshal(t.Totals)
	if err != nil {
		return "", err
	}
	return kept, s.insert(ctx, "day_totals", "", []column{
		{"source", textType, []string{t.Source}},
		{"day", textType, []string{t.Day.String()}},
		{"kept_at", instantType, []time.Time{at}},
		{"zone", textType, []string{t.Zone}},
		{"totals", textType, []string{string(totals)}},
		{"digest", "FixedString(32)", [][]byte{t.Digest[:]}},
		{"sent_by", textType, []string{t.SentBy}},
		{"received_at", optionalInstant, []*time.Time{optionalTime(&t.ReceivedAt)}},
	})
}

// later is the instant, or the next one after another if that is not before it: what
// was kept first stays first though a clock was set back.
func later(at, before time.Time) time.Time {
	if at.After(before) {
		return at
	}
	return before.UTC().Add(time.Microsecond)
}

// Totals are the totals that are kept, see [metering.SourceFacts].
func (s *Store) Totals(ctx context.Context, since period.Date) iter.Seq2[metering.DayTotals, error] {
	return iterate("control totals", func(yield func(metering.DayTotals) error) error {
		return s.each(ctx, `SELECT source, day, zone, totals, digest, sent_by, received_at FROM `+firstTotals+` WHERE day >= `+quote(since.String())+`
			 ORDER BY day, source, kept_at, digest`, func(scan func(...any) error) error {
			var t metering.DayTotals
			var day, totals string
			var received *time.Time
			if err := scan(&t.Source, &day, &t.Zone, &totals, &t.Digest, &t.SentBy, &received); err != nil {
				return err
			}
			var err error
			if t.Day, err = period.ParseDate(day); err == nil {
				err = json.Unmarshal([]byte(totals), &t.Totals)
			}
			if err != nil {
				return fmt.Errorf("those of source %s for %s are damaged: %w", t.Source, day, err)
			}
			if received != nil {
				t.ReceivedAt = received.UTC()
			}
			return yield(t)
		})
	})
}

// slotOf is the number of the slot in which an instant lies.
func slotOf(t time.Time) int64 {
	slot := int64(metering.HeartbeatSlot / time.Microsecond)
	us := t.UnixMicro()
	n := us / slot
	if us < 0 && us%slot != 0 {
		n--
	}
	return n
}

// KeepHeartbeat keeps a source's sign of life, see [metering.SourceFacts].
func (s *Store) KeepHeartbeat(ctx context.Context, h metering.Heartbeat) error {
	if err := s.keepHeartbeat(ctx, h); err != nil {
		return fmt.Errorf("keep heartbeat of source %s: %w", h.Source, err)
	}
	return nil
}

func (s *Store) keepHeartbeat(ctx context.Context, h metering.Heartbeat) error {
	h.At = h.At.Truncate(time.Microsecond)
	for _, t := range []struct {
		name string
		at   time.Time
	}{{"at", h.At}, {"received_at", h.ReceivedAt}} {
		if err := instant(t.name, t.at); err != nil {
			return err
		}
	}
	known, slot := false, slotOf(h.At)
	if err := s.each(ctx, `SELECT 1 FROM heartbeats WHERE source = `+quote(h.Source)+` AND slot = `+strconv.FormatInt(slot, 10)+` LIMIT 1`, func(func(...any) error) error {
		known = true
		return nil
	}); err != nil || known {
		return err
	}
	return s.keepHeartbeats(ctx, []metering.Heartbeat{h})
}

// Alive reports whether a source gave a sign of life, see [metering.SourceFacts].
func (s *Store) Alive(ctx context.Context, source string, from, until time.Time) (bool, error) {
	alive := false
	err := s.each(ctx, fmt.Sprintf(`SELECT 1 FROM (SELECT beat_at FROM heartbeats WHERE source = %s AND slot BETWEEN %d AND %d ORDER BY slot, kept_at, beat_at LIMIT 1 BY slot)
		 WHERE beat_at >= %s AND beat_at < %s LIMIT 1`, quote(source), slotOf(from), slotOf(until)+1, instantText(from), instantText(until)), func(func(...any) error) error {
		alive = true
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("heartbeats of source %s: %w", source, err)
	}
	return alive, nil
}

// SumsBySource adds up the events of a span by source, see [metering.SumsBySource].
func (s *Store) SumsBySource(ctx context.Context, start, end time.Time) ([]metering.SourceSum, error) {
	sums, err := s.sumsBySource(ctx, metering.Span{Start: start, End: end})
	if err != nil {
		return nil, fmt.Errorf("events by source from %s to %s: %w", start.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339), err)
	}
	return sums, nil
}

func (s *Store) sumsBySource(ctx context.Context, sp metering.Span) ([]metering.SourceSum, error) {
	r, err := s.resolve(ctx, sp)
	if err != nil {
		return nil, err
	}
	var sums []metering.SourceSum
	err = s.each(ctx, `SELECT source, app, type, if(amount_minor IS NULL, '', currency) AS of, amount_minor IS NOT NULL AS priced, count(), sum(toInt128(ifNull(amount_minor, 0)))
		  FROM events WHERE `+r.occurred("")+` AND `+r.stored("")+` GROUP BY source, app, type, of, priced ORDER BY source, app, type, of`,
		func(scan func(...any) error) error {
			var x metering.SourceSum
			var app, currency string
			var priced uint8
			var n uint64
			var minor big.Int
			if err := scan(&x.Source, &app, &x.Type, &currency, &priced, &n, &minor); err != nil {
				return err
			}
			if !minor.IsInt64() {
				return fmt.Errorf("a sum of amounts of source %s exceeds 64 bits; ask for a shorter span", x.Source)
			}
			x.App, x.Currency, x.Events = partner.AppID(app), money.Currency(currency), int64(n)
			if priced == 1 {
				d := money.New(minor.Int64(), x.Currency).Decimal()
				x.Amount = &d
			}
			sums = append(sums, x)
			return nil
		})
	return sums, err
}
