package metering_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"mete/metering"
	"mete/partner"
)

func directory() *metering.Directory {
	return metering.NewDirectory(
		[]partner.App{{ID: "northwind-scheduler", Partner: "northwind"}, {ID: "contoso-notes", Partner: "contoso"}},
		[]metering.Meter{
			{ID: "api_calls", Type: metering.UsageAPI, Aggregate: metering.AggregateCount, Dimensions: []string{"plan"}},
			{ID: "storage", Type: "usage.storage", Aggregate: metering.AggregateQuantity, Dimensions: []string{"zone"}},
			{ID: "sales", Type: metering.SalePaid, Aggregate: metering.AggregateCount, Dimensions: []string{"plan", "tier"}},
			{ID: "stray", Type: "weather.changed", Aggregate: metering.AggregateCount},
		},
		[]metering.Source{
			{Name: "billing", Owner: "key-1"},
			{Name: "gateway-7", Owner: "key-2", Mapping: "nginx", Apps: []partner.AppID{"contoso-notes"}},
			{Name: "gateway-8", Owner: "key-2"},
		})
}

func call() metering.Event {
	return metering.Event{ID: "1", Source: "gateway-8", Type: metering.UsageAPI, Time: at.Add(-time.Hour), Data: metering.Data{App: "contoso-notes", Status: 200}}
}

func TestValidate(t *testing.T) {
	type E = metering.Event
	edit := func(e E, f func(*E)) E { f(&e); return e }
	of := func(kind string, f func(*E)) E { return edit(call(), func(e *E) { e.Type = kind; f(e) }) }
	none := func(*E) {}
	for _, c := range []struct {
		name  string
		event E
		want  string // reason, then field; "" accepted
	}{
		{"a sale with everything", sale(), ""},
		{"a call", call(), ""},
		{"no time", edit(call(), func(e *E) { e.Time, e.TimeAbsent = time.Time{}, true }), ""},
		{"a type of a meter's own", of("usage.storage", none), ""},
		{"its dimension", of("usage.storage", func(e *E) { e.Data.Dimensions = map[string]string{"zone": "a"} }), ""},
		{"customer that has an address in its name", edit(call(), func(e *E) { e.Customer = "cust-83.149.9.216" }), ""},

		{"no id", edit(call(), func(e *E) { e.ID = "" }), "missing_field id"},
		{"no source", edit(call(), func(e *E) { e.Source = "" }), "missing_field source"},
		{"no type", edit(call(), func(e *E) { e.Type = "" }), "missing_field type"},
		{"longest id", edit(call(), func(e *E) { e.ID = strings.Repeat("x", 256) }), ""},
		{"too long id", edit(call(), func(e *E) { e.ID = strings.Repeat("x", 257) }), "too_long id"},
		{"too long source", edit(call(), func(e *E) { e.Source = strings.Repeat("x", 257) }), "too_long source"},
		{"longest unit", edit(call(), func(e *E) { e.Data.Unit = strings.Repeat("x", 128) }), ""},
		{"too long unit", edit(call(), func(e *E) { e.Data.Unit = strings.Repeat("x", 129) }), "too_long data.unit"},
		{"customer with a space", edit(call(), func(e *E) { e.Customer = "Dr Jones" }), "bad_identifier subject"},
		{"customer that is an address", edit(call(), func(e *E) { e.Customer = "83.149.9.216" }), "phi_ip_address subject"},

		{"unknown type", of("usage.moon", none), "unknown_type type"},
		{"a meter cannot invent a kind of event", of("weather.changed", none), "unknown_type type"},
		{"unknown app", edit(call(), func(e *E) { e.Data.App = "fabrikam-fax" }), "unknown_app data.app"},
		{"unknown class", edit(call(), func(e *E) { e.Data.Class = "cheap" }), "unknown_class data.class"},
		{"unknown environment", edit(call(), func(e *E) { e.Data.Environment = "staging" }), "unknown_environment data.environment"},
		{"sandbox", edit(call(), func(e *E) { e.Data.Environment = metering.Sandbox }), ""},
		{"unknown currency", edit(sale(), func(e *E) { e.Data.Currency = "usd" }), "unknown_currency data.currency"},
		{"unknown currency without amount", edit(call(), func(e *E) { e.Data.Currency = "XXQ" }), "unknown_currency data.currency"},
		{"amount without currency", edit(call(), func(e *E) { e.Data.Amount = dec("1") }), "missing_field data.currency"},
		{"fee without currency", edit(call(), func(e *E) { e.Data.Fee = dec("1") }), "missing_field data.currency"},
		{"undeclared dimension", edit(call(), func(e *E) { e.Data.Dimensions = map[string]string{"tier": "x"} }), "unknown_dimension data.dimensions.tier"},
		{"too many dimensions", edit(call(), func(e *E) {
			e.Data.Dimensions = map[string]string{}
			for i := range 17 {
				e.Data.Dimensions[fmt.Sprintf("d%d", i)] = "x"
			}
		}), "too_many_dimensions data.dimensions"},
		{"dimension with a space in its name", edit(call(), func(e *E) { e.Data.Dimensions = map[string]string{"the plan": "x"} }), "bad_identifier data.dimensions"},
		{"app that its source may not report", edit(call(), func(e *E) { e.Source, e.Data.App = "gateway-7", "northwind-scheduler" }), "app_not_of_source data.app"},
		{"app that its source may report", edit(call(), func(e *E) { e.Source = "gateway-7" }), ""},

		{"half a cent", edit(sale(), func(e *E) { e.Data.Amount = dec("0.005") }), "too_fine data.amount"},
		{"a cent with zeros behind", edit(sale(), func(e *E) { e.Data.Amount = dec("0.010000") }), ""},
		{"yen have no decimals", edit(sale(), func(e *E) { e.Data.Currency, e.Data.Amount = "JPY", dec("10.5") }), "too_fine data.amount"},
		{"dinars have three", edit(sale(), func(e *E) { e.Data.Currency, e.Data.Fee = "KWD", dec("10.125") }), ""},
		{"negative refund", edit(sale(), func(e *E) { e.Data.Amount = dec("-5") }), "out_of_range data.amount"},
		{"negative tax", edit(sale(), func(e *E) { e.Data.TaxAmount = dec("-5") }), "out_of_range data.tax_amount"},
		{"ten trillion", edit(sale(), func(e *E) { e.Data.Amount = dec("10000000000000") }), "out_of_range data.amount"},
		{"a cent less", edit(sale(), func(e *E) { e.Data.Amount = dec("9999999999999.99") }), ""},
		{"an absurd exponent", edit(sale(), func(e *E) { d := decimal.New(1, 1_000_000_000); e.Data.Amount = &d }), "bad_number data.amount"},
		{"nine places", edit(call(), func(e *E) { e.Data.Quantity = dec("0.123456789") }), ""},
		{"ten places", edit(call(), func(e *E) { e.Data.Quantity = dec("0.1234567891") }), "too_fine data.quantity"},
		{"ten places, nine needed", edit(call(), func(e *E) { e.Data.Quantity = dec("0.1234567890") }), ""},
		{"thirty places, one needed", edit(call(), func(e *E) { e.Data.Quantity = dec("0.100000000000000000000000000000") }), ""},
		{"negative quantity", edit(call(), func(e *E) { e.Data.Quantity = dec("-1") }), "out_of_range data.quantity"},
		{"huge quantity", edit(call(), func(e *E) { e.Data.Quantity = dec("1e13") }), "out_of_range data.quantity"},
		{"negative latency", edit(call(), func(e *E) { e.Data.LatencyMS = dec("-0.1") }), "out_of_range data.latency_ms"},
		{"status 99", edit(call(), func(e *E) { e.Data.Status = 99 }), "out_of_range data.status"},
		{"status 600", edit(call(), func(e *E) { e.Data.Status = 600 }), "out_of_range data.status"},
		{"status 100", edit(call(), func(e *E) { e.Data.Status = 100 }), ""},
		{"status 599", edit(call(), func(e *E) { e.Data.Status = 599 }), ""},
		{"no status", edit(call(), func(e *E) { e.Data.Status = 0 }), ""},
		{"negative bytes", edit(call(), func(e *E) { e.Data.Bytes = -1 }), "out_of_range data.bytes"},
		{"exabytes", edit(call(), func(e *E) { e.Data.Bytes = 1 << 60 }), "out_of_range data.bytes"},
		{"negative months", edit(call(), func(e *E) { e.Data.PaidMonths = -1 }), "out_of_range data.paid_months"},

		{"the last second of 1999", edit(call(), func(e *E) { e.Time = metering.Epoch().Add(-time.Second) }), "time_too_old time"},
		{"2000", edit(call(), func(e *E) { e.Time = metering.Epoch() }), ""},
		{"zero time", edit(call(), func(e *E) { e.Time = time.Time{} }), "time_too_old time"},
		{"five minutes ahead", edit(call(), func(e *E) { e.Time = at.Add(5 * time.Minute) }), ""},
		{"more", edit(call(), func(e *E) { e.Time = at.Add(5*time.Minute + time.Microsecond) }), "time_in_future time"},
		{"the year 20000", edit(call(), func(e *E) { e.Time = time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC) }), "bad_time time"},

		{"call without app", edit(call(), func(e *E) { e.Data.App = "" }), "missing_field data.app"},
		{"sale without app", edit(sale(), func(e *E) { e.Data.App = "" }), "missing_field data.app"},
		{"sale without customer", edit(sale(), func(e *E) { e.Customer = "" }), "missing_field subject"},
		{"sale without amount", edit(sale(), func(e *E) { e.Data.Amount = nil }), "missing_field data.amount"},
		{"sale without currency", edit(sale(), func(e *E) { e.Data.Currency = "" }), "missing_field data.currency"},
		{"refund of nothing", edit(sale(), func(e *E) { e.Type, e.Data.RefersTo, e.Data.Dimensions = metering.SaleRefunded, "", nil }), "missing_field data.refers_to"},
		{"chargeback of nothing", edit(sale(), func(e *E) { e.Type, e.Data.RefersTo, e.Data.Dimensions = metering.SaleChargedBack, "", nil }), "missing_field data.refers_to"},
		{"lost chargeback of nothing", edit(sale(), func(e *E) { e.Type, e.Data.RefersTo, e.Data.Dimensions = metering.SaleChargebackLost, "", nil }), "missing_field data.refers_to"},
		{"refund", edit(sale(), func(e *E) { e.Type, e.Data.Dimensions = metering.SaleRefunded, nil }), ""},
		{"refund of itself", edit(sale(), func(e *E) { e.Type, e.Data.Dimensions, e.Data.RefersTo = metering.SaleRefunded, nil, e.ID }), "refers_to_itself data.refers_to"},
		{"lead without lead", of(metering.LeadConverted, none), "missing_field data.lead"},
		{"lead without app", of(metering.LeadQualified, func(e *E) { e.Data.App, e.Data.Lead = "", "lead-9" }), ""},
		{"fee without class", of(metering.FeeDue, func(e *E) { e.Data.Reference = "listing-2026" }), "missing_field data.class"},
		{"fee of a rule", of(metering.FeeDue, func(e *E) { e.Data.Reference, e.Data.Class = "listing-2026", metering.Listing }), ""},
		{"fee of an amount", of(metering.FeeDue, func(e *E) {
			e.Data.Amount, e.Data.Currency, e.Data.Class = dec("99"), "USD", metering.Listing
		}), ""},
		{"fee of neither", of(metering.FeeDue, func(e *E) { e.Data.Class = metering.Listing }), "missing_field data.amount"},
		{"void of nothing", of(metering.UsageVoided, func(e *E) { e.Data.App = "" }), "missing_field data.refers_to"},
		{"void", of(metering.UsageVoided, func(e *E) { e.Data.App, e.Data.RefersTo = "", "0" }), ""},
		{"installation for nobody", of(metering.AppInstalled, none), "missing_field subject"},
		{"incident of no app", of(metering.IncidentOpened, func(e *E) { e.Data.App = "" }), "missing_field data.app"},
		{"support of no app", of(metering.SupportAnswered, func(e *E) { e.Data.App = "" }), "missing_field data.app"},
	} {
		bad := metering.Validate(c.event, directory(), at)
		got := ""
		if bad != nil {
			got = bad.Reason + " " + bad.Field
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if bad == nil {
			continue
		}
		reason, ok := metering.ReasonOf(bad.Reason)
		if !ok || reason.Class != bad.Class || !strings.Contains(bad.Detail, reason.Remedy) {
			t.Errorf("%s: %+v does not follow the table", c.name, bad)
		}
		if bad.Class == metering.Unclean {
			if bad.Event != nil {
				t.Errorf("%s: an unclean event is kept", c.name)
			}
		} else if kept, err := metering.DecodeCanonical(bad.Event); err != nil || metering.ContentHash(kept) != metering.ContentHash(c.event) {
			t.Errorf("%s: what is kept for a replay is another event: %s, %v", c.name, bad.Event, err)
		}
	}
}

func TestEveryBuiltInTypeCanBeAccepted(t *testing.T) {
	for _, kind := range []string{
		metering.UsageAPI, metering.UsageVoided, metering.SalePaid, metering.SaleInvoiced, metering.SaleRefunded, metering.SaleChargedBack,
		metering.SaleChargebackWon, metering.SaleChargebackLost, metering.SaleWrittenOff, metering.LeadQualified, metering.LeadConverted, metering.LeadCancelled,
		metering.FeeDue, metering.AppRegistered, metering.AppInstalled, metering.AppUninstalled, metering.ScopeChanged,
		metering.ReviewSubmitted, metering.ReviewDecided, metering.ExceptionGranted, metering.ExceptionClosed, metering.IncidentOpened,
		metering.IncidentClosed, metering.SupportOpened, metering.SupportAnswered, metering.SupportClosed,
	} {
		e := sale()
		e.Type, e.Data.Dimensions = kind, nil
		if bad := metering.Validate(e, directory(), at); bad != nil {
			t.Errorf("%s: %s", kind, bad.Detail)
		}
	}
}

func TestDirectoryKnowsTypes(t *testing.T) {
	for kind, want := range map[string]bool{"usage.api": true, "usage.storage": true, "sale.paid": true, "usage.moon": false, "weather.changed": false, "": false, "usage.": false} {
		if got := directory().KnowsType(kind); got != want {
			t.Errorf("KnowsType(%q) = %v", kind, got)
		}
	}
	if p, ok := directory().Partner("contoso-notes"); p != "contoso" || !ok {
		t.Errorf("partner of contoso-notes: %q, %v", p, ok)
	}
	if _, ok := directory().Partner("fabrikam-fax"); ok {
		t.Error("an unknown app has a partner")
	}
}

func TestCheckSource(t *testing.T) {
	for _, c := range []struct{ source, owner, want string }{
		{"billing", "key-1", ""},
		{"billing", "key-2", "source_not_yours"},
		{"nobody", "key-1", "unknown_source"},
		{"jane@example.org", "key-1", "phi_email"},
	} {
		bad := directory().CheckSource(c.source, c.owner)
		if bad == nil && c.want != "" || bad != nil && bad.Reason != c.want {
			t.Errorf("%s by %s: %+v, want %q", c.source, c.owner, bad, c.want)
		}
		if bad != nil && strings.Contains(bad.Detail, "key-1") {
			t.Errorf("%s tells whose the source is: %s", c.source, bad.Detail)
		}
	}
	if own := directory().SourcesOf("key-2"); len(own) != 2 || own[0].Name != "gateway-7" || own[1].Name != "gateway-8" {
		t.Errorf("sources of key-2: %+v", own)
	}
}

func TestSealIsTheSameForTheSameRefusal(t *testing.T) {
	make := func(raw, where string, now time.Time) metering.Refusal {
		r := metering.Validate(metering.Event{}, directory(), now)
		r.Seal([]byte(raw), where, now)
		return *r
	}
	a, b := make("x", "log:1", at), make("x", "log:1", at.Add(time.Hour))
	if a.ID != b.ID || len(a.ID) != 32 || len(a.Digest) != 64 || a.Where != "log:1" {
		t.Errorf("%+v and %+v", a, b)
	}
	if c, d := make("y", "log:1", at), make("x", "log:2", at); c.ID == a.ID || d.ID == a.ID {
		t.Error("other text or another place has the same receipt")
	}
}

func TestReasonsAreDocumented(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range metering.Reasons() {
		if seen[r.Word] || r.Text == "" || r.Remedy == "" || r.Class != metering.Unclean && r.Class != metering.Unusable {
			t.Errorf("reason %+v", r)
		}
		seen[r.Word] = true
		if row := fmt.Sprintf("| `%s` | %s | %s | %s |", r.Word, r.Class, r.Text, r.Remedy); !strings.Contains(string(readme), row) {
			t.Errorf("README.md lacks the row\n%s", row)
		}
	}
	if _, ok := metering.ReasonOf("bad_luck"); ok {
		t.Error("an unknown reason is found")
	}
}

// TestRefusalsTellNothing: whatever stands in an event, an unclean refusal holds
// none of it.
func TestRefusalsTellNothing(t *testing.T) {
	dir := directory()
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent.Draw(t, "event")
		const secret = "Zaphod"
		mark := rapid.SampledFrom([]string{secret, secret + "@example.org", secret + " mrn 12345", "Patient/" + secret + "7", secret + "\x01"}).Draw(t, "mark")
		switch rapid.IntRange(0, 4).Draw(t, "where") {
		case 0:
			e.ID = mark
		case 1:
			e.Data.Reference = mark
		case 2:
			e.Customer = partner.CustomerID(mark)
		case 3:
			e.Data.Dimensions = map[string]string{mark: "x"}
		case 4:
			e.Data.Dimensions = map[string]string{"plan": mark}
		}
		bad := metering.Validate(e, dir, at)
		if bad == nil {
			return
		}
		b, err := json.Marshal(bad)
		if err != nil {
			t.Fatal(err)
		}
		if bad.Class == metering.Unclean && (strings.Contains(string(b), secret) || bad.Event != nil) {
			t.Fatalf("unclean, but told: %s", b)
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	dir, e := directory(), sale()
	b.ReportAllocs()
	for b.Loop() {
		if r := metering.Validate(e, dir, at); r != nil {
			b.Fatal(r.Detail)
		}
	}
}

func BenchmarkContentHash(b *testing.B) {
	e := sale()
	b.ReportAllocs()
	for b.Loop() {
		metering.ContentHash(e)
	}
}
