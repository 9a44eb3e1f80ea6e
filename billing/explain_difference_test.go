package billing_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"mete/billing"
	"mete/period"
)

// explainAll explains every difference: both sides are what closes kept, and apart by
// the line's amount.
func (w *world) explainAll(t tester) {
	t.Helper()
	all, err := w.db.Statements(context.Background(), period.Month{}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		for _, l := range s.Lines {
			x, err := w.closer.Explain(context.Background(), s.ID, l.Number, 0)
			if err != nil {
				t.Fatal(err)
			}
			if l.Section != billing.Corrections || l.Adjustment != "" {
				if x.Was != nil || x.Is != nil {
					t.Fatalf("%s line %d has two sides and is no difference", s.ID, l.Number)
				}
				continue
			}
			if d, err := x.Is.Amount.Sub(x.Was.Amount); err != nil || d != l.Amount {
				t.Fatalf("%s line %d: from %s to %s, the line says %s", s.ID, l.Number, x.Was.Amount, x.Is.Amount, l.Amount)
			}
			if len(x.Is.Terms) == 0 {
				t.Fatalf("%s line %d: no terms: %+v", s.ID, l.Number, x.Is)
			}
		}
	}
}

// explained is a line as explain prints it.
func (w *world) explained(t *testing.T, s billing.StatementID, number int) string {
	t.Helper()
	x, err := w.closer.Explain(t.Context(), s, number, 10)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := x.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestExplainOfCorrectedTerms: a difference that corrected terms made shows the month as
// it was and as it is, each under its terms and with its arithmetic, and the sales behind
// it, which came in time. What was closed before is explained as it was, and a second
// correction begins where the first one ended.
func TestExplainOfCorrectedTerms(t *testing.T) {
	w := testWorld(t)
	w.deliver(t, 0, sale("a", "scheduler", "lakeside", noon(jan, 10), "1400.00"), sale("b", "scheduler", "lakeside", noon(jan, 20), "600.00"))
	w.closeMonth(t, jan)
	w.agreeAt(t, rightTerms(t), time.Date(2026, 2, 20, 12, 0, 0, 0, time.UTC))
	w.closeMonth(t, feb)
	again := strings.NewReplacer("corrects: 1", "corrects: 2", "from: 2026-01-15", "from: 2026-01-20", "rate: 12.5%}", "rate: 10%}").Replace(rightTerms(t))
	w.agreeAt(t, again, time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC))
	w.closeMonth(t, mar)
	w.explainAll(t)

	all, err := w.db.Statements(t.Context(), period.Month{}, "")
	if err != nil {
		t.Fatal(err)
	}
	var found [][2]any
	for _, s := range all {
		for _, l := range s.Lines {
			if l.Section == billing.Corrections && l.Part == "share" {
				found = append(found, [2]any{s.ID, l.Number})
			}
		}
	}
	if len(found) != 2 {
		t.Fatalf("%d differences of the share, want one of each correction", len(found))
	}
	wants := [][]string{{
		"because corrected terms: version 2 of northwind-scheduling takes the place of version 1 from 2026-01-15 on",
		"2026-01 as it was, by the close of 2026-01 -150.00 USD",
		"under northwind-scheduling v1 from 2026-01-01 to 2026-01-31",
		"1,000.00 to 3,000.00 at 15% 1,000 × -0.15 = -150",
		"2026-01 as it is, by the close of 2026-02 -135.00 USD",
		"under northwind-scheduling v1 from 2026-01-01 to 2026-01-14, v2 from 2026-01-15 to 2026-01-31 (corrects version 1)",
		"1,000.00 to 3,000.00 at 12.5% 600 × -0.125 = -75",
		"sale.paid 600.00 USD",
	}, {
		"2026-01 as it was, by the close of 2026-02 -135.00 USD",
		"2026-01 as it is, by the close of 2026-03 -120.00 USD",
		"v2 from 2026-01-15 to 2026-01-19 (corrects version 1), v3 from 2026-01-20 to 2026-01-31 (corrects version 2)",
	}}
	for i, f := range found {
		text := strings.Join(strings.Fields(w.explained(t, f[0].(billing.StatementID), f[1].(int))), " ")
		for _, want := range wants[i] {
			if !strings.Contains(text, strings.TrimSpace(want)) {
				t.Errorf("no %q in the explanation of difference %d:\n%s", want, i+1, w.explained(t, f[0].(billing.StatementID), f[1].(int)))
			}
		}
	}
	if text := w.explained(t, "meridian-us.northwind.usd.2026-01", 2); strings.Contains(text, "as it is") || strings.Contains(text, "v2") {
		t.Errorf("what was closed before the correction is explained by it:\n%s", text)
	}

	// What closes kept is held against the line.
	w.exec(t, relationalFile, fmt.Sprintf(`UPDATE priced_groups SET result = replace(result, '-135.00', '-134.00') WHERE close_month = '%s' AND month = '%s'`, feb, jan))
	if _, err := w.closer.Explain(t.Context(), found[0][0].(billing.StatementID), found[0][1].(int), 0); err == nil || !strings.Contains(err.Error(), "mete verify 2026-02 says what was altered") {
		t.Errorf("explained what was altered: %v", err)
	}
}

// TestExplainOfAnotherDeal: where a correction moves sales from one contract to another,
// its differences say whose sales they are and which, by the terms of the close that
// posted them; lines that were closed before say so by theirs.
func TestExplainOfAnotherDeal(t *testing.T) {
	w := testWorld(t)
	w.agree(t, specific("deal", "deal: D-17", "10%"))
	wrong, right := sale("wrong", "scheduler", "mesa", noon(jan, 5), "100.00"), sale("right", "scheduler", "mesa", noon(jan, 6), "30.00")
	wrong.Data.Deal, right.Data.Deal = "D-17", "D-18"
	w.deliver(t, 0, wrong, right)
	w.closeMonth(t, jan)
	w.agreeAt(t, strings.Replace(specific("deal", "deal: D-18", "10%"), "\n", "\ncorrects: 1\n", 1), time.Date(2026, 2, 20, 12, 0, 0, 0, time.UTC))
	w.closeMonth(t, feb)
	w.checkAll(t)
	w.explainAll(t)
	got := map[string]string{}
	all, err := w.db.Statements(t.Context(), period.Month{}, "northwind")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		for _, l := range s.Lines {
			if l.Part != "sales" {
				continue
			}
			x, err := w.closer.Explain(t.Context(), s.ID, l.Number, 10)
			if err != nil {
				t.Fatal(err)
			}
			text := l.Amount.String() + ":"
			for _, e := range x.Events {
				text += " " + e.ID
			}
			got[s.Month.String()+" "+l.Contract] = text + "; " + strings.Join(x.Others, "; ")
		}
	}
	for k, want := range map[string]string{
		"2026-01 northwind-deal":       "100.00 USD: wrong; northwind-deal is for deal D-17: it takes them before northwind-scheduling, which is for app scheduler",
		"2026-01 northwind-scheduling": "30.00 USD: right; without what northwind-deal takes before northwind-scheduling: it is for deal D-17, northwind-scheduling for app scheduler",
		"2026-02 northwind-deal":       "-70.00 USD: right; northwind-deal is for deal D-18: it takes them before northwind-scheduling, which is for app scheduler",
		"2026-02 northwind-scheduling": "70.00 USD: wrong; without what northwind-deal takes before northwind-scheduling: it is for deal D-18, northwind-scheduling for app scheduler",
	} {
		if got[k] != want {
			t.Errorf("%s\n     %s\nwant %s", k, got[k], want)
		}
	}
	if says := w.trace(t, right); !strings.Contains(says, "on statement meridian-us.northwind.usd.2026-02") || strings.Count(says, "Sales") != 2 {
		t.Errorf("right is %s", says)
	}
}
