package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mete/billing"
	"mete/cmd/mete/demo"
	"mete/payouts"
	"mete/period"
)

func demoCommand(e *env) *cobra.Command {
	var dir string
	var seed uint64
	var serve bool
	c := &cobra.Command{
		Use: "demo", Short: "Three months of a made-up marketplace, from gateway log to paid partners",
		Example: "  mete demo\n  mete demo --serve", Args: positional(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if dir == "" {
				var err error
				if dir, err = os.MkdirTemp("", "mete-demo-"); err != nil {
					return err
				}
			} else {
				dir = e.path(dir)
				if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
					return usageError(fmt.Errorf("--dir %s is not empty: the demonstration begins in a new folder", dir))
				}
			}
			return runDemo(c.Context(), e, dir, seed, serve)
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "folder to make it in (default: a new temporary one)")
	c.Flags().Uint64Var(&seed, "seed", 1, "seed; the same seed gives the same statements")
	c.Flags().BoolVar(&serve, "serve", false, "keep it running afterwards")
	return c
}

// The people of the demonstration. Who closes does not issue, who plans does not
// approve.
const (
	demoLegal    = "k.lee"
	demoSecond   = "r.shah"
	demoFinance  = "m.ortiz"
	demoApprover = "a.chen"
)

// show is the demonstration while it runs: commands as people type them, on a clock
// that it sets.
type show struct {
	e     *env
	app   *app
	world *demo.World
	clock time.Time
	took  []string
	begun time.Time
}

func runDemo(ctx context.Context, e *env, dir string, seed uint64, serve bool) (err error) {
	s := &show{e: e, begun: time.Now(), clock: time.Date(2026, 6, 15, 9, 0, 0, 0, time.UTC)}
	fmt.Fprintf(e.out, "A marketplace of 12 partners, 20 apps and 60 practices, made from seed %d in %s\n\n", seed, dir)
	if s.world, err = demo.Make(filepath.Join(dir, "world"), seed); err != nil {
		return err
	}
	s.lap("made the world")
	sub := *e
	sub.dir, sub.now = filepath.Join(dir, "data"), func() time.Time { return s.clock }
	if s.app, _, err = openApp(ctx, &sub, options{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.app.close()) }()
	if err := s.contracts(ctx); err != nil {
		return err
	}
	for _, d := range s.world.Delivered {
		if err := s.month(ctx, d); err != nil {
			return fmt.Errorf("demo: %s: %w", d.Month, err)
		}
	}
	if err := s.pay(ctx); err != nil {
		return fmt.Errorf("demo: payout: %w", err)
	}
	ok, err := s.tell(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "\nTook %s (%s).\n", time.Since(s.begun).Round(100*time.Millisecond), strings.Join(s.took, ", "))
	if serve {
		return s.serve(ctx)
	}
	fmt.Fprintf(e.out, "Everything lies in %s; go on with: mete --dir %s statement list\n", dir, filepath.Join(dir, "data"))
	if !ok {
		return found
	}
	return nil
}

func (s *show) lap(what string) {
	var before time.Duration
	for _, t := range s.took {
		if _, d, ok := strings.Cut(t, " "); ok {
			x, _ := time.ParseDuration(d)
			before += x
		}
	}
	s.took = append(s.took, fmt.Sprintf("%s %s", strings.ReplaceAll(what, " ", "-"), (time.Since(s.begun)-before).Round(10*time.Millisecond)))
}

// do runs one command line as a person, and returns what it printed.
func (s *show) do(ctx context.Context, as string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	sub := *s.e
	sub.in, sub.out, sub.err, sub.app = strings.NewReader(""), &out, &errs, s.app
	sub.now, sub.as, sub.json = func() time.Time { return s.clock }, as, false
	if as != "" {
		args = append(args, "--as", as)
	}
	code := run(ctx, &sub, args)
	if code != exitOK && code != exitFound {
		return out.String(), fmt.Errorf("mete %s: exit code %d: %s", strings.Join(args, " "), code, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// contracts records the catalogue; every contract is approved by a second person and
// accepted by its partner.
func (s *show) contracts(ctx context.Context) error {
	if _, err := s.do(ctx, demoLegal, "apply", "-f", s.world.Catalogue); err != nil {
		return err
	}
	for _, c := range s.world.Contracts {
		if _, err := s.do(ctx, demoSecond, "contract", "approve", c); err != nil {
			return err
		}
		if _, err := s.do(ctx, demoLegal, "contract", "accept", c, "--by", "the partner's signer", "--on", "2026-06-18", "--evidence", "signed order form"); err != nil {
			return err
		}
	}
	s.lap("contracts")
	return nil
}

// at sets the clock to a day of the month after m, at nine in the morning, UTC.
func (s *show) at(m period.Month, day int) {
	next := m.Add(1)
	s.clock = time.Date(next.Year, next.Month, day, 15, 0, 0, 0, time.UTC)
}

// month takes a delivery in through the real ways, closes the month and issues its
// statements.
func (s *show) month(ctx context.Context, d demo.Delivery) error {
	s.at(d.Month, 2)
	for _, l := range d.Logs {
		if _, err := s.do(ctx, "", "ingest", l.File, "--gateway", l.Gateway); err != nil {
			return err
		}
	}
	if _, err := s.do(ctx, "", "ingest", d.Events, "--gateway", "cloudevents"); err != nil {
		return err
	}
	if err := s.post(ctx, d.Sales); err != nil {
		return err
	}
	if err := s.app.drain(ctx); err != nil {
		return err
	}
	s.lap("in:" + d.Month.String())
	s.at(d.Month, 5)
	if _, err := s.do(ctx, demoFinance, "close", d.Month.String()); err != nil {
		return err
	}
	s.at(d.Month, 9)
	if _, err := s.do(ctx, demoFinance, "receipts", "import", d.Receipts); err != nil {
		return err
	}
	if _, err := s.do(ctx, demoApprover, "statement", "issue", d.Month.String(), "--on", period.DateOf(s.clock, time.UTC).AddDays(1).String()); err != nil {
		return err
	}
	s.lap("close:" + d.Month.String())
	return nil
}

// post sends the sales over HTTP, as a billing system does, in batches.
func (s *show) post(ctx context.Context, file string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	token := newToken()
	srv := &http.Server{Handler: s.app.eventsHandler(map[string]string{"billing": token})}
	go srv.Serve(l)
	defer srv.Close()
	return demo.Post(ctx, "http://"+l.Addr().String()+"/v1/events", token, file)
}

// pay plans, approves and submits the payout of September's statements, and imports
// the bank's confirmation.
func (s *show) pay(ctx context.Context) error {
	last := s.world.Delivered[len(s.world.Delivered)-1].Month
	s.at(last, 18)
	on := period.Date{Year: last.Add(1).Year, Month: last.Add(1).Month, Day: 20}
	if _, err := s.do(ctx, demoFinance, "payout", "plan", on.String()); err != nil {
		return err
	}
	run, err := s.app.desk.Find(ctx, on.String())
	if err != nil {
		return err
	}
	for _, who := range []string{demoApprover, demoSecond}[:run.Needs()] {
		if _, err := s.do(ctx, who, "payout", "approve", on.String(), "--content", run.Short()); err != nil {
			return err
		}
	}
	s.at(last, 20)
	if _, err := s.do(ctx, demoApprover, "payout", "submit", on.String()); err != nil {
		return err
	}
	file, err := s.confirm(ctx, run, on)
	if err != nil {
		return err
	}
	s.at(last, 22)
	_, err = s.do(ctx, demoFinance, "payout", "settle", file)
	s.lap("paid")
	return err
}

// confirm writes the bank's confirmation as the bank would: everything paid two days
// later.
func (s *show) confirm(ctx context.Context, run payouts.Run, on period.Date) (string, error) {
	var b strings.Builder
	b.WriteString("payout,state,amount,currency,bank_date,bank_ref\n")
	ps, err := s.app.desk.Store.Payouts(ctx, payouts.PayoutFilter{Run: run.ID})
	if err != nil {
		return "", err
	}
	for i, p := range ps {
		fmt.Fprintf(&b, "%s,paid,%s,%s,%s,BANK-%04d\n", p.ID, p.Amount.Plain(), p.Amount.Currency, on.AddDays(1), i+1)
	}
	file := filepath.Join(s.world.Dir, "bank-confirmation.csv")
	return file, os.WriteFile(file, []byte(b.String()), 0o644)
}

// tell shows what happened, and reports whether everything adds up.
func (s *show) tell(ctx context.Context, dir string) (bool, error) {
	out := s.e.out
	last := s.world.Delivered[len(s.world.Delivered)-1].Month
	title := func(t string) {
		fmt.Fprintf(out, "\n── %s %s\n\n", t, strings.Repeat("─", max(0, 91-len([]rune(t)))))
	}
	title("What came in, by the senders' own books")
	if err := s.sent(out); err != nil {
		return false, err
	}
	title("What became of it: mete reconcile")
	rec, err := s.app.reconciler.Reconcile(ctx)
	if err != nil {
		return false, err
	}
	if err := writeReconciliation(out, rec); err != nil {
		return false, err
	}
	northwind := billing.NewStatementID("meridian-us", "northwind", "USD", last)
	for _, part := range []struct {
		title string
		args  []string
	}{
		{"One partner's month: mete statement show " + string(northwind), []string{"statement", "show", string(northwind)}},
		{"One line of it, down to its events: mete explain", []string{"explain", string(northwind), s.shareLine(ctx, northwind), "--events", "--limit", "5"}},
	} {
		title(part.title)
		text, err := s.do(ctx, "", part.args...)
		if err != nil {
			return false, err
		}
		fmt.Fprint(out, text)
	}
	title("What came late for a closed month: explained differences on the next statement")
	if err := s.late(ctx, out); err != nil {
		return false, err
	}
	title("The books: mete ledger balance")
	text, err := s.do(ctx, "", "ledger", "balance")
	if err != nil {
		return false, err
	}
	fmt.Fprint(out, text)
	title("The payout run, as its approver saw it: mete payout show")
	if text, err = s.do(ctx, "", "payout", "show", "2026-10-20"); err != nil {
		return false, err
	}
	fmt.Fprint(out, text)
	title("Checked")
	return s.check(ctx, out, rec)
}

// shareLine is the number of the statement's share line.
func (s *show) shareLine(ctx context.Context, id billing.StatementID) string {
	r, err := s.app.closer.Store.Statement(ctx, id)
	if err != nil {
		return "1"
	}
	for _, l := range r.Lines {
		if l.Part == "share" && l.Section == billing.Charges {
			return fmt.Sprint(l.Number)
		}
	}
	return "1"
}

func (s *show) sent(w io.Writer) error {
	var rows [][]string
	for _, d := range s.world.Delivered {
		n := d.Sent
		rows = append(rows, []string{d.Month.String(), groupInt(int64(n.Lines)), groupInt(int64(n.Duplicates)), groupInt(int64(n.Conflicts)),
			groupInt(int64(n.Late)), groupInt(int64(n.Unclean)), groupInt(int64(n.Unknown))})
	}
	return table(w, []string{"delivered after", "events sent", "sent again", "with other content", "late", "look like a patient", "unknown app"}, rows, 1, 2, 3, 4, 5, 6)
}

// late shows the corrections of closed months on all statements.
func (s *show) late(ctx context.Context, w io.Writer) error {
	rs, err := s.app.closer.Store.Statements(ctx, period.Month{}, "")
	if err != nil {
		return err
	}
	var rows [][]string
	for _, r := range rs {
		for _, l := range r.Lines {
			if l.Section == billing.Corrections && len(rows) < maxLateShown {
				rows = append(rows, []string{string(r.ID), fmt.Sprint(l.Number), l.Text, l.Posted.Grouped(), l.Recomputed.Grouped(), l.Amount.Grouped()})
			}
		}
	}
	return table(w, []string{"statement", "line", "", "posted then", "comes to now", "difference"}, rows, 1, 3, 4, 5)
}

// maxLateShown bounds the table of late differences.
const maxLateShown = 12

// check runs every checker and prints one line for each.
func (s *show) check(ctx context.Context, w io.Writer, rec billing.Reconciliation) (bool, error) {
	ok := true
	line := func(what string, findings int, detail string) {
		mark := "ok "
		if findings > 0 {
			mark, ok = "BAD", false
		}
		fmt.Fprintf(w, "  %s  %-46s difference %d%s\n", mark, what, findings, detail)
	}
	line("events = stored = priced = statements = postings", rec.Difference(), "")
	sum := sha256.New()
	for _, d := range s.world.Delivered {
		v, err := s.app.closer.Verify(ctx, d.Month)
		if err != nil {
			return false, err
		}
		line(d.Month.String()+" derived again from raw events", len(v.Findings), fmt.Sprintf("  (%d statements, %d lines)", v.Statements, v.Lines))
		for _, id := range sortedKeys(v.Digests) {
			fmt.Fprintln(sum, id, v.Digests[id])
		}
	}
	fs, err := s.app.store.Verify(ctx)
	if err != nil {
		return false, err
	}
	line("books: every entry balances, balances = postings", len(fs), "")
	wrong, err := s.app.events.Check(ctx)
	if err != nil {
		return false, err
	}
	line("metering store: rows = keys = tallies", len(wrong), "")
	s.lap("checked")
	fmt.Fprintf(w, "\n  digest of all statements %s\n", hex.EncodeToString(sum.Sum(nil)))
	return ok, nil
}

// serve keeps the demonstration's folder open for commands on this machine.
func (s *show) serve(ctx context.Context) error {
	fmt.Fprintln(s.e.out, "Serving; stop with Ctrl-C.")
	s.app.now = time.Now
	return s.app.serve(ctx, s.e, "127.0.0.1:0")
}
