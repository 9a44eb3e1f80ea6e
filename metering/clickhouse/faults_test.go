package clickhouse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mete/internal/chtest"
	"mete/metering"
	"mete/metering/meteringtest"
)

// fault is what becomes of a request on the way to the engine.
type fault int

const (
	pass       fault = iota
	lost             // it never arrives, the connection breaks
	answerLost       // it arrives, the connection breaks before the answer
	late             // the connection breaks, it arrives when the test says so
	held             // it waits until the test says so, and is answered then
)

func (f fault) String() string {
	return [...]string{"pass", "lost", "answer lost", "late", "held"}[f]
}

// wire stands between a store and the engine.
type wire struct {
	dsn    string // of the database, by way of the wire
	engine *url.URL

	mu      sync.Mutex
	decide  func(query string) fault
	waiting []*http.Request
	release chan struct{} // closed to let held requests go on
	atHeld  chan string   // tables of held requests
}

func newWire(t *testing.T, dsn string) *wire {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{engine: u, release: make(chan struct{}), atHeld: make(chan string, 100)}
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	there, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	there.Path = u.Path
	w.dsn = there.String()
	return w
}

// set decides about each request by its query; nil lets all pass.
func (w *wire) set(decide func(query string) fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.decide = decide
}

var insertInto = regexp.MustCompile(`^INSERT INTO ([a-z_]+)`)

// once is a fault for the first INSERT into a table.
func once(table string, f fault) func(string) fault {
	var mu sync.Mutex
	done := false
	return func(query string) fault {
		mu.Lock()
		defer mu.Unlock()
		if m := insertInto.FindStringSubmatch(query); m == nil || m[1] != table || done {
			return pass
		}
		done = true
		return f
	}
}

func (w *wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	query := r.URL.Query().Get("query")
	if query == "" {
		query = string(body)
	}
	onward := func() *http.Request {
		to := *r.URL
		to.Scheme, to.Host = w.engine.Scheme, w.engine.Host
		out, err := http.NewRequestWithContext(context.Background(), r.Method, to.String(), bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		return out
	}
	f := pass
	w.mu.Lock()
	decide := w.decide
	w.mu.Unlock()
	if decide != nil {
		f = decide(query)
	}
	switch f {
	case lost:
		panic(http.ErrAbortHandler)
	case late:
		w.mu.Lock()
		w.waiting = append(w.waiting, onward())
		w.mu.Unlock()
		panic(http.ErrAbortHandler)
	case held:
		w.mu.Lock()
		release := w.release
		w.mu.Unlock()
		w.atHeld <- insertInto.FindStringSubmatch(query)[1]
		<-release
	}
	answer, err := http.DefaultTransport.RoundTrip(onward())
	if err != nil || f == answerLost {
		if err == nil {
			answer.Body.Close()
		}
		panic(http.ErrAbortHandler)
	}
	defer answer.Body.Close()
	for name, values := range answer.Header {
		rw.Header()[name] = values
	}
	rw.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(rw, answer.Body)
}

// arrive lets the late requests arrive and the held ones go on.
func (w *wire) arrive(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.release)
	w.release = make(chan struct{})
	for _, r := range w.waiting {
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("a late request was refused: %s", text)
		}
	}
	w.waiting = nil
}

// Each INSERT of a block fails once, in each way. The block is stored once, and what
// lands later changes nothing.
func TestEveryInsertFailsOnce(t *testing.T) {
	reopen := reopener(t)
	for _, table := range []string{"epochs", "events", "keys", "voids", "duplicates", "conflicts", "undecoded", "messages"} {
		for _, f := range []fault{lost, answerLost, late} {
			t.Run(table+" "+f.String(), func(t *testing.T) {
				direct := reopen(t)
				w := newWire(t, direct.options.DSN)
				s, m, feed := openAt(t, w.dsn), new(meteringtest.Model), newFeed()
				fill(t, s, m, feed.Block(0, meteringtest.Calls("a", 20, "scheduler", day)))
				if table == "epochs" { // of another partition, which has none yet
					w.set(once(table, f))
					fill(t, s, m, feed.Block(1, meteringtest.Calls("a", 20, "scheduler", day)))
				} else {
					w.set(once(table, f))
					fill(t, s, m, full(feed, 0, "a"))
				}
				w.set(nil)
				w.arrive(t)
				alike(t, s, m)
				unseen, err := s.Unseen(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				if table != "epochs" && len(unseen) == 0 && f != lost && !(table == "messages" && f == answerLost) {
					t.Error("the failure left no row behind that never counts: was there one?")
				}
				fill(t, s, m, full(feed, 0, "a"), full(feed, 1, "a"), full(feed, 0, "b"))
				sameCounts(t, s, m)
				s.Close()
				direct.Close()
			})
		}
	}
}

// Every request of all that storing a block sends fails once, questions too.
func TestEveryRequestFailsOnce(t *testing.T) {
	reopen := reopener(t)
	for _, f := range []fault{lost, answerLost} {
		for n := 1; ; n++ {
			direct := reopen(t)
			w := newWire(t, direct.options.DSN)
			s, m, feed := openAt(t, w.dsn), new(meteringtest.Model), newFeed()
			fill(t, s, m, feed.Block(0, meteringtest.Calls("a", 20, "scheduler", day)))
			var mu sync.Mutex
			sent := 0
			w.set(func(string) fault {
				mu.Lock()
				defer mu.Unlock()
				if sent++; sent == n {
					return f
				}
				return pass
			})
			fill(t, s, m, full(feed, 0, "a"))
			w.set(nil)
			sameCounts(t, s, m)
			s.Close()
			direct.Close()
			if sent < n {
				if n < 12 {
					t.Errorf("storing a block sends %d requests only", sent)
				}
				t.Logf("%s: %d requests", f, sent)
				break
			}
		}
	}
}

// An engine that stays away fails the block, with the reason, and leaves nothing that
// counts. Once it is there again the block is stored.
func TestEngineStaysAway(t *testing.T) {
	ctx := context.Background()
	w := newWire(t, chtest.New(t))
	s, m, feed := openAt(t, w.dsn, func(o *Options) { o.Tries = 3 }), new(meteringtest.Model), newFeed()
	fill(t, s, m, feed.Block(0, meteringtest.Calls("a", 20, "scheduler", day)))
	b := full(feed, 0, "0")
	for i, f := range []fault{lost, answerLost, late} {
		for _, all := range []string{"messages", "keys", ""} {
			w.set(func(query string) fault {
				m := insertInto.FindStringSubmatch(query)
				if m == nil && all == "" && f != late || m != nil && (m[1] == all || all == "") {
					return f
				}
				return pass
			})
			_, err := s.Append(ctx, b)
			w.set(nil)
			if all == "messages" && f == answerLost { // it happened, which the chain shows
				if err != nil {
					t.Fatalf("messages, answer lost: %v", err)
				}
				if _, err := m.Append(ctx, b); err != nil {
					t.Fatal(err)
				}
				b = full(feed, 0, strconv.Itoa(i))
				continue
			}
			if err == nil || !strings.Contains(err.Error(), "try 3 of 3") || errors.Is(err, metering.ErrGap) {
				t.Fatalf("append, all of %q %s: %v, want an error that counts the tries", all, f, err)
			}
		}
	}
	w.arrive(t)
	fill(t, s, m, b)
	same(t, s, m)
}

// After a failure the caller may come with other bounds: what the first try left behind
// does not count beside them, and no token is needed for that.
func TestOtherBoundsAfterAFailure(t *testing.T) {
	ctx := context.Background()
	w := newWire(t, chtest.New(t))
	s, m, feed := openAt(t, w.dsn, func(o *Options) { o.Tries = 1 }), new(meteringtest.Model), newFeed()
	fill(t, s, m, feed.Block(0, meteringtest.Calls("a", 20, "scheduler", day)))
	for _, table := range []string{"events", "keys", "voids", "duplicates", "conflicts", "undecoded"} {
		again := "a"
		if table == "keys" || table == "events" || table == "voids" {
			again = table // new events
		}
		one := full(feed, 0, again)
		for _, f := range []fault{answerLost, late} {
			w.set(once(table, f))
			if _, err := s.Append(ctx, one); err == nil {
				t.Fatalf("%s %s: the append did not fail", table, f)
			}
		}
		w.set(nil)
		two := full(feed, 0, "b")
		both := one
		both.Last, both.Messages = two.Last, append(slices.Clone(one.Messages), two.Messages...)
		fill(t, s, m, both)
		w.arrive(t)
		alike(t, s, m)
	}
	same(t, s, m)
}

// A worker that lost its lease wakes up in the middle of a block: it is told so, and
// none of its rows is seen by any question.
func TestZombie(t *testing.T) {
	ctx := context.Background()
	reopen := reopener(t)
	for _, at := range []string{"epochs", "events", "keys", "messages"} {
		t.Run("held at "+at, func(t *testing.T) {
			direct := reopen(t)
			w := newWire(t, direct.options.DSN)
			zombie, s, m, feed := openAt(t, w.dsn), openAt(t, direct.options.DSN), new(meteringtest.Model), newFeed()
			first := feed.Block(0, meteringtest.Calls("a", 20, "scheduler", day))
			first.Epoch = 3
			attach(t, zombie, s)
			if at != "epochs" { // else it is its first block
				fill(t, zombie, m, first)
			} else {
				fill(t, s, m, first)
			}
			b := full(feed, 0, "a")
			b.Epoch = 4
			w.set(once(at, held))
			ended := make(chan error)
			go func() {
				_, err := zombie.Append(ctx, b)
				ended <- err
			}()
			<-w.atHeld
			if lease, err := s.Epoch(ctx, 0); err != nil || lease > 4 {
				t.Errorf("the store knows lease %d, %v", lease, err)
			}
			b.Epoch = 5
			next := full(feed, 0, "b")
			next.Epoch = 5
			fill(t, s, m, b, next)
			w.arrive(t)
			if err := <-ended; !errors.Is(err, metering.ErrFenced) {
				t.Errorf("the zombie's append: %v, want ErrFenced", err)
			}
			same(t, s, m)
			alike(t, zombie, m)
			if _, err := zombie.Append(ctx, b); err != nil { // of lease 5, stored already
				t.Errorf("a block that is stored: %v", err)
			}
			late := full(feed, 0, "a")
			late.Epoch = 4
			if _, err := zombie.Append(ctx, late); !errors.Is(err, metering.ErrFenced) || !strings.Contains(err.Error(), "lease 5") {
				t.Errorf("the zombie's next append: %v, want ErrFenced that names lease 5", err)
			}
			late.Epoch = 0
			if _, err := zombie.Append(ctx, late); !errors.Is(err, metering.ErrFenced) {
				t.Errorf("the zombie's next append without a lease: %v, want ErrFenced", err)
			}
			alike(t, s, m)
			if lease, err := s.Epoch(ctx, 0); err != nil || lease != 5 {
				t.Errorf("the store knows lease %d, %v, want 5", lease, err)
			}
			late.Epoch = 6
			fill(t, zombie, m, late)
			same(t, s, m)
			zombie.Close()
			s.Close()
			direct.Close()
		})
	}
}

// An owner whose epoch row lands long after it has read the chain takes the partition
// back to where it had been: for a moment less is shown, which is said, and then the
// same again.
func TestLateOwner(t *testing.T) {
	ctx := context.Background()
	dsn := chtest.New(t)
	w := newWire(t, dsn)
	slow, s, m, feed := openAt(t, w.dsn), openAt(t, dsn), new(meteringtest.Model), newFeed()
	lease := func(n uint64, b metering.Block) metering.Block {
		b.Epoch = n
		return b
	}
	first := feed.Block(0, meteringtest.Calls("a", 20, "scheduler", day))
	fill(t, s, m, lease(1, first))
	pinned, err := s.Cutoff(ctx)
	if err != nil {
		t.Fatal(err)
	}
	second, third := full(feed, 0, "a"), feed.Block(0, meteringtest.Calls("c", 7, "billing", day))
	w.set(once("epochs", held))
	ended := make(chan error)
	go func() {
		_, err := slow.Append(ctx, lease(2, second))
		ended <- err
	}()
	<-w.atHeld
	fill(t, s, m, lease(1, second), lease(1, third)) // it does not know of lease 2 yet
	ahead, err := s.Cutoff(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w.set(func(query string) fault { // the owner dies with its epoch open
		if strings.HasPrefix(query, "INSERT INTO events") {
			return lost
		}
		return pass
	})
	slow.options.Tries = 1
	w.arrive(t)
	if err := <-ended; err == nil || errors.Is(err, metering.ErrFenced) {
		t.Fatalf("the slow owner's append: %v", err)
	}
	if got, err := s.Position(ctx, 0); err != nil || got != 1 {
		t.Fatalf("the position is %d, %v, want 1, where lease 2 began", got, err)
	}
	before := new(meteringtest.Model)
	attach(t, before)
	if _, err := before.Append(ctx, first); err != nil {
		t.Fatal(err)
	}
	same(t, s, before)
	meteringtest.Compare(t, s, before, metering.Span{UpTo: pinned})
	wantBehind(t, s, ahead)
	if _, err := s.Append(ctx, lease(1, full(feed, 0, "b"))); !errors.Is(err, metering.ErrFenced) {
		t.Errorf("append under lease 1: %v, want ErrFenced", err)
	}
	// Lease 3 stores the rest from the stream, the same as it was.
	attach(t, s)
	for _, b := range []metering.Block{second, third} {
		if _, err := s.Append(ctx, lease(3, b)); err != nil {
			t.Fatal(err)
		}
	}
	same(t, s, m)
	meteringtest.Compare(t, s, m, metering.Span{UpTo: ahead})
	unseen, err := s.Unseen(ctx)
	if err != nil || !slices.Contains(unseen, Unseen{"messages", 5}) {
		t.Errorf("rows that never count: %+v, %v, want the three messages of lease 1, and the two of the block by which it learned of lease 2", unseen, err)
	}
}

func wantBehind(t *testing.T, s *Store, c metering.Cutoff) {
	t.Helper()
	ctx := context.Background()
	sp := metering.Span{UpTo: c}
	want := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, metering.ErrBehind) || !strings.Contains(err.Error(), "is stored up to") {
			t.Errorf("%s beyond what is stored: %v, want ErrBehind", what, err)
		}
	}
	for _, err := range s.Usage(ctx, sp) {
		want("usage", err)
	}
	for _, err := range s.Events(ctx, sp, metering.Filter{}) {
		want("events", err)
	}
	for _, err := range s.Transactions(ctx, sp, []string{metering.SalePaid}) {
		want("transactions", err)
	}
	_, err := s.Late(ctx, sp)
	want("late", err)
	_, err = s.Ignored(ctx, sp)
	want("ignored", err)
	_, err = s.Counts(ctx, c)
	want("counts", err)
	later := slices.Clone(c)
	later[0].Incarnation, later[0].Sequence = 2, 1
	_, err = s.Counts(ctx, later)
	want("counts of a later stream", err)
}

// Two processes that both believe to be alone: the later one goes on, the other is
// told. Two that believe to hold the same lease take turns and store nothing twice.
func TestTwoOwners(t *testing.T) {
	ctx := context.Background()
	for _, lease := range []uint64{0, 7} {
		dsn := chtest.New(t)
		a, b, m, feed := openAt(t, dsn), openAt(t, dsn), new(meteringtest.Model), newFeed()
		attach(t, a, b)
		for i, s := range []*Store{a, b, a, b, b} {
			block := full(feed, 0, "a")
			block.Epoch = lease
			if lease == 0 && i == 2 {
				if _, err := s.Append(ctx, block); !errors.Is(err, metering.ErrFenced) {
					t.Errorf("the first of two owners: %v, want ErrFenced", err)
				}
				s = b
			}
			fill(t, s, m, block)
		}
		alike(t, a, m)
		same(t, b, m)
	}
}

// A store that was put back to an older copy is at an older position, and the stream
// goes on from there.
func TestRestoredFromAnOlderCopy(t *testing.T) {
	ctx := context.Background()
	dsn := chtest.New(t)
	s, m, feed := openAt(t, dsn), new(meteringtest.Model), newFeed()
	bs := blocks(feed)
	fill(t, s, m, bs[:2]...)
	for _, table := range allTables {
		alter(t, s, "CREATE TABLE copy_"+table+" AS "+table, "INSERT INTO copy_"+table+" SETTINGS async_insert = 0 SELECT * FROM "+table)
	}
	fill(t, s, m, bs[2:]...)
	ahead := full(feed, 0, "b")
	fill(t, s, m, ahead)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, dsn)
	for _, table := range allTables {
		alter(t, s, "TRUNCATE TABLE "+table, "INSERT INTO "+table+" SETTINGS async_insert = 0, insert_deduplicate = 0 SELECT * FROM copy_"+table)
	}
	older := new(meteringtest.Model)
	attach(t, older)
	for _, b := range bs[:2] {
		if _, err := older.Append(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	same(t, s, older)
	if _, err := s.Append(ctx, full(feed, 0, "a")); !errors.Is(err, metering.ErrGap) {
		t.Errorf("a block beyond the restored position: %v, want ErrGap", err)
	}
	for _, b := range append(bs, ahead) { // what the stream still has, from an earlier position even
		if _, err := s.Append(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	same(t, s, m)
}

// What the store asks of the engine arrives there.
func TestSettingsArrive(t *testing.T) {
	w := newWire(t, chtest.New(t))
	s := openAt(t, w.dsn)
	attach(t, s)
	var mu sync.Mutex
	inserts := map[string]int{}
	w.set(func(query string) fault {
		mu.Lock()
		defer mu.Unlock()
		if m := insertInto.FindStringSubmatch(query); m != nil {
			inserts[m[1]]++
		}
		return pass
	})
	b := full(newFeed(), 0, "a")
	if _, err := s.Append(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	w.set(nil)
	for _, table := range []string{"epochs", "events", "keys", "voids", "duplicates", "conflicts", "undecoded", "messages"} {
		if inserts[table] != 1 && table != "duplicates" && table != "conflicts" {
			t.Errorf("%d INSERTs into %s, want 1", inserts[table], table)
		}
	}
	var got []string
	if err := s.each(context.Background(), `SELECT toString(getSetting('max_query_size'))`, func(scan func(...any) error) error {
		var v string
		err := scan(&v)
		got = append(got, v)
		return err
	}); err != nil || !slices.Equal(got, []string{"8388608"}) {
		t.Errorf("the engine says %v, %v", got, err)
	}
	// The same INSERT once more, with its token: the second line holds.
	count := func() (n uint64) {
		if err := s.each(context.Background(), `SELECT count() FROM undecoded`, func(scan func(...any) error) error { return scan(&n) }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := count()
	c, err := s.chain(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	a := appending{store: s, lane: &lane{epoch: c.newest(0)}, block: &b, fresh: b.Messages}
	columns := undecodedColumns(c.newest(0), []undecoded{{1, metering.Undecoded{Index: 9, Reason: "another"}}})
	if err := s.insert(context.Background(), "undecoded", a.token("undecoded", 0), columns); err != nil {
		t.Fatal(err)
	}
	if after := count(); after != before {
		t.Errorf("an INSERT with a token that was seen stored %d rows", after-before)
	}
	if err := s.insert(context.Background(), "undecoded", a.token("undecoded", 1), columns); err != nil {
		t.Fatal(err)
	}
	if after := count(); after != before+1 {
		t.Errorf("an INSERT with a new token stored %d rows, want 1", after-before)
	}
}

// A context that ends leaves the block as it is, or stores it whole.
func TestEndedContext(t *testing.T) {
	w := newWire(t, chtest.New(t))
	s, m, feed := openAt(t, w.dsn), new(meteringtest.Model), newFeed()
	fill(t, s, m, feed.Block(0, meteringtest.Calls("a", 20, "scheduler", day)))
	for _, table := range []string{"events", "messages"} {
		b := full(feed, 0, "a")
		ctx, cancel := context.WithCancel(context.Background())
		w.set(once(table, held))
		ended := make(chan error)
		go func() {
			_, err := s.Append(ctx, b)
			ended <- err
		}()
		<-w.atHeld
		cancel()
		time.Sleep(10 * time.Millisecond)
		w.arrive(t)
		err := <-ended
		switch {
		case table == "messages" && err != nil:
			t.Errorf("ended in the commit: %v, want it finished", err)
		case table == "events" && !errors.Is(err, context.Canceled):
			t.Errorf("ended before the commit: %v, want context.Canceled", err)
		}
		w.set(nil)
		if table == "events" {
			same(t, s, m)
			fill(t, s, m, b)
		} else if _, err := m.Append(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		same(t, s, m)
	}
}
