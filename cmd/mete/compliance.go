package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"mete/billing"
	"mete/catalogue"
	"mete/compliance"
	"mete/ledger"
	"mete/period"
)

func complianceCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "compliance", Short: "Compare rates of a class; pack fees, methods and costs for inspection"}
	c.AddCommand(uniformityCommand(e), packageCommand(e))
	return c
}

// uniformity is rates by class with what has to be said beside them.
type uniformity struct {
	Notice string               `json:"notice"`
	On     period.Date          `json:"on"`
	Things []compliance.Uniform `json:"things"`
}

func uniformityCommand(e *env) *cobra.Command {
	var on string
	c := command(e, "uniformity", "Compare the rates of all partners, class by class, on a day", "mete compliance uniformity --on 2026-10-01",
		func(ctx context.Context, a *app, _ []string) error {
			day, err := a.dayOr(ctx, e, on)
			if err != nil {
				return err
			}
			all, facts, err := a.catalogue.TermsOn(ctx, day)
			if err != nil {
				return err
			}
			u := uniformity{compliance.Notice, day, compliance.Uniformity(facts, all)}
			return e.print(u, u.write)
		})
	c.Flags().StringVar(&on, "on", "", "day on which the terms are in force (default today)")
	return c
}

func (u uniformity) write(w io.Writer) error {
	fmt.Fprintf(w, "Rates in force on %s\n", u.On)
	unequal := 0
	for _, t := range u.Things {
		verdict := "equal"
		if !t.Equal {
			verdict = "unequal"
			unequal++
		}
		fmt.Fprintf(w, "\n%s: %s\n", t.Thing, verdict)
		var rows [][]string
		for _, r := range t.Rates {
			criterion := r.Criterion
			if criterion == "" && !t.Equal {
				criterion = "none recorded"
			}
			rows = append(rows, []string{string(r.Partner), fmt.Sprintf("%s v%d", r.Contract, r.Version), r.Rule, r.Rate, criterion})
		}
		if err := table(w, []string{"partner", "contract", "rule", "rate", "criterion"}, rows); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\n%d things priced, %d unequally\n%s\n", len(u.Things), unequal, compliance.Notice)
	return err
}

// maxPackMonths bounds the months of one package.
const maxPackMonths = 120

// packed is what a package came to.
type packed struct {
	Notice string            `json:"notice"`
	Folder string            `json:"folder"`
	Files  []compliance.File `json:"files"`
}

func packageCommand(e *env) *cobra.Command {
	var from, until string
	c := command(e, "package DIR", "Write fees charged, methods and cost bases of closed months to a folder", "mete compliance package fees-2026 --from 2026-07 --until 2026-09",
		func(ctx context.Context, a *app, args []string) error {
			first, err := typed(period.ParseMonth, "--from", from)
			if err != nil {
				return err
			}
			last, err := typed(period.ParseMonth, "--until", until)
			if err != nil {
				return err
			}
			in, err := a.packInput(ctx, first, last)
			if err != nil {
				return err
			}
			files, err := compliance.Pack(in)
			if err != nil {
				return err
			}
			dir := e.path(args[0])
			if err := writePack(dir, files); err != nil {
				return usageError(err)
			}
			index := files[len(files)-1]
			return e.say(packed{compliance.Notice, dir, files}, "%d files written to %s: %d fee lines, %d contract versions\n%s  %s\n%s",
				len(files), dir, len(in.Lines), len(in.Methods), index.SHA256, index.Name, compliance.Notice)
		})
	c.Flags().StringVar(&from, "from", "", "first month")
	c.Flags().StringVar(&until, "until", "", "last month")
	required(c, "from", "until")
	return c
}

// writePack writes the files, the index last. A file that is there must hold the same:
// a package is evidence, and is not written over.
func writePack(dir string, files []compliance.File) error {
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		was, err := os.ReadFile(name)
		if err == nil && bytes.Equal(was, f.Content) {
			continue
		}
		if err == nil {
			return fmt.Errorf("%s is there and holds something else: name a new folder", name)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, f.Content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// packInput gathers what was booked on the statements of the months, and how each of
// it was computed.
func (a *app) packInput(ctx context.Context, from, until period.Month) (compliance.PackInput, error) {
	in := compliance.PackInput{From: from, Until: until}
	if until.Before(from) || from.Add(maxPackMonths).Compare(until) <= 0 {
		return in, usageError(fmt.Errorf("--from %s --until %s: want 1 to %d months, the first one first", from, until, maxPackMonths))
	}
	methods := map[catalogue.Ref]bool{}
	for m := from; !until.Before(m); m = m.Add(1) {
		snap, err := a.closedCatalogue(ctx, m)
		if err != nil {
			return in, err
		}
		in.Entity = snap.Marketplace.Entity
		rs, err := a.closer.Store.Statements(ctx, m, "")
		if err != nil {
			return in, err
		}
		for _, r := range rs {
			for _, l := range r.Lines {
				if !isFee(l) {
					continue
				}
				in.Lines = append(in.Lines, feeLine(r, l))
				if l.Rule == "" || methods[catalogue.Ref{ID: l.Contract, Number: l.Version}] {
					continue
				}
				methods[catalogue.Ref{ID: l.Contract, Number: l.Version}] = true
				method, err := a.method(ctx, snap, l.Contract, l.Version)
				if err != nil {
					return in, err
				}
				in.Methods = append(in.Methods, method)
			}
		}
	}
	return in, nil
}

// closedCatalogue is the catalogue that a closed month was priced under.
func (a *app) closedCatalogue(ctx context.Context, m period.Month) (*catalogue.Snapshot, error) {
	status, err := a.closer.Store.Month(ctx, m)
	if err != nil {
		return nil, err
	}
	if status.State != ledger.Closed || status.Manifest == nil {
		return nil, usageError(fmt.Errorf("%s is %s: a package is of closed months", m, cmp.Or(string(status.State), "open")))
	}
	return a.catalogue.FromRefs(ctx, status.Manifest.Catalogue)
}

// isFee reports whether a line is a fee, a commission or an adjustment, and not money
// that customers paid or got back.
func isFee(l billing.Line) bool {
	switch l.Part {
	case "sales", "refunds", "chargebacks", "written_off", "collected", "accrued", "contested":
		return false
	}
	return true
}

func feeLine(r billing.StatementRecord, l billing.Line) compliance.FeeLine {
	f := compliance.FeeLine{Month: r.Month, Statement: string(r.ID), Number: l.Number, Partner: r.Partner, Payer: l.Payer, Contract: l.Contract, Version: l.Version,
		Rule: l.Rule, Kind: l.Kind, Class: cmp.Or(l.Class, l.Events.Class), Text: l.Text, Rate: l.Rate, Amount: l.Amount, Corrects: l.Corrects}
	if !l.Quantity.IsZero() {
		f.Quantity = l.Quantity.String()
	}
	if l.Base != nil {
		f.Base = l.Base.Plain()
	}
	return f
}

// method is one version of a contract in words, with its approvals.
func (a *app) method(ctx context.Context, snap *catalogue.Snapshot, contract string, version int) (compliance.Method, error) {
	m := compliance.Method{Contract: contract, Version: version, Costs: map[string]string{}, Criteria: map[string]string{}, Approvals: []compliance.Approval{}}
	v, terms, err := a.catalogue.TermsOf(ctx, contract, version)
	if err != nil {
		return m, err
	}
	m.Document, m.Schedule = v.Document, compliance.ScheduleOf(snap.Facts(), terms, nil)
	for _, r := range terms.Rules {
		if r.CostBasis != "" {
			m.Costs[r.ID] = r.CostBasis
		}
		if r.Criterion != nil {
			m.Criteria[r.ID] = r.Criterion.Basis + ": " + r.Criterion.Text
		}
	}
	for _, d := range v.Decisions {
		if d.Verdict == catalogue.Approve {
			m.Approvals = append(m.Approvals, compliance.Approval{By: d.By.String(), At: d.At.Format(time.RFC3339), Found: d.Screen})
		}
	}
	return m, nil
}
