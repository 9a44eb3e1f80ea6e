package store

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mete/internal/pgtest"
	"mete/ledger"
)

// postingChild is the environment variable that turns this test program into the
// child that [TestLedgerKilled] kills: it names the database file.
const (
	postingChild = "METE_TEST_POSTING_CHILD"
	postingFrom  = "METE_TEST_POSTING_FROM"
	childWriters = 4
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(postingChild); dsn != "" {
		fmt.Fprintln(os.Stderr, postUntilKilled(dsn, os.Getenv(postingFrom)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// postUntilKilled posts facts in order, from several callers, and says which are
// acknowledged.
func postUntilKilled(dsn, from string) error {
	ctx := context.Background()
	db, err := Open(ctx, dsn)
	if err != nil {
		return err
	}
	first, err := strconv.ParseInt(from, 10, 64)
	if err != nil {
		return err
	}
	var next atomic.Int64
	next.Store(first)
	failed := make(chan error)
	for range childWriters {
		go func() {
			for {
				n := next.Add(1)
				if err := db.Post(ctx, dollars(fmt.Sprintf("f%d", n), n), dollars(fmt.Sprintf("g%d", n), n)); err != nil {
					failed <- err
					return
				}
				os.Stdout.WriteString(fmt.Sprintf("%d\n", n)) // one write: whole or not at all
			}
		}()
	}
	return <-failed
}

// A process that posts is killed again and again. What it was told is booked stands
// in the books once, whatever else does, and the books are sound.
func TestLedgerKilled(t *testing.T) {
	const rounds = 12
	dsn := sqliteDSN(t)
	acked := map[int64]bool{}
	var last int64
	for round := range rounds {
		from := max(0, last-20) // facts of the last round again, some booked and some not
		n := killWhilePosting(t, dsn, from, time.Duration(20+rand.IntN(120))*time.Millisecond, acked)
		if n == 0 {
			t.Fatalf("round %d: nothing was acknowledged before the kill", round)
		}
		for k := range acked {
			last = max(last, k)
		}
	}
	t.Logf("killed %d times, %d calls acknowledged", rounds, len(acked))
	wantBooked(t, openTest(t, dsn), acked)
}

func killWhilePosting(t *testing.T, dsn string, from int64, after time.Duration, acked map[int64]bool) (n int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), postingChild+"="+dsn, fmt.Sprintf("%s=%d", postingFrom, from))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var kill sync.Once
	lines := bufio.NewReader(out)
	for {
		var k int64
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(line, &k); err != nil {
			t.Fatalf("the child says %q", line)
		}
		acked[k] = true
		n++
		kill.Do(func() { time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) })
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return n
}

// wantBooked checks that both entries of every acknowledged call are booked, of every
// other call both or none, and each once.
func wantBooked(t *testing.T, db *DB, acked map[int64]bool) {
	t.Helper()
	seen := map[string]int{}
	for e, err := range db.Entries(t.Context(), ledger.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[e.ID]++
		if seen[e.ID] > 1 {
			t.Errorf("%s is booked twice", e.ID)
		}
	}
	for k := range acked {
		if seen[fmt.Sprintf("f%d", k)] == 0 {
			t.Errorf("call %d was acknowledged and is not booked", k)
		}
	}
	for id := range seen {
		if other := map[byte]string{'f': "g", 'g': "f"}[id[0]] + id[1:]; seen[other] == 0 {
			t.Errorf("%s is booked without %s", id, other)
		}
	}
	wantGreen(t, db)
}

// A PostgreSQL server is killed under load and comes back: callers that were not
// answered post again, and nothing is lost or doubled.
func TestLedgerServerKilled(t *testing.T) {
	cluster := pgtest.Start(t, pgtest.Options{})
	db := openTest(t, cluster.Database(t))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var mu sync.Mutex
	acked := map[int64]bool{}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acked) }
	var failures atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := int64(w + 1); ; n += 8 {
				for { // until it is acknowledged
					select {
					case <-stop:
						return
					default:
					}
					err := db.Post(ctx, dollars(fmt.Sprintf("f%d", n), n), dollars(fmt.Sprintf("g%d", n), n))
					if err == nil {
						mu.Lock()
						acked[n] = true
						mu.Unlock()
						break
					}
					failures.Add(1)
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	waitFor(t, func() bool { return count() > 100 })
	if err := cluster.Kill(); err != nil {
		t.Error(err)
	}
	before := count()
	waitFor(t, func() bool { return failures.Load() > 8 })
	if err := cluster.Restart(); err != nil {
		t.Error(err)
	}
	waitFor(t, func() bool { return count() > before+100 })
	close(stop)
	wg.Wait()
	t.Logf("%d calls acknowledged, %d of them before the kill, %d failed meanwhile", len(acked), before, failures.Load())
	wantBooked(t, db, acked)
}
