package billing_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"mete/billing"
	"mete/money"
)

var update = flag.Bool("update", false, "write testdata anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; go test ./billing -run %s -update writes it anew\n%s", path, t.Name(), got)
	}
}

// pages are the statements of January and February, and March with what came late.
func pages(t *testing.T) []billing.StatementRecord {
	t.Helper()
	w := prepared(t)
	w.deliver(t, 1, sale("late", "scheduler", "harbor", noon(feb, 20), "1850.00"))
	w.closeMonth(t, mar)
	var rs []billing.StatementRecord
	for m := jan; m != apr; m = m.Add(1) {
		month, err := w.db.Statements(t.Context(), m, "")
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, month...)
	}
	return rs
}

const width = 96

// TestPages renders every statement: none is wider than a page, every figure adds up
// on the paper alone, and three of them are as they were.
func TestPages(t *testing.T) {
	for _, r := range pages(t) {
		t.Run(string(r.ID), func(t *testing.T) {
			var page bytes.Buffer
			if err := r.WriteText(&page); err != nil {
				t.Fatal(err)
			}
			for i, line := range strings.Split(page.String(), "\n") {
				if n := utf8.RuneCountInString(line); n > width {
					t.Errorf("row %d has %d columns, more than %d: %s", i+1, n, width, line)
				}
				if strings.TrimRight(line, " ") != line {
					t.Errorf("row %d ends in blanks: %q", i+1, line)
				}
			}
			addUp(t, r, page.String())
			switch r.ID {
			case "meridian-us.northwind.usd.2026-01", "meridian-us.northwind.usd.2026-03", "meridian-us.quill.usd.2026-02":
				golden(t, string(r.ID)+".txt", page.Bytes())
			}
		})
	}
}

var figure = regexp.MustCompile(`-?[0-9][0-9,]*\.[0-9]{2}`)

// figures are the amounts of a row in minor units.
func figures(t *testing.T, row string) []int64 {
	t.Helper()
	var out []int64
	for _, f := range figure.FindAllString(row, -1) {
		n, err := strconv.ParseInt(strings.NewReplacer(",", "", ".", "").Replace(f), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

var numbered = regexp.MustCompile(`^ [0-9]+ `)

// addUp reads the page as a partner with a calculator would.
func addUp(t *testing.T, r billing.StatementRecord, page string) {
	t.Helper()
	lines, balance, _ := strings.Cut(page, "EARNED IN")
	earnedRow, rest, _ := strings.Cut(balance, "\n")
	var sum, lineRows, sales int64
	section := ""
	open := false // a numbered line whose amount stands on a later row
	for _, row := range strings.Split(lines, "\n") {
		if len(row) > 3 && row[0] == ' ' && row[1] >= 'A' && row[1] <= 'D' && row[2] == ' ' {
			section = row[1:2]
			continue
		}
		open = open || numbered.MatchString(row)
		fs := figures(t, row)
		if !open || len(fs) == 0 || section == "" || utf8.RuneCountInString(row) != width-1 {
			if strings.Contains(row, "Net sales") && section == "A" && fs[len(fs)-1] != sales {
				t.Errorf("net sales of %d, the rows above add up to %d", fs[len(fs)-1], sales)
			}
			continue
		}
		open = false
		sum += fs[len(fs)-1]
		lineRows++
		if section == "A" {
			sales += fs[len(fs)-1]
		}
	}
	if int(lineRows) != len(r.Lines) {
		t.Errorf("%d rows with an amount, the statement has %d lines\n%s", lineRows, len(r.Lines), page)
	}
	if e := figures(t, earnedRow); len(e) != 1 || e[0] != sum {
		t.Errorf("EARNED says %v, the rows add up to %d", e, sum)
	}
	_, block, _ := strings.Cut(rest, "Balance")
	block, _, _ = strings.Cut(block, "\n\n")
	var payable, reserve int64
	for _, row := range strings.Split(block, "\n")[1:] {
		cells := []rune(row + strings.Repeat(" ", width))
		p, s := figures(t, string(cells[55:71])), figures(t, string(cells[71:]))
		closing := strings.Contains(row, "our ledger")
		for _, side := range []struct {
			got []int64
			sum *int64
		}{{p, &payable}, {s, &reserve}} {
			switch {
			case len(side.got) == 0:
			case closing && side.got[0] != *side.sum:
				t.Errorf("closing %d, the rows above add up to %d: %s", side.got[0], *side.sum, row)
			case !closing:
				*side.sum += side.got[0]
			}
		}
	}
	if payable != r.Closing().Minor || reserve != r.ClosingReserve().Minor {
		t.Errorf("the balance adds up to %d and %d, the statement closes at %s and %s", payable, reserve, r.Closing(), r.ClosingReserve())
	}
}

// TestExports: the CSV holds every line with its amount, the JSON reads back to the
// same digest.
func TestExports(t *testing.T) {
	for _, r := range pages(t) {
		var out bytes.Buffer
		if err := r.WriteCSV(&out); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(&out).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != len(r.Lines)+1 {
			t.Fatalf("%s: %d rows of CSV for %d lines", r.ID, len(rows)-1, len(r.Lines))
		}
		column := map[string]int{}
		for i, name := range rows[0] {
			column[name] = i
		}
		sum := money.New(0, r.Currency)
		for i, row := range rows[1:] {
			a, err := money.Parse(row[column["amount"]], money.Currency(row[column["currency"]]))
			if err != nil {
				t.Fatal(err)
			}
			if sum, err = sum.Add(a); err != nil {
				t.Fatal(err)
			}
			l := r.Lines[i]
			if a != l.Amount || row[column["text"]] != l.Text || row[column["rule"]] != l.Rule || row[column["part"]] != l.Part || row[column["events"]] != strconv.FormatInt(l.Count, 10) {
				t.Errorf("%s line %d: %v", r.ID, l.Number, row)
			}
		}
		if sum != r.Earned {
			t.Errorf("%s: the CSV adds up to %s, earned is %s", r.ID, sum, r.Earned)
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back billing.StatementRecord
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if back.Statement.Digest() != r.Digest || mustJSON(back) != string(b) {
			t.Errorf("%s: read back from JSON it has the digest %s, want %s", r.ID, back.Statement.Digest(), r.Digest)
		}
	}
}
