package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"mete/billing"
	"mete/period"
)

// controlSent says that control totals are those that sources sent themselves.
const controlSent = "sent"

func reconcileCommand(e *env) *cobra.Command {
	var control, since string
	var following, full bool
	var o followOptions
	c := command(e, "reconcile", "Compare independent counts of every stage, event to posting",
		"mete reconcile\nmete reconcile --control gateway-totals.csv\nmete reconcile --control sent --since 2026-09-01\nmete reconcile --full\nmete reconcile --follow",
		func(ctx context.Context, a *app, _ []string) error {
			if following {
				differs, err := a.follow(ctx, e, o)
				if err == nil && differs {
					err = found
				}
				return err
			}
			if err := a.drain(ctx); err != nil {
				return err
			}
			r, err := a.reconcile(ctx, e.now(), full)
			if err != nil {
				return err
			}
			switch control {
			case "":
			case controlSent:
				err = a.compareSent(ctx, &r, since)
			default:
				err = a.compareControl(ctx, e, &r, control)
			}
			if err != nil {
				return err
			}
			return e.check(r.Difference() > 0, r, func(w io.Writer) error { return writeReconciliation(w, r) })
		})
	f := c.Flags()
	f.StringVar(&control, "control", "", "CSV of control totals (app,month,type,events,amount,currency), or sent: those that sources sent themselves")
	f.StringVar(&since, "since", "", "of the totals that were sent only those of this day and later, YYYY-MM-DD")
	f.BoolVar(&full, "full", false, "count every message that the stream still has again, also those up to the checkpoint")
	f.BoolVar(&following, "follow", false, "watch stream and store instead, until stopped: print what changes, as JSON lines with --json")
	f.DurationVar(&o.every, "every", followEvery, "with --follow: how often to look")
	f.DurationVar(&o.until, "for", 0, "with --follow: end by itself after so long")
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		switch {
		case since != "" && control != controlSent:
			return usageError(errors.New("--since goes with --control sent"))
		case following && (control != "" || full):
			return usageError(errors.New("--follow watches stream and store alone; compare control totals, or count all again, without it"))
		case !following && (c.Flags().Changed("every") || c.Flags().Changed("for")):
			return usageError(errors.New("--every and --for go with --follow"))
		case o.every < minFollowEvery || o.every > maxFollowEvery || o.until < 0:
			return usageError(fmt.Errorf("--every %s: want %s to %s, and --for no less than nothing", o.every, minFollowEvery, maxFollowEvery))
		}
		return nil
	}
	return c
}

// reconcile compares every stage, moves the checkpoint on if stream and store agree, and
// tells the stream what may expire then.
func (a *app) reconcile(ctx context.Context, at time.Time, full bool) (billing.Reconciliation, error) {
	r, err := a.reconciler.Reconcile(ctx)
	if err == nil && full {
		err = a.reconciler.CountAll(ctx, &r)
	}
	if err == nil {
		err = a.reconciler.MoveCheckpoint(ctx, &r, at)
	}
	if err == nil && r.Moved {
		if err := a.holdStream(ctx); err != nil { // asked again within the hour; health tells
			slog.Warn("what may expire from the stream is not said", "error", err)
		}
	}
	return r, err
}

func (a *app) compareSent(ctx context.Context, r *billing.Reconciliation, since string) error {
	day, err := optional(period.ParseDate, "--since", since)
	if err != nil {
		return err
	}
	return a.reconciler.CompareSent(ctx, r, day)
}

func (a *app) compareControl(ctx context.Context, e *env, r *billing.Reconciliation, file string) error {
	f, _, err := e.open(ctx, file)
	if err != nil {
		return err
	}
	defer f.Close()
	ks, err := billing.ReadControl(file, f)
	if err != nil {
		return usageError(err)
	}
	return a.reconciler.CompareControl(ctx, r, ks)
}
