package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"mete/catalogue"
)

func contractHistoryCommand(e *env) *cobra.Command {
	return command(e, "history CONTRACT", "All versions of a contract: who proposed, approved, was notified of and accepted each, and what was found", "mete contract history northwind-agreement",
		func(ctx context.Context, a *app, args []string) error {
			vs, err := a.catalogue.History(ctx, catalogue.KindContract, args[0])
			if err != nil {
				return usageError(err)
			}
			noticed, err := a.noticed(ctx, e)
			if err != nil {
				return err
			}
			return e.print(vs, func(w io.Writer) error {
				if err := writeVersions(w, vs); err != nil {
					return err
				}
				for _, v := range vs {
					if err := writeSteps(w, v, noticed(v)); err != nil {
						return err
					}
				}
				writeScreens(w, vs)
				return nil
			})
		})
}

// writeSteps says what happened to one version, step by step; notice is what is to be
// said of the notice that the partner had.
func writeSteps(w io.Writer, v catalogue.Version, notice string) error {
	until := "open"
	if !v.Until.IsZero() {
		until = "until " + v.Until.String() + " (exclusive)"
	}
	fmt.Fprintf(w, "\nversion %d, %s: from %s, %s\n  digest    %s\n", v.Number, v.State, v.From, until, v.Digest)
	if v.Corrects > 0 {
		fmt.Fprintf(w, "  corrects  version %d\n", v.Corrects)
	}
	if err := writeNotice(w, "notice    ", notice); err != nil {
		return err
	}
	steps := [][]string{{"  proposed", stamp(v.RecordedAt), v.Author.String(), "from " + v.File}}
	// Steps stand in the order they were recorded; what was recorded at one instant,
	// decisions first.
	told := v.Notifications
	for _, d := range v.Decisions {
		for len(told) > 0 && told[0].RecordedAt.Before(d.RecordedAt) {
			steps, told = append(steps, toldStep(told[0])), told[1:]
		}
		steps = append(steps, []string{"  " + string(d.Verdict), stamp(d.At), d.By.String(), about(d)})
	}
	for _, n := range told {
		steps = append(steps, toldStep(n))
	}
	if len(v.Notifications) == 0 && (v.State == catalogue.Approved || v.State == catalogue.Accepted) {
		steps = append(steps, []string{"  not notified", "–", "–", "nobody recorded that the partner was told; mete contract notify does"})
	}
	return table(w, []string{"  step", "at", "by", ""}, steps)
}

// toldStep is the step of one notification.
func toldStep(n catalogue.Notification) []string {
	s := fmt.Sprintf("%s, by %s; document SHA-256 %.12s; term sheet (%s) SHA-256 %.12s", n.To, n.How, n.Document, n.Sheet.Format, n.Sheet.SHA256)
	if n.Evidence != "" {
		s += "; evidence: " + n.Evidence
	}
	return []string{"  notified", n.On.String(), n.By.String(), s + "; recorded at " + stamp(n.RecordedAt)}
}

// about is what a decision rests on, or why it was made.
func about(d catalogue.Decision) string {
	s := fmt.Sprintf("document SHA-256 %.12s", d.Document)
	switch {
	case d.Verdict == catalogue.Approve && d.Screen == nil:
		return s + "; not screened"
	case d.Verdict == catalogue.Approve:
		return s + fmt.Sprintf("; screen: %d findings on %s under rules %.12s", len(d.Screen.Findings), d.Screen.On, d.Screen.Rules)
	case d.Verdict == catalogue.Accept:
		s += "; evidence: " + d.Text
		by := cmp.Or(d.RecordedBy, d.By)
		return s + fmt.Sprintf("; recorded by %s at %s", by, stamp(d.RecordedAt))
	}
	return s + "; reason: " + d.Text
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
