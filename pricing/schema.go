package pricing

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

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
	const date = `[0-9]{4}-[0-9]{2}-[0-9]{2}`
	return pattern("how long the total runs: month, quarter, year, contract year (from a date, or from effective.from), rolling N months, or lifetime since a date",
		`^(month|quarter|year|contract year( from `+date+`)?|rolling [0-9]{1,3} months?|lifetime since `+date+`)$`)
}

// stepDocs says what the fields of a step mean.
var stepDocs = map[string]func() schema{
	"rate":  func() schema { return percentSchema("of the money in this step") },
	"unit":  func() schema { return numberSchema("price of one in this step") },
	"flat":  func() schema { return numberSchema("once, when the total exceeds the lower bound") },
	"cap":   func() schema { return numberSchema("most that the units of this step cost in a window") },
	"size":  func() schema { return numberSchema("units in a block") },
	"price": func() schema { return numberSchema("of a block") },
}

func stepsSchema(form stepForm) schema {
	fields := schema{
		"to":    numberSchema("reaches up to and including"),
		"below": numberSchema("reaches up to, excluding"),
	}
	for _, name := range append(slices.Clone(form.need), form.may...) {
		fields[name] = stepDocs[name]()
	}
	return listOf("rising from zero without gaps; the last is open", object1("one step", fields.require(form.need...)))
}

// Schema is the JSON Schema (draft 2020-12) of a contract document, put together from
// the kinds of rules. It finds slips while a document is written; ParseTerms is
// stricter and has the last word.
func Schema() []byte {
	var rules []schema
	for _, k := range kinds() {
		fields := schema{
			"id":    idSchema("names the rule on lines and in scenarios"),
			"kind":  described(k.doc, schema{"const": k.name}),
			"class": enum("only events of this class", classNames()...),
			"apps":  listOf("only these apps", idSchema("an app of the contract")),
			"text":  described("what the statement calls it", schema{"type": "string", "maxLength": maxText}),
		}
		declare(fields)
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
		"apps":         listOf("the apps it is about; all of the partner's if left out", idSchema("an app of the partner")),
		"deal":         described("only sales of this deal, before any other contract", schema{"type": "string", "minLength": 1, "maxLength": maxDeal}),
		"customer":     idSchema("only this customer's events; its sales before any contract without customer and deal"),
		"currency":     pattern("ISO 4217", `^[A-Z]{3}$`),
		"zone":         text("IANA time zone in which months begin"),
		"effective":    object1("when these terms are in force", schema{"from": dateSchema("first day"), "until": dateSchema("first day after")}.require("from")),
		"collects":     enum("who takes the customers' money", "platform", PartnerCollects),
		"presentation": enum("whose sale it is: our income is the share, or the sale", "agent", Principal),
		"processor":    idSchema("who takes the customers' money for us"),
		"fx":           fxSchema(),
		"rounding": object1("how exact amounts become money", schema{
			"per":    enum("what is rounded", "line", "transaction"),
			"mode":   enum("what happens to the part below the last decimal", string(money.HalfUp), string(money.HalfEven), string(money.Up), string(money.Down)),
			"places": described("decimals kept; the currency's if left out", schema{"type": "integer", "minimum": 0, "maximum": 4}),
		}),
		"late_limit_months": described("older differences are not charged to the partner; 0: none; the marketplace's if left out; never bars what we owe", schema{"type": "integer", "minimum": 0, "maximum": 120}),
		"notice":            pattern("the partner is told of other terms so many days before they begin; its acceptance waives that, and is needed in any case", `^[0-9]{1,3} days?$`),
		"payout": object1("when what was earned may be paid", schema{
			"minimum": numberSchema("smallest payout"),
			"keep":    numberSchema("stays on the account; what is due above it is paid"),
			"due":     dueSchema(),
			"reserve": object1("kept back at close", schema{
				"rate":          percentSchema("the part of the base that is kept back"),
				"of":            enum("the base", "proceeds", "net_sales", "earned"),
				"release_after": pattern("counted from the month's end", `^[0-9]{1,5} days?$`),
			}.require("rate", "release_after")),
			"setoff": described("with collects: partner, what the partner owes us is taken from what we owe it; else true is refused", schema{"type": "boolean"}),
		}),
		"tiers": enum("totals begin anew with this version", "restart"),
		"rules": listOf("what the contract charges and pays", schema{"oneOf": rules}),
	}.require("contract", "partner", "currency", "zone", "effective", "rules"))
	doc["not"] = schema{"required": []string{"customer", "deal"}} // one of them at most
	doc["$schema"], doc["title"] = "https://json-schema.org/draft/2020-12/schema", "mete contract"
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("pricing: internal error: schema: %v", err))
	}
	return append(b, '\n')
}
