package billing_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"mete/billing"
	"mete/catalogue"
	"mete/ledger"
	"mete/metering"
	"mete/metering/meteringtest"
	"mete/metering/sqlite"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
	"mete/store"
)

// tester is what a test and a random draw have in common.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Logf(format string, args ...any)
}

// The marketplace of these tests: a lifetime ladder with free first sales and a
// reserve, two partners who share a ladder by the year and refer customers, one whose
// ladder begins again each month, one with a flat rate who pays for referrals; all
// three refund policies; three zones.
const marketplace = `marketplace: meridian-us
name: Meridian EHR Marketplace
zone: America/Chicago
currency: USD
contact: partners@meridian.example
close: {lag: 3 days}
pay: {day: 20, calendar: us}
processors: {stripe: {name: Stripe}}
rails: {manual: {account: Meridian operating, last4: "0031"}}
---
holidays: us
days: {2026-11-26: Thanksgiving Day}
---
fx: ecb
source: European Central Bank
rates:
- {date: 2025-12-31, from: EUR, to: USD, rate: 1.1734}
- {date: 2026-01-09, from: EUR, to: USD, rate: 1.1659}
- {date: 2026-01-16, from: EUR, to: USD, rate: 1.1802}
- {date: 2026-01-30, from: EUR, to: USD, rate: 1.1911}
- {date: 2026-02-06, from: EUR, to: USD, rate: 1.2013}
- {date: 2026-02-13, from: EUR, to: USD, rate: 1.2101}
- {date: 2026-02-27, from: EUR, to: USD, rate: 1.1987}
- {date: 2026-03-13, from: EUR, to: USD, rate: 1.1876}
- {date: 2026-03-31, from: EUR, to: USD, rate: 1.1755}
- {date: 2026-04-17, from: EUR, to: USD, rate: 1.1699}
---
partner: northwind
name: Northwind Scheduling LLC
payee: {rail: manual, account: northwind-main, last4: "4417", confirmed_on: 2025-11-18, tax_form: W-9, screened_on: 2025-11-20}
---
partner: cedarline
name: Cedarline Billing LLC
account_group: cedar
---
partner: cedarpoint
name: Cedarpoint Analytics LLC
account_group: cedar
---
partner: quill
name: Quill Notes Inc.
---
partner: refera
name: Refera LLC
---
apps:
- {id: scheduler, partner: northwind, name: Scheduler, certification_tier: 3}
- {id: claims, partner: cedarline, name: Claims, certification_tier: 2}
- {id: insights, partner: cedarpoint, name: Insights}
- {id: notes, partner: quill, name: Notes}
- {id: finder, partner: refera, name: Finder}
---
customers:
- {id: lakeside, name: Lakeside Family Medicine}
- {id: harbor, name: Harbor Pediatrics}
- {id: mesa, name: Mesa Orthopedics}
---
meter: api_calls
type: usage.api
class: api
unit: call
aggregate: quantity
status_below: 400
---
sources:
- {name: gateway, kind: gateway, owner: gateway}
- {name: billing, kind: billing, owner: billing}
- {name: programme, kind: marketplace, owner: programme}
---
referral_codes:
- {code: CEDAR-1, partner: cedarline}
- {code: QUILL-1, partner: quill}
- {code: REFERA-1, partner: refera}
- {code: MARKET-1, partner: platform}
---
contract: northwind-scheduling
partner: northwind
apps: [scheduler]
currency: USD
zone: America/Chicago
effective: {from: 2026-01-01}
processor: stripe
fx: {rates: ecb, at: sale, convert: [EUR]}
payout: {minimum: 25.00, reserve: {rate: 5%, of: proceeds, release_after: 40 days}}
rules:
- id: subscriptions
  kind: share
  of: sale.paid
  class: marketplace
  platform:
    tiers: {mode: graduated, on: gross, window: lifetime since 2026-01-01, per: partner}
    steps: [{to: 1000, rate: 0%}, {to: 3000, rate: 15%}, {rate: 7.5%}]
  refunds: at_original_rate
- id: calls
  kind: usage_fee
  meter: api_calls
  class: api
  price: {model: graduated, steps: [{to: 100, unit: 0}, {to: 500, unit: 0.013, flat: 1.00}, {unit: 0.007}]}
---
contract: cedarline-billing
partner: cedarline
apps: [claims]
currency: USD
zone: America/New_York
effective: {from: 2026-01-01}
processor: stripe
rules:
- id: subscriptions
  kind: share
  of: sale.paid
  class: marketplace
  platform:
    tiers: {mode: graduated, on: net, window: year, per: group}
    steps: [{to: 800, rate: 20%}, {rate: 12.5%}]
  refunds: reduce_base
- {id: brought, kind: referral, from: platform, to: partner, flat: 35.00, window: 90 days, clawback: 60 days}
---
contract: cedarpoint-insights
partner: cedarpoint
apps: [insights]
currency: USD
zone: America/Los_Angeles
effective: {from: 2026-01-01}
processor: stripe
fx: {rates: ecb, at: sale, convert: [EUR], markup: 1.5%}
payout: {reserve: {rate: 10%, of: net_sales, release_after: 20 days}}
rules:
- id: subscriptions
  kind: share
  of: sale.paid
  class: marketplace
  platform:
    tiers: {mode: graduated, on: net, window: year, per: group}
    steps: [{to: 800, rate: 20%}, {rate: 12.5%}]
  refunds: at_original_rate
---
contract: quill-notes
partner: quill
apps: [notes]
currency: USD
zone: UTC
effective: {from: 2026-01-01}
fx: {rates: ecb, at: month_end, convert: all}
rules:
- id: subscriptions
  kind: share
  of: sale.paid
  class: marketplace
  platform:
    tiers: {mode: graduated, on: gross, window: month, per: customer}
    steps: [{to: 150, rate: 3.3%}, {rate: 30%}]
  refunds: platform_keeps_share
- {id: calls, kind: usage_fee, meter: api_calls, class: api, window: year, price: {model: graduated, steps: [{to: 300, unit: 0.01}, {unit: 0.004}]}}
- {id: brought, kind: referral, from: platform, to: partner, percent: 10%, term: 2 months, cap: 60.00}
- {id: listing, kind: fixed_fee, class: listing, due: monthly, amount: 9.00, per: partner}
---
contract: refera-leads
partner: refera
apps: [finder]
currency: USD
zone: America/Chicago
effective: {from: 2026-02-01}
rules:
- {id: subscriptions, kind: share, of: sale.paid, class: marketplace, platform: {rate: 12%}}
- {id: placed, kind: referral, from: partner, to: platform, flat: 20.00, attributes: lead, clawback: 60 days}
`

var (
	jan = period.Month{Year: 2026, Month: time.January}
	feb = jan.Add(1)
	mar = jan.Add(2)
	apr = jan.Add(3)
)

// partitions of the stream of these tests.
const partitions = 3

// tempRoot is where test stores lie: in memory where the machine has such a folder,
// because these tests are about arithmetic, not about disks.
func tempRoot() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// template is a relational store with the catalogue in force, made once and copied.
var template = sync.OnceValues(func() (file []byte, err error) {
	dir, err := os.MkdirTemp(tempRoot(), "mete-billing-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	path := filepath.Join(dir, relationalFile)
	db, err := store.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := agree(ctx, catalogue.Catalogue{Store: db}, marketplace, time.Date(2025, 12, 1, 15, 0, 0, 0, time.UTC)); err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// agree applies documents and brings their contracts into force.
func agree(ctx context.Context, c catalogue.Catalogue, text string, at time.Time) error {
	changes, err := c.Plan(ctx, catalogue.Parse("marketplace.yaml", []byte(text)))
	if err != nil {
		return err
	}
	vs, err := c.Apply(ctx, changes, catalogue.Person{Name: "ada"}, at)
	if err != nil {
		return err
	}
	for _, v := range vs {
		if v.Kind != catalogue.KindContract {
			continue
		}
		for _, name := range []string{"grace", "linus"}[:1+min(v.Corrects, 1)] {
			if _, err := c.Approve(ctx, v.Ref, catalogue.Person{Name: name}, at.Add(time.Minute)); err != nil {
				return err
			}
		}
		if _, err := c.Accept(ctx, v.Ref, catalogue.Acceptance{By: catalogue.Person{Name: "nora"}, At: at.Add(2 * time.Minute)}); err != nil {
			return err
		}
	}
	return nil
}

const (
	relationalFile = "mete.db"
	eventsFile     = "events.db"
)

// world is a marketplace with real stores and no broker: what is delivered lies in
// the metering store at once.
type world struct {
	dir       string
	db        *store.DB
	events    *sqlite.Store
	catalogue catalogue.Catalogue
	closer    *billing.Closer
	feed      *meteringtest.Feed
	fed       fed
}

// newWorld makes a marketplace in a folder of its own.
func newWorld(t tester) *world {
	t.Helper()
	dir, err := os.MkdirTemp(tempRoot(), "mete-billing-")
	if err != nil {
		t.Fatal(err)
	}
	file, err := template()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, relationalFile), file, 0o644); err != nil {
		t.Fatal(err)
	}
	w, err := openWorld(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// testWorld is newWorld, removed when the test ends.
func testWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	t.Cleanup(w.remove)
	return w
}

// openWorld opens the stores in a folder.
func openWorld(ctx context.Context, dir string) (*world, error) {
	db, err := store.Open(ctx, filepath.Join(dir, relationalFile))
	if err != nil {
		return nil, err
	}
	events, err := sqlite.Open(filepath.Join(dir, eventsFile))
	if err != nil {
		return nil, err
	}
	if _, err := events.Attach(ctx, "usage", partitions); err != nil {
		return nil, err
	}
	w := &world{dir: dir, db: db, events: events, catalogue: catalogue.Catalogue{Store: db}, feed: meteringtest.NewFeed()}
	w.closer = &billing.Closer{Store: db, Ledger: db, Events: events, Stream: stored{events}, Catalogue: w.catalogue, Redactions: events, Facts: events}
	return w, nil
}

func (w *world) close() {
	_ = w.db.Close()
	_ = w.events.Close()
}

func (w *world) remove() {
	w.close()
	_ = os.RemoveAll(w.dir)
}

// copy is the same marketplace in another folder; both can go on.
func (w *world) copy(t tester) *world {
	t.Helper()
	w.close()
	dir, err := os.MkdirTemp(tempRoot(), "mete-billing-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	reopened, err := openWorld(context.Background(), w.dir)
	if err != nil {
		t.Fatal(err)
	}
	w.db, w.events, w.catalogue, w.closer = reopened.db, reopened.events, reopened.catalogue, reopened.closer
	c, err := openWorld(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	c.fed = w.fed
	return c
}

// stored is a stream whose events are all in the store.
type stored struct{ events metering.Store }

func (s stored) Last(ctx context.Context) (metering.Cutoff, error) { return s.events.Cutoff(ctx) }
func (s stored) WaitStored(context.Context, metering.Cutoff) error { return nil }

// fed counts what was put into the stream, by message, apart from the store. What
// expired is taken out.
type fed []metering.PartitionCutoff // one per message; Incarnation holds the events announced

// Name implements [billing.StreamTotals].
func (f fed) Name() string { return "usage" }

// TotalsAfter implements [billing.StreamTotals].
func (f fed) TotalsAfter(_ context.Context, after, upTo metering.Cutoff) (messages, announced int64, err error) {
	for _, m := range f {
		if m.Sequence > after.Of(m.Partition) && m.Sequence <= upTo.Of(m.Partition) {
			messages++
			announced += int64(m.Incarnation)
		}
	}
	return messages, announced, nil
}

// Expired implements [billing.StreamTotals].
func (f fed) Expired(_ context.Context, of metering.Cutoff) (metering.Cutoff, error) {
	gone := slices.Clone(of)
	for i, c := range gone {
		for _, m := range f {
			if m.Partition == c.Partition {
				gone[i].Sequence = min(gone[i].Sequence, m.Sequence-1)
			}
		}
	}
	return gone, nil
}

// deliver appends the events as one message of a partition.
func (w *world) deliver(t tester, partition int, events ...metering.Event) {
	t.Helper()
	if len(events) == 0 {
		return
	}
	b := w.feed.Block(partition, events)
	if _, err := w.events.Append(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	w.fed = append(w.fed, metering.PartitionCutoff{Partition: partition, Sequence: b.Last, Incarnation: len(events)})
}

// The people of these tests.
const (
	closerName = "m.ortiz"
	issuerName = "a.kim"
)

// closedAt is when people close the month: on its fifth day after.
func closedAt(m period.Month) time.Time {
	return m.Add(1).First().In(time.UTC).AddDate(0, 0, 4)
}

func closeRequest(m period.Month) billing.CloseRequest {
	return billing.CloseRequest{Month: m, By: closerName, At: closedAt(m)}
}

func issueRequest(m period.Month) billing.IssueRequest {
	return billing.IssueRequest{Month: m, By: issuerName, On: m.Add(1).First().AddDays(9), At: closedAt(m).AddDate(0, 0, 5)}
}

func (w *world) closeMonth(t tester, m period.Month) billing.CloseReport {
	t.Helper()
	report, err := w.closer.Close(context.Background(), closeRequest(m))
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func (w *world) issueMonth(t tester, m period.Month) {
	t.Helper()
	if _, err := w.closer.Issue(context.Background(), issueRequest(m)); err != nil {
		t.Fatal(err)
	}
}

func (w *world) reconciler() *billing.Reconciler {
	return &billing.Reconciler{Closer: w.closer, Totals: w.fed, Quarantine: w.events}
}

// checkAll fails the test unless every checker finds nothing, for every closed month.
func (w *world) checkAll(t tester) {
	t.Helper()
	for name, found := range w.findings() {
		t.Errorf("%s: %s", name, found[0])
	}
}

// findings are what each checker says; a checker that finds nothing is not in it.
func (w *world) findings() map[string][]string {
	ctx := context.Background()
	out := map[string][]string{}
	months, err := w.db.Months(ctx)
	if err != nil {
		out["verify"] = []string{err.Error()}
		months = []billing.MonthStatus{{Month: jan, State: ledger.Closed}, {Month: feb, State: ledger.Closed}}
	}
	for _, s := range months {
		if s.State != ledger.Closed && s.State != ledger.Locked {
			continue
		}
		v, err := w.closer.Verify(ctx, s.Month)
		if err != nil {
			out["verify"] = append(out["verify"], err.Error())
		}
		for _, f := range v.Findings {
			out["verify"] = append(out["verify"], s.Month.String()+": "+f.String())
		}
	}
	r, err := w.reconciler().Reconcile(ctx)
	if err != nil {
		out["reconcile"] = append(out["reconcile"], err.Error())
	}
	for _, f := range r.Findings {
		out["reconcile"] = append(out["reconcile"], f.String())
	}
	fs, err := w.db.Verify(ctx)
	if err != nil {
		out["ledger verify"] = append(out["ledger verify"], err.Error())
	}
	for _, f := range fs {
		out["ledger verify"] = append(out["ledger verify"], f.Where+": "+f.What)
	}
	checked, err := w.events.Check(ctx)
	if err != nil {
		checked = append(checked, err.Error())
	}
	if len(checked) > 0 {
		out["events check"] = checked
	}
	return out
}

// digests are the statements' digests by ID, and the state of each.
func (w *world) digests(t tester) map[string]string {
	t.Helper()
	rs, err := w.db.Statements(context.Background(), period.Month{}, "")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range rs {
		out[string(r.ID)] = r.Digest + " " + r.State
	}
	return out
}

// lines are the sums of everything statements say, by key, corrections and their
// originals together, with the taxes of each jurisdiction. Sums of nothing are left
// out.
func (w *world) lines(t tester) map[string]int64 {
	t.Helper()
	rs, err := w.db.Statements(context.Background(), period.Month{}, "")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, r := range rs {
		for _, l := range r.Lines {
			addLine(out, l.Line)
		}
	}
	return withoutZeros(out)
}

// addLine adds a line to the sums of its key.
func addLine(sums map[string]int64, l pricing.Line) {
	k := fmt.Sprintf("%s %s/%s %s %q %s %s", l.Party, l.Contract, l.Rule, l.Part, l.Scope, l.Month, l.LineKey.Currency)
	sums[k] += l.Amount.Minor
	if l.Part != "share" && l.Part != "quality" { // they rest on the sales above them
		sums[k+" events"] += l.Count
	}
	for _, x := range l.Taxes {
		sums[k+" tax "+x.Jurisdiction+" "+string(x.Amount.Currency)] += x.Amount.Minor
	}
	for _, x := range l.Exchanged {
		sums[k+" from "+x.Exchange.String()] += x.Original.Minor
		sums[k+" worth "+x.Exchange.String()] += x.Worth.Minor
	}
}

// withoutZeros leaves out what comes to nothing.
func withoutZeros(sums map[string]int64) map[string]int64 {
	maps.DeleteFunc(sums, func(_ string, v int64) bool { return v == 0 })
	return sums
}

// balances are what every account holds; what a partner may get is one sum, whether
// pending, due or in reserve, and less what it owes.
func (w *world) balances(t tester) map[string]int64 {
	t.Helper()
	bs, err := w.db.Balances(context.Background(), ledger.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, b := range bs {
		name := string(b.Account)
		for _, p := range []string{"northwind", "cedarline", "cedarpoint", "quill", "refera", "marlow", "oakley"} {
			if b.Account.Under(ledger.Payable(p)) || b.Account.Under(ledger.ReserveOf(p)) || b.Account == ledger.ReceivablePartner(p) {
				name = "owed to " + p
			}
		}
		out[name+" "+string(b.Amount.Currency)] += b.Amount.Minor
	}
	return withoutZeros(out)
}

// differ names the first keys in which two sums differ.
func differ(got, want map[string]int64) []string {
	var out []string
	for k, v := range want {
		if got[k] != v {
			out = append(out, fmt.Sprintf("%s: %d, want %d", k, got[k], v))
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			out = append(out, fmt.Sprintf("%s: %d, want nothing", k, v))
		}
	}
	slices.Sort(out)
	return out
}

// exec runs SQL behind the product's back, guards taken off.
func (w *world) exec(t tester, file string, statements ...string) int64 {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.dir, file)+"?_pragma=foreign_keys(OFF)&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	var changed int64
	for _, s := range statements {
		r, err := db.Exec(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		changed, _ = r.RowsAffected()
	}
	return changed
}

// The events of these tests.

func sale(id string, app partner.AppID, customer partner.CustomerID, at time.Time, amount string) metering.Event {
	return metering.Event{ID: id, Source: "billing", Type: metering.SalePaid, Time: at.UTC(), Customer: customer,
		Data: metering.Data{App: app, Class: metering.Marketplace, Amount: meteringtest.Decimal(amount), Currency: "USD"}}
}

// taxed adds a tenth of tax, rounded down to cents, collected for Texas.
func taxed(e metering.Event) metering.Event {
	tax := e.Data.Amount.Shift(-1).Truncate(2)
	e.Data.TaxAmount, e.Data.Region = &tax, "us-tx"
	return e
}

func refund(id string, of metering.Event, at time.Time, amount string) metering.Event {
	e := sale(id, of.Data.App, of.Customer, at, amount)
	e.Type, e.Data.RefersTo = metering.SaleRefunded, of.ID
	return e
}

func calls(id string, app partner.AppID, customer partner.CustomerID, at time.Time, n int64) metering.Event {
	e := meteringtest.Call(id, app, at.UTC())
	e.Customer, e.Data.Class = customer, metering.API
	e.Data.Quantity = meteringtest.Decimal(fmt.Sprint(n))
	return e
}

func lead(typ, lead, code string, customer partner.CustomerID, at time.Time) metering.Event {
	return metering.Event{ID: typ + "-" + lead, Source: "programme", Type: typ, Time: at.UTC(), Customer: customer,
		Data: metering.Data{Class: metering.Referral, Lead: lead, Reference: code}}
}

func void(id string, of metering.Event, at time.Time) metering.Event {
	return metering.Event{ID: id, Source: of.Source, Type: metering.UsageVoided, Time: at.UTC(), Data: metering.Data{RefersTo: of.ID}}
}

func usd(text string) money.Amount {
	a, err := money.Parse(text, "USD")
	if err != nil {
		panic(err)
	}
	return a
}

// noon is a day of the month at noon, UTC: the same day in every zone of the tests.
func noon(m period.Month, day int) time.Time {
	return time.Date(m.Year, m.Month, day, 18, 0, 0, 0, time.UTC)
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestMain(m *testing.M) {
	if os.Getenv(crashDir) != "" {
		os.Exit(crashChild())
	}
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "rapid.checks" })
	if !set {
		_ = flag.Set("rapid.checks", rapidChecks)
	}
	os.Exit(m.Run())
}
