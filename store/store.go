// Package store keeps everything relational (ledger, billing, payouts, catalogue) in
// SQLite or PostgreSQL, with one text of queries for both.
//
// It refuses to decide: callers compute, it stores, and a method is one transaction
// is one business fact. No transaction leaves the package. Where the engines differ
// stands in [engine], and in the two folders of migrations. Read [DB.tx] first.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // PostgreSQL
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // SQLite

	"mete/migrations"
)

// DB is an open store.
type DB struct {
	write  *sql.DB // SQLite: one connection, so writers queue instead of failing
	read   *sql.DB
	engine engine
	posts  *postQueue
}

// engine is where SQLite and PostgreSQL differ.
type engine struct {
	name    string
	dialect goose.Dialect
	lockRow string // appended to a SELECT that must hold the row until commit

	insertRows int // at most so many per statement
	values     func(rows [][]any) (text string, args []any)

	snapshot sql.TxOptions // a reading transaction that sees one moment throughout
}

var (
	sqliteEngine = engine{name: "sqlite", dialect: goose.DialectSQLite3,
		insertRows: 50, values: listed,
		snapshot: sql.TxOptions{ReadOnly: true}}
	postgresEngine = engine{name: "postgres", dialect: goose.DialectPostgres, lockRow: " FOR UPDATE",
		insertRows: 20_000, values: unnested,
		snapshot: sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead}}
)

const (
	maxReaders     = 4
	maxPostgres    = 8
	busyTimeout    = 10 * time.Second
	maxTxTries     = 5 // serialization failures and deadlocks are tried again this often
	timeFormat     = "2006-01-02T15:04:05.000000Z"
	postgresPrefix = "postgres://"
)

// Open opens the store named by dsn, a postgres:// URL or the path of a SQLite file,
// and brings its schema up to date.
func Open(ctx context.Context, dsn string) (*DB, error) {
	db, err := open(dsn)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := db.migrate(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("open store %s: schema: %w", db.engine.name, err)
	}
	if err := db.beginFacts(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("open store %s: %w", db.engine.name, err)
	}
	return db, nil
}

func open(dsn string) (*DB, error) {
	if strings.HasPrefix(dsn, postgresPrefix) || strings.HasPrefix(dsn, "postgresql://") {
		pool, err := sql.Open("pgx", dsn)
		if err != nil {
			return nil, err
		}
		pool.SetMaxOpenConns(maxPostgres)
		return &DB{write: pool, read: pool, engine: postgresEngine, posts: newPostQueue()}, nil
	}
	q := url.Values{}
	for _, p := range []string{"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)",
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds())} {
		q.Add("_pragma", p)
	}
	name := "file:" + (&url.URL{Path: dsn}).EscapedPath() + "?" + q.Encode()
	w, err := sql.Open("sqlite", name+"&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	w.SetMaxOpenConns(1)
	r, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	r.SetMaxOpenConns(maxReaders)
	return &DB{write: w, read: r, engine: sqliteEngine, posts: newPostQueue()}, nil
}

func (db *DB) migrate(ctx context.Context) error {
	files, dir := fs.FS(migrations.SQLite), "relational/sqlite"
	if db.engine.name == "postgres" {
		files, dir = migrations.Postgres, "relational/postgres"
	}
	sub, err := fs.Sub(files, dir)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(db.engine.dialect, db.write, sub)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// Close closes the store.
func (db *DB) Close() error {
	if db.read == db.write {
		return db.write.Close()
	}
	return errors.Join(db.read.Close(), db.write.Close())
}

// tx runs fn in one transaction on one connection: all of it happens or nothing.
// Serialization failures and deadlocks run fn again, at most maxTxTries times, so fn
// must set, not add to, what it captures.
func (db *DB) tx(ctx context.Context, fn func(tx *sql.Tx) error) error {
	for try := 1; ; try++ {
		err := db.once(ctx, fn)
		if err == nil || try == maxTxTries || !retryable(err) {
			return err
		}
	}
}

func (db *DB) once(ctx context.Context, fn func(tx *sql.Tx) error) error {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// retryable reports whether the database asked to run the transaction again
// (SQLSTATE class 40; SQLite writers queue on one connection and do not).
func retryable(err error) bool {
	var pg interface{ SQLState() string }
	return errors.As(err, &pg) && strings.HasPrefix(pg.SQLState(), "40")
}

// stamp writes an instant as text that sorts in time order in both engines.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeFormat)
}

// unstamp reads what stamp wrote.
func unstamp(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	return time.Parse(timeFormat, s)
}
