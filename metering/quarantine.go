package metering

import (
	"context"
	"errors"
	"time"
)

// Refusal is an event or log line that did not become an accepted event.
type Refusal struct {
	ID         string    `json:"id"`     // receipt, unique
	Class      string    `json:"class"`  // unclean | unusable
	Reason     string    `json:"reason"` // machine word, such as unknown_app
	Detail     string    `json:"detail"` // for people; never a refused value of the unclean class
	Field      string    `json:"field,omitempty"`
	Source     string    `json:"source,omitempty"`
	Sender     string    `json:"sender,omitempty"` // the credential that sent it; empty: it was read here, which all may be
	Where      string    `json:"where,omitempty"`  // file:line or request and index
	Digest     string    `json:"digest,omitempty"`
	Event      []byte    `json:"event,omitempty"` // the accept-listed form, unusable class only
	ReceivedAt time.Time `json:"received_at"`
}

// The two classes of refusal.
const (
	Unclean  = "unclean"
	Unusable = "unusable"
)

// UnknownSender is the sender of a refusal of which it was not kept, or who is none
// that owns a source: it may send nothing.
const UnknownSender = "?"

// Quarantine keeps refusals so that nothing is lost unseen.
type Quarantine interface {
	// Refuse keeps refusals; the same ID again changes nothing.
	Refuse(ctx context.Context, rs []Refusal) error

	// Refusals yields them, newest first, at most limit.
	Refusals(ctx context.Context, source string, limit int) ([]Refusal, error)

	// RefusalCounts counts them by class and reason.
	RefusalCounts(ctx context.Context) (map[string]int64, error)
}

// Replay is one time that a refusal went through the gate again: a fact beside the
// refusal, of which nothing changes. It passed, then the event is in the stream under
// its own key, or it was refused again, which says why it waits now.
type Replay struct {
	Refusal  string    `json:"refusal"` // receipt of the refusal
	By       string    `json:"by"`
	At       time.Time `json:"at"`
	Passed   bool      `json:"passed"`
	Receipt  string    `json:"receipt,omitempty"`  // passed: the event's key
	Position string    `json:"position,omitempty"` // passed: where the stream put it this time
	Class    string    `json:"class,omitempty"`    // refused again: the newest reason
	Reason   string    `json:"reason,omitempty"`
	Detail   string    `json:"detail,omitempty"`
	Field    string    `json:"field,omitempty"`
}

// SameOutcome reports whether two replays came to the same: then the later one says
// nothing new. Details may tell the time.
func (r Replay) SameOutcome(o Replay) bool {
	return r.Passed == o.Passed && r.Class == o.Class && r.Reason == o.Reason && r.Field == o.Field
}

// Check reports what a kept replay must not be.
func (r Replay) Check() error {
	switch {
	case r.Refusal == "" || r.By == "" || r.At.IsZero():
		return errors.New("a replay names its refusal, who did it and when")
	case r.Passed && (r.Receipt == "" || r.Reason != ""):
		return errors.New("a replay that passed has the event's key as its receipt and no reason")
	case !r.Passed && (r.Receipt != "" || r.Reason == "" || r.Class != Unclean && r.Class != Unusable):
		return errors.New("a replay that was refused again has a class and a reason and no receipt")
	}
	return nil
}

// Refused is a refusal with the replays that are kept of it, oldest first.
type Refused struct {
	Refusal
	Replays  []Replay `json:"replays,omitempty"`
	ErasedBy string   `json:"erased_by,omitempty"` // the redaction that erased its form, see [Redactor]
}

// The states of a refusal.
const (
	StateWaiting  = "waiting"  // its form is kept: it can be replayed once the cause is mended
	StateReplayed = "replayed" // a replay passed
	StateResend   = "resend"   // nothing of it is kept that could be replayed: it must be sent again
)

// State is what a refusal waits for.
func (r *Refused) State() string {
	switch {
	case r.Passed() != nil:
		return StateReplayed
	case r.Class == Unusable && r.Event != nil:
		return StateWaiting
	}
	return StateResend
}

// Passed is the first replay that passed, nil if none did.
func (r *Refused) Passed() *Replay {
	for i := range r.Replays {
		if r.Replays[i].Passed {
			return &r.Replays[i]
		}
	}
	return nil
}

// Newest is the reason that holds now: that of the last replay which was refused, else
// that of the refusal.
func (r *Refused) Newest() Refusal {
	now := r.Refusal
	for _, p := range r.Replays {
		if !p.Passed {
			now.Class, now.Reason, now.Detail, now.Field = p.Class, p.Reason, p.Detail, p.Field
		}
	}
	return now
}

// RefusedQuery names refusals. The lists name what is in any of them; without lists,
// all. Every other field that is set narrows that.
type RefusedQuery struct {
	IDs     []string // receipts
	Keys    []Key    // of events whose form is kept
	Digests []string // of what was refused

	Source  string
	Reason  string // the newest
	Waiting bool   // only those in StateWaiting

	After *RefusedPlace // only those that come after it in order; nil: from the beginning
	Limit int           // 0 = MaxRefused
}

// RefusedPlace is a place in the order of refusals.
type RefusedPlace struct {
	ReceivedAt time.Time
	ID         string
}

// Bounds of a [RefusedQuery].
const (
	MaxRefused      = 10_000 // of one answer
	MaxRefusedAsked = 1_000  // entries of its lists together
)

// RefusedCount is how many refusals have one class and newest reason.
type RefusedCount struct {
	Class    string `json:"class"`
	Reason   string `json:"reason"`
	Refused  int64  `json:"refused"`
	Replayed int64  `json:"replayed"` // of them, in StateReplayed
	Waiting  int64  `json:"waiting"`  // of them, in StateWaiting
}

// Replays is the part of a quarantine that knows what became of refusals. Its facts are
// rows that are added; none changes.
type Replays interface {
	// Refused answers a query, by time received and then receipt; those without a time
	// come first.
	Refused(ctx context.Context, q RefusedQuery) ([]Refused, error)

	// Replayed keeps replays, all or none; the same fact again changes nothing. One of a
	// receipt that is not kept, or of a refusal whose form is not, fails.
	Replayed(ctx context.Context, rs []Replay) error

	// RefusedCounts counts refusals, by class and newest reason.
	RefusedCounts(ctx context.Context) ([]RefusedCount, error)
}
