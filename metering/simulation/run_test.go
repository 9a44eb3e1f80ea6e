package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mete/internal/chtest"
	"mete/metering"
	"mete/metering/jetstream"
)

// run is one simulation: brokers, a store, two workers (on SQLite one, and another
// while the first is paused), a router, and senders.
type run struct {
	t       *testing.T
	ctx     context.Context
	seed    uint64
	rand    *rand.Rand // of the faults
	engine  string
	nodes   []*node
	ch      *chtest.Engine
	dir     string
	where   string // the store
	workers [2]*slot
	router  *slot
	log     *senderLog
	j       *joined
	sum     *summary
	least   int // events, after which senders take their time

	older string // a copy of the broker's files
	left  string // what the store's check may name in rows that count nowhere

	mu    sync.Mutex
	store store // opened when it is asked
}

const (
	leaseTTL     = 1200 * time.Millisecond
	blockEvents  = 300
	happenWithin = 90 * time.Second // a fault, a hand-over, the end: nothing waits longer
	runWithin    = 8 * time.Minute
)

// begin starts everything.
func begin(t *testing.T, sum *summary, size size, seed uint64, engine string, nodes int) *run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runWithin)
	t.Cleanup(cancel)
	r := &run{t: t, ctx: ctx, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), engine: engine, dir: t.TempDir(), log: newLog(), sum: sum, least: size.least}
	t.Cleanup(r.closeStore)
	r.where = filepath.Join(r.dir, "events.db")
	if engine == onClickHouse {
		r.ch = chtest.Start(t)
		dsn, _, err := r.ch.Create()
		if err != nil {
			t.Fatal(err)
		}
		r.where = dsn
	}
	r.nodes = newNodes(t, nodes)
	var err error
	if r.j, err = join(ctx, addresses(r.nodes), "simulation"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.open(); err != nil { // while nobody fills it
		t.Fatal(err)
	}
	t.Cleanup(r.j.close)
	pauses := rand.New(rand.NewPCG(seed, 2))
	var turn sync.Mutex
	pause := func() time.Duration {
		turn.Lock()
		defer turn.Unlock()
		return time.Duration(pauses.Int64N(int64(2 * leaseTTL)))
	}
	for i := range r.workers {
		r.workers[i] = r.slot("worker", pause)
	}
	r.router = r.slot("router", pause)
	for _, s := range []*slot{r.workers[0], r.router} {
		if err := s.up(""); err != nil {
			t.Fatal(err)
		}
	}
	if engine == onClickHouse {
		if err := r.workers[1].up(""); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *run) slot(kind string, pause func() time.Duration) *slot {
	s := &slot{dir: r.dir, kind: kind, pause: pause, gone: r.gone, options: childOptions{
		Brokers: addresses(r.nodes), Engine: r.engine, Store: r.where, Quarantine: filepath.Join(r.dir, "refused.db"), BlockEvents: blockEvents, TTL: leaseTTL,
	}}
	r.t.Cleanup(s.down)
	return s
}

// gone looks at a child that has ended. One that ended by itself said why, and the
// slot starts it again; what cannot be mended by that must never happen.
func (r *run) gone(p *process, byItself bool) {
	r.sum.hitsOf(p)
	if !byItself || p.cmd.ProcessState.Success() {
		return
	}
	said := strings.TrimSpace(p.stderr.String())
	r.sum.gaveUp(said)
	for _, never := range []error{metering.ErrGap, metering.ErrIncarnation} {
		if strings.Contains(said, never.Error()) {
			r.t.Errorf("%s stopped for good: %s", p.name, said)
		}
	}
	if strings.Contains(said, "panic:") || strings.Contains(said, "DATA RACE") {
		r.t.Errorf("%s: %s", p.name, said)
	}
}

// open is the store, for questions.
func (r *run) open() (store, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.store == nil {
		s, err := openStore(r.ctx, r.engine, r.where)
		if err != nil {
			return nil, err
		}
		r.store = s
	}
	return r.store, nil
}

func (r *run) closeStore() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.store != nil {
		_ = r.store.Close() // nothing was written
		r.store = nil
	}
}

// positions are where the store is, nil while it cannot be asked.
func (r *run) positions() []uint64 {
	s, err := r.open()
	if err != nil {
		return nil
	}
	at := make([]uint64, partitions)
	for p := range at {
		if at[p], err = s.Position(r.ctx, p); err != nil {
			return nil
		}
	}
	return at
}

// until waits for what must come. It fails the test if it does not.
func (r *run) until(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(happenWithin); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) || r.ctx.Err() != nil {
			r.t.Fatalf("%s: it did not happen within %s; %s", what, happenWithin, r.state())
		}
	}
}

// state is what a person wants to know of a run that hangs.
func (r *run) state() string {
	text := fmt.Sprintf("stored %v of", r.positions())
	for p := range partitions {
		s, err := r.j.streams.State(r.ctx, p)
		if err != nil {
			text += fmt.Sprintf(" (%v)", err)
			break
		}
		text += fmt.Sprintf(" %d", s.Last)
	}
	for _, s := range []*slot{r.workers[0], r.workers[1], r.router} {
		if p := s.now(); p != nil {
			text += fmt.Sprintf("; %s holds %v", p.name, p.holding())
			if p.stopped() {
				text += ", paused"
			}
		}
	}
	return text
}

func (r *run) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// upTo draws a duration.
func (r *run) upTo(most time.Duration) time.Duration {
	return time.Duration(r.rand.Int64N(int64(most)))
}

// send lets senders send until stop is called: two that publish by themselves, packing
// differently, and one that sends over NATS through the router.
func (r *run) send() (stop func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	var all sync.WaitGroup
	var intakes []*jetstream.Intake
	for n := range 3 {
		random := rand.New(rand.NewPCG(r.seed, uint64(10+n)))
		var deliver func(context.Context, []delivery) error
		if n == 2 {
			deliver = r.overNATS(n)
		} else {
			in := &jetstream.Intake{Streams: r.j.streams, InFlight: 1 + 3*n}
			intakes, deliver = append(intakes, in), r.direct(in)
		}
		all.Go(func() {
			for ctx.Err() == nil {
				b := r.log.batch(random, sources[random.IntN(len(sources))], 25)
				if err := r.deliver(ctx, random, b, deliver); err != nil {
					r.t.Errorf("sender %d: %v", n, err)
					return
				}
				pause := time.Duration(20+random.IntN(100)) * time.Millisecond
				if r.log.events() > r.least { // a fault takes long: keep it company, and no more
					pause *= 6
				}
				sleep(ctx, pause)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
		for _, in := range intakes { // what nobody waits for any more may still be on its way
			within, cancel := context.WithTimeout(r.ctx, happenWithin)
			if err := in.Close(within); err != nil {
				r.t.Error(err)
			}
			cancel()
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// errNoAnswer says that the sender does not know what became of its events.
var errNoAnswer = errors.New("no answer")

// deliver sends a batch until it is acknowledged, or gives it up.
func (r *run) deliver(ctx context.Context, random *rand.Rand, b []delivery, try func(context.Context, []delivery) error) error {
	for {
		r.log.trying(b)
		err := try(ctx, b)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, errNoAnswer):
			return err
		case ctx.Err() != nil || random.IntN(3) == 0:
			r.log.gaveUp(b)
			return nil
		}
		sleep(ctx, time.Duration(20+random.IntN(100))*time.Millisecond)
	}
}

// direct publishes with an intake of its own.
func (r *run) direct(in *jetstream.Intake) func(context.Context, []delivery) error {
	return func(ctx context.Context, b []delivery) error {
		within, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if _, err := in.Accept(within, events(b)); err != nil {
			return fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		r.log.answered(b)
		return nil
	}
}

// overNATS sends to the router and waits for its answer.
func (r *run) overNATS(number int) func(context.Context, []delivery) error {
	api, err := natsjs.New(r.j.conn)
	if err != nil {
		r.t.Fatal(err)
	}
	tries := 0
	return func(ctx context.Context, b []delivery) error {
		source := b[0].of.source
		tries++
		reply := fmt.Sprintf("%s.w%d.t%d", jetstream.AnswerSubject(source), number, tries)
		answers, err := r.j.conn.SubscribeSync(reply)
		if err != nil {
			return fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		defer func() { _ = answers.Unsubscribe() }() // fails only on a closed connection
		once, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		m := &nats.Msg{Subject: jetstream.IntakeSubject(source), Data: body(b), Header: nats.Header{jetstream.HeaderReply: {reply}}}
		if _, err := api.PublishMsg(once, m); err != nil {
			return fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		r.log.taken(b)
		answer, err := answers.NextMsgWithContext(once)
		if err != nil {
			return fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		return r.log.judge(b, answer.Data)
	}
}

// settle waits until everything that was sent is routed and stored, and ends workers
// and router in good order.
func (r *run) settle() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, happenWithin)
	defer cancel()
	if err := errors.Join(r.j.conn.FlushWithContext(ctx), r.j.streams.WaitRouted(ctx)); err != nil {
		r.t.Fatalf("%v; %s", err, r.state())
	}
	r.finish(r.router) // before the last look: it publishes
	for at := []uint64(nil); !r.drained(&at); {
		was := slices.Clone(at)
		r.until("the store goes on", func() bool { return r.drained(&at) || !slices.Equal(at, was) })
	}
	r.finish(r.workers[0])
	r.finish(r.workers[1])
}

// finish ends a child in good order.
func (r *run) finish(s *slot) {
	r.t.Helper()
	if err := errors.Join(s.finish(happenWithin), s.failed); err != nil {
		r.t.Error(err)
	}
}

// drained reports whether the store has all of the stream, and where it is.
func (r *run) drained(at *[]uint64) bool {
	*at = r.positions()
	for p, stored := range *at {
		s, err := r.j.streams.State(r.ctx, p)
		if err != nil || stored != s.Last {
			return false
		}
	}
	return *at != nil
}

// refused starts a worker that must refuse the stream by name, and change nothing.
func (r *run) refused(what string, says ...string) {
	r.t.Helper()
	counts := func() metering.Counts {
		s, err := r.open()
		r.must(err)
		c, err := s.Counts(r.ctx, nil)
		r.must(err)
		return c
	}
	before := counts()
	p, err := launch(r.dir, "worker", r.workers[0].options, "")
	r.must(err)
	defer p.kill()
	select {
	case <-p.ended:
	case <-time.After(happenWithin):
		r.t.Errorf("a worker on %s goes on", what)
		return
	}
	for _, s := range append(says, metering.ErrIncarnation.Error()) {
		if p.cmd.ProcessState.Success() || !strings.Contains(p.stderr.String(), s) {
			r.t.Errorf("a worker on %s ended with %s and does not say %q: %s", what, p.cmd.ProcessState, s, p.stderr.String())
		}
	}
	if now := counts(); now != before {
		r.t.Errorf("on %s the store went from %+v to %+v", what, before, now)
	}
	r.sum.fault("refused: " + what)
}

// isOlder reports whether the stream ends before the store. A copy that was taken just
// before the last event has all there is.
func (r *run) isOlder() (older bool) {
	r.t.Helper()
	for p, stored := range r.positions() {
		r.until("the broker answers", func() bool {
			s, err := r.j.streams.State(r.ctx, p)
			older = older || err == nil && s.Last < stored
			return err == nil
		})
	}
	return older
}

// otherStreams puts under the filled store a stream that is not the one it was filled
// from: the broker's older copy, and one made anew.
func (r *run) otherStreams() {
	r.t.Helper()
	b := r.nodes[0]
	if r.older != "" {
		b.kill()
		r.must(errors.Join(os.RemoveAll(b.dir), os.CopyFS(b.dir, os.DirFS(r.older)), b.start(), b.ready()))
		if r.isOlder() {
			r.refused("an older copy of the stream", "the stream ends at")
		}
	}
	api, err := natsjs.New(r.j.conn)
	r.must(err)
	r.until("a partition is deleted", func() bool {
		ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
		defer cancel()
		err := api.DeleteStream(ctx, fmt.Sprintf("USAGE_%d", r.seed%partitions))
		return err == nil || errors.Is(err, natsjs.ErrStreamNotFound)
	})
	fresh, err := join(r.ctx, addresses(r.nodes), "simulation")
	r.must(err)
	defer fresh.close()
	in := &jetstream.Intake{Streams: fresh.streams}
	random := rand.New(rand.NewPCG(r.seed, 3))
	for range 5 {
		_, err := in.Accept(r.ctx, events(r.log.batch(random, sources[0], 25)))
		r.must(err)
	}
	r.refused("a stream made anew", "filled from stream")
}
