package billing

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/shopspring/decimal"

	"mete/money"
)

// pageWidth is the width of a statement in characters.
const pageWidth = 96

// The columns of the page end here.
const (
	textWidth  = 48
	countEnds  = 58
	baseEnds   = 70
	rateEnds   = 82
	amountEnds = pageWidth - 1
	sumsEnd    = 28 // of the sums above the lines
)

// WriteText writes the statement as one page of text: first the sum and the date,
// then what customers paid, every deduction, corrections, the balance, what it costs
// in all, and how to check it.
func (r StatementRecord) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	s := r.Statement
	state := "in review"
	if r.State == Issued {
		state = "final"
	}
	head := strings.ToUpper(s.Market)
	if head == "" {
		head = strings.ToUpper(s.Entity)
	}
	both(b, head, fmt.Sprintf("STATEMENT %s · %s · %s", s.Month, state, s.Currency))
	both(b, "for "+s.Name, fmt.Sprintf("no. %s", s.ID))
	issued := "not issued yet"
	if r.State == Issued {
		issued = "issued " + r.IssuedOn.Short()
	}
	fmt.Fprintf(b, "%d–%d %s, %s time%s · %s\n", 1, s.Month.Last().Day, s.Month.Name(), zoneName(s.Zone), termsText(s.Terms), issued)
	fmt.Fprintln(b, s.who()+" This is a statement of account, not a tax invoice.")
	fmt.Fprintln(b)
	s.writeSums(b)
	s.writeLines(b)
	s.writeBalance(b)
	s.writeFoot(b)
	return b.Flush()
}

func zoneName(zone string) string {
	if i := strings.LastIndexByte(zone, '/'); i >= 0 {
		zone = zone[i+1:]
	}
	return strings.ReplaceAll(zone, "_", " ")
}

func termsText(ts []TermsRef) string {
	var b strings.Builder
	for _, t := range ts {
		fmt.Fprintf(&b, " · terms v%d", t.Version)
		if !t.Accepted.IsZero() {
			fmt.Fprintf(&b, ", accepted by you %s", t.Accepted.Short())
		}
	}
	return b.String()
}

func (s Statement) writeSums(b *bufio.Writer) {
	get := s.Closing()
	fmt.Fprintf(b, "  %-10s %12s   %s\n", "YOU GET", money.New(max(get.Minor, 0), get.Currency).Grouped(), s.payText())
	for _, part := range s.paymentRows() {
		fmt.Fprintln(b, strings.Repeat(" ", sumsEnd)+part)
	}
	if !s.ClosingReserve().IsZero() {
		next := s.Layers[0]
		for _, l := range s.Layers {
			if l.ReleaseOn.Before(next.ReleaseOn) {
				next = l
			}
		}
		fmt.Fprintf(b, "  %-10s %12s   next release %s: %s\n", "IN RESERVE", s.ClosingReserve().Grouped(), next.ReleaseOn.Short(), next.Amount.Grouped())
	}
	if s.Owed != nil {
		fmt.Fprintf(b, "  %-10s %12s   %s\n", "YOU OWE US", s.Owes().Grouped(), s.oweText())
	}
	fmt.Fprintln(b)
}

func (s Statement) payText() string {
	get := s.Closing()
	switch {
	case get.Minor < 0:
		return fmt.Sprintf("you owe us %s; set against your next sales", get.Neg().Grouped())
	case get.IsZero():
		return "nothing is due"
	case s.Minimum != nil && get.Minor < s.Minimum.Minor:
		return fmt.Sprintf("carried forward: below the minimum of %s", s.Minimum.Grouped())
	case s.Keep != nil && get.Minor <= s.Keep.Minor:
		return fmt.Sprintf("stays on the account: %s are kept there by contract", s.Keep.Grouped())
	case s.PayTo == "":
		return "no account on file: tell us where to pay"
	}
	by, account, _ := strings.Cut(s.PayTo, " ")
	on := s.PayOn
	if len(s.Coming) > 0 {
		parts := s.payments()
		if len(parts) == 0 {
			return fmt.Sprintf("carried forward: below the minimum of %s", s.Minimum.Grouped())
		}
		on = parts[len(parts)-1].on
	}
	return fmt.Sprintf("by %s to %s %s", railName(by), account, onText(on))
}

// isPaid reports whether the closing balance is paid at all, as far as the page knows.
func (s Statement) isPaid() bool {
	get := s.Closing()
	return get.Minor > 0 && (s.Minimum == nil || get.Minor >= s.Minimum.Minor) && (s.Keep == nil || get.Minor > s.Keep.Minor) && s.PayTo != ""
}

func railName(rail string) string {
	switch rail {
	case "ach":
		return "ACH"
	case "manual":
		return "bank transfer"
	}
	return rail
}

var sectionTitles = map[Section]string{
	Sales:       "Your customers paid (before tax)",
	Charges:     "Our share and fees",
	Besides:     "We owe you besides",
	Corrections: "Corrections of closed months",
}

// titleOf is the title of a section: what stands besides our share and fees is not only
// owed to the partner where taxes, splits or what is passed through are in it.
func titleOf(s Section, lines []Line) string {
	if s == Besides && slices.ContainsFunc(lines, func(l Line) bool {
		return l.Section == Besides && (l.Part == "tax" || l.Part == "split" || l.Part == "pass_through")
	}) {
		return "Besides our share and fees"
	}
	return sectionTitles[s]
}

func (s Statement) writeLines(b *bufio.Writer) {
	writeSections(b, s.Lines, s.NetSales, Line.write)
	if len(s.Lines) == 0 {
		fmt.Fprintln(b, "     no sale, no usage and no fee in this month")
	}
	row(b, "   EARNED IN "+strings.ToUpper(s.Month.Month.String()), "", "", "", s.Earned.Grouped())
	fmt.Fprintln(b)
}

// writeSections writes lines under the titles of their sections, with the sum of the
// sales.
func writeSections(b *bufio.Writer, lines []Line, netSales money.Amount, write func(Line, *bufio.Writer)) {
	row(b, "", "count", "base", "rate", "amount")
	var open Section
	net := false
	for i, l := range lines {
		if (l.Part == "collected" || l.Part == "accrued" || l.Part == "contested") && l.Section == Sales && !net {
			row(b, "     Net sales", "", "", "", netSales.Grouped())
			net = true
		}
		if l.Section != open {
			open = l.Section
			fmt.Fprintf(b, " %s %s\n", l.Section, titleOf(l.Section, lines))
		}
		write(l, b)
		if l.Section == Sales && !net && (i+1 == len(lines) || lines[i+1].Section != Sales) {
			row(b, "     Net sales", "", "", "", netSales.Grouped())
		}
	}
}

func (l Line) write(b *bufio.Writer) {
	count, base, rate := "", "", l.Rate
	if l.Part != "share" && l.Part != "quality" && l.Count != 0 {
		count = groupInt(l.Count)
	}
	if l.Part == "usage" && !l.Quantity.IsZero() {
		count = money.Group(l.Quantity.String())
	}
	if l.Base != nil {
		base = l.Base.Grouped()
	}
	if l.Section == Corrections {
		rate = ""
	}
	text := wrap(l.Text, textWidth-6)
	for i, t := range text {
		lead := "     "
		if i == 0 {
			lead = fmt.Sprintf(" %-3d ", l.Number)
		}
		if i < len(text)-1 {
			fmt.Fprintln(b, lead+t)
			continue
		}
		row(b, lead+t, count, base, rate, l.Amount.Grouped())
	}
	if l.Cause != "" && l.Adjustment == "" {
		for _, t := range wrap(l.Cause, pageWidth-8) {
			fmt.Fprintln(b, "       "+t)
		}
	}
	for _, n := range append(l.exchangedText(), l.Notes...) {
		for _, t := range wrap(n, pageWidth-8) {
			fmt.Fprintln(b, "       "+t)
		}
	}
}

func (s Statement) writeBalance(b *bufio.Writer) {
	two := func(what, payable, reserve string) {
		fmt.Fprintln(b, strings.TrimRight(pad(what, textWidth+7)+left(payable, 16)+left(reserve, 19), " "))
	}
	two("   Balance", "payable", "reserve")
	two("   "+s.Payable[0].What, s.Payable[0].Amount.Grouped(), s.Reserve[0].Amount.Grouped())
	reserve := map[string]money.Amount{}
	for _, m := range s.Reserve[1 : len(s.Reserve)-1] {
		reserve[m.What] = m.Amount
	}
	for _, m := range s.Payable[1 : len(s.Payable)-1] {
		r := ""
		if a, ok := reserve[m.What]; ok {
			r = a.Grouped()
			delete(reserve, m.What)
		}
		two("   "+short(m.What, textWidth+2), m.Amount.Grouped(), r)
	}
	for _, m := range s.Reserve[1 : len(s.Reserve)-1] {
		if _, left := reserve[m.What]; left {
			two("   "+short(m.What, textWidth+2), "", m.Amount.Grouped())
		}
	}
	two("   "+s.Payable[len(s.Payable)-1].What+" = our ledger", s.Closing().Grouped(), s.ClosingReserve().Grouped())
	fmt.Fprintln(b)
	s.writeOwed(b)
}

func (s Statement) writeFoot(b *bufio.Writer) {
	fmt.Fprintf(b, " All our charges for %s: %s", s.Month.Month, s.Charges.Grouped())
	if rate := takeRate(s.Charges, s.NetSales); rate != "" {
		fmt.Fprintf(b, " = %s of net sales", rate)
		if s.Before != nil {
			if before := takeRate(s.Before.Charges, s.Before.NetSales); before != "" {
				fmt.Fprintf(b, " (%s %s)", s.Before.Month.Month, before)
			}
		}
	}
	fmt.Fprintln(b, ".")
	if left := s.NotEarned(); !left.IsZero() {
		fmt.Fprintf(b, " Charged ahead, for months to come: %s.\n", left.Grouped())
	}
	if s.NotDue != nil && !s.NotDue.IsZero() {
		fmt.Fprintf(b, " Not in it: your part of sales that your customers have not paid yet, %s.\n", s.NotDue.Grouped())
	}
	if s.Due != nil {
		for i, t := range wrap(s.dueText(), pageWidth-3) {
			fmt.Fprintln(b, strings.Repeat(" ", 1+2*min(i, 1))+t)
		}
	}
	e := s.Evidence
	fmt.Fprintf(b, " Counted once: %s events. Ignored: %s duplicates. Conflicts: %s.", groupInt(e.Counted), groupInt(e.Duplicates), groupInt(e.Conflicts))
	if e.Unpriced > 0 {
		fmt.Fprintf(b, " Under no rule: %s.", groupInt(e.Unpriced))
	}
	if e.NoRate > 0 {
		fmt.Fprintf(b, " Without an exchange rate: %s.", groupInt(e.NoRate))
	}
	if e.Sandbox > 0 {
		fmt.Fprintf(b, " Sandbox: %s.", groupInt(e.Sandbox))
	}
	fmt.Fprintln(b)
	fmt.Fprintf(b, " Digest %s: the same events and terms give it again (mete verify %s).\n", s.Digest()[:16], s.Month)
	contact := s.Contact
	if contact == "" {
		contact = "your partner manager"
	}
	fmt.Fprintf(b, " Question a line until %s: %s. The rest is paid on time.\n", s.ReplyBy.Short(), contact)
}

// takeRate is our charges as a percentage of net sales, to two decimals.
func takeRate(charges, net money.Amount) string {
	if net.Minor <= 0 {
		return ""
	}
	return decimal.NewFromInt(charges.Minor).Shift(2).DivRound(decimal.NewFromInt(net.Minor), 2).StringFixed(2) + "%"
}

// row writes one row of the table of lines.
func row(b *bufio.Writer, text, count, base, rate, amount string) {
	out := pad(text, textWidth)
	out += left(count, countEnds-textWidth)
	if base == "" { // a long rate takes the room of the base
		out += left(rate, rateEnds-countEnds)
	} else {
		out += left(base, baseEnds-countEnds)
		out += left(rate, rateEnds-baseEnds)
	}
	out += left(amount, amountEnds-utf8.RuneCountInString(out)) // in its column, whatever stands before
	fmt.Fprintln(b, strings.TrimRight(out, " "))
}

// both writes a left and a right part on one line of the page.
func both(b *bufio.Writer, l, r string) {
	gap := pageWidth - utf8.RuneCountInString(l) - utf8.RuneCountInString(r)
	fmt.Fprintln(b, l+strings.Repeat(" ", max(gap, 2))+r)
}

func pad(s string, n int) string { return s + strings.Repeat(" ", max(n-utf8.RuneCountInString(s), 0)) }

// left pads on the left, keeping one space before a full column.
func left(s string, n int) string {
	return strings.Repeat(" ", max(n-utf8.RuneCountInString(s), 1)) + s
}

func short(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// wrap breaks text at spaces into lines of at most n characters.
func wrap(s string, n int) []string {
	var out []string
	line := ""
	for _, word := range strings.Fields(s) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= n:
			line += " " + word
		default:
			out = append(out, line)
			line = word
		}
	}
	return append(out, line)
}

func groupInt(n int64) string { return money.Group(strconv.FormatInt(n, 10)) }

// WriteCSV writes the lines as CSV, one row each, amounts as plain decimals. A statement
// under net terms has a last column more: when what it adds is paid.
func (r StatementRecord) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	rows := [][]string{{"statement", "line", "section", "contract", "version", "rule", "part", "month", "corrects", "text", "events", "quantity", "base", "rate", "amount", "currency", "payer"}}
	for _, l := range r.Lines {
		base := ""
		if l.Base != nil {
			base = l.Base.Plain()
		}
		rows = append(rows, []string{
			string(r.ID), strconv.Itoa(l.Number), string(l.Section), l.Contract, strconv.Itoa(l.Version), l.Rule, l.Part, r.Month.String(),
			l.Corrects.String(), l.Text, strconv.FormatInt(l.Count, 10), l.Quantity.String(), base, l.Rate,
			l.Amount.Plain(), string(l.Currency), string(l.Payer),
		})
	}
	if r.Due != nil {
		rows[0] = append(rows[0], "pay_on")
		for i := range rows[1:] {
			rows[i+1] = append(rows[i+1], r.PayOn.String())
		}
	}
	if err := c.WriteAll(rows); err != nil {
		return fmt.Errorf("statement %s as csv: %w", r.ID, err)
	}
	return nil
}
