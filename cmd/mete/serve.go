package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"mete/billing"
	"mete/catalogue"
	"mete/metering"
	"mete/metering/httpin"
	"mete/metering/jetstream"
)

func serveCommand(e *env) *cobra.Command {
	var address string
	var natsPort int
	c := &cobra.Command{
		Use: "serve", Short: "Run the service: HTTP and NATS ways in, metering, commands of this machine",
		Example: "  mete serve --listen 127.0.0.1:8480 --nats-port 4222", Args: positional(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx := c.Context()
			a, _, err := openApp(ctx, e, options{listenNATS: true, natsPort: natsPort})
			if err != nil {
				return err
			}
			return errors.Join(a.serve(ctx, e, address), a.close())
		},
	}
	c.Flags().StringVar(&address, "listen", "127.0.0.1:8480", "loopback address of the HTTP API; port 0 takes a free one")
	c.Flags().IntVar(&natsPort, "nats-port", 0, "port of the loopback NATS listener; 0 takes a free one")
	return c
}

// credentialsName is the file that holds a token for each owner of sources. It is
// made when the service first needs it, and readable by the folder's owner only.
const credentialsName = "credentials.json"

// credentials reads the tokens of all owners that the catalogue names, making those
// that are missing.
func (a *app) credentials(ctx context.Context) (map[string]string, []jetstream.SourceUser, error) {
	snap, err := a.catalogue.Current(ctx)
	if err != nil && !errors.Is(err, catalogue.ErrUnknown) {
		return nil, nil, err
	}
	tokens := map[string]string{}
	file := a.path(credentialsName)
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &tokens)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	sources, changed := map[string][]string{}, false
	if snap != nil {
		for _, s := range snap.SourceList() {
			sources[s.Owner] = append(sources[s.Owner], s.Name)
			if tokens[s.Owner] == "" {
				tokens[s.Owner], changed = newToken(), true
			}
		}
	}
	if changed {
		if b, err = json.MarshalIndent(tokens, "", "  "); err != nil {
			return nil, nil, err
		}
		if err := writeWhole(file, b, 0o600); err != nil {
			return nil, nil, err
		}
	}
	var users []jetstream.SourceUser
	for _, owner := range sortedKeys(sources) {
		users = append(users, jetstream.SourceUser{Name: owner, Password: tokens[owner], Sources: sources[owner]})
	}
	return tokens, users, nil
}

// writeWhole writes a file so that a crash leaves the old or the new one.
func writeWhole(name string, b []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// gate is the one decision about events, whichever way they come.
func (a *app) gate() *httpin.Gate {
	return &httpin.Gate{Directory: a.directory, Intake: a.intake, Quarantine: a.events, Now: func() time.Time { return a.now() }}
}

// eventsHandler takes events over HTTP from the owners of the tokens.
func (a *app) eventsHandler(tokens map[string]string) http.Handler {
	a.setTokens(tokens)
	return &httpin.Handler{Gate: a.gate(), Owner: func(ctx context.Context, token string) (string, bool) {
		a.mu.Lock()
		known := a.tokens
		a.mu.Unlock()
		return known.Owner(ctx, token)
	}}
}

func (a *app) setTokens(tokens map[string]string) {
	hashes := httpin.Tokens{}
	for owner, token := range tokens {
		hashes[owner] = httpin.HashToken(token)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens = hashes
}

// refresh makes ways in know what the catalogue says now: apps, sources, and the
// credentials of owners that are new.
func (a *app) refresh(ctx context.Context) error {
	a.forget()
	if a.owner.Address == "" { // not serving
		return nil
	}
	tokens, users, err := a.credentials(ctx)
	if err != nil {
		return err
	}
	a.setTokens(tokens)
	return a.server.SetUsers(users)
}

// Time limits of the HTTP server.
const (
	headerTimeout   = 10 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 10 * time.Second
)

// serve answers until ctx ends or the background work fails.
func (a *app) serve(ctx context.Context, e *env, address string) error {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return usageError(fmt.Errorf("--listen %s: want a loopback address such as 127.0.0.1:8480; put a proxy with TLS in front for others", address))
	}
	tokens, users, err := a.credentials(ctx)
	if err != nil {
		return err
	}
	if err := a.server.SetUsers(users); err != nil {
		return err
	}
	a.router = &jetstream.Router{Streams: a.streams, Gate: func(ctx context.Context, m jetstream.Incoming) ([]byte, error) {
		return a.gate().AdmitMessage(ctx, m.Source, m.Header, m.Body, m.Where)
	}}
	a.run("router", a.router.Run)
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	local := localHandler{app: a, token: newToken()}
	events := a.eventsHandler(tokens)
	mux := http.NewServeMux()
	mux.Handle(httpin.Path, events)
	mux.Handle(httpin.OpenMeterPath, events)
	mux.Handle("POST "+localPath, local)
	mux.HandleFunc("GET /healthz", a.serveHealth)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
	a.owner.Address, a.owner.Token = l.Addr().String(), local.token
	if err := a.lock.write(a.owner); err != nil {
		return errors.Join(err, l.Close())
	}
	fmt.Fprintf(e.out, "mete serves %s\n  HTTP  http://%s%s\n", a.dir, l.Addr(), httpin.Path)
	if a.server.URL() != "" {
		fmt.Fprintf(e.out, "  NATS  %s, subjects intake.SOURCE\n", a.server.URL())
	}
	fmt.Fprintf(e.out, "  credentials of %d owners in %s\n", len(tokens), a.path(credentialsName))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err = <-served:
	case err = <-a.failed:
		a.failed <- err
		slog.Error("the service stops", "error", err)
	case <-ctx.Done():
		err = nil
	}
	end, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	return errors.Join(err, srv.Shutdown(end))
}

// health is what the service says of itself.
type health struct {
	OK     bool             `json:"ok"`
	Error  string           `json:"error,omitempty"`
	Worker jetstream.Health `json:"worker"`
	Queued int              `json:"queued"` // events taken and not yet on disk
}

func (a *app) health(ctx context.Context) health {
	h := health{OK: true, Queued: a.intake.Queued()}
	w, err := a.worker.Health(ctx)
	h.Worker = w
	if err == nil {
		err = w.Err
	}
	select {
	case failed := <-a.failed:
		a.failed <- failed
		err = failed
	default:
	}
	if err != nil {
		h.OK, h.Error = false, err.Error()
	}
	return h
}

func (a *app) serveHealth(w http.ResponseWriter, r *http.Request) {
	h := a.health(r.Context())
	w.Header().Set("Content-Type", "application/json")
	if !h.OK {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(h)
}

func statusCommand(e *env) *cobra.Command {
	return command(e, "status", "How far metering and months are", "mete status", cobra.NoArgs,
		func(ctx context.Context, a *app, _ []string) error {
			months, err := a.closer.Store.Months(ctx)
			if err != nil {
				return err
			}
			counts, err := a.tally(ctx)
			if err != nil {
				return err
			}
			s := status{Health: a.health(ctx), Counts: counts}
			for _, m := range months {
				m.Manifest = nil
				s.Months = append(s.Months, m)
			}
			return e.print(s, s.writeText)
		})
}

// status is what mete status shows.
type status struct {
	Health health                `json:"health"`
	Counts metering.Counts       `json:"counts"`
	Months []billing.MonthStatus `json:"months"`
}

func (s status) writeText(w io.Writer) error {
	state := "healthy"
	if !s.Health.OK {
		state = "NOT HEALTHY: " + s.Health.Error
	}
	fmt.Fprintf(w, "%s; %s events stored, %s duplicates, %s conflicts\n", state, groupInt(s.Counts.Stored), groupInt(s.Counts.Duplicate), groupInt(s.Counts.Conflict))
	for _, l := range s.Health.Worker.Partitions {
		if l.Behind > 0 {
			fmt.Fprintf(w, "  partition %d is %d messages behind\n", l.Partition, l.Behind)
		}
	}
	var rows [][]string
	for _, m := range s.Months {
		rows = append(rows, []string{m.Month.String(), string(m.State), fmt.Sprint(m.Statements), fmt.Sprint(m.Issued)})
	}
	return table(w, []string{"month", "state", "statements", "issued"}, rows, 2, 3)
}
