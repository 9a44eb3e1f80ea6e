package clickhouse

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mete/internal/chtest"
	"mete/metering"
	"mete/metering/meteringtest"
	"mete/metering/sqlite"
)

func TestRefill(t *testing.T) {
	fewer(t, "4") // each draws two stores
	file := func(t *testing.T) meteringtest.RefillableStore {
		s, err := sqlite.Open(filepath.Join(t.TempDir(), "usage.db"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	server := func() func(*testing.T) meteringtest.RefillableStore {
		open := reopener(t)
		return func(t *testing.T) meteringtest.RefillableStore {
			s := open(t)
			s.goneWithin = 0 // a redaction of a test waits for nobody's disk
			return s
		}
	}
	meteringtest.TestRefill(t, server(), server())
	t.Run("FromSQLite", func(t *testing.T) { meteringtest.TestRefillBetween(t, file, server()) })
	t.Run("ToSQLite", func(t *testing.T) { meteringtest.TestRefillBetween(t, server(), file) })
}

// Whatever happened to keys, they are made anew from the rows, and nothing else changes.
func TestRebuildKeysOfAnyDamage(t *testing.T) {
	ctx := context.Background()
	const (
		key3  = `(SELECT event_key FROM events WHERE startsWith(event_id, 'a-3'))`
		sync  = ` SETTINGS mutations_sync = 2`
		now   = ` SETTINGS async_insert = 0 SELECT `
		zeros = `toFixedString(unhex('00000000000000000000000000000000'), 16)`
	)
	reopen := reopener(t)
	for name, c := range map[string]struct {
		statements     []string
		added, removed int64
	}{
		"all lost":           {[]string{`TRUNCATE TABLE keys`}, 50, 0},
		"one lost":           {[]string{`ALTER TABLE keys DELETE WHERE event_key IN ` + key3 + sync}, 1, 0},
		"kept twice":         {[]string{`INSERT INTO keys` + now + `* FROM keys WHERE event_key IN ` + key3}, 1, 2},
		"at another place":   {[]string{`INSERT INTO keys` + now + `event_key, content_hash, epoch, sequence, idx + 77, type, app, occurred_at FROM keys WHERE event_key IN ` + key3}, 0, 1},
		"of nobody":          {[]string{`INSERT INTO keys` + now + zeros + `, content_hash, epoch, sequence, idx + 100, type, app, occurred_at FROM keys WHERE event_key IN ` + key3}, 0, 1},
		"of another app":     {[]string{`ALTER TABLE keys UPDATE app = 'mine' WHERE event_key IN ` + key3 + sync}, 1, 1},
		"of other content":   {[]string{`ALTER TABLE keys UPDATE content_hash = ` + zeros + ` WHERE event_key IN ` + key3 + sync}, 1, 1},
		"all of another app": {[]string{`ALTER TABLE keys UPDATE app = 'mine' WHERE 1` + sync}, 50, 50},
		"nothing":            {nil, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, m := reopen(t), new(meteringtest.Model)
			defer s.Close()
			fill(t, s, m, blocks(newFeed())...)
			s.keepEvery = 1
			same(t, s, m)
			alter(t, s, c.statements...)
			k, err := s.RebuildKeys(ctx, func(int64, int64) {})
			if want := (metering.RebuiltKeys{Rows: 50, Right: 50 - c.added, Added: c.added, Removed: c.removed}); err != nil || k != want {
				t.Errorf("made anew: %+v, %v, want %+v", k, err, want)
			}
			wantSound(t, s)
			same(t, s, m)
		})
	}
}

// Where more keys are wrong than are named one by one, all are deleted first.
func TestRebuildKeysOfGreatDamage(t *testing.T) {
	s, m := open(t), new(meteringtest.Model)
	const n = maxWrongKeys + 500
	fill(t, s, m, newFeed().Block(0, meteringtest.Calls("a", n, "scheduler", day)))
	alter(t, s, `ALTER TABLE keys UPDATE app = 'mine' WHERE idx >= 5 SETTINGS mutations_sync = 2`)
	k, err := s.RebuildKeys(context.Background(), func(int64, int64) {})
	if want := (metering.RebuiltKeys{Rows: n, Right: 5, Added: n - 5, Removed: n - 5}); err != nil || k != want {
		t.Errorf("made anew: %+v, %v, want %+v", k, err, want)
	}
	wantSound(t, s)
	alike(t, s, m)
}

// Segments of the filter that say nothing is stored would let events count twice. They are
// made anew too.
func TestRebuildKeysMakesSegments(t *testing.T) {
	ctx := context.Background()
	s, m := open(t), new(meteringtest.Model)
	s.keepEvery = 1
	bs := blocks(newFeed())
	fill(t, s, m, bs...)
	count := func() (n uint64) {
		if err := s.each(ctx, `SELECT count() FROM key_segments FINAL`, func(scan func(...any) error) error { return scan(&n) }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if count() == 0 {
		t.Fatal("no segment is kept")
	}
	alter(t, s, `TRUNCATE TABLE key_segments`)
	if _, err := s.RebuildKeys(ctx, func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != partitions {
		t.Errorf("%d segments, want one for each of %d partitions", n, partitions)
	}
	same(t, s, m)
	wantSound(t, s)
}

func TestRebuildKeysNamesWhatIsStoredTwice(t *testing.T) {
	s, m := open(t), new(meteringtest.Model)
	fill(t, s, m, blocks(newFeed())...)
	alter(t, s, `INSERT INTO events SETTINGS async_insert = 0 SELECT * FROM events WHERE startsWith(event_id, 'a-3')`)
	if _, err := s.RebuildKeys(context.Background(), func(int64, int64) {}); !errors.Is(err, metering.ErrKeyTwice) {
		t.Errorf("made anew: %v, want ErrKeyTwice", err)
	}
}

// rebuildDSN names the store in which a process that is there to be killed makes keys.
const rebuildDSN = "METE_TEST_REBUILD_DSN"

func rebuildAll(dsn string) error {
	s, err := Open(context.Background(), Options{DSN: dsn, MaxRows: 20})
	if err != nil {
		return err
	}
	_, err = s.RebuildKeys(context.Background(), func(int64, int64) {})
	return err
}

// Killed on the way, more keys are right than before, and the next time all are.
func TestRebuildKeysKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx := context.Background()
	s, m := open(t), new(meteringtest.Model)
	fill(t, s, m, blocks(newFeed())...)
	alter(t, s, `TRUNCATE TABLE keys`)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), rebuildDSN+"="+s.options.DSN, "METE_FAILPOINT="+string(keysFixed)+"=kill@2")
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		t.Fatalf("the process was not killed: %v\n%s", err, out)
	}
	n, err := s.Counts(ctx, nil)
	if err != nil || n.Keys == 0 || n.Keys == n.Stored {
		t.Errorf("after the kill: %+v, %v", n, err)
	}
	k, err := s.RebuildKeys(ctx, func(int64, int64) {})
	if err != nil || k.Right != n.Keys || k.Right+k.Added != n.Stored {
		t.Errorf("made anew: %+v, %v", k, err)
	}
	same(t, s, m)
	wantSound(t, s)
}

// A new store is opened by nobody else until it is whole, and one in use is not filled.
func TestNewStore(t *testing.T) {
	ctx := context.Background()
	dsn := chtest.New(t)
	m := new(meteringtest.Model)
	for i, b := range blocks(newFeed()) { // opened again and again, it goes on
		s, err := Open(ctx, Options{DSN: dsn, New: true})
		if err != nil {
			t.Fatal(err)
		}
		fill(t, s, m, b)
		if _, err := Open(ctx, Options{DSN: dsn}); err == nil || !strings.Contains(err.Error(), "not whole yet") {
			t.Errorf("half filled, it is opened: %v", err)
		}
		if i < 3 {
			err = s.Close()
		} else {
			err = s.Rebuilt(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(ctx, Options{DSN: dsn, New: true}); !errors.Is(err, ErrInUse) {
		t.Errorf("one in use is filled anew: %v", err)
	}
	s := openAt(t, dsn)
	same(t, s, m)
	wantSound(t, s)
}
