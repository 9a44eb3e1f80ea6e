//go:build race

package main

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestScripts(t *testing.T) {
	p := scripts()
	for _, name := range []string{"month", "quarantine", "redact", "payouts", "serve", "follow", "sources", "logs"} {
		p.Files = append(p.Files, filepath.Join(scriptFolder, name+".txt"))
	}
	testscript.Run(t, p)
}
