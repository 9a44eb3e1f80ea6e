// Package clickhouse keeps accepted events in ClickHouse, a server or a cluster: the
// driver of [metering.Store], [metering.Quarantine] and what belongs to them, for many
// machines.
//
// ClickHouse has no transactions, an INSERT whose answer is lost may land at any later
// time, and who holds a lease may still have a query under way when it is gone. The
// package waits for none of that. Whoever fills a partition does so under an epoch, a
// number never used before, which every row carries; a block counts from the moment
// its rows of table messages are there, which are inserted last; and every question
// first reads the chain of epochs, which says up to which sequence the rows of each
// epoch count. What lies beyond, whenever it landed, was never seen by anybody and
// never will be. What the stream says up to a position is the same whoever stores it,
// so it does not matter whose rows count, only that they count once.
//
// The package refuses to know where events come from and what they are worth. Read
// [chain] first, then [Store.Append] and migrations/clickhouse/0001_events.sql.
package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"mete/metering"
)

// Options say where the store is and how it is filled.
type Options struct {
	DSN     string // as clickhouse.ParseDSN reads it: clickhouse:// (native) or http://, with TLS by its parameters
	Cluster string // name of the cluster; empty for a server
	Owner   string // who fills, for people; empty: host and process
	MaxRows int    // of one INSERT; 0 = 100,000
	Tries   int    // of one block; 0 = 5, some two seconds

	// FilterBytes is how much memory may tell strange keys from stored ones, two bytes a
	// key, over all partitions; 0 = 1 GiB. Of older keys the table is asked.
	FilterBytes int64

	// New says that the store is filled anew: its database is empty, or was begun so and
	// not finished. Until [Store.Rebuilt] nobody opens it without.
	New bool
}

// Defaults of [Options], and bounds.
const (
	DefaultMaxRows = 100_000
	DefaultTries   = 5

	DefaultFilterBytes = 1 << 30

	maxConns     = 48               // at the same time; an iterator holds one until it ends
	maxQuerySize = 8 << 20          // bytes of one query's text
	spillAt      = 2 << 30          // bytes of a query's memory, what is sorted or grouped beyond goes to disk
	openWithin   = 5 * time.Minute  // making the tables of a cluster takes its time
	quorumWithin = 60 * time.Second // for all replicas to take an INSERT
)

// Store is a metering store in one database of ClickHouse. Several may be open on the
// same database; each partition is filled by the holder of its latest lease.
type Store struct {
	options   Options
	conn      driver.Conn
	keepEvery uint64 // keys, see keepEvery
	replicas  int    // that an INSERT waits for; 0: no cluster

	goneWithin time.Duration // see goneWithin; 0: replaced parts are not waited for

	mu     sync.Mutex
	stream *stream // nil until it is known
	known  *decided
	lanes  map[int]*lane
	closed bool
}

var (
	_ metering.Store      = (*Store)(nil)
	_ metering.Quarantine = (*Store)(nil)
	_ metering.Replays    = (*Store)(nil)
	_ metering.Redactor   = (*Store)(nil)
	_ metering.Lookup     = (*Store)(nil)
	_ metering.Tallies    = (*Store)(nil)

	_ metering.SourceFacts  = (*Store)(nil)
	_ metering.SumsBySource = (*Store)(nil)

	_ metering.Refillable   = (*Store)(nil)
	_ metering.KeyRebuilder = (*Store)(nil)
)

// Open connects to the store, making its tables where there are none and bringing an
// older schema up to date. A database of something else, or of a newer schema, is
// refused.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.MaxRows == 0 {
		o.MaxRows = DefaultMaxRows
	}
	if o.Tries == 0 {
		o.Tries = DefaultTries
	}
	if o.FilterBytes == 0 {
		o.FilterBytes = DefaultFilterBytes
	}
	if o.Owner == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown host"
		}
		o.Owner = fmt.Sprintf("%s, process %d", host, os.Getpid())
	}
	options, err := connectTo(o)
	if err != nil {
		return nil, fmt.Errorf("open metering store: %w", err)
	}
	name := fmt.Sprintf("%s at %v", options.Auth.Database, options.Addr)
	within, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	if err := migrate(within, options, o.Cluster); err != nil {
		return nil, fmt.Errorf("open metering store %s: %w", name, err)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("open metering store %s: %w", name, err)
	}
	s := &Store{options: o, conn: conn, keepEvery: keepEvery, goneWithin: goneWithin, lanes: map[int]*lane{}}
	if o.Cluster != "" {
		if s.replicas, err = replicas(within, conn, o.Cluster); err != nil {
			return nil, errors.Join(fmt.Errorf("open metering store %s: %w", name, err), conn.Close())
		}
	}
	if err := s.begun(within); err != nil {
		return nil, errors.Join(fmt.Errorf("open metering store %s: %w", name, err), conn.Close())
	}
	return s, nil
}

// connectTo reads the DSN and adds the settings that every query needs.
func connectTo(o Options) (*clickhouse.Options, error) {
	options, err := clickhouse.ParseDSN(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("its DSN: %w", err)
	}
	if options.Auth.Database == "" {
		options.Auth.Database = "default"
	}
	if options.MaxOpenConns == 0 {
		options.MaxOpenConns = maxConns
	}
	if options.MaxIdleConns == 0 {
		options.MaxIdleConns = options.MaxOpenConns
	}
	if options.Settings == nil {
		options.Settings = clickhouse.Settings{}
	}
	for name, value := range settings(o.Cluster) {
		options.Settings[name] = value
	}
	return options, nil
}

// settings are those of every query. On a cluster an INSERT answers when each shard has
// the rows, and not when they wait in a queue; no question is answered without a shard,
// or by a replica that is being built.
func settings(cluster string) clickhouse.Settings {
	s := clickhouse.Settings{
		"max_query_size":                     maxQuerySize,
		"max_bytes_before_external_sort":     spillAt,
		"max_bytes_before_external_group_by": spillAt,
	}
	if cluster != "" {
		s["distributed_foreground_insert"] = 1
		s["insert_quorum_timeout"] = quorumWithin.Milliseconds()
		s["skip_unavailable_shards"] = 0
		s["max_replica_delay_for_distributed_queries"] = 10 // seconds
		s["fallback_to_stale_replicas_for_distributed_queries"] = 0
	}
	return s
}

// replicas is how many of a cluster's servers keep each row. An INSERT waits for all of
// them: then whichever is asked has every row up to a position it shows. Waiting for
// most, and asking those only, would need INSERTs one after the other over the whole
// cluster. Without a replica blocks wait in the stream.
func replicas(ctx context.Context, conn driver.Conn, cluster string) (int, error) {
	var shards, least, most uint64
	if err := conn.QueryRow(ctx, `SELECT count(), min(n), max(n) FROM (SELECT shard_num, count() AS n FROM system.clusters WHERE cluster = `+
		quote(cluster)+` GROUP BY shard_num)`).Scan(&shards, &least, &most); err != nil {
		return 0, fmt.Errorf("cluster %s: %w", cluster, err)
	}
	if shards == 0 || least != most {
		return 0, fmt.Errorf("cluster %s has %d shards of %d to %d replicas: want at least one, and the same number of replicas in each", cluster, shards, least, most)
	}
	return int(least), nil
}

// Close waits for blocks that are being stored, keeps what the filters of keys know and
// closes the connections. Closing again does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	lanes := s.lanes
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), commitWithin)
	defer cancel()
	var errs []error
	for p, l := range lanes {
		<-l.turn
		if l.filter != nil {
			s.keep(ctx, l.filter, p, min(keepAtClose, s.keepEvery))
			errs = append(errs, l.filter.failed)
		}
	}
	return errors.Join(append(errs, s.conn.Close())...)
}

// errClosed says that the store was closed.
var errClosed = errors.New("the store is closed")

// each hands every row of a query to row. When row has had enough, the rest of the
// answer is not read.
func (s *Store) each(ctx context.Context, query string, row func(scan func(...any) error) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	rows, err := s.conn.Query(reading, query)
	if err != nil {
		return orEnded(ctx, err)
	}
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			stop()
			_ = rows.Close() // says only that it was stopped
			return err
		}
	}
	if err := rows.Close(); err != nil {
		return orEnded(ctx, err)
	}
	return orEnded(ctx, rows.Err())
}

// orEnded is ctx's error where the engine only says that it was interrupted.
func orEnded(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// stream is the one that fills the store.
type stream struct {
	name       string
	partitions int
}

// incarnation is that of the one stream.
const incarnation = 1

// Attach names the stream that fills the store, see [metering.Store]. The number of
// partitions is fixed with the name, since the place of an event follows from it.
func (s *Store) Attach(ctx context.Context, name string, partitions int) (int, error) {
	fail := func(err error) (int, error) { return 0, fmt.Errorf("attach stream %q: %w", name, err) }
	if name == "" || partitions < 1 || partitions > maxPartitions {
		return fail(fmt.Errorf("with %d partitions: want a name and 1 to %d partitions", partitions, maxPartitions))
	}
	got, err := s.attached(ctx)
	if err != nil {
		return fail(err)
	}
	if got == nil {
		if err := s.insert(ctx, "streams", "", []column{
			{"name", "String", []string{name}},
			{"partitions", "UInt16", []uint16{uint16(partitions)}},
			{"attached_at", instantType, []time.Time{now()}},
		}); err != nil {
			return fail(err)
		}
		if got, err = s.attached(ctx); err != nil {
			return fail(err)
		}
	}
	switch {
	case got == nil:
		return fail(errors.New("it was stored and is not shown; if this is a cluster, look at its replicas"))
	case got.name != name:
		return fail(fmt.Errorf("the store was filled from stream %q, this is %q: attach the stream it was filled from, or start an empty store and fill it from the new stream: %w",
			got.name, name, metering.ErrIncarnation))
	case got.partitions != partitions:
		return fail(fmt.Errorf("the store was filled from stream %q with %d partitions, it now has %d: the number is fixed for a stream's life; make a new stream: %w",
			got.name, got.partitions, partitions, metering.ErrIncarnation))
	}
	return incarnation, nil
}

// attached is the stream that fills the store, nil while there is none.
func (s *Store) attached(ctx context.Context) (*stream, error) {
	s.mu.Lock()
	known := s.stream
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	var all []stream
	if err := s.each(ctx, `SELECT DISTINCT name, partitions FROM streams ORDER BY name, partitions LIMIT 2`, func(scan func(...any) error) error {
		var st stream
		var n uint16
		err := scan(&st.name, &n)
		st.partitions = int(n)
		all = append(all, st)
		return err
	}); err != nil {
		return nil, fmt.Errorf("which stream fills the store: %w", err)
	}
	switch len(all) {
	case 0:
		return nil, nil
	case 1:
		s.mu.Lock()
		s.stream = &all[0]
		s.mu.Unlock()
		return &all[0], nil
	}
	return nil, fmt.Errorf("two streams were attached at the same time: %q with %d partitions and %q with %d; delete the wrong row of table streams: %w",
		all[0].name, all[0].partitions, all[1].name, all[1].partitions, metering.ErrIncarnation)
}

// Position is the sequence up to which the partition is stored, 0 for none.
func (s *Store) Position(ctx context.Context, partition int) (uint64, error) {
	c, err := s.chain(ctx, partition)
	if err != nil {
		return 0, fmt.Errorf("position of partition %d: %w", partition, err)
	}
	return c.position(partition), nil
}

// Cutoff is the position of every partition of the attached stream now, 0 where
// nothing is stored. It is never nil.
func (s *Store) Cutoff(ctx context.Context) (metering.Cutoff, error) {
	st, err := s.attached(ctx)
	if err != nil {
		return nil, fmt.Errorf("cutoff: %w", err)
	}
	cutoff := metering.Cutoff{}
	if st == nil {
		return cutoff, nil
	}
	c, err := s.chain(ctx, allPartitions)
	if err != nil {
		return nil, fmt.Errorf("cutoff: %w", err)
	}
	for p := range st.partitions {
		cutoff = append(cutoff, metering.PartitionCutoff{Incarnation: incarnation, Partition: p, Sequence: c.position(p)})
	}
	return cutoff, nil
}

// Epoch is the highest lease that the partition was ever filled under, 0 for none. A
// new lease needs a higher number: whoever gives leases out asks here first, since the
// store may be older, or younger, than what counts them.
func (s *Store) Epoch(ctx context.Context, partition int) (uint64, error) {
	c, err := s.chain(ctx, partition)
	if err != nil {
		return 0, fmt.Errorf("lease of partition %d: %w", partition, err)
	}
	return c.newest(partition).lease(), nil
}

// now is the time that rows say they were made at: for people, and to tell which of
// several rows of one fact was kept first. What counts of the stream does not follow
// from it.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
