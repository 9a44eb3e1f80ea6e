package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"mete/billing"
	"mete/metering/jetstream"
)

// expireAll lets all messages of the held folder's stream expire, as 400 days would.
func (d *desk) expireAll() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	age := func(keep, window time.Duration) {
		d.t.Helper()
		api, err := js.New(d.held.conn)
		if err != nil {
			d.t.Fatal(err)
		}
		for p := range d.held.streams.Partitions() {
			s, err := api.Stream(ctx, fmt.Sprintf("USAGE_%d", p))
			if err != nil {
				d.t.Fatal(err)
			}
			c := s.CachedInfo().Config
			c.MaxAge, c.Duplicates = keep, window
			if _, err := api.UpdateStream(ctx, c); err != nil {
				d.t.Fatal(err)
			}
		}
	}
	age(time.Second, time.Second)
	for p := range d.held.streams.Partitions() {
		for {
			s, err := d.held.streams.State(ctx, p)
			if err != nil {
				d.t.Fatal(err)
			}
			if s.First > s.Last {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	age(jetstream.DefaultKeep, jetstream.DuplicateWindow)
}

// TestReconcileAfterExpiry: what was reconciled expires from a real stream, and every
// reconcile after it comes to the same figures; what expires unreconciled is named.
func TestReconcileAfterExpiry(t *testing.T) {
	d := &desk{t: t, dir: t.TempDir(), now: "2026-10-02T15:00:00Z"}
	d.want(exitOK, "apply", "-f", folder(t, map[string]string{"all.yaml": crashCatalogue}), "--as", "k.lee")
	if a := d.want(exitOK, "reconcile"); !strings.Contains(a.out, "moved on to") && !strings.Contains(a.out, "no checkpoint yet") {
		t.Errorf("an empty marketplace: %s", a.out)
	}
	let := d.hold()
	next := 0
	ingest := func(n int) {
		t.Helper()
		var b strings.Builder
		for range n {
			fmt.Fprintln(&b, delivery{identity{crashSources[next%2], fmt.Sprintf("call-%05d", next)}, &content{quantity: 1}}.json())
			next++
		}
		d.want(exitOK, "ingest", filepath.Join(folder(t, map[string]string{"x.ndjson": b.String()}), "x.ndjson"), "--gateway", "cloudevents")
	}
	reconcile := func(args ...string) (r billing.Reconciliation) {
		t.Helper()
		d.read(&r, append([]string{"reconcile"}, args...)...)
		if r.Difference() > 0 {
			t.Fatalf("reconcile: %v", r.Findings)
		}
		return r
	}
	ingest(2000)
	before := reconcile()
	if !before.Moved || before.Expired != 0 || before.Checkpoint.Announced != int64(next) {
		t.Fatalf("the first checkpoint: %+v", before.Checkpoint)
	}
	d.expireAll()
	after := reconcile()
	if after.Moved || after.Expired != before.Checkpoint.Messages || after.Balances[1] != before.Balances[1] {
		t.Errorf("%d of %d messages have expired; events announced %+v, were %+v", after.Expired, before.Checkpoint.Messages, after.Balances[1], before.Balances[1])
	}
	reconcile("--full")
	ingest(500)
	grown := reconcile("--full")
	if !grown.Moved || grown.Checkpoint.Announced != int64(next) || grown.Expired != after.Expired {
		t.Errorf("after more came: %+v, %d expired", grown.Checkpoint, grown.Expired)
	}
	text := d.want(exitOK, "reconcile").out
	want := fmt.Sprintf("checkpoint stays at %s, of 2026-10-02 15:00 UTC: %d messages, 2,500 events; %d of these messages have expired from the stream",
		grown.Checkpoint.Cutoff, grown.Checkpoint.Messages, grown.Expired)
	if !strings.Contains(text, want) {
		t.Errorf("reconcile does not say %q:\n%s", want, text)
	}
	let()
	reconcile() // by a process that finds the stream so

	let = d.hold()
	defer let()
	ingest(300)
	d.expireAll()
	lost := d.want(exitFound, "reconcile")
	for _, says := range []string{"! messages expired: partition 0: want only those up to", "are gone", "! messages: in the stream against seen by the store", "checkpoint stays at " + grown.Checkpoint.Cutoff.String()} {
		if !strings.Contains(lost.out, says) {
			t.Errorf("messages expired that nobody had reconciled, and reconcile does not say %q:\n%s", says, lost.out)
		}
	}
	if a := d.want(exitFound, "reconcile", "--full"); !strings.Contains(a.out, "messages expired") {
		t.Errorf("--full: %s", a.out)
	}
}

// TestHoldFollowsTheCheckpoint: a stream keeps what is not reconciled longer than it
// would by itself, from when the folder is opened, and goes back when it is.
func TestHoldFollowsTheCheckpoint(t *testing.T) {
	d := &desk{t: t, dir: t.TempDir(), now: "2026-10-02T15:00:00Z"}
	d.want(exitOK, "apply", "-f", folder(t, map[string]string{"all.yaml": crashCatalogue}), "--as", "k.lee")
	defer d.hold()()
	d.want(exitOK, "ingest", filepath.Join(folder(t, map[string]string{"x.ndjson": delivery{identity{crashSources[0], "call-1"}, &content{quantity: 1}}.json()}), "x.ndjson"), "--gateway", "cloudevents")
	ctx := context.Background()
	keeps := func() (longest time.Duration) {
		t.Helper()
		for p := range d.held.streams.Partitions() {
			s, err := d.held.streams.State(ctx, p)
			if err != nil {
				t.Fatal(err)
			}
			longest = max(longest, s.MaxAge)
		}
		return longest
	}
	// As if the message had come 390 days ago: the stream is told so by the time.
	if err := d.held.streams.Hold(ctx, nil, time.Now().Add(390*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := keeps(); got < 419*24*time.Hour {
		t.Errorf("a message that is not reconciled is kept %s", got)
	}
	d.want(exitOK, "reconcile")
	if got := keeps(); got != jetstream.DefaultKeep {
		t.Errorf("after the reconcile the stream keeps %s, want %s", got, jetstream.DefaultKeep)
	}
	if h := d.held.health(ctx); !h.OK || h.CheckpointAt.IsZero() {
		t.Errorf("health after a reconcile: %+v", h)
	}
	d.held.mu.Lock()
	d.held.held.err, d.held.held.at = fmt.Errorf("no answer"), time.Now().Add(-2*holdPatience)
	d.held.mu.Unlock()
	if h := d.held.health(ctx); h.OK || !strings.Contains(h.Error, "what may expire: no answer") {
		t.Errorf("the stream was not told for two days, and health is %+v", h)
	}
}
