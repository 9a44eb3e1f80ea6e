package jetstream

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"mete/metering"
)

// Bounds of a message.
const (
	MaxPayload = 64 << 10 // bytes; one event that is longer has a message of its own
	MaxCount   = 4096     // events
)

// The headers of a message.
const (
	headerCount      = "Mete-Count"
	headerAcceptedAt = "Mete-Accepted-At"
	headerMsgID      = nats.MsgIdHdr
)

const (
	magic     = "mete/1 "
	nonceSize = 16
	firstLine = len(magic) + 2*nonceSize + 1
)

// acceptedForm is how Mete-Accepted-At is written.
const acceptedForm = "2006-01-02T15:04:05.000000Z"

// pack makes the message of some events, each in canonical form with its line end.
func pack(partition int, lines [][]byte, at time.Time) *nats.Msg {
	size := firstLine
	for _, l := range lines {
		size += len(l)
	}
	b := make([]byte, 0, size)
	var nonce [nonceSize]byte
	rand.Read(nonce[:]) // never fails
	b = append(b, magic...)
	b = append(hex.AppendEncode(b, nonce[:]), '\n')
	for _, l := range lines {
		b = append(b, l...)
	}
	digest := sha256.Sum256(b)
	return &nats.Msg{
		Subject: subjectOf(partition),
		Data:    b,
		Header: nats.Header{
			headerCount:            {strconv.Itoa(len(lines))},
			headerAcceptedAt:       {at.UTC().Format(acceptedForm)},
			headerMsgID:            {hex.EncodeToString(digest[:])},
			nats.ExpectedStreamHdr: {streamName(partition)},
		},
	}
}

// raw is a stored message as the broker gives it.
type raw struct {
	sequence uint64
	storedAt time.Time
	header   nats.Header
	data     []byte
}

// unpack reads a message. It never fails: what cannot be read is in the message as
// undecoded, as often as the header announced. A payload that is not as it was
// written is undecoded whole.
func unpack(d *metering.CanonicalDecoder, incarnation, partition int, r raw) metering.Message {
	m := metering.Message{Sequence: r.sequence, AcceptedAt: r.storedAt.UTC().Truncate(time.Microsecond), Digest: sha256.Sum256(r.data)}
	if at, err := time.Parse(acceptedForm, r.header.Get(headerAcceptedAt)); err == nil {
		m.AcceptedAt = at
	}
	n, ok := countOf(r.header)
	m.Announced = n
	if !ok {
		return undecoded(m, "the message has no count of its events")
	}
	if id := r.header.Get(headerMsgID); id != m.Digest.String() {
		return undecoded(m, "the payload is not the one that was written: its digest differs")
	}
	lines, err := linesOf(r.data)
	if err != nil {
		return undecoded(m, err.Error())
	}
	if len(lines) != n {
		return undecoded(m, fmt.Sprintf("the header announces %d events, the payload has %d", n, len(lines)))
	}
	m.Events = make([]metering.Accepted, 0, n)
	for i, line := range lines {
		e, err := d.Decode(line)
		if err != nil {
			m.Undecoded = append(m.Undecoded, metering.Undecoded{Index: i, Reason: err.Error()})
			continue
		}
		m.Events = append(m.Events, metering.Accepted{
			Event:      e,
			Key:        e.Key(),
			Hash:       metering.ContentHash(e),
			Position:   metering.Position{Incarnation: incarnation, Partition: partition, Sequence: r.sequence, Index: i},
			AcceptedAt: m.AcceptedAt,
		})
	}
	return m
}

// countOf is how many events a message announces. One that does not say so, as only
// a foreign hand could write it, counts as one: it must not vanish from the sums.
func countOf(h nats.Header) (n int, ok bool) {
	n, err := strconv.Atoi(h.Get(headerCount))
	if err != nil || n < 1 || n > MaxCount {
		return 1, false
	}
	return n, true
}

func linesOf(b []byte) ([][]byte, error) {
	if len(b) < firstLine || string(b[:len(magic)]) != magic || b[firstLine-1] != '\n' {
		return nil, fmt.Errorf("the payload does not begin with %q and a nonce", magic)
	}
	b = b[firstLine:]
	if len(b) == 0 || b[len(b)-1] != '\n' {
		return nil, fmt.Errorf("the payload does not end with a whole line")
	}
	return bytes.Split(b[:len(b)-1], []byte{'\n'}), nil
}

// undecoded says of all announced events that they could not be read.
func undecoded(m metering.Message, reason string) metering.Message {
	for i := range m.Announced {
		m.Undecoded = append(m.Undecoded, metering.Undecoded{Index: i, Reason: reason})
	}
	return m
}
