package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"mete/metering"
)

// epoch is a number under which one owner fills one partition: lease, try, a random
// number and the partition, from the highest bits down. Of two epochs of a partition
// the larger is the newer. Within a lease an owner takes a new one after any failure,
// and the random number keeps two who believe to hold the same lease apart.
type epoch uint64

const (
	partitionBits = 10
	nonceBits     = 18
	tryBits       = 10

	maxPartitions = 1 << partitionBits
	maxTry        = 1<<tryBits - 1
	maxLease      = 1<<(64-tryBits-nonceBits-partitionBits) - 1
)

func makeEpoch(lease, try, nonce uint64, partition int) epoch {
	return epoch(lease<<(tryBits+nonceBits+partitionBits) | try<<(nonceBits+partitionBits) | nonce<<partitionBits | uint64(partition))
}

func (e epoch) lease() uint64  { return uint64(e) >> (tryBits + nonceBits + partitionBits) }
func (e epoch) try() uint64    { return uint64(e) >> (nonceBits + partitionBits) & maxTry }
func (e epoch) partition() int { return int(e & (maxPartitions - 1)) }

// chain says which rows count. Each epoch row names the epoch before it and the
// sequence up to which that one counts; it is written once, before the first row of its
// epoch, by an owner who has read the chain up to there. So the newest epoch of a
// partition fixes all before it: the end of an epoch is where the next one in the chain
// starts, and the end of the newest is its last message. A row counts if its epoch is
// in the chain and its sequence is not above the epoch's end.
//
// A row that lands late, from an owner that was paused or a query that outlived its
// client, is of an epoch that has ended, and lies above its end, or of one that is in no
// chain: it never counts. An epoch row that lands late is either older than the newest,
// and then nobody's previous, or it becomes the newest: then it begins where its owner
// had read the chain, the position goes back to there, and what was stored beyond, by
// an owner that did not know of it, is stored again, the same.
//
// A store that was restored from an older copy may get one more block of an owner that
// was paused meanwhile and whose epoch is still the newest. Messages are then missing
// before it, so the end of the newest epoch is its last message before the first that
// is missing; what lies beyond is stored again under the next epoch.
type chain struct {
	parts map[int]*part
}

// part is the chain of one partition.
type part struct {
	newest   epoch
	position uint64
	last     uint64 // message of the newest epoch; beyond position if some before it are missing
	links    []link // that have rows, newest first
}

// link is one epoch of a chain: its rows with after < sequence <= end count.
type link struct {
	epoch      epoch
	after, end uint64
}

// errChain says that rows of table epochs were lost or altered.
var errChain = errors.New("table epochs is damaged, restore it from a backup")

// allPartitions stands for a partition where every one is meant.
const allPartitions = -1

func (c *chain) position(partition int) uint64 {
	if p := c.parts[partition]; p != nil {
		return p.position
	}
	return 0
}

func (c *chain) newest(partition int) epoch {
	if p := c.parts[partition]; p != nil {
		return p.newest
	}
	return 0
}

// torn reports whether the newest epoch has messages beyond some that are missing.
func (c *chain) torn(partition int) bool {
	p := c.parts[partition]
	return p != nil && p.last > p.position
}

// extend is the chain once its newest epoch, which begins behind after, goes up to last.
func (c *chain) extend(partition int, e epoch, after, last uint64) {
	p := c.parts[partition]
	p.position, p.last = last, last
	if len(p.links) == 0 || p.links[0].epoch != e {
		p.links = append([]link{{epoch: e, after: after}}, p.links...)
	}
	p.links[0].end = last
}

// chain reads the chain of a partition, or of all.
func (s *Store) chain(ctx context.Context, partition int) (*chain, error) {
	return s.readChain(ctx, partition, false)
}

// readChain reads the chain. With over, what lies beyond missing messages counts too,
// as only a check wants it.
func (s *Store) readChain(ctx context.Context, partition int, over bool) (*chain, error) {
	where := ""
	if partition != allPartitions {
		where = ` WHERE partition = ` + strconv.Itoa(partition)
	}
	type row struct{ previous, after uint64 }
	rows := map[epoch]row{}
	c := &chain{parts: map[int]*part{}}
	if err := s.each(ctx, `SELECT epoch, previous, starts_after FROM epochs`+where, func(scan func(...any) error) error {
		var id uint64
		var r row
		if err := scan(&id, &r.previous, &r.after); err != nil {
			return err
		}
		e := epoch(id)
		if known, twice := rows[e]; twice && known != r {
			return fmt.Errorf("epoch %d of partition %d is stored twice, from %d and from %d on: %w", e, e.partition(), known.after, r.after, errChain)
		}
		rows[e] = r
		p := c.parts[e.partition()]
		if p == nil {
			p = &part{}
			c.parts[e.partition()] = p
		}
		p.newest = max(p.newest, e)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the epochs: %w", err)
	}
	if len(c.parts) == 0 {
		return c, nil
	}
	var newest []string
	for _, p := range c.parts {
		newest = append(newest, strconv.FormatUint(uint64(p.newest), 10))
		p.position = rows[p.newest].after
	}
	var torn []*part
	if err := s.each(ctx, `SELECT epoch, max(sequence), count() FROM messages WHERE epoch IN (`+strings.Join(newest, ", ")+`) GROUP BY epoch`, func(scan func(...any) error) error {
		var id, last, n uint64
		if err := scan(&id, &last, &n); err != nil {
			return err
		}
		p := c.parts[epoch(id).partition()]
		if p.last = last; last > p.position+n && !over {
			torn = append(torn, p)
		} else {
			p.position = max(p.position, last)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the last messages: %w", err)
	}
	for _, p := range torn {
		if err := s.untilMissing(ctx, p); err != nil {
			return nil, fmt.Errorf("look for missing messages: %w", err)
		}
	}
	for _, p := range c.parts {
		end := p.position
		for e := p.newest; e != 0; {
			r, known := rows[e]
			if !known || epoch(r.previous) >= e || r.after > end {
				return nil, fmt.Errorf("the chain of partition %d is broken at epoch %d (row there: %t, previous %d, from %d to %d): %w",
					p.newest.partition(), e, known, r.previous, r.after, end, errChain)
			}
			if r.after < end {
				p.links = append(p.links, link{e, r.after, end})
			}
			end, e = r.after, epoch(r.previous)
		}
		if end != 0 {
			return nil, fmt.Errorf("the chain of partition %d begins behind %d: %w", p.newest.partition(), end, errChain)
		}
	}
	return c, nil
}

// untilMissing moves the position of a partition up to the first message that its
// newest epoch lacks.
func (s *Store) untilMissing(ctx context.Context, p *part) error {
	of := ` FROM messages WHERE epoch = ` + strconv.FormatUint(uint64(p.newest), 10)
	return s.each(ctx, `SELECT min(sequence), minIf(sequence, sequence + 1 GLOBAL NOT IN (SELECT sequence`+of+`))`+of, func(scan func(...any) error) error {
		var first, until uint64
		if err := scan(&first, &until); err != nil {
			return err
		}
		if first == p.position+1 {
			p.position = until
		}
		return nil
	})
}

// bounds are the last sequences that count of some epochs; of all others nothing does.
type bounds struct {
	epochs []epoch
	ends   []uint64
	least  uint64 // of ends, and 0 where a partition of the chain is not named
}

// upTo are the bounds of what counts up to a cutoff, nil for all. A cutoff beyond what
// is stored is an error.
func (c *chain) upTo(cutoff metering.Cutoff) (bounds, error) {
	limit, err := limits(cutoff)
	if err != nil {
		return bounds{}, err
	}
	for _, p := range cutoff {
		stored := c.position(p.Partition)
		if p.Incarnation == incarnation && p.Sequence > stored || p.Incarnation > incarnation && p.Sequence > 0 {
			return bounds{}, fmt.Errorf("partition %d is stored up to %d of stream %d, asked is up to %d of stream %d: wait until it is: %w",
				p.Partition, stored, incarnation, p.Sequence, p.Incarnation, metering.ErrBehind)
		}
	}
	var b bounds
	for n, p := range c.parts {
		for _, l := range p.links {
			end := l.end
			if cutoff != nil {
				end = min(end, limit[n])
			}
			if end > l.after {
				b.epochs, b.ends = append(b.epochs, l.epoch), append(b.ends, end)
			}
		}
	}
	return b, nil
}

// after are the bounds of what lies at or before a cutoff, which may be ahead.
func (c *chain) after(cutoff metering.Cutoff) (bounds, error) {
	limit, err := limits(cutoff)
	if err != nil {
		return bounds{}, err
	}
	b := bounds{least: math.MaxUint64}
	for n, p := range c.parts {
		b.least = min(b.least, limit[n])
		for _, l := range p.links {
			b.epochs, b.ends = append(b.epochs, l.epoch), append(b.ends, limit[n])
		}
	}
	return b, nil
}

// limits are the last sequences of a cutoff by partition; one that is not named has 0.
func limits(cutoff metering.Cutoff) (map[int]uint64, error) {
	if len(cutoff) > maxPartitions {
		return nil, fmt.Errorf("cutoff of %d partitions: want at most %d", len(cutoff), maxPartitions)
	}
	limit := map[int]uint64{}
	for _, p := range cutoff {
		if _, twice := limit[p.Partition]; twice {
			return nil, fmt.Errorf("cutoff names partition %d twice", p.Partition)
		}
		switch {
		case p.Incarnation < incarnation: // an earlier stream: nothing of this one
			limit[p.Partition] = 0
		case p.Incarnation > incarnation: // a later one: all of this one
			limit[p.Partition] = math.MaxUint64
		default:
			limit[p.Partition] = p.Sequence
		}
	}
	return limit, nil
}

// of writes the bound of a row's epoch: 0 for an epoch without one.
func (b *bounds) of(table string) string {
	var q strings.Builder
	q.WriteString("transform(" + table + "epoch, CAST([")
	for i, e := range b.epochs {
		if i > 0 {
			q.WriteByte(',')
		}
		q.WriteString(strconv.FormatUint(uint64(e), 10))
	}
	q.WriteString("] AS Array(UInt64)), CAST([")
	for i, end := range b.ends {
		if i > 0 {
			q.WriteByte(',')
		}
		q.WriteString(strconv.FormatUint(end, 10))
	}
	q.WriteString("] AS Array(UInt64)), toUInt64(0))")
	return q.String()
}

// within writes the condition that a row lies within the bounds. Table is empty, or a
// name with its dot.
func (b *bounds) within(table string) string {
	if len(b.epochs) == 0 {
		return "0"
	}
	return table + "sequence <= " + b.of(table)
}

// beyond writes the condition that a row of the chain lies beyond the bounds. The first
// comparison, which follows from the other, is there for the index.
func (b *bounds) beyond(table string) string {
	if len(b.epochs) == 0 {
		return "1"
	}
	return table + "sequence > " + strconv.FormatUint(b.least, 10) + " AND " + table + "sequence > " + b.of(table)
}
