package ledger

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"mete/money"
)

// WriteJournal writes entries as a plain-text accounting journal that hledger (check
// --strict) and ledger (--strict --pedantic) take: directives for every currency and
// account, then the entries in order of booking date. The given accounts are declared
// besides those that the entries use. The value date is a tag where it differs, and
// so is the kind.
//
// The tools balance a transaction at the precision of its amounts, so every amount has
// exactly the decimals of its currency, and every amount is written.
func WriteJournal(w io.Writer, entries []Entry, accounts ...Account) error {
	for _, a := range accounts {
		if err := a.Validate(); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	for _, e := range entries {
		if err := e.Validate(); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	out := bufio.NewWriter(w)
	writeDirectives(out, accounts, entries)
	sorted := slices.Clone(entries)
	slices.SortStableFunc(sorted, func(a, b Entry) int { return a.BookedOn.Compare(b.BookedOn) })
	for _, e := range sorted {
		writeEntry(out, e)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func writeDirectives(out *bufio.Writer, accounts []Account, entries []Entry) {
	declared, currencies := map[Account]bool{}, map[money.Currency]bool{}
	for _, a := range accounts {
		declared[a] = true
	}
	for _, e := range entries {
		for _, p := range e.Postings {
			declared[p.Account], currencies[p.Amount.Currency] = true, true
		}
	}
	out.WriteString("; debit positive, credit negative; amounts in the currency's own decimals\n")
	for _, c := range slices.Sorted(maps.Keys(currencies)) {
		fmt.Fprintf(out, "commodity %s\n", c)
		if d := int(c.Digits()); d > 0 { // without decimals the tools disagree on the format: leave it out
			fmt.Fprintf(out, "    format 1000.%s %s\n", strings.Repeat("0", d), c)
		}
	}
	for _, a := range slices.Sorted(maps.Keys(declared)) {
		fmt.Fprintf(out, "account %s\n    ; type:%s\n", a, a.typeTag())
	}
}

func writeEntry(out *bufio.Writer, e Entry) {
	fmt.Fprintf(out, "\n%s * (%s)", e.BookedOn, e.ID)
	if memo := strings.TrimSpace(e.Memo); memo != "" {
		out.WriteString(" " + memo)
	}
	fmt.Fprintf(out, "\n    ; kind:%s", e.Kind)
	if e.ValueOn != e.BookedOn {
		fmt.Fprintf(out, ", value:%s", e.ValueOn)
	}
	width := 0
	for _, p := range e.Postings {
		width = max(width, len(p.Account)+len(p.Amount.Plain()))
	}
	for _, p := range e.Postings {
		plain := p.Amount.Plain()
		gap := width - len(p.Account) - len(plain) + 2 // two spaces end an account's name
		fmt.Fprintf(out, "\n    %s%s%s %s", p.Account, strings.Repeat(" ", gap), plain, p.Amount.Currency)
	}
	out.WriteString("\n")
}
