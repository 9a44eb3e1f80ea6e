package pricing_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"mete/metering"
	"mete/pricing"
)

// publishedContract is a contract, deal or instalment of a published programme.
type publishedContract struct {
	ID     string `json:"id"`
	Deal   string `json:"deal"`
	CPPO   bool   `json:"cppo"`
	TCV    string `json:"tcv"`
	Fee    string `json:"platform_fee"`
	Payout string `json:"partner_payout"`
	Due    string `json:"due"`
	Gross  string `json:"gross"`
}

// tierPrograms are cases with a check of their own.
var tierPrograms = map[string]func(*testing.T, programCase){
	"aws-private-offer-cliffs":     awsCliffs,
	"aws-cppo-renewal":             awsRenewal,
	"gcp-scenario1-published":      gcpInstalments,
	"apple-subscription-tenure":    appleTenure,
	"google-play-subscription-12m": playTenure,
	"apigee-flexible-bands":        apigeeBands,
	"ebay-cap-published":           ebayCap,
	"ms-usage-published":           msPassThrough,
	"syn-referral-steering-guard":  reducedDiscount,
}

const tcvTiers = "tiers: {mode: volume, on: gross, window: lifetime since 2015-01-01, per: deal}, steps: [{below: 1_000_000, rate: 3%}, {below: 10_000_000, rate: 2%}, {rate: 1.5%}]"

// awsCliffs: the whole of a contract at the tier of its value, each contract for itself.
func awsCliffs(t *testing.T, c programCase) {
	var in, want struct{ Contracts []publishedContract }
	c.decode(t, &in, &want)
	terms := parse(t, doc("{id: s, kind: share, of: sale.paid, platform: {"+tcvTiers+"}}"))
	var sales []metering.Transaction
	for i, k := range in.Contracts {
		s := tx(metering.SalePaid, k.ID, time.Date(2026, 1, 2, 0, i, 0, 0, time.UTC), k.TCV)
		s.Data.Deal = k.ID
		sales = append(sales, s)
	}
	res := price(t, month("2026-01", []*pricing.Terms{terms}, sales))
	for i, k := range in.Contracts {
		for _, l := range res.Lines {
			if l.Scope == "deal:"+k.ID {
				same(t, k.ID, l.Amount.Decimal().Neg(), want.Contracts[i].Fee)
				same(t, k.ID, dec(k.TCV).Add(l.Amount.Decimal()), want.Contracts[i].Payout)
			}
		}
	}
	if len(res.Lines) != 1+len(in.Contracts) {
		t.Errorf("%d lines", len(res.Lines))
	}
}

// awsRenewal: a rate by the kind of deal, and half a point more through a channel partner.
func awsRenewal(t *testing.T, c programCase) {
	var in, want struct{ Contracts []publishedContract }
	c.decode(t, &in, &want)
	terms := parse(t, doc("{id: s, kind: share, of: sale.paid, platform: {by: reference, rates: {private_lt_1m: 3%, renewal: 1.5%, public_saas: 3%, public_server: 20%, data_exchange: 3%, professional_services: 2.5%}, points: [{by: dimensions.offer, is: cppo, platform_rate: +0.5 points}]}}"))
	for i, k := range in.Contracts {
		s := tx(metering.SalePaid, k.ID, time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), k.TCV)
		s.Data.Reference = k.Deal
		input := month("2026-01", []*pricing.Terms{terms}, []metering.Transaction{s})
		if k.CPPO {
			input.Segments[0].Transactions[0].Data.Dimensions = map[string]string{"offer": "cppo"}
			input.Segments[0].Usage[0].Dimensions = `{"offer":"cppo"}`
		}
		res := price(t, input)
		same(t, k.ID, sum(res, "s", "share", false).Neg(), want.Contracts[i].Fee)
		same(t, k.ID, sum(res, "", "", false), want.Contracts[i].Payout)
	}
}

// gcpInstalments: instalments at the rate of the contract's whole value.
func gcpInstalments(t *testing.T, c programCase) {
	var in struct {
		Contract struct {
			TCV          string
			Installments []publishedContract
		}
	}
	var want struct{ Installments []publishedContract }
	c.decode(t, &in, &want)
	terms := parse(t, doc("{id: s, kind: share, of: sale.paid, platform: {"+tcvTiers+", deals: {d: "+in.Contract.TCV+"}}}"))
	var before []pricing.Total
	for i, k := range in.Contract.Installments {
		at, _ := time.Parse("2006-01-02", k.Due)
		s := tx(metering.SalePaid, k.Due, at, k.Gross)
		s.Data.Deal = "d"
		input := month(k.Due[:7], []*pricing.Terms{terms}, []metering.Transaction{s})
		input.Before = before
		res := price(t, input)
		before = res.After
		same(t, k.Due, sum(res, "s", "share", false).Neg(), want.Installments[i].Fee)
		same(t, k.Due, sum(res, "", "", false), want.Installments[i].Payout)
	}
}

// charges are sales of one subscription, one a month, each month's totals carried on.
func charges(t *testing.T, rule, amount string, days []time.Time, refunded map[int]bool) (fees, payouts []string) {
	t.Helper()
	terms := parse(t, strings.Replace(doc(rule), "zone: UTC", "zone: UTC\nrounding: {per: transaction}", 1))
	var before []pricing.Total
	for i, at := range days {
		txs := []metering.Transaction{tx(metering.SalePaid, fmt.Sprint("n", i), at, amount)}
		if refunded[i] {
			r := tx(metering.SaleRefunded, fmt.Sprint("r", i), at.Add(time.Hour), amount)
			r.Data.RefersTo = txs[0].ID
			txs = append(txs, r)
		}
		input := month(at.Format("2006-01"), []*pricing.Terms{terms}, txs)
		input.Before = before
		res := price(t, input)
		before = res.After
		fees = append(fees, sum(res, "s", "share", false).Neg().StringFixed(2))
		payouts = append(payouts, sum(res, "", "", false).StringFixed(2))
	}
	return fees, payouts
}

func total(amounts []string) string {
	sum := dec("0")
	for _, a := range amounts {
		sum = sum.Add(dec(a))
	}
	return sum.String()
}

func monthly(n, lapse int) []time.Time {
	var days []time.Time
	at := time.Date(2025, 1, 5, 12, 0, 0, 0, time.UTC)
	for i := range n {
		if i == 12 {
			at = at.AddDate(0, 0, lapse)
		}
		days = append(days, at)
		at = at.AddDate(0, 1, 0)
	}
	return days
}

// appleTenure: 30% in the first twelve paid months, then 15%; a short lapse is no new
// beginning, a longer one than the grace is.
func appleTenure(t *testing.T, c programCase) {
	var in struct {
		Subscription struct {
			Price  string
			Months int `json:"monthly_charges"`
			Lapse  int `json:"lapse_days_before_charge_13"`
		}
	}
	var want struct {
		Partner  string `json:"partner_total"`
		Platform string `json:"platform_total"`
	}
	c.decode(t, &in, &want)
	rule := "{id: s, kind: share, of: sale.paid, platform: {tiers: {on: paid_months, grace: 60 days}, steps: [{to: 12, rate: 30%}, {rate: 15%}]}}"
	fees, payouts := charges(t, rule, in.Subscription.Price, monthly(in.Subscription.Months, in.Subscription.Lapse), nil)
	same(t, "partner", dec(total(payouts)), want.Partner)
	same(t, "platform", dec(total(fees)), want.Platform)
	fees, _ = charges(t, rule, in.Subscription.Price, monthly(in.Subscription.Months, 62), nil)
	if last := fees[len(fees)-1]; last != "3.00" {
		t.Errorf("after a lapse beyond the grace: %s", last)
	}
}

// playTenure: months that were refunded are not counted.
func playTenure(t *testing.T, c programCase) {
	var in struct {
		Subscription struct {
			Price  string
			Months []struct{ State string }
		}
	}
	var want struct {
		Fee     string `json:"fee_total"`
		Partner string `json:"partner_total"`
		First   int    `json:"first_reduced_charge_n"`
	}
	c.decode(t, &in, &want)
	refunded := map[int]bool{}
	for i, m := range in.Subscription.Months {
		refunded[i] = m.State == "refunded"
	}
	rule := "{id: s, kind: share, of: sale.paid, platform: {tiers: {on: paid_months}, steps: [{to: 12, rate: 30%}, {rate: 15%}]}}"
	fees, payouts := charges(t, rule, in.Subscription.Price, monthly(len(in.Subscription.Months), 0), refunded)
	same(t, "fees", dec(total(fees)), want.Fee)
	same(t, "partner", dec(total(payouts)), want.Partner)
	if fees[want.First-1] != "1.50" || fees[want.First-2] != "3.00" {
		t.Errorf("%v", fees)
	}
}

// apigeeBands: bands over this month and the two before it.
func apigeeBands(t *testing.T, c programCase) {
	var in, want struct{ Months []gross }
	c.decode(t, &in, &want)
	rule := ladder("partner", "rolling 3 months", "[{to: 1_000, rate: 80%}, {to: 3_000, rate: 70%}, {rate: 60%}]")
	months(t, []*pricing.Terms{parse(t, doc(rule))}, in.Months, want.Months)
	// In April, January is no longer in the window: 2,600.00 are.
	in.Months = append(in.Months, gross{Month: "2026-04", Gross: "1000.00"})
	want.Months = append(want.Months, gross{Fee: "640.00", Payout: "360.00"})
	months(t, []*pricing.Terms{parse(t, doc(rule))}, in.Months, want.Months)
}

// ebayCap: a percentage of the sale with shipping, at most so much, and fixed fees.
func ebayCap(t *testing.T, c programCase) {
	var in struct{ Sale struct{ Item, Total string } }
	var want struct {
		Fees struct {
			Final string `json:"final_value_fee"`
			Other string `json:"other"`
		}
		Fee string `json:"platform_fee"`
		Net string `json:"partner_net_on_item"`
	}
	c.decode(t, &in, &want)
	terms := parse(t, doc("{id: final, kind: usage_fee, of: sale.paid, price: {model: percentage, rate: 10%, max: 750.00}}",
		"{id: gallery, kind: fixed_fee, class: listing, due: once, amount: 0.70}", "{id: international, kind: fixed_fee, class: listing, due: once, amount: 0.40}",
		"{id: reserve, kind: fixed_fee, class: listing, due: once, amount: 30.00}"))
	res := price(t, month("2026-01", []*pricing.Terms{terms}, []metering.Transaction{tx(metering.SalePaid, "s", time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), in.Sale.Total)}))
	same(t, "final value fee", sum(res, "final", "", false).Neg(), want.Fees.Final)
	same(t, "all fees", sum(res, "", "", false).Neg(), want.Fee)
	same(t, "net", dec(in.Sale.Item).Add(sum(res, "", "", false)), want.Net)
}

// msPassThrough: the fee is taken of the licence, the infrastructure is the platform's.
func msPassThrough(t *testing.T, c programCase) {
	var in struct {
		PerHour struct {
			Licence        string `json:"licence_cost"`
			Infrastructure string `json:"infrastructure"`
		} `json:"per_hour"`
	}
	var want struct {
		Billed  string `json:"customer_billed"`
		Fee     string `json:"platform_fee"`
		Through string `json:"platform_passthrough"`
		Payout  string `json:"partner_payout"`
	}
	c.decode(t, &in, &want)
	terms := parse(t, doc("{id: s, kind: share, of: sale.paid, class: marketplace, platform: {rate: 3%}}", "{id: infra, kind: pass_through, of: sale.paid, class: value_added, to: platform}"))
	at := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	infra := tx(metering.SalePaid, "i", at, in.PerHour.Infrastructure)
	infra.Data.Class = metering.ValueAdded
	res := price(t, month("2026-01", []*pricing.Terms{terms}, []metering.Transaction{tx(metering.SalePaid, "l", at, in.PerHour.Licence), infra}))
	same(t, "billed", sum(res, "", "sales", false), want.Billed)
	same(t, "fee", sum(res, "s", "share", false).Neg(), want.Fee)
	same(t, "through", sum(res, "infra", "pass_through", false).Neg(), want.Through)
	same(t, "payout", sum(res, "", "", false), want.Payout)
}

// reducedDiscount: a monthly discount that each transmission makes smaller, down to
// nothing. Whether such terms are allowed is no question of arithmetic.
func reducedDiscount(t *testing.T, c programCase) {
	var in struct {
		Months []struct {
			Month string
			N     int `json:"non_trading_transmissions"`
		}
	}
	var want struct {
		Months []struct {
			Left string `json:"discount_left"`
		}
	}
	c.decode(t, &in, &want)
	rules := []string{"{id: licence, kind: fixed_fee, class: support, due: monthly, amount: 100.00}", "{id: discount, kind: discount, on: [licence], amount: 35.00}",
		"{id: sent, kind: usage_fee, meter: m, price: {model: per_unit, unit: 1.00}}", "{id: most, kind: cap, on: [sent], maximum: 35.00}"}
	for i, m := range in.Months {
		charged := statements(t, false, rules, used{m.Month, []metering.Usage{calls(fmt.Sprint(m.N), "c1")}, nil})[0]
		same(t, m.Month, dec("100").Sub(charged), want.Months[i].Left)
	}
}

// impactNet45: the published days of net terms, from a contract that says them.
func impactNet45(t *testing.T, c programCase) {
	var terms struct{ Lock, Pay struct{ Months, Days int } }
	if err := json.Unmarshal(c.Terms, &terms); err != nil {
		t.Fatal(err)
	}
	var in struct {
		Month string `json:"actions_in"`
	}
	var want struct {
		LockOn      string `json:"locks_on"`
		StatementOn string `json:"statement_on"`
		DueOn       string `json:"due_on"`
	}
	c.decode(t, &in, &want)
	if terms.Lock.Days != 0 || terms.Pay.Months != 0 {
		t.Fatalf("another calendar than lock after months, pay after days: %s", c.Terms)
	}
	contract := netTerms(t, fmt.Sprintf("{lock_after: %d month, pay_after: %d days}", terms.Lock.Months, terms.Pay.Days))
	got, _ := pricing.DueOf([]*pricing.Terms{contract}, monthOf(t, in.Month))
	if got.LockOn.String() != want.LockOn || got.StatementOn.String() != want.StatementOn || got.DueOn.String() != want.DueOn {
		t.Errorf("%s: %+v, want %+v", in.Month, *got, want)
	}
}
