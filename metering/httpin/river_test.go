package httpin_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mete/metering"
	"mete/metering/httpin"
	"mete/metering/jetstream"
	"mete/metering/sqlite"
	"mete/partner"
)

func cloudEvent(source, id, app string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":"usage.api","time":"2026-09-14T10:00:00Z","subject":"lakeside-clinic","data":{"app":%q,"status":200}}`, id, source, app)
}

// river is a real broker and a real store with the HTTP way in before them.
type river struct {
	srv     *jetstream.Server
	streams *jetstream.Streams
	store   *sqlite.Store
	worker  *jetstream.Worker
	url     string            // of the HTTP server; the key is "key", of the owner eu
	resize  func(bytes int64) // gives each partition more room
}

// newRiver starts one; what must differ is set in settings and intake.
func newRiver(t *testing.T, settings jetstream.Settings, intake *jetstream.Intake) *river {
	t.Helper()
	ctx := t.Context()
	directory := metering.NewDirectory(
		[]partner.App{{ID: "northwind-scheduler", Partner: "northwind"}},
		[]metering.Meter{{ID: "api_calls", Type: metering.UsageAPI, Aggregate: metering.AggregateCount}},
		[]metering.Source{{Name: "gw-eu-1", Owner: "eu"}, {Name: "nginx-eu", Owner: "eu", Mapping: "nginx"}, {Name: "gw-us-1", Owner: "us"}},
	)
	var r river
	var err error
	r.srv, err = jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(t.TempDir(), "stream"), ListenLoopback: true,
		Users: []jetstream.SourceUser{{Name: "eu", Password: "pw", Sources: []string{"gw-eu-1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.srv.Shutdown)
	own, err := r.srv.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	settings.Intake, settings.Facts = true, r.srv.Facts
	if r.streams, err = jetstream.Ensure(ctx, own, settings); err != nil {
		t.Fatal(err)
	}
	r.resize = func(bytes int64) {
		settings.MaxBytes = bytes
		if _, err := jetstream.Ensure(ctx, own, settings); err != nil {
			t.Fatal(err)
		}
	}
	if r.store, err = sqlite.Open(filepath.Join(t.TempDir(), "events.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.store.Close() })
	if _, err := r.streams.Attach(ctx, r.store); err != nil {
		t.Fatal(err)
	}
	intake.Streams = r.streams
	gate := &metering.Gate{
		Directory:  func(context.Context) (*metering.Directory, error) { return directory, nil },
		Intake:     intake,
		Quarantine: r.store,
	}
	router := &jetstream.Router{Streams: r.streams, Gate: func(ctx context.Context, m jetstream.Incoming) ([]byte, error) {
		return gate.AdmitMessage(ctx, m.Source, m.Header, m.Body, m.Where)
	}}
	r.worker = &jetstream.Worker{Streams: r.streams, Store: r.store}
	nginx, err := metering.BuiltInMapping("nginx")
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(&httpin.Handler{Gate: gate, Mappings: map[string]*metering.Mapping{"nginx": nginx},
		Owner: httpin.Tokens{"eu": httpin.HashToken("key")}.Owner, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	t.Cleanup(web.Close)
	r.url = web.URL

	background, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{router.Run, r.worker.Run} {
		running.Go(func() {
			if err := run(background); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return &r
}

// counts is what the store has counted when all that is in the stream is stored.
func (r *river) counts(t *testing.T) metering.Counts {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := r.streams.WaitRouted(ctx); err != nil {
		t.Error(err)
	}
	if err := r.worker.WaitDrained(ctx, nil); err != nil {
		t.Error(err)
	}
	cutoff, err := r.store.Cutoff(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.store.Counts(ctx, cutoff)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestFromSendersToStore takes events in over HTTP and NATS at once, some of them
// refused, some sent by both, through a real broker into a real store. What was
// answered is what was counted.
func TestFromSendersToStore(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	r := newRiver(t, jetstream.Settings{MaxBytes: 64 << 20}, &jetstream.Intake{})

	producer, err := nats.Connect(r.srv.URL(), nats.UserInfo("eu", "pw"), nats.CustomInboxPrefix(jetstream.InboxPrefix("eu")))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	answers, err := producer.SubscribeSync(jetstream.AnswerSubject("gw-eu-1") + ".>")
	if err != nil {
		t.Fatal(err)
	}
	api, err := natsjs.New(producer)
	if err != nil {
		t.Fatal(err)
	}

	const batches, each = 20, 50
	var accepted, refused int
	var count sync.Mutex
	tally := func(body []byte) {
		var verdicts []metering.Verdict
		if err := json.Unmarshal(body, &verdicts); err != nil {
			t.Errorf("answer %q: %v", body, err)
		}
		count.Lock()
		defer count.Unlock()
		for _, v := range verdicts {
			if v.Status == metering.StatusAccepted {
				accepted++
			} else {
				refused++
			}
		}
	}
	var senders sync.WaitGroup
	for i := range batches {
		all := make([]string, 0, each+1)
		for n := range each {
			all = append(all, cloudEvent("gw-eu-1", fmt.Sprintf("%d-%d", i, n), "northwind-scheduler"))
		}
		all = append(all, cloudEvent("gw-us-1", fmt.Sprint("stolen", i), "northwind-scheduler"))
		body := "[" + strings.Join(all, ",") + "]"
		senders.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+httpin.Path, strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer key")
			req.Header.Set("Content-Type", "application/cloudevents-batch+json")
			answer, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer answer.Body.Close()
			b, err := io.ReadAll(answer.Body)
			if err != nil || answer.StatusCode != http.StatusOK {
				t.Errorf("status %d, %v: %s", answer.StatusCode, err, b)
				return
			}
			tally(b)
		})
		if i%2 == 0 { // the same events over NATS too
			m := &nats.Msg{Subject: jetstream.IntakeSubject("gw-eu-1"), Data: []byte(body), Header: nats.Header{}}
			m.Header.Set(jetstream.HeaderReply, jetstream.AnswerSubject("gw-eu-1")+".me")
			if _, err := api.PublishMsg(ctx, m); err != nil {
				t.Fatal(err)
			}
		}
	}
	senders.Wait()
	for range batches / 2 {
		m, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		tally(m.Data)
	}
	c := r.counts(t)
	if c.Stored != batches*each || c.Duplicate != batches/2*each || c.Announced != int64(accepted) || c.Conflict+c.Undecoded != 0 {
		t.Errorf("counts %+v; %d were accepted, want %d stored, %d duplicates", c, accepted, batches*each, batches/2*each)
	}
	counts, err := r.store.RefusalCounts(ctx)
	if err != nil || refused != batches*3/2 {
		t.Errorf("%d refused, want %d; %v", refused, batches*3/2, err)
	}
	total := int64(0)
	for _, n := range counts {
		total += n
	}
	if total != int64(refused) {
		t.Errorf("quarantine has %v, %d were refused", counts, refused)
	}
}

// TestMessageIDsOverNATS sends what a collector's JetStream output sends: one event a
// message, with a Nats-Msg-Id of its choice. The broker drops another body under an id
// that it has seen, and says so to nobody but the sender; so the id must follow from
// the body.
func TestMessageIDsOverNATS(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	r := newRiver(t, jetstream.Settings{MaxBytes: 64 << 20}, &jetstream.Intake{})
	producer, err := nats.Connect(r.srv.URL(), nats.UserInfo("eu", "pw"), nats.CustomInboxPrefix(jetstream.InboxPrefix("eu")))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	api, err := natsjs.New(producer)
	if err != nil {
		t.Fatal(err)
	}
	send := func(messageID, body string) (duplicate bool) {
		t.Helper()
		m := &nats.Msg{Subject: jetstream.IntakeSubject("gw-eu-1"), Data: []byte(body), Header: nats.Header{"Content-Type": {"application/cloudevents+json"}}}
		if messageID != "" {
			m.Header.Set("Nats-Msg-Id", messageID)
		}
		ack, err := api.PublishMsg(ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		return ack.Duplicate
	}
	hash := func(body string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(body))) }
	one, two := cloudEvent("gw-eu-1", "one", "northwind-scheduler"), cloudEvent("gw-eu-1", "two", "northwind-scheduler")
	three, four := cloudEvent("gw-eu-1", "three", "northwind-scheduler"), cloudEvent("gw-eu-1", "four", "northwind-scheduler")

	// The trap: an id that is not of the body, such as that of a batch or of a request.
	if send("call-7", one) || !send("call-7", two) {
		t.Error("the broker took another body under an id that it knew")
	}
	if c := r.counts(t); c.Stored != 1 {
		t.Fatalf("%+v, want the first alone", c)
	}
	// The hash of the body: only the same bytes are dropped, and they are the same event.
	if send(hash(two), two) || send(hash(three), three) || !send(hash(three), three) {
		t.Error("the hash of a body is not its id")
	}
	if c := r.counts(t); c.Stored != 3 || c.Duplicate != 0 {
		t.Errorf("%+v, want three", c)
	}
	// None at all: the store tells.
	for range 2 {
		if send("", four) {
			t.Error("the broker dropped a message without an id")
		}
	}
	if c := r.counts(t); c.Stored != 4 || c.Duplicate != 1 || c.Conflict != 0 {
		t.Errorf("%+v, want four and a duplicate", c)
	}

	// Redpanda Connect cannot be told an inbox prefix. The broker that mete brings along
	// does not let a producer listen on inboxes of others, so it gets no acknowledgement.
	other, err := nats.Connect(r.srv.URL(), nats.UserInfo("eu", "pw"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Request(jetstream.IntakeSubject("gw-eu-1"), []byte(four), time.Second); err == nil {
		t.Error("a producer without its inbox prefix was answered")
	}
}
