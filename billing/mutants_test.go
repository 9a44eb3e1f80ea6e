package billing_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mete/billing"
	"mete/metering"
)

// prepared is a marketplace with January and February closed and issued: sales,
// refunds, usage, leads, a late sale, an adjustment, reserve kept and released.
func prepared(t *testing.T) *world {
	t.Helper()
	w := testWorld(t)
	deliverJanuary(t, w)
	w.closeMonth(t, jan)
	w.issueMonth(t, jan)
	deliverFebruary(t, w)
	w.closeMonth(t, feb)
	w.issueMonth(t, feb)
	receipt := billing.Receipt{Processor: "stripe", Settlement: "po_1", SettledOn: feb.Last(), Gross: usd("103.00"), Fee: usd("3.00"), Net: usd("100.00"), Rail: "manual"}
	if _, err := w.closer.ImportReceipts(t.Context(), []billing.Receipt{receipt}); err != nil {
		t.Fatal(err)
	}
	return w
}

func deliverJanuary(t tester, w *world) {
	a := taxed(sale("s1", "scheduler", "lakeside", noon(jan, 5), "1400.00"))
	b := sale("s2", "insights", "harbor", noon(jan, 6), "700.00")
	w.deliver(t, 0, a, b, calls("c1", "scheduler", "lakeside", noon(jan, 7), 250))
	w.deliver(t, 1, sale("s3", "claims", "mesa", noon(jan, 8), "500.00"), sale("s4", "notes", "mesa", noon(jan, 9), "199.99"), a)
	w.deliver(t, 2, lead(metering.LeadQualified, "l1", "CEDAR-1", "mesa", noon(jan, 2)), lead(metering.LeadConverted, "l1", "CEDAR-1", "mesa", noon(jan, 4)))
}

func deliverFebruary(t tester, w *world) {
	a := sale("s1", "scheduler", "lakeside", noon(jan, 5), "1400.00")
	w.deliver(t, 0, sale("s5", "scheduler", "harbor", noon(jan, 20), "300.00"), refund("r1", a, noon(feb, 3), "140.00"))
	w.deliver(t, 1, sale("s6", "insights", "harbor", noon(feb, 6), "250.00"), calls("c2", "notes", "mesa", noon(feb, 7), 400))
	adj, err := w.closer.ProposeAdjustment(context.Background(), billing.Adjustment{Partner: "quill", Amount: usd("12.50"), Account: "goodwill", Corrects: jan, Reason: "outage of 14 January", ProposedBy: "m.ortiz", ProposedAt: closedAt(jan)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.closer.ApproveAdjustment(context.Background(), adj.ID, "a.kim", closedAt(jan)); err != nil {
		t.Fatal(err)
	}
}

// free takes the guards of the books off.
var free = []string{
	`DROP TRIGGER IF EXISTS entries_no_update`, `DROP TRIGGER IF EXISTS entries_no_delete`, `DROP TRIGGER IF EXISTS entries_no_replace`,
	`DROP TRIGGER IF EXISTS postings_no_update`, `DROP TRIGGER IF EXISTS postings_no_delete`, `DROP TRIGGER IF EXISTS postings_before_entry`,
	`DROP TRIGGER IF EXISTS entries_balance`,
}

// unguarded rebuilds a table without its constraints, so that rows can be doubled.
func unguarded(table string) []string {
	return []string{`CREATE TABLE plain AS SELECT * FROM ` + table, `DROP TABLE ` + table, `ALTER TABLE plain RENAME TO ` + table}
}

const (
	northwindFeb  = `'meridian-us.northwind.usd.2026-02'`
	cedarpointFeb = `'meridian-us.cedarpoint.usd.2026-02'`
)

// TestMutants alters what a close made, one fact at a time, and wants it named.
func TestMutants(t *testing.T) {
	base := prepared(t)
	if f := base.findings(); len(f) > 0 {
		t.Fatalf("the checkers find something where nothing is wrong: %v", f)
	}
	for _, m := range []struct {
		name, file string
		sql        []string
		rehash     bool // give the altered manifest its digest
	}{
		{"event row deleted", eventsFile, []string{`DELETE FROM events WHERE event_id = 's1'`}, false},
		{"event amount altered", eventsFile, []string{`UPDATE events SET amount_minor = amount_minor + 1 WHERE event_id = 's2'`}, false},
		{"event moved to another month", eventsFile, []string{`UPDATE events SET occurred_us = occurred_us + 40 * 86400000000 WHERE event_id = 's3'`}, false},
		{"event row doubled", eventsFile, []string{`INSERT INTO events SELECT place + 7, event_key, content_hash, cell, source, event_id, occurred_us, accepted_us, time_absent, slow, latency_ms, bytes, quantity_whole, quantity_nano, amount_minor, tax_minor, fee_minor, deal, lead, refers_to, reference, region, paid_months FROM events WHERE event_id = 's1'`}, false},
		{"event given to another app", eventsFile, []string{`UPDATE events SET cell = (SELECT cell FROM events WHERE event_id = 's4') WHERE event_id = 's3'`}, false},
		{"key row deleted", eventsFile, []string{`DELETE FROM keys_recent WHERE place = (SELECT place FROM events WHERE event_id = 's1')`}, false},
		{"message row deleted", eventsFile, []string{`DELETE FROM messages WHERE id = 2`}, false},
		{"message tally altered", eventsFile, []string{`UPDATE messages SET announced = announced + 1, duplicate = duplicate + 1 WHERE id = 1`}, false},
		{"position moved back", eventsFile, []string{`UPDATE positions SET sequence = sequence - 1 WHERE partition = 0`}, false},

		{"statement line deleted", relationalFile, []string{`UPDATE statements SET content = json_remove(content, '$.lines[0]') WHERE id = ` + northwindFeb}, false},
		{"statement line amount altered", relationalFile, []string{`UPDATE statements SET content = json_set(content, '$.lines[0].amount.amount', '1.00') WHERE id = ` + northwindFeb}, false},
		{"statement line text altered", relationalFile, []string{`UPDATE statements SET content = json_set(content, '$.lines[0].text', 'Other') WHERE id = ` + northwindFeb}, false},
		{"statement earned column altered", relationalFile, []string{`UPDATE statements SET earned_minor = earned_minor + 1 WHERE id = ` + northwindFeb}, false},
		{"statement digest altered", relationalFile, []string{`UPDATE statements SET digest = 'a' || substr(digest, 2) WHERE id = ` + northwindFeb}, false},
		{"statement row deleted", relationalFile, []string{`DELETE FROM statements WHERE id = ` + northwindFeb}, false},
		{"statement doubled under another id", relationalFile, append(unguarded("statements"), `INSERT INTO statements SELECT id || '-2', month, partner, currency, earned_minor, content, digest FROM statements WHERE id = `+northwindFeb), false},
		{"statement doubled under its id", relationalFile, append(unguarded("statements"), `INSERT INTO statements SELECT * FROM statements WHERE id = `+northwindFeb), false},
		{"statement moved to another partner", relationalFile, []string{`UPDATE statements SET partner = 'nobody' WHERE id = ` + northwindFeb}, false},

		{"entry deleted", relationalFile, append(free, `DELETE FROM postings WHERE entry_seq = 1`, `DELETE FROM entries WHERE seq = 1`), false},
		{"last entry deleted", relationalFile, append(free, `DELETE FROM postings WHERE entry_seq = (SELECT max(seq) FROM entries)`, `DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)`), false},
		{"posting deleted", relationalFile, append(free, `DELETE FROM postings WHERE entry_seq = 1 AND idx = 0`), false},
		{"posting altered", relationalFile, append(free, `UPDATE postings SET amount_minor = amount_minor + 1 WHERE entry_seq = 1 AND idx = 0`), false},
		{"posting doubled", relationalFile, append(free, `INSERT INTO postings SELECT entry_seq, idx + 20, account, currency, amount_minor FROM postings WHERE entry_seq = 1 AND idx = 0`), false},
		{"posting moved to another account", relationalFile, append(free, `UPDATE postings SET account = 'liabilities:payable:nobody:pending' WHERE entry_seq = 1 AND account LIKE 'liabilities:payable%'`), false},
		{"entry memo altered", relationalFile, append(free, `UPDATE entries SET memo = 'x' WHERE seq = 1`), false},
		{"balance altered", relationalFile, []string{`UPDATE balances SET balance_minor = balance_minor + 1 WHERE account LIKE 'income:share'`}, false},

		{"manifest deleted", relationalFile, []string{`DELETE FROM closes WHERE month = '2026-01'`}, false},
		{"last manifest deleted", relationalFile, []string{`DELETE FROM closes WHERE month = '2026-02'`}, false},
		{"manifest altered", relationalFile, []string{`UPDATE closes SET manifest = replace(manifest, '"closed_by":"m.ortiz"', '"closed_by":"x"') WHERE month = '2026-02'`}, false},
		{"manifest cutoff altered, digest made to fit", relationalFile, []string{`UPDATE closes SET manifest = json_set(manifest, '$.cutoff[0].sequence', 1) WHERE month = '2026-02'`}, true},
		{"manifest catalogue altered, digest made to fit", relationalFile, []string{`UPDATE closes SET manifest = json_remove(manifest, '$.catalogue[0]') WHERE month = '2026-02'`}, true},
		{"manifest adjustment altered, digest made to fit", relationalFile, []string{`UPDATE closes SET manifest = json_remove(manifest, '$.adjustments') WHERE month = '2026-02'`}, true},

		{"scorecard altered", relationalFile, []string{`UPDATE scorecards SET card = json_set(card, '$.calls', 9999) WHERE month = '2026-02' AND app = 'notes'`}, false},
		{"scorecard deleted", relationalFile, []string{`DELETE FROM scorecards WHERE month = '2026-02' AND app = 'notes'`}, false},
		{"scorecard doubled for another app", relationalFile, []string{`INSERT INTO scorecards SELECT month, 'other', card FROM scorecards WHERE month = '2026-02' AND app = 'notes'`}, false},

		{"priced line altered", relationalFile, []string{`UPDATE priced_groups SET result = json_set(result, '$.lines[0].amount.amount', '1.00') WHERE close_month = '2026-02' AND month = '2026-02' AND group_id LIKE 'northwind%'`}, false},
		{"priced total altered", relationalFile, []string{`UPDATE priced_groups SET result = json_set(result, '$.after[0].value', '1') WHERE close_month = '2026-02' AND month = '2026-02' AND group_id LIKE 'northwind%'`}, false},
		{"priced count altered", relationalFile, []string{`UPDATE priced_groups SET result = json_set(result, '$.counted[0].events', 77) WHERE close_month = '2026-02' AND month = '2026-02' AND group_id LIKE 'northwind%'`}, false},
		{"priced input digest altered", relationalFile, []string{`UPDATE priced_groups SET input_digest = 'x' WHERE close_month = '2026-02' AND month = '2026-02' AND group_id LIKE 'northwind%'`}, false},
		{"priced group deleted", relationalFile, []string{`DELETE FROM priced_groups WHERE close_month = '2026-02' AND month = '2026-02' AND group_id LIKE 'quill%'`}, false},
		{"priced again deleted", relationalFile, []string{`DELETE FROM priced_groups WHERE close_month = '2026-02' AND month = '2026-01'`}, false},
		{"priced group doubled under another id", relationalFile, []string{`INSERT INTO priced_groups SELECT close_month, month, 'other', input_digest, result, barred FROM priced_groups WHERE close_month = '2026-02' AND group_id LIKE 'quill%'`}, false},
		{"barred line invented", relationalFile, []string{`UPDATE priced_groups SET barred = '[{}]' WHERE close_month = '2026-02' AND month = '2026-02' AND group_id LIKE 'quill%'`}, false},

		{"attribution altered", relationalFile, []string{`UPDATE attributions SET body = json_set(body, '$.fee', '0.01') WHERE sale = 's6'`}, false},
		{"attribution deleted", relationalFile, []string{`DELETE FROM attributions WHERE sale = 's6'`}, false},
		{"attribution doubled for another sale", relationalFile, []string{`INSERT INTO attributions SELECT close_month, month, source, 'x', contract, rule, replace(body, '"s6"', '"x"') FROM attributions WHERE sale = 's6'`}, false},

		{"reserve layer amount altered", relationalFile, []string{`UPDATE reserve_layers SET amount_minor = amount_minor + 1 WHERE month = '2026-02'`}, false},
		{"reserve layer date altered", relationalFile, []string{`UPDATE reserve_layers SET release_on = '2026-03-02' WHERE month = '2026-02'`}, false},
		{"reserve layer deleted", relationalFile, []string{`DELETE FROM reserve_layers WHERE statement_id = ` + cedarpointFeb}, false},
		{"reserve release deleted", relationalFile, []string{`DELETE FROM reserve_releases`}, false},
		{"reserve release invented", relationalFile, []string{`INSERT INTO reserve_releases VALUES (` + cedarpointFeb + `, ` + cedarpointFeb + `, '2026-02')`}, false},

		{"issue row deleted", relationalFile, []string{`DELETE FROM statement_issues WHERE statement_id = ` + northwindFeb}, false},
		{"issue day altered", relationalFile, []string{`UPDATE statement_issues SET issued_on = '2026-03-11' WHERE statement_id = ` + northwindFeb}, false},
		{"issued by the closer", relationalFile, []string{`UPDATE statement_issues SET issued_by = 'm.ortiz' WHERE statement_id = ` + northwindFeb}, false},

		{"adjustment amount altered", relationalFile, []string{`UPDATE adjustments SET content = json_set(content, '$.amount.amount', '99.00')`}, false},
		{"adjustment deleted", relationalFile, []string{`DELETE FROM adjustments`}, false},
		{"adjustment carry deleted", relationalFile, []string{`DELETE FROM adjustment_carries`}, false},
		{"adjustment approved by its proposer", relationalFile, []string{`UPDATE adjustment_approvals SET approved_by = 'm.ortiz'`}, false}, {"receipt altered", relationalFile, []string{`UPDATE receipts SET content = replace(content, '"103.00"', '"101.00"')`}, false},
		{"receipt deleted", relationalFile, []string{`DELETE FROM receipts`}, false},

		{"month put back to closing", relationalFile, []string{`UPDATE months SET state = 'closing', closed_seq = NULL, closed_at = '' WHERE month = '2026-02'`}, false},
	} {
		t.Run(m.name, func(t *testing.T) {
			w := base.copy(t)
			defer w.remove()
			if n := w.exec(t, m.file, m.sql...); n == 0 {
				t.Fatal("the mutant changed no row")
			}
			if m.rehash {
				w.rehash(t)
			}
			found := w.findings()
			if len(found) == 0 {
				t.Fatalf("no checker names it")
			}
			for _, k := range slices.Sorted(maps.Keys(found)) {
				t.Logf("%-45s %-14s %s", m.name, k, clip(found[k][0], 150))
			}
		})
	}
}

func clip(s string, n int) string {
	s = strings.ReplaceAll(s, "\n", " ")
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// rehash gives every kept manifest the digest of what it says now.
func (w *world) rehash(t *testing.T) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(w.dir, relationalFile))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, m := range []string{"2026-01", "2026-02"} {
		var body string
		if err := db.QueryRow(`SELECT manifest FROM closes WHERE month = $1`, m).Scan(&body); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(body))
		if _, err := db.Exec(`UPDATE closes SET digest = $1 WHERE month = $2`, hex.EncodeToString(sum[:]), m); err != nil {
			t.Fatal(err)
		}
	}
}
