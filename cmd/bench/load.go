package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
)

// load is the events that benchmarks send: calls as a gateway reports them, with random
// ids of 32 digits, evenly apart. Event n is the same in every run, and [load.rows]
// says the same in SQL.
type load struct {
	start time.Time
	step  time.Duration // between events; whole milliseconds
}

// What the events are of.
const (
	loadSource    = "bench"
	loadApps      = 20
	loadCustomers = 400
)

// calls are the events of all benchmarks but those that ask for months.
var calls = load{time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC), 10 * time.Millisecond}

var loadStatus = [...]int{200, 200, 200, 200, 200, 200, 200, 200, 404, 503}

func (l load) event(n int) metering.Event {
	sum := md5.Sum(strconv.AppendInt(nil, int64(n), 10))
	a, b := binary.LittleEndian.Uint64(sum[:8]), binary.LittleEndian.Uint64(sum[8:])
	latency := decimal.NewFromUint64(5 + b/100_000%300)
	return metering.Event{
		ID: hex.EncodeToString(sum[:]), Source: loadSource, Type: metering.UsageAPI,
		Time:     l.start.Add(time.Duration(n) * l.step),
		Customer: partner.CustomerID(fmt.Sprintf("practice-%03d", a%loadCustomers)),
		Data: metering.Data{
			App: loadApp(a%loadCustomers*7 + b%3), Operation: fmt.Sprintf("op-%d", a/1000%8), Class: metering.API,
			Status: loadStatus[b/1000%10], LatencyMS: &latency, Bytes: int64(200 + a/100_000%9000),
		},
	}
}

// loadApp is one of the apps. A customer uses three of them.
func loadApp(n uint64) partner.AppID {
	return partner.AppID(fmt.Sprintf("bench-app-%d", n%loadApps))
}

func (l load) events(from, count int) []metering.Event {
	es := make([]metering.Event, count)
	for i := range es {
		es[i] = l.event(from + i)
	}
	return es
}

// body is a batch of events as they are posted.
func (l load) body(from, count int) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for i := range count {
		if i > 0 {
			b.WriteByte(',')
		}
		e := l.event(from + i)
		fmt.Fprintf(&b, `{"specversion":"1.0","id":%q,"source":%q,"type":%q,"subject":%q,"time":%q,"data":{"app":%q,"operation":%q,"class":%q,"status":%d,"latency_ms":%s,"bytes":%d}}`,
			e.ID, e.Source, e.Type, e.Customer, e.Time.Format(time.RFC3339Nano), e.Data.App, e.Data.Operation, e.Data.Class, e.Data.Status, e.Data.LatencyMS, e.Data.Bytes)
	}
	b.WriteByte(']')
	return b.Bytes()
}

// rows is SQL for the engine: the columns that the store keeps of events, in rows i of
// [from, from+count). N is the number of row i's event; epoch, sequence and index say
// where it lies, all of them expressions over i and event_key.
func (l load) rows(from, count int, n, epoch, sequence, index string) string {
	lengthed := func(parts ...string) string { // each behind its length, as hashes take them
		q := "concat(''"
		for _, p := range parts {
			q += `, '\0\0\0', char(length(` + p + `)), ` + p
		}
		return q + ")"
	}
	text := func(s string) string { return "'" + s + "'" }
	content := lengthed(text("mete event 1"), text("id"), "event_id", text("source"), "source", text("type"), "type", text("time"), "time_text",
		text("subject"), "customer", text("app"), "app", text("operation"), "operation", text("class"), "class",
		text("status"), "toString(status)", text("latency_ms"), "toString(latency_ms)", text("bytes"), "toString(bytes)")
	status := ""
	for i, s := range loadStatus {
		if i > 0 {
			status += ", "
		}
		status += strconv.Itoa(s)
	}
	return fmt.Sprintf(`
		WITH number AS i, toInt64(%s) AS n, MD5(toString(n)) AS sum,
		     reinterpretAsUInt64(substring(sum, 1, 8)) AS a, reinterpretAsUInt64(substring(sum, 9, 8)) AS b,
		     toInt64(%d) + n * %d AS at_ms,
		     concat(formatDateTime(toDateTime(intDiv(at_ms, 1000), 'UTC'), '%%Y-%%m-%%dT%%H:%%i:%%S'),
		            if(at_ms %% 1000 = 0, '', concat('.', trim(TRAILING '0' FROM leftPad(toString(at_ms %% 1000), 3, '0')))), 'Z') AS time_text
		SELECT %s AS epoch, toUInt64(%s) AS sequence, toUInt32(%s) AS idx,
		       CAST(substring(SHA256(%s), 1, 16) AS FixedString(16)) AS event_key,
		       CAST(substring(SHA256(%s), 1, 16) AS FixedString(16)) AS content_hash,
		       '%s' AS type, concat('bench-app-', toString((a %% %d * 7 + b %% 3) %% %d)) AS app, fromUnixTimestamp64Milli(at_ms, 'UTC') AS occurred_at,
		       CAST(NULL AS Nullable(DateTime64(6, 'UTC'))) AS accepted_at, false AS time_absent, '%s' AS source, lower(hex(sum)) AS event_id,
		       concat('practice-', leftPad(toString(a %% %d), 3, '0')) AS customer, '%s' AS class, concat('op-', toString(intDiv(a, 1000) %% 8)) AS operation,
		       '' AS unit, '' AS currency, [%s][1 + intDiv(b, 1000) %% 10] AS status, '' AS environment, '' AS dimensions,
		       CAST(NULL AS Nullable(Decimal(38, 9))) AS quantity, toInt64(200 + intDiv(a, 100000) %% 9000) AS bytes,
		       CAST(NULL AS Nullable(Int64)) AS amount_minor, amount_minor AS tax_minor, amount_minor AS fee_minor, 5 + intDiv(b, 100000) %% 300 AS latency_ms,
		       '' AS deal, '' AS lead, '' AS refers_to, '' AS reference, '' AS region, 0 AS paid_months, i
		  FROM numbers_mt(%d, %d)`,
		n, l.start.UnixMilli(), l.step.Milliseconds(), epoch, sequence, index,
		lengthed("source", "event_id"), content, metering.UsageAPI, loadCustomers, loadApps, loadSource, loadCustomers, metering.API, status, from, count)
}

// The columns of [load.rows] that the store writes into each table.
const (
	eventNames = `epoch, sequence, idx, event_key, type, app, occurred_at, accepted_at, time_absent, source, event_id, customer,
		class, operation, unit, currency, status, environment, dimensions, quantity, bytes, amount_minor, tax_minor, fee_minor,
		latency_ms, deal, lead, refers_to, reference, region, paid_months`
	keyNames    = `epoch, sequence, idx, event_key, content_hash, type, app, occurred_at`
	repeatNames = `epoch, sequence, idx, event_key, app, occurred_at`
)

// partitionOf is the partition of a row's key, in SQL.
func partitionOf(partitions int) string {
	return fmt.Sprintf(`reinterpretAsUInt64(reverse(substring(event_key, 1, 8))) %% %d`, partitions)
}

// loadDirectory knows the apps and the source of a load.
func loadDirectory(context.Context) (*metering.Directory, error) {
	var apps []partner.App
	for i := range uint64(loadApps) {
		apps = append(apps, partner.App{ID: loadApp(i), Partner: "bench"})
	}
	return metering.NewDirectory(apps, nil, []metering.Source{{Name: loadSource, Owner: "bench"}}), nil
}

// blocks lays events into messages as large as the stream's, and these into blocks,
// behind the given positions, which it moves on.
func blocks(events []metering.Event, positions []uint64, perMessage, perBlock int) []metering.Block {
	at := calls.start
	messages := make([][]metering.Message, len(positions))
	for _, e := range events {
		k := e.Key()
		p := k.Partition(len(positions))
		if n := len(messages[p]); n == 0 || len(messages[p][n-1].Events) == perMessage {
			positions[p]++
			m := metering.Message{Sequence: positions[p], AcceptedAt: at}
			binary.LittleEndian.PutUint64(m.Digest[:], m.Sequence)
			messages[p] = append(messages[p], m)
		}
		m := &messages[p][len(messages[p])-1]
		m.Events = append(m.Events, metering.Accepted{Event: e, Key: k, Hash: metering.ContentHash(e), AcceptedAt: at,
			Position: metering.Position{Incarnation: 1, Partition: p, Sequence: m.Sequence, Index: m.Announced}})
		m.Announced++
	}
	var all []metering.Block
	for from, left := 0, true; left; from++ { // the partitions in turn
		left = false
		for p := range messages {
			ms := messages[p]
			n := max(1, perBlock/perMessage)
			if from*n >= len(ms) {
				continue
			}
			left = true
			ms = ms[from*n : min((from+1)*n, len(ms))]
			all = append(all, metering.Block{Incarnation: 1, Partition: p, First: ms[0].Sequence, Last: ms[len(ms)-1].Sequence, Messages: ms})
		}
	}
	return all
}
