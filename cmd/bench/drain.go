package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"mete/metering"
	"mete/metering/clickhouse"
	"mete/metering/jetstream"
	"mete/metering/sqlite"
)

// The load of draining, and the worker's settings for each kind of store, which are
// those of mete itself.
const (
	drainEvents = 400_000
	drainKeys   = 10_000_000 // stored before

	rowBlock    = 5_000  // events of a block for SQLite
	columnBlock = 20_000 // for ClickHouse
	columnEvery = 300 * time.Millisecond

	drainMessage = 290 // events of a message, about
)

// draining measures how fast a backlog that waits in the stream gets into each store,
// and what each stage takes alone on one core. The limit is all stages one after the
// other; the worker has the next block read and decoded while one is stored, so on two
// cores it may be exceeded.
func draining(ctx context.Context, dir string, emit func(Result)) error {
	before, err := stagesBefore(ctx, filepath.Join(dir, "stages"))
	if err != nil {
		return err
	}
	for _, keys := range []int{0, drainKeys} {
		if err := drainSQLite(ctx, filepath.Join(dir, fmt.Sprintf("sqlite-%d", keys)), keys, before, emit); err != nil {
			return fmt.Errorf("SQLite, %d keys: %w", keys, err)
		}
	}
	for _, keys := range []int{0, drainKeys} {
		if err := drainClickHouse(ctx, filepath.Join(dir, fmt.Sprintf("clickhouse-%d", keys)), keys, before, emit); err != nil {
			return fmt.Errorf("ClickHouse, %d keys: %w", keys, err)
		}
	}
	return nil
}

// stage is what one step takes for each event, alone.
type stage struct {
	name string
	each time.Duration // of drainEvents events
}

func (s stage) perSecond() float64 { return drainEvents / s.each.Seconds() }

// limitOf is what the stages allow if they follow each other on one core.
func limitOf(stages []stage) Limit {
	var sum time.Duration
	for _, s := range stages {
		sum += s.each
	}
	return Limit{"its stages on one core", stage{each: sum}.perSecond()}
}

func describeStages(stages []stage) string {
	var b strings.Builder
	for i, s := range stages {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s", s.name, number(s.perSecond()))
	}
	return b.String() + " /s"
}

// alone times fn on one core of this process.
func alone(fn func() error) (time.Duration, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	runtime.GC()
	began := time.Now()
	err := fn()
	return time.Since(began), err
}

// stagesBefore are those before any store.
func stagesBefore(ctx context.Context, dir string) ([]stage, error) {
	b, err := startBroker(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer b.close()
	if _, err := b.publish(ctx, 0, drainEvents); err != nil {
		return nil, err
	}
	last, err := b.streams.Last(ctx, 1)
	if err != nil {
		return nil, err
	}
	consume, err := alone(func() error {
		_, _, err := b.streams.Totals(ctx, last)
		return err
	})
	if err != nil {
		return nil, err
	}
	var lines [][]byte
	for n := range drainEvents {
		lines = append(lines, metering.AppendCanonical(nil, calls.event(n)))
	}
	events := make([]metering.Event, 0, columnBlock)
	decode, err := alone(func() error {
		var d metering.CanonicalDecoder
		for i, line := range lines {
			if i%columnBlock == 0 {
				events = events[:0]
			}
			e, err := d.Decode(line)
			if err != nil {
				return err
			}
			events = append(events, e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	events = calls.events(0, drainEvents)
	identify, err := alone(func() error {
		h := sha256.New()
		for i := range events {
			h.Write(lines[i])
			if i%drainMessage == drainMessage-1 {
				h.Sum(nil)
				h.Reset()
			}
			if events[i].Key() == (metering.Key{}) || metering.ContentHash(events[i]) == (metering.Hash{}) {
				return errors.New("an event without identity")
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	made := blocks(events, make([]uint64, b.streams.Partitions()), drainMessage, columnBlock)
	check, err := alone(func() error {
		for i := range made {
			if err := made[i].Validate(); err != nil {
				return err
			}
		}
		return nil
	})
	return []stage{{"consume", consume}, {"decode", decode}, {"identify", identify}, {"check", check}}, err
}

// drained is what a drain took.
type drained struct {
	took time.Duration
	busy float64 // cores of this process, on average
}

// counted tells when so many events were stored, without asking the store.
type counted struct {
	metering.Store
	left atomic.Int64
	none chan struct{} // closed when none is left
}

func (c *counted) Append(ctx context.Context, b metering.Block) (metering.Outcome, error) {
	got, err := c.Store.Append(ctx, b)
	if n := int64(got.Stored + got.Duplicate + got.Conflict); err == nil && n > 0 && c.left.Add(-n) == 0 {
		close(c.none)
	}
	return got, err
}

// drain stores the events that wait in the stream.
func drain(ctx context.Context, b *broker, store metering.Store, events, perBlock int, gather time.Duration) (drained, error) {
	work, stop := context.WithCancel(ctx)
	defer stop()
	c := &counted{Store: store, none: make(chan struct{})}
	c.left.Store(int64(events))
	w := &jetstream.Worker{Streams: b.streams, Store: c, BlockEvents: perBlock, Gather: gather}
	runtime.GC()
	used, began := processTime(), time.Now()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(work) }()
	select {
	case <-c.none:
	case err := <-ended:
		return drained{}, errors.Join(err, ctx.Err(), fmt.Errorf("the worker ended with %d events to come", c.left.Load()))
	}
	d := drained{took: time.Since(began)}
	d.busy = float64(processTime()-used) / float64(d.took)
	stop()
	return d, <-ended
}

// processTime is how long this process has had a core.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// holds checks that a store has what was sent.
func holds(ctx context.Context, store metering.Store, more int) error {
	n, err := store.Counts(ctx, nil)
	if err == nil && (n.Stored != int64(more) || n.Announced != int64(more)) {
		err = fmt.Errorf("the store has %d events of %d announced, %d were sent", n.Stored, n.Announced, more)
	}
	return err
}

func keysBefore(keys int) string {
	if keys == 0 {
		return "no keys before"
	}
	return number(float64(keys)/1e6) + " million keys before"
}

func drainSQLite(ctx context.Context, dir string, keys int, before []stage, emit func(Result)) (err error) {
	b, err := startBroker(ctx, dir)
	if err != nil {
		return err
	}
	defer b.close()
	if _, err := b.publish(ctx, 0, drainEvents); err != nil {
		return err
	}
	file, bare := filepath.Join(dir, "events.db"), filepath.Join(dir, "bare.db")
	if err := manyKeys(ctx, file, keys); err != nil {
		return err
	}
	if err := copyFile(bare, file); err != nil {
		return err
	}
	store, err := sqlite.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	d, err := drain(ctx, b, store, drainEvents, rowBlock, 0)
	if err != nil {
		return err
	}
	if keys == 0 {
		if err := holds(ctx, store, drainEvents); err != nil {
			return err
		}
	}
	rows, err := readRows(ctx, file)
	if err != nil {
		return err
	}
	look, insert, err := rows.alone(ctx, bare)
	if err != nil {
		return err
	}
	stages := append(slices.Clone(before), stage{"key look-up", look}, stage{"INSERT of the same rows", insert})
	emit(Result{Name: "events, backlog to SQLite, " + keysBefore(keys), Value: drainEvents / d.took.Seconds(), Unit: "/s", Limit: limitOf(stages),
		Note: fmt.Sprintf("blocks of %s · %.1f of %d cores busy · alone: %s", number(rowBlock), d.busy, runtime.NumCPU(), describeStages(stages))})
	if keys > 0 {
		return nil
	}
	return sizesOfSQLite(ctx, file, emit)
}

// connect opens a file as the store's writer does.
func connect(file string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Path: file, RawQuery: url.Values{"_pragma": {"busy_timeout(10000)", "page_size(8192)", "journal_mode(WAL)",
		"foreign_keys(1)", "synchronous(FULL)", "cache_size(-16384)", "wal_autocheckpoint(8000)"}}.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

// manyKeys makes a store that knows so many keys of nothing else, sorted as they lie.
func manyKeys(ctx context.Context, file string, keys int) (err error) {
	s, err := sqlite.Open(file)
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil || keys == 0 {
		return err
	}
	db, err := connect(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	const piece = 1_000_000
	for from := 0; from < keys; from += piece {
		if _, err := db.ExecContext(ctx, `
			WITH RECURSIVE i (n) AS (VALUES ($1) UNION ALL SELECT n + 1 FROM i WHERE n + 1 < $2)
			INSERT INTO keys (event_key, place) SELECT unhex(printf('%016x%016x', n * $3 * 2 + (n * 2654435761) % 1000000, n * 2654435761)), -1 - n FROM i`,
			from, min(keys, from+piece), int64(1<<62)/int64(keys)); err != nil {
			return fmt.Errorf("fill with keys: %w", err)
		}
	}
	_, err = db.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`)
	return err
}

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Sync()
}

// rows are those that a store wrote, ready to be written again with nothing to think
// about: the most that any program can do through this driver.
type rows struct {
	events, messages [][]any // in the order of storing
	tables           map[string][][]any
}

const (
	bareEvents   = `place, event_key, content_hash, cell, source, event_id, occurred_us, accepted_us, time_absent, slow, latency_ms, bytes, quantity_whole, quantity_nano`
	bareMessages = `id, incarnation, partition, sequence, accepted_us, announced, stored, duplicate, conflict, undecoded, digest`
	barePlace    = 20 // bits of an event's place below its message
)

func readRows(ctx context.Context, file string) (r rows, err error) {
	db, err := connect(file)
	if err != nil {
		return rows{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	read := func(query string) [][]any {
		got, e := queryAll(ctx, db, query)
		err = errors.Join(err, e)
		return got
	}
	r.events = read(`SELECT ` + bareEvents + ` FROM events ORDER BY place`)
	r.messages = read(`SELECT ` + bareMessages + ` FROM messages ORDER BY id`)
	r.tables = map[string][][]any{"streams": nil, "cells": nil, "sources": nil}
	for name := range r.tables {
		r.tables[name] = read(`SELECT * FROM ` + name)
	}
	if err == nil && len(r.events) != drainEvents {
		err = fmt.Errorf("%s holds %d events of %d", file, len(r.events), drainEvents)
	}
	return r, err
}

func queryAll(ctx context.Context, db *sql.DB, query string) (all [][]any, err error) {
	got, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer got.Close()
	names, err := got.Columns()
	if err != nil {
		return nil, err
	}
	for got.Next() {
		row, into := make([]any, len(names)), make([]any, len(names))
		for i := range row {
			into[i] = &row[i]
		}
		if err := got.Scan(into...); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, got.Err()
}

// alone looks up the keys of all rows, and writes them all, block by block, as the
// store does and with its statements, but with nothing around them.
func (r *rows) alone(ctx context.Context, file string) (look, insert time.Duration, err error) {
	db, err := connect(file)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for name, all := range r.tables {
		for _, row := range all {
			if _, err := db.ExecContext(ctx, `INSERT INTO `+name+` VALUES (?`+strings.Repeat(", ?", len(row)-1)+`)`, row...); err != nil {
				return 0, 0, err
			}
		}
	}
	if look, err = alone(func() error { return r.look(ctx, db) }); err != nil {
		return 0, 0, fmt.Errorf("look up keys: %w", err)
	}
	if insert, err = alone(func() error { return r.insert(ctx, db) }); err != nil {
		return 0, 0, fmt.Errorf("insert rows: %w", err)
	}
	return look, insert, nil
}

// many is how many keys or rows one statement takes.
const many = 64

func (r *rows) look(ctx context.Context, db *sql.DB) error {
	st, err := db.PrepareContext(ctx, `SELECT event_key, place FROM keys WHERE event_key IN (?`+strings.Repeat(",?", many-1)+`)`)
	if err != nil {
		return err
	}
	defer st.Close()
	for block := range slices.Chunk(r.events, rowBlock) {
		keys := make([]any, len(block))
		for i, row := range block {
			keys[i] = row[1]
		}
		slices.SortFunc(keys, func(a, b any) int { return slices.Compare(a.([]byte), b.([]byte)) })
		for chunk := range slices.Chunk(keys, many) {
			for len(chunk) < many {
				chunk = append(chunk[:len(chunk):len(chunk)], chunk[0])
			}
			got, err := st.QueryContext(ctx, chunk...)
			if err != nil {
				return err
			}
			for got.Next() {
				return errors.New("a new key is stored")
			}
			if err := errors.Join(got.Err(), got.Close()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *rows) insert(ctx context.Context, db *sql.DB) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	in := inserting{conn: conn, prepared: map[string]*sql.Stmt{}}
	defer func() { err = errors.Join(err, in.close()) }()
	recent, left := 0, r.messages
	for block := range slices.Chunk(r.events, rowBlock) {
		last := block[len(block)-1][0].(int64) >> barePlace
		n := slices.IndexFunc(left, func(m []any) bool { return m[0].(int64) > last })
		if n < 0 {
			n = len(left)
		}
		keys := make([][]any, len(block))
		for i, row := range block {
			keys[i] = row[:2]
		}
		for _, step := range []func() error{
			func() error { return in.exec(ctx, `BEGIN IMMEDIATE`) },
			func() error { return in.rows(ctx, "messages", bareMessages, left[:n], 1) },
			func() error { return in.rows(ctx, "events", bareEvents, block, many) },
			func() error { return in.rows(ctx, "keys_recent", "place, event_key", keys, many) },
			func() error {
				if recent += len(block); recent < 1<<17 {
					return nil
				}
				recent = 0 // as the store moves them
				return errors.Join(in.exec(ctx, `INSERT INTO keys (event_key, place) SELECT event_key, place FROM keys_recent ORDER BY event_key`),
					in.exec(ctx, `DELETE FROM keys_recent`))
			},
			func() error { return in.exec(ctx, `COMMIT`) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		left = left[n:]
	}
	return nil
}

// inserting is a connection with its statements.
type inserting struct {
	conn     *sql.Conn
	prepared map[string]*sql.Stmt
}

func (in *inserting) exec(ctx context.Context, query string, args ...any) error {
	st := in.prepared[query]
	if st == nil {
		var err error
		if st, err = in.conn.PrepareContext(ctx, query); err != nil {
			return err
		}
		in.prepared[query] = st
	}
	_, err := st.ExecContext(ctx, args...)
	return err
}

// rows inserts so many rows with one statement.
func (in *inserting) rows(ctx context.Context, table, columns string, all [][]any, size int) error {
	row := "(?" + strings.Repeat(", ?", strings.Count(columns, ",")) + ")"
	var args []any
	for chunk := range slices.Chunk(all, size) {
		args = args[:0]
		for _, r := range chunk {
			args = append(args, r...)
		}
		if err := in.exec(ctx, `INSERT INTO `+table+` (`+columns+`) VALUES `+row+strings.Repeat(", "+row, len(chunk)-1), args...); err != nil {
			return err
		}
	}
	return nil
}

func (in *inserting) close() error {
	var errs []error
	for _, st := range in.prepared {
		errs = append(errs, st.Close())
	}
	return errors.Join(append(errs, in.conn.Close())...)
}

// sizesOfSQLite says where the bytes of an event lie, indexes with their tables.
func sizesOfSQLite(ctx context.Context, file string, emit func(Result)) (err error) {
	db, err := connect(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	all, err := queryAll(ctx, db, `
		SELECT t.tbl_name, sum(s.pgsize) FROM dbstat s JOIN sqlite_schema t ON t.name = s.name GROUP BY t.tbl_name ORDER BY 2 DESC`)
	if err != nil {
		return err
	}
	sizes := make([]tableSize, len(all))
	for i, row := range all {
		sizes[i] = tableSize{row[0].(string), float64(row[1].(int64))}
	}
	showSizes("SQLite", "", sizes, emit)
	return nil
}

type tableSize struct {
	table string
	bytes float64
}

func showSizes(store, note string, sizes []tableSize, emit func(Result)) {
	var sum float64
	var b strings.Builder
	for _, s := range sizes {
		sum += s.bytes
		if each := s.bytes / drainEvents; each >= 0.05 {
			fmt.Fprintf(&b, "%s %.1f, ", s.table, each)
		}
	}
	emit(Result{Name: "disk of an event, " + store, Value: sum / drainEvents, Unit: "B", Note: strings.TrimSuffix(b.String(), ", ") + note})
}

func drainClickHouse(ctx context.Context, dir string, keys int, before []stage, emit func(Result)) (err error) {
	e, err := startEngine()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	t, err := startTap(e, func(*passed) bool { return true })
	if err != nil {
		return err
	}
	defer t.close()
	b, err := startBroker(ctx, dir)
	if err != nil {
		return err
	}
	defer b.close()
	sent := 0
	if keys > 0 {
		if err := knowing(ctx, e, b, keys, &sent); err != nil {
			return err
		}
	}
	store, err := clickhouse.Open(ctx, clickhouse.Options{DSN: t.dsn()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if keys > 0 { // the first block of each partition makes the filter
		if err := few(ctx, b, store, &sent); err != nil {
			return err
		}
	}
	if _, err := b.publish(ctx, sent, drainEvents); err != nil {
		return err
	}
	if err := e.settle(ctx); err != nil {
		return err
	}
	t.taken()
	used, err := cpuOf(e.Pid())
	if err != nil {
		return err
	}
	d, err := drain(ctx, b, store, drainEvents, columnBlock, columnEvery)
	if err != nil {
		return err
	}
	busy, err := cpuOf(e.Pid())
	if err != nil {
		return err
	}
	requests := t.taken()
	if keys == 0 {
		if err := holds(ctx, store, drainEvents); err != nil {
			return err
		}
	}
	insert, ask, rest, parts, err := again(ctx, e, requests)
	if err != nil {
		return err
	}
	filter, err := filterPrice(keys)
	if err != nil {
		return err
	}
	stages := append(slices.Clone(before), stage{"key filter", time.Duration(filter * drainEvents * float64(time.Microsecond))})
	if ask > 0 {
		stages = append(stages, stage{"key table", ask})
	}
	stages = append(stages, stage{"INSERT of the same bytes", insert})
	emit(Result{Name: "events, backlog to ClickHouse, " + keysBefore(keys), Value: drainEvents / d.took.Seconds(), Unit: "/s", Limit: limitOf(stages),
		Note: fmt.Sprintf("blocks of %s · %.1f of %d cores busy here, %.1f in the engine · alone: %s · besides: questions about positions %s /s · %d INSERTs",
			number(columnBlock), d.busy, runtime.NumCPU(), float64(busy-used)/float64(d.took), describeStages(stages), number(stage{each: rest}.perSecond()), parts)})
	if keys > 0 {
		return nil
	}
	if err := e.settle(ctx); err != nil {
		return err
	}
	return sizesOfClickHouse(ctx, e, emit)
}

// few sends some events through, so that each partition has a message more.
func few(ctx context.Context, b *broker, store metering.Store, sent *int) error {
	const some = 200
	if _, err := b.publish(ctx, *sent, some); err != nil {
		return err
	}
	*sent += some
	_, err := drain(ctx, b, store, some, columnBlock, 0)
	return err
}

// unlike is the number of the first event that is never sent.
const unlike = 1_000_000_000

// knowing makes the store know so many keys of other events, as if the first message of
// each partition had brought them.
func knowing(ctx context.Context, e *engine, b *broker, keys int, sent *int) (err error) {
	store, err := clickhouse.Open(ctx, clickhouse.Options{DSN: e.DSN(e.database)})
	if err != nil {
		return err
	}
	if err := errors.Join(few(ctx, b, store, sent), store.Close()); err != nil {
		return err
	}
	epochs, err := e.ask(ctx, `SELECT arrayStringConcat(arrayMap(x -> toString(x.2), arraySort(groupArray((partition, epoch)))), ', ') FROM (SELECT partition, max(epoch) AS epoch FROM epochs GROUP BY partition)`)
	if err != nil {
		return err
	}
	const piece = 1_000_000
	for from := 0; from < keys; from += piece {
		rows := calls.rows(from, min(piece, keys-from), fmt.Sprintf("i + %d", unlike),
			fmt.Sprintf("[%s][1 + %s]", epochs.text, partitionOf(b.streams.Partitions())), "1", "i")
		if err := e.do(ctx,
			`INSERT INTO events (`+eventNames+`) SELECT `+eventNames+` FROM (`+rows+`)`,
			`INSERT INTO keys (`+keyNames+`) SELECT `+keyNames+` FROM (`+rows+`)`,
		); err != nil {
			return err
		}
	}
	return nil
}

// again sends what the store sent once more, one after the other: its INSERTs into empty
// tables, its questions where it asked them.
func again(ctx context.Context, e *engine, all []passed) (insert, ask, rest time.Duration, inserts int, err error) {
	empty, err := engineOf(e.Engine)
	if err != nil {
		return 0, 0, 0, 0, err
	}
	store, err := clickhouse.Open(ctx, clickhouse.Options{DSN: empty.DSN(empty.database)})
	if err != nil {
		return 0, 0, 0, 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for _, p := range all {
		to, sum := e, &rest
		switch {
		case p.insert():
			to, sum = empty, &insert
			inserts++
		case p.asks("keys"):
			sum = &ask
		}
		took, err := p.again(ctx, to)
		if err != nil {
			return 0, 0, 0, 0, err
		}
		*sum += took
	}
	return insert, ask, rest, inserts, nil
}

func sizesOfClickHouse(ctx context.Context, e *engine, emit func(Result)) error {
	a, err := e.ask(ctx, `SELECT table, sum(bytes_on_disk) FROM system.parts WHERE database = currentDatabase() AND active GROUP BY table ORDER BY 2 DESC`)
	if err != nil {
		return err
	}
	var sizes []tableSize
	for line := range strings.Lines(a.text) {
		var s tableSize
		if _, err := fmt.Sscan(line, &s.table, &s.bytes); err != nil {
			return fmt.Errorf("size of a table, %q: %w", line, err)
		}
		sizes = append(sizes, s)
	}
	showSizes("ClickHouse", " · merged as far as the engine wished", sizes, emit)
	return nil
}
