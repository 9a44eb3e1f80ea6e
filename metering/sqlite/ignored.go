package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"mete/metering"
)

// Ignored counts duplicates and conflicts by app, see [metering.Store].
func (s *Store) Ignored(ctx context.Context, sp metering.Span) ([]metering.Ignored, error) {
	var out []metering.Ignored
	err := s.read(ctx, func(tx *sql.Tx) error {
		r, err := resolveSpan(ctx, tx, sp)
		if err != nil {
			return err
		}
		q, err := ignoredQuery(&r)
		if err != nil {
			return err
		}
		return each(ctx, tx, q.text.String(), q.args, func(scan func(...any) error) error {
			var i metering.Ignored
			err := scan(&i.App, &i.Duplicates, &i.Conflicts)
			out = append(out, i)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("duplicates and conflicts %s: %w", describe(sp), err)
	}
	return out, nil
}

// ignoredQuery looks from what came again to the stored event, once through each
// table of keys: through both as one, SQLite would first copy them.
func ignoredQuery(r *span) (*condition, error) {
	var q condition
	q.add(`SELECT app, sum(again), sum(other) FROM (`)
	for i, from := range []struct{ tables, counted string }{ // each second table is sought by its key
		{"duplicates t CROSS JOIN keys k", "1 AS again, 0 AS other"}, {"keys_recent k CROSS JOIN duplicates t", "1, 0"},
		{"conflicts t CROSS JOIN keys k", "0, 1"}, {"keys_recent k CROSS JOIN conflicts t", "0, 1"},
	} {
		if i > 0 {
			q.add(` UNION ALL `)
		}
		q.add(`SELECT c.app AS app, ` + from.counted + ` FROM ` + from.tables + ` ON k.event_key = t.event_key
			CROSS JOIN events e ON e.place = k.place CROSS JOIN cells c ON c.id = e.cell WHERE `)
		q.stored(`t.place`, r)
		q.add(` AND `)
		q.occurred(r)
		if r.Apps != nil {
			q.add(` AND `)
			if err := oneOf(&q, `c.app`, r.Apps); err != nil {
				return nil, err
			}
		}
	}
	q.add(`) GROUP BY app ORDER BY app`)
	return &q, nil
}
