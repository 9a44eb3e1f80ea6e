package metering_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"mete/internal/testdata"
	"mete/metering"
	"mete/partner"
)

// at is when the tests read their logs.
var at = time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC)

func mapping(t testing.TB, name string) *metering.Mapping {
	t.Helper()
	m, err := metering.BuiltInMapping(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

type record struct {
	metering.Event
	line int
}

type refusal struct {
	metering.Refusal
	line int
}

func readLog(t testing.TB, m *metering.Mapping, log io.Reader, o metering.LogOptions) (events []record, refused []refusal, l *metering.LogReader) {
	t.Helper()
	l, err := m.Reader(log, o)
	if err != nil {
		t.Fatal(err)
	}
	for {
		d, err := l.Next()
		switch {
		case errors.Is(err, io.EOF):
			return events, refused, l
		case err != nil:
			t.Fatal(err)
		case d.Refusal != nil:
			refused = append(refused, refusal{*d.Refusal, d.Line})
		default:
			events = append(events, record{d.Event, d.Line})
		}
	}
}

func openData(t testing.TB, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{testdata.Dir(t), "data"}, path...)...))
	if err != nil {
		testdata.Missing(t, filepath.Join(path...), err.Error())
	}
	return b
}

func TestReplayedGatewayLogs(t *testing.T) {
	for _, c := range []struct {
		gateway string
		bytes   int64
		first   string // start of the first request, by hand from its end and duration
	}{
		{"nginx", 441_124_187, "2026-11-23T15:01:45.395Z"},
		{"caddy", 440_646_553, "2026-11-23T15:01:47.339186Z"}, // 1795446107.3419018 − 0.002715098
		{"traefik", 440_646_553, "2026-11-23T15:01:51.163962Z"},
	} {
		t.Run(c.gateway, func(t *testing.T) {
			log := openData(t, "gateways", "real_replay", c.gateway+".jsonl")
			m := mapping(t, c.gateway)
			events, refused, l := readLog(t, m, bytes.NewReader(log), metering.LogOptions{})
			if len(events) != 2000 || len(refused) != 0 {
				t.Fatalf("%d events, %d refused, want 2000 and 0", len(events), len(refused))
			}
			if got, want := l.Counts(), (metering.LogCounts{Lines: 2000, Events: 2000}); got != want {
				t.Errorf("counts %+v, want %+v", got, want)
			}
			if got := events[0].Time.Format(time.RFC3339Nano); got != c.first {
				t.Errorf("first request began %s, want %s", got, c.first)
			}
			keys, apps, customers, status := map[metering.Key]bool{}, map[partner.AppID]bool{}, map[partner.CustomerID]bool{}, map[int]int{}
			var sum int64
			below400 := 0
			for _, e := range events {
				keys[e.Key()] = true
				apps[e.Data.App] = true
				customers[e.Customer] = true
				status[e.Data.Status]++
				sum += e.Data.Bytes
				if e.Data.Status < 400 {
					below400++
				}
			}
			if len(keys) != 2000 || len(apps) != 32 || len(customers) != 409 || below400 != 1965 || sum != c.bytes {
				t.Errorf("%d keys, %d apps, %d customers, %d below 400, %d bytes; want 2000, 32, 409, 1965, %d",
					len(keys), len(apps), len(customers), below400, sum, c.bytes)
			}
			if want := map[int]int{200: 1845, 301: 62, 304: 37, 404: 35, 206: 21}; !maps.Equal(status, want) {
				t.Errorf("status %v, want %v", status, want)
			}

			dir := &metering.Directory{Apps: map[partner.AppID]partner.ID{}}
			for a := range apps {
				if err := partner.CheckID(string(a)); err != nil {
					t.Errorf("no catalogue takes the app: %v", err)
				}
				if a != "app-~psionic" {
					dir.Apps[a] = "someone"
				}
			}
			for _, e := range events {
				bad := metering.Validate(e.Event, dir, at)
				if e.Data.App == "app-~psionic" { // not in the catalogue: kept until it is
					if bad == nil || bad.Reason != metering.UnknownApp || bad.Event == nil {
						t.Fatalf("line %d of an unknown app: %+v", e.line, bad)
					}
				} else if bad != nil {
					t.Fatalf("line %d: %s: %s", e.line, bad.Reason, bad.Detail)
				}
			}
			again, _, _ := readLog(t, m, bytes.NewReader(log), metering.LogOptions{})
			for i := range events {
				if metering.ContentHash(events[i].Event) != metering.ContentHash(again[i].Event) {
					t.Fatalf("line %d reads differently the second time", events[i].line)
				}
			}
			for _, e := range events[:50] {
				kept := metering.AppendCanonical(nil, e.Event)
				for _, never := range []string{"/presentations", "127.0.0.1", "Mozilla", "GET", "partner-0"} {
					if bytes.Contains(kept, []byte(never)) {
						t.Fatalf("line %d carries %q: %s", e.line, never, kept)
					}
				}
			}
		})
	}
}

func TestApacheLog(t *testing.T) {
	log := openData(t, "apache_logs.log")
	o := metering.LogOptions{Name: "apache_logs.log", App: "website"}
	m := mapping(t, "apache")
	events, refused, l := readLog(t, m, bytes.NewReader(log), o)
	if len(events) != 9999 || len(refused) != 1 {
		t.Fatalf("%d events, %d refused, want 9999 and 1", len(events), len(refused))
	}
	if got, want := l.Counts(), (metering.LogCounts{Lines: 10000, Events: 9999, Refused: 1}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	bad := refused[0]
	if bad.line != 8899 || bad.Reason != metering.Undecodable || bad.Class != metering.Unclean || bad.Event != nil {
		t.Errorf("refusal %+v", bad)
	}
	if want := "the line ends inside the user agent, which has no closing \""; !strings.HasPrefix(bad.Detail, want) {
		t.Errorf("detail %q, want %q…", bad.Detail, want)
	}
	if strings.Contains(fmt.Sprint(bad), "46.118") || strings.Contains(fmt.Sprint(bad), "grok") {
		t.Errorf("the refusal tells what stood in the line: %+v", bad)
	}

	// Every line counts but the truncated one.
	status, keys := map[int]int{}, map[metering.Key]int{}
	seen, equal := map[string]bool{}, 0
	lines := strings.Split(string(log), "\n")
	for _, e := range events {
		status[e.Data.Status]++
		keys[e.Key()]++
		if text := lines[e.line-1]; seen[text] {
			equal++
		} else {
			seen[text] = true
		}
		if e.Data.App != "website" || e.Customer != "" || e.Data.Operation != "other" {
			t.Fatalf("line %d: %+v", e.line, e.Event)
		}
	}
	if want := map[int]int{200: 9125, 304: 445, 404: 213, 301: 164, 206: 45, 500: 3, 403: 2, 416: 2}; !maps.Equal(status, want) {
		t.Errorf("status %v, want %v", status, want)
	}
	if len(keys) != 9999 || equal != 19 {
		t.Errorf("%d distinct events of which %d are equal lines, want 9999 and 19", len(keys), equal)
	}
	again, _, _ := readLog(t, m, bytes.NewReader(log), o)
	for i := range events {
		if again[i].ID != events[i].ID {
			t.Fatalf("line %d has id %s, then %s", events[i].line, events[i].ID, again[i].ID)
		}
	}
	// A rotated file that begins at another second yields the same ids for its lines,
	// unless it parts equal lines.
	other, _, _ := readLog(t, m, strings.NewReader(strings.Join(lines[5000:], "\n")), o)
	same := 0
	for _, e := range other {
		same += keys[e.Key()]
	}
	if same != len(other) {
		t.Errorf("%d of %d lines of the second half have the ids they have in the whole", same, len(other))
	}
}

// TestDocumentedGatewayRecords compares with what another implementation made of
// the gateways' documented records.
func TestDocumentedGatewayRecords(t *testing.T) {
	mappings := map[string]string{
		"nginx": "nginx", "traefik": "traefik", "caddy": "caddy", "kong": "kong", "apisix": "apisix",
		"envoy_gateway": "envoy", "istio": "istio", "aws_apigw": "aws", "tyk": "tyk",
	}
	type canonical struct {
		ID          string          `json:"id"`
		App         string          `json:"app"`
		Customer    string          `json:"customer"`
		Status      int             `json:"status"`
		Bytes       int64           `json:"bytes_out"`
		Synthesised bool            `json:"id_synthesised"`
		Time        time.Time       `json:"time"`
		LatencyMS   decimal.Decimal `json:"latency_ms"`
		Gateway     string          `json:"gateway"`
		Sample      string          `json:"sample"`
	}
	want := map[string][]canonical{}
	var samples []string
	for _, line := range bytes.Split(bytes.TrimSpace(openData(t, "gateways", "expected_canonical.jsonl")), []byte("\n")) {
		var c canonical
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		if mappings[c.Gateway] == "" {
			continue
		}
		if want[c.Sample] == nil {
			samples = append(samples, c.Sample)
		}
		want[c.Sample] = append(want[c.Sample], c)
	}
	compared := 0
	for _, sample := range samples {
		t.Run(sample, func(t *testing.T) {
			text := openData(t, "gateways", sample)
			if !strings.HasSuffix(sample, ".jsonl") { // written over several lines for people
				var b bytes.Buffer
				if err := json.Compact(&b, text); err != nil {
					t.Fatal(err)
				}
				text = b.Bytes()
			}
			gateway := want[sample][0].Gateway
			events, refused, _ := readLog(t, mapping(t, mappings[gateway]), bytes.NewReader(text), metering.LogOptions{})
			if len(refused) != 0 || len(events) != len(want[sample]) {
				t.Fatalf("%d events, %d refused, want %d; %+v", len(events), len(refused), len(want[sample]), refused)
			}
			for i, w := range want[sample] {
				e := events[i]
				// APISIX ids come from a header of the caller: not taken, on purpose.
				if made := strings.HasPrefix(e.ID, "line:"); made != (w.Synthesised || gateway == "apisix") || !made && e.ID != w.ID {
					t.Errorf("%d: id %s, want %s", i, e.ID, w.ID)
				}
				if string(e.Data.App) != w.App || string(e.Customer) != w.Customer || e.Data.Status != w.Status || e.Data.Bytes != w.Bytes {
					t.Errorf("%d: %+v\nwant %+v", i, e.Event, w)
				}
				if gateway == "tyk" { // the other implementation took the end for the start
					w.Time = w.Time.Add(-time.Duration(w.LatencyMS.Mul(decimal.New(1, 6)).IntPart()))
				}
				if off := e.Time.Sub(w.Time).Abs(); off > time.Millisecond {
					t.Errorf("%d: time %s, want %s", i, e.Time, w.Time)
				}
				if e.Data.LatencyMS == nil || e.Data.LatencyMS.Sub(w.LatencyMS).Abs().GreaterThan(decimal.New(1, -3)) {
					t.Errorf("%d: latency %v, want %s", i, e.Data.LatencyMS, w.LatencyMS)
				}
				compared++
			}
		})
	}
	if compared < 15 {
		t.Errorf("only %d records were compared", compared)
	}
}
