package sqlite

import (
	"path/filepath"
	"testing"

	"mete/metering"
	"mete/metering/meteringtest"
)

func open(t *testing.T) *Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "usage.db"))
}

func openAt(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	meteringtest.TestStore(t, func(t *testing.T) metering.Store { return open(t) })
}

func TestQuarantine(t *testing.T) {
	meteringtest.TestQuarantine(t, func(t *testing.T) metering.Quarantine { return open(t) })
}
