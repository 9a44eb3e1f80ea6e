package billing

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/shopspring/decimal"

	"mete/catalogue"
	"mete/ledger"
	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// TierView is the tier that a partner has on a day, the facts it rests on, and what the
// criteria of the marketplace say. They decide nothing: a tier is what somebody recorded.
type TierView struct {
	Partner   partner.ID     `json:"partner"`
	Name      string         `json:"name"`
	On        period.Date    `json:"on"`
	Tier      partner.Tier   `json:"tier,omitempty"` // as recorded; empty: none
	Since     period.Date    `json:"since,omitzero"` // zero: from the beginning
	Facts     []TierFact     `json:"facts"`          // in order of their days
	Reached   partner.Tier   `json:"reached,omitempty"`
	From      period.Month   `json:"measured_from,omitzero"`
	Until     period.Month   `json:"measured_until,omitzero"`
	Criteria  []TierVerdict  `json:"criteria"`
	NotClosed []period.Month `json:"not_closed,omitempty"`     // months without statements, whose sales are not counted
	NotSummed []money.Amount `json:"not_summed,omitempty"`     // net sales in other currencies
	Apps      []CertifiedApp `json:"certified_apps,omitempty"` // all of its apps
}

// TierFact is a version of the partner's document that set its tier.
type TierFact struct {
	From       period.Date  `json:"from,omitzero"` // zero: from the beginning
	Tier       partner.Tier `json:"tier,omitempty"`
	Version    int          `json:"version"`
	RecordedBy string       `json:"recorded_by"`
	RecordedAt time.Time    `json:"recorded_at"`
}

// CertifiedApp is how an app of the partner stands on the day.
type CertifiedApp struct {
	App       partner.AppID `json:"app"`
	State     string        `json:"state"`
	Certified bool          `json:"certified"` // valid or due
}

// TierVerdict is a tier's criteria, each held against what was measured.
type TierVerdict struct {
	Tier     partner.Tier    `json:"tier"`
	Holds    bool            `json:"holds"`
	Criteria []TierCriterion `json:"criteria"`
}

// TierCriterion is one of them.
type TierCriterion struct {
	What     string          `json:"what"` // sales, certified apps, support answers
	Least    decimal.Decimal `json:"least"`
	Measured decimal.Decimal `json:"measured"`
	Missing  decimal.Decimal `json:"missing"`
}

// PartnerTier tells which tier a partner has on a day and what the criteria say. Sales
// are those on statements of closed months, so everybody can add them up again.
func (c *Closer) PartnerTier(ctx context.Context, id partner.ID, on period.Date) (TierView, error) {
	v := TierView{Partner: id, On: on, Facts: []TierFact{}, Criteria: []TierVerdict{}}
	if err := c.partnerTier(ctx, &v); err != nil {
		return v, fmt.Errorf("tier of partner %s: %w", id, err)
	}
	return v, nil
}

func (c *Closer) partnerTier(ctx context.Context, v *TierView) error {
	snap, err := c.Catalogue.At(ctx, v.On, time.Time{})
	if err != nil {
		return err
	}
	p, ok := snap.Partners[v.Partner]
	if !ok {
		return fmt.Errorf("no such partner on %s: %w", v.On, ErrNotFound)
	}
	v.Name, v.Tier = p.Name, p.Tier
	if err := c.tierFacts(ctx, v); err != nil {
		return err
	}
	criteria := snap.Marketplace.Tiers
	if criteria == nil {
		return nil
	}
	v.Until = v.On.MonthOf().Add(-1)
	v.From = v.On.MonthOf().Add(-criteria.Months)
	sales, err := c.tierSales(ctx, v, snap.Marketplace.Currency)
	if err != nil {
		return err
	}
	certified, answered, err := c.tierQuality(ctx, v, snap)
	if err != nil {
		return err
	}
	v.Reached = partner.Build
	for _, t := range []struct {
		tier partner.Tier
		asks *catalogue.TierCriteria
	}{{partner.Grow, criteria.Grow}, {partner.Strategic, criteria.Strategic}} {
		if t.asks == nil {
			continue
		}
		verdict := TierVerdict{Tier: t.tier, Holds: true, Criteria: []TierCriterion{}}
		add := func(what string, least, measured decimal.Decimal) {
			missing := decimal.Max(decimal.Zero, least.Sub(measured))
			verdict.Criteria = append(verdict.Criteria, TierCriterion{what, least, measured, missing})
			verdict.Holds = verdict.Holds && missing.IsZero()
		}
		if t.asks.Sales != nil {
			add("sales", *t.asks.Sales, sales)
		}
		if n := t.asks.CertifiedApps; n > 0 {
			add("certified apps", decimal.NewFromInt(int64(n)), decimal.NewFromInt(certified))
		}
		if n := t.asks.SupportAnswered; n > 0 {
			add("support answers", decimal.NewFromInt(int64(n)), decimal.NewFromInt(answered))
		}
		if v.Criteria = append(v.Criteria, verdict); verdict.Holds {
			v.Reached = t.tier
		}
	}
	return nil
}

// tierFacts are the versions of the partner's document at which its tier changed, up to
// and after the day; Since is the last one before it.
func (c *Closer) tierFacts(ctx context.Context, v *TierView) error {
	versions, err := c.Catalogue.History(ctx, catalogue.KindPartner, string(v.Partner))
	if err != nil {
		return err
	}
	slices.SortStableFunc(versions, func(a, b catalogue.Version) int {
		return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.Number, b.Number))
	})
	for i, x := range versions {
		if i+1 < len(versions) && versions[i+1].From == x.From {
			continue // replaced by a later one for the same day
		}
		var p partner.Partner
		if err := json.Unmarshal(x.Content, &p); err != nil {
			return fmt.Errorf("%s: %w", x.Ref, err)
		}
		if n := len(v.Facts); n > 0 && v.Facts[n-1].Tier == p.Tier || n == 0 && p.Tier == "" {
			continue
		}
		v.Facts = append(v.Facts, TierFact{x.From, p.Tier, x.Number, x.Author.String(), x.RecordedAt})
		if !v.On.Before(x.From) {
			v.Since = x.From
		}
	}
	return nil
}

// tierSales adds up net sales on the partner's statements of the months.
func (c *Closer) tierSales(ctx context.Context, v *TierView, in money.Currency) (decimal.Decimal, error) {
	sum := decimal.Zero
	others := map[money.Currency]money.Amount{}
	for m := v.From; !v.Until.Before(m); m = m.Add(1) { // at most 36, as the document says
		status, err := c.Store.Month(ctx, m)
		if err != nil {
			return sum, err
		}
		if status.State != ledger.Closed && status.State != ledger.Locked {
			v.NotClosed = append(v.NotClosed, m)
			continue
		}
		statements, err := c.Store.Statements(ctx, m, v.Partner)
		if err != nil {
			return sum, err
		}
		for _, s := range statements {
			if s.Currency == in {
				sum = sum.Add(s.NetSales.Decimal())
				continue
			}
			was, ok := others[s.Currency]
			if !ok {
				was = money.New(0, s.Currency)
			}
			if others[s.Currency], err = was.Add(s.NetSales); err != nil {
				return sum, err
			}
		}
	}
	for _, a := range others {
		if !a.IsZero() {
			v.NotSummed = append(v.NotSummed, a)
		}
	}
	slices.SortFunc(v.NotSummed, func(a, b money.Amount) int { return cmp.Compare(a.Currency, b.Currency) })
	return sum, nil
}

// tierQuality counts the partner's certified apps on the day and the support questions
// that were answered in the months.
func (c *Closer) tierQuality(ctx context.Context, v *TierView, snap *catalogue.Snapshot) (certified, answered int64, err error) {
	cutoff, err := c.Events.Cutoff(ctx)
	if err != nil {
		return 0, 0, err
	}
	zone := snap.Marketplace.Zone
	types := append([]string{metering.SupportAnswered}, standingTypes...)
	facts, err := newUsageReader(c.Events, cutoff).until(ctx, v.On.AddDays(1).In(zone), types)
	if err != nil {
		return 0, 0, err
	}
	from, end := v.From.In(zone).Start, v.Until.In(zone).End
	for _, f := range facts {
		if f.Type == metering.SupportAnswered && f.Data.Environment != metering.Sandbox && snap.Apps[f.Data.App].Partner == v.Partner && !f.Time.Before(from) && f.Time.Before(end) {
			answered++
		}
	}
	for id, app := range snap.Apps {
		if app.Partner != v.Partner {
			continue
		}
		a := CertifiedApp{App: id, State: certifierOf(app, zone, facts).on(v.On).State}
		if a.Certified = a.State == StandingValid || a.State == StandingDue; a.Certified {
			certified++
		}
		v.Apps = append(v.Apps, a)
	}
	slices.SortFunc(v.Apps, func(a, b CertifiedApp) int { return cmp.Compare(a.App, b.App) })
	return certified, answered, nil
}

// WriteText writes the view for people.
func (v TierView) WriteText(w io.Writer) error {
	var errs []error
	line := func(format string, args ...any) {
		_, err := fmt.Fprintf(w, format+"\n", args...)
		errs = append(errs, err)
	}
	line("%s (%s) on %s: tier %s%s", v.Name, v.Partner, v.On, cmp.Or(string(v.Tier), "none"), sinceText(v.Tier, v.Since))
	if v.Reached == "" {
		line("The marketplace's document has no partner_tiers: there are no criteria.")
	} else {
		line("Its figures from %s to %s reach %s%s.", v.From, v.Until, v.Reached, map[bool]string{true: "", false: "; its document says otherwise"}[v.Reached == cmp.Or(v.Tier, partner.Build)])
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range v.Criteria {
		fmt.Fprintf(t, "\n%s\t%s\n", c.Tier, map[bool]string{true: "reached", false: "not reached"}[c.Holds])
		for _, x := range c.Criteria {
			missing := ""
			if !x.Missing.IsZero() {
				missing = x.Missing.String() + " missing"
			}
			fmt.Fprintf(t, "  %s\tat least %s\tis %s\t%s\n", x.What, x.Least, x.Measured, missing)
		}
	}
	errs = append(errs, t.Flush())
	for _, a := range v.Apps {
		line("app %s: %s", a.App, a.State)
	}
	if len(v.NotClosed) > 0 {
		var names []string
		for _, m := range v.NotClosed {
			names = append(names, m.String())
		}
		line("Not closed, so without sales here: %s", strings.Join(names, ", "))
	}
	for _, a := range v.NotSummed {
		line("In another currency, not added: %s", a)
	}
	line("\nFacts")
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range v.Facts {
		fmt.Fprintf(t, "  %s\t%s\tversion %d, recorded by %s on %s\n", cmp.Or(f.From.String(), "beginning"), cmp.Or(string(f.Tier), "none"), f.Version, f.RecordedBy, f.RecordedAt.Format(time.DateOnly))
	}
	return errors.Join(append(errs, t.Flush())...)
}

func sinceText(tier partner.Tier, since period.Date) string {
	if tier == "" || since.IsZero() {
		return ""
	}
	return " since " + since.String()
}
