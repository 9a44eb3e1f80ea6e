package simulation

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"mete/metering"
	"mete/metering/jetstream"
	"mete/metering/sqlite"
)

// TestStartWhileABrokerIsAway starts on two of three brokers, the third of which is
// killed before: events are accepted and stored, the missing one is named, and checked
// when it is back. It comes back safe first; then with another sync_interval, and is
// refused by name, by who runs already and by who starts then.
func TestStartWhileABrokerIsAway(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for a while")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	nodes := newNodes(t, 3)
	start := func() *joined {
		t.Helper()
		j, err := join(ctx, addresses(nodes), "away")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(j.close)
		return j
	}
	j := start()
	for b := j.streams.Brokers(); len(b.Checked) < 3; b = j.streams.Brokers() { // one may have been slow
		if err := j.streams.Verify(ctx); err != nil || ctx.Err() != nil {
			t.Fatalf("%+v: %v", b, err)
		}
	}
	if b := j.streams.Brokers(); b.Unchecked() != "" || !slices.Equal(b.Checked, []string{"n1", "n2", "n3"}) {
		t.Fatalf("with all brokers: %+v", b)
	}
	s, err := sqlite.Open(t.TempDir() + "/events.db")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sent := 0
	send := func(j *joined) {
		t.Helper()
		var all []metering.Event
		for range 500 {
			all = append(all, numbered(sent))
			sent++
		}
		if _, err := (&jetstream.Intake{Streams: j.streams}).Accept(ctx, all); err != nil {
			t.Fatal(err)
		}
		w := &jetstream.Worker{Streams: j.streams, Store: s}
		run, stop := context.WithCancel(ctx)
		ran := make(chan error, 1)
		go func() { ran <- w.Run(run) }()
		if err := w.WaitDrained(ctx, nil); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		c, err := s.Counts(ctx, nil)
		if err != nil || int(c.Stored) != sent {
			t.Fatalf("%d events are stored (%v), want %d", c.Stored, err, sent)
		}
	}
	send(j)
	j.close()

	away := func() (*joined, chan jetstream.Brokers, chan error) {
		t.Helper()
		nodes[2].kill()
		began := time.Now()
		j := start()
		b := j.streams.Brokers()
		if want := "1 of 3 brokers are away and were not checked: n3"; b.Unchecked() != want || !slices.Equal(b.Checked, []string{"n1", "n2"}) {
			t.Errorf("%q, checked %v; want %q", b.Unchecked(), b.Checked, want)
		}
		t.Logf("started on two of three brokers within %s: %s", time.Since(began).Round(time.Millisecond), b.Unchecked())
		send(j)
		changed, watched := make(chan jetstream.Brokers, 10), make(chan error, 1)
		run, stop := context.WithCancel(ctx)
		t.Cleanup(stop)
		go func() { watched <- j.streams.Watch(run, func(b jetstream.Brokers) { changed <- b }) }()
		return j, changed, watched
	}
	back := func() {
		t.Helper()
		if err := nodes[2].start(); err != nil {
			t.Fatal(err)
		}
		if err := nodes[2].ready(); err != nil {
			t.Fatal(err)
		}
	}
	const soon = 60 * time.Second
	j, changed, failed := away()
	back()
	select {
	case b := <-changed:
		if b.Unchecked() != "" || len(b.Checked) != 3 {
			t.Errorf("n3 is back, and what is told is %+v", b)
		}
	case err := <-failed:
		t.Fatalf("a safe broker came back: %v", err)
	case <-time.After(soon):
		t.Fatal("nobody looked at n3 when it was back")
	}
	j.close()

	last, _, watched := away()
	file, err := os.ReadFile(nodes[2].config)
	if err != nil {
		t.Fatal(err)
	}
	unsafe := strings.Replace(string(file), "sync_interval: always", "sync_interval: 2m", 1)
	if err := os.WriteFile(nodes[2].config, []byte(unsafe), 0o600); err != nil {
		t.Fatal(err)
	}
	back()
	refused := func(who string, err error) {
		t.Helper()
		var wrong *jetstream.SettingError
		if !errors.As(err, &wrong) || wrong.Where != "server n3" || wrong.Setting != "jetstream.sync_interval" {
			t.Errorf("%s: %v; want n3 and its sync_interval refused", who, err)
		}
	}
	began := time.Now()
	select {
	case err := <-watched:
		refused("who runs", err)
		t.Logf("refused %s after it was back: %v", time.Since(began).Round(time.Millisecond), err)
	case <-time.After(soon):
		t.Fatal("a broker that does not sync came back, and nobody said so")
	}
	again, err := join(ctx, addresses(nodes), "again")
	if err == nil {
		again.close()
	}
	refused("who starts", err)

	// One of three decides nothing.
	nodes[1].kill()
	nodes[2].kill()
	alone, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if facts, err := jetstream.AskServers(alone, last.system, 3); err == nil || !strings.Contains(err.Error(), "of 3 answered, want 2") {
		t.Errorf("one of three brokers: %+v, %v", facts, err)
	}
}
