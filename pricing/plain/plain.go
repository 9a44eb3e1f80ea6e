// Package plain puts the terms of a contract into plain language: a term sheet that
// legal, finance and a partner can read, and what changes from one version to the next.
//
// Every sentence is written here and nowhere else, so that the term sheet, the fee
// schedule and a list of changes say the same of one rule. Two terms that differ never
// read the same: that is what makes a comparison of sentences one of terms, and tests
// hold it.
//
// It refuses to know where terms come from: catalogue, store and command line. Names
// that the terms do not hold are given to it. Read [Sheet] first, then [Of].
package plain

import (
	"fmt"

	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Names is what parties, apps, customers and meters are called. Whatever has no name is
// called by its ID.
type Names struct {
	Marketplace string
	Partners    map[partner.ID]string
	Apps        map[partner.AppID]string
	Customers   map[partner.CustomerID]string
	Meters      map[string]metering.Meter
}

// Sheet is the term sheet of one version of a contract.
type Sheet struct {
	Contract string      `json:"contract"`
	Version  int         `json:"version,omitempty"` // 0: of a document that is not recorded
	Partner  string      `json:"partner"`
	From     period.Date `json:"from"`
	Until    period.Date `json:"until,omitzero"` // exclusive; zero: open
	Sections []Section   `json:"sections"`
}

// Section is a part of the sheet: the terms of the whole contract, or one rule.
type Section struct {
	Key     string   `json:"key"` // agreement, money, payout, rule/ID, statement
	Title   string   `json:"title"`
	Rule    string   `json:"rule,omitempty"` // the id of the rule it is about
	Clauses []Clause `json:"clauses"`
}

// Clause is a sentence, and the table that it introduces if there is one. Text that
// stands as written in the contract is between [CodeBegin] and [CodeEnd].
type Clause struct {
	Key   string `json:"key"` // within its section; by it clauses of two versions are compared
	Text  string `json:"text"`
	Term  string `json:"term,omitempty"`  // what the clause is about: the share of each sale
	Value string `json:"value,omitempty"` // what that comes to: 15%
	Exact string `json:"exact,omitempty"` // what the contract writes, where the words stand for several ways to write it
	Table *Table `json:"table,omitempty"`
}

// Table is figures of one clause.
type Table struct {
	Head []string `json:"head"`
	Rows []Row    `json:"rows"`
}

// Row is one line of a table. Term and Value are as those of a clause.
type Row struct {
	Key   string   `json:"key"`
	Cells []string `json:"cells"`
	Term  string   `json:"term"`
	Value string   `json:"value"`
}

// What stands as written in the contract begins and ends with these characters. Names
// and texts of people never hold them.
const (
	CodeBegin = '\x01'
	CodeEnd   = '\x02'
)

// Keys of sections.
const (
	agreementKey = "agreement"
	moneyKey     = "money"
	payoutKey    = "payout"
	statementKey = "statement"
	rulePrefix   = "rule/"
)

// writer puts one contract into words, section by section.
type writer struct {
	t *pricing.Terms
	n Names
	s *Section
}

// say adds a sentence to the section.
func (w *writer) say(key, format string, args ...any) *Clause {
	w.s.Clauses = append(w.s.Clauses, Clause{Key: key, Text: fmt.Sprintf(format, args...)})
	return &w.s.Clauses[len(w.s.Clauses)-1]
}

// is adds to the clause what it is about and what that comes to, for a sentence about
// its change.
func (c *Clause) is(term, value string) *Clause {
	c.Term, c.Value = term, value
	return c
}

// Of is the term sheet of the terms.
func Of(t *pricing.Terms, n Names) Sheet {
	w := &writer{t: t, n: n}
	s := Sheet{Contract: t.Contract, Version: t.Version, Partner: w.named(n.Partners[t.Partner], string(t.Partner)), From: t.From, Until: t.Until}
	add := func(key, title string, write func()) {
		w.s = &Section{Key: key, Title: title}
		write()
		s.Sections = append(s.Sections, *w.s)
	}
	add(agreementKey, "The agreement", w.agreement)
	add(moneyKey, "Money and time", w.money)
	for i := range t.Rules {
		s.Sections = append(s.Sections, w.section(&t.Rules[i]))
	}
	add(payoutKey, "Paying out", w.payout)
	add(statementKey, "What the statement will show", w.statement)
	return s
}

// OfRule is the sentences of one rule, as in the term sheet.
func OfRule(t *pricing.Terms, r *pricing.Rule, n Names) Section {
	return (&writer{t: t, n: n}).section(r)
}

func (w *writer) section(r *pricing.Rule) Section {
	w.s = &Section{Key: rulePrefix + r.ID, Title: titles[r.Kind], Rule: r.ID}
	w.rule(r)
	return *w.s
}

// titles are what kinds of rules are called.
var titles = map[string]string{
	"share": "Share of sales", "usage_fee": "Usage fee", "fixed_fee": "Fixed fee", "referral": "Referral commission",
	"pass_through": "Sales passed through", "split": "Split of sales", "quality": "Quality adjustment", "cap": "Cap",
	"commitment": "Commitment", "guarantee": "Guarantee", "discount": "Discount", "tax": "Tax on charges", "credit": "Credit",
}

// rule puts a rule into words: what its kind says, then what every rule may say.
func (w *writer) rule(r *pricing.Rule) {
	switch b := r.Body.(type) {
	case *pricing.Share:
		w.share(r, b)
	case *pricing.UsageFee:
		w.usageFee(r, b)
	case *pricing.FixedFee:
		w.fixedFee(r, b)
	case *pricing.Referral:
		w.referral(r, b)
	case *pricing.Split:
		w.split(b)
	case *pricing.Quality:
		w.quality(b)
	case *pricing.Cap:
		w.cap(b)
	case *pricing.Commitment:
		w.commitment(b)
	case *pricing.Guarantee:
		w.guarantee(b)
	case *pricing.Discount:
		w.discount(b)
	case *pricing.TaxRule:
		w.tax(b)
	case *pricing.Credit:
		w.credit(b)
	default:
		panic(fmt.Sprintf("plain: internal error: no words for the kind %s", r.Kind))
	}
	w.common(r)
}

// common is what a rule of every kind may say.
func (w *writer) common(r *pricing.Rule) {
	if len(r.Apps) > 0 {
		w.say("apps", "It is about %s only.", w.apps(r.Apps)).is("the apps", w.apps(r.Apps))
	}
	if _, fee := r.Body.(*pricing.FixedFee); r.Class != "" && !fee {
		w.say("class", "It is about the class %s only.", code(string(r.Class))).is("the class", code(string(r.Class)))
	}
	if r.Text != "" {
		w.say("text", "The statement calls it %s.", quoted(r.Text)).is("the name on the statement", quoted(r.Text))
	}
	if r.CostBasis != "" {
		w.say("cost_basis", "The costs that this price recovers are recorded: %s.", quoted(r.CostBasis)).is("the record of costs", quoted(r.CostBasis))
	}
	if c := r.Criterion; c != nil {
		value := fmt.Sprintf("%s: %s", code(c.Basis), quoted(c.Text))
		w.say("criterion", "What the rate depends on, for all parties alike: %s.", value).is("what the rate depends on", value)
	}
	switch r.CertifiedAccess {
	case pricing.AccessRequired:
		w.say("certified_access", "Access to the certified API depends on this charge.")
	case pricing.AccessIndependent:
		w.say("certified_access", "Access to the certified API does not depend on this charge.")
	}
	if r.InformationSource != "" {
		w.say("information_source", "The partner pays this as the practice %s, which deploys the certified API, and not as the maker of an app.", w.customer(r.InformationSource))
	}
	if is := r.IndividualAccess; is != nil {
		not := ""
		if !*is {
			not = "not "
		}
		w.say("ehi_individual_access", "This is %sa price on individuals' access to their own health information.", not)
	}
}
