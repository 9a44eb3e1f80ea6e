package jetstream

import (
	"context"
	"fmt"

	"mete/metering"
)

// Last is the last position of every partition now, under the incarnation by which
// the store knows the stream.
func (all *Streams) Last(ctx context.Context, incarnation int) (metering.Cutoff, error) {
	var c metering.Cutoff
	for p := range all.Partitions() {
		s, err := all.State(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("last position of partition %d: %w", p, err)
		}
		c = append(c, metering.PartitionCutoff{Incarnation: incarnation, Partition: p, Sequence: s.Last})
	}
	return c, nil
}

// Totals counts the messages up to the cutoff that the stream still holds, and adds
// up the counts in their headers: the stream's own figures, read from nothing else.
// It reads each message once, in bounded memory.
func (all *Streams) Totals(ctx context.Context, upTo metering.Cutoff) (messages, announced int64, err error) {
	for _, c := range upTo {
		m, a, err := all.totals(ctx, c)
		if err != nil {
			return 0, 0, err
		}
		messages += m
		announced += a
	}
	return messages, announced, nil
}

func (all *Streams) totals(ctx context.Context, c metering.PartitionCutoff) (messages, announced int64, err error) {
	s, err := all.State(ctx, c.Partition)
	if err != nil {
		return 0, 0, err
	}
	r, err := all.reader(c.Partition)
	if err != nil {
		return 0, 0, err
	}
	defer r.close()
	for next := max(s.First, 1); next <= min(c.Sequence, s.Last); {
		got, err := r.read(ctx, next)
		if err != nil {
			return 0, 0, err
		}
		if len(got) == 0 {
			return 0, 0, fmt.Errorf("partition %d ends before sequence %d, which it said it has", c.Partition, next)
		}
		for _, m := range got {
			if m.sequence > c.Sequence {
				break
			}
			n, _ := countOf(m.header)
			messages++
			announced += int64(n)
		}
		next += uint64(len(got))
	}
	return messages, announced, nil
}
