package payouts

import (
	"fmt"
	"strings"
	"time"
)

// Approval is one person's word for one content of a run.
type Approval struct {
	Run             string    `json:"run"`
	Content         string    `json:"content"` // at least the first eight characters of the hash
	By              string    `json:"by"`
	At              time.Time `json:"at"`
	Unauthenticated bool      `json:"unauthenticated"` // named on a command line, proven by nothing
}

// Approver is who approved, written so that nobody counts twice.
func (a Approval) Approver() string { return identity(a.By) }

// SentBack returns a run to its planner with a reason. It voids the approvals.
type SentBack struct {
	Run    string    `json:"run"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// Cancels is why the payouts of the run are cancelled then.
func (b SentBack) Cancels() string { return "run sent back: " + b.Reason }

// PlannedAgain is why the payouts of a plan are cancelled when the run is planned
// again as the given revision.
func PlannedAgain(revision int) string { return fmt.Sprintf("planned again as plan %d", revision) }

// contentShort is how much of a content hash people read and type.
const contentShort = 8

// Short is the part of the content hash that people read and type.
func (r Run) Short() string { return r.Content[:min(contentShort, len(r.Content))] }

// Needs is the number of approvers the run needs by its amount.
func (r Run) Needs() int {
	if r.Totals.ToPay.Minor > r.Rules.TwoAbove.Minor {
		return 2
	}
	return 1
}

// Approve adds an approval and says so in the state once there are enough. The
// planner may not approve, nobody counts twice, and the content must be the run's.
// The same approval again changes nothing.
func (r Run) Approve(a Approval) (Run, error) {
	fail := func(kind error, format string, args ...any) (Run, error) {
		return r, fmt.Errorf("approve run %s: %s: %w", r.ID, fmt.Sprintf(format, args...), kind)
	}
	if len(a.Content) < contentShort || !strings.HasPrefix(r.Content, strings.ToLower(a.Content)) {
		return fail(ErrContent, "content is %s now, not %q; read the plan again and approve that", r.Short(), a.Content)
	}
	for _, b := range r.Approvals {
		if same(b.By, a.By) {
			return r, nil
		}
	}
	switch {
	case r.State != RunPlanned:
		return fail(ErrState, "it is %s", r.State)
	case strings.TrimSpace(a.By) == "":
		return fail(ErrApproval, "nobody is named")
	case same(a.By, r.PlannedBy):
		return fail(ErrApproval, "%s planned it; another person has to approve", r.PlannedBy)
	case len(r.Payouts) == 0:
		return fail(ErrApproval, "it pays nobody")
	}
	a.Run, a.Content = r.ID, r.Content
	r.Approvals = append(append([]Approval(nil), r.Approvals...), a)
	if len(r.Approvals) >= r.Needs() {
		r.State = RunApproved
	}
	return r, nil
}

// approved reports why the run must not be submitted.
func (r Run) approved() error {
	doc, err := r.Proposal.Bytes()
	if err != nil {
		return err
	}
	if got := ContentOf(doc); got != r.Content {
		return fmt.Errorf("submit run %s: what is kept has content %.8s, but %s was approved: the database was changed by hand; plan again: %w", r.ID, got, r.Short(), ErrContent)
	}
	people := map[string]bool{}
	for _, a := range r.Approvals {
		if a.Content == r.Content && !same(a.By, r.PlannedBy) {
			people[identity(a.By)] = true
		}
	}
	if len(people) < r.Needs() {
		return fmt.Errorf("submit run %s: %d of %d approvals; show the plan to an approver, with content %s: %w", r.ID, len(people), r.Needs(), r.Short(), ErrApproval)
	}
	return nil
}

// identity makes names comparable: nobody gets round a rule by a capital letter.
func identity(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

func same(a, b string) bool { return identity(a) == identity(b) }
