package testdata

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// recorder is a test that notes how it was ended.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper() {}
func (r *recorder) Skipf(format string, args ...any) {
	r.skipped = format
	runtime.Goexit()
}
func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = format
	runtime.Goexit()
}

func ended(f func(testing.TB)) *recorder {
	r, done := new(recorder), make(chan struct{})
	go func() { defer close(done); f(r) }()
	<-done
	return r
}

func TestMissingSkipsHereAndFailsInCI(t *testing.T) {
	missing := func(t testing.TB) { Missing(t, "an engine", "install it") }
	t.Setenv("CI", "")
	if r := ended(missing); r.skipped == "" || r.failed != "" {
		t.Errorf("without CI: %+v, want a skip", r)
	}
	t.Setenv("CI", "true")
	if r := ended(missing); r.failed == "" || r.skipped != "" {
		t.Errorf("with CI=true: %+v, want a failure", r)
	}
}

func TestDir(t *testing.T) {
	root := t.TempDir()
	module := filepath.Join(root, "module")
	for _, d := range []string{"module", "shared", "elsewhere"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ set, want string }{
		{"", filepath.Join(root, "shared")},
		{"../elsewhere", filepath.Join(root, "elsewhere")},
		{filepath.Join(root, "elsewhere"), filepath.Join(root, "elsewhere")},
	} {
		if got, err := dir(c.set, module); err != nil || got != c.want {
			t.Errorf("dir(%q) = %q, %v, want %q", c.set, got, err, c.want)
		}
	}
	if got, err := dir("../nowhere", module); err == nil {
		t.Errorf("a folder that does not exist was found: %q", got)
	}
}

func TestModuleRoot(t *testing.T) {
	root := ModuleRoot(t)
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil || !strings.HasPrefix(string(text), "module mete\n") {
		t.Errorf("module root %s: %v, go.mod starts with %.20q", root, err, text)
	}
	if got, err := moduleRoot("/"); err == nil {
		t.Errorf("a module root above /: %s", got)
	}
}
