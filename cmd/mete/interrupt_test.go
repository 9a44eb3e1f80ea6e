package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mete/billing"
	"mete/internal/failpoint"
	"mete/ledger"
)

// child is a command as a process of its own, to be interrupted.
type child struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  bytes.Buffer
	errs bytes.Buffer
}

// start starts a command on the desk's folder, with more of an environment.
func (d *desk) start(t *testing.T, env []string, args ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0], args...)}
	c.cmd.Env = append(slices.Concat(os.Environ(), env), childMark+"=1", "METE_NOW="+d.now, "METE_DIR="+d.dir)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.errs
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

const stoppedSentence = "stopped; nothing is half done, run it again to go on"

// interrupt is Ctrl-C: the command must end by itself, soon, with the sentence and the
// exit code for it.
func (c *child) interrupt(sentence string) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		c.t.Fatal(err)
	}
	late := time.AfterFunc(30*time.Second, func() { c.cmd.Process.Signal(syscall.SIGQUIT) })
	defer late.Stop()
	c.cmd.Wait()
	if code := c.cmd.ProcessState.ExitCode(); code != exitInternal || c.errs.String() != "mete: "+sentence+"\n" {
		c.t.Errorf("%s: exit code %d\n%s%s", c.cmd, code, c.out.String(), c.errs.String())
	}
}

const interruptedContract = restoreContract + `  - {id: sales, kind: share, of: sale.paid, class: marketplace, platform: {rate: 20%}, refunds: at_original_rate}
`

// interruptedWorld is a folder with a contract in force, and events to take in.
func interruptedWorld(t *testing.T, events int) (d *desk, lines []string) {
	t.Helper()
	d = &desk{t: t, dir: t.TempDir(), now: "2026-10-02T15:00:00Z"}
	d.want(exitOK, "apply", "-f", folder(t, map[string]string{"all.yaml": crashCatalogue, "contract.yaml": interruptedContract}), "--as", "k.lee")
	d.want(exitOK, "contract", "approve", "northwind-agreement", "--as", "r.shah")
	d.want(exitOK, "contract", "accept", "northwind-agreement", "--by", "the signer", "--evidence", "signed order form", "--as", "k.lee")
	for i := range events {
		lines = append(lines, delivery{identity{crashSources[i%2], fmt.Sprintf("call-%05d", i)}, &content{quantity: i%7 + 1}}.json()+"\n")
	}
	return d, lines
}

// copied is the desk on a copy of its folder.
func (d *desk) copied(t *testing.T) *desk {
	t.Helper()
	to := &desk{t: t, dir: filepath.Join(t.TempDir(), "data"), now: d.now}
	if err := os.CopyFS(to.dir, os.DirFS(d.dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestIngestIsInterrupted stops an ingest at work, and one that waits for more of its
// input, then takes the whole input in: the same is counted as if nothing had happened.
func TestIngestIsInterrupted(t *testing.T) {
	base, lines := interruptedWorld(t, 3*ingestBatch)
	file := filepath.Join(folder(t, map[string]string{"all.ndjson": strings.Join(lines, "")}), "all.ndjson")
	var whole ingestReport
	twin := base.copied(t)
	twin.read(&whole, "ingest", file, "--gateway", "cloudevents")
	if whole.Stored != int64(len(lines)) {
		t.Fatalf("not interrupted: %+v", whole)
	}
	for name, pause := range map[string]time.Duration{"at work": 0, "waiting": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			d := base.copied(t)
			c := d.start(t, nil, "ingest", "-", "--gateway", "cloudevents")
			// When so much was read, the first batch is through and the second on its way.
			if _, err := io.WriteString(c.in, strings.Join(lines[:2*ingestBatch+ingestBatch/2], "")); err != nil {
				t.Fatalf("%v\n%s", err, c.errs.String())
			}
			time.Sleep(pause)
			c.interrupt(stoppedSentence)
			checkReconciled(t, d) // once all that was accepted is stored
			var got status
			d.read(&got, "status")
			first := got.Counts.Stored
			if first < ingestBatch || first > 2*ingestBatch {
				t.Errorf("%d of %d events are stored: this is not the middle", first, len(lines))
			}
			var again ingestReport
			d.read(&again, "ingest", file, "--gateway", "cloudevents")
			if again.Accepted != whole.Accepted || again.Stored+first != whole.Stored || again.Duplicate != first {
				t.Errorf("interrupted after %d: %+v\nnot interrupted: %+v", first, again, whole)
			}
			if a, b := d.want(exitOK, "usage", "--by", "app,operation,status").out, twin.want(exitOK, "usage", "--by", "app,operation,status").out; a != b {
				t.Errorf("interrupted:\n%snot interrupted:\n%s", a, b)
			}
			checkReconciled(t, d)
			t.Logf("stopped with %d of %d events stored; the rest came with the second run", first, len(lines))
		})
	}
}

// TestIngestOfAServiceIsInterrupted stops an ingest that runs in the service that owns
// the folder: the service goes on, and takes the whole input in afterwards.
func TestIngestOfAServiceIsInterrupted(t *testing.T) {
	d, lines := interruptedWorld(t, 3*ingestBatch)
	service := d.start(t, nil, "serve", "--listen", "127.0.0.1:0")
	service.owned(d.dir, func(o owner) bool { return o.Address != "" })
	c := d.start(t, nil, "ingest", "-", "--gateway", "cloudevents")
	if _, err := io.WriteString(c.in, strings.Join(lines[:2*ingestBatch+ingestBatch/2], "")); err != nil {
		t.Fatalf("%v\n%s", err, c.errs.String())
	}
	var got status
	for deadline := time.Now().Add(30 * time.Second); got.Counts.Stored < 2*ingestBatch; time.Sleep(20 * time.Millisecond) {
		if d.read(&got, "status"); time.Now().After(deadline) {
			t.Errorf("%d events are stored, want %d", got.Counts.Stored, 2*ingestBatch)
			break
		}
	}
	c.interrupt(stoppedSentence)
	file := filepath.Join(folder(t, map[string]string{"all.ndjson": strings.Join(lines, "")}), "all.ndjson")
	var again ingestReport
	d.read(&again, "ingest", file, "--gateway", "cloudevents")
	// Of the third part the service has what reached it, or nothing: it may see the end of
	// the request before or after that of its text.
	if n := int64(len(lines)); again.Accepted != n || again.Stored+again.Duplicate != n || again.Duplicate != 2*ingestBatch && again.Duplicate != 2*ingestBatch+ingestBatch/2 {
		t.Errorf("the second run: %+v", again)
	}
	if d.read(&got, "status"); got.Counts.Stored != int64(len(lines)) {
		t.Errorf("%d of %d events are stored", got.Counts.Stored, len(lines))
	}
	checkReconciled(t, d)
	service.cmd.Process.Signal(os.Interrupt)
	if err := service.cmd.Wait(); err != nil {
		t.Errorf("the service: %v\n%s", err, service.errs.String())
	}
}

// TestCloseIsInterrupted stops a close behind each of its steps, then runs it again:
// the statements are those of a close that nobody stopped.
func TestCloseIsInterrupted(t *testing.T) {
	base, lines := interruptedWorld(t, 200)
	file := filepath.Join(folder(t, map[string]string{"all.ndjson": strings.Join(lines, "")}), "all.ndjson")
	base.want(exitOK, "ingest", file, "--gateway", "cloudevents")
	base.now = "2026-10-05T15:00:00Z"
	statements := func(d *desk) string {
		t.Helper()
		var v billing.Verification
		d.read(&v, "verify", "2026-09")
		checkReconciled(t, d)
		return d.want(exitOK, "statement", "list", "--json").out
	}
	twin := base.copied(t)
	twin.want(exitOK, "close", "2026-09", "--as", "m.ortiz")
	want := statements(twin)
	for _, point := range []failpoint.Point{"close.after-manifest", "close.after-scorecards", "close.after-group", "close.after-statement", "close.before-finish"} {
		t.Run(string(point), func(t *testing.T) {
			d := base.copied(t)
			hits := filepath.Join(t.TempDir(), "hits.txt")
			c := d.start(t, []string{"METE_FAILPOINT=" + string(point) + "=sleep:1s", "METE_FAILPOINT_LOG=" + hits}, "close", "2026-09", "--as", "m.ortiz")
			for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				if b, err := os.ReadFile(hits); err == nil && strings.Contains(string(b), string(point)) {
					break
				}
				if time.Now().After(deadline) {
					c.cmd.Process.Kill()
					t.Fatalf("the close does not come to %s\n%s", point, c.errs.String())
				}
			}
			c.interrupt(stoppedSentence)
			var months status
			d.read(&months, "status")
			if len(months.Months) != 1 || months.Months[0].State != ledger.Closing {
				t.Errorf("after the stop: %+v", months.Months)
			}
			d.want(exitOK, "close", "2026-09", "--as", "m.ortiz")
			if got := statements(d); got != want {
				t.Errorf("statements after the stop:\n%s\nwithout:\n%s", got, want)
			}
		})
	}
}

// owned waits until a process owns the folder in a way.
func (c *child) owned(dir string, ready func(owner) bool) {
	c.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if o, err := readOwner(dir); err == nil && ready(o) {
			return
		}
		if time.Now().After(deadline) {
			c.cmd.Process.Kill()
			c.t.Fatalf("%s does not come to work in %s\n%s", c.cmd, dir, c.errs.String())
		}
	}
}

// TestDemoIsInterrupted: a demonstration is not gone on with, so it says something else.
func TestDemoIsInterrupted(t *testing.T) {
	d := &desk{t: t, dir: t.TempDir(), now: "2026-10-02T15:00:00Z"}
	dir := filepath.Join(t.TempDir(), "demo")
	c := d.start(t, nil, "demo", "--dir", dir)
	c.owned(filepath.Join(dir, "data"), func(o owner) bool { return o.PID != 0 })
	c.interrupt("stopped; the demonstration in " + dir + " is not complete, begin another one")
}

// TestServeIsInterrupted: the service begins on a new folder, and ends in good order.
func TestServeIsInterrupted(t *testing.T) {
	d := &desk{t: t, dir: filepath.Join(t.TempDir(), "data"), now: "2026-10-02T15:00:00Z"}
	c := d.start(t, nil, "serve", "--listen", "127.0.0.1:0")
	c.owned(d.dir, func(o owner) bool { return o.Address != "" })
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Wait(); err != nil || !strings.HasSuffix(c.out.String(), "\nstopped; all that was accepted is on disk\n") {
		t.Errorf("%v\n%s%s", err, c.out.String(), c.errs.String())
	}
}

// TestScenariosAreInterrupted stops runs of scenarios that would never end.
func TestScenariosAreInterrupted(t *testing.T) {
	dir := folder(t, map[string]string{"fee.yaml": `contract: fee
partner: quill
apps: [quill-notes]
currency: USD
zone: America/New_York
effective: {from: 2027-01-01}
rules:
  - {id: calls, kind: usage_fee, meter: api_calls, price: {model: per_unit, unit: 0.0125}}
`})
	pipe := filepath.Join(dir, "fee.txt")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, dir: t.TempDir(), now: "2026-10-02T15:00:00Z"}
	for _, command := range [][]string{{"test", dir}, {"contract", "check", dir}} {
		c := d.start(t, nil, command...)
		w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for the reader
		if err != nil {
			t.Fatal(err)
		}
		c.interrupt(stoppedSentence)
		w.Close()
	}
}
