// Package testdata finds what tests need and the repository does not hold:
// sample data from elsewhere, and engines installed on the machine. What is
// missing skips a test with one line that says so; with CI=true it fails.
//
// It knows no package of the product. Read [Dir] first.
package testdata

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Dir is the folder of external test data: METE_TESTDATA, by default ../shared
// beside the module root. Without it the test is skipped, or fails with CI=true.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := dir(os.Getenv("METE_TESTDATA"), ModuleRoot(t))
	if err != nil {
		Missing(t, "external test data", fmt.Sprintf("%v; point METE_TESTDATA at it", err))
	}
	return dir
}

func dir(set, root string) (string, error) {
	if set == "" {
		set = filepath.Join("..", "shared")
	}
	if !filepath.IsAbs(set) {
		set = filepath.Join(root, set)
	}
	info, err := os.Stat(set)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is not a folder", set)
	}
	return set, nil
}

// Missing ends the test because the machine lacks something: skipped, with one
// line naming it and the remedy; failed when CI=true.
func Missing(t testing.TB, what, remedy string) {
	t.Helper()
	if Required() {
		t.Fatalf("MISSING %s (CI=true allows no skip): %s", what, remedy)
	}
	t.Skipf("SKIPPED, MISSING %s: %s", what, remedy)
}

// Required reports whether a missing engine or data set is a failure.
func Required() bool { return os.Getenv("CI") == "true" }

// ModuleRoot is the folder of go.mod, found upward from where the test runs.
func ModuleRoot(t testing.TB) string {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	root, err := moduleRoot(here)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func moduleRoot(from string) (string, error) {
	for dir := from; ; dir = filepath.Dir(dir) {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod in %s or above", from)
		}
	}
}
