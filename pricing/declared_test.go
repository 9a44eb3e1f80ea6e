package pricing_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"mete/pricing"
)

const declaring = `{id: u, kind: usage_fee, meter: m, class: certified_api, price: {model: per_unit, unit: 1},
  cost_basis: Hosting ledger 2026 item 4, criterion: {basis: cost, text: hosting cost of the practice}, certified_access: independent,
  information_source: lakeside, ehi_individual_access: false}`

// What a rule declares is read, stands in the JSON, and is where it stands.
func TestDeclared(t *testing.T) {
	text := []byte(doc("{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 15%}}", declaring))
	terms, err := pricing.ParseTerms("c.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	d := terms.Rules[1].Declared
	if d.CostBasis != "Hosting ledger 2026 item 4" || d.Criterion == nil || d.Criterion.Basis != pricing.BasisCost || d.Criterion.Text != "hosting cost of the practice" ||
		d.CertifiedAccess != pricing.AccessIndependent || d.InformationSource != "lakeside" || d.IndividualAccess == nil || *d.IndividualAccess {
		t.Errorf("declared %+v", d)
	}
	for _, r := range terms.Rules {
		line := strings.Split(string(text), "\n")[r.Line-1]
		if !strings.Contains(line, "id: "+r.ID) {
			t.Errorf("rule %s is said to begin at line %d: %q", r.ID, r.Line, line)
		}
	}
	if err := contractSchema(t).Validate(plain(t, text)); err != nil {
		t.Error(err)
	}
}

// Rules that declare nothing say in JSON what they always said, so that digests of
// months and documents from before stay what they are.
func TestNothingDeclaredIsNothingSaid(t *testing.T) {
	terms, err := pricing.ParseTerms("c.yaml", []byte(doc("{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 15%}}")))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(terms.Rules[0])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"s","kind":"share","class":"marketplace","body":{"of":"sale.paid","rate":"0.15","steps":[{"rate":"0.15"}],"refunds":"at_original_rate"}}`
	if !bytes.Equal(got, []byte(want)) {
		t.Errorf("a rule is\n%s, want\n%s", got, want)
	}
}

func TestDeclaredIsStrict(t *testing.T) {
	for _, c := range [][3]string{
		{"basis: cost", "basis: friendship", "not known here"},
		{"text: hosting cost of the practice", "texts: x", "text is missing"},
		{"certified_access: independent", "certified_access: maybe", "not known here"},
		{"information_source: lakeside", "information_source: Lakeside Pediatrics", "information_source"},
		{"ehi_individual_access: false", "ehi_individual_access: no", "ehi_individual_access"},
		{"cost_basis: Hosting ledger 2026 item 4", "cost_basis: " + strings.Repeat("x", 301), "at most 300"},
		{"cost_basis: Hosting ledger 2026 item 4", `cost_basis: ""`, "is empty"},
	} {
		text := doc(strings.Replace(declaring, c[0], c[1], 1))
		_, err := pricing.ParseTerms("c.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%s: %v, want %q", c[1], err, c[2])
		}
		if contractSchema(t).Validate(plain(t, []byte(text))) == nil {
			t.Errorf("the schema lets %.60s through", c[1])
		}
	}
}
