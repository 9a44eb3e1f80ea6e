package plain_test

import (
	"encoding/json"
	"html"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mete/pricing"
	"mete/pricing/plain"
)

// read is what a person reads of the terms, without the lines of the statement.
func read(t testing.TB, terms *pricing.Terms) string {
	s := plain.Of(terms, plain.Names{})
	s.Sections = s.Sections[:len(s.Sections)-1]
	var md strings.Builder
	if err := s.Write(&md, plain.Markdown, ""); err != nil {
		t.Fatal(err)
	}
	exact := "" // as written, where several ways to write it read the same
	for _, part := range s.Sections {
		for _, c := range part.Clauses {
			exact += c.Exact + "\n"
			if c.Table != nil && (c.Key == "bands" || c.Key == "factors") {
				for _, r := range c.Table.Rows {
					exact += r.Key + "\n"
				}
			}
		}
	}
	return md.String() + exact
}

// fields are the paths of every field that the schema of contracts has: kind.field for
// fields of rules. The value is whether there is but one word to say.
func fields(t *testing.T) map[string]bool {
	var root map[string]any
	if err := json.Unmarshal(pricing.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	var walk func(s map[string]any, path string)
	walk = func(s map[string]any, path string) {
		props, _ := s["properties"].(map[string]any)
		kind := ""
		if k, ok := props["kind"].(map[string]any); ok {
			kind, _ = k["const"].(string)
		}
		for name, v := range props {
			sub := v.(map[string]any)
			at := name
			switch {
			case path == "rules[]":
				at = kind + "." + name
			case path != "":
				at = path + "." + name
			}
			words, _ := sub["enum"].([]any)
			_, fixed := sub["const"]
			out[at] = fixed || len(words) == 1
			walk(sub, at)
		}
		if items, ok := s["items"].(map[string]any); ok {
			walk(items, path+"[]")
		}
		for _, key := range []string{"oneOf", "anyOf"} {
			list, _ := s[key].([]any)
			for _, v := range list {
				walk(v.(map[string]any), path)
			}
		}
	}
	walk(root, "")
	delete(out, "rules")
	return out
}

// unseen are fields that change no term: what they say is what holds without them.
var unseen = map[string]string{
	"usage_fee.of": "one word, in the place of a meter",
	"share.of":     "needed, one word", "pass_through.of": "needed, one word", "split.of": "one word, and so without it", "referral.of": "one word, and so without it",
}

// maxTries is how many values that differ are tried at one place.
const maxTries = 2

// Every field of the schema, of the contract and of every kind of rule, changes what a
// person reads when it is left out or says something else.
func TestEveryFieldIsRead(t *testing.T) {
	seen := map[string]int{}
	for i, doc := range documents(t) {
		terms, err := parsed(doc)
		if err != nil {
			t.Fatal(err)
		}
		before, was := read(t, terms), decoded(t, terms)
		try := func(path string, change func(root any)) bool {
			other := clone(t, doc)
			change(other)
			changed, err := parsed(other)
			if err != nil || decoded(t, changed) == was {
				return false
			}
			seen[strings.TrimSuffix(path, "[]")]++
			if read(t, changed) == before {
				t.Errorf("%s: reads the same\n%s\n%s", path, terms.Document, changed.Document)
			}
			if d := plain.Diff(terms, changed, plain.Names{}); len(d.Changes) == 0 || d.Changes[0].Key == "document" {
				t.Errorf("%s: no difference in words\n%s\n%s", path, terms.Document, changed.Document)
			}
			return true
		}
		for _, p := range places(doc) {
			if i > 0 && i < len(corpus) && (!strings.Contains(p.path, ".") || strings.HasPrefix(p.path, "payout")) {
				continue // the head is the same in all
			}
			try(p.path, func(root any) { p.set(root, nil, true) })
			tried := 0
			for _, v := range values(p.now) {
				if tried < maxTries && try(p.path, func(root any) { p.set(root, v, false) }) {
					tried++
				}
			}
		}
		for j, r := range doc.(map[string]any)["rules"].([]any) {
			kind := r.(map[string]any)["kind"].(string)
			for name, words := range declared {
				for _, word := range words {
					try(kind+"."+name, func(root any) { root.(map[string]any)["rules"].([]any)[j].(map[string]any)[name] = word })
				}
			}
		}
	}
	all := fields(t)
	shown := func(path string) bool {
		for p := range seen {
			if p == path || strings.HasPrefix(p, path+".") || strings.HasPrefix(p, path+"[].") {
				return true
			}
		}
		return false
	}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		why, excepted := unseen[path]
		kind, name, _ := strings.Cut(path, ".")
		whole, _, _ := strings.Cut(name, ".")
		switch {
		case strings.HasPrefix(path, "rules[]."), name == "kind", whole == "criterion" && shown(kind+".criterion"):
		case excepted && (seen[path] > 0 || !all[path]):
			t.Errorf("%s is excepted (%s), but changes terms, or has several words", path, why)
		case !excepted && !shown(path):
			t.Errorf("%s: no contract of the corpus shows that the term sheet says it", path)
		}
	}
}

// A bound that belongs to the step below reads differently from one that does not.
func TestBoundsAreRead(t *testing.T) {
	tried := 0
	for _, doc := range documents(t) {
		was, err := parsed(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, words := range [][2]string{{`"to":`, `"below":`}, {`"below":`, `"to":`}} {
			is, err := pricing.ParseTerms("contract.yaml", []byte(regexp.MustCompile(words[0]+`(["0-9])`).ReplaceAllString(was.Document, words[1]+"$1")))
			if err != nil || decoded(t, was) == decoded(t, is) {
				continue
			}
			tried++
			if read(t, was) == read(t, is) || len(plain.Diff(was, is, plain.Names{}).Changes) == 0 {
				t.Errorf("%s and %s read the same in\n%s", words[0], words[1], was.Document)
			}
		}
	}
	if tried < 5 {
		t.Errorf("only %d contracts have bounds", tried)
	}
}

// Terms that differ read differently and have a difference in words; equal ones have none.
func TestDifferencesAreNeverSilent(t *testing.T) {
	docs := documents(t)
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(doc any) (any, *pricing.Terms) {
			out := clone(t, doc)
			terms, err := parsed(out)
			if err != nil {
				rt.Fatal(err)
			}
			for range rapid.IntRange(0, 3).Draw(rt, "changes") {
				all := places(out)
				p := all[rapid.IntRange(0, len(all)-1).Draw(rt, "place")]
				next := clone(t, out)
				to := values(p.now)
				if i := rapid.IntRange(-1, len(to)-1).Draw(rt, "value, or none"); i < 0 {
					p.set(next, nil, true)
				} else {
					p.set(next, to[i], false)
				}
				if changed, err := parsed(next); err == nil {
					out, terms = next, changed
				}
			}
			return out, terms
		}
		doc, was := draw(docs[rapid.IntRange(0, len(docs)-1).Draw(rt, "document")])
		_, is := draw(doc)
		d := plain.Diff(was, is, plain.Names{})
		equal := decoded(t, was) == decoded(t, is)
		if equal != (len(d.Changes) == 0) || equal != (read(t, was) == read(t, is)) {
			rt.Fatalf("equal %v, changes %d, read alike %v\n%s\n%s\n%s", equal, len(d.Changes), read(t, was) == read(t, is), was.Document, is.Document, d)
		}
		for _, c := range d.Changes {
			if c.Key == "document" || c.Text == "" {
				rt.Fatalf("no words for a difference\n%s\n%s", was.Document, is.Document)
			}
		}
	})
}

// The page holds every sentence and every figure of the sheet, in order, and no script.
func TestPage(t *testing.T) {
	for _, doc := range documents(t) {
		terms, err := parsed(doc)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		s := plain.Of(terms, plain.Names{})
		if err := s.Write(&b, plain.HTML, ""); err != nil {
			t.Fatal(err)
		}
		rest := b.String()
		if strings.ContainsAny(rest, string(plain.CodeBegin)+string(plain.CodeEnd)) || strings.Contains(rest, "<script") || strings.Contains(rest, "src=") {
			t.Error("the page has a mark of what stands as written, or something that is not text")
		}
		text := html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(rest, ""))
		wants := func(sentence string) {
			sentence = strings.NewReplacer(string(plain.CodeBegin), "", string(plain.CodeEnd), "").Replace(sentence)
			_, after, found := strings.Cut(text, sentence)
			if !found {
				t.Errorf("the page lacks, or has before its place: %s", sentence)
				return
			}
			text = after
		}
		for _, part := range s.Sections {
			for _, c := range part.Clauses {
				wants(c.Text)
				if c.Table == nil {
					continue
				}
				for _, r := range c.Table.Rows {
					if len(r.Cells) != len(c.Table.Head) {
						t.Errorf("%s: %d cells under %d headings", c.Text, len(r.Cells), len(c.Table.Head))
					}
					for _, cell := range r.Cells {
						wants(cell)
					}
				}
			}
		}
	}
}

// What a person wrote is shown, never taken for markup.
func TestMarkupOfPeopleIsText(t *testing.T) {
	rule := `- {id: s, kind: share, of: sale.paid, text: "<b>` + "`|x*`" + `</b>", platform: {rate: 20%}}`
	terms, err := pricing.ParseTerms("c.yaml", []byte(head+rule+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := plain.Of(terms, plain.Names{})
	for form, want := range map[string]string{plain.HTML: "&lt;b&gt;", plain.Markdown: "&lt;b>\\`|x\\*\\`&lt;/b>"} {
		var b strings.Builder
		if err := s.Write(&b, form, "a note"); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), want) || strings.Contains(b.String(), "<b>") || !strings.Contains(b.String(), "a note") {
			t.Errorf("%s: no %q in\n%s", form, want, b.String())
		}
	}
}
