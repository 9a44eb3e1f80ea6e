package httpin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mete/metering"
	"mete/metering/httpin"
	"mete/metering/jetstream"
)

// parcel is a request of a sender: events, or a log, of the same calls.
type parcel struct {
	path string
	body string
	ids  []string // as they will stand in the store
}

const parcelSize = 100

// newParcel makes every second one a log.
func newParcel(sender, number int) parcel {
	p := parcel{path: httpin.Path}
	if sender%2 == 1 {
		p.path = httpin.LogsPath + "nginx-eu"
	}
	var all []string
	for n := range parcelSize {
		id := fmt.Sprintf("%d-%d-%d", sender, number, n)
		p.ids = append(p.ids, id)
		if p.path == httpin.Path {
			all = append(all, cloudEvent("gw-eu-1", id, "northwind-scheduler"))
		} else {
			all = append(all, fmt.Sprintf(`{"msec":1789380000.396,"request_id":%q,"status":200,"request_time":0.021,"app":"northwind-scheduler"}`, id))
		}
	}
	p.body = "[" + strings.Join(all, ",") + "]"
	return p
}

// post sends the parcel once. An answer that asks to wait must say for how long, and
// that this was not all.
func (p parcel) post(ctx context.Context, url string) (status int, after time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+p.path, strings.NewReader(p.body))
	if err != nil {
		return 0, 0, err
	}
	r.Header.Set("Authorization", "Bearer key")
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, 0, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, 0, err
	}
	if res.StatusCode < 300 {
		return res.StatusCode, 0, nil
	}
	var problem httpin.Problem
	if err := json.Unmarshal(body, &problem); err != nil || problem.Status != res.StatusCode || !strings.Contains(problem.Detail, "send this request again after Retry-After") {
		return 0, 0, fmt.Errorf("%s: %s", res.Status, body)
	}
	seconds, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil || seconds < 1 {
		return 0, 0, fmt.Errorf("%s: Retry-After %q", res.Status, res.Header.Get("Retry-After"))
	}
	return res.StatusCode, time.Duration(seconds) * time.Second, nil
}

// book is what the senders know: which events were acknowledged, and how often they
// were told to wait. It is compared with the store, and made without it.
type book struct {
	mu           sync.Mutex
	acknowledged map[string]bool
	waits        map[int]int
}

func (b *book) note(status int, p parcel) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if status < 300 {
		for _, id := range p.ids {
			b.acknowledged[id] = true
		}
		return
	}
	b.waits[status]++
}

// compare asserts that the store has exactly the acknowledged events, each once.
func (b *book) compare(t *testing.T, r *river) metering.Counts {
	t.Helper()
	c := r.counts(t)
	stored := map[string]int{}
	for a, err := range r.store.Events(t.Context(), metering.Span{}, metering.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		stored[a.Event.ID]++
		if !b.acknowledged[a.Event.ID] {
			t.Fatalf("event %s is stored, and its sender was never told that it is", a.Event.ID)
		}
	}
	for id := range b.acknowledged {
		if stored[id] != 1 {
			t.Fatalf("event %s was acknowledged and is stored %d times", id, stored[id])
		}
	}
	if c.Stored != int64(len(b.acknowledged)) || c.Announced != c.Stored+c.Duplicate || c.Conflict+c.Undecoded != 0 {
		t.Errorf("counts %+v; %d were acknowledged", c, len(b.acknowledged))
	}
	return c
}

// TestSendersThatWaitLoseNothing lets many send at once into a queue that holds one
// request. Who waits as long as he is told gets everything in, once; what was answered
// 429 and not sent again is nowhere.
func TestSendersThatWaitLoseNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	r := newRiver(t, jetstream.Settings{MaxBytes: 64 << 20}, &jetstream.Intake{MaxQueued: parcelSize + parcelSize/2})
	b := &book{acknowledged: map[string]bool{}, waits: map[int]int{}}
	const senders, each = 6, 2
	begin := make(chan struct{})
	var running sync.WaitGroup
	for s := range senders {
		running.Go(func() {
			<-begin
			for n := range each {
				p := newParcel(s, n)
				for {
					status, after, err := p.post(ctx, r.url)
					if err != nil {
						t.Error(err)
						return
					}
					b.note(status, p)
					if status < 300 {
						break
					}
					if status != http.StatusTooManyRequests {
						t.Errorf("status %d", status)
					}
					time.Sleep(after)
				}
			}
		})
	}
	// One sends several at once and gives up whatever he is told to wait with.
	var gaveUp atomic.Int64
	running.Go(func() {
		<-begin
		for round := range 50 {
			var several sync.WaitGroup
			for n := range 8 {
				several.Go(func() {
					p := newParcel(senders+n, round)
					status, _, err := p.post(ctx, r.url)
					if err != nil {
						t.Error(err)
						return
					}
					if b.note(status, p); status >= 300 {
						gaveUp.Add(1)
					}
				})
			}
			if several.Wait(); gaveUp.Load() > 0 {
				return
			}
		}
	})
	close(begin)
	running.Wait()
	if b.waits[http.StatusTooManyRequests] == 0 || gaveUp.Load() == 0 {
		t.Errorf("nobody had to wait, %d gave up: %v", gaveUp.Load(), b.waits)
	}
	if c := b.compare(t, r); c.Duplicate != 0 {
		t.Errorf("%d duplicates: something of a request that was answered 429 was taken", c.Duplicate)
	}
	t.Logf("%d events acknowledged; answers that asked to wait: %v, of which %d were not sent again", len(b.acknowledged), b.waits, gaveUp.Load())
}

// TestAFullStreamIsToldAndLosesNothing fills the stream to its bound. Senders are told
// to wait a minute; part of a request may be in, and is counted once when it is sent
// again after there is room.
func TestAFullStreamIsToldAndLosesNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	r := newRiver(t, jetstream.Settings{Partitions: 4, MaxBytes: 32 << 10}, &jetstream.Intake{})
	b := &book{acknowledged: map[string]bool{}, waits: map[int]int{}}
	var waiting []parcel
	for n := 0; len(waiting) < 4; n++ {
		if n == 100 {
			t.Fatal("the stream never got full")
		}
		p := newParcel(n%2, n)
		status, after, err := p.post(ctx, r.url)
		if err != nil {
			t.Fatal(err)
		}
		b.note(status, p)
		if status < 300 {
			continue
		}
		if status != http.StatusServiceUnavailable || after != time.Minute {
			t.Fatalf("status %d, after %s; want 503, after a minute", status, after)
		}
		waiting = append(waiting, p)
	}
	// What the store has beside the acknowledged is of requests whose senders were told
	// that part may be in.
	before := r.counts(t)
	half := before.Announced - int64(len(b.acknowledged))
	if half < 0 || half > int64(len(waiting)*parcelSize) {
		t.Errorf("%d announced, %d acknowledged", before.Announced, len(b.acknowledged))
	}

	r.resize(64 << 20)
	for _, p := range waiting {
		status, _, err := p.post(ctx, r.url)
		if err != nil || status != http.StatusAccepted {
			t.Fatalf("with room again: %d %v", status, err)
		}
		b.note(status, p)
	}
	if c := b.compare(t, r); c.Duplicate != half {
		t.Errorf("%d duplicates, want the %d that were in before", c.Duplicate, half)
	}
	t.Logf("%d events acknowledged; %d of those answered 503 were in and counted once", len(b.acknowledged), half)
}
