package billing

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"mete/ledger"
	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Shadow is what a partner's sandbox events of a month would come to under the terms in
// force. It is no statement: it is not kept, posted or owed, and moves no total.
//
// A shadow is a world of its own. It holds what came from a sandbox and nothing else,
// begins with every total at nothing and ends with the month, so that the same events
// always come to the same, whatever is sold meanwhile. Nobody is scored in it, and what
// no event causes, such as a monthly fee, is not in it.
type Shadow struct {
	Shadow   bool              `json:"shadow"` // always true
	Market   string            `json:"market"`
	Partner  partner.ID        `json:"partner"`
	Name     string            `json:"name"`
	Currency money.Currency    `json:"currency"`
	Month    period.Month      `json:"month"`
	State    ledger.MonthState `json:"month_state"` // while it is open, more may come
	Zone     string            `json:"zone"`
	Terms    []TermsRef        `json:"terms"`
	Lines    []Line            `json:"lines"` // of the sections A to C
	NetSales money.Amount      `json:"net_sales"`
	Charges  money.Amount      `json:"charges"`
	Total    money.Amount      `json:"total"`   // what a statement would call earned
	Counted  []pricing.Counted `json:"counted"` // what became of the sandbox events
	Cutoff   metering.Cutoff   `json:"cutoff"`  // events up to here were looked at
}

// Shadow prices the month's sandbox events as a close prices real ones: a closed month
// with the documents that its manifest pins, an open one with those of today. It looks
// at all that is stored, writes nothing, and leaves out partners for whom there is
// nothing from a sandbox. The partner, when given, is the only one.
func (c *Closer) Shadow(ctx context.Context, m period.Month, only partner.ID) ([]Shadow, error) {
	r, state, err := c.shadowRun(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("shadow of %s: %w", m, err)
	}
	priced, err := r.pricer(lateEvents{first: m}).month(ctx, m, nil)
	if err != nil {
		return nil, fmt.Errorf("shadow of %s: %w", m, err)
	}
	shadows, err := r.shadows(ctx, priced)
	if err != nil {
		return nil, fmt.Errorf("shadow of %s: %w", m, err)
	}
	var out []Shadow
	for _, s := range shadows {
		if len(s.Counted)+len(s.Lines) > 0 && (only == "" || s.Partner == only) {
			s.State = state
			out = append(out, s)
		}
	}
	return out, nil
}

// shadowRun is a close of the month that sees only what came from a sandbox. Its
// manifest is never kept.
func (c *Closer) shadowRun(ctx context.Context, m period.Month) (*run, ledger.MonthState, error) {
	status, err := c.Store.Month(ctx, m)
	if err != nil {
		return nil, "", err
	}
	r, err := c.openRun(ctx, status)
	if err != nil {
		return nil, "", err
	}
	r.reader.shadow = true
	return r, status.State, nil
}

// shadows puts priced lines and counts on the accounts they would be on.
func (r *run) shadows(ctx context.Context, priced []Priced) ([]Shadow, error) {
	m := r.manifest.Month
	snap := r.snapshots[m]
	shadows := map[accountKey]*Shadow{}
	of := func(p partner.ID, c money.Currency) *Shadow {
		k := accountKey{p, c}
		if shadows[k] == nil {
			shadows[k] = &Shadow{Shadow: true, Market: snap.Marketplace.Name, Partner: p, Name: cmp.Or(snap.Partners[p].Name, string(p), "apps that the catalogue of the month does not know"),
				Currency: c, Month: m, Zone: snap.Marketplace.ZoneName, Cutoff: r.manifest.Cutoff}
		}
		return shadows[k]
	}
	terms := map[string]*Shadow{}
	covered := map[partner.AppID]bool{}
	for _, v := range snap.ContractsIn(m) {
		s := of(v.Terms.Partner, v.Terms.Currency)
		s.Zone, s.Terms = v.Terms.ZoneName, append(s.Terms, termsRef(v))
		terms[v.Terms.Contract] = s
		for _, a := range snap.AppsOf(v.Terms) {
			covered[a] = true
		}
	}
	lines := map[accountKey][]Line{}
	for _, p := range priced {
		for _, l := range p.Result.Lines {
			if causeless(l) {
				continue
			}
			k := accountKey{l.Party, l.Currency}
			of(l.Party, l.Currency)
			lines[k] = append(lines[k], Line{Section: section(l), Line: l})
		}
		for _, c := range p.Result.Counted {
			if s := terms[c.Contract]; s != nil && c.State != "elsewhere" {
				s.Counted = append(s.Counted, c)
			}
		}
	}
	without, err := r.uncovered(ctx, covered)
	if err != nil {
		return nil, err
	}
	for _, c := range without {
		s := of(snap.Apps[c.App].Partner, snap.Marketplace.Currency)
		s.Counted = append(s.Counted, c)
	}
	var out []Shadow
	for _, k := range slices.SortedFunc(maps.Keys(shadows), compareAccounts) {
		s := shadows[k]
		sums := Statement{Currency: s.Currency, Month: m}
		if err := sums.addLines(account{priced: lines[k]}); err != nil {
			return nil, fmt.Errorf("%s in %s: %w", k.partner, k.currency, err)
		}
		s.Lines, s.NetSales, s.Charges, s.Total = sums.Lines, sums.NetSales, sums.Charges, sums.Earned
		out = append(out, *s)
	}
	return out, nil
}

// causeless reports whether no event is behind the line: fees by the calendar, those
// for a month without usage, and what follows nothing that was charged.
func causeless(l pricing.Line) bool {
	switch l.Part {
	case "fee", "usage":
		return l.Count == 0
	case "cap", "discount", "commitment", "credit", "guarantee":
		return l.Of == "" || l.Of == "fee"
	}
	return false
}

// uncovered counts what came for apps that no contract is about.
func (r *run) uncovered(ctx context.Context, covered map[partner.AppID]bool) ([]pricing.Counted, error) {
	snap := r.snapshots[r.manifest.Month]
	span, err := r.reader.span(ctx, r.manifest.Month.In(snap.Marketplace.Zone))
	if err != nil {
		return nil, err
	}
	var out []pricing.Counted
	for _, app := range slices.Sorted(maps.Keys(span.cells)) {
		if app == "" || covered[app] {
			continue
		}
		events := map[string]int64{}
		for _, u := range span.cells[app] {
			events[u.Type] += u.Count
		}
		for _, typ := range slices.Sorted(maps.Keys(events)) {
			out = append(out, pricing.Counted{App: app, Type: typ, Events: events[typ], State: "unpriced", Why: "no_contract"})
		}
	}
	return out, nil
}

// WriteText writes the shadow as a page like a statement's, with the arithmetic under
// each line, since there is no statement that could be explained.
func (s Shadow) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	both(b, strings.ToUpper(s.Market), fmt.Sprintf("SHADOW %s · sandbox · %s", s.Month, s.Currency))
	both(b, "for "+s.Name, "NO STATEMENT: nothing of it is owed")
	fmt.Fprintf(b, "%d–%d %s, %s time%s\n", 1, s.Month.Last().Day, s.Month.Name(), zoneName(s.Zone), termsText(s.Terms))
	fmt.Fprintln(b, "What your sandbox events would come to. Not kept, not posted, never billed.")
	fmt.Fprintln(b)
	writeSections(b, s.Lines, s.NetSales, Line.writeShadow)
	if len(s.Lines) == 0 {
		fmt.Fprintln(b, "     no sandbox event was priced")
	}
	row(b, "   SHADOW OF "+strings.ToUpper(s.Month.Month.String())+", OWED BY NOBODY", "", "", "", s.Total.Grouped())
	fmt.Fprintln(b)
	s.writeCounted(b)
	for _, t := range wrap("Every month's shadow begins at nothing: ladders and free amounts are full, nothing was charged once before, no sale of an earlier month is known. "+
		"Quality is not scored. Fees that no event causes are left out.", pageWidth-2) {
		fmt.Fprintln(b, " "+t)
	}
	if s.State == ledger.Open {
		fmt.Fprintf(b, " %s is open: more may come.\n", s.Month.Month)
	}
	return b.Flush()
}

func (s Shadow) writeCounted(b *bufio.Writer) {
	if len(s.Counted) == 0 {
		return
	}
	fmt.Fprintln(b, " What became of the sandbox events")
	for _, c := range s.Counted {
		what := strings.TrimSpace(c.Type + " " + string(c.Class))
		state := c.State
		if c.Why != "" {
			state += ": " + strings.ReplaceAll(c.Why, "_", " ")
		}
		fmt.Fprintln(b, pad("   "+short(string(c.App), 26), 30)+pad(short(what, 28), 29)+left(groupInt(c.Events), 8)+"  "+short(state, 27))
	}
	fmt.Fprintln(b)
}

// maxSteps bounds how many steps of a line's arithmetic a shadow's page shows.
const maxSteps = 12

// writeShadow writes the line and under it its arithmetic.
func (l Line) writeShadow(b *bufio.Writer) {
	l.write(b)
	for i, st := range l.Derivation {
		if i == maxSteps {
			fmt.Fprintf(b, "         and %d more steps; --json lists all\n", len(l.Derivation)-i)
			break
		}
		fmt.Fprintf(b, "         %s: %s × %s = %s\n", short(st.What, 44), money.Group(st.Of.String()), st.Times, money.Group(st.Is.String()))
	}
}
