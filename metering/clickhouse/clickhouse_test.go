package clickhouse

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"mete/internal/chtest"
	"mete/metering"
	"mete/metering/meteringtest"
)

var day = time.Date(2026, 9, 10, 12, 0, 0, 0, time.UTC)

// partitions of the streams in these tests.
const partitions = 3

func open(t *testing.T) *Store {
	t.Helper()
	return openAt(t, chtest.New(t))
}

func openAt(t *testing.T, dsn string, change ...func(*Options)) *Store {
	t.Helper()
	o := Options{DSN: dsn, FilterBytes: 8 << 20}
	for _, c := range change {
		c(&o)
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// allTables are those that hold something.
var allTables = []string{"epochs", "messages", "events", "keys", "voids", "duplicates", "conflicts", "undecoded", "streams", "refusals", "replays", "key_segments", "day_totals", "heartbeats", "redactions", "redacted_rows"}

// reopener gives empty stores in one database, one after the other: making tables takes
// longer than most tests.
func reopener(t *testing.T) func(t *testing.T) *Store {
	var last *Store
	return func(sub *testing.T) *Store {
		sub.Helper()
		if last == nil || !last.closed {
			last = openAt(sub, chtest.New(t))
			return last
		}
		last = openAt(sub, last.options.DSN)
		for _, table := range allTables {
			alter(sub, last, "TRUNCATE TABLE "+table)
		}
		return last
	}
}

// alter changes the database behind the store's back.
func alter(t testing.TB, s *Store, statements ...string) {
	t.Helper()
	for _, q := range statements {
		if err := s.conn.Exec(context.Background(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

func TestStore(t *testing.T) {
	fewer(t, "12")
	open := reopener(t)
	meteringtest.TestStore(t, func(t *testing.T) metering.Store { return open(t) })
}

func TestQuarantine(t *testing.T) {
	meteringtest.TestQuarantine(t, func(t *testing.T) metering.Quarantine { return open(t) })
}

// fewer takes the default of 100 random streams down to n: the engine has one query at a
// time, and the model runs over the other store too.
func fewer(t *testing.T, n string) {
	f := flag.Lookup("rapid.checks")
	if f == nil || f.Value.String() != f.DefValue {
		return
	}
	set := func(n string) {
		if err := f.Value.Set(n); err != nil {
			t.Fatal(err)
		}
	}
	set(n)
	t.Cleanup(func() { set(f.DefValue) })
}

func TestReplays(t *testing.T) {
	meteringtest.TestReplays(t, reopener(t))
}

func TestLookup(t *testing.T) {
	meteringtest.TestLookup(t, open)
}

func TestTallies(t *testing.T) {
	meteringtest.TestTallies(t, open)
}

func TestSourceFacts(t *testing.T) {
	meteringtest.TestSourceFacts(t, reopener(t))
}

func newFeed() *meteringtest.Feed {
	f := meteringtest.NewFeed()
	f.Partitions = partitions
	return f
}

func in(partition int, id string) string {
	return meteringtest.In("gateway", id, partition, partitions)
}

// blocks have everything that can be stored, and what repeats lies in other blocks too.
func blocks(f *meteringtest.Feed) []metering.Block {
	sale := meteringtest.Call("sale", "scheduler", day, func(e *metering.Event) {
		e.Type, e.Data.Amount, e.Data.Currency = metering.SalePaid, meteringtest.Decimal("12.34"), "USD"
		e.Data.Quantity, e.Data.LatencyMS = meteringtest.Decimal("2.5"), meteringtest.Decimal("1500")
	})
	return []metering.Block{
		f.Block(0, meteringtest.Calls("a", 20, "scheduler", day), meteringtest.Calls("b", 20, "billing", day)),
		full(f, 0, "a"),
		f.Block(2, []metering.Event{sale, meteringtest.Void("v", in(0, "a-7"), day), meteringtest.Void("w", "nobody", day)}),
		f.Block(1, meteringtest.Calls("c", 5, "scheduler", day.AddDate(0, 1, 0))),
	}
}

// full is a block with rows for every table: new events, a void, two duplicates and
// three conflicts of Calls(again), something undecoded.
func full(f *meteringtest.Feed, partition int, again string) metering.Block {
	return f.Messages(partition,
		meteringtest.Message{Events: meteringtest.Calls(again, 2, "scheduler", day), Undecoded: []string{"truncated"}},
		meteringtest.Message{Events: append(meteringtest.Calls(again, 3, "other", day),
			meteringtest.Call("new of "+again, "scheduler", day), meteringtest.Void("void of "+again, in(partition, again+"-1"), day))})
}

// fill gives the blocks to the store and to the model, which must agree.
func fill(t *testing.T, s *Store, m *meteringtest.Model, bs ...metering.Block) {
	t.Helper()
	ctx := context.Background()
	attach(t, s, m)
	for _, b := range bs {
		want, err := m.Append(ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Append(ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("append messages %d to %d of partition %d: got %+v, want %+v", b.First, b.Last, b.Partition, got, want)
		}
	}
}

func attach(t *testing.T, stores ...metering.Store) {
	t.Helper()
	for _, s := range stores {
		if _, err := s.Attach(context.Background(), "usage", partitions); err != nil {
			t.Fatal(err)
		}
	}
}

// alike fails unless the store is where the model is, and answers the same of all time.
func alike(t *testing.T, s *Store, m *meteringtest.Model) {
	t.Helper()
	for p := range partitions {
		got, err := s.Position(context.Background(), p)
		if want, _ := m.Position(context.Background(), p); err != nil || got != want {
			t.Fatalf("partition %d is at %d, %v, want %d", p, got, err, want)
		}
	}
	meteringtest.Compare(t, s, m, metering.Span{})
}

// sameCounts fails unless the store counts as the model does.
func sameCounts(t *testing.T, s *Store, m *meteringtest.Model) {
	t.Helper()
	got, err := s.Counts(context.Background(), nil)
	if want, _ := m.Counts(context.Background(), nil); err != nil || got != want {
		t.Fatalf("counts: %+v, %v, want %+v", got, err, want)
	}
}

// same fails unless the store answers as the model in everything, and is sound.
func same(t *testing.T, s *Store, m *meteringtest.Model) {
	t.Helper()
	ctx := context.Background()
	alike(t, s, m)
	meteringtest.Compare(t, s, m, metering.Span{Start: day, End: day.Add(5 * time.Second)})
	for _, id := range []string{in(0, "a-0"), in(0, "a-1"), in(2, "sale"), in(0, "new of a"), in(0, "void of a")} {
		k := metering.KeyOf("gateway", id)
		got, err := s.Find(ctx, k)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := m.Find(ctx, k)
		if (got.Event == nil) != (want.Event == nil) || len(got.Duplicates) != len(want.Duplicates) || len(got.Conflicts) != len(want.Conflicts) ||
			(got.Voided == nil) != (want.Voided == nil) || got.Event != nil && got.Event.Position != want.Event.Position {
			t.Fatalf("find %s: got %+v, want %+v", id, got, want)
		}
	}
	wantSound(t, s)
}

func wantSound(t *testing.T, s *Store) {
	t.Helper()
	findings, err := s.Check(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Errorf("check: %s", f)
	}
}

func TestReopenKeepsEverything(t *testing.T) {
	dsn := chtest.New(t)
	m := new(meteringtest.Model)
	for i, b := range blocks(newFeed()) {
		s := openAt(t, dsn)
		if i > 0 {
			meteringtest.Compare(t, s, m, metering.Span{})
		}
		fill(t, s, m, b)
		fill(t, s, m, b) // sent again
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(context.Background(), b); err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("append to a closed store: %v", err)
		}
	}
	s := openAt(t, dsn)
	fill(t, s, m, blocks(newFeed())...)
	same(t, s, m)
	unseen, err := s.Unseen(context.Background())
	if err != nil || len(unseen) != 0 {
		t.Errorf("rows that never count: %+v, %v, want none", unseen, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	e := chtest.Start(t)
	wantRefused := func(dsn string, words ...string) {
		t.Helper()
		s, err := Open(context.Background(), Options{DSN: dsn})
		if err == nil {
			s.Close()
			t.Fatalf("open %s: want an error", dsn)
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("open: the error does not say %q: %v", w, err)
			}
		}
	}
	newer := e.Database(t)
	s := openAt(t, newer)
	alter(t, s, `INSERT INTO schema_version (version) SETTINGS async_insert = 0 VALUES (99)`)
	wantRefused(newer, "version 99", "newer")

	foreign := e.Database(t)
	name := foreign[strings.LastIndexByte(foreign, '/')+1:]
	if _, err := e.Exec("CREATE TABLE " + name + ".songs (name String) ENGINE = MergeTree ORDER BY name"); err != nil {
		t.Fatal(err)
	}
	wantRefused(foreign, "something else", name)
	if tables, err := e.Exec("SELECT count() FROM system.tables WHERE database = '" + name + "'"); err != nil || tables != "1" {
		t.Errorf("the refused database has %s tables, %v, want its one", tables, err)
	}
	wantRefused("::", "DSN")
	wantRefused(e.DSN("no_such_database"), "no_such_database")
}

func TestAppendRefusesWhatItCannotKeep(t *testing.T) {
	ctx := context.Background()
	s := open(t)
	if _, err := s.Attach(ctx, "usage", 1); err != nil {
		t.Fatal(err)
	}
	event := func(change func(*metering.Event)) metering.Block {
		return meteringtest.NewFeed().Block(0, []metering.Event{meteringtest.Call("good", "scheduler", day), meteringtest.Call("bad", "scheduler", day, change)})
	}
	block := func(change func(*metering.Block)) metering.Block {
		b := event(func(*metering.Event) {})
		change(&b)
		return b
	}
	for name, c := range map[string]struct {
		block metering.Block
		say   string
	}{
		"quantity too fine": {event(func(e *metering.Event) { e.Data.Quantity = meteringtest.Decimal("0.0000000001") }), "9 decimals"},
		"quantity too big":  {event(func(e *metering.Event) { e.Data.Quantity = meteringtest.Decimal("9223372036854775808") }), "64 bits"},
		"quantity huge":     {event(func(e *metering.Event) { e.Data.Quantity = meteringtest.Decimal("1e60") }), "64 bits"},
		"latency too fine":  {event(func(e *metering.Event) { e.Data.LatencyMS = meteringtest.Decimal("0.0000000001") }), "9 decimals"},
		"amount too fine":   {event(func(e *metering.Event) { e.Data.Amount, e.Data.Currency = meteringtest.Decimal("0.001"), "USD" }), "finer"},
		"fee too big":       {event(func(e *metering.Event) { e.Data.Fee, e.Data.Currency = meteringtest.Decimal("1e18"), "USD" }), "fee"},
		"time too fine":     {event(func(e *metering.Event) { e.Time = day.Add(1) }), "microsecond"},
		"no time":           {event(func(e *metering.Event) { e.Time = time.Time{} }), "no time"},
		"late year":         {event(func(e *metering.Event) { e.Time = day.AddDate(240, 0, 0) }), "year 2266"},
		"early year":        {event(func(e *metering.Event) { e.Time = day.AddDate(-200, 0, 0) }), "year 1826"},
		"status":            {event(func(e *metering.Event) { e.Data.Status = 1 << 16 }), "status"},
		"paid months":       {event(func(e *metering.Event) { e.Data.PaidMonths = -1 }), "paid_months"},
		"acceptance":        {block(func(b *metering.Block) { b.Messages[0].AcceptedAt = day.Add(1) }), "acceptance"},
		"key":               {block(func(b *metering.Block) { b.Messages[0].Events[1].Key[0]++ }), "has key"},
		"partition":         {block(func(b *metering.Block) { b.Partition = 1; b.Messages = []metering.Message{{Sequence: 1}} }), "partitions 0 to 0"},
		"sequence 0":        {block(func(b *metering.Block) { b.First, b.Last, b.Messages[0].Sequence = 0, 0, 0 }), "bounds"},
		"lease":             {block(func(b *metering.Block) { b.Epoch = 1 << 60 }), "lease"},
	} {
		_, err := s.Append(ctx, c.block)
		if err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v, want an error that says %q", name, err, c.say)
		}
		if n, err := s.Counts(ctx, nil); err != nil || n != (metering.Counts{}) {
			t.Errorf("%s: left %+v behind, %v", name, n, err)
		}
	}
	good := event(func(*metering.Event) {})
	if _, err := s.Append(ctx, good); err != nil {
		t.Fatal(err)
	}
	good.Messages[0].Digest[0]++
	if _, err := s.Append(ctx, good); !errors.Is(err, metering.ErrIncarnation) {
		t.Errorf("another payload at a stored position: %v, want ErrIncarnation", err)
	}
	wantSound(t, s)
}

// An event lies in the partition of its key; one that does not is refused, since its
// repeats would be looked for elsewhere.
func TestAppendRefusesAnotherPartition(t *testing.T) {
	s := open(t)
	attach(t, s)
	b := meteringtest.NewFeed().Block(1, []metering.Event{meteringtest.Call(in(2, "a"), "scheduler", day)})
	if _, err := s.Append(context.Background(), b); err == nil || !strings.Contains(err.Error(), "belongs in partition 2") {
		t.Errorf("append: %v, want an error that names partition 2", err)
	}
}

// Two processes that attach two streams at the same moment: both are told, and nothing
// is stored until somebody has decided.
func TestTwoStreams(t *testing.T) {
	ctx := context.Background()
	s := open(t)
	alter(t, s, `INSERT INTO streams (name, partitions, attached_at) SETTINGS async_insert = 0 VALUES ('usage', 3, now64(6)), ('copy', 3, now64(6))`)
	if _, err := s.Attach(ctx, "usage", partitions); !errors.Is(err, metering.ErrIncarnation) || !strings.Contains(err.Error(), `"copy"`) {
		t.Errorf("attach: %v, want ErrIncarnation that names both", err)
	}
	if _, err := s.Append(ctx, newFeed().Block(0, meteringtest.Calls("a", 1, "scheduler", day))); !errors.Is(err, metering.ErrIncarnation) {
		t.Errorf("append: %v, want ErrIncarnation", err)
	}
	if _, err := s.Attach(ctx, "usage", maxPartitions+1); err == nil || !strings.Contains(err.Error(), "1 to 1024") {
		t.Errorf("attach with too many partitions: %v", err)
	}
}

// A block of more months than one INSERT may have is stored whole, and every number
// within the bounds comes back as it was.
func TestManyMonthsAndLimits(t *testing.T) {
	s := open(t)
	m := new(meteringtest.Model)
	var es []metering.Event
	for i := range 130 {
		es = append(es, meteringtest.Call(fmt.Sprint("m", i), "scheduler", day.AddDate(0, -i, 0)))
	}
	es = append(es,
		meteringtest.Call("first", "scheduler", time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)),
		meteringtest.Call("last", "scheduler", time.Date(2261, 12, 31, 23, 59, 59, 999_999_000, time.UTC)),
		meteringtest.Call("large", "other", day, func(e *metering.Event) {
			e.Data.Quantity, e.Data.LatencyMS = meteringtest.Decimal("9223372036854775807.999999999"), meteringtest.Decimal("9999999999999.999999999")
			e.Data.Amount, e.Data.Currency = meteringtest.Decimal("92233720368547758.07"), "USD"
			e.Data.TaxAmount, e.Data.Fee = meteringtest.Decimal("-92233720368547758.08"), meteringtest.Decimal("-0.01")
			e.Data.Status, e.Data.PaidMonths, e.Data.Bytes = 1<<16-1, 1<<16-1, -1
			e.Data.Region, e.Data.Reference, e.Data.Dimensions = `quote ' and \ and "`, "line\nand tab\t, zero \x00", map[string]string{"a": `b'\"`}
		}))
	f := newFeed()
	again := make([]metering.Event, 0, len(es))
	for _, e := range es {
		e.Data.Operation = "another"
		again = append(again, e)
	}
	fill(t, s, m, f.Block(0, es), f.Block(0, es, again))
	s.options.MaxRows = 70           // now in several INSERTs of few months
	es = es[: len(es)-1 : len(es)-1] // twice the largest amount is too much
	for i := range es {
		es[i].ID += "-2"
	}
	fill(t, s, m, f.Block(0, es))
	same(t, s, m)
	meteringtest.Compare(t, s, m, metering.Span{Start: time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC), End: time.Date(1900, 1, 1, 0, 0, 0, 1, time.UTC)})
	meteringtest.Compare(t, s, m, metering.Span{Start: time.Date(2261, 12, 31, 0, 0, 0, 0, time.UTC), End: time.Date(2262, 6, 1, 0, 0, 0, 0, time.UTC)})
}
