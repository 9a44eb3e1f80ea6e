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
	"strings"
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
	var work bool
	var files []string
	c := &cobra.Command{
		Use: "serve", Short: "Run the service: HTTP and NATS ways in, metering, commands of this machine",
		Example: "  mete serve --listen 127.0.0.1:8480 --nats-port 4222", Args: positional,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx := c.Context()
			mappings, err := e.mappings(files)
			if err != nil {
				return usageError(err)
			}
			a, _, err := openApp(ctx, e, options{begin: true, listenNATS: true, natsPort: natsPort, work: work})
			if err != nil {
				return unlessStopped(ctx, err)
			}
			if err := errors.Join(a.serve(ctx, e, address, mappings), a.close()); err != nil || e.json {
				return err
			}
			fmt.Fprintln(e.out, "stopped; all that was accepted is on disk")
			return nil
		},
	}
	c.Flags().StringVar(&address, "listen", "127.0.0.1:8480", "loopback address of the HTTP API; port 0 takes a free one")
	c.Flags().IntVar(&natsPort, "nats-port", 0, "port of the loopback NATS listener; 0 takes a free one")
	c.Flags().StringArrayVar(&files, "mapping", nil, "mapping file of your own, for logs that come over HTTP; may be given again")
	c.Flags().BoolVar(&work, "work", true, "where workers on several machines fill the store, be one of them")
	return c
}

// credentialsName is the file that holds a token for each owner of sources. It is
// made when the service first needs it, and readable by the folder's owner only.
const credentialsName = "credentials.json"

// credentials reads the tokens of all owners that the catalogue names, making those
// that are missing.
func (a *app) credentials(ctx context.Context) (map[string]string, []jetstream.SourceUser, error) {
	snap, err := a.catalogue.Current(ctx)
	if err != nil && !errors.Is(err, catalogue.ErrNoMarketplace) {
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
func (a *app) gate() *metering.Gate {
	return &metering.Gate{Directory: a.directory, Intake: a.intake, Quarantine: a.events, Now: func() time.Time { return a.now() }}
}

// eventsHandler takes events over HTTP from the owners of the tokens, and logs of the
// sources that have one of the mappings.
func (a *app) eventsHandler(tokens map[string]string, mappings map[string]*metering.Mapping) *httpin.Handler {
	a.setTokens(tokens)
	return &httpin.Handler{Gate: a.gate(), Mappings: mappings, Owner: func(ctx context.Context, token string) (string, bool) {
		a.mu.Lock()
		known := a.tokens
		a.mu.Unlock()
		return known.Owner(ctx, token)
	}}
}

// setUsers tells the broker of this process who may publish. Brokers elsewhere have
// their own users, see docs/operations.md.
func (a *app) setUsers(users []jetstream.SourceUser) error {
	if a.server == nil {
		return nil
	}
	return a.server.SetUsers(users)
}

// natsURL is where producers that speak NATS connect.
func (a *app) natsURL() string {
	if a.server == nil {
		return strings.Join(a.config.Stream.URLs, ",")
	}
	return a.server.URL()
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

// admitProducers lets the owners of sources in over NATS, takes what they publish
// through the gate from then on, and returns their tokens.
func (a *app) admitProducers(ctx context.Context) (map[string]string, error) {
	tokens, users, err := a.credentials(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.setUsers(users); err != nil {
		return nil, err
	}
	a.route()
	return tokens, nil
}

// route takes what NATS producers publish through the gate from now on.
func (a *app) route() {
	a.routing.Do(func() {
		r := &jetstream.Router{Streams: a.streams, Gate: func(ctx context.Context, m jetstream.Incoming) ([]byte, error) {
			return a.gate().AdmitMessage(ctx, m.Source, m.Header, m.Body, m.Where)
		}}
		a.run("router", r.Run)
	})
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
	return a.setUsers(users)
}

// Time limits of the HTTP server.
const (
	headerTimeout   = 10 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 10 * time.Second
)

// serve answers until ctx ends or the background work fails.
func (a *app) serve(ctx context.Context, e *env, address string, mappings map[string]*metering.Mapping) error {
	l, err := listenLoopback(address)
	if err != nil {
		return err
	}
	tokens, err := a.admitProducers(ctx)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	local := localHandler{app: a, token: newToken()}
	events := a.eventsHandler(tokens, mappings)
	mux := http.NewServeMux()
	for _, path := range httpin.Paths {
		mux.Handle(path, events)
	}
	mux.Handle(httpin.SourcesPath, &httpin.Sources{Events: events, Facts: a.events})
	mux.Handle("POST "+localPath, local)
	mux.HandleFunc("GET /healthz", a.serveHealth)
	a.run("disk", a.keepDisk)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
	a.owner.Address, a.owner.Token = l.Addr().String(), local.token
	if err := a.lock.write(a.owner); err != nil {
		return errors.Join(err, l.Close())
	}
	s := serving{Dir: a.dir, HTTP: fmt.Sprintf("http://%s%s", l.Addr(), httpin.Path), NATS: a.natsURL(), Owners: len(tokens), Credentials: a.path(credentialsName)}
	if err := e.print(s, s.writeText); err != nil {
		return errors.Join(err, l.Close())
	}
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

func listenLoopback(address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return nil, usageError(fmt.Errorf("--listen %s: want a loopback address such as 127.0.0.1:8480; put a proxy with TLS in front for others", address))
	}
	return net.Listen("tcp", address)
}

// serving says where the service is reached.
type serving struct {
	Dir         string `json:"dir"`
	HTTP        string `json:"http"`
	NATS        string `json:"nats,omitempty"`
	Owners      int    `json:"owners"`
	Credentials string `json:"credentials"`
}

func (s serving) writeText(w io.Writer) error {
	fmt.Fprintf(w, "mete serves %s\n  HTTP  %s\n", s.Dir, s.HTTP)
	if s.NATS != "" {
		fmt.Fprintf(w, "  NATS  %s, subjects intake.SOURCE\n", s.NATS)
	}
	_, err := fmt.Fprintf(w, "  credentials of %d owners in %s\n", s.Owners, s.Credentials)
	return err
}

// health is what a process says of metering.
type health struct {
	OK        bool              `json:"ok"`
	Error     string            `json:"error,omitempty"`
	Warnings  []string          `json:"warnings,omitempty"` // what somebody must see to before it is an error
	Freshness float64           `json:"freshness_seconds"`  // how long the oldest event that is not stored waits
	Worker    jetstream.Health  `json:"worker"`
	Leases    []jetstream.Lease `json:"leases,omitempty"` // who fills which partition
	Queued    int               `json:"queued"`           // events taken and not yet on disk
	Brokers   jetstream.Brokers `json:"brokers"`
	Disk      *diskUse          `json:"disk,omitempty"`

	CheckpointAt time.Time `json:"checkpoint_at,omitzero"` // up to where the stream may expire
}

// healthOf asks the worker, whoever does the work.
func healthOf(ctx context.Context, worker *jetstream.Worker) health {
	h := health{OK: true}
	w, err := worker.Health(ctx)
	h.Worker, h.Freshness = w, w.Freshness(time.Now()).Seconds()
	if worker.Leases != nil {
		h.Leases, _ = worker.Leases.State() // its error is in w.Err
	}
	h.fail(errors.Join(err, w.Err))
	h.Brokers = worker.Streams.Brokers()
	h.warn(h.Brokers.Unchecked())
	return h
}

func (h *health) warn(text string) {
	if text != "" {
		h.Warnings = append(h.Warnings, text)
	}
}

func (h *health) fail(err error) {
	if err != nil {
		h.OK, h.Error = false, errors.Join(h.said(), err).Error()
	}
}

// said is what was wrong before.
func (h *health) said() error {
	if h.Error == "" {
		return nil
	}
	return errors.New(h.Error)
}

func (a *app) health(ctx context.Context) health {
	h := healthOf(ctx, a.worker)
	h.Queued = a.intake.Queued()
	checkpoint, err := a.unheld(time.Now())
	h.CheckpointAt = checkpoint
	h.fail(err)
	if disk, err := a.disk.look(h.Worker.Partitions, time.Now()); err != nil {
		h.warn("disk: " + err.Error())
	} else {
		h.Disk = &disk
		h.fail(disk.red())
		h.warn(disk.warning())
	}
	select {
	case failed := <-a.failed:
		a.failed <- failed
		h.fail(failed)
	default:
	}
	return h
}

func (a *app) serveHealth(w http.ResponseWriter, r *http.Request) {
	a.health(r.Context()).serve(w)
}

// serve answers 200 if all is well, else 503: a monitor need not read the rest.
func (h health) serve(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	if !h.OK {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(h)
}

func statusCommand(e *env) *cobra.Command {
	return command(e, "status", "How far metering and months are", "mete status",
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
	for _, text := range s.Health.Warnings {
		fmt.Fprintf(w, "  ! %s\n", text)
	}
	if s.Health.Disk != nil {
		if err := s.Health.Disk.writeText(w); err != nil {
			return err
		}
	}
	for _, l := range s.Health.Worker.Partitions {
		if l.Behind > 0 {
			fmt.Fprintf(w, "  partition %d is %d messages behind\n", l.Partition, l.Behind)
		}
	}
	if len(s.Months) == 0 {
		_, err := fmt.Fprintln(w, "no month is closed")
		return err
	}
	var rows [][]string
	for _, m := range s.Months {
		rows = append(rows, []string{m.Month.String(), string(m.State), fmt.Sprint(m.Statements), fmt.Sprint(m.Issued)})
	}
	return table(w, []string{"month", "state", "statements", "issued"}, rows, 2, 3)
}
