package metering_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mete/metering"
	"mete/metering/meteringtest"
)

func claimsOf(t *testing.T, text string) (all []metering.Claim, r *metering.ClaimReader) {
	t.Helper()
	r, err := metering.Claims(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, r
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
}

// TestClaimsOfBothForms: a record says the same as a line of CSV and as a JSON object,
// flat or with its data inside.
func TestClaimsOfBothForms(t *testing.T) {
	want := metering.Event{Type: metering.SalePaid, Time: time.Date(2026, 9, 15, 10, 0, 0, 250_000_000, time.UTC), Customer: "lakeside",
		Data: metering.Data{App: "scheduler", Quantity: meteringtest.Decimal("2.5"), Amount: meteringtest.Decimal("10.00"), Currency: "USD", Status: 200, Bytes: 7, Reference: `a "b", c`}}
	for name, text := range map[string]string{
		"CSV":     "\xef\xbb\xbfID,Source,time,type,subject,app,quantity,amount,currency,status,bytes,reference,remarks\r\ni,s,2026-09-15T12:00:00.25+02:00,sale.paid,lakeside, scheduler ,2.50,10,USD,200,7,\"a \"\"b\"\", c\",x\r\n",
		"flat":    `{"id":"i","source":"s","time":"2026-09-15T10:00:00.25Z","type":"sale.paid","subject":"lakeside","app":"scheduler","quantity":"2.5","amount":10.0,"currency":"USD","status":200,"bytes":7,"reference":"a \"b\", c","remarks":true,"none":null}`,
		"in data": `{"id":"i","source":"s","time":"2026-09-15T10:00:00.25Z","type":"sale.paid","subject":"lakeside","remarks":"x","data":{"app":"scheduler","quantity":2.5,"amount":"10.000","currency":"USD","status":200,"bytes":7,"reference":"a \"b\", c"}}` + "\n\n",
	} {
		all, r := claimsOf(t, text)
		if len(all) != 1 || all[0].Bad() != "" || all[0].ID != "i" || all[0].Source != "s" || len(all[0].Digest) != 64 {
			t.Fatalf("%s: %+v", name, all)
		}
		if d := all[0].Differences(&want); len(d) > 0 {
			t.Errorf("%s: %+v", name, d)
		}
		other := want
		other.Data.Quantity, other.Customer, other.Data.Status = nil, "harbor", 404
		other.Data.Deal = "not claimed"
		got := map[string]string{}
		for _, d := range all[0].Differences(&other) {
			got[d.Field] = d.Theirs + "|" + d.Ours
		}
		if diff := cmp.Diff(map[string]string{"quantity": "2.5|1", "subject": "lakeside|harbor", "status": "200|404"}, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if diff := cmp.Diff([]string{"remarks"}, r.Ignored()); diff != "" {
			t.Errorf("%s: ignored: %s", name, diff)
		}
	}
}

// TestClaimedTimes: a log says nothing of what is finer than its times.
func TestClaimedTimes(t *testing.T) {
	ours := metering.Event{Time: time.Date(2026, 9, 15, 10, 0, 0, 123_456_000, time.UTC)}
	for text, same := range map[string]bool{
		"2026-09-15T10:00:00Z": true, "2026-09-15T10:00:00.1Z": true, "2026-09-15T10:00:00.123Z": true, "2026-09-15T10:00:00.123456Z": true,
		"2026-09-15T10:00:00.124Z": false, "2026-09-15T10:00:01Z": false, "2026-09-15T10:00:00.0Z": false, "2026-09-15T11:00:00+01:00": true,
	} {
		all, _ := claimsOf(t, "id,time\ni,"+text+"\n")
		if got := len(all[0].Differences(&ours)) == 0; got != same {
			t.Errorf("%s against ours: same %t, want %t", text, got, same)
		}
	}
}

// TestClaimsThatCannotBeRead: each line is answered alone, without its values.
func TestClaimsThatCannotBeRead(t *testing.T) {
	long := strings.Repeat("x", metering.MaxLine+10)
	for text, want := range map[string]string{
		"id,amount\nsecret,ten":           "amount is no plain decimal number",
		"id,status\nsecret,1.5":           "status is no whole number",
		"id,amount\nsecret":               "1 fields, the header has 2",
		"id,amount\n\"secret,1":           "is no line of CSV",
		"id,amount\n,1":                   "has no id",
		"id,amount\n" + long + ",1":       "has more than 1048576 bytes",
		"id\n" + strings.Repeat("i", 257): "more than 256 bytes",
		`{"id":"secret"} x`:               "is no JSON object",
		`{"id":"secret","data":{"id":1}}`: "says id twice",
		`{"id":"secret"`:                  "is no JSON object",
		"id,amount\nsecret,1e999999999":   "amount is no plain decimal number",
	} {
		all, _ := claimsOf(t, text+"\n")
		if len(all) != 1 || !strings.Contains(all[0].Bad(), want) || strings.Contains(all[0].Bad(), "secret") {
			t.Errorf("%.40q: %d records, %q, want %q", text, len(all), all[0].Bad(), want)
		}
	}
	all, _ := claimsOf(t, "id\n"+long+"\nok\n")
	if len(all) != 2 || all[1].Bad() != "" || all[1].ID != "ok" || all[1].Line != 3 {
		t.Errorf("behind a long line: %+v", all[1:])
	}
	for text, want := range map[string]string{"": "empty", "number\n1": "no column is called id", "id,id\n1,1": "two columns are called id", "\"id\n": "no line of CSV"} {
		if _, err := metering.Claims(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzClaims(f *testing.F) {
	f.Add("id,amount\n1,2\n")
	f.Add(`{"id":"1","data":{"amount":2}}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := metering.Claims(strings.NewReader(text))
		for range 1000 {
			if err != nil {
				return
			}
			var c metering.Claim
			if c, err = r.Next(); err == nil && c.Bad() == "" {
				c.Differences(&metering.Event{})
				if d := c.Differences(&c.Event); len(d) > 0 {
					t.Fatalf("%q differs from itself: %+v", text, d)
				}
			}
		}
	})
}
