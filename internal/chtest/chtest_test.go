package chtest_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"mete/internal/chtest"
)

func connect(t *testing.T, dsn string) driver.Conn {
	t.Helper()
	o, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	c, err := clickhouse.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestSettingsArrive: what the client sends with a query is in force for that query,
// an insert too, and gone with the next.
func TestSettingsArrive(t *testing.T) {
	c := connect(t, chtest.New(t))
	ask := func(ctx context.Context) string {
		var v string
		if err := c.QueryRow(ctx, `SELECT toString(getSetting('max_block_size'))`).Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	plain := ask(t.Context())
	if got := ask(clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"max_block_size": 4321}))); got != "4321" {
		t.Errorf("with the setting 4321 the engine says %s", got)
	}
	if got := ask(t.Context()); got != plain {
		t.Errorf("the next query runs with %s, want %s", got, plain)
	}

	// One that is refused for a setting leaves those of the request before behind no more
	// than one that is answered, and sets none of its own.
	with := func(s clickhouse.Settings) context.Context {
		return clickhouse.Context(t.Context(), clickhouse.WithSettings(s))
	}
	if got := ask(with(clickhouse.Settings{"max_block_size": 4321, "max_threads": 1})); got != "4321" {
		t.Errorf("with two settings the engine says %s", got)
	}
	if err := c.Exec(with(clickhouse.Settings{"max_block_size": 7, "no_such_setting": 1}), `SELECT 1`); err == nil {
		t.Error("a wrong setting was taken")
	}
	if got := ask(with(clickhouse.Settings{"max_threads": 1})); got != plain {
		t.Errorf("after a refused request the next runs with %s, want %s", got, plain)
	}

	// An insert whose token the table has seen is dropped; without the token's
	// setting both would stay.
	if err := c.Exec(t.Context(), `CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100`); err != nil {
		t.Fatal(err)
	}
	insert := func(token string, n uint64) {
		t.Helper()
		b, err := c.PrepareBatch(clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{
			"async_insert": 0, "insert_deduplicate": 1, "insert_deduplication_token": token})), `INSERT INTO t (n)`)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Append(n); err != nil {
			t.Fatal(err)
		}
		if err := b.Send(); err != nil {
			t.Fatal(err)
		}
	}
	insert("a", 1)
	insert("a", 2)
	insert("b", 3)
	var sum uint64
	if err := c.QueryRow(t.Context(), `SELECT sum(n) FROM t`).Scan(&sum); err != nil {
		t.Fatal(err)
	}
	if sum != 4 {
		t.Errorf("the table holds a sum of %d, want 4: the second insert has the first one's token", sum)
	}
}

// TestErrorsArrive: what the engine refuses is an error with the engine's words.
func TestErrorsArrive(t *testing.T) {
	c := connect(t, chtest.New(t))
	if err := c.Exec(t.Context(), `SELECT nothing`); err == nil || !strings.Contains(err.Error(), "UNKNOWN_IDENTIFIER") {
		t.Errorf("a wrong query gave %v", err)
	}
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"no_such_setting": 1}))
	if err := c.Exec(ctx, `SELECT 1`); err == nil || !strings.Contains(err.Error(), "UNKNOWN_SETTING") {
		t.Errorf("a wrong setting gave %v", err)
	}
}

// TestKilled: what was inserted before a kill is there after it.
func TestKilled(t *testing.T) {
	e := chtest.Start(t)
	dsn := e.Database(t)
	c := connect(t, dsn)
	if err := c.Exec(t.Context(), `CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n SETTINGS fsync_after_insert = 1`); err != nil {
		t.Fatal(err)
	}
	if err := c.Exec(t.Context(), `INSERT INTO t SETTINGS async_insert = 0 SELECT number FROM numbers(1000)`); err != nil {
		t.Fatal(err)
	}
	if err := e.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Exec(t.Context(), `SELECT 1`); err == nil {
		t.Error("a killed engine answers")
	}
	if err := e.Restart(); err != nil {
		t.Fatal(err)
	}
	var n uint64
	if err := c.QueryRow(t.Context(), `SELECT count() FROM t`).Scan(&n); err != nil || n != 1000 {
		t.Errorf("%d rows after the kill, want 1000 (%v)", n, err)
	}
}

// TestPutBack: an engine on an older copy of its data says what it said then.
func TestPutBack(t *testing.T) {
	e := chtest.Start(t)
	c := connect(t, e.Database(t))
	insert := func() {
		t.Helper()
		if err := c.Exec(t.Context(), `INSERT INTO t SETTINGS async_insert = 0 SELECT number FROM numbers(1000)`); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Exec(t.Context(), `CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n`); err != nil {
		t.Fatal(err)
	}
	insert()
	copied := filepath.Join(t.TempDir(), "copy")
	if err := e.Copy(copied); err == nil {
		t.Error("a running engine was copied")
	}
	if err := errors.Join(e.Kill(), e.Copy(copied), e.Restart()); err != nil {
		t.Fatal(err)
	}
	insert()
	if err := e.PutBack(copied); err == nil {
		t.Error("the data of a running engine was replaced")
	}
	if err := errors.Join(e.Kill(), e.PutBack(copied), e.Restart()); err != nil {
		t.Fatal(err)
	}
	var n uint64
	if err := c.QueryRow(t.Context(), `SELECT count() FROM t`).Scan(&n); err != nil || n != 1000 {
		t.Errorf("%d rows in the older copy, want 1000 (%v)", n, err)
	}
}
