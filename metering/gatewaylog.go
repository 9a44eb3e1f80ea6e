package metering

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/partner"
)

// Bounds of reading a log.
const (
	MaxLine         = 1 << 20 // bytes of one line
	DuplicateWindow = 1 << 16 // lines within which equal lines are told apart
)

// LogOptions is what the reader of one log is told beside its mapping. What is set
// here stands above what the log says.
type LogOptions struct {
	Name        string          // of the file, for refusals
	Source      string          // instead of the mapping's
	App         partner.AppID   // of all lines
	Class       Class           // of all lines
	Environment Environment     // of all lines
	Operations  []OperationRule // tried before the mapping's
	At          time.Time       // when the log is read, for refusals
}

// LogCounts is what a log held. Events + Refused is the number of records.
type LogCounts struct {
	Lines   int64 `json:"lines"`
	Blank   int64 `json:"blank"`
	Events  int64 `json:"events"`
	Refused int64 `json:"refused"`
}

// LogReader turns a log into events, line by line, in constant memory.
type LogReader struct {
	m      *Mapping
	o      LogOptions
	in     *bufio.Reader
	line   int
	buf    []byte // the line that is read
	raw    []byte // the record that is read, part of buf
	inside bool   // between two records of an array that is one line
	json   decoder
	apache apacheLine
	equal  equalLines
	counts LogCounts
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
	return &LogReader{m: m, o: o, in: bufio.NewReaderSize(r, 64<<10)}, nil
}

// Counts is what was read so far.
func (l *LogReader) Counts() LogCounts { return l.counts }

// Raw is the text of the record that Next returned, until the next call: to be
// digested, never kept.
func (l *LogReader) Raw() []byte { return l.raw }

// Where is the place of the record that Next returned, such as access.log:17.
func (l *LogReader) Where() string {
	name := l.o.Name
	if name == "" {
		name = "line"
	}
	return fmt.Sprintf("%s:%d", name, l.line)
}

// Next is the next event and its line, counted from 1, or why the line is refused,
// sealed. It does not validate what the event says. The end is io.EOF; any other
// error is the reader's and ends the log.
func (l *LogReader) Next() (Event, int, *Refusal, error) {
	for {
		var bad *Refusal
		if !l.inside {
			whole, err := l.readLine()
			if err != nil {
				return Event{}, l.line, nil, err
			}
			l.counts.Lines++
			l.raw = l.buf
			if !whole {
				bad = refuse(TooLarge, "", fmt.Sprintf("a line has at most %d bytes", MaxLine))
			} else if len(bytes.TrimSpace(l.buf)) == 0 {
				l.counts.Blank++
				continue
			} else if l.m.Format != FormatApache {
				var empty bool
				if empty, bad = l.openLine(); empty {
					l.counts.Blank++
					continue
				}
			}
		}
		var e Event
		if bad == nil {
			e, bad = l.record()
		}
		if bad != nil {
			l.counts.Refused++
			bad.Source = l.o.Source
			bad.Seal(l.raw, l.Where(), l.o.At)
			return Event{}, l.line, bad, nil
		}
		l.counts.Events++
		return e, l.line, nil, nil
	}
}

// readLine fills buf with the next line without its end; whole is false if it was
// longer than MaxLine and cut.
func (l *LogReader) readLine() (whole bool, err error) {
	l.buf, whole = l.buf[:0], true
	for {
		part, err := l.in.ReadSlice('\n')
		if room := MaxLine + 2 - len(l.buf); len(part) > room {
			whole = false
			part = part[:max(0, room)]
		}
		l.buf = append(l.buf, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(l.buf) > 0, err == nil:
			l.line++
			l.buf = bytes.TrimSuffix(bytes.TrimSuffix(l.buf, []byte("\n")), []byte("\r"))
			return whole && len(l.buf) <= MaxLine, nil
		case errors.Is(err, io.EOF):
			return false, io.EOF
		}
		return false, fmt.Errorf("%s after line %d: %w", l.o.Name, l.line, err)
	}
}

// openLine begins to read a line of JSON, which may be an array of records.
func (l *LogReader) openLine() (empty bool, bad *Refusal) {
	r := &l.json.json
	r.reset(l.buf, 0)
	if l.line == 1 && bytes.HasPrefix(l.buf, []byte("\xef\xbb\xbf")) {
		r.pos = 3
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

// record reads the next record of the line.
func (l *LogReader) record() (Event, *Refusal) {
	if l.m.Format == FormatApache {
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
	return l.event((*jsonLine)(&l.json))
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

const clfTime = "02/Jan/2006:15:04:05 -0700"

func parseLogTime(text []byte, unit string) (time.Time, bool) {
	switch unit {
	case "rfc3339":
		t, err := time.Parse(time.RFC3339Nano, string(text))
		return t, err == nil
	case "clf":
		t, err := time.Parse(clfTime, string(bytes.Trim(text, "[]")))
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

// jsonLine is a record of JSON that was read.
type jsonLine decoder

func (j *jsonLine) get(path string) []byte {
	if path == "" {
		return nil
	}
	r := &j.json
	i := r.find(0, path)
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
