package ledger

import "fmt"

// MonthState is how far the books of a month are. It only goes forward.
type MonthState string

// The states of a month. Only an open month takes entries; a closing one takes those
// of its own close.
const (
	Open    MonthState = "open"
	Closing MonthState = "closing"
	Closed  MonthState = "closed"
	Locked  MonthState = "locked"
)

// CheckStep reports why a month cannot go from s to the next state.
func (s MonthState) CheckStep(to MonthState) error {
	switch {
	case s == Open && to == Closing, s == Closing && to == Closed, s == Closed && to == Locked:
		return nil
	}
	return fmt.Errorf("from %q to %q: want open to closing, closing to closed or closed to locked: %w", s, to, ErrMonthState)
}

// Finding is something wrong in the books, as a check of the whole names it.
type Finding struct {
	Where string `json:"where"` // entry 17 (statement:…), balance of … in USD, month 2026-10, head
	What  string `json:"what"`
}

func (f Finding) String() string { return f.Where + ": " + f.What }
