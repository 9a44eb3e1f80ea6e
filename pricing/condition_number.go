package pricing

import (
	"fmt"
	"reflect"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/shopspring/decimal"
)

// numberType is the only type of numbers in conditions.
var numberType = cel.OpaqueType("decimal")

// placeholder is the name that stands for a number while types are checked. No
// condition can write it.
const placeholder = "@number"

// number is a decimal as a value of a condition.
type number struct{ decimal.Decimal }

func (n number) Type() ref.Type { return numberType }
func (n number) Value() any     { return n.Decimal }

func (n number) Equal(other ref.Val) ref.Val {
	o, ok := other.(number)
	return types.Bool(ok && n.Decimal.Equal(o.Decimal))
}

func (n number) ConvertToNative(to reflect.Type) (any, error) {
	if to == reflect.TypeFor[decimal.Decimal]() {
		return n.Decimal, nil
	}
	return nil, fmt.Errorf("a decimal is not converted to %s", to)
}

func (n number) ConvertToType(to ref.Type) ref.Val {
	switch to {
	case numberType:
		return n
	case types.TypeType:
		return numberType
	}
	return types.NewErr("a decimal is not converted to %s", to.TypeName())
}

// conditionOperators are all functions of conditions. Each is total, yields the same
// for the same operands and takes time by the length of its operands only.
var conditionOperators = []string{
	operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot,
	operators.Equals, operators.NotEquals, operators.In,
	operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals,
	operators.Add, operators.Subtract, operators.Multiply, operators.Negate,
}

// stepCost counts each operation as one step, so that cost depends on the condition
// alone and not on how long a measure's text is.
type stepCost struct{}

func (stepCost) CallCost(function, overloadID string, args []ref.Val, result ref.Val) *uint64 {
	return new(uint64(1))
}

// conditionEnv is the language of conditions: the operators of CEL that suit all types,
// those on decimals, the measures, and neither macros nor any other function.
var conditionEnv = sync.OnceValues(func() (*cel.Env, error) {
	std := env.NewLibrarySubset().SetDisableMacros(true).AddIncludedFunctions(
		env.NewFunction(operators.LogicalAnd), env.NewFunction(operators.LogicalOr), env.NewFunction(operators.LogicalNot),
		env.NewFunction(operators.Equals), env.NewFunction(operators.NotEquals), env.NewFunction(operators.In))
	opts := []cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(std)),
		cel.HomogeneousAggregateLiterals(),
		cel.ParserExpressionSizeLimit(MaxCondition),
		cel.Variable(placeholder, numberType),
		cel.Function(operators.Negate, cel.Overload("negate_decimal", []*cel.Type{numberType}, numberType,
			cel.UnaryBinding(func(v ref.Val) ref.Val {
				if n, ok := v.(number); ok {
					return number{n.Neg()}
				}
				return types.MaybeNoSuchOverloadErr(v)
			}))),
		arithmetic(operators.Add, "add_decimal", decimal.Decimal.Add),
		arithmetic(operators.Subtract, "subtract_decimal", decimal.Decimal.Sub),
		arithmetic(operators.Multiply, "multiply_decimal", decimal.Decimal.Mul),
		comparison(operators.Less, "less_decimal", decimal.Decimal.LessThan),
		comparison(operators.LessEquals, "less_equals_decimal", decimal.Decimal.LessThanOrEqual),
		comparison(operators.Greater, "greater_decimal", decimal.Decimal.GreaterThan),
		comparison(operators.GreaterEquals, "greater_equals_decimal", decimal.Decimal.GreaterThanOrEqual),
	}
	for name, m := range measures {
		opts = append(opts, cel.VariableWithDoc(name, m.typ, m.doc))
	}
	return cel.NewCustomEnv(opts...)
})

func arithmetic(function, id string, of func(a, b decimal.Decimal) decimal.Decimal) cel.EnvOption {
	return onNumbers(function, id, numberType, func(a, b decimal.Decimal) ref.Val { return number{of(a, b)} })
}

func comparison(function, id string, of func(a, b decimal.Decimal) bool) cel.EnvOption {
	return onNumbers(function, id, cel.BoolType, func(a, b decimal.Decimal) ref.Val { return types.Bool(of(a, b)) })
}

func onNumbers(function, id string, yields *cel.Type, of func(a, b decimal.Decimal) ref.Val) cel.EnvOption {
	return cel.Function(function, cel.Overload(id, []*cel.Type{numberType, numberType}, yields,
		cel.BinaryBinding(func(left, right ref.Val) ref.Val {
			a, ok := left.(number)
			b, also := right.(number)
			if !ok || !also {
				return types.MaybeNoSuchOverloadErr(left)
			}
			return of(a.Decimal, b.Decimal)
		})))
}
