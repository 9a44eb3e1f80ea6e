package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"mete/metering"
	"mete/metering/sqlite"
)

func TestWorkerFollowsAndStops(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{})
	in := &Intake{Streams: b.streams}
	m := newMemory()
	w := &Worker{Streams: b.streams, Store: m}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	for i := range 5 {
		if _, err := in.Accept(within(t, 10*time.Second), events(fmt.Sprint(i), 700)); err != nil {
			t.Fatal(err)
		}
		if err := w.WaitDrained(within(t, 20*time.Second), nil); err != nil {
			t.Fatal(err)
		}
		if m.announced != 700*(i+1) {
			t.Fatalf("%d stored after %d", m.announced, 700*(i+1))
		}
	}
	h, err := w.Health(within(t, 5*time.Second))
	if err != nil || h.Err != nil || len(h.Partitions) != 4 {
		t.Fatalf("health %+v, %v", h, err)
	}
	for _, l := range h.Partitions {
		if l.Behind != 0 || l.Stored == 0 || l.Stored != l.Last || l.LastAppendAt.IsZero() || l.Bytes == 0 || l.OldestAt.IsZero() {
			t.Errorf("lag %+v", l)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Blocks follow each other without holes and stay within their bounds.
func TestBlocks(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
	in := &Intake{Streams: b.streams}
	for i := range 40 {
		if _, err := in.Accept(within(t, 10*time.Second), events(fmt.Sprint(i), 1+i*20)); err != nil {
			t.Fatal(err)
		}
	}
	got := readAll(t, b.streams, 0)
	next := uint64(1)
	all, made := len(got), 0
	room := 0
	for block := range blocks(1, 0, got, blockEvents, func(events int) bool { room = events; return true }) {
		made++
		n := 0
		for _, m := range block.Messages {
			n += m.Announced
		}
		if n != room {
			t.Errorf("room for %d events, the block has %d", room, n)
		}
		if block.First != next || int(block.Last-block.First)+1 != len(block.Messages) || n > blockEvents && len(block.Messages) > 1 {
			t.Fatalf("block %d–%d of %d messages, %d events; want it to begin at %d", block.First, block.Last, len(block.Messages), n, next)
		}
		next = block.Last + 1
	}
	if next != uint64(all+1) || made < 3 {
		t.Errorf("%d blocks end at %d of %d", made, next, all)
	}
}

func TestAppendIsRetried(t *testing.T) {
	for _, after := range []bool{false, true} {
		b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
		if _, err := (&Intake{Streams: b.streams}).Accept(within(t, 10*time.Second), events("a", 100)); err != nil {
			t.Fatal(err)
		}
		m := newMemory()
		m.failures, m.failAfter = 2, after
		drain(t, &Worker{Streams: b.streams, Store: m})
		if m.announced != 100 || m.failures == 2 {
			t.Errorf("failing after=%v: %d stored, %d failures to come", after, m.announced, m.failures)
		}
	}
}

func TestAppendIsGivenUp(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
	if _, err := (&Intake{Streams: b.streams}).Accept(within(t, 10*time.Second), events("a", 100)); err != nil {
		t.Fatal(err)
	}
	m := newMemory()
	m.failures = 3
	w := &Worker{Streams: b.streams, Store: m, AppendTries: 3}
	ran := make(chan error, 1)
	go func() { ran <- w.Run(context.Background()) }()
	err := <-ran
	if !errors.Is(err, errDisk) || !strings.Contains(err.Error(), "append messages 1 to") || !strings.Contains(err.Error(), "try 3 of 3") {
		t.Errorf("got %v", err)
	}
	h, _ := w.Health(within(t, 5*time.Second))
	if h.Err == nil || h.Partitions[0].Behind == 0 {
		t.Errorf("health is green: %+v", h)
	}
	if err := w.WaitDrained(within(t, 5*time.Second), nil); !errors.Is(err, errDisk) {
		t.Errorf("WaitDrained says %v", err)
	}
	drain(t, w) // the disk is well again
	if m.announced != 100 {
		t.Errorf("%d stored", m.announced)
	}
}

// standing takes nothing until it is let go on.
type standing struct {
	*memory
	until chan struct{}
}

func (s standing) Append(ctx context.Context, b metering.Block) (metering.Outcome, error) {
	<-s.until
	return s.memory.Append(ctx, b)
}

// A worker that has just begun is not called silent for what waited before it did; one
// that does not move is, and where nobody works, at once.
func TestSilentWorker(t *testing.T) {
	const most = 500 * time.Millisecond
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
	if _, err := (&Intake{Streams: b.streams}).Accept(within(t, 10*time.Second), events("a", 100)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(most + most/10)
	silent := func(w *Worker) bool {
		h, err := w.Health(within(t, 5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		return h.Err != nil && strings.Contains(h.Err.Error(), "partition 0 stands still at 0")
	}
	m := standing{newMemory(), make(chan struct{})}
	if !silent(&Worker{Streams: b.streams, Store: m, SilentAfter: most}) {
		t.Error("nobody works, and health is green")
	}
	w := &Worker{Streams: b.streams, Store: m, SilentAfter: most}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	began := time.Now()
	go func() { ran <- w.Run(ctx) }()
	for w.working().IsZero() {
		time.Sleep(time.Millisecond)
	}
	if red := silent(w); red && time.Since(began) < most {
		t.Error("a worker is called silent before it had time")
	}
	for !silent(w) {
		if time.Since(began) > 20*most {
			t.Fatal("a worker that stands still is not called silent")
		}
		time.Sleep(most / 10)
	}
	close(m.until)
	if err := w.WaitDrained(within(t, 10*time.Second), nil); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func (w *Worker) working() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.began
}

func TestWaitDrainedSaysWhatIsMissing(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
	if _, err := (&Intake{Streams: b.streams}).Accept(within(t, 10*time.Second), events("a", 1)); err != nil {
		t.Fatal(err)
	}
	w := &Worker{Streams: b.streams, Store: newMemory()} // not running
	told := 0
	err := w.WaitDrained(within(t, 300*time.Millisecond), func(l []Lag) { told++ })
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "partition 0 is at 0 of 1") || told == 0 {
		t.Errorf("got %v, told %d times", err, told)
	}
}

// fails runs a worker and wants it to stop by itself with the given error.
func fails(t *testing.T, w *Worker, want error, says ...string) {
	t.Helper()
	ctx := within(t, 20*time.Second)
	err := w.Run(ctx)
	if !errors.Is(err, want) {
		t.Fatalf("worker ended with %v, want %v", err, want)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not say %q", err, s)
		}
	}
	if h, _ := w.Health(ctx); h.Err == nil {
		t.Error("health is green")
	}
}

func TestWorkerRefusesAnotherStream(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
	ctx := within(t, 20*time.Second)
	in := &Intake{Streams: b.streams}
	if _, err := in.Accept(ctx, events("a", 10)); err != nil {
		t.Fatal(err)
	}
	m := newMemory()
	drain(t, &Worker{Streams: b.streams, Store: m})

	// Made anew while a worker runs and waits.
	w := &Worker{Streams: b.streams, Store: m}
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()
	time.Sleep(50 * time.Millisecond)
	if err := b.streams.js.DeleteStream(ctx, "USAGE_0"); err != nil {
		t.Fatal(err)
	}
	fresh, err := ensureAgain(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := (&Intake{Streams: fresh}).Accept(ctx, events(fmt.Sprint("b", i), 10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ran; !errors.Is(err, metering.ErrIncarnation) {
		t.Errorf("running worker: %v", err)
	}
	if len(m.keys) != 10 {
		t.Errorf("%d keys, the store took events of another stream", len(m.keys))
	}
	// And at the next start.
	fails(t, &Worker{Streams: fresh, Store: m}, metering.ErrIncarnation)
}

// The stream was restored from an older copy: what comes now would lie before the
// stored position.
func TestWorkerRefusesOlderStream(t *testing.T) {
	dir := t.TempDir()
	stream, copied := filepath.Join(dir, "stream"), filepath.Join(dir, "copy")
	b, err := open(stream, ServerOptions{}, Settings{Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	accept := func(b *broker, what string) {
		t.Helper()
		for i := range 3 {
			if _, err := (&Intake{Streams: b.streams}).Accept(within(t, 10*time.Second), events(fmt.Sprint(what, i), 5)); err != nil {
				t.Fatal(err)
			}
		}
	}
	accept(b, "a")
	b.close()
	if err := os.CopyFS(copied, os.DirFS(stream)); err != nil {
		t.Fatal(err)
	}
	if b, err = open(stream, ServerOptions{}, Settings{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	accept(b, "b")
	m := newMemory()
	drain(t, &Worker{Streams: b.streams, Store: m})
	b.close()

	old := start(t, copied, ServerOptions{}, Settings{Partitions: 1})
	if _, err := old.streams.Attach(within(t, 5*time.Second), m); !errors.Is(err, metering.ErrIncarnation) {
		t.Errorf("attach: %v", err)
	}
	fails(t, &Worker{Streams: old.streams, Store: m}, metering.ErrIncarnation, "ends at 3", "the store has 6")
}

func TestWorkerRefusesGap(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
	ctx := within(t, 20*time.Second)
	// A stream that allows deletes stands for one that has lost messages.
	if err := b.streams.js.DeleteStream(ctx, "USAGE_0"); err != nil {
		t.Fatal(err)
	}
	c := b.streams.settings.want(0)
	c.DenyDelete, c.DenyPurge, c.MaxBytes = false, false, 1<<20
	s, err := b.streams.js.CreateStream(ctx, c)
	for try := 0; err != nil && try < 20; try++ {
		time.Sleep(50 * time.Millisecond)
		s, err = b.streams.js.CreateStream(ctx, c)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.streams.ids[0] = c.Metadata[metaIncarnation]
	in := &Intake{Streams: b.streams}
	accept := func(n int) {
		for i := range n {
			if _, err := in.Accept(ctx, events(fmt.Sprint("e", i), 2)); err != nil {
				t.Fatal(err)
			}
		}
	}
	accept(5)
	m := newMemory()
	drain(t, &Worker{Streams: b.streams, Store: m})
	accept(5)
	if err := s.DeleteMsg(ctx, 8); err != nil {
		t.Fatal(err)
	}
	fails(t, &Worker{Streams: b.streams, Store: m}, metering.ErrGap, "the store has 7", "goes on at 9", "messages 8 to 8")
	if m.positions[0] != 7 {
		t.Errorf("stored up to %d, want 7", m.positions[0])
	}
	// Expired before they were stored: the first message is beyond the position.
	if err := s.Purge(ctx, js.WithPurgeSequence(10)); err != nil {
		t.Fatal(err)
	}
	fails(t, &Worker{Streams: b.streams, Store: m}, metering.ErrGap, "the store has 7", "goes on at 10")
	var broken *SettingError
	if _, err := Ensure(ctx, b.conn, b.streams.settings); !errors.As(err, &broken) {
		t.Errorf("Ensure: %v", err)
	}
}

func TestWorkerCountsUndecodable(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
	ctx := within(t, 20*time.Second)
	if _, err := (&Intake{Streams: b.streams}).Accept(ctx, events("a", 3)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.streams.js.Publish(ctx, "usage.0", []byte("a foreign hand")); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Intake{Streams: b.streams}).Accept(ctx, events("b", 3)); err != nil {
		t.Fatal(err)
	}
	m := newMemory()
	drain(t, &Worker{Streams: b.streams, Store: m})
	last, _ := b.streams.Last(ctx, 1)
	_, announced, err := b.streams.Totals(ctx, last)
	if m.announced != 7 || len(m.keys) != 6 || len(m.undecoded) != 1 || announced != 7 || err != nil {
		t.Errorf("%d announced, %d keys, %v undecoded; the stream says %d, %v", m.announced, len(m.keys), m.undecoded, announced, err)
	}
}

// A broker that goes away and comes back is waited for.
func TestWorkerOutlastsBroker(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stream")
	b, err := open(dir, ServerOptions{}, Settings{Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	w := &Worker{Streams: b.streams, Store: newMemory(), ReadPatience: 300 * time.Millisecond}
	ran := make(chan error, 1)
	go func() { ran <- w.Run(context.Background()) }()
	time.Sleep(100 * time.Millisecond)
	b.Shutdown()
	b.conn.Close()
	select {
	case err := <-ran:
		if err == nil || !strings.Contains(err.Error(), "no answer for") {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the worker never gives up")
	}
}

// Yesterday's store under today's stream goes on and ends as today's store.
func TestRestoredStoreCatchesUp(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{})
	in := &Intake{Streams: b.streams}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	run := func(file string) metering.Counts {
		t.Helper()
		s, err := sqlite.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		drain(t, &Worker{Streams: b.streams, Store: s})
		cutoff, err := s.Cutoff(within(t, 5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Counts(within(t, 10*time.Second), cutoff)
		if err != nil {
			t.Fatal(err)
		}
		messages, announced, err := b.streams.Totals(within(t, 10*time.Second), cutoff)
		if err != nil || messages != c.Messages || announced != c.Announced {
			t.Errorf("the stream has %d messages, %d events, %v; the store %d, %d", messages, announced, err, c.Messages, c.Announced)
		}
		return c
	}
	accept := func(prefix string, n int) {
		t.Helper()
		if _, err := in.Accept(within(t, 20*time.Second), events(prefix, n)); err != nil {
			t.Fatal(err)
		}
	}
	accept("a", 1000)
	yesterday := run(path("events.db"))
	copyFile(t, path("events.db"), path("yesterday.db"))
	accept("b", 1500)
	accept("a", 200) // duplicates
	today := run(path("events.db"))
	restored := run(path("yesterday.db"))
	fresh := run(path("fresh.db"))
	if yesterday.Stored != 1000 || today.Stored != 2500 || today.Duplicate != 200 || today.Announced != 2700 {
		t.Errorf("yesterday %+v, today %+v", yesterday, today)
	}
	if restored != today || fresh != today {
		t.Errorf("today %+v, restored %+v, from the beginning %+v", today, restored, fresh)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// onDisk reports whether any file under dir holds the text.
func onDisk(t *testing.T, dir, text string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		found = found || bytes.Contains(b, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func BenchmarkDrain(b *testing.B) {
	br := start(b, b.TempDir(), ServerOptions{}, Settings{MaxBytes: 8 << 30})
	in := &Intake{Streams: br.streams}
	const batch = 5000
	for n := 0; n < b.N; n += batch {
		if _, err := in.Accept(context.Background(), events(fmt.Sprint(n), min(batch, b.N-n))); err != nil {
			b.Fatal(err)
		}
	}
	m := newMemory()
	m.discard = true
	b.ResetTimer()
	drain(b, &Worker{Streams: br.streams, Store: m})
	b.StopTimer()
	if m.announced != b.N {
		b.Fatalf("%d of %d", m.announced, b.N)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
