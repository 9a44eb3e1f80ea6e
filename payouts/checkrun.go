package payouts

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// runAudit compares the rows of one run.
type runAudit struct {
	*audit
	Kept
	name      string
	run       RunRow
	plans     map[int]paper
	approvals map[int][]ApprovalRow
	returns   map[int]ReturnRow
	attempts  map[string][]AttemptRow
	receipts  map[string][]ReceiptRow
	said      map[string][]ConfirmationRow
}

// paper is one revision of a run, read from the document that was approved.
type paper struct {
	PlanRow
	Proposal
	documents map[string]string // of its payouts, by ID
}

func (r *runAudit) planName(revision int) string {
	return fmt.Sprintf("%s, plan %d", r.name, revision)
}

// compareRun compares the rows of a run with each other and with the ledger.
func (a *audit) compareRun(k Kept) {
	if len(k.Runs)+len(k.Plans)+len(k.Approvals)+len(k.Returns)+len(k.Payouts) == 0 {
		return
	}
	r := &runAudit{audit: a, Kept: k, name: "run " + shown(k.Run), plans: map[int]paper{}, approvals: map[int][]ApprovalRow{}, returns: map[int]ReturnRow{},
		attempts: map[string][]AttemptRow{}, receipts: map[string][]ReceiptRow{}, said: map[string][]ConfirmationRow{}}
	for _, x := range k.Attempts {
		r.attempts[x.Payout] = append(r.attempts[x.Payout], x)
	}
	for _, x := range k.Receipts {
		r.receipts[x.Payout] = append(r.receipts[x.Payout], x)
	}
	for _, x := range k.Confirmations {
		r.said[x.Payout] = append(r.said[x.Payout], x)
	}
	r.readPlans()
	r.compareRow()
	r.compareApprovals()
	r.compareReturns()
	r.comparePayouts()
	r.compareState()
}

// readPlans reads the documents and compares them with their content hashes.
func (r *runAudit) readPlans() {
	for _, row := range r.Plans {
		where := r.planName(row.Revision)
		if _, twice := r.plans[row.Revision]; twice {
			r.found("plan", where, "one plan", "another with content %.8s", row.Content)
			continue
		}
		p := paper{PlanRow: row, documents: map[string]string{}}
		if is := ContentOf([]byte(row.Document)); is != row.Content {
			r.found("plan", where, fmt.Sprintf("content %.8s", row.Content), "a document with content %.8s", is)
		}
		var parts struct{ Payouts []json.RawMessage }
		if err := json.Unmarshal([]byte(row.Document), &p.Proposal); err != nil {
			r.found("plan", where, "a proposal", "%s", shown(err.Error()))
		} else if err := json.Unmarshal([]byte(row.Document), &parts); err == nil {
			for i, x := range p.Proposal.Payouts {
				p.documents[x.ID] = string(parts.Payouts[i])
			}
		}
		r.same("plan", where, "run", row.Run, p.Proposal.ID)
		toPay, err := money.New(0, p.Currency), error(nil)
		for _, x := range p.Proposal.Payouts {
			if err == nil {
				toPay, err = toPay.Add(x.Amount)
			}
		}
		if err != nil || toPay != p.Totals.ToPay {
			r.found("plan", where, fmt.Sprintf("payouts of %s in all", p.Totals.ToPay), "%s", toPay)
		}
		r.plans[row.Revision] = p
	}
}

// compareRow compares the run's own row with its plans.
func (r *runAudit) compareRow() {
	if len(r.Runs) != 1 {
		r.found("run", r.name, "one row", "%d", len(r.Runs))
	}
	if len(r.Runs) == 0 {
		return
	}
	r.run = r.Runs[0]
	revisions := slices.Sorted(maps.Keys(r.plans))
	if n := len(revisions); n != r.run.Revision || n > 0 && (revisions[0] != 1 || revisions[n-1] != n) {
		r.found("run", r.name, fmt.Sprintf("plans 1 to %d", r.run.Revision), "%v", revisions)
	}
	if p, ok := r.plans[r.run.Revision]; ok {
		r.same("run", r.name, "pay date", p.PayOn.String(), r.run.PayOn)
	}
}

// compareApprovals asks of each approval who gave it, of which content, and whether
// the plan needed it.
func (r *runAudit) compareApprovals() {
	for _, row := range r.Approvals {
		where := r.planName(row.Revision)
		p, ok := r.plans[row.Revision]
		if !ok {
			r.found("approval", where, "a plan", "none, but %s approved it", shown(row.By))
			continue
		}
		if row.Content != p.Content {
			r.found("approval", where, fmt.Sprintf("content %.8s, approved by %s", p.Content, shown(row.By)), "content %.8s", row.Content)
		}
		if id := identity(row.By); id != row.Approver || id == "" {
			r.found("approval", where, "approval of "+shown(row.Approver), "it names %s", shown(row.By))
		}
		if same(row.By, p.PlannedBy) {
			r.found("approval", where, fmt.Sprintf("another person than %s, who planned it", shown(p.PlannedBy)), "%s", shown(row.By))
		}
		if slices.ContainsFunc(r.approvals[row.Revision], func(x ApprovalRow) bool { return same(x.By, row.By) }) {
			r.found("approval", where, "one approval of "+shown(row.By), "another one")
		}
		r.approvals[row.Revision] = append(r.approvals[row.Revision], row)
	}
	for revision, p := range r.plans {
		if n, need := len(r.approvals[revision]), r.needs(p); n > need {
			r.found("approval", r.planName(revision), fmt.Sprintf("at most %d approvals", need), "%d", n)
		}
	}
}

func (r *runAudit) needs(p paper) int { return Run{Proposal: p.Proposal}.Needs() }

// approved reports whether enough people approved a plan.
func (r *runAudit) approved(revision int) bool {
	p, ok := r.plans[revision]
	return ok && len(r.approvals[revision]) >= r.needs(p)
}

func (r *runAudit) compareReturns() {
	for _, row := range r.Returns {
		where := r.planName(row.Revision)
		if _, ok := r.plans[row.Revision]; !ok {
			r.found("return", where, "a plan", "none, but %s sent it back", shown(row.By))
		}
		if _, twice := r.returns[row.Revision]; twice {
			r.found("return", where, "sent back once", "sent back twice")
		}
		r.returns[row.Revision] = row
	}
}

// comparePayouts compares the payouts of every plan with their rows, and what happened
// to each with the ledger.
func (r *runAudit) comparePayouts() {
	rows := map[string]PayoutRow{}
	for _, row := range r.Payouts {
		where := "payout " + shown(row.ID)
		if _, twice := rows[row.ID]; twice {
			r.found("payout", where, "one row", "another one")
			continue
		}
		rows[row.ID] = row
		p, ok := r.planned(row)
		if !ok {
			r.found("payout", where, fmt.Sprintf("it in %s", r.planName(row.Revision)), "a plan without it")
		}
		r.compareRowOf(p, row)
		r.compareHistory(p, row)
		r.remember(p, row)
	}
	for _, revision := range slices.Sorted(maps.Keys(r.plans)) {
		for _, p := range r.plans[revision].Proposal.Payouts {
			if row, ok := rows[p.ID]; !ok || row.Revision != revision {
				r.found("payout", "payout "+p.ID, fmt.Sprintf("%s to %s, as in %s", p.Amount, p.Partner, r.planName(revision)), "no such row")
			}
		}
	}
}

// planned is the payout as it was approved; without a plan, as its row says.
func (r *runAudit) planned(row PayoutRow) (Payout, bool) {
	for _, p := range r.plans[row.Revision].Proposal.Payouts {
		if p.ID == row.ID {
			return p, true
		}
	}
	var p Payout
	if err := json.Unmarshal([]byte(row.Document), &p); err != nil {
		r.found("payout", "payout "+shown(row.ID), "a document", "%s", shown(err.Error()))
	}
	p.ID, p.Partner, p.Amount = row.ID, partner.ID(row.Partner), money.New(row.Minor, money.Currency(row.Currency))
	return p, false
}

// compareRowOf compares a row's columns with the payout as planned.
func (r *runAudit) compareRowOf(p Payout, row PayoutRow) {
	where := "payout " + shown(row.ID)
	r.same("payout", where, "partner", string(p.Partner), row.Partner)
	r.same("payout", where, "amount", p.Amount.String(), money.New(row.Minor, money.Currency(row.Currency)).String())
	r.same("payout", where, "account", p.Account, row.Account)
	r.same("payout", where, "pay date", p.PayOn.String(), row.PayOn)
	r.same("payout", where, "to pay again", p.Replaces, row.Replaces)
	if doc, ok := r.plans[row.Revision].documents[row.ID]; ok && doc != row.Document {
		r.found("payout", where, fmt.Sprintf("the document of %s, digest %.12s", r.planName(row.Revision), ContentOf([]byte(doc))), "another, digest %.12s", ContentOf([]byte(row.Document)))
	}
}

// compareHistory compares what happened to a payout with its state and the ledger.
func (r *runAudit) compareHistory(p Payout, row PayoutRow) {
	where := "payout " + shown(row.ID)
	attempts, said := r.attempts[row.ID], r.said[row.ID]
	r.compareAttempts(p, row, attempts)
	r.compareReceipts(row, attempts, r.receipts[row.ID], said)
	r.compareSaid(p, row, said)
	if len(attempts) > 0 && !r.approved(row.Revision) {
		n := len(r.approvals[row.Revision])
		r.found("approval", where, fmt.Sprintf("%d approvals of %s before it was handed over", r.needs(r.plans[row.Revision]), r.planName(row.Revision)), "%d", n)
	}
	if len(attempts) == 0 && row.State != string(Planned) && row.State != string(Cancelled) {
		return // the missing attempt is named
	}
	may := r.states(p, row, len(attempts) > 0, said)
	if !slices.Contains(may, row.state()) {
		var texts []string
		for _, s := range may {
			texts = append(texts, s.text())
		}
		r.found("payout", where, strings.Join(texts, " or "), "%s", row.state().text())
	}
}

func (s StateRow) text() string {
	if s.Reason == "" {
		return shown(s.State)
	}
	return shown(s.State) + " (" + shown(s.Reason) + ")"
}

// states are those that a payout may be in, given what happened to it.
func (r *runAudit) states(p Payout, row PayoutRow, attempted bool, said []ConfirmationRow) []StateRow {
	is := func(s State, reason string) StateRow { return StateRow{row.ID, string(s), reason} }
	if !attempted {
		var may []StateRow
		back, returned := r.returns[row.Revision]
		switch {
		case returned:
			may = append(may, is(Cancelled, SentBack{Reason: back.Reason}.Cancels()))
		case row.Revision < r.run.Revision:
			may = append(may, is(Cancelled, PlannedAgain(row.Revision+1)))
		case !RunState(r.run.State).HandedOver():
			may = append(may, is(Planned, ""))
		}
		if r.approved(row.Revision) {
			may = append(may, is(Cancelled, gone(p)))
		}
		return may
	}
	to := map[Outcome]State{Paid: Settled, Refused: Failed, CameBack: Returned}
	last := is(InTransit, "")
	for _, c := range said {
		if s := to[Outcome(c.Outcome)]; last.State != string(Returned) { // it is returned after it was paid
			last = is(s, c.Reason)
		}
	}
	return []StateRow{last}
}

// compareAttempts derives the attempt of a payout anew.
func (r *runAudit) compareAttempts(p Payout, row PayoutRow, attempts []AttemptRow) {
	where := "payout " + shown(row.ID)
	switch n := len(attempts); {
	case n == 0 && row.State != string(Planned) && row.State != string(Cancelled):
		r.found("attempt", where, "one attempt, for it is "+shown(row.State), "none")
	case n > 1:
		r.found("attempt", where, "one attempt", "%d", n)
	}
	for _, x := range attempts {
		want := attemptOf(p, time.Time{})
		r.same("attempt", where, "number", strconv.Itoa(want.Number), strconv.Itoa(x.Number))
		r.same("attempt", where, "key", want.Key, x.Key)
		r.same("attempt", where, "hash of what the rail was told", want.ParamsHash, x.ParamsHash)
	}
	if len(attempts) > 0 {
		r.entry("attempt", where, submitEntry(p), attempts[0].BookedOn)
	}
}

// compareReceipts compares what the rail answered with what was asked and booked.
func (r *runAudit) compareReceipts(row PayoutRow, attempts []AttemptRow, receipts []ReceiptRow, said []ConfirmationRow) {
	where := "payout " + shown(row.ID)
	if len(receipts) > 1 {
		r.found("receipt", where, "one receipt", "%d", len(receipts))
	}
	for _, x := range receipts {
		if !slices.ContainsFunc(attempts, func(t AttemptRow) bool { return t.Number == x.Number }) {
			r.found("receipt", where, fmt.Sprintf("attempt %d, which the rail answered", x.Number), "none")
		}
		switch o := Outcome(x.Outcome); o {
		case Accepted:
		case Paid, Refused, CameBack:
			i := slices.IndexFunc(said, func(c ConfirmationRow) bool { return c.Outcome == x.Outcome })
			if i < 0 {
				r.found("receipt", where, fmt.Sprintf("%s booked, as the rail answered", o), "not booked; submit the run again")
				continue
			}
			r.same("receipt", where, "bank reference", said[i].BankRef, x.Ref)
			r.same("receipt", where, "bank date", said[i].BankOn, cmp.Or(x.On, row.PayOn))
			r.same("receipt", where, "reason", said[i].Reason, x.Reason)
		default:
			r.found("receipt", where, "accepted, paid, failed or returned", "%s", shown(x.Outcome))
		}
	}
}

// compareSaid compares what banks said with the payout and with what was booked for it.
func (r *runAudit) compareSaid(p Payout, row PayoutRow, said []ConfirmationRow) {
	where := "payout " + shown(row.ID)
	var outcomes []string
	for _, c := range said {
		outcomes = append(outcomes, c.Outcome)
	}
	slices.Sort(outcomes)
	switch strings.Join(outcomes, " ") {
	case "", string(Paid), string(Refused), string(CameBack), string(Paid) + " " + string(CameBack):
	default:
		r.found("confirmation", where, "paid, failed, returned, or paid and then returned", "%s", shown(strings.Join(outcomes, ", ")))
	}
	paid := slices.Contains(outcomes, string(Paid))
	for _, c := range said {
		if c.Minor != p.Amount.Minor {
			r.found("confirmation", where, fmt.Sprintf("%s of %s, as ordered", shown(c.Outcome), p.Amount), "%s", money.New(c.Minor, p.Amount.Currency))
		}
		on, err := period.ParseDate(c.BankOn)
		if err != nil {
			r.found("confirmation", where, "the day on which the bank moved the money", "%s", shown(c.BankOn))
		}
		before := p
		if before.State = InTransit; paid && c.Outcome == string(CameBack) {
			before.State = Settled
		}
		r.entry("confirmation", where, confirmEntry(before, Confirmation{Outcome: Outcome(c.Outcome), BankOn: on, BankRef: c.BankRef}), c.BookedOn)
		switch {
		case c.Outcome == string(Paid):
			r.paid.add(ledger.Cash(p.Rail), p.Amount.Currency, c.Minor, 1)
		case before.State == Settled:
			r.paid.add(ledger.Cash(p.Rail), p.Amount.Currency, c.Minor, -1)
		}
	}
}

// remember keeps what is compared across runs.
func (r *runAudit) remember(p Payout, row PayoutRow) {
	switch s := State(row.State); s {
	case Planned, InTransit:
		to := lane{row.Partner, row.Currency}
		if other, twice := r.open[to]; twice {
			r.found("payout", "payout "+shown(row.ID), fmt.Sprintf("one open payout to %s in %s", shown(row.Partner), shown(row.Currency)), "%s is open too", other)
		}
		r.open[to] = row.ID
		if s == InTransit {
			r.transit.add(ledger.InTransit(p.Rail), p.Amount.Currency, row.Minor, 1)
		}
	case Failed, Returned:
		row.Document = "" // it is all that is large
		r.final[row.ID] = row
	}
	if row.Replaces != "" {
		row.Document = ""
		r.replaces = append(r.replaces, row)
	}
}

// compareState compares how far the run is with its approvals and payouts.
func (r *runAudit) compareState() {
	if len(r.Runs) == 0 {
		return
	}
	attempted, waits := false, false
	var states []State
	for _, p := range r.Payouts {
		if p.Revision == r.run.Revision {
			states = append(states, State(p.State))
			attempted = attempted || len(r.attempts[p.ID]) > 0
			waits = waits || p.State == string(Planned)
		}
	}
	var may []RunState
	_, returned := r.returns[r.run.Revision]
	switch {
	case returned:
		may = []RunState{RunSentBack}
	case waits && (attempted || r.approved(r.run.Revision)):
		may = []RunState{RunApproved}
	case attempted || r.approved(r.run.Revision):
		may = []RunState{RunApproved, Progress(states)}
	default:
		may = []RunState{RunPlanned}
	}
	if state := RunState(r.run.State); !slices.Contains(may, state) {
		texts := make([]string, len(may))
		for i, s := range may {
			texts[i] = string(s)
		}
		r.found("run", r.name, strings.Join(slices.Compact(texts), " or ")+", by its approvals and payouts", "%s", shown(r.run.State))
	}
}

// compareHolds compares holds with their releases and with the ledger.
func (a *audit) compareHolds(rows []HoldRow) {
	placed, released := map[string]HoldRow{}, map[string]HoldRow{}
	for _, row := range rows {
		where := "hold " + shown(row.Hold)
		to := placed
		switch row.Step {
		case HoldPlaced:
		case HoldReleased:
			to = released
		default:
			a.found("hold", where, "placed or released", "%s", shown(row.Step))
			continue
		}
		if _, twice := to[row.Hold]; twice {
			a.found("hold", where, "one "+row.Step, "another one")
			continue
		}
		to[row.Hold] = row
	}
	for _, id := range slices.Sorted(maps.Keys(placed)) {
		a.compareHold(placed[id], released)
	}
	for _, id := range slices.Sorted(maps.Keys(released)) {
		if _, ok := placed[id]; !ok {
			a.found("hold", "hold "+shown(id), "it placed before it was released", "it was not")
		}
	}
}

func (a *audit) compareHold(row HoldRow, released map[string]HoldRow) {
	where := "hold " + shown(row.Hold)
	h := Hold{ID: row.Hold, Partner: partner.ID(row.Partner), Amount: money.New(row.Minor, money.Currency(row.Currency)), Reason: row.Reason}
	var err error
	if h.On, err = period.ParseDate(row.On); err != nil {
		a.found("hold", where, "the day on which it was placed", "%s", shown(row.On))
	}
	switch {
	case row.Minor > 0:
		a.entry("hold", where, holdEntry(h), row.BookedOn)
	case row.Minor < 0 || row.All != 1:
		a.found("hold", where, "an amount above zero, or all", "%s", h.Amount)
	case row.BookedOn != "":
		a.found("hold", where, "nothing booked, for nothing was due", "booked on %s", shown(row.BookedOn))
	}
	free, ok := released[row.Hold]
	if !ok {
		if row.Minor != 0 {
			a.held.add(ledger.PayableHeld(row.Partner), h.Amount.Currency, row.Minor, 1)
		}
		return
	}
	a.same("hold", where, "released to", row.Partner, free.Partner)
	a.same("hold", where, "released", h.Amount.String(), money.New(free.Minor, money.Currency(free.Currency)).String())
	a.same("hold", where, "all that comes due (1) or not (0)", strconv.Itoa(row.All), strconv.Itoa(free.All))
	a.same("hold", where, "until", row.Until, free.Until)
	if h.ReleasedOn, err = period.ParseDate(free.On); err != nil {
		a.found("hold", where, "the day on which it was released", "%s", shown(free.On))
	}
	h.ReleaseWhy = free.Reason
	switch {
	case row.Minor > 0:
		a.entry("hold", where, releaseEntry(h), free.BookedOn)
	case free.BookedOn != "":
		a.found("hold", where, "nothing booked, for nothing was held", "booked on %s", shown(free.BookedOn))
	}
}
