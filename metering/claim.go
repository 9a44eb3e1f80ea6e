package metering

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// Claim is what somebody else's log says of one event: as much of it as that log
// keeps. What it does not say is not compared.
type Claim struct {
	Line    int
	ID      string
	Source  string // empty: the log does not say
	Receipt string // that the sender was given, if the log keeps it
	Digest  string // of the line's text, as a refusal of it has it
	Event   Event  // what it says; the rest is empty
	says    []claimField
	bad     string // why nothing of the line can be compared
}

// Bad is why the line cannot be compared, "" if it can. It repeats nothing of the line.
func (c *Claim) Bad() string { return c.bad }

// Says reports whether the claim says something of a field.
func (c *Claim) Says(field string) bool {
	return slices.ContainsFunc(c.says, func(f claimField) bool { return f.name == field })
}

// FieldDifference is one field that two logs say otherwise.
type FieldDifference struct {
	Field  string `json:"field"`
	Theirs string `json:"theirs"`
	Ours   string `json:"ours"`
}

// Differences are the fields that the claim says otherwise than the event, in the order
// in which it says them.
func (c *Claim) Differences(e *Event) []FieldDifference {
	var all []FieldDifference
	for _, f := range c.says {
		if theirs, ours := f.text(&c.Event), f.text(e); theirs != ours && !f.same(&c.Event, e) {
			all = append(all, FieldDifference{f.name, theirs, ours})
		}
	}
	return all
}

// claimField is a field that can be claimed.
type claimField struct {
	name string
	text func(e *Event) string
	read func(e *Event, text string) error // "" is never read
	same func(theirs, ours *Event) bool    // what text does not tell
}

// claimFields are all of them but id and source, in the order of an event's fields. A
// log's columns have these names.
var claimFields = func() []claimField {
	never := func(_, _ *Event) bool { return false }
	text := func(name string, at func(e *Event) *string) claimField {
		return claimField{name, func(e *Event) string { return *at(e) }, func(e *Event, s string) error { *at(e) = s; return nil }, never}
	}
	dec := func(name string, at func(d *Data) **decimal.Decimal) claimField {
		return claimField{name, func(e *Event) string {
			if d := *at(&e.Data); d != nil {
				return d.String()
			}
			return ""
		}, func(e *Event, s string) error {
			d, err := decimal.NewFromString(s)
			if err != nil || len(s) > maxDigits || d.NumDigits() > maxDigits || d.Exponent() > maxExponent || d.Exponent() < -maxExponent {
				return errors.New("is no plain decimal number")
			}
			*at(&e.Data) = &d
			return nil
		}, func(theirs, ours *Event) bool {
			a, b := *at(&theirs.Data), *at(&ours.Data)
			return a != nil && b != nil && a.Equal(*b)
		}}
	}
	whole := func(name string, get func(d *Data) int64, set func(d *Data, n int64)) claimField {
		return claimField{name, func(e *Event) string { return strconv.FormatInt(get(&e.Data), 10) }, func(e *Event, s string) error {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return errors.New("is no whole number")
			}
			set(&e.Data, n)
			return nil
		}, never}
	}
	quantity := dec("quantity", func(d *Data) **decimal.Decimal { return &d.Quantity })
	quantity.text = func(e *Event) string {
		if e.Data.Quantity == nil {
			return "1" // absent is one
		}
		return e.Data.Quantity.String()
	}
	environment := text("environment", func(e *Event) *string { return (*string)(&e.Data.Environment) })
	environment.text = func(e *Event) string {
		if e.Data.Environment == "" {
			return string(Production)
		}
		return string(e.Data.Environment)
	}
	return []claimField{
		text("type", func(e *Event) *string { return &e.Type }),
		{"time", func(e *Event) string { return e.Time.UTC().Format(time.RFC3339Nano) }, func(e *Event, s string) (err error) {
			if e.Time, err = time.Parse(time.RFC3339Nano, s); err != nil {
				return errors.New("is no time: want RFC 3339, such as 2026-09-01T00:00:00Z")
			}
			e.Time = e.Time.UTC()
			return nil
		}, never},
		text("subject", func(e *Event) *string { return (*string)(&e.Customer) }),
		text("app", func(e *Event) *string { return (*string)(&e.Data.App) }),
		text("operation", func(e *Event) *string { return &e.Data.Operation }),
		text("class", func(e *Event) *string { return (*string)(&e.Data.Class) }),
		quantity,
		text("unit", func(e *Event) *string { return &e.Data.Unit }),
		dec("amount", func(d *Data) **decimal.Decimal { return &d.Amount }),
		dec("tax_amount", func(d *Data) **decimal.Decimal { return &d.TaxAmount }),
		dec("fee", func(d *Data) **decimal.Decimal { return &d.Fee }),
		text("currency", func(e *Event) *string { return (*string)(&e.Data.Currency) }),
		whole("status", func(d *Data) int64 { return int64(d.Status) }, func(d *Data, n int64) { d.Status = int(n) }),
		dec("latency_ms", func(d *Data) **decimal.Decimal { return &d.LatencyMS }),
		whole("bytes", func(d *Data) int64 { return d.Bytes }, func(d *Data, n int64) { d.Bytes = n }),
		environment,
		text("deal", func(e *Event) *string { return &e.Data.Deal }),
		text("lead", func(e *Event) *string { return &e.Data.Lead }),
		text("refers_to", func(e *Event) *string { return &e.Data.RefersTo }),
		text("reference", func(e *Event) *string { return &e.Data.Reference }),
		text("region", func(e *Event) *string { return &e.Data.Region }),
		whole("paid_months", func(d *Data) int64 { return int64(d.PaidMonths) }, func(d *Data, n int64) { d.PaidMonths = int(n) }),
	}
}()

// timeTo makes the times of two logs comparable: a log that keeps seconds says nothing
// of what is finer.
func timeTo(digits int) claimField {
	unit := time.Second
	for range digits {
		unit /= 10
	}
	f := claimFields[slices.IndexFunc(claimFields, func(f claimField) bool { return f.name == "time" })]
	f.same = func(theirs, ours *Event) bool { return theirs.Time.Truncate(unit).Equal(ours.Time.Truncate(unit)) }
	return f
}

// ClaimFields are the names of the columns that a log may have, those beside id and
// source that are compared and the receipt.
func ClaimFields() []string {
	names := []string{"id", "source", "receipt"}
	for _, f := range claimFields {
		names = append(names, f.name)
	}
	return names
}

// ClaimReader reads somebody else's log, line by line, in constant memory.
type ClaimReader struct {
	next    func() (Claim, error)
	ignored map[string]bool
}

// Next is the next line's claim. The end is io.EOF; any other error is the reader's and
// ends the log. A line that cannot be read is a claim that says why.
func (r *ClaimReader) Next() (Claim, error) { return r.next() }

// Ignored are the columns so far of which nothing is compared, at most some.
func (r *ClaimReader) Ignored() []string { return slices.Sorted(maps.Keys(r.ignored)) }

// maxIgnored bounds the columns that are told to be ignored.
const maxIgnored = 50

func (r *ClaimReader) ignore(name string) {
	if shown := sayable(strings.ToLower(name)); len(r.ignored) < maxIgnored {
		if shown == "" {
			shown = "(a name that is not shown)"
		}
		r.ignored[shown] = true
	}
}

// Claims reads a log of one record a line: CSV with a header, or JSON objects, flat or
// with what the event says in data. Which, its first character tells. The columns are
// those of [ClaimFields].
func Claims(in io.Reader) (*ClaimReader, error) {
	b := bufio.NewReaderSize(in, 64<<10)
	first, err := b.Peek(3)
	if len(first) == 0 && err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the file is empty")
		}
		return nil, err
	}
	if string(first) == "\xef\xbb\xbf" {
		if _, err := b.Discard(3); err != nil {
			return nil, err
		}
		first, _ = b.Peek(1)
	}
	r := &ClaimReader{ignored: map[string]bool{}}
	lines := &lineReader{in: b}
	if len(first) > 0 && first[0] == '{' {
		r.next = func() (Claim, error) { return lines.each(r.object) }
		return r, nil
	}
	head, err := lines.next()
	if err != nil {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	columns, err := csvLine(head)
	if err != nil {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	set := make([]func(c *Claim, text string) error, len(columns))
	seen := map[string]bool{}
	for i, name := range columns {
		name = strings.ToLower(strings.TrimSpace(name))
		if set[i] = claimColumn(name); set[i] == nil {
			r.ignore(name)
		} else if seen[name] {
			return nil, fmt.Errorf("line 1: two columns are called %s", name)
		}
		seen[name] = true
	}
	if !seen["id"] {
		return nil, fmt.Errorf("line 1: no column is called id; columns that are compared: %s", strings.Join(ClaimFields(), ", "))
	}
	r.next = func() (Claim, error) {
		return lines.each(func(c *Claim, line []byte) error {
			fields, err := csvLine(line)
			if err != nil {
				return err
			}
			if len(fields) != len(set) {
				return fmt.Errorf("%d fields, the header has %d", len(fields), len(set))
			}
			for i, text := range fields {
				if text = strings.TrimSpace(text); set[i] != nil && text != "" {
					if err := set[i](c, text); err != nil {
						return fmt.Errorf("%s %w", columns[i], err)
					}
				}
			}
			return nil
		})
	}
	return r, nil
}

func csvLine(line []byte) ([]string, error) {
	r := csv.NewReader(bytes.NewReader(line))
	r.FieldsPerRecord = -1
	fields, err := r.Read()
	var parse *csv.ParseError
	switch {
	case errors.As(err, &parse):
		return nil, fmt.Errorf("is no line of CSV: %w", parse.Err)
	case err != nil:
		return nil, errors.New("is no line of CSV")
	}
	return fields, nil
}

// claimColumn puts the text of a column into a claim; nil: it is not compared.
func claimColumn(name string) func(c *Claim, text string) error {
	switch name {
	case "id":
		return func(c *Claim, text string) error { c.ID = text; return nil }
	case "source":
		return func(c *Claim, text string) error { c.Source = text; return nil }
	case "receipt":
		return func(c *Claim, text string) error { c.Receipt = text; return nil }
	case "time":
		return func(c *Claim, text string) error {
			f := timeTo(fractionDigits(text))
			c.says = append(c.says, f)
			return f.read(&c.Event, text)
		}
	}
	i := slices.IndexFunc(claimFields, func(f claimField) bool { return f.name == name })
	if i < 0 {
		return nil
	}
	f := claimFields[i]
	return func(c *Claim, text string) error {
		c.says = append(c.says, f)
		return f.read(&c.Event, text)
	}
}

// fractionDigits is how many decimals the seconds of a time have, at most 9.
func fractionDigits(text string) int {
	_, rest, ok := strings.Cut(text, ".")
	if !ok {
		return 0
	}
	n := 0
	for n < len(rest) && n < 9 && isDigit(rest[n]) {
		n++
	}
	return n
}

// object reads a line that is a JSON object.
func (r *ClaimReader) object(c *Claim, line []byte) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var all map[string]any
	if err := d.Decode(&all); err != nil || d.More() {
		return errors.New("is no JSON object")
	}
	if data, ok := all["data"].(map[string]any); ok {
		delete(all, "data")
		for name, v := range data {
			if _, twice := all[name]; twice {
				return fmt.Errorf("says %s twice, in data and beside it", sayable(name))
			}
			all[name] = v
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		text := ""
		switch v := all[name].(type) {
		case nil:
			continue
		case string:
			text = strings.TrimSpace(v)
		case json.Number:
			text = v.String()
		default:
			r.ignore(name)
			continue
		}
		set := claimColumn(name)
		if set == nil {
			r.ignore(name)
			continue
		}
		if text != "" {
			if err := set(c, text); err != nil {
				return fmt.Errorf("%s %w", name, err)
			}
		}
	}
	return nil
}

// lineReader cuts a log into lines of at most MaxLine bytes.
type lineReader struct {
	in   *bufio.Reader
	line int
	buf  []byte
}

// errLongLine says that a line is longer than MaxLine.
var errLongLine = fmt.Errorf("has more than %d bytes", MaxLine)

// next is the next line without its end, or errLongLine.
func (l *lineReader) next() ([]byte, error) {
	l.buf = l.buf[:0]
	long := false
	for {
		part, err := l.in.ReadSlice('\n')
		if len(l.buf)+len(part) > MaxLine+2 {
			long, part = true, nil
		}
		l.buf = append(l.buf, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && (len(l.buf) > 0 || long), err == nil:
			l.line++
			if long {
				return nil, errLongLine
			}
			return bytes.TrimRight(l.buf, "\r\n"), nil
		}
		return nil, err
	}
}

// each reads the next line that is not blank as a claim.
func (l *lineReader) each(read func(c *Claim, line []byte) error) (Claim, error) {
	for {
		line, err := l.next()
		if err != nil && !errors.Is(err, errLongLine) {
			return Claim{}, err
		}
		c := Claim{Line: l.line}
		if err == nil {
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			digest := sha256.Sum256(line)
			c.Digest = hex.EncodeToString(digest[:])
			err = read(&c, line)
		}
		switch {
		case err != nil:
			c.bad = err.Error()
		case c.ID == "":
			c.bad = "has no id"
		case len(c.ID) > MaxID || len(c.Source) > MaxSource:
			c.bad = fmt.Sprintf("has an id or source of more than %d bytes", MaxID)
		}
		return c, nil
	}
}

// LogClaims reads a gateway's log as somebody else's: each line claims all that its
// mapping takes from it.
func LogClaims(log *LogReader) *ClaimReader {
	return &ClaimReader{ignored: map[string]bool{}, next: func() (Claim, error) {
		d, err := log.Next()
		if err != nil {
			return Claim{}, err
		}
		digest := sha256.Sum256(d.Raw)
		c := Claim{Line: d.Line, ID: d.Event.ID, Source: d.Event.Source, Event: d.Event, Digest: hex.EncodeToString(digest[:])}
		if d.Refusal != nil {
			c.bad = "is no event: " + d.Refusal.Reason
			return c, nil
		}
		for _, f := range claimFields {
			if f.name != "time" || !d.Event.TimeAbsent {
				c.says = append(c.says, f)
			}
		}
		for _, name := range sortedNames(d.Event.Data.Dimensions) {
			c.says = append(c.says, claimField{dimensionField(name),
				func(e *Event) string { return e.Data.Dimensions[name] }, nil, func(_, _ *Event) bool { return false }})
		}
		return c, nil
	}}
}
