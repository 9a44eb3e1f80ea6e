package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"mete/metering"
)

// seenKeys are the keys of a log however long, in a file that is thrown away: a table
// on disk, of which a bounded part lies in memory. It holds no text of the log.
type seenKeys struct {
	dir  string
	db   *sql.DB
	conn *sql.Conn
	put  *sql.Stmt
	get  *sql.Stmt
}

// firstSeen is where a key stood first.
type firstSeen struct {
	line   int
	digest string
}

func newSeenKeys(ctx context.Context) (*seenKeys, error) {
	dir, err := os.MkdirTemp("", "mete-compare-")
	if err != nil {
		return nil, err
	}
	k := &seenKeys{dir: dir}
	if err := k.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("keys of the log: %w", err), k.close())
	}
	return k, nil
}

func (k *seenKeys) open(ctx context.Context) (err error) {
	// What is lost in a crash is of no use: nothing waits for the disk.
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(k.dir, "keys.db")),
		RawQuery: url.Values{"_pragma": {"journal_mode(OFF)", "synchronous(OFF)", "cache_size(-65536)", "locking_mode(EXCLUSIVE)"}}.Encode()}
	if k.db, err = sql.Open("sqlite", u.String()); err != nil {
		return err
	}
	k.db.SetMaxOpenConns(1)
	if k.conn, err = k.db.Conn(ctx); err != nil {
		return err
	}
	if _, err := k.conn.ExecContext(ctx, `CREATE TABLE keys (event_key BLOB PRIMARY KEY, line INTEGER NOT NULL, digest TEXT NOT NULL) STRICT, WITHOUT ROWID`); err != nil {
		return err
	}
	if k.put, err = k.conn.PrepareContext(ctx, `INSERT INTO keys (event_key, line, digest) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`); err != nil {
		return err
	}
	k.get, err = k.conn.PrepareContext(ctx, `SELECT line, digest FROM keys WHERE event_key = $1`)
	return err
}

// add keeps records and says for each where its key stood first.
func (k *seenKeys) add(ctx context.Context, cs []claimed) ([]firstSeen, error) {
	if len(cs) == 0 {
		return nil, nil
	}
	if _, err := k.conn.ExecContext(ctx, `BEGIN`); err != nil {
		return nil, err
	}
	first := make([]firstSeen, len(cs))
	for i, c := range cs {
		r, err := k.put.ExecContext(ctx, c.key[:], c.Line, c.Digest)
		if err != nil {
			return nil, err
		}
		n, err := r.RowsAffected()
		if err != nil {
			return nil, err
		}
		if n == 1 {
			first[i] = firstSeen{c.Line, c.Digest}
		} else if err := k.get.QueryRowContext(ctx, c.key[:]).Scan(&first[i].line, &first[i].digest); err != nil {
			return nil, err
		}
	}
	_, err := k.conn.ExecContext(ctx, `COMMIT`)
	return first, err
}

// has reports which events' keys the log has.
func (k *seenKeys) has(ctx context.Context, es []metering.Accepted) (map[metering.Key]bool, error) {
	there := map[metering.Key]bool{}
	if len(es) == 0 {
		return there, nil
	}
	args := make([]any, len(es))
	for i := range es {
		args[i] = es[i].Key[:]
	}
	rows, err := k.conn.QueryContext(ctx, `SELECT event_key FROM keys WHERE event_key IN (?`+strings.Repeat(",?", len(es)-1)+`)`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return nil, err
		}
		there[metering.Key(b)] = true
	}
	return there, rows.Err()
}

func (k *seenKeys) close() error {
	var errs []error
	for _, s := range []*sql.Stmt{k.put, k.get} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	if k.conn != nil {
		errs = append(errs, k.conn.Close())
	}
	if k.db != nil {
		errs = append(errs, k.db.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(k.dir))...)
}
