package store

import (
	"context"
	"database/sql"

	"mete/ledger"
)

// Post implements [ledger.Store].
func (db *DB) Post(ctx context.Context, entries ...ledger.Entry) error {
	return db.tx(ctx, func(tx *sql.Tx) error { return db.post(ctx, tx, entries, noMonth) })
}
