package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mete/metering"
)

// BlockAfter gives messages back as they were appended, see [metering.History].
func (s *Store) BlockAfter(ctx context.Context, partition int, after, upTo uint64, events int) (metering.Block, error) {
	b, err := s.blockAfter(ctx, partition, after, upTo, events)
	if err != nil {
		return metering.Block{}, fmt.Errorf("messages of partition %d behind %d: %w", partition, after, err)
	}
	return b, nil
}

func (s *Store) blockAfter(ctx context.Context, partition int, after, upTo uint64, events int) (metering.Block, error) {
	h := history{store: s, ctx: ctx, block: metering.Block{Incarnation: incarnation, Partition: partition, First: after + 1, Last: after}}
	c, err := s.chain(ctx, partition)
	if err != nil {
		return h.block, err
	}
	all, err := c.upTo(nil) // of this partition alone
	if err != nil {
		return h.block, err
	}
	d, err := s.decided(ctx)
	if err != nil {
		return h.block, err
	}
	if h.overwritten, err = s.redactedRows(ctx, d, d.keys()); err != nil {
		return h.block, err
	}
	if err := h.messages(upTo, events, all.within("")); err != nil {
		return h.block, err
	}
	h.where = fmt.Sprintf(`sequence >= %d AND sequence <= %d AND %s`, h.block.First, h.block.Last, all.within(""))
	for _, step := range []func() error{h.rows, h.repeats, h.targets} {
		if err := step(); err != nil {
			return h.block, err
		}
	}
	for i := range h.block.Messages {
		h.block.Messages[i].Sort()
	}
	return h.block, nil
}

// history is one block on its way out of the store.
type history struct {
	store       *Store
	ctx         context.Context // of this one read
	block       metering.Block
	where       string // condition: a row is of the block, and counts
	again       []repeated
	overwritten map[spot]*redactedRow
}

// repeated is a duplicate: of which key, and where it lies.
type repeated struct {
	at  metering.Position
	key metering.Key
}

// messages reads which messages the block has.
func (h *history) messages(upTo uint64, events int, within string) error {
	b, n := &h.block, 0
	err := h.store.each(h.ctx, fmt.Sprintf(`SELECT sequence, accepted_at, announced, digest FROM messages WHERE sequence > %d AND sequence <= %d AND %s ORDER BY sequence LIMIT %d`,
		b.Last, upTo, within, metering.MaxBlockMessages), func(scan func(...any) error) error {
		var m metering.Message
		var accepted *time.Time
		var announced uint32
		if err := scan(&m.Sequence, &accepted, &announced, &m.Digest); err != nil {
			return err
		}
		m.Announced = int(announced)
		if n += m.Announced; m.Sequence != b.Last+1 || n > events && len(b.Messages) > 0 {
			return errStop
		}
		if accepted != nil {
			m.AcceptedAt = accepted.UTC()
		}
		b.Messages, b.Last = append(b.Messages, m), m.Sequence
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return err
	}
	if len(b.Messages) == 0 {
		return fmt.Errorf("message %d is not stored: %w", b.First, metering.ErrGap)
	}
	return nil
}

func (h *history) of(p metering.Position) *metering.Message {
	return &h.block.Messages[p.Sequence-h.block.First]
}

// mark says of an event what of it was overwritten, and by what it is known again.
func (h *history) mark(a *metering.Accepted) {
	if w := h.overwritten[spotOf(a.Position)]; w != nil {
		a.Hash = w.sent
		a.Overwritten = &metering.Overwritten{By: strings.Split(w.reached(), ","), Target: metering.KeyOf(a.Source, a.Data.RefersTo)}
	}
}

// rows reads events, conflicts, duplicates and what was undecoded.
func (h *history) rows() error {
	for _, q := range []struct {
		columns, table string
		row            func(scan func(...any) error) error
	}{
		{eventNames, "events", func(scan func(...any) error) error { return h.add(scanEvent(scan)) }},
		{conflictNames, "conflicts", func(scan func(...any) error) error { return h.add(scanConflict(scan)) }},
		{"event_key, epoch, sequence, idx", "duplicates", func(scan func(...any) error) error {
			var r repeated
			var err error
			r.at, err = scanPosition(func(into ...any) error { return scan(append([]any{&r.key}, into...)...) })
			h.again = append(h.again, r)
			return err
		}},
		{"reason, epoch, sequence, idx", "undecoded", func(scan func(...any) error) error {
			var u metering.Undecoded
			p, err := scanPosition(func(into ...any) error { return scan(append([]any{&u.Reason}, into...)...) })
			if err != nil {
				return err
			}
			u.Index = p.Index
			m := h.of(p)
			m.Undecoded = append(m.Undecoded, u)
			return nil
		}},
	} {
		if err := h.store.each(h.ctx, `SELECT `+q.columns+` FROM `+q.table+` WHERE `+h.where, q.row); err != nil {
			return err
		}
	}
	return nil
}

func (h *history) add(a metering.Accepted, err error) error {
	if err != nil {
		return err
	}
	h.mark(&a)
	m := h.of(a.Position)
	m.Events = append(m.Events, a)
	return nil
}

// repeats adds the duplicates, with the content of the events that they repeat.
func (h *history) repeats() error {
	if len(h.again) == 0 {
		return nil
	}
	first := make(map[metering.Key]*metering.Accepted, len(h.again)) // nil: not found yet
	var keys []metering.Key
	for _, r := range h.again {
		if _, asked := first[r.key]; !asked {
			first[r.key], keys = nil, append(keys, r.key)
		}
	}
	for chunk := range slices.Chunk(keys, metering.MaxFindMany) {
		found, err := h.store.findMany(h.ctx, chunk)
		if err != nil {
			return err
		}
		for k, f := range found {
			h.mark(f.Event)
			first[k] = f.Event
		}
	}
	for _, r := range h.again {
		f, m := first[r.key], h.of(r.at)
		if f == nil {
			return fmt.Errorf("message %d, index %d repeats an event whose key %s is not stored: run the store's check, or mete rebuild keys", m.Sequence, r.at.Index, r.key)
		}
		a := *f
		a.Position, a.AcceptedAt = r.at, m.AcceptedAt
		m.Events = append(m.Events, a)
	}
	return nil
}

// targets says of voids that were overwritten what they take out.
func (h *history) targets() error {
	voids := map[spot]*metering.Accepted{}
	for i := range h.block.Messages {
		for j := range h.block.Messages[i].Events {
			if a := &h.block.Messages[i].Events[j]; a.Overwritten != nil && a.Type == metering.UsageVoided {
				voids[spotOf(a.Position)] = a
			}
		}
	}
	if len(voids) == 0 {
		return nil
	}
	return h.store.each(h.ctx, `SELECT target_key, epoch, sequence, idx FROM voids WHERE `+h.where, func(scan func(...any) error) error {
		var target metering.Key
		p, err := scanPosition(func(into ...any) error { return scan(append([]any{&target}, into...)...) })
		if a := voids[spotOf(p)]; a != nil {
			o := *a.Overwritten
			o.Target = target
			a.Overwritten = &o
		}
		return err
	})
}
