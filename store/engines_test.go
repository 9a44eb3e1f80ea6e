package store

import (
	"path/filepath"
	"testing"

	"mete/internal/pgtest"
)

// eachEngine runs f on an empty store of every engine.
func eachEngine(t *testing.T, f func(t *testing.T, db *DB)) {
	t.Helper()
	for name, dsn := range map[string]func(testing.TB) string{"sqlite": sqliteDSN, "postgres": pgtest.New} {
		t.Run(name, func(t *testing.T) { f(t, openTest(t, dsn(t))) })
	}
}

// openTest opens a store that is closed when the test ends.
func openTest(t testing.TB, dsn string) *DB {
	t.Helper()
	db, err := Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func sqliteDSN(t testing.TB) string { return filepath.Join(t.TempDir(), "mete.db") }
