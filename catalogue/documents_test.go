package catalogue

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What people get wrong, and the words they read.
func TestProblems(t *testing.T) {
	tests := []struct{ name, yaml, want string }{
		{"unknown kind", "partnr: northwind\n",
			`t.yaml:1:1: partnr: no kind of document is named by it; did you mean partner?`},
		{"no document", "- one\n- two\n",
			`t.yaml:1:1: a document is named fields, found a list; begin with one of marketplace:, partner:, app:, customer:, source:, meter:, referral_code:, contract:, fx:, holidays:, followed by its ID`},
		{"not YAML", "partner: [northwind\n",
			`t.yaml:1:10: is not YAML: sequence end token ']' not found`},
		{"unknown field", "partner: northwind\nname: Northwind\nteir: grow\n",
			`t.yaml:3:1: teir: no such field; did you mean tier?`},
		{"missing field", "app: scheduler\nname: Scheduler\n",
			`t.yaml:1:1: partner: is missing; write partner: the partner whose app it is`},
		{"no value", "partner: northwind\nname:\n",
			`t.yaml:2:1: name: has no value; write a value or leave the field out`},
		{"given twice", "partner: northwind\nname: A\nname: B\n",
			`t.yaml:3:1: is not YAML: mapping key "name" already defined at [2:1]`},
		{"bad ID", "app: Northwind Scheduler\npartner: northwind\nname: Scheduler\n",
			`t.yaml:1:6: app: "Northwind Scheduler" is not an identifier of lower-case letters, digits, '-', '_', '.' or '~', at most 63 characters; write an identifier of lower-case letters, digits, '-', '_', '.' or '~', at most 63 characters, such as api_calls`},
		{"partner with a dot", "partner: north.wind\nname: N\n",
			`t.yaml:1:10: partner: "north.wind" is not a partner's identifier of lower-case letters, digits and '-', at most 63 characters; write a partner's identifier of lower-case letters, digits and '-', at most 63 characters, such as northwind`},
		{"reserved partner", "partner: platform\nname: P\n",
			`t.yaml:1:10: partner: platform is a word that contracts use, no partner may be called so; write a partner's identifier of lower-case letters, digits and '-', at most 63 characters, such as northwind`},
		{"looks like a patient", "customer: ssn-123-45-6789\nname: Practice\n",
			`t.yaml:1:11: customer: looks like a US social security number: 3-2-4 digits, or 9 behind the word ssn; the catalogue holds nothing about patients or persons; write an identifier of lower-case letters, digits, '-', '_', '.' or '~', at most 63 characters, such as api_calls`},
		{"number that must be quoted", "partner: northwind\nname: N\npayee: {last4: 0417}\n",
			`t.yaml:3:16: payee.last4: want the last four digits, in quotes, found a number; put it in quotes: "0417"`},
		{"bank account number", "partner: northwind\nname: N\npayee: {account: \"000123456789\"}\n",
			`t.yaml:3:18: payee.account: "000123456789" is not the rail's name of the account, never a bank account number; write the rail's name of the account, never a bank account number, such as acct_1NorthwindOps`},
		{"out of range", "app: a\npartner: p\nname: A\ncertification_tier: 9\n",
			`t.yaml:4:21: certification_tier: 9 is not a whole number from 1 to 5; write a whole number from 1 to 5, such as 1`},
		{"text for a number", "app: a\npartner: p\nname: A\ncertification_tier: high\n",
			`t.yaml:4:21: certification_tier: "high" is not a whole number from 1 to 5; write 1`},
		{"none of the words", "partner: p\nname: P\ntier: gold\n",
			`t.yaml:3:7: tier: "gold" is none of build, grow, strategic; write one of build, grow, strategic, such as build`},
		{"no such zone", "customer: c\nname: C\nzone: America/Chicgo\n",
			`t.yaml:3:7: zone: no time zone is called "America/Chicgo"; write a time zone of the IANA database, such as America/Chicago`},
		{"no such date", "partner: p\nname: P\neffective: 2026-02-30\n",
			`t.yaml:3:12: effective: date "2026-02-30": want YYYY-MM-DD, such as 2026-10-31; write a date, YYYY-MM-DD, such as 2026-10-31`},
		{"exponent", "fx: ecb\nsource: ECB\nrates: [{date: 2026-10-30, from: EUR, to: USD, rate: 1e3}]\n",
			`t.yaml:3:54: rates[0].rate: "1e3" is not a plain decimal number of at most 60 characters; write a positive decimal number, such as 1.0832`},
		{"rate twice", "fx: ecb\nsource: ECB\nrates:\n- {date: 2026-10-30, from: EUR, to: USD, rate: 1.1}\n- {date: 2026-10-30, from: EUR, to: USD, rate: 1.2}\n",
			`t.yaml:5:4: rates[1]: a second rate from EUR to USD on 2026-10-30; keep one`},
		{"anchors", "partner: &p northwind\nname: N\n",
			`t.yaml:1:10: anchors, aliases and tags are not read; write the value out`},
		{"list beside something", "partners: [{id: p, name: P}]\nname: x\n",
			`t.yaml:2:1: name: stands beside the list partners; part documents by a line of ---`},
		{"entry of a list", "partners:\n- northwind\n",
			`t.yaml:2:3: partners: want named fields, found text; write - id: …`},
		{"described twice", "partner: p\nname: P\n---\npartner: p\nname: Q\n",
			`t.yaml:4:1: partner: partner p is described in t.yaml:1 already; keep one of the two, or give the later one another effective date`},
		{"meter without status", "meter: sales\ntype: sale.paid\naggregate: count\nstatus_below: 400\n",
			`t.yaml:4:15: status_below: only usage.api events have an HTTP status; leave it out or count usage.api`},
		{"days", "marketplace: m\nname: M\nzone: UTC\ncurrency: USD\ncontact: a@b.example\nclose: {lag: 2 weeks}\n",
			`t.yaml:6:14: close.lag: "2 weeks" is not a number of days, at most 366; write a number of days, at most 366, such as 3 days`},
		{"corrects in one line", "{contract: c, corrects: 1, partner: p, currency: USD, zone: UTC, effective: {from: 2026-01-01}, rules: [{id: s, kind: share, of: sale.paid, platform: {rate: 1%}}]}\n",
			`t.yaml:1:15: corrects: does not stand on a line of its own; write corrects: N on its own line`},
		{"place of a contract's problem", "partner: p\nname: P\n---\ncontract: c\npartner: p\ncurrency: USD\nzone: UTC\neffective: {from: 2026-01-01}\nrules: [{id: s, kind: share, of: sale.gone, platform: {rate: 1%}}]\n",
			`t.yaml:9:34: rules[0].of: "sale.gone" is not known here; one of: sale.paid`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			docs := Parse("t.yaml", []byte(tt.yaml))
			err := docs.Check()
			if err == nil {
				t.Fatalf("no problem found, want %s", tt.want)
			}
			found := false
			for line := range strings.SplitSeq(err.Error(), "\n") {
				found = found || line == tt.want
			}
			if !found {
				t.Errorf("got\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}

func TestProblemsAreBoundedAndInOrder(t *testing.T) {
	var b strings.Builder
	for i := range 150 {
		fmt.Fprintf(&b, "---\npartner: p%d\n", i)
	}
	err := Parse("t.yaml", []byte(b.String())).Check()
	ps, ok := err.(*Problems)
	if !ok {
		t.Fatalf("got %T", err)
	}
	if len(ps.List) != maxProblems || ps.More != 50 || !strings.HasSuffix(ps.Error(), "\nand 50 more") {
		t.Errorf("%d problems and %d more", len(ps.List), ps.More)
	}
	for i := range ps.List[1:] {
		if ps.List[i].Line > ps.List[i+1].Line {
			t.Fatalf("problem %d stands on line %d, the next on %d", i, ps.List[i].Line, ps.List[i+1].Line)
		}
	}
}

func TestReadDir(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadDir(dir); err == nil || !strings.Contains(err.Error(), "no .yaml file in it; name the folder that holds the documents") {
		t.Errorf("empty folder: %v", err)
	}
	if _, err := ReadDir(filepath.Join(dir, "nowhere")); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("no folder: %v", err)
	}
	for name, text := range map[string]string{
		"b.yaml": "partner: b\nname: B\n", "sub/a.yml": "# only words\n", "a.yaml": "---\npartner: a\nname: A # words\n---\n",
		"_notes.yaml": "nonsense", ".git/x.yaml": "nonsense", "readme.md": "nonsense",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	docs, err := ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := docs.Check(); err != nil {
		t.Fatal(err)
	}
	if len(docs.Objects) != 2 || docs.Objects[0].ID != "a" || docs.Objects[1].ID != "b" || docs.Objects[0].Line != 2 {
		t.Errorf("objects %+v", docs.Objects)
	}
}

// An entry of a list is kept as a document of its own, however it was written.
func TestListEntryAlone(t *testing.T) {
	docs := Parse("t.yaml", []byte(`sources:
    - name: a
      kind: gateway     # words
      owner: o
      apps:
        - x
        - y
      description: "a: b"
    - {kind: gateway, name: b, owner: o}
    -   owner: o
        name: c
        kind: other
`))
	if err := docs.Check(); err != nil {
		t.Fatal(err)
	}
	for _, o := range docs.Objects {
		again := Parse("again.yaml", []byte(o.Document))
		if err := again.Check(); err != nil || len(again.Objects) != 1 || again.Objects[0].digest() != o.digest() {
			t.Errorf("%s: %v\n%s", o.ID, err, o.Document)
		}
	}
}

// What is not a term does not change the digest; what is, does.
func TestDigest(t *testing.T) {
	const base = "contract: c\npartner: p\ncurrency: USD\nzone: UTC\neffective: {from: 2026-01-01}\nrules:\n- {id: s, kind: share, of: sale.paid, platform: {tiers: {window: month}, steps: [{to: 1_000, rate: 5%}, {rate: 10%}]}}\n"
	of := func(text string) string {
		docs := Parse("t.yaml", []byte(text))
		if err := docs.Check(); err != nil {
			t.Fatal(err)
		}
		return docs.Objects[0].digest()
	}
	want := of(base)
	for name, text := range map[string]string{
		"comment": "# words\n" + base, "number": strings.Replace(base, "1_000", "1000.00", 1),
		"order": strings.Replace(base, "partner: p\ncurrency: USD\n", "currency: USD\npartner: p\n", 1),
		"lines": strings.Replace(base, "effective: {from: 2026-01-01}", "effective:\n  from: 2026-01-01", 1),
	} {
		if of(text) != want {
			t.Errorf("%s: another digest", name)
		}
	}
	for name, text := range map[string]string{
		"rate": strings.Replace(base, "10%", "11%", 1), "date": strings.Replace(base, "01-01", "01-02", 1),
		"corrects": base + "corrects: 1\n", "name": strings.Replace(base, "contract: c", "contract: d", 1),
	} {
		if of(text) == want {
			t.Errorf("%s: the same digest", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("partner: p\nname: P\n---\napps: [{id: a}]\n")
	f.Add("contract: c\ncorrects: 1\nrules: [{}]\n")
	f.Add("fx: e\nrates:\n- {date: 2026-01-01, rate: 1.5}\n")
	f.Add("a: &x [*x]\n? b\n: c\n")
	f.Fuzz(func(t *testing.T, text string) {
		docs := Parse("t.yaml", []byte(text))
		if docs.Check() != nil {
			return
		}
		for _, o := range docs.Objects {
			again := Parse("t.yaml", []byte(o.Document))
			if err := again.Check(); err != nil || len(again.Objects) != 1 || again.Objects[0].digest() != o.digest() {
				t.Errorf("%s %s says something else when its document is read again: %v\n%s", o.Kind, o.ID, err, o.Document)
			}
		}
	})
}
