package httpin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"mete/internal/testdata"
	"mete/metering"
)

// suite is one event of the conformance data of CloudEvents as this test sends it.
type suite struct {
	name       string
	attributes map[string]string // as they must arrive, extensions too
	data       string
}

func (e suite) isJSON() bool {
	return strings.HasPrefix(e.attributes["datacontenttype"]+"application/json", "application/json")
}

// decisions say what becomes of the suite's events here: it shows that attributes and
// data arrive as they were meant, and mete takes usage, of which the suite has none.
// The first row that fits counts. Without its data every event of version 1.0 is one
// that mete reads and keeps, refused only because no meter counts its type.
var decisions = []struct {
	what   string
	fits   func(e suite) bool
	reason string
	why    string
}{
	{"any other version", func(e suite) bool { return e.attributes["specversion"] != "1.0" }, metering.BadSpecVersion,
		"0.3 names attributes differently (schemaurl, datacontentencoding): read as 1.0, it could say something else"},
	{"no data and no source", func(e suite) bool { return e.data == "" && e.attributes["source"] == "" }, metering.MissingField,
		"source is required, and says whose the event is"},
	{"no data", func(e suite) bool { return e.data == "" }, metering.UnknownType,
		"read whole, and kept: a meter for the type would count it"},
	{"text and XML", func(e suite) bool { return !e.isJSON() }, metering.DataNotJSON,
		"what is metered stands in fields of data; there are none in text"},
	{"JSON that is no object", func(e suite) bool { return !strings.HasPrefix(e.data, "{") }, metering.WrongType,
		"the same"},
	{"fields that are not declared", func(suite) bool { return true }, metering.UnknownField,
		"data is closed: a field that nobody declared may be about a patient"},
}

func decided(t *testing.T, e suite) (reason string) {
	t.Helper()
	for _, d := range decisions {
		if d.fits(e) {
			return d.reason
		}
	}
	t.Fatalf("%s: no decision fits", e.name)
	return ""
}

// conformanceWorld has the sources that the suite's events name.
func conformanceWorld(events ...suite) *world {
	w := newWorld()
	sources := []metering.Source{{Name: "gw-eu-1", Owner: "eu"}}
	for _, e := range events {
		sources = append(sources, metering.Source{Name: e.attributes["source"], Owner: "eu"})
	}
	d := metering.NewDirectory(nil, nil, sources)
	w.Gate.Directory = func(context.Context) (*metering.Directory, error) { return d, nil }
	return w
}

// conform sends one request that holds the event and compares with the decision.
func conform(t *testing.T, mode string, e suite, contentType, body string, header ...string) {
	t.Helper()
	w := conformanceWorld(e)
	rec := w.post(Path, contentType, body, header...)
	want := decided(t, e)
	if rec.Code != http.StatusUnprocessableEntity {
		t.Errorf("%s, %s: status %d: %s", e.name, mode, rec.Code, rec.Body)
		return
	}
	all := verdicts(t, rec)
	if len(all) != 1 || all[0].Reason != want {
		t.Errorf("%s, %s: %+v, want %s", e.name, mode, all, want)
		return
	}
	kept := w.quarantine.kept[all[0].Receipt]
	if want != metering.UnknownType {
		if kept.Event != nil && want != metering.MissingField {
			t.Errorf("%s, %s: what was not read is kept: %s", e.name, mode, kept.Event)
		}
		return
	}
	back, err := metering.DecodeCanonical(kept.Event)
	if err != nil {
		t.Errorf("%s, %s: %v", e.name, mode, err)
		return
	}
	got := map[string]string{"specversion": "1.0", "id": back.ID, "source": back.Source, "type": back.Type}
	if !back.TimeAbsent {
		got["time"] = back.Time.Format(time.RFC3339)
	}
	if back.Customer != "" {
		got["subject"] = string(back.Customer)
	}
	for name := range e.attributes { // read and not kept
		if name == "datacontenttype" || strings.HasPrefix(name, "comexample") {
			got[name] = e.attributes[name]
		}
	}
	if diff := cmp.Diff(e.attributes, got); diff != "" {
		t.Errorf("%s, %s: attributes %s", e.name, mode, diff)
	}
}

// both sends an event in both modes, as it is and without its data.
func (e suite) both(t *testing.T) {
	t.Helper()
	bare := e
	bare.data, bare.attributes = "", maps.Clone(e.attributes)
	if !e.isJSON() {
		delete(bare.attributes, "datacontenttype") // of nothing
	}
	for _, e := range []suite{e, bare} {
		var header []string
		members := map[string]any{}
		for name, v := range e.attributes {
			members[name] = v
			if name != "datacontenttype" {
				header = append(header, "ce-"+name, v)
			}
		}
		if e.data != "" {
			members["data"] = e.data
			if json.Valid([]byte(e.data)) {
				members["data"] = json.RawMessage(e.data)
			}
		}
		body, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		conform(t, "structured", e, "application/cloudevents+json; charset=UTF-8", string(body))
		conform(t, "in a batch", e, batched, "["+string(body)+"]")
		conform(t, "on a line", e, lines, string(body)+"\n")
		contentType := e.attributes["datacontenttype"]
		if contentType == "" {
			contentType = "application/json"
		}
		conform(t, "binary", e, contentType, e.data, header...)
	}
}

// TestConformanceEvents sends every event of the conformance suite's YAML files over
// HTTP, in every mode.
func TestConformanceEvents(t *testing.T) {
	root := filepath.Join(testdata.Dir(t), "data", "cloudevents")
	var events []suite
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		// specversion is written as a YAML number and means text.
		for _, v := range []string{"1.0", "0.3"} {
			text = bytes.ReplaceAll(text, []byte("specversion: "+v), []byte("specversion: \""+v+"\""))
		}
		in := yaml.NewDecoder(bytes.NewReader(text))
		for n := 1; ; n++ {
			var f struct {
				ContextAttributes map[string]any `yaml:"ContextAttributes"`
				Data              string         `yaml:"Data"`
			}
			if err := in.Decode(&f); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			name, _ := filepath.Rel(root, path)
			e := suite{fmt.Sprintf("%s (%d)", filepath.ToSlash(name), n), map[string]string{}, strings.TrimSpace(f.Data)}
			for name, v := range f.ContextAttributes {
				switch v := v.(type) {
				case string:
					e.attributes[name] = v
				case map[string]any:
					for name, v := range v {
						e.attributes[name] = strings.TrimSpace(v.(string))
					}
				}
			}
			if e.attributes["id"] != "" { // some of the suite's own tests leave it out
				events = append(events, e)
			}
		}
	})
	if err != nil || len(events) == 0 {
		testdata.Missing(t, "CloudEvents conformance events", fmt.Sprintf("%d found, %v", len(events), err))
	}
	used := map[string]int{}
	for _, e := range events {
		e.both(t)
		used[decided(t, e)]++
	}
	for _, d := range decisions {
		if d.reason != metering.UnknownType && d.reason != metering.MissingField && used[d.reason] == 0 {
			t.Errorf("no event was decided as %q", d.what)
		}
	}
	t.Logf("%d events in 4 modes, with and without their data: %v", len(events), used)
}

// TestConformanceFeatures sends the requests of the suite's scenarios, each with every
// example.
func TestConformanceFeatures(t *testing.T) {
	sent := 0
	for name, read := range map[string]func(*testing.T, scenario){
		"http-protocol-binding.feature": func(t *testing.T, s scenario) {
			head, body, _ := strings.Cut(s.texts[0], "\n\n")
			_, head, _ = strings.Cut(head, "\n") // without the request line
			h, err := textproto.NewReader(bufio.NewReader(strings.NewReader(head + "\n\n"))).ReadMIMEHeader()
			if err != nil {
				t.Fatal(err)
			}
			if want := h.Get("Content-Length"); fmt.Sprint(len(body)) != want {
				t.Fatalf("the scenario's body has %d bytes, it says %s", len(body), want)
			}
			var header []string
			for name, v := range h {
				if name != "Content-Type" && name != "Content-Length" && name != "Host" {
					header = append(header, name, v[0])
				}
			}
			e := suite{s.name, s.attributes, s.texts[1]}
			conform(t, "as it stands", e, h.Get("Content-Type"), body, header...)
			e.both(t)
			sent++
		},
		// There is no way in from Kafka. What a bridge sends on is the payload of a
		// structured message; a binary one it must turn into ce- headers, of which the
		// names of Kafka's are none.
		"kafka-protocol-binding.feature": func(t *testing.T, s scenario) {
			e := suite{s.name, s.attributes, s.texts[len(s.texts)-1]}
			if strings.Contains(s.name, "Structured") {
				conform(t, "payload", e, s.headers["content-type"], s.texts[0])
			} else {
				w := conformanceWorld(e)
				var header []string
				for name, v := range s.headers {
					header = append(header, name, v)
				}
				if rec := w.post(Path, "application/json", s.texts[0], header...); rec.Code != 422 || verdicts(t, rec)[0].Reason != metering.BadSpecVersion {
					t.Errorf("%s: %d %s", s.name, rec.Code, rec.Body)
				}
			}
			e.both(t)
			sent++
		},
	} {
		text, err := os.ReadFile(filepath.Join(testdata.Dir(t), "data", "cloudevents", "features", name))
		if err != nil {
			testdata.Missing(t, name, err.Error())
		}
		for _, s := range scenarios(string(text)) {
			read(t, s)
		}
	}
	if sent != 7 {
		t.Errorf("%d scenarios were sent, want 7", sent)
	}
}

// scenario is one of a feature file, with the values of one example.
type scenario struct {
	name       string
	texts      []string          // in """
	headers    map[string]string // of a Kafka message
	attributes map[string]string // that must arrive
}

// scenarios reads the small part of Gherkin that the suite uses.
func scenarios(text string) (all []scenario) {
	for _, part := range strings.Split(text, "    Scenario")[1:] {
		part, table, _ := strings.Cut(part, "Examples:")
		rows := cells(table)
		if len(rows) == 0 {
			rows = []([]string){{""}, {""}}
		}
		for _, row := range rows[1:] {
			part := strings.ReplaceAll(part, "<"+rows[0][0]+">", row[0])
			head, _, _ := strings.Cut(part, "\n")
			_, name, _ := strings.Cut(head, ": ")
			s := scenario{name: name, headers: map[string]string{}, attributes: map[string]string{}}
			for i, text := range strings.Split(part, `"""`) {
				if i%2 == 1 {
					s.texts = append(s.texts, dedent(text))
					continue
				}
				into := s.attributes
				if strings.Contains(text, "Kafka headers are") || strings.Contains(text, "Kafka headers:") {
					before, after, _ := strings.Cut(text, "Then the attributes")
					for _, row := range cells(before) {
						s.headers[row[0]] = row[1]
					}
					text = after
				}
				for _, row := range cells(text) {
					into[row[0]] = row[1]
				}
			}
			delete(s.attributes, "key")
			delete(s.headers, "key")
			all = append(all, s)
		}
	}
	return all
}

// cells are the rows of a Gherkin table.
func cells(text string) (rows [][]string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		row := strings.Split(strings.Trim(line, "|"), "|")
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
		rows = append(rows, row)
	}
	return rows
}

// dedent takes off the first and last line end and the indentation of the first line.
func dedent(text string) string {
	lines := strings.Split(strings.Trim(text, "\n "), "\n")
	first, _, _ := strings.Cut(strings.TrimLeft(text, "\n"), strings.TrimLeft(text, "\n "))
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], first)
	}
	return strings.Join(lines, "\n")
}

// envelope is an event with parts replaced: pairs of a member's name and its JSON,
// empty to leave it out.
func envelope(parts ...string) string {
	members := []string{"specversion", `"1.0"`, "id", `"a"`, "source", `"gw-eu-1"`, "type", `"usage.api"`, "subject", `"lakeside-clinic"`,
		"time", `"2026-09-14T10:00:00Z"`, "data", data}
	for i := 0; i < len(parts); i += 2 {
		if at := slices.Index(members, parts[i]); at >= 0 {
			members[at+1] = parts[i+1]
		} else {
			members = append(members, parts[i], parts[i+1])
		}
	}
	var b []string
	for i := 0; i < len(members); i += 2 {
		if members[i+1] != "" {
			b = append(b, fmt.Sprintf("%q:%s", members[i], members[i+1]))
		}
	}
	return "{" + strings.Join(b, ",") + "}"
}

// our are cases of our own in structured mode: what the suite lacks, and what must be
// refused.
var our = []struct {
	name, body string
	reason     string // "" accepted
	valid      bool   // to the JSON Schema of CloudEvents, but for its demand of a subject
}{
	{"as it should be", envelope(), "", true},
	{"data as base64", envelope("data", "", "data_base64", `"`+base64.StdEncoding.EncodeToString([]byte(data))+`"`), "", true},
	{"extensions", envelope("traceparent", `"00-1"`, "sampledrate", `7`, "on", `true`), "", true},
	{"no subject", envelope("subject", ""), "", true},
	{"no time", envelope("time", ""), "", true},
	{"null is absent", envelope("time", "null", "subject", "null", "datacontenttype", "null", "dataschema", "null", "data_base64", "null"), "", true},
	{"an offset", envelope("time", `"2026-09-14T05:00:00-05:00"`), "", true},

	{"empty id", envelope("id", `""`), metering.MissingField, false},
	{"no id", envelope("id", ""), metering.MissingField, false},
	{"id is a number", envelope("id", "1"), metering.WrongType, false},
	{"empty source", envelope("source", `""`), metering.MissingField, false},
	{"no source", envelope("source", ""), metering.MissingField, false},
	{"empty type", envelope("type", `""`), metering.MissingField, false},
	{"no specversion", envelope("specversion", ""), metering.BadSpecVersion, false},
	{"empty specversion", envelope("specversion", `""`), metering.BadSpecVersion, false},
	{"specversion is a number", envelope("specversion", "1.0"), metering.BadSpecVersion, false},
	{"specversion 0.3", envelope("specversion", `"0.3"`), metering.BadSpecVersion, true},
	{"specversion 1.1", envelope("specversion", `"1.1"`), metering.BadSpecVersion, true},
	{"bad time", envelope("time", `"14 Sep 2026"`), metering.BadTime, false},
	{"time without a zone", envelope("time", `"2026-09-14T10:00:00"`), metering.BadTime, false},
	{"empty time", envelope("time", `""`), metering.BadTime, false},
	{"a day that there is not", envelope("time", `"2026-02-30T10:00:00Z"`), metering.BadTime, false},
	{"time is a number", envelope("time", "1789380000"), metering.WrongType, false},
	{"data and data_base64", envelope("data_base64", `"e30="`), metering.DataTwice, true},
	{"no base64", envelope("data", "", "data_base64", `"%%"`), metering.DataNotJSON, true}, // the schema's encoding is a remark
	{"unknown data field", envelope("data", `{"app":"northwind-scheduler","patient":"x"}`), metering.UnknownField, true},
	{"data is text", envelope("data", `"x"`), metering.WrongType, false},
	{"data is XML", envelope("datacontenttype", `"application/xml"`), metering.DataNotJSON, true},
	{"attribute twice", envelope("id", `"a","id":"b"`), metering.DuplicateField, true}, // its parser keeps the last
	{"attribute twice, spelled otherwise", envelope("id", `"a","\u0069d":"b"`), metering.DuplicateField, true},
	{"attribute in capitals", envelope("Subject", `"x"`), metering.BadAttribute, true},
	{"line ends in an id", envelope("id", `"a\r\nX-Owner: us"`), metering.BadText, true},
	{"NUL in an id", envelope("id", `"a\u0000"`), metering.BadText, true},
}

// TestOurCases drives each alone, in a batch and on a line: where it stands changes
// nothing, and good ones beside it are taken.
func TestOurCases(t *testing.T) {
	for _, c := range our {
		good := envelope("id", `"other"`)
		for mode, send := range map[string]struct{ contentType, body string }{
			"alone":      {structured, c.body},
			"as JSON":    {"application/json", c.body},
			"in a batch": {batched, "[" + good + "," + c.body + "]"},
			"on a line":  {lines, good + "\n" + c.body + "\n"},
		} {
			w := newWorld()
			rec := w.post(Path, send.contentType, send.body)
			if rec.Code >= 300 && rec.Code != 422 {
				t.Errorf("%s, %s: %d %s", c.name, mode, rec.Code, rec.Body)
				continue
			}
			all := verdicts(t, rec)
			if last := all[len(all)-1]; last.Reason != c.reason || len(all) == 2 && all[0].Status != metering.StatusAccepted {
				t.Errorf("%s, %s: %+v, want %q", c.name, mode, all, c.reason)
			}
			if len(w.intake.events)+len(w.quarantine.kept) != len(all) {
				t.Errorf("%s, %s: %d published, %d in quarantine of %d", c.name, mode, len(w.intake.events), len(w.quarantine.kept), len(all))
			}
			for _, e := range w.intake.events {
				if e.Customer != "lakeside-clinic" && e.Customer != "" || e.Data.App != "northwind-scheduler" || e.Data.Status != 200 {
					t.Errorf("%s, %s: %+v", c.name, mode, e)
				}
			}
		}
	}
}

// TestOurCasesAgainstTheSchema lets another program read the JSON Schema of CloudEvents
// over the same cases: what it refuses, mete refuses. What only mete refuses is marked.
func TestOurCasesAgainstTheSchema(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(testdata.Dir(t), "data", "cloudevents", "cloudevents.spec.json"))
	if err != nil {
		testdata.Missing(t, "the JSON Schema of CloudEvents", err.Error())
	}
	// This copy of the schema is OpenMeter's, which needs a subject; CloudEvents does not.
	text = bytes.Replace(text, []byte(`"type", "subject"]`), []byte(`"type"]`), 1)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("cloudevents.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("cloudevents.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range our {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(c.body))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := schema.Validate(v); (err == nil) != c.valid {
			t.Errorf("%s: %v", c.name, err)
		}
		if !c.valid && c.reason == "" {
			t.Errorf("%s: the schema refuses it, mete does not", c.name)
		}
	}
}

// TestOurBinaryCases are those of headers.
func TestOurBinaryCases(t *testing.T) {
	for _, c := range []struct {
		name        string
		change      func(h http.Header)
		contentType string
		body        string
		reason      string
	}{
		{"as it should be", func(http.Header) {}, "application/json", data, ""},
		{"charset", func(http.Header) {}, "application/json; charset=utf-8", data, ""},
		{"percent-encoded", func(h http.Header) { h.Set("ce-subject", "lakeside%2Dclinic") }, "application/json", data, ""},
		{"quoted", func(h http.Header) { h.Set("ce-id", `"a \"b\""`) }, "application/json", data, ""},
		{"extensions", func(h http.Header) { h.Set("ce-traceparent", "00-1"); h.Add("ce-traceparent", "00-2") }, "application/json", data, ""},
		{"no time", func(h http.Header) { h.Del("ce-time") }, "application/json", data, ""},

		{"no id", func(h http.Header) { h.Del("ce-id") }, "application/json", data, metering.MissingField},
		{"empty id", func(h http.Header) { h.Set("ce-id", "") }, "application/json", data, metering.MissingField},
		{"no specversion", func(h http.Header) { h.Del("ce-specversion") }, "application/json", data, metering.BadSpecVersion},
		{"specversion 0.3", func(h http.Header) { h.Set("ce-specversion", "0.3") }, "application/json", data, metering.BadSpecVersion},
		{"bad time", func(h http.Header) { h.Set("ce-time", "noon") }, "application/json", data, metering.BadTime},
		{"two ids", func(h http.Header) { h.Add("ce-id", "b") }, "application/json", data, metering.DuplicateField},
		{"two sources", func(h http.Header) { h.Add("ce-source", "gw-us-1") }, "application/json", data, metering.DuplicateField},
		{"two content types", func(h http.Header) { h.Add("Content-Type", "text/plain") }, "application/json", data, metering.DuplicateField},
		{"line ends behind percent signs", func(h http.Header) { h.Set("ce-id", "a%0D%0ACe-Source: gw-us-1") }, "application/json", data, metering.BadText},
		{"NUL behind a percent sign", func(h http.Header) { h.Set("ce-subject", "a%00") }, "application/json", data, metering.BadText},
		{"no UTF-8 behind percent signs", func(h http.Header) { h.Set("ce-id", "a%FF%FE") }, "application/json", data, metering.BadText},
		{"a patient behind percent signs", func(h http.Header) { h.Set("ce-id", "jane%40example.org") }, "application/json", data, "phi_email"},
		{"text", func(http.Header) {}, "text/plain", data, metering.DataNotJSON},
		{"XML", func(http.Header) {}, "application/xml", "<usage/>", metering.DataNotJSON},
		{"Latin-1", func(http.Header) {}, "application/json; charset=iso-8859-1", data, metering.DataNotJSON},
		{"lines", func(http.Header) {}, lines, data + "\n" + data, metering.DataNotJSON},
		{"two objects", func(http.Header) {}, "application/json", data + data, metering.DataNotJSON},
		{"an event as data", func(http.Header) {}, "application/json", envelope(), metering.UnknownField},
	} {
		w := newWorld()
		r := httptest.NewRequest(http.MethodPost, Path, strings.NewReader(c.body))
		for name, v := range map[string]string{"Authorization": "Bearer " + euKey, "Content-Type": c.contentType, "ce-specversion": "1.0", "ce-id": "a", "ce-source": "gw-eu-1",
			"ce-type": "usage.api", "ce-subject": "lakeside-clinic", "ce-time": "2026-09-14T10:00:00Z"} {
			r.Header.Set(name, v)
		}
		c.change(r.Header)
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		if rec.Code != 202 && rec.Code != 422 {
			t.Errorf("%s: %d %s", c.name, rec.Code, rec.Body)
			continue
		}
		if all := verdicts(t, rec); len(all) != 1 || all[0].Reason != c.reason {
			t.Errorf("%s: %+v, want %q", c.name, all, c.reason)
		}
		if (len(w.intake.events) == 1) != (c.reason == "") || len(w.intake.events)+len(w.quarantine.kept) != 1 {
			t.Errorf("%s: %d published, %d in quarantine", c.name, len(w.intake.events), len(w.quarantine.kept))
		}
		for _, e := range w.intake.events {
			if e.Customer != "lakeside-clinic" || e.Source != "gw-eu-1" {
				t.Errorf("%s: %+v", c.name, e)
			}
		}
	}
}

// TestTheSDKIsTheOtherSide lets the CloudEvents SDK send over a real connection: an
// event means the same in binary, in structured mode and in a batch.
func TestTheSDKIsTheOtherSide(t *testing.T) {
	w := newWorld()
	srv := httptest.NewServer(w)
	defer srv.Close()
	send := func(t *rapid.T, r *http.Request) []metering.Event {
		w.intake.events = nil
		r.Header.Set("Authorization", "Bearer "+euKey)
		res, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusAccepted {
			t.Fatalf("%d %v: %s", res.StatusCode, err, body)
		}
		return w.intake.events
	}
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		events := make([]cloudevents.Event, rapid.IntRange(1, 8).Draw(t, "events"))
		for i := range events {
			e := cloudevents.New("1.0")
			// Without percent signs: the SDK does not encode them in binary mode, although
			// the HTTP binding says that receivers decode.
			e.SetID(fmt.Sprintf("%d-%s", i, rapid.StringMatching(`[a-z][a-zA-Z0-9 _.~"/ü東-]{0,18}[a-z]`).Draw(t, "id")))
			e.SetSource(rapid.SampledFrom([]string{"gw-eu-1", "gw-eu-2"}).Draw(t, "source"))
			e.SetType("usage.api")
			if rapid.Bool().Draw(t, "timed") {
				e.SetTime(time.UnixMicro(rapid.Int64Range(1e15, 1.7e15).Draw(t, "time")).UTC())
			}
			if rapid.Bool().Draw(t, "for a customer") {
				e.SetSubject("lakeside-clinic")
			}
			e.SetExtension("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00")
			d := map[string]any{"app": "northwind-scheduler", "status": 200, "bytes": rapid.Int64Range(0, 1<<40).Draw(t, "bytes"), "quantity": "2.50"}
			if err := e.SetData("application/json", d); err != nil {
				t.Fatal(err)
			}
			events[i] = e
		}
		var binary, single []metering.Event
		for _, e := range events {
			for ctx, into := range map[context.Context]*[]metering.Event{binding.WithForceBinary(ctx): &binary, binding.WithForceStructured(ctx): &single} {
				r, err := cehttp.NewHTTPRequestFromEvent(ctx, srv.URL+Path, e)
				if err != nil {
					t.Fatal(err)
				}
				*into = append(*into, send(t, r)...)
			}
		}
		r, err := cehttp.NewHTTPRequestFromEvents(ctx, srv.URL+Path, events)
		if err != nil {
			t.Fatal(err)
		}
		batch := slices.Clone(send(t, r))
		if len(batch) != len(events) || len(binary) != len(events) || len(single) != len(events) {
			t.Fatalf("%d sent; %d in binary mode, %d structured, %d in a batch", len(events), len(binary), len(single), len(batch))
		}
		for i, e := range events {
			if batch[i].ID != e.ID() || batch[i].Source != e.Source() || string(batch[i].Customer) != e.Subject() || !e.Time().IsZero() && !batch[i].Time.Equal(e.Time()) ||
				batch[i].TimeAbsent != e.Time().IsZero() || batch[i].Data.Quantity.String() != "2.5" {
				t.Fatalf("%+v\nis taken for %+v", e, batch[i])
			}
			for _, other := range []metering.Event{binary[i], single[i]} {
				if other.Key() != batch[i].Key() || metering.ContentHash(other) != metering.ContentHash(batch[i]) {
					t.Fatalf("modes differ: %+v\n%+v", other, batch[i])
				}
			}
		}
	})
}
