package billing_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mete/billing"
	"mete/period"
)

// newNetTerms is a partner with two contracts, whose payout blocks say what is given.
func newNetTerms(t *testing.T, suite, annex string) *world {
	t.Helper()
	w := newWorld(t)
	t.Cleanup(w.remove)
	w.agreed(t, `partner: marlow
name: Marlow Suites
payee: {rail: manual, account: marlow-main, last4: "5501", confirmed_on: 2025-11-18, tax_form: W-9, screened_on: 2025-11-20}
---
apps:
- {id: suite, partner: marlow, name: Suite}
- {id: annex, partner: marlow, name: Annex}
---
`+twoContracts(jan, suite, annex))
	return w
}

// twoContracts are a contract for each app, from a month on.
func twoContracts(from period.Month, suite, annex string) string {
	var texts []string
	for app, payout := range map[string]string{"suite": suite, "annex": annex} {
		if payout != "" {
			payout = "payout: {" + payout + "}\n"
		}
		texts = append(texts, fmt.Sprintf("contract: marlow-%s\npartner: marlow\napps: [%[1]s]\ncurrency: USD\nzone: UTC\neffective: {from: %s}\n%srules:\n- {id: store, kind: share, of: sale.paid, platform: {rate: 10%%}}\n", app, from.First(), payout))
	}
	return strings.Join(texts, "---\n")
}

func (w *world) agreed(t *testing.T, text string) {
	t.Helper()
	if err := agree(t.Context(), w.catalogue, text, time.Date(2025, 12, 2, 15, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
}

func ofMarlow(t *testing.T, w *world, m period.Month) billing.StatementRecord {
	t.Helper()
	r, err := w.db.Statement(t.Context(), billing.NewStatementID("meridian-us", "marlow", "USD", m))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const net45 = "due: {lock_after: 1 month, pay_after: 15 days}"

// TestPayDays: when a statement of January 2026 is due and paid, by the contracts on it.
func TestPayDays(t *testing.T) {
	for _, c := range []struct{ suite, annex, due, pay string }{
		{"", "", "", "2026-02-20"},
		{net45, net45, "2026-03-15", "2026-03-16"}, // a Sunday
		{"due: {period: quarter, pay_after: 45 days}", net45, "2026-05-15", "2026-05-15"},
		{net45, "due: {period: quarter, pay_after: 45 days}", "2026-05-15", "2026-05-15"},
		{net45, "", "2026-03-15", "2026-03-16"},
		{"", "due: {pay_after: 10 days}", "2026-02-20", "2026-02-20"}, // the other is paid on the 20th
		{"due: {pay_after: 10 days}", "due: {pay_after: 8 days}", "2026-02-10", "2026-02-10"},
		{"due: {lock_after: 9 months, pay_after: 26 days}", "", "2026-11-26", "2026-11-27"}, // Thanksgiving Day
	} {
		w := newNetTerms(t, c.suite, c.annex)
		w.deliver(t, 0, sale("a", "suite", "lakeside", noon(jan, 5), "1000.00"))
		w.closeMonth(t, jan)
		r := ofMarlow(t, w, jan)
		due := ""
		if r.Due != nil {
			due = r.Due.DueOn.String()
		}
		if due != c.due || r.PayOn.String() != c.pay {
			t.Errorf("%q and %q: due on %s, paid on %s; want %s, %s", c.suite, c.annex, due, r.PayOn, c.due, c.pay)
		}
		if text := page(t, w, r.ID); !strings.Contains(text, "YOU GET          900.00   by bank transfer to ****5501 on "+r.PayOn.Weekday().String()[:3]+" "+r.PayOn.Short()+"\n") {
			t.Errorf("the page does not say when:\n%s", text)
		}
	}
}

// TestNetTermsOnStatements follows an account through three months: what the pages say
// about when which part is paid, and that all of it is derived again.
func TestNetTermsOnStatements(t *testing.T) {
	w := newNetTerms(t, "minimum: 50.00, "+net45, net45)
	one := sale("a", "suite", "lakeside", noon(jan, 5), "1000.00")
	w.deliver(t, 0, one, sale("b", "annex", "lakeside", noon(feb, 6), "200.00"), refund("r", one, noon(mar, 3), "100.00"), sale("d", "annex", "lakeside", noon(apr, 6), "10.00"))
	for _, c := range []struct {
		m        period.Month
		get      string
		foot     string
		coming   []string
		pay, csv string
	}{
		{jan, "YOU GET          900.00   by bank transfer to ****5501 on Mon 16 Mar 2026\n\n",
			" Locked on 28 Feb 2026. What this statement adds is due on 15 Mar 2026, paid on 16 Mar 2026.\n",
			[]string{"2026-01 2026-03-16 900.00"}, "2026-03-16", "2026-03-16"},
		{feb, "YOU GET        1,080.00   by bank transfer to ****5501 on Wed 15 Apr 2026\n                            900.00 of it on Mon 16 Mar 2026\n\n",
			" Locked on 31 Mar 2026. What this statement adds is due on 15 Apr 2026, not paid before.\n",
			[]string{"2026-01 2026-03-16 900.00", "2026-02 2026-04-15 180.00"}, "2026-04-15", "2026-04-15"},
		{mar, "YOU GET          990.00   by bank transfer to ****5501 on Wed 15 Apr 2026\n                            810.00 of it with the next payouts: it is due\n\n",
			" Locked on 30 Apr 2026. What this statement adds is due on 15 May 2026, not paid before.\n",
			[]string{"2026-02 2026-04-15 180.00"}, "2026-05-15", "2026-05-15"},
		{apr, "YOU GET          999.00   by bank transfer to ****5501 with the next payouts: it is due\n\n", // 9.00 are below the minimum
			" Locked on 31 May 2026. What this statement adds is due on 15 Jun 2026, not paid before.\n",
			[]string{"2026-04 2026-06-15 9.00"}, "2026-06-15", "2026-06-15"},
	} {
		w.closeMonth(t, c.m)
		w.issueMonth(t, c.m)
		r := ofMarlow(t, w, c.m)
		text := page(t, w, r.ID)
		if !strings.Contains(text, c.get) || !strings.Contains(text, c.foot) {
			t.Errorf("%s:\n%swant\n%s%s", c.m, text, c.get, c.foot)
		}
		var coming []string
		for _, x := range r.Coming {
			coming = append(coming, fmt.Sprint(string(x.Statement)[len("meridian-us.marlow.usd."):], " ", x.On, " ", x.Amount.Plain()))
		}
		if !slices.Equal(coming, c.coming) || r.PayOn.String() != c.pay {
			t.Errorf("%s: coming %v, paid on %s", c.m, coming, r.PayOn)
		}
		var b bytes.Buffer
		if err := r.WriteCSV(&b); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(&b).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if last := len(rows[0]) - 1; rows[0][last] != "pay_on" || len(rows) < 2 || rows[1][last] != c.csv {
			t.Errorf("%s as csv: %v", c.m, rows)
		}
		doc, err := json.Marshal(r.Statement)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`"due":{"lock_on":"%s","statement_on":"%s","due_on":"%s"}`, r.Due.LockOn, r.Due.StatementOn, r.Due.DueOn); !strings.Contains(string(doc), want) {
			t.Errorf("%s as JSON lacks %s", c.m, want)
		}
	}
	w.checkAll(t)
}

// TestNetTermsEnd: what is kept stays out of what becomes due, and after net terms ended
// the page still says when the months under them are paid.
func TestNetTermsEnd(t *testing.T) {
	w := newNetTerms(t, "keep: 100.00, "+net45, net45)
	w.deliver(t, 0, sale("a", "suite", "lakeside", noon(jan, 5), "1000.00"), sale("b", "annex", "lakeside", noon(feb, 6), "200.00"), sale("c", "annex", "lakeside", noon(mar, 6), "100.00"))
	w.closeMonth(t, jan)
	w.closeMonth(t, feb)
	if text := page(t, w, ofMarlow(t, w, feb).ID); !strings.Contains(text, "YOU GET        1,080.00   by bank transfer to ****5501 on Wed 15 Apr 2026\n                            800.00 of it on Mon 16 Mar 2026\n\n") {
		t.Errorf("100.00 stay on the account:\n%s", text)
	}
	w.agreed(t, twoContracts(mar, "keep: 100.00", ""))
	w.closeMonth(t, mar)
	r := ofMarlow(t, w, mar)
	text := page(t, w, r.ID)
	if !strings.Contains(text, "YOU GET        1,170.00   by bank transfer to ****5501 on Wed 15 Apr 2026\n                            890.00 of it with the next payouts: it is due\n\n") {
		t.Errorf("January and March are due, February is not:\n%s", text)
	}
	if r.Due != nil || len(r.Coming) != 1 || r.PayOn.String() != "2026-04-20" || strings.Contains(text, "Locked on") {
		t.Errorf("%+v, %+v, paid on %s", r.Due, r.Coming, r.PayOn)
	}
	w.checkAll(t)
}

// TestWithoutNetTerms: nothing of them is on a statement whose contracts have none.
func TestWithoutNetTerms(t *testing.T) {
	w := newNetTerms(t, "minimum: 25.00", "")
	w.deliver(t, 0, sale("a", "suite", "lakeside", noon(jan, 5), "1000.00"))
	w.closeMonth(t, jan)
	r := ofMarlow(t, w, jan)
	doc, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	if text := page(t, w, r.ID) + b.String() + string(doc); strings.Contains(text, `"due"`) || strings.Contains(text, `"coming"`) || strings.Contains(text, "Locked") || strings.Contains(b.String(), "pay_on") {
		t.Errorf("net terms where there are none:\n%s", text)
	}
}
