//go:build !race

package main

import (
	"bytes"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestDemo runs the demonstration as people do, twice: the same seed makes the same
// statements. Under the race detector it would take minutes, so ./check runs it apart.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("the demonstration takes a while")
	}
	first := runDemonstration(t)
	if again := runDemonstration(t); again != first {
		t.Errorf("the same seed made statements with the digest %s, then %s", first, again)
	}
}

var (
	checkedLine = regexp.MustCompile(`(?m)^  (ok |BAD)  .* difference (\d+)`)
	digestLine  = regexp.MustCompile(`digest of all statements ([0-9a-f]{64})`)
)

func runDemonstration(t *testing.T) (digest string) {
	t.Helper()
	begun := time.Now()
	var out, errs bytes.Buffer
	dir := filepath.Join(t.TempDir(), "demo")
	e := &env{in: strings.NewReader(""), out: &out, err: &errs, cwd: t.TempDir(), now: time.Now, getenv: func(string) string { return "" }}
	if code := run(t.Context(), e, []string{"demo", "--seed", "1", "--dir", dir}); code != exitOK {
		t.Fatalf("exit code %d: %s\n%s", code, errs.String(), out.String())
	}
	checks := checkedLine.FindAllStringSubmatch(out.String(), -1)
	if len(checks) < 6 {
		t.Errorf("%d checks, want at least 6:\n%s", len(checks), out.String())
	}
	for _, c := range checks {
		if c[1] != "ok " || c[2] != "0" {
			t.Errorf("%s", c[0])
		}
	}
	if !strings.Contains(out.String(), "\ndifference 0\n") {
		t.Error("the reconciliation shows a difference")
	}
	m := digestLine.FindStringSubmatch(out.String())
	if m == nil {
		t.Fatalf("no digest of the statements:\n%s", out.String())
	}
	t.Logf("%d checks, difference 0 in each; digest %.16s…; took %s", len(checks), m[1], time.Since(begun).Round(time.Second/10))
	return m[1]
}
