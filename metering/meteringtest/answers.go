package meteringtest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"mete/metering"
)

// cellText is a usage cell in one line, decimals by value.
func cellText(u metering.Usage) string {
	return fmt.Sprintf("%q/%q/%q/%q/%q/%q/%q/%d/%q/%s: count %d quantity %s bytes %d amount %s slow %d",
		u.App, u.Customer, u.Type, u.Class, u.Operation, u.Unit, u.Currency, u.Status, u.Environment, plainJSON(u.Dimensions),
		u.Count, u.Quantity, u.Bytes, u.Amount, u.Slow)
}

// plainJSON makes one text of the spellings that a JSON object may have.
func plainJSON(s string) string {
	if s == "" {
		return ""
	}
	m := map[string]string{}
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		return "not JSON: " + s
	}
	b, _ := json.Marshal(m)
	return string(b)
}

// text is an accepted event in one line, decimals and times by value.
func text(a *metering.Accepted) string {
	e := a.Event
	e.Time = e.Time.UTC()
	b, _ := json.Marshal(e.Data.Dimensions)
	return fmt.Sprintf("%s %s %+v at %s: %q of %q %s %s absent %t %q content %s, %s", a.Key, a.Hash, a.Position, a.AcceptedAt.UTC().Format(time.RFC3339Nano),
		e.ID, e.Source, e.Type, e.Time.Format(time.RFC3339Nano), e.TimeAbsent, e.Customer, metering.ContentHash(e), b)
}

func lateText(ls []metering.Late) string {
	var lines []string
	for _, l := range ls {
		lines = append(lines, fmt.Sprintf("%s %s: %d from %s", l.App, l.Month, l.Count, l.Earliest.UTC().Format(time.RFC3339Nano)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func ignoredText(is []metering.Ignored) string {
	var lines []string
	for _, i := range is {
		lines = append(lines, fmt.Sprintf("%q: %d duplicates, %d conflicts", i.App, i.Duplicates, i.Conflicts))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// someTypes are what the random tests ask transactions of.
var someTypes = []string{metering.SalePaid, metering.SaleRefunded, metering.UsageVoided}

// answers is everything that a store says of a span, as text: equal texts mean
// equal answers.
func answers(t tester, s metering.Store, sp metering.Span) string {
	t.Helper()
	ctx := context.Background()
	var cells []string
	for _, u := range collect(t, "usage", s.Usage(ctx, sp)) {
		cells = append(cells, cellText(u))
	}
	slices.Sort(cells)
	var b strings.Builder
	fmt.Fprintf(&b, "usage\n%s\ntransactions\n", strings.Join(cells, "\n"))
	for _, x := range collect(t, "transactions", s.Transactions(ctx, sp, someTypes)) {
		fmt.Fprintln(&b, text(&metering.Accepted{Event: x.Event, Key: x.Key, Position: x.Position}))
	}
	fmt.Fprintln(&b, "events")
	for _, e := range collect(t, "events", s.Events(ctx, sp, metering.Filter{Voided: true})) {
		fmt.Fprintln(&b, text(&e))
	}
	late, err := s.Late(ctx, sp)
	if err != nil {
		t.Fatalf("late: %v", err)
	}
	counts, err := s.Counts(ctx, sp.UpTo)
	if err != nil {
		t.Fatalf("counts: %v", err)
	}
	part, err := s.CountsBetween(ctx, sp.After, sp.UpTo)
	if err != nil {
		t.Fatalf("counts between: %v", err)
	}
	ignored, err := s.Ignored(ctx, sp)
	if err != nil {
		t.Fatalf("ignored: %v", err)
	}
	slices.SortFunc(ignored, func(x, y metering.Ignored) int { return strings.Compare(string(x.App), string(y.App)) })
	fmt.Fprintf(&b, "late\n%s\ncounts\n%+v\nof them between\n%+v\nignored\n%+v\n", lateText(late), counts, part, ignored)
	return b.String()
}

// Compare fails the test unless both stores answer the same of the span. Drivers use
// it to compare a store that was killed, copied or reopened with what it must hold.
// A question beyond what is stored may also be refused as such.
func Compare(t tester, got, want metering.Store, sp metering.Span) {
	t.Helper()
	if behind(t, got, sp) {
		return
	}
	g, w := strings.Split(answers(t, got, sp), "\n"), strings.Split(answers(t, want, sp), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("of %+v the answers differ from line %d on:\n got %s\nwant %s", sp, i, part(g, i), part(w, i))
		}
	}
}

func part(lines []string, i int) string {
	return strings.Join(lines[min(i, len(lines)):min(i+3, len(lines))], "\n     ")
}
