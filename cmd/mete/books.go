package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"mete/ledger"
	"mete/money"
	"mete/period"
)

func ledgerCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "Trial balance, account history, journal export, check"}
	var on string
	balance := command(e, "balance", "Trial balance", "mete ledger balance --on 2026-09-30", cobra.NoArgs,
		func(ctx context.Context, a *app, _ []string) error {
			bs, err := a.balances(ctx, on)
			if err != nil {
				return err
			}
			return e.print(bs, func(w io.Writer) error { return writeTrialBalance(w, bs) })
		})
	balance.Flags().StringVar(&on, "on", "", "as booked up to this day")
	history := command(e, "history ACCOUNT", "All movements of one account", "mete ledger history "+string(ledger.PayableDue("northwind")), cobra.ExactArgs(1),
		func(ctx context.Context, a *app, args []string) error {
			account := ledger.Account(args[0])
			if err := account.Validate(); err != nil {
				return usageError(err)
			}
			var ms []ledger.Movement
			for m, err := range a.closer.Ledger.History(ctx, account, ledger.Filter{}) {
				if err != nil {
					return err
				}
				ms = append(ms, m)
			}
			return e.print(ms, func(w io.Writer) error {
				var rows [][]string
				for _, m := range ms {
					dr, cr := drCr(m.Amount)
					rows = append(rows, []string{m.Entry.BookedOn.String(), m.Entry.ID, m.Entry.Memo, dr, cr, balanceText(m.After)})
				}
				return table(w, []string{"booked", "entry", "memo", "debit", "credit", "balance"}, rows, 3, 4, 5)
			})
		})
	var to, format string
	export := command(e, "export", "Write the journal for hledger, or the postings as CSV", "mete ledger export --to books.journal", cobra.NoArgs,
		func(ctx context.Context, a *app, _ []string) error { return exportJournal(ctx, e, a, to, format) })
	export.Flags().StringVar(&to, "to", "-", "file to write")
	export.Flags().StringVar(&format, "format", "hledger", "hledger or csv")
	verify := command(e, "verify", "Check the books: entries, balances, sequence", "mete ledger verify", cobra.NoArgs,
		func(ctx context.Context, a *app, _ []string) error {
			fs, err := a.store.Verify(ctx)
			if err != nil {
				return err
			}
			if err := e.print(fs, func(w io.Writer) error {
				fmt.Fprintf(w, "the books: %d findings\n", len(fs))
				for _, f := range fs {
					fmt.Fprintf(w, "  ! %s\n", f)
				}
				return nil
			}); err != nil {
				return err
			}
			if len(fs) > 0 {
				return found
			}
			return nil
		})
	c.AddCommand(balance, history, export, verify)
	return c
}

func (a *app) balances(ctx context.Context, on string) ([]ledger.Balance, error) {
	f := ledger.Filter{Booked: true}
	if on != "" {
		d, err := period.ParseDate(on)
		if err != nil {
			return nil, usageError(err)
		}
		f.UpTo = d
	}
	return a.closer.Ledger.Balances(ctx, f)
}

func drCr(a money.Amount) (dr, cr string) {
	if a.Minor >= 0 {
		return a.Grouped(), ""
	}
	return "", a.Neg().Grouped()
}

// balanceText is a balance with its side, never a minus that means credit.
func balanceText(a money.Amount) string {
	switch {
	case a.Minor > 0:
		return a.Grouped() + " Dr"
	case a.Minor < 0:
		return a.Neg().Grouped() + " Cr"
	}
	return a.Grouped() + "   "
}

func writeTrialBalance(w io.Writer, bs []ledger.Balance) error {
	var rows [][]string
	type sums struct{ dr, cr money.Amount }
	totals := map[money.Currency]sums{}
	for _, b := range bs {
		if b.Amount.IsZero() {
			continue
		}
		dr, cr := drCr(b.Amount)
		rows = append(rows, []string{string(b.Account), dr, cr, string(b.Amount.Currency)})
		t, ok := totals[b.Amount.Currency]
		if !ok {
			t = sums{money.New(0, b.Amount.Currency), money.New(0, b.Amount.Currency)}
		}
		var err error
		if b.Amount.Minor > 0 {
			t.dr, err = t.dr.Add(b.Amount)
		} else {
			t.cr, err = t.cr.Sub(b.Amount)
		}
		if err != nil {
			return err
		}
		totals[b.Amount.Currency] = t
	}
	for _, c := range sortedKeys(totals) {
		t := totals[c]
		rows = append(rows, []string{"sum", t.dr.Grouped(), t.cr.Grouped(), string(c)})
		if t.dr != t.cr {
			rows = append(rows, []string{"! debits and credits differ", "", "", string(c)})
		}
	}
	return table(w, []string{"account", "debit", "credit", ""}, rows, 1, 2)
}

func exportJournal(ctx context.Context, e *env, a *app, to, format string) error {
	if format != "hledger" && format != "csv" {
		return usageError(fmt.Errorf("--format %q: want hledger or csv", format))
	}
	var entries []ledger.Entry
	for x, err := range a.closer.Ledger.Entries(ctx, ledger.Filter{}) {
		if err != nil {
			return err
		}
		entries = append(entries, x)
	}
	return e.writeFile(to, func(w io.Writer) error {
		if format == "csv" {
			return writePostings(w, entries)
		}
		return ledger.WriteJournal(w, entries)
	})
}

func writePostings(w io.Writer, entries []ledger.Entry) error {
	c := csv.NewWriter(w)
	rows := [][]string{{"entry", "kind", "value_on", "booked_on", "memo", "posting", "account", "debit", "credit", "currency"}}
	for _, x := range entries {
		for i, p := range x.Postings {
			dr, cr := p.Amount.Plain(), ""
			if p.Amount.Minor < 0 {
				dr, cr = "", p.Amount.Neg().Plain()
			}
			rows = append(rows, []string{x.ID, x.Kind, x.ValueOn.String(), x.BookedOn.String(), x.Memo, strconv.Itoa(i + 1), string(p.Account), dr, cr, string(p.Amount.Currency)})
		}
	}
	return c.WriteAll(rows)
}
