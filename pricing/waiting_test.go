package pricing_test

// waiting lists every case that is no matter of pricing, under whose it is. A case that
// is neither here nor covered fails the test, so that none can be forgotten.
var waiting = map[string][]string{
	"nothing here, but run by the tests of payouts: what is kept or withheld is decided when a payout is planned": {
		"backup-withholding-24", "stripe-minimum-balance-published",
	},
}
