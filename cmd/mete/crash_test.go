package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"mete/metering"
	"mete/metering/httpin"
	"mete/metering/jetstream"
)

// crashSize is how much a crash test does.
type crashSize struct {
	events, kills int
	patience      time.Duration
}

// size is the short size, or with METE_CRASH=long the long one.
func size() crashSize {
	if os.Getenv("METE_CRASH") == "long" {
		return crashSize{events: 200_000, kills: 50, patience: 30 * time.Minute}
	}
	return crashSize{events: 20_000, kills: 5, patience: 3 * time.Minute}
}

const crashCatalogue = `marketplace: meridian-us
name: Meridian EHR Marketplace
zone: America/Chicago
currency: USD
contact: partners@meridian.example
close: {lag: 3 days}
---
partners:
  - {id: northwind, name: Northwind Scheduling LLC, tier: grow}
---
apps:
  - {id: northwind-scheduler, partner: northwind, name: Scheduler, certification_tier: 3}
---
customers:
  - {id: lakeside, name: Lakeside Pediatrics}
---
sources:
  - {name: gateway-east, kind: gateway, owner: gateway, class: api}
  - {name: gateway-west, kind: gateway, owner: gateway, class: api}
---
meters:
  - {id: api_calls, description: API calls, type: usage.api, class: api, aggregate: quantity, unit: call}
`

// The sources of the crash tests; one credential owns both.
var crashSources = []string{"gateway-east", "gateway-west"}

// identity is an event's: the sender's own name for it.
type identity struct{ source, id string }

// content is one of the contents sent under an identity, and what the sender knows
// about it. Times are readings of the log's own counter.
type content struct {
	quantity               int
	tries, acks            int
	firstTry, firstAckedAt int64
}

// senderLog is the sender's own record of what it sent and what was acknowledged: the
// oracle. It knows nothing of the store.
type senderLog struct {
	mu         sync.Mutex
	clock      int64
	events     map[identity][]*content
	acked      int // deliveries acknowledged
	tried      int // deliveries tried
	abandoned  int // deliveries given up without an answer
	answered   atomic.Int64
	overNATS   int
	overHTTP   int
	badVerdict error
}

// delivery is one event on its way: an identity with one of its contents.
type delivery struct {
	identity
	content *content
}

func (d delivery) json() string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":"usage.api","time":"2026-09-14T10:00:00Z","subject":"lakeside","data":{"app":"northwind-scheduler","class":"api","operation":"read","status":200,"quantity":%d}}`,
		d.id, d.source, d.content.quantity)
}

// batch is what one request or message carries: events of one source.
type batch struct {
	overNATS   bool
	impatient  bool // given up at the first try without an answer
	deliveries []delivery
}

func (b batch) body() []byte {
	all := make([]string, len(b.deliveries))
	for i, d := range b.deliveries {
		all[i] = d.json()
	}
	return []byte("[" + strings.Join(all, ",") + "]")
}

// plan makes the batches: so many events, every tenth sent again later and every
// hundredth with other content under the same identity.
func (l *senderLog) plan(r *rand.Rand, events int) []batch {
	type placed struct {
		at float64
		delivery
	}
	var out []batch
	for s, source := range crashSources {
		var all []placed
		for i := range events / len(crashSources) {
			id := identity{source, fmt.Sprintf("call-%d-%06d", s, i)}
			first := &content{quantity: 1 + r.IntN(1000)}
			l.events[id] = []*content{first}
			all = append(all, placed{float64(i), delivery{id, first}})
			for r.IntN(10) == 0 {
				all = append(all, placed{float64(i) + r.Float64()*3000, delivery{id, first}})
			}
			if r.IntN(100) == 0 {
				other := &content{quantity: first.quantity + 1 + r.IntN(1000)}
				l.events[id] = append(l.events[id], other)
				all = append(all, placed{float64(i) + r.Float64()*3000, delivery{id, other}})
			}
		}
		slices.SortStableFunc(all, func(a, b placed) int {
			switch {
			case a.at < b.at:
				return -1
			case a.at > b.at:
				return 1
			}
			return 0
		})
		for len(all) > 0 {
			n := min(len(all), 100+r.IntN(401))
			b := batch{overNATS: r.IntN(3) == 0, impatient: r.IntN(4) == 0}
			for _, p := range all[:n] {
				b.deliveries = append(b.deliveries, p.delivery)
			}
			all, out = all[n:], append(out, b)
		}
	}
	// The sources take turns.
	slices.SortStableFunc(out, func(a, b batch) int {
		return strings.Compare(a.deliveries[0].id[len("call-0-"):], b.deliveries[0].id[len("call-0-"):])
	})
	return out
}

func (l *senderLog) trying(b batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	for _, d := range b.deliveries {
		l.tried++
		d.content.tries++
		if d.content.firstTry == 0 {
			d.content.firstTry = l.clock
		}
	}
}

// notTried takes a try back of which nothing was sent.
func (l *senderLog) notTried(b batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tried -= len(b.deliveries)
	for _, d := range b.deliveries {
		d.content.tries--
	}
}

// answeredWith records the verdicts on a batch.
func (l *senderLog) answeredWith(b batch, body []byte) error {
	var verdicts []metering.Verdict
	if err := json.Unmarshal(body, &verdicts); err != nil {
		return fmt.Errorf("answer %.200q: %w", body, err)
	}
	if len(verdicts) != len(b.deliveries) {
		return fmt.Errorf("%d verdicts on %d events", len(verdicts), len(b.deliveries))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	for i, v := range verdicts {
		d := b.deliveries[i]
		if v.Status != metering.StatusAccepted || v.ID != d.id || v.Source != d.source {
			l.badVerdict = fmt.Errorf("verdict %+v on %s", v, d.json())
			return l.badVerdict
		}
		l.acked++
		d.content.acks++
		if d.content.firstAckedAt == 0 {
			d.content.firstAckedAt = l.clock
		}
	}
	if b.overNATS {
		l.overNATS += len(verdicts)
	} else {
		l.overHTTP += len(verdicts)
	}
	l.answered.Add(int64(len(verdicts)))
	return nil
}

// A try whose outcome the sender does not know, and one of which nothing was sent.
var (
	errNoAnswer = errors.New("no answer")
	errNotSent  = fmt.Errorf("%w: the service is down", errNoAnswer)
)

// service is mete serve as a process that is killed and started again at the same
// addresses.
type service struct {
	t            *testing.T
	dir          string
	http, nats   int
	more         []string // of its command line
	cmd          *exec.Cmd
	stderr       *bytes.Buffer
	kills, early int // early: killed before it answered
	down         time.Duration
}

func newService(t *testing.T, dir string) *service {
	s := &service{t: t, dir: dir, http: freePort(t), nats: freePort(t)}
	t.Cleanup(func() { // of a test that failed
		if s.cmd != nil && s.cmd.ProcessState == nil {
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
		}
	})
	return s
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// start starts the process without waiting for it.
func (s *service) start() {
	s.t.Helper()
	s.stderr = &bytes.Buffer{}
	s.cmd = exec.Command(os.Args[0], "serve", "--dir", s.dir, "--listen", fmt.Sprintf("127.0.0.1:%d", s.http), "--nats-port", fmt.Sprint(s.nats))
	s.cmd.Args = append(s.cmd.Args, s.more...)
	s.cmd.Env = append(os.Environ(), childMark+"=1", "METE_NOW=2026-10-02T15:00:00Z")
	s.cmd.Stdout, s.cmd.Stderr = io.Discard, s.stderr
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// ready waits until the process answers.
func (s *service) ready() {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", s.http))
		if err == nil {
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				s.t.Fatalf("health: %s: %s", res.Status, body)
			}
			return
		}
		if time.Now().After(deadline) {
			s.kill()
			s.t.Fatalf("the service does not answer: %v\n%s", err, s.stderr)
		}
	}
}

// kill kills the process as a power cut would.
func (s *service) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
	s.kills++
	if ws := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() {
		s.t.Errorf("the service ended by itself: %s\n%s", s.cmd.ProcessState, s.stderr)
	}
}

// stop ends the process in good order.
func (s *service) stop() {
	s.t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		s.t.Fatalf("the service did not end well: %v\n%s", err, s.stderr)
	}
}

// sender sends batches over one connection of each kind.
type sender struct {
	log    *senderLog
	svc    *service
	number int
	rand   *rand.Rand
	http   *http.Client
	conn   *nats.Conn
	api    js.JetStream
	token  string
	tries  int
}

// credential is the name of the owner of the sources.
const credential = "gateway"

func (s *sender) connect() error {
	var err error
	s.conn, err = nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", s.svc.nats), nats.UserInfo(credential, s.token),
		nats.CustomInboxPrefix(jetstream.InboxPrefix(credential)), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(0, 0), nats.ReconnectBufSize(-1))
	if err != nil {
		return err
	}
	s.api, err = js.New(s.conn)
	return err
}

// send sends one batch until it is answered, or once if it is impatient.
func (s *sender) send(ctx context.Context, b batch) error {
	body := b.body()
	for {
		s.log.trying(b)
		var err error
		if b.overNATS {
			err = s.overNATS(ctx, b, body)
		} else {
			err = s.overHTTP(ctx, b, body)
		}
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, errNoAnswer):
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("out of patience: %w", err)
		}
		if errors.Is(err, errNotSent) {
			s.log.notTried(b)
		}
		if b.impatient && !errors.Is(err, errNotSent) {
			s.log.mu.Lock()
			s.log.abandoned += len(b.deliveries)
			s.log.mu.Unlock()
			s.log.answered.Add(int64(len(b.deliveries)))
			return nil
		}
		time.Sleep(time.Duration(20+s.rand.IntN(60)) * time.Millisecond)
	}
}

func (s *sender) overHTTP(ctx context.Context, b batch, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d%s", s.svc.http, httpin.Path), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/cloudevents-batch+json")
	req.Header.Set("Authorization", "Bearer "+s.token)
	res, err := s.http.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return errNotSent
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	switch {
	case err != nil, res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusServiceUnavailable:
		return fmt.Errorf("%w: %s", errNoAnswer, res.Status)
	case res.StatusCode != http.StatusAccepted:
		return fmt.Errorf("%s: %.300s", res.Status, answer)
	}
	return s.log.answeredWith(b, answer)
}

// overNATS publishes a message and waits for the answer about its events.
func (s *sender) overNATS(ctx context.Context, b batch, body []byte) error {
	if !s.conn.IsConnected() {
		return errNotSent
	}
	source := b.deliveries[0].source
	s.tries++
	reply := fmt.Sprintf("%s.w%d.t%d", jetstream.AnswerSubject(source), s.number, s.tries)
	answers, err := s.conn.SubscribeSync(reply)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	defer answers.Unsubscribe()
	m := &nats.Msg{Subject: jetstream.IntakeSubject(source), Data: body, Header: nats.Header{jetstream.HeaderReply: {reply}}}
	once, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	if _, err := s.api.PublishMsg(once, m); err != nil {
		return fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	answer, err := answers.NextMsgWithContext(once)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	return s.log.answeredWith(b, answer.Data)
}

// TestServeIsKilled kills the service while senders use every way in, and compares
// what is stored with what the senders know. The long version, 50 kills in 200,000
// events:
//
//	METE_CRASH=long go test -run TestServeIsKilled -timeout 40m -v ./cmd/mete
func TestServeIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for a while")
	}
	size := size()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	d := &desk{t: t, dir: t.TempDir(), now: "2026-10-02T15:00:00Z"}
	d.want(exitOK, "apply", "-f", folder(t, map[string]string{"all.yaml": crashCatalogue}), "--as", "k.lee")
	log := &senderLog{events: map[identity][]*content{}}
	batches := log.plan(rand.New(rand.NewPCG(seed, 1)), size.events)
	total := 0
	for _, b := range batches {
		total += len(b.deliveries)
	}
	svc := newService(t, d.dir)
	svc.start()
	svc.ready()
	token := readTokens(t, d.dir)[credential]

	ctx, cancel := context.WithTimeout(t.Context(), size.patience)
	defer cancel()
	queue := make(chan batch)
	var senders sync.WaitGroup
	const atOnce = 6
	failed := make(chan error, atOnce)
	for n := range atOnce {
		s := &sender{log: log, svc: svc, number: n, rand: rand.New(rand.NewPCG(seed, uint64(10+n))), token: token, http: &http.Client{Timeout: 10 * time.Second}}
		if err := s.connect(); err != nil {
			t.Fatal(err)
		}
		senders.Go(func() {
			defer s.conn.Close()
			for b := range queue {
				if err := s.send(ctx, b); err != nil {
					failed <- err
					cancel()
					return
				}
			}
		})
	}
	go func() {
		defer close(queue)
		for _, b := range batches {
			select {
			case queue <- b:
			case <-ctx.Done():
				return
			}
		}
	}()
	done := make(chan struct{})
	go func() { senders.Wait(); close(done) }()

	killAndRestart(svc, log, rand.New(rand.NewPCG(seed, 2)), size.kills, total, done)
	<-done
	select {
	case err := <-failed:
		t.Error(err)
	default:
	}
	if log.badVerdict != nil {
		t.Error(log.badVerdict)
	}
	svc.stop()
	if svc.kills < size.kills {
		t.Errorf("%d kills, want at least %d", svc.kills, size.kills)
	}
	if t.Failed() {
		return
	}
	finishRouting(t, d)
	log.compare(t, d)
	t.Logf("%d kills, %d of them before the service answered; it took %s to answer again", svc.kills, svc.early, svc.down/time.Duration(size.kills))
	checkReconciled(t, d)
}

// killAndRestart kills the service when so much more is answered, at a random moment
// after that, and now and then once more while it starts.
func killAndRestart(svc *service, log *senderLog, r *rand.Rand, kills, total int, done <-chan struct{}) {
	for n := 1; n <= kills; n++ {
		for log.answered.Load() < int64(n*total/(kills+1)) {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
		time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		svc.kill()
		svc.start()
		for r.IntN(4) == 0 {
			time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
			svc.kill()
			svc.early++
			svc.start()
		}
		begun := time.Now()
		svc.ready()
		svc.down += time.Since(begun)
	}
}

func readTokens(t *testing.T, dir string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, credentialsName))
	if err != nil {
		t.Fatal(err)
	}
	tokens := map[string]string{}
	if err := json.Unmarshal(b, &tokens); err != nil {
		t.Fatal(err)
	}
	return tokens
}

// inside runs fn on the open folder.
func (d *desk) inside(fn func(ctx context.Context, a *app)) {
	d.t.Helper()
	defer d.hold()()
	fn(context.Background(), d.held)
}

// finishRouting takes what NATS producers left behind at the last moment.
func finishRouting(t *testing.T, d *desk) {
	t.Helper()
	d.inside(func(ctx context.Context, a *app) {
		a.route()
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := a.streams.WaitRouted(ctx); err != nil {
			t.Fatal(err)
		}
		if err := a.drain(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// compare holds the store against the sender's own log.
func (l *senderLog) compare(t *testing.T, d *desk) {
	t.Helper()
	stored := map[identity][]int{}
	var counts metering.Counts
	d.inside(func(ctx context.Context, a *app) {
		for e, err := range a.events.Events(ctx, metering.Span{}, metering.Filter{Voided: true}) {
			if err != nil {
				t.Fatal(err)
			}
			id := identity{e.Source, e.ID}
			stored[id] = append(stored[id], int(e.Data.Quantity.IntPart()))
		}
		var err error
		if counts, err = a.tally(ctx); err != nil {
			t.Fatal(err)
		}
		wrong, err := a.events.Check(ctx)
		if err != nil || len(wrong) > 0 {
			t.Errorf("the store against itself: %v, %v", wrong, err)
		}
	})
	var acked, unacked, unackedStored, conflicted, decided, ackedAgain, lost int
	var want int64
	for id, contents := range l.events {
		acks := 0
		for _, c := range contents {
			acks += c.acks
		}
		got := stored[id]
		switch {
		case acks > 0 && len(got) == 0:
			if lost++; lost < 5 {
				t.Errorf("%v was acknowledged and is not stored", id)
			}
		case len(got) > 1:
			t.Errorf("%v is stored %d times", id, len(got))
		}
		if acks > 0 {
			acked++
			ackedAgain += acks - 1
		} else {
			unacked++
			unackedStored += len(got)
		}
		if len(contents) > 1 && contents[0].acks > 0 && contents[1].acks > 0 {
			conflicted++
		}
		if len(got) == 0 {
			continue
		}
		win := slices.IndexFunc(contents, func(c *content) bool { return c.quantity == got[0] })
		if win < 0 || contents[win].tries == 0 {
			t.Errorf("%v is stored with quantity %d, which was never sent", id, got[0])
			continue
		}
		want += int64(contents[win].quantity)
		// What was acknowledged before the other content was first sent must stand.
		for i, c := range contents {
			for j, other := range contents {
				if i != j && c.firstAckedAt > 0 && (other.firstTry == 0 || c.firstAckedAt < other.firstTry) {
					decided++
					if win != i {
						t.Errorf("%v: quantity %d was acknowledged before %d was sent, but %d is stored", id, c.quantity, other.quantity, got[0])
					}
				}
			}
		}
	}
	for id := range stored {
		if l.events[id] == nil {
			t.Errorf("%v is stored and was never sent", id)
		}
	}
	if lost > 0 {
		t.Errorf("%d acknowledged events are not stored", lost)
	}
	// Each acknowledged delivery lies in the stream once; a delivery without an answer
	// may lie there too, and over NATS more than once.
	if counts.Announced < int64(l.acked) {
		t.Errorf("the stream has %d events, %d were acknowledged", counts.Announced, l.acked)
	}
	if counts.Conflict < int64(conflicted) {
		t.Errorf("%d conflicts are kept, at least %d were acknowledged", counts.Conflict, conflicted)
	}
	if conflicted == 0 || decided == 0 || ackedAgain == 0 {
		t.Errorf("the test lost its sense: %d conflicts, %d of them decided, %d duplicates", conflicted, decided, ackedAgain)
	}
	var rows []usageRow
	d.read(&rows, "usage", "--by", "app")
	if len(rows) != 1 || rows[0].Events != counts.Stored || rows[0].Quantity.IntPart() != want {
		t.Errorf("usage %+v, want %d events with quantity %d", rows, counts.Stored, want)
	}
	t.Logf("%d deliveries tried, %d acknowledged (%d over HTTP, %d over NATS), %d given up", l.tried, l.acked, l.overHTTP, l.overNATS, l.abandoned)
	t.Logf("%d events: %d acknowledged and stored once (%d acknowledged again), %d not acknowledged of which %d are stored, once", len(l.events), acked, ackedAgain, unacked, unackedStored)
	t.Logf("%d events with two contents acknowledged; in %d the first had to stand and stands; sum of quantity %d in both books", conflicted, decided, want)
	t.Logf("stream %d events = %d stored + %d duplicates + %d conflicts", counts.Announced, counts.Stored, counts.Duplicate, counts.Conflict)
}

func checkReconciled(t testing.TB, d *desk) {
	t.Helper()
	a := d.want(exitOK, "reconcile")
	if !strings.Contains(a.out, "\ndifference 0\n") {
		t.Errorf("reconcile: %s", a.out)
	}
}
