package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mete/metering"
	"mete/metering/clickhouse"
	"mete/metering/httpin"
	"mete/metering/jetstream"
	"mete/metering/sqlite"
)

// The load of benchVisible.
const (
	visibleRate  = 20_000 // events a second
	visibleFor   = 20 * time.Second
	visibleLong  = 3 * time.Minute
	visibleBatch = 500
	visibleLook  = 10 * time.Millisecond // between two questions
)

// benchVisible sends events at a steady rate over HTTP, and asks the store all the time
// up to where it answers: an event is visible when a question that began after it was
// sent has been answered and the answer covers it.
func benchVisible(ctx context.Context, long bool, emit func(Result)) error {
	span := visibleFor
	if long {
		span = visibleLong
	}
	dir, err := os.MkdirTemp("", "mete-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "sqlite")
	if err := os.Mkdir(file, 0o700); err != nil {
		return err
	}
	rows, err := sqlite.Open(filepath.Join(file, "events.db"))
	if err != nil {
		return err
	}
	defer rows.Close()
	if _, err := visible(ctx, file, "SQLite", rows, rows, rowBlock, 0, span, emit); err != nil {
		return fmt.Errorf("SQLite: %w", err)
	}
	e, err := startEngine()
	if err != nil {
		return err
	}
	defer e.Close()
	columns, err := clickhouse.Open(ctx, clickhouse.Options{DSN: e.DSN(e.database)})
	if err != nil {
		return err
	}
	defer columns.Close()
	took, err := visible(ctx, filepath.Join(dir, "clickhouse"), "ClickHouse", columns, columns, columnBlock, columnEvery, span, emit)
	if err != nil {
		return fmt.Errorf("ClickHouse: %w", err)
	}
	return parts(ctx, e, took, emit)
}

// parts says how often the engine had to make a part, which it must merge later.
func parts(ctx context.Context, e *engine, took time.Duration, emit func(Result)) error {
	a, err := e.ask(ctx, `
		SELECT table, sum(inserted), sum(active) FROM (
			SELECT table, partition_id, max(max_block_number) AS inserted, countIf(active) AS active
			  FROM system.parts WHERE database = currentDatabase() GROUP BY table, partition_id)
		 WHERE table IN ('events', 'keys', 'messages') GROUP BY table ORDER BY table`)
	if err != nil {
		return err
	}
	var sum, left float64
	var note []string
	for line := range strings.Lines(a.text) {
		var table string
		var n, active float64
		if _, err := fmt.Sscan(line, &table, &n, &active); err != nil {
			return fmt.Errorf("parts of a table, %q: %w", line, err)
		}
		sum, left = sum+n, left+active
		note = append(note, fmt.Sprintf("%s %.0f", table, n/took.Minutes()))
	}
	emit(Result{Name: "parts a minute, ClickHouse", Value: sum / took.Minutes(), Note: strings.Join(note, ", ") + fmt.Sprintf(" · %.0f unmerged at the end", left)})
	return nil
}

// place is a message of the stream.
type place struct {
	partition int
	sequence  uint64
}

func visible(ctx context.Context, dir, name string, store metering.Store, kept metering.Quarantine, perBlock int, gather, span time.Duration, emit func(Result)) (_ time.Duration, err error) {
	b, err := startBroker(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer b.close()
	if _, err := b.streams.Attach(ctx, store); err != nil {
		return 0, err
	}
	intake := &jetstream.Intake{Streams: b.streams}
	gate := &metering.Gate{Directory: loadDirectory, Intake: intake, Quarantine: kept}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	web := &http.Server{Handler: &httpin.Handler{Gate: gate, Owner: httpin.Tokens{"bench": httpin.HashToken("bench")}.Owner}, ReadHeaderTimeout: time.Minute}
	go web.Serve(l)
	defer web.Close()
	work, stop := context.WithCancel(ctx)
	defer stop()
	worker := &jetstream.Worker{Streams: b.streams, Store: store, BlockEvents: perBlock, Gather: gather}
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(work) }()
	defer func() { stop(); err = errors.Join(err, <-ended, intake.Close(ctx)) }()

	w := watching{sent: map[place][]time.Time{}, shown: make([]shown, 0, 1<<14)}
	looking, lookErr := make(chan struct{}), make(chan error, 1)
	go func() { lookErr <- w.look(ctx, store, looking) }()
	began := time.Now()
	ackErr := w.send(ctx, "http://"+l.Addr().String()+httpin.Path, span)
	took := time.Since(began)
	drainErr := worker.WaitDrained(ctx, nil)
	settled := time.Now()
	time.Sleep(5 * visibleLook) // one more look
	close(looking)
	if err := errors.Join(ackErr, drainErr, <-lookErr); err != nil {
		return 0, err
	}
	delays, err := w.delays()
	if err != nil {
		return 0, err
	}
	slices.Sort(w.acks)
	at := func(ds []time.Duration, part float64) float64 {
		return ms(ds[min(len(ds)-1, int(part*float64(len(ds))))])
	}
	note := fmt.Sprintf("%s events/s for %.0fs over HTTP in batches of %d, asked each %v · acknowledged: median %.0f ms, 99th %.0f ms",
		number(float64(len(delays))/took.Seconds()), took.Seconds(), visibleBatch, visibleLook, at(w.acks, 0.5), at(w.acks, 0.99))
	emit(Result{Name: "event to visible, " + name + ", median", Value: at(delays, 0.5), Unit: "ms", Note: note})
	emit(Result{Name: "event to visible, " + name + ", 99th percentile", Value: at(delays, 0.99), Unit: "ms",
		Note: fmt.Sprintf("longest %.0f ms · %.0f of 1,000 took over a second · %d batches were told to come later",
			at(delays, 1), 1000*float64(slow(delays))/float64(len(delays)), w.refused)})
	return settled.Sub(began), nil
}

func slow(sorted []time.Duration) int {
	i, _ := slices.BinarySearch(sorted, time.Second+1)
	return len(sorted) - i
}

// shown is up to where a question was answered, and when.
type shown struct {
	at     time.Time
	cutoff metering.Cutoff
}

// watching compares when events were sent with when they were shown.
type watching struct {
	mu    sync.Mutex
	sent  map[place][]time.Time // one for each event of the message
	acks  []time.Duration
	shown []shown

	refused int // batches, for a while
}

// look asks the store up to where it answers until done is closed.
func (w *watching) look(ctx context.Context, store metering.Store, done <-chan struct{}) error {
	for {
		select {
		case <-done:
			return nil
		case <-time.After(visibleLook):
		}
		c, err := store.Cutoff(ctx)
		if err != nil {
			return err
		}
		w.shown = append(w.shown, shown{time.Now(), c})
	}
}

// send posts batches at a steady rate, whether or not the ones before were answered:
// an event's time begins when it was due.
func (w *watching) send(ctx context.Context, url string, span time.Duration) error {
	every := time.Second * visibleBatch / visibleRate
	count := int(span / every)
	bodies := make([][]byte, count)
	for i := range bodies {
		bodies[i] = calls.body(i*visibleBatch, visibleBatch)
	}
	errs := make(chan error, count)
	var all sync.WaitGroup
	began := time.Now()
	for i, body := range bodies {
		due := began.Add(time.Duration(i) * every)
		select {
		case <-time.After(time.Until(due)):
		case err := <-errs:
			all.Wait()
			return err
		}
		all.Go(func() {
			answer, err := w.post(ctx, url, body)
			if err == nil {
				err = w.acknowledged(answer, due)
			}
			if err != nil {
				errs <- err
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// post sends a batch until it is taken: a sender that is told to slow down waits, while
// its events grow older.
func (w *watching) post(ctx context.Context, url string, body []byte) ([]byte, error) {
	for {
		answer, err := sendOne(ctx, url, body)
		if !errors.Is(err, errTooFast) {
			return answer, err
		}
		w.mu.Lock()
		w.refused++
		w.mu.Unlock()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// acknowledged notes where the events of an answer lie.
func (w *watching) acknowledged(answer []byte, due time.Time) error {
	ack := time.Since(due)
	var got []metering.Verdict
	if err := json.Unmarshal(answer, &got); err != nil {
		return fmt.Errorf("answer %.100s: %w", answer, err)
	}
	if len(got) != visibleBatch {
		return fmt.Errorf("%d verdicts about %d events: %.100s", len(got), visibleBatch, answer)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acks = append(w.acks, ack)
	for _, v := range got {
		partition, rest, _ := strings.Cut(v.Position, "-")
		sequence, _, _ := strings.Cut(rest, "-")
		p, err := strconv.Atoi(partition)
		if err != nil {
			return fmt.Errorf("position %q: %w", v.Position, err)
		}
		s, err := strconv.ParseUint(sequence, 10, 64)
		if err != nil {
			return fmt.Errorf("position %q: %w", v.Position, err)
		}
		at := place{p, s}
		w.sent[at] = append(w.sent[at], due)
	}
	return nil
}

// delays are those of all events, sorted.
func (w *watching) delays() ([]time.Duration, error) {
	var all []time.Duration
	for at, due := range w.sent {
		i, _ := slices.BinarySearchFunc(w.shown, at.sequence, func(s shown, sequence uint64) int {
			for _, c := range s.cutoff {
				if c.Partition == at.partition && c.Sequence >= sequence {
					return 1
				}
			}
			return -1
		})
		if i == len(w.shown) {
			return nil, fmt.Errorf("message %d of partition %d was never shown", at.sequence, at.partition)
		}
		for _, t := range due {
			all = append(all, w.shown[i].at.Sub(t))
		}
	}
	slices.Sort(all)
	return all, nil
}
