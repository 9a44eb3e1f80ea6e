package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"

	"mete/ledger"
	"mete/period"
)

// maxFindings bounds what one check tells; a ledger that is wrong throughout does not
// become clearer by more.
const maxFindings = 1000

// Verify reads the whole books as they are at one moment and derives everything
// anew: the hash and sum of every entry, the sequence without gaps, no posting
// without an entry, no entry behind the close of its month, and every balance as the
// sum of its postings. It names what differs; none is none.
func (db *DB) Verify(ctx context.Context) ([]ledger.Finding, error) {
	tx, err := db.read.BeginTx(ctx, &db.engine.snapshot)
	if err != nil {
		return nil, fmt.Errorf("verify ledger: begin: %w", err)
	}
	defer tx.Rollback()
	return verifyLedger(ctx, tx)
}

func verifyLedger(ctx context.Context, tx *sql.Tx) ([]ledger.Finding, error) {
	v := verification{tx: tx, folded: map[cell]*fold{}, lastIn: map[period.Month]int64{}, seen: map[string]int64{}}
	for _, step := range []func(context.Context) error{v.head, v.entries, v.balances, v.months} {
		if err := step(ctx); err != nil {
			return v.findings, fmt.Errorf("verify ledger: %w", err)
		}
	}
	return v.findings, nil
}

type verification struct {
	tx       *sql.Tx
	last     int64 // the head's sequence
	expected int64 // the sequence that comes next
	folded   map[cell]*fold
	lastIn   map[period.Month]int64 // last sequence booked in each month
	seen     map[string]int64       // IDs, should the unique index be gone
	findings []ledger.Finding
}

// fold is the sum of an account's postings.
type fold struct {
	sum      big.Int
	postings int64
}

func (v *verification) found(where, what string, args ...any) {
	if len(v.findings) < maxFindings {
		v.findings = append(v.findings, ledger.Finding{Where: where, What: fmt.Sprintf(what, args...)})
	}
}

func (v *verification) head(ctx context.Context) error {
	rows, err := v.tx.QueryContext(ctx, `SELECT id, seq FROM ledger_head`)
	if err != nil {
		return err
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var id int64
		if err := rows.Scan(&id, &v.last); err != nil {
			return err
		}
		if id != 1 {
			v.found("head", "its id is %d, want 1", id)
		}
	}
	if n != 1 {
		v.found("head", "%d rows, want one", n)
	}
	return rows.Err()
}

// entries walks entries and postings side by side, a page at a time. Pages are ranges
// of sequences that leave nothing out, so postings without an entry turn up too.
func (v *verification) entries(ctx context.Context) error {
	v.expected = 1
	for low := int64(math.MinInt64); ; {
		page, err := v.entryRows(ctx, low)
		if err != nil {
			return err
		}
		high := int64(math.MaxInt64)
		if len(page) == entriesPerPage {
			high = page[len(page)-1].seq
		}
		postings, err := v.postingRows(ctx, low, high)
		if err != nil {
			return err
		}
		for _, r := range page {
			v.entry(r, postings[r.seq])
			delete(postings, r.seq)
		}
		for _, seq := range slices.Sorted(maps.Keys(postings)) {
			v.orphans(seq, postings[seq])
		}
		if high == math.MaxInt64 {
			break
		}
		low = high
	}
	if v.expected-1 != v.last {
		v.found("head", "it says the last entry is %d, the books end at %d", v.last, v.expected-1)
	}
	return nil
}

// entryRow is an entry as it stands in the table; its texts may be anything.
type entryRow struct {
	seq                                     int64
	id, kind, valueOn, bookedOn, memo, hash string
}

func (r entryRow) String() string { return fmt.Sprintf("entry %d (%s)", r.seq, r.id) }

func (v *verification) entryRows(ctx context.Context, low int64) ([]entryRow, error) {
	rows, err := v.tx.QueryContext(ctx, `
		SELECT seq, id, kind, value_on, booked_on, memo, content_hash FROM entries
		WHERE seq > $1 ORDER BY seq LIMIT $2`, low, int64(entriesPerPage))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []entryRow
	for rows.Next() {
		var r entryRow
		if err := rows.Scan(&r.seq, &r.id, &r.kind, &r.valueOn, &r.bookedOn, &r.memo, &r.hash); err != nil {
			return nil, err
		}
		page = append(page, r)
	}
	return page, rows.Err()
}

type postingRow struct {
	idx int64
	ledger.Posting
}

func (v *verification) postingRows(ctx context.Context, low, high int64) (map[int64][]postingRow, error) {
	rows, err := v.tx.QueryContext(ctx, `
		SELECT entry_seq, idx, account, currency, amount_minor FROM postings
		WHERE entry_seq > $1 AND entry_seq <= $2 ORDER BY entry_seq, idx`, low, high)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	page := map[int64][]postingRow{}
	for rows.Next() {
		var seq int64
		var p postingRow
		if err := rows.Scan(&seq, &p.idx, &p.Account, &p.Amount.Currency, &p.Amount.Minor); err != nil {
			return nil, err
		}
		page[seq] = append(page[seq], p)
		v.add(p.Posting)
	}
	return page, rows.Err()
}

func (v *verification) add(p ledger.Posting) {
	k := cell{p.Account, p.Amount.Currency}
	f := v.folded[k]
	if f == nil {
		f = &fold{}
		v.folded[k] = f
	}
	f.sum.Add(&f.sum, big.NewInt(p.Amount.Minor))
	f.postings++
}

func (v *verification) entry(r entryRow, postings []postingRow) {
	switch {
	case r.seq == v.expected:
	case r.seq == v.expected+1:
		v.found(r.String(), "entry %d before it is missing", v.expected)
	case r.seq > v.expected:
		v.found(r.String(), "entries %d to %d before it are missing", v.expected, r.seq-1)
	default:
		v.found(r.String(), "its sequence is out of order, want %d", v.expected)
	}
	v.expected = max(v.expected, r.seq+1)
	if other, ok := v.seen[r.id]; ok {
		v.found(r.String(), "entry %d has the same id", other)
	}
	v.seen[r.id] = r.seq
	e := ledger.Entry{ID: r.id, Kind: r.kind, Memo: r.memo}
	if err := errors.Join(e.ValueOn.UnmarshalText([]byte(r.valueOn)), e.BookedOn.UnmarshalText([]byte(r.bookedOn))); err != nil {
		v.found(r.String(), "%v", err)
	}
	for i, p := range postings {
		if p.idx != int64(i) {
			v.found(r.String(), "posting %d has the index %d: a posting is missing or added", i, p.idx)
		}
		e.Postings = append(e.Postings, p.Posting)
	}
	if err := e.Validate(); err != nil {
		v.found(r.String(), "%v", err)
	}
	if is := e.ContentHash(); is != r.hash {
		v.found(r.String(), "its content was altered: hash %.12s, kept %.12s", is, r.hash)
	}
	m := e.BookedOn.MonthOf()
	v.lastIn[m] = max(v.lastIn[m], r.seq)
}

func (v *verification) orphans(seq int64, postings []postingRow) {
	for _, p := range postings {
		v.found("posting "+strconv.FormatInt(seq, 10)+"/"+strconv.FormatInt(p.idx, 10),
			"%s on %s belongs to no entry", p.Amount, p.Account)
	}
}

func (v *verification) balances(ctx context.Context) error {
	rows, err := v.tx.QueryContext(ctx, `SELECT account, currency, balance_minor, postings FROM balances ORDER BY account, currency`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var k cell
		var is balance
		if err := rows.Scan(&k.account, &k.currency, &is.minor, &is.postings); err != nil {
			return err
		}
		want := v.folded[k]
		delete(v.folded, k)
		if want == nil {
			v.found(k.String(), "%d minor units, and no posting", is.minor)
			continue
		}
		if want.sum.Cmp(big.NewInt(is.minor)) != 0 || want.postings != is.postings {
			v.found(k.String(), "%d minor units of %d postings, the postings say %s of %d", is.minor, is.postings, &want.sum, want.postings)
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(v.folded), compareCells) {
		v.found(k.String(), "missing, the postings say %s minor units of %d", &v.folded[k].sum, v.folded[k].postings)
	}
	return rows.Err()
}

func (c cell) String() string { return fmt.Sprintf("balance of %s in %s", c.account, c.currency) }

func (v *verification) months(ctx context.Context) error {
	rows, err := v.tx.QueryContext(ctx, `SELECT month, state, COALESCE(closing_seq, -1), COALESCE(closed_seq, -1), COALESCE(locked_seq, -1) FROM months ORDER BY month`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name, state string
		var closing, closed, locked int64
		if err := rows.Scan(&name, &state, &closing, &closed, &locked); err != nil {
			return err
		}
		v.month("month "+name, name, state, closing, closed, locked)
	}
	return rows.Err()
}

func (v *verification) month(where, name, state string, closing, closed, locked int64) {
	m, err := period.ParseMonth(name)
	if err != nil {
		v.found(where, "%v", err)
	}
	want := ledger.Open
	for _, s := range []struct {
		state ledger.MonthState
		seq   int64
	}{{ledger.Closing, closing}, {ledger.Closed, closed}, {ledger.Locked, locked}} {
		if s.seq >= 0 {
			want = s.state
		}
	}
	if state != string(want) {
		v.found(where, "its state is %q, its steps say %q", state, want)
	}
	if last := max(closing, closed, locked); last > v.last {
		v.found(where, "a step stands behind entry %d, the books end at %d", last, v.last)
	}
	if closed >= 0 && v.lastIn[m] > closed {
		v.found(where, "entry %d is booked in it, after entry %d closed it", v.lastIn[m], closed)
	}
}

// RebuildBalances derives all balances anew from the postings, in one transaction, and
// answers how many it changed. Postings are never touched.
func (db *DB) RebuildBalances(ctx context.Context) (changed int, err error) {
	err = db.tx(ctx, func(tx *sql.Tx) error {
		if _, err := db.lockHead(ctx, tx); err != nil {
			return err
		}
		want, err := balancesOf(ctx, tx, ledger.Filter{After: -1})
		if err != nil {
			return err
		}
		was, err := balancesOf(ctx, tx, ledger.Filter{})
		if err != nil {
			return err
		}
		changed = differ(was, want)
		if _, err := tx.ExecContext(ctx, `DELETE FROM balances`); err != nil {
			return err
		}
		var rows [][]any
		for _, b := range want {
			rows = append(rows, []any{string(b.Account), string(b.Amount.Currency), b.Amount.Minor, b.Postings})
		}
		return db.insertRows(ctx, tx, `balances (account, currency, balance_minor, postings)`, "", rows)
	})
	if err != nil {
		return 0, fmt.Errorf("rebuild balances: %w", err)
	}
	return changed, nil
}

// differ counts the rows that are in one list and not, or otherwise, in the other.
func differ(was, want []ledger.Balance) int {
	old, n := map[cell]ledger.Balance{}, 0
	for _, b := range was {
		old[cell{b.Account, b.Amount.Currency}] = b
	}
	for _, b := range want {
		k := cell{b.Account, b.Amount.Currency}
		if old[k] != b {
			n++
		}
		delete(old, k)
	}
	return n + len(old)
}
