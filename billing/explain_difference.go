package billing

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"

	"mete/catalogue"
	"mete/money"
	"mete/period"
	"mete/pricing"
)

// Side is a closed month's line on one side of a difference: as statements had it
// before, or as it is with the difference.
type Side struct {
	Amount     money.Amount   `json:"amount"`
	PricedBy   period.Month   `json:"priced_by,omitzero"`   // whose close priced it so; zero: nobody did
	Terms      []TermsOfMonth `json:"terms"`                // of the line's contract, as that close saw the month
	Derivation []pricing.Step `json:"derivation,omitempty"` // none: the month had no such line
	Notes      []string       `json:"notes,omitempty"`
	Barred     *money.Amount  `json:"barred,omitempty"` // of what was priced: what a late limit kept off the statements

	rounded string
	beside  []catalogue.Ref // the versions of all contracts of the contract's partner in the month
}

// TermsOfMonth is a version of a contract and the days of a month that it is in force.
type TermsOfMonth struct {
	Version  int         `json:"version"`
	From     period.Date `json:"from"`
	To       period.Date `json:"to"`                 // inclusive
	Corrects int         `json:"corrects,omitempty"` // the version that was wrong
}

// sides are both sides of a difference, from what closes kept of its month and the
// catalogues that their manifests name; nil of any other line.
func (c *Closer) sides(ctx context.Context, l Line, closed MonthStatus) (was, is *Side, err error) {
	if l.Section != Corrections || l.Adjustment != "" || l.Posted == nil || l.Recomputed == nil {
		return nil, nil, nil
	}
	of, err := c.Store.Month(ctx, l.Corrects)
	if err != nil {
		return nil, nil, err
	}
	if of.Manifest == nil || closed.Manifest == nil {
		return nil, nil, fmt.Errorf("the manifest of %s or %s is missing: %w", l.Corrects, closed.Month, ErrNotFound)
	}
	now, err := c.Store.PricedMonth(ctx, l.Corrects, closed.Month.Add(1))
	if err != nil {
		return nil, nil, err
	}
	before, err := c.Store.PricedMonth(ctx, l.Corrects, closed.Month)
	if err != nil {
		return nil, nil, err
	}
	was, is = &Side{Amount: money.New(0, l.Currency)}, &Side{Amount: money.New(0, l.Currency)}
	for _, p := range before {
		if posted := p.posted()[l.LineKey]; posted != nil {
			was.read(p, *posted)
		}
	}
	for _, p := range now {
		if i := p.line(l.LineKey); i >= 0 && p.Close == closed.Month {
			is.read(p, p.Result.Lines[i])
		}
	}
	is.PricedBy = closed.Month // which found that there is no such line, if it did
	if was.Amount != *l.Posted || is.Amount != *l.Recomputed {
		return nil, nil, fmt.Errorf("closes kept %s and %s of it, the line says %s and %s: mete verify %s says what was altered",
			was.Amount, is.Amount, l.Posted, l.Recomputed, closed.Month)
	}
	if err := c.readTerms(ctx, was, l, *of.Manifest); err != nil {
		return nil, nil, err
	}
	return was, is, c.readTerms(ctx, is, l, *of.Manifest)
}

// line is where the result has the line of a key, -1 if it has none.
func (p Priced) line(k pricing.LineKey) int {
	return slices.IndexFunc(p.Result.Lines, func(l pricing.Line) bool { return l.LineKey == k })
}

// read fills in the side from what a close kept, with the line as it was posted.
func (s *Side) read(p Priced, l pricing.Line) {
	s.Amount, s.PricedBy = l.Amount, p.Close
	i := p.line(l.LineKey)
	if i < 0 { // taken off what was priced, and still posted since a limit barred that
		return
	}
	priced := p.Result.Lines[i]
	s.Derivation, s.Notes, s.rounded = priced.Derivation, priced.Notes, Line{Line: priced}.roundedText()
	for _, b := range p.Barred {
		if b.LineKey == l.LineKey {
			s.Barred = &b.Amount
		}
	}
}

// readTerms fills in the versions of the line's contract in its month, as the close that
// priced the side saw them: those of the month's own manifest, with the corrections of
// that close.
func (c *Closer) readTerms(ctx context.Context, s *Side, l Line, of Manifest) error {
	closer := of
	if by := s.PricedBy; by != (period.Month{}) && by != of.Month {
		status, err := c.Store.Month(ctx, by)
		if err != nil {
			return err
		}
		if status.Manifest == nil {
			return fmt.Errorf("the manifest of %s is missing: %w", by, ErrNotFound)
		}
		closer = *status.Manifest
	}
	snap, err := c.correctedCatalogue(ctx, of, closer)
	if err != nil {
		return err
	}
	corrects := map[catalogue.Ref]int{}
	for _, x := range snap.Corrections() {
		corrects[x.Ref] = x.Corrects
	}
	s.Terms = []TermsOfMonth{}
	inForce := snap.ContractsIn(of.Month)
	for _, v := range inForce {
		if v.Terms.Contract != l.Contract {
			continue
		}
		from, to := daysOf(period.Period{Start: v.Period.Start, End: v.Period.End, Zone: v.Terms.Zone})
		s.Terms = append(s.Terms, TermsOfMonth{v.Terms.Version, from, to, corrects[v.Ref]})
	}
	i := slices.IndexFunc(inForce, func(v catalogue.VersionInForce) bool { return v.Terms.Contract == l.Contract })
	for _, v := range inForce {
		if i >= 0 && v.Terms.Partner == inForce[i].Terms.Partner {
			s.beside = append(s.beside, v.Ref)
		}
	}
	return nil
}

// amended reports whether terms that can take the line's sales differ between the sides.
func (x Explanation) amended() bool {
	return x.Was != nil && x.Is != nil && !slices.Equal(x.Was.beside, x.Is.beside)
}

// writeSides writes what the closed month came to before the difference and with it,
// each under its terms, as arithmetic that a person can redo.
func (x Explanation) writeSides(b *bufio.Writer) {
	if x.Was == nil || x.Is == nil {
		return
	}
	title := fmt.Sprintf("%s as it was, by the close of %s", x.Line.Corrects, x.Was.PricedBy)
	if x.Was.PricedBy == (period.Month{}) {
		title = fmt.Sprintf("%s as it was: no close had such a line", x.Line.Corrects)
	}
	x.Was.write(b, title, x.Line)
	x.Is.write(b, fmt.Sprintf("%s as it is, by the close of %s", x.Line.Corrects, x.Is.PricedBy), x.Line)
}

func (s Side) write(b *bufio.Writer, title string, l Line) {
	fmt.Fprintf(b, "\n  %s%s%s\n", pad(title, 60), left(s.Amount.Grouped(), 20), " "+string(s.Amount.Currency))
	var terms []string
	for _, t := range s.Terms {
		terms = append(terms, t.String())
	}
	if len(terms) > 0 {
		for _, t := range wrap("under "+l.Contract+" "+strings.Join(terms, ", "), pageWidth-8) {
			fmt.Fprintln(b, "    "+t)
		}
	} else {
		fmt.Fprintf(b, "    %s was not in force\n", l.Contract)
	}
	if len(s.Derivation) > 0 {
		writeSteps(b, s.Derivation, s.rounded)
	} else {
		fmt.Fprintln(b, "    no such line")
	}
	if s.Barred != nil {
		fmt.Fprintf(b, "    note: a late limit kept %s of it off the statements\n", s.Barred.Grouped())
	}
	for _, n := range s.Notes {
		fmt.Fprintf(b, "    note: %s\n", n)
	}
}

func (t TermsOfMonth) String() string {
	out := fmt.Sprintf("v%d from %s to %s", t.Version, t.From, t.To)
	if t.Corrects > 0 {
		out += fmt.Sprintf(" (corrects version %d)", t.Corrects)
	}
	return out
}
