package pricing

// kind is one kind of rule. Its file rule_<name>.go holds how it is read, what is
// checked between rules, and how it prices.
type kind struct {
	name   string
	doc    string
	decode func(c *contract, o *object) any // the rule's own fields
	check  func(c *contract, r *Rule, at *object)
	price  func(p *pricer) error // all rules of the kind, in the whole group
	schema func() schema         // the rule's own fields
}

// kinds is every kind of rule there is, in the order in which they are priced.
func kinds() []kind {
	return []kind{
		{"share", shareDoc, decodeShare, checkShare, priceShares, shareSchema},
		{"usage_fee", usageFeeDoc, decodeUsageFee, checkNothing, priceUsageFees, usageFeeSchema},
		{"fixed_fee", fixedFeeDoc, decodeFixedFee, checkNothing, priceFixedFees, fixedFeeSchema},
		{"referral", referralDoc, decodeReferral, checkNothing, priceReferrals, referralSchema},
		{"quality", qualityDoc, decodeQuality, checkQuality, priceQuality, qualitySchema},
	}
}

func checkNothing(*contract, *Rule, *object) {}

func kindNames() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}
