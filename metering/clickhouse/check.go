package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"mete/metering"
)

// maxFindings bounds what one check reports.
const maxFindings = 1000

var errEnough = errors.New("enough findings")

// Check reads everything that counts and names whatever contradicts itself: a broken
// chain, missing or doubled messages, tallies that differ from rows, events without key
// and keys without event, contents that no longer have their hash, voids that name the
// wrong event. No findings means that none of this was found, at most 1,000 are
// reported. It reads one state of the store, while that may be filled further. Rows that
// never count are no finding: see [Store.Unseen].
func (s *Store) Check(ctx context.Context) ([]string, error) {
	c := checking{store: s, ctx: clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"join_algorithm": "grace_hash", "max_bytes_in_join": spillAt, // what is more goes to disk
	}))}
	for _, step := range []func() error{c.epochs, c.messages, c.tallies, c.keys, c.redactions, c.contents, c.voids, c.repeats, c.overwritten} {
		if err := step(); errors.Is(err, errEnough) {
			break
		} else if err != nil {
			return c.findings, fmt.Errorf("check metering store: %w", orEnded(ctx, err))
		}
	}
	return c.findings, nil
}

type checking struct {
	ctx        context.Context // of this one check
	store      *Store
	chain      *chain
	visible    string // condition
	partitions int    // of the stream; 0: unknown
	findings   []string

	redacted map[spot]*redactedRow // what was overwritten, as it must be now
	seen     map[spot]bool         // of these, those that are there
}

func (c *checking) found(format string, args ...any) error {
	c.findings = append(c.findings, fmt.Sprintf(format, args...))
	if len(c.findings) >= maxFindings {
		return errEnough
	}
	return nil
}

// rows runs a query and hands every row to row. {visible} in it is the condition that a
// row counts, {partition} the partition of its epoch.
func (c *checking) rows(query string, row func(scan func(...any) error) error) error {
	query = strings.NewReplacer("{visible}", c.visible, "{partition}", "bitAnd(epoch, "+strconv.Itoa(maxPartitions-1)+")").Replace(query)
	return c.store.each(c.ctx, query, row)
}

// place is where a row says that it lies.
type place struct {
	epoch, sequence uint64
	index           uint32
}

func (p place) String() string {
	return fmt.Sprintf("partition %d, message %d, index %d", epoch(p.epoch).partition(), p.sequence, p.index)
}

// epochs checks the chain and who wrote it.
func (c *checking) epochs() error {
	all, err := c.store.readChain(c.ctx, allPartitions, true)
	if errors.Is(err, errChain) { // nothing more can be read
		return errors.Join(c.found("%v", err), errEnough)
	}
	if err != nil {
		return err
	}
	c.chain = all
	b, err := all.upTo(nil)
	if err != nil {
		return err
	}
	c.visible = b.within("")
	var streams, partitions uint64
	if err := c.rows(`SELECT count(), toUInt64(max(partitions)) FROM (SELECT DISTINCT name, partitions FROM streams)`, func(scan func(...any) error) error {
		return scan(&streams, &partitions)
	}); err != nil {
		return err
	}
	if streams == 1 {
		c.partitions = int(partitions)
	} else if streams > 1 || len(all.parts) > 0 {
		if err := c.found("%d streams are named as the one that fills the store", streams); err != nil {
			return err
		}
	}
	if err := c.rows(`SELECT epoch, count() FROM epochs GROUP BY epoch HAVING count() > 1`, func(scan func(...any) error) error {
		var e, n uint64
		if err := scan(&e, &n); err != nil {
			return err
		}
		return c.found("epoch %d of partition %d is stored %d times", e, epoch(e).partition(), n)
	}); err != nil {
		return err
	}
	if err := c.rows(`SELECT epoch, partition, lease FROM epochs`, func(scan func(...any) error) error {
		var e, lease uint64
		var p uint16
		if err := scan(&e, &p, &lease); err != nil {
			return err
		}
		if epoch(e).partition() != int(p) || epoch(e).lease() != lease || streams == 1 && uint64(p) >= partitions {
			return c.found("epoch %d: it is of partition %d and lease %d, its row says %d and %d, the stream has %d partitions",
				e, epoch(e).partition(), epoch(e).lease(), p, lease, partitions)
		}
		return nil
	}); err != nil {
		return err
	}
	// An epoch's row is there before anything else of it, also of one that never counts.
	return c.rows(`
		SELECT m.epoch, min(m.sequence), max(m.sequence), e.epoch = 0 FROM messages AS m GLOBAL LEFT JOIN epochs AS e ON e.epoch = m.epoch
		 WHERE m.sequence <= e.starts_after OR e.epoch = 0 GROUP BY m.epoch, e.epoch ORDER BY m.epoch`, func(scan func(...any) error) error {
		var e, first, last uint64
		var none uint8
		if err := scan(&e, &first, &last, &none); err != nil {
			return err
		}
		if none == 1 {
			return c.found("partition %d: messages %d to %d belong to no epoch, the row of epoch %d is missing", epoch(e).partition(), first, last, e)
		}
		return c.found("partition %d: messages %d to %d lie before the start of their epoch %d", epoch(e).partition(), first, last, e)
	})
}

// messages checks that each partition's messages run from 1 to its position.
func (c *checking) messages() error {
	if err := c.rows(`
		SELECT partition, sequence, before FROM (
			SELECT {partition} AS partition, sequence, lagInFrame(sequence, 1, 0) OVER (PARTITION BY {partition} ORDER BY sequence
			       ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS before FROM messages WHERE {visible})
		 WHERE sequence <> before + 1 ORDER BY partition, sequence`, func(scan func(...any) error) error {
		var p, sequence, before uint64
		if err := scan(&p, &sequence, &before); err != nil {
			return err
		}
		if sequence == before {
			return c.found("partition %d: message %d is stored twice", p, sequence)
		}
		return c.found("partition %d: messages %d to %d are missing", p, before+1, sequence-1)
	}); err != nil {
		return err
	}
	last := map[int]uint64{}
	if err := c.rows(`SELECT {partition} AS partition, max(sequence) FROM messages WHERE {visible} GROUP BY partition`, func(scan func(...any) error) error {
		var p, sequence uint64
		err := scan(&p, &sequence)
		last[int(p)] = sequence
		return err
	}); err != nil {
		return err
	}
	for p, part := range c.chain.parts {
		if last[p] != part.position {
			if err := c.found("partition %d: its position is %d, its last message is %d", p, part.position, last[p]); err != nil {
				return err
			}
		}
	}
	return nil
}

// tallies compares what each message was tallied as with the rows that it has.
func (c *checking) tallies() error {
	if err := c.rows(`SELECT epoch, sequence, announced, stored + duplicate + conflict + undecoded AS told FROM messages
		 WHERE {visible} AND announced <> told ORDER BY {partition}, sequence`, func(scan func(...any) error) error {
		var p place
		var announced uint32
		var told uint64
		if err := scan(&p.epoch, &p.sequence, &announced, &told); err != nil {
			return err
		}
		return c.found("partition %d, message %d: it announced %d events, %d are tallied", epoch(p.epoch).partition(), p.sequence, announced, told)
	}); err != nil {
		return err
	}
	for _, t := range []struct{ table, tally string }{
		{"events", "stored"}, {"duplicates", "duplicate"}, {"conflicts", "conflict"}, {"undecoded", "undecoded"},
	} {
		if err := c.rows(`
			SELECT epoch, sequence, sum(messages), sum(told), sum(n) FROM (
				SELECT epoch, sequence, 1 AS messages, `+t.tally+` AS told, 0 AS n FROM messages WHERE {visible} UNION ALL
				SELECT epoch, sequence, 0, 0, count() FROM `+t.table+` WHERE {visible} GROUP BY epoch, sequence)
			 GROUP BY epoch, sequence HAVING sum(told) <> sum(n) ORDER BY {partition}, sequence`, func(scan func(...any) error) error {
			var p place
			var messages, told, n uint64
			if err := scan(&p.epoch, &p.sequence, &messages, &told, &n); err != nil {
				return err
			}
			if messages == 0 {
				return c.found("partition %d, message %d is missing: %d rows of %s belong to it", epoch(p.epoch).partition(), p.sequence, n, t.table)
			}
			return c.found("partition %d, message %d: tally %s is %d, %s has %d rows", epoch(p.epoch).partition(), p.sequence, t.tally, told, t.table, n)
		}); err != nil {
			return err
		}
	}
	return nil
}

// keys compares keys and events, place by place.
func (c *checking) keys() error {
	if err := c.rows(`
		SELECT epoch, sequence, idx, countIf(of_key) AS keys, countIf(NOT of_key) AS events, uniqExact(event_key, type, app, occurred_at) AS differ, any(event_key) FROM (
			SELECT epoch, sequence, idx, event_key, type, app, occurred_at, true AS of_key FROM keys WHERE {visible} UNION ALL
			SELECT epoch, sequence, idx, event_key, type, app, occurred_at, false FROM events WHERE {visible})
		 GROUP BY epoch, sequence, idx HAVING keys <> 1 OR events <> 1 OR differ <> 1 ORDER BY {partition}, sequence, idx`, func(scan func(...any) error) error {
		var p place
		var keys, events, differ uint64
		var key metering.Key
		if err := scan(&p.epoch, &p.sequence, &p.index, &keys, &events, &differ, &key); err != nil {
			return err
		}
		switch {
		case events == 0:
			return c.found("key %s: no event lies at %s", key, p)
		case keys == 0:
			return c.found("event %s: its key is not kept for it (%s); sent again, it would count twice", key, p)
		case keys > 1 || events > 1:
			return c.found("event %s: %d rows and %d keys lie at %s, want one of each", key, events, keys, p)
		}
		return c.found("event %s (%s): its row and its key say different things", key, p)
	}); err != nil {
		return err
	}
	if err := c.rows(`SELECT event_key, count(), any(epoch), max(sequence) FROM keys WHERE {visible} GROUP BY event_key HAVING count() > 1`, func(scan func(...any) error) error {
		var key metering.Key
		var n, e, last uint64
		if err := scan(&key, &n, &e, &last); err != nil {
			return err
		}
		return c.found("key %s: it is kept %d times, last for partition %d, message %d", key, n, epoch(e).partition(), last)
	}); err != nil || c.partitions == 0 {
		return err
	}
	return c.rows(`SELECT epoch, sequence, idx, event_key FROM keys WHERE {visible} AND reinterpretAsUInt64(reverse(substring(event_key, 1, 8))) % `+
		strconv.Itoa(c.partitions)+` <> {partition}`, func(scan func(...any) error) error {
		var p place
		var key metering.Key
		if err := scan(&p.epoch, &p.sequence, &p.index, &key); err != nil {
			return err
		}
		return c.found("key %s: it is kept at %s and belongs in partition %d", key, p, key.Partition(c.partitions))
	})
}

// redactions reads which rows are overwritten, checks that two people decided each, and
// names what is approved and not done: in any row, also those that do not count.
func (c *checking) redactions() error {
	all, err := c.store.redactionsOf(c.ctx)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Applied() && r.ApprovedBy == r.ProposedBy {
			if err := c.found("redaction %s of %s of event %s: %s proposed and approved it", r.ID, r.Field, r.Key, r.ProposedBy); err != nil {
				return err
			}
		}
	}
	d, err := c.store.decided(c.ctx)
	if err != nil || len(d.byKey) == 0 {
		return err
	}
	c.seen = map[spot]bool{}
	if c.redacted, err = c.store.redactedRows(c.ctx, d, d.keys()); err != nil {
		return err
	}
	u, err := c.store.under(c.ctx, d.keys(), "")
	if err != nil {
		return err
	}
	left := func(e *metering.Accepted, by []metering.Redaction) error {
		for _, r := range by {
			if !gone(&e.Event, r) {
				p := e.Position
				return c.found("redaction %s of %s of event %s is approved, and a value stands at partition %d, message %d, index %d; approve it again",
					r.ID, r.Field, r.Key, p.Partition, p.Sequence, p.Index)
			}
		}
		return nil
	}
	for i := range u.events {
		if w := c.redacted[spotOf(u.events[i].Position)]; w != nil {
			if err := left(&u.events[i], w.by); err != nil {
				return err
			}
		}
	}
	for i := range u.conflicts {
		if err := left(&u.conflicts[i], d.byKey[u.conflicts[i].Key]); err != nil {
			return err
		}
	}
	for _, f := range u.forms {
		for _, r := range d.byKey[f.event.Key()] {
			if metering.ValueOf(&f.event, r.Field) != "" {
				if err := c.found("redaction %s of %s of event %s is approved, and the kept form of refusal %s has a value; approve it again", r.ID, r.Field, r.Key, f.refusal); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// overwritten checks that every row is there that was overwritten.
func (c *checking) overwritten() error {
	for at, w := range c.redacted {
		if !c.seen[at] && at.sequence <= c.chain.position(at.partition) {
			if err := c.found("redactions %s: nothing lies at partition %d, message %d, index %d, where they overwrote something", w.reached(), at.partition, at.sequence, at.index); err != nil {
				return err
			}
		}
	}
	return nil
}

// says compares what a row says with its key and with what it was sent as, of which is
// reports whether a hash is of it; once it was overwritten, with what it must be now. It
// is empty if they agree.
func (c *checking) says(e *metering.Accepted, sent func(metering.Hash) bool) string {
	w := c.redacted[spotOf(e.Position)]
	identity := false
	if w != nil {
		c.seen[spotOf(e.Position)] = true
		identity = metering.IdentityRedacted(w.by)
	}
	now := metering.ContentHash(e.Event)
	switch {
	case !identity && e.Key != e.Event.Key():
		return fmt.Sprintf("its key is %s, want %s", e.Key, e.Event.Key())
	case w == nil && !sent(now):
		return "its content does not have its hash"
	case w == nil:
		return ""
	case !w.finished:
		return fmt.Sprintf("it is not kept what it says since redactions %s; approve them again", w.reached())
	}
	event := e.Event // what is left to overwrite was named before
	for _, r := range w.by {
		r.Apply(&event)
	}
	if metering.ContentHash(event) != w.now || !sent(w.sent) {
		return fmt.Sprintf("redactions %s are not what it says now, or another field was altered", w.reached())
	}
	return ""
}

// contents recomputes what each event row says of itself.
func (c *checking) contents() error {
	return c.rows(`
		SELECT `+eventNames+`, content_hash FROM (SELECT `+eventNames+` FROM events WHERE {visible}) AS e
		  GLOBAL LEFT JOIN (SELECT epoch, sequence, idx, content_hash FROM keys WHERE {visible}) AS k USING (epoch, sequence, idx)`,
		func(scan func(...any) error) error {
			var kept shortHash
			e, err := scanEvent(func(into ...any) error { return scan(append(into, &kept)...) })
			if err != nil {
				return c.found("%v", err)
			}
			what := c.says(&e, func(h metering.Hash) bool { return kept == (shortHash{}) || kept == short(h) }) // without a key it was found before
			switch {
			case what == "":
				return nil
			case strings.HasSuffix(what, "have its hash"):
				what += fmt.Sprintf(" %x; a field was altered", kept[:])
			}
			return c.found("event %s of source %s (partition %d, message %d, index %d): %s",
				e.ID, e.Source, e.Position.Partition, e.Position.Sequence, e.Position.Index, what)
		})
}

func (c *checking) voids() error {
	if err := c.rows(`
		SELECT epoch, sequence, idx, countIf(of_void) AS voids, countIf(NOT of_void) AS events, uniqExact(event_key) AS keys FROM (
			SELECT epoch, sequence, idx, event_key, true AS of_void FROM voids WHERE {visible} UNION ALL
			SELECT epoch, sequence, idx, event_key, false FROM events WHERE {visible} AND type = `+quote(metering.UsageVoided)+`)
		 GROUP BY epoch, sequence, idx HAVING voids <> 1 OR events <> 1 OR keys <> 1 ORDER BY {partition}, sequence, idx`, func(scan func(...any) error) error {
		var p place
		var voids, events, keys uint64
		if err := scan(&p.epoch, &p.sequence, &p.index, &voids, &events, &keys); err != nil {
			return err
		}
		switch {
		case voids == 0:
			return c.found("void at %s: it is stored and takes nothing out", p)
		case events == 0:
			return c.found("void at %s: it takes an event out and is not stored", p)
		}
		return c.found("void at %s: %d rows and %d events with %d keys, want one of each", p, voids, events, keys)
	}); err != nil {
		return err
	}
	return c.rows(`
		SELECT epoch, sequence, idx, target_key, source, refers_to
		  FROM (SELECT epoch, sequence, idx, target_key FROM voids WHERE {visible}) AS v
		  GLOBAL INNER JOIN (SELECT epoch, sequence, idx, source, refers_to FROM events WHERE {visible} AND type = `+quote(metering.UsageVoided)+`) AS e USING (epoch, sequence, idx)`,
		func(scan func(...any) error) error {
			var p place
			var key metering.Key
			var source, refersTo string
			if err := scan(&p.epoch, &p.sequence, &p.index, &key, &source, &refersTo); err != nil {
				return err
			}
			w := c.redacted[spot{epoch(p.epoch).partition(), p.sequence, int(p.index)}]
			hidden := w != nil && slices.ContainsFunc(w.by, func(r metering.Redaction) bool { return r.Field == "data.refers_to" })
			if key != metering.KeyOf(source, refersTo) && !hidden {
				return c.found("void at %s: it refers to event %s of source %s and is kept for key %s", p, refersTo, source, key)
			}
			return nil
		})
}

// repeats checks duplicates and conflicts against the events that they repeat.
func (c *checking) repeats() error {
	for _, table := range []string{"duplicates", "conflicts"} {
		if err := c.rows(`
			SELECT r.epoch, r.sequence, r.idx, r.event_key, k.sequence, k.sequence < r.sequence OR k.sequence = r.sequence AND k.idx < r.idx,
			       k.app = r.app AND k.occurred_at = r.occurred_at
			  FROM (SELECT epoch, sequence, idx, event_key, app, occurred_at FROM `+table+` WHERE {visible}) AS r
			  GLOBAL LEFT JOIN (SELECT event_key, sequence, idx, app, occurred_at FROM keys WHERE {visible}
			         AND event_key GLOBAL IN (SELECT event_key FROM `+table+` WHERE {visible})) AS k ON k.event_key = r.event_key
			 WHERE NOT (k.sequence < r.sequence OR k.sequence = r.sequence AND k.idx < r.idx) OR k.sequence = 0 OR k.app <> r.app OR k.occurred_at <> r.occurred_at`,
			func(scan func(...any) error) error {
				var p place
				var key metering.Key
				var first uint64
				var before, same uint8
				if err := scan(&p.epoch, &p.sequence, &p.index, &key, &first, &before, &same); err != nil {
					return err
				}
				switch {
				case first == 0:
					return c.found("%s at %s: no event of its key %s is stored", strings.TrimSuffix(table, "s"), p, key)
				case before == 0:
					return c.found("%s at %s: the event of its key %s was stored later, in message %d", strings.TrimSuffix(table, "s"), p, key, first)
				}
				return c.found("%s at %s: the event of its key %s is of another app or time", strings.TrimSuffix(table, "s"), p, key)
			}); err != nil {
			return err
		}
	}
	return c.rows(`SELECT `+conflictNames+` FROM conflicts WHERE {visible}`, func(scan func(...any) error) error {
		a, err := scanConflict(scan)
		if err != nil {
			return c.found("%v", err)
		}
		what := c.says(&a, func(h metering.Hash) bool { return h == a.Hash })
		if what == "" {
			return nil
		}
		return c.found("conflict of event %s of source %s (partition %d, message %d, index %d): %s",
			a.ID, a.Source, a.Position.Partition, a.Position.Sequence, a.Position.Index, what)
	})
}

// Unseen is how many rows of a table never count.
type Unseen struct {
	Table string
	Rows  int64
}

// Unseen counts the rows that no question sees: of blocks that failed on the way or were
// being stored just then, and of owners that had lost their lease. They cost disk and
// nothing else.
func (s *Store) Unseen(ctx context.Context) ([]Unseen, error) {
	var out []Unseen
	c, err := s.chain(ctx, allPartitions)
	if err != nil {
		return nil, fmt.Errorf("count rows that never count: %w", err)
	}
	b, err := c.upTo(nil)
	if err != nil {
		return nil, fmt.Errorf("count rows that never count: %w", err)
	}
	var parts []string
	for _, table := range []string{"messages", "events", "keys", "voids", "duplicates", "conflicts", "undecoded"} {
		parts = append(parts, `SELECT '`+table+`' AS name, count() AS n FROM `+table+` WHERE NOT (`+b.within("")+`)`)
	}
	if err := s.each(ctx, `SELECT name, n FROM (`+strings.Join(parts, " UNION ALL ")+`) WHERE n > 0 ORDER BY name`, func(scan func(...any) error) error {
		var u Unseen
		var n uint64
		err := scan(&u.Table, &n)
		u.Rows = int64(n)
		out = append(out, u)
		return err
	}); err != nil {
		return nil, fmt.Errorf("count rows that never count: %w", err)
	}
	return out, nil
}
