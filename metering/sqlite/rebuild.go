package sqlite

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"mete/internal/failpoint"
	"mete/metering"
)

// keysWritten is a step of making keys anew at which a crash is tried.
const keysWritten failpoint.Point = "rebuild.keys-written"

// RebuildKeys makes the keys of all stored events anew, see [metering.KeyRebuilder]. It
// is one transaction.
func (s *Store) RebuildKeys(ctx context.Context, progress func(done, of int64)) (metering.RebuiltKeys, error) {
	var k metering.RebuiltKeys
	err := s.write(ctx, func(w *writer) error {
		w.stale = true // what it remembers of keys is of before
		return w.rebuildKeys(ctx, &k, progress)
	})
	if err != nil {
		return metering.RebuiltKeys{}, fmt.Errorf("make the keys of %s anew: nothing has changed: %w", s.path, err)
	}
	return k, nil
}

func (w *writer) rebuildKeys(ctx context.Context, k *metering.RebuiltKeys, progress func(done, of int64)) error {
	var before int64
	for _, q := range []struct {
		query string
		into  *int64
	}{
		{`SELECT count(*) FROM events`, &k.Rows},
		{`SELECT count(*) FROM ` + allKeys, &before},
		{`SELECT count(DISTINCT a.place) FROM ` + allKeys + ` a CROSS JOIN events e ON e.place = a.place WHERE e.event_key = a.event_key`, &k.Right},
	} {
		if err := w.conn.QueryRowContext(ctx, q.query).Scan(q.into); err != nil {
			return err
		}
	}
	k.Added, k.Removed = k.Rows-k.Right, before-k.Right
	progress(0, k.Rows)
	for _, q := range []string{
		`DELETE FROM keys`, `DELETE FROM keys_recent`,
		`INSERT INTO keys (event_key, place) SELECT event_key, place FROM events NOT INDEXED ORDER BY event_key`,
	} {
		if _, err := w.conn.ExecContext(ctx, q); err != nil {
			return errors.Join(w.storedTwice(ctx), err)
		}
	}
	var right int64
	if err := w.conn.QueryRowContext(ctx, `SELECT count(*) FROM keys k CROSS JOIN events e ON e.place = k.place WHERE e.event_key = k.event_key`).Scan(&right); err != nil {
		return err
	}
	if right != k.Rows {
		return fmt.Errorf("of %d events %d have their key now; run the store's check", k.Rows, right)
	}
	progress(k.Rows, k.Rows)
	return keysWritten.Hit()
}

// storedTwice names a key under which two events are stored, nil if there is none.
func (w *writer) storedTwice(ctx context.Context) error {
	rows, err := w.conn.QueryContext(ctx, `SELECT event_key, min(place), max(place) FROM events GROUP BY event_key HAVING count(*) > 1 LIMIT 1`)
	if err != nil {
		return err
	}
	defer rows.Close()
	if rows.Next() {
		var key []byte
		var first, last int64
		if err := rows.Scan(&key, &first, &last); err != nil {
			return err
		}
		return fmt.Errorf("key %s, in message rows %d and %d: fill a new store, mete rebuild store --from stream: %w",
			hex.EncodeToString(key), first>>placeBits, last>>placeBits, metering.ErrKeyTwice)
	}
	return rows.Err()
}

// partialSuffix ends the name of a file that is being filled.
const partialSuffix = ".partial"

// OpenNew opens a store that is filled anew, to be in the file at path once it is whole:
// until [Store.Rebuilt] it is in another one beside it, where an interrupted filling is
// found again. A file at path is refused.
func OpenNew(path string) (*Store, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("new metering store %s: the file exists; name a new one: %w", path, fs.ErrExist)
	}
	return Open(path + partialSuffix)
}

// Rebuilt puts a store that [OpenNew] opened into its own file, on disk, and closes it.
func (s *Store) Rebuilt(context.Context) error {
	path := s.path[:len(s.path)-len(partialSuffix)]
	if err := s.Close(); err != nil {
		return err
	}
	if err := syncFile(s.path); err != nil {
		return fmt.Errorf("new metering store %s: %w", path, err)
	}
	// Unlike a rename, a link takes no file away that has come meanwhile.
	if err := os.Link(s.path, path); err != nil {
		return fmt.Errorf("new metering store: %w", err)
	}
	if err := os.Remove(s.path); err != nil {
		return fmt.Errorf("new metering store %s: %w", path, err)
	}
	return syncFile(filepath.Dir(path))
}
