package compliance

import (
	"fmt"
	"slices"
	"strings"

	"mete/pricing"
)

// PlacementRule is the name under which [CheckPlacement] refuses.
const PlacementRule = "placement-independence"

// placementCitation is why: terms must not depend on what the other party earns, nor
// access on what it pays, and a price by use of the certified API has no such basis.
const placementCitation = "45 CFR 170.404(a)(4)(i)(C)(2), 45 CFR 170.404(a)(4)(ii)(B)(1)"

// useMeasures count how much an app calls, the certified API included.
var useMeasures = []string{"active_customers", "calls", "failed", "slow"}

// paymentWords are what a name that speaks of payments has among its words.
var paymentWords = []string{
	"amount", "charge", "charges", "commission", "fee", "fees", "gross", "income", "invoice", "net", "paid", "pay", "payment", "payments",
	"price", "proceeds", "referral", "referrals", "revenue", "sale", "sales", "share", "spend", "spent", "tier",
}

// CheckPlacement refuses a condition for a placement that depends on how much the API
// is used or on payments. A partner's tier may be reached by sales, so it is one of them.
func CheckPlacement(condition string) error {
	for _, name := range pricing.ConditionNames(condition) {
		words := strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == '_' })
		switch {
		case strings.HasPrefix(name, "certification."): // its tier is one of risk
			continue
		case slices.Contains(useMeasures, name), slices.Contains(words, "certified"), slices.Contains(words, "usage"):
			return fmt.Errorf("%s counts use of the API, which a placement must not depend on (%s; %s): ask for availability, within, certification, incidents or support",
				name, PlacementRule, placementCitation)
		case slices.ContainsFunc(words, func(w string) bool { return slices.Contains(paymentWords, w) }):
			return fmt.Errorf("%s speaks of payments, which a placement must not depend on (%s; %s): ask for availability, within, certification, incidents or support",
				name, PlacementRule, placementCitation)
		}
	}
	return nil
}
