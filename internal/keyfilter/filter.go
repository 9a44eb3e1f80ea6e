// Package keyfilter remembers 128-bit keys in about two bytes each, so that a
// store need not ask its key table for events that it has never seen.
//
// It answers "maybe" or "never", and "never" is always true: a wrong one would
// count an event twice. It knows markers, which are positions in a log that only
// grows, and refuses to know events, tables and files: the caller gives bytes and
// keeps bytes. Keys have to be uniform, as parts of a SHA-256 are; they are not
// hashed again. Read [Filter] first, then [Open].
package keyfilter

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

// Key is what is remembered. It is an alias, so that keys of any such type go in
// without a conversion.
type Key = [16]byte

// Bounds of a filter.
const (
	DefaultCap = 1 << 30 // bytes of a filter, half a billion keys

	firstCapacity = 8 << 20  // keys that the first segment has room for at first
	fullCapacity  = 32 << 20 // keys of a segment: few segments make cheap lookups
	leastCapacity = 32 << 10 // keys of a segment under the smallest cap
	segmentsOfCap = 4        // a segment takes at most this part of the cap: no more is forgotten at once
)

// Options of a filter.
type Options struct {
	// Of says whose keys these are, such as the stream and the partition, in at most
	// [MaxOf] bytes. It is written into every segment, and a segment of somebody else
	// is refused.
	Of string

	// Cap is how many bytes the filter may take, 0 for [DefaultCap]. The segment that
	// is being filled stays whatever the cap.
	Cap int64

	// After is the marker behind which a filter without segments begins: keys at or
	// before it may be stored, and are not known.
	After uint64
}

// Filter remembers the keys of one partition. It is a row of segments, each a
// blocked Bloom filter: the last one is open and takes new keys, the others are
// frozen for ever. A first segment begins small and is spread once it fills. The filter knows every key whose marker lies behind After and at
// or before Through.
//
// Over its cap it forgets the oldest frozen segment, and After moves up.
//
// All methods may be called at the same time. What Add was given is found by every
// MaybeStored that begins after Add has returned.
type Filter struct {
	of  string
	cap int64

	mu      sync.RWMutex
	frozen  []*Segment // oldest first
	open    *Segment   // nil until a key comes
	after   uint64
	through uint64
}

// New is an empty filter.
func New(o Options) *Filter {
	if o.Cap <= 0 {
		o.Cap = DefaultCap
	}
	return &Filter{of: o.Of, cap: o.Cap, after: o.After, through: o.After}
}

// Open is a filter of kept segments, in any order: the longest unbroken row of them
// that ends with the newest. A segment that reaches beyond upTo, the position of the
// store, is left out: its last keys may not be stored. So is what lies before a gap.
//
// The caller then adds the keys of markers behind Through up to that position, read
// from the table, before the first lookup. Without a usable segment Through is
// o.After.
func Open(o Options, upTo uint64, segments []*Segment) (*Filter, error) {
	f := New(o)
	var usable []*Segment
	for _, s := range segments {
		if s.of != f.of {
			return nil, fmt.Errorf("keyfilter: segment (%d, %d] holds the keys of %q, not of %q: do not mix the segments of two partitions", s.after, s.last, s.of, f.of)
		}
		if s.last <= upTo {
			usable = append(usable, s)
		}
	}
	if len(usable) == 0 {
		return f, nil
	}
	f.frozen = unbroken(usable)
	newest := f.frozen[len(f.frozen)-1]
	f.after, f.through = f.frozen[0].after, newest.last
	if newest.keys < newest.capacity() {
		f.frozen, f.open = f.frozen[:len(f.frozen)-1], newest.clone()
	}
	f.forget()
	return f, nil
}

// unbroken is the row of segments that ends with the newest one and reaches back
// farthest without a gap, oldest first. Segments of two owners may overlap.
func unbroken(segments []*Segment) []*Segment {
	// newest, and of these the one that begins first
	row := []*Segment{slices.MaxFunc(segments, func(a, b *Segment) int {
		if a.last != b.last {
			return cmp.Compare(a.last, b.last)
		}
		return cmp.Compare(b.after, a.after)
	})}
	for {
		var next *Segment
		begin := row[len(row)-1].after
		for _, s := range segments {
			if s.after < begin && begin <= s.last && (next == nil || s.after < next.after) {
				next = s
			}
		}
		if next == nil {
			slices.Reverse(row)
			return row
		}
		row = append(row, next)
	}
}

// Add remembers keys that are stored, or are about to be, at one marker. Markers
// only grow. All keys of a marker come in one call, which may hold those of several
// markers under the last of them: a segment ends between two calls, never inside.
//
// Keys must be added before a lookup may miss them. Added too early costs a question
// to the table; added too late counts an event twice.
func (f *Filter) Add(marker uint64, keys []Key) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if marker <= f.through {
		return fmt.Errorf("keyfilter: keys at %d come behind %d: open the filter again at the position of the store", marker, f.through)
	}
	f.makeRoom(uint64(len(keys)))
	for i := range keys {
		f.open.add(&keys[i])
	}
	f.open.keys += uint64(len(keys))
	f.open.last, f.through = marker, marker
	f.forget()
	return nil
}

// makeRoom spreads the open segment, or freezes it and opens another one, if so many
// keys do not fit.
func (f *Filter) makeRoom(keys uint64) {
	full := min(fullCapacity, max(leastCapacity, uint64(f.cap)/segmentsOfCap*8/bitsPerKey))
	after, first := f.through, f.open == nil && len(f.frozen) == 0
	if s := f.open; s != nil {
		if s.keys <= s.spreadable() && s.keys+keys > s.spreadable() && full >= 2*s.capacity() {
			s = s.spread(full / s.capacity())
			f.open = s
		}
		if keys <= s.capacity()-s.keys {
			return
		}
		if s.keys > 0 {
			f.frozen = append(f.frozen, s)
		} else {
			after = s.after
		}
	}
	if first && keys <= firstCapacity/2 {
		full = min(full, firstCapacity)
	}
	f.open = newSegment(f.of, after, max(full, keys))
}

// forget drops the oldest frozen segments until the filter keeps its cap.
func (f *Filter) forget() {
	n, size := 0, f.bytes()
	for n < len(f.frozen) && size > f.cap {
		size -= f.frozen[n].Bytes()
		f.after = max(f.after, f.frozen[n].last)
		n++
	}
	f.frozen = slices.Delete(f.frozen, 0, n)
}

// MaybeStored sets maybe[i] to whether keys[i] may be stored. A key that it sets to
// false is not stored at a marker behind after; whether it is stored at or before
// after, the table must be asked. After 0, nothing is left to ask: every key is
// known.
//
// It allocates nothing. Many keys in one call are cheaper than many calls.
func (f *Filter) MaybeStored(keys []Key, maybe []bool) (after uint64) {
	maybe = maybe[:len(keys)]
	clear(maybe)
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, s := range f.frozen {
		s.lookup(keys, maybe)
	}
	if f.open != nil {
		f.open.lookup(keys, maybe)
	}
	return f.after
}

// Frozen is the segments that never change again and are in memory, oldest first:
// what the caller keeps, once each. A segment is named by After and Last.
func (f *Filter) Frozen() []*Segment {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return slices.Clone(f.frozen)
}

// Tail is a copy of the segment that is being filled, nil if it holds no key. Kept
// at the end of a run or now and then, it shortens what has to be read from the table
// at the next one. It may be deleted once a segment with the same After and a later
// Last is kept.
func (f *Filter) Tail() *Segment {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.open == nil || f.open.keys == 0 {
		return nil
	}
	return f.open.clone()
}

// After is the marker behind which every key is known, see [Filter.MaybeStored].
func (f *Filter) After() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.after
}

// Through is the marker up to which keys were added.
func (f *Filter) Through() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.through
}

// Keys is how many keys are remembered. A key added twice counts twice.
func (f *Filter) Keys() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var n uint64
	for _, s := range f.frozen {
		n += s.keys
	}
	if f.open != nil {
		n += f.open.keys
	}
	return n
}

// Bytes is how much memory the filter takes.
func (f *Filter) Bytes() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.bytes()
}

func (f *Filter) bytes() int64 {
	var n int64
	for _, s := range f.frozen {
		n += s.Bytes()
	}
	if f.open != nil {
		n += f.open.Bytes()
	}
	return n
}
