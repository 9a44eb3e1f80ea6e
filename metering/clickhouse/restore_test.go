package clickhouse

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mete/internal/chtest"
	"mete/metering"
	"mete/metering/meteringtest"
)

// A store is restored from an older copy while an owner is paused that the copy knows:
// the block that it was storing arrives behind messages that are missing. It does not
// count, the position stays before what is missing, and from there all is stored again,
// by another owner or by the one that woke.
func TestRestoredUnderAPausedOwner(t *testing.T) {
	ctx := context.Background()
	for _, next := range []string{"another owner goes on", "the one that woke goes on"} {
		t.Run(next, func(t *testing.T) {
			dsn := chtest.New(t)
			w := newWire(t, dsn)
			paused, s, m, feed := openAt(t, w.dsn), openAt(t, dsn), new(meteringtest.Model), newFeed()
			lease := func(n uint64, b metering.Block) metering.Block {
				b.Epoch = n
				return b
			}
			first := feed.Block(0, meteringtest.Calls("a", 20, "scheduler", day))
			fill(t, paused, m, lease(3, first))
			lost, last := full(feed, 0, "a"), full(feed, 0, "b")
			if _, err := paused.Append(ctx, lease(3, lost)); err != nil {
				t.Fatal(err)
			}
			w.set(once("messages", held))
			ended := make(chan error)
			go func() {
				_, err := paused.Append(ctx, lease(3, last))
				ended <- err
			}()
			<-w.atHeld
			// The copy was taken before block lost.
			for _, table := range []string{"messages", "events", "keys", "voids", "duplicates", "conflicts", "undecoded"} {
				if err := s.conn.Exec(ctx, `ALTER TABLE `+table+` DELETE WHERE sequence > `+strconv.FormatUint(first.Last, 10)+
					` AND sequence <= `+strconv.FormatUint(lost.Last, 10)+` SETTINGS mutations_sync = 2`); err != nil {
					t.Fatal(err)
				}
			}
			w.arrive(t)
			if err := <-ended; !errors.Is(err, metering.ErrGap) {
				t.Errorf("the paused owner's append: %v, want ErrGap: the store is back before its block", err)
			}
			alike(t, s, m) // block first, and nothing else
			findings, err := s.Check(ctx)
			if err != nil || !slices.ContainsFunc(findings, func(f string) bool { return strings.Contains(f, "messages 2 to 3 are missing") }) {
				t.Errorf("the check says %v, %v, and not what is missing", findings, err)
			}
			owner, number := s, uint64(4)
			if next == "the one that woke goes on" {
				owner, number = paused, 3
			}
			fill(t, owner, m, lease(number, lost), lease(number, last), lease(number, full(feed, 0, "c")))
			same(t, s, m)
			wantSound(t, s)
		})
	}
}
