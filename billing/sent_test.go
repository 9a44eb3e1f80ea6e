package billing_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mete/billing"
	"mete/metering"
	"mete/metering/meteringtest"
	"mete/partner"
	"mete/period"
)

// say keeps totals of a source's day: rows of app, type, events, amount.
func (w *world) say(t *testing.T, source string, day period.Date, zone string, rows ...string) {
	t.Helper()
	d := metering.DayTotals{Source: source, Day: day, Zone: zone, SentBy: source}
	for _, row := range rows {
		f := strings.Fields(row)
		x := metering.DayTotal{App: partner.AppID(strings.Trim(f[0], "-")), Type: f[1]}
		if _, err := fmt.Sscan(f[2], &x.Events); err != nil {
			t.Fatal(err)
		}
		if len(f) > 3 {
			x.Amount, x.Currency = meteringtest.Decimal(f[3]), "USD"
		}
		d.Totals = append(d.Totals, x)
	}
	if err := d.Seal(noon(mar, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.events.KeepTotals(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// TestCompareSent: what sources say of their days is held against what is stored, and
// each difference names source, day and app.
func TestCompareSent(t *testing.T) {
	w := testWorld(t)
	tenth, eleventh := period.Date{Year: 2026, Month: 1, Day: 10}, period.Date{Year: 2026, Month: 1, Day: 11}
	night := time.Date(2026, 1, 11, 3, 0, 0, 0, time.UTC) // the tenth in Chicago, the eleventh in UTC
	w.deliver(t, 0, sale("s-1", "scheduler", "lakeside", noon(jan, 10), "10.00"), sale("s-2", "scheduler", "lakeside", night, "5.00"),
		sale("s-3", "claims", "lakeside", noon(jan, 11), "7.00"), calls("c-1", "scheduler", "lakeside", noon(jan, 10), 3), calls("c-2", "notes", "lakeside", noon(jan, 10), 3))
	w.deliver(t, 1, sale("s-1", "scheduler", "lakeside", noon(jan, 10), "10.00"), void("v-1", sale("s-3", "claims", "lakeside", noon(jan, 11), "7.00"), noon(jan, 11)))
	compare := func(since period.Date) (found []string, balances []string) {
		t.Helper()
		var r billing.Reconciliation
		if err := w.reconciler().CompareSent(t.Context(), &r, since); err != nil {
			t.Fatal(err)
		}
		for _, f := range r.Findings {
			found = append(found, f.String())
		}
		for _, b := range r.Balances {
			balances = append(balances, fmt.Sprintf("%s: %s %s, %s %s, %t", b.What, b.Left, b.L, b.Right, b.R, b.OK))
		}
		return found, balances
	}
	want := func(since period.Date, findings []string, balances ...string) {
		t.Helper()
		f, b := compare(since)
		if strings.Join(f, "\n") != strings.Join(findings, "\n") {
			t.Errorf("findings:\n%s\nwant:\n%s", strings.Join(f, "\n"), strings.Join(findings, "\n"))
		}
		if strings.Join(b, "\n") != strings.Join(balances, "\n") {
			t.Errorf("balances:\n%s\nwant:\n%s", strings.Join(b, "\n"), strings.Join(balances, "\n"))
		}
	}
	want(period.Date{}, nil, "control: sources that sent totals 0,  0, true")

	// In agreement, each in his own zone: sent again it counts once, what was voided counts, corrections need not be told.
	w.say(t, "billing", tenth, "America/Chicago", "scheduler sale.paid 2 15.00")
	w.say(t, "billing", eleventh, "America/Chicago", "claims sale.paid 1 7")
	w.say(t, "gateway", tenth, "UTC", "scheduler usage.api 1", "notes usage.api 1")
	want(period.Date{}, nil, "control billing: their events of 2 days 3, ours 3, true", "control gateway: their events of 1 days 2, ours 2, true")

	// Counts alone are compared with events in any currency; sums that agree hide nothing.
	w.say(t, "billing", eleventh, "UTC", "scheduler sale.paid 1", "claims sale.paid 1") // another word of that day
	w.say(t, "gateway", eleventh, "UTC", "scheduler usage.api 1", "- usage.voided 0")
	w.say(t, "gateway", eleventh.AddDays(1), "UTC")
	w.say(t, "programme", tenth, "UTC", "finder app.installed 2")
	want(period.Date{}, []string{
		"control total: source programme, 2026-01-10, app finder, app.installed: want 2 events, as the source says, got 0 stored",
		"control totals: source billing, 2026-01-11: want one word of a day, got other totals of it, received 2026-03-01T18:00:00Z; the first that came count",
		"control total: source gateway, 2026-01-11, app scheduler, usage.api: want 1 events, as the source says, got 0 stored",
	}, "control billing: their events of 2 days 3, ours 3, true", "control gateway: their events of 3 days 3, ours 2, false", "control programme: their events of 1 days 2, ours 0, false")
	want(eleventh.AddDays(1), nil, "control gateway: their events of 1 days 0, ours 0, true")

	// What a source does not name it has not sent; amounts are compared to the cent.
	w = testWorld(t)
	w.deliver(t, 0, sale("s-1", "scheduler", "lakeside", noon(jan, 10), "10.00"), sale("s-2", "notes", "lakeside", noon(jan, 10), "5.00"), calls("c-1", "scheduler", "lakeside", noon(jan, 10), 3))
	w.say(t, "billing", tenth, "UTC", "scheduler sale.paid 1 10.01")
	w.say(t, "gateway", tenth, "UTC")
	want(period.Date{}, []string{
		"control total: source billing, 2026-01-10, app notes, sale.paid: want 0 events, as the source says, got 1 stored",
		"control total: source billing, 2026-01-10, app scheduler, sale.paid, USD: want 10.01, as the source says, got 10.00 stored",
		"control total: source gateway, 2026-01-10, app scheduler, usage.api: want 0 events, as the source says, got 1 stored",
	}, "control billing: their events of 1 days 1, ours 2, false", "control gateway: their events of 1 days 0, ours 1, false")
}

// TestHeartbeatBeforeClose: a source that has nothing to send and says so does not stop
// a close; one that says nothing does, and one that said it too early.
func TestHeartbeatBeforeClose(t *testing.T) {
	for name, c := range map[string]struct {
		at     time.Time
		silent bool
	}{
		"none":      {time.Time{}, true},
		"too early": {noon(jan, 20), true},
		"in time":   {noon(jan, 30), false},
		"too late":  {noon(feb, 2), true},
	} {
		w := testWorld(t)
		if err := agree(t.Context(), w.catalogue, "source: gateway\nkind: gateway\nowner: gateway\nsilent_after: 2 days\neffective: 2026-01-01\n", noon(jan, 1)); err != nil {
			t.Fatal(err)
		}
		if !c.at.IsZero() {
			if err := w.events.KeepHeartbeat(t.Context(), metering.Heartbeat{Source: "gateway", At: c.at, SentBy: "gateway", ReceivedAt: c.at}); err != nil {
				t.Fatal(err)
			}
		}
		_, err := w.closer.Close(t.Context(), closeRequest(jan))
		if silent := errors.Is(err, billing.ErrState) && strings.Contains(err.Error(), "gateway since"); silent != c.silent || !silent && err != nil {
			t.Errorf("%s: %v, want silent: %t", name, err, c.silent)
		}
	}
}
