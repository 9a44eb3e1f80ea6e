package catalogue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compiled(t *testing.T, k Kind) *jsonschema.Schema {
	t.Helper()
	text, err := Schema(k)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	name := "mete:test/" + string(k) + ".json"
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(name)
	if err != nil {
		t.Fatalf("schema of %s: %v", k, err)
	}
	return s
}

// generic reads YAML as an editor does: numbers as numbers.
func generic(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// Every document of the example is accepted by the schema of its kind, and by the
// schema of any document.
func TestSchemasAcceptTheExample(t *testing.T) {
	docs, err := ReadDir("../examples/marketplace")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range docs.Objects {
		for _, k := range []Kind{o.Kind, anyDocument} {
			if err := compiled(t, k).Validate(generic(t, o.Document)); err != nil {
				t.Errorf("schema %s refuses %s %s: %v", k, o.Kind, o.ID, err)
			}
		}
	}
	for _, text := range []string{"apps: [{id: a, partner: p, name: A}]", "partners: [{id: p, name: P, effective: 2026-10-01}]"} {
		k := Kind(text[:strings.Index(text, ":")])
		for _, k := range []Kind{k, anyDocument} {
			if err := compiled(t, k).Validate(generic(t, text)); err != nil {
				t.Errorf("schema %s refuses %s: %v", k, text, err)
			}
		}
	}
}

// What the decoder refuses for its shape, the schema refuses too.
func TestSchemasRefuseWhatTheDecoderRefuses(t *testing.T) {
	broken := map[Kind][]string{
		KindMarketplace:  {"marketplace: m\nname: M\n", "marketplace: m\nname: M\nzone: UTC\ncurrency: usd\ncontact: a@b.example\nclose: {lag: 3 days}\n", "marketplace: m\nname: M\nzone: UTC\ncurrency: USD\ncontact: a@b.example\nclose: {lag: 3 weeks}\n", "marketplace: m\nname: M\nzone: UTC\ncurrency: USD\ncontact: a@b.example\nclose: {lag: 3 days}\nrails: {cheque: {}}\n"},
		KindPartner:      {"partner: north.wind\nname: N\n", "partner: n\nname: N\ntier: gold\n", "partner: n\nname: N\npayee: {last4: 4417}\n", "partner: n\nname: N\npayee: {iban: x}\n", "partner: n\nname: [N]\n"},
		KindApp:          {"app: a\npartner: p\n", "app: a\npartner: p\nname: A\ncertification_tier: 6\n", "app: a\npartner: p\nname: A\ncertification_tier: \"3\"\n"},
		KindCustomer:     {"customer: C\nname: N\n", "customer: c\nname: N\nphone: x\n"},
		KindMeter:        {"meter: m\ntype: usage.api\naggregate: sum\n", "meter: m\ntype: sales\naggregate: count\n", "meter: m\ntype: usage.api\naggregate: count\noperations: []\n"},
		KindSource:       {"source: s\nkind: gateway\n", "source: s\nkind: pigeon\nowner: o\n"},
		KindReferralCode: {"referral_code: A\npartner: p\n", "referral_code: A_1\npartner: p\n"},
		KindFX:           {"fx: f\nsource: S\nrates: []\n", "fx: f\nsource: S\nrates: [{date: 2026-10-30, from: EUR, to: USD, rate: 0}]\n", "fx: f\nsource: S\nrates: [{date: 2026-10-30, from: EUR, to: USD, rate: 1e3x}]\n", "fx: f\neffective: 2026-10-01\nsource: S\nrates: [{date: 2026-10-30, from: EUR, to: USD, rate: 1.1}]\n"},
		KindHolidays:     {"holidays: h\ndays: {Thanksgiving: 2026-11-26}\n", "holidays: h\n"},
		KindContract:     {"contract: c\npartner: p\n", "corrects: one\ncontract: c\npartner: p\ncurrency: USD\nzone: UTC\neffective: {from: 2026-01-01}\nrules: [{id: s, kind: share, of: sale.paid, platform: {rate: 1%}}]\n"},
	}
	for _, k := range Kinds() {
		if len(broken[k]) == 0 {
			t.Errorf("no broken %s", k)
		}
		for _, text := range broken[k] {
			if Parse("t.yaml", []byte(text)).Check() == nil {
				t.Errorf("the decoder accepts\n%s", text)
			}
			for _, k := range []Kind{k, anyDocument} {
				if compiled(t, k).Validate(generic(t, text)) == nil {
					t.Errorf("schema %s accepts\n%s", k, text)
				}
			}
		}
	}
}

func TestSchemaDescribesEveryField(t *testing.T) {
	for _, k := range Kinds() {
		text, err := Schema(k)
		if err != nil {
			t.Fatal(err)
		}
		var s struct {
			Title, Description string
			Properties         map[string]struct{ Description string }
		}
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		if s.Title == "" || s.Description == "" {
			t.Errorf("%s has no title or description", k)
		}
		for name, p := range s.Properties {
			if p.Description == "" {
				t.Errorf("%s.%s has no description", k, name)
			}
		}
	}
	if _, err := Schema("partnr"); err == nil || err.Error() != `schema "partnr": no such kind; did you mean partner?` {
		t.Errorf("no such kind: %v", err)
	}
}

// Every property of every kind of document has a description, and so has what stands
// under a free name: that is what an editor shows and completes by.
func TestEveryPropertyIsDescribed(t *testing.T) {
	seen := 0
	var walk func(s map[string]any, path string)
	described := func(v any, path string) {
		s, ok := v.(map[string]any)
		if !ok {
			return // false: nothing else
		}
		seen++
		if d, _ := s["description"].(string); strings.TrimSpace(d) == "" {
			t.Errorf("%s has no description", path)
		}
		walk(s, path)
	}
	walk = func(s map[string]any, path string) {
		props, _ := s["properties"].(map[string]any)
		for name, v := range props {
			described(v, path+"."+name)
		}
		if v, ok := s["additionalProperties"]; ok {
			described(v, path+".*")
		}
		if items, ok := s["items"].(map[string]any); ok {
			walk(items, path+"[]")
		}
		for _, key := range []string{"oneOf", "anyOf"} {
			list, _ := s[key].([]any)
			for i, v := range list {
				walk(v.(map[string]any), fmt.Sprintf("%s|%d", path, i))
			}
		}
	}
	for _, k := range Kinds() {
		text, err := Schema(k)
		if err != nil {
			t.Fatal(err)
		}
		var s map[string]any
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		if s["description"] == nil || s["title"] == nil {
			t.Errorf("the schema of %s has no title or description", k)
		}
		walk(s, string(k))
	}
	if seen < 300 {
		t.Errorf("only %d properties were looked at", seen)
	}
}
