package catalogue

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"mete/period"
	"mete/pricing"
)

// Documents are what was read from YAML files, with everything that is wrong with
// them. Nothing wrong ever becomes a version: [Documents.Check] and [Catalogue.Plan]
// report it.
type Documents struct {
	Objects  []Object
	problems Problems
}

// Object is one object as a document describes it.
type Object struct {
	Kind      Kind
	ID        string
	Effective period.Date     // first day on which it is so; zero: not said
	Until     period.Date     // contracts: first day on which it no longer is; zero: open
	Corrects  int             // contracts: the version that was wrong, 0: none
	Content   json.RawMessage // canonical: keys sorted, numbers exact, no comments
	Document  string          // the YAML as written
	File      string
	Line      int
	Terms     *pricing.Terms // contracts only

	start int    // contracts: the line of the file at which the document begins
	bare  string // contracts: the document without what is the catalogue's, line for line
	node  ast.Node
	refs  []reference
	idle  []Problem // clauses that nothing acts on: refused in a new version
}

// Place is where a field stands in the file: rules[0].platform, or the innermost of its
// parts that is written.
func (o Object) Place(field string) (line, column int) {
	n := o.node
	if n == nil {
		return o.Line, 1
	}
	line, column = place(n)
	for _, part := range strings.FieldsFunc(field, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		if i, err := strconv.Atoi(part); err == nil {
			list, _ := n.(*ast.SequenceNode)
			if list == nil || i >= len(list.Values) {
				return line, column
			}
			n = list.Values[i]
		} else if n = member(n, part); n == nil {
			return line, column
		}
		line, column = place(n)
	}
	return line, column
}

// digest is the SHA-256 of what the object is and says. When it comes into force is
// not part of it, except for contracts, whose terms include their term.
func (o Object) digest() string { return digest(o.Kind, o.ID, o.Content) }

func digest(k Kind, id string, content []byte) string {
	h := sha256.New()
	for _, part := range [][]byte{[]byte("mete catalogue 1"), []byte(k), []byte(id), content} {
		fmt.Fprintf(h, "%d:", len(part))
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

const (
	maxFiles     = 1000
	maxFileBytes = 4 << 20
)

// ReadDir reads every .yaml and .yml file in the folder and the folders below it, in
// order of name. Folders and files that begin with a dot or an underscore are left
// out. The error is about reading; what is wrong in the files is in the Documents.
func ReadDir(dir string) (Documents, error) {
	var docs Documents
	files := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := path != dir && strings.ContainsAny(e.Name()[:1], "._")
		if e.IsDir() {
			if hidden {
				return fs.SkipDir
			}
			return nil
		}
		if ext := filepath.Ext(path); hidden || ext != ".yaml" && ext != ".yml" {
			return nil
		}
		if files++; files > maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		text, err := readFile(path)
		if err != nil {
			return err
		}
		docs.parse(path, text)
		return nil
	})
	if err != nil {
		return Documents{}, fmt.Errorf("read catalogue %s: %w", dir, err)
	}
	if files == 0 {
		return Documents{}, fmt.Errorf("read catalogue %s: no .yaml file in it; name the folder that holds the documents", dir)
	}
	return docs, nil
}

// ReadFile reads the documents of one file, whatever it is called.
func ReadFile(path string) (Documents, error) {
	text, err := readFile(path)
	if err != nil {
		return Documents{}, fmt.Errorf("read catalogue: %w", err)
	}
	return Parse(path, text), nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFileBytes {
		return nil, fmt.Errorf("%s has %d bytes, more than %d; part it into several files", path, info.Size(), maxFileBytes)
	}
	return os.ReadFile(path)
}

// Parse reads the documents of one file, which are parted by lines of "---".
func Parse(file string, text []byte) Documents {
	var docs Documents
	docs.parse(file, text)
	return docs
}

// Add appends the documents of another file.
func (d *Documents) Add(o Documents) {
	d.Objects = append(d.Objects, o.Objects...)
	for _, p := range o.problems.List {
		d.problems.add(p)
	}
	d.problems.More += o.problems.More
}

// Check reports what is wrong with the documents by themselves, as [*Problems]. What
// they refer to is looked up by [Catalogue.Plan].
func (d Documents) Check() error {
	ps := d.checked()
	return ps.err()
}

func (d Documents) checked() *Problems {
	ps := &Problems{slices.Clone(d.problems.List), d.problems.More}
	d.checkDuplicates(ps)
	return ps
}

func (d *Documents) parse(file string, text []byte) {
	tree, err := parseYAML(text)
	if err != nil {
		p := Problem{File: file, Line: 1, Column: 1, Problem: "is not YAML: " + err.Error()}
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			p.Problem = "is not YAML: " + syntax.Message
			if t := syntax.Token; t != nil && t.Position != nil {
				p.Line, p.Column = t.Position.Line, t.Position.Column
			}
		}
		d.problems.add(p)
		return
	}
	lines := strings.SplitAfter(string(text), "\n")
	for i, doc := range tree.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType {
			continue
		}
		from, to := 1, len(lines)
		if doc.Start != nil && doc.Start.Position != nil {
			from = doc.Start.Position.Line + 1
		}
		if i+1 < len(tree.Docs) && tree.Docs[i+1].Start != nil {
			to = tree.Docs[i+1].Start.Position.Line - 1
		}
		part := ""
		if from <= to {
			part = strings.Join(lines[from-1:to], "")
		}
		d.document(&reader{file: file, problems: &d.problems}, doc.Body, part, from)
	}
}

// parseYAML turns a panic of the parser on malformed text into an error.
func parseYAML(text []byte) (tree *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			tree, err = nil, fmt.Errorf("%v", r)
		}
	}()
	return parser.ParseBytes(text, 0)
}

// document reads one document: its top-level keys decide its kind.
func (d *Documents) document(r *reader, n ast.Node, text string, line int) {
	ps, ok := pairs(n)
	if !ok || len(ps) == 0 {
		r.problem(n, "", "a document is named fields, found "+what(n), "begin with one of "+kindKeys()+", followed by its ID")
		return
	}
	if !r.plain(n, 0) {
		return
	}
	has := func(key string) *ast.MappingValueNode {
		if i := slices.IndexFunc(ps, func(p *ast.MappingValueNode) bool { return keyOf(p) == key }); i >= 0 {
			return ps[i]
		}
		return nil
	}
	for _, k := range kinds {
		if p := has(string(k.kind)); p != nil {
			if k.kind == KindContract {
				d.contract(r, n, text, line)
				return
			}
			d.object(r, k, n, string(k.kind), text)
			return
		}
	}
	for _, k := range kinds {
		if p := has(k.plural); k.plural != "" && p != nil {
			d.list(r, k, ps, p)
			return
		}
	}
	first := keyOf(ps[0])
	r.problem(n, first, "no kind of document is named by it", didYouMeanKind(first))
}

func kindKeys() string {
	var keys []string
	for _, k := range Kinds() {
		keys = append(keys, string(k)+":")
	}
	return strings.Join(keys, ", ")
}

func didYouMeanKind(s string) string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, string(k))
		if p := kindOf(k).plural; p != "" {
			names = append(names, p)
		}
	}
	return didYouMean(s, names)
}

// list reads "partners:" and the like; nothing else may stand beside it.
func (d *Documents) list(r *reader, k kind, ps []*ast.MappingValueNode, p *ast.MappingValueNode) {
	for _, other := range ps {
		if other != p {
			r.problem(other.Key, keyOf(other), "stands beside the list "+k.plural, "part documents by a line of ---")
		}
	}
	seq, ok := p.Value.(*ast.SequenceNode)
	if !ok {
		r.problem(p.Value, k.plural, "want a list, found "+what(p.Value), "write one line with a dash for each "+k.kind.words())
		return
	}
	if len(seq.Values) > maxItems {
		r.problem(p.Value, k.plural, fmt.Sprintf("want at most %d entries, found %d", maxItems, len(seq.Values)), "")
		return
	}
	for _, n := range seq.Values {
		if _, ok := pairs(n); !ok {
			r.problem(n, k.plural, "want named fields, found "+what(n), "write - "+k.key()+": …")
			continue
		}
		one := *r
		one.refs = nil
		before := len(d.Objects)
		d.object(&one, k, n, k.key(), "")
		if len(d.Objects) > before {
			d.Objects[before].Document = alone(k, n)
		}
	}
}

// alone writes an entry of a list as a document of its own.
func alone(k kind, n ast.Node) string {
	ps, _ := pairs(n)
	for _, p := range ps {
		if key, ok := p.Key.(*ast.StringNode); ok && key.Value == k.key() {
			key.Value = string(k.kind)
			if key.Token != nil {
				key.Token.Value = key.Value
			}
			break
		}
	}
	column := 0
	if len(ps) > 0 {
		_, column = place(n)
	}
	if m, ok := n.(*ast.MappingNode); ok && m.IsFlowStyle {
		return n.String() + "\n"
	}
	lines := strings.Split(n.String(), "\n")
	for i, line := range lines {
		margin := min(max(column-1, 0), len(line)-len(strings.TrimLeft(line, " ")))
		lines[i] = line[margin:]
	}
	return strings.Join(lines, "\n") + "\n"
}

// object reads one object that is no contract. Its ID stands under idKey.
func (d *Documents) object(r *reader, k kind, n ast.Node, idKey, text string) {
	content, _ := k.object(idKey).read(r, n, "").(map[string]any)
	id, _ := content[idKey].(string)
	line, _ := place(n)
	o := Object{Kind: k.kind, ID: id, Document: text, File: r.file, Line: line, refs: r.refs, node: n}
	if e, ok := content["effective"].(string); ok {
		o.Effective, _ = period.ParseDate(e)
	}
	delete(content, idKey)
	delete(content, "effective")
	content[k.key()] = id
	o.Content = encode(content)
	if k.check != nil {
		k.check(r, o, o.Content)
	}
	if id != "" {
		d.Objects = append(d.Objects, o)
	}
}

// object is the whole shape of a document of the kind.
func (k kind) object(idKey string) object {
	o := object{{idKey, "Identifier of the " + k.kind.words(), true, k.id}}
	o = append(o, k.fields...)
	if !k.dated {
		o = append(o, field{"effective", "First day on which this is so; absent: from the beginning for a new object, from the day it is recorded for a change", false, aDate})
	}
	return o
}

// encode is canonical JSON: sorted keys, no escaping for HTML, no line end.
func encode(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("catalogue: internal error: " + err.Error())
	}
	return bytes.TrimSpace(b.Bytes())
}

// checkDuplicates reports objects that are described twice. An object may be described
// once for each effective date; FX tables and calendars once.
func (d Documents) checkDuplicates(ps *Problems) {
	type key struct {
		kind     Kind
		id       string
		from     period.Date
		corrects int
	}
	first := map[key]Object{}
	for _, o := range d.Objects {
		k := key{o.Kind, o.ID, o.Effective, o.Corrects}
		was, twice := first[k]
		if !twice {
			first[k] = o
			continue
		}
		remedy := "keep one of the two"
		if !kindOf(o.Kind).dated {
			remedy += ", or give the later one another effective date"
		}
		ps.add(Problem{o.File, o.Line, 1, string(o.Kind), fmt.Sprintf("%s %s is described in %s:%d already", o.Kind.words(), o.ID, was.File, was.Line), remedy})
	}
}
