package store

import (
	"testing"

	"mete/billing/billingtest"
	"mete/internal/pgtest"
)

func TestBilling(t *testing.T) {
	for name, dsn := range map[string]func(testing.TB) string{"sqlite": sqliteDSN, "postgres": pgtest.New} {
		t.Run(name, func(t *testing.T) {
			billingtest.TestStore(t, func(t *testing.T) billingtest.Books { return openTest(t, dsn(t)) })
		})
	}
}
