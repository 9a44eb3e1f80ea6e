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

// Validate reports why the name is no account of the chart.
func (a Account) Validate() error {
	if !accountForm.MatchString(string(a)) {
		return fmt.Errorf("account %q is not in the chart: want assets|liabilities|income|expenses|equity and parts of lower-case letters, digits and '-'", a)
	}
	return nil
}

// Under reports whether a is the prefix itself or lies under it.
func (a Account) Under(prefix Account) bool {
	return a == prefix || strings.HasPrefix(string(a), string(prefix)+":")
}

// part turns a name into an account part. Dots and underscores become hyphens with a
// mark that keeps different names apart.
func part(s string) string {
	s = strings.ReplaceAll(s, "_", "-u-")
	return strings.ReplaceAll(s, ".", "-d-")
}

// The chart of accounts. P stands for a partner, see the table in docs/formats.md.

// Cash is the balance at the bank or platform behind a rail.
func Cash(rail string) Account { return Account("assets:cash:" + part(rail)) }

// Clearing is customers' money a processor collected and has not settled.
func Clearing(processor string) Account { return Account("assets:clearing:" + part(processor)) }

// ClearingChargeback is contested and undecided money.
func ClearingChargeback() Account { return "assets:clearing:chargeback" }

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

// InTransit is handed to the rail.
func InTransit(rail string) Account { return Account("liabilities:in-transit:" + part(rail)) }

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

// Income is our revenue of a kind: share, usage, listing, certification, placement,
// support, lead.
func Income(kind string) Account { return Account("income:" + part(kind)) }

// Contra is a reduction of revenue: credits and goodwill.
func Contra(kind string) Account { return Account("income:contra:" + part(kind)) }

// Expense is our cost of a kind: referral, processing, chargeback, credit-loss.
func Expense(kind string) Account { return Account("expenses:" + part(kind)) }

// Opening takes over balances from other books.
func Opening() Account { return "equity:opening" }

// DebitNormal reports whether the account's balance is normally a debit.
func (a Account) DebitNormal() bool {
	return a.Under("assets") || a.Under("expenses") || a.Under("income:contra")
}
