package metering

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/partner"
)

// Default bounds of a request, see [Limits].
const (
	MaxBody  = 8 << 20  // bytes of one body
	MaxBatch = 1000     // events in one body
	MaxEvent = 64 << 10 // bytes of one event
)

// Limits bounds what is decoded; a zero field is its default.
type Limits struct {
	Body, Batch, Event int
}

func (l Limits) withDefaults() Limits {
	if l.Body <= 0 {
		l.Body = MaxBody
	}
	if l.Batch <= 0 {
		l.Batch = MaxBatch
	}
	if l.Event <= 0 {
		l.Event = MaxEvent
	}
	l.Body = min(l.Body, maxText) // places in a text are 32 bits
	return l
}

const maxText = 1 << 30

// What makes a whole body unreadable, so that no event in it can be answered alone.
var (
	ErrTooLarge  = errors.New("too large")
	ErrMediaType = errors.New("unsupported media type")
	ErrNotJSON   = errors.New("not JSON")
)

// Decoded is one event of a body or a log: the event, or why it is refused. Raw is the
// text it was read from, to be digested for a refusal and never kept.
type Decoded struct {
	Event   Event
	Refusal *Refusal
	Raw     []byte
	Line    int // of a log, counted from 1
}

// DecodeJSON reads a structured CloudEvent or a batch of them: a JSON object or an
// array of objects. Every event is answered alone; an error ([ErrTooLarge],
// [ErrNotJSON]) means that none was read. Errors and refusals quote nothing of the
// body.
func DecodeJSON(body []byte, l Limits) ([]Decoded, error) {
	l = l.withDefaults()
	if len(body) > l.Body {
		return nil, fmt.Errorf("body of %d bytes, at most %d are taken; send smaller batches: %w", len(body), l.Body, ErrTooLarge)
	}
	d := decoder{json: jsonReader{nodes: make([]node, 0, usualNodes)}}
	d.json.reset(body, 0)
	if bytes.HasPrefix(body, byteOrderMark) {
		d.json.pos = len(byteOrderMark)
	}
	d.json.space()
	switch d.json.peek() {
	case '{':
		out, ok := d.next(l)
		if !ok || !d.atEnd() {
			return nil, d.failed()
		}
		return []Decoded{out}, nil
	case '[':
		return d.batch(l)
	}
	d.json.fail("a CloudEvent object or an array of them")
	return nil, d.failed()
}

// DecodeLines reads CloudEvents that stand one on each line (NDJSON); blank lines are
// nothing. Every line is answered alone, also one that is no JSON: where it ends does
// not depend on what stands in it. The error is [ErrTooLarge].
func DecodeLines(body []byte, l Limits) ([]Decoded, error) {
	l = l.withDefaults()
	if len(body) > l.Body {
		return nil, fmt.Errorf("body of %d bytes, at most %d are taken; send smaller batches: %w", len(body), l.Body, ErrTooLarge)
	}
	var all []Decoded
	d := decoder{json: jsonReader{nodes: make([]node, 0, usualNodes)}}
	for line := range bytes.Lines(bytes.TrimPrefix(body, byteOrderMark)) {
		if line = bytes.Trim(line, " \t\r\n"); len(line) == 0 {
			continue
		}
		if len(all) == l.Batch {
			return nil, fmt.Errorf("batch of more than %d events; send smaller batches: %w", l.Batch, ErrTooLarge)
		}
		d.json.reset(line, 0)
		one, ok := d.next(l)
		if !ok || !d.atEnd() {
			one = Decoded{Raw: line, Refusal: refuse(Undecodable, "", d.json.err.Error())}
		}
		all = append(all, one)
	}
	return all, nil
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// usualNodes is room for the JSON values of most events.
const usualNodes = 48

// decoder reads events one after the other from one text.
type decoder struct {
	json jsonReader
	seen [64]string // recent texts that often repeat
}

func (d *decoder) failed() error { return fmt.Errorf("%w (%w)", d.json.err, ErrNotJSON) }

func (d *decoder) atEnd() bool {
	d.json.space()
	return d.json.pos == len(d.json.src) || d.json.fail("the end of the text")
}

// batch reads an array of events. Its brackets are read here, its elements by next.
func (d *decoder) batch(l Limits) ([]Decoded, error) {
	r := &d.json
	r.enter()
	var all []Decoded
	if r.peek() == ']' {
		r.leave()
	} else {
		for more := true; more; {
			if len(all) == l.Batch {
				return nil, fmt.Errorf("batch of more than %d events; send smaller batches: %w", l.Batch, ErrTooLarge)
			}
			one, ok := d.next(l)
			if !ok {
				return nil, d.failed()
			}
			if all == nil {
				all = make([]Decoded, 0, min(l.Batch, 1+len(r.src)/max(64, len(one.Raw))))
			}
			all = append(all, one)
			r.space()
			switch r.peek() {
			case ',':
				r.pos++
				r.space()
			case ']':
				r.leave()
				more = false
			default:
				r.fail("a comma or the end of the array")
				return nil, d.failed()
			}
		}
	}
	if !d.atEnd() {
		return nil, d.failed()
	}
	return all, nil
}

// next reads the value at the reader's place as one event.
func (d *decoder) next(l Limits) (Decoded, bool) {
	r := &d.json
	r.nodes, r.full, r.twice = r.nodes[:0], false, false
	from := r.pos
	if !r.value(0, 0, false) {
		return Decoded{}, false
	}
	out := Decoded{Raw: r.src[from:r.pos]}
	if len(out.Raw) > l.Event {
		out.Refusal = refuse(TooLarge, "", fmt.Sprintf("event of %d bytes, at most %d are taken", len(out.Raw), l.Event))
		return out, true
	}
	out.Refusal = d.event(&out.Event, false)
	if out.Refusal != nil {
		out.Event = Event{}
	}
	return out, true
}

// sound reports what is wrong with the form of the value that was read.
func (d *decoder) sound() *Refusal {
	switch {
	case d.json.full:
		return refuse(TooComplex, "", fmt.Sprintf("more than %d JSON values", maxJSONNodes))
	case d.json.twice:
		return refuse(DuplicateField, "", "")
	case d.json.nodes[0].kind != '{':
		return refuse(WrongType, "", "an event must be a JSON object")
	}
	return nil
}

// event takes the event from the value that was read: a CloudEvent, or, if
// canonical, the form that AppendCanonical writes.
func (d *decoder) event(e *Event, canonical bool) *Refusal {
	if r := d.sound(); r != nil {
		return r
	}
	r := &d.json
	var spec, timed bool
	data, data64, contentType := -1, -1, -1
	end := int(r.nodes[0].next)
	for i := 1; i < end; i = int(r.nodes[i].next) {
		if r.nodes[i].kind == 'n' {
			continue // null is absent
		}
		var bad *Refusal
		switch key := r.keyOf(i); string(key) {
		case "id":
			e.ID, bad = d.text(i, "id", false)
		case "source":
			e.Source, bad = d.text(i, "source", true)
		case "type":
			e.Type, bad = d.text(i, "type", true)
		case "subject":
			var s string
			s, bad = d.text(i, "subject", true)
			e.Customer = partner.CustomerID(s)
		case "time":
			e.Time, bad = d.time(i)
			timed = true
		case "data":
			data = i
		case "specversion":
			if spec = r.nodes[i].kind == '"' && string(r.textOf(i)) == "1.0"; !spec || canonical {
				return refuse(BadSpecVersion, "specversion", "")
			}
		case "time_absent":
			if canonical {
				if e.TimeAbsent = r.nodes[i].kind == 't'; !e.TimeAbsent {
					return refuse(WrongType, "time_absent", "")
				}
				continue
			}
			return refuse(BadAttribute, "", "")
		case "data_base64":
			data64 = i
		case "datacontenttype":
			contentType = i
		default:
			if canonical {
				return refuse(UnknownField, sayable(string(key)), "")
			}
			if !isAttributeName(key) {
				return refuse(BadAttribute, "", "")
			}
		}
		if bad != nil {
			return bad
		}
	}
	if canonical {
		if data64 >= 0 || contentType >= 0 {
			return refuse(UnknownField, "", "")
		}
	} else {
		if !spec {
			return refuse(BadSpecVersion, "specversion", "")
		}
		e.TimeAbsent = !timed
	}
	if contentType >= 0 && (r.nodes[contentType].kind != '"' || !isJSONType(r.textOf(contentType))) {
		return refuse(DataNotJSON, "datacontenttype", "")
	}
	switch {
	case data >= 0 && data64 >= 0:
		return refuse(DataTwice, "data", "")
	case data >= 0:
		return d.data(&e.Data, data)
	case data64 >= 0:
		return d.data64(&e.Data, data64)
	}
	return nil
}

// isAttributeName reports whether CloudEvents 1.0 allows the name.
func isAttributeName(name []byte) bool {
	for _, c := range name {
		if !isDigit(c) && (c < 'a' || c > 'z') {
			return false
		}
	}
	return len(name) > 0
}

// isJSONType reports whether a media type is JSON in UTF-8.
func isJSONType(b []byte) bool {
	if string(b) == "application/json" {
		return true
	}
	t, params, err := mime.ParseMediaType(string(b))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return false
	}
	return (t == "application/json" || t == "text/json" || strings.HasSuffix(t, "+json")) && isUTF8Charset(params["charset"])
}

func isUTF8Charset(c string) bool {
	switch strings.ToLower(c) {
	case "", "utf-8", "utf8", "us-ascii":
		return true
	}
	return false
}

// data64 reads data that is base64 of JSON.
func (d *decoder) data64(into *Data, i int) *Refusal {
	if d.json.nodes[i].kind != '"' {
		return refuse(WrongType, "data_base64", "")
	}
	b, err := base64.StdEncoding.DecodeString(string(d.json.textOf(i)))
	if err != nil {
		return refuse(DataNotJSON, "data_base64", "the text is not base64")
	}
	return d.dataText(into, b)
}

// dataText reads data that stands alone, in a text of its own.
func (d *decoder) dataText(into *Data, b []byte) *Refusal {
	inner := decoder{seen: d.seen}
	inner.json.reset(b, 0)
	inner.json.space()
	if !inner.json.value(0, 0, false) || !inner.atEnd() {
		return refuse(DataNotJSON, "data", inner.json.err.Error())
	}
	if inner.json.nodes[0].kind == 'n' {
		return nil
	}
	switch {
	case inner.json.full:
		return refuse(TooComplex, "data", "")
	case inner.json.twice:
		return refuse(DuplicateField, "data", "")
	}
	return inner.data(into, 0)
}

// data reads the closed body of an event.
func (d *decoder) data(into *Data, at int) *Refusal {
	r := &d.json
	if r.nodes[at].kind != '{' {
		return refuse(WrongType, "data", "data must be a JSON object")
	}
	end := int(r.nodes[at].next)
	for i := at + 1; i < end; i = int(r.nodes[i].next) {
		if r.nodes[i].kind == 'n' {
			if _, known := dataFields[string(r.keyOf(i))]; !known {
				return refuse(UnknownField, dataField(r.keyOf(i)), "")
			}
			continue
		}
		var s string
		var bad *Refusal
		switch key := r.keyOf(i); string(key) {
		case "app":
			s, bad = d.text(i, "data.app", true)
			into.App = partner.AppID(s)
		case "operation":
			into.Operation, bad = d.text(i, "data.operation", true)
		case "class":
			s, bad = d.text(i, "data.class", true)
			into.Class = Class(s)
		case "quantity":
			into.Quantity, bad = d.decimal(i, "data.quantity")
		case "unit":
			into.Unit, bad = d.text(i, "data.unit", true)
		case "amount":
			into.Amount, bad = d.decimal(i, "data.amount")
		case "tax_amount":
			into.TaxAmount, bad = d.decimal(i, "data.tax_amount")
		case "fee":
			into.Fee, bad = d.decimal(i, "data.fee")
		case "currency":
			s, bad = d.text(i, "data.currency", true)
			into.Currency = money.Currency(s)
		case "status":
			var n int64
			n, bad = d.int(i, "data.status")
			into.Status = int(n)
		case "latency_ms":
			into.LatencyMS, bad = d.decimal(i, "data.latency_ms")
		case "bytes":
			into.Bytes, bad = d.int(i, "data.bytes")
		case "environment":
			s, bad = d.text(i, "data.environment", true)
			into.Environment = Environment(s)
		case "deal":
			into.Deal, bad = d.text(i, "data.deal", true)
		case "lead":
			into.Lead, bad = d.text(i, "data.lead", false)
		case "refers_to":
			into.RefersTo, bad = d.text(i, "data.refers_to", false)
		case "reference":
			into.Reference, bad = d.text(i, "data.reference", false)
		case "region":
			into.Region, bad = d.text(i, "data.region", true)
		case "paid_months":
			var n int64
			n, bad = d.int(i, "data.paid_months")
			into.PaidMonths = int(n)
		case "dimensions":
			into.Dimensions, bad = d.dimensions(i)
		default:
			return refuse(UnknownField, dataField(key), "")
		}
		if bad != nil {
			return bad
		}
	}
	return nil
}

// dataFields are the names that data takes.
var dataFields = map[string]struct{}{
	"app": {}, "operation": {}, "class": {}, "quantity": {}, "unit": {}, "amount": {}, "tax_amount": {}, "fee": {}, "currency": {},
	"status": {}, "latency_ms": {}, "bytes": {}, "environment": {}, "deal": {}, "lead": {}, "refers_to": {}, "reference": {},
	"region": {}, "paid_months": {}, "dimensions": {},
}

func dataField(key []byte) string {
	if s := sayable(string(key)); s != "" {
		return "data." + s
	}
	return "data"
}

func (d *decoder) dimensions(at int) (map[string]string, *Refusal) {
	r := &d.json
	if r.nodes[at].kind != '{' {
		return nil, refuse(WrongType, "data.dimensions", "dimensions must be a JSON object of texts")
	}
	end := int(r.nodes[at].next)
	if end == at+1 {
		return nil, nil
	}
	m := make(map[string]string, min(MaxDimensions, end-at-1))
	for i := at + 1; i < end; i = int(r.nodes[i].next) {
		if r.nodes[i].kind == 'n' {
			continue
		}
		name := d.again(r.keyOf(i))
		v, bad := d.text(i, "data.dimensions", true)
		if bad != nil {
			return nil, bad
		}
		m[name] = v
	}
	if len(m) == 0 {
		return nil, nil
	}
	return m, nil
}

// text is the string i; often says that the same text is likely to come again.
func (d *decoder) text(i int, field string, often bool) (string, *Refusal) {
	if d.json.nodes[i].kind != '"' {
		return "", refuse(WrongType, field, "")
	}
	b := d.json.textOf(i)
	if often {
		return d.again(b), nil
	}
	return string(b), nil
}

// again is b as a text, without a new one if it was seen lately.
func (d *decoder) again(b []byte) string {
	switch string(b) { // what most events say
	case UsageAPI:
		return UsageAPI
	case SalePaid:
		return SalePaid
	case string(API):
		return string(API)
	case string(CertifiedAPI):
		return string(CertifiedAPI)
	case string(Production):
		return string(Production)
	case "USD":
		return "USD"
	}
	if len(b) == 0 || len(b) > MaxText {
		return string(b)
	}
	h := uint32(2166136261)
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	at := &d.seen[(h^h>>16)%uint32(len(d.seen))]
	if *at != string(b) {
		*at = string(b)
	}
	return *at
}

// time reads RFC 3339, cut to the microsecond.
func (d *decoder) time(i int) (time.Time, *Refusal) {
	if d.json.nodes[i].kind != '"' {
		return time.Time{}, refuse(WrongType, "time", "")
	}
	t, ok := parseTime(d.json.textOf(i))
	if !ok {
		return time.Time{}, refuse(BadTime, "time", "")
	}
	return t, nil
}

func parseTime(b []byte) (time.Time, bool) {
	var space [64]byte
	if len(b) > len(space) {
		return time.Time{}, false
	}
	up := append(space[:0], b...)
	for i, c := range up {
		switch c {
		case 't', 'z':
			up[i] = c - 'a' + 'A'
		case ',':
			return time.Time{}, false // Go takes it, RFC 3339 does not
		}
	}
	var t time.Time
	if t.UnmarshalText(up) != nil {
		return time.Time{}, false
	}
	return t.UTC().Truncate(time.Microsecond), true
}

// decimal reads a JSON number or a string that holds one, exactly.
func (d *decoder) decimal(i int, field string) (*decimal.Decimal, *Refusal) {
	if k := d.json.nodes[i].kind; k != '0' && k != '"' {
		return nil, refuse(WrongType, field, "")
	}
	v, ok := parseDecimal(d.json.textOf(i))
	if !ok {
		return nil, refuse(BadNumber, field, "")
	}
	return &v, nil
}

// int reads a whole JSON number.
func (d *decoder) int(i int, field string) (int64, *Refusal) {
	if d.json.nodes[i].kind != '0' {
		return 0, refuse(WrongType, field, "")
	}
	n, ok := scanDecimal(d.json.textOf(i))
	if ok {
		var v int64
		if v, ok = n.int64(); ok && v == int64(int(v)) {
			return v, nil
		}
	}
	return 0, refuse(BadNumber, field, "")
}
