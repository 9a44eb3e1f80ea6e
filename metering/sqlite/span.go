package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"mete/metering"
)

// bound is a cutoff in terms of places. Messages are numbered in the order of
// storing, so a cutoff that was taken at one moment is one number; of any other,
// only the messages between full and end are looked at one by one.
type bound struct {
	full  int64 // every place below it is within the cutoff
	end   int64 // no place from it on is
	parts metering.Cutoff
}

// everything is the bound of a nil cutoff.
var everything = bound{full: math.MaxInt64, end: math.MaxInt64}

// maxPartitions bounds the partitions of one cutoff.
const maxPartitions = 1024

// resolve finds the bound of a cutoff. It belongs in the transaction that uses it.
func resolve(ctx context.Context, tx *sql.Tx, c metering.Cutoff) (bound, error) {
	if c == nil {
		return everything, nil
	}
	if len(c) > maxPartitions {
		return bound{}, fmt.Errorf("cutoff of %d partitions: want at most %d", len(c), maxPartitions)
	}
	b := bound{full: math.MaxInt64, end: 0, parts: c}
	named := map[int]bool{}
	for _, p := range c {
		if named[p.Partition] {
			return bound{}, fmt.Errorf("cutoff names partition %d twice", p.Partition)
		}
		named[p.Partition] = true
		var within, beyond sql.NullInt64
		if err := tx.QueryRowContext(ctx, `
			SELECT (SELECT id FROM messages WHERE partition = $1 AND (incarnation, sequence) <= ($2, $3) ORDER BY incarnation DESC, sequence DESC LIMIT 1),
			       (SELECT id FROM messages WHERE partition = $1 AND (incarnation, sequence) >  ($2, $3) ORDER BY incarnation, sequence LIMIT 1)`,
			p.Partition, p.Incarnation, clamp(p.Sequence)).Scan(&within, &beyond); err != nil {
			return bound{}, fmt.Errorf("cutoff of partition %d: %w", p.Partition, err)
		}
		if within.Valid {
			b.end = max(b.end, (within.Int64+1)<<placeBits)
		}
		if beyond.Valid {
			b.full = min(b.full, beyond.Int64<<placeBits)
		}
	}
	// A partition that the cutoff does not name is beyond it as a whole.
	rows, err := tx.QueryContext(ctx, `SELECT partition FROM positions`)
	if err != nil {
		return bound{}, err
	}
	defer rows.Close()
	var unnamed []int
	for rows.Next() {
		var p int
		if err := rows.Scan(&p); err != nil {
			return bound{}, err
		}
		if !named[p] {
			unnamed = append(unnamed, p)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return bound{}, err
	}
	for _, p := range unnamed {
		var beyond sql.NullInt64
		if err := tx.QueryRowContext(ctx, `SELECT id FROM messages WHERE partition = $1 ORDER BY incarnation, sequence LIMIT 1`, p).Scan(&beyond); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return bound{}, err
		}
		if beyond.Valid {
			b.full = min(b.full, beyond.Int64<<placeBits)
		}
	}
	b.full = min(b.full, b.end) // beyond end nothing is within
	return b, nil
}

func clamp(sequence uint64) int64 { return int64(min(sequence, math.MaxInt64)) }

// condition is SQL text with its arguments, in order.
type condition struct {
	text strings.Builder
	args []any
}

func (c *condition) add(text string, args ...any) {
	c.text.WriteString(text)
	c.args = append(c.args, args...)
}

// within adds: the place lies within the bound. The first comparison alone decides
// where full and end are the same, and lets SQLite read a range of places.
func (c *condition) within(place string, b bound) {
	switch {
	case b.end == math.MaxInt64 && b.full == math.MaxInt64:
		c.add(`1`)
	case b.full == b.end:
		c.add(place+` < ?`, b.end)
	default:
		c.add(`(`+place+` < ? AND (`+place+` < ? OR `, b.end, b.full)
		c.listed(place, b)
		c.add(`))`)
	}
}

// beyond adds: the place lies beyond the bound.
func (c *condition) beyond(place string, b bound) {
	switch {
	case b.full == b.end:
		c.add(place+` >= ?`, b.end)
	default:
		c.add(`(`+place+` >= ? AND (`+place+` >= ? OR NOT `, b.full, b.end)
		c.listed(place, b)
		c.add(`))`)
	}
}

// listed adds: the message of the place is within one of the bound's partitions.
func (c *condition) listed(place string, b bound) {
	c.add(`EXISTS (SELECT 1 FROM messages m WHERE m.id = ` + place + ` >> 20 AND (0`)
	for _, p := range b.parts {
		c.add(` OR m.partition = ? AND (m.incarnation, m.sequence) <= (?, ?)`, p.Partition, p.Incarnation, clamp(p.Sequence))
	}
	c.add(`))`)
}

// span is a metering.Span made ready to ask with.
type span struct {
	metering.Span
	after *bound // nil: from the beginning
	upTo  bound
}

func resolveSpan(ctx context.Context, tx *sql.Tx, s metering.Span) (span, error) {
	r := span{Span: s}
	var err error
	if r.upTo, err = resolve(ctx, tx, s.UpTo); err != nil {
		return span{}, err
	}
	if len(s.After) > 0 {
		b, err := resolve(ctx, tx, s.After)
		if err != nil {
			return span{}, err
		}
		r.after = &b
	}
	return r, nil
}

// index says how to find the events of the span: those after a cutoff by place,
// others by time.
func (s *span) index() string {
	if s.after != nil || s.Start.IsZero() && s.End.IsZero() {
		return `NOT INDEXED`
	}
	return `INDEXED BY events_by_time`
}

// occurred adds: event e occurred within the span's times.
func (c *condition) occurred(s *span) {
	start, end := int64(math.MinInt64), int64(math.MaxInt64)
	if !s.Start.IsZero() {
		start = ceilMicros(s.Start)
	}
	if !s.End.IsZero() {
		end = ceilMicros(s.End)
	}
	c.add(`e.occurred_us >= ? AND e.occurred_us < ?`, start, end)
}

// ceilMicros is the first whole microsecond not before t: no event lies between.
func ceilMicros(t time.Time) int64 {
	us := t.UnixMicro()
	if time.UnixMicro(us).Before(t) {
		us++
	}
	return us
}

// stored adds: the place lies between the span's cutoffs.
func (c *condition) stored(place string, s *span) {
	c.within(place, s.upTo)
	if s.after != nil {
		c.add(` AND `)
		c.beyond(place, *s.after)
	}
}

// oneOf adds: the column is one of the values, which may be none.
func oneOf[T ~string](c *condition, column string, values []T) error {
	if values == nil {
		values = []T{}
	}
	list, err := json.Marshal(values)
	if err != nil {
		return err
	}
	c.add(column+` IN (SELECT value FROM json_each(?))`, string(list))
	return nil
}

// notVoided adds: no void that lies up to the span's cutoff takes event e out. A
// void cannot take out another void.
func (c *condition) notVoided(s *span) {
	c.add(`e.place NOT IN (SELECT v.target FROM voids v WHERE v.target IS NOT NULL AND `)
	c.within(`v.place`, s.upTo)
	c.add(` AND NOT EXISTS (SELECT 1 FROM voids w WHERE w.place = v.target))`)
}

// read runs f in one read transaction, which sees the file at one instant.
func (s *Store) read(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback() // nothing to lose
	err = f(tx)
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // the engine only says that it was interrupted
	}
	return err
}
