package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mete/billing"
	"mete/internal/testdata"
	"mete/metering"
	"mete/payouts"
)

// call is one request of a log, read by this test and by nothing of the product.
type call struct {
	partner, app, customer string
	status                 int
	bytes                  int64
}

// realLog is a log of real requests and what must be found in it.
type realLog struct {
	name    string
	path    []string
	mapping string
	read    func(line []byte) (call, bool)

	month              string // in which it happened
	closeOn, issueOn   string
	planOn, payOn      string
	events, ok         int // ok: status below 400
	apps, customers    int
	partners           int
	bytes              int64
	refused            string // where, empty: nothing
	apart              int    // lines that are equal to an earlier one
	catalogueFrom      string
	confirmed, settled string
}

var realLogs = []realLog{
	{
		name: "nginx", path: []string{"gateways", "real_replay", "nginx.jsonl"}, mapping: "nginx",
		read: func(line []byte) (call, bool) {
			var r struct {
				Partner, App, Customer string
				Status                 int
				Bytes                  int64 `json:"body_bytes_sent"`
			}
			err := json.Unmarshal(line, &r)
			return call{r.Partner, r.App, r.Customer, r.Status, r.Bytes}, err == nil
		},
		bytes: 441_124_187,
	},
	{
		name: "traefik", path: []string{"gateways", "real_replay", "traefik.jsonl"}, mapping: "traefik",
		read: func(line []byte) (call, bool) {
			var r struct {
				Partner  string `json:"request_X-Partner-Id"`
				App      string `json:"request_X-App-Id"`
				Customer string `json:"request_X-Customer-Id"`
				Status   int    `json:"DownstreamStatus"`
				Bytes    int64  `json:"DownstreamContentSize"`
			}
			err := json.Unmarshal(line, &r)
			return call{r.Partner, r.App, r.Customer, r.Status, r.Bytes}, err == nil
		},
		bytes: 440_646_553,
	},
	{
		name: "caddy", path: []string{"gateways", "real_replay", "caddy.jsonl"}, mapping: "caddy",
		read: func(line []byte) (call, bool) {
			var r struct {
				Request struct{ Headers map[string][]string }
				Status  int
				Size    int64
			}
			err := json.Unmarshal(line, &r)
			h := func(name string) string { return strings.Join(r.Request.Headers[name], "") }
			return call{h("X-Partner-Id"), h("X-App-Id"), h("X-Customer-Id"), r.Status, r.Size}, err == nil
		},
		bytes: 440_646_553,
	},
	{
		name: "apache", path: []string{"apache_logs.log"}, mapping: "apache",
		read: func(line []byte) (call, bool) {
			m := apacheLine.FindSubmatch(line)
			if m == nil {
				return call{}, false
			}
			status, _ := strconv.Atoi(string(m[1]))
			size, _ := strconv.ParseInt(string(m[2]), 10, 64)
			return call{"partner-01", "website", "", status, size}, true
		},
		month: "2015-05", closeOn: "2015-06-05", issueOn: "2015-06-09", planOn: "2015-06-18", payOn: "2015-06-19", catalogueFrom: "2015-01-01",
		confirmed: "2015-01-15", settled: "2015-06-22",
		events: 9999, ok: 9779, apps: 1, customers: 1, partners: 1, refused: "apache_logs.log:8899", apart: 19,
	},
}

var apacheLine = regexp.MustCompile(`^\S+ \S+ \S+ \[[^]]+\] "(?:[^"\\]|\\.)*" (\d{3}) (\d+|-) "(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*"\s*$`)

// replay fills in what the three replays of the same requests have in common.
func (l *realLog) replay() {
	if l.month == "" {
		l.month, l.closeOn, l.issueOn, l.planOn, l.payOn, l.catalogueFrom = "2026-11", "2026-12-05", "2026-12-09", "2026-12-18", "2026-12-21", "2026-01-01"
		l.confirmed, l.settled = "2026-01-15", "2026-12-22"
		l.events, l.ok, l.apps, l.customers, l.partners = 2000, 1965, 32, 409, 8
	}
}

// prices are what one call costs, by partner; none makes a sum that ends in half a
// cent, so that the mode of rounding does not matter.
func price(partner int) *big.Rat { return big.NewRat(int64(10_007+1_234*partner), 1_000_000) }

// salesOf is what the partner's app sells, in cents.
func salesOf(partner int) int64 { return int64(50_000 + 1_000*partner) }

// catalogue writes the documents of a market in which these calls happened.
func (l *realLog) catalogue(t *testing.T, calls []call) (dir string, contracts []string) {
	t.Helper()
	appsOf, customers := map[string]map[string]bool{}, map[string]bool{}
	for _, c := range calls {
		if appsOf[c.partner] == nil {
			appsOf[c.partner] = map[string]bool{}
		}
		appsOf[c.partner][c.app] = true
		if c.customer != "" {
			customers[c.customer] = true
		}
	}
	var b, terms strings.Builder
	fmt.Fprintf(&b, `marketplace: meridian-us
name: Meridian EHR Marketplace
zone: UTC
currency: USD
contact: partners@meridian.example
close: {lag: 3 days}
processors: {stripe: {name: Stripe}}
rails: {manual: {account: Meridian operating, last4: "0031"}}
---
meters:
  - {id: api_calls, description: API calls that did not fail, type: usage.api, class: api, aggregate: count, status_below: 400, unit: call}
---
sources:
  - {name: log, kind: gateway, owner: gateway, mapping: %s, class: api%s}
  - {name: billing, kind: billing, owner: billing}
---
partners:
`, l.mapping, map[bool]string{true: ", app: website"}[l.mapping == "apache"])
	names := slices.Sorted(maps.Keys(appsOf))
	for i, p := range names {
		fmt.Fprintf(&b, "  - {id: %s, name: Partner %d, tier: grow, payee: {rail: manual, account: Account-%d, last4: \"44%02d\", confirmed_on: %s, tax_form: W-9, screened_on: %s, currency: USD}}\n", p, i+1, i+1, i+1, l.confirmed, l.closeOn)
	}
	b.WriteString("---\napps:\n")
	for i, p := range names {
		own := slices.Sorted(maps.Keys(appsOf[p]))
		for _, a := range own {
			fmt.Fprintf(&b, "  - {id: %s, partner: %s, name: App, certification_tier: 2}\n", a, p)
		}
		fmt.Fprintf(&terms, `---
contract: %s-agreement
partner: %s
apps: [%s]
currency: USD
zone: UTC
effective: {from: %s}
collects: platform
presentation: agent
processor: stripe
rules:
  - {id: sales, kind: share, of: sale.paid, class: marketplace, platform: {rate: 20%%}, refunds: at_original_rate}
  - {id: calls, kind: usage_fee, meter: api_calls, class: api, price: {model: per_unit, unit: %s}}
`, p, p, strings.Join(own, ", "), l.catalogueFrom, price(i).FloatString(6))
		contracts = append(contracts, p+"-agreement")
	}
	b.WriteString("---\ncustomers:\n  - {id: lakeside, name: Lakeside Pediatrics}\n")
	for _, c := range slices.Sorted(maps.Keys(customers)) {
		fmt.Fprintf(&b, "  - {id: %s, name: Practice}\n", c)
	}
	return folder(t, map[string]string{"all.yaml": b.String(), "contracts.yaml": strings.TrimPrefix(terms.String(), "---\n")}), contracts
}

// at sets the clock to three in the afternoon of a day, UTC.
func (d *desk) at(day string) { d.now = day + "T15:00:00Z" }

// TestRealLogs takes logs of real requests from the file to the paid partner, and
// computes every figure a second time from the log.
func TestRealLogs(t *testing.T) {
	for _, l := range realLogs {
		t.Run(l.name, func(t *testing.T) {
			l.replay()
			file := filepath.Join(append([]string{testdata.Dir(t), "data"}, l.path...)...)
			raw, err := os.ReadFile(file)
			if err != nil {
				testdata.Missing(t, filepath.Join(l.path...), err.Error())
			}
			calls, apart := l.readAll(raw)
			if len(calls) != l.events || apart != l.apart {
				t.Fatalf("this test reads %d calls with %d equal lines, want %d and %d", len(calls), apart, l.events, l.apart)
			}
			d := &desk{t: t, dir: t.TempDir(), now: l.catalogueFrom + "T15:00:00Z"}
			for _, step := range []func(){
				func() { l.prepare(t, d, calls) },
				func() { l.ingest(t, d, file, calls) },
				func() { l.bill(t, d, calls) },
				func() { l.pay(t, d) },
			} {
				let := d.hold()
				step()
				let()
			}
		})
	}
}

func (l *realLog) readAll(raw []byte) (calls []call, apart int) {
	seen := map[string]bool{}
	in := bufio.NewScanner(bytes.NewReader(raw))
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		c, ok := l.read(in.Bytes())
		if !ok {
			continue
		}
		calls = append(calls, c)
		if seen[in.Text()] {
			apart++
		}
		seen[in.Text()] = true
	}
	return calls, apart
}

// prepare applies the catalogue, with every contract approved and accepted, and sells
// something for each partner.
func (l *realLog) prepare(t *testing.T, d *desk, calls []call) {
	t.Helper()
	d.at(l.catalogueFrom)
	dir, contracts := l.catalogue(t, calls)
	d.want(exitOK, "apply", "-f", dir, "--as", "k.lee")
	for _, c := range contracts {
		d.want(exitOK, "contract", "approve", c, "--as", "r.shah")
		d.want(exitOK, "contract", "accept", c, "--by", "the signer", "--evidence", "signed order form", "--as", "k.lee")
	}
	d.at(l.closeOn)
	var sales strings.Builder
	appOf := map[string]string{}
	for _, c := range calls {
		appOf[c.partner] = max(appOf[c.partner], c.app)
	}
	for i, p := range slices.Sorted(maps.Keys(appOf)) {
		fmt.Fprintf(&sales, `{"specversion":"1.0","id":"inv-%d","source":"billing","type":"sale.paid","time":"%s-20T12:00:00Z","subject":"lakeside","data":{"app":%q,"class":"marketplace","amount":"%d.%02d","currency":"USD"}}`+"\n",
			i, l.month, appOf[p], salesOf(i)/100, salesOf(i)%100)
	}
	file := filepath.Join(folder(t, map[string]string{"sales.ndjson": sales.String()}), "sales.ndjson")
	d.want(exitOK, "ingest", file, "--gateway", "cloudevents")
}

// ingest takes the log in, twice, and looks at the sums.
func (l *realLog) ingest(t *testing.T, d *desk, file string, calls []call) {
	t.Helper()
	code := exitOK
	if l.refused != "" {
		code = exitFound
	}
	take := func() (r ingestReport) {
		t.Helper()
		a := d.want(code, "ingest", file, "--gateway", l.mapping, "--json")
		if err := json.Unmarshal([]byte(a.out), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	n := int64(l.events)
	r := take()
	if r.Accepted != n || r.Stored != n || r.Duplicate != 0 || r.Conflict != 0 || r.Refused != r.Lines-n {
		t.Errorf("ingested %+v, want %d accepted and stored", r, n)
	}
	if l.refused != "" && (r.Refused != 1 || len(r.First) != 1 || !strings.Contains(r.First[0], l.refused+": undecodable: ")) {
		t.Errorf("refused %d: %q, want %s alone", r.Refused, r.First, l.refused)
	}
	l.compareUsage(t, d, calls)
	before := d.want(exitOK, "usage", "--by", "app,customer,status", "--json").out
	if r := take(); r.Accepted != n || r.Stored != 0 || r.Duplicate != n || r.Conflict != 0 {
		t.Errorf("ingested again %+v, want %d duplicates", r, n)
	}
	if after := d.want(exitOK, "usage", "--by", "app,customer,status", "--json").out; after != before {
		t.Error("ingesting the log again changed the sums")
	}
	var refusals []metering.Refusal
	d.read(&refusals, "quarantine", "list")
	if want := r.Refused; int64(len(refusals)) != want {
		t.Errorf("%d refusals are kept, want %d: the same line is refused once", len(refusals), want)
	}
}

func (l *realLog) compareUsage(t *testing.T, d *desk, calls []call) {
	t.Helper()
	var bytes int64
	ok := 0
	for _, c := range calls {
		bytes += c.bytes
		if c.status < 400 {
			ok++
		}
	}
	if l.bytes == 0 {
		l.bytes = bytes
	}
	var byApp, byCustomer, metered []usageRow
	d.read(&byApp, "usage", "--by", "app,type")
	byApp = slices.DeleteFunc(byApp, func(r usageRow) bool { return r.By[1] != "usage.api" })
	d.read(&byCustomer, "usage", "--by", "customer,type", "--period", l.month)
	byCustomer = slices.DeleteFunc(byCustomer, func(r usageRow) bool { return r.By[1] != "usage.api" })
	d.read(&metered, "usage", "--by", "app", "--meter", "api_calls")
	sum := func(rows []usageRow) (events, bytes int64) {
		for _, r := range rows {
			events, bytes = events+r.Events, bytes+r.Bytes
		}
		return events, bytes
	}
	events, sent := sum(byApp)
	counted, _ := sum(metered)
	if len(byApp) != l.apps || len(byCustomer) != l.customers || events != int64(l.events) || counted != int64(l.ok) || sent != l.bytes || ok != l.ok || bytes != l.bytes {
		t.Errorf("usage: %d apps, %d customers, %d events, %d below 400, %d bytes; want %d, %d, %d, %d, %d; this test counts %d below 400, %d bytes",
			len(byApp), len(byCustomer), events, counted, sent, l.apps, l.customers, l.events, l.ok, l.bytes, ok, bytes)
	}
	t.Logf("%d events, %d apps, %d customers, %d below 400, %d bytes", events, len(byApp), len(byCustomer), counted, sent)
}

// bill closes the month and compares each statement with the log.
func (l *realLog) bill(t *testing.T, d *desk, calls []call) {
	t.Helper()
	d.want(exitOK, "close", l.month, "--as", "m.ortiz")
	var v billing.Verification
	d.read(&v, "verify", l.month)
	if v.Statements != l.partners || len(v.Findings) != 0 {
		t.Errorf("verify: %+v", v)
	}
	d.at(l.issueOn)
	var issued []billing.StatementRecord
	d.read(&issued, "statement", "issue", l.month, "--as", "a.chen")
	if len(issued) != l.partners {
		t.Fatalf("%d statements, want %d", len(issued), l.partners)
	}
	count := map[string]int64{}
	for _, c := range calls {
		if c.status < 400 {
			count[c.partner]++
		}
	}
	var charged int64
	for i, r := range issued {
		fee := cents(t, new(big.Rat).Mul(new(big.Rat).SetInt64(count[string(r.Partner)]), price(i)))
		share := salesOf(i) / 5
		want := salesOf(i) - share - fee
		if r.Earned.Minor != want || r.Charges.Minor != share+fee || r.NetSales.Minor != salesOf(i) {
			t.Errorf("%s: earned %s, charges %s; want %d calls × %s = %d cents, share %d, earned %d", r.ID, r.Earned, r.Charges, count[string(r.Partner)], price(i).FloatString(6), fee, share, want)
		}
		charged += fee
	}
	checkReconciled(t, d)
	t.Logf("%d statements charge %d calls %d.%02d USD, as computed from the log", len(issued), l.ok, charged/100, charged%100)
}

// cents rounds dollars to cents; a sum that ends in half a cent is a mistake of this
// test.
func cents(t *testing.T, dollars *big.Rat) int64 {
	t.Helper()
	r := new(big.Rat).Mul(dollars, big.NewRat(100, 1))
	r.Add(r, big.NewRat(1, 2))
	n := new(big.Int).Div(r.Num(), r.Denom())
	if r.IsInt() {
		t.Fatalf("%s ends in half a cent: choose another price", dollars.FloatString(6))
	}
	return n.Int64()
}

// pay plans, approves, submits and settles the payout run.
func (l *realLog) pay(t *testing.T, d *desk) {
	t.Helper()
	d.at(l.planOn)
	var run payouts.Run
	d.read(&run, "payout", "plan", l.payOn, "--as", "m.ortiz")
	if len(run.Payouts) != l.partners {
		t.Fatalf("%d payouts planned, want %d", len(run.Payouts), l.partners)
	}
	var want int64
	for i, p := range run.Payouts {
		var r billing.StatementRecord
		d.read(&r, "statement", "show", p.UpTo)
		if p.Amount != r.Earned || r.Partner != p.Partner {
			t.Errorf("payout %d is %s, statement %s earned %s", i, p.Amount, r.ID, r.Earned)
		}
		want += r.Earned.Minor
	}
	d.want(exitOK, "payout", "approve", l.payOn, "--content", run.Short(), "--as", "a.chen")
	if run.Needs() > 1 {
		d.want(exitOK, "payout", "approve", l.payOn, "--content", run.Short(), "--as", "r.shah")
	}
	d.at(l.payOn)
	d.want(exitOK, "payout", "submit", l.payOn, "--as", "a.chen")
	var bank strings.Builder
	bank.WriteString("payout,state,amount,currency,bank_date,bank_ref\n")
	for i, p := range run.Payouts {
		fmt.Fprintf(&bank, "%s,paid,%s,%s,%s,BANK-%d\n", p.ID, p.Amount.Plain(), p.Amount.Currency, l.settled, i+1)
	}
	d.at(l.settled)
	d.want(exitOK, "payout", "settle", filepath.Join(folder(t, map[string]string{"bank.csv": bank.String()}), "bank.csv"), "--as", "m.ortiz")
	var runs []payouts.Run
	d.read(&runs, "payout", "list")
	if len(runs) != 1 || runs[0].Totals.ToPay.Minor != want {
		t.Errorf("runs %+v, want one of %d cents", runs, want)
	}
	checkReconciled(t, d)
	d.want(exitOK, "ledger", "verify")
	balance := d.want(exitOK, "ledger", "balance").out
	if strings.Contains(balance, ":due") || strings.Contains(balance, "transit") || strings.Contains(balance, ":pending") {
		t.Errorf("something is still owed or under way:\n%s", balance)
	}
	t.Logf("%d payouts of %d.%02d USD settled", len(run.Payouts), want/100, want%100)
}
