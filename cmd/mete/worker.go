package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"mete/metering/clickhouse"
	"mete/metering/jetstream"
)

func workerCommand(e *env) *cobra.Command {
	var address string
	c := &cobra.Command{
		Use: "worker", Short: "Fill the metering store from the stream, beside other workers",
		Long: `Fill the metering store from the stream, beside other workers on any number of
machines. The partitions are shared out among them, and move within ten seconds
when one of them dies. It needs brokers and a ClickHouse store elsewhere, named
in mete.yaml (docs/operations.md), and no data folder.`,
		Example: "  mete worker --config /etc/mete/mete.yaml --listen 127.0.0.1:8481", Args: positional,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := e.readConfig()
			if err != nil {
				return err
			}
			if !cfg.Stream.external() || cfg.Metering.ClickHouse == "" {
				return usageError(errors.New("a worker beside others needs stream.urls and metering.clickhouse in mete.yaml (--config names the file); with either in a data folder, mete serve does the work"))
			}
			return work(c.Context(), e, cfg, address)
		},
	}
	c.Flags().StringVar(&address, "listen", "127.0.0.1:8481", "loopback address of /healthz; port 0 takes a free one")
	return c
}

// unlessStopped is why a service could not begin, but for one that was told to stop
// meanwhile: that is how services end.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// work fills the store until ctx ends or something is wrong.
func work(ctx context.Context, e *env, cfg config, address string) (err error) {
	l, err := listenLoopback(address)
	if err != nil {
		return err
	}
	defer l.Close() // closed before by the server, unless it never began
	events, err := clickhouse.Open(ctx, cfg.Metering.options())
	if err != nil {
		return unlessStopped(ctx, err)
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	conn, system, err := cfg.Stream.dial("mete worker")
	if err != nil {
		return err
	}
	defer conn.Close()
	defer system.Close()
	settings := cfg.Stream.settings()
	settings.Facts = cfg.Stream.facts(system)
	streams, err := jetstream.Ensure(ctx, conn, settings)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	jetstream.LimitMemory()
	if b := streams.Brokers(); b.Unchecked() != "" {
		tellBrokers(b)
	}
	w := newWorker(cfg.Metering, streams, events)
	w.Leases.Changed = func(l jetstream.Lease, held bool) {
		slog.Info("partition", "number", l.Partition, "epoch", l.Epoch, "held", held)
	}
	says := working{w.Leases.Owner, streams.Partitions(), fmt.Sprintf("http://%s/healthz", l.Addr())}
	if err := e.print(says, says.writeText); err != nil {
		return err
	}
	return serveWhile(ctx, l, w)
}

// serveWhile answers for the worker's health while it runs.
func serveWhile(ctx context.Context, l net.Listener, w *jetstream.Worker) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, r *http.Request) { healthOf(r.Context(), w).serve(rw) })
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- runWatched(ctx, w) }()
	var err error
	select {
	case err = <-served:
		stop()
		err = errors.Join(err, <-ran)
	case err = <-ran:
	}
	end, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	return errors.Join(err, srv.Shutdown(end))
}

// runWatched runs the worker until ctx ends, or a broker that comes back runs unsafely.
func runWatched(ctx context.Context, w *jetstream.Worker) error {
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return w.Run(ctx) })
	all.Go(func() error { return w.Streams.Watch(ctx, tellBrokers) })
	return all.Wait()
}

// working says who works and where its health is.
type working struct {
	Worker     string `json:"worker"`
	Partitions int    `json:"partitions"`
	Health     string `json:"health"`
}

func (w working) writeText(out io.Writer) error {
	_, err := fmt.Fprintf(out, "mete worker %s fills what it gets of %d partitions\n  health  %s\n", w.Worker, w.Partitions, w.Health)
	return err
}
