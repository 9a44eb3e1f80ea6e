package store

import (
	"testing"

	"mete/internal/pgtest"
	"mete/ledger/ledgertest"
)

func TestLedger(t *testing.T) {
	for name, dsn := range map[string]func(testing.TB) string{"sqlite": sqliteDSN, "postgres": pgtest.New} {
		t.Run(name, func(t *testing.T) {
			ledgertest.TestStore(t, func(t testing.TB) ledgertest.Books { return openTest(t, dsn(t)) })
		})
	}
}
