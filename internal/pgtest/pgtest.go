// Package pgtest runs a private PostgreSQL for tests and benchmarks: its own
// cluster in a temporary folder, reached by a unix socket in there and by
// nothing else, never as root. It uses no server that runs on the machine.
//
// It knows no package of the product and no schema. Read [New] first: it gives
// a test an empty database. A test that kills the server takes [Start].
//
// Nothing stays behind. Beside each cluster waits a small shell that holds the
// reading end of a pipe: when the process that opened the cluster is gone,
// however it went, the shell stops the server by its own pid and removes the
// folder. So one cluster serves all tests of a process without a TestMain.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mete/internal/testdata"
)

// ErrMissing means that the machine has no PostgreSQL server programs.
var ErrMissing = errors.New("no PostgreSQL server found")

const (
	remedy     = "apt-get install postgresql"
	superuser  = "mete"
	startLimit = 90 * time.Second // initdb on a busy machine takes several
	stopLimit  = 30 * time.Second
	pollEvery  = 20 * time.Millisecond
	logTail    = 2000 // bytes of the server's log in an error
)

// Options of a cluster; the zero value is a server as careful as a real one.
type Options struct {
	NoFsync  bool              // faster; a crash of the machine, not of the server, loses commits
	Settings map[string]string // further postgresql.conf settings
}

// shared is the cluster of this process, started by the first test that asks.
var shared = sync.OnceValues(func() (*Cluster, error) { return Open(Options{}) })

// New answers the DSN of an empty database in the cluster that all tests of
// this process share; it is dropped when the test ends. Without PostgreSQL the
// test is skipped, or fails with CI=true.
func New(t testing.TB) string {
	t.Helper()
	c := usable(t, shared)
	name, err := c.create(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.drop(name); err != nil {
			t.Error(err)
		}
	})
	return c.DSN(name)
}

// Start gives the test a cluster of its own, to kill and restart; it is
// stopped and removed when the test ends.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := usable(t, func() (*Cluster, error) { return Open(o) })
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func usable(t testing.TB, open func() (*Cluster, error)) *Cluster {
	t.Helper()
	c, err := open()
	if errors.Is(err, ErrMissing) {
		testdata.Missing(t, "PostgreSQL", remedy)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Cluster is one running server with its folder.
type Cluster struct {
	dir     string // holds data/, log and the socket
	bin     string
	as      *syscall.SysProcAttr
	args    []string
	janitor *exec.Cmd
	pipe    io.Closer // closing it sends the janitor to work

	mu     sync.Mutex
	server *exec.Cmd     // nil while down
	exited chan struct{} // closed when server has been waited for

	databases atomic.Int64
}

// Open starts a cluster for a program that has no test; it ends with Close,
// or with the process.
func Open(o Options) (_ *Cluster, err error) {
	bin, err := find()
	if err != nil {
		return nil, err
	}
	as, uid, gid, err := unprivileged()
	if err != nil {
		return nil, err
	}
	temp := os.TempDir()
	if len(temp) > 60 {
		temp = "/tmp" // a socket's path has to fit in 107 bytes
	}
	dir, err := os.MkdirTemp(temp, "mete-pg-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, bin: bin, as: as, args: arguments(dir, o)}
	if err := os.Chown(dir, uid, gid); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := c.hireJanitor(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	init := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", c.data(), "-U", superuser,
		"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	init.Dir, init.SysProcAttr = dir, as
	if out, err := init.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb as uid %d: %w\n%s", uid, err, out)
	}
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// DSN of a database in this cluster. It stays the same over Kill and Restart.
func (c *Cluster) DSN(database string) string {
	q := url.Values{"host": {c.dir}, "sslmode": {"disable"}}
	return "postgres://" + superuser + "@/" + database + "?" + q.Encode()
}

// Database creates an empty database and answers its DSN.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	name, err := c.create(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	return c.DSN(name)
}

// Create makes an empty database for a program that has no test.
func (c *Cluster) Create() (dsn string, err error) {
	name, err := c.create("db")
	return c.DSN(name), err
}

// Kill ends the server and every one of its processes by SIGKILL, as the
// kernel's out-of-memory killer would: no checkpoint, no goodbye to clients.
// It answers when they are gone. What the kernel had already been given stays;
// that part of a power cut is not in it.
func (c *Cluster) Kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		return errors.New("kill: the server is not running")
	}
	pids := append([]int{c.server.Process.Pid}, children(c.server.Process.Pid)...)
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill %d: %w", pid, err)
		}
	}
	if err := c.gone(); err != nil {
		return err
	}
	for limit := time.Now().Add(stopLimit); ; time.Sleep(pollEvery) {
		if !slices.ContainsFunc(pids, alive) {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("kill: of %v some live after %v", pids, stopLimit)
		}
	}
}

// Restart starts the server again on the same data and DSN, after a Kill or
// by a clean stop first. It answers when recovery is over.
func (c *Cluster) Restart() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.stop(syscall.SIGINT); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return c.start(ctx)
}

// Close stops the server and removes its folder.
func (c *Cluster) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.stop(syscall.SIGQUIT) // the data is thrown away: no checkpoint
	if c.pipe == nil {
		return err
	}
	err = errors.Join(err, c.pipe.Close(), c.janitor.Wait())
	c.pipe = nil
	return err
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

func arguments(dir string, o Options) []string {
	settings := map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": dir,
		"max_connections":         "200",
		"shared_buffers":          "64MB",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
	}
	if o.NoFsync {
		settings["fsync"], settings["full_page_writes"] = "off", "off"
	}
	maps.Copy(settings, o.Settings)
	args := []string{"-D", filepath.Join(dir, "data")}
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", k+"="+settings[k])
	}
	return args
}

func (c *Cluster) start(ctx context.Context) error {
	logPath := filepath.Join(c.dir, "log")
	log, err := os.OpenFile(logPath, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	server := exec.Command(filepath.Join(c.bin, "postgres"), c.args...)
	// Files, not pipes: go test would wait for a pipe's last holder.
	server.Dir, server.SysProcAttr, server.Stdout, server.Stderr = c.dir, c.as, log, log
	if err := server.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = server.Wait() // how it ended stands in its log
		close(exited)
	}()
	c.server, c.exited = server, exited
	for {
		err := c.exec(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			c.server = nil
			return fmt.Errorf("the server ended at start:\n%s", tail(logPath))
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the server is not ready after %v: %w\n%s", startLimit, err, tail(logPath)), c.stop(syscall.SIGQUIT))
		case <-time.After(pollEvery):
		}
	}
}

func (c *Cluster) stop(by syscall.Signal) error {
	if c.server == nil {
		return nil
	}
	if err := c.server.Process.Signal(by); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return c.gone()
}

// gone waits for the server's end.
func (c *Cluster) gone() error {
	select {
	case <-c.exited:
		c.server = nil
		return nil
	case <-time.After(stopLimit):
		return fmt.Errorf("the server with pid %d lives %v after its signal", c.server.Process.Pid, stopLimit)
	}
}

func (c *Cluster) create(label string) (string, error) {
	name := fmt.Sprintf("%s_%d", plain(label), c.databases.Add(1))
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err := c.exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE template0"); err != nil {
		return "", fmt.Errorf("create database %s: %w", name, err)
	}
	return name, nil
}

func (c *Cluster) drop(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	if err := c.exec(ctx, "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

func (c *Cluster) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, c.DSN("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// plain turns a test's name into the readable part of a database's.
func plain(label string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, label)
	return name[:min(len(name), 40)]
}

// find answers the folder of the newest server programs: Debian's place, else
// wherever the PATH has initdb.
func find() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // not a number: oldest
		return n
	}
	if len(found) > 0 {
		newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
		return filepath.Dir(newest), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", ErrMissing
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	return filepath.Dir(path), nil
}

// unprivileged says as whom the server runs: as we do, unless we are root,
// whom PostgreSQL refuses.
func unprivileged() (as *syscall.SysProcAttr, uid, gid int, err error) {
	// A session of its own: an interrupt at the terminal ends the tests, and
	// the janitor ends the server.
	as = &syscall.SysProcAttr{Setsid: true}
	if os.Getuid() != 0 {
		return as, os.Getuid(), os.Getgid(), nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, 0, 0, fmt.Errorf("root may not run PostgreSQL, and there is no other user: %w", err)
		}
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return nil, 0, 0, err
	}
	if gid, err = strconv.Atoi(u.Gid); err != nil {
		return nil, 0, 0, err
	}
	as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return as, uid, gid, nil
}

// janitorScript waits for the end of its standard input, then stops the server
// of the folder $1, if it is still the one with that pid, and removes the folder.
const janitorScript = `
dir=$1
read -r _
pid=$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null)
ours() { [ -n "$pid" ] && tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -- "$dir/data"; }
if ours 2>/dev/null; then
	kill -QUIT "$pid"
	n=0
	while ours 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
	ours 2>/dev/null && kill -KILL "$pid"
fi
rm -rf -- "$dir" 2>/dev/null || { sleep 2; rm -rf -- "$dir"; }
`

func (c *Cluster) hireJanitor() error {
	j := exec.Command("/bin/sh", "-c", janitorScript, "pgtest-janitor", c.dir)
	j.Dir, j.SysProcAttr = "/", c.as
	pipe, err := j.StdinPipe()
	if err != nil {
		return err
	}
	if err := j.Start(); err != nil {
		return fmt.Errorf("janitor of %s: %w", c.dir, err)
	}
	c.janitor, c.pipe = j, pipe
	return nil
}

// children answers the processes whose parent is pid.
func children(pid int) []int {
	var found []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well-formed
	for _, path := range stats {
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if f := stat(child); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			found = append(found, child)
		}
	}
	return found
}

func alive(pid int) bool {
	f := stat(pid)
	return len(f) > 0 && f[0] != "Z" && f[0] != "X"
}

// stat answers the fields of /proc/PID/stat from the state on; none when the
// process is gone.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	_, after, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	return strings.Fields(after)
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-logTail):])
}
