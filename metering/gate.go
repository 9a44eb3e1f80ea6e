package metering

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Intake publishes validated events and returns their positions when all are on the
// broker's disk. An error that has RetryAfter() time.Duration and Overloaded() bool
// says when to try again, and whether the sender is too fast. Sending all again after
// any error does no harm.
type Intake interface {
	Accept(ctx context.Context, events []Event) ([]Position, error)
}

// Gate is the one decision about events, whichever way they come: an HTTP request, a
// NATS message, a file. It knows the directory, records refusals, and publishes what
// is left. Read [Gate.Admit] first.
type Gate struct {
	Directory  func(context.Context) (*Directory, error)
	Intake     Intake
	Quarantine Quarantine
	Now        func() time.Time // nil: time.Now
	Limits     Limits
}

// Sender is who brings events and which it may bring.
type Sender struct {
	Owner  string // the credential; ignored if Source or Any is set
	Source string // the only source it may send, as a broker has checked; else any of the owner's
	Any    bool   // every registered source: who reads a file here holds all credentials
	Where  string // names the request, message or file in refusals; the same on a retry
}

// The two answers about an event.
const (
	StatusAccepted = "accepted"
	StatusRefused  = "refused"
)

// Verdict is the answer about one event. An unclean event is known by its index
// alone, since its id may be what must not be repeated.
type Verdict struct {
	Index    int      `json:"index"`
	ID       string   `json:"id,omitempty"`
	Source   string   `json:"source,omitempty"`
	Status   string   `json:"status"`
	Reason   string   `json:"reason,omitempty"`
	Detail   string   `json:"detail,omitempty"`
	Receipt  string   `json:"receipt"`            // accepted: the event's key; refused: the refusal
	Position string   `json:"position,omitempty"` // partition-sequence-index in the stream
	Refusal  *Refusal `json:"-"`                  // what quarantine keeps
}

// Admit answers each event. It returns when the accepted ones are on the broker's disk
// and the refused ones in quarantine, in that order of need: refusals first, so that
// an error after them leaves nothing unrecorded. After an error the sender sends all
// again; the same refusal has the same receipt.
func (g *Gate) Admit(ctx context.Context, s Sender, events []Decoded) ([]Verdict, error) {
	dir, err := g.Directory(ctx)
	if err != nil {
		return nil, fmt.Errorf("admit events: %w", err)
	}
	now := g.now()
	verdicts := make([]Verdict, len(events))
	accepted := make([]Event, 0, len(events))
	var refused []Refusal
	for i, d := range events {
		v := &verdicts[i]
		v.Index = i
		r := d.Refusal
		if r == nil {
			d.Event.Accept(now)
			r = decide(d.Event, dir, s, now)
		}
		if r == nil {
			*v = Verdict{Index: i, ID: d.Event.ID, Source: d.Event.Source, Status: StatusAccepted, Receipt: d.Event.Key().String()}
			accepted = append(accepted, d.Event)
			continue
		}
		kept := *r // a refusal may be shared by events
		kept.Sender = s.credential(dir)
		kept.Seal(d.Raw, s.place(i, d), now)
		refused = append(refused, kept)
		v.Status, v.Reason, v.Detail, v.Receipt, v.Refusal = StatusRefused, kept.Reason, kept.Detail, kept.ID, &kept
		if kept.Class == Unusable {
			v.ID, v.Source = d.Event.ID, d.Event.Source
		}
	}
	if len(refused) > 0 {
		if err := g.Quarantine.Refuse(ctx, refused); err != nil {
			return nil, fmt.Errorf("admit events: %w", err)
		}
	}
	if len(accepted) == 0 {
		return verdicts, nil
	}
	positions, err := g.Intake.Accept(ctx, accepted)
	if err != nil {
		return nil, fmt.Errorf("admit events: %w", err)
	}
	for i, n := 0, 0; i < len(verdicts); i++ {
		if verdicts[i].Status == StatusAccepted {
			verdicts[i].Position = answered(positions[n])
			n++
		}
	}
	return verdicts, nil
}

// decide validates an event and asks whether the sender may send it. What must not be
// kept is found first; then a wrong sender comes before what is wrong with the event.
func decide(e Event, dir *Directory, s Sender, now time.Time) *Refusal {
	r := Validate(e, dir, now)
	if r != nil && (r.Class == Unclean || e.Source == "") {
		return r
	}
	if bad := dir.CheckSource(e.Source, s.owner(e.Source, dir)); bad != nil {
		bad.Source = e.Source
		bad.Event = AppendCanonical(nil, e)
		return bad
	}
	return r
}

// owner is the credential that the sender counts as when it sends events of a source.
func (s Sender) owner(source string, dir *Directory) string {
	switch {
	case s.Any || s.Source != "" && s.Source == source:
		return dir.Sources[source].Owner
	case s.Source != "":
		return nobody // not the source that the broker let through, whoever owns it
	}
	return s.Owner
}

// credential is who a refusal says has sent the event, so that a replay may send what
// its sender may and no more: empty for who reads files here, who holds all.
func (s Sender) credential(dir *Directory) string {
	owner := s.Owner
	switch {
	case s.Any:
		return ""
	case s.Source != "":
		owner = dir.Sources[s.Source].Owner
	}
	return cmp.Or(owner, UnknownSender)
}

// place names an event in refusals: its line in a file, else its index in what was
// sent.
func (s Sender) place(i int, d Decoded) string {
	if d.Line > 0 {
		return fmt.Sprintf("%s:%d", s.Where, d.Line)
	}
	return fmt.Sprintf("%s[%d]", s.Where, i)
}

// answered is a position as senders are told it.
func answered(p Position) string {
	b := strconv.AppendInt(make([]byte, 0, 24), int64(p.Partition), 10)
	b = strconv.AppendUint(append(b, '-'), p.Sequence, 10)
	return string(strconv.AppendInt(append(b, '-'), int64(p.Index), 10))
}

// now is the time as stores keep it.
func (g *Gate) now() time.Time {
	now := time.Now
	if g.Now != nil {
		now = g.Now
	}
	return now().UTC().Truncate(time.Microsecond)
}

// AdmitMessage takes what a NATS message carries through the gate and returns the
// answer for its producer, a JSON array of [Verdict]. The only error is one after
// which the message must be tried again; a body that cannot be read is a refusal.
func (g *Gate) AdmitMessage(ctx context.Context, source string, header map[string][]string, body []byte, where string) ([]byte, error) {
	events, err := g.Decode(header, body)
	if err != nil {
		events = []Decoded{{Refusal: RefusalOf(err), Raw: body}}
	}
	if source == "" {
		source = noSource
	}
	verdicts, err := g.Admit(ctx, Sender{Source: source, Where: where}, events)
	if err != nil {
		return nil, err
	}
	return json.Marshal(verdicts)
}

// Decode reads what a request or message carries, see the function [Decode]. In
// binary mode an event's text is its attributes too: without them events that differ
// in nothing else would have one receipt.
func (g *Gate) Decode(header map[string][]string, body []byte) ([]Decoded, error) {
	events, err := Decode(header, body, g.Limits)
	if err != nil || len(events) != 1 {
		return events, err
	}
	attributes := map[string]string{}
	for name, values := range header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "ce-") && len(values) > 0 {
			attributes[name] = values[0]
		}
	}
	if attributes["ce-id"] != "" {
		text, err := json.Marshal(attributes) // sorted by name
		if err != nil {
			return nil, err
		}
		events[0].Raw = append(append(text, '\n'), body...)
	}
	return events, nil
}

// noSource is a source that no event can have, nobody an owner that no source can
// have: they hold a control character.
const (
	noSource = "\x00"
	nobody   = "\x00"
)
