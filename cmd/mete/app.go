package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"mete/billing"
	"mete/catalogue"
	"mete/metering"
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
	server     *jetstream.Server
	conn       *nats.Conn
	streams    *jetstream.Streams
	intake     *jetstream.Intake
	worker     *jetstream.Worker
	router     *jetstream.Router
	events     *sqlite.Store
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
}

// manualRail is the rail's part of account names.
const manualRail = "manual"

// options say how a folder is opened.
type options struct {
	listenNATS bool
	natsPort   int
}

// openApp takes the folder and opens everything in it. When another process owns it
// the error wraps errOwned and the owner is returned.
func openApp(ctx context.Context, e *env, o options) (*app, owner, error) {
	dir := e.path(e.dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, owner{}, usageError(fmt.Errorf("data folder: %w", err))
	}
	l, own, err := takeLock(dir, e.now())
	if err != nil {
		return nil, own, err
	}
	a := &app{dir: dir, now: e.now, lock: l, owner: own, failed: make(chan error, 1)}
	a.ctx, a.stop = context.WithCancel(ctx)
	if err := a.open(ctx, o); err != nil {
		return nil, owner{}, errors.Join(fmt.Errorf("open %s: %w", dir, err), a.close())
	}
	return a, own, nil
}

func (a *app) path(name string) string { return filepath.Join(a.dir, name) }

func (a *app) open(ctx context.Context, o options) (err error) {
	for _, d := range []string{"payments/archive", "payments/outbox"} {
		if err := os.MkdirAll(a.path(d), 0o700); err != nil {
			return err
		}
	}
	if a.store, err = store.Open(ctx, a.path("books.db")); err != nil {
		return err
	}
	a.catalogue = catalogue.Catalogue{Store: a.store}
	if a.events, err = sqlite.Open(a.path("events.db")); err != nil {
		return err
	}
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
	conn, err := a.server.Connect()
	if err != nil {
		return err
	}
	a.conn = conn
	if a.streams, err = jetstream.Ensure(ctx, conn, jetstream.Settings{Intake: true, Facts: a.server.Facts}); err != nil {
		return err
	}
	if a.incarn, err = a.streams.Attach(ctx, a.events); err != nil {
		return err
	}
	a.intake = &jetstream.Intake{Streams: a.streams, Now: a.now}
	a.worker = &jetstream.Worker{Streams: a.streams, Store: a.events}
	a.wire()
	a.run("worker", a.worker.Run)
	return nil
}

// wire puts the stages together; the fields say all there is to know.
func (a *app) wire() {
	a.closer = &billing.Closer{Store: a.store, Ledger: a.store, Events: a.events, Stream: a, Catalogue: a.catalogue}
	a.reconciler = &billing.Reconciler{Closer: a.closer, Totals: a.streams, Quarantine: a.events}
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
	if a.conn != nil {
		a.conn.Close()
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

// Last implements billing.Stream.
func (a *app) Last(ctx context.Context) (metering.Cutoff, error) {
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
