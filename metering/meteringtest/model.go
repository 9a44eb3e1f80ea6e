package meteringtest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"math/big"
	"slices"
	"sync"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
)

// Model is a metering store that keeps everything in a list and answers every
// question by going through all of it. It is slow, and plain enough to be right.
type Model struct {
	mu         sync.RWMutex
	stream     string
	partitions int
	messages   []metering.Message
	where      []metering.PartitionCutoff // of messages
	position   map[int]uint64
	stored     []metering.Accepted
	first      map[metering.Key]int // into stored
	voids      []void
	duplicates []metering.Accepted
	conflicts  []metering.Accepted
}

var _ metering.Store = (*Model)(nil)

// void is a stored usage.voided event and the key that it takes out.
type void struct {
	target metering.Key
	at     metering.Position
}

// Attach is as in [metering.Store].
func (m *Model) Attach(_ context.Context, stream string, partitions int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stream == "" {
		m.stream, m.partitions = stream, partitions
	}
	if m.stream != stream || m.partitions != partitions {
		return 0, fmt.Errorf("filled from %q with %d partitions, not %q with %d: start an empty store: %w",
			m.stream, m.partitions, stream, partitions, metering.ErrIncarnation)
	}
	return 1, nil
}

// Position is as in [metering.Store].
func (m *Model) Position(_ context.Context, partition int) (uint64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.position[partition], nil
}

// Cutoff is as in [metering.Store].
func (m *Model) Cutoff(context.Context) (metering.Cutoff, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c := metering.Cutoff{}
	for p := range m.partitions {
		c = append(c, metering.PartitionCutoff{Incarnation: 1, Partition: p, Sequence: m.position[p]})
	}
	return c, nil
}

// Append is as in [metering.Store].
func (m *Model) Append(ctx context.Context, b metering.Block) (metering.Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var o metering.Outcome
	if err := ctx.Err(); err != nil {
		return o, err
	}
	if m.stream == "" || b.Incarnation != 1 {
		return o, fmt.Errorf("incarnation %d is not attached: %w", b.Incarnation, metering.ErrIncarnation)
	}
	if b.First == 0 || b.Last-b.First+1 != uint64(len(b.Messages)) || b.First > m.position[b.Partition]+1 {
		return o, fmt.Errorf("messages %d to %d of partition %d, stored up to %d: %w", b.First, b.Last, b.Partition, m.position[b.Partition], metering.ErrGap)
	}
	if m.first == nil {
		m.first, m.position = map[metering.Key]int{}, map[int]uint64{}
	}
	for _, msg := range b.Messages {
		if msg.Sequence <= m.position[b.Partition] {
			continue
		}
		for _, e := range msg.Events {
			i, known := m.first[e.Key]
			switch {
			case !known:
				m.first[e.Key] = len(m.stored)
				m.stored = append(m.stored, e)
				if e.Type == metering.UsageVoided {
					m.voids = append(m.voids, void{metering.KeyOf(e.Source, e.Data.RefersTo), e.Position})
				}
				o.Stored++
			case m.stored[i].Hash == e.Hash:
				m.duplicates = append(m.duplicates, e)
				o.Duplicate++
			default:
				m.conflicts = append(m.conflicts, e)
				o.Conflict++
			}
		}
		o.Undecoded += len(msg.Undecoded)
		m.messages = append(m.messages, msg)
		m.where = append(m.where, metering.PartitionCutoff{Incarnation: 1, Partition: b.Partition, Sequence: msg.Sequence})
		m.position[b.Partition] = msg.Sequence
	}
	return o, nil
}

// within reports whether p lies within the cutoff.
func within(c metering.Cutoff, p metering.Position) bool {
	for _, pc := range c {
		if pc.Partition == p.Partition {
			return cmp.Or(cmp.Compare(p.Incarnation, pc.Incarnation), cmp.Compare(p.Sequence, pc.Sequence)) <= 0
		}
	}
	return false
}

func upTo(c metering.Cutoff, p metering.Position) bool { return c == nil || within(c, p) }

// occurred reports whether the event is of the span's times and apps.
func occurred(s metering.Span, e *metering.Accepted) bool {
	return (s.Start.IsZero() || !e.Time.Before(s.Start)) &&
		(s.End.IsZero() || e.Time.Before(s.End)) &&
		(s.Apps == nil || slices.Contains(s.Apps, e.Data.App))
}

// between reports whether p lies between the span's cutoffs.
func between(s metering.Span, p metering.Position) bool {
	return upTo(s.UpTo, p) && !within(s.After, p)
}

// voidOf is the first void up to the cutoff that takes the event out.
func (m *Model) voidOf(c metering.Cutoff, e *metering.Accepted) *metering.Position {
	if e.Type == metering.UsageVoided {
		return nil
	}
	for _, v := range m.voids {
		if v.target == e.Key && upTo(c, v.at) {
			return &v.at
		}
	}
	return nil
}

// Usage is as in [metering.Store].
func (m *Model) Usage(ctx context.Context, s metering.Span) iter.Seq2[metering.Usage, error] {
	return func(yield func(metering.Usage, error) bool) {
		m.mu.RLock()
		cells := map[metering.Usage]*metering.Usage{}
		bytes := map[metering.Usage]*big.Int{}
		for i := range m.stored {
			e := &m.stored[i]
			if e.Type == metering.UsageVoided || !occurred(s, e) || !between(s, e.Position) || m.voidOf(s.UpTo, e) != nil {
				continue
			}
			k := cellOf(e)
			u := cells[k]
			if u == nil {
				c := k
				u = &c
				cells[k], bytes[k] = u, new(big.Int)
			}
			u.Count++
			bytes[k].Add(bytes[k], big.NewInt(e.Data.Bytes))
			u.Quantity = u.Quantity.Add(or(e.Data.Quantity, decimal.NewFromInt(1)))
			u.Amount = u.Amount.Add(or(e.Data.Amount, decimal.Zero))
			if or(e.Data.LatencyMS, decimal.Zero).GreaterThan(decimal.NewFromInt(metering.SlowMS)) {
				u.Slow++
			}
		}
		m.mu.RUnlock()
		for k, u := range cells {
			err := ctx.Err()
			if !bytes[k].IsInt64() {
				err = fmt.Errorf("usage: bytes of app %s exceed %d", k.App, math.MaxInt64)
			}
			u.Bytes = bytes[k].Int64()
			if !yield(*u, err) || err != nil {
				return
			}
		}
	}
}

func or(d *decimal.Decimal, absent decimal.Decimal) decimal.Decimal {
	if d == nil {
		return absent
	}
	return *d
}

// cellOf is the fields that an event is grouped by.
func cellOf(e *metering.Accepted) metering.Usage {
	d := e.Data
	u := metering.Usage{App: d.App, Customer: e.Customer, Type: e.Type, Class: d.Class, Operation: d.Operation, Unit: d.Unit,
		Currency: d.Currency, Status: d.Status, Environment: d.Environment}
	if len(d.Dimensions) > 0 {
		b, err := json.Marshal(d.Dimensions)
		if err != nil {
			panic(err) // of a map of strings
		}
		u.Dimensions = string(b)
	}
	return u
}

// Events is as in [metering.Store].
func (m *Model) Events(ctx context.Context, s metering.Span, f metering.Filter) iter.Seq2[metering.Accepted, error] {
	return func(yield func(metering.Accepted, error) bool) {
		m.mu.RLock()
		var es []metering.Accepted
		for i := range m.stored {
			e := &m.stored[i]
			if occurred(s, e) && between(s, e.Position) && (f.Voided || m.voidOf(s.UpTo, e) == nil) &&
				(f.App == "" || f.App == e.Data.App) && (f.Customer == "" || f.Customer == e.Customer) &&
				(f.Type == "" || f.Type == e.Type) && (f.Operation == "" || f.Operation == e.Data.Operation) &&
				(f.Class == "" || f.Class == e.Data.Class) {
				es = append(es, *e)
			}
		}
		m.mu.RUnlock()
		slices.SortFunc(es, func(a, b metering.Accepted) int { return cmp.Or(a.Time.Compare(b.Time), a.Key.Compare(b.Key)) })
		for _, e := range es {
			if err := ctx.Err(); !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Transactions is as in [metering.Store].
func (m *Model) Transactions(ctx context.Context, s metering.Span, types []string) iter.Seq2[metering.Transaction, error] {
	return func(yield func(metering.Transaction, error) bool) {
		for e, err := range m.Events(ctx, s, metering.Filter{}) {
			if err == nil && !slices.Contains(types, e.Type) {
				continue
			}
			if !yield(metering.Transaction{Key: e.Key, Position: e.Position, Event: e.Event}, err) {
				return
			}
		}
	}
}

// Ignored is as in [metering.Store].
func (m *Model) Ignored(_ context.Context, s metering.Span) ([]metering.Ignored, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	apps := map[partner.AppID]metering.Ignored{}
	count := func(again []metering.Accepted, add func(*metering.Ignored)) {
		for i := range again {
			first := &m.stored[m.first[again[i].Key]]
			if between(s, again[i].Position) && occurred(s, first) {
				n := apps[first.Data.App]
				n.App = first.Data.App
				add(&n)
				apps[n.App] = n
			}
		}
	}
	count(m.duplicates, func(n *metering.Ignored) { n.Duplicates++ })
	count(m.conflicts, func(n *metering.Ignored) { n.Conflicts++ })
	var out []metering.Ignored
	for _, n := range apps {
		out = append(out, n)
	}
	return out, nil
}

// Late is as in [metering.Store].
func (m *Model) Late(_ context.Context, s metering.Span) ([]metering.Late, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	type group struct {
		app   partner.AppID
		month string
	}
	groups := map[group]metering.Late{}
	count := func(e *metering.Accepted) {
		g := group{e.Data.App, e.Time.UTC().Format("2006-01")}
		l, known := groups[g]
		if !known || e.Time.Before(l.Earliest) {
			l.Earliest = e.Time
		}
		groups[g] = metering.Late{App: g.app, Month: g.month, Count: l.Count + 1, Earliest: l.Earliest}
	}
	for i := range m.stored {
		e := &m.stored[i]
		if !between(s, e.Position) {
			continue
		}
		if e.Type == metering.UsageVoided {
			j, known := m.first[metering.KeyOf(e.Source, e.Data.RefersTo)]
			if !known {
				continue
			}
			e = &m.stored[j]
			if e.Type == metering.UsageVoided || !upTo(s.UpTo, e.Position) {
				continue
			}
		}
		if occurred(s, e) {
			count(e)
		}
	}
	var late []metering.Late
	for _, l := range groups {
		late = append(late, l)
	}
	return late, nil
}

// Find is as in [metering.Store].
func (m *Model) Find(_ context.Context, k metering.Key) (metering.Found, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var f metering.Found
	i, known := m.first[k]
	if !known {
		return f, nil
	}
	e := m.stored[i]
	f.Event = &e
	f.Voided = m.voidOf(nil, &e)
	for _, d := range m.duplicates {
		if d.Key == k && len(f.Duplicates) < metering.MaxFound {
			f.Duplicates = append(f.Duplicates, d.Position)
		}
	}
	for _, c := range m.conflicts {
		if c.Key == k && len(f.Conflicts) < metering.MaxFound {
			f.Conflicts = append(f.Conflicts, c)
		}
	}
	return f, nil
}

// Counts is as in [metering.Store].
func (m *Model) Counts(ctx context.Context, c metering.Cutoff) (metering.Counts, error) {
	return m.CountsBetween(ctx, nil, c)
}

// CountsBetween is as in [metering.Store].
func (m *Model) CountsBetween(_ context.Context, after, c metering.Cutoff) (metering.Counts, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := metering.Span{After: after, UpTo: c}
	var n metering.Counts
	for i, msg := range m.messages {
		w := m.where[i]
		if between(s, metering.Position{Incarnation: w.Incarnation, Partition: w.Partition, Sequence: w.Sequence}) {
			n.Messages++
			n.Announced += int64(msg.Announced)
			n.Undecoded += int64(len(msg.Undecoded))
		}
	}
	for i := range m.stored {
		e := &m.stored[i]
		if !between(s, e.Position) {
			continue
		}
		n.Stored++
		n.Keys++
		if e.Data.Environment == metering.Sandbox {
			n.Sandbox++
		}
		if m.voidOf(c, e) != nil {
			n.Voided++
		}
	}
	for _, d := range m.duplicates {
		if between(s, d.Position) {
			n.Duplicate++
		}
	}
	for _, d := range m.conflicts {
		if between(s, d.Position) {
			n.Conflict++
		}
	}
	return n, nil
}
