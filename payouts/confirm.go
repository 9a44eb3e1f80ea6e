package payouts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mete/internal/failpoint"
	"mete/period"
)

const (
	beforeConfirm failpoint.Point = "payout.settle.after-import"
	afterConfirm  failpoint.Point = "payout.settle.after-one"
)

// MaxConfirmations bounds one import.
const MaxConfirmations = 100_000

// Confirmed is what an import changed.
type Confirmed struct {
	Booked []string `json:"booked"` // payouts whose state changed
	Known  []string `json:"known"`  // confirmed before with the same facts
}

// Confirm books what a bank says: paid moves in transit to cash, failed and returned
// make the money due again. All of it is checked before any of it is booked, so a
// file is taken or refused as a whole; taken again it changes nothing, and after a
// crash it goes on where it stopped.
func (d *Desk) Confirm(ctx context.Context, all []Confirmation) (Confirmed, error) {
	if len(all) > MaxConfirmations {
		return Confirmed{}, fmt.Errorf("confirm payouts: %d lines, at most %d in one import; cut the file", len(all), MaxConfirmations)
	}
	if err := d.check(ctx, all); err != nil {
		return Confirmed{}, fmt.Errorf("confirm payouts: nothing was booked: %w", err)
	}
	if err := beforeConfirm.Hit(); err != nil {
		return Confirmed{}, err
	}
	var out Confirmed
	for _, c := range all {
		changed, err := d.confirm(ctx, c)
		if err != nil {
			return out, err
		}
		if changed {
			out.Booked = append(out.Booked, c.Payout)
		} else {
			out.Known = append(out.Known, c.Payout)
		}
		if err := afterConfirm.Hit(); err != nil {
			return out, err
		}
	}
	return out, nil
}

// check plays all confirmations through in memory and says everything that is wrong.
func (d *Desk) check(ctx context.Context, all []Confirmation) error {
	now := map[string]History{}
	var wrong []error
	for _, c := range all {
		h, ok := now[c.Payout]
		if !ok {
			found, err := d.Store.Payouts(ctx, PayoutFilter{ID: c.Payout})
			if err != nil {
				return err
			}
			if c.Payout == "" || len(found) == 0 {
				wrong = append(wrong, fmt.Errorf("%s: payout %q is not ours: %w; if the bank paid it, tell them and find out who ordered it", c.Source, c.Payout, ErrNotFound))
				continue
			}
			h = found[0]
		}
		step, err := c.step(h)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		if !step.None() {
			h.State = step.To
			h.Confirmations = append(append([]Confirmation(nil), h.Confirmations...), c)
		}
		now[c.Payout] = h
	}
	return errors.Join(wrong...)
}

func (d *Desk) confirm(ctx context.Context, c Confirmation) (changed bool, err error) {
	_, err = d.Store.ChangePayout(ctx, c.Payout, func(h History) (Step, error) {
		step, err := c.step(h)
		changed = !step.None()
		return step, err
	})
	return changed, err
}

// step decides what a confirmation does to a payout in the state it is in.
func (c Confirmation) step(h History) (Step, error) {
	fail := func(kind error, format string, args ...any) (Step, error) {
		return Step{}, fmt.Errorf("%s: payout %s: %s: %w", c.Source, c.Payout, fmt.Sprintf(format, args...), kind)
	}
	switch {
	case c.Outcome != Paid && c.Outcome != Refused && c.Outcome != CameBack:
		return fail(ErrState, "outcome %q is none of paid, failed, returned", c.Outcome)
	case c.BankOn.IsZero():
		return fail(ErrState, "no bank date; the entry needs the day the money moved")
	case !c.At.IsZero() && period.DateOf(c.At, time.UTC).AddDays(1).Before(c.BankOn):
		return fail(ErrState, "bank date %s lies in the future; banks confirm what has happened", c.BankOn)
	case c.Outcome != Refused && strings.TrimSpace(c.BankRef) == "":
		return fail(ErrState, "no bank reference; it is what finds the payment on the bank statement")
	case h.Attempt == nil:
		return fail(ErrState, "it is %s and was never handed to a rail, yet the bank says %s; stop, somebody paid it by another way", h.State, c.Outcome)
	case c.Amount != h.Amount:
		return fail(ErrConflict, "the bank says %s %s, we ordered %s; nothing is booked until that is explained", c.Outcome, c.Amount, h.Amount)
	}
	for _, b := range h.Confirmations {
		if b.Outcome != c.Outcome {
			continue
		}
		if b.BankOn == c.BankOn && b.BankRef == c.BankRef {
			return Step{}, nil
		}
		return fail(ErrConflict, "%s on %s as %q, and again on %s as %q; ask the bank whether it moved the money twice", c.Outcome, b.BankOn, b.BankRef, c.BankOn, c.BankRef)
	}
	to := map[Outcome]State{Paid: Settled, Refused: Failed, CameBack: Returned}[c.Outcome]
	switch {
	case h.State == InTransit:
	case h.State == Settled && c.Outcome == CameBack:
	case h.State == Settled:
		return fail(ErrConflict, "the bank said paid before and says %s now; money that came back is state returned", c.Outcome)
	default:
		return fail(ErrConflict, "it is %s and its money is due again, yet the bank says %s; place a hold on %s before it is paid again, and ask the bank", h.State, c.Outcome, h.Partner)
	}
	e := confirmEntry(h.Payout, c)
	return Step{To: to, Reason: c.Reason, Confirmation: &c, Entry: &e}, nil
}
