package metering

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// Replayer takes kept refusals through the gate again, as the same events: source and
// id are theirs, so is the key, and one that passes twice counts once. Read
// [Replayer.Replay] first.
type Replayer struct {
	// Gate decides and publishes. What it refuses again is kept already, so its
	// quarantine gets nothing.
	Gate    *Gate
	Replays Replays
}

// ReplayRequest says what is replayed, and for whom.
type ReplayRequest struct {
	Query    RefusedQuery // which; without IDs, only what waits. Its place and limit are not used
	By       string
	DryRun   bool                       // decide, publish and keep nothing
	Progress func(tried, waiting int64) // may be nil
}

// ReplayReport is what became of a replay. Whoever runs it again goes on with what
// still waits.
type ReplayReport struct {
	DryRun  bool             `json:"dry_run,omitempty"`
	Tried   int64            `json:"tried"`
	Passed  int64            `json:"passed"`
	Refused int64            `json:"refused"`           // again
	Unfit   int64            `json:"unfit"`             // of those named by receipt: nothing of them is kept that could be replayed
	Unknown []string         `json:"unknown,omitempty"` // receipts that name no refusal
	Reasons map[string]int64 `json:"reasons,omitempty"`
	First   []string         `json:"first_refused,omitempty"` // why, at most a few
}

// replayBatch is how many refusals go through the gate at a time.
const replayBatch = 500

// maxReplayShown bounds how many refusals a report tells one by one.
const maxReplayShown = 5

// Replay takes what the request names through the gate again, the oldest first, in
// batches. Each batch is published before it is marked: after a crash between the two
// it passes again, and counts once all the same. Of what is refused again nothing
// changes but the reason; that is kept at the first time and when it is another one,
// so that a replay every night adds nothing.
func (r *Replayer) Replay(ctx context.Context, req ReplayRequest) (ReplayReport, error) {
	report := ReplayReport{DryRun: req.DryRun, Reasons: map[string]int64{}}
	waiting, err := r.waiting(ctx, req.Query)
	if err != nil {
		return report, fmt.Errorf("replay: %w", err)
	}
	q := req.Query
	q.Waiting = len(q.IDs) == 0
	q.Limit, q.After = replayBatch, nil
	unknown := map[string]bool{}
	for _, id := range q.IDs {
		unknown[id] = true
	}
	for {
		batch, err := r.Replays.Refused(ctx, q)
		if err != nil {
			return report, fmt.Errorf("replay: %w", err)
		}
		if err := r.batch(ctx, req, batch, &report); err != nil {
			return report, fmt.Errorf("replay: %w", err)
		}
		if req.Progress != nil {
			req.Progress(report.Tried, max(waiting, report.Tried))
		}
		for i := range batch {
			delete(unknown, batch[i].ID)
		}
		if len(batch) < replayBatch {
			report.Unknown = slices.Sorted(maps.Keys(unknown))
			return report, nil
		}
		last := &batch[len(batch)-1]
		q.After = &RefusedPlace{last.ReceivedAt, last.ID}
	}
}

// waiting is about how many refusals a query names.
func (r *Replayer) waiting(ctx context.Context, q RefusedQuery) (int64, error) {
	if len(q.IDs) > 0 {
		return int64(len(q.IDs)), nil
	}
	counts, err := r.Replays.RefusedCounts(ctx)
	if err != nil {
		return 0, err
	}
	var n int64
	for _, c := range counts {
		if q.Reason == "" || q.Reason == c.Reason {
			n += c.Waiting
		}
	}
	return n, nil
}

// batch replays refusals sender by sender: what the gate decides depends on who sent
// an event.
func (r *Replayer) batch(ctx context.Context, req ReplayRequest, batch []Refused, report *ReplayReport) error {
	var senders []string // in the order they first come
	bySender := map[string][]*Refused{}
	for i := range batch {
		f := &batch[i]
		if f.State() == StateResend {
			report.Unfit++
			report.tell("%s cannot be replayed, nothing of it is kept (%s): mend the sender and send it again clean", f.ID, f.Reason)
			continue
		}
		if bySender[f.Sender] == nil {
			senders = append(senders, f.Sender)
		}
		bySender[f.Sender] = append(bySender[f.Sender], f)
	}
	for _, sender := range senders {
		if err := r.admit(ctx, req, sender, bySender[sender], report); err != nil {
			return err
		}
	}
	return nil
}

func (r *ReplayReport) tell(format string, args ...any) {
	if len(r.First) < maxReplayShown {
		r.First = append(r.First, fmt.Sprintf(format, args...))
	}
}

// admit takes refusals of one sender through the gate and keeps what became of them.
func (r *Replayer) admit(ctx context.Context, req ReplayRequest, sender string, refused []*Refused, report *ReplayReport) error {
	events := make([]Decoded, len(refused))
	for i, f := range refused {
		e, err := DecodeCanonical(f.Event)
		if err != nil {
			return fmt.Errorf("refusal %s: its kept form is damaged; restore the store from a backup: %w", f.ID, err)
		}
		events[i] = Decoded{Event: e, Raw: f.Event}
	}
	gate := *r.Gate
	gate.Quarantine = keptAlready{}
	if req.DryRun {
		gate.Intake = nowhere{}
	}
	verdicts, err := gate.Admit(ctx, Sender{Owner: sender, Any: sender == "", Where: "replay"}, events)
	if err != nil {
		return err
	}
	at := gate.now()
	var facts []Replay
	for i, v := range verdicts {
		f := refused[i]
		p := Replay{Refusal: f.ID, By: req.By, At: at, Passed: v.Status == StatusAccepted}
		report.Tried++
		if p.Passed {
			report.Passed++
			p.Receipt, p.Position = v.Receipt, v.Position
		} else {
			report.Refused++
			p.Class, p.Reason, p.Detail, p.Field = v.Refusal.Class, v.Reason, v.Detail, v.Refusal.Field
			report.Reasons[p.Class+"/"+p.Reason]++
			report.tell("%s %s: %s: %s", f.ID, f.Where, p.Reason, p.Detail)
		}
		if n := len(f.Replays); n == 0 || !f.Replays[n-1].SameOutcome(p) {
			facts = append(facts, p)
		}
	}
	if req.DryRun || len(facts) == 0 {
		return nil
	}
	return r.Replays.Replayed(ctx, facts)
}

// keptAlready is the quarantine of a replay: what is refused again is kept.
type keptAlready struct{ Quarantine }

func (keptAlready) Refuse(context.Context, []Refusal) error { return nil }

// nowhere is the intake of a dry run.
type nowhere struct{}

func (nowhere) Accept(_ context.Context, events []Event) ([]Position, error) {
	return make([]Position, len(events)), nil
}
