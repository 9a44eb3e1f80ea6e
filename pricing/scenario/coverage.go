package scenario

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
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

// Folder is the scenarios of a folder, by the contracts that they name.
type Folder struct {
	path  string
	names map[string][]string // files by the name behind "contract", in order of their paths
}

// OpenFolder reads which contracts the scenarios of a folder name, those of the folders
// below it too where below says so. A file that names none is no scenario of a contract,
// nor is one larger than a scenario may be.
func OpenFolder(path string, below bool) (Folder, error) {
	f := Folder{path: path, names: map[string][]string{}}
	n := 0
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != path && !below:
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(p) != Ext:
			return nil
		}
		if n++; n > MaxFiles {
			return fmt.Errorf("more than %d scenarios; name a folder with fewer", MaxFiles)
		}
		if info, err := d.Info(); err != nil || info.Size() > maxFile {
			return err
		}
		text, err := readFile(p)
		if err != nil {
			return err
		}
		for _, name := range namedBy(text) {
			f.names[name] = append(f.names[name], p)
		}
		return nil
	})
	if err != nil {
		return Folder{}, fmt.Errorf("scenarios in %s: %w", path, err)
	}
	return f, nil
}

// namedBy are the contracts that a text names as a scenario does, each once.
func namedBy(text []byte) []string {
	var out []string
	for line := range bytes.Lines(text) {
		if words := strings.Fields(string(line)); len(words) > 1 && words[0] == "contract" && !slices.Contains(out, words[1]) {
			out = append(out, words[1])
		}
	}
	return out
}

// Document is a contract whose scenarios are looked for.
type Document struct {
	File   string   // what it is called
	Text   []byte   // as it is written
	Names  []string // by which scenarios may name it; it takes the place of files of these names
	Beside string   // where contracts lie that scenarios name as well and that are not beside them
}

// Coverage runs the scenarios of the folder that name a contract, and says which of its
// branches they take: what a check of the document alone can ask. The error is about the
// document; a contract without a scenario is no error, and scenarios that do not come out
// as wanted are told by failed.
func (f Folder) Coverage(d Document, books func() Books) (c CoveredContract, failed []FileReport, err error) {
	t, err := pricing.ParseTerms(d.File, d.Text)
	if err != nil {
		return CoveredContract{}, nil, err
	}
	c = CoveredContract{File: d.File, Contract: t.Contract}
	for _, name := range d.Names {
		for _, file := range f.names[name] {
			if !slices.Contains(c.Scenarios, file) {
				c.Scenarios = append(c.Scenarios, file)
			}
		}
	}
	slices.Sort(c.Scenarios)
	by := map[branchKey][]string{}
	for _, file := range c.Scenarios {
		r := f.run(file, d, books)
		if !r.OK() {
			failed = append(failed, r)
		}
		taken := map[branchKey]bool{} // a scenario may name the document by two names
		for _, x := range r.tried {
			if !slices.Contains(d.Names, strings.TrimSuffix(x.file, contractExt)) {
				continue
			}
			for b := range x.taken {
				taken[keyOf("", b)] = true
			}
		}
		for k := range taken {
			by[k] = append(by[k], file)
		}
	}
	for _, b := range t.Branches() {
		c.Branches = append(c.Branches, CoveredBranch{Rule: b.Rule, Line: b.Line, Text: b.Text, By: by[keyOf("", b.Branch)]})
	}
	return c, failed, nil
}

// run runs a scenario with the document in place of the file that has its name.
func (f Folder) run(file string, d Document, books func() Books) FileReport {
	text, err := readFile(file)
	if err != nil {
		return FileReport{File: file, Error: err.Error()}
	}
	return RunText(file, text, func(name string) (string, []byte, error) {
		if slices.Contains(d.Names, name) {
			return d.File, d.Text, nil
		}
		b, err := readFile(filepath.Join(filepath.Dir(file), name+contractExt))
		if errors.Is(err, fs.ErrNotExist) && d.Beside != "" {
			b, err = readFile(filepath.Join(d.Beside, name+contractExt))
		}
		return name + contractExt, b, err
	}, books)
}

// Untried are the rules with a branch that no scenario took, in order of the document.
func (c CoveredContract) Untried() []UntriedRule {
	var out []UntriedRule
	for _, b := range c.Branches {
		n := len(out) - 1
		if n < 0 || out[n].Rule != b.Rule {
			out = append(out, UntriedRule{Rule: b.Rule})
			n++
		}
		out[n].Of++
		if len(b.By) == 0 {
			out[n].Branches = append(out[n].Branches, b.Text)
		}
	}
	return slices.DeleteFunc(out, func(u UntriedRule) bool { return len(u.Branches) == 0 })
}

// UntriedRule is a rule and what of it no scenario took.
type UntriedRule struct {
	Rule     string
	Branches []string // what they are called
	Of       int      // all branches that the rule has
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

func keyOf(file string, b pricing.Branch) branchKey {
	return branchKey{file, b.Rule, b.Outcome, b.Name, b.At}
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
				by[keyOf(path, b)] = append(by[keyOf(path, b)], f.File)
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
					By: by[keyOf(path, b.Branch)],
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
func (c Covered) Percent() int { return percent(c.Counts()) }

// Percent is that of the contract alone.
func (c CoveredContract) Percent() int { return percent(c.Counts()) }

func percent(taken, all int) int {
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
