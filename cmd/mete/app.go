package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"mete/billing"
	"mete/catalogue"
	"mete/metering"
	"mete/metering/clickhouse"
	"mete/metering/httpin"
	"mete/metering/jetstream"
	"mete/metering/sqlite"
	"mete/partner"
	"mete/payouts"
	"mete/payouts/manual"
	"mete/store"
)

// app is an open data folder: every stage with its driver, wired. It is the one
// place where they meet.
type app struct {
	dir        string
	now        func() time.Time
	ctx        context.Context // of the background work; ends at close
	stop       context.CancelFunc
	lock       *lock
	owner      owner
	config     config
	server     *jetstream.Server // nil: the brokers are elsewhere
	conn       *nats.Conn
	system     *nats.Conn // nil: the broker is in this process
	streams    *jetstream.Streams
	intake     *jetstream.Intake
	worker     *jetstream.Worker
	routing    sync.Once // of the router, which not every command needs
	events     eventStore
	store      *store.DB
	catalogue  catalogue.Catalogue
	closer     *billing.Closer
	reconciler *billing.Reconciler
	desk       *payouts.Desk
	incarn     int
	background sync.WaitGroup
	failed     chan error // the first error of the background work

	mu     sync.Mutex
	known  *metering.Directory // what events are checked against; nil: to be read
	tokens httpin.Tokens       // of the HTTP way in
	held   holding
	disk   diskWatch
}

// The files of the relational and the metering store.
const (
	booksName  = "books.db"
	eventsName = "events.db"
)

// manualRail is the rail's part of account names.
const manualRail = "manual"

// options say how a folder is opened.
type options struct {
	begin      bool // make the folder if there is none
	listenNATS bool
	natsPort   int
	work       bool // fill the store, where several processes may
	still      bool // fill it by no means
}

// eventStore is what a driver of the metering store has to be.
type eventStore interface {
	metering.Store
	metering.Quarantine
	metering.Replays
	metering.Redactor
	metering.Lookup
	metering.Tallies
	metering.SourceFacts
	metering.SumsBySource
	metering.Refillable
	metering.KeyRebuilder
	Close() error
}

// openApp takes the folder and opens everything in it. When another process owns it
// the error wraps errOwned and the owner is returned.
func openApp(ctx context.Context, e *env, o options) (*app, owner, error) {
	dir := e.path(e.dir)
	if !o.begin && !isDataFolder(dir) {
		return nil, owner{}, usageError(fmt.Errorf("no data folder at %s: name yours with --dir or METE_DIR, or begin one with mete apply", dir))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, owner{}, usageError(fmt.Errorf("data folder: %w", err))
	}
	l, own, err := takeLock(dir, e.now())
	if err != nil {
		return nil, own, err
	}
	a := &app{dir: dir, now: e.now, lock: l, owner: own, failed: make(chan error, 1), disk: diskWatch{dir: dir}}
	a.ctx, a.stop = context.WithCancel(ctx)
	if a.config, err = e.readConfig(); err == nil {
		err = a.open(ctx, o)
	}
	if err != nil {
		return nil, owner{}, errors.Join(fmt.Errorf("open %s: %w", dir, err), a.close())
	}
	return a, own, nil
}

// isDataFolder reports whether mete has been at work in the folder.
func isDataFolder(dir string) bool {
	for _, name := range []string{lockName, booksName} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

func (a *app) path(name string) string { return filepath.Join(a.dir, name) }

func (a *app) open(ctx context.Context, o options) (err error) {
	for _, d := range []string{"payments/archive", "payments/outbox"} {
		if err := os.MkdirAll(a.path(d), 0o700); err != nil {
			return err
		}
	}
	if a.store, err = store.Open(ctx, cmp.Or(a.config.Books.Postgres, a.path(booksName))); err != nil {
		return err
	}
	a.catalogue = catalogue.Catalogue{Store: a.store}
	if err := a.openEvents(ctx); err != nil {
		return err
	}
	if err := a.openStream(ctx, o); err != nil {
		return err
	}
	a.intake = &jetstream.Intake{Streams: a.streams, Now: a.now}
	a.wire()
	if (a.worker.Leases == nil || o.work) && !o.still {
		a.run("worker", a.worker.Run)
	}
	a.run("expiry", a.keepHolding)
	return nil
}

// openEvents opens the metering store.
func (a *app) openEvents(ctx context.Context) error {
	m := a.config.Metering
	if m.ClickHouse != "" {
		s, err := clickhouse.Open(ctx, m.options())
		if err != nil {
			return err
		}
		a.events = s
		return nil
	}
	s, err := sqlite.Open(a.path(eventsName))
	if err != nil {
		return err
	}
	a.events = s
	return nil
}

// openStream starts the broker in this process, or connects to those elsewhere, and
// makes ready who fills the store: with brokers and a store elsewhere that is shared
// out among all processes that work, else this process does it alone.
func (a *app) openStream(ctx context.Context, o options) (err error) {
	s, settings := a.config.Stream, a.config.Stream.settings()
	if s.external() {
		if a.conn, a.system, err = s.dial("mete " + a.dir); err != nil {
			return err
		}
		settings.Facts = s.facts(a.system)
	} else {
		var users []jetstream.SourceUser
		if o.listenNATS { // a listener that knows nobody yet would turn producers away for good
			if _, users, err = a.credentials(ctx); err != nil {
				return err
			}
		}
		a.server, err = jetstream.StartServer(jetstream.ServerOptions{Dir: a.path("stream"), ListenLoopback: o.listenNATS, Port: o.natsPort, Users: users})
		if err != nil {
			return err
		}
		if a.conn, err = a.server.Connect(); err != nil {
			return err
		}
		settings.Facts, settings.Embedded = a.server.Facts, true
	}
	if a.streams, err = jetstream.Ensure(ctx, a.conn, settings); err != nil {
		return err
	}
	if a.incarn, err = a.streams.Attach(ctx, a.events); err != nil {
		return err
	}
	a.worker = newWorker(a.config.Metering, a.streams, a.events)
	if b := a.streams.Brokers(); b.Unchecked() != "" {
		tellBrokers(b)
	}
	a.run("brokers", func(ctx context.Context) error { return a.streams.Watch(ctx, tellBrokers) })
	return nil
}

// tellBrokers says in the log which brokers were not checked.
func tellBrokers(b jetstream.Brokers) {
	if away := b.Unchecked(); away != "" {
		slog.Warn("brokers", "state", away, "checked", b.Checked)
		return
	}
	slog.Info("brokers", "state", "all were checked and run safely", "checked", b.Checked)
}

// Blocks for a column store: large ones, and not more often than somebody would look.
const (
	gatheredEvents = 20_000
	gatherFor      = 300 * time.Millisecond
)

// newWorker fills the store; one that several processes can fill it shares with them.
func newWorker(m meteringConfig, streams *jetstream.Streams, events metering.Store) *jetstream.Worker {
	w := &jetstream.Worker{Streams: streams, Store: events, SilentAfter: time.Duration(m.SilentSeconds) * time.Second}
	s, shared := events.(*clickhouse.Store)
	if !shared {
		return w
	}
	w.BlockEvents, w.Gather = gatheredEvents, gatherFor
	if !streams.Embedded() {
		w.Leases = &jetstream.Leases{Streams: streams, Owner: ownerName(), Floor: s.Epoch}
	}
	return w
}

// ownerName names this process and start among all workers.
func ownerName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:6])
}

// wire puts the stages together; the fields say all there is to know.
func (a *app) wire() {
	a.closer = &billing.Closer{Store: a.store, Ledger: a.store, Events: a.events, Stream: a, Catalogue: a.catalogue, Redactions: a.events, Facts: a.events}
	a.reconciler = &billing.Reconciler{Closer: a.closer, Totals: a.streams, Quarantine: a.events, Payouts: a.checkPayouts}
	a.desk = &payouts.Desk{
		Store: a.store, Books: a.store,
		Rails: map[string]payouts.Rail{manualRail: manual.Rail{Archive: a.path("payments/archive"), Out: manual.Folder(a.path("payments/outbox"))}},
		Payee: func(ctx context.Context, id partner.ID) (partner.Payee, error) {
			snap, err := a.catalogue.Current(ctx)
			if err != nil {
				return partner.Payee{}, err
			}
			return snap.Partners[id].Payee, nil
		},
	}
}

// run starts background work; its first error is kept and stops the folder's other
// work.
func (a *app) run(what string, fn func(context.Context) error) {
	a.background.Go(func() {
		if err := fn(a.ctx); err != nil && a.ctx.Err() == nil {
			select {
			case a.failed <- fmt.Errorf("%s: %w", what, err):
			default:
			}
		}
	})
}

// closeTimeout bounds how long accepted events may take to reach the disk at the end.
const closeTimeout = 30 * time.Second

// close stops everything in the order of the river and lets go of the folder.
func (a *app) close() error {
	var errs []error
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if a.intake != nil {
		errs = append(errs, a.intake.Close(ctx))
	}
	a.stop()
	a.background.Wait()
	for _, c := range []*nats.Conn{a.conn, a.system} {
		if c != nil {
			c.Close()
		}
	}
	if a.server != nil {
		a.server.Shutdown()
	}
	if a.events != nil {
		errs = append(errs, a.events.Close())
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	a.lock.release()
	return errors.Join(errs...)
}

// directory is what events are checked against: the catalogue as it is now.
func (a *app) directory(ctx context.Context) (*metering.Directory, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known != nil {
		return a.known, nil
	}
	snap, err := a.catalogue.Current(ctx)
	if err != nil {
		return nil, err
	}
	a.known = snap.Directory()
	return a.known, nil
}

// forget makes the next event be checked against the catalogue as it is then.
func (a *app) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known = nil
}

// routePatience is how long a close waits for what NATS producers had sent before it.
const routePatience = time.Minute

// Last implements billing.Stream. What producers had published before it was called is
// in the stream then: it was acknowledged to them, and would be late for its month.
func (a *app) Last(ctx context.Context) (metering.Cutoff, error) {
	if a.server != nil {
		a.route() // nobody else can
	}
	within, cancel := context.WithTimeout(ctx, routePatience)
	defer cancel()
	if err := a.streams.WaitRouted(within); err != nil {
		return nil, err
	}
	return a.streams.Last(ctx, a.incarn)
}

// storePatience is how long a close waits for the store, and how often it looks.
const (
	storePatience = 10 * time.Minute
	storeLook     = 20 * time.Millisecond
)

// WaitStored implements billing.Stream.
func (a *app) WaitStored(ctx context.Context, upTo metering.Cutoff) error {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	for {
		behind, err := a.behind(ctx, upTo)
		if err != nil || behind == "" {
			return err
		}
		select {
		case err := <-a.failed:
			a.failed <- err
			return err
		case <-ctx.Done():
			return fmt.Errorf("%s after %s: %w", behind, storePatience, ctx.Err())
		case <-time.After(storeLook):
		}
	}
}

// behind says which partition the store has not read up to the cutoff.
func (a *app) behind(ctx context.Context, upTo metering.Cutoff) (string, error) {
	for _, c := range upTo {
		at, err := a.events.Position(ctx, c.Partition)
		if err != nil {
			return "", err
		}
		if at < c.Sequence {
			return fmt.Sprintf("partition %d is stored up to %d of %d", c.Partition, at, c.Sequence), nil
		}
	}
	return "", nil
}

// drain waits until everything that lies in the stream is stored.
func (a *app) drain(ctx context.Context) error {
	last, err := a.streams.Last(ctx, a.incarn)
	if err != nil {
		return err
	}
	return a.WaitStored(ctx, last)
}
