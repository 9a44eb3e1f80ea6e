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

// Expired is the last position of each partition of the cutoff that the stream no longer
// has, 0 if it has all.
func (all *Streams) Expired(ctx context.Context, of metering.Cutoff) (metering.Cutoff, error) {
	var gone metering.Cutoff
	for _, c := range of {
		s, err := all.State(ctx, c.Partition)
		if err != nil {
			return nil, fmt.Errorf("first position of partition %d: %w", c.Partition, err)
		}
		c.Sequence = max(s.First, 1) - 1
		gone = append(gone, c)
	}
	return gone, nil
}

// Totals counts the messages up to the cutoff that the stream still holds, and adds
// up the counts in their headers: the stream's own figures, read from nothing else.
// It reads each message once, in bounded memory.
func (all *Streams) Totals(ctx context.Context, upTo metering.Cutoff) (messages, announced int64, err error) {
	return all.TotalsAfter(ctx, nil, upTo)
}

// TotalsAfter is Totals of the messages behind a cutoff alone: who has counted up to
// there need not read them again. A partition that it does not name is read whole.
func (all *Streams) TotalsAfter(ctx context.Context, after, upTo metering.Cutoff) (messages, announced int64, err error) {
	for _, c := range upTo {
		m, a, err := all.totals(ctx, after.Of(c.Partition), c)
		if err != nil {
			return 0, 0, err
		}
		messages += m
		announced += a
	}
	return messages, announced, nil
}

func (all *Streams) totals(ctx context.Context, after uint64, c metering.PartitionCutoff) (messages, announced int64, err error) {
	if after >= c.Sequence {
		return 0, 0, nil
	}
	s, err := all.State(ctx, c.Partition)
	if err != nil {
		return 0, 0, err
	}
	r, err := all.reader(c.Partition)
	if err != nil {
		return 0, 0, err
	}
	defer r.close()
	for next := max(s.First, after+1); next <= min(c.Sequence, s.Last); {
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
