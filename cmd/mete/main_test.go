package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// childMark makes the test binary behave as mete: tests that kill a process start
// themselves again.
const childMark = "METE_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childMark) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){"mete": main})
}

// desk runs command lines in this process, as one person after the other types them.
type desk struct {
	t    testing.TB
	dir  string // of the data
	now  string
	dsn  string // of books in PostgreSQL
	held *app   // the folder while it is held open
}

// answer is what a command line printed.
type answer struct {
	code      int
	out, errs string
}

func (d *desk) run(args ...string) answer {
	d.t.Helper()
	var out, errs bytes.Buffer
	e := &env{in: strings.NewReader(""), out: &out, err: &errs, cwd: d.t.TempDir(), now: time.Now, getenv: func(name string) string {
		return map[string]string{"METE_NOW": d.now, "METE_DIR": d.dir, "METE_POSTGRES_DSN": d.dsn}[name]
	}}
	if d.held != nil {
		e.app, e.now = d.held, d.clock
	}
	code := run(context.Background(), e, args)
	return answer{code, out.String(), errs.String()}
}

func (d *desk) clock() time.Time {
	d.t.Helper()
	at, err := time.Parse(time.RFC3339, d.now)
	if err != nil {
		d.t.Fatal(err)
	}
	return at
}

// hold keeps the folder open between commands, as a server does, until the function
// it returns is called.
func (d *desk) hold() (let func()) {
	d.t.Helper()
	a, _, err := openApp(context.Background(), &env{dir: d.dir, cwd: d.dir, now: d.clock, err: io.Discard, getenv: func(string) string { return "" }}, options{begin: true})
	if err != nil {
		d.t.Fatal(err)
	}
	d.held = a
	return func() {
		d.held = nil
		if err := a.close(); err != nil {
			d.t.Error(err)
		}
	}
}

// want runs a command line that must end with the exit code.
func (d *desk) want(code int, args ...string) answer {
	d.t.Helper()
	a := d.run(args...)
	if a.code != code {
		d.t.Fatalf("mete %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), a.code, code, a.out, a.errs)
	}
	return a
}

// read runs a command line with --json and decodes what it prints.
func (d *desk) read(v any, args ...string) {
	d.t.Helper()
	a := d.want(exitOK, append(args, "--json")...)
	if err := json.Unmarshal([]byte(a.out), v); err != nil {
		d.t.Fatalf("mete %s --json: %v\n%s", strings.Join(args, " "), err, a.out)
	}
}

// folder writes files into a new folder.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
