package billing

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"mete/ledger"
	"mete/metering"
	"mete/money"
	"mete/partner"
)

// post books the other side of the line; the partner's side is the sum of all lines.
// An amount the partner gets is a debit here, one the partner is charged a credit.
func (l Line) post(b *postings) error {
	account, err := l.account()
	if err != nil {
		return err
	}
	later := int64(0)
	if l.Deferral != nil {
		later = must(l.Deferral.Back.Sub(l.Deferral.Charged)).Minor
		b.add(l.deferredTo(), later)
	}
	b.add(account, must(l.Amount.Sub(money.New(later, l.Amount.Currency))).Minor)
	if x := l.Contested; x != nil { // the processor took it, and its fee
		b.add(ledger.ClearingChargeback(), x.Held.Minor)
		b.add(ledger.Expense("chargeback"), x.Fees.Minor)
		b.add(ledger.Clearing(l.Processor), -must(x.Held.Add(x.Fees)).Minor)
	}
	if l.Unpaid != nil { // what is not paid yet is with customers, not with the processor
		b.add(ledger.ReceivableCustomer(), l.Unpaid.Minor)
		b.add(ledger.Clearing(l.Processor), -l.Unpaid.Minor)
	}
	if l.Principal && l.Part != "accrued" && l.Part != "contested" && section(l.Line) == Sales { // the sale is ours, and the partner's part an expense
		b.add(ledger.Income("sales"), -l.Amount.Minor)
		b.add(ledger.Expense("partner-share"), l.Amount.Minor)
	}
	for _, t := range l.Taxes {
		in := b.in(t.Amount.Currency)
		in.add(account, t.Amount.Minor)
		in.add(ledger.SalesTax(t.Jurisdiction), -t.Amount.Minor)
	}
	l.postExchanged(b, account)
	return b.failed()
}

// account is what stands against the partner's payable for a line of this part.
func (l Line) account() (ledger.Account, error) {
	if l.Adjustment != "" && l.Defers == nil {
		return ledger.Income(l.Account), nil
	}
	if l.Payer != partner.Platform {
		return ledger.ClearingPartners(), nil
	}
	if l.Principal && l.ofShare() {
		return ledger.Expense("partner-share"), nil
	}
	switch l.Part {
	case "adjustment": // of a fee that is earned over months
		return ledger.Income(feeIncome(l.Class)), nil
	case "contested":
		return ledger.ClearingChargeback(), nil
	case "chargeback_fee":
		return ledger.Expense("chargeback"), nil
	case "accrued":
		return ledger.Accrued(string(l.Party)), nil
	case "sales", "refunds", "chargebacks", "written_off", "collected":
		return ledger.Clearing(l.Processor), nil
	case "share", "quality":
		return ledger.Income("share"), nil
	case "usage":
		return ledger.Income("usage"), nil
	case "fee":
		return ledger.Income(feeIncome(l.Class)), nil
	case "referral", "clawback":
		if l.paysUs() {
			return ledger.Income("lead"), nil
		}
		return ledger.Expense("referral"), nil
	case "cap", "commitment":
		return ledger.Income(incomeOf(l.Of, l.Class)), nil
	case "discount", "credit":
		return ledger.Contra(l.Part), nil
	case "guarantee":
		return ledger.Expense("guarantee"), nil
	case "tax":
		return ledger.SalesTax(l.Of), nil
	case "pass_through":
		return ledger.Income("pass-through"), nil
	}
	return "", fmt.Errorf("no account for part %q of rule kind %q", l.Part, l.Kind)
}

// ofShare reports whether the line is our part of sales, or changes it.
func (l Line) ofShare() bool {
	switch l.Part {
	case "share", "quality", "pass_through":
		return true
	case "cap", "commitment", "discount", "credit":
		return incomeOf(l.Of, l.Class) == "share"
	}
	return false
}

// paysUs reports whether the line belongs to a commission that the partner pays us. A
// difference may point either way: there it is the commission that says so.
func (l Line) paysUs() bool {
	commission := l.Line
	switch {
	case l.Recomputed != nil && !l.Recomputed.IsZero():
		commission.Amount = *l.Recomputed
	case l.Posted != nil:
		commission.Amount = *l.Posted
	}
	return section(commission) == Charges
}

// incomeOf is the kind of income that a line of the part and class changes.
func incomeOf(part string, c metering.Class) string {
	switch part {
	case "share", "quality":
		return "share"
	case "fee":
		return feeIncome(c)
	}
	return "usage"
}

// feeIncome is the kind of income a fee of the class is.
func feeIncome(c metering.Class) string {
	switch c {
	case metering.Certification, metering.Listing, metering.Placement, metering.Support:
		return string(c)
	case metering.Referral:
		return "lead"
	}
	return "usage"
}

// postings adds up amounts per account in one currency.
type postings struct {
	currency money.Currency
	sums     map[ledger.Account]int64
	err      error
	others   map[money.Currency]*postings // in other currencies; see in
}

func newPostings(c money.Currency) *postings {
	return &postings{currency: c, sums: map[ledger.Account]int64{}}
}

func (b *postings) add(a ledger.Account, minor int64) {
	sum, err := money.New(b.sums[a], b.currency).Add(money.New(minor, b.currency))
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("%s: %w", a, err)
	}
	b.sums[a] = sum.Minor
}

// postings are the sums that are not zero, debits first, then by account; those in
// other currencies after them.
func (b *postings) postings() []ledger.Posting {
	var out []ledger.Posting
	for a, minor := range b.sums {
		if minor != 0 && minor != math.MinInt64 {
			out = append(out, ledger.Posting{Account: a, Amount: money.New(minor, b.currency)})
		}
	}
	slices.SortFunc(out, func(x, y ledger.Posting) int {
		if (x.Amount.Minor > 0) != (y.Amount.Minor > 0) {
			if x.Amount.Minor > 0 {
				return -1
			}
			return 1
		}
		return strings.Compare(string(x.Account), string(y.Account))
	})
	for _, c := range slices.Sorted(maps.Keys(b.others)) {
		out = append(out, b.others[c].postings()...)
	}
	return out
}
