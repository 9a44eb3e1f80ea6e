package httpin

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mete/metering"
	"mete/metering/sqlite"
	"mete/period"
)

type sourcesWorld struct {
	*Sources
	store *sqlite.Store
}

func newSourcesWorld(t *testing.T) sourcesWorld {
	t.Helper()
	store, err := sqlite.Open(filepath.Join(t.TempDir(), "events.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return sourcesWorld{&Sources{Events: newWorld().Handler, Facts: store}, store}
}

func (w sourcesWorld) post(path, body, key string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	return rec
}

const dayBody = `{"day":"2026-09-13","zone":"America/Chicago","totals":[
	{"app":"northwind-scheduler","type":"sale.paid","events":2,"amount":98.00,"currency":"USD"},
	{"app":"northwind-scheduler","type":"usage.api","events":1200}]}`

// TestTotals: a source says what it sent of a day. The same again is nothing, other
// content is a conflict that is kept, and nothing that is wrong is kept at all.
func TestTotals(t *testing.T) {
	w := newSourcesWorld(t)
	const path = "/v1/sources/gw-eu-1/totals"
	kept := func() (all []metering.DayTotals) {
		t.Helper()
		for d, err := range w.store.Totals(t.Context(), period.Date{}) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, d)
		}
		return all
	}
	for name, c := range map[string]struct {
		path, body, key string
		status          int
		says            string
	}{
		"no key":           {path, dayBody, "", 401, "Authorization"},
		"wrong key":        {path, dayBody, "guess", 401, ""},
		"another's source": {"/v1/sources/gw-us-1/totals", dayBody, euKey, 403, "belongs to another credential"},
		"nobody's source":  {"/v1/sources/gw-nobody/totals", dayBody, euKey, 403, ""},
		"unknown source":   {"/v1/sources/gw-xx-1/totals", dayBody, euKey, 404, "not registered"},
		"unknown path":     {"/v1/sources/gw-eu-1/sums", dayBody, euKey, 404, "SOURCE/totals"},
		"no source":        {"/v1/sources/totals", dayBody, euKey, 404, ""},
		"not JSON":         {path, "day=1", euKey, 400, "not one JSON object"},
		"two objects":      {path, dayBody + dayBody, euKey, 400, "not one JSON object"},
		"unknown field":    {path, `{"day":"2026-09-13","patient":"doe"}`, euKey, 400, "a field that is not taken"},
		"wrong type":       {path, `{"day":"2026-09-13","totals":[{"type":"usage.api","events":1.5}]}`, euKey, 400, "events: want another type"},
		"no day":           {path, `{"totals":[]}`, euKey, 422, "such as 2026-09-14"},
		"today":            {path, `{"day":"2026-09-14"}`, euKey, 422, "has not ended yet"},
		"yesterday there":  {path, `{"day":"2026-09-13","zone":"Pacific/Pago_Pago"}`, euKey, 201, ""},
		"no zone":          {path, `{"day":"2026-09-12","zone":"Mars/Olympus"}`, euKey, 422, "zone"},
		"negative":         {path, `{"day":"2026-09-13","totals":[{"type":"usage.api","events":-1}]}`, euKey, 422, "totals[0]: events are never negative"},
		"too fine":         {path, `{"day":"2026-09-13","totals":[{"type":"sale.paid","events":1,"amount":"1.005","currency":"USD"}]}`, euKey, 422, "no finer than its currency"},
		"no currency":      {path, `{"day":"2026-09-13","totals":[{"type":"sale.paid","events":1,"amount":1}]}`, euKey, 422, "needs its currency"},
		"twice":            {path, `{"day":"2026-09-13","totals":[{"type":"a","events":1},{"type":"a","events":1}]}`, euKey, 422, "stands twice"},
		"a person":         {path, `{"day":"2026-09-13","totals":[{"app":"jane@example.org","type":"a","events":1}]}`, euKey, 422, "looks like what must not be kept"},
		"too many":         {path, `{"day":"2026-09-13","totals":[` + strings.Repeat(`{"type":"a"},`, metering.MaxDayTotals) + `{"type":"b"}]}`, euKey, 422, "at most"},
		"too large":        {path, strings.Repeat(" ", maxSourceBody+1), euKey, 413, ""},
	} {
		before := len(kept())
		rec := w.post(c.path, c.body, c.key)
		if rec.Code != c.status || !strings.Contains(rec.Body.String(), c.says) {
			t.Errorf("%s: %d %s, want %d %q", name, rec.Code, rec.Body, c.status, c.says)
		}
		if strings.Contains(rec.Body.String(), "jane") || strings.Contains(rec.Body.String(), "doe") {
			t.Errorf("%s: the answer repeats %s", name, rec.Body)
		}
		if now := len(kept()); (now > before) != (c.status == 201) {
			t.Errorf("%s: %d kept before, %d after", name, before, now)
		}
	}

	w = newSourcesWorld(t)
	other := strings.Replace(dayBody, "1200", "1201", 1)
	for i, c := range []struct {
		body   string
		status int
		says   string
	}{
		{dayBody, 201, `"kept":"new"`}, {dayBody, 200, `"kept":"same"`}, {strings.ReplaceAll(dayBody, "98.00", `"98"`), 200, `"kept":"same"`},
		{other, 409, "were there first and count"}, {other, 200, `"kept":"same"`}, {dayBody, 200, `"kept":"same"`},
	} {
		if rec := w.post(path, c.body, euKey); rec.Code != c.status || !strings.Contains(rec.Body.String(), c.says) {
			t.Errorf("%d: %d %s, want %d %s", i, rec.Code, rec.Body, c.status, c.says)
		}
	}
	all := kept()
	if len(all) != 2 || all[0].Source != "gw-eu-1" || all[0].SentBy != "eu" || all[0].Zone != "America/Chicago" || !all[0].ReceivedAt.Equal(now) || len(all[0].Totals) != 2 || all[0].Totals[1].Events != 1200 {
		t.Errorf("kept %+v", all)
	}
	for n := 2; n < metering.MaxTotalConflicts; n++ {
		w.post(path, strings.Replace(dayBody, "1200", fmt.Sprint(2000+n), 1), euKey)
	}
	if rec := w.post(path, strings.Replace(dayBody, "1200", "9", 1), euKey); rec.Code != 429 {
		t.Errorf("one more: %d %s", rec.Code, rec.Body)
	}
}

// TestHeartbeat: a source says that it lives, now or lately.
func TestHeartbeat(t *testing.T) {
	for name, c := range map[string]struct {
		path, body, key string
		status          int
		at              time.Time // that is kept
	}{
		"now":           {"/v1/sources/gw-eu-1/heartbeat", "", euKey, 204, now},
		"empty object":  {"/v1/sources/gw-eu-1/heartbeat", "{}", euKey, 204, now},
		"lately":        {"/v1/sources/gw-eu-1/heartbeat", `{"at":"2026-09-13T23:00:00+02:00"}`, euKey, 204, time.Date(2026, 9, 13, 21, 0, 0, 0, time.UTC)},
		"in the future": {"/v1/sources/gw-eu-1/heartbeat", `{"at":"2026-09-14T12:06:00Z"}`, euKey, 422, time.Time{}},
		"long ago":      {"/v1/sources/gw-eu-1/heartbeat", `{"at":"2026-08-01T00:00:00Z"}`, euKey, 422, time.Time{}},
		"no time":       {"/v1/sources/gw-eu-1/heartbeat", `{"at":"noon"}`, euKey, 422, time.Time{}},
		"unknown field": {"/v1/sources/gw-eu-1/heartbeat", `{"on":"noon"}`, euKey, 400, time.Time{}},
		"another's":     {"/v1/sources/gw-us-1/heartbeat", "", euKey, 403, time.Time{}},
		"no key":        {"/v1/sources/gw-eu-1/heartbeat", "", "", 401, time.Time{}},
	} {
		w := newSourcesWorld(t)
		if rec := w.post(c.path, c.body, c.key); rec.Code != c.status {
			t.Errorf("%s: %d %s, want %d", name, rec.Code, rec.Body, c.status)
		}
		at, want := c.at, true
		if c.at.IsZero() {
			at, want = now, false
		}
		if got, err := w.store.Alive(t.Context(), "gw-eu-1", at, at.Add(time.Microsecond)); err != nil || got != want {
			t.Errorf("%s: alive %t, %v", name, got, err)
		}
	}
	w := newSourcesWorld(t)
	r := httptest.NewRequest(http.MethodGet, "/v1/sources/gw-eu-1/heartbeat", nil)
	rec := httptest.NewRecorder()
	if w.ServeHTTP(rec, r); rec.Code != 405 {
		t.Errorf("GET: %d", rec.Code)
	}
}
