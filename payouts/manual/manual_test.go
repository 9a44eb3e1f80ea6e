package manual_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mete/money"
	"mete/payouts"
	"mete/payouts/manual"
	"mete/payouts/payoutstest"
)

func open(t *testing.T) (manual.Rail, string) {
	t.Helper()
	archive, out := t.TempDir(), t.TempDir()
	return manual.Rail{Archive: archive, Out: manual.Folder(out)}, out
}

// moved is what a bank would do that takes each file ID once.
func moved(t *testing.T, out string) map[string]int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(out, "*.csv"))
	if err != nil {
		t.Fatal(err)
	}
	taken := map[string][]byte{}
	n := map[string]int{}
	for _, name := range names {
		body, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(body, []byte("COPY,")) {
			_, body, _ = bytes.Cut(body, []byte("\n"))
		}
		id := strings.Split(string(body), ",")[3]
		if old, known := taken[id]; known {
			if !bytes.Equal(old, body) {
				t.Errorf("file %s came with two contents", id)
			}
			continue
		}
		taken[id] = body
		for _, line := range strings.Split(string(body), "\n") {
			if f := strings.Split(line, ","); f[0] == "P" {
				n[f[1]]++
			}
		}
	}
	return n
}

func TestRail(t *testing.T) {
	payoutstest.TestRail(t, func(t *testing.T) payoutstest.RailFixture {
		r, out := open(t)
		return payoutstest.RailFixture{Rail: r, Moved: func(t *testing.T) map[string]int { return moved(t, out) }}
	})
}

const file = `H,mete-payments,1,F-2026-11-20-00c0ffee0001,2026-11-20.usd.test.meridian-us,2026-11-20,USD,2,45524.09,operating ****0031
P,P-2026-11-20-001,northwind,"Northwind, ""Scheduling"" LLC",acct-P-2026-11-20-001,4417,45213.19,P-2026-11-20-001
P,P-2026-11-20-002,northwind,"'=HYPERLINK(""x"") y",acct-P-2026-11-20-002,4417,310.90,P-2026-11-20-002
T,F-2026-11-20-00c0ffee0001,2,45524.09,0662a5ff3a1c9a95d1c2f6a3c4a5d5a0
`

func TestFileAndCopy(t *testing.T) {
	r, out := open(t)
	b := payoutstest.Batch()
	b.Instructions[1].Name = "=HYPERLINK(\"x\")\ny"
	if _, err := r.Send(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(filepath.Join(out, b.ID+".csv"))
	if err != nil {
		t.Fatal(err)
	}
	cutHash := func(s string) string { return s[:strings.LastIndex(strings.TrimSpace(s), ",")] }
	if diff := cmp.Diff(cutHash(file), cutHash(string(first))); diff != "" {
		t.Errorf("file (-want +got)\n%s", diff)
	}
	if _, err := r.Send(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(filepath.Join(out, b.ID+".COPY.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "COPY," + b.ID + "\n" + string(first); string(again) != want {
		t.Errorf("copy\n got %s\nwant %s", again, want)
	}
	if left, _ := filepath.Glob(filepath.Join(out, ".part-*")); len(left) > 0 {
		t.Errorf("parts left behind: %v", left)
	}
}

func TestSendRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*payouts.Batch)
		want   string
	}{
		{"nobody", func(b *payouts.Batch) { b.Instructions = nil }, "payment file F-2026-11-20-00c0ffee0001: it would pay nobody"},
		{"zero", func(b *payouts.Batch) { b.Instructions[0].Amount = money.New(0, "USD") },
			"payment file F-2026-11-20-00c0ffee0001: payout P-2026-11-20-001 over 0.00 USD: want an amount above zero in USD"},
		{"currency", func(b *payouts.Batch) { b.Instructions[0].Amount = money.New(5, "EUR") },
			"payment file F-2026-11-20-00c0ffee0001: payout P-2026-11-20-001 over 0.05 EUR: want an amount above zero in USD"},
		{"twice", func(b *payouts.Batch) { b.Instructions[1] = b.Instructions[0] }, "payment file F-2026-11-20-00c0ffee0001: payout P-2026-11-20-001 comes twice"},
		{"no account", func(b *payouts.Batch) { b.Instructions[0].Account = "" }, "payment file F-2026-11-20-00c0ffee0001: payout P-2026-11-20-001 has no account"},
	} {
		r, out := open(t)
		b := payoutstest.Batch()
		c.change(&b)
		if _, err := r.Send(t.Context(), b); err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.name, err, c.want)
		}
		if n := moved(t, out); len(n) != 0 {
			t.Errorf("%s: delivered %v", c.name, n)
		}
	}
	r, _ := open(t)
	b := payoutstest.Batch()
	if _, err := r.Send(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(r.Archive, b.ID+".csv")
	if err := os.WriteFile(path, []byte("H,\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := r.Send(t.Context(), b)
	if want := "payment file F-2026-11-20-00c0ffee0001: the archive has it with other content; nothing is sent, compare " + path + " with the run: kept already with other content"; err == nil || err.Error() != want {
		t.Errorf("an altered archive:\n got %v\nwant %s", err, want)
	}
	r, _ = open(t)
	if _, err := r.Send(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	b.ID = "F-2026-11-20-00c0ffee0002"
	_, err = r.Send(t.Context(), b)
	if want := "payment file F-2026-11-20-00c0ffee0002: payout P-2026-11-20-001 was ordered in F-2026-11-20-00c0ffee0001.csv; nothing is sent, find out which file the bank has: kept already with other content"; err == nil || err.Error() != want || !errors.Is(err, payouts.ErrConflict) {
		t.Errorf("a payout in two files:\n got %v\nwant %s", err, want)
	}
	r.Out = manual.Folder(filepath.Join(t.TempDir(), "gone"))
	b = payoutstest.Batch()
	if _, err := r.Send(t.Context(), b); err == nil || !strings.Contains(err.Error(), "deliver F-2026-11-20-00c0ffee0001.COPY.csv") {
		t.Errorf("no outbox: %v", err)
	}
}

var in = manual.Import{Name: "bank.csv", Currency: "USD", By: "r.shah", At: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)}

func TestRead(t *testing.T) {
	text := "\ufeffReference,state,amount,bank_date,bank_ref,reason\n" +
		"P-2026-11-20-001,paid,45213.19,2026-11-20,W1,\n" +
		" P-2026-11-20-002 ,FAILED,310.90,2026-11-20,,account closed\n"
	got, err := manual.Read(strings.NewReader(text), in)
	if err != nil {
		t.Fatal(err)
	}
	want := []payouts.Confirmation{
		{Payout: "P-2026-11-20-001", Outcome: payouts.Paid, Amount: payoutstest.USD("45213.19"), BankOn: payoutstest.Day("2026-11-20"), BankRef: "W1", By: "r.shah", At: in.At, Source: "bank.csv line 2"},
		{Payout: "P-2026-11-20-002", Outcome: payouts.Refused, Amount: payoutstest.USD("310.90"), BankOn: payoutstest.Day("2026-11-20"), Reason: "account closed", By: "r.shah", At: in.At, Source: "bank.csv line 3"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("confirmations (-want +got)\n%s", diff)
	}
}

func TestReadRefuses(t *testing.T) {
	const head = "payout,amount,state,bank_date,bank_ref\n"
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "confirmations bank.csv: no line of column names: EOF"},
		{"nothing", head, "confirmations bank.csv: it confirms nothing; was the right file given?"},
		{"unknown column", "payout,amount,state,bank_date,bank_ref,ssn\n", `confirmations bank.csv: line 1: unknown column "ssn"; want payout, amount, state, bank_date, bank_ref, and currency and reason if there are any`},
		{"column twice", "payout,reference\n", `confirmations bank.csv: line 1: column "payout" comes twice`},
		{"missing columns", "payout,amount,state\n", "confirmations bank.csv: line 1: no column bank_date, bank_ref"},
		{"short line", head + "P-1,1.00\n", "confirmations bank.csv: nothing was booked:\n  line 2, line: 2 fields, the first line names 5"},
		{"every field", head + ",\"1,250.00\",done,20.11.2026,\n", "confirmations bank.csv: nothing was booked:\n" +
			"  line 2, payout: empty; want the reference of the payment, such as P-2026-11-20-007\n" +
			"  line 2, state: \"done\" is none of paid, failed, returned\n" +
			"  line 2, amount: \"1,250.00\": no separators, so that nobody takes a comma for a point; want 1250.00\n" +
			"  line 2, bank_date: date \"20.11.2026\": want YYYY-MM-DD, such as 2026-10-31\n" +
			"  line 2, bank_ref: empty; it is what finds the payment on the bank statement"},
		{"negative", head + "P-1,-1.00,paid,2026-11-20,W\n", "confirmations bank.csv: nothing was booked:\n  line 2, amount: \"-1.00\": want the amount ordered, above zero; the state says which way it went"},
		{"too fine", head + "P-1,1.005,paid,2026-11-20,W\n", "confirmations bank.csv: nothing was booked:\n  line 2, amount: 1.005 USD: amount is finer than the currency's minor unit"},
		{"the same twice", head + "P-1,1.00,paid,2026-11-20,W\nP-1,1.00,paid,2026-11-20,W\n",
			"confirmations bank.csv: nothing was booked:\n  line 3, payout: P-1 paid stands on line 2 already; ask the bank whether it moved the money twice"},
		{"a foreign currency", "payout,amount,state,bank_date,bank_ref,currency\nP-1,1.00,paid,2026-11-20,W,XXQ\n",
			"confirmations bank.csv: nothing was booked:\n  line 2, currency: currency \"XXQ\": not an ISO 4217 currency code\n  line 2, currency: none in the file; name one"},
		{"many", head + strings.Repeat("P-1,1.00,done,2026-11-20,W\n", 1) + strings.Repeat("x\n", 21), "\n  and 2 more"},
	} {
		_, err := manual.Read(strings.NewReader(c.text), in)
		if err == nil || err.Error() != c.want && (c.name != "many" || !strings.HasSuffix(err.Error(), c.want)) {
			t.Errorf("%s:\n got %v\nwant %s", c.name, err, c.want)
		}
	}
	if _, err := manual.Read(strings.NewReader(head), manual.Import{Name: "bank.csv"}); err == nil || err.Error() != "confirmations bank.csv: who imports them and when are needed" {
		t.Errorf("nobody: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("payout,amount,state,bank_date,bank_ref\nP-1,1.00,paid,2026-11-20,W\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := manual.Read(strings.NewReader(text), in)
		if err != nil {
			return
		}
		for _, c := range all {
			if c.Payout == "" || c.Amount.Minor <= 0 || c.BankOn.IsZero() {
				t.Errorf("took %+v", c)
			}
		}
	})
}
