package compliance

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"mete/metering"
	"mete/money"
	"mete/period"
)

func packed(t *testing.T, in PackInput) map[string]File {
	t.Helper()
	files, err := Pack(in)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]File{}
	for _, f := range files {
		byName[f.Name] = f
	}
	return byName
}

func packInput() PackInput {
	october := period.Month{Year: 2026, Month: 10}
	usd := func(minor int64) money.Amount { return money.New(minor, "USD") }
	line := func(n int, rule string, class metering.Class, amount int64) FeeLine {
		return FeeLine{Month: october, Statement: "st-1", Number: n, Partner: "northwind", Payer: "platform", Contract: "c", Version: 2, Rule: rule, Kind: "usage_fee",
			Class: class, Text: "Calls, each", Amount: usd(amount)}
	}
	adjusted := FeeLine{Month: october, Statement: "st-1", Number: 4, Partner: "northwind", Text: "D-17", Amount: usd(3600)}
	late := line(5, "u", metering.CertifiedAPI, -50)
	late.Corrects = october.Add(-1)
	return PackInput{Entity: "meridian-us", From: october, Until: october,
		Lines: []FeeLine{line(1, "u", metering.CertifiedAPI, -100), line(2, "v", metering.CertifiedAPI, -25), line(3, "s", metering.Marketplace, -2000), adjusted, late},
		Methods: []Method{{Contract: "c", Version: 2, Document: "contract: c\n", Costs: map[string]string{"u": "HC-4"}, Criteria: map[string]string{"s": "term: two years"},
			Approvals: []Approval{{By: "grace", At: "2026-09-01T00:00:00Z", Found: &Result{Notice: Notice}}}},
			{Contract: "b", Version: 1, Document: "contract: b\n"}},
	}
}

func TestPack(t *testing.T) {
	files := packed(t, packInput())
	if got, want := string(files["by-class.csv"].Content), `month,class,currency,lines,charged_to_partners,paid_to_partners,lines_without_cost_basis,cost_bases
2026-10,none,USD,1,0.00,36.00,1,
2026-10,certified_api,USD,3,1.75,0.00,1,HC-4
2026-10,marketplace,USD,1,20.00,0.00,1,
`; got != want {
		t.Errorf("by class\n%s, want\n%s", got, want)
	}
	fees := string(files["fees.csv"].Content)
	for _, want := range []string{
		"2026-10,st-1,1,northwind,platform,c,2,u,usage_fee,certified_api,\"Calls, each\",,,,-1.00,USD,HC-4,,\n",
		"2026-10,st-1,3,northwind,platform,c,2,s,usage_fee,marketplace,\"Calls, each\",,,,-20.00,USD,,term: two years,\n",
		"2026-10,st-1,4,northwind,,,0,,,,D-17,,,,36.00,USD,,,\n",
		"-0.50,USD,HC-4,,2026-09\n",
	} {
		if !strings.Contains(fees, want) {
			t.Errorf("fees\n%s\nlack %s", fees, want)
		}
	}
	var index struct {
		Notice string
		Files  []File
	}
	if err := json.Unmarshal(files[IndexName].Content, &index); err != nil {
		t.Fatal(err)
	}
	if index.Notice != Notice || len(index.Files) != len(files)-1 {
		t.Errorf("index of %d files: %q", len(index.Files), index.Notice)
	}
	for _, f := range index.Files {
		sum := sha256.Sum256(files[f.Name].Content)
		if hex.EncodeToString(sum[:]) != f.SHA256 || f.Bytes != len(files[f.Name].Content) {
			t.Errorf("%s has another digest or length than its row", f.Name)
		}
	}
	if string(files["contracts/c.v2.yaml"].Content) != "contract: c\n" || !strings.Contains(string(files["methods.json"].Content), `"by": "grace"`) {
		t.Error("a document or an approval is missing")
	}
}

// Whatever order things are given in, the bytes are the same.
func TestPackAgain(t *testing.T) {
	want := packed(t, packInput())
	for range 20 {
		in := packInput()
		rand.Shuffle(len(in.Lines), func(i, j int) { in.Lines[i], in.Lines[j] = in.Lines[j], in.Lines[i] })
		slices.Reverse(in.Methods)
		for name, f := range packed(t, in) {
			if !bytes.Equal(f.Content, want[name].Content) {
				t.Fatalf("%s has other bytes", name)
			}
		}
	}
}

// A line without its method is no record of how it was computed.
func TestPackNeedsMethods(t *testing.T) {
	in := packInput()
	in.Methods = in.Methods[1:]
	if _, err := Pack(in); err == nil || !strings.Contains(err.Error(), "line 1 of st-1: the method of c version 2 is not given") {
		t.Error(err)
	}
}
