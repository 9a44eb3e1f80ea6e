package meteringtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mete/metering"
	"mete/partner"
)

// TestStore checks every promise of [metering.Store]. Open returns a new, empty
// store; one that is an [io.Closer] is closed after use.
func TestStore(t *testing.T, open func(t *testing.T) metering.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, metering.Store, *Feed)
	}{
		{"EmptyStore", testEmpty},
		{"IncarnationIsOne", testIncarnation},
		{"ResentBlockCountsOnce", testResent},
		{"OverlapIsStoredFromThePositionOn", testOverlap},
		{"GapIsRefused", testGap},
		{"DuplicatesAndConflicts", testDuplicates},
		{"AbsentTimeIsNoConflict", testAbsentTime},
		{"IgnoredIsCountedByApp", testIgnored},
		{"UndecodedIsCounted", testUndecoded},
		{"EveryFieldComesBack", testFields},
		{"VoidsInEveryOrder", testVoids},
		{"VoidOfVoidIsIgnored", testVoidOfVoid},
		{"CutoffsHold", testCutoffs},
		{"CutoffNamesPartitions", testCutoffPartitions},
		{"LateNamesMonths", testLate},
		{"SumsAreExact", testSums},
		{"OverflowIsAnError", testOverflow},
		{"BoundsAreHalfOpen", testBounds},
		{"SandboxApart", testSandbox},
		{"FilterNamesEvents", testFilter},
		{"BigBlock", testBigBlock},
		{"IteratorsEndEarly", testIterators},
		{"CancelledAppendLeavesNothing", testCancelled},
		{"ReadersWhileAppending", testReaders},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := opened(t, open)
			f := NewFeed()
			f.Partitions = partitions
			if c.name != "IncarnationIsOne" {
				attach(t, s, partitions)
			}
			c.test(t, s, f)
		})
	}
	t.Run("AgainstTheModel", func(t *testing.T) { testModel(t, open) })
}

// partitions is how many the suite's stream has.
const partitions = 3

// in is the id under which an event of the source gateway lies in the partition.
func in(partition int, id string) string { return In("gateway", id, partition, partitions) }

// stream is the suite's stream.
const stream = "usage-main"

func opened(t *testing.T, open func(t *testing.T) metering.Store) metering.Store {
	t.Helper()
	s := open(t)
	closeAfter(t, s)
	return s
}

// closeAfter closes what can be closed when the test has ended.
func closeAfter(t *testing.T, what any) {
	if c, ok := what.(io.Closer); ok {
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

func attach(t tester, s metering.Store, n int) {
	t.Helper()
	i, err := s.Attach(context.Background(), stream, n)
	if err != nil || i != 1 {
		t.Fatalf("Attach = %d, %v, want incarnation 1", i, err)
	}
}

// tester is what *testing.T and *rapid.T share.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// day is the instant that most tests lie around.
var day = time.Date(2026, 9, 10, 12, 0, 0, 0, time.UTC)

func add(t tester, s metering.Store, b metering.Block, want metering.Outcome) {
	t.Helper()
	got, err := s.Append(context.Background(), b)
	if err != nil {
		t.Fatalf("append messages %d to %d of partition %d: %v", b.First, b.Last, b.Partition, err)
	}
	if got != want {
		t.Fatalf("append messages %d to %d of partition %d: got %+v, want %+v", b.First, b.Last, b.Partition, got, want)
	}
}

func collect[T any](t tester, what string, seq iter.Seq2[T, error]) []T {
	t.Helper()
	var all []T
	for v, err := range seq {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		all = append(all, v)
	}
	return all
}

func wantCounts(t tester, s metering.Store, c metering.Cutoff, want metering.Counts) {
	t.Helper()
	got, err := s.Counts(context.Background(), c)
	if err != nil {
		t.Fatalf("counts: %v", err)
	}
	if got != want {
		t.Errorf("counts up to %v:\n got %+v\nwant %+v", c, got, want)
	}
}

func wantPosition(t tester, s metering.Store, partition int, want uint64) {
	t.Helper()
	got, err := s.Position(context.Background(), partition)
	if err != nil || got != want {
		t.Errorf("position of partition %d = %d, %v, want %d", partition, got, err, want)
	}
}

func cutoff(t tester, s metering.Store) metering.Cutoff {
	t.Helper()
	c, err := s.Cutoff(context.Background())
	if err != nil {
		t.Fatalf("cutoff: %v", err)
	}
	return c
}

// count is how many events all cells of the span count.
func count(t tester, s metering.Store, sp metering.Span) int64 {
	t.Helper()
	var n int64
	for _, u := range collect(t, "usage", s.Usage(context.Background(), sp)) {
		n += u.Count
	}
	return n
}

func wantCount(t tester, s metering.Store, sp metering.Span, want int64) {
	t.Helper()
	if got := count(t, s, sp); got != want {
		t.Errorf("usage of %+v counts %d, want %d", sp, got, want)
	}
}

func found(t tester, s metering.Store, id string) metering.Found {
	t.Helper()
	f, err := s.Find(context.Background(), metering.KeyOf("gateway", id))
	if err != nil {
		t.Fatalf("find %s: %v", id, err)
	}
	return f
}

func testEmpty(t *testing.T, s metering.Store, _ *Feed) {
	ctx := context.Background()
	wantPosition(t, s, 0, 0)
	wantCounts(t, s, nil, metering.Counts{})
	wantCount(t, s, metering.Span{}, 0)
	c := cutoff(t, s)
	if len(c) != partitions {
		t.Errorf("cutoff of an empty store = %v, want all %d partitions at 0", c, partitions)
	}
	for i, p := range c {
		if p != (metering.PartitionCutoff{Incarnation: 1, Partition: i}) {
			t.Errorf("cutoff %d of an empty store = %+v", i, p)
		}
	}
	if f := found(t, s, "nothing"); f.Event != nil || f.Voided != nil || len(f.Duplicates)+len(f.Conflicts) > 0 {
		t.Errorf("an unknown key is found: %+v", f)
	}
	if l, err := s.Late(ctx, metering.Span{}); err != nil || len(l) != 0 {
		t.Errorf("late = %v, %v", l, err)
	}
}

func testIncarnation(t *testing.T, s metering.Store, f *Feed) {
	ctx := context.Background()
	if _, err := s.Append(ctx, f.Block(0, Calls("a", 1, "scheduler", day))); !errors.Is(err, metering.ErrIncarnation) {
		t.Errorf("append before a stream is attached: %v, want ErrIncarnation", err)
	}
	attach(t, s, 2)
	attach(t, s, 2)
	_, err := s.Attach(ctx, "usage-copy", 2)
	if !errors.Is(err, metering.ErrIncarnation) {
		t.Fatalf("attach of another stream: %v, want ErrIncarnation", err)
	}
	for _, name := range []string{stream, "usage-copy"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not name stream %s: %v", name, err)
		}
	}
	if _, err := s.Attach(ctx, stream, 3); !errors.Is(err, metering.ErrIncarnation) {
		t.Errorf("attach with another number of partitions: %v, want ErrIncarnation", err)
	}
	f = NewFeed()
	f.Incarnation, f.Partitions = 2, 2
	if _, err := s.Append(ctx, f.Block(0, Calls("a", 1, "scheduler", day))); !errors.Is(err, metering.ErrIncarnation) {
		t.Errorf("append of incarnation 2: %v, want ErrIncarnation", err)
	}
	wantCounts(t, s, nil, metering.Counts{})
	f = NewFeed()
	f.Partitions = 2
	add(t, s, f.Block(1, Calls("a", 1, "scheduler", day)), metering.Outcome{Stored: 1})
}

func testResent(t *testing.T, s metering.Store, f *Feed) {
	a := f.Block(0, Calls("a", 3, "scheduler", day), Calls("b", 2, "scheduler", day))
	add(t, s, a, metering.Outcome{Stored: 5})
	b := f.Block(0, Calls("c", 1, "scheduler", day))
	add(t, s, b, metering.Outcome{Stored: 1})
	want := metering.Counts{Messages: 3, Announced: 6, Stored: 6, Keys: 6}
	for range 3 {
		add(t, s, a, metering.Outcome{})
		add(t, s, b, metering.Outcome{})
		wantCounts(t, s, nil, want)
		wantPosition(t, s, 0, 3)
	}
	wantPosition(t, s, 1, 0)
}

func testOverlap(t *testing.T, s metering.Store, f *Feed) {
	a := f.Block(1, Calls("a", 2, "scheduler", day), Calls("b", 2, "scheduler", day), Calls("c", 2, "scheduler", day))
	part := a
	part.Last, part.Messages = 2, a.Messages[:2]
	add(t, s, part, metering.Outcome{Stored: 4})
	add(t, s, a, metering.Outcome{Stored: 2})
	wantCounts(t, s, nil, metering.Counts{Messages: 3, Announced: 6, Stored: 6, Keys: 6})
	wantPosition(t, s, 1, 3)
}

func testGap(t *testing.T, s metering.Store, f *Feed) {
	ctx := context.Background()
	a := f.Block(0, Calls("a", 1, "scheduler", day))
	b := f.Block(0, Calls("b", 1, "scheduler", day), Calls("c", 1, "scheduler", day), Calls("d", 1, "scheduler", day))
	if _, err := s.Append(ctx, b); !errors.Is(err, metering.ErrGap) {
		t.Errorf("append of message 2 into an empty store: %v, want ErrGap", err)
	}
	add(t, s, a, metering.Outcome{Stored: 1})
	hole := b
	hole.Messages = []metering.Message{b.Messages[0], b.Messages[2]}
	if _, err := s.Append(ctx, hole); !errors.Is(err, metering.ErrGap) {
		t.Errorf("append of a block without its message 3: %v, want ErrGap", err)
	}
	wantCounts(t, s, nil, metering.Counts{Messages: 1, Announced: 1, Stored: 1, Keys: 1})
	wantPosition(t, s, 0, 1)
	add(t, s, b, metering.Outcome{Stored: 3})
}

func testDuplicates(t *testing.T, s metering.Store, f *Feed) {
	a := in(0, "a")
	call := Call(a, "scheduler", day)
	later := Call(a, "scheduler", day.AddDate(0, 3, 0)) // the same identity, another time
	other := Call(a, "billing", day)
	add(t, s, f.Block(0, []metering.Event{call, call}, []metering.Event{call}), metering.Outcome{Stored: 1, Duplicate: 2})
	add(t, s, f.Block(0, []metering.Event{call, later, Call("b", "scheduler", day)}), metering.Outcome{Stored: 1, Duplicate: 1, Conflict: 1})
	add(t, s, f.Block(0, []metering.Event{other, call, other}), metering.Outcome{Duplicate: 1, Conflict: 2})
	// Conflicts inside the block that stores the first.
	add(t, s, f.Block(1, []metering.Event{Call("c", "scheduler", day), Call("c", "billing", day), Call("c", "scheduler", day)}),
		metering.Outcome{Stored: 1, Duplicate: 1, Conflict: 1})
	wantCounts(t, s, nil, metering.Counts{Messages: 5, Announced: 12, Stored: 3, Keys: 3, Duplicate: 5, Conflict: 4})
	wantCount(t, s, metering.Span{}, 3)
	wantCount(t, s, metering.Span{Start: day.AddDate(0, 1, 0)}, 0)

	got := found(t, s, a)
	if got.Event == nil || got.Event.Data.App != "scheduler" || !got.Event.Time.Equal(day) ||
		got.Event.Position != (metering.Position{Incarnation: 1, Sequence: 1}) {
		t.Errorf("find a: stored %+v, want the first", got.Event)
	}
	wantDuplicates := []metering.Position{
		{Incarnation: 1, Partition: 0, Sequence: 1, Index: 1}, {Incarnation: 1, Partition: 0, Sequence: 2, Index: 0},
		{Incarnation: 1, Partition: 0, Sequence: 3, Index: 0}, {Incarnation: 1, Partition: 0, Sequence: 4, Index: 1}}
	if !slices.Equal(got.Duplicates, wantDuplicates) {
		t.Errorf("find a: duplicates %+v, want %+v", got.Duplicates, wantDuplicates)
	}
	if len(got.Conflicts) != 3 || text(&got.Conflicts[0]) != text(ptr(f.accepted(later, 0, 3, 1, got.Conflicts[0].AcceptedAt))) {
		t.Errorf("find a: conflicts %+v, want the three others as sent", got.Conflicts)
	}
}

// accepted is the event as the feed laid it.
func (f *Feed) accepted(e metering.Event, partition int, sequence uint64, index int, at time.Time) metering.Accepted {
	return metering.Accepted{Event: e, Key: e.Key(), Hash: metering.ContentHash(e), AcceptedAt: at,
		Position: metering.Position{Incarnation: f.Incarnation, Partition: partition, Sequence: sequence, Index: index}}
}

func ptr[T any](v T) *T { return &v }

func testAbsentTime(t *testing.T, s metering.Store, f *Feed) {
	call := Call("a", "scheduler", time.Time{}, func(e *metering.Event) { e.TimeAbsent = true })
	first := f.At
	add(t, s, f.Block(0, []metering.Event{call}), metering.Outcome{Stored: 1})
	f.At = f.At.AddDate(0, 1, 0)
	add(t, s, f.Block(0, []metering.Event{call}), metering.Outcome{Duplicate: 1})
	if got := found(t, s, in(0, "a")); got.Event == nil || !got.Event.TimeAbsent || !got.Event.Time.Equal(first) {
		t.Errorf("find a: %+v, want the time of the first acceptance %s, marked", got.Event, first)
	}
}

func testIgnored(t *testing.T, s metering.Store, f *Feed) {
	a, b, c := Call("a", "scheduler", day), Call("b", "billing", day), Call("c", "scheduler", day.AddDate(0, 1, 0))
	moved := Call("a", "billing", day.AddDate(0, 1, 0)) // counts where the stored event is
	add(t, s, f.Block(0, []metering.Event{a, b, c, a, c}), metering.Outcome{Stored: 3, Duplicate: 2})
	early := cutoff(t, s)
	add(t, s, f.Block(0, []metering.Event{a, moved, b}), metering.Outcome{Duplicate: 2, Conflict: 1})
	month := metering.Span{End: day.AddDate(0, 0, 1)}
	for _, c := range []struct {
		after, upTo metering.Cutoff
		apps        []partner.AppID
		want        []metering.Ignored
	}{
		{nil, nil, nil, []metering.Ignored{{App: "billing", Duplicates: 1}, {App: "scheduler", Duplicates: 2, Conflicts: 1}}},
		{nil, early, nil, []metering.Ignored{{App: "scheduler", Duplicates: 1}}},
		{early, nil, nil, []metering.Ignored{{App: "billing", Duplicates: 1}, {App: "scheduler", Duplicates: 1, Conflicts: 1}}},
		{nil, nil, []partner.AppID{"billing"}, []metering.Ignored{{App: "billing", Duplicates: 1}}},
		{nil, metering.Cutoff{}, nil, nil},
	} {
		sp := month
		sp.After, sp.UpTo, sp.Apps = c.after, c.upTo, c.apps
		got, err := s.Ignored(context.Background(), sp)
		if err != nil || ignoredText(got) != ignoredText(c.want) {
			t.Errorf("ignored of %+v = %+v, %v, want %+v", sp, got, err, c.want)
		}
	}
}

func testUndecoded(t *testing.T, s metering.Store, f *Feed) {
	add(t, s, f.Messages(0,
		Message{Events: Calls("a", 2, "scheduler", day), Undecoded: []string{"truncated", "unknown version"}},
		Message{Undecoded: []string{"truncated"}},
		Message{}), metering.Outcome{Stored: 2, Undecoded: 3})
	wantCounts(t, s, nil, metering.Counts{Messages: 3, Announced: 5, Stored: 2, Keys: 2, Undecoded: 3})
	wantCounts(t, s, metering.Cutoff{{Incarnation: 1, Partition: 0, Sequence: 1}}, metering.Counts{Messages: 1, Announced: 4, Stored: 2, Keys: 2, Undecoded: 2})
	wantPosition(t, s, 0, 3)
}

// everyField is an event in which no field is empty.
func everyField() metering.Event {
	return metering.Event{ID: "all/fields ü", Source: "billing", Type: metering.SalePaid, Time: day.Add(123456 * time.Microsecond), Customer: "practice-9",
		Data: metering.Data{App: "scheduler", Operation: "subscription", Class: metering.Marketplace, Quantity: Decimal("-12.000000001"), Unit: "seat",
			Amount: Decimal("1234567.80"), TaxAmount: Decimal("-0.01"), Fee: Decimal("3"), Currency: "USD", Status: 402, LatencyMS: Decimal("1000.0625"),
			Bytes: 1 << 40, Environment: metering.Sandbox, Deal: "deal-1", Lead: "lead-1", RefersTo: "earlier", Reference: "INV-7", Region: "us-tx", PaidMonths: 12,
			Dimensions: map[string]string{"zone": "east", "plan": `a "b" <c> & d`}}}
}

func testFields(t *testing.T, s metering.Store, f *Feed) {
	yen := everyField()
	yen.ID, yen.Data.Currency, yen.Data.Amount, yen.Data.TaxAmount, yen.Data.Fee = "yen", "JPY", Decimal("5000"), Decimal("500"), nil
	dinar := everyField()
	dinar.ID, dinar.Data.Currency, dinar.Data.Amount = "dinar", "KWD", Decimal("1.005")
	zero := everyField()
	zero.ID, zero.Data.Quantity, zero.Data.Amount = "zero", Decimal("0"), Decimal("0")
	bare := metering.Event{ID: "bare", Source: "s", Type: metering.FeeDue, Time: day}
	sent := f.Block(0, []metering.Event{everyField(), yen, dinar, zero, bare})
	add(t, s, sent, metering.Outcome{Stored: 5})
	for i := range sent.Messages[0].Events {
		e := &sent.Messages[0].Events[i]
		got, err := s.Find(context.Background(), e.Key)
		if err != nil || got.Event == nil {
			t.Fatalf("find %s: %+v, %v", e.ID, got, err)
		}
		if text(got.Event) != text(e) {
			t.Errorf("find %s:\n got %s\nwant %s", e.ID, text(got.Event), text(e))
		}
		if metering.ContentHash(got.Event.Event) != e.Hash {
			t.Errorf("event %s came back with another content hash: %s", e.ID, text(got.Event))
		}
	}
}

func testVoids(t *testing.T, s metering.Store, f *Feed) {
	at := day.AddDate(0, 1, 0) // voids come in another month
	sale := metering.Event{ID: "sale", Source: "gateway", Type: metering.SalePaid, Time: day, Data: metering.Data{App: "scheduler", Amount: Decimal("9.00"), Currency: "USD"}}
	add(t, s, f.Block(0, []metering.Event{Void("v-before", in(1, "before"), at)}), metering.Outcome{Stored: 1})
	add(t, s, f.Block(1, []metering.Event{Call("before", "scheduler", day), Call("after", "scheduler", day), sale}), metering.Outcome{Stored: 3})
	add(t, s, f.Block(1, []metering.Event{Void("v-inside-1", in(1, "inside-1"), at), Call("inside-1", "scheduler", day), Call("inside-2", "scheduler", day), Void("v-inside-2", in(1, "inside-2"), at)}),
		metering.Outcome{Stored: 4})
	add(t, s, f.Block(1, []metering.Event{Call("stays", "scheduler", day)}), metering.Outcome{Stored: 1})
	early := cutoff(t, s)
	add(t, s, f.Block(2, []metering.Event{Void("v-after", in(1, "after"), at), Void("v-sale", in(1, "sale"), at), Void("v-nobody", in(0, "nobody"), at)}), metering.Outcome{Stored: 3})
	foreign := Void("v-foreign", in(1, "stays"), at)
	foreign.Source = "another"
	add(t, s, f.Block(2, []metering.Event{foreign, Void("v-after-again", in(1, "after"), at)}), metering.Outcome{Stored: 2})

	wantCount(t, s, metering.Span{}, 1)
	wantCount(t, s, metering.Span{UpTo: early}, 3) // after, sale and stays
	if ts := collect(t, "transactions", s.Transactions(context.Background(), metering.Span{}, []string{metering.SalePaid})); len(ts) != 0 {
		t.Errorf("a voided sale is still among the transactions: %+v", ts)
	}
	if ts := collect(t, "transactions", s.Transactions(context.Background(), metering.Span{UpTo: early}, []string{metering.SalePaid})); len(ts) != 1 {
		t.Errorf("transactions before the void = %+v, want the sale", ts)
	}
	wantCounts(t, s, nil, metering.Counts{Messages: 6, Announced: 14, Stored: 14, Keys: 14, Voided: 5})
	wantCounts(t, s, early, metering.Counts{Messages: 4, Announced: 9, Stored: 9, Keys: 9, Voided: 3})
	if got := found(t, s, in(1, "after")); got.Voided == nil || *got.Voided != (metering.Position{Incarnation: 1, Partition: 2, Sequence: 1}) {
		t.Errorf("find after: voided by %+v, want the first void", got.Voided)
	}
	if got := found(t, s, in(1, "stays")); got.Voided != nil {
		t.Errorf("find stays: voided by an event of another source: %+v", got.Voided)
	}
	// The target of a void comes last, after the early cutoff was taken.
	add(t, s, f.Block(0, []metering.Event{Call("nobody", "scheduler", day)}), metering.Outcome{Stored: 1})
	wantCount(t, s, metering.Span{}, 1)
	wantCount(t, s, metering.Span{UpTo: early}, 3)
}

func testVoidOfVoid(t *testing.T, s metering.Store, f *Feed) {
	add(t, s, f.Block(0, []metering.Event{Call("a", "scheduler", day), Void("v", in(0, "a"), day), Void("w", in(0, "v"), day), Void("self", in(0, "self"), day)}), metering.Outcome{Stored: 4})
	wantCount(t, s, metering.Span{}, 0)
	wantCounts(t, s, nil, metering.Counts{Messages: 1, Announced: 4, Stored: 4, Keys: 4, Voided: 1})
	if got := found(t, s, in(0, "v")); got.Voided != nil {
		t.Errorf("find v: a void was voided: %+v", got.Voided)
	}
	if ts := collect(t, "transactions", s.Transactions(context.Background(), metering.Span{}, []string{metering.UsageVoided})); len(ts) != 3 {
		t.Errorf("transactions of type usage.voided = %d, want all 3", len(ts))
	}
}

func testCutoffs(t *testing.T, s metering.Store, f *Feed) {
	add(t, s, f.Block(0, Calls("a", 3, "scheduler", day)), metering.Outcome{Stored: 3})
	add(t, s, f.Block(1, Calls("b", 4, "billing", day)), metering.Outcome{Stored: 4})
	first := cutoff(t, s)
	add(t, s, f.Block(1, Calls("c", 5, "billing", day), Calls("d", 6, "billing", day)), metering.Outcome{Stored: 11})
	add(t, s, f.Block(0, append(Calls("e", 7, "scheduler", day), Void("v", in(0, "a-0"), day))), metering.Outcome{Stored: 8})
	add(t, s, f.Block(2, Calls("g", 9, "billing", day)), metering.Outcome{Stored: 9})
	second := cutoff(t, s)
	add(t, s, f.Block(2, Calls("h", 10, "scheduler", day)), metering.Outcome{Stored: 10})

	wantCount(t, s, metering.Span{UpTo: first}, 7)
	wantCount(t, s, metering.Span{After: first, UpTo: second}, 27)
	wantCount(t, s, metering.Span{After: second}, 10)
	wantCount(t, s, metering.Span{After: first}, 37)
	wantCount(t, s, metering.Span{UpTo: second}, 33) // a-0 is voided
	wantCount(t, s, metering.Span{After: second, UpTo: first}, 0)
	wantCount(t, s, metering.Span{UpTo: first, Apps: []partner.AppID{"billing"}}, 4)
	wantCount(t, s, metering.Span{UpTo: first, Apps: []partner.AppID{}}, 0)
	wantCounts(t, s, first, metering.Counts{Messages: 2, Announced: 7, Stored: 7, Keys: 7})
	// A cutoff in the middle, as no moment had it.
	middle := metering.Cutoff{{Incarnation: 1, Partition: 1, Sequence: 2}, {Incarnation: 1, Partition: 2, Sequence: 1}}
	wantCount(t, s, metering.Span{UpTo: middle}, 4+5+9)
	wantCounts(t, s, middle, metering.Counts{Messages: 3, Announced: 18, Stored: 18, Keys: 18})
	wantCount(t, s, metering.Span{After: middle}, 2+7+6+10) // all else but a-0, which is voided
	// A cutoff ahead of what is stored.
	for _, ahead := range []uint64{1000, math.MaxUint64} {
		sp := metering.Span{UpTo: metering.Cutoff{{Incarnation: 1, Partition: 0, Sequence: ahead}}}
		if !behind(t, s, sp) {
			wantCount(t, s, sp, 2+7)
		}
	}
}

// behind reports whether the store fails to answer because the span goes beyond what is
// stored. Where it does not, that is an error.
func behind(t tester, s metering.Store, sp metering.Span) bool {
	t.Helper()
	ctx := context.Background()
	_, err := s.Counts(ctx, sp.UpTo)
	if !errors.Is(err, metering.ErrBehind) {
		return false
	}
	beyond := false
	for _, p := range sp.UpTo {
		stored, err := s.Position(ctx, p.Partition)
		if err != nil {
			t.Fatalf("position of partition %d: %v", p.Partition, err)
		}
		beyond = beyond || p.Sequence > stored
	}
	if !beyond {
		t.Fatalf("counts up to %v: %v, want an answer: all of it is stored", sp.UpTo, err)
	}
	for _, err := range s.Usage(ctx, sp) {
		if !errors.Is(err, metering.ErrBehind) {
			t.Fatalf("usage up to %v: %v, want ErrBehind as from counts", sp.UpTo, err)
		}
	}
	for _, err := range s.Events(ctx, sp, metering.Filter{}) {
		if !errors.Is(err, metering.ErrBehind) {
			t.Fatalf("events up to %v: %v, want ErrBehind as from counts", sp.UpTo, err)
		}
	}
	for _, err := range s.Transactions(ctx, sp, someTypes) {
		if !errors.Is(err, metering.ErrBehind) {
			t.Fatalf("transactions up to %v: %v, want ErrBehind as from counts", sp.UpTo, err)
		}
	}
	if _, err := s.Late(ctx, sp); !errors.Is(err, metering.ErrBehind) {
		t.Fatalf("late up to %v: %v, want ErrBehind as from counts", sp.UpTo, err)
	}
	if _, err := s.Ignored(ctx, sp); !errors.Is(err, metering.ErrBehind) {
		t.Fatalf("ignored up to %v: %v, want ErrBehind as from counts", sp.UpTo, err)
	}
	return true
}

func testCutoffPartitions(t *testing.T, s metering.Store, f *Feed) {
	add(t, s, f.Block(0, Calls("a", 1, "scheduler", day)), metering.Outcome{Stored: 1})
	add(t, s, f.Block(1, Calls("b", 2, "scheduler", day)), metering.Outcome{Stored: 2})
	one := metering.Cutoff{{Incarnation: 1, Partition: 1, Sequence: 1}}
	wantCount(t, s, metering.Span{UpTo: one}, 2)               // nothing of partition 0
	wantCount(t, s, metering.Span{After: one}, 1)              // partition 0 from its start
	wantCount(t, s, metering.Span{UpTo: metering.Cutoff{}}, 0) // names no partition
	wantCount(t, s, metering.Span{After: metering.Cutoff{}}, 3)
	wantCounts(t, s, metering.Cutoff{}, metering.Counts{})
	wantCount(t, s, metering.Span{UpTo: metering.Cutoff{{Incarnation: 2, Partition: 0, Sequence: 0}}}, 1) // a later stream
	wantCount(t, s, metering.Span{UpTo: metering.Cutoff{{Incarnation: 0, Partition: 0, Sequence: 9}}}, 0) // an earlier one
}

func testLate(t *testing.T, s metering.Store, f *Feed) {
	september, october := day, day.AddDate(0, 1, 0)
	end := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	add(t, s, f.Block(0, []metering.Event{Call("a", "scheduler", september), Call("b", "billing", september.AddDate(0, -1, 0))}), metering.Outcome{Stored: 2})
	closed := cutoff(t, s)
	add(t, s, f.Block(1, []metering.Event{
		Call("c", "scheduler", september.Add(time.Hour)), Call("d", "scheduler", september), Call("e", "scheduler", september.AddDate(0, -2, 0)),
		Call("f", "scheduler", october), Void("v", in(0, "b"), october), Void("w", in(1, "unknown"), september)}), metering.Outcome{Stored: 6})
	next := cutoff(t, s)
	add(t, s, f.Block(1, []metering.Event{Call("unknown", "billing", september)}), metering.Outcome{Stored: 1})
	want := []metering.Late{
		{App: "billing", Month: "2026-08", Count: 1, Earliest: september.AddDate(0, -1, 0)}, // where the void's target is
		{App: "scheduler", Month: "2026-07", Count: 1, Earliest: september.AddDate(0, -2, 0)},
		{App: "scheduler", Month: "2026-09", Count: 2, Earliest: september},
	}
	wantLate(t, s, metering.Span{End: end, After: closed, UpTo: next}, want)
	wantLate(t, s, metering.Span{End: end, After: closed, UpTo: next, Apps: []partner.AppID{"billing"}}, want[:1])
	// The void without target changes its month once the target is there.
	wantLate(t, s, metering.Span{End: end, After: next}, []metering.Late{{App: "billing", Month: "2026-09", Count: 1, Earliest: september}})
	wantLate(t, s, metering.Span{End: end, UpTo: closed, After: closed}, nil)
}

func wantLate(t tester, s metering.Store, sp metering.Span, want []metering.Late) {
	t.Helper()
	got, err := s.Late(context.Background(), sp)
	if err != nil {
		t.Fatalf("late: %v", err)
	}
	if g, w := lateText(got), lateText(want); g != w {
		t.Errorf("late of %+v:\n got %s\nwant %s", sp, g, w)
	}
}

func testSums(t *testing.T, s metering.Store, f *Feed) {
	quantity := func(id, q, amount string) metering.Event {
		return Call(id, "scheduler", day, func(e *metering.Event) {
			e.Data.Quantity, e.Data.Amount, e.Data.Currency, e.Data.Bytes = Decimal(q), Decimal(amount), "USD", 1<<52
			e.Data.LatencyMS = Decimal("1000")
		})
	}
	slow := quantity("slow", "0.1", "0.10")
	slow.Data.LatencyMS = Decimal("1000.000001")
	absent := quantity("absent", "0", "0.20")
	absent.Data.Quantity = nil
	add(t, s, f.Block(0, []metering.Event{
		quantity("tiny", "0.000000001", "0.01"), quantity("tiny-2", "0.999999999", "0.02"), quantity("minus", "-0.000000003", "-0.05"),
		quantity("big", "4611686018427387903.123456789", "46116860184273879.03"), slow, absent,
	}), metering.Outcome{Stored: 6})
	us := collect(t, "usage", s.Usage(context.Background(), metering.Span{}))
	if len(us) != 1 {
		t.Fatalf("usage = %d cells, want 1", len(us))
	}
	want := metering.Usage{App: "scheduler", Customer: "practice-1", Type: metering.UsageAPI, Class: metering.ValueAdded, Operation: "appointment.book",
		Unit: "call", Currency: "USD", Status: 200, Count: 6, Quantity: *Decimal("4611686018427387905.223456786"), Bytes: 6 << 52,
		Amount: *Decimal("46116860184273879.31"), Slow: 1}
	if cellText(us[0]) != cellText(want) {
		t.Errorf("usage:\n got %s\nwant %s", cellText(us[0]), cellText(want))
	}
}

func testOverflow(t *testing.T, s metering.Store, f *Feed) {
	ctx := context.Background()
	bytes := func(id string, app partner.AppID, n int64) metering.Event {
		return Call(id, app, day, func(e *metering.Event) { e.Data.Bytes = n })
	}
	big := Decimal("9000000000000000000.5")
	quantity := func(id string) metering.Event {
		return Call(id, "big", day, func(e *metering.Event) { e.Data.Quantity = big })
	}
	add(t, s, f.Block(0, []metering.Event{bytes("a", "wide", math.MaxInt64), bytes("b", "wide", 1), bytes("c", "narrow", 7)}), metering.Outcome{Stored: 3})
	add(t, s, f.Block(0, []metering.Event{quantity("d"), quantity("e")}), metering.Outcome{Stored: 2})
	var failed error
	for u, err := range s.Usage(ctx, metering.Span{Apps: []partner.AppID{"wide"}}) {
		if err != nil {
			failed = err
			break
		}
		t.Errorf("a sum beyond 64 bits came back as %d", u.Bytes)
	}
	if failed == nil {
		t.Error("a sum beyond 64 bits is no error")
	}
	for u, err := range s.Usage(ctx, metering.Span{Apps: []partner.AppID{"big"}}) { // exact or refused, never wrong
		if err == nil && !u.Quantity.Equal(*Decimal("18000000000000000001")) {
			t.Errorf("quantity = %s", u.Quantity)
		}
	}
	us := collect(t, "usage", s.Usage(ctx, metering.Span{Apps: []partner.AppID{"narrow"}}))
	if len(us) != 1 || us[0].Bytes != 7 {
		t.Errorf("usage of another app = %+v", us)
	}
}

func testBounds(t *testing.T, s metering.Store, f *Feed) {
	us := time.Microsecond
	start, end := time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 26, 0, 0, 0, 0, time.UTC)
	add(t, s, f.Block(0, []metering.Event{
		Call("before", "scheduler", start.Add(-us)), Call("first", "scheduler", start),
		Call("last", "scheduler", end.Add(-us)), Call("after", "scheduler", end), Call("long-ago", "scheduler", time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC)),
	}), metering.Outcome{Stored: 5})
	sp := metering.Span{Start: start, End: end}
	wantCount(t, s, sp, 2)
	if zone, err := time.LoadLocation("Europe/Berlin"); err == nil { // the same instants, on a day of 25 hours
		wantCount(t, s, metering.Span{Start: start.In(zone), End: end.In(zone)}, 2)
	}
	wantCount(t, s, metering.Span{Start: start.Add(1), End: end}, 1)
	wantCount(t, s, metering.Span{Start: start, End: end.Add(1)}, 3)
	wantCount(t, s, metering.Span{Start: start, End: start}, 0)
	wantCount(t, s, metering.Span{End: start}, 2)
	wantCount(t, s, metering.Span{Start: end}, 1)
	wantCount(t, s, metering.Span{Start: time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC), End: start}, 2)
	wantLate(t, s, metering.Span{End: time.Unix(0, 0)}, []metering.Late{{App: "scheduler", Month: "1969-12", Count: 1, Earliest: time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC)}})
	got := collect(t, "transactions", s.Transactions(context.Background(), sp, []string{metering.UsageAPI}))
	if len(got) != 2 || got[0].ID != in(0, "first") || got[1].ID != in(0, "last") {
		t.Errorf("transactions of the day = %+v", got)
	}
}

func testSandbox(t *testing.T, s metering.Store, f *Feed) {
	from := func(id string, env metering.Environment) metering.Event {
		return Call(id, "scheduler", day, func(e *metering.Event) { e.Data.Environment = env })
	}
	add(t, s, f.Block(0, []metering.Event{from("a", ""), from("b", metering.Sandbox), from("c", metering.Sandbox), from("d", metering.Production), Void("v", in(0, "c"), day)}), metering.Outcome{Stored: 5})
	got := map[metering.Environment]int64{}
	for _, u := range collect(t, "usage", s.Usage(context.Background(), metering.Span{})) {
		got[u.Environment] += u.Count
	}
	if len(got) != 3 || got[metering.Sandbox] != 1 || got[""] != 1 || got[metering.Production] != 1 {
		t.Errorf("usage by environment = %v, want each apart", got)
	}
	wantCounts(t, s, nil, metering.Counts{Messages: 1, Announced: 5, Stored: 5, Keys: 5, Sandbox: 2, Voided: 1})
}

func testFilter(t *testing.T, s metering.Store, f *Feed) {
	other := func(id string, change func(*metering.Event)) metering.Event {
		return Call(id, "scheduler", day, change)
	}
	add(t, s, f.Block(0, []metering.Event{
		Call("a", "scheduler", day.Add(time.Minute)),
		other("customer", func(e *metering.Event) { e.Customer = "practice-2" }),
		other("operation", func(e *metering.Event) { e.Data.Operation = "chart.read" }),
		other("class", func(e *metering.Event) { e.Data.Class = metering.API }),
		other("type", func(e *metering.Event) { e.Type = metering.SupportOpened }),
		Call("app", "billing", day), Call("gone", "scheduler", day), Void("v", in(0, "gone"), day),
	}), metering.Outcome{Stored: 8})
	ids := func(sp metering.Span, fl metering.Filter) string {
		var ids []string
		for _, e := range collect(t, "events", s.Events(context.Background(), sp, fl)) {
			id, _, _ := strings.Cut(e.ID, "~")
			ids = append(ids, id)
		}
		slices.Sort(ids)
		return strings.Join(ids, " ")
	}
	for _, c := range []struct {
		span   metering.Span
		filter metering.Filter
		want   string
	}{
		{metering.Span{}, metering.Filter{}, "a app class customer operation type v"},
		{metering.Span{}, metering.Filter{Voided: true}, "a app class customer gone operation type v"},
		{metering.Span{}, metering.Filter{App: "billing"}, "app"},
		{metering.Span{Apps: []partner.AppID{"billing"}}, metering.Filter{App: "scheduler"}, ""},
		{metering.Span{}, metering.Filter{Customer: "practice-2"}, "customer"},
		{metering.Span{}, metering.Filter{Operation: "chart.read"}, "operation"},
		{metering.Span{}, metering.Filter{Class: metering.API}, "class"},
		{metering.Span{}, metering.Filter{Type: metering.SupportOpened}, "type"},
		{metering.Span{}, metering.Filter{Type: metering.UsageVoided}, "v"},
		{metering.Span{Start: day.Add(time.Second)}, metering.Filter{App: "scheduler", Customer: "practice-1", Type: metering.UsageAPI, Operation: "appointment.book", Class: metering.ValueAdded}, "a"},
	} {
		if got := ids(c.span, c.filter); got != c.want {
			t.Errorf("events of %+v, %+v = %q, want %q", c.span, c.filter, got, c.want)
		}
	}
}

func testBigBlock(t *testing.T, s metering.Store, f *Feed) {
	const n, messages = 300, 11 // no round numbers of rows per statement
	var ms [][]metering.Event
	for i := range messages {
		es := Calls(fmt.Sprintf("m%d", i), n+i, partner.AppID(fmt.Sprintf("app-%d", i%3)), day)
		for j := range es {
			if j%7 == 0 {
				es[j].Data.Reference = "r"
			}
		}
		ms = append(ms, es)
	}
	total := n*messages + messages*(messages-1)/2
	b := f.Block(0, ms...)
	add(t, s, b, metering.Outcome{Stored: total})
	wantCount(t, s, metering.Span{}, int64(total))
	add(t, s, f.Block(0, ms[3]), metering.Outcome{Duplicate: n + 3})
	wantCounts(t, s, nil, metering.Counts{Messages: messages + 1, Announced: int64(total + n + 3), Stored: int64(total), Keys: int64(total), Duplicate: n + 3})
	// Order is (time, key) throughout.
	var last *metering.Accepted
	seen := 0
	for e, err := range s.Events(context.Background(), metering.Span{}, metering.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if last != nil && (e.Time.Before(last.Time) || e.Time.Equal(last.Time) && e.Key.Compare(last.Key) <= 0) {
			t.Fatalf("event %s at %s comes after %s at %s", e.ID, e.Time, last.ID, last.Time)
		}
		last = &e
		seen++
	}
	if seen != total {
		t.Errorf("events = %d, want %d", seen, total)
	}
}

func testIterators(t *testing.T, s metering.Store, f *Feed) {
	add(t, s, f.Block(0, Calls("a", 50, "scheduler", day), Calls("b", 50, "billing", day)), metering.Outcome{Stored: 100})
	for range 40 { // more often than a driver has connections
		for _, err := range s.Events(context.Background(), metering.Span{}, metering.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		for range s.Usage(context.Background(), metering.Span{}) {
			break
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var failed error
	for _, err := range s.Usage(ctx, metering.Span{}) {
		failed = err
	}
	if !errors.Is(failed, context.Canceled) {
		t.Errorf("usage with an ended context: %v, want context.Canceled", failed)
	}
	wantCount(t, s, metering.Span{}, 100)
}

func testCancelled(t *testing.T, s metering.Store, f *Feed) {
	add(t, s, f.Block(0, Calls("a", 5, "scheduler", day)), metering.Outcome{Stored: 5})
	b := f.Block(0, Calls("b", 2000, "scheduler", day), Calls("c", 2000, "scheduler", day))
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Append(cancelled, b); !errors.Is(err, context.Canceled) {
		t.Fatalf("append with an ended context: %v, want context.Canceled", err)
	}
	wantPosition(t, s, 0, 1)
	wantCounts(t, s, nil, metering.Counts{Messages: 1, Announced: 5, Stored: 5, Keys: 5})
	// Cancelled somewhere on the way: all of it or nothing.
	for i := range 30 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*500*time.Microsecond)
		_, err := s.Append(ctx, b)
		cancel()
		if err == nil {
			break
		}
		wantPosition(t, s, 0, 1)
		wantCounts(t, s, nil, metering.Counts{Messages: 1, Announced: 5, Stored: 5, Keys: 5})
	}
	if _, err := s.Append(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	wantPosition(t, s, 0, 3)
	wantCounts(t, s, nil, metering.Counts{Messages: 3, Announced: 4005, Stored: 4005, Keys: 4005})
}

func testReaders(t *testing.T, s metering.Store, f *Feed) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	for p := range partitions {
		add(t, s, f.Block(p, Calls("a", 40, "scheduler", day)), metering.Outcome{Stored: 40})
	}
	pinned := cutoff(t, s)
	want := answers(t, s, metering.Span{UpTo: pinned})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if got := answers(t, s, metering.Span{UpTo: pinned}); got != want {
					t.Errorf("the answers under a cutoff changed:\n got %s\nwant %s", got, want)
					return
				}
				n, err := s.Counts(context.Background(), nil)
				if err != nil || n.Announced != n.Stored+n.Duplicate+n.Conflict+n.Undecoded || n.Keys != n.Stored {
					t.Errorf("counts while appending do not add up: %+v, %v", n, err)
					return
				}
			}
		})
	}
	for i := range 30 {
		es := append(Calls(fmt.Sprint("b", i), 20, "scheduler", day), Calls("a", 5, "scheduler", day)...)
		es = append(es, Void(fmt.Sprint("v", i), in(i/partitions%partitions, fmt.Sprintf("a-%d", i)), day))
		add(t, s, f.Block(i%partitions, es), metering.Outcome{Stored: 21, Duplicate: 5})
	}
	stop()
	wg.Wait()
}
