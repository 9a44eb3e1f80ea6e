// Package payouts pays partners what the ledger says is due to them: it plans a run,
// takes approvals, hands instructions to a rail, and books what the bank confirms.
//
// It refuses to know prices, statements' contents and banks. It knows statements by
// their IDs, and a bank by a [Rail]. Its one promise: no two instructions are ever
// issued for one payout, even through a crash between any two steps. Read [Plan],
// then [Desk.Submit]; [Desk.Check] says what all of it must come to.
package payouts

import (
	"errors"
	"time"

	"mete/money"
	"mete/partner"
	"mete/period"
)

// RunState is how far a run has come.
type RunState string

// The states of a run. A run sent back is planned again as its next revision.
const (
	RunPlanned     RunState = "planned"
	RunSentBack    RunState = "sent-back"
	RunApproved    RunState = "approved"
	RunSubmitted   RunState = "submitted"
	RunPartSettled RunState = "part-settled"
	RunSettled     RunState = "settled"
)

// HandedOver reports whether the run was submitted: its attempts are all there ever are.
func (s RunState) HandedOver() bool {
	return s == RunSubmitted || s == RunPartSettled || s == RunSettled
}

// State is how far one payout has come.
type State string

// The states of a payout. Failed, returned and cancelled are final: the money is due
// again, and a later payout that pays it names the old one.
const (
	Planned   State = "planned"
	InTransit State = "in transit"
	Settled   State = "settled"
	Failed    State = "failed"
	Returned  State = "returned"
	Cancelled State = "cancelled"
)

// Open reports whether the payout may still move money: no second payout to the same
// partner in the same currency may stand beside it.
func (s State) Open() bool { return s == Planned || s == InTransit }

// Statement is an issued statement that a payout pays.
type Statement struct {
	ID       string       `json:"id"` // meridian-us.northwind.usd.2026-10
	Month    period.Month `json:"month"`
	IssuedOn period.Date  `json:"issued_on"`

	DueOn period.Date   `json:"due_on,omitzero"` // net terms: not paid before; zero: by the next run
	Adds  *money.Amount `json:"adds,omitempty"`  // to payable:due; needed with DueOn
}

// Payout is one sum to one payee in one currency, up to a named statement.
type Payout struct {
	ID         string       `json:"id"` // P-2026-11-20-007, never used again
	Run        string       `json:"run"`
	Partner    partner.ID   `json:"partner"`
	Name       string       `json:"name"`
	Amount     money.Amount `json:"amount"`
	Held       money.Amount `json:"held"`               // stays behind on payable:held
	Withheld   *Withholding `json:"withheld,omitempty"` // tax, for the authority; Amount is without it
	UpTo       string       `json:"up_to"`
	Statements []Statement  `json:"statements"`
	Rail       string       `json:"rail"`
	Account    string       `json:"account"` // the rail's name of the account
	Last4      string       `json:"last4"`
	PayOn      period.Date  `json:"pay_on"`
	Replaces   string       `json:"replaces,omitempty"` // the failed or returned payout this one pays again
	State      State        `json:"state"`
	Reason     string       `json:"reason,omitempty"` // why it failed, came back or was cancelled
}

// Proposal is what approvers approve: the whole run as planned. Its bytes are kept
// and hashed, so it has no field that changes later.
type Proposal struct {
	ID         string         `json:"id"` // 2026-11-20.usd.manual.meridian-us
	Entity     string         `json:"entity"`
	EntityName string         `json:"entity_name"`
	PayOn      period.Date    `json:"pay_on"`
	Currency   money.Currency `json:"currency"`
	Rail       string         `json:"rail"`
	RailLabel  string         `json:"rail_label"` // ACH
	From       string         `json:"from"`       // Meridian operating ****0031
	Zone       string         `json:"zone"`       // in which times are printed
	PlannedBy  string         `json:"planned_by"`
	Rules      Rules          `json:"rules"`
	Payouts    []Payout       `json:"payouts"`
	NotNow     []Waiting      `json:"not_now"`
	Held       []HeldBack     `json:"held"`
	Look       []Look         `json:"look"`
	Checks     []Check        `json:"checks"`
	Totals     Totals         `json:"totals"`
	Funds      *money.Amount  `json:"funds,omitempty"` // at the bank, where known
	Last       *PastRun       `json:"last,omitempty"`
}

// Run is a proposal and what became of it.
type Run struct {
	Proposal
	Revision  int        `json:"revision"` // 1, 2, …: each plan of the same run
	Content   string     `json:"content"`  // SHA-256 of the proposal's bytes, hex
	PlannedAt time.Time  `json:"planned_at"`
	State     RunState   `json:"state"`
	Approvals []Approval `json:"approvals,omitempty"` // of this content
	SentBack  *SentBack  `json:"sent_back,omitempty"`
}

// Totals add up: ToPay + Withheld + NotNow + Held = Ledger, or there is no plan. What a
// contract keeps on a payee's account, and what is not due yet, are part of NotNow.
type Totals struct {
	ToPay         money.Amount  `json:"to_pay"`
	Withheld      *money.Amount `json:"withheld,omitempty"` // tax on what is paid
	NotNow        money.Amount  `json:"not_now"`
	Held          money.Amount  `json:"held"`
	Ledger        money.Amount  `json:"ledger"` // payable:due + payable:held of everybody
	Difference    money.Amount  `json:"difference"`
	ToPayPayees   int           `json:"to_pay_payees"`
	NotNowPayees  int           `json:"not_now_payees"`
	HeldPayees    int           `json:"held_payees"`
	LedgerPayees  int           `json:"ledger_payees"`
	HeldEntirely  int           `json:"held_entirely"` // of HeldPayees, those who get nothing now
	NewestMonth   period.Month  `json:"newest_month"`
	NewestIssueOn period.Date   `json:"newest_issue_on"`
}

// Waiting is money of a payee that is not paid now, and why. A payee has more than one
// where parts of the balance wait for different reasons.
type Waiting struct {
	Partner partner.ID   `json:"partner"`
	Name    string       `json:"name"`
	Amount  money.Amount `json:"amount"` // negative: owes us
	Reasons []Reason     `json:"reasons"`
}

// Reason says why a payee is not paid now, until when, and who can change it.
type Reason struct {
	Code  string `json:"code"`
	Text  string `json:"text"`
	Until string `json:"until"`
	Who   string `json:"who"`
	Why   string `json:"why"` // the rule behind it, in a sentence
}

// HeldBack is money of a payee on payable:held.
type HeldBack struct {
	Partner partner.ID   `json:"partner"`
	Amount  money.Amount `json:"amount"`
	Reason  string       `json:"reason"`
	All     bool         `json:"all"` // nothing is paid to this payee now
}

// Look is what an approver should look at first.
type Look struct {
	Partner partner.ID    `json:"partner"`
	Amount  *money.Amount `json:"amount,omitempty"` // none: nothing now
	Code    string        `json:"code"`
	Text    string        `json:"text"`
}

// Check is a question asked of every payout of the run.
type Check struct {
	Name   string `json:"name"`
	Passed int    `json:"passed"`
	Of     int    `json:"of"`
}

// PastRun is the run before, for comparison.
type PastRun struct {
	PayOn  period.Date  `json:"pay_on"`
	Payees int          `json:"payees"`
	Total  money.Amount `json:"total"`
}

// Attempt is one handing-over of a payout to a rail. It is kept, with the booking of
// due → in transit, before the rail hears of it. A payout has one attempt: after a
// proven failure a new payout is planned, never a second attempt.
type Attempt struct {
	Payout     string      `json:"payout"`
	Number     int         `json:"number"`
	Key        string      `json:"key"` // the rail's idempotency key
	ParamsHash string      `json:"params_hash"`
	At         time.Time   `json:"at"`
	BookedOn   period.Date `json:"booked_on"`
	State      Outcome     `json:"state"` // what the rail answered last; Unknown until it did
	RailRef    string      `json:"rail_ref,omitempty"`
}

// Confirmation is what a bank says became of a payout.
type Confirmation struct {
	Payout  string       `json:"payout"`
	Outcome Outcome      `json:"outcome"` // Paid, Refused (failed) or CameBack (returned)
	Amount  money.Amount `json:"amount"`
	BankOn  period.Date  `json:"bank_on"`
	BankRef string       `json:"bank_ref"`
	Reason  string       `json:"reason,omitempty"`
	By      string       `json:"by"`     // who imported it
	At      time.Time    `json:"at"`     // when; not part of the fact
	Source  string       `json:"source"` // file and line, or the rail; not part of the fact
}

// Hold keeps a partner's money back. Placing and releasing are two facts, each with
// who and why; the second never overwrites the first.
type Hold struct {
	ID          string         `json:"id"` // given by who places it; the same ID again changes nothing
	Partner     partner.ID     `json:"partner"`
	Currency    money.Currency `json:"currency"`
	Amount      money.Amount   `json:"amount"` // moved due → held
	All         bool           `json:"all"`    // what comes due later is not paid either
	Reason      string         `json:"reason"`
	Until       period.Date    `json:"until,omitzero"` // reviewed then; a date releases nothing by itself
	By          string         `json:"by"`
	At          time.Time      `json:"at"`
	On          period.Date    `json:"on"`
	Released    bool           `json:"released"`
	ReleasedBy  string         `json:"released_by,omitempty"`
	ReleaseWhy  string         `json:"release_why,omitempty"`
	ReleasedAt  time.Time      `json:"released_at,omitzero"`
	ReleasedOn  period.Date    `json:"released_on,omitzero"`
	HeldBooked  period.Date    `json:"held_booked,omitzero"`
	FreedBooked period.Date    `json:"freed_booked,omitzero"`
}

// The two steps of a hold.
const (
	HoldPlaced   = "place"
	HoldReleased = "release"
)

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("no such payout, run or hold")
	ErrConflict = errors.New("kept already with other content")
	ErrState    = errors.New("not possible in this state")
	ErrContent  = errors.New("the run has changed")
	ErrApproval = errors.New("approval refused")
	ErrShort    = errors.New("payable:due does not hold enough")
	ErrUnknown  = errors.New("outcome unknown")
	ErrBooks    = errors.New("the plan does not equal the ledger")
)

// Progress is the state of a submitted run whose payouts are in the given states.
func Progress(states []State) RunState {
	open, done := 0, 0
	for _, s := range states {
		switch s {
		case InTransit, Planned:
			open++
		case Settled, Failed, Returned:
			done++
		}
	}
	switch {
	case open == 0:
		return RunSettled
	case done > 0:
		return RunPartSettled
	}
	return RunSubmitted
}
