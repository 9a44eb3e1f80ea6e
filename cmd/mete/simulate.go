package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"mete/billing"
	"mete/catalogue"
	"mete/period"
)

func simulateCommand(e *env) *cobra.Command {
	var from, to string
	var rows bool
	c := command(e, "simulate FOLDER", "Price past months again under contracts that are not agreed yet; nothing is kept",
		"mete simulate proposals/2027 --from 2026-07 --to 2026-09",
		func(ctx context.Context, a *app, args []string) error {
			req := billing.SimulationRequest{}
			var err error
			if req.From, err = typed(period.ParseMonth, "--from", from); err != nil {
				return err
			}
			if req.To = req.From; to != "" {
				if req.To, err = typed(period.ParseMonth, "--to", to); err != nil {
					return err
				}
			}
			if req.Terms, err = a.proposals(ctx, e.path(args[0])); err != nil {
				return usageError(err)
			}
			if err := req.Check(); err != nil {
				return usageError(err)
			}
			if err := a.drain(ctx); err != nil { // what was sent a moment ago is in it
				return err
			}
			p := newProgress(e)
			closer := *a.closer
			closer.Progress = p.step
			sim, err := closer.Simulate(ctx, req)
			p.done()
			if err != nil {
				return err
			}
			if rows {
				return sim.WriteCSV(e.out)
			}
			return e.print(sim, sim.WriteText)
		})
	c.Long = c.Short + `.

The contracts are those of a folder, or of one file. Each takes the place of what
was agreed from its beginning on; one that begins after the last month is taken as
if it had begun with the first. Closed months are priced with the documents and
scorecards that they were closed with. It says what each partner earned, what it
would have been, and where a ladder ends a month on another step.`
	c.Flags().StringVar(&from, "from", "", "first month")
	c.Flags().StringVar(&to, "to", "", "last month (default: the first)")
	c.Flags().BoolVar(&rows, "csv", false, "print a row for each partner and month")
	required(c, "from")
	return c
}

// proposals reads the contracts of a folder of documents, or of one file, and checks them as apply does.
func (a *app) proposals(ctx context.Context, folder string) ([]catalogue.Object, error) {
	docs, err := catalogue.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	if _, err := a.catalogue.Plan(ctx, docs); err != nil {
		return nil, err
	}
	for _, o := range docs.Objects {
		if o.Kind != catalogue.KindContract {
			return nil, fmt.Errorf("%s:%d: %s %s is no contract: a simulation tries contracts, apply the rest first", o.File, o.Line, o.Kind, o.ID)
		}
	}
	return docs.Objects, nil
}
