package scenario

import (
	"fmt"
	"strings"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/pricing"
)

// RowLine is one line behind a row: what it comes to, step by step.
type RowLine struct {
	Part   string         `json:"part"`
	Scope  string         `json:"scope,omitempty"`
	Steps  []pricing.Step `json:"steps"`
	Exact  string         `json:"exact"`
	Amount string         `json:"amount"`           // rounded
	Posted string         `json:"posted,omitempty"` // of a late difference: what the closed month had said
	Notes  []string       `json:"notes,omitempty"`

	places int32 // of the currency
}

// rowLine is the line as a report shows it.
func rowLine(l pricing.Line) RowLine {
	return RowLine{Part: l.Part, Scope: l.Scope, Steps: l.Derivation, Exact: l.Exact.String(), Amount: l.Amount.Grouped(), Notes: l.Notes,
		places: l.Currency.Digits()}
}

// String is the report for people: one line for each file that is as wanted, the rows
// side by side where it is not, and what was tried of the contracts.
func (r Report) String() string {
	var b strings.Builder
	failed := 0
	for _, f := range r.Files {
		b.WriteString(f.String())
		if !f.OK() {
			failed++
		}
	}
	fmt.Fprintf(&b, "%d scenarios, %d lines compared, %d failed\n%s\n", len(r.Files), r.Wanted(), failed, r.Coverage.Summary())
	return b.String()
}

func (f FileReport) String() string {
	if f.OK() {
		return "ok    " + f.File + "\n"
	}
	var b strings.Builder
	b.WriteString("FAIL  " + f.File + "\n")
	for _, line := range strings.Split(strings.TrimRight(f.Difference(), "\n"), "\n") {
		b.WriteString("      " + line + "\n")
	}
	return b.String()
}

// Difference is what is not as wanted, for people: wanted beside got, and under each
// row that differs the arithmetic that made it. It is empty when the file is OK.
func (f FileReport) Difference() string {
	var b strings.Builder
	if f.Error != "" {
		b.WriteString(f.Error + "\n")
	}
	for _, m := range f.Months {
		if m.OK() {
			continue
		}
		fmt.Fprintf(&b, "%s:%d: %s, %s\n", f.File, m.Line, m.Month, m.Party)
		m.write(&b)
	}
	return b.String()
}

// write sets the rows in columns.
func (m MonthReport) write(b *strings.Builder) {
	name, want, got := len("line"), len("want"), len("got")
	for _, r := range m.Rows {
		name, want, got = max(name, length(r.label())), max(want, length(orDash(r.Want))), max(got, length(orDash(r.Got)))
	}
	line := func(mark, label, wanted, have, why string) {
		text := "  " + mark + " " + padded(label, name) + "  " + right(wanted, want) + "  " + right(have, got) + "  " + why
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	line(" ", "line", "want", "got", "")
	for _, r := range m.Rows {
		mark := " "
		if !r.OK {
			mark = "!"
		}
		line(mark, r.label(), orDash(r.Want), orDash(r.Got), r.Why)
		r.writeLines(b)
	}
}

// maxSteps bounds how many steps of one row are written out.
const maxSteps = 20

// writeLines writes the arithmetic under a row.
func (r Row) writeLines(b *strings.Builder) {
	var rows [][4]string
	for _, l := range r.Lines {
		for _, s := range l.Steps {
			rows = append(rows, [4]string{s.What, money.Group(s.Of.String()), s.Times.String(), shown(s.Is, l.places)})
		}
		if len(l.Steps) != 1 || shown(l.Steps[0].Is, l.places) != l.Amount {
			rows = append(rows, [4]string{l.sum(), "", "", l.Amount})
		}
		if l.Posted != "" {
			rows = append(rows, [4]string{"less what the closed month had", "", "", l.Posted})
		}
	}
	more := len(rows) - maxSteps
	rows = rows[:min(len(rows), maxSteps)]
	var width [4]int
	for _, x := range rows {
		for i, s := range x {
			width[i] = max(width[i], length(s))
		}
	}
	for _, x := range rows {
		sign, equals := " × ", " = "
		if x[1] == "" {
			sign, equals = "   ", "   "
		}
		b.WriteString("        " + padded(x[0], width[0]) + "  " + right(x[1], width[1]) + sign + padded(x[2], width[2]) + equals + right(x[3], width[3]) + "\n")
	}
	if more > 0 {
		fmt.Fprintf(b, "        and %d more; --json has all\n", more)
	}
	for _, l := range r.Lines {
		for _, n := range l.Notes {
			b.WriteString("        note: " + n + "\n")
		}
	}
}

// sum names the sum of a line's steps.
func (l RowLine) sum() string {
	text := "sum of " + l.Part
	if l.Scope != "" {
		text += ", " + l.Scope
	}
	return text + ", rounded"
}

func (r Row) label() string {
	if r.Month != "" {
		return r.Name + " " + r.Month
	}
	return r.Name
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// shown is an exact amount for people, with at least the currency's decimals.
func shown(d decimal.Decimal, places int32) string {
	if d.Exponent() < -places && !d.Equal(d.Truncate(places)) {
		return money.Group(d.String())
	}
	return money.Group(d.StringFixed(places))
}

func length(s string) int { return len([]rune(s)) }

func padded(s string, width int) string { return s + strings.Repeat(" ", max(0, width-length(s))) }

func right(s string, width int) string { return strings.Repeat(" ", max(0, width-length(s))) + s }
