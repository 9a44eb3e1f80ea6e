package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"mete/metering"
	"mete/metering/meteringtest"
	"mete/partner"
)

// benchMonths is how many months the bench's events are spread over.
const benchMonths = 5

// benchEvents is how many events the benches store: METE_BENCH_EVENTS, or a few.
func benchEvents() int {
	if n, err := strconv.Atoi(os.Getenv("METE_BENCH_EVENTS")); err == nil {
		return n
	}
	return 50_000
}

// BenchmarkStore fills a store with blocks of 500 events in 40 apps, 500 customers
// and 5 messages each, and then asks it for one month.
func BenchmarkStore(b *testing.B) {
	ctx := context.Background()
	for range b.N {
		s, err := Open(filepath.Join(b.TempDir(), "usage.db"))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Attach(ctx, "bench", 4); err != nil {
			b.Fatal(err)
		}
		n, f := benchEvents(), meteringtest.NewFeed()
		start := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
		step := time.Duration(benchMonths) * 30 * 24 * time.Hour / time.Duration(n)
		latency := meteringtest.Decimal("123.45")
		var storing, longest time.Duration
		for i := 0; i < n; i += 500 {
			ms := make([][]metering.Event, 5)
			for j := range 500 {
				k := i + j
				e := meteringtest.Call(fmt.Sprintf("req-%012d", k), partner.AppID(fmt.Sprintf("app-%d", k*7919%40)), start.Add(time.Duration(k)*step).Truncate(time.Microsecond))
				e.Customer = partner.CustomerID(fmt.Sprintf("practice-%d", k*7919/40%500))
				e.Data.Bytes, e.Data.LatencyMS = 2345, latency
				if k%100 == 0 {
					e.Type, e.Data.Amount, e.Data.Currency = metering.SalePaid, meteringtest.Decimal("12.34"), "USD"
				}
				ms[j/100] = append(ms[j/100], e)
			}
			block := f.Block(i/500%4, ms...)
			t := time.Now()
			if _, err := s.Append(ctx, block); err != nil {
				b.Fatal(err)
			}
			storing += time.Since(t)
			longest = max(longest, time.Since(t))
		}
		b.ReportMetric(float64(n)/storing.Seconds(), "events/s")
		b.ReportMetric(longest.Seconds()*1000, "longest-block-ms")
		month := metering.Span{Start: start.AddDate(0, 2, 0), End: start.AddDate(0, 3, 0)}
		pinned, err := s.Cutoff(ctx)
		if err != nil {
			b.Fatal(err)
		}
		timed := func(unit string, read func() int) {
			t := time.Now()
			if read() == 0 {
				b.Fatal(unit + ": nothing")
			}
			b.ReportMetric(time.Since(t).Seconds()*1000, unit)
		}
		usage := func(sp metering.Span) func() int {
			return func() (n int) {
				for u, err := range s.Usage(ctx, sp) {
					if err != nil {
						b.Fatal(err)
					}
					n += int(u.Count)
				}
				return n
			}
		}
		timed("month-ms", usage(month))
		month.UpTo = pinned
		timed("month-pinned-ms", usage(month))
		month.UpTo = append(metering.Cutoff(nil), pinned...)
		month.UpTo[3].Sequence /= 2
		timed("month-odd-cutoff-ms", usage(month))
		month.UpTo = pinned
		timed("sales-ms", func() (n int) {
			for _, err := range s.Transactions(ctx, month, []string{metering.SalePaid}) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			return n
		})
		timed("events-ms", func() (n int) {
			for _, err := range s.Events(ctx, month, metering.Filter{}) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			return n
		})
		timed("counts-ms", func() int {
			c, err := s.Counts(ctx, pinned)
			if err != nil {
				b.Fatal(err)
			}
			return int(c.Stored)
		})
		timed("check-ms", func() int {
			if found, err := s.Check(ctx); err != nil || len(found) > 0 {
				b.Fatal(found, err)
			}
			return 1
		})
		t := time.Now()
		key := metering.KeyOf("gateway", fmt.Sprintf("req-%012d", n/2))
		if f, err := s.Find(ctx, key); err != nil || f.Event == nil {
			b.Fatal(f, err)
		}
		b.ReportMetric(time.Since(t).Seconds()*1000, "find-ms")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		if fi, err := os.Stat(s.path); err == nil {
			b.ReportMetric(float64(fi.Size())/float64(n), "bytes/event")
		}
		runtime.GC()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		b.ReportMetric(float64(mem.HeapAlloc)/1e6, "heap-MB")
	}
}
