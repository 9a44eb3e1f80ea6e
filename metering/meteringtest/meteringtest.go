// Package meteringtest holds the promises of [metering.Store] as tests. Every driver
// passes [TestStore]; [TestQuarantine] does the same for [metering.Quarantine].
//
// It also holds what such tests need: a [Feed] that lays events into a stream, and a
// [Model], the store written as plainly as it can be, which is the oracle of the
// random tests and a store in memory for the tests of others. The package refuses to
// know any driver. Read [Model] first.
package meteringtest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
)

// Feed lays events into the partitions of one stream, message after message, as a
// stream would.
type Feed struct {
	Incarnation int
	At          time.Time // acceptance of the next message; grows by a second each

	// Partitions of the stream. An event that would lie in another than it is laid in
	// gets the id that In gives. 0: events keep their ids and lie where they are laid,
	// which no stream allows.
	Partitions int

	next map[int]uint64
}

// In is the id, or the first of id~1, id~2 and so on, under which an event of the source
// lies in the partition of a stream with so many.
func In(source, id string, partition, partitions int) string {
	made := id
	for n := 1; metering.KeyOf(source, made).Partition(partitions) != partition; n++ {
		made = fmt.Sprintf("%s~%d", id, n)
	}
	return made
}

// NewFeed begins a stream as incarnation 1.
func NewFeed() *Feed {
	return &Feed{Incarnation: 1, At: time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC), next: map[int]uint64{}}
}

// Message is what goes into one stream message: events, and the reasons why others
// in it could not be decoded.
type Message struct {
	Events    []metering.Event
	Undecoded []string
}

// Block makes the next messages of a partition, each of events that are all decoded.
func (f *Feed) Block(partition int, messages ...[]metering.Event) metering.Block {
	ms := make([]Message, len(messages))
	for i := range messages {
		ms[i].Events = messages[i]
	}
	return f.Messages(partition, ms...)
}

// Messages makes the next messages of a partition. The undecoded events of a message
// lie behind its other events. An event without time gets that of its acceptance.
func (f *Feed) Messages(partition int, messages ...Message) metering.Block {
	first := f.next[partition] + 1
	b := metering.Block{Incarnation: f.Incarnation, Partition: partition, First: first, Last: first + uint64(len(messages)) - 1}
	for i, content := range messages {
		m := metering.Message{Sequence: first + uint64(i), AcceptedAt: f.At, Announced: len(content.Events) + len(content.Undecoded)}
		digest := sha256.New()
		for j, e := range content.Events {
			if e.TimeAbsent {
				e.Time = f.At
			}
			if f.Partitions > 0 {
				e.ID = In(e.Source, e.ID, partition, f.Partitions)
			}
			a := metering.Accepted{Event: e, Key: e.Key(), Hash: metering.ContentHash(e), AcceptedAt: f.At,
				Position: metering.Position{Incarnation: f.Incarnation, Partition: partition, Sequence: m.Sequence, Index: j}}
			digest.Write(a.Hash[:])
			m.Events = append(m.Events, a)
		}
		for j, reason := range content.Undecoded {
			m.Undecoded = append(m.Undecoded, metering.Undecoded{Index: len(content.Events) + j, Reason: reason})
			digest.Write([]byte(reason))
		}
		digest.Write(binary.BigEndian.AppendUint64(nil, m.Sequence))
		digest.Sum(m.Digest[:0])
		b.Messages = append(b.Messages, m)
		f.At = f.At.Add(time.Second)
	}
	f.next[partition] = b.Last
	return b
}

// Call is one successful API call of an app at an instant, from the source gateway.
func Call(id string, app partner.AppID, at time.Time, change ...func(*metering.Event)) metering.Event {
	e := metering.Event{ID: id, Source: "gateway", Type: metering.UsageAPI, Time: at, Customer: "practice-1",
		Data: metering.Data{App: app, Operation: "appointment.book", Class: metering.ValueAdded, Unit: "call", Status: 200}}
	for _, c := range change {
		c(&e)
	}
	return e
}

// Void takes out the event that the source gateway calls target.
func Void(id, target string, at time.Time) metering.Event {
	return metering.Event{ID: id, Source: "gateway", Type: metering.UsageVoided, Time: at, Data: metering.Data{RefersTo: target}}
}

// Calls are n calls of an app, a second apart, with the ids prefix-0 and so on.
func Calls(prefix string, n int, app partner.AppID, at time.Time) []metering.Event {
	es := make([]metering.Event, n)
	for i := range es {
		es[i] = Call(fmt.Sprintf("%s-%d", prefix, i), app, at.Add(time.Duration(i)*time.Second))
	}
	return es
}

// Decimal reads a decimal for an optional field; it panics on anything else, since
// tests write these by hand.
func Decimal(text string) *decimal.Decimal {
	d := decimal.RequireFromString(text)
	return &d
}
