package metering

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/partner"
)

// Cutoff says up to which position each partition counts: every event at or before
// it is in, every later one is not. It is what a month's manifest pins, so that
// usage read twice is the same usage.
type Cutoff []PartitionCutoff

// PartitionCutoff is the last position of one partition that counts.
type PartitionCutoff struct {
	Incarnation int    `json:"incarnation"`
	Partition   int    `json:"partition"`
	Sequence    uint64 `json:"sequence"`
}

// Of is the last position of a partition that counts, 0 if it is not named.
func (c Cutoff) Of(partition int) uint64 {
	for _, p := range c {
		if p.Partition == partition {
			return p.Sequence
		}
	}
	return 0
}

// String is the cutoff as people read it: 0/17 1/20, a partition and its position each.
func (c Cutoff) String() string {
	parts := make([]string, len(c))
	for i, p := range c {
		parts[i] = fmt.Sprintf("%d/%d", p.Partition, p.Sequence)
	}
	return cmp.Or(strings.Join(parts, " "), "the beginning")
}

// Span is the events of one question: occurred in [Start, End), stored after the
// cutoff After (nil: from the beginning) and at or before UpTo (nil: all stored).
// Zero times leave that side open.
type Span struct {
	Start, End time.Time
	After      Cutoff
	UpTo       Cutoff
	Apps       []partner.AppID // nil: all apps
}

// Usage is a cell of usage: how many events share every field before Count, and the
// exact sums over them. Voided events are not in it; sandbox events are in cells of
// their own.
type Usage struct {
	App         partner.AppID      `json:"app"`
	Customer    partner.CustomerID `json:"customer,omitempty"`
	Type        string             `json:"type"`
	Class       Class              `json:"class,omitempty"`
	Operation   string             `json:"operation,omitempty"`
	Unit        string             `json:"unit,omitempty"`
	Currency    money.Currency     `json:"currency,omitempty"`
	Status      int                `json:"status,omitempty"`
	Environment Environment        `json:"environment,omitempty"`
	Dimensions  string             `json:"dimensions,omitempty"` // canonical JSON object, empty when none

	Count    int64           `json:"count"`
	Quantity decimal.Decimal `json:"quantity"` // sum of quantity, 1 where absent
	Bytes    int64           `json:"bytes"`
	Amount   decimal.Decimal `json:"amount"`         // sum of amount, major units
	Slow     int64           `json:"slow,omitempty"` // events slower than SlowMS
}

// SlowMS is the latency above which an event counts as slow, in milliseconds.
const SlowMS = 1000

// Transaction is one event that pricing looks at alone: a sale, a fee, a lead, a
// fact about certification or service. Order is (Time, Key).
type Transaction struct {
	Key      Key      `json:"key"`
	Position Position `json:"position"`
	Event
}

// Meter says which usage a price counts and how: data, not code.
type Meter struct {
	ID          string   `json:"id" yaml:"id"`
	Description string   `json:"description,omitempty" yaml:"description,omitempty"`
	Type        string   `json:"type" yaml:"type"`                                     // event type, usually usage.api
	Class       Class    `json:"class,omitempty" yaml:"class,omitempty"`               // empty: any
	Operations  []string `json:"operations,omitempty" yaml:"operations,omitempty"`     // empty: any
	Unit        string   `json:"unit,omitempty" yaml:"unit,omitempty"`                 // what one is called, such as call
	Aggregate   string   `json:"aggregate" yaml:"aggregate"`                           // count | quantity | bytes
	StatusBelow int      `json:"status_below,omitempty" yaml:"status_below,omitempty"` // 400: failed calls are free; 0: all
	Dimensions  []string `json:"dimensions,omitempty" yaml:"dimensions,omitempty"`     // dimension names its events may carry
}

// The ways a meter adds events up.
const (
	AggregateCount    = "count"
	AggregateQuantity = "quantity"
	AggregateBytes    = "bytes"
)

// Matches reports whether the meter counts the cell.
func (m Meter) Matches(u Usage) bool {
	if u.Type != m.Type || m.Class != "" && u.Class != m.Class || u.Environment == Sandbox {
		return false
	}
	if m.StatusBelow > 0 && u.Status >= m.StatusBelow {
		return false
	}
	if len(m.Operations) == 0 {
		return true
	}
	for _, op := range m.Operations {
		if op == u.Operation {
			return true
		}
	}
	return false
}

// Read is what the meter counts in the cell, in the meter's unit.
func (m Meter) Read(u Usage) decimal.Decimal {
	switch m.Aggregate {
	case AggregateQuantity:
		return u.Quantity
	case AggregateBytes:
		return decimal.NewFromInt(u.Bytes)
	}
	return decimal.NewFromInt(u.Count)
}
