package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mete/metering/jetstream"
	"mete/money"
)

const restoreContract = `contract: northwind-agreement
partner: northwind
apps: [northwind-scheduler]
currency: USD
zone: America/Chicago
effective: {from: 2026-09-01}
collects: platform
presentation: agent
rules:
  - {id: calls, kind: usage_fee, meter: api_calls, class: api, price: {model: per_unit, unit: 0.01}}
`

// TestYesterdaysStoreUnderTodaysStream puts an older copy of the metering store back
// under a stream that went on, and under a month that was closed on what the copy does
// not have.
func TestYesterdaysStoreUnderTodaysStream(t *testing.T) {
	d := &desk{t: t, dir: t.TempDir(), now: "2026-10-02T15:00:00Z"}
	d.want(exitOK, "apply", "-f", folder(t, map[string]string{"all.yaml": crashCatalogue, "contract.yaml": restoreContract}), "--as", "k.lee")
	d.want(exitOK, "contract", "approve", "northwind-agreement", "--as", "r.shah")
	d.want(exitOK, "contract", "accept", "northwind-agreement", "--by", "the signer", "--evidence", "signed order form", "--as", "k.lee")
	write := func(name string, from, to int) string {
		var b strings.Builder
		for i := from; i < to; i++ {
			fmt.Fprintln(&b, delivery{identity{crashSources[i%2], fmt.Sprintf("call-%05d", i)}, &content{quantity: i%7 + 1}}.json())
		}
		return filepath.Join(folder(t, map[string]string{name: b.String()}), name)
	}
	first, second := write("first.ndjson", 0, 3000), write("second.ndjson", 2000, 5000)
	d.want(exitOK, "ingest", first, "--gateway", "cloudevents")
	yesterday := copyStore(t, d.dir, t.TempDir())
	d.want(exitOK, "ingest", second, "--gateway", "cloudevents")
	before := d.want(exitOK, "usage", "--by", "app,operation", "--json").out
	d.now = "2026-10-05T15:00:00Z"
	d.want(exitOK, "close", "2026-09", "--as", "m.ortiz")
	checkReconciled(t, d)
	counts := func() (got string) {
		d.inside(func(ctx context.Context, a *app) {
			if err := a.drain(ctx); err != nil {
				t.Fatal(err)
			}
			c, err := a.tally(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if wrong, err := a.events.Check(ctx); err != nil || len(wrong) > 0 {
				t.Errorf("the store against itself: %v, %v", wrong, err)
			}
			got = fmt.Sprintf("%+v", c)
		})
		return got
	}
	today := counts()
	putBack := func() {
		for _, name := range storeFiles(t, d.dir) {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		copyStore(t, yesterday, d.dir)
	}
	putBack()
	checkReconciled(t, d) // at once
	putBack()
	d.want(exitOK, "verify", "2026-09")
	if got := counts(); got != today {
		t.Errorf("after the old copy was put back the store has\n%s, had\n%s", got, today)
	}
	if after := d.want(exitOK, "usage", "--by", "app,operation", "--json").out; after != before {
		t.Errorf("usage after: %s\nbefore: %s", after, before)
	}
	checkReconciled(t, d)
	t.Logf("yesterday 3,000 events; today %s", today)
}

// storeFiles are the files of the metering store.
func storeFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "events.db*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no store in %s: %v", dir, err)
	}
	return names
}

// copyStore copies a closed store and returns where to.
func copyStore(t *testing.T, from, to string) string {
	t.Helper()
	for _, name := range storeFiles(t, from) {
		b, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(to, filepath.Base(name)), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// TestCloseWaitsForProducers: what a producer's broker had taken before the close is in
// the month, though nothing had routed it yet.
func TestCloseWaitsForProducers(t *testing.T) {
	d := &desk{t: t, dir: t.TempDir(), now: "2026-10-05T15:00:00Z"}
	d.want(exitOK, "apply", "-f", folder(t, map[string]string{"all.yaml": crashCatalogue, "contract.yaml": restoreContract}), "--as", "k.lee")
	d.want(exitOK, "contract", "approve", "northwind-agreement", "--as", "r.shah")
	d.want(exitOK, "contract", "accept", "northwind-agreement", "--by", "the signer", "--evidence", "signed order form", "--as", "k.lee")
	defer d.hold()()
	const events = 40
	for i := range events {
		body := delivery{identity{crashSources[0], fmt.Sprintf("call-%05d", i)}, &content{quantity: 10}}.json()
		if _, err := d.held.conn.Request(jetstream.IntakeSubject(crashSources[0]), []byte(body), 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	d.want(exitOK, "close", "2026-09", "--as", "m.ortiz")
	var s struct{ Earned money.Amount }
	d.read(&s, "statement", "show", "meridian-us.northwind.usd.2026-09")
	if want := money.New(-events*10, "USD"); s.Earned != want {
		t.Errorf("September comes to %s, want %s: the producer's events", s.Earned, want)
	}
	checkReconciled(t, d)
}
