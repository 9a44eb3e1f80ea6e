package metering

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"mete/partner"
)

// Redaction is the decision of two people that the value of one field of one event
// must not be kept. Once it is approved the value is overwritten with a text that names
// the redaction. The event's key, content hash, numbers, time and position stay: it
// counts as it did.
type Redaction struct {
	ID     string `json:"id"` // follows from key and field
	Key    Key    `json:"key"`
	Field  string `json:"field"` // as refusals name it: id, subject, data.reference, data.dimensions.room
	Reason string `json:"reason"`

	ProposedBy string    `json:"proposed_by"`
	ProposedAt time.Time `json:"proposed_at"`
	ApprovedBy string    `json:"approved_by,omitempty"` // empty: it waits for another person
	ApprovedAt time.Time `json:"approved_at,omitzero"`
}

// Tombstone is what stands in the field from then on. A subject cannot be sent like
// this; whether another text is a tombstone is known by the kept redaction alone.
func (r Redaction) Tombstone() string { return "redacted:" + r.ID }

// Applied reports whether the value is overwritten.
func (r Redaction) Applied() bool { return r.ApprovedBy != "" }

// Apply overwrites the field, if the event has it.
func (r Redaction) Apply(e *Event) {
	if f := redactable(e, r.Field); f != nil && f.get() != "" {
		f.set(r.Tombstone())
	}
}

// What is wrong with a redaction, for callers to branch on.
var (
	ErrNotRedactable = errors.New("this field is not redacted")
	ErrNoValue       = errors.New("nothing of this event has a value there")
	ErrTwoPeople     = errors.New("a redaction takes two people")
	ErrNoRedaction   = errors.New("no such redaction")
)

// ProposeRedaction makes a proposal, complete but for what the store knows.
func ProposeRedaction(k Key, field, reason, by string, at time.Time) (Redaction, error) {
	r := Redaction{Key: k, Field: field, Reason: strings.TrimSpace(reason), ProposedBy: by, ProposedAt: at.UTC().Truncate(time.Microsecond)}
	if err := CheckRedactable(field); err != nil {
		return r, err
	}
	switch {
	case by == "":
		return r, fmt.Errorf("the name of who proposes is needed: %w", ErrTwoPeople)
	case r.Reason == "" || len(r.Reason) > MaxRedactionReason:
		return r, fmt.Errorf("a redaction needs a reason of at most %d bytes", MaxRedactionReason)
	case guardText(r.Reason) != "":
		return r, errors.New("the reason itself looks like what must not be kept; say what was found, never the value")
	}
	sum := sha256.Sum256(appendLengthed(append([]byte(nil), k[:]...), field))
	r.ID = "R-" + hex.EncodeToString(sum[:6])
	return r, nil
}

// MaxRedactionReason bounds the text that says why.
const MaxRedactionReason = 256

// Approve is the proposal, approved by another person.
func (r Redaction) Approve(by string, at time.Time) (Redaction, error) {
	if by == "" || by == r.ProposedBy {
		return r, fmt.Errorf("%s was proposed by %s, another person must approve it: %w", r.ID, r.ProposedBy, ErrTwoPeople)
	}
	r.ApprovedBy, r.ApprovedAt = by, at.UTC().Truncate(time.Microsecond)
	return r, nil
}

// dimensionPrefix begins the field names of dimensions.
const dimensionPrefix = "data.dimensions."

// notRedacted are the fields whose value stays, and why.
var notRedacted = map[string]string{
	"source":           "it is a source of the catalogue, by which events are known and totals compared",
	"type":             "it is one of a closed list of words",
	"time":             "the month follows from it",
	"data.app":         "it is an app of the catalogue, by which everything is added up",
	"data.class":       "it is one of a closed list of words",
	"data.currency":    "it is one of a closed list of words",
	"data.environment": "it is one of a closed list of words",
	"data.quantity":    "it is a number that counts",
	"data.amount":      "it is a number that counts",
	"data.tax_amount":  "it is a number that counts",
	"data.fee":         "it is a number that counts",
	"data.status":      "it is a number that counts",
	"data.latency_ms":  "it is a number that counts",
	"data.bytes":       "it is a number that counts",
	"data.paid_months": "it is a number that counts",
}

// CheckRedactable reports why a field is not redacted, nil if it may be. Whether it may
// be of one event depends on what was priced by it, too.
func CheckRedactable(field string) error {
	if why, ok := notRedacted[field]; ok {
		return fmt.Errorf("%s: %s; void the event and send it right: %w", field, why, ErrNotRedactable)
	}
	probe := Event{Data: Data{Dimensions: map[string]string{strings.TrimPrefix(field, dimensionPrefix): ""}}}
	if redactable(&probe, field) == nil {
		return fmt.Errorf("%q: no such field; want id, subject, data.operation, data.unit, data.deal, data.lead, data.refers_to, data.reference, data.region or data.dimensions.NAME: %w",
			field, ErrNotRedactable)
	}
	return nil
}

// textField reads and writes one text of an event.
type textField struct {
	get func() string
	set func(string)
}

// redactable is a field that may be overwritten, nil if the event has none of the name.
func redactable(e *Event, field string) *textField {
	of := func(s *string) *textField {
		return &textField{func() string { return *s }, func(v string) { *s = v }}
	}
	d := &e.Data
	switch field {
	case "id":
		return of(&e.ID)
	case "subject":
		return &textField{func() string { return string(e.Customer) }, func(v string) { e.Customer = partner.CustomerID(v) }}
	case "data.operation":
		return of(&d.Operation)
	case "data.unit":
		return of(&d.Unit)
	case "data.deal":
		return of(&d.Deal)
	case "data.lead":
		return of(&d.Lead)
	case "data.refers_to":
		return of(&d.RefersTo)
	case "data.reference":
		return of(&d.Reference)
	case "data.region":
		return of(&d.Region)
	}
	name, ok := strings.CutPrefix(field, dimensionPrefix)
	if !ok {
		return nil
	}
	if _, has := d.Dimensions[name]; !has {
		return nil
	}
	return &textField{func() string { return d.Dimensions[name] }, func(v string) {
		all := make(map[string]string, len(d.Dimensions)) // the old map may be shared
		for k, old := range d.Dimensions {
			all[k] = old
		}
		all[name] = v
		d.Dimensions = all
	}}
}

// ValueOf is the text of a field that may be redacted, "" if the event has none.
func ValueOf(e *Event, field string) string {
	if f := redactable(e, field); f != nil {
		return f.get()
	}
	return ""
}

// IdentityRedacted reports whether one of the applied redactions changed what the
// event's key follows from.
func IdentityRedacted(rs []Redaction) bool {
	for _, r := range rs {
		if r.Applied() && r.Field == "id" {
			return true
		}
	}
	return false
}

// Redactor overwrites values that must not be kept. Its facts are rows that are added;
// the overwritten value itself is the one thing that a store changes.
//
// What is stored under the key is the event, the conflicts beside it, and the kept
// forms of its refusals. [Found] names the applied redactions of what it found.
type Redactor interface {
	// ProposeRedaction keeps a proposal and returns it as it is kept: of one key and
	// field the first stays. It fails with ErrNoValue where nothing that is stored under
	// the key has a value in the field.
	ProposeRedaction(ctx context.Context, r Redaction) (Redaction, error)

	// ApproveRedactions keeps the approvals, all or none, and overwrites each value with
	// its tombstone, in the event and in conflicts, those that come later too; it erases
	// kept forms of refusals whole, with what their details quote. When it returns, the
	// values are in no file of the store for these events. Key, content hash, numbers,
	// times, position, duplicates, voids and all counts stay as they were. Approved
	// again, it only makes sure of that, whoever asks. The proposer fails with
	// ErrTwoPeople, an unknown ID with ErrNoRedaction.
	ApproveRedactions(ctx context.Context, ids []string, by string, at time.Time) ([]Redaction, error)

	// Redactions yields those of the keys, or all, in the order of proposals.
	Redactions(ctx context.Context, keys ...Key) ([]Redaction, error)

	// SameValue yields the keys of other stored events that have the value of this
	// event's field there, at most MaxFound.
	SameValue(ctx context.Context, k Key, field string) ([]Key, error)
}
