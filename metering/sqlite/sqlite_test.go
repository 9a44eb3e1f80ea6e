package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mete/metering"
	"mete/metering/meteringtest"
)

var day = time.Date(2026, 9, 10, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) *Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "usage.db"))
}

func openAt(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	meteringtest.TestStore(t, func(t *testing.T) metering.Store { return open(t) })
}

// The promises hold wherever keys lie: here they move into the sorted table all the
// time.
func TestStoreMovingKeys(t *testing.T) {
	meteringtest.TestStore(t, func(t *testing.T) metering.Store {
		s := open(t)
		s.w.mergeAt = 7
		return s
	})
}

func TestQuarantine(t *testing.T) {
	meteringtest.TestQuarantine(t, func(t *testing.T) metering.Quarantine { return open(t) })
}

func TestLookup(t *testing.T) {
	meteringtest.TestLookup(t, open)
}

func TestTallies(t *testing.T) {
	meteringtest.TestTallies(t, open)
}

func TestSourceFacts(t *testing.T) {
	meteringtest.TestSourceFacts(t, open)
}

func TestReplays(t *testing.T) {
	meteringtest.TestReplays(t, open)
}

// filled is a store and a model with the same blocks: duplicates, conflicts, voids
// with and without target, undecoded events. Keys lie in both tables.
func filled(t *testing.T, s *Store) *meteringtest.Model {
	t.Helper()
	m := new(meteringtest.Model)
	both(t, s, m, blocks(meteringtest.NewFeed())...)
	return m
}

func blocks(f *meteringtest.Feed) []metering.Block {
	sale := meteringtest.Call("sale", "scheduler", day, func(e *metering.Event) {
		e.Type, e.Data.Amount, e.Data.Currency = metering.SalePaid, meteringtest.Decimal("12.34"), "USD"
		e.Data.Quantity, e.Data.LatencyMS = meteringtest.Decimal("2.5"), meteringtest.Decimal("1500")
	})
	return []metering.Block{
		f.Block(0, meteringtest.Calls("a", 20, "scheduler", day), meteringtest.Calls("b", 20, "billing", day)),
		f.Messages(1, meteringtest.Message{Events: meteringtest.Calls("a", 2, "scheduler", day), Undecoded: []string{"truncated"}},
			meteringtest.Message{Events: meteringtest.Calls("a", 3, "other", day)}),
		f.Block(2, []metering.Event{sale, meteringtest.Void("v", "a-7", day), meteringtest.Void("w", "nobody", day)}),
		f.Block(1, meteringtest.Calls("c", 5, "scheduler", day.AddDate(0, 1, 0))),
	}
}

func both(t *testing.T, s *Store, m *meteringtest.Model, bs ...metering.Block) {
	t.Helper()
	ctx := context.Background()
	for _, store := range []metering.Store{s, m} {
		if _, err := store.Attach(ctx, "usage", 3); err != nil {
			t.Fatal(err)
		}
		for _, b := range bs {
			if _, err := store.Append(ctx, b); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func wantSound(t *testing.T, s *Store) {
	t.Helper()
	findings, err := s.Check(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Errorf("check: %s", f)
	}
}

func TestReopenKeepsEverything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with space & 100%?.db")
	f := meteringtest.NewFeed()
	m := new(meteringtest.Model)
	for i, b := range blocks(f) {
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		s.w.mergeAt = 30 // reached by the first block alone
		if i > 0 {
			meteringtest.Compare(t, s, m, metering.Span{})
		}
		both(t, s, m, b)
		both(t, s, m, b) // sent again after the restart
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := openAt(t, path)
	meteringtest.Compare(t, s, m, metering.Span{})
	both(t, s, m, f.Block(2, meteringtest.Calls("nobody", 1, "scheduler", day), []metering.Event{meteringtest.Call("nobody", "billing", day)}))
	meteringtest.Compare(t, s, m, metering.Span{})
	wantSound(t, s)
	if _, err := os.Stat(path + "-wal"); err != nil {
		t.Errorf("the open store has no write-ahead log: %v", err)
	}
}

func TestClosedStoreSaysSo(t *testing.T) {
	s := open(t)
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Attach(context.Background(), "usage", 1); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("attach to a closed store: %v", err)
	}
}

func TestSettings(t *testing.T) {
	s := open(t)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "10000"} {
		var got string
		if err := s.w.conn.QueryRowContext(context.Background(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %s, %v, want %s", pragma, got, err, want)
		}
	}
	if _, err := s.readers.Exec(`DELETE FROM events`); err == nil {
		t.Error("a reader may write")
	}
}

// raw changes the file behind the store's back.
func raw(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(`PRAGMA foreign_keys = 0`); err != nil {
		t.Fatal(err)
	}
	for _, q := range statements {
		r, err := db.Exec(q)
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			t.Fatalf("%s: changed nothing", q)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	wantRefused := func(path string, words ...string) {
		t.Helper()
		before, _ := os.ReadFile(path)
		s, err := Open(path)
		if err == nil {
			s.Close()
			t.Errorf("open %s: want an error", path)
			return
		}
		for _, w := range append(words, path) {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("open: the error does not say %q: %v", w, err)
			}
		}
		if after, _ := os.ReadFile(path); string(after) != string(before) {
			t.Errorf("open %s changed a file that it refused", path)
		}
	}
	dir := t.TempDir()
	newer := filepath.Join(dir, "newer.db")
	s, err := Open(newer)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw(t, newer, `INSERT INTO schema_version (version_id, is_applied) VALUES (99, 1)`)
	wantRefused(newer, "version 99", "versions up to ", "newer")

	foreign := filepath.Join(dir, "foreign.db")
	db, err := sql.Open("sqlite", dsn(foreign))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`CREATE TABLE songs (name TEXT)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	wantRefused(foreign, "something else")

	noise := filepath.Join(dir, "noise.db")
	if err := os.WriteFile(noise, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefused(noise, "not a")
	wantRefused(filepath.Join(dir, "missing", "usage.db"), "folder must exist")
}

func TestBackup(t *testing.T) {
	ctx := context.Background()
	s := open(t)
	m := filled(t, s)
	copied := filepath.Join(t.TempDir(), "yesterday's.db")
	if err := s.BackupTo(ctx, copied); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(ctx, metering.Block{Incarnation: 1, Partition: 0, First: 3, Last: 3, Messages: []metering.Message{{Sequence: 3}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.BackupTo(ctx, copied); !errors.Is(err, fs.ErrExist) {
		t.Errorf("backup over a file: %v, want fs.ErrExist", err)
	}
	y := openAt(t, copied)
	meteringtest.Compare(t, y, m, metering.Span{})
	wantSound(t, y)
	both(t, y, m, blocks(meteringtest.NewFeed())...) // nothing counts again
	meteringtest.Compare(t, y, m, metering.Span{})
	if err := s.BackupTo(ctx, filepath.Join(t.TempDir(), "missing", "copy.db")); err == nil {
		t.Error("backup into a folder that is not there: want an error")
	}
	if left, _ := filepath.Glob(copied + "*.partial"); len(left) > 0 {
		t.Errorf("backup left %v", left)
	}
}

func TestAppendRefusesWhatItCannotKeep(t *testing.T) {
	ctx := context.Background()
	s := open(t)
	if _, err := s.Attach(ctx, "usage", 1); err != nil {
		t.Fatal(err)
	}
	event := func(change func(*metering.Event)) metering.Block {
		return meteringtest.NewFeed().Block(0, []metering.Event{meteringtest.Call("good", "scheduler", day), meteringtest.Call("bad", "scheduler", day, change)})
	}
	block := func(change func(*metering.Block)) metering.Block {
		b := event(func(*metering.Event) {})
		change(&b)
		return b
	}
	for name, c := range map[string]struct {
		block metering.Block
		say   string
	}{
		"quantity too fine": {event(func(e *metering.Event) { e.Data.Quantity = meteringtest.Decimal("0.0000000001") }), "9 decimals"},
		"quantity too big":  {event(func(e *metering.Event) { e.Data.Quantity = meteringtest.Decimal("9223372036854775808") }), "64 bits"},
		"amount too fine":   {event(func(e *metering.Event) { e.Data.Amount, e.Data.Currency = meteringtest.Decimal("0.001"), "USD" }), "finer"},
		"fee too big":       {event(func(e *metering.Event) { e.Data.Fee, e.Data.Currency = meteringtest.Decimal("1e18"), "USD" }), "fee"},
		"time too fine":     {event(func(e *metering.Event) { e.Time = day.Add(1) }), "microsecond"},
		"year":              {event(func(e *metering.Event) { e.Time = day.AddDate(9000, 0, 0) }), "year 11026"},
		"key":               {block(func(b *metering.Block) { b.Messages[0].Events[1].Key[0]++ }), "has key"},
		"no hash":           {block(func(b *metering.Block) { b.Messages[0].Events[1].Hash = metering.Hash{} }), "no content hash"},
		"place":             {block(func(b *metering.Block) { b.Messages[0].Events[1].Position.Sequence = 2 }), "lies in message 1"},
		"index twice":       {block(func(b *metering.Block) { b.Messages[0].Events[1].Position.Index = 0 }), "two events at index 0"},
		"index too big":     {block(func(b *metering.Block) { b.Messages[0].Events[1].Position.Index = 1 << 20 }), "index 1048576"},
		"undecoded at event": {block(func(b *metering.Block) {
			b.Messages[0].Announced, b.Messages[0].Undecoded = 3, []metering.Undecoded{{Index: 1}}
		}), "two events at index 1"},
		"announced":  {block(func(b *metering.Block) { b.Messages[0].Announced = 3 }), "announces 3"},
		"partition":  {block(func(b *metering.Block) { b.Partition = 1; b.Messages = []metering.Message{{Sequence: 1}} }), "partitions 0 to 0"},
		"bounds":     {block(func(b *metering.Block) { b.First, b.Last = 2, 1 }), "bounds"},
		"sequence 0": {block(func(b *metering.Block) { b.First, b.Last, b.Messages[0].Sequence = 0, 0, 0 }), "bounds"},
	} {
		_, err := s.Append(ctx, c.block)
		if err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v, want an error that says %q", name, err, c.say)
		}
		if n, err := s.Counts(ctx, nil); err != nil || n != (metering.Counts{}) {
			t.Errorf("%s: left %+v behind, %v", name, n, err)
		}
	}
	good := event(func(*metering.Event) {})
	if _, err := s.Append(ctx, good); err != nil {
		t.Fatal(err)
	}
	good.Messages[0].Digest[0]++
	if _, err := s.Append(ctx, good); !errors.Is(err, metering.ErrIncarnation) {
		t.Errorf("another payload at a stored position: %v, want ErrIncarnation", err)
	}
	wantSound(t, s)
}

// Another process that writes must not make the store count twice, although that is
// not how it is run.
func TestWriterNoticesAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "usage.db")
	a, b := openAt(t, path), openAt(t, path)
	m := new(meteringtest.Model)
	f := meteringtest.NewFeed()
	for i := range 6 {
		s := a
		if i%2 == 1 {
			s = b
		}
		both(t, s, m, f.Block(i%3, meteringtest.Calls("a", 10+i, "scheduler", day), []metering.Event{meteringtest.Void(fmt.Sprint("v", i), fmt.Sprint("a-", 10+i), day)}))
	}
	meteringtest.Compare(t, a, m, metering.Span{})
	wantSound(t, b)
}

func TestCheckFindsEveryMutant(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		statement string
		say       string // in some finding
		counts    bool   // whether the totals show it too
	}{
		"event deleted":              {`DELETE FROM events WHERE event_id = 'a-3'`, "partition 0, message 1: tally stored is 20, events has 19 rows", true},
		"event doubled":              {`INSERT INTO events SELECT place + 50, event_key, content_hash, cell, source, event_id, occurred_us, accepted_us, time_absent, slow, latency_ms, bytes, quantity_whole, quantity_nano, amount_minor, tax_minor, fee_minor, deal, lead, refers_to, reference, region, paid_months FROM events WHERE event_id = 'a-3'`, "would count twice", true},
		"amount altered":             {`UPDATE events SET amount_minor = amount_minor + 1 WHERE event_id = 'sale'`, "event sale of source gateway (partition 2, message 1, index 0): its content does not have its hash", false},
		"quantity altered":           {`UPDATE events SET quantity_nano = 0 WHERE event_id = 'sale'`, "a field was altered", false},
		"quantity dropped":           {`UPDATE events SET quantity_whole = NULL WHERE event_id = 'sale'`, "a field was altered", false},
		"time altered":               {`UPDATE events SET occurred_us = occurred_us + 1 WHERE event_id = 'a-3'`, "a field was altered", false},
		"cell altered":               {`UPDATE events SET cell = (SELECT cell FROM events WHERE event_id = 'b-3') WHERE event_id = 'a-3'`, "a field was altered", false},
		"cell of many altered":       {`UPDATE cells SET app = 'mine' WHERE app = 'billing'`, "event b-19 of source gateway", false},
		"cell deleted":               {`DELETE FROM cells WHERE app = 'billing'`, "names a row of cells that is not there", false},
		"id altered":                 {`UPDATE events SET event_id = 'z' WHERE event_id = 'a-3'`, "event z of source gateway (partition 0, message 1, index 3): its key is", false},
		"slow mark altered":          {`UPDATE events SET slow = 0 WHERE event_id = 'sale'`, "marked slow false", false},
		"key deleted":                {`DELETE FROM keys WHERE place = (SELECT place FROM events WHERE event_id = 'a-3')`, "sent again, it would count twice", true},
		"recent key deleted":         {`DELETE FROM keys_recent WHERE place = (SELECT place FROM events WHERE event_id = 'sale')`, "sent again, it would count twice", true},
		"key of nobody":              {`INSERT INTO keys VALUES (zeroblob(16), 1)`, "key 00000000000000000000000000000000: no event of that key", true},
		"key names another event":    {`UPDATE keys SET place = place + 1 WHERE place = (SELECT place FROM events WHERE event_id = 'a-3')`, "no event of that key lies at partition 0, message 1, index 4", false},
		"key doubled":                {`INSERT INTO keys_recent SELECT place + 100, event_key FROM keys LIMIT 1`, "is kept twice", true},
		"message deleted":            {`DELETE FROM messages WHERE partition = 0 AND sequence = 1`, "partition 0: messages 1 to 1 are missing", true},
		"last message deleted":       {`DELETE FROM messages WHERE partition = 1 AND sequence = 3`, "partition 1: its position is 3, its last message is 2", true},
		"header altered":             {`UPDATE messages SET announced = announced + 1 WHERE id = 1`, "partition 0, message 1: it announced 21 events, 20 are tallied", true},
		"header and tally altered":   {`UPDATE messages SET announced = announced + 1, stored = stored + 1 WHERE id = 1`, "tally stored is 21, events has 20 rows", true},
		"duplicate deleted":          {`DELETE FROM duplicates WHERE place = (SELECT min(place) FROM duplicates)`, "tally duplicate is 2, duplicates has 1 rows", true},
		"conflict deleted":           {`DELETE FROM conflicts`, "tally conflict is 3, conflicts has 0 rows", true},
		"conflict altered":           {`UPDATE conflicts SET event = replace(event, '"other"', '"mine"')`, "conflict of event a-0 of source gateway (partition 1, message 2, index 0)", false},
		"undecoded deleted":          {`DELETE FROM undecoded`, "tally undecoded is 1, undecoded has 0 rows", true},
		"position altered":           {`UPDATE positions SET sequence = 7 WHERE partition = 2`, "partition 2: its position is 7, its last message is 1", false},
		"position deleted":           {`DELETE FROM positions WHERE partition = 2`, "partition 2: its position is 0, its last message is 1", false},
		"void deleted":               {`DELETE FROM voids WHERE target IS NOT NULL`, "void at partition 2, message 1, index 1: it is stored and takes nothing out", false},
		"void of nobody":             {`INSERT INTO voids VALUES (1, zeroblob(16), NULL)`, "it takes an event out and is not stored", false},
		"void names another event":   {`UPDATE voids SET target = target + 1 WHERE target IS NOT NULL`, "event a-7 of source gateway is at place", false},
		"void names another key":     {`UPDATE voids SET target_key = zeroblob(16) WHERE target IS NOT NULL`, "it refers to event a-7 of source gateway and is kept for key 00", false},
		"damaged key":                {`UPDATE events SET event_key = x'00' WHERE event_id = 'a-3'`, "damaged", false},
		"duplicate of an unknown id": {`UPDATE duplicates SET event_key = zeroblob(16)`, "no event of its key 00000000000000000000000000000000 is stored", false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "usage.db")
			s := openAt(t, path)
			s.w.mergeAt = 40
			filled(t, s)
			wantSound(t, s)
			if n, err := s.Counts(ctx, nil); err != nil || n.Announced != n.Stored+n.Duplicate+n.Conflict+n.Undecoded || n.Keys != n.Stored {
				t.Fatalf("counts of the sound store do not add up: %+v, %v", n, err)
			}
			raw(t, path, c.statement)
			findings, err := s.Check(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(findings, "\n"); !strings.Contains(all, c.say) {
				t.Errorf("the check does not say %q:\n%s", c.say, all)
			}
			n, err := s.Counts(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			if differ := n.Announced != n.Stored+n.Duplicate+n.Conflict+n.Undecoded || n.Keys != n.Stored; differ != c.counts {
				t.Errorf("counts differ: %t, want %t: %+v", differ, c.counts, n)
			}
		})
	}
}

func TestRefill(t *testing.T) {
	open := func(t *testing.T) meteringtest.RefillableStore { return open(t) }
	moving := func(t *testing.T) meteringtest.RefillableStore {
		s := openAt(t, filepath.Join(t.TempDir(), "usage.db"))
		s.w.mergeAt = 7
		return s
	}
	meteringtest.TestRefill(t, moving, open)
}
