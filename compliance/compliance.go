// Package compliance screens the terms of contracts against named rules of US health
// IT law: what may be charged for certified APIs and for access to health information,
// and which payments may look like payments for referrals.
//
// The rules are data, in rules.yaml, each with its citation; what finds one in a
// contract is a function of the same name in certified.go, payments.go and terms.go.
// It is a screen, not advice: [Notice] goes with everything that it says, and nothing
// found is no finding of compliance.
//
// It refuses to know stores, documents as files, who approves, and what was billed. It
// never asks for the current time. Read [Screen] first, then rules.yaml.
package compliance

import (
	"fmt"
	"slices"

	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Notice stands below everything that is printed.
const Notice = "A screen against named rules, not legal advice. Nothing found is no finding of compliance."

// What an entity may be under 45 CFR 171.102.
const (
	ActorDeveloper = "developer" // of certified health IT
	ActorNetwork   = "network"   // health information network or exchange
	ActorProvider  = "provider"
)

// Settings are what the marketplace says about itself.
type Settings struct {
	CertifiedDeveloper bool   `json:"certified_developer,omitempty"` // develops certified API technology
	Actor              string `json:"actor,omitempty"`               // developer | network | provider; empty: none, unless a certified developer
	FreeBasicListing   bool   `json:"free_basic_listing,omitempty"`  // every app may be listed without a fee
}

// Facts are what the catalogue says about those whom contracts name.
type Facts struct {
	Settings  Settings
	Partners  map[partner.ID]partner.Partner
	Apps      map[partner.AppID]partner.App
	Customers map[partner.CustomerID]partner.Customer
	Meters    map[string]metering.Meter
	Others    []*pricing.Terms // of other contracts in force, to compare rates with
}

// Case is one version of a contract, with everything the rules look at.
type Case struct {
	Facts
	On     period.Date    // the day on which it is judged
	Terms  *pricing.Terms // what is judged
	Before *pricing.Terms // what was in force on the days it begins to change; nil: nothing
}

// Finding is one rule that objects to one place of a contract.
type Finding struct {
	ID           string   `json:"id"` // RULE/CONTRACT-RULE, or RULE when it is about the terms as a whole
	Rule         string   `json:"rule"`
	Severity     Severity `json:"severity"`
	Title        string   `json:"title"`
	Citation     []string `json:"citation"`
	Contract     string   `json:"contract"`
	ContractRule string   `json:"contract_rule,omitempty"`
	Line         int      `json:"line"` // of the document, counted from 1
	What         string   `json:"what"`
	Do           string   `json:"do"`

	Counsel  *Reference `json:"counsel,omitempty"`
	Override *Override  `json:"override,omitempty"`
}

// Reference says that counsel was asked, and where; never what the advice was.
type Reference struct {
	Counsel string      `json:"counsel"` // who
	Matter  string      `json:"matter"`  // under which number
	On      period.Date `json:"on"`
	By      string      `json:"by"` // who says so
}

// Check reports what is missing from the reference.
func (r Reference) Check() error {
	switch {
	case r.Counsel == "":
		return fmt.Errorf("no counsel is named")
	case r.Matter == "":
		return fmt.Errorf("no matter is named")
	case r.On.IsZero():
		return fmt.Errorf("no date is given")
	case len(r.Counsel) > maxReference || len(r.Matter) > maxReference:
		return fmt.Errorf("counsel and matter have at most %d characters: a reference, never the advice", maxReference)
	}
	return nil
}

// maxReference bounds counsel and matter, in bytes, so that no advice fits in.
const maxReference = 120

// Override is the word of a person in the role legal that a finding shall not block.
type Override struct {
	Finding string `json:"finding"` // its ID
	By      string `json:"by"`
	Reason  string `json:"reason"`
}

// Result is what a screen found, and under which rules.
type Result struct {
	Rules    string      `json:"rules"` // the digest of the rules
	On       period.Date `json:"on"`
	Settings Settings    `json:"settings"`
	Findings []Finding   `json:"findings"`
	Notice   string      `json:"notice"`
}

// Screen holds the case against every rule in force that applies, in order of rule and
// of the contract's rules.
func Screen(c Case) Result {
	res := Result{Rules: RulesDigest(), On: c.On, Settings: c.Settings, Findings: []Finding{}, Notice: Notice}
	for _, rule := range Rules() {
		if !rule.applies(c.Settings) {
			continue
		}
		if whole, ok := wholePredicates[rule.ID]; ok {
			if at, what := whole(&c); what != "" {
				res.add(rule, &c, at, what, rule.ID)
			}
			continue
		}
		holds := predicates[rule.ID]
		for i := range c.Terms.Rules {
			r := &c.Terms.Rules[i]
			if !rule.looksAt(&c, r) {
				continue
			}
			if what := holds(&c, r); what != "" {
				res.add(rule, &c, r, what, rule.ID+"/"+r.ID)
			}
		}
	}
	return res
}

func (res *Result) add(rule Rule, c *Case, r *pricing.Rule, what, id string) {
	f := Finding{ID: id, Rule: rule.ID, Severity: rule.Severity, Title: rule.Title, Citation: rule.Citation,
		Contract: c.Terms.Contract, Line: 1, What: what, Do: rule.Do}
	if r != nil {
		f.ContractRule, f.Line = r.ID, r.Line
	}
	res.Findings = append(res.Findings, f)
}

// Of are the findings of a severity.
func (res Result) Of(s Severity) []Finding {
	return slices.DeleteFunc(slices.Clone(res.Findings), func(f Finding) bool { return f.Severity != s })
}

// Find is the finding of that ID, nil for none.
func (res *Result) Find(id string) *Finding {
	for i := range res.Findings {
		if res.Findings[i].ID == id {
			return &res.Findings[i]
		}
	}
	return nil
}

// applies reports whether the rule's law is in force, for a marketplace of these
// settings.
func (r Rule) applies(s Settings) bool {
	if r.Status != InForce {
		return false
	}
	switch r.AppliesTo.To {
	case ToCertifiedDeveloper:
		return s.CertifiedDeveloper
	case ToActor:
		return s.CertifiedDeveloper || s.Actor != ""
	}
	return true
}

// looksAt reports whether the rule is about contract rules of this kind and class.
func (r Rule) looksAt(c *Case, of *pricing.Rule) bool {
	if len(r.AppliesTo.Kinds) > 0 && !slices.Contains(r.AppliesTo.Kinds, of.Kind) {
		return false
	}
	return len(r.AppliesTo.Classes) == 0 || slices.ContainsFunc(r.AppliesTo.Classes, func(k metering.Class) bool { return c.reaches(of, k) })
}
