package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"mete/internal/chtest"
	"mete/internal/keyfilter"
	"mete/metering"
	"mete/metering/clickhouse"
	"mete/metering/jetstream"
	"mete/metering/sqlite"
)

// memoryBacklogs are the events that wait, in two sizes: what a worker holds in memory
// must not grow with them.
var memoryBacklogs = [...]int{500_000, 2_000_000}

// benchMemory drains backlogs in a process of its own and reads from the kernel the most
// memory that it held. As mete runs on one machine: broker, worker and SQLite in one
// process; as it runs on many: a worker alone, broker and ClickHouse elsewhere.
func benchMemory(ctx context.Context, _ bool, emit func(Result)) error {
	dir, err := os.MkdirTemp("", "mete-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	e, err := startEngine()
	if err != nil {
		return err
	}
	defer e.Close()
	first := map[string]float64{}
	for _, events := range memoryBacklogs {
		stream := filepath.Join(dir, strconv.Itoa(events))
		if err := backlog(ctx, stream, events); err != nil {
			return err
		}
		show := func(name string, d drainedElsewhere, note string) {
			r := Result{Name: "memory, " + name + ", " + number(float64(events)) + " events wait", Value: d.held, Unit: "MB",
				Note: fmt.Sprintf("most resident%s · drained at %s /s", note, number(float64(events)/d.took.Seconds()))}
			if was := first[name]; was > 0 {
				r.Limit = Limit{"with the smaller backlog", was}
			} else {
				first[name] = d.held
			}
			emit(r)
		}
		d, err := drainElsewhere(ctx, workerOf{Stream: stream, SQLite: filepath.Join(stream, "events.db"), Events: events})
		if err != nil {
			return fmt.Errorf("SQLite, %d events: %w", events, err)
		}
		show("broker, worker and SQLite", d, "")
		if d, err = drainRemote(ctx, e.Engine, stream, events); err != nil {
			return fmt.Errorf("ClickHouse, %d events: %w", events, err)
		}
		filter, err := filterSize(events)
		if err != nil {
			return err
		}
		show("worker alone, to ClickHouse", d, fmt.Sprintf(", of it %.0f MB the key filter", filter))
		if err := os.RemoveAll(stream); err != nil {
			return err
		}
	}
	return nil
}

// drainRemote drains the stream in a worker whose broker and store are elsewhere.
func drainRemote(ctx context.Context, on *chtest.Engine, stream string, events int) (drainedElsewhere, error) {
	e, err := engineOf(on)
	if err != nil {
		return drainedElsewhere{}, err
	}
	system := server.NewAccount("SYS")
	broker, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: filepath.Join(stream, "stream"), SyncAlways: true, NoSigs: true, NoLog: true,
		Accounts: []*server.Account{system}, SystemAccount: "SYS",
		Users: []*server.User{{Username: "worker", Password: "bench"}, {Username: "system", Password: "bench", Account: system}},
	})
	if err != nil {
		return drainedElsewhere{}, err
	}
	broker.Start()
	defer func() { broker.Shutdown(); broker.WaitForShutdown() }()
	if !broker.ReadyForConnections(time.Minute) {
		return drainedElsewhere{}, errors.New("the broker does not start")
	}
	return drainElsewhere(ctx, workerOf{Broker: broker.Addr().String(), ClickHouse: e.DSN(e.database), Events: events})
}

// filterSize is what the key filter of so many events takes, in MB.
func filterSize(events int) (float64, error) {
	const partitions = jetstream.DefaultPartitions
	f := keyfilter.New(keyfilter.Options{})
	err := f.Add(1, make([]keyfilter.Key, events/partitions))
	return float64(partitions*f.Bytes()) / 1e6, err
}

// backlog makes a stream with events that nobody has stored.
func backlog(ctx context.Context, dir string, events int) error {
	b, err := startBroker(ctx, dir)
	if err != nil {
		return err
	}
	defer b.close()
	const piece = 100_000
	for from := 0; from < events; from += piece {
		if _, err := b.publish(ctx, from, min(piece, events-from)); err != nil {
			return err
		}
	}
	return nil
}

// workerCommand makes this program the worker of [benchMemory]. It is for itself alone.
const workerCommand = "drain-in-a-process-of-its-own"

// workerOf is what the worker in a process of its own is told.
type workerOf struct {
	Stream string `json:",omitempty"` // folder of an embedded broker
	Broker string `json:",omitempty"` // address of one elsewhere

	SQLite     string `json:",omitempty"` // file
	ClickHouse string `json:",omitempty"` // DSN

	Events int
}

// drainedElsewhere is what a worker in a process of its own needed.
type drainedElsewhere struct {
	held float64 // MB
	took time.Duration
}

// drainElsewhere drains a stream in a child process.
func drainElsewhere(ctx context.Context, w workerOf) (drainedElsewhere, error) {
	self, err := os.Executable()
	if err != nil {
		return drainedElsewhere{}, err
	}
	task, err := json.Marshal(w)
	if err != nil {
		return drainedElsewhere{}, err
	}
	var said strings.Builder
	c := exec.CommandContext(ctx, self, workerCommand, string(task))
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		return drainedElsewhere{}, fmt.Errorf("%w: %s", err, said.String())
	}
	var took string
	var held float64
	if _, err := fmt.Sscan(string(out), &took, &held); err != nil {
		return drainedElsewhere{}, fmt.Errorf("%q: %w", out, err)
	}
	d, err := time.ParseDuration(took)
	return drainedElsewhere{held * 1024 / 1e6, d}, err
}

// mostResident is the most memory of this process that was in memory, in KiB. What the
// kernel counts for a child that has ended includes what its parent held when it began.
func mostResident() (kib float64, err error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(b), "VmHWM:")
	if !ok {
		return 0, errors.New("the system does not tell how much memory a process held")
	}
	_, err = fmt.Sscan(rest, &kib)
	return kib, err
}

// runWorker is the child process. It prints how long it drained and what it held.
func runWorker(ctx context.Context, args []string, to io.Writer) (err error) {
	var w workerOf
	if len(args) != 1 || json.Unmarshal([]byte(args[0]), &w) != nil {
		return errors.New("this command is for the benchmark of memory alone")
	}
	b, err := w.broker(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	var store interface {
		metering.Store
		Close() error
	}
	perBlock, gather := rowBlock, time.Duration(0)
	if w.SQLite != "" {
		store, err = sqlite.Open(w.SQLite)
	} else {
		jetstream.LimitMemory() // as mete worker does
		perBlock, gather = columnBlock, columnEvery
		store, err = clickhouse.Open(ctx, clickhouse.Options{DSN: w.ClickHouse})
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	d, err := drain(ctx, b, store, w.Events, perBlock, gather)
	if err != nil {
		return err
	}
	held, err := mostResident()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(to, d.took, held)
	return err
}

// broker is the one in the process, or the one elsewhere.
func (w *workerOf) broker(ctx context.Context) (*broker, error) {
	if w.Stream != "" {
		return startBroker(ctx, w.Stream)
	}
	conn, err := nats.Connect("nats://"+w.Broker, nats.UserInfo("worker", "bench"))
	if err != nil {
		return nil, err
	}
	system, err := nats.Connect("nats://"+w.Broker, nats.UserInfo("system", "bench"))
	if err != nil {
		conn.Close()
		return nil, err
	}
	b := &broker{close: func() { conn.Close(); system.Close() }}
	b.streams, err = jetstream.Ensure(ctx, conn, jetstream.Settings{Facts: func(ctx context.Context) ([]jetstream.ServerFacts, error) {
		return jetstream.AskServers(ctx, system, 1)
	}})
	if err != nil {
		b.close()
	}
	return b, err
}
