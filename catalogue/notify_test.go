package catalogue_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"mete/catalogue"
	"mete/period"
)

// told is a notification of the version that may be recorded at the instant.
func told(v catalogue.Version, at time.Time) catalogue.Notification {
	return catalogue.Notification{Ref: v.Ref, To: "ops@northwind.example", How: "e-mail", By: ada, RecordedAt: at,
		Sheet: catalogue.Sheet{Format: "md", SHA256: strings.Repeat("ab", 32)}}
}

func TestNotify(t *testing.T) {
	w := newWorld(t, base)
	v := w.apply(contract())[0]
	ctx := t.Context()
	later := day1.Add(time.Hour)
	refuse := func(change func(*catalogue.Notification), want string) {
		t.Helper()
		n := told(v, later)
		change(&n)
		_, err := w.Notify(ctx, n)
		w.wantRefused(err, "notify the partner of "+n.Ref.String()+": "+want)
	}
	refuse(func(*catalogue.Notification) {},
		"it is not approved yet (0 of 1 approvals); have another person than its author approve it first: the partner is told of nothing that may still be refused")
	if _, err := w.Approve(ctx, v.Ref, grace, later); err != nil {
		t.Fatal(err)
	}
	refuse(func(n *catalogue.Notification) { n.By.Name = "" }, "nobody is named; say who told the partner")
	refuse(func(n *catalogue.Notification) { n.To = " " }, "it is not said who was told; name the addressee at the partner")
	refuse(func(n *catalogue.Notification) { n.How = "" }, "it is not said how; name the way, such as e-mail")
	refuse(func(n *catalogue.Notification) { n.Evidence = strings.Repeat("x", 501) },
		"addressee, way and evidence have more than 300, 100 and 500 characters; name where the rest can be read")
	refuse(func(n *catalogue.Notification) { n.Evidence = "a\nb" },
		"addressee, way or evidence has a line break or another control character; write it on one line")
	for _, sum := range []string{"", strings.Repeat("ab", 31), strings.Repeat("AB", 32), strings.Repeat("xy", 32)} {
		refuse(func(n *catalogue.Notification) { n.Sheet.SHA256 = sum }, "it is not said which term sheet the partner was given; name its form and SHA-256")
	}
	refuse(func(n *catalogue.Notification) { n.RecordedAt = day1.Add(-time.Hour) }, "the time is missing or before the version was recorded; check the time")
	refuse(func(n *catalogue.Notification) { n.On = period.Date{Year: 2026, Month: 1, Day: 1} },
		"it was approved on 2026-01-02, after 2026-01-01; check the day; what the partner was told before the approval was a draft")
	refuse(func(n *catalogue.Notification) { n.On = period.Date{Year: 2026, Month: 1, Day: 3} }, "2026-01-03 is yet to come; record it once the partner was told")
	refuse(func(n *catalogue.Notification) { n.Digest = "something else" }, "it says something else than what you saw; look at it again")
	refuse(func(n *catalogue.Notification) {
		n.Ref = catalogue.Ref{Kind: catalogue.KindPartner, ID: "quill", Number: 1}
	}, "only contracts are told of; what is no contract is in force once applied")
	n := told(v, later)
	n.Number = 7
	if _, err := w.Notify(ctx, n); !errors.Is(err, catalogue.ErrUnknown) {
		t.Errorf("no such version: %v", err)
	}

	// The day is that of the contract: at 05:00 UTC it is still the day before in Chicago.
	early := time.Date(2026, 1, 4, 5, 0, 0, 0, time.UTC)
	first, err := w.Notify(ctx, told(v, early))
	if err != nil || first.On.String() != "2026-01-03" || len(first.Document) != 64 || first.Digest != v.Digest {
		t.Fatalf("%+v, %v", first, err)
	}
	again := told(v, early.Add(48*time.Hour)) // said two days later of the same day: kept as first recorded
	again.On, again.To = first.On, " ops@northwind.example "
	if got, err := w.Notify(ctx, again); err != nil || got != first {
		t.Errorf("again: %+v, %v", got, err)
	}
	reminder := told(v, early.Add(48*time.Hour))
	if got, err := w.Notify(ctx, reminder); err != nil || got.On.String() != "2026-01-05" {
		t.Errorf("reminder: %+v, %v", got, err)
	}
	history, err := w.History(ctx, v.Kind, v.ID)
	if err != nil || len(history[0].Notifications) != 2 || history[0].Notifications[0] != first || history[0].State != catalogue.Approved {
		t.Errorf("history %+v, %v", history, err)
	}

	// What was accepted may be told of again; what is out may not.
	if _, err := w.Accept(ctx, v.Ref, catalogue.Acceptance{By: nora, At: early}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Notify(ctx, told(v, early.Add(72*time.Hour))); err != nil {
		t.Errorf("after the acceptance: %v", err)
	}
	v = w.apply(contract("2026-02-01", "2026-06-01", "15%", "14%"))[0]
	w.apply(contract("2026-02-01", "2026-06-01", "15%", "13%"))
	refuse(func(*catalogue.Notification) {}, "it is superseded; notify the partner of the version that took its place")
	v.Number++
	v.Digest = ""
	if _, err := w.Reject(ctx, v.Ref, linus, "not agreed", later); err != nil {
		t.Fatal(err)
	}
	refuse(func(*catalogue.Notification) {}, "it is rejected; propose what the partner shall be told of as another version")
}

// Nothing but the partner's acceptance brings terms into force: no approval, no
// notification, no day that has come. A version that the partner did not accept is in
// no snapshot, whatever else was recorded of it, and the terms before it go on.
func TestOnlyAcceptanceBringsTermsIntoForce(t *testing.T) {
	w := newWorld(t, base)
	ctx := t.Context()
	v1 := w.agree(w.apply(contract())[0])
	v2 := w.apply(contract("2026-02-01", "2026-06-01", "15%", "30%"))[0] // worse for the partner
	v3 := w.apply(contract("15%", "16%", "rules:", "corrects: 1\nrules:"))[0]
	at := day1.Add(time.Hour)
	inForce := func(what string) {
		t.Helper()
		for _, day := range []string{"2026-03-01", "2026-06-01", "2030-01-01"} {
			var numbers []int
			for _, r := range w.snapshot(day).Refs() {
				if r.Kind == catalogue.KindContract {
					numbers = append(numbers, r.Number)
				}
			}
			if !slices.Equal(numbers, []int{v1.Number}) {
				t.Errorf("%s, on %s: versions %v in force, want 1 alone", what, day, numbers)
			}
		}
	}
	inForce("proposed")
	for _, v := range []catalogue.Version{v2, v3} {
		for _, p := range []catalogue.Person{grace, linus} {
			if _, err := w.Approve(ctx, v.Ref, p, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	inForce("approved")
	for _, v := range []catalogue.Version{v2, v3} {
		for day := range 200 { // long past the day on which version 2 would begin
			if _, err := w.Notify(ctx, told(v, at.AddDate(0, 0, day))); err != nil {
				t.Fatal(err)
			}
		}
	}
	inForce("notified")
	open, err := w.Open(ctx)
	if err != nil || len(open) != 2 || open[0].State != catalogue.Approved || open[1].State != catalogue.Approved {
		t.Errorf("open %+v, %v", open, err)
	}
}

// The notice that counts is that of the terms before: the last accepted ones that begin
// earlier and go on until then.
func TestNotice(t *testing.T) {
	w := newWorld(t, base)
	ctx := t.Context()
	promise := func(days string, more ...string) string {
		return contract(append([]string{"rules:", "notice: " + days + "\nrules:"}, more...)...)
	}
	w.agree(w.apply(promise("30 days"))[0])
	v2 := w.apply(promise("60 days", "2026-02-01", "2026-06-01"))[0] // only proposed
	v3 := w.apply(promise("5 days", "2026-02-01", "2026-07-01"))[0]  // waits, too
	fix := w.apply(contract("rules:", "notice: 40 days\ncorrects: 1\nrules:", "15%", "16%"))[0]
	on := period.Date{Year: 2026, Month: 6, Day: 10}
	notice := func(v catalogue.Version) (catalogue.Notice, catalogue.Standing) {
		t.Helper()
		b, err := w.Beside(ctx, catalogue.Documents{})
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(b.Contracts, func(s catalogue.Standing) bool { return s.Number == v.Number })
		return b.Notice(b.Contracts[i], on), b.Contracts[i]
	}
	want := func(v catalogue.Version, days, before int, earliest string) {
		t.Helper()
		n, s := notice(v)
		if n.Days != days || n.Before.Number != before || n.Earliest.String() != earliest || n.Short(s.Terms.From) != (days > 0 && s.Terms.From.String() < earliest) {
			t.Errorf("version %d: %d days by version %d, from %s on, want %d, %d, %s", v.Number, n.Days, n.Before.Number, n.Earliest, days, before, earliest)
		}
	}
	want(v2, 30, 1, "2026-07-10")
	want(v3, 30, 1, "2026-07-10") // version 2 promises nothing yet
	for _, p := range []catalogue.Person{grace, linus} {
		if _, err := w.Approve(ctx, v3.Ref, p, day1.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	reminder, first := told(v3, time.Date(2026, 6, 5, 15, 0, 0, 0, time.UTC)), told(v3, time.Date(2026, 6, 6, 15, 0, 0, 0, time.UTC))
	first.On = period.Date{Year: 2026, Month: 6, Day: 1} // written down later
	for _, n := range []catalogue.Notification{reminder, first} {
		if _, err := w.Notify(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	want(v3, 30, 1, "2026-07-01") // counted from the first telling: just in time
	w.agree(v2)
	want(v3, 60, 2, "2026-07-31")
	want(fix, 0, 0, "")
	w.agree(fix)
	want(v2, 40, fix.Number, "2026-07-20") // corrected terms promise what they say
}
