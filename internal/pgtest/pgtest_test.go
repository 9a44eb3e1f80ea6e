package pgtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the server may be gone by now
	return conn
}

func exec1(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func value(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	var v string
	if err := conn.QueryRow(context.Background(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestNewGivesEachTestAnEmptyDatabase(t *testing.T) {
	one, two := New(t), New(t)
	if one == two {
		t.Fatalf("one database for two: %s", one)
	}
	a, b := connect(t, one), connect(t, two)
	exec1(t, a, "CREATE TABLE t (n bigint)")
	if n := value(t, b, "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'"); n != "0" {
		t.Errorf("the second database has %s tables", n)
	}
	for name, want := range map[string]string{"fsync": "on", "listen_addresses": "", "TimeZone": "UTC", "server_encoding": "UTF8", "lc_collate": "C"} {
		if got := value(t, a, "SELECT current_setting('"+name+"')"); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestNewDropsTheDatabase(t *testing.T) {
	var dsn string
	t.Run("inner", func(t *testing.T) {
		dsn = New(t)
		connect(t, dsn)
	})
	if t.Skipped() || dsn == "" {
		t.Skip("no PostgreSQL") // said by the inner test
	}
	if conn, err := pgx.Connect(context.Background(), dsn); err == nil {
		t.Errorf("%s is still there", dsn)
		_ = conn.Close(context.Background())
	}
}

func TestKillAndRestart(t *testing.T) {
	c := Start(t, Options{NoFsync: true, Settings: map[string]string{"max_connections": "20"}})
	dsn := c.Database(t)
	conn := connect(t, dsn)
	if got := value(t, conn, "SELECT current_setting('fsync') || current_setting('max_connections')"); got != "off20" {
		t.Errorf("fsync and max_connections are %s, want off20", got)
	}
	exec1(t, conn, "CREATE TABLE t (n bigint)")
	exec1(t, conn, "INSERT INTO t VALUES (1)")
	exec1(t, conn, "BEGIN")
	exec1(t, conn, "INSERT INTO t VALUES (2)")

	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(context.Background(), "COMMIT"); err == nil {
		t.Error("a killed server answered")
	}
	if err := c.Kill(); err == nil {
		t.Error("a dead server was killed")
	}
	if err := c.Restart(); err != nil {
		t.Fatal(err)
	}
	if got := value(t, connect(t, dsn), "SELECT string_agg(n::text, ',') FROM t"); got != "1" {
		t.Errorf("after the kill the table holds %s, want the committed 1", got)
	}
	if err := c.Restart(); err != nil {
		t.Fatalf("a clean restart: %v", err)
	}
	connect(t, dsn)
}

func TestCloseLeavesNothing(t *testing.T) {
	c := Start(t, Options{NoFsync: true})
	pid := c.server.Process.Pid
	for range 2 { // closing twice is fine
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if alive(pid) {
		t.Errorf("server %d lives", pid)
	}
	if _, err := os.Stat(c.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is there: %v", c.dir, err)
	}
}

func TestABadSettingIsNamed(t *testing.T) {
	Start(t, Options{NoFsync: true}) // skips when there is no engine
	c, err := Open(Options{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil {
		t.Fatal("a server started with no_such_setting", c.Close())
	}
	if !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("the error does not name the setting: %v", err)
	}
}

// TestOwner is the process of TestNothingOutlivesTheProcess.
func TestOwner(t *testing.T) {
	if os.Getenv("PGTEST_OWNER") == "" {
		return // run below, as a process of its own
	}
	New(t)
	c, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("\nOWNER %d %s\n", c.server.Process.Pid, c.dir)
	select {}
}

func TestNothingOutlivesTheProcess(t *testing.T) {
	if _, err := find(); errors.Is(err, ErrMissing) {
		New(t) // skips or fails, with its reason
	}
	owner := exec.Command(os.Args[0], "-test.run=^TestOwner$", "-test.v")
	owner.Env = append(os.Environ(), "PGTEST_OWNER=1")
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var dir string
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		if _, err := fmt.Sscanf(lines.Text(), "OWNER %d %s", &pid, &dir); err != nil {
			continue // some other line of the test
		}
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // killed
	if dir == "" {
		t.Fatal("the owner ended without a cluster")
	}
	for limit := time.Now().Add(stopLimit); ; time.Sleep(pollEvery) {
		_, err := os.Stat(dir)
		if !alive(pid) && errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("server %d alive: %v; folder: %v", pid, alive(pid), err)
		}
	}
}

func TestFindTakesTheNewest(t *testing.T) {
	bin, err := find()
	if errors.Is(err, ErrMissing) {
		New(t) // skips or fails, with its reason
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "postgres")); err != nil {
		t.Error(err)
	}
}
