package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mete/catalogue"
	"mete/compliance"
	"mete/period"
	"mete/pricing"
	"mete/review"
)

// contractCheck is one thing that contract check looks at. To add one, write it below
// and put it into contractChecks; it sees contracts as documents or as a recorded
// version, and an open data folder or none.
type contractCheck struct {
	name string
	run  func(ctx context.Context, a *app, in checkInput) (checked, error)
}

var contractChecks = []contractCheck{{"compliance", checkCompliance}, {"terms", checkTerms}, {"scenarios", checkScenarios}}

// checked is what one check found.
type checked struct {
	findings []checkFinding
	notes    []string
	coverage []scenarioCoverage
}

// checkInput is what is checked: documents, or one version.
type checkInput struct {
	docs    *catalogue.Documents
	version *catalogue.Version
	at      time.Time
	beside  catalogue.Beside
	review  review.Settings

	cwd       string // of whoever asks
	scenarios string // the folder of scenarios; empty: those beside each document
	least     int    // percent of the branches that scenarios must try; 0: none
}

// checkFinding is one thing that a check found.
type checkFinding struct {
	Check   string `json:"check"`
	Blocks  bool   `json:"blocks"` // the contract should not be agreed like this: exit code 1
	File    string `json:"file,omitempty"`
	Version int    `json:"version,omitempty"`
	Column  int    `json:"column"`
	Field   string `json:"field,omitempty"`
	compliance.Finding
	Untried []string `json:"untried,omitempty"` // branches of the rule that no scenario takes
}

// checkReport is what all checks found.
type checkReport struct {
	Notice    string             `json:"notice"`
	Contracts int                `json:"contracts"`
	Notes     []string           `json:"notes"` // what a reader must know to read the rest
	Findings  []checkFinding     `json:"findings"`
	Coverage  []scenarioCoverage `json:"coverage"` // by scenarios, of each contract whose scenarios were looked for
}

func contractCheckCommand(e *env) *cobra.Command {
	var scenarios, under string
	c := &cobra.Command{
		Use: "check FILE|DIR|CONTRACT", Short: "Hold a contract against named rules, other contracts, the house's limits and its scenarios before it is agreed", Args: positional,
		Example: "  mete contract check contracts/northwind.yaml\n  mete contract check northwind-agreement --scenarios scenarios/ --json\n  mete contract check contracts/ --fail-under 90%",
		RunE: func(c *cobra.Command, args []string) error {
			in := checkInput{at: e.now(), cwd: e.cwd}
			var err error
			if in.least, err = percentFlag("--fail-under", under); err != nil {
				return err
			}
			if scenarios != "" {
				in.scenarios = e.path(scenarios)
			}
			docs, err := e.documents(args[0])
			if err != nil {
				return usageError(err)
			}
			if docs == nil && in.least > 0 && scenarios == "" {
				return usageError(fmt.Errorf("--fail-under: a recorded contract has no scenarios beside it; name their folder with --scenarios DIR"))
			}
			in.docs = docs
			if docs != nil && e.app == nil && !isDataFolder(e.path(e.dir)) {
				if err := docs.Check(); err != nil {
					return usageError(err)
				}
				return e.runChecks(c.Context(), nil, in)
			}
			return e.withApp(c.Context(), options{}, func(ctx context.Context, a *app) error {
				var err error
				if docs != nil {
					_, err = a.catalogue.Plan(ctx, *docs)
				} else {
					in.version, err = a.waitingVersion(ctx, args[0])
				}
				if err != nil {
					return usageError(err)
				}
				return e.runChecks(ctx, a, in)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&scenarios, "scenarios", "", "folder of the scenarios that try the contract (default: those beside each document)")
	f.StringVar(&under, "fail-under", "", "block when scenarios try less of a contract, such as 90%, or fail")
	return c
}

// documents are those of the file or folder, nil if the word names neither.
func (e *env) documents(word string) (*catalogue.Documents, error) {
	path := e.path(word)
	st, err := os.Stat(path)
	if err != nil {
		if strings.ContainsAny(word, `/\`) || strings.HasSuffix(word, ".yaml") || strings.HasSuffix(word, ".yml") {
			return nil, err
		}
		return nil, nil
	}
	read := catalogue.ReadFile
	if st.IsDir() {
		read = catalogue.ReadDir
	}
	docs, err := read(path)
	return &docs, err
}

// waitingVersion is the version of a contract that waits for a decision, or else the
// last.
func (a *app) waitingVersion(ctx context.Context, contract string) (*catalogue.Version, error) {
	ref, err := a.waiting(ctx, contract, 0)
	if err != nil {
		return nil, err
	}
	vs, err := a.catalogue.History(ctx, catalogue.KindContract, contract)
	if err != nil {
		return nil, err
	}
	for i := range vs {
		if vs[i].Ref == ref {
			return &vs[i], nil
		}
	}
	return nil, fmt.Errorf("%s: %w", ref, catalogue.ErrUnknown)
}

func (e *env) runChecks(ctx context.Context, a *app, in checkInput) error {
	r := checkReport{Notice: compliance.Notice, Findings: []checkFinding{}, Notes: []string{}, Coverage: []scenarioCoverage{}, Contracts: 1}
	if in.docs != nil {
		r.Contracts = 0
		for _, o := range in.docs.Objects {
			if o.Terms != nil {
				r.Contracts++
			}
		}
	}
	if r.Contracts == 0 {
		return usageError(fmt.Errorf("no contract to check: name a file or folder that holds one, or a recorded contract"))
	}
	var err error
	if in.beside, err = a.beside(ctx, in.docs); err != nil {
		return err
	}
	if in.review, err = e.reviewSettings(in); err != nil {
		return err
	}
	blocks := false
	for _, check := range contractChecks {
		found, err := check.run(ctx, a, in)
		if err != nil {
			return fmt.Errorf("check %s: %w", check.name, err)
		}
		r.Notes, r.Coverage = append(r.Notes, found.notes...), append(r.Coverage, found.coverage...)
		for _, f := range found.findings {
			f.Check = check.name
			blocks = blocks || f.Blocks
			r.Findings = append(r.Findings, f)
		}
	}
	slices.SortStableFunc(r.Findings, func(x, y checkFinding) int {
		return cmp.Or(strings.Compare(x.File, y.File), strings.Compare(x.Contract, y.Contract), cmp.Compare(x.Line, y.Line), cmp.Compare(x.Column, y.Column))
	})
	return e.check(blocks, r, func(w io.Writer) error { return r.write(w) })
}

// reviewSettings are the limits of mete.yaml, and today.
func (e *env) reviewSettings(in checkInput) (review.Settings, error) {
	cfg, err := e.readConfig()
	if err != nil {
		return review.Settings{}, err
	}
	zone := cmp.Or(in.beside.Market.Zone, time.UTC)
	set := review.Settings{On: period.DateOf(in.at, zone)}
	set.Ceiling, set.Reference, err = cfg.Contracts.limits()
	return set, err
}

// standing are the contracts that are checked, as they stand beside the others.
func (in checkInput) standing() []catalogue.Standing {
	return slices.DeleteFunc(slices.Clone(in.beside.Contracts), func(s catalogue.Standing) bool {
		if in.version != nil {
			return s.Terms.Contract != in.version.ID || s.Number != in.version.Number
		}
		return s.File == ""
	})
}

// checkTerms is the review of package review.
func checkTerms(_ context.Context, _ *app, in checkInput) (out checked, err error) {
	for _, s := range in.standing() {
		for _, f := range review.Contract(in.beside, s, in.review) {
			severity := compliance.Flag
			if f.Blocks {
				severity = compliance.Block
			}
			out.findings = append(out.findings, checkFinding{Blocks: f.Blocks, File: s.File, Version: s.Number, Column: f.Column, Field: f.Field,
				Finding: compliance.Finding{ID: f.ID, Rule: strings.SplitN(f.ID, "/", 2)[0], Severity: severity, Title: f.Title, Citation: []string{},
					Contract: s.Terms.Contract, ContractRule: f.Rule, Line: f.Line, What: f.What, Do: f.Do}})
		}
	}
	return out, nil
}

// checkCompliance is the screen of package compliance.
func checkCompliance(ctx context.Context, a *app, in checkInput) (out checked, err error) {
	screened, err := screen(ctx, a, in)
	if err != nil {
		return out, err
	}
	for _, s := range screened {
		for _, f := range s.Findings {
			out.findings = append(out.findings, checkFinding{Blocks: f.Severity == compliance.Block, File: s.File, Version: s.Version, Column: in.column(s, f), Finding: f})
		}
	}
	if len(screened) > 0 && screened[0].Settings.Actor == "" && !screened[0].Settings.CertifiedDeveloper {
		out.notes = append(out.notes, "The marketplace says neither certified_developer nor actor: only the rules for anyone were applied.")
	}
	return out, nil
}

// column is where the rule of a finding begins in its line.
func (in checkInput) column(s catalogue.Screened, f compliance.Finding) int {
	for _, c := range in.standing() {
		i := slices.IndexFunc(c.Terms.Rules, func(r pricing.Rule) bool { return r.ID == f.ContractRule })
		if c.Terms.Contract == s.Contract && c.File == s.File && i >= 0 {
			if line, column := c.Place(fmt.Sprintf("rules[%d]", i)); line == f.Line {
				return column
			}
		}
	}
	return 1
}

func screen(ctx context.Context, a *app, in checkInput) ([]catalogue.Screened, error) {
	switch {
	case in.version != nil:
		s, err := a.catalogue.ScreenVersion(ctx, *in.version, in.at)
		return []catalogue.Screened{s}, err
	case a == nil:
		return in.docs.Screen(in.at)
	}
	return a.catalogue.ScreenDocuments(ctx, *in.docs, in.at)
}

func (r checkReport) write(w io.Writer) error {
	count := map[compliance.Severity]int{}
	for _, f := range r.Findings {
		count[f.Severity]++
		writeFinding(w, f.where(), f.Finding)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, n)
	}
	for _, c := range r.Coverage {
		if len(c.Scenarios) > 0 {
			fmt.Fprintf(w, "%s: %s, %d of %d branches tried, %d%%\n", c.Contract, things(len(c.Scenarios), "scenario"), c.Tried, c.Branches, c.Percent)
		}
	}
	_, err := fmt.Fprintf(w, "%s, %d rules: %d block, %d need counsel, %d flagged\n%s\n", things(r.Contracts, "contract"), len(compliance.Rules()),
		count[compliance.Block], count[compliance.Counsel], count[compliance.Flag], r.Notice)
	return err
}

// where is the place of a finding: in a file, or in the document of a version.
func (f checkFinding) where() string {
	if f.File != "" {
		return fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
	}
	return fmt.Sprintf("%s version %d, line %d, column %d", f.Contract, f.Version, f.Line, f.Column)
}

func writeFinding(w io.Writer, where string, f compliance.Finding) {
	fmt.Fprintf(w, "%s: %s %s\n  %s\n  %s\n", where, f.Severity, f.ID, f.Title, f.What)
	if len(f.Citation) > 0 {
		fmt.Fprintf(w, "  %s\n", strings.Join(f.Citation, "; "))
	}
	fmt.Fprintf(w, "  to do: %s\n", f.Do)
	writeCleared(w, "  ", f)
}

// writeCleared says what let a finding pass.
func writeCleared(w io.Writer, margin string, f compliance.Finding) {
	if o := f.Override; o != nil {
		fmt.Fprintf(w, "%soverridden by %s, role legal: %s\n", margin, o.By, o.Reason)
	}
	if c := f.Counsel; c != nil {
		fmt.Fprintf(w, "%scounsel: %s, matter %s, %s, said by %s\n", margin, c.Counsel, c.Matter, c.On, c.By)
	}
}

// writeScreens says what was found when versions were approved, and who overrode what.
func writeScreens(w io.Writer, vs []catalogue.Version) {
	said := false
	for _, v := range vs {
		for _, d := range v.Decisions {
			if d.Screen == nil {
				continue
			}
			said = true
			fmt.Fprintf(w, "\nv%d, screened when %s approved it: %d findings\n", v.Number, d.By, len(d.Screen.Findings))
			for _, f := range d.Screen.Findings {
				fmt.Fprintf(w, "  %s %s, line %d: %s (%s)\n", f.Severity, f.ID, f.Line, f.What, strings.Join(f.Citation, "; "))
				writeCleared(w, "    ", f)
			}
		}
		for _, o := range v.Overrides {
			fmt.Fprintf(w, "v%d, %s overridden by %s, role %s, on %s: %s\n", v.Number, o.Finding, o.By, o.Role, o.At.Format(time.DateOnly), o.Reason)
		}
	}
	if said {
		fmt.Fprintln(w, compliance.Notice)
	}
}

func contractOverrideCommand(e *env) *cobra.Command {
	var number int
	var finding, role, reason string
	c := act(e, "override CONTRACT", "Let a finding not block (role legal; another person approves)",
		`mete contract override northwind-agreement --finding certified-api-price/calls --role legal --reason "as agreed with ONC, letter 12" --as l.haas`,
		func(ctx context.Context, a *app, by string, args []string) error {
			ref, err := a.waiting(ctx, args[0], number)
			if err != nil {
				return usageError(err)
			}
			v, err := a.catalogue.Override(ctx, catalogue.Override{Ref: ref, Finding: finding, Role: role, Reason: reason,
				By: catalogue.Person{Name: by, Unauthenticated: true}, At: e.now()})
			if err != nil {
				return usageError(err)
			}
			return e.say(overridden{v, compliance.Notice}, "%s no longer blocks %s version %d, when another person than %s approves it.\n%s", finding, v.ID, v.Number, by, compliance.Notice)
		})
	f := c.Flags()
	f.StringVar(&finding, "finding", "", "ID of the finding, as contract check prints it")
	f.StringVar(&role, "role", "", "role in which you decide: legal")
	f.StringVar(&reason, "reason", "", "why the terms may stand")
	f.IntVar(&number, "version", 0, versionUsage)
	required(c, "finding", "role", "reason")
	return c
}

// overridden is a version after an override, with what has to be said beside it.
type overridden struct {
	catalogue.Version
	Notice string `json:"notice"`
}

// counselFlags are the references to counsel of an approval, one after the other.
type counselFlags struct{ findings, counsel, matters, dates []string }

func (f *counselFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.findings, "finding", nil, "finding that the next reference to counsel is for; needed with more than one")
	c.Flags().StringArrayVar(&f.counsel, "counsel", nil, "who was asked, where a finding needs counsel")
	c.Flags().StringArrayVar(&f.matters, "matter", nil, "counsel's number of the matter; never the advice")
	c.Flags().StringArrayVar(&f.dates, "date", nil, "day of the reference")
}

func (f *counselFlags) read() ([]catalogue.CounselFor, error) {
	n := len(f.counsel)
	if len(f.matters) != n || len(f.dates) != n || len(f.findings) != n && (len(f.findings) > 0 || n > 1) {
		return nil, usageError(fmt.Errorf("%d --counsel, %d --matter, %d --date, %d --finding: give all of them once for each finding that needs counsel; --finding may be left out if there is only one",
			n, len(f.matters), len(f.dates), len(f.findings)))
	}
	out := make([]catalogue.CounselFor, n)
	for i := range out {
		on, err := typed(period.ParseDate, "--date", f.dates[i])
		if err != nil {
			return nil, err
		}
		out[i].Reference = compliance.Reference{Counsel: f.counsel[i], Matter: f.matters[i], On: on}
		if len(f.findings) > 0 {
			out[i].Finding = f.findings[i]
		}
	}
	return out, nil
}

func contractScheduleCommand(e *env) *cobra.Command {
	var on, form string
	c := command(e, "schedule [CONTRACT]", "Print the fee schedule in plain language: who pays, for what, how much", "mete contract schedule northwind-agreement --format markdown",
		func(ctx context.Context, a *app, args []string) error {
			if form != compliance.Text && form != compliance.Markdown {
				return usageError(fmt.Errorf("--format %q: want %s or %s", form, compliance.Text, compliance.Markdown))
			}
			day, err := a.dayOr(ctx, e, on)
			if err != nil {
				return err
			}
			list, err := a.schedules(ctx, day, args)
			if err != nil {
				return usageError(err)
			}
			return e.print(list, func(w io.Writer) error { return compliance.WriteSchedules(w, form, list) })
		})
	c.Flags().StringVar(&on, "on", "", "day on which the terms are in force (default today)")
	c.Flags().StringVar(&form, "format", compliance.Text, "text or markdown")
	return c
}

// dayOr is the day typed after --on, or today in the marketplace's zone.
func (a *app) dayOr(ctx context.Context, e *env, on string) (period.Date, error) {
	day, err := optional(period.ParseDate, "--on", on)
	if err != nil || !day.IsZero() {
		return day, err
	}
	snap, err := a.catalogue.Current(ctx)
	if err != nil {
		return day, err
	}
	return period.DateOf(e.now(), snap.Marketplace.Zone), nil
}

// schedules are those of the named contract, or of all, in force on the day.
func (a *app) schedules(ctx context.Context, day period.Date, names []string) ([]compliance.Schedule, error) {
	all, facts, err := a.catalogue.TermsOn(ctx, day)
	if err != nil {
		return nil, err
	}
	list := []compliance.Schedule{}
	for _, t := range all {
		if len(names) > 0 && t.Contract != names[0] {
			continue
		}
		next, err := a.catalogue.NextTerms(ctx, t.Contract, day)
		if err != nil {
			return nil, err
		}
		list = append(list, compliance.ScheduleOf(facts, t, next))
	}
	if len(list) == 0 {
		what := "no contract"
		if len(names) > 0 {
			what = "no version of " + names[0]
		}
		return nil, fmt.Errorf("%s is in force on %s; mete contract list shows what waits for a decision, --on DAY asks for another day", what, day)
	}
	return list, nil
}
