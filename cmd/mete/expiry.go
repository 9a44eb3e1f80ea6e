package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"mete/billing"
	"mete/metering"
)

// How often the stream is told what may expire, and how long that may fail before health
// is red: a message that is not reconciled outlives both by far.
const (
	holdEvery    = time.Hour
	holdPatience = 24 * time.Hour
)

// holding is what the stream was told last.
type holding struct {
	checkpoint time.Time // when the checkpoint was made
	at         time.Time // of the last success, or of the start
	err        error     // of the last try
}

// keepHolding tells the stream what may expire, now and then.
func (a *app) keepHolding(ctx context.Context) error {
	a.mu.Lock()
	a.held.at = time.Now()
	a.mu.Unlock()
	tick := time.NewTicker(holdEvery)
	defer tick.Stop()
	for {
		if err := a.holdStream(ctx); err != nil && ctx.Err() == nil {
			slog.Warn("what may expire from the stream is not said", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// holdStream lets messages expire that are reconciled and stored, and keeps all others.
func (a *app) holdStream(ctx context.Context) error {
	c, err := a.store.Checkpoint(ctx, a.streams.Name())
	if err == nil {
		err = a.holdAfter(ctx, c)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held.err = err; err == nil {
		a.held.at, a.held.checkpoint = time.Now(), c.At
	}
	return err
}

func (a *app) holdAfter(ctx context.Context, c billing.Checkpoint) error {
	var upTo metering.Cutoff
	for _, p := range c.Cutoff {
		stored, err := a.events.Position(ctx, p.Partition)
		if err != nil {
			return err
		}
		p.Sequence = min(p.Sequence, stored) // a store that was restored reads them again
		upTo = append(upTo, p)
	}
	return a.streams.Hold(ctx, upTo, time.Now()) // messages age by the brokers' clock
}

// unheld says that the stream was not told what may expire for too long.
func (a *app) unheld(now time.Time) (checkpoint time.Time, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if h := a.held; h.err != nil && now.Sub(h.at) > holdPatience {
		err = fmt.Errorf("the stream was not told since %s what may expire: %w", h.at.UTC().Format(time.RFC3339), h.err)
	}
	return a.held.checkpoint, err
}
