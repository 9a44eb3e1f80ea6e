package clickhouse

import (
	"context"
	"strings"
	"testing"

	"mete/metering"
	"mete/metering/meteringtest"
)

func TestCheckFindsEveryMutant(t *testing.T) {
	ctx := context.Background()
	// Two owners, one after the other.
	base, m, bs := open(t), new(meteringtest.Model), blocks(newFeed())
	fill(t, base, m, bs[0])
	base = openAt(t, base.options.DSN)
	fill(t, base, m, bs[1:]...)
	same(t, base, m)
	if n, err := base.Counts(ctx, nil); err != nil || !addUp(n) {
		t.Fatalf("counts of the sound store do not add up: %+v, %v", n, err)
	}
	for _, table := range allTables {
		alter(t, base, "CREATE TABLE base_"+table+" AS "+table, "INSERT INTO base_"+table+" SETTINGS async_insert = 0 SELECT * FROM "+table)
	}
	const (
		key3  = `(SELECT event_key FROM events WHERE startsWith(event_id, 'a-3'))`
		sync  = ` SETTINGS mutations_sync = 2`
		now   = ` SETTINGS async_insert = 0 SELECT `
		sale  = `startsWith(event_id, 'sale')`
		zeros = `toFixedString(unhex('00000000000000000000000000000000'), 16)`
	)
	for name, c := range map[string]struct {
		statement string
		say       string // in some finding
		counts    bool   // whether the totals show it too
	}{
		"event deleted":     {`ALTER TABLE events DELETE WHERE startsWith(event_id, 'a-3')`, "partition 0, message 1: tally stored is 20, events has 19 rows", true},
		"event doubled":     {`INSERT INTO events` + now + `* FROM events WHERE startsWith(event_id, 'a-3')`, "2 rows and 1 keys lie at partition 0, message 1, index 3", true},
		"event moved":       {`ALTER TABLE events UPDATE idx = 19 WHERE startsWith(event_id, 'a-3')`, "2 rows and 1 keys lie at partition 0, message 1, index 19", false},
		"amount altered":    {`ALTER TABLE events UPDATE amount_minor = amount_minor + 1 WHERE ` + sale, "a field was altered", false},
		"amount dropped":    {`ALTER TABLE events UPDATE amount_minor = NULL WHERE ` + sale, "a field was altered", false},
		"quantity altered":  {`ALTER TABLE events UPDATE quantity = 2 WHERE ` + sale, "a field was altered", false},
		"latency altered":   {`ALTER TABLE events UPDATE latency_ms = 900 WHERE ` + sale, "(partition 2, message 1, index 0): its content does not have its hash", false},
		"id altered":        {`ALTER TABLE events UPDATE event_id = 'z' WHERE startsWith(event_id, 'a-3')`, "event z of source gateway (partition 0, message 1, index 3): its key is", false},
		"customer altered":  {`ALTER TABLE events UPDATE customer = 'mine' WHERE startsWith(event_id, 'a-3')`, "a field was altered", false},
		"dimensions broken": {`ALTER TABLE events UPDATE dimensions = '{' WHERE startsWith(event_id, 'a-3')`, "are damaged", false},

		"key deleted":          {`ALTER TABLE keys DELETE WHERE event_key IN ` + key3, "sent again, it would count twice", true},
		"key doubled":          {`INSERT INTO keys` + now + `* FROM keys WHERE event_key IN ` + key3, "it is kept 2 times", true},
		"key at another place": {`INSERT INTO keys` + now + `event_key, content_hash, epoch, sequence, idx + 7, type, app, occurred_at FROM keys WHERE event_key IN ` + key3, "is kept 2 times", true},
		"key of nobody":        {`INSERT INTO keys` + now + zeros + `, content_hash, epoch, sequence, idx + 100, type, app, occurred_at FROM keys WHERE event_key IN ` + key3, "key 00000000000000000000000000000000: no event lies at partition 0, message 1, index 103", true},
		"key of another app":   {`ALTER TABLE keys UPDATE app = 'mine' WHERE event_key IN ` + key3, "its row and its key say different things", false},
		"hash of another":      {`ALTER TABLE keys UPDATE content_hash = toFixedString(unhex('01020304050607080910111213141516'), 16) WHERE event_key IN ` + key3, "content does not have its hash 01020304050607080910111213141516", false},

		"message deleted":          {`ALTER TABLE messages DELETE WHERE bitAnd(epoch, 1023) = 0 AND sequence = 2`, "partition 0: messages 2 to 2 are missing", true},
		"message of rows deleted":  {`ALTER TABLE messages DELETE WHERE bitAnd(epoch, 1023) = 0 AND sequence = 1`, "message 1 is missing: 20 rows of events belong to it", true},
		"message doubled":          {`INSERT INTO messages` + now + `* FROM messages WHERE bitAnd(epoch, 1023) = 0 AND sequence = 2`, "partition 0: message 2 is stored twice", true},
		"header altered":           {`ALTER TABLE messages UPDATE announced = announced + 1 WHERE bitAnd(epoch, 1023) = 0 AND sequence = 1`, "partition 0, message 1: it announced 21 events, 20 are tallied", true},
		"header and tally altered": {`ALTER TABLE messages UPDATE announced = announced + 1, stored = stored + 1 WHERE bitAnd(epoch, 1023) = 0 AND sequence = 1`, "tally stored is 21, events has 20 rows", true},
		"message from nowhere":     {`INSERT INTO messages` + now + `epoch, 9, accepted_at, 0, 0, 0, 0, 0, digest FROM messages WHERE bitAnd(epoch, 1023) = 1 AND sequence = 1`, "partition 1: messages 2 to 8 are missing", false},

		"duplicate deleted":       {`ALTER TABLE duplicates DELETE WHERE idx = 0`, "tally duplicate is 2, duplicates has 1 rows", true},
		"duplicate of an unknown": {`ALTER TABLE duplicates UPDATE app = 'mine' WHERE idx = 0`, "duplicate at partition 0, message 3, index 0: the event of its key", false},
		"duplicate of nobody":     {`INSERT INTO duplicates` + now + zeros + `, epoch, sequence, idx, app, occurred_at FROM duplicates LIMIT 1`, "no event of its key 00000000000000000000000000000000 is stored", true},
		"duplicate of a later":    {`INSERT INTO duplicates` + now + `event_key, epoch, sequence, idx, app, occurred_at FROM keys WHERE event_key IN ` + key3, "was stored later, in message 1", true},
		"conflict deleted":        {`ALTER TABLE conflicts DELETE WHERE 1`, "tally conflict is 3, conflicts has 0 rows", true},
		"conflict altered":        {`ALTER TABLE conflicts UPDATE event = replaceAll(event, '"other"', '"mine"') WHERE 1`, "conflict of event a-0", false},
		"conflict broken":         {`ALTER TABLE conflicts UPDATE event = '{' WHERE 1`, "is damaged", false},
		"undecoded deleted":       {`ALTER TABLE undecoded DELETE WHERE 1`, "tally undecoded is 1, undecoded has 0 rows", true},

		"void deleted":           {`ALTER TABLE voids DELETE WHERE bitAnd(epoch, 1023) = 2 AND idx = 1`, "void at partition 2, message 1, index 1: it is stored and takes nothing out", false},
		"void of nobody":         {`INSERT INTO voids` + now + `target_key, ` + zeros + `, epoch, sequence, idx + 50, accepted_at FROM voids LIMIT 1`, "it takes an event out and is not stored", false},
		"void doubled":           {`INSERT INTO voids` + now + `* FROM voids LIMIT 1`, "2 rows and 1 events", false},
		"void names another key": {`ALTER TABLE voids UPDATE event_key = ` + zeros + ` WHERE 1`, "with 2 keys", false},

		"epoch deleted":            {`ALTER TABLE epochs DELETE WHERE partition = 1`, "messages 1 to 1 belong to no epoch", false},
		"newest epoch deleted":     {`ALTER TABLE epochs DELETE WHERE partition = 0 AND previous > 0`, "belong to no epoch", false},
		"first epoch deleted":      {`ALTER TABLE epochs DELETE WHERE partition = 0 AND previous = 0`, "the chain of partition 0 is broken", false},
		"epoch starts later":       {`ALTER TABLE epochs UPDATE starts_after = 3 WHERE partition = 0 AND previous > 0`, "partition 0: messages 3 to 3 lie before the start of their epoch", false},
		"epoch starts earlier":     {`ALTER TABLE epochs UPDATE starts_after = 1 WHERE partition = 0 AND previous > 0`, "partition 0: messages 2 to 2 are missing", false},
		"epoch doubled":            {`INSERT INTO epochs` + now + `* FROM epochs WHERE partition = 1`, "is stored 2 times", false},
		"epoch doubled otherwise":  {`INSERT INTO epochs` + now + `epoch, partition, lease, previous, starts_after + 1, owner, opened_at FROM epochs WHERE partition = 1`, "is stored twice", false},
		"epoch of another lease":   {`ALTER TABLE epochs UPDATE lease = 7 WHERE partition = 1`, "its row says 1 and 7", false},
		"chain begins in the void": {`ALTER TABLE epochs UPDATE starts_after = 1 WHERE partition = 1`, "the chain of partition 1 begins behind 1", false},
		"stream deleted":           {`ALTER TABLE streams DELETE WHERE 1`, "0 streams", false},
		"stream doubled":           {`INSERT INTO streams (name, partitions, attached_at)` + now + `'other', 3, attached_at FROM streams`, "2 streams", false},
	} {
		t.Run(name, func(t *testing.T) {
			table := strings.Fields(strings.TrimPrefix(strings.TrimPrefix(c.statement, "ALTER TABLE "), "INSERT INTO "))[0]
			defer alter(t, base, "TRUNCATE TABLE "+table, "INSERT INTO "+table+" SETTINGS async_insert = 0, insert_deduplicate = 0 SELECT * FROM base_"+table)
			if strings.HasPrefix(c.statement, "ALTER") {
				c.statement += sync
			}
			alter(t, base, c.statement)
			s := openAt(t, base.options.DSN)
			defer s.Close()
			findings, err := s.Check(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(findings, "\n"); !strings.Contains(all, c.say) {
				t.Errorf("the check does not say %q:\n%s", c.say, all)
			}
			if n, err := s.Counts(ctx, nil); err == nil && addUp(n) == c.counts {
				t.Errorf("counts add up: %t, want %t: %+v", addUp(n), !addUp(n), n)
			}
		})
	}
}

func addUp(n metering.Counts) bool {
	return n.Announced == n.Stored+n.Duplicate+n.Conflict+n.Undecoded && n.Keys == n.Stored
}
