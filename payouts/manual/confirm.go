package manual

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"mete/money"
	"mete/payouts"
	"mete/period"
)

// Import says where a confirmation file comes from.
type Import struct {
	Name     string         // of the file, for messages
	Currency money.Currency // of lines without one
	By       string
	At       time.Time
}

// columns of a confirmation file; those marked must be there.
var columns = map[string]bool{"payout": true, "amount": true, "state": true, "bank_date": true, "bank_ref": true, "currency": false, "reason": false}

// maxFaults bounds what is said about one file.
const maxFaults = 20

// ImportConfirmation reads a bank's confirmation file and books it: all lines or, if
// any is wrong, none. The same file again changes nothing.
func ImportConfirmation(ctx context.Context, desk *payouts.Desk, r io.Reader, in Import) (payouts.Confirmed, error) {
	all, err := Read(r, in)
	if err != nil {
		return payouts.Confirmed{}, err
	}
	return desk.Confirm(ctx, all)
}

// Read reads a confirmation file: CSV with a line of column names, in any order, and
// one line per confirmation. Columns: payout (the reference on the payment), amount
// (12.34), state (paid, failed or returned), bank_date (2026-11-20), bank_ref, and
// optionally currency and reason. It is strict, and names every line and column that
// is wrong.
func Read(r io.Reader, in Import) ([]payouts.Confirmation, error) {
	if strings.TrimSpace(in.By) == "" || in.At.IsZero() {
		return nil, fmt.Errorf("confirmations %s: who imports them and when are needed", in.Name)
	}
	limited := &io.LimitedReader{R: r, N: MaxFile + 1}
	lines := csv.NewReader(limited)
	lines.FieldsPerRecord = -1
	head, err := lines.Read()
	if err != nil {
		return nil, fmt.Errorf("confirmations %s: no line of column names: %w", in.Name, err)
	}
	at, err := headers(head)
	if err != nil {
		return nil, fmt.Errorf("confirmations %s: %w", in.Name, err)
	}
	f := &faults{name: in.Name}
	var all []payouts.Confirmation
	first := map[string]int{}
	for {
		row, err := lines.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("confirmations %s: %w", in.Name, err)
		}
		n, _ := lines.FieldPos(0)
		if len(row) != len(head) {
			f.add(n, "line", fmt.Sprintf("%d fields, the first line names %d", len(row), len(head)))
			continue
		}
		c := confirmation(row, at, in, n, f)
		key := c.Payout + "\x00" + string(c.Outcome)
		if before, twice := first[key]; twice && c.Payout != "" {
			f.add(n, "payout", fmt.Sprintf("%s %s stands on line %d already; ask the bank whether it moved the money twice", c.Payout, c.Outcome, before))
		}
		first[key] = n
		all = append(all, c)
		if len(all) > payouts.MaxConfirmations {
			return nil, fmt.Errorf("confirmations %s: more than %d lines; cut the file", in.Name, payouts.MaxConfirmations)
		}
	}
	switch {
	case limited.N <= 0:
		return nil, fmt.Errorf("confirmations %s: more than %d bytes; cut the file", in.Name, MaxFile)
	case len(f.all) > 0:
		return nil, f.error()
	case len(all) == 0:
		return nil, fmt.Errorf("confirmations %s: it confirms nothing; was the right file given?", in.Name)
	}
	return all, nil
}

// headers finds the columns.
func headers(head []string) (map[string]int, error) {
	at := map[string]int{}
	for i, name := range head {
		name = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")))
		if name == "reference" {
			name = "payout"
		}
		if _, ok := columns[name]; !ok {
			return nil, fmt.Errorf("line 1: unknown column %q; want payout, amount, state, bank_date, bank_ref, and currency and reason if there are any", name)
		}
		if _, twice := at[name]; twice {
			return nil, fmt.Errorf("line 1: column %q comes twice", name)
		}
		at[name] = i
	}
	var missing []string
	for name, needed := range columns {
		if _, ok := at[name]; needed && !ok {
			missing = append(missing, name)
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		return nil, fmt.Errorf("line 1: no column %s", strings.Join(missing, ", "))
	}
	return at, nil
}

// confirmation reads one line, saying what is wrong with each field.
func confirmation(row []string, at map[string]int, in Import, n int, f *faults) payouts.Confirmation {
	field := func(name string) string {
		if i, ok := at[name]; ok {
			return strings.TrimSpace(row[i])
		}
		return ""
	}
	c := payouts.Confirmation{Payout: field("payout"), BankRef: field("bank_ref"), Reason: field("reason"),
		By: in.By, At: in.At, Source: fmt.Sprintf("%s line %d", in.Name, n)}
	if c.Payout == "" {
		f.add(n, "payout", "empty; want the reference of the payment, such as P-2026-11-20-007")
	}
	switch s := payouts.Outcome(strings.ToLower(field("state"))); s {
	case payouts.Paid, payouts.Refused, payouts.CameBack:
		c.Outcome = s
	default:
		f.add(n, "state", fmt.Sprintf("%q is none of paid, failed, returned", field("state")))
	}
	currency := in.Currency
	if text := field("currency"); text != "" {
		var err error
		if currency, err = money.ParseCurrency(text); err != nil {
			f.add(n, "currency", err.Error())
		}
	}
	amount := field("amount")
	a, err := money.Parse(amount, currency)
	switch {
	case currency == "":
		f.add(n, "currency", "none in the file; name one")
	case strings.ContainsAny(amount, ",_' "):
		f.add(n, "amount", fmt.Sprintf("%q: no separators, so that nobody takes a comma for a point; want 1250.00", amount))
	case err != nil:
		f.add(n, "amount", err.Error())
	case a.Minor <= 0:
		f.add(n, "amount", fmt.Sprintf("%q: want the amount ordered, above zero; the state says which way it went", amount))
	}
	c.Amount = a
	if c.BankOn, err = period.ParseDate(field("bank_date")); err != nil {
		f.add(n, "bank_date", err.Error())
	}
	if c.BankRef == "" && c.Outcome != payouts.Refused {
		f.add(n, "bank_ref", "empty; it is what finds the payment on the bank statement")
	}
	return c
}

// faults collects what is wrong with a file.
type faults struct {
	name string
	all  []string
	more int
}

func (f *faults) add(line int, column, what string) {
	if len(f.all) == maxFaults {
		f.more++
		return
	}
	f.all = append(f.all, fmt.Sprintf("line %d, %s: %s", line, column, what))
}

func (f *faults) error() error {
	more := ""
	if f.more > 0 {
		more = fmt.Sprintf("\n  and %d more", f.more)
	}
	return fmt.Errorf("confirmations %s: nothing was booked:\n  %s%s", f.name, strings.Join(f.all, "\n  "), more)
}
