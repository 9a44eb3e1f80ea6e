package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mete/billing"
	"mete/money"
)

// The groups of commands, as mete --help shows them.
const (
	groupBegin  = "begin"
	groupEvents = "events"
	groupMonths = "months"
	groupApps   = "apps"
	groupMoney  = "money"
	groupCheck  = "check"
)

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "mete",
		Short: "Revenue-share billing and metering for app marketplaces",
		Long: `mete meters usage of a marketplace's apps, prices it under each partner's
contract, keeps the books, and makes monthly statements and payouts.

To see it at work, run mete demo. To begin with documents of your own, look at
mete apply --help. Everything lies in one data folder.`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetUsageTemplate(usageTemplate)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpCommand())
	f := root.PersistentFlags()
	f.StringVar(&e.dir, "dir", defaultDir(e), "data folder (or METE_DIR)")
	f.BoolVar(&e.json, "json", false, "print JSON instead of text")
	f.StringVar(&e.config, "config", e.getenv("METE_CONFIG"), "configuration (or METE_CONFIG; else mete.yaml in the data folder)")
	f.StringVar(&e.as, "as", e.getenv("METE_AS"), "who acts; stored as unauthenticated (or METE_AS)")
	for _, g := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{groupBegin, "Begin:", []*cobra.Command{demoCommand(e), applyCommand(e), contractCommand(e), schemaCommand(e), testCommand(e)}},
		{groupEvents, "Events:", []*cobra.Command{ingestCommand(e), usageCommand(e), eventCommand(e), compareCommand(e), quarantineCommand(e), redactCommand(e)}},
		{groupMonths, "Months and statements:", []*cobra.Command{closeCommand(e), statementCommand(e), explainCommand(e), simulateCommand(e), adjustCommand(e), receiptsCommand(e), receivableCommand(e)}},
		{groupApps, "Quality of apps and partners:", []*cobra.Command{certificationCommand(e), scorecardCommand(e), appealCommand(e), placementCommand(e), partnerCommand(e)}},
		{groupMoney, "Payouts and books:", []*cobra.Command{payoutCommand(e), ledgerCommand(e)}},
		{groupCheck, "Run and check:", []*cobra.Command{serveCommand(e), workerCommand(e), statusCommand(e), reconcileCommand(e), verifyCommand(e), rebuildCommand(e), complianceCommand(e)}},
	} {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	group(root)
	for _, c := range root.Commands() {
		if c.HasSubCommands() {
			group(c)
		}
	}
	return root
}

// usageTemplate is what --help shows of every command below its description.
const usageTemplate = `Usage:
  {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND [flags]{{else}}{{.UseLine}}{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}{{$all := .Commands}}{{if not .Groups}}

Commands:{{range $all}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{end}}{{range $group := .Groups}}

{{.Title}}{{range $all}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Flags of every command:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}

Exit codes:
  0  done
  1  found something wrong: a difference, a refused event, a failed scenario
  2  the command line, a file or a document is wrong, or the step is not allowed now
  3  something else failed, or the command was stopped{{if .HasAvailableSubCommands}}

"{{.CommandPath}} COMMAND --help" tells more about a command.{{end}}
`

// version says which build this is and which arithmetic it prices with.
func version() string {
	v := "mete"
	if b, ok := debug.ReadBuildInfo(); ok {
		v += " " + b.Main.Version
	}
	return fmt.Sprintf("%s, engine %v", v, billing.Engine)
}

// group makes a command that only holds others refuse a word that is none of them;
// cobra would show its help and call that done.
func group(c *cobra.Command) {
	c.Args = cobra.ArbitraryArgs
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 && args[0] == "help" {
			return help(c, args[1:])
		}
		return help(c, args)
	}
}

// helpCommand is "mete help COMMAND", for those who look there.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND…]", Short: "Show what a command does", Hidden: true,
		Example: "  mete help close", Args: positional,
		RunE: func(c *cobra.Command, args []string) error { return help(c.Root(), args) },
	}
}

// help shows the help of the command below c that the words name.
func help(c *cobra.Command, words []string) error {
	c, rest, err := c.Find(words)
	if err != nil {
		return usageError(err)
	}
	if len(rest) == 0 || !c.HasSubCommands() {
		c.InitDefaultHelpFlag()
		return c.Help()
	}
	err = fmt.Errorf("unknown command %q for %q", rest[0], c.CommandPath())
	if near := c.SuggestionsFor(rest[0]); len(near) > 0 {
		return usageError(fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or ")))
	}
	return usageError(fmt.Errorf("%w; %s --help lists them", err, c.CommandPath()))
}

// flagError says what is wrong with a flag in words of people.
func flagError(c *cobra.Command, err error) error {
	var value *pflag.InvalidValueError
	var number *strconv.NumError
	if errors.As(err, &value) && errors.As(err, &number) {
		err = fmt.Errorf("--%s %q: want a whole number", value.GetFlag().Name, value.GetValue())
	}
	return usageError(fmt.Errorf("%w; %s --help lists the flags", err, c.CommandPath()))
}

func defaultDir(e *env) string {
	if d := e.getenv("METE_DIR"); d != "" {
		return d
	}
	return "mete-data"
}

// command makes a command that runs on an open data folder: this process's, or the
// server's that owns it.
func command(e *env, use, short, example string, fn func(ctx context.Context, a *app, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Example: indent(example), Args: positional,
		RunE: func(c *cobra.Command, args []string) error {
			return e.withApp(c.Context(), options{}, func(ctx context.Context, a *app) error { return fn(ctx, a, args) })
		},
	}
}

// act makes a command that is stored under the name of who runs it.
func act(e *env, use, short, example string, fn func(ctx context.Context, a *app, by string, args []string) error) *cobra.Command {
	c := command(e, use, short, example, func(ctx context.Context, a *app, args []string) error { return fn(ctx, a, e.as, args) })
	c.PreRunE = func(*cobra.Command, []string) error {
		_, err := e.actor()
		return err
	}
	return c
}

// positional holds arguments against the words of the command's use line: FILE must
// be there, [FILE] may, [FILE…] any number of times.
func positional(c *cobra.Command, args []string) error {
	least, most := 0, 0
	for _, word := range strings.Fields(c.Use)[1:] {
		switch {
		case strings.HasSuffix(word, "…]"):
			most += len(args)
		case strings.HasPrefix(word, "["):
			most++
		default:
			least++
			most++
		}
	}
	if least <= len(args) && len(args) <= most {
		return nil
	}
	got := "no argument"
	if len(args) > 0 {
		got = fmt.Sprintf("%q", args)
	}
	return usageError(fmt.Errorf("want %s, got %s\nexample:\n%s", c.UseLine(), got, c.Example))
}

// required makes a command ask for flags without which it means nothing.
func required(c *cobra.Command, names ...string) {
	before := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		for _, name := range names {
			if f := c.Flags().Lookup(name); f.Value.String() == "" {
				return usageError(fmt.Errorf("--%s is needed: %s\nexample:\n%s", name, f.Usage, c.Example))
			}
		}
		if before == nil {
			return nil
		}
		return before(c, args)
	}
}

func indent(s string) string { return "  " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ") }

// withApp runs fn on the open folder. When a server owns the folder the whole
// command line goes there.
func (e *env) withApp(ctx context.Context, o options, fn func(ctx context.Context, a *app) error) error {
	if e.app != nil {
		return fn(ctx, e.app)
	}
	a, owner, err := openApp(ctx, e, o)
	if errors.Is(err, errOwned) && owner.Address != "" {
		code, err := callServer(ctx, e, owner, e.args)
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

// actor is who acts. A decision without a name is refused.
func (e *env) actor() (string, error) {
	if e.as == "" {
		return "", usageError(errors.New("who are you? name yourself with --as NAME or METE_AS; it is stored with what you do, marked unauthenticated"))
	}
	return e.as, nil
}

// typed reads a word that a person typed. Name is its flag, empty for an argument.
func typed[T any](parse func(string) (T, error), name, word string) (T, error) {
	v, err := parse(word)
	if err != nil && name != "" {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return v, usageError(err)
}

// optional is typed for a flag that may be left out.
func optional[T any](parse func(string) (T, error), name, word string) (v T, err error) {
	if word == "" {
		return v, nil
	}
	return typed(parse, name, word)
}

// typedAmount reads --amount in --currency.
func typedAmount(amount, currency string) (money.Amount, error) {
	cur, err := typed(money.ParseCurrency, "--currency", currency)
	if err != nil {
		return money.Amount{}, err
	}
	return typed(func(s string) (money.Amount, error) { return money.Parse(s, cur) }, "--amount", amount)
}

// path resolves a file name where the person typed it.
func (e *env) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(e.cwd, name)
}

// open opens a file to read, or standard input for "-".
func (e *env) open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return untilDone(ctx, e.in), 0, nil
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

// untilDone reads until ctx ends, though a terminal may never answer.
func untilDone(ctx context.Context, in io.Reader) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, in)
		w.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	return r
}
