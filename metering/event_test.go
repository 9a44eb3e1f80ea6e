package metering_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"mete/metering"
	"mete/money"
	"mete/partner"
)

func dec(s string) *decimal.Decimal {
	d := decimal.RequireFromString(s)
	return &d
}

// sale is an event with every field said.
func sale() metering.Event {
	return metering.Event{
		ID: "inv-2026-000123", Source: "billing", Type: metering.SalePaid,
		Time: time.Date(2026, 9, 14, 10, 0, 0, 123456000, time.UTC), Customer: "cust-42",
		Data: metering.Data{
			App: "northwind-scheduler", Operation: "checkout", Class: metering.Marketplace, Quantity: dec("2.5"), Unit: "seat",
			Amount: dec("1200.5"), TaxAmount: dec("99"), Fee: dec("0.3"), Currency: "USD", Status: 200, LatencyMS: dec("2.715098"),
			Bytes: 203023, Environment: metering.Production, Deal: "deal-7", Lead: "lead-9", RefersTo: "inv-2026-000122",
			Reference: "PO 4711", Region: "us-tx", PaidMonths: 12, Dimensions: map[string]string{"plan": "gold", "tier": "a b"},
		},
	}
}

// everyField calls f for a copy of the sale with one field changed, for each field
// of Event and Data. A field of a kind it does not know fails the test, so that a
// new field cannot be forgotten.
func everyField(t *testing.T, f func(field string, changed metering.Event)) {
	t.Helper()
	change := func(path string, v reflect.Value) {
		switch {
		case v.Type() == reflect.TypeFor[time.Time]():
			v.Set(reflect.ValueOf(v.Interface().(time.Time).Add(time.Microsecond)))
		case v.Type() == reflect.TypeFor[*decimal.Decimal]():
			v.Set(reflect.ValueOf(dec("7.7")))
		case v.Type() == reflect.TypeFor[map[string]string]():
			v.Set(reflect.ValueOf(map[string]string{"plan": "gold", "tier": "c"}))
		case v.Kind() == reflect.String:
			v.SetString(v.String() + "x")
		case v.Kind() == reflect.Int, v.Kind() == reflect.Int64:
			v.SetInt(v.Int() + 1)
		case v.Kind() == reflect.Bool:
			v.SetBool(!v.Bool())
		default:
			t.Fatalf("%s has type %s: teach this test to change it, and ContentHash and AppendCanonical to cover it", path, v.Type())
		}
	}
	for i := range reflect.TypeFor[metering.Event]().NumField() {
		name := reflect.TypeFor[metering.Event]().Field(i).Name
		if name == "Data" {
			continue
		}
		e := sale()
		change(name, reflect.ValueOf(&e).Elem().Field(i))
		f(name, e)
	}
	for i := range reflect.TypeFor[metering.Data]().NumField() {
		name := "Data." + reflect.TypeFor[metering.Data]().Field(i).Name
		e := sale()
		if reflect.ValueOf(e.Data).Field(i).IsZero() {
			t.Fatalf("%s is not set in the sale of this test", name)
		}
		change(name, reflect.ValueOf(&e.Data).Elem().Field(i))
		f(name, e)
		gone := sale()
		reflect.ValueOf(&gone.Data).Elem().Field(i).SetZero()
		f(name+" absent", gone)
	}
}

func TestContentHashCoversEveryField(t *testing.T) {
	seen := map[metering.Hash]string{metering.ContentHash(sale()): "the sale itself"}
	everyField(t, func(field string, changed metering.Event) {
		h := metering.ContentHash(changed)
		if other, ok := seen[h]; ok {
			t.Errorf("changing %s gives the hash of %s", field, other)
		}
		seen[h] = field
	})
}

func TestContentHashIgnoresForm(t *testing.T) {
	want := metering.ContentHash(sale())
	other := sale()
	other.Data.Amount, other.Data.Quantity, other.Data.TaxAmount = dec("1200.500"), dec("25e-1"), dec("990e-1")
	other.Data.Fee = dec("0.30000000000000000000000000000000000")
	other.Time = other.Time.In(time.FixedZone("CDT", -5*3600))
	if metering.ContentHash(other) != want {
		t.Error("the same values in another form hash differently")
	}
	huge, tiny := sale(), sale()
	h := decimal.NewFromBigInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(20), nil), 0)
	huge.Data.Quantity, tiny.Data.Quantity = &h, dec("1e20")
	if metering.ContentHash(huge) != metering.ContentHash(tiny) {
		t.Error("10^20 hashes by its form")
	}

	absent := sale()
	absent.TimeAbsent = true
	later := absent
	later.Time = time.Time{}
	later.Accept(time.Date(2026, 9, 14, 11, 0, 0, 999, time.UTC))
	if later.Time != time.Date(2026, 9, 14, 11, 0, 0, 0, time.UTC) {
		t.Errorf("accepted at %s, want the microsecond of acceptance", later.Time)
	}
	again := later
	if again.Accept(later.Time.Add(time.Hour)); again.Time != later.Time {
		t.Errorf("accepted again at %s, want the time of its first receipt", again.Time)
	}
	if metering.ContentHash(absent) != metering.ContentHash(later) {
		t.Error("an event without a time hashes by when it was accepted")
	}
	if metering.ContentHash(absent) == want {
		t.Error("an absent time hashes like the time of acceptance")
	}
}

// TestIdentityNeverChanges pins identities that stores keep for years; both were
// computed by another program from the description alone.
func TestIdentityNeverChanges(t *testing.T) {
	if got, want := metering.KeyOf("billing", "inv-1").String(), "fb03f78265b020bcfdc8579c41f8351a"; got != want {
		t.Errorf("key %s, want %s", got, want)
	}
	if got, want := metering.ContentHash(sale()).String(), "d3d76f953493aa46c7e72f296157fab241258cdf36d18a78f1bbb3c4054ade1e"; got != want {
		t.Errorf("content hash %s, want %s", got, want)
	}
	if metering.KeyOf("ab", "c") == metering.KeyOf("a", "bc") || metering.KeyOf("a", "b") == metering.KeyOf("b", "a") {
		t.Error("source and id run into each other")
	}
}

func TestKeyText(t *testing.T) {
	k := metering.KeyOf("s", "1")
	b, err := json.Marshal(map[metering.Key]metering.Key{k: k})
	if err != nil {
		t.Fatal(err)
	}
	var back map[metering.Key]metering.Key
	if err := json.Unmarshal(b, &back); err != nil || back[k] != k {
		t.Errorf("%s reads back as %v, %v", b, back, err)
	}
	if got, err := metering.ParseKey(k.String()); err != nil || got != k {
		t.Errorf("ParseKey(%s) = %s, %v", k, got, err)
	}
	for text, want := range map[string]string{
		"12":                    "event key of 2 characters: want 32 hexadecimal digits",
		strings.Repeat("z", 32): "event key: want hexadecimal digits only",
	} {
		if _, err := metering.ParseKey(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseKey(%q): %v, want %s", text, err, want)
		}
	}
	var h metering.Hash
	if err := h.UnmarshalText([]byte(metering.Hash{1, 2}.String())); err != nil || h != (metering.Hash{1, 2}) {
		t.Errorf("hash reads back as %s, %v", h, err)
	}
	if k.Compare(k) != 0 || (metering.Key{1}).Compare(metering.Key{2}) >= 0 {
		t.Error("keys are out of order")
	}
}

var anyText = rapid.OneOf(rapid.Just(""), rapid.StringN(0, 20, -1), rapid.StringMatching(`[a-z0-9/@"\\{}\n-]{0,12}`))

var anyNumber = rapid.Custom(func(t *rapid.T) *decimal.Decimal {
	if rapid.Bool().Draw(t, "absent") {
		return nil
	}
	d := decimal.New(rapid.Int64().Draw(t, "coefficient"), rapid.Int32Range(-20, 20).Draw(t, "exponent"))
	if rapid.Bool().Draw(t, "long") { // up to 38 digits
		d = decimal.New(rapid.Int64().Draw(t, "first"), 0).Mul(decimal.New(rapid.Int64().Draw(t, "second"), -20))
	}
	return &d
})

// anyEvent draws events of every form, valid or not.
var anyEvent = rapid.Custom(func(t *rapid.T) metering.Event {
	text := func(name string) string { return anyText.Draw(t, name) }
	e := metering.Event{
		ID: text("id"), Source: text("source"), Type: text("type"), TimeAbsent: rapid.Bool().Draw(t, "time absent"),
		Customer: partner.CustomerID(text("customer")),
		Data: metering.Data{
			App: partner.AppID(text("app")), Operation: text("operation"), Class: metering.Class(text("class")),
			Quantity: anyNumber.Draw(t, "quantity"), Unit: text("unit"), Amount: anyNumber.Draw(t, "amount"),
			TaxAmount: anyNumber.Draw(t, "tax"), Fee: anyNumber.Draw(t, "fee"), Currency: money.Currency(text("currency")),
			Status: rapid.Int().Draw(t, "status"), LatencyMS: anyNumber.Draw(t, "latency"), Bytes: rapid.Int64().Draw(t, "bytes"),
			Environment: metering.Environment(text("environment")), Deal: text("deal"), Lead: text("lead"), RefersTo: text("refers to"),
			Reference: text("reference"), Region: text("region"), PaidMonths: rapid.Int().Draw(t, "months"),
		},
	}
	if rapid.Bool().Draw(t, "timed") {
		e.Time = time.UnixMicro(rapid.Int64Range(-62135596800000000, 253402300799999999).Draw(t, "time")).UTC()
	}
	if m := rapid.MapOfN(anyText, anyText, 0, 4).Draw(t, "dimensions"); len(m) > 0 {
		e.Data.Dimensions = m
	}
	return e
})

// byValue compares decimals by value and, in all else, everything.
var byValue = cmp.Comparer(func(a, b decimal.Decimal) bool { return a.Equal(b) })

func TestCanonicalRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent.Draw(t, "event")
		text := metering.AppendCanonical([]byte("before"), e)
		if string(text[:6]) != "before" {
			t.Fatal("AppendCanonical does not append")
		}
		text = text[6:]
		back, err := metering.DecodeCanonical(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if d := cmp.Diff(e, back, byValue); d != "" {
			t.Fatalf("%s reads back otherwise: %s", text, d)
		}
		if got := metering.AppendCanonical(nil, back); string(got) != string(text) {
			t.Fatalf("%s is written as %s after reading", text, got)
		}
		if metering.ContentHash(e) != metering.ContentHash(back) {
			t.Fatalf("%s changes its content hash", text)
		}
		var plain metering.Event
		if err := json.Unmarshal(text, &plain); err != nil {
			t.Fatalf("%s: encoding/json: %v", text, err)
		}
		if d := cmp.Diff(e, plain, byValue); d != "" {
			t.Fatalf("%s: encoding/json reads it otherwise: %s", text, d)
		}
	})
}

func TestCanonicalCoversEveryField(t *testing.T) {
	everyField(t, func(field string, changed metering.Event) {
		back, err := metering.DecodeCanonical(metering.AppendCanonical(nil, changed))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(changed, back, byValue); d != "" {
			t.Errorf("%s is lost: %s", field, d)
		}
	})
}

func TestCanonicalText(t *testing.T) {
	const want = `{"id":"inv-2026-000123","source":"billing","type":"sale.paid","time":"2026-09-14T10:00:00.123456Z","subject":"cust-42",` +
		`"data":{"app":"northwind-scheduler","operation":"checkout","class":"marketplace","quantity":"2.5","unit":"seat","amount":"1200.5",` +
		`"tax_amount":"99","fee":"0.3","currency":"USD","status":200,"latency_ms":"2.715098","bytes":203023,"environment":"production",` +
		`"deal":"deal-7","lead":"lead-9","refers_to":"inv-2026-000122","reference":"PO 4711","region":"us-tx","paid_months":12,` +
		`"dimensions":{"plan":"gold","tier":"a b"}}}`
	if got := string(metering.AppendCanonical(nil, sale())); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestDecodeCanonicalIsStrict(t *testing.T) {
	for text, want := range map[string]string{
		`{"id":"1","data":{}} x`:                    "want the end of the text",
		`{"id":"1","data":{"color":"red"}}`:         "unknown_field: data.color",
		`{"id":"1","extension":"1","data":{}}`:      "unknown_field: extension",
		`{"id":"1","id":"2","data":{}}`:             "duplicate_field",
		`[1]`:                                       "wrong_type",
		`{"id":"1","time":"yesterday","data":{}}`:   "bad_time",
		`{"id":"1","time_absent":false,"data":{}}`:  "wrong_type: time_absent",
		`{"id":"1","specversion":"1.0","data":{}}`:  "bad_specversion",
		`{"id":"1","data_base64":"e30=","data":{}}`: "unknown_field",
		strings.Repeat(" ", 500_000):                "too large",
	} {
		if _, err := metering.DecodeCanonical([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %s", text, err, want)
		}
	}
}

func FuzzDecodeCanonical(f *testing.F) {
	f.Add(metering.AppendCanonical(nil, sale()))
	f.Add([]byte(`{"id":"\ud83c\udf0e","data":{"dimensions":{"a":"\u0000"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := metering.DecodeCanonical(b)
		if err != nil {
			return
		}
		back, err := metering.DecodeCanonical(metering.AppendCanonical(nil, e))
		if d := cmp.Diff(e, back, byValue); err != nil || d != "" {
			t.Fatalf("%q: %v %s", b, err, d)
		}
	})
}

func ExampleKeyOf() {
	fmt.Println(metering.KeyOf("billing", "inv-1"))
	// Output: fb03f78265b020bcfdc8579c41f8351a
}
