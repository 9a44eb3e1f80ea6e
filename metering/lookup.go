package metering

import (
	"context"
	"time"
)

// Lookup answers about many events at a time, for those who hold a whole log against
// the store.
type Lookup interface {
	// FindMany answers as [Store.Find] does, for at most MaxFindMany keys and all in one
	// state of the store: the stored event and what voided it, nothing else. A key that
	// is not stored is not in the answer; one that is asked for twice is no error.
	FindMany(ctx context.Context, keys []Key) (map[Key]Found, error)
}

// MaxFindMany bounds the keys of one question.
const MaxFindMany = 1000

// Tally is what became of events, added up message by message as each was stored: no
// row is looked at, so that it is cheap to ask again and again. [Counts] counts rows.
type Tally struct {
	Messages  int64     `json:"messages"`
	Announced int64     `json:"announced"`
	Stored    int64     `json:"stored"`
	Duplicate int64     `json:"duplicate"`
	Conflict  int64     `json:"conflict"`
	Undecoded int64     `json:"undecoded"`
	NewestAt  time.Time `json:"newest_at,omitzero"` // the latest acceptance of a message
}

// Accounted are the events of which it is told what they became.
func (t Tally) Accounted() int64 { return t.Stored + t.Duplicate + t.Conflict + t.Undecoded }

// Tallies adds up what was stored between two cutoffs.
type Tallies interface {
	// Tally is of the messages behind after (nil: from the beginning) and up to upTo
	// (nil: all that are stored).
	Tally(ctx context.Context, after, upTo Cutoff) (Tally, error)
}
