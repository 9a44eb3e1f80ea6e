package ledger_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mete/ledger"
	"mete/ledger/ledgertest"
	"mete/money"
	"mete/partner"
	"mete/period"
)

func TestEveryFactIsValid(t *testing.T) {
	for _, e := range ledgertest.Journal() {
		if err := e.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// plain reverses the escapes of an account part.
func plain(part string) string {
	var b strings.Builder
	for i := 0; i < len(part); i++ {
		if strings.HasPrefix(part[i:], "--") {
			n, ok := new(big.Int).SetString(part[i+2:i+4], 16)
			if !ok {
				panic(part)
			}
			b.WriteByte(byte(n.Int64()))
			i += 3
			continue
		}
		b.WriteByte(part[i])
	}
	return b.String()
}

// Different names never share an account: the name can be read back from it.
func TestPartsCanBeReadBack(t *testing.T) {
	name := rapid.OneOf(rapid.StringMatching(`[a-z0-9._-]{1,63}`), rapid.StringMatching(`[ab\-._2d5e]{1,12}`), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		s := name.Draw(t, "name")
		a := string(ledger.Cash(s))
		if got := plain(strings.TrimPrefix(a, "assets:cash:")); got != s {
			t.Fatalf("%q became %s, read back %q", s, a, got)
		}
	})
}

// Every partner that may exist has accounts, and no two constructors make the same.
func TestEveryPartnerHasAccounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seen := map[ledger.Account]string{}
		names := rapid.SliceOfNDistinct(rapid.OneOf(rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,62}`), rapid.SampledFrom([]string{"fx", "chargeback", "partners", "partner", "customer", "pending", "due", "contra"})), 1, 4, rapid.ID).Draw(t, "names")
		for _, n := range names {
			if err := partner.CheckID(n); err != nil {
				t.Fatal(err)
			}
			for _, a := range []ledger.Account{
				ledger.ReceivablePartner(n), ledger.Payable(n), ledger.PayablePending(n), ledger.PayableDue(n), ledger.PayableHeld(n), ledger.Accrued(n), ledger.ReserveOf(n),
				ledger.Cash(n), ledger.InTransit(n), ledger.TaxWithheld(n), ledger.SalesTax(n), ledger.Deferred(n), ledger.Unclaimed(n), ledger.Income(n), ledger.Contra(n), ledger.Expense(n),
			} {
				if err := a.Validate(); err != nil {
					t.Fatal(err)
				}
				if other, ok := seen[a]; ok {
					t.Fatalf("%s is of %s and of %s", a, other, n)
				}
				seen[a] = n
			}
		}
	})
}

func TestNamesThatHaveNoAccount(t *testing.T) {
	for _, a := range []ledger.Account{
		ledger.Clearing("fx"), ledger.Clearing("chargeback"), ledger.Clearing("partners"),
		ledger.Cash(""), ledger.Cash("-a"), ledger.Cash(".a"), ledger.PayableDue(""), ledger.Cash(strings.Repeat("a", 500)), "assets", "assets:", "Assets:cash", "assets:cash:a b",
	} {
		if err := a.Validate(); err == nil {
			t.Errorf("%q is an account", a)
		}
	}
	for _, a := range []ledger.Account{ledger.ClearingFX(), ledger.ClearingChargeback(), ledger.ClearingPartners(), ledger.ReceivableCustomer(), ledger.Allowance(), ledger.Opening(), ledger.Clearing("stripe")} {
		if err := a.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestNormalSides(t *testing.T) {
	for a, debit := range map[ledger.Account]bool{
		ledger.Cash("ach"): true, ledger.Allowance(): false, ledger.PayableDue("p"): false, ledger.Income("share"): false,
		ledger.Contra("goodwill"): true, ledger.Expense("fx"): true, ledger.Opening(): false,
	} {
		if a.DebitNormal() != debit {
			t.Errorf("%s: debit normal %v", a, !debit)
		}
	}
}

func TestMonthSteps(t *testing.T) {
	states := []ledger.MonthState{ledger.Open, ledger.Closing, ledger.Closed, ledger.Locked}
	for i, from := range states {
		for j, to := range states {
			if err := from.CheckStep(to); (err == nil) != (j == i+1) || err != nil && !errors.Is(err, ledger.ErrMonthState) {
				t.Errorf("%s to %s: %v", from, to, err)
			}
		}
	}
}

func TestTrial(t *testing.T) {
	b := func(a ledger.Account, minor int64, c money.Currency) ledger.Balance {
		return ledger.Balance{Account: a, Amount: money.New(minor, c), Postings: 1}
	}
	tb, err := ledger.Trial(period.Date{}, []ledger.Balance{b("assets:a", 5, "USD"), b("assets:b", 0, "USD"), b("income:a", -5, "USD"), b("income:a", -7, "EUR"), b("assets:a", 7, "EUR")})
	if err != nil || len(tb.Rows) != 4 || len(tb.Totals) != 2 || tb.Totals[1].Credit != money.New(5, "USD") {
		t.Errorf("%+v %v", tb, err)
	}
	if _, err := ledger.Trial(period.Date{}, []ledger.Balance{b("assets:a", 5, "USD"), b("income:a", -4, "USD")}); err == nil || !strings.Contains(err.Error(), "0.05") {
		t.Errorf("columns that differ: %v", err)
	}
}

// FuzzValidate reads two entries. What Validate accepts sums to zero by exact
// arithmetic, survives JSON, and two entries have one hash only if nothing differs.
func FuzzValidate(f *testing.F) {
	for _, e := range ledgertest.Journal()[:6] {
		text, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, text)
	}
	f.Add([]byte(`{"id":"a","kind":"b","value_on":"2026-01-01","booked_on":"2026-01-01","postings":[]}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var a, b ledger.Entry
		if json.Unmarshal(first, &a) != nil || json.Unmarshal(second, &b) != nil {
			return
		}
		if same := a.Difference(b) == ""; same != (a.ContentHash() == b.ContentHash()) || same != (string(a.Canonical()) == string(b.Canonical())) {
			t.Fatalf("same content %v, hashes %s and %s", same, a.ContentHash(), b.ContentHash())
		}
		if a.Validate() != nil {
			return
		}
		sums := map[money.Currency]*big.Int{}
		for _, p := range a.Postings {
			if sums[p.Amount.Currency] == nil {
				sums[p.Amount.Currency] = new(big.Int)
			}
			sums[p.Amount.Currency].Add(sums[p.Amount.Currency], big.NewInt(p.Amount.Minor))
		}
		for c, s := range sums {
			if s.Sign() != 0 {
				t.Fatalf("accepted, and off by %s %s", s, c)
			}
		}
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var again ledger.Entry
		if err := json.Unmarshal(text, &again); err != nil || again.ContentHash() != a.ContentHash() {
			t.Fatalf("through JSON: %v %s", err, a.Difference(again))
		}
	})
}
