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
	"mete/ledger"
	"mete/metering"
	"mete/metering/meteringtest"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// due is an event and how many months after its own it is delivered.
type due struct {
	metering.Event
	late int
}

// lateMonths is how late events of these tests can be.
const lateMonths = 2

// months are the months with events; as many further ones as events can be late are
// closed behind them.
const months = 4

// drawEvents makes up four months of sales, refunds, usage, incidents, leads and
// voids, some of them from a sandbox.
func drawEvents(t *rapid.T) []due {
	app := rapid.SampledFrom([]partner.AppID{"scheduler", "scheduler", "scheduler", "planner", "claims", "claims", "insights", "notes", "notes", "finder"})
	customer := rapid.SampledFrom([]partner.CustomerID{"lakeside", "harbor", "mesa"})
	late := rapid.SampledFrom([]int{0, 0, 0, 1, 1, lateMonths})
	amount := rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("%d.%02d", rapid.IntRange(1, 900).Draw(t, "whole"), rapid.IntRange(0, 99).Draw(t, "cents"))
	})
	when := func(m period.Month) time.Time {
		// Any hour, so that a month's ends fall into one month or the other by zone.
		return m.First().In(time.UTC).Add(time.Duration(rapid.IntRange(0, 27*24+23).Draw(t, "hour")) * time.Hour).Add(9 * time.Hour)
	}
	var out []due
	var sales []metering.Event
	sandbox := rapid.SampledFrom([]metering.Environment{"", "", "", "", "", "", "", "", metering.Production, metering.Sandbox})
	add := func(e metering.Event) {
		if e.Type != metering.UsageVoided {
			e.Data.Environment = sandbox.Draw(t, "environment")
		}
		out = append(out, due{e, late.Draw(t, "late")})
	}
	for i := range rapid.IntRange(8, 60).Draw(t, "events") {
		m := jan.Add(rapid.IntRange(0, months-1).Draw(t, "month"))
		id := fmt.Sprintf("e%02d", i)
		switch rapid.SampledFrom([]string{"sale", "sale", "sale", "refund", "refund", "chargeback", "calls", "calls", "incident", "lead", "lead", "void", "fee"}).Draw(t, "kind") {
		case "sale":
			e := sale(id, app.Draw(t, "app"), customer.Draw(t, "customer"), when(m), amount.Draw(t, "amount"))
			if rapid.Bool().Draw(t, "taxed") {
				e = taxed(e)
			}
			if rapid.IntRange(0, 2).Draw(t, "in euros") == 0 {
				e.Data.Currency = "EUR"
			}
			sales = append(sales, e)
			add(e)
		case "refund", "chargeback":
			if len(sales) == 0 {
				continue
			}
			of := sales[rapid.IntRange(0, len(sales)-1).Draw(t, "of")]
			at := when(m)
			if !at.After(of.Time) {
				at = of.Time.Add(time.Hour)
			}
			part := of.Data.Amount.Div(*meteringtest.Decimal("2")).Truncate(2)
			e := refund(id, of, at, part.String())
			e.Data.Currency = of.Data.Currency
			if rapid.IntRange(0, 3).Draw(t, "part") == 0 {
				e.Type = metering.SaleChargebackLost
			}
			add(e)
		case "calls":
			e := calls(id, app.Draw(t, "app"), customer.Draw(t, "customer"), when(m), int64(rapid.IntRange(1, 300).Draw(t, "calls")))
			if rapid.IntRange(0, 5).Draw(t, "fails") == 0 {
				e.Data.Status = 503
			}
			add(e)
		case "incident":
			e := sale(id, app.Draw(t, "app"), "", when(m), "0")
			e.Type, e.Data = metering.IncidentOpened, metering.Data{App: e.Data.App}
			add(e)
			if rapid.Bool().Draw(t, "is closed") {
				e.ID, e.Type, e.Time, e.Data.RefersTo = id+"-closed", metering.IncidentClosed, e.Time.AddDate(0, 0, rapid.IntRange(1, 30).Draw(t, "days")), id
				add(e)
			}
		case "lead":
			code := rapid.SampledFrom([]string{"CEDAR-1", "CEDAR-1", "QUILL-1", "QUILL-1", "REFERA-1", "MARKET-1", "UNKNOWN-1"}).Draw(t, "code")
			c := customer.Draw(t, "customer")
			at := when(m)
			add(lead(metering.LeadQualified, id, code, c, at))
			if rapid.IntRange(0, 3).Draw(t, "converts") > 0 {
				at = at.AddDate(0, 0, rapid.IntRange(1, 30).Draw(t, "days"))
				add(lead(metering.LeadConverted, id, code, c, at))
				if rapid.Bool().Draw(t, "cancels") {
					add(lead(metering.LeadCancelled, id, code, c, at.AddDate(0, 0, rapid.IntRange(1, 40).Draw(t, "days"))))
				}
			}
		case "void":
			if len(out) == 0 {
				continue
			}
			of := out[rapid.IntRange(0, len(out)-1).Draw(t, "void of")]
			if of.Type != metering.UsageVoided {
				add(void(id, of.Event, of.Time.Add(time.Minute)))
			}
		case "fee":
			e := sale(id, "notes", "", when(m), "7.77")
			e.Type, e.Data.Class = metering.FeeDue, metering.Certification
			add(e)
		}
	}
	// What happened after the last month is no matter of these months.
	end := jan.Add(months).First().In(time.UTC)
	return slices.DeleteFunc(out, func(d due) bool { return !d.Time.Before(end) })
}

// deliverMonth delivers what is due by the close of m and was not before, shuffled
// and packed at random, now and then something twice.
func deliverMonth(t *rapid.T, w *world, events []due, m period.Month) int {
	var now []metering.Event
	lateOnes := 0
	for _, d := range events {
		if period.MonthOf(d.Time, time.UTC).Add(d.late) == m {
			now = append(now, d.Event)
			if d.late > 0 {
				lateOnes++
			}
		}
	}
	if len(now) > 1 {
		order := make([]int, len(now))
		for i := range order {
			order[i] = i
		}
		sorted := slices.Clone(now)
		for i, j := range rapid.Permutation(order).Draw(t, "order") {
			now[i] = sorted[j]
		}
	}
	for len(now) > 0 {
		n := rapid.IntRange(1, len(now)).Draw(t, "batch")
		batch := now[:n]
		if rapid.IntRange(0, 4).Draw(t, "again") == 0 {
			batch = append(slices.Clone(batch), now[0])
		}
		w.deliver(t, rapid.IntRange(0, partitions-1).Draw(t, "partition"), batch...)
		now = now[n:]
	}
	return lateOnes
}

// TestLateOrNot: whenever events arrive, statements add up, key by key and cent by
// cent, to what one pricing of everything says.
func TestLateOrNot(t *testing.T) {
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		events := drawEvents(t)
		late, onTime := newWorld(t), newWorld(t)
		defer late.remove()
		defer onTime.remove()
		for _, d := range events {
			onTime.deliver(t, 0, d.Event)
			seen["events"]++
		}
		for m := jan; m.Before(jan.Add(months + lateMonths)); m = m.Add(1) {
			seen["late"] += deliverMonth(t, late, events, m)
			late.closeMonth(t, m)
			if rapid.Bool().Draw(t, "issue") {
				late.issueMonth(t, m)
			}
			if rapid.IntRange(0, 2).Draw(t, "check") == 0 || m == jan.Add(months+lateMonths-1) {
				late.checkAll(t)
				seen["checks of everything"]++
			}
			onTime.closeMonth(t, m)
			seen["closes"] += 2
		}
		onTime.checkAll(t)
		late.explainAll(t)
		checkStatements(t, late, seen)
		if d := differ(late.lines(t), onTime.lines(t)); d != nil {
			t.Fatalf("late delivery changes what is billed:\n%s", strings.Join(d, "\n"))
		}
		if d := differ(late.balances(t), onTime.balances(t)); d != nil {
			t.Fatalf("late delivery changes the books:\n%s", strings.Join(d, "\n"))
		}
		for k := range onTime.lines(t) {
			if !strings.HasSuffix(k, " events") {
				seen["keys compared"]++
			}
		}
	})
	for _, k := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%-28s %d", k, seen[k])
	}
	for _, k := range []string{"late", "corrections", "line sales", "line refunds", "line share", "line usage", "line referral", "line clawback", "line fee", "releases", "converted sales", "converted refunds"} {
		if seen[k] == 0 && !raceEnabled {
			t.Errorf("no draw had %q: the test is weaker than it says", k)
		}
	}
}

// checkStatements compares each page with the books: entries balance, the closing
// balance is the ledger's on the last day, earned is the sum of the lines.
func checkStatements(t tester, w *world, seen map[string]int) {
	t.Helper()
	ctx := context.Background()
	rs, err := w.db.Statements(ctx, period.Month{}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		seen["statements"]++
		seen["releases"] += len(r.Releases)
		earned := money.New(0, r.Currency)
		for _, l := range r.Lines {
			seen["line "+l.Part]++
			seen["rule "+l.Rule]++
			if len(l.Exchanged) > 0 {
				seen["converted "+l.Part]++
			}
			if l.Section == billing.Corrections {
				seen["corrections"]++
			}
			if earned, err = earned.Add(l.Amount); err != nil {
				t.Fatal(err)
			}
		}
		if earned != r.Earned {
			t.Fatalf("%s: lines add up to %s, the page says %s", r.ID, earned, r.Earned)
		}
		entries, err := r.Entries()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := e.Validate(); err != nil {
				t.Fatal(err)
			}
			booked, err := w.db.Entry(ctx, e.ID)
			if err != nil || mustJSON(booked) != mustJSON(e) {
				t.Fatalf("%s: entry %s is %s in the books, %v", r.ID, e.ID, mustJSON(booked), err)
			}
		}
		for _, side := range []struct {
			under ledger.Account
			page  money.Amount
		}{{ledger.Payable(string(r.Partner)), r.Closing()}, {ledger.ReceivablePartner(string(r.Partner)), r.Owes().Neg()}, {ledger.Accrued(string(r.Partner)), notDue(r.Statement)}, {ledger.ReserveOf(string(r.Partner)), r.ClosingReserve()}} {
			bs, err := w.db.Balances(ctx, ledger.Filter{Prefix: side.under, Currency: r.Currency, UpTo: r.Month.Last(), Booked: true})
			if err != nil {
				t.Fatal(err)
			}
			var sum int64
			for _, b := range bs {
				sum -= b.Amount.Minor
			}
			if sum != side.page.Minor {
				t.Fatalf("%s: %s holds %d on %s, the page closes at %s", r.ID, side.under, sum, r.Month.Last(), side.page)
			}
		}
	}
}

// notDue is what the page says is not due because customers have not paid.
func notDue(s billing.Statement) money.Amount {
	if s.NotDue == nil {
		return money.New(0, s.Currency)
	}
	return *s.NotDue
}

// TestLateSaleMovesLaterMonth: a January sale that reaches us in March pushes
// February's sale over a tier that counts for life. February is closed; what it costs
// more stands in March's statement, named as February's.
func TestLateSaleMovesLaterMonth(t *testing.T) {
	w := testWorld(t)
	w.deliver(t, 0, sale("early", "scheduler", "lakeside", noon(jan, 5), "600.00"))
	w.closeMonth(t, jan)
	w.deliver(t, 0, sale("second", "scheduler", "lakeside", noon(feb, 5), "300.00"))
	w.closeMonth(t, feb)
	w.deliver(t, 1, sale("late", "scheduler", "harbor", noon(jan, 20), "350.00"))
	report := w.closeMonth(t, mar)
	if report.LateEvents != 1 || !slices.Equal(report.Repriced, []period.Month{jan, feb}) {
		t.Errorf("%d late events, %v priced again; want 1 and January, February", report.LateEvents, report.Repriced)
	}
	s, err := w.db.Statement(t.Context(), "meridian-us.northwind.usd.2026-03")
	if err != nil {
		t.Fatal(err)
	}
	// 600 + 350 in January stay free below 1,000.00; of February's 300, 50 are free
	// and 250 cost 15%.
	want := map[string]string{"2026-01 sales": "350.00", "2026-02 share": "-37.50"}
	got := map[string]string{}
	for _, l := range s.Lines {
		if l.Section == billing.Corrections && !l.Amount.IsZero() {
			got[l.Corrects.String()+" "+l.Part] = l.Amount.Plain()
			if l.Cause == "" {
				t.Errorf("line %d says no cause", l.Number)
			}
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("March's corrections: %v, want %v", got, want)
	}
	w.checkAll(t)
}

// TestVoidOfClosedMonth: a sale is taken out after its month was closed, then refunded
// as if it had been there. It must come to what pricing without the sale says.
func TestVoidOfClosedMonth(t *testing.T) {
	w, once := testWorld(t), testWorld(t)
	a := sale("a", "scheduler", "lakeside", noon(jan, 5), "1000.00")
	b := sale("b", "scheduler", "lakeside", noon(jan, 6), "400.00")
	out := void("v", b, noon(jan, 7))
	back := refund("r", b, noon(mar, 3), "100.00")
	once.deliver(t, 0, a, b, out, back)
	w.deliver(t, 0, a, b)
	w.closeMonth(t, jan)
	w.deliver(t, 1, out)
	w.closeMonth(t, feb)
	w.deliver(t, 2, back)
	w.closeMonth(t, mar)
	w.checkAll(t)
	for m := jan; m != apr; m = m.Add(1) {
		once.closeMonth(t, m)
	}
	if d := differ(w.lines(t), once.lines(t)); d != nil {
		t.Errorf("a void after the close is not what it is before:\n%s", strings.Join(d, "\n"))
	}
}

// TestRestingContract: a contract ends and begins again after a month's rest; its
// total for life goes on.
func TestRestingContract(t *testing.T) {
	w := testWorld(t)
	doc := func(from, until string) string {
		_, text, _ := strings.Cut(marketplace, "contract: northwind-scheduling\n")
		text, _, _ = strings.Cut(text, "---")
		return "contract: northwind-scheduling\n" + strings.Replace(text, "{from: 2026-01-01}", "{from: "+from+", until: "+until+"}", 1)
	}
	early := time.Date(2025, 12, 10, 0, 0, 0, 0, time.UTC)
	for _, d := range []string{doc("2026-01-02", "2026-02-01"), doc("2026-03-01", "2027-01-01")} {
		if err := agree(t.Context(), w.catalogue, d, early); err != nil {
			t.Fatal("the catalogue does not take a contract with a rest:", err)
		}
	}
	w.deliver(t, 0, sale("a", "scheduler", "lakeside", noon(jan, 5), "1000.00"), sale("b", "scheduler", "lakeside", noon(mar, 5), "100.00"))
	for m := jan; m != apr; m = m.Add(1) {
		w.closeMonth(t, m)
	}
	if got := w.lines(t)[`northwind northwind-scheduling/subscriptions share "" 2026-03 USD`]; got != -1500 {
		t.Errorf("March's share is %d minor units, want -1500: the first 1,000.00 were used up in January", got)
	}
	w.checkAll(t)
}

// TestCloseTwice: closing again does nothing and says so.
func TestCloseTwice(t *testing.T) {
	w := testWorld(t)
	w.deliver(t, 0, sale("a", "scheduler", "lakeside", noon(jan, 5), "1200.00"))
	first := w.closeMonth(t, jan)
	before, lines := w.digests(t), w.balances(t)
	again := w.closeMonth(t, jan)
	if first.Already || !again.Already {
		t.Errorf("already closed: %t, then %t", first.Already, again.Already)
	}
	w.issueMonth(t, jan)
	w.issueMonth(t, jan)
	after := w.digests(t)
	for id, d := range before {
		if strings.Fields(d)[0] != strings.Fields(after[id])[0] || !strings.HasSuffix(after[id], billing.Issued) {
			t.Errorf("%s was %s, is %s", id, d, after[id])
		}
	}
	if d := differ(w.balances(t), lines); d != nil {
		t.Errorf("closing and issuing again moved the books: %v", d)
	}
	w.checkAll(t)
}

// TestGroupLadderRunsOn: two partners of one account group share a ladder by the
// year, so what one sold in January moves the other's rate in February, whether the
// January sale came in time or late.
func TestGroupLadderRunsOn(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late %t", late), func(t *testing.T) {
			w := testWorld(t)
			first := sale("a", "claims", "lakeside", noon(jan, 5), "800.00")
			if !late {
				w.deliver(t, 0, first)
			}
			w.closeMonth(t, jan)
			w.deliver(t, 0, sale("b", "insights", "harbor", noon(feb, 5), "100.00"))
			w.closeMonth(t, feb)
			if late {
				w.deliver(t, 0, first)
			}
			w.closeMonth(t, mar)
			for k, want := range map[string]int64{
				`cedarline cedarline-billing/subscriptions share "" 2026-01 USD`:    -16000, // 20% of the group's first 800.00
				`cedarpoint cedarpoint-insights/subscriptions share "" 2026-02 USD`: -1250,  // 12.5% of what comes after
			} {
				if got := w.lines(t)[k]; got != want {
					t.Errorf("%s: %d, want %d; all: %v", k, got, want, w.lines(t))
				}
			}
			w.checkAll(t)
		})
	}
}
