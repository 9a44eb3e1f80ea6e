// Package period holds spans of time as finance uses them: a half-open range of
// instants in a zone, a calendar month, a civil date, business days.
//
// It refuses to know what happens in a period, and it never asks for the current
// time. Read [Month.In] first: it turns "2026-09" and a zone into instants.
package period

import (
	"encoding/json"
	"fmt"
	"time"
)

// Period is the instants from Start up to but without End, seen in Zone.
type Period struct {
	Start time.Time
	End   time.Time
	Zone  *time.Location
}

// Contains reports whether t lies in [Start, End).
func (p Period) Contains(t time.Time) bool { return !t.Before(p.Start) && t.Before(p.End) }

// IsEmpty reports whether no instant lies in p.
func (p Period) IsEmpty() bool { return !p.Start.Before(p.End) }

// Intersect is the part that p and q share; it may be empty.
func (p Period) Intersect(q Period) Period {
	if q.Start.After(p.Start) {
		p.Start = q.Start
	}
	if q.End.Before(p.End) {
		p.End = q.End
	}
	return p
}

// Month is a calendar month, written 2026-09. The zero Month is none.
type Month struct {
	Year  int
	Month time.Month
}

// ParseMonth reads "2026-09".
func ParseMonth(s string) (Month, error) {
	t, err := time.Parse("2006-01", s)
	if err != nil {
		return Month{}, fmt.Errorf("month %q: want YYYY-MM, such as 2026-09", s)
	}
	return Month{t.Year(), t.Month()}, nil
}

// MonthOf is the month that holds t in zone.
func MonthOf(t time.Time, zone *time.Location) Month {
	t = t.In(zone)
	return Month{t.Year(), t.Month()}
}

func (m Month) String() string {
	if m == (Month{}) {
		return ""
	}
	return fmt.Sprintf("%04d-%02d", m.Year, m.Month)
}

// MarshalText writes "2026-09".
func (m Month) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads "2026-09"; empty is the zero Month.
func (m *Month) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = Month{}
		return nil
	}
	v, err := ParseMonth(string(b))
	*m = v
	return err
}

// Add is the month n months later, or earlier for a negative n.
func (m Month) Add(n int) Month {
	t := time.Date(m.Year, m.Month+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
	return Month{t.Year(), t.Month()}
}

// Compare orders months in time.
func (m Month) Compare(o Month) int {
	if m.Year != o.Year {
		return m.Year - o.Year
	}
	return int(m.Month - o.Month)
}

// Before reports whether m ends before o begins.
func (m Month) Before(o Month) bool { return m.Compare(o) < 0 }

// In is the month's instants in zone.
func (m Month) In(zone *time.Location) Period {
	start := time.Date(m.Year, m.Month, 1, 0, 0, 0, 0, zone)
	return Period{start, time.Date(m.Year, m.Month+1, 1, 0, 0, 0, 0, zone), zone}
}

// First is the month's first day.
func (m Month) First() Date { return Date{m.Year, m.Month, 1} }

// Last is the month's last day.
func (m Month) Last() Date { return m.Add(1).First().AddDays(-1) }

// Name is the month for people: "October 2026".
func (m Month) Name() string { return fmt.Sprintf("%s %d", m.Month, m.Year) }

// Date is a civil day, written 2026-10-31, without a zone.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// ParseDate reads "2026-10-31".
func ParseDate(s string) (Date, error) {
	t, err := time.Parse("2006-01-02", s)
	if err != nil {
		return Date{}, fmt.Errorf("date %q: want YYYY-MM-DD, such as 2026-10-31", s)
	}
	return Date{t.Year(), t.Month(), t.Day()}, nil
}

// DateOf is the day that holds t in zone.
func DateOf(t time.Time, zone *time.Location) Date {
	t = t.In(zone)
	return Date{t.Year(), t.Month(), t.Day()}
}

func (d Date) String() string {
	if d == (Date{}) {
		return ""
	}
	return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day)
}

// IsZero reports whether d is no date.
func (d Date) IsZero() bool { return d == Date{} }

// In is the day's first instant in zone.
func (d Date) In(zone *time.Location) time.Time {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, zone)
}

// AddDays is the date n days later.
func (d Date) AddDays(n int) Date {
	t := time.Date(d.Year, d.Month, d.Day+n, 0, 0, 0, 0, time.UTC)
	return Date{t.Year(), t.Month(), t.Day()}
}

// AddMonths is the same day n months later, or that month's last day.
func (d Date) AddMonths(n int) Date {
	m := d.MonthOf().Add(n)
	last := m.Last()
	return Date{m.Year, m.Month, min(d.Day, last.Day)}
}

// MonthOf is the month that holds d.
func (d Date) MonthOf() Month { return Month{d.Year, d.Month} }

// Compare orders dates in time.
func (d Date) Compare(o Date) int { return d.In(time.UTC).Compare(o.In(time.UTC)) }

// Before reports whether d comes before o.
func (d Date) Before(o Date) bool { return d.Compare(o) < 0 }

// DaysUntil is the number of days from d to o.
func (d Date) DaysUntil(o Date) int {
	return int(o.In(time.UTC).Sub(d.In(time.UTC)) / (24 * time.Hour))
}

// Short is the date for people: "31 Oct 2026".
func (d Date) Short() string {
	if d.IsZero() {
		return "–"
	}
	return d.In(time.UTC).Format("2 Jan 2006")
}

// Weekday is the day of the week.
func (d Date) Weekday() time.Weekday { return d.In(time.UTC).Weekday() }

// MarshalText writes "2026-10-31".
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads "2026-10-31"; empty is the zero Date.
func (d *Date) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Date{}
		return nil
	}
	v, err := ParseDate(string(b))
	*d = v
	return err
}

// Calendar knows which days banks and people work: Monday to Friday without the
// holidays, which are data.
type Calendar struct {
	Holidays map[Date]string `json:"holidays,omitempty"`
}

// IsBusinessDay reports whether d is a working day.
func (c Calendar) IsBusinessDay(d Date) bool {
	_, holiday := c.Holidays[d]
	return !holiday && d.Weekday() != time.Saturday && d.Weekday() != time.Sunday
}

// maxHolidayRun bounds the search for the next working day.
const maxHolidayRun = 60

// AddBusinessDays is the nth working day after d; n = 0 is d itself or, on a day off,
// the next working day. It fails if no working day follows within 60 days.
func (c Calendar) AddBusinessDays(d Date, n int) (Date, error) {
	if n > 0 {
		d = d.AddDays(1)
	}
	for off := 0; off <= maxHolidayRun; d = d.AddDays(1) {
		if !c.IsBusinessDay(d) {
			off++
			continue
		}
		if off = 0; n <= 1 {
			return d, nil
		}
		n--
	}
	return Date{}, fmt.Errorf("calendar: no business day within %d days before %s", maxHolidayRun, d)
}

type periodJSON struct {
	Start string `json:"start"`
	End   string `json:"end"`
	Zone  string `json:"zone"`
}

// MarshalJSON writes the instants in UTC and the zone's name.
func (p Period) MarshalJSON() ([]byte, error) {
	zone := "UTC"
	if p.Zone != nil {
		zone = p.Zone.String()
	}
	return json.Marshal(periodJSON{
		p.Start.UTC().Format(time.RFC3339Nano),
		p.End.UTC().Format(time.RFC3339Nano),
		zone,
	})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *Period) UnmarshalJSON(b []byte) error {
	var z periodJSON
	if err := json.Unmarshal(b, &z); err != nil {
		return err
	}
	zone, err := time.LoadLocation(z.Zone)
	if err != nil {
		return fmt.Errorf("period zone %q: %w", z.Zone, err)
	}
	if p.Start, err = time.Parse(time.RFC3339Nano, z.Start); err != nil {
		return err
	}
	if p.End, err = time.Parse(time.RFC3339Nano, z.End); err != nil {
		return err
	}
	p.Zone, p.Start, p.End = zone, p.Start.In(zone), p.End.In(zone)
	return nil
}
