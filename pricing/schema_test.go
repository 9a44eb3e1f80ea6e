package pricing_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"mete/pricing"
)

func contractSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(pricing.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("contract.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("contract.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// plain is the document as a JSON reader sees it.
func plain(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Every contract of the scenarios that ParseTerms reads is valid, and what ParseTerms
// refuses for its shape is not.
func TestSchemaOfContracts(t *testing.T) {
	s := contractSchema(t)
	files, _ := filepath.Glob("testdata/*/*.yaml")
	if len(files) < 20 {
		t.Fatalf("%d contracts", len(files))
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		_, parseErr := pricing.ParseTerms(f, text)
		schemaErr := s.Validate(plain(t, text))
		if (parseErr == nil) != (schemaErr == nil) {
			t.Errorf("%s: ParseTerms says %v, the schema says %v", f, parseErr, schemaErr)
		}
	}
	if err := s.Validate(plain(t, []byte(everything))); err != nil {
		t.Error(err)
	}
}

// What the schema refuses, ParseTerms refuses too.
func TestSchemaRefusesNothingThatIsRead(t *testing.T) {
	s := contractSchema(t)
	good := doc("{id: store, kind: share, of: sale.paid, platform: {rate: 15%}, text: Share}",
		"{id: u, kind: usage_fee, meter: m, price: {model: graduated, steps: [{to: 5, unit: 0}, {unit: 1}]}}",
		"{id: f, kind: fixed_fee, class: listing, due: yearly on 10-15, amount: 1}",
		"{id: r, kind: referral, from: platform, to: partner, flat: 5, window: 90 days}",
		"{id: q, kind: quality, adjusts: store, bands: [{when: calls > 1, platform_rate: +1 points}], not_scored_below: 10 calls}")
	refused := 0
	for _, change := range [][2]string{
		{"currency: USD", "currency: dollars"}, {"zone: UTC", ""}, {"from: 2015-01-01", "since: 2015-01-01"}, {"2015-01-01", "2015"},
		{"kind: share", "kind: shares"}, {"15%", "15"}, {"of: sale.paid", "of: sale.invoiced"}, {"text: Share", "title: Share"},
		{"to: 5", "upto: 5"}, {"unit: 1", "unit: -1"}, {"steps: [{to: 5, unit: 0}, {unit: 1}]", "steps: []"}, {"graduated", "stairs"},
		{"due: yearly on 10-15", "due: weekly"}, {"class: listing", "class: api"}, {"window: 90 days", "window: 90"}, {"flat: 5", "flat: five"},
		{"+1 points", "1%"}, {"10 calls", "10"}, {"adjusts: store", "adjust: store"}, {"partner: quill", "partner: Quill Inc"},
		{"rules:", "rule:"}, {"meter: m, price", "meter: m, prices"}, {"id: f", "name: f"},
	} {
		text := []byte(strings.Replace(good, change[0], change[1], 1))
		if string(text) == good {
			t.Fatalf("%s changes nothing", change[0])
		}
		if err := s.Validate(plain(t, text)); err == nil {
			t.Errorf("the schema lets %s through", change[1])
			continue
		}
		refused++
		if _, err := pricing.ParseTerms("t", text); err == nil {
			t.Errorf("ParseTerms reads %q, the schema does not", change[1])
		}
	}
	if err := s.Validate(plain(t, []byte(good))); err != nil {
		t.Errorf("the unchanged contract: %v", err)
	}
	t.Logf("%d documents refused by both", refused)
}
