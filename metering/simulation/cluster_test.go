package simulation

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"mete/internal/chtest"
	"mete/metering"
	"mete/metering/jetstream"
)

// clusterSize is how much TestClusterLosesANode does.
type clusterSize struct {
	events, batch int
	patience      time.Duration // of all of it
}

func clusterSizeOf() clusterSize {
	if os.Getenv("METE_SIM") == "long" {
		return clusterSize{events: 1_000_000, batch: 1000, patience: 60 * time.Minute}
	}
	return clusterSize{events: 20_000, batch: 200, patience: 5 * time.Minute}
}

// ledger is the senders' record of numbered events: which were sent and which
// acknowledged. The content of an event follows from its number.
type ledger struct {
	sent, acked []atomic.Bool
	tries       atomic.Int64 // deliveries that may lie in the stream
}

func numbered(i int) metering.Event {
	quantity := decimal.New(int64(i%1000+1), -int32(i%4))
	return metering.Event{ID: "call-" + strconv.Itoa(i), Source: sources[i%len(sources)], Type: metering.UsageAPI, Time: day.Add(time.Duration(i) * time.Millisecond),
		Data: metering.Data{App: "scheduler", Operation: "read", Class: metering.API, Status: 200, Quantity: &quantity}}
}

// TestClusterLosesANode sends events to three brokers with three replicas each, from
// which two workers fill ClickHouse. One broker is killed under load and comes back,
// then another; so does a worker. The long version is a million events:
//
//	METE_SIM=long go test -count=1 -run TestClusterLosesANode -timeout 90m -v ./metering/simulation
func TestClusterLosesANode(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for a while")
	}
	size := clusterSizeOf()
	ctx, cancel := context.WithTimeout(t.Context(), size.patience)
	defer cancel()
	dsn := chtest.New(t)
	nodes := newNodes(t, 3)
	j, err := join(ctx, addresses(nodes), "cluster")
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	dir := t.TempDir()
	var ends sync.Map
	var workers [2]*slot
	for i := range workers {
		workers[i] = &slot{dir: dir, kind: "worker", pause: func() time.Duration { return leaseTTL }, gone: func(p *process, byItself bool) {
			if byItself && !p.cmd.ProcessState.Success() {
				ends.Store(p.name, strings.TrimSpace(p.stderr.String()))
			}
		}, options: childOptions{Brokers: addresses(nodes), Engine: onClickHouse, Store: dsn, BlockEvents: 20_000, TTL: 3 * time.Second}}
		t.Cleanup(workers[i].down)
		if err := workers[i].up(""); err != nil {
			t.Fatal(err)
		}
	}

	book := &ledger{sent: make([]atomic.Bool, size.events), acked: make([]atomic.Bool, size.events)}
	began := time.Now()
	var next, unsure atomic.Int64
	in := &jetstream.Intake{Streams: j.streams}
	var senders sync.WaitGroup
	const atOnce = 4
	for range atOnce {
		senders.Go(func() {
			for ctx.Err() == nil {
				to := int(next.Add(int64(size.batch)))
				from := to - size.batch
				if from >= size.events {
					return
				}
				unsure.Add(int64(book.deliver(ctx, in, from, min(to, size.events))))
			}
		})
	}
	done := make(chan struct{})
	go func() { senders.Wait(); close(done) }()
	// sent waits until so many in a hundred are on their way.
	sent := func(percent int) {
		for int(next.Load()) < size.events/100*percent {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}
	random := rand.New(rand.NewPCG(uint64(began.UnixNano()), 1))
	kills := 0
	for round, victim := range random.Perm(len(nodes))[:2] {
		sent(15 + 40*round)
		nodes[victim].kill()
		kills++
		down := time.Now()
		sent(25 + 40*round)
		if round == 0 {
			if p := workers[0].now(); p != nil {
				p.kill()
				kills++
			}
		}
		time.Sleep(200 * time.Millisecond)
		if err := nodes[victim].start(); err != nil {
			t.Fatal(err)
		}
		if err := nodes[victim].ready(); err != nil {
			t.Fatal(err)
		}
		t.Logf("broker %d was killed at %s and back after %s, %d events on their way", victim+1, down.Sub(began).Round(time.Millisecond), time.Since(down).Round(time.Millisecond), next.Load())
	}
	<-done
	acknowledged := time.Since(began)

	s, err := openStore(ctx, onClickHouse, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wait := &jetstream.Worker{Streams: j.streams, Store: s} // asks, and fills nothing
	for {
		if err = wait.WaitDrained(ctx, nil); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Second) // the brokers are choosing who leads
	}
	if err != nil {
		t.Fatal(err)
	}
	metered := time.Since(began)
	for _, w := range workers {
		if err := w.finish(happenWithin); err != nil {
			t.Error(err)
		}
	}
	ends.Range(func(name, said any) bool {
		t.Logf("%s ended by itself and was started again: %s", name, said)
		return true
	})
	acked := book.compare(ctx, t, s, j.streams)
	t.Logf("%d events in batches of %d, %d acknowledged, %d tries without an answer; %d kills; acknowledged after %s (%.0f/s), stored after %s (%.0f/s)",
		size.events, size.batch, acked, unsure.Load(), kills, acknowledged.Round(time.Millisecond), float64(size.events)/acknowledged.Seconds(), metered.Round(time.Millisecond), float64(size.events)/metered.Seconds())
}

// deliver sends the events from one number to another until they are acknowledged, and
// returns how often there was no answer.
func (l *ledger) deliver(ctx context.Context, in *jetstream.Intake, from, to int) (unsure int) {
	es := make([]metering.Event, 0, to-from)
	for i := from; i < to; i++ {
		es = append(es, numbered(i))
		l.sent[i].Store(true)
	}
	for {
		l.tries.Add(int64(len(es)))
		if _, err := in.Accept(ctx, es); err == nil {
			break
		}
		unsure++
		if ctx.Err() != nil {
			return unsure
		}
		sleep(ctx, 200*time.Millisecond)
	}
	for i := from; i < to; i++ {
		l.acked[i].Store(true)
	}
	return unsure
}

// compare holds the store against the senders' record, and its figures against the
// stream's.
func (l *ledger) compare(ctx context.Context, t *testing.T, s store, streams *jetstream.Streams) (acked int) {
	t.Helper()
	stored := make([]uint8, len(l.sent))
	wrong := 0
	complain := func(format string, args ...any) {
		if wrong++; wrong <= 10 {
			t.Errorf(format, args...)
		}
	}
	for e, err := range s.Events(ctx, metering.Span{}, metering.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		i, err := strconv.Atoi(strings.TrimPrefix(e.ID, "call-"))
		if err != nil || i < 0 || i >= len(stored) || !l.sent[i].Load() {
			complain("%s of %s is stored and was never sent", e.ID, e.Source)
			continue
		}
		if stored[i]++; stored[i] == 2 {
			complain("%s is stored twice", e.ID)
		}
		if metering.ContentHash(e.Event) != metering.ContentHash(numbered(i)) {
			complain("%s is stored with another content: %+v", e.ID, e.Event)
		}
	}
	rows := 0
	for i := range stored {
		rows += int(stored[i])
		if l.acked[i].Load() {
			acked++
			if stored[i] == 0 {
				complain("call-%d was acknowledged and is not stored", i)
			}
		}
	}
	if wrong > 10 {
		t.Errorf("and %d more", wrong-10)
	}
	if acked < len(l.sent) {
		t.Errorf("%d of %d events were acknowledged", acked, len(l.sent))
	}
	cutoff, err := s.Cutoff(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Counts(ctx, cutoff)
	if err != nil {
		t.Fatal(err)
	}
	messages, announced, err := streams.Totals(ctx, cutoff)
	if err != nil || messages != c.Messages || announced != c.Announced {
		t.Errorf("the stream has %d messages, %d events (%v); the store %d, %d", messages, announced, err, c.Messages, c.Announced)
	}
	if c.Announced != c.Stored+c.Duplicate || int(c.Stored) != rows || c.Keys != c.Stored || c.Announced > l.tries.Load() {
		t.Errorf("%+v, %d rows, %d deliveries tried", c, rows, l.tries.Load())
	}
	findings, err := s.Check(ctx)
	if err != nil || len(findings) > 0 {
		t.Errorf("the store against itself: %v, %v", findings, err)
	}
	t.Logf("stream %d messages, %d events = %d stored + %d duplicates", messages, announced, c.Stored, c.Duplicate)
	return acked
}
