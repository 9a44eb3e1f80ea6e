package payouts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mete/internal/failpoint"
	"mete/ledger"
	"mete/partner"
)

// The places where a crash is tested: between any two steps of a submit.
const (
	afterAttempt failpoint.Point = "payout.submit.after-attempt"
	afterFixed   failpoint.Point = "payout.submit.after-fixed"
	afterSend    failpoint.Point = "payout.submit.after-send"
	afterReceipt failpoint.Point = "payout.submit.after-receipt"
)

// Order tells the desk to submit a run.
type Order struct {
	Run  string
	By   string
	At   time.Time
	Copy bool // deliver again, as a copy, what was delivered before
}

// Submission is what came of an order: payouts by what is known of them.
type Submission struct {
	Run       Run      `json:"run"`
	Batches   []string `json:"batches"` // sent now
	Accepted  []string `json:"accepted,omitempty"`
	Paid      []string `json:"paid,omitempty"`
	Failed    []string `json:"failed,omitempty"`
	Unknown   []string `json:"unknown,omitempty"`
	Cancelled []string `json:"cancelled,omitempty"`
}

// Submit hands an approved run to its rail. For each payout the attempt and the
// booking due → in transit are one transaction, before the rail hears of it. What the
// rail does not answer stays in transit; submitting again is safe at any point and
// uses the same keys, or, where the rail may have forgotten them, only looks up.
//
// A payout whose money went away since the approval (a hold) is cancelled, and the
// rest is paid.
func (d *Desk) Submit(ctx context.Context, o Order) (Submission, error) {
	r, err := d.Find(ctx, o.Run)
	if err != nil {
		return Submission{}, err
	}
	rail, ok := d.Rails[r.Rail]
	switch {
	case !ok:
		return Submission{Run: r}, fmt.Errorf("submit run %s: no rail %q is set up", r.ID, r.Rail)
	case o.At.IsZero() || strings.TrimSpace(o.By) == "":
		return Submission{Run: r}, fmt.Errorf("submit run %s: who and when are needed", r.ID)
	case r.State == RunSentBack:
		return Submission{Run: r}, fmt.Errorf("submit run %s: it was sent back by %s (%s); plan it again: %w", r.ID, r.SentBack.By, r.SentBack.Reason, ErrState)
	}
	if err := r.approved(); err != nil {
		return Submission{Run: r}, err
	}
	if err := d.sameAccounts(ctx, r); err != nil {
		return Submission{Run: r}, err
	}
	s := &submit{desk: d, rail: rail, traits: rail.Traits(), order: o}
	if s.traits.PerBatch == 0 {
		err = s.whole(ctx, r)
	} else {
		err = s.parts(ctx, r)
	}
	out, reportErr := s.report(ctx, r.ID)
	return out, errors.Join(err, reportErr)
}

// sameAccounts refuses to pay into accounts that changed since the run was planned.
func (d *Desk) sameAccounts(ctx context.Context, r Run) error {
	if d.Payee == nil {
		return nil
	}
	for _, p := range r.Payouts {
		if p.State != Planned {
			continue
		}
		now, err := d.Payee(ctx, p.Partner)
		if err != nil {
			return fmt.Errorf("submit run %s: payee %s: %w", r.ID, p.Partner, err)
		}
		if now.Account != p.Account || now.Last4 != p.Last4 || railOf(now, r.Rail) != r.Rail {
			return fmt.Errorf("submit run %s: the account of %s was ****%s when the run was approved and is ****%s now; return the run and plan again: %w",
				r.ID, p.Partner, p.Last4, now.Last4, ErrContent)
		}
	}
	return nil
}

func railOf(p partner.Payee, otherwise string) string {
	if p.Rail == "" {
		return otherwise
	}
	return p.Rail
}

type submit struct {
	desk    *Desk
	rail    Rail
	traits  Traits
	order   Order
	batches []string
}

// whole submits a run as one file: first every attempt, then the run is fixed, so
// that the file is the same whenever it is made, then the file.
func (s *submit) whole(ctx context.Context, r Run) error {
	again := r.State != RunApproved
	if !again {
		for _, p := range r.Payouts {
			if _, err := s.reserve(ctx, p); err != nil {
				return err
			}
		}
		fixed, err := s.fix(ctx, r.ID)
		if err != nil {
			return err
		}
		again = !fixed
		if err := afterFixed.Hit(); err != nil {
			return err
		}
	}
	return s.send(ctx, r, nil, again)
}

// parts submits a run in batches: attempts of a batch, then the batch.
func (s *submit) parts(ctx context.Context, r Run) error {
	for at := 0; at < len(r.Payouts); at += s.traits.PerBatch {
		part := r.Payouts[at:min(at+s.traits.PerBatch, len(r.Payouts))]
		again := false
		ids := map[string]bool{}
		for _, p := range part {
			ids[p.ID] = true
			if r.State != RunApproved {
				again = true
				continue
			}
			fresh, err := s.reserve(ctx, p)
			if err != nil {
				return err
			}
			again = again || !fresh
		}
		if err := s.send(ctx, r, ids, again); err != nil {
			return err
		}
	}
	if r.State != RunApproved {
		return nil
	}
	if _, err := s.fix(ctx, r.ID); err != nil {
		return err
	}
	return afterFixed.Hit()
}

// reserve keeps the attempt and moves the money to in transit. It reports whether
// nobody did so before.
func (s *submit) reserve(ctx context.Context, p Payout) (fresh bool, err error) {
	_, err = s.desk.Store.ChangePayout(ctx, p.ID, func(h History) (Step, error) {
		a := attemptOf(h.Payout, s.order.At)
		fresh = false
		switch {
		case h.Attempt != nil && h.Attempt.ParamsHash != a.ParamsHash:
			return Step{}, fmt.Errorf("submit payout %s: it was attempted on %s with other details; nothing is sent, compare payee and amount: %w",
				h.ID, h.Attempt.At.Format(time.DateOnly), ErrConflict)
		case h.Attempt != nil || h.State == Cancelled:
			return Step{}, nil
		case h.RunState != RunApproved:
			return Step{}, fmt.Errorf("submit payout %s: run %s is %s: %w", h.ID, h.Run, h.RunState, ErrState)
		}
		fresh = true
		e := submitEntry(h.Payout)
		return Step{To: InTransit, Attempt: &a, Entry: &e}, nil
	})
	if errors.Is(err, ledger.ErrGuard) {
		return false, s.cancel(ctx, p)
	}
	if err != nil {
		return false, err
	}
	if !fresh {
		return false, nil
	}
	return true, afterAttempt.Hit()
}

// cancel gives up a payout whose money is not due any more.
func (s *submit) cancel(ctx context.Context, p Payout) error {
	_, err := s.desk.Store.ChangePayout(ctx, p.ID, func(h History) (Step, error) {
		if h.State != Planned || h.Attempt != nil {
			return Step{}, nil
		}
		return Step{To: Cancelled, Reason: gone(p)}, nil
	})
	return err
}

// gone is why a payout is cancelled whose money is not due any more.
func gone(p Payout) string {
	return "payable:due held less than " + p.Amount.Grouped() + " when it was submitted"
}

// fix marks the run as submitted: from here its attempts are all there ever are. It
// reports whether this call did it.
func (s *submit) fix(ctx context.Context, run string) (did bool, err error) {
	_, err = s.desk.Store.ChangePayoutRun(ctx, run, func(r Run) (Run, error) {
		did = r.State == RunApproved
		if did {
			r.State = RunSubmitted
		}
		return r, nil
	})
	return did, err
}

// send hands over the instructions of the run, or of the payouts named, that have no
// answer yet, or one that a crash kept from being booked. A file is always the whole run.
func (s *submit) send(ctx context.Context, r Run, only map[string]bool, again bool) error {
	known, err := s.desk.Store.Payouts(ctx, PayoutFilter{Run: r.ID})
	if err != nil {
		return err
	}
	byID := map[string]History{}
	for _, h := range known {
		byID[h.ID] = h
	}
	var ins []Instruction
	waiting := 0
	for _, p := range r.Payouts { // in the order of the plan
		h := byID[p.ID]
		if h.Attempt == nil || only != nil && !only[p.ID] {
			continue
		}
		if paramsHash(h.Payout) != h.Attempt.ParamsHash {
			return fmt.Errorf("submit payout %s: it was attempted with other details; nothing is sent, compare payee and amount: %w", h.ID, ErrConflict)
		}
		if h.State == InTransit && h.Attempt.State != Accepted { // without an answer, or it was kept and not booked
			waiting++
		} else if s.traits.PerBatch > 0 {
			continue // answered
		}
		ins = append(ins, instruction(h.Payout, *h.Attempt))
	}
	if len(ins) == 0 || waiting == 0 && !s.order.Copy {
		return nil
	}
	b := batchOf(r, ins, again)
	if again {
		found, err := s.lookup(ctx, b)
		if err != nil {
			return err
		}
		if found == len(ins) && !s.order.Copy {
			return nil
		}
		if err := s.mayResend(b); err != nil {
			return err
		}
	}
	receipts, sendErr := s.rail.Send(ctx, b)
	if sendErr == nil {
		s.batches = append(s.batches, b.ID)
		sendErr = afterSend.Hit()
	}
	err = s.record(ctx, b, receipts)
	if sendErr != nil {
		sendErr = fmt.Errorf("submit run %s: batch %s of %d payouts: they stay in transit; submit again, the same keys are used: %w: %w",
			r.ID, b.ID, len(ins), ErrUnknown, sendErr)
	}
	return errors.Join(sendErr, err)
}

// lookup asks the rail first, and reports how many instructions it knows.
func (s *submit) lookup(ctx context.Context, b Batch) (int, error) {
	receipts, err := s.rail.Lookup(ctx, b)
	if err != nil {
		return 0, fmt.Errorf("submit run %s: look up batch %s: nothing was sent: %w: %w", b.Run, b.ID, ErrUnknown, err)
	}
	found := 0
	for _, x := range receipts {
		if x.Outcome != Unknown {
			found++
		}
	}
	return found, s.record(ctx, b, receipts)
}

// mayResend refuses to send keys again that the rail may have forgotten.
func (s *submit) mayResend(b Batch) error {
	for _, i := range b.Instructions {
		if age := s.order.At.Sub(i.At); s.traits.KeyLife > 0 && age > s.traits.KeyLife {
			return fmt.Errorf("submit run %s: payout %s was handed over %s ago and %s remembers keys for %s; it is not sent again, find out what became of it and import that: %w",
				b.Run, i.Payout, age.Round(time.Minute), s.traits.Label, s.traits.KeyLife, ErrUnknown)
		}
	}
	return nil
}

// record keeps what the rail answered, each answer in a transaction of its own.
func (s *submit) record(ctx context.Context, b Batch, receipts []Receipt) error {
	sent := map[string]Instruction{}
	for _, i := range b.Instructions {
		sent[i.Payout] = i
	}
	for _, x := range receipts {
		i, ours := sent[x.Payout]
		if !ours || x.Key != i.Key {
			return fmt.Errorf("submit run %s: rail %s answered for payout %q with key %q, which was not asked: %w", b.Run, s.traits.Name, x.Payout, x.Key, ErrConflict)
		}
		if x.Outcome == Unknown {
			continue
		}
		_, err := s.desk.Store.ChangePayout(ctx, x.Payout, func(h History) (Step, error) {
			if h.Attempt == nil || h.Attempt.State != Unknown {
				return Step{}, nil
			}
			return Step{Receipt: &x}, nil
		})
		if err != nil {
			return err
		}
		if x.Outcome != Accepted {
			c := Confirmation{Payout: x.Payout, Outcome: x.Outcome, Amount: i.Amount, BankOn: x.On, BankRef: x.Ref,
				Reason: x.Reason, By: s.order.By, At: s.order.At, Source: "rail " + s.traits.Name}
			if c.BankOn.IsZero() {
				c.BankOn = b.PayOn
			}
			if _, err := s.desk.confirm(ctx, c); err != nil {
				return err
			}
		}
		if err := afterReceipt.Hit(); err != nil {
			return err
		}
	}
	return nil
}

// report reads back what is known now.
func (s *submit) report(ctx context.Context, run string) (Submission, error) {
	r, err := s.desk.Store.PayoutRun(ctx, run)
	if err != nil {
		return Submission{}, err
	}
	out := Submission{Run: r, Batches: s.batches}
	all, err := s.desk.Store.Payouts(ctx, PayoutFilter{Run: run})
	if err != nil {
		return out, err
	}
	current := map[string]History{}
	for _, h := range all {
		current[h.ID] = h
	}
	for _, p := range r.Payouts {
		h := current[p.ID]
		switch {
		case h.State == Settled || h.State == Returned:
			out.Paid = append(out.Paid, p.ID)
		case h.State == Failed:
			out.Failed = append(out.Failed, p.ID)
		case h.State == Cancelled:
			out.Cancelled = append(out.Cancelled, p.ID)
		case h.Attempt != nil && h.Attempt.State != Unknown:
			out.Accepted = append(out.Accepted, p.ID)
		default:
			out.Unknown = append(out.Unknown, p.ID)
		}
	}
	return out, nil
}
