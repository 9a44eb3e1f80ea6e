package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"mete/payouts"
	"mete/payouts/payoutstest"
)

// payoutTable says how mutants of a table are made.
type payoutTable struct {
	key     []string            // columns that tell rows apart
	name    string              // SQL: what a finding must name, one of several between |
	flips   map[string][]string // SQL: more values of a column, such as others that it may have
	doubles []string            // SQL: what makes a copy of a row another row
}

var (
	anotherRun    = `(SELECT MIN(x.id) FROM saved_payout_runs x WHERE x.id <> run_id)`
	anotherPayout = `(SELECT MIN(x.id) FROM saved_payouts x WHERE x.id <> payout_id)`
	anotherDay    = []string{`'2026-11-19'`, `''`}
	anotherTime   = []string{`'2026-11-18T15:12:00.000001Z'`}
)

// payoutTables are all tables of payouts: one that the database has and this does not
// fails the test.
var payoutTables = map[string]payoutTable{
	"payout_runs": {key: []string{"id"}, name: "id", doubles: []string{`id = id || '.2'`},
		flips: map[string][]string{"state": each("planned", "sent-back", "approved", "submitted", "part-settled", "settled"), "pay_on": anotherDay}},
	"payout_plans": {key: []string{"run_id", "revision"}, name: "run_id", doubles: []string{`revision = revision + 1`, `run_id = run_id || '.2'`},
		flips: map[string][]string{"run_id": {anotherRun}, "planned_at": anotherTime,
			"document": {`replace(document, '"4417"', '"9999"')`, `replace(document, '00.00"', '01.00"')`}}},
	"payout_approvals": {key: []string{"run_id", "revision", "approver"}, name: "run_id",
		doubles: []string{`approver = 'x.other', approved_by = 'x.other'`, `revision = revision + 1`},
		flips:   map[string][]string{"run_id": {anotherRun}, "approved_by": {`'m.ortiz'`, `upper(approved_by)`}, "approver": {`'m.ortiz'`}, "approved_at": anotherTime}},
	"payout_returns": {key: []string{"run_id", "revision"}, name: "run_id", doubles: []string{`revision = revision + 1`},
		flips: map[string][]string{"run_id": {anotherRun}, "sent_at": anotherTime}},
	"payouts": {key: []string{"id"}, name: "id", doubles: []string{`id = id || '9'`},
		flips: map[string][]string{"run_id": {anotherRun}, "partner": {`'partner-0'`}, "currency": {`'EUR'`}, "pay_on": anotherDay,
			"state":    each("planned", "in transit", "settled", "failed", "returned", "cancelled"),
			"document": {`replace(document, '"4417"', '"9999"')`, `replace(document, '00.00"', '01.00"')`}, "replaces": {`NULL`, `'P-2026-11-20-001'`}}},
	"payout_attempts": {key: []string{"payout_id", "number"}, name: "payout_id",
		doubles: []string{`number = 2, key = payout_id || '.2'`, `payout_id = payout_id || '9', key = payout_id || '9.1'`},
		flips:   map[string][]string{"payout_id": {anotherPayout}, "booked_on": anotherDay, "attempted_at": anotherTime}},
	"payout_receipts": {key: []string{"payout_id", "number"}, name: "payout_id", doubles: []string{`number = 2`},
		flips: map[string][]string{"payout_id": {anotherPayout}, "outcome": each("accepted", "paid", "failed", "returned"), "told_on": anotherDay}},
	"payout_confirmations": {key: []string{"payout_id", "outcome"}, name: "payout_id",
		doubles: []string{`outcome = 'paid'`, `outcome = 'failed'`, `outcome = 'returned'`},
		flips: map[string][]string{"payout_id": {anotherPayout}, "outcome": each("paid", "failed", "returned"),
			"bank_on": anotherDay, "booked_on": anotherDay, "imported_at": anotherTime}},
	"payout_holds": {key: []string{"hold_id", "fact"}, name: "hold_id", doubles: []string{`hold_id = hold_id || '-2'`, `fact = 'release'`, `fact = 'place'`},
		flips: map[string][]string{"fact": each("place", "release"), "partner": {`'partner-1'`}, "currency": {`'EUR'`}, "everything": {`1 - everything`},
			"until_on": anotherDay, "done_on": anotherDay, "booked_on": anotherDay, "done_at": anotherTime}},
	"payout_facts": {key: []string{"seq"}, name: `key || '|fact ' || seq || ',|head of payout facts'`, doubles: []string{`seq = seq + 1000`},
		flips: map[string][]string{"run_id": {anotherRun}, "kind": each("state", "run")}},
	"payout_head": {key: []string{"id"}, name: `'head of payout facts'`, doubles: []string{`id = 2`}},
}

func each(values ...string) []string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = "'" + v + "'"
	}
	return quoted
}

// onlyFacts are the changes that nothing but the facts name, and why. Whoever makes one
// of them, and all facts of the run anew to fit, is found by those who hold a copy.
var onlyFacts = map[string]string{
	"payout_runs.state": "of a run whose payouts were all handed over, approved and submitted differ in whether the run is fixed, and nothing else says that",

	"payout_plans.planned_at": "when it was planned is no part of what is approved: the same plan again is the same run",

	"payout_approvals.approved_at":     "when; the fact is that somebody approved this content",
	"payout_approvals.approved_by":     "capital letters; another name is found by the column approver",
	"payout_approvals.unauthenticated": "how the name was proven, said nowhere else",
	"payout_approvals.deleted":         "while a run is not handed over, one approval fewer is a run that waits for it",

	"payout_returns.sent_by": "who; the reason is found by the payouts that were cancelled for it",
	"payout_returns.sent_at": "when",

	"payout_attempts.attempted_at": "when; the day is found by the entry",

	"payout_receipts.outcome": "accepted where the bank confirmed later",
	"payout_receipts.ref":     "the rail's name of an accepted payment; no bank repeats it",
	"payout_receipts.told_on": "of an accepted one; nothing moved that day",
	"payout_receipts.reason":  "of an accepted one",
	"payout_receipts.deleted": "an answer that got lost, which a rail may do",

	"payout_confirmations.bank_ref":    "of money that did not arrive; of money that did it is in the entry's memo",
	"payout_confirmations.reason":      "of a payment that came back later: the payout keeps the newer reason",
	"payout_confirmations.imported_by": "who, no part of what the bank said",
	"payout_confirmations.imported_at": "when, no part of what the bank said",
	"payout_confirmations.source":      "the line of the file, no part of what the bank said",

	"payout_holds.everything": "whether later money is kept too; nothing is booked for that",
	"payout_holds.until_on":   "when it is looked at again, by people",
	"payout_holds.done_by":    "who",
	"payout_holds.done_at":    "when; the day is found by the entry",
	"payout_holds.hold_id":    "of a hold on all when nothing was due: it has no entry",
	"payout_holds.partner":    "the same",
	"payout_holds.currency":   "the same",
	"payout_holds.reason":     "the same",
	"payout_holds.done_on":    "the same",
	"payout_holds.deleted":    "the same",
	"payout_holds.doubled":    "the same",
}

// mutants alters a copy of the world, one thing at a time, and asks the desk.
type mutants struct {
	*testing.T
	db     *DB
	desk   *payouts.Desk
	tables []string
	sample int // so many rows of each table, with facts as they were; 0: all

	columns, made, missed, hidden map[string]int // by table
	unnamed                       map[string]int // by table and column: named by nothing once the facts fit
}

// ledgerCopies are the books' own tables that mutants change.
var ledgerCopies = []string{"balances", "entries", "ledger_head", "postings"}

// newMutants makes the world and takes every guard off: triggers, keys, checks.
func newMutants(t *testing.T, db *DB) *mutants {
	t.Helper()
	m := &mutants{T: t, db: db, desk: payoutstest.World(t, db), tables: slices.Sorted(maps.Keys(payoutTables)),
		columns: map[string]int{}, made: map[string]int{}, missed: map[string]int{}, hidden: map[string]int{}, unnamed: map[string]int{}}
	if db.engine.name == "sqlite" {
		for _, q := range []string{`PRAGMA foreign_keys = OFF`, `PRAGMA synchronous = OFF`} {
			if _, err := db.write.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
	}
	switch { // each takes some twenty times as long
	case raceEnabled:
		m.sample = 1
	case db.engine.name == "postgres":
		m.sample = 3
	}
	cascade := map[string]string{"postgres": ` CASCADE`}[db.engine.name]
	for _, table := range append(ledgerCopies, m.tables...) {
		m.exec(`CREATE TABLE saved_`+table+` AS SELECT * FROM `+table, `DROP TABLE `+table+cascade, `CREATE TABLE `+table+` AS SELECT * FROM saved_`+table)
	}
	payoutstest.Sound(t, m.desk)
	return m
}

// exec runs statements in one transaction and answers how many rows the last changed.
func (m *mutants) exec(queries ...string) (rows int64) {
	m.Helper()
	err := m.db.once(m.Context(), func(tx *sql.Tx) error {
		if m.db.engine.name == "postgres" { // a test's changes need not reach the disk
			queries = append([]string{`SET LOCAL synchronous_commit TO off`}, queries...)
		}
		for _, q := range queries {
			r, err := tx.ExecContext(m.Context(), q)
			if err == nil {
				rows, err = r.RowsAffected()
			}
			if err != nil {
				return fmt.Errorf("%s: %w", q, err)
			}
		}
		return nil
	})
	if err != nil {
		m.Fatal(err)
	}
	return rows
}

// restore puts tables back as they were.
func (m *mutants) restore(tables ...string) {
	m.Helper()
	var queries []string
	for _, t := range tables {
		queries = append(queries, `DELETE FROM `+t, `INSERT INTO `+t+` SELECT * FROM saved_`+t)
	}
	m.exec(queries...)
}

// refit makes the facts anew, as somebody would who knows of them.
func (m *mutants) refit() {
	m.Helper()
	m.exec(`DELETE FROM payout_facts`, `UPDATE payout_head SET seq = -1`)
	if err := m.db.beginFacts(m.Context()); err != nil {
		m.Fatal(err)
	}
}

// findings are what the desk finds.
func (m *mutants) findings(what string) []string {
	m.Helper()
	a, err := m.desk.Check(context.WithoutCancel(m.Context()))
	if err != nil {
		m.Errorf("%s: %v", what, err)
	}
	texts := make([]string, len(a.Findings))
	for i, f := range a.Findings {
		texts[i] = f.String()
	}
	return texts
}

// row is one row of a table.
type row struct {
	where string
	names []string // one of which a finding must have
}

func (m *mutants) rows(table string) []row {
	m.Helper()
	t := payoutTables[table]
	var where []string
	for _, k := range t.key {
		where = append(where, `'`+k+` = ''' || `+k+` || ''''`)
	}
	rows, err := m.db.read.QueryContext(m.Context(), `SELECT `+strings.Join(where, ` || ' AND ' || `)+`, `+t.name+` FROM saved_`+table+` ORDER BY 1`)
	if err != nil {
		m.Fatal(err)
	}
	defer rows.Close()
	var all []row
	for rows.Next() {
		var r row
		var names string
		if err := rows.Scan(&r.where, &names); err != nil {
			m.Fatal(err)
		}
		r.names = strings.Split(names, "|")
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		m.Fatal(err)
	}
	if m.sample == 0 || len(all) <= m.sample {
		return all
	}
	var some []row
	for i := range m.sample {
		some = append(some, all[(2*i+1)*len(all)/(2*m.sample)])
	}
	return some
}

// flips are the values that a column is given.
func flips(c column) []string {
	list := slices.Clone(payoutTables[c.Table].flips[c.Name])
	if c.Type == "integer" {
		return append(list, c.Name+` + 1`)
	}
	return append(list, `'X' || substr(COALESCE(`+c.Name+`, ''), 2)`)
}

// attack makes one change, wants it named, and takes it back. Then it makes the change
// and the facts to fit, and remembers what is not found.
func (m *mutants) attack(table, what string, r row, queries ...string) {
	m.Helper()
	if m.exec(queries...) == 0 {
		return // it has that value
	}
	defer m.restore(table)
	m.made[table]++
	all := strings.Join(queries, "; ")
	if found := strings.Join(m.findings(all), "\n"); !slices.ContainsFunc(r.names, func(n string) bool { return strings.Contains(found, n) }) {
		m.Errorf("%s: want %s named, found:\n%s", all, r.names, found)
		m.missed[table]++
	}
	if m.sample > 0 || table == "payout_facts" || table == "payout_head" {
		return
	}
	m.refit()
	defer m.restore("payout_facts", "payout_head")
	if len(m.findings(all)) == 0 {
		m.hidden[table]++
		m.unnamed[table+"."+what]++
	}
}

// double puts a copy of a row beside it under another key.
func (m *mutants) double(table, set string, r row) {
	m.Helper()
	m.attack(table, "doubled", r, `CREATE TABLE copied AS SELECT * FROM saved_`+table+` WHERE `+r.where, `UPDATE copied SET `+set,
		`INSERT INTO `+table+` SELECT * FROM copied`)
	m.exec(`DROP TABLE copied`)
}

// TestPayoutMutants flips every column of every row of payouts, deletes every row, and
// doubles each, with all guards of the database off, and wants each named. Tables and
// columns come from the database, so that a new one cannot be forgotten.
func TestPayoutMutants(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		all := columns(t, db)
		m := newMutants(t, db)
		for _, c := range all {
			if !strings.HasPrefix(c.Table, "payout") {
				continue
			}
			if _, ok := payoutTables[c.Table]; !ok {
				t.Fatalf("table %s has no mutants: say in payoutTables how they are made", c.Table)
			}
			m.columns[c.Table]++
			for _, r := range m.rows(c.Table) {
				for _, value := range flips(c) {
					m.attack(c.Table, c.Name, r, fmt.Sprintf(`UPDATE %s SET %s = %s WHERE %s AND %[3]s IS DISTINCT FROM %[2]s`, c.Table, c.Name, value, r.where))
				}
			}
		}
		for _, table := range m.tables {
			for _, r := range m.rows(table) {
				m.attack(table, "deleted", r, `DELETE FROM `+table+` WHERE `+r.where)
				m.attack(table, "doubled", r, `INSERT INTO `+table+` SELECT * FROM saved_`+table+` WHERE `+r.where)
				for _, set := range payoutTables[table].doubles {
					m.double(table, set, r)
				}
			}
		}
		payoutstest.Sound(t, m.desk) // everything was taken back
		m.tell()
	})
}

// tell prints what was done, and compares what only facts name with what should be so.
func (m *mutants) tell() {
	m.Helper()
	m.Logf("%-22s %8s %5s %8s %6s %32s", "table", "columns", "rows", "mutants", "named", "named with facts made to fit")
	for _, t := range m.tables {
		fit := fmt.Sprint(m.made[t] - m.hidden[t])
		if m.sample > 0 || t == "payout_facts" || t == "payout_head" {
			fit = "–"
		}
		m.Logf("%-22s %8d %5d %8d %6d %32s", t, m.columns[t], len(m.rows(t)), m.made[t], m.made[t]-m.missed[t], fit)
	}
	for _, k := range slices.Sorted(maps.Keys(m.unnamed)) {
		if onlyFacts[k] == "" {
			m.Errorf("%s: with facts made to fit, %d changes are named by nothing; compare it, or say in onlyFacts why not", k, m.unnamed[k])
		}
	}
	for k := range onlyFacts {
		if m.sample == 0 && m.unnamed[k] == 0 {
			m.Errorf("%s is in onlyFacts, and its changes are named without facts too", k)
		}
	}
}

// TestPayoutEntryMutants alters the entries that payouts and holds posted, and wants
// each named by the fact that caused it. The ledger's own balances are left as they
// were, or made to fit, where that helps to hide it.
func TestPayoutEntryMutants(t *testing.T) {
	of := func(id string) string { return ` = (SELECT seq FROM saved_entries WHERE id = '` + id + `')` }
	delete := func(id string) []string {
		return []string{`DELETE FROM postings WHERE entry_seq` + of(id), `DELETE FROM entries WHERE id = '` + id + `'`}
	}
	copied := func(id, as string) []string {
		return []string{`INSERT INTO postings SELECT 9999, idx, account, currency, amount_minor FROM saved_postings WHERE entry_seq` + of(id),
			`UPDATE ledger_head SET seq = 9999`,
			`INSERT INTO entries SELECT 9999, '` + as + `', kind, value_on, booked_on, memo, content_hash FROM saved_entries WHERE id = '` + id + `'`}
	}
	const (
		submit = "payout:P-2026-11-24-001:submit"
		settle = "payout:P-2026-11-24-001:settle"
		place  = "hold:h-part:place"
		free   = "hold:h-past:release"
	)
	cases := []struct {
		what, name string
		statements []string
	}{
		{"submit deleted", submit, delete(submit)},
		{"settle deleted", settle, delete(settle)},
		{"place deleted", place, delete(place)},
		{"release deleted", free, delete(free)},
		{"return deleted", "payout:P-2026-11-20-016:return", delete("payout:P-2026-11-20-016:return")},
		{"fail deleted", "payout:P-2026-11-20-017:fail", delete("payout:P-2026-11-20-017:fail")},
		{"memo", submit, []string{`UPDATE entries SET memo = 'x' WHERE id = '` + submit + `'`}},
		{"kind", submit, []string{`UPDATE entries SET kind = 'other' WHERE id = '` + submit + `'`}},
		{"value date", settle, []string{`UPDATE entries SET value_on = '2026-11-19' WHERE id = '` + settle + `'`}},
		{"booking date", settle, []string{`UPDATE entries SET booked_on = '2026-11-30' WHERE id = '` + settle + `'`}},
		{"account", submit, []string{`UPDATE postings SET account = 'liabilities:payable:partner-1:due' WHERE idx = 0 AND entry_seq` + of(submit)}},
		{"amounts", submit, []string{`UPDATE postings SET amount_minor = amount_minor * 2 WHERE entry_seq` + of(submit)}},
		{"amounts of a hold", place, []string{`UPDATE postings SET amount_minor = amount_minor * 2 WHERE entry_seq` + of(place)}},
		{"a posting deleted", settle, []string{`DELETE FROM postings WHERE idx = 1 AND entry_seq` + of(settle)}},
		{"doubled", "payout:P-2026-11-24-001:submit-2", copied(submit, submit+"-2")},
		{"doubled under its id", submit, copied(submit, submit)},
		{"settled by nobody", "payout:P-2026-11-25-001:settle", copied(settle, "payout:P-2026-11-25-001:settle")},
		{"released by nobody", "hold:h-part:release", copied(free, "hold:h-part:release")},
		{"in transit by another entry", "liabilities:in-transit:testbank in USD", []string{`UPDATE balances SET balance_minor = balance_minor - 1 WHERE account = 'liabilities:in-transit:testbank'`}},
		{"held by another entry", "liabilities:payable:partner-0:held in USD", []string{`UPDATE balances SET balance_minor = balance_minor - 1 WHERE account = 'liabilities:payable:partner-0:held'`}},
	}
	eachEngine(t, func(t *testing.T, db *DB) {
		m := newMutants(t, db)
		for _, c := range cases {
			if m.exec(c.statements...) == 0 {
				t.Errorf("%s: the mutant changed no row", c.what)
			}
			if found := strings.Join(m.findings(c.what), "\n"); !strings.Contains(found, c.name) {
				t.Errorf("%s: want %s named, found:\n%s", c.what, c.name, found)
			}
			m.restore(ledgerCopies...)
		}
		payoutstest.Sound(t, m.desk)
	})
}
