package pricing_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

func dec(s string) decimal.Decimal {
	d, err := decimal.NewFromString(s)
	if err != nil {
		panic(err)
	}
	return d
}

func parse(t testing.TB, text string) *pricing.Terms {
	t.Helper()
	terms, err := pricing.ParseTerms("test.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return terms
}

// doc is a contract of partner quill in USD and UTC with the given rules.
func doc(rules ...string) string {
	return "contract: c\npartner: quill\napps: [a]\ncurrency: USD\nzone: UTC\neffective: {from: 2015-01-01}\nrules:\n  - " + strings.Join(rules, "\n  - ") + "\n"
}

func tx(typ, id string, at time.Time, amount string) metering.Transaction {
	d := dec(amount)
	t := metering.Transaction{Event: metering.Event{ID: id, Source: "s", Type: typ, Time: at, Customer: "c1",
		Data: metering.Data{App: "a", Amount: &d, Currency: "USD", Class: metering.Marketplace}}}
	copy(t.Key[:], fmt.Sprintf("%-16s", id))
	return t
}

func calls(n string, customer string) metering.Usage {
	q := dec(n)
	return metering.Usage{App: "a", Customer: partner.CustomerID(customer), Type: metering.UsageAPI, Count: max(1, q.IntPart()), Quantity: q}
}

// month is the Input of one month of some terms.
func month(m string, terms []*pricing.Terms, txs []metering.Transaction, usage ...metering.Usage) pricing.Input {
	pm, err := period.ParseMonth(m)
	if err != nil {
		panic(err)
	}
	in := pricing.Input{Group: "g", Month: pm, Meters: []metering.Meter{{ID: "m", Type: metering.UsageAPI, Aggregate: metering.AggregateQuantity}}}
	for i, t := range terms {
		p := t.InForce(pm)
		for _, later := range terms[i+1:] {
			if from := later.From.In(later.Zone); later.Contract == t.Contract && from.Before(p.End) {
				p.End = from
			}
		}
		if p.IsEmpty() {
			continue
		}
		s := pricing.Segment{Terms: t, Period: p}
		for _, x := range txs {
			if p.Contains(x.Time) && slices.Contains(t.Apps, x.Data.App) {
				s.Transactions = append(s.Transactions, x)
			}
		}
		s.Usage = append(slices.Clone(usage), cellsOf(s.Transactions)...)
		in.Segments = append(in.Segments, s)
	}
	return in
}

func price(t testing.TB, in pricing.Input) pricing.Result {
	t.Helper()
	res, err := pricing.Price(in)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// sum adds up the amounts of a rule's lines, or of a part of it; exact leaves them unrounded.
func sum(res pricing.Result, rule, part string, exact bool) decimal.Decimal {
	total := decimal.Zero
	for _, l := range res.Lines {
		if (rule == "" || l.Rule == rule) && (part == "" || l.Part == part) {
			if exact {
				total = total.Add(l.Exact)
			} else {
				total = total.Add(l.Amount.Decimal())
			}
		}
	}
	return total
}

// cellsOf is the usage cells of the transactions, one each: cells that share all their
// dimensions must share their events, so those are put together.
func cellsOf(txs []metering.Transaction) []metering.Usage {
	var cells []metering.Usage
	for _, t := range txs {
		u := metering.Usage{App: t.Data.App, Customer: t.Customer, Type: t.Type, Class: t.Data.Class, Currency: t.Data.Currency, Environment: t.Data.Environment}
		i := slices.IndexFunc(cells, func(c metering.Usage) bool {
			c.Count, c.Quantity, c.Amount = 0, decimal.Decimal{}, decimal.Decimal{}
			return c == u
		})
		if i < 0 {
			i = len(cells)
			cells = append(cells, u)
		}
		cells[i].Count++
		if t.Data.Quantity != nil {
			cells[i].Quantity = cells[i].Quantity.Add(*t.Data.Quantity)
		} else {
			cells[i].Quantity = cells[i].Quantity.Add(decimal.NewFromInt(1))
		}
		if t.Data.Amount != nil {
			cells[i].Amount = cells[i].Amount.Add(*t.Data.Amount)
		}
	}
	return cells
}
