package pricing

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"
)

// Condition is a question to a scorecard in the Common Expression Language, cut down
// to what a contract needs: && || ! ( ) == != < <= > >= + - * in, numbers, quoted
// text, true, false and the measures. Every number is a decimal read from its text;
// binary floating point does not occur, so availability >= 0.999 is exact.
type Condition struct {
	Text     string   `json:"text"`
	Measures []string `json:"measures"` // it asks for, sorted
	eval     func(*Scorecard) operand
}

// Holds answers the condition. It must be asked only when no measure is Missing.
func (c *Condition) Holds(s *Scorecard) bool { return c.eval(s).yes }

// Missing names the first measure the condition asks for and the scorecard lacks.
func (c *Condition) Missing(s *Scorecard) (string, bool) {
	for _, name := range c.Measures {
		if _, ok := measures[name].read(s); !ok {
			return name, true
		}
	}
	return "", false
}

// operand is a value of a condition: a number, a text or a truth.
type operand struct {
	num  decimal.Decimal
	text string
	yes  bool
}

type operandType string

const (
	numType  operandType = "a number"
	textType operandType = "text"
	boolType operandType = "true or false"
)

// measure is one figure of a scorecard that conditions may name.
type measure struct {
	typ  operandType
	doc  string
	read func(*Scorecard) (operand, bool)
}

func count(of func(*Scorecard) int64) func(*Scorecard) (operand, bool) {
	return func(s *Scorecard) (operand, bool) { return operand{num: decimal.NewFromInt(of(s))}, true }
}

func ratio(of func(*Scorecard) *decimal.Decimal) func(*Scorecard) (operand, bool) {
	return func(s *Scorecard) (operand, bool) {
		if d := of(s); d != nil {
			return operand{num: *d}, true
		}
		return operand{}, false
	}
}

// measures are the names a condition may use. Read-only.
var measures = map[string]measure{
	"calls":            {numType, "calls in the month", count(func(s *Scorecard) int64 { return s.Calls })},
	"failed":           {numType, "calls answered with status 5xx", count(func(s *Scorecard) int64 { return s.Failed })},
	"slow":             {numType, "calls slower than the bound", count(func(s *Scorecard) int64 { return s.Slow })},
	"availability":     {numType, "1 − failed ÷ calls", ratio(func(s *Scorecard) *decimal.Decimal { return s.Availability })},
	"within":           {numType, "share of calls that were not slow", ratio(func(s *Scorecard) *decimal.Decimal { return s.Within })},
	"active_customers": {numType, "customers with a call", count(func(s *Scorecard) int64 { return s.ActiveCustomers })},
	"exceptions.open":  {numType, "exceptions open at month end", count(func(s *Scorecard) int64 { return s.ExceptionsOpen })},
	"incidents.opened": {numType, "incidents opened in the month", count(func(s *Scorecard) int64 { return s.IncidentsOpened })},
	"incidents.open":   {numType, "incidents open at month end", count(func(s *Scorecard) int64 { return s.IncidentsOpen })},
	"support.answered": {numType, "support questions answered", count(func(s *Scorecard) int64 { return s.SupportAnswered })},
	"support.open":     {numType, "support questions open at month end", count(func(s *Scorecard) int64 { return s.SupportOpen })},
	"certification.tier": {numType, "1 to 5", func(s *Scorecard) (operand, bool) {
		return operand{num: decimal.NewFromInt(int64(s.Certification.Tier))}, s.Certification.State != ""
	}},
	"certification.overdue_days": {numType, "days past the due date", func(s *Scorecard) (operand, bool) {
		return operand{num: decimal.NewFromInt(int64(s.Certification.OverdueDays))}, s.Certification.State != ""
	}},
	"certification.state": {textType, "valid, due, overdue, re-review, suspended or none", func(s *Scorecard) (operand, bool) {
		return operand{text: s.Certification.State}, s.Certification.State != ""
	}},
}

// Measures lists the names a condition may use, sorted, with what each says.
func Measures() [][2]string {
	var out [][2]string
	for name, m := range measures {
		out = append(out, [2]string{name, m.doc})
	}
	slices.SortFunc(out, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return out
}

func measureNames() []string {
	var names []string
	for _, m := range Measures() {
		names = append(names, m[0])
	}
	return names
}

// conditionError is what is wrong at which byte of a condition.
type conditionError struct {
	at              int
	problem, remedy string
}

func (e *conditionError) Error() string {
	return fmt.Sprintf("at %d: %s; %s", e.at, e.problem, e.remedy)
}

// MaxCondition bounds the length of a condition.
const MaxCondition = 500

// maxConditionDepth bounds parentheses and negations inside each other.
const maxConditionDepth = 30

// compileCondition reads a condition and checks its types.
func compileCondition(text string) (c *Condition, err *conditionError) {
	if len(text) > MaxCondition {
		return nil, &conditionError{0, fmt.Sprintf("a condition of %d characters", len(text)), fmt.Sprintf("at most %d are read", MaxCondition)}
	}
	p := &conditionParser{text: text}
	defer func() { // the parser leaves its depths by panicking with its own error type
		if r := recover(); r != nil {
			e, ok := r.(*conditionError)
			if !ok {
				panic(r)
			}
			c, err = nil, e
		}
	}()
	p.next()
	e := p.or(0)
	if p.tok != "" {
		p.fail(p.at, fmt.Sprintf("%q is not expected here", clip(p.tok)), p.hint())
	}
	if e.typ != boolType {
		p.fail(0, "the condition yields "+string(e.typ), "compare it, such as availability >= 0.999")
	}
	slices.Sort(p.used)
	return &Condition{text, slices.Compact(p.used), e.eval}, nil
}

type conditionParser struct {
	text string
	pos  int    // after tok
	tok  string // "" at the end
	at   int    // where tok begins
	used []string
}

// expression is a typed part of a condition.
type expression struct {
	typ  operandType
	at   int
	eval func(*Scorecard) operand
}

func (p *conditionParser) fail(at int, problem, remedy string) {
	panic(&conditionError{at, problem, remedy})
}

func (p *conditionParser) hint() string {
	switch p.tok {
	case "=":
		return "equality is =="
	case "and", "AND":
		return "write &&"
	case "or", "OR":
		return "write ||"
	case "not":
		return "write !( … )"
	case "/", "%", "?", ":":
		return "conditions know + - * only; move the rest to the other side"
	}
	return "measures are " + strings.Join(measureNames(), ", ")
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }
func isWord(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '_' || isDigit(b)
}

// next reads one token: a number, a dotted name, a quoted text or an operator.
func (p *conditionParser) next() {
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.pos]) >= 0 {
		p.pos++
	}
	p.at = p.pos
	if p.pos == len(p.text) {
		p.tok = ""
		return
	}
	b := p.text[p.pos]
	switch {
	case isWord(b): // a number is checked when it is used
		for p.pos < len(p.text) && (isWord(p.text[p.pos]) || p.text[p.pos] == '.') {
			p.pos++
		}
	case b == '"' || b == '\'':
		end := strings.IndexByte(p.text[p.pos+1:], b)
		if end < 0 {
			p.fail(p.at, "the quoted text has no end", "close the quote")
		}
		p.pos += end + 2
		if strings.ContainsAny(p.text[p.at:p.pos], "\\\n") {
			p.fail(p.at, "escapes are not read", "write the text as it is")
		}
	default:
		p.pos++
		if p.pos < len(p.text) && slices.Contains([]string{"&&", "||", "==", "!=", "<=", ">="}, p.text[p.at:p.pos+1]) {
			p.pos++
		}
	}
	p.tok = p.text[p.at:p.pos]
}

func (p *conditionParser) take(tok string) bool {
	if p.tok != tok {
		return false
	}
	p.next()
	return true
}

func (p *conditionParser) want(e expression, typ operandType, op string) {
	if e.typ != typ {
		p.fail(e.at, fmt.Sprintf("%s needs %s, not %s", op, typ, e.typ), "compare like with like")
	}
}

func (p *conditionParser) or(depth int) expression {
	left := p.and(depth)
	for p.tok == "||" {
		p.next()
		right := p.and(depth)
		p.want(left, boolType, "||")
		p.want(right, boolType, "||")
		a, b := left.eval, right.eval
		left.eval = func(s *Scorecard) operand { return operand{yes: a(s).yes || b(s).yes} }
	}
	return left
}

func (p *conditionParser) and(depth int) expression {
	left := p.relation(depth)
	for p.tok == "&&" {
		p.next()
		right := p.relation(depth)
		p.want(left, boolType, "&&")
		p.want(right, boolType, "&&")
		a, b := left.eval, right.eval
		left.eval = func(s *Scorecard) operand { return operand{yes: a(s).yes && b(s).yes} }
	}
	return left
}

func (p *conditionParser) relation(depth int) expression {
	left := p.sum(depth)
	op := p.tok
	switch op {
	case "==", "!=", "<", "<=", ">", ">=":
		p.next()
		return p.compare(op, left, p.sum(depth))
	case "in":
		p.next()
		if !p.take("[") {
			p.fail(p.at, "in needs a list", `such as certification.state in ["valid", "due"]`)
		}
		any := func(*Scorecard) operand { return operand{} }
		for {
			same, before := p.compare("==", left, p.sum(depth)), any
			any = func(s *Scorecard) operand { return operand{yes: before(s).yes || same.eval(s).yes} }
			if !p.take(",") {
				break
			}
		}
		if !p.take("]") {
			p.fail(p.at, "the list has no end", "close it with ]")
		}
		return expression{boolType, left.at, any}
	}
	return left
}

func (p *conditionParser) compare(op string, left, right expression) expression {
	p.want(right, left.typ, op)
	a, b := left.eval, right.eval
	var eval func(x, y operand) bool
	switch {
	case left.typ == boolType && op == "==":
		eval = func(x, y operand) bool { return x.yes == y.yes }
	case left.typ == boolType && op == "!=":
		eval = func(x, y operand) bool { return x.yes != y.yes }
	case left.typ == textType && op == "==":
		eval = func(x, y operand) bool { return x.text == y.text }
	case left.typ == textType && op == "!=":
		eval = func(x, y operand) bool { return x.text != y.text }
	case left.typ != numType:
		p.fail(left.at, fmt.Sprintf("%s needs numbers, not %s", op, left.typ), "use == or !=")
	case op == "==":
		eval = func(x, y operand) bool { return x.num.Equal(y.num) }
	case op == "!=":
		eval = func(x, y operand) bool { return !x.num.Equal(y.num) }
	case op == "<":
		eval = func(x, y operand) bool { return x.num.LessThan(y.num) }
	case op == "<=":
		eval = func(x, y operand) bool { return x.num.LessThanOrEqual(y.num) }
	case op == ">":
		eval = func(x, y operand) bool { return x.num.GreaterThan(y.num) }
	case op == ">=":
		eval = func(x, y operand) bool { return x.num.GreaterThanOrEqual(y.num) }
	}
	return expression{boolType, left.at, func(s *Scorecard) operand { return operand{yes: eval(a(s), b(s))} }}
}

func (p *conditionParser) sum(depth int) expression {
	left := p.product(depth)
	for p.tok == "+" || p.tok == "-" {
		op := p.tok
		p.next()
		right := p.product(depth)
		p.want(left, numType, op)
		p.want(right, numType, op)
		a, b := left.eval, right.eval
		if op == "+" {
			left.eval = func(s *Scorecard) operand { return operand{num: a(s).num.Add(b(s).num)} }
		} else {
			left.eval = func(s *Scorecard) operand { return operand{num: a(s).num.Sub(b(s).num)} }
		}
	}
	return left
}

func (p *conditionParser) product(depth int) expression {
	left := p.unary(depth)
	for p.tok == "*" {
		p.next()
		right := p.unary(depth)
		p.want(left, numType, "*")
		p.want(right, numType, "*")
		a, b := left.eval, right.eval
		left.eval = func(s *Scorecard) operand { return operand{num: a(s).num.Mul(b(s).num)} }
	}
	return left
}

func (p *conditionParser) unary(depth int) expression {
	if depth > maxConditionDepth {
		p.fail(p.at, fmt.Sprintf("nested more than %d deep", maxConditionDepth), "write it flatter")
	}
	at := p.at
	switch {
	case p.take("!"):
		e := p.unary(depth + 1)
		p.want(e, boolType, "!")
		return expression{boolType, at, func(s *Scorecard) operand { return operand{yes: !e.eval(s).yes} }}
	case p.take("-"):
		e := p.unary(depth + 1)
		p.want(e, numType, "-")
		return expression{numType, at, func(s *Scorecard) operand { return operand{num: e.eval(s).num.Neg()} }}
	case p.take("("):
		e := p.or(depth + 1)
		if !p.take(")") {
			p.fail(p.at, "a parenthesis is not closed", "add )")
		}
		e.at = at
		return e
	}
	return p.primary()
}

func (p *conditionParser) primary() expression {
	tok, at := p.tok, p.at
	constant := func(typ operandType, v operand) expression {
		p.next()
		return expression{typ, at, func(*Scorecard) operand { return v }}
	}
	switch {
	case tok == "":
		p.fail(at, "the condition ends too early", "such as availability >= 0.999")
	case tok == "true" || tok == "false":
		return constant(boolType, operand{yes: tok == "true"})
	case tok[0] == '"' || tok[0] == '\'':
		return constant(textType, operand{text: tok[1 : len(tok)-1]})
	case isDigit(tok[0]):
		d, err := parseNumber(tok)
		if err != nil || strings.Contains(tok, "_") {
			p.fail(at, fmt.Sprintf("%q is not a plain decimal number", clip(tok)), "write it like 0.999, without exponent, prefix or suffix")
		}
		return constant(numType, operand{num: d})
	case isWord(tok[0]):
		m, ok := measures[tok]
		if !ok {
			remedy := p.hint()
			if near := nearest(tok, measureNames()); near != "" {
				remedy = fmt.Sprintf("did you mean %s?", near)
			}
			p.fail(at, fmt.Sprintf("no measure is called %s", clip(tok)), remedy)
		}
		p.used = append(p.used, tok)
		p.next()
		return expression{m.typ, at, func(s *Scorecard) operand { v, _ := m.read(s); return v }}
	}
	p.fail(at, fmt.Sprintf("%q is not expected here", clip(tok)), p.hint())
	panic("pricing: internal error: fail returned")
}

// condition reads and compiles a condition; a problem is reported at its character.
func (v value) condition() *Condition {
	s, ok := v.text()
	if !ok {
		return nil
	}
	c, err := compileCondition(s)
	if err != nil {
		line, col := position(v.node)
		if !strings.Contains(s, "\n") {
			col += v.quoted() + len([]rune(s[:err.at]))
		}
		v.d.reportAt(line, col, v.path, err.problem, err.remedy)
		return nil
	}
	return c
}
