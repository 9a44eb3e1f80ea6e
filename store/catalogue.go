package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"mete/catalogue"
)

var _ catalogue.Store = (*DB)(nil)

// CatalogueHead implements [catalogue.Store].
func (db *DB) CatalogueHead(ctx context.Context) (int64, error) {
	var seq int64
	if err := db.read.QueryRowContext(ctx, `SELECT seq FROM catalogue_head WHERE one = 1`).Scan(&seq); err != nil {
		return 0, fmt.Errorf("catalogue head: %w", err)
	}
	return seq, nil
}

// RecordVersions implements [catalogue.Store].
func (db *DB) RecordVersions(ctx context.Context, base int64, vs []catalogue.Version) error {
	err := db.tx(ctx, func(tx *sql.Tx) error {
		seq, err := moveCatalogue(ctx, tx, base)
		if errors.Is(err, catalogue.ErrConflict) && allKept(ctx, tx, vs) {
			return nil
		}
		if err != nil {
			return err
		}
		insert, err := tx.PrepareContext(ctx, `INSERT INTO catalogue_versions (kind, id, number, seq, digest, effective_from, until_on,
			corrects, recorded_at, author, unauthenticated, file, content, document)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`)
		if err != nil {
			return err
		}
		defer insert.Close()
		for _, v := range vs {
			if _, err := insert.ExecContext(ctx, string(v.Kind), v.ID, v.Number, seq, v.Digest, v.From.String(), v.Until.String(),
				v.Corrects, stamp(v.RecordedAt), v.Author.Name, flag(v.Author.Unauthenticated), v.File, string(v.Content), v.Document); err != nil {
				return fmt.Errorf("%s: %w", v.Ref, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record %d versions: %w", len(vs), err)
	}
	return nil
}

// moveCatalogue moves the head on by one step if it still is base, and holds it until
// commit.
func moveCatalogue(ctx context.Context, tx *sql.Tx, base int64) (int64, error) {
	res, err := tx.ExecContext(ctx, `UPDATE catalogue_head SET seq = $1 WHERE one = 1 AND seq = $2`, base+1, base)
	if err != nil {
		return 0, err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return base + 1, err
	}
	return 0, catalogue.ErrConflict
}

// allKept reports whether exactly these versions are kept.
func allKept(ctx context.Context, tx *sql.Tx, vs []catalogue.Version) bool {
	for _, v := range vs {
		var digest, from string
		err := tx.QueryRowContext(ctx, `SELECT digest, effective_from FROM catalogue_versions WHERE kind = $1 AND id = $2 AND number = $3`,
			string(v.Kind), v.ID, v.Number).Scan(&digest, &from)
		if err != nil || digest != v.Digest || from != v.From.String() {
			return false
		}
	}
	return true
}

// RecordDecision implements [catalogue.Store].
func (db *DB) RecordDecision(ctx context.Context, base int64, d catalogue.Decision) error {
	var screen []byte
	if d.Screen != nil {
		var err error
		if screen, err = json.Marshal(d.Screen); err != nil {
			return fmt.Errorf("record that %s was %s: %w", d.Ref, d.Verdict, err)
		}
	}
	err := db.tx(ctx, func(tx *sql.Tx) error {
		var made int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM decisions WHERE kind = $1 AND id = $2 AND number = $3 AND verdict = $4 AND decided_by = $5`,
			string(d.Kind), d.ID, d.Number, string(d.Verdict), d.By.Name).Scan(&made); err != nil || made > 0 {
			return err
		}
		seq, err := moveCatalogue(ctx, tx, base)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO decisions (seq, kind, id, number, digest, document_sha256, verdict, decided_by,
			unauthenticated, decided_at, recorded_by, recorder_unauthenticated, recorded_at, reason, screen)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
			seq, string(d.Kind), d.ID, d.Number, d.Digest, d.Document, string(d.Verdict), d.By.Name, flag(d.By.Unauthenticated),
			stamp(d.At), d.RecordedBy.Name, flag(d.RecordedBy.Unauthenticated), stamp(d.RecordedAt), d.Text, string(screen))
		return err
	})
	if err != nil {
		return fmt.Errorf("record that %s was %s: %w", d.Ref, d.Verdict, err)
	}
	return nil
}

// Without a value each condition is true, so that one text serves every query.
const catalogueWhere = ` WHERE ($1 = '' OR kind = $1) AND ($2 = '' OR id = $2) AND ($3 = '' OR recorded_at <= $3)`

const versionColumns = `SELECT kind, id, number, digest, effective_from, until_on, corrects, recorded_at, author, unauthenticated, file, content, document
	FROM catalogue_versions`

// Versions implements [catalogue.Store].
func (db *DB) Versions(ctx context.Context, q catalogue.Query) ([]catalogue.Version, error) {
	rows, err := db.read.QueryContext(ctx, versionColumns+catalogueWhere+` ORDER BY seq, kind, id, number`, string(q.Kind), q.ID, stamp(q.UpTo))
	if err != nil {
		return nil, fmt.Errorf("versions: %w", err)
	}
	defer rows.Close()
	var vs []catalogue.Version
	for rows.Next() {
		v, err := scanVersion(rows)
		if err != nil {
			return nil, fmt.Errorf("versions: %w", err)
		}
		vs = append(vs, v)
	}
	return vs, rows.Err()
}

func scanVersion(row interface{ Scan(...any) error }) (v catalogue.Version, err error) {
	var from, until, recorded, content string
	var unauthenticated int
	if err := row.Scan(&v.Kind, &v.ID, &v.Number, &v.Digest, &from, &until, &v.Corrects, &recorded,
		&v.Author.Name, &unauthenticated, &v.File, &content, &v.Document); err != nil {
		return v, err
	}
	v.Author.Unauthenticated, v.Content = unauthenticated == 1, []byte(content)
	v.RecordedAt, err = unstamp(recorded)
	return v, errors.Join(err, v.From.UnmarshalText([]byte(from)), v.Until.UnmarshalText([]byte(until)))
}

// Decisions implements [catalogue.Store].
func (db *DB) Decisions(ctx context.Context, q catalogue.Query) ([]catalogue.Decision, error) {
	rows, err := db.read.QueryContext(ctx, `SELECT kind, id, number, digest, document_sha256, verdict, decided_by, unauthenticated, decided_at,
		recorded_by, recorder_unauthenticated, recorded_at, reason, screen FROM decisions`+catalogueWhere+` ORDER BY seq`,
		string(q.Kind), q.ID, stamp(q.UpTo))
	if err != nil {
		return nil, fmt.Errorf("decisions: %w", err)
	}
	defer rows.Close()
	var ds []catalogue.Decision
	for rows.Next() {
		var d catalogue.Decision
		var at, recorded, screen string
		var unauthenticated, recorder int
		if err := rows.Scan(&d.Kind, &d.ID, &d.Number, &d.Digest, &d.Document, &d.Verdict, &d.By.Name, &unauthenticated, &at,
			&d.RecordedBy.Name, &recorder, &recorded, &d.Text, &screen); err != nil {
			return nil, fmt.Errorf("decisions: %w", err)
		}
		d.By.Unauthenticated, d.RecordedBy.Unauthenticated = unauthenticated == 1, recorder == 1
		var errAt, errRecorded, errScreen error
		if screen != "" {
			errScreen = json.Unmarshal([]byte(screen), &d.Screen)
		}
		d.At, errAt = unstamp(at)
		d.RecordedAt, errRecorded = unstamp(recorded)
		if err := errors.Join(errAt, errRecorded, errScreen); err != nil {
			return nil, fmt.Errorf("decision on %s: %w", d.Ref, err)
		}
		ds = append(ds, d)
	}
	return ds, rows.Err()
}

// RecordOverride implements [catalogue.Store].
func (db *DB) RecordOverride(ctx context.Context, base int64, o catalogue.Override) error {
	err := db.tx(ctx, func(tx *sql.Tx) error {
		var made int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM overrides WHERE kind = $1 AND id = $2 AND number = $3 AND finding = $4 AND overridden_by = $5`,
			string(o.Kind), o.ID, o.Number, o.Finding, o.By.Name).Scan(&made); err != nil || made > 0 {
			return err
		}
		seq, err := moveCatalogue(ctx, tx, base)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO overrides (seq, kind, id, number, digest, finding, overridden_by, unauthenticated, role, reason, recorded_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			seq, string(o.Kind), o.ID, o.Number, o.Digest, o.Finding, o.By.Name, flag(o.By.Unauthenticated), o.Role, o.Reason, stamp(o.At))
		return err
	})
	if err != nil {
		return fmt.Errorf("record that a finding of %s was overridden: %w", o.Ref, err)
	}
	return nil
}

// Overrides implements [catalogue.Store].
func (db *DB) Overrides(ctx context.Context, q catalogue.Query) ([]catalogue.Override, error) {
	rows, err := db.read.QueryContext(ctx, `SELECT kind, id, number, digest, finding, overridden_by, unauthenticated, role, reason, recorded_at
		FROM overrides`+catalogueWhere+` ORDER BY seq`, string(q.Kind), q.ID, stamp(q.UpTo))
	if err != nil {
		return nil, fmt.Errorf("overrides: %w", err)
	}
	defer rows.Close()
	var out []catalogue.Override
	for rows.Next() {
		var o catalogue.Override
		var at string
		var unauthenticated int
		if err := rows.Scan(&o.Kind, &o.ID, &o.Number, &o.Digest, &o.Finding, &o.By.Name, &unauthenticated, &o.Role, &o.Reason, &at); err != nil {
			return nil, fmt.Errorf("overrides: %w", err)
		}
		o.By.Unauthenticated = unauthenticated == 1
		if o.At, err = unstamp(at); err != nil {
			return nil, fmt.Errorf("override of a finding of %s: %w", o.Ref, err)
		}
		out = append(out, o)
	}
	return out, rows.Err()
}

// RecordNotification implements [catalogue.Store].
func (db *DB) RecordNotification(ctx context.Context, base int64, n catalogue.Notification) error {
	err := db.tx(ctx, func(tx *sql.Tx) error {
		var made int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM notifications WHERE kind = $1 AND id = $2 AND number = $3 AND digest = $4
			AND document_sha256 = $5 AND sheet_sha256 = $6 AND sheet_format = $7 AND notified = $8 AND how = $9 AND notified_on = $10
			AND notified_by = $11 AND evidence = $12`,
			string(n.Kind), n.ID, n.Number, n.Digest, n.Document, n.Sheet.SHA256, n.Sheet.Format, n.To, n.How, n.On.String(),
			n.By.Name, n.Evidence).Scan(&made); err != nil || made > 0 {
			return err
		}
		seq, err := moveCatalogue(ctx, tx, base)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO notifications (seq, kind, id, number, digest, document_sha256, sheet_sha256, sheet_format,
			notified, how, notified_on, notified_by, unauthenticated, evidence, recorded_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
			seq, string(n.Kind), n.ID, n.Number, n.Digest, n.Document, n.Sheet.SHA256, n.Sheet.Format, n.To, n.How, n.On.String(),
			n.By.Name, flag(n.By.Unauthenticated), n.Evidence, stamp(n.RecordedAt))
		return err
	})
	if err != nil {
		return fmt.Errorf("record that the partner was notified of %s: %w", n.Ref, err)
	}
	return nil
}

// Notifications implements [catalogue.Store].
func (db *DB) Notifications(ctx context.Context, q catalogue.Query) ([]catalogue.Notification, error) {
	rows, err := db.read.QueryContext(ctx, `SELECT kind, id, number, digest, document_sha256, sheet_sha256, sheet_format, notified, how,
		notified_on, notified_by, unauthenticated, evidence, recorded_at FROM notifications`+catalogueWhere+` ORDER BY seq`,
		string(q.Kind), q.ID, stamp(q.UpTo))
	if err != nil {
		return nil, fmt.Errorf("notifications: %w", err)
	}
	defer rows.Close()
	var out []catalogue.Notification
	for rows.Next() {
		var n catalogue.Notification
		var on, recorded string
		var unauthenticated int
		if err := rows.Scan(&n.Kind, &n.ID, &n.Number, &n.Digest, &n.Document, &n.Sheet.SHA256, &n.Sheet.Format, &n.To, &n.How,
			&on, &n.By.Name, &unauthenticated, &n.Evidence, &recorded); err != nil {
			return nil, fmt.Errorf("notifications: %w", err)
		}
		n.By.Unauthenticated = unauthenticated == 1
		var errRecorded error
		n.RecordedAt, errRecorded = unstamp(recorded)
		if err := errors.Join(errRecorded, n.On.UnmarshalText([]byte(on))); err != nil {
			return nil, fmt.Errorf("notification of %s: %w", n.Ref, err)
		}
		out = append(out, n)
	}
	return out, rows.Err()
}

// manyRefs is from where a whole kind is read instead of version by version.
const manyRefs = 20

// LoadVersions implements [catalogue.Store].
func (db *DB) LoadVersions(ctx context.Context, refs []catalogue.Ref) ([]catalogue.Version, error) {
	type name struct {
		kind   catalogue.Kind
		id     string
		number int
	}
	count := map[catalogue.Kind]int{}
	for _, r := range refs {
		count[r.Kind]++
	}
	kept := map[name]catalogue.Version{}
	for kind, n := range count {
		if n <= manyRefs {
			continue
		}
		vs, err := db.Versions(ctx, catalogue.Query{Kind: kind})
		if err != nil {
			return nil, err
		}
		for _, v := range vs {
			kept[name{v.Kind, v.ID, v.Number}] = v
		}
	}
	out := make([]catalogue.Version, 0, len(refs))
	for _, r := range refs {
		v, ok := kept[name{r.Kind, r.ID, r.Number}]
		if !ok && count[r.Kind] > manyRefs {
			return nil, fmt.Errorf("%s: %w", r, catalogue.ErrUnknown)
		}
		if !ok {
			var err error
			v, err = scanVersion(db.read.QueryRowContext(ctx, versionColumns+` WHERE kind = $1 AND id = $2 AND number = $3`, string(r.Kind), r.ID, r.Number))
			if errors.Is(err, sql.ErrNoRows) {
				err = catalogue.ErrUnknown
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r, err)
			}
		}
		out = append(out, v)
	}
	return out, nil
}
