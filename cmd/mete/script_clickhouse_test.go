//go:build !race

package main

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"mete/internal/chtest"
)

// TestScriptsOnClickHouse is what people type around events, and a whole month from
// closing to reconciling, over a metering store on ClickHouse: the same commands must
// say the same.
func TestScriptsOnClickHouse(t *testing.T) {
	p := scripts()
	names := []string{"compare", "events", "late", "month", "quarantine", "redact", "sources", "usage"}
	stores := make(chan string, len(names))
	for _, name := range names {
		p.Files = append(p.Files, filepath.Join("testdata", "script", name+".txt"))
		stores <- chtest.New(t)
	}
	setup := p.Setup
	p.Setup = func(e *testscript.Env) error {
		e.Setenv("METE_CLICKHOUSE_DSN", <-stores)
		return setup(e)
	}
	p.Condition = func(name string) (bool, error) { return name == "clickhouse", nil }
	testscript.Run(t, p)
}
