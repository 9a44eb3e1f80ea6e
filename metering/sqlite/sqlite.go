// Package sqlite keeps accepted events in one SQLite file: the embedded driver of
// [metering.Store] and of [metering.Quarantine] with its replays.
//
// A block's events, keys, duplicates, conflicts, tallies and its position are one
// transaction on disk (WAL, synchronous FULL), so a crash cannot part them. The
// package refuses to know where events come from and what they are worth. Read
// [Store.Append] first, then migrations/0001_events.sql, which says what each table
// is for.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	_ "modernc.org/sqlite" // the engine, without cgo

	"mete/metering"
)

//go:embed migrations/*.sql
var migrations embed.FS

// maxReaders bounds the connections that read at the same time. An iterator holds
// one until it ends; a further reader waits.
const maxReaders = 8

// Store is a metering store in one SQLite file. One process at a time may fill it.
type Store struct {
	path    string
	readers *sql.DB
	writers *sql.DB // one connection: w.conn
	w       *writer
	turn    chan struct{} // holds one token: who has it may write
}

var (
	_ metering.Store      = (*Store)(nil)
	_ metering.Quarantine = (*Store)(nil)
	_ metering.Replays    = (*Store)(nil)
	_ metering.Redactor   = (*Store)(nil)
	_ metering.Lookup     = (*Store)(nil)
	_ metering.Tallies    = (*Store)(nil)

	_ metering.SourceFacts  = (*Store)(nil)
	_ metering.SumsBySource = (*Store)(nil)

	_ metering.Refillable   = (*Store)(nil)
	_ metering.KeyRebuilder = (*Store)(nil)
)

// Open opens the store in the file at path, making the file if there is none and
// bringing an older schema up to date. A file of a newer schema is refused.
func Open(path string) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open metering store %s: %w", path, err)
	}
	if _, err := os.Stat(filepath.Dir(abs)); err != nil {
		return nil, fmt.Errorf("open metering store %s: its folder must exist: %w", path, err)
	}
	s := &Store{path: abs, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	if err := s.open(context.Background()); err != nil {
		return nil, errors.Join(fmt.Errorf("open metering store %s: %w", path, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	var err error
	// The cache is small, and takes twice its size: the system keeps the file's pages
	// too, and with eight times as much a backlog was stored no faster.
	if s.writers, err = sql.Open("sqlite", dsn(s.path, "synchronous(FULL)", "cache_size(-16384)", "wal_autocheckpoint(8000)")); err != nil {
		return err
	}
	s.writers.SetMaxOpenConns(1)
	if err := migrate(ctx, s.writers); err != nil {
		return err
	}
	conn, err := s.writers.Conn(ctx)
	if err != nil {
		return err
	}
	s.w = &writer{conn: conn, mergeAt: mergeAt, stale: true}
	if err := s.fillRefusedKeys(ctx); err != nil {
		return err
	}
	if s.readers, err = sql.Open("sqlite", dsn(s.path, "query_only(1)", "cache_size(-16384)")); err != nil {
		return err
	}
	s.readers.SetMaxOpenConns(maxReaders)
	return s.readers.PingContext(ctx)
}

// dsn names the file and the settings of every connection to it. The busy timeout
// comes first, so that the others wait too.
func dsn(path string, pragmas ...string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path)}
	q := url.Values{"_pragma": append([]string{"busy_timeout(10000)", "page_size(8192)", "journal_mode(WAL)", "foreign_keys(1)"}, pragmas...)}
	return u.String() + "?" + q.Encode()
}

// versionTable holds the schema's version.
const versionTable = "schema_version"

// migrate brings the schema up to date. It looks before it writes: a file that this
// program does not know stays as it is.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(database.DialectSQLite3, db, files,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	sources := p.ListSources()
	known := sources[len(sources)-1].Version

	var tables, versioned int
	if err := db.QueryRowContext(ctx,
		`SELECT count(*), coalesce(sum(name = $1), 0) FROM sqlite_schema WHERE type = 'table'`,
		versionTable).Scan(&tables, &versioned); err != nil {
		return fmt.Errorf("read its schema: not a SQLite file, or damaged; restore it from a backup: %w", err)
	}
	if tables > 0 && versioned == 0 {
		return fmt.Errorf("it is a SQLite file of something else (%d tables, none named %s); choose another path", tables, versionTable)
	}
	if versioned > 0 {
		var version int64
		if err := db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versionTable).Scan(&version); err != nil {
			return fmt.Errorf("read its schema version: %w", err)
		}
		if version > known {
			return fmt.Errorf("its schema is version %d, this program knows versions up to %d; use the program that wrote it, or a newer one", version, known)
		}
		if version == known {
			return nil
		}
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bring its schema to version %d: %w", known, err)
	}
	return nil
}

// Close waits for a write that is under way and closes the file. Closing again
// does nothing.
func (s *Store) Close() error {
	<-s.turn
	defer func() { s.turn <- struct{}{} }()
	var errs []error
	if s.readers != nil {
		errs = append(errs, s.readers.Close())
	}
	if s.w != nil {
		errs = append(errs, s.w.close())
	}
	if s.writers != nil {
		errs = append(errs, s.writers.Close())
	}
	return errors.Join(errs...)
}

// Attach names the stream that fills the store, see [metering.Store]. The number of
// partitions is fixed with the name, since the place of an event follows from it.
func (s *Store) Attach(ctx context.Context, stream string, partitions int) (int, error) {
	if stream == "" || partitions < 1 {
		return 0, fmt.Errorf("attach stream %q with %d partitions: want a name and at least one partition", stream, partitions)
	}
	err := s.write(ctx, func(w *writer) error {
		var name string
		var n int
		switch err := w.conn.QueryRowContext(ctx, `SELECT name, partitions FROM streams WHERE incarnation = 1`).Scan(&name, &n); {
		case errors.Is(err, sql.ErrNoRows):
			_, err := w.conn.ExecContext(ctx, `INSERT INTO streams (incarnation, name, partitions) VALUES (1, $1, $2)`, stream, partitions)
			return err
		case err != nil:
			return err
		case name != stream:
			return fmt.Errorf("%s was filled from stream %q, this is %q: attach the stream it was filled from, or start an empty store and fill it from the new stream: %w",
				s.path, name, stream, metering.ErrIncarnation)
		case n != partitions:
			return fmt.Errorf("%s was filled from stream %q with %d partitions, it now has %d: the number is fixed for a stream's life; make a new stream: %w",
				s.path, name, n, partitions, metering.ErrIncarnation)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("attach stream %q: %w", stream, err)
	}
	return 1, nil
}

// Position is the sequence up to which the partition is stored, 0 for none.
func (s *Store) Position(ctx context.Context, partition int) (uint64, error) {
	var sequence int64
	err := s.readers.QueryRowContext(ctx, `SELECT sequence FROM positions WHERE partition = $1`, partition).Scan(&sequence)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("position of partition %d: %w", partition, err)
	}
	return uint64(sequence), nil
}

// Cutoff is the position of every partition of the attached stream now, 0 where
// nothing is stored. It is never nil.
func (s *Store) Cutoff(ctx context.Context) (metering.Cutoff, error) {
	rows, err := s.readers.QueryContext(ctx, `
		WITH RECURSIVE all_partitions (incarnation, partition, partitions) AS (
			SELECT incarnation, 0, partitions FROM streams
			UNION ALL
			SELECT incarnation, partition + 1, partitions FROM all_partitions WHERE partition + 1 < partitions)
		SELECT a.incarnation, a.partition, coalesce(p.sequence, 0)
		  FROM all_partitions a LEFT JOIN positions p USING (partition)
		 ORDER BY a.partition`)
	if err != nil {
		return nil, fmt.Errorf("cutoff: %w", err)
	}
	defer rows.Close()
	c := metering.Cutoff{}
	for rows.Next() {
		var p metering.PartitionCutoff
		if err := rows.Scan(&p.Incarnation, &p.Partition, &p.Sequence); err != nil {
			return nil, fmt.Errorf("cutoff: %w", err)
		}
		c = append(c, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cutoff: %w", err)
	}
	return c, nil
}

// BackupTo writes the store, as it is at one instant, into a new file at path,
// while it may be filled further. The copy is whole and on disk when BackupTo
// returns, or it is not there.
func (s *Store) BackupTo(ctx context.Context, path string) error {
	err := s.backup(ctx, path)
	if err != nil {
		return fmt.Errorf("back up metering store %s to %s: %w", s.path, path, err)
	}
	return nil
}

func (s *Store) backup(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("the file exists; name a new one: %w", fs.ErrExist)
	}
	partial := path + ".partial"
	if err := os.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := sql.Open("sqlite", dsn(s.path)) // readers may not vacuum
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `VACUUM INTO $1`, partial)
	if err = errors.Join(err, db.Close()); err != nil {
		return errors.Join(err, removeIfThere(partial))
	}
	if err := syncFile(partial); err != nil {
		return errors.Join(err, removeIfThere(partial))
	}
	if err := os.Rename(partial, path); err != nil {
		return errors.Join(err, removeIfThere(partial))
	}
	return syncFile(filepath.Dir(path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncFile puts a file, or the names in a folder, on disk.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// placeBits is how many bits of a place are the event's index in its message.
const placeBits = 20

// maxIndex is the largest index of an event in its message, all bits of it.
const maxIndex = metering.MaxIndex

// maxMessages is how many messages can be counted before places run out.
const maxMessages = math.MaxInt64 >> placeBits

// isOverflow reports whether SQLite refused to let a sum wrap.
func isOverflow(err error) bool {
	return err != nil && strings.Contains(err.Error(), "integer overflow")
}
