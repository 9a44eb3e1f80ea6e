package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"mete/metering"
)

// Bounds of one read.
const (
	readMessages = 256
	readBytes    = 1 << 20
	readTimeout  = 2 * time.Second // without any answer
)

// reader reads one partition by sequence. The broker keeps no state for it.
type reader struct {
	streams   *Streams
	partition int
	sub       *nats.Subscription
	inbox     string
	requests  int
}

func (all *Streams) reader(partition int) (*reader, error) {
	inbox := all.conn.NewRespInbox()
	sub, err := all.conn.SubscribeSync(inbox + ".*")
	if err != nil {
		return nil, fmt.Errorf("read partition %d: %w", partition, err)
	}
	return &reader{streams: all, partition: partition, sub: sub, inbox: inbox}, nil
}

func (r *reader) close() { _ = r.sub.Unsubscribe() } // fails only on a closed connection

// read gives consecutive messages from a sequence on, none if there are none yet.
// It fails with metering.ErrGap if the message is gone and later ones are there.
func (r *reader) read(ctx context.Context, from uint64) ([]raw, error) {
	got, err := r.request(ctx, from)
	if err != nil {
		return nil, fmt.Errorf("read partition %d from %d: %w", r.partition, from, err)
	}
	for i, m := range got {
		if m.sequence != from+uint64(i) {
			got = got[:i] // what follows is read again, or found missing then
			if i == 0 {
				return r.one(ctx, from, m.sequence)
			}
			break
		}
	}
	return got, nil
}

// one tells a message that was lost on the way to us from one that is gone.
func (r *reader) one(ctx context.Context, from, next uint64) ([]raw, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	s, err := r.streams.js.Stream(ctx, streamName(r.partition))
	if err != nil {
		return nil, fmt.Errorf("read partition %d at %d: %w", r.partition, from, err)
	}
	m, err := getMsg(ctx, s, from)
	if errors.Is(err, js.ErrMsgNotFound) {
		return nil, gap(r.partition, from-1, next)
	}
	if err != nil {
		return nil, fmt.Errorf("read partition %d at %d: %w", r.partition, from, err)
	}
	return []raw{{m.Sequence, m.Time, m.Header, m.Data}}, nil
}

// request asks the broker for consecutive messages in one go.
func (r *reader) request(ctx context.Context, from uint64) ([]raw, error) {
	ask, err := json.Marshal(map[string]any{"seq": from, "batch": readMessages, "max_bytes": readBytes})
	if err != nil {
		return nil, err
	}
	r.requests++
	reply := r.inbox + "." + strconv.Itoa(r.requests)
	if err := r.streams.conn.PublishRequest("$JS.API.DIRECT.GET."+streamName(r.partition), reply, ask); err != nil {
		return nil, err
	}
	var got []raw
	for {
		m, err := r.next(ctx, reply)
		switch {
		case errors.Is(err, context.DeadlineExceeded) && len(got) > 0 && ctx.Err() == nil:
			return got, nil // the rest was lost on the way
		case err != nil:
			return nil, err
		}
		switch status := m.Header.Get("Status"); status {
		case "":
		case "204", "404": // end of the batch; nothing there
			return got, nil
		default:
			return nil, fmt.Errorf("the broker says %s %s", status, m.Header.Get("Description"))
		}
		one := raw{header: m.Header, data: m.Data}
		if one.sequence, err = strconv.ParseUint(m.Header.Get(js.SequenceHeader), 10, 64); err != nil {
			return nil, fmt.Errorf("answer without a sequence: %w", err)
		}
		if one.storedAt, err = time.Parse(time.RFC3339Nano, m.Header.Get(js.TimeStampHeaer)); err != nil {
			return nil, fmt.Errorf("answer without a time: %w", err)
		}
		got = append(got, one)
	}
}

// next is the next answer to our last request; late answers to earlier ones are
// dropped.
func (r *reader) next(ctx context.Context, reply string) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for {
		m, err := r.sub.NextMsgWithContext(ctx)
		if err != nil || m.Subject == reply {
			return m, err
		}
	}
}

// Bounds of a block.
const (
	blockMessages = 4 * readMessages
	blockEvents   = 5_000 // of a Worker that does not say
)

// gather reads on behind what was got, whose first message is from, until there are
// enough events for a block, or nothing more is there now. It reports whether there are
// enough.
func (r *reader) gather(ctx context.Context, from uint64, got []raw, enough int) (_ []raw, full bool, err error) {
	events := eventsOf(got)
	for events < enough && len(got) < blockMessages {
		next, err := r.read(ctx, from+uint64(len(got)))
		if err != nil && len(got) == 0 {
			return nil, false, err
		}
		if err != nil || len(next) == 0 { // an error is met again at the next read
			return got, false, nil
		}
		events += eventsOf(next)
		got = append(got, next...)
	}
	return got, true, nil
}

// eventsOf is how many events messages announce.
func eventsOf(got []raw) int {
	events := 0
	for _, m := range got {
		n, _ := countOf(m.header)
		events += n
	}
	return events
}

// blocks cuts consecutive messages into blocks: at most enough events each, but at
// least one message. Each is decoded when it is asked for, after room was made for so
// many events; it ends when there is none to be had.
func blocks(incarnation, partition int, got []raw, enough int, room func(events int) bool) iter.Seq[metering.Block] {
	return func(yield func(metering.Block) bool) {
		var d metering.CanonicalDecoder
		for len(got) > 0 {
			n, events := 0, 0
			for n < len(got) && n < blockMessages {
				more, _ := countOf(got[n].header)
				if n > 0 && events+more > enough {
					break
				}
				n, events = n+1, events+more
			}
			if !room(events) {
				return
			}
			b := metering.Block{Incarnation: incarnation, Partition: partition, First: got[0].sequence, Last: got[n-1].sequence, Messages: make([]metering.Message, n)}
			for i := range b.Messages {
				b.Messages[i] = unpack(&d, incarnation, partition, got[i])
				got[i] = raw{} // its payload is not needed any more
			}
			if got = got[n:]; !yield(b) {
				return
			}
		}
	}
}
