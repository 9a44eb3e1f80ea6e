package billing_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"mete/billing"
	"mete/partner"
	"mete/period"
)

// trust is a quality rule in the contract of scheduler.
func trust(t *testing.T) string {
	return changed(t, "contract: northwind-scheduling", "{from: 2026-01-01}\n", "{from: 2026-01-02}\n", "  refunds: at_original_rate\n- id: calls",
		"  refunds: at_original_rate\n- id: trust\n  kind: quality\n  adjusts: subscriptions\n  bands: [{when: availability < 0.9, platform_rate: +5 points}, {when: certification.state == 'overdue', platform_rate: +2 points}]\n- id: calls")
}

// appeal opens an appeal about scheduler.
func (w *world) appeal(t *testing.T, m period.Month, measure string) billing.Appeal {
	t.Helper()
	a, err := w.closer.OpenAppeal(t.Context(), billing.Appeal{App: "scheduler", Month: m, Measure: measure, Reason: "the gateway was down", OpenedBy: "n.roy", OpenedAt: closedAt(m).Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (w *world) accept(t *testing.T, a billing.Appeal, value string) {
	t.Helper()
	if _, err := w.closer.DecideAppeal(t.Context(), a.ID, billing.AppealDecision{Accepted: true, Value: value, Reason: "so it was", By: "s.lind", At: closedAt(a.Month)}); err != nil {
		t.Fatal(err)
	}
}

// An accepted appeal comes to the same whenever it is decided: before the close on the
// month's own statement, after it as a difference, and no closed statement changes.
func TestAppealComesToTheSame(t *testing.T) {
	begin := func() *world {
		w := testWorld(t)
		w.agree(t, trust(t))
		for i, status := range []int{200, 503, 200} {
			e := calls(string(rune('a'+i)), "scheduler", "mesa", noon(jan, 6+i), 1)
			e.Data.Status = status
			w.deliver(t, 0, e)
		}
		w.deliver(t, 1, sale("s", "scheduler", "lakeside", noon(jan, 14), "2000.00"), sale("f", "scheduler", "lakeside", noon(feb, 14), "700.00"),
			refund("r", sale("s", "scheduler", "lakeside", noon(jan, 14), "2000.00"), noon(feb, 20), "400.00"))
		return w
	}
	var sums []map[string]int64
	for decided := range 4 { // before January's close, February's, March's; never
		w := begin()
		a := w.appeal(t, jan, "availability")
		digests := map[string]string{}
		for i := range 3 {
			if i == decided {
				w.accept(t, a, "0.95")
			}
			w.closeMonth(t, jan.Add(i))
			for id, d := range digests {
				if w.digests(t)[id] != d {
					t.Errorf("decided before close %d: statement %s changed", decided, id)
				}
			}
			digests = w.digests(t)
		}
		w.checkAll(t)
		w.explainAll(t)
		sums = append(sums, withoutZeros(w.lines(t)))
		got, err := w.closer.Appeal(t.Context(), a.ID)
		if err != nil {
			t.Fatal(err)
		}
		if want := (map[bool]period.Month{true: jan.Add(decided)})[decided < 3]; got.CarriedBy != want {
			t.Errorf("decided before close %d: carried by %s", decided, got.CarriedBy)
		}
	}
	for i := 1; i < 3; i++ {
		if d := differ(sums[i], sums[0]); len(d) > 0 {
			t.Errorf("decided before the close of %s: %q", jan.Add(i), d)
		}
	}
	if len(differ(sums[3], sums[0])) == 0 {
		t.Errorf("the appeal moves nothing: %v", sums[0])
	}
}

func TestAppealsAreRefused(t *testing.T) {
	w := testWorld(t)
	w.agree(t, trust(t))
	w.deliver(t, 0, calls("c", "scheduler", "mesa", noon(jan, 6), 3))
	for _, c := range []struct {
		a    billing.Appeal
		want string
	}{
		{billing.Appeal{App: "scheduler", Measure: "availability", Reason: "x"}, "the name of who opens it"},
		{billing.Appeal{App: "scheduler", Measure: "availability", OpenedBy: "n"}, "a reason is needed"},
		{billing.Appeal{App: "scheduler", Measure: "availability", OpenedBy: "n", Reason: strings.Repeat("x", 501)}, "at most 500 bytes"},
		{billing.Appeal{App: "scheduler", Measure: "uptime", OpenedBy: "n", Reason: "x"}, `"uptime" is no measure`},
		{billing.Appeal{App: "scheduler", Measure: "certification.tier", OpenedBy: "n", Reason: "x"}, "stands in a document"},
		{billing.Appeal{App: "nobody", Measure: "availability", OpenedBy: "n", Reason: "x"}, "no contract in force"},
	} {
		c.a.Month = jan
		if _, err := w.closer.OpenAppeal(t.Context(), c.a); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.a, err, c.want)
		}
	}
	a := w.appeal(t, jan, "certification.state")
	for value, want := range map[string]string{"fine": `"fine" is no state of a certification`, "": "needs the corrected value"} {
		if _, err := w.closer.DecideAppeal(t.Context(), a.ID, billing.AppealDecision{Accepted: true, Value: value, Reason: "x", By: "s"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("accepted with %q: %v", value, err)
		}
	}
	if _, err := w.closer.DecideAppeal(t.Context(), a.ID, billing.AppealDecision{Accepted: true, Value: "valid", Reason: "x", By: "n.roy"}); !errors.Is(err, billing.ErrState) {
		t.Errorf("decided by who opened it: %v", err)
	}
	n := w.appeal(t, jan, "calls")
	for value, want := range map[string]string{"-1": "is no count", "1.5": "is no count", "two": "is no count"} {
		if _, err := w.closer.DecideAppeal(t.Context(), n.ID, billing.AppealDecision{Accepted: true, Value: value, Reason: "x", By: "s"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("calls corrected to %q: %v", value, err)
		}
	}
}

// A certification that an appeal corrects holds for all days; what was kept of an
// appeal is part of what verify derives.
func TestAppealOfACertificationIsVerified(t *testing.T) {
	w := testWorld(t)
	w.agree(t, trust(t))
	w.deliver(t, 0, calls("c", "scheduler", "mesa", noon(jan, 6), 3), fact("review.decided", "r", noon(jan.Add(-12), 15), "approved", ""),
		sale("s", "scheduler", "lakeside", noon(jan, 20), "2000.00"))
	before, _, err := w.closer.Scorecard(t.Context(), "scheduler", jan)
	if err != nil {
		t.Fatal(err)
	}
	if len(before.Card.Standings) != 2 {
		t.Fatalf("overdue from the 16th on: %+v", before.Card)
	}
	w.accept(t, w.appeal(t, jan, "certification.state"), "valid")
	open := w.appeal(t, jan, "incidents.open")
	w.closeMonth(t, jan)
	after, frozen, err := w.closer.Scorecard(t.Context(), partner.AppID("scheduler"), jan)
	if err != nil {
		t.Fatal(err)
	}
	if c := after.Card; !frozen || c.Certification.State != "valid" || len(c.Standings) != 0 || len(c.Corrections) != 1 || len(c.Appealed) != 1 || c.Appealed[0].Appeal != open.ID {
		t.Errorf("frozen %v: %+v", frozen, c)
	}
	if got := w.lines(t)[`northwind northwind-scheduling/trust quality "" 2026-01 USD`]; got != 0 {
		t.Errorf("the adjustment is %d", got)
	}
	w.checkAll(t)
	w.explainAll(t)
	c := w.copy(t)
	t.Cleanup(c.remove)
	if c.exec(t, relationalFile, `DROP TRIGGER appeal_decisions_no_update`, `UPDATE appeal_decisions SET content = json_set(content, '$.value', 'overdue')`) == 0 {
		t.Fatal("nothing altered")
	}
	v, err := c.closer.Verify(t.Context(), jan)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(v.Findings, func(f billing.Finding) bool { return f.Check == "scorecard" && f.Where == "scheduler" }) {
		t.Errorf("an altered decision is not found: %v", v.Findings)
	}
}

// An open month is simulated with its provisional scorecards.
func TestSimulationScoresOpenMonths(t *testing.T) {
	w := testWorld(t)
	w.agree(t, trust(t))
	e := calls("c", "scheduler", "mesa", noon(jan, 6), 1)
	e.Data.Status = 503
	w.deliver(t, 0, e, sale("s", "scheduler", "lakeside", noon(jan, 14), "2000.00"))
	s := w.simulate(t, jan, jan, trust(t))
	if len(s.Accounts) != 1 || s.Accounts[0].Old.Charges.Plain() != "200.00" || s.Accounts[0].Difference.Minor != 0 {
		t.Errorf("15%% and 5 points of the 1,000.00 above the first: %+v", s.Accounts)
	}
}
