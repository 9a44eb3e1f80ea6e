package catalogue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"mete/compliance"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Beside is everything that a contract is read beside: what is recorded, and documents
// before what is recorded under the same name.
type Beside struct {
	compliance.Facts
	Market    Marketplace // zero: none is described
	Sources   map[string]Source
	Codes     map[string]partner.ReferralCode
	Contracts []Standing // in order of contract, then of beginning
}

// Standing is a version of a contract that is in force or may come into force, or a
// document of one.
type Standing struct {
	Terms    *pricing.Terms
	File     string // of a document
	Number   int    // the version; of a document the one that says the same, or 0
	State    State  // of the version; empty: of a document that no version says
	Corrects int
	Told     period.Date // when the partner was first told of the version; zero: never

	said   Object
	digest string
}

// Place is where a field of the terms stands: in the file, or in the version's document.
func (s Standing) Place(field string) (line, column int) { return s.said.Place(field) }

// TermsText is the contract as it is written, with an empty line where it says what it
// corrects: what [pricing.ParseTerms] reads, which knows no other versions.
func (s Standing) TermsText() string { return s.said.bare }

// Beside is what the documents stand beside.
func (c Catalogue) Beside(ctx context.Context, docs Documents) (Beside, error) {
	vs, _, err := c.history(ctx, Query{})
	if err != nil {
		return Beside{}, fmt.Errorf("what contracts stand beside: %w", err)
	}
	return docs.beside(vs)
}

// Beside is what the documents stand beside by themselves.
func (d Documents) Beside() (Beside, error) { return d.beside(nil) }

func (d Documents) beside(vs []Version) (Beside, error) {
	w, err := newScreening(vs, d.Objects)
	if err != nil {
		return Beside{}, fmt.Errorf("what contracts stand beside: %w", err)
	}
	b := Beside{Facts: w.facts, Market: w.market, Sources: w.sources, Codes: w.codes}
	for _, list := range w.contracts {
		for _, v := range list {
			b.Contracts = append(b.Contracts, Standing{Terms: v.terms, Number: v.Number, State: v.State, Corrects: v.Corrects, Told: v.FirstTold(), said: v.said, digest: v.Digest})
		}
	}
	for _, o := range d.Objects {
		if o.Terms == nil {
			continue
		}
		s := Standing{Terms: o.Terms, File: o.File, Corrects: o.Corrects, said: o, digest: o.digest()}
		i := slices.IndexFunc(b.Contracts, func(v Standing) bool {
			return v.File == "" && v.Terms.Contract == o.ID && (v.digest == s.digest || v.Terms.From == o.Terms.From && v.Corrects == o.Corrects && v.State != Accepted)
		})
		if i < 0 {
			b.Contracts = append(b.Contracts, s)
			continue
		}
		if b.Contracts[i].digest == s.digest { // the document of that version; else it takes the place of a proposal
			s.Number, s.State, s.Told = b.Contracts[i].Number, b.Contracts[i].State, b.Contracts[i].Told
		}
		b.Contracts[i] = s
	}
	slices.SortStableFunc(b.Contracts, func(x, y Standing) int {
		return cmp.Or(strings.Compare(x.Terms.Contract, y.Terms.Contract), x.Terms.From.Compare(y.Terms.From), cmp.Compare(x.Number, y.Number))
	})
	return b, nil
}

// Notice is what the terms before promise of the notice of other terms, held against
// when the partner was told.
type Notice struct {
	Days     int         // how many; 0: nothing is promised
	Before   Standing    // the terms that promise it
	Earliest period.Date // the first day on which the terms begin with that notice
}

// Notice is what notice of these terms was promised. Nothing is if they are the first,
// correct others, or begin when those before are over. As long as nobody is recorded as
// told, the earliest day is counted from the day on.
func (b Beside) Notice(s Standing, on period.Date) Notice {
	var n Notice
	if s.Corrects > 0 {
		return n
	}
	for _, o := range b.Contracts { // in order of beginning: the last one counts
		if o.Terms.Contract == s.Terms.Contract && o.Terms.From.Before(s.Terms.From) && (o.State == Accepted || o.State == "") {
			n.Before = o
		}
	}
	was := n.Before.Terms
	if was == nil || was.Notice == 0 || !was.Until.IsZero() && !s.Terms.From.Before(was.Until) {
		return Notice{}
	}
	n.Days = was.Notice
	if !s.Told.IsZero() {
		on = s.Told
	}
	n.Earliest = on.AddDays(n.Days)
	return n
}

// Short reports whether terms that begin on the day begin with less notice.
func (n Notice) Short(from period.Date) bool { return n.Days > 0 && from.Before(n.Earliest) }
