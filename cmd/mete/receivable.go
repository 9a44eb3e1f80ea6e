package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"mete/billing"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// agedDays end the columns of ageing: an item is in the first that its days do not
// exceed, or in the last.
var agedDays = []int{30, 60, 90}

func receivableCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "receivable", Short: "What partners owe who collect from their customers themselves"}
	c.AddCommand(receivableListCommand(e), receiveCommand(e))
	return c
}

func receivableListCommand(e *env) *cobra.Command {
	var on string
	c := command(e, "list", "List what partners owe, by age", "mete receivable list --on 2026-12-31",
		func(ctx context.Context, a *app, _ []string) error {
			day, err := dayOr(e, on)
			if err != nil {
				return err
			}
			rs, err := a.closer.Receivables(ctx, day)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, r := range rs {
				rows = append(rows, aged(r))
			}
			return e.list(rs, []string{"partner", "", "to 30 days", "to 60", "to 90", "older", "owed", "oldest"}, rows, 2, 3, 4, 5, 6)
		})
	c.Flags().StringVar(&on, "on", "", "day for which age is counted, from the end of each statement's month; today if left out")
	return c
}

// aged is a partner's row: what is open by age, all of it, and the oldest statement.
func aged(r billing.Receivable) []string {
	sums := make([]int64, len(agedDays)+1)
	for _, i := range r.Items {
		at := 0
		for at < len(agedDays) && i.Days > agedDays[at] {
			at++
		}
		sums[at] += i.Open.Minor
	}
	row := []string{string(r.Partner), string(r.Currency)}
	for _, s := range sums {
		row = append(row, money.New(s, r.Currency).Grouped())
	}
	oldest := ""
	if len(r.Items) > 0 {
		oldest = string(r.Items[0].Statement)
	}
	return append(row, r.Total.Grouped(), oldest)
}

func receiveCommand(e *env) *cobra.Command {
	var r billing.Received
	var amount, currency, who, on string
	c := act(e, "receive", "Record what a partner paid of what it owes",
		`mete receivable receive --partner quill --amount 150.00 --reference W-1881 --on 2026-11-12 --as m.ortiz`,
		func(ctx context.Context, a *app, by string, _ []string) error {
			var err error
			if r.Amount, err = typedAmount(amount, currency); err != nil {
				return err
			}
			if r.On, err = dayOr(e, on); err != nil {
				return err
			}
			r.Partner, r.By, r.Unauthenticated = partner.ID(who), by, true
			snap, err := a.catalogue.Current(ctx)
			if err != nil {
				return err
			}
			if _, ok := snap.Partners[r.Partner]; !ok {
				return usageError(fmt.Errorf("--partner %q is not in the catalogue", who))
			}
			out, isNew, err := a.closer.Receive(ctx, r)
			if err != nil {
				return usageError(err)
			}
			return e.print(out, func(w io.Writer) error {
				said := "received"
				if !isNew {
					said = "was recorded before: received"
				}
				_, err := fmt.Fprintf(w, "%s %s %s from %s, booked on %s\n", out.Reference, said, out.Amount, out.Partner, out.BookedOn)
				return err
			})
		})
	f := c.Flags()
	f.StringVar(&who, "partner", "", "who paid")
	f.StringVar(&amount, "amount", "", "what reached the bank")
	f.StringVar(&currency, "currency", "USD", "ISO 4217 code")
	f.StringVar(&r.Reference, "reference", "", "the payment's reference at the bank, by which it is told from others")
	f.StringVar(&on, "on", "", "day on which it reached the bank; today if left out")
	f.StringVar(&r.Rail, "rail", "manual", "rail whose bank account the money reached")
	required(c, "partner", "amount", "reference")
	return c
}

// dayOr reads --on; today if it is left out.
func dayOr(e *env, on string) (period.Date, error) {
	if on == "" {
		return period.DateOf(e.now(), e.now().Location()), nil
	}
	return typed(period.ParseDate, "--on", on)
}
