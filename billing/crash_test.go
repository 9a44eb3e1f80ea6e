package billing_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mete/internal/failpoint"
	"mete/internal/testdata"
	"mete/ledger"
	"mete/period"
)

// crashDir names the folder of a marketplace whose February a process closes and
// issues, to be killed on the way.
const crashDir = "METE_TEST_CRASH_DIR"

// crashChild closes and issues February in the folder.
func crashChild() int {
	ctx := context.Background()
	w, err := openWorld(ctx, os.Getenv(crashDir))
	if err == nil {
		defer w.close()
		_, err = w.closer.Close(ctx, closeRequest(feb))
	}
	if err == nil {
		_, err = w.closer.Issue(ctx, issueRequest(feb))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	return 0
}

// runChild is a process that closes and issues February; it reports whether it was
// killed.
func runChild(t *testing.T, dir string, env ...string) (killed bool) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), append(env, crashDir+"="+dir)...)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false
	case errors.As(err, &exit) && exit.ExitCode() == -1:
		return true
	}
	t.Fatalf("child: %v\n%s", err, out)
	return false
}

// TestKilledAnywhere kills the process at every fail-point of closing and issuing, at
// its first, second and last hit, and closes again: the month must be as if nothing
// had happened.
func TestKilledAnywhere(t *testing.T) {
	base := testWorld(t)
	deliverJanuary(t, base)
	base.closeMonth(t, jan)
	base.issueMonth(t, jan)
	deliverFebruary(t, base)

	log := filepath.Join(t.TempDir(), "hits.txt")
	undisturbed := base.copy(t)
	defer undisturbed.remove()
	undisturbed.close()
	if runChild(t, undisturbed.dir, "METE_FAILPOINT_LOG="+log) {
		t.Fatal("killed with nothing armed")
	}
	undisturbed.reopen(t)
	undisturbed.checkAll(t)
	want := undisturbed.state(t)
	hits, err := failpoint.Counts(log)
	if err != nil {
		t.Fatal(err)
	}
	declared, err := failpoint.Declared(testdata.ModuleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range declared {
		if !strings.HasPrefix(string(d.Name), "close.") && !strings.HasPrefix(string(d.Name), "issue.") {
			continue
		}
		n := hits[d.Name]
		t.Logf("%-26s hit %d times, declared at %s", d.Name, n, d.At)
		if n == 0 {
			t.Errorf("%s is never reached: its crash is not tested", d.Name)
			continue
		}
		at := map[int]bool{1: true, min(2, n): true, n: true}
		for k := range maps.Keys(at) {
			t.Run(fmt.Sprintf("%s@%d", d.Name, k), func(t *testing.T) {
				w := base.copy(t)
				defer w.remove()
				w.close()
				if !runChild(t, w.dir, fmt.Sprintf("METE_FAILPOINT=%s=kill@%d", d.Name, k)) {
					t.Fatal("the process was not killed")
				}
				w.reopen(t)
				w.wholeStatements(t, want)
				w.close()
				if runChild(t, w.dir) {
					t.Fatal("killed with nothing armed")
				}
				w.reopen(t)
				w.checkAll(t)
				if got := w.state(t); !maps.Equal(got, want) {
					t.Errorf("after the crash: %v\nundisturbed: %v", got, want)
				}
			})
		}
	}
}

// reopen opens the stores again that close closed.
func (w *world) reopen(t tester) {
	t.Helper()
	r, err := openWorld(context.Background(), w.dir)
	if err != nil {
		t.Fatal(err)
	}
	w.db, w.events, w.catalogue, w.closer = r.db, r.events, r.catalogue, r.closer
}

// state is the digest of everything closes made: statements, pricings and the books.
func (w *world) state(t tester) map[string]string {
	t.Helper()
	ctx := context.Background()
	out := w.digests(t)
	for _, m := range []period.Month{jan, feb} {
		priced, err := w.db.PricedBy(ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range priced {
			out["priced "+p.Close.String()+" "+p.Month.String()+" "+p.Group] = p.Input + " " + p.Result.Digest()
		}
		cards, err := w.db.Scorecards(ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		out["scorecards "+m.String()] = mustJSON(cards)
		status, err := w.db.Month(ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		out["month "+m.String()] = mustJSON(status)
	}
	for e, err := range w.db.Entries(ctx, ledger.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		out["entry "+e.ID] = mustJSON(e)
	}
	return out
}

// wholeStatements fails the test when a statement stands without all of its entries,
// or an entry of a statement without it.
func (w *world) wholeStatements(t tester, want map[string]string) {
	t.Helper()
	have := w.state(t)
	for k, v := range have {
		if strings.HasPrefix(k, "month ") || strings.HasPrefix(k, "scorecards ") {
			continue
		}
		digest, _, _ := strings.Cut(v, " ")
		if wanted, _, _ := strings.Cut(want[k], " "); digest != wanted {
			t.Errorf("%s stands half way as %s, want %s", k, v, want[k])
		}
	}
	rs, err := w.db.Statements(context.Background(), feb, "")
	if err != nil {
		t.Fatal(err)
	}
	owned := map[string]bool{}
	for _, r := range rs {
		entries, err := r.Entries()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			owned[e.ID] = true
			if have["entry "+e.ID] == "" {
				t.Errorf("statement %s stands without its entry %s", r.ID, e.ID)
			}
		}
		if e := r.IssueEntry(r.IssuedOn, r.BookedOn); e != nil && (have["entry "+e.ID] != "") != (r.State == "issued") {
			t.Errorf("statement %s is %s, its issue entry says otherwise", r.ID, r.State)
		}
	}
	for k := range have {
		if id, ok := strings.CutPrefix(k, "entry statement:"); ok && strings.HasSuffix(id, "2026-02") && !owned["statement:"+id] {
			t.Errorf("entry %s stands without its statement", id)
		}
	}
}
