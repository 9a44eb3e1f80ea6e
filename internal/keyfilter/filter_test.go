package keyfilter

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// keyOf is the n-th key: a part of a SHA-256, as the keys of events are.
func keyOf(n uint64) Key {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, n))
	return Key(sum[:16])
}

// keysFrom is n keys from the i-th on.
func keysFrom(i, n int) []Key {
	keys := make([]Key, n)
	for j := range keys {
		keys[j] = keyOf(uint64(i + j))
	}
	return keys
}

// missed is how many of keys the filter says were never stored, and after.
func missed(f *Filter, keys []Key) (int, uint64) {
	maybe := make([]bool, len(keys))
	after := f.MaybeStored(keys, maybe)
	n := 0
	for _, m := range maybe {
		if !m {
			n++
		}
	}
	return n, after
}

// kept is s as it comes back from where the caller keeps it.
func kept(t require, s *Segment) *Segment {
	t.Helper()
	b, err := s.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err = Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type require interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// Whatever is added, frozen, forgotten, kept and opened again at any position: no key
// behind After is ever called strange.
func TestNeverFalse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{Of: "p", Cap: rapid.Int64Range(1, 1<<20).Draw(t, "cap")}
		f := New(o)
		added := map[uint64][]Key{} // by marker
		var marker, next uint64
		var keptSegments []*Segment
		check := func() {
			for m, keys := range added {
				n, after := missed(f, keys)
				if n > 0 && m > after {
					t.Fatalf("%d of %d keys at %d are called strange; known is (%d, %d]", n, len(keys), m, after, f.Through())
				}
			}
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1, 2: // the stream goes on
				marker += rapid.Uint64Range(1, 3).Draw(t, "markers")
				keys := keysFrom(int(next), rapid.IntRange(0, 20_000).Draw(t, "keys"))
				next += uint64(len(keys))
				if err := f.Add(marker, keys); err != nil {
					t.Fatal(err)
				}
				added[marker] = keys
			case 3: // segments are kept
				for _, s := range f.Frozen() {
					keptSegments = append(keptSegments, kept(t, s))
				}
			case 4:
				if s := f.Tail(); s != nil {
					keptSegments = append(keptSegments, kept(t, s))
				}
			case 5: // another process goes on, at this position or at an older one; some segments are lost
				use := slices.DeleteFunc(slices.Clone(keptSegments), func(*Segment) bool { return rapid.IntRange(0, 4).Draw(t, "lost") == 0 })
				upTo := rapid.Uint64Range(0, marker).Draw(t, "position")
				o.Cap = rapid.Int64Range(1, 4<<20).Draw(t, "new cap")
				opened, err := Open(o, upTo, use)
				if err != nil {
					t.Fatal(err)
				}
				f = opened
				if f.Through() > upTo {
					t.Fatalf("opened through %d, the store is at %d", f.Through(), upTo)
				}
				for m := range added {
					if m > upTo { // of another stream than the one that goes on
						delete(added, m)
					}
				}
				marker = upTo
				keptSegments = slices.DeleteFunc(keptSegments, func(s *Segment) bool { return s.last > upTo })
				for m := f.Through() + 1; m <= upTo; m++ {
					if err := f.Add(m, added[m]); err != nil {
						t.Fatal(err)
					}
				}
			}
			check()
		}
	})
}

// A full segment takes about one strange key in a thousand for a known one.
func TestFalsePositives(t *testing.T) {
	const n = 1 << 18
	f := New(Options{Cap: segmentsOfCap * n * bitsPerKey / 8})
	if err := f.Add(1, keysFrom(0, n)); err != nil {
		t.Fatal(err)
	}
	if f.Bytes() != 2*n || f.Keys() != n {
		t.Fatalf("%d bytes for %d keys", f.Bytes(), f.Keys())
	}
	unknown, _ := missed(f, keysFrom(n, n))
	rate := float64(n-unknown) / n
	t.Logf("%.3f%% of strange keys are taken for known ones, at %.2f bytes a key", rate*100, float64(f.Bytes())/n)
	if rate > 0.002 || rate == 0 {
		t.Errorf("false positives %.4f%%", rate*100)
	}
}

// Partitions are cut from the low bits of the same half that blocks are taken from.
func TestFalsePositivesOfOnePartition(t *testing.T) {
	const n = 1 << 16
	var mine []Key
	for i := 0; len(mine) < 2*n; i++ {
		if k := keyOf(uint64(i)); binary.BigEndian.Uint64(k[:8])%16 == 5 {
			mine = append(mine, k)
		}
	}
	f := New(Options{Cap: segmentsOfCap * n * bitsPerKey / 8})
	if err := f.Add(1, mine[:n]); err != nil {
		t.Fatal(err)
	}
	if unknown, _ := missed(f, mine[n:]); n-unknown > n/500 {
		t.Errorf("%d of %d strange keys are taken for known ones", n-unknown, n)
	}
}

func TestGrowth(t *testing.T) {
	f := New(Options{After: 7})
	if n, after := missed(f, keysFrom(0, 3)); n != 3 || after != 7 || f.Tail() != nil || f.Bytes() != 0 {
		t.Fatalf("an empty filter: %d strange, after %d, %d bytes", n, after, f.Bytes())
	}
	if err := f.Add(7, nil); err == nil || !strings.Contains(err.Error(), "behind 7") {
		t.Errorf("a marker twice: %v", err)
	}
	// A batch that does not fit goes into a segment of its own, whole.
	if err := f.Add(8, keysFrom(0, 10)); err != nil {
		t.Fatal(err)
	}
	f.open.keys = f.open.capacity() - 5
	if err := f.Add(9, keysFrom(10, 6)); err != nil {
		t.Fatal(err)
	}
	frozen := f.Frozen()
	if len(frozen) != 1 || frozen[0].After() != 7 || frozen[0].Last() != 8 {
		t.Fatalf("frozen %v", frozen)
	}
	if tail := f.Tail(); tail.After() != 8 || tail.Last() != 9 || tail.Keys() != 6 || tail.capacity() != fullCapacity {
		t.Errorf("tail (%d, %d] of %d keys", tail.After(), tail.Last(), tail.Keys())
	}
	if n, after := missed(f, keysFrom(0, 16)); n != 0 || after != 7 {
		t.Errorf("%d missed, after %d", n, after)
	}
}

// A marker without keys leaves no gap between segments.
func TestMarkersWithoutKeys(t *testing.T) {
	f := New(Options{Cap: 1})
	for m, n := range []int{0, 2 * leastCapacity, 0, leastCapacity} {
		if err := f.Add(uint64(m+1), keysFrom(m*3*leastCapacity, n)); err != nil {
			t.Fatal(err)
		}
		if tail := f.Tail(); tail != nil && tail.After() != f.After() {
			t.Errorf("at %d the filter knows (%d, %d], its one segment (%d, %d]", m+1, f.After(), f.Through(), tail.After(), tail.Last())
		}
	}
}

// A small segment that fills is spread over more blocks: it stays one, knows its keys,
// and takes few strange ones for known.
func TestSpread(t *testing.T) {
	const small, large = leastCapacity, 8 * leastCapacity
	f := New(Options{Cap: 1})
	if err := f.Add(1, keysFrom(0, small/8*3)); err != nil {
		t.Fatal(err)
	}
	tail := f.Tail()
	f, err := Open(Options{Cap: segmentsOfCap * large * bitsPerKey / 8}, 1, []*Segment{tail})
	if err != nil {
		t.Fatal(err)
	}
	marker := uint64(1)
	for n := small / 8 * 3; n < large; n += 1 << 12 {
		marker++
		if err := f.Add(marker, keysFrom(n, min(1<<12, large-n))); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.Tail(); len(f.Frozen()) > 0 || n.Keys() != large || n.Bytes() != 8*tail.Bytes() || n.After() != 0 {
		t.Errorf("%d frozen; tail behind %d of %d keys, %d bytes", len(f.Frozen()), n.After(), n.Keys(), n.Bytes())
	}
	if n, _ := missed(f, keysFrom(0, large)); n > 0 {
		t.Errorf("%d keys are called strange", n)
	}
	unknown, _ := missed(f, keysFrom(large, large))
	rate := float64(large-unknown) / large
	t.Logf("%.3f%% of strange keys are taken for known ones in a spread segment", rate*100)
	if rate > 0.005 {
		t.Errorf("false positives %.4f%%", rate*100)
	}
	if n, _ := missed(&Filter{open: tail}, keysFrom(0, small/8*3)); n > 0 {
		t.Error("the kept segment changed")
	}
}

// Over the cap the oldest segment goes, and the answer says up to where to ask.
func TestCap(t *testing.T) {
	const bytesCap = 1 << 18
	f := New(Options{Cap: bytesCap})
	const batch = 2_500
	for m := range 200 {
		if err := f.Add(uint64(m+1), keysFrom(m*batch, batch)); err != nil {
			t.Fatal(err)
		}
		if f.Bytes() > bytesCap {
			t.Fatalf("%d bytes after %d keys, the cap is %d", f.Bytes(), (m+1)*batch, bytesCap)
		}
	}
	n, after := missed(f, keysFrom(0, 200*batch))
	if after == 0 || after >= 200 || n == 0 {
		t.Fatalf("after %d, %d strange", after, n)
	}
	if n, _ := missed(f, keysFrom(int(after)*batch, (200-int(after))*batch)); n > 0 {
		t.Errorf("%d keys behind %d are called strange", n, after)
	}
	if f.After() != after || f.Frozen()[0].After() != after {
		t.Errorf("after %d and %d, the oldest segment begins at %d", after, f.After(), f.Frozen()[0].After())
	}
	// One batch may be larger than the cap: it stays, all else goes.
	if err := f.Add(201, keysFrom(200*batch, 250_000)); err != nil {
		t.Fatal(err)
	}
	if n, after := missed(f, keysFrom(200*batch, 250_000)); n != 0 || after != 200 || len(f.Frozen()) != 0 {
		t.Errorf("%d strange, after %d, %d frozen", n, after, len(f.Frozen()))
	}
}

// segments is n segments of a filter, each of one marker, the last one its tail.
func segments(t *testing.T, of string, n int) []*Segment {
	t.Helper()
	f := New(Options{Of: of, Cap: 1 << 19})
	for m := range n {
		if err := f.Add(uint64(m+1), keysFrom(m*60_000, 60_000)); err != nil {
			t.Fatal(err)
		}
	}
	all := append(f.Frozen(), f.Tail())
	if f.After() != 0 || len(all) != n {
		t.Fatalf("%d segments after %d, want %d", len(all), f.After(), n)
	}
	return all
}

func TestOpen(t *testing.T) {
	s := segments(t, "p", 3) // (0,1] (1,2] (2,3]
	for _, c := range []struct {
		name           string
		use            []*Segment
		upTo           uint64
		after, through uint64
	}{
		{"all, in any order", []*Segment{s[2], s[0], s[1]}, 3, 0, 3},
		{"the position lies beyond", s, 9, 0, 3},
		{"the store was restored", s, 2, 0, 2},
		{"one is lost", []*Segment{s[0], s[2]}, 3, 2, 3},
		{"the newest is lost", s[:2], 3, 0, 2},
		{"one is there twice", []*Segment{s[1], s[0], s[1], s[2], s[2]}, 3, 0, 3},
		{"none is left", s, 0, 0, 0},
		{"none", nil, 3, 0, 0},
	} {
		f, err := Open(Options{Of: "p"}, c.upTo, c.use)
		if err != nil {
			t.Fatal(err)
		}
		if f.After() != c.after || f.Through() != c.through {
			t.Errorf("%s: knows (%d, %d], want (%d, %d]", c.name, f.After(), f.Through(), c.after, c.through)
		}
		from, to := int(c.after)*60_000, int(c.through)*60_000
		if n, _ := missed(f, keysFrom(from, to-from)); n > 0 {
			t.Errorf("%s: %d keys are called strange", c.name, n)
		}
	}
	if _, err := Open(Options{Of: "q"}, 3, s); err == nil || !strings.Contains(err.Error(), `of "p", not of "q"`) {
		t.Errorf("the segments of another partition: %v", err)
	}
	f, err := Open(Options{Of: "p", Cap: 200_000}, 3, s)
	if err != nil || f.After() != 2 {
		t.Errorf("under a smaller cap: %v, after %d", err, f.After())
	}
}

// What an opened filter takes does not reach the segment it was opened from.
func TestSegmentsNeverChange(t *testing.T) {
	f := New(Options{Cap: 1 << 20})
	if err := f.Add(1, keysFrom(0, 100)); err != nil {
		t.Fatal(err)
	}
	tail := f.Tail()
	before, _ := tail.AppendBinary(nil)
	opened, err := Open(Options{}, 1, []*Segment{tail})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*Filter{f, opened} {
		if err := f.Add(2, keysFrom(100, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if after, _ := tail.AppendBinary(nil); !bytes.Equal(before, after) {
		t.Error("a kept segment changed")
	}
	if got := opened.Tail(); got.After() != 0 || got.Last() != 2 || got.Keys() != 200 {
		t.Errorf("the tail does not go on: (%d, %d], %d keys", got.After(), got.Last(), got.Keys())
	}
}

// Any one bit that turns, any byte that is missing or too many: refused.
func TestDamaged(t *testing.T) {
	f := New(Options{Of: "usage 1, partition 3", Cap: 1})
	if err := f.Add(9, keysFrom(0, 1000)); err != nil {
		t.Fatal(err)
	}
	whole, err := f.Tail().AppendBinary([]byte("before"))
	if err != nil {
		t.Fatal(err)
	}
	whole = bytes.TrimPrefix(whole, []byte("before"))
	if s, err := Parse(whole); err != nil || s.Of() != "usage 1, partition 3" || s.After() != 0 || s.Last() != 9 || s.Keys() != 1000 {
		t.Fatalf("%v %v", s, err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		at := r.IntN(len(whole) * 8)
		if i < 8*(headerSize+32) {
			at = i
		}
		b := bytes.Clone(whole)
		b[at/8] ^= 1 << (at % 8)
		if _, err := Parse(b); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d turned: %v", at, err)
		}
	}
	for _, b := range [][]byte{nil, whole[:1], whole[:len(whole)-1], whole[1:], append(bytes.Clone(whole), 0), whole[:headerSize]} {
		if _, err := Parse(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d of %d bytes: %v", len(b), len(whole), err)
		}
	}
	if _, err := (&Segment{of: strings.Repeat("x", MaxOf+1)}).AppendBinary(nil); err == nil {
		t.Error("a name of 256 bytes was written")
	}
}

// Whatever the bytes, with a right checksum as well: refused, or a segment that is
// written as it was read.
func FuzzParse(f *testing.F) {
	s := newSegment("p", 3, 64)
	s.last, s.keys = 4, 1
	whole, _ := s.AppendBinary(nil)
	f.Add(whole)
	f.Add(whole[:headerSize])
	f.Add(append(bytes.Clone(magic[:]), bytes.Repeat([]byte{0xff}, 60)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := sha256.Sum256(b)
		for _, b := range [][]byte{b, append(bytes.Clone(b), sum[:]...)} {
			s, err := Parse(b)
			if err != nil {
				if !errors.Is(err, ErrDamaged) {
					t.Fatal(err)
				}
				continue
			}
			again, err := s.AppendBinary(nil)
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("read and written again: %v, %d bytes for %d", err, len(again), len(b))
			}
			missed(&Filter{open: s}, keysFrom(0, 3))
		}
	})
}

// One goroutine adds, others ask, keep segments and read figures: what was added
// before a lookup is found by it.
func TestConcurrent(t *testing.T) {
	f := New(Options{Cap: 1 << 20})
	const batch, markers = 2_000, 200
	keys := keysFrom(0, batch*markers)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for range 3 {
		wg.Go(func() {
			maybe := make([]bool, batch)
			for {
				through := int(f.Through())
				at := max(0, through-1) * batch
				after := f.MaybeStored(keys[at:at+batch], maybe)
				if through > int(after) && slices.Contains(maybe, false) {
					errs <- fmt.Errorf("keys at %d are called strange, after %d", through, after)
					return
				}
				for _, s := range f.Frozen() {
					if s.Keys() == 0 || s.Last() <= s.After() {
						errs <- fmt.Errorf("frozen (%d, %d] of %d keys", s.After(), s.Last(), s.Keys())
						return
					}
				}
				if s := f.Tail(); s != nil && int(s.Last()) < through {
					errs <- fmt.Errorf("tail ends at %d, added was %d", s.Last(), through)
					return
				}
				_, _ = f.Bytes(), f.Keys()
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for m := range markers {
		if err := f.Add(uint64(m+1), keys[m*batch:(m+1)*batch]); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	f := New(Options{})
	keys, maybe := keysFrom(0, 1000), make([]bool, 1000)
	if err := f.Add(1, keys); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(10, func() { f.MaybeStored(keys, maybe) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
