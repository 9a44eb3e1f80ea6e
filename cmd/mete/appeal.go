package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mete/billing"
	"mete/metering/phi"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

func scorecardCommand(e *env) *cobra.Command {
	var month string
	c := command(e, "scorecard APP", "Show an app's scorecard of a month: provisional, or as frozen, with its appeals",
		"mete scorecard northwind-scheduler --period 2026-09",
		func(ctx context.Context, a *app, args []string) error {
			m, err := typed(period.ParseMonth, "--period", month)
			if err != nil {
				return err
			}
			if err := a.drain(ctx); err != nil {
				return err
			}
			v, _, err := a.closer.Scorecard(ctx, partner.AppID(args[0]), m)
			if err != nil {
				return err
			}
			return e.print(v, func(w io.Writer) error { return writeScorecard(w, v) })
		})
	c.Flags().StringVar(&month, "period", "", "the month")
	required(c, "period")
	return c
}

func writeScorecard(w io.Writer, v billing.ScorecardView) error {
	fmt.Fprintf(w, "Scorecard of %s, %s, %s\n\n", v.Card.App, v.Card.Month, v.State)
	was := map[string]pricing.Correction{}
	for _, c := range v.Now.Corrections {
		if _, twice := was[c.Measure]; !twice {
			was[c.Measure] = c
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, m := range pricing.Measures() {
		value, ok := v.Now.Measure(m[0])
		if !ok {
			value = "no data"
		}
		note := ""
		if c, ok := was[m[0]]; ok {
			note = fmt.Sprintf("by appeal %s; measured %s", c.Appeal, c.Was)
		} else if frozen, ok := v.Card.Measure(m[0]); ok && frozen != value {
			note = "by facts that came since; frozen as " + frozen
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", m[0], value, note)
	}
	for _, s := range v.Now.Standings {
		fmt.Fprintf(t, "certification from %s\t%s\t\n", s.From, s.State)
	}
	if err := t.Flush(); err != nil || len(v.Appeals) == 0 {
		return err
	}
	fmt.Fprintln(w)
	return table(w, appealHead, appealRows(v.Appeals))
}

func appealCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "appeal", Short: "Open, decide and list appeals against measures of scorecards (two people)"}
	var month, who string
	list := command(e, "list", "List appeals", "mete appeal list --period 2026-09",
		func(ctx context.Context, a *app, _ []string) error {
			m, err := optional(period.ParseMonth, "--period", month)
			if err != nil {
				return err
			}
			all, err := a.closer.Appeals(ctx)
			if err != nil {
				return err
			}
			var some []billing.Appeal
			for _, x := range all {
				if (m == period.Month{} || x.Month == m) && (who == "" || string(x.App) == who) {
					some = append(some, x)
				}
			}
			return e.list(some, appealHead, appealRows(some))
		})
	list.Flags().StringVar(&month, "period", "", "only this month")
	list.Flags().StringVar(&who, "app", "", "only this app")
	show := command(e, "show ID", "Show one appeal: who opened it and why, what was decided, which close carried it", "mete appeal show AP-1f2e3d4c5b",
		func(ctx context.Context, a *app, args []string) error {
			x, err := a.closer.Appeal(ctx, args[0])
			if err != nil {
				return err
			}
			return e.print(x, func(w io.Writer) error { return writeAppeal(w, x) })
		})
	c.AddCommand(openAppealCommand(e), decideAppealCommand(e), list, show)
	return c
}

func openAppealCommand(e *env) *cobra.Command {
	var x billing.Appeal
	var month string
	c := act(e, "open APP", "Question a measure of an app's scorecard; another person decides",
		`mete appeal open northwind-scheduler --period 2026-09 --measure availability --reason "The outage was the gateway's" --evidence ticket-4711 --as n.partner`,
		func(ctx context.Context, a *app, by string, args []string) error {
			m, err := typed(period.ParseMonth, "--period", month)
			if err != nil {
				return err
			}
			if err := errors.Join(harmless("--reason", x.Reason), harmless("--evidence", x.Evidence)); err != nil {
				return usageError(err)
			}
			if err := a.drain(ctx); err != nil {
				return err
			}
			x.App, x.Month, x.OpenedBy, x.OpenedAt, x.Unauthenticated = partner.AppID(args[0]), m, by, e.now(), true
			out, err := a.closer.OpenAppeal(ctx, x)
			if err != nil {
				return usageError(err)
			}
			return e.say(out, "%s opened by %s (unauthenticated): %s of %s in %s, measured %s\ndecide it: mete appeal decide %s --accept VALUE --reason TEXT --as SOMEBODY-ELSE, or --decline",
				out.ID, by, out.Measure, out.App, out.Month, orNoData(out.Measured), out.ID)
		})
	c.Long = c.Short + `.

What is accepted before the month's close is what the card freezes with. An appeal that
is open at the close does not hold it up: the measure freezes as measured, and the card
and the statement say so. Accepted after the close, the difference is on the next
statement.`
	f := c.Flags()
	f.StringVar(&month, "period", "", "the month")
	f.StringVar(&x.Measure, "measure", "", "what is questioned, such as availability")
	f.StringVar(&x.Reason, "reason", "", "why")
	f.StringVar(&x.Evidence, "evidence", "", "what shows it, or where that lies")
	required(c, "period", "measure", "reason")
	return c
}

func decideAppealCommand(e *env) *cobra.Command {
	var d billing.AppealDecision
	var decline bool
	c := act(e, "decide ID", "Accept an appeal with the corrected value, or decline it (another person than who opened it)",
		`mete appeal decide AP-1f2e3d4c5b --accept 0.9995 --reason "Gateway log of 14 September" --as s.lindqvist`,
		func(ctx context.Context, a *app, by string, args []string) error {
			if (d.Value == "") == !decline {
				return usageError(errors.New("say --accept VALUE or --decline, one of them"))
			}
			if err := harmless("--reason", d.Reason); err != nil {
				return usageError(err)
			}
			d.Accepted, d.By, d.At, d.Unauthenticated = !decline, by, e.now(), true
			x, err := a.closer.DecideAppeal(ctx, args[0], d)
			if err != nil {
				return usageError(err)
			}
			if decline {
				return e.say(x, "%s declined by %s (unauthenticated): %s of %s stays as measured", x.ID, by, x.Measure, x.App)
			}
			return e.say(x, "%s accepted by %s (unauthenticated): %s of %s in %s is %s; the next close carries it", x.ID, by, x.Measure, x.App, x.Month, d.Value)
		})
	f := c.Flags()
	f.StringVar(&d.Value, "accept", "", "accept it: what the measure is")
	f.BoolVar(&decline, "decline", false, "decline it: the measure stays")
	f.StringVar(&d.Reason, "reason", "", "why")
	required(c, "reason")
	return c
}

// harmless refuses text that looks like a patient's: it would be kept for ever. The
// error does not repeat it.
func harmless(flag, text string) error {
	if name := phi.Find(text); name != "" {
		return fmt.Errorf("%s looks like a patient's data (%s): name where the evidence lies instead", flag, name)
	}
	return nil
}

var appealHead = []string{"appeal", "app", "month", "measure", "measured", "state", "opened by", "reason"}

func appealRows(all []billing.Appeal) [][]string {
	var rows [][]string
	for _, x := range all {
		rows = append(rows, []string{x.ID, string(x.App), x.Month.String(), x.Measure, orNoData(x.Measured), appealState(x), x.OpenedBy, x.Reason})
	}
	return rows
}

func appealState(x billing.Appeal) string {
	switch {
	case x.State() != billing.AppealAccepted:
		return x.State()
	case x.CarriedBy == (period.Month{}):
		return "accepted: " + x.Decision.Value + ", not carried yet"
	}
	return "accepted: " + x.Decision.Value + ", by the close of " + x.CarriedBy.String()
}

func writeAppeal(w io.Writer, x billing.Appeal) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	kind := "provisional"
	if x.Frozen {
		kind = "frozen"
	}
	fmt.Fprintf(t, "%s\t%s of %s in %s\n", x.ID, x.Measure, x.App, x.Month)
	fmt.Fprintf(t, "measured\t%s, on the %s scorecard\n", orNoData(x.Measured), kind)
	fmt.Fprintf(t, "opened\t%s\n", byWhom(x.OpenedAt, x.OpenedBy, x.Unauthenticated, x.Reason))
	if x.Evidence != "" {
		fmt.Fprintf(t, "evidence\t%s\n", x.Evidence)
	}
	if d := x.Decision; d != nil {
		what := billing.AppealDeclined
		if d.Accepted {
			what = "accepted\t" + d.Value
		}
		fmt.Fprintf(t, "%s\n", what)
		fmt.Fprintf(t, "decided\t%s\n", byWhom(d.At, d.By, d.Unauthenticated, d.Reason))
	}
	fmt.Fprintf(t, "state\t%s\n", appealState(x))
	return t.Flush()
}

func byWhom(at time.Time, by string, unauthenticated bool, reason string) string {
	if unauthenticated {
		by += " (unauthenticated)"
	}
	return strings.Join([]string{at.Format(time.DateOnly), "by", by + ":", reason}, " ")
}

func orNoData(value string) string {
	if value == "" {
		return "no data"
	}
	return value
}
