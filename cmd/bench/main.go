// Command bench measures how fast this machine does what mete does, and prints
// each number beside the limit it runs against or a peer doing the same work.
//
//	./bench                  lists the benchmarks
//	./bench fsync ledger     runs these; all runs every one
//	./bench --json fsync     one JSON object a line, the machine first
//	./bench --long dedup     also what takes long: many minutes, tens of gigabytes
//
// A benchmark is a file bench_NAME.go and one line in [benchmarks]. It measures
// with its own clock and emits results; it prints nothing itself. A number
// without a limit or a peer says little: give one where there is one.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"
)

type benchmark struct {
	name string
	what string // one line
	run  func(ctx context.Context, long bool, emit func(Result)) error
}

// benchmarks in the order of the river.
func benchmarks() []benchmark {
	return []benchmark{
		{"fsync", "what the disk allows: 8 KiB writes made durable one after the other", benchFsync},
		{"ingest", "events from HTTP into the stream, and from there into either metering store", benchIngest},
		{"dedup", "events counted once when stored, beside counting once when asked", benchDedup},
		{"keys", "what it costs to find out whether an event was stored before", benchKeys},
		{"visible", "from an event's sending to the first answer that covers it, at 20,000 events a second", benchVisible},
		{"memory", "what a worker holds while backlogs of two sizes are drained", benchMemory},
		{"phi", "the price of the PHI guard", benchPHI},
		{"pricing", "priced lines a second on one core, beside exact fractions", benchPricing},
		{"simulate", "a year of events priced again under other terms for every partner, and its months closed", benchSimulate},
		{"ledger", "entries booked a second on SQLite and PostgreSQL, one by one and together", benchLedger},
	}
}

// Result is one measured number.
type Result struct {
	Name   string  // what was measured: lower case, words apart by spaces
	Value  float64 // in Unit
	Unit   string  // "/s", "ms", "MB", …
	Limit  Limit   // what it runs against, if anything
	Allocs float64 // per operation, if counted
	Note   string  // what a reader must know to repeat or believe it
}

// Limit is a measured bound, or a peer doing the same work, in the same unit.
type Limit struct {
	Name  string
	Value float64
}

// Ratio is the value as a part of its limit; 0 without one.
func (r Result) Ratio() float64 {
	if r.Limit.Value == 0 {
		return 0
	}
	return r.Value / r.Limit.Value
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := error(nil)
	if len(os.Args) > 1 && os.Args[1] == workerCommand {
		err = runWorker(ctx, os.Args[2:], os.Stdout)
	} else {
		err = run(ctx, os.Args[1:], benchmarks(), os.Stdout)
	}
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, all []benchmark, to io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "print one JSON object a line")
	long := flags.Bool("long", false, "also measure what takes many minutes and tens of gigabytes of disk")
	var names []string
	for { // flags may follow names
		if err := flags.Parse(args); err != nil {
			return err
		}
		if flags.NArg() == 0 {
			break
		}
		names, args = append(names, flags.Arg(0)), flags.Args()[1:]
	}
	chosen, err := choose(all, names)
	if err != nil {
		return err
	}
	if len(chosen) == 0 {
		list(to, all)
		return nil
	}
	here := thisMachine(ctx)
	out := printer{to: to, json: *asJSON}
	out.machine(here)
	var failed []error
	for _, b := range chosen {
		out.begin(b)
		began := time.Now()
		if err := b.run(ctx, *long, func(r Result) { out.result(b, r) }); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", b.name, err))
		}
		out.end(b, time.Since(began))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(append(failed, out.err)...)
}

func choose(all []benchmark, names []string) ([]benchmark, error) {
	if slices.Equal(names, []string{"all"}) {
		return all, nil
	}
	var chosen []benchmark
	for _, name := range names {
		i := slices.IndexFunc(all, func(b benchmark) bool { return b.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no benchmark %q; ./bench lists them", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func list(to io.Writer, all []benchmark) {
	for _, b := range all {
		fmt.Fprintf(to, "%-12s %s\n", b.name, b.what)
	}
	fmt.Fprintln(to, "\n./bench NAME... runs them, ./bench all every one; --json for machines, --long for what takes long")
}

// printer writes results for people, or for machines.
type printer struct {
	to   io.Writer
	json bool
	err  error // the first failed write
}

func (p *printer) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(p.to, format, args...); err != nil && p.err == nil {
		p.err = err
	}
}

func (p *printer) object(v any) {
	text, err := json.Marshal(v)
	if err != nil {
		if p.err == nil {
			p.err = err
		}
		return
	}
	p.printf("%s\n", text)
}

func (p *printer) machine(m machine) {
	if p.json {
		p.object(m)
		return
	}
	p.printf("%s, %d cores, %s · %s on %s · %s · commit %s · %s\n",
		m.CPU, m.Cores, m.Memory, m.Dir, m.Filesystem, m.Go, m.Commit, m.At.Format("2006-01-02 15:04 MST"))
}

func (p *printer) begin(b benchmark) {
	if !p.json {
		p.printf("\n%s: %s\n", b.name, b.what)
	}
}

func (p *printer) end(b benchmark, took time.Duration) {
	if !p.json {
		p.printf("  (%s took %.1fs)\n", b.name, took.Seconds())
	}
}

func (p *printer) result(b benchmark, r Result) {
	if p.json {
		p.object(struct {
			Benchmark string  `json:"benchmark"`
			Name      string  `json:"name"`
			Value     float64 `json:"value"`
			Unit      string  `json:"unit"`
			LimitName string  `json:"limit_name,omitempty"`
			Limit     float64 `json:"limit,omitempty"`
			Ratio     float64 `json:"ratio,omitempty"`
			Allocs    float64 `json:"allocs_per_op,omitempty"`
			Note      string  `json:"note,omitempty"`
		}{b.name, r.Name, r.Value, r.Unit, r.Limit.Name, r.Limit.Value, r.Ratio(), r.Allocs, r.Note})
		return
	}
	var more []string
	if r.Limit.Name != "" {
		more = append(more, fmt.Sprintf("%.2f × %s (%s %s)", r.Ratio(), r.Limit.Name, number(r.Limit.Value), r.Unit))
	}
	if r.Allocs > 0 {
		more = append(more, fmt.Sprintf("%.1f allocs/op", r.Allocs))
	}
	if r.Note != "" {
		more = append(more, r.Note)
	}
	p.printf("  %-40s %14s %-5s %s\n", r.Name, number(r.Value), r.Unit, strings.Join(more, " · "))
}

// number prints thousands apart, and decimals only where they say something.
func number(v float64) string {
	switch {
	case v < 0:
		return "-" + number(-v)
	case v < 10:
		return strconv.FormatFloat(v, 'f', 3, 64)
	case v < 1000:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
