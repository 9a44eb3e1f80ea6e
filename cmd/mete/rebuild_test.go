//go:build !race

package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"mete/internal/chtest"
	"mete/metering"
	"mete/period"
)

// rebuildWorld is a folder whose store has everything that one can have: events that came
// again, with the same and with other content, a damaged message, a redaction, refusals of
// which one was tried again, a void, a closed month, control totals and heartbeats. It
// returns the file that was taken in, too.
func rebuildWorld(t *testing.T) (d *desk, file string) {
	t.Helper()
	d, lines := interruptedWorld(t, 3000)
	lines = append(lines, lines[:500]...)
	for i := range 40 { // other content
		lines = append(lines, delivery{identity{crashSources[i%2], fmt.Sprintf("call-%05d", i)}, &content{quantity: 99}}.json()+"\n")
	}
	event := func(id, kind, more string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":%q,"time":"2026-09-14T10:00:00Z","subject":"lakeside","data":{%s}}`+"\n", id, crashSources[0], kind, more)
	}
	call := `"app":"northwind-scheduler","class":"api","operation":"read","status":200,"reference":"doe-jane-61"`
	lines = append(lines,
		event("named", "usage.api", call), event("named", "usage.api", call), event("named", "usage.api", call+`,"quantity":7`),
		event("void", "usage.voided", `"refers_to":"call-00002"`),
		event("nowhere", "usage.api", `"app":"nobodys-app","class":"api","operation":"read","status":200`))
	file = filepath.Join(folder(t, map[string]string{"all.ndjson": strings.Join(lines, "")}), "all.ndjson")
	d.want(exitFound, "ingest", file, "--gateway", "cloudevents")
	var proposed struct{ ID string }
	d.read(&proposed, "redact", "propose", crashSources[0], "named", "--field", "data.reference", "--reason", "a name", "--as", "k.lee")
	d.want(exitOK, "redact", "approve", proposed.ID, "--as", "r.shah")
	d.want(exitFound, "quarantine", "replay", "--as", "k.lee")
	d.inside(func(ctx context.Context, a *app) {
		damaged := nats.NewMsg("usage.1")
		damaged.Header.Set("Mete-Count", "3")
		damaged.Data = []byte("nothing that mete wrote")
		if _, err := a.conn.RequestMsg(damaged, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if err := a.drain(ctx); err != nil {
			t.Fatal(err)
		}
		at := d.clock()
		if err := a.events.KeepHeartbeat(ctx, metering.Heartbeat{Source: crashSources[0], At: at, SentBy: "northwind", ReceivedAt: at}); err != nil {
			t.Fatal(err)
		}
		totals := metering.DayTotals{Source: crashSources[0], Day: period.Date{Year: 2026, Month: 9, Day: 14}, Zone: "UTC", SentBy: "northwind", Totals: []metering.DayTotal{{App: "northwind-scheduler", Type: metering.UsageAPI, Events: 1}}}
		if err := totals.Seal(at); err != nil {
			t.Fatal(err)
		}
		if _, err := a.events.KeepTotals(ctx, totals); err != nil {
			t.Fatal(err)
		}
	})
	d.now = "2026-10-05T15:00:00Z"
	d.want(exitOK, "close", "2026-09", "--as", "m.ortiz")
	checkReconciled(t, d)
	var s status
	d.read(&s, "status")
	if n := s.Counts; n.Duplicate < 500 || n.Conflict < 40 || n.Undecoded != 3 || n.Voided != 1 {
		t.Fatalf("the store lacks something: %+v", n)
	}
	return d, file
}

// configure writes the folder's mete.yaml.
func (d *desk) configure(text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, configName), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// says is everything that people can ask of the store.
func (d *desk) says() string {
	d.t.Helper()
	var b strings.Builder
	for _, line := range []string{
		"usage --by app,operation --json", "event " + crashSources[0] + " named --json", "event " + crashSources[0] + " call-00002 --json", "event " + crashSources[1] + " call-00001 --json",
		"quarantine list --json", "redact list --json", "reconcile --json", "verify 2026-09",
	} {
		fmt.Fprintf(&b, "%s\n%s\n", line, d.want(exitOK, strings.Fields(line)...).out)
	}
	return b.String()
}

// wantSame fails the test unless the desk says what it said before, and takes nothing
// twice.
func (d *desk) wantSame(before, file string) {
	d.t.Helper()
	checkReconciled(d.t, d)
	if after := d.says(); after != before {
		d.t.Errorf("over the new store mete says\n%s\nover the old one it said\n%s", after, before)
	}
	var again ingestReport
	a := d.want(exitFound, "ingest", file, "--gateway", "cloudevents", "--json")
	if err := jsonInto(a.out, &again); err != nil || again.Stored != 0 || again.Accepted != again.Duplicate+again.Conflict {
		d.t.Errorf("taken in again: %+v, %v", again, err)
	}
	checkReconciled(d.t, d)
}

// TestRebuildStore fills a new store of each kind from stream and store, and goes over to
// it.
func TestRebuildStore(t *testing.T) {
	d, file := rebuildWorld(t)
	before := d.says()
	for _, from := range []string{fromStream, fromStore} {
		t.Run(from+" to SQLite", func(t *testing.T) {
			to := d.copied(t)
			made := filepath.Join(t.TempDir(), "new.db")
			a := to.want(exitOK, "rebuild", "store", "--from", from, "--to", made)
			if !strings.Contains(a.out, "\ndifference 0\n") || strings.Contains(a.out, "note: ") {
				t.Errorf("rebuild store: %s", a.out)
			}
			to.want(exitUsage, "rebuild", "store", "--from", from, "--to", made) // it is there
			to.want(exitOK, "rebuild", "store", "--from", from, "--to", made, "--verify")
			to.goOver(made)
			to.wantSame(before, file)
		})
	}
	dsn := chtest.New(t)
	other := d.copied(t)
	other.t = t
	a := other.want(exitOK, "rebuild", "store", "--from", fromStore, "--to", dsn)
	if !strings.Contains(a.out, "\ndifference 0\n") || strings.Contains(a.out, dsn) {
		t.Errorf("rebuild store: %s", a.out)
	}
	other.want(exitUsage, "rebuild", "store", "--from", fromStore, "--to", dsn) // it is in use
	other.configure("metering: {clickhouse: " + dsn + "}\n")
	t.Run("from ClickHouse to SQLite", func(t *testing.T) {
		to := other.copied(t)
		made := filepath.Join(t.TempDir(), "new.db")
		to.want(exitOK, "rebuild", "store", "--from", fromStore, "--to", made)
		to.configure("")
		to.goOver(made)
		to.wantSame(before, file)
	})
	t.Run("stream to ClickHouse named by a configuration", func(t *testing.T) {
		to := other.copied(t)
		name := filepath.Join(folder(t, map[string]string{"new.yaml": "metering: {clickhouse: " + chtest.New(t) + "}\n"}), "new.yaml")
		to.want(exitOK, "rebuild", "store", "--from", fromStream, "--to", name)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		to.configure(string(b))
		to.wantSame(before, file)
	})
	other.wantSame(before, file)
}

// goOver puts a new store in the place of the one in use.
func (d *desk) goOver(made string) {
	d.t.Helper()
	for _, name := range []string{"events.db", "events.db-wal", "events.db-shm"} {
		if err := os.Remove(filepath.Join(d.dir, name)); err != nil && !os.IsNotExist(err) {
			d.t.Fatal(err)
		}
	}
	if err := os.Rename(made, filepath.Join(d.dir, "events.db")); err != nil {
		d.t.Fatal(err)
	}
}

// TestRebuildStoreIsKilled kills the filling of a new store at each of its steps and at
// any moment; run again, it goes on and nothing counts twice.
func TestRebuildStoreIsKilled(t *testing.T) {
	d, _ := rebuildWorld(t)
	random := rand.New(rand.NewPCG(7, 11))
	for _, from := range []string{fromStream, fromStore} {
		made := filepath.Join(t.TempDir(), "new.db")
		c := d.start(t, []string{"METE_FAILPOINT=refill.block-stored=sleep:3s"}, "rebuild", "store", "--from", from, "--to", made)
		for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
			if _, err := os.Stat(made + ".partial"); err == nil {
				break
			}
		}
		time.Sleep(300 * time.Millisecond)
		c.interrupt(stoppedSentence) // Ctrl-C: it ends by itself
		killed := 0
		for _, point := range []string{"refill.redactions-taken=kill", "refill.block-stored=kill", "refill.block-stored=kill@2", "refill.refusals-taken=kill"} {
			c := d.start(t, []string{"METE_FAILPOINT=" + point}, "rebuild", "store", "--from", from, "--to", made)
			c.cmd.Wait()
			if !c.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
				t.Fatalf("%s at %s: not killed, exit code %d\n%s%s", from, point, c.cmd.ProcessState.ExitCode(), c.out.String(), c.errs.String())
			}
			killed++
		}
		for range 6 {
			c := d.start(t, nil, "rebuild", "store", "--from", from, "--to", made)
			time.Sleep(time.Duration(50+random.IntN(700)) * time.Millisecond)
			_ = c.cmd.Process.Kill()
			c.cmd.Wait()
			if c.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
				killed++
			}
			if _, err := os.Stat(made); err == nil {
				break
			}
		}
		args := []string{"rebuild", "store", "--from", from, "--to", made}
		if _, err := os.Stat(made); err == nil {
			args = append(args, "--verify")
		}
		if a := d.want(exitOK, args...); !strings.Contains(a.out, "\ndifference 0\n") {
			t.Errorf("after %d kills: %s", killed, a.out)
		}
		t.Logf("from %s: %d kills", from, killed)
	}
	checkReconciled(t, d)
}

// TestRebuildStoreFindsMutants alters the new store behind mete's back: the comparison
// names it.
func TestRebuildStoreFindsMutants(t *testing.T) {
	d, _ := rebuildWorld(t)
	made := filepath.Join(t.TempDir(), "new.db")
	d.want(exitOK, "rebuild", "store", "--from", fromStore, "--to", made)
	sound, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	const last = `(SELECT max(place) FROM events)`
	for name, c := range map[string]struct{ statement, say string }{
		"event deleted":       {`DELETE FROM events WHERE place = ` + last, `partition \d, message \d+: index`},
		"quantity altered":    {`UPDATE events SET quantity_whole = quantity_whole + 1 WHERE place = ` + last, `index \d+: event .*: a field was altered`},
		"both altered":        {`UPDATE events SET quantity_whole = quantity_whole + 1, content_hash = zeroblob(32) WHERE place = ` + last, `index \d+: event .*: it was sent with hash`},
		"duplicate altered":   {`UPDATE duplicates SET event_key = (SELECT event_key FROM keys UNION SELECT event_key FROM keys_recent LIMIT 1) WHERE place = (SELECT max(place) FROM duplicates)`, `its key is`},
		"conflict deleted":    {`DELETE FROM conflicts WHERE place = (SELECT max(place) FROM conflicts)`, `is not in the new store`},
		"undecoded altered":   {`UPDATE undecoded SET reason = 'another'`, `3 events are undecoded`},
		"message altered":     {`UPDATE messages SET accepted_us = accepted_us + 1 WHERE id = 1`, `it was accepted at`},
		"key deleted":         {`DELETE FROM keys_recent WHERE place = (SELECT max(place) FROM keys_recent)`, `rows, and identities`},
		"customer altered":    {`UPDATE cells SET customer = 'mine'`, `a field was altered`},
		"void deleted":        {`DELETE FROM voids`, `voided: 1, the new store has 0`},
		"redaction deleted":   {`DELETE FROM redactions`, `redactions: R-`},
		"refusal deleted":     {`DELETE FROM refusals`, `refusals, with their replays:`},
		"replay altered":      {`UPDATE replays SET tried_by = 'mine'`, `refusals, with their replays:`},
		"total altered":       {`UPDATE day_totals SET sent_by = 'mine'`, `control totals:`},
		"heartbeat deleted":   {`DELETE FROM heartbeats`, `heartbeats:`},
		"position moved back": {`UPDATE positions SET sequence = sequence - 1 WHERE partition = 0`, `its position is`},
	} {
		t.Run(name, func(t *testing.T) {
			at := filepath.Join(t.TempDir(), "mutant.db")
			if err := os.WriteFile(at, sound, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open("sqlite", at)
			if err != nil {
				t.Fatal(err)
			}
			r, err := db.Exec(c.statement)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := r.RowsAffected(); err != nil || n == 0 {
				t.Fatalf("nothing was altered: %v", err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			a := d.want(exitFound, "rebuild", "store", "--from", fromStore, "--to", at, "--verify")
			if !matches(c.say, a.out) || strings.Contains(a.out, "\ndifference 0\n") {
				t.Errorf("the comparison does not say %q:\n%s", c.say, a.out)
			}
		})
	}
}

// TestRebuildStoreNeedsTheWholeStream: a stream that has lost its beginning fills no store,
// and says what is gone and what to do. The store in use does.
func TestRebuildStoreNeedsTheWholeStream(t *testing.T) {
	d, _ := rebuildWorld(t)
	d.inside(func(ctx context.Context, a *app) {
		j, err := js.New(a.conn)
		if err != nil {
			t.Fatal(err)
		}
		s, err := j.Stream(ctx, "USAGE_2")
		if err != nil {
			t.Fatal(err)
		}
		// The service, which has just begun, may write back what it read of a stream's settings
		// before this changed them: what is wanted here is said until it is so and stays so.
		set := func(want js.StreamConfig, enough func(*js.StreamInfo) bool) {
			for until := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
				info, err := s.Info(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if enough(info) {
					return
				}
				if time.Now().After(until) {
					t.Fatalf("the stream is not as wanted after 20s: %+v", info)
				}
				if _, err := j.UpdateStream(ctx, want); err != nil {
					t.Fatal(err)
				}
			}
		}
		was := s.CachedInfo().Config
		soon := was
		soon.MaxAge, soon.Duplicates = 100*time.Millisecond, 100*time.Millisecond
		set(soon, func(i *js.StreamInfo) bool { return i.State.FirstSeq > 1 })
		times := 0
		set(was, func(i *js.StreamInfo) bool {
			if i.Config.Duplicates != was.Duplicates {
				times = 0
			}
			times++
			return times > 3
		})
	})
	made := filepath.Join(t.TempDir(), "new.db")
	a := d.want(exitUsage, "rebuild", "store", "--from", fromStream, "--to", made)
	if !matches(`partition 2: messages 1 to \d+ have expired`, a.errs) || !strings.Contains(a.errs, "--from store") {
		t.Errorf("a stream without its beginning: %s", a.errs)
	}
	d.want(exitOK, "rebuild", "store", "--from", fromStore, "--to", made)
}

// TestRebuildKeys makes the keys of a store anew that has lost them.
func TestRebuildKeys(t *testing.T) {
	d, file := rebuildWorld(t)
	before := d.says()
	db, err := sql.Open("sqlite", filepath.Join(d.dir, "events.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{`DELETE FROM keys`, `DELETE FROM keys_recent`} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if a := d.want(exitFound, "reconcile"); !strings.Contains(a.out, "keys") {
		t.Errorf("without keys: %s", a.out)
	}
	var r keysReport
	d.read(&r, "rebuild", "keys")
	if r.Right != 0 || r.Added != r.Rows || r.Removed != 0 || r.Rows < 3000 {
		t.Errorf("keys made anew: %+v", r)
	}
	if a := d.want(exitOK, "rebuild", "keys"); !strings.Contains(a.out, "\ndifference 0\n") {
		t.Errorf("once more: %s", a.out)
	}
	d.wantSame(before, file)
}

// TestRebuildAsksTheServiceToStop: what a service takes in meanwhile would be missing.
func TestRebuildAsksTheServiceToStop(t *testing.T) {
	d, _ := interruptedWorld(t, 10)
	defer d.hold()()
	a := d.want(exitUsage, "rebuild", "store", "--from", fromStore, "--to", filepath.Join(t.TempDir(), "new.db"))
	if !strings.Contains(a.errs, "stop it first") {
		t.Errorf("beside a service: %s", a.errs)
	}
	d.want(exitOK, "rebuild", "keys")
	for _, args := range [][]string{{"--from", "nothing", "--to", "x.db"}, {"--from", fromStore}, {"--to", "x.db"}, {"--from", fromStore, "--to", "x.db", "--cluster", "c"}} {
		d.want(exitUsage, append([]string{"rebuild", "store"}, args...)...)
	}
}

func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }

func jsonInto(text string, v any) error { return json.Unmarshal([]byte(text), v) }
