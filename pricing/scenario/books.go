package scenario

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Books answer what is posted of a party's month. They are asked month after month, once
// for each party and currency, and may remember what they said: a reserve is released
// later. Package billing knows the answers; this one does not know accounts.
type Books func(PartyMonth) ([]Posting, error)

// PartyMonth is what one party's month in one currency is posted from.
type PartyMonth struct {
	Party    partner.ID
	Currency money.Currency
	Month    period.Month
	Lines    []pricing.Line
	Late     []Late           // of closed months, without what a late limit bars
	InForce  []*pricing.Terms // contracts of the party in this currency
}

// Late is one line of a closed month, as statements hold it and as it is now. Either may
// be missing.
type Late struct{ Posted, Now *pricing.Line }

// Posting is an amount on an account: positive is a debit.
type Posting struct {
	Account string
	Amount  money.Amount
}

// The first words of rows about the books.
const (
	entryRow   = "entry"
	balanceRow = "balance"
)

// booked is what a scenario's books hold.
type booked struct {
	books   Books
	month   map[partner.ID]map[string]decimal.Decimal // of the last month, by party and account
	balance map[string]decimal.Decimal
}

// post posts the last month of every party.
func (r *runner) postBooks(late []Late) error {
	if !r.wantsBooks {
		return nil
	}
	if r.booked == nil {
		if r.open == nil {
			return fmt.Errorf("%s: there are no books here to compare with: run it with mete test", r.file)
		}
		r.booked = &booked{books: r.open(), balance: map[string]decimal.Decimal{}}
	}
	r.booked.month = map[partner.ID]map[string]decimal.Decimal{}
	for _, pm := range r.partyMonths(late) {
		postings, err := r.booked.books(pm)
		if err != nil {
			return fmt.Errorf("books of %s: %w", pm.Month, err)
		}
		of := r.booked.month[pm.Party]
		if of == nil {
			of = map[string]decimal.Decimal{}
			r.booked.month[pm.Party] = of
		}
		for _, p := range postings {
			d := p.Amount.Decimal()
			of[p.Account] = of[p.Account].Add(d)
			r.booked.balance[p.Account] = r.booked.balance[p.Account].Add(d)
		}
	}
	return nil
}

// partyMonths is the last month of every partner with a contract or a line, by currency.
// A partner stays in it once it was, so that what its books remember comes due.
func (r *runner) partyMonths(late []Late) []PartyMonth {
	m := r.months[len(r.months)-1]
	type key struct {
		party    partner.ID
		currency money.Currency
	}
	all := map[key]*PartyMonth{}
	of := func(p partner.ID, c money.Currency) *PartyMonth {
		k := key{p, c}
		if all[k] == nil {
			all[k] = &PartyMonth{Party: p, Currency: c, Month: m.month}
		}
		return all[k]
	}
	for _, t := range r.terms {
		of(t.Partner, t.Currency)
	}
	for _, t := range m.terms {
		x := of(t.Partner, t.Currency)
		x.InForce = append(x.InForce, t)
	}
	for _, l := range m.result.Lines {
		x := of(l.Party, l.Currency)
		x.Lines = append(x.Lines, l)
	}
	for _, l := range late {
		k := cmp.Or(l.Now, l.Posted).LineKey
		x := of(k.Party, k.Currency)
		x.Late = append(x.Late, l)
	}
	var out []PartyMonth
	for _, x := range all {
		out = append(out, *x)
	}
	slices.SortFunc(out, func(a, b PartyMonth) int {
		return cmp.Or(strings.Compare(string(a.Party), string(b.Party)), strings.Compare(string(a.Currency), string(b.Currency)))
	})
	return out
}

// add puts the books of a party beside the rows that are wanted: balances of an account
// with all that lie under it, and once an entry is wanted, every account that was moved.
func (b *booked) add(g *got, w want) {
	entries := false
	for _, row := range w.rows {
		what, account, ok := strings.Cut(row.name, " ")
		switch {
		case !ok:
		case what == entryRow:
			entries = true
		case what == balanceRow:
			sum := decimal.Zero
			for a, d := range b.balance {
				if a == account || strings.HasPrefix(a, account+":") {
					sum = sum.Add(d)
				}
			}
			g.silent[row.name] = sum
		}
	}
	if !entries {
		return
	}
	month := b.month[w.party]
	var accounts []string
	for a := range month {
		accounts = append(accounts, a)
	}
	slices.Sort(accounts)
	for _, a := range accounts {
		g.add(entryRow+" "+a, period.Month{}, month[a])
	}
}
