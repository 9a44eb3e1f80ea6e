package metering

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"mete/partner"
)

// Block is consecutive messages of one partition, decoded. A message whose payload
// cannot be decoded is in it too, with its reason, so that counting stays exact.
type Block struct {
	Incarnation int
	Partition   int
	Epoch       uint64 // number of the caller's lease on the partition; 0: nobody else fills the store
	First, Last uint64 // sequences, First = stored position + 1
	Messages    []Message
}

// Message is one stream message: the number of events its header announced and the
// events that could be decoded.
type Message struct {
	Sequence   uint64
	AcceptedAt time.Time
	Announced  int
	Events     []Accepted
	Undecoded  []Undecoded // Announced − len(Events) of them
	Digest     Hash        // of the packed payload
}

// Undecoded is an event of a stored message that could not be read. Its value is
// not kept, its place and reason are.
type Undecoded struct {
	Index  int
	Reason string
}

// Outcome is what became of a block's events.
type Outcome struct {
	Stored, Duplicate, Conflict, Undecoded int
}

// ErrGap says that a block does not begin right after the stored position.
var ErrGap = errors.New("block does not continue the stored position")

// ErrIncarnation says that the stream is not the one the store was filled from.
var ErrIncarnation = errors.New("stream is not the one this store was filled from")

// ErrFenced says that somebody with a later lease fills the partition.
var ErrFenced = errors.New("another worker fills this partition")

// ErrBehind says that a question goes beyond what is stored.
var ErrBehind = errors.New("the store is behind the cutoff")

// MaxIndex is the largest index of an event in its message.
const MaxIndex = 1<<20 - 1

// Validate checks what a store relies on and the sender has checked before: that the
// messages are those of the bounds, that every announced event is there once, at its
// own place, with its key and a content hash.
func (b *Block) Validate() error {
	if b.First == 0 || b.Last < b.First || b.Last > math.MaxInt64 {
		return errors.New("the bounds of the block are no sequences: want 1 or more, the first not after the last")
	}
	if n := b.Last - b.First + 1; uint64(len(b.Messages)) != n {
		return fmt.Errorf("the block has %d messages, its bounds say %d: %w", len(b.Messages), n, ErrGap)
	}
	var at indexes
	for i := range b.Messages {
		m := &b.Messages[i]
		if want := b.First + uint64(i); m.Sequence != want {
			return fmt.Errorf("message %d stands where %d must: %w", m.Sequence, want, ErrGap)
		}
		if m.Announced != len(m.Events)+len(m.Undecoded) {
			return fmt.Errorf("message %d announces %d events and has %d, of them %d undecoded: count each one",
				m.Sequence, m.Announced, len(m.Events)+len(m.Undecoded), len(m.Undecoded))
		}
		at.clear()
		for j := range m.Events {
			e := &m.Events[j]
			p := Position{Incarnation: b.Incarnation, Partition: b.Partition, Sequence: m.Sequence, Index: e.Position.Index}
			if e.Position != p {
				return fmt.Errorf("event %s of source %s says that it lies at %+v, it lies in message %d", e.ID, e.Source, e.Position, m.Sequence)
			}
			if err := at.claim(p.Index, m.Sequence); err != nil {
				return err
			}
			if want := e.Event.Key(); e.Key != want && e.Overwritten == nil {
				return fmt.Errorf("event %s of source %s has key %s, want %s", e.ID, e.Source, e.Key, want)
			}
			if e.Hash == (Hash{}) {
				return fmt.Errorf("event %s of source %s has no content hash", e.ID, e.Source)
			}
		}
		for _, u := range m.Undecoded {
			if err := at.claim(u.Index, m.Sequence); err != nil {
				return err
			}
		}
	}
	return nil
}

// indexes are those that events of one message have taken: all below next, and others.
type indexes struct {
	next   int
	others map[int]bool
}

func (x *indexes) clear() {
	x.next = 0
	clear(x.others)
}

func (x *indexes) claim(i int, sequence uint64) error {
	if i < 0 || i > MaxIndex {
		return fmt.Errorf("message %d has an event at index %d, want 0 to %d", sequence, i, MaxIndex)
	}
	if i < x.next || x.others[i] {
		return fmt.Errorf("message %d has two events at index %d", sequence, i)
	}
	if i == x.next { // the usual case: one after the other
		x.next++
		return nil
	}
	if x.others == nil {
		x.others = map[int]bool{}
	}
	x.others[i] = true
	return nil
}

// Store counts each accepted event once, forever. Implementations pass
// meteringtest.TestStore.
type Store interface {
	// Append stores the block's events, their keys, conflicts and the new position
	// in one step that a crash cannot part. A block that is stored already is
	// skipped whole, without counting duplicates; one that overlaps the stored
	// position is stored from there on; one that leaves a gap fails with ErrGap.
	// An event whose key is stored is a duplicate if its content hash is equal,
	// else a conflict: the first stays, the other is kept beside it.
	Append(ctx context.Context, b Block) (Outcome, error)

	// Attach names the stream that fills the store. The first name becomes
	// incarnation 1; the same name returns its number; another name fails with
	// ErrIncarnation.
	Attach(ctx context.Context, stream string, partitions int) (incarnation int, err error)

	// Position is the sequence up to which the partition is stored, 0 for none.
	Position(ctx context.Context, partition int) (uint64, error)

	// Cutoff is the position of every partition now.
	Cutoff(ctx context.Context) (Cutoff, error)

	// The questions below see one state of the store each. One whose UpTo lies beyond
	// what is stored is answered from what is stored, or fails with ErrBehind where
	// the store may for a moment show less than it has shown before.

	// Usage yields the cells of the span in no particular order.
	Usage(ctx context.Context, s Span) iter.Seq2[Usage, error]

	// Transactions yields the events of the given types in (time, key) order.
	Transactions(ctx context.Context, s Span, types []string) iter.Seq2[Transaction, error]

	// Events yields the events of the span that the filter names, in (time, key)
	// order: those behind a cell of Usage, and usage.voided events themselves.
	Events(ctx context.Context, s Span, f Filter) iter.Seq2[Accepted, error]

	// Late counts events that occurred before the instant but lie in the span's
	// cutoffs, by app and UTC month of occurrence, with the earliest instant. A
	// usage.voided event is counted where its target is, since that month changes,
	// and not at all while its target is not stored up to the cutoff.
	Late(ctx context.Context, s Span) ([]Late, error)

	// Find answers where an event went: its stored row, if any, its duplicates and
	// conflicts.
	Find(ctx context.Context, k Key) (Found, error)

	// Ignored counts, by app, the duplicates and conflicts that came within the span's
	// cutoffs for stored events that occurred in it.
	Ignored(ctx context.Context, s Span) ([]Ignored, error)

	// Counts are the totals that reconcile compares, up to the cutoff.
	Counts(ctx context.Context, upTo Cutoff) (Counts, error)

	// CountsBetween are the totals of what lies behind the cutoff after (nil: from the
	// beginning), up to the other one. A void up to the latter makes an event voided,
	// wherever it lies.
	CountsBetween(ctx context.Context, after, upTo Cutoff) (Counts, error)
}

// Filter names events by what they say. An empty field names all.
type Filter struct {
	App       partner.AppID
	Customer  partner.CustomerID
	Type      string
	Operation string
	Class     Class
	Voided    bool // also those that a usage.voided took out
}

// Late is how many events of an app came after a cutoff for time before it.
type Late struct {
	App      partner.AppID `json:"app"`
	Month    string        `json:"month"` // UTC month of occurrence, 2026-09
	Count    int64         `json:"count"`
	Earliest time.Time     `json:"earliest"`
}

// Ignored is how often events of an app came again: with the same content, and with
// other content, which is kept and not counted.
type Ignored struct {
	App        partner.AppID `json:"app"`
	Duplicates int64         `json:"duplicates"`
	Conflicts  int64         `json:"conflicts"`
}

// Found is what the store knows of one event key.
type Found struct {
	Event      *Accepted  // the stored one, nil when unknown
	Voided     *Position  // the usage.voided that took it out, the first accepted
	Duplicates []Position // at most MaxFound of each
	Conflicts  []Accepted
	Redactions []Redaction // those that were applied, see [Redactor]
}

// MaxFound bounds how many duplicates and conflicts of one event are listed.
const MaxFound = 100

// Counts are independent totals of the store, counted from its rows and, apart from
// them, tallied per message.
type Counts struct {
	Messages  int64 `json:"messages"`
	Announced int64 `json:"announced"` // sum of message headers
	Stored    int64 `json:"stored"`    // rows
	Keys      int64 `json:"keys"`
	Duplicate int64 `json:"duplicate"`
	Conflict  int64 `json:"conflict"`
	Undecoded int64 `json:"undecoded"`
	Sandbox   int64 `json:"sandbox"` // of the stored
	Voided    int64 `json:"voided"`  // of the stored
}
