package scenario

import (
	"bytes"
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"mete/pricing"
)

// Covered says which branches of contracts scenarios took: steps of ladders, bands,
// refunds, whatever [pricing.Terms.Branches] lists. A branch counts when pricing went it
// in a month that a want block looks at, or that a late event priced again for one;
// what nobody compares is not covered.
type Covered struct {
	Contracts []CoveredContract `json:"contracts"`
}

// CoveredContract is one contract document and what scenarios took of it.
type CoveredContract struct {
	File      string          `json:"file"`
	Contract  string          `json:"contract,omitempty"`
	Error     string          `json:"error,omitempty"`     // no scenario names it, and it cannot be read
	Scenarios []string        `json:"scenarios,omitempty"` // that name it
	Branches  []CoveredBranch `json:"branches"`
}

// CoveredBranch is one way a rule can go, and the scenarios that went it.
type CoveredBranch struct {
	Rule string   `json:"rule"`
	Line int      `json:"line"` // of the rule in the document
	Text string   `json:"text"`
	By   []string `json:"by,omitempty"`
}

// Coverage runs the scenarios that lie beside a contract document and name it, and says
// which of its branches they take. It is what a check of the document alone can ask: the
// error is about the document; a contract without a scenario is no error, and one with a
// scenario that fails is told by failed.
func Coverage(file string, books func() Books) (c CoveredContract, failed []FileReport, err error) {
	if _, err := readTerms(file); err != nil {
		return CoveredContract{}, nil, err
	}
	names, err := filepath.Glob(filepath.Join(escaped(filepath.Dir(file)), "*"+Ext))
	if err != nil {
		return CoveredContract{}, nil, fmt.Errorf("scenarios beside %s: %w", file, err)
	}
	if len(names) > MaxFiles {
		return CoveredContract{}, nil, fmt.Errorf("%d scenarios beside %s, at most %d are run", len(names), file, MaxFiles)
	}
	var reports []FileReport
	for _, name := range names {
		text, err := readFile(name)
		if err != nil {
			return CoveredContract{}, nil, err
		}
		if !isAbout(text, strings.TrimSuffix(filepath.Base(file), contractExt)) {
			continue
		}
		r := runFile(name, books)
		if !r.OK() {
			failed = append(failed, r)
		}
		reports = append(reports, r)
	}
	for _, x := range covered(reports, []string{file}).Contracts {
		if x.File == filepath.Clean(file) {
			c = x
		}
	}
	return c, failed, nil
}

// escaped is a folder in which a pattern finds nothing but itself.
func escaped(folder string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(folder)
}

// isAbout reports whether a scenario names a contract.
func isAbout(text []byte, contract string) bool {
	for line := range bytes.Lines(text) {
		if words := strings.Fields(string(line)); len(words) > 1 && words[0] == "contract" && words[1] == contract {
			return true
		}
	}
	return false
}

// tried is one contract document of a scenario and the branches that were taken of it.
type tried struct {
	file  string // beside the scenario
	terms *pricing.Terms
	taken map[pricing.Branch]bool
}

// branchKey is a branch whatever number a scenario gives the version.
type branchKey struct {
	file, rule, outcome, name string
	at                        int
}

// covered puts together what scenarios took of their contracts, and of others that no
// scenario names.
func covered(files []FileReport, documents []string) Covered {
	c := map[string]*CoveredContract{}
	by := map[branchKey][]string{}
	terms := map[string]*pricing.Terms{}
	for _, f := range files {
		for _, t := range f.tried {
			path := filepath.Join(filepath.Dir(f.File), t.file)
			if c[path] == nil {
				c[path] = &CoveredContract{File: path, Contract: t.terms.Contract}
				terms[path] = t.terms
			}
			c[path].Scenarios = append(c[path].Scenarios, f.File)
			for b := range t.taken {
				k := branchKey{path, b.Rule, b.Outcome, b.Name, b.At}
				by[k] = append(by[k], f.File)
			}
		}
	}
	for _, d := range documents {
		path := filepath.Clean(d)
		if c[path] != nil || !isContract(path) {
			continue
		}
		c[path] = &CoveredContract{File: path}
		t, err := readTerms(path)
		if err != nil {
			c[path].Error = err.Error()
			continue
		}
		c[path].Contract, terms[path] = t.Contract, t
	}
	var out Covered
	for path, x := range c {
		if t := terms[path]; t != nil {
			for _, b := range t.Branches() {
				x.Branches = append(x.Branches, CoveredBranch{
					Rule: b.Rule, Line: b.Line, Text: b.Text,
					By: by[branchKey{path, b.Rule, b.Outcome, b.Name, b.At}],
				})
			}
		}
		out.Contracts = append(out.Contracts, *x)
	}
	slices.SortFunc(out.Contracts, func(a, b CoveredContract) int { return cmp.Compare(a.File, b.File) })
	return out
}

// isContract reports whether a document says that it is a contract.
func isContract(path string) bool {
	text, err := readFile(path)
	return err == nil && (bytes.HasPrefix(text, []byte("contract:")) || bytes.Contains(text, []byte("\ncontract:")))
}

func readTerms(path string) (*pricing.Terms, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return pricing.ParseTerms(path, text)
}

// Counts are the branches that were taken, and all there are.
func (c Covered) Counts() (taken, all int) {
	for _, x := range c.Contracts {
		t, a := x.Counts()
		taken, all = taken+t, all+a
	}
	return taken, all
}

// Counts are the contract's branches that were taken, and all it has.
func (c CoveredContract) Counts() (taken, all int) {
	for _, b := range c.Branches {
		if len(b.By) > 0 {
			taken++
		}
	}
	return taken, len(c.Branches)
}

// Percent is the part of the branches that were taken, in whole percent rounded down, so
// that 100 means all of them. Without a branch it is 100.
func (c Covered) Percent() int {
	taken, all := c.Counts()
	if all == 0 {
		return 100
	}
	return taken * 100 / all
}

// Unread are the documents that say they are contracts and cannot be read.
func (c Covered) Unread() int {
	n := 0
	for _, x := range c.Contracts {
		if x.Error != "" {
			n++
		}
	}
	return n
}

// Summary is the coverage in one line.
func (c Covered) Summary() string {
	taken, all := c.Counts()
	text := fmt.Sprintf("coverage: %d of %d branches of %d contracts, %d%%", taken, all, len(c.Contracts)-c.Unread(), c.Percent())
	if n := c.Unread(); n > 0 {
		text += fmt.Sprintf("; %d contracts without a scenario cannot be read", n)
	}
	return text
}

// String lists every branch of every contract and by which scenarios it was taken.
func (c Covered) String() string {
	var b strings.Builder
	for _, x := range c.Contracts {
		x.write(&b)
	}
	return b.String()
}

// maxNamed bounds how many scenarios are named beside a branch.
const maxNamed = 3

func (c CoveredContract) write(b *strings.Builder) {
	if c.Error != "" {
		fmt.Fprintf(b, "%s: cannot be read: %s\n", c.File, strings.ReplaceAll(c.Error, "\n", "\n  "))
		return
	}
	taken, all := c.Counts()
	fmt.Fprintf(b, "%s: %d of %d branches", c.File, taken, all)
	if len(c.Scenarios) == 0 {
		b.WriteString("; no scenario names it")
	}
	b.WriteString("\n")
	rule, text := 0, 0
	for _, x := range c.Branches {
		rule, text = max(rule, length(x.Rule)), max(text, length(x.Text))
	}
	last := ""
	for _, x := range c.Branches {
		mark, name := "  ", x.Rule
		if len(x.By) == 0 {
			mark = "! "
		}
		if name == last && len(x.By) > 0 {
			name = ""
		}
		last = x.Rule
		by := "not taken; line " + fmt.Sprint(x.Line)
		if len(x.By) > 0 {
			by = named(c.File, x.By)
		}
		b.WriteString("  " + mark + padded(name, rule) + "  " + padded(x.Text, text) + "  " + by + "\n")
	}
}

// named is the scenarios by their names, as far as there is room.
func named(contract string, files []string) string {
	var out []string
	for i, f := range files {
		if i == maxNamed {
			out = append(out, fmt.Sprintf("%d more", len(files)-i))
			break
		}
		if rel, err := filepath.Rel(filepath.Dir(contract), f); err == nil {
			f = rel
		}
		out = append(out, strings.TrimSuffix(f, Ext))
	}
	return strings.Join(out, ", ")
}
