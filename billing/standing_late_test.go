package billing_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mete/billing"
	"mete/metering"
	"mete/partner"
	"mete/period"
)

// certified are contracts whose rates and discounts depend on the certification: of the
// day of a sale, of the days overdue, of the month's end.
func certified(t *testing.T) []string {
	t.Helper()
	return []string{
		changed(t, "contract: northwind-scheduling", "{from: 2026-01-01}\n", "{from: 2026-01-02}\n", "{to: 1000, rate: 0%}", "{to: 1000, rate: 4%}", "  refunds: at_original_rate\n- id: calls", `  refunds: at_original_rate
- id: trust
  kind: quality
  adjusts: subscriptions
  gate: {require: certification.state != 'suspended', otherwise: +9 points}
  bands:
  - {when: certification.state == 're-review', platform_rate: +5 points}
  - {when: certification.overdue_days > 5, platform_rate: +3 points}
  - {when: certification.state == 'valid', platform_rate: -2 points}
- id: calls`, "{unit: 0.007}]}", `{unit: 0.007}]}
- {id: good, kind: discount, on: [calls], percent: 50%, when: certification.state == 'valid' || certification.state == 'due'}`),
		changed(t, "contract: quill-notes", "{from: 2026-01-01}\n", "{from: 2026-01-02}\n", "  refunds: platform_keeps_share\n", `  refunds: platform_keeps_share
- id: trust
  kind: quality
  adjusts: subscriptions
  factors: [{when: certification.state == 'overdue', times: 1.3}, {when: certification.state == 'none', times: 1.1}]
`),
	}
}

// drawFacts makes up facts of certifications, from half a year before the first month
// on, some of them voided, and how late each is delivered.
func drawFacts(t *rapid.T) []due {
	var out []due
	deliver := func(e metering.Event) {
		m := period.MonthOf(e.Time, time.UTC)
		late := rapid.SampledFrom([]int{0, 0, 1, 1, lateMonths}).Draw(t, "late fact")
		if m.Before(jan) { // known when the first month is closed, or late for that
			late += (jan.Year-m.Year)*12 + int(jan.Month-m.Month)
		}
		out = append(out, due{e, late})
	}
	for i := range rapid.IntRange(2, 12).Draw(t, "facts") {
		app := rapid.SampledFrom([]partner.AppID{"scheduler", "scheduler", "notes"}).Draw(t, "app of fact")
		at := jan.Add(-6).First().In(time.UTC).Add(time.Duration(rapid.IntRange(9, (6+months)*30*24).Draw(t, "hour of fact")) * time.Hour)
		of := func(typ, reference, refersTo string) metering.Event {
			e := fact(typ, fmt.Sprintf("f%02d", i), at, reference, refersTo)
			e.Data.App = app
			return e
		}
		var e metering.Event
		switch rapid.SampledFrom([]string{"review", "review", "review", "suspended", "scope", "scope", "extension", "closed"}).Draw(t, "fact") {
		case "review":
			e = of(metering.ReviewDecided, "approved", "")
		case "suspended":
			e = of(metering.ReviewDecided, "suspended", "")
		case "scope":
			e = of(metering.ScopeChanged, "", "")
		case "extension":
			until := period.DateOf(at, time.UTC).AddDays(rapid.IntRange(0, 90).Draw(t, "days"))
			e = of(metering.ExceptionGranted, fmt.Sprintf("until %s by s.l: why", until), "")
		case "closed":
			e = of(metering.ExceptionClosed, "", fmt.Sprintf("f%02d", rapid.IntRange(0, 11).Draw(t, "exception")))
		}
		deliver(e)
		if rapid.IntRange(0, 5).Draw(t, "voided") == 0 {
			deliver(void(e.ID+"-void", e, e.Time.Add(time.Minute)))
		}
	}
	end := jan.Add(months).First().In(time.UTC)
	return slices.DeleteFunc(out, func(d due) bool { return !d.Time.Before(end) })
}

// TestStandingsLateOrNot: whenever the facts of certifications arrive, and whatever else
// is late, statements add up, key by key and cent by cent, to what they come to where all
// of it was there in time; closed statements and frozen scorecards stay.
func TestStandingsLateOrNot(t *testing.T) {
	docs := certified(t)
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		events := append(drawEvents(t), drawFacts(t)...)
		for i := range rapid.IntRange(3, 9).Draw(t, "sales") { // of apps that are certified
			app := rapid.SampledFrom([]partner.AppID{"scheduler", "notes"}).Draw(t, "app of sale")
			at := jan.First().In(time.UTC).Add(time.Duration(rapid.IntRange(9, months*29*24).Draw(t, "hour of sale")) * time.Hour)
			events = append(events, due{sale(fmt.Sprintf("s%02d", i), app, "mesa", at, "310.70"), rapid.IntRange(0, lateMonths).Draw(t, "late sale")})
		}
		late, onTime := newWorld(t), newWorld(t)
		defer late.remove()
		defer onTime.remove()
		for m := jan; m.Before(jan.Add(months)); m = m.Add(1) { // what the discount takes off
			events = append(events, due{calls("u"+m.String(), "scheduler", "mesa", noon(m, 9), 400), 0})
		}
		for _, w := range []*world{late, onTime} {
			for _, d := range docs {
				w.agreeAt(t, d, early)
			}
		}
		for _, d := range events {
			onTime.deliver(t, 0, d.Event)
		}
		frozen := map[period.Month]string{}
		for m := jan; m.Before(jan.Add(months + lateMonths)); m = m.Add(1) {
			seen["late"] += deliverMonth(t, late, events, m)
			late.closeMonth(t, m)
			frozen[m] = late.frozen(t, m)
			onTime.closeMonth(t, m)
		}
		late.checkAll(t)
		late.explainAll(t)
		checkStatements(t, late, seen)
		for m, was := range frozen {
			if now := late.frozen(t, m); now != was {
				t.Fatalf("the scorecards of %s were\n%s\nand are\n%s", m, was, now)
			}
		}
		if d := differ(late.lines(t), onTime.lines(t)); d != nil {
			t.Fatalf("late facts are not what they are in time:\n%s", strings.Join(d, "\n"))
		}
		if d := differ(late.balances(t), onTime.balances(t)); d != nil {
			t.Fatalf("late facts change the books:\n%s", strings.Join(d, "\n"))
		}
		for _, l := range late.corrections(t) {
			if strings.Contains(l.Cause, "make the certification of ") && !l.Amount.IsZero() {
				seen["differences of certifications, "+l.Kind]++
			}
		}
	})
	for _, k := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%-48s %d", k, seen[k])
	}
	for _, k := range []string{"late", "line quality", "differences of certifications, quality", "differences of certifications, discount"} {
		if seen[k] == 0 && !raceEnabled {
			t.Errorf("no draw had %q: the test is weaker than it says", k)
		}
	}
}

// frozen are the scorecards that a month was frozen with.
func (w *world) frozen(t tester, m period.Month) string {
	t.Helper()
	cards, err := w.db.Scorecards(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	return mustJSON(cards)
}

// TestLateFactOfCertification: a change of scope of January that reaches us in February
// moves the rates of January's sales after it, and of no others; what it takes stands on
// the next statement and says why. What is known by then counts: a late sale, and a
// review that ends it, are priced with it.
func TestLateFactOfCertification(t *testing.T) {
	w := testWorld(t)
	w.agree(t, certified(t)...)
	review := fact(metering.ReviewDecided, "r", noon(jan, 2), "approved", "")
	w.deliver(t, 0, review, sale("free", "scheduler", "lakeside", noon(jan, 3), "1000.00"),
		sale("before", "scheduler", "lakeside", noon(jan, 14), "200.00"), sale("after", "scheduler", "lakeside", noon(jan, 16), "100.00"))
	w.closeMonth(t, jan)
	frozen := w.frozen(t, jan)
	w.deliver(t, 0, fact(metering.ScopeChanged, "c", noon(jan, 15), "", ""))

	// Before the close that posts it, the views say what will be.
	v, err := w.closer.Certification(t.Context(), "scheduler", period.Date{Year: 2026, Month: time.January, Day: 20})
	if err != nil || v.State != billing.StandingReReview || len(v.Contracts) != 1 || v.Contracts[0].Outcome.String() != "+5 pts" {
		t.Errorf("certification: %s, %+v, %v", v.State, v.Contracts, err)
	}
	card, _, err := w.closer.Scorecard(t.Context(), "scheduler", jan)
	if err != nil || card.Card.Certification.State != billing.StandingValid || card.Now.Certification.State != billing.StandingReReview {
		t.Errorf("scorecard: frozen %+v, now %+v, %v", card.Card.Certification, card.Now.Certification, err)
	}
	w.closeMonth(t, feb)
	because := "facts that reached us after the close of 2026-01 make the certification of scheduler "
	want := []string{"2026-02 2026-01 quality -7.00: " + because + "none, valid from 2026-01-02, re-review from 2026-01-15; it counted as none, valid from 2026-01-02"}
	if got := w.differencesWithMoney(t); !slices.Equal(got, want) {
		t.Errorf("after February:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	w.deliver(t, 0, sale("late", "scheduler", "harbor", noon(jan, 15), "10.00"))
	w.closeMonth(t, mar)
	want = append(want,
		"2026-03 2026-01 quality -0.50: late events moved the tiers or refunds that January was priced at",
		"2026-03 2026-01 sales 10.00: 1 event of January reached us after its close",
		"2026-03 2026-01 share -1.50: late events moved the tiers or refunds that January was priced at")
	if got := w.differencesWithMoney(t); !slices.Equal(got, want) {
		t.Errorf("after March:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	w.deliver(t, 0, void("v", review, noon(jan, 2)))
	w.closeMonth(t, apr)
	last := w.differencesWithMoney(t)[len(want):]
	if len(last) != 1 || last[0] != "2026-04 2026-01 quality -18.50: "+because+"none; it counted as none, valid from 2026-01-02, re-review from 2026-01-15" {
		// -2 points of 1,200.00 are taken back, +5 points of 110.00 given back.
		t.Errorf("after April: %q", last)
	}
	if now := w.frozen(t, jan); now != frozen {
		t.Errorf("January's scorecards were\n%s\nand are\n%s", frozen, now)
	}
	w.checkAll(t)
	w.explainAll(t)
}

// differencesWithMoney are all differences that are not of nothing, in order of their
// statement.
func (w *world) differencesWithMoney(t *testing.T) []string {
	t.Helper()
	rs, err := w.db.Statements(t.Context(), period.Month{}, "")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range rs {
		for _, l := range r.Lines {
			if l.Section == billing.Corrections && !l.Amount.IsZero() {
				out = append(out, fmt.Sprintf("%s %s %s %s: %s", r.Month, l.Corrects, l.Part, l.Amount.Plain(), l.Cause))
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestLateFactBesideAppeal: what an appeal decided of a certification stays decided,
// before the close and after it; a fact that comes later moves only what was not appealed.
func TestLateFactBesideAppeal(t *testing.T) {
	for _, before := range []bool{true, false} {
		w := testWorld(t)
		w.agree(t, certified(t)...)
		w.deliver(t, 0, fact(metering.ReviewDecided, "r", noon(jan, 2), "approved", ""), fact(metering.ReviewDecided, "s", noon(jan, 5), "suspended", ""),
			sale("free", "scheduler", "lakeside", noon(jan, 3), "1000.00"), sale("s", "scheduler", "lakeside", noon(jan, 16), "100.00"))
		a := w.appeal(t, jan, "certification.state")
		if before {
			w.accept(t, a, "due")
		}
		w.closeMonth(t, jan)
		if !before {
			w.accept(t, a, "due")
		}
		w.closeMonth(t, feb)
		w.deliver(t, 0, fact(metering.ScopeChanged, "c", noon(jan, 15), "", ""), sale("feb", "scheduler", "lakeside", noon(feb, 16), "100.00"),
			fact(metering.ReviewDecided, "r2", noon(jan, 20), "approved", ""))
		w.closeMonth(t, mar)
		lines := w.lines(t)
		for key, want := range map[string]int64{
			`northwind northwind-scheduling/trust quality "" 2026-01 USD`: 0,   // neither suspended nor re-review
			`northwind northwind-scheduling/trust quality "" 2026-02 USD`: 200, // valid again, by a review that came late
		} {
			if lines[key] != want {
				t.Errorf("appeal accepted before the close %t: %s: %d, want %d", before, key, lines[key], want)
			}
		}
		w.checkAll(t)
	}
}

// TestLateFactTooLate: a late limit bars what a certification would charge for months
// that lie further back, together with the share, and not what it gives back.
func TestLateFactTooLate(t *testing.T) {
	for _, c := range []struct {
		reference string
		want      int64
		barred    string
	}{
		{"suspended", 0, "trust quality -9.00 USD"},
		{"approved", 200, ""},
	} {
		w := testWorld(t)
		w.agree(t, strings.Replace(certified(t)[0], "\nzone:", "\nlate_limit_months: 1\nzone:", 1))
		w.deliver(t, 0, sale("free", "scheduler", "lakeside", noon(jan, 3), "1000.00"), sale("s", "scheduler", "lakeside", noon(jan, 16), "100.00"))
		w.closeMonth(t, jan)
		w.closeMonth(t, feb)
		w.deliver(t, 0, fact(metering.ReviewDecided, "r", noon(jan, 4), c.reference, ""))
		report := w.closeMonth(t, mar)
		var barred []string
		for _, l := range report.TooLate {
			barred = append(barred, fmt.Sprintf("%s %s %s", l.Rule, l.Part, l.Amount))
		}
		if got := strings.Join(barred, ", "); got != c.barred {
			t.Errorf("%s: barred %q, want %q", c.reference, got, c.barred)
		}
		if got := w.lines(t)[`northwind northwind-scheduling/trust quality "" 2026-01 USD`]; got != c.want {
			t.Errorf("%s: %d, want %d", c.reference, got, c.want)
		}
		w.checkAll(t)
		w.explainAll(t)
	}
}
