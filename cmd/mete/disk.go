package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mete/metering/jetstream"
)

// When a forecast is a warning and when it is an error, and what it rests on.
const (
	warnDays = 14 // until something is full: time to order a disk
	redDays  = 2  // until something is full: time to act

	diskName     = "disk.json"
	sampleEvery  = time.Hour
	knownFrom    = time.Hour           // growth is not told of less
	sampleWindow = 30 * 24 * time.Hour // older samples are let go
	maxSamples   = 2 * 30 * 24         // of a file that somebody else wrote
	lookEvery    = time.Minute         // the folder is not walked more often
)

// sample is how many bytes were used and free at one time.
type sample struct {
	At        time.Time `json:"at"`
	Folder    int64     `json:"folder"`    // of all files in the data folder
	Free      int64     `json:"free"`      // of its disk
	Partition int64     `json:"partition"` // of the fullest partition of the stream
}

// bytesPerDay is how fast a figure grows: the faster of its growth over all that is known
// and over the last day. Less than a day counts as one, so that an hour's import is not
// taken for a habit. It is not known before there is an hour to look at, and nothing
// where the figure shrinks. Samples are in order of time.
func bytesPerDay(samples []sample, of func(sample) int64) (perDay int64, known bool) {
	const day = 24 * time.Hour
	if len(samples) == 0 {
		return 0, false
	}
	first, last := samples[0], samples[len(samples)-1]
	since := func(s sample) int64 {
		days := max(last.At.Sub(s.At), day).Hours() / 24
		return int64(float64(of(last)-of(s)) / days)
	}
	yesterday := first
	for _, s := range samples {
		if last.At.Sub(s.At) >= day {
			yesterday = s
		}
	}
	return max(since(first), since(yesterday), 0), last.At.Sub(first.At) >= knownFrom
}

// forecast is when something will be full.
type forecast struct {
	What   string   `json:"what"`
	Used   int64    `json:"used_bytes"`
	Room   int64    `json:"room_bytes"`          // what it still takes
	PerDay int64    `json:"bytes_per_day"`       // 0 as long as it is not known
	Days   *float64 `json:"days_left,omitempty"` // absent: no end in sight
}

func forecastOf(what string, used, room, perDay int64, known bool) forecast {
	f := forecast{What: what, Used: used, Room: max(room, 0)}
	if known {
		f.PerDay = perDay
	}
	if f.Room == 0 {
		f.Days = new(float64)
	} else if f.PerDay > 0 {
		days := float64(f.Room) / float64(f.PerDay)
		f.Days = &days
	}
	return f
}

// within reports whether it is full in fewer days.
func (f forecast) within(days float64) bool { return f.Days != nil && *f.Days < days }

func (f forecast) String() string {
	text := fmt.Sprintf("%s: %s used, room for %s", f.What, bytesText(f.Used), bytesText(f.Room))
	switch {
	case f.Room == 0:
		return text + ": full"
	case f.Days != nil:
		return fmt.Sprintf("%s, grows %s a day: full in %.1f days", text, bytesText(f.PerDay), *f.Days)
	}
	return text
}

// diskUse is what lies on the disk, and when it will be full.
type diskUse struct {
	Stream int64      `json:"stream_bytes"` // of the stream's messages, wherever the brokers are
	Events int64      `json:"events_bytes"` // of events.db
	Books  int64      `json:"books_bytes"`  // of books.db
	Folder int64      `json:"folder_bytes"` // of the whole data folder
	Free   int64      `json:"free_bytes"`   // of its disk
	Since  time.Time  `json:"since"`        // growth is measured from then on
	Fills  []forecast `json:"fills"`        // what may be full
}

// red is what is full, or soon will be.
func (d diskUse) red() error {
	var all []error
	for _, f := range d.Fills {
		if f.within(redDays) {
			all = append(all, errors.New(f.String()))
		}
	}
	return errors.Join(all...)
}

// warning is what will be full before long.
func (d diskUse) warning() string {
	var all []string
	for _, f := range d.Fills {
		if f.within(warnDays) && !f.within(redDays) {
			all = append(all, f.String())
		}
	}
	return strings.Join(all, "; ")
}

func (d diskUse) writeText(w io.Writer) error {
	fmt.Fprintf(w, "  stream %s, events %s, books %s, data folder %s, free %s\n", bytesText(d.Stream), bytesText(d.Events), bytesText(d.Books), bytesText(d.Folder), bytesText(d.Free))
	for _, f := range d.Fills {
		if _, err := fmt.Fprintf(w, "  %s\n", f); err != nil {
			return err
		}
	}
	return nil
}

// bytesText is a number of bytes as people read it.
func bytesText(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// diskWatch measures a data folder.
type diskWatch struct {
	dir string

	mu      sync.Mutex
	samples []sample // kept in the folder, in order of time
	read    bool
	last    measured
}

// measured is one walk through the folder.
type measured struct {
	at                          time.Time
	folder, events, books, free int64
}

// look says what lies on the disk now, and when it will be full.
func (d *diskWatch) look(lags []jetstream.Lag, now time.Time) (diskUse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, err := d.measure(now)
	if err != nil {
		return diskUse{}, err
	}
	if err := d.load(now); err != nil {
		return diskUse{}, err
	}
	u := diskUse{Events: m.events, Books: m.books, Folder: m.folder, Free: m.free}
	fullest := fullest(lags)
	for _, l := range lags {
		u.Stream += int64(l.Bytes)
	}
	samples := append(slices.Clone(d.samples), sample{now.UTC(), m.folder, m.free, int64(fullest.Bytes)})
	u.Since = samples[0].At
	ours, known := bytesPerDay(samples, func(s sample) int64 { return s.Folder })
	all, _ := bytesPerDay(samples, func(s sample) int64 { return -s.Free }) // others fill it, too
	u.Fills = append(u.Fills, forecastOf("disk", m.folder, m.free, max(ours, all), known))
	if fullest.MaxBytes > 0 {
		grows, known := bytesPerDay(samples, func(s sample) int64 { return s.Partition })
		u.Fills = append(u.Fills, forecastOf(fmt.Sprintf("partition %d of the stream", fullest.Partition), int64(fullest.Bytes), fullest.MaxBytes-int64(fullest.Bytes), grows, known))
	}
	return u, nil
}

// fullest is the partition that is full first: they grow alike.
func fullest(lags []jetstream.Lag) (most jetstream.Lag) {
	for i, l := range lags {
		if i == 0 || l.MaxBytes-int64(l.Bytes) < most.MaxBytes-int64(most.Bytes) {
			most = l
		}
	}
	return most
}

// measure walks through the folder, unless it has just done so.
func (d *diskWatch) measure(now time.Time) (measured, error) {
	if age := now.Sub(d.last.at); age >= 0 && age < lookEvery {
		return d.last, nil
	}
	m := measured{at: now}
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &s); err != nil {
		return m, fmt.Errorf("free disk of %s: %w", d.dir, err)
	}
	m.free = int64(s.Bavail) * int64(s.Bsize)
	err := filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // files come and go
		}
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		m.folder += info.Size()
		switch e.Name() {
		case eventsName, eventsName + "-wal", eventsName + "-shm":
			m.events += info.Size()
		case booksName, booksName + "-wal", booksName + "-shm":
			m.books += info.Size()
		}
		return nil
	})
	if err != nil {
		return m, fmt.Errorf("size of %s: %w", d.dir, err)
	}
	d.last = m
	return m, nil
}

// load reads the samples once, and lets go of those that are too old, or of a time to
// come. A file that cannot be read is begun anew: it is a convenience.
func (d *diskWatch) load(now time.Time) error {
	if !d.read {
		b, err := os.ReadFile(filepath.Join(d.dir, diskName))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			if err := json.Unmarshal(b, &d.samples); err != nil {
				slog.Warn("the forecast of the disk begins anew", "file", diskName, "error", err)
				d.samples = nil
			}
		}
		slices.SortFunc(d.samples, func(a, b sample) int { return a.At.Compare(b.At) })
		d.samples = d.samples[max(0, len(d.samples)-maxSamples):]
		d.read = true
	}
	d.samples = slices.DeleteFunc(d.samples, func(s sample) bool { return s.At.After(now) || now.Sub(s.At) > sampleWindow })
	return nil
}

// keep remembers how it is now, if the last time is long enough ago.
func (d *diskWatch) keep(lags []jetstream.Lag, now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, err := d.measure(now)
	if err == nil {
		err = d.load(now)
	}
	if err != nil {
		return err
	}
	if n := len(d.samples); n > 0 && now.Sub(d.samples[n-1].At) < sampleEvery {
		return nil
	}
	d.samples = append(d.samples, sample{now.UTC(), m.folder, m.free, int64(fullest(lags).Bytes)})
	b, err := json.Marshal(d.samples)
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(d.dir, diskName), b, 0o600)
}

// keepDisk remembers what lies on the disk, for the forecast.
func (a *app) keepDisk(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		h, err := a.worker.Health(ctx)
		if err == nil {
			err = a.disk.keep(h.Partitions, time.Now())
		}
		if err != nil && ctx.Err() == nil {
			slog.Warn("the disk is not measured", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
