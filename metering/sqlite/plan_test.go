package sqlite

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"mete/metering"
)

// No question but those over all time may read a whole table that grows with the
// events.
func TestPlansSeek(t *testing.T) {
	ctx := context.Background()
	s := open(t)
	filled(t, s)
	c, err := s.Cutoff(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, sp := range []metering.Span{{Start: day, End: day.AddDate(0, 1, 0), UpTo: c}, {End: day, After: c}} {
		if err := s.read(ctx, func(tx *sql.Tx) error {
			r, err := resolveSpan(ctx, tx, sp)
			if err != nil {
				return err
			}
			ignored, err := ignoredQuery(&r)
			if err != nil {
				return err
			}
			usage, err := usageQuery(&r)
			if err != nil {
				return err
			}
			events, err := eventsQuery(&r, false, &condition{})
			if err != nil {
				return err
			}
			for name, q := range map[string]*condition{"ignored": ignored, "usage": usage, "events": events} {
				if err := each(ctx, tx, `EXPLAIN QUERY PLAN `+q.text.String(), q.args, func(scan func(...any) error) error {
					var id, parent, unused int
					var step string
					if err := scan(&id, &parent, &unused, &step); err != nil {
						return err
					}
					bounded := step == "SCAN k" || step == "SCAN g" || strings.HasPrefix(step, "SCAN (") // recent keys, cells, apps
					if strings.Contains(step, "SCAN") && !bounded || strings.Contains(step, "AUTOMATIC") || strings.Contains(step, "MATERIALIZE") {
						t.Errorf("%s of %+v: %s", name, sp, step)
					}
					return nil
				}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}
