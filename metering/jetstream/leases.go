package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	js "github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"mete/internal/failpoint"
)

// Leases spread the partitions among workers on any number of machines. A partition's
// lease is one key that changes hands by compare-and-set, and every change of hands
// counts its epoch up.
//
// A lease is not exclusion: a worker that was paused goes on with what it was doing
// when it wakes. The store tells by the epoch whose rows count; leases only see to it
// that there is somebody for each partition, and rarely two. So nothing here depends
// on clocks of different machines: whoever watches a lease measures by its own clock
// how long it has not been renewed.
type Leases struct {
	Streams *Streams
	Owner   string // this worker; another one for each process and start

	// Floor is the highest epoch that the store knows of a partition; leases give
	// higher ones, even if their own record was lost.
	Floor func(ctx context.Context, partition int) (uint64, error)

	// Changed, if given, is told when this worker begins and ends with a partition.
	Changed func(l Lease, held bool)

	TTL  time.Duration // a lease not renewed for so long is free; 0 = 6 s
	Beat time.Duration // how often leases are renewed and spread; 0 = a quarter of TTL

	kv js.KeyValue

	mu   sync.Mutex
	seen map[string]seenKey
	held map[int]*held
	lost error // why leases cannot be renewed now, nil if they can
}

// DefaultLeaseTTL bounds how long a partition stands still when its worker dies: the
// TTL, one beat, and what the next worker needs to begin.
const DefaultLeaseTTL = 6 * time.Second

const (
	leaseBucket = "METE_LEASES"
	leaseBytes  = 16 << 20 // of the bucket; a lease is some hundred bytes, one revision is kept
	leasePrefix = "partition."
	nodePrefix  = "worker."
)

// Fail-points.
const (
	afterAcquire  failpoint.Point = "leases.after-acquire"
	beforeRelease failpoint.Point = "leases.before-release"
)

// Lease is who fills a partition.
type Lease struct {
	Partition int    `json:"partition"`
	Owner     string `json:"owner"`
	Epoch     uint64 `json:"epoch"`
	Released  bool   `json:"released,omitempty"` // given back: free at once
	Free      bool   `json:"free,omitempty"`     // released, or not renewed for a TTL
}

// seenKey is a key of the bucket and when this process saw it change.
type seenKey struct {
	revision uint64
	value    []byte
	at       time.Time
}

// held is a lease of ours.
type held struct {
	lease    Lease
	revision uint64
	renewed  time.Time
	stop     context.CancelCauseFunc
	done     chan struct{} // closed when the work on the partition has ended
}

// ErrLeaseLost is why the work on a partition ends: somebody else has its lease, or it
// could not be renewed.
var ErrLeaseLost = errors.New("the lease of the partition is lost")

// errReleased is why the work on a partition ends when another worker is to have it.
var errReleased = errors.New("the lease is given back")

func (l *Leases) ttl() time.Duration { return cmp.Or(l.TTL, DefaultLeaseTTL) }

func (l *Leases) beat() time.Duration { return cmp.Or(l.Beat, l.ttl()/4) }

// open makes the bucket where it is missing.
func (l *Leases) open(ctx context.Context) (js.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	kv, err := l.Streams.js.KeyValue(ctx, leaseBucket)
	if errors.Is(err, js.ErrBucketNotFound) {
		kv, err = l.Streams.js.CreateKeyValue(ctx, js.KeyValueConfig{
			Bucket: leaseBucket, Description: "mete: who fills which partition", History: 1,
			MaxBytes: leaseBytes, Storage: js.FileStorage, Replicas: l.Streams.settings.Replicas,
		})
		if errors.Is(err, js.ErrBucketExists) {
			kv, err = l.Streams.js.KeyValue(ctx, leaseBucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("leases: bucket %s: %w", leaseBucket, err)
	}
	return kv, nil
}

// Run takes this worker's share of the partitions and runs work for each, until ctx
// ends or work fails. The context of work ends when its lease is lost or given back;
// the lease is given back when work returns. Leases of this worker are free when Run
// returns.
func (l *Leases) Run(ctx context.Context, work func(ctx context.Context, partition int, epoch uint64) error) error {
	kv, err := l.open(ctx)
	if err != nil {
		return err
	}
	l.kv = kv
	l.mu.Lock()
	l.seen, l.held, l.lost = map[string]seenKey{}, map[int]*held{}, nil
	l.mu.Unlock()
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return l.watch(ctx) })
	all.Go(func() error {
		err := l.spread(ctx, all, work)
		l.leave()
		return err
	})
	if err := all.Wait(); err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	return nil
}

// watch keeps what the bucket says, with when this process saw it change.
func (l *Leases) watch(ctx context.Context) error {
	for ctx.Err() == nil {
		w, err := l.kv.WatchAll(ctx)
		if err != nil {
			l.note(err)
			sleep(ctx, l.beat())
			continue
		}
		l.follow(ctx, w)
		_ = w.Stop() // fails only where the connection is gone: watch again
	}
	return nil
}

func (l *Leases) follow(ctx context.Context, w js.KeyWatcher) {
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-w.Updates():
			if !ok {
				return
			}
			if e == nil {
				continue // what was there is told
			}
			l.mu.Lock()
			if s := l.seen[e.Key()]; e.Revision() > s.revision {
				l.seen[e.Key()] = seenKey{e.Revision(), e.Value(), time.Now()}
			}
			l.mu.Unlock()
		}
	}
}

func (l *Leases) note(err error) {
	l.mu.Lock()
	l.lost = err
	l.mu.Unlock()
}

// spread renews what is held and takes or gives back partitions, beat by beat.
func (l *Leases) spread(ctx context.Context, all *errgroup.Group, work func(context.Context, int, uint64) error) error {
	tick := time.NewTicker(l.beat())
	defer tick.Stop()
	for first := true; ; first = false {
		if !first {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
		if err := l.sayAlive(ctx); err != nil {
			l.note(err)
			l.renew(ctx)
			continue
		}
		l.renew(ctx)
		l.balance(ctx, all, work)
	}
}

// sayAlive tells other workers of this one.
func (l *Leases) sayAlive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.beat())
	defer cancel()
	revision, err := l.kv.Put(ctx, nodePrefix+token(l.Owner), []byte(l.Owner))
	if err != nil {
		return fmt.Errorf("renew: %w", err)
	}
	l.mu.Lock()
	l.seen[nodePrefix+token(l.Owner)] = seenKey{revision, []byte(l.Owner), time.Now()}
	l.lost = nil
	l.mu.Unlock()
	return nil
}

// renew keeps the leases of this worker. One that somebody else has, or that could not
// be renewed for a TTL, ends the work on its partition.
func (l *Leases) renew(ctx context.Context) {
	for p, h := range l.holding() {
		value, err := json.Marshal(h.lease)
		if err != nil {
			panic("jetstream: internal error: " + err.Error()) // a struct of texts and numbers
		}
		one, cancel := context.WithTimeout(ctx, l.beat())
		revision, err := l.kv.Update(one, leaseKey(p), value, h.revision)
		cancel()
		switch {
		case err == nil:
			l.mu.Lock()
			h.revision, h.renewed = revision, time.Now()
			l.mu.Unlock()
		case isWrongRevision(err):
			h.stop(fmt.Errorf("partition %d: %w: another worker took it", p, ErrLeaseLost))
		case time.Since(h.renewed) > l.ttl():
			h.stop(fmt.Errorf("partition %d: %w: not renewed for %s: %w", p, ErrLeaseLost, l.ttl(), err))
		default:
			l.note(fmt.Errorf("renew partition %d: %w", p, err))
		}
	}
}

func (l *Leases) holding() map[int]*held {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.held)
}

// isWrongRevision reports whether a compare-and-set failed because the key has changed.
func isWrongRevision(err error) bool {
	var api *js.APIError
	return errors.As(err, &api) && api.ErrorCode == js.JSErrCodeStreamWrongLastSequence || errors.Is(err, js.ErrKeyExists)
}

func leaseKey(partition int) string { return leasePrefix + strconv.Itoa(partition) }

// workers are the owners that were alive within a TTL, in order.
func (l *Leases) workers() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var live []string
	for key, s := range l.seen {
		if strings.HasPrefix(key, nodePrefix) && len(s.value) > 0 && time.Since(s.at) < l.ttl() {
			live = append(live, string(s.value))
		}
	}
	slices.Sort(live)
	return live
}

// share is how many partitions this worker should have among those alive.
func (l *Leases) share() int {
	live := l.workers()
	n := l.Streams.Partitions()
	rank := slices.Index(live, l.Owner)
	if rank < 0 {
		return 0
	}
	share := n / len(live)
	if rank < n%len(live) {
		share++
	}
	return share
}

// balance gives back one partition too many, or takes what is free up to the share.
func (l *Leases) balance(ctx context.Context, all *errgroup.Group, work func(context.Context, int, uint64) error) {
	holding, share := l.holding(), l.share()
	if len(holding) > share {
		p := slices.Max(slices.Collect(maps.Keys(holding)))
		holding[p].stop(errReleased)
		return
	}
	for p := 0; p < l.Streams.Partitions() && len(holding) < share; p++ {
		if holding[p] != nil {
			continue
		}
		h, err := l.take(ctx, p)
		if err != nil {
			l.note(err)
			continue
		}
		if h == nil {
			continue
		}
		holding[p] = h
		on, stop := context.WithCancelCause(ctx)
		h.stop = stop
		l.mu.Lock()
		l.held[p] = h
		l.mu.Unlock()
		all.Go(func() error {
			defer stop(nil)
			l.changed(h.lease, true)
			err := work(on, p, h.lease.Epoch)
			l.changed(h.lease, false)
			l.giveBack(p, h)
			if on.Err() != nil {
				return nil // lost, given back, or at the end
			}
			return err
		})
	}
}

func (l *Leases) changed(lease Lease, held bool) {
	if l.Changed != nil {
		l.Changed(lease, held)
	}
}

// take acquires the partition if it is free, else returns nil.
func (l *Leases) take(ctx context.Context, partition int) (*held, error) {
	ctx, cancel := context.WithTimeout(ctx, l.ttl())
	defer cancel()
	s, known := l.look(partition)
	if !known {
		// Watching may have just begun: ask.
		switch e, err := l.kv.Get(ctx, leaseKey(partition)); {
		case err == nil:
			l.mu.Lock()
			if l.seen[leaseKey(partition)].revision < e.Revision() {
				l.seen[leaseKey(partition)] = seenKey{e.Revision(), e.Value(), time.Now()}
			}
			l.mu.Unlock()
			s, _ = l.look(partition)
		case !errors.Is(err, js.ErrKeyNotFound):
			return nil, fmt.Errorf("take partition %d: %w", partition, err)
		}
	}
	if s.revision > 0 && !s.lease.Free {
		return nil, nil
	}
	floor := uint64(0)
	if l.Floor != nil {
		var err error
		if floor, err = l.Floor(ctx, partition); err != nil {
			return nil, fmt.Errorf("take partition %d: %w", partition, err)
		}
	}
	next := Lease{Partition: partition, Owner: l.Owner, Epoch: max(s.lease.Epoch, floor) + 1}
	value, err := json.Marshal(next)
	if err != nil {
		return nil, err
	}
	var revision uint64
	if s.revision == 0 {
		revision, err = l.kv.Create(ctx, leaseKey(partition), value)
	} else {
		revision, err = l.kv.Update(ctx, leaseKey(partition), value, s.revision)
	}
	if isWrongRevision(err) {
		return nil, nil // another worker was faster
	}
	if err != nil {
		return nil, fmt.Errorf("take partition %d: %w", partition, err)
	}
	if err := afterAcquire.Hit(); err != nil {
		return nil, err
	}
	return &held{lease: next, revision: revision, renewed: time.Now(), done: make(chan struct{})}, nil
}

// seenLease is a lease as this process knows it.
type seenLease struct {
	lease    Lease
	revision uint64
}

// look is what this process knows of a partition's lease.
func (l *Leases) look(partition int) (seenLease, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, known := l.seen[leaseKey(partition)]
	if !known {
		return seenLease{}, false
	}
	out := seenLease{revision: s.revision}
	// A record that cannot be read is nobody's: the next epoch comes from the store.
	if err := json.Unmarshal(s.value, &out.lease); err != nil || out.lease.Released || time.Since(s.at) > l.ttl() {
		out.lease.Free = true
	}
	out.lease.Partition = partition
	return out, true
}

// giveBack makes a lease free at once, if it is still ours.
func (l *Leases) giveBack(partition int, h *held) {
	l.mu.Lock()
	delete(l.held, partition)
	revision := h.revision
	l.mu.Unlock()
	defer close(h.done)
	if err := beforeRelease.Hit(); err != nil {
		return // it is free after its TTL
	}
	lease := h.lease // a renewal under way reads the original
	lease.Released = true
	value, err := json.Marshal(lease)
	if err != nil {
		panic("jetstream: internal error: " + err.Error())
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.ttl())
	defer cancel()
	// A failure is no harm: the lease is free after its TTL. A renewal that was under
	// way has changed the revision; while the record is ours, it may be released.
	for range 2 {
		if _, err = l.kv.Update(ctx, leaseKey(partition), value, revision); !isWrongRevision(err) {
			return
		}
		e, err := l.kv.Get(ctx, leaseKey(partition))
		var now Lease
		if err != nil || json.Unmarshal(e.Value(), &now) != nil || now.Owner != l.Owner || now.Epoch != h.lease.Epoch {
			return
		}
		revision = e.Revision()
	}
}

// leave waits until the work on every partition has ended and takes this worker off
// the list.
func (l *Leases) leave() {
	for _, h := range l.holding() {
		h.stop(nil)
		<-h.done
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.beat())
	defer cancel()
	_ = l.kv.Delete(ctx, nodePrefix+token(l.Owner)) // else it is forgotten after a TTL
}

// State is who has which partition, as this process knows it, and why it cannot renew
// its own, if it cannot.
func (l *Leases) State() ([]Lease, error) {
	out := make([]Lease, l.Streams.Partitions())
	for p := range out {
		s, known := l.look(p)
		out[p] = s.lease
		out[p].Partition = p
		out[p].Free = !known || s.lease.Free
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return out, l.lost
}
