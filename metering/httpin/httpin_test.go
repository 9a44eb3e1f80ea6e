package httpin

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"mete/metering"
	"mete/partner"
)

const (
	structured = "application/cloudevents+json"
	batched    = "application/cloudevents-batch+json"
	lines      = "application/x-ndjson"
	euKey      = "key-of-the-european-gateway"
	usKey      = "key-of-the-american-gateway"
)

var (
	now       = time.Date(2026, 9, 14, 12, 0, 0, 0, time.UTC)
	directory = metering.NewDirectory(
		[]partner.App{{ID: "northwind-scheduler", Partner: "northwind"}},
		[]metering.Meter{{ID: "api_calls", Type: metering.UsageAPI, Aggregate: metering.AggregateCount}},
		[]metering.Source{{Name: "gw-eu-1", Owner: "eu"}, {Name: "gw-eu-2", Owner: "eu"}, {Name: "gw-us-1", Owner: "us"}, {Name: "gw-nobody"},
			{Name: "nginx/eu 1", Owner: "eu", Mapping: "nginx", Class: metering.API}, {Name: "nginx-us", Owner: "us", Mapping: "nginx"},
			{Name: "kong", Owner: "eu", Mapping: "kong"}, {Name: "apisix", Owner: "eu", Mapping: "apisix", App: "northwind-scheduler"}, {Name: "tyk", Owner: "eu", Mapping: "tyk-csv"},
			{Name: "apache", Owner: "eu", Mapping: "apache", App: "northwind-scheduler"}, {Name: "ours", Owner: "eu", Mapping: "ours"}, {Name: "theirs", Owner: "eu", Mapping: "theirs"},
			{Name: "events", Owner: "eu", Mapping: "cloudevents"}},
	)
	tokens = Tokens{"eu": HashToken(euKey), "us": HashToken(usKey)}
)

// intake keeps what it accepts, or fails.
type intake struct {
	mu     sync.Mutex
	events []metering.Event
	err    error
}

func (in *intake) Accept(_ context.Context, events []metering.Event) ([]metering.Position, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.err != nil {
		return nil, in.err
	}
	positions := make([]metering.Position, len(events))
	for i := range events {
		positions[i] = metering.Position{Partition: 3, Sequence: uint64(len(in.events) + 1), Index: i}
	}
	in.events = append(in.events, events...)
	return positions, nil
}

// quarantine keeps refusals by receipt, as the promise of metering.Quarantine says.
type quarantine struct {
	metering.Quarantine
	mu   sync.Mutex
	kept map[string]metering.Refusal
	err  error
}

func (q *quarantine) Refuse(_ context.Context, rs []metering.Refusal) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return q.err
	}
	for _, r := range rs {
		if r.ID == "" || r.Class == metering.Unclean && r.Event != nil {
			return fmt.Errorf("refusal %+v must not be kept", r)
		}
		if _, ok := q.kept[r.ID]; !ok {
			q.kept[r.ID] = r
		}
	}
	return nil
}

type world struct {
	*Handler
	intake     *intake
	quarantine *quarantine
	log        bytes.Buffer
}

func newWorld() *world {
	w := &world{intake: &intake{}, quarantine: &quarantine{kept: map[string]metering.Refusal{}}}
	w.Handler = &Handler{
		Gate: &metering.Gate{
			Directory:  func(context.Context) (*metering.Directory, error) { return directory, nil },
			Intake:     w.intake,
			Quarantine: w.quarantine,
			Now:        func() time.Time { return now },
		},
		Mappings: mappings(),
		Owner:    tokens.Owner,
		Log:      slog.New(slog.NewTextHandler(&w.log, nil)),
	}
	return w
}

// mappings are the built-in ones and one of our own, which leaves the app open.
func mappings() map[string]*metering.Mapping {
	all := map[string]*metering.Mapping{}
	for _, name := range metering.MappingNames() {
		m, err := metering.BuiltInMapping(name)
		if err != nil {
			panic(err)
		}
		all[name] = m
	}
	m, err := metering.LoadMapping([]byte("mapping: ours\nformat: json\nsource: ours\ntime: {path: t, unit: epoch_s, meaning: start}\n"))
	if err != nil {
		panic(err)
	}
	all["ours"] = m
	return all
}

// post sends a body with the European key and returns the answer; headers come in
// pairs and may replace it.
func (w *world) post(path, contentType, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+euKey)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	return rec
}

func ce(source, id string, data string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":"usage.api","time":"2026-09-14T10:00:00Z","subject":"lakeside-clinic","data":%s}`, id, source, data)
}

// zip is the text as gzip.
func zip(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, text)
	z.Close()
	return b.String()
}

const data = `{"app":"northwind-scheduler","status":200}`

func verdicts(t *testing.T, rec *httptest.ResponseRecorder) []metering.Verdict {
	t.Helper()
	var all []metering.Verdict
	if err := json.Unmarshal(rec.Body.Bytes(), &all); err != nil {
		t.Fatalf("answer %q: %v", rec.Body, err)
	}
	return all
}

func TestAnswers(t *testing.T) {
	good, good2 := ce("gw-eu-1", "a", data), ce("gw-eu-2", "b", data)
	unknown := ce("gw-eu-1", "c", `{"app":"nobody"}`)
	stolen := ce("gw-us-1", "d", data)
	unclean := ce("gw-eu-1", "jane@example.org", data)
	for name, c := range map[string]struct {
		path, contentType, body string
		header                  []string
		status                  int
		reasons                 string // of each event, comma-separated; "" = accepted
	}{
		"single":             {Path, structured, good, nil, 202, ""},
		"charset":            {Path, structured + "; charset=UTF-8", good, nil, 202, ""},
		"batch":              {Path, batched, "[" + good + "," + good2 + "]", nil, 202, ","},
		"empty batch":        {Path, batched, "[]", nil, 202, "-"},
		"plain JSON":         {Path, "application/json", "[" + good + "]", nil, 202, ""},
		"lines":              {Path, lines, good + "\n" + good2 + "\n", nil, 202, ","},
		"mixed lines":        {Path, lines, good + "\n{\"id\":\n" + stolen, nil, 200, ",undecodable,source_not_yours"},
		"no lines":           {Path, lines, "\n", nil, 202, "-"},
		"mixed":              {Path, batched, "[" + good + "," + unknown + "," + stolen + "]", nil, 200, ",unknown_app,source_not_yours"},
		"unclean":            {Path, structured, unclean, nil, 422, "phi_email"},
		"none":               {Path, batched, "[" + unknown + "," + stolen + "]", nil, 422, "unknown_app,source_not_yours"},
		"unknown source":     {Path, structured, ce("gw-xx-9", "e", data), nil, 422, "unknown_source"},
		"no source":          {Path, structured, ce("", "e", data), nil, 422, "missing_field"},
		"stolen and unclean": {Path, structured, ce("gw-us-1", "jane@example.org", data), nil, 422, "phi_email"},
		"the other's key":    {Path, structured, stolen, []string{"Authorization", "bearer  " + usKey}, 202, ""},
		"binary": {Path, "application/json", data, []string{"ce-specversion", "1.0", "ce-id", "x", "ce-source", "gw-eu-1", "ce-type", "usage.api",
			"ce-subject", "lakeside-clinic", "ce-time", "2026-09-14T10:00:00Z"}, 202, ""},
		"openmeter":         {OpenMeterPath, structured, good, nil, 204, ""},
		"openmeter batch":   {OpenMeterPath, batched, "[" + good + "," + good2 + "]", nil, 204, ""},
		"openmeter refused": {OpenMeterPath, batched, "[" + good + "," + unknown + "]", nil, 422, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			rec := w.post(c.path, c.contentType, c.body, c.header...)
			if rec.Code != c.status {
				t.Fatalf("status %d, want %d: %s", rec.Code, c.status, rec.Body)
			}
			if c.path == OpenMeterPath {
				if c.status == 204 && rec.Body.Len() != 0 {
					t.Errorf("204 with a body %q", rec.Body)
				}
				return
			}
			all := verdicts(t, rec)
			var want []string
			if c.reasons != "-" {
				want = strings.Split(c.reasons, ",")
			}
			if len(all) != len(want) {
				t.Fatalf("%d answers, want %d: %s", len(all), len(want), rec.Body)
			}
			accepted := 0
			for i, v := range all {
				if v.Index != i || v.Reason != want[i] || v.Receipt == "" || (v.Status == metering.StatusAccepted) != (want[i] == "") {
					t.Errorf("answer %d: %+v, want reason %q", i, v, want[i])
				}
				if v.Status == metering.StatusAccepted {
					accepted++
					if v.Position == "" || v.ID == "" {
						t.Errorf("answer %d: %+v", i, v)
					}
					continue
				}
				kept, ok := w.quarantine.kept[v.Receipt]
				if !ok || kept.Reason != v.Reason || !strings.HasPrefix(kept.Where, "http[") || !kept.ReceivedAt.Equal(now) || kept.Digest == "" {
					t.Errorf("answer %d: in quarantine %+v, %v", i, kept, ok)
				}
				if (kept.Class == metering.Unusable) != (kept.Event != nil) {
					t.Errorf("answer %d: class %s, event %q", i, kept.Class, kept.Event)
				}
			}
			if accepted != len(w.intake.events) {
				t.Errorf("%d accepted, %d published", accepted, len(w.intake.events))
			}
			if strings.Contains(rec.Body.String(), "jane@") {
				t.Errorf("the answer repeats what must not be kept: %s", rec.Body)
			}
			for _, r := range w.quarantine.kept {
				if b, _ := json.Marshal(r); strings.Contains(string(b), "jane@") {
					t.Errorf("quarantine keeps %s", b)
				}
			}
		})
	}
}

func TestErrors(t *testing.T) {
	good := ce("gw-eu-1", "a", data)
	zipped, bomb := zip(good), zip(strings.Repeat("\x00", metering.MaxBody+1))
	for name, c := range map[string]struct {
		contentType, body string
		header            []string
		status            int
	}{
		"gzip":                {structured, zipped, []string{"Content-Encoding", "gzip"}, 202},
		"gzip of lines":       {lines, zip(good + "\n" + good), []string{"Content-Encoding", "GZIP"}, 202},
		"gzip of too many":    {lines, zip(strings.Repeat(good+"\n", metering.MaxBatch+1)), []string{"Content-Encoding", "gzip"}, 413},
		"gzip twice":          {lines, zip(zip(good)), []string{"Content-Encoding", "gzip, gzip"}, 415},
		"gzip cut":            {structured, zipped[:len(zipped)-9], []string{"Content-Encoding", "gzip"}, 400},
		"not gzip":            {structured, good, []string{"Content-Encoding", "gzip"}, 400},
		"gzip bomb":           {structured, bomb, []string{"Content-Encoding", "gzip"}, 413},
		"other coding":        {structured, good, []string{"Content-Encoding", "br"}, 415},
		"no key":              {structured, good, []string{"Authorization", ""}, 401},
		"wrong key":           {structured, good, []string{"Authorization", "Bearer " + euKey + "x"}, 401},
		"basic":               {structured, good, []string{"Authorization", "Basic " + euKey}, 401},
		"XML":                 {"application/xml", "<event/>", nil, 415},
		"charset":             {structured + "; charset=latin1", good, nil, 415},
		"not JSON":            {structured, "{", nil, 400},
		"trailing text":       {structured, good + "x", nil, 400},
		"empty":               {structured, "", nil, 400},
		"large":               {structured, `"` + strings.Repeat("x", metering.MaxBody) + `"`, nil, 413},
		"large batch":         {batched, "[" + strings.Repeat(good+",", metering.MaxBatch) + good + "]", nil, 413},
		"as large as allowed": {batched, "[" + strings.Repeat(good+",", metering.MaxBatch-1) + good + "]", nil, 202},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			rec := w.post(Path, c.contentType, c.body, c.header...)
			if rec.Code != c.status {
				t.Fatalf("status %d, want %d: %.300s", rec.Code, c.status, rec.Body)
			}
			if c.status < 300 {
				return
			}
			var p Problem
			if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || p.Status != c.status || p.Detail == "" || p.Title == "" || rec.Header().Get("Content-Type") != problemType {
				t.Errorf("problem %+v, %v, %s", p, err, rec.Header())
			}
			if c.status == 401 && rec.Header().Get("WWW-Authenticate") == "" {
				t.Error("401 without a challenge")
			}
			if len(w.intake.events) != 0 || strings.Contains(rec.Body.String(), "lakeside") {
				t.Errorf("%d published, answer %s", len(w.intake.events), rec.Body)
			}
		})
	}
	w := newWorld()
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, Path, nil))
	if rec.Code != 405 || rec.Header().Get("Allow") != "POST" {
		t.Errorf("GET: %d %v", rec.Code, rec.Header())
	}
	if rec := w.post("/v1/other", structured, good); rec.Code != 404 {
		t.Errorf("another path: %d", rec.Code)
	}
}

type busy struct {
	over  bool
	after time.Duration
}

func (b busy) Error() string             { return "busy" }
func (b busy) RetryAfter() time.Duration { return b.after }
func (b busy) Overloaded() bool          { return b.over }

func TestTryLater(t *testing.T) {
	for name, c := range map[string]struct {
		intake, quarantine error
		status             int
		after              string
		logged             bool
	}{
		"too fast":         {fmt.Errorf("accept: %w", busy{true, 1500 * time.Millisecond}), nil, 429, "2", false},
		"broker away":      {busy{false, time.Minute}, nil, 503, "60", true},
		"anything else":    {errors.New("no idea"), nil, 503, "5", true},
		"quarantine fails": {nil, errors.New("disk on fire"), 503, "5", true},
	} {
		w := newWorld()
		w.intake.err, w.quarantine.err = c.intake, c.quarantine
		rec := w.post(Path, batched, "["+ce("gw-eu-1", "a", data)+","+ce("gw-us-1", "b", data)+"]")
		if rec.Code != c.status || rec.Header().Get("Retry-After") != c.after || (w.log.Len() > 0) != c.logged {
			t.Errorf("%s: %d, after %q, logged %q", name, rec.Code, rec.Header().Get("Retry-After"), w.log.String())
		}
		if strings.Contains(rec.Body.String(), "disk on fire") {
			t.Errorf("%s: the sender is told our insides: %s", name, rec.Body)
		}
		if len(w.intake.events) != 0 {
			t.Errorf("%s: published before the refusal was recorded", name)
		}
	}
}

// A request that is sent again gets the same receipts and makes no new refusals.
func TestSentAgain(t *testing.T) {
	w := newWorld()
	noTime := strings.Replace(ce("gw-eu-1", "c", `{"app":"nobody"}`), `"time":"2026-09-14T10:00:00Z",`, "", 1)
	body := "[" + ce("gw-eu-1", "a", data) + "," + noTime + "," + ce("gw-us-1", "b", data) + "]"
	first := verdicts(t, w.post(Path, batched, body))
	w.Gate.Now = func() time.Time { return now.Add(time.Hour) }
	again := verdicts(t, w.post(Path, batched, body))
	for i := range first {
		if first[i].Receipt != again[i].Receipt {
			t.Errorf("event %d: receipt %s, then %s", i, first[i].Receipt, again[i].Receipt)
		}
	}
	if len(w.quarantine.kept) != 2 {
		t.Errorf("%d refusals kept, want 2", len(w.quarantine.kept))
	}
}

// Two events in binary mode that differ only in their attributes are two refusals.
func TestBinaryRefusalsDiffer(t *testing.T) {
	w := newWorld()
	for _, id := range []string{"one", "two"} {
		rec := w.post(Path, "application/json", `{"app":"nobody"}`, "ce-specversion", "1.0", "ce-id", id, "ce-source", "gw-eu-1", "ce-type", "usage.api")
		if rec.Code != 422 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
	}
	if len(w.quarantine.kept) != 2 {
		t.Errorf("%d refusals kept, want 2: the second event is lost", len(w.quarantine.kept))
	}
}

func TestTimeOfAcceptance(t *testing.T) {
	w := newWorld()
	body := strings.Replace(ce("gw-eu-1", "c", data), `"time":"2026-09-14T10:00:00Z",`, "", 1)
	if rec := w.post(Path, structured, body); rec.Code != 202 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	if e := w.intake.events[0]; !e.TimeAbsent || !e.Time.Equal(now) {
		t.Errorf("accepted %+v", e)
	}
}

func TestAdmitMessage(t *testing.T) {
	for name, c := range map[string]struct {
		source, body string
		want         string
	}{
		"own":            {"gw-eu-1", ce("gw-eu-1", "a", data), ""},
		"not registered": {"gw-xx-1", ce("gw-xx-1", "a", data), "unknown_source"},
		// The credential owns both sources, but this subject is the other's.
		"another of the owner's": {"gw-eu-1", ce("gw-eu-2", "a", data), "source_not_yours"},
		"another's":              {"gw-eu-1", ce("gw-us-1", "a", data), "source_not_yours"},
		"nobody's":               {"gw-eu-1", ce("gw-nobody", "a", data), "source_not_yours"},
		"no subject":             {"", ce("gw-eu-1", "a", data), "source_not_yours"},
		"unreadable":             {"gw-eu-1", "patient Jane Doe", "undecodable"},
		"empty":                  {"gw-eu-1", "", "undecodable"},
		"too large":              {"gw-eu-1", `"` + strings.Repeat("x", metering.MaxBody) + `"`, "too_large"},
	} {
		w := newWorld()
		answer, err := w.Gate.AdmitMessage(context.Background(), c.source, nil, []byte(c.body), "INTAKE 7")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var all []metering.Verdict
		if err := json.Unmarshal(answer, &all); err != nil || len(all) != 1 || all[0].Reason != c.want {
			t.Errorf("%s: %s, %v; want %q", name, answer, err, c.want)
			continue
		}
		for _, r := range w.quarantine.kept {
			if r.Where != "INTAKE 7[0]" || bytes.Contains(r.Event, []byte("Jane")) {
				t.Errorf("%s: kept %+v", name, r)
			}
		}
	}
	w := newWorld()
	w.intake.err = busy{true, time.Second}
	if _, err := w.Gate.AdmitMessage(context.Background(), "gw-eu-1", nil, []byte(ce("gw-eu-1", "a", data)), "INTAKE 7"); err == nil {
		t.Error("a message that was not published must be tried again")
	}
}

func TestTokens(t *testing.T) {
	for token, want := range map[string]string{euKey: "eu", usKey: "us", "": "", "x": "", euKey + " ": ""} {
		if owner, ok := tokens.Owner(context.Background(), token); owner != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", token, owner, ok)
		}
	}
}

// FuzzHandler sends anything; the answer is always one of those documented, and only
// a 2xx has published something.
func FuzzHandler(f *testing.F) {
	good := ce("gw-eu-1", "a", data)
	for _, s := range []string{good, "[" + good + "]", "[]", "{}", "null", `[null,1,"x",{}]`, good + good, "\x00", ce("gw-us-1", "b", `{"x":1}`)} {
		f.Add(s, structured)
	}
	f.Fuzz(func(t *testing.T, body, contentType string) {
		w := newWorld()
		rec := w.post(Path, contentType, body)
		switch rec.Code {
		case 200, 202, 422:
			accepted := 0
			for _, v := range verdicts(t, rec) {
				if v.Status == metering.StatusAccepted {
					accepted++
				} else if _, ok := w.quarantine.kept[v.Receipt]; !ok {
					t.Errorf("refusal %+v is not in quarantine", v)
				}
			}
			if accepted != len(w.intake.events) {
				t.Errorf("%d accepted, %d published", accepted, len(w.intake.events))
			}
		case 400, 413, 415:
			if len(w.intake.events) != 0 {
				t.Errorf("%d with %d published", rec.Code, len(w.intake.events))
			}
		default:
			b, _ := io.ReadAll(rec.Body)
			t.Errorf("status %d: %s", rec.Code, b)
		}
	})
}

// BenchmarkHandler is what deciding about a batch costs, from the request's bytes to
// its answer, without a disk.
func BenchmarkHandler(b *testing.B) {
	const batch = 500
	all := make([]string, batch)
	for i := range all {
		all[i] = ce("gw-eu-1", fmt.Sprintf("call-%06d", i), data)
	}
	body := "[" + strings.Join(all, ",") + "]"
	w := newWorld()
	b.ReportAllocs()
	for b.Loop() {
		if rec := w.post(Path, batched, body); rec.Code != 202 {
			b.Fatalf("%d %.300s", rec.Code, rec.Body)
		}
		w.intake.events = w.intake.events[:0]
	}
	b.ReportMetric(batch*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
