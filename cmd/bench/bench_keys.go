package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"mete/internal/keyfilter"
	"mete/metering"
	"mete/metering/clickhouse"
)

// The load of benchKeys.
const (
	keysBlocks      = 40 // each of keysPerBlock events
	keysPerBlock    = 20_000
	keysPerMessage  = 250
	keysRepeatEvery = 10
)

// benchKeys stores blocks in which one event in ten was stored before, at any time, in
// stores that know more and more keys, and measures what it costs to tell: a look into
// the filter for each event, and a question to the table for those that it does not
// know to be new.
func benchKeys(ctx context.Context, long bool, emit func(Result)) error {
	sizes := []int{1_000_000, 10_000_000}
	if long {
		sizes = append(sizes, 100_000_000)
	}
	var first keyPrice
	for _, n := range sizes {
		p, err := priceOfKeys(ctx, n)
		if err != nil {
			return fmt.Errorf("%d keys: %w", n, err)
		}
		if first.events == 0 {
			first = p
		}
		p.show(n, first, emit)
	}
	return nil
}

// keyPrice is what was measured at one number of keys.
type keyPrice struct {
	events, questions int
	asking            time.Duration // the engine's answers about keys
	storing           time.Duration // all of Append
	filter            float64       // µs for each event
	taking            time.Duration // the first block of every partition: the filter is made
	found             int           // repeats that were told
	bytes             float64       // of table keys, for each key
}

func (p keyPrice) each(d time.Duration) float64 {
	return float64(d) / float64(time.Microsecond) / float64(p.events)
}

func (p keyPrice) show(n int, first keyPrice, emit func(Result)) {
	at := " at " + number(float64(n)/1e6) + " million keys"
	of := func(p keyPrice) float64 { return p.each(p.asking) + p.filter }
	r := Result{Name: "key look-up" + at, Value: of(p), Unit: "µs", Note: fmt.Sprintf(
		"each event, one in ten stored before · filter %.3f µs, table %.3f µs, %d questions", p.filter, p.each(p.asking), p.questions)}
	rate := Result{Name: "events stored" + at, Value: float64(p.events) / p.storing.Seconds(), Unit: "/s",
		Note: fmt.Sprintf("blocks of %s · %.1f bytes of disk a key · taking over %d partitions took %.1fs", number(keysPerBlock), p.bytes, dedupPartitions, p.taking.Seconds())}
	if p != first {
		r.Limit = Limit{"at a million", of(first)}
		rate.Limit = Limit{"at a million", float64(first.events) / first.storing.Seconds()}
	}
	emit(r)
	emit(rate)
}

func priceOfKeys(ctx context.Context, n int) (_ keyPrice, err error) {
	e, err := startEngine()
	if err != nil {
		return keyPrice{}, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	d := dedup{engine: e, sent: n / 9 * 10}
	t, err := startTap(e, func(p *passed) bool { return p.asks("keys") })
	if err != nil {
		return keyPrice{}, err
	}
	defer t.close()
	store, err := clickhouse.Open(ctx, clickhouse.Options{DSN: t.dsn()})
	if err != nil {
		return keyPrice{}, err
	}
	defer store.Close()
	if _, err := store.Attach(ctx, "bench", dedupPartitions); err != nil {
		return keyPrice{}, err
	}
	if err := d.fill(ctx); err != nil {
		return keyPrice{}, err
	}
	if err := e.settle(ctx); err != nil {
		return keyPrice{}, err
	}
	size, err := e.number(ctx, `SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts WHERE database = currentDatabase() AND table = 'keys' AND active`)
	if err != nil {
		return keyPrice{}, err
	}
	p := keyPrice{bytes: size}
	cutoff, err := store.Cutoff(ctx)
	if err != nil {
		return keyPrice{}, err
	}
	positions := make([]uint64, dedupPartitions)
	for _, c := range cutoff {
		positions[c.Partition] = c.Sequence
	}
	// The first block of each partition makes the filter.
	began := time.Now()
	for _, b := range blocks(d.load().events(d.sent, dedupPartitions*keysPerMessage), positions, keysPerMessage, keysPerBlock) {
		if _, err := store.Append(ctx, b); err != nil {
			return keyPrice{}, err
		}
	}
	p.taking = time.Since(began)
	t.taken()
	all := blocks(d.some(d.sent+dedupPartitions*keysPerMessage, keysBlocks*keysPerBlock), positions, keysPerMessage, keysPerBlock)
	began = time.Now()
	for _, b := range all {
		got, err := store.Append(ctx, b)
		if err != nil {
			return keyPrice{}, err
		}
		p.events += got.Stored + got.Duplicate + got.Conflict
		p.found += got.Duplicate
	}
	p.storing = time.Since(began)
	for _, q := range t.taken() {
		p.questions++
		p.asking += q.took
	}
	if want := keysBlocks * keysPerBlock; p.events != want || p.found != want/keysRepeatEvery {
		return keyPrice{}, fmt.Errorf("of %d events, %d sent before, %d were stored or told, %d told", want, want/keysRepeatEvery, p.events, p.found)
	}
	p.filter, err = filterPrice(n)
	return p, err
}

// some are events of which one in ten was stored before.
func (d *dedup) some(from, count int) []metering.Event {
	r := rand.New(rand.NewPCG(1, 2))
	l := d.load()
	es := l.events(from, count)
	for i := keysRepeatEvery - 1; i < count; i += keysRepeatEvery {
		es[i] = l.event(r.IntN(d.sent/10)*10 + r.IntN(9))
	}
	return es
}

// settle waits until the engine has merged what it wants to merge.
func (e *engine) settle(ctx context.Context) error {
	for idle := 0; idle < 10; {
		n, err := e.number(ctx, `SELECT count() FROM system.merges`)
		if err != nil {
			return err
		}
		if idle++; n > 0 {
			idle = 0
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// filterPrice is what the filter takes for an event, in µs, when it knows n keys: the
// look, and the new key.
func filterPrice(n int) (float64, error) {
	r := rand.New(rand.NewPCG(3, 4))
	keys := make([]keyfilter.Key, 1<<16)
	random := func(keys []keyfilter.Key) {
		for i := range keys {
			binary.LittleEndian.PutUint64(keys[i][:8], r.Uint64())
			binary.LittleEndian.PutUint64(keys[i][8:], r.Uint64())
		}
	}
	filters, marker := make([]*keyfilter.Filter, dedupPartitions), uint64(0)
	for i := range filters {
		filters[i] = keyfilter.New(keyfilter.Options{})
		for left := n / dedupPartitions; left > 0; left -= len(keys) {
			marker++
			part := keys[:min(left, len(keys))]
			random(part)
			if err := filters[i].Add(marker, part); err != nil {
				return 0, err
			}
		}
	}
	part, maybe := make([]keyfilter.Key, keysPerBlock), make([]bool, keysPerBlock)
	var took time.Duration
	for i := range keysBlocks {
		random(part)
		marker++
		f := filters[i%len(filters)]
		began := time.Now()
		f.MaybeStored(part, maybe)
		if err := f.Add(marker, part); err != nil {
			return 0, err
		}
		took += time.Since(began)
	}
	return float64(took) / float64(time.Microsecond) / float64(keysBlocks*keysPerBlock), nil
}
