package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mete/internal/chtest"
	"mete/metering"
	"mete/metering/meteringtest"
)

// asking counts the questions about keys that go over the wire.
func asking(w *wire) *atomic.Int64 {
	var n atomic.Int64
	w.set(func(query string) fault {
		if strings.Contains(query, "FROM keys WHERE event_key") {
			n.Add(1)
		}
		return pass
	})
	return &n
}

// The table of keys is asked about keys that may be stored, and about no others; what
// the filter knows outlives its owner.
func TestFilterStandsBeforeTheKeys(t *testing.T) {
	w := newWire(t, chtest.New(t))
	m, f := new(meteringtest.Model), newFeed()
	open := func() *Store {
		s := openAt(t, w.dsn)
		s.keepEvery = 1000
		return s
	}
	s := open()
	n := asking(w)
	fill(t, s, m, f.Block(0, meteringtest.Calls("a", 900, "scheduler", day)), f.Block(0, meteringtest.Calls("b", 900, "scheduler", day)))
	if n.Load() != 0 {
		t.Errorf("the key table was asked %d times about keys that were never stored", n.Load())
	}
	kept := func(s *Store) (rows, last uint64) {
		if err := s.each(context.Background(), `SELECT count(), max(last) FROM key_segments`, func(scan func(...any) error) error { return scan(&rows, &last) }); err != nil {
			t.Fatal(err)
		}
		return rows, last
	}
	if rows, last := kept(s); rows == 0 || last != 2 {
		t.Errorf("%d pieces of segments are kept, up to %d, want up to message 2", rows, last)
	}
	fill(t, s, m, f.Block(0, meteringtest.Calls("c", 50, "scheduler", day))) // too few to keep
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	read := atomic.Int64{}
	for i, change := range []string{
		"",
		"ALTER TABLE key_segments UPDATE bytes = concat('x', substring(bytes, 2)) WHERE 1 SETTINGS mutations_sync = 2", // damaged
		"ALTER TABLE key_segments UPDATE pieces = pieces + 1 WHERE 1 SETTINGS mutations_sync = 2",                      // half-written
		"TRUNCATE TABLE key_segments",
		"INSERT INTO key_segments SETTINGS async_insert = 0 SELECT 0, 0, 1000000, 0, 1, 'of the future'",
	} {
		s = open()
		if change != "" {
			alter(t, s, change)
		}
		read.Store(0)
		asked := atomic.Int64{}
		w.set(func(query string) fault {
			switch {
			case strings.Contains(query, "SELECT event_key FROM events"):
				read.Add(1)
			case strings.Contains(query, "FROM keys WHERE event_key"):
				asked.Add(1)
			}
			return pass
		})
		fill(t, s, m, f.Block(0, meteringtest.Calls(fmt.Sprint("d", i), 20, "scheduler", day)))
		if asked.Load() != 0 || read.Load() != 1 {
			t.Errorf("after %q: the key table was asked %d times, want never; events were read %d times, want once", change, asked.Load(), read.Load())
		}
		fill(t, s, m, f.Block(0, meteringtest.Calls("a", 3, "scheduler", day), meteringtest.Calls("c", 3, "scheduler", day)))
		if asked.Load() != 1 {
			t.Errorf("after %q: the key table was asked %d times about six stored keys, want once", change, asked.Load())
		}
		alike(t, s, m)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	same(t, open(), m)
}

// A filter that may hold little forgets the oldest keys; the table is asked about them.
func TestFilterForgets(t *testing.T) {
	if testing.Short() {
		t.Skip("stores 100,000 events")
	}
	ctx := context.Background()
	s := openAt(t, chtest.New(t), func(o *Options) { o.FilterBytes = 1 })
	attach(t, s)
	f := newFeed()
	calls := func(n int) (ms [][]metering.Event) {
		for i := range 20 {
			ms = append(ms, meteringtest.Calls(fmt.Sprintf("%d-%d", n, i), 1000, "scheduler", day))
		}
		return ms
	}
	want := func(b metering.Block, o metering.Outcome) {
		t.Helper()
		if got, err := s.Append(ctx, b); err != nil || got != o {
			t.Fatalf("append: %+v, %v, want %+v", got, err, o)
		}
	}
	for n := range 5 {
		want(f.Block(0, calls(n)...), metering.Outcome{Stored: 20_000})
	}
	if after := s.lanes[0].filter.After(); after == 0 {
		t.Fatal("the filter has forgotten nothing")
	}
	want(f.Block(0, calls(0)[:2]...), metering.Outcome{Duplicate: 2000})
	want(f.Block(0, append(calls(4)[:1], meteringtest.Calls("new", 1000, "billing", day))...), metering.Outcome{Stored: 1000, Duplicate: 1000})
	if n, err := s.Counts(ctx, nil); err != nil || n.Stored != 101_000 || n.Keys != n.Stored || n.Duplicate != 3000 {
		t.Errorf("counts = %+v, %v", n, err)
	}
	start := time.Now()
	again := openAt(t, s.options.DSN, func(o *Options) { o.FilterBytes = 1 })
	attach(t, again)
	if o, err := again.Append(ctx, f.Block(0, calls(2)[:1]...)); err != nil || o.Duplicate != 1000 {
		t.Errorf("append by the next owner: %+v, %v", o, err)
	}
	t.Logf("a filter of 101,000 events was made in %v", time.Since(start))
	wantSound(t, again)
}
