package compliance

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"

	"github.com/goccy/go-yaml"

	"mete/metering"
	"mete/period"
)

// Severity says what a finding does to an approval.
type Severity string

// The severities, hardest first.
const (
	Block   Severity = "block"   // refused, unless overridden
	Counsel Severity = "counsel" // refused without a reference to counsel
	Flag    Severity = "flag"    // recorded
)

// Rule is one named rule, as rules.yaml says it.
type Rule struct {
	ID        string    `yaml:"id" json:"id"`
	Title     string    `yaml:"title" json:"title"`
	Citation  []string  `yaml:"citation" json:"citation"`
	Severity  Severity  `yaml:"severity" json:"severity"`
	Status    Status    `yaml:"status" json:"status"`
	AppliesTo AppliesTo `yaml:"applies_to" json:"applies_to"`
	CheckedOn string    `yaml:"checked_on" json:"checked_on"` // the day the citation was last held against its source
	Read      string    `yaml:"read" json:"read"`             // what was read then: the text, or a summary
	LooksFor  string    `yaml:"looks_for" json:"looks_for"`
	Do        string    `yaml:"do" json:"do"`
}

// AppliesTo says for whom a rule is and at which rules of a contract it looks.
type AppliesTo struct {
	To      string           `yaml:"to" json:"to"`
	Classes []metering.Class `yaml:"classes" json:"classes,omitempty"` // empty: all
	Kinds   []string         `yaml:"kinds" json:"kinds,omitempty"`     // empty: all
}

// For whom a rule may be.
const (
	ToCertifiedDeveloper = "certified_developer"
	ToActor              = "actor"
	ToAnyone             = "anyone"
)

// Status is how the law stands that a rule cites.
type Status string

// The statuses. Only rules in force are applied.
const (
	InForce  Status = "in_force"
	Proposed Status = "proposed"
	Removed  Status = "removed"
)

//go:embed rules.yaml
var rulesText []byte

// Rules are the named rules, in the order of rules.yaml.
func Rules() []Rule { return slices.Clone(parsed()) }

// RulesDigest is the SHA-256 of rules.yaml, in hexadecimal: what a kept finding was
// found under.
func RulesDigest() string {
	sum := sha256.Sum256(rulesText)
	return hex.EncodeToString(sum[:])
}

var parsed = sync.OnceValue(func() []Rule {
	rules, err := parseRules(rulesText)
	if err != nil {
		panic("compliance: internal error: rules.yaml: " + err.Error())
	}
	return rules
})

// parseRules reads rules strictly: each needs a predicate of its name, a citation and
// everything that a reader is shown.
func parseRules(text []byte) ([]Rule, error) {
	var rules []Rule
	if err := yaml.UnmarshalWithOptions(text, &rules, yaml.Strict()); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, r := range rules {
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("rule %q: %w", r.ID, err)
		}
		if seen[r.ID] {
			return nil, fmt.Errorf("rule %q: there are two", r.ID)
		}
		seen[r.ID] = true
	}
	return rules, nil
}

func (r Rule) check() error {
	_, one := predicates[r.ID]
	_, whole := wholePredicates[r.ID]
	if !one && !whole {
		return fmt.Errorf("no function finds it")
	}
	for _, text := range append([]string{r.Title, r.Read, r.LooksFor, r.Do}, r.Citation...) {
		if text == "" {
			return fmt.Errorf("a text is empty")
		}
	}
	if len(r.Citation) == 0 {
		return fmt.Errorf("it cites nothing")
	}
	if !slices.Contains([]Severity{Block, Counsel, Flag}, r.Severity) {
		return fmt.Errorf("severity %q is not known", r.Severity)
	}
	if !slices.Contains([]Status{InForce, Proposed, Removed}, r.Status) {
		return fmt.Errorf("status %q is not known", r.Status)
	}
	if !slices.Contains([]string{ToCertifiedDeveloper, ToActor, ToAnyone}, r.AppliesTo.To) {
		return fmt.Errorf("applies_to %q is not known", r.AppliesTo.To)
	}
	if _, err := period.ParseDate(r.CheckedOn); err != nil {
		return fmt.Errorf("checked_on: %w", err)
	}
	return nil
}
