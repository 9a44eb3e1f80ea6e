package arrows

import (
	"strings"
	"testing"

	"mete/internal/testdata"
)

func TestOrder(t *testing.T) {
	files, err := Read(testdata.ModuleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"internal/arrows/arrows.go", "internal/testdata/testdata.go", "money/money.go"} {
		if len(files[name]) == 0 {
			t.Fatalf("read %d files, %s not among them", len(files), name)
		}
	}
	for _, p := range Check(files, Table) {
		t.Error(p)
	}
}

// The table itself: each row once, every arrow with a reason, to a row that
// stands above it, and to a driver from nowhere but cmd and tests.
func TestTable(t *testing.T) {
	above := map[string]Row{}
	rows := map[string]bool{}
	for _, r := range Table {
		if rows[r.Package] {
			t.Errorf("%s has two rows", r.Package)
		}
		rows[r.Package] = true
	}
	for _, r := range Table {
		for _, a := range r.May {
			to, ok := above[a.To]
			if !ok {
				t.Errorf("%s → %s does not point upstream", r.Package, a.To)
			}
			if to.Driver {
				t.Errorf("%s → %s: only cmd and tests name drivers", r.Package, a.To)
			}
			if a.Why == "" {
				t.Errorf("%s → %s has no reason", r.Package, a.To)
			}
		}
		for _, a := range r.Tests {
			if !rows[a.To] || a.Why == "" {
				t.Errorf("tests of %s → %s: not in the table, or without a reason", r.Package, a.To)
			}
		}
		above[r.Package] = r
	}
	if pricing := above["pricing"]; !pricing.Pure {
		t.Error("pricing is not marked pure")
	}
}

const doc = "// Package p is documented.\n"

// Each case is a file that the checker must refuse, or must let pass.
func TestChecker(t *testing.T) {
	for _, c := range []struct {
		name, file, text string
		want             string // part of the one problem; empty: none
	}{
		{"upstream", "billing/close.go", doc + `package billing; import "mete/pricing"`, ""},
		{"downstream", "pricing/price.go", doc + `package pricing; import "mete/billing"`, "no arrow pricing → billing"},
		{"a leaf", "money/money.go", doc + `package money; import "mete/period"`, "it may import nothing of ours"},
		{"driver", "billing/close.go", doc + `package billing; import "mete/metering/sqlite"`, "billing imports the driver metering/sqlite"},
		{"driver in a test", "billing/close_test.go", `package billing_test; import "mete/metering/sqlite"`, ""},
		{"driver in a test without a reason", "ledger/a_test.go", `package ledger_test; import "mete/store"`, "ledger imports the driver store"},
		{"driver in cmd", "cmd/mete/serve.go", doc + `package main; import "mete/metering/sqlite"`, ""},
		{"web and store", "web/page.go", doc + `package web; import "mete/store"`, "web imports the driver store"},
		{"store and web", "store/page.go", doc + `package store; import "mete/web"`, "store imports the driver web"},
		{"below cmd/mete", "cmd/mete/serve/serve.go", doc + `package serve; import "mete/store"`, ""},
		{"demo", "cmd/mete/demo/demo.go", doc + `package demo; import "mete/store"`, "cmd/mete/demo imports the driver store"},
		{"unknown package", "utils/x.go", doc + `package utils`, "utils is not in the table"},
		{"unknown internal package", "internal/utils/x.go", doc + `package utils`, "internal/utils is not in the table"},
		{"unknown driver", "metering/kafka/x.go", doc + `package kafka`, "metering/kafka is not in the table"},
		{"package at the root", "main.go", doc + `package main`, "package . is not in the table"},
		{"unknown import", "billing/x.go", doc + `package billing; import "mete/utils"`, "no arrow billing → utils"},
		{"module root", "billing/x.go", doc + `package billing; import "mete"`, "no arrow billing → "},
		{"another's mete", "billing/x.go", doc + `package billing; import "example.com/mete/web"`, ""},
		{"suite", "ledger/ledgertest/t.go", doc + `package ledgertest; import ("testing"; "mete/ledger"; "mete/money")`, ""},
		{"suite downstream", "ledger/ledgertest/t.go", doc + `package ledgertest; import "mete/billing"`, "no arrow ledger/ledgertest → billing"},
		{"suite in a test", "store/s_test.go", `package store_test; import "mete/ledger/ledgertest"`, ""},
		{"suite in code", "store/s.go", doc + `package store; import "mete/ledger/ledgertest"`, "is for tests"},
		{"suite in cmd", "cmd/mete/s.go", doc + `package main; import "mete/ledger/ledgertest"`, "is for tests"},
		{"own external test", "money/a_test.go", `package money_test; import "mete/money"`, ""},
		{"test helper", "money/a_test.go", `package money_test; import "mete/internal/pgtest"`, ""},
		{"test helper in code", "store/a.go", doc + `package store; import "mete/internal/pgtest"`, "no arrow store → internal/pgtest"},

		{"pure: context", "pricing/p.go", doc + `package pricing; import "context"`, "is pure"},
		{"pure: os", "pricing/p.go", doc + `package pricing; import "os/exec"`, "is pure"},
		{"pure: net", "pricing/p.go", doc + `package pricing; import "net/http"`, "is pure"},
		{"pure: log", "pricing/p.go", doc + `package pricing; import "log/slog"`, "is pure"},
		{"pure: sql", "pricing/p.go", doc + `package pricing; import "database/sql"`, "is pure"},
		{"pure: chance", "pricing/p.go", doc + `package pricing; import "math/rand/v2"`, "is pure"},
		{"pure: strings", "pricing/p.go", doc + `package pricing; import ("strings"; "time")`, ""},
		{"pure: a test", "pricing/p_test.go", `package pricing; import "os"`, ""},
		{"not pure", "billing/p.go", doc + `package billing; import "context"`, ""},
		{"pure: clock", "pricing/p.go", doc + `package pricing; import "time"; var t = time.Now()`, "reads no clock: time.Now"},
		{"pure: clock as a value", "pricing/p.go", doc + `package pricing; import "time"; var now = time.Now`, "reads no clock"},
		{"pure: goroutine", "pricing/p.go", doc + `package pricing; func f() { go f() }`, "starts no goroutine"},
		{"not pure: goroutine", "billing/p.go", doc + `package billing; func f() { go f() }`, ""},
		{"init", "billing/p.go", doc + `package billing; func init() {}`, "func init"},
		{"a method named init", "billing/p.go", doc + `package billing; type x int; func (x) init() {}`, ""},

		{"account", "billing/p.go", doc + "package billing; const a = `assets:cash:ach`", "account name"},
		{"account prefix", "reports/p.go", doc + `package reports; const a = "income:"`, "account name"},
		{"account in a message", "web/p.go", doc + `package web; const a = "see liabilities:payable"`, "account name"},
		{"prose", "web/p.go", doc + `package web; const a = "income: what we earn"`, ""},
		{"account in the chart", "ledger/chart.go", doc + `package ledger; const a = "assets:cash"`, ""},
		{"account beside the chart", "ledger/entry.go", doc + `package ledger; const a = "assets:cash"`, "account name"},
		{"account in a test", "billing/p_test.go", `package billing; const a = "assets:cash"`, ""},
		{"account in a suite", "ledger/ledgertest/t.go", doc + `package ledgertest; const a = "assets:cash"`, ""},

		{"no package comment", "billing/p.go", "package billing", "no package comment"},
		{"package comment only in a test", "billing/p_test.go", doc + "package billing", ""},
		{"no Go", "billing/p.go", "packge billing", "expected 'package'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Check(Files{c.file: []byte(c.text)}, Table)
			switch {
			case c.want == "" && len(got) > 0:
				t.Errorf("refused: %v", got)
			case c.want != "" && (len(got) != 1 || !strings.Contains(got[0].String(), c.want)):
				t.Errorf("problems %v, want one with %q", got, c.want)
			}
		})
	}
}

// A package is documented by any one of its files.
func TestPackageCommentInOneFile(t *testing.T) {
	files := Files{"billing/a.go": []byte("package billing"), "billing/b.go": []byte(doc + "package billing")}
	if got := Check(files, Table); len(got) > 0 {
		t.Error(got)
	}
}
