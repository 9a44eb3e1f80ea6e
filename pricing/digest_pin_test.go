package pricing_test

import (
	"testing"
	"time"

	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Digests of months that were priced before stay what they are, whatever kinds, models
// and fields are added: closed months are verified by them.
func TestDigestsOfEarlierTermsStay(t *testing.T) {
	at := time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC)
	sale := tx(metering.SalePaid, "s1", at, "412.34")
	extra := tx(metering.SalePaid, "s2", at.Add(time.Hour), "99.95")
	extra.Data.Class = metering.ValueAdded
	back := tx(metering.SaleRefunded, "r1", at.Add(2*time.Hour), "12.34")
	back.Data.RefersTo = "s1"
	fee := tx(metering.FeeDue, "f1", at.Add(3*time.Hour), "75.50")
	fee.Data.Class = metering.Certification
	used := calls("1234", "c1")
	used.Class = metering.API
	in := month("2026-03", []*pricing.Terms{parse(t, everything)}, []metering.Transaction{sale, extra, back, fee}, used)
	in.Before = []pricing.Total{{Contract: "c", Rule: "store", What: "net", Scope: "customer:c1", Since: period.Date{Year: 2015, Month: 1, Day: 1}, Value: dec("250")}}
	in.Apps = []partner.App{{ID: "a", Partner: "quill"}, {ID: "b", Partner: "quill"}}
	avail := dec("0.9995")
	in.Scorecards = []pricing.Scorecard{{App: "a", Month: in.Month, Calls: 10, Availability: &avail}}
	in.Leads = []partner.Lead{{ID: "l", Referrer: "quill", Customer: "c1", QualifiedAt: at.AddDate(0, -1, 0), ConvertedAt: at.Add(-time.Hour)}}
	res := price(t, in)
	if got, want := in.Digest(), "c447999839380d66db148e8efe7e8839310fd61dc1894c73baa7730793417311"; got != want {
		t.Errorf("Input: digest %s, was %s", got, want)
	}
	if got, want := res.Digest(), "df23409d286028b63db5de9b0135e3d6f0533ddfc7df1bc9cd8ef469ea940970"; got != want {
		t.Errorf("Result: digest %s, was %s", got, want)
	}
}
