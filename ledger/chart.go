package ledger

import (
	"fmt"
	"regexp"
	"strings"
)

// Account is the name of an account, parts joined by colons. Parts hold lower-case
// letters, digits and hyphens only, so that plain-text accounting tools take them.
type Account string

var accountForm = regexp.MustCompile(`^(assets|liabilities|income|expenses|equity)(:[a-z0-9][a-z0-9-]*)+$`)

// MaxAccount bounds an account's name, in bytes.
const MaxAccount = 500

// Validate reports why the name is no account of the chart.
func (a Account) Validate() error {
	if len(a) > MaxAccount || !accountForm.MatchString(string(a)) {
		return fmt.Errorf("account %q is not in the chart: want assets|liabilities|income|expenses|equity and parts of lower-case letters, digits and '-', at most %d bytes", a, MaxAccount)
	}
	return nil
}

// Under reports whether a is the prefix itself or lies under it.
func (a Account) Under(prefix Account) bool {
	return a == prefix || strings.HasPrefix(string(a), string(prefix)+":")
}

// part turns a name into an account part so that different names give different
// parts. Lower-case letters, digits and hyphens stay; any other byte is written as
// two hyphens and two hexadecimal digits, and so is a hyphen before another one or
// before such a byte, so that two hyphens in a part always begin an escape. A name
// that is empty or begins with anything but a letter or digit has no part:
// [Account.Validate] refuses what comes of it.
func part(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		if !inPart(c) || c == '-' && i+1 < len(name) && (name[i+1] == '-' || !inPart(name[i+1])) {
			fmt.Fprintf(&b, "--%02x", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

func inPart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
}

// The chart of accounts. P stands for a partner, see the table in docs/formats.md.

// Cash is the balance at the bank or platform behind a rail.
func Cash(rail string) Account { return Account("assets:cash:" + part(rail)) }

// Clearing is customers' money a processor collected and has not settled. A processor
// cannot have the name of one of our own clearing accounts: the account that comes of
// it is refused by [Account.Validate].
func Clearing(processor string) Account {
	a := Account("assets:clearing:" + part(processor))
	if a == ClearingChargeback() || a == ClearingFX() || a == ClearingPartners() {
		return "assets:clearing:-" + Account(processor)
	}
	return a
}

// ClearingFX holds both legs of a conversion: zero per currency when settled.
func ClearingFX() Account { return "assets:clearing:fx" }

// ClearingChargeback is contested and undecided money.
func ClearingChargeback() Account { return "assets:clearing:chargeback" }

// ClearingPartners carries what one partner pays another through us: zero after each
// close.
func ClearingPartners() Account { return "assets:clearing:partners" }

// ReceivableCustomer is invoiced and unpaid: the control account of the billing
// system.
func ReceivableCustomer() Account { return "assets:receivable:customer" }

// Allowance is expected credit loss, a contra asset: normally a credit.
func Allowance() Account { return "assets:allowance" }

// ReceivablePartner is what a partner owes us.
func ReceivablePartner(p string) Account { return Account("assets:receivable:partner:" + part(p)) }

// Payable is what we owe a partner, in all states.
func Payable(p string) Account { return Account("liabilities:payable:" + part(p)) }

// PayablePending is on a statement that is not issued.
func PayablePending(p string) Account { return Payable(p) + ":pending" }

// PayableDue may be paid; a payout spends nothing else.
func PayableDue(p string) Account { return Payable(p) + ":due" }

// PayableHeld is disputed or on hold.
func PayableHeld(p string) Account { return Payable(p) + ":held" }

// ReserveOf is kept by contract until its release date.
func ReserveOf(p string) Account { return Account("liabilities:reserve:" + part(p)) }

// Accrued is earned by a partner and not yet due.
func Accrued(p string) Account { return Account("liabilities:accrued:" + part(p)) }

// Unclaimed is dormant money, to be remitted to a jurisdiction.
func Unclaimed(jurisdiction string) Account {
	return Account("liabilities:unclaimed:" + part(jurisdiction))
}

// InTransit is handed to the rail.
func InTransit(rail string) Account { return Account("liabilities:in-transit:" + part(rail)) }

// TaxesWithheld is above the accounts of all authorities.
func TaxesWithheld() Account { return "liabilities:tax-withheld" }

// TaxWithheld is withheld from payees and not deposited.
func TaxWithheld(authority string) Account {
	return Account("liabilities:tax-withheld:" + part(authority))
}

// SalesTax is collected for a jurisdiction.
func SalesTax(jurisdiction string) Account {
	return Account("liabilities:sales-tax:" + part(jurisdiction))
}

// Deferred is fees charged and not yet earned.
func Deferred(kind string) Account { return Account("liabilities:deferred:" + part(kind)) }

// DeferredIncome is fees charged and not yet earned, of all kinds.
func DeferredIncome() Account { return "liabilities:deferred" }

// Income is our revenue of a kind: share, usage, listing, certification, placement,
// support, lead, pass-through, sales.
func Income(kind string) Account { return Account("income:" + part(kind)) }

// Contra is a reduction of revenue: discount, credit, goodwill.
func Contra(kind string) Account { return Account("income:contra:" + part(kind)) }

// Expense is our cost of a kind: referral, guarantee, processing, chargeback, partner-share,
// credit-loss, fx.
func Expense(kind string) Account { return Account("expenses:" + part(kind)) }

// Opening takes over balances from other books.
func Opening() Account { return "equity:opening" }

// DebitNormal reports whether the account's balance is normally a debit.
func (a Account) DebitNormal() bool {
	return a.Under("assets") && !a.Under(Allowance()) || a.Under("expenses") || a.Under("income:contra")
}

// typeTag is hledger's type of the account: asset, cash, liability, revenue, expense,
// equity.
func (a Account) typeTag() string {
	switch {
	case a.Under("assets:cash"):
		return "C"
	case a.Under("assets"):
		return "A"
	case a.Under("liabilities"):
		return "L"
	case a.Under("income"):
		return "R"
	case a.Under("expenses"):
		return "X"
	}
	return "E"
}
