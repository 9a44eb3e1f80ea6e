package cataloguetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mete/catalogue"
	"mete/compliance"
	"mete/period"
)

// version is a version of a customer: its document does not matter to a store.
func version(id string, number int, at time.Time) catalogue.Version {
	return catalogue.Version{
		Ref:        catalogue.Ref{Kind: catalogue.KindCustomer, ID: id, Number: number, Digest: fmt.Sprintf("digest of %s %d", id, number)},
		From:       period.Date{Year: 2026, Month: 10, Day: number},
		Until:      period.Date{Year: 2027, Month: 1, Day: 1},
		Corrects:   number - 1,
		RecordedAt: at,
		Author:     catalogue.Person{Name: "ada", Unauthenticated: number%2 == 0},
		File:       "customers.yaml",
		Content:    []byte(`{"id":"` + id + `","name":"Émile & Co <1>"}`),
		Document:   "customer: " + id + "\n",
	}
}

var noon = time.Date(2026, 10, 1, 12, 0, 0, 123456000, time.UTC)

// TestStore runs the promises of catalogue.Store against empty stores from open.
func TestStore(t *testing.T, open func(t *testing.T) catalogue.Store) {
	t.Run("kept as recorded", func(t *testing.T) { testKept(t, open(t)) })
	t.Run("repeat and conflict", func(t *testing.T) { testRepeat(t, open(t)) })
	t.Run("decisions", func(t *testing.T) { testDecisions(t, open(t)) })
	t.Run("overrides", func(t *testing.T) { testOverrides(t, open(t)) })
	t.Run("notifications", func(t *testing.T) { testNotifications(t, open(t)) })
	t.Run("load", func(t *testing.T) { testLoad(t, open(t)) })
	t.Run("one of many writers", func(t *testing.T) { testWriters(t, open(t)) })
}

func testKept(t *testing.T, s catalogue.Store) {
	ctx := t.Context()
	a1, b1, a2 := version("a", 1, noon), version("b", 1, noon), version("a", 2, noon.Add(time.Hour))
	must(t, s.RecordVersions(ctx, 0, []catalogue.Version{a1, b1}))
	must(t, s.RecordVersions(ctx, 1, []catalogue.Version{a2}))
	got, err := s.Versions(ctx, catalogue.Query{})
	must(t, err)
	same(t, got, []catalogue.Version{a1, b1, a2})
	got, err = s.Versions(ctx, catalogue.Query{Kind: catalogue.KindCustomer, ID: "a"})
	must(t, err)
	same(t, got, []catalogue.Version{a1, a2})
	got, err = s.Versions(ctx, catalogue.Query{UpTo: noon})
	must(t, err)
	same(t, got, []catalogue.Version{a1, b1})
	got, err = s.Versions(ctx, catalogue.Query{Kind: catalogue.KindApp})
	must(t, err)
	same(t, got, nil)
}

func testRepeat(t *testing.T, s catalogue.Store) {
	ctx := t.Context()
	vs := []catalogue.Version{version("a", 1, noon), version("b", 1, noon)}
	must(t, s.RecordVersions(ctx, 0, vs))
	must(t, s.RecordVersions(ctx, 0, vs)) // the answer was lost
	wantHead(t, s, 1)
	other := version("a", 1, noon)
	other.Digest = "another"
	wantConflict(t, s.RecordVersions(ctx, 0, []catalogue.Version{other}))
	wantConflict(t, s.RecordVersions(ctx, 0, []catalogue.Version{version("c", 1, noon), vs[0]}))
	if err := s.RecordVersions(ctx, 1, []catalogue.Version{version("c", 1, noon), vs[0]}); err == nil {
		t.Error("a version was recorded twice")
	}
	got, err := s.Versions(ctx, catalogue.Query{})
	must(t, err)
	same(t, got, vs) // nothing of what failed
	wantHead(t, s, 1)
}

func testDecisions(t *testing.T, s catalogue.Store) {
	ctx := t.Context()
	v := version("a", 1, noon)
	must(t, s.RecordVersions(ctx, 0, []catalogue.Version{v}))
	approve := catalogue.Decision{Ref: v.Ref, Verdict: catalogue.Approve, By: catalogue.Person{Name: "bo", Unauthenticated: true},
		At: noon.Add(time.Minute), RecordedAt: noon.Add(time.Minute), Document: "hash"}
	accept := catalogue.Decision{Ref: v.Ref, Verdict: catalogue.Accept, By: catalogue.Person{Name: "pat"}, At: noon.Add(time.Hour),
		RecordedBy: catalogue.Person{Name: "bo"}, RecordedAt: noon.Add(2 * time.Hour), Text: "DocuSign 77", Document: "hash"}
	wantConflict(t, s.RecordDecision(ctx, 0, approve))
	must(t, s.RecordDecision(ctx, 1, approve))
	must(t, s.RecordDecision(ctx, 1, approve))
	wantHead(t, s, 2)
	must(t, s.RecordDecision(ctx, 2, accept))
	wrong := approve
	wrong.Digest, wrong.By.Name = "another", "cy"
	if err := s.RecordDecision(ctx, 3, wrong); err == nil {
		t.Error("a decision on a digest that no version has was kept")
	}
	wantHead(t, s, 3)
	ds, err := s.Decisions(ctx, catalogue.Query{})
	must(t, err)
	if !slices.Equal(ds, []catalogue.Decision{approve, accept}) {
		t.Errorf("decisions %+v", ds)
	}
	ds, err = s.Decisions(ctx, catalogue.Query{UpTo: noon.Add(time.Hour)}) // recorded, not decided
	must(t, err)
	if !slices.Equal(ds, []catalogue.Decision{approve}) {
		t.Errorf("decisions recorded in the first hour: %+v", ds)
	}
}

// What the compliance screen found is kept with an approval, and who overrode it.
func testOverrides(t *testing.T, s catalogue.Store) {
	ctx := t.Context()
	v := version("a", 1, noon)
	must(t, s.RecordVersions(ctx, 0, []catalogue.Version{v}))
	o := catalogue.Override{Ref: v.Ref, Finding: "certified-api-price/calls", By: catalogue.Person{Name: "lex", Unauthenticated: true},
		Role: catalogue.RoleLegal, Reason: "ONC letter of 2026-09-01, “Ünclear”", At: noon.Add(time.Minute)}
	wantConflict(t, s.RecordOverride(ctx, 0, o))
	must(t, s.RecordOverride(ctx, 1, o))
	must(t, s.RecordOverride(ctx, 1, o))
	wantHead(t, s, 2)
	second := o
	second.Finding, second.By = "certified-api-cost-basis/calls", catalogue.Person{Name: "lea"}
	must(t, s.RecordOverride(ctx, 2, second))
	wrong := o
	wrong.Digest, wrong.By.Name = "another", "lou"
	if err := s.RecordOverride(ctx, 3, wrong); err == nil {
		t.Error("an override of a digest that no version has was kept")
	}
	wantHead(t, s, 3)
	for q, want := range map[catalogue.Query][]catalogue.Override{
		{}:                      {o, second},
		{ID: "b"}:               nil,
		{UpTo: noon}:            nil,
		{Kind: v.Kind, ID: "a"}: {o, second},
	} {
		got, err := s.Overrides(ctx, q)
		must(t, err)
		if !slices.Equal(got, want) {
			t.Errorf("overrides of %+v: %+v", q, got)
		}
	}

	d := catalogue.Decision{Ref: v.Ref, Verdict: catalogue.Approve, By: catalogue.Person{Name: "bo"}, At: noon.Add(time.Hour), RecordedAt: noon.Add(time.Hour), Document: "hash",
		Screen: &compliance.Result{Rules: "digest", On: period.Date{Year: 2026, Month: 10, Day: 1}, Settings: compliance.Settings{CertifiedDeveloper: true},
			Findings: []compliance.Finding{{ID: "certified-api-price/calls", Severity: compliance.Block, Citation: []string{"45 CFR 170.404"}, Line: 9,
				Override: &compliance.Override{Finding: "certified-api-price/calls", By: "lex", Reason: o.Reason}}}}}
	must(t, s.RecordDecision(ctx, 3, d))
	ds, err := s.Decisions(ctx, catalogue.Query{})
	must(t, err)
	if !reflect.DeepEqual(ds, []catalogue.Decision{d}) {
		t.Errorf("decisions %+v, found %+v", ds, ds[0].Screen)
	}
}

// Who was told is kept as it was said, once, and every other telling beside it.
func testNotifications(t *testing.T, s catalogue.Store) {
	ctx := t.Context()
	v := version("a", 1, noon)
	must(t, s.RecordVersions(ctx, 0, []catalogue.Version{v}))
	n := catalogue.Notification{Ref: v.Ref, To: "ops@northwind.example, “Émile”", How: "e-mail", On: period.Date{Year: 2026, Month: 10, Day: 1},
		By: catalogue.Person{Name: "bo", Unauthenticated: true}, RecordedAt: noon.Add(time.Minute), Evidence: "ticket 12", Document: "hash",
		Sheet: catalogue.Sheet{Format: "md", SHA256: strings.Repeat("0123456789abcdef", 4)}}
	wantConflict(t, s.RecordNotification(ctx, 0, n))
	must(t, s.RecordNotification(ctx, 1, n))
	again := n
	again.RecordedAt, again.By.Unauthenticated = noon.Add(time.Hour), false // tried again later: the answer was lost
	must(t, s.RecordNotification(ctx, 1, again))
	wantHead(t, s, 2)

	want := []catalogue.Notification{n}
	for i, change := range []func(*catalogue.Notification){
		func(n *catalogue.Notification) { n.To = "legal@northwind.example" },
		func(n *catalogue.Notification) { n.How = "letter" },
		func(n *catalogue.Notification) { n.On = n.On.AddDays(7) }, // a reminder
		func(n *catalogue.Notification) { n.By = catalogue.Person{Name: "cy"} },
		func(n *catalogue.Notification) { n.Evidence = "" },
		func(n *catalogue.Notification) { n.Sheet.SHA256 = strings.Repeat("f", 64) },
		func(n *catalogue.Notification) { n.Sheet.Format = "html" },
	} {
		other := n
		other.RecordedAt = noon.Add(time.Duration(i+2) * time.Minute)
		change(&other)
		wantConflict(t, s.RecordNotification(ctx, int64(i)+1, other))
		must(t, s.RecordNotification(ctx, int64(i)+2, other))
		want = append(want, other)
	}
	wrong := n
	wrong.Digest, wrong.To = "another", "x@northwind.example"
	if err := s.RecordNotification(ctx, 9, wrong); err == nil {
		t.Error("a notification of a digest that no version has was kept")
	}
	wantHead(t, s, 9)
	for q, want := range map[catalogue.Query][]catalogue.Notification{
		{}:                             want,
		{ID: "b"}:                      nil,
		{UpTo: noon}:                   nil,
		{UpTo: noon.Add(time.Minute)}:  want[:1],
		{Kind: v.Kind, ID: "a"}:        want,
		{Kind: catalogue.KindContract}: nil,
	} {
		got, err := s.Notifications(ctx, q)
		must(t, err)
		if !slices.Equal(got, want) {
			t.Errorf("notifications of %+v: %+v", q, got)
		}
	}
}

func testLoad(t *testing.T, s catalogue.Store) {
	ctx := t.Context()
	var vs []catalogue.Version
	for i := range 60 { // more than are read one by one
		vs = append(vs, version(fmt.Sprintf("c%02d", i), 1, noon))
	}
	must(t, s.RecordVersions(ctx, 0, vs))
	slices.Reverse(vs)
	for _, n := range []int{0, 1, 60} {
		var refs []catalogue.Ref
		for _, v := range vs[:n] {
			refs = append(refs, v.Ref)
		}
		got, err := s.LoadVersions(ctx, refs)
		must(t, err)
		same(t, got, vs[:n])
		refs = append(refs, catalogue.Ref{Kind: catalogue.KindCustomer, ID: "nobody", Number: 1})
		if _, err := s.LoadVersions(ctx, refs); !errors.Is(err, catalogue.ErrUnknown) {
			t.Errorf("%d and an unknown one: %v, want ErrUnknown", n, err)
		}
	}
}

func testWriters(t *testing.T, s catalogue.Store) {
	const writers = 8
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wg.Go(func() {
			errs[i] = s.RecordVersions(t.Context(), 0, []catalogue.Version{version(fmt.Sprintf("w%d", i), 1, noon)})
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			wantConflict(t, err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d writers won, want 1", won, writers)
	}
	wantHead(t, s, 1)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantConflict(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, catalogue.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
}

func wantHead(t *testing.T, s catalogue.Store, want int64) {
	t.Helper()
	got, err := s.CatalogueHead(t.Context())
	must(t, err)
	if got != want {
		t.Errorf("head %d, want %d", got, want)
	}
}

func same(t *testing.T, got, want []catalogue.Version) {
	t.Helper()
	text := func(vs []catalogue.Version) string { return fmt.Sprintf("%+v", vs) }
	if text(got) != text(want) {
		t.Errorf("got  %s\nwant %s", text(got), text(want))
	}
}
