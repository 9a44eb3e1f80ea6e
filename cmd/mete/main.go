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
	"slices"
	"syscall"
	"time"
	_ "time/tzdata" // zones travel with the binary

	"golang.org/x/term"

	"mete/billing"
	"mete/catalogue"
	"mete/payouts"
)

// The exit codes, the same for every command.
const (
	exitOK       = 0
	exitFound    = 1 // the command ran and found something wrong: a difference, a refusal, a failed scenario
	exitUsage    = 2 // the command line, a file or a document is wrong, or the step is not allowed now
	exitInternal = 3 // something else failed, or the command was stopped; nothing was half done
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
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
	config   string // named by the person; else the one in dir
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
	case errors.As(err, &ec) && (ec.printed || ec.code == exitInternal):
		code = ec.code
	case ctx.Err() != nil:
		err = stopped(err)
	case ec.code != exitOK:
		code = ec.code
	case isMendable(err):
		code = exitUsage
	}
	if !ec.printed {
		fmt.Fprintln(e.err, "mete:", err)
	}
	return code
}

// stopped says what Ctrl-C leaves behind.
func stopped(err error) error {
	const text = "stopped; nothing is half done, run it again to go on"
	if errors.Is(err, context.Canceled) {
		return errors.New(text)
	}
	return fmt.Errorf(text+" (%w)", err)
}

// mendable are the errors of the stages that the person can mend.
var mendable = []error{
	billing.ErrState, billing.ErrNotFound, billing.ErrConflict,
	catalogue.ErrNoMarketplace, catalogue.ErrRefused, catalogue.ErrUnknown,
	payouts.ErrNotFound, payouts.ErrState, payouts.ErrContent, payouts.ErrApproval, payouts.ErrShort, payouts.ErrConflict,
}

func isMendable(err error) bool {
	return slices.ContainsFunc(mendable, func(m error) bool { return errors.Is(err, m) })
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
