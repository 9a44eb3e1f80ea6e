package payouts

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/period"
)

var update = flag.Bool("update", false, "write the expected papers anew")

func usd(text string) money.Amount {
	a, err := money.Parse(strings.ReplaceAll(text, ",", ""), "USD")
	if err != nil {
		panic(err)
	}
	return a
}

func day(text string) period.Date {
	d, err := period.ParseDate(text)
	if err != nil {
		panic(err)
	}
	return d
}

func statement(id string, month string) Statement {
	m, err := period.ParseMonth(month)
	if err != nil {
		panic(err)
	}
	return Statement{ID: "meridian-us." + id + ".usd." + month, Month: m, IssuedOn: m.Add(1).First().AddDays(9)}
}

// candidate is a payee that nothing stands against.
func candidate(id string, last4 string, months ...string) Candidate {
	c := Candidate{Currency: "USD", Partner: partner.Partner{ID: partner.ID(id), Name: id, Payee: partner.Payee{
		Rail: "ach", Account: "acct-" + id, Last4: last4, ConfirmedOn: day("2026-01-05"), TaxForm: "W-9",
		ScreenedOn: day("2026-11-15"), Currency: "USD",
	}}}
	for _, m := range months {
		c.Statements = append(c.Statements, statement(id, m))
	}
	return c
}

func due(id, amount string) ledger.Balance {
	return ledger.Balance{Account: ledger.PayableDue(id), Amount: usd(amount).Neg(), Postings: 1}
}

func held(id, amount string) ledger.Balance {
	return ledger.Balance{Account: ledger.PayableHeld(id), Amount: usd(amount).Neg(), Postings: 1}
}

// november is a run with one of everything.
func november() Input {
	c := map[string]Candidate{}
	for id, last4 := range map[string]string{"northwind": "4417", "lumen-intake": "9902", "carebridge": "1180", "refera": "7345",
		"clinipay": "6618", "tidepool-rx": "0457", "baywell": "3306", "orchard": "5100", "helio": "2218", "tinyapp": "8080", "pulsenote": "7001"} {
		c[id] = candidate(id, last4, "2026-10")
	}
	c["medscribe"] = candidate("medscribe", "2201", "2026-09", "2026-10")
	c["quill"] = candidate("quill", "1234")
	edit := func(id string, fn func(*Candidate)) {
		x := c[id]
		fn(&x)
		c[id] = x
	}
	minimum := usd("25.00")
	edit("northwind", func(c *Candidate) { c.Sales = "sales paid 48,300.00, were 21,450.00" })
	edit("baywell", func(c *Candidate) { c.Partner.Payee.ConfirmedOn = day("2026-11-02") })
	edit("lumen-intake", func(c *Candidate) { c.Partner.Payee.ChangedOn = day("2026-10-28"); c.ChangedBy = "k.lee, r.shah" })
	edit("tidepool-rx", func(c *Candidate) { c.OpenDisputes = "dispute D-21" })
	edit("orchard", func(c *Candidate) { c.Partner.Payee.ChangedOn = day("2026-11-17") })
	edit("helio", func(c *Candidate) { c.Partner.Payee.TaxForm = ""; c.TaxWanted = "W-9"; c.TaxAsked = 3 })
	edit("tinyapp", func(c *Candidate) { c.Minimum = &minimum })
	edit("pulsenote", func(c *Candidate) { c.OwesSince = period.Month{Year: 2026, Month: time.September} })
	edit("quill", func(c *Candidate) { c.Sales = "no sale since 30 Sep" })
	in := Input{
		Entity: "meridian-us", EntityName: "Meridian", PayOn: day("2026-11-20"), Currency: "USD", Rail: "ach", RailLabel: "ACH",
		From: "Meridian operating ****0031", Zone: "America/Chicago", By: "m.ortiz", At: time.Date(2026, 11, 18, 15, 12, 0, 0, time.UTC),
		Balances: []ledger.Balance{
			due("northwind", "45,213.19"), due("lumen-intake", "22,910.40"), due("carebridge", "17,405.66"), due("refera", "9,850.00"),
			due("medscribe", "6,120.75"), due("clinipay", "3,300.10"), due("tidepool-rx", "1,250.00"), held("tidepool-rx", "90.00"),
			due("baywell", "310.90"), due("orchard", "4,400.00"), due("helio", "2,015.00"), due("tinyapp", "11.20"), due("pulsenote", "-180.35"),
			{Account: ledger.PayablePending("northwind"), Amount: usd("-7.00"), Postings: 1},
		},
		LastRun: &PastRun{PayOn: day("2026-10-20"), Payees: 9, Total: usd("98,240.15")},
		Paid:    map[partner.ID]Before{}, LastPayees: map[partner.ID]money.Amount{"quill": usd("1,410.22"), "northwind": usd("18,240.00")},
	}
	for id, last := range map[string]string{"northwind": "18,240.00", "lumen-intake": "22,000.00", "carebridge": "17,000.00", "refera": "9,000.00",
		"medscribe": "6,000.00", "clinipay": "3,000.00", "tidepool-rx": "1,300.00", "quill": "1,410.22"} {
		in.Paid[partner.ID(id)] = Before{Payout: "P-2026-10-20-001", On: day("2026-10-20"), Amount: usd(last)}
	}
	in.Candidates = nil
	for _, id := range []string{"quill", "tidepool-rx", "northwind", "lumen-intake", "carebridge", "refera", "medscribe", "clinipay",
		"baywell", "orchard", "helio", "tinyapp", "pulsenote"} {
		in.Candidates = append(in.Candidates, c[id])
	}
	funds := usd("140,220.00")
	in.Funds = &funds
	return in
}

func plan(t *testing.T, in Input) Run {
	t.Helper()
	r, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func written(t *testing.T, r Run) string {
	t.Helper()
	var b strings.Builder
	if err := WritePlan(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got)\n%s", path, diff)
	}
	for _, line := range strings.Split(got, "\n") {
		if n := utf8.RuneCountInString(line); n > pageWidth {
			t.Errorf("%s: %d columns, at most %d: %s", path, n, pageWidth, line)
		}
	}
}

func TestThePlanAsTheApproverSeesIt(t *testing.T) {
	r := plan(t, november())
	golden(t, "plan.txt", written(t, r))
	if got := r.Totals.ToPay.Grouped(); got != "106,361.00" {
		t.Errorf("to pay %s", got)
	}
}

func TestEqualInputsGiveEqualPlans(t *testing.T) {
	a, b := plan(t, november()), plan(t, november())
	if a.Content != b.Content {
		t.Errorf("contents %s and %s", a.Content, b.Content)
	}
	in := november()
	in.At = in.At.Add(time.Hour)
	if c := plan(t, in); c.Content != a.Content {
		t.Error("planned an hour later the content is another")
	}
	for name, change := range map[string]func(*Input){
		"account":   func(in *Input) { in.Candidates[2].Partner.Payee.Account = "acct-other" },
		"last four": func(in *Input) { in.Candidates[2].Partner.Payee.Last4 = "0000" },
		"balance":   func(in *Input) { in.Balances[0] = due("northwind", "45,213.20") },
		"planner":   func(in *Input) { in.By = "r.shah" },
		"statement": func(in *Input) { in.Candidates[2].Statements = []Statement{statement("northwind", "2026-09")} },
		"limit":     func(in *Input) { in.Rules = DefaultRules("USD"); in.Rules.TwoAbove = usd("1.00") },
		"not paid":  func(in *Input) { in.Candidates[2].Partner.Payee.ScreenedOn = period.Date{} },
	} {
		in := november()
		change(&in)
		if c := plan(t, in); c.Content == a.Content {
			t.Errorf("another %s, and the content hash is the same", name)
		}
	}
}

// TestWhyNotNow shows each reason with its until and who.
func TestWhyNotNow(t *testing.T) {
	base := func() Input {
		in := november()
		in.Candidates = []Candidate{candidate("northwind", "4417", "2026-10")}
		in.Balances = []ledger.Balance{due("northwind", "100.00")}
		in.LastRun, in.LastPayees, in.Paid, in.Funds = nil, nil, nil, nil
		return in
	}
	if r := plan(t, base()); len(r.Payouts) != 1 {
		t.Fatalf("the base case is not paid: %+v", r.NotNow)
	}
	payee := func(fn func(*partner.Payee)) func(*Input) {
		return func(in *Input) { fn(&in.Candidates[0].Partner.Payee) }
	}
	for _, c := range []struct {
		name   string
		change func(*Input)
		want   string
	}{
		{"no account", payee(func(p *partner.Payee) { *p = partner.Payee{TaxForm: "W-9", ScreenedOn: p.ScreenedOn} }),
			"no bank account on file | account comes | partner"},
		{"account refused", func(in *Input) { in.Candidates[0].AccountGone = "payouts are disabled" }, "payouts are disabled | account works | partner"},
		{"unconfirmed", payee(func(p *partner.Payee) { p.ConfirmedOn = period.Date{} }), "account not confirmed | it is confirmed | finance"},
		{"other rail", payee(func(p *partner.Payee) { p.Rail = "stripe" }), "paid by stripe, not ach | its own run | –"},
		{"other currency", payee(func(p *partner.Payee) { p.Currency = "EUR" }), "account takes EUR, not USD | account changes | partner"},
		{"cooling off", payee(func(p *partner.Payee) { p.ChangedOn = day("2026-11-09") }), "account changed 9 Nov | 23 Nov | finance, two people"},
		{"no form", payee(func(p *partner.Payee) { p.TaxForm = "" }), "tax form missing | form comes | partner"},
		{"asked for W-9", func(in *Input) {
			in.Candidates[0].Partner.Payee.TaxForm, in.Candidates[0].TaxWanted, in.Candidates[0].TaxAsked = "", "W-9", 3
		}, "W-9 missing (asked 3×) | W-9 comes | partner"},
		{"form expired", payee(func(p *partner.Payee) { p.TaxForm, p.TaxFormExpiresOn = "W-8BEN-E", day("2026-11-20") }), "W-8BEN-E expired 20 Nov | new form | partner"},
		{"never screened", payee(func(p *partner.Payee) { p.ScreenedOn = period.Date{} }), "not screened (OFAC, LEIE) | screened | finance"},
		{"screened long ago", payee(func(p *partner.Payee) { p.ScreenedOn = day("2026-10-19") }), "last screened 19 Oct | screened again | finance"},
		{"small", func(in *Input) { m := usd("100.01"); in.Candidates[0].Minimum = &m }, "below 100.01 | next run | –"},
		{"no statement", func(in *Input) { in.Candidates[0].Statements = nil }, "no issued statement | one is issued | finance"},
		{"not issued", func(in *Input) { in.Candidates[0].Statements[0].IssuedOn = period.Date{} }, "no issued statement | one is issued | finance"},
		{"owes", func(in *Input) { in.Balances[0] = due("northwind", "-0.01") }, "owes us | next sales | finance (write-off: two)"},
		{"in transit", func(in *Input) {
			in.Unfinished = map[partner.ID]Payout{"northwind": {ID: "P-2026-10-20-001", Run: "r", State: InTransit}}
		}, "P-2026-10-20-001 in transit | bank confirms | finance"},
		{"in another plan", func(in *Input) {
			in.Unfinished = map[partner.ID]Payout{"northwind": {ID: "P-2026-10-20-001", Run: "r", State: Planned}}
		}, "P-2026-10-20-001 planned | run submitted | finance"},
		{"on hold", func(in *Input) {
			in.Holds = []Hold{{ID: "h", Partner: "northwind", All: true, Reason: "bankruptcy notice", By: "k.lee", Until: day("2026-12-15")}}
		}, "on hold: bankruptcy notice | 15 Dec | k.lee"},
		{"two at once", payee(func(p *partner.Payee) { p.TaxForm, p.ScreenedOn = "", period.Date{} }),
			"tax form missing | form comes | partner\nnot screened (OFAC, LEIE) | screened | finance"},
	} {
		in := base()
		c.change(&in)
		r := plan(t, in)
		if len(r.Payouts) != 0 || len(r.NotNow) != 1 {
			t.Errorf("%s: paid %d, not now %d", c.name, len(r.Payouts), len(r.NotNow))
			continue
		}
		var lines []string
		for _, x := range r.NotNow[0].Reasons {
			lines = append(lines, x.Text+" | "+x.Until+" | "+x.Who)
			if x.Why == "" {
				t.Errorf("%s: no rule is given", c.name)
			}
		}
		if got := strings.Join(lines, "\n"); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	in := base()
	in.Candidates[0].Partner.Payee.ChangedOn = day("2026-11-06") // ten business days before
	if r := plan(t, in); len(r.Payouts) != 1 {
		t.Errorf("not paid on the day the cooling-off ends: %+v", r.NotNow)
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Input)
		is     error
		want   string
	}{
		{"an unknown payee", func(in *Input) { in.Balances = append(in.Balances, due("stranger", "12.00")) }, ErrBooks,
			"plan 2026-11-20.usd.ach.meridian-us: the plan does not equal the ledger: liabilities:payable:stranger:due holds 12.00 USD, and its partner is no candidate; add the partner, so that it is paid or said why not"},
		{"overdrawn held", func(in *Input) { in.Balances = append(in.Balances, held("quill", "-1.00")) }, ErrBooks,
			"plan 2026-11-20.usd.ach.meridian-us: the plan does not equal the ledger: liabilities:payable:quill:held is overdrawn by 1.00 USD; more was released than held, post a correction first"},
		{"no date", func(in *Input) { in.PayOn = period.Date{} }, nil,
			"plan payouts: no pay date; give the day the bank shall pay, such as 2026-11-20"},
		{"a Sunday", func(in *Input) { in.PayOn = day("2026-11-22") }, nil,
			"plan payouts for Sunday 2026-11-22: banks do not work that day; the next business day is 2026-11-23"},
		{"nobody", func(in *Input) { in.By = "" }, nil,
			"plan payouts for 2026-11-20: nobody planned it; name who does, because a planner may not approve"},
		{"no rail", func(in *Input) { in.Rail = "" }, nil,
			`plan payouts for 2026-11-20: entity "meridian-us", rail "" and currency "USD" are all needed`},
		{"two currencies", func(in *Input) { in.Candidates[3].Currency = "EUR" }, nil,
			"plan payouts in USD for 2026-11-20: candidate lumen-intake is in EUR; a run pays one currency, plan another for it"},
		{"a candidate twice", func(in *Input) { in.Candidates[3] = in.Candidates[4] }, nil,
			"plan payouts for 2026-11-20: candidate carebridge comes twice; one payee is paid once in a run"},
		{"a foreign minimum", func(in *Input) { m := money.New(1, "EUR"); in.Candidates[3].Minimum = &m }, nil,
			"plan payouts in USD for 2026-11-20: the minimum of lumen-intake is 0.01 EUR"},
		{"a doubled balance", func(in *Input) { in.Balances = append(in.Balances, due("northwind", "45,213.19")) }, ErrBooks,
			"plan 2026-11-20.usd.ach.meridian-us: the plan does not equal the ledger: to pay 106,361.00 + not now 6,245.85 + held 90.00 differ by 45,213.19 from the ledger's 157,910.04; nothing is paid until they agree"},
	} {
		in := november()
		c.change(&in)
		_, err := Plan(in)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.name, err, c.want)
		}
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: not %v", c.name, c.is)
		}
	}
}

func TestApprove(t *testing.T) {
	big := plan(t, november())
	in := november()
	in.Rules = DefaultRules("USD")
	in.Rules.TwoAbove = usd("106,361.00")
	small := plan(t, in)
	by := func(r Run, who string) Approval { return Approval{By: who, Content: r.Short(), At: r.PlannedAt} }

	r, err := small.Approve(by(small, "a.kim"))
	if err != nil || r.State != RunApproved {
		t.Fatalf("one approver at the limit: %s, %v", r.State, err)
	}
	if again, err := r.Approve(by(small, "A.Kim ")); err != nil || len(again.Approvals) != 1 {
		t.Errorf("the same approval again: %d, %v", len(again.Approvals), err)
	}
	one, err := big.Approve(by(big, "a.kim"))
	if err != nil || one.State != RunPlanned {
		t.Fatalf("one of two approvers: %s, %v", one.State, err)
	}
	if err := one.approved(); !errors.Is(err, ErrApproval) {
		t.Errorf("one of two is enough to submit: %v", err)
	}
	last := by(big, "r.shah")
	last.Unauthenticated = true
	two, err := one.Approve(last)
	if err != nil || two.State != RunApproved || two.approved() != nil {
		t.Fatalf("two of two: %s, %v, %v", two.State, err, two.approved())
	}
	golden(t, "approved.txt", written(t, two))

	altered := two
	altered.Payouts = append([]Payout(nil), two.Payouts...)
	altered.Payouts[0].Account = "acct-thief"
	for _, c := range []struct {
		name string
		err  error
		is   error
		want string
	}{
		{"planner", second(big.Approve(by(big, "M.Ortiz"))), ErrApproval,
			"approve run 2026-11-20.usd.ach.meridian-us: m.ortiz planned it; another person has to approve: approval refused"},
		{"nobody", second(big.Approve(by(big, " "))), ErrApproval, "approve run 2026-11-20.usd.ach.meridian-us: nobody is named: approval refused"},
		{"other content", second(big.Approve(Approval{By: "a.kim", Content: "00000000"})), ErrContent,
			`approve run 2026-11-20.usd.ach.meridian-us: content is ` + big.Short() + ` now, not "00000000"; read the plan again and approve that: the run has changed`},
		{"short content", second(big.Approve(Approval{By: "a.kim", Content: big.Content[:7]})), ErrContent,
			`approve run 2026-11-20.usd.ach.meridian-us: content is ` + big.Short() + ` now, not "` + big.Content[:7] + `"; read the plan again and approve that: the run has changed`},
		{"approved", second(two.Approve(by(two, "x.y"))), ErrState, "approve run 2026-11-20.usd.ach.meridian-us: it is approved: not possible in this state"},
		{"not approved", big.approved(), ErrApproval,
			"submit run 2026-11-20.usd.ach.meridian-us: 0 of 2 approvals; show the plan to an approver, with content " + big.Short() + ": approval refused"},
	} {
		if c.err == nil || c.err.Error() != c.want || !errors.Is(c.err, c.is) {
			t.Errorf("%s:\n got %v\nwant %s", c.name, c.err, c.want)
		}
	}
	if err := altered.approved(); !errors.Is(err, ErrContent) || !strings.Contains(err.Error(), "the database was changed by hand; plan again") {
		t.Errorf("an account changed under the approvals: %v", err)
	}
	empty := big
	empty.Payouts = nil
	if _, err := empty.Approve(by(big, "a.kim")); err == nil || !strings.Contains(err.Error(), "it pays nobody") {
		t.Errorf("a run that pays nobody: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestProgress(t *testing.T) {
	for _, c := range []struct {
		states []State
		want   RunState
	}{
		{[]State{InTransit, InTransit}, RunSubmitted},
		{[]State{InTransit, Cancelled}, RunSubmitted},
		{[]State{InTransit, Settled}, RunPartSettled},
		{[]State{InTransit, Failed}, RunPartSettled},
		{[]State{Settled, Returned, Cancelled}, RunSettled},
	} {
		if got := Progress(c.states); got != c.want {
			t.Errorf("%v: %s, want %s", c.states, got, c.want)
		}
	}
}

// TestWhatBecameOfARun writes a run and a list of runs.
func TestWhatBecameOfARun(t *testing.T) {
	r := plan(t, november())
	r.State, r.Revision = RunPartSettled, 2
	for i, s := range []State{Settled, Settled, Failed, InTransit, Returned, Cancelled, InTransit, InTransit} {
		r.Payouts[i].State = s
	}
	r.Payouts[2].Reason = "account closed; the bank sent the money back at once and asks for the new account in writing"
	r.Payouts[3].Replaces = "P-2026-10-20-004"
	var b strings.Builder
	if err := WriteRun(&b, r); err != nil {
		t.Fatal(err)
	}
	golden(t, "run.txt", b.String())
	b.Reset()
	back := plan(t, november())
	back.State, back.SentBack, back.ID = RunSentBack, &SentBack{By: "a.kim", Reason: "wrong month"}, "2026-10-20.usd.ach.meridian-us"
	if err := WriteRuns(&b, []Run{r, back}); err != nil {
		t.Fatal(err)
	}
	golden(t, "runs.txt", b.String())
}

// TestWidePlans writes what does not fit: long names, large sums, all of it held.
func TestWidePlans(t *testing.T) {
	in := november()
	long := "a-company-with-a-name-that-is-as-long-as-an-identifier-may-be-63"
	in.Candidates = []Candidate{candidate(long[:63], "4417", "2026-07", "2026-08", "2026-09", "2026-10"), candidate("quill", "1234", "2026-10"), candidate("helio", "2218", "2026-10")}
	in.Candidates[0].Partner.Payee.ChangedOn = day("2026-10-21")
	in.Candidates[2].Partner.Payee = partner.Payee{}
	in.Balances = []ledger.Balance{due(long[:63], "987,654,321.09"), held("quill", "12,345.00"), due("helio", "1.00"), held("helio", "2.00")}
	in.Holds = []Hold{{ID: "h-1", Partner: "quill", All: true, Reason: "bankruptcy notice of 3 November, see the court's letter", By: "k.lee"}}
	in.Funds = &in.Balances[1].Amount
	in.Paid = map[partner.ID]Before{partner.ID(long[:63]): {Payout: "P", On: day("2026-10-20"), Amount: usd("1.00")}}
	funds := usd("1.00")
	in.Funds = &funds
	golden(t, "wide.txt", written(t, plan(t, in)))
}
