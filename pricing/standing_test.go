package pricing_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"mete/metering"
	"mete/period"
	"mete/pricing"
)

// Each sale is charged as if the whole month had stood as its own day did; and where
// all days stand alike, dates change nothing of the result.
func TestStandingOfEachSalesDay(t *testing.T) {
	terms := parse(t, doc(
		"{id: store, kind: share, of: sale.paid, platform: {rate: 15%}}",
		`{id: trust, kind: quality, adjusts: store, gate: {require: certification.state != 'suspended', otherwise: +9 points}, bands: [{when: certification.overdue_days > 4, platform_rate: +4 points}, {when: certification.state == 'valid' || certification.state == 'due', platform_rate: -1 points}], factors: [{when: certification.state == 're-review', times: 1.2}]}`))
	rapid.Check(t, func(t *rapid.T) {
		first := period.Date{Year: 2026, Month: time.March, Day: 1}
		card := pricing.Scorecard{App: "a", Month: first.MonthOf(), Calls: 10}
		for day := first; day.MonthOf() == card.Month; day = day.AddDays(rapid.IntRange(1, 20).Draw(t, "days")) {
			s := pricing.Standing{From: day, Tier: 3, State: rapid.SampledFrom([]string{"valid", "due", "overdue", "re-review", "suspended"}).Draw(t, "state")}
			if s.State == "overdue" || s.State == "re-review" {
				s.DueOn = day.AddDays(-rapid.IntRange(0, 20).Draw(t, "due"))
			}
			card.Standings = append(card.Standings, s)
		}
		card.Certification = card.On(card.Month.Last()).Certification
		var sales []metering.Transaction
		want := decimal.Zero
		for i := range rapid.IntRange(1, 6).Draw(t, "sales") {
			day := first.AddDays(rapid.IntRange(0, 30).Draw(t, "day"))
			sale := tx(metering.SalePaid, fmt.Sprintf("s%d", i), day.In(time.UTC).Add(time.Hour), fmt.Sprintf("%d.50", rapid.IntRange(1, 999).Draw(t, "amount")))
			sales = append(sales, sale)
			alone := *card.On(day)
			alone.Standings = nil
			in := month("2026-03", []*pricing.Terms{terms}, []metering.Transaction{sale})
			in.Scorecards = []pricing.Scorecard{alone}
			want = want.Add(sum(mustPrice(t, in), "trust", "quality", true))
		}
		in := month("2026-03", []*pricing.Terms{terms}, sales)
		in.Scorecards = []pricing.Scorecard{card}
		if got := sum(mustPrice(t, in), "trust", "quality", true); !got.Equal(want) {
			t.Fatalf("together %s, each alone %s", got, want)
		}
		flat := card
		flat.Standings = []pricing.Standing{{From: first, Tier: 3, State: card.Certification.State}}
		flat.Certification = flat.Standings[0].On(first)
		in.Scorecards = []pricing.Scorecard{flat}
		dated := mustPrice(t, in)
		flat.Standings = nil
		in.Scorecards = []pricing.Scorecard{flat}
		if undated := mustPrice(t, in); dated.Digest() != undated.Digest() {
			t.Fatalf("one standing for all days: result %s, without dates %s", dated.Digest(), undated.Digest())
		}
	})
}

func mustPrice(t *rapid.T, in pricing.Input) pricing.Result {
	res, err := pricing.Price(in)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// The rate that a line shows is the one that all of its days share.
func TestRateOfDays(t *testing.T) {
	terms := parse(t, doc(
		"{id: store, kind: share, of: sale.paid, platform: {rate: 15%}}",
		`{id: trust, kind: quality, adjusts: store, bands: [{when: certification.state == 'overdue', platform_rate: +4 points}, {when: calls > 5, platform_rate: -1 points}]}`))
	first := period.Date{Year: 2026, Month: time.March, Day: 1}
	for _, c := range []struct {
		second string
		calls  int64
		want   string
	}{{"overdue", 10, "several"}, {"overdue", 1, "several"}, {"due", 10, "-1 pts"}, {"due", 1, ""}} {
		in := month("2026-03", []*pricing.Terms{terms}, []metering.Transaction{tx(metering.SalePaid, "s", first.In(time.UTC), "100.00")})
		in.Scorecards = []pricing.Scorecard{{App: "a", Month: in.Month, Calls: c.calls,
			Standings: []pricing.Standing{{From: first, State: "valid"}, {From: first.AddDays(9), State: c.second}}}}
		in.Scorecards[0].Certification = in.Scorecards[0].Standings[1].On(in.Month.Last())
		for _, l := range price(t, in).Lines {
			if l.Part == "quality" && (l.Rate != c.want || len(l.Notes) != 2) {
				t.Errorf("%s, %d calls: rate %q, want %q; notes %q", c.second, c.calls, l.Rate, c.want, l.Notes)
			}
		}
	}
}
