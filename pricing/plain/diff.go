package plain

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"mete/period"
	"mete/pricing"
)

// What became of a clause.
const (
	Changed = "changed"
	Added   = "added"
	Removed = "removed"
	Renamed = "renamed" // a rule that has another id and says the same
)

// Change is one difference between two terms.
type Change struct {
	From period.Date `json:"from"` // the day from which it is so
	Rule string      `json:"rule,omitempty"`
	Key  string      `json:"key"` // of the clause, behind a slash that of a row; of a rule as a whole: rule
	What string      `json:"what"`
	Was  string      `json:"was,omitempty"`
	Is   string      `json:"is,omitempty"`
	Text string      `json:"text"`
}

// Difference is what changes between two terms, in the order in which the later terms
// say it, and in the end what is gone.
type Difference struct {
	Contract string      `json:"contract"`
	Was      int         `json:"was,omitempty"` // versions; 0: not recorded
	Is       int         `json:"is,omitempty"`
	From     period.Date `json:"from"`
	Changes  []Change    `json:"changes"`
}

// Diff says in words what changes from one version of terms to the next. It is empty
// exactly when both are decoded alike, whatever their documents look like.
func Diff(was, is *pricing.Terms, n Names) Difference {
	d := Difference{Contract: is.Contract, Was: was.Version, Is: is.Version, From: is.From, Changes: []Change{}}
	if same(was, is) {
		return d
	}
	old, next := Of(was, n), Of(is, n)
	d.rules(was, is, old, next)
	for _, s := range next.Sections {
		if s.Key == statementKey {
			continue
		}
		if before := find(old.Sections, s.Key); before != nil {
			d.section(*before, s)
		}
	}
	if len(d.Changes) == 0 { // sentences that read alike must not hide a difference
		d.add("", "document", Changed, "", "", "the terms are written in another way that reads the same; compare the documents")
	}
	return d
}

// same reports whether terms are decoded alike.
func same(a, b *pricing.Terms) bool { return decoded(a) == decoded(b) }

// decoded is what the terms say, without where and how it is written.
func decoded(t *pricing.Terms) string {
	c := *t
	c.Version, c.Document = 0, ""
	b, err := json.Marshal(struct {
		Terms      any
		NamesLimit bool
	}{c, t.NamesLimit})
	if err != nil {
		panic(fmt.Sprintf("plain: internal error: %v", err))
	}
	return string(b)
}

func find(list []Section, key string) *Section {
	if i := slices.IndexFunc(list, func(s Section) bool { return s.Key == key }); i >= 0 {
		return &list[i]
	}
	return nil
}

func (d *Difference) add(rule, key, what, was, is, text string) {
	d.Changes = append(d.Changes, Change{d.From, rule, key, what, Bare(was), Bare(is), Bare(text)})
}

// rules says which rules are new, gone, have another id or stand in another order.
func (d *Difference) rules(was, is *pricing.Terms, old, next Sheet) {
	var gone, come []*pricing.Rule
	for i := range was.Rules {
		if find(next.Sections, rulePrefix+was.Rules[i].ID) == nil {
			gone = append(gone, &was.Rules[i])
		}
	}
	for i := range is.Rules {
		if find(old.Sections, rulePrefix+is.Rules[i].ID) == nil {
			come = append(come, &is.Rules[i])
		}
	}
	for _, r := range come {
		i := slices.IndexFunc(gone, func(g *pricing.Rule) bool { return otherwiseSame(*g, *r) })
		if i >= 0 {
			d.add(r.ID, "rule", Renamed, gone[i].ID, r.ID, fmt.Sprintf("the rule %s is called %s and says the same; its running totals begin anew, since they are kept by its id", code(gone[i].ID), code(r.ID)))
			gone = slices.Delete(gone, i, i+1)
			continue
		}
		s := find(next.Sections, rulePrefix+r.ID)
		said := strings.Join(s.Sentences(), " ")
		d.add(r.ID, "rule", Added, "", said, fmt.Sprintf("there is a new rule %s (%s): %s", code(r.ID), strings.ToLower(s.Title), said))
	}
	for _, r := range gone {
		s := find(old.Sections, rulePrefix+r.ID)
		said := strings.Join(s.Sentences(), " ")
		d.add(r.ID, "rule", Removed, said, "", fmt.Sprintf("the rule %s (%s) is gone; it said: %s", code(r.ID), strings.ToLower(s.Title), said))
	}
	kept := func(t *pricing.Terms) []string {
		return slices.DeleteFunc(ruleIDs(t), func(id string) bool {
			return find(old.Sections, rulePrefix+id) == nil || find(next.Sections, rulePrefix+id) == nil
		})
	}
	if a, b := kept(was), kept(is); !slices.Equal(a, b) {
		d.add("", "order", Changed, codes(a), codes(b), moved("the order of the rules", codes(a), codes(b)))
	}
}

// otherwiseSame reports whether rules differ in nothing but their id.
func otherwiseSame(a, b pricing.Rule) bool {
	a.ID, a.Line, b.ID, b.Line = "", 0, "", 0
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// section compares the clauses of one section by their keys.
func (d *Difference) section(was, is Section) {
	if was.Title != is.Title {
		d.add(is.Rule, "kind", Changed, was.Title, is.Title, fmt.Sprintf("%sit is a %s, no longer a %s", of(is), strings.ToLower(is.Title), strings.ToLower(was.Title)))
	}
	for _, c := range is.Clauses {
		if is.Key == agreementKey && c.Key == "order" {
			continue // said with the rules
		}
		i := slices.IndexFunc(was.Clauses, func(b Clause) bool { return b.Key == c.Key })
		if i < 0 {
			d.add(is.Rule, c.Key, Added, "", c.full(), of(is)+"it says anew: "+c.full())
			continue
		}
		d.clause(is, was.Clauses[i], c)
	}
	for _, c := range was.Clauses {
		if c.Key != "order" && !slices.ContainsFunc(is.Clauses, func(b Clause) bool { return b.Key == c.Key }) {
			d.add(is.Rule, c.Key, Removed, c.full(), "", of(is)+"it no longer says: "+c.full())
		}
	}
}

// full is the sentence with its table.
func (c Clause) full() string { return Section{Clauses: []Clause{c}}.Sentences()[0] }

// of says which rule a change is about.
func of(s Section) string {
	if s.Rule == "" {
		return ""
	}
	return "in " + code(s.Rule) + ", "
}

// figure is a value that can be said to go up or down.
var figure = regexp.MustCompile(`^[0-9.,]+(%| [A-Z]{3}| days?| months?)?$`)

// moved says that what a term comes to is another.
func moved(term, was, is string) string {
	if figure.MatchString(was) && figure.MatchString(is) {
		return fmt.Sprintf("%s goes from %s to %s", term, was, is)
	}
	return fmt.Sprintf("%s: now %s; before: %s", term, is, was)
}

func (d *Difference) clause(s Section, was, is Clause) {
	switch {
	case was.Text != is.Text && is.Term != "" && was.Term == is.Term && was.Value != is.Value:
		d.add(s.Rule, is.Key, Changed, was.Value, is.Value, of(s)+moved(is.Term, was.Value, is.Value))
	case was.Text != is.Text:
		d.add(s.Rule, is.Key, Changed, was.Text, is.Text, fmt.Sprintf("%sit no longer says: %s It says: %s", of(s), was.Text, is.Text))
	case was.Exact != is.Exact:
		d.add(s.Rule, is.Key, Changed, was.Exact, is.Exact, fmt.Sprintf("%s%s is written %s instead of %s, which reads the same", of(s), is.Term, code(is.Exact), code(was.Exact)))
	}
	if was.Table != nil || is.Table != nil {
		d.table(s, is.Key, was.Table, is.Table)
	}
}

// table compares rows by their keys; rows that are left over are held against each
// other in their order.
func (d *Difference) table(s Section, key string, was, is *Table) {
	if was == nil {
		was = &Table{}
	}
	if is == nil {
		is = &Table{}
	}
	var gone, come []Row
	for _, r := range was.Rows {
		if !slices.ContainsFunc(is.Rows, func(x Row) bool { return x.Key == r.Key }) {
			gone = append(gone, r)
		}
	}
	for _, r := range is.Rows {
		i := slices.IndexFunc(was.Rows, func(x Row) bool { return x.Key == r.Key })
		switch {
		case i < 0:
			come = append(come, r)
		case was.Rows[i].Value != r.Value:
			d.add(s.Rule, key+"/"+r.Key, Changed, was.Rows[i].Value, r.Value, of(s)+moved(r.Term, was.Rows[i].Value, r.Value))
		case !reflect.DeepEqual(was.Rows[i].Cells, r.Cells):
			d.add(s.Rule, key+"/"+r.Key, Changed, strings.Join(was.Rows[i].Cells, ", "), strings.Join(r.Cells, ", "), fmt.Sprintf("%s%s reads %s instead of %s", of(s), r.Term, strings.Join(r.Cells, ", "), strings.Join(was.Rows[i].Cells, ", ")))
		}
	}
	for i, r := range come {
		if i < len(gone) {
			g := gone[i]
			if g.Term == r.Term && g.Value == r.Value {
				d.add(s.Rule, key+"/"+r.Key, Changed, g.Key, r.Key, fmt.Sprintf("%s%s is written in another way that reads the same", of(s), r.Term))
				continue
			}
			d.add(s.Rule, key+"/"+r.Key, Changed, g.Term+": "+g.Value, r.Term+": "+r.Value, fmt.Sprintf("%s%s (%s) becomes %s (%s)", of(s), g.Term, g.Value, r.Term, r.Value))
			continue
		}
		d.add(s.Rule, key+"/"+r.Key, Added, "", r.Value, fmt.Sprintf("%s%s is new: %s", of(s), r.Term, r.Value))
	}
	for i := len(come); i < len(gone); i++ {
		d.add(s.Rule, key+"/"+gone[i].Key, Removed, gone[i].Value, "", fmt.Sprintf("%s%s is gone; it was %s", of(s), gone[i].Term, gone[i].Value))
	}
}

// String is the difference for people, a line for each change.
func (d Difference) String() string {
	if len(d.Changes) == 0 {
		return "Nothing changes.\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "From %s:\n", d.From)
	for _, c := range d.Changes {
		text := strings.TrimRight(c.Text, ".")
		fmt.Fprintf(&b, "- %s\n", text)
	}
	return b.String()
}
