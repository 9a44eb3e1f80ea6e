package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mete/internal/chtest"
	"mete/internal/failpoint"
	"mete/internal/testdata"
	"mete/metering"
	"mete/metering/meteringtest"
)

// crashDSN names the store for a process that is there to be killed.
const crashDSN = "METE_TEST_CRASH_DSN"

func TestMain(m *testing.M) {
	if dsn := os.Getenv(crashDSN); dsn != "" {
		if err := fillAll(dsn); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	if dsn := os.Getenv(redactDSN); dsn != "" {
		fmt.Fprintln(os.Stderr, "not killed:", redactAll(dsn))
		os.Exit(3)
	}
	if dsn := os.Getenv(rebuildDSN); dsn != "" {
		fmt.Fprintln(os.Stderr, "not killed:", rebuildAll(dsn))
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// crashBlocks are the same each time.
func crashBlocks() []metering.Block {
	f := newFeed()
	bs := blocks(f)
	return append(bs, full(f, 1, "c"), full(f, 0, "b"), full(f, 0, "a"), full(f, 2, "sale"))
}

// fillAll stores what is missing of all blocks.
func fillAll(dsn string) error {
	ctx := context.Background()
	s, err := Open(ctx, Options{DSN: dsn})
	if err != nil {
		return err
	}
	if _, err := s.Attach(ctx, "usage", partitions); err != nil {
		return err
	}
	for _, b := range crashBlocks() {
		if _, err := s.Append(ctx, b); err != nil {
			return err
		}
	}
	return s.Close()
}

// The process that fills the store is killed at every named place, at several of its
// hits; the next one goes on and the store holds everything once.
func TestKilledAtEveryPoint(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	reopen := reopener(t)
	m := new(meteringtest.Model)
	attach(t, m)
	for _, b := range crashBlocks() {
		if _, err := m.Append(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	run := func(s *Store, env ...string) error {
		c := exec.Command(os.Args[0])
		c.Env = append(append(os.Environ(), crashDSN+"="+s.options.DSN), env...)
		out, err := c.CombinedOutput()
		if len(out) > 0 {
			err = errors.Join(err, errors.New(string(out)))
		}
		return err
	}
	log := filepath.Join(t.TempDir(), "hits")
	s := reopen(t)
	if err := run(s, "METE_FAILPOINT_LOG="+log); err != nil {
		t.Fatal(err)
	}
	same(t, s, m)
	s.Close()
	hits, err := failpoint.Counts(log)
	if err != nil {
		t.Fatal(err)
	}
	declared, err := failpoint.Declared(testdata.ModuleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range declared {
		if !strings.HasPrefix(string(d.Name), "clickhouse.") {
			continue
		}
		n := hits[d.Name]
		t.Logf("%-24s hit %d times, declared at %s", d.Name, n, d.At)
		if n == 0 {
			t.Errorf("%s is never reached: its crash is not tested", d.Name)
			continue
		}
		at := map[int]bool{1: true, n/2 + 1: true}
		for k := range at {
			t.Run(fmt.Sprintf("%s@%d", d.Name, k), func(t *testing.T) {
				s := reopen(t)
				defer s.Close()
				err := run(s, fmt.Sprintf("METE_FAILPOINT=%s=kill@%d", d.Name, k))
				var exit *exec.ExitError
				if !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
					t.Fatalf("the process was not killed: %v", err)
				}
				if err := run(s, fmt.Sprintf("METE_FAILPOINT=%s=error@%d", d.Name, 1)); err != nil { // and fails once more
					t.Fatal(err)
				}
				same(t, s, m)
			})
		}
	}
}

// The engine is killed again and again while blocks are stored. What was acknowledged
// is there, and in the end everything is, once.
func TestEngineKilledWhileFilling(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts the engine")
	}
	ctx := context.Background()
	e := chtest.Start(t)
	s, m := openAt(t, e.Database(t)), new(meteringtest.Model)
	attach(t, s, m)
	random := rand.New(rand.NewPCG(1, 2))
	const kills = 5
	killed := make(chan int)
	stop := make(chan struct{})
	go func() {
		n := 0
		defer func() { killed <- n }()
		for range kills {
			select {
			case <-time.After(time.Duration(random.IntN(1200)) * time.Millisecond):
			case <-stop:
				return
			}
			if err := e.Restart(); err != nil {
				t.Error(err)
				return
			}
			n++
		}
	}()
	f, failed := newFeed(), 0
	var blocks int
	deadline := time.Now().Add(2 * time.Minute)
	for done := false; !done; blocks++ {
		b := full(f, blocks%partitions, fmt.Sprint("n", blocks/7))
		want, err := m.Append(ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		for {
			got, err := s.Append(ctx, b)
			if err == nil {
				if got != want && got != (metering.Outcome{}) { // stored, and the process was not told
					t.Fatalf("block %d: %+v, want %+v", blocks, got, want)
				}
				break
			}
			if failed++; time.Now().After(deadline) {
				t.Fatalf("block %d: %v", blocks, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		select {
		case n := <-killed:
			t.Logf("%d kills, %d failed appends, %d blocks", n, failed, blocks+1)
			done = true
		default:
		}
	}
	close(stop)
	same(t, s, m)
	unseen, err := s.Unseen(ctx)
	t.Logf("rows that never count: %+v, %v", unseen, err)
	if err := e.Restart(); err != nil {
		t.Fatal(err)
	}
	same(t, s, m)
}
