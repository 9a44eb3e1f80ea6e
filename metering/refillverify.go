package metering

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/partner"
	"mete/period"
)

// Comparison holds a new store against what it was filled from, up to one cutoff.
type Comparison struct {
	UpTo     Cutoff     `json:"up_to"`
	Compared []Compared `json:"compared"`
	Findings []string   `json:"findings"`           // at most MaxDifferences
	Notes    []string   `json:"notes,omitempty"`    // what the store in use says otherwise, where the stream was copied
	Told     int        `json:"difference"`         // of findings, also of those that are not told
	Redacted int        `json:"redacted,omitempty"` // redactions that hold in the new store
}

// Compared is one figure of both sides.
type Compared struct {
	What string `json:"what"`
	From string `json:"from"` // of what the store was filled from
	To   string `json:"to"`
	OK   bool   `json:"ok"`
}

// MaxDifferences bounds the findings, and the notes, that a comparison tells.
const MaxDifferences = 100

func (c *Comparison) find(format string, args ...any) {
	if c.Told++; len(c.Findings) < MaxDifferences {
		c.Findings = append(c.Findings, fmt.Sprintf(format, args...))
	}
}

func (c *Comparison) note(format string, args ...any) {
	if len(c.Notes) < MaxDifferences {
		c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
	}
}

func (c *Comparison) compare(what string, from, to int64) {
	c.Compared = append(c.Compared, Compared{what, strconv.FormatInt(from, 10), strconv.FormatInt(to, 10), from == to})
	if from != to {
		c.find("%s: %d, the new store has %d", what, from, to)
	}
}

// Verify holds the new store against what it was filled from: message by message, by
// counts and tallies, by app and month, and by what is kept beside messages; then the new
// store checks itself. It changes nothing. Where messages came from the stream, what the
// store in use says otherwise is noted and is no difference: it may be what was doubted.
func (r *Refill) Verify(ctx context.Context) (Comparison, error) {
	c := Comparison{}
	there, err := r.there(ctx, &c)
	if err != nil {
		return c, fmt.Errorf("verify the new store: %w", err)
	}
	c.UpTo = there.UpTo
	for _, step := range []func(context.Context, *Comparison) error{there.sameMessages, there.sameCounts, there.sameSums, there.sameFacts, there.sound} {
		if err := step(ctx, &c); err != nil {
			return c, fmt.Errorf("verify the new store: %w", err)
		}
	}
	return c, nil
}

// there is the refill up to where the new store is: what it lacks is a difference.
func (r *Refill) there(ctx context.Context, c *Comparison) (*Refill, error) {
	there := *r
	there.UpTo = slices.Clone(r.UpTo)
	for i := range there.UpTo {
		p := &there.UpTo[i]
		stored, err := r.To.Position(ctx, p.Partition)
		if err != nil {
			return nil, err
		}
		if stored < p.Sequence {
			c.find("partition %d: the new store ends at message %d of %d", p.Partition, stored, p.Sequence)
			p.Sequence = stored
		}
	}
	return &there, nil
}

// sameMessages compares message by message.
func (r *Refill) sameMessages(ctx context.Context, c *Comparison) error {
	from, err := r.from(ctx)
	if err != nil {
		return err
	}
	var messages, announced, of int64
	for _, p := range r.UpTo {
		of += int64(p.Sequence)
	}
	if err := r.eachBlock(ctx, from, map[int]uint64{}, func(b Block) error {
		for i := range b.Messages {
			announced += int64(b.Messages[i].Announced)
		}
		messages += int64(len(b.Messages))
		r.told("compared messages", messages, of)
		return r.sameBlock(ctx, c, b)
	}); err != nil {
		return err
	}
	n, err := r.To.Counts(ctx, r.UpTo)
	if err != nil {
		return err
	}
	c.compare("messages", messages, n.Messages)
	c.compare("events announced", announced, n.Announced)
	c.compare("announced, and stored + duplicate + conflict + undecoded", announced, n.Stored+n.Duplicate+n.Conflict+n.Undecoded)
	return nil
}

// sameBlock compares a block with the same messages of the new store, of which one read
// may give fewer.
func (r *Refill) sameBlock(ctx context.Context, c *Comparison, want Block) error {
	for after := want.First - 1; after < want.Last; {
		got, err := r.To.BlockAfter(ctx, want.Partition, after, want.Last, refillEvents)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			c.find("partition %d: the new store cannot give message %d: %v", want.Partition, after+1, err)
			return nil
		}
		for i := range got.Messages {
			m := &got.Messages[i]
			if what := differ(&want.Messages[m.Sequence-want.First], m); what != "" {
				c.find("partition %d, message %d: %s", want.Partition, m.Sequence, what)
			}
		}
		after = got.Last
	}
	return nil
}

// differ says what two copies of a message do not have in common, empty for nothing.
func differ(want, got *Message) string {
	switch {
	case want.Digest != got.Digest:
		return fmt.Sprintf("its payload has digest %s, in the new store %s", want.Digest, got.Digest)
	case want.Announced != got.Announced:
		return fmt.Sprintf("it announced %d events, in the new store %d", want.Announced, got.Announced)
	case !want.AcceptedAt.Equal(got.AcceptedAt):
		return fmt.Sprintf("it was accepted at %s, in the new store at %s", want.AcceptedAt.Format(time.RFC3339Nano), got.AcceptedAt.Format(time.RFC3339Nano))
	case !slices.Equal(want.Undecoded, got.Undecoded):
		return fmt.Sprintf("%d events are undecoded, in the new store %d, or of another place or reason", len(want.Undecoded), len(got.Undecoded))
	}
	at := make(map[int]*Accepted, len(got.Events))
	for i := range got.Events {
		at[got.Events[i].Position.Index] = &got.Events[i]
	}
	for i := range want.Events {
		w := &want.Events[i]
		g := at[w.Position.Index]
		if g == nil {
			return fmt.Sprintf("index %d: event %s of source %s (key %s) is not in the new store", w.Position.Index, w.ID, w.Source, w.Key)
		}
		if what := w.differs(g); what != "" {
			return fmt.Sprintf("index %d: event %s of source %s: %s", w.Position.Index, w.ID, w.Source, what)
		}
		delete(at, w.Position.Index)
	}
	for i, g := range at {
		return fmt.Sprintf("index %d: event %s of source %s is in the new store alone", i, g.ID, g.Source)
	}
	return ""
}

func (want *Accepted) differs(got *Accepted) string {
	switch {
	case want.Key != got.Key:
		return fmt.Sprintf("its key is %s, in the new store %s", want.Key, got.Key)
	case want.Hash != got.Hash:
		return fmt.Sprintf("it was sent with hash %s, in the new store with %s", want.Hash, got.Hash)
	case ContentHash(want.Event) != ContentHash(got.Event):
		return "a field was altered in the new store"
	case want.TimeAbsent != got.TimeAbsent || want.TimeAbsent && got.Time.After(want.Time):
		return "its time is another one in the new store" // a duplicate's is that of the event that it repeats
	case !want.AcceptedAt.Equal(got.AcceptedAt):
		return fmt.Sprintf("it was accepted at %s, in the new store at %s", want.AcceptedAt.Format(time.RFC3339Nano), got.AcceptedAt.Format(time.RFC3339Nano))
	}
	return ""
}

// earlier is the last cutoff that both the comparison and the store in use have.
func (r *Refill) earlier(ctx context.Context) (Cutoff, bool, error) {
	old, err := r.Old.Cutoff(ctx)
	if err != nil {
		return nil, false, err
	}
	stored := map[int]uint64{}
	for _, c := range old {
		stored[c.Partition] = c.Sequence
	}
	both, all := slices.Clone(r.UpTo), true
	for i := range both {
		if at := stored[both[i].Partition]; at < both[i].Sequence {
			both[i].Sequence, all = at, false
		}
	}
	return both, all, nil
}

// sameCounts compares counts, and the new store's with its own tallies.
func (r *Refill) sameCounts(ctx context.Context, c *Comparison) error {
	n, err := r.To.Counts(ctx, r.UpTo)
	if err != nil {
		return err
	}
	t, err := r.To.Tally(ctx, nil, r.UpTo)
	if err != nil {
		return err
	}
	c.compare("rows, and identities", n.Stored, n.Keys)
	c.compare("rows, and the tally of them", n.Stored, t.Stored)
	c.compare("duplicates, and the tally of them", n.Duplicate, t.Duplicate)
	c.compare("conflicts, and the tally of them", n.Conflict, t.Conflict)
	both, all, err := r.earlier(ctx)
	if err != nil {
		return err
	}
	if r.Stream == nil && !all {
		return fmt.Errorf("the store in use is stored up to %v, asked is up to %v: %w", both, r.UpTo, ErrBehind)
	}
	if n, err = r.To.Counts(ctx, both); err != nil {
		return err
	}
	old, err := r.Old.Counts(ctx, both)
	if err != nil {
		return err
	}
	for _, x := range []struct {
		what     string
		from, to int64
	}{
		{"stored", old.Stored, n.Stored}, {"duplicates", old.Duplicate, n.Duplicate}, {"conflicts", old.Conflict, n.Conflict},
		{"undecoded", old.Undecoded, n.Undecoded}, {"of a sandbox", old.Sandbox, n.Sandbox}, {"voided", old.Voided, n.Voided},
	} {
		switch {
		case r.Stream == nil:
			c.compare(x.what, x.from, x.to)
		case x.from != x.to:
			c.note("%s: the store in use has %d, the new one %d", x.what, x.from, x.to)
		}
	}
	return nil
}

// sumKey names what is added up: an app's usage of a UTC month in a currency.
type sumKey struct {
	month    string
	app      partner.AppID
	currency money.Currency
}

// sum is what an app's events of a month come to, as pricing reads them.
type sum struct {
	events, bytes, slow int64
	quantity, amount    decimal.Decimal
}

func (s *sum) String() string {
	return fmt.Sprintf("%d events, quantity %s, amount %s, %d bytes, %d slow", s.events, s.quantity, s.amount, s.bytes, s.slow)
}

// sameSums compares what every app's events of every month add up to.
func (r *Refill) sameSums(ctx context.Context, c *Comparison) error {
	both, _, err := r.earlier(ctx)
	if err != nil {
		return err
	}
	old, err := sumsOf(ctx, r.Old, both)
	if err != nil {
		return err
	}
	now, err := sumsOf(ctx, r.To, both)
	if err != nil {
		return err
	}
	tell, told := c.find, c.Told
	if r.Stream != nil {
		tell = c.note
	}
	keys := maps.Clone(old)
	maps.Copy(keys, now)
	for _, k := range slices.SortedFunc(maps.Keys(keys), func(a, b sumKey) int {
		return cmp.Or(cmp.Compare(a.month, b.month), cmp.Compare(a.app, b.app), cmp.Compare(a.currency, b.currency))
	}) {
		was, is := old[k], now[k]
		if was == nil {
			was = &sum{}
		}
		if is == nil {
			is = &sum{}
		}
		if was.String() != is.String() {
			tell("%s, app %q %s: the store in use has %s; the new one %s", k.month, k.app, k.currency, was, is)
		}
	}
	if r.Stream == nil {
		c.Compared = append(c.Compared, Compared{"apps and months, added up", strconv.Itoa(len(old)), strconv.Itoa(len(now)), c.Told == told})
	}
	return nil
}

func sumsOf(ctx context.Context, s Store, upTo Cutoff) (map[sumKey]*sum, error) {
	late, err := s.Late(ctx, Span{UpTo: upTo}) // of all time: names every month that has something
	if err != nil {
		return nil, err
	}
	months := map[string]bool{}
	for _, l := range late {
		months[l.Month] = true
	}
	sums := map[sumKey]*sum{}
	for month := range months {
		m, err := time.Parse("2006-01", month)
		if err != nil {
			return nil, err
		}
		for u, err := range s.Usage(ctx, Span{Start: m, End: m.AddDate(0, 1, 0), UpTo: upTo}) {
			if err != nil {
				return nil, err
			}
			k := sumKey{month, u.App, u.Currency}
			if sums[k] == nil {
				sums[k] = &sum{}
			}
			x := sums[k]
			x.events, x.bytes, x.slow = x.events+u.Count, x.bytes+u.Bytes, x.slow+u.Slow
			x.quantity, x.amount = x.quantity.Add(u.Quantity), x.amount.Add(u.Amount)
		}
	}
	return sums, nil
}

// sameFacts compares what is kept beside messages.
func (r *Refill) sameFacts(ctx context.Context, c *Comparison) error {
	old, err := r.Old.Redactions(ctx)
	if err != nil {
		return err
	}
	now, err := r.To.Redactions(ctx)
	if err != nil {
		return err
	}
	c.Redacted = len(now)
	if err := same(c, "redactions", listed(old), listed(now), func(x Redaction) string { return x.ID }); err != nil {
		return err
	}
	if err := same(c, "refusals, with their replays", refusedOf(ctx, r.Old), refusedOf(ctx, r.To), func(f Refused) string { return f.ID }); err != nil {
		return err
	}
	if err := same(c, "control totals", r.Old.Totals(ctx, period.Date{}), r.To.Totals(ctx, period.Date{}), func(t DayTotals) string { return t.Source + " of " + t.Day.String() }); err != nil {
		return err
	}
	return same(c, "heartbeats", r.Old.Heartbeats(ctx), r.To.Heartbeats(ctx), func(h Heartbeat) string { return h.Source + " at " + h.At.Format(time.RFC3339Nano) })
}

func listed[T any](all []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range all {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// refusedOf are all refusals of a store, their replays in an order that is the same for
// every store.
func refusedOf(ctx context.Context, s Replays) iter.Seq2[Refused, error] {
	return func(yield func(Refused, error) bool) {
		for page, err := range refusedPages(ctx, s) {
			if err != nil {
				yield(Refused{}, err)
				return
			}
			for _, f := range page {
				slices.SortFunc(f.Replays, func(a, b Replay) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))) })
				if !yield(f, nil) {
					return
				}
			}
		}
	}
}

// same compares two lists in one order, and names the first thing in which they differ.
func same[T any](c *Comparison, what string, from, to iter.Seq2[T, error], name func(T) string) error {
	next, stop := iter.Pull2(to)
	defer stop()
	var a, b int64
	differs := ""
	differ := func(side string, v T) {
		if differs == "" {
			differs = name(v) + side
		}
	}
	for v, err := range from {
		if err != nil {
			return err
		}
		a++
		w, err, ok := next()
		if err != nil {
			return err
		}
		if !ok {
			differ(" is not in the new store, or another before it", v)
			continue
		}
		b++
		equal, err := sameJSON(v, w)
		if err != nil {
			return err
		}
		if !equal {
			differ(" is not what the new store has in its place, which is "+name(w), v)
		}
	}
	for {
		w, err, ok := next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		b++
		differ(" is in the new store alone", w)
	}
	c.Compared = append(c.Compared, Compared{what, strconv.FormatInt(a, 10), strconv.FormatInt(b, 10), differs == ""})
	if differs != "" {
		c.find("%s: %s", what, differs)
	}
	return nil
}

func sameJSON(a, b any) (bool, error) {
	x, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	y, err := json.Marshal(b)
	return bytes.Equal(x, y), err
}

// sound lets the new store check itself.
func (r *Refill) sound(ctx context.Context, c *Comparison) error {
	r.told("the new store checks itself", 0, -1)
	findings, err := r.To.Check(ctx)
	for _, f := range findings {
		c.find("the new store against itself: %s", f)
	}
	c.Compared = append(c.Compared, Compared{"the new store against itself, findings", "0", strconv.Itoa(len(findings)), len(findings) == 0})
	return err
}
