package clickhouse

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing/fstest"
	"text/template"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"mete/migrations"
)

// versionTable holds the schema's version.
const versionTable = "schema_version"

// migrate brings the schema up to date. It looks before it writes: a database that this
// program does not know stays as it is. Only here database/sql is used, which may send
// a statement twice: each of them does nothing then.
func migrate(ctx context.Context, o *clickhouse.Options, cluster string) (err error) {
	db := clickhouse.OpenDB(o)
	defer func() { err = errors.Join(err, db.Close()) }()
	files, err := schema(cluster)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectCustom, db, files, goose.WithDisableGlobalRegistry(true), goose.WithStore(versions{cluster}))
	if err != nil {
		return err
	}
	sources := p.ListSources()
	known := sources[len(sources)-1].Version

	var tables, versioned uint64
	if err := db.QueryRowContext(ctx, `SELECT count(), countIf(name = '`+versionTable+`') FROM system.tables WHERE database = currentDatabase()`).Scan(&tables, &versioned); err != nil {
		return fmt.Errorf("read its schema: is the server there, and the database made? %w", err)
	}
	if tables > 0 && versioned == 0 {
		return fmt.Errorf("it is a database of something else (%d tables, none named %s); choose another, or empty it if making its tables was interrupted", tables, versionTable)
	}
	if versioned > 0 {
		version, err := versions{}.GetLatestVersion(ctx, db)
		if err != nil && !errors.Is(err, database.ErrVersionNotFound) {
			return fmt.Errorf("read its schema version: %w", err)
		}
		if version > known {
			return fmt.Errorf("its schema is version %d, this program knows versions up to %d; use the program that wrote it, or a newer one", version, known)
		}
		if version == known {
			return nil
		}
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bring its schema to version %d: %w", known, err)
	}
	return nil
}

// schema is the DDL for a server, or for a cluster if one is named.
func schema(cluster string) (fs.FS, error) {
	names, err := fs.Glob(migrations.ClickHouse, "clickhouse/*.sql")
	if err != nil {
		return nil, err
	}
	made := fstest.MapFS{}
	for _, name := range names {
		t, err := template.New(name).Funcs(words(cluster)).ParseFS(migrations.ClickHouse, name)
		if err != nil {
			return nil, err
		}
		var text strings.Builder
		if err := t.ExecuteTemplate(&text, strings.TrimPrefix(name, "clickhouse/"), nil); err != nil {
			return nil, err
		}
		made[strings.TrimPrefix(name, "clickhouse/")] = &fstest.MapFile{Data: []byte(text.String())}
	}
	return made, nil
}

// words are what the templates of the DDL fill in.
func words(cluster string) template.FuncMap {
	on := ""
	if cluster != "" {
		on = " ON CLUSTER " + quote(cluster)
	}
	return template.FuncMap{
		"create": func(table string) string {
			if cluster != "" {
				table += localSuffix
			}
			return "CREATE TABLE IF NOT EXISTS " + table + on
		},
		"alter": func(table string) string {
			if cluster != "" {
				table += localSuffix
			}
			return "ALTER TABLE " + table + on
		},
		"alterDistributed": func(table, what string) string {
			if cluster == "" {
				return ""
			}
			return "ALTER TABLE " + table + on + " " + what + ";"
		},
		"engine": func() string {
			if cluster != "" {
				return "ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')"
			}
			return "MergeTree"
		},
		"replacing": func(by string) string {
			if cluster != "" {
				return "ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', " + by + ")"
			}
			return "ReplacingMergeTree(" + by + ")"
		},
		// A position must not be on disk before its rows. The window of tokens is a
		// second line behind the epochs.
		"settings": func(more ...string) string {
			all := append([]string{"fsync_after_insert = 1", "fsync_part_directory = 1"}, more...)
			if cluster != "" {
				all = append(all, "replicated_deduplication_window = 1000")
			} else {
				all = append(all, "non_replicated_deduplication_window = 1000")
			}
			return "SETTINGS " + strings.Join(all, ", ")
		},
		"distributed": func(table, by string) string {
			if cluster == "" {
				return ""
			}
			return fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s%s AS %s%s ENGINE = Distributed(%s, currentDatabase(), %s, %s);",
				table, on, table, localSuffix, quote(cluster), quote(table+localSuffix), by)
		},
	}
}

// localSuffix ends the names of a cluster's tables on each shard.
const localSuffix = "_local"

// versions keeps the schema's version, for goose.
type versions struct{ cluster string }

var _ database.Store = versions{}

func (versions) Tablename() string { return versionTable }

func (v versions) CreateVersionTable(ctx context.Context, db database.DBTxConn) error {
	w := words(v.cluster)
	create, engine, settings, distributed := w["create"].(func(string) string), w["engine"].(func() string), w["settings"].(func(...string) string), w["distributed"].(func(string, string) string)
	for _, q := range []string{
		create(versionTable) + ` (version Int64, applied_at DateTime64(6, 'UTC') DEFAULT now64(6)) ENGINE = ` + engine() + ` ORDER BY version ` + settings(),
		strings.TrimSuffix(distributed(versionTable, "version"), ";"),
	} {
		if q == "" {
			continue
		}
		if _, err := db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

func (versions) Insert(ctx context.Context, db database.DBTxConn, r database.InsertRequest) error {
	_, err := db.ExecContext(ctx, fmt.Sprintf(`INSERT INTO %s (version) SETTINGS async_insert = 0 VALUES (%d)`, versionTable, r.Version))
	return err
}

func (versions) Delete(context.Context, database.DBTxConn, int64) error {
	return errors.New("the schema only goes forward")
}

func (versions) GetMigration(ctx context.Context, db database.DBTxConn, version int64) (*database.GetMigrationResult, error) {
	var n uint64
	r := database.GetMigrationResult{IsApplied: true}
	err := db.QueryRowContext(ctx, fmt.Sprintf(`SELECT count(), max(applied_at) FROM %s WHERE version = %d`, versionTable, version)).Scan(&n, &r.Timestamp)
	if err == nil && n == 0 {
		return nil, database.ErrVersionNotFound
	}
	return &r, err
}

func (versions) GetLatestVersion(ctx context.Context, db database.DBTxConn) (int64, error) {
	var n uint64
	var version int64
	err := db.QueryRowContext(ctx, `SELECT count(), max(version) FROM `+versionTable).Scan(&n, &version)
	if err == nil && n == 0 {
		err = database.ErrVersionNotFound
	}
	return version, err
}

func (versions) ListMigrations(ctx context.Context, db database.DBTxConn) (all []*database.ListMigrationsResult, err error) {
	rows, err := db.QueryContext(ctx, `SELECT DISTINCT version FROM `+versionTable+` ORDER BY version DESC`)
	if err != nil {
		return nil, err
	}
	defer func(rows *sql.Rows) { err = errors.Join(err, rows.Close()) }(rows)
	for rows.Next() {
		r := database.ListMigrationsResult{IsApplied: true}
		if err := rows.Scan(&r.Version); err != nil {
			return nil, err
		}
		all = append(all, &r)
	}
	return all, rows.Err()
}
