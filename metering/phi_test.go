package metering_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mete/metering"
)

// guardCases are, for each pattern, texts that it catches and near-misses that pass.
var guardCases = map[string]struct{ caught, pass []string }{
	"email": {
		[]string{"jane.doe@example.org", "id-jane@clinic.example.com-7", "mailto:jane@example.org", "jane%40example.org", "jane%2540example.org", "JANE@EXAMPLE.ORG", "<jane@example.org>", "jane@example.org."},
		[]string{"fhir@file", "@openmeter/sdk", "http-0-p0o00o0g0cksskkog88so880@docker", "pkg@v1.2", "a@b", "at@", "@example.org", "https://@example.org"},
	},
	"ssn": {
		[]string{"123-45-6789", "cust-123-45-6789", "ssn:123456789", "SSN 123456789", "123 45 6789", "ssn=123-45-6789", "x/123-45-6789/y"},
		[]string{"123-456-789", "1123-45-6789", "123-45-67890", "2026-000123", "000-12-3456", "123456789", "a123-45-6789", "session-123456789", "123-45 6789"},
	},
	"fhir_path": {
		[]string{"Patient/123", "/fhir/r4/Patient/abc", "patient/123", "patients/8f14e45f", "Observation/obs-1", "Patient%2F123", "https://ehr.example/Encounter/e7/_history/1", "Patient/abc_1", "/MedicationRequest/x", "Condition/flu", "AllergyIntolerance/7", "Invoice/7"},
		[]string{"Patient/{id}", "Patient/:id", "Patient/read", "Patient/$match", "Patient/_search", "patient/Observation.rs", "patient/Patient.read", "user/Condition.read", "patient/*.*", "Patient.read", "Practitioner/77", "billing/invoice/2026-1", "task/9", "inpatient/x9", "Patient", "group/7"},
	},
	"mrn": {
		[]string{"mrn-0012345", "MRN: 88123", "cust_mrn_1234", "patient-10442", "patient_id=1234", "MRN E1234567", "member-id 99120", "medical_record_number:7712"},
		[]string{"mrn-service", "patient-360", "patient-portal-2026", "outpatient-2026", "mrnx-12345", "remembered-12345", "patients-2026"},
	},
	"medicare_id": {
		[]string{"1EG4-TE5-MK73", "x 1EG4-TE5-MK73", "id:1EG4-TE5-MK73."},
		[]string{"1EG4-TE5-MKL3", "1EG4TE5MK73", "0EG4-TE5-MK73", "x1EG4-TE5-MK73", "1eg4-te5-mk73", "1SG4-TE5-MK73"},
	},
	"birth_date": {
		[]string{"1961-04-12", "2026-09-14", "04/12/1961", "4/2/1961", "12.04.1961", "dob-19610412", "dob=2019-04-12", "DOB 4/12/2019", "smith-1961-04-12", "seen 04/12/2019", "birthdate:2019-04-12", "born.2019-04-12"},
		[]string{"inv-2026-09-14", "2026-09-14T10:00:00Z", "inv-2026-000123", "2026-13-14", "19610412", "1800-04-12", "logs/04/12/2019/x", "2026-09", "20260914-7", "dob", "3-1961-04", "batch-2026-09-14-3", "1.4.2"},
	},
	"query": {
		[]string{"Patient?name=smith", "what?", "a%3Fb", "family=Smith", "x&birthdate=1961", "given=Jo"},
		[]string{"a=b", "tier=gold", "family", "family=", "forgiven=yes", "given name"},
	},
	"phone": {
		[]string{"555-234-5678", "(555) 234-5678", "555.234.5678", "+15552345678", "1-555-234-5678", "call 555 234 5678", "app-555-234-5678", "tel:+4915112345678"},
		[]string{"155-234-5678", "555-134-5678", "1234-555-234-5678", "555-234-56789", "5552345678", "555.234-5678", "+123", "v1.555.234.5678", "555-234-5678-9"},
	},
	"ip_address": {
		[]string{"83.149.9.216", "127.0.0.1", "::1", "2001:db8::8a2e:370:7334", "1:2:3:4:5:6:7:8", "fe80::1"},
		[]string{"cust-83.149.9.216", "83.149.9", "83.149.9.999", "1.2.3.4.5", "12:30:45", "urn:a::b::zz", "a:b"},
	},
}

func TestGuard(t *testing.T) {
	for _, p := range metering.Patterns() {
		c, ok := guardCases[p.Name]
		if !ok || len(c.caught) == 0 || len(c.pass) == 0 {
			t.Errorf("pattern %s has no cases: it needs texts that it catches and near-misses that pass", p.Name)
		}
		for _, s := range c.caught {
			if got := metering.Guard(s); got != p.Name {
				t.Errorf("%s: %q is caught as %q", p.Name, s, got)
			}
		}
		for _, s := range c.pass {
			if got := metering.Guard(s); got != "" {
				t.Errorf("%s: %q should pass, is caught as %s", p.Name, s, got)
			}
		}
	}
	if len(guardCases) != len(metering.Patterns()) {
		t.Error("there are cases of a pattern that does not exist")
	}
}

// cleanNames are what ids, sources and references look like in use.
var cleanNames = []string{
	"957cc5fcfa8c506b0f9f8d0249342212", "line:4da45fcea7b55bb504259cdae1f5db26", "0192f5a8-2c4e-7d3a-9b61-3f2a1c0d4e5f",
	"cust-83.149.9.216", "app-presentations", "app-~psionic", "inv-2026-000123", "inv-2026-09-14", "evt_1PgafmB7WZ01zgkWYmZQ9G0k",
	"https://gateway.example.com/prod-1", "//github.com/cloudevents/cloudeventsconformance/yaml/v1.yaml", "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
	"northwind-scheduler", "certified_api", "us-tx", "fhir.patient.read", "PO 4711", "in_1NxYz2eZvKYlo2C", "01ARZ3NDEKTSV4RRFFQ69G5FAV",
	"A234-1234-1234", "2026-11-23T15:01:45.396Z", "1795446105.396", "Bücher GmbH", "東京", "1-2-3", "100%", "5% off", "50%-plan",
}

func TestGuardPassesNamesInUse(t *testing.T) {
	for _, s := range cleanNames {
		if got := metering.Guard(s); got != "" {
			t.Errorf("%q is caught as %s", s, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9]{1,18}|inv-20[0-9]{2}-[0-9]{6}`).Draw(t, "id")
		if got := metering.Guard(id); got != "" {
			t.Fatalf("%q is caught as %s", id, got)
		}
	})
}

// TestGuardWatchesEveryText puts what must not be kept into every text of an event.
func TestGuardWatchesEveryText(t *testing.T) {
	dir := directory()
	fields := 0
	for _, part := range []func(*metering.Event) reflect.Value{
		func(e *metering.Event) reflect.Value { return reflect.ValueOf(e).Elem() },
		func(e *metering.Event) reflect.Value { return reflect.ValueOf(&e.Data).Elem() },
	} {
		e := sale()
		for i := range part(&e).NumField() {
			e := sale()
			f, name := part(&e).Field(i), part(&e).Type().Field(i).Name
			if f.Kind() != reflect.String {
				continue
			}
			fields++
			f.SetString("jane.doe@example.org")
			refusedWithout(t, name, metering.Validate(e, dir, at), "phi_email", "jane")
			f.SetString("a\x00b")
			refusedWithout(t, name, metering.Validate(e, dir, at), metering.BadText, "\x00")
			f.SetString("a\xffb")
			refusedWithout(t, name, metering.Validate(e, dir, at), metering.BadText, "\xff")
			f.SetString(strings.Repeat("longer", 100))
			refusedWithout(t, name, metering.Validate(e, dir, at), metering.TooLong, "longerlonger")
		}
	}
	if fields != 15 {
		t.Errorf("%d texts were tried: adjust the count once the new one is seen to be watched", fields)
	}
	for _, m := range []map[string]string{{"plan": "jane.doe@example.org"}, {"jane.doe@example.org": "x"}, {"jane.doe": "mrn 123456"}} {
		e := sale()
		e.Data.Dimensions = m
		bad := metering.Validate(e, dir, at)
		if bad == nil || bad.Class != metering.Unclean {
			t.Errorf("dimensions %v: %+v", m, bad)
		} else if text := fmt.Sprint(*bad); strings.Contains(text, "jane") || strings.Contains(text, "123456") {
			t.Errorf("dimensions %v: the refusal tells them: %s", m, text)
		}
	}
}

func refusedWithout(t *testing.T, name string, bad *metering.Refusal, reason, secret string) {
	t.Helper()
	if bad == nil {
		t.Errorf("%s: accepted", name)
		return
	}
	bad.Seal([]byte(secret), "test:1", at)
	if b, err := json.Marshal(bad); bad.Reason != reason || bad.Class != metering.Unclean || err != nil || bytes.Contains(b, []byte(secret)) || bad.Event != nil {
		t.Errorf("%s: want %s without the value: %s", name, reason, b)
	}
}

func FuzzGuard(f *testing.F) {
	for _, c := range guardCases {
		for _, s := range slices.Concat(c.caught, c.pass) {
			f.Add(s)
		}
	}
	for _, s := range cleanNames {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := metering.Guard(s)
		// What is caught in the plain is caught percent-encoded.
		if strings.ContainsAny(s, "%") {
			return
		}
		if got := metering.Guard(url.QueryEscape(strings.ReplaceAll(s, " ", "_"))); name != "" && !strings.Contains(s, " ") && got == "" {
			t.Errorf("%q is caught as %s, but passes percent-encoded", s, name)
		}
	})
}

func BenchmarkGuard(b *testing.B) {
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if metering.Guard(cleanNames[i%24]) != "" {
			b.Fatal("caught")
		}
	}
}

func TestGuardAllocatesNothingForCleanText(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		for _, s := range cleanNames[:24] {
			metering.Guard(s)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
