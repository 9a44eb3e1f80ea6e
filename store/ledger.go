package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"

	"mete/ledger"
	"mete/money"
	"mete/period"
)

// entriesPerPage bounds what one step of an iteration reads.
const entriesPerPage = 500

var _ ledger.Store = (*DB)(nil)

// noMonth is no closing month.
var noMonth period.Month

// post books the entries inside the caller's transaction, all or none: when it fails,
// the transaction must be rolled back. closing is the month whose close may post into
// it; zero is none. It holds the ledger's head until commit, so call it after taking
// rows of your own, never before.
func (db *DB) post(ctx context.Context, tx *sql.Tx, entries []ledger.Entry, closing period.Month) error {
	call := &postCall{entries: entries, closing: closing}
	if err := call.prepare(); err != nil {
		return err
	}
	return db.postCall(ctx, tx, call)
}

func (db *DB) postCall(ctx context.Context, tx *sql.Tx, call *postCall) error {
	head, err := db.lockHead(ctx, tx)
	if err != nil {
		return err
	}
	if err := db.book(ctx, tx, head, []*postCall{call}); err != nil {
		return err
	}
	return call.err
}

// postCall is one caller's entries: booked together or not at all.
type postCall struct {
	entries []ledger.Entry
	hashes  []string
	closing period.Month
	size    int   // postings
	err     error // why nothing of it was booked
}

func (c *postCall) prepare() error {
	c.hashes = make([]string, len(c.entries))
	for i, e := range c.entries {
		if err := e.Validate(); err != nil {
			return fmt.Errorf("post: %w", err)
		}
		c.hashes[i] = e.ContentHash()
		c.size += len(e.Postings)
	}
	return nil
}

// lockHead answers the last entry's sequence and keeps other writers out until the
// transaction ends, so that the order of sequences is the order of commits.
func (db *DB) lockHead(ctx context.Context, tx *sql.Tx) (seq int64, err error) {
	if err := tx.QueryRowContext(ctx, `SELECT seq FROM ledger_head WHERE id = 1`+db.engine.lockRow).Scan(&seq); err != nil {
		return 0, fmt.Errorf("ledger head: %w", err)
	}
	return seq, nil
}

// book judges each call alone, in order, and writes what passed. A call that is
// refused says so in its err; the error returned means that nothing was written.
func (db *DB) book(ctx context.Context, tx *sql.Tx, head int64, calls []*postCall) error {
	b := batch{head: head}
	if err := db.load(ctx, tx, &b, calls); err != nil {
		return err
	}
	for _, c := range calls {
		c.err = b.try(c)
	}
	if len(b.rows) == 0 {
		return nil
	}
	return db.writeBatch(ctx, tx, &b, head)
}

// batch is what the calls of one transaction see and change.
type batch struct {
	head     int64
	known    map[string]ledger.Entry // by ID: in the books, or booked by this batch
	months   map[period.Month]ledger.MonthState
	balances map[cell]balance
	rows     []bookedRow
	changed  map[cell]bool
}

// cell is one account in one currency.
type cell struct {
	account  ledger.Account
	currency money.Currency
}

type balance struct {
	minor    int64
	postings int64
}

type bookedRow struct {
	seq   int64
	entry ledger.Entry
	hash  string
}

func compareCells(a, b cell) int {
	if c := strings.Compare(string(a.account), string(b.account)); c != 0 {
		return c
	}
	return strings.Compare(string(a.currency), string(b.currency))
}

// load reads what judging the calls needs: entries of the same IDs, months that are
// not open, and balances, locked in sorted order.
func (db *DB) load(ctx context.Context, tx *sql.Tx, b *batch, calls []*postCall) error {
	b.known, b.months = map[string]ledger.Entry{}, map[period.Month]ledger.MonthState{}
	b.balances, b.changed = map[cell]balance{}, map[cell]bool{}
	ids, cells := map[string]bool{}, map[cell]bool{}
	for _, c := range calls {
		for _, e := range c.entries {
			ids[e.ID] = true
			for _, p := range e.Postings {
				cells[cell{p.Account, p.Amount.Currency}] = true
			}
			for _, g := range e.Guards {
				cells[cell{g.Account, g.Currency}] = true
			}
		}
	}
	if err := db.loadKnown(ctx, tx, b, slices.Sorted(maps.Keys(ids))); err != nil {
		return err
	}
	if err := db.loadMonths(ctx, tx, b); err != nil {
		return err
	}
	return db.loadBalances(ctx, tx, b, slices.SortedFunc(maps.Keys(cells), compareCells))
}

func (db *DB) loadKnown(ctx context.Context, tx *sql.Tx, b *batch, ids []string) error {
	for chunk := range slices.Chunk(ids, maxInList) {
		found, err := readEntries(ctx, tx, `e.id IN (`+inList(len(chunk), 1, 1)+`)`, inArgs(chunk, func(id string) []any { return []any{id} })...)
		if err != nil {
			return fmt.Errorf("entries of the same ids: %w", err)
		}
		for _, r := range found {
			b.known[r.entry.ID] = r.entry
		}
	}
	return nil
}

func (db *DB) loadMonths(ctx context.Context, tx *sql.Tx, b *batch) error {
	rows, err := tx.QueryContext(ctx, `SELECT month, state FROM months WHERE state <> 'open'`)
	if err != nil {
		return fmt.Errorf("months: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var m, state string
		if err := rows.Scan(&m, &state); err != nil {
			return err
		}
		month, err := period.ParseMonth(m)
		if err != nil {
			return err
		}
		b.months[month] = ledger.MonthState(state)
	}
	return rows.Err()
}

func (db *DB) loadBalances(ctx context.Context, tx *sql.Tx, b *batch, cells []cell) error {
	for chunk := range slices.Chunk(cells, maxInList) {
		rows, err := tx.QueryContext(ctx, `
			SELECT account, currency, balance_minor, postings FROM balances
			WHERE (account, currency) IN (VALUES `+inList(len(chunk), 1, 2)+`)
			ORDER BY account, currency`+db.engine.lockRow,
			inArgs(chunk, func(c cell) []any { return []any{string(c.account), string(c.currency)} })...)
		if err != nil {
			return fmt.Errorf("balances: %w", err)
		}
		for rows.Next() {
			var c cell
			var v balance
			if err := rows.Scan(&c.account, &c.currency, &v.minor, &v.postings); err != nil {
				rows.Close()
				return err
			}
			b.balances[c] = v
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return fmt.Errorf("balances: %w", err)
		}
	}
	return nil
}

// try judges one call against what the batch knows and takes its new entries in, or
// leaves the batch as it was and says why.
func (b *batch) try(c *postCall) error {
	was, rows := map[cell]balance{}, len(b.rows)
	err := func() error {
		for i, e := range c.entries {
			if err := b.take(e, c.hashes[i], c.closing, was); err != nil {
				return fmt.Errorf("post %q: %w", e.ID, err)
			}
		}
		return nil
	}()
	if err != nil {
		for _, r := range b.rows[rows:] {
			delete(b.known, r.entry.ID)
		}
		b.rows = b.rows[:rows]
		maps.Copy(b.balances, was)
		return err
	}
	for k := range was {
		b.changed[k] = true
	}
	return nil
}

func (b *batch) take(e ledger.Entry, hash string, closing period.Month, was map[cell]balance) error {
	if old, ok := b.known[e.ID]; ok {
		if diff := old.Difference(e); diff != "" {
			return fmt.Errorf("%s; give the new fact an id of its own: %w", diff, ledger.ErrConflict)
		}
		return nil
	}
	m := e.BookedOn.MonthOf()
	if state, ok := b.months[m]; ok && !(state == ledger.Closing && m == closing) {
		return fmt.Errorf("booked on %s, and %s is %s; book it on the first day of the first open month: %w", e.BookedOn, m, state, ledger.ErrClosed)
	}
	for _, p := range e.Postings {
		k := cell{p.Account, p.Amount.Currency}
		v := b.balances[k]
		if _, ok := was[k]; !ok {
			was[k] = v
		}
		sum, err := money.New(v.minor, k.currency).Add(p.Amount)
		if err != nil {
			return fmt.Errorf("balance of %s: %w", p.Account, err)
		}
		b.balances[k] = balance{sum.Minor, v.postings + 1}
	}
	for _, g := range e.Guards {
		v := b.balances[cell{g.Account, g.Currency}].minor
		if g.Min != nil && v < *g.Min || g.Max != nil && v > *g.Max {
			return fmt.Errorf("it would leave %s at %s, want %s: %w", g.Account, money.New(v, g.Currency), bounds(g), ledger.ErrGuard)
		}
	}
	b.rows = append(b.rows, bookedRow{entry: e, hash: hash})
	b.known[e.ID] = e
	return nil
}

func bounds(g ledger.Guard) string {
	var parts []string
	if g.Min != nil {
		parts = append(parts, "at least "+money.New(*g.Min, g.Currency).String())
	}
	if g.Max != nil {
		parts = append(parts, "at most "+money.New(*g.Max, g.Currency).String())
	}
	return strings.Join(parts, " and ")
}

// writeBatch writes postings, then the entries that seal them, balances and the head.
func (db *DB) writeBatch(ctx context.Context, tx *sql.Tx, b *batch, head int64) error {
	var postings, entries, balances [][]any
	for i := range b.rows {
		r := &b.rows[i]
		r.seq = head + int64(i) + 1
		for j, p := range r.entry.Postings {
			postings = append(postings, []any{r.seq, int64(j), string(p.Account), string(p.Amount.Currency), p.Amount.Minor})
		}
		e := r.entry
		entries = append(entries, []any{r.seq, e.ID, e.Kind, e.ValueOn.String(), e.BookedOn.String(), e.Memo, r.hash})
	}
	for _, k := range slices.SortedFunc(maps.Keys(b.changed), compareCells) {
		v := b.balances[k]
		balances = append(balances, []any{string(k.account), string(k.currency), v.minor, v.postings})
	}
	if err := db.insertRows(ctx, tx, `postings (entry_seq, idx, account, currency, amount_minor)`, "", postings); err != nil {
		return fmt.Errorf("postings: %w", err)
	}
	if err := db.insertRows(ctx, tx, `entries (seq, id, kind, value_on, booked_on, memo, content_hash)`, "", entries); err != nil {
		return fmt.Errorf("entries: %w", err)
	}
	if err := db.insertRows(ctx, tx, `balances (account, currency, balance_minor, postings)`,
		` ON CONFLICT (account, currency) DO UPDATE SET balance_minor = excluded.balance_minor, postings = excluded.postings`, balances); err != nil {
		return fmt.Errorf("balances: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE ledger_head SET seq = $1 WHERE id = 1`, head+int64(len(b.rows))); err != nil {
		return fmt.Errorf("ledger head: %w", err)
	}
	return nil
}

// querier is a transaction, or a pool for a single statement.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// readEntries answers the entries that the condition on e(ntries) selects, in order
// of sequence.
func readEntries(ctx context.Context, q querier, where string, args ...any) ([]bookedRow, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT e.seq, e.id, e.kind, e.value_on, e.booked_on, e.memo, e.content_hash, p.account, p.currency, p.amount_minor
		FROM entries e JOIN postings p ON p.entry_seq = e.seq
		WHERE `+where+` ORDER BY e.seq, p.idx`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []bookedRow
	for rows.Next() {
		var r bookedRow
		var p ledger.Posting
		var valueOn, bookedOn string
		if err := rows.Scan(&r.seq, &r.entry.ID, &r.entry.Kind, &valueOn, &bookedOn, &r.entry.Memo, &r.hash,
			&p.Account, &p.Amount.Currency, &p.Amount.Minor); err != nil {
			return nil, err
		}
		if n := len(found); n == 0 || found[n-1].seq != r.seq {
			if err := errors.Join(r.entry.ValueOn.UnmarshalText([]byte(valueOn)), r.entry.BookedOn.UnmarshalText([]byte(bookedOn))); err != nil {
				return nil, fmt.Errorf("entry %q: %w", r.entry.ID, err)
			}
			found = append(found, r)
		}
		last := &found[len(found)-1].entry
		last.Postings = append(last.Postings, p)
	}
	return found, rows.Err()
}

// Entry implements [ledger.Store].
func (db *DB) Entry(ctx context.Context, id string) (ledger.Entry, error) {
	found, err := readEntries(ctx, db.read, `e.id = $1`, id)
	if err != nil {
		return ledger.Entry{}, fmt.Errorf("entry %q: %w", id, err)
	}
	if len(found) == 0 {
		return ledger.Entry{}, fmt.Errorf("entry %q: %w", id, ledger.ErrNotFound)
	}
	return found[0].entry, nil
}

// Entries implements [ledger.Store]. It reads page by page and holds no connection
// while the caller works.
func (db *DB) Entries(ctx context.Context, f ledger.Filter) iter.Seq2[ledger.Entry, error] {
	return func(yield func(ledger.Entry, error) bool) {
		head, err := db.sequence(ctx, db.read)
		if err != nil {
			yield(ledger.Entry{}, err)
			return
		}
		left := limitOf(f)
		for after := f.After; left > 0; {
			page, err := db.pageOfEntries(ctx, f, after, head, min(left, entriesPerPage))
			if err != nil {
				yield(ledger.Entry{}, fmt.Errorf("entries after %d: %w", after, err))
				return
			}
			if len(page) == 0 {
				return
			}
			for _, r := range page {
				if !yield(r.entry, nil) {
					return
				}
			}
			after, left = page[len(page)-1].seq, left-int64(len(page))
		}
	}
}

func (db *DB) pageOfEntries(ctx context.Context, f ledger.Filter, after, head, limit int64) ([]bookedRow, error) {
	var a args
	where := a.dates(f, "x.")
	where += ` AND x.seq > ` + a.add(after) + ` AND x.seq <= ` + a.add(head)
	if f.Prefix != "" || f.Currency != "" {
		where += ` AND EXISTS (SELECT 1 FROM postings q WHERE q.entry_seq = x.seq` + a.account(f, "q.") + `)`
	}
	return readEntries(ctx, db.read, `e.seq IN (SELECT x.seq FROM entries x WHERE `+where+` ORDER BY x.seq LIMIT `+a.add(limit)+`)`, a.values...)
}

func (db *DB) sequence(ctx context.Context, q querier) (seq int64, err error) {
	if err := q.QueryRowContext(ctx, `SELECT seq FROM ledger_head WHERE id = 1`).Scan(&seq); err != nil {
		return 0, fmt.Errorf("ledger head: %w", err)
	}
	return seq, nil
}

// Balances implements [ledger.Store].
func (db *DB) Balances(ctx context.Context, f ledger.Filter) ([]ledger.Balance, error) {
	bs, err := balancesOf(ctx, db.read, f)
	if err != nil {
		return nil, fmt.Errorf("balances: %w", err)
	}
	return bs, nil
}

// TrialBalance is what every account holds at the end of a day of booking: it stays
// as it is once that day's month is closed. The zero date is everything booked.
func (db *DB) TrialBalance(ctx context.Context, upTo period.Date) (ledger.TrialBalance, error) {
	bs, err := db.Balances(ctx, ledger.Filter{UpTo: upTo, Booked: true})
	if err != nil {
		return ledger.TrialBalance{}, err
	}
	return ledger.Trial(upTo, bs)
}

func balancesOf(ctx context.Context, q querier, f ledger.Filter) ([]ledger.Balance, error) {
	var a args
	var query string
	if f.UpTo.IsZero() && f.From.IsZero() && f.Kind == "" && f.After == 0 {
		query = `SELECT p.account, p.currency, 0, p.balance_minor, p.postings FROM balances p WHERE 1 = 1` + a.account(f, "p.")
	} else {
		// Summed in two halves, so that no order of adding overflows on the way.
		query = `
			SELECT p.account, p.currency, CAST(SUM(p.amount_minor / 4294967296) AS BIGINT), CAST(SUM(p.amount_minor % 4294967296) AS BIGINT), COUNT(*)
			FROM postings p JOIN entries e ON e.seq = p.entry_seq
			WHERE ` + a.dates(f, "e.") + a.account(f, "p.") + ` AND e.seq > ` + a.add(f.After) + ` GROUP BY p.account, p.currency`
	}
	rows, err := q.QueryContext(ctx, query+` ORDER BY 1, 2 LIMIT `+a.add(limitOf(f)), a.values...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var bs []ledger.Balance
	for rows.Next() {
		var b ledger.Balance
		var high, low int64
		if err := rows.Scan(&b.Account, &b.Amount.Currency, &high, &low, &b.Postings); err != nil {
			return nil, err
		}
		minor, ok := join(high, low)
		if !ok {
			return nil, fmt.Errorf("%s in %s: %w", b.Account, b.Amount.Currency, money.ErrOverflow)
		}
		b.Amount.Minor = minor
		bs = append(bs, b)
	}
	return bs, rows.Err()
}

// join is high·2³² + low, if that fits an amount: the smallest int64 is none.
func join(high, low int64) (int64, bool) {
	high, low = high+low>>32, low&math.MaxUint32
	if high < math.MinInt32 || high > math.MaxInt32 || high == math.MinInt32 && low == 0 {
		return 0, false
	}
	return high<<32 | low, true
}

// History implements [ledger.Store], page by page like [DB.Entries].
func (db *DB) History(ctx context.Context, account ledger.Account, f ledger.Filter) iter.Seq2[ledger.Movement, error] {
	return func(yield func(ledger.Movement, error) bool) {
		h := history{account: account, filter: f, after: f.After, left: limitOf(f), sums: map[money.Currency]money.Amount{}}
		err := h.begin(ctx, db)
		for more := err == nil; more; {
			more, err = h.page(ctx, db, yield)
		}
		if err != nil {
			yield(ledger.Movement{}, fmt.Errorf("history of %s: %w", account, err))
		}
	}
}

// history is one walk along an account. It adds up every posting and shows those the
// filter lets through.
type history struct {
	account ledger.Account
	filter  ledger.Filter
	after   int64
	head    int64
	left    int64
	sums    map[money.Currency]money.Amount
}

func (h *history) begin(ctx context.Context, db *DB) (err error) {
	if h.head, err = db.sequence(ctx, db.read); err != nil || h.after == 0 {
		return err
	}
	rows, err := db.read.QueryContext(ctx, `
		SELECT currency, CAST(SUM(amount_minor / 4294967296) AS BIGINT), CAST(SUM(amount_minor % 4294967296) AS BIGINT)
		FROM postings WHERE account = $1 AND entry_seq <= $2 GROUP BY currency`, string(h.account), h.after)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var c money.Currency
		var high, low int64
		if err := rows.Scan(&c, &high, &low); err != nil {
			return err
		}
		minor, ok := join(high, low)
		if !ok {
			return money.ErrOverflow
		}
		h.sums[c] = money.New(minor, c)
	}
	return rows.Err()
}

func (h *history) page(ctx context.Context, db *DB, yield func(ledger.Movement, error) bool) (more bool, err error) {
	var a args
	where := `e.seq IN (SELECT DISTINCT q.entry_seq FROM postings q WHERE q.account = ` + a.add(string(h.account)) +
		` AND q.entry_seq > ` + a.add(h.after) + ` AND q.entry_seq <= ` + a.add(h.head)
	if h.filter.Currency != "" {
		where += ` AND q.currency = ` + a.add(string(h.filter.Currency))
	}
	where += ` ORDER BY q.entry_seq LIMIT ` + a.add(int64(entriesPerPage)) + `)`
	rows, err := readEntries(ctx, db.read, where, a.values...)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	for _, r := range rows {
		for _, p := range r.entry.Postings {
			if p.Account != h.account || h.filter.Currency != "" && h.filter.Currency != p.Amount.Currency {
				continue
			}
			sum, ok := h.sums[p.Amount.Currency]
			if !ok {
				sum = money.New(0, p.Amount.Currency)
			}
			if sum, err = sum.Add(p.Amount); err != nil {
				return false, err
			}
			h.sums[p.Amount.Currency] = sum
			if !shows(h.filter, r.entry) {
				continue
			}
			if h.left--; !yield(ledger.Movement{Sequence: r.seq, Entry: r.entry, Amount: p.Amount, After: sum}, nil) || h.left == 0 {
				return false, nil
			}
		}
	}
	h.after = rows[len(rows)-1].seq
	return true, nil
}

// shows reports whether the filter lets the entry through by date and kind.
func shows(f ledger.Filter, e ledger.Entry) bool {
	on := e.ValueOn
	if f.Booked {
		on = e.BookedOn
	}
	return (f.From.IsZero() || !on.Before(f.From)) && (f.UpTo.IsZero() || !f.UpTo.Before(on)) &&
		(f.Kind == "" || f.Kind == e.Kind)
}

// limitOf is the filter's limit; none is the largest.
func limitOf(f ledger.Filter) int64 {
	if f.Limit <= 0 {
		return math.MaxInt64
	}
	return int64(f.Limit)
}

// args collects the arguments of a query while its text is put together.
type args struct{ values []any }

// add takes a value in and answers its placeholder.
func (a *args) add(v any) string {
	a.values = append(a.values, v)
	return fmt.Sprintf("$%d", len(a.values))
}

// dates is the filter's condition on columns of entries.
func (a *args) dates(f ledger.Filter, of string) string {
	column := of + "value_on"
	if f.Booked {
		column = of + "booked_on"
	}
	where := `1 = 1`
	if !f.From.IsZero() {
		where += ` AND ` + column + ` >= ` + a.add(f.From.String())
	}
	if !f.UpTo.IsZero() {
		where += ` AND ` + column + ` <= ` + a.add(f.UpTo.String())
	}
	if f.Kind != "" {
		where += ` AND ` + of + `kind = ` + a.add(f.Kind)
	}
	return where
}

// account is the filter's condition on columns of postings or balances. Names under a
// prefix lie between "prefix:" and "prefix;", the character behind the colon.
func (a *args) account(f ledger.Filter, of string) string {
	where := ""
	if f.Prefix != "" {
		p := string(f.Prefix)
		where += fmt.Sprintf(` AND (%[1]saccount = %[2]s OR %[1]saccount > %[3]s AND %[1]saccount < %[4]s)`, of, a.add(p), a.add(p+":"), a.add(p+";"))
	}
	if f.Currency != "" {
		where += ` AND ` + of + `currency = ` + a.add(string(f.Currency))
	}
	return where
}

// maxInList bounds a list of placeholders. Lists come in lengths of powers of two, so
// that there are few texts for an engine to prepare.
const maxInList = 256

// inList is a list of placeholders for n values, or for n rows of width values in
// parentheses, padded to the next power of two; inArgs pads the arguments.
func inList(n, first, width int) string {
	padded := 1
	for padded < n {
		padded *= 2
	}
	return placeholders(padded, first, width)
}

func inArgs[T any](list []T, of func(T) []any) []any {
	padded := 1
	for padded < len(list) {
		padded *= 2
	}
	var out []any
	for i := range padded {
		out = append(out, of(list[min(i, len(list)-1)])...)
	}
	return out
}

func placeholders(rows, first, width int) string {
	var b strings.Builder
	n := first
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		if width > 1 {
			b.WriteByte('(')
		}
		for j := range width {
			if j > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "$%d", n)
			n++
		}
		if width > 1 {
			b.WriteByte(')')
		}
	}
	return b.String()
}

// insertRows inserts rows of strings and int64s, many per statement. into names the
// table and its columns.
func (db *DB) insertRows(ctx context.Context, tx *sql.Tx, into, behind string, rows [][]any) error {
	for chunk := range slices.Chunk(rows, db.engine.insertRows) {
		values, args := db.engine.values(chunk)
		if _, err := tx.ExecContext(ctx, `INSERT INTO `+into+values+behind, args...); err != nil {
			return err
		}
	}
	return nil
}

// listed writes rows as VALUES. SQLite looks a named placeholder up among those before
// it, so a long list costs its square: few rows per statement are faster.
func listed(rows [][]any) (values string, args []any) {
	for _, r := range rows {
		args = append(args, r...)
	}
	return ` VALUES ` + placeholders(len(rows), 1, len(rows[0])), args
}

// unnested hands rows over as one array per column: one text for any number of rows.
func unnested(rows [][]any) (values string, args []any) {
	var columns []string
	for i, v := range rows[0] {
		switch v.(type) {
		case int64:
			columns, args = append(columns, fmt.Sprintf("$%d::bigint[]", i+1)), append(args, columnOf[int64](rows, i))
		default:
			columns, args = append(columns, fmt.Sprintf("$%d::text[]", i+1)), append(args, columnOf[string](rows, i))
		}
	}
	return ` SELECT * FROM unnest(` + strings.Join(columns, ", ") + `)`, args
}

func columnOf[T any](rows [][]any, i int) []T {
	column := make([]T, len(rows))
	for n, r := range rows {
		column[n] = r[i].(T)
	}
	return column
}
