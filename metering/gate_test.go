package metering_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mete/metering"
	"mete/metering/sqlite"
	"mete/partner"
)

// published keeps what the gate publishes, or fails.
type published struct {
	events []metering.Event
	err    error
}

func (p *published) Accept(_ context.Context, events []metering.Event) ([]metering.Position, error) {
	if p.err != nil {
		return nil, p.err
	}
	p.events = append(p.events, events...)
	return make([]metering.Position, len(events)), nil
}

var gateTime = time.Date(2026, 9, 14, 12, 0, 0, 0, time.UTC)

func newGate(t *testing.T) (*metering.Gate, *published, *sqlite.Store) {
	t.Helper()
	store, err := sqlite.Open(filepath.Join(t.TempDir(), "events.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	dir := metering.NewDirectory([]partner.App{{ID: "northwind-scheduler", Partner: "northwind"}}, nil,
		[]metering.Source{{Name: "gw-eu-1", Owner: "eu"}, {Name: "gw-us-1", Owner: "us"}, {Name: "gw-nobody"}})
	out := &published{}
	return &metering.Gate{
		Directory: func(context.Context) (*metering.Directory, error) { return dir, nil },
		Intake:    out, Quarantine: store, Now: func() time.Time { return gateTime },
	}, out, store
}

func sent(source, id string) metering.Decoded {
	return metering.Decoded{Raw: []byte(source + id), Event: metering.Event{ID: id, Source: source, Type: metering.UsageAPI,
		Time: gateTime, Data: metering.Data{App: "northwind-scheduler", Status: 200}}}
}

// TestOneDecision sends the same events by every way: what may be said about an event
// does not depend on how it came, only whose it is does.
func TestOneDecision(t *testing.T) {
	ways := map[string]metering.Sender{
		"http": {Owner: "eu", Where: "http"}, "nats": {Source: "gw-eu-1", Where: "INTAKE 7"}, "file": {Any: true, Where: "calls.log"},
	}
	unknownApp, phi, noSource := sent("gw-eu-1", "b"), sent("gw-xx-1", "jane@example.org"), sent("", "c")
	unknownApp.Event.Data.App = "nobody"
	strangersApp := sent("gw-xx-1", "d")
	strangersApp.Event.Data.App = "nobody"
	for name, c := range map[string]struct {
		event metering.Decoded
		want  map[string]string // by way; "" stands for the ways that are not named
	}{
		"own":                    {sent("gw-eu-1", "a"), map[string]string{"": ""}},
		"unknown app":            {unknownApp, map[string]string{"": metering.UnknownApp}},
		"unclean, not ours":      {phi, map[string]string{"": "phi_email"}},
		"no source":              {noSource, map[string]string{"": metering.MissingField}},
		"unknown source":         {sent("gw-xx-1", "a"), map[string]string{"": metering.UnknownSource}},
		"unknown source and app": {strangersApp, map[string]string{"": metering.UnknownSource}},
		"another's":              {sent("gw-us-1", "a"), map[string]string{"": metering.SourceNotYours, "file": ""}},
		"nobody's":               {sent("gw-nobody", "a"), map[string]string{"": metering.SourceNotYours, "file": ""}},
	} {
		kept := map[string]metering.Refusal{}
		for way, sender := range ways {
			want, ok := c.want[way]
			if !ok {
				want = c.want[""]
			}
			g, out, store := newGate(t)
			verdicts, err := g.Admit(t.Context(), sender, []metering.Decoded{c.event})
			if err != nil {
				t.Fatal(err)
			}
			v := verdicts[0]
			if v.Reason != want || (v.Status == metering.StatusAccepted) != (want == "") || (len(out.events) == 1) != (want == "") {
				t.Errorf("%s over %s: %+v and %d published, want %q", name, way, v, len(out.events), want)
			}
			all, err := store.Refusals(t.Context(), "", 10)
			if err != nil || (len(all) == 1) != (want != "") {
				t.Fatalf("%s over %s: in quarantine %+v, %v", name, way, all, err)
			}
			if want == "" {
				continue
			}
			r := all[0]
			if diff := cmp.Diff(*v.Refusal, r); diff != "" || v.Receipt != r.ID {
				t.Errorf("%s over %s: told %s, kept %s: %s", name, way, v.Receipt, r.ID, diff)
			}
			if sent := c.event.Event; r.Class == metering.Unusable && (r.Source != sent.Source || string(r.Event) != string(metering.AppendCanonical(nil, sent))) {
				t.Errorf("%s over %s: kept of source %q: %s", name, way, r.Source, r.Event)
			}
			if want := map[string]string{"http": "eu", "nats": "eu", "file": ""}[way]; r.Sender != want {
				t.Errorf("%s over %s: sent by %q, want %q", name, way, r.Sender, want)
			}
			r.ID, r.Where, r.Sender = "", "", "" // where it was found, whose it is, and the receipt that says so
			if first, ok := kept[want]; ok {
				if diff := cmp.Diff(first, r); diff != "" {
					t.Errorf("%s over %s: kept otherwise: %s", name, way, diff)
				}
			}
			kept[want] = r
		}
	}
}

// TestPlaces: a line of a file is named by its number, an event of a request by its
// index; the same refusal told again is the same, at another place it is another.
func TestPlaces(t *testing.T) {
	g, _, store := newGate(t)
	line, event := sent("gw-xx-1", "a"), sent("gw-xx-1", "a")
	line.Line = 17
	for range 2 {
		if _, err := g.Admit(t.Context(), metering.Sender{Any: true, Where: "calls.log"}, []metering.Decoded{line}); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Admit(t.Context(), metering.Sender{Owner: "eu", Where: "http"}, []metering.Decoded{sent("gw-eu-1", "b"), event}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := store.Refusals(t.Context(), "", 10)
	if err != nil {
		t.Fatal(err)
	}
	where := map[string]bool{}
	for _, r := range all {
		where[r.Where] = true
		if len(r.Digest) != 64 || !r.ReceivedAt.Equal(gateTime) {
			t.Errorf("kept %+v", r)
		}
	}
	if diff := cmp.Diff(map[string]bool{"calls.log:17": true, "http[1]": true}, where); diff != "" || len(all) != 2 {
		t.Errorf("%d refusals: %s", len(all), diff)
	}
}

// TestRefusalsFirst: when publishing fails, what was refused is on record already.
func TestRefusalsFirst(t *testing.T) {
	g, out, store := newGate(t)
	out.err = errors.New("broker away")
	_, err := g.Admit(t.Context(), metering.Sender{Any: true, Where: "calls.log"}, []metering.Decoded{sent("gw-eu-1", "a"), sent("gw-xx-1", "b")})
	if !errors.Is(err, out.err) {
		t.Errorf("error %v", err)
	}
	all, err := store.Refusals(t.Context(), "", 10)
	if err != nil || len(all) != 1 {
		t.Errorf("%d refusals, %v", len(all), err)
	}
}
