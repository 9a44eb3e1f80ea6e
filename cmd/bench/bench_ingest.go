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
)

// The load of benchIngest.
const (
	ingestEvents  = 100_000
	ingestBatch   = 500
	ingestSenders = 8

	publishEvents = 400_000
	publishBatch  = 2_000
	publishers    = 8
)

// benchIngest measures the way of events hop by hop, each hop beside its own limit:
// into the stream, from HTTP into the stream, and from the stream into either store.
func benchIngest(ctx context.Context, _ bool, emit func(Result)) error {
	dir, err := os.MkdirTemp("", "mete-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := publishing(ctx, filepath.Join(dir, "publish"), emit); err != nil {
		return err
	}
	if err := posting(ctx, filepath.Join(dir, "post"), emit); err != nil {
		return err
	}
	return draining(ctx, dir, emit)
}

// broker is the embedded broker with its stream.
type broker struct {
	server  *jetstream.Server
	streams *jetstream.Streams
	close   func()
}

func startBroker(ctx context.Context, dir string) (*broker, error) {
	srv, err := jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(dir, "stream")})
	if err != nil {
		return nil, err
	}
	conn, err := srv.Connect()
	if err != nil {
		srv.Shutdown()
		return nil, err
	}
	b := &broker{server: srv, close: func() { conn.Close(); srv.Shutdown() }}
	if b.streams, err = jetstream.Ensure(ctx, conn, jetstream.Settings{Facts: srv.Facts}); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// publish puts events n in [from, from+count) into the stream, several callers at once.
func (b *broker) publish(ctx context.Context, from, count int) (_ time.Duration, err error) {
	batches := make([][]metering.Event, 0, count/publishBatch+1)
	for at := 0; at < count; at += publishBatch {
		batches = append(batches, calls.events(from+at, min(publishBatch, count-at)))
	}
	in := &jetstream.Intake{Streams: b.streams}
	defer func() { err = errors.Join(err, in.Close(ctx)) }()
	began := time.Now()
	err = together(publishers, batches, func(events []metering.Event) error {
		_, err := in.Accept(ctx, events)
		return err
	})
	return time.Since(began), err
}

// publishing fills the stream with validated events. Its limit is a writer that makes
// payloads of the same size durable one by one; four partitions do it beside each other.
func publishing(ctx context.Context, dir string, emit func(Result)) error {
	b, err := startBroker(ctx, dir)
	if err != nil {
		return err
	}
	defer b.close()
	took, err := b.publish(ctx, 0, publishEvents)
	if err != nil {
		return err
	}
	last, err := b.streams.Last(ctx, 1)
	if err != nil {
		return err
	}
	messages, announced, err := b.streams.Totals(ctx, last)
	if err == nil && announced != publishEvents {
		err = fmt.Errorf("the stream announces %d events of %d", announced, publishEvents)
	}
	if err != nil {
		return err
	}
	disk, err := measureFsync(ctx, dir, jetstream.MaxPayload, fsyncRound)
	if err != nil {
		return err
	}
	each := float64(announced) / float64(messages)
	emit(Result{Name: "events, packed, durable in the stream", Value: publishEvents / took.Seconds(), Unit: "/s",
		Limit: Limit{fmt.Sprintf("durable 64 KiB writes, one by one, of %.0f events", each), disk.perSecond * each},
		Note:  fmt.Sprintf("%d callers, %s each, %d partitions", publishers, number(publishBatch), b.streams.Partitions())})
	return nil
}

// posting sends batches of 500 CloudEvents over HTTP to the whole way in (decode,
// guard, validate, durable publish). Its limit is the sum of what each part takes
// alone: HTTP with a handler that only reads, the gate without a stream, the stream
// without a gate.
func posting(ctx context.Context, dir string, emit func(Result)) error {
	bodies := make([][]byte, ingestEvents/ingestBatch)
	for i := range bodies {
		bodies[i] = calls.body(i*ingestBatch, ingestBatch)
	}
	b, err := startBroker(ctx, dir)
	if err != nil {
		return err
	}
	defer b.close()
	events, err := sqlite.Open(filepath.Join(dir, "events.db"))
	if err != nil {
		return err
	}
	defer events.Close()
	intake := &jetstream.Intake{Streams: b.streams}
	gate := &metering.Gate{Directory: loadDirectory, Intake: intake, Quarantine: events}
	whole, err := posted(ctx, gate, bodies)
	if err = errors.Join(err, intake.Close(ctx)); err != nil {
		return err
	}
	bare, err := answered(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
	}), bodies)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := together(ingestSenders, bodies, func(body []byte) error { return admit(ctx, gateAlone, body) }); err != nil {
		return err
	}
	gated := time.Since(began)
	stream, err := b.publish(ctx, ingestEvents, ingestEvents)
	if err != nil {
		return err
	}
	per := func(d time.Duration) float64 { return ingestEvents / d.Seconds() }
	emit(Result{Name: "events, HTTP to durable ack", Value: per(whole), Unit: "/s",
		Limit: Limit{"HTTP, gate and stream, one after the other", per(bare + gated + stream)},
		Note: fmt.Sprintf("%d senders on the same machine, batches of %d · alone: HTTP %s, gate %s, stream %s /s",
			ingestSenders, ingestBatch, number(per(bare)), number(per(gated)), number(per(stream)))})
	return nil
}

// gateAlone decides about events and publishes none.
var gateAlone = &metering.Gate{Directory: loadDirectory, Intake: nowhere{}}

type nowhere struct{}

func (nowhere) Accept(_ context.Context, events []metering.Event) ([]metering.Position, error) {
	return make([]metering.Position, len(events)), nil
}

func admit(ctx context.Context, gate *metering.Gate, body []byte) error {
	decoded, err := metering.DecodeJSON(body, metering.Limits{})
	if err != nil {
		return err
	}
	verdicts, err := gate.Admit(ctx, metering.Sender{Owner: "bench"}, decoded)
	if err != nil {
		return err
	}
	for _, v := range verdicts {
		if v.Status != metering.StatusAccepted {
			return fmt.Errorf("event %d was refused: %s", v.Index, v.Detail)
		}
	}
	return nil
}

// posted sends bodies to a gate behind HTTP.
func posted(ctx context.Context, gate *metering.Gate, bodies [][]byte) (time.Duration, error) {
	return answered(ctx, &httpin.Handler{Gate: gate, Owner: httpin.Tokens{"bench": httpin.HashToken("bench")}.Owner}, bodies)
}

func answered(ctx context.Context, h http.Handler, bodies [][]byte) (time.Duration, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	web := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go web.Serve(l)
	defer web.Close()
	url := "http://" + l.Addr().String() + httpin.Path
	began := time.Now()
	err = together(ingestSenders, bodies, func(body []byte) error {
		_, err := sendOne(ctx, url, body)
		return err
	})
	return time.Since(began), err
}

// errTooFast says that the intake's queue is full.
var errTooFast = errors.New("429: events come faster than they can be kept")

func sendOne(ctx context.Context, url string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/cloudevents-batch+json")
	req.Header.Set("Authorization", "Bearer bench")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode == http.StatusTooManyRequests {
		err = errTooFast
	}
	if err == nil && res.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("%s: %.300s", res.Status, answer)
	}
	return answer, err
}

// together hands each of the things to one of several callers and answers the first
// error, after which nothing more is begun.
func together[T any](callers int, things []T, fn func(T) error) error {
	next, errs := make(chan T), make(chan error, callers)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for thing := range next {
				if err := fn(thing); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	var first error
	for _, thing := range things {
		select {
		case next <- thing:
			continue
		case first = <-errs:
		}
		break
	}
	close(next)
	wg.Wait()
	select {
	case err := <-errs:
		first = errors.Join(first, err)
	default:
	}
	return first
}
