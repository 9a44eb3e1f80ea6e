package billing

import (
	"bufio"
	"fmt"
	"slices"
	"strings"

	"mete/catalogue"
	"mete/ledger"
	"mete/metering"
	"mete/money"
	"mete/period"
	"mete/pricing"
)

// in are the postings in a currency, which balance for themselves.
func (b *postings) in(c money.Currency) *postings {
	if c == b.currency {
		return b
	}
	if b.others == nil {
		b.others = map[money.Currency]*postings{}
	}
	if b.others[c] == nil {
		b.others[c] = newPostings(c)
	}
	return b.others[c]
}

// failed is the first error of any currency.
func (b *postings) failed() error {
	if b.err != nil {
		return b.err
	}
	for _, o := range b.others {
		if o.err != nil {
			return o.err
		}
	}
	return nil
}

// postExchanged moves what customers paid in other currencies to where it was paid: the
// processor holds the original amount, and the clearing of exchanges carries it there
// and what it is worth here, until it is exchanged. What the markup left us is a gain.
// The line itself was booked before, as if all of it had been paid in its currency.
func (l Line) postExchanged(b *postings, clearing ledger.Account) {
	switch l.Part {
	case "sales", "refunds", "chargebacks":
	default: // the amounts are behind a fee; no customer's money moves with it
		return
	}
	for _, x := range l.Exchanged {
		original := b.in(x.Original.Currency)
		original.add(clearing, x.Original.Minor)
		original.add(ledger.ClearingFX(), -x.Original.Minor)
		b.add(clearing, -x.Amount.Minor)
		b.add(ledger.ClearingFX(), x.Worth.Minor)
		b.add(ledger.Expense("fx"), x.Amount.Minor)
		b.add(ledger.Expense("fx"), -x.Worth.Minor)
	}
}

// rateRows are the rows of a table as a catalogue has them.
func rateRows(snap *catalogue.Snapshot) func(table string) []pricing.ExchangeRate {
	return func(table string) []pricing.ExchangeRate {
		t := snap.FX[table]
		var rows []pricing.ExchangeRate
		for _, r := range t.Rates {
			rows = append(rows, pricing.ExchangeRate{Table: table, Source: t.Source, Date: r.Date, From: r.From, To: r.To, Rate: r.Rate})
		}
		return rows
	}
}

// NoRate is amounts that a contract converts and that are not priced, because no rate
// was there when the month was closed.
type NoRate struct {
	Month period.Month `json:"month"`
	pricing.MissingRate
}

// noRates are the amounts of what was priced that no rate was there for.
func (out outcome) noRates() []NoRate {
	var all []NoRate
	for _, p := range out.priced {
		for _, missing := range p.Result.NoRates {
			all = append(all, NoRate{p.Month, missing})
		}
	}
	return all
}

// Remedy says what to do about it.
func (n NoRate) Remedy() string {
	return fmt.Sprintf("%s keeps the tables that it was closed with: pay what is missing by an adjustment, and add rates to fx document %s before the next month is closed", n.Month, n.Table)
}

// exchangedText is what came in other currencies, a text for each, as a page has it.
func (l Line) exchangedText() []string {
	var out []string
	for i := 0; i < len(l.Exchanged); {
		first := l.Exchanged[i]
		original, amount := money.New(0, first.From), money.New(0, first.To)
		from, until, rates := first.Date, first.Date, 0
		markups := map[string]bool{}
		for ; i < len(l.Exchanged) && l.Exchanged[i].Table == first.Table && l.Exchanged[i].From == first.From; i++ {
			x := l.Exchanged[i]
			original, amount = must(original.Add(x.Original)), must(amount.Add(x.Amount))
			until, rates = x.Date, rates+1
			if !x.Markup.IsZero() {
				markups[pricing.Percent(x.Markup)] = true
			}
		}
		text := fmt.Sprintf("of it %s %s came to %s", original.Grouped(), first.From, amount.Grouped())
		if rates == 1 {
			text += fmt.Sprintf(" at %s of %s", first.Rate, first.Date)
		} else {
			text += fmt.Sprintf(" at %d rates of %s to %s", rates, from, until)
		}
		text += ", " + first.Source
		if len(markups) > 0 {
			var less []string
			for m := range markups {
				less = append(less, m)
			}
			slices.Sort(less)
			text += ", less " + strings.Join(less, " and ")
		}
		out = append(out, text)
	}
	return out
}

// maxRates bounds how many rates of a line are written out.
const maxRates = 40

// writeExchanged writes which amounts in other currencies are behind the line, and at
// which rates.
func (x Explanation) writeExchanged(b *bufio.Writer) {
	if len(x.Line.Exchanged) == 0 {
		return
	}
	fmt.Fprintln(b, "\n  Converted (events, original, amount, rate)")
	for i, e := range x.Line.Exchanged {
		if i == maxRates {
			fmt.Fprintf(b, "    and %d more rates; --json lists all\n", len(x.Line.Exchanged)-i)
			break
		}
		fmt.Fprintf(b, "    %s%s %s%s %s  %s\n", left(groupInt(e.Events), 8), left(e.Original.Grouped(), 15), e.From, left(e.Amount.Grouped(), 15), e.To, e.Exchange)
	}
}

// convertedBy is what terms convert, for people.
func convertedBy(t *pricing.Terms) string {
	if t.FX == nil {
		return "nothing"
	}
	var out []string
	for _, c := range t.FX.Convert {
		out = append(out, string(c))
	}
	return "only " + strings.Join(out, " and ")
}

// noRate says which rate is missing for an event, and what to do.
func (v verdict) noRate(e metering.Accepted, contract string) string {
	text := "unpriced: no exchange rate"
	for _, m := range v.noRates {
		if m.Contract == v.Contract {
			text += ": " + m.String()
		}
	}
	do := "add it to that fx document before the month is closed"
	if !v.open {
		do = NoRate{Month: v.month, MissingRate: pricing.MissingRate{Table: v.terms.FX.Rates}}.Remedy()
	}
	return fmt.Sprintf("%s (contract %s, %s); %s", text, contract, e.Data.Currency, do)
}
