package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"mete/catalogue"
	"mete/compliance"
	"mete/pricing/scenario"
)

// What is found about scenarios, as IDs begin.
const (
	untried       = "untried"        // no scenario takes a branch of a rule
	scenarioFails = "scenario-fails" // one does not come out as wanted
	coverageShort = "coverage"       // less is tried than --fail-under asks for
)

// scenarioCoverage is what scenarios try of one contract.
type scenarioCoverage struct {
	Contract  string           `json:"contract"`
	File      string           `json:"file,omitempty"`
	Version   int              `json:"version,omitempty"`
	Scenarios []string         `json:"scenarios"` // that name it
	Failed    []failedScenario `json:"failed"`    // of these
	Tried     int              `json:"tried"`     // branches
	Branches  int              `json:"branches"`
	Percent   int              `json:"percent"`
}

// failedScenario is a scenario that does not come out as wanted, and the first thing
// that is not.
type failedScenario struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

func (f failedScenario) String() string { return f.File + ": " + f.Why }

// checkScenarios says what of the contracts no scenario tries: those beside each
// document, or those of the folder that was named. None of it blocks unless it was said
// how much must be tried: a contract may be right without a scenario.
func checkScenarios(ctx context.Context, _ *app, in checkInput) (checked, error) {
	return untilStopped(ctx, in.scenarioFindings)
}

func (in checkInput) scenarioFindings() (checked, error) {
	out := checked{}
	var without []string
	folders := map[string]scenario.Folder{}
	for _, s := range in.standing() {
		name := s.Terms.Contract
		if s.File == "" && in.scenarios == "" {
			out.notes = append(out.notes, fmt.Sprintf("No scenario of %s was looked for: it is a recorded contract; --scenarios DIR names the folder of its scenarios.", name))
			continue
		}
		dir := in.scenarios
		if dir == "" {
			dir = filepath.Dir(s.File)
		}
		if _, ok := folders[dir]; !ok {
			f, err := scenario.OpenFolder(dir, in.scenarios != "")
			if errors.Is(err, fs.ErrNotExist) {
				err = usageError(err)
			}
			if err != nil {
				return out, err
			}
			folders[dir] = f
		}
		c, failed, err := folders[dir].Coverage(documentOf(s, in.scenarios != ""), scenarioBooks)
		if err != nil {
			return out, err
		}
		cov := scenarioCoverage{Contract: name, File: s.File, Version: s.Number, Scenarios: []string{}, Failed: []failedScenario{}, Percent: c.Percent()}
		cov.Tried, cov.Branches = c.Counts()
		for _, f := range c.Scenarios {
			cov.Scenarios = append(cov.Scenarios, in.shown(f))
		}
		for _, f := range failed {
			cov.Failed = append(cov.Failed, failedScenario{in.shown(f.File), strings.ReplaceAll(f.Why(), f.File, in.shown(f.File))})
		}
		out.coverage = append(out.coverage, cov)
		if len(c.Scenarios) == 0 {
			without = append(without, name)
		} else {
			out.findings = append(out.findings, in.untried(s, c)...)
		}
		out.findings = append(out.findings, in.lacking(s, cov)...)
	}
	if len(without) > 0 {
		where := "beside the documents"
		if in.scenarios != "" {
			where = "in " + in.shown(in.scenarios)
		}
		out.notes = append(out.notes, fmt.Sprintf("No scenario %s names %s: nothing of it is tried. A scenario says in plain text what happens and what must come of it; mete test runs it.", where, listed(without)))
	}
	return out, nil
}

// documentOf is the contract as scenarios find it: by the name of its file, and in a
// folder that was named also by its own, so that a draft is tried by the scenarios of
// what is in force.
func documentOf(s catalogue.Standing, named bool) scenario.Document {
	d := scenario.Document{File: s.File, Text: []byte(s.TermsText())}
	if s.File != "" {
		d.Names = []string{strings.TrimSuffix(filepath.Base(s.File), filepath.Ext(s.File))}
		d.Beside = filepath.Dir(s.File)
	} else {
		d.File = fmt.Sprintf("%s version %d", s.Terms.Contract, s.Number)
	}
	if (named || s.File == "") && (len(d.Names) == 0 || d.Names[0] != s.Terms.Contract) {
		d.Names = append(d.Names, s.Terms.Contract)
	}
	return d
}

// untried are the rules of which a branch was not taken, each at its place.
func (in checkInput) untried(s catalogue.Standing, c scenario.CoveredContract) []checkFinding {
	at := map[string]string{}
	for i, r := range s.Terms.Rules {
		at[r.ID] = fmt.Sprintf("rules[%d]", i)
	}
	var out []checkFinding
	for _, u := range c.Untried() {
		what := fmt.Sprintf("%d of %d branches that no scenario takes: %s", len(u.Branches), u.Of, strings.Join(u.Branches, "; "))
		if len(u.Branches) == u.Of {
			what = "no scenario tries this rule: " + strings.Join(u.Branches, "; ")
		}
		f := in.scenarioFinding(s, untried, at[u.Rule], "What no scenario tries", what, "write a scenario that takes it, and wants what must come of it")
		f.ID, f.ContractRule, f.Untried = untried+"/"+u.Rule, u.Rule, u.Branches
		out = append(out, f)
	}
	return out
}

// lacking says that scenarios fail or try too little. What fails shows nothing of the
// rules that it tries, so where something must be tried it blocks as well.
func (in checkInput) lacking(s catalogue.Standing, cov scenarioCoverage) []checkFinding {
	var out []checkFinding
	if n := len(cov.Failed); n > 0 {
		var texts []string
		for _, f := range cov.Failed {
			texts = append(texts, f.String())
		}
		f := in.scenarioFinding(s, scenarioFails, "rules", "A scenario that does not come out as wanted",
			fmt.Sprintf("%d of %d scenarios fail: %s", n, len(cov.Scenarios), strings.Join(texts, "; ")),
			"change the terms or the scenario; mete test shows all of what was wanted beside what came of it")
		f.Blocks = in.least > 0
		out = append(out, f)
	}
	if cov.Percent < in.least {
		f := in.scenarioFinding(s, coverageShort, "rules", "Scenarios try too little",
			fmt.Sprintf("scenarios try %d of %d branches, %d%%; --fail-under asks for %d%%", cov.Tried, cov.Branches, cov.Percent, in.least),
			"write scenarios for what is not tried")
		f.Blocks = true
		out = append(out, f)
	}
	for i := range out {
		if out[i].Blocks {
			out[i].Severity = compliance.Block
		}
	}
	return out
}

func (in checkInput) scenarioFinding(s catalogue.Standing, id, field, title, what, do string) checkFinding {
	f := checkFinding{File: s.File, Version: s.Number, Field: field, Finding: compliance.Finding{ID: id, Rule: id, Severity: compliance.Flag, Title: title,
		Citation: []string{}, Contract: s.Terms.Contract, What: what, Do: do}}
	f.Line, f.Column = s.Place(field)
	return f
}

// shown is a path as whoever asks would write it.
func (in checkInput) shown(path string) string {
	if rel, err := filepath.Rel(in.cwd, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// maxContractsNamed bounds how many contracts a note names.
const maxContractsNamed = 5

func listed(contracts []string) string {
	if n := len(contracts); n > maxContractsNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(contracts[:maxContractsNamed], ", "), n-maxContractsNamed)
	}
	return strings.Join(contracts, ", ")
}
