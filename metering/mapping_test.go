package metering_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mete/metering"
	"mete/partner"
)

func TestBuiltInMappings(t *testing.T) {
	rules := map[string]string{
		"nginx":       "nginx: id = request_id, made by the gateway; where it is absent, SHA-256 of source, line and its number among equal lines of the same time, within the last 65536 lines",
		"caddy":       "caddy: id = request_id, made by the gateway",
		"traefik":     "traefik: id = request_X-Request-Id, a header that the edge must overwrite, whatever the caller sent",
		"apache":      "apache: id = SHA-256 of source, line and its number among equal lines of the same time, within the last 65536 lines; files that overlap are safe only if each is cut at a change of time",
		"cloudevents": "cloudevents: id = the id that each event carries",
		"kong":        "kong: id = request.id, made by the gateway; where it is absent, SHA-256",
		"apisix":      "apisix: id = SHA-256 of",
		"envoy":       "envoy: id = x-request-id, a header that the edge must overwrite",
		"istio":       "istio: id = request_id, a header that the edge must overwrite",
		"aws":         "aws: id = extendedRequestId, made by the gateway",
		"tyk":         "tyk: id = SHA-256 of source, line",
		"tyk-csv":     "tyk-csv: id = SHA-256 of source, line",
	}
	for _, name := range metering.MappingNames() {
		m := mapping(t, name)
		if rule, ok := rules[name]; !ok || !strings.HasPrefix(m.IDRule(), rule) {
			t.Errorf("%s has the rule %q, want %q", name, m.IDRule(), rule)
		}
		if m.Name != name || m.About == "" {
			t.Errorf("%s calls itself %q, about %q", name, m.Name, m.About)
		}
	}
	if len(metering.MappingNames()) != len(rules) {
		t.Errorf("built in: %v", metering.MappingNames())
	}
	_, err := metering.BuiltInMapping("iis")
	if want := `mapping "iis" is not built in: take one of apache, apisix, aws, caddy`; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s…", err, want)
	}
	if _, err := metering.BuiltInMapping("../mappings/nginx"); err == nil {
		t.Error("a path is a name of a mapping")
	}
}

const ownMapping = `mapping: edge
format: json
source: edge-1
id: [req]
id_trust: gateway
time: {path: t, unit: epoch_ms, meaning: end}
app: [consumer.app, "headers.X-App[0]"]
customer: [customer]
status: [status]
latency: {path: took, unit: s}
bytes: [sent]
class: [class]
environment: [env]
operation:
  path: [url]
  method: [verb]
  rules:
    - {is: /metadata, operation: capabilities}
    - {prefix: /Patient, method: get, operation: patient.read}
    - {regex: '^/Appointment/[^/]+/\$book$', operation: appointment.book}
    - {method: DELETE, operation: removal}
  route: [route]
constants: {class: api}
`

func TestOwnMapping(t *testing.T) {
	m, err := metering.LoadMapping([]byte(ownMapping))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, line string
		want       metering.Event
	}{
		{"everything", `{"req":"r1","t":1789380000123.456789,"consumer":{"app":"a"},"customer":"c","status":"200","took":0.123,"sent":"17","class":"certified_api","env":"sandbox","url":"/Patient/7?x=1","verb":"GET"}`,
			metering.Event{ID: "r1", Time: time.UnixMicro(1789380000000456).UTC(), Customer: "c",
				Data: metering.Data{App: "a", Status: 200, LatencyMS: dec("123"), Bytes: 17, Class: metering.CertifiedAPI, Environment: metering.Sandbox, Operation: "patient.read"}}},
		{"the literal key comes first", `{"req":"r","t":0,"consumer.app":"literal","consumer":{"app":"nested"},"url":"/metadata"}`,
			metering.Event{ID: "r", Time: time.Unix(0, 0).UTC(), Data: metering.Data{App: "literal", Class: metering.API, Operation: "capabilities"}}},
		{"the second path, an element", `{"req":"r","t":"0","consumer":{"app":"-"},"headers":{"X-App":["b","c"]},"url":"/Appointment/9/$book","sent":"-"}`,
			metering.Event{ID: "r", Time: time.Unix(0, 0).UTC(), Data: metering.Data{App: "b", Class: metering.API, Operation: "appointment.book"}}},
		{"no rule, but a route", `{"req":"r","t":0,"url":"/Patients/7","verb":"GET","route":"people"}`,
			metering.Event{ID: "r", Time: time.Unix(0, 0).UTC(), Data: metering.Data{Class: metering.API, Operation: "people"}}},
		{"neither", `{"req":"r","t":0,"url":"/Patient/7","verb":"POST","route":"-"}`,
			metering.Event{ID: "r", Time: time.Unix(0, 0).UTC(), Data: metering.Data{Class: metering.API, Operation: "other"}}},
		{"a rule of the method alone", `{"req":"r","t":0,"url":"/x","verb":"delete"}`,
			metering.Event{ID: "r", Time: time.Unix(0, 0).UTC(), Data: metering.Data{Class: metering.API, Operation: "removal"}}},
		{"nulls, objects and lists are no values", `{"req":"r","t":0,"status":null,"customer":{"a":1},"sent":[],"consumer":{"app":["x"]}}`,
			metering.Event{ID: "r", Time: time.Unix(0, 0).UTC(), Data: metering.Data{Class: metering.API, Operation: "other"}}},
		{"escaped keys and values", `{"\u0072eq":"\u0072\u002D1","t":0}`,
			metering.Event{ID: "r-1", Time: time.Unix(0, 0).UTC(), Data: metering.Data{Class: metering.API, Operation: "other"}}},
		{"nineteen digits", `{"req":"r","t":1789380000123.4567891234}`,
			metering.Event{ID: "r", Time: time.UnixMicro(1789380000123456).UTC(), Data: metering.Data{Class: metering.API, Operation: "other"}}},
		{"a float of a gateway is cut to the nanosecond", `{"req":"r","t":12,"took":12.000083923339844e-3}`,
			metering.Event{ID: "r", Time: time.UnixMicro(-1).UTC(), Data: metering.Data{Class: metering.API, Operation: "other", LatencyMS: dec("12.000083")}}},
	} {
		c.want.Source, c.want.Type = "edge-1", metering.UsageAPI
		events, refused, _ := readLog(t, m, strings.NewReader(c.line), metering.LogOptions{})
		if len(events) != 1 {
			t.Errorf("%s: refused: %+v", c.name, refused)
		} else if diff := cmp.Diff(c.want, events[0].Event, byValue); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	for line, want := range map[string]string{
		`{"req":"r","t":0,"status":"ok"}`:                 "bad_number data.status",
		`{"req":"r","t":0,"status":200.5}`:                "bad_number data.status",
		`{"req":"r","t":0,"sent":"12 kB"}`:                "bad_number data.bytes",
		`{"req":"r","t":0,"took":"fast"}`:                 "bad_number data.latency_ms",
		`{"req":"r"}`:                                     "bad_time time",
		`{"req":"r","t":"2026-09-14T10:00:00Z"}`:          "bad_time time",
		`{"req":"r","t":1e30}`:                            "bad_time time",
		`{"req":"r","t":0,"t":1}`:                         "duplicate_field ",
		`{"req":"r","t":0`:                                "undecodable ",
		`{"req":"r","t":0} x`:                             "undecodable ",
		`"line"`:                                          "wrong_type ",
		`{"x":[` + strings.Repeat("1,", 5000) + `1]}`:     "too_complex ",
		`[{"req":"r","t":0},{"req":"s"`:                   "undecodable ",
		"\x00\x00\x00":                                    "undecodable ",
		`{"req":"r","t":0,"x":"` + mega(1, "long") + `"}`: "too_large ",
	} {
		events, refused, l := readLog(t, m, strings.NewReader(line+"\n"), metering.LogOptions{Name: "f.log"})
		if len(refused) != 1 || refused[0].Reason+" "+refused[0].Field != want || refused[0].Class != metering.Unclean || refused[0].line != 1 || refused[0].Source != "edge-1" {
			t.Errorf("%.60s: %+v %+v, want %s", line, events, refused, want)
		}
		if c := l.Counts(); c.Refused != 1 || c.Lines != 1 {
			t.Errorf("%.60s: %+v", line, c)
		}
	}
}

func mega(n int, s string) string { return strings.Repeat(s, n<<20/len(s)) }

func TestLogOptionsStandAbove(t *testing.T) {
	m := mapping(t, "nginx")
	o := metering.LogOptions{Source: "gw-7", App: "one-app", Class: metering.CertifiedAPI, Environment: metering.Sandbox,
		Operations: []metering.OperationRule{{Prefix: "/x", Operation: "x"}}}
	events, _, _ := readLog(t, m, strings.NewReader(`{"msec":1,"app":"a","uri":"/x/y"}`), o)
	e := events[0]
	if e.Source != "gw-7" || e.Data.App != "one-app" || e.Data.Class != metering.CertifiedAPI || e.Data.Environment != metering.Sandbox || e.Data.Operation != "x" {
		t.Errorf("%+v", e)
	}
	for _, c := range []struct {
		mapping string
		o       metering.LogOptions
		want    string
	}{
		{"apache", metering.LogOptions{}, "mapping apache: this log does not say which app was called; name the app"},
		{"cloudevents", metering.LogOptions{App: "a"}, "events carry their own"},
		{"nginx", metering.LogOptions{Operations: []metering.OperationRule{{Regex: "(", Operation: "x"}}}, "operation 1: regex: error parsing regexp"},
		{"nginx", metering.LogOptions{Operations: []metering.OperationRule{{Is: "/x"}}}, "operation 1: operation: want a name"},
	} {
		if _, err := mapping(t, c.mapping).Reader(nil, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %+v: %v, want %s", c.mapping, c.o, err, c.want)
		}
	}
}

func TestLogLines(t *testing.T) {
	m := mapping(t, "nginx")
	line := func(id string) string { return fmt.Sprintf(`{"msec":1,"request_id":"%s","app":"a"}`, id) }
	log := "\xef\xbb\xbf" + line("1") + "\r\n\n  \n[" + line("2") + " , " + line("3") + "]\nnonsense\n[]\n" + line("") + "\n" + line("-") + "\n" + line("") + "\n" + line("6")
	events, refused, l := readLog(t, m, iotest.OneByteReader(strings.NewReader(log)), metering.LogOptions{Name: "a.log"})
	var got []string
	for _, e := range events {
		id := e.ID
		if strings.HasPrefix(id, "line:") {
			id = "line"
		}
		got = append(got, fmt.Sprintf("%d %s", e.line, id))
	}
	if diff := cmp.Diff([]string{"1 1", "4 2", "4 3", "7 line", "8 line", "9 line", "10 6"}, got); diff != "" {
		t.Error(diff)
	}
	if events[3].ID == events[5].ID || events[3].ID == events[4].ID {
		t.Errorf("equal lines are one event: %s, %s, %s", events[3].ID, events[4].ID, events[5].ID)
	}
	if len(refused) != 1 || refused[0].line != 5 {
		t.Errorf("refused %+v", refused)
	}
	if got, want := l.Counts(), (metering.LogCounts{Lines: 10, Blank: 3, Events: 7, Refused: 1}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}

	// The same lines of another source are other events.
	other, _, _ := readLog(t, m, strings.NewReader(line("")), metering.LogOptions{Source: "nginx-2"})
	if other[0].ID == events[3].ID {
		t.Error("the id does not depend on the source")
	}
}

// TestBytesOfCallers: what a caller sends that is no UTF-8, and the gateway writes as it
// is, costs at most the field it stands in.
func TestBytesOfCallers(t *testing.T) {
	m := mapping(t, "kong")
	record := func(id, app, customer, note string) string {
		return fmt.Sprintf(`{"started_at":1789380000123,"consumer":{"custom_id":"%s"},"request":{"id":"%s","uri":"/x","headers":{"x-customer-id":"%s","x-note":"%s"}},"response":{"status":200},"latencies":{"request":1}}`, app, id, customer, note)
	}
	good, spoilt := record("1", "a", "c", "n"), record("2", "a", "c", "\xff\xfe\x80")
	for name, c := range map[string]struct{ log, want string }{
		"a field that is not taken": {spoilt, "2 a c"},
		"within an array":           {"[" + good + "," + spoilt + "," + record("3", "a", "c", "") + "]", "1 a c, 2 a c, 3 a c"},
		"the customer":              {"[" + record("4", "a", "c\xc3", "") + "," + good + "]", "4 a c\ufffd, 1 a c"},
		"the app":                   {record("5", "\xed\xa0\x80a", "c", ""), "5 \ufffda c"},
		"between records":           {good + "\n\xff\n" + good, "1 a c, 1 a c, refused undecodable"},
	} {
		events, refused, _ := readLog(t, m, strings.NewReader(c.log), metering.LogOptions{})
		var got []string
		for _, e := range events {
			got = append(got, fmt.Sprintf("%s %s %s", e.ID, e.Data.App, e.Customer))
		}
		for _, r := range refused {
			got = append(got, "refused "+r.Reason)
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: %q, want %q", name, strings.Join(got, ", "), c.want)
		}
	}
	// Events come from a program of ours, not from callers.
	_, refused, _ := readLog(t, mapping(t, "cloudevents"), strings.NewReader("{\"id\":\"\xff\"}"), metering.LogOptions{})
	if len(refused) != 1 || refused[0].Reason != metering.Undecodable {
		t.Errorf("a CloudEvent that is no UTF-8: %+v", refused)
	}
	// Validation knows no app of that name, and no customer can have it.
	dir := &metering.Directory{Apps: map[partner.AppID]partner.ID{"a": "p"}}
	events, _, _ := readLog(t, m, strings.NewReader(record("5", "\xffa", "c", "")+"\n"+record("6", "a", "\xff", "")), metering.LogOptions{})
	for i, want := range []string{metering.UnknownApp, metering.BadIdentifier} {
		if bad := metering.Validate(events[i].Event, dir, at); bad == nil || bad.Reason != want {
			t.Errorf("event %d: %+v, want %s", i, bad, want)
		}
	}
}

func TestLogOfCloudEvents(t *testing.T) {
	m := mapping(t, "cloudevents")
	log := `{"specversion":"1.0","id":"1","source":"billing","type":"usage.api","data":{"app":"a"}}
{"specversion":"1.0","id":"2","source":"billing","type":"usage.api","data":{"ssn":"x"}}
[{"specversion":"1.0","id":"3"}]
{"specversion":"1.0","id":"4","source":"billing","type":"usage.api","x":"` + strings.Repeat("x", metering.MaxEvent) + `"}
`
	events, refused, _ := readLog(t, m, strings.NewReader(log), metering.LogOptions{})
	var got []string
	for _, r := range refused {
		got = append(got, fmt.Sprintf("%d %s", r.line, r.Reason))
	}
	if len(events) != 1 || events[0].Source != "billing" || !events[0].TimeAbsent {
		t.Errorf("events %+v", events)
	}
	if diff := cmp.Diff([]string{"2 unknown_field", "3 wrong_type", "4 too_large"}, got); diff != "" {
		t.Error(diff)
	}
}

const csvMapping = `mapping: table
format: csv
source: table-1
time: {path: When, unit: go, meaning: start}
app: [App]
status: [Code]
operation: {path: [Path], rules: [{prefix: /x, operation: x}]}
`

func TestLogOfCSV(t *testing.T) {
	m, err := metering.LoadMapping([]byte(csvMapping))
	if err != nil {
		t.Fatal(err)
	}
	const head, when = "\xef\xbb\xbfCode,When,\"App\",Path\n", "2026-09-14 12:00:00.5 +0200 CEST"
	row := func(code, path string) string { return code + "," + when + ",a," + path + "\n" }
	many := strings.Repeat(row("204", "/x"), 20)
	for _, c := range []struct {
		name, log string
		want      string // line and status of each event, "-" and the reason of a refusal
		counts    metering.LogCounts
	}{
		{"rows", head + row("200", "/x") + row("201", `"/x/,""y"""`), "2:200 3:201", metering.LogCounts{Lines: 3, Blank: 1, Events: 2}},
		{"CRLF, blank lines, no last end", "\n" + strings.ReplaceAll(head[3:]+row("200", "/x"), "\n", "\r\n") + "\n" + strings.TrimSpace(row("201", "/x")), "3:200 5:201", metering.LogCounts{Lines: 5, Blank: 3, Events: 2}},
		{"files joined", head + row("200", "/x") + head[3:] + row("201", "/x"), "2:200 4:201", metering.LogCounts{Lines: 4, Blank: 2, Events: 2}},
		{"over three lines", head + row("200", "\"/x/\n\n,\"") + row("201", "/x"), "2:200 5:201", metering.LogCounts{Lines: 5, Blank: 1, Events: 2}},
		{"torn, then many rows", head + `200,"` + when + "\n" + many, "-2 undecodable" + strings.Repeat(" %d:204", 20), metering.LogCounts{Lines: 22, Blank: 1, Events: 20, Refused: 1}},
		{"torn at the end", head + row("200", "/x") + `200,"` + when, "2:200 -3 undecodable", metering.LogCounts{Lines: 3, Blank: 1, Events: 1, Refused: 1}},
		{"torn twice", head + `200,"` + "\n" + row("200", "/x") + `201,"` + "\n" + row("202", "/x"), "-2 undecodable 5:202", metering.LogCounts{Lines: 5, Blank: 1, Events: 1, Refused: 1}},
		{"fields", head + "200,a\n" + row("200", "/x,"), "-2 undecodable -3 undecodable", metering.LogCounts{Lines: 3, Blank: 1, Refused: 2}},
		{"bare quote", head + row("200", `/x"y"`), "-2 undecodable", metering.LogCounts{Lines: 2, Blank: 1, Refused: 1}},
		{"nothing", "", "", metering.LogCounts{}},
		{"only names", head, "", metering.LogCounts{Lines: 1, Blank: 1}},
	} {
		events, refused, l := readLog(t, m, iotest.OneByteReader(strings.NewReader(c.log)), metering.LogOptions{Name: "t.csv"})
		lines := map[int]string{}
		for _, e := range events {
			lines[e.line] = fmt.Sprintf("%d:%d", e.line, e.Data.Status)
			if e.Data.Operation != "x" || e.Time.Format(time.RFC3339Nano) != "2026-09-14T10:00:00.5Z" {
				t.Errorf("%s: %+v", c.name, e.Event)
			}
		}
		for _, r := range refused {
			lines[r.line] = fmt.Sprintf("-%d %s", r.line, r.Reason)
		}
		var got []string
		for n := range 40 {
			if lines[n] != "" {
				got = append(got, lines[n])
			}
		}
		want := c.want
		if strings.Contains(want, "%d") {
			var numbers []any
			for i := range 20 {
				numbers = append(numbers, i+3)
			}
			want = fmt.Sprintf(want, numbers...)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s\nwant %s", c.name, strings.Join(got, " "), want)
		}
		if l.Counts() != c.counts {
			t.Errorf("%s: counts %+v, want %+v", c.name, l.Counts(), c.counts)
		}
	}
	for _, c := range []struct{ log, want string }{
		{row("200", "/x"), "t.csv line 1: no column is called When; a log in CSV begins with the names of its columns"},
		{"When,App,App\n", "t.csv line 1: columns 2 and 3 have one name"},
		{"When,\"App\n", "t.csv line 1: no CSV at byte"},
	} {
		l, err := m.Reader(strings.NewReader(c.log), metering.LogOptions{Name: "t.csv"})
		if err != nil {
			t.Fatal(err)
		}
		if d, err := l.Next(); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: %+v, %v; want %s", c.log, d, err, c.want)
		}
	}

	// A reader that fails inside a row refuses nothing: more of the row may be to come.
	broken := errors.New("disk on fire")
	l, err := m.Reader(io.MultiReader(strings.NewReader(head+row("200", "/x")+`201,"x`+"\n"), iotest.ErrReader(broken)), metering.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := l.Next(); err != nil || d.Refusal != nil || d.Line != 2 {
		t.Errorf("the row before: line %d, %v, %v", d.Line, d.Refusal, err)
	}
	if d, err := l.Next(); !errors.Is(err, broken) {
		t.Errorf("inside the row: %+v, %v", d, err)
	}
	if c := l.Counts(); c.Refused != 0 || c.Events != 1 {
		t.Errorf("counts %+v", c)
	}
}

// TestFilesJoinedWithTheNextOne: where rotation cuts between equal lines, reading each
// file together with the one after it counts every line once; reading them alone
// does not.
func TestFilesJoinedWithTheNextOne(t *testing.T) {
	m := mapping(t, "apache")
	o := metering.LogOptions{App: "a"}
	lost := 0
	rapid.Check(t, func(t *rapid.T) {
		var log []string
		for second := range rapid.IntRange(3, 12).Draw(t, "seconds") {
			for range rapid.IntRange(0, 5).Draw(t, "lines") {
				path := rapid.SampledFrom([]string{"/x", "/y"}).Draw(t, "path")
				log = append(log, fmt.Sprintf(`10.0.0.1 - - [14/Sep/2026:10:00:%02d +0000] "GET %s HTTP/1.1" 200 17 "-" "-"`+"\n", second, path))
			}
		}
		// A file holds a second at least, as rotated files do.
		var files []string
		for len(log) > 0 {
			n := min(len(log), rapid.IntRange(6, 20).Draw(t, "lines of a file"))
			files = append(files, strings.Join(log[:n], ""))
			log = log[n:]
		}
		keys := func(texts ...string) map[metering.Key]bool {
			seen := map[metering.Key]bool{}
			for _, text := range texts {
				l, err := m.Reader(strings.NewReader(text), o)
				if err != nil {
					t.Fatal(err)
				}
				for {
					d, err := l.Next()
					if err != nil {
						break
					}
					seen[d.Event.Key()] = true
				}
			}
			return seen
		}
		var joined []string
		for i := range files {
			joined = append(joined, strings.Join(files[i:min(len(files), i+2)], ""))
		}
		whole := keys(strings.Join(files, ""))
		if got := keys(joined...); !maps.Equal(got, whole) {
			t.Fatalf("%d events of %d files joined with the next, %d of all at once", len(got), len(files), len(whole))
		}
		lost += len(whole) - len(keys(files...))
	})
	if lost == 0 {
		t.Error("no cut fell between equal lines: the test shows nothing")
	}
}

// TestRecordInsideALine: paths begin in the object that the mapping names, where there
// is one.
func TestRecordInsideALine(t *testing.T) {
	m, err := metering.LoadMapping([]byte("mapping: w\nformat: json\nsource: s\nrecord: [a.b, payload]\ntime: {path: t, unit: epoch_s, meaning: start}\napp: [app]\n"))
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		`{"t":1,"app":"out","payload":{"t":2,"app":"in"}}`:                      "2 in",
		`{"t":1,"app":"out","payload":{"t":2,"app":"in"},"a":{"b":{"t":3}}}`:    "3 ",
		`{"t":1,"app":"out","payload":"{}"}`:                                    "1 out",
		`{"t":1,"app":"out"}`:                                                   "1 out",
		`{"payload":{}}`:                                                        "bad_time",
		`[{"payload":{"t":4,"app":"x"}},{"t":5,"app":"y","payload":[{"t":6}]}]`: "4 x 5 y",
	} {
		events, refused, _ := readLog(t, m, strings.NewReader(line), metering.LogOptions{})
		var got []string
		for _, e := range events {
			got = append(got, fmt.Sprintf("%d %s", e.Time.Unix(), e.Data.App))
		}
		for _, r := range refused {
			got = append(got, r.Reason)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", line, got, want)
		}
	}
}

func TestLongLinesMayBeAllowed(t *testing.T) {
	record := `{"msec":1,"app":"a","x":"` + strings.Repeat("x", 300) + `"}`
	log := "[" + strings.Repeat(record+",", 9999) + record + "]"
	for limit, want := range map[int]string{0: "0 too_large", len(log): "10000 ", len(log) - 1: "0 too_large"} {
		events, refused, _ := readLog(t, mapping(t, "nginx"), strings.NewReader(log), metering.LogOptions{MaxLine: limit})
		reason := ""
		for _, r := range refused {
			reason += r.Reason
		}
		if got := fmt.Sprintf("%d %s", len(events), reason); got != want {
			t.Errorf("lines of %d bytes: %s, want %s", limit, got, want)
		}
	}
}

func TestLogReaderFailsWithItsReader(t *testing.T) {
	broken := errors.New("disk on fire")
	l, err := mapping(t, "nginx").Reader(io.MultiReader(strings.NewReader(`{"msec":1}`+"\n{"), iotest.ErrReader(broken)), metering.LogOptions{Name: "a.log"})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := l.Next(); d.Line != 1 || d.Refusal != nil || err != nil {
		t.Errorf("line 1: %+v %v", d, err)
	}
	if _, err := l.Next(); !errors.Is(err, broken) || !strings.Contains(err.Error(), "a.log after line 1") {
		t.Errorf("after it: %v", err)
	}
}

// endless yields one log line for ever.
type endless struct {
	line []byte
	at   int
	left int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := copy(p, e.line[e.at:])
	e.at = (e.at + n) % len(e.line)
	e.left -= n
	return n, nil
}

func TestLongLineTakesConstantMemory(t *testing.T) {
	const size = 256 << 20
	l, err := mapping(t, "nginx").Reader(&endless{line: bytes.Repeat([]byte("x"), 64<<10), left: size}, metering.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Next()
	if d.Line != 1 || err != nil || d.Refusal == nil || d.Refusal.Reason != metering.TooLarge || len(d.Raw) > 2*metering.MaxLine {
		t.Errorf("line %d %+v %v, %d bytes kept", d.Line, d.Refusal, err, len(d.Raw))
	}
	if _, err := l.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("then %v", err)
	}
}

// TestEqualLinesWithinTheWindow: equal lines are told apart up to DuplicateWindow
// lines away, and the memory of lines does not grow beyond it.
func TestEqualLinesWithinTheWindow(t *testing.T) {
	m := mapping(t, "nginx")
	var b strings.Builder
	for i := range metering.DuplicateWindow + 2 {
		if i == 0 || i == metering.DuplicateWindow-1 || i == metering.DuplicateWindow+1 {
			b.WriteString(`{"msec":1}` + "\n")
		} else {
			fmt.Fprintf(&b, `{"msec":1,"n":%d}`+"\n", i)
		}
	}
	ids := map[string]bool{}
	events, _, _ := readLog(t, m, strings.NewReader(b.String()), metering.LogOptions{})
	for _, e := range events {
		ids[e.ID] = true
	}
	if len(ids) != metering.DuplicateWindow+2 {
		t.Errorf("%d ids of %d lines", len(ids), metering.DuplicateWindow+2)
	}
}

func TestApacheLines(t *testing.T) {
	m := mapping(t, "apache")
	const head = `10.0.0.1 - - [17/May/2015:10:05:03 +0200] `
	for line, want := range map[string]string{
		head + `"GET /x?y=1 HTTP/1.1" 200 17 "-" "agent"`:          "2015-05-17T08:05:03Z 200 17",
		head + `"-" 408 - "-" "-"`:                                 "2015-05-17T08:05:03Z 408 0",
		head + `"GET /\"x\" HTTP/1.1" 404 0 "http://a/\"" "a \\"`:  "2015-05-17T08:05:03Z 404 0",
		head + `"" 400 226 "-" "-"`:                                "2015-05-17T08:05:03Z 400 226",
		head + `"GET / HTTP/1.1" 200 17`:                           "undecodable: the referer does not begin with \"",
		head + `"GET / HTTP/1.1" 200 17 "-" "agent`:                "undecodable: the line ends inside the user agent, which has no closing \"",
		head + `"GET / HTTP/1.1 200 17`:                            "undecodable: the line ends inside the request",
		head + `"GET / HTTP/1.1"200 17 "-" "-"`:                    "undecodable: the request is followed by other text",
		head + `"GET / HTTP/1.1" 200 17 "-" "-" 12`:                "undecodable: 2 bytes stand after the user agent",
		head + `"GET / HTTP/1.1" OK 17 "-" "-"`:                    "bad_number: data.status",
		`10.0.0.1 - - [today] "GET / HTTP/1.1" 200 17 "-" "-"`:     "bad_time: time",
		`10.0.0.1 - - 17/May/2015 "GET / HTTP/1.1" 200 17 "-" "-"`: "undecodable: the time does not begin with [",
		`10.0.0.1`: "undecodable: the identity is missing",
		`{"a":1}`:  "undecodable: the identity is missing",
	} {
		events, refused, _ := readLog(t, m, strings.NewReader(line), metering.LogOptions{App: "a"})
		got := ""
		if len(events) == 1 {
			e := events[0]
			got = fmt.Sprintf("%s %d %d", e.Time.Format(time.RFC3339), e.Data.Status, e.Data.Bytes)
		} else {
			got = refused[0].Reason + ": " + refused[0].Detail
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestLoadMappingErrors(t *testing.T) {
	edit := func(old, new string) string {
		if !strings.Contains(ownMapping, old) {
			t.Fatalf("the mapping of this test has no %q", old)
		}
		return strings.Replace(ownMapping, old, new, 1)
	}
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", edit("bytes:", "byte:"), `[11:1] unknown field "byte"`},
		{"unknown key inside", edit("meaning: end", "means: end"), `[6:33] unknown field "means"`},
		{"key twice", edit("bytes:", "status:"), `[11:1] mapping key "status" already defined`},
		{"no YAML", "mapping: [", "[1:10]"},
		{"wrong type", edit("id: [req]", "id: {a: b}"), "[4:5]"},
		{"two documents", ownMapping + "---\n" + ownMapping, "want one YAML document, not 2"},
		{"anchor", edit("id: [req]", "id: &a [req]"), "anchors, aliases and tags are not taken; write the values out (line 4, column 5)"},
		{"tag", edit("id: [req]", "id: !!str 7"), "tags are not taken; write the values out (line 4"},
		{"no name", edit("mapping: edge", "mapping: The Edge"), `mapping: mapping: "The Edge" is no name: use lower-case letters, digits, '-', '_' or '.' (line 1, column 10)`},
		{"format", edit("format: json", "format: xml"), `format: "xml" is none of json, csv, apache_combined, cloudevents (line 2, column 9)`},
		{"no source", edit("source: edge-1\n", ""), "source: name the source"},
		{"source with a person in it", edit("source: edge-1", "source: jane@example.org"), "source: this can be no source"},
		{"id without trust", edit("id_trust: gateway\n", ""), "id: say id_trust: gateway (the gateway makes the id) or edge"},
		{"trust in callers", edit("id_trust: gateway", "id_trust: client"), `id_trust: "client" is none of gateway, edge (line 5, column 11)`},
		{"trust without id", edit("id: [req]\n", ""), "id_trust: there is no id to trust (line 4, column 11)"},
		{"no time", edit("time: {path: t, unit: epoch_ms, meaning: end}\n", ""), "time: a log must say when"},
		{"unit of time", edit("epoch_ms", "epoch"), `time.unit: "epoch" is none of epoch_s, epoch_ms, epoch_us, epoch_ns, rfc3339, clf, go (line 6, column 23)`},
		{"meaning", edit("meaning: end", "meaning: middle"), `time.meaning: "middle" is none of start, end (line 6, column 42)`},
		{"unit of latency", edit("unit: s}", "unit: minutes}"), `latency.unit: "minutes" is none of s, ms, us, ns (line 10`},
		{"type", edit("source: edge-1", "source: edge-1\ntype: sale.paid"), `type: "sale.paid": a log yields usage`},
		{"type that voids", edit("source: edge-1", "source: edge-1\ntype: usage.voided"), `type: "usage.voided": a log yields usage`},
		{"record of CSV", csvMapping + "record: [x]\n", "record: only JSON has a record within a line (line 8"},
		{"empty path", edit("[status]", `[""]`), "status: a path has 1 to 200 characters and at most 6 dots (line 9"},
		{"too many dots", edit("[status]", `[a.b.c.d.e.f.g.h]`), "at most 6 dots"},
		{"class", edit("class: api", "class: cheap"), `constants.class: "cheap" is no class (line 23, column 20)`},
		{"environment", edit("class: api", "environment: staging"), `constants.environment: "staging" is none of production, sandbox`},
		{"app", edit("class: api", "app: My App"), `constants.app: "My App" is no identifier`},
		{"two conditions", edit("{is: /metadata,", "{is: /metadata, prefix: /,"), "operation.rules[0]: give one of is, prefix and regex, with or without method (line 18"},
		{"no condition", edit("{is: /metadata, ", "{"), "operation.rules[0]: give one of"},
		{"no operation", edit("operation: capabilities", "method: GET"), "operation.rules[0]: operation: want a name of at most 128 bytes"},
		{"regex", edit(`[^/]+`, `[^/+`), "operation.rules[2]: regex: error parsing regexp: missing closing ]"},
		{"rules without path", edit("  path: [url]\n  method: [verb]\n", ""), "operation.rules: rules need path or method"},
		{"apache field", strings.Replace(edit("format: json", "format: apache_combined"), "{path: t,", "{path: host,", 1), `time.path: "host" is none of user, time, method, path, status, bytes (line 6, column 14)`},
		{"cloudevents with more", edit("format: json", "format: cloudevents"), "format: cloudevents says everything itself"},
		{"too long", ownMapping + strings.Repeat("#", metering.MaxMapping), "at most 65536 are read"},
		{"empty", "", "mapping"},
		{"list", "- a\n- b\n", "mapping"},
	} {
		_, err := metering.LoadMapping([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.want)
		}
	}
}

// TestLogRefusalsTellNothing puts a secret at any place of a line and asserts that no
// refusal holds it.
func TestLogRefusalsTellNothing(t *testing.T) {
	refused := 0
	for name, line := range map[string]string{
		"apache": `10.0.0.1 - - [17/May/2015:10:05:03 +0200] "GET / HTTP/1.1" 200 17 "-" "-"`,
		"nginx":  `{"msec":1795446105.396,"request_id":"9","request_time":0.001,"status":200,"body_bytes_sent":5,"app":"a","uri":"/x"}`,
		"caddy":  `{"ts":1795446107.3,"request":{"uri":"/x","headers":{"X-App-Id":["a"]}},"duration":0.002,"status":200,"size":1}`,
		"tyk":    `{"tyk-analytics-record":{"timestamp":"2026-09-14T10:00:00Z","alias":"a","request_time":5,"response_code":200}}`,
	} {
		m := mapping(t, name)
		for i := range line {
			for _, in := range []string{"Zaphod", `"Zaphod"`, `"Zaphod":1,`, "\x01Zaphod"} {
				_, bad, _ := readLog(t, m, strings.NewReader(line[:i]+in+line[i+1:]), metering.LogOptions{App: "a"})
				for _, r := range bad {
					refused++
					if b, err := json.Marshal(r); err != nil || strings.Contains(string(b), "Zaphod") {
						t.Fatalf("%s", b)
					}
				}
			}
		}
	}
	if refused < 500 {
		t.Errorf("only %d refusals were looked at", refused)
	}
}

func FuzzLoadMapping(f *testing.F) {
	f.Add([]byte(ownMapping))
	f.Add([]byte("mapping: x\nformat: cloudevents\n"))
	f.Add([]byte("mapping: x\nid: !a 0\n")) // a tag that the YAML library does not survive
	f.Add([]byte("a: &a [*a]\n<<: *a\n? b\n: - c\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := metering.LoadMapping(text)
		if err != nil {
			return
		}
		l, err := m.Reader(strings.NewReader(`{"a":{"b":[1]}}`+"\n"+`10.0.0.1 - - [x] "" 1 1 "" ""`), metering.LogOptions{})
		if err == nil {
			for err == nil {
				_, err = l.Next()
			}
		}
	})
}

func FuzzLogLines(f *testing.F) {
	f.Add("nginx", []byte(`{"msec":1795446105.396,"request_id":"9","request_time":0.001,"status":200,"body_bytes_sent":5,"app":"a","uri":"/x"}`+"\n[{},1]\n"))
	f.Add("caddy", []byte(`{"ts":1795446107.3419018,"request":{"uri":"/x","headers":{"X-App-Id":["a"]}},"duration":0.002715098}`))
	f.Add("apache", []byte(`10.0.0.1 - - [17/May/2015:10:05:03 +0200] "GET / HTTP/1.1" 200 17 "-" "-"`+"\n"))
	f.Add("cloudevents", []byte(`{"specversion":"1.0"}`))
	f.Add("tyk", []byte(`{"tyk-analytics-record":{"timestamp":"2026-09-14T10:00:00Z","alias":"a","request_time":5}}`))
	f.Add("tyk-csv", []byte("TimeStamp,Alias,Path\n2026-09-14 10:00:00 +0000 UTC,a,\"/x\ny\"\n1,\"2\n3,4,5\n"))
	f.Fuzz(func(t *testing.T, name string, log []byte) {
		m, err := metering.BuiltInMapping(name)
		if err != nil {
			return
		}
		o := metering.LogOptions{App: "a", Operations: []metering.OperationRule{{Prefix: "/x", Operation: "x"}}}
		if name == "cloudevents" {
			o = metering.LogOptions{}
		}
		read := func() (ids []string) {
			l, err := m.Reader(bytes.NewReader(log), o)
			if err != nil {
				t.Fatal(err)
			}
			for {
				d, err := l.Next()
				if errors.Is(err, io.EOF) || err != nil && m.Format == metering.FormatCSV && l.Counts().Events+l.Counts().Refused == 0 {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if bad := d.Refusal; d.Line < 1 || bad != nil && (bad.Event != nil || bad.Class != metering.Unclean) {
					t.Fatalf("line %d: %+v", d.Line, bad)
				}
				if d.Refusal == nil {
					ids = append(ids, d.Event.ID)
				}
			}
			if c := l.Counts(); c.Events != int64(len(ids)) {
				t.Fatalf("%d events, counted %+v", len(ids), c)
			}
			return ids
		}
		if diff := cmp.Diff(read(), read()); diff != "" {
			t.Fatalf("a second pass gives other ids: %s", diff)
		}
	})
}

func BenchmarkLogReader(b *testing.B) {
	line := `{"time":"2026-11-23T15:01:45+00:00","msec":1795446105.396,"request_id":"957cc5fcfa8c506b0f9f8d0249342212","http_x_request_id":"ba42a5f5fa1f4118986892b2266c2d3c","connection":1,"connection_requests":1,"remote_addr":"127.0.0.1","method":"GET","request_uri":"/x","uri":"/x","status":200,"request_length":443,"body_bytes_sent":203259,"bytes_sent":203429,"request_time":0.001,"partner":"partner-01","app":"app-presentations","customer":"cust-83.149.9.216","user_agent":"Mozilla/5.0"}` + "\n"
	m := mapping(b, "nginx")
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	l, err := m.Reader(&endless{line: []byte(line), left: 1 << 60}, metering.LogOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if d, err := l.Next(); d.Refusal != nil || err != nil {
			b.Fatal(d.Refusal, err)
		}
	}
}
