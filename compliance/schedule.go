package compliance

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"mete/partner"
	"mete/period"
	"mete/pricing"
	"mete/pricing/plain"
)

// Schedule is what one contract charges and pays, in plain language.
type Schedule struct {
	Contract string      `json:"contract"`
	Version  int         `json:"version"`
	Partner  string      `json:"partner"`
	Apps     string      `json:"apps"`
	From     period.Date `json:"from"`
	Until    period.Date `json:"until,omitzero"`
	Next     []string    `json:"next"`               // agreed changes that have not begun
	Exchange string      `json:"exchange,omitempty"` // how amounts in other currencies count; empty: they do not
	Fees     []Fee       `json:"fees"`
	Notice   string      `json:"notice"`
}

// Fee is one rule of a contract in plain language.
type Fee struct {
	Rule    string   `json:"rule"`
	Pays    string   `json:"pays"`    // who pays whom
	Says    []string `json:"says"`    // for what, how much and when, as in the term sheet
	Basis   string   `json:"basis"`   // on what it rests
	Changes string   `json:"changes"` // when it becomes another

	marked []string // Says, with marks of what stands as written
}

// ScheduleOf puts the terms of a contract into words. Next are its terms that are
// agreed and begin later.
func ScheduleOf(facts Facts, t *pricing.Terms, next []*pricing.Terms) Schedule {
	c := Case{Facts: facts, Terms: t}
	s := Schedule{Contract: t.Contract, Version: t.Version, Partner: c.name(t.Partner), From: t.From, Until: t.Until, Apps: "all apps of the partner", Next: []string{}, Notice: Notice}
	if len(t.Apps) > 0 {
		s.Apps = strings.Join(words(t.Apps), ", ")
	}
	switch {
	case t.Deal != "":
		s.Apps += "; deal " + t.Deal + " only"
	case t.Customer != "":
		s.Apps += "; customer " + string(t.Customer) + " only"
	}
	for _, n := range next {
		s.Next = append(s.Next, fmt.Sprintf("version %d from %s on", n.Version, n.From))
	}
	s.Exchange = plain.Exchange(t)
	for i := range t.Rules {
		s.Fees = append(s.Fees, c.fee(&t.Rules[i]))
	}
	return s
}

// name is what a party is called.
func (c *Case) name(id partner.ID) string {
	if id == partner.Platform {
		return "the marketplace"
	}
	return cmp.Or(c.Partners[id].Name, string(id))
}

// Names are what the facts call those whom terms name.
func (f Facts) Names() plain.Names {
	n := plain.Names{Partners: map[partner.ID]string{}, Apps: map[partner.AppID]string{}, Customers: map[partner.CustomerID]string{}, Meters: f.Meters}
	for id, p := range f.Partners {
		n.Partners[id] = p.Name
	}
	for id, a := range f.Apps {
		n.Apps[id] = a.Name
	}
	for id, c := range f.Customers {
		n.Customers[id] = c.Name
	}
	return n
}

// elsewhere are clauses of a rule that a fee says in places of its own.
var elsewhere = []string{"cost_basis", "criterion", "information_source"}

func (c *Case) fee(r *pricing.Rule) Fee {
	from, to := c.Terms.Partner, partner.Platform
	f := Fee{Rule: r.ID, Basis: c.basis(r), Changes: "with the next version of the contract"}
	said := plain.OfRule(c.Terms, r, c.Facts.Names())
	said.Clauses = slices.DeleteFunc(said.Clauses, func(x plain.Clause) bool { return slices.Contains(elsewhere, x.Key) })
	for _, s := range said.Sentences() {
		f.Says, f.marked = append(f.Says, plain.Bare(s)), append(f.marked, s)
	}
	switch b := r.Body.(type) {
	case *pricing.Share:
		if b.Tiers != nil && len(b.Steps) > 1 {
			f.Changes = "from step to step with the running total; " + f.Changes
		}
	case *pricing.UsageFee:
		if len(b.Price.Steps) > 1 {
			f.Changes = fmt.Sprintf("from step to step with the usage (%s, per %s); %s", b.Window, b.Per, f.Changes)
		}
	case *pricing.Referral:
		from, to = c.party(b.From), c.party(b.To)
	}
	f.Pays = c.name(from) + " pays " + c.name(to)
	switch r.Kind {
	case "quality", "cap", "discount", "credit", "commitment", "guarantee":
		f.Pays = "moves what " + f.Pays
	case "pass_through":
		f.Pays = "what customers pay is passed through"
	case "split":
		f.Pays = c.name(c.Terms.Partner) + " pays the partners named"
	}
	if r.InformationSource != "" {
		f.Pays += fmt.Sprintf(", as the practice %s", cmp.Or(c.Customers[r.InformationSource].Name, string(r.InformationSource)))
	}
	return f
}

// basis is what a rule says about on what its price rests.
func (c *Case) basis(r *pricing.Rule) string {
	var parts []string
	if r.CostBasis != "" {
		parts = append(parts, "costs: "+r.CostBasis)
	}
	if r.Criterion != nil {
		parts = append(parts, fmt.Sprintf("depends on %s: %s", strings.ReplaceAll(r.Criterion.Basis, "_", " "), r.Criterion.Text))
	}
	for i := range c.Terms.Rules {
		if q, ok := c.Terms.Rules[i].Body.(*pricing.Quality); ok && q.Adjusts == r.ID {
			parts = append(parts, "adjusted by "+c.Terms.Rules[i].ID)
		}
	}
	return strings.Join(parts, "; ")
}

func words[T ~string](ids []T) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return out
}

// The forms in which a schedule is written.
const (
	Text     = "text"
	Markdown = "markdown"
)

// WriteSchedules writes schedules as text or as Markdown, with the notice.
func WriteSchedules(w io.Writer, form string, list []Schedule) error {
	var b strings.Builder
	for _, s := range list {
		if form == Markdown {
			s.markdown(&b)
		} else {
			s.text(&b)
		}
	}
	if form == Markdown {
		fmt.Fprintf(&b, "*%s*\n", Notice)
	} else {
		fmt.Fprintln(&b, Notice)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s Schedule) head() string {
	return fmt.Sprintf("Fee schedule of %s, version %d, with %s", s.Contract, s.Version, s.Partner)
}

func (s Schedule) term() string {
	t := "from " + s.From.String()
	if !s.Until.IsZero() {
		t += " until " + s.Until.String() + " (exclusive)"
	}
	return t
}

func (s Schedule) text(b *strings.Builder) {
	fmt.Fprintf(b, "%s\n  in force   %s\n  apps       %s\n  next       %s\n\n", s.head(), s.term(), s.Apps, cmp.Or(strings.Join(s.Next, "; "), "no change is agreed"))
	if s.Exchange != "" {
		fmt.Fprintf(b, "%s\n\n", s.Exchange)
	}
	for _, f := range s.Fees {
		fmt.Fprintf(b, "  %s\n", f.Rule)
		row := func(name, text string) { fmt.Fprintf(b, "    %-9s  %s\n", name, text) }
		row("who", f.Pays)
		for i, text := range f.Says {
			name := ""
			if i == 0 {
				name = "terms"
			}
			row(name, text)
		}
		row("basis", cmp.Or(f.Basis, noBasis))
		row("changes", f.Changes)
		b.WriteByte('\n')
	}
}

const noBasis = "none recorded"

var cells = strings.NewReplacer("|", `\|`, "\n", " ", "*", `\*`, "_", `\_`, "<", "&lt;")

func (s Schedule) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "## %s\n\nIn force %s. Apps: %s. Next: %s.\n\n", cells.Replace(s.head()), s.term(), cells.Replace(s.Apps), cmp.Or(strings.Join(s.Next, "; "), "no change is agreed"))
	if s.Exchange != "" {
		fmt.Fprintf(b, "%s\n\n", cells.Replace(s.Exchange))
	}
	b.WriteString("| rule | who | terms | basis | changes |\n|---|---|---|---|---|\n")
	for _, f := range s.Fees {
		terms := strings.ReplaceAll(plain.Escape(strings.Join(f.marked, " ")), "|", `\|`)
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", cells.Replace(f.Rule), cells.Replace(f.Pays), terms, cells.Replace(cmp.Or(f.Basis, noBasis)), cells.Replace(f.Changes))
	}
	b.WriteByte('\n')
}

// Uniform is one price of a class with everybody who has it.
type Uniform struct {
	Thing   string   `json:"thing"` // kind, class, meter or occasion, currency
	Class   string   `json:"class"` // empty: every class
	Equal   bool     `json:"equal"` // there is one rate for all
	Rates   []Priced `json:"rates"`
	ordered thing
}

// Priced is the rate of one partner for a thing.
type Priced struct {
	Partner   partner.ID `json:"partner"`
	Contract  string     `json:"contract"`
	Version   int        `json:"version"`
	Rule      string     `json:"rule"`
	Rate      string     `json:"rate"`
	Criterion string     `json:"criterion"` // recorded in the rule; empty: none
}

// Uniformity is the rates of all contracts by thing, unequal ones with the criterion
// that is recorded. A rule that has no rate of its own, such as a quality rule, is left
// out.
func Uniformity(facts Facts, all []*pricing.Terms) []Uniform {
	by := map[thing]*Uniform{}
	for _, t := range all {
		c := Case{Facts: facts, Terms: t}
		for i := range t.Rules {
			r := &t.Rules[i]
			of, ok := c.rateOf(t, r)
			if !ok {
				continue
			}
			u := by[of.thing]
			if u == nil {
				u = &Uniform{Thing: of.thing.String(), Class: of.class, Equal: true, ordered: of.thing}
				by[of.thing] = u
			}
			p := Priced{Partner: t.Partner, Contract: t.Contract, Version: t.Version, Rule: r.ID, Rate: of.rate}
			if r.Criterion != nil {
				p.Criterion = r.Criterion.Basis + ": " + r.Criterion.Text
			}
			u.Equal = u.Equal && (len(u.Rates) == 0 || u.Rates[0].Rate == p.Rate)
			u.Rates = append(u.Rates, p)
		}
	}
	out := make([]Uniform, 0, len(by))
	for _, u := range slices.Collect(maps.Values(by)) {
		slices.SortFunc(u.Rates, func(a, b Priced) int {
			return cmp.Or(cmp.Compare(a.Partner, b.Partner), strings.Compare(a.Contract, b.Contract), strings.Compare(a.Rule, b.Rule))
		})
		out = append(out, *u)
	}
	slices.SortFunc(out, func(a, b Uniform) int {
		x, y := a.ordered, b.ordered
		return cmp.Or(strings.Compare(x.class, y.class), strings.Compare(x.kind, y.kind), strings.Compare(x.of, y.of), cmp.Compare(x.currency, y.currency))
	})
	return out
}
