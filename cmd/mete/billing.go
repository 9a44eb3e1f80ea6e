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
	c := act(e, "close MONTH", "Close a month: price it, make statements, post them", "mete close 2026-09 --as m.ortiz",
		func(ctx context.Context, a *app, by string, args []string) error {
			m, err := typed(period.ParseMonth, "", args[0])
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
				return err
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
	if len(r.OpenAppeals) > 0 {
		fmt.Fprintf(w, "appeals that are open, their measures frozen as measured: %s\n", strings.Join(r.OpenAppeals, ", "))
	}
	for _, c := range r.Corrections {
		fmt.Fprintf(w, "terms corrected: %s. What that changes in closed months stands on these statements.\n", c)
	}
	for _, l := range r.TooLate {
		fmt.Fprintf(w, "too late, not charged: %s %s %s %s\n", l.Party, l.Month, l.Text, l.Amount)
	}
	for i, n := range r.NoRates {
		if i == maxNoRates {
			fmt.Fprintf(w, "and %d more days without a rate; --json lists all\n", len(r.NoRates)-i)
			break
		}
		fmt.Fprintf(w, "not priced, no exchange rate: %s %s, %d events: %s. %s\n", n.Contract, n.Month, n.Events, n.MissingRate, n.Remedy())
	}
	return writeStatementList(w, r.Statements)
}

// maxNoRates bounds how many missing rates a close lists.
const maxNoRates = 20

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
	c := &cobra.Command{Use: "statement", Short: "List, show, issue and export statements; price a sandbox in shadow"}
	var month, who string
	list := command(e, "list", "List statements", "mete statement list --month 2026-09",
		func(ctx context.Context, a *app, _ []string) error {
			m, err := optional(period.ParseMonth, "--month", month)
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
	show := command(e, "show STATEMENT", "Show one statement as its page", "mete statement show meridian-us.northwind.usd.2026-09",
		func(ctx context.Context, a *app, args []string) error {
			r, err := a.statement(ctx, args[0])
			if err != nil {
				return err
			}
			return e.print(r, r.WriteText)
		})
	c.AddCommand(list, show, issueCommand(e), exportCommand(e), shadowCommand(e))
	return c
}

func shadowCommand(e *env) *cobra.Command {
	var who string
	c := command(e, "shadow MONTH", "Show what a month's sandbox events would come to; nothing is kept, posted or billed",
		"mete statement shadow 2026-09 --partner northwind",
		func(ctx context.Context, a *app, args []string) error {
			m, err := typed(period.ParseMonth, "", args[0])
			if err != nil {
				return err
			}
			snap, err := a.catalogue.Current(ctx)
			if err != nil {
				return err
			}
			if _, ok := snap.Partners[partner.ID(who)]; who != "" && !ok {
				return usageError(fmt.Errorf("--partner %q is not in the catalogue", who))
			}
			if err := a.drain(ctx); err != nil { // what was sent a moment ago is in it
				return err
			}
			ss, err := a.closer.Shadow(ctx, m, partner.ID(who))
			if err != nil {
				return err
			}
			return e.print(ss, func(w io.Writer) error {
				if len(ss) == 0 {
					_, err := fmt.Fprintf(w, "no sandbox event in %s\n", m)
					return err
				}
				for i, s := range ss {
					if i > 0 {
						fmt.Fprintln(w)
					}
					if err := s.WriteText(w); err != nil {
						return err
					}
				}
				return nil
			})
		})
	c.Flags().StringVar(&who, "partner", "", "only this partner")
	return c
}

// statement finds a statement by the name that a person typed.
func (a *app) statement(ctx context.Context, id string) (billing.StatementRecord, error) {
	r, err := a.closer.Store.Statement(ctx, billing.StatementID(id))
	if errors.Is(err, billing.ErrNotFound) {
		err = fmt.Errorf("%w; mete statement list shows all", err)
	}
	return r, err
}

func issueCommand(e *env) *cobra.Command {
	var on string
	c := act(e, "issue MONTH [STATEMENT…]", "Issue a closed month's statements (another person than the closer)",
		"mete statement issue 2026-09 --as a.chen --on 2026-10-10",
		func(ctx context.Context, a *app, by string, args []string) error {
			m, err := typed(period.ParseMonth, "", args[0])
			if err != nil {
				return err
			}
			day, err := optional(period.ParseDate, "--on", on)
			if err != nil {
				return err
			}
			if day.IsZero() {
				day = period.DateOf(e.now(), time.UTC)
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
				return err
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
	c := command(e, "export MONTH", "Write a month's statements to files", "mete statement export 2026-09 --format csv --to out",
		func(ctx context.Context, a *app, args []string) error {
			m, err := typed(period.ParseMonth, "", args[0])
			if err != nil {
				return err
			}
			ending, ok := map[string]string{"text": ".txt", "csv": ".csv", "json": ".json"}[format]
			if !ok {
				return usageError(fmt.Errorf("--format %q: want text, csv or json", format))
			}
			rs, err := a.closer.Store.Statements(ctx, m, "")
			if err != nil {
				return err
			}
			if len(rs) == 0 {
				return usageError(fmt.Errorf("%s has no statements: close it first", m))
			}
			dir := e.path(to)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return usageError(err)
			}
			var files []string
			for _, r := range rs {
				name := filepath.Join(dir, string(r.ID)+ending)
				if err := writeStatementFile(name, format, r); err != nil {
					return err
				}
				files = append(files, name)
			}
			return e.say(files, "%d statements of %s written to %s", len(files), m, dir)
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
		err = writeJSON(f, r)
	default:
		err = r.WriteText(f)
	}
	return errors.Join(err, f.Close())
}

func explainCommand(e *env) *cobra.Command {
	var events bool
	var limit int
	c := command(e, "explain STATEMENT LINE", "Show where a line comes from, down to its events",
		"mete explain meridian-us.northwind.usd.2026-09 3 --events",
		func(ctx context.Context, a *app, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return usageError(fmt.Errorf("line %q is no number", args[1]))
			}
			if !events {
				limit = 0
			}
			r, err := a.statement(ctx, args[0])
			if err != nil {
				return err
			}
			if _, err := r.Line(n); err != nil {
				return usageError(err)
			}
			x, err := a.closer.Explain(ctx, r.ID, n, limit)
			if err != nil {
				return err
			}
			return e.print(x, x.WriteText)
		})
	c.Flags().BoolVar(&events, "events", false, "list the events behind the line")
	c.Flags().IntVar(&limit, "limit", 20, "list at most so many events")
	return c
}

func adjustCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "adjust", Short: "Propose, approve and list adjustments (two people, a reason)"}
	approve := act(e, "approve ID", "Approve an adjustment that somebody else proposed", "mete adjust approve A-1f2e3d4c5b --as a.chen",
		func(ctx context.Context, a *app, by string, args []string) error {
			out, err := a.closer.ApproveAdjustment(ctx, args[0], by, e.now())
			if err != nil {
				return err
			}
			return e.say(out, "%s approved by %s (unauthenticated); the next close carries it", out.ID, out.ApprovedBy)
		})
	list := command(e, "list", "List adjustments", "mete adjust list",
		func(ctx context.Context, a *app, _ []string) error {
			all, err := a.closer.Store.Adjustments(ctx)
			if err != nil {
				return err
			}
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
			return e.list(all, []string{"id", "partner", "amount", "", "proposed by", "state", "reason"}, rows, 2)
		})
	c.AddCommand(proposeCommand(e), approve, list)
	return c
}

func proposeCommand(e *env) *cobra.Command {
	var x billing.Adjustment
	var amount, currency, corrects, who, statement string
	c := act(e, "propose", "Propose an adjustment; another person approves it, the next close carries it",
		`mete adjust propose --partner northwind --amount 36.00 --currency USD --reason "Dispute D-17 accepted" --as m.ortiz`,
		func(ctx context.Context, a *app, by string, _ []string) error {
			var err error
			if x.Amount, err = typedAmount(amount, currency); err != nil {
				return err
			}
			if x.Corrects, err = optional(period.ParseMonth, "--corrects", corrects); err != nil {
				return err
			}
			x.Partner, x.Statement, x.ProposedBy, x.ProposedAt = partner.ID(who), billing.StatementID(statement), by, e.now()
			snap, err := a.catalogue.Current(ctx)
			if err != nil {
				return err
			}
			if _, ok := snap.Partners[x.Partner]; !ok {
				return usageError(fmt.Errorf("--partner %q is not in the catalogue", who))
			}
			out, err := a.closer.ProposeAdjustment(ctx, x)
			if err != nil {
				return usageError(err)
			}
			return e.say(out, "%s proposed by %s: %s for %s, %s\napprove it: mete adjust approve %s --as SOMEBODY-ELSE", out.ID, by, out.Amount, out.Partner, out.Reason, out.ID)
		})
	f := c.Flags()
	f.StringVar(&who, "partner", "", "who gets or owes it")
	f.StringVar(&amount, "amount", "", "positive: the partner gets it; negative: the partner is charged")
	f.StringVar(&currency, "currency", "USD", "ISO 4217 code")
	f.StringVar(&x.Account, "account", "share", "kind of income it corrects")
	f.StringVar(&corrects, "corrects", "", "closed month it is about")
	f.StringVar(&statement, "statement", "", "statement it is about")
	f.IntVar(&x.Line, "line", 0, "line of that statement")
	f.StringVar(&x.Reason, "reason", "", "why, as it stands on the statement")
	f.StringVar(&x.Evidence, "evidence", "", "where the evidence lies")
	required(c, "partner", "amount", "reason")
	return c
}

func receiptsCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "receipts", Short: "Import what payment processors settled to the bank"}
	var rail string
	imp := command(e, "import FILE", "Import a processor's settlement report (CSV), by settlement id",
		"mete receipts import stripe-2026-09.csv",
		func(ctx context.Context, a *app, args []string) error {
			f, _, err := e.open(ctx, args[0])
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
				return err
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
	return command(e, "verify MONTH", "Derive a closed month again from raw events and compare", "mete verify 2026-09",
		func(ctx context.Context, a *app, args []string) error {
			m, err := typed(period.ParseMonth, "", args[0])
			if err != nil {
				return err
			}
			if err := a.drain(ctx); err != nil { // a store that was put back from a copy catches up first
				return err
			}
			v, err := a.closer.Verify(ctx, m)
			if err != nil {
				return err
			}
			return e.check(len(v.Findings) > 0, v, func(w io.Writer) error {
				fmt.Fprintf(w, "%s derived again: %d statements, %d lines, %d entries; %d differ\n", m, v.Statements, v.Lines, v.Entries, len(v.Findings))
				if len(v.Redacted) > 0 {
					fmt.Fprintf(w, "  %d values of its events are redacted (mete redact list); for that reason %d digests of what was priced differ, what came of it does not\n", len(v.Redacted), v.Inputs)
				}
				return writeFindings(w, v.Findings)
			})
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
			why := strings.ReplaceAll(b.Why, "_", " ")
			if b.State == "sandbox" {
				why = "never billed; mete statement shadow MONTH prices it"
			}
			rows = append(rows, []string{"  " + b.State, why, money.Group(strconv.FormatInt(b.Events, 10))})
		}
		if err := table(w, []string{"", "", ""}, rows, 2); err != nil {
			return err
		}
	}
	if len(r.Foreign) > 0 {
		fmt.Fprintln(w, "\nin another currency than the contract: kept, not converted, not billed")
		rows = nil
		for _, f := range r.Foreign {
			rows = append(rows, []string{"  " + f.Month.String(), string(f.App), f.Contract, f.Type, groupInt(f.Events), f.Amount.Grouped(), string(f.Amount.Currency)})
		}
		if err := table(w, []string{"", "", "", "", "", "", ""}, rows, 4, 5); err != nil {
			return err
		}
	}
	if len(r.Refused) > 0 {
		fmt.Fprintln(w, "\nrefused before the stream (mete quarantine list)")
		if err := writeRefusedCounts(w, r.Refused); err != nil {
			return err
		}
	}
	if len(r.Redacted) > 0 {
		fmt.Fprintf(w, "\nredacted values, which count as they did: %d (mete redact list)\n", len(r.Redacted))
	}
	fmt.Fprintln(w, "\n"+checkpointText(r))
	fmt.Fprintf(w, "\ndifference %d\n", r.Difference())
	return writeFindings(w, r.Findings)
}

// checkpointText says up to where messages may expire, and how many have.
func checkpointText(r billing.Reconciliation) string {
	c := r.Checkpoint
	if c.IsZero() {
		return "no checkpoint yet: nothing expires from the stream"
	}
	verb := "stays at"
	if r.Moved {
		verb = "moved on to"
	}
	return fmt.Sprintf("checkpoint %s %s, of %s: %s messages, %s events; %s of these messages have expired from the stream", verb, c.Cutoff,
		c.At.Format("2006-01-02 15:04 MST"), groupInt(c.Messages), groupInt(c.Announced), groupInt(r.Expired))
}
