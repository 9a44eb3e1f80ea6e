package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mete/billing"
	"mete/metering"
)

func redactCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "redact", Short: "Overwrite a value that must not be kept (two people, a reason)"}
	c.AddCommand(redactProposeCommand(e), redactApproveCommand(e), redactListCommand(e))
	return c
}

// redactionError says which errors of a redaction the person can mend.
func redactionError(err error) error {
	for _, mendable := range []error{billing.ErrPriced, metering.ErrNotRedactable, metering.ErrNoValue, metering.ErrTwoPeople, metering.ErrNoRedaction} {
		if errors.Is(err, mendable) {
			return usageError(err)
		}
	}
	return err
}

// proposedRedaction is a proposal with what it is about, without the value.
type proposedRedaction struct {
	metering.Redaction
	Event     string         `json:"event,omitempty"` // type, app, time and position
	Conflicts int            `json:"conflicts"`       // beside the event
	Refusals  int            `json:"refusals"`        // of the key, whose kept form goes
	Same      []metering.Key `json:"same,omitempty"`  // other events with the value, at most some
}

func redactProposeCommand(e *env) *cobra.Command {
	var key metering.Key
	var field, reason string
	c := act(e, "propose KEY|SOURCE [ID]", "Propose to overwrite one field of one event; another person approves it",
		"mete redact propose gateway-us-1 r1 --field data.reference --reason \"looks like a person\" --as k.lee\nmete redact propose 8e6e93b96186a58e7d77bd16fac942d9 --field id --reason \"looks like a record number\" --as k.lee",
		func(ctx context.Context, a *app, by string, _ []string) error {
			r, err := metering.ProposeRedaction(key, field, reason, by, e.now())
			if err != nil {
				return usageError(err)
			}
			p, err := a.proposeRedaction(ctx, e, r)
			if err != nil {
				return redactionError(err)
			}
			return e.print(p, p.writeText)
		})
	c.Flags().StringVar(&field, "field", "", "field whose value goes, such as subject or data.reference")
	c.Flags().StringVar(&reason, "reason", "", "what was found there, never the value itself")
	required(c, "field", "reason")
	named(c, &key)
	return c
}

// named makes a command take an event by source and id, or by its key alone.
func named(c *cobra.Command, key *metering.Key) {
	before := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		var err error
		if len(args) == 2 {
			*key = metering.KeyOf(args[0], args[1])
		} else if *key, err = metering.ParseKey(args[0]); err != nil {
			return usageError(fmt.Errorf("%q names no event: give its SOURCE and ID, or its key, which mete event SOURCE ID prints: %w", args[0], err))
		}
		if before == nil {
			return nil
		}
		return before(c, args)
	}
}

func (a *app) proposeRedaction(ctx context.Context, e *env, r metering.Redaction) (p proposedRedaction, err error) {
	if err := a.drain(ctx); err != nil {
		return p, err
	}
	f, err := a.events.Find(ctx, r.Key)
	if err != nil {
		return p, err
	}
	if f.Event != nil {
		p.Event = fmt.Sprintf("%s of %s for app %s at position %s", f.Event.Type, f.Event.Time.Format("2006-01-02 15:04:05 MST"), cmp.Or(string(f.Event.Data.App), "–"), positionText(f.Event.Position))
		if v := metering.ValueOf(&f.Event.Event, r.Field); v != "" && strings.Contains(strings.ToLower(r.Reason), strings.ToLower(v)) {
			return p, usageError(errors.New("the reason repeats the value, and would keep it; say what was found"))
		}
	}
	if err := a.checkRedactions(ctx, e, r); err != nil {
		return p, err
	}
	if p.Redaction, err = a.events.ProposeRedaction(ctx, r); err != nil {
		return p, err
	}
	p.Conflicts = len(f.Conflicts)
	rs, err := a.events.Refused(ctx, metering.RefusedQuery{Keys: []metering.Key{r.Key}})
	if err != nil {
		return p, err
	}
	p.Refusals = len(rs)
	p.Same, err = a.events.SameValue(ctx, r.Key, r.Field)
	return p, err
}

// checkRedactions asks whether closed months verify without the values.
func (a *app) checkRedactions(ctx context.Context, e *env, rs ...metering.Redaction) error {
	bar := newProgress(e)
	defer bar.done()
	closer := *a.closer
	closer.Progress = bar.step
	return closer.CheckRedactions(ctx, rs...)
}

func positionText(p metering.Position) string {
	return fmt.Sprintf("%d/%d.%d", p.Partition, p.Sequence, p.Index)
}

func (p proposedRedaction) writeText(w io.Writer) error {
	if p.Applied() {
		fmt.Fprintf(w, "%s is done already: proposed by %s, approved by %s\n", p.ID, p.ProposedBy, p.ApprovedBy)
		return nil
	}
	fmt.Fprintf(w, "%s proposed by %s: %s of event %s, %s\n", p.ID, p.ProposedBy, p.Field, p.Key, p.Reason)
	if p.Event != "" {
		fmt.Fprintf(w, "  %s\n", p.Event)
	}
	if p.Conflicts > 0 {
		fmt.Fprintf(w, "  %d conflicts are kept beside it; the field goes there, too\n", p.Conflicts)
	}
	if p.Refusals > 0 {
		fmt.Fprintf(w, "  %d refusals of this event are in quarantine; a kept form that has the field is erased\n", p.Refusals)
	}
	for i, k := range p.Same {
		if i == maxShown {
			fmt.Fprintf(w, "  and more events; --json lists them\n")
			break
		}
		fmt.Fprintf(w, "  event %s has the same value there: propose it as well\n", k)
	}
	_, err := fmt.Fprintf(w, "approve it: mete redact approve %s --as SOMEBODY-ELSE\n", p.ID)
	return err
}

func redactApproveCommand(e *env) *cobra.Command {
	return act(e, "approve ID [ID…]", "Approve redactions that somebody else proposed: the values are overwritten", "mete redact approve R-1f2e3d4c5b6a --as r.shah",
		func(ctx context.Context, a *app, by string, ids []string) error {
			rs, err := a.approveRedactions(ctx, e, ids, by)
			if err != nil {
				return redactionError(err)
			}
			return e.print(rs, func(w io.Writer) error {
				for _, r := range rs {
					fmt.Fprintf(w, "%s approved by %s (unauthenticated); %s of event %s is overwritten\n", r.ID, r.ApprovedBy, r.Field, r.Key)
				}
				_, err := fmt.Fprintln(w, "the stream, backups and whatever was exported keep what they hold: docs/operations.md says what to do about them")
				return err
			})
		})
}

func (a *app) approveRedactions(ctx context.Context, e *env, ids []string, by string) ([]metering.Redaction, error) {
	if err := a.drain(ctx); err != nil {
		return nil, err
	}
	all, err := a.events.Redactions(ctx)
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, id := range ids {
		named[id] = true
	}
	var waiting []metering.Redaction
	for _, r := range all {
		if named[r.ID] && !r.Applied() {
			if _, err := r.Approve(by, e.now()); err != nil { // before closed months are verified, which takes time
				return nil, err
			}
			waiting = append(waiting, r)
		}
	}
	before, err := a.monthStates(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.checkRedactions(ctx, e, waiting...); err != nil {
		return nil, err
	}
	if after, err := a.monthStates(ctx); err != nil || after != before {
		return nil, cmp.Or(err, usageError(errors.New("a month was closed meanwhile; approve again, so that it is verified, too")))
	}
	return a.events.ApproveRedactions(ctx, ids, by, e.now())
}

// monthStates is the state of every month, to be compared.
func (a *app) monthStates(ctx context.Context) (string, error) {
	months, err := a.closer.Store.Months(ctx)
	var b strings.Builder
	for _, m := range months {
		fmt.Fprintln(&b, m.Month, m.State, m.Manifest != nil)
	}
	return b.String(), err
}

func redactListCommand(e *env) *cobra.Command {
	return command(e, "list", "List redactions", "mete redact list",
		func(ctx context.Context, a *app, _ []string) error {
			rs, err := a.events.Redactions(ctx)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, r := range rs {
				state := "waits for approval"
				if r.Applied() {
					state = "done " + r.ApprovedAt.Format(time.DateOnly) + ", approved by " + r.ApprovedBy
				}
				rows = append(rows, []string{r.ID, r.Key.String(), r.Field, r.ProposedAt.Format(time.DateOnly) + " " + r.ProposedBy, state, r.Reason})
			}
			return e.list(rs, []string{"id", "event", "field", "proposed", "state", "reason"}, rows)
		})
}

// redactionText says what became of a field.
func redactionText(r metering.Redaction) string {
	return fmt.Sprintf("%s was redacted %s (%s: %s), proposed by %s, approved by %s", r.Field, r.ApprovedAt.Format(time.DateOnly), r.ID, r.Reason, r.ProposedBy, r.ApprovedBy)
}
