package metering_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mete/metering"
)

// one decodes a body of one event.
func one(t testing.TB, body string) metering.Decoded {
	t.Helper()
	all, err := metering.DecodeJSON([]byte(body), metering.Limits{})
	if err != nil || len(all) != 1 {
		t.Fatalf("%s: %d events, %v", body, len(all), err)
	}
	return all[0]
}

func TestDecodeStructured(t *testing.T) {
	d := one(t, ` {
		"specversion": "1.0", "id": "inv-2026-000123", "source": "billing", "type": "sale.paid",
		"time": "2026-09-14T05:00:00.1234569-05:00", "subject": "cust-42", "datacontenttype": "application/json; charset=utf-8",
		"dataschema": "https://example.com/schema", "traceparent": "00-1", "sampled": true, "nothing": null, "weight": 1e400,
		"data": {
			"app": "northwind-scheduler", "operation": "checkout", "class": "marketplace", "quantity": 2.50, "unit": "seat",
			"amount": "1200.50", "tax_amount": 99.00, "fee": 0.3, "currency": "USD", "status": 200, "latency_ms": 2.715098,
			"bytes": 203023, "environment": "production", "deal": "deal-7", "lead": "lead-9", "refers_to": "inv-2026-000122",
			"reference": "PO \u0034711", "region": "us-tx", "paid_months": 12, "dimensions": {"plan": "gold", "tier": "a b", "none": null}
		}
	} `)
	if d.Refusal != nil {
		t.Fatal(d.Refusal.Detail)
	}
	if diff := cmp.Diff(sale(), d.Event, byValue); diff != "" {
		t.Error(diff)
	}
	if !bytes.HasPrefix(d.Raw, []byte("{\n")) || !bytes.HasSuffix(d.Raw, []byte("}")) {
		t.Errorf("raw text %s", d.Raw)
	}
}

func TestDecodeAbsentIsAbsent(t *testing.T) {
	a := one(t, `{"specversion":"1.0","id":"1","source":"s","type":"usage.api"}`)
	b := one(t, `{"specversion":"1.0","id":"1","source":"s","type":"usage.api","time":null,"subject":null,"data":null,"data_base64":null,"datacontenttype":null}`)
	c := one(t, `{"specversion":"1.0","id":"1","source":"s","type":"usage.api","data":{"app":null,"amount":null,"dimensions":{}}}`)
	for _, d := range []metering.Decoded{a, b, c} {
		if d.Refusal != nil || !d.Event.TimeAbsent || !d.Event.Time.IsZero() {
			t.Errorf("%+v", d)
		}
		if metering.ContentHash(d.Event) != metering.ContentHash(a.Event) {
			t.Error("absent, null and empty say something different")
		}
	}
}

// TestDecodeNumbersExactly: what binary floating point cannot hold arrives whole.
func TestDecodeNumbersExactly(t *testing.T) {
	for text, want := range map[string]string{
		`0.1`: "0.1", `"0.10"`: "0.1", `9007199254740993`: "9007199254740993", `123456789012.123456789`: "123456789012.123456789",
		`1e3`: "1000", `1.5E-3`: "0.0015", `-0`: "0", `0.000`: "0", `12345678901234567890123456789.123456789`: "12345678901234567890123456789.123456789",
		`-12345678901234567890.5`: "-12345678901234567890.5", `100`: "100", `100.00`: "100",
	} {
		d := one(t, `{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"quantity":`+text+`}}`)
		if d.Refusal != nil || d.Event.Data.Quantity.String() != want {
			t.Errorf("%s: %v %+v, want %s", text, d.Event.Data.Quantity, d.Refusal, want)
		}
	}
	for _, text := range []string{`"1,200.50"`, `" 1"`, `"1 "`, `"+1"`, `".5"`, `"5."`, `"1_000"`, `"NaN"`, `"0x10"`, `""`, `"-"`, `"01"`, `"1e"`, `1e41`, `1e-99`, `"1e999999999"`,
		strings.Repeat("9", 41), `0.` + strings.Repeat("1", 80)} {
		d := one(t, `{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"amount":`+text+`}}`)
		if d.Refusal == nil || d.Refusal.Reason != metering.BadNumber || d.Refusal.Field != "data.amount" {
			t.Errorf("%s: %+v", text, d)
		}
	}
	for text, want := range map[string]string{`1.5`: "bad_number", `"1"`: "wrong_type", `9223372036854775808`: "bad_number", `1e2`: "", `true`: "wrong_type"} {
		d := one(t, `{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"bytes":`+text+`}}`)
		if d.Refusal == nil && want != "" || d.Refusal != nil && d.Refusal.Reason != want {
			t.Errorf("bytes %s: %+v, want %q", text, d.Refusal, want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	const head = `"id":"1","source":"s","type":"t"`
	full := func(rest string) string { return `{"specversion":"1.0",` + head + rest + `}` }
	for _, c := range []struct{ name, body, reason, field string }{
		{"no specversion", `{` + head + `}`, metering.BadSpecVersion, "specversion"},
		{"number for specversion", `{"specversion":1.0,` + head + `}`, metering.BadSpecVersion, "specversion"},
		{"old specversion", `{"specversion":"0.3",` + head + `}`, metering.BadSpecVersion, "specversion"},
		{"null specversion", `{"specversion":null,` + head + `}`, metering.BadSpecVersion, "specversion"},
		{"id is a number", `{"specversion":"1.0","id":1,"source":"s","type":"t"}`, metering.WrongType, "id"},
		{"attribute in capitals", full(`,"Subject":"x"`), metering.BadAttribute, ""},
		{"attribute with underscore", full(`,"trace_parent":"x"`), metering.BadAttribute, ""},
		{"time_absent is no attribute", full(`,"time_absent":true`), metering.BadAttribute, ""},
		{"time in words", full(`,"time":"yesterday"`), metering.BadTime, "time"},
		{"time without zone", full(`,"time":"2026-09-14T10:00:00"`), metering.BadTime, "time"},
		{"time as number", full(`,"time":1789380000`), metering.WrongType, "time"},
		{"time with comma", full(`,"time":"2026-09-14T10:00:00,5Z"`), metering.BadTime, "time"},
		{"data is text", full(`,"data":"x"`), metering.WrongType, "data"},
		{"data is an array", full(`,"data":[]`), metering.WrongType, "data"},
		{"unknown field", full(`,"data":{"patient_name":"x"}`), metering.UnknownField, "data.patient_name"},
		{"unknown null field", full(`,"data":{"patient_name":null}`), metering.UnknownField, "data.patient_name"},
		{"unknown field that may itself be a value", full(`,"data":{"Jane Doe 1961":"x"}`), metering.UnknownField, "data"},
		{"field in capitals", full(`,"data":{"App":"x"}`), metering.UnknownField, "data"},
		{"dimension is a number", full(`,"data":{"dimensions":{"plan":1}}`), metering.WrongType, "data.dimensions"},
		{"dimensions are an array", full(`,"data":{"dimensions":[]}`), metering.WrongType, "data.dimensions"},
		{"key twice", full(`,"id":"2"`), metering.DuplicateField, ""},
		{"key twice, once escaped", full(`,"\u0069d":"2"`), metering.DuplicateField, ""},
		{"key twice in data", full(`,"data":{"amount":1,"amount":2}`), metering.DuplicateField, ""},
		{"key twice in an extension", full(`,"ext":{"a":1,"a":2}`), metering.DuplicateField, ""},
		{"key twice among many", full(`,"ext":{` + manyKeys(40) + `,"k7":1}`), metering.DuplicateField, ""},
		{"data twice", full(`,"data":{},"data_base64":"e30="`), metering.DataTwice, "data"},
		{"base64 of no JSON", full(`,"data_base64":"aGVsbG8="`), metering.DataNotJSON, "data"},
		{"no base64", full(`,"data_base64":"%%%"`), metering.DataNotJSON, "data_base64"},
		{"base64 of an unknown field", full(`,"data_base64":"` + base64.StdEncoding.EncodeToString([]byte(`{"x":1}`)) + `"`), metering.UnknownField, "data.x"},
		{"base64 of a key twice", full(`,"data_base64":"` + base64.StdEncoding.EncodeToString([]byte(`{"app":"a","app":"b"}`)) + `"`), metering.DuplicateField, "data"},
		{"data is XML", full(`,"datacontenttype":"application/xml","data":"<x/>"`), metering.DataNotJSON, "datacontenttype"},
		{"data in Latin-1", full(`,"datacontenttype":"application/json; charset=iso-8859-1"`), metering.DataNotJSON, "datacontenttype"},
		{"too large", full(`,"ext":"` + strings.Repeat("x", metering.MaxEvent) + `"`), metering.TooLarge, ""},
		{"too complex", full(`,"ext":[` + strings.Repeat("1,", 5000) + `1]`), metering.TooComplex, ""},
	} {
		d := one(t, c.body)
		if d.Refusal == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		if d.Refusal.Reason != c.reason || d.Refusal.Field != c.field || d.Refusal.Class != metering.Unclean {
			t.Errorf("%s: %s at %q, want %s at %q", c.name, d.Refusal.Reason, d.Refusal.Field, c.reason, c.field)
		}
		if diff := cmp.Diff(metering.Event{}, d.Event); diff != "" {
			t.Errorf("%s: the refused event comes along: %s", c.name, diff)
		}
	}
}

func manyKeys(n int) string {
	var b []string
	for i := range n {
		b = append(b, fmt.Sprintf(`"k%d":1`, i))
	}
	return strings.Join(b, ",")
}

func TestDecodeBatchAnswersEachEvent(t *testing.T) {
	const good = `{"specversion":"1.0","id":"%d","source":"s","type":"usage.api","data":{"app":"a"}}`
	body := "[" + fmt.Sprintf(good, 0) + `, {"specversion":"1.0","id":"1","source":"s","type":"t","data":{"ssn":1}} ,7,` + "\n" + fmt.Sprintf(good, 3) + " ] "
	all, err := metering.DecodeJSON([]byte(body), metering.Limits{})
	if err != nil || len(all) != 4 {
		t.Fatalf("%d events, %v", len(all), err)
	}
	var got []string
	for _, d := range all {
		if d.Refusal != nil {
			got = append(got, d.Refusal.Reason)
		} else {
			got = append(got, d.Event.ID)
		}
	}
	if diff := cmp.Diff([]string{"0", "unknown_field", "wrong_type", "3"}, got); diff != "" {
		t.Error(diff)
	}
	if string(all[2].Raw) != "7" {
		t.Errorf("raw text of the third: %s", all[2].Raw)
	}
	if all, err := metering.DecodeJSON([]byte(" [ ] "), metering.Limits{}); err != nil || len(all) != 0 {
		t.Errorf("an empty batch: %v, %v", all, err)
	}
}

// TestDecodeLines: what stands on a line of its own is answered alone, also where it
// is no JSON.
func TestDecodeLines(t *testing.T) {
	event := func(id string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"s","type":"usage.api","data":{"app":"a"}}`, id)
	}
	body := "\xef\xbb\xbf" + event("1") + "\n\n \t\r\n" + event("2") + "\r\n" +
		`{"specversion":"1.0","id":"jane` + "\n" + event("4") + " " + event("5") + "\n[" + event("6") + "]\n" +
		`{"specversion":"1.0","id":"7","source":"s","type":"t","data":{"ssn":1}}` + "\n" +
		`{"specversion":"1.0","id":"8","x":"` + strings.Repeat("x", metering.MaxEvent) + `"}` + "\n" + event("9")
	all, err := metering.DecodeLines([]byte(body), metering.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range all {
		if d.Refusal != nil {
			got = append(got, d.Refusal.Reason)
			if strings.Contains(d.Refusal.Detail, "jane") {
				t.Errorf("the refusal quotes the line: %s", d.Refusal.Detail)
			}
			if diff := cmp.Diff(metering.Event{}, d.Event); diff != "" {
				t.Errorf("the refused event comes along: %s", diff)
			}
		} else {
			got = append(got, d.Event.ID)
		}
	}
	if diff := cmp.Diff([]string{"1", "2", "undecodable", "undecodable", "wrong_type", "unknown_field", "too_large", "9"}, got); diff != "" {
		t.Error(diff)
	}
	if string(all[1].Raw) != event("2") || string(all[2].Raw) != `{"specversion":"1.0","id":"jane` {
		t.Errorf("raw texts %q, %q", all[1].Raw, all[2].Raw)
	}
	for _, c := range []struct {
		body   string
		limits metering.Limits
		events int
		is     error
	}{
		{"", metering.Limits{}, 0, nil},
		{"\n\n", metering.Limits{}, 0, nil},
		{"{}\n{}", metering.Limits{Batch: 2}, 2, nil},
		{"{}\n\n{}\n{}", metering.Limits{Batch: 2}, 0, metering.ErrTooLarge},
		{"{}\n{}", metering.Limits{Body: 4}, 0, metering.ErrTooLarge},
	} {
		all, err := metering.DecodeLines([]byte(c.body), c.limits)
		if len(all) != c.events || !errors.Is(err, c.is) {
			t.Errorf("%q: %d events, %v", c.body, len(all), err)
		}
	}
}

// TestDecodeLinesAsBatch: the same events mean the same as an array and as lines.
func TestDecodeLinesAsBatch(t *testing.T) {
	batch := batchBody(500)
	lines := bytes.ReplaceAll(bytes.Trim(batch, "[]"), []byte("}},{"), []byte("}}\n{"))
	want, err := metering.DecodeJSON(batch, metering.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := metering.DecodeLines(lines, metering.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" || len(got) != 500 {
		t.Error(len(got), diff)
	}
}

func TestDecodeWholeBodyFails(t *testing.T) {
	long := `[` + strings.Repeat(`1,`, 1000) + `1]`
	for _, c := range []struct {
		name, body string
		limits     metering.Limits
		is         error
		want       string
	}{
		{"nothing", ``, metering.Limits{}, metering.ErrNotJSON, "at byte 0: want a CloudEvent object or an array"},
		{"a text", `"jane"`, metering.Limits{}, metering.ErrNotJSON, "at byte 0: want a CloudEvent object"},
		{"cut off", `[{"id":"jane`, metering.Limits{}, metering.ErrNotJSON, "at byte 12: want the closing quote"},
		{"two bodies", `{} {}`, metering.Limits{}, metering.ErrNotJSON, "at byte 3: want the end of the text"},
		{"comma at the end", `[{},]`, metering.Limits{}, metering.ErrNotJSON, "at byte 4: want a JSON value"},
		{"no comma", `[{} {}]`, metering.Limits{}, metering.ErrNotJSON, "want a comma or the end of the array"},
		{"no UTF-8", "{\"id\":\"\xff\"}", metering.Limits{}, metering.ErrNotJSON, "want valid UTF-8"},
		{"half a surrogate", `{"id":"\ud83c"}`, metering.Limits{}, metering.ErrNotJSON, "want a valid \\u escape"},
		{"bad escape", `{"id":"\x41"}`, metering.Limits{}, metering.ErrNotJSON, "want a valid escape"},
		{"line break in a text", "{\"id\":\"a\nb\"}", metering.Limits{}, metering.ErrNotJSON, "no control character"},
		{"leading zero", `{"id":01}`, metering.Limits{}, metering.ErrNotJSON, "want a comma or the end of the object"},
		{"NaN", `{"id":NaN}`, metering.Limits{}, metering.ErrNotJSON, "want a JSON value"},
		{"deep", strings.Repeat(`[`, 100), metering.Limits{}, metering.ErrNotJSON, "at most 64 levels"},
		{"key without quotes", `{id:1}`, metering.Limits{}, metering.ErrNotJSON, "want a key in quotes"},
		{"body", `{"id":"1"}`, metering.Limits{Body: 5}, metering.ErrTooLarge, "body of 10 bytes, at most 5"},
		{"8 MiB and a byte", strings.Repeat(" ", metering.MaxBody+1), metering.Limits{}, metering.ErrTooLarge, "send smaller batches"},
		{"1,001 events", long, metering.Limits{}, metering.ErrTooLarge, "more than 1000 events"},
		{"3 events", `[1,2,3]`, metering.Limits{Batch: 2}, metering.ErrTooLarge, "more than 2 events"},
	} {
		all, err := metering.DecodeJSON([]byte(c.body), c.limits)
		if !errors.Is(err, c.is) || all != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %v: %s", c.name, all, err, c.is, c.want)
			continue
		}
		if strings.Contains(err.Error(), "jane") {
			t.Errorf("%s: the error quotes the body: %v", c.name, err)
		}
		if bad := metering.RefusalOf(err); bad.Class != metering.Unclean || bad.Reason != metering.TooLarge && bad.Reason != metering.Undecodable {
			t.Errorf("%s: as a refusal %+v", c.name, bad)
		}
	}
}

func TestDecodeMediaTypes(t *testing.T) {
	const event = `{"specversion":"1.0","id":"1","source":"s","type":"usage.api"}`
	for _, c := range []struct {
		contentType, body string
		events            int
		is                error
	}{
		{"application/cloudevents+json", event, 1, nil},
		{"application/cloudevents+json; charset=UTF-8", event, 1, nil},
		{"Application/CloudEvents+JSON ;charset=utf-8", event, 1, nil},
		{"application/cloudevents-batch+json; charset=utf-8", "[" + event + "," + event + "]", 2, nil},
		{"application/json", event, 1, nil},
		{"application/json; charset=utf-8", "[" + event + "]", 1, nil},
		{"application/json; charset", event, 1, nil},
		{"application/x-ndjson", event + "\n" + event, 2, nil},
		{"application/ndjson; charset=utf-8", event, 1, nil},
		{"application/jsonl", "\n" + event + "\r\n", 1, nil},
		{"application/x-ndjson; charset=utf-16", event, 0, metering.ErrMediaType},
		{"", event, 1, nil},
		{"text/plain", event, 0, metering.ErrMediaType},
		{"application/x-www-form-urlencoded", event, 0, metering.ErrMediaType},
		{"application/json; charset=utf-16", event, 0, metering.ErrMediaType},
		{"application/cloudevents+xml", event, 0, metering.ErrMediaType},
	} {
		header := map[string][]string{"content-type": {c.contentType}}
		if c.contentType == "" {
			header = nil
		}
		all, err := metering.Decode(header, []byte(c.body), metering.Limits{})
		if len(all) != c.events || !errors.Is(err, c.is) {
			t.Errorf("%q: %d events, %v", c.contentType, len(all), err)
		}
	}
}

func TestDecodeBinary(t *testing.T) {
	header := map[string][]string{
		"Content-Type": {"application/json"}, "Ce-Specversion": {"1.0"}, "CE-ID": {"a%20b"}, "ce-source": {`"bil\"ling"`},
		"ce-type": {"usage.api"}, "ce-time": {"2026-09-14T10:00:00Z"}, "ce-subject": {"cust-%34"}, "ce-traceparent": {"00"}, "Accept": {"*/*"},
	}
	d, err := metering.Decode(header, []byte(`{"app":"a","status":200}`), metering.Limits{})
	if err != nil || len(d) != 1 || d[0].Refusal != nil {
		t.Fatalf("%+v %v", d, err)
	}
	want := metering.Event{ID: "a b", Source: `bil"ling`, Type: "usage.api", Time: time.Date(2026, 9, 14, 10, 0, 0, 0, time.UTC), Customer: "cust-4",
		Data: metering.Data{App: "a", Status: 200}}
	if diff := cmp.Diff(want, d[0].Event); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct {
		change func(h map[string][]string)
		body   string
		reason string
	}{
		{func(h map[string][]string) { h["Ce-Specversion"] = []string{"0.3"} }, `{}`, metering.BadSpecVersion},
		{func(h map[string][]string) { delete(h, "Ce-Specversion") }, `{}`, metering.BadSpecVersion},
		{func(h map[string][]string) { h["Content-Type"] = []string{"text/plain"} }, `x`, metering.DataNotJSON},
		{func(h map[string][]string) {
			delete(h, "Content-Type")
			h["ce-datacontenttype"] = []string{"text/xml"}
		}, `x`, metering.DataNotJSON},
		{func(h map[string][]string) { h["ce-time"] = []string{"noon"} }, `{}`, metering.BadTime},
		{func(h map[string][]string) {}, `{"ssn":1}`, metering.UnknownField},
		{func(h map[string][]string) {}, `{"app":"a","app":"b"}`, metering.DuplicateField},
		{func(h map[string][]string) {}, `{"app":`, metering.DataNotJSON},
		{func(h map[string][]string) {}, `[1]`, metering.WrongType},
		{func(h map[string][]string) {}, `"` + strings.Repeat("x", metering.MaxEvent) + `"`, metering.TooLarge},
		{func(h map[string][]string) {}, ``, ""},
		{func(h map[string][]string) {}, `null`, ""},
		{func(h map[string][]string) { h["ce-source"] = []string{"billing", "other"} }, `{}`, metering.DuplicateField},
		{func(h map[string][]string) { h["ce-id"] = []string{"other"} }, `{}`, metering.DuplicateField}, // beside CE-ID
		{func(h map[string][]string) { h["content-type"] = []string{"application/json"} }, `{}`, metering.DuplicateField},
		{func(h map[string][]string) { h["ce-traceparent"] = []string{"00", "01"} }, `{}`, ""}, // dropped
	} {
		h := map[string][]string{}
		for k, v := range header {
			h[k] = v
		}
		c.change(h)
		d, err := metering.Decode(h, []byte(c.body), metering.Limits{})
		if err != nil || len(d) != 1 {
			t.Fatalf("%.40s: %v %v", c.body, d, err)
		}
		if d[0].Refusal == nil && c.reason != "" || d[0].Refusal != nil && d[0].Refusal.Reason != c.reason {
			t.Errorf("%.40s: %+v, want %q", c.body, d[0].Refusal, c.reason)
		}
	}
	if _, err := metering.Decode(header, make([]byte, 100), metering.Limits{Body: 10}); !errors.Is(err, metering.ErrTooLarge) {
		t.Errorf("a body too large: %v", err)
	}
}

// TestDecodeWhatTheSDKSends lets the CloudEvents SDK be the sender, in both modes.
func TestDecodeWhatTheSDKSends(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Without percent signs: the SDK does not encode them in binary mode, although
		// the HTTP binding says that receivers decode.
		name := rapid.StringMatching(`[a-z][a-zA-Z0-9 _.~"/ü東-]{0,18}[a-z]`)
		want := metering.Event{
			ID: name.Draw(t, "id"), Source: rapid.StringMatching(`[a-z]{1,8}(/[a-z0-9]{1,5}){0,2}`).Draw(t, "source"), Type: "usage.api",
			Data: metering.Data{App: "northwind-scheduler", Quantity: anyNumber.Draw(t, "quantity"), Bytes: rapid.Int64().Draw(t, "bytes"),
				Reference: name.Draw(t, "reference"), Operation: rapid.StringN(0, 10, -1).Draw(t, "operation")},
		}
		sent := cloudevents.New("1.0")
		sent.SetID(want.ID)
		sent.SetSource(want.Source)
		sent.SetType(want.Type)
		if rapid.Bool().Draw(t, "timed") {
			want.Time = time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "time")).UTC()
			sent.SetTime(want.Time)
		} else {
			want.TimeAbsent = true
		}
		if rapid.Bool().Draw(t, "for a customer") {
			want.Customer = "cust-83.149.9.216"
			sent.SetSubject(string(want.Customer))
		}
		sent.SetExtension("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00")
		if err := sent.SetData("application/json", want.Data); err != nil {
			t.Fatal(err)
		}

		body, err := json.Marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		structured, err := metering.Decode(map[string][]string{"Content-Type": {"application/cloudevents+json"}}, body, metering.Limits{})
		same(t, "structured", structured, err, want)

		ctx := context.Background()
		for mode, ctx := range map[string]context.Context{"binary": binding.WithForceBinary(ctx), "structured over HTTP": binding.WithForceStructured(ctx)} {
			req, err := http.NewRequest(http.MethodPost, "http://localhost/", nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := cehttp.WriteRequest(ctx, binding.ToMessage(&sent), req); err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				t.Fatal(err)
			}
			got, err := metering.Decode(req.Header, body, metering.Limits{})
			same(t, mode, got, err, want)
		}
	})
}

func same(t *rapid.T, mode string, got []metering.Decoded, err error, want metering.Event) {
	t.Helper()
	if err != nil || len(got) != 1 || got[0].Refusal != nil {
		t.Fatalf("%s: %+v %v", mode, got, err)
	}
	if diff := cmp.Diff(want, got[0].Event, byValue); diff != "" {
		t.Fatalf("%s: %s", mode, diff)
	}
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","time":"2026-09-14T10:00:00Z","data":{"amount":1.50,"dimensions":{"a":"b"}}}`))
	f.Add([]byte(`[{"specversion":"1.0","id":"\ud83c\udf0e","source":"s","type":"t","data_base64":"e30="},[],{"a":{"b":[1,2.5e-7,null,true]}}]`))
	f.Add([]byte("\xef\xbb\xbf[]"))
	dir := directory()
	f.Fuzz(func(t *testing.T, body []byte) {
		all, err := metering.DecodeJSON(body, metering.Limits{})
		if (err == nil) != json.Valid(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))) && err == nil {
			t.Fatalf("%q is no JSON, but was read", body)
		}
		for _, d := range all {
			if d.Refusal != nil {
				d.Refusal.Seal(d.Raw, "fuzz", at)
				continue
			}
			back, err := metering.DecodeCanonical(metering.AppendCanonical(nil, d.Event))
			if err != nil || metering.ContentHash(back) != metering.ContentHash(d.Event) {
				t.Fatalf("%q: %v", body, err)
			}
			if bad := metering.Validate(d.Event, dir, at); bad != nil && bad.Class == metering.Unclean && bad.Event != nil {
				t.Fatalf("%q: unclean, but kept", body)
			}
		}
	})
}

// TestDecodeRefusalsTellNothing puts a secret at any place of a body and asserts that
// no refusal and no error holds it.
func TestDecodeRefusalsTellNothing(t *testing.T) {
	const secret = "Zaphod1961"
	body := `{"specversion":"1.0","id":"1","source":"s","type":"t","time":"2026-09-14T10:00:00Z","ext":{"a":1},"data":{"app":"a","amount":"1.5","bytes":5,"dimensions":{"x":"y"}}}`
	refused := 0
	for i := range body {
		for _, in := range []string{secret, `"` + secret + `"`, `"` + secret + `":1,`, "\x01" + secret, `\q` + secret} {
			for _, cut := range []int{0, 1, 3} {
				text := body[:i] + in + body[min(len(body), i+cut):]
				all, err := metering.DecodeJSON([]byte(text), metering.Limits{})
				if err != nil {
					refused++
					if strings.Contains(err.Error(), "Zaphod") {
						t.Fatalf("%s: %v", text, err)
					}
				}
				for _, d := range all {
					if d.Refusal == nil {
						continue
					}
					refused++
					d.Refusal.Seal(d.Raw, "", at)
					if b, err := json.Marshal(d.Refusal); err != nil || strings.Contains(strings.ToLower(string(b)), "zaphod") {
						t.Fatalf("%s: %s", text, b)
					}
				}
			}
		}
	}
	if refused < 1000 {
		t.Errorf("only %d refusals were looked at", refused)
	}
}

func batchBody(n int) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"specversion":"1.0","id":"957cc5fcfa8c506b0f9f8d02%08x","source":"gateway-7","type":"usage.api","time":"2026-11-23T15:01:45.396Z","subject":"cust-%d","datacontenttype":"application/json","data":{"app":"northwind-scheduler","operation":"appointments","class":"api","status":200,"latency_ms":1.25,"bytes":203259,"environment":"production","dimensions":{"plan":"gold"}}}`, i, i%400)
	}
	b.WriteByte(']')
	return b.Bytes()
}

func BenchmarkDecodeJSON(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			body := batchBody(n)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				all, err := metering.DecodeJSON(body, metering.Limits{})
				if err != nil || len(all) != n || all[0].Refusal != nil {
					b.Fatal(err, len(all))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
		})
	}
}

func TestDecodeAllocations(t *testing.T) {
	body := batchBody(1000)
	n := testing.AllocsPerRun(5, func() {
		if _, err := metering.DecodeJSON(body, metering.Limits{}); err != nil {
			t.Fatal(err)
		}
	})
	if n/1000 >= 10 {
		t.Errorf("%v allocations per event", n/1000)
	}
}

func BenchmarkCanonical(b *testing.B) {
	e := sale()
	text := metering.AppendCanonical(nil, e)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			text = metering.AppendCanonical(text[:0], e)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		var d metering.CanonicalDecoder
		for b.Loop() {
			if _, err := d.Decode(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
