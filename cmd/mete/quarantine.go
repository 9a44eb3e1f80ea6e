package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"mete/metering"
)

func quarantineCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "quarantine", Short: "What was refused, why, and what can be done about it"}
	c.AddCommand(quarantineListCommand(e), quarantineShowCommand(e), quarantineReplayCommand(e))
	return c
}

func quarantineListCommand(e *env) *cobra.Command {
	var source string
	var limit int
	c := command(e, "list", "List refused events and log lines, newest first", "mete quarantine list --source gateway-nginx",
		func(ctx context.Context, a *app, _ []string) error {
			rs, err := a.newestRefused(ctx, source, limit)
			if err != nil {
				return err
			}
			counts, err := a.events.RefusedCounts(ctx)
			if err != nil {
				return err
			}
			return e.print(rs, func(w io.Writer) error { return writeRefused(w, rs, counts) })
		})
	c.Flags().StringVar(&source, "source", "", "only this source")
	c.Flags().IntVar(&limit, "limit", 20, "at most so many")
	return c
}

// newestRefused are the newest refusals, each with what became of it.
func (a *app) newestRefused(ctx context.Context, source string, limit int) ([]metering.Refused, error) {
	newest, err := a.events.Refusals(ctx, source, limit)
	if err != nil {
		return nil, err
	}
	out := make([]metering.Refused, 0, len(newest))
	for len(newest) > 0 {
		n := min(len(newest), metering.MaxRefusedAsked)
		ids := make([]string, n)
		for i := range ids {
			ids[i] = newest[i].ID
		}
		rs, err := a.events.Refused(ctx, metering.RefusedQuery{IDs: ids})
		if err != nil {
			return nil, err
		}
		replays := map[string][]metering.Replay{}
		for _, r := range rs {
			replays[r.ID] = r.Replays
		}
		for _, r := range newest[:n] {
			out = append(out, metering.Refused{Refusal: r, Replays: replays[r.ID]})
		}
		newest = newest[n:]
	}
	return out, nil
}

// refusedState says in a few words what a refusal waits for.
func refusedState(r *metering.Refused) string {
	switch p := r.Passed(); r.State() {
	case metering.StateReplayed:
		return fmt.Sprintf("replayed %s by %s", p.At.Format("2006-01-02"), p.By)
	case metering.StateWaiting:
		return "waits for a replay"
	}
	return "to be sent again"
}

func writeRefused(w io.Writer, rs []metering.Refused, counts []metering.RefusedCount) error {
	var rows [][]string
	for i := range rs {
		now := rs[i].Newest()
		rows = append(rows, []string{now.ID, now.ReceivedAt.Format("2006-01-02 15:04:05"), refusedState(&rs[i]), now.Reason, now.Field, now.Where, now.Detail})
	}
	if err := table(w, []string{"receipt", "received (UTC)", "state", "reason", "field", "where", "what"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return writeRefusedCounts(w, counts)
}

// writeRefusedCounts writes how many refusals there are, and how many of them wait.
func writeRefusedCounts(w io.Writer, counts []metering.RefusedCount) error {
	var rows [][]string
	for _, c := range counts {
		rows = append(rows, []string{"  " + c.Class + "/" + c.Reason, groupInt(c.Refused), groupInt(c.Replayed), groupInt(c.Waiting), groupInt(c.Refused - c.Replayed - c.Waiting)})
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "  nothing was refused")
		return err
	}
	return table(w, []string{"", "refused", "replayed", "waiting", "to be sent again"}, rows, 1, 2, 3, 4)
}

// refusedAnswer is everything that is kept of one refusal.
type refusedAnswer struct {
	metering.Refused
	State  string          `json:"state"`
	Form   json.RawMessage `json:"form,omitempty"` // the accept-listed form, as JSON
	Remedy string          `json:"remedy"`
	Became string          `json:"became,omitempty"` // of what was replayed
}

func quarantineShowCommand(e *env) *cobra.Command {
	return command(e, "show RECEIPT", "Show everything that is kept of one refusal, and what to do", "mete quarantine show eedee57a1b1033e36465bfdd371956f1",
		func(ctx context.Context, a *app, args []string) error {
			rs, err := a.events.Refused(ctx, metering.RefusedQuery{IDs: args})
			if err != nil {
				return err
			}
			if len(rs) == 0 {
				return usageError(fmt.Errorf("no refusal has the receipt %s; mete quarantine list shows the newest", args[0]))
			}
			ans := refusedAnswer{Refused: rs[0], State: rs[0].State(), Form: rs[0].Event, Remedy: remedy(&rs[0])}
			ans.Event = nil // it is told as JSON
			if p := ans.Passed(); p != nil {
				if ans.Became, err = a.became(ctx, rs[0].Event, p); err != nil {
					return err
				}
			}
			return e.print(ans, ans.writeText)
		})
}

// remedy is what to do about a refusal.
func remedy(r *metering.Refused) string {
	now := r.Newest()
	why, _ := metering.ReasonOf(now.Reason)
	switch r.State() {
	case metering.StateReplayed:
		return "nothing"
	case metering.StateWaiting:
		if strings.Contains(why.Remedy, "replay the event") {
			return why.Remedy + ": mete quarantine replay " + r.ID
		}
		return why.Remedy + "; if the cause lay here, mend it and replay the event: mete quarantine replay " + r.ID
	}
	return why.Remedy + "; it cannot be replayed, since nothing of it is kept: mend the sender and send it again clean"
}

// became says what the store made of a replayed event.
func (a *app) became(ctx context.Context, form []byte, p *metering.Replay) (string, error) {
	key, err := metering.ParseKey(p.Receipt)
	if err != nil {
		return "", err
	}
	got, err := a.events.Find(ctx, key)
	if err != nil {
		return "", err
	}
	other := false // content than that which was stored; of an erased form nobody knows
	if e, err := metering.DecodeCanonical(form); err == nil && got.Event != nil {
		other = got.Event.Hash != metering.ContentHash(e)
	}
	trace := "mete event " + key.String()
	switch {
	case got.Event == nil:
		return "accepted at " + p.Position + ", not stored yet", nil
	case other:
		return "conflict: an event of this id with other content was there first; see " + trace, nil
	case fmt.Sprintf("%d-%d-%d", got.Event.Position.Partition, got.Event.Position.Sequence, got.Event.Position.Index) != p.Position:
		return "counted once: the same event was there before; see " + trace, nil
	}
	return "metered; see " + trace, nil
}

func (ans refusedAnswer) writeText(w io.Writer) error {
	r := ans.Refusal
	fmt.Fprintf(w, "%s\n  refused %s UTC as %s: %s\n  %s\n", r.ID, r.ReceivedAt.Format("2006-01-02 15:04:05"), r.Class, r.Reason, r.Detail)
	for _, row := range [][2]string{
		{"field", r.Field}, {"where", r.Where}, {"source", r.Source}, {"sent by", cmp.Or(r.Sender, "whoever read a file here")}, {"digest", r.Digest}, {"kept form", string(ans.Form)}, {"erased by", ans.ErasedBy},
	} {
		if row[1] != "" {
			fmt.Fprintf(w, "  %-10s %s\n", row[0], row[1])
		}
	}
	if ans.Form == nil {
		fmt.Fprintln(w, "  nothing of its value is kept")
	}
	for _, p := range ans.Replays {
		what := "refused again: " + p.Reason + ": " + p.Detail
		if p.Passed {
			what = "passed, receipt " + p.Receipt + ", position " + p.Position
		}
		fmt.Fprintf(w, "  replayed %s UTC by %s: %s\n", p.At.Format("2006-01-02 15:04:05"), p.By, what)
	}
	if ans.Became != "" {
		fmt.Fprintf(w, "  became     %s\n", ans.Became)
	}
	_, err := fmt.Fprintf(w, "  to do      %s\n", ans.Remedy)
	return err
}

// replayReport is what became of a replay, here and in the store.
type replayReport struct {
	metering.ReplayReport
	Stored    int64 `json:"stored"` // by the store, of what was drained meanwhile
	Duplicate int64 `json:"duplicate"`
	Conflict  int64 `json:"conflict"`
}

func quarantineReplayCommand(e *env) *cobra.Command {
	var q metering.RefusedQuery
	var dryRun bool
	c := command(e, "replay [RECEIPT…]", "Take refused events through the gate again, once the cause is mended",
		"mete quarantine replay --reason unknown_app --dry-run\nmete quarantine replay --source gateway-nginx --as k.lee\nmete quarantine replay eedee57a1b1033e36465bfdd371956f1 --as k.lee",
		func(ctx context.Context, a *app, args []string) error {
			q.IDs = args
			report, err := a.replay(ctx, e, metering.ReplayRequest{Query: q, By: e.as, DryRun: dryRun})
			if err != nil {
				return err
			}
			return e.check(report.Refused+report.Unfit > 0, report, report.writeText)
		})
	c.Flags().StringVar(&q.Source, "source", "", "only of this source")
	c.Flags().StringVar(&q.Reason, "reason", "", "only with this newest reason, such as unknown_app")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would pass, and send nothing")
	c.PreRunE = func(_ *cobra.Command, args []string) error {
		switch _, known := metering.ReasonOf(q.Reason); {
		case len(args) > 0 && (q.Reason != "" || q.Source != ""):
			return usageError(errors.New("name receipts, or narrow what waits by --reason and --source, not both"))
		case len(args) > metering.MaxRefusedAsked:
			return usageError(fmt.Errorf("%d receipts: name at most %d at a time", len(args), metering.MaxRefusedAsked))
		case q.Reason != "" && !known:
			return usageError(fmt.Errorf("--reason %q: no such reason; mete quarantine list shows those there are", q.Reason))
		case dryRun:
			return nil
		}
		_, err := e.actor()
		return err
	}
	return c
}

// replay takes refusals through the gate again and waits until the store has counted
// what passed. Interrupted, it may be run again: it goes on with what still waits.
func (a *app) replay(ctx context.Context, e *env, req metering.ReplayRequest) (replayReport, error) {
	var r replayReport
	if err := a.drain(ctx); err != nil { // what is on its way counts before
		return r, err
	}
	before, err := a.tally(ctx)
	if err != nil {
		return r, err
	}
	p := newProgress(e)
	req.Progress = func(tried, waiting int64) { p.draw("replaying", tried, waiting, false) }
	gate := a.gate()
	gate.Now = e.now
	replayer := metering.Replayer{Gate: gate, Replays: a.events}
	r.ReplayReport, err = replayer.Replay(ctx, req)
	p.done()
	if err != nil {
		return r, err
	}
	if len(r.Unknown) > 0 && r.Tried+r.Unfit == 0 {
		return r, usageError(fmt.Errorf("no refusal has the receipt %s; mete quarantine list shows the newest", strings.Join(r.Unknown, ", ")))
	}
	if req.DryRun {
		return r, nil
	}
	if err := a.drain(ctx); err != nil {
		return r, err
	}
	after, err := a.tally(ctx)
	r.Stored, r.Duplicate, r.Conflict = after.Stored-before.Stored, after.Duplicate-before.Duplicate, after.Conflict-before.Conflict
	return r, err
}

func (r replayReport) writeText(w io.Writer) error {
	verb := "replayed"
	if r.DryRun {
		verb = "tried, nothing was sent:"
	}
	fmt.Fprintf(w, "%s %s refused events\n  passed        %10s", verb, groupInt(r.Tried), groupInt(r.Passed))
	if !r.DryRun {
		fmt.Fprintf(w, "   in the store: %s new, %s duplicates, %s conflicts", groupInt(r.Stored), groupInt(r.Duplicate), groupInt(r.Conflict))
	}
	fmt.Fprintf(w, "\n  refused again %10s\n", groupInt(r.Refused))
	for _, k := range sortedKeys(r.Reasons) {
		fmt.Fprintf(w, "    %10s  %s\n", groupInt(r.Reasons[k]), k)
	}
	for _, f := range r.First {
		fmt.Fprintf(w, "    e.g. %s\n", f)
	}
	for _, id := range r.Unknown {
		fmt.Fprintf(w, "  no refusal has the receipt %s\n", id)
	}
	return nil
}
