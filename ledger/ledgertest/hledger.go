package ledgertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"

	"mete/internal/testdata"
	"mete/ledger"
	"mete/period"
)

// Hledger writes the entries as a journal and answers its path, once hledger's strict
// checks accept it. Without hledger the test is skipped, or fails with CI=true.
func Hledger(t testing.TB, entries []ledger.Entry) string {
	t.Helper()
	if _, err := exec.LookPath("hledger"); err != nil {
		testdata.Missing(t, "hledger", "apt-get install hledger")
	}
	var journal bytes.Buffer
	if err := ledger.WriteJournal(&journal, entries); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "books.journal")
	if err := os.WriteFile(path, journal.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	hledger(t, "-f", path, "check", "--strict", "accounts", "commodities", "balancednoautoconversion", "ordereddates")
	return path
}

func hledger(t testing.TB, args ...string) []byte {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("hledger", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8") // it reads files in the locale's encoding
	cmd.Env = append(os.Environ(), "LANG=C.UTF-8", "LC_ALL=C.UTF-8")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("hledger %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return stdout.Bytes()
}

// HledgerBalances answers what hledger adds up from the journal, by account and
// currency, booked up to a day; the zero date is all of it.
func HledgerBalances(t testing.TB, path string, upTo period.Date) map[string]string {
	t.Helper()
	args := []string{"-f", path, "bal", "--flat", "-E", "--no-elide", "-O", "json"}
	if !upTo.IsZero() {
		args = append(args, "-e", upTo.AddDays(1).String())
	}
	var report [2][]json.RawMessage // rows, totals
	if err := json.Unmarshal(hledger(t, args...), &report); err != nil {
		t.Fatal(err)
	}
	cells := map[string]string{}
	for _, raw := range report[0] {
		var row [4]json.RawMessage // full name, shown name, indent, amounts
		var account string
		if err := json.Unmarshal(raw, &row); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(row[0], &account); err != nil {
			t.Fatal(err)
		}
		for c, d := range amounts(t, row[3]) {
			cells[account+" "+c] = d.String()
		}
	}
	for _, raw := range report[1] {
		for c, d := range amounts(t, append(append([]byte("["), raw...), ']')) {
			t.Errorf("hledger: the books are off by %s %s", d, c)
		}
	}
	return cells
}

// amounts reads hledger's non-zero amounts exactly: a mantissa and a number of
// decimals, never the floating point beside them.
func amounts(t testing.TB, raw []byte) map[string]decimal.Decimal {
	t.Helper()
	var list []struct {
		Commodity string `json:"acommodity"`
		Quantity  struct {
			Mantissa json.Number `json:"decimalMantissa"`
			Places   int32       `json:"decimalPlaces"`
		} `json:"aquantity"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]decimal.Decimal{}
	for _, a := range list {
		m, err := decimal.NewFromString(a.Quantity.Mantissa.String())
		if err != nil {
			t.Fatal(err)
		}
		if d := m.Shift(-a.Quantity.Places); !d.IsZero() {
			out[a.Commodity] = d
		}
	}
	return out
}

// Cells is a trial balance in the form of [HledgerBalances].
func Cells(tb ledger.TrialBalance) map[string]string {
	cells := map[string]string{}
	for _, r := range tb.Rows {
		cells[fmt.Sprintf("%s %s", r.Account, r.Debit.Currency)] = r.Debit.Decimal().Sub(r.Credit.Decimal()).String()
	}
	return cells
}

// TestHledger books the entries, exports them, and has hledger add them up again: as
// a whole and at the given days, every cell must be the same.
func TestHledger(t *testing.T, b Books, entries []ledger.Entry, days ...period.Date) {
	t.Helper()
	for _, e := range entries {
		if err := b.Post(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	booked, err := collect(b.Entries(t.Context(), ledger.Filter{}))
	if err != nil {
		t.Fatal(err)
	}
	path := Hledger(t, booked)
	for _, on := range append(days, period.Date{}) {
		tb, err := b.TrialBalance(t.Context(), on)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Cells(tb), HledgerBalances(t, path, on)); diff != "" {
			t.Errorf("trial balance of %s (- ours, + hledger):\n%s", on, diff)
		}
	}
}
