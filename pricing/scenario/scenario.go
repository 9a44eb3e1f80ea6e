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

// MaxFiles bounds how many scenario files one run reads.
const MaxFiles = 5000

// maxFile bounds the size of one file in bytes.
const maxFile = 1 << 20

// Report is what a run found, file by file.
type Report struct {
	Files []FileReport `json:"files"`
}

// FileReport is what one scenario file came to.
type FileReport struct {
	File   string        `json:"file"`
	Error  string        `json:"error,omitempty"` // it could not be read or priced, and did not want that
	Months []MonthReport `json:"months,omitempty"`
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
// Contracts are the *.yaml files beside each scenario. The error is about the folder;
// what is wrong with one file is in the Report.
func Run(path string) (Report, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Report{}, fmt.Errorf("scenarios: %w", err)
	}
	files := []string{path}
	if info.IsDir() {
		files = nil
		err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && filepath.Ext(p) == Ext {
				files = append(files, p)
			}
			return err
		})
		if err != nil {
			return Report{}, fmt.Errorf("scenarios in %s: %w", path, err)
		}
		slices.Sort(files)
	}
	switch {
	case len(files) == 0:
		return Report{}, fmt.Errorf("scenarios in %s: no %s file; write one, see docs/scenarios.md", path, Ext)
	case len(files) > MaxFiles:
		return Report{}, fmt.Errorf("scenarios in %s: %d files, at most %d are run", path, len(files), MaxFiles)
	}
	var r Report
	for _, f := range files {
		r.Files = append(r.Files, runFile(f))
	}
	return r, nil
}

func runFile(path string) FileReport {
	text, err := readFile(path)
	if err != nil {
		return FileReport{File: path, Error: err.Error()}
	}
	load := func(name string) (string, []byte, error) {
		file := filepath.Join(filepath.Dir(path), name+".yaml")
		b, err := readFile(file)
		return filepath.Base(file), b, err
	}
	return RunText(path, text, load)
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
func RunText(file string, text []byte, load Loader) FileReport {
	rep := FileReport{File: file}
	s, err := parse(file, text, load)
	if err == nil {
		rep.Months, err = s.run()
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

// String is the report for people: one line per file that is as wanted, the rows side
// by side where it is not.
func (r Report) String() string {
	var b strings.Builder
	failed := 0
	for _, f := range r.Files {
		b.WriteString(f.String())
		if !f.OK() {
			failed++
		}
	}
	fmt.Fprintf(&b, "%d scenarios, %d lines compared, %d failed\n", len(r.Files), r.Wanted(), failed)
	return b.String()
}

func (f FileReport) String() string {
	if f.OK() {
		return "ok    " + f.File + "\n"
	}
	var b strings.Builder
	b.WriteString("FAIL  " + f.File + "\n")
	if f.Error != "" {
		b.WriteString("      " + strings.ReplaceAll(f.Error, "\n", "\n      ") + "\n")
	}
	for _, m := range f.Months {
		if m.OK() {
			continue
		}
		fmt.Fprintf(&b, "      %s:%d: %s, %s\n", f.File, m.Line, m.Month, m.Party)
		width := len("line")
		for _, r := range m.Rows {
			width = max(width, len(r.label()))
		}
		fmt.Fprintf(&b, "        %-*s %18s %18s\n", width, "line", "want", "got")
		for _, r := range m.Rows {
			mark := " "
			if !r.OK {
				mark = "!"
			}
			line := fmt.Sprintf("      %s %-*s %18s %18s  %s", mark, width, r.label(), orDash(r.Want), orDash(r.Got), r.Why)
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	}
	return b.String()
}

func (r Row) label() string {
	if r.Month != "" {
		return r.Name + " " + r.Month
	}
	return r.Name
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}
