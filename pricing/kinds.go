package pricing

// kind is one kind of rule. Its file rule_<name>.go holds how it is read, what is
// checked between rules, and how it prices.
type kind struct {
	name   string
	doc    string
	decode func(c *contract, o *object) any // the rule's own fields
	check  func(c *contract, r *Rule, at *object)
	price  func(p *pricer) error                      // all rules of the kind, in the whole group; nil: it follows others
	schema func() schema                              // the rule's own fields
	follow func(p *pricer, s *segment, r *Rule) error // one rule that follows others
}

// kinds is every kind of rule there is, in the order in which they are priced.
func kinds() []kind {
	return []kind{
		{"share", shareDoc, decodeShare, checkShare, priceShares, shareSchema, nil},
		{"usage_fee", usageFeeDoc, decodeUsageFee, checkNothing, priceUsageFees, usageFeeSchema, nil},
		{"fixed_fee", fixedFeeDoc, decodeFixedFee, checkNothing, priceFixedFees, fixedFeeSchema, nil},
		{"referral", referralDoc, decodeReferral, checkNothing, priceReferrals, referralSchema, nil},
		{"pass_through", passThroughDoc, decodePassThrough, checkShare, nil, passThroughSchema, nil},
		{"split", splitDoc, decodeSplit, checkInvoiced, priceSplits, splitSchema, nil},
		{"quality", qualityDoc, decodeQuality, checkQuality, priceQuality, qualitySchema, nil},
		{"cap", capDoc, decodeCap, checkFollowed, nil, capSchema, followCap},
		{"commitment", commitmentDoc, decodeCommitment, checkCommitment, nil, commitmentSchema, followCommitment},
		{"guarantee", guaranteeDoc, decodeGuarantee, checkFollowed, nil, guaranteeSchema, followGuarantee},
		{"discount", discountDoc, decodeDiscount, checkFollowed, nil, discountSchema, followDiscount},
		{"tax", taxDoc, decodeTax, checkFollowed, nil, taxSchema, followTax},
		{"credit", creditDoc, decodeCredit, checkFollowed, nil, creditSchema, followCredit},
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
