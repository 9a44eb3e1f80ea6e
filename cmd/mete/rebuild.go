package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"mete/metering"
	"mete/metering/clickhouse"
	"mete/metering/jetstream"
	"mete/metering/sqlite"
	"mete/money"
)

// What a store may be filled from.
const (
	fromStream = "stream"
	fromStore  = "store"
)

func rebuildCommand(e *env) *cobra.Command {
	c := &cobra.Command{
		Use: "rebuild", Short: "Make keys of the metering store anew, or a new store",
		Long: `Make keys of the metering store anew, or a new store, and compare what was made
with what it was made from. Rebuild keys changes identities alone, rebuild store
fills another store. When and how: docs/operations.md.`,
	}
	c.AddCommand(rebuildKeysCommand(e), rebuildStoreCommand(e))
	return c
}

// keysReport is what came of making keys anew.
type keysReport struct {
	metering.RebuiltKeys
	Findings []string `json:"findings"`
}

func rebuildKeysCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "keys", Short: "Make the identities of stored events anew from their rows",
		Long: `Make the identities of stored events anew from their rows, when they were lost
or are doubted: without its identity an event that is sent again counts twice.
On ClickHouse the segments of the key filter are made anew too. Rows,
duplicates, conflicts and redactions stay. The store then checks itself. It
may be stopped and run again. Stop workers on other machines first.`,
		Example: "  mete rebuild keys", Args: positional,
		RunE: func(c *cobra.Command, _ []string) error {
			return e.withApp(c.Context(), options{still: true}, func(ctx context.Context, a *app) error {
				p := newProgress(e)
				defer p.done()
				var r keysReport
				var err error
				if r.RebuiltKeys, err = a.events.RebuildKeys(ctx, func(done, of int64) { p.draw("keys", done, of, false) }); err != nil {
					return err
				}
				p.draw("the store checks itself", 0, -1, false)
				if r.Findings, err = a.events.Check(ctx); err != nil {
					return err
				}
				p.done()
				return e.check(len(r.Findings) > 0, r, r.writeText)
			})
		},
	}
}

func (r keysReport) writeText(w io.Writer) error {
	fmt.Fprintf(w, "keys of %s stored events\n", groupInt(r.Rows))
	fmt.Fprintf(w, "  were right  %12s\n  added       %12s\n  removed     %12s\n", groupInt(r.Right), groupInt(r.Added), groupInt(r.Removed))
	for _, f := range r.Findings {
		fmt.Fprintf(w, "! %s\n", f)
	}
	_, err := fmt.Fprintf(w, "difference %d\n", len(r.Findings))
	return err
}

// rebuildOptions say which store is filled, and from what.
type rebuildOptions struct {
	from    string
	to      string
	cluster string
	verify  bool // compare alone
}

func rebuildStoreCommand(e *env) *cobra.Command {
	var o rebuildOptions
	c := &cobra.Command{
		Use: "store", Short: "Fill a new metering store from the stream or from the store in use",
		Long: `Fill a new metering store from the stream or from the store in use, with all
that this one was filled with: from the stream, if that still has every message
from the first one on, or from the store itself. What was refused, redactions and what sources
said of themselves are taken over from the store in use. Then the new store is
compared with what it was filled from, message by message and in counts and
sums, and checks itself. The store in use is only read. Stopped or killed and
run again, it goes on.

--to names a file that is not there yet, an empty database of ClickHouse, or a
configuration (.yaml) whose part metering names one. How to go over to the new
store: docs/operations.md.`,
		Example: indent("mete rebuild store --from stream --to events-new.db\nmete rebuild store --from store --to new-store.yaml\nmete rebuild store --from store --to http://ch.example:8123/mete2\nmete rebuild store --from store --to events-new.db --verify"),
		Args:    positional,
		RunE: func(c *cobra.Command, _ []string) error {
			return e.withApp(c.Context(), options{still: true}, func(ctx context.Context, a *app) error {
				if e.app != nil {
					return usageError(errors.New("a service owns the data folder: what it takes in meanwhile would not be in the new store; stop it first"))
				}
				r, err := a.rebuild(ctx, e, o)
				if err != nil {
					return err
				}
				return e.check(r.Told > 0, r, r.writeText)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&o.from, "from", "", "what the new store is filled from: stream or store")
	f.StringVar(&o.to, "to", "", "the new store: a file, a DSN of ClickHouse, or a configuration that names one")
	f.StringVar(&o.cluster, "cluster", "", "of ClickHouse, with a DSN; empty: a single server")
	f.BoolVar(&o.verify, "verify", false, "fill nothing: compare a store that was filled before, up to where it is")
	required(c, "from", "to")
	before := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		if err := before(c, args); err != nil {
			return err
		}
		if o.from != fromStream && o.from != fromStore {
			return usageError(fmt.Errorf("--from %q: want %s or %s", o.from, fromStream, fromStore))
		}
		if o.cluster != "" && !isDSN(o.to) {
			return usageError(errors.New("--cluster goes with a DSN of ClickHouse"))
		}
		return nil
	}
	return c
}

// newStore is a store that is filled anew.
type newStore interface {
	metering.Refillable
	Rebuilt(context.Context) error
	Close() error
}

func isDSN(to string) bool {
	for _, scheme := range []string{"clickhouse://", "tcp://", "http://", "https://"} {
		if strings.HasPrefix(to, scheme) {
			return true
		}
	}
	return false
}

// openNew opens the store that is to be filled, or, to verify, one that was. What it is
// called has no password in it.
func (e *env) openNew(ctx context.Context, o rebuildOptions) (s newStore, called string, err error) {
	m, called := meteringConfig{ClickHouse: o.to, Cluster: o.cluster}, "the database at --to"
	switch ext := filepath.Ext(o.to); {
	case isDSN(o.to):
	case ext == ".yaml" || ext == ".yml":
		c, err := decodeConfig(o.to, e.path(o.to), true)
		if err != nil {
			return nil, "", err
		}
		if m, called = c.Metering, "the database of "+o.to; m.ClickHouse == "" {
			return nil, "", usageError(fmt.Errorf("%s: metering.clickhouse is not set; for a SQLite file give its name to --to", o.to))
		}
	default:
		s, err := openNewFile(e.path(o.to), o.verify)
		if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
			err = usageError(err)
		}
		return s, o.to, err
	}
	options := m.options()
	options.New = !o.verify
	if s, err = clickhouse.Open(ctx, options); errors.Is(err, clickhouse.ErrInUse) {
		err = usageError(err)
	}
	return s, called, err
}

func openNewFile(path string, verify bool) (newStore, error) {
	if !verify {
		return sqlite.OpenNew(path)
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	return sqlite.Open(path)
}

// rebuildReport is what a new store was filled with, and how it compares.
type rebuildReport struct {
	From     string `json:"from"`
	To       string `json:"to"`
	Verified bool   `json:"verified_only,omitempty"`
	metering.Comparison
}

// rebuild fills a new store, compares it, and makes it one to be used if it is as it must
// be.
func (a *app) rebuild(ctx context.Context, e *env, o rebuildOptions) (report rebuildReport, err error) {
	history := jetstream.History{Streams: a.streams, Incarnation: a.incarn}
	if o.from == fromStream {
		err := history.Whole(ctx)
		if errors.Is(err, metering.ErrGap) {
			return report, usageError(fmt.Errorf("the stream does not have everything from its first message on; fill the new store from the store in use, with --from store: %w", err))
		}
		if err != nil {
			return report, err
		}
	}
	to, called, err := e.openNew(ctx, o)
	if err != nil {
		return report, err
	}
	whole := false
	defer func() {
		if !whole {
			err = errors.Join(err, to.Close())
		}
	}()
	p := newProgress(e)
	defer p.done()
	r := &metering.Refill{Old: a.events, To: to, Name: a.streams.Name(), Partitions: a.streams.Partitions(), Progress: func(step string, done, of int64) { p.draw(step, done, of, false) }}
	if o.from == fromStream {
		r.Stream = history
	}
	if r.UpTo, err = a.rebuildUpTo(ctx, to, o); err != nil {
		return report, err
	}
	if !o.verify {
		if err := r.Run(ctx); err != nil {
			return report, err
		}
	}
	report = rebuildReport{From: o.from, To: called, Verified: o.verify}
	if report.Comparison, err = r.Verify(ctx); err != nil || report.Told > 0 || o.verify {
		return report, err
	}
	whole = true
	return report, to.Rebuilt(ctx)
}

// rebuildUpTo is up to where the new store is filled, or was.
func (a *app) rebuildUpTo(ctx context.Context, to metering.Store, o rebuildOptions) (metering.Cutoff, error) {
	switch {
	case o.verify:
		return to.Cutoff(ctx)
	case o.from == fromStream:
		return a.streams.Last(ctx, a.incarn)
	}
	return a.events.Cutoff(ctx)
}

func (r rebuildReport) writeText(w io.Writer) error {
	from := map[string]string{fromStream: "the stream", fromStore: "the store in use"}[r.From]
	done := "filled"
	switch {
	case r.Verified:
		done = "compared"
	case r.Told > 0:
		done = "filled, and not as it must be,"
	}
	fmt.Fprintf(w, "%s %s from %s, up to %s\n", r.To, done, from, r.UpTo)
	var rows [][]string
	for _, c := range r.Compared {
		mark := "="
		if !c.OK {
			mark = "≠"
		}
		rows = append(rows, []string{c.What, money.Group(c.From), mark, money.Group(c.To)})
	}
	if err := table(w, []string{"compared", "", "", ""}, rows, 1, 3); err != nil {
		return err
	}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "! %s\n", f)
	}
	if more := r.Told - len(r.Findings); more > 0 {
		fmt.Fprintf(w, "! and %d more\n", more)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	_, err := fmt.Fprintf(w, "difference %d\n", r.Told)
	return err
}
