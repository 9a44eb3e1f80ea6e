package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"mete/billing"
	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/payouts"
	"mete/payouts/manual"
	"mete/period"
)

func payoutCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "payout", Short: "Plan, approve, submit and settle payout runs; holds"}
	c.AddCommand(planCommand(e), approveCommand(e), returnCommand(e), submitCommand(e), settleCommand(e), payoutListCommand(e), payoutShowCommand(e), holdCommand(e), releaseCommand(e), holdsCommand(e))
	return c
}

// checkPayouts is the desk's check in the words of a reconciliation.
func (a *app) checkPayouts(ctx context.Context) ([]billing.Balance, []billing.Finding, error) {
	audit, err := a.desk.Check(ctx)
	if err != nil {
		return nil, nil, err
	}
	var balances []billing.Balance
	for _, s := range audit.Sums {
		balances = append(balances, billing.Balance(s))
	}
	var findings []billing.Finding
	for _, f := range audit.Findings {
		findings = append(findings, billing.Finding(f))
	}
	return balances, findings, nil
}

func planCommand(e *env) *cobra.Command {
	var currency string
	c := act(e, "plan PAY-DATE", "Plan a payout run of everything that is due", "mete payout plan 2026-10-20 --as m.ortiz",
		func(ctx context.Context, a *app, by string, args []string) error {
			on, err := typed(period.ParseDate, "", args[0])
			if err != nil {
				return err
			}
			cur, err := typed(money.ParseCurrency, "--currency", currency)
			if err != nil {
				return err
			}
			in, err := a.payoutInput(ctx, on, cur)
			if err != nil {
				return err
			}
			in.By, in.At = by, e.now()
			run, err := a.desk.Plan(ctx, in)
			if err != nil {
				return err
			}
			return e.print(run, func(w io.Writer) error { return payouts.WritePlan(w, run) })
		})
	c.Flags().StringVar(&currency, "currency", "USD", "ISO 4217 code")
	return c
}

// payoutInput gathers who may be paid: every partner with an issued statement or a
// balance, with the payee's facts as they are now.
func (a *app) payoutInput(ctx context.Context, on period.Date, cur money.Currency) (payouts.Input, error) {
	snap, err := a.catalogue.Current(ctx)
	if err != nil {
		return payouts.Input{}, err
	}
	market := snap.Marketplace
	rail := market.Rails[manualRail]
	in := payouts.Input{
		Entity: market.Entity, EntityName: market.Name, PayOn: on, Currency: cur, Rail: manualRail, RailLabel: "bank transfer",
		From: fmt.Sprintf("%s ****%s", cmp.Or(rail.Account, "operating account"), cmp.Or(rail.Last4, "????")), Zone: market.ZoneName,
		Calendar: snap.Calendars[market.Pay.Calendar],
	}
	in.Rules = payouts.DefaultRules(cur)
	if w := market.Pay.Withholding; w != nil && cur == market.Currency {
		from, err := money.Exact(w.ReportableFrom, cur)
		if err != nil {
			return in, fmt.Errorf("marketplace: pay.withholding.reportable_from: %w", err)
		}
		in.Rules.Withholding = &payouts.WithholdingRule{Authority: w.Authority, Rate: w.Rate, From: from}
	}
	if err := a.addFunds(ctx, &in); err != nil {
		return in, err
	}
	statements, err := a.closer.Store.Statements(ctx, period.Month{}, "")
	if err != nil {
		return in, err
	}
	byPartner := map[partner.ID][]billing.StatementRecord{}
	for _, r := range statements {
		if r.Currency == cur && r.State == billing.Issued {
			byPartner[r.Partner] = append(byPartner[r.Partner], r)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(snap.Partners)) {
		c := payouts.Candidate{Partner: snap.Partners[id], Currency: cur}
		for i, r := range byPartner[id] {
			c.Statements = append(c.Statements, paid(r))
			c.Minimum, c.Keep = r.Minimum, r.Keep
			c.Sales = "sales paid " + r.NetSales.Grouped()
			if i > 0 {
				c.Sales += ", were " + byPartner[id][i-1].NetSales.Grouped()
			}
			switch {
			case r.Closing().Minor >= 0:
				c.OwesSince = period.Month{}
			case c.OwesSince == period.Month{}:
				c.OwesSince = r.Month
			}
		}
		in.Candidates = append(in.Candidates, c)
	}
	return in, nil
}

// paid is a statement as payouts know it.
func paid(r billing.StatementRecord) payouts.Statement {
	s := payouts.Statement{ID: string(r.ID), Month: r.Month, IssuedOn: r.IssuedOn}
	if r.Due != nil {
		adds := r.ToPending()
		s.DueOn, s.Adds = r.Due.DueOn, &adds
	}
	return s
}

// addFunds takes the balance at the bank from the books, once receipts feed it.
func (a *app) addFunds(ctx context.Context, in *payouts.Input) error {
	bs, err := a.closer.Ledger.Balances(ctx, ledger.Filter{Prefix: ledger.Cash(in.Rail), Currency: in.Currency})
	if err != nil {
		return err
	}
	for _, b := range bs {
		in.Funds = &b.Amount
	}
	return nil
}

func approveCommand(e *env) *cobra.Command {
	var content string
	c := act(e, "approve RUN", "Approve a run as it stands (another person than the planner)", "mete payout approve 2026-10-20 --content 9c41e07b --as a.chen",
		func(ctx context.Context, a *app, by string, args []string) error {
			run, err := a.desk.Find(ctx, args[0])
			if err != nil {
				return err
			}
			run, err = a.desk.Approve(ctx, payouts.Approval{Run: run.ID, Content: content, By: by, At: e.now(), Unauthenticated: true})
			if err != nil {
				return err
			}
			return e.say(run, "%s: %s; %d of %d approvals", run.ID, run.State, len(run.Approvals), run.Needs())
		})
	c.Flags().StringVar(&content, "content", "", "content hash of the plan that you read, at least 8 characters")
	required(c, "content")
	return c
}

func returnCommand(e *env) *cobra.Command {
	var reason string
	c := act(e, "return RUN", "Send a run back to its planner", `mete payout return 2026-10-20 --reason "northwind looks wrong" --as a.chen`,
		func(ctx context.Context, a *app, by string, args []string) error {
			run, err := a.desk.Find(ctx, args[0])
			if err != nil {
				return err
			}
			run, err = a.desk.Return(ctx, payouts.SentBack{Run: run.ID, By: by, At: e.now(), Reason: reason})
			if err != nil {
				return err
			}
			return e.say(run, "%s: sent back by %s: %s", run.ID, by, reason)
		})
	c.Flags().StringVar(&reason, "reason", "", "why; the planner has to know")
	required(c, "reason")
	return c
}

func submitCommand(e *env) *cobra.Command {
	var again bool
	c := act(e, "submit RUN", "Hand an approved run to the bank: writes the payment file", "mete payout submit 2026-10-20 --as a.chen",
		func(ctx context.Context, a *app, by string, args []string) error {
			run, err := a.desk.Find(ctx, args[0])
			if err != nil {
				return err
			}
			out, err := a.desk.Submit(ctx, payouts.Order{Run: run.ID, By: by, At: e.now(), Copy: again})
			if err != nil {
				return err
			}
			return e.print(out, func(w io.Writer) error {
				fmt.Fprintf(w, "%s: %s\n", out.Run.ID, out.Run.State)
				for _, b := range out.Batches {
					fmt.Fprintf(w, "  payment file %s in %s\n", b, a.path("payments/outbox"))
				}
				return payouts.WriteRun(w, out.Run)
			})
		})
	c.Flags().BoolVar(&again, "copy", false, "write the file again, marked COPY")
	return c
}

func settleCommand(e *env) *cobra.Command {
	var currency string
	c := act(e, "settle FILE", "Import the bank's confirmation of a payment file", "mete payout settle bank-confirmation.csv --as m.ortiz",
		func(ctx context.Context, a *app, by string, args []string) error {
			f, _, err := e.open(ctx, args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			all, err := manual.Read(f, manual.Import{Name: args[0], Currency: money.Currency(currency), By: by, At: e.now()})
			if err != nil {
				return usageError(err)
			}
			out, err := a.desk.Confirm(ctx, all)
			if err != nil {
				return err
			}
			return e.say(out, "%d payouts booked, %d known before", len(out.Booked), len(out.Known))
		})
	c.Flags().StringVar(&currency, "currency", "USD", "currency of lines that name none")
	return c
}

func payoutListCommand(e *env) *cobra.Command {
	var who string
	c := command(e, "list", "List runs, or a partner's payouts", "mete payout list\nmete payout list --partner northwind",
		func(ctx context.Context, a *app, _ []string) error {
			if who == "" {
				runs, err := a.desk.Store.PayoutRuns(ctx, payouts.RunFilter{})
				if err != nil {
					return err
				}
				return e.print(runs, func(w io.Writer) error { return payouts.WriteRuns(w, runs) })
			}
			ps, err := a.desk.Store.Payouts(ctx, payouts.PayoutFilter{Partner: partner.ID(who)})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, p := range ps {
				rows = append(rows, []string{p.ID, p.PayOn.String(), p.Amount.Grouped(), string(p.Amount.Currency), "****" + p.Last4, string(p.State), p.UpTo, p.Reason})
			}
			return e.list(ps, []string{"payout", "pay date", "amount", "", "account", "state", "up to statement", ""}, rows, 2)
		})
	c.Flags().StringVar(&who, "partner", "", "only this partner's payouts")
	return c
}

func payoutShowCommand(e *env) *cobra.Command {
	return command(e, "show RUN", "Show a run's plan as approvers see it", "mete payout show 2026-10-20",
		func(ctx context.Context, a *app, args []string) error {
			run, err := a.desk.Find(ctx, args[0])
			if err != nil {
				return err
			}
			return e.print(run, func(w io.Writer) error { return payouts.WritePlan(w, run) })
		})
}

func holdCommand(e *env) *cobra.Command {
	var h payouts.Hold
	var who, amount, currency, until string
	c := act(e, "hold ID", "Keep a partner's money back, with a reason", `mete payout hold h-1 --partner northwind --amount 90.00 --reason "dispute D-21" --as m.ortiz`,
		func(ctx context.Context, a *app, by string, args []string) error {
			if amount == "" {
				amount = "0"
			}
			var err error
			if h.Amount, err = typedAmount(amount, currency); err != nil {
				return err
			}
			if h.Until, err = optional(period.ParseDate, "--until", until); err != nil {
				return err
			}
			h.ID, h.Partner, h.Currency, h.By, h.At = args[0], partner.ID(who), h.Amount.Currency, by, e.now()
			h.On = period.DateOf(e.now(), time.UTC)
			out, err := a.desk.Hold(ctx, h)
			if err != nil {
				return err
			}
			return e.say(out, "hold %s on %s: %s, %s", out.ID, out.Partner, out.Amount, out.Reason)
		})
	f := c.Flags()
	f.StringVar(&who, "partner", "", "whose money")
	f.StringVar(&amount, "amount", "", "amount to hold")
	f.BoolVar(&h.All, "all", false, "hold everything, what comes due later too")
	f.StringVar(&currency, "currency", "USD", "ISO 4217 code")
	f.StringVar(&until, "until", "", "day on which the hold is looked at again")
	f.StringVar(&h.Reason, "reason", "", "why; the partner will ask")
	required(c, "partner", "reason")
	return c
}

func releaseCommand(e *env) *cobra.Command {
	var why string
	c := act(e, "release ID", "Release a hold, with a reason", `mete payout release h-1 --reason "dispute rejected" --as a.chen`,
		func(ctx context.Context, a *app, by string, args []string) error {
			out, err := a.desk.Release(ctx, payouts.Release{ID: args[0], By: by, Why: why, At: e.now(), On: period.DateOf(e.now(), time.UTC)})
			if err != nil {
				return err
			}
			return e.say(out, "hold %s on %s is released: %s", out.ID, out.Partner, out.ReleaseWhy)
		})
	c.Flags().StringVar(&why, "reason", "", "why")
	required(c, "reason")
	return c
}

func holdsCommand(e *env) *cobra.Command {
	var who string
	c := command(e, "holds", "List holds, with who placed and who released them", "mete payout holds --partner northwind",
		func(ctx context.Context, a *app, _ []string) error {
			hs, err := a.desk.Store.Holds(ctx, payouts.HoldFilter{Partner: partner.ID(who)})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, h := range hs {
				state := "in force"
				if h.Released {
					state = fmt.Sprintf("released by %s on %s: %s", h.ReleasedBy, h.ReleasedOn, h.ReleaseWhy)
				}
				amount := h.Amount.Grouped()
				if h.All {
					amount += " and all that comes due"
				}
				rows = append(rows, []string{h.ID, string(h.Partner), amount, string(h.Currency), h.By, h.On.String(), h.Reason, state})
			}
			return e.list(hs, []string{"hold", "partner", "amount", "", "placed by", "on", "reason", "state"}, rows, 2)
		})
	c.Flags().StringVar(&who, "partner", "", "only this partner's holds")
	return c
}
