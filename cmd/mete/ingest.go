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

// A file goes through the gate in batches of so many records, or so many bytes of
// them: memory stays the same however long it is. One batch after the other keeps the
// order of the file: of two lines with the same identity and other content the first
// counts, however often the file is read.
const (
	ingestBatch = 4000
	ingestBytes = 4 << 20
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
		func(ctx context.Context, a *app, args []string) error {
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
			f, size, err := e.open(ctx, args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			report, err := a.ingest(ctx, e, m, o, f, size)
			if err != nil {
				return err
			}
			return e.check(report.Refused > 0, report, report.writeText)
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

// mappings are all that are built in and those of the files, by name.
func (e *env) mappings(files []string) (map[string]*metering.Mapping, error) {
	all := map[string]*metering.Mapping{}
	for _, name := range metering.MappingNames() {
		m, err := metering.BuiltInMapping(name)
		if err != nil {
			return nil, err
		}
		all[name] = m
	}
	for _, file := range files {
		m, err := e.mapping("", file)
		if err != nil {
			return nil, err
		}
		if all[m.Name] != nil {
			return nil, fmt.Errorf("%s: there is a mapping %s already; give yours another name", file, m.Name)
		}
		all[m.Name] = m
	}
	return all, nil
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

// ingest takes the log to its end through the gate, the same one that other ways in
// have, and waits until the store has counted it. Interrupted, it may be run again
// from the start: what was accepted before is a duplicate then.
func (a *app) ingest(ctx context.Context, e *env, m *metering.Mapping, o metering.LogOptions, in io.Reader, size int64) (ingestReport, error) {
	r := ingestReport{File: o.Name, Source: cmp.Or(o.Source, m.Source), IDRule: m.IDRule(), Reasons: map[string]int64{}}
	if err := a.drain(ctx); err != nil { // what is on its way from elsewhere counts before
		return r, err
	}
	before, err := a.tally(ctx)
	if err != nil {
		return r, err
	}
	count := &countingReader{r: in}
	log, err := m.Reader(count, o)
	if err != nil {
		return r, usageError(err)
	}
	gate, from := a.gate(), metering.Sender{Any: true, Where: o.Name}
	gate.Now = e.now
	p := newProgress(e)
	defer p.done()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	read := make(chan ingestPart)
	go readParts(ctx, log, count, read)
	for {
		var part ingestPart
		select {
		case part = <-read:
		case <-ctx.Done(): // whoever reads may wait for a terminal for ever
		}
		if ctx.Err() != nil { // it may have cut off what came last, which is then no part
			return r, fmt.Errorf("%s: %w", o.Name, ctx.Err())
		}
		verdicts, err := gate.Admit(ctx, from, part.records)
		if err != nil {
			return r, fmt.Errorf("%s: %w", o.Name, err)
		}
		for _, v := range verdicts {
			r.add(v)
		}
		p.draw("reading "+o.Name, part.read, size, true)
		if errors.Is(part.err, io.EOF) {
			break
		}
		if errors.Is(part.err, metering.ErrNoColumns) {
			return r, usageError(part.err)
		}
		if part.err != nil {
			return r, fmt.Errorf("%s: %w", o.Name, part.err)
		}
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

// ingestPart is a batch of a file's records.
type ingestPart struct {
	records []metering.Decoded
	read    int64 // bytes of the file so far
	err     error // what comes after these records: io.EOF, or why no more can be read
}

// readParts reads the log while the part before is admitted. The last part has an
// error.
func readParts(ctx context.Context, log *metering.LogReader, count *countingReader, to chan<- ingestPart) {
	size := 0 // of the texts of the part before
	for {
		part := ingestPart{records: make([]metering.Decoded, 0, ingestBatch)}
		texts := make([]byte, 0, size+size/8)
		for part.err == nil && len(part.records) < ingestBatch && len(texts) < ingestBytes {
			var d metering.Decoded
			if d, part.err = log.Next(); part.err == nil {
				from := len(texts)
				texts = append(texts, d.Raw...) // good until the next call; a grown slice leaves the old texts where they are
				d.Raw = texts[from:len(texts):len(texts)]
				part.records = append(part.records, d)
			}
		}
		part.read, size = count.n, len(texts)
		select {
		case to <- part:
		case <-ctx.Done():
			return
		}
		if part.err != nil {
			return
		}
	}
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

func (r *ingestReport) add(v metering.Verdict) {
	if v.Refusal == nil {
		r.Accepted++
		return
	}
	f := v.Refusal
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
