package catalogue

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"mete/partner"
	"mete/pricing"
)

// contract reads a contract document. Its terms are pricing's; the catalogue adds the
// field corrects, keeps the document, and notes whom and what it names.
func (d *Documents) contract(r *reader, n ast.Node, text string, line int) {
	corrects, bare := r.corrects(n, text, line)
	terms, err := pricing.ParseTerms(r.file, []byte(bare))
	if err != nil {
		r.pricing(err, line)
	}
	content, _ := canonical(n).(map[string]any)
	id, _ := content["contract"].(string)
	at, _ := place(n)
	o := Object{Kind: KindContract, ID: id, Corrects: corrects, Content: encode(content),
		Document: text, File: r.file, Line: at, Terms: terms, start: line, bare: bare, node: n}
	if terms != nil {
		o.Effective, o.Until = terms.From, terms.Until
		if err := checkID(id); err != nil {
			r.problem(n, "contract", err.Error(), "name the agreement, such as northwind-scheduling")
		}
		r.contractRefs(n)
		for _, p := range terms.Idle() {
			o.idle = append(o.idle, inFile(p, line))
		}
	}
	o.refs = r.refs
	if id != "" {
		d.Objects = append(d.Objects, o)
	}
}

// corrects takes the field corrects out of the text, leaving its line empty so that
// places stay right.
func (r *reader) corrects(n ast.Node, text string, line int) (int, string) {
	ps, _ := pairs(n)
	for _, p := range ps {
		if keyOf(p) != "corrects" {
			continue
		}
		v, _ := whole(1, maxVersion).read(r, p.Value, "corrects").(int)
		at, _ := place(p.Key)
		lines := strings.SplitAfter(text, "\n")
		i := at - line
		if i < 0 || i >= len(lines) || !strings.HasPrefix(lines[i], "corrects:") {
			r.problem(p.Key, "corrects", "does not stand on a line of its own", "write corrects: N on its own line")
			return v, text
		}
		lines[i] = "\n"
		return v, strings.Join(lines, "")
	}
	return 0, text
}

// maxVersion bounds the versions of one object.
const maxVersion = 10_000

// pricing reports what pricing found wrong in the document that begins on the line.
func (r *reader) pricing(err error, line int) {
	var ps pricing.Problems
	if !errors.As(err, &ps) {
		r.problems.add(Problem{r.file, line, 1, "", err.Error(), ""})
		return
	}
	for _, p := range ps {
		r.problems.add(inFile(p, line))
	}
}

// inFile is pricing's problem with a document, which begins on the line of its file.
func inFile(p pricing.Problem, line int) Problem {
	return Problem{p.File, p.Line + line - 1, p.Column, p.Field, p.Problem, p.Remedy}
}

// contractRefs notes the partners, apps and meters that a contract names.
func (r *reader) contractRefs(n ast.Node) {
	refer := func(k Kind, n ast.Node, path string) {
		for _, e := range elements(n) {
			if t, _ := textOf(e); t != "" && !(k == KindPartner && (partner.ID(t) == partner.Platform || t == own)) {
				line, column := place(e)
				r.refs = append(r.refs, reference{k, t, path, line, column})
			}
		}
	}
	refer(KindPartner, member(n, "partner"), "partner")
	refer(KindApp, member(n, "apps"), "apps")
	refer(KindCustomer, member(n, "customer"), "customer")
	refer(KindFX, member(member(n, "fx"), "rates"), "fx.rates")
	for i, rule := range elements(member(n, "rules")) {
		path := fmt.Sprintf("rules[%d]", i)
		refer(KindApp, member(rule, "apps"), path+".apps")
		refer(KindMeter, member(rule, "meter"), path+".meter")
		refer(KindPartner, member(rule, "from"), path+".from")
		refer(KindPartner, member(rule, "to"), path+".to")
		for _, key := range keys(member(rule, "to")) { // of a split
			refer(KindPartner, key, path+".to")
		}
		refer(KindMeter, member(member(rule, "quantity"), "less"), path+".quantity.less")
		for j, step := range elements(member(member(rule, "price"), "steps")) {
			for _, key := range keys(member(step, "limits")) {
				refer(KindMeter, key, fmt.Sprintf("%s.price.steps[%d].limits", path, j))
			}
		}
		refer(KindCustomer, member(rule, "information_source"), path+".information_source")
	}
}

// keys are the field names of a mapping, as they stand in the document.
func keys(n ast.Node) []ast.Node {
	var out []ast.Node
	ps, _ := pairs(n)
	for _, p := range ps {
		out = append(out, p.Key)
	}
	return out
}

// own is the word by which a rule names its contract's partner.
const own = "partner"

// parties are the other partners that the terms' rules name.
func parties(t *pricing.Terms) []partner.ID {
	var ids []partner.ID
	for _, r := range t.Rules {
		var named []string
		switch b := r.Body.(type) {
		case *pricing.Referral:
			named = []string{b.From, b.To}
		case *pricing.Split:
			for _, id := range b.Parties() {
				named = append(named, string(id))
			}
		}
		for _, p := range named {
			if id := partner.ID(p); p != own && id != partner.Platform && id != t.Partner && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// member is the value of a mapping's field, nil when it has none.
func member(n ast.Node, name string) ast.Node {
	if n == nil {
		return nil
	}
	ps, _ := pairs(n)
	for _, p := range ps {
		if keyOf(p) == name {
			return p.Value
		}
	}
	return nil
}

// elements are a list's entries, or n alone when it is no list.
func elements(n ast.Node) []ast.Node {
	switch n := n.(type) {
	case nil:
		return nil
	case *ast.SequenceNode:
		return n.Values
	}
	return []ast.Node{n}
}

// reread turns a stored contract document into terms and canonical content.
func reread(v Version) (Object, error) {
	name := string(v.Kind) + " " + v.ID + " version " + strconv.Itoa(v.Number)
	docs := Parse(name, []byte(v.Document))
	if err := docs.Check(); err != nil {
		return Object{}, err
	}
	if len(docs.Objects) != 1 {
		return Object{}, fmt.Errorf("%s: %d documents, want one", name, len(docs.Objects))
	}
	o := docs.Objects[0]
	o.Terms.Version = v.Number
	return o, nil
}
