package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"mete/ledger"
	"mete/money"
	"mete/period"
)

func ledgerCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "Trial balance, account history, journal export, check"}
	var on string
	balance := command(e, "balance", "Trial balance", "mete ledger balance --on 2026-09-30",
		func(ctx context.Context, a *app, _ []string) error {
			bs, err := a.balances(ctx, on)
			if err != nil {
				return err
			}
			return e.print(bs, func(w io.Writer) error { return writeTrialBalance(w, bs) })
		})
	balance.Flags().StringVar(&on, "on", "", "as booked up to this day")
	history := command(e, "history ACCOUNT", "All movements of one account", "mete ledger history "+string(ledger.PayableDue("northwind")),
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
			var rows [][]string
			for _, m := range ms {
				dr, cr := drCr(m.Amount)
				rows = append(rows, []string{m.Entry.BookedOn.String(), m.Entry.ID, m.Entry.Memo, dr, cr, balanceText(m.After)})
			}
			return e.list(ms, []string{"booked", "entry", "memo", "debit", "credit", "balance"}, rows, 3, 4, 5)
		})
	var to, format string
	export := command(e, "export", "Write the journal for hledger, or the postings as CSV", "mete ledger export --to books.journal",
		func(ctx context.Context, a *app, _ []string) error { return exportJournal(ctx, e, a, to, format) })
	export.Flags().StringVar(&to, "to", "-", "file to write")
	export.Flags().StringVar(&format, "format", "hledger", "hledger, csv or json")
	verify := command(e, "verify", "Check the books: entries, balances, sequence", "mete ledger verify",
		func(ctx context.Context, a *app, _ []string) error {
			fs, err := a.store.Verify(ctx)
			if err != nil {
				return err
			}
			return e.check(len(fs) > 0, fs, func(w io.Writer) error {
				fmt.Fprintf(w, "the books: %d findings\n", len(fs))
				for _, f := range fs {
					fmt.Fprintf(w, "  ! %s\n", f)
				}
				return nil
			})
		})
	c.AddCommand(balance, history, export, verify)
	return c
}

func (a *app) balances(ctx context.Context, on string) ([]ledger.Balance, error) {
	upTo, err := optional(period.ParseDate, "--on", on)
	if err != nil {
		return nil, err
	}
	return a.closer.Ledger.Balances(ctx, ledger.Filter{Booked: true, UpTo: upTo})
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
	if e.json {
		format = "json"
	}
	if !slices.Contains([]string{"hledger", "csv", "json"}, format) {
		return usageError(fmt.Errorf("--format %q: want hledger, csv or json", format))
	}
	var entries []ledger.Entry
	for x, err := range a.closer.Ledger.Entries(ctx, ledger.Filter{}) {
		if err != nil {
			return err
		}
		entries = append(entries, x)
	}
	return e.writeFile(to, func(w io.Writer) error {
		switch format {
		case "csv":
			return writePostings(w, entries)
		case "json":
			return writeJSON(w, entries)
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
