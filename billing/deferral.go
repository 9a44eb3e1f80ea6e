package billing

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/shopspring/decimal"

	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Fees that are earned over months. A line that charges one credits deferred income in
// the place of income; each close earns what has become due of all that was charged so
// far, so that the months of a fee add up to it to the cent. Both follow from the lines
// that statements hold: nothing is counted on from month to month.

// Deferred is what one line of a statement charged, or gave back, of a fee that is
// earned over months. It is kept beside the line, for later closes.
type Deferred struct {
	Statement StatementID    `json:"statement"`
	Line      int            `json:"line"`
	Month     period.Month   `json:"month"` // of the statement
	Partner   partner.ID     `json:"partner"`
	Fee       Fee            `json:"fee"`
	Of        period.Month   `json:"of"`     // the month that the charge or credit is of
	Months    int            `json:"months"` // over which it is earned, that one included
	Charged   money.Amount   `json:"charged"`
	Back      money.Amount   `json:"back"`
	From      ledger.Account `json:"from"` // deferred income
	To        ledger.Account `json:"to"`   // what it becomes
}

// Fee names what charges belong together: a credit is one of what the same rule charged
// for the same scope.
type Fee struct {
	Contract string `json:"contract"`
	Rule     string `json:"rule"`
	Part     string `json:"part"`
	Scope    string `json:"scope,omitempty"`
}

func (f Fee) compare(g Fee) int {
	return cmp.Or(cmp.Compare(f.Contract, g.Contract), cmp.Compare(f.Rule, g.Rule), cmp.Compare(f.Part, g.Part), cmp.Compare(f.Scope, g.Scope))
}

func feeOf(k pricing.LineKey) Fee { return Fee{k.Contract, k.Rule, k.Part, k.Scope} }

// Earning is how a month moves one charge that is earned over months.
type Earning struct {
	Fee
	Of     period.Month   `json:"of"`     // when it was charged
	Months int            `json:"months"` // over which it is earned
	Before money.Amount   `json:"before"` // earned up to the month before
	Earned money.Amount   `json:"earned"` // in this month; negative: reversed
	Left   money.Amount   `json:"left"`   // charged, not given back and not earned yet
	From   ledger.Account `json:"from"`
	To     ledger.Account `json:"to"`
}

// Deferred is what the statement's lines add to the fees that are earned over months.
func (s Statement) Deferred() ([]Deferred, error) {
	var out []Deferred
	for _, l := range s.Lines {
		d := l.Deferral
		if d == nil || d.Charged.IsZero() && d.Back.IsZero() {
			continue
		}
		to, err := l.account()
		if err != nil {
			return nil, err
		}
		row := Deferred{
			Statement: s.ID, Line: l.Number, Month: s.Month, Partner: s.Partner, Fee: feeOf(l.LineKey), Of: l.LineKey.Month,
			Months: d.Months, Charged: d.Charged, Back: d.Back, From: l.deferredTo(), To: to,
		}
		if l.Defers != nil {
			row.Fee = *l.Defers
		}
		out = append(out, row)
	}
	return out, nil
}

// deferredTo is the account that holds a line's charge until it is earned.
func (l Line) deferredTo() ledger.Account {
	return ledger.Deferred(incomeOf(cmp.Or(l.Of, "fee"), l.Class))
}

// charge is what one month charged of a fee, while it is being earned.
type charge struct {
	of       period.Month
	months   int
	from, to ledger.Account

	charged, back int64
	passed        int   // months of it that have been earned
	earned        int64 // up to there
	left          int64 // to be earned in the rest
}

// earnUntil earns what falls into months before m: the parts of what was left when
// something was last given back, rounded as a sum, so that they add up.
func (c *charge) earnUntil(m period.Month) {
	k := min(max(monthsFrom(c.of, m), 0), c.months)
	if k <= c.passed {
		return
	}
	part := decimal.NewFromInt(c.left).Mul(decimal.NewFromInt(int64(k-c.passed))).DivRound(decimal.NewFromInt(int64(c.months-c.passed)), 0).IntPart()
	c.passed, c.earned, c.left = k, c.earned+part, c.left-part
}

// giveBack takes back so much: what is not earned yet, and where that is not enough,
// of what is.
func (c *charge) giveBack(minor int64) {
	c.back += minor
	if c.left -= minor; c.left < 0 {
		c.earned, c.left = c.earned+c.left, 0
	}
}

func monthsFrom(a, b period.Month) int { return (b.Year-a.Year)*12 + int(b.Month-a.Month) }

// chargeKey names a charge of a fee.
type chargeKey struct {
	Fee
	of period.Month
}

// schedule is how far all charges are earned at the end of a month, if these rows are all
// there is. What is given back takes first what is not earned yet: of the newest charge
// before it, then of older ones, then of its own month's; only then what is earned.
//
// Between two credits the months of a charge are parts of one sum. A charge is therefore
// kept as it was at the last credit, and earned from there for each month anew.
func schedule(rows []Deferred, upTo period.Month) map[chargeKey]charge {
	charges := map[chargeKey]*charge{}
	type credit struct {
		chargeKey
		minor int64
		row   Deferred
	}
	credits := map[chargeKey]*credit{}
	for _, r := range rows {
		k := chargeKey{r.Fee, r.Of}
		if !r.Charged.IsZero() {
			c := charges[k]
			if c == nil {
				c = &charge{of: r.Of}
				charges[k] = c
			}
			c.months, c.from, c.to = r.Months, r.From, r.To
			c.charged += r.Charged.Minor
			c.left += r.Charged.Minor
		}
		if !r.Back.IsZero() {
			if credits[k] == nil {
				credits[k] = &credit{chargeKey: k, row: r}
			}
			credits[k].minor += r.Back.Minor
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(credits), compareCharges) {
		x := credits[k]
		var takes []*charge
		for _, of := range slices.SortedFunc(maps.Keys(charges), compareCharges) {
			if of.Fee == k.Fee && !k.of.Before(of.of) {
				charges[of].earnUntil(k.of)
				takes = append(takes, charges[of])
			}
		}
		slices.SortStableFunc(takes, func(a, b *charge) int {
			if own := a.of == k.of; own != (b.of == k.of) {
				if own {
					return 1
				}
				return -1
			}
			return b.of.Compare(a.of)
		})
		for _, c := range takes {
			take := min(max(c.left, 0), max(x.minor, 0))
			c.giveBack(take)
			x.minor -= take
		}
		if x.minor == 0 {
			continue
		}
		if len(takes) == 0 { // of a charge that no statement holds
			takes = []*charge{{of: k.of, months: x.row.Months, passed: x.row.Months, from: x.row.From, to: x.row.To}}
			charges[k] = takes[0]
		}
		takes[0].giveBack(x.minor)
	}
	out := map[chargeKey]charge{}
	for k, c := range charges {
		c.earnUntil(upTo.Add(1))
		out[k] = *c
	}
	return out
}

func compareCharges(a, b chargeKey) int { return cmp.Or(a.of.Compare(b.of), a.compare(b.Fee)) }

// earn says what the month moves of the fees that are earned over months: those that
// earlier statements charged, and the statement's own.
func (s *Statement) earn(before []Deferred) error {
	own, err := s.Deferred()
	if err != nil || len(before)+len(own) == 0 {
		return err
	}
	was, is := schedule(before, s.Month.Add(-1)), schedule(slices.Concat(before, own), s.Month)
	for _, k := range slices.SortedFunc(maps.Keys(is), compareCharges) {
		c, earned := is[k], is[k].earned-was[k].earned
		if earned == 0 && c.left == 0 {
			continue
		}
		s.Earnings = append(s.Earnings, Earning{
			Fee: k.Fee, Of: k.of, Months: c.months, Before: money.New(was[k].earned, s.Currency),
			Earned: money.New(earned, s.Currency), Left: money.New(c.left, s.Currency), From: c.from, To: c.to,
		})
	}
	return nil
}

// earnEntry books what the month earned of what was charged before, or reverses it. It
// is nil when nothing was.
func (s Statement) earnEntry() (*ledger.Entry, error) {
	b := newPostings(s.Currency)
	for _, x := range s.Earnings {
		b.add(x.From, x.Earned.Minor)
		b.add(x.To, -x.Earned.Minor)
	}
	ps := b.postings()
	if b.err != nil || len(ps) == 0 {
		return nil, b.err
	}
	return &ledger.Entry{
		ID: "recognition:" + string(s.ID), Kind: "recognition", ValueOn: s.Month.Last(), BookedOn: s.Month.Last(),
		Memo: fmt.Sprintf("earned in %s of what %s was charged ahead", s.Month, s.Partner), Postings: ps,
	}, nil
}

// NotEarned is what the partner was charged for time that is still to come.
func (s Statement) NotEarned() money.Amount {
	sum := money.New(0, s.Currency)
	for _, x := range s.Earnings {
		sum = must(sum.Add(x.Left))
	}
	return sum
}

// addDeferred gives every account what earlier statements charged to be earned over
// months, and makes one where some of that is still to be earned.
func (r *run) addDeferred(ctx context.Context, accounts map[accountKey]*account, of func(partner.ID, money.Currency) *account) error {
	rows, err := r.Store.Deferred(ctx, r.manifest.Month)
	if err != nil {
		return err
	}
	byAccount := map[accountKey][]Deferred{}
	for _, d := range rows {
		k := accountKey{d.Partner, d.Charged.Currency}
		byAccount[k] = append(byAccount[k], d)
	}
	for k, ds := range byAccount {
		for _, c := range schedule(ds, r.manifest.Month.Add(-1)) {
			if c.left != 0 {
				of(k.partner, k.currency)
			}
		}
		if a := accounts[k]; a != nil {
			a.deferred = ds
		}
	}
	return nil
}

// refersTo makes an adjustment in the partner's favour that is about the charge of a fee
// which is earned over months a credit of that fee.
func (r *run) refersTo(ctx context.Context, a Adjustment, l *Line) error {
	if a.Statement == "" || a.Line == 0 || a.Amount.Minor <= 0 {
		return nil
	}
	about, err := r.Store.Statement(ctx, a.Statement)
	if err != nil || !about.Month.Before(r.manifest.Month) || about.Partner != a.Partner || about.Currency != a.Amount.Currency {
		return nil // about nothing that was stated before this month
	}
	of, err := about.Line(a.Line)
	if err != nil || of.Deferral == nil || of.Part != "fee" {
		return nil
	}
	fee := feeOf(of.LineKey)
	l.Defers, l.Class = &fee, of.Class
	l.Deferral = &pricing.Deferral{Months: of.Deferral.Months, Charged: money.New(0, a.Amount.Currency), Back: a.Amount}
	return nil
}

// verifyDeferred compares the rows kept beside the month's statements with their lines.
func (r *run) verifyDeferred(ctx context.Context, derived []Statement, v *Verification) error {
	rows, err := r.Store.Deferred(ctx, r.manifest.Month.Add(1))
	if err != nil {
		return err
	}
	have := map[string]Deferred{}
	name := func(d Deferred) string { return fmt.Sprintf("%s line %d", d.Statement, d.Line) }
	for _, d := range rows {
		if d.Month == r.manifest.Month {
			have[name(d)] = d
		}
	}
	for _, s := range derived {
		want, err := s.Deferred()
		if err != nil {
			return err
		}
		for _, d := range want {
			k, ok := have[name(d)]
			switch {
			case !ok:
				v.find("deferred", name(d), d.String(), "missing")
			case k != d:
				v.find("deferred", name(d), d.String(), k.String())
			}
			delete(have, name(d))
		}
	}
	for _, n := range slices.Sorted(maps.Keys(have)) {
		v.find("deferred", n, "none", have[n].String())
	}
	return nil
}

func (d Deferred) String() string {
	return fmt.Sprintf("%s charged and %s given back for %s by %s/%s, over %d months, %s to %s",
		d.Charged, d.Back, d.Of, d.Fee.Contract, d.Fee.Rule, d.Months, d.From, d.To)
}

// reconcileDeferred compares what the lines of all statements leave to be earned with
// the books, by kind of deferred income and currency: each partner's fees up to its
// newest statement.
func (c *Reconciler) reconcileDeferred(ctx context.Context, r *Reconciliation, statements []StatementRecord) error {
	rows, newest := map[accountKey][]Deferred{}, map[accountKey]period.Month{}
	for _, s := range statements {
		k := accountKey{s.Partner, s.Currency}
		own, err := s.Deferred()
		if err != nil {
			return fmt.Errorf("statement %s: %w", s.ID, err)
		}
		rows[k] = append(rows[k], own...)
		if newest[k].Before(s.Month) {
			newest[k] = s.Month
		}
	}
	type key struct {
		account  ledger.Account
		currency money.Currency
	}
	left, books := map[key]int64{}, map[key]int64{}
	for k, ds := range rows {
		for _, x := range schedule(ds, newest[k]) {
			left[key{x.from, k.currency}] += x.charged - x.back - x.earned
		}
	}
	bs, err := c.Ledger.Balances(ctx, ledger.Filter{Prefix: ledger.DeferredIncome()})
	if err != nil {
		return err
	}
	for _, b := range bs {
		k := key{b.Account, b.Amount.Currency}
		books[k] -= b.Amount.Minor
		left[k] += 0
	}
	for _, k := range slices.SortedFunc(maps.Keys(left), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.currency, b.currency))
	}) {
		r.equal(fmt.Sprintf("%s, minor units of %s", k.account, k.currency), "schedule of charges", "books", left[k], books[k])
	}
	return nil
}
