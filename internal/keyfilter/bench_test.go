package keyfilter

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

const (
	benchPartitions = 4
	benchBatch      = 4096
)

// filled is four filters that hold n keys together.
func filled(b *testing.B, r *rand.Rand, n int) []*Filter {
	filters := make([]*Filter, benchPartitions)
	keys := make([]Key, 1<<16)
	for i := range filters {
		filters[i] = New(Options{})
		for at := 0; at < n/benchPartitions; at += len(keys) {
			part := keys[:min(len(keys), n/benchPartitions-at)]
			randomKeys(r, part)
			if err := filters[i].Add(uint64(at)+1, part); err != nil {
				b.Fatal(err)
			}
		}
	}
	return filters
}

func randomKeys(r *rand.Rand, keys []Key) {
	for i := range keys {
		binary.LittleEndian.PutUint64(keys[i][:8], r.Uint64())
		binary.LittleEndian.PutUint64(keys[i][8:], r.Uint64())
	}
}

// BenchmarkLookup asks for strange keys, which is what nearly all events are and
// what costs most: every segment is read. Batches of 4,096 keys go to the
// partitions in turn. 100M keys take 270 MB.
func BenchmarkLookup(b *testing.B) {
	for _, millions := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("keys=%dM", millions), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			filters := filled(b, r, millions*1_000_000)
			strange, maybe := make([]Key, benchBatch<<8), make([]bool, benchBatch)
			randomKeys(r, strange)
			asked, found := 0, 0
			for b.Loop() {
				at := asked % len(strange)
				filters[asked/benchBatch%benchPartitions].MaybeStored(strange[at:at+benchBatch], maybe)
				for _, m := range maybe {
					if m {
						found++
					}
				}
				asked += benchBatch
			}
			var size int64
			var keys uint64
			for _, f := range filters {
				size, keys = size+f.Bytes(), keys+f.Keys()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(asked), "ns/key")
			b.ReportMetric(float64(size)/float64(keys), "bytes/key")
			b.ReportMetric(100*float64(found)/float64(asked), "%false")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkAdd fills segments that are empty at first.
func BenchmarkAdd(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	keys := make([]Key, benchBatch)
	f, marker := New(Options{}), uint64(0)
	randomKeys(r, keys)
	for b.Loop() {
		for i := range keys { // other keys, without the price of making them
			keys[i][0], keys[i][3], keys[i][9] = byte(marker), keys[i][3]+1, keys[i][9]+5
		}
		marker++
		if err := f.Add(marker, keys); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(marker*benchBatch), "ns/key")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkParse reads a segment of 8M keys, checksum and all.
func BenchmarkParse(b *testing.B) {
	f := New(Options{})
	if err := f.Add(1, make([]Key, 1)); err != nil {
		b.Fatal(err)
	}
	whole, err := f.Tail().AppendBinary(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(whole)))
	for b.Loop() {
		if _, err := Parse(whole); err != nil {
			b.Fatal(err)
		}
	}
}
