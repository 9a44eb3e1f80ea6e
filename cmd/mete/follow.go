package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"mete/metering"
)

// How often following looks, and how often it says that nothing happened.
const (
	followEvery    = 5 * time.Second
	minFollowEvery = time.Second
	maxFollowEvery = time.Hour
	followBeat     = time.Minute

	maxFollowFindings = 100 // about what was stored
)

// followOptions say how long and how often metering is watched.
type followOptions struct {
	every time.Duration
	until time.Duration // 0: until stopped
}

// The events of a [followLine].
const (
	followBegin  = "begin"
	followChange = "change"
	followQuiet  = "quiet" // nothing happened for a while; it still looks
	followEnd    = "end"
)

// followLine is what following prints: how far metering is now, and what does not add
// up.
type followLine struct {
	At        time.Time      `json:"at"`
	Event     string         `json:"event"`
	Tally     metering.Tally `json:"tally"` // of everything that is stored
	New       metering.Tally `json:"new"`   // since the line before
	Behind    uint64         `json:"behind"`
	Freshness float64        `json:"freshness_seconds"` // how long the oldest event that is not stored waits
	Queued    int            `json:"queued"`
	Refused   int64          `json:"refused"`
	Waiting   int64          `json:"waiting"` // of the refused, for a replay
	Findings  []string       `json:"findings"`
}

// following is metering under watch. Each look costs what came since the last one: the
// headers of new messages in the stream, and what they were tallied as.
type following struct {
	app    *app
	upTo   metering.Cutoff // looked at up to here
	total  metering.Tally
	fixed  []string // findings about what was stored; they stay
	said   followLine
	saidAt time.Time
}

// follow watches until ctx ends or for as long as it was told, and reports whether it
// ended with a difference.
func (a *app) follow(ctx context.Context, e *env, o followOptions) (bool, error) {
	go io.Copy(io.Discard, e.in) // what is typed meanwhile means nothing, and must not block who sends it
	f := &following{app: a}
	if o.until > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.until)
		defer cancel()
	}
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for event := followBegin; ; event = "" {
		now := f.look(ctx)
		if ctx.Err() != nil {
			break
		}
		now.At = e.now().UTC()
		if event == "" {
			switch {
			case f.changed(now):
				event = followChange
			case time.Since(f.saidAt) >= followBeat:
				event = followQuiet
			}
		}
		if event != "" {
			if err := f.say(e, event, now); err != nil {
				return false, err
			}
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		break
	}
	last := f.said
	last.At = e.now().UTC()
	last.New = metering.Tally{}
	return len(last.Findings) > 0, f.say(e, followEnd, last)
}

// look asks stream and store once.
func (f *following) look(ctx context.Context) followLine {
	h := f.app.health(ctx)
	now := followLine{Freshness: h.Freshness, Queued: h.Queued}
	var passing []string // findings that may pass
	if !h.OK {
		passing = append(passing, h.Error)
	}
	for _, l := range h.Worker.Partitions {
		now.Behind += l.Behind
		if l.Stored > l.Last {
			passing = append(passing, fmt.Sprintf("partition %d: the store is at %d, the stream ends at %d", l.Partition, l.Stored, l.Last))
		}
	}
	if err := f.count(ctx); err != nil {
		passing = append(passing, "not looked at: "+err.Error())
	}
	counts, err := f.app.events.RefusedCounts(ctx)
	if err != nil {
		passing = append(passing, "not looked at: "+err.Error())
	}
	for _, c := range counts {
		now.Refused += c.Refused
		now.Waiting += c.Waiting
	}
	now.Tally = f.total
	now.Findings = append(slices.Clone(f.fixed), passing...)
	return now
}

// count adds what was stored since the last look, and compares it with what the stream
// announces of the same messages.
func (f *following) count(ctx context.Context) error {
	upTo, err := f.app.events.Cutoff(ctx)
	if err != nil {
		return err
	}
	first := f.upTo == nil
	more, err := f.app.events.Tally(ctx, f.upTo, upTo)
	if err != nil {
		return err
	}
	find := func(format string, args ...any) {
		switch text := fmt.Sprintf(format, args...); {
		case len(f.fixed) < maxFollowFindings:
			f.fixed = append(f.fixed, text)
		case len(f.fixed) == maxFollowFindings:
			f.fixed = append(f.fixed, "and more differences than are told; mete reconcile lists all")
		}
	}
	if !first { // what was there before is reconcile's own to read
		messages, announced, err := f.app.streams.TotalsAfter(ctx, f.upTo, upTo)
		if err != nil {
			return err
		}
		if messages != more.Messages || announced != more.Announced {
			find("from %s to %s the stream has %d messages with %d events, the store has seen %d with %d",
				f.upTo, upTo, messages, announced, more.Messages, more.Announced)
		}
	}
	if more.Accounted() != more.Announced {
		find("up to %s: %d events are announced, %d are stored, duplicate, conflict or undecoded", upTo, more.Announced, more.Accounted())
	}
	f.total = plusTally(f.total, more)
	var positions int64
	for _, p := range upTo {
		positions += int64(p.Sequence)
	}
	if first && positions != f.total.Messages {
		find("the store is at %s, which is %d messages, and has tallied %d", upTo, positions, f.total.Messages)
	}
	f.upTo = upTo
	return nil
}

func plusTally(a, b metering.Tally) metering.Tally {
	a.Messages += b.Messages
	a.Announced += b.Announced
	a.Stored += b.Stored
	a.Duplicate += b.Duplicate
	a.Conflict += b.Conflict
	a.Undecoded += b.Undecoded
	if b.NewestAt.After(a.NewestAt) {
		a.NewestAt = b.NewestAt
	}
	return a
}

// changed reports whether there is something to say that the last line did not.
func (f *following) changed(now followLine) bool {
	return now.Tally != f.said.Tally || now.Behind != f.said.Behind || now.Refused != f.said.Refused || now.Waiting != f.said.Waiting ||
		!slices.Equal(now.Findings, f.said.Findings)
}

// say prints a line: a JSON object, or a sentence and the findings that are new.
func (f *following) say(e *env, event string, now followLine) error {
	now.Event = event
	if event == followChange || event == followQuiet {
		before := f.said.Tally
		now.New = metering.Tally{Messages: now.Tally.Messages - before.Messages, Announced: now.Tally.Announced - before.Announced, Stored: now.Tally.Stored - before.Stored,
			Duplicate: now.Tally.Duplicate - before.Duplicate, Conflict: now.Tally.Conflict - before.Conflict, Undecoded: now.Tally.Undecoded - before.Undecoded}
	}
	told := f.said.Findings
	f.said, f.saidAt = now, time.Now()
	if now.Findings == nil {
		now.Findings = []string{}
	}
	if e.json {
		b, err := json.Marshal(now)
		if err != nil {
			return err
		}
		_, err = e.out.Write(append(b, '\n'))
		return err
	}
	return now.writeText(e.out, told)
}

func (l followLine) writeText(w io.Writer, told []string) error {
	at := l.At.Format("15:04:05")
	state := fmt.Sprintf("behind %s", groupInt(int64(l.Behind)))
	if l.Behind > 0 {
		state += fmt.Sprintf(" messages, the oldest for %s", time.Duration(l.Freshness*float64(time.Second)).Round(time.Second))
	}
	if l.Refused > 0 {
		state += fmt.Sprintf(" · refused %s, %s waiting", groupInt(l.Refused), groupInt(l.Waiting))
	}
	t := l.Tally
	switch l.Event {
	case followBegin:
		newest := "none"
		if !t.NewestAt.IsZero() {
			newest = t.NewestAt.Format("2006-01-02 15:04:05 MST")
		}
		fmt.Fprintf(w, "%s  %s events stored of %s announced, %s duplicates, %s conflicts, %s undecoded · newest %s · %s\n", at, groupInt(t.Stored), groupInt(t.Announced),
			groupInt(t.Duplicate), groupInt(t.Conflict), groupInt(t.Undecoded), newest, state)
	case followChange:
		n := l.New
		fmt.Fprintf(w, "%s  + %s events: %s new, %s duplicates, %s conflicts, %s undecoded · %s\n", at, groupInt(n.Announced), groupInt(n.Stored), groupInt(n.Duplicate), groupInt(n.Conflict), groupInt(n.Undecoded), state)
	case followQuiet:
		fmt.Fprintf(w, "%s  … nothing new · %s\n", at, state)
	case followEnd:
		fmt.Fprintf(w, "%s  end: %s events stored of %s announced · %s\n", at, groupInt(t.Stored), groupInt(t.Announced), state)
		told = nil // at the end all that holds is told
	}
	for _, f := range l.Findings {
		if !slices.Contains(told, f) {
			fmt.Fprintf(w, "%s  ! %s\n", at, f)
		}
	}
	for _, f := range told {
		if !slices.Contains(l.Findings, f) {
			fmt.Fprintf(w, "%s  passed: %s\n", at, f)
		}
	}
	if l.Event == followEnd {
		_, err := fmt.Fprintf(w, "difference %d\n", len(l.Findings))
		return err
	}
	return nil
}
