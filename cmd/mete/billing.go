package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mete/billing"
	"mete/money"
	"mete/partner"
	"mete/period"
)

func closeCommand(e *env) *cobra.Command {
	var accept []string
	c := command(e, "close MONTH", "Close a month: price it, make statements, post them",
		"mete close 2026-09 --as m.ortiz", cobra.ExactArgs(1),
		func(ctx context.Context, a *app, args []string) error {
			m, err := period.ParseMonth(args[0])
			if err != nil {
				return usageError(err)
			}
			by, err := e.actor()
			if err != nil {
				return err
			}
			gaps, err := acceptedGaps(accept)
			if err != nil {
				return err
			}
			p := newProgress(e)
			closer := *a.closer
			closer.Progress = p.step
			report, err := closer.Close(ctx, billing.CloseRequest{Month: m, By: by, At: e.now(), Accept: gaps})
			p.done()
			if err != nil {
				return stateError(err)
			}
			return e.print(report, func(w io.Writer) error { return writeClose(w, report) })
		})
	c.Flags().StringArrayVar(&accept, "accept-silent", nil, "accept a source that was silent before month end: SOURCE=REASON")
	return c
}

func acceptedGaps(accept []string) ([]billing.AcceptedGap, error) {
	var out []billing.AcceptedGap
	for _, a := range accept {
		source, reason, ok := strings.Cut(a, "=")
		if !ok || source == "" || reason == "" {
			return nil, usageError(fmt.Errorf("--accept-silent %q: want SOURCE=REASON", a))
		}
		out = append(out, billing.AcceptedGap{Source: source, Reason: reason})
	}
	return out, nil
}

// stateError gives errors that the person can mend the exit code for that.
func stateError(err error) error {
	if errors.Is(err, billing.ErrState) || errors.Is(err, billing.ErrNotFound) || errors.Is(err, billing.ErrConflict) {
		return usageError(err)
	}
	return err
}

func writeClose(w io.Writer, r billing.CloseReport) error {
	if r.Already {
		fmt.Fprintf(w, "%s was closed before; nothing was done. %d statements.\n", r.Month, len(r.Statements))
		return nil
	}
	fmt.Fprintf(w, "%s closed: %d statements from %d scope groups\n", r.Month, len(r.Statements), r.Groups)
	if r.LateEvents > 0 {
		fmt.Fprintf(w, "%d events came late for closed months", r.LateEvents)
		if len(r.Repriced) > 0 {
			names := make([]string, len(r.Repriced))
			for i, m := range r.Repriced {
				names[i] = m.String()
			}
			fmt.Fprintf(w, "; priced again: %s. The differences stand on these statements", strings.Join(names, ", "))
		}
		fmt.Fprintln(w, ".")
	}
	for _, l := range r.TooLate {
		fmt.Fprintf(w, "too late by contract, not charged: %s %s %s %s\n", l.Party, l.Month, l.Text, l.Amount)
	}
	return writeStatementList(w, r.Statements)
}

func writeStatementList(w io.Writer, rs []billing.StatementRecord) error {
	var rows [][]string
	sums := map[money.Currency]money.Amount{}
	for _, r := range rs {
		rows = append(rows, []string{string(r.ID), r.State, strconv.Itoa(len(r.Lines)), r.NetSales.Grouped(), r.Charges.Grouped(),
			r.Earned.Grouped(), r.Closing().Grouped(), r.ClosingReserve().Grouped(), string(r.Currency)})
		sum, ok := sums[r.Currency]
		if !ok {
			sum = money.New(0, r.Currency)
		}
		var err error
		if sums[r.Currency], err = sum.Add(r.Earned); err != nil {
			return err
		}
	}
	for c, s := range sums {
		rows = append(rows, []string{"sum", "", "", "", "", s.Grouped(), "", "", string(c)})
	}
	return table(w, []string{"statement", "state", "lines", "net sales", "our charges", "earned", "payable", "reserve", ""}, rows, 2, 3, 4, 5, 6, 7)
}

func statementCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "statement", Short: "List, show, issue and export statements"}
	var month, who string
	list := command(e, "list", "List statements", "mete statement list --month 2026-09", cobra.NoArgs,
		func(ctx context.Context, a *app, _ []string) error {
			m, err := optionalMonth(month)
			if err != nil {
				return err
			}
			rs, err := a.closer.Store.Statements(ctx, m, partner.ID(who))
			if err != nil {
				return err
			}
			return e.print(rs, func(w io.Writer) error { return writeStatementList(w, rs) })
		})
	list.Flags().StringVar(&month, "month", "", "only this month")
	list.Flags().StringVar(&who, "partner", "", "only this partner")
	show := command(e, "show STATEMENT", "Show one statement as its page", "mete statement show meridian-us.northwind.usd.2026-09", cobra.ExactArgs(1),
		func(ctx context.Context, a *app, args []string) error {
			r, err := a.closer.Store.Statement(ctx, billing.StatementID(args[0]))
			if err != nil {
				return stateError(err)
			}
			return e.print(r, r.WriteText)
		})
	c.AddCommand(list, show, issueCommand(e), exportCommand(e))
	return c
}

func optionalMonth(s string) (period.Month, error) {
	if s == "" {
		return period.Month{}, nil
	}
	m, err := period.ParseMonth(s)
	return m, usageError(err)
}

func issueCommand(e *env) *cobra.Command {
	var on string
	c := command(e, "issue MONTH [STATEMENT…]", "Issue a closed month's statements (another person than the closer)",
		"mete statement issue 2026-09 --as a.chen --on 2026-10-10", cobra.MinimumNArgs(1),
		func(ctx context.Context, a *app, args []string) error {
			m, err := period.ParseMonth(args[0])
			if err != nil {
				return usageError(err)
			}
			by, err := e.actor()
			if err != nil {
				return err
			}
			day := period.DateOf(e.now(), time.UTC)
			if on != "" {
				if day, err = period.ParseDate(on); err != nil {
					return usageError(err)
				}
			}
			req := billing.IssueRequest{Month: m, By: by, On: day, At: e.now(), Unauthenticated: true}
			for _, id := range args[1:] {
				req.IDs = append(req.IDs, billing.StatementID(id))
			}
			p := newProgress(e)
			closer := *a.closer
			closer.Progress = p.step
			rs, err := closer.Issue(ctx, req)
			p.done()
			if err != nil {
				return stateError(err)
			}
			return e.print(rs, func(w io.Writer) error {
				fmt.Fprintf(w, "%d statements of %s are issued as of %s, by %s (unauthenticated)\n", len(rs), m, day, by)
				return writeStatementList(w, rs)
			})
		})
	c.Flags().StringVar(&on, "on", "", "day of issue, YYYY-MM-DD (default today, UTC)")
	return c
}

func exportCommand(e *env) *cobra.Command {
	var format, to string
	c := command(e, "export MONTH", "Write a month's statements to files", "mete statement export 2026-09 --format csv --to out", cobra.ExactArgs(1),
		func(ctx context.Context, a *app, args []string) error {
			m, err := period.ParseMonth(args[0])
			if err != nil {
				return usageError(err)
			}
			ending, ok := map[string]string{"text": ".txt", "csv": ".csv", "json": ".json"}[format]
			if !ok {
				return usageError(fmt.Errorf("--format %q: want text, csv or json", format))
			}
			rs, err := a.closer.Store.Statements(ctx, m, "")
			if err != nil {
				return err
			}
			dir := e.path(to)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			var files []string
			for _, r := range rs {
				name := filepath.Join(dir, string(r.ID)+ending)
				if err := writeStatementFile(name, format, r); err != nil {
					return err
				}
				files = append(files, name)
			}
			return e.print(files, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%d statements of %s written to %s\n", len(files), m, dir)
				return err
			})
		})
	c.Flags().StringVar(&format, "format", "text", "text, csv or json")
	c.Flags().StringVar(&to, "to", ".", "folder to write to")
	return c
}

func writeStatementFile(name, format string, r billing.StatementRecord) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	switch format {
	case "csv":
		err = r.WriteCSV(f)
	case "json":
		err = (&env{json: true, out: f}).print(r, nil)
	default:
		err = r.WriteText(f)
	}
	return errors.Join(err, f.Close())
}

func explainCommand(e *env) *cobra.Command {
	var events bool
	var limit int
	c := command(e, "explain STATEMENT LINE", "Show where a line comes from, down to its events",
		"mete explain meridian-us.northwind.usd.2026-09 3 --events", cobra.ExactArgs(2),
		func(ctx context.Context, a *app, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return usageError(fmt.Errorf("line %q is no number", args[1]))
			}
			if !events {
				limit = 0
			}
			r, err := a.closer.Store.Statement(ctx, billing.StatementID(args[0]))
			if err != nil {
				return stateError(err)
			}
			if _, err := r.Line(n); err != nil {
				return usageError(err)
			}
			x, err := a.closer.Explain(ctx, r.ID, n, limit)
			if err != nil {
				return stateError(err)
			}
			return e.print(x, x.WriteText)
		})
	c.Flags().BoolVar(&events, "events", false, "list the events behind the line")
	c.Flags().IntVar(&limit, "limit", 20, "list at most so many events")
	return c
}

func adjustCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "adjust", Short: "Propose, approve and list adjustments (two people, a reason)"}
	var a billing.Adjustment
	var amount, currency, corrects, who, statement string
	propose := command(e, "propose", "Propose an adjustment; another person approves it, the next close carries it",
		`mete adjust propose --partner northwind --amount 36.00 --currency USD --reason "Dispute D-17 accepted" --as m.ortiz`, cobra.NoArgs,
		func(ctx context.Context, app *app, _ []string) error {
			by, err := e.actor()
			if err != nil {
				return err
			}
			cur, err := money.ParseCurrency(currency)
			if err != nil {
				return usageError(err)
			}
			if a.Amount, err = money.Parse(amount, cur); err != nil {
				return usageError(fmt.Errorf("--amount: %w", err))
			}
			if a.Corrects, err = optionalMonth(corrects); err != nil {
				return err
			}
			a.Partner, a.Statement, a.ProposedBy, a.ProposedAt = partner.ID(who), billing.StatementID(statement), by, e.now()
			snap, err := app.catalogue.Current(ctx)
			if err != nil {
				return err
			}
			if _, ok := snap.Partners[a.Partner]; !ok {
				return usageError(fmt.Errorf("--partner %q is not in the catalogue", who))
			}
			out, err := app.closer.ProposeAdjustment(ctx, a)
			if err != nil {
				return usageError(err)
			}
			return e.print(out, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s proposed by %s: %s for %s, %s\napprove it: mete adjust approve %s --as SOMEBODY-ELSE\n", out.ID, by, out.Amount, out.Partner, out.Reason, out.ID)
				return err
			})
		})
	f := propose.Flags()
	f.StringVar(&who, "partner", "", "partner")
	f.StringVar(&amount, "amount", "", "positive: the partner gets it; negative: the partner is charged")
	f.StringVar(&currency, "currency", "USD", "ISO 4217 code")
	f.StringVar(&a.Account, "account", "share", "kind of income it corrects")
	f.StringVar(&corrects, "corrects", "", "closed month it is about")
	f.StringVar(&statement, "statement", "", "statement it is about")
	f.IntVar(&a.Line, "line", 0, "line of that statement")
	f.StringVar(&a.Reason, "reason", "", "reason, as it stands on the statement")
	f.StringVar(&a.Evidence, "evidence", "", "where the evidence lies")
	approve := command(e, "approve ID", "Approve an adjustment that somebody else proposed", "mete adjust approve A-1f2e3d4c5b --as a.chen", cobra.ExactArgs(1),
		func(ctx context.Context, app *app, args []string) error {
			by, err := e.actor()
			if err != nil {
				return err
			}
			out, err := app.closer.ApproveAdjustment(ctx, args[0], by, e.now())
			if err != nil {
				return stateError(err)
			}
			return e.print(out, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s approved by %s (unauthenticated); the next close carries it\n", out.ID, out.ApprovedBy)
				return err
			})
		})
	list := command(e, "list", "List adjustments", "mete adjust list", cobra.NoArgs,
		func(ctx context.Context, app *app, _ []string) error {
			all, err := app.closer.Store.Adjustments(ctx)
			if err != nil {
				return err
			}
			return e.print(all, func(w io.Writer) error {
				var rows [][]string
				for _, x := range all {
					state := "waits for approval"
					switch {
					case x.CarriedBy != (period.Month{}):
						state = "on the statement of " + x.CarriedBy.String()
					case x.ApprovedBy != "":
						state = "approved by " + x.ApprovedBy
					}
					rows = append(rows, []string{x.ID, string(x.Partner), x.Amount.Grouped(), string(x.Amount.Currency), x.ProposedBy, state, x.Reason})
				}
				return table(w, []string{"id", "partner", "amount", "", "proposed by", "state", "reason"}, rows, 2)
			})
		})
	c.AddCommand(propose, approve, list)
	return c
}

func receiptsCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "receipts", Short: "Import what payment processors settled to the bank"}
	var rail string
	imp := command(e, "import FILE", "Import a processor's settlement report (CSV), by settlement id",
		"mete receipts import stripe-2026-09.csv", cobra.ExactArgs(1),
		func(ctx context.Context, a *app, args []string) error {
			f, _, err := e.open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			rs, err := billing.ReadReceipts(args[0], f, rail)
			if err != nil {
				return usageError(err)
			}
			out, err := a.closer.ImportReceipts(ctx, rs)
			if err != nil {
				return stateError(err)
			}
			return e.print(out, func(w io.Writer) error {
				fmt.Fprintf(w, "%d settlements booked, %d known before\n", out.New, out.Known)
				for _, n := range out.Net {
					fmt.Fprintf(w, "  %s reached the bank\n", n)
				}
				return nil
			})
		})
	imp.Flags().StringVar(&rail, "rail", "manual", "rail whose bank account the money reached")
	c.AddCommand(imp)
	return c
}

func verifyCommand(e *env) *cobra.Command {
	return command(e, "verify MONTH", "Derive a closed month again from raw events and compare", "mete verify 2026-09", cobra.ExactArgs(1),
		func(ctx context.Context, a *app, args []string) error {
			m, err := period.ParseMonth(args[0])
			if err != nil {
				return usageError(err)
			}
			if err := a.drain(ctx); err != nil { // a store that was put back from a copy catches up first
				return err
			}
			v, err := a.closer.Verify(ctx, m)
			if err != nil {
				return stateError(err)
			}
			if err := e.print(v, func(w io.Writer) error {
				fmt.Fprintf(w, "%s derived again: %d statements, %d lines, %d entries; %d differ\n", m, v.Statements, v.Lines, v.Entries, len(v.Findings))
				return writeFindings(w, v.Findings)
			}); err != nil {
				return err
			}
			if len(v.Findings) > 0 {
				return found
			}
			return nil
		})
}

func writeFindings(w io.Writer, fs []billing.Finding) error {
	for _, f := range fs {
		if _, err := fmt.Fprintf(w, "  ! %s\n", f); err != nil {
			return err
		}
	}
	return nil
}

func reconcileCommand(e *env) *cobra.Command {
	var control string
	c := command(e, "reconcile", "Compare independent counts of every stage, event to posting",
		"mete reconcile\nmete reconcile --control gateway-totals.csv", cobra.NoArgs,
		func(ctx context.Context, a *app, _ []string) error {
			if err := a.drain(ctx); err != nil {
				return err
			}
			r, err := a.reconciler.Reconcile(ctx)
			if err != nil {
				return err
			}
			if control != "" {
				f, _, err := e.open(control)
				if err != nil {
					return err
				}
				defer f.Close()
				ks, err := billing.ReadControl(control, f)
				if err != nil {
					return usageError(err)
				}
				if err := a.reconciler.CompareControl(ctx, &r, ks); err != nil {
					return err
				}
			}
			if err := e.print(r, func(w io.Writer) error { return writeReconciliation(w, r) }); err != nil {
				return err
			}
			if r.Difference() > 0 {
				return found
			}
			return nil
		})
	c.Flags().StringVar(&control, "control", "", "CSV of control totals (app,month,type,events,amount,currency)")
	return c
}

func writeReconciliation(w io.Writer, r billing.Reconciliation) error {
	var rows [][]string
	for _, b := range r.Balances {
		mark := "="
		if !b.OK {
			mark = "≠"
		}
		rows = append(rows, []string{b.What, b.Left, money.Group(b.L), mark, money.Group(b.R), b.Right})
	}
	if err := table(w, []string{"compared", "", "", "", "", ""}, rows, 2, 4); err != nil {
		return err
	}
	if len(r.Became) > 0 {
		fmt.Fprintln(w, "\nwhat became of the stored events")
		rows = nil
		for _, b := range r.Became {
			rows = append(rows, []string{"  " + b.State, strings.ReplaceAll(b.Why, "_", " "), money.Group(strconv.FormatInt(b.Events, 10))})
		}
		if err := table(w, []string{"", "", ""}, rows, 2); err != nil {
			return err
		}
	}
	if len(r.Refused) > 0 {
		fmt.Fprintln(w, "\nrefused before the stream (mete quarantine list)")
		rows = nil
		for _, k := range sortedKeys(r.Refused) {
			rows = append(rows, []string{"  " + k, money.Group(strconv.FormatInt(r.Refused[k], 10))})
		}
		if err := table(w, []string{"", ""}, rows, 1); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "\ndifference %d\n", r.Difference())
	return writeFindings(w, r.Findings)
}
