package ledgertest

import (
	"mete/ledger"
	"mete/money"
)

// Journal is every kind of fact as it is posted, one entry each:
// the postings of docs/formats.md. Amounts are as in the worked
// example of a month.
func Journal() []ledger.Entry {
	const p = "p"
	var (
		ach        = ledger.Cash("ach")
		stripe     = ledger.Clearing("stripe")
		contested  = ledger.ClearingChargeback()
		fx         = ledger.ClearingFX()
		customers  = ledger.ReceivableCustomer()
		owes       = ledger.ReceivablePartner(p)
		allowance  = ledger.Allowance()
		pending    = ledger.PayablePending(p)
		due        = ledger.PayableDue(p)
		held       = ledger.PayableHeld(p)
		accrued    = ledger.Accrued(p)
		reserve    = ledger.ReserveOf(p)
		transit    = ledger.InTransit("ach")
		irs        = ledger.TaxWithheld("us-irs")
		texas      = ledger.SalesTax("us-tx")
		deferred   = ledger.Deferred("certification")
		unclaimed  = ledger.Unclaimed("us-il")
		share      = ledger.Income("share")
		usage      = ledger.Income("usage")
		certifying = ledger.Income("certification")
		sales      = ledger.Income("sales")
		referral   = ledger.Expense("referral")
		processing = ledger.Expense("processing")
		chargeback = ledger.Expense("chargeback")
		loss       = ledger.Expense("credit-loss")
		cost       = ledger.Expense("partner-share")
		exchange   = ledger.Expense("fx")
	)
	return []ledger.Entry{
		usd("01a", "statement", "2026-10-31", "statement, agent, platform collects",
			of{stripe, "49207.50"}, of{referral, "420.00"}, of{texas, "-1207.50"}, of{share, "-2109.00"},
			of{usage, "-425.06"}, of{certifying, "-250.00"}, of{pending, "-45635.94"}),
		usd("01b", "issue", "2026-11-01", "the statement is issued", of{pending, "45635.94"}, of{due, "-45635.94"}),
		usd("02", "receipt", "2026-11-03", "processor settles to our bank",
			of{ach, "47780.48"}, of{processing, "1427.02"}, of{stripe, "-49207.50"}),
		usd("03a", "statement", "2026-11-05", "refund of a 100.00 sale, share 15% given back",
			of{pending, "85.00"}, of{share, "15.00"}, of{texas, "6.00"}, of{stripe, "-106.00"}),
		usd("03b", "statement", "2026-11-05", "same, platform keeps its share",
			of{pending, "100.00"}, of{texas, "6.00"}, of{stripe, "-106.00"}),
		usd("04a", "chargeback", "2026-11-06", "chargeback opened, fee 15.00",
			of{contested, "106.00"}, of{chargeback, "15.00"}, of{stripe, "-121.00"}),
		usd("04b", "chargeback", "2026-11-20", "chargeback lost, contract puts the fee on the partner",
			of{pending, "100.00"}, of{share, "15.00"}, of{texas, "6.00"}, of{chargeback, "-15.00"}, of{contested, "-106.00"}),
		usd("04c", "chargeback", "2026-11-20", "another one opened",
			of{contested, "106.00"}, of{chargeback, "15.00"}, of{stripe, "-121.00"}),
		usd("04d", "chargeback", "2026-11-21", "and won: the fee stays with us", of{stripe, "106.00"}, of{contested, "-106.00"}),
		usd("05a", "reserve", "2026-11-22", "reserve held", of{pending, "2292.75"}, of{reserve, "-2292.75"}),
		usd("05b", "release", "2026-11-22", "reserve released", of{reserve, "1870.00"}, of{pending, "-1870.00"}),
		usd("06a", "statement", "2026-11-23", "partner collects: our share of 100.00", of{owes, "15.00"}, of{share, "-15.00"}),
		usd("06b", "set-off", "2026-11-23", "set off against what we owe", of{due, "15.00"}, of{owes, "-15.00"}),
		usd("07a", "statement", "2026-11-24", "annual certification fee, netted", of{pending, "1200.00"}, of{deferred, "-1200.00"}),
		usd("07b", "recognition", "2026-11-24", "one month of it earned", of{deferred, "100.00"}, of{certifying, "-100.00"}),
		usd("08a", "statement", "2026-11-25", "referral commission earned by the partner", of{referral, "420.00"}, of{pending, "-420.00"}),
		usd("08b", "statement", "2026-11-25", "clawed back within its window", of{pending, "420.00"}, of{referral, "-420.00"}),
		usd("09a", "payout", "2026-11-26", "payout submitted, 24% backup withholding",
			of{due, "1000.00"}, of{transit, "-760.00"}, of{irs, "-240.00"}),
		usd("09b", "payout", "2026-11-27", "settled", of{transit, "760.00"}, of{ach, "-760.00"}),
		usd("09c", "deposit", "2026-11-28", "tax deposited", of{irs, "240.00"}, of{ach, "-240.00"}),
		usd("09d", "hold", "2026-11-28", "held for a dispute", of{due, "90.00"}, of{held, "-90.00"}),
		usd("09e", "hold", "2026-11-29", "and given back", of{held, "90.00"}, of{due, "-90.00"}),
		usd("10a", "payout", "2026-11-29", "payout returned after settlement", of{ach, "760.00"}, of{due, "-760.00"}),
		usd("10b", "dormancy", "2029-11-30", "dormant", of{due, "760.00"}, of{unclaimed, "-760.00"}),
		usd("10c", "dormancy", "2030-05-01", "remitted to the state", of{unclaimed, "760.00"}, of{ach, "-760.00"}),
		fact("11a", "payout", "2030-05-02", "payout in EUR of 972.00 USD at 1.08, submitted",
			line(due, "972.00", "USD"), line(fx, "-972.00", "USD"), line(fx, "900.00", "EUR"), line(transit, "-900.00", "EUR")),
		fact("11b", "payout", "2030-05-04", "settled, the bank took 975.00 USD",
			line(transit, "900.00", "EUR"), line(fx, "-900.00", "EUR"), line(fx, "972.00", "USD"),
			line(exchange, "3.00", "USD"), line(ach, "-975.00", "USD")),
		usd("12a", "presentation", "2030-05-31", "partner owes 180.35: shown as receivable at period end", of{owes, "180.35"}, of{due, "-180.35"}),
		usd("12b", "allowance", "2030-05-31", "expected loss", of{loss, "180.35"}, of{allowance, "-180.35"}),
		usd("12c", "write-off", "2030-12-31", "written off by two people", of{allowance, "180.35"}, of{owes, "-180.35"}),
		usd("v1", "statement", "2031-01-01", "variant: principal presentation of one sale",
			of{stripe, "106.00"}, of{cost, "85.00"}, of{texas, "-6.00"}, of{sales, "-100.00"}, of{pending, "-85.00"}),
		usd("v2a", "statement", "2031-01-02", "variant: invoiced basis, pay when paid",
			of{customers, "106.00"}, of{texas, "-6.00"}, of{share, "-15.00"}, of{accrued, "-85.00"}),
		usd("v2b", "statement", "2031-01-20", "customer pays",
			of{stripe, "106.00"}, of{customers, "-106.00"}, of{accrued, "85.00"}, of{pending, "-85.00"}),
	}
}

// of is an amount in USD on an account, debit positive.
type of struct {
	account ledger.Account
	amount  string
}

func usd(id, kind, on, memo string, postings ...of) ledger.Entry {
	var ps []ledger.Posting
	for _, p := range postings {
		ps = append(ps, line(p.account, p.amount, "USD"))
	}
	return fact(id, kind, on, memo, ps...)
}

func fact(id, kind, on, memo string, postings ...ledger.Posting) ledger.Entry {
	return ledger.Entry{ID: id, Kind: kind, ValueOn: Day(on), BookedOn: Day(on), Memo: memo, Postings: postings}
}

func line(a ledger.Account, amount string, c money.Currency) ledger.Posting {
	parsed, err := money.Parse(amount, c)
	if err != nil {
		panic(err)
	}
	return ledger.Posting{Account: a, Amount: parsed}
}
