package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

// TestScripts is the specification of the command line: each script is what people
// type and what they must see. Every script begins with the documents of testdata/world
// in the folder world, an empty data folder and the clock at 2026-10-02.
//
//	world         apply world, approve and accept its contract
//	json FILE     the file holds JSON
//	code N ARGS   mete with ARGS must end with exit code N
//	serving       wait until the data folder is served
//	keep NAME RE  put what RE finds in the last output into the variable NAME
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("METE_DIR", filepath.Join(e.WorkDir, "data"))
			e.Setenv("METE_NOW", "2026-10-02T15:00:00Z")
			return os.CopyFS(filepath.Join(e.WorkDir, "world"), os.DirFS(filepath.Join("testdata", "world")))
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code":    scriptCode,
			"json":    scriptJSON,
			"keep":    scriptKeep,
			"serving": scriptServing,
			"world":   scriptWorld,
		},
	})
}

func scriptCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("mete", args[1:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("mete %s: exit code %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

func scriptJSON(ts *testscript.TestScript, _ bool, args []string) {
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &v); err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
}

func scriptKeep(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("nothing like %s", args[1])
	}
	ts.Setenv(args[0], m[len(m)-1])
}

func scriptServing(ts *testscript.TestScript, _ bool, _ []string) {
	for range 600 {
		if o, err := readOwner(ts.Getenv("METE_DIR")); err == nil && o.Address != "" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("nobody serves %s", ts.Getenv("METE_DIR"))
}

func scriptWorld(ts *testscript.TestScript, _ bool, _ []string) {
	for _, line := range []string{
		"apply -f world --as k.lee",
		"contract approve northwind-agreement --as r.shah",
		"contract accept northwind-agreement --by signer --evidence order-form-118 --as k.lee",
	} {
		ts.Check(ts.Exec("mete", strings.Fields(line)...))
	}
}

// TestEveryCommandHasAnExample walks all commands: each that runs shows examples that
// begin with its own words, and says what it does.
func TestEveryCommandHasAnExample(t *testing.T) {
	n := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.Short == "" {
			t.Errorf("%s does not say what it does", c.CommandPath())
		}
		if !c.Runnable() || c.HasSubCommands() || c.Name() == "help" {
			return
		}
		n++
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s has no example: %q", c.CommandPath(), c.Example)
		}
		for line := range strings.Lines(c.Example) {
			// What stands before a pipe is not ours.
			_, line, _ = strings.Cut("| "+strings.TrimSpace(line), "| ")
			if _, after, ok := strings.Cut(line, "| "); ok {
				line = after
			}
			words := strings.Fields(line)
			if len(words) == 0 || words[0] != "mete" {
				t.Errorf("%s: %q is no command line of mete", c.CommandPath(), line)
				continue
			}
			for _, w := range words {
				if name, ok := strings.CutPrefix(w, "--"); ok && c.Flags().Lookup(name) == nil && c.InheritedFlags().Lookup(name) == nil {
					t.Errorf("%s: the example names --%s, which is no flag", c.CommandPath(), name)
				}
			}
		}
	}
	walk(newRoot(&env{getenv: func(string) string { return "" }}))
	t.Logf("%d commands with examples", n)
}
