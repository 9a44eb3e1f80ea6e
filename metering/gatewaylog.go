package metering

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/shopspring/decimal"

	"mete/partner"
)

// Bounds of reading a log.
const (
	MaxLine         = 1 << 20 // bytes of one line
	DuplicateWindow = 1 << 16 // lines within which equal lines are told apart
	maxRowLines     = 16      // lines that one row of CSV runs over
)

// ErrNoColumns says that a log in CSV cannot be read at all.
var ErrNoColumns = errors.New("a log in CSV begins with the names of its columns")

// LogOptions is what the reader of one log is told beside its mapping. What is set
// here stands above what the log says.
type LogOptions struct {
	Name        string          // of the file, for errors
	Source      string          // instead of the mapping's
	App         partner.AppID   // of all lines
	Class       Class           // of all lines
	Environment Environment     // of all lines
	Operations  []OperationRule // tried before the mapping's
	MaxLine     int             // bytes of one line; 0 = [MaxLine]
}

// LogCounts is what a log held. Events + Refused is the number of records.
type LogCounts struct {
	Lines   int64 `json:"lines"`
	Blank   int64 `json:"blank"` // without a record, such as the names of columns
	Events  int64 `json:"events"`
	Refused int64 `json:"refused"`
}

// LogReader turns a log into events, line by line, in constant memory.
type LogReader struct {
	m      *Mapping
	o      LogOptions
	in     *bufio.Reader
	read   int         // lines
	line   int         // number of the line in buf, or of its first one
	buf    []byte      // the line that is read
	raw    []byte      // the record that is read, part of buf
	inside bool        // between two records of an array that is one line
	ahead  []aheadLine // read, and to be read again
	failed error       // of the reader, behind what is ahead
	json   decoder
	record jsonRecord
	row    csvRow
	apache apacheLine
	equal  equalLines
	counts LogCounts
}

type aheadLine struct {
	number int
	whole  bool
	text   []byte
}

// Reader reads a log with this mapping. It fails if the mapping and options leave
// open which app the usage belongs to.
func (m *Mapping) Reader(r io.Reader, o LogOptions) (*LogReader, error) {
	if m.Format != FormatCloudEvents {
		if len(m.App) == 0 && m.Constants.App == "" && o.App == "" {
			return nil, fmt.Errorf("mapping %s: this log does not say which app was called; name the app", m.Name)
		}
	} else if o.Source != "" || o.App != "" || o.Class != "" || o.Environment != "" || len(o.Operations) > 0 {
		return nil, fmt.Errorf("mapping %s: events carry their own source, app, class, environment and operation; name none", m.Name)
	}
	o.Operations = append([]OperationRule(nil), o.Operations...)
	for i := range o.Operations {
		if err := o.Operations[i].compile(); err != nil {
			return nil, fmt.Errorf("operation %d: %w", i+1, err)
		}
	}
	if o.Source == "" {
		o.Source = m.Source
	}
	if o.MaxLine <= 0 {
		o.MaxLine = MaxLine
	}
	o.MaxLine = min(o.MaxLine, maxText)
	return &LogReader{m: m, o: o, in: bufio.NewReaderSize(r, 64<<10)}, nil
}

// Counts is what was read so far.
func (l *LogReader) Counts() LogCounts { return l.counts }

// Next is the next event with its line, or why the line is refused, for a [Gate] to
// validate and to seal. Its text is that of the record, and good until the next call.
// The end is io.EOF; any other error is [ErrNoColumns] or the reader's, and ends the log.
func (l *LogReader) Next() (Decoded, error) {
	for {
		var bad *Refusal
		if !l.inside {
			empty, refused, err := l.openLine()
			if err != nil {
				return Decoded{}, err
			}
			if empty {
				l.counts.Blank++
				continue
			}
			bad = refused
		}
		var e Event
		if bad == nil {
			e, bad = l.take()
		}
		if bad != nil {
			l.counts.Refused++
			bad.Source = l.o.Source
			return Decoded{Refusal: bad, Raw: l.raw, Line: l.line}, nil
		}
		l.counts.Events++
		return Decoded{Event: e, Raw: l.raw, Line: l.line}, nil
	}
}

// openLine reads a line and begins to take it apart; empty says that no record stands
// on it.
func (l *LogReader) openLine() (empty bool, bad *Refusal, err error) {
	read := l.readLine
	if l.m.Format == FormatCSV {
		read = l.readRow
	}
	whole, err := read()
	if err != nil {
		return false, nil, err
	}
	l.raw = l.buf
	switch {
	case !whole:
		return false, refuse(TooLarge, "", fmt.Sprintf("a line has at most %d bytes", l.o.MaxLine)), nil
	case len(bytes.TrimSpace(l.buf)) == 0:
		return true, nil, nil
	case l.m.Format == FormatApache:
		return false, nil, nil
	case l.m.Format == FormatCSV:
		return l.openRow()
	}
	empty, bad = l.openJSON()
	return empty, bad, nil
}

// readLine fills buf with the next line without its end; whole is false if it was
// longer than a line may be and cut.
func (l *LogReader) readLine() (whole bool, err error) {
	if len(l.ahead) > 0 {
		next := l.ahead[0]
		l.ahead = l.ahead[1:]
		l.buf, l.line = append(l.buf[:0], next.text...), next.number
		l.counts.Lines++
		return next.whole, nil
	}
	if l.failed != nil {
		return false, l.failed
	}
	l.buf, whole = l.buf[:0], true
	for {
		part, err := l.in.ReadSlice('\n')
		if room := l.o.MaxLine + 2 - len(l.buf); len(part) > room {
			whole = false
			part = part[:max(0, room)]
		}
		l.buf = append(l.buf, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(l.buf) > 0, err == nil:
			l.read++
			l.line = l.read
			l.counts.Lines++
			l.buf = bytes.TrimSuffix(bytes.TrimSuffix(l.buf, []byte("\n")), []byte("\r"))
			return whole && len(l.buf) <= l.o.MaxLine, nil
		case errors.Is(err, io.EOF):
			return false, io.EOF
		}
		return false, fmt.Errorf("%s after line %d: %w", l.o.Name, l.read, err)
	}
}

// readRow is readLine for CSV, where a text in quotes may run over the end of a line.
// If its quotes do not close within maxRowLines, the first line stands alone and the
// others are read again: a line that was torn off costs no more than itself.
func (l *LogReader) readRow() (whole bool, err error) {
	whole, err = l.readLine()
	if err != nil || !whole || closed(l.buf) {
		return whole, err
	}
	first := aheadLine{l.line, true, bytes.Clone(l.buf)}
	row := bytes.Clone(l.buf)
	var more []aheadLine
	for len(more) < maxRowLines-1 && len(row) <= l.o.MaxLine {
		whole, err := l.readLine()
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err // what is read of the row may be a part of it
		}
		if err != nil {
			l.failed = err
			break
		}
		more = append(more, aheadLine{l.line, whole, bytes.Clone(l.buf)})
		row = append(append(row, '\n'), l.buf...)
		if !whole {
			break
		}
		if closed(row) {
			l.buf, l.line = row, first.number
			return len(row) <= l.o.MaxLine, nil
		}
	}
	l.ahead = append(more, l.ahead...)
	l.counts.Lines -= int64(len(more))
	l.buf, l.line = append(l.buf[:0], first.text...), first.number
	return true, nil
}

// closed reports whether every quote of a row has its other one.
func closed(row []byte) bool { return bytes.Count(row, []byte{'"'})%2 == 0 }

// openJSON begins to read a line of JSON, which may be an array of records.
//
// Gateways write what callers send, and some write bytes that are no UTF-8 as they
// are. A caller must not get his line refused that way, nor the array that it stands
// in: such bytes become U+FFFD, and spoil no more than the field they stand in.
func (l *LogReader) openJSON() (empty bool, bad *Refusal) {
	if l.m.Format == FormatJSON && !utf8.Valid(l.buf) {
		l.buf = bytes.ToValidUTF8(l.buf, []byte("\ufffd"))
		l.raw = l.buf
	}
	r := &l.json.json
	r.reset(l.buf, 0)
	if l.line == 1 && bytes.HasPrefix(l.buf, byteOrderMark) {
		r.pos = len(byteOrderMark)
	}
	r.space()
	if r.peek() != '[' || l.m.Format == FormatCloudEvents {
		return false, nil
	}
	r.enter()
	if r.peek() != ']' {
		l.inside = true
		return false, nil
	}
	r.leave()
	if !l.json.atEnd() {
		return false, refuse(Undecodable, "", r.err.Error())
	}
	return true, nil
}

// openRow takes a row of CSV apart. The first one names the columns; where files were
// joined it stands again.
func (l *LogReader) openRow() (empty bool, bad *Refusal, err error) {
	text := l.buf
	if l.line == 1 {
		text = bytes.TrimPrefix(text, byteOrderMark)
	}
	wrong := l.row.parse(text)
	if l.row.columns == nil {
		if wrong == "" {
			wrong = l.row.begin(l.m.Time.Path)
		}
		if wrong != "" {
			return false, nil, fmt.Errorf("%s line %d: %s; %w", l.o.Name, l.line, wrong, ErrNoColumns)
		}
		return true, nil, nil
	}
	switch {
	case wrong != "":
	case slices.Equal(l.row.fields, l.row.names):
		return true, nil, nil
	case len(l.row.fields) != len(l.row.names):
		wrong = fmt.Sprintf("%d fields where the first line names %d columns", len(l.row.fields), len(l.row.names))
	default:
		return false, nil, nil
	}
	return false, refuse(Undecodable, "", wrong), nil
}

// take reads the next record of the line.
func (l *LogReader) take() (Event, *Refusal) {
	switch l.m.Format {
	case FormatCSV:
		return l.event(&l.row)
	case FormatApache:
		if what := l.apache.parse(l.buf); what != "" {
			return Event{}, refuse(Undecodable, "", what)
		}
		return l.event(&l.apache)
	}
	r := &l.json.json
	r.nodes, r.full, r.twice = r.nodes[:0], false, false
	from := r.pos
	ok := r.value(0, 0, false)
	l.raw = l.buf[from:r.pos]
	if !ok || !l.endRecord() {
		l.inside = false
		l.raw = l.buf
		return Event{}, refuse(Undecodable, "", r.err.Error())
	}
	if l.m.Format == FormatCloudEvents {
		if len(l.raw) > MaxEvent {
			return Event{}, refuse(TooLarge, "", fmt.Sprintf("event of %d bytes, at most %d are taken", len(l.raw), MaxEvent))
		}
		var e Event
		if bad := l.json.event(&e, false); bad != nil {
			return Event{}, bad
		}
		return e, nil
	}
	if bad := l.json.sound(); bad != nil {
		return Event{}, bad
	}
	l.record = jsonRecord{r: r}
	for _, p := range l.m.Record {
		if i := r.find(0, p); i >= 0 && r.nodes[i].kind == '{' {
			l.record.at = i
			break
		}
	}
	return l.event(&l.record)
}

// endRecord reads what stands behind a record: the end of the line, or in an array a
// comma or its end.
func (l *LogReader) endRecord() bool {
	r := &l.json.json
	if !l.inside {
		return l.json.atEnd()
	}
	r.space()
	switch r.peek() {
	case ',':
		r.pos++
		r.space()
		return true
	case ']':
		r.leave()
		l.inside = false
		return l.json.atEnd()
	}
	return r.fail("a comma or the end of the array")
}

// fields is a record of any format: the value at a path, nil if it has none.
type fields interface {
	get(path string) []byte
}

// event maps a record.
func (l *LogReader) event(f fields) (Event, *Refusal) {
	m, d := l.m, &l.json
	e := Event{Source: l.o.Source, Type: m.Type}
	var latency int64 // nanoseconds
	if text := f.get(m.Latency.Path); text != nil && m.Latency.Path != "" {
		n, ok := scanDecimal(text)
		if ok {
			latency, ok = n.scaled(nanoPlaces(m.Latency.Unit))
		}
		if !ok {
			return e, refuse(BadNumber, "data.latency_ms", "")
		}
		ms := normal(decimal.New(latency, -6))
		e.Data.LatencyMS = &ms
	}
	t, ok := parseLogTime(f.get(m.Time.Path), m.Time.Unit)
	if !ok {
		return e, refuse(BadTime, "time", "")
	}
	if m.Time.Meaning == "end" {
		t = t.Add(-time.Duration(latency))
	}
	e.Time = t.UTC().Truncate(time.Microsecond)

	e.Customer = partner.CustomerID(d.again(first(f, m.Customer)))
	if e.Data.App = l.o.App; e.Data.App == "" {
		if e.Data.App = partner.AppID(d.again(first(f, m.App))); e.Data.App == "" {
			e.Data.App = m.Constants.App
		}
	}
	if e.Data.Class = l.o.Class; e.Data.Class == "" {
		if e.Data.Class = Class(d.again(first(f, m.Class))); e.Data.Class == "" {
			e.Data.Class = m.Constants.Class
		}
	}
	if e.Data.Environment = l.o.Environment; e.Data.Environment == "" {
		if e.Data.Environment = Environment(d.again(first(f, m.Environment))); e.Data.Environment == "" {
			e.Data.Environment = m.Constants.Environment
		}
	}
	status, ok := whole(first(f, m.Status))
	if !ok || status != int64(int32(status)) {
		return e, refuse(BadNumber, "data.status", "")
	}
	e.Data.Status = int(status)
	if e.Data.Bytes, ok = whole(first(f, m.Bytes)); !ok {
		return e, refuse(BadNumber, "data.bytes", "")
	}
	e.Data.Operation = l.operation(f)
	if e.ID = string(first(f, m.ID)); e.ID == "" {
		e.ID = l.equal.id(e.Source, l.raw)
	}
	return e, nil
}

// first is the value at the first path that has one.
func first(f fields, paths []string) []byte {
	for _, p := range paths {
		if v := f.get(p); v != nil {
			return v
		}
	}
	return nil
}

// whole reads a whole number; none is 0.
func whole(text []byte) (int64, bool) {
	if text == nil {
		return 0, true
	}
	n, ok := scanDecimal(text)
	if !ok {
		return 0, false
	}
	return n.int64()
}

func nanoPlaces(unit string) int32 {
	switch unit {
	case "s":
		return 9
	case "ms":
		return 6
	case "us":
		return 3
	}
	return 0
}

const (
	clfTime = "02/Jan/2006:15:04:05 -0700"
	goTime  = "2006-01-02 15:04:05.999999999 -0700" // and the zone's name
)

func parseLogTime(text []byte, unit string) (time.Time, bool) {
	switch unit {
	case "rfc3339":
		t, err := time.Parse(time.RFC3339Nano, string(text))
		return t, err == nil
	case "clf":
		t, err := time.Parse(clfTime, string(bytes.Trim(text, "[]")))
		return t, err == nil
	case "go":
		if i := bytes.LastIndexByte(text, ' '); i > 0 {
			text = text[:i]
		}
		t, err := time.Parse(goTime, string(text))
		return t, err == nil
	}
	n, ok := scanDecimal(text)
	if !ok {
		return time.Time{}, false
	}
	ns, ok := n.scaled(nanoPlaces(strings.TrimPrefix(unit, "epoch_")))
	return time.Unix(0, ns), ok
}

// operation is the declared name of what was called; nothing of the path is kept.
func (l *LogReader) operation(f fields) string {
	m := l.m
	if len(l.o.Operations)+len(m.Operation.Rules) > 0 {
		path := first(f, m.Operation.Path)
		if i := bytes.IndexAny(path, "?#"); i >= 0 {
			path = path[:i]
		}
		// The method is read after the path, from the same room for unescaped text.
		path = append([]byte(nil), path...)
		method := first(f, m.Operation.Method)
		for _, rules := range [2][]OperationRule{l.o.Operations, m.Operation.Rules} {
			for i := range rules {
				if rules[i].matches(method, path) {
					return rules[i].Operation
				}
			}
		}
	}
	if route := first(f, m.Operation.Route); route != nil {
		return l.json.again(route)
	}
	return OtherOperation
}

// jsonRecord is a record of JSON that was read.
type jsonRecord struct {
	r  *jsonReader
	at int // the object in which paths begin
}

func (j *jsonRecord) get(path string) []byte {
	if path == "" {
		return nil
	}
	r := j.r
	i := r.find(j.at, path)
	if i < 0 {
		return nil
	}
	if k := r.nodes[i].kind; k != '"' && k != '0' {
		return nil
	}
	text := r.textOf(i)
	if len(text) == 0 || string(text) == "-" {
		return nil
	}
	return text
}

// find is the value at a path below the value at, or −1. At every step a key that
// holds the rest of the path in its own name comes first, then the longest.
func (r *jsonReader) find(at int, path string) int {
	if i := r.step(at, path); i >= 0 {
		return i
	}
	for dot := strings.LastIndexByte(path, '.'); dot > 0; dot = strings.LastIndexByte(path[:dot], '.') {
		if i := r.step(at, path[:dot]); i >= 0 {
			if j := r.find(i, path[dot+1:]); j >= 0 {
				return j
			}
		}
	}
	return -1
}

// step is the value called name, where name may end in [n].
func (r *jsonReader) step(at int, name string) int {
	if i := r.child(at, name); i >= 0 {
		return i
	}
	open := strings.LastIndexByte(name, '[')
	if open < 0 || !strings.HasSuffix(name, "]") {
		return -1
	}
	n, ok := scanDecimal([]byte(name[open+1 : len(name)-1]))
	index, ok2 := n.int64()
	if !ok || !ok2 || index < 0 || index > maxJSONNodes {
		return -1
	}
	i := at
	if open > 0 {
		if i = r.step(at, name[:open]); i < 0 {
			return -1
		}
	}
	return r.element(i, int(index))
}

// csvRow is a row of CSV and what its columns are called.
type csvRow struct {
	names   []string
	columns map[string]int
	fields  []string
}

// parse takes the row apart and says what is wrong with it, "" if nothing is.
func (c *csvRow) parse(row []byte) string {
	in := csv.NewReader(bytes.NewReader(row))
	in.FieldsPerRecord = -1
	fields, err := in.Read()
	if err == nil {
		c.fields = fields
		if _, err = in.Read(); errors.Is(err, io.EOF) {
			return ""
		}
	}
	// Its error names a place of the row, which is no place of the file.
	if p := (*csv.ParseError)(nil); errors.As(err, &p) {
		return fmt.Sprintf("no CSV at byte %d: %v", p.Column, p.Err)
	}
	return "no row of CSV"
}

// begin takes the fields that were read for the names of the columns and says what is
// wrong with them.
func (c *csvRow) begin(time string) string {
	columns := make(map[string]int, len(c.fields))
	for i, name := range c.fields {
		if _, twice := columns[name]; twice {
			return fmt.Sprintf("columns %d and %d have one name", columns[name]+1, i+1)
		}
		columns[name] = i
	}
	if _, ok := columns[time]; !ok {
		return "no column is called " + time
	}
	c.names, c.columns = c.fields, columns
	return ""
}

func (c *csvRow) get(path string) []byte {
	i, ok := c.columns[path]
	if !ok {
		return nil
	}
	if v := c.fields[i]; v != "" && v != "-" {
		return []byte(v)
	}
	return nil
}

// apacheLine is a line of the combined format.
type apacheLine struct {
	user, time, method, path, status, bytes []byte
}

func (a *apacheLine) get(path string) []byte {
	var v []byte
	switch path {
	case "user":
		v = a.user
	case "time":
		v = a.time
	case "method":
		v = a.method
	case "path":
		v = a.path
	case "status":
		v = a.status
	case "bytes":
		v = a.bytes
	}
	if len(v) == 0 || string(v) == "-" {
		return nil
	}
	return v
}

// parse takes the line apart and says what is wrong with it, "" if nothing is.
func (a *apacheLine) parse(line []byte) string {
	*a = apacheLine{}
	p := apacheParser{rest: line}
	p.word("the address")
	p.word("the identity")
	a.user = p.word("the user")
	a.time = p.between('[', ']', "the time")
	request := p.between('"', '"', "the request")
	a.status = p.word("the status")
	a.bytes = p.word("the number of bytes")
	p.between('"', '"', "the referer")
	p.between('"', '"', "the user agent")
	if p.wrong == "" && len(bytes.TrimSpace(p.rest)) > 0 {
		p.wrong = fmt.Sprintf("%d bytes stand after the user agent", len(p.rest))
	}
	if p.wrong != "" {
		return p.wrong
	}
	method, rest, _ := bytes.Cut(request, []byte(" "))
	path, _, _ := bytes.Cut(rest, []byte(" "))
	a.method, a.path = method, path
	return ""
}

type apacheParser struct {
	rest  []byte
	wrong string
}

func (p *apacheParser) fail(what string) []byte {
	if p.wrong == "" {
		p.wrong = what
	}
	return nil
}

// word reads up to the next space.
func (p *apacheParser) word(what string) []byte {
	w, rest, _ := bytes.Cut(p.rest, []byte(" "))
	if len(w) == 0 {
		return p.fail(what + " is missing")
	}
	p.rest = rest
	return w
}

// between reads a text in quotes or brackets and the space behind it. A backslash
// escapes the next byte.
func (p *apacheParser) between(open, end byte, what string) []byte {
	if len(p.rest) == 0 || p.rest[0] != open {
		return p.fail(what + " does not begin with " + string(open))
	}
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '\\':
			i++
		case end:
			text := p.rest[1:i]
			if p.rest = p.rest[i+1:]; len(p.rest) > 0 {
				if p.rest[0] != ' ' {
					return p.fail(what + " is followed by other text")
				}
				p.rest = p.rest[1:]
			}
			return text
		}
	}
	return p.fail("the line ends inside " + what + ", which has no closing " + string(end))
}

// equalLines tells equal lines apart: the first of them is number 0, the next
// number 1, as long as they stand within DuplicateWindow lines. An equal line has
// an equal time, so that the number does not depend on lines of other times.
type equalLines struct {
	seen  map[Key]equalCount
	order []Key // the lines of the window, a ring
	next  int
}

type equalCount struct {
	next   uint32 // number of the next equal line
	window uint32 // how many of the window's lines are equal to it
}

// id makes an id of the source, the line and its number.
func (q *equalLines) id(source string, line []byte) string {
	if q.seen == nil {
		q.seen = map[Key]equalCount{}
	}
	h := sha256.New()
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(source)))
	h.Write(length[:])
	io.WriteString(h, source)
	binary.BigEndian.PutUint32(length[:], uint32(len(line)))
	h.Write(length[:])
	h.Write(line)
	var sum Hash
	key := Key(h.Sum(sum[:0])[:len(Key{})])

	c := q.seen[key]
	number := c.next
	q.seen[key] = equalCount{c.next + 1, c.window + 1}
	if len(q.order) < DuplicateWindow {
		q.order = append(q.order, key)
	} else {
		old := q.order[q.next]
		q.order[q.next] = key
		q.next = (q.next + 1) % DuplicateWindow
		if o := q.seen[old]; o.window == 1 {
			delete(q.seen, old)
		} else {
			q.seen[old] = equalCount{o.next, o.window - 1}
		}
	}
	binary.BigEndian.PutUint32(length[:], number)
	h.Write(length[:])
	return "line:" + hex.EncodeToString(h.Sum(sum[:0])[:16])
}
