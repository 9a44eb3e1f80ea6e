package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// commands are all that run, by their path: those that only hold others left out.
func commands(e *env) map[string]*cobra.Command {
	all := map[string]*cobra.Command{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if !c.HasSubCommands() {
			all[c.CommandPath()] = c
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(e))
	return all
}

func bare() *env {
	return &env{in: strings.NewReader(""), out: io.Discard, err: io.Discard, getenv: func(string) string { return "" }}
}

// TestEveryCommandIsExplained walks all commands: each says what it does, shows
// examples that can be typed as they stand, and what its exit codes mean.
func TestEveryCommandIsExplained(t *testing.T) {
	all := commands(bare())
	lines := 0
	for path, c := range all {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: what it does is %q; want words without a full stop", path, c.Short)
		}
		examples := strings.Split(c.Example, "\n")
		for _, line := range examples {
			if err := typeable(path, line); err != nil {
				t.Errorf("%s: example %q: %v", path, line, err)
			}
			lines++
		}
		d := &desk{t: t, dir: t.TempDir()}
		help := d.want(exitOK, append(strings.Fields(path)[1:], "--help")...).out
		for _, want := range append(examples, c.Short, "Usage:\n  "+path) {
			if !strings.Contains(help, want) {
				t.Errorf("%s --help does not show %q:\n%s", path, want, help)
			}
		}
		_, codes, ok := strings.Cut(help, "\nExit codes:\n")
		for _, code := range []int{exitOK, exitFound, exitUsage, exitInternal} {
			if !ok || strings.Count("\n"+codes, fmt.Sprintf("\n  %d  ", code)) != 1 {
				t.Errorf("%s --help does not say what exit code %d means:\n%s", path, code, help)
			}
		}
	}
	t.Logf("%d commands with %d examples", len(all), lines)
}

// typeable reads an example as a shell and the command would, but does not run it:
// its flags exist, its arguments are as many as they must be, nothing is missing.
func typeable(path, line string) error {
	words, err := shellWords(line)
	if err != nil {
		return err
	}
	if len(words) == 0 || words[0] != "mete" {
		return errors.New("is no command line of mete")
	}
	root := newRoot(bare())
	c, rest, err := root.Find(words[1:])
	if err != nil {
		return err
	}
	if c.CommandPath() != path {
		return fmt.Errorf("is one of %s", c.CommandPath())
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if err := c.ValidateArgs(c.Flags().Args()); err != nil {
		return err
	}
	if c.PreRunE != nil {
		return c.PreRunE(c, c.Flags().Args())
	}
	return nil
}

// shellWords are the words of the mete in a command line: what stands before a pipe or
// behind a redirection is not ours.
func shellWords(line string) ([]string, error) {
	var words []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		var word string
		if line[0] == '"' {
			var ok bool
			if word, line, ok = strings.Cut(line[1:], `"`); !ok {
				return nil, errors.New("a quote is not closed")
			}
		} else if word, line, _ = strings.Cut(line, " "); word == "|" {
			words = nil
			continue
		} else if word == ">" {
			return words, nil
		}
		words = append(words, word)
	}
	return words, nil
}

func TestShellWords(t *testing.T) {
	got, err := shellWords(`  zcat a.gz | mete x - --by "J. Doe, N" > out`)
	if want := []string{"mete", "x", "-", "--by", "J. Doe, N"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for line, wrong := range map[string]string{
		"mete close":                          "got no argument",
		"mete close 2026-09 2026-10":          `got ["2026-09" "2026-10"]`,
		"mete close 2026-09":                  "name yourself",
		"mete close 2026-09 --as a --moth":    "unknown flag: --moth",
		"mete closed 2026-09 --as a":          "is one of mete",
		"mete payout approve 2026-10 --as a":  "--content is needed",
		`mete close "2026-09 --as a`:          "not closed",
		"mete statement list --month 2026-09": "is one of mete statement list",
	} {
		if err := typeable("mete close", line); err == nil || !strings.Contains(err.Error(), wrong) && !strings.Contains(err.Error(), "is one of") {
			t.Errorf("%s: %v, want %q", line, err, wrong)
		}
	}
}

// TestEveryCommandPrintsJSON runs all commands with --json through the life of a
// month: each prints one JSON value, and nothing else.
func TestEveryCommandPrintsJSON(t *testing.T) {
	left := commands(bare())
	delete(left, "mete demo") // TestDemo
	delete(left, "mete help") // prints what --help prints
	world, err := filepath.Abs(filepath.Join("testdata", "world"))
	if err != nil {
		t.Fatal(err)
	}
	files := folder(t, map[string]string{
		"events.ndjson": `{"specversion":"1.0","id":"inv-1","source":"billing","type":"sale.paid","time":"2026-09-14T10:00:00Z","subject":"lakeside","data":{"app":"northwind-scheduler","class":"marketplace","amount":"1000.00","currency":"USD"}}` + "\n",
		"receipts.csv":  "processor,settlement,settled_on,currency,gross,fee,net\nstripe,set-1,2026-10-01,USD,1000.00,29.30,970.70\n",
	})
	scenario := folder(t, map[string]string{
		"fee.yaml": "contract: fee\npartner: quill\napps: [quill-notes]\ncurrency: USD\nzone: America/New_York\neffective: {from: 2026-01-01}\nrules:\n  - {id: calls, kind: usage_fee, meter: api_calls, price: {model: per_unit, unit: 0.0125}}\n",
		"fee.txt":  "contract fee\nmonth 2026-01\n  api_calls  101\nwant\n  calls  -1.26\n",
	})
	d := &desk{t: t, dir: filepath.Join(t.TempDir(), "data"), now: "2026-10-02T15:00:00Z"}
	// run runs a command line whose quoted words hold no blanks, and decodes the answer.
	run := func(line string) (v any) {
		t.Helper()
		args := strings.Fields(line)
		c, _, err := newRoot(bare()).Find(args)
		if err != nil {
			t.Fatal(err)
		}
		delete(left, c.CommandPath())
		d.read(&v, args...)
		if v == nil {
			t.Errorf("mete %s --json: null", line)
		}
		return v
	}
	at := func(now string) { d.now = now }

	run("schema contract")
	run("test " + scenario)
	run("apply -f " + world + " --as k.lee")
	run("apply -f " + world + " --dry-run")
	run("contract list")
	run("contract approve northwind-agreement --as r.shah")
	run("contract notify northwind-agreement --to ops@northwind.example --as k.lee")
	run("contract accept northwind-agreement --by signer --evidence form --as k.lee")
	run("contract history northwind-agreement")
	run("contract check " + world)
	run("contract schedule")
	run("contract render northwind-agreement")
	run("contract diff northwind-agreement 1 1")
	certified := folder(t, map[string]string{
		"m.yaml": "marketplace: m\nname: M\nzone: UTC\ncurrency: USD\ncontact: a@m.example\nclose: {lag: 1 day}\ncertified_developer: true\n---\npartner: quill\nname: Quill\n",
		"c.yaml": "contract: c\npartner: quill\ncurrency: USD\nzone: UTC\neffective: {from: 2026-11-01}\nrules: [{id: s, kind: share, of: sale.paid, platform: {rate: 1%}}]\n",
	})
	other := " --dir " + filepath.Join(t.TempDir(), "certified")
	run("apply -f " + certified + " --as k.lee" + other)
	run("contract override c --finding certified-api-price/s --role legal --reason r --as l.haas" + other)
	run("ingest " + filepath.Join(files, "events.ndjson") + " --gateway cloudevents")
	run("usage")
	run("event billing inv-1")
	run("quarantine list")
	refused := `{"specversion":"1.0","id":"inv-2","source":"billing","type":"sale.paid","time":"2026-09-14T10:00:00Z","subject":"lakeside","data":{"app":"nowhere","amount":"1.00","currency":"USD"}}` + "\n"
	d.want(exitFound, "ingest", filepath.Join(folder(t, map[string]string{"refused.ndjson": refused}), "refused.ndjson"), "--gateway", "cloudevents")
	run("quarantine show " + text(t, run("quarantine list").([]any)[0], "id"))
	run("quarantine replay --source nobody --as k.lee")
	redaction := run("redact propose billing inv-2 --field id --reason recognisable --as k.lee")
	run("redact approve " + text(t, redaction, "id") + " --as r.shah")
	run("redact list")
	run("compare events " + filepath.Join(files, "events.ndjson") + " --from 2026-09-14T10:00:00Z --until 2026-09-14T10:00:01Z")
	rules := folder(t, map[string]string{"m.yaml": "marketplace: meridian-us\nname: M\nzone: America/Chicago\ncurrency: USD\ncontact: a@m.example\nclose: {lag: 3 days}\n" +
		"effective: 2026-09-01\nplacement: {requires: incidents.open == 0}\npartner_tiers: {months: 1, grow: {sales: 100}}\n"})
	run("apply -f " + rules + " --as k.lee")
	run("certification northwind-scheduler")
	run("scorecard northwind-scheduler --period 2026-09")
	run("placement --period 2026-09")
	run("partner tier northwind")
	appeal := text(t, run("appeal open northwind-scheduler --period 2026-09 --measure incidents.open --reason none --as n.roy"), "id")
	run("appeal decide " + appeal + " --decline --reason there-was --as s.lind")
	run("appeal list")
	run("appeal show " + appeal)
	at("2026-10-05T15:00:00Z")
	run("close 2026-09 --as m.ortiz")
	run("verify 2026-09")
	run("compliance uniformity")
	run("compliance package " + t.TempDir() + " --from 2026-09 --until 2026-09")
	run("statement list")
	run("statement show meridian-us.northwind.usd.2026-09")
	run("statement shadow 2026-09")
	run("simulate " + filepath.Join(world, "contract.yaml") + " --from 2026-09")
	run("explain meridian-us.northwind.usd.2026-09 1")
	adjustment := run("adjust propose --partner northwind --amount 36.00 --reason D-17 --as m.ortiz")
	run("adjust approve " + text(t, adjustment, "id") + " --as a.chen")
	run("adjust list")
	at("2026-10-09T15:00:00Z")
	run("statement issue 2026-09 --as a.chen")
	run("statement export 2026-09 --to " + t.TempDir())
	run("receipts import " + filepath.Join(files, "receipts.csv"))
	at("2026-10-18T15:00:00Z")
	run("payout hold h-1 --partner northwind --amount 1.00 --reason D-21 --as m.ortiz")
	run("payout holds")
	run("payout release h-1 --reason rejected --as a.chen")
	run("payout plan 2026-10-20 --as m.ortiz")
	run("payout return 2026-10-20 --reason again --as a.chen")
	plan := run("payout plan 2026-10-20 --as m.ortiz")
	run("payout approve 2026-10-20 --content " + text(t, plan, "content") + " --as a.chen")
	run("payout show 2026-10-20")
	at("2026-10-20T15:00:00Z")
	run("payout submit 2026-10-20 --as a.chen")
	paid := run("payout list --partner northwind")
	bank := "payout,amount,state,bank_date,bank_ref\n" + text(t, paid.([]any)[0], "id") + ",800.00,paid,2026-10-21,W1\n"
	at("2026-10-22T15:00:00Z")
	run("payout settle " + filepath.Join(folder(t, map[string]string{"bank.csv": bank}), "bank.csv") + " --as m.ortiz")
	run("receivable list")
	direct := folder(t, map[string]string{
		"m.yaml": "marketplace: m\nname: M\nzone: UTC\ncurrency: USD\ncontact: a@m.example\nclose: {lag: 1 day}\n---\npartner: quill\nname: Quill\n",
		"c.yaml": "contract: c\npartner: quill\ncurrency: USD\nzone: UTC\neffective: {from: 2026-11-01}\ncollects: partner\nrules: [{id: l, kind: fixed_fee, class: listing, due: once, amount: 9.00}]\n",
	})
	collects := " --dir " + filepath.Join(t.TempDir(), "direct")
	run("apply -f " + direct + " --as k.lee" + collects)
	run("apply -f " + folder(t, map[string]string{"c.yaml": "contract: d\npartner: quill\ncurrency: USD\nzone: UTC\neffective: {from: 2026-11-01}\nrules: [{id: l, kind: fixed_fee, class: listing, due: once, amount: 9.00}]\n"}) + " --as k.lee" + collects)
	run("contract reject d --reason twice --as r.shah" + collects)
	run("contract approve c --as r.shah" + collects)
	run("contract accept c --by signer --evidence form --as k.lee" + collects)
	at("2026-12-05T15:00:00Z")
	run("close 2026-11 --as m.ortiz" + collects)
	run("receivable receive --partner quill --amount 5.00 --reference W-1 --as m.ortiz" + collects)
	at("2026-10-22T15:00:00Z")
	run("ledger balance")
	run("ledger history liabilities:payable:northwind:due")
	run("ledger export")
	run("ledger verify")
	run("reconcile")
	run("rebuild keys")
	run("rebuild store --from stream --to " + filepath.Join(t.TempDir(), "new.db"))
	run("status")

	// The service prints where it is reached, and nothing more when it is stopped.
	delete(left, "mete serve")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, in := io.Pipe()
	e := bare()
	e.out, e.err, e.now, e.cwd = in, os.Stderr, d.clock, t.TempDir()
	ended := make(chan int, 1)
	go func() {
		ended <- runClosing(ctx, e, in, "serve", "--json", "--dir", d.dir, "--listen", "127.0.0.1:0")
	}()
	printed := json.NewDecoder(out)
	var where serving
	if err := printed.Decode(&where); err != nil || where.HTTP == "" || where.NATS == "" || where.Owners != 2 {
		t.Errorf("serve --json: %+v, %v", where, err)
	}
	stop()
	if err := printed.Decode(&where); !errors.Is(err, io.EOF) {
		t.Errorf("serve --json prints more: %+v, %v", where, err)
	}
	if code := <-ended; code != exitOK {
		t.Errorf("serve: exit code %d", code)
	}
	delete(left, "mete worker") // TestWorkers, on brokers and a store elsewhere
	for _, path := range slices.Sorted(maps.Keys(left)) {
		t.Errorf("%s is not run with --json: add a line to this test", path)
	}
}

// runClosing runs a command line and closes what it printed to.
func runClosing(ctx context.Context, e *env, out io.Closer, args ...string) int {
	defer out.Close()
	return run(ctx, e, args)
}

// text is a text field of a JSON object.
func text(t *testing.T, v any, field string) string {
	t.Helper()
	s, _ := v.(map[string]any)[field].(string)
	if s == "" {
		t.Fatalf("no %s in %v", field, v)
	}
	return s
}
