package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mete/metering"
)

// BlockAfter gives messages back as they were appended, see [metering.History].
func (s *Store) BlockAfter(ctx context.Context, partition int, after, upTo uint64, events int) (metering.Block, error) {
	h := history{ctx: ctx, block: metering.Block{Incarnation: 1, Partition: partition, First: after + 1, Last: after}}
	err := s.read(ctx, func(tx *sql.Tx) error {
		h.tx = tx
		for _, step := range []func() error{func() error { return h.messages(upTo, events) }, h.overwrittenRows, h.rows, h.repeats, h.targets} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return metering.Block{}, fmt.Errorf("messages of partition %d behind %d: %w", partition, after, err)
	}
	for i := range h.block.Messages {
		h.block.Messages[i].Sort()
	}
	return h.block, nil
}

// history is one block on its way out of the file.
type history struct {
	ctx         context.Context // of this one read
	tx          *sql.Tx
	block       metering.Block
	ids         []int64            // of its messages
	at          map[int64]int      // by id: which of the block's messages
	again       []repeat           // duplicates
	overwritten map[int64][]string // by place: redactions, in the order of overwriting
}

// repeat is a duplicate: of which key, and where it lies.
type repeat struct {
	place int64
	key   metering.Key
}

// messages reads which messages the block has.
func (h *history) messages(upTo uint64, events int) error {
	b, n := &h.block, 0
	h.at = map[int64]int{}
	err := each(h.ctx, h.tx, `SELECT id, sequence, accepted_us, announced, digest FROM messages
		 WHERE partition = $1 AND incarnation = 1 AND sequence > $2 AND sequence <= $3 ORDER BY sequence LIMIT $4`,
		[]any{b.Partition, clamp(b.Last), clamp(upTo), metering.MaxBlockMessages}, func(scan func(...any) error) error {
			var id, sequence int64
			var accepted *int64
			var digest []byte
			var m metering.Message
			if err := scan(&id, &sequence, &accepted, &m.Announced, &digest); err != nil {
				return err
			}
			if n += m.Announced; uint64(sequence) != b.Last+1 || n > events && len(b.Messages) > 0 {
				return errStop
			}
			m.Sequence, m.AcceptedAt = uint64(sequence), instant(accepted)
			copy(m.Digest[:], digest)
			h.at[id] = len(b.Messages)
			h.ids, b.Messages, b.Last = append(h.ids, id), append(b.Messages, m), m.Sequence
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

// overwrittenRows reads what was redacted of any row: two people decided on each.
func (h *history) overwrittenRows() error {
	h.overwritten = map[int64][]string{}
	return each(h.ctx, h.tx, `SELECT place, redaction FROM redacted_rows ORDER BY number`, nil, func(scan func(...any) error) error {
		var place int64
		var redaction string
		err := scan(&place, &redaction)
		h.overwritten[place] = append(h.overwritten[place], redaction)
		return err
	})
}

// of is the message at a place, and the position there.
func (h *history) of(place int64) (*metering.Message, metering.Position) {
	m := &h.block.Messages[h.at[place>>placeBits]]
	return m, metering.Position{Incarnation: h.block.Incarnation, Partition: h.block.Partition, Sequence: m.Sequence, Index: int(place & maxIndex)}
}

// mark says of an event what of it was overwritten.
func (h *history) mark(a *metering.Accepted, place int64) {
	if by := h.overwritten[place]; len(by) > 0 {
		a.Overwritten = &metering.Overwritten{By: by, Target: metering.KeyOf(a.Source, a.Data.RefersTo)}
	}
}

// rows reads events, conflicts, duplicates and what was undecoded. Messages that were
// appended together are neighbours, and are read together.
func (h *history) rows() error {
	for first := 0; first < len(h.ids); {
		last := first
		for last+1 < len(h.ids) && h.ids[last+1] == h.ids[last]+1 {
			last++
		}
		if err := h.run(h.ids[first]<<placeBits, (h.ids[last]+1)<<placeBits); err != nil {
			return err
		}
		first = last + 1
	}
	return nil
}

func (h *history) run(from, end int64) error {
	for _, q := range []struct {
		query string
		row   func(scan func(...any) error) error
	}{
		{`SELECT ` + eventColumns + ` FROM events e NOT INDEXED` + eventJoins + ` WHERE e.place >= $1 AND e.place < $2 ORDER BY e.place`, func(scan func(...any) error) error {
			e, err := scanEvent(scan)
			if err != nil {
				return err
			}
			h.mark(&e.Accepted, e.place)
			m, _ := h.of(e.place)
			m.Events = append(m.Events, e.Accepted)
			return nil
		}},
		{`SELECT t.place, t.event_key, t.content_hash, t.accepted_us, t.event, m.incarnation, m.partition, m.sequence
			FROM conflicts t CROSS JOIN messages m ON m.id = t.place >> 20 WHERE t.place >= $1 AND t.place < $2 ORDER BY t.place`, func(scan func(...any) error) error {
			c, err := scanPlacedConflict(scan)
			if err != nil {
				return err
			}
			h.mark(&c.Accepted, c.place)
			m, _ := h.of(c.place)
			m.Events = append(m.Events, c.Accepted)
			return nil
		}},
		{`SELECT place, event_key FROM duplicates WHERE place >= $1 AND place < $2 ORDER BY place`, func(scan func(...any) error) error {
			var r repeat
			var key []byte
			err := scan(&r.place, &key)
			r.key = toKey(key)
			h.again = append(h.again, r)
			return err
		}},
		{`SELECT place, reason FROM undecoded WHERE place >= $1 AND place < $2 ORDER BY place`, func(scan func(...any) error) error {
			var place int64
			var u metering.Undecoded
			if err := scan(&place, &u.Reason); err != nil {
				return err
			}
			m, p := h.of(place)
			u.Index = p.Index
			m.Undecoded = append(m.Undecoded, u)
			return nil
		}},
	} {
		if err := each(h.ctx, h.tx, q.query, []any{from, end}, q.row); err != nil {
			return err
		}
	}
	return nil
}

// repeats adds the duplicates, with the content of the events that they repeat.
func (h *history) repeats() error {
	if len(h.again) == 0 {
		return nil
	}
	first := make(map[metering.Key]*metering.Accepted, len(h.again)) // nil: not found yet
	for _, r := range h.again {
		first[r.key] = nil
	}
	if err := h.firsts(first); err != nil {
		return err
	}
	for _, r := range h.again {
		m, p := h.of(r.place)
		f := first[r.key]
		if f == nil {
			return fmt.Errorf("message %d, index %d repeats an event whose key %s is not stored: run the store's check, or mete rebuild keys", m.Sequence, p.Index, r.key)
		}
		a := *f
		a.Position, a.AcceptedAt = p, m.AcceptedAt
		m.Events = append(m.Events, a)
	}
	return nil
}

// firsts finds the stored events of keys.
func (h *history) firsts(first map[metering.Key]*metering.Accepted) error {
	keys := make([]metering.Key, 0, len(first))
	for k := range first {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, metering.Key.Compare)
	var places []int64
	found := map[metering.Key]bool{}
	for chunk := range slices.Chunk(keys, asked) {
		if err := each(h.ctx, h.tx, askKeys, keyArgs(chunk), func(scan func(...any) error) error {
			var key []byte
			var place int64
			err := scan(&key, &place)
			places, found[toKey(key)] = append(places, place), true
			return err
		}); err != nil {
			return err
		}
	}
	if len(found) < len(keys) {
		if err := each(h.ctx, h.tx, `SELECT place, event_key FROM keys_recent`, nil, func(scan func(...any) error) error {
			var key sql.RawBytes
			var place int64
			if err := scan(&place, &key); err != nil {
				return err
			}
			if k := toKey(key); !found[k] {
				if _, wanted := first[k]; wanted {
					places = append(places, place)
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for chunk := range slices.Chunk(places, placesAsked) {
		list, err := json.Marshal(chunk)
		if err != nil {
			return err
		}
		if err := each(h.ctx, h.tx, `SELECT `+eventColumns+` FROM events e`+eventJoins+` WHERE e.place IN (SELECT value FROM json_each($1))`, []any{string(list)}, func(scan func(...any) error) error {
			e, err := scanEvent(scan)
			if err != nil {
				return err
			}
			h.mark(&e.Accepted, e.place)
			first[e.Key] = &e.Accepted
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// placesAsked is how many events one statement looks up.
const placesAsked = 1 << 12

// targets says of voids that were overwritten what they take out.
func (h *history) targets() error {
	for i := range h.block.Messages {
		m := &h.block.Messages[i]
		for j := range m.Events {
			a := &m.Events[j]
			if a.Overwritten == nil || a.Type != metering.UsageVoided {
				continue
			}
			var target []byte
			place := h.ids[i]<<placeBits | int64(a.Position.Index)
			err := h.tx.QueryRowContext(h.ctx, `SELECT target_key FROM voids WHERE place = $1`, place).Scan(&target)
			if errors.Is(err, sql.ErrNoRows) { // a duplicate or conflict takes nothing out
				continue
			}
			if err != nil {
				return err
			}
			o := *a.Overwritten
			o.Target = toKey(target)
			a.Overwritten = &o
		}
	}
	return nil
}

// overwrite is an event that another store has overwritten, as it is stored: without the
// values that its redactions name, and with what it says since.
func (a *appending) overwrite(ctx context.Context, e *metering.Accepted, place int64) (*metering.Accepted, error) {
	known, err := a.w.applied(ctx, e.Key)
	if err != nil {
		return nil, err
	}
	hidden := *e
	var by []metering.Redaction
	for _, id := range e.Overwritten.By {
		i := slices.IndexFunc(known, func(r metering.Redaction) bool { return r.ID == id })
		if i < 0 {
			return nil, fmt.Errorf("it was overwritten by redactions %s, and this store does not know %s: take redactions over first", strings.Join(e.Overwritten.By, ", "), id)
		}
		known[i].Apply(&hidden.Event)
		by = append(by, known[i])
	}
	for _, r := range by {
		if err := a.w.redacted(ctx, place, r, hidden.Event); err != nil {
			return nil, err
		}
	}
	return &hidden, nil
}
