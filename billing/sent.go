package billing

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// CompareSent compares the control totals that sources sent themselves, of the days from
// since on, with their stored events: day by day, in the zone that each names. The first
// that a source sent of a day counts; another one of the same day is a finding of its
// own. Every difference names source, day and app.
func (c *Reconciler) CompareSent(ctx context.Context, r *Reconciliation, since period.Date) error {
	stored, ok := c.Events.(metering.SumsBySource)
	if c.Facts == nil || !ok {
		return fmt.Errorf("this metering store keeps no control totals; compare with a file: --control FILE: %w", errNoTotals)
	}
	days := sourceDays{stored: stored}
	sources := map[string]*sentSums{}
	var last metering.DayTotals
	for t, err := range c.Facts.Totals(ctx, since) {
		if err != nil {
			return err
		}
		if last.Source == t.Source && last.Day == t.Day {
			r.Findings = append(r.Findings, Finding{"control totals", fmt.Sprintf("source %s, %s", t.Source, t.Day), "one word of a day",
				fmt.Sprintf("other totals of it, received %s; the first that came count", instant(t.ReceivedAt))})
			continue
		}
		last = t
		ours, err := days.of(ctx, &t)
		if err != nil {
			return err
		}
		if sources[t.Source] == nil {
			sources[t.Source] = &sentSums{}
		}
		sources[t.Source].compare(r, &t, ours)
	}
	for _, source := range slices.Sorted(maps.Keys(sources)) {
		s := sources[source]
		r.Balances = append(r.Balances, Balance{"control " + source, fmt.Sprintf("their events of %d days", s.days), "ours",
			strconv.FormatInt(s.theirs, 10), strconv.FormatInt(s.ours, 10), !s.differs})
	}
	if len(sources) == 0 {
		r.Balances = append(r.Balances, Balance{"control", "sources that sent totals", "", "0", "0", true})
	}
	return nil
}

var errNoTotals = errors.New("no control totals")

// sentSums are the sums of one source over its days.
type sentSums struct {
	days         int
	theirs, ours int64
	differs      bool // somewhere, though the sums may agree
}

// what is what a total is of.
type what struct {
	app  partner.AppID
	kind string
}

func (w what) compare(o what) int {
	return slices.Compare([]string{string(w.app), w.kind}, []string{string(o.app), o.kind})
}

// byCurrency are the totals of one app and type.
type byCurrency map[money.Currency]metering.DayTotal

func (b byCurrency) events() (n int64) {
	for _, t := range b {
		n += t.Events
	}
	return n
}

// compare holds one day's totals against what is stored of it.
func (s *sentSums) compare(r *Reconciliation, t *metering.DayTotals, ours map[what]byCurrency) {
	s.days++
	theirs, kinds := map[what]byCurrency{}, map[string]bool{}
	for _, x := range t.Totals {
		w := what{x.App, x.Type}
		if theirs[w] == nil {
			theirs[w] = byCurrency{}
		}
		theirs[w][x.Currency] = x
		kinds[x.Type] = true
	}
	all := map[what]bool{}
	for w := range theirs {
		all[w] = true
	}
	for w := range ours {
		if w.kind != metering.UsageVoided || kinds[w.kind] { // corrections are counted by who names them
			all[w] = true
		}
	}
	for _, w := range slices.SortedFunc(maps.Keys(all), what.compare) {
		app := "app " + string(w.app)
		if w.app == "" {
			app = "no app"
		}
		where := fmt.Sprintf("source %s, %s, %s, %s", t.Source, t.Day, app, w.kind)
		s.theirs += theirs[w].events()
		s.ours += ours[w].events()
		if _, plain := theirs[w][""]; len(theirs[w]) == 0 || plain && len(theirs[w]) == 1 {
			s.counts(r, where, theirs[w].events(), ours[w].events())
			continue
		}
		currencies := map[money.Currency]bool{}
		for c := range theirs[w] {
			currencies[c] = true
		}
		for c := range ours[w] {
			currencies[c] = true
		}
		for _, c := range slices.Sorted(maps.Keys(currencies)) {
			s.amounts(r, strings.TrimSuffix(where+", "+string(c), ", "), c, theirs[w][c], ours[w][c])
		}
	}
}

func (s *sentSums) counts(r *Reconciliation, where string, theirs, ours int64) {
	if theirs != ours {
		s.differs = true
		r.Findings = append(r.Findings, Finding{"control total", where, fmt.Sprintf("%d events, as the source says", theirs), fmt.Sprintf("%d stored", ours)})
	}
}

func (s *sentSums) amounts(r *Reconciliation, where string, c money.Currency, theirs, ours metering.DayTotal) {
	s.counts(r, where, theirs.Events, ours.Events)
	if theirs.Amount == nil { // it tells a count alone
		return
	}
	stored := decimal.Zero
	if ours.Amount != nil {
		stored = *ours.Amount
	}
	if !theirs.Amount.Equal(stored) {
		s.differs = true
		r.Findings = append(r.Findings, Finding{"control total", where, theirs.Amount.StringFixed(c.Digits()) + ", as the source says", stored.StringFixed(c.Digits()) + " stored"})
	}
}

// sourceDays reads what is stored of a day once for all sources.
type sourceDays struct {
	stored metering.SumsBySource
	read   period.Period
	day    map[string]map[what]byCurrency // by source
}

// of is what is stored of the source's day.
func (d *sourceDays) of(ctx context.Context, t *metering.DayTotals) (map[what]byCurrency, error) {
	p, err := t.Period()
	if err != nil {
		return nil, err
	}
	if d.day != nil && p.Start.Equal(d.read.Start) && p.End.Equal(d.read.End) {
		return d.day[t.Source], nil
	}
	all, err := d.stored.SumsBySource(ctx, p.Start, p.End)
	if err != nil {
		return nil, err
	}
	d.read, d.day = p, map[string]map[what]byCurrency{}
	for _, x := range all {
		w := what{x.App, x.Type}
		if d.day[x.Source] == nil {
			d.day[x.Source] = map[what]byCurrency{}
		}
		if d.day[x.Source][w] == nil {
			d.day[x.Source][w] = byCurrency{}
		}
		d.day[x.Source][w][x.Currency] = x.DayTotal
	}
	return d.day[t.Source], nil
}
