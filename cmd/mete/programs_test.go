package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mete/catalogue"
)

// programs is the library of published programmes.
const programs = "../../examples/programs"

// minPrograms is how many programmes the library has at least.
const minPrograms = 15

// Every programme comes out as its scenarios say, with every rule, step and refund tried,
// and a catalogue can read it.
func TestPrograms(t *testing.T) {
	dir, err := filepath.Abs(programs)
	if err != nil {
		t.Fatal(err)
	}
	a := (&desk{t: t}).want(exitOK, "test", dir, "--coverage", "--fail-under", "100%")
	t.Log(a.out[strings.LastIndex(strings.TrimSpace(a.out), "\n")+1:])
	if strings.Contains(a.out, "no scenario names it") || !strings.Contains(a.out, ", 100%\n") {
		t.Error(a.out)
	}
	for _, name := range programNames(t) {
		docs, err := catalogue.ReadDir(filepath.Join(programs, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, d := range docs.Objects {
			if d.Kind != catalogue.KindContract {
				t.Errorf("%s: %s %s is no contract", name, d.Kind, d.ID)
			}
		}
	}
}

func programNames(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(programs)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if len(names) < minPrograms {
		t.Errorf("%d programmes, want %d", len(names), minPrograms)
	}
	return names
}

// A row of the table says what a programme's contracts say, where that is published and
// since when, and what they leave out.
var (
	programRow  = regexp.MustCompile(`^\| \[([a-z-]+)\]\(([a-z-]+)/\) \|([^|]+)\|([^|]+)\|([^|]+)\|$`)
	sourceLink  = regexp.MustCompile(`\]\(https?://[^)\s]+\)`)
	sourceDated = regexp.MustCompile(`\]\(https?://[^)\s]+\), (undated|[0-9]{4}(-[0-9]{2}){0,2})`)
)

func TestProgramsHaveSources(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(programs, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if m := programRow.FindStringSubmatch(line); m != nil && m[1] == m[2] {
			rows[m[1]] = m[3:]
		} else if strings.HasPrefix(line, "| [") {
			t.Errorf("not a row about a programme: %s", line)
		}
	}
	names := programNames(t)
	for _, name := range names {
		row := rows[name]
		if row == nil {
			t.Errorf("%s has no row in README.md", name)
			continue
		}
		links := len(sourceLink.FindAllString(row[1], -1))
		if dated := len(sourceDated.FindAllString(row[1], -1)); links == 0 || dated != links {
			t.Errorf("%s: %d sources, %d with a date: %s", name, links, dated, row[1])
		}
		for i, cell := range row {
			if len(strings.TrimSpace(cell)) < len("nothing") {
				t.Errorf("%s: cell %d says nothing", name, i+2)
			}
		}
	}
	if len(rows) != len(names) {
		t.Errorf("%d rows for %d programmes", len(rows), len(names))
	}
}

// Every scenario shows the arithmetic of what it wants.
func TestProgramsShowTheirArithmetic(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(programs, "*", "*.txt"))
	if err != nil || len(files) < minPrograms {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "# ") {
			t.Errorf("%s: the first line does not say what it is about", f)
		}
		if !regexp.MustCompile(`(?m)#.*[×÷+]`).Match(text) {
			t.Errorf("%s: no arithmetic in a comment", f)
		}
	}
}
