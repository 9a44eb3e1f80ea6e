package clickhouse

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"mete/internal/chtest"
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
	return 100_000
}

// benchEvent is what a gateway says of a call, or a billing system of a sale: random ids
// of 32 digits, as gateways make them, 40 apps, 500 customers, some of them large.
func benchEvent(r *rand.Rand, at time.Time) metering.Event {
	var id [16]byte
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	app := r.IntN(1 + r.IntN(40))
	e := meteringtest.Call(hex.EncodeToString(id[:]), partner.AppID(fmt.Sprintf("app-%d", app)), at.Truncate(time.Millisecond))
	e.Customer = partner.CustomerID(fmt.Sprintf("practice-%d", r.IntN(1+r.IntN(500))))
	e.Data.Operation = [...]string{"patient.read", "appointment.book", "appointment.list", "observation.list", "other"}[r.IntN(5)]
	e.Data.Status = [...]int{200, 200, 200, 200, 200, 200, 201, 304, 404, 503}[r.IntN(10)]
	e.Data.Bytes = int64(200 + r.ExpFloat64()*4000)
	latency := decimal.New(int64(2+r.ExpFloat64()*80), -3).Shift(3)
	e.Data.LatencyMS = &latency
	if r.IntN(100) == 0 {
		amount := decimal.New(int64(r.IntN(100_000)), -2)
		e.Type, e.Data.Amount, e.Data.Currency, e.Data.LatencyMS = metering.SalePaid, &amount, "USD", nil
	}
	return e
}

// BenchmarkStore fills a store with blocks of 20,000 events, 20 messages each, in four
// partitions, and then asks it for one month.
func BenchmarkStore(b *testing.B) {
	const perBlock, perMessage, streams = 20_000, 1000, 4
	ctx := context.Background()
	for range b.N {
		s, err := Open(ctx, Options{DSN: chtest.New(b)})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Attach(ctx, "bench", streams); err != nil {
			b.Fatal(err)
		}
		n, f, r := benchEvents(), meteringtest.NewFeed(), rand.New(rand.NewPCG(1, 2))
		start := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
		step := time.Duration(benchMonths) * 30 * 24 * time.Hour / time.Duration(n)
		var storing, longest time.Duration
		waiting := make([][]metering.Event, streams)
		store := func(p int) {
			var ms [][]metering.Event
			for i := 0; i < len(waiting[p]); i += perMessage {
				ms = append(ms, waiting[p][i:min(i+perMessage, len(waiting[p]))])
			}
			block := f.Block(p, ms...)
			waiting[p] = nil
			t := time.Now()
			if _, err := s.Append(ctx, block); err != nil {
				b.Fatal(err)
			}
			storing += time.Since(t)
			longest = max(longest, time.Since(t))
		}
		for i := range n {
			e := benchEvent(r, start.Add(time.Duration(i)*step))
			p := e.Key().Partition(streams)
			if waiting[p] = append(waiting[p], e); len(waiting[p]) == perBlock {
				store(p)
			}
		}
		for p := range waiting {
			if len(waiting[p]) > 0 {
				store(p)
			}
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
		month.UpTo = pinned
		timed("month-ms", usage(month))
		app := month
		app.Apps = []partner.AppID{"app-3"}
		timed("month-of-app-ms", usage(app))
		timed("sales-ms", func() (n int) {
			for _, err := range s.Transactions(ctx, month, []string{metering.SalePaid}) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			return n
		})
		timed("events-of-app-ms", func() (n int) {
			for _, err := range s.Events(ctx, month, metering.Filter{App: "app-3"}) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			return n
		})
		early := make(metering.Cutoff, len(pinned))
		copy(early, pinned)
		for p := range early {
			early[p].Sequence -= min(5, early[p].Sequence)
		}
		timed("late-ms", func() int {
			if _, err := s.Late(ctx, metering.Span{End: month.End, After: early, UpTo: pinned}); err != nil {
				b.Fatal(err)
			}
			return 1
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
		// One void more, and the month again.
		e := benchEvent(r, start)
		block := f.Block(e.Key().Partition(streams), []metering.Event{e})
		void := meteringtest.Void("void", e.ID, start)
		if _, err := s.Append(ctx, block); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Append(ctx, f.Block(void.Key().Partition(streams), []metering.Event{void})); err != nil {
			b.Fatal(err)
		}
		month.UpTo = nil
		timed("month-with-voids-ms", usage(month))
		t := time.Now()
		if f, err := s.Find(ctx, e.Key()); err != nil || f.Voided == nil {
			b.Fatal(f, err)
		}
		b.ReportMetric(time.Since(t).Seconds()*1000, "find-ms")
		alter(b, s, "OPTIMIZE TABLE events FINAL", "OPTIMIZE TABLE keys FINAL")
		if err := s.each(ctx, `SELECT table, sum(bytes_on_disk) FROM system.parts WHERE database = currentDatabase() AND active GROUP BY table`, func(scan func(...any) error) error {
			var table string
			var size uint64
			err := scan(&table, &size)
			if table == "events" || table == "keys" {
				b.ReportMetric(float64(size)/float64(n), table+"-bytes/event")
			}
			return err
		}); err != nil {
			b.Fatal(err)
		}
		if os.Getenv("METE_BENCH_COLUMNS") != "" {
			if err := s.each(ctx, `SELECT table, column, sum(column_data_compressed_bytes) AS size FROM system.parts_columns
				 WHERE database = currentDatabase() AND active AND table IN ('events', 'keys') GROUP BY table, column HAVING size > 0 ORDER BY table, size DESC`, func(scan func(...any) error) error {
				var table, column string
				var size uint64
				err := scan(&table, &column, &size)
				b.Logf("%-7s %-14s %6.2f bytes/event", table, column, float64(size)/float64(n))
				return err
			}); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
