// Package migrations holds the schemas of the relational store and of the metering
// store on ClickHouse, one numbered file per step and engine, embedded in the binary.
// Steps only go forward and are never edited once released. It refuses to know what the
// tables mean.
package migrations

import "embed"

// SQLite holds relational/sqlite/NNNN_name.sql.
//
//go:embed relational/sqlite/*.sql
var SQLite embed.FS

// Postgres holds relational/postgres/NNNN_name.sql, the same steps.
//
//go:embed relational/postgres/*.sql
var Postgres embed.FS

// ClickHouse holds clickhouse/NNNN_name.sql, templates that metering/clickhouse fills in
// for a server or a cluster.
//
//go:embed clickhouse/*.sql
var ClickHouse embed.FS
