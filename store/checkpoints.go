package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"mete/billing"
)

// Checkpoint implements [billing.Store].
func (db *DB) Checkpoint(ctx context.Context, stream string) (billing.Checkpoint, error) {
	c, _, err := newestCheckpoint(ctx, db.read, stream)
	return c, err
}

// MoveCheckpoint implements [billing.Store].
func (db *DB) MoveCheckpoint(ctx context.Context, c billing.Checkpoint) (moved bool, err error) {
	content, err := json.Marshal(c)
	if err != nil {
		return false, err
	}
	err = db.tx(ctx, func(tx *sql.Tx) error {
		moved = false
		if _, err := db.lockHead(ctx, tx); err != nil { // one at a time
			return err
		}
		last, number, err := newestCheckpoint(ctx, tx, c.Stream)
		if err != nil {
			return err
		}
		if moved, err = c.After(last); err != nil || !moved {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO checkpoints (stream, number, content, digest) VALUES ($1, $2, $3, $4)`,
			c.Stream, number+1, string(content), digest(content))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("move the checkpoint of stream %s to %s: %w", c.Stream, c.Cutoff, err)
	}
	return moved, nil
}

// newestCheckpoint is the one with the largest number; without any, the zero value and 0.
func newestCheckpoint(ctx context.Context, q querier, stream string) (c billing.Checkpoint, number int64, err error) {
	var content, sum string
	err = q.QueryRowContext(ctx, `SELECT number, content, digest FROM checkpoints WHERE stream = $1 ORDER BY number DESC LIMIT 1`, stream).Scan(&number, &content, &sum)
	if errors.Is(err, sql.ErrNoRows) {
		return c, 0, nil
	}
	if err != nil {
		return c, 0, fmt.Errorf("checkpoint of stream %s: %w", stream, err)
	}
	if got := digest([]byte(content)); got != sum {
		return c, 0, fmt.Errorf("checkpoint %d of stream %s was altered: its digest is %s, kept was %s: %w", number, stream, got[:12], sum[:12], billing.ErrConflict)
	}
	if err := json.Unmarshal([]byte(content), &c); err != nil {
		return c, 0, fmt.Errorf("checkpoint %d of stream %s: %w", number, stream, err)
	}
	if c.Stream != stream {
		return billing.Checkpoint{}, 0, fmt.Errorf("checkpoint %d of stream %s is of stream %q: %w", number, stream, c.Stream, billing.ErrConflict)
	}
	return c, number, nil
}
