package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mete/metering"
	"mete/metering/meteringtest"
	"mete/partner"
)

func TestRedactor(t *testing.T) {
	meteringtest.TestRedactor(t, open)
}

// heldBy reports in which of the store's files a text lies, as bytes.
func heldBy(t *testing.T, path, text string) []string {
	t.Helper()
	var held []string
	for _, name := range []string{path, path + "-wal"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(text)) {
			held = append(held, filepath.Base(name))
		}
	}
	return held
}

// secretText is a value that lies where it can in a store that was filled in many
// blocks: in full rows, in cells among many, in conflicts, in refused forms.
const secretText = "zz-jane-doe-zz"

func secretive(t *testing.T, s *Store) []metering.Key {
	t.Helper()
	ctx := context.Background()
	if _, err := s.Attach(ctx, "usage", 3); err != nil {
		t.Fatal(err)
	}
	f := meteringtest.NewFeed()
	random := rand.New(rand.NewPCG(7, 7))
	var keys []metering.Key
	for block := range 40 {
		var events []metering.Event
		for i := range 50 {
			events = append(events, meteringtest.Call(fmt.Sprint("e-", block, "-", i), "scheduler", day, func(e *metering.Event) {
				e.Customer = "zz-" + someID(random) // around the secrets in the index of cells
				e.Data.Operation = "op-" + string(someID(random))
			}))
		}
		secret := meteringtest.Call(fmt.Sprint("secret-", block), "scheduler", day, func(e *metering.Event) {
			e.Customer = "zz-" + someID(random) + secretText
			e.Data.Operation, e.Data.Reference = "op-"+secretText, "ref-"+secretText
		})
		other := secret
		other.Data.Deal = "deal-" + secretText
		if _, err := s.Append(ctx, f.Block(block%3, append(events, secret, other))); err != nil {
			t.Fatal(err)
		}
		if err := s.Refuse(ctx, []metering.Refusal{{ID: fmt.Sprint("refused-", block), Class: metering.Unusable, Reason: metering.UnknownApp,
			Detail: "of " + secretText, Event: metering.AppendCanonical(nil, secret), ReceivedAt: day}}); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, secret.Key())
	}
	return keys
}

func someID(r *rand.Rand) partner.CustomerID {
	return partner.CustomerID(fmt.Sprintf("%08x", r.Uint32()))
}

// secretFields are those that hold secretText.
var secretFields = []string{"subject", "data.operation", "data.reference", "data.deal"}

// proposed are the redactions of all that secretive stores.
func proposed(t *testing.T, s *Store) (ids []string) {
	t.Helper()
	for _, key := range secretive(t, s) {
		for _, field := range secretFields {
			r, err := metering.ProposeRedaction(key, field, "looks like a person", "k.lee", day)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.ProposeRedaction(context.Background(), r); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func approve(t *testing.T, s *Store, ids []string) {
	t.Helper()
	if _, err := s.ApproveRedactions(context.Background(), ids, "r.shah", day); err != nil {
		t.Fatal(err)
	}
}

// TestRedactedBytes: once the redactions are approved, no byte of the value lies in
// the file or its log.
func TestRedactedBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	s := openAt(t, path)
	ids := proposed(t, s)
	if len(heldBy(t, path, secretText)) == 0 {
		t.Fatal("the test looks for nothing: the value is in no file before")
	}
	approve(t, s, ids)
	if held := heldBy(t, path, secretText); len(held) > 0 {
		t.Errorf("the value still lies in %v", held)
	}
	wantSound(t, s)
}

// TestRedactWaitsForReaders: a question that still sees the store as it was keeps its
// pages in the log; that is said, and approving again cuts the log off.
func TestRedactWaitsForReaders(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "events.db")
	s := openAt(t, path)
	ids := proposed(t, s)
	for _, err := range s.Events(ctx, metering.Span{}, metering.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 20*logLook)
		_, err := s.ApproveRedactions(short, ids[:1], "r.shah", day)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "approve again") {
			t.Errorf("approved beside a reader: %v", err)
		}
		break
	}
	approve(t, s, ids)
	if held := heldBy(t, path, secretText); len(held) > 0 {
		t.Errorf("the value still lies in %v", held)
	}
}

// redactFile names the store in which a process that is there to be killed approves.
const redactFile = "METE_TEST_REDACT_FILE"

func redactAll(path string) {
	ctx := context.Background()
	s, err := Open(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	all, err := s.Redactions(ctx)
	var ids []string
	for _, r := range all {
		ids = append(ids, r.ID)
	}
	if err == nil {
		_, err = s.ApproveRedactions(ctx, ids, "r.shah", day)
	}
	fmt.Fprintln(os.Stderr, "not killed:", err)
	os.Exit(3)
}

// TestRedactKilled: killed after the values were overwritten and before the file was
// written anew, approving again does the rest.
func TestRedactKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	ids := proposed(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), redactFile+"="+path, "METE_FAILPOINT="+string(afterOverwrite)+"=kill")
	if out, err := child.CombinedOutput(); child.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child was not killed: %v\n%s", err, out)
	}
	s = openAt(t, path)
	wantSound(t, s)
	rs, err := s.Redactions(context.Background())
	if err != nil || len(rs) != len(ids) || !rs[0].Applied() {
		t.Fatalf("%d redactions, %v", len(rs), err)
	}
	approve(t, s, ids)
	if held := heldBy(t, path, secretText); len(held) > 0 {
		t.Errorf("the value still lies in %v", held)
	}
	wantSound(t, s)
}

// TestRedactionMutants: whatever is changed behind a redaction, the check names it.
func TestRedactionMutants(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct{ statement, want string }{
		"value restored":       {`UPDATE events SET reference = 'ref-zz-jane-doe-zz' WHERE event_id = 'secret-5'`, "is not what it says now, or another field was altered"},
		"another field":        {`UPDATE events SET bytes = bytes + 1 WHERE event_id = 'secret-5'`, "is not what it says now, or another field was altered"},
		"conflict restored":    {`UPDATE conflicts SET event = replace(event, 'redacted:', 'restored:') WHERE place = (SELECT min(place) FROM conflicts)`, "conflict of event secret-"},
		"overwriting forgot":   {`DELETE FROM redacted_rows`, "its content does not have its hash"},
		"one person":           {`UPDATE redactions_approved SET approved_by = 'k.lee'`, "k.lee proposed and approved it"},
		"approval forgot":      {`DELETE FROM redactions_approved WHERE id IN (SELECT id FROM redactions WHERE field = 'subject')`, "names a row of redactions_approved that is not there"},
		"tombstone by hand":    {`UPDATE events SET reference = 'redacted:R-000000000000' WHERE event_id = 'e-1-1'`, "its content does not have its hash"},
		"event deleted":        {`DELETE FROM events WHERE event_id = 'secret-5'`, "no event lies at"},
		"hash of now replaced": {`UPDATE redacted_rows SET content_hash = zeroblob(32)`, "is not what it says now, or another field was altered"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "events.db")
			s := openAt(t, path)
			approve(t, s, proposed(t, s))
			wantSound(t, s)
			raw(t, path, c.statement)
			findings, err := s.Check(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(findings, "\n"); !strings.Contains(all, c.want) {
				t.Errorf("findings:\n%s\nwant %q", all, c.want)
			}
		})
	}
}
