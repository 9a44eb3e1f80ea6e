package compliance

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// A pack is what somebody who inspects fees asks for (45 CFR 170.404(a)(3)(i)(D)): the
// fees charged, the method by which they were computed, and the costs they are said to
// recover. It is a function of what was booked and agreed: packed again it has the same
// bytes.

// PackInput is everything that a pack is made from.
type PackInput struct {
	Entity  string
	From    period.Month // first month
	Until   period.Month // last month
	Lines   []FeeLine    // any order
	Methods []Method     // of every contract version that the lines name, any order
}

// FeeLine is one fee or payment as it was booked on a statement. Sales, refunds and
// chargebacks are none.
type FeeLine struct {
	Month     period.Month
	Statement string
	Number    int
	Partner   partner.ID
	Payer     partner.ID
	Contract  string
	Version   int
	Rule      string // empty: an adjustment
	Kind      string
	Class     metering.Class // empty: none, or every class
	Text      string
	Quantity  string
	Base      string
	Rate      string
	Amount    money.Amount // negative: the partner is charged
	Corrects  period.Month // zero: no correction
}

// Method is one version of a contract: how its fees are computed, the document as it
// was agreed, and what was found when it was approved.
type Method struct {
	Contract  string
	Version   int
	Document  string
	Schedule  Schedule
	Costs     map[string]string // cost basis by rule, of rules that record one
	Criteria  map[string]string // criterion by rule, of rules that record one
	Approvals []Approval
}

// Approval is who approved a version, when, and what the screen had found.
type Approval struct {
	By    string  `json:"by"`
	At    string  `json:"at"`
	Found *Result `json:"found"` // nil: it was approved without a screen
}

// File is one file of a pack.
type File struct {
	Name    string `json:"name"` // with slashes, relative to the folder
	SHA256  string `json:"sha256"`
	Bytes   int    `json:"bytes"`
	Content []byte `json:"-"`
}

// IndexName is the file of a pack that lists the others with their digests.
const IndexName = "index.json"

// Pack makes the files of a pack, the index last.
func Pack(in PackInput) ([]File, error) {
	in.Lines, in.Methods = slices.Clone(in.Lines), slices.Clone(in.Methods)
	slices.SortFunc(in.Lines, func(a, b FeeLine) int {
		return cmp.Or(a.Month.Compare(b.Month), strings.Compare(a.Statement, b.Statement), a.Number-b.Number)
	})
	slices.SortFunc(in.Methods, func(a, b Method) int { return cmp.Or(strings.Compare(a.Contract, b.Contract), a.Version-b.Version) })
	of := map[methodKey]Method{}
	for _, m := range in.Methods {
		of[methodKey{m.Contract, m.Version}] = m
	}
	fees, err := in.fees(of)
	if err != nil {
		return nil, err
	}
	classes, err := in.classes(of)
	if err != nil {
		return nil, err
	}
	files := []File{file("by-class.csv", classes)}
	for _, m := range in.Methods {
		files = append(files, file(m.document(), []byte(m.Document)))
	}
	methods, err := in.methods()
	if err != nil {
		return nil, err
	}
	files = append(files, file("fees.csv", fees), file("methods.json", methods))
	index, err := indented(struct {
		Notice string       `json:"notice"`
		Entity string       `json:"entity"`
		From   period.Month `json:"from"`
		Until  period.Month `json:"until"`
		Lines  int          `json:"fee_lines"`
		Files  []File       `json:"files"`
	}{Notice, in.Entity, in.From, in.Until, len(in.Lines), files})
	if err != nil {
		return nil, err
	}
	return append(files, file(IndexName, index)), nil
}

type methodKey struct {
	contract string
	version  int
}

func file(name string, content []byte) File {
	sum := sha256.Sum256(content)
	return File{name, hex.EncodeToString(sum[:]), len(content), content}
}

func (m Method) document() string { return fmt.Sprintf("contracts/%s.v%d.yaml", m.Contract, m.Version) }

// fees is one row for each line.
func (in PackInput) fees(of map[methodKey]Method) ([]byte, error) {
	rows := [][]string{{"month", "statement", "line", "partner", "payer", "contract", "version", "rule", "kind", "class", "text",
		"quantity", "base", "rate", "amount", "currency", "cost_basis", "criterion", "corrects"}}
	for _, l := range in.Lines {
		m, ok := of[methodKey{l.Contract, l.Version}]
		if !ok && l.Rule != "" {
			return nil, fmt.Errorf("pack: line %d of %s: the method of %s version %d is not given", l.Number, l.Statement, l.Contract, l.Version)
		}
		corrects := ""
		if l.Corrects != (period.Month{}) {
			corrects = l.Corrects.String()
		}
		rows = append(rows, []string{l.Month.String(), l.Statement, strconv.Itoa(l.Number), string(l.Partner), string(l.Payer), l.Contract, strconv.Itoa(l.Version),
			l.Rule, l.Kind, string(l.Class), l.Text, l.Quantity, l.Base, l.Rate, l.Amount.Plain(), string(l.Amount.Currency),
			m.Costs[l.Rule], m.Criteria[l.Rule], corrects})
	}
	return csvOf(rows)
}

// classSum is what was charged and paid in a class in a month.
type classSum struct {
	lines         int
	charged, paid money.Amount
	costs         []string
	bare          int // lines of rules without a cost basis
}

// classes is one row for each month, class and currency.
func (in PackInput) classes(of map[methodKey]Method) ([]byte, error) {
	type key struct {
		month    period.Month
		class    metering.Class
		currency money.Currency
	}
	sums := map[key]*classSum{}
	var order []key
	for _, l := range in.Lines {
		k := key{l.Month, l.Class, l.Amount.Currency}
		s := sums[k]
		if s == nil {
			zero := money.New(0, k.currency)
			s = &classSum{charged: zero, paid: zero}
			sums[k], order = s, append(order, k)
		}
		if err := s.add(l, of[methodKey{l.Contract, l.Version}].Costs[l.Rule]); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(order, func(a, b key) int {
		return cmp.Or(a.month.Compare(b.month), cmp.Compare(a.class, b.class), cmp.Compare(a.currency, b.currency))
	})
	rows := [][]string{{"month", "class", "currency", "lines", "charged_to_partners", "paid_to_partners", "lines_without_cost_basis", "cost_bases"}}
	for _, k := range order {
		s := sums[k]
		slices.Sort(s.costs)
		rows = append(rows, []string{k.month.String(), cmp.Or(string(k.class), "none"), string(k.currency), strconv.Itoa(s.lines), s.charged.Plain(), s.paid.Plain(),
			strconv.Itoa(s.bare), strings.Join(slices.Compact(s.costs), "; ")})
	}
	return csvOf(rows)
}

func (s *classSum) add(l FeeLine, costs string) (err error) {
	s.lines++
	if costs == "" {
		s.bare++
	} else {
		s.costs = append(s.costs, costs)
	}
	if l.Amount.Minor < 0 {
		s.charged, err = s.charged.Sub(l.Amount)
	} else {
		s.paid, err = s.paid.Add(l.Amount)
	}
	if err != nil {
		return fmt.Errorf("pack: class %s of %s: %w", l.Class, l.Month, err)
	}
	return nil
}

// methods is every version in words, with its document's digest and its approvals.
func (in PackInput) methods() ([]byte, error) {
	type version struct {
		Contract  string            `json:"contract"`
		Version   int               `json:"version"`
		Document  string            `json:"document"`
		SHA256    string            `json:"document_sha256"`
		Method    Schedule          `json:"method"`
		Costs     map[string]string `json:"cost_basis_by_rule"`
		Criteria  map[string]string `json:"criterion_by_rule"`
		Approvals []Approval        `json:"approvals"`
	}
	out := make([]version, 0, len(in.Methods))
	for _, m := range in.Methods {
		out = append(out, version{m.Contract, m.Version, m.document(), file("", []byte(m.Document)).SHA256, m.Schedule, m.Costs, m.Criteria, m.Approvals})
	}
	return indented(out)
}

func indented(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return append(b, '\n'), nil
}

func csvOf(rows [][]string) ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	if err := w.WriteAll(rows); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return b.Bytes(), nil
}
