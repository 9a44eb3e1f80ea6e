package clickhouse

import (
	"context"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"mete/internal/chtest"
	"mete/metering"
	"mete/metering/meteringtest"
)

const cluster = "shop"

// statements are those of the schema for the cluster.
func statements(t *testing.T) []string {
	t.Helper()
	files, err := schema(cluster)
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	comment := regexp.MustCompile(`(?m)--.*$`)
	var all []string
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range strings.Split(comment.ReplaceAllString(string(text), ""), ";") {
			if q = strings.TrimSpace(q); q != "" {
				all = append(all, q)
			}
		}
	}
	return all
}

// The engine parses the DDL of a cluster. It cannot run it: replication needs servers.
func TestClusterSchemaParses(t *testing.T) {
	e := chtest.Start(t)
	tables := map[string]int{}
	name := regexp.MustCompile(`^(?:CREATE TABLE IF NOT EXISTS|ALTER TABLE) ([a-z_]+) ON CLUSTER 'shop'`)
	for _, q := range statements(t) {
		if _, err := e.Exec("EXPLAIN AST " + q); err != nil {
			t.Errorf("%v", err)
		}
		m := name.FindStringSubmatch(q)
		if m == nil {
			t.Errorf("not for the cluster: %s", q)
			continue
		}
		if strings.HasPrefix(q, "CREATE") {
			tables[m[1]]++
		}
		local := strings.HasSuffix(m[1], localSuffix)
		if strings.HasPrefix(q, "CREATE") && local != strings.Contains(q, "ENGINE = Replicated") || strings.HasPrefix(q, "ALTER") && !local && !strings.Contains(q, " ADD COLUMN ") {
			t.Errorf("%s has the wrong engine: %s", m[1], q)
		}
	}
	for _, table := range allTables {
		if tables[table] != 1 || tables[table+localSuffix] != 1 {
			t.Errorf("table %s is made %d times, its part on each shard %d times, want one of each", table, tables[table], tables[table+localSuffix])
		}
	}
}

// openCluster opens a store whose tables are Distributed over one shard that is not
// replicated: all that one engine can be of a cluster.
func openCluster(t *testing.T, e *chtest.Engine) *Store {
	t.Helper()
	dsn := e.Database(t)
	database := dsn[strings.LastIndexByte(dsn, '/')+1:]
	alone := strings.NewReplacer(" ON CLUSTER 'shop'", "", "currentDatabase()", quote(database), "replicated_deduplication_window", "non_replicated_deduplication_window",
		"ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')", "MergeTree",
		"ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', ", "ReplacingMergeTree(")
	table := regexp.MustCompile(`^(CREATE TABLE IF NOT EXISTS|ALTER TABLE) `)
	as := regexp.MustCompile(` AS ([a-z_]+_local) `)
	version := "0"
	for _, q := range append(statements(t), `CREATE TABLE IF NOT EXISTS schema_version (version Int64) ENGINE = MergeTree ORDER BY version`) {
		q = as.ReplaceAllString(table.ReplaceAllString(alone.Replace(q), "${1} "+database+"."), " AS "+database+".${1} ")
		if _, err := e.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	files, err := schema(cluster)
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	version, _, _ = strings.Cut(names[len(names)-1], "_")
	if _, err := e.Exec("INSERT INTO " + database + ".schema_version SETTINGS async_insert = 0 VALUES (" + strings.TrimLeft(version, "0") + ")"); err != nil {
		t.Fatal(err)
	}
	return openAt(t, dsn, func(o *Options) { o.Cluster = cluster })
}

// Over Distributed tables the store keeps all its promises.
func TestStoreOnCluster(t *testing.T) {
	fewer(t, "3")
	e := chtest.StartCluster(t, cluster)
	var last *Store
	meteringtest.TestStore(t, func(sub *testing.T) metering.Store {
		if last == nil || !last.closed {
			last = openCluster(t, e)
			return last
		}
		last = openAt(sub, last.options.DSN, func(o *Options) { o.Cluster = cluster })
		for _, table := range allTables {
			alter(sub, last, "TRUNCATE TABLE "+table+localSuffix)
		}
		return last
	})
	s, m := openCluster(t, e), new(meteringtest.Model)
	fill(t, s, m, blocks(newFeed())...)
	same(t, s, m)
	if s.replicas != 1 {
		t.Errorf("the cluster has %d replicas, want 1", s.replicas)
	}
	var rows, local uint64
	if err := s.each(context.Background(), `SELECT (SELECT count() FROM events), (SELECT count() FROM events_local)`, func(scan func(...any) error) error { return scan(&rows, &local) }); err != nil {
		t.Fatal(err)
	}
	if rows == 0 || rows != local {
		t.Errorf("%d rows in events, %d in events_local, want the same", rows, local)
	}
}

func TestQuarantineOnCluster(t *testing.T) {
	e := chtest.StartCluster(t, cluster)
	meteringtest.TestQuarantine(t, func(t *testing.T) metering.Quarantine { return openCluster(t, e) })
}

func TestOpenRefusesAnUnknownCluster(t *testing.T) {
	s := open(t)
	if _, err := Open(context.Background(), Options{DSN: s.options.DSN, Cluster: "nobody's"}); err == nil || !strings.Contains(err.Error(), "0 shards") {
		t.Errorf("open: %v, want an error that says that the cluster has no shards", err)
	}
}
