// Command mete runs the revenue-share billing and metering service: it takes events
// in, closes months, makes statements, plans and settles payouts.
//
// This package wires: it is the only one that names drivers. It decides nothing
// about money. Read [run] first, then one command's file.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
	_ "time/tzdata" // zones travel with the binary

	"golang.org/x/term"
)

// The exit codes, the same for every command.
const (
	exitOK       = 0
	exitFound    = 1 // the command ran and found something wrong: a difference, a refusal, a failed scenario
	exitUsage    = 2 // the command line, a file or a document is wrong
	exitInternal = 3 // something else failed; nothing was half done
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cwd, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mete:", err)
		os.Exit(exitInternal)
	}
	e := &env{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, cwd: cwd, now: time.Now,
		terminal: term.IsTerminal(int(os.Stderr.Fd())), getenv: os.Getenv,
	}
	os.Exit(run(ctx, e, os.Args[1:]))
}

// env is what a command touches of the world outside: streams, folder, clock.
type env struct {
	in       io.Reader
	out, err io.Writer
	cwd      string
	now      func() time.Time
	terminal bool // progress may be drawn on err
	getenv   func(string) string
	args     []string
	app      *app // the open data folder when the command runs inside a server
	json     bool
	as       string
	dir      string
}

// run runs one command line and returns its exit code.
func run(ctx context.Context, e *env, args []string) int {
	if fixed := e.getenv("METE_NOW"); fixed != "" && e.app == nil {
		t, err := time.Parse(time.RFC3339, fixed)
		if err != nil {
			fmt.Fprintf(e.err, "mete: METE_NOW=%q: want a time such as 2026-10-04T09:00:00Z\n", fixed)
			return exitUsage
		}
		e.now = func() time.Time { return t }
	}
	e.args = args
	root := newRoot(e)
	root.SetArgs(args)
	root.SetIn(e.in)
	root.SetOut(e.out)
	root.SetErr(e.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitInternal
	var ec exitError
	switch {
	case errors.As(err, &ec):
		code = ec.code
	case ctx.Err() != nil:
		err = fmt.Errorf("stopped; nothing is half done, run it again to go on: %w", err)
	}
	if !ec.printed {
		fmt.Fprintln(e.err, "mete:", err)
	}
	return code
}

// exitError is an error with an exit code. Printed says that the person has seen
// what it is about.
type exitError struct {
	code    int
	err     error
	printed bool
}

func (e exitError) Error() string {
	if e.err == nil {
		return "found something wrong"
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// usageError marks what the person who typed can mend.
func usageError(err error) error {
	if err == nil {
		return nil
	}
	return exitError{code: exitUsage, err: err}
}

// found is returned when the command printed what is wrong.
var found = exitError{code: exitFound, printed: true}
