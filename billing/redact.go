package billing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/ledger"
	"mete/metering"
	"mete/period"
)

// ErrPriced says that a value cannot be redacted because amounts follow from it.
var ErrPriced = errors.New("amounts follow from this value")

// factsReadAlone are the event types of which pricing may look at every text.
var factsReadAlone = func() map[string]bool {
	all := map[string]bool{}
	for _, t := range factTypes {
		all[t] = true
	}
	return all
}()

// readByPricing reports whether what an event is worth may follow from the text of a
// field: of facts, all that rules and referrals look for; of usage, what cells are
// priced by.
func readByPricing(e *metering.Accepted, field string) bool {
	switch {
	case e.Type == metering.UsageVoided || e.Data.Environment == metering.Sandbox:
		return false
	case field == "data.unit" || strings.HasPrefix(field, "data.dimensions."):
		return false // but for contracts whose rates are by it, see ratedBy
	case factsReadAlone[e.Type]:
		return true
	}
	return field == "subject" || field == "data.operation"
}

// ratedBy reports whether a contract that may price the event has rates by the field.
func (c *Closer) ratedBy(ctx context.Context, e *metering.Accepted, field string) (bool, error) {
	if e.Data.Environment == metering.Sandbox {
		return false, nil
	}
	snap, err := c.Catalogue.Current(ctx)
	if err != nil {
		return false, err
	}
	near := period.MonthOf(e.Time, time.UTC)
	for _, m := range []period.Month{near.Add(-1), near, near.Add(1)} { // in a contract's zone it may lie in the month beside
		for _, v := range snap.ContractsIn(m) {
			if slices.Contains(snap.AppsOf(v.Terms), e.Data.App) && slices.Contains(v.Terms.RatedBy(), strings.TrimPrefix(field, "data.")) {
				return true, nil
			}
		}
	}
	return false, nil
}

// readAgain reports whether later closes look at the text of a field of a fact that an
// earlier one has priced: who brought a customer, what was opened and is not closed.
func readAgain(e *metering.Accepted, field string) bool {
	if e.Data.Environment == metering.Sandbox {
		return false
	}
	switch e.Type {
	case metering.LeadQualified, metering.LeadConverted, metering.LeadCancelled:
		return field == "subject" || field == "data.lead" || field == "data.reference"
	case metering.IncidentOpened, metering.SupportOpened:
		return field == "id"
	case metering.ExceptionGranted:
		return field == "id" || field == "data.reference" && extends(e)
	case metering.IncidentClosed, metering.ExceptionClosed, metering.SupportAnswered, metering.SupportClosed:
		return field == "data.refers_to"
	case metering.ReviewDecided:
		return field == "data.reference"
	}
	return false
}

// CheckRedactions reports why values may not be redacted together, nil if nothing that
// was or will be paid depends on them. Every closed month from the events' own on must
// verify with the values overwritten as it does now: the same scorecards, results,
// statements. An event that waits for a close must not be priced by the field: then it
// is voided and sent again, and what is left of it may be redacted. The error wraps
// ErrPriced.
func (c *Closer) CheckRedactions(ctx context.Context, rs ...metering.Redaction) error {
	o, waiting, err := c.overwrite(ctx, rs)
	if err != nil || len(o.moved) == 0 { // only conflicts and refusals hold them, and they are never priced
		return err
	}
	for _, r := range rs {
		m := o.at[r.Key]
		if m == nil || m.voided != nil || metering.ValueOf(&m.before.Event, r.Field) == "" {
			continue
		}
		rated, err := c.ratedBy(ctx, &m.before, r.Field)
		if err != nil {
			return err
		}
		if rated {
			waiting[r.Key] = r.Field
		}
	}
	months, err := c.Store.Months(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(months, func(a, b MonthStatus) int { return strings.Compare(a.Month.String(), b.Month.String()) })
	after := *c
	after.Events, after.Redactions = o, pending{c.Redactions, rs}
	for i, s := range months {
		if s.State != ledger.Closed && s.State != ledger.Locked {
			if s.Manifest != nil {
				return fmt.Errorf("%s is being closed; redact when that has ended: %w", s.Month, ErrState)
			}
			continue
		}
		touched := false
		for _, m := range o.moved {
			t, in := touches(s, &m.before)
			touched = touched || t
			if in && !m.again {
				delete(waiting, m.before.Key) // a close has priced it, and no other will
			}
		}
		if !touched {
			continue
		}
		c.progress("verifying closed months without the values", i, len(months))
		v, err := after.Verify(ctx, s.Month)
		if err != nil {
			return fmt.Errorf("%s must verify without the values: %w", s.Month, err)
		}
		if len(v.Findings) > 0 {
			f := v.Findings[0]
			return fmt.Errorf("closed %s does not verify without the value (%d differences, such as %s %s): what was closed says it, too: %w",
				s.Month, len(v.Findings), f.Check, f.Where, ErrPriced)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(waiting), metering.Key.Compare) {
		return fmt.Errorf("a close to come may price event %s by %s; void it and send it again clean, then redact it: %w", key, waiting[key], ErrPriced)
	}
	return nil
}

// overwrite shows the metering store as it will be, and names the events that are priced
// by a field that goes.
func (c *Closer) overwrite(ctx context.Context, rs []metering.Redaction) (*overwritten, map[metering.Key]string, error) {
	o := &overwritten{Store: c.Events, at: map[metering.Key]*moved{}}
	waiting := map[metering.Key]string{}
	for _, r := range rs {
		m := o.at[r.Key]
		if m == nil {
			f, err := c.Events.Find(ctx, r.Key)
			if err != nil {
				return nil, nil, err
			}
			if f.Event == nil {
				continue
			}
			m = &moved{before: *f.Event, after: *f.Event, voided: f.Voided}
			o.at[r.Key] = m
			o.moved = append(o.moved, m)
		}
		if metering.ValueOf(&m.after.Event, r.Field) == "" {
			continue
		}
		r.Apply(&m.after.Event)
		if m.voided == nil && readByPricing(&m.before, r.Field) {
			waiting[r.Key] = r.Field
			m.again = m.again || readAgain(&m.before, r.Field)
		}
	}
	return o, waiting, nil
}

// touches reports whether an event may have had a part in the close of a month, and
// whether it lies in the month itself. Facts of all time before may have.
func touches(s MonthStatus, e *metering.Accepted) (touched, in bool) {
	if s.Manifest == nil || !holds(s.Manifest.Cutoff, e.Position) {
		return false, false
	}
	for _, b := range s.Manifest.Bounds {
		touched = touched || e.Time.Before(b.End)
		in = in || b.Contains(e.Time)
	}
	return touched, in
}

// pending are the redactions with more that are not approved yet.
type pending struct {
	metering.Redactor
	more []metering.Redaction
}

func (p pending) Redactions(ctx context.Context, keys ...metering.Key) ([]metering.Redaction, error) {
	var all []metering.Redaction
	if p.Redactor != nil {
		var err error
		if all, err = p.Redactor.Redactions(ctx, keys...); err != nil {
			return nil, err
		}
	}
	for _, r := range p.more {
		all = slices.DeleteFunc(all, func(o metering.Redaction) bool { return o.ID == r.ID })
		r.ApprovedBy = "nobody yet"
		all = append(all, r)
	}
	return all, nil
}

// redactionsIn are the applied redactions whose event may have had a part in the close
// of a month: the digests of what was priced then are of the values that are gone.
func (c *Closer) redactionsIn(ctx context.Context, s MonthStatus) ([]metering.Redaction, error) {
	if c.Redactions == nil {
		return nil, nil
	}
	all, err := c.Redactions.Redactions(ctx)
	if err != nil {
		return nil, err
	}
	var in []metering.Redaction
	for _, r := range all {
		if !r.Applied() {
			continue
		}
		f, err := c.Events.Find(ctx, r.Key)
		if err != nil {
			return nil, err
		}
		if f.Event == nil {
			continue
		}
		if touched, _ := touches(s, f.Event); touched {
			in = append(in, r)
		}
	}
	return in, nil
}

// overwritten shows a metering store as it will be once fields of events are overwritten.
type overwritten struct {
	metering.Store
	moved []*moved
	at    map[metering.Key]*moved
}

// moved is one event, as it is and as it will be.
type moved struct {
	before, after metering.Accepted
	voided        *metering.Position
	again         bool // later closes look at what goes, see readAgain
}

// counts reports whether the event counts in the usage of a span.
func (m *moved) counts(s metering.Span) bool {
	e := &m.before
	within := func(c metering.Cutoff, p metering.Position) bool { return c == nil || holds(c, p) }
	switch {
	case e.Type == metering.UsageVoided,
		!s.Start.IsZero() && e.Time.Before(s.Start), !s.End.IsZero() && !e.Time.Before(s.End),
		s.Apps != nil && !slices.Contains(s.Apps, e.Data.App),
		!within(s.UpTo, e.Position), len(s.After) > 0 && holds(s.After, e.Position),
		m.voided != nil && within(s.UpTo, *m.voided):
		return false
	}
	return true
}

// Usage moves each event from its cell to the one that it will be in.
func (o *overwritten) Usage(ctx context.Context, s metering.Span) iter.Seq2[metering.Usage, error] {
	var from, to []metering.Usage
	for _, m := range o.moved {
		if was, is := cellOf(&m.before), cellOf(&m.after); m.counts(s) && !sameCell(was, is) {
			from, to = append(from, was), append(to, is)
		}
	}
	return func(yield func(metering.Usage, error) bool) {
		rest := slices.Clone(to)
		for u, err := range o.Store.Usage(ctx, s) {
			if err == nil {
				for _, f := range from {
					if sameCell(u, f) {
						u = plus(u, f, -1)
					}
				}
				rest = slices.DeleteFunc(rest, func(t metering.Usage) bool {
					same := sameCell(u, t)
					if same {
						u = plus(u, t, 1)
					}
					return same
				})
				if u.Count == 0 {
					continue
				}
			}
			if !yield(u, err) {
				return
			}
		}
		for _, u := range rest { // no two share one: a tombstone is that of one event
			if !yield(u, nil) {
				return
			}
		}
	}
}

// cellOf is the cell of one event alone.
func cellOf(e *metering.Accepted) metering.Usage {
	d := &e.Data
	u := metering.Usage{App: d.App, Customer: e.Customer, Type: e.Type, Class: d.Class, Operation: d.Operation, Unit: d.Unit, Currency: d.Currency,
		Status: d.Status, Environment: d.Environment, Count: 1, Bytes: d.Bytes}
	if len(d.Dimensions) > 0 {
		var b strings.Builder
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(d.Dimensions); err != nil {
			panic("billing: internal error: dimensions: " + err.Error()) // texts always encode
		}
		u.Dimensions = strings.TrimSuffix(b.String(), "\n")
	}
	u.Quantity = decimal.NewFromInt(1)
	if d.Quantity != nil {
		u.Quantity = *d.Quantity
	}
	if d.Amount != nil {
		u.Amount = *d.Amount
	}
	if d.LatencyMS != nil && d.LatencyMS.GreaterThan(decimal.NewFromInt(metering.SlowMS)) {
		u.Slow = 1
	}
	return u
}

// sameCell reports whether two cells agree in every field that usage is grouped by.
func sameCell(a, b metering.Usage) bool {
	return a.App == b.App && a.Customer == b.Customer && a.Type == b.Type && a.Class == b.Class && a.Operation == b.Operation && a.Unit == b.Unit &&
		a.Currency == b.Currency && a.Status == b.Status && a.Environment == b.Environment && maps.Equal(dimensionsOf(a), dimensionsOf(b))
}

func dimensionsOf(u metering.Usage) (all map[string]string) {
	if u.Dimensions != "" && json.Unmarshal([]byte(u.Dimensions), &all) != nil {
		return map[string]string{"": u.Dimensions} // equal to itself alone
	}
	return all
}

// plus adds the sums of one event's cell, or takes them away.
func plus(u, event metering.Usage, sign int64) metering.Usage {
	times := decimal.NewFromInt(sign)
	u.Count += sign
	u.Bytes += sign * event.Bytes
	u.Slow += sign * event.Slow
	u.Quantity = u.Quantity.Add(event.Quantity.Mul(times))
	u.Amount = u.Amount.Add(event.Amount.Mul(times))
	return u
}

// Transactions shows events with the values overwritten.
func (o *overwritten) Transactions(ctx context.Context, s metering.Span, types []string) iter.Seq2[metering.Transaction, error] {
	return func(yield func(metering.Transaction, error) bool) {
		for t, err := range o.Store.Transactions(ctx, s, types) {
			if m := o.at[t.Key]; err == nil && m != nil {
				t.Event = m.after.Event
			}
			if !yield(t, err) {
				return
			}
		}
	}
}

// Events shows events with the values overwritten.
func (o *overwritten) Events(ctx context.Context, s metering.Span, f metering.Filter) iter.Seq2[metering.Accepted, error] {
	return func(yield func(metering.Accepted, error) bool) {
		for e, err := range o.Store.Events(ctx, s, f) {
			if m := o.at[e.Key]; err == nil && m != nil {
				e.Event = m.after.Event
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// extends reports whether an exception moves the day on which a review is due.
func extends(e *metering.Accepted) bool {
	_, ok, err := metering.ExtensionOf(e.Data.Reference)
	return ok || err != nil
}
