package billing

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"mete/ledger"
	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// StreamTotals counts what lies in the stream, read from the stream itself.
type StreamTotals interface {
	// Name is the stream's own; a stream that is made anew has another.
	Name() string

	// TotalsAfter counts the messages after one cutoff (nil: from the beginning) up to
	// another that the stream still has, and adds up the event counts in their headers.
	// It fails with [metering.ErrGap] where one between others is gone.
	TotalsAfter(ctx context.Context, after, upTo metering.Cutoff) (messages, announced int64, err error)

	// Expired is the last position of each partition of the cutoff that the stream no
	// longer has, 0 if it has all.
	Expired(ctx context.Context, of metering.Cutoff) (metering.Cutoff, error)
}

// Balance is one sum of the reconciliation: two figures that were counted apart and
// must be equal.
type Balance struct {
	What  string `json:"what"`
	Left  string `json:"left"`
	Right string `json:"right"`
	L     string `json:"left_value"`
	R     string `json:"right_value"`
	OK    bool   `json:"ok"`
}

// Reconciliation is the whole comparison, event to posting.
type Reconciliation struct {
	Balances []Balance               `json:"balances"`
	Refused  []metering.RefusedCount `json:"refused"` // before the stream, by class and newest reason
	Became   []Became                `json:"became"`  // what became of the stored events
	Redacted []metering.Redaction    `json:"redacted,omitempty"`
	Foreign  []Foreign               `json:"foreign,omitempty"`
	Findings []Finding               `json:"findings"`

	Checkpoint Checkpoint `json:"checkpoint,omitzero"` // the newest
	Moved      bool       `json:"checkpoint_moved"`    // by this reconcile
	Expired    int64      `json:"expired"`             // messages that the stream no longer has

	upTo                metering.Cutoff // where the store was
	messages, announced int64           // of the stream up to there
	agreed              bool            // stream and store
}

// Difference is the number of findings: 0 when everything is accounted for.
func (r Reconciliation) Difference() int { return len(r.Findings) }

// Became is how many stored events ended in one state.
type Became struct {
	State  string `json:"state"`
	Why    string `json:"why,omitempty"`
	Events int64  `json:"events"`
}

// Foreign is money of a closed month in another currency than the contract is in that
// covers its app: kept and counted, never converted, on no statement.
type Foreign struct {
	Month    period.Month  `json:"month"`
	App      partner.AppID `json:"app"`
	Contract string        `json:"contract"`
	Type     string        `json:"type"`
	Events   int64         `json:"events"`
	Amount   money.Amount  `json:"amount"`
}

func (r *Reconciliation) find(check, where, want, got string) {
	r.Findings = append(r.Findings, Finding{check, where, want, got})
}

func (r *Reconciliation) equal(what, left, right string, l, n int64) {
	b := Balance{what, left, right, strconv.FormatInt(l, 10), strconv.FormatInt(n, 10), l == n}
	r.Balances = append(r.Balances, b)
	if !b.OK {
		r.Findings = append(r.Findings, Finding{what, left + " against " + right, b.L, b.R})
	}
}

// Reconciler compares independent counts along the river. Its fields are set once.
type Reconciler struct {
	*Closer
	Totals     StreamTotals
	Quarantine metering.Replays // nil: what was refused is not told

	// Payouts compares what is kept of payouts with itself and with the ledger: a stage
	// that billing does not know. Without it nothing is said of payouts.
	Payouts func(ctx context.Context) ([]Balance, []Finding, error)
}

// Reconcile counts every stage for itself and compares: stream headers against the
// store, rows against tallies, stored events against what pricing says became of
// them, priced lines against statement lines, statement lines against postings, payouts
// against theirs.
func (c *Reconciler) Reconcile(ctx context.Context) (Reconciliation, error) {
	var r Reconciliation
	cutoff, err := c.Events.Cutoff(ctx)
	if err != nil {
		return r, fmt.Errorf("reconcile: %w", err)
	}
	counts, err := c.Events.Counts(ctx, cutoff)
	if err != nil {
		return r, fmt.Errorf("reconcile: store: %w", err)
	}
	if r.messages, r.announced, err = c.countStream(ctx, &r, cutoff); err != nil {
		return r, fmt.Errorf("reconcile: stream: %w", err)
	}
	r.equal("messages", "in the stream", "seen by the store", r.messages, counts.Messages)
	r.equal("events announced", "stream headers", "store tallies", r.announced, counts.Announced)
	r.equal("events", "announced", "stored + duplicate + conflict + undecoded", r.announced, accounted(counts))
	r.equal("keys", "rows", "identities", counts.Stored, counts.Keys)
	if err := c.reconcileCheckpoint(ctx, &r); err != nil {
		return r, fmt.Errorf("reconcile: checkpoint: %w", err)
	}
	r.agreed = r.Difference() == 0
	if c.Redactions != nil {
		all, err := c.Redactions.Redactions(ctx)
		if err != nil {
			return r, fmt.Errorf("reconcile: %w", err)
		}
		r.Redacted = slices.DeleteFunc(all, func(x metering.Redaction) bool { return !x.Applied() })
	}
	if c.Quarantine != nil {
		if r.Refused, err = c.Quarantine.RefusedCounts(ctx); err != nil {
			return r, fmt.Errorf("reconcile: quarantine: %w", err)
		}
	}
	if err := c.reconcilePriced(ctx, &r, counts); err != nil {
		return r, fmt.Errorf("reconcile: priced: %w", err)
	}
	if err := c.reconcileStatements(ctx, &r); err != nil {
		return r, fmt.Errorf("reconcile: statements: %w", err)
	}
	if err := c.reconcileReceipts(ctx, &r); err != nil {
		return r, fmt.Errorf("reconcile: receipts: %w", err)
	}
	if err := c.reconcileReceived(ctx, &r); err != nil {
		return r, fmt.Errorf("reconcile: received from partners: %w", err)
	}
	if c.Payouts != nil {
		balances, findings, err := c.Payouts(ctx)
		if err != nil {
			return r, fmt.Errorf("reconcile: %w", err)
		}
		r.Balances, r.Findings = append(r.Balances, balances...), append(r.Findings, findings...)
	}
	return r, nil
}

// reconcileReceipts compares what processors settled with what was booked for it.
func (c *Reconciler) reconcileReceipts(ctx context.Context, r *Reconciliation) error {
	receipts, err := c.Store.Receipts(ctx)
	if err != nil {
		return err
	}
	known := map[string]ledger.Entry{}
	for _, k := range receipts {
		known[k.Entry().ID] = k.Entry()
	}
	for e, err := range c.Ledger.Entries(ctx, ledger.Filter{Kind: "receipt"}) {
		if err != nil {
			return err
		}
		want, ok := known[e.ID]
		switch {
		case !ok:
			r.Findings = append(r.Findings, Finding{"receipt", e.ID, "a receipt", "none, but " + describeEntry(e) + " is booked"})
		case digestOf(want) != digestOf(e):
			r.Findings = append(r.Findings, Finding{"receipt", e.ID, describeEntry(want), describeEntry(e)})
		}
		delete(known, e.ID)
	}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		r.Findings = append(r.Findings, Finding{"receipt", id, describeEntry(known[id]), "not booked"})
	}
	return nil
}

// reconcilePriced compares the stored events of closed months, counted from their
// rows, with what pricing said became of each.
func (c *Reconciler) reconcilePriced(ctx context.Context, r *Reconciliation, counts metering.Counts) error {
	months, err := c.Store.Months(ctx)
	if err != nil {
		return err
	}
	seen := tally{became: map[[2]string]int64{}}
	var last *Manifest
	for _, s := range months {
		if s.State != ledger.Closed && s.State != ledger.Locked {
			if s.Issued > 0 {
				r.Findings = append(r.Findings, Finding{"month", s.Month.String(), fmt.Sprintf("closed: %d statements are issued", s.Issued), string(s.State)})
			}
			continue
		}
		if s.Manifest == nil {
			r.Findings = append(r.Findings, Finding{"manifest", s.Month.String(), "a manifest", "none"})
			continue
		}
		last = s.Manifest
	}
	for _, s := range months {
		if last == nil || s.Manifest == nil || s.State != ledger.Closed && s.State != ledger.Locked {
			continue
		}
		if err := c.reconcileMonth(ctx, r, s, *last, &seen); err != nil {
			return err
		}
	}
	if last != nil {
		r.equal("events of closed months", "rows of contracted apps", "said by pricing", seen.stored, seen.said)
	}
	if said := seen.became[[2]string{"sandbox"}]; seen.sandbox > 0 || said > 0 {
		r.equal("sandbox events of these", "rows", "said by pricing", seen.sandbox, said)
	}
	for _, k := range slices.SortedFunc(maps.Keys(seen.became), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		r.Became = append(r.Became, Became{k[0], k[1], seen.became[k]})
	}
	if twice := seen.said - seen.covered; twice != 0 {
		r.Became = append(r.Became, Became{"told of more than once", "by several contracts of one partner", -twice})
	}
	if rest := counts.Stored - counts.Voided - seen.covered; rest != 0 {
		r.Became = append(r.Became, Became{"not in a closed month", "other months, or no contract in force", rest})
	}
	return nil
}

// tally is what the rows of closed months add up to, and what pricing said of them.
type tally struct {
	covered         int64               // rows of apps with a contract
	stored, sandbox int64               // the same by contract, without what one leaves to another of its partner
	said            int64               // by pricing
	became          map[[2]string]int64 // by state and reason
}

// reconcileMonth counts one month's rows of contracted apps at the newest cutoff and
// compares them, app by app, with the newest pricing.
func (c *Reconciler) reconcileMonth(ctx context.Context, r *Reconciliation, s MonthStatus, last Manifest, seen *tally) error {
	cutoff := last.Cutoff
	snap, err := c.correctedCatalogue(ctx, *s.Manifest, last)
	if err != nil {
		return err
	}
	priced, err := c.Store.PricedMonth(ctx, s.Month, farFuture)
	if err != nil {
		return err
	}
	covers := map[string][]partner.AppID{}
	spans := map[partner.AppID][]period.Period{}
	for _, v := range snap.ContractsIn(s.Month) {
		covers[v.Terms.Contract] = snap.AppsOf(v.Terms)
		for _, app := range covers[v.Terms.Contract] {
			spans[app] = append(spans[app], v.Period)
		}
	}
	counted, rows := map[partner.AppID]int64{}, map[partner.AppID]int64{}
	foreign := map[foreignKey]bool{} // what pricing left for its currency
	for _, p := range priced {
		for _, k := range p.Result.Counted {
			if k.State == "elsewhere" { // told of by another contract: of the partner, or one looked at for a referral
				if slices.Contains(covers[k.Contract], k.App) {
					rows[k.App] -= k.Events
					seen.stored -= k.Events
					if k.Why == "sandbox" {
						seen.sandbox -= k.Events
					}
				}
				continue
			}
			counted[k.App] += k.Events
			seen.became[[2]string{k.State, k.Why}] += k.Events
			seen.said += k.Events
			if k.Why == "other_currency" {
				foreign[foreignKey{k.Contract, k.App, k.Type, ""}] = true
			}
		}
	}
	reader := newUsageReader(c.Events, cutoff)
	sums := map[foreignKey]*Foreign{}
	for _, v := range snap.ContractsIn(s.Month) {
		span, err := reader.span(ctx, v.Period)
		if err != nil {
			return err
		}
		for _, u := range span.cellsOf(snap.AppsOf(v.Terms)) {
			rows[u.App] += u.Count
			seen.stored += u.Count
			if u.Environment == metering.Sandbox {
				seen.sandbox += u.Count
				continue
			}
			if foreign[foreignKey{v.Terms.Contract, u.App, u.Type, ""}] && u.Currency != "" && !v.Terms.Converts(u.Currency) {
				if err := addForeign(sums, s.Month, v.Terms.Contract, u); err != nil {
					return fmt.Errorf("%s of %s in %s: %w", u.Type, u.App, u.Currency, err)
				}
			}
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(sums), compareForeign) {
		r.Foreign = append(r.Foreign, *sums[k])
	}
	for app, ps := range spans {
		for _, p := range united(ps) {
			span, err := reader.span(ctx, p)
			if err != nil {
				return err
			}
			for _, u := range span.cells[app] {
				seen.covered += u.Count
			}
		}
	}
	for app := range counted {
		if _, ok := rows[app]; !ok {
			rows[app] = 0
		}
	}
	for _, app := range slices.Sorted(maps.Keys(rows)) {
		if rows[app] != counted[app] {
			r.Findings = append(r.Findings, Finding{"events priced", fmt.Sprintf("%s of %s", app, s.Month),
				fmt.Sprintf("%d rows", rows[app]), fmt.Sprintf("%d said by pricing", counted[app])})
		}
	}
	return nil
}

// united is the same instants without overlaps, in order.
func united(ps []period.Period) []period.Period {
	ps = slices.Clone(ps)
	slices.SortFunc(ps, func(a, b period.Period) int { return a.Start.Compare(b.Start) })
	var out []period.Period
	for _, p := range ps {
		if n := len(out); n > 0 && !out[n-1].End.Before(p.Start) {
			out[n-1].End = later(out[n-1].End, p.End)
			continue
		}
		out = append(out, p)
	}
	return out
}

type foreignKey struct {
	contract string
	app      partner.AppID
	typ      string
	currency money.Currency
}

func compareForeign(a, b foreignKey) int {
	return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.contract, b.contract), cmp.Compare(a.typ, b.typ), cmp.Compare(a.currency, b.currency))
}

func addForeign(sums map[foreignKey]*Foreign, m period.Month, contract string, u metering.Usage) error {
	k := foreignKey{contract, u.App, u.Type, u.Currency}
	if sums[k] == nil {
		sums[k] = &Foreign{Month: m, App: u.App, Contract: contract, Type: u.Type, Amount: money.New(0, u.Currency)}
	}
	f := sums[k]
	amount, err := money.Exact(u.Amount, u.Currency)
	if err != nil {
		return err
	}
	f.Events += u.Count
	f.Amount, err = f.Amount.Add(amount)
	return err
}

// farFuture is after every close.
var farFuture = period.Month{Year: 9999, Month: 12}

// reconcileStatements compares priced lines with statement lines, and statement
// lines with postings.
func (c *Reconciler) reconcileStatements(ctx context.Context, r *Reconciliation) error {
	statements, err := c.Store.Statements(ctx, period.Month{}, "")
	if err != nil {
		return err
	}
	onPage := map[pricing.LineKey]int64{}
	months := map[period.Month]bool{}
	var pageSum, bookSum int64
	for _, s := range statements {
		months[s.Month] = true
		for _, l := range s.Lines {
			if l.Adjustment == "" {
				months[l.LineKey.Month] = true
				onPage[l.LineKey] += l.Amount.Minor
			}
			pageSum += l.Amount.Minor
		}
		if got := s.Statement.Digest(); got != s.Digest {
			r.Findings = append(r.Findings, Finding{"statement content", string(s.ID), s.Digest[:min(12, len(s.Digest))], got[:12]})
		}
		entries, err := s.Entries()
		if err != nil {
			r.Findings = append(r.Findings, Finding{"statement entries", string(s.ID), "entries that balance", err.Error()})
			continue
		}
		for _, e := range entries {
			booked, err := c.Ledger.Entry(ctx, e.ID)
			if errors.Is(err, ledger.ErrNotFound) {
				r.Findings = append(r.Findings, Finding{"entry", e.ID, describeEntry(e), "missing"})
				continue
			}
			if err != nil {
				return err
			}
			if digestOf(booked) != digestOf(e) {
				r.Findings = append(r.Findings, Finding{"entry", e.ID, describeEntry(e), describeEntry(booked)})
			}
			for _, p := range booked.Postings {
				if booked.Kind == "statement" && (p.Account.Under(ledger.Payable(string(s.Partner))) || p.Account == ledger.ReceivablePartner(string(s.Partner))) {
					bookSum -= p.Amount.Minor
				}
			}
		}
	}
	if err := c.reconcileDeferred(ctx, r, statements); err != nil {
		return err
	}
	priced, err := c.pricedLines(ctx, months)
	if err != nil {
		return err
	}
	var pricedSum, onPageSum int64
	for k, v := range onPage {
		onPageSum += v
		if priced[k] != v {
			r.Findings = append(r.Findings, Finding{"line", keyName(k), money.New(priced[k], k.Currency).String() + " priced", money.New(v, k.Currency).String() + " on statements"})
		}
	}
	for k, v := range priced {
		pricedSum += v
		if _, ok := onPage[k]; !ok && v != 0 {
			r.Findings = append(r.Findings, Finding{"line", keyName(k), money.New(v, k.Currency).String() + " priced", "not on a statement"})
		}
	}
	r.equal("minor units, all currencies", "priced lines", "statement lines", pricedSum, onPageSum)
	r.equal("minor units, all currencies", "statement lines", "postings to payable and receivable", pageSum, bookSum)
	return nil
}

// pricedLines are the amounts of the newest pricing of every month, by key, without
// what late limits barred.
func (c *Reconciler) pricedLines(ctx context.Context, months map[period.Month]bool) (map[pricing.LineKey]int64, error) {
	out := map[pricing.LineKey]int64{}
	for m := range months {
		priced, err := c.Store.PricedMonth(ctx, m, farFuture)
		if err != nil {
			return nil, err
		}
		for _, p := range priced {
			for k, l := range p.posted() {
				out[k] += l.Amount.Minor
			}
		}
	}
	return out, nil
}

func keyName(k pricing.LineKey) string {
	return strings.Trim(fmt.Sprintf("%s %s %s/%s %s %s", k.Party, k.Month, k.Contract, k.Rule, k.Part, k.Scope), " ")
}

// Control is a figure from outside to compare with: a gateway's or a processor's own
// count and sum for an app and month.
type Control struct {
	App    partner.AppID
	Month  period.Month
	Type   string
	Events int64
	Amount *money.Amount
	Line   int
}

var controlColumns = []string{"app", "month", "type", "events", "amount", "currency"}

// ReadControl reads control totals as CSV with the columns app, month, type, events,
// amount, currency; amount and currency may be empty.
func ReadControl(file string, in io.Reader) ([]Control, error) {
	r := csv.NewReader(in)
	r.FieldsPerRecord = len(controlColumns)
	head, err := r.Read()
	if err != nil || !slices.Equal(head, controlColumns) {
		return nil, fmt.Errorf("%s:1: want the columns %s", file, strings.Join(controlColumns, ","))
	}
	var out []Control
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, atLine(file, err)
		}
		line, _ := r.FieldPos(0)
		k := Control{App: partner.AppID(row[0]), Type: row[2], Line: line}
		if k.Month, err = period.ParseMonth(row[1]); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, line, err)
		}
		if k.Events, err = strconv.ParseInt(row[3], 10, 64); err != nil || k.Events < 0 {
			return nil, fmt.Errorf("%s:%d: events %q is no count", file, line, row[3])
		}
		if row[4] != "" {
			cur, err := money.ParseCurrency(row[5])
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, line, err)
			}
			a, err := money.Parse(row[4], cur)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: amount: %w", file, line, err)
			}
			k.Amount = &a
		}
		out = append(out, k)
	}
}

// CompareControl compares control totals with the stored events, month by month in
// the marketplace's zone.
func (c *Reconciler) CompareControl(ctx context.Context, r *Reconciliation, ks []Control) error {
	snap, err := c.Catalogue.Current(ctx)
	if err != nil {
		return err
	}
	cutoff, err := c.Events.Cutoff(ctx)
	if err != nil {
		return err
	}
	reader := newUsageReader(c.Events, cutoff)
	for _, k := range ks {
		span, err := reader.span(ctx, k.Month.In(snap.Marketplace.Zone))
		if err != nil {
			return err
		}
		var events int64
		amount := money.Amount{}
		if k.Amount != nil {
			amount.Currency = k.Amount.Currency
		}
		for _, u := range span.cells[k.App] {
			if u.Type != k.Type {
				continue
			}
			events += u.Count
			if k.Amount != nil && u.Currency == k.Amount.Currency {
				a, err := money.Exact(u.Amount, u.Currency)
				if err != nil {
					return err
				}
				if amount, err = amount.Add(a); err != nil {
					return err
				}
			}
		}
		where := fmt.Sprintf("%s %s %s", k.App, k.Month, k.Type)
		r.equal("control "+where, "their events", "ours", k.Events, events)
		if k.Amount != nil {
			r.equal("control "+where, "their "+string(amount.Currency)+" minor units", "ours", k.Amount.Minor, amount.Minor)
		}
	}
	return nil
}
