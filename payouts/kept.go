package payouts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
)

// Kept is what a store keeps of one run, row by row as it stands: nothing joined,
// nothing left out, texts whatever they are. [Desk.Check] judges it.
type Kept struct {
	Run           string // empty: rows that belong to no run
	Runs          []RunRow
	Plans         []PlanRow
	Approvals     []ApprovalRow
	Returns       []ReturnRow
	Payouts       []PayoutRow
	Attempts      []AttemptRow
	Receipts      []ReceiptRow
	Confirmations []ConfirmationRow
	Holds         []HoldRow // of no run
	Facts         []FactRow // in order
	Heads         []Head    // of no run
}

// Row is something kept that has a fact: the digest that is kept beside it.
type Row interface{ Fact() Fact }

// The rows. Days are written 2026-11-20, instants in UTC to the microsecond.
type (
	// RunRow is how far a run is. It changes; the fact kept last counts.
	RunRow struct {
		ID       string
		Revision int
		PayOn    string
		State    string
	}
	// PlanRow is one revision of a run as it was planned.
	PlanRow struct {
		Run                          string
		Revision                     int
		Content, Document, PlannedAt string
	}
	// ApprovalRow is one person's approval of a plan.
	ApprovalRow struct {
		Run                       string
		Revision                  int
		Approver, By, Content, At string
		Unauthenticated           int
	}
	// ReturnRow sends a plan back.
	ReturnRow struct {
		Run            string
		Revision       int
		By, At, Reason string
	}
	// PayoutRow is a payout as it was planned, and how far it is.
	PayoutRow struct {
		ID, Run                            string
		Revision                           int
		Partner, Currency                  string
		Minor                              int64
		Account, PayOn, Replaces, Document string
		State, Reason                      string
	}
	// StateRow is how far a payout is: the part of its row that changes.
	StateRow struct{ ID, State, Reason string }
	// AttemptRow is an attempt.
	AttemptRow struct {
		Payout                        string
		Number                        int
		Key, ParamsHash, At, BookedOn string
	}
	// ReceiptRow is what the rail answered first.
	ReceiptRow struct {
		Payout                   string
		Number                   int
		Outcome, Ref, On, Reason string
	}
	// ConfirmationRow is what a bank said.
	ConfirmationRow struct {
		Payout, Outcome                                   string
		Minor                                             int64
		BankOn, BankRef, Reason, By, At, Source, BookedOn string
	}
	// HoldRow is the placing of a hold or its release.
	HoldRow struct {
		Hold, Step, Partner, Currency       string
		Minor                               int64
		All                                 int
		Reason, Until, By, At, On, BookedOn string
	}
)

// Fact is a row told once more by its digest, so that none is deleted, doubled or
// altered unseen, not even where nothing else repeats it.
type Fact struct {
	Kind   FactKind
	Key    string // which row, in words for people: P-2026-11-20-007.1
	Digest string // SHA-256 over every column, hex
}

// FactRow is a fact as kept. Sequences begin at one and leave nothing out.
type FactRow struct {
	Seq int64
	Run string
	Fact
	Chain string // [FactRow.Link] to the fact before it of its run
}

// Link is the chain that the fact has behind one with the given chain; the first of a
// run has none before it.
func (r FactRow) Link(before string) string {
	return digestOf("payout fact chain/1", before, strconv.FormatInt(r.Seq, 10), r.Run, string(r.Kind), r.Key, r.Digest)
}

// Head says how many facts there are. There is one, its ID is 1.
type Head struct {
	ID  int
	Seq int64
}

// FactKind is what kind of row a fact is about.
type FactKind string

// The kinds of facts.
const (
	FactRun          FactKind = "run"
	FactPlan         FactKind = "plan"
	FactApproval     FactKind = "approval"
	FactReturn       FactKind = "return"
	FactPayout       FactKind = "payout"
	FactState        FactKind = "state"
	FactAttempt      FactKind = "attempt"
	FactReceipt      FactKind = "receipt"
	FactConfirmation FactKind = "confirmation"
	FactHold         FactKind = "hold"
)

// changes reports whether the row may change, so that several facts are about it.
func (k FactKind) changes() bool { return k == FactRun || k == FactState }

// Fact implements [Row].
func (r RunRow) Fact() Fact {
	return factOf(FactRun, r.ID, r.ID, strconv.Itoa(r.Revision), r.PayOn, r.State)
}

// Fact implements [Row].
func (r PlanRow) Fact() Fact {
	return factOf(FactPlan, planKey(r.Run, r.Revision), r.Run, strconv.Itoa(r.Revision), r.Content, r.Document, r.PlannedAt)
}

// Fact implements [Row].
func (r ApprovalRow) Fact() Fact {
	return factOf(FactApproval, planKey(r.Run, r.Revision)+" by "+r.Approver,
		r.Run, strconv.Itoa(r.Revision), r.Approver, r.By, r.Content, r.At, strconv.Itoa(r.Unauthenticated))
}

// Fact implements [Row].
func (r ReturnRow) Fact() Fact {
	return factOf(FactReturn, planKey(r.Run, r.Revision), r.Run, strconv.Itoa(r.Revision), r.By, r.At, r.Reason)
}

// Fact implements [Row]. How far the payout is has facts of its own.
func (r PayoutRow) Fact() Fact {
	return factOf(FactPayout, r.ID, r.ID, r.Run, strconv.Itoa(r.Revision), r.Partner, r.Currency, strconv.FormatInt(r.Minor, 10),
		r.Account, r.PayOn, r.Replaces, r.Document)
}

// Fact implements [Row].
func (r StateRow) Fact() Fact { return factOf(FactState, r.ID, r.ID, r.State, r.Reason) }

// Fact implements [Row].
func (r AttemptRow) Fact() Fact {
	return factOf(FactAttempt, attemptKey(r.Payout, r.Number), r.Payout, strconv.Itoa(r.Number), r.Key, r.ParamsHash, r.At, r.BookedOn)
}

// Fact implements [Row].
func (r ReceiptRow) Fact() Fact {
	return factOf(FactReceipt, attemptKey(r.Payout, r.Number), r.Payout, strconv.Itoa(r.Number), r.Outcome, r.Ref, r.On, r.Reason)
}

// Fact implements [Row].
func (r ConfirmationRow) Fact() Fact {
	return factOf(FactConfirmation, r.Payout+" "+r.Outcome, r.Payout, r.Outcome, strconv.FormatInt(r.Minor, 10),
		r.BankOn, r.BankRef, r.Reason, r.By, r.At, r.Source, r.BookedOn)
}

// Fact implements [Row].
func (r HoldRow) Fact() Fact {
	return factOf(FactHold, r.Hold+" "+r.Step, r.Hold, r.Step, r.Partner, r.Currency, strconv.FormatInt(r.Minor, 10), strconv.Itoa(r.All),
		r.Reason, r.Until, r.By, r.At, r.On, r.BookedOn)
}

// state is the part of the row that changes.
func (r PayoutRow) state() StateRow { return StateRow{r.ID, r.State, r.Reason} }

// asPlanned reports whether nothing happened to the payout since it was planned. Such
// a state has no fact: the plan is one.
func (r StateRow) asPlanned() bool { return r == StateRow{r.ID, string(Planned), ""} }

// Rows are all rows that have a fact.
func (k Kept) Rows() []Row {
	var all []Row
	for _, r := range k.Runs {
		all = append(all, r)
	}
	for _, r := range k.Plans {
		all = append(all, r)
	}
	for _, r := range k.Approvals {
		all = append(all, r)
	}
	for _, r := range k.Returns {
		all = append(all, r)
	}
	for _, r := range k.Payouts {
		all = append(all, r)
		if s := r.state(); !s.asPlanned() {
			all = append(all, s)
		}
	}
	for _, r := range k.Attempts {
		all = append(all, r)
	}
	for _, r := range k.Receipts {
		all = append(all, r)
	}
	for _, r := range k.Confirmations {
		all = append(all, r)
	}
	for _, r := range k.Holds {
		all = append(all, r)
	}
	return all
}

func planKey(run string, revision int) string     { return fmt.Sprintf("%s plan %d", run, revision) }
func attemptKey(payout string, number int) string { return fmt.Sprintf("%s.%d", payout, number) }

// factOf digests the columns of a row.
func factOf(kind FactKind, key string, columns ...string) Fact {
	return Fact{kind, key, digestOf(append([]string{"payout fact/1", string(kind)}, columns...)...)}
}

func digestOf(texts ...string) string {
	h := sha256.New()
	field(h, texts...)
	return hex.EncodeToString(h.Sum(nil))
}
