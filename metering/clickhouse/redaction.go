package clickhouse

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"mete/internal/failpoint"
	"mete/metering"
)

// The steps of a redaction at which a crash is tried.
const (
	redactFacts    failpoint.Point = "redact.facts-kept"
	redactApproved failpoint.Point = "redact.approval-kept"
	redactPart     failpoint.Point = "redact.table-overwritten"
)

// redactionsOf reads the redactions of the keys, or all, in the order of proposals.
func (s *Store) redactionsOf(ctx context.Context, keys ...metering.Key) ([]metering.Redaction, error) {
	where := ""
	if len(keys) > 0 {
		where = ` WHERE ` + inKeys("event_key", keys)
	}
	var rs []metering.Redaction
	at := map[string]int{} // in rs, by ID
	err := s.each(ctx, `SELECT id, event_key, field, reason, proposed_by, proposed_at, approved_by, approved_at FROM redactions`+where+`
		 ORDER BY kept_at, id, proposed_by, approved_by`, func(scan func(...any) error) error {
		var r metering.Redaction
		var approved *time.Time
		if err := scan(&r.ID, &r.Key, &r.Field, &r.Reason, &r.ProposedBy, &r.ProposedAt, &r.ApprovedBy, &approved); err != nil {
			return err
		}
		if r.ProposedAt = r.ProposedAt.UTC(); approved != nil {
			r.ApprovedAt = approved.UTC()
		}
		i, known := at[r.ID]
		switch {
		case !known:
			at[r.ID] = len(rs)
			rs = append(rs, r)
		case r.Applied() && !rs[i].Applied():
			rs[i] = r
		}
		return nil
	})
	return rs, err
}

// Redactions yields those of the keys, or all, in the order of proposals, see
// [metering.Redactor].
func (s *Store) Redactions(ctx context.Context, keys ...metering.Key) ([]metering.Redaction, error) {
	rs, err := s.redactionsOf(ctx, keys...)
	if err != nil {
		return nil, fmt.Errorf("redactions: %w", err)
	}
	return rs, nil
}

func appliedOf(all []metering.Redaction) (rs []metering.Redaction) {
	for _, r := range all {
		if r.Applied() {
			rs = append(rs, r)
		}
	}
	return rs
}

// decided are the redactions that hold for what is stored and for whatever comes later.
type decided struct {
	version string // of what is approved
	byKey   map[metering.Key][]metering.Redaction
}

// decided reads what is approved, if that is more than the store knows.
func (s *Store) decided(ctx context.Context) (*decided, error) {
	version := ""
	if err := s.each(ctx, `SELECT concat(toString(count()), ', ', toString(max(kept_at))) FROM redactions WHERE approved_by <> ''`, func(scan func(...any) error) error {
		return scan(&version)
	}); err != nil {
		return nil, fmt.Errorf("what is redacted: %w", err)
	}
	s.mu.Lock()
	known := s.known
	s.mu.Unlock()
	if known != nil && known.version == version {
		return known, nil
	}
	all, err := s.redactionsOf(ctx)
	if err != nil {
		return nil, fmt.Errorf("what is redacted: %w", err)
	}
	d := &decided{version, map[metering.Key][]metering.Redaction{}}
	for _, r := range appliedOf(all) {
		d.byKey[r.Key] = append(d.byKey[r.Key], r)
	}
	s.mu.Lock()
	s.known = d
	s.mu.Unlock()
	return d, nil
}

// keys are those with a redaction.
func (d *decided) keys() []metering.Key {
	keys := make([]metering.Key, 0, len(d.byKey))
	for k := range d.byKey {
		keys = append(keys, k)
	}
	return keys
}

// of is the key of a redaction, if it is known.
func (d *decided) of(id string) (metering.Key, bool) {
	for k, rs := range d.byKey {
		if slices.ContainsFunc(rs, func(r metering.Redaction) bool { return r.ID == id }) {
			return k, true
		}
	}
	return metering.Key{}, false
}

// holds is the redaction of what a form holds, empty for none.
func (d *decided) holds(k metering.Key, form []byte) string {
	if len(d.byKey[k]) == 0 {
		return ""
	}
	e, err := metering.DecodeCanonical(form)
	if err != nil {
		return ""
	}
	for _, r := range d.byKey[k] {
		if metering.ValueOf(&e, r.Field) != "" {
			return r.ID
		}
	}
	return ""
}

// spot is where a row lies, whatever epoch it was stored under.
type spot struct {
	partition int
	sequence  uint64
	index     int
}

func spotOf(p metering.Position) spot { return spot{p.Partition, p.Sequence, p.Index} }

// redactedRow is what the kept facts say of the rows at a place.
type redactedRow struct {
	key       metering.Key
	by        []metering.Redaction // that are approved
	sent, now metering.Hash
	finished  bool // now is the hash with all of by
}

// reached are the IDs of its redactions, as table redacted_rows has them.
func (w *redactedRow) reached() string { return idsOf(w.by) }

func idsOf(rs []metering.Redaction) string {
	ids := values(rs, func(r metering.Redaction) string { return r.ID })
	slices.Sort(ids)
	return strings.Join(ids, ",")
}

// redactedRows reads which rows of the keys are overwritten, by what is decided.
func (s *Store) redactedRows(ctx context.Context, d *decided, keys []metering.Key) (map[spot]*redactedRow, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	type fact struct {
		applied   string
		sent, now metering.Hash
	}
	facts := map[spot][]fact{}
	rows := map[spot]*redactedRow{}
	if err := s.each(ctx, `SELECT DISTINCT event_key, partition, sequence, idx, applied, sent_hash, content_hash FROM redacted_rows WHERE `+inKeys("event_key", keys), func(scan func(...any) error) error {
		var k metering.Key
		var at spot
		var partition uint16
		var index uint32
		var f fact
		if err := scan(&k, &partition, &at.sequence, &index, &f.applied, &f.sent, &f.now); err != nil {
			return err
		}
		at.partition, at.index = int(partition), int(index)
		facts[at] = append(facts[at], f)
		w := rows[at]
		if w == nil {
			w = &redactedRow{key: k, sent: f.sent}
			rows[at] = w
		}
		for _, r := range d.byKey[k] {
			if strings.Contains(f.applied, r.ID) && !slices.Contains(w.by, r) {
				w.by = append(w.by, r)
			}
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("which rows are redacted: %w", err)
	}
	for at, w := range rows {
		if len(w.by) == 0 { // nothing of it is approved
			delete(rows, at)
			continue
		}
		for _, f := range facts[at] {
			if f.applied == w.reached() {
				w.now, w.finished = f.now, true
			}
		}
	}
	return rows, nil
}

// sentHashes gives events that were read the hash of what was sent.
func (s *Store) sentHashes(ctx context.Context) (func(*metering.Accepted), error) {
	d, err := s.decided(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.redactedRows(ctx, d, d.keys())
	return func(a *metering.Accepted) {
		if w := rows[spotOf(a.Position)]; w != nil {
			a.Hash = w.sent
		}
	}, err
}

// redactedFact is a row of table redacted_rows.
type redactedFact struct {
	key       metering.Key
	at        spot
	applied   string
	sent, now metering.Hash
}

func factColumns(fs []redactedFact) []column {
	return []column{
		{"event_key", keyType, values(fs, func(f redactedFact) []byte { return f.key[:] })},
		{"partition", "UInt16", values(fs, func(f redactedFact) uint16 { return uint16(f.at.partition) })},
		{"sequence", "UInt64", values(fs, func(f redactedFact) uint64 { return f.at.sequence })},
		{"idx", "UInt32", values(fs, func(f redactedFact) uint32 { return uint32(f.at.index) })},
		{"applied", textType, values(fs, func(f redactedFact) string { return f.applied })},
		{"sent_hash", "FixedString(32)", values(fs, func(f redactedFact) []byte { return f.sent[:] })},
		{"content_hash", "FixedString(32)", values(fs, func(f redactedFact) []byte { return f.now[:] })},
	}
}

// hide overwrites in an event that is about to be stored what was redacted of it, and
// says so. It is nil if nothing was.
func hide(e *metering.Accepted, by []metering.Redaction) (*metering.Accepted, *redactedFact) {
	var reach []metering.Redaction
	for _, r := range by {
		if metering.ValueOf(&e.Event, r.Field) != "" {
			reach = append(reach, r)
		}
	}
	if len(reach) == 0 {
		return e, nil
	}
	hidden := *e
	for _, r := range reach {
		r.Apply(&hidden.Event)
	}
	return &hidden, &redactedFact{e.Key, spotOf(e.Position), idsOf(reach), e.Hash, metering.ContentHash(hidden.Event)}
}

// underKeys is everything that is stored under some keys, also in rows that do not
// count: their bytes are there, too.
type underKeys struct {
	events    []metering.Accepted
	conflicts []metering.Accepted
	forms     []keptForm
}

type keptForm struct {
	refusal string
	event   metering.Event
}

// under reads it. Where narrows events and conflicts; empty: all rows.
func (s *Store) under(ctx context.Context, keys []metering.Key, where string) (u underKeys, err error) {
	in := ` WHERE ` + inKeys("event_key", keys)
	if where != "" {
		where = ` AND ` + where
	}
	if err := s.each(ctx, `SELECT `+eventNames+` FROM events`+in+where, func(scan func(...any) error) error {
		a, err := scanEvent(scan)
		u.events = append(u.events, a)
		return err
	}); err != nil {
		return u, err
	}
	if err := s.each(ctx, `SELECT `+conflictNames+` FROM conflicts`+in+where, func(scan func(...any) error) error {
		a, err := scanConflict(scan)
		u.conflicts = append(u.conflicts, a)
		return err
	}); err != nil {
		return u, err
	}
	return u, s.each(ctx, `SELECT id, event FROM refusals WHERE event IS NOT NULL AND event_key IS NOT NULL AND `+inKeys("assumeNotNull(event_key)", keys)+` ORDER BY id`,
		func(scan func(...any) error) error {
			var f keptForm
			var form *string
			if err := scan(&f.refusal, &form); err != nil {
				return err
			}
			if f.event, err = metering.DecodeCanonical([]byte(*form)); err != nil {
				return fmt.Errorf("refusal %s: %w", f.refusal, err)
			}
			u.forms = append(u.forms, f)
			return nil
		})
}

func (u *underKeys) has(field string) bool {
	for _, es := range [][]metering.Accepted{u.events, u.conflicts} {
		for i := range es {
			if metering.ValueOf(&es[i].Event, field) != "" {
				return true
			}
		}
	}
	return slices.ContainsFunc(u.forms, func(f keptForm) bool { return metering.ValueOf(&f.event, field) != "" })
}

// ProposeRedaction keeps a proposal, see [metering.Redactor].
func (s *Store) ProposeRedaction(ctx context.Context, r metering.Redaction) (metering.Redaction, error) {
	kept, err := s.proposeRedaction(ctx, r)
	if err != nil {
		return r, fmt.Errorf("propose redaction of %s of event %s: %w", r.Field, r.Key, err)
	}
	return kept, nil
}

func (s *Store) proposeRedaction(ctx context.Context, r metering.Redaction) (metering.Redaction, error) {
	if err := instant("proposed_at", r.ProposedAt); err != nil {
		return r, err
	}
	old, err := s.redactionsOf(ctx, r.Key)
	if err != nil {
		return r, err
	}
	for _, o := range old {
		if o.Field == r.Field {
			return o, nil
		}
	}
	all, err := s.visible(ctx)
	if err != nil {
		return r, err
	}
	u, err := s.under(ctx, []metering.Key{r.Key}, all)
	if err != nil {
		return r, err
	}
	if !u.has(r.Field) {
		return r, metering.ErrNoValue
	}
	return r, s.keepRedactions(ctx, []metering.Redaction{r})
}

// visible writes the condition that a row counts.
func (s *Store) visible(ctx context.Context) (string, error) {
	c, err := s.chain(ctx, allPartitions)
	if err != nil {
		return "", err
	}
	all, err := c.upTo(nil)
	return all.within(""), err
}

// keepRedactions keeps proposals or approvals, all or none, behind all that are kept.
func (s *Store) keepRedactions(ctx context.Context, rs []metering.Redaction) error {
	at := now()
	if err := s.each(ctx, `SELECT max(kept_at) FROM redactions`, func(scan func(...any) error) error {
		var last time.Time
		err := scan(&last)
		at = later(at, last)
		return err
	}); err != nil {
		return err
	}
	type redaction = metering.Redaction
	text := func(name string, of func(redaction) string) column { return column{name, textType, values(rs, of)} }
	kept := make([]time.Time, len(rs)) // in their order
	for i := range kept {
		kept[i] = at.Add(time.Duration(i) * time.Microsecond)
	}
	return s.insert(ctx, "redactions", "", []column{
		text("id", func(r redaction) string { return r.ID }),
		{"kept_at", instantType, kept},
		{"event_key", keyType, values(rs, func(r redaction) []byte { return r.Key[:] })},
		text("field", func(r redaction) string { return r.Field }),
		text("reason", func(r redaction) string { return r.Reason }),
		text("proposed_by", func(r redaction) string { return r.ProposedBy }),
		{"proposed_at", instantType, values(rs, func(r redaction) time.Time { return r.ProposedAt })},
		text("approved_by", func(r redaction) string { return r.ApprovedBy }),
		{"approved_at", optionalInstant, values(rs, func(r redaction) *time.Time { return optionalTime(&r.ApprovedAt) })},
	})
}

// ApproveRedactions keeps approvals and overwrites, see [metering.Redactor].
//
// First it is kept which rows the redactions reach, then the approval, then the values
// are overwritten: in every row, also those that do not count, on all replicas. A crash
// in between is seen by the store's check, and mended by approving again. Last, the
// parts that others replaced must be gone.
func (s *Store) ApproveRedactions(ctx context.Context, ids []string, by string, at time.Time) ([]metering.Redaction, error) {
	rs, err := s.approveRedactions(ctx, ids, by, at)
	if err != nil {
		return nil, fmt.Errorf("approve redactions: %w", err)
	}
	return rs, nil
}

func (s *Store) approveRedactions(ctx context.Context, ids []string, by string, at time.Time) ([]metering.Redaction, error) {
	all, err := s.redactionsOf(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]metering.Redaction{}
	for _, r := range all {
		known[r.ID] = r
	}
	var rs, fresh []metering.Redaction
	seen := map[metering.Key]bool{}
	var keys []metering.Key
	for _, id := range ids {
		r, ok := known[id]
		if !ok {
			return nil, fmt.Errorf("%s: %w", id, metering.ErrNoRedaction)
		}
		if !r.Applied() {
			if r, err = r.Approve(by, at); err == nil {
				err = instant("approved_at", r.ApprovedAt)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", id, err)
			}
			known[id] = r
			fresh = append(fresh, r)
		}
		rs = append(rs, r)
		if !seen[r.Key] {
			seen[r.Key] = true
			keys = append(keys, r.Key)
		}
	}
	if len(rs) == 0 {
		return nil, nil
	}
	if len(fresh) > 0 {
		d, err := s.decided(ctx)
		if err != nil {
			return nil, err
		}
		if err := s.reach(ctx, d, keys, fresh); err != nil {
			return nil, err
		}
		if err := s.keepRedactions(ctx, fresh); err != nil {
			return nil, err
		}
		if err := redactApproved.Hit(); err != nil {
			return nil, err
		}
	}
	if err := s.overwrite(ctx, keys); err != nil {
		return nil, fmt.Errorf("the approval is kept, but not every value may be overwritten; approve again: %w", err)
	}
	if err := s.dropped(ctx); err != nil {
		return nil, fmt.Errorf("the values are overwritten, but parts from before may still be on disk; approve again: %w", err)
	}
	return rs, nil
}

// reach keeps which rows of the keys are overwritten by what is decided and by what is
// about to be, with the hash of what they say then.
func (s *Store) reach(ctx context.Context, d *decided, keys []metering.Key, fresh []metering.Redaction) error {
	rows, err := s.redactedRows(ctx, d, keys)
	if err != nil {
		return err
	}
	u, err := s.under(ctx, keys, "")
	if err != nil {
		return err
	}
	var facts []redactedFact
	done := map[spot]bool{}
	add := func(e *metering.Accepted, sent metering.Hash, before []metering.Redaction) {
		at, reach := spotOf(e.Position), slices.Clone(before)
		for _, r := range fresh {
			if r.Key == e.Key && metering.ValueOf(&e.Event, r.Field) != "" {
				reach = append(reach, r)
			}
		}
		w := rows[at]
		if len(reach) == 0 || done[at] || w != nil && w.finished && w.reached() == idsOf(reach) {
			return
		}
		if w != nil {
			sent = w.sent
		}
		event := e.Event
		for _, r := range reach {
			r.Apply(&event)
		}
		done[at] = true
		facts = append(facts, redactedFact{e.Key, at, idsOf(reach), sent, metering.ContentHash(event)})
	}
	for i := range u.events {
		e := &u.events[i]
		var before []metering.Redaction
		if w := rows[spotOf(e.Position)]; w != nil {
			before = w.by
		}
		add(e, e.Hash, before)
	}
	for i := range u.conflicts { // all that is decided reaches conflicts, whenever they came
		e := &u.conflicts[i]
		var before []metering.Redaction
		for _, r := range d.byKey[e.Key] {
			if metering.ValueOf(&e.Event, r.Field) != "" {
				before = append(before, r)
			}
		}
		add(e, e.Hash, before)
	}
	if len(facts) > 0 {
		if err := s.insert(ctx, "redacted_rows", "", factColumns(facts)); err != nil {
			return err
		}
	}
	return redactFacts.Hit()
}

// overwrite puts tombstones where values stand that are redacted under the keys.
func (s *Store) overwrite(ctx context.Context, keys []metering.Key) error {
	d, err := s.decided(ctx)
	if err != nil {
		return err
	}
	if err := s.reach(ctx, d, keys, nil); err != nil { // two may have approved at the same time
		return err
	}
	rows, err := s.redactedRows(ctx, d, keys)
	if err != nil {
		return err
	}
	u, err := s.under(ctx, keys, "")
	if err != nil {
		return err
	}
	var events, conflicts []overwriting
	for i := range u.events {
		e := &u.events[i]
		if w := rows[spotOf(e.Position)]; w != nil {
			for _, r := range w.by {
				if !gone(&e.Event, r) {
					events = append(events, overwriting{r, spotOf(e.Position)})
				}
			}
		}
	}
	for i := range u.conflicts {
		e := &u.conflicts[i]
		for _, r := range d.byKey[e.Key] {
			if !gone(&e.Event, r) {
				conflicts = append(conflicts, overwriting{r, spotOf(e.Position)})
			}
		}
	}
	for part := range slices.Chunk(unique(events), overwrittenTogether) {
		if err := s.alter(ctx, "events", overwriteEvents(part)); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(unique(conflicts), overwrittenNested) {
		if err := s.alter(ctx, "conflicts", overwriteConflicts(part)); err != nil {
			return err
		}
	}
	return s.eraseForms(ctx, d, u.forms)
}

// gone reports whether nothing is left to overwrite.
func gone(e *metering.Event, r metering.Redaction) bool {
	v := metering.ValueOf(e, r.Field)
	return v == "" || v == r.Tombstone()
}

// overwriting is one field of the rows at one place, under all epochs.
type overwriting struct {
	by metering.Redaction
	at spot
}

func unique(os []overwriting) []overwriting {
	slices.SortFunc(os, func(a, b overwriting) int {
		return cmp.Or(a.by.Key.Compare(b.by.Key), cmp.Compare(a.by.ID, b.by.ID), cmp.Compare(a.at.sequence, b.at.sequence), cmp.Compare(a.at.index, b.at.index))
	})
	return slices.Compact(os)
}

// How many fields one statement overwrites: in columns of their own, and within a text
// of JSON, where each is a step deeper.
const (
	overwrittenTogether = 50
	overwrittenNested   = 8
)

// is writes the condition that a row lies there. The partition follows from the key.
func (o overwriting) is() string {
	return "event_key = unhex('" + o.by.Key.String() + "') AND sequence = " + strconv.FormatUint(o.at.sequence, 10) + " AND idx = " + strconv.Itoa(o.at.index)
}

// columnsOf are the columns of table events that hold what may be redacted; dimensions
// are in one of their own.
var columnsOf = map[string]string{
	"id": "event_id", "subject": "customer", "data.operation": "operation", "data.unit": "unit", "data.deal": "deal",
	"data.lead": "lead", "data.refers_to": "refers_to", "data.reference": "reference", "data.region": "region",
}

const dimensionPrefix = "data.dimensions."

// overwriteEvents writes what an ALTER TABLE does. No value is in its text, which the
// engine keeps for a while.
func overwriteEvents(os []overwriting) string {
	cases := map[string][]string{} // by column
	dimensions, nested := "dimensions", false
	for _, o := range os {
		if name, ok := strings.CutPrefix(o.by.Field, dimensionPrefix); ok {
			dimensions, nested = replaceIn(dimensions, []string{name}, o.by.Tombstone(), o.is()), true
			continue
		}
		column := columnsOf[o.by.Field]
		cases[column] = append(cases[column], o.is()+" AND "+column+" <> ''", quote(o.by.Tombstone()))
	}
	var sets []string
	for column, of := range cases {
		sets = append(sets, column+" = multiIf("+strings.Join(of, ", ")+", "+column+")")
	}
	if nested {
		sets = append(sets, "dimensions = if(dimensions = '', '', "+dimensions+")")
	}
	slices.Sort(sets)
	return "UPDATE " + strings.Join(sets, ", ") + " WHERE " + anyOf(os)
}

// anyOf writes the condition that a row lies at one of the places, the key alone first:
// it decides which parts are read further.
func anyOf(os []overwriting) string {
	keys, places := make([]string, len(os)), make([]string, len(os))
	for i, o := range os {
		keys[i], places[i] = "unhex('"+o.by.Key.String()+"')", "("+o.is()+")"
	}
	return "event_key IN (" + strings.Join(slices.Compact(keys), ", ") + ") AND (" + strings.Join(slices.Compact(places), " OR ") + ")"
}

func overwriteConflicts(os []overwriting) string {
	form := "event"
	for _, o := range os {
		path := strings.Split(o.by.Field, ".")
		if name, ok := strings.CutPrefix(o.by.Field, dimensionPrefix); ok {
			path = []string{"data", "dimensions", name}
		}
		form = replaceIn(form, path, o.by.Tombstone(), o.is())
	}
	return "UPDATE event = " + form + " WHERE " + anyOf(os)
}

// replaceIn writes a JSON object with another text at the path, if one is there and the
// condition holds; everything else stays as it is.
func replaceIn(object string, path []string, text, condition string) string {
	depth := strconv.Itoa(len(path))
	member, with := "m"+depth, ""
	if len(path) == 1 {
		quoted, _ := json.Marshal(text)
		with = "if(" + member + ".1 = " + quote(path[0]) + " AND " + member + ".2 <> '\"\"' AND " + condition + ", " + quote(string(quoted)) + ", " + member + ".2)"
	} else {
		with = "if(" + member + ".1 = " + quote(path[0]) + ", " + replaceIn(member+".2", path[1:], text, condition) + ", " + member + ".2)"
	}
	return "concat('{', arrayStringConcat(arrayMap(" + member + " -> concat(toJSONString(" + member + ".1), ':', " + with + "), JSONExtractKeysAndValuesRaw(" + object + ")), ','), '}')"
}

// eraseForms erases kept forms of refusals that hold what is redacted, with what their
// details quote of it.
func (s *Store) eraseForms(ctx context.Context, d *decided, forms []keptForm) error {
	erased := map[string][]string{} // refusals by redaction
	for _, f := range forms {
		for _, r := range d.byKey[f.event.Key()] {
			if metering.ValueOf(&f.event, r.Field) != "" {
				erased[r.ID] = append(erased[r.ID], f.refusal)
				break
			}
		}
	}
	for id, refusals := range erased {
		detail := quote(erasedDetail(id))
		// The form goes last: with it, what is left to do is found again.
		if err := s.alter(ctx, "replays", "UPDATE detail = "+detail+" WHERE "+oneOf("refusal", refusals)+" AND detail <> ''"); err != nil {
			return err
		}
		if err := s.alter(ctx, "refusals", "UPDATE event = NULL, erased_by = "+quote(id)+", detail = "+detail+" WHERE "+oneOf("id", refusals)); err != nil {
			return err
		}
	}
	return nil
}

// erasedDetail stands where details of a refusal quoted its event.
func erasedDetail(redaction string) string {
	return "the kept form was erased with what was told of it, by redaction " + redaction
}

// alter overwrites rows of a table, on all replicas, and returns when that is done.
func (s *Store) alter(ctx context.Context, table, what string) error {
	if err := s.conn.Exec(ctx, alteration(s.options.Cluster, table, what)); err != nil {
		return fmt.Errorf("overwrite in %s: %w", table, orEnded(ctx, err))
	}
	return redactPart.Hit()
}

func alteration(cluster, table, what string) string {
	alter, settings := words(cluster)["alter"].(func(string) string)(table), " SETTINGS mutations_sync = 2"
	if cluster != "" {
		settings += ", distributed_ddl_task_timeout = " + strconv.Itoa(int(goneWithin/time.Second))
	}
	return alter + " " + what + settings
}

// How long a redaction waits for the engine to delete parts that others replaced, and
// how often it looks. What questions still read stays until they end.
const (
	goneWithin = 10 * time.Minute
	goneLook   = 250 * time.Millisecond
)

// redactedTables are those that hold texts of events.
var redactedTables = []string{"events", "conflicts", "refusals", "replays"}

// dropped waits until the parts that were replaced up to now are deleted.
func (s *Store) dropped(ctx context.Context) error {
	from, names := "system.parts", redactedTables
	if cluster := s.options.Cluster; cluster != "" {
		from = "clusterAllReplicas(" + quote(cluster) + ", system, parts)"
		names = values(names, func(name string) string { return name + localSuffix })
	}
	replaced := func() (parts []string, err error) {
		err = s.each(ctx, `SELECT concat(hostName(), ' ', table, ' ', name) FROM `+from+` WHERE NOT active AND database = currentDatabase() AND `+oneOf("table", names), func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			parts = append(parts, name)
			return err
		})
		return parts, err
	}
	before, err := replaced()
	if err != nil || s.goneWithin == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.goneWithin)
	defer cancel()
	for left := before; len(left) > 0; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d are left, such as %s: %w", len(left), len(before), left[0], ctx.Err())
		case <-time.After(goneLook):
		}
		for _, table := range names {
			// It makes the engine look now. Where that is not allowed, it looks when it does.
			_ = s.conn.Exec(ctx, "SYSTEM START CLEANUP "+onCluster(s.options.Cluster)+table)
		}
		if left, err = replaced(); err != nil {
			return err
		}
		left = slices.DeleteFunc(left, func(name string) bool { return !slices.Contains(before, name) })
	}
	return nil
}

func onCluster(cluster string) string {
	if cluster == "" {
		return ""
	}
	return "ON CLUSTER " + quote(cluster) + " "
}

// SameValue yields the keys of other events with the same value, see
// [metering.Redactor]. The value itself is in no query's text, which the engine keeps.
func (s *Store) SameValue(ctx context.Context, k metering.Key, field string) ([]metering.Key, error) {
	keys, err := s.sameValue(ctx, k, field)
	if err != nil {
		return nil, fmt.Errorf("events with the same %s as event %s: %w", field, k, err)
	}
	return keys, nil
}

func (s *Store) sameValue(ctx context.Context, k metering.Key, field string) ([]metering.Key, error) {
	f, err := s.find(ctx, k)
	if err != nil || f.Event == nil || metering.ValueOf(&f.Event.Event, field) == "" {
		return nil, err
	}
	column := columnsOf[field]
	if name, ok := strings.CutPrefix(field, dimensionPrefix); ok {
		column = "JSONExtractString(dimensions, " + quote(name) + ")"
	}
	if column == "" {
		return nil, metering.CheckRedactable(field)
	}
	visible, err := s.visible(ctx)
	if err != nil {
		return nil, err
	}
	is := "event_key = unhex('" + k.String() + "')"
	var keys []metering.Key
	err = s.each(ctx, `SELECT event_key FROM events WHERE `+column+` = (SELECT any(`+column+`) FROM events WHERE `+is+` AND `+visible+`)
		 AND NOT (`+is+`) AND `+visible+` LIMIT `+strconv.Itoa(metering.MaxFound), func(scan func(...any) error) error {
		var key metering.Key
		err := scan(&key)
		keys = append(keys, key)
		return err
	})
	return keys, err
}

// errRedacted says that a redaction was approved while a block was being stored.
var errRedacted = errors.New("values of its events were redacted meanwhile")
