package pricing_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"mete/period"
	"mete/pricing"
)

func monthOf(t testing.TB, text string) period.Month {
	t.Helper()
	m, err := period.ParseMonth(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// netTerms is a contract whose payout block says when earnings are due; empty: it does not.
func netTerms(t testing.TB, due string) *pricing.Terms {
	t.Helper()
	payout := ""
	if due != "" {
		payout = "payout: {due: " + due + "}\n"
	}
	terms, err := pricing.ParseTerms("c.yaml", []byte("contract: c\npartner: quill\ncurrency: USD\nzone: UTC\neffective: {from: 2023-01-01}\n"+payout+
		"rules:\n  - {id: s, kind: share, of: sale.paid, platform: {rate: 15%}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	return terms
}

// TestDueDays: what follows from net terms, month by month.
func TestDueDays(t *testing.T) {
	const net45, quarterly, plain = "{lock_after: 1 month, pay_after: 15 days}", "{period: quarter, pay_after: 45 days}", "{pay_after: 30 days}"
	for _, c := range []struct{ due, month, lock, statement, on string }{
		{net45, "2025-01", "2025-02-28", "2025-03-01", "2025-03-15"},
		{net45, "2024-01", "2024-02-29", "2024-03-01", "2024-03-15"}, // a leap year
		{net45, "2025-02", "2025-03-31", "2025-04-01", "2025-04-15"}, // 28 February and one month is a month end too
		{net45, "2025-03", "2025-04-30", "2025-05-01", "2025-05-15"},
		{net45, "2025-11", "2025-12-31", "2026-01-01", "2026-01-15"},
		{net45, "2025-12", "2026-01-31", "2026-02-01", "2026-02-15"},
		{quarterly, "2025-01", "2025-03-31", "2025-04-01", "2025-05-15"},
		{quarterly, "2025-02", "2025-03-31", "2025-04-01", "2025-05-15"},
		{quarterly, "2025-03", "2025-03-31", "2025-04-01", "2025-05-15"},
		{quarterly, "2025-04", "2025-06-30", "2025-07-01", "2025-08-14"},
		{quarterly, "2025-09", "2025-09-30", "2025-10-01", "2025-11-14"},
		{quarterly, "2025-10", "2025-12-31", "2026-01-01", "2026-02-14"},
		{"{period: quarter, lock_after: 2 months, pay_after: 1 day}", "2023-11", "2024-02-29", "2024-03-01", "2024-03-01"},
		{plain, "2025-01", "2025-01-31", "2025-02-01", "2025-03-02"},
		{plain, "2024-01", "2024-01-31", "2024-02-01", "2024-03-01"},
		{"{period: month, lock_after: 1 year, pay_after: 1 day}", "2024-02", "2025-02-28", "2025-03-01", "2025-03-01"},
		{"{lock_after: 24 months, pay_after: 366 days}", "2024-02", "2026-02-28", "2026-03-01", "2027-03-01"},
	} {
		d := netTerms(t, c.due).Payout.Due.Of(monthOf(t, c.month))
		if got, want := fmt.Sprintln(d.LockOn, d.StatementOn, d.DueOn), fmt.Sprintln(c.lock, c.statement, c.on); got != want {
			t.Errorf("%s of %s: %swant %s", c.due, c.month, got, want)
		}
	}
}

// TestDueOfSeveral: of several terms the latest due day counts, and who has none is told.
func TestDueOfSeveral(t *testing.T) {
	early, late, none := netTerms(t, "{pay_after: 15 days}"), netTerms(t, "{period: quarter, pay_after: 45 days}"), netTerms(t, "")
	for name, c := range map[string]struct {
		terms  []*pricing.Terms
		on     string
		others bool
	}{
		"nothing in force": {nil, "", false},
		"none":             {[]*pricing.Terms{none}, "", true},
		"one":              {[]*pricing.Terms{early}, "2025-02-15", false},
		"one and none":     {[]*pricing.Terms{none, early}, "2025-02-15", true},
		"two":              {[]*pricing.Terms{early, late}, "2025-05-15", false},
		"two, turned":      {[]*pricing.Terms{late, early}, "2025-05-15", false},
		"all":              {[]*pricing.Terms{early, none, late}, "2025-05-15", true},
	} {
		due, others := pricing.DueOf(c.terms, monthOf(t, "2025-01"))
		got := ""
		if due != nil {
			got = due.DueOn.String()
		}
		if got != c.on || others != c.others {
			t.Errorf("%s: due on %q, others %t; want %q, %t", name, got, others, c.on, c.others)
		}
	}
	// A tie is decided by the lock day, whatever the order.
	a, b := netTerms(t, "{pay_after: 31 days}"), netTerms(t, "{lock_after: 1 month, pay_after: 3 days}")
	for _, both := range [][]*pricing.Terms{{a, b}, {b, a}} {
		if due, _ := pricing.DueOf(both, monthOf(t, "2025-01")); due.LockOn.String() != "2025-02-28" || due.DueOn.String() != "2025-03-03" {
			t.Errorf("a tie: %+v", due)
		}
	}
}

// TestDueDaysProperty: lock days are month ends, due days come after the statement could
// be made, and a later month is never due before an earlier one.
func TestDueDaysProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := pricing.DueTerms{Period: rapid.SampledFrom([]string{"month", "quarter"}).Draw(t, "period"),
			LockAfter: rapid.IntRange(0, 24).Draw(t, "lock after"), PayAfter: rapid.IntRange(1, 366).Draw(t, "pay after")}
		m := period.Month{Year: 2024, Month: 1}.Add(rapid.IntRange(0, 60).Draw(t, "month"))
		got, next := d.Of(m), d.Of(m.Add(1))
		switch {
		case got.LockOn != got.LockOn.MonthOf().Last():
			t.Fatalf("lock day %s is no month end", got.LockOn)
		case got.LockOn.Before(m.Last()) || got.StatementOn != got.LockOn.AddDays(1) || got.DueOn.Before(got.StatementOn):
			t.Fatalf("%s: %+v", m, got)
		case got.LockOn.DaysUntil(got.DueOn) != d.PayAfter:
			t.Fatalf("%s: %+v is not %d days after the lock day", m, got, d.PayAfter)
		case next.DueOn.Before(got.DueOn):
			t.Fatalf("%s is due %s and the month after %s", m, got.DueOn, next.DueOn)
		}
		base := m
		if d.Period == "quarter" {
			for int(base.Month)%3 != 0 {
				base = base.Add(1)
			}
		}
		if lock := got.LockOn.MonthOf(); lock != base.Add(d.LockAfter) {
			t.Fatalf("%s is locked in %s, want %d months after %s", m, lock, d.LockAfter, base)
		}
	})
}
