package payoutstest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"mete/money"
	"mete/payouts"
	"mete/period"
)

// RailFixture is a rail and a way to see what really moved, by payout.
type RailFixture struct {
	Rail  payouts.Rail
	Moved func(t *testing.T) map[string]int
}

// Batch is a batch of two payouts for tests of rails.
func Batch() payouts.Batch {
	on := period.Date{Year: 2026, Month: time.November, Day: 20}
	b := payouts.Batch{ID: "F-2026-11-20-00c0ffee0001", Run: "2026-11-20.usd.test.meridian-us", PayOn: on, Currency: "USD", From: "operating ****0031"}
	for i, minor := range []int64{4521319, 31090} {
		id := []string{"P-2026-11-20-001", "P-2026-11-20-002"}[i]
		b.Instructions = append(b.Instructions, payouts.Instruction{
			Payout: id, Key: id + ".1", ParamsHash: "params-" + id, Partner: "northwind", Name: "Northwind, \"Scheduling\" LLC",
			Account: "acct-" + id, Last4: "4417", Amount: money.New(minor, "USD"), Reference: id, At: time.Date(2026, 11, 19, 9, 0, 0, 0, time.UTC),
		})
	}
	return b
}

// TestRail checks the promises of [payouts.Rail] over rails that open makes, each with
// nothing sent.
func TestRail(t *testing.T, open func(t *testing.T) RailFixture) {
	send := func(t *testing.T, f RailFixture, b payouts.Batch) []payouts.Receipt {
		t.Helper()
		got, err := f.Rail.Send(t.Context(), b)
		if err != nil {
			t.Fatalf("send: %v", err)
		}
		return got
	}
	once := func(t *testing.T, f RailFixture, b payouts.Batch) {
		t.Helper()
		moved := f.Moved(t)
		for _, i := range b.Instructions {
			if moved[i.Payout] != 1 {
				t.Errorf("payout %s was moved %d times, want once", i.Payout, moved[i.Payout])
			}
		}
		if len(moved) != len(b.Instructions) {
			t.Errorf("moved %v, want %d payouts", moved, len(b.Instructions))
		}
	}
	t.Run("traits", func(t *testing.T) {
		r := open(t).Rail
		if a := r.Traits(); a.Name == "" || a.Label == "" || a != r.Traits() {
			t.Errorf("traits %+v, want a name and a label, always the same", a)
		}
	})
	t.Run("send answers each instruction", func(t *testing.T) {
		f, b := open(t), Batch()
		answered(t, b, send(t, f, b), payouts.Accepted, payouts.Paid)
		once(t, f, b)
	})
	t.Run("look-up", func(t *testing.T) {
		f, b := open(t), Batch()
		got, err := f.Rail.Lookup(t.Context(), b)
		if err != nil {
			t.Fatalf("before: %v", err)
		}
		answered(t, b, got, payouts.Unknown)
		if moved := f.Moved(t); len(moved) != 0 {
			t.Errorf("a look-up moved %v", moved)
		}
		send(t, f, b)
		if got, err = f.Rail.Lookup(t.Context(), b); err != nil {
			t.Fatalf("after: %v", err)
		}
		answered(t, b, got, payouts.Accepted, payouts.Paid)
		once(t, f, b)
	})
	for _, again := range []bool{false, true} {
		t.Run(map[bool]string{false: "the same twice, unknowingly", true: "the same twice, as a copy"}[again], func(t *testing.T) {
			f, b := open(t), Batch()
			first := send(t, f, b)
			b.Again = again
			for range 3 {
				if next := send(t, f, b); !slices.Equal(first, next) {
					t.Errorf("answers %+v, then %+v", first, next)
				}
			}
			once(t, f, b)
		})
	}
	t.Run("a copy of what never arrived is carried out", func(t *testing.T) {
		f, b := open(t), Batch()
		b.Again = true
		send(t, f, b)
		once(t, f, b)
	})
	t.Run("the same key with other parameters", func(t *testing.T) {
		f, b := open(t), Batch()
		send(t, f, b)
		for name, change := range map[string]func(*payouts.Batch){
			"in the same batch": func(*payouts.Batch) {},
			"in another batch":  func(x *payouts.Batch) { x.ID = "F-2026-11-20-00c0ffee0002" },
		} {
			other := Batch()
			change(&other)
			other.Instructions[1].Amount = money.New(31091, "USD")
			other.Instructions[1].ParamsHash = "other"
			other.Again = true
			if _, err := f.Rail.Send(t.Context(), other); !errors.Is(err, payouts.ErrConflict) {
				t.Errorf("%s: %v, want ErrConflict", name, err)
			}
		}
		once(t, f, b)
	})
}

func answered(t *testing.T, b payouts.Batch, got []payouts.Receipt, want ...payouts.Outcome) {
	t.Helper()
	if len(got) != len(b.Instructions) {
		t.Fatalf("%d receipts for %d instructions", len(got), len(b.Instructions))
	}
	for i, r := range got {
		x := b.Instructions[i]
		if r.Payout != x.Payout || r.Key != x.Key || !slices.Contains(want, r.Outcome) {
			t.Errorf("receipt %+v for payout %s, want one of %v", r, x.Payout, want)
		}
	}
}
