// Package failpoint names the places in the code where a crash is worth
// testing, and lets a test crash or fail the program there.
//
//	const afterStatement failpoint.Point = "close.after-statement"
//	…
//	if err := afterStatement.Hit(); err != nil { return err }
//
// Armed by the environment at start and by nothing else:
//
//	METE_FAILPOINT="close.after-statement=kill@3;ledger.before-commit=error"
//	METE_FAILPOINT_LOG=hits.txt       one line per hit, read back by [Counts]
//
// A name takes an action and, optionally, the hit it happens at: the first by
// default, @N the N-th, @* every one.
//
//	kill           SIGKILL of the own process; nothing deferred runs
//	stop           SIGSTOP of the own process; it goes on when somebody wakes it
//	error          Hit returns an error that wraps [ErrInjected]
//	sleep:250ms    Hit waits, then goes on
//
// It knows no package of the product. Without the two variables a hit is one
// comparison. Which points exist is read from the source: see [Declared].
package failpoint

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Point is the name of a place: stage, dot, what has just happened or is about to.
type Point string

// ErrInjected is what an armed point returns.
var ErrInjected = errors.New("injected by METE_FAILPOINT")

// armed is set once from the environment; nil when nothing is asked for.
var armed, armedErr = read(os.Getenv("METE_FAILPOINT"), os.Getenv("METE_FAILPOINT_LOG"))

// Hit says that the program has come to the point. It returns nil unless the
// environment asked for something else here. A METE_FAILPOINT that cannot be
// read fails every hit: a crash test must not pass because of a typing error.
func (p Point) Hit() error {
	if armed == nil && armedErr == nil {
		return nil
	}
	if armedErr != nil {
		return armedErr
	}
	return armed.hit(p)
}

// Hit is p.Hit for a point used in one place, Hit("close.after-statement").
func Hit(p Point) error { return p.Hit() }

// Armed is what the environment asked for, for a line at start-up that says
// so; empty in ordinary life.
func Armed() string { return os.Getenv("METE_FAILPOINT") }

type verb int

const (
	kill verb = iota
	stop
	fail
	sleep
)

type action struct {
	verb  verb
	pause time.Duration
	at    int64 // the hit it happens at; 0 = every one
	hits  atomic.Int64
}

type plan struct {
	actions map[Point]*action
	log     *os.File
}

func read(spec, log string) (*plan, error) {
	if spec == "" && log == "" {
		return nil, nil
	}
	p := &plan{actions: map[Point]*action{}}
	for _, part := range strings.Split(spec, ";") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, a, err := parse(part)
		if err != nil {
			return nil, fmt.Errorf("METE_FAILPOINT %q: %w", part, err)
		}
		if p.actions[name] != nil {
			return nil, fmt.Errorf("METE_FAILPOINT names %s twice", name)
		}
		p.actions[name] = a
	}
	if log != "" {
		f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			return nil, fmt.Errorf("METE_FAILPOINT_LOG: %w", err)
		}
		p.log = f
	}
	return p, nil
}

func parse(part string) (Point, *action, error) {
	name, what, ok := strings.Cut(part, "=")
	if !ok || name == "" {
		return "", nil, errors.New("want name=action")
	}
	a := &action{at: 1}
	what, at, counted := strings.Cut(what, "@")
	if counted {
		n, err := strconv.ParseInt(at, 10, 64)
		switch {
		case at == "*":
			n = 0
		case err != nil || n < 1:
			return "", nil, fmt.Errorf("hit %q: want a number from 1, or *", at)
		}
		a.at = n
	}
	what, pause, paused := strings.Cut(what, ":")
	switch {
	case what == "kill" && !paused:
		a.verb = kill
	case what == "stop" && !paused:
		a.verb = stop
	case what == "error" && !paused:
		a.verb = fail
	case what == "sleep" && paused:
		d, err := time.ParseDuration(pause)
		if err != nil || d <= 0 {
			return "", nil, fmt.Errorf("sleep %q: want a duration such as 250ms", pause)
		}
		a.verb, a.pause = sleep, d
	default:
		return "", nil, fmt.Errorf("action %q: want kill, stop, error or sleep:DURATION", what)
	}
	return Point(name), a, nil
}

func (p *plan) hit(name Point) error {
	if p.log != nil {
		// One write in append mode: whole lines, whatever the processes that
		// share the file; kept by the kernel when this process is killed.
		if _, err := p.log.WriteString(string(name) + "\n"); err != nil {
			return fmt.Errorf("METE_FAILPOINT_LOG: %w", err)
		}
	}
	a := p.actions[name]
	if a == nil {
		return nil
	}
	if n := a.hits.Add(1); a.at != 0 && n != a.at {
		return nil
	}
	switch a.verb {
	case kill:
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			return fmt.Errorf("%s: kill: %w", name, err)
		}
		select {} // the signal is on its way; nothing after this point may run
	case stop:
		if err := stopHere(); err != nil {
			return fmt.Errorf("%s: stop: %w", name, err)
		}
		return nil
	case sleep:
		time.Sleep(a.pause)
		return nil
	default:
		return fmt.Errorf("%s: %w", name, ErrInjected)
	}
}

// Counts reads a METE_FAILPOINT_LOG: how often each point was hit, by all
// processes that wrote to it.
func Counts(log string) (map[Point]int, error) {
	f, err := os.Open(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	counts := map[Point]int{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		counts[Point(lines.Text())]++
	}
	return counts, lines.Err()
}
