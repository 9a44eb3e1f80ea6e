package pricing_test

import (
	"encoding/json"
	"fmt"
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
	ID         string          `json:"id"`
	Model      string          `json:"model"`
	Parameters parameters      `json:"parameters"`
	Input      caseInput       `json:"input"`
	Expected   decimal.Decimal `json:"expected_amount"`
	Sequence   []string        `json:"expected_amounts"`
	Rounded    bool            `json:"rounded_to_currency"`
}

type parameters struct {
	Base       string `json:"base_model"`
	Unit       string `json:"unit_amount"`
	Multiplier string `json:"multiplier"`
	Amount     string `json:"amount"`
	Discount   string `json:"discount_units"`
	Precision  int32  `json:"precision"`
	Zone       string `json:"timezone"`
	Tiers      []struct {
		UpTo *string `json:"up_to"`
		Unit string  `json:"unit_amount"`
		Flat string  `json:"flat_amount"`
	} `json:"tiers"`
}

type caseInput struct {
	Quantity   string   `json:"quantity"`
	Before     string   `json:"pre_period_quantity"`
	Buckets    []string `json:"bucket_quantities"`
	Cumulative []string `json:"cumulative_quantities"`
	Value      string   `json:"value"`
	Lines      []string `json:"line_amounts"`
	Repeat     *struct {
		Amount string `json:"amount"`
		Count  int    `json:"count"`
	} `json:"repeat"`
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
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

// graduated writes the case's tiers as a price.
func (p parameters) graduated(atZero bool) string {
	var steps []string
	for _, s := range p.Tiers {
		to := ""
		if s.UpTo != nil {
			to = "to: " + *s.UpTo + ", "
		}
		flat := s.Flat
		if flat == "" {
			flat = "0"
		}
		steps = append(steps, fmt.Sprintf("{%sunit: %s, flat: %s}", to, s.Unit, flat))
	}
	zero := ""
	if atZero {
		zero = ", charge_at_zero: true"
	}
	return "{model: graduated, steps: [" + strings.Join(steps, ", ") + "]" + zero + "}"
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
			case "per_unit":
				got = charge(t, "{model: per_unit, unit: "+p.Unit+"}", "month", "", in.Quantity, !c.Rounded)
			case "graduated":
				zero, window := dec(in.Quantity).IsZero() && c.Expected.IsPositive(), "month"
				if in.Before != "" && !dec(in.Before).IsZero() {
					window = life
				}
				got = charge(t, p.graduated(zero), window, in.Before, in.Quantity, !c.Rounded)
			case "bucketed_sum": // buckets are scopes, each with a ladder of its own
				terms := parse(t, doc("{id: u, kind: usage_fee, meter: m, per: customer, price: "+p.graduated(false)+"}"))
				var cells []metering.Usage
				for i, q := range in.Buckets {
					cells = append(cells, calls(q, fmt.Sprintf("bucket%d", i)))
				}
				got = sum(price(t, month("2026-01", []*pricing.Terms{terms}, nil, cells...)), "u", "", true).Neg()
			case "delta_sequence": // the month priced again with more in it; the difference is billed
				model := p.graduated(false)
				if p.Base == "multiplier" {
					model = "{model: per_unit, unit: " + p.Multiplier + "}"
				}
				posted := decimal.Zero
				for i, q := range in.Cumulative {
					now := charge(t, model, "month", "", q, false)
					if got = now.Sub(posted); !got.Equal(dec(c.Sequence[i])) {
						t.Errorf("phase %d: %s, want %s", i, got, c.Sequence[i])
					}
					posted = now
				}
			case "usage_discount": // an allowance is a first step at 0
				model := "{model: graduated, steps: [{to: " + p.Discount + ", unit: 0}, {unit: 1}]}"
				got = charge(t, model, life, in.Before, in.Quantity, true)
			case "flat_fee":
				terms := parse(t, doc("{id: u, kind: fixed_fee, class: listing, due: monthly, amount: "+p.Amount+"}"))
				got = sum(price(t, month("2026-01", []*pricing.Terms{terms}, nil)), "u", "", false).Neg()
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
				got = decimal.NewFromInt(int64(period.DateOf(in.From, zone).DaysUntil(period.DateOf(in.To, zone))))
			default:
				t.Fatalf("model %s is neither covered nor waiting", c.Model)
			}
			if !got.Equal(c.Expected) {
				t.Errorf("got %s, want %s", got, c.Expected)
			}
		})
	}
	t.Logf("%d cases covered", covered)
}

type programCase struct {
	ID       string          `json:"id"`
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
