package jetstream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"mete/metering"
	"mete/partner"
)

// TestMain runs the test binary as a child, if a test has started it as one.
func TestMain(m *testing.M) {
	if f := children[os.Getenv(childVar)]; f != nil {
		if err := f(os.Getenv(childDirVar)); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	childVar    = "METE_TEST_CHILD"
	childDirVar = "METE_TEST_DIR"
)

var children = map[string]func(dir string) error{
	"intake": intakeChild,
	"router": routerChild,
}

// broker is an embedded server, a connection to it and the streams in it.
type broker struct {
	*Server
	conn    *nats.Conn
	streams *Streams
}

func (b *broker) close() {
	b.conn.Close()
	b.Shutdown()
}

func open(dir string, o ServerOptions, s Settings) (*broker, error) {
	o.Dir = dir
	srv, err := StartServer(o)
	if err != nil {
		return nil, err
	}
	conn, err := srv.Connect()
	if err != nil {
		srv.Shutdown()
		return nil, err
	}
	s.Facts = srv.Facts
	if s.MaxBytes == 0 {
		s.MaxBytes = 64 << 20
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	streams, err := Ensure(ctx, conn, s)
	if err != nil {
		conn.Close()
		srv.Shutdown()
		return nil, err
	}
	return &broker{srv, conn, streams}, nil
}

func start(t testing.TB, dir string, o ServerOptions, s Settings) *broker {
	t.Helper()
	b, err := open(dir, o, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

var testTime = time.Date(2026, 9, 14, 10, 0, 0, 123456000, time.UTC)

func event(id string) metering.Event {
	return metering.Event{
		ID: id, Source: "gw-eu-1", Type: metering.UsageAPI, Time: testTime, Customer: "lakeside-clinic",
		Data: metering.Data{App: "northwind-scheduler", Operation: "appointments.search", Class: metering.API, Status: 200, Bytes: 5120, Region: "us-tx"},
	}
}

func events(prefix string, n int) []metering.Event {
	all := make([]metering.Event, n)
	for i := range all {
		all[i] = event(fmt.Sprintf("%s-%06d", prefix, i))
		all[i].Customer = partner.CustomerID(fmt.Sprintf("clinic-%d", i%50))
	}
	return all
}

// memory is a store that keeps what Append promises and nothing else.
type memory struct {
	metering.Store
	mu        sync.Mutex
	name      string
	positions map[int]uint64
	keys      map[metering.Key]int // how often it was appended
	announced int
	undecoded []metering.Undecoded
	blocks    []metering.Block // without messages
	discard   bool             // count only
	failures  int              // of Append, to come
	failAfter bool             // they happen after the block is stored
	away      int              // questions for a position that fail, to come
}

func newMemory() *memory {
	return &memory{positions: map[int]uint64{}, keys: map[metering.Key]int{}}
}

var errDisk = errors.New("disk on fire")

func (m *memory) Attach(_ context.Context, stream string, _ int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.name == "" {
		m.name = stream
	}
	if m.name != stream {
		return 0, fmt.Errorf("store of %s, stream %s: %w", m.name, stream, metering.ErrIncarnation)
	}
	return 1, nil
}

func (m *memory) Position(_ context.Context, p int) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away > 0 {
		m.away--
		return 0, errDisk
	}
	return m.positions[p], nil
}

func (m *memory) Append(_ context.Context, b metering.Block) (metering.Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fail := m.failures > 0
	if fail {
		m.failures--
		if !m.failAfter {
			return metering.Outcome{}, errDisk
		}
	}
	if b.Last <= m.positions[b.Partition] {
		return metering.Outcome{}, nil
	}
	if b.First != m.positions[b.Partition]+1 {
		return metering.Outcome{}, fmt.Errorf("at %d, block from %d: %w", m.positions[b.Partition], b.First, metering.ErrGap)
	}
	for i, msg := range b.Messages {
		if msg.Sequence != b.First+uint64(i) || msg.Announced != len(msg.Events)+len(msg.Undecoded) {
			return metering.Outcome{}, fmt.Errorf("message %d of block %d–%d is not in sequence or not whole", msg.Sequence, b.First, b.Last)
		}
		m.announced += msg.Announced
		m.undecoded = append(m.undecoded, msg.Undecoded...)
		if !m.discard {
			for _, e := range msg.Events {
				m.keys[e.Key]++
			}
		}
	}
	m.positions[b.Partition] = b.Last
	b.Messages = nil
	m.blocks = append(m.blocks, b)
	if fail {
		return metering.Outcome{}, errDisk
	}
	return metering.Outcome{}, nil
}

// drain runs a worker until the store has everything.
func drain(t testing.TB, w *Worker) {
	t.Helper()
	ctx, stop := context.WithCancel(within(t, 60*time.Second))
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	if err := w.WaitDrained(ctx, nil); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// ensureAgain is Ensure after a deletion: the broker may still be busy with the files.
func ensureAgain(ctx context.Context, b *broker) (*Streams, error) {
	for try := 1; ; try++ {
		s, err := Ensure(ctx, b.conn, b.streams.settings)
		if err == nil || try == 20 {
			return s, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
