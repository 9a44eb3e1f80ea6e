package pricing

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"github.com/shopspring/decimal"
)

// ParseCondition reads a condition over a scorecard, as contracts write them. The error
// says at which character it is wrong and what to write.
func ParseCondition(text string) (*Condition, error) {
	c, bad := compileCondition(text)
	if bad != nil {
		return nil, errors.New(bad.Error())
	}
	return c, nil
}

// ConditionNames are the names in a condition's text, known or not, sorted.
func ConditionNames(text string) []string {
	var names []string
	r := conditionReader{text: text}
	for at := 0; at < len(text); {
		tok := r.token(at)
		if isWord(tok[0]) && !isDigit(tok[0]) && !slices.Contains([]string{"in", "true", "false"}, tok) {
			names = append(names, tok)
		}
		at += len(tok)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Requirement is one part of a condition, held against a scorecard.
type Requirement struct {
	Needs    string     `json:"needs"` // the part as written
	Holds    bool       `json:"holds"`
	Measured []Measured `json:"measured"`
	Missing  string     `json:"missing,omitempty"` // what would have to change, of a part that does not hold
}

// Measured is what a scorecard says of one measure; without a value it has no data.
type Measured struct {
	Measure string `json:"measure"`
	Value   string `json:"value,omitempty"`
}

// Ask holds each part of a condition that is joined by && against a scorecard. The
// condition holds if every part does; a part without data does not.
func (c *Condition) Ask(s *Scorecard) []Requirement {
	out := []Requirement{}
	for _, part := range c.parts() {
		r := Requirement{Needs: part.Text, Measured: []Measured{}}
		for _, name := range part.Measures {
			m := Measured{Measure: name}
			if v, ok := measures[name].read(s); ok {
				switch v := v.(type) {
				case number:
					m.Value = v.String()
				case types.String:
					m.Value = string(v)
				}
			}
			r.Measured = append(r.Measured, m)
		}
		if name, lacks := part.Missing(s); lacks {
			r.Missing = "no data for " + name
		} else if r.Holds = part.Holds(s); !r.Holds {
			r.Missing = part.short(s)
		}
		out = append(out, r)
	}
	return out
}

// parts are what && joins at the top of the condition; itself where || does.
func (c *Condition) parts() []*Condition {
	r := conditionReader{text: c.Text}
	var cuts []int
	depth := 0
	for at := 0; at < len(c.Text); {
		tok := r.token(at)
		switch tok {
		case "(", "[":
			depth++
		case ")", "]":
			depth--
		case "||":
			if depth == 0 {
				return []*Condition{c}
			}
		case "&&":
			if depth == 0 {
				cuts = append(cuts, at)
			}
		}
		at += len(tok)
	}
	var out []*Condition
	from := 0
	for _, at := range append(cuts, len(c.Text)) {
		part, bad := compileCondition(strings.TrimSpace(c.Text[from:at]))
		if bad != nil { // each side of && is a condition by itself
			panic(fmt.Sprintf("pricing: internal error: part of condition %q: %v", c.Text, bad))
		}
		out = append(out, part)
		from = at + len("&&")
	}
	return out
}

// short says what a part that does not hold lacks: of a comparison of one measure with
// a number how far it is off, of any other what it needs.
func (c *Condition) short(s *Scorecard) string {
	needs := "needs " + c.Text
	f := strings.Fields(c.Text)
	if len(f) != 3 || measures[f[0]].read == nil {
		return needs
	}
	v, _ := measures[f[0]].read(s)
	is, numeric := v.(number)
	want, err := decimal.NewFromString(f[2])
	if !numeric || err != nil {
		return needs
	}
	off := want.Sub(is.Decimal).Abs()
	switch f[1] {
	case ">=":
		return fmt.Sprintf("%s short of %s", off, want)
	case "<=", "==":
		if is.GreaterThan(want) {
			return fmt.Sprintf("%s above %s", off, want)
		}
		return fmt.Sprintf("%s short of %s", off, want)
	}
	return needs
}
