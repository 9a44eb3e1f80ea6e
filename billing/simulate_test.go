package billing_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"mete/billing"
	"mete/catalogue"
	"mete/partner"
	"mete/period"
)

// contractsOf are the contracts of documents.
func contractsOf(t *testing.T, text string) []catalogue.Object {
	t.Helper()
	docs := catalogue.Parse("tried.yaml", []byte(text))
	if err := docs.Check(); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(docs.Objects, func(o catalogue.Object) bool { return o.Kind != catalogue.KindContract })
}

func (w *world) simulate(t *testing.T, from, to period.Month, text string) billing.Simulation {
	t.Helper()
	before := w.contents(t)
	sim, err := w.closer.Simulate(t.Context(), billing.SimulationRequest{From: from, To: to, Terms: contractsOf(t, text)})
	if err != nil {
		t.Fatal(err)
	}
	if w.contents(t) != before {
		t.Error("a simulation changed the stores")
	}
	return sim
}

// The past under its own contracts comes to itself: whatever was refunded, referred or
// came late, over closed months and open ones.
func TestSimulateThePast(t *testing.T) {
	w := testWorld(t)
	deliverJanuary(t, w)
	w.closeMonth(t, jan)
	deliverFebruary(t, w)
	w.closeMonth(t, feb)
	w.deliver(t, 1, sale("later", "notes", "mesa", noon(jan, 20), "310.00"), sale("march", "scheduler", "lakeside", noon(mar, 3), "120.00"))
	sim := w.simulate(t, jan, apr, marketplace)
	if len(sim.Accounts) < 4 || len(sim.Tried) != 5 || len(sim.Totals) != 1 || len(sim.Crossings) != 0 {
		t.Fatalf("%d accounts, %d contracts, %d totals, crossings %v", len(sim.Accounts), len(sim.Tried), len(sim.Totals), sim.Crossings)
	}
	stated, earned := map[string]int64{}, map[string]int64{}
	for _, a := range sim.Accounts {
		if a.Difference.Minor != 0 || a.Old != a.New {
			t.Errorf("%s: %s under its own contract, old %+v, new %+v", a.Partner, a.Difference, a.Old, a.New)
		}
		stated[string(a.Partner)], earned[string(a.Partner)] = a.Stated.Minor, a.Old.Earned.Minor
	}
	// What statements hold, and what the late sale and March bring beyond it.
	rs, err := w.db.Statements(t.Context(), period.Month{}, "")
	if err != nil {
		t.Fatal(err)
	}
	sum := func(rs []billing.StatementRecord) map[string]int64 { // adjustments apart
		sums := map[string]int64{}
		for _, r := range rs {
			for _, l := range r.Lines {
				if l.Adjustment == "" {
					sums[string(r.Partner)] += l.Amount.Minor
				}
			}
		}
		return sums
	}
	want := sum(rs)
	for p, n := range want {
		if stated[p] != n {
			t.Errorf("%s: statements hold %d, the simulation says %d", p, n, stated[p])
		}
	}
	w.closeMonth(t, mar)
	w.closeMonth(t, apr)
	if rs, err = w.db.Statements(t.Context(), period.Month{}, ""); err != nil {
		t.Fatal(err)
	}
	for p, n := range sum(rs) {
		if earned[p] != n {
			t.Errorf("%s: closed, the months come to %d, the simulation said %d", p, n, earned[p])
		}
	}
}

// Another share for one partner: its figures differ by what the arithmetic says, nobody
// else is looked at, and where the ladder stands is told.
func TestSimulateOtherTerms(t *testing.T) {
	w := testWorld(t)
	w.deliver(t, 0, sale("a", "scheduler", "lakeside", noon(jan, 5), "2000.00"), sale("b", "scheduler", "harbor", noon(feb, 5), "2000.00"),
		sale("c", "notes", "mesa", noon(jan, 7), "500.00"))
	w.closeMonth(t, jan)
	const steps = "{to: 1000, rate: 0%}, {to: 3000, rate: 15%}, {rate: 7.5%}"
	all := strings.Split(marketplace, "---\n")
	own := all[slices.IndexFunc(all, func(s string) bool { return strings.HasPrefix(s, "contract: northwind-scheduling") })]
	for _, c := range []struct {
		name, text string
		difference string
		crossing   string
	}{
		{"its own", own, "0.00", ""},
		// Old: 1,000 at 15 % in January, 1,000 at 15 % and 1,000 at 7.5 % in February, 375.00
		// in all. New: 500 at 15 % in February.
		{"a wider first step", strings.Replace(own, steps, "{to: 3500, rate: 0%}, {rate: 15%}", 1), "300.00", "above 3,500.00 at 15%"},
		// What begins after the months is taken as if it had begun with them; from February
		// on it is February's alone, with January's sales before it: 2,000 at 20 %.
		{"from later on", strings.NewReplacer(steps, "{to: 1000, rate: 0%}, {rate: 20%}", "{from: 2026-01-01}", "{from: 2027-01-01}").Replace(own), "-225.00", "above 1,000.00 at 20%"},
		{"from February", strings.NewReplacer(steps, "{to: 1000, rate: 0%}, {rate: 20%}", "{from: 2026-01-01}", "{from: 2026-02-01}").Replace(own), "-175.00", "above 1,000.00 at 20%"},
	} {
		sim := w.simulate(t, jan, feb, c.text)
		if len(sim.Accounts) != 1 || sim.Accounts[0].Partner != partner.ID("northwind") || len(sim.Tried) != 1 {
			t.Fatalf("%s: %s", c.name, mustJSON(sim))
		}
		a := sim.Accounts[0]
		if a.Difference.Plain() != c.difference || sim.Totals[0].Difference != a.Difference {
			t.Errorf("%s: difference %s, want %s: %s", c.name, a.Difference, c.difference, mustJSON(sim))
		}
		last := ""
		if n := len(sim.Crossings); n > 0 {
			last = sim.Crossings[n-1].New
		}
		if last != c.crossing {
			t.Errorf("%s: crossings %+v, want the last to be %q", c.name, sim.Crossings, c.crossing)
		}
	}
	sim := w.simulate(t, jan, feb, strings.Replace(own, steps, "{to: 3500, rate: 0%}, {rate: 15%}", 1))
	var text, rows bytes.Buffer
	if err := sim.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "simulation.txt", text.Bytes())
	if err := sim.WriteCSV(&rows); err != nil {
		t.Fatal(err)
	}
	if want := `partner,currency,month,old_earned,new_earned,difference,old_take_rate,new_take_rate
northwind,USD,2026-01,1850.00,2000.00,150.00,,
northwind,USD,2026-02,1775.00,1925.00,150.00,,
northwind,USD,,3625.00,3925.00,300.00,9.38%,1.88%
`; rows.String() != want {
		t.Errorf("rows are\n%s\nwant\n%s", rows.String(), want)
	}
}

func TestSimulateRefuses(t *testing.T) {
	w := testWorld(t)
	terms := contractsOf(t, marketplace)
	for says, req := range map[string]billing.SimulationRequest{
		"2026-01 lies before 2026-02": {From: feb, To: jan, Terms: terms},
		"at most 60 months":           {From: jan, To: jan.Add(60), Terms: terms},
		"no contract to try":          {From: jan, To: jan},
		"is there twice":              {From: jan, To: jan, Terms: append(slices.Clone(terms), terms[0])},
		"only contracts can be tried": {From: jan, To: jan, Terms: []catalogue.Object{{Kind: catalogue.KindPartner, ID: "quill"}}},
	} {
		if _, err := w.closer.Simulate(t.Context(), req); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
}
