package scenario

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestScenarios(t *testing.T) {
	r, err := Run("../testdata", nil)
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() {
		t.Fatal("\n" + r.String())
	}
	t.Logf("%d scenarios, %d lines compared", len(r.Files), r.Wanted())
}

const shop = `contract: shop
partner: quill
apps: [notes]
currency: USD
zone: America/Chicago
effective: {from: 2026-01-01}
rules:
  - {id: store, kind: share, of: sale.paid, platform: {rate: 15%}}
  - {id: calls, kind: usage_fee, meter: api_calls, price: {model: per_unit, unit: 0.01}}
`

func load(name string) (string, []byte, error) {
	switch name {
	case "shop":
		return "shop.yaml", []byte(shop), nil
	case "two-apps":
		return "two-apps.yaml", []byte(strings.NewReplacer("contract: shop", "contract: two-apps", "[notes]", "[notes, forms]", "partner: quill", "partner: zeta").Replace(shop)), nil
	case "broken":
		return "broken.yaml", []byte("contract: x"), nil
	}
	return name + ".yaml", nil, errors.New("no such file")
}

// What a writer of scenarios can do wrong, and what is said.
func TestMistakes(t *testing.T) {
	const begin = "contract shop\nmonth 2026-01\n"
	for text, want := range map[string]string{
		"":                                        "s.txt:1: no contract; begin with `contract NAME`, for NAME.yaml beside the scenario",
		"contract":                                `s.txt:1: "contract" needs a name`,
		"contract ../x":                           `s.txt:1: "../x" is no identifier`,
		"contract gone":                           "s.txt:1: contract gone: no such file; put gone.yaml beside the scenario",
		"contract broken":                         "broken.yaml:1:1: partner is missing",
		"contract shop x":                         `s.txt:1: "x" is not expected`,
		"contract shop\ncontract shop":            "s.txt:2: version 2 of shop begins 2026-01-01, not after the one before; name versions in the order of effective.from",
		"contract shop":                           "s.txt:1: no month; add `month 2026-01` and what happens in it",
		"month 2026-01":                           "s.txt:1: a month before any contract; begin with `contract NAME`",
		"contract shop\nmonth Jan":                `s.txt:2: month "Jan": want YYYY-MM, such as 2026-09`,
		begin + "month 2026-01":                   "s.txt:3: month 2026-01 does not follow 2026-01; months rise; usage of a closed month is `late … on DATE` in a later one",
		begin + "month 2126-01":                   "s.txt:3: more than 240 months",
		begin + "sale.paid 1 USD":                 `s.txt:3: "sale.paid" is not known at the margin; known: contract, partner, app, meter, code, rate, marketplace, month, want; what happens is indented`,
		"contract shop\n sale.paid 1":             "s.txt:2: something happens before any month; begin with `month 2026-01`",
		begin + " calls 5":                        `s.txt:3: "calls" is neither an event type nor a meter of the contracts; such as sale.paid 100.00 USD, or a meter with a quantity`,
		begin + " api_calls":                      "s.txt:3: api_calls needs a quantity; such as api_calls 150_000",
		begin + " api_calls 5 status ok":          `s.txt:3: "ok" is no status`,
		begin + " sale.paid 1 USD app":            `s.txt:3: "app" has no value`,
		begin + " sale.paid 1 USD from x":         `s.txt:3: "from" is not expected here; known: app, customer, on,`,
		begin + " sale.paid 1 USD on 1 on 2":      `s.txt:3: "on" is given twice`,
		begin + " sale.paid 1 USD app x":          "s.txt:3: no contract names app x; add `app x of PARTNER`",
		begin + " sale.paid 1 USD on 32":          `s.txt:3: "32" is no day of 2026-01; on 20, or on 2026-01-20`,
		begin + " sale.paid 1 USD on 2026-02-01":  "s.txt:3: 2026-02-01 lies outside 2026-01; write `late` before it if it arrives after its month was closed",
		begin + " late":                           "s.txt:3: late what?; such as late api_calls 100 on 2026-01-20",
		begin + " late api_calls 5":               "s.txt:3: late usage of 2026-01 in 2026-01; late is about an earlier month: on YYYY-MM-DD",
		begin + " late api_calls 5 on 2025-12-31": "s.txt:3: 2025-12 comes before the first month here",
		begin + " sale.paid 1 USD tax x":          `s.txt:3: "x" is no number; write it like 1_200_000.00`,
		begin + " scorecard":                      "s.txt:3: whose scorecard?; scorecard APP availability 0.999 calls 20_000",
		begin + " scorecard notes cals 5":         "s.txt:3: no measure is called cals; measures: active_customers,",
		begin + " scorecard notes calls":          `s.txt:3: "calls" has no value`,
		begin + `want error "never`:               "s.txt:3: a quoted text has no end; close the quote",
		"contract shop\nwant":                     "s.txt:2: nothing to want before a month",
		begin + "want a b c":                      "s.txt:3: want takes a partner, or error and a quoted text",
		begin + "want\n store":                    "s.txt:4: store of how much?; a row is NAME AMOUNT",
		begin + "want\n entry":                    "s.txt:4: entry of how much?; a row is NAME AMOUNT",
		begin + "want\n balance x:y 5":            `s.txt:4: "x:y" is no account; it begins with assets, liabilities`,
		begin + "want\n balance income:share":     "s.txt:4: balance income:share of how much?; a row is NAME AMOUNT",
		begin + "want\n balance income:share 5":   "s.txt: there are no books here to compare with: run it with mete test",
		begin + "want\n store x 5":                `s.txt:4: month "x": want YYYY-MM, such as 2026-09; a row is NAME AMOUNT, or NAME MONTH AMOUNT for a difference of a closed month`,
		begin + "want\n store 5 USD":              `s.txt:4: "USD" is not expected here; known: note`,
		begin + "want error \"zz\"\n  a 1":        "s.txt:4: nothing may stand under want error",
		begin + "want error \"x\"":                `s.txt:3: wanted the error "x", but there was none`,
		"contract gone\nwant error \"zz\"":        `s.txt:2: wanted an error with "zz", got: s.txt:1: contract gone: no such file`,
		"contract shop\ncontract two-apps\nmonth 2026-01\n sale.paid 1 USD": "s.txt:4: which app?; there are several: app NAME",
		"contract shop\ncontract two-apps\nmonth 2026-01\nwant":             "s.txt:4: whose lines?; there are several partners: want PARTNER",
		"contract shop\napp x":                    "s.txt:2: an app belongs to a partner; app x of PARTNER",
		"contract shop\nmeter m below x":          `s.txt:2: "x" is no status`,
		"contract shop\nmarketplace late_limit 0": `s.txt:2: "0" is no late limit; want a number of months from 1 to 120`,
		"contract shop\nmarketplace lag 3":        `s.txt:2: "lag" is not expected here; known: late_limit`,
	} {
		rep := RunText("s.txt", []byte(text), load, nil)
		if !strings.Contains(rep.Error, want) {
			t.Errorf("%q:\n got %s\nwant %s", text, rep.Error, want)
		}
	}
}

func TestReportShowsDifferencesSideBySide(t *testing.T) {
	text := `contract shop
month 2026-01
  sale.paid  1_000.00 USD
  api_calls  500
want
  sales       1_000.00
  store        -140.00
  stor            5.00
  calls          -5.00  note "free"
month 2026-02
  sale.paid  10.00 USD
want
`
	rep := Report{Files: []FileReport{RunText("s.txt", []byte(text), load, nil), RunText("ok.txt", []byte("contract shop\nmonth 2026-01\n"), load, nil)}}
	want := `FAIL  s.txt
      s.txt:5: 2026-01, quill
          line       want       got
          sales  1,000.00  1,000.00
        ! store   -140.00   -150.00  off by -10.00
              all at 15%  1,000 × -0.15 = -150.00
        ! stor       5.00         –  no such line
        ! calls     -5.00     -5.00  no note with "free":
              all at 0.01  500 × -0.01 = -5.00
      s.txt:12: 2026-02, quill
          line   want    got
        ! sales     –  10.00  not wanted
              Sales, before tax  10 × 1 = 10.00
        ! store     –  -1.50  not wanted
              all at 15%  10 × -0.15 = -1.50
ok    ok.txt
2 scenarios, 6 lines compared, 1 failed
coverage: 0 of 0 branches of 0 contracts, 100%
`
	if got := rep.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if rep.OK() || (Report{}).OK() {
		t.Error("failed and empty runs are not OK")
	}
}

func TestRunNeedsScenarios(t *testing.T) {
	dir := t.TempDir()
	if _, err := Run(dir, nil); err == nil || !strings.Contains(err.Error(), "no .txt file; write one, see docs/scenarios.md") {
		t.Error(err)
	}
	if _, err := Run(filepath.Join(dir, "gone"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	os.WriteFile(filepath.Join(dir, "big.txt"), make([]byte, maxFile+1), 0o600)
	r, err := Run(dir, nil)
	if err != nil || !strings.Contains(r.Files[0].Error, "at most 1048576 are read") {
		t.Error(r, err)
	}
}

// No text makes a scenario panic.
func FuzzScenario(f *testing.F) {
	files, _ := filepath.Glob("../testdata/*/*.txt")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("contract shop\nmonth 2026-01\n sale.paid 1_0.50 USD id a\n sale.refunded 5 USD refers a\n late api_calls 1 on 2026-01-01\nwant\n store 2026-01 5 note \"x\"")
	f.Fuzz(func(t *testing.T, text string) {
		_ = RunText("f", []byte(text), load, nil).String()
	})
}

// Every way that a rule of any kind can go is gone by some scenario here, and told.
func TestEveryOutcomeIsTaken(t *testing.T) {
	r, err := Run("../testdata", nil)
	if err != nil {
		t.Fatal(err)
	}
	listed, taken := map[string]bool{}, map[string]bool{}
	for _, f := range r.Files {
		for _, x := range f.tried {
			kinds := map[string]string{}
			for _, rule := range x.terms.Rules {
				kinds[rule.ID] = rule.Kind
			}
			for _, b := range x.terms.Branches() {
				listed[kinds[b.Rule]+" "+b.Outcome] = true
			}
			for b := range x.taken {
				taken[kinds[b.Rule]+" "+b.Outcome] = true
			}
		}
	}
	for o := range listed {
		if !taken[o] {
			t.Errorf("no scenario takes: %s", o)
		}
	}
	t.Logf("%d outcomes of rules", len(listed))
}
