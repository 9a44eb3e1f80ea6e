// Command tally reads what go test -json prints and shows what a person wants
// of it: a line per package, the output of what failed, what was skipped and
// why, the slowest tests. With -counts it writes the sums to a file.
//
//	go test -json ./... | go run ./internal/tally -counts FILE
//
// It ends with status 1 when a test failed, or when none ran. It knows no
// package of the product. Read [tally.add] first.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

const (
	maxLine = 16 << 20 // of one event; longer output is split by go test
	slowest = 5
	slow    = 2.0 // seconds; faster tests are not worth a line
)

func main() {
	counts := flag.String("counts", "", "write `passed failed skipped` to this file")
	flag.Parse()
	t := newTally(os.Stdout)
	err := t.read(os.Stdin)
	t.summary()
	if err == nil && *counts != "" {
		err = os.WriteFile(*counts, fmt.Appendf(nil, "%d %d %d\n", t.passed, t.failed, len(t.skipped)), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(2)
	}
	if t.failed > 0 || t.passed == 0 {
		os.Exit(1)
	}
}

// event is a line of go test -json; see go doc test2json.
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

type test struct{ pkg, name string }

type timing struct {
	test
	seconds float64
}

type tally struct {
	to       io.Writer
	passed   int
	failed   int
	skipped  []string
	timings  []timing
	output   map[test][]string
	inFailed map[string]int // package → failed tests
}

func newTally(to io.Writer) *tally {
	return &tally{to: to, output: map[test][]string{}, inFailed: map[string]int{}}
}

func (t *tally) read(from io.Reader) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(t.to, lines.Text()) // go's own words, not an event
			continue
		}
		t.add(e)
	}
	return lines.Err()
}

func (t *tally) add(e event) {
	key := test{e.Package, e.Test}
	switch e.Action {
	case "output":
		t.output[key] = append(t.output[key], e.Output)
	case "build-output":
		fmt.Fprint(t.to, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			t.ended(e)
		} else {
			t.count(key, e)
		}
		delete(t.output, key)
	}
}

func (t *tally) count(key test, e event) {
	switch e.Action {
	case "pass":
		t.passed++
	case "skip":
		t.skipped = append(t.skipped, fmt.Sprintf("%s %s: %s", key.pkg, key.name, reason(t.output[key])))
	case "fail":
		t.failed++
		t.inFailed[key.pkg]++
		fmt.Fprintf(t.to, "FAILED  %s %s\n%s", key.pkg, key.name, strings.Join(t.output[key], ""))
	}
	if !strings.Contains(key.name, "/") {
		t.timings = append(t.timings, timing{key, e.Elapsed})
	}
}

// ended is a package's end. One that failed without a failed test (it does not
// build, panicked, ran out of time) counts as one failure.
func (t *tally) ended(e event) {
	switch e.Action {
	case "skip":
		return // no test files
	case "fail":
		if t.inFailed[e.Package] == 0 {
			t.failed++
			for key, out := range t.output {
				if key.pkg == e.Package {
					fmt.Fprintf(t.to, "FAILED  %s %s\n%s", key.pkg, key.name, strings.Join(out, ""))
				}
			}
		}
		fmt.Fprintf(t.to, "  FAIL  %-36s %7.1fs\n", e.Package, e.Elapsed)
	default:
		fmt.Fprintf(t.to, "  ok    %-36s %7.1fs\n", e.Package, e.Elapsed)
	}
}

// reason picks what the test said when it skipped.
func reason(output []string) string {
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			return line
		}
	}
	return "no reason given"
}

func (t *tally) summary() {
	slices.SortStableFunc(t.timings, func(a, b timing) int { return cmp.Compare(b.seconds, a.seconds) })
	for _, x := range t.timings[:min(slowest, len(t.timings))] {
		if x.seconds >= slow {
			fmt.Fprintf(t.to, "  slow  %-36s %7.1fs  %s\n", x.pkg, x.seconds, x.name)
		}
	}
	for _, s := range t.skipped {
		fmt.Fprintln(t.to, "  SKIP ", s)
	}
}
