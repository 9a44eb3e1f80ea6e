package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"mete/internal/failpoint"
)

// Incoming is one message of a producer. The broker has checked that its credential
// may send the source.
type Incoming struct {
	Source string              // the only one its events may have
	Header map[string][]string // as sent
	Body   []byte
	Where  string // names the message; the same when it is routed again
}

// Gate decides about the events of a message: publishes the accepted ones, records
// refusals, and returns the answer for the producer. After an error the message is
// tried again later; so the same message may come twice, which must do no harm.
type Gate func(ctx context.Context, m Incoming) (answer []byte, err error)

// HeaderReply asks for an answer: a subject below [AnswerSubject] of the source. The
// broker itself answers a request as soon as the message is safe with it; what became
// of the events is told on this subject, once they are in the permanent stream.
const HeaderReply = "Mete-Reply"

// Router takes what NATS producers publish to intake.SOURCE through the gate and
// erases it. Fill in Streams and Gate. Several processes may run one each; they
// share the work.
//
// A crash before a message is erased routes it again: its accepted events are then
// twice in the permanent stream and counted once by the store; its refusals have the
// same receipts.
type Router struct {
	Streams *Streams
	Gate    Gate
	Wait    time.Duration // a message not routed by then is given to another; 0 = 30 s

	mu      sync.Mutex
	lastErr error
	lastAt  time.Time // of the last message routed
}

// Defaults of a [Router], and how it works.
const (
	// DefaultRouteWait bounds how long messages stand still when their router dies.
	DefaultRouteWait = 30 * time.Second

	routerName      = "router"
	routeAtOnce     = 32
	routeLater      = time.Second // after a failure
	routerHeartbeat = time.Second
	sweepEvery      = 10 * time.Second
	sweepMost       = 10_000 // messages of one sweep
)

// Fail-points.
const (
	beforeGate  failpoint.Point = "router.before-gate"
	beforeErase failpoint.Point = "router.before-erase" // published, not erased
	afterErase  failpoint.Point = "router.after-erase"
)

// Run routes until ctx ends.
func (r *Router) Run(ctx context.Context) error {
	consumer, err := r.Streams.js.CreateOrUpdateConsumer(ctx, intakeStream, js.ConsumerConfig{
		Durable:       routerName,
		Description:   "mete: takes producers' events through validation",
		AckPolicy:     js.AckExplicitPolicy,
		AckWait:       cmp.Or(r.Wait, DefaultRouteWait),
		MaxDeliver:    -1,
		MaxAckPending: 8 * routeAtOnce,
	})
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	messages, err := consumer.Messages(js.PullMaxMessages(2*routeAtOnce), js.PullHeartbeat(routerHeartbeat), js.PullExpiry(30*routerHeartbeat))
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	defer messages.Stop()
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { r.sweepNowAndThen(ctx, consumer) })
	places := make(chan struct{}, routeAtOnce)
	for {
		m, err := messages.Next(js.NextContext(ctx))
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, js.ErrNoHeartbeat):
			continue // the broker is away; the iterator asks again
		case err != nil:
			return fmt.Errorf("router: %w", err)
		}
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			r.handle(ctx, m)
		})
	}
}

func (r *Router) handle(ctx context.Context, m js.Msg) {
	meta, err := m.Metadata()
	if err == nil {
		err = r.route(ctx, meta.Sequence.Stream, m.Subject(), m.Headers(), m.Data())
	}
	switch {
	case err == nil:
		_ = m.Ack() // the message is gone; an ack that is lost changes nothing
	case ctx.Err() == nil:
		_ = m.NakWithDelay(routeLater) // else it comes again after Wait
	}
	r.routed(err)
}

func (r *Router) routed(err error) {
	r.mu.Lock()
	r.lastErr = err
	if err == nil {
		r.lastAt = time.Now()
	}
	r.mu.Unlock()
}

// sweepNowAndThen sweeps until ctx ends.
func (r *Router) sweepNowAndThen(ctx context.Context, consumer js.Consumer) {
	for {
		if err := r.sweep(ctx, consumer); err != nil && ctx.Err() == nil {
			r.routed(err)
		}
		if !sleep(ctx, sweepEvery) {
			return
		}
	}
}

// sweep routes what came back. A broker that is killed while it erases a message may
// have it again when it starts, though it was acknowledged and will not be given out any
// more. What lies at or before the acknowledgement floor is such a message: each was
// erased before it was acknowledged. It has been routed, and counts once all the same.
func (r *Router) sweep(ctx context.Context, consumer js.Consumer) error {
	given, err := consumer.Info(ctx)
	if err != nil {
		return nil // the broker is away; the next sweep asks again
	}
	stream, err := r.Streams.js.Stream(ctx, intakeStream)
	if err != nil {
		return nil
	}
	for range sweepMost {
		info, err := stream.Info(ctx)
		if err != nil || info.State.Msgs == 0 || info.State.FirstSeq > given.AckFloor.Stream {
			return nil
		}
		m, err := getMsg(ctx, stream, info.State.FirstSeq)
		if err != nil {
			return fmt.Errorf("read message %d of %s, which came back: %w", info.State.FirstSeq, intakeStream, err)
		}
		if err := r.route(ctx, m.Sequence, m.Subject, m.Header, m.Data); err != nil {
			return err
		}
		r.routed(nil)
	}
	return nil
}

// route takes one message through the gate, answers, erases.
func (r *Router) route(ctx context.Context, sequence uint64, subject string, header nats.Header, body []byte) error {
	where := fmt.Sprintf("%s %d", intakeStream, sequence)
	source, ok := untoken(strings.TrimPrefix(subject, intakePrefix))
	if !ok {
		source = "" // no credential may publish there; the gate refuses every event
	}
	if err := beforeGate.Hit(); err != nil {
		return err
	}
	answer, err := r.Gate(ctx, Incoming{Source: source, Header: header, Body: body, Where: where})
	if err != nil {
		return fmt.Errorf("route %s: %w", where, err)
	}
	if to := header.Get(HeaderReply); answer != nil && ok && strings.HasPrefix(to, AnswerSubject(source)+".") && !strings.ContainsAny(to, "*> \t\r\n") {
		if err := r.Streams.conn.Publish(to, answer); err != nil {
			return fmt.Errorf("answer %s: %w", where, err)
		}
	}
	if err := beforeErase.Hit(); err != nil {
		return err
	}
	if err := r.erase(ctx, sequence); err != nil {
		return fmt.Errorf("erase %s: %w", where, err)
	}
	return afterErase.Hit()
}

// erase overwrites the message on disk.
func (r *Router) erase(ctx context.Context, sequence uint64) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	request, err := json.Marshal(map[string]any{"seq": sequence})
	if err != nil {
		return err
	}
	answer, err := r.Streams.conn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.DELETE."+intakeStream, request)
	if err != nil {
		return err
	}
	var said struct {
		Success bool         `json:"success"`
		Error   *js.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &said); err != nil {
		return err
	}
	if said.Success {
		return nil
	}
	// Another router may have erased it.
	s, err := r.Streams.js.Stream(ctx, intakeStream)
	if err != nil {
		return err
	}
	if _, err := getMsg(ctx, s, sequence); errors.Is(err, js.ErrMsgNotFound) {
		return nil
	}
	if said.Error == nil {
		return errors.New("the broker says neither yes nor no")
	}
	return said.Error
}

// RouterHealth is how the router is doing.
type RouterHealth struct {
	Waiting  uint64    `json:"waiting"` // messages not routed yet
	OldestAt time.Time `json:"oldest_at,omitzero"`
	RoutedAt time.Time `json:"routed_at,omitzero"`
	Err      error     `json:"-"` // of the last message
}

// Health asks the broker what waits.
func (r *Router) Health(ctx context.Context) (RouterHealth, error) {
	info, err := r.Streams.info(ctx, intakeStream)
	if err != nil {
		return RouterHealth{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h := RouterHealth{Waiting: info.State.Msgs, RoutedAt: r.lastAt, Err: r.lastErr}
	if h.Waiting > 0 {
		h.OldestAt = info.State.FirstTime
	}
	return h, nil
}

// WaitRouted returns when every message that producers had published when it was
// called is routed, by whichever process routes, or with how many are not when ctx
// ends. What comes meanwhile is not waited for.
func (all *Streams) WaitRouted(ctx context.Context) error {
	var last, first, waiting uint64
	for known := false; ; known = true {
		info, err := all.info(ctx, intakeStream)
		if err == nil {
			if !known {
				last = info.State.LastSeq
			}
			first, waiting = info.State.FirstSeq, info.State.Msgs
			if waiting == 0 || first > last {
				return nil
			}
		} else if !known {
			return fmt.Errorf("wait for the router: %w", err)
		}
		if !sleep(ctx, idleLast/2) {
			return fmt.Errorf("messages of producers are not routed: %d wait, the first is %d of %d; is mete serve running, and does its router get on? %w",
				waiting, first, last, errors.Join(err, ctx.Err()))
		}
	}
}
