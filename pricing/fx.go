package pricing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/period"
)

// MaxRateAge is how many days old an exchange rate may be: weekends and holidays have
// none of their own.
const MaxRateAge = 7

// NoExchangeRate is why an amount that a contract converts is not priced.
const NoExchangeRate = "no_exchange_rate"

// FX says which amounts in other currencies a contract takes, and at which rates.
type FX struct {
	Rates   string           `json:"rates"`             // the table of rates, an fx document
	At      string           `json:"at"`                // one of the days below
	Convert []money.Currency `json:"convert,omitempty"` // empty: all
	Markup  decimal.Decimal  `json:"markup,omitzero"`   // what we keep of customers' money for converting it: 0.01
}

// Whose day's rate an amount is converted at, in the contract's zone.
const (
	AtSale     = "sale"      // the event's own day
	AtMonthEnd = "month_end" // the last day of the event's month
)

// ExchangeRate is a row of a table: what one unit of From was worth in To on a day. A
// rate is never turned around, and two are never chained.
type ExchangeRate struct {
	Table  string          `json:"table"`
	Source string          `json:"source"` // who published it
	Date   period.Date     `json:"date"`
	From   money.Currency  `json:"from"`
	To     money.Currency  `json:"to"`
	Rate   decimal.Decimal `json:"rate"`
}

// Exchange is the rate at which an amount was converted: the row's, less the markup.
type Exchange struct {
	ExchangeRate
	Markup decimal.Decimal `json:"markup,omitzero"`
}

// factor is what one unit of the original currency counts for.
func (x Exchange) factor() decimal.Decimal { return x.Rate.Mul(one.Sub(x.Markup)) }

// String is the rate for people.
func (x Exchange) String() string {
	less := ""
	if !x.Markup.IsZero() {
		less = ", less " + Percent(x.Markup)
	}
	return fmt.Sprintf("%s to %s at %s of %s, %s%s", x.From, x.To, x.Rate, x.Date, x.Source, less)
}

// Exchanged is amounts in another currency behind a line, all at one rate. On lines of
// customers' money it is that part of the line, with the line's sign.
type Exchanged struct {
	Exchange
	Events   int64        `json:"events"`
	Original money.Amount `json:"original"` // in the other currency
	Amount   money.Amount `json:"amount"`   // in the line's, rounded event by event
	Worth    money.Amount `json:"worth"`    // the same without the markup
}

// Converts reports whether the terms take amounts in the currency, their own included.
func (t *Terms) Converts(c money.Currency) bool {
	return c == t.Currency || t.FX != nil && c != "" && (len(t.FX.Convert) == 0 || slices.Contains(t.FX.Convert, c))
}

// rateDay is the day whose rate counts for an event.
func (t *Terms) rateDay(e *metering.Transaction) period.Date {
	if t.FX.At == AtMonthEnd {
		return period.MonthOf(e.Time, t.Zone).Last()
	}
	return period.DateOf(e.Time, t.Zone)
}

// foreign reports whether the event carries an amount that the terms must convert.
func (t *Terms) foreign(e *metering.Transaction) bool {
	return e.Data.Amount != nil && e.Data.Currency != t.Currency && t.Converts(e.Data.Currency)
}

// rateOn is the row that counts on a day: its own, or the last before it.
func rateOn(rows []ExchangeRate, table string, from, to money.Currency, on period.Date) (ExchangeRate, bool) {
	var best ExchangeRate
	for _, r := range rows {
		if r.Table == table && r.From == from && r.To == to && !on.Before(r.Date) && best.Date.Before(r.Date) {
			best = r
		}
	}
	return best, !best.Date.IsZero() && best.Date.DaysUntil(on) <= MaxRateAge
}

// MissingRate is amounts that a contract converts and no rate was there for.
type MissingRate struct {
	Contract string         `json:"contract"`
	Table    string         `json:"table"`
	From     money.Currency `json:"from"`
	To       money.Currency `json:"to"`
	On       period.Date    `json:"on"`
	Events   int64          `json:"events"`
}

func (m MissingRate) String() string {
	return fmt.Sprintf("table %s has no rate of %s to %s on %s, nor on the %d days before", m.Table, m.From, m.To, m.On, MaxRateAge)
}

// GatherRates puts into the input the rows of tables that its amounts in other
// currencies are converted at, and no others. An input without such amounts stays as it
// is.
func (in *Input) GatherRates(table func(name string) []ExchangeRate) {
	type pair struct {
		table    string
		from, to money.Currency
	}
	read, rows := map[string]bool{}, map[pair][]ExchangeRate{}
	used := map[ExchangeKey]bool{}
	for _, s := range in.Segments {
		t := s.Terms
		if t.FX == nil {
			continue
		}
		if !read[t.FX.Rates] {
			read[t.FX.Rates] = true
			for _, r := range table(t.FX.Rates) {
				k := pair{r.Table, r.From, r.To}
				rows[k] = append(rows[k], r)
			}
		}
		for i := range s.Transactions {
			e := &s.Transactions[i]
			if !t.foreign(e) || e.Data.Environment == metering.Sandbox {
				continue
			}
			r, ok := rateOn(rows[pair{t.FX.Rates, e.Data.Currency, t.Currency}], t.FX.Rates, e.Data.Currency, t.Currency, t.rateDay(e))
			if k := (Exchange{ExchangeRate: r}).key(); ok && !used[k] {
				used[k] = true
				in.Rates = append(in.Rates, r)
			}
		}
	}
	slices.SortFunc(in.Rates, compareRates)
}

func compareRates(a, b ExchangeRate) int {
	return cmp.Or(strings.Compare(a.Table, b.Table), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), a.Date.Compare(b.Date))
}

// ExchangeKey tells rates apart: the row, what it says, and the markup.
type ExchangeKey struct {
	table, source string
	date          period.Date
	from, to      money.Currency
	rate, markup  string
}

// key is what tells the rate from others.
func (x Exchange) key() ExchangeKey {
	return ExchangeKey{x.Table, x.Source, x.Date, x.From, x.To, x.Rate.String(), x.Markup.String()}
}

// exchanged is an event's amount in the contract's currency.
type exchanged struct {
	Exchange
	amount decimal.Decimal // rounded to the currency's decimals
	worth  decimal.Decimal // the same without the markup
}

// exchange converts an amount, rounded once by the contract's mode.
func (s *segment) exchange(x Exchange, amount decimal.Decimal) *exchanged {
	places, mode := s.Terms.Currency.Digits(), s.Terms.Round.Mode
	return &exchanged{x, money.RoundDecimal(amount.Mul(x.factor()), places, mode), money.RoundDecimal(amount.Mul(x.Rate), places, mode)}
}

// convert gives every event of the segment that carries an amount in another currency
// its amount in the contract's, at the rate of its own day; sales and what takes them
// back with the markup.
func (p *pricer) convert(s *segment) {
	fx := s.Terms.FX
	if fx == nil {
		return
	}
	for i := range s.transactions {
		t := &s.transactions[i]
		if !s.Terms.foreign(t.Transaction) {
			continue
		}
		row, ok := rateOn(p.in.Rates, fx.Rates, t.Data.Currency, s.Terms.Currency, s.Terms.rateDay(t.Transaction))
		if !ok {
			continue
		}
		x := Exchange{ExchangeRate: row}
		if t.ofCustomer() {
			x.Markup = fx.Markup
		}
		t.exchanged = s.exchange(x, *t.Data.Amount)
	}
}

// ofCustomer reports whether the event moves a customer's money.
func (t *transaction) ofCustomer() bool {
	return t.Type == metering.SalePaid || t.Type == metering.SaleRefunded || t.Type == metering.SaleChargebackLost
}

// convertBack converts what is given back of a sale at the rate of the sale: of an
// earlier month as it was attributed, of this one as it was converted. A sale that no
// rate was there for is not given back either.
func (p *pricer) convertBack(s *segment, t *transaction, original *Attribution) {
	if !s.Terms.foreign(t.Transaction) {
		return
	}
	if original != nil {
		if x := original.Exchange; x != nil && x.From == t.Data.Currency && x.To == s.Terms.Currency {
			t.exchanged = s.exchange(*x, *t.Data.Amount)
		}
		return
	}
	sale := p.sales[saleKey{s.Terms.Contract, t.Source, t.Data.RefersTo}]
	switch {
	case sale == nil || sale.Data.Currency != t.Data.Currency:
	case sale.exchanged == nil:
		t.exchanged = nil
	default:
		t.exchanged = s.exchange(sale.exchanged.Exchange, *t.Data.Amount)
	}
}

// rate is the rate that an event was converted at; nil: it was not.
func (t *transaction) rate() *Exchange {
	if t.exchanged == nil {
		return nil
	}
	return &t.exchanged.Exchange
}

// original is the amount that an event carries, whether or not it was converted.
func (t *transaction) original() decimal.Decimal { return *t.Data.Amount }

// missingRates is the amounts of the group that were not priced because no rate was
// there, by contract, currency and day.
func (p *pricer) missingRates() []MissingRate {
	sums := map[MissingRate]int64{}
	for _, s := range p.segments {
		for i := range s.transactions {
			if t := &s.transactions[i]; t.own && t.state == "unpriced" && t.why == NoExchangeRate {
				sums[MissingRate{Contract: s.Terms.Contract, Table: s.Terms.FX.Rates, From: t.Data.Currency, To: s.Terms.Currency, On: s.Terms.rateDay(t.Transaction)}]++
			}
		}
	}
	var out []MissingRate
	for m, n := range sums {
		m.Events = n
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b MissingRate) int {
		return cmp.Or(strings.Compare(a.Contract, b.Contract), strings.Compare(a.Table, b.Table), cmp.Compare(a.From, b.From), a.On.Compare(b.On))
	})
	return out
}

// foreignUsage adds events whose amounts are in another currency, one by one.
func (p *pricer) foreignUsage(s *segment, r *Rule, b *UsageFee, m metering.Meter, sums usageSums) {
	if s.Terms.FX == nil {
		return
	}
	p.events(s, r, m, func(t *transaction, read decimal.Decimal) {
		if !s.Terms.foreign(t.Transaction) {
			return
		}
		amount, why := s.amount(t)
		if why != "" {
			t.unpriced(why)
			return
		}
		t.priced(r)
		u := cellOf(t.Transaction)
		u.Amount = amount
		sum := sums.of(p.scope(s, b.Per, t.Data.App, t.Customer))
		b.take(sum, &u, read)
		sum.foreign = append(sum.foreign, t)
	})
}

// exchange notes on the line what of the usage was converted.
func (u *usageSum) exchange(l *lineBuilder) {
	for _, t := range u.foreign {
		l.exchange(t, one)
	}
}

// exchangedSum is an [Exchanged] while it is added up.
type exchangedSum struct {
	Exchange
	events                  int64
	original, amount, worth decimal.Decimal
}

// exchange notes that an amount on the line was converted.
func (b *lineBuilder) exchange(t *transaction, sign decimal.Decimal) {
	if t.exchanged == nil {
		return
	}
	if b.exchanged == nil {
		b.exchanged = map[ExchangeKey]*exchangedSum{}
	}
	k := t.exchanged.key()
	sum := b.exchanged[k]
	if sum == nil {
		sum = &exchangedSum{Exchange: t.exchanged.Exchange}
		b.exchanged[k] = sum
	}
	sum.events++
	sum.original = sum.original.Add(t.original().Mul(sign))
	sum.amount = sum.amount.Add(t.exchanged.amount.Mul(sign))
	sum.worth = sum.worth.Add(t.exchanged.worth.Mul(sign))
}

// addMoney adds a customer's money to the line; converted, it stands there with its
// rate, and with what rounding it sale by sale made of it.
func (b *lineBuilder) addMoney(t *transaction, what string, amount, sign decimal.Decimal) decimal.Decimal {
	if t.exchanged == nil {
		return b.add(what+", before tax", amount, sign)
	}
	b.exchange(t, sign)
	x := t.exchanged
	is := b.add(fmt.Sprintf("%s in %s, rate of %s", what, x.From, x.Date), t.original(), x.factor().Mul(sign))
	whole := amount.Mul(sign)
	if diff := whole.Sub(is); !diff.IsZero() {
		b.add("converted amounts, rounded one by one", diff, one)
	}
	return whole
}

// finishExchanged writes down what was converted, in order of table, currency and day.
func (b *lineBuilder) finishExchanged() error {
	for _, sum := range b.exchanged {
		e := Exchanged{Exchange: sum.Exchange, Events: sum.events}
		var err error
		for _, x := range []struct {
			to   *money.Amount
			from decimal.Decimal
			in   money.Currency
		}{{&e.Original, sum.original, sum.From}, {&e.Amount, sum.amount, sum.To}, {&e.Worth, sum.worth, sum.To}} {
			if *x.to, err = money.Exact(x.from, x.in); err != nil {
				return fmt.Errorf("%s rule %s: converted from %s: %w", b.Contract, b.Rule, sum.From, err)
			}
		}
		b.Line.Exchanged = append(b.Line.Exchanged, e)
	}
	slices.SortFunc(b.Line.Exchanged, compareExchanged)
	return nil
}

func compareExchanged(a, b Exchanged) int {
	return cmp.Or(compareRates(a.ExchangeRate, b.ExchangeRate), strings.Compare(a.Source, b.Source), a.Rate.Cmp(b.Rate), a.Markup.Cmp(b.Markup))
}

// ExchangedLess is what was converted on one line and not on another, rate by rate.
// Either may be nil.
func ExchangedLess(now, before *Line) ([]Exchanged, error) {
	sums := map[ExchangeKey]*Exchanged{}
	for _, side := range []struct {
		line *Line
		sign int64
	}{{now, 1}, {before, -1}} {
		if side.line == nil {
			continue
		}
		for _, e := range side.line.Exchanged {
			k := e.key()
			if sums[k] == nil {
				sums[k] = &Exchanged{Exchange: e.Exchange, Original: money.New(0, e.From), Amount: money.New(0, e.To), Worth: money.New(0, e.To)}
			}
			sum := sums[k]
			sum.Events += side.sign * e.Events
			for _, x := range []struct {
				to *money.Amount
				of money.Amount
			}{{&sum.Original, e.Original}, {&sum.Amount, e.Amount}, {&sum.Worth, e.Worth}} {
				if side.sign < 0 {
					x.of = x.of.Neg()
				}
				var err error
				if *x.to, err = x.to.Add(x.of); err != nil {
					return nil, err
				}
			}
		}
	}
	var out []Exchanged
	for _, e := range sums {
		if e.Events != 0 || !e.Original.IsZero() || !e.Amount.IsZero() || !e.Worth.IsZero() {
			out = append(out, *e)
		}
	}
	slices.SortFunc(out, compareExchanged)
	return out, nil
}

// readFX reads how amounts in other currencies are converted.
func (c *contract) readFX(f value) {
	o := c.object(f)
	if o == nil {
		return
	}
	fx := &FX{At: AtSale}
	c.terms.FX = fx
	if g, ok := o.need("rates", "the name of an fx document, such as rates: ecb"); ok {
		fx.Rates, _ = g.id()
	}
	if g, ok := o.need("at", "whose day's rate: at: sale, or at: month_end"); ok {
		fx.At, _ = g.oneOf(AtSale, AtMonthEnd)
	}
	if g, ok := o.need("convert", "convert: [EUR, CAD], or convert: all"); ok {
		fx.Convert = c.readCurrencies(g)
	}
	if g, ok := o.get("markup"); ok {
		fx.Markup, _ = g.percent()
		if !fx.Markup.LessThan(one) {
			g.bad("nothing would be left", "less than 100%")
		}
	}
	o.done()
}

// readCurrencies reads a list of currencies, or `all`, which gives none.
func (c *contract) readCurrencies(g value) []money.Currency {
	if s, ok := scalarText(g.node); ok {
		if s != "all" {
			g.bad(fmt.Sprintf("%q is no list of currencies", clip(s)), "such as [EUR, CAD], or all")
		}
		return nil
	}
	var out []money.Currency
	list := g.list()
	if list != nil && len(list) == 0 {
		g.bad("no currency is named", "such as [EUR, CAD], or all")
	}
	for _, e := range list {
		s, _ := e.text()
		cur, err := money.ParseCurrency(s)
		switch {
		case err != nil:
			e.bad(err.Error(), "three capital letters, such as EUR")
		case cur == c.terms.Currency:
			e.bad(fmt.Sprintf("%s is the contract's own currency", cur), "name others")
		case slices.Contains(out, cur):
			e.bad(fmt.Sprintf("%s is named twice", cur), "keep one")
		}
		out = append(out, cur)
	}
	return out
}

// checkFX refuses to convert what is not ours to exchange: a conversion is booked where
// we collect for the partner, sale by sale.
func (c *contract) checkFX(o *object) {
	why := ""
	switch t := c.terms; {
	case t.FX == nil:
		return
	case t.Collects == PartnerCollects:
		why = "the partner collects, in whatever currency"
	case t.Presentation == Principal:
		why = "the sale is in our own name"
	case t.Invoices():
		why = "sales count when they are invoiced"
	case slices.ContainsFunc(t.Rules, func(r Rule) bool { b, ok := r.Body.(*Share); return ok && b.Contest != nil }):
		why = "chargebacks count from the day they are opened"
	}
	if why != "" {
		o.at("fx").bad("amounts in other currencies are converted where we collect as the partner's agent, and here "+why, "leave fx out, and agree on a contract in each currency")
	}
}

func fxSchema() schema {
	return object1("how amounts in other currencies are converted; without it they are not priced", schema{
		"rates":   idSchema("the fx document that has the rates"),
		"at":      enum("whose day's rate, in the contract's zone: the event's own day, or the last day of its month", AtSale, AtMonthEnd),
		"convert": schema{"description": "which currencies", "anyOf": []schema{{"const": "all"}, listOf("", pattern("ISO 4217", `^[A-Z]{3}$`))}},
		"markup":  percentSchema("what the rate is lowered by for customers' money"),
	}.require("rates", "at", "convert"))
}
