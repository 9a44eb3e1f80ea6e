package billing

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/pricing"
)

// Explanation is one line of a statement down to its events and up to its postings.
type Explanation struct {
	Statement StatementID         `json:"statement"`
	State     string              `json:"state"`
	Line      Line                `json:"line"`
	Terms     string              `json:"terms"` // contract and version
	Entry     string              `json:"entry"`
	Events    []metering.Accepted `json:"events,omitempty"`
	More      bool                `json:"more,omitempty"`   // there are more events than were asked for
	Others    []string            `json:"others,omitempty"` // contracts that could share the line's sales, and why this one does
	Was       *Side               `json:"was,omitempty"`    // of a difference: what the closed month had come to
	Is        *Side               `json:"is,omitempty"`     // and what it comes to with it
	zone      *time.Location
}

// Explain says where a line comes from. With limit > 0 it lists at most so many of
// the events behind it, as counted by the close of the statement's month.
func (c *Closer) Explain(ctx context.Context, id StatementID, number, limit int) (Explanation, error) {
	r, err := c.Store.Statement(ctx, id)
	if err != nil {
		return Explanation{}, fmt.Errorf("explain %s: %w", id, err)
	}
	l, err := r.Line(number)
	if err != nil {
		return Explanation{}, err
	}
	x := Explanation{Statement: id, State: r.State, Line: l, Entry: r.EntryID(), zone: time.UTC}
	if z, err := time.LoadLocation(r.Zone); err == nil {
		x.zone = z
	}
	if l.Contract != "" {
		x.Terms = fmt.Sprintf("%s v%d, rule %s (%s)", l.Contract, l.Version, l.Rule, l.Kind)
	}
	status, err := c.Store.Month(ctx, r.Month)
	if err != nil {
		return x, err
	}
	if x.Was, x.Is, err = c.sides(ctx, l, status); err != nil {
		return x, fmt.Errorf("explain %s line %d: %w", id, number, err)
	}
	t := c.tracer(status.Manifest)
	if x.Others, err = t.others(ctx, l); err != nil {
		return x, fmt.Errorf("explain %s: %w", id, err)
	}
	if limit == 0 || l.Adjustment != "" || len(l.Events.Types) == 0 { // a rule that follows others has no events of its own
		return x, nil
	}
	if status.Manifest == nil {
		return x, fmt.Errorf("explain %s: the month's manifest is missing: %w", id, ErrNotFound)
	}
	span := metering.Span{Start: l.Events.Period.Start, End: l.Events.Period.End, UpTo: status.Manifest.Cutoff, Apps: l.Events.Apps}
	if l.Section == Corrections && !x.amended() { // other terms are a difference of all events, also of those in time
		before, err := c.Store.Month(ctx, r.Month.Add(-1))
		if err != nil {
			return x, err
		}
		if before.Manifest != nil {
			span.After = before.Manifest.Cutoff
		}
	}
	for e, err := range c.Events.Events(ctx, span, metering.Filter{Class: l.Events.Class, Customer: l.Events.Customer}) {
		if err != nil {
			return x, fmt.Errorf("explain %s: events: %w", id, err)
		}
		if holds, err := t.behind(ctx, l, e); err != nil {
			return x, fmt.Errorf("explain %s: event %s of %s: %w", id, e.ID, e.Source, err)
		} else if !holds {
			continue
		}
		if len(x.Events) == limit {
			x.More = true
			break
		}
		x.Events = append(x.Events, e)
	}
	return x, nil
}

// WriteText writes the explanation as arithmetic that a person can redo.
func (x Explanation) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	l := x.Line
	fmt.Fprintf(b, "%s line %d (%s)\n", x.Statement, l.Number, x.State)
	fmt.Fprintf(b, "  %s%s%s\n", pad(l.Text, 60), left(l.Amount.Grouped(), 20), " "+string(l.Amount.Currency))
	if x.Terms != "" {
		fmt.Fprintf(b, "  under %s\n", x.Terms)
	}
	if l.Cause != "" {
		fmt.Fprintf(b, "  because %s\n", l.Cause)
	}
	if len(l.Derivation) > 0 {
		fmt.Fprintln(b, "\n  The arithmetic")
		writeSteps(b, l.Derivation, l.roundedText())
	}
	x.writeSides(b)
	for _, n := range l.Notes {
		fmt.Fprintf(b, "  note: %s\n", n)
	}
	x.writePrecedence(b)
	x.writeExchanged(b)
	x.writeAllocations(b)
	fmt.Fprintf(b, "\n  Booked in %s\n", x.Entry)
	x.writeEvents(b)
	return b.Flush()
}

// writeSteps writes steps and their sum.
func writeSteps(b *bufio.Writer, steps []pricing.Step, rounded string) {
	sum := decimal.Zero
	for _, s := range steps {
		sum = sum.Add(s.Is)
		fmt.Fprintf(b, "    %s%s × %s =%s\n", pad(s.What, 44), left(money.Group(s.Of.String()), 17), pad(s.Times.String(), 8), left(money.Group(s.Is.String()), 18))
	}
	fmt.Fprintf(b, "    %s%s\n", pad("sum; "+rounded, 44), left(money.Group(sum.String()), 48))
}

// roundedText says how the sum of the steps became the amount. What quality moves is the
// difference of two roundings, of the share with it and without it.
func (l Line) roundedText() string {
	if l.Part == "quality" && l.Section != Corrections {
		return fmt.Sprintf("with its share rounded to %s", l.Amount.Grouped())
	}
	return fmt.Sprintf("rounded once to %s", l.Amount.Grouped())
}

// maxAllocations bounds how many allocations are written out.
const maxAllocations = 10

func (x Explanation) writeAllocations(b *bufio.Writer) {
	as := x.Line.Allocations
	if len(as) == 0 {
		return
	}
	fmt.Fprintln(b, "\n  Falls to (app, customer, events, amount)")
	for i, a := range as {
		if i == maxAllocations {
			fmt.Fprintf(b, "    and %d more; --json lists all\n", len(as)-i)
			break
		}
		fmt.Fprintf(b, "    %s%s%s%s\n", pad(string(a.App), 26), pad(string(a.Customer), 26), left(groupInt(a.Events), 10), left(a.Amount.Grouped(), 16))
	}
}

func (x Explanation) writeEvents(b *bufio.Writer) {
	if len(x.Events) == 0 {
		return
	}
	fmt.Fprintln(b, "\n  The events (time, source, id, what, position)")
	for _, e := range x.Events {
		what := e.Type
		switch {
		case e.Data.Amount != nil:
			what += " " + money.Group(e.Data.Amount.StringFixed(e.Data.Currency.Digits())) + " " + string(e.Data.Currency)
		case e.Data.Operation != "":
			what += " " + e.Data.Operation
		}
		fmt.Fprintf(b, "    %s  %s  %s  %s  %d/%d.%d\n", e.Time.In(x.zone).Format("2006-01-02 15:04:05"),
			pad(e.Source, 16), pad(short(e.ID, 36), 36), pad(short(what, 40), 40), e.Position.Partition, e.Position.Sequence, e.Position.Index)
	}
	if x.More {
		fmt.Fprintf(b, "    and more; --limit N lists further ones\n")
	}
}
