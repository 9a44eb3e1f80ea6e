package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mete/metering"
	"mete/metering/meteringtest"
)

// sound fills a file whose keys lie in both tables, and closes it.
func soundFile(t *testing.T) (path string, m *meteringtest.Model) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "events.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s.w.mergeAt = 30
	m = filled(t, s)
	wantSound(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path, m
}

// Whatever happened to keys, they are made anew from the rows, and nothing else changes.
func TestRebuildKeysOfAnyDamage(t *testing.T) {
	ctx := context.Background()
	const zeros = `x'00000000000000000000000000000000'`
	for name, c := range map[string]struct {
		statements     []string
		added, removed int64
	}{
		"all lost":            {[]string{`DELETE FROM keys`, `DELETE FROM keys_recent`}, 48, 0},
		"sorted ones lost":    {[]string{`DELETE FROM keys`}, 40, 0},
		"recent ones lost":    {[]string{`DELETE FROM keys_recent`}, 8, 0},
		"one lost":            {[]string{`DELETE FROM keys WHERE event_key = (SELECT min(event_key) FROM keys)`}, 1, 0},
		"one altered":         {[]string{`UPDATE keys_recent SET event_key = ` + zeros + ` WHERE place = (SELECT max(place) FROM keys_recent)`}, 1, 1},
		"at another place":    {[]string{`UPDATE keys SET place = place + 7 WHERE event_key = (SELECT min(event_key) FROM keys)`}, 1, 1},
		"kept twice":          {[]string{`INSERT INTO keys_recent (place, event_key) SELECT place, event_key FROM keys LIMIT 3`}, 0, 3},
		"of nobody":           {[]string{`INSERT INTO keys (event_key, place) VALUES (` + zeros + `, 77)`}, 0, 1},
		"nothing is the case": {[]string{`UPDATE keys SET place = place`}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			path, m := soundFile(t)
			raw(t, path, c.statements...)
			s := openAt(t, path)
			findings, err := s.Check(ctx)
			if err != nil || (len(findings) > 0) != (c.added+c.removed > 0) {
				t.Fatalf("the check finds %q, %v", findings, err)
			}
			k, err := s.RebuildKeys(ctx, func(int64, int64) {})
			if want := (metering.RebuiltKeys{Rows: 48, Right: 48 - c.added, Added: c.added, Removed: c.removed}); err != nil || k != want {
				t.Errorf("made anew: %+v, %v, want %+v", k, err, want)
			}
			wantSound(t, s)
			meteringtest.Compare(t, s, m, metering.Span{})
			both(t, s, m, blocks(meteringtest.NewFeed())...)
			again := meteringtest.NewFeed()
			again.Block(0, nil, nil) // what is stored there
			more := again.Block(0, meteringtest.Calls("a", 20, "scheduler", day), meteringtest.Calls("new", 3, "billing", day))
			if o, err := s.Append(ctx, more); err != nil || o != (metering.Outcome{Stored: 3, Duplicate: 20}) {
				t.Errorf("sent again: %+v, %v", o, err)
			}
			wantSound(t, s)
		})
	}
}

// A store that has counted an event twice keeps its keys, and says which it is.
func TestRebuildKeysNamesWhatIsStoredTwice(t *testing.T) {
	path, _ := soundFile(t)
	raw(t, path, `UPDATE events SET event_key = (SELECT event_key FROM events ORDER BY place LIMIT 1) WHERE place = (SELECT max(place) FROM events)`)
	s := openAt(t, path)
	before, err := s.Check(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.RebuildKeys(context.Background(), func(int64, int64) {}); !errors.Is(err, metering.ErrKeyTwice) {
		t.Errorf("made anew: %v, want ErrKeyTwice", err)
	}
	after, err := s.Check(context.Background())
	if err != nil || fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("it has changed: %q, was %q, %v", after, before, err)
	}
}

// rebuildFile names the store in which a process that is there to be killed makes keys.
const rebuildFile = "METE_TEST_REBUILD_FILE"

func rebuildAll(path string) {
	s, err := Open(path)
	if err == nil {
		_, err = s.RebuildKeys(context.Background(), func(int64, int64) {})
	}
	fmt.Fprintln(os.Stderr, "not killed:", err)
	os.Exit(3)
}

// Killed before they are whole, the keys are those of before, and are made again.
func TestRebuildKeysKilled(t *testing.T) {
	path, m := soundFile(t)
	raw(t, path, `DELETE FROM keys`)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), rebuildFile+"="+path, "METE_FAILPOINT="+string(keysWritten)+"=kill")
	if out, err := child.CombinedOutput(); child.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child was not killed: %v\n%s", err, out)
	}
	s := openAt(t, path)
	if n, err := s.Counts(context.Background(), nil); err != nil || n.Keys != 8 {
		t.Errorf("after the kill: %+v, %v, want the 8 keys of before", n, err)
	}
	if _, err := s.RebuildKeys(context.Background(), func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	wantSound(t, s)
	meteringtest.Compare(t, s, m, metering.Span{})
}

// What is damaged is not copied: it is named, with what to do.
func TestRefillRefusesADamagedStore(t *testing.T) {
	ctx := context.Background()
	for statement, say := range map[string]string{
		`DELETE FROM events WHERE place = (SELECT min(place) FROM events)`:           "message 1 announces 20 events and has 19",
		`DELETE FROM messages WHERE sequence = 1 AND partition = 0`:                  "message 1 is not stored",
		`DELETE FROM keys WHERE event_key = (SELECT min(event_key) FROM duplicates)`: "repeats an event whose key",
	} {
		path, _ := soundFile(t)
		raw(t, path, statement)
		old, to := openAt(t, path), open(t)
		upTo, err := old.Cutoff(ctx)
		if err != nil {
			t.Fatal(err)
		}
		err = (&metering.Refill{Old: old, To: to, Name: "usage", Partitions: 3, UpTo: upTo}).Run(ctx)
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("after %s: %v, want %q", statement, err, say)
		}
	}
}

// A new store is in its file only once it is whole.
func TestNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new.db")
	ctx := context.Background()
	m := new(meteringtest.Model)
	for i, b := range blocks(meteringtest.NewFeed()) { // opened again and again, it goes on
		s, err := OpenNew(path)
		if err != nil {
			t.Fatal(err)
		}
		both(t, s, m, b)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("half filled, it is there: %v", err)
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
	left, err := filepath.Glob(path + "*")
	if err != nil || len(left) != 1 {
		t.Errorf("left are %q, %v", left, err)
	}
	if _, err := OpenNew(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v, want fs.ErrExist", err)
	}
	s := openAt(t, path)
	meteringtest.Compare(t, s, m, metering.Span{})
	wantSound(t, s)
}
