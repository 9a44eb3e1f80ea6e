package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"mete/metering"
)

// maxFindings bounds what one check reports.
const maxFindings = 1000

var errEnough = errors.New("enough findings")

// Check reads the whole file and names everything that contradicts itself: damaged
// pages, missing messages, tallies that differ from rows, events without key and
// keys without event, contents that no longer have their hash, voids that name the
// wrong event. No findings means that none of this was found, at most 1,000 are
// reported. It reads one state of the file, while it may be filled further.
func (s *Store) Check(ctx context.Context) ([]string, error) {
	c := checking{ctx: ctx}
	err := s.read(ctx, func(tx *sql.Tx) error {
		c.tx = tx
		for _, step := range []func() error{c.pages, c.positions, c.tallies, c.keys, c.redactions, c.contents, c.voids, c.others} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return c.findings, fmt.Errorf("check metering store %s: %w", s.path, err)
	}
	return c.findings, nil
}

type checking struct {
	ctx      context.Context // of this one check
	tx       *sql.Tx
	findings []string
	redacted map[int64]redactedRow // by place: what was overwritten, as it must be now
}

// redactedRow is what the kept redactions say of a row.
type redactedRow struct {
	redaction string // the last
	hash      metering.Hash
	identity  bool // its key does not follow from it any more
	target    bool // nor does that of the event that it takes out
}

func (c *checking) found(format string, args ...any) error {
	c.findings = append(c.findings, fmt.Sprintf(format, args...))
	if len(c.findings) >= maxFindings {
		return errEnough
	}
	return nil
}

// rows runs a query and hands every row to row.
func (c *checking) rows(query string, row func(scan func(...any) error) error) error {
	return each(c.ctx, c.tx, query, nil, row)
}

func (c *checking) pages() error {
	if err := c.rows(`PRAGMA integrity_check(100)`, func(scan func(...any) error) error {
		var text string
		if err := scan(&text); err != nil || text == "ok" {
			return err
		}
		return c.found("file: %s", text)
	}); err != nil {
		return err
	}
	return c.rows(`PRAGMA foreign_key_check`, func(scan func(...any) error) error {
		var table, parent string
		var row, key sql.NullInt64
		if err := scan(&table, &row, &parent, &key); err != nil {
			return err
		}
		return c.found("%s row %d: it names a row of %s that is not there", table, row.Int64, parent)
	})
}

// positions checks that each partition's messages run from 1 to its position.
func (c *checking) positions() error {
	if err := c.rows(`
		SELECT partition, sequence, before FROM (
			SELECT partition, incarnation, sequence, lag(sequence, 1, 0) OVER (PARTITION BY partition, incarnation ORDER BY sequence) AS before FROM messages)
		 WHERE sequence <> before + 1`, func(scan func(...any) error) error {
		var partition int
		var sequence, before int64
		if err := scan(&partition, &sequence, &before); err != nil {
			return err
		}
		return c.found("partition %d: messages %d to %d are missing", partition, before+1, sequence-1)
	}); err != nil {
		return err
	}
	return c.rows(`
		SELECT coalesce(p.partition, m.partition), coalesce(p.sequence, 0), coalesce(m.last, 0)
		  FROM positions p FULL JOIN (SELECT partition, incarnation, max(sequence) AS last FROM messages GROUP BY partition, incarnation) m
		    ON m.partition = p.partition AND m.incarnation = p.incarnation
		 WHERE p.sequence IS NOT m.last`, func(scan func(...any) error) error {
		var partition int
		var position, last int64
		if err := scan(&partition, &position, &last); err != nil {
			return err
		}
		return c.found("partition %d: its position is %d, its last message is %d", partition, position, last)
	})
}

// where names the message or event at a place.
func (c *checking) where(place int64) string {
	var partition int
	var sequence int64
	if err := c.tx.QueryRowContext(c.ctx, `SELECT partition, sequence FROM messages WHERE id = $1`, place>>placeBits).Scan(&partition, &sequence); err != nil {
		return fmt.Sprintf("message row %d (missing), index %d", place>>placeBits, place&maxIndex)
	}
	return fmt.Sprintf("partition %d, message %d, index %d", partition, sequence, place&maxIndex)
}

// tallies compares what each message was tallied as with the rows that it has.
func (c *checking) tallies() error {
	if err := c.rows(`SELECT partition, sequence, announced, stored + duplicate + conflict + undecoded FROM messages
		 WHERE announced <> stored + duplicate + conflict + undecoded`, func(scan func(...any) error) error {
		var partition int
		var sequence, announced, told int64
		if err := scan(&partition, &sequence, &announced, &told); err != nil {
			return err
		}
		return c.found("partition %d, message %d: it announced %d events, %d are tallied", partition, sequence, announced, told)
	}); err != nil {
		return err
	}
	for _, t := range []struct{ table, tally string }{
		{"events", "stored"}, {"duplicates", "duplicate"}, {"conflicts", "conflict"}, {"undecoded", "undecoded"},
	} {
		if err := c.rows(`
			SELECT coalesce(m.id, r.id), m.partition, m.sequence, coalesce(m.`+t.tally+`, 0), coalesce(r.n, 0)
			  FROM messages m FULL JOIN (SELECT place >> 20 AS id, count(*) AS n FROM `+t.table+` GROUP BY place >> 20) r ON r.id = m.id
			 WHERE coalesce(m.`+t.tally+`, 0) <> coalesce(r.n, 0)`, func(scan func(...any) error) error {
			var id, tally, n int64
			var partition, sequence sql.NullInt64
			if err := scan(&id, &partition, &sequence, &tally, &n); err != nil {
				return err
			}
			if !sequence.Valid {
				return c.found("message row %d is missing: %d rows of %s belong to it", id, n, t.table)
			}
			return c.found("partition %d, message %d: tally %s is %d, %s has %d rows", partition.Int64, sequence.Int64, t.tally, tally, t.table, n)
		}); err != nil {
			return err
		}
	}
	return nil
}

// allKeys are the keys of both tables.
const allKeys = `(SELECT event_key, place FROM keys UNION ALL SELECT event_key, place FROM keys_recent)`

func (c *checking) keys() error {
	for _, q := range []struct{ query, text string }{
		{`SELECT a.place, hex(a.event_key) FROM ` + allKeys + ` a LEFT JOIN events e ON e.place = a.place WHERE e.event_key IS NOT a.event_key`,
			"key %s: no event of that key lies at %s"},
		{`SELECT e.place, hex(e.event_key) FROM events e
		    LEFT JOIN keys k ON k.event_key = e.event_key LEFT JOIN keys_recent r ON r.place = e.place
		   WHERE k.place IS NOT e.place AND r.event_key IS NOT e.event_key`,
			"event %s: its key is not kept for it (%s); sent again, it would count twice"},
		{`SELECT r.place, hex(r.event_key) FROM keys_recent r JOIN keys k ON k.event_key = r.event_key`,
			"key %s: it is kept twice (%s)"},
		{`SELECT max(place), hex(event_key) FROM keys_recent GROUP BY event_key HAVING count(*) > 1`,
			"key %s: it is kept twice among the recent (%s)"},
	} {
		if err := c.rows(q.query, func(scan func(...any) error) error {
			var place int64
			var key string
			if err := scan(&place, &key); err != nil {
				return err
			}
			return c.found(q.text, key, c.where(place))
		}); err != nil {
			return err
		}
	}
	return nil
}

// redactions reads which rows were overwritten, and checks that two people decided each.
func (c *checking) redactions() error {
	if err := c.rows(`SELECT r.id, r.field, hex(r.event_key), r.proposed_by FROM redactions r JOIN redactions_approved a ON a.id = r.id WHERE a.approved_by = r.proposed_by`, func(scan func(...any) error) error {
		var id, field, key, by string
		if err := scan(&id, &field, &key, &by); err != nil {
			return err
		}
		return c.found("redaction %s of %s of event %s: %s proposed and approved it", id, field, key, by)
	}); err != nil {
		return err
	}
	if err := c.rows(`SELECT w.place, w.redaction FROM redacted_rows w
		 WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.place = w.place) AND NOT EXISTS (SELECT 1 FROM conflicts t WHERE t.place = w.place)`, func(scan func(...any) error) error {
		var place int64
		var id string
		if err := scan(&place, &id); err != nil {
			return err
		}
		return c.found("redaction %s: no event lies at %s, where it overwrote one", id, c.where(place))
	}); err != nil {
		return err
	}
	c.redacted = map[int64]redactedRow{}
	return c.rows(`SELECT w.place, w.redaction, w.content_hash, r.field FROM redacted_rows w JOIN redactions r ON r.id = w.redaction ORDER BY w.number`, func(scan func(...any) error) error {
		var place int64
		var field string
		var hash []byte
		w := redactedRow{}
		if err := scan(&place, &w.redaction, &hash, &field); err != nil {
			return err
		}
		copy(w.hash[:], hash)
		before := c.redacted[place]
		w.identity = before.identity || field == "id"
		w.target = before.target || field == "data.refers_to"
		c.redacted[place] = w
		return nil
	})
}

// says compares what a row says with its key and hash, or, once it was overwritten, with
// what the redaction says it must be now. It is nil if they agree.
func (c *checking) says(place int64, e *metering.Accepted) (what string) {
	w, redacted := c.redacted[place]
	now := metering.ContentHash(e.Event)
	switch {
	case !w.identity && e.Key != e.Event.Key():
		return fmt.Sprintf("its key is %s, want %s", e.Key, e.Event.Key())
	case !redacted && e.Hash != now:
		return fmt.Sprintf("its content does not have its hash %s; a field was altered", e.Hash)
	case redacted && w.hash != now:
		return fmt.Sprintf("redaction %s is not what it says now, or another field was altered", w.redaction)
	}
	return ""
}

// contents recomputes what each event row says of itself.
func (c *checking) contents() error {
	return c.rows(`SELECT `+eventColumns+` FROM events e NOT INDEXED`+eventJoins, func(scan func(...any) error) error {
		e, err := scanEvent(scan)
		if err != nil {
			return c.found("%v", err)
		}
		what := c.says(e.place, &e.Accepted)
		switch {
		case what != "":
			return c.found("event %s of source %s (%s): %s", e.ID, e.Source, c.where(e.place), what)
		case e.slow != isSlow(e.Data.LatencyMS):
			return c.found("event %s of source %s (%s): it is marked slow %t, its latency says otherwise", e.ID, e.Source, c.where(e.place), e.slow)
		}
		return nil
	})
}

func (c *checking) voids() error {
	if err := c.rows(`
		SELECT coalesce(v.place, e.place), v.place IS NULL, e.place IS NULL
		  FROM voids v FULL JOIN (SELECT place FROM events WHERE cell IN (SELECT id FROM cells WHERE type = 'usage.voided')) e ON e.place = v.place
		 WHERE v.place IS NULL OR e.place IS NULL`, func(scan func(...any) error) error {
		var place int64
		var noVoid, noEvent bool
		if err := scan(&place, &noVoid, &noEvent); err != nil {
			return err
		}
		if noVoid {
			return c.found("void at %s: it is stored and takes nothing out", c.where(place))
		}
		return c.found("void at %s: it takes an event out and is not stored", c.where(place))
	}); err != nil {
		return err
	}
	return c.rows(`
		SELECT v.place, hex(v.target_key), s.name, e.refers_to, v.target_key, v.target, a.place
		  FROM voids v JOIN events e ON e.place = v.place JOIN sources s ON s.id = e.source
		  LEFT JOIN `+allKeys+` a ON a.event_key = v.target_key`, func(scan func(...any) error) error {
		var place int64
		var text, source, refersTo string
		var key []byte
		var target, want sql.NullInt64
		if err := scan(&place, &text, &source, &refersTo, &key, &target, &want); err != nil {
			return err
		}
		if toKey(key) != metering.KeyOf(source, refersTo) && !c.redacted[place].target {
			return c.found("void at %s: it refers to event %s of source %s and is kept for key %s", c.where(place), refersTo, source, text)
		}
		if target != want {
			return c.found("void at %s: event %s of source %s is at place %d, the void takes out place %d (0: none)", c.where(place), refersTo, source, want.Int64, target.Int64)
		}
		return nil
	})
}

// others checks duplicates and conflicts against the events that they repeat.
func (c *checking) others() error {
	if err := c.rows(`SELECT d.place, hex(d.event_key) FROM (SELECT place, event_key FROM duplicates UNION ALL SELECT place, event_key FROM conflicts) d
		 WHERE NOT EXISTS (SELECT 1 FROM keys k WHERE k.event_key = d.event_key) AND d.event_key NOT IN (SELECT event_key FROM keys_recent)`, func(scan func(...any) error) error {
		var place int64
		var key string
		if err := scan(&place, &key); err != nil {
			return err
		}
		return c.found("duplicate or conflict at %s: no event of its key %s is stored", c.where(place), key)
	}); err != nil {
		return err
	}
	return c.rows(`
		SELECT t.place, t.event_key, t.content_hash, t.accepted_us, t.event, m.incarnation, m.partition, m.sequence
		  FROM conflicts t JOIN messages m ON m.id = t.place >> 20`, func(scan func(...any) error) error {
		a, err := scanPlacedConflict(scan)
		if err != nil {
			return c.found("%v", err)
		}
		if what := c.says(a.place, &a.Accepted); what != "" {
			return c.found("conflict of event %s of source %s (partition %d, message %d, index %d): %s",
				a.ID, a.Source, a.Position.Partition, a.Position.Sequence, a.Position.Index, what)
		}
		return nil
	})
}
