package billing_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mete/billing"
	"mete/metering"
)

// reconcile compares once and moves the checkpoint, as mete reconcile does.
func (w *world) reconcile(t *testing.T) billing.Reconciliation {
	t.Helper()
	c := w.reconciler()
	r, err := c.Reconcile(t.Context())
	if err == nil {
		err = c.MoveCheckpoint(t.Context(), &r, closedAt(jan))
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// expire takes the messages up to a cutoff out of the stream.
func (w *world) expire(upTo metering.Cutoff) (gone int) {
	before := len(w.fed)
	w.fed = slices.DeleteFunc(slices.Clone(w.fed), func(m metering.PartitionCutoff) bool { return m.Sequence <= upTo.Of(m.Partition) })
	return before - len(w.fed)
}

func wantFinding(t *testing.T, r billing.Reconciliation, words ...string) {
	t.Helper()
	for _, f := range r.Findings {
		found := true
		for _, word := range words {
			found = found && strings.Contains(f.String(), word)
		}
		if found {
			return
		}
	}
	t.Errorf("no finding says %q: %v", words, r.Findings)
}

// TestCheckpoint: what was reconciled may expire, and figures stay as they were; what was
// not is missed, by partition and position.
func TestCheckpoint(t *testing.T) {
	w := testWorld(t)
	if r := w.reconcile(t); r.Difference() > 0 || r.Expired != 0 {
		t.Fatalf("an empty marketplace: %+v", r)
	}
	deliverJanuary(t, w)
	first := w.reconcile(t)
	if first.Difference() > 0 || !first.Moved || first.Checkpoint.Messages != int64(len(w.fed)) {
		t.Fatalf("January: %+v", first)
	}
	if again := w.reconcile(t); again.Moved || again.Checkpoint.Messages != first.Checkpoint.Messages {
		t.Errorf("nothing came, and the checkpoint moved: %+v", again.Checkpoint)
	}
	january := w.copy(t)
	defer january.remove()

	gone := w.expire(first.Checkpoint.Cutoff)
	after := w.reconcile(t)
	if after.Difference() > 0 || after.Expired != int64(gone) || gone == 0 {
		t.Errorf("%d messages expired: %d are told, %v", gone, after.Expired, after.Findings)
	}
	if !slices.Equal(after.Balances, slices.Concat(first.Balances[:4], after.Balances[4:6], first.Balances[6:])) {
		t.Errorf("figures changed by expiry:\n%v\n%v", first.Balances, after.Balances)
	}
	deliverFebruary(t, w)
	all := w.copy(t) // its stream has all of February
	defer all.remove()
	second := w.reconcile(t)
	if second.Difference() > 0 || !second.Moved || second.Checkpoint.Messages != first.Checkpoint.Messages+2 {
		t.Errorf("February: %+v", second)
	}
	if err := w.reconciler().CountAll(t.Context(), &second); err != nil || second.Difference() > 0 {
		t.Errorf("all that the stream has: %v, %v", err, second.Findings)
	}

	// Lost after it was stored, before it was reconciled.
	lost := all.fed[len(all.fed)-1]
	all.expire(metering.Cutoff{{Partition: lost.Partition, Sequence: lost.Sequence}})
	r := all.reconcile(t)
	wantFinding(t, r, "messages expired", fmt.Sprintf("partition %d", lost.Partition), fmt.Sprintf("%d to %d are gone", lost.Sequence, lost.Sequence))
	wantFinding(t, r, "messages: in the stream against seen by the store")
	if r.Moved || r.Checkpoint.Messages != first.Checkpoint.Messages {
		t.Errorf("the checkpoint moved over a message that was lost: %+v", r.Checkpoint)
	}

	// A stream made anew has a checkpoint of its own.
	c := w.reconciler()
	c.Totals = anew{w.fed}
	if r, err := c.Reconcile(t.Context()); err != nil || !r.Checkpoint.IsZero() || r.Difference() == 0 {
		t.Errorf("another stream: %v, %+v", err, r)
	}

	// January's store under February's books.
	w.close()
	for _, name := range []string{eventsFile, eventsFile + "-wal", eventsFile + "-shm"} {
		_ = os.Remove(filepath.Join(w.dir, name))
	}
	january.close()
	b, err := os.ReadFile(filepath.Join(january.dir, eventsFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, eventsFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	older, err := openWorld(t.Context(), w.dir)
	if err != nil {
		t.Fatal(err)
	}
	older.fed = w.fed
	w.db, w.events, w.closer, w.catalogue = older.db, older.events, older.closer, older.catalogue
	r = w.reconcile(t)
	wantFinding(t, r, "checkpoint: partition", "restored from an older copy")
	if r.Moved {
		t.Error("a store behind the checkpoint moved it")
	}
}

type anew struct{ fed }

func (anew) Name() string { return "usage-2" }

// TestCheckpointMutants alters a checkpoint up to which everything has expired, or
// nothing has: then one that is gone does no harm, since all is counted again.
func TestCheckpointMutants(t *testing.T) {
	base := testWorld(t)
	deliverJanuary(t, base)
	base.reconcile(t)
	deliverFebruary(t, base)
	kept := base.reconcile(t).Checkpoint
	sound := base.copy(t)
	defer sound.remove()
	sound.expire(kept.Cutoff)
	for _, w := range []*world{base, sound} {
		if r := w.reconcile(t); r.Difference() > 0 {
			t.Fatalf("nothing is wrong, and it finds %v", r.Findings)
		}
	}
	guards := []string{`DROP TRIGGER checkpoints_no_update`, `DROP TRIGGER checkpoints_no_delete`}
	alter := func(path, value string) string {
		return fmt.Sprintf(`UPDATE checkpoints SET content = json_set(content, '%s', json_extract(content, '%s') %s) WHERE number = 2`, path, path, value)
	}
	for _, m := range []struct {
		name, sql string
		rehash    bool
		sound     bool // while nothing has expired
	}{
		{"row deleted", `DELETE FROM checkpoints WHERE number = 2`, false, true},
		{"all rows deleted", `DELETE FROM checkpoints`, false, true},
		{"content altered", alter("$.at", "|| 'x'"), false, false},
		{"position back", alter("$.cutoff[0].sequence", "- 1"), true, false},
		{"position on", alter("$.cutoff[0].sequence", "+ 1"), true, false},
		{"position and messages back", strings.Replace(alter("$.cutoff[0].sequence", "- 1"), "content = json_set(content", fmt.Sprintf("content = json_set(json_set(content, '$.messages', %d)", kept.Messages-1), 1), true, false},
		{"fewer messages", alter("$.messages", "- 1"), true, false},
		{"more messages", alter("$.messages", "+ 1"), true, false},
		{"fewer events", alter("$.announced", "- 1"), true, false},
		{"more events", alter("$.announced", "+ 1"), true, false},
		{"of another stream", `UPDATE checkpoints SET stream = 'other'`, false, true},
		{"an older one doubled as the newest", `INSERT INTO checkpoints SELECT stream, 3, content, digest FROM checkpoints WHERE number = 1`, false, true},
	} {
		for _, expired := range []bool{true, false} {
			if !expired && m.sound {
				continue
			}
			t.Run(fmt.Sprintf("%s, all expired %v", m.name, expired), func(t *testing.T) {
				w := base.copy(t)
				defer w.remove()
				if expired {
					w.expire(kept.Cutoff)
				}
				if n := w.exec(t, relationalFile, append(slices.Clone(guards), m.sql)...); n == 0 {
					t.Fatal("the mutant changed no row")
				}
				if m.rehash {
					w.rehashCheckpoint(t, 2)
				}
				r := w.reconcile(t)
				if r.Difference() == 0 || r.Moved {
					t.Fatalf("reconcile says %d differences, moved %v", r.Difference(), r.Moved)
				}
				t.Logf("%-45s %s", m.name, clip(r.Findings[0].String(), 160))
			})
		}
	}
	if w := base.copy(t); w.exec(t, relationalFile) == 0 {
		defer w.remove()
		db, err := sql.Open("sqlite", filepath.Join(w.dir, relationalFile))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for _, statement := range []string{`UPDATE checkpoints SET content = 'x'`, `DELETE FROM checkpoints`} {
			if _, err := db.Exec(statement); err == nil {
				t.Errorf("%s: the guard let it pass", statement)
			}
		}
	}
}

// rehashCheckpoint gives a checkpoint the digest of what it says now.
func (w *world) rehashCheckpoint(t *testing.T, number int) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(w.dir, relationalFile))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var body string
	if err := db.QueryRow(`SELECT content FROM checkpoints WHERE number = $1`, number).Scan(&body); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(body))
	if _, err := db.Exec(`UPDATE checkpoints SET digest = $1 WHERE number = $2`, hex.EncodeToString(sum[:]), number); err != nil {
		t.Fatal(err)
	}
}
