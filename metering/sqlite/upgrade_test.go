package sqlite

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"mete/metering"
	"mete/metering/meteringtest"
)

// oldFile is a store of an older schema with what the statements put into it.
func oldFile(t *testing.T, version int64, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "usage.db")
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(database.DialectSQLite3, db, files, goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(context.Background(), version); err != nil {
		t.Fatal(err)
	}
	for _, q := range statements {
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	return path
}

// Refusals of version 1 get the key of their form, and of what came over the network
// nobody knows any more who sent it: a replay may send it for no credential.
func TestRefusalsOfVersionOne(t *testing.T) {
	var statements []string
	for i := range keyBatch + 5 {
		form := metering.AppendCanonical(nil, meteringtest.Call(fmt.Sprint("e-", i), "nowhere", day))
		statements = append(statements, fmt.Sprintf(`INSERT INTO refusals (id, class, reason, detail, field, source, location, digest, event, received_us)
			VALUES ('r-%04d', 'unusable', 'unknown_app', '', 'data.app', 'gateway', '%s', '', X'%s', %d)`,
			i, map[bool]string{true: "http[3]", false: "calls.ndjson:3"}[i%2 == 0], hex.EncodeToString(form), i))
	}
	statements = append(statements, `INSERT INTO refusals (id, class, reason, detail, field, source, location, digest, event, received_us)
		VALUES ('damaged', 'unusable', 'unknown_app', '', '', '', 'calls.ndjson:9', '', X'7b', 1), ('unclean', 'unclean', 'phi_email', '', '', '', 'http[1]', '', NULL, 1)`)
	s := openAt(t, oldFile(t, 1, statements...))
	for i, want := range map[int]string{0: metering.UnknownSender, 1: "", keyBatch + 4: metering.UnknownSender} {
		got, err := s.Refused(context.Background(), metering.RefusedQuery{Keys: []metering.Key{metering.KeyOf("gateway", fmt.Sprint("e-", i))}})
		if err != nil || len(got) != 1 || got[0].ID != fmt.Sprintf("r-%04d", i) || got[0].Sender != want {
			t.Errorf("refusal %d by its key: %+v, %v, want one sent by %q", i, got, err, want)
		}
	}
	if got, err := s.Refused(context.Background(), metering.RefusedQuery{IDs: []string{"damaged", "unclean"}}); err != nil || len(got) != 2 {
		t.Errorf("what has no key: %+v, %v", got, err)
	}
}
