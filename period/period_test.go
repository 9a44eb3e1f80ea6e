package period

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func zone(t interface{ Fatal(...any) }, name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

var (
	drawZone  = rapid.SampledFrom([]string{"UTC", "America/Chicago", "Europe/Berlin", "Pacific/Auckland", "Asia/Kolkata"})
	drawMonth = rapid.Custom(func(t *rapid.T) Month {
		return Month{rapid.IntRange(1990, 2090).Draw(t, "year"), time.Month(rapid.IntRange(1, 12).Draw(t, "month"))}
	})
	drawDate = rapid.Custom(func(t *rapid.T) Date {
		m := drawMonth.Draw(t, "month")
		return Date{m.Year, m.Month, rapid.IntRange(1, m.Last().Day).Draw(t, "day")}
	})
)

// Months in a zone follow each other without gap or overlap, and hold their instants.
func TestMonthsTileTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		z := zone(t, drawZone.Draw(t, "zone"))
		m := drawMonth.Draw(t, "month")
		p, next := m.In(z), m.Add(1).In(z)
		if !p.End.Equal(next.Start) || p.IsEmpty() {
			t.Fatalf("%s ends %s, %s begins %s", m, p.End, m.Add(1), next.Start)
		}
		at := p.Start.Add(time.Duration(rapid.Int64Range(0, int64(p.End.Sub(p.Start))-1).Draw(t, "into")))
		if !p.Contains(at) || next.Contains(at) || MonthOf(at, z) != m {
			t.Fatalf("%s lies in %s, not %s", at, MonthOf(at, z), m)
		}
		if p.Contains(p.End) || !p.Contains(p.Start) {
			t.Fatal("a period holds its start and not its end")
		}
		if in := p.Intersect(next); !in.IsEmpty() {
			t.Fatalf("%s and the next share %v", m, in)
		}
		if in := p.Intersect(Period{at, next.End, z}); !in.Start.Equal(at) || !in.End.Equal(p.End) {
			t.Fatalf("intersection %v", in)
		}
	})
}

func TestMonthArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMonth.Draw(t, "month")
		n := rapid.IntRange(-600, 600).Draw(t, "n")
		o := m.Add(n)
		if o.Add(-n) != m || (n > 0) != m.Before(o) || (n < 0) != o.Before(m) || (n == 0) != (m.Compare(o) == 0) {
			t.Fatalf("%s + %d = %s", m, n, o)
		}
		if back, err := ParseMonth(m.String()); err != nil || back != m {
			t.Fatal(back, err)
		}
		if m.Last().AddDays(1) != m.Add(1).First() || m.First().MonthOf() != m || m.Last().MonthOf() != m {
			t.Fatalf("%s runs from %s to %s", m, m.First(), m.Last())
		}
		b, _ := json.Marshal(m)
		var back Month
		if err := json.Unmarshal(b, &back); err != nil || back != m {
			t.Fatal(back, err)
		}
	})
}

func TestDateArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDate.Draw(t, "date")
		n := rapid.IntRange(-40000, 40000).Draw(t, "n")
		o := d.AddDays(n)
		if o.AddDays(-n) != d || d.DaysUntil(o) != n || d.Before(o) != (n > 0) {
			t.Fatalf("%s + %d = %s, %d days", d, n, o, d.DaysUntil(o))
		}
		if back, err := ParseDate(d.String()); err != nil || back != d {
			t.Fatal(back, err)
		}
		months := rapid.IntRange(-300, 300).Draw(t, "months")
		later := d.AddMonths(months)
		if later.MonthOf() != d.MonthOf().Add(months) || later.Day > d.Day || later.Day < min(d.Day, 28) {
			t.Fatalf("%s + %d months = %s", d, months, later)
		}
		if later.Day < d.Day && later != later.MonthOf().Last() {
			t.Fatalf("%s + %d months = %s, not the last day", d, months, later)
		}
		z := zone(t, drawZone.Draw(t, "zone"))
		if got := DateOf(d.In(z), z); got != d {
			t.Fatalf("%s begins on %s", d, got)
		}
		b, _ := json.Marshal(d)
		var back Date
		if err := json.Unmarshal(b, &back); err != nil || back != d {
			t.Fatal(back, err)
		}
	})
}

func TestBusinessDays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDate.Draw(t, "date")
		c := Calendar{Holidays: map[Date]string{}}
		for range rapid.IntRange(0, 10).Draw(t, "holidays") {
			c.Holidays[d.AddDays(rapid.IntRange(0, 40).Draw(t, "holiday"))] = "holiday"
		}
		n := rapid.IntRange(0, 15).Draw(t, "n")
		got, err := c.AddBusinessDays(d, n)
		if err != nil {
			t.Fatal(err)
		}
		if !c.IsBusinessDay(got) || got.Before(d) {
			t.Fatalf("%s + %d working days = %s", d, n, got)
		}
		between := 0 // working days after d, up to the one found
		for x := d.AddDays(1); !got.Before(x); x = x.AddDays(1) {
			if c.IsBusinessDay(x) {
				between++
			}
		}
		if c.IsBusinessDay(d) && between != n || n == 0 && between > 1 { // from a day off, see AddBusinessDays

			t.Fatalf("%s + %d working days = %s, but %d lie between", d, n, got, between)
		}
	})
	always := Calendar{Holidays: map[Date]string{}}
	start := Date{2026, 1, 1}
	for i := range 100 {
		always.Holidays[start.AddDays(i)] = "closed"
	}
	if _, err := always.AddBusinessDays(start, 1); err == nil {
		t.Error("a working day in a hundred holidays")
	}
}

func TestPeriodsSurviveJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawMonth.Draw(t, "month").In(zone(t, drawZone.Draw(t, "zone")))
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var back Period
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if !back.Start.Equal(p.Start) || !back.End.Equal(p.End) || back.Zone.String() != p.Zone.String() {
			t.Fatalf("%s read as %v", b, back)
		}
	})
	var p Period
	for _, bad := range []string{`{"start":"x","end":"x","zone":"UTC"}`, `{"start":"2026-01-01T00:00:00Z","end":"x","zone":"UTC"}`, `{"zone":"Nowhere/Else"}`, `[]`} {
		if err := json.Unmarshal([]byte(bad), &p); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

// Daylight saving: a month in Chicago is an hour shorter in March and longer in November.
func TestDaylightSaving(t *testing.T) {
	z := zone(t, "America/Chicago")
	for m, want := range map[Month]time.Duration{
		{2026, 3}: 31*24*time.Hour - time.Hour, {2026, 11}: 30*24*time.Hour + time.Hour, {2026, 6}: 30 * 24 * time.Hour,
	} {
		if p := m.In(z); p.End.Sub(p.Start) != want {
			t.Errorf("%s lasts %s", m, p.End.Sub(p.Start))
		}
	}
}

func TestTexts(t *testing.T) {
	if _, err := ParseMonth("2026-13"); err == nil || err.Error() != `month "2026-13": want YYYY-MM, such as 2026-09` {
		t.Error(err)
	}
	if _, err := ParseDate("2026-02-29"); err == nil || err.Error() != `date "2026-02-29": want YYYY-MM-DD, such as 2026-10-31` {
		t.Error(err)
	}
	d := Date{2026, 10, 31}
	if d.Short() != "31 Oct 2026" || (Date{}).Short() != "–" || (Date{}).String() != "" || (Month{}).String() != "" || d.MonthOf().Name() != "October 2026" {
		t.Error(d.Short(), d.MonthOf().Name())
	}
	if (Date{2026, 1, 31}).AddMonths(1) != (Date{2026, 2, 28}) || (Date{2024, 2, 29}).AddMonths(12) != (Date{2025, 2, 28}) {
		t.Error("the end of a month")
	}
	var m Month
	var e Date
	if m.UnmarshalText(nil) != nil || e.UnmarshalText(nil) != nil || m.UnmarshalText([]byte("x")) == nil || e.UnmarshalText([]byte("x")) == nil {
		t.Error("empty is none, others are refused")
	}
}

// What is accepted is written back the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"2026-01", "2026-01-31", "0000-00", "9999-12-31", "2026-1-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if m, err := ParseMonth(text); err == nil && m.String() != text && m != (Month{}) {
			t.Fatalf("%q became %s", text, m)
		}
		if d, err := ParseDate(text); err == nil && d.String() != text && !d.IsZero() {
			t.Fatalf("%q became %s", text, d)
		}
	})
}
