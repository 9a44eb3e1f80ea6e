package jetstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"mete/metering"
)

func TestAcceptThenStore(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{})
	in := &Intake{Streams: b.streams}
	all := events("a", 2500)
	positions, err := in.Accept(within(t, 20*time.Second), all)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[metering.Position]bool{}
	for i, p := range positions {
		if want := all[i].Key().Partition(4); p.Partition != want || p.Sequence == 0 || seen[p] {
			t.Fatalf("event %d: position %+v, want a new one in partition %d", i, p, want)
		}
		seen[p] = true
	}
	m := newMemory()
	drain(t, &Worker{Streams: b.streams, Store: m})
	if len(m.keys) != len(all) || m.announced != len(all) || len(m.undecoded) != 0 {
		t.Errorf("%d keys, %d announced, %d undecoded; want %d, %d, 0", len(m.keys), m.announced, len(m.undecoded), len(all), len(all))
	}
	ctx := within(t, 10*time.Second)
	last, err := b.streams.Last(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if n, announced, err := b.streams.Totals(ctx, last); err != nil || announced != int64(len(all)) || n > 60 {
		t.Errorf("%d messages announce %d events, %v; want %d events packed", n, announced, err, len(all))
	}
	if in.Queued() != 0 {
		t.Errorf("%d events still queued", in.Queued())
	}
}

func TestTimeOfAcceptance(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
	in := &Intake{Streams: b.streams, Now: func() time.Time { return testTime }}
	e := event("no-time")
	e.Time, e.TimeAbsent = time.Time{}, true
	if _, err := in.Accept(within(t, 10*time.Second), []metering.Event{e}); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, b.streams, 0)
	m := unpack(new(metering.CanonicalDecoder), 1, 0, got[0])
	if len(m.Events) != 1 || !m.Events[0].Time.Equal(testTime) || !m.Events[0].TimeAbsent || !m.AcceptedAt.Equal(testTime) {
		t.Errorf("stored %+v, want the time of acceptance %s", m, testTime)
	}
	if m.Events[0].Hash != metering.ContentHash(e) {
		t.Error("the time of acceptance changed the content hash")
	}
}

// The same event sent twice within the broker's window is two acknowledgements and
// two counted events: the store says what is a duplicate, not the broker.
func TestSameEventTwiceCountsTwiceInTheStream(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
	in := &Intake{Streams: b.streams, Now: func() time.Time { return testTime }}
	for range 3 {
		if _, err := in.Accept(within(t, 10*time.Second), events("same", 5)); err != nil {
			t.Fatal(err)
		}
	}
	m := newMemory()
	drain(t, &Worker{Streams: b.streams, Store: m})
	if m.announced != 15 || len(m.keys) != 5 {
		t.Errorf("%d announced of %d keys, want 15 of 5", m.announced, len(m.keys))
	}
}

// The same message published again, as after a lost ack, is stored once.
func TestRetryOfOnePublishCountsOnce(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
	l := &lane{intake: &Intake{Streams: b.streams}}
	line := append(metering.AppendCanonical(nil, event("x")), '\n')
	m := pack(0, [][]byte{line}, testTime)
	first, err := l.publish(m)
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.publish(m)
	if err != nil || again != first {
		t.Errorf("again: sequence %d, %v; want %d", again, err, first)
	}
	if got := readAll(t, b.streams, 0); len(got) != 1 {
		t.Errorf("%d messages, want 1", len(got))
	}
}

func TestManySendersShareMessages(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{})
	in := &Intake{Streams: b.streams}
	const senders, each = 64, 20
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				if _, err := in.Accept(context.Background(), []metering.Event{event(fmt.Sprintf("s%d-%d", s, i))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	ctx := within(t, 10*time.Second)
	last, err := b.streams.Last(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	n, announced, err := b.streams.Totals(ctx, last)
	if err != nil || announced != senders*each || n >= announced {
		t.Errorf("%d messages with %d events, %v; want %d events in fewer messages", n, announced, err, senders*each)
	}
}

func TestBackpressure(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
	in := &Intake{Streams: b.streams, MaxQueued: 100}
	_, err := in.Accept(context.Background(), events("big", 101))
	var busy *BusyError
	if !errors.As(err, &busy) || !busy.Overloaded() || busy.Unknown || busy.RetryAfter() != time.Second {
		t.Fatalf("101 events into room for 100: %v", err)
	}
	var refused, taken atomic.Int64
	var wg sync.WaitGroup
	for s := range 16 {
		wg.Go(func() {
			for i := range 20 {
				_, err := in.Accept(context.Background(), events(fmt.Sprintf("s%d-%d", s, i), 30))
				switch {
				case errors.As(err, new(*BusyError)):
					refused.Add(30)
				case err != nil:
					t.Error(err)
				default:
					taken.Add(30)
				}
			}
		})
	}
	wg.Wait()
	m := newMemory()
	drain(t, &Worker{Streams: b.streams, Store: m})
	if refused.Load() == 0 || taken.Load() == 0 || int64(m.announced) != taken.Load() {
		t.Errorf("%d refused, %d taken, %d in the stream; want some of both, and taken = in the stream", refused.Load(), taken.Load(), m.announced)
	}
	if err := in.Close(within(t, time.Second)); err != nil {
		t.Error(err)
	}
	if _, err := in.Accept(context.Background(), events("late", 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A full stream refuses; it never drops the oldest.
func TestFullStream(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1, MaxBytes: 256 << 10})
	in := &Intake{Streams: b.streams}
	taken := 0
	for i := range 100 {
		_, err := in.Accept(within(t, 20*time.Second), events(fmt.Sprint(i), 100))
		if err == nil {
			taken += 100
			continue
		}
		var busy *BusyError
		if !errors.As(err, &busy) || busy.Overloaded() || busy.Unknown {
			t.Fatalf("full stream: %v", err)
		}
		break
	}
	m := newMemory()
	drain(t, &Worker{Streams: b.streams, Store: m})
	if taken == 0 || taken == 10000 || m.announced != taken {
		t.Errorf("%d taken, %d in the stream", taken, m.announced)
	}
}

// The connection is cut again and again, in both directions, while events are
// published: every acknowledged event is in the stream exactly as often as it was
// acknowledged.
func TestExactlyOnceThroughCutConnections(t *testing.T) {
	raw := rawServer(t, &server.Options{SyncAlways: true})
	proxy := newProxy(t, raw.Addr().String())
	conn, err := nats.Connect("nats://"+proxy.addr(), nats.MaxReconnects(-1), nats.ReconnectWait(time.Millisecond), nats.ReconnectJitter(0, 0), nats.RetryOnFailedConnect(true))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s, err := Ensure(within(t, 20*time.Second), conn, Settings{Partitions: 2, MaxBytes: 64 << 20, Facts: func(context.Context) ([]ServerFacts, error) { return factsOf(raw), nil }})
	if err != nil {
		t.Fatal(err)
	}
	in := &Intake{Streams: s, Patience: 50 * time.Second}
	stop := make(chan struct{})
	var cutting sync.WaitGroup
	cutting.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(20+rand.IntN(200)) * time.Millisecond):
				proxy.cut()
			}
		}
	})
	var acked atomic.Int64
	var wg sync.WaitGroup
	for sender := range 8 {
		wg.Go(func() {
			for i := 0; proxy.cuts.Load() < 8; i++ {
				if _, err := in.Accept(context.Background(), events(fmt.Sprintf("s%d-%d", sender, i), 40)); err != nil {
					t.Error(err)
					continue
				}
				acked.Add(40)
			}
		})
	}
	wg.Wait()
	close(stop)
	cutting.Wait()
	m := newMemory()
	drain(t, &Worker{Streams: s, Store: m})
	if int64(m.announced) != acked.Load() || int64(len(m.keys)) != acked.Load() {
		t.Errorf("%d acknowledged, %d announced, %d keys", acked.Load(), m.announced, len(m.keys))
	}
	t.Logf("%d events acknowledged through %d cuts", acked.Load(), proxy.cuts.Load())
}

// proxy passes TCP through and can cut all its connections.
type proxy struct {
	l     net.Listener
	to    string
	cuts  atomic.Int64
	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, to: to}
	t.Cleanup(func() { l.Close(); p.cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) > 0 {
		p.cuts.Add(1)
	}
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// rawServer starts a NATS server as somebody else would.
func rawServer(t *testing.T, o *server.Options) *server.Server {
	t.Helper()
	o.Host, o.Port, o.JetStream, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true, true
	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("raw server is not ready")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// intakeChild accepts events until it is killed and says which are acknowledged.
func intakeChild(dir string) error {
	b, err := open(dir, ServerOptions{}, Settings{})
	if err != nil {
		return err
	}
	in := &Intake{Streams: b.streams}
	var mu sync.Mutex
	out := bufio.NewWriter(os.Stdout)
	var wg sync.WaitGroup
	for s := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-s%d-%d", os.Getpid(), s, i)
				if _, err := in.Accept(context.Background(), events(id, 20)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				mu.Lock()
				fmt.Fprintln(out, id)
				out.Flush()
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.New("nobody killed me")
}

// Killed again and again, the broker has everything that was acknowledged, and the
// store, which follows between the kills, every event once.
func TestKilledBrokerKeepsAcknowledged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stream")
	m := newMemory()
	var acked []string
	for range 3 {
		acked = append(acked, killedChild(t, "intake", dir, 60, nil)...)
		b, err := open(dir, ServerOptions{}, Settings{})
		if err != nil {
			t.Fatal(err)
		}
		drain(t, &Worker{Streams: b.streams, Store: m})
		b.close()
	}
	for _, id := range acked {
		for _, e := range events(id, 20) {
			if m.keys[e.Key()] != 1 {
				t.Fatalf("event %s was acknowledged and is %d times in the store", e.ID, m.keys[e.Key()])
			}
		}
	}
	t.Logf("%d events acknowledged, %d stored", 20*len(acked), len(m.keys))
}

// killedChild runs a child until it has printed some lines and kills it. It returns
// all lines that the child printed whole. A nil-kill child (lines = 0) is waited for.
func killedChild(t *testing.T, name, dir string, lines int, env []string) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childVar+"="+name, childDirVar+"="+dir), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break
		}
		if said = append(said, strings.TrimSpace(line)); len(said) == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("child %s ended with %v, want it killed\n%s", name, err, stderr.String())
	}
	return said
}

func readAll(t *testing.T, s *Streams, partition int) []raw {
	t.Helper()
	r, err := s.reader(partition)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	var all []raw
	for {
		got, err := r.read(within(t, 10*time.Second), uint64(len(all)+1))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			return all
		}
		all = append(all, got...)
	}
}

func BenchmarkIntake(b *testing.B) {
	for _, senders := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			br := start(b, b.TempDir(), ServerOptions{}, Settings{MaxBytes: 8 << 30})
			in := &Intake{Streams: br.streams}
			const batch = 500
			var next atomic.Int64
			b.ResetTimer()
			var wg sync.WaitGroup
			for range senders {
				wg.Go(func() {
					for {
						n := next.Add(batch)
						if n > int64(b.N)+batch-1 {
							return
						}
						if _, err := in.Accept(context.Background(), events(fmt.Sprint(n), batch)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
