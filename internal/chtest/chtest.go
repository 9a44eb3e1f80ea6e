// Package chtest runs a private ClickHouse engine for tests and benchmarks, as a
// process of its own on a free port of the loopback.
//
// No current ClickHouse server can be had as a package of Debian. What can be had is
// the current engine as a library, in the npm package [Package]. Command engine, in the
// folder below, loads it behind ClickHouse's HTTP protocol, so that the unchanged Go
// client drives it. What that leaves out (several servers, the native protocol, two
// queries at a time, KILL QUERY) is not tested here.
//
// It knows no package of the product and no schema. Read [New] first: it gives a test
// an empty database. A test that kills the engine takes [Start].
package chtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mete/internal/testdata"
)

// Package and Version of the engine that tests run against. ./check installs it below
// the user's cache folder; METE_CLICKHOUSE names another libchdb.so.
const (
	Package = "@chdb/lib-linux-x64-gnu"
	Version = "26.7.3-stable.1"
)

// ErrMissing means that the machine has no engine.
var ErrMissing = errors.New("no ClickHouse engine found")

const (
	startLimit = 60 * time.Second
	stopLimit  = 30 * time.Second
)

// Folder is where ./check installs the engine.
func Folder() (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "mete", "clickhouse", Version), err
}

// library is the file of the engine.
func library() (string, error) {
	name := os.Getenv("METE_CLICKHOUSE")
	if name == "" {
		folder, err := Folder()
		if err != nil {
			return "", err
		}
		name = filepath.Join(folder, "node_modules", filepath.FromSlash(Package), "libchdb.so")
	}
	if _, err := os.Stat(name); err != nil {
		return "", fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return name, nil
}

// Remedy says how a machine gets the engine.
func Remedy() string {
	folder, err := Folder()
	if err != nil {
		folder = "FOLDER"
	}
	return fmt.Sprintf("npm install --prefix %s %s@%s, or ./check", folder, Package, Version)
}

// program builds command engine once for this process.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "mete-engine-")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "engine")
	out, err := exec.Command("go", "build", "-o", name, "mete/internal/chtest/engine").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the engine's process: %w\n%s", err, out)
	}
	return name, nil
})

// shared is the engine of this process, started by the first test that asks. It ends
// with the process, since its standard input does.
var shared = sync.OnceValues(Open)

// New answers the DSN of an empty database in the engine that all tests of this
// process share; it is dropped when the test ends. Without the engine the test is
// skipped, or fails with CI=true.
func New(t testing.TB) string {
	t.Helper()
	return usable(t, shared).Database(t)
}

// Start gives the test an engine of its own, to kill and restart; it is stopped and
// its data removed when the test ends.
func Start(t testing.TB) *Engine {
	t.Helper()
	e := usable(t, Open)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// StartCluster gives the test an engine of its own that knows a cluster of that name: one
// shard, itself. Replication and ON CLUSTER need servers of their own.
func StartCluster(t testing.TB, name string) *Engine {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config.xml")
	// Its own port, which nobody listens on, makes the shard a local one.
	if err := os.WriteFile(config, fmt.Appendf(nil, `<clickhouse><tcp_port>9000</tcp_port><remote_servers><%[1]s><shard>
		<replica><host>localhost</host><port>9000</port></replica></shard></%[1]s></remote_servers></clickhouse>`, name), 0o600); err != nil {
		t.Fatal(err)
	}
	e := usable(t, func() (*Engine, error) { return openWith(config) })
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func usable(t testing.TB, open func() (*Engine, error)) *Engine {
	t.Helper()
	e, err := open()
	if errors.Is(err, ErrMissing) {
		testdata.Missing(t, "the ClickHouse engine", Remedy())
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Engine is one running engine with its folder.
type Engine struct {
	library, dir, address string
	config                string // file, empty for none

	mu        sync.Mutex
	process   *exec.Cmd
	input     io.Closer
	databases atomic.Int64
}

// Open starts an engine for a program that has no test; it ends with Close, or with
// the process.
func Open() (*Engine, error) { return openWith("") }

func openWith(config string) (*Engine, error) {
	lib, err := library()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mete-ch-")
	if err != nil {
		return nil, err
	}
	e := &Engine{library: lib, dir: dir, address: "127.0.0.1:0", config: config}
	if err := e.start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return e, nil
}

func (e *Engine) start() error {
	name, err := program()
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(e.address)
	if err != nil {
		return err
	}
	args := []string{e.library, e.dir, port}
	if e.config != "" {
		args = append(args, e.config)
	}
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "TZ=UTC")
	log, err := os.OpenFile(e.dir+".log", os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	c.Stderr = log
	input, err := c.StdinPipe()
	if err != nil {
		return err
	}
	output, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(output).ReadString('\n')
		said <- strings.TrimSpace(line)
	}()
	select {
	case e.address = <-said:
	case <-time.After(startLimit):
	}
	if _, _, err := net.SplitHostPort(e.address); err != nil {
		e.address = net.JoinHostPort("127.0.0.1", port)
		text, _ := os.ReadFile(e.dir + ".log")
		return errors.Join(fmt.Errorf("the engine did not start:\n%s", text), c.Process.Kill(), c.Wait())
	}
	e.process, e.input = c, input
	return nil
}

// Address is where the engine listens. It stays the same over Kill and Restart.
func (e *Engine) Address() string { return e.address }

// Pid is the engine's process, 0 while it is down.
func (e *Engine) Pid() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process == nil {
		return 0
	}
	return e.process.Process.Pid
}

// DSN of a database for the Go client.
func (e *Engine) DSN(database string) string {
	return (&url.URL{Scheme: "http", Host: e.address, Path: "/" + database}).String()
}

// Database creates an empty database, dropped when the test ends, and answers its DSN.
func (e *Engine) Database(t testing.TB) string {
	t.Helper()
	dsn, drop, err := e.Create()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil && e.Pid() != 0 {
			t.Error(err)
		}
	})
	return dsn
}

// Create makes an empty database for a program that has no test.
func (e *Engine) Create() (dsn string, drop func() error, err error) {
	name := fmt.Sprintf("db_%d", e.databases.Add(1))
	if _, err := e.Exec("CREATE DATABASE " + name); err != nil {
		return "", nil, err
	}
	return e.DSN(name), func() error { _, err := e.Exec("DROP DATABASE " + name); return err }, nil
}

// Exec runs a statement with the engine's defaults and answers what it printed.
func (e *Engine) Exec(query string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+e.address+"/", strings.NewReader(query))
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", query, text)
	}
	return strings.TrimSpace(string(text)), err
}

// Kill ends the engine by SIGKILL and answers when it is gone.
func (e *Engine) Kill() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.kill()
}

func (e *Engine) kill() error {
	if e.process == nil {
		return errors.New("kill: the engine is not running")
	}
	if err := e.process.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	done := make(chan struct{})
	go func() { _ = e.process.Wait(); close(done) }() // killed: it has no good end
	select {
	case <-done:
	case <-time.After(stopLimit):
		return fmt.Errorf("the engine with pid %d lives %v after SIGKILL", e.process.Process.Pid, stopLimit)
	}
	_ = e.input.Close()
	e.process = nil
	return nil
}

// Restart starts the engine again on the same data and address, killing it first if
// it runs.
func (e *Engine) Restart() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process != nil {
		if err := e.kill(); err != nil {
			return err
		}
	}
	return e.start()
}

// Copy copies the data of an engine that is down into a new folder.
func (e *Engine) Copy(to string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process != nil {
		return errors.New("copy: the engine runs, and its files change")
	}
	return os.CopyFS(to, os.DirFS(e.dir))
}

// PutBack replaces the data of an engine that is down by a copy.
func (e *Engine) PutBack(from string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process != nil {
		return errors.New("put back: the engine runs, and its files change")
	}
	if err := os.RemoveAll(e.dir); err != nil {
		return err
	}
	return os.CopyFS(e.dir, os.DirFS(from))
}

// Close stops the engine and removes its data.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	if e.process != nil {
		errs = append(errs, e.kill())
	}
	return errors.Join(append(errs, os.RemoveAll(e.dir), os.RemoveAll(e.dir+".log"))...)
}
