package payouts

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// Rules are the numbers a plan goes by. They are part of what is approved.
type Rules struct {
	CoolingOff    int          `json:"cooling_off"`    // business days after a change of bank details
	ScreeningDays int          `json:"screening_days"` // how long a clean screening counts; 0: for ever
	Change        int          `json:"change"`         // percent against last time worth a look
	TwoAbove      money.Amount `json:"two_above"`      // a larger run needs two approvers

	Withholding *WithholdingRule `json:"withholding,omitempty"` // nil: no tax is withheld
}

// The numbers of [DefaultRules], and bounds.
const (
	CoolingOffDays = 10 // business days: time for the real payee to notice a false change
	ScreeningDays  = 31 // the LEIE is published monthly
	ChangePercent  = 50
	TwoAboveMajor  = 100_000 // in units of the run's currency
	MaxPayees      = 10_000  // in one run
)

// DefaultRules are the rules in a currency unless the marketplace sets others.
func DefaultRules(c money.Currency) Rules {
	limit, err := money.Parse(fmt.Sprint(TwoAboveMajor), c)
	if err != nil {
		panic("payouts: internal error: limit of two approvers: " + err.Error())
	}
	return Rules{CoolingOff: CoolingOffDays, ScreeningDays: ScreeningDays, Change: ChangePercent, TwoAbove: limit}
}

// Candidate is a partner who may be paid. Balances are not in it: they are read from
// the ledger.
type Candidate struct {
	Partner      partner.Partner `json:"partner"`
	Currency     money.Currency  `json:"currency"`
	Minimum      *money.Amount   `json:"minimum,omitempty"`
	Keep         *money.Amount   `json:"keep,omitempty"`      // stays on the account
	Statements   []Statement     `json:"statements"`          // issued; those paid before are left out by [Desk.Gather]
	LastPaid     *money.Amount   `json:"last_paid,omitempty"` // only to override what payouts remembers (take-over)
	Sales        string          `json:"sales,omitempty"`     // "sales paid 48,300.00, were 21,450.00"
	OpenDisputes string          `json:"open_disputes,omitempty"`
	OwesSince    period.Month    `json:"owes_since,omitempty"`
	ChangedBy    string          `json:"changed_by,omitempty"`   // who changed bank details: "k.lee, r.shah"
	TaxWanted    string          `json:"tax_wanted,omitempty"`   // W-9; the form to ask for
	TaxAsked     int             `json:"tax_asked,omitempty"`    // how often it was asked for
	AccountGone  string          `json:"account_gone,omitempty"` // why the rail's account takes no money, if so
}

// Before is the last payout of a partner that was not cancelled.
type Before struct {
	Payout string
	On     period.Date
	Amount money.Amount
}

// Input is all that a plan is made from. Equal inputs give equal plans.
type Input struct {
	Entity, EntityName string
	PayOn              period.Date
	Number             int // of the run among runs of this day, currency, rail and entity; 0 and 1 are the first
	Currency           money.Currency
	Rail, RailLabel    string
	From               string
	Zone               string
	By                 string
	At                 time.Time
	Calendar           period.Calendar
	Rules              Rules // zero: DefaultRules
	Candidates         []Candidate
	Funds              *money.Amount

	// Filled in by Desk.Gather.
	Balances    []ledger.Balance      // everything under liabilities:payable in the currency
	Unfinished  map[partner.ID]Payout // planned in another run, or in transit
	Holds       []Hold                // in force
	Paid        map[partner.ID]Before // last time
	LastRun     *PastRun              // and its payees:
	LastPayees  map[partner.ID]money.Amount
	Again       map[partner.ID]Payout       // failed or returned and not paid again yet
	PaidInYear  map[partner.ID]money.Amount // in the calendar year of PayOn, tax included; in transit counts
	FirstNumber int                         // of the first payout
}

// RunID is the name of a run, made from what it is.
func (in Input) RunID() string {
	id := strings.ToLower(fmt.Sprintf("%s.%s.%s.%s", in.PayOn, in.Currency, in.Rail, in.Entity))
	if in.Number > 1 {
		id += fmt.Sprintf(".%d", in.Number)
	}
	return id
}

func (in Input) validate() error {
	switch {
	case in.PayOn.IsZero():
		return fmt.Errorf("plan payouts: no pay date; give the day the bank shall pay, such as 2026-11-20")
	case !in.Calendar.IsBusinessDay(in.PayOn):
		next, err := in.Calendar.AddBusinessDays(in.PayOn, 0)
		if err != nil {
			return fmt.Errorf("plan payouts for %s: %w", in.PayOn, err)
		}
		return fmt.Errorf("plan payouts for %s %s: banks do not work that day; the next business day is %s", in.PayOn.Weekday(), in.PayOn, next)
	case in.By == "":
		return fmt.Errorf("plan payouts for %s: nobody planned it; name who does, because a planner may not approve", in.PayOn)
	case in.Entity == "" || in.Rail == "" || in.Currency == "":
		return fmt.Errorf("plan payouts for %s: entity %q, rail %q and currency %q are all needed", in.PayOn, in.Entity, in.Rail, in.Currency)
	case len(in.Candidates) > MaxPayees:
		return fmt.Errorf("plan payouts for %s: %d candidates, at most %d fit in one run; plan by rail or entity", in.PayOn, len(in.Candidates), MaxPayees)
	}
	seen := map[partner.ID]bool{}
	for _, c := range in.Candidates {
		if c.Currency != in.Currency {
			return fmt.Errorf("plan payouts in %s for %s: candidate %s is in %s; a run pays one currency, plan another for it", in.Currency, in.PayOn, c.Partner.ID, c.Currency)
		}
		if seen[c.Partner.ID] {
			return fmt.Errorf("plan payouts for %s: candidate %s comes twice; one payee is paid once in a run", in.PayOn, c.Partner.ID)
		}
		seen[c.Partner.ID] = true
		if c.Minimum != nil && c.Minimum.Currency != in.Currency {
			return fmt.Errorf("plan payouts in %s for %s: the minimum of %s is %s", in.Currency, in.PayOn, c.Partner.ID, c.Minimum)
		}
		for _, s := range c.Statements {
			if !s.DueOn.IsZero() && (s.Adds == nil || s.Adds.Currency != in.Currency) {
				return fmt.Errorf("plan payouts in %s for %s: statement %s is due on %s, and what it adds is not known; say it in %s", in.Currency, in.PayOn, s.ID, s.DueOn, in.Currency)
			}
		}
		if c.Keep != nil && c.Keep.Currency != in.Currency {
			return fmt.Errorf("plan payouts in %s for %s: what %s keeps on its account is %s", in.Currency, in.PayOn, c.Partner.ID, c.Keep)
		}
	}
	return nil
}

// Plan decides who is paid what: everything on payable:due of payees who are
// payable, as far as it is due by their net terms, and for the rest why not. It fails with ErrBooks unless to pay + not now +
// held equals what the ledger holds for everybody, to the cent.
func Plan(in Input) (Run, error) {
	if err := in.validate(); err != nil {
		return Run{}, err
	}
	if in.Rules == (Rules{}) {
		in.Rules = DefaultRules(in.Currency)
	}
	p := &planner{in: in, due: map[partner.ID]money.Amount{}, held: map[partner.ID]money.Amount{}}
	p.run.Proposal = Proposal{
		ID: in.RunID(), Entity: in.Entity, EntityName: in.EntityName, PayOn: in.PayOn, Currency: in.Currency,
		Rail: in.Rail, RailLabel: cmp.Or(in.RailLabel, in.Rail), From: in.From, Zone: cmp.Or(in.Zone, "UTC"),
		PlannedBy: in.By, Rules: in.Rules, Funds: in.Funds, Last: in.LastRun,
	}
	p.run.State, p.run.PlannedAt, p.run.Revision = RunPlanned, in.At, 1
	steps := []func() error{p.balances, p.sort, p.number, p.total, p.look}
	for _, step := range steps {
		if err := step(); err != nil {
			return Run{}, fmt.Errorf("plan %s: %w", p.run.ID, err)
		}
	}
	doc, err := p.run.Proposal.Bytes()
	if err != nil {
		return Run{}, fmt.Errorf("plan %s: %w", p.run.ID, err)
	}
	p.run.Content = ContentOf(doc)
	return p.run, nil
}

// Bytes are the proposal as kept and hashed. What happens to payouts later is no part
// of it.
func (p Proposal) Bytes() ([]byte, error) {
	p.Payouts = slices.Clone(p.Payouts)
	for i := range p.Payouts {
		p.Payouts[i].State, p.Payouts[i].Reason = Planned, ""
	}
	return json.Marshal(p)
}

// ContentOf is the content hash of a proposal's bytes; people use its first eight
// characters.
func ContentOf(doc []byte) string {
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:])
}

type planner struct {
	in        Input
	run       Run
	due, held map[partner.ID]money.Amount
	books     money.Amount // due + held of everybody, from the ledger alone
	payees    int
	partners  map[partner.ID]Candidate
}

// balances reads what the ledger holds for each candidate, and refuses balances that
// belong to none.
func (p *planner) balances() error {
	p.partners = map[partner.ID]Candidate{}
	owner := map[ledger.Account]partner.ID{}
	for _, c := range p.in.Candidates {
		p.partners[c.Partner.ID] = c
		owner[ledger.PayableDue(string(c.Partner.ID))] = c.Partner.ID
		owner[ledger.PayableHeld(string(c.Partner.ID))] = c.Partner.ID
		p.due[c.Partner.ID] = p.zero()
		p.held[c.Partner.ID] = p.zero()
	}
	p.books = p.zero()
	with := map[partner.ID]bool{}
	for _, b := range p.in.Balances {
		isHeld := strings.HasSuffix(string(b.Account), ":held")
		if b.Amount.IsZero() || b.Amount.Currency != p.in.Currency || !isHeld && !strings.HasSuffix(string(b.Account), ":due") {
			continue
		}
		credit := b.Amount.Neg()
		id, known := owner[b.Account]
		if !known {
			return fmt.Errorf("%w: %s holds %s, and its partner is no candidate; add the partner, so that it is paid or said why not", ErrBooks, b.Account, credit)
		}
		if isHeld && credit.Minor < 0 {
			return fmt.Errorf("%w: %s is overdrawn by %s; more was released than held, post a correction first", ErrBooks, b.Account, b.Amount)
		}
		var err error
		if p.books, err = p.books.Add(credit); err != nil {
			return err
		}
		if isHeld {
			p.held[id] = credit
		} else {
			p.due[id] = credit
		}
		with[id] = true
	}
	p.payees = len(with)
	return nil
}

// sort puts every candidate with a balance under to pay or not now, and its held part
// under held.
func (p *planner) sort() error {
	for _, c := range p.in.Candidates {
		id := c.Partner.ID
		due, held := p.due[id], p.held[id]
		pay, err := p.candidate(c, due, held)
		if err != nil {
			return fmt.Errorf("partner %s: %w", id, err)
		}
		if !held.IsZero() {
			p.run.Held = append(p.run.Held, HeldBack{Partner: id, Amount: held, Reason: p.heldWhy(c), All: !pay})
		}
	}
	slices.SortFunc(p.run.Payouts, func(a, b Payout) int {
		return cmp.Or(cmp.Compare(b.Amount.Minor, a.Amount.Minor), cmp.Compare(a.Partner, b.Partner))
	})
	slices.SortStableFunc(p.run.NotNow, func(a, b Waiting) int {
		return cmp.Or(cmp.Compare(b.Amount.Minor, a.Amount.Minor), cmp.Compare(a.Partner, b.Partner))
	})
	slices.SortFunc(p.run.Held, func(a, b HeldBack) int {
		return cmp.Or(cmp.Compare(b.Amount.Minor, a.Amount.Minor), cmp.Compare(a.Partner, b.Partner))
	})
	return nil
}

// candidate puts a balance under to pay, under not now, or in parts under both, and
// reports whether anything is paid.
func (p *planner) candidate(c Candidate, balance, held money.Amount) (pay bool, err error) {
	due, parts, err := p.split(c, balance)
	if err != nil {
		return false, err
	}
	wait := func(amount money.Amount, why ...Reason) {
		p.run.NotNow = append(p.run.NotNow, Waiting{Partner: c.Partner.ID, Name: c.Partner.Name, Amount: amount, Reasons: why})
	}
	reasons, err := p.reasons(c, due)
	if err != nil {
		return false, err
	}
	switch pay = due.Minor > 0 && len(reasons) == 0; {
	case pay:
		x, err := p.payout(c, due, held)
		if err != nil {
			return false, err
		}
		p.run.Payouts = append(p.run.Payouts, x)
		if keep := p.kept(c, due); !keep.IsZero() {
			wait(keep, keepReason(keep))
		}
	case !due.IsZero():
		wait(due, reasons...)
	}
	for _, x := range parts {
		day, err := p.notDueReason(x.on)
		if err != nil {
			return pay, err
		}
		against, err := p.against(c)
		if err != nil {
			return pay, err
		}
		wait(x.amount, append([]Reason{day}, against...)...)
	}
	return pay, nil
}

// payout pays what is due of a balance.
func (p *planner) payout(c Candidate, due, held money.Amount) (Payout, error) {
	to, statements := c.Partner.Payee, p.dueStatements(c)
	pays, err := due.Sub(p.kept(c, due))
	if err != nil {
		return Payout{}, err
	}
	tax, err := p.withhold(c, pays)
	if err != nil {
		return Payout{}, err
	}
	if tax != nil {
		if pays, err = pays.Sub(tax.Amount); err != nil {
			return Payout{}, err
		}
	}
	return Payout{
		Run: p.run.ID, Partner: c.Partner.ID, Name: c.Partner.Name, Amount: pays, Withheld: tax, Held: held,
		UpTo: statements[len(statements)-1].ID, Statements: statements,
		Rail: p.in.Rail, Account: to.Account, Last4: to.Last4, PayOn: p.in.PayOn,
		Replaces: p.in.Again[c.Partner.ID].ID, State: Planned,
	}, nil
}

// number names the payouts. Numbers go on over all plans of a pay date, so that a
// name printed once never means something else.
func (p *planner) number() error {
	for i := range p.run.Payouts {
		p.run.Payouts[i].ID = fmt.Sprintf("P-%s-%03d", p.in.PayOn, max(p.in.FirstNumber, 1)+i)
	}
	p.run.Checks = p.checks()
	for _, c := range p.run.Checks {
		if c.Passed != c.Of {
			panic(fmt.Sprintf("payouts: internal error: %s passed by %d of %d payouts", c.Name, c.Passed, c.Of))
		}
	}
	return nil
}

// checks asks each payout again what made it payable, from the input alone.
func (p *planner) checks() []Check {
	ask := func(name string, ok func(x Payout, c Candidate) bool) Check {
		n := 0
		for _, x := range p.run.Payouts {
			if ok(x, p.partners[x.Partner]) {
				n++
			}
		}
		return Check{name, n, len(p.run.Payouts)}
	}
	checks := []Check{
		ask("issued", func(x Payout, _ Candidate) bool {
			return len(x.Statements) > 0 && !slices.ContainsFunc(x.Statements, func(s Statement) bool { return s.IssuedOn.IsZero() })
		}),
		ask("equals ledger", func(x Payout, c Candidate) bool {
			due, parts, err := p.split(c, p.due[x.Partner])
			if err != nil {
				return false
			}
			all, err := x.Gross().Add(p.kept(c, due))
			for _, part := range parts {
				if err == nil {
					all, err = all.Add(part.amount)
				}
			}
			return err == nil && all == p.due[x.Partner] && x.Held == p.held[x.Partner]
		}),
		ask("tax form", func(_ Payout, c Candidate) bool { return c.Partner.Payee.TaxForm != "" || p.withheldFrom(c) }),
		ask("OFAC, LEIE", func(_ Payout, c Candidate) bool { return !c.Partner.Payee.ScreenedOn.IsZero() }),
		ask("not paid before", func(x Payout, _ Candidate) bool { _, open := p.in.Unfinished[x.Partner]; return !open }),
	}
	if p.netTerms() {
		checks = append(checks, ask("due", func(x Payout, _ Candidate) bool {
			return !slices.ContainsFunc(x.Statements, func(s Statement) bool { return x.PayOn.Before(s.DueOn) })
		}))
	}
	return checks
}

// total adds up the plan and compares it with the ledger.
func (p *planner) total() error {
	t := Totals{ToPay: p.zero(), NotNow: p.zero(), Held: p.zero(), Ledger: p.books, LedgerPayees: p.payees,
		ToPayPayees: len(p.run.Payouts), HeldPayees: len(p.run.Held)}
	var err error
	add := func(to *money.Amount, a money.Amount) {
		if err == nil {
			*to, err = to.Add(a)
		}
	}
	for _, x := range p.run.Payouts {
		add(&t.ToPay, x.Amount)
		if x.Withheld != nil {
			if t.Withheld == nil {
				zero := p.zero()
				t.Withheld = &zero
			}
			add(t.Withheld, x.Withheld.Amount)
		}
		for _, s := range x.Statements {
			if t.NewestMonth.Before(s.Month) {
				t.NewestMonth, t.NewestIssueOn = s.Month, s.IssuedOn
			}
			if s.Month == t.NewestMonth && t.NewestIssueOn.Before(s.IssuedOn) {
				t.NewestIssueOn = s.IssuedOn
			}
		}
	}
	waiting := map[partner.ID]bool{}
	for _, x := range p.run.NotNow {
		add(&t.NotNow, x.Amount)
		waiting[x.Partner] = true
	}
	t.NotNowPayees = len(waiting)
	for _, x := range p.run.Held {
		add(&t.Held, x.Amount)
		if x.All {
			t.HeldEntirely++
		}
	}
	if err != nil {
		return err
	}
	t.Difference = p.books
	parts := []money.Amount{t.ToPay, t.NotNow, t.Held}
	if t.Withheld != nil {
		parts = append(parts, *t.Withheld)
	}
	for _, part := range parts {
		if t.Difference, err = t.Difference.Sub(part); err != nil {
			return err
		}
	}
	if !t.Difference.IsZero() {
		return fmt.Errorf("%w: to pay %s + not now %s + held %s differ by %s from the ledger's %s; nothing is paid until they agree",
			ErrBooks, t.ToPay.Grouped(), t.NotNow.Grouped(), t.Held.Grouped(), t.Difference.Grouped(), t.Ledger.Grouped())
	}
	p.run.Totals = t
	return nil
}

// look finds what is unusual: a large change, a first payout, changed bank details,
// somebody paid last time and not now.
func (p *planner) look() error {
	var changed, first, details, gone []Look
	listed := map[partner.ID]bool{}
	for _, x := range p.run.Payouts {
		listed[x.Partner] = true
		c := p.partners[x.Partner]
		amount := x.Amount
		before, paid := p.before(c)
		switch {
		case !paid:
			text := "first payout ever"
			if on := c.Partner.Payee.ConfirmedOn; !on.IsZero() {
				text += "; account confirmed " + p.day(on)
			}
			first = append(first, Look{x.Partner, &amount, "first", text})
		case farFrom(amount, before, p.in.Rules.Change):
			changed = append(changed, Look{x.Partner, &amount, "change", changeText(amount, before) + hint(c.Sales)})
		}
		if on := c.Partner.Payee.ChangedOn; paid && !on.IsZero() && p.recent(x.Partner, on) {
			until, err := p.in.Calendar.AddBusinessDays(on, p.in.Rules.CoolingOff)
			if err != nil {
				return err
			}
			by := ""
			if c.ChangedBy != "" {
				by = " (" + c.ChangedBy + ")"
			}
			details = append(details, Look{x.Partner, &amount, "details",
				fmt.Sprintf("bank details changed %s%s; cooling-off ended %s", p.day(on), by, p.day(until))})
		}
	}
	for _, x := range p.run.NotNow {
		listed[x.Partner] = true
	}
	for _, x := range p.run.Held {
		listed[x.Partner] = true
	}
	for _, id := range slices.Sorted(maps.Keys(p.in.LastPayees)) {
		if !listed[id] {
			text := "paid " + p.in.LastPayees[id].Grouped() + " last time; " + cmp.Or(p.partners[id].Sales, "nothing due now")
			gone = append(gone, Look{id, nil, "gone", text})
		}
	}
	p.run.Look = slices.Concat(changed, first, details, gone)
	return nil
}

// before is what the partner was paid last time.
func (p *planner) before(c Candidate) (money.Amount, bool) {
	if c.LastPaid != nil {
		return *c.LastPaid, true
	}
	b, ok := p.in.Paid[c.Partner.ID]
	return b.Amount, ok
}

// recent reports whether bank details changed on a day that no payout followed yet.
func (p *planner) recent(id partner.ID, changed period.Date) bool {
	b, ok := p.in.Paid[id]
	return !ok || !changed.Before(b.On)
}

func (p *planner) zero() money.Amount { return money.New(0, p.in.Currency) }

// day prints a date, with its year where it is not the pay date's.
func (p *planner) day(d period.Date) string { return dayOf(d, p.in.PayOn) }

func dayOf(d, near period.Date) string {
	if d.IsZero() {
		return "–"
	}
	if months := (d.Year-near.Year)*12 + int(d.Month-near.Month); months > -10 && months < 10 {
		return d.In(time.UTC).Format("2 Jan")
	}
	return d.Short()
}

// percentOf is the change from before to now in whole percent, half away from zero.
func percentOf(now, before money.Amount) decimal.Decimal {
	return now.Decimal().Sub(before.Decimal()).Mul(decimal.NewFromInt(100)).Div(before.Decimal())
}

func farFrom(now, before money.Amount, percent int) bool {
	return before.Minor > 0 && percentOf(now, before).Abs().GreaterThanOrEqual(decimal.NewFromInt(int64(percent)))
}

func changeText(now, before money.Amount) string {
	diff, err := now.Sub(before)
	if err != nil {
		return "was " + before.Grouped()
	}
	return fmt.Sprintf("%s (%s%%)", signed(diff.Grouped()), signed(percentOf(now, before).Round(0).String()))
}

func signed(s string) string {
	if strings.HasPrefix(s, "-") {
		return s
	}
	return "+" + s
}

func hint(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}
