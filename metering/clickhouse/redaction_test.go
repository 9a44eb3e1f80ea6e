package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"mete/internal/chtest"
	"mete/metering"
	"mete/metering/meteringtest"
)

func TestRedactor(t *testing.T) {
	reopen := reopener(t)
	meteringtest.TestRedactor(t, func(t *testing.T) *Store {
		s := reopen(t)
		s.goneWithin = 0 // see TestRedactedBytes
		return s
	})
}

// secretText is a value that stands wherever a text of an event can.
const secretText = "zz-jane-doe-zz"

// secretFields are those that hold it.
var secretFields = []string{"subject", "data.operation", "data.reference", "data.dimensions.room", "data.deal"}

// secretive are blocks whose events and conflicts hold the secret, each of another key.
func secretive(f *meteringtest.Feed, n int) (bs []metering.Block, keys []metering.Key) {
	for i := range n {
		secret := meteringtest.Call(fmt.Sprint("secret-", i), "scheduler", day, func(e *metering.Event) {
			e.Customer, e.Data.Operation, e.Data.Reference = "c-"+secretText, "op-"+secretText, "ref-"+secretText
			e.Data.Dimensions = map[string]string{"floor": "2/3 <b>", "room": secretText + `"\`}
		})
		other := secret
		other.Data.Deal, other.Data.Amount, other.Data.Currency = "deal-"+secretText, meteringtest.Decimal("12.34"), "USD"
		bs = append(bs, f.Block(i%partitions, append(meteringtest.Calls(fmt.Sprint("c", i), 5, "scheduler", day), secret, other)))
		last := bs[len(bs)-1].Messages[0].Events
		keys = append(keys, last[len(last)-1].Key)
	}
	return bs, keys
}

// proposeAll proposes to overwrite every secret of the keys, and of a refusal of the
// first.
func proposeAll(t *testing.T, s *Store, keys []metering.Key) (ids []string) {
	t.Helper()
	ctx := context.Background()
	f, err := s.Find(ctx, keys[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Refuse(ctx, []metering.Refusal{{ID: "refused", Class: metering.Unusable, Reason: metering.UnknownApp, Detail: "of " + secretText,
		Event: metering.AppendCanonical(nil, f.Event.Event), ReceivedAt: day}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Replayed(ctx, []metering.Replay{{Refusal: "refused", By: "k.lee", At: day, Class: metering.Unusable, Reason: metering.UnknownApp, Detail: "of " + secretText}}); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		for _, field := range secretFields {
			r, err := metering.ProposeRedaction(k, field, "looks like a person", "k.lee", day)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.ProposeRedaction(ctx, r); err != nil {
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

// secretsIn counts the rows that hold the secret, whether they count or not.
func secretsIn(t *testing.T, s *Store) (n uint64) {
	t.Helper()
	if err := s.each(context.Background(), `SELECT
		(SELECT count() FROM events WHERE position(concat(event_id, customer, operation, unit, deal, lead, refers_to, reference, region, dimensions), '`+secretText+`') > 0)
		+ (SELECT count() FROM conflicts WHERE position(event, '`+secretText+`') > 0)
		+ (SELECT count() FROM refusals WHERE position(concat(detail, ifNull(event, '')), '`+secretText+`') > 0)
		+ (SELECT count() FROM replays WHERE position(detail, '`+secretText+`') > 0)`, func(scan func(...any) error) error { return scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// Once redactions are approved no row holds the value, no part that others replaced is
// left on disk, and no text that the engine keeps says it.
func TestRedactedBytes(t *testing.T) {
	ctx := context.Background()
	s := open(t)
	attach(t, s)
	bs, keys := secretive(newFeed(), 4)
	for _, b := range bs {
		if _, err := s.Append(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	before, err := s.Counts(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	ids := proposeAll(t, s, keys)
	if same, err := s.SameValue(ctx, keys[0], "data.dimensions.room"); err != nil || len(same) != len(keys)-1 {
		t.Errorf("events with the same value: %v, %v", same, err)
	}
	if secretsIn(t, s) != uint64(2*len(keys)+2) {
		t.Fatal("the test looks for nothing: the value is not where it must be before")
	}
	approve(t, s, ids)
	if n := secretsIn(t, s); n != 0 {
		t.Errorf("%d rows hold the value", n)
	}
	if err := s.each(ctx, `SELECT 'part', name FROM system.parts WHERE NOT active AND database = currentDatabase() AND `+oneOf("table", redactedTables)+`
		 UNION ALL SELECT 'mutation', command FROM system.mutations WHERE database = currentDatabase() AND (NOT is_done OR position(command, '`+secretText+`') > 0)`, func(scan func(...any) error) error {
		var what, name string
		err := scan(&what, &name)
		t.Errorf("left: %s %s", what, name)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	f, err := s.Find(ctx, keys[1])
	if err != nil || f.Event.Data.Dimensions["floor"] != "2/3 <b>" || f.Conflicts[0].Data.Amount.String() != "12.34" || f.Conflicts[0].Data.Dimensions["floor"] != "2/3 <b>" {
		t.Errorf("beside the values: %+v, %v", f, err)
	}
	if after, err := s.Counts(ctx, nil); err != nil || after != before {
		t.Errorf("counts were %+v, are %+v, %v", before, after, err)
	}
	wantSound(t, s)
}

// Rows that were stored under an epoch that ended, and that are stored again from the
// stream after the store was put back or under another owner, do not bring a value back.
func TestRedactedStaysWhenStoredAgain(t *testing.T) {
	ctx := context.Background()
	s := open(t)
	s.goneWithin = 0
	attach(t, s)
	bs, keys := secretive(newFeed(), 3)
	for _, b := range bs {
		if _, err := s.Append(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	approve(t, s, proposeAll(t, s, keys))
	before, err := s.Find(ctx, keys[0])
	if err != nil {
		t.Fatal(err)
	}
	// As if the blocks had been stored beyond where a late owner begins.
	for _, table := range []string{"epochs", "messages"} {
		alter(t, s, "TRUNCATE TABLE "+table)
	}
	again := openAt(t, s.options.DSN)
	for _, b := range bs {
		if _, err := again.Append(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	if n := secretsIn(t, s); n != 0 {
		t.Errorf("%d rows hold the value again", n)
	}
	after, err := again.Find(ctx, keys[0])
	if err != nil || after.Event == nil || after.Event.Event.Customer != before.Event.Customer || after.Event.Hash != before.Event.Hash || len(after.Conflicts) != 1 {
		t.Errorf("found %+v, %v, want %+v", after.Event, err, before.Event)
	}
	wantSound(t, again)
}

// A redaction that is approved while a block is being stored reaches what the block
// says: its rows do not count, hold no value, and it is stored again.
func TestRedactedWhileStoring(t *testing.T) {
	ctx := context.Background()
	direct := open(t)
	direct.goneWithin = 0
	w := newWire(t, direct.options.DSN)
	s, feed := openAt(t, w.dsn), newFeed()
	attach(t, s)
	bs, keys := secretive(feed, 1)
	if _, err := s.Append(ctx, bs[0]); err != nil {
		t.Fatal(err)
	}
	ids := proposeAll(t, direct, keys)
	conflict := bs[0].Messages[0].Events[6].Event
	conflict.Data.Amount = meteringtest.Decimal("99")
	w.set(once("conflicts", held))
	ended := make(chan error)
	go func() {
		_, err := s.Append(ctx, feed.Block(0, []metering.Event{conflict}))
		ended <- err
	}()
	<-w.atHeld
	approve(t, direct, ids)
	w.arrive(t)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n := secretsIn(t, direct); n != 0 {
		t.Errorf("%d rows hold the value", n)
	}
	f, err := direct.Find(ctx, keys[0])
	if err != nil || len(f.Conflicts) != 2 || f.Conflicts[1].Data.Amount.String() != "99" {
		t.Errorf("conflicts %+v, %v", f.Conflicts, err)
	}
	wantSound(t, direct)
}

// redactDSN names the store in which a process that is there to be killed approves.
const redactDSN = "METE_TEST_REDACT_DSN"

func redactAll(dsn string) error {
	ctx := context.Background()
	s, err := Open(ctx, Options{DSN: dsn})
	if err != nil {
		return err
	}
	all, err := s.Redactions(ctx)
	if err != nil {
		return err
	}
	_, err = s.ApproveRedactions(ctx, values(all, func(r metering.Redaction) string { return r.ID }), "r.shah", day)
	return errors.Join(err, s.Close())
}

// Killed at any step, the check names what is approved and not done, and approving again
// does the rest.
func TestRedactKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx := context.Background()
	reopen := reopener(t)
	for _, c := range []struct {
		point, want string // in some finding; empty: none
	}{
		{"redact.facts-kept=kill@1", ""},
		{"redact.approval-kept=kill@1", "is approved, and a value stands at"},
		{"redact.table-overwritten=kill@1", "is approved, and a value stands at"}, // conflicts are left
		{"redact.table-overwritten=kill@3", "the kept form of refusal refused has a value; approve it again"},
	} {
		t.Run(c.point, func(t *testing.T) {
			s := reopen(t)
			defer s.Close()
			s.goneWithin = 0
			attach(t, s)
			bs, keys := secretive(newFeed(), 1)
			if _, err := s.Append(ctx, bs[0]); err != nil {
				t.Fatal(err)
			}
			ids := proposeAll(t, s, keys)
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), redactDSN+"="+s.options.DSN, "METE_FAILPOINT="+c.point)
			out, err := child.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
				t.Fatalf("the process was not killed: %v\n%s", err, out)
			}
			findings, err := s.Check(ctx)
			if all := strings.Join(findings, "\n"); err != nil || c.want == "" && all != "" || !strings.Contains(all, c.want) {
				t.Errorf("the check says %v,\n%s\nwant %q", err, all, c.want)
			}
			approve(t, s, ids)
			if n := secretsIn(t, s); n != 0 {
				t.Errorf("%d rows hold the value", n)
			}
			wantSound(t, s)
		})
	}
}

// Whatever is changed behind a redaction, the check names it.
func TestRedactionMutants(t *testing.T) {
	ctx := context.Background()
	base := open(t)
	base.goneWithin = 0
	attach(t, base)
	bs, keys := secretive(newFeed(), 2)
	for _, b := range bs {
		if _, err := base.Append(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	approve(t, base, proposeAll(t, base, keys))
	wantSound(t, base)
	tables := []string{"events", "conflicts", "redactions", "redacted_rows"}
	for _, table := range tables {
		alter(t, base, "CREATE TABLE base_"+table+" AS "+table, "INSERT INTO base_"+table+" SETTINGS async_insert = 0 SELECT * FROM "+table)
	}
	const sync = ` SETTINGS mutations_sync = 2`
	for name, c := range map[string]struct{ statement, say string }{
		"value restored":       {`ALTER TABLE events UPDATE reference = 'ref-zz' WHERE startsWith(event_id, 'secret-0')`, "is approved, and a value stands at partition 0"},
		"another field":        {`ALTER TABLE events UPDATE bytes = bytes + 1 WHERE startsWith(event_id, 'secret-0')`, "are not what it says now, or another field was altered"},
		"another text":         {`ALTER TABLE events UPDATE deal = 'mine' WHERE startsWith(event_id, 'secret-0')`, "are not what it says now, or another field was altered"},
		"conflict restored":    {`ALTER TABLE conflicts UPDATE event = replaceAll(event, 'redacted:', 'restored:') WHERE 1`, "and a value stands at"},
		"conflict altered":     {`ALTER TABLE conflicts UPDATE event = replaceAll(event, '12.34', '12.35') WHERE 1`, "conflict of event secret-0"},
		"overwriting forgot":   {`ALTER TABLE redacted_rows DELETE WHERE 1`, "its content does not have its hash"},
		"approval forgot":      {`ALTER TABLE redactions DELETE WHERE approved_by <> '' AND field = 'subject'`, "it is not kept what it says since"},
		"all forgot":           {`ALTER TABLE redactions DELETE WHERE 1`, "its content does not have its hash"},
		"one person":           {`ALTER TABLE redactions UPDATE approved_by = proposed_by WHERE approved_by <> ''`, "k.lee proposed and approved it"},
		"tombstone by hand":    {`ALTER TABLE events UPDATE reference = 'redacted:R-000000000000' WHERE startsWith(event_id, 'c0-1')`, "its content does not have its hash"},
		"event deleted":        {`ALTER TABLE events DELETE WHERE startsWith(event_id, 'secret-0')`, "nothing lies at partition 0"},
		"hash of now replaced": {`ALTER TABLE redacted_rows UPDATE content_hash = sent_hash WHERE 1`, "are not what it says now, or another field was altered"},
	} {
		t.Run(name, func(t *testing.T) {
			table := strings.Fields(strings.TrimPrefix(c.statement, "ALTER TABLE "))[0]
			defer alter(t, base, "TRUNCATE TABLE "+table, "INSERT INTO "+table+" SETTINGS async_insert = 0, insert_deduplicate = 0 SELECT * FROM base_"+table)
			alter(t, base, c.statement+sync)
			s := openAt(t, base.options.DSN)
			defer s.Close()
			findings, err := s.Check(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(findings, "\n"); !strings.Contains(all, c.say) {
				t.Errorf("the check does not say %q:\n%s", c.say, all)
			}
		})
	}
}

// The statements that overwrite on a cluster are parsed by the engine; it cannot run
// them.
func TestOverwritingOnClusterParses(t *testing.T) {
	e := chtest.Start(t)
	bs, _ := secretive(newFeed(), 1)
	event := bs[0].Messages[0].Events[5]
	var os []overwriting
	for _, field := range append(slices.Clone(secretFields), "id", "data.unit", "data.lead", "data.refers_to", "data.region") {
		r, err := metering.ProposeRedaction(event.Key, field, "looks like a person", "k.lee", day)
		if err != nil {
			t.Fatal(err)
		}
		os = append(os, overwriting{r, spotOf(event.Position)})
	}
	for _, q := range []string{alteration(cluster, "events", overwriteEvents(os)), alteration(cluster, "conflicts", overwriteConflicts(os[:overwrittenNested])), "SYSTEM START CLEANUP " + onCluster(cluster) + "events_local"} {
		if !strings.Contains(q, "ON CLUSTER 'shop'") || !strings.Contains(q, "_local") {
			t.Errorf("not for the cluster: %s", q)
		}
		if _, err := e.Exec("EXPLAIN AST " + q); err != nil {
			t.Errorf("%v", err)
		}
	}
}
