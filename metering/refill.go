package metering

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/sync/errgroup"

	"mete/internal/failpoint"
	"mete/period"
)

// History gives messages back in the order in which a store was filled with them.
type History interface {
	// BlockAfter is the messages of a partition behind a sequence and up to another one, as
	// Append takes them: consecutive, at least one, and of no more events than so many
	// unless the first alone has more. What a store has overwritten says so, see
	// [Overwritten]; a duplicate has the content of the event that it repeats. It fails with
	// ErrGap where the first of them is not there.
	BlockAfter(ctx context.Context, partition int, after, upTo uint64, events int) (Block, error)
}

// Transfer hands over what a store keeps beside the messages of its stream. Taking keeps
// facts of another store as they are there, in the order given; what is known already
// changes nothing, so that it may be done again.
type Transfer interface {
	// Heartbeats are all that are kept, by source and time.
	Heartbeats(ctx context.Context) iter.Seq2[Heartbeat, error]
	TakeHeartbeats(ctx context.Context, hs []Heartbeat) error

	// TakeRedactions takes proposals, and approvals of what is overwritten elsewhere: what
	// comes under their keys afterwards is taken as it comes, see [Overwritten].
	TakeRedactions(ctx context.Context, rs []Redaction) error

	// TakeRefused takes refusals with their replays. Of a form that was erased the
	// redaction must be there.
	TakeRefused(ctx context.Context, rs []Refused) error
}

// Refillable is a store that can be filled from another one, and another one from it.
type Refillable interface {
	Store
	Tallies
	Replays
	Redactor
	SourceFacts
	History
	Transfer

	// Check names whatever in the store contradicts itself.
	Check(ctx context.Context) ([]string, error)
}

// Refill fills a new store with everything that the store in use was filled with, message
// by message through [Store.Append], and with what that one keeps beside messages. Fill in
// all fields but Stream and Progress; read [Refill.Run] and [Refill.Verify].
//
// Run may be stopped or killed at any moment. Run again, it goes on from the positions of
// the new store.
type Refill struct {
	Old    Refillable // the store in use; it is only read
	Stream History    // where messages come from; nil: from Old
	To     Refillable

	Name       string // of the stream that both are filled from
	Partitions int
	UpTo       Cutoff // what is copied, and compared

	Progress func(step string, done, of int64) // may be nil
}

// Bounds of one step of a [Refill].
const (
	refillEvents = 50_000 // of a block; some 35 MB in memory, and one more is read meanwhile
	refillFacts  = 1_000  // refusals or heartbeats

	// MaxBlockMessages bounds the messages of a block that [History] gives.
	MaxBlockMessages = 20_000
)

// The steps of a refill at which a crash is tried.
const (
	refillRedacted failpoint.Point = "refill.redactions-taken"
	refillBlock    failpoint.Point = "refill.block-stored"
	refillRefused  failpoint.Point = "refill.refusals-taken"
)

// Run fills the new store. Redactions come first, so that no value is stored that must
// not be kept; then messages; then what was refused and what sources said.
func (r *Refill) Run(ctx context.Context) error {
	got, err := r.To.Attach(ctx, r.Name, r.Partitions)
	if err != nil {
		return fmt.Errorf("fill the new store: %w", err)
	}
	for _, c := range r.UpTo {
		if c.Incarnation != got {
			return fmt.Errorf("fill the new store: its stream has number %d, that of the cutoff %d: %w", got, c.Incarnation, ErrIncarnation)
		}
	}
	for _, step := range []func(context.Context) error{r.redactions, r.messages, r.refused, r.totals, r.heartbeats} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("fill the new store: %w", err)
		}
	}
	return nil
}

func (r *Refill) told(step string, done, of int64) {
	if r.Progress != nil {
		r.Progress(step, done, of)
	}
}

func (r *Refill) redactions(ctx context.Context) error {
	all, err := r.Old.Redactions(ctx)
	if err != nil {
		return err
	}
	if err := r.To.TakeRedactions(ctx, all); err != nil {
		return err
	}
	return refillRedacted.Hit()
}

// from is where messages come from.
func (r *Refill) from(ctx context.Context) (History, error) {
	if r.Stream == nil {
		return r.Old, nil
	}
	h := &hiding{History: r.Stream, store: r.Old, byKey: map[Key][]Redaction{}}
	all, err := r.Old.Redactions(ctx)
	for _, x := range all {
		if x.Applied() {
			h.byKey[x.Key] = append(h.byKey[x.Key], x)
		}
	}
	return h, err
}

// messages appends what the new store lacks. The next block is read while one is
// appended.
func (r *Refill) messages(ctx context.Context) error {
	from, err := r.from(ctx)
	if err != nil {
		return err
	}
	next, done, of := map[int]uint64{}, int64(0), int64(0)
	for _, c := range r.UpTo {
		if next[c.Partition], err = r.To.Position(ctx, c.Partition); err != nil {
			return err
		}
		done += int64(min(next[c.Partition], c.Sequence))
		of += int64(c.Sequence)
	}
	blocks := make(chan Block, 1)
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error {
		defer close(blocks)
		return r.eachBlock(ctx, from, next, func(b Block) error {
			select {
			case blocks <- b:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	all.Go(func() error {
		for b := range blocks {
			if _, err := r.To.Append(ctx, b); err != nil {
				return err
			}
			if err := refillBlock.Hit(); err != nil {
				return err
			}
			done += int64(len(b.Messages))
			r.told("messages", done, of)
		}
		return nil
	})
	return all.Wait()
}

// eachBlock reads what lies behind the sequences, all partitions side by side: so a
// cutoff of one moment stays within few messages of the new store.
func (r *Refill) eachBlock(ctx context.Context, from History, next map[int]uint64, block func(Block) error) error {
	for {
		c := furthestBehind(r.UpTo, next)
		if c == nil {
			return nil
		}
		b, err := from.BlockAfter(ctx, c.Partition, next[c.Partition], c.Sequence, refillEvents)
		if err != nil {
			return err
		}
		if err := b.Validate(); err != nil {
			return fmt.Errorf("what is to be copied of partition %d does not hold together; run the check of the store in use, or fill the new one from the stream: %w", c.Partition, err)
		}
		next[c.Partition] = b.Last
		if err := block(b); err != nil {
			return err
		}
	}
}

// furthestBehind is the partition of which the smallest part was read, nil if all were.
func furthestBehind(upTo Cutoff, next map[int]uint64) *PartitionCutoff {
	var least *PartitionCutoff
	part := func(c *PartitionCutoff) float64 { return float64(next[c.Partition]) / float64(c.Sequence) }
	for i := range upTo {
		if c := &upTo[i]; next[c.Partition] < c.Sequence && (least == nil || part(c) < part(least)) {
			least = c
		}
	}
	return least
}

func (r *Refill) refused(ctx context.Context) error {
	done := int64(0)
	for page, err := range refusedPages(ctx, r.Old) {
		if err != nil {
			return err
		}
		if err := r.To.TakeRefused(ctx, page); err != nil {
			return err
		}
		done += int64(len(page))
		r.told("refusals", done, -1)
		if err := refillRefused.Hit(); err != nil {
			return err
		}
	}
	return nil
}

// refusedPages are all refusals of a store, in order.
func refusedPages(ctx context.Context, s Replays) iter.Seq2[[]Refused, error] {
	return func(yield func([]Refused, error) bool) {
		q := RefusedQuery{Limit: refillFacts}
		for {
			page, err := s.Refused(ctx, q)
			if err != nil || len(page) > 0 {
				if !yield(page, err) || err != nil {
					return
				}
			}
			if len(page) < refillFacts {
				return
			}
			last := &page[len(page)-1]
			q.After = &RefusedPlace{last.ReceivedAt, last.ID}
		}
	}
}

func (r *Refill) totals(ctx context.Context) error {
	done := int64(0)
	for t, err := range r.Old.Totals(ctx, period.Date{}) {
		if err != nil {
			return err
		}
		if _, err := r.To.KeepTotals(ctx, t); err != nil {
			return err
		}
		done++
		r.told("control totals", done, -1)
	}
	return nil
}

func (r *Refill) heartbeats(ctx context.Context) error {
	var some []Heartbeat
	done := int64(0)
	take := func() error {
		err := r.To.TakeHeartbeats(ctx, some)
		done += int64(len(some))
		some = some[:0]
		r.told("heartbeats", done, -1)
		return err
	}
	for h, err := range r.Old.Heartbeats(ctx) {
		if err != nil {
			return err
		}
		if some = append(some, h); len(some) == refillFacts {
			if err := take(); err != nil {
				return err
			}
		}
	}
	return take()
}

// hiding is a stream without the values that a store has overwritten: the stream keeps
// them until it expires, and the new store must not get them back.
type hiding struct {
	History
	store Store
	byKey map[Key][]Redaction
}

// BlockAfter is the stream's, with tombstones.
func (h *hiding) BlockAfter(ctx context.Context, partition int, after, upTo uint64, events int) (Block, error) {
	b, err := h.History.BlockAfter(ctx, partition, after, upTo, events)
	if err != nil || len(h.byKey) == 0 {
		return b, err
	}
	for i := range b.Messages {
		for j := range b.Messages[i].Events {
			e := &b.Messages[i].Events[j]
			if by := h.byKey[e.Key]; len(by) > 0 {
				if err := h.hide(ctx, e, by); err != nil {
					return b, err
				}
			}
		}
	}
	return b, nil
}

// hide overwrites an event as the store has done: of the stored event, and so of what
// repeats it, what is overwritten there; of a conflict, and of what the store does not
// know, everything that was decided.
func (h *hiding) hide(ctx context.Context, e *Accepted, by []Redaction) error {
	f, err := h.store.Find(ctx, e.Key)
	if err != nil {
		return err
	}
	o := &Overwritten{Target: KeyOf(e.Source, e.Data.RefersTo)}
	stored := f.Event != nil && f.Event.Hash == e.Hash
	for _, x := range by {
		if ValueOf(&e.Event, x.Field) == "" || stored && ValueOf(&f.Event.Event, x.Field) != x.Tombstone() {
			continue
		}
		x.Apply(&e.Event)
		o.By = append(o.By, x.ID)
	}
	if len(o.By) > 0 {
		e.Overwritten = o
	}
	return nil
}

// Sort puts events, what repeats them and conflicts, which a store keeps apart, back in
// the order of the message.
func (m *Message) Sort() {
	slices.SortFunc(m.Events, func(a, b Accepted) int { return cmp.Compare(a.Position.Index, b.Position.Index) })
	slices.SortFunc(m.Undecoded, func(a, b Undecoded) int { return cmp.Compare(a.Index, b.Index) })
}

// RebuiltKeys is what came of making the identities of stored events anew.
type RebuiltKeys struct {
	Rows    int64 `json:"rows"`    // stored events, and identities afterwards
	Right   int64 `json:"right"`   // identities that were as they must be
	Added   int64 `json:"added"`   // that were missing, or not what their row says
	Removed int64 `json:"removed"` // of no row, or not what their row says
}

// KeyRebuilder makes identities anew.
type KeyRebuilder interface {
	// RebuildKeys makes the identity of each stored event anew from its row, and whatever
	// else the store uses to find them. Nothing else changes. Two events that are stored
	// under one key fail with ErrKeyTwice: the store has counted one twice. It may be
	// stopped at any moment and done again. Nobody may fill the store meanwhile.
	RebuildKeys(ctx context.Context, progress func(done, of int64)) (RebuiltKeys, error)
}

// ErrKeyTwice says that two events are stored under one key.
var ErrKeyTwice = errors.New("an event is stored twice")
