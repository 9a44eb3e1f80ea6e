package meteringtest

import (
	"context"
	"flag"
	"fmt"
	"io"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mete/metering"
	"mete/money"
	"mete/partner"
)

// instants are where the random events happen: around the ends of months.
var instants = []time.Time{
	time.Date(2026, 8, 31, 23, 59, 59, 999999000, time.UTC), time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 9, 1, 0, 0, 0, 1000, time.UTC),
	time.Date(2026, 9, 30, 23, 59, 59, 999999000, time.UTC), time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC),
}

var quantities = []string{"0", "1", "1.0", "0.000000001", "-0.000000001", "999999999.999999999", "-3.5", "123456789012.000000007"}

// someIDs is how many ids the random events have.
const someIDs = 26

// idsIn are the ids of a source that lie in the partition.
func idsIn(partition int, source string) []string {
	var ids []string
	for i := range someIDs {
		if id := fmt.Sprint(i); metering.KeyOf(source, id).Partition(partitions) == partition {
			ids = append(ids, id)
		}
	}
	return ids
}

// drawEvent makes an event of the partition out of few values, so that most things
// happen to it that can: the same identity again with the same or another content,
// voids of events that were, will be or never are.
func drawEvent(r *rapid.T, partition int) metering.Event {
	source := rapid.SampledFrom([]string{"gateway", "billing"}).Draw(r, "source")
	e := metering.Event{
		ID:     rapid.SampledFrom(idsIn(partition, source)).Draw(r, "id"),
		Source: source,
		Type:   rapid.SampledFrom([]string{metering.UsageAPI, metering.UsageAPI, metering.SalePaid, metering.SaleRefunded, metering.UsageVoided}).Draw(r, "type"),
		Time:   rapid.SampledFrom(instants).Draw(r, "time"),
	}
	if rapid.IntRange(0, 9).Draw(r, "absent") == 0 {
		e.TimeAbsent = true
	}
	if e.Type == metering.UsageVoided {
		e.Data.RefersTo = fmt.Sprint(rapid.IntRange(0, someIDs-1).Draw(r, "target"))
		return e
	}
	d := &e.Data
	d.App = rapid.SampledFrom([]partner.AppID{"scheduler", "billing", ""}).Draw(r, "app")
	if rapid.Bool().Draw(r, "plain") { // many calls that differ in nothing but identity
		return e
	}
	e.Customer = rapid.SampledFrom([]partner.CustomerID{"", "practice-1"}).Draw(r, "customer")
	d.Status = rapid.SampledFrom([]int{0, 200, 503}).Draw(r, "status")
	d.Environment = rapid.SampledFrom([]metering.Environment{"", metering.Production, metering.Sandbox}).Draw(r, "environment")
	d.Bytes = rapid.Int64Range(0, 1<<40).Draw(r, "bytes")
	if rapid.Bool().Draw(r, "has quantity") {
		d.Quantity = Decimal(rapid.SampledFrom(quantities).Draw(r, "quantity"))
	}
	if rapid.Bool().Draw(r, "has latency") {
		d.LatencyMS = Decimal(rapid.SampledFrom([]string{"0.5", "1000", "1000.000000001", "31000"}).Draw(r, "latency"))
	}
	if e.Type != metering.UsageAPI {
		d.Currency = rapid.SampledFrom([]money.Currency{"USD", "JPY", "KWD"}).Draw(r, "currency")
		amount := money.New(rapid.Int64Range(-1<<40, 1<<40).Draw(r, "amount"), d.Currency).Decimal()
		d.Amount, d.Deal, d.Reference = &amount, "deal-1", "INV-1"
		if rapid.Bool().Draw(r, "has tax") {
			d.TaxAmount = &amount
		}
	}
	if rapid.IntRange(0, 4).Draw(r, "has dimensions") == 0 {
		d.Dimensions = map[string]string{"plan": "gold", "zone": "a<b>"}
	}
	return e
}

// drawSpan asks for any part of what the stream holds, or will hold.
func drawSpan(r *rapid.T, f *Feed, cutoffs []metering.Cutoff) metering.Span {
	var sp metering.Span
	bound := rapid.SampledFrom(append([]time.Time{{}, instants[1].Add(500)}, instants...))
	sp.Start, sp.End = bound.Draw(r, "start"), bound.Draw(r, "end")
	cut := func(name string) metering.Cutoff {
		switch rapid.IntRange(0, 3).Draw(r, name) {
		case 0:
			return nil
		case 1: // any positions, of any partitions
			c := metering.Cutoff{}
			for p := range partitions {
				if rapid.IntRange(0, 3).Draw(r, "named") > 0 {
					last := f.next[p]
					if rapid.IntRange(0, 9).Draw(r, "beyond") == 0 {
						last++
					}
					c = append(c, metering.PartitionCutoff{Incarnation: 1, Partition: p, Sequence: rapid.Uint64Range(0, last).Draw(r, "sequence")})
				}
			}
			return c
		}
		return rapid.SampledFrom(append([]metering.Cutoff{nil}, cutoffs...)).Draw(r, name)
	}
	sp.After, sp.UpTo = cut("after"), cut("up to")
	if rapid.IntRange(0, 2).Draw(r, "some apps") == 0 {
		sp.Apps = rapid.SliceOfN(rapid.SampledFrom([]partner.AppID{"scheduler", "billing", "", "none"}), 0, 3).Draw(r, "apps")
	}
	return sp
}

// testModel feeds random streams to the store and the model and compares all that
// they say. What was said under a cutoff must be said again at the end.
func testModel(t *testing.T, open func(t *testing.T) metering.Store) {
	fewerUnderRace(t)
	rapid.Check(t, func(r *rapid.T) {
		ctx := context.Background()
		s, m, f := open(t), new(Model), NewFeed()
		if c, ok := s.(io.Closer); ok {
			defer c.Close()
		}
		attach(r, s, partitions)
		attach(r, m, partitions)
		type said struct {
			span metering.Span
			text string
		}
		var before []said
		var cutoffs []metering.Cutoff
		var sent []metering.Block
		for range rapid.IntRange(1, 8).Draw(r, "blocks") {
			b := drawBlock(r, f, sent)
			sent = append(sent, b)
			want, err := m.Append(ctx, b)
			if err != nil {
				r.Fatalf("model: %v", err)
			}
			add(r, s, b, want)
			switch rapid.IntRange(0, 2).Draw(r, "then") {
			case 0:
				cutoffs = append(cutoffs, cutoff(r, s))
			case 1:
				Compare(r, s, m, drawSpan(r, f, cutoffs))
			case 2:
				if len(cutoffs) > 0 {
					sp := drawSpan(r, f, cutoffs)
					sp.UpTo = rapid.SampledFrom(cutoffs).Draw(r, "pinned")
					before = append(before, said{sp, answers(r, s, sp)})
				}
			}
		}
		for range 3 {
			Compare(r, s, m, drawSpan(r, f, cutoffs))
		}
		for _, b := range before {
			if got := answers(r, s, b.span); got != b.text {
				r.Fatalf("under its cutoff, %+v first said\n%s\nand now says\n%s", b.span, b.text, got)
			}
		}
		for i := range someIDs {
			k := metering.KeyOf("gateway", fmt.Sprint(i))
			compareFound(r, s, m, k)
		}
	})
}

// fewerUnderRace takes the default of 100 random streams down to 10 when the race
// detector is on: there the engines run forty times slower, and it looks at
// goroutines, which a stream has none of.
func fewerUnderRace(t *testing.T) {
	f := flag.Lookup("rapid.checks")
	if !raceDetector || f == nil || f.Value.String() != f.DefValue {
		return
	}
	set := func(n string) {
		if err := f.Value.Set(n); err != nil {
			t.Fatal(err)
		}
	}
	set("10")
	t.Cleanup(func() { set(f.DefValue) })
}

// drawBlock is the next block of a partition, or one that overlaps what was sent.
func drawBlock(r *rapid.T, f *Feed, sent []metering.Block) metering.Block {
	if len(sent) > 0 && rapid.IntRange(0, 3).Draw(r, "again") == 0 {
		b := rapid.SampledFrom(sent).Draw(r, "sent")
		n := rapid.IntRange(1, len(b.Messages)).Draw(r, "of it")
		b.Messages, b.Last = b.Messages[:n], b.First+uint64(n)-1
		return b
	}
	p := rapid.IntRange(0, partitions-1).Draw(r, "partition")
	ms := make([]Message, rapid.IntRange(1, 3).Draw(r, "messages"))
	for i := range ms {
		for range rapid.IntRange(0, 8).Draw(r, "events") {
			ms[i].Events = append(ms[i].Events, drawEvent(r, p))
		}
		if rapid.IntRange(0, 5).Draw(r, "undecoded") == 0 {
			ms[i].Undecoded = []string{"truncated"}
		}
	}
	return f.Messages(p, ms...)
}

func compareFound(t tester, s, m metering.Store, k metering.Key) {
	t.Helper()
	got, err := s.Find(context.Background(), k)
	if err != nil {
		t.Fatalf("find: %v", err)
	}
	want, _ := m.Find(context.Background(), k)
	if g, w := foundText(got), foundText(want); g != w {
		t.Fatalf("find %s:\n got %s\nwant %s", k, g, w)
	}
}

func foundText(f metering.Found) string {
	if f.Event == nil {
		return "unknown"
	}
	s := text(f.Event)
	if f.Voided != nil {
		s += fmt.Sprintf("\nvoided by %+v", *f.Voided)
	}
	s += fmt.Sprintf("\nduplicates %+v", f.Duplicates)
	for i := range f.Conflicts {
		s += "\nconflict " + text(&f.Conflicts[i])
	}
	return s
}
