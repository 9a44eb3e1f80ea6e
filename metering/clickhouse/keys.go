package clickhouse

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"mete/metering"
)

// asked is how many keys one query looks up.
const asked = 1 << 14

// eachStored calls found for those of the keys that are stored.
func (s *Store) eachStored(ctx context.Context, c *chain, keys []metering.Key, found func(metering.Key, known)) error {
	all, err := c.upTo(nil)
	if err != nil || len(all.epochs) == 0 {
		return err
	}
	slices.SortFunc(keys, metering.Key.Compare) // neighbours lie in one granule
	for chunk := range slices.Chunk(keys, asked) {
		if err := s.each(ctx, `SELECT event_key, content_hash, app, occurred_at FROM keys WHERE `+inKeys("event_key", chunk)+` AND `+all.within(""),
			func(scan func(...any) error) error {
				var k metering.Key
				var stored known
				if err := scan(&k, &stored.hash, &stored.app, &stored.occurred); err != nil {
					return err
				}
				found(k, stored)
				return nil
			}); err != nil {
			return fmt.Errorf("look for %d keys: %w", len(chunk), err)
		}
	}
	return nil
}

// inKeys writes the condition that the column is one of the keys: one literal that the
// engine cuts up, since it parses thousands slowly.
func inKeys(column string, keys []metering.Key) string {
	text := make([]byte, 0, len(keys)*2*len(metering.Key{}))
	for i := range keys {
		text = hex.AppendEncode(text, keys[i][:])
	}
	return fmt.Sprintf(`%s GLOBAL IN (SELECT toFixedString(substring(unhex('%s'), number * 16 + 1, 16), 16) FROM numbers(%d))`, column, text, len(keys))
}
