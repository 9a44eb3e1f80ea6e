// Package billingtest holds the promises of [billing.Store] as tests that every
// implementation runs. It refuses to know any engine. Read [TestStore] first.
package billingtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"mete/billing"
	"mete/ledger"
	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Books is a store with the books that its entries are posted to.
type Books interface {
	billing.Store
	ledger.Store
}

// TestStore checks every promise of [billing.Store]. Open returns a new, empty store.
func TestStore(t *testing.T, open func(t *testing.T) Books) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s Books)
	}{
		{"a month is begun once and finished", testMonth},
		{"months are closed in order", testOrder},
		{"two closes at once go on under one manifest", testTwoCloses},
		{"booking dates leave closed months", testBookedOn},
		{"scorecards are frozen", testScorecards},
		{"placements are frozen", testPlacements},
		{"appeals are added to", testAppeals},
		{"a pricing is kept once", testPriced},
		{"the newest pricing before a close", testNewest},
		{"attributions are the newest, and can be withdrawn", testAttributions},
		{"a statement is kept with its entries or not at all", testStatement},
		{"statements are found by month and partner", testStatements},
		{"a statement is issued once", testIssue},
		{"reserve is open until it is released", testLayers},
		{"fees earned over months are kept with their statement", testDeferred},
		{"adjustments are proposed, approved, carried", testAdjustments},
		{"a receipt is booked once", testReceipts},
		{"what a partner paid is booked once, and no more than it owes", testReceived},
		{"a checkpoint only moves on", testCheckpoints},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// The facts of these tests.
var (
	jan = period.Month{Year: 2026, Month: time.January}
	feb = jan.Add(1)
	mar = jan.Add(2)
	at  = time.Date(2026, 2, 5, 9, 30, 0, 123000, time.UTC)
)

// USD is an amount in dollars; it panics on anything that is none.
func USD(text string) money.Amount {
	a, err := money.Parse(text, "USD")
	if err != nil {
		panic(err)
	}
	return a
}

// Manifest is a month's manifest with everything set.
func Manifest(m period.Month) billing.Manifest {
	return billing.Manifest{
		Entity: "meridian-us", Month: m, Engine: billing.Engine, ClosedBy: "m.ortiz", ClosedAt: at,
		Cutoff:   metering.Cutoff{{Incarnation: 1, Partition: 0, Sequence: 17}},
		Accepted: []billing.AcceptedGap{{Source: "gateway", Reason: "maintenance"}},
	}
}

// Begin begins the close of a month.
func Begin(t *testing.T, s billing.Store, m period.Month) {
	t.Helper()
	if _, err := s.BeginClose(t.Context(), Manifest(m)); err != nil {
		t.Fatal(err)
	}
}

// Statement is a statement that sold for the amount under one rule without a share.
func Statement(p partner.ID, m period.Month, amount string) billing.Statement {
	a := USD(amount)
	line := billing.Line{Number: 1, Section: billing.Sales, Processor: "stripe", Line: pricing.Line{
		LineKey: pricing.LineKey{Contract: string(p) + "-c", Rule: "subscriptions", Part: "sales", Month: m, Currency: "USD", Party: p},
		Kind:    "share", Version: 1, Payer: partner.Platform, Text: "Sales", Count: 2, Amount: a, Exact: a.Decimal(),
	}}
	return billing.Statement{
		ID: billing.NewStatementID("meridian-us", p, "USD", m), Entity: "meridian-us", Market: "Meridian", Partner: p, Name: string(p),
		Currency: "USD", Month: m, Zone: "UTC", Lines: []billing.Line{line}, Earned: a, NetSales: a, Charges: USD("0"),
		Payable: []billing.Movement{{What: "Opening", Kind: "opening", Amount: USD("0")}, {What: "Earned", Kind: "earned", Amount: a}, {What: "Closing", Kind: "closing", Amount: a}},
		Reserve: []billing.Movement{{What: "Opening", Kind: "opening", Amount: USD("0")}, {What: "Closing", Kind: "closing", Amount: USD("0")}},
		ReplyBy: m.Last().AddDays(100),
	}
}

// keep is a statement that keeps reserve to be released on the day.
func keep(s billing.Statement, amount string, on period.Date) billing.Statement {
	s.Kept = &billing.Kept{Rate: "5%", Of: "earned", Base: s.Earned, Amount: USD(amount), ReleaseOn: on}
	return s
}

// Commit keeps a statement with its entries.
func Commit(t *testing.T, s billing.Store, st billing.Statement) {
	t.Helper()
	entries, err := st.Entries()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CommitStatement(t.Context(), st, entries); err != nil {
		t.Fatal(err)
	}
}

// is fails the test unless the error is want; nil wants none.
func is(t *testing.T, what string, err, want error) {
	t.Helper()
	if want == nil && err != nil || want != nil && !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// same fails the test unless both values are written alike.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	g, errG := json.Marshal(got)
	w, errW := json.Marshal(want)
	if errG != nil || errW != nil || string(g) != string(w) {
		t.Errorf("%s: %s, want %s (%v, %v)", what, g, w, errG, errW)
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func testMonth(t *testing.T, s Books) {
	ctx := t.Context()
	month := must[billing.MonthStatus](t)
	if got := month(s.Month(ctx, jan)); got.State != ledger.Open || got.Manifest != nil {
		t.Errorf("a month nobody touched: %+v", got)
	}
	is(t, "finish before begin", s.FinishClose(ctx, jan), billing.ErrState)
	first := Manifest(jan)
	same(t, "begin", must[billing.Manifest](t)(s.BeginClose(ctx, first)), first)
	other := first
	other.ClosedBy, other.Cutoff = "x", nil
	same(t, "begin again with another", must[billing.Manifest](t)(s.BeginClose(ctx, other)), first)
	if got := month(s.Month(ctx, jan)); got.State != ledger.Closing {
		t.Errorf("begun: %s", got.State)
	}
	for range 2 {
		is(t, "finish", s.FinishClose(ctx, jan), nil)
	}
	got := month(s.Month(ctx, jan))
	same(t, "manifest kept", got.Manifest, first)
	if got.State != ledger.Closed {
		t.Errorf("finished: %s", got.State)
	}
	same(t, "months", must[[]billing.MonthStatus](t)(s.Months(ctx)), []billing.MonthStatus{got})
	same(t, "begin a closed one", must[billing.Manifest](t)(s.BeginClose(ctx, other)), first)
	if got := month(s.Month(ctx, jan)); got.State != ledger.Closed {
		t.Errorf("begun again, it is %s", got.State)
	}
}

func testOrder(t *testing.T, s Books) {
	ctx := t.Context()
	Begin(t, s, jan)
	begin := func(m period.Month) error { _, err := s.BeginClose(ctx, Manifest(m)); return err }
	is(t, "next while one is closing", begin(feb), billing.ErrState)
	is(t, "finish", s.FinishClose(ctx, jan), nil)
	is(t, "one left out", begin(mar), billing.ErrState)
	is(t, "one before the first", begin(jan.Add(-1)), billing.ErrState)
	is(t, "the next", begin(feb), nil)
	if got := must[billing.MonthStatus](t)(s.Month(ctx, mar)); got.State != ledger.Open || got.Manifest != nil {
		t.Errorf("a refused month is %+v", got)
	}
}

func testTwoCloses(t *testing.T, s Books) {
	const closers = 6
	kept := make([]billing.Manifest, closers)
	errs := make([]error, closers)
	var all sync.WaitGroup
	for i := range closers {
		all.Go(func() {
			m := Manifest(jan)
			m.ClosedBy = fmt.Sprint("closer-", i)
			kept[i], errs[i] = s.BeginClose(t.Context(), m)
		})
	}
	all.Wait()
	var went []billing.Manifest
	for i := range closers {
		if errs[i] == nil {
			went = append(went, kept[i])
		}
	}
	if len(went) == 0 {
		t.Fatal(errs)
	}
	is0 := must[billing.MonthStatus](t)(s.Month(t.Context(), jan)).Manifest
	for _, m := range went {
		same(t, "manifest that a closer goes on with", m, is0)
	}
}

func testBookedOn(t *testing.T, s Books) {
	ctx := t.Context()
	on := must[period.Date](t)
	day := period.Date{Year: 2026, Month: 1, Day: 17}
	same(t, "open", on(s.BookedOn(ctx, day)), day)
	Begin(t, s, jan)
	same(t, "closing", on(s.BookedOn(ctx, day)), feb.First())
	is(t, "finish", s.FinishClose(ctx, jan), nil)
	same(t, "closed", on(s.BookedOn(ctx, day)), feb.First())
	Begin(t, s, feb)
	same(t, "the next closing too", on(s.BookedOn(ctx, day)), mar.First())
}

func testScorecards(t *testing.T, s Books) {
	ctx := t.Context()
	Begin(t, s, jan)
	share := decimal.RequireFromString("0.9991")
	cards := []pricing.Scorecard{{App: "b", Month: jan, Calls: 3}, {App: "a", Month: jan, Calls: 1000, Availability: &share}}
	for range 2 {
		is(t, "freeze", s.FreezeScorecards(ctx, jan, cards), nil)
	}
	same(t, "frozen, in order of app", must[[]pricing.Scorecard](t)(s.Scorecards(ctx, jan)), []pricing.Scorecard{cards[1], cards[0]})
	other := []pricing.Scorecard{{App: "c", Month: jan}, {App: "b", Month: jan, Calls: 4}}
	is(t, "another", s.FreezeScorecards(ctx, jan, other), billing.ErrConflict)
	if got := must[[]pricing.Scorecard](t)(s.Scorecards(ctx, jan)); len(got) != 2 {
		t.Errorf("a refused freeze left %d cards, want 2", len(got))
	}
	if got := must[[]pricing.Scorecard](t)(s.Scorecards(ctx, feb)); len(got) != 0 {
		t.Errorf("another month has %d cards", len(got))
	}
}

func testPlacements(t *testing.T, s Books) {
	ctx := t.Context()
	Begin(t, s, jan)
	apps := []billing.Placement{
		{App: "b", Month: jan, NotScored: "no calls", Requirements: []pricing.Requirement{}},
		{App: "a", Month: jan, Eligible: true, Requirements: []pricing.Requirement{{Needs: "within > 0.9", Holds: true, Measured: []pricing.Measured{{Measure: "within", Value: "0.95"}}}}},
	}
	for range 2 {
		is(t, "freeze", s.FreezePlacements(ctx, jan, apps), nil)
	}
	same(t, "kept, in order of app", must[[]billing.Placement](t)(s.Placements(ctx, jan)), []billing.Placement{apps[1], apps[0]})
	is(t, "another", s.FreezePlacements(ctx, jan, []billing.Placement{{App: "c", Month: jan}, {App: "b", Month: jan, Eligible: true}}), billing.ErrConflict)
	if got := must[[]billing.Placement](t)(s.Placements(ctx, jan)); len(got) != 2 {
		t.Errorf("a refused freeze left %d apps, want 2", len(got))
	}
	if got := must[[]billing.Placement](t)(s.Placements(ctx, feb)); len(got) != 0 {
		t.Errorf("another month has %d apps", len(got))
	}
}

func testAppeals(t *testing.T, s Books) {
	ctx := t.Context()
	at := time.Date(2026, 2, 3, 9, 0, 0, 0, time.UTC)
	first := billing.Appeal{ID: "AP-2", App: "a", Month: jan, Measure: "availability", Number: 1, Measured: "0.9", Reason: "the gateway's", OpenedBy: "n.roy", OpenedAt: at}
	second := billing.Appeal{ID: "AP-1", App: "b", Month: jan, Measure: "calls", Number: 1, Reason: "more", OpenedBy: "n.roy", OpenedAt: at.Add(time.Second)}
	for range 2 {
		is(t, "open", s.OpenAppeal(ctx, first), nil)
		is(t, "open another", s.OpenAppeal(ctx, second), nil)
	}
	other := first
	other.Reason = "mine"
	is(t, "another under the same ID", s.OpenAppeal(ctx, other), billing.ErrConflict)
	yes := billing.AppealDecision{Accepted: true, Value: "0.99", Reason: "so it was", By: "s.lind", At: at.Add(time.Hour)}
	is(t, "decide what was never opened", s.DecideAppeal(ctx, "AP-9", yes), billing.ErrNotFound)
	for range 2 {
		is(t, "decide", s.DecideAppeal(ctx, "AP-2", yes), nil)
	}
	is(t, "decide otherwise", s.DecideAppeal(ctx, "AP-2", billing.AppealDecision{Reason: "no", By: "s.lind", At: at}), billing.ErrConflict)
	first.Decision = &yes
	same(t, "oldest first", must[[]billing.Appeal](t)(s.Appeals(ctx)), []billing.Appeal{first, second})
	for i, bad := range []billing.AppealDecision{{Reason: "a", By: "p"}, {Reason: "b", By: "q"}} {
		if err := s.DecideAppeal(ctx, "AP-1", bad); (err == nil) != (i == 0) {
			t.Errorf("decision %d: %v", i, err)
		}
	}
}

// Priced is a pricing of a group by a close, with one line and one attribution.
func Priced(close, m period.Month, group, amount string, sales ...string) billing.Priced {
	p := billing.Priced{Close: close, Month: m, Group: group, Input: "i" + amount}
	p.Result.Lines = []pricing.Line{{LineKey: pricing.LineKey{Contract: group, Rule: "r", Part: "sales", Month: m, Currency: "USD", Party: "p"}, Amount: USD(amount)}}
	for _, id := range sales {
		p.Result.Attributions = append(p.Result.Attributions, pricing.Attribution{Source: "billing", ID: id, Contract: group, Rule: "r", Month: m, Fee: decimal.RequireFromString(amount)})
	}
	return p
}

// closes begins and finishes months up to and including the last, which stays open.
func closes(t *testing.T, s Books, last period.Month) {
	t.Helper()
	for m := jan; ; m = m.Add(1) {
		Begin(t, s, m)
		if m == last {
			return
		}
		is(t, "finish", s.FinishClose(t.Context(), m), nil)
	}
}

func testPriced(t *testing.T, s Books) {
	ctx := t.Context()
	Begin(t, s, jan)
	p := Priced(jan, jan, "g", "10.00", "s1")
	p.Barred = []pricing.Line{{LineKey: pricing.LineKey{Rule: "r", Month: jan, Currency: "USD"}, Amount: USD("-1.00")}}
	for range 2 {
		is(t, "save", s.SavePriced(ctx, p), nil)
	}
	is(t, "save another result", s.SavePriced(ctx, Priced(jan, jan, "g", "11.00")), billing.ErrConflict)
	same(t, "priced by the close", must[[]billing.Priced](t)(s.PricedBy(ctx, jan)), []billing.Priced{p})
	same(t, "attributions by the close", must[[]pricing.Attribution](t)(s.AttributionsBy(ctx, jan)), p.Result.Attributions)
}

func testNewest(t *testing.T, s Books) {
	ctx := t.Context()
	closes(t, s, mar)
	all := []billing.Priced{Priced(jan, jan, "g", "10.00"), Priced(jan, jan, "h", "1.00"), Priced(feb, jan, "g", "12.00"), Priced(feb, feb, "g", "20.00"), Priced(mar, jan, "h", "2.00")}
	for _, p := range all {
		is(t, "save", s.SavePriced(ctx, p), nil)
	}
	newest := must[[]billing.Priced](t)
	same(t, "January before its close", len(newest(s.PricedMonth(ctx, jan, jan))), 0)
	same(t, "January before February's close", newest(s.PricedMonth(ctx, jan, feb)), all[:2])
	same(t, "January before March's close", newest(s.PricedMonth(ctx, jan, mar)), []billing.Priced{all[2], all[1]})
	same(t, "January after March's close", newest(s.PricedMonth(ctx, jan, mar.Add(1))), []billing.Priced{all[2], all[4]})
	same(t, "by February's close", newest(s.PricedBy(ctx, feb)), all[2:4])
}

func testAttributions(t *testing.T, s Books) {
	ctx := t.Context()
	closes(t, s, mar)
	for _, p := range []billing.Priced{Priced(jan, jan, "g", "10.00", "s1", "s2"), Priced(feb, jan, "g", "12.00", "s1"), Priced(mar, jan, "g", "13.00", "s1", "s2")} {
		is(t, "save", s.SavePriced(ctx, p), nil)
	}
	refs := []billing.SaleRef{{Source: "billing", ID: "s1"}, {Source: "billing", ID: "s2"}, {Source: "other", ID: "s1"}, {Source: "billing", ID: "none"}}
	for _, c := range []struct {
		before period.Month
		want   []string
	}{
		{jan, nil}, {feb, []string{"s1 10", "s2 10"}}, {mar, []string{"s1 12"}}, {mar.Add(1), []string{"s1 13", "s2 13"}},
	} {
		var got []string
		for _, a := range must[[]pricing.Attribution](t)(s.Attributions(ctx, refs, c.before)) {
			got = append(got, a.ID+" "+a.Fee.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("attributions before the close of %s: %v, want %v", c.before, got, c.want)
		}
	}
}

func testStatement(t *testing.T, s Books) {
	ctx := t.Context()
	Begin(t, s, jan)
	st := keep(Statement("northwind", jan, "100.00"), "5.00", mar.First())
	for range 2 {
		Commit(t, s, st)
	}
	got := must[billing.StatementRecord](t)(s.Statement(ctx, st.ID))
	same(t, "statement", got.Statement, st)
	if got.State != billing.InReview || got.Digest != st.Digest() || got.Statement.Digest() != st.Digest() {
		t.Errorf("kept as %s with digest %s, want in review with %s", got.State, got.Digest, st.Digest())
	}
	entries, _ := st.Entries()
	for _, e := range entries {
		same(t, "entry "+e.ID, must[ledger.Entry](t)(s.Entry(ctx, e.ID)), e)
	}
	other := Statement("northwind", jan, "101.00")
	oe, _ := other.Entries()
	is(t, "another statement under the id", s.CommitStatement(ctx, other, oe), billing.ErrConflict)
	_, err := s.Statement(ctx, "none")
	is(t, "unknown", err, billing.ErrNotFound)

	// An entry that cannot be posted leaves no statement, and a statement that cannot
	// be kept leaves no entry.
	bad := Statement("quill", jan, "7.00")
	be, _ := bad.Entries()
	be[0].Postings[0].Amount = USD("8.00")
	if err := s.CommitStatement(ctx, bad, be); err == nil {
		t.Error("a statement with an entry that does not balance was kept")
	}
	_, err = s.Statement(ctx, bad.ID)
	is(t, "its statement", err, billing.ErrNotFound)
	late := Statement("quill", feb, "7.00") // February was not begun
	le, _ := late.Entries()
	if err := s.CommitStatement(ctx, late, le); err == nil {
		t.Error("a statement of a month that was not begun was kept")
	}
	_, err = s.Entry(ctx, late.EntryID())
	is(t, "its entry", err, ledger.ErrNotFound)
	is(t, "somebody else posting into the closing month", s.Post(ctx, ledger.Entry{ID: "x", Kind: "test", ValueOn: jan.Last(), BookedOn: jan.Last(), Postings: []ledger.Posting{
		{Account: ledger.Clearing("stripe"), Amount: USD("1.00")}, {Account: ledger.PayablePending("quill"), Amount: USD("-1.00")}}}), ledger.ErrClosed)
}

func testStatements(t *testing.T, s Books) {
	ctx := t.Context()
	closes(t, s, feb)
	ids := func(m period.Month, p partner.ID) []billing.StatementID {
		var out []billing.StatementID
		for _, r := range must[[]billing.StatementRecord](t)(s.Statements(ctx, m, p)) {
			out = append(out, r.ID)
		}
		return out
	}
	c, d := Statement("b", feb, "3.00"), Statement("a", feb, "4.00")
	for _, st := range []billing.Statement{c, d} {
		Commit(t, s, st)
	}
	same(t, "February", ids(feb, ""), []billing.StatementID{d.ID, c.ID})
	same(t, "partner a", ids(period.Month{}, "a"), []billing.StatementID{d.ID})
	same(t, "January, partner a", len(ids(jan, "a")), 0)
	same(t, "all", ids(period.Month{}, ""), []billing.StatementID{d.ID, c.ID})
	if got := must[billing.MonthStatus](t)(s.Month(ctx, feb)); got.Statements != 2 || got.Issued != 0 {
		t.Errorf("February has %d statements, %d issued", got.Statements, got.Issued)
	}
}

func testIssue(t *testing.T, s Books) {
	ctx := t.Context()
	Begin(t, s, jan)
	st := Statement("northwind", jan, "100.00")
	Commit(t, s, st)
	is(t, "finish", s.FinishClose(ctx, jan), nil)
	r := must[billing.StatementRecord](t)(s.Statement(ctx, st.ID))
	day := period.Date{Year: 2026, Month: 2, Day: 10}
	r.State, r.IssuedBy, r.IssuedOn, r.BookedOn, r.IssuedAt, r.Unauthenticated = billing.Issued, "a.kim", day, day, at, true
	bad := *st.IssueEntry(day, day)
	bad.ValueOn, bad.BookedOn = jan.Last(), jan.Last()
	is(t, "booked in the closed month", s.Issue(ctx, r, &bad), ledger.ErrClosed)
	same(t, "refused", must[billing.StatementRecord](t)(s.Statement(ctx, st.ID)).State, billing.InReview)
	for range 2 {
		is(t, "issue", s.Issue(ctx, r, st.IssueEntry(day, day)), nil)
	}
	same(t, "issued", must[billing.StatementRecord](t)(s.Statement(ctx, st.ID)), r)
	same(t, "entry", must[ledger.Entry](t)(s.Entry(ctx, "issue:"+string(st.ID))), st.IssueEntry(day, day))
	other := r
	other.IssuedBy = "x"
	is(t, "by another", s.Issue(ctx, other, st.IssueEntry(day, day)), billing.ErrConflict)
	if got := must[billing.MonthStatus](t)(s.Month(ctx, jan)); got.Issued != 1 {
		t.Errorf("%d issued, want 1", got.Issued)
	}
}

func testLayers(t *testing.T, s Books) {
	ctx := t.Context()
	Begin(t, s, jan)
	first := keep(Statement("northwind", jan, "100.00"), "5.00", feb.Last())
	Commit(t, s, first)
	is(t, "finish", s.FinishClose(ctx, jan), nil)
	layer := billing.Layer{Statement: first.ID, Partner: "northwind", Month: jan, Amount: USD("5.00"), ReleaseOn: feb.Last()}
	open := must[[]billing.Layer](t)
	same(t, "before January", len(open(s.OpenLayers(ctx, jan))), 0)
	same(t, "before February", open(s.OpenLayers(ctx, feb)), []billing.Layer{layer})
	Begin(t, s, feb)
	second := keep(Statement("northwind", feb, "200.00"), "10.00", mar.Last())
	second.Releases = []billing.Release{{Layer: layer, On: feb.Last()}}
	Commit(t, s, second)
	next := billing.Layer{Statement: second.ID, Partner: "northwind", Month: feb, Amount: USD("10.00"), ReleaseOn: mar.Last()}
	same(t, "before February, afterwards", open(s.OpenLayers(ctx, feb)), []billing.Layer{layer})
	same(t, "before March", open(s.OpenLayers(ctx, mar)), []billing.Layer{next})
	again := Statement("quill", feb, "1.00")
	again.Releases = second.Releases
	entries, err := again.Entries()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CommitStatement(ctx, again, entries); err == nil {
		t.Error("a layer was released twice")
	}
}

func testReceived(t *testing.T, s Books) {
	ctx := t.Context()
	day := period.Date{Year: 2026, Month: 2, Day: 3}
	owes := ledger.Entry{ID: "owes", Kind: "test", ValueOn: day, BookedOn: day, Postings: []ledger.Posting{
		{Account: ledger.ReceivablePartner("quill"), Amount: USD("100.00")}, {Account: ledger.Income("share"), Amount: USD("-100.00")}}}
	is(t, "owes", s.Post(ctx, owes), nil)
	r := billing.Received{Partner: "quill", Reference: "W-1", On: day, Amount: USD("60.00"), Rail: "manual", BookedOn: day, By: "m.ortiz"}
	for i := range 2 {
		isNew, err := s.CommitReceived(ctx, r, r.Entry())
		if err != nil || isNew != (i == 0) {
			t.Errorf("time %d: new %t, %v", i+1, isNew, err)
		}
	}
	other := r
	other.Amount = USD("1.00")
	_, err := s.CommitReceived(ctx, other, other.Entry())
	is(t, "another amount under the reference", err, billing.ErrConflict)
	more := r
	more.Reference, more.Amount = "W-2", USD("40.01")
	_, err = s.CommitReceived(ctx, more, more.Entry())
	is(t, "more than is owed", err, ledger.ErrGuard)
	same(t, "received", must[[]billing.Received](t)(s.Received(ctx)), []billing.Received{r})
}

func testDeferred(t *testing.T, s Books) {
	ctx := t.Context()
	Begin(t, s, jan)
	st := Statement("northwind", jan, "-120.00")
	st.Lines[0].Part, st.Lines[0].Class, st.Lines[0].Section = "fee", metering.Certification, billing.Charges
	st.Lines[0].Deferral = &pricing.Deferral{Months: 12, Charged: USD("120.00"), Back: USD("0.00")}
	want := billing.Deferred{
		Statement: st.ID, Line: 1, Month: jan, Partner: "northwind", Fee: billing.Fee{Contract: "northwind-c", Rule: "subscriptions", Part: "fee"},
		Of: jan, Months: 12, Charged: USD("120.00"), Back: USD("0.00"), From: ledger.Deferred("certification"), To: ledger.Income("certification"),
	}
	for range 2 {
		Commit(t, s, st)
	}
	deferred := must[[]billing.Deferred](t)
	same(t, "before January", len(deferred(s.Deferred(ctx, jan))), 0)
	same(t, "before February", deferred(s.Deferred(ctx, feb)), []billing.Deferred{want})
	same(t, "long after", deferred(s.Deferred(ctx, feb.Add(48))), []billing.Deferred{want})
}

func testAdjustments(t *testing.T, s Books) {
	ctx := t.Context()
	a := billing.Adjustment{ID: "A-1", Partner: "northwind", Amount: USD("36.00"), Account: "share", Corrects: jan, Reason: "dispute D-17", Evidence: "letter", ProposedBy: "m.ortiz", ProposedAt: at}
	b := billing.Adjustment{ID: "A-0", Partner: "quill", Amount: USD("-1.00"), Account: "usage", Reason: "r", ProposedBy: "m.ortiz", ProposedAt: at.Add(time.Hour)}
	for range 2 {
		is(t, "propose", s.ProposeAdjustment(ctx, a), nil)
	}
	is(t, "propose", s.ProposeAdjustment(ctx, b), nil)
	all := must[[]billing.Adjustment](t)
	same(t, "oldest first", all(s.Adjustments(ctx)), []billing.Adjustment{a, b})
	_, err := s.ApproveAdjustment(ctx, "none", "a.kim", at)
	is(t, "approve an unknown one", err, billing.ErrNotFound)
	a.ApprovedBy, a.ApprovedAt = "a.kim", at.Add(time.Minute)
	same(t, "approve", must[billing.Adjustment](t)(s.ApproveAdjustment(ctx, "A-1", "a.kim", a.ApprovedAt)), a)
	same(t, "approve again", must[billing.Adjustment](t)(s.ApproveAdjustment(ctx, "A-1", "x", at)), a)
	m := Manifest(jan)
	m.Adjust = []string{"A-0"}
	if _, err := s.BeginClose(ctx, m); err == nil {
		t.Error("a close carries an adjustment that nobody approved")
	}
	m.Adjust = []string{"A-1"}
	if _, err := s.BeginClose(ctx, m); err != nil {
		t.Fatal(err)
	}
	a.CarriedBy = jan
	same(t, "carried", all(s.Adjustments(ctx)), []billing.Adjustment{a, b})
	is(t, "finish", s.FinishClose(ctx, jan), nil)
	m = Manifest(feb)
	m.Adjust = []string{"A-1"}
	if _, err := s.BeginClose(ctx, m); err == nil {
		t.Error("two closes carry the same adjustment")
	}
}

func testReceipts(t *testing.T, s Books) {
	ctx := t.Context()
	r := billing.Receipt{Processor: "stripe", Settlement: "po_2", SettledOn: jan.Last(), Gross: USD("103.00"), Fee: USD("3.00"), Net: USD("100.00"), Rail: "manual", BookedOn: jan.Last()}
	commit := must[bool](t)
	if !commit(s.CommitReceipt(ctx, r, r.Entry())) || commit(s.CommitReceipt(ctx, r, r.Entry())) {
		t.Error("want new, then known")
	}
	later := r
	later.BookedOn = feb.First() // decided anew by a later import of the same file
	if commit(s.CommitReceipt(ctx, later, later.Entry())) {
		t.Error("the same receipt, booked later: want known")
	}
	other := r
	other.Net, other.Fee = USD("99.00"), USD("4.00")
	_, err := s.CommitReceipt(ctx, other, other.Entry())
	is(t, "other figures", err, billing.ErrConflict)
	first := r
	first.Settlement, first.SettledOn, first.BookedOn = "po_1", jan.First(), jan.First()
	commit(s.CommitReceipt(ctx, first, first.Entry()))
	if got := must[[]billing.Receipt](t)(s.Receipts(ctx)); !reflect.DeepEqual(got, []billing.Receipt{first, r}) {
		t.Errorf("receipts %+v, want by date", got)
	}
	bs := must[[]ledger.Balance](t)(s.Balances(ctx, ledger.Filter{Prefix: ledger.Cash("manual")}))
	if len(bs) != 1 || bs[0].Amount != USD("200.00") {
		t.Errorf("the bank holds %v, want 200.00", bs)
	}
	bad := r
	bad.Settlement = "po_3"
	e := bad.Entry()
	e.Postings[0].Amount = USD("1.00")
	if _, err := s.CommitReceipt(ctx, bad, e); err == nil {
		t.Error("a receipt whose entry does not balance was kept")
	}
	if got := must[[]billing.Receipt](t)(s.Receipts(ctx)); len(got) != 2 {
		t.Errorf("%d receipts after a refused one, want 2", len(got))
	}
}

func testCheckpoints(t *testing.T, s Books) {
	ctx := t.Context()
	at := func(stream string, announced int64, sequences ...uint64) billing.Checkpoint {
		c := billing.Checkpoint{Stream: stream, Announced: announced, At: at}
		for p, n := range sequences {
			c.Cutoff = append(c.Cutoff, metering.PartitionCutoff{Incarnation: 1, Partition: p, Sequence: n})
			c.Messages += int64(n)
		}
		return c
	}
	newest := func(stream string, want billing.Checkpoint) {
		t.Helper()
		if got := must[billing.Checkpoint](t)(s.Checkpoint(ctx, stream)); !reflect.DeepEqual(got, want) {
			t.Errorf("the checkpoint of %s is %+v, want %+v", stream, got, want)
		}
	}
	move := func(c billing.Checkpoint, want bool) {
		t.Helper()
		if got := must[bool](t)(s.MoveCheckpoint(ctx, c)); got != want {
			t.Errorf("moved to %s: %v, want %v", c.Cutoff, got, want)
		}
	}
	newest("a", billing.Checkpoint{})
	first, second := at("a", 50, 10, 7), at("a", 60, 10, 9)
	move(first, true)
	move(first, false) // again
	newest("a", first)
	newest("b", billing.Checkpoint{})
	move(second, true)
	move(first, false)              // back
	move(at("a", 70, 30, 8), false) // back in one partition
	move(at("a", 70, 30), false)    // without one of them
	newest("a", second)
	other := second
	other.Announced++
	_, err := s.MoveCheckpoint(ctx, other)
	is(t, "the same place, other totals", err, billing.ErrConflict)
	move(at("b", 3, 1, 1), true)
	newest("a", second)

	var all sync.WaitGroup
	for n := range uint64(8) {
		all.Go(func() {
			if _, err := s.MoveCheckpoint(ctx, at("c", int64(n), n+1, n+1)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	newest("c", at("c", 7, 8, 8))
}
