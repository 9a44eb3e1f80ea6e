package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"mete/billing"
	"mete/partner"
)

func partnerCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "partner", Short: "Show a partner's tier, and what the programme's criteria say"}
	var on string
	tier := command(e, "tier PARTNER", "Show which tier a partner has, since when, and what the criteria say", "mete partner tier northwind --on 2026-10-01",
		func(ctx context.Context, a *app, args []string) error {
			day, err := a.dayOr(ctx, e, on)
			if err != nil {
				return err
			}
			if err := a.drain(ctx); err != nil {
				return err
			}
			v, err := a.closer.PartnerTier(ctx, partner.ID(args[0]), day)
			if errors.Is(err, billing.ErrNotFound) {
				return usageError(fmt.Errorf("%w; partners are documents of the catalogue", err))
			}
			if err != nil {
				return err
			}
			return e.print(v, v.WriteText)
		})
	tier.Long = tier.Short + `.

The tier is what the partner's document says on a day, and the versions that set it are
shown. Each criterion of the marketplace's partner_tiers is shown with what was
measured: net sales on statements, certified apps, support answers. The criteria decide
nothing: to change a tier, apply the partner's document with the new one and its day.`
	tier.Flags().StringVar(&on, "on", "", "day (default today)")
	c.AddCommand(tier)
	return c
}
