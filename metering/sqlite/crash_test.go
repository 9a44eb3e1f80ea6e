package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"mete/metering"
	"mete/metering/meteringtest"
)

// crashFile names the store for a process that is there to be killed.
const crashFile = "METE_TEST_CRASH_FILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashFile); path != "" {
		fillForever(path)
	}
	if path := os.Getenv(redactFile); path != "" {
		redactAll(path)
	}
	if path := os.Getenv(rebuildFile); path != "" {
		rebuildAll(path)
	}
	os.Exit(m.Run())
}

// crashBlocks yields the same blocks each time, block n to partition n mod 3. Every
// third repeats events of an earlier one, and voids one of an earlier and one of a
// later block.
func crashBlocks(yield func(int, metering.Block) bool) {
	f := meteringtest.NewFeed()
	for n := 0; ; n++ {
		es := meteringtest.Calls(fmt.Sprint("n", n), 40, "scheduler", day)
		if n%3 == 2 {
			es = append(es, meteringtest.Calls(fmt.Sprint("n", n-2), 10, "scheduler", day)...)
			es = append(es, meteringtest.Void(fmt.Sprint("v", n), fmt.Sprintf("n%d-0", n-1), day), meteringtest.Void(fmt.Sprint("w", n), fmt.Sprintf("n%d-0", n+1), day))
		}
		if !yield(n, f.Block(n%3, es[:len(es)/2], es[len(es)/2:])) {
			return
		}
	}
}

// fillForever appends from where the store is and prints the number of every block
// that the store has acknowledged. It never comes back.
func fillForever(path string) {
	ctx := context.Background()
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	s, err := Open(path)
	if err != nil {
		fail(err)
	}
	s.w.mergeAt = 700 // keys move every few blocks
	if _, err := s.Attach(ctx, "usage", 3); err != nil {
		fail(err)
	}
	for n, b := range crashBlocks {
		o, err := s.Append(ctx, b)
		if err != nil {
			fail(err)
		}
		if o != (metering.Outcome{}) {
			fmt.Println(n)
		}
	}
}

// The process that fills the store is killed at random moments. Each time, the file
// holds every block that was acknowledged, whole and once, and at most one more.
func TestKilledWhileFilling(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	path := filepath.Join(t.TempDir(), "usage.db")
	random := rand.New(rand.NewPCG(1, 2))
	acked := -1 // the last acknowledged block, by the sender's own count
	const kills = 12
	during := 0 // kills that came after some block of the process
	for i := range kills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashFile+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := func() { cmd.Process.Kill() }
		var killer *time.Timer
		if i%4 == 0 { // while it starts
			killer = time.AfterFunc(time.Duration(random.IntN(40_000))*time.Microsecond, kill)
		}
		before := acked
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var n int
			if _, err := fmt.Sscan(lines.Text(), &n); err != nil {
				t.Fatal(err)
			}
			if n != acked+1 {
				t.Fatalf("block %d was acknowledged after block %d", n, acked)
			}
			acked = n
			if killer == nil { // while it fills
				killer = time.AfterFunc(time.Duration(random.IntN(150_000))*time.Microsecond, kill)
			}
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("the process was not killed, it ended by itself: %v", err)
		}
		if acked > before {
			during++
		}
		acked = checkKilled(t, path, acked)
	}
	t.Logf("%d kills, %d of them while filling, %d blocks", kills, during, acked+1)
	if during < kills/2 {
		t.Errorf("only %d of %d kills came while the store was filled", during, kills)
	}
}

// checkKilled compares the store with the blocks that it must hold, and gives the
// last of them.
func checkKilled(t *testing.T, path string, acked int) int {
	t.Helper()
	ctx := context.Background()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	counts, err := s.Counts(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	stored := int(counts.Messages) / 2 // two messages each
	if stored < acked+1 || stored > acked+2 {
		t.Fatalf("%d blocks are stored, %d were acknowledged", stored, acked+1)
	}
	m := new(meteringtest.Model)
	if _, err := m.Attach(ctx, "usage", 3); err != nil {
		t.Fatal(err)
	}
	for n, b := range crashBlocks {
		if n == stored {
			break
		}
		if _, err := m.Append(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	want, err := m.Counts(ctx, nil)
	if err != nil || counts != want {
		t.Fatalf("after the kill the store counts\n %+v, want\n %+v, %v", counts, want, err)
	}
	for p := range 3 {
		got, err := s.Position(ctx, p)
		if want, _ := m.Position(ctx, p); err != nil || got != want {
			t.Fatalf("after the kill partition %d is at %d, %v, want %d", p, got, err, want)
		}
	}
	wantSound(t, s)
	return stored - 1
}
