package pricing_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"mete/internal/testdata"
	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// usageCase is a worked example of usage pricing published by a billing product.
type usageCase struct {
	ID         string     `json:"id"`
	Model      string     `json:"model"`
	Parameters parameters `json:"parameters"`
	Input      caseInput  `json:"input"`
	Expected   amount     `json:"expected_amount"`
	Sequence   []string   `json:"expected_amounts"`
	Rounded    bool       `json:"rounded_to_currency"`
}

type parameters struct {
	Base         string `json:"base_model"`
	Unit         string `json:"unit_amount"`
	Multiplier   string `json:"multiplier"`
	Amount       string `json:"amount"`
	Discount     string `json:"discount_units"`
	FreeUsage    string `json:"usage_discount_units"`
	Mode         string `json:"mode"`
	Precision    int32  `json:"precision"`
	Zone         string `json:"timezone"`
	PackageSize  string `json:"package_size"`
	PackagePrice string `json:"package_amount"`
	FreeUnits    string `json:"free_units"`
	Rounding     string `json:"rounding"`
	Policy       string `json:"policy"`
	Rate         string `json:"rate_percent"`
	Fixed        string `json:"fixed_amount_per_event"`
	FreeEvents   int    `json:"free_events"`
	FreeAmount   string `json:"free_amount"`
	Min          string `json:"per_event_min"`
	Max          string `json:"per_event_max"`
	Tax          string `json:"tax_rate_percent"`
	Minimum      string `json:"minimum_amount"`
	Maximum      string `json:"maximum_amount"`
	Operation    string `json:"operation"`
	Factor       string `json:"factor"`
	Tiers        []tier `json:"tiers"`
	Convert      *struct {
		Operation string `json:"operation"`
		Factor    string `json:"factor"`
		Rounding  string `json:"rounding"`
	} `json:"unit_conversion"`
	Units      map[string][]tier `json:"units"`
	PeriodDays int               `json:"period_days,string"`
	Remaining  int               `json:"remaining_days,string"`
	CycleDay   int               `json:"bill_cycle_day"`
	Timing     string            `json:"timing"`
	Period     struct {
		From string `json:"from"`
	} `json:"period"`
}

// amount is a decimal, or a sum of fractions such as "1 + 3/31".
type amount struct{ decimal.Decimal }

func (a *amount) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	for _, part := range strings.Split(text, "+") {
		over, under, fraction := strings.Cut(strings.TrimSpace(part), "/")
		d, err := decimal.NewFromString(over)
		if err != nil {
			return err
		}
		if fraction {
			n, err := decimal.NewFromString(under)
			if err != nil {
				return err
			}
			d = d.DivRound(n, 24)
		}
		a.Decimal = a.Add(d)
	}
	return nil
}

// tier is a step as the published examples write it.
type tier struct {
	UpTo   *string            `json:"up_to"`
	Unit   string             `json:"unit_amount"`
	Flat   string             `json:"flat_amount"`
	Cap    string             `json:"cap_amount"`
	Rate   string             `json:"rate_percent"`
	Size   string             `json:"block_size"`
	Blocks *string            `json:"max_blocks"`
	Block  string             `json:"block_amount"`
	Amount string             `json:"amount"`
	Limits map[string]*string `json:"limits"`
}

type caseInput struct {
	Quantity   string            `json:"quantity"`
	Before     string            `json:"pre_period_quantity"`
	Billed     string            `json:"already_billed"`
	Position   string            `json:"position"`
	Quantities map[string]string `json:"quantities"`
	Buckets    []string          `json:"bucket_quantities"`
	Cumulative []string          `json:"cumulative_quantities"`
	Value      string            `json:"value"`
	Lines      []string          `json:"line_amounts"`
	Amounts    []string          `json:"event_amounts"`
	Paid       []string          `json:"transaction_amounts"`
	EventMinor string            `json:"sum_event_amount_minor"`
	Units      []string          `json:"event_full_units"`
	Used       string            `json:"used_amount"`
	BilledDays int               `json:"billed_days,string"`
	UnusedDays int               `json:"unused_days,string"`
	Old        string            `json:"old_amount"`
	New        string            `json:"new_amount"`
	Net        string            `json:"net_amount"`
	PaidNet    string            `json:"paid_net_amount"`
	FullNet    string            `json:"full_net_amount"`
	Start      string            `json:"start"`
	End        string            `json:"end"`
	Target     string            `json:"target"`
	UntilDay   string            `json:"to_inclusive"`
	Potential  string            `json:"potential_credit"`
	Original   string            `json:"original_amount"`
	Previous   string            `json:"previous_credits"`
	Windows    []struct {
		Quantity string `json:"quantity"`
		Unit     string `json:"unit_amount"`
		Type     string `json:"commitment_type"`
		Value    string `json:"commitment_value"`
		Factor   string `json:"overage_factor"`
		TrueUp   bool   `json:"true_up"`
	} `json:"windows"`
	Full     string `json:"full_quantity"`
	Prorated string `json:"prorated_quantity"`
	Carried  string `json:"carried_units"`
	Changes  []struct {
		At    time.Time `json:"at"`
		Delta string    `json:"delta"`
	} `json:"changes"`
	Events []struct {
		Date  string `json:"date"`
		Units string `json:"units"`
	} `json:"events"`
	Repeat *struct {
		Amount string `json:"amount"`
		Count  int    `json:"count"`
	} `json:"repeat"`
	From instantOrDay `json:"from"`
	To   instantOrDay `json:"to"`
}

// instantOrDay is an instant, or the first one of a day.
type instantOrDay struct{ time.Time }

func (i *instantOrDay) UnmarshalJSON(b []byte) (err error) {
	text := strings.Trim(string(b), `"`)
	if i.Time, err = time.Parse("2006-01-02", text); err != nil {
		i.Time, err = time.Parse(time.RFC3339, text)
	}
	return err
}

func readCases[T any](t *testing.T, file string) []T {
	b, err := os.ReadFile(filepath.Join(testdata.Dir(t), "cases", file))
	if err != nil {
		t.Fatal(err)
	}
	var f struct{ Cases []json.RawMessage }
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	var out []T
	for _, raw := range f.Cases {
		var c T
		if err := json.Unmarshal(raw, &c); err != nil { // a shape no covered case has
			var id struct{ ID string }
			json.Unmarshal(raw, &id)
			if waitsFor(id.ID) == "" {
				t.Fatalf("%s: %v", id.ID, err)
			}
			continue
		}
		out = append(out, c)
	}
	return out
}

func waitsFor(id string) string {
	for what, ids := range waiting {
		if slices.Contains(ids, id) {
			return what
		}
	}
	return ""
}

// ladder writes the case's tiers as a price of the model; the last step is open.
func (p parameters) ladder(model string, atZero bool) string {
	var steps []string
	for i, s := range p.Tiers {
		var fields []string
		if s.UpTo != nil && i < len(p.Tiers)-1 {
			fields = append(fields, "to: "+*s.UpTo)
		}
		if s.Rate != "" {
			fields = append(fields, "rate: "+s.Rate+"%")
		} else {
			fields = append(fields, "unit: "+s.Unit)
		}
		if s.Flat != "" {
			fields = append(fields, "flat: "+s.Flat)
		}
		if s.Cap != "" {
			fields = append(fields, "cap: "+s.Cap)
		}
		steps = append(steps, "{"+strings.Join(fields, ", ")+"}")
	}
	zero := ""
	if atZero {
		zero = ", charge_at_zero: true"
	}
	return "{model: " + model + ", steps: [" + strings.Join(steps, ", ") + "]" + zero + "}"
}

// blockSteps writes tiers of blocks as steps that end where their blocks do.
func blockSteps(tiers []tier) string {
	var steps []string
	end := decimal.Zero
	for i, s := range tiers {
		to := ""
		if s.Blocks != nil && i < len(tiers)-1 {
			end = end.Add(dec(s.Size).Mul(dec(*s.Blocks)))
			to = "to: " + end.String() + ", "
		}
		steps = append(steps, fmt.Sprintf("{%ssize: %s, price: %s}", to, s.Size, s.Block))
	}
	return "[" + strings.Join(steps, ", ") + "]"
}

// price writes the case's model as a contract says it.
func (p parameters) price(model string, atZero bool) string {
	switch model {
	case "per_unit":
		return "{model: per_unit, unit: " + p.Unit + "}"
	case "multiplier":
		return "{model: multiplier, factor: " + p.Multiplier + "}"
	case "package", "package_count":
		amount := p.PackagePrice
		if amount == "" {
			amount = "1"
		}
		return fmt.Sprintf("{model: package, size: %s, price: %s, partial: %s}", p.PackageSize, amount, p.Rounding)
	case "block_tiers":
		how := map[string]string{"ALL_TIERS": "each_step", "TOP_TIER": "top_step"}[p.Policy]
		return "{model: block, blocks: " + how + ", steps: " + blockSteps(p.Tiers) + "}"
	case "percentage":
		fields := []string{"model: percentage", "rate: " + p.Rate + "%", "fixed: " + p.Fixed}
		if p.FreeEvents > 0 {
			fields = append(fields, fmt.Sprint("free_events: ", p.FreeEvents))
		}
		for name, v := range map[string]string{"free_amount": p.FreeAmount, "min": p.Min, "max": p.Max} {
			if v != "" {
				fields = append(fields, name+": "+v)
			}
		}
		return "{" + strings.Join(fields, ", ") + "}"
	}
	return p.ladder(model, atZero)
}

// roundings are the names that published examples use.
var roundings = map[string]string{"ceil": "up", "floor": "down", "half_up": "half_up"}

// quantity writes what is priced of the usage; empty when all of it is.
func (p parameters) quantity() string {
	var fields []string
	if c := p.Convert; c != nil {
		fields = append(fields, c.Operation+"_by: "+c.Factor)
		if c.Rounding != "none" {
			fields = append(fields, "round: "+roundings[c.Rounding])
		}
	}
	for _, free := range []string{p.FreeUsage, p.FreeUnits} {
		if free != "" && free != "0" {
			fields = append(fields, "free: "+free)
		}
	}
	if fields == nil {
		return ""
	}
	return ", quantity: {" + strings.Join(fields, ", ") + "}"
}

// rules are the case's price, with its minimum and maximum as rules that follow it. What
// is asked for beyond the charges is asked for when the window ends.
func (p parameters) rules(model, window string, atZero bool) []string {
	rules := []string{"{id: u, kind: usage_fee, meter: m, window: " + window + ", price: " + p.price(model, atZero && p.Minimum == "") + p.quantity() + "}"}
	if p.Maximum != "" {
		rules = append(rules, "{id: most, kind: cap, on: [u], window: "+window+", maximum: "+p.Maximum+"}")
	}
	if p.Minimum != "" {
		rules = append(rules, "{id: least, kind: commitment, on: [u], window: "+window+", minimum: "+p.Minimum+"}")
	}
	return rules
}

// charge prices a quantity on top of one used before, in a window that runs on.
func charge(t *testing.T, priceOf, window, before, quantity string, exact bool) decimal.Decimal {
	terms := parse(t, doc("{id: u, kind: usage_fee, meter: m, window: "+window+", price: "+priceOf+"}"))
	in := month("2026-01", []*pricing.Terms{terms}, nil)
	if q := dec(quantity); !q.IsZero() {
		in.Segments[0].Usage = []metering.Usage{calls(quantity, "c1")}
	}
	if before != "" && !dec(before).IsZero() {
		in.Before = []pricing.Total{{Contract: "c", Rule: "u", What: "quantity", Scope: "partner:quill", Since: terms.From, Value: dec(before)}}
	}
	return sum(price(t, in), "u", "", exact).Neg()
}

// from is a contract that begins on a day.
func from(text, day string) string {
	return strings.Replace(text, "from: 2015-01-01", "from: "+day, 1)
}

// used is what happens in one month of a case.
type used struct {
	month string
	cells []metering.Usage
	txs   []metering.Transaction
}

// statements prices months one after the other under the rules, and is what each of
// them charges.
func statements(t *testing.T, exact bool, rules []string, months ...used) []decimal.Decimal {
	t.Helper()
	return statementsOf(t, exact, []*pricing.Terms{parse(t, doc(rules...))}, months...)
}

func statementsOf(t *testing.T, exact bool, terms []*pricing.Terms, months ...used) []decimal.Decimal {
	t.Helper()
	var before []pricing.Total
	var out []decimal.Decimal
	for _, m := range months {
		in := month(m.month, terms, m.txs, m.cells...)
		in.Meters = caseMeters()
		in.Before = before
		res := price(t, in)
		before = res.After
		out = append(out, sum(res, "", "", exact).Neg())
	}
	return out
}

// caseMeters are m, which counts calls, and meters of seats that are added and removed,
// of whatever is called unit1 to unit3, FOO and BAR, and of what events say they cost.
func caseMeters() []metering.Meter {
	meters := []metering.Meter{{ID: "m", Type: metering.UsageAPI, Aggregate: metering.AggregateQuantity}}
	for _, id := range []string{"added", "removed", "unit1", "unit2", "unit3", "FOO", "BAR"} {
		meters = append(meters, metering.Meter{ID: id, Type: "usage." + strings.ToLower(id), Aggregate: metering.AggregateQuantity})
	}
	return meters
}

// usedOf is a cell of usage of one of the case meters.
func usedOf(meter, quantity string) metering.Usage {
	u := calls(quantity, "c1")
	u.Type, u.Count = "usage."+strings.ToLower(meter), 1
	return u
}

// change is an event that adds or removes units.
func change(id string, at time.Time, delta string) metering.Transaction {
	d := dec(delta)
	x := tx("usage.added", id, at, "0")
	if d.IsNegative() {
		x.Type = "usage.removed"
	}
	q := d.Abs()
	x.Data = metering.Data{App: "a", Quantity: &q}
	return x
}

// inPosition is the months of a case that stands alone, in the middle or at the end of
// a period: a quarter whose earlier months hold what came before.
func inPosition(in caseInput) (window string, months []used) {
	cell := func(q string) []metering.Usage {
		if q == "" || dec(q).IsZero() {
			return nil
		}
		return []metering.Usage{calls(q, "c1")}
	}
	now := cell(in.Quantity)
	switch in.Position {
	case "mid":
		return "quarter", []used{{"2026-01", cell(in.Before), nil}, {"2026-02", now, nil}}
	case "last":
		return "quarter", []used{{"2026-02", cell(in.Before), nil}, {"2026-03", now, nil}}
	}
	return "month", []used{{"2026-01", now, nil}}
}

// days are events on days of January 2026.
func onDays(units []string, on []int) []metering.Transaction {
	var out []metering.Transaction
	for i, u := range units {
		out = append(out, change(fmt.Sprint("e", i), time.Date(2026, 1, on[i], 10, i, 0, 0, time.UTC), u))
	}
	return out
}

// givenDays are the days on which a case's events must lie in a month of 31 days, or of
// 30 in the last two, for their prorated units to be what the case says.
var givenDays = map[string][]int{
	"lago-prograd-004": {10, 20, 25, 27, 30}, // 22, 12, 7, 5 and 2 days left of 31
	"lago-prograd-008": {19, 21},             // 12 and 10 days left of 30
	"lago-prograd-009": {19, 21},
	"lago-prograd-013": {1},
}

func TestUsageCases(t *testing.T) {
	const life = "lifetime since 2015-01-01"
	covered := 0
	for _, c := range readCases[usageCase](t, "usage_pricing.json") {
		if waitsFor(c.ID) != "" {
			continue
		}
		covered++
		t.Run(c.ID, func(t *testing.T) {
			p, in := c.Parameters, c.Input
			var got decimal.Decimal
			switch c.Model {
			case "per_unit", "graduated", "volume", "package", "package_count", "multiplier":
				if in.Position == "" && in.Before != "" && !dec(in.Before).IsZero() {
					got = charge(t, p.price(c.Model, false), life, in.Before, in.Quantity, !c.Rounded)
					break
				}
				zero := dec(in.Quantity).IsZero() && c.Expected.IsPositive()
				window, months := inPosition(in)
				all := statements(t, !c.Rounded, p.rules(c.Model, window, zero), months...)
				got = all[len(all)-1]
			case "tier_selection": // each step costs its number
				for i := range p.Tiers {
					p.Tiers[i].Unit, p.Tiers[i].Flat = "0", fmt.Sprint(i+1)
				}
				got = charge(t, p.ladder("volume", false), "month", "", in.Quantity, true)
			case "bucketed_sum": // buckets are days, or customers, each with a ladder of its own
				var cells []metering.Usage
				var days []metering.Transaction
				for i, q := range in.Buckets {
					cells = append(cells, calls(q, fmt.Sprintf("bucket%d", i)))
					days = append(days, change(fmt.Sprint("b", i), time.Date(2026, 1, 2+i, 12, 0, 0, 0, time.UTC), q))
				}
				got = statements(t, true, []string{"{id: u, kind: usage_fee, meter: m, per: customer, price: " + p.ladder(p.Base, false) + "}"}, used{"2026-01", cells, nil})[0]
				if same := statements(t, true, []string{"{id: u, kind: usage_fee, meter: added, quantity: {each: day}, price: " + p.ladder(p.Base, false) + "}"}, used{"2026-01", nil, days})[0]; !same.Equal(got) {
					t.Errorf("%s by customer, %s by day", got, same)
				}
			case "block_tiers": // what was billed already was used in the month before
				months := []used{{"2026-02", []metering.Usage{calls(in.Quantity, "c1")}, nil}}
				if in.Billed != "" {
					rest := dec(in.Quantity).Sub(dec(p.Tiers[0].Size)).String()
					months = []used{{"2026-01", []metering.Usage{calls(p.Tiers[0].Size, "c1")}, nil}, {"2026-02", []metering.Usage{calls(rest, "c1")}, nil}}
				}
				all := statements(t, true, []string{"{id: u, kind: usage_fee, meter: m, window: quarter, price: " + p.price(c.Model, false) + "}"}, months...)
				got = all[len(all)-1]
			case "block_tiers_multi_unit":
				var rules []string
				var cells []metering.Usage
				for _, unit := range slices.Sorted(maps.Keys(p.Units)) {
					rules = append(rules, "{id: "+strings.ToLower(unit)+", kind: usage_fee, meter: "+unit+", price: {model: block, steps: "+blockSteps(p.Units[unit])+"}}")
					cells = append(cells, usedOf(unit, in.Quantities[unit]))
				}
				got = statements(t, true, rules, used{"2026-01", cells, nil})[0]
			case "capacity_tiers":
				var steps []string
				for i, s := range p.Tiers {
					var limits []string
					for _, unit := range slices.Sorted(maps.Keys(s.Limits)) {
						if to := s.Limits[unit]; to != nil && i < len(p.Tiers)-1 {
							limits = append(limits, unit+": "+*to)
						}
					}
					step := "{price: " + s.Amount + "}"
					if limits != nil {
						step = "{limits: {" + strings.Join(limits, ", ") + "}, price: " + s.Amount + "}"
					}
					steps = append(steps, step)
				}
				var cells []metering.Usage
				for _, unit := range slices.Sorted(maps.Keys(in.Quantities)) {
					cells = append(cells, usedOf(unit, in.Quantities[unit]))
				}
				got = statements(t, true, []string{"{id: u, kind: usage_fee, price: {model: capacity, steps: [" + strings.Join(steps, ", ") + "]}}"}, used{"2026-01", cells, nil})[0]
			case "event_supplied_amount":
				cell := calls("1", "c1")
				cell.Quantity, cell.Amount, cell.Currency = dec(in.Quantity), dec(in.EventMinor).Shift(-2), "USD"
				got = statements(t, true, []string{"{id: u, kind: usage_fee, meter: m, price: {model: event_amount}}"}, used{"2026-01", []metering.Usage{cell}, nil})[0]
			case "graduated_percentage":
				zero := dec(in.Quantity).IsZero() && c.Expected.IsPositive()
				got = charge(t, p.ladder(c.Model, zero), "month", "", in.Quantity, true)
			case "graduated_percentage_sequence", "percentage":
				amounts, model := in.Amounts, "percentage"
				if in.Paid != nil {
					amounts, model = in.Paid, "graduated_percentage"
				}
				var sales []metering.Transaction
				for i, a := range amounts {
					sales = append(sales, tx(metering.SalePaid, fmt.Sprint("s", i), time.Date(2026, 1, 2, 10, i, 0, 0, time.UTC), a))
				}
				rules := []string{"{id: u, kind: usage_fee, of: sale.paid, price: " + p.price(model, false) + "}"}
				if p.Tax != "" {
					rules = append(rules, "{id: tax, kind: tax, on: [u], rate: "+p.Tax+"%, jurisdiction: x}")
				}
				got = statements(t, p.Tax == "", rules, used{"2026-01", nil, sales})[0]
			case "round_quantity": // a quantity is what it costs at 1 each
				to := decimal.New(1, -p.Precision).String()
				got = charge(t, "{model: per_unit, unit: 1}, quantity: {round: "+roundings[p.Mode]+", to: "+to+"}", "month", "", in.Value, true)
			case "unit_conversion":
				p.Convert = &struct {
					Operation string `json:"operation"`
					Factor    string `json:"factor"`
					Rounding  string `json:"rounding"`
				}{p.Operation, p.Factor, p.Rounding}
				got = charge(t, "{model: per_unit, unit: 1}"+p.quantity(), "month", "", in.Quantity, true)
			case "weighted_sum_per_unit":
				rule := "{id: u, kind: usage_fee, meter: added, quantity: {as: weighted, less: removed}, price: {model: per_unit, unit: " + p.Unit + "}}"
				from, _ := time.Parse("2006-01-02", p.Period.From)
				last := from.AddDate(0, -1, 0)
				carried := change("carried", last, in.Carried)
				var now []metering.Transaction
				for i, x := range in.Changes {
					now = append(now, change(fmt.Sprint("c", i), x.At, x.Delta))
				}
				got = statements(t, false, []string{rule}, used{last.Format("2006-01"), nil, []metering.Transaction{carried}}, used{from.Format("2006-01"), nil, now})[1]
			case "graduated_prorated_events", "volume_prorated":
				model, on, units := "graduated", givenDays[c.ID], in.Units
				if c.Model == "volume_prorated" { // 258 for 20 and 42 for 19 of 30 days are 198.6 of 300
					model, on, units = "volume", []int{11, 12}, []string{"258", "42"}
				}
				rule := "{id: u, kind: usage_fee, meter: added, quantity: {as: prorated, less: removed}, price: " + p.ladder(model, false) + "}"
				txs, name := onDays(units, on), "2026-01"
				if c.ID != "lago-prograd-004" && c.ID != "lago-prograd-013" { // in April, of 30 days
					name = "2026-04"
					for i := range txs {
						txs[i].Time = txs[i].Time.AddDate(0, 3, 0)
					}
				}
				got = statements(t, false, []string{rule}, used{name, nil, txs})[0]
			case "graduated_prorated_calendar":
				rule := "{id: u, kind: usage_fee, meter: added, quantity: {as: prorated, less: removed}, price: " + p.ladder("graduated", true) + "}"
				from, _ := time.Parse("2006-01-02", p.Period.From)
				var before, now []metering.Transaction
				if !dec(in.Carried).IsZero() {
					before = append(before, change("carried", from.AddDate(0, -1, 3), in.Carried))
				}
				for i, x := range in.Events {
					at, _ := time.Parse("2006-01-02", x.Date)
					now = append(now, change(fmt.Sprint("c", i), at.Add(time.Hour), x.Units))
				}
				got = statements(t, false, []string{rule}, used{from.AddDate(0, -1, 0).Format("2006-01"), nil, before}, used{from.Format("2006-01"), nil, now})[1]
			case "delta_sequence": // the month priced again with more in it; the difference is billed
				posted := decimal.Zero
				for i, q := range in.Cumulative {
					now := statements(t, false, p.rules(p.Base, "month", false), used{"2026-01", []metering.Usage{calls(q, "c1")}, nil})[0]
					if got = now.Sub(posted); !got.Equal(dec(c.Sequence[i])) {
						t.Errorf("phase %d: %s, want %s", i, got, c.Sequence[i])
					}
					posted = now
				}
			case "usage_discount": // an allowance is a first step at 0
				model := "{model: graduated, steps: [{to: " + p.Discount + ", unit: 0}, {unit: 1}]}"
				got = charge(t, model, life, in.Before, in.Quantity, true)
			case "flat_fee":
				fee := doc("{id: u, kind: fixed_fee, class: listing, due: monthly, amount: " + p.Amount + ", charged: " + p.Timing + "}")
				versions := []*pricing.Terms{parse(t, fee)}
				if in.Position == "mid" { // what the terms of the first half charge: nothing, since the month does not end in it
					versions = append(versions, parse(t, from(doc("{id: other, kind: fixed_fee, class: listing, due: once, amount: 0}"), "2026-01-16")))
				}
				got = statementsOf(t, false, versions, used{month: "2026-01"})[0]
			case "minimum_true_up":
				text := doc("{id: u, kind: usage_fee, meter: m, price: {model: per_unit, unit: 1}}",
					"{id: least, kind: commitment, on: [u], prorate: day, minimum: "+p.Minimum+"}")
				if p.Precision == 0 && p.PeriodDays == 0 {
					text = strings.Replace(text, "zone: UTC", "zone: UTC\nrounding: {places: 0}", 1)
				}
				if p.PeriodDays > 0 { // February, of 28 days
					text = from(text, period.Date{Year: 2026, Month: 3, Day: 1}.AddDays(-in.BilledDays).String())
				}
				month := used{"2026-02", []metering.Usage{calls(in.Used, "c1")}, nil}
				charged := calls(in.Used, "c1")
				got = statementsOf(t, false, []*pricing.Terms{parse(t, text)}, month)[0].
					Sub(charged.Quantity.Round(map[bool]int32{true: 0, false: 2}[p.Precision == 0 && p.PeriodDays == 0]))
			case "commitment_overage_true_up":
				for _, w := range in.Windows {
					least := map[string]string{"amount": "minimum", "quantity": "units"}[w.Type] + ": " + w.Value
					got = got.Add(statements(t, false, []string{"{id: u, kind: usage_fee, meter: m, price: {model: per_unit, unit: " + w.Unit + "}}",
						fmt.Sprintf("{id: least, kind: commitment, on: [u], %s, overage: %s, true_up: %t}", least, w.Factor, w.TrueUp)},
						used{"2026-01", []metering.Usage{calls(w.Quantity, "c1")}, nil})[0])
				}
			case "credit_cap":
				text := doc("{id: fee, kind: fixed_fee, class: support, due: monthly, amount: "+in.Original+"}",
					"{id: first, kind: credit, on: [fee], amount: "+in.Previous+"}",
					"{id: more, kind: credit, on: [fee, first], amount: "+in.Potential+"}")
				terms, err := pricing.ParseTerms("c.yaml", []byte(text))
				if dec(in.Potential).IsNegative() { // is no credit
					if err == nil || !strings.Contains(err.Error(), "is negative") {
						t.Errorf("a negative credit: %v", err)
					}
					break
				}
				got = sum(price(t, month("2026-01", []*pricing.Terms{terms}, nil)), "more", "", false)
			case "plan_change_proration":
				fee := func(amount string) string {
					return strings.Replace(doc("{id: plan, kind: fixed_fee, class: support, due: monthly, prorate: day, amount: "+amount+"}"), "zone: UTC", "zone: UTC\nrounding: {per: transaction}", 1)
				}
				on := period.Date{Year: 2026, Month: 2, Day: 1}.AddDays(-p.Remaining)
				got = statementsOf(t, false, []*pricing.Terms{parse(t, fee(in.Old)), parse(t, from(fee(in.New), on.String()))}, used{month: "2026-01"})[0].Sub(dec(in.Old))
			case "billing_cycles_monthly_in_advance":
				effective := "from: " + in.Start
				if in.End != "" {
					effective += ", until: " + in.End
				}
				text := strings.Replace(doc(fmt.Sprintf("{id: plan, kind: fixed_fee, class: support, due: monthly on %d, prorate: day, amount: 1}", p.CycleDay)), "from: 2015-01-01", effective, 1)
				var months []used
				start, _ := period.ParseMonth(in.Start[:7])
				last, _ := period.ParseMonth(in.Target[:7])
				for m := start; !last.Before(m); m = m.Add(1) {
					months = append(months, used{month: m.String()})
				}
				for _, cycles := range statementsOf(t, true, []*pricing.Terms{parse(t, text)}, months...) {
					got = got.Add(cycles)
				}
				got = got.Round(10)
				c.Expected = amount{c.Expected.Round(10)}
			case "prorated_credit_with_tax": // what the terms after it give back of the plan, and its tax
				plan := doc("{id: plan, kind: fixed_fee, class: support, due: every "+fmt.Sprint(p.PeriodDays)+" days, prorate: day, amount: "+in.PaidNet+"}", "{id: tax, kind: tax, on: [plan], rate: "+p.Tax+"%, jurisdiction: x}")
				none := doc("{id: plan, kind: fixed_fee, class: support, due: monthly, prorate: day, amount: 0}", "{id: tax, kind: tax, on: [plan], rate: "+p.Tax+"%, jurisdiction: x}")
				begin := period.Date{Year: 2026, Month: 1, Day: 31}
				terms := []*pricing.Terms{parse(t, from(plan, begin.AddDays(1-p.PeriodDays+in.UnusedDays).String())), parse(t, from(none, "2026-02-01"))}
				got = statementsOf(t, false, terms, used{month: "2026-01"}, used{month: "2026-02"})[1].Neg()
			case "prorated_fee_with_tax":
				text := doc("{id: plan, kind: fixed_fee, class: support, due: monthly, prorate: day, amount: "+in.FullNet+"}", "{id: tax, kind: tax, on: [plan], rate: "+p.Tax+"%, jurisdiction: x}")
				begin := period.Date{Year: 2026, Month: 2, Day: 1}.AddDays(-in.BilledDays)
				got = statementsOf(t, false, []*pricing.Terms{parse(t, from(text, begin.String()))}, used{month: "2026-01"})[0]
			case "tax_on_amount":
				terms := parse(t, doc("{id: plan, kind: fixed_fee, class: support, due: monthly, amount: "+in.Net+"}", "{id: tax, kind: tax, on: [plan], rate: "+p.Tax+"%, jurisdiction: x}"))
				got = sum(price(t, month("2026-01", []*pricing.Terms{terms}, nil)), "tax", "", false).Neg()
			case "proration_coefficient":
				last, _ := period.ParseDate(in.UntilDay)
				text := strings.Replace(doc("{id: plan, kind: fixed_fee, class: support, due: monthly, prorate: day, amount: 1}"), "from: 2015-01-01", "from: "+in.From.Format("2006-01-02")+", until: "+last.AddDays(1).String(), 1)
				got = statementsOf(t, true, []*pricing.Terms{parse(t, text)}, used{month: in.From.Format("2006-01")})[0]
			case "round_money":
				got = money.RoundDecimal(dec(in.Value), p.Precision, money.HalfUp)
			case "sum_of_rounded_lines":
				lines := in.Lines
				if in.Repeat != nil {
					lines = slices.Repeat([]string{in.Repeat.Amount}, in.Repeat.Count)
				}
				for _, l := range lines {
					got = got.Add(money.RoundDecimal(dec(l), p.Precision, money.HalfUp))
				}
			case "calendar_days_between":
				zone, err := time.LoadLocation(p.Zone)
				if err != nil {
					t.Fatal(err)
				}
				got = decimal.NewFromInt(int64(period.DateOf(in.From.Time, zone).DaysUntil(period.DateOf(in.To.Time, zone))))
			default:
				t.Fatalf("model %s is neither covered nor waiting", c.Model)
			}
			if !got.Equal(c.Expected.Decimal) {
				t.Errorf("got %s, want %s", got, c.Expected)
			}
		})
	}
	t.Logf("%d cases covered", covered)
}

type programCase struct {
	ID       string          `json:"id"`
	Terms    json.RawMessage `json:"terms"`
	Inputs   json.RawMessage `json:"inputs"`
	Expected json.RawMessage `json:"expected"`
}

func TestProgramCases(t *testing.T) {
	covered := 0
	for _, c := range readCases[programCase](t, "marketplace_programs.json") {
		if waitsFor(c.ID) != "" {
			continue
		}
		covered++
		t.Run(c.ID, func(t *testing.T) {
			check, ok := programs[c.ID]
			if !ok {
				check, ok = tierPrograms[c.ID]
			}
			if !ok {
				t.Fatal("neither covered nor waiting")
			}
			check(t, c)
		})
	}
	t.Logf("%d cases covered", covered)
}

func (c programCase) decode(t *testing.T, in, want any) {
	t.Helper()
	for raw, to := range map[*json.RawMessage]any{&c.Inputs: in, &c.Expected: want} {
		if err := json.Unmarshal(*raw, to); err != nil {
			t.Fatal(err)
		}
	}
}

func same(t *testing.T, what string, got decimal.Decimal, want string) {
	t.Helper()
	if !got.Equal(dec(want)) {
		t.Errorf("%s: got %s, want %s", what, got, want)
	}
}

func ladder(per, window, steps string) string {
	return "{id: s, kind: share, of: sale.paid, platform: {tiers: {on: gross, window: " + window + ", per: " + per + "}, steps: " + steps + "}}"
}

// gross is a month's or transaction's sales and what they come to.
type gross struct {
	Month    string `json:"month"`
	Date     string `json:"date"`
	Gross    string `json:"gross"`
	Fee      string `json:"platform_fee"`
	Payout   string `json:"partner_payout"`
	Customer string `json:"customer"`
	AppType  string `json:"app_type"`
}

// months prices one sale a month, each month's totals carried to the next.
func months(t *testing.T, terms []*pricing.Terms, in, want []gross) {
	var before []pricing.Total
	for i, g := range in {
		at, _ := time.Parse("2006-01", g.Month)
		input := month(g.Month, terms, []metering.Transaction{tx(metering.SalePaid, fmt.Sprint("s", i), at.Add(time.Hour), g.Gross)})
		input.Before = before
		res := price(t, input)
		same(t, g.Month+" fee", sum(res, "", "share", false).Neg(), want[i].Fee)
		same(t, g.Month+" payout", sum(res, "", "", false), want[i].Payout)
		before = res.After
	}
}

var programs = map[string]func(*testing.T, programCase){
	"impact-net45-published": impactNet45,
	"api-marginal-units": func(t *testing.T, c programCase) {
		var in struct{ Months []struct{ Units json.Number } }
		var want struct{ Months []struct{ Charge string } }
		c.decode(t, &in, &want)
		for i, m := range in.Months {
			got := charge(t, "{model: graduated, steps: [{to: 500, unit: 0}, {to: 3500, unit: 0.01}, {unit: 0.001}]}", "month", "", m.Units.String(), false)
			same(t, m.Units.String(), got, want.Months[i].Charge)
		}
	},
	"atlassian-2022-server-and-first-year": func(t *testing.T, c programCase) {
		var in, want struct{ Transactions []gross }
		c.decode(t, &in, &want)
		version := func(from string, rates ...string) *pricing.Terms {
			apps := []string{"server", "data-center", "cloud", "connect-first-year", "forge-first-year"}
			text := "contract: c\npartner: quill\napps: [" + strings.Join(apps, ", ") + "]\ncurrency: USD\nzone: UTC\neffective: {from: " + from + "}\nrules:\n"
			for i, r := range rates {
				text += fmt.Sprintf("  - {id: s%d, kind: share, of: sale.paid, apps: [%s], platform: {rate: %s}}\n", i, apps[i], r)
			}
			return parse(t, text)
		}
		terms := []*pricing.Terms{version("2020-04-01", "30%", "25%", "15%", "5%", "5%"), version("2022-04-01", "25%", "25%", "15%", "15%", "5%")}
		for i, g := range in.Transactions {
			at, _ := time.Parse("2006-01-02", g.Date)
			x := tx(metering.SalePaid, "s", at, g.Gross)
			x.Data.App = partner.AppID(strings.ReplaceAll(g.AppType, "_", "-"))
			res := price(t, month(g.Date[:7], terms, []metering.Transaction{x}))
			same(t, g.Date+" "+g.AppType, sum(res, "", "share", false).Neg(), want.Transactions[i].Fee)
			same(t, g.Date+" "+g.AppType, sum(res, "", "", false), want.Transactions[i].Payout)
		}
	},
	"salesforce-pnr-effective": func(t *testing.T, c programCase) {
		var in, want struct{ Months []gross }
		c.decode(t, &in, &want)
		old := doc("{id: s, kind: share, of: sale.paid, platform: {rate: 25%}}")
		now := strings.NewReplacer("2015-01-01", "2017-09-01", "25%", "15%").Replace(old)
		months(t, []*pricing.Terms{parse(t, old), parse(t, now)}, in.Months, want.Months)
	},
	"steam-three-tier": func(t *testing.T, c programCase) {
		var in, want struct{ Months []gross }
		c.decode(t, &in, &want)
		rule := ladder("app", "lifetime since 2015-01-01", "[{to: 10_000_000, rate: 30%}, {to: 50_000_000, rate: 25%}, {rate: 20%}]")
		months(t, []*pricing.Terms{parse(t, doc(rule))}, in.Months, want.Months)
	},
	"shopify-2021-50k-published": func(t *testing.T, c programCase) {
		var in struct {
			Gross []string `json:"annual_gross"`
		}
		var want struct {
			Old []string `json:"old_fee"`
			New []string `json:"new_fee"`
		}
		c.decode(t, &in, &want)
		at := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
		for i, g := range in.Gross {
			sale := []metering.Transaction{tx(metering.SalePaid, "s", at, g)}
			flat := parse(t, doc("{id: s, kind: share, of: sale.paid, platform: {rate: 20%}}"))
			tiers := parse(t, doc(ladder("partner", "year", "[{to: 1_000_000, rate: 0%}, {rate: 15%}]")))
			same(t, g+" old", sum(price(t, month("2026-01", []*pricing.Terms{flat}, sale)), "s", "share", false).Neg(), want.Old[i])
			same(t, g+" new", sum(price(t, month("2026-01", []*pricing.Terms{tiers}, sale)), "s", "share", false).Neg(), want.New[i])
		}
	},
	"shopify-associated-accounts": func(t *testing.T, c programCase) {
		var in struct {
			Transactions []struct {
				Seq                   int
				Account, Group, Gross string
			}
		}
		var want struct {
			Transactions []struct {
				Share      string `json:"revenue_share"`
				Processing string `json:"processing"`
			}
		}
		c.decode(t, &in, &want)
		var terms []*pricing.Terms
		var sales []metering.Transaction
		var partners []partner.Partner
		for i, x := range in.Transactions {
			id := strings.ToLower(x.Account)
			text := doc(ladder("group", "lifetime since 2015-01-01", "[{to: 1_000_000, rate: 0%}, {rate: 15%}]"),
				"{id: p, kind: usage_fee, of: sale.paid, price: {model: percentage, rate: 2.9%}}")
			text = strings.NewReplacer("contract: c", "contract: "+id, "partner: quill", "partner: "+id, "apps: [a]", "apps: ["+id+"]").Replace(text)
			terms = append(terms, parse(t, text))
			s := tx(metering.SalePaid, id, time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC), x.Gross)
			s.Data.App = partner.AppID(id)
			sales = append(sales, s)
			partners = append(partners, partner.Partner{ID: partner.ID(id), AccountGroup: x.Group})
		}
		input := month("2026-01", terms, sales)
		input.Partners = partners
		res := price(t, input)
		for i, x := range in.Transactions {
			own := pricing.Result{}
			for _, l := range res.Lines {
				if string(l.Party) == strings.ToLower(x.Account) {
					own.Lines = append(own.Lines, l)
				}
			}
			same(t, x.Account+" share", sum(own, "s", "share", false).Neg(), want.Transactions[i].Share)
			same(t, x.Account+" processing", sum(own, "p", "", false).Neg(), want.Transactions[i].Processing)
		}
	},
	"upwork-600-published": func(t *testing.T, c programCase) {
		var in, want struct{ Transactions []gross }
		c.decode(t, &in, &want)
		rule := ladder("customer", "lifetime since 2015-01-01", "[{to: 500, rate: 20%}, {to: 10_000, rate: 10%}, {rate: 5%}]")
		for i := range in.Transactions {
			in.Transactions[i].Month = "2016-05"
		}
		months(t, []*pricing.Terms{parse(t, doc(rule))}, in.Transactions, want.Transactions)
	},
	"usage-overage-published": func(t *testing.T, c programCase) {
		var in struct {
			Months []struct {
				Plan  string
				Units json.Number
			}
		}
		var want struct{ Months []struct{ Charge string } }
		c.decode(t, &in, &want)
		plans := map[string][3]string{"basic": {"99.00", "1000", "0.01"}, "pro": {"199.00", "5000", "0.01"}, "mega": {"399.00", "25000", "0.008"}}
		for i, m := range in.Months {
			p := plans[m.Plan]
			terms := parse(t, doc("{id: plan, kind: fixed_fee, class: support, due: monthly, amount: "+p[0]+"}",
				"{id: u, kind: usage_fee, meter: m, price: {model: graduated, steps: [{to: "+p[1]+", unit: 0}, {unit: "+p[2]+"}]}}"))
			res := price(t, month("2026-01", []*pricing.Terms{terms}, nil, calls(m.Units.String(), "c1")))
			same(t, m.Plan, sum(res, "", "", false).Neg(), want.Months[i].Charge)
		}
	},
	"hubspot-referral-refund": func(t *testing.T, c programCase) {
		var in struct {
			Months []struct{ Month, Received, Refunded string }
		}
		var want struct {
			Months []struct {
				Referral string
				Lines    []struct{ Amount string }
			}
		}
		c.decode(t, &in, &want)
		terms := parse(t, doc("{id: r, kind: referral, from: platform, to: partner, percent: 20%}"))
		start := time.Date(2025, 12, 1, 0, 0, 0, 0, time.UTC)
		var before []pricing.Total
		for i, m := range in.Months {
			at, _ := time.Parse("2006-01", m.Month)
			var txs []metering.Transaction
			if !dec(m.Received).IsZero() {
				txs = append(txs, tx(metering.SalePaid, "s"+m.Month, at.Add(time.Hour), m.Received))
			}
			if !dec(m.Refunded).IsZero() {
				r := tx(metering.SaleRefunded, "r"+m.Month, at.Add(2*time.Hour), m.Refunded)
				r.Data.RefersTo = "s" + m.Month
				txs = append(txs, r)
			}
			input := month(m.Month, []*pricing.Terms{terms}, txs)
			input.Before = before
			input.Leads = []partner.Lead{{ID: "l", Referrer: "quill", Customer: "c1", QualifiedAt: start, ConvertedAt: start}}
			res := price(t, input)
			before = res.After
			same(t, m.Month, sum(res, "r", "", false), want.Months[i].Referral)
			for j, l := range want.Months[i].Lines {
				same(t, m.Month+" line", res.Lines[j].Amount.Decimal(), l.Amount)
			}
		}
	},
}

// Every case that waits is in the files, once; the list is printed.
func TestWaitingCases(t *testing.T) {
	ids := map[string]bool{}
	for _, file := range []string{"usage_pricing.json", "marketplace_programs.json"} {
		b, err := os.ReadFile(filepath.Join(testdata.Dir(t), "cases", file))
		if err != nil {
			t.Fatal(err)
		}
		var f struct{ Cases []struct{ ID string } }
		if err := json.Unmarshal(b, &f); err != nil {
			t.Fatal(err)
		}
		for _, c := range f.Cases {
			ids[c.ID] = true
		}
	}
	var what []string
	seen := map[string]bool{}
	for w, list := range waiting {
		what = append(what, w)
		for _, id := range list {
			if !ids[id] || seen[id] {
				t.Errorf("%s waits for %s, but is listed twice or in no file", id, w)
			}
			seen[id] = true
		}
	}
	slices.Sort(what)
	for _, w := range what {
		t.Logf("%3d wait for %s: %s", len(waiting[w]), w, strings.Join(waiting[w], " "))
	}
	t.Logf("%d of %d cases wait", len(seen), len(ids))
}
