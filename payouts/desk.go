package payouts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// Desk is where payouts are planned, approved, submitted and confirmed.
type Desk struct {
	Store Store
	Books ledger.Store
	Rails map[string]Rail // by Traits().Name

	// Payee answers a payee's details as they are now, to stop a payout whose account
	// changed after the run was planned. Without it that is not checked.
	Payee func(ctx context.Context, id partner.ID) (partner.Payee, error)
}

// Gather completes an input with what the ledger and earlier payouts say. The result
// is a value: the same one gives the same plan.
func (d *Desk) Gather(ctx context.Context, in Input) (Input, error) {
	fail := func(err error) (Input, error) {
		return in, fmt.Errorf("gather for run %s: %w", in.RunID(), err)
	}
	var err error
	if in.Balances, err = d.Books.Balances(ctx, ledger.Filter{Prefix: allPayables(), Currency: in.Currency}); err != nil {
		return fail(err)
	}
	if in.Holds, err = d.Store.Holds(ctx, HoldFilter{Currency: in.Currency, InForce: true}); err != nil {
		return fail(err)
	}
	past, err := d.Store.Payouts(ctx, PayoutFilter{Currency: in.Currency})
	if err != nil {
		return fail(err)
	}
	g, err := remember(past, in.RunID(), in.PayOn.Year)
	if err != nil {
		return fail(err)
	}
	in.Unfinished, in.Paid, in.Again, in.PaidInYear = g.unfinished, g.paid, g.again, g.year
	in.Candidates = slices.Clone(in.Candidates)
	for i, c := range in.Candidates {
		in.Candidates[i].Statements = g.unpaid(c, in.PayOn)
	}
	if in.LastRun, in.LastPayees, err = d.lastRun(ctx, in, past); err != nil {
		return fail(err)
	}
	if in.FirstNumber, err = d.nextNumber(ctx, in); err != nil {
		return fail(err)
	}
	return in, nil
}

// Plan gathers, plans and keeps the plan. The same plan again is the same run: its
// approvals stand. Any difference makes the next revision, without approvals.
func (d *Desk) Plan(ctx context.Context, in Input) (Run, error) {
	if err := in.validate(); err != nil {
		return Run{}, err
	}
	if _, ok := d.Rails[in.Rail]; !ok {
		return Run{}, fmt.Errorf("plan %s: no rail %q is set up", in.RunID(), in.Rail)
	}
	in, err := d.Gather(ctx, in)
	if err != nil {
		return Run{}, err
	}
	old, err := d.Store.PayoutRun(ctx, in.RunID())
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return Run{}, err
	case len(old.Payouts) > 0 && old.State != RunSentBack:
		again := in
		again.FirstNumber = numberOf(slices.MinFunc(old.Payouts, func(a, b Payout) int { return numberOf(a.ID) - numberOf(b.ID) }).ID)
		r, err := Plan(again)
		if err != nil {
			return Run{}, err
		}
		if r.Content == old.Content {
			return old, nil
		}
	}
	r, err := Plan(in)
	if err != nil {
		return Run{}, err
	}
	return d.Store.SavePayoutRun(ctx, r)
}

// Find answers the one run that name means: its ID or the beginning of it, such as
// its pay date.
func (d *Desk) Find(ctx context.Context, name string) (Run, error) {
	r, err := d.Store.PayoutRun(ctx, name)
	if err == nil || !errors.Is(err, ErrNotFound) {
		return r, err
	}
	runs, err := d.Store.PayoutRuns(ctx, RunFilter{Prefix: name})
	switch {
	case err != nil:
		return Run{}, err
	case name == "" || len(runs) == 0:
		return Run{}, fmt.Errorf("run %q: %w; mete payout list shows them", name, ErrNotFound)
	case len(runs) > 1:
		ids := make([]string, len(runs))
		for i, r := range runs {
			ids[i] = r.ID
		}
		return Run{}, fmt.Errorf("run %q may be %s; name one: %w", name, strings.Join(ids, " or "), ErrNotFound)
	}
	return d.Store.PayoutRun(ctx, runs[0].ID)
}

// Approve keeps an approval. See [Run.Approve] for who may.
func (d *Desk) Approve(ctx context.Context, a Approval) (Run, error) {
	r, err := d.Find(ctx, a.Run)
	if err != nil {
		return Run{}, err
	}
	return d.Store.ChangePayoutRun(ctx, r.ID, func(r Run) (Run, error) { return r.Approve(a) })
}

// Return sends a run back to its planner and voids its approvals. Once anything of it
// was handed over that is too late.
func (d *Desk) Return(ctx context.Context, b SentBack) (Run, error) {
	r, err := d.Find(ctx, b.Run)
	if err != nil {
		return Run{}, err
	}
	if strings.TrimSpace(b.Reason) == "" || strings.TrimSpace(b.By) == "" {
		return r, fmt.Errorf("return run %s: say who and why, the planner has to know", r.ID)
	}
	return d.Store.ChangePayoutRun(ctx, r.ID, func(r Run) (Run, error) {
		if r.State == RunSentBack {
			return r, nil
		}
		if r.State != RunPlanned && r.State != RunApproved {
			return r, fmt.Errorf("return run %s: it is %s; ask the bank to stop payments, and import what it confirms: %w", r.ID, r.State, ErrState)
		}
		for _, p := range r.Payouts {
			if p.State != Planned && p.State != Cancelled {
				return r, fmt.Errorf("return run %s: payout %s is %s already; submit the rest: %w", r.ID, p.ID, p.State, ErrState)
			}
		}
		b.Run = r.ID
		r.State, r.SentBack, r.Approvals = RunSentBack, &b, nil
		return r, nil
	})
}

func allPayables() ledger.Account {
	return ledger.Account(strings.TrimSuffix(string(ledger.Payable("p")), ":p"))
}

// memory is what earlier payouts say about partners.
type memory struct {
	unfinished map[partner.ID]Payout
	paid       map[partner.ID]Before
	again      map[partner.ID]Payout
	covered    map[string]bool             // statements in payouts that stand
	year       map[partner.ID]money.Amount // paid or in transit in the calendar year, tax included
}

// remember reads past payouts, newest first. Planned payouts of the run itself do not
// count: planning again replaces them.
func remember(past []History, run string, year int) (memory, error) {
	m := memory{map[partner.ID]Payout{}, map[partner.ID]Before{}, map[partner.ID]Payout{}, map[string]bool{}, map[partner.ID]money.Amount{}}
	replaced := map[string]bool{}
	for _, h := range past {
		own := h.Run == run && h.State == Planned
		if own || h.State == Cancelled {
			continue
		}
		if h.State.Open() {
			m.unfinished[h.Partner] = h.Payout
		}
		if h.Replaces != "" {
			replaced[h.Replaces] = true
		}
		switch h.State {
		case Planned, InTransit, Settled:
			for _, s := range h.Statements {
				m.covered[s.ID] = true
			}
		case Failed, Returned:
			if _, later := m.again[h.Partner]; !later && !replaced[h.ID] {
				m.again[h.Partner] = h.Payout
			}
		}
		if _, later := m.paid[h.Partner]; !later && (h.State == InTransit || h.State == Settled) {
			m.paid[h.Partner] = Before{h.ID, h.PayOn, h.Amount}
		}
		if h.PayOn.Year == year && (h.State == InTransit || h.State == Settled) {
			sum, err := h.Gross(), error(nil)
			if before, ok := m.year[h.Partner]; ok {
				sum, err = before.Add(sum)
			}
			if err != nil {
				return m, fmt.Errorf("paid to %s in %d: %w", h.Partner, year, err)
			}
			m.year[h.Partner] = sum
		}
	}
	return m, nil
}

// unpaid lists the statements that are not paid yet, oldest first: those given and not
// paid before, be they due or not, and those of a payout that came back. If all that are
// due on the pay date are paid and money is due again (a dispute settled, a reserve
// released), it is paid up to the newest of them.
func (m memory) unpaid(c Candidate, payOn period.Date) []Statement {
	all := slices.Clone(c.Statements)
	for _, s := range m.again[c.Partner.ID].Statements {
		if !slices.ContainsFunc(all, func(x Statement) bool { return x.ID == s.ID }) {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b Statement) int { return a.Month.Compare(b.Month) })
	due := func(s Statement) bool { return s.isDue(payOn) }
	open := slices.DeleteFunc(slices.Clone(all), func(s Statement) bool { return m.covered[s.ID] })
	if slices.ContainsFunc(open, due) {
		return open
	}
	for _, s := range slices.Backward(all) {
		if due(s) {
			return append([]Statement{s}, open...)
		}
	}
	return open
}

// lastRun is the last run before this one that was submitted in the same currency, by
// the same rail and entity.
func (d *Desk) lastRun(ctx context.Context, in Input, past []History) (*PastRun, map[partner.ID]money.Amount, error) {
	own := in.RunID()
	for _, h := range past {
		if h.Run == own || !h.PayOn.Before(in.PayOn) || h.State == Planned || h.State == Cancelled || h.Rail != in.Rail {
			continue
		}
		r, err := d.Store.PayoutRun(ctx, h.Run)
		if err != nil {
			return nil, nil, err
		}
		if r.Entity != in.Entity {
			continue
		}
		last := PastRun{PayOn: r.PayOn, Total: money.New(0, in.Currency)}
		payees := map[partner.ID]money.Amount{}
		for _, p := range r.Payouts {
			if p.State == Cancelled || p.State == Planned {
				continue
			}
			last.Payees++
			payees[p.Partner] = p.Amount
			if last.Total, err = last.Total.Add(p.Amount); err != nil {
				return nil, nil, err
			}
		}
		return &last, payees, nil
	}
	return nil, nil, nil
}

// nextNumber is one more than the highest payout number of the pay date.
func (d *Desk) nextNumber(ctx context.Context, in Input) (int, error) {
	day, err := d.Store.Payouts(ctx, PayoutFilter{PayOn: in.PayOn})
	if err != nil {
		return 0, err
	}
	next := 1
	for _, h := range day {
		next = max(next, numberOf(h.ID)+1)
	}
	return next, nil
}

func numberOf(id string) int {
	n, err := strconv.Atoi(id[strings.LastIndexByte(id, '-')+1:])
	if err != nil {
		panic("payouts: internal error: payout number of " + id)
	}
	return n
}
