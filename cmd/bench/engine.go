package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"mete/internal/chtest"
)

// engine is a private ClickHouse engine with one empty database, in a process of its
// own. It answers one question at a time.
type engine struct {
	*chtest.Engine
	database string
	client   http.Client
}

func startEngine() (*engine, error) {
	e, err := chtest.Open()
	if errors.Is(err, chtest.ErrMissing) {
		return nil, fmt.Errorf("ClickHouse: %w; %s, and run again", err, chtest.Remedy())
	}
	if err != nil {
		return nil, fmt.Errorf("ClickHouse: %w", err)
	}
	got, err := engineOf(e)
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return got, nil
}

// engineOf is the engine with a database that is empty and its own.
func engineOf(e *chtest.Engine) (*engine, error) {
	dsn, _, err := e.Create()
	if err != nil {
		return nil, fmt.Errorf("ClickHouse: %w", err)
	}
	at, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	return &engine{Engine: e, database: strings.TrimPrefix(at.Path, "/")}, nil
}

// answer is what came of a question, and what it cost.
type answer struct {
	text string
	took time.Duration
	rows float64 // read from storage
}

// ask sends one statement over HTTP, as any client does.
func (e *engine) ask(ctx context.Context, query string) (answer, error) {
	at := url.URL{Scheme: "http", Host: e.Address(), RawQuery: url.Values{"database": {e.database}}.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), strings.NewReader(query))
	if err != nil {
		return answer{}, err
	}
	began := time.Now()
	res, err := e.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	took := time.Since(began)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%.200s: %s", query, text)
	}
	if err != nil {
		return answer{}, err
	}
	var summary struct {
		Rows float64 `json:"read_rows,string"`
	}
	if err := json.Unmarshal([]byte(res.Header.Get("X-ClickHouse-Summary")), &summary); err != nil {
		return answer{}, fmt.Errorf("summary of %.200s: %w", query, err)
	}
	return answer{strings.TrimSpace(string(text)), took, summary.Rows}, nil
}

// do sends statements whose answers say nothing.
func (e *engine) do(ctx context.Context, queries ...string) error {
	for _, q := range queries {
		if _, err := e.ask(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// number asks for one number.
func (e *engine) number(ctx context.Context, query string) (float64, error) {
	a, err := e.ask(ctx, query)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(a.text, 64)
}

// peak is how many MB the engine's process held at most while fn ran, beyond what it
// held before. The engine gives back what it has freed first.
func (e *engine) peak(ctx context.Context, fn func() error) (float64, error) {
	if err := e.do(ctx, "SYSTEM JEMALLOC PURGE"); err != nil {
		return 0, err
	}
	before, err := memoryOf(e.Pid(), "VmRSS")
	if err != nil {
		return 0, err
	}
	if err := resetPeak(e.Pid()); err != nil {
		return 0, err
	}
	if err := fn(); err != nil {
		return 0, err
	}
	most, err := memoryOf(e.Pid(), "VmHWM")
	return max(0, most-before), err
}

// memoryOf is a figure of /proc/PID/status, in MB.
func memoryOf(pid int, name string) (float64, error) {
	text := procValue(filepath.Join("/proc", strconv.Itoa(pid), "status"), name)
	kib, err := strconv.ParseFloat(strings.TrimSuffix(text, " kB"), 64)
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %s is %q", pid, name, text)
	}
	return kib * 1024 / 1e6, nil
}

// resetPeak makes VmHWM begin anew.
func resetPeak(pid int) error {
	return os.WriteFile(filepath.Join("/proc", strconv.Itoa(pid), "clear_refs"), []byte("5"), 0)
}

// cpuOf is how long a process has had a core, to a hundredth of a second.
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("time of process %d: %q", pid, text)
	}
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("time of process %d: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100), nil
}
