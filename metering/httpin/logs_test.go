package httpin

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mete/metering"
)

// nginxLine is a line as the documented log format writes it.
func nginxLine(id, app string) string {
	return fmt.Sprintf(`{"msec":1789380000.396,"request_id":%q,"method":"GET","uri":"/fhir/r4/Patient/0012345","status":200,"body_bytes_sent":512,"request_time":0.021,"app":%q,"customer":"lakeside-clinic"}`, id, app)
}

const good, bad = "northwind-scheduler", "nobody"

func logAnswer(t *testing.T, rec *httptest.ResponseRecorder) (a LogAnswer) {
	t.Helper()
	if err := json.Unmarshal(rec.Body.Bytes(), &a); err != nil {
		t.Fatalf("answer %q: %v", rec.Body, err)
	}
	return a
}

func TestLogs(t *testing.T) {
	a, b, c := nginxLine("a", good), nginxLine("b", good), nginxLine("c", bad)
	const path = LogsPath + "nginx%2Feu%201"
	kong, err := os.ReadFile(filepath.Join("..", "testdata", "gateways", "kong.log"))
	if err != nil {
		t.Fatal(err)
	}
	tyk, err := os.ReadFile(filepath.Join("..", "testdata", "gateways", "tyk-csv.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path, contentType, body string
		header                        []string
		status                        int
		want                          LogAnswer // without First
	}{
		{"lines as text", path, "text/plain", a + "\n" + b + "\n", nil, 202, LogAnswer{Records: 2, Accepted: 2}},
		{"no content type", path, "", a + "\n", nil, 202, LogAnswer{Records: 1, Accepted: 1}},
		{"an array", path, "application/json", "[" + a + "," + b + "]", nil, 202, LogAnswer{Records: 2, Accepted: 2}},
		{"arrays on lines", path, lines, "[" + a + "," + b + "]\n" + nginxLine("d", good), nil, 202, LogAnswer{Records: 3, Accepted: 3}},
		{"packed", path, "text/plain", zip(a + "\n" + b), []string{"Content-Encoding", "gzip"}, 202, LogAnswer{Records: 2, Accepted: 2}},
		{"mixed", path, "text/plain", a + "\n{\n" + c, nil, 200, LogAnswer{Records: 3, Accepted: 1, Refused: 2, Reasons: map[string]int{"undecodable": 1, "unknown_app": 1}}},
		{"all refused", path, "text/plain", c + "\n" + nginxLine("jane@example.org", good), nil, 200, LogAnswer{Records: 2, Refused: 2, Reasons: map[string]int{"unknown_app": 1, "phi_email": 1}}},
		{"nothing", path, "text/plain", "", nil, 202, LogAnswer{}},
		{"Kong", LogsPath + "kong", "application/json; charset=utf-8", strings.Join(strings.SplitAfter(string(kong), "\n")[:2], ""), nil, 200,
			LogAnswer{Records: 3, Accepted: 2, Refused: 1, Reasons: map[string]int{"unknown_app": 1}}},
		{"Tyk", LogsPath + "tyk", "text/csv", string(tyk), nil, 200,
			LogAnswer{Records: 8, Accepted: 3, Refused: 5, Reasons: map[string]int{"unknown_app": 1, "phi_email": 1, "bad_time": 1, "undecodable": 2}}},
		{"a large array on one line", path, "application/json", "[" + strings.Repeat(a+",", 6000) + a + "]", nil, 202, LogAnswer{Records: 6001, Accepted: 6001}},
		{"as many as allowed", path, "text/plain", strings.Repeat(a+"\n", MaxRecords), nil, 202, LogAnswer{Records: MaxRecords, Accepted: MaxRecords}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			rec := w.post(c.path, c.contentType, c.body, c.header...)
			if rec.Code != c.status {
				t.Fatalf("status %d, want %d: %.300s", rec.Code, c.status, rec.Body)
			}
			got := logAnswer(t, rec)
			for _, v := range got.First {
				if kept, ok := w.quarantine.kept[v.Receipt]; !ok || kept.Where != fmt.Sprintf("log[%d]", v.Index) {
					t.Errorf("refusal %+v is not in quarantine: %+v", v, kept)
				}
			}
			if len(got.First) != min(maxTold, got.Refused) || len(w.intake.events) != got.Accepted || len(w.quarantine.kept) != got.Refused {
				t.Errorf("%d told, %d published, %d kept: %+v", len(got.First), len(w.intake.events), len(w.quarantine.kept), got)
			}
			got.First = nil
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			told, _ := json.Marshal([]any{w.intake.events, w.quarantine.kept})
			for _, text := range []string{"0012345", "jane@", "GET", "203.0.113", "s3cret", "curl"} {
				if strings.Contains(string(told)+rec.Body.String(), text) {
					t.Errorf("%q is carried", text)
				}
			}
		})
	}
}

// TestLogsAreReadAsFiles: the same log means the same events whichever way it comes,
// with what the source says of itself.
func TestLogsAreReadAsFiles(t *testing.T) {
	w := newWorld()
	if rec := w.post(LogsPath+"nginx%2Feu%201", "text/plain", nginxLine("a", good)); rec.Code != 202 {
		t.Fatal(rec.Code, rec.Body)
	}
	l, err := w.Mappings["nginx"].Reader(strings.NewReader(nginxLine("a", good)), metering.LogOptions{Source: "nginx/eu 1", Class: metering.API})
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Next()
	if err != nil {
		t.Fatal(err)
	}
	if got := w.intake.events[0]; got.Key() != d.Event.Key() || metering.ContentHash(got) != metering.ContentHash(d.Event) || got.Data.Class != metering.API {
		t.Errorf("over HTTP %+v\nfrom a file %+v", got, d.Event)
	}
}

// TestLogSentAgain: the request that is repeated has the same events and the same
// refusals, also where lines have no ids and equal ones stand in it.
func TestLogSentAgain(t *testing.T) {
	record := `{"start_time":1789380000508,"route_id":"slots","response":{"status":200,"size":617},"latency":12.5,"request":{"method":"GET","uri":"/x","size":85}}`
	body := "[" + record + "," + record + ",{\"start_time\":\"\"},{\"start_time\":\"\"}]"
	w := newWorld()
	for range 2 {
		if rec := w.post(LogsPath+"apisix", "application/json", body); rec.Code != 200 {
			t.Fatal(rec.Code, rec.Body)
		}
	}
	keys := map[metering.Key]int{}
	for _, e := range w.intake.events {
		keys[e.Key()]++
	}
	if len(keys) != 2 || len(w.intake.events) != 4 {
		t.Errorf("events %v, want two, each twice", keys)
	}
	if len(w.quarantine.kept) != 2 {
		t.Errorf("%d refusals kept, want 2", len(w.quarantine.kept))
	}
}

func TestLogErrors(t *testing.T) {
	line := nginxLine("a", good)
	for _, c := range []struct {
		name, source, body string
		header             []string
		status             int
		detail             string
	}{
		{"no key", "kong", line, []string{"Authorization", ""}, 401, "Authorization: Bearer"},
		{"another's source", "nginx-us", line, nil, 403, "belongs to another credential"},
		{"nobody's source", "gw-nobody", line, nil, 403, "belongs to another credential"},
		{"not registered", "gw-xx", line, nil, 404, "add it to the catalogue"},
		{"none", "", line, nil, 404, "add it to the catalogue"},
		{"like a patient", "jane@example.org", line, nil, 404, "add it to the catalogue"},
		{"without a mapping", "gw-eu-1", line, nil, 404, "post CloudEvents to /v1/events"},
		{"with an unknown mapping", "theirs", line, nil, 404, "has the mapping theirs, which is neither built in nor given to the service"},
		{"of CloudEvents", "events", line, nil, 404, "sends CloudEvents: post them to /v1/events"},
		{"without an app", "ours", line, nil, 404, "does not say which app was called"},
		{"without ids", "apache", line, nil, 404, "take its files with mete ingest"},
		{"CSV without columns", "tyk", "1,2,3\n", nil, 400, "no column is called TimeStamp"},
		{"too many", "nginx%2Feu%201", strings.Repeat(line+"\n", MaxRecords+1), nil, 413, "more than 10000 records"},
		{"too large", "kong", strings.Repeat(" ", metering.MaxBody+1), nil, 413, "send smaller batches"},
		{"a bomb", "kong", zip(strings.Repeat(" ", metering.MaxBody+1)), []string{"Content-Encoding", "gzip"}, 413, "unpacks to more than"},
		{"another coding", "kong", line, []string{"Content-Encoding", "zstd"}, 415, "gzip"},
	} {
		w := newWorld()
		rec := w.post(LogsPath+c.source, "text/plain", c.body, c.header...)
		var p Problem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || rec.Code != c.status || p.Status != c.status || !strings.Contains(p.Detail, c.detail) || rec.Header().Get("Content-Type") != problemType {
			t.Errorf("%s: %d %s %v, want %d %s", c.name, rec.Code, rec.Body, err, c.status, c.detail)
		}
		if len(w.intake.events)+len(w.quarantine.kept) != 0 || strings.Contains(rec.Body.String(), "jane") {
			t.Errorf("%s: something was taken, or told: %s", c.name, rec.Body)
		}
	}
	w := newWorld()
	w.intake.err = busy{true, 1}
	if rec := w.post(LogsPath+"nginx%2Feu%201", "text/plain", line); rec.Code != 429 || rec.Header().Get("Retry-After") != "1" {
		t.Errorf("too fast: %d %v", rec.Code, rec.Header())
	}
}
