//go:build !race

package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestDemo runs the demonstration as people do, then as a program does: the same seed
// makes the same statements. Under the race detector it would take minutes, so ./check
// runs it apart.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("the demonstration takes a while")
	}
	begun := time.Now()
	text := runDemonstration(t)
	checks := checkedLine.FindAllStringSubmatch(text, -1)
	if len(checks) < 7 {
		t.Errorf("%d checks, want at least 7:\n%s", len(checks), text)
	}
	for _, c := range checks {
		if c[1] != "ok " || c[2] != "0" {
			t.Errorf("%s", c[0])
		}
	}
	for _, want := range []string{"\ndifference 0\n", " file: nginx, traefik, caddy ", " HTTP: billing ", " NATS: crm, registry, servicedesk "} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not show %q:\n%s", want, text)
		}
	}
	digest := digestLine.FindStringSubmatch(text)
	if digest == nil {
		t.Fatalf("no digest of the statements:\n%s", text)
	}
	t.Logf("%d checks, difference 0 in each; digest %.16s…; took %s", len(checks), digest[1], time.Since(begun).Round(time.Second/10))

	var again demoReport
	if err := json.Unmarshal([]byte(runDemonstration(t, "--json")), &again); err != nil {
		t.Fatal(err)
	}
	if again.Digest != digest[1] {
		t.Errorf("the same seed made statements with the digest %s, then %s", digest[1], again.Digest)
	}
	if len(again.Checks) != len(checks) || len(again.Sent) != 9 || again.Reconciliation.Difference() != 0 {
		t.Errorf("--json: %+v", again)
	}
	d := &desk{t: t, dir: again.Data, now: "2026-10-25T09:00:00Z"}
	if a := d.want(exitOK, "event", "crm", "lead-1-qualified"); !strings.Contains(a.out, "accepted, metered") {
		t.Errorf("a lead that was published over NATS: %s", a.out)
	}
}

var (
	checkedLine = regexp.MustCompile(`(?m)^  (ok |BAD)  .* difference (-?\d+)`)
	digestLine  = regexp.MustCompile(`digest of all statements ([0-9a-f]{64})`)
)

func runDemonstration(t *testing.T, flags ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	dir := filepath.Join(t.TempDir(), "demo")
	e := &env{in: strings.NewReader(""), out: &out, err: &errs, cwd: t.TempDir(), now: time.Now, getenv: func(string) string { return "" }}
	if code := run(t.Context(), e, append([]string{"demo", "--seed", "1", "--dir", dir}, flags...)); code != exitOK {
		t.Fatalf("exit code %d: %s\n%s", code, errs.String(), out.String())
	}
	return out.String()
}
