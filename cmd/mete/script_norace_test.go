//go:build !race

package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestScripts(t *testing.T) {
	p := scripts()
	p.Dir = scriptFolder
	testscript.Run(t, p)
}
