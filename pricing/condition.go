package pricing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/shopspring/decimal"
)

// Condition is a question to a scorecard in the Common Expression Language, cut down
// to what a contract needs: && || ! ( ) == != < <= > >= + - * in, numbers, quoted
// text, true, false and the measures. Every number is a decimal read from its text;
// binary floating point does not occur, so availability >= 0.999 is exact. A compiled
// condition may be asked from several goroutines.
type Condition struct {
	Text     string   `json:"text"`
	Measures []string `json:"measures"` // it asks for, sorted
	program  cel.Program
}

// Holds answers the condition. It must be asked only when no measure is Missing.
func (c *Condition) Holds(s *Scorecard) bool {
	v, _, err := c.program.Eval(card{s})
	yes, ok := v.(types.Bool)
	if err != nil || !ok { // every operation is total and every operand typed
		panic(fmt.Sprintf("pricing: internal error: condition %q yields %v, %v", c.Text, v, err))
	}
	return bool(yes)
}

// Missing names the first measure the condition asks for and the scorecard lacks.
func (c *Condition) Missing(s *Scorecard) (string, bool) {
	for _, name := range c.Measures {
		if _, ok := measures[name].read(s); !ok {
			return name, true
		}
	}
	return "", false
}

// card lets a program read a scorecard by the names of its measures.
type card struct{ *Scorecard }

func (c card) ResolveName(name string) (any, bool) {
	m, ok := measures[name]
	if !ok {
		return nil, false
	}
	v, _ := m.read(c.Scorecard)
	return v, true
}

func (c card) Parent() cel.Activation { return nil }

// measure is one figure of a scorecard that conditions may name. What it reads has its
// type even where there is no data.
type measure struct {
	typ  *cel.Type
	doc  string
	read func(*Scorecard) (ref.Val, bool)
}

func count(of func(*Scorecard) int64) func(*Scorecard) (ref.Val, bool) {
	return func(s *Scorecard) (ref.Val, bool) { return number{decimal.NewFromInt(of(s))}, true }
}

func ratio(of func(*Scorecard) *decimal.Decimal) func(*Scorecard) (ref.Val, bool) {
	return func(s *Scorecard) (ref.Val, bool) {
		if d := of(s); d != nil {
			return number{*d}, true
		}
		return number{}, false
	}
}

// measures are the names a condition may use. Read-only.
var measures = map[string]measure{
	"calls":            {numberType, "calls in the month", count(func(s *Scorecard) int64 { return s.Calls })},
	"failed":           {numberType, "calls answered with status 5xx", count(func(s *Scorecard) int64 { return s.Failed })},
	"slow":             {numberType, "calls slower than the bound", count(func(s *Scorecard) int64 { return s.Slow })},
	"availability":     {numberType, "1 − failed ÷ calls", ratio(func(s *Scorecard) *decimal.Decimal { return s.Availability })},
	"within":           {numberType, "share of calls that were not slow", ratio(func(s *Scorecard) *decimal.Decimal { return s.Within })},
	"active_customers": {numberType, "customers with a call", count(func(s *Scorecard) int64 { return s.ActiveCustomers })},
	"exceptions.open":  {numberType, "exceptions open at month end", count(func(s *Scorecard) int64 { return s.ExceptionsOpen })},
	"incidents.opened": {numberType, "incidents opened in the month", count(func(s *Scorecard) int64 { return s.IncidentsOpened })},
	"incidents.open":   {numberType, "incidents open at month end", count(func(s *Scorecard) int64 { return s.IncidentsOpen })},
	"support.answered": {numberType, "support questions answered", count(func(s *Scorecard) int64 { return s.SupportAnswered })},
	"support.open":     {numberType, "support questions open at month end", count(func(s *Scorecard) int64 { return s.SupportOpen })},
	"partner.tier": {cel.StringType, "build, grow or strategic: the partner's tier", func(s *Scorecard) (ref.Val, bool) {
		return types.String(s.PartnerTier), s.PartnerTier != ""
	}},
	"certification.tier": {numberType, "1 to 5", func(s *Scorecard) (ref.Val, bool) {
		return number{decimal.NewFromInt(int64(s.Certification.Tier))}, s.Certification.State != ""
	}},
	"certification.overdue_days": {numberType, "days past the due date", func(s *Scorecard) (ref.Val, bool) {
		return number{decimal.NewFromInt(int64(s.Certification.OverdueDays))}, s.Certification.State != ""
	}},
	"certification.state": {cel.StringType, "valid, due, overdue, re-review, suspended or none", func(s *Scorecard) (ref.Val, bool) {
		return types.String(s.Certification.State), s.Certification.State != ""
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

// MaxCondition bounds the length of a condition in bytes, and so its cost: without
// loops, each operation is done at most once.
const MaxCondition = 500

// maxConditionCost bounds the steps of one answer, whatever the scorecard says. No
// condition of MaxCondition reaches it: its dearest step, making a list, costs 10.
const maxConditionCost = 10 * MaxCondition

// maxConditionDepth bounds parentheses and lists inside each other.
const maxConditionDepth = 30

// compileCondition reads a condition, checks its types and plans its evaluation.
//
// CEL knows numbers as int64 and float64 only. Its parser is therefore shown a text
// whose numbers are all zeros, in the same places; each is then replaced by the
// decimal that the condition's own text says there, before types are checked.
func compileCondition(text string) (*Condition, *conditionError) {
	if len(text) > MaxCondition {
		return nil, &conditionError{0, fmt.Sprintf("a condition of %d characters", len(text)), fmt.Sprintf("at most %d are read", MaxCondition)}
	}
	r := conditionReader{text: text, numbers: map[int]decimal.Decimal{}, names: map[int64]int{}, constants: map[int64]ref.Val{}}
	zeroed, bad := r.scan()
	if bad != nil {
		return nil, bad
	}
	env, err := conditionEnv()
	if err != nil {
		panic("pricing: internal error: " + err.Error())
	}
	parsed, issues := env.Parse(zeroed)
	if issues.Err() != nil {
		return nil, r.syntax(issues)
	}
	r.info = parsed.NativeRep().SourceInfo()
	root := parsed.NativeRep().Expr()
	if bad := r.admit(root); bad != nil {
		return nil, bad
	}
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return nil, r.mistyped(root, issues)
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) {
		return nil, &conditionError{0, "the condition yields " + typeName(t.String()), "compare it, such as availability >= 0.999"}
	}
	ast.PostOrderVisit(checked.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if v, ok := r.constants[e.ID()]; ok {
			e.SetKindCase(factory.NewLiteral(e.ID(), v))
		}
	}))
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostTracking(stepCost{}), cel.CostLimit(maxConditionCost))
	if err != nil {
		return nil, &conditionError{0, "the condition cannot be planned: " + err.Error(), "write it in another way"}
	}
	slices.Sort(r.used)
	return &Condition{text, slices.Compact(r.used), program}, nil
}

// conditionReader turns the text of one condition into what the checker is shown.
type conditionReader struct {
	text      string
	numbers   map[int]decimal.Decimal // by the byte where each begins
	info      *ast.SourceInfo
	names     map[int64]int     // where the measure begins, by its id in the tree
	constants map[int64]ref.Val // by the id of the placeholder in the tree
	used      []string
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }
func isWord(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '_' || isDigit(b)
}

// token is what begins at a byte: a word or number with its dots, a quoted text or an
// operator; "" at the end.
func (r *conditionReader) token(at int) string {
	if at >= len(r.text) {
		return ""
	}
	rest, n := r.text[at:], 0
	switch b := rest[0]; {
	case isWord(b) || b == '.' && len(rest) > 1 && isDigit(rest[1]):
		for n < len(rest) && (isWord(rest[n]) || rest[n] == '.') {
			n++
		}
		return rest[:n]
	case b == '"' || b == '\'':
		if end := strings.IndexByte(rest[1:], b); end >= 0 {
			return rest[:end+2]
		}
		return rest
	case b >= 0x80:
		return string([]rune(rest)[:1])
	}
	if len(rest) > 1 && slices.Contains([]string{"&&", "||", "==", "!=", "<=", ">=", "//"}, rest[:2]) {
		return rest[:2]
	}
	return rest[:1]
}

// scan reads the numbers and answers the text with all their digits zero. What of CEL
// would hide a number from it, escapes, long quotes and comments, is not read.
func (r *conditionReader) scan() (string, *conditionError) {
	zeroed := []byte(r.text)
	var open []byte
	for at := 0; at < len(r.text); {
		tok := r.token(at)
		end := at + len(tok)
		switch b := tok[0]; {
		case isDigit(b) || b == '.' && len(tok) > 1:
			d, err := parseNumber(tok)
			if err != nil || strings.Contains(tok, "_") {
				return "", &conditionError{at, fmt.Sprintf("%q is not a plain decimal number", clip(tok)), "write it like 0.999, without exponent, prefix or suffix"}
			}
			r.numbers[at] = d
			for i := at; i < end; i++ {
				if zeroed[i] != '.' {
					zeroed[i] = '0'
				}
			}
		case b == '"' || b == '\'':
			switch {
			case len(tok) == 1 || tok[len(tok)-1] != b:
				return "", &conditionError{at, "the quoted text has no end", "close the quote"}
			case strings.ContainsAny(tok, "\\\r\n"):
				return "", &conditionError{at, "escapes are not read", "write the text as it is"}
			case end < len(r.text) && r.text[end] == b:
				return "", &conditionError{at, "doubled quotes are not read", "write one quote on each side"}
			}
		case b == '(' || b == '[':
			if open = append(open, b); len(open) > maxConditionDepth {
				return "", &conditionError{at, fmt.Sprintf("nested more than %d deep", maxConditionDepth), "write it flatter"}
			}
		case b == ')' || b == ']':
			open = open[:max(0, len(open)-1)] // whether it fits, the parser says
		case tok == "//":
			return "", &conditionError{at, "comments are not read", "put it behind # where the document allows"}
		}
		at = end
	}
	switch {
	case len(open) == 0:
		return string(zeroed), nil
	case open[len(open)-1] == '[':
		return "", &conditionError{len(r.text), "the list has no end", "close it with ]"}
	}
	return "", &conditionError{len(r.text), "a parenthesis is not closed", "add )"}
}

// bytes turns an offset in characters, as CEL counts, into one in bytes.
func (r *conditionReader) bytes(chars int) int {
	for at := range r.text {
		if chars <= 0 {
			return at
		}
		chars--
	}
	return len(r.text)
}

// first is the issue that stands first in the text, and where.
func (r *conditionReader) first(issues *cel.Issues) (*cel.Error, int) {
	offset := func(e *cel.Error) int {
		chars := e.Location.Column()
		for _, line := range strings.SplitAfter(r.text, "\n")[:max(0, e.Location.Line()-1)] {
			chars += len([]rune(line))
		}
		return r.bytes(chars)
	}
	e := slices.MinFunc(issues.Errors(), func(a, b *cel.Error) int { return cmp.Compare(offset(a), offset(b)) })
	return e, offset(e)
}

// syntax words what the parser found; its own words list the tokens of its grammar.
func (r *conditionReader) syntax(issues *cel.Issues) *conditionError {
	e, at := r.first(issues)
	tok := r.token(at)
	switch {
	case strings.Contains(e.Message, "limit"):
		return &conditionError{at, e.Message, "write it shorter"}
	case tok == "":
		return &conditionError{at, "the condition ends too early", "such as availability >= 0.999"}
	}
	return unexpected(at, tok)
}

func unexpected(at int, tok string) *conditionError {
	return &conditionError{at, fmt.Sprintf("%q is not expected here", clip(tok)), hint(tok)}
}

func hint(tok string) string {
	switch tok {
	case "=":
		return "equality is =="
	case "and", "AND":
		return "write &&"
	case "or", "OR":
		return "write ||"
	case "not":
		return "write !( … )"
	case "[":
		return "a list stands after in only"
	case "/", "%", "?", ":":
		return "conditions know + - * only; move the rest to the other side"
	}
	return "measures are " + strings.Join(measureNames(), ", ")
}

// start is the byte where an expression begins, parentheses apart.
func (r *conditionReader) start(e ast.Expr) int {
	for {
		switch {
		case e.Kind() == ast.SelectKind:
			e = e.AsSelect().Operand()
		case e.Kind() == ast.IdentKind && strings.Contains(e.AsIdent(), "."):
			return r.names[e.ID()]
		case e.Kind() == ast.CallKind && e.AsCall().IsMemberFunction():
			e = e.AsCall().Target()
		case e.Kind() == ast.CallKind && len(e.AsCall().Args()) > 1:
			e = e.AsCall().Args()[0]
		default:
			return r.at(e)
		}
	}
}

// at is the byte where CEL sees an expression: an operation stands at its operator.
func (r *conditionReader) at(e ast.Expr) int {
	o, _ := r.info.GetOffsetRange(e.ID())
	return r.bytes(int(o.Start))
}

var factory = ast.NewExprFactory()

// admit refuses what a condition may not say, notes the measures and puts a
// placeholder in the place of each number.
func (r *conditionReader) admit(e ast.Expr) *conditionError {
	switch e.Kind() {
	case ast.LiteralKind:
		return r.admitLiteral(e)
	case ast.IdentKind, ast.SelectKind:
		return r.admitName(e)
	case ast.CallKind:
		return r.admitCall(e)
	}
	return unexpected(r.at(e), r.token(r.at(e)))
}

func (r *conditionReader) admitLiteral(e ast.Expr) *conditionError {
	switch e.AsLiteral().(type) {
	case types.Bool, types.String:
		return nil
	case types.Int, types.Double: // a zero; what it stands for is in the text
		at := r.at(e)
		negative := r.text[at] == '-'
		if negative {
			at += 1 + len(r.text[at+1:]) - len(strings.TrimLeft(r.text[at+1:], " \t\r\n\f"))
		}
		if d, ok := r.numbers[at]; ok {
			if negative {
				d = d.Neg()
			}
			r.constants[e.ID()] = number{d}
			e.SetKindCase(factory.NewIdent(e.ID(), placeholder))
			return nil
		}
	}
	return unexpected(r.at(e), r.token(r.at(e)))
}

func (r *conditionReader) admitName(e ast.Expr) *conditionError {
	at, name, rest := r.start(e), "", e
	for rest.Kind() == ast.SelectKind {
		name, rest = "."+rest.AsSelect().FieldName()+name, rest.AsSelect().Operand()
	}
	if rest.Kind() != ast.IdentKind {
		return unexpected(r.at(e), r.token(r.at(e)))
	}
	name = rest.AsIdent() + name
	r.names[e.ID()] = at
	if _, ok := measures[name]; ok {
		r.used = append(r.used, name)
		return nil
	}
	remedy := hint(name)
	if near := nearest(name, measureNames()); near != "" {
		remedy = fmt.Sprintf("did you mean %s?", near)
	}
	return &conditionError{at, "no measure is called " + clip(name), remedy}
}

func (r *conditionReader) admitCall(e ast.Expr) *conditionError {
	call := e.AsCall()
	sign, operator := operators.FindReverse(call.FunctionName())
	args := call.Args()
	switch {
	case !operator && !call.IsMemberFunction():
		at := r.at(e) // of the parenthesis
		name := strings.TrimRight(r.text[:at], " \t\r\n\f")
		return &conditionError{max(0, len(name)-len(call.FunctionName())), "no measure is called " + clip(call.FunctionName()), hint(call.FunctionName())}
	case !slices.Contains(conditionOperators, call.FunctionName()):
		return unexpected(r.at(e), r.token(r.at(e)))
	case sign == "in":
		list := args[1]
		if list.Kind() != ast.ListKind {
			return &conditionError{r.start(list), "in needs a list", `such as certification.state in ["valid", "due"]`}
		}
		args = append([]ast.Expr{args[0]}, list.AsList().Elements()...)
	}
	for _, a := range args {
		if bad := r.admit(a); bad != nil {
			return bad
		}
	}
	return nil
}

// mistyped words what the checker found: which operand is of the wrong type. The
// checker names the types that an operator met, or those of one operand.
func (r *conditionReader) mistyped(root ast.Expr, issues *cel.Issues) *conditionError {
	issue, at := r.first(issues)
	bad := &conditionError{at, issue.Message, "compare like with like"}
	wrong := func(e ast.Expr, needs, want, is string) {
		bad.at, bad.problem = r.start(e), fmt.Sprintf("%s needs %s, not %s", needs, typeName(want), typeName(is))
	}
	want, is, one := between(issue.Message, "expected type '", "' but found '")
	_, met, all := between(issue.Message, "found no matching overload for '", "' applied to '(")
	types := strings.Split(strings.TrimSuffix(met, ")"), ", ")
	ast.PostOrderVisit(root, ast.NewExprVisitor(func(e ast.Expr) {
		switch {
		case one && e.Kind() == ast.ListKind:
			for _, a := range e.AsList().Elements() {
				if a.ID() == issue.ExprID {
					wrong(a, "the list", want, is)
				}
			}
		case one && e.Kind() == ast.CallKind:
			for _, a := range e.AsCall().Args() {
				if a.ID() == issue.ExprID {
					wrong(a, operatorSign(e), want, is)
				}
			}
		case all && e.ID() == issue.ExprID && e.Kind() == ast.CallKind && len(e.AsCall().Args()) == len(types):
			args, want := e.AsCall().Args(), numberType.String()
			switch e.AsCall().FunctionName() {
			case operators.LogicalNot:
				want = cel.BoolType.String()
			case operators.Equals, operators.NotEquals:
				want = types[0]
			case operators.In:
				args, types, want = args[1:], types[1:], "list("+types[0]+")"
			}
			if i := slices.IndexFunc(types, func(t string) bool { return t != want }); i >= 0 {
				wrong(args[i], operatorSign(e), want, types[i])
			}
		}
	}))
	return bad
}

// between cuts prefix A middle B ' into A and B.
func between(message, prefix, middle string) (a, b string, ok bool) {
	rest, ok := strings.CutPrefix(message, prefix)
	a, b, found := strings.Cut(rest, middle)
	return a, strings.TrimSuffix(b, "'"), ok && found
}

// operatorSign is how people write the operator of a call.
func operatorSign(e ast.Expr) string {
	sign, _ := operators.FindReverse(e.AsCall().FunctionName())
	return sign
}

// typeName is a type in people's words.
func typeName(t string) string {
	if of, ok := strings.CutPrefix(t, "list("); ok {
		return strings.Replace("a list of "+typeName(strings.TrimSuffix(of, ")")), "a number", "numbers", 1)
	}
	switch t {
	case numberType.String():
		return "a number"
	case cel.StringType.String():
		return "text"
	case cel.BoolType.String():
		return "true or false"
	}
	return t
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
