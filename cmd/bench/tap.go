package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// tap stands between the metering store and the engine, so that a benchmark sees what
// the store really sends: a query that is measured apart is that of the store, and an
// INSERT that is sent again is byte for byte the same.
type tap struct {
	engine *engine
	web    *http.Server
	addr   net.Addr

	mu   sync.Mutex
	keep func(*passed) bool // which requests are kept with their bodies
	all  []passed
}

// passed is one request that went to the engine and was answered.
type passed struct {
	settings url.Values // of the URL, without the query
	query    string
	body     []byte // of an INSERT
	took     time.Duration
	failed   bool
}

// insert reports whether the request brings rows.
func (p *passed) insert() bool { return len(p.body) > 0 }

// startTap opens a tap that keeps what keep says.
func startTap(e *engine, keep func(*passed) bool) (*tap, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &tap{engine: e, addr: l.Addr(), keep: keep}
	t.web = &http.Server{Handler: t, ReadHeaderTimeout: time.Minute}
	go t.web.Serve(l)
	return t, nil
}

func (t *tap) close() error { return t.web.Close() }

// dsn is the engine's database by way of the tap.
func (t *tap) dsn() string {
	return (&url.URL{Scheme: "http", Host: t.addr.String(), Path: "/" + t.engine.database}).String()
}

// taken gives what was kept since it was called last.
func (t *tap) taken() []passed {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.all
	t.all = nil
	return all
}

func (t *tap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p := passed{settings: r.URL.Query()}
	if p.query = p.settings.Get("query"); p.query != "" {
		p.body = body
	} else {
		p.query = string(body)
	}
	began := time.Now()
	res, answer, err := t.engine.pass(r.Context(), r.URL.RawQuery, body)
	p.took = time.Since(began)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	p.failed = res.StatusCode != http.StatusOK
	t.mu.Lock()
	if t.keep(&p) {
		t.all = append(t.all, p)
	}
	t.mu.Unlock()
	for _, name := range []string{"X-ClickHouse-Summary", "X-ClickHouse-Exception-Code"} {
		if v := res.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.WriteHeader(res.StatusCode)
	_, _ = w.Write(answer)
}

// pass sends a request on as it came.
func (e *engine) pass(ctx context.Context, query string, body []byte) (*http.Response, []byte, error) {
	at := url.URL{Scheme: "http", Host: e.Address(), RawQuery: query}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	res, err := e.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return res, answer, err
}

// again sends a request that was kept to the engine once more, into another database,
// and tells how long it took.
func (p *passed) again(ctx context.Context, e *engine) (time.Duration, error) {
	v := url.Values{}
	for name, values := range p.settings {
		v[name] = values
	}
	v.Set("database", e.database)
	body := p.body
	if !p.insert() {
		body = []byte(p.query)
	}
	began := time.Now()
	res, text, err := e.pass(ctx, v.Encode(), body)
	took := time.Since(began)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%.200s, sent again: %s", p.query, text)
	}
	return took, err
}

// asks reports whether the request is a question to the table.
func (p *passed) asks(table string) bool {
	return !p.insert() && strings.Contains(p.query, "FROM "+table+" WHERE")
}
