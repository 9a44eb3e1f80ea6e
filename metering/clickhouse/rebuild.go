package clickhouse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"mete/internal/failpoint"
	"mete/metering"
)

// newTable is there while a store is filled anew.
const newTable = "being_filled"

// ErrInUse says that a store which is to be filled anew has something already.
var ErrInUse = errors.New("this store is in use")

// begun refuses a store that is being filled anew, unless it was opened for that; one that
// was is refused if it has something that was not begun so.
func (s *Store) begun(ctx context.Context) error {
	there := false
	if err := s.each(ctx, `SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name IN (`+quote(newTable)+`, `+quote(newTable+localSuffix)+`) LIMIT 1`, func(func(...any) error) error {
		there = true
		return nil
	}); err != nil {
		return err
	}
	switch {
	case there && !s.options.New:
		return errors.New("it is not whole yet: mete rebuild store is filling it, or was and must be run again; wait until that is done, or take another database")
	case there || !s.options.New:
		return nil
	}
	for _, table := range []string{"streams", "epochs", "refusals", "redactions", "day_totals", "heartbeats"} {
		if err := s.each(ctx, `SELECT 1 FROM `+table+` LIMIT 1`, func(func(...any) error) error {
			return fmt.Errorf("it has rows in table %s; a new store needs an empty database of its own: %w", table, ErrInUse)
		}); err != nil {
			return err
		}
	}
	w := words(s.options.Cluster)
	create, engine := w["create"].(func(string) string), w["engine"].(func() string)
	return s.conn.Exec(ctx, create(newTable)+` (at DateTime) ENGINE = `+engine()+` ORDER BY at`)
}

// Rebuilt makes a store that was opened as new one that can be used, and closes it.
func (s *Store) Rebuilt(ctx context.Context) error {
	if err := s.keepFilters(ctx); err != nil {
		return fmt.Errorf("the new metering store: %w", err)
	}
	name, on := newTable, ""
	if cluster := s.options.Cluster; cluster != "" {
		name, on = name+localSuffix, " ON CLUSTER "+quote(cluster)
	}
	if err := s.conn.Exec(ctx, `DROP TABLE IF EXISTS `+name+on+` SYNC`); err != nil {
		return fmt.Errorf("the new metering store: %w", err)
	}
	return s.Close()
}

// keepFilters keeps what the filters know that were made while the store was filled.
func (s *Store) keepFilters(ctx context.Context) error {
	s.mu.Lock()
	lanes := s.lanes
	s.mu.Unlock()
	for p, l := range lanes {
		if s.keep(ctx, l.filter, p, 1); l.filter != nil && l.filter.failed != nil {
			return l.filter.failed
		}
	}
	return nil
}

// keysFixed is a step of making keys anew at which a crash is tried.
const keysFixed failpoint.Point = "rebuild.keys-inserted"

// Bounds of making keys anew.
const (
	rebuiltTogether = 1 << 18 // keys in memory, some 60 MB
	maxWrongKeys    = 1 << 10 // that are deleted one by one; if there are more, all are
	keyPasses       = 3       // what is missing is inserted; so is what was deleted because it was wrong; all are right
)

// RebuildKeys makes the keys of all stored events anew, and the segments of the key
// filter, see [metering.KeyRebuilder].
//
// Keys that are right stay. Those that are missing are inserted, those that are of no row,
// or not what it says, are deleted: so at no moment an event has no key that had one, but
// for those that were wrong. It fails if the store was filled meanwhile.
func (s *Store) RebuildKeys(ctx context.Context, progress func(done, of int64)) (metering.RebuiltKeys, error) {
	k, err := s.rebuildKeys(ctx, progress)
	if err != nil {
		return metering.RebuiltKeys{}, fmt.Errorf("make the keys anew: no event has changed: %w", err)
	}
	return k, nil
}

func (s *Store) rebuildKeys(ctx context.Context, progress func(done, of int64)) (metering.RebuiltKeys, error) {
	r := keysRebuild{store: s, ctx: ctx, progress: progress}
	st, err := s.attached(ctx)
	if err != nil || st == nil {
		return r.came, err
	}
	for p := range st.partitions { // nothing is stored by this process meanwhile
		l, err := s.lane(ctx, p)
		if err != nil {
			return r.came, err
		}
		defer func() {
			l.filter = nil // made anew, from new segments
			l.turn <- struct{}{}
		}()
	}
	if r.chain, err = s.chain(ctx, allPartitions); err != nil {
		return r.came, err
	}
	if err := r.run(); err != nil {
		return r.came, err
	}
	now, err := s.chain(ctx, allPartitions)
	if err != nil {
		return r.came, err
	}
	for p := range st.partitions {
		if now.newest(p) != r.chain.newest(p) || now.position(p) != r.chain.position(p) {
			return r.came, fmt.Errorf("partition %d was filled meanwhile, from %d to %d: stop whoever fills the store, and do it again", p, r.chain.position(p), now.position(p))
		}
	}
	return r.came, s.remakeFilters(ctx, st, now)
}

// remakeFilters makes the segments of all partitions anew: nothing is lost with the old
// ones.
func (s *Store) remakeFilters(ctx context.Context, st *stream, c *chain) error {
	name, on := "key_segments", ""
	if cluster := s.options.Cluster; cluster != "" {
		name, on = name+localSuffix, " ON CLUSTER "+quote(cluster)
	}
	if err := s.conn.Exec(ctx, `TRUNCATE TABLE `+name+on); err != nil {
		return fmt.Errorf("drop the segments of the key filter: %w", orEnded(ctx, err))
	}
	for p := range st.partitions {
		f, err := s.openFilter(ctx, st, c, p)
		if err != nil {
			return err
		}
		if s.keep(ctx, f, p, 1); f.failed != nil {
			return f.failed
		}
	}
	return nil
}

// keysRebuild is making keys anew, once.
type keysRebuild struct {
	store    *Store
	ctx      context.Context // of this once
	progress func(done, of int64)
	chain    *chain
	within   string // condition: a row counts
	came     metering.RebuiltKeys

	keys  int64   // that count, of the last pass
	wrong []place // of keys to be deleted; not all of them if there are more than maxWrongKeys
}

// keyRow is a row of table keys.
type keyRow struct {
	place
	key       metering.Key
	hash      shortHash
	kind, app string
	occurred  time.Time
}

func (r *keysRebuild) run() error {
	all, err := r.chain.upTo(nil)
	if err != nil {
		return err
	}
	r.within = all.within("")
	if err := r.storedTwice(); err != nil {
		return err
	}
	var before metering.RebuiltKeys
	for pass := 1; ; pass++ { // the last one finds that all are right
		if err := r.pass(); err != nil {
			return err
		}
		if pass == 1 {
			before = metering.RebuiltKeys{Right: r.came.Right, Added: r.came.Rows - r.came.Right, Removed: r.keys - r.came.Right}
		}
		if r.came.Right == r.came.Rows && r.keys == r.came.Rows {
			r.came.Right, r.came.Added, r.came.Removed = before.Right, before.Added, before.Removed
			return nil
		}
		if pass == keyPasses {
			return fmt.Errorf("of %d events %d have their key now, of %d keys: is somebody filling the store? Do it again", r.came.Rows, r.came.Right, r.keys)
		}
		if len(r.wrong) > 0 {
			if err := r.drop(); err != nil {
				return err
			}
		}
	}
}

// storedTwice names keys under which several events are stored.
func (r *keysRebuild) storedTwice() error {
	return r.store.each(r.ctx, `SELECT event_key, any(epoch), min(sequence), max(sequence) FROM events WHERE `+r.within+` GROUP BY event_key HAVING count() > 1 LIMIT 1`, func(scan func(...any) error) error {
		var key metering.Key
		var e, first, last uint64
		if err := scan(&key, &e, &first, &last); err != nil {
			return err
		}
		return fmt.Errorf("key %s, in messages %d and %d of partition %d: fill a new store, mete rebuild store --from stream: %w",
			key, first, last, epoch(e).partition(), metering.ErrKeyTwice)
	})
}

// pass goes through all keys and rows, inserts what is missing and notes what is wrong.
// What it inserts is right in the next pass.
func (r *keysRebuild) pass() error {
	r.wrong, r.keys, r.came.Rows, r.came.Right = nil, 0, 0, 0
	of := int64(0)
	if err := r.store.each(r.ctx, `SELECT toInt64(sum(stored)) FROM messages WHERE `+r.within, func(scan func(...any) error) error { return scan(&of) }); err != nil {
		return err
	}
	sent, err := r.store.sentHashes(r.ctx)
	if err != nil {
		return err
	}
	for p, part := range r.chain.parts {
		windows, err := r.windows(p, part.position)
		if err != nil {
			return err
		}
		after := uint64(0)
		for _, last := range windows {
			where := fmt.Sprintf(` WHERE bitAnd(epoch, %d) = %d AND sequence > %d AND sequence <= %d AND %s`, maxPartitions-1, p, after, last, r.within)
			if err := r.window(where, sent); err != nil {
				return err
			}
			r.progress(r.came.Rows, of)
			after = last
		}
	}
	return nil
}

// windows are last sequences between which there are so many events as are looked at
// together.
func (r *keysRebuild) windows(partition int, position uint64) ([]uint64, error) {
	var windows []uint64
	keys := uint64(0)
	err := r.store.each(r.ctx, fmt.Sprintf(`SELECT sequence, stored FROM messages WHERE bitAnd(epoch, %d) = %d AND %s ORDER BY sequence`, maxPartitions-1, partition, r.within), func(scan func(...any) error) error {
		var sequence uint64
		var stored uint32
		err := scan(&sequence, &stored)
		if keys += uint64(stored); keys >= rebuiltTogether {
			windows, keys = append(windows, sequence), 0
		}
		return err
	})
	if position > 0 && (len(windows) == 0 || windows[len(windows)-1] != position) {
		windows = append(windows, position)
	}
	return windows, err
}

// window does that for the rows that a condition names.
func (r *keysRebuild) window(where string, sent func(*metering.Accepted)) error {
	want := map[place]keyRow{}
	if err := r.store.each(r.ctx, `SELECT `+eventNames+`, epoch AS of FROM events`+where, func(scan func(...any) error) error {
		var of uint64
		a, err := scanEvent(func(into ...any) error { return scan(append(into, &of)...) })
		if err != nil {
			return err
		}
		sent(&a)
		at := place{of, a.Position.Sequence, uint32(a.Position.Index)}
		want[at] = keyRow{at, a.Key, short(a.Hash), a.Type, string(a.Data.App), a.Time}
		return nil
	}); err != nil {
		return err
	}
	r.came.Rows += int64(len(want))
	missing, seen, wrong := maps.Clone(want), map[place]bool{}, map[place]bool{}
	if err := r.store.each(r.ctx, `SELECT epoch, sequence, idx, event_key, content_hash, type, app, occurred_at FROM keys`+where, func(scan func(...any) error) error {
		var k keyRow
		if err := scan(&k.epoch, &k.sequence, &k.index, &k.key, &k.hash, &k.kind, &k.app, &k.occurred); err != nil {
			return err
		}
		w, is := want[k.place]
		is = is && w.key == k.key && w.hash == k.hash && w.kind == k.kind && w.app == k.app && w.occurred.Equal(k.occurred)
		if !is || seen[k.place] {
			wrong[k.place] = true
		}
		r.keys++
		seen[k.place] = true
		delete(missing, k.place)
		return nil
	}); err != nil {
		return err
	}
	for at := range wrong {
		if len(r.wrong) <= maxWrongKeys {
			r.wrong = append(r.wrong, at)
		}
	}
	r.came.Right += int64(len(want) - len(missing) - countIn(wrong, want))
	return r.insert(missing)
}

// countIn is how many of the places are among the rows.
func countIn(places map[place]bool, rows map[place]keyRow) int {
	n := 0
	for at := range places {
		if _, is := rows[at]; is {
			n++
		}
	}
	return n
}

// insert inserts keys that are missing.
func (r *keysRebuild) insert(missing map[place]keyRow) error {
	rows := make([]keyRow, 0, len(missing))
	for _, row := range missing {
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b keyRow) int { return a.key.Compare(b.key) })
	for part := range slices.Chunk(rows, r.store.options.MaxRows) {
		if err := r.store.insert(r.ctx, "keys", "", []column{
			{"epoch", "UInt64", values(part, func(k keyRow) uint64 { return k.epoch })},
			{"sequence", "UInt64", values(part, func(k keyRow) uint64 { return k.sequence })},
			{"idx", "UInt32", values(part, func(k keyRow) uint32 { return k.index })},
			{"event_key", keyType, values(part, func(k keyRow) []byte { return k.key[:] })},
			{"content_hash", keyType, values(part, func(k keyRow) []byte { return k.hash[:] })},
			{"type", textType, values(part, func(k keyRow) string { return k.kind })},
			{"app", textType, values(part, func(k keyRow) string { return k.app })},
			{"occurred_at", instantType, values(part, func(k keyRow) time.Time { return k.occurred })},
		}); err != nil {
			return err
		}
		if err := keysFixed.Hit(); err != nil {
			return err
		}
	}
	return nil
}

// drop deletes keys that are wrong; where there are many, all that count.
func (r *keysRebuild) drop() error {
	what := "DELETE WHERE " + r.within
	if len(r.wrong) <= maxWrongKeys {
		slices.SortFunc(r.wrong, func(a, b place) int {
			return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.sequence, b.sequence), cmp.Compare(a.index, b.index))
		})
		places := values(r.wrong, func(p place) string {
			return "(" + strconv.FormatUint(p.epoch, 10) + ", " + strconv.FormatUint(p.sequence, 10) + ", " + strconv.FormatUint(uint64(p.index), 10) + ")"
		})
		what = "DELETE WHERE (epoch, sequence, idx) IN (" + strings.Join(places, ", ") + ")"
	}
	if err := r.store.conn.Exec(r.ctx, alteration(r.store.options.Cluster, "keys", what)); err != nil {
		return fmt.Errorf("delete wrong keys: %w", orEnded(r.ctx, err))
	}
	return nil
}
