package httpin

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mete/metering"
)

// TestOpenMeter holds the two paths against what clients of OpenMeter's version 1 and
// version 3 send and expect.
func TestOpenMeter(t *testing.T) {
	// As their SDK for JavaScript writes it: always a batch, in this order.
	sdk := func(id string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"gw-eu-1","type":"usage.api","subject":"lakeside-clinic","time":"2026-09-14T10:00:00.000Z","data":%s}`, id, data)
	}
	one, two := sdk("6f2c1f0a-9b57-4f6e-8d9c-0a8a3f5e1d01"), sdk("6f2c1f0a-9b57-4f6e-8d9c-0a8a3f5e1d02")
	for _, c := range []struct {
		name, contentType, body string
		events                  int
	}{
		{"an event", structured, one, 1},
		{"an event as JSON", "application/json", one, 1},
		{"an array as JSON", "application/json", "[" + one + "," + two + "]", 2},
		{"a batch", batched, "[" + one + "," + two + "]", 2},
		// Theirs of version 1 compares exactly and answers 400 to parameters.
		{"with a parameter", structured + "; charset=utf-8", one, 1},
		{"a batch with a parameter", batched + ";charset=UTF-8", "[" + one + "]", 1},
		{"JSON with a parameter", "application/json; charset=utf-8", "[" + one + "]", 1},
		{"an empty batch", batched, "[]", 0},
		{"time is null", structured, strings.Replace(one, `"2026-09-14T10:00:00.000Z"`, "null", 1), 1},
		{"no time, no subject", structured, `{"specversion":"1.0","id":"1","source":"gw-eu-1","type":"usage.api","data":` + data + `}`, 1},
		{"their optional attributes", structured, strings.Replace(one, `"data"`, `"datacontenttype":"application/json","dataschema":"https://example.com/s","data"`, 1), 1},
	} {
		for path, status := range map[string]int{OpenMeterPath: 204, OpenMeterV3Path: 202} {
			w := newWorld()
			for range 2 { // sent again it is a duplicate, which they are not told of
				rec := w.post(path, c.contentType, c.body)
				if rec.Code != status || rec.Body.Len() != 0 || rec.Header().Get("Content-Type") != "" {
					t.Errorf("%s, %s: %d %q %q, want %d without a body", path, c.name, rec.Code, rec.Body, rec.Header().Get("Content-Type"), status)
				}
			}
			if len(w.intake.events) != 2*c.events {
				t.Errorf("%s, %s: %d published, want %d", path, c.name, len(w.intake.events), 2*c.events)
				continue
			}
			for i := range c.events {
				e, again := w.intake.events[i], w.intake.events[c.events+i]
				if e.Key() != again.Key() || metering.ContentHash(e) != metering.ContentHash(again) {
					t.Errorf("%s, %s: sent again it is another event: %+v, %+v", path, c.name, e, again)
				}
				if absent := strings.Contains(c.name, "time"); e.TimeAbsent != absent || absent && !e.Time.Equal(now) {
					t.Errorf("%s, %s: %+v", path, c.name, e)
				}
			}
		}
	}

	unknown := strings.Replace(two, "northwind-scheduler", "nobody", 1)
	for _, c := range []struct {
		name, contentType, body string
		header                  []string
		intake                  error
		status                  int
		published               int
	}{
		{"some refused", batched, "[" + one + "," + unknown + "]", nil, nil, 422, 1},
		{"all refused", batched, "[" + unknown + "]", nil, nil, 422, 0},
		{"their own fields of data", structured, strings.Replace(one, data, `{"tokens":"17","model":"x"}`, 1), nil, nil, 422, 0},
		{"no JSON", structured, "{", nil, nil, 400, 0},
		{"nothing", "application/json", "", nil, nil, 400, 0},
		{"a text", "application/json", `"x"`, nil, nil, 400, 0},
		{"no key", structured, one, []string{"Authorization", ""}, nil, 401, 0},
		{"too many", batched, "[" + strings.Repeat(one+",", metering.MaxBatch) + one + "]", nil, nil, 413, 0},
		{"another type", "text/plain", one, nil, nil, 415, 0},
		{"too fast", structured, one, nil, busy{true, time.Second}, 429, 0},
		{"not now", structured, one, nil, errors.New("no broker"), 503, 0},
	} {
		for _, path := range []string{OpenMeterPath, OpenMeterV3Path} {
			w := newWorld()
			w.intake.err = c.intake
			rec := w.post(path, c.contentType, c.body, c.header...)
			var p Problem
			if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || rec.Code != c.status || rec.Header().Get("Content-Type") != problemType {
				t.Errorf("%s, %s: %d %s %s %v, want %d", path, c.name, rec.Code, rec.Header(), rec.Body, err, c.status)
			}
			if p.Status != c.status || p.Type == "" || p.Title == "" || p.Detail == "" {
				t.Errorf("%s, %s: problem %+v", path, c.name, p)
			}
			if c.status >= 429 && rec.Header().Get("Retry-After") == "" {
				t.Errorf("%s, %s: no Retry-After", path, c.name)
			}
			if accepted, told := count(p.Events); c.status == 422 && (accepted != c.published || told == 0) || len(w.intake.events) != c.published {
				t.Errorf("%s, %s: %d published, told %+v", path, c.name, len(w.intake.events), p.Events)
			}
		}
	}
}

func count(all []metering.Verdict) (accepted, told int) {
	for _, v := range all {
		if v.Status == metering.StatusAccepted {
			accepted++
		}
	}
	return accepted, len(all)
}
