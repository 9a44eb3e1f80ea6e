package payouts_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/payouts"
	"mete/payouts/payoutstest"
	"mete/period"
	"mete/store"
)

// propertyTime bounds the random sequences; from propertyLeast on, all kinds of things
// must have happened in them.
const (
	propertyTime  = 40 * time.Second
	propertyLeast = 60
)

var errLost = errors.New("connection lost")

// world is a marketplace with a few partners, a desk and a bank that sometimes does
// not answer. due is what the partners were ever given, the model's one number.
type world struct {
	desk     *payouts.Desk
	db       *store.DB
	bank     *payoutstest.Bank
	partners []partner.ID
	given    map[partner.ID]int64
	taken    map[partner.ID]bool // was ever given a negative amount
	runs     []string
	day      period.Date
	facts    int
	holds    []string
	kinds    map[string]int // what happened, over all checks
}

func (w *world) candidates() []payouts.Candidate {
	var all []payouts.Candidate
	for _, p := range w.partners {
		all = append(all, payoutstest.Candidate(p, "testbank", "2026-10"))
	}
	return all
}

func (w *world) fund(t *rapid.T) {
	p := rapid.SampledFrom(w.partners).Draw(t, "partner")
	minor := rapid.Int64Range(-50_00, 300_00).Draw(t, "minor")
	if minor == 0 {
		return
	}
	w.facts++
	amount := money.New(minor, "USD")
	e := ledger.Entry{ID: fmt.Sprintf("test:%d", w.facts), Kind: "opening", ValueOn: payoutstest.Day("2026-11-10"), BookedOn: payoutstest.Day("2026-11-10"), Memo: "given",
		Postings: []ledger.Posting{{Account: ledger.Opening(), Amount: amount}, {Account: ledger.PayableDue(string(p)), Amount: amount.Neg()}}}
	if err := w.db.Post(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	w.given[p] += minor
	w.taken[p] = w.taken[p] || minor < 0
}

// week is an ordinary week: a run is planned, approved and submitted.
func (w *world) week(t *rapid.T) {
	w.fund(t)
	w.plan(t)
	id := w.runs[len(w.runs)-1]
	r, err := w.db.PayoutRun(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.desk.Approve(t.Context(), payouts.Approval{Run: r.ID, Content: r.Short(), By: "a.kim", At: payoutstest.At})
	expected(t, err, payouts.ErrApproval)
	if rapid.IntRange(0, 3).Draw(t, "hold meanwhile") == 0 {
		w.hold(t)
	}
	w.submit(t)
}

func (w *world) plan(t *rapid.T) {
	w.day = w.day.AddDays(1)
	for (period.Calendar{}).IsBusinessDay(w.day) == false {
		w.day = w.day.AddDays(1)
	}
	in := payoutstest.Input("testbank", w.day.String(), w.candidates()...)
	in.Rules = payouts.DefaultRules("USD")
	in.Rules.ScreeningDays = 0
	r, err := w.desk.Plan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	w.kinds["payouts planned"] += len(r.Payouts)
	w.runs = append(w.runs, r.ID)
}

func (w *world) run(t *rapid.T) (payouts.Run, bool) {
	if len(w.runs) == 0 {
		return payouts.Run{}, false
	}
	r, err := w.db.PayoutRun(t.Context(), rapid.SampledFrom(w.runs).Draw(t, "run"))
	if err != nil {
		t.Fatal(err)
	}
	return r, true
}

func (w *world) approve(t *rapid.T) {
	if r, ok := w.run(t); ok {
		_, err := w.desk.Approve(t.Context(), payouts.Approval{Run: r.ID, Content: r.Short(), By: "a.kim", At: payoutstest.At})
		expected(t, err, payouts.ErrState, payouts.ErrApproval)
	}
}

// submit submits with a connection that is lost before or after the bank acts, the
// outcome of a crash at that place, or not at all.
func (w *world) submit(t *rapid.T) {
	r, ok := w.run(t)
	if !ok {
		return
	}
	lost := func(payouts.Batch) error { return errLost }
	w.bank.Before, w.bank.After, w.bank.Forget = nil, nil, false
	switch rapid.SampledFrom([]string{"works", "works", "lost before", "lost after", "lost and forgotten"}).Draw(t, "connection") {
	case "lost before":
		w.bank.Before = lost
	case "lost after":
		w.bank.After = lost
	case "lost and forgotten":
		w.bank.After, w.bank.Forget = lost, true
	}
	s, err := w.desk.Submit(t.Context(), payouts.Order{Run: r.ID, By: "m.ortiz", At: payoutstest.At})
	expected(t, err, payouts.ErrState, payouts.ErrApproval, payouts.ErrUnknown)
	w.kinds["accepted"] += len(s.Accepted)
	w.kinds["unknown"] += len(s.Unknown)
	w.kinds["cancelled"] += len(s.Cancelled)
}

// confirm lets the bank say something about a payout, true or not.
func (w *world) confirm(t *rapid.T) {
	r, ok := w.run(t)
	if !ok || len(r.Payouts) == 0 {
		return
	}
	p := rapid.SampledFrom(r.Payouts).Draw(t, "payout")
	o := rapid.SampledFrom([]payouts.Outcome{payouts.Paid, payouts.Paid, payouts.Refused, payouts.CameBack}).Draw(t, "outcome")
	c := payouts.Confirmation{Payout: p.ID, Outcome: o, Amount: p.Amount, BankOn: p.PayOn, BankRef: "W-" + p.ID, By: "r.shah", At: payoutstest.At.AddDate(1, 0, 0), Source: "bank.csv"}
	out, err := w.desk.Confirm(t.Context(), []payouts.Confirmation{c})
	expected(t, err, payouts.ErrState, payouts.ErrConflict)
	if len(out.Booked) > 0 {
		w.kinds[string(o)]++
	}
}

func (w *world) hold(t *rapid.T) {
	p := rapid.SampledFrom(w.partners).Draw(t, "partner")
	w.facts++
	h := payouts.Hold{ID: fmt.Sprintf("h-%d", w.facts), Partner: p, Currency: "USD", Reason: "dispute", By: "k.lee", At: payoutstest.At, On: payoutstest.Day("2026-11-12")}
	if h.All = rapid.Bool().Draw(t, "all"); !h.All {
		h.Amount = money.New(rapid.Int64Range(1, 200_00).Draw(t, "minor"), "USD")
	}
	_, err := w.desk.Hold(t.Context(), h)
	expected(t, err, payouts.ErrShort)
	if err == nil {
		w.holds = append(w.holds, h.ID)
		w.kinds["held"]++
	}
}

func (w *world) release(t *rapid.T) {
	if len(w.holds) > 0 {
		_, err := w.desk.Release(t.Context(), payouts.Release{ID: rapid.SampledFrom(w.holds).Draw(t, "hold"), By: "r.shah", Why: "settled", At: payoutstest.At, On: payoutstest.Day("2026-11-13")})
		expected(t, err)
	}
}

func expected(t *rapid.T, err error, kinds ...error) {
	t.Helper()
	for _, k := range kinds {
		if errors.Is(err, k) {
			return
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// check compares the books, the payouts and the bank, and lets the desk do so.
func (w *world) check(t *rapid.T) {
	a, err := w.desk.Check(t.Context())
	if err != nil || len(a.Findings) > 0 {
		t.Fatalf("the desk finds %v, %v", a.Findings, err)
	}
	balances, err := w.db.Balances(t.Context(), ledger.Filter{Currency: "USD"})
	if err != nil {
		t.Fatal(err)
	}
	books := map[ledger.Account]int64{}
	var sum int64
	for _, b := range balances {
		books[b.Account] = b.Amount.Minor
		sum += b.Amount.Minor
	}
	if sum != 0 {
		t.Fatalf("the ledger sums to %d", sum)
	}
	all, err := w.db.Payouts(t.Context(), payouts.PayoutFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var transit, cash int64
	out := map[partner.ID]int64{}
	open := map[partner.ID]int{}
	moved := w.bank.Moved()
	for _, p := range all {
		switch p.State {
		case payouts.InTransit:
			transit += p.Amount.Minor
			out[p.Partner] += p.Amount.Minor
		case payouts.Settled:
			cash += p.Amount.Minor
			out[p.Partner] += p.Amount.Minor
		case payouts.Planned, payouts.Cancelled:
			if moved[p.ID] != 0 {
				t.Fatalf("payout %s is %s and the bank moved it", p.ID, p.State)
			}
		}
		if p.State.Open() {
			open[p.Partner]++
		}
		if moved[p.ID] > 1 {
			t.Fatalf("payout %s moved %d times", p.ID, moved[p.ID])
		}
	}
	if books[ledger.InTransit("testbank")] != -transit {
		t.Fatalf("in transit: books %d, payouts %d", -books[ledger.InTransit("testbank")], transit)
	}
	if books[ledger.Cash("testbank")] != -cash {
		t.Fatalf("cash: books %d, payouts %d", books[ledger.Cash("testbank")], -cash)
	}
	for _, p := range w.partners {
		due, held := -books[ledger.PayableDue(string(p))], -books[ledger.PayableHeld(string(p))]
		if due+held+out[p] != w.given[p] {
			t.Fatalf("%s: given %d, due %d + held %d + in transit or paid %d", p, w.given[p], due, held, out[p])
		}
		if due < 0 && !w.taken[p] {
			t.Fatalf("%s: due %d, though nothing was ever taken back", p, due)
		}
		if held < 0 {
			t.Fatalf("%s: held %d", p, held)
		}
		if open[p] > 1 {
			t.Fatalf("%s has %d open payouts", p, open[p])
		}
	}
}

// emptyStore is the file of a store with a schema and nothing in it.
func emptyStore(t *testing.T, dir string) []byte {
	t.Helper()
	path := filepath.Join(dir, "empty.db")
	db, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestNothingIsPaidTwice plays random weeks at the desk: money coming in and going
// back, plans, approvals, submits that lose their connection, holds, and banks that
// say true and false things. After every step books, payouts and bank agree.
func TestNothingIsPaidTwice(t *testing.T) {
	kinds := map[string]int{}
	n, start := 0, time.Now()
	dir := tempDir(t)
	empty := emptyStore(t, dir)
	rapid.Check(t, func(t *rapid.T) {
		if time.Since(start) > propertyTime {
			return
		}
		n++
		path := filepath.Join(dir, fmt.Sprintf("mete-%d.db", n))
		if err := os.WriteFile(path, empty, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := store.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		defer db.Close()
		bank := &payoutstest.Bank{Trait: payouts.Traits{PerBatch: rapid.IntRange(0, 2).Draw(t, "per batch"), KeyLife: time.Hour}}
		w := &world{db: db, bank: bank, partners: []partner.ID{"northwind", "baywell", "quill"}, given: map[partner.ID]int64{}, taken: map[partner.ID]bool{}, day: payoutstest.Day("2026-11-19"), kinds: kinds,
			desk: &payouts.Desk{Store: db, Books: db, Rails: map[string]payouts.Rail{"testbank": bank}}}
		for range 3 {
			w.fund(t)
		}
		t.Repeat(map[string]func(*rapid.T){
			"": w.check, "fund": w.fund, "plan": w.plan, "week": w.week, "another week": w.week, "approve": w.approve, "approve another": w.approve, "submit": w.submit, "submit again": w.submit,
			"confirm": w.confirm, "confirm another": w.confirm, "hold": w.hold, "release": w.release,
		})
	})
	t.Logf("%d sequences; what happened: %v", n, kinds)
	if n < propertyLeast {
		return // a slow machine: nothing can be said about what is rare
	}
	for _, k := range []string{"payouts planned", "accepted", "unknown", "cancelled", "paid", "failed", "returned", "held"} {
		if kinds[k] == 0 {
			t.Errorf("%s never happened", k)
		}
	}
}
