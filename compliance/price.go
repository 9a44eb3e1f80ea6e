package compliance

import (
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/partner"
	"mete/pricing"
)

// price is what a rule of a contract charges the partner.
type price struct {
	charges bool   // the partner pays more than nothing
	percent bool   // a part of money, not so much a piece
	text    string // for people: 15%, 0% to 15%, 0.01 per unit
}

// reliefs are kinds of rules that only take from what the partner pays, or add to what
// it gets.
var reliefs = []string{"cap", "discount", "credit", "guarantee"}

// priceOf reads what a rule charges. A kind or model that it does not know counts as a
// charge: the screen must not pass what it cannot read.
func (c *Case) priceOf(r *pricing.Rule) price {
	switch b := r.Body.(type) {
	case *pricing.Share:
		return percentPrice(b)
	case *pricing.UsageFee:
		return usagePrice(b.Price)
	case *pricing.FixedFee:
		return fixedPrice(b)
	case *pricing.Referral:
		return c.referralPrice(b)
	case *pricing.Quality:
		return price{}
	}
	if slices.Contains(reliefs, r.Kind) {
		return price{}
	}
	return price{charges: true, text: "a " + r.Kind}
}

func percentPrice(b *pricing.Share) price {
	var rates []decimal.Decimal
	for _, s := range b.Steps {
		rates = append(rates, s.Rate)
	}
	for _, rate := range b.Rates {
		rates = append(rates, rate)
	}
	for _, up := range b.Points {
		rates = append(rates, up.Points)
	}
	if b.Others || len(rates) == 0 {
		rates = append(rates, b.Rate)
	}
	p := price{text: between(rates, pricing.Percent)}
	p.charges = positive(rates...)
	p.percent = p.charges
	return p
}

func usagePrice(m pricing.Model) price {
	switch m.Model {
	case "per_unit":
		return price{charges: positive(m.Unit), text: m.Unit.String() + " per unit"}
	case "graduated":
		var units, flats []decimal.Decimal
		for _, s := range m.Steps {
			units, flats = append(units, s.Unit), append(flats, s.Flat)
		}
		p := price{charges: positive(units...) || positive(flats...), text: between(units, decimal.Decimal.String) + " per unit"}
		if positive(flats...) {
			p.text += " and flat " + between(flats, decimal.Decimal.String)
		}
		return p
	case "percentage":
		p := price{charges: positive(m.Rate, m.Fixed) || m.Min != nil && positive(*m.Min), percent: positive(m.Rate), text: pricing.Percent(m.Rate)}
		if positive(m.Fixed) {
			p.text += " and " + m.Fixed.String() + " per event"
		}
		return p
	}
	ofMoney := m.Model == "graduated_percentage" || m.Model == "event_amount"
	return price{charges: true, percent: ofMoney, text: "a price of the model " + m.Model}
}

func fixedPrice(b *pricing.FixedFee) price {
	amounts := make([]decimal.Decimal, 0, len(b.Amounts)+1)
	if b.Amount != nil {
		amounts = append(amounts, *b.Amount)
	}
	for _, a := range b.Amounts {
		amounts = append(amounts, a)
	}
	if b.Amount == nil && len(b.Amounts) == 0 {
		return price{charges: true, text: "what each event says"}
	}
	return price{charges: positive(amounts...), text: between(amounts, decimal.Decimal.String)}
}

// referralPrice charges the partner only if it is the one who pays.
func (c *Case) referralPrice(b *pricing.Referral) price {
	p := price{text: referralRate(b)}
	p.charges = c.party(b.From) == c.Terms.Partner && (b.Flat != nil && positive(*b.Flat) || b.Percent != nil && positive(*b.Percent))
	p.percent = p.charges && b.Percent != nil
	return p
}

// party is whom a word of a commission means.
func (c *Case) party(word string) partner.ID {
	if word == "partner" {
		return c.Terms.Partner
	}
	return partner.ID(word)
}

func referralRate(b *pricing.Referral) string {
	if b.Percent != nil {
		return pricing.Percent(*b.Percent) + " of what the customers pay"
	}
	return b.Flat.String() + " per converted lead"
}

func positive(ds ...decimal.Decimal) bool { return slices.ContainsFunc(ds, decimal.Decimal.IsPositive) }

// between is the least and the largest of them, or the one that there is.
func between(ds []decimal.Decimal, text func(decimal.Decimal) string) string {
	if len(ds) == 0 {
		return "nothing"
	}
	least, most := slices.MinFunc(ds, decimal.Decimal.Cmp), slices.MaxFunc(ds, decimal.Decimal.Cmp)
	if least.Equal(most) {
		return text(least)
	}
	return text(least) + " to " + text(most)
}

// class is the class that a rule names, by itself, by its meter, or by the rule that
// it adjusts; empty: every class.
func (c *Case) class(r *pricing.Rule) metering.Class {
	if r.Class != "" {
		return r.Class
	}
	switch b := r.Body.(type) {
	case *pricing.UsageFee:
		return c.Meters[b.Meter].Class
	case *pricing.Referral:
		return metering.Referral
	case *pricing.Quality:
		for i := range c.Terms.Rules {
			if adjusted := &c.Terms.Rules[i]; adjusted.ID == b.Adjusts && adjusted != r {
				return c.class(adjusted)
			}
		}
	}
	return ""
}

// reaches reports whether a rule is about events of the class. One that names no class
// is about all of them, unless its kind is none that prices events.
func (c *Case) reaches(r *pricing.Rule, k metering.Class) bool {
	class := c.class(r)
	if class != "" {
		return class == k
	}
	switch r.Body.(type) {
	case *pricing.Share, *pricing.UsageFee, *pricing.Quality:
		return true
	}
	return false
}

// unclassed says why a rule reaches a class that it does not name.
func (c *Case) unclassed(r *pricing.Rule) string {
	if c.class(r) == "" {
		return ", since it names no class,"
	}
	return ""
}

// appsOf are the apps that a rule is about: those it names, or the contract's, or all
// of the partner.
func (c *Case) appsOf(r *pricing.Rule) []partner.AppID {
	if len(r.Apps) > 0 {
		return r.Apps
	}
	if len(c.Terms.Apps) > 0 {
		return c.Terms.Apps
	}
	var apps []partner.AppID
	for id, a := range c.Apps {
		if a.Partner == c.Terms.Partner {
			apps = append(apps, id)
		}
	}
	slices.SortFunc(apps, func(a, b partner.AppID) int { return strings.Compare(string(a), string(b)) })
	return apps
}

// parties are the partners of a rule: the contract's, and whom a commission or a split
// names.
func (c *Case) parties(r *pricing.Rule) []partner.ID {
	ids := []partner.ID{c.Terms.Partner}
	var named []string
	switch b := r.Body.(type) {
	case *pricing.Referral:
		named = []string{b.From, b.To}
	case *pricing.Split:
		for id := range b.To {
			named = append(named, string(id))
		}
		slices.Sort(named)
	}
	for _, p := range named {
		if id := c.party(p); id != partner.Platform && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}
