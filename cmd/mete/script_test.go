package main

import (
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptFolder holds the specification of the command line: each script is what people
// type and what they must see. TestScripts runs them all; under the race detector, which
// makes a command start ten times slower, those in which much goes on at once. Every
// script begins with the documents of testdata/world in the folder world, an empty data
// folder and the clock at 2026-10-02.
//
//	world         apply world, approve and accept its contract
//	json FILE     the file holds JSON
//	code N ARGS   mete with ARGS must end with exit code N
//	post OWNER PATH FILE N   post the file to the service; the answer must have status N
//	serving       wait until the data folder is served
//	sql DB TEXT   run a statement in a SQLite file, as no command of mete would
//	keep NAME RE  put what RE finds in the last output into the variable NAME
//	sha256 NAME FILE   put the file's SHA-256 into the variable NAME
//
// A line that begins with [!clickhouse] is left out over a ClickHouse store, see
// [TestScriptsOnClickHouse].
var scriptFolder = filepath.Join("testdata", "script")

// scripts say what the scripts begin with and may do.
func scripts() testscript.Params {
	return testscript.Params{
		Setup: func(e *testscript.Env) error {
			e.Setenv("METE_DIR", filepath.Join(e.WorkDir, "data"))
			e.Setenv("METE_NOW", "2026-10-02T15:00:00Z")
			return os.CopyFS(filepath.Join(e.WorkDir, "world"), os.DirFS(filepath.Join("testdata", "world")))
		},
		Condition: func(name string) (bool, error) {
			if name != "clickhouse" {
				return false, fmt.Errorf("no such condition: %s", name)
			}
			return false, nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code":    scriptCode,
			"json":    scriptJSON,
			"keep":    scriptKeep,
			"post":    scriptPost,
			"serving": scriptServing,
			"sha256":  scriptSHA256,
			"sql":     scriptSQL,
			"world":   scriptWorld,
		},
	}
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

func scriptSHA256(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], fmt.Sprintf("%x", sha256.Sum256([]byte(ts.ReadFile(args[1])))))
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

// scriptPost posts a file to the running service with an owner's token, and wants a
// status; the answer is what an exec would have printed.
func scriptPost(ts *testscript.TestScript, _ bool, args []string) {
	owner, path, file, want := args[0], args[1], args[2], args[3]
	o, err := readOwner(ts.Getenv("METE_DIR"))
	ts.Check(err)
	tokens := map[string]string{}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(filepath.Join(ts.Getenv("METE_DIR"), credentialsName))), &tokens))
	r, err := http.NewRequest(http.MethodPost, "http://"+o.Address+path, strings.NewReader(ts.ReadFile(file)))
	ts.Check(err)
	r.Header.Set("Authorization", "Bearer "+tokens[owner])
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	if fmt.Sprint(res.StatusCode) != want {
		ts.Fatalf("%s: %s, want %s: %s", path, res.Status, want, body)
	}
	fmt.Fprintf(ts.Stdout(), "%s", body)
}

func scriptSQL(ts *testscript.TestScript, neg bool, args []string) {
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	defer db.Close()
	if _, err = db.Exec(args[1]); neg == (err == nil) {
		ts.Fatalf("%s: %v", args[1], err)
	}
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
