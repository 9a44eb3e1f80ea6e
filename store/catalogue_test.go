package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"mete/catalogue"
	"mete/catalogue/cataloguetest"
	"mete/period"
)

func TestCatalogueStore(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		cataloguetest.TestStore(t, func(t *testing.T) catalogue.Store { return emptyCatalogue(t, db) })
	})
}

// emptyCatalogue takes back what an earlier part of the test recorded, past the guards.
func emptyCatalogue(t *testing.T, db *DB) catalogue.Store {
	t.Helper()
	guards := map[string][]string{
		"sqlite":   {`DROP TRIGGER IF EXISTS notifications_no_delete`, `DROP TRIGGER IF EXISTS overrides_no_delete`, `DROP TRIGGER IF EXISTS decisions_no_delete`, `DROP TRIGGER IF EXISTS catalogue_versions_no_delete`},
		"postgres": {`DROP TRIGGER IF EXISTS notifications_append_only ON notifications`, `DROP TRIGGER IF EXISTS overrides_append_only ON overrides`, `DROP TRIGGER IF EXISTS decisions_append_only ON decisions`, `DROP TRIGGER IF EXISTS catalogue_versions_append_only ON catalogue_versions`},
	}[db.engine.name]
	for _, q := range append(guards, `DELETE FROM notifications`, `DELETE FROM overrides`, `DELETE FROM decisions`, `DELETE FROM catalogue_versions`, `UPDATE catalogue_head SET seq = 0`) {
		if _, err := db.write.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// The whole life of a contract over a real engine: applied, approved, accepted, changed
// in the middle of a month, read back by its names, and never edited.
func TestCatalogueLife(t *testing.T) {
	eachEngine(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		c := catalogue.Catalogue{Store: db}
		at := time.Date(2025, 12, 1, 9, 0, 0, 0, time.UTC)
		docs, err := catalogue.ReadDir("../examples/marketplace")
		if err != nil {
			t.Fatal(err)
		}
		apply := func(docs catalogue.Documents) []catalogue.Version {
			t.Helper()
			changes, err := c.Plan(ctx, docs)
			if err != nil {
				t.Fatal(err)
			}
			vs, err := c.Apply(ctx, changes, catalogue.Person{Name: "ada"}, at)
			if err != nil {
				t.Fatal(err)
			}
			return vs
		}
		agree := func(v catalogue.Version) {
			t.Helper()
			if _, err := c.Approve(ctx, v.Ref, catalogue.Person{Name: "grace"}, at.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Accept(ctx, v.Ref, catalogue.Acceptance{By: catalogue.Person{Name: "nora@northwind", Unauthenticated: true},
				At: at.Add(2 * time.Hour), RecordedBy: catalogue.Person{Name: "grace"}, Evidence: "signed copy 2025-114"}); err != nil {
				t.Fatal(err)
			}
		}
		for _, v := range apply(docs) {
			if v.Kind == catalogue.KindContract {
				agree(v)
			}
		}
		if vs := apply(docs); len(vs) != 0 {
			t.Errorf("the same documents again record %d versions", len(vs))
		}

		at = time.Date(2026, 9, 20, 9, 0, 0, 0, time.UTC)
		for _, o := range docs.Objects {
			if o.ID == "northwind-scheduling" {
				next := strings.NewReplacer("from: 2026-01-01, until", "from: 2026-10-16, until", "{rate: 15%}", "{rate: 14%}").Replace(o.Document)
				agree(apply(catalogue.Parse("next.yaml", []byte(next)))[0])
			}
		}
		october := period.Month{Year: 2026, Month: 10}
		snap, err := c.At(ctx, october.Last(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		spans := snap.ContractsIn(october)
		var got []string
		for _, v := range spans {
			got = append(got, v.Ref.String()+" "+v.Period.Start.Format(time.RFC3339)+" "+v.Period.End.Format(time.RFC3339))
		}
		want := []string{
			"contract cedarline-billing version 1 2026-10-01T00:00:00-04:00 2026-11-01T00:00:00-04:00",
			"contract cedarpoint-insights version 1 2026-10-01T00:00:00-04:00 2026-11-01T00:00:00-04:00",
			"contract northwind-scheduling version 1 2026-10-01T00:00:00-05:00 2026-10-16T00:00:00-05:00",
			"contract northwind-scheduling version 2 2026-10-16T00:00:00-05:00 2026-11-01T00:00:00-05:00",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("spans\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		again, err := c.FromRefs(ctx, snap.Refs())
		if err != nil {
			t.Fatal(err)
		}
		if again.Digest() != snap.Digest() || len(again.ContractsIn(october)) != len(spans) || again.Partners["northwind"] != snap.Partners["northwind"] {
			t.Error("the snapshot read back by its names is another one")
		}

		head, err := db.CatalogueHead(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.RecordOverride(ctx, head, catalogue.Override{Ref: snap.Refs()[0], Finding: "f", By: catalogue.Person{Name: "lex"},
			Role: catalogue.RoleLegal, Reason: "r", At: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)}); err != nil {
			t.Fatal(err)
		}
		if err := db.RecordNotification(ctx, head+1, catalogue.Notification{Ref: snap.Refs()[0], To: "ops", How: "e-mail", On: period.Date{Year: 2026, Month: 10, Day: 1},
			By: catalogue.Person{Name: "bo"}, RecordedAt: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), Document: "d",
			Sheet: catalogue.Sheet{Format: "md", SHA256: strings.Repeat("0", 64)}}); err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{`UPDATE notifications SET notified = 'eve'`, `DELETE FROM notifications`, `UPDATE overrides SET reason = 'none'`, `DELETE FROM overrides`, `UPDATE catalogue_versions SET document = ''`, `DELETE FROM catalogue_versions`,
			`UPDATE decisions SET decided_by = 'eve'`, `DELETE FROM decisions`} {
			if _, err := db.write.ExecContext(ctx, q); err == nil || !strings.Contains(err.Error(), "append-only") {
				t.Errorf("%s: %v, want it refused", q, err)
			}
		}
		if _, err := c.History(ctx, catalogue.KindContract, "nobody"); !errors.Is(err, catalogue.ErrUnknown) {
			t.Errorf("history of nobody: %v", err)
		}
	})
}
