package httpin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"mete/metering"
	"mete/partner"
)

// gateways is the folder of configurations that docs/gateways.md shows.
var gateways = filepath.Join("..", "..", "examples", "gateways")

func example(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(gateways, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// examples are the YAML documents of a configuration.
func examples(t *testing.T, name string) (all []map[string]any) {
	t.Helper()
	in := yaml.NewDecoder(strings.NewReader(example(t, name)))
	for {
		var v map[string]any
		if err := in.Decode(&v); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, v)
	}
}

// at is the value at a path of keys and indices.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				t.Fatalf("nothing at %v", path)
			}
			v = l[p]
		}
	}
	if v == nil {
		t.Fatalf("nothing at %v", path)
	}
	return v
}

// TestExamplesAreInTheManual: what is copied from the manual is what the tests read.
func TestExamplesAreInTheManual(t *testing.T) {
	manual, err := os.ReadFile(filepath.Join("..", "..", "docs", "gateways.md"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = filepath.WalkDir(gateways, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Contains(manual, append([]byte("\n"), append(text, "```\n"...)...)) {
			t.Errorf("docs/gateways.md does not show %s as it is", path)
		}
		switch filepath.Ext(path) {
		case ".yaml":
			name, _ := filepath.Rel(gateways, path)
			if len(examples(t, name)) == 0 {
				t.Errorf("%s has no document", path)
			}
		case ".json":
			if !json.Valid(text) {
				t.Errorf("%s is no JSON", path)
			}
		}
		seen++
		return nil
	})
	if err != nil || seen < 15 {
		t.Errorf("%d examples, %v", seen, err)
	}
	for name := range mappings() {
		if name != "ours" && name != "cloudevents" && !bytes.Contains(manual, []byte("`"+name+"`")) {
			t.Errorf("docs/gateways.md does not name the mapping %s", name)
		}
	}
}

// documented is a log format as an example declares it: how a value of the gateway is
// written into a line.
type documented struct {
	source, mapping string
	line            func(t *testing.T) string
	app, operation  string
	started         string
}

// fill replaces the variables of a format; one without a value is an error.
func fill(t *testing.T, format string, variable *regexp.Regexp, values map[string]string) string {
	t.Helper()
	return variable.ReplaceAllStringFunc(format, func(name string) string {
		v, ok := values[name]
		if !ok {
			t.Errorf("no value for %s", name)
		}
		return v
	})
}

// filled is a JSON object whose values are replaced as whole texts; numbers are numbers
// where the gateway writes them so.
func filled(t *testing.T, format map[string]any, values map[string]any) string {
	t.Helper()
	out := map[string]any{}
	for name, v := range format {
		value, ok := values[fmt.Sprint(v)]
		if !ok {
			t.Errorf("no value for %s", v)
		}
		out[name] = value
	}
	b, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// nginxValues are variables of nginx, and of APISIX on it, in a request that took 21 ms.
var nginxValues = map[string]string{
	"$msec": "1789380000.396", "$request_id": "957cc5fcfa8c506b0f9f8d0249342212", "$request_method": "GET", "$uri": "/fhir/r4/Patient/0012345",
	"$status": "200", "$body_bytes_sent": "512", "$request_time": "0.021",
	"$usage_app": "northwind-scheduler", "$consumer_name": "northwind-scheduler", "$http_x_customer_id": "lakeside-clinic",
}

var (
	nginxVariable = regexp.MustCompile(`\$[a-z_]+`)
	nginxFormat   = regexp.MustCompile(`'([^']*)'`)
)

// nginxDocumented is a line as the documented log_format writes it.
func nginxDocumented(t *testing.T, values map[string]string) string {
	t.Helper()
	_, format, ok := strings.Cut(example(t, "nginx.conf"), "log_format usage_json escape=json")
	if !ok {
		t.Fatal("the log format has another name")
	}
	format, _, _ = strings.Cut(format, ";")
	var b strings.Builder
	for _, part := range nginxFormat.FindAllStringSubmatch(format, -1) {
		b.WriteString(part[1])
	}
	return fill(t, b.String(), nginxVariable, values)
}

// apisixDocumented is a record as the documented log format of http-logger makes it.
func apisixDocumented(t *testing.T, values map[string]string) string {
	t.Helper()
	format := at(t, examples(t, "apisix.yaml")[0], "plugin_metadata", 0, "log_format").(map[string]any)
	all := map[string]any{}
	for name, v := range values {
		all[name] = v
	}
	record := filled(t, format, all)
	return record[:len(record)-1] + `,"route_id":"fhir-r4","service_id":""}` // it adds these
}

func envoyDocumented(t *testing.T, format any) string {
	t.Helper()
	return filled(t, format.(map[string]any), map[string]any{
		"%START_TIME%": "2026-09-14T10:00:00.375Z", "%REQ(X-REQUEST-ID)%": "ab1e4da7-5f1d-45ea-bb4a-fa1ccd03b82b", "%REQ(:METHOD)%": "GET",
		"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%": "/fhir/r4/Patient/0012345?name=smith", "%RESPONSE_CODE%": 200, "%DURATION%": 21, "%BYTES_SENT%": 512,
		"%ROUTE_NAME%": "fhir-r4", "%REQ(X-APP-ID)%": "northwind-scheduler", "%REQ(X-CUSTOMER-ID)%": "lakeside-clinic",
	})
}

// TestDocumentedFormats fills in each log format that the manual tells to configure and
// reads the line with the mapping of the documented source.
func TestDocumentedFormats(t *testing.T) {
	sources := map[string]metering.Source{}
	for _, s := range at(t, examples(t, "catalogue/sources.yaml")[0], "sources").([]any) {
		m := s.(map[string]any)
		app, _ := m["app"].(string)
		sources[m["name"].(string)] = metering.Source{Name: m["name"].(string), Mapping: m["mapping"].(string), App: partner.AppID(app), Class: metering.Class(m["class"].(string))}
	}
	for _, c := range []documented{
		{"gateway-us-1", "nginx", func(t *testing.T) string { return nginxDocumented(t, nginxValues) }, "", "other", "10:00:00.375"},
		{"apisix-1", "nginx", func(t *testing.T) string { return apisixDocumented(t, nginxValues) }, "", "fhir-r4", "10:00:00.375"},
		{"envoy-1", "envoy", func(t *testing.T) string {
			return envoyDocumented(t, at(t, examples(t, "envoy.yaml")[0], "access_log", 0, "typed_config", "log_format", "json_format"))
		}, "", "fhir-r4", "10:00:00.375"},
		{"envoy-1", "envoy", func(t *testing.T) string {
			return envoyDocumented(t, at(t, examples(t, "envoy-gateway.yaml")[1], "spec", "telemetry", "accessLog", "settings", 0, "format", "json"))
		}, "", "fhir-r4", "10:00:00.375"},
		{"istio-1", "istio", func(t *testing.T) string {
			return envoyDocumented(t, at(t, examples(t, "istio.yaml")[0], "extensionProviders", 0, "envoyFileAccessLog", "logFormat", "labels"))
		}, "", "fhir-r4", "10:00:00.375"},
		{"aws-1", "aws", func(t *testing.T) string {
			return fill(t, example(t, "aws.json"), regexp.MustCompile(`\$context\.[A-Za-z.]+`), map[string]string{
				"$context.extendedRequestId": "Ftlr2FI1IAMFUuA=", "$context.requestTimeEpoch": "1789380000375", "$context.httpMethod": "GET",
				"$context.resourcePath": "/fhir/r4/Patient/{id}", "$context.status": "200", "$context.responseLatency": "21", "$context.responseLength": "512",
				"$context.authorizer.app": "northwind-scheduler", "$context.authorizer.customer": "lakeside-clinic", "$context.identity.apiKeyId": "a1b2c3d4e5",
			})
		}, "", "/fhir/r4/Patient/{id}", "10:00:00.375"},
		{"traefik-1", "traefik", func(t *testing.T) string {
			names := at(t, examples(t, "traefik.yaml")[0], "accessLog", "fields", "headers", "names").(map[string]any)
			values := map[string]string{"X-Request-Id": "ba42a5f5fa1f4118986892b2266c2d3c", "X-App-Id": "northwind-scheduler", "X-Customer-Id": "lakeside-clinic"}
			line := `{"ClientHost":"203.0.113.7","DownstreamContentSize":512,"DownstreamStatus":200,"Duration":21000000,"RequestMethod":"GET","RequestPath":"/fhir/r4/Patient/0012345","RouterName":"fhir-r4","StartUTC":"2026-09-14T10:00:00.375Z"`
			for name, mode := range names {
				if mode == "keep" {
					line += fmt.Sprintf(",%q:%q", "request_"+name, values[name])
				}
			}
			return line + "}"
		}, "", "fhir-r4", "10:00:00.375"},
		{"apache-1", "apache", func(t *testing.T) string {
			_, format, _ := strings.Cut(example(t, "apache.conf"), `LogFormat "`)
			format, _, _ = strings.Cut(format, `" combined`)
			return fill(t, strings.ReplaceAll(format, `\"`, `"`), regexp.MustCompile(`%[>a-z]+|%\{[A-Za-z-]+\}i`), map[string]string{
				"%h": "203.0.113.7", "%l": "-", "%u": "-", "%t": "[14/Sep/2026:10:00:00 +0000]", "%r": "GET /fhir/r4/Patient/0012345?name=smith HTTP/1.1", "%>s": "200", "%b": "512",
				"%{Referer}i": "-", "%{User-agent}i": "curl/8",
			})
		}, "", "other", "10:00:00"},
	} {
		t.Run(c.source, func(t *testing.T) {
			s, ok := sources[c.source]
			if !ok || s.Mapping != c.mapping {
				t.Fatalf("the documented source is %+v, want mapping %s", s, c.mapping)
			}
			line := c.line(t)
			l, err := mappings()[s.Mapping].Reader(strings.NewReader(line), metering.LogOptions{Source: s.Name, App: s.App, Class: s.Class})
			if err != nil {
				t.Fatal(err)
			}
			d, err := l.Next()
			if err != nil || d.Refusal != nil {
				t.Fatalf("%s: %v %+v", line, err, d.Refusal)
			}
			e := d.Event
			if made := strings.HasPrefix(e.ID, "line:"); e.ID == "" || made != (c.mapping == "apache") || made != (e.Customer == "") || made != (e.Data.LatencyMS == nil) {
				t.Errorf("%+v", e)
			}
			if e.Data.App != "northwind-scheduler" || e.Data.Status != 200 || e.Data.Bytes != 512 || e.Data.Class != metering.API || e.Data.Operation != c.operation ||
				e.Time.Format("15:04:05.999") != c.started || e.Data.LatencyMS != nil && e.Data.LatencyMS.String() != "21" {
				t.Errorf("%s\nmeans %+v", line, e)
			}
			if text := string(metering.AppendCanonical(nil, e)); strings.Contains(text, "0012345") || strings.Contains(text, "smith") || strings.Contains(text, "203.0.113") {
				t.Errorf("carried: %s", text)
			}
		})
	}
	for _, kept := range []string{"log_append request_id {http.request.uuid}", "format json"} {
		if !strings.Contains(example(t, "Caddyfile"), kept) {
			t.Errorf("the Caddyfile does not say %s", kept)
		}
	}
}

// calls are requests of which one has no customer and one a path of a patient.
func calls() (all []map[string]string) {
	for i, c := range []struct{ end, took, status, customer string }{
		{"1789380000.396", "0.021", "200", "lakeside-clinic"}, {"1789380000.999", "0.000", "404", ""}, {"1789380031.002", "30.003", "502", "lakeside-clinic"},
	} {
		v := maps.Clone(nginxValues)
		v["$msec"], v["$request_time"], v["$status"], v["$http_x_customer_id"] = c.end, c.took, c.status, c.customer
		v["$request_id"] = fmt.Sprintf("957cc5fcfa8c506b0f9f8d024934221%d", i)
		all = append(all, v)
	}
	return all
}

// shaped is a call as the collectors' transforms make it a CloudEvent; both write the
// keys in order.
func shaped(t *testing.T, call map[string]string) string {
	t.Helper()
	ms := func(seconds string) time.Duration {
		d, err := time.ParseDuration(seconds + "s")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	took := ms(call["$request_time"])
	b, err := json.Marshal(map[string]any{
		"specversion": "1.0", "id": call["$request_id"], "source": "gateway-us-1", "type": "usage.api", "subject": call["$http_x_customer_id"],
		"time": time.Unix(0, 0).UTC().Add(ms(call["$msec"]) - took).Format("2006-01-02T15:04:05.000Z"),
		"data": map[string]any{"app": call["$usage_app"], "operation": "other", "class": "api", "status": json.Number(call["$status"]),
			"latency_ms": took.Milliseconds(), "bytes": json.Number(call["$body_bytes_sent"])},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestWhatCollectorsSend posts, as each documented configuration makes the collector
// post it, the same three calls. They mean what the mapping reads from the file.
//
// How Vector's http sink writes a batch is in its sources: with newline framing JSON
// has no last line end and is application/x-ndjson, text has one and is text/plain;
// without framing JSON is an array. Benthos was run, and its requests were kept.
func TestWhatCollectorsSend(t *testing.T) {
	var log, events, nginx, apisix []string
	for _, c := range calls() {
		nginx = append(nginx, nginxDocumented(t, c))
		events = append(events, shaped(t, c))
		apisix = append(apisix, apisixDocumented(t, c))
	}
	log = nginx
	path := func(address any) string {
		u, err := url.Parse(strings.Replace(fmt.Sprint(address), "${METE_URL:http://127.0.0.1:8480}", "http://127.0.0.1:8480", 1))
		if err != nil {
			t.Fatal(err)
		}
		return u.Path
	}
	vector := func(name string) (p, contentType, body string, header []string) {
		sink := at(t, examples(t, name)[0], "sinks", "mete")
		p = path(at(t, sink, "uri"))
		if at(t, sink, "framing", "method") != "newline_delimited" || at(t, sink, "auth", "strategy") != "bearer" || at(t, sink, "acknowledgements", "enabled") != true || at(t, sink, "buffer", "type") != "disk" {
			t.Errorf("%s: %v", name, sink)
		}
		switch at(t, sink, "encoding", "codec") {
		case "text":
			contentType, body = "text/plain", strings.Join(log, "\n")+"\n"
		case "json":
			contentType, body = lines, strings.Join(events, "\n")
		}
		if at(t, sink, "compression") == "gzip" {
			body, header = zip(body), []string{"Content-Encoding", "gzip"}
		}
		return p, contentType, body, append(header, "User-Agent", "Vector/0.50.0 (x86_64-unknown-linux-gnu)")
	}
	connect := func(name string) (p, contentType, body string, header []string) {
		out := at(t, examples(t, name)[0], "output", "http_client")
		h := at(t, out, "headers").(map[string]any)
		switch at(t, out, "batching", "processors", 0, "archive", "format") {
		case "lines":
			body = strings.Join(log, "\n")
		case "json_array":
			body = "[" + strings.Join(events, ",") + "]"
		}
		if h["Content-Encoding"] == "gzip" {
			body, header = zip(body), []string{"Content-Encoding", "gzip"}
		}
		return path(at(t, out, "url")), fmt.Sprint(h["Content-Type"]), body, append(header, "User-Agent", "Go-http-client/1.1")
	}
	type request func() (path, contentType, body string, header []string)
	for name, c := range map[string]struct {
		send   request
		source string // of the mapping's events
		route  string
	}{
		"Vector, lines":  {func() (string, string, string, []string) { return vector("vector.yaml") }, "gateway-us-1", "other"},
		"Vector, events": {func() (string, string, string, []string) { return vector("vector-events.yaml") }, "gateway-us-1", "other"},
		"Vector, an array": {func() (string, string, string, []string) { // without framing
			return Path, "application/json", "[" + strings.Join(events, ",") + "]", nil
		}, "gateway-us-1", "other"},
		"Redpanda Connect, lines":  {func() (string, string, string, []string) { return connect("redpanda-connect.yaml") }, "gateway-us-1", "other"},
		"Redpanda Connect, events": {func() (string, string, string, []string) { return connect("redpanda-connect-events.yaml") }, "gateway-us-1", "other"},
		"Fluent Bit": {func() (string, string, string, []string) {
			out := at(t, examples(t, "fluent-bit.yaml")[0], "pipeline", "outputs", 0).(map[string]any)
			if out["format"] != "json_lines" || out["compress"] != "gzip" || out["json_date_key"] != false || !strings.HasPrefix(fmt.Sprint(out["header"]), "Authorization Bearer ") {
				t.Errorf("%v", out)
			}
			return fmt.Sprint(out["uri"]), lines, zip(strings.Join(log, "\n") + "\n"), []string{"Content-Encoding", "gzip", "User-Agent", "Fluent-Bit"}
		}, "gateway-us-1", "other"},
		"APISIX, an array": {func() (string, string, string, []string) {
			plugin := at(t, examples(t, "apisix.yaml")[0], "global_rules", 0, "plugins", "http-logger")
			return path(at(t, plugin, "uri")), "application/json", "[" + strings.Join(apisix, ",") + "]", nil
		}, "apisix-1", "fhir-r4"},
		"APISIX, new_line": {func() (string, string, string, []string) { // concat_method, its other one
			return LogsPath + "apisix-1", "application/json", strings.Join(apisix, "\n"), nil
		}, "apisix-1", "fhir-r4"},
		"APISIX, one": {func() (string, string, string, []string) { // batch_max_size: 1
			return LogsPath + "apisix-1", "application/json", apisix[0], nil
		}, "apisix-1", "fhir-r4"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			d := metering.NewDirectory([]partner.App{{ID: "northwind-scheduler", Partner: "northwind"}}, nil, []metering.Source{
				{Name: "gateway-us-1", Owner: "eu", Mapping: "nginx", Class: metering.API}, {Name: "apisix-1", Owner: "eu", Mapping: "nginx", Class: metering.API}})
			w.Gate.Directory = func(context.Context) (*metering.Directory, error) { return d, nil }
			p, contentType, body, header := c.send()
			rec := w.post(p, contentType, body, header...)
			if rec.Code != 202 {
				t.Fatalf("%s: %d %s", p, rec.Code, rec.Body)
			}
			file := nginx
			if c.source == "apisix-1" {
				file = apisix
			}
			l, err := w.Mappings["nginx"].Reader(strings.NewReader(strings.Join(file, "\n")), metering.LogOptions{Source: c.source, Class: metering.API})
			if err != nil {
				t.Fatal(err)
			}
			if len(w.intake.events) != len(file) && name != "APISIX, one" || len(w.intake.events) == 0 {
				t.Fatalf("%d events", len(w.intake.events))
			}
			for _, got := range w.intake.events {
				d, err := l.Next()
				if err != nil || d.Refusal != nil {
					t.Fatal(err, d.Refusal)
				}
				if got.Key() != d.Event.Key() || metering.ContentHash(got) != metering.ContentHash(d.Event) || got.Data.Operation != c.route {
					t.Errorf("sent  %s\nfile  %s", metering.AppendCanonical(nil, got), metering.AppendCanonical(nil, d.Event))
				}
			}
		})
	}
}

// TestConnectOverNATS: the documented headers are those with which TestMessageIDsOverNATS
// publishes.
func TestConnectOverNATS(t *testing.T) {
	out := at(t, examples(t, "redpanda-connect-nats.yaml")[0], "output", "nats_jetstream")
	want := map[string]any{"Content-Type": structured, "Nats-Msg-Id": `${! content().hash("sha256").encode("hex") }`}
	if diff := cmp.Diff(want, at(t, out, "headers")); diff != "" || at(t, out, "subject") != "intake.gateway-us-1" {
		t.Errorf("%s %v", diff, out)
	}
}

// TestKongPosts: the documented endpoint and header are those that the handler takes.
func TestKongPosts(t *testing.T) {
	config := at(t, examples(t, "kong.yaml")[0], "plugins", 0, "config")
	u, err := url.Parse(at(t, config, "http_endpoint").(string))
	if err != nil || !strings.HasPrefix(u.Path, LogsPath) || u.RawQuery != "" { // Kong drops a query
		t.Errorf("%v %v", u, err)
	}
	if !strings.HasPrefix(at(t, config, "headers", "Authorization").(string), "Bearer ") {
		t.Error(config)
	}
}
