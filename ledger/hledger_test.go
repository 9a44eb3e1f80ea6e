package ledger_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mete/ledger"
	"mete/ledger/ledgertest"
	"mete/money"
	"mete/period"
)

func TestJournalOfEveryFact(t *testing.T) {
	ledgertest.TestHledger(t, ledgertest.NewModel(), ledgertest.Journal(),
		ledgertest.Day("2026-10-31"), ledgertest.Day("2026-11-24"), ledgertest.Day("2030-05-03"))
}

// Entries with every odd memo that Validate lets through, in currencies of 0, 2 and 3
// decimals: hledger reads back codes and descriptions as written and the same sums.
func TestJournalReadBack(t *testing.T) {
	memo := rapid.OneOf(
		rapid.StringN(0, 40, 200),
		rapid.SampledFrom([]string{"(x) y", "! * a", "= b", "a | b", "a  b", "@ 5", "  lead", "trail  ", "2026-01-01", "#", "a:b", "\u00a0", "a\u00a0"}),
	).Filter(func(s string) bool { return ledger.CheckMemo(s) == nil })
	var entries []ledger.Entry
	for i := range 200 {
		c := []money.Currency{"USD", "JPY", "KWD"}[i%3]
		e := ledgertest.Move(fmt.Sprintf("e:%d/+@=#~._-", i), "2026-10-31", ledger.Cash("a_b.c"), ledger.PayableDue("p.q"), int64(1)<<(i%63), c)
		e.Memo = memo.Example(i)
		if i%2 == 0 {
			e.BookedOn = ledgertest.Day("2026-11-01")
		}
		if i%7 == 0 { // back, so that sums stay in bounds
			e.Postings[0].Amount, e.Postings[1].Amount = e.Postings[1].Amount, e.Postings[0].Amount
		}
		e.Postings[0].Amount.Minor %= 1 << 50
		e.Postings[1].Amount.Minor %= 1 << 50
		if e.Postings[0].Amount.IsZero() {
			continue
		}
		entries = append(entries, e)
	}
	path := ledgertest.Hledger(t, entries)
	cmd := exec.Command("hledger", "-f", path, "print", "-O", "json")
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8") // it reads files in the locale's encoding
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var printed []struct {
		Code        string      `json:"tcode"`
		Description string      `json:"tdescription"`
		Date        string      `json:"tdate"`
		Tags        [][2]string `json:"ttags"`
	}
	if err := json.Unmarshal(out, &printed); err != nil {
		t.Fatal(err)
	}
	got, want := map[string]string{}, map[string]string{}
	for _, p := range printed {
		got[p.Code] = fmt.Sprint(p.Date, " ", p.Description, p.Tags)
	}
	for _, e := range entries {
		tags := [][2]string{{"kind", e.Kind}}
		if e.ValueOn != e.BookedOn {
			tags = append(tags, [2]string{"value", e.ValueOn.String()})
		}
		want[e.ID] = fmt.Sprint(e.BookedOn, " ", strings.TrimSpace(e.Memo), tags)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read back (- written, + read):\n%s", diff)
	}
}

// A checker that never fails checks nothing: one minor unit more is a difference.
func TestHledgerSeesOneCent(t *testing.T) {
	entries := ledgertest.Journal()
	path := ledgertest.Hledger(t, entries)
	model := ledgertest.NewModel()
	if err := model.Post(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	tb, err := model.TrialBalance(t.Context(), period.Date{})
	if err != nil {
		t.Fatal(err)
	}
	sums := ledgertest.HledgerBalances(t, path, period.Date{})
	for i := range tb.Rows {
		tb.Rows[i].Debit.Minor++
		if cmp.Equal(ledgertest.Cells(tb), sums) {
			t.Errorf("one cent more on %s goes unseen", tb.Rows[i].Account)
		}
		tb.Rows[i].Debit.Minor--
	}
}

func TestJournalRefuses(t *testing.T) {
	e := ledgertest.Journal()[0]
	e.Memo = "a\nb"
	if err := ledger.WriteJournal(&bytes.Buffer{}, []ledger.Entry{e}); err == nil {
		t.Error("a line break in a memo was written")
	}
	if err := ledger.WriteJournal(&bytes.Buffer{}, nil, "assets:A"); err == nil {
		t.Error("an account that is none was declared")
	}
	var b strings.Builder
	if err := ledger.WriteJournal(&b, nil, ledger.Cash("ach")); err != nil || !strings.Contains(b.String(), "account assets:cash:ach\n    ; type:C\n") {
		t.Errorf("%v %s", err, &b)
	}
}
