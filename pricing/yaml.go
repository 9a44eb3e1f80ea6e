package pricing

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MaxDocument bounds the size of a contract document in bytes.
const MaxDocument = 256 << 10

// maxDepth bounds how deep a document may nest.
const maxDepth = 12

// decoder reads one document and gathers what is wrong with it.
type decoder struct {
	file     string
	problems Problems
	more     int // problems beyond MaxProblems
}

func (d *decoder) report(at ast.Node, field, problem, remedy string) {
	line, col := position(at)
	d.reportAt(line, col, field, problem, remedy)
}

func (d *decoder) reportAt(line, col int, field, problem, remedy string) {
	if len(d.problems) == MaxProblems {
		d.more++
		return
	}
	d.problems = append(d.problems, Problem{d.file, line, col, field, problem, remedy})
}

// err is nil when nothing was reported.
func (d *decoder) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b Problem) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column)
	})
	if d.more > 0 {
		last := d.problems[len(d.problems)-1]
		d.problems = append(d.problems, Problem{d.file, last.Line, last.Column, "",
			fmt.Sprintf("%d more problems are not shown", d.more), "mend these first"})
	}
	return d.problems
}

// position is where a node begins; for a mapping, where its first key does.
func position(n ast.Node) (line, col int) {
	switch v := n.(type) {
	case nil:
		return 1, 1
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return position(v.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return position(v.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line, t.Position.Column
	}
	return 1, 1
}

// root parses the text and hands out the document's mapping; nil if there is none.
func (d *decoder) root(text []byte) *object {
	if len(text) > MaxDocument {
		d.reportAt(1, 1, "", fmt.Sprintf("the document has %d bytes", len(text)), fmt.Sprintf("at most %d are read", MaxDocument))
		return nil
	}
	f, err := parseYAML(text)
	if err != nil {
		line, col, msg := 1, 1, err.Error()
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			msg = syntax.Message
			if t := syntax.GetToken(); t != nil && t.Position != nil {
				line, col = t.Position.Line, t.Position.Column
			}
		}
		d.reportAt(line, col, "", "this is no YAML: "+msg, "")
		return nil
	}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		d.reportAt(1, 1, "", "want one YAML document with the fields of a contract", "begin with `contract: NAME`")
		return nil
	}
	return d.object(value{d, "", f.Docs[0].Body, 0})
}

// parseYAML turns a panic of the parser on malformed text into an error.
func parseYAML(text []byte) (f *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			f, err = nil, fmt.Errorf("the text cannot be read: %v", r)
		}
	}()
	return parser.ParseBytes(text, 0)
}

// value is one node of the document and the path that leads to it.
type value struct {
	d     *decoder
	path  string
	node  ast.Node
	depth int
}

func (v value) bad(problem, remedy string) { v.d.report(v.node, v.path, problem, remedy) }

// object is a mapping whose fields are asked for by name; the ones nobody asked for
// are refused by done.
type object struct {
	value
	keys   []ast.Node
	fields map[string]value
	known  []string
}

// object reads a mapping; nil after reporting that it is none.
func (d *decoder) object(v value) *object {
	o := &object{value: v, fields: map[string]value{}}
	if v.depth > maxDepth {
		v.bad(fmt.Sprintf("nested more than %d deep", maxDepth), "write it flatter")
		return nil
	}
	var values []*ast.MappingValueNode
	switch n := v.node.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		v.bad("want fields, such as `name: value`, not "+describe(v.node), "")
		return nil
	}
	for _, mv := range values {
		key, ok := scalarText(mv.Key)
		if !ok {
			d.report(mv.Key, v.path, "a field name must be plain text", "anchors, merges and complex keys are not read: write it out")
			continue
		}
		if _, twice := o.fields[key]; twice {
			d.report(mv.Key, join(v.path, key), "given twice", "keep one")
			continue
		}
		o.keys = append(o.keys, mv.Key)
		o.fields[key] = value{d, join(v.path, key), mv.Value, v.depth + 1}
	}
	return o
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// get hands out a field if it is there and not null.
func (o *object) get(name string) (value, bool) {
	if !slices.Contains(o.known, name) {
		o.known = append(o.known, name)
	}
	v, ok := o.fields[name]
	if !ok {
		return value{}, false
	}
	if _, null := v.node.(*ast.NullNode); null {
		v.bad("has no value", "give one or leave the field out")
		return value{}, false
	}
	return v, true
}

// need is get for a field that must be there.
func (o *object) need(name, remedy string) (value, bool) {
	v, ok := o.get(name)
	if _, there := o.fields[name]; !ok && !there {
		o.bad(fmt.Sprintf("%s is missing", name), remedy)
	}
	return v, ok
}

// done refuses the fields that nobody asked for.
func (o *object) done() {
	for _, k := range o.keys {
		name, _ := scalarText(k)
		if slices.Contains(o.known, name) {
			continue
		}
		remedy := "fields here: " + strings.Join(o.known, ", ")
		if near := nearest(name, o.known); near != "" {
			remedy = fmt.Sprintf("did you mean %s?", near)
		}
		o.d.report(k, join(o.path, name), "no such field", remedy)
	}
}

// list hands out the elements of a sequence.
func (v value) list() []value {
	s, ok := v.node.(*ast.SequenceNode)
	if !ok {
		v.bad("want a list, such as [a, b], not "+describe(v.node), "")
		return nil
	}
	if len(s.Values) > maxList {
		v.bad(fmt.Sprintf("a list of %d", len(s.Values)), fmt.Sprintf("at most %d are read", maxList))
		return nil
	}
	out := make([]value, len(s.Values))
	for i, n := range s.Values {
		out[i] = value{v.d, fmt.Sprintf("%s[%d]", v.path, i), n, v.depth + 1}
	}
	return out
}

// maxList bounds the elements of one list.
const maxList = 500

// text is the scalar exactly as written, without quotes.
func (v value) text() (string, bool) {
	s, ok := scalarText(v.node)
	if !ok {
		v.bad("want one value, not "+describe(v.node), "")
	}
	return s, ok
}

func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value), true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case *ast.MappingKeyNode:
		return "", false
	}
	return "", false
}

func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "fields"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return "an anchor, alias or tag"
	}
	return "a single value"
}

// quoted is the column offset of a scalar's first character in its source.
func (v value) quoted() int {
	t := v.node.GetToken()
	if t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType {
		return 1
	}
	return 0
}

// oneOf is text restricted to some words.
func (v value) oneOf(words ...string) (string, bool) {
	s, ok := v.text()
	if !ok {
		return "", false
	}
	if !slices.Contains(words, s) {
		remedy := "one of: " + strings.Join(words, ", ")
		if near := nearest(s, words); near != "" && len(words) > 1 {
			remedy += fmt.Sprintf("; did you mean %s?", near)
		}
		v.bad(fmt.Sprintf("%q is not known here", clip(s)), remedy)
		return "", false
	}
	return s, true
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}

// nearest is the known word within two edits of s, or a third of its length.
func nearest(s string, known []string) string {
	best, at := "", max(2, len(s)/3)+1
	for _, k := range known {
		if d := distance(s, k); d < at {
			best, at = k, d
		}
	}
	return best
}

// distance is the number of letters to add, drop, change or swap to get from a to b.
func distance(a, b string) int {
	if len(a) > 60 || len(b) > 60 {
		return 60
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
