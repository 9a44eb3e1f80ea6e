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
	"mete/metering/httpin"
	"mete/payouts"
	"mete/period"
)

func demoCommand(e *env) *cobra.Command {
	var dir string
	var seed uint64
	var serve bool
	c := &cobra.Command{
		Use: "demo", Short: "Three months of a made-up marketplace, from gateway log to paid partners",
		Example: "  mete demo\n  mete demo --serve", Args: positional,
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
	e      *env
	out    io.Writer // what is shown to people
	app    *app
	world  *demo.World
	tokens map[string]string // of the owners of sources
	clock  time.Time
	begun  time.Time
	laps   []string
	last   time.Time // when the last lap ended
	told   demoReport
}

// demoReport is what --json prints of a demonstration.
type demoReport struct {
	Seed           uint64                 `json:"seed"`
	Data           string                 `json:"data"` // the data folder it leaves
	Sent           []demoSent             `json:"sent"`
	Reconciliation billing.Reconciliation `json:"reconciliation"`
	Checks         []demoCheck            `json:"checks"`
	Digest         string                 `json:"digest"` // of all statements
}

type demoSent struct {
	Month period.Month `json:"month"`
	demo.Sent
}

type demoCheck struct {
	What       string `json:"what"`
	Difference int    `json:"difference"`
	Detail     string `json:"detail,omitempty"`
}

func runDemo(ctx context.Context, e *env, dir string, seed uint64, serve bool) error {
	now := time.Now()
	s := &show{e: e, out: e.out, begun: now, last: now, clock: time.Date(2026, 6, 15, 9, 0, 0, 0, time.UTC)}
	s.told = demoReport{Seed: seed, Data: filepath.Join(dir, "data")}
	if e.json {
		s.out = io.Discard
	}
	err := s.run(ctx, dir, serve)
	if ctx.Err() != nil && !serve {
		return exitError{code: exitInternal, err: fmt.Errorf("stopped; the demonstration in %s is not complete, begin another one", dir)}
	}
	return err
}

func (s *show) run(ctx context.Context, dir string, serve bool) (err error) {
	fmt.Fprintf(s.out, "A marketplace of 12 partners, 20 apps and 60 practices, made from seed %d in %s\n", s.told.Seed, dir)
	if s.world, err = demo.Make(filepath.Join(dir, "world"), s.told.Seed); err != nil {
		return err
	}
	s.lap("world")
	sub := *s.e
	sub.dir, sub.now = s.told.Data, func() time.Time { return s.clock }
	if s.app, _, err = openApp(ctx, &sub, options{begin: true, listenNATS: true}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.app.close()) }()
	if err := s.contracts(ctx); err != nil {
		return err
	}
	if s.tokens, err = s.app.admitProducers(ctx); err != nil {
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
	if err := s.tell(ctx); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "\nTook %s: %s.\n", time.Since(s.begun).Round(100*time.Millisecond), strings.Join(s.laps, ", "))
	if s.e.json {
		if err := writeJSON(s.e.out, s.told); err != nil {
			return err
		}
	}
	if serve {
		return s.serve(ctx)
	}
	fmt.Fprintf(s.out, "Everything lies in %s; go on with: mete --dir %s statement list\n", dir, s.told.Data)
	for _, c := range s.told.Checks {
		if c.Difference != 0 {
			return found
		}
	}
	return nil
}

// lap notes how long a part took.
func (s *show) lap(what string) {
	now := time.Now()
	s.laps = append(s.laps, fmt.Sprintf("%s %s", what, now.Sub(s.last).Round(10*time.Millisecond)))
	s.last = now
}

// do runs one command line as a person, and returns what it printed.
func (s *show) do(ctx context.Context, as string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	sub := *s.e
	sub.in, sub.out, sub.err, sub.app = strings.NewReader(""), &out, &errs, s.app
	sub.now, sub.json = func() time.Time { return s.clock }, false
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

// month takes a delivery in through the real ways (logs as files, sales over HTTP,
// facts over NATS), closes the month and issues its statements.
func (s *show) month(ctx context.Context, d demo.Delivery) error {
	s.at(d.Month, 2)
	for _, l := range d.Logs {
		if _, err := s.do(ctx, "", "ingest", l.File, "--gateway", l.Gateway); err != nil {
			return err
		}
	}
	if err := s.post(ctx, d.Sales); err != nil {
		return err
	}
	if err := demo.Publish(ctx, s.app.server.URL(), s.tokens, d.Facts); err != nil {
		return err
	}
	if err := s.app.drain(ctx); err != nil {
		return err
	}
	s.lap(d.Month.String() + " in")
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
	s.lap("closed")
	return nil
}

// post sends the sales over HTTP, as a billing system does, in batches.
func (s *show) post(ctx context.Context, file string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: s.app.eventsHandler(s.tokens, nil)}
	go srv.Serve(l)
	defer srv.Close()
	return demo.Post(ctx, "http://"+l.Addr().String()+httpin.Path, s.tokens["billing"], file)
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

// tell shows what happened, and whether everything adds up.
func (s *show) tell(ctx context.Context) error {
	last := s.world.Delivered[len(s.world.Delivered)-1].Month
	title := func(t string) {
		fmt.Fprintf(s.out, "\n── %s %s\n\n", t, strings.Repeat("─", max(0, 91-len([]rune(t)))))
	}
	title("What came in, by the senders' own books")
	if err := s.sent(); err != nil {
		return err
	}
	title("What became of it: mete reconcile")
	var err error
	if s.told.Reconciliation, err = s.app.reconcile(ctx, s.app.now(), false); err != nil {
		return err
	}
	if err := writeReconciliation(s.out, s.told.Reconciliation); err != nil {
		return err
	}
	northwind := billing.NewStatementID("meridian-us", "northwind", "USD", last)
	show := func(heading string, args ...string) error {
		title(heading)
		text, err := s.do(ctx, "", args...)
		if err != nil {
			return err
		}
		_, err = io.WriteString(s.out, text)
		return err
	}
	if err := show("One partner's month: mete statement show "+string(northwind), "statement", "show", string(northwind)); err != nil {
		return err
	}
	if err := show("One line of it, down to its events: mete explain", "explain", string(northwind), s.shareLine(ctx, northwind), "--events", "--limit", "5"); err != nil {
		return err
	}
	title("What came late for a closed month: explained differences on the next statement")
	if err := s.late(ctx); err != nil {
		return err
	}
	if err := show("The books: mete ledger balance", "ledger", "balance"); err != nil {
		return err
	}
	if err := show("The payout run, as its approver saw it: mete payout show", "payout", "show", "2026-10-20"); err != nil {
		return err
	}
	title("Checked")
	return s.check(ctx)
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

// sent shows what the senders say they sent, by each way.
func (s *show) sent() error {
	var rows [][]string
	row := func(month, way string, n demo.Sent) {
		cells := []string{month, way}
		for _, x := range []int{n.Events, n.Duplicates, n.Conflicts, n.Late, n.Unclean, n.Unknown} {
			cells = append(cells, groupInt(int64(x)))
		}
		rows = append(rows, cells)
	}
	var sum demo.Sent
	for _, d := range s.world.Delivered {
		month := d.Month.String()
		for _, n := range d.Sent {
			s.told.Sent = append(s.told.Sent, demoSent{d.Month, n})
			row(month, n.Way+": "+strings.Join(n.Senders, ", "), n)
			month = ""
			sum.Events += n.Events
			sum.Duplicates += n.Duplicates
			sum.Conflicts += n.Conflicts
			sum.Late += n.Late
			sum.Unclean += n.Unclean
			sum.Unknown += n.Unknown
		}
	}
	row("sum", "", sum)
	return table(s.out, []string{"after", "way in", "events", "sent again", "with other content", "late", "like a patient", "unknown app"}, rows, 2, 3, 4, 5, 6, 7)
}

// late shows the corrections of closed months on all statements.
func (s *show) late(ctx context.Context) error {
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
	return table(s.out, []string{"statement", "line", "", "posted then", "comes to now", "difference"}, rows, 1, 3, 4, 5)
}

// maxLateShown bounds the table of late differences.
const maxLateShown = 12

// check runs every checker and shows one line for each.
func (s *show) check(ctx context.Context) error {
	line := func(what string, difference int, detail string) {
		s.told.Checks = append(s.told.Checks, demoCheck{what, difference, detail})
		mark := "ok "
		if difference != 0 {
			mark = "BAD"
		}
		fmt.Fprintf(s.out, "  %s  %-48s difference %d%s\n", mark, what, difference, detail)
	}
	unanswered, err := s.unanswered(ctx)
	if err != nil {
		return err
	}
	line("senders' own books = accepted + refused", unanswered, "")
	line("events = stored = priced = statements = postings", s.told.Reconciliation.Difference(), "")
	sum := sha256.New()
	for _, d := range s.world.Delivered {
		v, err := s.app.closer.Verify(ctx, d.Month)
		if err != nil {
			return err
		}
		line(d.Month.String()+" derived again from raw events", len(v.Findings), fmt.Sprintf("  (%d statements, %d lines)", v.Statements, v.Lines))
		for _, id := range sortedKeys(v.Digests) {
			fmt.Fprintln(sum, id, v.Digests[id])
		}
	}
	fs, err := s.app.store.Verify(ctx)
	if err != nil {
		return err
	}
	line("books: every entry balances, balances = postings", len(fs), "")
	wrong, err := s.app.events.Check(ctx)
	if err != nil {
		return err
	}
	line("metering store: rows = keys = tallies", len(wrong), "")
	s.lap("checked")
	s.told.Digest = hex.EncodeToString(sum.Sum(nil))
	fmt.Fprintf(s.out, "\n  digest of all statements %s\n", s.told.Digest)
	return nil
}

// unanswered is how many events the senders sent and mete neither took nor refused.
func (s *show) unanswered(ctx context.Context) (int, error) {
	n := 0
	for _, d := range s.told.Sent {
		n += d.Events
	}
	counts, err := s.app.tally(ctx)
	if err != nil {
		return 0, err
	}
	n -= int(counts.Announced)
	refused, err := s.app.events.RefusalCounts(ctx)
	for _, r := range refused {
		n -= int(r)
	}
	return n, err
}

// serve keeps the demonstration's folder open for commands on this machine.
func (s *show) serve(ctx context.Context) error {
	fmt.Fprintln(s.out, "Serving; stop with Ctrl-C.")
	s.app.now = time.Now
	mappings, err := s.e.mappings(nil)
	if err != nil {
		return err
	}
	return s.app.serve(ctx, s.e, "127.0.0.1:0", mappings)
}
