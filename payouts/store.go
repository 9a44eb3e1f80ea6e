package payouts

import (
	"context"
	"iter"

	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// Store keeps runs, payouts and holds. The decisions given to it are pure and may be
// called more than once; each runs against rows that are locked until commit, so that
// two processes never decide on the same state. A method that writes is one
// transaction: rows and ledger entry together, or neither. An entry given without
// BookedOn is booked on its value date or the first day of the first open month; the
// day is kept with the row. Implementations pass payoutstest.TestStore.
type Store interface {
	// SavePayoutRun keeps a run as its next revision and cancels the payouts of the one
	// before. It fails with ErrState once anything of the run was attempted, and with
	// ErrConflict if a payee has an open payout in another run.
	SavePayoutRun(ctx context.Context, r Run) (Run, error)

	// ChangePayoutRun keeps the state, approvals and sending-back that decide returns.
	// Payouts of a run sent back are cancelled.
	ChangePayoutRun(ctx context.Context, id string, decide func(Run) (Run, error)) (Run, error)

	// ChangePayout keeps the step that decide returns and books its entry; the zero
	// Step changes nothing. It answers the payout as it is then.
	ChangePayout(ctx context.Context, id string, decide func(History) (Step, error)) (History, error)

	// ChangeHold keeps the hold that decide returns and books its entry, if any. The
	// hold given is nil if the ID is new.
	ChangeHold(ctx context.Context, id string, decide func(*Hold) (Hold, *ledger.Entry, error)) (Hold, error)

	// PayoutRun answers the last revision of a run, or ErrNotFound.
	PayoutRun(ctx context.Context, id string) (Run, error)

	// PayoutRuns answers last revisions, newest pay date first.
	PayoutRuns(ctx context.Context, f RunFilter) ([]Run, error)

	// Payouts answers payouts with their history, newest pay date first.
	Payouts(ctx context.Context, f PayoutFilter) ([]History, error)

	// Holds answers holds in the order in which they were placed.
	Holds(ctx context.Context, f HoldFilter) ([]Hold, error)

	// Kept yields everything that is kept, as it was at one moment: run by run in
	// order of their IDs, each row that names the run or one of its payouts; at last,
	// under the empty name, holds, the head of the facts, and rows whose payout is
	// missing. Every writing method keeps a fact of each row that it writes, in the
	// same transaction.
	Kept(ctx context.Context) iter.Seq2[Kept, error]
}

// History is a payout with all that happened to it.
type History struct {
	Payout
	RunState      RunState       `json:"run_state"`
	Attempt       *Attempt       `json:"attempt,omitempty"`
	Confirmations []Confirmation `json:"confirmations,omitempty"`
}

// Step is one thing that happens to a payout, with what it changes. At most one of
// Attempt, Receipt and Confirmation is set.
type Step struct {
	To           State // empty: as it is
	Reason       string
	Attempt      *Attempt
	Receipt      *Receipt
	Confirmation *Confirmation
	Entry        *ledger.Entry
}

// None reports whether the step changes nothing.
func (s Step) None() bool { return s == Step{} }

// RunFilter narrows runs. Zero fields do not narrow.
type RunFilter struct {
	Prefix string // of the ID: 2026-11-20
	Limit  int
}

// PayoutFilter narrows payouts. Zero fields do not narrow.
type PayoutFilter struct {
	ID       string
	Run      string
	Partner  partner.ID
	Currency money.Currency
	PayOn    period.Date
	Open     bool // planned or in transit
}

// HoldFilter narrows holds. Zero fields do not narrow.
type HoldFilter struct {
	ID       string
	Partner  partner.ID
	Currency money.Currency
	InForce  bool
}
