package catalogue

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/shopspring/decimal"

	"mete/compliance"
	"mete/metering/phi"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// A shape says what a document of one kind may hold. The decoder and the JSON Schema
// are both made from it, so that they cannot disagree. A value reads a node of the
// document into plain JSON values (decimals and dates as text), reporting what is
// wrong, and describes itself as a schema.
type value interface {
	read(r *reader, n ast.Node, path string) any
	schema() map[string]any
}

// field is one named part of an object.
type field struct {
	name, about string
	required    bool
	is          value
}

// reader reads one document and gathers what is wrong with it and what it refers to.
type reader struct {
	file     string
	problems *Problems
	refs     []reference
}

// reference is a place of a document that names another object.
type reference struct {
	kind         Kind
	id           string
	field        string
	line, column int
}

func (r *reader) problem(n ast.Node, path, problem, remedy string) {
	line, column := place(n)
	r.problems.add(Problem{r.file, line, column, path, problem, remedy})
}

// place is the line and column where n begins.
func place(n ast.Node) (line, column int) {
	if ps, ok := pairs(n); ok && len(ps) > 0 {
		n = ps[0].Key
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line, t.Position.Column
	}
	return 0, 0
}

// pairs are the keys and values of a mapping.
func pairs(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// keyOf is the text of a mapping's key.
func keyOf(p *ast.MappingValueNode) string {
	t, _ := textOf(p.Key)
	return t
}

// textOf is a scalar's text as written and whether YAML takes it for text rather than
// a number or a truth value. Nodes that are no scalar have no text.
func textOf(n ast.Node) (text string, isText bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, false
	}
	return "", false
}

// what names a node's form for people.
func what(n ast.Node) string {
	switch n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "named fields"
	case *ast.BoolNode:
		return "a truth value"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	}
	return "text"
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// object is a mapping with known fields.
type object []field

func (o object) read(r *reader, n ast.Node, path string) any {
	ps, ok := pairs(n)
	if !ok {
		r.problem(n, path, "want named fields, found "+what(n), "write "+strings.Join(o.names(), ":, ")+":")
		return nil
	}
	out := map[string]any{}
	for _, p := range ps {
		name := keyOf(p)
		i := slices.IndexFunc(o, func(f field) bool { return f.name == name })
		if i < 0 {
			r.problem(p.Key, join(path, name), "no such field", didYouMean(name, o.names()))
			continue
		}
		if _, null := p.Value.(*ast.NullNode); null {
			r.problem(p.Key, join(path, name), "has no value", "write a value or leave the field out")
			continue
		}
		if v := o[i].is.read(r, p.Value, join(path, name)); v != nil {
			out[name] = v
		}
	}
	for _, f := range o {
		if f.required && !slices.ContainsFunc(ps, func(p *ast.MappingValueNode) bool { return keyOf(p) == f.name }) {
			r.problem(n, join(path, f.name), "is missing", "write "+f.name+": "+lower(f.about))
		}
	}
	return out
}

// lower begins s with a small letter unless its first word is an abbreviation.
func lower(s string) string {
	if len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

func (o object) names() []string {
	names := make([]string, len(o))
	for i, f := range o {
		names[i] = f.name
	}
	return names
}

func (o object) schema() map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, f := range o {
		s := maps.Clone(f.is.schema())
		s["description"] = f.about
		properties[f.name] = s
		if f.required {
			required = append(required, f.name)
		}
	}
	s := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// list is a sequence of values of one shape.
type list struct {
	of    value
	least int
}

// maxItems bounds one list or table of a document.
const maxItems = 50_000

func (l list) read(r *reader, n ast.Node, path string) any {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		r.problem(n, path, "want a list, found "+what(n), "write [one, two] or one line with a dash for each")
		return nil
	}
	if len(seq.Values) < l.least || len(seq.Values) > maxItems {
		r.problem(n, path, fmt.Sprintf("want %d to %d entries, found %d", l.least, maxItems, len(seq.Values)), "")
		return nil
	}
	out := make([]any, 0, len(seq.Values))
	for i, v := range seq.Values {
		if got := l.of.read(r, v, fmt.Sprintf("%s[%d]", path, i)); got != nil {
			out = append(out, got)
		}
	}
	return out
}

func (l list) schema() map[string]any {
	return map[string]any{"type": "array", "items": l.of.schema(), "minItems": l.least, "maxItems": maxItems}
}

// table is a mapping whose keys are data.
type table struct {
	key scalar
	of  value
	doc string // what stands under a key
}

func (t table) read(r *reader, n ast.Node, path string) any {
	ps, ok := pairs(n)
	if !ok {
		r.problem(n, path, "want named entries, found "+what(n), "write "+t.key.example+": …")
		return nil
	}
	if len(ps) > maxItems {
		r.problem(n, path, fmt.Sprintf("want at most %d entries, found %d", maxItems, len(ps)), "")
		return nil
	}
	out := map[string]any{}
	for _, p := range ps {
		key := t.key.read(r, p.Key, join(path, keyOf(p)))
		v := t.of.read(r, p.Value, join(path, keyOf(p)))
		if key, ok := key.(string); ok && v != nil {
			out[key] = v
		}
	}
	return out
}

func (t table) schema() map[string]any {
	of := maps.Clone(t.of.schema())
	of["description"] = t.doc
	return map[string]any{"type": "object", "propertyNames": t.key.schema(), "additionalProperties": of, "maxProperties": maxItems}
}

// scalar is one word, number or date. Check turns its text into a JSON value.
type scalar struct {
	want    string // a date, a whole number from 1 to 5
	example string
	form    scalarForm
	check   func(text string) (any, error)
	is      map[string]any // schema
	refers  Kind           // the text names an object of this kind
}

// scalarForm says how YAML may take a scalar.
type scalarForm int

const (
	asText   scalarForm = iota // 0417 must be quoted, or YAML takes it for a number
	asNumber                   // "5" in quotes is text
	asEither                   // a decimal, with or without quotes
)

func (s scalar) read(r *reader, n ast.Node, path string) any {
	text, isText := textOf(n)
	form := what(n)
	switch {
	case form == "nothing" || form == "a list" || form == "named fields" || form == "a truth value":
		r.problem(n, path, "want "+s.want+", found "+form, "write "+s.example)
		return nil
	case s.form == asText && !isText:
		r.problem(n, path, "want "+s.want+", found a number", "put it in quotes: "+strconv.Quote(text))
		return nil
	case s.form == asNumber && isText:
		r.problem(n, path, fmt.Sprintf("%q is not %s", text, s.want), "write "+s.example)
		return nil
	}
	v, err := s.check(text)
	if err != nil {
		r.problem(n, path, err.Error(), "write "+s.want+", such as "+s.example)
		return nil
	}
	if s.refers != "" {
		line, column := place(n)
		r.refs = append(r.refs, reference{s.refers, text, path, line, column})
	}
	return v
}

func (s scalar) schema() map[string]any { return s.is }

// refer is s as the name of an object of the kind.
func (s scalar) refer(k Kind) scalar {
	s.refers = k
	return s
}

const (
	idPattern      = `^[a-z0-9][a-z0-9._~-]{0,62}$`
	partnerPattern = `^[a-z0-9][a-z0-9-]{0,62}$`
	codePattern    = `^[A-Za-z0-9][A-Za-z0-9-]{1,39}$`
	datePattern    = `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`
	callsPattern   = `^[0-9][0-9_]* calls$`
	daysPattern    = `^([0-9]{1,2}|[12][0-9]{2}|3[0-5][0-9]|36[0-6]) days?$`
	decimalPattern = `^[0-9][0-9_]*(\.[0-9]+)?$`
	mailPattern    = `^[^@\s<>"]+@[^@\s<>"]+\.[^@\s<>"]+$`
	maxText        = 500
)

func matching(want, example, pattern string, more func(string) error) scalar {
	form := regexp.MustCompile(pattern)
	return scalar{want: want, example: example, is: map[string]any{"type": "string", "pattern": pattern}, check: func(t string) (any, error) {
		if !form.MatchString(t) {
			return nil, fmt.Errorf("%q is not %s", t, want)
		}
		if more != nil {
			if err := more(t); err != nil {
				return nil, err
			}
		}
		return t, nil
	}}
}

var (
	anID = matching("an identifier of lower-case letters, digits, '-', '_', '.' or '~', at most 63 characters", "api_calls", idPattern, checkID)

	aPartner = matching("a partner's identifier of lower-case letters, digits and '-', at most 63 characters", "northwind", partnerPattern, func(t string) error {
		if partner.ID(t) == partner.Platform || t == own {
			return fmt.Errorf("%s is a word that contracts use, no partner may be called so", t)
		}
		return checkID(t)
	})

	aReferrer = matching("a partner's identifier, or platform", "northwind", partnerPattern, func(t string) error {
		if t == own {
			return fmt.Errorf("%s is a word that contracts use, no partner may be called so", t)
		}
		return checkID(t)
	})

	aCode = matching("a code of letters, digits and '-', 2 to 40 characters", "NWH-2026", codePattern, checkPHI)

	aDate = matching("a date, YYYY-MM-DD", "2026-10-31", datePattern, func(t string) error {
		_, err := period.ParseDate(t)
		return err
	})

	someDays = scalar{want: "a number of days, at most 366", example: "3 days", is: map[string]any{"type": "string", "pattern": daysPattern},
		check: func(t string) (any, error) {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSuffix(t, " days"), " day"))
			if err != nil || !regexp.MustCompile(daysPattern).MatchString(t) || n > 366 {
				return nil, fmt.Errorf("%q is not a number of days, at most 366", t)
			}
			return n, nil
		}}

	someCalls = scalar{want: "a number of calls, at most 1_000_000_000", example: "1_000 calls", is: map[string]any{"type": "string", "pattern": callsPattern},
		check: func(t string) (any, error) {
			n, err := strconv.ParseInt(strings.ReplaceAll(strings.TrimSuffix(t, " calls"), "_", ""), 10, 64)
			if err != nil || !callsForm.MatchString(t) || n > 1_000_000_000 {
				return nil, fmt.Errorf("%q is not a number of calls, at most 1_000_000_000", t)
			}
			return n, nil
		}}

	aPlacement = scalar{want: "a condition over the scorecard that asks neither for use of the API nor for payments", example: "availability >= 0.999 && incidents.open == 0",
		is: map[string]any{"type": "string", "minLength": 1, "maxLength": pricing.MaxCondition},
		check: func(t string) (any, error) {
			if err := compliance.CheckPlacement(t); err != nil {
				return nil, err
			}
			if _, err := pricing.ParseCondition(t); err != nil {
				return nil, err
			}
			return t, nil
		}}

	aMail = matching("an e-mail address of the marketplace's own staff", "partner-finance@meridian.example", mailPattern, nil)

	last4 = matching("the last four digits, in quotes", `"4417"`, `^[0-9]{4}$`, nil)

	aDecimal = scalar{want: "a positive decimal number", example: "1.0832", form: asEither,
		is: map[string]any{"type": []string{"string", "number"}, "pattern": decimalPattern, "exclusiveMinimum": 0},
		check: func(t string) (any, error) {
			d, err := money.ParseDecimal(t)
			if err != nil {
				return nil, err
			}
			if !d.IsPositive() {
				return nil, fmt.Errorf("%s is not above zero", t)
			}
			return d.String(), nil
		}}

	aPercentage = scalar{want: "a percentage above zero", example: "24%", is: map[string]any{"type": "string", "pattern": `^[0-9]{1,3}(\.[0-9]+)? *%$`},
		check: func(t string) (any, error) {
			number, found := strings.CutSuffix(t, "%")
			d, err := money.ParseDecimal(number)
			if err != nil || !found || !d.IsPositive() || d.GreaterThan(decimal.NewFromInt(100)) {
				return nil, fmt.Errorf("%q is not a percentage above 0%% and up to 100%%, such as 24%%", short(t))
			}
			return d.Shift(-2).String(), nil
		}}

	words = scalar{want: "text of one line, at most 500 characters", example: "Northwind Health", is: map[string]any{"type": "string", "minLength": 1, "maxLength": maxText},
		check: func(t string) (any, error) {
			if strings.TrimSpace(t) == "" || len([]rune(t)) > maxText || strings.ContainsAny(strings.TrimRight(t, "\n"), "\n\r\x00") {
				return nil, fmt.Errorf("%q is not text of one line, at most %d characters", short(t), maxText)
			}
			if err := checkPHI(t); err != nil {
				return nil, err
			}
			return strings.TrimSpace(t), nil
		}}

	aZone = scalar{want: "a time zone of the IANA database", example: "America/Chicago", is: map[string]any{"type": "string", "pattern": `^(UTC|[A-Z][A-Za-z_]+/[A-Za-z_/+-]+)$`},
		check: func(t string) (any, error) {
			if _, err := time.LoadLocation(t); err != nil || t == "" || t == "Local" {
				return nil, fmt.Errorf("no time zone is called %q", t)
			}
			return t, nil
		}}

	aCurrency = scalar{want: "an ISO 4217 code", example: "USD", is: map[string]any{"type": "string", "pattern": "^[A-Z]{3}$"},
		check: func(t string) (any, error) {
			c, err := money.ParseCurrency(t)
			return string(c), err
		}}
)

var callsForm = regexp.MustCompile(callsPattern)

// short is t cut to what fits a line of an error.
func short(t string) string {
	const most = 40
	if r := []rune(t); len(r) > most {
		return string(r[:most]) + "…"
	}
	return t
}

// truth is true or false.
type truth struct{}

func (truth) read(r *reader, n ast.Node, path string) any {
	if b, ok := n.(*ast.BoolNode); ok {
		return b.Value
	}
	r.problem(n, path, "want true or false, found "+what(n), "write true or false")
	return nil
}

func (truth) schema() map[string]any { return map[string]any{"type": "boolean"} }

// whole is a whole number from least to most.
func whole(least, most int) scalar {
	want := fmt.Sprintf("a whole number from %d to %d", least, most)
	return scalar{want: want, example: strconv.Itoa(least), form: asNumber,
		is: map[string]any{"type": "integer", "minimum": least, "maximum": most},
		check: func(t string) (any, error) {
			n, err := strconv.Atoi(t)
			if err != nil || n < least || n > most {
				return nil, fmt.Errorf("%s is not %s", t, want)
			}
			return n, nil
		}}
}

// oneOf is a word out of a few.
func oneOf(choices ...string) scalar {
	return scalar{want: "one of " + strings.Join(choices, ", "), example: choices[0], is: map[string]any{"type": "string", "enum": choices},
		check: func(t string) (any, error) {
			if !slices.Contains(choices, t) {
				return nil, fmt.Errorf("%q is none of %s", t, strings.Join(choices, ", "))
			}
			return t, nil
		}}
}

// checkID refuses what is no identifier or looks like a patient's.
func checkID(t string) error {
	if err := partner.CheckID(t); err != nil {
		return err
	}
	return checkPHI(t)
}

// checkPHI refuses text that looks like a patient's. The error does not repeat it.
func checkPHI(t string) error {
	name := phi.Find(t)
	if name == "" {
		return nil
	}
	for _, p := range phi.Patterns() {
		if p.Name == name {
			return fmt.Errorf("looks like %s; the catalogue holds nothing about patients or persons", p.Text)
		}
	}
	return fmt.Errorf("looks like %s; the catalogue holds nothing about patients or persons", name)
}

// canonical turns any node into JSON values: numbers in their shortest exact form,
// everything else as written. Anchors, aliases and tags are refused before.
func canonical(n ast.Node) any {
	if ps, ok := pairs(n); ok {
		out := map[string]any{}
		for _, p := range ps {
			out[keyOf(p)] = canonical(p.Value)
		}
		return out
	}
	switch n := n.(type) {
	case *ast.SequenceNode:
		out := make([]any, len(n.Values))
		for i, v := range n.Values {
			out[i] = canonical(v)
		}
		return out
	case *ast.BoolNode:
		return n.Value
	case *ast.IntegerNode, *ast.FloatNode:
		if d, err := money.ParseDecimal(n.GetToken().Value); err == nil {
			return json.Number(d.String())
		}
	}
	if t, ok := textOf(n); ok || t != "" {
		return t
	}
	return nil
}

// maxDepth bounds how deep a document may nest.
const maxDepth = 20

// plain reports every anchor, alias, merge key and tag in n: a document says what it
// says where it says it.
func (r *reader) plain(n ast.Node, depth int) bool {
	if depth > maxDepth {
		r.problem(n, "", fmt.Sprintf("nests deeper than %d levels", maxDepth), "")
		return false
	}
	if ps, ok := pairs(n); ok {
		good := true
		for _, p := range ps {
			if _, key := textOf(p.Key); !key && p.Key.Type() != ast.IntegerType && p.Key.Type() != ast.FloatType {
				r.problem(p.Key, "", "a field's name must be a plain word", "write the fields out: anchors, merge keys and tags are not read")
				good = false
				continue
			}
			good = r.plain(p.Value, depth+1) && good
		}
		return good
	}
	switch n := n.(type) {
	case *ast.SequenceNode:
		good := true
		for _, v := range n.Values {
			good = r.plain(v, depth+1) && good
		}
		return good
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		r.problem(n, "", "anchors, aliases and tags are not read", "write the value out")
		return false
	}
	return true
}
