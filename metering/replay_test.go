package metering_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mete/metering"
	"mete/metering/sqlite"
	"mete/partner"
)

// mended is a directory in which the cause of a refusal is gone.
func mended(apps ...partner.AppID) func(context.Context) (*metering.Directory, error) {
	var all []partner.App
	for _, id := range append(apps, "northwind-scheduler") {
		all = append(all, partner.App{ID: id, Partner: "northwind"})
	}
	dir := metering.NewDirectory(all, nil, []metering.Source{
		{Name: "gw-eu-1", Owner: "eu"}, {Name: "gw-us-1", Owner: "us"}, {Name: "gw-new", Owner: "us"}})
	return func(context.Context) (*metering.Directory, error) { return dir, nil }
}

func refusedOne(t *testing.T, store *sqlite.Store, id string) metering.Refused {
	t.Helper()
	rs, err := store.Refused(t.Context(), metering.RefusedQuery{IDs: []string{id}})
	if err != nil || len(rs) != 1 {
		t.Fatalf("refusal %s: %d, %v", id, len(rs), err)
	}
	return rs[0]
}

// TestReplay: what was refused for an unknown app passes once the app is known, as the
// same event; what is still refused stays, with the newest reason, however often.
func TestReplay(t *testing.T) {
	g, out, store := newGate(t)
	var events []metering.Decoded
	for i := range 1203 { // more than two batches
		e := sent("gw-eu-1", fmt.Sprint("e-", i))
		e.Event.Data.App = "northwind-kiosk"
		if i%100 == 0 {
			e.Event.Data.App = "nobody"
		}
		events = append(events, e)
	}
	unclean := sent("gw-eu-1", "jane@example.org")
	verdicts, err := g.Admit(t.Context(), metering.Sender{Owner: "eu", Where: "http"}, append(events, unclean))
	if err != nil || len(out.events) > 0 {
		t.Fatalf("%d passed, %v", len(out.events), err)
	}
	g.Directory = mended("northwind-kiosk")
	r := metering.Replayer{Gate: g, Replays: store}
	replay := func(req metering.ReplayRequest, want metering.ReplayReport) metering.ReplayReport {
		t.Helper()
		req.By = "k.lee"
		got, err := r.Replay(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		told := got
		got.First = nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("replay %+v: %s", req.Query, diff)
		}
		return told
	}
	again := map[string]int64{"unusable/unknown_app": 13}
	replay(metering.ReplayRequest{DryRun: true}, metering.ReplayReport{DryRun: true, Tried: 1203, Passed: 1190, Refused: 13, Reasons: again})
	if len(out.events) > 0 || len(refusedOne(t, store, verdicts[1].Receipt).Replays) > 0 {
		t.Fatal("a dry run published or kept something")
	}
	replay(metering.ReplayRequest{Query: metering.RefusedQuery{Source: "gw-us-1"}}, metering.ReplayReport{Reasons: map[string]int64{}})
	replay(metering.ReplayRequest{Query: metering.RefusedQuery{Reason: metering.UnknownApp}}, metering.ReplayReport{Tried: 1203, Passed: 1190, Refused: 13, Reasons: again})
	sentAgain := map[metering.Key]bool{}
	for _, e := range out.events {
		sentAgain[e.Key()] = true
	}
	if len(out.events) != 1190 || len(sentAgain) != 1190 || !sentAgain[events[1].Event.Key()] {
		t.Fatalf("%d published, %d keys", len(out.events), len(sentAgain))
	}
	p := refusedOne(t, store, verdicts[1].Receipt)
	if p.State() != metering.StateReplayed || p.Passed().Receipt != events[1].Event.Key().String() || p.Passed().By != "k.lee" || !p.Passed().At.Equal(gateTime) {
		t.Errorf("after it passed: %s, %+v", p.State(), p.Replays)
	}

	// Only what waits goes again, and says nothing new.
	for range 2 {
		replay(metering.ReplayRequest{}, metering.ReplayReport{Tried: 13, Refused: 13, Reasons: again})
	}
	if w := refusedOne(t, store, verdicts[100].Receipt); w.State() != metering.StateWaiting || len(w.Replays) != 1 {
		t.Errorf("what still waits is %s after %d kept replays", w.State(), len(w.Replays))
	}

	// By receipt: what passed passes again as the same event, what is unclean says what to do.
	told := replay(metering.ReplayRequest{Query: metering.RefusedQuery{IDs: []string{verdicts[1].Receipt, verdicts[1203].Receipt, "nobody's"}}},
		metering.ReplayReport{Tried: 1, Passed: 1, Unfit: 1, Unknown: []string{"nobody's"}, Reasons: map[string]int64{}})
	if len(told.First) != 1 || !strings.Contains(told.First[0], "send it again clean") {
		t.Errorf("of the unclean one: %q", told.First)
	}
	if p := refusedOne(t, store, verdicts[1].Receipt); len(p.Replays) != 1 {
		t.Errorf("the same outcome was kept %d times", len(p.Replays))
	}

	g.Directory = mended("nobody")
	replay(metering.ReplayRequest{}, metering.ReplayReport{Tried: 13, Passed: 13, Reasons: map[string]int64{}})
	replay(metering.ReplayRequest{}, metering.ReplayReport{Reasons: map[string]int64{}})
	counts, err := store.RefusedCounts(t.Context())
	if diff := cmp.Diff([]metering.RefusedCount{
		{Class: metering.Unclean, Reason: "phi_email", Refused: 1}, {Class: metering.Unusable, Reason: metering.UnknownApp, Refused: 1203, Replayed: 1203},
	}, counts); diff != "" || err != nil {
		t.Errorf("counts: %v %s", err, diff)
	}
}

// TestReplayAsItsSender: whoever sent an event may send no more by way of quarantine.
func TestReplayAsItsSender(t *testing.T) {
	for name, c := range map[string]struct {
		sender metering.Sender
		source string
		want   string // after gw-new was given to us; "" = passes
	}{
		"new source, its owner":         {metering.Sender{Owner: "us", Where: "http"}, "gw-new", ""},
		"new source, somebody else":     {metering.Sender{Owner: "eu", Where: "http"}, "gw-new", metering.SourceNotYours},
		"new source, from a file":       {metering.Sender{Any: true, Where: "calls.log"}, "gw-new", ""},
		"another's source":              {metering.Sender{Owner: "eu", Where: "http"}, "gw-us-1", metering.SourceNotYours},
		"over a subject of its own":     {metering.Sender{Source: "gw-us-1", Where: "INTAKE 1"}, "gw-new", ""},
		"over a subject of nobody":      {metering.Sender{Source: "gw-gone", Where: "INTAKE 1"}, "gw-new", metering.SourceNotYours},
		"by nobody at all":              {metering.Sender{Where: "http"}, "gw-new", metering.SourceNotYours},
		"over a subject that was lost?": {metering.Sender{Source: "\x00", Where: "INTAKE 1"}, "gw-new", metering.SourceNotYours},
	} {
		g, out, store := newGate(t)
		verdicts, err := g.Admit(t.Context(), c.sender, []metering.Decoded{sent(c.source, "a")})
		if err != nil || len(out.events) > 0 {
			t.Fatalf("%s: %d passed, %v", name, len(out.events), err)
		}
		g.Directory = mended()
		r := metering.Replayer{Gate: g, Replays: store}
		if _, err := r.Replay(t.Context(), metering.ReplayRequest{By: "k.lee"}); err != nil {
			t.Fatal(err)
		}
		got := refusedOne(t, store, verdicts[0].Receipt)
		state, reason, published := metering.StateWaiting, c.want, 0
		if c.want == "" {
			state, reason, published = metering.StateReplayed, got.Reason, 1
		}
		if got.State() != state || got.Newest().Reason != reason || len(out.events) != published {
			t.Errorf("%s: %s for %s, %d published, want %s for %s", name, got.State(), got.Newest().Reason, len(out.events), state, reason)
		}
	}
}

// TestReplayKeepsTheTime: an event without a time happened when it first came, not
// when the cause of its refusal was mended.
func TestReplayKeepsTheTime(t *testing.T) {
	g, out, store := newGate(t)
	e := sent("gw-eu-1", "a")
	e.Event.Time, e.Event.TimeAbsent, e.Event.Data.App = time.Time{}, true, "northwind-kiosk"
	if _, err := g.Admit(t.Context(), metering.Sender{Owner: "eu", Where: "http"}, []metering.Decoded{e}); err != nil {
		t.Fatal(err)
	}
	g.Directory = mended("northwind-kiosk")
	g.Now = func() time.Time { return gateTime.AddDate(0, 1, 0) }
	r := metering.Replayer{Gate: g, Replays: store}
	if _, err := r.Replay(t.Context(), metering.ReplayRequest{By: "k.lee"}); err != nil {
		t.Fatal(err)
	}
	if len(out.events) != 1 || !out.events[0].Time.Equal(gateTime) || metering.ContentHash(out.events[0]) != metering.ContentHash(e.Event) {
		t.Errorf("published %+v", out.events)
	}
}

// forgetful loses what it should keep, as a process does that is killed before.
type forgetful struct{ *sqlite.Store }

var errKilled = errors.New("killed")

func (forgetful) Replayed(context.Context, []metering.Replay) error { return errKilled }

// TestReplayInterrupted: killed between publishing and marking, the same event passes
// again under the same key; after an error of the broker nothing is marked.
func TestReplayInterrupted(t *testing.T) {
	g, out, store := newGate(t)
	e := sent("gw-eu-1", "a")
	e.Event.Data.App = "northwind-kiosk"
	verdicts, err := g.Admit(t.Context(), metering.Sender{Owner: "eu", Where: "http"}, []metering.Decoded{e})
	if err != nil {
		t.Fatal(err)
	}
	g.Directory = mended("northwind-kiosk")
	if _, err := (&metering.Replayer{Gate: g, Replays: forgetful{store}}).Replay(t.Context(), metering.ReplayRequest{By: "k.lee"}); !errors.Is(err, errKilled) {
		t.Fatalf("error %v", err)
	}
	r := metering.Replayer{Gate: g, Replays: store}
	out.err = errors.New("broker away")
	if _, err := r.Replay(t.Context(), metering.ReplayRequest{By: "k.lee"}); !errors.Is(err, out.err) {
		t.Fatalf("error %v", err)
	}
	if got := refusedOne(t, store, verdicts[0].Receipt); got.State() != metering.StateWaiting || len(got.Replays) > 0 {
		t.Fatalf("marked although nothing was published: %+v", got.Replays)
	}
	out.err = nil
	if _, err := r.Replay(t.Context(), metering.ReplayRequest{By: "k.lee"}); err != nil {
		t.Fatal(err)
	}
	if len(out.events) != 2 || out.events[0].Key() != out.events[1].Key() || metering.ContentHash(out.events[0]) != metering.ContentHash(out.events[1]) {
		t.Errorf("published %+v", out.events)
	}
	if got := refusedOne(t, store, verdicts[0].Receipt); got.State() != metering.StateReplayed {
		t.Errorf("it is %s", got.State())
	}
}
