package clickhouse

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"mete/internal/keyfilter"
	"mete/metering"
)

const (
	// keepEvery is how many keys are stored before what the filter knows of them is
	// kept: a new owner reads so many from table events, some seconds.
	keepEvery = 4 << 20

	// keepAtClose is how many are worth it when the store is closed.
	keepAtClose = 1 << 18

	pieceSize   = 1 << 20 // bytes of a row of table key_segments
	windowKeys  = 1 << 21 // that are read from table events at a time
	maxSegments = 1 << 12 // of one partition
)

// filter knows which keys of a partition are not stored. It is made when the partition
// is taken over, from segments that any owner before has kept and from the events
// behind them.
type filter struct {
	*keyfilter.Filter
	kept     uint64 // marker up to which it is kept
	keptKeys uint64
	failed   error // why the last segment is not kept
}

// ownerOf names the keys of a partition: what another stream has kept is refused.
func ownerOf(st *stream, partition int) string {
	sum := sha256.Sum256([]byte(st.name))
	return fmt.Sprintf("%s/%d of %d", hex.EncodeToString(sum[:16]), partition, st.partitions)
}

// openFilter makes the filter of a partition up to its position in the chain.
func (s *Store) openFilter(ctx context.Context, st *stream, c *chain, partition int) (*filter, error) {
	position := c.position(partition)
	o := keyfilter.Options{Of: ownerOf(st, partition), Cap: max(1, s.options.FilterBytes/int64(st.partitions))}
	segments, err := s.segments(ctx, o, partition, position)
	if err != nil {
		return nil, fmt.Errorf("read the key filter of partition %d: %w", partition, err)
	}
	f := &filter{}
	if f.Filter, err = keyfilter.Open(o, position, segments); err != nil {
		return nil, err
	}
	f.kept, f.keptKeys = f.Through(), f.Keys()
	if err := s.addStored(ctx, f, c, partition); err != nil {
		return nil, fmt.Errorf("fill the key filter of partition %d from the events behind %d: %w", partition, f.Through(), err)
	}
	return f, nil
}

// segments reads the newest kept segments that fit the filter and lie up to a position.
// A damaged or half-written one is left out: its keys are then read from the events.
func (s *Store) segments(ctx context.Context, o keyfilter.Options, partition int, position uint64) ([]*keyfilter.Segment, error) {
	type kept struct{ after, last, size uint64 }
	var all []kept
	if err := s.each(ctx, fmt.Sprintf(`
		SELECT starts_after, max(last), argMax(size, last) FROM (
			SELECT starts_after, last, sum(length(bytes)) AS size FROM key_segments
			 WHERE partition = %d AND last <= %d GROUP BY starts_after, last HAVING count(DISTINCT piece) = any(pieces))
		 GROUP BY starts_after ORDER BY max(last) DESC LIMIT %d`, partition, position, maxSegments), func(scan func(...any) error) error {
		var k kept
		err := scan(&k.after, &k.last, &k.size)
		all = append(all, k)
		return err
	}); err != nil {
		return nil, err
	}
	var segments []*keyfilter.Segment
	size := uint64(0)
	for _, k := range all {
		if size += k.size; len(segments) > 0 && size > uint64(o.Cap) {
			break
		}
		text := make([]byte, 0, k.size)
		if err := s.each(ctx, fmt.Sprintf(`SELECT bytes FROM key_segments WHERE partition = %d AND starts_after = %d AND last = %d ORDER BY piece LIMIT 1 BY piece`,
			partition, k.after, k.last), func(scan func(...any) error) error {
			var piece string
			err := scan(&piece)
			text = append(text, piece...)
			return err
		}); err != nil {
			return nil, err
		}
		segment, err := keyfilter.Parse(text)
		if err != nil || segment.Of() != o.Of {
			continue
		}
		segments = append(segments, segment)
	}
	return segments, nil
}

// addStored gives the filter the keys behind what it knows, up to the position.
func (s *Store) addStored(ctx context.Context, f *filter, c *chain, partition int) error {
	position := c.position(partition)
	if f.Through() >= position {
		return nil
	}
	all, err := c.upTo(nil)
	if err != nil {
		return err
	}
	behind := fmt.Sprintf(` WHERE sequence > %d AND bitAnd(epoch, %d) = %d AND %s`, f.Through(), maxPartitions-1, partition, all.within(""))
	var windows []uint64 // last sequences
	keys := uint64(0)
	if err := s.each(ctx, `SELECT sequence, stored FROM messages`+behind+` ORDER BY sequence`, func(scan func(...any) error) error {
		var sequence uint64
		var stored uint32
		if err := scan(&sequence, &stored); err != nil {
			return err
		}
		if keys += uint64(stored); keys >= windowKeys {
			windows, keys = append(windows, sequence), 0
		}
		return nil
	}); err != nil {
		return err
	}
	if len(windows) == 0 || windows[len(windows)-1] != position {
		windows = append(windows, position)
	}
	for _, last := range windows {
		var keys []metering.Key
		if err := s.each(ctx, `SELECT event_key FROM events`+behind+fmt.Sprintf(` AND sequence > %d AND sequence <= %d`, f.Through(), last), func(scan func(...any) error) error {
			var k metering.Key
			err := scan(&k)
			keys = append(keys, k)
			return err
		}); err != nil {
			return err
		}
		if err := f.Add(last, plain(keys)); err != nil {
			return err
		}
	}
	return nil
}

// plain is the keys as the filter takes them.
func plain(keys []metering.Key) []keyfilter.Key {
	return values(keys, func(k metering.Key) keyfilter.Key { return k })
}

// keep writes down what the filter knows, if that is so many keys more than before. It
// is not a failure of the block that was stored just before: without it, a new owner
// reads more events.
func (s *Store) keep(ctx context.Context, f *filter, partition int, keys uint64) {
	if f == nil || f.Keys() < f.keptKeys+keys {
		return
	}
	segments := f.Frozen()
	if tail := f.Tail(); tail != nil {
		segments = append(segments, tail)
	}
	for _, segment := range segments {
		if segment.Last() <= f.kept {
			continue
		}
		if f.failed = s.keepSegment(ctx, segment, partition); f.failed != nil {
			f.failed = fmt.Errorf("keep the key filter of partition %d, up to %d: %w", partition, segment.Last(), f.failed)
			break
		}
		f.kept = segment.Last()
	}
	f.keptKeys = f.Keys() // the next try comes after as many again
}

func (s *Store) keepSegment(ctx context.Context, segment *keyfilter.Segment, partition int) error {
	text, err := segment.AppendBinary(nil)
	if err != nil {
		return err
	}
	pieces := slices.Collect(slices.Chunk(text, pieceSize))
	n := 0
	for part := range slices.Chunk(pieces, 1<<2) { // 4 MiB at a time: each is in memory several times
		first := n
		n += len(part)
		if err := s.insert(ctx, "key_segments", "", []column{
			{"partition", "UInt16", values(part, func([]byte) uint16 { return uint16(partition) })},
			{"starts_after", "UInt64", values(part, func([]byte) uint64 { return segment.After() })},
			{"last", "UInt64", values(part, func([]byte) uint64 { return segment.Last() })},
			{"piece", "UInt16", numbers(first, len(part))},
			{"pieces", "UInt16", values(part, func([]byte) uint16 { return uint16(len(pieces)) })},
			{"bytes", textType, part},
		}); err != nil {
			return err
		}
	}
	return nil
}

func numbers(first, n int) []uint16 {
	ns := make([]uint16, n)
	for i := range ns {
		ns[i] = uint16(first + i)
	}
	return ns
}
