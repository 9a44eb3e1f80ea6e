package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"mete/metering"
	"mete/metering/httpin"
	"mete/metering/jetstream"
	"mete/metering/sqlite"
	"mete/partner"
)

// The load of benchIngest.
const (
	ingestEvents  = 100_000
	ingestBatch   = 500
	ingestSenders = 8
)

// benchIngest sends batches of 500 CloudEvents over HTTP to the whole way in (decode,
// guard, validate, durable publish) while the worker stores them, until all are in
// the SQLite store. The limit of the whole is the slowest part alone: the store fed
// with the same events from memory.
func benchIngest(ctx context.Context, emit func(Result)) error {
	dir, err := os.MkdirTemp("", "mete-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bodies := make([][]byte, ingestEvents/ingestBatch)
	for i := range bodies {
		bodies[i] = ingestBody(i)
	}
	accepted, stored, err := ingestAll(ctx, dir, bodies)
	if err != nil {
		return err
	}
	alone, err := storeAlone(ctx, filepath.Join(dir, "alone.db"), bodies)
	if err != nil {
		return err
	}
	emit(Result{Name: "events, HTTP to durable ack", Value: accepted, Unit: "/s", Limit: Limit{"store alone", alone}, Note: "8 senders, batches of 500, one machine for sender and service"})
	emit(Result{Name: "events, HTTP to metered", Value: stored, Unit: "/s", Limit: Limit{"store alone", alone}})
	return nil
}

func ingestBody(batch int) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for i := range ingestBatch {
		if i > 0 {
			b.WriteByte(',')
		}
		n := batch*ingestBatch + i
		fmt.Fprintf(&b, `{"specversion":"1.0","id":"call-%08d","source":"bench","type":"usage.api","subject":"practice-%03d","time":"2026-09-%02dT10:00:00.%06dZ","data":{"app":"bench-app-%d","operation":"op-%d","class":"api","status":200,"latency_ms":%d,"bytes":%d}}`,
			n, n%400, 1+n%28, n%1_000_000, n%20, n%8, 5+n%300, 200+n%9000)
	}
	b.WriteByte(']')
	return b.Bytes()
}

func benchDirectory(context.Context) (*metering.Directory, error) {
	var apps []partner.App
	for i := range 20 {
		apps = append(apps, partner.App{ID: partner.AppID(fmt.Sprintf("bench-app-%d", i)), Partner: "bench"})
	}
	return metering.NewDirectory(apps, nil, []metering.Source{{Name: "bench", Owner: "bench"}}), nil
}

func ingestAll(ctx context.Context, dir string, bodies [][]byte) (acceptedRate, storedRate float64, err error) {
	srv, err := jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(dir, "stream")})
	if err != nil {
		return 0, 0, err
	}
	defer srv.Shutdown()
	conn, err := srv.Connect()
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	streams, err := jetstream.Ensure(ctx, conn, jetstream.Settings{Facts: srv.Facts})
	if err != nil {
		return 0, 0, err
	}
	events, err := sqlite.Open(filepath.Join(dir, "events.db"))
	if err != nil {
		return 0, 0, err
	}
	defer events.Close()
	if _, err := streams.Attach(ctx, events); err != nil {
		return 0, 0, err
	}
	intake := &jetstream.Intake{Streams: streams}
	gate := &httpin.Gate{Directory: benchDirectory, Intake: intake, Quarantine: events}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	web := &http.Server{Handler: &httpin.Handler{Gate: gate, Owner: httpin.Tokens{"bench": httpin.HashToken("bench")}.Owner}, ReadHeaderTimeout: time.Minute}
	go web.Serve(l)
	defer web.Close()
	work, stop := context.WithCancel(ctx)
	worker := &jetstream.Worker{Streams: streams, Store: events}
	failed := make(chan error, 1)
	go func() { failed <- worker.Run(work) }()
	began := time.Now()
	if err := sendAll(ctx, "http://"+l.Addr().String()+httpin.Path, bodies); err != nil {
		stop()
		return 0, 0, err
	}
	accepted := time.Since(began)
	err = worker.WaitDrained(ctx, nil)
	stored := time.Since(began)
	stop()
	err = errors.Join(err, <-failed, intake.Close(ctx))
	cutoff, cutErr := events.Cutoff(ctx)
	counts, countErr := events.Counts(ctx, cutoff)
	if err = errors.Join(err, cutErr, countErr); err == nil && counts.Stored != ingestEvents {
		err = fmt.Errorf("stored %d events of %d", counts.Stored, ingestEvents)
	}
	return ingestEvents / accepted.Seconds(), ingestEvents / stored.Seconds(), err
}

func sendAll(ctx context.Context, url string, bodies [][]byte) error {
	next := make(chan []byte)
	errs := make(chan error, ingestSenders)
	var wg sync.WaitGroup
	for range ingestSenders {
		wg.Go(func() {
			for body := range next {
				if err := sendOne(ctx, url, body); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for _, b := range bodies {
		next <- b
	}
	close(next)
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func sendOne(ctx context.Context, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/cloudevents-batch+json")
	req.Header.Set("Authorization", "Bearer bench")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("%s: %.300s", res.Status, answer)
	}
	return err
}

// storeAlone feeds a fresh store with the same events, decoded already.
func storeAlone(ctx context.Context, file string, bodies [][]byte) (float64, error) {
	s, err := sqlite.Open(file)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	incarnation, err := s.Attach(ctx, "alone", 1)
	if err != nil {
		return 0, err
	}
	at := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	var blocks []metering.Block
	for i, body := range bodies {
		decoded, err := metering.DecodeJSON(body, metering.Limits{})
		if err != nil {
			return 0, err
		}
		m := metering.Message{Sequence: uint64(i + 1), AcceptedAt: at, Announced: len(decoded)}
		for n, d := range decoded {
			m.Events = append(m.Events, metering.Accepted{Event: d.Event, Key: d.Event.Key(), Hash: metering.ContentHash(d.Event), AcceptedAt: at,
				Position: metering.Position{Incarnation: incarnation, Sequence: m.Sequence, Index: n}})
		}
		if len(blocks) == 0 || len(blocks[len(blocks)-1].Messages) == 10 {
			blocks = append(blocks, metering.Block{Incarnation: incarnation, First: m.Sequence})
		}
		b := &blocks[len(blocks)-1]
		b.Messages, b.Last = append(b.Messages, m), m.Sequence
	}
	began := time.Now()
	for _, b := range blocks {
		if _, err := s.Append(ctx, b); err != nil {
			return 0, err
		}
	}
	return ingestEvents / time.Since(began).Seconds(), nil
}
