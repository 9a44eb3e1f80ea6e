package metering

import (
	"errors"
	"fmt"
	"mime"
	"strings"

	"mete/partner"
)

// Decode reads what an HTTP request or a NATS message carries: a structured
// CloudEvent, a batch, or one event in binary mode (attributes in headers beginning
// with ce-, the body is its data). Header names count in any case.
//
// Media types are read leniently: application/cloudevents+json,
// application/cloudevents-batch+json and application/json may each carry one object
// or an array, with parameters; without a content type the body tells. A character
// set other than UTF-8 fails with [ErrMediaType], as does any other type outside
// binary mode.
func Decode(header map[string][]string, body []byte, l Limits) ([]Decoded, error) {
	contentType, attributes, twice := readHeader(header)
	base, params, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		base = strings.ToLower(strings.TrimSpace(contentType))
	}
	structured := base == "application/cloudevents+json" || base == "application/cloudevents-batch+json"
	if !structured && attributes != nil {
		if twice {
			return []Decoded{{Raw: body, Refusal: refuse(DuplicateField, "", "")}}, nil
		}
		return decodeBinary(contentType, attributes, body, l)
	}
	lines := base == "application/x-ndjson" || base == "application/ndjson" || base == "application/jsonl"
	if !structured && !lines && base != "" && base != "application/json" && base != "text/json" {
		return nil, fmt.Errorf("content type of the request: send application/cloudevents+json, application/cloudevents-batch+json, application/json or application/x-ndjson: %w", ErrMediaType)
	}
	if !isUTF8Charset(params["charset"]) {
		return nil, fmt.Errorf("character set of the request: send UTF-8: %w", ErrMediaType)
	}
	if lines {
		return DecodeLines(body, l)
	}
	return DecodeJSON(body, l)
}

// readHeader picks the content type and the attributes of binary mode, the latter by
// name without ce-: nil without any ce- header. Extensions are dropped. Twice says
// that one of them was sent more than once: readers disagree about which one counts.
func readHeader(header map[string][]string) (contentType string, attributes map[string]string, twice bool) {
	typed := false
	for name, values := range header {
		if len(values) == 0 {
			continue
		}
		switch lower := strings.ToLower(name); {
		case lower == "content-type":
			twice = twice || typed || len(values) > 1
			contentType, typed = values[0], true
		case strings.HasPrefix(lower, "ce-"):
			if attributes == nil {
				attributes = map[string]string{}
			}
			switch name := lower[len("ce-"):]; name {
			case "id", "source", "type", "specversion", "subject", "time", "datacontenttype":
				_, known := attributes[name]
				twice = twice || known || len(values) > 1
				attributes[name] = unheader(values[0])
			}
		}
	}
	return contentType, attributes, twice
}

// unheader undoes what the HTTP binding does to a value: quotes with backslashes,
// then one round of percent-encoding.
func unheader(v string) string {
	v = strings.TrimSpace(v)
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		var b strings.Builder
		for in, i := v[1:len(v)-1], 0; i < len(in); i++ {
			if in[i] == '\\' && i+1 < len(in) {
				i++
			}
			b.WriteByte(in[i])
		}
		v = b.String()
	}
	if plain, ok := unquote(v); ok {
		return plain
	}
	return v
}

// unquote undoes percent-encoding where it is valid; ok if anything changed.
func unquote(s string) (string, bool) {
	var out []byte
	from := 0
	for i := 0; i+2 < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		v, ok := hex4([]byte{'0', '0', s[i+1], s[i+2]})
		if !ok {
			continue
		}
		out = append(append(out, s[from:i]...), byte(v))
		i += 2
		from = i + 1
	}
	if out == nil {
		return s, false
	}
	return string(append(out, s[from:]...)), true
}

// decodeBinary reads one event in binary mode.
func decodeBinary(contentType string, attributes map[string]string, body []byte, l Limits) ([]Decoded, error) {
	l = l.withDefaults()
	if len(body) > l.Body {
		return nil, fmt.Errorf("body of %d bytes, at most %d are taken: %w", len(body), l.Body, ErrTooLarge)
	}
	out := Decoded{Raw: body}
	e := Event{ID: attributes["id"], Source: attributes["source"], Type: attributes["type"], TimeAbsent: true}
	refused := func(r *Refusal) ([]Decoded, error) {
		out.Refusal = r
		return []Decoded{out}, nil
	}
	if len(body) > l.Event {
		return refused(refuse(TooLarge, "", fmt.Sprintf("event of %d bytes, at most %d are taken", len(body), l.Event)))
	}
	if attributes["specversion"] != "1.0" {
		return refused(refuse(BadSpecVersion, "specversion", ""))
	}
	e.Customer = partner.CustomerID(attributes["subject"])
	if t := attributes["time"]; t != "" {
		var ok bool
		if e.Time, ok = parseTime([]byte(t)); !ok {
			return refused(refuse(BadTime, "time", ""))
		}
		e.TimeAbsent = false
	}
	if contentType == "" {
		contentType = attributes["datacontenttype"] // as the NATS binding writes it
	}
	if len(body) > 0 {
		if contentType != "" && !isJSONType([]byte(contentType)) {
			return refused(refuse(DataNotJSON, "datacontenttype", ""))
		}
		var d decoder
		if r := d.dataText(&e.Data, body); r != nil {
			return refused(r)
		}
	}
	out.Event = e
	return []Decoded{out}, nil
}

// RefusalOf turns the failure of a whole body into a refusal, for ways in that
// cannot answer a sender: the body is not kept. The caller seals it.
func RefusalOf(err error) *Refusal {
	switch {
	case errors.Is(err, ErrTooLarge):
		return refuse(TooLarge, "", err.Error())
	case errors.Is(err, ErrMediaType):
		return refuse(DataNotJSON, "", err.Error())
	}
	return refuse(Undecodable, "", err.Error())
}
