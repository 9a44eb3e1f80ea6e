package billing

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"mete/catalogue"
	"mete/ledger"
	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// accountKey says whose statement in which currency.
type accountKey struct {
	partner  partner.ID
	currency money.Currency
}

func compareAccounts(a, b accountKey) int {
	return cmp.Or(cmp.Compare(a.partner, b.partner), cmp.Compare(a.currency, b.currency))
}

// statements assembles one statement for every partner with a contract in force, a
// line, a correction, an adjustment, a release, a balance or a fee still to be earned.
func (r *run) statements(ctx context.Context, out outcome) ([]Statement, error) {
	accounts, err := r.accounts(ctx, out)
	if err != nil {
		return nil, err
	}
	var ss []Statement
	for _, k := range slices.SortedFunc(maps.Keys(accounts), compareAccounts) {
		s, err := r.assemble(ctx, r.manifest.Month, *accounts[k])
		if err != nil {
			return nil, err
		}
		ss = append(ss, s)
	}
	return ss, nil
}

func (r *run) accounts(ctx context.Context, out outcome) (map[accountKey]*account, error) {
	m := r.manifest.Month
	snap := r.snapshots[m]
	accounts := map[accountKey]*account{}
	of := func(p partner.ID, c money.Currency) *account {
		k := accountKey{p, c}
		if accounts[k] == nil {
			who, ok := snap.Partners[p]
			if !ok {
				who = partner.Partner{ID: p, Name: string(p)}
			}
			accounts[k] = &account{partner: who, currency: c, zone: snap.Marketplace.ZoneName}
		}
		return accounts[k]
	}
	terms := map[string]*pricing.Terms{}
	owner := map[partner.AppID]*account{}
	for _, v := range snap.ContractsIn(m) {
		a := of(v.Terms.Partner, v.Terms.Currency)
		a.zone, a.inForce = v.Terms.ZoneName, append(a.inForce, v.Terms)
		a.terms = append(a.terms, termsRef(v))
		terms[v.Terms.Contract] = v.Terms
		for _, app := range snap.AppsOf(v.Terms) {
			owner[app] = a
		}
	}
	for _, p := range out.priced {
		if p.Month != m {
			continue
		}
		for _, l := range p.Result.Lines {
			a := of(l.Party, l.Currency)
			a.priced = append(a.priced, Line{Section: section(l), Line: l}.under(terms[l.Contract]))
		}
		for _, c := range p.Result.Counted {
			if a := owner[c.App]; a != nil {
				a.count(c)
			}
		}
	}
	for _, l := range out.corrections {
		a := of(l.Party, l.Currency)
		a.corrections = append(a.corrections, l)
	}
	if err := r.addIgnored(ctx, owner); err != nil {
		return nil, err
	}
	if err := r.addAdjustments(ctx, of); err != nil {
		return nil, err
	}
	if err := r.addLayers(ctx, of); err != nil {
		return nil, err
	}
	if err := r.addBalances(ctx, of); err != nil {
		return nil, err
	}
	return accounts, r.addDeferred(ctx, accounts, of)
}

// termsRef names the version as statements do.
func termsRef(v catalogue.VersionInForce) TermsRef {
	ref := TermsRef{Contract: v.Terms.Contract, Version: v.Terms.Version, Accepted: period.DateOf(v.AcceptedAt, v.Terms.Zone), By: v.AcceptedBy}
	if v.Terms.Collects == pricing.PartnerCollects {
		ref.Collects = v.Terms.Collects
	}
	if v.Terms.Presentation == pricing.Principal {
		ref.Presentation = v.Terms.Presentation
	}
	return ref
}

// count adds what became of a cell's events to the statement's evidence. Priced
// events are counted by their lines.
func (a *account) count(c pricing.Counted) {
	switch c.State {
	case "fact":
		a.evidence.Counted += c.Events
	case "sandbox":
		a.evidence.Sandbox += c.Events
	case "unpriced":
		if c.Why == pricing.NoExchangeRate {
			a.evidence.NoRate += c.Events
			return
		}
		a.evidence.Unpriced += c.Events
	}
}

// addIgnored counts the duplicates and conflicts of the month's events.
func (r *run) addIgnored(ctx context.Context, owner map[partner.AppID]*account) error {
	zone := r.manifest.Month.In(r.snapshots[r.manifest.Month].Marketplace.Zone)
	ignored, err := r.Events.Ignored(ctx, metering.Span{Start: zone.Start, End: zone.End, UpTo: r.manifest.Cutoff})
	if err != nil {
		return err
	}
	for _, i := range ignored {
		if a := owner[i.App]; a != nil {
			a.evidence.Duplicates += i.Duplicates
			a.evidence.Conflicts += i.Conflicts
		}
	}
	return nil
}

func (r *run) addAdjustments(ctx context.Context, of func(partner.ID, money.Currency) *account) error {
	all, err := r.Store.Adjustments(ctx)
	if err != nil {
		return err
	}
	for _, a := range all {
		if slices.Contains(r.manifest.Adjust, a.ID) {
			acc := of(a.Partner, a.Amount.Currency)
			l := a.line(r.manifest.Month)
			if err := r.refersTo(ctx, a, &l); err != nil {
				return fmt.Errorf("adjustment %s: %w", a.ID, err)
			}
			acc.adjustments = append(acc.adjustments, l)
		}
	}
	return nil
}

func (r *run) addLayers(ctx context.Context, of func(partner.ID, money.Currency) *account) error {
	layers, err := r.Store.OpenLayers(ctx, r.manifest.Month)
	if err != nil {
		return err
	}
	for _, l := range layers {
		of(l.Partner, l.Amount.Currency).addLayer(l, r.manifest.Month)
	}
	return nil
}

// addLayer says whether a layer is released in the month. A date that fell into months
// without a close is released on the first day of this one.
func (a *account) addLayer(l Layer, m period.Month) {
	if m.Last().Before(l.ReleaseOn) {
		a.open = append(a.open, l)
		return
	}
	if l.ReleaseOn.Before(m.First()) {
		l.ReleaseOn = m.First()
	}
	a.due = append(a.due, l)
}

// addBalances makes an account for every partner with something on the books.
func (r *run) addBalances(ctx context.Context, of func(partner.ID, money.Currency) *account) error {
	snap := r.snapshots[r.manifest.Month]
	byAccount := map[ledger.Account]partner.ID{}
	for id := range snap.Partners {
		p := string(id)
		for _, a := range []ledger.Account{ledger.PayablePending(p), ledger.PayableDue(p), ledger.PayableHeld(p), ledger.ReserveOf(p), ledger.ReceivablePartner(p), ledger.Accrued(p)} {
			byAccount[a] = id
		}
	}
	bs, err := r.Ledger.Balances(ctx, ledger.Filter{UpTo: r.manifest.Month.First().AddDays(-1), Booked: true})
	if err != nil {
		return err
	}
	for _, b := range bs {
		if id, ok := byAccount[b.Account]; ok && !b.Amount.IsZero() {
			of(id, b.Amount.Currency)
		}
	}
	return nil
}

// checkBalances compares the closing balances on the pages with the books.
func (c *Closer) checkBalances(ctx context.Context, ss []Statement) error {
	for _, s := range ss {
		for _, side := range []struct {
			prefix ledger.Account
			page   money.Amount
		}{
			{ledger.Payable(string(s.Partner)), s.Closing()},
			{ledger.ReserveOf(string(s.Partner)), s.ClosingReserve()},
			{ledger.ReceivablePartner(string(s.Partner)), s.Owes().Neg()},
			{ledger.Accrued(string(s.Partner)), s.accrued()},
		} {
			book, err := c.credit(ctx, side.prefix, s.Currency, s.Month.Last())
			if err != nil {
				return err
			}
			if book != side.page {
				return fmt.Errorf("statement %s closes %s at %s, the books hold %s: run 'mete verify %s' and do not issue it",
					s.ID, side.prefix, side.page.Grouped(), book.Grouped(), s.Month)
			}
		}
	}
	return nil
}

// credit is the credit balance under an account, as booked up to a day.
func (c *Closer) credit(ctx context.Context, prefix ledger.Account, cur money.Currency, upTo period.Date) (money.Amount, error) {
	sum := money.New(0, cur)
	bs, err := c.Ledger.Balances(ctx, ledger.Filter{Prefix: prefix, Currency: cur, UpTo: upTo, Booked: true})
	if err != nil {
		return sum, err
	}
	for _, b := range bs {
		if sum, err = sum.Sub(b.Amount); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// sameResult reports whether two pricings of a group's month are equal in all they
// say.
func sameResult(a, b pricing.Result) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
