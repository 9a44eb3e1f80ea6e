package failpoint

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	first  Point = "test.first"
	second Point = "test.second"
)

// TestChild is the program of the tests below: ten rounds over two points.
func TestChild(t *testing.T) {
	if os.Getenv("FAILPOINT_CHILD") == "" {
		return // run by the tests below, as a process of its own
	}
	for round := range 10 {
		fmt.Printf("round %d first %v\n", round+1, first.Hit())
		fmt.Printf("round %d second %v\n", round+1, Hit(second))
	}
}

// child runs TestChild and answers its output and the points it hit.
func child(t *testing.T, spec string) (out string, counts map[Point]int, err error) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "hits")
	c := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
	c.Env = append(os.Environ(), "FAILPOINT_CHILD=1", "GORACE=atexit_sleep_ms=0", "METE_FAILPOINT="+spec, "METE_FAILPOINT_LOG="+log)
	b, err := c.CombinedOutput()
	counts, logErr := Counts(log)
	if logErr != nil && !errors.Is(logErr, os.ErrNotExist) {
		t.Fatal(logErr)
	}
	return string(b), counts, err
}

func killed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

func TestKill(t *testing.T) {
	for _, c := range []struct {
		spec          string
		first, second int
	}{
		{"test.first=kill", 1, 0},
		{"test.second=kill", 1, 1},
		{"test.first=kill@3", 3, 2},
		{"test.first=error ; test.second=kill@4;", 4, 4},
	} {
		out, counts, err := child(t, c.spec)
		if !killed(err) {
			t.Errorf("%s: ended with %v, want SIGKILL\n%s", c.spec, err, out)
		}
		want := map[Point]int{first: c.first}
		if c.second > 0 {
			want[second] = c.second
		}
		if diff := cmp.Diff(want, counts); diff != "" {
			t.Errorf("%s: hits (-want +got)\n%s", c.spec, diff)
		}
		if after := fmt.Sprintf("round %d second", c.second+1); c.second < c.first && strings.Contains(out, after) {
			t.Errorf("%s: went on after the kill:\n%s", c.spec, out)
		}
	}
}

// A stopped process stands at the point until it is woken, and then goes on.
func TestStop(t *testing.T) {
	log := filepath.Join(t.TempDir(), "hits")
	c := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
	c.Env = append(os.Environ(), "FAILPOINT_CHILD=1", "GORACE=atexit_sleep_ms=0", "METE_FAILPOINT=test.second=stop@4", "METE_FAILPOINT_LOG="+log)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	deadline := time.Now().Add(20 * time.Second)
	for stat := ""; !strings.Contains(stat, ") T "); { // the state stands behind the program's name
		if time.Now().After(deadline) {
			_ = c.Process.Kill() // it may have ended
			t.Fatalf("the process does not stop: %s, %v", stat, <-ended)
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		stat = string(b)
		time.Sleep(time.Millisecond)
	}
	counts, err := Counts(log)
	if err != nil || counts[first] != 4 || counts[second] != 4 {
		t.Errorf("stopped at %v (%v), want the fourth hit", counts, err)
	}
	if err := c.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("woken, the process ended with %v", err)
	}
	if counts, err := Counts(log); err != nil || counts[second] != 10 {
		t.Errorf("woken, it came to %v (%v), want 10 rounds", counts, err)
	}
}

func TestErrorAndCounts(t *testing.T) {
	for spec, want := range map[string]int{"": 0, "test.first=error": 1, "test.first=error@7": 1, "test.first=error@*": 10, "test.other=kill": 0} {
		out, counts, err := child(t, spec)
		if err != nil {
			t.Errorf("%s: %v\n%s", spec, err, out)
		}
		if got := strings.Count(out, "test.first: "+ErrInjected.Error()); got != want {
			t.Errorf("%s: %d errors, want %d\n%s", spec, got, want, out)
		}
		if diff := cmp.Diff(map[Point]int{first: 10, second: 10}, counts); diff != "" {
			t.Errorf("%s: hits (-want +got)\n%s", spec, diff)
		}
	}
}

func TestAWrongSpecFailsEveryHit(t *testing.T) {
	for _, spec := range []string{"a", "=kill", "a=crash", "a=kill@0", "a=kill@x", "a=sleep", "a=sleep:soon", "a=kill:1s", "a=stop:1s", "a=kill;a=error"} {
		if p, err := read(spec, ""); err == nil || p != nil || !strings.HasPrefix(err.Error(), "METE_FAILPOINT ") {
			t.Errorf("%q was read as %v, %v", spec, p, err)
		}
	}
	out, _, err := child(t, "test.first=kil")
	if err != nil || strings.Count(out, `METE_FAILPOINT "test.first=kil": action "kil"`) != 20 {
		t.Errorf("%v, want 20 hits that say what is wrong\n%s", err, out)
	}
}

func TestSleep(t *testing.T) {
	p, err := read("a=sleep:30ms@2", "")
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []time.Duration{0, 30 * time.Millisecond} {
		start := time.Now()
		if err := p.hit("a"); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < want {
			t.Errorf("hit %d took %v, want at least %v", n+1, took, want)
		}
	}
}

func TestUnarmed(t *testing.T) {
	if Armed() != "" || os.Getenv("METE_FAILPOINT_LOG") != "" {
		t.Skip("the environment of this run arms fail-points")
	}
	if err := first.Hit(); err != nil {
		t.Error(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = first.Hit() }); n != 0 {
		t.Errorf("an unarmed hit allocates %v times", n)
	}
}

func BenchmarkUnarmed(b *testing.B) {
	for b.Loop() {
		_ = first.Hit()
	}
}

func TestDeclared(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("billing/close.go", `package billing
import "mete/internal/failpoint"
const (
	afterManifest  failpoint.Point = "close.after-manifest"
	other string = "close.no-point"
)
var p = failpoint.Point("close.in-a-var")
func f() error { _ = other; _ = afterManifest.Hit(); return failpoint.Hit("close.after-statement") }
`)
	write("billing/close_test.go", `package billing
const only failpoint.Point = "close.only-in-a-test"
`)
	write("testdata/x.go", `not Go`)
	got, err := Declared(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []Declaration{
		{"close.after-manifest", "billing/close.go:4"},
		{"close.after-statement", "billing/close.go:8"},
		{"close.in-a-var", "billing/close.go:7"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("points (-want +got)\n%s", diff)
	}

	write("payouts/submit.go", `package payouts
func g() error { return failpoint.Hit("close.in-a-var") }
`)
	if got, err := Declared(root); err == nil || !strings.Contains(err.Error(), "payouts/submit.go:2") {
		t.Errorf("one name in two places: %v, %v", got, err)
	}
}
