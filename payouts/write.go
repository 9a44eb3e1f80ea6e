package payouts

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"mete/money"
	"mete/partner"
	"mete/period"
)

// Widths in columns. Sums from ten figures on widen the page.
const (
	pageWidth     = 96
	heldWidth     = 9
	withheldWidth = 11
	leastFolded   = 20 // text narrower than this would not be readable: it overflows
)

// WritePlan writes a run for the person who approves it: totals against the ledger,
// what to look at first, who is paid and who is not, the checks, and the commands.
func WritePlan(w io.Writer, r Run) error {
	p := newPage(w, r)
	p.head()
	p.totals()
	p.looks()
	p.table()
	p.foot()
	return p.out.Flush()
}

// WriteRun writes a run with what became of each payout.
func WriteRun(w io.Writer, r Run) error {
	p := newPage(w, r)
	p.head()
	id := len("P-2026-11-20-001")
	for _, x := range r.Payouts {
		id = max(id, len(x.ID))
	}
	p.row(" %-*s%*s   %-8s  %-11s %s", id+p.name+3, "PAYOUT", p.amount, "amount", "account", "state", "why")
	for _, x := range r.Payouts {
		why := x.Reason
		if x.Replaces != "" {
			why = strings.TrimSpace("again for " + x.Replaces + " " + why)
		}
		p.wrapped(fmt.Sprintf("  %-*s  %-*s%*s   %-8s  %-11s ", id, x.ID, p.name, p.named("  ", x.Partner), p.amount, x.Amount.Grouped(),
			"****"+x.Last4, x.State), why)
	}
	return p.out.Flush()
}

// WriteRuns writes a list of runs, one a line.
func WriteRuns(w io.Writer, runs []Run) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "%-36s %-13s %6s %18s %18s\n", "RUN", "state", "payees", "to pay", "settled")
	for _, r := range runs {
		settled := money.New(0, r.Currency)
		for _, p := range r.Payouts {
			if p.State == Settled {
				var err error
				if settled, err = settled.Add(p.Amount); err != nil {
					return err
				}
			}
		}
		fmt.Fprintf(out, "%-36s %-13s %6d %18s %18s\n", cut(r.ID, 36), r.State, len(r.Payouts), r.Totals.ToPay.Grouped(), settled.Grouped())
	}
	return out.Flush()
}

type page struct {
	out    *bufio.Writer
	r      Run
	name   int // width of the name column
	amount int // width of the amount column after it
	zone   *time.Location
}

func newPage(w io.Writer, r Run) *page {
	p := &page{out: bufio.NewWriter(w), r: r, name: 12, amount: 11, zone: time.UTC}
	if zone, err := time.LoadLocation(r.Zone); err == nil {
		p.zone = zone
	}
	wide := func(name string, amounts ...money.Amount) {
		p.name = max(p.name, min(len(name), 24))
		for _, a := range amounts {
			p.amount = max(p.amount, len(a.Grouped())+1)
		}
	}
	for _, x := range r.Payouts {
		wide(string(x.Partner), x.Amount, payable(x))
	}
	for _, x := range r.NotNow {
		wide(string(x.Partner), x.Amount)
	}
	for _, x := range r.Held {
		wide(string(x.Partner), x.Amount)
	}
	p.name = max(12, min(p.name, pageWidth-(2+p.amount+heldWidth+withheldWidth+max(12, p.amount)+31)))
	return p
}

func (p *page) row(format string, args ...any) {
	fmt.Fprintln(p.out, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

// wrapped writes text after first, going on below its beginning.
func (p *page) wrapped(first, text string) {
	indent := utf8.RuneCountInString(first)
	for _, line := range fold(text, max(leastFolded, pageWidth-indent)) {
		p.row("%s%s", first, line)
		first = strings.Repeat(" ", indent)
	}
}

// head says what run this is and what it waits for.
func (p *page) head() {
	r := p.r
	from := ""
	if r.From != "" {
		from = " from " + r.From
	}
	p.list("", []string{"PAYOUT RUN " + r.PayOn.String(), string(r.Currency), r.RailLabel + from, "pay date " + r.PayOn.In(time.UTC).Format("Mon 2 Jan 2006")})
	var second []string
	if t := r.Totals; t.NewestMonth != (period.Month{}) {
		name := t.NewestMonth.Month.String()
		if t.NewestMonth.Year != r.PayOn.Year && t.NewestMonth.Month != time.December {
			name = t.NewestMonth.Name()
		}
		second = append(second, name+" statements, issued "+dayOf(t.NewestIssueOn, r.PayOn))
	}
	second = append(second, "planned by "+r.PlannedBy+" "+p.moment(r.PlannedAt), p.status())
	if r.Revision > 1 {
		second = append(second, fmt.Sprintf("plan %d", r.Revision))
	}
	p.list("", second)
	for _, a := range r.Approvals {
		text := "Approved by " + a.By + " " + p.moment(a.At) + ", content " + a.Content[:min(contentShort, len(a.Content))]
		if a.Unauthenticated {
			text += " · UNAUTHENTICATED: named on a command line, proven by nothing"
		}
		p.wrapped("", text)
	}
	p.row("")
}

func (p *page) status() string {
	r := p.r
	switch r.State {
	case RunPlanned:
		not := []string{r.PlannedBy}
		for _, a := range r.Approvals {
			not = append(not, a.By)
		}
		wait := "WAITS FOR APPROVAL"
		switch {
		case r.Needs() == 2 && len(r.Approvals) == 1:
			wait = "WAITS FOR THE SECOND APPROVAL"
		case r.Needs() == 2:
			wait = "WAITS FOR TWO APPROVALS"
		}
		return wait + " (not " + strings.Join(not, ", ") + ")"
	case RunSentBack:
		return "SENT BACK by " + r.SentBack.By + ": " + r.SentBack.Reason
	}
	return strings.ToUpper(string(r.State))
}

// named is a name for the name column. One that does not fit has a line of its own
// before: nobody approves a payee whose name is cut.
func (p *page) named(indent string, id partner.ID) string {
	if len(id) <= p.name {
		return string(id)
	}
	p.row("%s%s", indent, id)
	return ""
}

// totals prove that everybody is on the page.
func (p *page) totals() {
	t := p.r.Totals
	line := func(label, count string, a money.Amount, note string) {
		p.wrapped(fmt.Sprintf("  %-17s%-9s%*s      ", label, count, max(12, p.amount+1), a.Grouped()), cmp.Or(note, " "))
	}
	last := ""
	if l := p.r.Last; l != nil {
		last = fmt.Sprintf("last run, %s: %s, %s", dayOf(l.PayOn, p.r.PayOn), payees(l.Payees), l.Total.Grouped())
		if diff, err := t.ToPay.Sub(l.Total); err == nil {
			last += "  (" + signed(diff.Grouped()) + ")"
		}
	}
	line("To pay", payees(t.ToPayPayees), t.ToPay, last)
	if t.Withheld != nil {
		line("Tax withheld", "", *t.Withheld, "for "+p.authorities())
	}
	if t.NotNowPayees > 0 {
		line("Not now", payees(t.NotNowPayees), t.NotNow, "reasons below")
	}
	if t.HeldPayees > 0 {
		label := "Held"
		if t.HeldEntirely == 0 {
			label = "Held in part"
		}
		note := "reasons below"
		if t.HeldPayees == 1 {
			note = p.r.Held[0].Reason
		}
		line(label, payees(t.HeldPayees), t.Held, note)
	}
	parts := "= to pay + not now + held"
	if t.Withheld != nil {
		parts = "= to pay + tax + not now + held"
	}
	line("Accounts, ledger", payees(t.LedgerPayees), t.Ledger, parts+"; difference "+t.Difference.Grouped())
	if f := p.r.Funds; f != nil {
		note := ""
		if rest, err := f.Sub(t.ToPay); err == nil {
			note = rest.Grouped() + " remain"
			if rest.Minor < 0 {
				note = "NOT ENOUGH: " + rest.Neg().Grouped() + " are missing"
			}
		}
		line("Funds at bank", "", *f, note)
	}
	p.row("")
}

func (p *page) looks() {
	if len(p.r.Look) == 0 {
		return
	}
	p.row(" LOOK AT THESE FIRST")
	for _, l := range p.r.Look {
		amount := "–"
		if l.Amount != nil {
			amount = l.Amount.Grouped()
		}
		p.wrapped(fmt.Sprintf("  %s %-*s%*s   ", mark(p.name, l.Partner), p.name, p.named("  ! ", l.Partner), p.amount, amount), l.Text)
	}
	p.row("")
}

func (p *page) table() {
	held := heldWidth
	for _, x := range p.r.Payouts {
		held = max(held, len(x.Held.Grouped())+1)
	}
	if len(p.r.Payouts) > 0 {
		p.row(" %-*s%*s%*s%11s%*s   %-9s %s", p.name+1, "TO PAY", p.amount, "payable", held, "held", "withheld", max(12, p.amount), "to pay", "account", "statement")
	}
	for _, x := range p.r.Payouts {
		heldText, withheld := "", ""
		if !x.Held.IsZero() {
			heldText = x.Held.Grouped()
		}
		if x.Withheld != nil {
			withheld = x.Withheld.Amount.Grouped()
		}
		p.wrapped(fmt.Sprintf("  %-*s%*s%*s%11s%*s   %-8s  ", p.name, p.named("  ", x.Partner), p.amount, payable(x).Grouped(), held, heldText, withheld,
			max(12, p.amount), x.Amount.Grouped(), "****"+x.Last4), monthsOf(x))
	}
	if len(p.r.NotNow) > 0 {
		p.row(" %-*s%*s   %-28s%-12s%s", p.name+1, "NOT NOW", p.amount, "", "", "until", "who can change it")
	}
	for _, x := range p.r.NotNow {
		first := fmt.Sprintf("  %-*s%*s   ", p.name, p.named("  ", x.Partner), p.amount, x.Amount.Grouped())
		for _, reason := range x.Reasons {
			p.reason(first, reason.Text, reason.Until, reason.Who)
			first = strings.Repeat(" ", utf8.RuneCountInString(first))
		}
	}
	title := " HELD"
	for _, x := range p.r.Held {
		if !x.All && p.r.Totals.HeldPayees == 1 {
			continue // stands in the totals
		}
		if title != "" {
			p.row("%s", title)
			title = ""
		}
		p.wrapped(fmt.Sprintf("  %-*s%*s   ", p.name, p.named("  ", x.Partner), p.amount, x.Amount.Grouped()), x.Reason)
	}
	p.row("")
}

// reason writes the three columns of why, until and who, each folded by itself.
func (p *page) reason(first, why, until, who string) {
	indent := utf8.RuneCountInString(first)
	a, b, c := fold(why, 27), fold(until, 11), fold(who, pageWidth-indent-40)
	at := func(lines []string, i int) string {
		if i < len(lines) {
			return lines[i]
		}
		return ""
	}
	for i := range max(len(a), len(b), len(c)) {
		p.row("%s%-28s%-12s%s", first, at(a, i), at(b, i), at(c, i))
		first = strings.Repeat(" ", indent)
	}
}

func (p *page) foot() {
	r := p.r
	checks := make([]string, len(r.Checks))
	for i, c := range r.Checks {
		checks[i] = fmt.Sprintf("%s %d/%d", c.Name, c.Passed, c.Of)
	}
	p.list(" CHECKED "+p.short(r.PlannedAt)+"  ", checks)
	p.row(" Above %s: two approvers. Any change voids approvals. Content %s", r.Rules.TwoAbove.Grouped(), r.Short())
	if r.State != RunPlanned {
		return
	}
	approve := fmt.Sprintf("   mete payout approve %s --content %s", r.PayOn, r.Short())
	back := fmt.Sprintf(`mete payout return %s --reason "…"`, r.PayOn)
	if one := approve + "   " + back; utf8.RuneCountInString(one) <= pageWidth {
		p.row("%s", one)
		return
	}
	p.row("%s", approve)
	p.row("   %s", back)
}

// list writes items with dots between them, breaking lines only at a dot.
func (p *page) list(first string, items []string) {
	line, indent := first, strings.Repeat(" ", min(utf8.RuneCountInString(first), 24))
	empty := true
	for _, item := range items {
		switch {
		case empty:
			line += item
		case utf8.RuneCountInString(line+" · "+item) > pageWidth:
			p.row("%s", line)
			line = indent + item
		default:
			line += " · " + item
		}
		empty = false
	}
	if utf8.RuneCountInString(line) <= pageWidth {
		p.row("%s", line)
		return
	}
	p.wrapped("", line)
}

func (p *page) moment(t time.Time) string { return t.In(p.zone).Format("Mon 2 Jan 15:04") }
func (p *page) short(t time.Time) string  { return t.In(p.zone).Format("2 Jan 15:04") }

// mark is the sign before a look, left out where the name stands on the line before.
func mark(width int, id partner.ID) string {
	if len(id) > width {
		return " "
	}
	return "!"
}

func payable(x Payout) money.Amount {
	all, err := x.Gross().Add(x.Held)
	if err != nil {
		panic("payouts: internal error: " + err.Error()) // Plan added them before
	}
	return all
}

// authorities are those for whom tax is withheld.
func (p *page) authorities() string {
	var names []string
	for _, x := range p.r.Payouts {
		if x.Withheld != nil && !slices.Contains(names, x.Withheld.Authority) {
			names = append(names, x.Withheld.Authority)
		}
	}
	return strings.Join(names, ", ")
}

func payees(n int) string {
	if n == 1 {
		return "1 payee"
	}
	return fmt.Sprintf("%d payees", n)
}

// monthsOf names the statements a payout pays.
func monthsOf(x Payout) string {
	var months []string
	for _, s := range x.Statements {
		months = append(months, s.Month.String())
	}
	if n := len(months); n > 2 {
		return fmt.Sprintf("%s to %s (%d)", months[0], months[n-1], n)
	}
	text := strings.Join(months, ", ")
	if x.Replaces != "" {
		text += ", again for " + x.Replaces
	}
	return text
}

// cut shortens a name that does not fit its column.
func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// fold breaks text at spaces into lines of at most width columns; a longer word is
// broken anywhere.
func fold(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Split(text, " ") {
		for {
			try := word
			if line != "" {
				try = line + " " + word
			}
			if utf8.RuneCountInString(try) <= width {
				line = try
				break
			}
			if line != "" {
				lines, line = append(lines, line), ""
				continue
			}
			r := []rune(word)
			lines, word = append(lines, string(r[:width])), string(r[width:])
		}
	}
	return append(lines, line)
}
