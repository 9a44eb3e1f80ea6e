package payouts_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mete/internal/failpoint"
	"mete/ledger"
	"mete/partner"
	"mete/payouts"
	"mete/payouts/manual"
	"mete/payouts/payoutstest"
	"mete/store"
)

const (
	crashPayouts = 3
	maxReruns    = 3
)

// httpOutbox delivers files to the fake bank.
type httpOutbox string

func (u httpOutbox) Put(ctx context.Context, name string, data []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, string(u)+"/files/"+name, bytes.NewReader(data))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("bank: %s: %s", answer.Status, text)
	}
	return err
}

// deskIn opens the desk of a folder.
func deskIn(ctx context.Context, dir, bank string) (*payouts.Desk, *store.DB, error) {
	db, err := store.Open(ctx, filepath.Join(dir, "mete.db"))
	if err != nil {
		return nil, nil, err
	}
	rail := manual.Rail{Archive: filepath.Join(dir, "archive"), Out: httpOutbox(bank)}
	return &payouts.Desk{Store: db, Books: db, Rails: map[string]payouts.Rail{"manual": rail}}, db, nil
}

// TestCrashChild is the program that is killed: one command, then the end.
func TestCrashChild(t *testing.T) {
	command := os.Getenv("PAYOUTS_CHILD")
	if command == "" {
		return // run by TestCrash, as a process of its own
	}
	dir := os.Getenv("PAYOUTS_DIR")
	desk, db, err := deskIn(t.Context(), dir, os.Getenv("PAYOUTS_BANK"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	switch command {
	case "submit":
		_, err = desk.Submit(t.Context(), payouts.Order{Run: "2026-11-20", By: "m.ortiz", At: payoutstest.At.Add(24 * time.Hour)})
	case "confirm":
		var f *os.File
		if f, err = os.Open(filepath.Join(dir, "bank.csv")); err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, err = manual.ImportConfirmation(t.Context(), desk, f, manual.Import{Name: "bank.csv", Currency: "USD", By: "r.shah", At: payoutstest.At.AddDate(0, 0, 7)})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// child runs a command as a process and reports whether it was killed.
func child(t *testing.T, dir, bank, log, command, spec string) (killed bool) {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
	c.Env = append(os.Environ(), "PAYOUTS_CHILD="+command, "PAYOUTS_DIR="+dir, "PAYOUTS_BANK="+bank, "METE_FAILPOINT="+spec, "METE_FAILPOINT_LOG="+log,
		"GORACE=atexit_sleep_ms=0") // the race detector waits a second at the end of each process
	out, err := c.CombinedOutput()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return true
		}
	}
	t.Fatalf("%s with %q: %v\n%s", command, spec, err, out)
	return false
}

// startBank starts the fake bank over its log and answers its address.
func startBank(t *testing.T, program, log string) (url string, stop func()) {
	t.Helper()
	c := exec.Command(program, "-log", log)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			c.Process.Kill()
			c.Wait()
		}
	}
	t.Cleanup(stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("fake bank: %v", err)
	}
	return strings.TrimSpace(line), stop
}

type report struct {
	Files, Copies               int
	Conflicts, Doubles, Refused []string
	Payments                    map[string]struct {
		Amount string
		Times  int
	}
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", url, answer.Status, err)
	}
	return body
}

// approvedRun makes a folder with a run that is approved and not submitted.
func approvedRun(t *testing.T) (dir string, run payouts.Run) {
	t.Helper()
	dir = tempDir(t)
	desk, db, err := deskIn(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var all []payouts.Candidate
	for i := range crashPayouts {
		id := partner.ID(fmt.Sprintf("partner-%d", i))
		payoutstest.Fund(t, db, "crash:"+string(id), id, payoutstest.USD(fmt.Sprintf("%d.07", 100*(i+1))))
		all = append(all, payoutstest.Candidate(id, "manual", "2026-10"))
	}
	if run, err = desk.Plan(t.Context(), payoutstest.Input("manual", "2026-11-20", all...)); err != nil {
		t.Fatal(err)
	}
	if run, err = desk.Approve(t.Context(), payouts.Approval{Run: run.ID, Content: run.Short(), By: "a.kim", At: payoutstest.At}); err != nil {
		t.Fatal(err)
	}
	return dir, run
}

// tempDir is a folder in memory where there is one: what a killed process has written
// stays with the kernel, so nothing here needs a disk that is slow to flush.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "mete-crash-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := tempDir(t)
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(to, "archive"), 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

// points are the fail-points that this package, its rail and its store declare.
func points(t *testing.T) []failpoint.Point {
	t.Helper()
	var all []failpoint.Point
	for _, root := range []string{".", "../store"} {
		found, err := failpoint.Declared(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range found {
			if strings.HasPrefix(string(d.Name), "payout.") {
				all = append(all, d.Name)
			}
		}
	}
	return all
}

// TestCrash kills the program at every fail-point, at every hit of it, then runs the
// same command again. The oracle is the bank's own log of what it received: every
// payout exactly once, and the books say so too.
func TestCrash(t *testing.T) {
	program := filepath.Join(t.TempDir(), "fakebank")
	if out, err := exec.Command("go", "build", "-o", program, "mete/cmd/fakebank").CombinedOutput(); err != nil {
		t.Fatalf("build the fake bank: %v\n%s", err, out)
	}
	approved, run := approvedRun(t)
	log := filepath.Join(t.TempDir(), "hits")
	all := points(t)
	if len(all) < 10 {
		t.Fatalf("only %d fail-points: %v", len(all), all)
	}
	killed := map[failpoint.Point]int{}
	hits := 2 * crashPayouts
	if testing.Short() {
		hits = 1
	}
	for _, point := range all {
		for hit := 1; hit <= hits; hit++ {
			kills := crash(t, program, approved, run, log, fmt.Sprintf("%s=kill@%d", point, hit))
			killed[point] += kills
			if kills == 0 {
				break // not hit so often
			}
		}
	}
	counts, err := failpoint.Counts(log)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	for _, p := range all {
		t.Logf("%-32s %5d hits, killed %d times", p, counts[p], killed[p])
		if counts[p] == 0 || killed[p] == 0 {
			t.Errorf("fail-point %s was never hit or never killed at", p)
		}
	}
}

// crash takes an approved run to its end with one kill in each command, if it is hit.
func crash(t *testing.T, program, approved string, run payouts.Run, log, spec string) (kills int) {
	t.Helper()
	dir := copyDir(t, approved)
	bank, stop := startBank(t, program, filepath.Join(dir, "bank.log"))
	defer stop()
	finish := func(command string) {
		if !child(t, dir, bank, log, command, spec) {
			return
		}
		kills++
		inOrder(t, dir)
		stop() // the bank forgets nothing either
		bank, stop = startBank(t, program, filepath.Join(dir, "bank.log"))
		for range maxReruns {
			if !child(t, dir, bank, log, command, "") {
				return
			}
		}
		t.Fatalf("%s: %s does not come to an end", spec, command)
	}
	finish("submit")
	atBank(t, spec, bank, run)
	confirmed := get(t, bank+"/confirmations?state=paid")
	if err := os.WriteFile(filepath.Join(dir, "bank.csv"), confirmed, 0o644); err != nil {
		t.Fatal(err)
	}
	finish("confirm")
	for _, command := range []string{"submit", "confirm"} { // once more changes nothing
		child(t, dir, bank, log, command, "")
	}
	atBank(t, spec, bank, run)
	inBooks(t, spec, dir, run)
	return kills
}

// inOrder wants what the killed program left to agree with itself.
func inOrder(t *testing.T, dir string) {
	t.Helper()
	desk, db, err := deskIn(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	payoutstest.Sound(t, desk)
}

// atBank asks the bank what it did.
func atBank(t *testing.T, spec, bank string, run payouts.Run) {
	t.Helper()
	var r report
	if err := json.Unmarshal(get(t, bank+"/report"), &r); err != nil {
		t.Fatal(err)
	}
	if r.Files != 1 || len(r.Conflicts)+len(r.Doubles)+len(r.Refused) > 0 || len(r.Payments) != len(run.Payouts) {
		t.Errorf("%s: the bank reports %+v", spec, r)
	}
	for _, p := range run.Payouts {
		if got := r.Payments[p.ID]; got.Times != 1 || got.Amount != p.Amount.Plain() {
			t.Errorf("%s: payout %s over %s: the bank paid %q %d times", spec, p.ID, p.Amount, got.Amount, got.Times)
		}
	}
}

// inBooks compares the books with what the bank did.
func inBooks(t *testing.T, spec, dir string, run payouts.Run) {
	t.Helper()
	inOrder(t, dir)
	_, db, err := deskIn(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r, err := db.PayoutRun(t.Context(), run.ID)
	if err != nil || r.State != payouts.RunSettled {
		t.Errorf("%s: run is %s, %v", spec, r.State, err)
	}
	all, err := db.Balances(t.Context(), ledger.Filter{Currency: "USD"})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		want := int64(0)
		switch b.Account {
		case ledger.Cash("manual"):
			want = -run.Totals.ToPay.Minor
		case ledger.Opening():
			want = run.Totals.ToPay.Minor
		}
		if b.Amount.Minor != want {
			t.Errorf("%s: %s holds %s, want %d minor units", spec, b.Account, b.Amount, want)
		}
	}
}

// TestBankDown submits while the bank cannot be reached: unknown, then done.
func TestBankDown(t *testing.T) {
	program := filepath.Join(t.TempDir(), "fakebank")
	if out, err := exec.Command("go", "build", "-o", program, "mete/cmd/fakebank").CombinedOutput(); err != nil {
		t.Fatalf("build the fake bank: %v\n%s", err, out)
	}
	approved, run := approvedRun(t)
	dir := copyDir(t, approved)
	bank, stop := startBank(t, program, filepath.Join(dir, "bank.log"))
	stop()
	order := payouts.Order{Run: run.ID, By: "m.ortiz", At: payoutstest.At}
	desk, db, err := deskIn(t.Context(), dir, bank)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := desk.Submit(t.Context(), order)
	if !errors.Is(err, payouts.ErrUnknown) || len(s.Unknown) != crashPayouts {
		t.Fatalf("bank down: %+v, %v", s, err)
	}
	bank, _ = startBank(t, program, filepath.Join(dir, "bank.log"))
	desk.Rails["manual"] = manual.Rail{Archive: filepath.Join(dir, "archive"), Out: httpOutbox(bank)}
	if s, err = desk.Submit(t.Context(), order); err != nil || len(s.Accepted) != crashPayouts {
		t.Fatalf("bank up: %+v, %v", s, err)
	}
	order.Copy = true
	if s, err = desk.Submit(t.Context(), order); err != nil || len(s.Batches) != 1 {
		t.Fatalf("a copy: %+v, %v", s, err)
	}
	var r report
	if err := json.Unmarshal(get(t, bank+"/report"), &r); err != nil {
		t.Fatal(err)
	}
	if r.Copies != 1 {
		t.Errorf("%d copies, want the one asked for", r.Copies)
	}
	atBank(t, "bank down", bank, run)
}
