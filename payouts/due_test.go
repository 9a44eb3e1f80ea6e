package payouts

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// net is a statement that adds an amount and is due on a day.
func net(id, month, adds, on string) Statement {
	s := statement(id, month)
	a := usd(adds)
	s.DueOn, s.Adds = day(on), &a
	return s
}

// told is a plan in a few words: what is paid up to which months, and what waits why.
func told(r Run) string {
	var out []string
	for _, x := range r.Payouts {
		var months []string
		for _, s := range x.Statements {
			months = append(months, s.Month.String())
		}
		out = append(out, fmt.Sprintf("pay %s for %s", x.Amount.Plain(), strings.Join(months, " ")))
	}
	for _, x := range r.NotNow {
		var why []string
		for _, reason := range x.Reasons {
			why = append(why, reason.Text+" ("+reason.Until+")")
		}
		out = append(out, fmt.Sprintf("wait %s: %s", x.Amount.Plain(), strings.Join(why, ", ")))
	}
	return strings.Join(out, "; ")
}

// TestNetTerms: what of a balance is paid when, on 20 November 2026.
func TestNetTerms(t *testing.T) {
	for _, c := range []struct {
		name, due  string
		statements []Statement
		edit       func(*Input, *Candidate)
		want       string
	}{
		{name: "due today", due: "100.00", statements: []Statement{net("helio", "2026-10", "100.00", "2026-11-20")},
			want: "pay 100.00 for 2026-10"},
		{name: "due tomorrow", due: "100.00", statements: []Statement{net("helio", "2026-10", "100.00", "2026-11-21")},
			want: "wait 100.00: due on 21 Nov 2026 (23 Nov)"}, // a Saturday
		{name: "due on a holiday", due: "100.00", statements: []Statement{net("helio", "2026-10", "100.00", "2026-11-26")},
			edit: func(in *Input, _ *Candidate) {
				in.Calendar.Holidays = map[period.Date]string{day("2026-11-26"): "Thanksgiving"}
			},
			want: "wait 100.00: due on 26 Nov 2026 (27 Nov)"},
		{name: "next year", due: "100.00", statements: []Statement{net("helio", "2026-10", "100.00", "2027-10-15")},
			want: "wait 100.00: due on 15 Oct 2027 (15 Oct 2027)"},
		{name: "in part", due: "180.00", statements: []Statement{net("helio", "2026-09", "100.00", "2026-11-15"), net("helio", "2026-10", "80.00", "2026-12-15")},
			want: "pay 100.00 for 2026-09; wait 80.00: due on 15 Dec 2026 (15 Dec)"},
		{name: "a quarter", due: "180.00", statements: []Statement{net("helio", "2026-07", "100.00", "2026-11-14"), net("helio", "2026-08", "50.00", "2026-11-14"), net("helio", "2026-10", "30.00", "2027-02-14")},
			want: "pay 150.00 for 2026-07 2026-08; wait 30.00: due on 14 Feb 2027 (15 Feb)"},
		{name: "two days", due: "60.00", statements: []Statement{net("helio", "2026-08", "10.00", "2026-12-15"), net("helio", "2026-09", "20.00", "2026-12-15"), net("helio", "2026-10", "30.00", "2027-01-15")},
			want: "wait 30.00: due on 15 Dec 2026 (15 Dec); wait 30.00: due on 15 Jan 2027 (15 Jan)"},
		{name: "a later month is due before an earlier one", due: "180.00",
			statements: []Statement{net("helio", "2026-08", "100.00", "2026-12-15"), net("helio", "2026-10", "80.00", "2026-11-20")},
			want:       "pay 80.00 for 2026-10; wait 100.00: due on 15 Dec 2026 (15 Dec)"},
		{name: "beside one without net terms", due: "180.00", statements: []Statement{statement("helio", "2026-09"), net("helio", "2026-10", "80.00", "2026-12-15")},
			want: "pay 100.00 for 2026-09; wait 80.00: due on 15 Dec 2026 (15 Dec)"},
		{name: "one that takes away lowers what is paid", due: "150.00",
			statements: []Statement{net("helio", "2026-08", "100.00", "2026-11-15"), net("helio", "2026-09", "80.00", "2026-12-15"), net("helio", "2026-10", "-30.00", "2027-01-15")},
			want:       "pay 70.00 for 2026-08; wait 80.00: due on 15 Dec 2026 (15 Dec)"},
		{name: "it takes all that is due", due: "50.00",
			statements: []Statement{net("helio", "2026-08", "100.00", "2026-11-15"), net("helio", "2026-09", "80.00", "2026-12-15"), net("helio", "2026-10", "-130.00", "2027-01-15")},
			want:       "wait 50.00: due on 15 Dec 2026 (15 Dec)"},
		{name: "and of what is due first", due: "50.00",
			statements: []Statement{net("helio", "2026-08", "-130.00", "2026-11-15"), net("helio", "2026-09", "140.00", "2026-12-15"), net("helio", "2026-10", "40.00", "2027-01-15")},
			want:       "wait 40.00: due on 15 Jan 2027 (15 Jan); wait 10.00: due on 15 Dec 2026 (15 Dec)"},
		{name: "in our favour", due: "-20.00", statements: []Statement{net("helio", "2026-09", "80.00", "2026-12-15"), net("helio", "2026-10", "-100.00", "2027-01-15")},
			want: "wait -20.00: owes us (next sales)"},
		{name: "below the minimum", due: "104.00", statements: []Statement{net("helio", "2026-09", "24.00", "2026-11-15"), net("helio", "2026-10", "80.00", "2026-12-15")},
			edit: func(_ *Input, c *Candidate) { m := usd("25.00"); c.Minimum = &m },
			want: "wait 80.00: due on 15 Dec 2026 (15 Dec); wait 24.00: below 25.00 (next run)"},
		{name: "kept of what is due", due: "180.00", statements: []Statement{net("helio", "2026-09", "100.00", "2026-11-15"), net("helio", "2026-10", "80.00", "2026-12-15")},
			edit: func(_ *Input, c *Candidate) { k := usd("30.00"); c.Keep = &k },
			want: "pay 70.00 for 2026-09; wait 80.00: due on 15 Dec 2026 (15 Dec); wait 30.00: 30.00 stay on the account (contract ends)"},
		{name: "tax of what is paid", due: "5,000.00", statements: []Statement{net("helio", "2026-09", "3000.00", "2026-11-15"), net("helio", "2026-10", "2000.00", "2026-12-15")},
			edit: func(in *Input, c *Candidate) {
				in.Rules = irs()
				c.Partner.Payee.TaxForm, c.Partner.Payee.WithholdFrom = "", day("2026-03-01")
			},
			want: "pay 2280.00 for 2026-09; wait 2000.00: due on 15 Dec 2026 (15 Dec)"},
		{name: "something else stands against it", due: "180.00", statements: []Statement{net("helio", "2026-09", "100.00", "2026-11-15"), net("helio", "2026-10", "80.00", "2026-12-15")},
			edit: func(_ *Input, c *Candidate) { c.Partner.Payee.TaxForm = "" },
			want: "wait 100.00: tax form missing (form comes); wait 80.00: due on 15 Dec 2026 (15 Dec), tax form missing (form comes)"},
		{name: "a hold takes from what is due", due: "130.00", statements: []Statement{net("helio", "2026-09", "100.00", "2026-11-15"), net("helio", "2026-10", "80.00", "2026-12-15")},
			edit: func(in *Input, _ *Candidate) { in.Balances = append(in.Balances, held("helio", "50.00")) },
			want: "pay 50.00 for 2026-09; wait 80.00: due on 15 Dec 2026 (15 Dec)"},
		{name: "due by no statement", due: "120.00", statements: []Statement{net("helio", "2026-10", "100.00", "2026-12-15")}, // a hold was released
			want: "wait 100.00: due on 15 Dec 2026 (15 Dec); wait 20.00: no statement is due yet (one is due)"},
		{name: "nothing left of it", due: "0.00", statements: []Statement{net("helio", "2026-10", "100.00", "2026-12-15")}, want: ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := candidate("helio", "4417")
			x.Statements = c.statements
			in := only(DefaultRules("USD"), []ledger.Balance{due("helio", c.due)}, x)
			if c.edit != nil {
				c.edit(&in, &in.Candidates[0])
			}
			r := plan(t, in)
			if got := told(r); got != c.want {
				t.Fatalf("\n got %s\nwant %s", got, c.want)
			}
			if waiting := min(len(r.NotNow), 1); r.Totals.NotNowPayees != waiting {
				t.Errorf("%d payees wait, want %d", r.Totals.NotNowPayees, waiting)
			}
			for _, x := range r.Payouts {
				books(t, x)
				if x.UpTo != x.Statements[len(x.Statements)-1].ID {
					t.Errorf("paid up to %s", x.UpTo)
				}
			}
		})
	}
}

// TestNetTermsOnPaper: the approver sees both parts of a balance, and that what is paid
// is due.
func TestNetTermsOnPaper(t *testing.T) {
	in := november()
	c := &in.Candidates[2] // northwind, 45,213.19
	c.Statements = []Statement{net("northwind", "2026-09", "20,000.00", "2026-11-16"), net("northwind", "2026-10", "25,213.19", "2026-12-15")}
	r := plan(t, in)
	golden(t, "netterms.txt", written(t, r))
	if last := r.Checks[len(r.Checks)-1]; last != (Check{"due", 8, 8}) {
		t.Errorf("the last check is %+v", last)
	}
	if r := plan(t, november()); slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Name == "due" }) {
		t.Error("a plan without net terms has another check")
	}
}

func TestNetTermsAreSaidInFull(t *testing.T) {
	for name, edit := range map[string]func(*Statement){
		"no amount":        func(s *Statement) { s.Adds = nil },
		"another currency": func(s *Statement) { a := money.New(1, "EUR"); s.Adds = &a },
	} {
		in := november()
		s := net("northwind", "2026-10", "1.00", "2026-12-15")
		edit(&s)
		in.Candidates[2].Statements = []Statement{s}
		_, err := Plan(in)
		want := "plan payouts in USD for 2026-11-20: statement meridian-us.northwind.usd.2026-10 is due on 2026-12-15, and what it adds is not known; say it in USD"
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnpaidUnderNetTerms: a statement that is not due is not left out later, and one
// that was paid before may only give a payout its name.
func TestUnpaidUnderNetTerms(t *testing.T) {
	a, b, c := net("helio", "2026-08", "10.00", "2026-10-15"), net("helio", "2026-09", "20.00", "2026-11-15"), net("helio", "2026-10", "30.00", "2026-12-15")
	x := candidate("helio", "4417")
	x.Statements = []Statement{c, a, b}
	for _, want := range []struct {
		on, list string
		paid     []Statement
		again    []Statement
	}{
		{on: "2026-11-20", list: "08 09 10"},
		{on: "2026-11-20", list: "09 10", paid: []Statement{a}},
		{on: "2026-11-20", list: "09 10", paid: []Statement{a, b}}, // 09 as a name
		{on: "2026-12-15", list: "10", paid: []Statement{a, b}},
		{on: "2026-12-15", list: "10", paid: []Statement{a, b, c}},
		{on: "2026-12-15", list: "08 10", paid: []Statement{b}}, // the earlier came later
		{on: "2026-12-15", list: "08 10", paid: []Statement{b}, again: []Statement{a}},
		{on: "2026-10-01", list: "08 09 10"},
		{on: "2026-10-01", list: "09 10", paid: []Statement{a}}, // none is due: no name
	} {
		m := memory{covered: map[string]bool{}, again: map[partner.ID]Payout{"helio": {Statements: want.again}}}
		for _, s := range want.paid {
			m.covered[s.ID] = true
		}
		var got []string
		for _, s := range m.unpaid(x, day(want.on)) {
			got = append(got, s.Month.String()[5:])
		}
		if text := strings.Join(got, " "); text != want.list {
			t.Errorf("%+v: %s", want, text)
		}
	}
}

// TestNetTermsProperty pays random statements on random days. Nothing is paid before its
// day, no cent is lost or paid twice, more is never paid than the account holds, and
// after the last due day nothing is left unless it is owed to us.
func TestNetTermsProperty(t *testing.T) {
	seen := map[string]int{}
	sequences := 0
	rapid.Check(t, func(t *rapid.T) {
		sequences++
		first := day("2026-01-05")
		var all []Statement
		months := rapid.IntRange(1, 9).Draw(t, "months")
		for i := range months {
			s := statement("helio", period.Month{Year: 2026, Month: 1}.Add(i).String())
			adds := money.New(rapid.Int64Range(1, 500_00).Draw(t, "adds"), "USD")
			if rapid.IntRange(0, 3).Draw(t, "takes away") == 0 {
				adds = adds.Neg()
			}
			s.Adds, s.IssuedOn = &adds, first.AddDays(30*i+rapid.IntRange(0, 60).Draw(t, "issued"))
			if rapid.IntRange(0, 4).Draw(t, "terms") > 0 {
				s.DueOn = first.AddDays(30*i + rapid.IntRange(0, 150).Draw(t, "due"))
			}
			all = append(all, s)
		}
		added := func(on period.Date) (minor int64) {
			for _, s := range all {
				if !on.Before(s.IssuedOn) {
					minor += s.Adds.Minor
				}
			}
			return minor
		}
		// At most so much may have been paid up to a day: no more than what was due by
		// then, and what was taken away by then is never paid.
		owed := func(on period.Date) (minor int64) {
			for _, s := range all {
				if on.Before(s.IssuedOn) || s.Adds.Minor > 0 && on.Before(s.DueOn) {
					continue
				}
				minor += s.Adds.Minor
			}
			return minor
		}
		var past []History
		var paid int64
		last := first.AddDays(30*months + 400)
		for on := first; ; on = on.AddDays(rapid.IntRange(1, 40).Draw(t, "days")) {
			if last.Before(on) {
				on = last
			}
			on, err := period.Calendar{}.AddBusinessDays(on, 0)
			if err != nil {
				t.Fatal(err)
			}
			x := candidate("helio", "4417")
			x.Partner.Payee.ScreenedOn = on
			for _, s := range all {
				if !on.Before(s.IssuedOn) {
					x.Statements = append(x.Statements, s)
				}
			}
			in := Input{Entity: "e", PayOn: on, Currency: "USD", Rail: "ach", By: "m.ortiz", Rules: DefaultRules("USD")}
			m, err := remember(past, in.RunID(), on.Year)
			if err != nil {
				t.Fatal(err)
			}
			x.Statements = m.unpaid(x, on)
			in.Candidates, in.Again = []Candidate{x}, m.again
			balance := money.New(added(on)-paid, "USD")
			in.Balances = []ledger.Balance{{Account: ledger.PayableDue("helio"), Amount: balance.Neg(), Postings: 1}}
			r, err := Plan(in)
			if err != nil {
				t.Fatal(err)
			}
			if sum := r.Totals.ToPay.Minor + r.Totals.NotNow.Minor; sum != balance.Minor {
				t.Fatalf("%s: the plan holds %d of %d", on, sum, balance.Minor)
			}
			for _, w := range r.NotNow {
				if (w.Amount.Minor < 0) != (w.Reasons[0].Code == "owes") {
					t.Fatalf("%s: %+v", on, w)
				}
				seen[w.Reasons[0].Code]++
			}
			for _, p := range r.Payouts {
				if p.Amount.Minor > balance.Minor || p.Amount.Minor <= 0 {
					t.Fatalf("%s: pays %s of %s", on, p.Amount, balance)
				}
				for _, s := range p.Statements {
					if on.Before(s.DueOn) || on.Before(s.IssuedOn) {
						t.Fatalf("%s: pays %+v", on, s)
					}
				}
				state := Settled
				if rapid.IntRange(0, 5).Draw(t, "fails") == 0 && on != last {
					state = Failed
				} else {
					paid += p.Amount.Minor
				}
				if most := owed(on); paid > max(most, 0) {
					// What was paid before a later statement took something away stays paid.
					t.Fatalf("%s: %d is paid, and %d was due", on, paid, most)
				}
				seen[fmt.Sprintf("%d statements %s", min(len(p.Statements), 2), state)]++
				p.ID, p.Run = fmt.Sprintf("P-%s-%03d", on, len(past)+1), r.ID
				p.State = state
				past = append([]History{{Payout: p}}, past...)
			}
			if !on.Before(last) {
				if rest := added(on) - paid; rest > 0 {
					t.Fatalf("%s: %d is left after everything is due: %s", on, rest, told(r))
				}
				return
			}
		}
	})
	for _, kind := range []string{"not due", "owes", "1 statements settled", "2 statements settled", "1 statements failed", "2 statements failed"} {
		if seen[kind] == 0 && sequences >= 50 {
			t.Errorf("never seen: %s in %v", kind, seen)
		}
	}
	t.Logf("%d sequences: %v", sequences, seen)
}
