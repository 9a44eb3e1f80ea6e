package catalogue

import (
	"encoding/json"
	"fmt"
	"strings"

	"mete/pricing"
)

// schemaDialect is the dialect of every schema.
const schemaDialect = "https://json-schema.org/draft/2020-12/schema"

// Schema is the JSON Schema (2020-12) of documents of a kind, with descriptions, as an
// editor shows them. A plural, such as partners, is the schema of a list; "document"
// is the schema of any document, for files that mix kinds.
func Schema(k Kind) ([]byte, error) {
	if k == anyDocument {
		return schemaOfAny()
	}
	s, err := schemaOf(string(k))
	if err != nil {
		return nil, err
	}
	s["$schema"] = schemaDialect
	return json.MarshalIndent(s, "", "  ")
}

const anyDocument Kind = "document"

func schemaOf(name string) (map[string]any, error) {
	for _, k := range kinds {
		switch name {
		case string(KindContract):
			return contractSchema()
		case string(k.kind):
			s := k.object(name).schema()
			s["title"], s["description"] = "mete "+k.kind.words(), k.about
			return s, nil
		case k.plural:
			if k.plural == "" {
				continue
			}
			entry := k.object(k.key()).schema()
			entry["description"] = k.about
			return map[string]any{
				"title": "mete " + strings.ReplaceAll(name, "_", " "), "description": "A list; each entry is " + lower(k.about),
				"type": "object", "additionalProperties": false, "required": []string{name},
				"properties": map[string]any{name: map[string]any{"type": "array", "maxItems": maxItems, "items": entry}},
			}, nil
		}
	}
	return nil, fmt.Errorf("schema %q: no such kind; %s", name, didYouMeanKind(name))
}

// contractSchema is pricing's, with the field that the catalogue adds.
func contractSchema() (map[string]any, error) {
	var s map[string]any
	if err := json.Unmarshal(pricing.Schema(), &s); err != nil {
		return nil, fmt.Errorf("schema of contracts: %w", err)
	}
	properties, ok := s["properties"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("schema of contracts: it has no properties")
	}
	properties["corrects"] = map[string]any{"type": "integer", "minimum": 1, "maximum": maxVersion,
		"description": "Number of the version in force that was wrong; needs two approvers. On a line of its own"}
	return s, nil
}

// schemaOfAny tells kinds apart by the same keys, in the same order, as the decoder.
func schemaOfAny() ([]byte, error) {
	var names []string
	for _, k := range kinds {
		names = append(names, string(k.kind))
	}
	for _, k := range kinds {
		if k.plural != "" {
			names = append(names, k.plural)
		}
	}
	definitions := map[string]any{}
	var choice any = false
	for i := len(names) - 1; i >= 0; i-- {
		s, err := schemaOf(names[i])
		if err != nil {
			return nil, err
		}
		delete(s, "$schema")
		if id, ok := s["$id"].(string); !ok || id == "" { // references inside must stay inside
			s["$id"] = "mete:" + names[i]
		}
		definitions[names[i]] = s
		choice = map[string]any{"if": map[string]any{"required": []string{names[i]}}, "then": map[string]any{"$ref": "#/$defs/" + names[i]}, "else": choice}
	}
	all := map[string]any{"$schema": schemaDialect, "title": "mete catalogue document", "type": "object", "$defs": definitions}
	for k, v := range choice.(map[string]any) {
		all[k] = v
	}
	return json.MarshalIndent(all, "", "  ")
}
