package clickhouse

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
)

// column is one column of an INSERT, its values a slice.
type column struct {
	name, kind string
	values     any
}

// Types that columns are sent as. What the table holds as LowCardinality or Decimal is
// sent as text, which the engine converts: the client would look at each value by
// reflection, or by way of big integers.
const (
	textType          = "String"
	keyType           = "FixedString(16)"
	instantType       = "DateTime64(6, 'UTC')"
	optionalInstant   = "Nullable(DateTime64(6, 'UTC'))"
	optionalText      = "Nullable(String)"
	optionalMinor     = "Nullable(Int64)"
	maxMonthsOfInsert = 50 // the engine's own bound is 100 table partitions
)

// insert sends one INSERT, once. Its outcome is unknown if it fails.
func (s *Store) insert(ctx context.Context, table, token string, columns []column) error {
	names := make([]string, len(columns))
	types := make([]clickhouse.ColumnNameAndType, len(columns))
	for i, c := range columns {
		names[i], types[i] = c.name, clickhouse.ColumnNameAndType{Name: c.name, Type: c.kind}
	}
	settings := clickhouse.Settings{
		"async_insert":       0, // current servers turn it on
		"insert_deduplicate": 1,
	}
	if s.replicas > 1 {
		settings["insert_quorum"] = s.replicas
	}
	if token != "" {
		settings["insert_deduplication_token"] = token
	}
	sent := clickhouse.Context(ctx, clickhouse.WithSettings(settings), clickhouse.WithColumnNamesAndTypes(types))
	b, err := s.conn.PrepareBatch(sent, "INSERT INTO "+table+" ("+strings.Join(names, ", ")+")")
	if err != nil {
		return fmt.Errorf("insert into %s: %w", table, orEnded(ctx, err))
	}
	defer b.Close()
	for i, c := range columns {
		if err := b.Column(i).Append(c.values); err != nil {
			return fmt.Errorf("insert into %s: column %s: %w", table, c.name, err)
		}
	}
	if err := b.Send(); err != nil {
		return fmt.Errorf("insert into %s: %w", table, orEnded(ctx, err))
	}
	return nil
}

// repeat is an event whose key was stored before.
type repeat struct {
	*metering.Accepted
	first *known
}

// rows are those of one block.
type rows struct {
	events     []*metering.Accepted
	voids      []*metering.Accepted // of the events
	duplicates []repeat
	conflicts  []repeat
	redacted   []redactedFact // of events and conflicts
	messages   []*metering.Message
	tallies    []metering.Outcome
}

// table is one INSERT of a block.
type table struct {
	name    string
	part    int
	columns func() []column
}

// tables are the INSERTs of a block but its messages.
func (r *rows) tables(e epoch, maxRows int) []table {
	var all []table
	pieces(&all, "events", r.events, maxRows, occurred, func(es []*metering.Accepted) []column { return eventColumns(e, es) })
	pieces(&all, "keys", r.events, maxRows, nil, func(es []*metering.Accepted) []column { return keyColumns(e, es) })
	pieces(&all, "voids", r.voids, maxRows, nil, func(es []*metering.Accepted) []column { return voidColumns(e, es) })
	pieces(&all, "redacted_rows", r.redacted, maxRows, nil, factColumns)
	pieces(&all, "duplicates", r.duplicates, maxRows, occurredFirst, func(rs []repeat) []column { return repeatColumns(e, rs) })
	pieces(&all, "conflicts", r.conflicts, maxRows, occurredFirst, func(rs []repeat) []column { return conflictColumns(e, rs) })
	var un []undecoded
	for _, m := range r.messages {
		for _, u := range m.Undecoded {
			un = append(un, undecoded{m.Sequence, u})
		}
	}
	pieces(&all, "undecoded", un, maxRows, nil, func(us []undecoded) []column { return undecodedColumns(e, us) })
	return all
}

type undecoded struct {
	sequence uint64
	metering.Undecoded
}

func occurred(e *metering.Accepted) time.Time { return e.Time }
func occurredFirst(r repeat) time.Time        { return r.first.occurred }

// pieces cuts the rows of a table into INSERTs of at most maxRows rows and, if the
// table is partitioned by the month of an instant, of few months.
func pieces[T any](all *[]table, name string, rows []T, maxRows int, at func(T) time.Time, columns func([]T) []column) {
	part := 0
	add := func(rows []T) {
		for piece := range slices.Chunk(rows, maxRows) {
			*all = append(*all, table{name, part, func() []column { return columns(piece) }})
			part++
		}
	}
	if at == nil {
		add(rows)
		return
	}
	months := map[int][]T{}
	for _, r := range rows {
		t := at(r).UTC()
		m := t.Year()*12 + int(t.Month())
		months[m] = append(months[m], r)
	}
	if len(months) <= maxMonthsOfInsert { // the usual case: as they came
		add(rows)
		return
	}
	order := make([]int, 0, len(months))
	for m := range months {
		order = append(order, m)
	}
	slices.SortFunc(order, cmp.Compare[int])
	for group := range slices.Chunk(order, maxMonthsOfInsert) {
		var of []T
		for _, m := range group {
			of = append(of, months[m]...)
		}
		add(of)
	}
}

// places are the first columns of most tables.
func places[T any](e epoch, rows []T, at func(T) (uint64, int)) []column {
	epochs, sequences, indexes := make([]uint64, len(rows)), make([]uint64, len(rows)), make([]uint32, len(rows))
	for i, r := range rows {
		sequence, index := at(r)
		epochs[i], sequences[i], indexes[i] = uint64(e), sequence, uint32(index)
	}
	return []column{{"epoch", "UInt64", epochs}, {"sequence", "UInt64", sequences}, {"idx", "UInt32", indexes}}
}

func placeOf(e *metering.Accepted) (uint64, int) { return e.Position.Sequence, e.Position.Index }
func placeOfRepeat(r repeat) (uint64, int)       { return r.Position.Sequence, r.Position.Index }
func placeOfUndecoded(u undecoded) (uint64, int) { return u.sequence, u.Index }
func keyOf(e *metering.Accepted) []byte          { return e.Key[:] }

func values[T, V any](rows []T, of func(T) V) []V {
	vs := make([]V, len(rows))
	for i, r := range rows {
		vs[i] = of(r)
	}
	return vs
}

func optionalTime(t *time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return t
}

func acceptedAt(e *metering.Accepted) *time.Time { return optionalTime(&e.AcceptedAt) }

func eventColumns(e epoch, es []*metering.Accepted) []column {
	type event = *metering.Accepted
	text := func(name string, of func(*metering.Accepted) string) column {
		return column{name, textType, values(es, of)}
	}
	minor := func(name string, of func(*metering.Data) *decimal.Decimal) column {
		return column{name, optionalMinor, values(es, func(e event) *int64 {
			minor, _ := minorOf(name, of(&e.Data), e.Data.Currency) // checked before
			return minor
		})}
	}
	number := func(name string, of func(*metering.Data) *decimal.Decimal) column {
		return column{name, optionalText, values(es, func(e event) *string {
			d := of(&e.Data)
			if d == nil {
				return nil
			}
			s := d.String()
			return &s
		})}
	}
	return append(places(e, es, placeOf),
		column{"event_key", keyType, values(es, keyOf)},
		text("type", func(e event) string { return e.Type }),
		text("app", func(e event) string { return string(e.Data.App) }),
		column{"occurred_at", instantType, values(es, func(e event) time.Time { return e.Time })},
		column{"accepted_at", optionalInstant, values(es, acceptedAt)},
		column{"time_absent", "Bool", values(es, func(e event) bool { return e.TimeAbsent })},
		text("source", func(e event) string { return e.Source }),
		text("event_id", func(e event) string { return e.ID }),
		text("customer", func(e event) string { return string(e.Customer) }),
		text("class", func(e event) string { return string(e.Data.Class) }),
		text("operation", func(e event) string { return e.Data.Operation }),
		text("unit", func(e event) string { return e.Data.Unit }),
		text("currency", func(e event) string { return string(e.Data.Currency) }),
		column{"status", "UInt16", values(es, func(e event) uint16 { return uint16(e.Data.Status) })},
		text("environment", func(e event) string { return string(e.Data.Environment) }),
		text("dimensions", func(e event) string { return dimensionsOf(&e.Data) }),
		number("quantity", func(d *metering.Data) *decimal.Decimal { return d.Quantity }),
		column{"bytes", "Int64", values(es, func(e event) int64 { return e.Data.Bytes })},
		minor("amount_minor", func(d *metering.Data) *decimal.Decimal { return d.Amount }),
		minor("tax_minor", func(d *metering.Data) *decimal.Decimal { return d.TaxAmount }),
		minor("fee_minor", func(d *metering.Data) *decimal.Decimal { return d.Fee }),
		number("latency_ms", func(d *metering.Data) *decimal.Decimal { return d.LatencyMS }),
		text("deal", func(e event) string { return e.Data.Deal }),
		text("lead", func(e event) string { return e.Data.Lead }),
		text("refers_to", func(e event) string { return e.Data.RefersTo }),
		text("reference", func(e event) string { return e.Data.Reference }),
		text("region", func(e event) string { return e.Data.Region }),
		column{"paid_months", "UInt16", values(es, func(e event) uint16 { return uint16(e.Data.PaidMonths) })},
	)
}

func keyColumns(e epoch, es []*metering.Accepted) []column {
	return append(places(e, es, placeOf),
		column{"event_key", keyType, values(es, keyOf)},
		column{"content_hash", keyType, values(es, func(e *metering.Accepted) []byte { return e.Hash[:len(shortHash{})] })},
		column{"type", textType, values(es, func(e *metering.Accepted) string { return e.Type })},
		column{"app", textType, values(es, func(e *metering.Accepted) string { return string(e.Data.App) })},
		column{"occurred_at", instantType, values(es, occurred)},
	)
}

func voidColumns(e epoch, es []*metering.Accepted) []column {
	return append(places(e, es, placeOf),
		column{"event_key", keyType, values(es, keyOf)},
		column{"target_key", keyType, values(es, func(e *metering.Accepted) []byte {
			k := e.Target()
			return k[:]
		})},
		column{"accepted_at", optionalInstant, values(es, acceptedAt)},
	)
}

func repeatColumns(e epoch, rs []repeat) []column {
	return append(places(e, rs, placeOfRepeat),
		column{"event_key", keyType, values(rs, func(r repeat) []byte { return r.Key[:] })},
		column{"app", textType, values(rs, func(r repeat) string { return r.first.app })},
		column{"occurred_at", instantType, values(rs, occurredFirst)},
	)
}

func conflictColumns(e epoch, rs []repeat) []column {
	return append(repeatColumns(e, rs),
		column{"content_hash", "FixedString(32)", values(rs, func(r repeat) []byte { return r.Hash[:] })},
		column{"accepted_at", optionalInstant, values(rs, func(r repeat) *time.Time { return acceptedAt(r.Accepted) })},
		column{"event", textType, values(rs, func(r repeat) string {
			form, _ := json.Marshal(r.Event) // checked before
			return string(form)
		})},
	)
}

func undecodedColumns(e epoch, us []undecoded) []column {
	return append(places(e, us, placeOfUndecoded), column{"reason", textType, values(us, func(u undecoded) string { return u.Reason })})
}

func (r *rows) messageColumns(e epoch) []column {
	ms := r.messages
	tally := func(name string, of func(*metering.Outcome) int) column {
		vs := make([]uint32, len(ms))
		for i := range r.tallies {
			vs[i] = uint32(of(&r.tallies[i]))
		}
		return column{name, "UInt32", vs}
	}
	return []column{
		{"epoch", "UInt64", values(ms, func(*metering.Message) uint64 { return uint64(e) })},
		{"sequence", "UInt64", values(ms, func(m *metering.Message) uint64 { return m.Sequence })},
		{"accepted_at", optionalInstant, values(ms, func(m *metering.Message) *time.Time { return optionalTime(&m.AcceptedAt) })},
		{"announced", "UInt32", values(ms, func(m *metering.Message) uint32 { return uint32(m.Announced) })},
		tally("stored", func(t *metering.Outcome) int { return t.Stored }),
		tally("duplicate", func(t *metering.Outcome) int { return t.Duplicate }),
		tally("conflict", func(t *metering.Outcome) int { return t.Conflict }),
		tally("undecoded", func(t *metering.Outcome) int { return t.Undecoded }),
		{"digest", "FixedString(32)", values(ms, func(m *metering.Message) []byte { return m.Digest[:] })},
	}
}

// dimensionsOf is the canonical JSON object of the event's dimensions, empty for none.
func dimensionsOf(d *metering.Data) string {
	if len(d.Dimensions) == 0 {
		return ""
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(d.Dimensions) // a map of texts; it sorts the names
	return strings.TrimSuffix(b.String(), "\n")
}

// minorOf is an amount in minor units of its currency.
func minorOf(name string, d *decimal.Decimal, c money.Currency) (*int64, error) {
	if d == nil {
		return nil, nil
	}
	a, err := money.Exact(*d, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &a.Minor, nil
}

// The years that are kept: DateTime64 begins with 1900, and the client counts
// nanoseconds in 64 bits, which end in 2262. Others wrap around silently.
const firstYear, lastYear = 1900, 2261

// storable checks that every column keeps what the block says: the client cuts decimals
// off, and numbers and times that do not fit wrap around.
func storable(b *metering.Block) error {
	for i := range b.Messages {
		m := &b.Messages[i]
		if err := instant("acceptance", m.AcceptedAt); err != nil {
			return fmt.Errorf("message %d: %w", m.Sequence, err)
		}
		for j := range m.Events {
			e := &m.Events[j]
			if err := storableEvent(e); err != nil {
				return fmt.Errorf("event %s of source %s at message %d, index %d: %w", e.ID, e.Source, m.Sequence, e.Position.Index, err)
			}
		}
	}
	return nil
}

func storableEvent(e *metering.Accepted) error {
	d := &e.Data
	if e.Time.IsZero() {
		return fmt.Errorf("it has no time")
	}
	if err := instant("time", e.Time); err != nil {
		return err
	}
	if err := instant("accepted_at", e.AcceptedAt); err != nil {
		return err
	}
	for _, n := range [...]struct {
		name string
		d    *decimal.Decimal
	}{{"quantity", d.Quantity}, {"latency_ms", d.LatencyMS}} {
		if err := fits(n.name, n.d); err != nil {
			return err
		}
	}
	for _, n := range [...]struct {
		name string
		d    *decimal.Decimal
	}{{"amount", d.Amount}, {"tax_amount", d.TaxAmount}, {"fee", d.Fee}} {
		if _, err := minorOf(n.name, n.d, d.Currency); err != nil {
			return err
		}
	}
	for _, n := range [...]struct {
		name string
		v    int
	}{{"status", d.Status}, {"paid_months", d.PaidMonths}} {
		if n.v < 0 || n.v > 1<<16-1 {
			return fmt.Errorf("%s %d: want 0 to %d", n.name, n.v, 1<<16-1)
		}
	}
	return nil
}

// fits checks a decimal of 9 places whose whole part fits 64 bits.
func fits(name string, d *decimal.Decimal) error {
	switch {
	case d == nil || d.Exponent() == 0 && d.Coefficient().IsInt64():
		return nil
	case d.Exponent() < -metering.MaxQuantityPlaces && !d.Shift(metering.MaxQuantityPlaces).IsInteger():
		return fmt.Errorf("%s %s has more than %d decimals", name, d, metering.MaxQuantityPlaces)
	case d.Exponent() > 40 || !d.BigInt().IsInt64():
		return fmt.Errorf("%s %s does not fit 64 bits", name, d)
	}
	return nil
}

// instant checks a time, which may be zero.
func instant(name string, t time.Time) error {
	if t.IsZero() {
		return nil
	}
	if t.Nanosecond()%1000 != 0 {
		return fmt.Errorf("%s %s is finer than a microsecond", name, t.Format(time.RFC3339Nano))
	}
	if y := t.UTC().Year(); y < firstYear || y > lastYear {
		return fmt.Errorf("%s is in year %d, want %d to %d", name, y, firstYear, lastYear)
	}
	return nil
}
