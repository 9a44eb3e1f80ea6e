package httpin_test

import (
	"context"
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

// TestFromSendersToStore takes events in over HTTP and NATS at once, some of them
// refused, some sent by both, through a real broker into a real store. What was
// answered is what was counted.
func TestFromSendersToStore(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	directory := metering.NewDirectory(
		[]partner.App{{ID: "northwind-scheduler", Partner: "northwind"}},
		[]metering.Meter{{ID: "api_calls", Type: metering.UsageAPI, Aggregate: metering.AggregateCount}},
		[]metering.Source{{Name: "gw-eu-1", Owner: "eu"}, {Name: "gw-us-1", Owner: "us"}},
	)
	srv, err := jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(t.TempDir(), "stream"), ListenLoopback: true,
		Users: []jetstream.SourceUser{{Name: "eu", Password: "pw", Sources: []string{"gw-eu-1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown()
	own, err := srv.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	streams, err := jetstream.Ensure(ctx, own, jetstream.Settings{Intake: true, MaxBytes: 64 << 20, Facts: srv.Facts})
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(filepath.Join(t.TempDir(), "events.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := streams.Attach(ctx, store); err != nil {
		t.Fatal(err)
	}
	gate := &httpin.Gate{
		Directory:  func(context.Context) (*metering.Directory, error) { return directory, nil },
		Intake:     &jetstream.Intake{Streams: streams},
		Quarantine: store,
	}
	router := &jetstream.Router{Streams: streams, Gate: func(ctx context.Context, m jetstream.Incoming) ([]byte, error) {
		return gate.AdmitMessage(ctx, m.Source, m.Header, m.Body, m.Where)
	}}
	worker := &jetstream.Worker{Streams: streams, Store: store}
	web := httptest.NewServer(&httpin.Handler{Gate: gate, Owner: httpin.Tokens{"eu": httpin.HashToken("key")}.Owner, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	defer web.Close()

	background, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{router.Run, worker.Run} {
		running.Go(func() {
			if err := run(background); err != nil {
				t.Error(err)
			}
		})
	}

	producer, err := nats.Connect(srv.URL(), nats.UserInfo("eu", "pw"), nats.CustomInboxPrefix(jetstream.InboxPrefix("eu")))
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
		var verdicts []httpin.Verdict
		if err := json.Unmarshal(body, &verdicts); err != nil {
			t.Errorf("answer %q: %v", body, err)
		}
		count.Lock()
		defer count.Unlock()
		for _, v := range verdicts {
			if v.Status == httpin.StatusAccepted {
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
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, web.URL+httpin.Path, strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			r.Header.Set("Authorization", "Bearer key")
			r.Header.Set("Content-Type", "application/cloudevents-batch+json")
			answer, err := http.DefaultClient.Do(r)
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
	if err := router.WaitRouted(ctx); err != nil {
		t.Error(err)
	}
	if err := worker.WaitDrained(ctx, nil); err != nil {
		t.Error(err)
	}
	stop()
	running.Wait()

	cutoff, err := store.Cutoff(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c, err := store.Counts(ctx, cutoff)
	if err != nil {
		t.Fatal(err)
	}
	if c.Stored != batches*each || c.Duplicate != batches/2*each || c.Announced != int64(accepted) || c.Conflict+c.Undecoded != 0 {
		t.Errorf("counts %+v; %d were accepted, want %d stored, %d duplicates", c, accepted, batches*each, batches/2*each)
	}
	counts, err := store.RefusalCounts(ctx)
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
