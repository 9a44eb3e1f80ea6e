package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"mete/catalogue"
	"mete/metering"
	"mete/money"
	"mete/partner"
)

// ingestBatch is how many events are published at once, and ingestAtOnce how many
// batches are under way: memory stays the same however long the file is. One batch
// after the other keeps the order of the file: of two lines with the same identity
// and other content the first counts, however often the file is read.
const (
	ingestBatch  = 4000
	ingestAtOnce = 1
)

// ingestReport is what became of a file.
type ingestReport struct {
	File      string           `json:"file"`
	Source    string           `json:"source"`
	IDRule    string           `json:"id_rule"`
	Lines     int64            `json:"lines"`
	Accepted  int64            `json:"accepted"`
	Refused   int64            `json:"refused"`
	Reasons   map[string]int64 `json:"reasons,omitempty"`
	First     []string         `json:"first_refusals,omitempty"` // where and why, at most a few
	Stored    int64            `json:"stored"`                   // by the store, of what was drained meanwhile
	Duplicate int64            `json:"duplicate"`
	Conflict  int64            `json:"conflict"`
}

func ingestCommand(e *env) *cobra.Command {
	var gateway, mapping, source, appName, class string
	c := command(e, "ingest FILE|-", "Take a gateway's access log or a file of CloudEvents in",
		"mete ingest access.jsonl --gateway nginx\nzcat access.gz | mete ingest - --gateway apache --app northwind-scheduler\nmete ingest events.ndjson --gateway cloudevents",
		cobra.ExactArgs(1), func(ctx context.Context, a *app, args []string) error {
			m, err := e.mapping(gateway, mapping)
			if err != nil {
				return usageError(err)
			}
			snap, err := a.catalogue.Current(ctx)
			if err != nil {
				return err
			}
			o, err := logOptions(snap, m, source)
			if err != nil {
				return usageError(err)
			}
			if appName != "" {
				o.App = partner.AppID(appName)
			}
			if class != "" {
				o.Class = metering.Class(class)
			}
			o.Name = args[0]
			f, size, err := e.open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			report, err := a.ingest(ctx, e, m, o, f, size)
			if err != nil {
				return err
			}
			if err := e.print(report, report.writeText); err != nil {
				return err
			}
			if report.Refused > 0 {
				return found
			}
			return nil
		})
	f := c.Flags()
	f.StringVar(&gateway, "gateway", "", "built-in mapping: "+strings.Join(metering.MappingNames(), ", "))
	f.StringVar(&mapping, "mapping", "", "mapping file (docs/formats.md)")
	f.StringVar(&source, "source", "", "registered source the events belong to (default: the one with this mapping)")
	f.StringVar(&appName, "app", "", "app of all lines, for logs that name none")
	f.StringVar(&class, "class", "", "class of all lines")
	return c
}

// mapping is the built-in mapping or the one in the file.
func (e *env) mapping(gateway, file string) (*metering.Mapping, error) {
	switch {
	case gateway != "" && file != "":
		return nil, errors.New("name a gateway or a mapping file, not both")
	case gateway != "":
		return metering.BuiltInMapping(gateway)
	case file != "":
		b, err := os.ReadFile(e.path(file))
		if err != nil {
			return nil, err
		}
		m, err := metering.LoadMapping(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		return m, nil
	}
	return nil, fmt.Errorf("say what the file is: --gateway NAME (%s) or --mapping FILE", strings.Join(metering.MappingNames(), ", "))
}

// logOptions takes what the log does not say from the registered source.
func logOptions(snap *catalogue.Snapshot, m *metering.Mapping, source string) (metering.LogOptions, error) {
	if m.Format == metering.FormatCloudEvents {
		return metering.LogOptions{}, nil
	}
	var fits []catalogue.Source
	for _, s := range snap.SourceList() {
		if source != "" && s.Name == source || source == "" && (s.Mapping == m.Name || s.Name == m.Source) {
			fits = append(fits, s)
		}
	}
	switch {
	case len(fits) == 1:
		s := fits[0]
		return metering.LogOptions{Source: s.Name, App: s.App, Class: s.Class, Environment: s.Environment}, nil
	case source != "":
		return metering.LogOptions{}, fmt.Errorf("source %q is not registered: add it to the catalogue", source)
	case len(fits) == 0:
		return metering.LogOptions{}, fmt.Errorf("no registered source has the mapping %s: add one to the catalogue or name one with --source", m.Name)
	}
	return metering.LogOptions{}, fmt.Errorf("%d sources have the mapping %s: name one with --source", len(fits), m.Name)
}

// ingest reads the log to its end, publishes what is valid, keeps what is refused and
// waits until the store has counted it. Interrupted, it may be run again from the
// start: what was accepted before is a duplicate then.
func (a *app) ingest(ctx context.Context, e *env, m *metering.Mapping, o metering.LogOptions, in io.Reader, size int64) (ingestReport, error) {
	r := ingestReport{File: o.Name, Source: cmp.Or(o.Source, m.Source), IDRule: m.IDRule(), Reasons: map[string]int64{}}
	before, err := a.tally(ctx)
	if err != nil {
		return r, err
	}
	dir, err := a.directory(ctx)
	if err != nil {
		return r, err
	}
	o.At = e.now()
	count := &countingReader{r: in}
	log, err := m.Reader(count, o)
	if err != nil {
		return r, usageError(err)
	}
	p := newProgress(e)
	defer p.done()
	out := a.newPublisher(ctx)
	for {
		ev, _, refusal, err := log.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && ctx.Err() != nil {
			err = ctx.Err()
		}
		if err != nil {
			return r, errors.Join(fmt.Errorf("%s: %w", o.Name, err), out.wait())
		}
		if refusal == nil {
			refusal = dir.CheckSource(ev.Source, dir.Sources[ev.Source].Owner)
			if refusal == nil {
				refusal = metering.Validate(ev, dir, e.now())
			}
			if refusal != nil {
				refusal.Seal(log.Raw(), log.Where(), e.now())
			}
		}
		if refusal != nil {
			r.refuse(refusal)
			err = out.refuse(*refusal)
		} else {
			r.Accepted++
			err = out.accept(ev)
		}
		if err != nil {
			return r, errors.Join(err, out.wait())
		}
		p.draw("reading "+o.Name, count.n, size, true)
	}
	if err := out.flush(); err != nil {
		return r, err
	}
	p.done()
	r.Lines = log.Counts().Lines
	if err := a.drain(ctx); err != nil {
		return r, err
	}
	after, err := a.tally(ctx)
	if err != nil {
		return r, err
	}
	r.Stored, r.Duplicate, r.Conflict = after.Stored-before.Stored, after.Duplicate-before.Duplicate, after.Conflict-before.Conflict
	return r, nil
}

func (a *app) tally(ctx context.Context) (metering.Counts, error) {
	c, err := a.events.Cutoff(ctx)
	if err != nil {
		return metering.Counts{}, err
	}
	return a.events.Counts(ctx, c)
}

// maxShown bounds how many refusals are shown one by one.
const maxShown = 5

func (r *ingestReport) refuse(f *metering.Refusal) {
	r.Refused++
	r.Reasons[f.Class+"/"+f.Reason]++
	if len(r.First) < maxShown {
		r.First = append(r.First, fmt.Sprintf("%s: %s: %s", f.Where, f.Reason, f.Detail))
	}
}

func (r ingestReport) writeText(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s lines of source %s\n", r.File, groupInt(r.Lines), cmp.Or(r.Source, "(each event's own)"))
	fmt.Fprintf(w, "  accepted %10s   in the store: %s new, %s duplicates, %s conflicts\n", groupInt(r.Accepted), groupInt(r.Stored), groupInt(r.Duplicate), groupInt(r.Conflict))
	fmt.Fprintf(w, "  refused  %10s\n", groupInt(r.Refused))
	for _, k := range sortedKeys(r.Reasons) {
		fmt.Fprintf(w, "    %10s  %s\n", groupInt(r.Reasons[k]), k)
	}
	for _, f := range r.First {
		fmt.Fprintf(w, "    e.g. %s\n", f)
	}
	_, err := fmt.Fprintf(w, "  identity: %s\n", r.IDRule)
	return err
}

func groupInt(n int64) string { return money.Group(fmt.Sprint(n)) }

// countingReader counts the bytes that were read, for the progress bar.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// publisher publishes in batches, a few at once, and keeps refusals in batches too.
type publisher struct {
	a        *app
	ctx      context.Context
	batch    []metering.Event
	refusals []metering.Refusal
	free     chan struct{} // one token for each batch that may be under way
	errs     chan error
}

func (a *app) newPublisher(ctx context.Context) *publisher {
	return &publisher{a: a, ctx: ctx, free: make(chan struct{}, ingestAtOnce), errs: make(chan error, ingestAtOnce)}
}

func (p *publisher) accept(e metering.Event) error {
	p.batch = append(p.batch, e)
	if len(p.batch) < ingestBatch {
		return nil
	}
	return p.send()
}

func (p *publisher) send() error {
	select {
	case err := <-p.errs:
		return err
	case p.free <- struct{}{}:
	}
	batch := p.batch
	p.batch = make([]metering.Event, 0, ingestBatch)
	go func() {
		if _, err := p.a.intake.Accept(p.ctx, batch); err != nil {
			p.errs <- fmt.Errorf("publish: %w", err)
		}
		<-p.free
	}()
	return nil
}

func (p *publisher) refuse(r metering.Refusal) error {
	p.refusals = append(p.refusals, r)
	if len(p.refusals) < ingestBatch {
		return nil
	}
	return p.keep()
}

func (p *publisher) keep() error {
	err := p.a.events.Refuse(p.ctx, p.refusals)
	p.refusals = p.refusals[:0]
	return err
}

// flush sends what is left and waits until all of it is on disk.
func (p *publisher) flush() error {
	if len(p.batch) > 0 {
		if err := p.send(); err != nil {
			return errors.Join(err, p.wait())
		}
	}
	return errors.Join(p.wait(), p.keep())
}

// wait waits for the batches under way.
func (p *publisher) wait() error {
	for range ingestAtOnce {
		p.free <- struct{}{}
	}
	for range ingestAtOnce {
		<-p.free
	}
	select {
	case err := <-p.errs:
		return err
	default:
		return nil
	}
}
