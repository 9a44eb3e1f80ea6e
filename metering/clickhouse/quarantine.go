package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"mete/metering"
)

// maxRefusals bounds one answer of Refusals, and one INSERT of Refuse.
const maxRefusals = 10_000

// Refuse keeps refusals, all or none; the same ID again changes nothing. An unclean
// refusal that carries an event fails: what is unclean is never kept.
func (s *Store) Refuse(ctx context.Context, rs []metering.Refusal) error {
	if len(rs) == 0 {
		return nil
	}
	if err := s.refuse(ctx, rs, nil); err != nil {
		return fmt.Errorf("keep %d refusals: %w", len(rs), err)
	}
	return nil
}

// refuse keeps refusals. Of those whose form was erased before, elsewhere, it is given by
// which redaction.
func (s *Store) refuse(ctx context.Context, rs []metering.Refusal, erased map[string]string) error {
	if len(rs) > maxRefusals {
		return fmt.Errorf("want at most %d at a time", maxRefusals)
	}
	var ids []string
	for i := range rs {
		if err := checkRefusal(&rs[i]); err != nil {
			return fmt.Errorf("refusal %q: %w", rs[i].ID, err)
		}
		ids = append(ids, rs[i].ID)
	}
	seen := map[string]bool{}
	if err := s.each(ctx, `SELECT DISTINCT id FROM refusals WHERE `+oneOf("id", ids), func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		seen[id] = true
		return err
	}); err != nil {
		return err
	}
	var fresh []*metering.Refusal
	for i := range rs {
		if !seen[rs[i].ID] {
			seen[rs[i].ID] = true
			fresh = append(fresh, &rs[i])
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	d, err := s.decided(ctx)
	if err != nil {
		return err
	}
	type refusal = struct {
		*metering.Refusal
		key    []byte
		erased string // the redaction that erased its form
	}
	rows := make([]refusal, len(fresh))
	under := map[metering.Key]bool{}
	for i, r := range fresh {
		rows[i] = refusal{Refusal: r, key: refusedKey(r.Event)}
		if by := erased[r.ID]; by != "" {
			k, known := d.of(by)
			if !known {
				return fmt.Errorf("refusal %q: its form was erased by redaction %s, which this store does not know: take redactions over first", r.ID, by)
			}
			rows[i].key, rows[i].erased = k[:], by
			continue
		}
		if rows[i].key == nil {
			continue
		}
		k := metering.Key(rows[i].key)
		under[k] = true
		if by := d.holds(k, r.Event); by != "" {
			kept := *r
			kept.Event, kept.Detail = nil, erasedDetail(by)
			rows[i].Refusal, rows[i].erased = &kept, by
		}
	}
	at := now()
	text := func(name string, of func(refusal) string) column { return column{name, textType, values(rows, of)} }
	if err := s.insert(ctx, "refusals", "", []column{
		text("id", func(r refusal) string { return r.ID }),
		{"kept_at", instantType, values(rows, func(refusal) time.Time { return at })},
		text("class", func(r refusal) string { return r.Class }),
		text("reason", func(r refusal) string { return r.Reason }),
		text("detail", func(r refusal) string { return r.Detail }),
		text("field", func(r refusal) string { return r.Field }),
		text("source", func(r refusal) string { return r.Source }),
		text("sender", func(r refusal) string { return r.Sender }),
		text("location", func(r refusal) string { return r.Where }),
		text("digest", func(r refusal) string { return r.Digest }),
		{"event", optionalText, values(rows, func(r refusal) *string {
			if r.Event == nil {
				return nil
			}
			event := string(r.Event)
			return &event
		})},
		{"event_key", "Nullable(FixedString(16))", values(rows, func(r refusal) []byte { return r.key })},
		text("erased_by", func(r refusal) string { return r.erased }),
		{"received_at", optionalInstant, values(rows, func(r refusal) *time.Time { return optionalTime(&r.ReceivedAt) })},
	}); err != nil {
		return err
	}
	return s.stillHeld(ctx, d, under)
}

// stillHeld erases forms of the keys that were kept while a redaction of them was
// approved.
func (s *Store) stillHeld(ctx context.Context, before *decided, under map[metering.Key]bool) error {
	d, err := s.decided(ctx)
	if err != nil || d == before {
		return err
	}
	var keys []metering.Key
	for k := range under {
		if len(d.byKey[k]) > len(before.byKey[k]) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return s.overwrite(ctx, keys)
}

// refusedKey is the key of a kept form, nil if there is none or it cannot be read: then
// it is kept all the same, and found by its receipt.
func refusedKey(form []byte) []byte {
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

func checkRefusal(r *metering.Refusal) error {
	if r.ID == "" {
		return errors.New("it has no receipt; give each refusal an ID")
	}
	switch r.Class {
	case metering.Unclean:
		if r.Event != nil {
			return errors.New("it is unclean and carries an event; drop the event")
		}
	case metering.Unusable:
	default:
		return fmt.Errorf("class %q: want %s or %s", r.Class, metering.Unclean, metering.Unusable)
	}
	return instant("received_at", r.ReceivedAt)
}

// firstRefusals are the rows that count: of one ID the one that was kept first.
const firstRefusals = `(SELECT * FROM refusals ORDER BY id, kept_at, class, reason, detail LIMIT 1 BY id)`

// refusalNames are the columns that scanRefusal reads.
const refusalNames = `id, class, reason, detail, field, source, sender, location, digest, event, received_at`

func scanRefusal(scan func(...any) error) (metering.Refusal, error) {
	var r metering.Refusal
	var event *string
	var received *time.Time
	err := scan(&r.ID, &r.Class, &r.Reason, &r.Detail, &r.Field, &r.Source, &r.Sender, &r.Where, &r.Digest, &event, &received)
	if event != nil {
		r.Event = []byte(*event)
	}
	if received != nil {
		r.ReceivedAt = received.UTC()
	}
	return r, err
}

// Refusals yields the refusals of a source, or of all if it is empty, newest first,
// at most limit and never more than 10,000.
func (s *Store) Refusals(ctx context.Context, source string, limit int) ([]metering.Refusal, error) {
	where := "1"
	if source != "" {
		where = "source = " + quote(source)
	}
	var rs []metering.Refusal
	err := s.each(ctx, `SELECT `+refusalNames+` FROM `+firstRefusals+` WHERE `+where+` ORDER BY received_at DESC NULLS LAST, id DESC LIMIT `+strconv.Itoa(max(0, min(limit, maxRefusals))),
		func(scan func(...any) error) error {
			r, err := scanRefusal(scan)
			rs = append(rs, r)
			return err
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
	err := s.each(ctx, `SELECT concat(class, '/', reason) AS name, count() FROM `+firstRefusals+` GROUP BY name`, func(scan func(...any) error) error {
		var name string
		var n uint64
		err := scan(&name, &n)
		counts[name] = int64(n)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count refusals: %w", err)
	}
	return counts, nil
}
