package clickhouse

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mete/metering"
)

// span is a metering.Span made ready to ask with.
type span struct {
	metering.Span
	upTo   bounds
	after  *bounds // nil: from the beginning
	voided bool    // some void lies up to the span's cutoff
}

// resolve reads the chain and what the span means by it. Rows up to a position never
// change, so what is asked afterwards sees one state of the store.
func (s *Store) resolve(ctx context.Context, sp metering.Span) (*span, error) {
	c, err := s.chain(ctx, allPartitions)
	if err != nil {
		return nil, err
	}
	r := &span{Span: sp}
	if r.upTo, err = c.upTo(sp.UpTo); err != nil {
		return nil, err
	}
	if len(sp.After) > 0 {
		b, err := c.after(sp.After)
		if err != nil {
			return nil, err
		}
		r.after = &b
	}
	err = s.each(ctx, `SELECT 1 FROM voids WHERE `+r.upTo.within("")+` LIMIT 1`, func(func(...any) error) error {
		r.voided = true
		return nil
	})
	return r, err
}

// quote writes a text for a query.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// oneOf writes the condition that the column is one of the values, which may be none.
func oneOf[T ~string](column string, values []T) string {
	if len(values) == 0 {
		return "0"
	}
	var q strings.Builder
	q.WriteString(column + " IN (")
	for i, v := range values {
		if i > 0 {
			q.WriteByte(',')
		}
		q.WriteString(quote(string(v)))
	}
	q.WriteByte(')')
	return q.String()
}

// occurred writes the condition that a row occurred within the span's times.
func (s *span) occurred(table string) string {
	q := "1"
	if !s.Start.IsZero() {
		q += " AND " + table + "occurred_at >= " + instantText(s.Start)
	}
	if !s.End.IsZero() {
		q += " AND " + table + "occurred_at < " + instantText(s.End)
	}
	return q
}

// instantText writes the first whole microsecond not before t: no event lies between.
// What lies outside the years that the store keeps becomes their first instant, or the
// one after the last.
func instantText(t time.Time) string {
	first, end := time.Date(firstYear, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(lastYear+1, 1, 1, 0, 0, 0, 0, time.UTC)
	if t.Before(first) {
		t = first
	}
	if t.After(end) {
		t = end
	}
	us := t.UnixMicro()
	if time.UnixMicro(us).Before(t) {
		us++
	}
	return "fromUnixTimestamp64Micro(toInt64(" + strconv.FormatInt(us, 10) + "), 'UTC')"
}

// stored writes the condition that a row lies between the span's cutoffs.
func (s *span) stored(table string) string {
	q := s.upTo.within(table)
	if s.after != nil {
		q += " AND " + s.after.beyond(table)
	}
	return q
}

// ofApps writes the condition that a row is of the span's apps.
func (s *span) ofApps(table string) string {
	if s.Apps == nil {
		return "1"
	}
	return oneOf(table+"app", s.Apps)
}

// notVoided writes the condition that no void up to the span's cutoff takes the event
// out. A void cannot take out another void.
func (s *span) notVoided() string {
	if !s.voided {
		return "1"
	}
	return "(type = " + quote(metering.UsageVoided) + " OR event_key GLOBAL NOT IN (SELECT target_key FROM voids WHERE " + s.upTo.within("") + "))"
}

// describe names a span in errors.
func describe(s metering.Span) string {
	side := func(t time.Time) string {
		if t.IsZero() {
			return "…"
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	text := fmt.Sprintf("from %s to %s", side(s.Start), side(s.End))
	if s.Apps != nil {
		text += fmt.Sprintf(" of %d apps", len(s.Apps))
	}
	return text
}
