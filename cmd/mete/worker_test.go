package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"mete/internal/chtest"
	"mete/metering/httpin"
)

// brokerConfig is a broker as an operator would set one up for mete.
const brokerConfig = `
server_name: n1
listen: "127.0.0.1:-1"
jetstream { store_dir: %q, sync_interval: %s, max_file_store: 16GB }
accounts {
  SYS { users: [{user: sys, password: sys}] }
  METE { jetstream: enabled, users: [{user: mete, password: mete}] }
}
system_account: SYS
`

// startBroker runs a broker that is nobody's child but this test's.
func startBroker(t *testing.T, sync string) (url string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(folder(t, map[string]string{"nats.conf": fmt.Sprintf(brokerConfig, dir, sync)}), "nats.conf")
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	o.NoSigs, o.NoLog = true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the broker is not ready")
	}
	return s.ClientURL()
}

// workerProcess is mete worker as a process of its own.
type workerProcess struct {
	working
	cmd    *exec.Cmd
	stderr *bytes.Buffer
}

func startWorker(t *testing.T, config string) *workerProcess {
	t.Helper()
	w := &workerProcess{cmd: exec.Command(os.Args[0], "worker", "--config", config, "--listen", "127.0.0.1:0", "--json"), stderr: &bytes.Buffer{}}
	w.cmd.Env = append(os.Environ(), childMark+"=1")
	w.cmd.Stderr = w.stderr
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.cmd.Process.Signal(syscall.SIGCONT)
		_ = w.cmd.Process.Kill() // it may have ended
		_ = w.cmd.Wait()
	})
	if err := json.NewDecoder(out).Decode(&w.working); err != nil {
		t.Fatalf("worker: %v\n%s", err, w.stderr)
	}
	return w
}

// health is what the worker says of itself, and the status it says it with.
func (w *workerProcess) health(t *testing.T) (h health, status int) {
	t.Helper()
	res, err := http.Get(w.Health)
	if err != nil {
		t.Fatalf("worker %s: %v\n%s", w.Worker, err, w.stderr)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(body, &h)
	}
	if err != nil {
		t.Fatalf("health of %s: %v: %s", w.Worker, err, body)
	}
	return h, res.StatusCode
}

// holds is how many partitions the worker has by its own account.
func (w *workerProcess) holds(t *testing.T) int {
	t.Helper()
	h, _ := w.health(t)
	n := 0
	for _, l := range h.Leases {
		if l.Owner == w.Worker && !l.Free {
			n++
		}
	}
	return n
}

// TestWorkers runs the service with brokers and ClickHouse elsewhere and two workers
// beside it. One is paused and wakes, one is killed: partitions move within ten
// seconds, and every event counts once.
func TestWorkers(t *testing.T) {
	dsn := chtest.New(t)
	url := startBroker(t, "always")
	d := &desk{t: t, dir: t.TempDir(), now: "2026-10-02T15:00:00Z"}
	config := filepath.Join(d.dir, configName)
	text := fmt.Sprintf("stream:\n  urls: [%q]\n  user: mete\n  password: mete\n  system: {user: sys, password: sys}\n  replicas: 1\n  max_gib: 1\nmetering: {clickhouse: %q}\n", url, dsn)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d.want(exitOK, "apply", "-f", folder(t, map[string]string{"all.yaml": crashCatalogue}), "--as", "k.lee")
	one, two := startWorker(t, config), startWorker(t, config)
	spread := func(want int, w *workerProcess) time.Duration {
		t.Helper()
		began := time.Now()
		for w.holds(t) != want {
			if time.Since(began) > 30*time.Second {
				h, _ := w.health(t)
				t.Fatalf("worker %s holds %d partitions, want %d: %+v\n%s", w.Worker, w.holds(t), want, h, w.stderr)
			}
			time.Sleep(20 * time.Millisecond)
		}
		return time.Since(began)
	}
	spread(2, one)
	spread(2, two)

	next, stored := 0, 0
	ingest := func(n int) {
		t.Helper()
		var b strings.Builder
		for i := next; i < next+n; i++ {
			fmt.Fprintln(&b, delivery{identity{crashSources[i%2], fmt.Sprintf("call-%06d", i)}, &content{quantity: i%7 + 1}}.json())
			if i%10 == 0 {
				fmt.Fprintln(&b, delivery{identity{crashSources[i%2], fmt.Sprintf("call-%06d", i)}, &content{quantity: i%7 + 1}}.json())
			}
		}
		next += n
		stored += n
		var r ingestReport
		d.read(&r, "ingest", filepath.Join(folder(t, map[string]string{"x.ndjson": b.String()}), "x.ndjson"), "--gateway", "cloudevents")
		if r.Stored != int64(n) || r.Duplicate != int64(n/10) {
			t.Fatalf("ingest: %+v; want %d stored, %d duplicates", r, n, n/10)
		}
	}
	ingest(4000)

	if err := one.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	paused := spread(4, two)
	ingest(4000)
	if err := one.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	spread(2, one)
	ingest(2000)
	if err := two.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := spread(4, one)
	ingest(2000)
	t.Logf("partitions of a paused worker moved within %s, of a killed one within %s", paused.Round(time.Millisecond), killed.Round(time.Millisecond))
	if most := 10 * time.Second; paused > most || killed > most {
		t.Errorf("partitions moved within %s and %s, want %s", paused, killed, most)
	}
	var rows []usageRow
	d.read(&rows, "usage", "--by", "app")
	if len(rows) != 1 || rows[0].Events != int64(stored) {
		t.Errorf("usage %+v, want %d events", rows, stored)
	}
	if h, status := one.health(t); !h.OK || status != http.StatusOK {
		t.Errorf("health %d: %+v", status, h)
	}
	checkReconciled(t, d)
}

// TestUnsafeBroker: a broker that does not sync every write is refused, by the name of
// the setting.
func TestUnsafeBroker(t *testing.T) {
	url := startBroker(t, "2m")
	d := &desk{t: t, dir: t.TempDir(), now: "2026-10-02T15:00:00Z"}
	text := fmt.Sprintf("stream: {urls: [%q], user: mete, password: mete, system: {user: sys, password: sys}, replicas: 1}\n", url)
	if err := os.WriteFile(filepath.Join(d.dir, configName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := d.run("apply", "-f", folder(t, map[string]string{"all.yaml": crashCatalogue}), "--as", "k.lee")
	if a.code == exitOK || !strings.Contains(a.errs, "sync_interval") || !strings.Contains(a.errs, "always") {
		t.Errorf("an unsafe broker: exit code %d: %s", a.code, a.errs)
	}
}

// TestSilentWorker: a service whose events nobody stores says so. The only worker is
// paused, then killed; health is red soon after the bound, which is a minute where
// nothing is set and seconds here, and green when a worker has caught up.
func TestSilentWorker(t *testing.T) {
	dsn := chtest.New(t)
	url := startBroker(t, "always")
	d := &desk{t: t, dir: t.TempDir(), now: "2026-10-02T15:00:00Z"}
	config := filepath.Join(d.dir, configName)
	const bound = 3 * time.Second
	text := fmt.Sprintf("stream:\n  urls: [%q]\n  user: mete\n  password: mete\n  system: {user: sys, password: sys}\n  replicas: 1\n  max_gib: 1\nmetering: {clickhouse: %q, silent_seconds: %d}\n",
		url, dsn, int(bound.Seconds()))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d.want(exitOK, "apply", "-f", folder(t, map[string]string{"all.yaml": crashCatalogue}), "--as", "k.lee")
	svc := newService(t, d.dir)
	svc.more = []string{"--work=false"}
	svc.start()
	defer svc.kill()
	svc.ready()
	token := readTokens(t, d.dir)[credential]
	sent := 0
	send := func() {
		t.Helper()
		one := delivery{identity{crashSources[0], fmt.Sprintf("call-%06d", sent)}, &content{quantity: 1}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d%s", svc.http, httpin.Path), strings.NewReader(one.json()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/cloudevents+json")
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusAccepted {
			t.Fatalf("event %d: %s", sent, res.Status)
		}
		sent++
	}
	ask := func() (h health, status int) {
		t.Helper()
		res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", svc.http))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&h); err != nil {
			t.Fatal(err)
		}
		return h, res.StatusCode
	}
	behind := func(h health) (n uint64) {
		for _, l := range h.Worker.Partitions {
			n += l.Behind
		}
		return n
	}
	// until asks as a monitor would, and answers how long it took.
	until := func(what string, ok func(health, int) bool) time.Duration {
		t.Helper()
		began := time.Now()
		for {
			h, status := ask()
			if ok(h, status) {
				return time.Since(began)
			}
			if time.Since(began) > 60*time.Second {
				t.Fatalf("%s: not after %s: %d %+v\n%s", what, time.Since(began).Round(time.Second), status, h, svc.stderr)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	stored := func(h health, status int) bool { return h.OK && status == http.StatusOK && behind(h) == 0 }
	red := func(h health, status int) bool { return !h.OK && status == http.StatusServiceUnavailable }
	silent := func(how string) {
		t.Helper()
		send()
		took := until("health is red", red)
		if took < bound-time.Second || took > bound+30*time.Second { // the brokers' clock is rounded, the machine may be busy
			t.Errorf("worker %s: red after %s, want soon after %s", how, took, bound)
		}
		h, _ := ask()
		for _, says := range []string{"stands still", "1 messages wait", "is a worker running"} {
			if !strings.Contains(h.Error, says) {
				t.Errorf("worker %s: health says %q, not %q", how, h.Error, says)
			}
		}
		t.Logf("worker %s: red %s after the event was accepted: %s", how, took.Round(10*time.Millisecond), h.Error)
	}

	w := startWorker(t, config)
	send()
	until("the event is stored", stored)
	time.Sleep(bound + time.Second)
	if h, status := ask(); !stored(h, status) {
		t.Errorf("nothing waits, and health is %d: %+v", status, h)
	}
	if err := w.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	silent("paused")
	if err := w.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	until("the worker goes on", stored)
	if err := w.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	silent("killed")
	startWorker(t, config)
	until("another worker catches up", stored)
	var rows []usageRow
	d.read(&rows, "usage", "--by", "app")
	if len(rows) != 1 || rows[0].Events != int64(sent) {
		t.Errorf("usage %+v, want %d events", rows, sent)
	}
}

// TestUnsafeBrokerComesBack: a broker that is started again under a running service and
// no longer syncs every write ends the service, by the name of the setting.
func TestUnsafeBrokerComesBack(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	broker := func(sync string) *server.Server {
		t.Helper()
		text := strings.Replace(fmt.Sprintf(brokerConfig, dir, sync), "127.0.0.1:-1", fmt.Sprintf("127.0.0.1:%d", port), 1)
		o, err := server.ProcessConfigFile(filepath.Join(folder(t, map[string]string{"nats.conf": text}), "nats.conf"))
		if err != nil {
			t.Fatal(err)
		}
		o.NoSigs, o.NoLog = true, true
		s, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		if !s.ReadyForConnections(20 * time.Second) {
			t.Fatal("the broker is not ready")
		}
		return s
	}
	stop := func(s *server.Server) {
		s.Shutdown()
		s.WaitForShutdown()
	}
	safe := broker("always")
	d := &desk{t: t, dir: t.TempDir(), now: "2026-10-02T15:00:00Z"}
	text := fmt.Sprintf("stream: {urls: [\"nats://127.0.0.1:%d\"], user: mete, password: mete, system: {user: sys, password: sys}, replicas: 1, max_gib: 1}\n", port)
	if err := os.WriteFile(filepath.Join(d.dir, configName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d.want(exitOK, "apply", "-f", folder(t, map[string]string{"all.yaml": crashCatalogue}), "--as", "k.lee")
	svc := newService(t, d.dir)
	svc.start()
	svc.ready()
	stop(safe)
	unsafe := broker("2m")
	defer stop(unsafe)
	ended := make(chan error, 1)
	go func() { ended <- svc.cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(60 * time.Second):
		_ = svc.cmd.Process.Kill()
		t.Fatalf("the service goes on under a broker that does not sync\n%s", svc.stderr)
	}
	if code := svc.cmd.ProcessState.ExitCode(); code != exitInternal || !strings.Contains(svc.stderr.String(), "server n1: jetstream.sync_interval is periodic, want always") {
		t.Errorf("exit code %d: %s", code, svc.stderr)
	}
}
