package keyfilter

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
)

const (
	bitsPerKey = 16
	blockBits  = 512 // a cache line
	blockKeys  = blockBits / bitsPerKey

	// MaxOf is how many bytes the name of a segment's owner may have.
	MaxOf = 255
)

// block takes the bits of a key: one in each word, so that a lookup costs one line
// of memory and no branch.
type block [8]uint64

// Segment is the keys of an unbroken range of markers. It never changes.
type Segment struct {
	of          string
	after, last uint64
	keys        uint64
	blocks      []block // see allocate
}

func newSegment(of string, after, capacity uint64) *Segment {
	s := &Segment{of: of, after: after, last: after}
	s.allocate(max(1, int((capacity+blockKeys-1)/blockKeys)))
	return s
}

func (s *Segment) clone() *Segment {
	c := *s
	c.allocate(len(s.blocks))
	copy(c.blocks, s.blocks)
	runtime.KeepAlive(s)
	return &c
}

// Of says whose keys these are.
func (s *Segment) Of() string { return s.of }

// After is the marker behind which the segment begins.
func (s *Segment) After() uint64 { return s.after }

// Last is the marker of the last keys.
func (s *Segment) Last() uint64 { return s.last }

// Keys is how many keys were added.
func (s *Segment) Keys() uint64 { return s.keys }

// Bytes is how much memory the segment takes.
func (s *Segment) Bytes() int64 { return int64(len(s.blocks)) * blockBits / 8 }

// capacity is how many keys fit before more than about one in a thousand strange keys
// is taken for a known one, one in three hundred if the segment was spread.
func (s *Segment) capacity() uint64 { return uint64(len(s.blocks)) * blockKeys }

// spreadable is how many keys the segment may hold and still be spread: those of a
// block then count in several.
func (s *Segment) spreadable() uint64 { return s.capacity() / 8 * 3 }

// spread is the segment with so many blocks for each one. The keys of a block lie in
// any of these, so each begins with all their bits.
func (s *Segment) spread(factor uint64) *Segment {
	wide := *s
	wide.allocate(len(s.blocks) * int(factor))
	for i := range wide.blocks {
		wide.blocks[i] = s.blocks[uint64(i)/factor]
	}
	runtime.KeepAlive(s)
	return &wide
}

// place is the block of a key, by the first half, and its bits there, by the second.
// The block comes from the highest bits: the partition of a key comes from the
// lowest ones of that half.
func (s *Segment) place(k *Key) (*block, uint64) {
	i, _ := bits.Mul64(binary.BigEndian.Uint64(k[:8]), uint64(len(s.blocks)))
	return &s.blocks[i], binary.BigEndian.Uint64(k[8:])
}

func (s *Segment) add(k *Key) {
	b, x := s.place(k)
	for i := range b {
		b[i] |= 1 << (x & 63)
		x >>= 6
	}
	runtime.KeepAlive(s)
}

// ahead is how many keys lookup has under way. One processor waits for that many
// lines of memory at a time, and no more.
const ahead = 64

// lookup sets maybe[i] where keys[i] may be in the segment. A first loop reads one
// word of each block and waits for none, so that the second finds them in cache.
func (s *Segment) lookup(keys []Key, maybe []bool) {
	var found [ahead]*block
	var first [ahead]uint64
	for len(keys) > 0 {
		n := min(ahead, len(keys))
		for i := range keys[:n] {
			b, x := s.place(&keys[i])
			found[i], first[i] = b, b[0]>>(x&63)
		}
		for i := range keys[:n] {
			b, x := found[i], binary.BigEndian.Uint64(keys[i][8:])
			hit := first[i] & (b[1] >> (x >> 6 & 63)) & (b[2] >> (x >> 12 & 63)) & (b[3] >> (x >> 18 & 63)) &
				(b[4] >> (x >> 24 & 63)) & (b[5] >> (x >> 30 & 63)) & (b[6] >> (x >> 36 & 63)) & (b[7] >> (x >> 42 & 63)) & 1
			if hit != 0 {
				maybe[i] = true
			}
		}
		keys, maybe = keys[n:], maybe[n:]
	}
	runtime.KeepAlive(s)
}

// ErrDamaged is the answer to bytes that are no segment as it was written.
var ErrDamaged = errors.New("not a whole segment: delete it, its keys are then read from the key table")

// magic begins a segment; its last byte is the version of the form.
var magic = [8]byte{'m', 'e', 't', 'e', 'k', 'e', 'y', 1}

// headerSize is magic, after, last, keys, blocks and the length of of.
const headerSize = 8 * 6

// AppendBinary appends the segment as it is kept: magic and version, five numbers of
// 64 bits (after, last, keys, blocks, length of the owner's name), the name, the
// blocks, and the SHA-256 of all before it. Numbers are little-endian. It fails if the
// name is longer than [MaxOf].
func (s *Segment) AppendBinary(b []byte) ([]byte, error) {
	if len(s.of) > MaxOf {
		return b, fmt.Errorf("keyfilter: the owner's name has %d bytes, %d are allowed", len(s.of), MaxOf)
	}
	from := len(b)
	b = slices.Grow(b, headerSize+len(s.of)+int(s.Bytes())+sha256.Size)
	b = append(b, magic[:]...)
	for _, n := range [...]uint64{s.after, s.last, s.keys, uint64(len(s.blocks)), uint64(len(s.of))} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	b = append(b, s.of...)
	for i := range s.blocks {
		for _, w := range s.blocks[i] {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
	}
	runtime.KeepAlive(s)
	sum := sha256.Sum256(b[from:])
	return append(b, sum[:]...), nil
}

// Parse reads a segment as AppendBinary wrote it. Any other bytes are refused with
// [ErrDamaged]. It keeps nothing of b.
func Parse(b []byte) (*Segment, error) {
	damaged := func(why string) (*Segment, error) {
		return nil, fmt.Errorf("keyfilter: segment of %d bytes: %s: %w", len(b), why, ErrDamaged)
	}
	if len(b) < headerSize+sha256.Size {
		return damaged("too short")
	}
	if !bytes.Equal(b[:7], magic[:7]) {
		return damaged("it does not begin as one")
	}
	if b[7] != magic[7] {
		return damaged(fmt.Sprintf("form %d, this program reads %d", b[7], magic[7]))
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return damaged("its bytes do not match their checksum")
	}
	number := func(i int) uint64 { return binary.LittleEndian.Uint64(body[8+8*i:]) }
	s := &Segment{after: number(0), last: number(1), keys: number(2)}
	blocks, name := number(3), number(4)
	rest := uint64(len(body) - headerSize)
	if name > MaxOf || name > rest || blocks == 0 || blocks > rest/(blockBits/8) || name+blocks*blockBits/8 != rest {
		return damaged("its length is not the one it names")
	}
	if s.last <= s.after || s.keys > blocks*blockKeys {
		return damaged("its numbers contradict each other")
	}
	s.of = string(body[headerSize : headerSize+name])
	words := body[headerSize+name:]
	s.allocate(int(blocks))
	for i := range s.blocks {
		for j := range s.blocks[i] {
			s.blocks[i][j] = binary.LittleEndian.Uint64(words)
			words = words[8:]
		}
	}
	return s, nil
}
