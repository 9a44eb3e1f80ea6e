package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"mete/billing"
	"mete/money"
	"mete/partner"
	"mete/pricing/scenario"
)

func testCommand(e *env) *cobra.Command {
	var coverage bool
	var under, junit string
	c := &cobra.Command{
		Use: "test DIR", Short: "Run scenario files on contracts: the same runner that tests mete", Args: positional,
		Example: "  mete test contracts/\n  mete test contracts/ --coverage --fail-under 90%\n  mete test contracts/ --junit report.xml",
		RunE: func(c *cobra.Command, args []string) error {
			least, err := percentFlag("--fail-under", under)
			if err != nil {
				return err
			}
			r, err := untilStopped(c.Context(), func() (scenario.Report, error) { return scenario.Run(e.path(args[0]), scenarioBooks) })
			switch {
			case c.Context().Err() != nil:
				return c.Context().Err()
			case err != nil:
				return usageError(err)
			}
			r = r.From(e.cwd)
			if junit != "" {
				if err := e.writeFile(junit, r.WriteJUnit); err != nil {
					return err
				}
			}
			write := func(w io.Writer) error { return writeTest(w, r, coverage, least) }
			if junit == "-" {
				write = func(io.Writer) error { return nil }
			}
			return e.check(!r.OK() || short(r, least), r, write)
		},
	}
	f := c.Flags()
	f.BoolVar(&coverage, "coverage", false, "list every rule, step, band and refund of the contracts, and which scenario tries it")
	f.StringVar(&under, "fail-under", "", "fail when scenarios try less of the contracts, such as 90%")
	f.StringVar(&junit, "junit", "", "also write a JUnit report to this file; - prints it instead of the text")
	return c
}

// untilStopped runs scenarios until they end or the context does. Pricing knows no
// context: what is stopped is left behind.
func untilStopped[T any](ctx context.Context, run func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := run()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// scenarioBooks are books of one scenario: what a close would post, with the reserve of
// earlier months.
func scenarioBooks() scenario.Books {
	type account struct {
		party    partner.ID
		currency money.Currency
	}
	open := map[account][]billing.Layer{}
	return func(m scenario.PartyMonth) ([]scenario.Posting, error) {
		a := account{m.Party, m.Currency}
		s, err := imagined(m, open[a]).Statement()
		if err != nil {
			return nil, err
		}
		open[a] = s.Layers
		entries, err := s.Entries()
		if err != nil {
			return nil, err
		}
		var out []scenario.Posting
		for _, e := range entries {
			for _, p := range e.Postings {
				out = append(out, scenario.Posting{Account: string(p.Account), Amount: p.Amount})
			}
		}
		return out, nil
	}
}

// imagined is a scenario's month as billing takes it, with the reserve of earlier ones.
func imagined(m scenario.PartyMonth, open []billing.Layer) billing.Imagined {
	i := billing.Imagined{Partner: m.Party, Currency: m.Currency, Month: m.Month, Lines: m.Lines, InForce: m.InForce, Open: open}
	for _, l := range m.Late {
		i.Late = append(i.Late, billing.ImaginedLate(l))
	}
	return i
}

// percentFlag reads a whole percentage; nothing is 0.
func percentFlag(name, text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
	if err != nil || n < 0 || n > 100 {
		return 0, usageError(fmt.Errorf("%s %q: want a percentage from 0 to 100, such as 90%%", name, text))
	}
	return n, nil
}

// short reports whether the scenarios try less of the contracts than is asked for.
func short(r scenario.Report, least int) bool {
	return least > 0 && (r.Coverage.Percent() < least || r.Coverage.Unread() > 0)
}

func writeTest(w io.Writer, r scenario.Report, coverage bool, least int) error {
	text := r.String()
	if coverage {
		text = r.Coverage.String() + "\n" + text
	}
	if short(r, least) {
		text += fmt.Sprintf("under %d%%: mete test --coverage shows what no scenario tries\n", least)
	}
	_, err := io.WriteString(w, text)
	return err
}
