package metering

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/partner"
	"mete/period"
)

// DayTotals is what a source says that it sent of one day: everything, each fact once.
// What it does not name it has not sent.
type DayTotals struct {
	Source     string      `json:"source"`
	Day        period.Date `json:"day"`
	Zone       string      `json:"zone"` // in which the day begins and ends
	Totals     []DayTotal  `json:"totals"`
	SentBy     string      `json:"sent_by"` // credential
	ReceivedAt time.Time   `json:"received_at"`
	Digest     Hash        `json:"digest"` // of day, zone and totals
}

// DayTotal is how many events of one app and type a source sent, and what their amounts
// in one currency come to. A total without a currency is of events in any currency, if no
// other of its app and type names one; else of events without an amount.
type DayTotal struct {
	App      partner.AppID    `json:"app,omitempty"`
	Type     string           `json:"type"`
	Events   int64            `json:"events"`
	Amount   *decimal.Decimal `json:"amount,omitempty"` // major units; absent: not told
	Currency money.Currency   `json:"currency,omitempty"`
}

// MaxDayTotals bounds what a source says of one day.
const MaxDayTotals = 5_000

// ErrTotals says that totals cannot be taken as they are.
var ErrTotals = errors.New("totals are not taken")

// Seal checks totals, puts them in order and gives them their digest. The error, which
// wraps ErrTotals, repeats no text that was sent.
func (t *DayTotals) Seal(now time.Time) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrTotals)
	}
	p, err := t.Period()
	switch {
	case err != nil:
		return bad("zone: want a name such as America/Chicago or UTC")
	case t.Day.IsZero() || p.Start.Before(epoch):
		return bad("day: want a day from 2000 on, such as 2026-09-14")
	case p.End.After(now.Add(MaxAhead)):
		return bad("day: it has not ended yet in its zone; send its totals when it has")
	case len(t.Totals) > MaxDayTotals:
		return bad("%d totals, at most %d are taken", len(t.Totals), MaxDayTotals)
	}
	for i := range t.Totals {
		if err := t.Totals[i].check(); err != nil {
			return bad("totals[%d]: %v", i, err)
		}
	}
	slices.SortFunc(t.Totals, DayTotal.compare)
	for i := 1; i < len(t.Totals); i++ {
		if t.Totals[i].compare(t.Totals[i-1]) == 0 {
			return bad("totals: the same app, type and currency stands twice")
		}
	}
	t.ReceivedAt = now.UTC().Truncate(time.Microsecond)
	t.Digest = t.digest()
	return nil
}

// Period is the day's instants.
func (t *DayTotals) Period() (period.Period, error) {
	zone, err := time.LoadLocation(t.Zone)
	if err != nil || t.Zone == "" || t.Zone == "Local" {
		return period.Period{}, fmt.Errorf("zone %q is not known", t.Zone)
	}
	return period.Period{Start: t.Day.In(zone), End: t.Day.AddDays(1).In(zone), Zone: zone}, nil
}

func (t DayTotal) compare(o DayTotal) int {
	return cmp.Or(cmp.Compare(t.App, o.App), cmp.Compare(t.Type, o.Type), cmp.Compare(t.Currency, o.Currency))
}

func (t *DayTotal) check() error {
	switch {
	case t.Type == "":
		return errors.New("type is needed")
	case len(t.App) > MaxText || len(t.Type) > MaxText || len(t.Currency) > MaxText:
		return fmt.Errorf("a text is longer than %d bytes", MaxText)
	case guardText(string(t.App)) != "" || guardText(t.Type) != "":
		return errors.New("a text looks like what must not be kept")
	case t.Events < 0:
		return errors.New("events are never negative")
	case t.Amount != nil && t.Currency == "":
		return errors.New("an amount needs its currency")
	}
	if t.Currency == "" {
		return nil
	}
	c, err := money.ParseCurrency(string(t.Currency))
	if err != nil {
		return errors.New("currency: want an upper-case code of ISO 4217, such as USD")
	}
	if t.Amount != nil {
		if _, err := money.Exact(*t.Amount, c); err != nil || t.Amount.Sign() < 0 {
			return errors.New("amount: want a sum that is not negative and no finer than its currency")
		}
	}
	return nil
}

// totalsVersion opens the digested bytes.
const totalsVersion = "mete totals 1"

func (t *DayTotals) digest() Hash {
	b := appendLengthed(nil, totalsVersion)
	b = appendLengthed(appendLengthed(b, t.Day.String()), t.Zone)
	for i := range t.Totals {
		x := &t.Totals[i]
		amount := ""
		if x.Amount != nil {
			amount = string(appendDecimal(nil, *x.Amount))
		}
		for _, text := range []string{string(x.App), x.Type, fmt.Sprint(x.Events), amount, string(x.Currency)} {
			b = appendLengthed(b, text)
		}
	}
	return sha256.Sum256(b)
}

// Heartbeat is a source's word that it lives and has sent everything up to an instant,
// though that may be nothing.
type Heartbeat struct {
	Source     string    `json:"source"`
	At         time.Time `json:"at"`
	SentBy     string    `json:"sent_by"`
	ReceivedAt time.Time `json:"received_at"`
}

// Bounds of heartbeats. Of each slot one is kept: slots lie within days in every zone.
const (
	HeartbeatSlot   = 15 * time.Minute
	MaxHeartbeatAge = 35 * 24 * time.Hour
)

// ErrHeartbeat says that a heartbeat cannot be taken.
var ErrHeartbeat = errors.New("the heartbeat is not taken")

// Check reports why a heartbeat is not taken.
func (h *Heartbeat) Check(now time.Time) error {
	switch {
	case h.At.After(now.Add(MaxAhead)):
		return fmt.Errorf("at lies more than %s in the future: %w", MaxAhead, ErrHeartbeat)
	case h.At.Before(now.Add(-MaxHeartbeatAge)):
		return fmt.Errorf("at lies more than %d days back: %w", MaxHeartbeatAge/(24*time.Hour), ErrHeartbeat)
	}
	return nil
}

// Kept is what became of a fact that was sent.
type Kept string

// The outcomes.
const (
	KeptNew      Kept = "new"
	KeptSame     Kept = "same"     // it was known; nothing changed
	KeptConflict Kept = "conflict" // other content was there first and stays; this is kept beside it
)

// MaxTotalConflicts bounds the contents that are kept of one source and day.
const MaxTotalConflicts = 20

// ErrTooManyTotals says that a source has told too many different totals of one day.
var ErrTooManyTotals = errors.New("too many different totals of this day were sent")

// SourceFacts keeps what sources say of themselves beside their events. Facts are rows
// that are added; none changes.
type SourceFacts interface {
	// KeepTotals keeps sealed totals. The same content of a day again changes nothing;
	// other content is kept beside the first. More than MaxTotalConflicts contents of one
	// day fail with ErrTooManyTotals.
	KeepTotals(ctx context.Context, t DayTotals) (Kept, error)

	// Totals are those of the days from since on (zero: all), by day and source; of one
	// source's day the first that was kept comes first.
	Totals(ctx context.Context, since period.Date) iter.Seq2[DayTotals, error]

	// KeepHeartbeat keeps a heartbeat, one of each slot: the same again, or another of a
	// slot that has one, changes nothing.
	KeepHeartbeat(ctx context.Context, h Heartbeat) error

	// Alive reports whether a heartbeat of the source lies in [from, until).
	Alive(ctx context.Context, source string, from, until time.Time) (bool, error)
}

// SourceSum is what is stored of one source, app and type in a span.
type SourceSum struct {
	Source string
	DayTotal
}

// SumsBySource adds up stored events by source.
type SumsBySource interface {
	// SumsBySource are the stored events that occurred in [start, end), whatever became
	// of them later: voided ones and those of a sandbox are in it. Events without an
	// amount are sums without currency and amount.
	SumsBySource(ctx context.Context, start, end time.Time) ([]SourceSum, error)
}
