// Package scenario runs contracts against made-up months written in plain text, so
// that a finance person can read, write and check what terms do.
//
// It knows the language of scenario files and how months follow each other; prices
// come from package pricing alone. The language is described in docs/scenarios.md.
// Read [Run] first.
package scenario

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Ext is the extension of scenario files.
const Ext = ".txt"

// contractExt is the extension of the contracts that scenarios name.
const contractExt = ".yaml"

// MaxFiles bounds how many scenarios and contracts one run reads.
const MaxFiles = 5000

// maxFile bounds the size of one file in bytes.
const maxFile = 1 << 20

// Report is what a run found, file by file, and what of the contracts it tried.
type Report struct {
	Files    []FileReport `json:"files"`
	Coverage Covered      `json:"coverage"`
}

// FileReport is what one scenario file came to.
type FileReport struct {
	File   string        `json:"file"`
	Error  string        `json:"error,omitempty"` // it could not be read or priced, and did not want that
	Months []MonthReport `json:"months,omitempty"`

	tried []tried // the contracts it names, with the branches it took
}

// MonthReport compares one want block with what was priced.
type MonthReport struct {
	Month string `json:"month"`
	Party string `json:"party"`
	Line  int    `json:"line"` // of the want
	Rows  []Row  `json:"rows"`
}

// Row is one line of a want block beside what was got.
type Row struct {
	Name  string `json:"name"`
	Month string `json:"month,omitempty"` // of a late difference
	Want  string `json:"want"`            // "" when nothing was wanted
	Got   string `json:"got"`             // "" when there is no such line
	OK    bool   `json:"ok"`
	Why   string `json:"why,omitempty"`

	Lines []RowLine `json:"lines,omitempty"` // behind a row that is not OK
}

// OK reports whether every file came out as wanted. A run without files is not OK.
func (r Report) OK() bool {
	return len(r.Files) > 0 && !slices.ContainsFunc(r.Files, func(f FileReport) bool { return !f.OK() })
}

// OK reports whether the file came out as wanted.
func (f FileReport) OK() bool {
	return f.Error == "" && !slices.ContainsFunc(f.Months, func(m MonthReport) bool { return !m.OK() })
}

// OK reports whether the month came out as wanted.
func (m MonthReport) OK() bool {
	return !slices.ContainsFunc(m.Rows, func(r Row) bool { return !r.OK })
}

// Wanted counts the compared rows.
func (r Report) Wanted() int {
	n := 0
	for _, f := range r.Files {
		for _, m := range f.Months {
			n += len(m.Rows)
		}
	}
	return n
}

// Run runs the scenario file, or every *.txt below the folder in order of its path.
// Contracts are the *.yaml files beside each scenario; each scenario that wants entries or
// balances gets books of its own, which may be nil where none does. The error is about the
// folder; what is wrong with one file is in the Report.
func Run(path string, books func() Books) (Report, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Report{}, fmt.Errorf("scenarios: %w", err)
	}
	files, contracts := []string{path}, []string(nil)
	if info.IsDir() {
		if files, contracts, err = below(path); err != nil {
			return Report{}, fmt.Errorf("scenarios in %s: %w", path, err)
		}
	}
	switch {
	case len(files) == 0:
		return Report{}, fmt.Errorf("scenarios in %s: no %s file; write one, see docs/scenarios.md", path, Ext)
	case len(files)+len(contracts) > MaxFiles:
		return Report{}, fmt.Errorf("scenarios in %s: %d files, at most %d are read", path, len(files)+len(contracts), MaxFiles)
	}
	var r Report
	for _, f := range files {
		r.Files = append(r.Files, runFile(f, books))
	}
	r.Coverage = covered(r.Files, contracts)
	return r, nil
}

// below lists scenarios and YAML documents below a folder, in order of their paths.
func below(path string) (scenarios, documents []string, err error) {
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || d.IsDir():
		case filepath.Ext(p) == Ext:
			scenarios = append(scenarios, p)
		case filepath.Ext(p) == contractExt:
			documents = append(documents, p)
		}
		return err
	})
	slices.Sort(scenarios)
	slices.Sort(documents)
	return scenarios, documents, err
}

func runFile(path string, books func() Books) FileReport {
	text, err := readFile(path)
	if err != nil {
		return FileReport{File: path, Error: err.Error()}
	}
	load := func(name string) (string, []byte, error) {
		file := filepath.Join(filepath.Dir(path), name+contractExt)
		b, err := readFile(file)
		return filepath.Base(file), b, err
	}
	return RunText(path, text, load, books)
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", path, info.Size(), maxFile)
	}
	return os.ReadFile(path)
}

// Loader finds the contract document that a scenario names, and the name to show.
type Loader func(name string) (file string, text []byte, err error)

// RunText runs one scenario.
func RunText(file string, text []byte, load Loader, books func() Books) FileReport {
	rep := FileReport{File: file}
	s, err := parse(file, text, load)
	if err == nil {
		rep.Months, rep.tried, err = s.run(books)
	}
	wanted := ""
	if s != nil {
		wanted = s.wantError
	}
	switch {
	case err == nil && wanted != "":
		rep.Error = fmt.Sprintf("%s:%d: wanted the error %q, but there was none", file, s.wantErrorLine, wanted)
	case err != nil && wanted == "":
		rep.Error = err.Error()
	case err != nil && !strings.Contains(err.Error(), wanted):
		rep.Error = fmt.Sprintf("%s:%d: wanted an error with %q, got: %v", file, s.wantErrorLine, wanted, err)
	}
	return rep
}

// From names the files as somebody in the folder would: those below it by their path
// from there.
func (r Report) From(folder string) Report {
	prefix := filepath.Clean(folder) + string(filepath.Separator)
	short := func(s string) string { return strings.ReplaceAll(s, prefix, "") }
	shorts := func(list []string) []string {
		var out []string
		for _, s := range list {
			out = append(out, short(s))
		}
		return out
	}
	var out Report
	for _, f := range r.Files {
		f.File, f.Error = short(f.File), short(f.Error)
		out.Files = append(out.Files, f)
	}
	for _, c := range r.Coverage.Contracts {
		c.File, c.Error, c.Scenarios, c.Branches = short(c.File), short(c.Error), shorts(c.Scenarios), slices.Clone(c.Branches)
		for i := range c.Branches {
			c.Branches[i].By = shorts(c.Branches[i].By)
		}
		out.Coverage.Contracts = append(out.Coverage.Contracts, c)
	}
	return out
}
