// Package demo makes a marketplace from a seed: partners, contracts, gateway logs,
// sales, leads, certifications and incidents of three months, with everything that
// goes wrong in real life: duplicates, conflicts, disorder, late events, unknown apps
// and fields that look like patients.
//
// It refuses to know how mete works: it writes files and events as the outside world
// would, and keeps count of what it sent. The same seed writes the same bytes. Read
// [Make] first.
package demo

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"mete/period"
)

// Months are the months of the demonstration.
var Months = []period.Month{{Year: 2026, Month: time.July}, {Year: 2026, Month: time.August}, {Year: 2026, Month: time.September}}

// CallsPerMonth is how many gateway calls happen in a month.
const CallsPerMonth = 67_000

// World is what was made.
type World struct {
	Dir       string
	Catalogue string     // folder of documents
	Contracts []string   // in the order of their documents
	Delivered []Delivery // in order of time
	Partners  []string
}

// Delivery is what reaches mete between two closes.
type Delivery struct {
	Month    period.Month
	Logs     []Log  // gateway logs, to be ingested
	Sales    string // NDJSON of CloudEvents: sales and refunds, to be posted over HTTP, see [Post]
	Facts    string // NDJSON of CloudEvents: leads, certifications, incidents, to be published over NATS, see [Publish]
	Receipts string // CSV of the processor's settlements
	Sent     []Sent // by each way
}

// Log is one gateway's access log.
type Log struct {
	File    string
	Gateway string // the mapping that reads it
}

// The ways in.
const (
	ByFile = "file"
	ByHTTP = "HTTP"
	ByNATS = "NATS"
)

// Sent counts what was sent by one way, by the senders' own books.
type Sent struct {
	Way        string   `json:"way"`
	Senders    []string `json:"senders"`
	Events     int      `json:"events"`
	Duplicates int      `json:"sent_again"`
	Conflicts  int      `json:"with_other_content"`
	Late       int      `json:"late"`
	Unclean    int      `json:"like_a_patient"`
	Unknown    int      `json:"unknown_app"`
}

type app struct {
	id, partner string
	tier        int
	weight      int
	base        int64 // monthly price in cents
}

type practice struct {
	id, name, zone string
	apps           []int // indexes of apps it uses
}

// generator holds the state of making one world.
type generator struct {
	rand                    *rand.Rand
	dir                     string
	apps                    []app
	practices               []practice
	held                    []call // calls of a month that are delivered after its close
	heldSales               []event
	calls                   int
	sales                   map[string]int64 // gross with tax by id, to refund
	heldRefunds, dueRefunds []event
}

type call struct {
	at       time.Time
	app      int
	practice int
	status   int
	micros   int64
	bytes    int
	op       string
	id       string
	appName  string // instead of the app's id
	customer string // instead of the practice's id
}

// Make writes a world into dir.
func Make(dir string, seed uint64) (*World, error) {
	g := &generator{rand: rand.New(rand.NewPCG(seed, 0x6d657465)), dir: dir, apps: apps, sales: map[string]int64{}}
	g.makePractices()
	w := &World{Dir: dir, Catalogue: filepath.Join(dir, "catalogue")}
	if err := g.writeCatalogue(w); err != nil {
		return nil, err
	}
	for i := range Months {
		d, err := g.month(i)
		if err != nil {
			return nil, fmt.Errorf("demo: %s: %w", Months[i], err)
		}
		w.Delivered = append(w.Delivered, d)
	}
	return w, nil
}

func (g *generator) month(i int) (Delivery, error) {
	m := Months[i]
	dir := filepath.Join(g.dir, "deliveries", m.String())
	d := Delivery{Month: m, Facts: filepath.Join(dir, "facts.ndjson"), Sales: filepath.Join(dir, "sales.ndjson"), Receipts: filepath.Join(dir, "receipts.csv")}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return d, err
	}
	files := Sent{Way: ByFile, Senders: gateways}
	if err := g.writeLogs(i, dir, &d, &files); err != nil {
		return d, err
	}
	posted := Sent{Way: ByHTTP, Senders: []string{"billing"}}
	sales, settled := g.saleEvents(i, &posted)
	if err := writeEvents(d.Sales, sales); err != nil {
		return d, err
	}
	facts := g.facts(i)
	published := Sent{Way: ByNATS, Senders: slices.Sorted(maps.Keys(factOwners)), Events: len(facts)}
	if err := writeEvents(d.Facts, facts); err != nil {
		return d, err
	}
	d.Sent = []Sent{files, posted, published}
	return d, writeReceipts(d.Receipts, m, settled)
}

// gateways write in this order; each app is behind one of them.
var gateways = []string{"nginx", "traefik", "caddy"}

// The odds of what goes wrong, in a thousand.
const (
	oddsDuplicate = 20
	oddsConflict  = 2
	oddsLate      = 12
	oddsUnclean   = 1
	oddsUnknown   = 2
)

func (g *generator) writeLogs(i int, dir string, d *Delivery, sent *Sent) error {
	calls := g.held
	sent.Late += len(g.held)
	g.held = nil
	for range CallsPerMonth {
		c := g.call(i)
		if g.odds(oddsLate) && i+1 < len(Months) {
			g.held = append(g.held, c)
			continue
		}
		calls = append(calls, c)
	}
	slices.SortStableFunc(calls, func(a, b call) int { return a.at.Compare(b.at) })
	calls = g.spoil(calls, sent)
	byGateway := make([][]call, len(gateways))
	for _, c := range calls {
		n := c.app % len(gateways)
		byGateway[n] = append(byGateway[n], c)
	}
	for n, name := range gateways {
		file := filepath.Join(dir, name+".jsonl")
		if err := writeLines(file, byGateway[n], lineOf(name)); err != nil {
			return err
		}
		d.Logs = append(d.Logs, Log{file, name})
	}
	return nil
}

// spoil adds duplicates, conflicts, refused lines and disorder.
func (g *generator) spoil(calls []call, sent *Sent) []call {
	out := make([]call, 0, len(calls)+len(calls)/20)
	for _, c := range calls {
		switch {
		case g.odds(oddsUnclean):
			bad := c
			bad.customer = []string{"jane.roe@example.org", "123-45-6789", "Patient/8831"}[g.rand.IntN(3)]
			bad.id = g.newID()
			out = append(out, bad)
			sent.Unclean++
		case g.odds(oddsUnknown):
			bad := c
			bad.appName = "app-nobody-registered"
			bad.id = g.newID()
			out = append(out, bad)
			sent.Unknown++
		}
		out = append(out, c)
		if g.odds(oddsDuplicate) {
			out = append(out, c)
			sent.Duplicates++
		}
		if g.odds(oddsConflict) {
			other := c
			other.bytes += 1 + g.rand.IntN(5000)
			out = append(out, other)
			sent.Conflicts++
		}
	}
	for i := range out { // neighbours change places, as they do between worker processes
		if j := i + g.rand.IntN(12); j < len(out) && out[i].id != out[j].id {
			g.swap(out, i, j)
		}
	}
	sent.Events += len(out)
	return out
}

// swap exchanges two lines unless that would bring a conflicting line before the one
// it conflicts with: which of the two counts must not depend on the shuffle.
func (g *generator) swap(out []call, i, j int) {
	for k := i; k <= j; k++ {
		if k != i && out[k].id == out[i].id || k != j && out[k].id == out[j].id {
			return
		}
	}
	out[i], out[j] = out[j], out[i]
}

func (g *generator) odds(inThousand int) bool { return g.rand.IntN(1000) < inThousand }

func (g *generator) newID() string {
	return fmt.Sprintf("%016x%016x", g.rand.Uint64(), g.rand.Uint64())
}

var operations = []string{"/fhir/r4/Appointment", "/fhir/r4/Slot", "/fhir/r4/Observation", "/v1/intake", "/v1/claims", "/v1/messages", "/v1/schedule"}

func (g *generator) call(i int) call {
	p := g.rand.IntN(len(g.practices))
	a := g.practices[p].apps[g.rand.IntN(len(g.practices[p].apps))]
	c := call{
		at: g.instant(i), app: a, practice: p, status: 200, micros: int64(5_000 + g.rand.IntN(350_000)),
		bytes: 200 + g.rand.IntN(20_000), op: operations[g.rand.IntN(len(operations))], id: g.newID(),
	}
	switch n := g.rand.IntN(1000); {
	case n < 2 || apps[a].partner == "helio" && n < 30:
		c.status = 503
	case n < 40:
		c.status = 404
	case n < 60:
		c.status = 201
	}
	if g.odds(8) {
		c.micros += 1_200_000
	}
	g.calls++
	return c
}

// instant is a moment of the month, mostly in office hours, the first and last hours
// of the month included.
func (g *generator) instant(i int) time.Time {
	p := Months[i].In(zones[i%len(zones)])
	span := p.End.Sub(p.Start)
	return p.Start.Add(time.Duration(g.rand.Int64N(int64(span)))).Truncate(time.Millisecond).UTC()
}

func writeLines(file string, calls []call, line func(c call) any) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, c := range calls {
		if err := enc.Encode(line(c)); err != nil {
			return err
		}
	}
	return cmp.Or(w.Flush(), f.Close())
}

func seconds(micros int64) json.Number {
	return json.Number(fmt.Sprintf("%d.%06d", micros/1e6, micros%1e6))
}

// lineOf writes a call as a gateway does: nginx and Caddy log the end of a request,
// Traefik its start and its duration in nanoseconds.
func lineOf(gateway string) func(call) any {
	end := func(c call) int64 { return c.at.UnixMicro() + c.micros }
	switch gateway {
	case "nginx":
		return func(c call) any {
			return nginxLine{seconds(end(c)), c.id, "GET", c.op, c.status, c.bytes, seconds(c.micros), c.name(), c.who()}
		}
	case "caddy":
		return func(c call) any {
			return caddyLine{"info", seconds(end(c)), "http.log.access", caddyRequest{"GET", c.op, map[string][]string{"X-App-Id": {c.name()}, "X-Customer-Id": {c.who()}}}, seconds(c.micros), c.bytes, c.status, c.id}
		}
	}
	return func(c call) any {
		return traefikLine{c.at.Format("2006-01-02T15:04:05.000000000Z"), c.micros * 1000, c.status, c.bytes, "GET", c.op, "api@file", c.name(), c.who(), c.id}
	}
}

func (c call) name() string { return cmp.Or(c.appName, apps[c.app].id) }

func (c call) who() string { return cmp.Or(c.customer, fmt.Sprintf("practice-%02d", c.practice+1)) }

type nginxLine struct {
	Msec     json.Number `json:"msec"`
	ID       string      `json:"request_id"`
	Method   string      `json:"method"`
	URI      string      `json:"uri"`
	Status   int         `json:"status"`
	Bytes    int         `json:"body_bytes_sent"`
	Duration json.Number `json:"request_time"`
	App      string      `json:"app"`
	Customer string      `json:"customer"`
}

type caddyLine struct {
	Level    string       `json:"level"`
	TS       json.Number  `json:"ts"`
	Logger   string       `json:"logger"`
	Request  caddyRequest `json:"request"`
	Duration json.Number  `json:"duration"`
	Size     int          `json:"size"`
	Status   int          `json:"status"`
	ID       string       `json:"request_id"`
}

type caddyRequest struct {
	Method  string              `json:"method"`
	URI     string              `json:"uri"`
	Headers map[string][]string `json:"headers"`
}

type traefikLine struct {
	Start    string `json:"StartUTC"`
	Duration int64  `json:"Duration"`
	Status   int    `json:"DownstreamStatus"`
	Size     int    `json:"DownstreamContentSize"`
	Method   string `json:"RequestMethod"`
	Path     string `json:"RequestPath"`
	Router   string `json:"RouterName"`
	App      string `json:"request_X-App-Id"`
	Customer string `json:"request_X-Customer-Id"`
	ID       string `json:"request_X-Request-Id"`
}
