package billing_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"mete/billing"
	"mete/metering"
	"mete/partner"
	"mete/period"
)

// fromSandbox is the event as a sandbox sends it.
func fromSandbox(e metering.Event) metering.Event {
	e.ID, e.Data.Environment = "test-"+e.ID, metering.Sandbox
	if e.Data.RefersTo != "" {
		e.Data.RefersTo = "test-" + e.Data.RefersTo
	}
	return e
}

// sandboxed is what a partner tries out in February: sales above the free first
// 1,000.00, one of them given back, calls, a lead, an event no rule is about, one in
// another currency.
func sandboxed() []metering.Event {
	a := taxed(sale("a", "scheduler", "lakeside", noon(feb, 3), "1400.00"))
	other := sale("c", "scheduler", "lakeside", noon(feb, 4), "77.00")
	other.Data.Class = metering.ValueAdded
	foreign := sale("d", "scheduler", "lakeside", noon(feb, 4), "500.00")
	foreign.Data.Currency = "GBP"
	incident := metering.Event{ID: "down", Source: "programme", Type: metering.IncidentOpened, Time: noon(feb, 9), Data: metering.Data{App: "scheduler"}}
	var out []metering.Event
	for _, e := range []metering.Event{
		a, refund("b", a, noon(feb, 5), "700.00"), other, foreign, incident,
		calls("e", "scheduler", "lakeside", noon(feb, 6), 250),
		sale("f", "notes", "mesa", noon(feb, 7), "200.00"),
		lead(metering.LeadQualified, "l9", "CEDAR-1", "mesa", noon(feb, 2)), lead(metering.LeadConverted, "l9", "CEDAR-1", "mesa", noon(feb, 8)),
	} {
		out = append(out, fromSandbox(e))
	}
	return out
}

// contents is a digest of every row of both stores.
func (w *world) contents(t *testing.T) string {
	t.Helper()
	sum := sha256.New()
	for _, file := range []string{relationalFile, eventsFile} {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(w.dir, file)+"?mode=ro")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		var tables []string
		rows, err := db.Query(`SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name`)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				t.Fatal(err)
			}
			tables = append(tables, name)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			var all sql.NullString
			columns, err := db.Query(`SELECT name FROM pragma_table_info(?)`, table)
			if err != nil {
				t.Fatal(err)
			}
			var quoted []string
			for columns.Next() {
				var c string
				if err := columns.Scan(&c); err != nil {
					t.Fatal(err)
				}
				quoted = append(quoted, `quote("`+c+`")`)
			}
			if err := columns.Err(); err != nil {
				t.Fatal(err)
			}
			row := strings.Join(quoted, ` || ',' || `)
			if err := db.QueryRow(`SELECT group_concat(r, ';') FROM (SELECT ` + row + ` AS r FROM "` + table + `" ORDER BY 1)`).Scan(&all); err != nil {
				t.Fatal(table, err)
			}
			fmt.Fprintln(sum, file, table, all.String)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func (w *world) shadows(t *testing.T, m period.Month, only partner.ID) []billing.Shadow {
	t.Helper()
	ss, err := w.closer.Shadow(t.Context(), m, only)
	if err != nil {
		t.Fatal(err)
	}
	return ss
}

// TestShadow: the sandbox events of a month come to what they would as real ones in a
// first month, whether the month is open or closed and whatever was really sold, and
// reading that writes nothing.
func TestShadow(t *testing.T) {
	w := testWorld(t)
	deliverJanuary(t, w)
	w.closeMonth(t, jan)
	w.deliver(t, 2, sandboxed()...)
	text := func() string {
		var b bytes.Buffer
		for _, s := range w.shadows(t, feb, "") {
			if err := s.WriteText(&b); err != nil {
				t.Fatal(err)
			}
			b.WriteString("\n")
		}
		return b.String()
	}
	before := w.contents(t)
	open := text()
	if after := w.contents(t); after != before {
		t.Error("reading a shadow changed the stores")
	}
	golden(t, "shadow.2026-02.txt", []byte(open))
	for i, line := range strings.Split(open, "\n") {
		if n := utf8.RuneCountInString(line); n > width || strings.TrimRight(line, " ") != line {
			t.Errorf("row %d has %d columns or ends in blanks: %q", i+1, n, line)
		}
	}
	deliverFebruary(t, w) // more is really sold, and January's sales get company
	w.closeMonth(t, feb)
	w.issueMonth(t, feb)
	before = w.contents(t)
	closed := text()
	if after := w.contents(t); after != before {
		t.Error("reading the shadow of a closed month changed the stores")
	}
	if want := strings.ReplaceAll(open, " February is open: more may come.\n", ""); closed != want {
		t.Errorf("the shadow of the closed month is\n%s\nwant\n%s", closed, want)
	}
	if ss := w.shadows(t, feb, "quill"); len(ss) != 1 || ss[0].Partner != "quill" || !ss[0].Shadow || ss[0].Total != usd("180.05") {
		t.Errorf("quill's alone: %s", mustJSON(ss))
	}
	if ss := w.shadows(t, jan, ""); len(ss) != 0 {
		t.Errorf("a month without a sandbox event: %s", mustJSON(ss))
	}
	w.checkAll(t)
}

// TestShadowIsPricedAsRealEventsAre: in an empty marketplace, a month of sandbox events
// and the statements of a month of the same events as real ones have the same lines,
// but for those that no event causes.
func TestShadowIsPricedAsRealEventsAre(t *testing.T) {
	tried, real := testWorld(t), testWorld(t)
	tried.deliver(t, 0, sandboxed()...)
	for _, e := range sandboxed() {
		e.Data.Environment = ""
		real.deliver(t, 0, e)
	}
	for _, w := range []*world{tried, real} {
		w.closeMonth(t, jan)
		w.closeMonth(t, feb)
	}
	want := map[string]string{}
	rs, err := real.db.Statements(t.Context(), feb, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		for _, l := range r.Lines {
			if l.Count > 0 || l.Part == "share" || l.Part == "quality" {
				l.Number, l.Processor = 0, ""
				want[fmt.Sprintf("%+v", l.LineKey)] = mustJSON(l)
			}
		}
	}
	n := 0
	for _, s := range tried.shadows(t, feb, "") {
		for _, l := range s.Lines {
			l.Number = 0
			if k := fmt.Sprintf("%+v", l.LineKey); want[k] != mustJSON(l) {
				t.Errorf("%s\n in the shadow %s\n as real       %s", k, mustJSON(l), want[k])
			}
			n++
		}
	}
	if n != len(want) || n < 7 {
		t.Errorf("%d lines in shadows, %d on statements", n, len(want))
	}
}

// TestSandboxMovesNothing: statements, books and scorecards are the same with and
// without a sandbox, in time and late; only the count of sandbox events differs.
func TestSandboxMovesNothing(t *testing.T) {
	with, without := testWorld(t), testWorld(t)
	for _, w := range []*world{with, without} {
		if err := agree(context.Background(), w.catalogue, laterTerms["northwind from mid-February"], noon(jan, 1).AddDate(-1, 0, 0)); err != nil {
			t.Fatal(err)
		}
		deliverJanuary(t, w)
		w.deliver(t, 0, sale("g", "scheduler", "harbor", noon(feb, 20), "900.00"))
		if w == with {
			w.deliver(t, 2, sandboxed()...)
		}
		w.closeMonth(t, jan)
		w.closeMonth(t, feb)
		if w == with { // the same again for closed months
			for _, e := range sandboxed() {
				e.ID, e.Time = e.ID+"-late", e.Time.AddDate(0, -1, 0)
				w.deliver(t, 1, e)
			}
		}
		w.closeMonth(t, mar)
		w.checkAll(t)
	}
	content := func(w *world) (out []string, sandbox int64) {
		rs, err := w.db.Statements(t.Context(), period.Month{}, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			sandbox += r.Evidence.Sandbox
			r.Evidence.Sandbox = 0
			b, err := json.Marshal(r.Statement)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(b))
		}
		return out, sandbox
	}
	a, n := content(with)
	b, none := content(without)
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			t.Fatalf("a sandbox changes a statement: %d and %d statements\n%s\nwithout it\n%s", len(a), len(b), a[min(i, len(a)-1)], b[min(i, len(b)-1)])
		}
	}
	if n == 0 || none != 0 {
		t.Errorf("the pages count %d sandbox events, and %d where there are none", n, none)
	}
	if d := differ(with.balances(t), without.balances(t)); d != nil {
		t.Errorf("a sandbox changes the books: %v", d)
	}
	r, err := with.reconciler().Reconcile(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(r.Became, func(b billing.Became) bool { return b.State == "sandbox" })
	if i < 0 || r.Became[i].Events != 14 { // 7 of February, 7 of January; leads name no app
		t.Errorf("reconcile says %+v", r.Became)
	}
}

// TestSandboxMadeReal: rows that stop being a sandbox's after the close are found.
func TestSandboxMadeReal(t *testing.T) {
	w := testWorld(t)
	w.deliver(t, 0, sandboxed()...)
	w.closeMonth(t, jan)
	w.closeMonth(t, feb)
	w.checkAll(t)
	if n := w.exec(t, eventsFile, `UPDATE cells SET environment = 'production' WHERE environment = 'sandbox'`); n == 0 {
		t.Fatal("no cell of a sandbox")
	}
	found := w.findings()
	if !slices.ContainsFunc(found["reconcile"], func(f string) bool { return strings.HasPrefix(f, "sandbox events of these: ") }) {
		t.Errorf("reconcile finds %q", found["reconcile"])
	}
	if len(found["verify"]) == 0 {
		t.Error("verify finds nothing")
	}
}
