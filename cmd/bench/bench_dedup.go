package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"mete/metering"
	"mete/metering/clickhouse"
)

// The load of benchDedup: what was sent, one in ten of it again, over three months.
const (
	dedupSent    = 10_800_000
	dedupInserts = 27 // parts, some more since a part holds one month
	dedupRounds  = 7
	dedupWhole   = 3 // rounds over all months
)

// The months that events are spread over, and the one that is asked for.
var (
	dedupStart = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	dedupMonth = metering.Span{Start: time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)}
	dedupEnd   = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
)

// benchDedup sums one month of events of which one in ten was sent twice, where a
// repeat is found: before it is stored, as mete does, or by each question, as a table
// that takes everything must. Same engine, same columns, same sort order.
func benchDedup(ctx context.Context, _ bool, emit func(Result)) error {
	e, err := startEngine()
	if err != nil {
		return err
	}
	defer e.Close()
	d := dedup{engine: e, sent: dedupSent, others: true, emit: emit}
	return d.run(ctx)
}

type dedup struct {
	engine *engine
	sent   int
	others bool // also the tables of the others
	emit   func(Result)
}

// method is one way to count each event once.
type method struct {
	name  string
	query func(where string) string // where: the type and the time
}

const (
	dedupSums = `SELECT count(), sum(bytes), sum(ifNull(quantity, toDecimal128(1, 9)))`
	dedupType = `type = '` + metering.UsageAPI + `'`
)

func (d *dedup) run(ctx context.Context) error {
	e := d.engine
	t, err := startTap(e, func(p *passed) bool { return p.asks("events") })
	if err != nil {
		return err
	}
	defer t.close()
	store, err := clickhouse.Open(ctx, clickhouse.Options{DSN: t.dsn()})
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := store.Attach(ctx, "bench", dedupPartitions); err != nil {
		return err
	}
	if err := d.fill(ctx); err != nil {
		return err
	}
	seen, err := d.seen(ctx, store, t)
	if err != nil {
		return err
	}
	ours := method{"counted once when stored", func(where string) string {
		return dedupSums + ` FROM events WHERE ` + where + ` AND ` + seen.visible
	}}
	peers := []method{
		{"ReplacingMergeTree, FINAL", func(where string) string {
			return dedupSums + ` FROM replaced FINAL WHERE ` + where
		}},
		{"LIMIT 1 BY event", func(where string) string {
			return dedupSums + ` FROM (SELECT bytes, quantity FROM replaced WHERE ` + where + ` LIMIT 1 BY event_key)`
		}},
		{"GROUP BY event", func(where string) string {
			return dedupSums + ` FROM (SELECT any(bytes) AS bytes, any(quantity) AS quantity FROM replaced WHERE ` + where + ` GROUP BY event_key)`
		}},
		// The key of 16 bytes is ours. Who takes everything has what was sent.
		{"GROUP BY source and id", func(where string) string {
			return dedupSums + ` FROM (SELECT any(bytes) AS bytes, any(quantity) AS quantity FROM replaced WHERE ` + where + ` GROUP BY source, event_id)`
		}},
	}
	month := dedupType + ` AND occurred_at >= ` + instant(dedupMonth.Start) + ` AND occurred_at < ` + instant(dedupMonth.End)
	for _, state := range []string{"many parts", "merged"} {
		if state == "merged" {
			if err := d.merge(ctx); err != nil {
				return err
			}
		}
		for _, of := range []struct {
			what, where string
			rounds      int
		}{{"a month", month, dedupRounds}, {"all", dedupType, dedupWhole}} {
			name := of.what + ", " + state + ": "
			parts, err := d.parts(ctx)
			if err != nil {
				return err
			}
			base, err := d.measure(ctx, ours.query(of.where), of.rounds)
			if err != nil {
				return err
			}
			d.show(name+ours.name, base, Limit{}, parts["events"]+" parts")
			for _, m := range peers {
				got, err := d.measure(ctx, m.query(of.where), of.rounds)
				if err != nil {
					return err
				}
				if got.text != base.text {
					return fmt.Errorf("%s%s answers %q, ours %q", name, m.name, got.text, base.text)
				}
				d.show(name+m.name, got, Limit{"ours", base.middle}, parts["replaced"]+" parts")
			}
		}
		cells, err := d.measure(ctx, seen.query, dedupRounds)
		if err != nil {
			return err
		}
		d.show("a month, "+state+": all cells, as Store.Usage asks", cells, Limit{}, fmt.Sprintf("%d cells", strings.Count(cells.text, "\n")+1))
	}
	return nil
}

// figures are those of one query.
type figures struct {
	text                    string
	middle, lowest, highest float64 // ms
	rounds                  int
	rows, memory            float64
}

// measure asks the same several times: once unmeasured, so that all find the same
// pages in memory.
func (d *dedup) measure(ctx context.Context, query string, rounds int) (figures, error) {
	f := figures{rounds: rounds}
	var each []float64
	memory, err := d.engine.peak(ctx, func() error {
		a, err := d.engine.ask(ctx, query)
		f.text, f.rows = a.text, a.rows
		return err
	})
	if err != nil {
		return f, err
	}
	f.memory = memory
	for range rounds {
		a, err := d.engine.ask(ctx, query)
		if err != nil {
			return f, err
		}
		if a.text != f.text && !strings.Contains(a.text, "\n") {
			return f, fmt.Errorf("%q, then %q: %s", f.text, a.text, query)
		}
		each = append(each, ms(a.took))
	}
	slices.Sort(each)
	f.middle, f.lowest, f.highest = each[len(each)/2], each[0], each[len(each)-1]
	return f, nil
}

func (d *dedup) show(name string, f figures, l Limit, note string) {
	d.emit(Result{Name: name, Value: f.middle, Unit: "ms", Limit: l,
		Note: fmt.Sprintf("%s · median of %d, %s to %s", note, f.rounds, number(f.lowest), number(f.highest))})
	d.emit(Result{Name: "  rows read", Value: f.rows})
	d.emit(Result{Name: "  memory beyond what the engine held", Value: f.memory, Unit: "MB"})
}

// seen is what the store asks for the month, and its condition on what counts.
type seen struct{ query, visible string }

// seen lets the store answer, and takes the query from the wire.
func (d *dedup) seen(ctx context.Context, store *clickhouse.Store, t *tap) (seen, error) {
	t.taken()
	var count int64
	for u, err := range store.Usage(ctx, dedupMonth) {
		if err != nil {
			return seen{}, err
		}
		count += u.Count
	}
	all := t.taken()
	if len(all) != 1 {
		return seen{}, fmt.Errorf("the store asked %d questions to its events, want one", len(all))
	}
	s := seen{query: all[0].query}
	// The condition is the comparison of the sequence with the bound of its epoch.
	from := strings.Index(s.query, "sequence <= transform(")
	if from < 0 {
		return seen{}, fmt.Errorf("no condition on the sequence in %s", s.query)
	}
	s.visible = closed(s.query[from:])
	want, err := d.engine.number(ctx, `SELECT count() FROM (`+d.rows(0, d.sent)+`) WHERE NOT again AND occurred_at >= `+instant(dedupMonth.Start)+` AND occurred_at < `+instant(dedupMonth.End))
	if err != nil {
		return seen{}, err
	}
	if float64(count) != want {
		return seen{}, fmt.Errorf("the store counts %d events in the month, %s were sent", count, number(want))
	}
	return s, nil
}

// closed is q up to the bracket that closes its first one.
func closed(q string) string {
	open := 0
	for i, c := range q {
		switch c {
		case '(':
			open++
		case ')':
			if open--; open == 0 {
				return q[:i+1]
			}
		}
	}
	return q
}

func instant(t time.Time) string {
	return "fromUnixTimestamp64Micro(toInt64(" + strconv.FormatInt(t.UnixMicro(), 10) + "), 'UTC')"
}

const (
	dedupPartitions = 4
	dedupMessage    = 800 // events, of all partitions together
	dedupLease      = 1
)

// dedupEpochs are one for each partition, with the random bits that epochs have.
var dedupEpochs = [dedupPartitions]uint64{dedupLease<<38 | 0x2a51f<<10, dedupLease<<38 | 0x0b3c7<<10 | 1, dedupLease<<38 | 0x1f0d2<<10 | 2, dedupLease<<38 | 0x37e84<<10 | 3}

// load is what was sent, spread over all months.
func (d *dedup) load() load {
	return load{dedupStart, (dedupEnd.Sub(dedupStart) / time.Duration(d.sent)).Truncate(time.Millisecond)}
}

// rows are what was sent, in the order of sending, and whether it was sent before. One
// in ten repeats one of the last 200,000.
func (d *dedup) rows(from, count int) string {
	return `SELECT *, i % 10 = 9 AS again FROM (` + d.load().rows(from, count,
		`if(i % 10 = 9, greatest(toInt64(i) - 1 - 10 * toInt64(intHash32(i) % 20000), 8), toInt64(i))`,
		fmt.Sprintf(`[%d, %d, %d, %d][1 + %s]`, dedupEpochs[0], dedupEpochs[1], dedupEpochs[2], dedupEpochs[3], partitionOf(dedupPartitions)),
		fmt.Sprintf(`1 + intDiv(i, %d)`, dedupMessage), fmt.Sprintf(`i %% %d`, dedupMessage)) + `)`
}

// fill stores what was sent: as mete does, and for the others as it came, in a table of
// the same columns, order and partitions, which also replaces when parts merge.
func (d *dedup) fill(ctx context.Context) error {
	e := d.engine
	if d.others {
		made, err := e.ask(ctx, `SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = 'events' FORMAT TSVRaw`)
		if err != nil {
			return err
		}
		replaced := strings.Replace(strings.Replace(made.text, ".events", ".replaced", 1), "ENGINE = MergeTree", "ENGINE = ReplacingMergeTree", 1)
		if err := e.do(ctx, replaced, `SYSTEM STOP MERGES replaced`, `SYSTEM STOP MERGES events`); err != nil {
			return err
		}
	}
	for i := range dedupInserts {
		from := d.sent / dedupInserts * i
		count := d.sent / dedupInserts
		if i == dedupInserts-1 {
			count = d.sent - from
		}
		rows := d.rows(from, count)
		if d.others {
			if err := e.do(ctx, `INSERT INTO replaced (`+eventNames+`) SELECT `+eventNames+` FROM (`+rows+`)`); err != nil {
				return err
			}
		}
		if err := e.do(ctx,
			`INSERT INTO events (`+eventNames+`) SELECT `+eventNames+` FROM (`+rows+`) WHERE NOT again`,
			`INSERT INTO keys (`+keyNames+`) SELECT `+keyNames+` FROM (`+rows+`) WHERE NOT again`,
			`INSERT INTO duplicates (`+repeatNames+`) SELECT `+repeatNames+` FROM (`+rows+`) WHERE again`,
		); err != nil {
			return err
		}
	}
	for p, epoch := range dedupEpochs {
		if err := e.do(ctx, fmt.Sprintf(`INSERT INTO epochs (epoch, partition, lease, previous, starts_after, owner) VALUES (%d, %d, %d, 0, 0, 'bench')`,
			epoch, p, dedupLease)); err != nil {
			return err
		}
	}
	return e.do(ctx, `INSERT INTO messages (epoch, sequence, announced, stored, duplicate)
		SELECT epoch, sequence, count(), countIf(NOT again), countIf(again)
		  FROM (SELECT epoch, sequence, false AS again FROM keys UNION ALL SELECT epoch, sequence, true FROM duplicates)
		 GROUP BY epoch, sequence`)
}

// merge lets the engine bring each month into one part, by which the others lose
// their repeats.
func (d *dedup) merge(ctx context.Context) error {
	return d.engine.do(ctx, `SYSTEM START MERGES replaced`, `SYSTEM START MERGES events`,
		`OPTIMIZE TABLE replaced FINAL`, `OPTIMIZE TABLE events FINAL`)
}

// parts says how many parts each table has.
func (d *dedup) parts(ctx context.Context) (map[string]string, error) {
	a, err := d.engine.ask(ctx, `SELECT table, count() FROM system.parts WHERE database = currentDatabase() AND active GROUP BY table`)
	if err != nil {
		return nil, err
	}
	parts := map[string]string{}
	for line := range strings.Lines(a.text) {
		if table, n, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			parts[table] = n
		}
	}
	if parts["events"] == "" || parts["replaced"] == "" {
		return nil, errors.New("the tables have no parts")
	}
	return parts, nil
}
