package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"mete/metering"
)

// endless is a log of n records, made as it is read; every fourth line repeats an
// earlier one.
type endless struct {
	n, line int
	rest    string
}

func (l *endless) Read(b []byte) (int, error) {
	for len(l.rest) == 0 {
		switch {
		case l.line == 0:
			l.rest = "id,source,time,app,amount,currency\n"
		case l.line > l.n:
			return 0, io.EOF
		default:
			id := l.line
			if id%4 == 0 {
				id = 1 + id/2
			}
			l.rest = fmt.Sprintf("inv-%d,billing,2026-09-15T10:00:00Z,northwind-scheduler,10.00,USD\n", id)
		}
		l.line++
	}
	n := copy(b, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// TestCompareInBoundedMemory compares a log that is longer than what may lie in memory.
func TestCompareInBoundedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("compares a long log")
	}
	t.Setenv("TMPDIR", t.TempDir())
	d := &desk{t: t, dir: filepath.Join(t.TempDir(), "data"), now: "2026-10-02T15:00:00Z"}
	d.want(exitOK, "apply", "-f", worldFolder(t), "--as", "k.lee")
	defer d.hold()()
	peak := func(n int) (uint64, *comparison) {
		claims, err := metering.Claims(&endless{n: n})
		if err != nil {
			t.Fatal(err)
		}
		var most uint64
		e := bare()
		c, err := d.held.compareEvents(t.Context(), e, claims, "endless", compareOptions{}, func(*progress) {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		})
		if err != nil {
			t.Fatal(err)
		}
		return most, c
	}
	runtime.GC()
	few, _ := peak(2_000)
	many, c := peak(60_000)
	if c.Records != 60_000 || c.Duplicates == 0 || c.Missing != 60_000-c.Duplicates || c.Why["never came"] != c.Missing {
		t.Errorf("%+v", c)
	}
	t.Logf("heap: %d KiB for 2,000 records, %d KiB for 60,000", few>>10, many>>10)
	if many > few+32<<20 {
		t.Errorf("heap grew from %d to %d bytes with the log", few, many)
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "mete-compare-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %s, %v", strings.Join(left, " "), err)
	}
}

func worldFolder(t *testing.T) string {
	t.Helper()
	world, err := filepath.Abs(filepath.Join("testdata", "world"))
	if err != nil {
		t.Fatal(err)
	}
	return world
}
