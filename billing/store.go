package billing

import (
	"context"
	"errors"
	"time"

	"mete/catalogue"
	"mete/ledger"
	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Errors that callers branch on.
var (
	ErrConflict = errors.New("kept before with other content")
	ErrNotFound = errors.New("not found")
	ErrState    = errors.New("not allowed in this state")
)

// The states of a statement.
const (
	InReview = "in review"
	Issued   = "issued"
)

// Manifest pins everything a month's close depends on. It is written once, before
// anything is priced; verify works from it alone.
type Manifest struct {
	Entity    string          `json:"entity"`
	Month     period.Month    `json:"month"`
	Cutoff    metering.Cutoff `json:"cutoff"`
	Catalogue []catalogue.Ref `json:"catalogue"`
	Bounds    []period.Period `json:"bounds"` // the month in each zone that a contract uses
	Engine    string          `json:"engine"`
	Accepted  []AcceptedGap   `json:"accepted,omitempty"` // silent sources accepted by name and reason
	ClosedBy  string          `json:"closed_by"`
	ClosedAt  time.Time       `json:"closed_at"`
	Adjust    []string        `json:"adjustments,omitempty"` // approved adjustments that this close carries

	Appeals     []string `json:"appeals,omitempty"`      // accepted appeals that this close carries: of its month, or of closed ones
	OpenAppeals []string `json:"open_appeals,omitempty"` // of its month: their measures freeze as measured
}

// AcceptedGap is a source that was silent before month end and was accepted so.
type AcceptedGap struct {
	Source string `json:"source"`
	Reason string `json:"reason"`
}

// MonthStatus is how far a month is.
type MonthStatus struct {
	Month      period.Month      `json:"month"`
	State      ledger.MonthState `json:"state"`
	Statements int               `json:"statements"`
	Issued     int               `json:"issued"`
	Manifest   *Manifest         `json:"manifest,omitempty"`
}

// Priced is a scope group's month as priced by one close. The close of the month
// itself is the first; a close that found late events writes another.
type Priced struct {
	Close  period.Month   `json:"close"`
	Month  period.Month   `json:"month"`
	Group  string         `json:"group"`
	Input  string         `json:"input"` // digest
	Result pricing.Result `json:"result"`
	Barred []pricing.Line `json:"barred,omitempty"` // differences that a late limit kept off statements
}

// StatementRecord is a kept statement with its state.
type StatementRecord struct {
	Statement
	State           string      `json:"state"`
	Digest          string      `json:"digest"`
	IssuedBy        string      `json:"issued_by,omitempty"`
	IssuedOn        period.Date `json:"issued_on,omitempty"`
	IssuedAt        time.Time   `json:"issued_at,omitzero"`
	BookedOn        period.Date `json:"booked_on,omitempty"` // of the issue entry
	Unauthenticated bool        `json:"unauthenticated,omitempty"`
}

// Adjustment is an amount two people agreed on, carried by the next close.
type Adjustment struct {
	ID         string       `json:"id"`
	Partner    partner.ID   `json:"partner"`
	Amount     money.Amount `json:"amount"`  // + the partner gets
	Account    string       `json:"account"` // kind of income it corrects: share, usage, goodwill …
	Corrects   period.Month `json:"corrects,omitzero"`
	Statement  StatementID  `json:"statement,omitempty"`
	Line       int          `json:"line,omitempty"`
	Reason     string       `json:"reason"`
	Evidence   string       `json:"evidence,omitempty"`
	ProposedBy string       `json:"proposed_by"`
	ProposedAt time.Time    `json:"proposed_at"`
	ApprovedBy string       `json:"approved_by,omitempty"`
	ApprovedAt time.Time    `json:"approved_at,omitzero"`
	CarriedBy  period.Month `json:"carried_by,omitzero"` // the close whose manifest took it
}

// Receipt is a settlement of a processor: what it paid out to our bank.
type Receipt struct {
	Processor  string       `json:"processor"`
	Settlement string       `json:"settlement"` // the processor's id
	SettledOn  period.Date  `json:"settled_on"`
	Gross      money.Amount `json:"gross"` // leaves clearing
	Fee        money.Amount `json:"fee"`   // processing expense
	Net        money.Amount `json:"net"`   // reaches the bank; gross = fee + net
	Rail       string       `json:"rail"`  // whose bank account
	BookedOn   period.Date  `json:"booked_on"`
}

// SaleRef names a sale by what a refund says of it.
type SaleRef struct {
	Source string
	ID     string
}

// Store keeps what closes make. Implementations pass billingtest.TestStore. Every
// method is one transaction.
type Store interface {
	// BeginClose marks the month closing and keeps its manifest, or returns the one
	// kept before: a close that was interrupted goes on under the same manifest. It
	// fails with ErrState when an earlier month that was ever opened is not closed.
	BeginClose(ctx context.Context, m Manifest) (Manifest, error)

	// Month returns a month's state; a month nobody touched is open.
	Month(ctx context.Context, m period.Month) (MonthStatus, error)

	// Months returns every month that is not simply open, in order.
	Months(ctx context.Context) ([]MonthStatus, error)

	// BookedOn is the day on which a fact of the given day is booked: its own, or the
	// first day of the first open month.
	BookedOn(ctx context.Context, valueOn period.Date) (period.Date, error)

	// FinishClose marks the month closed. Again is nothing.
	FinishClose(ctx context.Context, m period.Month) error

	// FreezeScorecards keeps a month's scorecards; the same again is nothing, others
	// fail with ErrConflict.
	FreezeScorecards(ctx context.Context, m period.Month, cards []pricing.Scorecard) error

	// Scorecards returns the frozen scorecards of a month.
	Scorecards(ctx context.Context, m period.Month) ([]pricing.Scorecard, error)

	// FreezePlacements keeps which apps may be placed because of a month; the same again
	// is nothing, others fail with ErrConflict.
	FreezePlacements(ctx context.Context, m period.Month, apps []Placement) error

	// Placements returns what was kept for a month, in order of app.
	Placements(ctx context.Context, m period.Month) ([]Placement, error)

	// OpenAppeal keeps an appeal; the same again is nothing, another under the same ID
	// fails with ErrConflict.
	OpenAppeal(ctx context.Context, a Appeal) error

	// DecideAppeal keeps the one decision of an appeal, or fails with ErrNotFound. The
	// same again is nothing; another fails with ErrConflict.
	DecideAppeal(ctx context.Context, id string, d AppealDecision) error

	// Appeals returns all appeals with their decisions, oldest first.
	Appeals(ctx context.Context) ([]Appeal, error)

	// SavePriced keeps a priced group; the same again is nothing, another result
	// for the same (close, month, group) fails with ErrConflict.
	SavePriced(ctx context.Context, p Priced) error

	// PricedMonth returns the newest pricing of each group of a month made by a
	// close before the given one, in order of group.
	PricedMonth(ctx context.Context, m, before period.Month) ([]Priced, error)

	// PricedBy returns every group pricing that the close of a month made, its own
	// month and the ones priced again, in order of month and group.
	PricedBy(ctx context.Context, close period.Month) ([]Priced, error)

	// Attributions returns what the newest pricing before the given close attributed
	// to the named sales. What a later pricing of the month no longer attributes is
	// not in it.
	Attributions(ctx context.Context, sales []SaleRef, before period.Month) ([]pricing.Attribution, error)

	// AttributionsBy returns everything that the pricings of one close attributed.
	AttributionsBy(ctx context.Context, close period.Month) ([]pricing.Attribution, error)

	// CommitStatement keeps the statement with its reserve layers and deferred fees and posts its
	// entries, all or nothing. The same again is nothing; other content fails with
	// ErrConflict.
	CommitStatement(ctx context.Context, s Statement, entries []ledger.Entry) error

	// Statement returns one statement or ErrNotFound.
	Statement(ctx context.Context, id StatementID) (StatementRecord, error)

	// Statements returns statements in order of month and partner; zero fields do
	// not narrow.
	Statements(ctx context.Context, m period.Month, p partner.ID) ([]StatementRecord, error)

	// Issue marks a statement issued and posts its entry, together. The same again is
	// nothing; issued by another person it fails with ErrConflict.
	Issue(ctx context.Context, r StatementRecord, entry *ledger.Entry) error

	// OpenLayers returns reserve that no statement before the month has released.
	OpenLayers(ctx context.Context, before period.Month) ([]Layer, error)

	// Deferred returns what the lines of statements before the month charged, or gave
	// back, of fees that are earned over months, in order of statement and line.
	Deferred(ctx context.Context, before period.Month) ([]Deferred, error)

	// ProposeAdjustment keeps a proposal; ApproveAdjustment marks it approved, once,
	// or fails with ErrNotFound. The same again is nothing.
	ProposeAdjustment(ctx context.Context, a Adjustment) error
	ApproveAdjustment(ctx context.Context, id, by string, at time.Time) (Adjustment, error)

	// Adjustments returns all adjustments, oldest first.
	Adjustments(ctx context.Context) ([]Adjustment, error)

	// CommitReceipt keeps a receipt and posts its entry. It reports false when the
	// same receipt was kept before, and fails with ErrConflict for another under the
	// same settlement.
	CommitReceipt(ctx context.Context, r Receipt, entry ledger.Entry) (bool, error)

	// Receipts returns receipts in order of date.
	Receipts(ctx context.Context) ([]Receipt, error)

	// CommitReceived keeps what a partner paid us and posts its entry. It reports false
	// when the same was kept before, and fails with ErrConflict for another under the same
	// reference of the partner, and with [ledger.ErrGuard] for more than the partner owes.
	CommitReceived(ctx context.Context, r Received, entry ledger.Entry) (bool, error)

	// Received returns what partners paid us, in order of date.
	Received(ctx context.Context) ([]Received, error)

	// Checkpoint returns the newest checkpoint of the stream, the zero value if there is
	// none. It fails with ErrConflict if what is kept of it was altered.
	Checkpoint(ctx context.Context, stream string) (Checkpoint, error)

	// MoveCheckpoint keeps a checkpoint that lies after the newest of its stream, and
	// reports false for one that does not. One at the same place with other totals fails
	// with ErrConflict.
	MoveCheckpoint(ctx context.Context, c Checkpoint) (moved bool, err error)
}
