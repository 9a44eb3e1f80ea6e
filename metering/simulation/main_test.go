package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"mete/metering"
	"mete/metering/clickhouse"
	"mete/metering/jetstream"
	"mete/metering/sqlite"
)

// TestMain runs the test binary as a child, if a test has started it as one.
func TestMain(m *testing.M) {
	work := children[os.Getenv(childVar)]
	if work == nil {
		os.Exit(m.Run())
	}
	go func() { // who started us is gone when our input ends
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(4)
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var o childOptions
	err := json.Unmarshal([]byte(os.Getenv(childOptionsVar)), &o)
	if err == nil {
		err = work(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(0)
}

const (
	childVar        = "METE_TEST_CHILD"
	childOptionsVar = "METE_TEST_OPTIONS"
)

var children = map[string]func(context.Context, childOptions) error{
	"node":   nodeChild,
	"worker": workerChild,
	"router": routerChild,
}

// childOptions is what a child is told.
type childOptions struct {
	Config      string        // file of a node
	Brokers     []string      // addresses of all nodes
	Engine      string        // of the store: sqlite or clickhouse
	Store       string        // file or DSN
	Quarantine  string        // file, of a router
	Owner       string        // of leases
	BlockEvents int           // of a worker
	TTL         time.Duration // of leases, and of messages with a router
}

// told is a line that a child prints.
type told struct {
	Ready     bool   `json:"ready,omitempty"`
	Partition int    `json:"partition"`
	Epoch     uint64 `json:"epoch,omitempty"` // 0: not about a lease
	Held      bool   `json:"held,omitempty"`
}

var saying sync.Mutex

func say(t told) {
	saying.Lock()
	defer saying.Unlock()
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // a struct of numbers
	}
	fmt.Println(string(b))
}

// nodeChild is one node of NATS, as an operator's file has it.
func nodeChild(ctx context.Context, o childOptions) error {
	options, err := server.ProcessConfigFile(o.Config)
	if err != nil {
		return err
	}
	options.NoSigs, options.NoLog = true, true
	s, err := server.NewServer(options)
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(childPatience) {
		return errors.New("the node is not ready")
	}
	say(told{Ready: true})
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

// childPatience bounds how long a child waits for what it needs, tryWithin one try:
// brokers without a leader do not answer.
const (
	childPatience = 60 * time.Second
	tryWithin     = 5 * time.Second
)

const partitions = 4

// joined is a connection to the brokers with the streams in them.
type joined struct {
	conn, system *nats.Conn
	streams      *jetstream.Streams
}

func (j *joined) close() {
	j.conn.Close()
	j.system.Close()
}

// join connects and makes or checks the streams. Brokers that are not there yet are
// waited for; one whose settings are wrong is not.
func join(ctx context.Context, brokers []string, name string) (*joined, error) {
	ctx, cancel := context.WithTimeout(ctx, childPatience)
	defer cancel()
	var urls string
	for _, b := range brokers {
		urls += "nats://" + b + ","
	}
	dial := func(user string) (*nats.Conn, error) {
		return nats.Connect(urls[:len(urls)-1], nats.UserInfo(user, user), nats.Name(name), nats.RetryOnFailedConnect(true),
			nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(0, 0), nats.Timeout(5*time.Second))
	}
	conn, err := dial("mete")
	if err != nil {
		return nil, err
	}
	system, err := dial("sys")
	if err != nil {
		conn.Close()
		return nil, err
	}
	j := &joined{conn: conn, system: system}
	settings := jetstream.Settings{
		Partitions: partitions, Replicas: len(brokers), Brokers: len(brokers), MaxBytes: maxBytes, Intake: true,
		Facts: func(ctx context.Context) ([]jetstream.ServerFacts, error) {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			return jetstream.AskServers(ctx, system, len(brokers))
		},
	}
	for {
		var wrong *jetstream.SettingError
		if err = errors.New("not connected"); conn.IsConnected() {
			try, cancel := context.WithTimeout(ctx, tryWithin)
			j.streams, err = jetstream.Ensure(try, conn, settings)
			cancel()
		}
		switch {
		case err == nil:
			return j, nil
		case errors.As(err, &wrong), ctx.Err() != nil:
			j.close()
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

const (
	maxBytes = 1 << 30 // of a partition
	maxStore = 6 << 30 // of a node
)

// store is what both drivers are.
type store interface {
	metering.Store
	Check(context.Context) ([]string, error)
	Close() error
}

func openStore(ctx context.Context, engine, where string) (store, error) {
	if engine == onSQLite {
		return sqlite.Open(where)
	}
	return clickhouse.Open(ctx, clickhouse.Options{DSN: where})
}

// The engines of stores.
const (
	onSQLite     = "sqlite"
	onClickHouse = "clickhouse"
)

// workerChild fills the store, beside others where the store is one that several may
// fill, as mete worker and mete serve do.
func workerChild(ctx context.Context, o childOptions) error {
	j, err := join(ctx, o.Brokers, "worker")
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil // told to stop before it had begun
		}
		return err
	}
	defer j.close()
	s, err := openStore(ctx, o.Engine, o.Store)
	if err != nil {
		return err
	}
	w := &jetstream.Worker{Streams: j.streams, Store: s, BlockEvents: o.BlockEvents}
	if shared, ok := s.(*clickhouse.Store); ok {
		w.Leases = &jetstream.Leases{Streams: j.streams, Owner: o.Owner, Floor: shared.Epoch, TTL: o.TTL, Changed: func(l jetstream.Lease, held bool) {
			say(told{Partition: l.Partition, Epoch: l.Epoch, Held: held})
		}}
	}
	say(told{Ready: true})
	return errors.Join(w.Run(ctx), s.Close())
}

// routerChild takes what NATS producers send through the gate.
func routerChild(ctx context.Context, o childOptions) error {
	j, err := join(ctx, o.Brokers, "router")
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil // told to stop before it had begun
		}
		return err
	}
	defer j.close()
	refused, err := sqlite.Open(o.Quarantine)
	if err != nil {
		return err
	}
	gate := &metering.Gate{
		Directory: func(context.Context) (*metering.Directory, error) { return directory, nil },
		Intake:    &jetstream.Intake{Streams: j.streams}, Quarantine: refused,
	}
	r := &jetstream.Router{Streams: j.streams, Wait: o.TTL, Gate: func(ctx context.Context, m jetstream.Incoming) ([]byte, error) {
		return gate.AdmitMessage(ctx, m.Source, m.Header, m.Body, m.Where)
	}}
	say(told{Ready: true})
	return errors.Join(r.Run(ctx), refused.Close())
}
