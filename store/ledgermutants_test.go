package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"mete/ledger"
	"mete/ledger/ledgertest"
	"mete/period"
)

// ledgerTables are the books' own.
var ledgerTables = []string{"balances", "entries", "ledger_head", "months", "postings"}

// column is one as the database's catalogue has it, in words of both engines.
type column struct {
	Table, Name, Type string
	Nullable          bool
}

func columns(t *testing.T, db *DB) []column {
	t.Helper()
	// Keys are never null: Go writes them, and SQLite alone would let one pass.
	query := `SELECT m.name, c.name, c.type, c."notnull" = 0 AND c.pk = 0 FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name NOT LIKE 'goose_%'`
	if db.engine.name == "postgres" {
		query = `SELECT table_name, column_name, data_type, is_nullable = 'YES' FROM information_schema.columns
			WHERE table_schema = 'public' AND table_name NOT LIKE 'goose_%'`
	}
	rows, err := db.read.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []column
	for rows.Next() {
		var c column
		if err := rows.Scan(&c.Table, &c.Name, &c.Type, &c.Nullable); err != nil {
			t.Fatal(err)
		}
		c.Type = strings.Replace(strings.ToLower(c.Type), "bigint", "integer", 1)
		list = append(list, c)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list, func(a, b column) int { return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Name, b.Name)) })
	return list
}

// indexes are the named ones; those behind keys are the engine's own business.
func indexes(t *testing.T, db *DB) []string {
	t.Helper()
	query := `SELECT tbl_name || '.' || name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY 1`
	if db.engine.name == "postgres" {
		query = `SELECT tablename || '.' || indexname FROM pg_indexes i WHERE schemaname = 'public' AND tablename NOT LIKE 'goose_%'
			AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conname = i.indexname) ORDER BY 1`
	}
	list, err := texts(t.Context(), db.read, query)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// Both engines have the same tables, columns and indexes.
func TestCataloguesOfEngines(t *testing.T) {
	found := map[string][]column{}
	named := map[string][]string{}
	eachEngine(t, func(t *testing.T, db *DB) {
		found[db.engine.name], named[db.engine.name] = columns(t, db), indexes(t, db)
	})
	if len(found) < 2 {
		t.Skip("one engine only")
	}
	if diff := gocmp.Diff(found["sqlite"], found["postgres"]); diff != "" {
		t.Errorf("columns (- sqlite, + postgres):\n%s", diff)
	}
	if diff := gocmp.Diff(named["sqlite"], named["postgres"]); diff != "" {
		t.Errorf("indexes (- sqlite, + postgres):\n%s", diff)
	}
	if len(found["sqlite"]) < 20 {
		t.Errorf("only %d columns compared", len(found["sqlite"]))
	}
}

// The database itself refuses what would spoil the books, whoever asks.
func TestDatabaseGuards(t *testing.T) {
	hash := strings.Repeat("0", 64)
	entry := func(seq int, id string) string {
		return fmt.Sprintf(`INSERT INTO entries (seq, id, kind, value_on, booked_on, memo, content_hash) VALUES (%d, '%s', 'k', '2026-01-01', '2026-01-01', '', '%s')`, seq, id, hash)
	}
	posting := func(seq, idx int, c string, minor int) string {
		return fmt.Sprintf(`INSERT INTO postings (entry_seq, idx, account, currency, amount_minor) VALUES (%d, %d, 'assets:a', '%s', %d)`, seq, idx, c, minor)
	}
	fine := []string{posting(3, 0, "USD", 5), posting(3, 1, "USD", -5), entry(3, "fine")}
	cases := map[string][]string{
		"change an entry":               {`UPDATE entries SET memo = 'x' WHERE seq = 1`},
		"change no entry":               {`UPDATE entries SET memo = memo`},
		"change a posting":              {`UPDATE postings SET amount_minor = 1 WHERE entry_seq = 1 AND idx = 0`},
		"delete an entry":               {`DELETE FROM entries WHERE seq = 2`},
		"delete a posting":              {`DELETE FROM postings WHERE entry_seq = 1 AND idx = 0`},
		"delete all":                    {`DELETE FROM postings`, `DELETE FROM entries`},
		"add to an entry":               {posting(1, 2, "USD", 5), posting(1, 3, "USD", -5)},
		"posting without an entry":      {posting(9, 0, "USD", 5)},
		"entry without postings":        {entry(3, "x")},
		"one posting":                   {posting(3, 0, "USD", 5), entry(3, "x")},
		"unbalanced":                    {posting(3, 0, "USD", 5), posting(3, 1, "USD", -4), entry(3, "x")},
		"unbalanced in one currency":    {posting(3, 0, "USD", 5), posting(3, 1, "EUR", -5), entry(3, "x")},
		"zero":                          {posting(3, 0, "USD", 0), posting(3, 1, "USD", 0), entry(3, "x")},
		"the same id":                   {posting(3, 0, "USD", 5), posting(3, 1, "USD", -5), entry(3, "a")},
		"the same sequence":             {posting(2, 2, "USD", 5), posting(2, 3, "USD", -5), entry(2, "x")},
		"sequence zero":                 {posting(0, 0, "USD", 5), posting(0, 1, "USD", -5), entry(0, "x")},
		"the same posting twice":        {posting(3, 0, "USD", 5), posting(3, 0, "USD", -5), entry(3, "x")},
		"second head":                   {`INSERT INTO ledger_head (id, seq) VALUES (2, 5)`},
		"closed month without its step": {`INSERT INTO months (month, state) VALUES ('2026-01', 'closed')`},
		"unknown state":                 {`INSERT INTO months (month, state) VALUES ('2026-01', 'ajar')`},
	}
	only := map[string]map[string][]string{
		"sqlite": {
			"replace an entry":   {strings.Replace(entry(2, "b"), "INSERT", "INSERT OR REPLACE", 1)},
			"replace a posting":  {strings.Replace(posting(1, 0, "USD", 7), "INSERT", "INSERT OR REPLACE", 1)},
			"overflow by adding": {posting(3, 0, "USD", 1<<62), posting(3, 1, "USD", 1<<62), posting(3, 2, "USD", 1<<62), posting(3, 3, "USD", 1<<62), entry(3, "x")},
		},
		"postgres": {
			"truncate":           {`TRUNCATE entries, postings`},
			"truncate postings":  {`TRUNCATE postings`},
			"overflow by adding": {posting(3, 0, "USD", 1<<62), posting(3, 1, "USD", 1<<62), posting(3, 2, "USD", 1<<62), posting(3, 3, "USD", 1<<62), entry(3, "x")},
		},
	}
	eachEngine(t, func(t *testing.T, db *DB) {
		if err := db.Post(t.Context(), dollars("a", 5), dollars("b", 6)); err != nil {
			t.Fatal(err)
		}
		all := maps.Clone(cases)
		maps.Copy(all, only[db.engine.name])
		for name, statements := range all {
			if err := execAll(t, db, statements); err == nil {
				t.Errorf("%s: not refused", name)
			}
		}
		wantGreen(t, db)
		if err := execAll(t, db, fine); err != nil {
			t.Errorf("a sound entry is refused: %v", err)
		}
	})
}

func execAll(t *testing.T, db *DB, statements []string) error {
	return db.once(t.Context(), func(tx *sql.Tx) error {
		for _, q := range statements {
			if _, err := tx.ExecContext(t.Context(), q); err != nil {
				return err
			}
		}
		return nil
	})
}

// A writer that does not take the head cannot slip a posting into an entry that is
// being booked.
func TestNoPostingBesideTheBooking(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		if db.engine.name == "sqlite" {
			return // it has one writer at a time
		}
		ctx := t.Context()
		tx, err := db.write.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if err := db.post(ctx, tx, []ledger.Entry{dollars("a", 5)}, noMonth); err != nil {
			t.Fatal(err)
		}
		beside := make(chan error, 1)
		go func() {
			_, err := db.write.ExecContext(ctx, `INSERT INTO postings (entry_seq, idx, account, currency, amount_minor) VALUES (1, 7, 'assets:a', 'USD', 1)`)
			beside <- err
		}()
		select {
		case err := <-beside:
			t.Fatalf("it did not wait: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := <-beside; err == nil || !strings.Contains(err.Error(), "no posting can be added") {
			t.Errorf("error %v", err)
		}
		wantGreen(t, db)
	})
}

// seedLedger books entries over two months and closes the first.
func seedLedger(t *testing.T, db *DB) {
	t.Helper()
	ctx := t.Context()
	for i := range 40 {
		on := "2026-09-15"
		if i >= 20 {
			on = "2026-10-15"
		}
		e := ledgertest.Move(fmt.Sprintf("e%02d", i+1), on, ledger.Clearing("stripe"), ledger.PayableDue(fmt.Sprint("p", i%3)), int64(100+i), "USD")
		if err := db.Post(ctx, e); err != nil {
			t.Fatal(err)
		}
		if i == 19 {
			m := period.Month{Year: 2026, Month: 9}
			for _, s := range [][2]ledger.MonthState{{ledger.Open, ledger.Closing}, {ledger.Closing, ledger.Closed}} {
				if err := db.SetMonthState(ctx, m, s[0], s[1], time.Unix(7, 0)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	wantGreen(t, db)
}

// mutate runs the statements with every guard of the database off, verifies, and takes
// everything back.
func mutate(t *testing.T, db *DB, statements ...string) []ledger.Finding {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	for _, q := range append(guardsOff(t, db, tx), statements...) {
		r, err := tx.ExecContext(ctx, q)
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		if n, err := r.RowsAffected(); slices.Contains(statements, q) && (err != nil || n != 1) {
			t.Fatalf("%s: %d rows (%v), want one", q, n, err)
		}
	}
	fs, err := verifyLedger(ctx, tx)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

// guardsOff answers the statements that drop triggers, checks, keys and unique indexes.
func guardsOff(t *testing.T, db *DB, tx *sql.Tx) []string {
	t.Helper()
	if db.engine.name == "sqlite" {
		// Checks and foreign keys are off on the connection, see noChecks.
		list, err := texts(t.Context(), tx, `SELECT 'DROP TRIGGER ' || name FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN ('entries', 'postings')`)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	list, err := texts(t.Context(), tx, `SELECT 'ALTER TABLE ' || conrelid::regclass || ' DROP CONSTRAINT IF EXISTS ' || conname || ' CASCADE' FROM pg_constraint
		WHERE conrelid::regclass::text IN ('entries', 'postings', 'balances', 'ledger_head', 'months')`)
	if err != nil {
		t.Fatal(err)
	}
	return append(list, `ALTER TABLE entries DISABLE TRIGGER ALL`, `ALTER TABLE postings DISABLE TRIGGER ALL`)
}

func noChecks(t *testing.T, db *DB) {
	t.Helper()
	if db.engine.name != "sqlite" {
		return
	}
	for _, q := range []string{`PRAGMA ignore_check_constraints = ON`, `PRAGMA foreign_keys = OFF`} {
		if _, err := db.write.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
}

func wantNamed(t *testing.T, fs []ledger.Finding, what, name string) {
	t.Helper()
	for _, f := range fs {
		if strings.Contains(f.String(), name) {
			return
		}
	}
	t.Errorf("%s: %q is not named in %v", what, name, fs)
}

// Every row deleted, doubled or added is named.
func TestVerifyMutantRows(t *testing.T) {
	mutants := []struct {
		what, name string
		statements []string
	}{
		{"a posting deleted", "entry 7 (e07)", []string{`DELETE FROM postings WHERE entry_seq = 7 AND idx = 1`}},
		{"the first posting deleted", "entry 7 (e07)", []string{`DELETE FROM postings WHERE entry_seq = 7 AND idx = 0`}},
		{"a posting doubled", "entry 7 (e07)", []string{`INSERT INTO postings SELECT entry_seq, 2, account, currency, amount_minor FROM postings WHERE entry_seq = 7 AND idx = 1`}},
		{"a posting and its balance changed", "entry 7 (e07)", []string{
			`UPDATE postings SET amount_minor = amount_minor + 1 WHERE entry_seq = 7 AND idx = 0`,
			`UPDATE postings SET amount_minor = amount_minor - 1 WHERE entry_seq = 7 AND idx = 1`,
			`UPDATE balances SET balance_minor = balance_minor + 1 WHERE account = 'assets:clearing:stripe'`,
			`UPDATE balances SET balance_minor = balance_minor - 1 WHERE account = 'liabilities:payable:p0:due'`}},
		{"an entry deleted, its postings left", "posting 7/0", []string{`DELETE FROM entries WHERE seq = 7`}},
		{"an entry deleted", "entry 7 before it is missing", []string{`DELETE FROM entries WHERE seq = 7`,
			`DELETE FROM postings WHERE entry_seq = 7 AND idx = 0`, `DELETE FROM postings WHERE entry_seq = 7 AND idx = 1`}},
		{"the last entry deleted", "head", []string{`DELETE FROM entries WHERE seq = 40`,
			`DELETE FROM postings WHERE entry_seq = 40 AND idx = 0`, `DELETE FROM postings WHERE entry_seq = 40 AND idx = 1`}},
		{"the first entry deleted", "entry 1 before it is missing", []string{`DELETE FROM entries WHERE seq = 1`,
			`DELETE FROM postings WHERE entry_seq = 1 AND idx = 0`, `DELETE FROM postings WHERE entry_seq = 1 AND idx = 1`}},
		{"an entry added behind the head", "entry 41 (more)", []string{`INSERT INTO entries SELECT 41, 'more', kind, value_on, booked_on, memo, content_hash FROM entries WHERE seq = 40`}},
		{"a posting of no entry", "posting 99/0", []string{`INSERT INTO postings VALUES (99, 0, 'assets:a', 'USD', 5)`}},
		{"a posting of a sequence below all", "posting -3/0", []string{`INSERT INTO postings VALUES (-3, 0, 'assets:a', 'USD', 5)`}},
		{"a balance deleted", "balance of assets:clearing:stripe in USD: missing", []string{`DELETE FROM balances WHERE account = 'assets:clearing:stripe'`}},
		{"a balance doubled", "balance of assets:clearing:stripe in EUR", []string{`INSERT INTO balances SELECT account, 'EUR', balance_minor, postings FROM balances WHERE account = 'assets:clearing:stripe'`}},
		{"the head deleted", "head", []string{`DELETE FROM ledger_head`}},
		{"a second head", "head", []string{`INSERT INTO ledger_head VALUES (2, 40)`}},
		{"an entry booked behind a close", "month 2026-09: entry 40", []string{`UPDATE entries SET booked_on = '2026-09-20' WHERE seq = 40`}},
	}
	eachEngine(t, func(t *testing.T, db *DB) {
		seedLedger(t, db)
		noChecks(t, db)
		for _, m := range mutants {
			wantNamed(t, mutate(t, db, m.statements...), m.what, m.name)
		}
		wantGreen(t, db) // everything was taken back
	})
}

// Every column of every row of the books flipped is named; the columns come from the
// database, so a new one cannot be forgotten.
func TestVerifyMutantColumns(t *testing.T) {
	rows := map[string]struct{ where, name string }{
		"entries":     {"seq = 7", "7"},
		"postings":    {"entry_seq = 7 AND idx = 1", "7"},
		"balances":    {"account = 'assets:clearing:stripe'", "balance of assets:clearing:stripe in USD"},
		"ledger_head": {"id = 1", "head"},
		"months":      {"month = '2026-09'", "month 2026-"},
	}
	// When a step was taken is told by the audit log; nothing in the books depends on it.
	unchecked := []string{"months.closing_at", "months.closed_at", "months.locked_at"}
	flips := map[string]string{
		"entries.value_on": `'2026-09-14'`, "entries.booked_on": `'2026-09-16'`, "postings.account": `'assets:other'`,
		"months.month": `'2026-10'`, "months.state": `'open'`, "months.locked_seq": `21`,
	}
	eachEngine(t, func(t *testing.T, db *DB) {
		seedLedger(t, db)
		noChecks(t, db)
		n := 0
		for _, c := range columns(t, db) {
			column := c.Table + "." + c.Name
			if !slices.Contains(ledgerTables, c.Table) || slices.Contains(unchecked, column) {
				continue
			}
			value := flips[column]
			if value == "" && c.Type == "integer" {
				value = c.Name + " + 1000"
			} else if value == "" {
				value = "'X' || substr(" + c.Name + ", 2)"
			}
			row := rows[c.Table]
			fs := mutate(t, db, fmt.Sprintf(`UPDATE %s SET %s = %s WHERE %s`, c.Table, c.Name, value, row.where))
			wantNamed(t, fs, column, row.name)
			n++
		}
		if want := 7 + 5 + 4 + 2 + 5; n != want {
			t.Errorf("%d columns flipped, want %d: say in the test what a new column means", n, want)
		}
		wantGreen(t, db)
	})
}
