package pricing

import (
	"github.com/shopspring/decimal"

	"mete/metering"
)

const passThroughDoc = "Sales that are nobody's to share: collected for the platform, which bears what was sold, or for the partner; no fee is taken of them."

// decodePassThrough reads a share of all or nothing.
func decodePassThrough(c *contract, o *object) any {
	b := &Share{Of: metering.SalePaid, Refunds: AtOriginalRate, Passes: "platform"}
	if f, ok := o.need("of", "of: sale.paid"); ok {
		b.Of, _ = f.oneOf(metering.SalePaid)
	}
	if f, ok := o.need("to", "to: platform, or to: partner"); ok {
		b.Passes, _ = f.oneOf("platform", "partner")
	}
	if b.Passes == "platform" {
		b.Rate = one
	} else {
		b.Rate = decimal.Zero
	}
	b.Steps = Steps{{Rate: b.Rate}}
	return b
}

func passThroughSchema() schema {
	return schema{
		"of": enum("the event that is passed through", metering.SalePaid),
		"to": enum("who gets all of it", "platform", "partner"),
	}.require("of", "to")
}
