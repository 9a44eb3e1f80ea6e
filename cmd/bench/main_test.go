package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

var sample = []benchmark{
	{"one", "the first", func(_ context.Context, _ bool, emit func(Result)) error {
		emit(Result{Name: "events", Value: 1234567, Unit: "/s", Limit: Limit{"the disk", 2000000}, Allocs: 3.5, Note: "small ones"})
		return nil
	}},
	{"two", "the second", func(context.Context, bool, func(Result)) error { return errors.New("no engine") }},
}

func bench(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(context.Background(), args, sample, &out)
	return out.String(), err
}

func TestList(t *testing.T) {
	out, err := bench(t)
	if err != nil || !strings.Contains(out, "one          the first\n") || strings.Contains(out, "commit") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestText(t *testing.T) {
	out, err := bench(t, "one")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"cores", "commit ", "one: the first", "1,234,567 /s", "0.62 × the disk (2,000,000 /s) · 3.5 allocs/op · small ones"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestJSONIsOneObjectALine(t *testing.T) {
	out, err := bench(t, "one", "--json")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want the machine and one result\n%s", len(lines), out)
	}
	var m machine
	if err := json.Unmarshal([]byte(lines[0]), &m); err != nil || m.Cores == 0 || m.Go == "" || m.Commit == "" {
		t.Errorf("machine %+v, %v", m, err)
	}
	var r map[string]any
	if err := json.Unmarshal([]byte(lines[1]), &r); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"benchmark": "one", "name": "events", "value": 1234567.0, "unit": "/s", "limit_name": "the disk", "limit": 2000000.0, "allocs_per_op": 3.5} {
		if r[key] != want {
			t.Errorf("%s = %v, want %v", key, r[key], want)
		}
	}
}

func TestOneFailureDoesNotStopTheOthers(t *testing.T) {
	out, err := bench(t, "two", "one")
	if err == nil || err.Error() != "two: no engine" || !strings.Contains(out, "events") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestUnknownName(t *testing.T) {
	if out, err := bench(t, "three"); err == nil || !strings.Contains(err.Error(), `no benchmark "three"`) || out != "" {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestBenchmarksHaveTheirOwnNames(t *testing.T) {
	seen := map[string]bool{"all": true}
	for _, b := range benchmarks() {
		if seen[b.name] || b.what == "" || b.run == nil {
			t.Errorf("%q: taken, or without a line or a function", b.name)
		}
		seen[b.name] = true
	}
}

func TestMeasureFsync(t *testing.T) {
	m, err := measureFsync(context.Background(), t.TempDir(), fsyncBlock, 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if m.lowest <= 0 || m.lowest > m.perSecond || m.perSecond > m.highest || m.median > m.p99 {
		t.Errorf("%+v", m)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0.1234: "0.123", 12.34: "12.3", 999: "999.0", 1000: "1,000", 1234567.8: "1,234,568", -5: "-5.000"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %s, want %s", v, got, want)
		}
	}
}

func TestSimulateSmall(t *testing.T) {
	var got []Result
	p := past{months: 3, partners: 3, apps: 2, events: 4000}
	if err := p.run(t.Context(), func(r Result) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[1].Name != "simulate" || got[1].Value <= 0 || got[1].Ratio() <= 0 {
		t.Errorf("%+v", got)
	}
}
