package billing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mete/metering"
)

// Checkpoint is how far a reconcile found stream and metering store to agree, and what
// it had counted in the stream up to there. Messages up to it may expire from the stream,
// and are not counted again. It only moves on.
type Checkpoint struct {
	Stream    string          `json:"stream"` // its own name, see [StreamTotals]
	Cutoff    metering.Cutoff `json:"cutoff"`
	Messages  int64           `json:"messages"`
	Announced int64           `json:"announced"` // events, by the headers of these messages
	At        time.Time       `json:"at"`
}

// IsZero reports whether there is none.
func (c Checkpoint) IsZero() bool { return c.Stream == "" }

// After reports whether the checkpoint lies after another one of its stream: at or after
// it in every partition, and not at the same place. It fails with [ErrConflict] if it is
// at the same place and has counted something else.
func (c Checkpoint) After(last Checkpoint) (bool, error) {
	for _, p := range last.Cutoff {
		if c.Cutoff.Of(p.Partition) < p.Sequence {
			return false, nil
		}
	}
	if slices.Equal(c.Cutoff, last.Cutoff) {
		if c.Messages != last.Messages || c.Announced != last.Announced {
			return false, fmt.Errorf("%d messages with %d events now, %d with %d before: %w", c.Messages, c.Announced, last.Messages, last.Announced, ErrConflict)
		}
		return false, nil
	}
	return true, nil
}

// countStream counts the stream up to the cutoff: as the checkpoint says up to there,
// and each message after it.
func (c *Reconciler) countStream(ctx context.Context, r *Reconciliation, upTo metering.Cutoff) (messages, announced int64, err error) {
	r.upTo = upTo
	r.Checkpoint, err = c.Store.Checkpoint(ctx, c.Totals.Name())
	if errors.Is(err, ErrConflict) {
		r.find("checkpoint", "stream "+c.Totals.Name(), "as it was kept", err.Error())
	} else if err != nil {
		return 0, 0, err
	}
	last := r.Checkpoint
	expired, err := c.Totals.Expired(ctx, upTo)
	if err != nil {
		return 0, 0, err
	}
	for _, p := range expired {
		r.Expired += int64(p.Sequence)
		if at := last.Cutoff.Of(p.Partition); p.Sequence > at {
			r.find("messages expired", fmt.Sprintf("partition %d", p.Partition), fmt.Sprintf("only those up to %d, the checkpoint", at),
				fmt.Sprintf("%d to %d are gone: they were lost, or the books are older than the stream", at+1, p.Sequence))
		}
	}
	if messages, announced, err = c.countAfter(ctx, r, last.Cutoff, upTo); err != nil {
		return 0, 0, err
	}
	return last.Messages + messages, last.Announced + announced, nil
}

// countAfter counts messages between two cutoffs, and names a partition that has a hole.
func (c *Reconciler) countAfter(ctx context.Context, r *Reconciliation, after, upTo metering.Cutoff) (messages, announced int64, err error) {
	for _, p := range upTo {
		m, a, err := c.Totals.TotalsAfter(ctx, after, metering.Cutoff{p})
		if errors.Is(err, metering.ErrGap) {
			r.find("messages", fmt.Sprintf("partition %d", p.Partition), fmt.Sprintf("every one from %d to %d", after.Of(p.Partition)+1, p.Sequence), err.Error())
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		messages, announced = messages+m, announced+a
	}
	return messages, announced, nil
}

// reconcileCheckpoint holds the checkpoint against the store's rows up to it.
func (c *Reconciler) reconcileCheckpoint(ctx context.Context, r *Reconciliation) error {
	last := r.Checkpoint
	if last.IsZero() {
		return nil
	}
	behind := false
	for _, p := range last.Cutoff {
		if at := r.upTo.Of(p.Partition); at < p.Sequence {
			behind = true
			r.find("checkpoint", fmt.Sprintf("partition %d", p.Partition), fmt.Sprintf("a store at or after %d, the checkpoint", p.Sequence),
				fmt.Sprintf("a store at %d: it was restored from an older copy, and has not been filled again", at))
		}
	}
	if behind {
		return nil // its rows up to there are not all there
	}
	var positions int64 // they count from one, without a hole
	for _, p := range last.Cutoff {
		positions += int64(p.Sequence)
	}
	if last.Messages != positions {
		r.find("checkpoint", "messages", fmt.Sprintf("%d, by its positions", positions), fmt.Sprint(last.Messages))
	}
	counts, err := c.Events.CountsBetween(ctx, nil, last.Cutoff)
	if err != nil {
		return err
	}
	r.equal("messages up to the checkpoint", "counted then", "seen by the store", last.Messages, counts.Messages)
	r.equal("events up to the checkpoint", "announced then", "stored + duplicate + conflict + undecoded", last.Announced, accounted(counts))
	return nil
}

func accounted(n metering.Counts) int64 {
	return n.Stored + n.Duplicate + n.Conflict + n.Undecoded
}

// expiryTries bounds how often the stream is counted again because messages expired
// meanwhile.
const expiryTries = 3

// CountAll counts every message that the stream still has, also those up to the
// checkpoint, and compares them with what the store has of the same.
func (c *Reconciler) CountAll(ctx context.Context, r *Reconciliation) error {
	for try := 1; ; try++ {
		expired, err := c.Totals.Expired(ctx, r.upTo)
		if err != nil {
			return fmt.Errorf("reconcile: stream: %w", err)
		}
		found := len(r.Findings)
		messages, announced, err := c.countAfter(ctx, r, expired, r.upTo)
		if err != nil {
			return fmt.Errorf("reconcile: stream: %w", err)
		}
		now, err := c.Totals.Expired(ctx, r.upTo)
		if err != nil {
			return fmt.Errorf("reconcile: stream: %w", err)
		}
		if !slices.Equal(now, expired) && try < expiryTries {
			r.Findings = r.Findings[:found]
			continue
		}
		counts, err := c.Events.CountsBetween(ctx, expired, r.upTo)
		if err != nil {
			return fmt.Errorf("reconcile: store: %w", err)
		}
		r.equal("messages that the stream has", "counted now", "seen by the store", messages, counts.Messages)
		r.equal("events in these", "announced", "stored + duplicate + conflict + undecoded", announced, accounted(counts))
		r.agreed = r.agreed && len(r.Findings) == found
		return nil
	}
}

// MoveCheckpoint moves the checkpoint on to where the reconciliation counted, if stream
// and store agreed up to there. Other differences do not hinder it: what they are about
// is not in the stream. One that cannot be kept is a finding.
func (c *Reconciler) MoveCheckpoint(ctx context.Context, r *Reconciliation, at time.Time) error {
	if !r.agreed {
		return nil
	}
	next := Checkpoint{Stream: c.Totals.Name(), Cutoff: r.upTo, Messages: r.messages, Announced: r.announced, At: at.UTC()}
	moved, err := c.Store.MoveCheckpoint(ctx, next)
	if err != nil && ctx.Err() == nil { // the rest is told all the same
		r.find("checkpoint", next.Cutoff.String(), "kept in the books", err.Error())
		return nil
	}
	if moved {
		r.Checkpoint, r.Moved = next, true
	}
	return err
}
