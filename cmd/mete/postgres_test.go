//go:build !race

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"mete/internal/pgtest"
)

// TestScriptsOnPostgres is what people type around months and money, with the books in
// PostgreSQL: the same commands must say the same.
func TestScriptsOnPostgres(t *testing.T) {
	p := scripts()
	names := []string{"appeals", "catalogue", "currency", "late", "month", "netterms", "placement", "redact", "sandbox", "sources"}
	books := make(chan string, len(names))
	for _, name := range names {
		p.Files = append(p.Files, filepath.Join("testdata", "script", name+".txt"))
		books <- pgtest.New(t)
	}
	setup := p.Setup
	p.Setup = func(e *testscript.Env) error {
		e.Setenv("METE_POSTGRES_DSN", <-books)
		return setup(e)
	}
	testscript.Run(t, p)
}

// TestMonthInPostgres runs a month to its payout twice, by commands, with the books in
// PostgreSQL and in SQLite: statements, books and payouts must be the same.
func TestMonthInPostgres(t *testing.T) {
	dsn := pgtest.New(t)
	inFile := month(t, "")
	inServer := month(t, dsn)
	if diff := cmp.Diff(inFile, inServer); diff != "" {
		t.Errorf("SQLite and PostgreSQL differ:\n%s", diff)
	}
	for what, text := range inFile {
		if len(text) < 20 {
			t.Errorf("%s is %q", what, text)
		}
	}
	t.Logf("digests of statements:\n%s\ntrial balance:\n%s", inServer["digests"], inServer["trial balance"])
}

// month takes events of September in, closes, issues and pays it, and returns what
// people and other systems get to see.
func month(t *testing.T, dsn string) map[string]string {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir(), now: "2026-10-02T15:00:00Z"}
	if dsn != "" {
		text := fmt.Sprintf("books: {postgres: %q}\n", dsn)
		if err := os.WriteFile(filepath.Join(d.dir, configName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	world, err := filepath.Abs(filepath.Join("testdata", "world"))
	if err != nil {
		t.Fatal(err)
	}
	d.want(exitOK, "apply", "-f", world, "--as", "k.lee")
	d.want(exitOK, "contract", "approve", "northwind-agreement", "--as", "r.shah")
	d.want(exitOK, "contract", "accept", "northwind-agreement", "--by", "signer", "--evidence", "order-form-118", "--as", "k.lee")
	if _, err := os.Stat(filepath.Join(d.dir, booksName)); (err == nil) != (dsn == "") {
		t.Errorf("books in %q: %s in the data folder: %v", dsn, booksName, err)
	}
	var events strings.Builder
	for i := range 40 {
		fmt.Fprintf(&events, `{"specversion":"1.0","id":"inv-%d","source":"billing","type":"sale.paid","time":"2026-09-%02dT10:00:00Z","subject":"lakeside","data":{"app":"northwind-scheduler","class":"marketplace","amount":"%d.37","currency":"USD"}}`+"\n", i, i%28+1, 20+i)
		fmt.Fprintf(&events, `{"specversion":"1.0","id":"c-%d","source":"gateway-east","type":"usage.api","time":"2026-09-%02dT11:00:00Z","subject":"lakeside","data":{"app":"northwind-scheduler","class":"api","operation":"read","status":200,"quantity":%d}}`+"\n", i, i%28+1, i+1)
	}
	file := filepath.Join(folder(t, map[string]string{"september.ndjson": events.String()}), "september.ndjson")
	d.want(exitOK, "ingest", file, "--gateway", "cloudevents")
	d.want(exitOK, "ingest", file, "--gateway", "cloudevents") // duplicates
	checkReconciled(t, d)

	d.now = "2026-10-05T15:00:00Z"
	d.want(exitOK, "close", "2026-09", "--as", "m.ortiz")
	d.want(exitOK, "verify", "2026-09")
	d.now = "2026-10-09T15:00:00Z"
	d.want(exitOK, "statement", "issue", "2026-09", "--as", "a.chen")
	receipts := folder(t, map[string]string{"receipts.csv": "processor,settlement,settled_on,currency,gross,fee,net\nstripe,set-1,2026-10-01,USD,1000.00,29.30,970.70\n"})
	d.want(exitOK, "receipts", "import", filepath.Join(receipts, "receipts.csv"))
	checkReconciled(t, d)

	d.now = "2026-10-18T15:00:00Z"
	d.want(exitOK, "payout", "plan", "2026-10-20", "--as", "m.ortiz")
	var run struct {
		Content string
		Payouts []struct {
			ID     string
			Amount struct{ Amount string }
		}
	}
	d.read(&run, "payout", "show", "2026-10-20")
	if len(run.Payouts) != 1 {
		t.Fatalf("the run: %+v", run)
	}
	d.want(exitOK, "payout", "approve", "2026-10-20", "--content", run.Content[:8], "--as", "a.chen")
	d.now = "2026-10-20T15:00:00Z"
	d.want(exitOK, "payout", "submit", "2026-10-20", "--as", "a.chen")
	d.want(exitOK, "reconcile") // in transit
	bank := fmt.Sprintf("payout,amount,state,bank_date,bank_ref\n%s,%s,paid,2026-10-21,W1\n", run.Payouts[0].ID, run.Payouts[0].Amount.Amount)
	d.want(exitOK, "payout", "settle", filepath.Join(folder(t, map[string]string{"bank.csv": bank}), "bank.csv"), "--as", "m.ortiz")
	d.want(exitOK, "ledger", "verify")
	d.want(exitOK, "verify", "2026-09")
	checkReconciled(t, d)

	var statements []struct{ ID, Digest, State string }
	d.read(&statements, "statement", "list", "--month", "2026-09")
	digests := ""
	for _, s := range statements {
		if len(s.Digest) != 64 || s.State != "issued" {
			t.Errorf("statement %+v", s)
		}
		digests += s.ID + " " + s.Digest + "\n"
	}
	return map[string]string{
		"digests":       digests,
		"statement":     d.want(exitOK, "statement", "show", "meridian-us.northwind.usd.2026-09").out,
		"trial balance": d.want(exitOK, "ledger", "balance").out,
		"journal":       d.want(exitOK, "ledger", "export").out,
		"payouts":       d.want(exitOK, "payout", "list", "--json").out,
		"catalogue":     d.want(exitOK, "contract", "history", "northwind-agreement", "--json").out,
	}
}

// TestNoPostgres: books that cannot be reached are named, their password is not; nothing
// is begun elsewhere instead.
func TestNoPostgres(t *testing.T) {
	d := &desk{t: t, dir: t.TempDir(), now: "2026-10-02T15:00:00Z", dsn: fmt.Sprintf("postgres://mete:hunter2@127.0.0.1:%d/books?connect_timeout=2", freePort(t))}
	a := d.want(exitInternal, "apply", "-f", folder(t, map[string]string{"all.yaml": crashCatalogue}), "--as", "k.lee")
	if !strings.Contains(a.errs, "open store postgres") || !strings.Contains(a.errs, "database=books") || strings.Contains(a.errs, "hunter2") {
		t.Errorf("books that are away: %s", a.errs)
	}
	if _, err := os.Stat(filepath.Join(d.dir, booksName)); err == nil {
		t.Errorf("%s was made instead", booksName)
	}
}
