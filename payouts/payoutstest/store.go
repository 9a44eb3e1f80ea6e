package payoutstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"

	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/payouts"
	"mete/period"
)

// Books are a store of payouts and the ledger in it.
type Books interface {
	payouts.Store
	ledger.Store
}

// Day reads a date of a test.
func Day(text string) period.Date {
	d, err := period.ParseDate(text)
	if err != nil {
		panic(err)
	}
	return d
}

// USD reads an amount of a test.
func USD(text string) money.Amount {
	a, err := money.Parse(strings.ReplaceAll(text, ",", ""), "USD")
	if err != nil {
		panic(err)
	}
	return a
}

// At is an instant around which tests happen.
var At = time.Date(2026, 11, 18, 15, 12, 0, 0, time.UTC)

// Fund makes an amount due to a partner.
func Fund(t testing.TB, books ledger.Store, fact string, p partner.ID, amount money.Amount) {
	t.Helper()
	e := ledger.Entry{ID: "test:" + fact, Kind: "opening", ValueOn: Day("2026-11-10"), BookedOn: Day("2026-11-10"), Memo: "what is due",
		Postings: []ledger.Posting{{Account: ledger.Opening(), Amount: amount}, {Account: ledger.PayableDue(string(p)), Amount: amount.Neg()}}}
	if err := books.Post(context.Background(), e); err != nil {
		t.Fatalf("fund %s: %v", p, err)
	}
}

// Candidate is a partner whom nothing keeps from being paid.
func Candidate(p partner.ID, rail string, months ...string) payouts.Candidate {
	c := payouts.Candidate{Currency: "USD", Partner: partner.Partner{ID: p, Name: "The " + string(p) + " company", Payee: partner.Payee{
		Rail: rail, Account: "acct-" + string(p), Last4: "4417", ConfirmedOn: Day("2026-01-05"), TaxForm: "W-9", ScreenedOn: Day("2026-11-15"), Currency: "USD"}}}
	for _, text := range months {
		var m period.Month
		if err := m.UnmarshalText([]byte(text)); err != nil {
			panic(err)
		}
		c.Statements = append(c.Statements, payouts.Statement{ID: "meridian-us." + string(p) + ".usd." + text, Month: m, IssuedOn: m.Add(1).First().AddDays(9)})
	}
	return c
}

// Input asks for a run on a pay date.
func Input(rail, payOn string, candidates ...payouts.Candidate) payouts.Input {
	return payouts.Input{Entity: "meridian-us", EntityName: "Meridian", PayOn: Day(payOn), Currency: "USD", Rail: rail, RailLabel: "ACH",
		From: "Meridian operating ****0031", Zone: "America/Chicago", By: "m.ortiz", At: At, Candidates: candidates}
}

// Due is what payable:due owes a partner, Held what payable:held does.
func Due(t testing.TB, b ledger.Store, p partner.ID) string {
	t.Helper()
	return balance(t, b, ledger.PayableDue(string(p)), -1)
}

// Held is what payable:held owes a partner.
func Held(t testing.TB, b ledger.Store, p partner.ID) string {
	t.Helper()
	return balance(t, b, ledger.PayableHeld(string(p)), -1)
}

func balance(t testing.TB, b ledger.Store, a ledger.Account, sign int64) string {
	t.Helper()
	all, err := b.Balances(context.Background(), ledger.Filter{Prefix: a, Currency: "USD"})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		if x.Account == a {
			return money.New(sign*x.Amount.Minor, "USD").Plain()
		}
	}
	return "0.00"
}

type fixture struct {
	*testing.T
	books Books
	bank  *Bank
	desk  *payouts.Desk
}

func start(t *testing.T, open func(t *testing.T) Books, traits payouts.Traits) *fixture {
	books := open(t)
	if traits.Name == "" {
		traits.Name = "testbank"
	}
	bank := &Bank{Trait: traits}
	f := &fixture{t, books, bank, &payouts.Desk{Store: books, Books: books, Rails: map[string]payouts.Rail{traits.Name: bank}}}
	t.Cleanup(func() { Sound(t, f.desk) })
	return f
}

// Sound wants everything that a desk keeps to agree with itself and the ledger.
func Sound(t testing.TB, d *payouts.Desk) payouts.Audit {
	t.Helper()
	a, err := d.Check(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Errorf("check: %v", err)
	}
	for _, f := range a.Findings {
		t.Errorf("check: %s", f)
	}
	for _, s := range a.Sums {
		if !s.OK {
			t.Errorf("check: %+v", s)
		}
	}
	return a
}

func (f *fixture) fund(p partner.ID, amount string) {
	f.Helper()
	Fund(f.T, f.books, fmt.Sprintf("%s:%s:%d", p, amount, time.Now().UnixNano()), p, USD(amount))
}

func (f *fixture) plan(payOn string, c ...payouts.Candidate) payouts.Run {
	f.Helper()
	r, err := f.desk.Plan(f.Context(), Input(f.bank.Trait.Name, payOn, c...))
	if err != nil {
		f.Fatalf("plan: %v", err)
	}
	return r
}

func (f *fixture) approve(r payouts.Run, who ...string) payouts.Run {
	f.Helper()
	for _, by := range who {
		var err error
		if r, err = f.desk.Approve(f.Context(), payouts.Approval{Run: r.ID, Content: r.Short(), By: by, At: At}); err != nil {
			f.Fatalf("approve by %s: %v", by, err)
		}
	}
	return r
}

func order(r payouts.Run) payouts.Order {
	return payouts.Order{Run: r.ID, By: "m.ortiz", At: At.Add(24 * time.Hour)}
}

func (f *fixture) submit(r payouts.Run) payouts.Submission {
	f.Helper()
	s, err := f.desk.Submit(f.Context(), order(r))
	if err != nil {
		f.Fatalf("submit: %v", err)
	}
	return s
}

func says(p payouts.Payout, o payouts.Outcome, on, ref string) payouts.Confirmation {
	return payouts.Confirmation{Payout: p.ID, Outcome: o, Amount: p.Amount, BankOn: Day(on), BankRef: ref, By: "r.shah", At: At.AddDate(0, 1, 0), Source: "bank.csv line 2"}
}

func (f *fixture) confirm(c ...payouts.Confirmation) payouts.Confirmed {
	f.Helper()
	out, err := f.desk.Confirm(f.Context(), c)
	if err != nil {
		f.Fatalf("confirm: %v", err)
	}
	return out
}

func (f *fixture) payout(id string) payouts.History {
	f.Helper()
	all, err := f.books.Payouts(f.Context(), payouts.PayoutFilter{ID: id})
	if err != nil || len(all) != 1 {
		f.Fatalf("payout %s: %d, %v", id, len(all), err)
	}
	return all[0]
}

func (f *fixture) state(id string, want payouts.State) {
	f.Helper()
	if got := f.payout(id).State; got != want {
		f.Errorf("payout %s is %s, want %s", id, got, want)
	}
}

func (f *fixture) run(id string, want payouts.RunState) payouts.Run {
	f.Helper()
	r, err := f.books.PayoutRun(f.Context(), id)
	if err != nil || r.State != want {
		f.Errorf("run %s is %s, %v, want %s", id, r.State, err, want)
	}
	return r
}

// holds compares balances: due and held of partners, in transit and cash of the rail.
func (f *fixture) holds(account ledger.Account, want string) {
	f.Helper()
	sign := int64(-1)
	if account.DebitNormal() {
		sign = 1
	}
	if got := balance(f.T, f.books, account, sign); got != want {
		f.Errorf("%s holds %s, want %s", account, got, want)
	}
}

func (f *fixture) refused(what string, err error, is error, want string) {
	f.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		f.Errorf("%s:\n got %v\nwant %s", what, err, want)
	}
	if is != nil && !errors.Is(err, is) {
		f.Errorf("%s: %v is not %v", what, err, is)
	}
}

// TestStore checks the promises of [payouts.Store], through the desk that relies on
// them, over empty stores that open makes. November 2026 is an open month in them.
func TestStore(t *testing.T, open func(t *testing.T) Books) {
	for name, test := range map[string]func(f *fixture){
		"from plan to settled":       settled,
		"planned again":              plannedAgain,
		"approvals":                  approvals,
		"sent back":                  sentBack,
		"one open payout":            oneOpen,
		"money gone since approval":  goneSince,
		"account changed since":      accountChanged,
		"outcome unknown":            unknown,
		"failed and returned":        failedAndReturned,
		"tax withheld":               taxWithheld,
		"confirmations are strict":   strict,
		"holds":                      holds,
		"hold on all":                holdOnAll,
		"found by name":              found,
		"two at once":                twoAtOnce,
		"checked meanwhile":          checkedMeanwhile,
		"a rail that answers paid":   paidAtOnce,
		"a rail that refuses":        refuses,
		"an answer not booked":       notBooked,
		"paid twice is never booked": wrongAnswers,
		"late money":                 lateMoney,
		"net terms":                  netTerms,
		"kept row by row":            keptRows,
		"a world":                    func(f *fixture) { World(f, f.books) },
	} {
		t.Run(name, func(t *testing.T) { test(start(t, open, payouts.Traits{PerBatch: 1})) })
	}
	t.Run("one file", func(t *testing.T) { settled(start(t, open, payouts.Traits{})) })
	t.Run("one file, outcome unknown", func(t *testing.T) { unknown(start(t, open, payouts.Traits{})) })
	t.Run("keys forgotten", func(t *testing.T) { forgotten(start(t, open, payouts.Traits{PerBatch: 1, KeyLife: 20 * time.Hour})) })
}

func settled(f *fixture) {
	f.fund("northwind", "45213.19")
	f.fund("baywell", "310.90")
	f.fund("tinyapp", "11.20")
	tiny := Candidate("tinyapp", f.bank.Trait.Name, "2026-10")
	minimum := USD("25.00")
	tiny.Minimum = &minimum
	r := f.plan("2026-11-20", Candidate("northwind", f.bank.Trait.Name, "2026-09", "2026-10"), Candidate("baywell", f.bank.Trait.Name, "2026-10"), tiny)
	if len(r.Payouts) != 2 || r.Payouts[0].ID != "P-2026-11-20-001" || r.Payouts[0].UpTo != "meridian-us.northwind.usd.2026-10" || len(r.NotNow) != 1 {
		f.Fatalf("plan %+v", r.Payouts)
	}
	_, err := f.desk.Submit(f.Context(), order(r))
	f.refused("not approved", err, payouts.ErrApproval, "0 of 1 approvals; show the plan to an approver")
	if len(f.bank.Moved()) != 0 {
		f.Fatal("money moved without approval")
	}
	f.approve(r, "a.kim")
	s := f.submit(r)
	if len(s.Accepted) != 2 || len(s.Unknown)+len(s.Failed)+len(s.Cancelled) != 0 {
		f.Fatalf("submission %+v", s)
	}
	f.run(r.ID, payouts.RunSubmitted)
	f.holds(ledger.PayableDue("northwind"), "0.00")
	f.holds(ledger.PayableDue("tinyapp"), "11.20")
	f.holds(ledger.InTransit(f.bank.Trait.Name), "45524.09")

	if again := f.submit(r); len(again.Batches) != 0 {
		f.Errorf("submitted again it sent %v", again.Batches)
	}
	north, bay := r.Payouts[0], r.Payouts[1]
	f.confirm(says(north, payouts.Paid, "2026-11-20", "W1"))
	f.run(r.ID, payouts.RunPartSettled)
	f.confirm(says(bay, payouts.Paid, "2026-11-23", "W2"))
	f.run(r.ID, payouts.RunSettled)
	f.state(north.ID, payouts.Settled)
	f.holds(ledger.InTransit(f.bank.Trait.Name), "0.00")
	f.holds(ledger.Cash(f.bank.Trait.Name), "-45524.09")
	if out := f.confirm(says(north, payouts.Paid, "2026-11-20", "W1")); len(out.Booked) != 0 || len(out.Known) != 1 {
		f.Errorf("imported again: %+v", out)
	}
	f.holds(ledger.Cash(f.bank.Trait.Name), "-45524.09")
	e, err := f.books.Entry(f.Context(), "payout:"+bay.ID+":settle")
	if err != nil || e.ValueOn != Day("2026-11-23") {
		f.Errorf("entry %+v, %v", e, err)
	}
	h := f.payout(north.ID)
	if h.Attempt == nil || h.Attempt.Key != north.ID+".1" || !h.Attempt.At.Equal(order(r).At) || h.Attempt.BookedOn.IsZero() || len(h.Confirmations) != 1 {
		f.Errorf("history %+v", h)
	}
	if m := f.bank.Moved(); m[north.ID] != 1 || m[bay.ID] != 1 {
		f.Errorf("moved %v", m)
	}
	// The next run compares with this one, and pays nobody again.
	next := f.plan("2026-12-18", Candidate("northwind", f.bank.Trait.Name, "2026-09", "2026-10"), Candidate("baywell", f.bank.Trait.Name, "2026-10"),
		Candidate("tinyapp", f.bank.Trait.Name, "2026-10"))
	if next.Last == nil || next.Last.Payees != 2 || next.Last.Total != USD("45524.09") || len(next.Payouts) != 0 && next.Payouts[0].Partner != "tinyapp" {
		f.Errorf("next run: last %+v, payouts %+v", next.Last, next.Payouts)
	}
}

func plannedAgain(f *fixture) {
	f.fund("northwind", "100.00")
	c := Candidate("northwind", f.bank.Trait.Name, "2026-10")
	r := f.plan("2026-11-20", c)
	f.approve(r, "a.kim")
	if same := f.plan("2026-11-20", c); same.Revision != 1 || same.State != payouts.RunApproved || len(same.Approvals) != 1 {
		f.Errorf("the same plan again: revision %d, %s, %d approvals", same.Revision, same.State, len(same.Approvals))
	}
	f.fund("northwind", "0.01")
	next := f.plan("2026-11-20", c)
	if next.Revision != 2 || next.State != payouts.RunPlanned || len(next.Approvals) != 0 || next.Payouts[0].ID != "P-2026-11-20-002" {
		f.Errorf("one cent more: revision %d, %s, %d approvals, %s", next.Revision, next.State, len(next.Approvals), next.Payouts[0].ID)
	}
	f.state("P-2026-11-20-001", payouts.Cancelled)
	_, err := f.desk.Submit(f.Context(), order(r))
	f.refused("approvals of the old plan", err, payouts.ErrApproval, "0 of 1 approvals")
	_, err = f.desk.Approve(f.Context(), payouts.Approval{Run: r.ID, Content: r.Short(), By: "a.kim", At: At})
	f.refused("the old content", err, payouts.ErrContent, "content is "+next.Short()+" now")
	f.approve(next, "a.kim")
	f.submit(next)
	f.fund("northwind", "5.00")
	_, err = f.desk.Plan(f.Context(), Input(f.bank.Trait.Name, "2026-11-20", c))
	f.refused("after the submit", err, payouts.ErrState, "save run "+r.ID+": it is submitted and 1 of its payouts were handed over; plan another run of the day, number 2")
}

func approvals(f *fixture) {
	f.fund("northwind", "100000.01")
	c := Candidate("northwind", f.bank.Trait.Name, "2026-10")
	r := f.plan("2026-11-20", c)
	_, err := f.desk.Approve(f.Context(), payouts.Approval{Run: r.ID, Content: r.Short(), By: "M.Ortiz", At: At})
	f.refused("the planner", err, payouts.ErrApproval, "m.ortiz planned it; another person has to approve")
	one, err := f.desk.Approve(f.Context(), payouts.Approval{Run: "2026-11-20", Content: r.Short(), By: "a.kim", At: At, Unauthenticated: true})
	if err != nil || one.State != payouts.RunPlanned || !one.Approvals[0].Unauthenticated {
		f.Fatalf("the first of two: %+v, %v", one.Approvals, err)
	}
	one = f.approve(r, "A.KIM")
	_, err = f.desk.Submit(f.Context(), order(r))
	f.refused("one of two", err, payouts.ErrApproval, "1 of 2 approvals")
	if two := f.approve(r, "r.shah"); two.State != payouts.RunApproved || len(two.Approvals) != 2 || len(one.Approvals) != 1 {
		f.Errorf("two approvers: %s, %+v", two.State, two.Approvals)
	}
}

func sentBack(f *fixture) {
	f.fund("northwind", "100.00")
	c := Candidate("northwind", f.bank.Trait.Name, "2026-10")
	r := f.approve(f.plan("2026-11-20", c), "a.kim")
	_, err := f.desk.Return(f.Context(), payouts.SentBack{Run: r.ID, By: "a.kim", At: At})
	f.refused("no reason", err, nil, "say who and why, the planner has to know")
	back, err := f.desk.Return(f.Context(), payouts.SentBack{Run: r.ID, By: "a.kim", At: At, Reason: "wrong month"})
	if err != nil || back.State != payouts.RunSentBack || back.SentBack.Reason != "wrong month" || len(back.Approvals) != 0 {
		f.Fatalf("sent back: %+v, %v", back, err)
	}
	f.state(r.Payouts[0].ID, payouts.Cancelled)
	_, err = f.desk.Submit(f.Context(), order(r))
	f.refused("submitted", err, payouts.ErrState, "it was sent back by a.kim (wrong month); plan it again")
	next := f.plan("2026-11-20", c)
	if next.Revision != 2 || next.State != payouts.RunPlanned || next.SentBack != nil {
		f.Errorf("planned again: %d, %s, %+v", next.Revision, next.State, next.SentBack)
	}
	f.submit(f.approve(next, "a.kim"))
	_, err = f.desk.Return(f.Context(), payouts.SentBack{Run: r.ID, By: "a.kim", At: At, Reason: "too late"})
	f.refused("too late", err, payouts.ErrState, "it is submitted; ask the bank to stop payments, and import what it confirms")
}

func oneOpen(f *fixture) {
	f.fund("northwind", "100.00")
	c := Candidate("northwind", f.bank.Trait.Name, "2026-10")
	r := f.plan("2026-11-20", c)
	next := f.plan("2026-11-23", c)
	if len(next.Payouts) != 0 || len(next.NotNow) != 1 || next.NotNow[0].Reasons[0].Text != r.Payouts[0].ID+" planned" {
		f.Errorf("a second run: %+v, %+v", next.Payouts, next.NotNow)
	}
	in := Input(f.bank.Trait.Name, "2026-11-24", c)
	in, err := f.desk.Gather(f.Context(), in)
	if err != nil {
		f.Fatal(err)
	}
	in.Unfinished = nil // as if planned in the same instant
	forced, err := payouts.Plan(in)
	if err != nil {
		f.Fatal(err)
	}
	_, err = f.books.SavePayoutRun(f.Context(), forced)
	f.refused("forced", err, payouts.ErrConflict, "a payee has an open payout in another run")
	f.submit(f.approve(r, "a.kim"))
	f.fund("northwind", "7.00")
	if next = f.plan("2026-11-23", c); len(next.Payouts) != 0 || next.NotNow[0].Reasons[0].Text != r.Payouts[0].ID+" in transit" {
		f.Errorf("while in transit: %+v, %+v", next.Payouts, next.NotNow)
	}
}

func goneSince(f *fixture) {
	f.fund("northwind", "100.00")
	f.fund("baywell", "50.00")
	r := f.approve(f.plan("2026-11-20", Candidate("northwind", f.bank.Trait.Name, "2026-10"), Candidate("baywell", f.bank.Trait.Name, "2026-10")), "a.kim")
	if _, err := f.desk.Hold(f.Context(), payouts.Hold{ID: "h-1", Partner: "northwind", Currency: "USD", Amount: USD("0.01"), Reason: "dispute D-21", By: "k.lee", At: At, On: Day("2026-11-19")}); err != nil {
		f.Fatal(err)
	}
	s := f.submit(r)
	if len(s.Cancelled) != 1 || len(s.Accepted) != 1 {
		f.Errorf("submission %+v", s)
	}
	h := f.payout(r.Payouts[0].ID)
	if h.State != payouts.Cancelled || h.Reason != "payable:due held less than 100.00 when it was submitted" {
		f.Errorf("%s: %s", h.State, h.Reason)
	}
	if m := f.bank.Moved(); m[r.Payouts[0].ID] != 0 || m[r.Payouts[1].ID] != 1 {
		f.Errorf("moved %v", m)
	}
	f.holds(ledger.PayableDue("northwind"), "99.99")
	f.confirm(says(r.Payouts[1], payouts.Paid, "2026-11-20", "W"))
	f.run(r.ID, payouts.RunSettled)
}

func accountChanged(f *fixture) {
	f.fund("northwind", "100.00")
	c := Candidate("northwind", f.bank.Trait.Name, "2026-10")
	r := f.approve(f.plan("2026-11-20", c), "a.kim")
	f.desk.Payee = func(context.Context, partner.ID) (partner.Payee, error) {
		p := c.Partner.Payee
		p.Account, p.Last4 = "acct-thief", "6666"
		return p, nil
	}
	_, err := f.desk.Submit(f.Context(), order(r))
	f.refused("another account", err, payouts.ErrContent, "submit run "+r.ID+": the account of northwind was ****4417 when the run was approved and is ****6666 now; return the run and plan again")
	f.desk.Payee = func(context.Context, partner.ID) (partner.Payee, error) { return c.Partner.Payee, nil }
	f.submit(r)
}

func unknown(f *fixture) {
	f.fund("northwind", "100.00")
	f.fund("baywell", "50.00")
	r := f.approve(f.plan("2026-11-20", Candidate("northwind", f.bank.Trait.Name, "2026-10"), Candidate("baywell", f.bank.Trait.Name, "2026-10")), "a.kim")
	broken := errors.New("connection reset")
	for _, c := range []struct {
		name string
		set  func()
	}{
		{"before the bank saw it", func() { f.bank.Before = func(payouts.Batch) error { return broken } }},
		{"after it acted", func() { f.bank.After = func(payouts.Batch) error { return broken } }},
	} {
		f.bank.Before, f.bank.After, f.bank.Forget = nil, nil, true
		c.set()
		s, err := f.desk.Submit(f.Context(), order(r))
		f.refused(c.name, err, payouts.ErrUnknown, "they stay in transit; submit again, the same keys are used: outcome unknown: connection reset")
		if !errors.Is(err, broken) || len(s.Unknown) == 0 {
			f.Errorf("%s: %v, unknown %v", c.name, err, s.Unknown)
		}
		f.state(r.Payouts[0].ID, payouts.InTransit)
	}
	f.bank.Before, f.bank.After, f.bank.Forget = nil, nil, false
	s := f.submit(r)
	if len(s.Accepted) != 2 {
		f.Errorf("in the end %+v", s)
	}
	for _, p := range r.Payouts {
		if n := f.bank.Moved()[p.ID]; n != 1 {
			f.Errorf("payout %s moved %d times", p.ID, n)
		}
	}
	f.holds(ledger.InTransit(f.bank.Trait.Name), "150.00")
}

func forgotten(f *fixture) {
	f.fund("northwind", "100.00")
	r := f.approve(f.plan("2026-11-20", Candidate("northwind", f.bank.Trait.Name, "2026-10")), "a.kim")
	f.bank.After, f.bank.Forget = func(payouts.Batch) error { return errors.New("timeout") }, true
	if _, err := f.desk.Submit(f.Context(), order(r)); err == nil {
		f.Fatal("no error from a time-out")
	}
	f.bank.After = nil
	late := order(r)
	late.At = late.At.Add(21 * time.Hour)
	_, err := f.desk.Submit(f.Context(), late)
	f.refused("after the key's life", err, payouts.ErrUnknown, "payout "+r.Payouts[0].ID+" was handed over 21h0m0s ago and test bank remembers keys for 20h0m0s; it is not sent again, find out what became of it and import that")
	if f.bank.Copies() != 0 {
		f.Error("it was sent again")
	}
	f.bank.Forget = false // the look-up by group and metadata finds it
	if s, err := f.desk.Submit(f.Context(), late); err != nil || len(s.Accepted) != 1 || f.bank.Copies() != 0 {
		f.Errorf("looked up: %+v, %v, %d copies", s, err, f.bank.Copies())
	}
}

func failedAndReturned(f *fixture) {
	f.fund("northwind", "100.00")
	f.fund("baywell", "50.00")
	f.fund("quill", "25.00")
	all := []payouts.Candidate{Candidate("northwind", f.bank.Trait.Name, "2026-10"), Candidate("baywell", f.bank.Trait.Name, "2026-10"), Candidate("quill", f.bank.Trait.Name, "2026-10")}
	r := f.approve(f.plan("2026-11-20", all...), "a.kim")
	f.submit(r)
	north, bay, quill := r.Payouts[0], r.Payouts[1], r.Payouts[2]
	gone := says(north, payouts.Refused, "2026-11-20", "")
	gone.Reason = "account closed"
	f.confirm(gone)
	f.confirm(says(bay, payouts.Paid, "2026-11-20", "W1"), says(bay, payouts.CameBack, "2026-11-24", "R1"))
	f.confirm(says(quill, payouts.CameBack, "2026-11-24", "R2"))
	f.state(north.ID, payouts.Failed)
	f.state(bay.ID, payouts.Returned)
	f.state(quill.ID, payouts.Returned)
	if h := f.payout(north.ID); h.Reason != "account closed" {
		f.Errorf("reason %q", h.Reason)
	}
	f.run(r.ID, payouts.RunSettled)
	f.holds(ledger.PayableDue("northwind"), "100.00")
	f.holds(ledger.PayableDue("baywell"), "50.00")
	f.holds(ledger.PayableDue("quill"), "25.00")
	f.holds(ledger.InTransit(f.bank.Trait.Name), "0.00")
	f.holds(ledger.Cash(f.bank.Trait.Name), "0.00")
	e, err := f.books.Entry(f.Context(), "payout:"+bay.ID+":return")
	if err != nil || len(e.Postings) != 2 || e.Postings[0].Account != ledger.Cash(f.bank.Trait.Name) {
		f.Errorf("entry of the return: %+v, %v", e, err)
	}
	again := f.plan("2026-12-01", all...)
	if len(again.Payouts) != 3 {
		f.Fatalf("paid again: %+v, not now %+v", again.Payouts, again.NotNow)
	}
	for i, old := range []payouts.Payout{north, bay, quill} {
		if p := again.Payouts[i]; p.Replaces != old.ID || p.ID == old.ID || p.UpTo != old.UpTo {
			f.Errorf("payout %+v does not name %s", p, old.ID)
		}
	}
	f.submit(f.approve(again, "a.kim"))
	if m := f.bank.Moved(); m[again.Payouts[0].ID] != 1 || m[north.ID] != 1 {
		f.Errorf("moved %v", m)
	}
	_, err = f.desk.Confirm(f.Context(), []payouts.Confirmation{says(north, payouts.Paid, "2026-11-25", "W9")})
	f.refused("paid after failed", err, payouts.ErrConflict, "it is failed and its money is due again, yet the bank says paid; place a hold on northwind before it is paid again, and ask the bank")
}

// taxWithheld: a payee without a form is paid less tax. A payment that failed owes the
// authority nothing, and what was paid counts towards the year.
func taxWithheld(f *fixture) {
	f.fund("northwind", "1000.00")
	x := Candidate("northwind", f.bank.Trait.Name, "2026-10")
	to := &x.Partner.Payee
	to.TaxForm, to.WithholdFrom, to.ConfirmedOn, to.ScreenedOn = "", Day("2025-11-01"), Day("2025-01-05"), Day("2025-11-15")
	plan := func(payOn string) payouts.Run {
		in := Input(f.bank.Trait.Name, payOn, x)
		in.Rules = payouts.DefaultRules("USD")
		in.Rules.Withholding = &payouts.WithholdingRule{Authority: "us-irs", Rate: decimal.RequireFromString("0.24"), From: USD("600.00")}
		r, err := f.desk.Plan(f.Context(), in)
		if err != nil {
			f.Fatalf("plan: %v", err)
		}
		return r
	}
	taxes, due := ledger.TaxWithheld("us-irs"), ledger.PayableDue("northwind")
	r := plan("2025-11-20")
	p := r.Payouts[0]
	if p.Amount != USD("760.00") || p.Withheld == nil || p.Withheld.Amount != USD("240.00") || r.Totals.Withheld == nil || *r.Totals.Withheld != USD("240.00") {
		f.Fatalf("planned %+v, totals %+v", p, r.Totals)
	}
	f.submit(f.approve(r, "a.kim"))
	f.holds(due, "0.00")
	f.holds(taxes, "240.00")
	f.holds(ledger.InTransit(f.bank.Trait.Name), "760.00")
	Sound(f, f.desk)
	f.confirm(says(p, payouts.Refused, "2025-11-20", ""))
	f.holds(due, "1000.00")
	f.holds(taxes, "0.00")
	again := plan("2025-12-01")
	f.submit(f.approve(again, "a.kim"))
	f.confirm(says(again.Payouts[0], payouts.Paid, "2025-12-01", "W1"))
	f.holds(taxes, "240.00")
	to.ScreenedOn = Day("2025-12-15")
	f.fund("northwind", "10.00") // below the year's amount by itself
	last := plan("2025-12-19")
	if w := last.Payouts[0].Withheld; w == nil || w.Amount != USD("2.40") {
		f.Fatalf("the year's payments do not count: %+v", last.Payouts[0])
	}
	to.ScreenedOn = Day("2026-01-15")
	next := plan("2026-01-20") // another year
	if len(next.NotNow) != 1 || next.NotNow[0].Reasons[0].Code != "open" {
		f.Fatalf("planned %+v beside an open payout", next.Payouts)
	}
	f.submit(f.approve(last, "a.kim"))
	f.confirm(says(last.Payouts[0], payouts.Paid, "2025-12-19", "W2"))
	f.fund("northwind", "20.00")
	if next = plan("2026-01-20"); len(next.Payouts) != 1 || next.Payouts[0].Withheld != nil {
		f.Fatalf("a new year begins at nothing: %+v", next.Payouts)
	}
	Sound(f, f.desk)
}

func strict(f *fixture) {
	f.fund("northwind", "100.00")
	f.fund("baywell", "50.00")
	r := f.approve(f.plan("2026-11-20", Candidate("northwind", f.bank.Trait.Name, "2026-10"), Candidate("baywell", f.bank.Trait.Name, "2026-10")), "a.kim")
	north, bay := r.Payouts[0], r.Payouts[1]
	never := says(north, payouts.Paid, "2026-11-20", "W1")
	_, err := f.desk.Confirm(f.Context(), []payouts.Confirmation{never})
	f.refused("never sent", err, payouts.ErrState, "confirm payouts: nothing was booked: bank.csv line 2: payout P-2026-11-20-001: it is planned and was never handed to a rail, yet the bank says paid; stop, somebody paid it by another way")
	f.submit(r)
	good := says(bay, payouts.Paid, "2026-11-20", "W2")
	edit := func(c payouts.Confirmation, fn func(*payouts.Confirmation)) payouts.Confirmation { fn(&c); return c }
	for _, c := range []struct {
		name string
		c    payouts.Confirmation
		is   error
		want string
	}{
		{"unknown", edit(good, func(c *payouts.Confirmation) { c.Payout = "P-2026-11-20-999" }), payouts.ErrNotFound,
			`bank.csv line 2: payout "P-2026-11-20-999" is not ours: no such payout, run or hold; if the bank paid it, tell them and find out who ordered it`},
		{"amount", edit(good, func(c *payouts.Confirmation) { c.Amount = USD("50.01") }), payouts.ErrConflict,
			"the bank says paid 50.01 USD, we ordered 50.00 USD; nothing is booked until that is explained"},
		{"currency", edit(good, func(c *payouts.Confirmation) { c.Amount = money.New(5000, "EUR") }), payouts.ErrConflict, "we ordered 50.00 USD"},
		{"no date", edit(good, func(c *payouts.Confirmation) { c.BankOn = period.Date{} }), payouts.ErrState, "no bank date; the entry needs the day the money moved"},
		{"future", edit(good, func(c *payouts.Confirmation) { c.BankOn = Day("2027-02-01") }), payouts.ErrState, "bank date 2027-02-01 lies in the future; banks confirm what has happened"},
		{"no reference", edit(good, func(c *payouts.Confirmation) { c.BankRef = " " }), payouts.ErrState, "no bank reference; it is what finds the payment on the bank statement"},
		{"outcome", edit(good, func(c *payouts.Confirmation) { c.Outcome = "done" }), payouts.ErrState, `outcome "done" is none of paid, failed, returned`},
	} {
		_, err := f.desk.Confirm(f.Context(), []payouts.Confirmation{says(north, payouts.Paid, "2026-11-20", "W1"), c.c})
		f.refused(c.name, err, c.is, c.want)
		f.state(north.ID, payouts.InTransit) // nothing of a wrong file is booked
	}
	f.confirm(says(north, payouts.Paid, "2026-11-20", "W1"), good)
	_, err = f.desk.Confirm(f.Context(), []payouts.Confirmation{says(north, payouts.Paid, "2026-11-21", "W7")})
	f.refused("paid twice", err, payouts.ErrConflict, `paid on 2026-11-20 as "W1", and again on 2026-11-21 as "W7"; ask the bank whether it moved the money twice`)
	_, err = f.desk.Confirm(f.Context(), []payouts.Confirmation{says(north, payouts.Refused, "2026-11-21", "W7")})
	f.refused("failed after paid", err, payouts.ErrConflict, "the bank said paid before and says failed now; money that came back is state returned")
}

func holds(f *fixture) {
	f.fund("tidepool-rx", "1340.00")
	h := payouts.Hold{ID: "h-d21", Partner: "tidepool-rx", Currency: "USD", Amount: USD("90.00"), Reason: "dispute D-21", By: "k.lee", At: At, On: Day("2026-11-12"), Until: Day("2026-12-01")}
	placed, err := f.desk.Hold(f.Context(), h)
	if err != nil || placed.Released || placed.HeldBooked != Day("2026-11-12") || placed.Until != h.Until {
		f.Fatalf("placed %+v, %v", placed, err)
	}
	again, err := f.desk.Hold(f.Context(), h)
	if diff := cmp.Diff(placed, again); err != nil || diff != "" {
		f.Errorf("placed again: %v %s", err, diff)
	}
	f.holds(ledger.PayableDue("tidepool-rx"), "1250.00")
	f.holds(ledger.PayableHeld("tidepool-rx"), "90.00")
	other := h
	other.Amount = USD("91.00")
	_, err = f.desk.Hold(f.Context(), other)
	f.refused("another under its name", err, payouts.ErrConflict, "hold h-d21 holds 90.00 USD of tidepool-rx (dispute D-21); give the new one another name")
	other.ID, other.Amount = "h-2", USD("1250.01")
	_, err = f.desk.Hold(f.Context(), other)
	f.refused("more than is due", err, payouts.ErrShort, "hold h-2 on tidepool-rx: less than 1250.01 USD is due; look at the balance, part of it may be paid or held already")
	for _, c := range []struct {
		change func(*payouts.Hold)
		want   string
	}{
		{func(h *payouts.Hold) { h.ID = "Not An ID" }, `hold Not An ID on tidepool-rx: "Not An ID" is no identifier`},
		{func(h *payouts.Hold) { h.Reason = " " }, "say who holds the money back and why; the partner will ask"},
		{func(h *payouts.Hold) { h.On = period.Date{} }, "on which day is needed"},
		{func(h *payouts.Hold) { h.Amount = USD("0") }, "hold back an amount above zero, or all of it"},
		{func(h *payouts.Hold) { h.All = true }, "a hold on all takes no amount"},
		{func(h *payouts.Hold) { h.Amount = money.New(5, "EUR") }, "amount 0.05 EUR is not in USD"},
	} {
		x := h
		c.change(&x)
		_, err := f.desk.Hold(f.Context(), x)
		f.refused(c.want, err, nil, c.want)
	}
	r := f.plan("2026-11-20", Candidate("tidepool-rx", f.bank.Trait.Name, "2026-10"))
	if r.Payouts[0].Amount != USD("1250.00") || r.Totals.Held != USD("90.00") || r.Held[0].Reason != "dispute D-21" {
		f.Errorf("plan %+v %+v", r.Payouts, r.Held)
	}
	release := payouts.Release{ID: "h-d21", By: "r.shah", Why: "dispute D-21 refused", At: At, On: Day("2026-11-25")}
	_, err = f.desk.Release(f.Context(), payouts.Release{ID: "h-9", By: "r.shah", Why: "none", At: At, On: Day("2026-11-25")})
	f.refused("no such hold", err, payouts.ErrNotFound, "release hold h-9: no such payout, run or hold; mete payout holds shows them")
	_, err = f.desk.Release(f.Context(), payouts.Release{ID: "h-d21", By: "r.shah", At: At, On: Day("2026-11-25")})
	f.refused("no reason", err, nil, "release hold h-d21: say who releases it and why")
	for range 2 {
		freed, err := f.desk.Release(f.Context(), release)
		if err != nil || !freed.Released || freed.ReleasedBy != "r.shah" || freed.ReleaseWhy != release.Why || freed.By != "k.lee" || freed.FreedBooked != Day("2026-11-25") {
			f.Fatalf("released %+v, %v", freed, err)
		}
	}
	f.holds(ledger.PayableHeld("tidepool-rx"), "0.00")
	f.holds(ledger.PayableDue("tidepool-rx"), "1340.00")
	in, err := f.books.Holds(f.Context(), payouts.HoldFilter{InForce: true})
	if err != nil || len(in) != 0 {
		f.Errorf("in force %+v, %v", in, err)
	}
}

func holdOnAll(f *fixture) {
	f.fund("northwind", "100.00")
	c := Candidate("northwind", f.bank.Trait.Name, "2026-10")
	h, err := f.desk.Hold(f.Context(), payouts.Hold{ID: "h-all", Partner: "northwind", Currency: "USD", All: true, Reason: "bankruptcy notice", By: "k.lee", At: At, On: Day("2026-11-12")})
	if err != nil || h.Amount != USD("100.00") {
		f.Fatalf("held %s, %v", h.Amount, err)
	}
	f.fund("northwind", "30.00")
	r := f.plan("2026-11-20", c)
	if len(r.Payouts) != 0 || r.NotNow[0].Amount != USD("30.00") || r.NotNow[0].Reasons[0].Text != "on hold: bankruptcy notice" || !r.Held[0].All {
		f.Errorf("plan %+v, %+v, %+v", r.Payouts, r.NotNow, r.Held)
	}
	again, err := f.desk.Hold(f.Context(), payouts.Hold{ID: "h-all", Partner: "northwind", Currency: "USD", All: true, Reason: "bankruptcy notice", By: "k.lee", At: At, On: Day("2026-11-12")})
	if err != nil || again.Amount != USD("100.00") {
		f.Errorf("placed again it holds %s, %v", again.Amount, err)
	}
	if _, err := f.desk.Release(f.Context(), payouts.Release{ID: "h-all", By: "r.shah", Why: "court said so", At: At, On: Day("2026-11-25")}); err != nil {
		f.Fatal(err)
	}
	if r = f.plan("2026-11-27", c); len(r.Payouts) != 1 || r.Payouts[0].Amount != USD("130.00") {
		f.Errorf("after the release %+v, %+v", r.Payouts, r.NotNow)
	}
	none, err := f.desk.Hold(f.Context(), payouts.Hold{ID: "h-none", Partner: "quill", Currency: "USD", All: true, Reason: "nothing due yet", By: "k.lee", At: At, On: Day("2026-11-12")})
	if err != nil || !none.Amount.IsZero() || !none.HeldBooked.IsZero() {
		f.Errorf("hold on nothing: %+v, %v", none, err)
	}
	if _, err := f.desk.Release(f.Context(), payouts.Release{ID: "h-none", By: "r.shah", Why: "over", At: At, On: Day("2026-11-25")}); err != nil {
		f.Error(err)
	}
}

func found(f *fixture) {
	f.fund("northwind", "100.00")
	c := Candidate("northwind", f.bank.Trait.Name, "2026-10")
	_, err := f.desk.Find(f.Context(), "2026-11-20")
	f.refused("no run", err, payouts.ErrNotFound, `run "2026-11-20": no such payout, run or hold; mete payout list shows them`)
	r := f.plan("2026-11-20", c)
	if got, err := f.desk.Find(f.Context(), "2026-11-20"); err != nil || got.ID != r.ID {
		f.Errorf("by date: %s, %v", got.ID, err)
	}
	in := Input(f.bank.Trait.Name, "2026-11-20", c)
	in.Number = 2
	if _, err := f.desk.Plan(f.Context(), in); err != nil {
		f.Fatal(err)
	}
	_, err = f.desk.Find(f.Context(), "2026-11-20")
	f.refused("two runs", err, payouts.ErrNotFound, `run "2026-11-20" may be `+r.ID+" or "+r.ID+".2; name one")
	runs, err := f.books.PayoutRuns(f.Context(), payouts.RunFilter{})
	if err != nil || len(runs) != 2 {
		f.Errorf("%d runs, %v", len(runs), err)
	}
	in.Rail = "carrier-pigeon"
	_, err = f.desk.Plan(f.Context(), in)
	f.refused("no rail", err, nil, `no rail "carrier-pigeon" is set up`)
}

// twoAtOnce submits and confirms one run from two sides.
func twoAtOnce(f *fixture) {
	var all []payouts.Candidate
	for i := range 5 {
		id := partner.ID(fmt.Sprintf("p-%d", i))
		f.fund(id, "10.00")
		all = append(all, Candidate(id, f.bank.Trait.Name, "2026-10"))
	}
	r := f.approve(f.plan("2026-11-20", all...), "a.kim")
	both := func(fn func() error) {
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := fn(); err != nil {
					f.Error(err)
				}
			})
		}
		wg.Wait()
	}
	both(func() error { _, err := f.desk.Submit(f.Context(), order(r)); return err })
	var said []payouts.Confirmation
	for _, p := range r.Payouts {
		if n := f.bank.Moved()[p.ID]; n != 1 {
			f.Errorf("payout %s moved %d times", p.ID, n)
		}
		said = append(said, says(p, payouts.Paid, "2026-11-20", "W-"+p.ID))
	}
	f.holds(ledger.InTransit(f.bank.Trait.Name), "50.00")
	both(func() error { _, err := f.desk.Confirm(f.Context(), said); return err })
	f.holds(ledger.InTransit(f.bank.Trait.Name), "0.00")
	f.holds(ledger.Cash(f.bank.Trait.Name), "-50.00")
	f.run(r.ID, payouts.RunSettled)
}

// checkedMeanwhile checks while a run is handed over and confirmed: what is half done
// at one moment is no finding.
func checkedMeanwhile(f *fixture) {
	var all []payouts.Candidate
	for i := range 8 {
		id := partner.ID(fmt.Sprintf("p-%d", i))
		f.fund(id, "10.00")
		all = append(all, Candidate(id, f.bank.Trait.Name, "2026-10"))
	}
	r := f.approve(f.plan("2026-11-20", all...), "a.kim")
	var checks sync.WaitGroup
	done := make(chan struct{})
	checks.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			a, err := f.desk.Check(f.Context())
			if err != nil && !strings.Contains(err.Error(), "payouts were booked during each of") || len(a.Findings) > 0 {
				f.Errorf("checked meanwhile: %v, %v", a.Findings, err)
				return
			}
		}
	})
	f.submit(r)
	for _, p := range r.Payouts {
		f.confirm(says(p, payouts.Paid, "2026-11-20", "W-"+p.ID))
	}
	close(done)
	checks.Wait()
	f.run(r.ID, payouts.RunSettled)
}

func paidAtOnce(f *fixture) {
	f.fund("northwind", "100.00")
	f.bank.Answer, f.bank.On = payouts.Paid, Day("2026-11-20")
	r := f.approve(f.plan("2026-11-20", Candidate("northwind", f.bank.Trait.Name, "2026-10")), "a.kim")
	if s := f.submit(r); len(s.Paid) != 1 {
		f.Errorf("submission %+v", s)
	}
	f.run(r.ID, payouts.RunSettled)
	f.holds(ledger.Cash(f.bank.Trait.Name), "-100.00")
}

func refuses(f *fixture) {
	f.fund("northwind", "100.00")
	f.bank.Answer = payouts.Refused
	r := f.approve(f.plan("2026-11-20", Candidate("northwind", f.bank.Trait.Name, "2026-10")), "a.kim")
	if s := f.submit(r); len(s.Failed) != 1 {
		f.Errorf("submission %+v", s)
	}
	f.state(r.Payouts[0].ID, payouts.Failed)
	f.holds(ledger.PayableDue("northwind"), "100.00")
	f.holds(ledger.InTransit(f.bank.Trait.Name), "0.00")
}

// stopping is a store whose n-th change of a payout fails before it begins, as if the
// program had ended there.
type stopping struct {
	payouts.Store
	n int
}

func (s *stopping) ChangePayout(ctx context.Context, id string, decide func(payouts.History) (payouts.Step, error)) (payouts.History, error) {
	if s.n--; s.n == 0 {
		return payouts.History{}, errors.New("the program ended")
	}
	return s.Store.ChangePayout(ctx, id, decide)
}

// notBooked stops between a rail's answer and its booking: attempt, receipt, and here.
func notBooked(f *fixture) {
	f.fund("northwind", "100.00")
	f.bank.Answer, f.bank.On = payouts.Paid, Day("2026-11-20")
	r := f.approve(f.plan("2026-11-20", Candidate("northwind", f.bank.Trait.Name, "2026-10")), "a.kim")
	f.desk.Store = &stopping{f.books, 3}
	_, err := f.desk.Submit(f.Context(), order(r))
	f.refused("stopped", err, nil, "the program ended")
	f.state(r.Payouts[0].ID, payouts.InTransit)
	a, err := f.desk.Check(f.Context())
	want := payouts.Finding{Check: "receipt", Where: "payout " + r.Payouts[0].ID, Want: "paid booked, as the rail answered", Got: "not booked; submit the run again"}
	if err != nil || len(a.Findings) != 1 || a.Findings[0] != want {
		f.Errorf("found %v, %v, want %s", a.Findings, err, want)
	}
	if s := f.submit(r); len(s.Paid) != 1 {
		f.Errorf("submitted again: %+v", s)
	}
	f.run(r.ID, payouts.RunSettled)
	f.holds(ledger.Cash(f.bank.Trait.Name), "-100.00")
	if m := f.bank.Moved(); m[r.Payouts[0].ID] != 1 || f.bank.Copies() != 0 {
		f.Errorf("moved %v, %d copies", m, f.bank.Copies())
	}
}

// strange answers for something that was not asked.
type strange struct{ payouts.Rail }

func (strange) Send(_ context.Context, b payouts.Batch) ([]payouts.Receipt, error) {
	return []payouts.Receipt{{Payout: b.Instructions[0].Payout, Key: "another", Outcome: payouts.Paid}}, nil
}

func wrongAnswers(f *fixture) {
	f.fund("northwind", "100.00")
	f.desk.Rails[f.bank.Trait.Name] = strange{f.bank}
	r := f.approve(f.plan("2026-11-20", Candidate("northwind", f.bank.Trait.Name, "2026-10")), "a.kim")
	_, err := f.desk.Submit(f.Context(), order(r))
	f.refused("a key nobody asked for", err, payouts.ErrConflict, `answered for payout "P-2026-11-20-001" with key "another", which was not asked`)
	f.state(r.Payouts[0].ID, payouts.InTransit)
}

// lateMoney comes due after its statement was paid, and is paid up to the same one.
func lateMoney(f *fixture) {
	f.fund("northwind", "100.00")
	c := Candidate("northwind", f.bank.Trait.Name, "2026-10")
	r := f.approve(f.plan("2026-11-20", c), "a.kim")
	f.submit(r)
	f.confirm(says(r.Payouts[0], payouts.Paid, "2026-11-20", "W1"))
	f.fund("northwind", "9.00")
	next := f.plan("2026-11-24", c)
	if len(next.Payouts) != 1 || next.Payouts[0].UpTo != c.Statements[0].ID || next.Payouts[0].Replaces != "" || next.Payouts[0].Amount != USD("9.00") {
		f.Errorf("plan %+v %+v", next.Payouts, next.NotNow)
	}
}

// netTerms pays three statements by two runs, each what is due by then, and once more
// what came back.
func netTerms(f *fixture) {
	rail := f.bank.Trait.Name
	c := Candidate("northwind", rail, "2026-08", "2026-09", "2026-10")
	for i, x := range []struct{ adds, on string }{{"100.00", "2026-11-15"}, {"80.00", "2026-12-15"}, {"-30.00", "2027-01-15"}} {
		adds := USD(x.adds)
		c.Statements[i].Adds, c.Statements[i].DueOn = &adds, Day(x.on)
		f.fund("northwind", x.adds)
	}
	expect := func(r payouts.Run, pays, waits string, months ...string) payouts.Payout {
		f.Helper()
		var got []string
		for _, p := range r.Payouts {
			for _, s := range p.Statements {
				got = append(got, s.Month.String())
			}
		}
		if len(r.Payouts) != 1 || r.Payouts[0].Amount != USD(pays) || r.Totals.NotNow != USD(waits) || !slices.Equal(got, months) {
			f.Fatalf("%s: %+v, not now %+v; want %s for %v and %s later", r.ID, r.Payouts, r.NotNow, pays, months, waits)
		}
		return r.Payouts[0]
	}
	r := f.plan("2026-11-20", c)
	first := expect(r, "70.00", "80.00", "2026-08") // 30.00 are taken at once
	if why := r.NotNow[0].Reasons[0]; why.Text != "due on 15 Dec 2026" || why.Until != "15 Dec" || why.Who != "–" {
		f.Errorf("waits because of %+v", why)
	}
	r = f.approve(r, "a.kim")
	f.submit(r)
	f.confirm(says(first, payouts.Paid, "2026-11-20", "W1"))
	f.holds(ledger.PayableDue("northwind"), "80.00")

	if r = f.plan("2026-12-14", c); len(r.Payouts) != 0 || r.Totals.NotNow != USD("80.00") || len(r.NotNow) != 1 {
		f.Fatalf("a day early: %+v, not now %+v", r.Payouts, r.NotNow)
	}
	r = f.approve(f.plan("2026-12-15", c), "a.kim")
	second := expect(r, "80.00", "0.00", "2026-09")
	f.submit(r)
	f.confirm(says(second, payouts.Refused, "2026-12-15", "W2"))

	r = f.approve(f.plan("2026-12-16", c), "a.kim")
	if third := expect(r, "80.00", "0.00", "2026-09"); third.Replaces != second.ID {
		f.Errorf("paid again: %+v", third)
	}
	f.submit(r)
	f.confirm(says(r.Payouts[0], payouts.Paid, "2026-12-16", "W3"))
	f.holds(ledger.PayableDue("northwind"), "0.00")
	Sound(f, f.desk)
}

// keptRows reads what is kept of a run, as it stands.
func keptRows(f *fixture) {
	f.fund("northwind", "100.00")
	f.fund("quill", "50.00")
	all := []payouts.Candidate{Candidate("northwind", f.bank.Trait.Name, "2026-10"), Candidate("quill", f.bank.Trait.Name, "2026-10")}
	r := f.approve(f.plan("2026-11-20", all...), "A.Kim")
	f.submit(r)
	north, quill := r.Payouts[0], r.Payouts[1]
	f.confirm(says(north, payouts.Paid, "2026-11-20", "W1"))
	hold := payouts.Hold{ID: "h-1", Partner: "quill", Currency: "USD", All: true, Reason: "dispute", By: "k.lee", At: At, On: Day("2026-11-20")}
	if _, err := f.desk.Hold(f.Context(), hold); err != nil {
		f.Fatal(err)
	}
	f.fund("baywell", "10.00")
	later := f.plan("2026-11-27", append(all, Candidate("baywell", f.bank.Trait.Name, "2026-10"))...)
	var got []payouts.Kept
	for k, err := range f.books.Kept(f.Context()) {
		if err != nil {
			f.Fatal(err)
		}
		got = append(got, k)
	}
	if len(got) != 3 || got[0].Run != r.ID || got[1].Run != later.ID || got[2].Run != "" {
		f.Fatalf("%d groups: %+v", len(got), got)
	}
	k := got[0]
	if len(k.Runs) != 1 || len(k.Plans) != 1 || len(k.Payouts) != 2 || len(k.Returns)+len(k.Holds)+len(k.Heads) != 0 {
		f.Errorf("rows of the run: %+v", k)
	}
	want := struct {
		Run       payouts.RunRow
		Approvals []payouts.ApprovalRow
		Attempts  []payouts.AttemptRow
		Receipts  []payouts.ReceiptRow
		Said      []payouts.ConfirmationRow
		Holds     []payouts.HoldRow
	}{
		payouts.RunRow{ID: r.ID, Revision: 1, PayOn: "2026-11-20", State: "part-settled"},
		[]payouts.ApprovalRow{{Run: r.ID, Revision: 1, Approver: "a.kim", By: "A.Kim", Content: r.Content, At: "2026-11-18T15:12:00.000000Z"}},
		[]payouts.AttemptRow{
			{Payout: north.ID, Number: 1, Key: north.ID + ".1", ParamsHash: f.payout(north.ID).Attempt.ParamsHash, At: "2026-11-19T15:12:00.000000Z", BookedOn: "2026-11-20"},
			{Payout: quill.ID, Number: 1, Key: quill.ID + ".1", ParamsHash: f.payout(quill.ID).Attempt.ParamsHash, At: "2026-11-19T15:12:00.000000Z", BookedOn: "2026-11-20"}},
		[]payouts.ReceiptRow{
			{Payout: north.ID, Number: 1, Outcome: "accepted", Ref: "bank-" + north.ID + ".1"},
			{Payout: quill.ID, Number: 1, Outcome: "accepted", Ref: "bank-" + quill.ID + ".1"}},
		[]payouts.ConfirmationRow{{Payout: north.ID, Outcome: "paid", Minor: 10000, BankOn: "2026-11-20", BankRef: "W1", By: "r.shah",
			At: "2026-12-18T15:12:00.000000Z", Source: "bank.csv line 2", BookedOn: "2026-11-20"}},
		[]payouts.HoldRow{{Hold: "h-1", Step: payouts.HoldPlaced, Partner: "quill", Currency: "USD", All: 1, Reason: "dispute", By: "k.lee",
			At: "2026-11-18T15:12:00.000000Z", On: "2026-11-20"}},
	}
	is := want
	is.Run, is.Approvals, is.Attempts, is.Receipts, is.Said, is.Holds = k.Runs[0], k.Approvals, k.Attempts, k.Receipts, k.Confirmations, got[2].Holds
	if diff := cmp.Diff(want, is); diff != "" {
		f.Errorf("rows (- want, + kept):\n%s", diff)
	}
	f.everyRowHasAFact(got)
	for range f.books.Kept(f.Context()) { // who stops early holds nothing
		break
	}
	f.approve(later, "a.kim")
}

// everyRowHasAFact compares rows with facts, and facts with their numbers.
func (f *fixture) everyRowHasAFact(all []payouts.Kept) {
	f.Helper()
	var last int64
	seen := map[int64]bool{}
	for _, k := range all {
		kept := map[string]string{}
		for _, x := range k.Facts {
			kept[string(x.Kind)+" "+x.Key] = x.Digest
			seen[x.Seq], last = true, max(last, x.Seq)
			if x.Run != k.Run {
				f.Errorf("fact %d of run %q is among those of run %q", x.Seq, x.Run, k.Run)
			}
		}
		for _, r := range k.Rows() {
			if x := r.Fact(); kept[string(x.Kind)+" "+x.Key] != x.Digest {
				f.Errorf("%s %s: digest %s, its fact says %q", x.Kind, x.Key, x.Digest, kept[string(x.Kind)+" "+x.Key])
			}
		}
	}
	heads := all[len(all)-1].Heads
	if len(heads) != 1 || heads[0] != (payouts.Head{ID: 1, Seq: last}) || int64(len(seen)) != last {
		f.Errorf("%d facts, the last is %d, heads %+v", len(seen), last, heads)
	}
}
