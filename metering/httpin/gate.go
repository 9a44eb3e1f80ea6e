// Package httpin is the way in for events: the gate that decides about each of them,
// and the HTTP handler in front of it.
//
// Whatever brings events (an HTTP request, a NATS message, a file) takes them through
// the same [Gate], which answers accepted or refused for each, and accepted only when
// the broker has it on disk. The package refuses to know how the stream works and
// what events are worth. Read [Gate.Admit] first.
package httpin

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"mete/metering"
)

// Intake publishes validated events and returns their positions when all are on the
// broker's disk. An error that has RetryAfter() time.Duration and Overloaded() bool
// says when to try again, and whether the sender is too fast. Sending all again after
// any error does no harm.
type Intake interface {
	Accept(ctx context.Context, events []metering.Event) ([]metering.Position, error)
}

// Gate decides about events: it knows the directory, records refusals, and publishes
// what is left.
type Gate struct {
	Directory  func(context.Context) (*metering.Directory, error)
	Intake     Intake
	Quarantine metering.Quarantine
	Now        func() time.Time // nil: time.Now
	Limits     metering.Limits
}

// Sender is who brings events and which it may bring.
type Sender struct {
	Owner  string // the credential; ignored if Source is set
	Source string // the only source it may send, as a broker has checked; else any of the owner's
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
	Index    int    `json:"index"`
	ID       string `json:"id,omitempty"`
	Source   string `json:"source,omitempty"`
	Status   string `json:"status"`
	Reason   string `json:"reason,omitempty"`
	Detail   string `json:"detail,omitempty"`
	Receipt  string `json:"receipt"`            // accepted: the event's key; refused: the refusal
	Position string `json:"position,omitempty"` // partition-sequence-index in the stream
}

// Admit answers each event. It returns when the accepted ones are on the broker's disk
// and the refused ones in quarantine, in that order of need: refusals first, so that
// an error after them leaves nothing unrecorded. After an error the sender sends all
// again; the same refusal has the same receipt.
func (g *Gate) Admit(ctx context.Context, s Sender, events []metering.Decoded) ([]Verdict, error) {
	dir, err := g.Directory(ctx)
	if err != nil {
		return nil, fmt.Errorf("admit events: %w", err)
	}
	now := g.now()
	if s.Source != "" {
		s.Owner = dir.Sources[s.Source].Owner
	}
	verdicts := make([]Verdict, len(events))
	accepted := make([]metering.Event, 0, len(events))
	var refused []metering.Refusal
	for i, d := range events {
		v := &verdicts[i]
		v.Index = i
		r := d.Refusal
		if r == nil {
			d.Event.Accept(now)
			r = check(d.Event, dir, s, now)
		}
		if r == nil {
			*v = Verdict{Index: i, ID: d.Event.ID, Source: d.Event.Source, Status: StatusAccepted, Receipt: d.Event.Key().String()}
			accepted = append(accepted, d.Event)
			continue
		}
		kept := *r // a refusal may be shared by events
		kept.Seal(d.Raw, fmt.Sprintf("%s[%d]", s.Where, i), now)
		refused = append(refused, kept)
		v.Status, v.Reason, v.Detail, v.Receipt = StatusRefused, kept.Reason, kept.Detail, kept.ID
		if kept.Class == metering.Unusable {
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
			p := positions[n]
			verdicts[i].Position = fmt.Sprintf("%d-%d-%d", p.Partition, p.Sequence, p.Index)
			n++
		}
	}
	return verdicts, nil
}

// check validates an event and asks whether the sender may send it. What must not be
// kept is found first; then a wrong sender comes before what is wrong with the event.
func check(e metering.Event, dir *metering.Directory, s Sender, now time.Time) *metering.Refusal {
	r := metering.Validate(e, dir, now)
	if r != nil && (r.Class == metering.Unclean || e.Source == "") {
		return r
	}
	if bad := checkSender(e.Source, dir, s); bad != nil {
		bad.Source = e.Source
		bad.Event = metering.AppendCanonical(nil, e)
		return bad
	}
	return r
}

func checkSender(source string, dir *metering.Directory, s Sender) *metering.Refusal {
	if s.Source != "" && source != s.Source {
		s.Owner = nobody // not the source that the broker let through, whoever owns it
	}
	return dir.CheckSource(source, s.Owner)
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
	events, err := g.decode(header, body)
	if err != nil {
		events = []metering.Decoded{{Refusal: metering.RefusalOf(err), Raw: body}}
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

// decode reads what a request or message carries. In binary mode an event's text is
// its attributes too: without them events that differ in nothing else would have one
// receipt.
func (g *Gate) decode(header map[string][]string, body []byte) ([]metering.Decoded, error) {
	events, err := metering.Decode(header, body, g.Limits)
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
