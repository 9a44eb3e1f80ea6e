// Package payoutstest holds the promises of [payouts.Rail] and [payouts.Store] as
// tests that every implementation runs, and a bank in memory for tests of what stands
// above a rail.
package payoutstest

import (
	"context"
	"fmt"
	"sync"

	"mete/payouts"
	"mete/period"
)

// Bank is a rail in memory that remembers what it moved and answers as it is told.
type Bank struct {
	Trait  payouts.Traits
	Answer payouts.Outcome             // of Send; Accepted unless set
	Before func(b payouts.Batch) error // fails a Send that the bank never saw
	After  func(b payouts.Batch) error // fails a Send that the bank carried out
	Forget bool                        // Lookup knows nothing
	On     period.Date                 // of Paid and Refused
	mu     sync.Mutex
	params map[string]string
	moved  map[string]int
	copies int
}

// Traits implements [payouts.Rail].
func (b *Bank) Traits() payouts.Traits {
	t := b.Trait
	if t.Name == "" {
		t.Name = "testbank"
	}
	if t.Label == "" {
		t.Label = "test bank"
	}
	return t
}

// Send implements [payouts.Rail].
func (b *Bank) Send(_ context.Context, batch payouts.Batch) ([]payouts.Receipt, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Before != nil {
		if err := b.Before(batch); err != nil {
			return nil, err
		}
	}
	if b.params == nil {
		b.params, b.moved = map[string]string{}, map[string]int{}
	}
	for _, i := range batch.Instructions {
		if old, ok := b.params[i.Key]; ok && old != i.ParamsHash {
			return nil, fmt.Errorf("key %s has other parameters: %w", i.Key, payouts.ErrConflict)
		}
	}
	for _, i := range batch.Instructions {
		if _, ok := b.params[i.Key]; ok {
			b.copies++
			continue
		}
		b.params[i.Key] = i.ParamsHash
		if b.answer() != payouts.Refused {
			b.moved[i.Payout]++
		}
	}
	if b.After != nil {
		if err := b.After(batch); err != nil {
			return nil, err
		}
	}
	return b.receipts(batch), nil
}

// Lookup implements [payouts.Rail].
func (b *Bank) Lookup(_ context.Context, batch payouts.Batch) ([]payouts.Receipt, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.receipts(batch), nil
}

// Moved is how often each payout was carried out.
func (b *Bank) Moved() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]int{}
	for id, n := range b.moved {
		out[id] = n
	}
	return out
}

// Copies is how often an instruction came again.
func (b *Bank) Copies() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.copies
}

func (b *Bank) answer() payouts.Outcome {
	if b.Answer == "" {
		return payouts.Accepted
	}
	return b.Answer
}

func (b *Bank) receipts(batch payouts.Batch) []payouts.Receipt {
	var out []payouts.Receipt
	for _, i := range batch.Instructions {
		r := payouts.Receipt{Payout: i.Payout, Key: i.Key, Outcome: payouts.Unknown}
		if _, ok := b.params[i.Key]; ok && !b.Forget {
			r.Outcome, r.Ref, r.On = b.answer(), "bank-"+i.Key, b.On
		}
		out = append(out, r)
	}
	return out
}
