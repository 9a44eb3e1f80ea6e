package clickhouse

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/partner"
)

// errStop ends a read whose consumer has had enough.
var errStop = errors.New("stop")

// iterate turns a read that hands out values into an iterator. It ends with the
// read's error, if any.
func iterate[T any](what string, read func(yield func(T) error) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := read(func(v T) error {
			if !yield(v, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			var none T
			yield(none, fmt.Errorf("%s: %w", what, err))
		}
	}
}

// maxCount is how many events of a cell can be added up before a sum of quantities, in
// billionths of 64 bits each, could exceed the 128 bits that it is made in.
const maxCount = 10_000_000_000

// Usage yields the cells of the span, see [metering.Store]. Sums are exact; one that
// does not fit 64 bits is an error.
func (s *Store) Usage(ctx context.Context, sp metering.Span) iter.Seq2[metering.Usage, error] {
	return iterate("usage "+describe(sp), func(yield func(metering.Usage) error) error {
		r, err := s.resolve(ctx, sp)
		if err != nil {
			return err
		}
		return s.each(ctx, usageQuery(r), func(scan func(...any) error) error {
			var app, customer, class, currency, environment string
			var status uint16
			var count, slow uint64
			var bytes, minor big.Int
			var u metering.Usage
			if err := scan(&app, &customer, &u.Type, &class, &u.Operation, &u.Unit, &currency, &status, &environment, &u.Dimensions,
				&count, &u.Quantity, &bytes, &minor, &slow); err != nil {
				return err
			}
			u.App, u.Customer, u.Class, u.Currency = partner.AppID(app), partner.CustomerID(customer), metering.Class(class), money.Currency(currency)
			u.Status, u.Environment = int(status), metering.Environment(environment)
			if count > maxCount || !bytes.IsInt64() || !minor.IsInt64() || !u.Quantity.BigInt().IsInt64() {
				return fmt.Errorf("a sum of quantity, bytes or amount of app %s exceeds 64 bits; ask for a shorter span or fewer apps", app)
			}
			u.Count, u.Slow, u.Bytes = int64(count), int64(slow), bytes.Int64()
			u.Amount = money.New(minor.Int64(), u.Currency).Decimal()
			return yield(u)
		})
	})
}

// usageQuery adds up the events of a span by cell.
func usageQuery(r *span) string {
	return `SELECT app, customer, type, class, operation, unit, currency, status, environment, dimensions,
		       count(), sum(ifNull(quantity, toDecimal128(1, 9))), sum(toInt128(bytes)), sum(toInt128(ifNull(amount_minor, 0))),
		       countIf(latency_ms > ` + strconv.Itoa(metering.SlowMS) + `)
		  FROM events WHERE type <> ` + quote(metering.UsageVoided) + ` AND ` + r.occurred("") + ` AND ` + r.ofApps("") + ` AND ` + r.stored("") + ` AND ` + r.notVoided() + `
		 GROUP BY app, customer, type, class, operation, unit, currency, status, environment, dimensions`
}

// Transactions yields the events of the given types in (time, key) order, see
// [metering.Store].
func (s *Store) Transactions(ctx context.Context, sp metering.Span, types []string) iter.Seq2[metering.Transaction, error] {
	return iterate(fmt.Sprintf("transactions of types %q %s", types, describe(sp)), func(yield func(metering.Transaction) error) error {
		return s.events(ctx, sp, false, oneOf("type", types), func(a metering.Accepted) error {
			return yield(metering.Transaction{Key: a.Key, Position: a.Position, Event: a.Event})
		})
	})
}

// Events yields the events of the span that the filter names, in (time, key) order,
// see [metering.Store].
func (s *Store) Events(ctx context.Context, sp metering.Span, f metering.Filter) iter.Seq2[metering.Accepted, error] {
	return iterate("events "+describe(sp), func(yield func(metering.Accepted) error) error {
		filter := "1"
		for _, e := range []struct{ column, value string }{
			{"app", string(f.App)}, {"customer", string(f.Customer)}, {"type", f.Type}, {"operation", f.Operation}, {"class", string(f.Class)},
		} {
			if e.value != "" {
				filter += " AND " + e.column + " = " + quote(e.value)
			}
		}
		return s.events(ctx, sp, f.Voided, filter, yield)
	})
}

// events reads the events of a span in (time, key) order.
func (s *Store) events(ctx context.Context, sp metering.Span, voided bool, filter string, yield func(metering.Accepted) error) error {
	r, err := s.resolve(ctx, sp)
	if err != nil {
		return err
	}
	sent, err := s.sentHashes(ctx)
	if err != nil {
		return err
	}
	q := `SELECT ` + eventNames + ` FROM events WHERE ` + r.occurred("") + ` AND ` + r.ofApps("") + ` AND ` + r.stored("") + ` AND ` + filter
	if !voided {
		q += ` AND ` + r.notVoided()
	}
	return s.each(ctx, q+` ORDER BY occurred_at, event_key`, func(scan func(...any) error) error {
		a, err := scanEvent(scan)
		if err != nil {
			return err
		}
		sent(&a)
		return yield(a)
	})
}

// eventNames are the columns that scanEvent reads.
const eventNames = `epoch, sequence, idx, event_key, type, app, occurred_at, accepted_at, time_absent, source, event_id, customer,
	class, operation, unit, currency, status, environment, dimensions, quantity, bytes, amount_minor, tax_minor, fee_minor,
	latency_ms, deal, lead, refers_to, reference, region, paid_months`

// scanEvent reads a row of eventNames. Its content hash is made anew, see sentHashes for
// one that was overwritten.
func scanEvent(scan func(...any) error) (metering.Accepted, error) {
	var (
		a                                                metering.Accepted
		id                                               uint64
		index                                            uint32
		app, customer, class, currency, environment, dim string
		status, paidMonths                               uint16
		accepted                                         *time.Time
		amount, tax, fee                                 *int64
	)
	d := &a.Data
	if err := scan(&id, &a.Position.Sequence, &index, &a.Key, &a.Type, &app, &a.Time, &accepted, &a.TimeAbsent, &a.Source, &a.ID, &customer,
		&class, &d.Operation, &d.Unit, &currency, &status, &environment, &dim, &d.Quantity, &d.Bytes, &amount, &tax, &fee,
		&d.LatencyMS, &d.Deal, &d.Lead, &d.RefersTo, &d.Reference, &d.Region, &paidMonths); err != nil {
		return a, err
	}
	a.Position.Incarnation, a.Position.Partition, a.Position.Index = incarnation, epoch(id).partition(), int(index)
	a.Time = a.Time.UTC()
	if accepted != nil {
		a.AcceptedAt = accepted.UTC()
	}
	a.Customer = partner.CustomerID(customer)
	d.App, d.Class, d.Currency, d.Environment = partner.AppID(app), metering.Class(class), money.Currency(currency), metering.Environment(environment)
	d.Status, d.PaidMonths = int(status), int(paidMonths)
	d.Amount, d.TaxAmount, d.Fee = majorOf(amount, d.Currency), majorOf(tax, d.Currency), majorOf(fee, d.Currency)
	if dim != "" {
		if err := json.Unmarshal([]byte(dim), &d.Dimensions); err != nil {
			return a, fmt.Errorf("event %s of source %s: dimensions %q are damaged: %w", a.ID, a.Source, dim, err)
		}
	}
	a.Hash = metering.ContentHash(a.Event)
	return a, nil
}

func majorOf(minor *int64, c money.Currency) *decimal.Decimal {
	if minor == nil {
		return nil
	}
	d := money.New(*minor, c).Decimal()
	return &d
}

// Late counts the events that lie between the span's cutoffs, by app and month, see
// [metering.Store].
func (s *Store) Late(ctx context.Context, sp metering.Span) ([]metering.Late, error) {
	fail := func(err error) ([]metering.Late, error) {
		return nil, fmt.Errorf("late events %s: %w", describe(sp), err)
	}
	r, err := s.resolve(ctx, sp)
	if err != nil {
		return fail(err)
	}
	// A void changes the month of what it takes out, if that counts at all.
	voided := quote(metering.UsageVoided)
	from := `SELECT app, occurred_at FROM events WHERE type <> ` + voided + ` AND ` + r.occurred("") + ` AND ` + r.ofApps("") + ` AND ` + r.stored("")
	if r.voided {
		from += ` UNION ALL
		SELECT k.app AS app, k.occurred_at AS occurred_at FROM (SELECT target_key FROM voids WHERE ` + r.stored("") + `) AS v
		  GLOBAL INNER JOIN (SELECT event_key, app, occurred_at FROM keys
		         WHERE event_key GLOBAL IN (SELECT target_key FROM voids WHERE ` + r.stored("") + `) AND type <> ` + voided + `
		           AND ` + r.occurred("") + ` AND ` + r.ofApps("") + ` AND ` + r.upTo.within("") + `) AS k ON k.event_key = v.target_key`
	}
	var late []metering.Late
	if err := s.each(ctx, `SELECT app, toYYYYMM(occurred_at) AS month, count(), min(occurred_at) FROM (`+from+`) GROUP BY app, month`,
		func(scan func(...any) error) error {
			var l metering.Late
			var app string
			var month uint32
			var count uint64
			if err := scan(&app, &month, &count, &l.Earliest); err != nil {
				return err
			}
			l.App, l.Month, l.Count, l.Earliest = partner.AppID(app), fmt.Sprintf("%04d-%02d", month/100, month%100), int64(count), l.Earliest.UTC()
			late = append(late, l)
			return nil
		}); err != nil {
		return fail(err)
	}
	slices.SortFunc(late, func(a, b metering.Late) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Month, b.Month))
	})
	return late, nil
}

// Ignored counts duplicates and conflicts by app, see [metering.Store].
func (s *Store) Ignored(ctx context.Context, sp metering.Span) ([]metering.Ignored, error) {
	fail := func(err error) ([]metering.Ignored, error) {
		return nil, fmt.Errorf("duplicates and conflicts %s: %w", describe(sp), err)
	}
	r, err := s.resolve(ctx, sp)
	if err != nil {
		return fail(err)
	}
	where := ` WHERE ` + r.occurred("") + ` AND ` + r.ofApps("") + ` AND ` + r.stored("")
	var out []metering.Ignored
	if err := s.each(ctx, `SELECT app, countIf(again), countIf(NOT again) FROM (
		SELECT app, true AS again FROM duplicates`+where+` UNION ALL SELECT app, false AS again FROM conflicts`+where+`) GROUP BY app ORDER BY app`,
		func(scan func(...any) error) error {
			var app string
			var duplicates, conflicts uint64
			err := scan(&app, &duplicates, &conflicts)
			out = append(out, metering.Ignored{App: partner.AppID(app), Duplicates: int64(duplicates), Conflicts: int64(conflicts)})
			return err
		}); err != nil {
		return fail(err)
	}
	return out, nil
}

// Find answers where an event went, see [metering.Store].
func (s *Store) Find(ctx context.Context, k metering.Key) (metering.Found, error) {
	f, err := s.find(ctx, k)
	if err != nil {
		return metering.Found{}, fmt.Errorf("find event %s: %w", k, err)
	}
	return f, nil
}

func (s *Store) find(ctx context.Context, k metering.Key) (metering.Found, error) {
	var f metering.Found
	redactions, err := s.redactionsOf(ctx, k)
	if err != nil {
		return f, err
	}
	f.Redactions = appliedOf(redactions)
	sent, err := s.sentHashes(ctx)
	if err != nil {
		return f, err
	}
	counts, err := s.visible(ctx)
	if err != nil {
		return f, err
	}
	visible := ` AND ` + counts
	is := ` WHERE event_key = unhex('` + k.String() + `')`
	var where string
	if err := s.each(ctx, `SELECT type, app, occurred_at, epoch, sequence, idx FROM keys`+is+visible, func(scan func(...any) error) error {
		var kind, app string
		var at time.Time
		var id, sequence uint64
		var index uint32
		if err := scan(&kind, &app, &at, &id, &sequence, &index); err != nil {
			return err
		}
		where = fmt.Sprintf(` AND type = %s AND app = %s AND occurred_at = %s AND epoch = %d AND sequence = %d AND idx = %d`,
			quote(kind), quote(app), instantText(at), id, sequence, index)
		return nil
	}); err != nil || where == "" {
		return f, err
	}
	if err := s.each(ctx, `SELECT `+eventNames+` FROM events`+is+where, func(scan func(...any) error) error {
		a, err := scanEvent(scan)
		sent(&a)
		f.Event = &a
		return err
	}); err != nil {
		return f, err
	}
	if f.Event == nil {
		return f, errors.New("its key is stored, its row is not; run the store's check and restore from a backup")
	}
	if f.Event.Type != metering.UsageVoided {
		if err := s.each(ctx, `SELECT epoch, sequence, idx FROM voids WHERE target_key = unhex('`+k.String()+`')`+visible+`
			ORDER BY `+firstVoid+` LIMIT 1`, func(scan func(...any) error) error {
			p, err := scanPosition(scan)
			f.Voided = &p
			return err
		}); err != nil {
			return f, err
		}
	}
	most := ` ORDER BY sequence, idx LIMIT ` + strconv.Itoa(metering.MaxFound)
	if err := s.each(ctx, `SELECT epoch, sequence, idx FROM duplicates`+is+visible+most, func(scan func(...any) error) error {
		p, err := scanPosition(scan)
		f.Duplicates = append(f.Duplicates, p)
		return err
	}); err != nil {
		return f, err
	}
	return f, s.each(ctx, `SELECT `+conflictNames+` FROM conflicts`+is+visible+most, func(scan func(...any) error) error {
		a, err := scanConflict(scan)
		f.Conflicts = append(f.Conflicts, a)
		return err
	})
}

func scanPosition(scan func(...any) error) (metering.Position, error) {
	var id uint64
	var index uint32
	p := metering.Position{Incarnation: incarnation}
	err := scan(&id, &p.Sequence, &index)
	p.Partition, p.Index = epoch(id).partition(), int(index)
	return p, err
}

// conflictNames are the columns that scanConflict reads.
const conflictNames = `epoch, sequence, idx, event_key, content_hash, accepted_at, event`

func scanConflict(scan func(...any) error) (metering.Accepted, error) {
	a := metering.Accepted{Position: metering.Position{Incarnation: incarnation}}
	var id uint64
	var index uint32
	var accepted *time.Time
	var form string
	if err := scan(&id, &a.Position.Sequence, &index, &a.Key, &a.Hash, &accepted, &form); err != nil {
		return a, err
	}
	a.Position.Partition, a.Position.Index = epoch(id).partition(), int(index)
	if accepted != nil {
		a.AcceptedAt = accepted.UTC()
	}
	if err := json.Unmarshal([]byte(form), &a.Event); err != nil {
		return a, fmt.Errorf("conflict of event key %s is damaged: %w", a.Key, err)
	}
	return a, nil
}

// Counts are the totals up to the cutoff, see [metering.Store]. All but Announced are
// counted from rows.
func (s *Store) Counts(ctx context.Context, upTo metering.Cutoff) (metering.Counts, error) {
	return s.CountsBetween(ctx, nil, upTo)
}

// CountsBetween are the totals between two cutoffs, see [metering.Store].
func (s *Store) CountsBetween(ctx context.Context, after, upTo metering.Cutoff) (metering.Counts, error) {
	n, err := s.counts(ctx, after, upTo)
	if err != nil {
		return metering.Counts{}, fmt.Errorf("count events: %w", err)
	}
	return n, nil
}

func (s *Store) counts(ctx context.Context, after, upTo metering.Cutoff) (metering.Counts, error) {
	var n metering.Counts
	r, err := s.resolve(ctx, metering.Span{After: after, UpTo: upTo})
	if err != nil {
		return n, err
	}
	where := ` WHERE ` + r.stored("")
	parts := []string{
		`SELECT 'messages' AS what, count() AS n, toInt64(sum(announced)) AS m FROM messages` + where,
		`SELECT 'events', count(), toInt64(countIf(environment = ` + quote(string(metering.Sandbox)) + `)) FROM events` + where,
		`SELECT 'keys', count(), 0 FROM keys` + where,
		`SELECT 'duplicates', count(), 0 FROM duplicates` + where,
		`SELECT 'conflicts', count(), 0 FROM conflicts` + where,
		`SELECT 'undecoded', count(), 0 FROM undecoded` + where,
	}
	if r.voided {
		parts = append(parts, `SELECT 'voided', count(), 0 FROM keys`+where+` AND type <> `+quote(metering.UsageVoided)+
			` AND event_key GLOBAL IN (SELECT target_key FROM voids WHERE `+r.upTo.within("")+`)`)
	}
	err = s.each(ctx, strings.Join(parts, "\nUNION ALL "), func(scan func(...any) error) error {
		var what string
		var count uint64
		var more int64
		if err := scan(&what, &count, &more); err != nil {
			return err
		}
		switch c := int64(count); what {
		case "messages":
			n.Messages, n.Announced = c, more
		case "events":
			n.Stored, n.Sandbox = c, more
		case "keys":
			n.Keys = c
		case "duplicates":
			n.Duplicate = c
		case "conflicts":
			n.Conflict = c
		case "undecoded":
			n.Undecoded = c
		case "voided":
			n.Voided = c
		}
		return nil
	})
	return n, err
}
