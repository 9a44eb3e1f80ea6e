package meteringtest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mete/metering"
)

// TestReplays checks every promise of [metering.Replays], over a quarantine that is
// both.
func TestReplays[Q interface {
	metering.Quarantine
	metering.Replays
}](t *testing.T, open func(t *testing.T) Q) {
	for _, c := range []struct {
		name string
		test func(*testing.T, metering.Replays, []metering.Refusal)
	}{
		{"RefusalsComeBackWhole", testRefusedWhole},
		{"QueriesNarrow", testRefusedQueries},
		{"PagesInOrder", testRefusedPages},
		{"ReplaysStayBesideTheRefusal", testReplayed},
		{"NothingThatIsNotKept", testReplayedNothing},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := open(t)
			closeAfter(t, q)
			kept := refusals()
			if err := q.Refuse(context.Background(), kept); err != nil {
				t.Fatalf("refuse: %v", err)
			}
			c.test(t, q, kept)
		})
	}
}

// refusals are nine, oldest first and two of one instant: of three senders, clean and
// not, one unusable without a form.
func refusals() []metering.Refusal {
	var rs []metering.Refusal
	for i := range 9 {
		r := metering.Refusal{ID: fmt.Sprint("receipt-", i), Class: metering.Unclean, Reason: "phi_email", Detail: "it looks like an e-mail address",
			Field: "subject", Source: "gateway", Sender: "owner-1", Where: "http[1]", Digest: fmt.Sprint("digest-", i), ReceivedAt: day.Add(time.Duration(i/2) * time.Minute)}
		if i%2 == 0 {
			r.Class, r.Reason, r.Source, r.Field, r.Sender = metering.Unusable, metering.UnknownApp, "billing", "data.app", ""
			r.Event = metering.AppendCanonical(nil, refusedEvent(i))
		}
		rs = append(rs, r)
	}
	rs[2].Reason, rs[2].Sender = metering.SourceNotYours, metering.UnknownSender
	rs[8].Event = nil
	rs[0].ReceivedAt = time.Time{}
	return rs
}

// refusedEvent is what refusal i keeps.
func refusedEvent(i int) metering.Event {
	return Call(fmt.Sprint("e-", i), "nowhere", day.Add(time.Duration(i)*time.Second), func(e *metering.Event) {
		e.Source, e.Data.Quantity = "billing", Decimal("2.50")
	})
}

func refused(t *testing.T, q metering.Replays, query metering.RefusedQuery) []metering.Refused {
	t.Helper()
	rs, err := q.Refused(context.Background(), query)
	if err != nil {
		t.Fatalf("refused %+v: %v", query, err)
	}
	return rs
}

func receipts(rs []metering.Refused) (ids []string) {
	for _, r := range rs {
		ids = append(ids, r.ID)
	}
	return ids
}

func testRefusedWhole(t *testing.T, q metering.Replays, kept []metering.Refusal) {
	got := refused(t, q, metering.RefusedQuery{})
	for i, g := range got {
		if diff := cmp.Diff(kept[i], g.Refusal); diff != "" || len(g.Replays) > 0 {
			t.Errorf("refusal %d, oldest first: %d replays, %s", i, len(g.Replays), diff)
		}
		want := metering.StateWaiting
		if kept[i].Event == nil {
			want = metering.StateResend
		}
		if g.State() != want || g.Newest().Reason != kept[i].Reason {
			t.Errorf("refusal %d is %s for %s, want %s for %s", i, g.State(), g.Newest().Reason, want, kept[i].Reason)
		}
	}
	if len(got) != len(kept) {
		t.Errorf("%d refusals, want %d", len(got), len(kept))
	}
}

func testRefusedQueries(t *testing.T, q metering.Replays, _ []metering.Refusal) {
	for name, c := range map[string]struct {
		query metering.RefusedQuery
		want  []string
	}{
		"receipts":         {metering.RefusedQuery{IDs: []string{"receipt-5", "receipt-1", "nobody's"}}, []string{"receipt-1", "receipt-5"}},
		"keys":             {metering.RefusedQuery{Keys: []metering.Key{refusedEvent(4).Key(), metering.KeyOf("billing", "never")}}, []string{"receipt-4"}},
		"digests":          {metering.RefusedQuery{Digests: []string{"digest-3"}}, []string{"receipt-3"}},
		"any of the lists": {metering.RefusedQuery{IDs: []string{"receipt-6"}, Digests: []string{"digest-3"}, Keys: []metering.Key{refusedEvent(4).Key()}}, []string{"receipt-3", "receipt-4", "receipt-6"}},
		"source":           {metering.RefusedQuery{Source: "billing"}, []string{"receipt-0", "receipt-2", "receipt-4", "receipt-6", "receipt-8"}},
		"reason":           {metering.RefusedQuery{Reason: metering.SourceNotYours}, []string{"receipt-2"}},
		"waiting":          {metering.RefusedQuery{Waiting: true, Reason: metering.UnknownApp}, []string{"receipt-0", "receipt-4", "receipt-6"}},
		"narrowed":         {metering.RefusedQuery{IDs: []string{"receipt-5", "receipt-6"}, Source: "gateway"}, []string{"receipt-5"}},
		"none":             {metering.RefusedQuery{Source: "nobody"}, nil},
	} {
		if diff := cmp.Diff(c.want, receipts(refused(t, q, c.query))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := q.Refused(context.Background(), metering.RefusedQuery{IDs: make([]string, metering.MaxRefusedAsked+1)}); err == nil {
		t.Error("more was asked for than the bound, without an error")
	}
}

func testRefusedPages(t *testing.T, q metering.Replays, kept []metering.Refusal) {
	var all []string
	query := metering.RefusedQuery{Limit: 2}
	for range len(kept) {
		page := refused(t, q, query)
		all = append(all, receipts(page)...)
		if len(page) < 2 {
			break
		}
		query.After = &metering.RefusedPlace{ReceivedAt: page[1].ReceivedAt, ID: page[1].ID}
	}
	var want []string
	for _, r := range kept {
		want = append(want, r.ID)
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("pages of two: %s", diff)
	}
}

func testReplayed(t *testing.T, q metering.Replays, _ []metering.Refusal) {
	ctx := context.Background()
	wantCounts := func(want ...metering.RefusedCount) {
		t.Helper()
		got, err := q.RefusedCounts(ctx)
		if err != nil {
			t.Fatal(err)
		}
		byName := func(a, b metering.RefusedCount) int {
			return slices.Compare([]string{a.Class, a.Reason}, []string{b.Class, b.Reason})
		}
		slices.SortFunc(got, byName)
		slices.SortFunc(want, byName)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("counts: %s", diff)
		}
	}
	unclean := metering.RefusedCount{Class: metering.Unclean, Reason: "phi_email", Refused: 4}
	notYours := metering.RefusedCount{Class: metering.Unusable, Reason: metering.SourceNotYours, Refused: 1, Waiting: 1}
	wantCounts(unclean, notYours, metering.RefusedCount{Class: metering.Unusable, Reason: metering.UnknownApp, Refused: 4, Waiting: 3})

	again := metering.Replay{Refusal: "receipt-4", By: "k.lee", At: day.Add(time.Hour), Class: metering.Unusable, Reason: metering.UnknownClass,
		Detail: `class "gold" is not known`, Field: "data.class"}
	passed := metering.Replay{Refusal: "receipt-4", By: "m.ortiz", At: day.Add(2 * time.Hour), Passed: true, Receipt: refusedEvent(4).Key().String(), Position: "1-7-0"}
	other := metering.Replay{Refusal: "receipt-0", By: "k.lee", At: day.Add(time.Hour), Class: metering.Unusable, Reason: metering.TimeInFuture}
	for range 2 { // the same again is nothing
		if err := q.Replayed(ctx, []metering.Replay{again, other}); err != nil {
			t.Fatalf("replayed: %v", err)
		}
	}
	wantCounts(unclean, notYours, metering.RefusedCount{Class: metering.Unusable, Reason: metering.UnknownApp, Refused: 2, Waiting: 1},
		metering.RefusedCount{Class: metering.Unusable, Reason: metering.UnknownClass, Refused: 1, Waiting: 1},
		metering.RefusedCount{Class: metering.Unusable, Reason: metering.TimeInFuture, Refused: 1, Waiting: 1})
	if got := refused(t, q, metering.RefusedQuery{Reason: metering.UnknownClass, Waiting: true}); len(got) != 1 || got[0].ID != "receipt-4" {
		t.Errorf("with the newest reason: %v", receipts(got))
	}
	if err := q.Replayed(ctx, []metering.Replay{passed, passed}); err != nil {
		t.Fatalf("replayed: %v", err)
	}
	got := refused(t, q, metering.RefusedQuery{IDs: []string{"receipt-4"}})[0]
	if diff := cmp.Diff([]metering.Replay{again, passed}, got.Replays); diff != "" {
		t.Errorf("its replays, oldest first: %s", diff)
	}
	if got.Reason != metering.UnknownApp || got.Newest().Reason != metering.UnknownClass || got.State() != metering.StateReplayed || *got.Passed() != passed {
		t.Errorf("after it passed: %+v is %s", got, got.State())
	}
	wantCounts(unclean, notYours, metering.RefusedCount{Class: metering.Unusable, Reason: metering.UnknownApp, Refused: 2, Waiting: 1},
		metering.RefusedCount{Class: metering.Unusable, Reason: metering.UnknownClass, Refused: 1, Replayed: 1},
		metering.RefusedCount{Class: metering.Unusable, Reason: metering.TimeInFuture, Refused: 1, Waiting: 1})
	if got := refused(t, q, metering.RefusedQuery{Waiting: true}); slices.Contains(receipts(got), "receipt-4") {
		t.Errorf("what passed still waits: %v", receipts(got))
	}
}

func testReplayedNothing(t *testing.T, q metering.Replays, _ []metering.Refusal) {
	ctx := context.Background()
	good := metering.Replay{Refusal: "receipt-4", By: "k.lee", At: day, Passed: true, Receipt: refusedEvent(4).Key().String()}
	change := func(f func(*metering.Replay)) metering.Replay {
		p := good
		f(&p)
		return p
	}
	for name, bad := range map[string]metering.Replay{
		"of no refusal":          change(func(p *metering.Replay) { p.Refusal = "nobody's" }),
		"of an unclean one":      change(func(p *metering.Replay) { p.Refusal = "receipt-1" }),
		"of one without a form":  change(func(p *metering.Replay) { p.Refusal = "receipt-8" }),
		"by nobody":              change(func(p *metering.Replay) { p.By = "" }),
		"passed with a reason":   change(func(p *metering.Replay) { p.Class, p.Reason = metering.Unusable, metering.UnknownApp }),
		"passed without receipt": change(func(p *metering.Replay) { p.Receipt = "" }),
		"refused without reason": change(func(p *metering.Replay) { p.Passed, p.Receipt = false, "" }),
	} {
		if err := q.Replayed(ctx, []metering.Replay{good, bad}); err == nil {
			t.Errorf("a replay %s was kept", name)
		}
	}
	if got := refused(t, q, metering.RefusedQuery{IDs: []string{"receipt-4"}})[0]; len(got.Replays) > 0 {
		t.Errorf("a failed call left %d replays behind", len(got.Replays))
	}
	if err := q.Replayed(ctx, nil); err != nil {
		t.Errorf("no replays: %v", err)
	}
}
