package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"mete/billing"
	"mete/period"
)

func placementCommand(e *env) *cobra.Command {
	var month string
	var rows bool
	c := command(e, "placement", "Say of every app whether it may be placed because of a month, and why",
		"mete placement --period 2026-09",
		func(ctx context.Context, a *app, _ []string) error {
			m, err := typed(period.ParseMonth, "--period", month)
			if err != nil {
				return err
			}
			if rows && e.json {
				return usageError(errors.New("--csv and --json: want one of them"))
			}
			if err := a.drain(ctx); err != nil {
				return err
			}
			p, err := a.closer.Placements(ctx, m)
			if errors.Is(err, billing.ErrNotFound) {
				return usageError(fmt.Errorf("%w; mete schema marketplace shows how it is written", err))
			}
			if err != nil {
				return err
			}
			if rows {
				return p.WriteCSV(e.out)
			}
			return e.print(p, p.WriteText)
		})
	c.Long = c.Short + `.

Every app is held against the rules of placement in the marketplace's document: which
requirement holds, what was measured, what is missing. A closed month shows what was
kept at its close; another one what events say by now. Calls of the certified API are
left out, and rules that ask for use of the API or for payments are refused.`
	c.Flags().StringVar(&month, "period", "", "the month")
	c.Flags().BoolVar(&rows, "csv", false, "print a row for each app and requirement")
	required(c, "period")
	return c
}
