package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mete/metering"
	"mete/metering/phi"
)

// phiEvents is how many events benchPHI looks at in a round.
const phiEvents = 10_000

// benchPHI is the price of the PHI guard for each event: all of its texts, looked at on
// one core. Beside it stands what the gate does with the same event, of which the guard
// is a part, and the same texts looked at byte by byte, which nothing can beat.
func benchPHI(ctx context.Context, _ bool, emit func(Result)) error {
	events := calls.events(0, phiEvents)
	texts := make([][]string, len(events))
	size, many := 0, 0
	for i := range events {
		texts[i] = textsOf(&events[i])
		many += len(texts[i])
		for _, s := range texts[i] {
			size += len(s)
		}
	}
	dir, err := loadDirectory(ctx)
	if err != nil {
		return err
	}
	bodies := make([][]byte, phiEvents/ingestBatch)
	for i := range bodies {
		bodies[i] = calls.body(i*ingestBatch, ingestBatch)
	}
	each := func(fn func() error) (float64, float64, error) {
		perSecond, allocs, err := rate(ctx, phiEvents, fn)
		return float64(time.Second) / perSecond, allocs, err
	}
	guard, allocs, err := each(func() error {
		for _, all := range texts {
			for _, s := range all {
				if phi.Find(s) != "" {
					return fmt.Errorf("%q is caught", s)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var seen byte
	least, _, err := each(func() error {
		for _, all := range texts {
			for _, s := range all {
				for i := range len(s) {
					seen |= s[i]
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if seen == 0 {
		return errors.New("the texts are empty")
	}
	now := time.Now()
	validate, _, err := each(func() error {
		for i := range events {
			if r := metering.Validate(events[i], dir, now); r != nil {
				return fmt.Errorf("event %d is refused: %s", i, r.Detail)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	gate, _, err := each(func() error {
		for _, body := range bodies {
			if err := admit(ctx, gateAlone, body); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	note := fmt.Sprintf("%.1f texts, %.0f bytes an event", float64(many)/phiEvents, float64(size)/phiEvents)
	emit(Result{Name: "PHI guard, an event", Value: guard, Unit: "ns", Limit: Limit{"reading the bytes", least}, Allocs: allocs, Note: note})
	emit(Result{Name: "validation with the guard, an event", Value: validate, Unit: "ns", Limit: Limit{"the guard alone", guard}})
	emit(Result{Name: "the gate from JSON, an event", Value: gate, Unit: "ns", Limit: Limit{"the guard alone", guard}, Note: "decode, validate, decide; one core busy and the other with garbage"})
	return nil
}

// textsOf are those that the guard looks at.
func textsOf(e *metering.Event) []string {
	return []string{e.ID, e.Source, e.Type, string(e.Customer), string(e.Data.App), e.Data.Operation, string(e.Data.Class)}
}
