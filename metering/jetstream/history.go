package jetstream

import (
	"context"
	"errors"
	"fmt"

	"mete/metering"
)

// History is the stream as what a store can be filled with once more, see
// [metering.History].
type History struct {
	Streams     *Streams
	Incarnation int // by which the store knows the stream
}

var _ metering.History = History{}

// Whole reports, with [metering.ErrGap], what the stream does not have any more from its
// first message on; nil if it has all.
func (h History) Whole(ctx context.Context) error {
	var gone []error
	for p := range h.Streams.Partitions() {
		s, err := h.Streams.State(ctx, p)
		if err != nil {
			return err
		}
		if s.First > 1 {
			gone = append(gone, fmt.Errorf("partition %d: messages 1 to %d have expired, the stream keeps %d days: %w", p, s.First-1, int(s.MaxAge.Hours()/24), metering.ErrGap))
		}
	}
	return errors.Join(gone...)
}

// BlockAfter reads messages of a partition, see [metering.History].
func (h History) BlockAfter(ctx context.Context, partition int, after, upTo uint64, events int) (metering.Block, error) {
	r, err := h.Streams.reader(partition)
	if err != nil {
		return metering.Block{}, err
	}
	defer r.close()
	got, err := r.upTo(ctx, after, upTo, events)
	if err != nil {
		return metering.Block{}, err
	}
	b := metering.Block{Incarnation: h.Incarnation, Partition: partition, First: after + 1, Last: after + uint64(len(got)), Messages: make([]metering.Message, len(got))}
	var d metering.CanonicalDecoder
	for i := range got {
		b.Messages[i] = unpack(&d, h.Incarnation, partition, got[i])
		got[i] = raw{} // its payload is not needed any more
	}
	return b, nil
}

// upTo reads messages behind a sequence and up to another one, of no more than so many
// events unless the first alone has more.
func (r *reader) upTo(ctx context.Context, after, upTo uint64, most int) (got []raw, err error) {
	events := 0
	for next := after + 1; next <= upTo && len(got) < metering.MaxBlockMessages; next = after + 1 + uint64(len(got)) {
		some, err := r.read(ctx, next)
		if err != nil {
			return nil, err
		}
		if len(some) == 0 {
			return nil, fmt.Errorf("partition %d ends before message %d: %w", r.partition, next, metering.ErrGap)
		}
		for _, m := range some {
			n, _ := countOf(m.header)
			if events += n; m.sequence > upTo || events > most && len(got) > 0 {
				return got, nil
			}
			got = append(got, m)
		}
	}
	return got, nil
}
