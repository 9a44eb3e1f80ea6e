package meteringtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mete/metering"
	"mete/period"
)

// RefillableStore is a store that another one is filled from, and whose keys can be made
// anew.
type RefillableStore interface {
	metering.Refillable
	metering.Quarantine
	metering.KeyRebuilder
}

// TestRefill checks that a store which is filled from another one answers everything as
// that one does: by [metering.History], [metering.Transfer] and Append. From and to make
// empty stores.
func TestRefill(t *testing.T, from, to func(t *testing.T) RefillableStore) {
	for _, c := range []struct {
		name string
		test func(*testing.T, RefillableStore, RefillableStore, *Feed)
	}{
		{"EverythingIsThere", testRefillAll},
		{"GoesOnWhereItStopped", testRefillGoesOn},
		{"UpToACutoff", testRefillCutoff},
		{"FromTheStreamWithoutWhatWasRedacted", testRefillStream},
		{"RedactionsMustComeFirst", testRefillRedactions},
		{"HistoryHasBounds", testHistoryBounds},
		{"KeysAreMadeAnew", testRebuildKeys},
	} {
		t.Run(c.name, func(t *testing.T) {
			old, made := from(t), to(t)
			closeAfter(t, old)
			closeAfter(t, made)
			attach(t, old, partitions)
			f := NewFeed()
			f.Partitions = partitions
			c.test(t, old, made, f)
		})
	}
	t.Run("AnyHistory", func(t *testing.T) { testRefillRandom(t, from, to) })
}

// TestRefillBetween checks of two drivers that pass TestRefill each that one is filled from
// the other.
func TestRefillBetween(t *testing.T, from, to func(t *testing.T) RefillableStore) {
	old, made := from(t), to(t)
	closeAfter(t, old)
	closeAfter(t, made)
	attach(t, old, partitions)
	f := NewFeed()
	f.Partitions = partitions
	testRefillAll(t, old, made, f)
}

// kept is the feed as what a stream would give back.
type kept struct{ blocks []metering.Block }

// BlockAfter is as in [metering.History].
func (k *kept) BlockAfter(_ context.Context, partition int, after, upTo uint64, events int) (metering.Block, error) {
	for _, b := range k.blocks {
		if b.Partition != partition || b.Last <= after || b.First > after+1 {
			continue
		}
		b.Messages = slices.Clone(b.Messages[after+1-b.First:])
		b.First, b.Last = after+1, min(b.Last, upTo)
		b.Messages = b.Messages[:b.Last-b.First+1]
		for i := range b.Messages {
			b.Messages[i].Events = slices.Clone(b.Messages[i].Events)
		}
		return b, nil
	}
	return metering.Block{}, metering.ErrGap
}

// busy fills a store with everything that a store can have, and returns its blocks.
func busy(t *testing.T, s RefillableStore, f *Feed) []metering.Block {
	t.Helper()
	ctx := context.Background()
	var blocks []metering.Block
	give := func(b metering.Block) {
		t.Helper()
		blocks = append(blocks, b)
		if _, err := s.Append(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	overwrite := func(k metering.Key, field string) {
		t.Helper()
		r, err := s.ProposeRedaction(ctx, proposal(t, k, field))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	var later []func()
	for p := range partitions - 1 { // the last one stays empty
		name := fmt.Sprint("p", p)
		target, waits := full(in(p, secret+"-sale"+name)), full(in(p, secret+"-waits"+name))
		other := target
		other.Data.Amount, other.Data.Deal = Decimal("99.00"), secret+"-other"
		absent := Call(in(p, "absent"+name), "billing", day, func(e *metering.Event) { e.Time, e.TimeAbsent = time.Time{}, true })
		give(f.Messages(p, Message{Events: Calls(name, 5, "scheduler", day)}, Message{Events: []metering.Event{target, absent, absent}, Undecoded: []string{"truncated", "no id"}}, Message{}))
		give(f.Block(p, append(Calls(name, 3, "scheduler", day), Void(in(p, "v"+name), target.ID, day), Void(in(p, "w"+name), waits.ID, day), other, target),
			Calls(name, 2, "another", day.AddDate(0, 1, 0)), []metering.Event{absent, waits, Call(in(p, "sandbox"+name), "billing", day, func(e *metering.Event) { e.Data.Environment = metering.Sandbox })}))
		overwrite(target.Key(), "id")
		overwrite(target.Key(), "data.deal")
		overwrite(metering.KeyOf("gateway", in(p, "v"+name)), "data.refers_to")
		later = append(later, func() {
			give(f.Block(p, []metering.Event{target, other, Void(in(p, "v"+name), target.ID, day)}))
		})
	}
	if _, err := s.ApproveRedactions(ctx, ids, "r.shah", day.AddDate(0, 1, 1)); err != nil {
		t.Fatal(err)
	}
	for _, give := range later {
		give()
	}
	if _, err := s.ProposeRedaction(ctx, proposal(t, full(in(0, secret+"-wait"+"sp0")).Key(), "data.lead")); err != nil {
		t.Fatal(err)
	}
	busyFacts(t, s)
	return blocks
}

// busyFacts keeps refusals in every state, and what sources say.
func busyFacts(t *testing.T, s RefillableStore) {
	t.Helper()
	ctx := context.Background()
	var rs []metering.Refusal
	for i := range 5 {
		e := full(fmt.Sprint("refused-", i))
		rs = append(rs, metering.Refusal{ID: fmt.Sprint("r", i), Class: metering.Unusable, Reason: metering.UnknownApp, Detail: "of " + secret, Field: "data.app", Source: e.Source,
			Sender: "northwind", Where: fmt.Sprint("calls.ndjson:", i), Digest: fmt.Sprint("ab", i), Event: metering.AppendCanonical(nil, e), ReceivedAt: day.Add(time.Duration(i/2) * time.Second)})
	}
	rs = append(rs, metering.Refusal{ID: "unclean", Class: metering.Unclean, Reason: "phi_email", Detail: "looks like one", Field: "subject", ReceivedAt: day}, metering.Refusal{ID: "timeless", Class: metering.Unclean, Reason: "undecodable"})
	if err := s.Refuse(ctx, rs); err != nil {
		t.Fatal(err)
	}
	if err := s.Replayed(ctx, []metering.Replay{
		{Refusal: "r0", By: "k.lee", At: day, Class: metering.Unusable, Reason: metering.UnknownApp, Detail: "still"},
		{Refusal: "r0", By: "k.lee", At: day.Add(time.Hour), Passed: true, Receipt: full("refused-0").Key().String(), Position: "0/1.0"},
		{Refusal: "r1", By: "k.lee", At: day, Class: metering.Unusable, Reason: metering.UnknownApp, Detail: "of " + secret},
	}); err != nil {
		t.Fatal(err)
	}
	redact(t, s, full("refused-1").Key(), "subject")
	for i := range 3 {
		totals := metering.DayTotals{Source: fmt.Sprint("s", i%2), Day: period.Date{Year: 2026, Month: 9, Day: 1 + i/2}, Zone: "UTC", SentBy: "northwind",
			Totals: []metering.DayTotal{{App: "scheduler", Type: metering.SalePaid, Events: int64(i), Amount: Decimal("12.50"), Currency: "USD"}}}
		for range 2 { // another content of the same day
			if err := totals.Seal(day.AddDate(0, 0, i)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.KeepTotals(ctx, totals); err != nil {
				t.Fatal(err)
			}
			totals.Totals[0].Events += 7
		}
		for j := range 3 {
			at := day.Add(time.Duration(j) * metering.HeartbeatSlot)
			if err := s.KeepHeartbeat(ctx, metering.Heartbeat{Source: totals.Source, At: at, SentBy: "northwind", ReceivedAt: at.Add(time.Second)}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// refill is from one store into another, up to where the old one is.
func refill(t tester, old, made RefillableStore) *metering.Refill {
	t.Helper()
	return &metering.Refill{Old: old, To: made, Name: stream, Partitions: partitions, UpTo: cutoff(t, old)}
}

// wantAlike fails the test unless both stores say the same of everything.
func wantAlike(t *testing.T, old, made RefillableStore, r *metering.Refill) {
	t.Helper()
	ctx := context.Background()
	wantNoDifference(t, r)
	Compare(t, made, old, metering.Span{UpTo: r.UpTo})
	Compare(t, made, old, metering.Span{Start: day, End: day.Add(2 * time.Second), UpTo: r.UpTo})
	if diff := cmp.Diff(cutoff(t, old), cutoff(t, made)); diff != "" {
		t.Errorf("cutoff: %s", diff)
	}
	for _, id := range []string{secret + "-salep1", secret + "-waitsp1", "vp1", "wp1", "absentp1", "p1-0", "p1-4"} { // of each kind one
		k := metering.KeyOf("gateway", in(1, id))
		was, is := findKey(t, old, k), findKey(t, made, k)
		if was.Event == nil || foundText(was) != foundText(is) || fmt.Sprint(was.Redactions) != fmt.Sprint(is.Redactions) {
			t.Errorf("of event %s the old store finds\n%s\n%v, the new one\n%s\n%v", id, foundText(was), was.Redactions, foundText(is), is.Redactions)
		}
	}
	was, err := old.RefusedCounts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	is, err := made.RefusedCounts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(was, is); diff != "" {
		t.Errorf("refusals: %s", diff)
	}
	for _, k := range []metering.Key{full("refused-1").Key(), full("refused-2").Key()} {
		if a, b := refused(t, old, metering.RefusedQuery{Keys: []metering.Key{k}}), refused(t, made, metering.RefusedQuery{Keys: []metering.Key{k}}); fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) {
			t.Errorf("refusals of key %s:\n%+v\n%+v", k, a, b)
		}
	}
}

func wantNoDifference(t *testing.T, r *metering.Refill) {
	t.Helper()
	c, err := r.Verify(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(c.Findings, c.Notes...) {
		t.Errorf("verify: %s", f)
	}
	for _, x := range c.Compared {
		if !x.OK {
			t.Errorf("verify: %+v", x)
		}
	}
}

func testRefillAll(t *testing.T, old, made RefillableStore, f *Feed) {
	ctx := context.Background()
	busy(t, old, f)
	before := countsOf(t, old)
	r := refill(t, old, made)
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	wantAlike(t, old, made, r)
	if after := countsOf(t, old); after != before {
		t.Errorf("the old store had %+v, has %+v", before, after)
	}
	// Both go on alike.
	for p := range partitions {
		target := full(in(p, secret+fmt.Sprint("-salep", p)))
		b := f.Block(p, append(Calls(fmt.Sprint("p", p), 7, "scheduler", day), target, Call(in(p, fmt.Sprint("wait", p)), "scheduler", day)))
		want, err := old.Append(ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		add(t, made, b, want)
	}
	redact(t, old, metering.KeyOf("gateway", in(1, "p1-0")), "subject")
	redact(t, made, metering.KeyOf("gateway", in(1, "p1-0")), "subject")
	wantAlike(t, old, made, refill(t, old, made))
}

func testRefillGoesOn(t *testing.T, old, made RefillableStore, f *Feed) {
	ctx := context.Background()
	busy(t, old, f)
	r := refill(t, old, made)
	stopped := errors.New("stopped")
	for step := range 4 { // a message of each partition, then two, then three
		part := *r
		part.UpTo = slices.Clone(r.UpTo)
		for i := range part.UpTo {
			part.UpTo[i].Sequence = min(part.UpTo[i].Sequence, uint64(step))
		}
		within, cancel := context.WithCancelCause(ctx)
		part.Progress = func(what string, _, _ int64) {
			if what != "messages" {
				cancel(stopped)
			}
		}
		if err := part.Run(within); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cancel(nil)
	}
	c, err := r.Verify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if c.Told == 0 {
		t.Error("a half-filled store is verified")
	}
	for range 2 {
		if err := r.Run(ctx); err != nil {
			t.Fatal(err)
		}
		wantAlike(t, old, made, r)
	}
}

func testRefillCutoff(t *testing.T, old, made RefillableStore, f *Feed) {
	ctx := context.Background()
	busy(t, old, f)
	r := refill(t, old, made)
	r.UpTo[1].Sequence = 2
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	wantNoDifference(t, r)
	wantPosition(t, made, 1, 2)
	r.UpTo[1].Sequence = 99
	if err := r.Run(ctx); !errors.Is(err, metering.ErrGap) {
		t.Errorf("beyond what is stored: %v, want ErrGap", err)
	}
}

func testRefillStream(t *testing.T, old, made RefillableStore, f *Feed) {
	ctx := context.Background()
	blocks := busy(t, old, f)
	r := refill(t, old, made)
	r.Stream = &kept{blocks}
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	wantAlike(t, old, made, r)
	all, err := made.Redactions(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		got := findKey(t, made, x.Key)
		if got.Event == nil || !x.Applied() { // refused, or only proposed
			continue
		}
		for _, e := range append(got.Conflicts, *got.Event) {
			if strings.HasPrefix(metering.ValueOf(&e.Event, x.Field), secret) {
				t.Errorf("%s of event %s came back from the stream", x.Field, x.Key)
			}
		}
	}
}

func testRefillRedactions(t *testing.T, old, made RefillableStore, f *Feed) {
	ctx := context.Background()
	busy(t, old, f)
	attach(t, made, partitions)
	var err error
	for after := uint64(0); err == nil && after < cutoff(t, old)[0].Sequence; after++ {
		var b metering.Block
		if b, err = old.BlockAfter(ctx, 0, after, after+1, 1000); err == nil {
			_, err = made.Append(ctx, b)
		}
	}
	if err == nil || !strings.Contains(err.Error(), "take redactions over first") {
		t.Errorf("without its redaction an overwritten event is stored: %v", err)
	}
	for page, err := range pages(ctx, old) {
		if err != nil {
			t.Fatal(err)
		}
		if err := made.TakeRefused(ctx, page); err == nil || !strings.Contains(err.Error(), "take redactions over first") {
			t.Errorf("without its redaction an erased form is kept: %v", err)
		}
	}
}

func pages(ctx context.Context, s metering.Replays) func(func([]metering.Refused, error) bool) {
	return func(yield func([]metering.Refused, error) bool) {
		rs, err := s.Refused(ctx, metering.RefusedQuery{})
		yield(rs, err)
	}
}

func testHistoryBounds(t *testing.T, old, _ RefillableStore, f *Feed) {
	ctx := context.Background()
	if _, err := old.BlockAfter(ctx, 0, 0, 9, 10); !errors.Is(err, metering.ErrGap) {
		t.Errorf("of an empty store: %v, want ErrGap", err)
	}
	sent := f.Block(1, Calls("a", 4, "scheduler", day), Calls("a", 6, "scheduler", day), Calls("b", 20, "scheduler", day))
	add(t, old, sent, metering.Outcome{Stored: 26, Duplicate: 4})
	for _, c := range []struct {
		after, upTo uint64
		events      int
		first, last uint64
	}{{0, 3, 1000, 1, 3}, {0, 2, 1000, 1, 2}, {0, 3, 1, 1, 1}, {0, 3, 10, 1, 2}, {1, 3, 9, 2, 2}, {2, 3, 1, 3, 3}, {0, 99, 1000, 1, 3}} {
		b, err := old.BlockAfter(ctx, 1, c.after, c.upTo, c.events)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if err := b.Validate(); err != nil || b.First != c.first || b.Last != c.last {
			t.Errorf("%+v: messages %d to %d, %v", c, b.First, b.Last, err)
		}
		for i, m := range b.Messages {
			for j := range m.Events {
				if was, is := text(&sent.Messages[m.Sequence-1].Events[j]), text(&m.Events[j]); was != is {
					t.Errorf("%+v: message %d, event %d was\n%s, is\n%s", c, i, j, was, is)
				}
			}
		}
	}
	for _, after := range []uint64{3, 4} {
		if _, err := old.BlockAfter(ctx, 1, after, 9, 10); !errors.Is(err, metering.ErrGap) {
			t.Errorf("behind %d: %v, want ErrGap", after, err)
		}
	}
}

func testRebuildKeys(t *testing.T, s, twin RefillableStore, f *Feed) {
	ctx := context.Background()
	blocks := busy(t, s, f)
	if err := (&metering.Refill{Old: s, To: twin, Name: stream, Partitions: partitions, UpTo: cutoff(t, s)}).Run(ctx); err != nil {
		t.Fatal(err)
	}
	n := countsOf(t, s)
	for range 2 {
		last := int64(-1)
		k, err := s.RebuildKeys(ctx, func(done, _ int64) { last = done })
		if err != nil || k != (metering.RebuiltKeys{Rows: n.Stored, Right: n.Stored}) || last != n.Stored {
			t.Errorf("keys made anew: %+v, %v, progress %d; want %d right ones", k, err, last, n.Stored)
		}
	}
	wantAlike(t, twin, s, refill(t, twin, s))
	for i := range blocks { // again, as new messages: nothing is new
		b := &blocks[i]
		var messages []Message
		for _, m := range b.Messages {
			var x Message
			for _, e := range m.Events {
				x.Events = append(x.Events, e.Event)
			}
			messages = append(messages, x)
		}
		o, err := s.Append(ctx, f.Messages(b.Partition, messages...))
		if err != nil || o.Stored > 0 {
			t.Errorf("block %d again: %+v, %v", i, o, err)
		}
	}
	checked(t, s)
}

// testRefillRandom copies random histories.
func testRefillRandom(t *testing.T, from, to func(t *testing.T) RefillableStore) {
	fewerUnderRace(t)
	rapid.Check(t, func(r *rapid.T) {
		ctx := context.Background()
		old, made, f := from(t), to(t), NewFeed()
		defer closeIt(old)
		defer closeIt(made)
		attach(r, old, partitions)
		var sent []metering.Block
		for range rapid.IntRange(1, 8).Draw(r, "blocks") {
			b := drawBlock(r, f, sent)
			sent = append(sent, b)
			if _, err := old.Append(ctx, b); err != nil {
				r.Fatalf("append: %v", err)
			}
		}
		x := refill(r, old, made)
		if err := x.Run(ctx); err != nil {
			r.Fatalf("refill: %v", err)
		}
		c, err := x.Verify(ctx)
		if err != nil || c.Told > 0 {
			r.Fatalf("verify: %v, %q", err, c.Findings)
		}
		Compare(r, made, old, metering.Span{})
	})
}

func closeIt(s any) {
	if c, ok := s.(interface{ Close() error }); ok {
		c.Close()
	}
}
