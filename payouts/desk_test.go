package payouts_test

import (
	"path/filepath"
	"testing"

	"mete/payouts/payoutstest"
	"mete/store"
)

func openBooks(t *testing.T) payoutstest.Books {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "mete.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestDesk(t *testing.T) { payoutstest.TestStore(t, openBooks) }
