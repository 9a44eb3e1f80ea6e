package pricing

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

func TestAsk(t *testing.T) {
	avail := decimal.RequireFromString("0.9978")
	card := &Scorecard{Calls: 12, Availability: &avail, IncidentsOpen: 2, Certification: Certification{State: "overdue", Tier: 3, OverdueDays: 4}}
	for text, want := range map[string]string{
		"availability >= 0.999":                                  "availability >= 0.999 no 0.9978 0.0012 short of 0.999",
		"availability>=0.999":                                    "availability>=0.999 no 0.9978 needs availability>=0.999",
		"incidents.open == 0":                                    "incidents.open == 0 no 2 2 above 0",
		"incidents.open <= 1 && calls >= 12":                     "incidents.open <= 1 no 2 1 above 1 | calls >= 12 yes 12 ",
		"calls == 20":                                            "calls == 20 no 12 8 short of 20",
		"calls > 20":                                             "calls > 20 no 12 needs calls > 20",
		"within >= 0.5":                                          "within >= 0.5 no - no data for within",
		`certification.state == "valid"`:                         `certification.state == "valid" no overdue needs certification.state == "valid"`,
		`certification.state != "a && b" && calls > 1`:           `certification.state != "a && b" yes overdue  | calls > 1 yes 12 `,
		"(calls > 1 && calls > 20) && calls > 2":                 "(calls > 1 && calls > 20) no 12 needs (calls > 1 && calls > 20) | calls > 2 yes 12 ",
		"calls > 20 || calls > 1 && incidents.open == 0":         "calls > 20 || calls > 1 && incidents.open == 0 no 12,2 needs calls > 20 || calls > 1 && incidents.open == 0",
		`certification.state in ["due", "overdue"] && calls > 1`: `certification.state in ["due", "overdue"] yes overdue  | calls > 1 yes 12 `,
	} {
		c, err := ParseCondition(text)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range c.Ask(card) {
			var values []string
			for _, m := range r.Measured {
				if m.Value == "" {
					m.Value = "-"
				}
				values = append(values, m.Value)
			}
			got = append(got, fmt.Sprintf("%s %s %s %s", r.Needs, map[bool]string{true: "yes", false: "no"}[r.Holds], strings.Join(values, ","), r.Missing))
		}
		if s := strings.Join(got, " | "); s != want {
			t.Errorf("%s\n got %s\nwant %s", text, s, want)
		}
	}
	if _, err := ParseCondition("calls > "); err == nil || err.Error() != "at 8: the condition ends too early; such as availability >= 0.999" {
		t.Error(err)
	}
}

// A condition holds exactly if all of its parts do.
func TestPartsAreTheCondition(t *testing.T) {
	atom := rapid.SampledFrom([]string{"calls > 3", "incidents.open == 0", `certification.state == "va&&lid"`, "(calls < 9 || slow > 2)", "!(slow > 1)", "slow + 1 > 2", "calls in [1, 4]"})
	rapid.Check(t, func(t *rapid.T) {
		text := atom.Draw(t, "first")
		for range rapid.IntRange(0, 4).Draw(t, "more") {
			text += rapid.SampledFrom([]string{" && ", "&&", " || "}).Draw(t, "op") + atom.Draw(t, "atom")
		}
		c, err := ParseCondition(text)
		if err != nil {
			t.Fatal(err)
		}
		s := &Scorecard{Calls: rapid.Int64Range(0, 10).Draw(t, "calls"), Slow: rapid.Int64Range(0, 3).Draw(t, "slow"), IncidentsOpen: rapid.Int64Range(0, 1).Draw(t, "open"),
			Certification: Certification{State: rapid.SampledFrom([]string{"va&&lid", "due"}).Draw(t, "state")}}
		all := true
		for _, r := range c.Ask(s) {
			all = all && r.Holds
		}
		if all != c.Holds(s) {
			t.Fatalf("%s: parts %v, the condition %v", text, all, c.Holds(s))
		}
	})
}
