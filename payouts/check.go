package payouts

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"mete/ledger"
	"mete/money"
	"mete/period"
)

// Bounds of one check: what it tells, and how often it reads anew because payouts
// were booked meanwhile.
const (
	maxFindings = 1000
	maxReadings = 5
)

// Finding is one thing on which two records of payouts do not agree.
type Finding struct {
	Check string `json:"check"` // what was compared
	Where string `json:"where"` // payout, run, hold, entry or account
	Want  string `json:"want"`
	Got   string `json:"got"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: want %s, got %s", f.Check, f.Where, f.Want, f.Got)
}

// Sum is two figures that were counted apart and must be equal.
type Sum struct {
	What  string `json:"what"`
	Left  string `json:"left"`
	Right string `json:"right"`
	L     string `json:"left_value"`
	R     string `json:"right_value"`
	OK    bool   `json:"ok"`
}

// Audit is what a check compared, and what it found: at most 1,000 findings.
type Audit struct {
	Sums     []Sum     `json:"sums"`
	Findings []Finding `json:"findings"`
}

// Check reads everything that is kept of payouts and every entry they posted, derives
// each from the others, and names what does not agree: plans and their content,
// approvals, payouts and their plan, attempts, receipts, confirmations, holds, their
// entries in the ledger and the other way round, balances, and the facts kept of all
// rows. No findings means that none of this was found.
//
// A payout that moves while the books are read would look wrong, so then everything is
// read anew.
func (d *Desk) Check(ctx context.Context) (Audit, error) {
	before, err := d.posted(ctx)
	for range maxReadings {
		if err != nil {
			break
		}
		var a Audit
		if a, err = d.audit(ctx); err != nil {
			break
		}
		var after []ledger.Balance
		if after, err = d.posted(ctx); err == nil && slices.Equal(before, after) {
			return a, nil
		}
		before = after
	}
	if err != nil {
		return Audit{}, fmt.Errorf("check payouts: %w", err)
	}
	return Audit{}, fmt.Errorf("check payouts: payouts were booked during each of %d readings; check again when no run is submitted or settled", maxReadings)
}

// posted is what payouts and holds posted, by account: any entry more changes it.
func (d *Desk) posted(ctx context.Context) ([]ledger.Balance, error) {
	var all []ledger.Balance
	for _, kind := range []string{KindPayout, KindHold} {
		bs, err := d.Books.Balances(ctx, ledger.Filter{Kind: kind})
		if err != nil {
			return nil, err
		}
		all = append(all, bs...)
	}
	return all, nil
}

// audit is one reading.
type audit struct {
	Audit
	booked   map[string][sha256.Size]byte // entries that no row accounts for yet, by ID
	differ   []ledger.Entry               // as they should be; the ledger has others
	transit  tallies
	paid     tallies
	held     tallies
	open     map[lane]string // the open payout of a partner in a currency
	final    map[string]PayoutRow
	replaces []PayoutRow
	facts    int64 // kept
	lastFact int64
}

// lane is what a partner is paid in one currency.
type lane struct{ partner, currency string }

// cell is one account in one currency.
type cell struct {
	account  ledger.Account
	currency money.Currency
}

func (c cell) String() string { return fmt.Sprintf("%s in %s", c.account, c.currency) }

// tallies are sums of rows by the account that must hold them.
type tallies map[cell]*tally

type tally struct {
	sum  big.Int
	rows int
}

func (t tallies) add(a ledger.Account, c money.Currency, minor int64, sign int64) {
	k := cell{a, c}
	if t[k] == nil {
		t[k] = &tally{}
	}
	t[k].sum.Add(&t[k].sum, new(big.Int).Mul(big.NewInt(minor), big.NewInt(sign)))
	t[k].rows++
}

func (d *Desk) audit(ctx context.Context) (Audit, error) {
	a := &audit{booked: map[string][sha256.Size]byte{}, transit: tallies{}, paid: tallies{}, held: tallies{}, open: map[lane]string{}, final: map[string]PayoutRow{}}
	if err := a.readEntries(ctx, d.Books); err != nil {
		return a.Audit, err
	}
	var heads []Head
	for k, err := range d.Store.Kept(ctx) {
		if err != nil {
			return a.Audit, err
		}
		a.compareRun(k)
		a.strays(k)
		a.compareHolds(k.Holds)
		a.compareFacts(k)
		heads = append(heads, k.Heads...)
	}
	a.replaced()
	if err := a.entriesLeft(ctx, d.Books); err != nil {
		return a.Audit, err
	}
	if err := a.balances(ctx, d.Books); err != nil {
		return a.Audit, err
	}
	a.heads(heads)
	return a.Audit, nil
}

func (a *audit) found(check, where, want, got string, args ...any) {
	if len(a.Findings) < maxFindings {
		a.Findings = append(a.Findings, Finding{check, where, want, fmt.Sprintf(got, args...)})
	}
}

// same compares two texts of one place.
func (a *audit) same(check, where, what, want, got string) {
	if want != got {
		a.found(check, where, what+" "+shown(want), "%s", shown(got))
	}
}

// maxShown bounds a text in a finding.
const maxShown = 120

func shown(s string) string {
	if s == "" {
		return "none"
	}
	if len(s) > maxShown {
		s = s[:maxShown] + "…"
	}
	return clean(strings.ToValidUTF8(s, "?"))
}

// readEntries remembers every entry that payouts and holds posted, by its hash.
func (a *audit) readEntries(ctx context.Context, books ledger.Store) error {
	for _, kind := range []string{KindPayout, KindHold} {
		for e, err := range books.Entries(ctx, ledger.Filter{Kind: kind}) {
			if err != nil {
				return err
			}
			if _, twice := a.booked[e.ID]; twice {
				a.found("entry", e.ID, "booked once", "booked twice")
			}
			a.booked[e.ID] = sha256.Sum256(e.Canonical())
		}
	}
	return nil
}

// entry says that a row causes an entry, booked on the day that the row keeps.
func (a *audit) entry(check, where string, e ledger.Entry, bookedOn string) {
	on, err := period.ParseDate(bookedOn)
	if err != nil {
		a.found(check, where, "the day on which it was booked", "%s", shown(bookedOn))
	}
	e.BookedOn = on
	hash, ok := a.booked[e.ID]
	delete(a.booked, e.ID)
	switch {
	case !ok:
		a.found("entry", e.ID, describe(e), "not booked")
	case hash != sha256.Sum256(e.Canonical()):
		a.differ = append(a.differ, e)
	}
}

func describe(e ledger.Entry) string {
	out := fmt.Sprintf("%s booked on %s", e.Kind, e.BookedOn)
	for _, p := range e.Postings {
		out += fmt.Sprintf(" · %s %s", p.Account, p.Amount)
	}
	return out
}

// entriesLeft names entries that are booked otherwise, and those that no row causes.
func (a *audit) entriesLeft(ctx context.Context, books ledger.Store) error {
	for _, want := range a.differ[:min(len(a.differ), maxFindings)] {
		e, err := books.Entry(ctx, want.ID)
		if err != nil {
			return err
		}
		a.found("entry", want.ID, describe(want), "%s: %s", describe(e), want.Difference(e))
	}
	ids := slices.Sorted(maps.Keys(a.booked))
	for _, id := range ids[:min(len(ids), maxFindings)] {
		e, err := books.Entry(ctx, id)
		if err != nil {
			return err
		}
		a.found("entry", id, "an attempt, confirmation or hold that causes it", "none, but it is booked: %s", describe(e))
	}
	return nil
}

// compareFacts compares rows with the facts that were kept of them.
func (a *audit) compareFacts(k Kept) {
	type subject struct {
		kind FactKind
		key  string
	}
	type told struct {
		digest string
		seq    int64
		times  int
	}
	kept := map[subject]told{}
	chain := ""
	for _, f := range k.Facts {
		if f.Chain != f.Link(chain) {
			a.found("fact", fmt.Sprintf("fact %d, %s %s", f.Seq, f.Kind, shown(f.Key)), "it chained to the one before it of its run", "not: one of the two was altered, or one between was deleted")
		}
		chain = f.Chain
		a.facts++
		a.lastFact = max(a.lastFact, f.Seq)
		s := subject{f.Kind, f.Key}
		kept[s] = told{f.Digest, f.Seq, kept[s].times + 1}
	}
	rows := map[subject]int{}
	for _, r := range k.Rows() {
		f := r.Fact()
		s := subject{f.Kind, f.Key}
		where := string(f.Kind) + " " + f.Key
		t, ok := kept[s]
		if rows[s]++; rows[s] > 1 {
			a.found("fact", where, "one row", "%d", rows[s])
		}
		switch {
		case !ok:
			a.found("fact", where, "a fact kept with the row", "none: the row was added or changed by hand")
		case t.digest != f.Digest:
			a.found("fact", where, fmt.Sprintf("the row as fact %d keeps it, digest %.12s", t.seq, t.digest), "another, digest %.12s", f.Digest)
		}
		if t.times > 1 && !f.Kind.changes() {
			a.found("fact", where, "one fact", "%d", t.times)
		}
	}
	for _, s := range slices.SortedFunc(maps.Keys(kept), func(x, y subject) int { return cmp.Compare(kept[x].seq, kept[y].seq) }) {
		if rows[s] == 0 {
			a.found("fact", string(s.kind)+" "+s.key, fmt.Sprintf("the row that fact %d keeps", kept[s].seq), "none: it was deleted or moved by hand")
		}
	}
}

// heads compares the facts with their numbering.
func (a *audit) heads(hs []Head) {
	var head int64
	if len(hs) != 1 || hs[0].ID != 1 {
		a.found("fact", "head of payout facts", "one row, with ID 1", "%v", hs)
	}
	if len(hs) > 0 {
		head = hs[0].Seq
	}
	if a.facts != head || a.lastFact != head {
		a.found("fact", "head of payout facts", fmt.Sprintf("facts 1 to %d", head), "%d facts, the last of them %d", a.facts, a.lastFact)
	}
	a.Sums = append(a.Sums, Sum{"facts of payouts", "kept", "numbered", strconv.FormatInt(a.facts, 10), strconv.FormatInt(head, 10), a.facts == head})
}

// strays names what happened to a payout that is not there.
func (a *audit) strays(k Kept) {
	here := map[string]bool{}
	for _, p := range k.Payouts {
		here[p.ID] = true
	}
	for _, r := range k.Attempts {
		if !here[r.Payout] {
			a.found("attempt", "payout "+shown(r.Payout), "a payout", "none, but an attempt with key %s", shown(r.Key))
		}
	}
	for _, r := range k.Receipts {
		if !here[r.Payout] {
			a.found("receipt", "payout "+shown(r.Payout), "a payout", "none, but a receipt %s", shown(r.Outcome))
		}
	}
	for _, r := range k.Confirmations {
		if !here[r.Payout] {
			a.found("confirmation", "payout "+shown(r.Payout), "a payout", "none, but a bank says %s", shown(r.Outcome))
		}
	}
}

// replaced compares payouts that pay another one again with that one.
func (a *audit) replaced() {
	again := map[string]string{}
	for _, p := range a.replaces {
		where := "payout " + p.ID
		old, ok := a.final[p.Replaces]
		switch {
		case !ok:
			a.found("payout", where, fmt.Sprintf("that %s failed or was returned, for it pays that again", shown(p.Replaces)), "it did not")
		case old.Partner != p.Partner || old.Currency != p.Currency:
			a.found("payout", where, fmt.Sprintf("to pay %s again to %s in %s", p.Replaces, old.Partner, old.Currency), "%s in %s", shown(p.Partner), shown(p.Currency))
		}
		if p.State == string(Cancelled) {
			continue
		}
		if other, twice := again[p.Replaces]; twice {
			a.found("payout", where, fmt.Sprintf("%s paid again once", p.Replaces), "%s pays it again too", other)
		}
		again[p.Replaces] = p.ID
	}
}

// balances compares sums of rows with the accounts that must hold them.
func (a *audit) balances(ctx context.Context, books ledger.Store) error {
	above := func(account ledger.Account) ledger.Account {
		return account[:strings.LastIndexByte(string(account), ':')]
	}
	transit, err := books.Balances(ctx, ledger.Filter{Prefix: above(ledger.InTransit("r"))})
	if err != nil {
		return err
	}
	cash, err := books.Balances(ctx, ledger.Filter{Prefix: above(ledger.Cash("r")), Kind: KindPayout})
	if err != nil {
		return err
	}
	payable, err := books.Balances(ctx, ledger.Filter{Prefix: allPayables()})
	if err != nil {
		return err
	}
	held := slices.DeleteFunc(payable, func(b ledger.Balance) bool { return !strings.HasSuffix(string(b.Account), ":held") })
	for _, k := range a.compareBalances("payouts in transit", a.transit, transit) {
		a.sum("payouts in transit", "not confirmed", string(k.account), k.currency, a.transit[k].total(), credit(transit, k))
	}
	for _, k := range a.compareBalances("payouts paid", a.paid, cash) {
		a.sum("payouts paid", "confirmed", "moved on "+string(k.account), k.currency, a.paid[k].total(), credit(cash, k))
	}
	holds, inBooks := map[money.Currency]*big.Int{}, map[money.Currency]*big.Int{}
	for _, k := range a.compareBalances("payouts held", a.held, held) {
		if holds[k.currency] == nil {
			holds[k.currency], inBooks[k.currency] = new(big.Int), new(big.Int)
		}
		holds[k.currency].Add(holds[k.currency], a.held[k].total())
		inBooks[k.currency].Add(inBooks[k.currency], credit(held, k))
	}
	for _, c := range slices.Sorted(maps.Keys(holds)) {
		a.sum("payouts held", "holds in force", "held under "+string(allPayables()), c, holds[c], inBooks[c])
	}
	return nil
}

// total is the sum; none is zero.
func (t *tally) total() *big.Int {
	if t == nil {
		return new(big.Int)
	}
	return &t.sum
}

// credit is what an account holds on its credit side.
func credit(bs []ledger.Balance, k cell) *big.Int {
	sum := new(big.Int)
	for _, b := range bs {
		if b.Account == k.account && b.Amount.Currency == k.currency {
			sum.Sub(sum, big.NewInt(b.Amount.Minor))
		}
	}
	return sum
}

// compareBalances names accounts that hold another sum than the rows, and answers all
// accounts in order.
func (a *audit) compareBalances(what string, rows tallies, bs []ledger.Balance) []cell {
	all := map[cell]bool{}
	for k := range rows {
		all[k] = true
	}
	for _, b := range bs {
		all[cell{b.Account, b.Amount.Currency}] = true
	}
	cells := slices.SortedFunc(maps.Keys(all), func(x, y cell) int {
		return cmp.Or(cmp.Compare(x.account, y.account), cmp.Compare(x.currency, y.currency))
	})
	for _, k := range cells {
		want, got := rows[k].total(), credit(bs, k)
		if want.Cmp(got) != 0 {
			n := 0
			if rows[k] != nil {
				n = rows[k].rows
			}
			a.found("balance", k.String(), fmt.Sprintf("%s of %d %s", amountOf(want, k.currency), n, what), "%s", amountOf(got, k.currency))
		}
	}
	return cells
}

func (a *audit) sum(what, left, right string, c money.Currency, l, r *big.Int) {
	a.Sums = append(a.Sums, Sum{what + ", " + string(c), left, right, plain(l, c), plain(r, c), l.Cmp(r) == 0})
}

func amountOf(minor *big.Int, c money.Currency) string {
	return money.Group(plain(minor, c)) + " " + string(c)
}

func plain(minor *big.Int, c money.Currency) string {
	if !minor.IsInt64() {
		return minor.String() + " minor units"
	}
	return money.New(minor.Int64(), c).Plain()
}
