package billing_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mete/billing"
	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// fact is a fact of the app scheduler.
func fact(typ, id string, at time.Time, reference, refersTo string) metering.Event {
	return metering.Event{ID: id, Source: "programme", Type: typ, Time: at, Data: metering.Data{App: "scheduler", Reference: reference, RefersTo: refersTo}}
}

func transactions(events ...metering.Event) []metering.Transaction {
	var out []metering.Transaction
	for _, e := range events {
		out = append(out, metering.Transaction{Event: e})
	}
	slices.SortStableFunc(out, func(a, b metering.Transaction) int { return a.Time.Compare(b.Time) })
	return out
}

// standings are the standings of a month as text: "1 valid, 15 re-review due 03-15".
func standings(tier int, m period.Month, facts ...metering.Event) string {
	c := billing.Scorecard(partner.App{ID: "scheduler", CertificationTier: tier}, m.In(time.UTC), m, nil, transactions(facts...))
	if len(c.Standings) == 0 {
		c.Standings = []pricing.Standing{{From: m.First(), State: c.Certification.State, DueOn: c.Certification.DueOn}}
	}
	var out []string
	for _, s := range c.Standings {
		text := fmt.Sprintf("%d %s", s.From.Day, s.State)
		if !s.DueOn.IsZero() {
			text += " due " + s.DueOn.String()
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func TestStandings(t *testing.T) {
	const reviewed, changed, granted = metering.ReviewDecided, metering.ScopeChanged, metering.ExceptionGranted
	review := fact(reviewed, "r", noon(jan.Add(-12), 20), "approved", "")
	newer := fact(reviewed, "r2", noon(mar, 20), "approved", "")
	scope := fact(changed, "c", noon(mar, 15), "", "")
	until := func(id string, at time.Time, day string) metering.Event {
		return fact(granted, id, at, "until "+day+" by s.lindqvist: the auditor moved", "")
	}
	closed := func(of string, at time.Time) metering.Event {
		return fact(metering.ExceptionClosed, of+"-closed", at, "", of)
	}
	for _, c := range []struct {
		what  string
		tier  int
		month period.Month
		facts []metering.Event
		want  string
	}{
		{"never reviewed", 3, mar, nil, "1 none"},
		{"changed and never reviewed", 3, mar, []metering.Event{scope}, "1 none"},
		{"tier 1 lasts two years", 1, jan, []metering.Event{review}, "1 valid due 2027-01-20"},
		{"tier 3 one year, overdue the day after", 3, jan, []metering.Event{review}, "1 due due 2026-01-20, 21 overdue due 2026-01-20"},
		{"tier 4 half a year", 4, jan, []metering.Event{review}, "1 overdue due 2025-07-20"},
		{"due 30 days before", 2, jan.Add(-1), []metering.Event{review}, "1 valid due 2026-01-20, 21 due due 2026-01-20"},
		{"a change of scope", 2, mar, []metering.Event{newer, fact(changed, "c", noon(mar, 25), "", "")}, "1 none, 20 valid due 2027-03-20, 25 re-review due 2026-03-25"},
		{"on tier 1 changes nothing", 1, mar, []metering.Event{review, scope}, "1 valid due 2027-01-20"},
		{"reviewed again", 1, apr, []metering.Event{review, scope, newer}, "1 valid due 2028-03-20"},
		{"re-review, then decided", 2, mar, []metering.Event{review, scope, newer}, "1 overdue due 2026-01-20, 15 re-review due 2026-03-15, 20 valid due 2027-03-20"},
		{"suspended, lifted by a review", 2, mar, []metering.Event{review, fact(reviewed, "s", noon(mar, 3), "suspended", ""), newer}, "1 overdue due 2026-01-20, 3 suspended, 20 valid due 2027-03-20"},
		{"rejected and changed", 2, mar, []metering.Event{review, fact(reviewed, "s", noon(mar, 3), "rejected", ""), scope}, "1 overdue due 2026-01-20, 3 suspended"},
		{"the renewal extended", 2, jan, []metering.Event{review, until("x", noon(jan, 10), "2026-01-25")}, "1 due due 2026-01-20, 10 due due 2026-01-25, 26 overdue due 2026-01-25"},
		{"extended after it was overdue", 2, jan, []metering.Event{review, until("x", noon(jan, 25), "2026-03-31")}, "1 due due 2026-01-20, 21 overdue due 2026-01-20, 25 valid due 2026-03-31"},
		{"the extension closed", 2, jan, []metering.Event{review, until("x", noon(jan, 10), "2026-02-25"), closed("x", noon(jan, 22))}, "1 due due 2026-01-20, 10 valid due 2026-02-25, 22 overdue due 2026-01-20"},
		{"an extension that ends before", 2, jan, []metering.Event{review, until("x", noon(jan, 10), "2026-01-15")}, "1 due due 2026-01-20, 21 overdue due 2026-01-20"},
		{"of the two the later", 2, jan, []metering.Event{review, until("x", noon(jan, 10), "2026-02-15"), until("y", noon(jan, 11), "2026-02-01")}, "1 due due 2026-01-20, 10 valid due 2026-02-15, 16 due due 2026-02-15"},
		{"the re-review extended", 2, mar, []metering.Event{newer, fact(changed, "c", noon(mar, 22), "", ""), until("x", noon(mar, 24), "2026-04-30")}, "1 none, 20 valid due 2027-03-20, 22 re-review due 2026-03-22, 24 re-review due 2026-04-30"},
		{"one granted before the change", 2, apr, []metering.Event{newer, until("x", noon(mar, 24), "2027-12-31"), fact(changed, "c", noon(apr, 2), "", "")}, "1 valid due 2027-12-31, 2 re-review due 2026-04-02"},
		{"another exception extends nothing", 2, jan, []metering.Event{review, fact(granted, "x", noon(jan, 10), "waiver 12", "")}, "1 due due 2026-01-20, 21 overdue due 2026-01-20"},
	} {
		if got := standings(c.tier, c.month, c.facts...); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.what, got, c.want)
		}
	}
}

// The standing of a day is the certification of a scorecard whose period ends with it.
func TestStandingIsThatOfTheDaysEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.SampledFrom([]*time.Location{time.UTC, mustZone("America/Los_Angeles"), mustZone("Asia/Tokyo")}).Draw(t, "zone")
		app := partner.App{ID: "scheduler", CertificationTier: rapid.IntRange(0, 5).Draw(t, "tier")}
		var events []metering.Event
		for i := range rapid.IntRange(0, 8).Draw(t, "facts") {
			at := noon(jan.Add(-14), 1).Add(time.Duration(rapid.IntRange(0, 520*24).Draw(t, "hour")) * time.Hour)
			id := fmt.Sprint(i)
			events = append(events, rapid.SampledFrom([]metering.Event{
				fact(metering.ReviewDecided, id, at, "approved", ""), fact(metering.ReviewDecided, id, at, "suspended", ""), fact(metering.ScopeChanged, id, at, "", ""),
				fact(metering.ExceptionGranted, id, at, fmt.Sprintf("until %s by s.l: why", period.DateOf(at, zone).AddDays(rapid.IntRange(0, 90).Draw(t, "until"))), ""),
				fact(metering.ExceptionClosed, id, at, "", fmt.Sprint(rapid.IntRange(0, 8).Draw(t, "of"))),
			}).Draw(t, "fact"))
		}
		facts := transactions(events...)
		m := jan.Add(rapid.IntRange(0, 3).Draw(t, "month"))
		card := billing.Scorecard(app, m.In(zone), m, nil, facts)
		for day := m.First(); day.MonthOf() == m; day = day.AddDays(1) {
			p := m.In(zone)
			p.End = day.AddDays(1).In(zone)
			if got, want := card.On(day).Certification, billing.Scorecard(app, p, m, nil, facts).Certification; got != want {
				t.Fatalf("%s: %+v, want %+v", day, got, want)
			}
		}
	})
}

func mustZone(name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return z
}

// An extension whose day has passed is no open exception any more.
func TestExceptionIsOpenUntilItsDay(t *testing.T) {
	facts := transactions(fact(metering.ExceptionGranted, "x", noon(jan, 2), "until 2026-02-28 by s.l: why", ""), fact(metering.ExceptionGranted, "y", noon(jan, 2), "waiver", ""))
	for m, want := range map[period.Month]int64{jan: 2, feb: 2, mar: 1} {
		if c := billing.Scorecard(partner.App{ID: "scheduler"}, m.In(time.UTC), m, nil, facts); c.ExceptionsOpen != want {
			t.Errorf("%s: %d open, want %d", m, c.ExceptionsOpen, want)
		}
	}
}

// TestSecondEngine: a month that began its close before standings had days is closed,
// and derived again, with one certification; the next month is dated.
func TestSecondEngine(t *testing.T) {
	w := testWorld(t)
	w.agree(t, changed(t, "contract: northwind-scheduling", "{from: 2026-01-01}\n", "{from: 2026-01-02}\n", "  refunds: at_original_rate\n- id: calls",
		"  refunds: at_original_rate\n- id: trust\n  kind: quality\n  adjusts: subscriptions\n  bands: [{when: certification.state == 're-review', platform_rate: +5 points}]\n- id: calls"))
	w.deliver(t, 0, fact(metering.ReviewDecided, "r", noon(jan, 2), "approved", ""), fact(metering.ScopeChanged, "c", noon(jan, 15), "", ""),
		sale("before", "scheduler", "lakeside", noon(jan, 14), "1500.00"), sale("after", "scheduler", "lakeside", noon(jan, 15), "100.00"),
		fact(metering.ReviewDecided, "r2", noon(feb, 10), "approved", ""),
		sale("feb", "scheduler", "lakeside", noon(feb, 9), "100.00"), sale("feb2", "scheduler", "lakeside", noon(feb, 10), "100.00"))
	w.beginAs(t, jan, "mete-2")
	w.closeMonth(t, jan)
	w.closeMonth(t, feb)
	got := w.lines(t)
	for key, want := range map[string]int64{
		`northwind northwind-scheduling/trust quality "" 2026-01 USD`: -3000, // 5 points of all 600.00 above 1,000.00
		`northwind northwind-scheduling/trust quality "" 2026-02 USD`: -500,
	} {
		if got[key] != want {
			t.Errorf("%s: %d, want %d in %v", key, got[key], want, got)
		}
	}
	w.checkAll(t)
	cards, err := w.db.Scorecards(t.Context(), jan)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cards {
		if len(c.Standings) > 0 {
			t.Errorf("a scorecard of mete-2 has dates: %+v", c)
		}
	}
	w.deliver(t, 0, sale("late", "scheduler", "lakeside", noon(jan, 3), "100.00")) // re-priced as its month was closed
	w.closeMonth(t, mar)
	if got := w.lines(t)[`northwind northwind-scheduling/trust quality "" 2026-01 USD`]; got != -3500 {
		t.Errorf("with a late sale of January %d, want -3500", got)
	}
	w.checkAll(t)
}
