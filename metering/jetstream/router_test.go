package jetstream

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"mete/metering"
)

// gate publishes every event of a message that its source may send.
func gate(in *Intake) Gate {
	return func(ctx context.Context, m Incoming) ([]byte, error) {
		decoded, err := metering.Decode(m.Header, m.Body, metering.Limits{})
		if err != nil {
			return json.Marshal("refused: " + err.Error())
		}
		var all []metering.Event
		for _, d := range decoded {
			if d.Refusal == nil && d.Event.Source == m.Source {
				all = append(all, d.Event)
			}
		}
		if _, err := in.Accept(ctx, all); err != nil {
			return nil, err
		}
		return json.Marshal(fmt.Sprintf("%d of %d", len(all), len(decoded)))
	}
}

func cloudEvent(source, id string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":"usage.api","time":"2026-09-14T10:00:00Z","subject":"lakeside-clinic","data":{"app":"northwind-scheduler","status":200}}`, id, source)
}

func TestRouter(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir, ServerOptions{ListenLoopback: true, Users: []SourceUser{{Name: "eu", Password: "pw", Sources: []string{"gw-eu-1"}}}}, Settings{Partitions: 1, Intake: true})
	conn, err := nats.Connect(b.URL(), nats.UserInfo("eu", "pw"), nats.CustomInboxPrefix(InboxPrefix("eu")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers, err := conn.SubscribeSync(AnswerSubject("gw-eu-1") + ".>")
	if err != nil {
		t.Fatal(err)
	}
	inboxes, err := b.conn.SubscribeSync("_INBOX.victim.>")
	if err != nil {
		t.Fatal(err)
	}
	api, err := js.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 30*time.Second)
	send := func(body, reply string) {
		t.Helper()
		m := &nats.Msg{Subject: IntakeSubject("gw-eu-1"), Data: []byte(body), Header: nats.Header{}}
		if reply != "" {
			m.Header.Set(HeaderReply, reply)
		}
		if _, err := api.PublishMsg(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	send(cloudEvent("gw-eu-1", "one"), AnswerSubject("gw-eu-1")+".r1")
	send("["+cloudEvent("gw-eu-1", "two")+","+cloudEvent("gw-us-1", "not-mine")+"]", "")
	send("patient Jane Doe, MRN 12345678", "_INBOX.victim.x")
	if !onDisk(t, dir, "Jane Doe") {
		t.Fatal("the intake stream is not on disk; the test looks at the wrong place")
	}

	in := &Intake{Streams: b.streams}
	var failing atomic.Int64
	failing.Store(2)
	open := gate(in)
	r := &Router{Streams: b.streams, Gate: func(ctx context.Context, m Incoming) ([]byte, error) {
		if !strings.HasPrefix(m.Where, "INTAKE ") || m.Source != "gw-eu-1" {
			t.Errorf("incoming %+v", m)
		}
		answer, err := open(ctx, m)
		if failing.Add(-1) >= 0 {
			return nil, errors.New("not now") // after it was published: it comes twice
		}
		return answer, err
	}}
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.Run(run) }()
	if err := r.Streams.WaitRouted(ctx); err != nil {
		t.Fatal(err)
	}
	m, err := answers.NextMsgWithContext(ctx)
	if err != nil || string(m.Data) != `"1 of 1"` || m.Subject != AnswerSubject("gw-eu-1")+".r1" {
		t.Errorf("answer %v, %v", m, err)
	}
	if n, _, _ := inboxes.Pending(); n != 0 {
		t.Error("a producer made the router write into the inbox of another")
	}
	for _, text := range []string{"Jane Doe", "12345678", "not-mine"} {
		if onDisk(t, dir, text) {
			t.Errorf("%q is still on disk", text)
		}
	}
	store := newMemory()
	drain(t, &Worker{Streams: b.streams, Store: store})
	if len(store.keys) != 2 {
		t.Errorf("%d events stored, want 2", len(store.keys))
	}
	h, err := r.Health(ctx)
	if err != nil || h.Waiting != 0 || h.RoutedAt.IsZero() || h.Err != nil {
		t.Errorf("health %+v, %v", h, err)
	}
	if err := r.erase(ctx, 1); err != nil {
		t.Errorf("erase again: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Messages that were acknowledged while no router ran are routed when one does.
func TestRouterCatchesUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stream")
	b, err := open(dir, ServerOptions{}, Settings{Intake: true})
	if err != nil {
		t.Fatal(err)
	}
	const n = 300
	for i := range n {
		if _, err := b.streams.js.Publish(within(t, 5*time.Second), IntakeSubject("gw-eu-1"), []byte(cloudEvent("gw-eu-1", fmt.Sprint("e", i)))); err != nil {
			t.Fatal(err)
		}
	}
	b.close()
	b = start(t, dir, ServerOptions{}, Settings{Intake: true})
	r := &Router{Streams: b.streams, Gate: gate(&Intake{Streams: b.streams})}
	ctx, stop := context.WithCancel(within(t, 60*time.Second))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := r.Streams.WaitRouted(ctx); err != nil {
		t.Error(err)
	}
	stop()
	wg.Wait()
	m := newMemory()
	drain(t, &Worker{Streams: b.streams, Store: m})
	if len(m.keys) != n {
		t.Errorf("%d of %d stored", len(m.keys), n)
	}
}

const childMessages = 40

// routerChild publishes to the intake and routes, until it is killed or done.
func routerChild(dir string) error {
	b, err := open(dir, ServerOptions{}, Settings{Intake: true})
	if err != nil {
		return err
	}
	defer b.close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	r := &Router{Streams: b.streams, Gate: gate(&Intake{Streams: b.streams})}
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	out := bufio.NewWriter(os.Stdout)
	for i := range childMessages {
		id := fmt.Sprintf("%d-%d", os.Getpid(), i)
		if _, err := b.streams.js.Publish(ctx, IntakeSubject("gw-eu-1"), []byte(cloudEvent("gw-eu-1", id))); err != nil {
			return err
		}
		fmt.Fprintln(out, id)
		out.Flush()
	}
	if err := r.Streams.WaitRouted(ctx); err != nil {
		return err
	}
	stop()
	return <-ran
}

// A broker that was killed while it erased a message may have it again: acknowledged,
// and so never given out any more. It is routed and erased all the same.
func TestRouterSweepsWhatCameBack(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir, ServerOptions{}, Settings{Partitions: 1, Intake: true})
	ctx := within(t, 60*time.Second)
	for i := range 3 {
		if _, err := b.streams.js.Publish(ctx, IntakeSubject("gw-eu-1"), []byte(cloudEvent("gw-eu-1", fmt.Sprintf("came-back-%d", i)))); err != nil {
			t.Fatal(err)
		}
	}
	consumer, err := b.streams.js.CreateConsumer(ctx, intakeStream, js.ConsumerConfig{Durable: routerName, AckPolicy: js.AckExplicitPolicy, MaxDeliver: -1, Description: "mete: takes producers' events through validation",
		AckWait: DefaultRouteWait, MaxAckPending: 8 * routeAtOnce})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // acknowledged, and there
		m, err := consumer.Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.DoubleAck(ctx); err != nil {
			t.Fatal(err)
		}
	}
	r := &Router{Streams: b.streams, Gate: gate(&Intake{Streams: b.streams})}
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.Run(run) }()
	if err := r.Streams.WaitRouted(ctx); err != nil {
		t.Fatal(err)
	}
	if h, err := r.Health(ctx); err != nil || h.Err != nil || h.Waiting != 0 || h.RoutedAt.IsZero() {
		t.Errorf("health %+v, %v", h, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	store := newMemory()
	drain(t, &Worker{Streams: b.streams, Store: store})
	if len(store.keys) != 3 {
		t.Errorf("%d events stored, want 3", len(store.keys))
	}
}

// Killed between any two steps, the router loses nothing that was acknowledged, and
// the store counts each event once.
func TestKilledRouter(t *testing.T) {
	for _, point := range []string{"router.before-gate", "intake.before-publish", "intake.after-publish", "router.before-erase", "router.after-erase"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "stream")
			acked := killedChild(t, "router", dir, childMessages+1, []string{"METE_FAILPOINT=" + point + "=kill@8"})
			b := start(t, dir, ServerOptions{}, Settings{Intake: true})
			r := &Router{Streams: b.streams, Gate: gate(&Intake{Streams: b.streams})}
			ctx, stop := context.WithCancel(within(t, 60*time.Second))
			done := make(chan error, 1)
			// What the child held unacknowledged is given out again after DefaultRouteWait; a
			// test does not wait for that.
			if err := b.streams.js.DeleteConsumer(ctx, intakeStream, routerName); err != nil {
				t.Fatal(err)
			}
			go func() { done <- r.Run(ctx) }()
			if err := r.Streams.WaitRouted(ctx); err != nil {
				t.Fatal(err)
			}
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
			m := newMemory()
			drain(t, &Worker{Streams: b.streams, Store: m})
			for _, id := range acked {
				e := metering.Event{Source: "gw-eu-1", ID: id}
				if m.keys[e.Key()] == 0 {
					t.Errorf("event %s was acknowledged and is gone", id)
				}
			}
			if len(acked) == 0 {
				t.Error("nothing was acknowledged before the kill")
			}
			t.Logf("%d acknowledged; %d events in the stream, %d different", len(acked), m.announced, len(m.keys))
		})
	}
}
