package billing

import (
	"fmt"
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
	b.add(account, l.Amount.Minor)
	for _, t := range l.Taxes {
		b.add(account, t.Amount.Minor)
		b.add(ledger.SalesTax(t.Jurisdiction), -t.Amount.Minor)
	}
	return b.err
}

// account is what stands against the partner's payable for a line of this part.
func (l Line) account() (ledger.Account, error) {
	if l.Adjustment != "" {
		return ledger.Income(l.Account), nil
	}
	if l.Payer != partner.Platform {
		return ledger.ClearingPartners(), nil
	}
	switch l.Part {
	case "sales", "refunds", "chargebacks":
		return ledger.Clearing(l.Processor), nil
	case "share", "quality":
		return ledger.Income("share"), nil
	case "usage":
		return ledger.Income("usage"), nil
	case "fee":
		return ledger.Income(feeIncome(l.Class)), nil
	case "referral", "clawback":
		if l.Section == Charges {
			return ledger.Income("lead"), nil
		}
		return ledger.Expense("referral"), nil
	}
	return "", fmt.Errorf("no account for part %q of rule kind %q", l.Part, l.Kind)
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

// postings are the sums that are not zero, debits first, then by account.
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
	return out
}
