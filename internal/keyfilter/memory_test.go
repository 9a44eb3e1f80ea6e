package keyfilter

import (
	"runtime"
	"testing"
)

// The collector does not count what a filter takes: else as much garbage may lie.
func TestOutsideOfTheHeap(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux gives such memory")
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	f := New(Options{})
	if err := f.Add(1, keysFrom(0, 10)); err != nil {
		t.Fatal(err)
	}
	size := uint64(f.Bytes())
	if now := heap(); size < 1<<20 || now > before+size/2 {
		t.Errorf("a filter of %d bytes takes the heap from %d to %d", size, before, now)
	}
	runtime.KeepAlive(f)
}

// Memory of segments that are gone is given back while others are used.
func TestGivenBack(t *testing.T) {
	f := New(Options{Cap: 1 << 19})
	for m := range 200 {
		if err := f.Add(uint64(m+1), keysFrom(m*20_000, 20_000)); err != nil {
			t.Fatal(err)
		}
		runtime.GC() // cleanups run behind it
		if n, after := missed(f, keysFrom(m*20_000, 20_000)); n > 0 || after > uint64(m) {
			t.Fatalf("%d of the newest keys are called strange, after %d", n, after)
		}
	}
}
