package billing_test

import (
	"strings"
	"testing"
	"time"

	"mete/billing"
	"mete/metering"
	"mete/period"
)

// TestLateLimit: the contract bars charges for usage that reaches us more than a month
// late. It stays barred when more comes, and never bars what we owe the partner.
func TestLateLimit(t *testing.T) {
	w := testWorld(t)
	_, doc, _ := strings.Cut(marketplace, "contract: northwind-scheduling\n")
	doc, _, _ = strings.Cut(doc, "---")
	doc = "contract: northwind-scheduling\nlate_limit_months: 1\n" + strings.Replace(doc, "{from: 2026-01-01}", "{from: 2026-01-02}", 1)
	if err := agree(t.Context(), w.catalogue, doc, time.Date(2025, 12, 10, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	first := calls("c1", "scheduler", "lakeside", noon(jan, 5), 200)
	second := calls("c2", "scheduler", "lakeside", noon(jan, 6), 300)
	third := calls("c3", "scheduler", "lakeside", noon(jan, 7), 100)
	const key = `northwind northwind-scheduling/calls usage "" 2026-01 USD`
	for _, step := range []struct {
		come   []metering.Event
		barred string // by this close
		sum    int64  // on statements so far
	}{
		{[]metering.Event{first}, "", -230}, // 100 free, 100 at 0.013, 1.00 flat
		{nil, "", -230},
		{[]metering.Event{second}, "-3.90", -230}, // 6.20 in all
		{[]metering.Event{third}, "-4.60", -230},  // 6.90 in all
		{nil, "", -230},
		{[]metering.Event{void("v1", first, noon(jan, 8)), void("v2", second, noon(jan, 8)), void("v3", third, noon(jan, 8))}, "", 0},
	} {
		months, err := w.db.Months(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m := jan.Add(len(months))
		w.deliver(t, 0, step.come...)
		report := w.closeMonth(t, m)
		barred := ""
		for _, l := range report.TooLate {
			barred += l.Amount.Plain()
		}
		if got := w.lines(t)[key]; got != step.sum || barred != step.barred {
			t.Errorf("%s: %d on statements, want %d; barred %q, want %q", m, got, step.sum, barred, step.barred)
		}
		w.checkAll(t)
		w.explainAll(t)
	}
}

// changed is a document of the tests' marketplace with pairs of text replaced.
func changed(t *testing.T, begins string, replace ...string) string {
	t.Helper()
	_, doc, found := strings.Cut("---\n"+marketplace, "---\n"+begins+"\n")
	if !found {
		t.Fatalf("no document begins with %q", begins)
	}
	doc, _, _ = strings.Cut(doc, "---\n")
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(doc, replace[i]) {
			t.Fatalf("%q is not in the document %q", replace[i], begins)
		}
	}
	return begins + "\n" + strings.NewReplacer(replace...).Replace(doc)
}

// early is before every month of these tests.
var early = time.Date(2025, 12, 10, 0, 0, 0, 0, time.UTC)

func (w *world) agree(t *testing.T, docs ...string) {
	t.Helper()
	for _, d := range docs {
		if err := agree(t.Context(), w.catalogue, d, early); err != nil {
			t.Fatal(err)
		}
	}
}

// barredBy closes the month and says what its report calls too late, by contract.
func (w *world) barredBy(t *testing.T, m period.Month) string {
	t.Helper()
	var out []string
	for _, l := range w.closeMonth(t, m).TooLate {
		out = append(out, l.Contract+" "+l.LineKey.Month.String()+" "+l.Part+" "+l.Amount.Plain())
	}
	w.checkAll(t)
	w.explainAll(t)
	return strings.Join(out, ", ")
}

// TestLateLimitOfMarketplace: contracts that name no late limit have the
// marketplace's, 0 is a limit that is named, and each closed month keeps the limit that
// its manifest pins.
func TestLateLimitOfMarketplace(t *testing.T) {
	w := testWorld(t)
	w.agree(t,
		changed(t, "contract: northwind-scheduling", "{from: 2026-01-01}\n", "{from: 2026-01-02}\nlate_limit_months: 0\n"),
		changed(t, "contract: cedarline-billing", "{from: 2026-01-01}\n", "{from: 2026-01-02}\nlate_limit_months: 2\n"),
		changed(t, "marketplace: meridian-us", "close: {lag: 3 days}", "close: {lag: 3 days, late_limit: 1}\neffective: 2026-02-01"))
	sales := func(id string, m period.Month) []metering.Event {
		return []metering.Event{
			calls(id+"n", "scheduler", "lakeside", noon(m, 9), 200), // 2.30
			sale(id+"c", "claims", "lakeside", noon(m, 9), "10.00"),
			calls(id+"q", "notes", "lakeside", noon(m, 9), 100), // 1.00
		}
	}
	for i, step := range []struct {
		come   []metering.Event
		barred string
	}{
		{nil, ""}, // January, closed before there was a limit
		{nil, ""},
		{nil, ""},
		{append(sales("j", jan), sales("f", feb)...), "cedarline-billing 2026-01 share -2.00, quill-notes 2026-02 usage -1.00"}, // in April
		{sales("m", mar), "quill-notes 2026-03 usage -1.00"},
		{sales("a", mar), "cedarline-billing 2026-03 share -2.00, quill-notes 2026-03 usage -1.40"}, // in June; the year's 300 calls are used up
	} {
		w.deliver(t, 0, step.come...)
		if got := w.barredBy(t, jan.Add(i)); got != step.barred {
			t.Errorf("close of %s: barred %q, want %q", jan.Add(i), got, step.barred)
		}
	}
	// The limit is gone: what closed under it stays as it is.
	before := w.digests(t)
	w.agree(t, changed(t, "marketplace: meridian-us", "close: {lag: 3 days}", "close: {lag: 3 days}\neffective: 2026-07-01"))
	w.closeMonth(t, jan.Add(6))
	w.checkAll(t)
	w.explainAll(t)
	for id, d := range before {
		if w.digests(t)[id] != d {
			t.Errorf("%s changed", id)
		}
	}
}

// TestLateLimitNeverBarsWhatIsOwed: a commission that is voided too late stays with the
// partner, whatever comes after; a sale that is lost too late is the customer's money;
// and the event says what became of it.
func TestLateLimitNeverBarsWhatIsOwed(t *testing.T) {
	w := testWorld(t)
	w.agree(t, changed(t, "marketplace: meridian-us", "close: {lag: 3 days}", "close: {lag: 3 days, late_limit: 1}"))
	qualified := lead(metering.LeadQualified, "l1", "CEDAR-1", "mesa", noon(jan, 2))
	converted := lead(metering.LeadConverted, "l1", "CEDAR-1", "mesa", noon(jan, 4))
	sold := sale("s", "claims", "mesa", noon(jan, 9), "100.00")
	lost := refund("r", sold, noon(jan, 20), "100.00")
	lost.Type = metering.SaleChargebackLost
	w.deliver(t, 0, qualified, converted, sold)
	for m := jan; m != apr; m = m.Add(1) {
		w.barredBy(t, m)
	}
	w.deliver(t, 0, void("v", converted, noon(jan, 5)), calls("c", "notes", "mesa", noon(jan, 6), 100))
	if got, want := w.barredBy(t, apr), "cedarline-billing 2026-01 referral -35.00, quill-notes 2026-01 usage -1.00"; got != want {
		t.Errorf("April bars %q, want %q", got, want)
	}
	w.deliver(t, 1, lost)
	w.barredBy(t, apr.Add(1))
	w.deliver(t, 1, lead(metering.LeadConverted, "l1", "CEDAR-1", "mesa", noon(jan, 7)))
	w.barredBy(t, apr.Add(2))
	for k, want := range map[string]int64{
		`cedarline cedarline-billing/brought referral "" 2026-01 USD`:          3500,
		`cedarline cedarline-billing/subscriptions sales "" 2026-01 USD`:       10000,
		`cedarline cedarline-billing/subscriptions chargebacks "" 2026-01 USD`: -10000,
		`quill quill-notes/calls usage "" 2026-01 USD`:                         0,
	} {
		if got := w.lines(t)[k]; got != want {
			t.Errorf("%s: %d on all statements, want %d", k, got, want)
		}
	}
	found, err := w.events.Find(t.Context(), metering.KeyOf("gateway", "c"))
	if err != nil || found.Event == nil {
		t.Fatal(found, err)
	}
	says, err := w.closer.TraceEvent(t.Context(), *found.Event)
	if want := "too late: 2026-01 was closed before it came, and a late limit bars what rule calls of quill-notes would charge for it"; err != nil || strings.Join(says, "\n") != want {
		t.Errorf("the event says %q, %v; want %q", says, err, want)
	}
}

// TestFirstEngine: what the engine before closed is derived again as it did it, and
// what it left is corrected by the one of today.
func TestFirstEngine(t *testing.T) {
	w := testWorld(t)
	w.agree(t, changed(t, "marketplace: meridian-us", "close: {lag: 3 days}", "close: {lag: 3 days, late_limit: 1}"))
	w.deliver(t, 0, sale("s", "notes", "mesa", noon(jan, 9), "100.00"),
		lead(metering.LeadQualified, "l1", "CEDAR-1", "mesa", noon(jan, 2)), lead(metering.LeadConverted, "l1", "CEDAR-1", "mesa", noon(jan, 4)),
		lead(metering.LeadQualified, "l2", "QUILL-1", "mesa", noon(jan, 3)), lead(metering.LeadConverted, "l2", "QUILL-1", "mesa", noon(jan, 5)))
	for m := jan; m != apr; m = m.Add(1) {
		if m == mar { // two months late, and charged: that engine knew no limit of the marketplace
			w.deliver(t, 0, calls("c", "notes", "mesa", noon(jan, 6), 100))
		}
		w.beginAs(t, m, "mete-1")
		if got := w.barredBy(t, m); got != "" {
			t.Errorf("%s bars %q", m, got)
		}
	}
	const commission, usage = `quill quill-notes/brought referral "" 2026-01 USD`, `quill quill-notes/calls usage "" 2026-01 USD`
	if got := w.lines(t); got[commission] != 1000 || got[usage] != -100 {
		t.Errorf("the first engine billed %d and %d, want 1000 and -100", got[commission], got[usage])
	}
	w.deliver(t, 0, calls("d", "notes", "mesa", noon(jan, 6), 100))
	if got, want := w.barredBy(t, apr), "quill-notes 2026-01 referral -10.00, quill-notes 2026-01 usage -1.00"; got != want {
		t.Errorf("April bars %q, want %q", got, want)
	}
}

// beginAs begins the close of a month as another engine would have.
func (w *world) beginAs(t *testing.T, m period.Month, engine string) {
	t.Helper()
	snap, err := w.catalogue.At(t.Context(), m.Last(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	cutoff, err := w.events.Cutoff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	manifest := billing.Manifest{Entity: snap.Marketplace.Entity, Month: m, Cutoff: cutoff, Catalogue: snap.Refs(), Engine: engine, ClosedBy: closerName, ClosedAt: closedAt(m)}
	for _, zone := range []string{"America/Chicago", "America/Los_Angeles", "America/New_York", "UTC"} {
		z, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		manifest.Bounds = append(manifest.Bounds, m.In(z))
	}
	if _, err := w.db.BeginClose(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
}
