package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
	"github.com/spf13/cobra"

	"mete/metering"
	"mete/metering/phi"
	"mete/money"
	"mete/partner"
)

func compareCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "compare", Short: "Compare somebody else's log with ours, event by event"}
	c.AddCommand(compareEventsCommand(e))
	return c
}

// compareOptions say what is compared with what.
type compareOptions struct {
	source      string
	from, until time.Time
	limit       int // differences that are shown one by one
	export      string
}

func compareEventsCommand(e *env) *cobra.Command {
	var gateway, mapping, appName, class, from, until string
	var o compareOptions
	c := command(e, "events FILE|-", "Compare a partner's own log with the metered events: what is missing on either side, what differs",
		"mete compare events northwind-september.csv --source billing --from 2026-09-01T00:00:00Z --until 2026-10-01T00:00:00Z\nmete compare events access.jsonl --gateway nginx --export differences.csv",
		func(ctx context.Context, a *app, args []string) error {
			var err error
			if o.from, err = optional(parseInstant, "--from", from); err != nil {
				return err
			}
			if o.until, err = optional(parseInstant, "--until", until); err != nil {
				return err
			}
			f, size, err := e.open(ctx, args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			count := &countingReader{r: f}
			claims, err := a.claims(ctx, e, count, args[0], &o, gateway, mapping, appName, class)
			if err != nil {
				return err
			}
			report, err := a.compareEvents(ctx, e, claims, args[0], o, func(p *progress) { p.draw("reading "+args[0], count.n, size, true) })
			if err != nil {
				return err
			}
			return e.check(report.Differences() > 0, report, report.writeText)
		})
	f := c.Flags()
	f.StringVar(&o.source, "source", "", "source of records that name none; others are left out")
	f.StringVar(&from, "from", "", "first instant that is compared, RFC 3339 (default: the file's first)")
	f.StringVar(&until, "until", "", "first instant after (default: behind the file's last)")
	f.IntVar(&o.limit, "limit", 20, "show at most so many differences")
	f.StringVar(&o.export, "export", "", "CSV file for all differences")
	f.StringVar(&gateway, "gateway", "", "the file is a gateway's log: "+strings.Join(metering.MappingNames(), ", "))
	f.StringVar(&mapping, "mapping", "", "the file is a log with this mapping file (docs/formats.md)")
	f.StringVar(&appName, "app", "", "app of all lines, for logs that name none")
	f.StringVar(&class, "class", "", "class of all lines")
	return c
}

// claims reads the file as a log of records, or as a gateway's.
func (a *app) claims(ctx context.Context, e *env, in io.Reader, name string, o *compareOptions, gateway, mapping, appName, class string) (*metering.ClaimReader, error) {
	if gateway == "" && mapping == "" {
		r, err := metering.Claims(in)
		if err != nil {
			err = usageError(fmt.Errorf("%s: %w", name, err))
		}
		return r, err
	}
	m, err := e.mapping(gateway, mapping)
	if err != nil {
		return nil, usageError(err)
	}
	snap, err := a.catalogue.Current(ctx)
	if err != nil {
		return nil, err
	}
	lo, err := logOptions(snap, m, o.source)
	if err != nil {
		return nil, usageError(err)
	}
	lo.Name = name
	if appName != "" {
		lo.App = partner.AppID(appName)
	}
	if class != "" {
		lo.Class = metering.Class(class)
	}
	o.source = cmp.Or(o.source, lo.Source)
	log, err := m.Reader(in, lo)
	if err != nil {
		return nil, usageError(err)
	}
	return metering.LogClaims(log), nil
}

// The kinds of differences.
const (
	diffContent   = "differs"
	diffHere      = "missing here"
	diffThere     = "missing there"
	diffDuplicate = "duplicate"
	diffBad       = "unreadable"
)

// difference is one record or event about which two logs do not agree.
type difference struct {
	Kind   string                     `json:"kind"`
	Line   int                        `json:"line,omitempty"` // of their file
	Source string                     `json:"source,omitempty"`
	ID     string                     `json:"id,omitempty"` // not told where it looks like what must not be kept
	Key    *metering.Key              `json:"key,omitempty"`
	Reason string                     `json:"reason,omitempty"`
	Detail string                     `json:"detail,omitempty"`
	Fields []metering.FieldDifference `json:"fields,omitempty"`
}

// comparison is what became of a comparison.
type comparison struct {
	File        string                 `json:"file"`
	Sources     []string               `json:"sources"`
	From        time.Time              `json:"from,omitzero"`
	Until       time.Time              `json:"until,omitzero"`
	Records     int64                  `json:"records"`
	Matched     int64                  `json:"matched"`
	Differ      int64                  `json:"differ"`
	Missing     int64                  `json:"missing_here"`
	Why         map[string]int64       `json:"missing_here_because,omitempty"`
	Duplicates  int64                  `json:"duplicates"` // in their file
	Unreadable  int64                  `json:"unreadable"` // lines
	Outside     int64                  `json:"outside"`    // of their records: another source or time, not compared
	Ours        int64                  `json:"ours"`       // of our events of these sources and times
	Absent      int64                  `json:"missing_there"`
	Amounts     map[string]*bothAmount `json:"amounts,omitempty"` // by currency, of what was compared
	Ignored     []string               `json:"ignored_columns,omitempty"`
	First       []difference           `json:"first_differences,omitempty"`
	limit, told int
	export      *csv.Writer
}

// bothAmount is the sum that each side says.
type bothAmount struct {
	Theirs decimal.Decimal `json:"theirs"`
	Ours   decimal.Decimal `json:"ours"`
}

// Differences is how many records and events do not agree.
func (c *comparison) Differences() int64 {
	return c.Differ + c.Missing + c.Duplicates + c.Unreadable + c.Absent
}

// compareBatch is how many records are looked up at a time.
const compareBatch = 250

// compareEvents holds a log against the store, in memory that does not grow with it:
// records are looked up batch by batch, and which keys the log has lies on disk.
func (a *app) compareEvents(ctx context.Context, e *env, claims *metering.ClaimReader, name string, o compareOptions, draw func(*progress)) (c *comparison, err error) {
	if err := a.drain(ctx); err != nil {
		return nil, err
	}
	keys, err := newSeenKeys(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, keys.close()) }()
	snap, err := a.catalogue.Current(ctx)
	if err != nil {
		return nil, err
	}
	c = &comparison{File: name, From: o.from, Until: o.until, Why: map[string]int64{}, Amounts: map[string]*bothAmount{}, limit: o.limit}
	if o.export != "" {
		f, err := os.Create(e.path(o.export))
		if err != nil {
			return nil, usageError(err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		c.export = csv.NewWriter(f)
		if err := c.export.Write([]string{"kind", "line", "source", "id", "key", "reason", "detail", "field", "theirs", "ours"}); err != nil {
			return nil, err
		}
	}
	run := &comparing{comparison: c, app: a, keys: keys, options: o, sources: map[string]bool{}}
	for _, s := range snap.SourceList() {
		run.registered = append(run.registered, s.Name)
	}
	p := newProgress(e)
	defer p.done()
	if err := run.theirs(ctx, claims, func() { draw(p) }); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.done()
	if err := run.ours(ctx, func(n int64) { p.draw("looking for ours", n, -1, false) }); err != nil {
		return nil, err
	}
	c.Ignored = claims.Ignored()
	c.Sources = sortedKeys(run.sources)
	if c.export != nil {
		c.export.Flush()
		err = c.export.Error()
	}
	return c, err
}

// comparing is a comparison that is under way.
type comparing struct {
	*comparison
	app        *app
	keys       *seenKeys
	options    compareOptions
	registered []string
	sources    map[string]bool // that were compared

	waiting     []difference // of the batch, told in the order of lines
	first, last time.Time    // of their records that say a time
	timeless    bool         // one says none
}

// theirs goes through their log once.
func (r *comparing) theirs(ctx context.Context, claims *metering.ClaimReader, draw func()) error {
	var batch []metering.Claim
	for {
		c, err := claims.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err == nil {
			batch = append(batch, c)
		}
		if len(batch) == compareBatch || err != nil && len(batch) > 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.batch(ctx, batch); err != nil {
				return err
			}
			slices.SortStableFunc(r.waiting, func(a, b difference) int { return cmp.Compare(a.Line, b.Line) })
			r.tellWaiting()
			batch = batch[:0]
			draw()
		}
		if err != nil {
			return nil
		}
	}
}

// claimed is a record that is compared.
type claimed struct {
	metering.Claim
	key metering.Key
}

func (r *comparing) batch(ctx context.Context, batch []metering.Claim) error {
	var asked []claimed
	for _, c := range batch {
		r.Records++
		if c.Bad() == "" {
			if c.Source == "" {
				c.Source = r.options.source
			}
			if c.Source != "" && r.outside(&c) {
				r.Outside++
				continue
			}
		}
		switch {
		case c.Bad() != "":
			why, err := r.refusedAs(ctx, c.Digest, c.Receipt)
			if err != nil {
				return err
			}
			r.Unreadable++
			r.tell(difference{Kind: diffBad, Line: c.Line, Reason: c.Bad(), Detail: why})
		case c.Source == "":
			r.Unreadable++
			r.tell(difference{Kind: diffBad, Line: c.Line, Reason: "names no source", Detail: "say whose records these are: --source SOURCE"})
		default:
			asked = append(asked, claimed{c, metering.KeyOf(c.Source, c.ID)})
		}
	}
	fresh, err := r.keys.add(ctx, asked)
	if err != nil {
		return err
	}
	var unique []claimed
	for i, c := range asked {
		if first := fresh[i]; first.line != c.Line {
			r.Duplicates++
			reason := "with the same content"
			if first.digest != c.Digest {
				reason = "with other content"
			}
			r.tell(difference{Kind: diffDuplicate, Line: c.Line, Source: c.Source, ID: shownID(c.ID), Key: &c.key, Reason: reason, Detail: fmt.Sprintf("the first is on line %d", first.line)})
			continue
		}
		unique = append(unique, c)
		r.sources[c.Source] = true
		if c.Says("time") {
			if at := c.Event.Time; r.first.IsZero() || at.Before(r.first) {
				r.first = at
			}
			if c.Event.Time.After(r.last) {
				r.last = c.Event.Time
			}
		} else {
			r.timeless = true
		}
		r.amount(&c.Event, true)
	}
	if len(unique) == 0 {
		return nil
	}
	ids := make([]metering.Key, len(unique))
	for i := range unique {
		ids[i] = unique[i].key
	}
	found, err := r.app.events.FindMany(ctx, ids)
	if err != nil {
		return err
	}
	var missing []claimed
	for _, c := range unique {
		f, ok := found[c.key]
		if !ok {
			missing = append(missing, c)
			continue
		}
		if err := r.held(ctx, &c, f); err != nil {
			return err
		}
	}
	return r.missing(ctx, missing)
}

// outside reports whether a record is not asked for.
func (r *comparing) outside(c *metering.Claim) bool {
	if r.options.source != "" && c.Source != r.options.source {
		return true
	}
	at := c.Event.Time
	return c.Says("time") && (!r.From.IsZero() && at.Before(r.From) || !r.Until.IsZero() && !at.Before(r.Until))
}

// held compares a record with the event that we have.
func (r *comparing) held(ctx context.Context, c *claimed, f metering.Found) error {
	e := f.Event
	switch {
	case f.Voided != nil:
		r.lost(c, "voided", "we have it, and a later event took it out at "+positionText(*f.Voided))
		return nil
	case e.Data.Environment == metering.Sandbox && !c.Says("environment"):
		r.lost(c, "sandbox", "we have it from a sandbox: metered, never billed")
		return nil
	}
	fields := c.Differences(&e.Event)
	if len(fields) > 0 {
		var err error
		if fields, err = r.withoutRedacted(ctx, c.key, fields); err != nil {
			return err
		}
	}
	if len(fields) == 0 {
		r.Matched++
		return nil
	}
	r.Differ++
	r.tell(difference{Kind: diffContent, Line: c.Line, Source: c.Source, ID: shownID(c.ID), Key: &c.key, Fields: shownFields(fields)})
	return nil
}

// withoutRedacted leaves out fields whose value here was overwritten.
func (r *comparing) withoutRedacted(ctx context.Context, k metering.Key, fields []metering.FieldDifference) ([]metering.FieldDifference, error) {
	if !slices.ContainsFunc(fields, func(f metering.FieldDifference) bool { return strings.HasPrefix(f.Ours, "redacted:") }) {
		return fields, nil
	}
	f, err := r.app.events.Find(ctx, k)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(fields, func(d metering.FieldDifference) bool {
		return slices.ContainsFunc(f.Redactions, func(x metering.Redaction) bool { return d.Ours == x.Tombstone() })
	}), nil
}

// lost tells of a record that does not count here, and why.
func (r *comparing) lost(c *claimed, reason, detail string) {
	r.Missing++
	r.Why[reason]++
	r.tell(difference{Kind: diffHere, Line: c.Line, Source: c.Source, ID: shownID(c.ID), Key: &c.key, Reason: reason, Detail: detail})
}

// missing finds out why we do not have records: they were refused, under their key, as
// the same line, or under the receipt that was told; they came from another source; they
// never came.
func (r *comparing) missing(ctx context.Context, cs []claimed) error {
	if len(cs) == 0 {
		return nil
	}
	var q metering.RefusedQuery
	for _, c := range cs {
		q.Keys = append(q.Keys, c.key)
		q.Digests = append(q.Digests, c.Digest)
		if c.Receipt != "" {
			q.IDs = append(q.IDs, c.Receipt)
		}
	}
	byKey, byDigest, byReceipt := map[metering.Key]*metering.Refused{}, map[string]*metering.Refused{}, map[string]*metering.Refused{}
	rs, err := r.app.events.Refused(ctx, q)
	if err != nil {
		return err
	}
	for i := range rs {
		f := &rs[i]
		byDigest[f.Digest], byReceipt[f.ID] = f, f
		if e, err := metering.DecodeCanonical(f.Event); err == nil {
			byKey[e.Key()] = f
		}
	}
	var never []claimed
	for _, c := range cs {
		f := cmp.Or(byKey[c.key], byReceipt[c.Receipt], byDigest[c.Digest])
		if f == nil {
			never = append(never, c)
			continue
		}
		r.lost(&c, "refused: "+f.Newest().Reason, refusedDetail(f))
	}
	return r.elsewhere(ctx, never)
}

func refusedDetail(f *metering.Refused) string {
	return fmt.Sprintf("receipt %s, %s", f.ID, refusedState(f))
}

// refusedAs says whether a line that is no event was refused here.
func (r *comparing) refusedAs(ctx context.Context, digest, receipt string) (string, error) {
	if digest == "" {
		return "", nil
	}
	q := metering.RefusedQuery{Digests: []string{digest}, Limit: 1}
	if receipt != "" {
		q.IDs = []string{receipt}
	}
	rs, err := r.app.events.Refused(ctx, q)
	if err != nil || len(rs) == 0 {
		return "", err
	}
	return "refused here, too: " + rs[0].Reason + ", " + refusedDetail(&rs[0]), nil
}

// elsewhere looks for records under the ids of other sources.
func (r *comparing) elsewhere(ctx context.Context, cs []claimed) error {
	under := make([]string, len(cs)) // source that has it
	for _, source := range r.registered {
		keys := make([]metering.Key, 0, len(cs))
		for i := range cs {
			if under[i] == "" && cs[i].Source != source {
				keys = append(keys, metering.KeyOf(source, cs[i].ID))
			}
		}
		found, err := r.app.events.FindMany(ctx, keys)
		if err != nil {
			return err
		}
		for i := range cs {
			if _, ok := found[metering.KeyOf(source, cs[i].ID)]; ok && under[i] == "" && cs[i].Source != source {
				under[i] = source
			}
		}
	}
	for i := range cs {
		if under[i] != "" {
			r.lost(&cs[i], "other source", "an event of this id came from source "+under[i])
		} else {
			r.lost(&cs[i], "never came", "no event, and no refusal that we can tell to be this one")
		}
	}
	return nil
}

// ours goes through our events of the same sources and times, and looks for each in
// their log.
func (r *comparing) ours(ctx context.Context, draw func(int64)) error {
	if r.options.source != "" {
		r.sources[r.options.source] = true
	}
	if r.From.IsZero() && !r.timeless {
		r.From = r.first.Truncate(time.Second) // their times may be no finer
	}
	if r.Until.IsZero() && !r.timeless && !r.last.IsZero() {
		r.Until = r.last.Truncate(time.Second).Add(time.Second)
	}
	if len(r.sources) == 0 {
		return nil
	}
	var batch []metering.Accepted
	flush := func() error {
		there, err := r.keys.has(ctx, batch)
		if err != nil {
			return err
		}
		for i := range batch {
			e, key := &batch[i], batch[i].Key // the batch is used again
			r.amount(&e.Event, false)
			if !there[key] {
				r.Absent++
				r.tell(difference{Kind: diffThere, Source: e.Source, ID: shownID(e.ID), Key: &key,
					Detail: fmt.Sprintf("%s of %s for app %s, position %s", e.Type, e.Time.Format(time.RFC3339), cmp.Or(string(e.Data.App), "–"), positionText(e.Position))})
			}
		}
		r.tellWaiting()
		draw(r.Ours)
		batch = batch[:0]
		return nil
	}
	for e, err := range r.app.events.Events(ctx, metering.Span{Start: r.From, End: r.Until}, metering.Filter{}) {
		if err != nil {
			return err
		}
		if !r.sources[e.Source] {
			continue
		}
		r.Ours++
		if batch = append(batch, e); len(batch) == compareBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// amount adds an event's amount to the sums of one side.
func (r *comparing) amount(e *metering.Event, theirs bool) {
	currency := string(e.Data.Currency)
	if e.Data.Amount == nil || currency == "" {
		return
	}
	b := r.Amounts[currency]
	if b == nil {
		if len(r.Amounts) == maxCurrencies || !theirs && len(r.Amounts) == 0 { // their log says no amounts
			return
		}
		b = &bothAmount{}
		r.Amounts[currency] = b
	}
	if theirs {
		b.Theirs = b.Theirs.Add(*e.Data.Amount)
	} else {
		b.Ours = b.Ours.Add(*e.Data.Amount)
	}
}

// maxCurrencies bounds the sums that a file can cause.
const maxCurrencies = 200

// shownID is an id as it may be told: not if it looks like what must not be kept.
func shownID(id string) string {
	if pattern := phi.Find(id); pattern != "" {
		return "(not shown: it looks like " + pattern + ")"
	}
	return id
}

func shownFields(fields []metering.FieldDifference) []metering.FieldDifference {
	for i := range fields {
		fields[i].Theirs = shownID(fields[i].Theirs)
	}
	return fields
}

func (r *comparing) tell(d difference) { r.waiting = append(r.waiting, d) }

func (r *comparing) tellWaiting() {
	for _, d := range r.waiting {
		r.comparison.tell(d)
	}
	r.waiting = r.waiting[:0]
}

func (c *comparison) tell(d difference) {
	if len(c.First) < c.limit {
		c.First = append(c.First, d)
	}
	c.told++
	if c.export == nil {
		return
	}
	key := ""
	if d.Key != nil {
		key = d.Key.String()
	}
	line := ""
	if d.Line > 0 {
		line = strconv.Itoa(d.Line)
	}
	fields := d.Fields
	if len(fields) == 0 {
		fields = []metering.FieldDifference{{}}
	}
	for _, f := range fields {
		_ = c.export.Write([]string{d.Kind, line, noFormula(d.Source), noFormula(d.ID), key, d.Reason, d.Detail, f.Field, noFormula(f.Theirs), noFormula(f.Ours)}) // the writer keeps its error
	}
}

// noFormula is a text of others that a spreadsheet does not take for a formula.
func noFormula(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

func (c *comparison) writeText(w io.Writer) error {
	side := func(t time.Time) string {
		if t.IsZero() {
			return "…"
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	for _, d := range c.First {
		what := []string{d.Kind}
		if d.Line > 0 {
			what = append([]string{fmt.Sprintf("line %d", d.Line)}, what...)
		}
		head := strings.Join(what, ": ")
		if d.ID != "" {
			head += " " + d.Source + " " + d.ID
		}
		for _, text := range []string{d.Reason, d.Detail} {
			if text != "" {
				head += "; " + text
			}
		}
		fmt.Fprintln(w, head)
		for _, f := range d.Fields {
			fmt.Fprintf(w, "    %-12s theirs %s, ours %s\n", f.Field, cmp.Or(f.Theirs, "–"), cmp.Or(f.Ours, "–"))
		}
	}
	if more := c.told - len(c.First); more > 0 {
		fmt.Fprintf(w, "and %s more; --limit shows more, --export FILE writes all\n", groupInt(int64(more)))
	}
	if len(c.First) > 0 {
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%s against source %s, %s to %s\n", c.File, cmp.Or(strings.Join(c.Sources, ", "), "–"), side(c.From), side(c.Until))
	var why []string
	for _, k := range sortedKeys(c.Why) {
		why = append(why, k+" "+groupInt(c.Why[k]))
	}
	rows := [][]string{
		{"theirs", groupInt(c.Records), "records"},
		{"  matched", groupInt(c.Matched), ""},
		{"  differ", groupInt(c.Differ), ""},
		{"  missing here", groupInt(c.Missing), strings.Join(why, " · ")},
		{"  duplicates", groupInt(c.Duplicates), "in their file"},
		{"  unreadable", groupInt(c.Unreadable), ""},
		{"  not compared", groupInt(c.Outside), "of another source or time"},
		{"ours", groupInt(c.Ours), "events"},
		{"  missing there", groupInt(c.Absent), ""},
	}
	if err := table(w, []string{"", "", ""}, rows, 1); err != nil {
		return err
	}
	for _, currency := range sortedKeys(c.Amounts) {
		b, digits := c.Amounts[currency], int32(2)
		if cur, err := money.ParseCurrency(currency); err == nil {
			digits = cur.Digits()
		}
		fmt.Fprintf(w, "amount %s: theirs %s, ours %s\n", currency, money.Group(b.Theirs.StringFixed(digits)), money.Group(b.Ours.StringFixed(digits)))
	}
	if len(c.Ignored) > 0 {
		fmt.Fprintf(w, "not compared: columns %s\n", strings.Join(c.Ignored, ", "))
	}
	_, err := fmt.Fprintf(w, "difference %s\n", groupInt(c.Differences()))
	return err
}
