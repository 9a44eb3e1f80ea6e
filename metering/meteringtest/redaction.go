package meteringtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mete/metering"
)

// RedactingStore is a metering store with all that a redaction reaches.
type RedactingStore interface {
	metering.Store
	metering.Quarantine
	metering.Replays
	metering.Redactor
}

// TestRedactor checks every promise of [metering.Redactor]. A store that has
// Check(context.Context) ([]string, error) must find nothing after each.
func TestRedactor[S RedactingStore](t *testing.T, open func(t *testing.T) S) {
	for _, c := range []struct {
		name string
		test func(*testing.T, RedactingStore, *Feed)
	}{
		{"EveryTextField", testRedactEveryField},
		{"NumbersStay", testRedactKeepsNumbers},
		{"TwoPeople", testRedactTwoPeople},
		{"NothingThere", testRedactNothing},
		{"ConflictsToo", testRedactConflicts},
		{"VoidsHold", testRedactVoids},
		{"RefusalsAreErased", testRedactRefusals},
		{"SameValueIsNamed", testRedactSame},
		{"SeveralFieldsOfOneEvent", testRedactSeveral},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			closeAfter(t, s)
			f := NewFeed()
			f.Partitions = partitions
			attach(t, s, partitions)
			c.test(t, s, f)
			checked(t, s)
		})
	}
}

// checked lets the store check itself, if it can.
func checked(t *testing.T, s any) {
	t.Helper()
	c, ok := s.(interface {
		Check(context.Context) ([]string, error)
	})
	if !ok {
		return
	}
	findings, err := c.Check(context.Background())
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	for _, f := range findings {
		t.Errorf("check: %s", f)
	}
}

// secret is a value that must not be kept.
const secret = "doe-jane-1961"

// full is an event with every text field, each with a value of its own that begins with
// secret.
func full(id string, change ...func(*metering.Event)) metering.Event {
	return Call(id, "scheduler", day, append([]func(*metering.Event){func(e *metering.Event) {
		e.Customer = secret + "-s"
		d := &e.Data
		d.Operation, d.Unit, d.Deal, d.Lead, d.RefersTo = secret+"-o", secret+"-u", secret+"-d", secret+"-l", secret+"-r"
		d.Reference, d.Region, d.Dimensions = secret+"-f", secret+"-g", map[string]string{"room": secret + "-m", "floor": "2"}
		d.Amount, d.Currency, d.Quantity = Decimal("12.50"), "USD", Decimal("3")
	}}, change...)...)
}

// textFields are all fields of full that may be redacted.
var textFields = []string{"id", "subject", "data.operation", "data.unit", "data.deal", "data.lead", "data.refers_to", "data.reference", "data.region", "data.dimensions.room"}

func proposal(t *testing.T, k metering.Key, field string) metering.Redaction {
	t.Helper()
	r, err := metering.ProposeRedaction(k, field, "looks like a person", "k.lee", day.AddDate(0, 1, 0))
	if err != nil {
		t.Fatalf("propose %s: %v", field, err)
	}
	return r
}

// redact proposes and approves.
func redact(t *testing.T, s metering.Redactor, k metering.Key, field string) metering.Redaction {
	t.Helper()
	ctx := context.Background()
	r, err := s.ProposeRedaction(ctx, proposal(t, k, field))
	if err != nil {
		t.Fatalf("propose %s: %v", field, err)
	}
	rs, err := s.ApproveRedactions(ctx, []string{r.ID}, "r.shah", day.AddDate(0, 1, 1))
	if err != nil || len(rs) != 1 {
		t.Fatalf("approve %s: %+v, %v", field, rs, err)
	}
	return rs[0]
}

func findKey(t *testing.T, s metering.Store, k metering.Key) metering.Found {
	t.Helper()
	f, err := s.Find(context.Background(), k)
	if err != nil {
		t.Fatalf("find %s: %v", k, err)
	}
	return f
}

func testRedactEveryField(t *testing.T, s RedactingStore, f *Feed) {
	ctx := context.Background()
	for _, field := range textFields {
		id := in(0, secret+"-"+field)
		e := full(id)
		block := f.Block(0, []metering.Event{e, Call("beside-"+field, "scheduler", day)})
		add(t, s, block, metering.Outcome{Stored: 2})
		before, counts := findKey(t, s, e.Key()), countsOf(t, s)
		r := redact(t, s, e.Key(), field)
		got := findKey(t, s, e.Key())
		want := *before.Event
		r.Apply(&want.Event)
		if metering.ValueOf(&want.Event, field) != "redacted:"+r.ID {
			t.Fatalf("%s: the tombstone is %q", field, metering.ValueOf(&want.Event, field))
		}
		if diff := cmp.Diff(want, *got.Event); diff != "" {
			t.Errorf("%s: %s", field, diff)
		}
		if diff := cmp.Diff([]metering.Redaction{r}, got.Redactions); diff != "" {
			t.Errorf("%s: what Find names: %s", field, diff)
		}
		for a, err := range s.Events(ctx, metering.Span{}, metering.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			if a.Key == e.Key() && metering.ValueOf(&a.Event, field) != r.Tombstone() {
				t.Errorf("%s: among the events it is %q", field, metering.ValueOf(&a.Event, field))
			}
		}
		if now := countsOf(t, s); now != counts {
			t.Errorf("%s: counts were %+v, are %+v", field, counts, now)
		}
		add(t, s, f.Block(0, []metering.Event{e}), metering.Outcome{Duplicate: 1})
		again, err := s.ApproveRedactions(ctx, []string{r.ID}, "a.chen", day.AddDate(0, 2, 0))
		if err != nil || len(again) != 1 || again[0] != r {
			t.Errorf("%s: approved again: %+v, %v, want %+v", field, again, err, r)
		}
	}
	all, err := s.Redactions(ctx)
	if err != nil || len(all) != len(textFields) {
		t.Fatalf("%d redactions, %v", len(all), err)
	}
	for i, r := range all {
		if r.Field != textFields[i] || !r.Applied() {
			t.Errorf("redaction %d is %+v, want %s", i, r, textFields[i])
		}
	}
}

func countsOf(t *testing.T, s metering.Store) metering.Counts {
	t.Helper()
	n, err := s.Counts(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sums are the totals over all cells.
func sums(t *testing.T, s metering.Store) string {
	t.Helper()
	var n, bytes, slow int64
	amount, quantity := *Decimal("0"), *Decimal("0")
	for _, u := range collect(t, "usage", s.Usage(context.Background(), metering.Span{})) {
		n, bytes, slow = n+u.Count, bytes+u.Bytes, slow+u.Slow
		amount, quantity = amount.Add(u.Amount), quantity.Add(u.Quantity)
	}
	return fmt.Sprint(n, bytes, slow, amount, quantity)
}

func testRedactKeepsNumbers(t *testing.T, s RedactingStore, f *Feed) {
	var events []metering.Event
	for i := range 4 {
		events = append(events, full(in(1, fmt.Sprint("same-", i)), func(e *metering.Event) { e.Data.Bytes, e.Data.LatencyMS = 7, Decimal("1500.5") }))
	}
	add(t, s, f.Block(1, events), metering.Outcome{Stored: 4})
	before := sums(t, s)
	r := redact(t, s, events[2].Key(), "subject")
	redact(t, s, events[2].Key(), "data.dimensions.room")
	if now := sums(t, s); now != before {
		t.Errorf("sums were %s, are %s", before, now)
	}
	var customers []string
	for _, u := range collect(t, "usage", s.Usage(context.Background(), metering.Span{})) {
		customers = append(customers, fmt.Sprint(u.Customer, " ", u.Count))
	}
	slices.Sort(customers)
	if want := []string{secret + "-s 3", r.Tombstone() + " 1"}; !slices.Equal(customers, want) {
		t.Errorf("cells %q, want %q", customers, want)
	}
}

func testRedactTwoPeople(t *testing.T, s RedactingStore, f *Feed) {
	ctx := context.Background()
	e := full(in(2, "two"))
	add(t, s, f.Block(2, []metering.Event{e}), metering.Outcome{Stored: 1})
	r, err := s.ProposeRedaction(ctx, proposal(t, e.Key(), "subject"))
	if err != nil {
		t.Fatal(err)
	}
	other := r
	other.Reason, other.ProposedBy = "another reason", "somebody"
	if again, err := s.ProposeRedaction(ctx, other); err != nil || again != r {
		t.Errorf("proposed again: %+v, %v, want the first", again, err)
	}
	if got := findKey(t, s, e.Key()); got.Event.Customer != e.Customer || len(got.Redactions) > 0 {
		t.Errorf("a proposal alone changed %+v", got)
	}
	for by, want := range map[string]error{"k.lee": metering.ErrTwoPeople, "": metering.ErrTwoPeople} {
		if _, err := s.ApproveRedactions(ctx, []string{r.ID}, by, day); !errors.Is(err, want) {
			t.Errorf("approved by %q: %v, want %v", by, err, want)
		}
	}
	if _, err := s.ApproveRedactions(ctx, []string{r.ID, "R-000000000000"}, "r.shah", day); !errors.Is(err, metering.ErrNoRedaction) {
		t.Errorf("with an unknown one: %v", err)
	}
	all, err := s.Redactions(ctx, e.Key())
	if err != nil || len(all) != 1 || all[0] != r {
		t.Errorf("redactions = %+v, %v", all, err)
	}
	if got := findKey(t, s, e.Key()); got.Event.Customer != e.Customer {
		t.Errorf("what was not approved changed %+v", got)
	}
	if none, err := s.Redactions(ctx, metering.KeyOf("gateway", "nothing")); err != nil || len(none) > 0 {
		t.Errorf("of another key: %+v, %v", none, err)
	}
}

func testRedactNothing(t *testing.T, s RedactingStore, f *Feed) {
	ctx := context.Background()
	e := Call(in(0, "plain"), "scheduler", day)
	add(t, s, f.Block(0, []metering.Event{e}), metering.Outcome{Stored: 1})
	for _, r := range []metering.Redaction{
		proposal(t, e.Key(), "data.reference"), proposal(t, e.Key(), "data.dimensions.room"), proposal(t, metering.KeyOf("gateway", "nothing"), "id"),
	} {
		if _, err := s.ProposeRedaction(ctx, r); !errors.Is(err, metering.ErrNoValue) {
			t.Errorf("%s of %s: %v, want ErrNoValue", r.Field, r.Key, err)
		}
	}
	if all, err := s.Redactions(ctx); err != nil || len(all) > 0 {
		t.Errorf("redactions = %+v, %v", all, err)
	}
}

func testRedactConflicts(t *testing.T, s RedactingStore, f *Feed) {
	id := in(1, "again")
	first, other, later := full(id), full(id), full(id)
	other.Data.Amount, later.Data.Amount = Decimal("13.00"), Decimal("14.00")
	other.Data.Reference, later.Data.Deal = secret+"-f2", secret+"-d2"
	add(t, s, f.Block(1, []metering.Event{first}, []metering.Event{other, first}), metering.Outcome{Stored: 1, Conflict: 1, Duplicate: 1})
	r := redact(t, s, first.Key(), "data.reference")
	add(t, s, f.Block(1, []metering.Event{later, other}), metering.Outcome{Conflict: 2})
	got := findKey(t, s, first.Key())
	if len(got.Conflicts) != 3 || len(got.Duplicates) != 1 {
		t.Fatalf("%d conflicts, %d duplicates", len(got.Conflicts), len(got.Duplicates))
	}
	for i, want := range []metering.Event{other, later, other} {
		hash := metering.ContentHash(want)
		r.Apply(&want)
		if diff := cmp.Diff(want, got.Conflicts[i].Event); diff != "" || got.Conflicts[i].Hash != hash {
			t.Errorf("conflict %d has hash %s, want that of what was sent: %s", i, got.Conflicts[i].Hash, diff)
		}
	}
	// A field that only a conflict has.
	redact(t, s, first.Key(), "data.deal")
	if got := findKey(t, s, first.Key()); strings.HasPrefix(got.Conflicts[1].Data.Deal, secret) || got.Conflicts[1].Data.Amount.String() != "14" {
		t.Errorf("conflict = %+v", got.Conflicts[1])
	}
}

func testRedactVoids(t *testing.T, s RedactingStore, f *Feed) {
	target, waits := full(in(2, secret+"-sale")), full(in(2, secret+"-waits"))
	add(t, s, f.Block(2, []metering.Event{target, Void(in(2, "v"), target.ID, day), Void(in(2, "w"), waits.ID, day)}), metering.Outcome{Stored: 3})
	redact(t, s, target.Key(), "id")
	redact(t, s, metering.KeyOf("gateway", in(2, "v")), "data.refers_to")
	redact(t, s, metering.KeyOf("gateway", in(2, "w")), "data.refers_to")
	if got := findKey(t, s, target.Key()); got.Voided == nil {
		t.Error("the void of a redacted event, itself redacted, takes nothing out")
	}
	add(t, s, f.Block(2, []metering.Event{waits}), metering.Outcome{Stored: 1})
	if got := findKey(t, s, waits.Key()); got.Voided == nil {
		t.Error("a redacted void takes nothing out that comes later")
	}
	wantCount(t, s, metering.Span{}, 0)
}

func testRedactRefusals(t *testing.T, s RedactingStore, f *Feed) {
	ctx := context.Background()
	e := full(in(0, "refused"))
	refusal := func(id string) metering.Refusal {
		return metering.Refusal{ID: id, Class: metering.Unusable, Reason: metering.UnknownApp, Detail: "of " + secret, Field: "data.app", Source: e.Source,
			Where: "calls.ndjson:1", Digest: "ab12", Event: metering.AppendCanonical(nil, e), ReceivedAt: day}
	}
	if err := s.Refuse(ctx, []metering.Refusal{refusal("first")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Replayed(ctx, []metering.Replay{{Refusal: "first", By: "k.lee", At: day, Class: metering.Unusable, Reason: metering.UnknownApp, Detail: "of " + secret}}); err != nil {
		t.Fatal(err)
	}
	r := redact(t, s, e.Key(), "subject")
	if err := s.Refuse(ctx, []metering.Refusal{refusal("later")}); err != nil {
		t.Fatal(err)
	}
	rs := refused(t, s, metering.RefusedQuery{Keys: []metering.Key{e.Key()}})
	if len(rs) != 2 {
		t.Fatalf("%d refusals of the key", len(rs))
	}
	for _, got := range rs {
		if got.ErasedBy != r.ID || got.Event != nil || got.State() != metering.StateResend || strings.Contains(fmt.Sprintf("%+v", got), secret) ||
			got.Reason != metering.UnknownApp || got.Digest != "ab12" || !got.ReceivedAt.Equal(day) {
			t.Errorf("after the redaction: %+v", got)
		}
	}
	if err := s.Replayed(ctx, []metering.Replay{{Refusal: "first", By: "k.lee", At: day.Add(time.Hour), Passed: true, Receipt: e.Key().String()}}); err == nil {
		t.Error("an erased form was replayed")
	}
	// Another field is no reason to lose the form.
	plain := refusal("plain")
	plain.Event = metering.AppendCanonical(nil, Call("plain", "nowhere", day))
	if err := s.Refuse(ctx, []metering.Refusal{plain}); err != nil {
		t.Fatal(err)
	}
	if got := refused(t, s, metering.RefusedQuery{IDs: []string{"plain"}})[0]; got.ErasedBy != "" || got.State() != metering.StateWaiting {
		t.Errorf("of another key: %+v", got)
	}
}

func testRedactSame(t *testing.T, s RedactingStore, f *Feed) {
	ctx := context.Background()
	a, b, c := full(in(1, "a")), full(in(1, "b")), full(in(1, "c"))
	b.Data.Reference, b.Data.Dimensions = "another", map[string]string{"room": "another"}
	c.Customer, c.Data.Dimensions = "another", nil
	add(t, s, f.Block(1, []metering.Event{a, b, c}), metering.Outcome{Stored: 3})
	for field, want := range map[string][]metering.Key{
		"subject": {b.Key()}, "data.reference": {c.Key()}, "data.operation": {b.Key(), c.Key()}, "data.dimensions.room": nil, "data.dimensions.none": nil, "id": nil,
	} {
		got, err := s.SameValue(ctx, a.Key(), field)
		if err != nil {
			t.Fatalf("%s: %v", field, err)
		}
		byKey := func(x, y metering.Key) int { return x.Compare(y) }
		slices.SortFunc(got, byKey)
		slices.SortFunc(want, byKey)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("with the same %s: %s", field, diff)
		}
	}
	if got, err := s.SameValue(ctx, metering.KeyOf("gateway", "nothing"), "id"); err != nil || len(got) > 0 {
		t.Errorf("of an unknown event: %v, %v", got, err)
	}
}

func testRedactSeveral(t *testing.T, s RedactingStore, f *Feed) {
	e := full(in(2, "several"))
	add(t, s, f.Block(2, []metering.Event{e}), metering.Outcome{Stored: 1})
	for _, field := range textFields {
		redact(t, s, e.Key(), field)
	}
	got := findKey(t, s, e.Key())
	if text := fmt.Sprintf("%+v", got.Event.Event); strings.Contains(text, secret) {
		t.Errorf("something is left: %s", text)
	}
	if len(got.Redactions) != len(textFields) || got.Event.Hash != metering.ContentHash(e) || got.Event.Key != e.Key() {
		t.Errorf("found %d redactions, hash %s, key %s", len(got.Redactions), got.Event.Hash, got.Event.Key)
	}
	if !metering.IdentityRedacted(got.Redactions) {
		t.Error("the redaction of its id is not told")
	}
}
