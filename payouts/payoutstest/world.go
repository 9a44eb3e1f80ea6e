package payoutstest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"mete/partner"
	"mete/payouts"
)

// worldPartners is how many partners [World] has.
const worldPartners = 12

// World is a desk at which everything happened that can: runs that are planned,
// planned again, sent back, partly approved, approved, partly handed over, submitted,
// partly settled and settled; payouts that are planned, in transit with and without an
// answer, settled, failed, returned before and after they settled, cancelled for each
// reason, and paid again; holds with and without an amount, in force and released.
func World(t testing.TB, books Books) *payouts.Desk {
	t.Helper()
	bank := &Bank{Trait: payouts.Traits{Name: "testbank", PerBatch: 1}, On: Day("2026-11-20")}
	desk := &payouts.Desk{Store: books, Books: books, Rails: map[string]payouts.Rail{"testbank": bank}}
	w := &making{TB: t, books: books, bank: bank, desk: desk}
	w.firstRun()
	w.paidAgain()
	w.otherRuns()
	w.holds()
	Sound(t, desk)
	return desk
}

// making is the world as it is made.
type making struct {
	testing.TB
	books Books
	bank  *Bank
	desk  *payouts.Desk
	given int
}

func (w *making) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func worldPartner(n int) partner.ID { return partner.ID(fmt.Sprintf("partner-%d", n)) }

func (w *making) fund(n int, amount string) {
	w.given++
	Fund(w.TB, w.books, fmt.Sprintf("world:%d", w.given), worldPartner(n), USD(amount))
}

// plan plans a run of everything that is due.
func (w *making) plan(on string) payouts.Run {
	w.Helper()
	var all []payouts.Candidate
	for n := range worldPartners {
		all = append(all, Candidate(worldPartner(n), "testbank", "2026-09", "2026-10"))
	}
	r, err := w.desk.Plan(w.Context(), Input("testbank", on, all...))
	w.must(err)
	if len(r.Payouts) == 0 {
		w.Fatalf("run %s pays nobody: %+v", r.ID, r.NotNow)
	}
	return r
}

func (w *making) approve(r payouts.Run, who ...string) payouts.Run {
	w.Helper()
	for _, by := range who {
		_, err := w.desk.Approve(w.Context(), payouts.Approval{Run: r.ID, Content: r.Short(), By: by, At: At.Add(time.Hour), Unauthenticated: by == "A.Kim"})
		w.must(err)
	}
	return r
}

func (w *making) submit(r payouts.Run) error {
	_, err := w.desk.Submit(w.Context(), payouts.Order{Run: r.ID, By: "m.ortiz", At: At.Add(24 * time.Hour)})
	return err
}

// says confirms the payout of a partner in a run.
func (w *making) says(r payouts.Run, n int, o payouts.Outcome, on, reason string) {
	w.Helper()
	for _, p := range r.Payouts {
		if p.Partner == worldPartner(n) {
			c := says(p, o, on, "W-"+p.ID+"-"+string(o))
			c.Reason = reason
			_, err := w.desk.Confirm(w.Context(), []payouts.Confirmation{c})
			w.must(err)
			return
		}
	}
	w.Fatalf("run %s does not pay %s", r.ID, worldPartner(n))
}

func (w *making) hold(id string, n int, amount string) {
	w.Helper()
	h := payouts.Hold{ID: id, Partner: worldPartner(n), Currency: "USD", Reason: "dispute of " + id, By: "k.lee", At: At, On: Day("2026-11-18"), Until: Day("2026-12-20"), All: amount == ""}
	if !h.All {
		h.Amount = USD(amount)
	}
	_, err := w.desk.Hold(w.Context(), h)
	w.must(err)
}

func (w *making) release(id string) {
	w.Helper()
	_, err := w.desk.Release(w.Context(), payouts.Release{ID: id, By: "r.shah", Why: "settled " + id, At: At.Add(time.Hour), On: Day("2026-11-19")})
	w.must(err)
}

// firstRun is planned three times, sent back once, and ends partly settled.
func (w *making) firstRun() {
	for n := range 6 {
		w.fund(n, fmt.Sprintf("%d00.00", n+1))
	}
	w.plan("2026-11-20")
	w.fund(0, "1.00")
	w.approve(w.plan("2026-11-20"), "A.Kim")
	_, err := w.desk.Return(w.Context(), payouts.SentBack{Run: "2026-11-20", By: "a.kim", At: At, Reason: "partner-0 looks wrong"})
	w.must(err)
	r := w.approve(w.plan("2026-11-20"), "A.Kim")
	w.hold("h-gone", 4, "500.00") // its payout is cancelled when the run is submitted
	w.must(w.submit(r))
	w.says(r, 0, payouts.Paid, "2026-11-20", "")
	w.says(r, 1, payouts.Refused, "2026-11-20", "account closed")
	w.says(r, 2, payouts.Paid, "2026-11-20", "")
	w.says(r, 2, payouts.CameBack, "2026-11-24", "wrong name")
	w.says(r, 3, payouts.CameBack, "2026-11-23", "unknown payee") // before it settled
}

// paidAgain pays what came back, with two approvers, and stops at an answer that is
// lost: one payout is in transit without a receipt, the others are planned.
func (w *making) paidAgain() {
	w.fund(6, "150000.00")
	r := w.approve(w.plan("2026-11-23"), "a.kim", "r.shah")
	lost := errors.New("connection lost")
	w.bank.After = func(payouts.Batch) error { return lost }
	if err := w.submit(r); !errors.Is(err, lost) {
		w.Fatalf("the answer is not lost: %v", err)
	}
	w.bank.After = nil
}

// otherRuns are one in each other state.
func (w *making) otherRuns() {
	w.fund(7, "70.00")
	w.bank.Answer = payouts.Paid
	w.must(w.submit(w.approve(w.plan("2026-11-24"), "a.kim"))) // settled by its receipts
	w.bank.Answer = ""
	w.fund(8, "80.00")
	w.must(w.submit(w.approve(w.plan("2026-11-25"), "a.kim"))) // submitted
	w.fund(9, "90.00")
	w.approve(w.plan("2026-11-27"), "a.kim") // approved
	w.fund(10, "200000.00")
	w.approve(w.plan("2026-11-30"), "a.kim") // one of two approvals
	w.fund(11, "110.00")
	w.plan("2026-12-01")
	_, err := w.desk.Return(w.Context(), payouts.SentBack{Run: "2026-12-01", By: "a.kim", At: At, Reason: "wait"})
	w.must(err)
}

func (w *making) holds() {
	w.fund(0, "90.00")
	w.hold("h-part", 0, "40.00")
	w.hold("h-past", 0, "50.00")
	w.release("h-past")
	w.hold("h-all", 11, "")
	w.hold("h-none", 8, "") // nothing is due
	w.hold("h-over", 7, "")
	w.release("h-over")
}
