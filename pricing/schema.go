package pricing

import (
	"encoding/json"
	"fmt"
	"maps"

	"mete/money"
)

// schema is a fragment of a JSON Schema; as the fields of an object its special entry
// requireKey lists the ones that must be there.
type schema map[string]any

const requireKey = "\x00required"

func (s schema) require(names ...string) schema {
	s[requireKey] = names
	return s
}

func described(doc string, s schema) schema {
	if doc != "" {
		s["description"] = doc
	}
	return s
}

func text(doc string) schema { return described(doc, schema{"type": "string", "minLength": 1}) }

func boolean(doc string) schema { return described(doc, schema{"type": "boolean"}) }

func enum(doc string, words ...string) schema { return described(doc, schema{"enum": words}) }

func pattern(doc, expr string) schema {
	return described(doc, schema{"type": "string", "pattern": expr})
}

func numberSchema(doc string) schema {
	return described(doc, schema{"anyOf": []schema{{"type": "number", "minimum": 0}, {"type": "string", "pattern": `^\+?[0-9][0-9_]*(\.[0-9]+)?$`}}})
}

func percentSchema(doc string) schema {
	return pattern(doc, `^[0-9][0-9_]*(\.[0-9]+)? *%$`)
}

func durationSchema(doc string) schema {
	return pattern(doc, `^[0-9]{1,5} (day|month|year)s?$`)
}

func dateSchema(doc string) schema { return pattern(doc, `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`) }

func idSchema(doc string) schema { return pattern(doc, `^[a-z0-9][a-z0-9._~-]{0,62}$`) }

func listOf(doc string, items schema) schema {
	return described(doc, schema{"type": "array", "minItems": 1, "maxItems": maxList, "items": items})
}

// object1 is a closed object.
func object1(doc string, fields schema) schema {
	props := maps.Clone(fields)
	s := schema{"type": "object", "properties": props, "additionalProperties": false}
	if req, ok := props[requireKey]; ok {
		s["required"] = req
		delete(props, requireKey)
	}
	return described(doc, s)
}

func windowSchema() schema {
	return pattern("how long the total runs: month, year, or lifetime since a date", `^(month|year|lifetime since [0-9]{4}-[0-9]{2}-[0-9]{2})$`)
}

func tiersSchema(on, per []string) schema {
	return object1("which total decides the step", schema{
		"mode":   enum("each step's rate on the part that falls in it", "graduated"),
		"on":     enum("the total", on...),
		"window": windowSchema(),
		"per":    enum("whose total", per...),
	}.require("window"))
}

func stepsSchema(price string) schema {
	fields := schema{
		"to":    numberSchema("reaches up to and including"),
		"below": numberSchema("reaches up to, excluding"),
	}
	if price == "rate" {
		fields["rate"] = percentSchema("of the money in this step")
	} else {
		fields["unit"] = numberSchema("price of one in this step")
		fields["flat"] = numberSchema("once, when the total exceeds the lower bound")
	}
	return listOf("rising from zero without gaps; the last is open", object1("", fields.require(price)))
}

// Schema is the JSON Schema (draft 2020-12) of a contract document, put together from
// the kinds of rules. It finds slips while a document is written; ParseTerms is
// stricter and has the last word.
func Schema() []byte {
	var rules []schema
	for _, k := range kinds() {
		fields := schema{
			"id":    idSchema("names the rule on lines and in scenarios"),
			"kind":  schema{"const": k.name},
			"class": enum("only events of this class", classNames()...),
			"apps":  listOf("only these apps", idSchema("")),
			"text":  described("what the statement calls it", schema{"type": "string", "maxLength": maxText}),
		}
		required := []string{"id", "kind"}
		own := k.schema()
		if req, ok := own[requireKey].([]string); ok {
			required = append(required, req...)
		}
		delete(own, requireKey)
		maps.Copy(fields, own)
		rules = append(rules, object1(k.doc, fields.require(required...)))
	}
	doc := object1("One agreement with one partner. Numbers may be grouped by underscores.", schema{
		"contract":     idSchema("names the agreement; its versions are counted"),
		"partner":      idSchema("who the contract is with"),
		"apps":         listOf("the apps it is about; all of the partner's if left out", idSchema("")),
		"currency":     pattern("ISO 4217", `^[A-Z]{3}$`),
		"zone":         text("IANA time zone in which months begin"),
		"effective":    object1("when these terms are in force", schema{"from": dateSchema("first day"), "until": dateSchema("first day after")}.require("from")),
		"collects":     enum("who takes the customers' money", "platform"),
		"presentation": enum("our income is the share, not the sale", "agent"),
		"processor":    idSchema("who takes the customers' money for us"),
		"rounding": object1("how exact amounts become money", schema{
			"per":    enum("what is rounded", "line", "transaction"),
			"mode":   enum("what happens to the part below the last decimal", string(money.HalfUp), string(money.HalfEven), string(money.Up), string(money.Down)),
			"places": described("decimals kept; the currency's if left out", schema{"type": "integer", "minimum": 0, "maximum": 4}),
		}),
		"late_limit_months": described("0: none; never bars what we owe the partner", schema{"type": "integer", "minimum": 0, "maximum": 120}),
		"payout": object1("when what was earned may be paid", schema{
			"minimum": numberSchema("smallest payout"),
			"reserve": object1("kept back at close", schema{
				"rate":          percentSchema(""),
				"of":            enum("the base", "proceeds", "net_sales", "earned"),
				"release_after": pattern("counted from the month's end", `^[0-9]{1,5} days?$`),
			}.require("rate", "release_after")),
			"setoff": boolean("a balance against us may be set off"),
		}),
		"tiers": enum("totals begin anew with this version", "restart"),
		"rules": listOf("what the contract charges and pays", schema{"oneOf": rules}),
	}.require("contract", "partner", "currency", "zone", "effective", "rules"))
	doc["$schema"], doc["title"] = "https://json-schema.org/draft/2020-12/schema", "mete contract"
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("pricing: internal error: schema: %v", err))
	}
	return append(b, '\n')
}
