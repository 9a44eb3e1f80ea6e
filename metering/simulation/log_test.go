package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/metering/jetstream"
	"mete/metering/meteringtest"
	"mete/partner"
)

// The sources of events.
var sources = []string{"gateway-east", "gateway-west"}

var directory = metering.NewDirectory(
	[]partner.App{{ID: "scheduler", Partner: "northwind"}, {ID: "billing", Partner: "northwind"}},
	[]metering.Meter{{ID: "api_calls", Type: metering.UsageAPI, Aggregate: metering.AggregateCount}},
	[]metering.Source{{Name: sources[0], Owner: "gateway"}, {Name: sources[1], Owner: "gateway"}},
)

// senderLog is the senders' own record of what they sent and what was acknowledged: the
// oracle. It knows nothing of stream and store.
type senderLog struct {
	mu       sync.Mutex
	clock    int64 // counts tries and answers: what came before what
	stories  map[metering.Key]*story
	bySource map[string][]*story
	old      map[string][][]delivery // earlier batches, some of them
	made     int

	tried, acked, abandoned int // deliveries
}

// story is one identity and the contents that were sent under it, in the order of
// their making.
type story struct {
	source, id string
	contents   []*content
}

// content is what the senders know of one content. Times are readings of the clock.
type content struct {
	event                metering.Event
	hash                 metering.Hash
	tries, acks          int
	taken                int   // messages that the broker has on disk, for the router
	firstTry, firstAcked int64 // 0: never
}

// delivery is an event on its way.
type delivery struct {
	*content
	of *story
}

func newLog() *senderLog {
	return &senderLog{stories: map[metering.Key]*story{}, bySource: map[string][]*story{}, old: map[string][][]delivery{}}
}

// keptBatches bounds the earlier batches of a source that may be sent again.
const keptBatches = 100

// batch draws what is sent next, all of one source: new events, the same ones again,
// the same ones with other content, an earlier batch as it was, parts of earlier
// batches packed together.
func (l *senderLog) batch(r *rand.Rand, source string, most int) []delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.old[source]
	part := func() []delivery {
		b := old[r.IntN(len(old))]
		from := r.IntN(len(b))
		return b[from : from+1+r.IntN(len(b)-from)]
	}
	var b []delivery
	switch how := r.IntN(10); {
	case how == 0 && len(old) > 0:
		return old[r.IntN(len(old))] // resent
	case how == 1 && len(old) > 1:
		b = append(append(b, part()...), part()...)
		b = b[:min(len(b), most)]
	}
	for n := 1 + r.IntN(most); len(b) < n; {
		b = append(b, l.draw(r, source))
	}
	if r.IntN(3) == 0 {
		r.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
	}
	if len(old) < keptBatches {
		l.old[source] = append(old, b)
	} else {
		old[r.IntN(len(old))] = b
	}
	return b
}

// draw is one delivery: a new event, one that was before, or one that was before with
// another content.
func (l *senderLog) draw(r *rand.Rand, source string) delivery {
	known := l.bySource[source]
	how := r.IntN(100)
	if len(known) == 0 || how < 65 {
		l.made++
		s := &story{source: source, id: fmt.Sprintf("call-%06d", l.made)}
		c := l.content(r, s)
		l.stories[c.event.Key()] = s
		l.bySource[source] = append(known, s)
		return delivery{c, s}
	}
	s := known[r.IntN(len(known))]
	if how < 72 && len(s.contents) < 3 {
		return delivery{l.content(r, s), s}
	}
	return delivery{s.contents[r.IntN(len(s.contents))], s}
}

// content makes one more content of a story.
func (l *senderLog) content(r *rand.Rand, s *story) *content {
	for {
		c := &content{event: l.event(r, s.source, s.id)}
		c.hash = metering.ContentHash(c.event)
		if slices.ContainsFunc(s.contents, func(o *content) bool { return o.hash == c.hash }) || c.event.Data.RefersTo == s.id {
			continue
		}
		if refused := metering.Validate(c.event, directory, day.AddDate(0, 3, 0)); refused != nil {
			panic(fmt.Sprintf("event %+v: %+v", c.event, refused))
		}
		s.contents = append(s.contents, c)
		return c
	}
}

var day = time.Date(2026, 9, 14, 10, 0, 0, 123456000, time.UTC)

func (l *senderLog) event(r *rand.Rand, source, id string) metering.Event {
	e := metering.Event{ID: id, Source: source, Type: metering.UsageAPI, Time: day.Add(time.Duration(r.IntN(60*24*3600)) * time.Second),
		Customer: partner.CustomerID(fmt.Sprintf("clinic-%d", r.IntN(20)))}
	d := &e.Data
	d.App = []partner.AppID{"scheduler", "billing"}[r.IntN(2)]
	d.Operation = []string{"read", "search", "book"}[r.IntN(3)]
	switch what := r.IntN(100); {
	case what < 2 && l.made > 1:
		e.Customer, d.App, d.Operation = "", "", ""
		e.Type, d.RefersTo = metering.UsageVoided, fmt.Sprintf("call-%06d", 1+r.IntN(l.made+5)) // some of the other source, some later ones
	case what < 20:
		amount := decimal.New(r.Int64N(1_000_000), -2)
		e.Type, d.Amount, d.Currency, d.Class = metering.SalePaid, &amount, "USD", metering.Marketplace
	default:
		quantity := decimal.New(r.Int64N(1_000_000_000_000), -int32(r.IntN(metering.MaxQuantityPlaces+1)))
		d.Quantity, d.Class, d.Status, d.Bytes = &quantity, metering.API, []int{200, 404, 503}[r.IntN(3)], r.Int64N(1<<20)
		if r.IntN(20) == 0 {
			d.Environment = metering.Sandbox
		}
	}
	if r.IntN(20) == 0 {
		e.Time, e.TimeAbsent = time.Time{}, true
	}
	return e
}

// trying records that the batch is sent now.
func (l *senderLog) trying(b []delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	l.tried += len(b)
	for _, d := range b {
		d.tries++
		if d.firstTry == 0 {
			d.firstTry = l.clock
		}
	}
}

// answered records that all of the batch was acknowledged.
func (l *senderLog) answered(b []delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	l.acked += len(b)
	for _, d := range b {
		d.acks++
		if d.firstAcked == 0 {
			d.firstAcked = l.clock
		}
	}
}

// taken records that the broker has the batch on disk: the router will take it through
// the gate, whoever dies.
func (l *senderLog) taken(b []delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range b {
		d.taken++
	}
}

func (l *senderLog) gaveUp(b []delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.abandoned += len(b)
}

func (l *senderLog) events() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.made
}

func events(b []delivery) []metering.Event {
	es := make([]metering.Event, len(b))
	for i, d := range b {
		es[i] = d.event
	}
	return es
}

// body is the batch as CloudEvents.
func body(b []delivery) []byte {
	out := []byte("[")
	for i, d := range b {
		if i > 0 {
			out = append(out, ',')
		}
		e := d.event
		e.TimeAbsent = false // its time is zero, and left out
		out = append(out, `{"specversion":"1.0",`...)
		at := len(out)
		out = metering.AppendCanonical(out, e)
		out = slices.Delete(out, at, at+1) // the brace
	}
	return append(out, ']')
}

// judge reads the gate's answer to a batch.
func (l *senderLog) judge(b []delivery, answer []byte) error {
	var verdicts []metering.Verdict
	if err := json.Unmarshal(answer, &verdicts); err != nil {
		return fmt.Errorf("answer %.200q: %w", answer, err)
	}
	if len(verdicts) != len(b) {
		return fmt.Errorf("%d verdicts on %d events", len(verdicts), len(b))
	}
	for i, v := range verdicts {
		if v.Status != metering.StatusAccepted || v.ID != b[i].of.id {
			return fmt.Errorf("verdict %+v on %+v", v, b[i].event)
		}
	}
	l.answered(b)
	return nil
}

// found is what a comparison of the senders' record with a store came to.
type found struct {
	Identities, Acked, AckedAgain, Unacked, UnackedStored int
	Decided                                               int // a content had to be the one that counts
	Counts                                                metering.Counts
}

// compare holds the store against the senders' own log: everything acknowledged is there
// once and says what was sent, what was not acknowledged is there once at most, nothing
// else is there, and the figures of store and stream are the same. The store's own check
// must find nothing, but for rows that count nowhere and are said with the words left.
func (l *senderLog) compare(t *testing.T, s store, streams *jetstream.Streams, left string) (f found) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), verifyWithin)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	stored, places := map[metering.Key][]metering.Hash{}, map[metering.Position]bool{}
	for e, err := range s.Events(ctx, metering.Span{}, metering.Filter{Voided: true}) {
		if err != nil {
			t.Errorf("read the store: %v", err)
			return f
		}
		k := metering.KeyOf(e.Source, e.ID)
		stored[k] = append(stored[k], metering.ContentHash(e.Event))
		if places[e.Position] {
			t.Errorf("two events lie at %+v", e.Position)
		}
		places[e.Position] = true
		if l.stories[k] == nil {
			t.Errorf("%s of %s is stored and was never sent", e.ID, e.Source)
		}
	}
	for k, s := range l.stories {
		f.story(t, s, stored[k])
	}
	cutoff, err := s.Cutoff(ctx)
	if err != nil {
		t.Errorf("cutoff: %v", err)
		return f
	}
	if f.Counts, err = s.Counts(ctx, cutoff); err != nil {
		t.Errorf("counts: %v", err)
		return f
	}
	messages, announced, err := streams.Totals(ctx, cutoff)
	c := f.Counts
	if err != nil || messages != c.Messages || announced != c.Announced {
		t.Errorf("the stream has %d messages, %d events (%v); the store %d, %d", messages, announced, err, c.Messages, c.Announced)
	}
	if left := c.Announced - c.Stored - c.Duplicate - c.Conflict - c.Undecoded; left != 0 || c.Keys != c.Stored || c.Undecoded != 0 || int(c.Stored) != len(places) {
		t.Errorf("difference %d: %+v, %d rows", left, c, len(places))
	}
	if c.Announced < int64(l.acked) {
		t.Errorf("the stream has %d events, %d were acknowledged", c.Announced, l.acked)
	}
	wrong, err := s.Check(ctx)
	wrong = slices.DeleteFunc(wrong, func(f string) bool { return left != "" && strings.Contains(f, left) })
	if err != nil || len(wrong) > 0 {
		t.Errorf("the store against itself: %v, %v", wrong, err)
	}
	return f
}

// verifyWithin bounds what is asked of a store at the end.
const verifyWithin = 5 * time.Minute

// story compares one identity with what is stored of it.
func (f *found) story(t *testing.T, s *story, stored []metering.Hash) {
	t.Helper()
	f.Identities++
	acks, taken := 0, 0
	for _, c := range s.contents {
		acks += c.acks
		taken += c.taken
	}
	switch {
	case acks > 0 && len(stored) == 0:
		t.Errorf("%s of %s was acknowledged %d times and is not stored", s.id, s.source, acks)
	case taken > 0 && len(stored) == 0:
		t.Errorf("%s of %s was taken by the broker %d times, never routed, and is not stored", s.id, s.source, taken)
	case len(stored) > 1:
		t.Errorf("%s of %s is stored %d times", s.id, s.source, len(stored))
	}
	if acks > 0 {
		f.Acked++
		f.AckedAgain += acks - 1
	} else {
		f.Unacked++
		f.UnackedStored += len(stored)
	}
	if len(stored) == 0 {
		return
	}
	win := slices.IndexFunc(s.contents, func(c *content) bool { return c.hash == stored[0] })
	if win < 0 || s.contents[win].tries == 0 {
		t.Errorf("%s of %s is stored with a content that was never sent", s.id, s.source)
		return
	}
	// What was acknowledged before every other content was first sent must stand.
	for i, c := range s.contents {
		first := c.firstAcked > 0 && len(s.contents) > 1
		for j, other := range s.contents {
			first = first && (i == j || other.firstTry == 0 || c.firstAcked < other.firstTry)
		}
		if !first {
			continue
		}
		f.Decided++
		if win != i {
			t.Errorf("%s of %s: content %d was acknowledged before another was sent, and content %d is stored", s.id, s.source, i, win)
		}
	}
}

// sameAsModel fills a plain model from the stream and compares all that both say.
func sameAsModel(t *testing.T, s store, streams *jetstream.Streams) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), verifyWithin)
	defer cancel()
	m := new(meteringtest.Model)
	w := &jetstream.Worker{Streams: streams, Store: m}
	on, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- w.Run(on) }()
	err := w.WaitDrained(ctx, nil)
	stop()
	if ended := <-ran; err != nil || ended != nil {
		t.Errorf("fill the model: %v, %v", err, ended)
		return
	}
	meteringtest.Compare(t, s, m, metering.Span{})
}
