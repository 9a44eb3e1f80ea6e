package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"mete/billing"
	"mete/partner"
)

func certificationCommand(e *env) *cobra.Command {
	var on string
	c := command(e, "certification APP", "Show how an app's certification stands, why, and what contracts make of it",
		"mete certification northwind-scheduler --on 2026-09-15",
		func(ctx context.Context, a *app, args []string) error {
			day, err := a.dayOr(ctx, e, on)
			if err != nil {
				return err
			}
			if err := a.drain(ctx); err != nil { // what was sent a moment ago is in it
				return err
			}
			v, err := a.closer.Certification(ctx, partner.AppID(args[0]), day)
			if errors.Is(err, billing.ErrNotFound) {
				return usageError(fmt.Errorf("%w; apps are documents of the catalogue", err))
			}
			if err != nil {
				return err
			}
			return e.print(v, v.WriteText)
		})
	c.Long = c.Short + `.

That is its state at the end of a day, since when it has it, when the next review is
due, extensions with who granted them and why, the events behind it, and what each
quality rule in force makes of it for sales of that day.`
	c.Flags().StringVar(&on, "on", "", "day (default today)")
	return c
}
