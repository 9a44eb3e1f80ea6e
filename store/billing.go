package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mete/billing"
	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

var _ billing.Store = (*DB)(nil)

// BeginClose implements [billing.Store].
func (db *DB) BeginClose(ctx context.Context, m billing.Manifest) (billing.Manifest, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return m, err
	}
	kept := m
	err = db.tx(ctx, func(tx *sql.Tx) error {
		old, err := manifestOf(ctx, tx, m.Month)
		if err != nil || old != nil {
			if old != nil {
				kept = *old
			}
			return err
		}
		kept = m
		var last string
		if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(month), '') FROM closes`).Scan(&last); err != nil {
			return err
		}
		if last != "" && last != m.Month.Add(-1).String() {
			return fmt.Errorf("the last month closed is %s, so the next is the one after it: %w", last, billing.ErrState)
		}
		if last != "" {
			state, err := monthState(ctx, tx, m.Month.Add(-1), "")
			if err != nil {
				return err
			}
			if state == ledger.Closing {
				return fmt.Errorf("the close of %s is not finished; run it again first: %w", last, billing.ErrState)
			}
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO closes (month, manifest, digest) VALUES ($1, $2, $3)`,
			m.Month.String(), string(body), digest(body)); err != nil {
			return err
		}
		for _, id := range m.Adjust {
			if _, err := tx.ExecContext(ctx, `INSERT INTO adjustment_carries (adjustment_id, month) VALUES ($1, $2)`, id, m.Month.String()); err != nil {
				return err
			}
		}
		return db.setMonthState(ctx, tx, m.Month, ledger.Open, ledger.Closing, m.ClosedAt)
	})
	return kept, err
}

func manifestOf(ctx context.Context, q querier, m period.Month) (*billing.Manifest, error) {
	var body, sum string
	err := q.QueryRowContext(ctx, `SELECT manifest, digest FROM closes WHERE month = $1`, m.String()).Scan(&body, &sum)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if got := digest([]byte(body)); got != sum {
		return nil, fmt.Errorf("manifest of %s was altered: its digest is %s, kept was %s: %w", m, got[:12], sum, billing.ErrConflict)
	}
	var out billing.Manifest
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", m, err)
	}
	return &out, nil
}

// Month implements [billing.Store].
func (db *DB) Month(ctx context.Context, m period.Month) (billing.MonthStatus, error) {
	s := billing.MonthStatus{Month: m}
	var err error
	if s.State, err = monthState(ctx, db.read, m, ""); err != nil {
		return s, fmt.Errorf("month %s: %w", m, err)
	}
	if s.Manifest, err = manifestOf(ctx, db.read, m); err != nil {
		return s, err
	}
	err = db.read.QueryRowContext(ctx, `SELECT COUNT(*), COUNT(i.statement_id) FROM statements s
		LEFT JOIN statement_issues i ON i.statement_id = s.id WHERE s.month = $1`, m.String()).Scan(&s.Statements, &s.Issued)
	return s, err
}

// Months implements [billing.Store].
func (db *DB) Months(ctx context.Context) ([]billing.MonthStatus, error) {
	names, err := texts(ctx, db.read, `SELECT month FROM months WHERE state <> 'open' ORDER BY month`)
	if err != nil {
		return nil, err
	}
	var out []billing.MonthStatus
	for _, name := range names {
		m, err := period.ParseMonth(name)
		if err != nil {
			return nil, err
		}
		s, err := db.Month(ctx, m)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// FinishClose implements [billing.Store].
func (db *DB) FinishClose(ctx context.Context, m period.Month) error {
	return db.tx(ctx, func(tx *sql.Tx) error {
		manifest, err := manifestOf(ctx, tx, m)
		if err != nil {
			return err
		}
		if manifest == nil {
			return fmt.Errorf("month %s was never begun: %w", m, billing.ErrState)
		}
		return db.setMonthState(ctx, tx, m, ledger.Closing, ledger.Closed, manifest.ClosedAt)
	})
}

// FreezeScorecards implements [billing.Store].
func (db *DB) FreezeScorecards(ctx context.Context, m period.Month, cards []pricing.Scorecard) error {
	return db.tx(ctx, func(tx *sql.Tx) error {
		for _, c := range cards {
			body, err := json.Marshal(c)
			if err != nil {
				return err
			}
			var old string
			err = tx.QueryRowContext(ctx, `SELECT card FROM scorecards WHERE month = $1 AND app = $2`, m.String(), string(c.App)).Scan(&old)
			switch {
			case errors.Is(err, sql.ErrNoRows):
				if _, err := tx.ExecContext(ctx, `INSERT INTO scorecards (month, app, card) VALUES ($1, $2, $3)`, m.String(), string(c.App), string(body)); err != nil {
					return err
				}
			case err != nil:
				return err
			case old != string(body):
				return fmt.Errorf("scorecard of %s in %s: %w", c.App, m, billing.ErrConflict)
			}
		}
		return nil
	})
}

// Scorecards implements [billing.Store].
func (db *DB) Scorecards(ctx context.Context, m period.Month) ([]pricing.Scorecard, error) {
	return decode[pricing.Scorecard](ctx, db.read, `SELECT card FROM scorecards WHERE month = $1 ORDER BY app`, m.String())
}

// FreezePlacements implements [billing.Store].
func (db *DB) FreezePlacements(ctx context.Context, m period.Month, apps []billing.Placement) error {
	return db.tx(ctx, func(tx *sql.Tx) error {
		for _, a := range apps {
			body, err := json.Marshal(a)
			if err != nil {
				return err
			}
			var old string
			err = tx.QueryRowContext(ctx, `SELECT content FROM placements WHERE month = $1 AND app = $2`, m.String(), string(a.App)).Scan(&old)
			switch {
			case errors.Is(err, sql.ErrNoRows):
				if _, err := tx.ExecContext(ctx, `INSERT INTO placements (month, app, content) VALUES ($1, $2, $3)`, m.String(), string(a.App), string(body)); err != nil {
					return err
				}
			case err != nil:
				return err
			case old != string(body):
				return fmt.Errorf("placement of %s in %s: %w", a.App, m, billing.ErrConflict)
			}
		}
		return nil
	})
}

// Placements implements [billing.Store].
func (db *DB) Placements(ctx context.Context, m period.Month) ([]billing.Placement, error) {
	return decode[billing.Placement](ctx, db.read, `SELECT content FROM placements WHERE month = $1 ORDER BY app`, m.String())
}

// OpenAppeal implements [billing.Store].
func (db *DB) OpenAppeal(ctx context.Context, a billing.Appeal) error {
	a.Decision, a.CarriedBy = nil, period.Month{} // kept beside it, and in manifests
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return db.keepOnce(ctx, fmt.Sprintf("appeal %s", a.ID), body, `SELECT content FROM appeals WHERE id = $1`, []any{a.ID},
		`INSERT INTO appeals (id, month, app, content, opened_at) VALUES ($1, $2, $3, $4, $5)`,
		a.ID, a.Month.String(), string(a.App), string(body), stamp(a.OpenedAt))
}

// DecideAppeal implements [billing.Store].
func (db *DB) DecideAppeal(ctx context.Context, id string, d billing.AppealDecision) error {
	body, err := json.Marshal(d)
	if err != nil {
		return err
	}
	known, err := texts(ctx, db.read, `SELECT id FROM appeals WHERE id = $1`, id)
	if err != nil {
		return err
	}
	if len(known) == 0 {
		return fmt.Errorf("decide appeal %s: %w", id, billing.ErrNotFound)
	}
	return db.keepOnce(ctx, fmt.Sprintf("decision of appeal %s", id), body, `SELECT content FROM appeal_decisions WHERE appeal_id = $1`, []any{id},
		`INSERT INTO appeal_decisions (appeal_id, content) VALUES ($1, $2)`, id, string(body))
}

// keepOnce inserts a row of JSON unless one is there: the same is nothing, another fails
// with ErrConflict.
func (db *DB) keepOnce(ctx context.Context, what string, body []byte, find string, key []any, insert string, row ...any) error {
	return db.tx(ctx, func(tx *sql.Tx) error {
		if _, err := db.lockHead(ctx, tx); err != nil { // one at a time
			return err
		}
		var old string
		err := tx.QueryRowContext(ctx, find, key...).Scan(&old)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			_, err = tx.ExecContext(ctx, insert, row...)
			return err
		case err != nil:
			return err
		case old != string(body):
			return fmt.Errorf("%s: %w", what, billing.ErrConflict)
		}
		return nil
	})
}

// Appeals implements [billing.Store].
func (db *DB) Appeals(ctx context.Context) ([]billing.Appeal, error) {
	rows, err := db.read.QueryContext(ctx, `SELECT a.content, d.content FROM appeals a LEFT JOIN appeal_decisions d ON d.appeal_id = a.id ORDER BY a.opened_at, a.id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []billing.Appeal
	for rows.Next() {
		var opened string
		var decided sql.NullString
		if err := rows.Scan(&opened, &decided); err != nil {
			return nil, err
		}
		var a billing.Appeal
		if err := json.Unmarshal([]byte(opened), &a); err != nil {
			return nil, err
		}
		if decided.Valid {
			a.Decision = &billing.AppealDecision{}
			if err := json.Unmarshal([]byte(decided.String), a.Decision); err != nil {
				return nil, err
			}
		}
		out = append(out, a)
	}
	return out, rows.Err()
}

// SavePriced implements [billing.Store].
func (db *DB) SavePriced(ctx context.Context, p billing.Priced) error {
	result, err := json.Marshal(p.Result)
	if err != nil {
		return err
	}
	barred, err := json.Marshal(p.Barred)
	if err != nil {
		return err
	}
	return db.tx(ctx, func(tx *sql.Tx) error {
		var input, old string
		err := tx.QueryRowContext(ctx, `SELECT input_digest, result FROM priced_groups WHERE close_month = $1 AND month = $2 AND group_id = $3`,
			p.Close.String(), p.Month.String(), p.Group).Scan(&input, &old)
		if err == nil {
			if input != p.Input || old != string(result) {
				return fmt.Errorf("%s priced by the close of %s: %w", p.Month, p.Close, billing.ErrConflict)
			}
			return nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO priced_groups (close_month, month, group_id, input_digest, result, barred) VALUES ($1, $2, $3, $4, $5, $6)`,
			p.Close.String(), p.Month.String(), p.Group, p.Input, string(result), string(barred)); err != nil {
			return err
		}
		add, err := tx.PrepareContext(ctx, `INSERT INTO attributions (close_month, month, source, sale, contract, rule, body) VALUES ($1, $2, $3, $4, $5, $6, $7)`)
		if err != nil {
			return err
		}
		defer add.Close()
		for _, a := range p.Result.Attributions {
			body, err := json.Marshal(a)
			if err != nil {
				return err
			}
			if _, err := add.ExecContext(ctx, p.Close.String(), p.Month.String(), a.Source, a.ID, a.Contract, a.Rule, string(body)); err != nil {
				return fmt.Errorf("attribution of sale %s of %s: %w", a.ID, a.Source, err)
			}
		}
		return withdrawAttributions(ctx, tx, p, add)
	})
}

// withdrawAttributions notes, by an empty body, that the pricing no longer attributes
// what the one before it did: the sale was voided since.
func withdrawAttributions(ctx context.Context, tx *sql.Tx, p billing.Priced, add *sql.Stmt) error {
	var before string
	err := tx.QueryRowContext(ctx, `SELECT result FROM priced_groups WHERE month = $1 AND group_id = $2 AND close_month < $3 ORDER BY close_month DESC LIMIT 1`,
		p.Month.String(), p.Group, p.Close.String()).Scan(&before)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	var was pricing.Result
	if err := json.Unmarshal([]byte(before), &was); err != nil {
		return fmt.Errorf("pricing of %s before: %w", p.Month, err)
	}
	type key struct{ source, sale, contract, rule string }
	now := map[key]bool{}
	for _, a := range p.Result.Attributions {
		now[key{a.Source, a.ID, a.Contract, a.Rule}] = true
	}
	for _, a := range was.Attributions {
		if now[key{a.Source, a.ID, a.Contract, a.Rule}] {
			continue
		}
		if _, err := add.ExecContext(ctx, p.Close.String(), p.Month.String(), a.Source, a.ID, a.Contract, a.Rule, ""); err != nil {
			return fmt.Errorf("attribution of sale %s of %s: %w", a.ID, a.Source, err)
		}
	}
	return nil
}

const pricedColumns = `close_month, month, group_id, input_digest, result, barred`

// PricedMonth implements [billing.Store].
func (db *DB) PricedMonth(ctx context.Context, m, before period.Month) ([]billing.Priced, error) {
	all, err := db.priced(ctx, `SELECT `+pricedColumns+` FROM priced_groups WHERE month = $1 AND close_month < $2 ORDER BY group_id, close_month`,
		m.String(), before.String())
	if err != nil {
		return nil, fmt.Errorf("pricing of %s: %w", m, err)
	}
	var newest []billing.Priced
	for i, p := range all {
		if i+1 == len(all) || all[i+1].Group != p.Group {
			newest = append(newest, p)
		}
	}
	return newest, nil
}

// PricedBy implements [billing.Store].
func (db *DB) PricedBy(ctx context.Context, close period.Month) ([]billing.Priced, error) {
	return db.priced(ctx, `SELECT `+pricedColumns+` FROM priced_groups WHERE close_month = $1 ORDER BY month, group_id`, close.String())
}

func (db *DB) priced(ctx context.Context, query string, args ...any) ([]billing.Priced, error) {
	rows, err := db.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []billing.Priced
	for rows.Next() {
		var p billing.Priced
		var close, month, result, barred string
		if err := rows.Scan(&close, &month, &p.Group, &p.Input, &result, &barred); err != nil {
			return nil, err
		}
		if err := errors.Join(p.Close.UnmarshalText([]byte(close)), p.Month.UnmarshalText([]byte(month)),
			json.Unmarshal([]byte(result), &p.Result), json.Unmarshal([]byte(barred), &p.Barred)); err != nil {
			return nil, fmt.Errorf("group %s of %s: %w", p.Group, month, err)
		}
		out = append(out, p)
	}
	return out, rows.Err()
}

// Attributions implements [billing.Store].
func (db *DB) Attributions(ctx context.Context, sales []billing.SaleRef, before period.Month) ([]pricing.Attribution, error) {
	var out []pricing.Attribution
	for _, s := range sales {
		got, err := db.attributions(ctx, `WHERE source = $1 AND sale = $2 AND close_month < $3 ORDER BY contract, rule, close_month`, s.Source, s.ID, before.String())
		if err != nil {
			return nil, fmt.Errorf("attribution of sale %s of %s: %w", s.ID, s.Source, err)
		}
		out = append(out, got...)
	}
	return out, nil
}

// AttributionsBy implements [billing.Store].
func (db *DB) AttributionsBy(ctx context.Context, close period.Month) ([]pricing.Attribution, error) {
	out, err := db.attributions(ctx, `WHERE close_month = $1 ORDER BY source, sale, contract, rule`, close.String())
	if err != nil {
		return nil, fmt.Errorf("attributions of the close of %s: %w", close, err)
	}
	return out, nil
}

// attributions reads rows in an order that puts the newest of one sale, contract and
// rule last, and returns that one; none when it was withdrawn.
func (db *DB) attributions(ctx context.Context, where string, args ...any) ([]pricing.Attribution, error) {
	rows, err := db.read.QueryContext(ctx, `SELECT source, sale, contract, rule, body FROM attributions `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []pricing.Attribution
	var last [4]string
	held := false // whether the last of out is of last
	for rows.Next() {
		var k [4]string
		var body string
		if err := rows.Scan(&k[0], &k[1], &k[2], &k[3], &body); err != nil {
			return nil, err
		}
		if k == last && held {
			out = out[:len(out)-1]
		}
		last, held = k, body != ""
		if !held {
			continue
		}
		var a pricing.Attribution
		if err := json.Unmarshal([]byte(body), &a); err != nil {
			return nil, fmt.Errorf("sale %s of %s: %w", k[1], k[0], err)
		}
		out = append(out, a)
	}
	return out, rows.Err()
}

// CommitStatement implements [billing.Store].
func (db *DB) CommitStatement(ctx context.Context, s billing.Statement, entries []ledger.Entry) error {
	content, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return db.tx(ctx, func(tx *sql.Tx) error {
		var old string
		err := tx.QueryRowContext(ctx, `SELECT digest FROM statements WHERE id = $1`, string(s.ID)).Scan(&old)
		if err == nil {
			if old != s.Digest() {
				return fmt.Errorf("kept with digest %s, now %s: %w", old, s.Digest(), billing.ErrConflict)
			}
			return nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO statements (id, month, partner, currency, earned_minor, content, digest) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			string(s.ID), s.Month.String(), string(s.Partner), string(s.Currency), s.Earned.Minor, string(content), s.Digest()); err != nil {
			return err
		}
		if s.Kept != nil {
			if _, err := tx.ExecContext(ctx, `INSERT INTO reserve_layers (statement_id, month, partner, currency, amount_minor, release_on) VALUES ($1, $2, $3, $4, $5, $6)`,
				string(s.ID), s.Month.String(), string(s.Partner), string(s.Currency), s.Kept.Amount.Minor, s.Kept.ReleaseOn.String()); err != nil {
				return err
			}
		}
		for _, r := range s.Releases {
			if _, err := tx.ExecContext(ctx, `INSERT INTO reserve_releases (layer, released_by, month) VALUES ($1, $2, $3)`,
				string(r.Statement), string(s.ID), s.Month.String()); err != nil {
				return err
			}
		}
		rows, err := s.Deferred()
		if err != nil {
			return err
		}
		for _, d := range rows {
			body, err := json.Marshal(d)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO deferred_lines (statement_id, line, month, content) VALUES ($1, $2, $3, $4)`,
				string(s.ID), d.Line, s.Month.String(), string(body)); err != nil {
				return err
			}
		}
		return db.post(ctx, tx, entries, s.Month)
	})
}

// Deferred implements [billing.Store].
func (db *DB) Deferred(ctx context.Context, before period.Month) ([]billing.Deferred, error) {
	return decode[billing.Deferred](ctx, db.read, `SELECT content FROM deferred_lines WHERE month < $1 ORDER BY month, statement_id, line`, before.String())
}

const statementColumns = `s.id, s.month, s.partner, s.currency, s.earned_minor, s.content, s.digest, i.issued_by, i.issued_on, i.booked_on, i.issued_at, i.unauthenticated`

// Statement implements [billing.Store].
func (db *DB) Statement(ctx context.Context, id billing.StatementID) (billing.StatementRecord, error) {
	rs, err := db.statements(ctx, `WHERE s.id = $1`, string(id))
	if err != nil {
		return billing.StatementRecord{}, fmt.Errorf("statement %s: %w", id, err)
	}
	if len(rs) == 0 {
		return billing.StatementRecord{}, fmt.Errorf("statement %s: %w", id, billing.ErrNotFound)
	}
	return rs[0], nil
}

// Statements implements [billing.Store].
func (db *DB) Statements(ctx context.Context, m period.Month, p partner.ID) ([]billing.StatementRecord, error) {
	return db.statements(ctx, `WHERE ($1 = '' OR s.month = $1) AND ($2 = '' OR s.partner = $2)`, m.String(), string(p))
}

func (db *DB) statements(ctx context.Context, where string, args ...any) ([]billing.StatementRecord, error) {
	rows, err := db.read.QueryContext(ctx, `SELECT `+statementColumns+` FROM statements s
		LEFT JOIN statement_issues i ON i.statement_id = s.id `+where+` ORDER BY s.month, s.partner, s.currency`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []billing.StatementRecord
	for rows.Next() {
		var r billing.StatementRecord
		var id, month, who, currency, content string
		var earned int64
		var by, on, booked, at sql.NullString
		var unauthenticated sql.NullInt64
		if err := rows.Scan(&id, &month, &who, &currency, &earned, &content, &r.Digest, &by, &on, &booked, &at, &unauthenticated); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(content), &r.Statement); err != nil {
			return nil, fmt.Errorf("content of %s: %w", id, err)
		}
		// The row says what it is; content that says otherwise no longer has its digest.
		r.ID, r.Partner, r.Currency, r.Earned = billing.StatementID(id), partner.ID(who), money.Currency(currency), money.New(earned, money.Currency(currency))
		if err := r.Month.UnmarshalText([]byte(month)); err != nil {
			return nil, fmt.Errorf("month of %s: %w", id, err)
		}
		r.State = billing.InReview
		if by.Valid {
			r.State, r.IssuedBy, r.Unauthenticated = billing.Issued, by.String, unauthenticated.Int64 == 1
			issuedAt, err := unstamp(at.String)
			if err := errors.Join(err, r.IssuedOn.UnmarshalText([]byte(on.String)), r.BookedOn.UnmarshalText([]byte(booked.String))); err != nil {
				return nil, fmt.Errorf("issue of %s: %w", r.ID, err)
			}
			r.IssuedAt = issuedAt
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// Issue implements [billing.Store].
func (db *DB) Issue(ctx context.Context, r billing.StatementRecord, entry *ledger.Entry) error {
	return db.tx(ctx, func(tx *sql.Tx) error {
		var by string
		err := tx.QueryRowContext(ctx, `SELECT issued_by FROM statement_issues WHERE statement_id = $1`, string(r.ID)).Scan(&by)
		if err == nil {
			if by != r.IssuedBy {
				return fmt.Errorf("issued by %s before: %w", by, billing.ErrConflict)
			}
			return nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO statement_issues (statement_id, issued_by, issued_on, booked_on, issued_at, unauthenticated) VALUES ($1, $2, $3, $4, $5, $6)`,
			string(r.ID), r.IssuedBy, r.IssuedOn.String(), r.BookedOn.String(), stamp(r.IssuedAt), flag(r.Unauthenticated)); err != nil {
			return err
		}
		if entry == nil {
			return nil
		}
		return db.post(ctx, tx, []ledger.Entry{*entry}, period.Month{})
	})
}

// OpenLayers implements [billing.Store].
func (db *DB) OpenLayers(ctx context.Context, before period.Month) ([]billing.Layer, error) {
	rows, err := db.read.QueryContext(ctx, `SELECT l.statement_id, l.month, l.partner, l.currency, l.amount_minor, l.release_on FROM reserve_layers l
		LEFT JOIN reserve_releases r ON r.layer = l.statement_id AND r.month < $1
		WHERE l.month < $1 AND r.layer IS NULL ORDER BY l.release_on, l.statement_id`, before.String())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []billing.Layer
	for rows.Next() {
		var l billing.Layer
		var id, month, who, currency, on string
		var minor int64
		if err := rows.Scan(&id, &month, &who, &currency, &minor, &on); err != nil {
			return nil, err
		}
		l.Statement, l.Partner, l.Amount = billing.StatementID(id), partner.ID(who), money.New(minor, money.Currency(currency))
		if err := errors.Join(l.Month.UnmarshalText([]byte(month)), l.ReleaseOn.UnmarshalText([]byte(on))); err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, rows.Err()
}

// ProposeAdjustment implements [billing.Store].
func (db *DB) ProposeAdjustment(ctx context.Context, a billing.Adjustment) error {
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return db.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO adjustments (id, content, proposed_by, proposed_at) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING`,
			a.ID, string(body), a.ProposedBy, stamp(a.ProposedAt))
		return err
	})
}

// ApproveAdjustment implements [billing.Store].
func (db *DB) ApproveAdjustment(ctx context.Context, id, by string, at time.Time) (billing.Adjustment, error) {
	if err := db.tx(ctx, func(tx *sql.Tx) error {
		known, err := texts(ctx, tx, `SELECT id FROM adjustments WHERE id = $1`, id)
		if err != nil {
			return err
		}
		if len(known) == 0 {
			return billing.ErrNotFound
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO adjustment_approvals (adjustment_id, approved_by, approved_at) VALUES ($1, $2, $3) ON CONFLICT (adjustment_id) DO NOTHING`,
			id, by, stamp(at))
		return err
	}); err != nil {
		return billing.Adjustment{}, fmt.Errorf("approve adjustment %s: %w", id, err)
	}
	all, err := db.Adjustments(ctx)
	if err != nil {
		return billing.Adjustment{}, err
	}
	for _, a := range all {
		if a.ID == id {
			return a, nil
		}
	}
	return billing.Adjustment{}, fmt.Errorf("adjustment %s: %w", id, billing.ErrNotFound)
}

// Adjustments implements [billing.Store].
func (db *DB) Adjustments(ctx context.Context) ([]billing.Adjustment, error) {
	rows, err := db.read.QueryContext(ctx, `SELECT a.content, p.approved_by, p.approved_at, c.month FROM adjustments a
		LEFT JOIN adjustment_approvals p ON p.adjustment_id = a.id
		LEFT JOIN adjustment_carries c ON c.adjustment_id = a.id ORDER BY a.proposed_at, a.id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []billing.Adjustment
	for rows.Next() {
		var a billing.Adjustment
		var content string
		var by, at, month sql.NullString
		if err := rows.Scan(&content, &by, &at, &month); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(content), &a); err != nil {
			return nil, err
		}
		a.ApprovedBy = by.String
		if a.ApprovedAt, err = unstamp(at.String); err != nil {
			return nil, err
		}
		if err := a.CarriedBy.UnmarshalText([]byte(month.String)); err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, rows.Err()
}

// CommitReceipt implements [billing.Store].
func (db *DB) CommitReceipt(ctx context.Context, r billing.Receipt, entry ledger.Entry) (bool, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return false, err
	}
	isNew := false
	err = db.tx(ctx, func(tx *sql.Tx) error {
		isNew = false
		var old string
		err := tx.QueryRowContext(ctx, `SELECT content FROM receipts WHERE processor = $1 AND settlement = $2`, r.Processor, r.Settlement).Scan(&old)
		if err == nil {
			var kept billing.Receipt
			if err := json.Unmarshal([]byte(old), &kept); err != nil {
				return err
			}
			same := r
			same.BookedOn = kept.BookedOn // decided once, when it was first kept
			if same != kept {
				return fmt.Errorf("kept as %s net of %s on %s, now %s net of %s on %s: %w", kept.Net, kept.Gross, kept.SettledOn, r.Net, r.Gross, r.SettledOn, billing.ErrConflict)
			}
			return nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		isNew = true
		if _, err := tx.ExecContext(ctx, `INSERT INTO receipts (processor, settlement, settled_on, content) VALUES ($1, $2, $3, $4)`,
			r.Processor, r.Settlement, r.SettledOn.String(), string(body)); err != nil {
			return err
		}
		return db.post(ctx, tx, []ledger.Entry{entry}, period.Month{})
	})
	return isNew, err
}

// Receipts implements [billing.Store].
func (db *DB) Receipts(ctx context.Context) ([]billing.Receipt, error) {
	return decode[billing.Receipt](ctx, db.read, `SELECT content FROM receipts ORDER BY settled_on, processor, settlement`)
}

// CommitReceived implements [billing.Store].
func (db *DB) CommitReceived(ctx context.Context, r billing.Received, entry ledger.Entry) (bool, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return false, err
	}
	isNew := false
	err = db.tx(ctx, func(tx *sql.Tx) error {
		isNew = false
		old, err := decode[billing.Received](ctx, tx, `SELECT content FROM partner_payments WHERE partner = $1 AND reference = $2`, string(r.Partner), r.Reference)
		if err != nil {
			return err
		}
		if len(old) > 0 {
			if !r.Same(old[0]) {
				return fmt.Errorf("kept as %s of %s, now %s of %s: %w", old[0].Amount, old[0].On, r.Amount, r.On, billing.ErrConflict)
			}
			return nil
		}
		isNew = true
		if _, err := tx.ExecContext(ctx, `INSERT INTO partner_payments (partner, reference, paid_on, content) VALUES ($1, $2, $3, $4)`,
			string(r.Partner), r.Reference, r.On.String(), string(body)); err != nil {
			return err
		}
		return db.post(ctx, tx, []ledger.Entry{entry}, period.Month{})
	})
	return isNew, err
}

// Received implements [billing.Store].
func (db *DB) Received(ctx context.Context) ([]billing.Received, error) {
	return decode[billing.Received](ctx, db.read, `SELECT content FROM partner_payments ORDER BY paid_on, partner, reference`)
}

// decode reads one column of JSON into values.
func decode[T any](ctx context.Context, q querier, query string, args ...any) ([]T, error) {
	bodies, err := texts(ctx, q, query, args...)
	if err != nil {
		return nil, err
	}
	out := make([]T, len(bodies))
	for i, b := range bodies {
		if err := json.Unmarshal([]byte(b), &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// texts reads one column of text.
func texts(ctx context.Context, q querier, query string, args ...any) ([]string, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
