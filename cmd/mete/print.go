package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
)

// print writes v as JSON when asked for, else what text writes.
func (e *env) print(v any, text func(w io.Writer) error) error {
	if !e.json {
		return text(e.out)
	}
	return writeJSON(e.out, v)
}

// writeJSON writes v as JSON; a list without anything in it is [], not null.
func writeJSON(w io.Writer, v any) error {
	if list := reflect.ValueOf(v); list.Kind() == reflect.Slice && list.IsNil() {
		v = []struct{}{}
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// say prints v as a sentence.
func (e *env) say(v any, format string, args ...any) error {
	return e.print(v, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, format+"\n", args...)
		return err
	})
}

// list prints v as a table, see [table].
func (e *env) list(v any, head []string, rows [][]string, right ...int) error {
	return e.print(v, func(w io.Writer) error { return table(w, head, rows, right...) })
}

// check prints what a check found; exit code 1 says that something is wrong.
func (e *env) check(wrong bool, v any, text func(w io.Writer) error) error {
	if err := e.print(v, text); err != nil || !wrong {
		return err
	}
	return found
}

// table writes rows in aligned columns; columns named in right are aligned to the
// right.
func table(w io.Writer, head []string, rows [][]string, right ...int) error {
	var b bytes.Buffer
	all := append([][]string{head}, rows...)
	widths := make([]int, len(head))
	for _, r := range all {
		for i, c := range r {
			widths[i] = max(widths[i], len([]rune(c)))
		}
	}
	isRight := map[int]bool{}
	for _, i := range right {
		isRight[i] = true
	}
	for _, r := range all {
		var line strings.Builder
		for i, c := range r {
			gap := strings.Repeat(" ", widths[i]-len([]rune(c)))
			if i > 0 {
				line.WriteString("  ")
			}
			if isRight[i] {
				line.WriteString(gap + c)
			} else {
				line.WriteString(c + gap)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := w.Write(b.Bytes())
	return err
}

// writeFile writes to the named file, or to standard output for "-".
func (e *env) writeFile(name string, write func(w io.Writer) error) error {
	if name == "-" {
		return write(e.out)
	}
	f, err := os.Create(e.path(name))
	if err != nil {
		return usageError(err)
	}
	return errors.Join(write(f), f.Close())
}

// things is a number of things for people: "1 contract", "2 contracts".
func things(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return groupInt(int64(n)) + " " + of + "s"
}
