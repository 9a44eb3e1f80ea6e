package main

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mete/metering/jetstream"
)

func TestBytesPerDay(t *testing.T) {
	const day = 24 * time.Hour
	begin := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	at := func(after time.Duration, bytes int64) sample { return sample{At: begin.Add(after), Folder: bytes} }
	for _, c := range []struct {
		name    string
		samples []sample
		want    int64
		known   bool
	}{
		{"nothing", nil, 0, false},
		{"one look", []sample{at(0, 100)}, 0, false},
		{"minutes", []sample{at(0, 100), at(30*time.Minute, 200)}, 100, false},
		{"an hour counts as a day", []sample{at(0, 100), at(time.Hour, 340)}, 240, true},
		{"a day", []sample{at(0, 100), at(day, 340)}, 240, true},
		{"ten days, evenly", []sample{at(0, 0), at(5*day, 500), at(9*day, 900), at(10*day, 1000)}, 100, true},
		{"slower now", []sample{at(0, 0), at(9*day, 1000), at(10*day, 1000)}, 100, true},
		{"faster now", []sample{at(0, 0), at(9*day, 90), at(10*day, 590)}, 500, true},
		{"faster since half a day", []sample{at(0, 0), at(day, 10), at(36*time.Hour, 20), at(2*day, 120)}, 110, true},
		{"shrinks", []sample{at(0, 500), at(5*day, 100)}, 0, true},
		{"shrank, and grows again", []sample{at(0, 500), at(4*day, 100), at(5*day, 150)}, 50, true},
	} {
		got, known := bytesPerDay(c.samples, func(s sample) int64 { return s.Folder })
		if got != c.want || known != c.known {
			t.Errorf("%s: %d a day, known %v; want %d, %v", c.name, got, known, c.want, c.known)
		}
	}
}

func TestForecast(t *testing.T) {
	for _, c := range []struct {
		name              string
		used, room, grows int64
		known             bool
		days              float64 // -1: no end in sight
		state             string
	}{
		{"far", 100, 3000, 10, true, 300, ""},
		{"at the bound", 100, 140, 10, true, 14, ""},
		{"before long", 100, 139, 10, true, 13.9, "warning"},
		{"at the other bound", 100, 20, 10, true, 2, "warning"},
		{"now", 100, 19, 10, true, 1.9, "red"},
		{"full", 100, 0, 0, true, 0, "red"},
		{"full, growth unknown", 100, 0, 0, false, 0, "red"},
		{"beyond full", 100, -5, 0, true, 0, "red"},
		{"stands still", 100, 1, 0, true, -1, ""},
		{"growth unknown", 100, 5, 10, false, -1, ""},
	} {
		f := forecastOf("disk", c.used, c.room, c.grows, c.known)
		days := -1.0
		if f.Days != nil {
			days = *f.Days
		}
		if math.Abs(days-c.days) > 1e-9 {
			t.Errorf("%s: full in %v days, want %v", c.name, days, c.days)
		}
		d := diskUse{Fills: []forecast{forecastOf("other", 1, 1, 0, true), f}}
		state := ""
		if d.warning() != "" {
			state = "warning"
		}
		if err := d.red(); err != nil {
			state += "red"
			if !strings.Contains(err.Error(), "disk: 100 bytes used") {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if state != c.state {
			t.Errorf("%s: %q, want %q", c.name, state, c.state)
		}
	}
	for n, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 1024: "1.0 KiB", 3 << 29: "1.5 GiB", 5 << 40: "5.0 TiB", 5 << 50: "5120.0 TiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// TestDisk measures a real folder: what lies in it is found, growth is remembered over a
// restart, and a partition that fills warns, then is red.
func TestDisk(t *testing.T) {
	d := &desk{t: t, dir: t.TempDir(), now: "2026-10-02T15:00:00Z"}
	d.want(exitOK, "apply", "-f", folder(t, map[string]string{"all.yaml": crashCatalogue}), "--as", "k.lee")
	d.inside(func(ctx context.Context, a *app) {
		h := a.health(ctx)
		u := h.Disk
		if u == nil || !h.OK || u.Events == 0 || u.Books == 0 || u.Folder < u.Events+u.Books || u.Free == 0 || len(u.Fills) != 2 || len(h.Warnings) > 0 {
			t.Errorf("health %+v, disk %+v", h, u)
		}
	})
	if a := d.want(exitOK, "status"); !strings.Contains(a.out, "data folder") || !strings.Contains(a.out, "of the stream: ") {
		t.Errorf("status says %s", a.out)
	}

	dir := t.TempDir()
	write := func(name string, size int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(booksName, 1000)
	write(eventsName+"-wal", 500)
	now := time.Now()
	fill := func(used uint64) []jetstream.Lag {
		return []jetstream.Lag{{Partition: 0, Bytes: 10, MaxBytes: 1 << 20}, {Partition: 1, Bytes: used, MaxBytes: 1 << 20}}
	}
	w := &diskWatch{dir: dir}
	if err := w.keep(fill(100_000), now); err != nil {
		t.Fatal(err)
	}
	write("other", 7000)
	w = &diskWatch{dir: dir} // started again
	u, err := w.look(fill(200_000), now.Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if u.Books != 1000 || u.Events != 500 || u.Folder < 8500 || u.Stream != 200_010 || !u.Since.Equal(now.UTC()) {
		t.Errorf("found %+v", u)
	}
	p := u.Fills[1]
	if p.What != "partition 1 of the stream" || p.PerDay != 100_000 || p.Days == nil || u.warning() == "" || u.red() != nil {
		t.Errorf("a partition that is full in 8 days: %+v, warning %q, %v", p, u.warning(), u.red())
	}
	if u, err = w.look(fill(900_000), now.Add(48*time.Hour)); err != nil || u.red() == nil || !strings.Contains(u.red().Error(), "partition 1 of the stream") {
		t.Errorf("a partition that is full tomorrow: %+v, %v", u, err)
	}
	if disk := u.Fills[0]; disk.What != "disk" || disk.Used < 8500 {
		t.Errorf("the disk: %+v", disk)
	}
	for i := range 24 * 31 {
		at := now.Add(72*time.Hour + time.Duration(i)*time.Hour)
		for range 2 { // asked twice, kept once
			if err := w.keep(fill(100_000), at); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(w.samples); n < 24*29 || n > 24*30+1 {
		t.Errorf("%d samples are kept", n)
	}
	write(diskName, 3) // damaged
	w = &diskWatch{dir: dir}
	if u, err := w.look(fill(1), now); err != nil || u.Fills[1].PerDay != 0 {
		t.Errorf("with a damaged file: %+v, %v", u, err)
	}
	if _, err := (&diskWatch{dir: filepath.Join(dir, "none")}).look(nil, now); err == nil {
		t.Error("a folder that is not there was measured")
	}
}
