package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

const exitCodes = `Exit codes: 0 done · 1 found something wrong (a difference, a refusal, a failed
scenario) · 2 the command line, a file or a document is wrong · 3 something failed`

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "mete",
		Short: "Revenue-share billing and metering for app marketplaces",
		Long: `mete meters usage of a marketplace's apps, prices it under each partner's
contract, keeps the books, and makes monthly statements and payouts.

` + exitCodes,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	group(root)
	root.Args = cobra.ArbitraryArgs
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(err) })
	f := root.PersistentFlags()
	f.StringVar(&e.dir, "dir", defaultDir(e), "data folder (or METE_DIR)")
	f.BoolVar(&e.json, "json", false, "print JSON instead of text")
	f.StringVar(&e.as, "as", e.getenv("METE_AS"), "who acts; stored as unauthenticated (or METE_AS)")
	root.AddCommand(
		demoCommand(e), serveCommand(e), ingestCommand(e), applyCommand(e), schemaCommand(e), contractCommand(e),
		usageCommand(e), eventCommand(e), quarantineCommand(e), testCommand(e),
		closeCommand(e), statementCommand(e), explainCommand(e), adjustCommand(e), receiptsCommand(e),
		verifyCommand(e), reconcileCommand(e), payoutCommand(e), ledgerCommand(e), statusCommand(e),
	)
	root.CompletionOptions.HiddenDefaultCmd = true
	for _, c := range root.Commands() {
		if c.HasSubCommands() {
			group(c)
		}
	}
	return root
}

// group makes a command that only holds others refuse a word that is none of them;
// cobra would show its help and call that done.
func group(c *cobra.Command) {
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		err := fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or "))
		}
		return usageError(err)
	}
}

func defaultDir(e *env) string {
	if d := e.getenv("METE_DIR"); d != "" {
		return d
	}
	return "mete-data"
}

// command makes a command that runs on an open data folder: this process's, or the
// server's that owns it.
func command(e *env, use, short, example string, args cobra.PositionalArgs, fn func(ctx context.Context, a *app, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Example: indent(example), Args: positional(args),
		RunE: func(c *cobra.Command, args []string) error {
			return e.withApp(c, func(ctx context.Context, a *app) error { return fn(ctx, a, args) })
		},
	}
}

func positional(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usageError(fmt.Errorf("%w\nusage: %s\nexample:\n%s", err, c.UseLine(), c.Example))
		}
		return nil
	}
}

func indent(s string) string { return "  " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ") }

// withApp runs fn on the open folder. When a server owns the folder the whole
// command line goes there.
func (e *env) withApp(c *cobra.Command, fn func(ctx context.Context, a *app) error) error {
	ctx := c.Context()
	if e.app != nil {
		return fn(ctx, e.app)
	}
	a, o, err := openApp(ctx, e, options{})
	if errors.Is(err, errOwned) && o.Address != "" {
		code, err := callServer(ctx, e, o, e.args)
		if err != nil {
			return err
		}
		if code != exitOK {
			return exitError{code: code, printed: true}
		}
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(fn(ctx, a), a.close())
}

// path resolves a file name where the person typed it.
func (e *env) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(e.cwd, name)
}

// open opens a file to read, or standard input for "-".
func (e *env) open(name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(e.in), 0, nil
	}
	f, err := os.Open(e.path(name))
	if err != nil {
		return nil, 0, usageError(err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// actor is who acts. A decision without a name is refused.
func (e *env) actor() (string, error) {
	if e.as == "" {
		return "", usageError(errors.New("who are you? name yourself with --as NAME or METE_AS; it is stored with what you do, marked unauthenticated"))
	}
	return e.as, nil
}

// print writes v as JSON when asked for, else what text writes.
func (e *env) print(v any, text func(w io.Writer) error) error {
	if !e.json {
		return text(e.out)
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = e.out.Write(append(b, '\n'))
	return err
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
