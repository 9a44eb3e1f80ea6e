package metering

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/shopspring/decimal"
)

// AppendCanonical writes the accept-listed form of an event, the only form that
// enters the permanent stream: one JSON object without spaces, fields in the order
// of [Event] and [Data], absent ones left out, decimals as texts in their one form,
// dimensions by name. Equal events have equal bytes, and encoding/json reads them
// into an Event too.
//
// The event must hold valid UTF-8, decimals of at most 40 digits and a time of the
// years 1 to 9999, as every decoded one does; an invalid byte is written as U+FFFD.
func AppendCanonical(dst []byte, e Event) []byte {
	w := canonical{b: append(dst, '{')}
	w.text("id", e.ID)
	w.text("source", e.Source)
	w.text("type", e.Type)
	if !e.Time.IsZero() {
		w.name("time")
		w.b = append(w.b, '"')
		w.b = e.Time.UTC().AppendFormat(w.b, time.RFC3339Nano)
		w.b = append(w.b, '"')
	}
	if e.TimeAbsent {
		w.name("time_absent")
		w.b = append(w.b, "true"...)
	}
	w.text("subject", string(e.Customer))
	w.name("data")
	w.b = append(w.b, '{')
	d := &e.Data
	w.text("app", string(d.App))
	w.text("operation", d.Operation)
	w.text("class", string(d.Class))
	w.decimal("quantity", d.Quantity)
	w.text("unit", d.Unit)
	w.decimal("amount", d.Amount)
	w.decimal("tax_amount", d.TaxAmount)
	w.decimal("fee", d.Fee)
	w.text("currency", string(d.Currency))
	w.int("status", int64(d.Status))
	w.decimal("latency_ms", d.LatencyMS)
	w.int("bytes", d.Bytes)
	w.text("environment", string(d.Environment))
	w.text("deal", d.Deal)
	w.text("lead", d.Lead)
	w.text("refers_to", d.RefersTo)
	w.text("reference", d.Reference)
	w.text("region", d.Region)
	w.int("paid_months", int64(d.PaidMonths))
	if len(d.Dimensions) > 0 {
		w.name("dimensions")
		w.b = append(w.b, '{')
		for _, name := range sortedNames(d.Dimensions) {
			w.name(name)
			w.b = appendJSONText(w.b, d.Dimensions[name])
		}
		w.b = append(w.b, '}')
	}
	return append(w.b, '}', '}')
}

type canonical struct{ b []byte }

func (w *canonical) name(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(appendJSONText(w.b, name), ':')
}

func (w *canonical) text(name, value string) {
	if value != "" {
		w.name(name)
		w.b = appendJSONText(w.b, value)
	}
}

func (w *canonical) int(name string, v int64) {
	if v != 0 {
		w.name(name)
		w.b = strconv.AppendInt(w.b, v, 10)
	}
}

func (w *canonical) decimal(name string, d *decimal.Decimal) {
	if d != nil {
		w.name(name)
		w.b = append(appendDecimal(append(w.b, '"'), *d), '"')
	}
}

// appendJSONText writes s in quotes, with the escapes that JSON demands and no others.
func appendJSONText(b []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			i++
		case c < utf8.RuneSelf:
			b = append(b, c)
			i++
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += n
		}
	}
	return append(b, '"')
}

// DecodeCanonical reads what AppendCanonical writes, strictly: an unknown field is an
// error, as is trailing text. It does not validate what the event says.
func DecodeCanonical(b []byte) (Event, error) {
	return new(CanonicalDecoder).Decode(b)
}

// CanonicalDecoder reads many stored events one after the other, with less memory
// than DecodeCanonical needs for each. The zero value is ready; it is not for
// concurrent use.
type CanonicalDecoder struct{ d decoder }

// Decode reads one event as DecodeCanonical does. It keeps nothing of b.
func (c *CanonicalDecoder) Decode(b []byte) (Event, error) {
	if len(b) > maxCanonical {
		return Event{}, fmt.Errorf("stored event of %d bytes: at most %d: %w", len(b), maxCanonical, ErrTooLarge)
	}
	d := &c.d
	if d.json.nodes == nil {
		d.json.nodes = make([]node, 0, usualNodes)
	}
	d.json.reset(b, 0)
	d.json.space()
	if !d.json.value(0, 0, false) || !d.atEnd() {
		return Event{}, fmt.Errorf("stored event: %w", d.failed())
	}
	var e Event
	if r := d.event(&e, true); r != nil {
		return Event{}, fmt.Errorf("stored event: %s: %s", r.Reason, r.Detail)
	}
	return e, nil
}

// maxCanonical bounds one stored event. Escapes make an event at most six times as
// long as it was sent.
const maxCanonical = 6 * MaxEvent
