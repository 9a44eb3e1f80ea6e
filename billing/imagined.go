package billing

import (
	"fmt"

	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Imagined is what one partner's month in one currency would be made of if there were a
// close: a scenario's month. Nothing of it is kept or posted.
type Imagined struct {
	Partner  partner.ID
	Currency money.Currency
	Month    period.Month
	Lines    []pricing.Line // of the month itself
	Late     []ImaginedLate
	InForce  []*pricing.Terms // of the partner, in order of contract and beginning
	Open     []Layer          // reserve kept from earlier months
}

// ImaginedLate is one key of a closed month: what statements hold of it, and what it
// comes to now. Either may be missing.
type ImaginedLate struct{ Posted, Now *pricing.Line }

// Statement puts the month together as a close does, so that [Statement.Entries] are what
// would be posted. Balances, evidence and dates of payment are left out: they come from
// books that there are not.
func (i Imagined) Statement() (Statement, error) {
	processors := map[string]string{}
	a := account{partner: partner.Partner{ID: i.Partner}, currency: i.Currency, inForce: i.InForce}
	for _, t := range i.InForce {
		processors[t.Contract] = t.Processor
	}
	for _, l := range i.Lines {
		a.priced = append(a.priced, Line{Section: section(l), Line: l, Processor: processors[l.Contract]})
	}
	for _, x := range i.Late {
		if x.Posted == nil && x.Now == nil {
			continue
		}
		l, differs, err := difference(x.Posted, x.Now, "late")
		if err != nil {
			return Statement{}, fmt.Errorf("%s of %s: %w", i.Month, i.Partner, err)
		}
		if differs {
			l.Processor = processors[l.Contract]
			a.corrections = append(a.corrections, l)
		}
	}
	for _, l := range i.Open {
		a.addLayer(l, i.Month)
	}
	s := Statement{ID: NewStatementID("scenario", i.Partner, i.Currency, i.Month), Partner: i.Partner, Currency: i.Currency, Month: i.Month}
	if err := s.addLines(a); err != nil {
		return Statement{}, fmt.Errorf("%s: %w", s.ID, err)
	}
	if err := s.reserve(a); err != nil {
		return Statement{}, fmt.Errorf("%s: reserve: %w", s.ID, err)
	}
	return s, nil
}
