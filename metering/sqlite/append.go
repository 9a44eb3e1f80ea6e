package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mete/metering"
)

// Append stores a block in one transaction, see [metering.Store]. An event that the
// store could not keep exactly fails the whole block: nothing is stored rounded.
func (s *Store) Append(ctx context.Context, b metering.Block) (metering.Outcome, error) {
	fail := func(err error) (metering.Outcome, error) {
		return metering.Outcome{}, fmt.Errorf("append messages %d to %d of partition %d: %w", b.First, b.Last, b.Partition, err)
	}
	if err := b.Validate(); err != nil {
		return fail(err)
	}
	var a appending
	if err := s.write(ctx, func(w *writer) error {
		a = appending{w: w, block: &b}
		return a.run(ctx)
	}); err != nil {
		return fail(err)
	}
	return a.outcome, nil
}

// appending is one block on its way into the file.
type appending struct {
	w       *writer
	block   *metering.Block
	outcome metering.Outcome

	base  int64 // id of the message before the first new one
	fresh []metering.Message
	first map[metering.Key]winner // of every key in the block
	rows  [2]batch                // lean and full events
}

// winner is the event that a key stands for.
type winner struct {
	place int64
	hash  metering.Hash
	old   bool // stored by an earlier block
}

func (a *appending) run(ctx context.Context) error {
	position, err := a.position(ctx)
	if err != nil {
		return err
	}
	b := a.block
	if b.First > position+1 {
		return fmt.Errorf("partition %d is stored up to %d, the block begins at %d: send the messages from %d on: %w",
			b.Partition, position, b.First, position+1, metering.ErrGap)
	}
	skip := min(position+1-b.First, uint64(len(b.Messages)))
	if err := a.sameAsStored(ctx, b.Messages[:skip]); err != nil {
		return err
	}
	a.fresh = b.Messages[skip:]
	if len(a.fresh) == 0 {
		return nil
	}
	if err := a.w.queryRow(ctx, `SELECT coalesce(max(id), 0) FROM messages`, nil, &a.base); err != nil {
		return err
	}
	if a.base > maxMessages-int64(len(a.fresh)) {
		return fmt.Errorf("the store has counted %d messages and can count no more", a.base)
	}
	if err := a.decide(ctx); err != nil {
		return err
	}
	if err := a.store(ctx); err != nil {
		return err
	}
	_, err = a.w.exec(ctx, `
		INSERT INTO positions (partition, incarnation, sequence) VALUES ($1, $2, $3)
		ON CONFLICT (partition) DO UPDATE SET incarnation = excluded.incarnation, sequence = excluded.sequence`,
		b.Partition, b.Incarnation, int64(b.Last))
	return err
}

// position is up to where the block's partition is stored, if the block is of the
// stream that fills the store.
func (a *appending) position(ctx context.Context) (uint64, error) {
	b := a.block
	var partitions int
	var sequence int64
	err := a.w.queryRow(ctx, `
		SELECT s.partitions, coalesce(p.sequence, 0)
		  FROM streams s LEFT JOIN positions p ON p.partition = $2 AND p.incarnation = s.incarnation
		 WHERE s.incarnation = $1`, []any{b.Incarnation, b.Partition}, &partitions, &sequence)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("no stream is attached as incarnation %d; attach the stream first: %w", b.Incarnation, metering.ErrIncarnation)
	}
	if err != nil {
		return 0, err
	}
	if b.Partition < 0 || b.Partition >= partitions {
		return 0, fmt.Errorf("the stream has partitions 0 to %d: %w", partitions-1, metering.ErrIncarnation)
	}
	return uint64(sequence), nil
}

// sameAsStored fails if a message that is stored already now has another payload:
// then the stream is not the one that it was.
func (a *appending) sameAsStored(ctx context.Context, ms []metering.Message) error {
	for i := range ms {
		var digest []byte
		if err := a.w.queryRow(ctx, `SELECT digest FROM messages WHERE partition = $1 AND incarnation = $2 AND sequence = $3`,
			[]any{a.block.Partition, a.block.Incarnation, int64(ms[i].Sequence)}, &digest); err != nil {
			return fmt.Errorf("message %d is below the stored position: %w", ms[i].Sequence, err)
		}
		if !bytes.Equal(digest, ms[i].Digest[:]) {
			return fmt.Errorf("message %d is stored with payload digest %x and now comes with %s: %w",
				ms[i].Sequence, digest, ms[i].Digest, metering.ErrIncarnation)
		}
	}
	return nil
}

func (a *appending) place(message, index int) int64 {
	return (a.base+1+int64(message))<<placeBits | int64(index)
}

// decide finds, for every key of the block, the event that it stands for.
func (a *appending) decide(ctx context.Context) error {
	a.first = map[metering.Key]winner{}
	var ask []metering.Key
	for m := range a.fresh {
		for i := range a.fresh[m].Events {
			e := &a.fresh[m].Events[i]
			if _, seen := a.first[e.Key]; seen {
				continue
			}
			if place, recent := a.w.recent[e.Key]; recent {
				a.first[e.Key] = winner{place: place, old: true}
				continue
			}
			a.first[e.Key] = winner{place: a.place(m, e.Position.Index), hash: e.Hash}
			ask = append(ask, e.Key)
		}
	}
	slices.SortFunc(ask, metering.Key.Compare) // neighbours lie on one page
	if err := a.w.eachStored(ctx, ask, func(k metering.Key, place int64) {
		a.first[k] = winner{place: place, old: true}
	}); err != nil {
		return err
	}
	for k, w := range a.first {
		if !w.old {
			continue
		}
		var hash []byte
		if err := a.w.queryRow(ctx, `SELECT content_hash FROM events WHERE place = $1`, []any{w.place}, &hash); err != nil {
			return fmt.Errorf("key %s is stored, its event is not: restore the store from a backup: %w", k, err)
		}
		copy(w.hash[:], hash)
		a.first[k] = w
	}
	return nil
}

// asked is how many keys one statement looks up.
const asked = 64

var (
	askKeys  = `SELECT event_key, place FROM keys WHERE event_key IN (?` + strings.Repeat(",?", asked-1) + `)`
	askVoids = `SELECT DISTINCT target_key FROM voids WHERE target IS NULL AND target_key IN (?` + strings.Repeat(",?", asked-1) + `)`
)

// eachStored calls found for those of the keys that lie in the sorted table.
func (w *writer) eachStored(ctx context.Context, keys []metering.Key, found func(metering.Key, int64)) error {
	for chunk := range slices.Chunk(keys, asked) {
		rows, err := w.query(ctx, askKeys, keyArgs(chunk)...)
		if err != nil {
			return err
		}
		for rows.Next() {
			var key sql.RawBytes
			var place int64
			if err := rows.Scan(&key, &place); err != nil {
				return errors.Join(err, rows.Close())
			}
			found(toKey(key), place)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
	}
	return nil
}

// keyArgs fills up a chunk of keys with its last one, so that one prepared statement
// serves all.
func keyArgs(chunk []metering.Key) []any {
	args := make([]any, asked)
	for i := range args {
		args[i] = chunk[min(i, len(chunk)-1)][:]
	}
	return args
}

// store writes messages, events and keys.
func (a *appending) store(ctx context.Context) error {
	a.rows = [2]batch{
		batchOf("events ("+leanColumns+")", leanCount),
		batchOf("events ("+fullColumns+")", fullCount),
	}
	keys := batchOf("keys_recent (place, event_key)", 2)
	var added []metering.Key
	var voids []*metering.Accepted
	for i := range a.fresh {
		m := &a.fresh[i]
		var tally metering.Outcome
		for j := range m.Events {
			e := &m.Events[j]
			place := a.place(i, e.Position.Index)
			w := a.first[e.Key]
			switch {
			case w.place == place:
				tally.Stored++
				row := e
				if e.Overwritten != nil {
					var err error
					if row, err = a.overwrite(ctx, e, place); err != nil {
						return fmt.Errorf("event with key %s at message %d, index %d: %w", e.Key, m.Sequence, e.Position.Index, err)
					}
				}
				if err := a.row(ctx, row, place); err != nil {
					return fmt.Errorf("event %s of source %s at message %d, index %d: %w", e.ID, e.Source, m.Sequence, e.Position.Index, err)
				}
				keys.args = append(keys.args, place, e.Key[:])
				if err := keys.flush(ctx, a.w, false); err != nil {
					return err
				}
				added = append(added, e.Key)
				if e.Type == metering.UsageVoided {
					voids = append(voids, e)
				}
			case w.hash == e.Hash:
				tally.Duplicate++
				if _, err := a.w.exec(ctx, `INSERT INTO duplicates (place, event_key) VALUES ($1, $2)`, place, e.Key[:]); err != nil {
					return err
				}
			default:
				tally.Conflict++
				if err := a.conflict(ctx, e, place); err != nil {
					return fmt.Errorf("conflict of event %s of source %s: %w", e.ID, e.Source, err)
				}
			}
		}
		for _, u := range m.Undecoded {
			tally.Undecoded++
			if _, err := a.w.exec(ctx, `INSERT INTO undecoded (place, reason) VALUES ($1, $2)`, a.place(i, u.Index), u.Reason); err != nil {
				return err
			}
		}
		if err := a.message(ctx, i, tally); err != nil {
			return err
		}
		a.outcome.Stored += tally.Stored
		a.outcome.Duplicate += tally.Duplicate
		a.outcome.Conflict += tally.Conflict
		a.outcome.Undecoded += tally.Undecoded
	}
	for _, b := range []*batch{&a.rows[0], &a.rows[1], &keys} {
		if err := b.flush(ctx, a.w, true); err != nil {
			return err
		}
	}
	for _, k := range added {
		a.w.recent[k] = a.first[k].place
	}
	if err := a.voids(ctx, voids, added); err != nil {
		return err
	}
	return a.merge(ctx)
}

func (a *appending) message(ctx context.Context, i int, tally metering.Outcome) error {
	m := &a.fresh[i]
	accepted, err := optionalMicros("acceptance of the message", m.AcceptedAt)
	if err != nil {
		return err
	}
	_, err = a.w.exec(ctx, `
		INSERT INTO messages (id, incarnation, partition, sequence, accepted_us, announced, stored, duplicate, conflict, undecoded, digest)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		a.base+1+int64(i), a.block.Incarnation, a.block.Partition, int64(m.Sequence), accepted, m.Announced,
		tally.Stored, tally.Duplicate, tally.Conflict, tally.Undecoded, m.Digest[:])
	return err
}

func (a *appending) row(ctx context.Context, e *metering.Accepted, place int64) error {
	c, err := cellOf(&e.Event)
	if err != nil {
		return err
	}
	cellID, err := a.w.cell(ctx, c)
	if err != nil {
		return err
	}
	source, err := a.w.source(ctx, e.Source)
	if err != nil {
		return err
	}
	full := !isLean(&e.Data)
	b := &a.rows[boolInt(full)]
	if b.args, err = appendRow(b.args, e, place, cellID, source, full); err != nil {
		return err
	}
	return b.flush(ctx, a.w, false)
}

func (a *appending) conflict(ctx context.Context, e *metering.Accepted, place int64) error {
	accepted, err := optionalMicros("accepted_at", e.AcceptedAt)
	if err != nil {
		return err
	}
	redactions, err := a.w.applied(ctx, e.Key)
	if err != nil {
		return err
	}
	event := e.Event
	for _, r := range redactions {
		if metering.ValueOf(&event, r.Field) != "" {
			r.Apply(&event)
			if err := a.w.redacted(ctx, place, r, event); err != nil {
				return err
			}
		}
	}
	form, err := json.Marshal(event)
	if err != nil {
		return err
	}
	_, err = a.w.exec(ctx, `INSERT INTO conflicts (place, event_key, content_hash, accepted_us, event) VALUES ($1, $2, $3, $4, $5)`,
		place, e.Key[:], e.Hash[:], accepted, string(form))
	return err
}

// voids keeps the new voids with the events that they take out, and gives voids that
// came before their target the target that has come.
func (a *appending) voids(ctx context.Context, voids []*metering.Accepted, added []metering.Key) error {
	w := a.w
	if w.waiting > 0 {
		if err := a.arrived(ctx, added); err != nil {
			return err
		}
	}
	for _, v := range voids {
		target := v.Target()
		var place any // NULL until it is stored
		if p, ok := w.recent[target]; ok {
			place = p
		} else if err := w.eachStored(ctx, []metering.Key{target}, func(_ metering.Key, p int64) { place = p }); err != nil {
			return err
		}
		if place == nil {
			w.waiting++
		}
		if _, err := w.exec(ctx, `INSERT INTO voids (place, target_key, target) VALUES ($1, $2, $3)`, a.first[v.Key].place, target[:], place); err != nil {
			return err
		}
	}
	return nil
}

func (a *appending) arrived(ctx context.Context, added []metering.Key) error {
	w := a.w
	var hits []metering.Key
	for chunk := range slices.Chunk(added, asked) {
		rows, err := w.query(ctx, askVoids, keyArgs(chunk)...)
		if err != nil {
			return err
		}
		for rows.Next() {
			var key sql.RawBytes
			if err := rows.Scan(&key); err != nil {
				return errors.Join(err, rows.Close())
			}
			hits = append(hits, toKey(key))
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
	}
	for _, k := range hits {
		r, err := w.exec(ctx, `UPDATE voids SET target = $1 WHERE target IS NULL AND target_key = $2`, a.first[k].place, k[:])
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		if err != nil {
			return err
		}
		w.waiting -= n
	}
	return nil
}

// merge moves the recent keys into the sorted table once there are enough of them.
// A key that is there already fails the block: then the store has counted it twice.
func (a *appending) merge(ctx context.Context) error {
	if len(a.w.recent) < a.w.mergeAt {
		return nil
	}
	if _, err := a.w.exec(ctx, `INSERT INTO keys (event_key, place) SELECT event_key, place FROM keys_recent ORDER BY event_key`); err != nil {
		return fmt.Errorf("move recent keys: %w", err)
	}
	if _, err := a.w.exec(ctx, `DELETE FROM keys_recent`); err != nil {
		return err
	}
	a.w.recent = map[metering.Key]int64{}
	return nil
}

const (
	findCell = `SELECT id FROM cells WHERE app = $1 AND customer = $2 AND type = $3 AND class = $4 AND operation = $5 AND unit = $6 AND currency = $7 AND status = $8 AND environment = $9 AND dimensions = $10`
	addCell  = `INSERT INTO cells (app, customer, type, class, operation, unit, currency, status, environment, dimensions) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id`
)

// cell is the number of a cell, which is stored if it is new.
func (w *writer) cell(ctx context.Context, c cell) (int64, error) {
	if id, ok := w.cells[c]; ok {
		return id, nil
	}
	id, err := w.number(ctx, c.args(), findCell, addCell)
	if err != nil {
		return 0, err
	}
	if len(w.cells) >= maxCachedCells {
		clear(w.cells)
	}
	w.cells[c] = id
	return id, nil
}

// maxCachedSources bounds the sources whose numbers are kept in memory.
const maxCachedSources = 1 << 12

func (w *writer) source(ctx context.Context, name string) (int64, error) {
	if id, ok := w.sources[name]; ok {
		return id, nil
	}
	id, err := w.number(ctx, []any{name}, `SELECT id FROM sources WHERE name = $1`, `INSERT INTO sources (name) VALUES ($1) RETURNING id`)
	if err != nil {
		return 0, err
	}
	if len(w.sources) >= maxCachedSources {
		clear(w.sources)
	}
	w.sources[name] = id
	return id, nil
}

func (w *writer) number(ctx context.Context, args []any, find, insert string) (id int64, err error) {
	if err = w.queryRow(ctx, find, args, &id); errors.Is(err, sql.ErrNoRows) {
		err = w.queryRow(ctx, insert, args, &id)
	}
	return id, err
}

// batch gathers rows so that one statement inserts many.
type batch struct {
	columns int
	queries [len(batchSizes)]string
	args    []any
}

// batchSizes are the numbers of rows that statements are prepared for.
var batchSizes = [...]int{64, 8, 1}

// batchOf gathers rows for a table; the names of its columns stand in brackets.
func batchOf(table string, columns int) batch {
	b := batch{columns: columns}
	row := "(?" + strings.Repeat(",?", columns-1) + ")"
	for i, n := range batchSizes {
		b.queries[i] = "INSERT INTO " + table + " VALUES " + row + strings.Repeat(","+row, n-1)
	}
	return b
}

// flush inserts the rows once there are enough of them, or all of them.
func (b *batch) flush(ctx context.Context, w *writer, all bool) error {
	if !all && len(b.args) < batchSizes[0]*b.columns {
		return nil
	}
	rest := b.args
	for i, n := range batchSizes {
		for ; len(rest) >= n*b.columns; rest = rest[n*b.columns:] {
			if _, err := w.exec(ctx, b.queries[i], rest[:n*b.columns]...); err != nil {
				return err
			}
		}
	}
	b.args = b.args[:0]
	return nil
}
