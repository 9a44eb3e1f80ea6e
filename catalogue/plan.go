package catalogue

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Changes are what documents would change. They are bound to the catalogue they were
// compared with: [Catalogue.Apply] refuses them once it has moved on.
type Changes struct {
	Added     []Change `json:"added"`
	Changed   []Change `json:"changed"`
	Unchanged []Ref    `json:"unchanged"`

	base int64
	zone *time.Location
}

// Change is one version to be recorded.
type Change struct {
	Kind   Kind          `json:"kind"`
	ID     string        `json:"id"`
	Number int           `json:"version"`
	From   period.Date   `json:"effective_from,omitzero"`
	Until  period.Date   `json:"until,omitzero"`
	Today  bool          `json:"from_recording,omitempty"` // in force from the day it is recorded
	Was    *Ref          `json:"was,omitempty"`            // the version compared with
	Fields []FieldChange `json:"fields,omitempty"`
	Notes  []string      `json:"notes,omitempty"` // what has to be known or done
	File   string        `json:"file"`
	Line   int           `json:"line"`

	object Object
}

// FieldChange is one field's value before and after. Empty text: it was, or will be,
// absent.
type FieldChange struct {
	Field string `json:"field"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

// IsEmpty reports whether nothing would change.
func (ch Changes) IsEmpty() bool { return len(ch.Added)+len(ch.Changed) == 0 }

// Plan compares documents with the catalogue and says what applying them would change.
// It changes nothing. Whatever is wrong, in the documents or between them and the
// catalogue, is reported together as [*Problems].
//
// An object without an effective date is compared with the version recorded last; one
// with a date, or one that stands beside others of the same ID, with the version from
// that date. A contract's document is compared with every version that is in force or
// waiting. Objects that no document names stay as they are.
func (c Catalogue) Plan(ctx context.Context, docs Documents) (Changes, error) {
	vs, head, err := c.history(ctx, Query{})
	if err != nil {
		return Changes{}, fmt.Errorf("plan: %w", err)
	}
	p := planner{problems: docs.checked(), kept: map[objectKey][]Version{}, docs: docs, documents: map[objectKey]int{}}
	for _, v := range vs {
		k := objectKey{v.Kind, v.ID}
		p.kept[k] = append(p.kept[k], v)
	}
	for _, o := range docs.Objects {
		p.documents[objectKey{o.Kind, o.ID}]++
	}
	if err := p.plan(); err != nil {
		return Changes{}, err
	}
	p.changes.base = head
	p.changes.zone = p.zone()
	return p.changes, nil
}

type objectKey struct {
	kind Kind
	id   string
}

// planner compares docs with what is kept.
type planner struct {
	problems  *Problems
	kept      map[objectKey][]Version
	docs      Documents
	documents map[objectKey]int // how many describe the object
	changes   Changes
}

func (p *planner) plan() error {
	objects := slices.Clone(p.docs.Objects)
	slices.SortStableFunc(objects, func(a, b Object) int {
		return cmp.Or(cmp.Compare(rank(a.Kind), rank(b.Kind)), strings.Compare(a.ID, b.ID),
			a.Effective.Compare(b.Effective), cmp.Compare(a.Corrects, b.Corrects))
	})
	p.checkReferences(objects)
	p.checkOneMarketplace(objects)
	planned := map[objectKey]int{}
	for _, o := range objects {
		p.compare(o, planned)
	}
	p.checkShares()
	return p.problems.err()
}

// report is a problem of an object's document.
func (p *planner) report(o Object, field, problem, remedy string) {
	line, column := o.Place(field)
	p.problems.add(Problem{o.File, line, column, field, problem, remedy})
}

// compare finds out whether o says anything new. Planned counts the new versions of
// its object so far.
func (p *planner) compare(o Object, planned map[objectKey]int) {
	key := objectKey{o.Kind, o.ID}
	kept := p.kept[key]
	var was *Version
	if o.Kind == KindContract {
		if v := p.sameContract(o, kept); v != nil {
			p.changes.Unchanged = append(p.changes.Unchanged, v.Ref)
			return
		}
		was = before(o, kept)
	} else {
		was = p.lastOf(o, kept)
		if was != nil && was.Digest == o.digest() && (o.Effective.IsZero() || o.Effective == was.From) {
			p.changes.Unchanged = append(p.changes.Unchanged, was.Ref)
			return
		}
		if was == nil && len(kept) > 0 {
			was = &kept[len(kept)-1]
		}
	}
	planned[key]++
	ch := Change{Kind: o.Kind, ID: o.ID, Number: len(kept) + planned[key], From: o.Effective, Until: o.Until,
		File: o.File, Line: o.Line, object: o}
	ch.Today = o.Effective.IsZero() && len(kept) > 0 && p.documents[key] == 1 && !kindOf(o.Kind).dated
	if ch.Number > maxVersion {
		p.report(o, string(o.Kind), fmt.Sprintf("%s %s would have more than %d versions", o.Kind.words(), o.ID, maxVersion), "")
	}
	if was != nil {
		ch.Was = &was.Ref
		ch.Fields = diff(was.Content, o.Content)
		if o.Kind != KindContract && was.From != o.Effective && !ch.Today && !kindOf(o.Kind).dated {
			ch.Fields = append(ch.Fields, FieldChange{"effective", was.From.String(), o.Effective.String()})
		}
	}
	if o.Kind == KindContract {
		ch.Notes = p.contractNotes(o, kept)
		p.checkCorrects(o, kept)
		for _, idle := range o.idle {
			p.problems.add(idle)
		}
	}
	if len(kept) == 0 && planned[key] == 1 {
		p.changes.Added = append(p.changes.Added, ch)
	} else {
		p.changes.Changed = append(p.changes.Changed, ch)
	}
}

// lastOf is the kept version that a document which is no contract describes.
func (p *planner) lastOf(o Object, kept []Version) *Version {
	alone := p.documents[objectKey{o.Kind, o.ID}] == 1
	for i := len(kept) - 1; i >= 0; i-- {
		if o.Effective.IsZero() && alone || kept[i].From == o.Effective {
			return &kept[i]
		}
	}
	return nil
}

// sameContract is the kept version that says exactly what o says and is in force or
// may come into force.
func (p *planner) sameContract(o Object, kept []Version) *Version {
	want := o.digest()
	for i := len(kept) - 1; i >= 0; i-- {
		if kept[i].live() && kept[i].Digest == want {
			return &kept[i]
		}
	}
	return nil
}

// before is the version whose place o takes: the one it corrects, or else the last
// live one that begins no later, or else the last.
func before(o Object, kept []Version) *Version {
	var best *Version
	for i := range kept {
		v := &kept[i]
		if o.Corrects == v.Number && o.Corrects > 0 {
			return v
		}
		if v.live() && !o.Effective.Before(v.From) && (best == nil || byStart(*best, *v) < 0) {
			best = v
		}
	}
	if best == nil && len(kept) > 0 {
		best = &kept[len(kept)-1]
	}
	return best
}

// checkCorrects refuses terms that touch what is in force without saying so.
func (p *planner) checkCorrects(o Object, kept []Version) {
	if o.Corrects == 0 {
		for _, v := range kept {
			if v.inForce() && v.From == o.Effective {
				p.report(o, "effective.from", fmt.Sprintf("version %d of %s is in force from %s, and terms in force are never edited", v.Number, o.ID, v.From),
					fmt.Sprintf("give the new terms a later effective.from, or write corrects: %d if version %d was wrong", v.Number, v.Number))
			}
		}
		return
	}
	i := slices.IndexFunc(kept, func(v Version) bool { return v.Number == o.Corrects })
	if i < 0 || !kept[i].inForce() {
		p.report(o, "corrects", fmt.Sprintf("version %d of %s is not in force, there is nothing to correct", o.Corrects, o.ID),
			"name the version in force that was wrong, or leave corrects out")
		return
	}
	v := kept[i]
	if o.Effective.Before(v.From) || !v.Until.IsZero() && !o.Effective.Before(v.Until) {
		p.report(o, "effective.from", fmt.Sprintf("%s lies outside version %d of %s, which it corrects (%s)", o.Effective, v.Number, o.ID, span(v.From, v.Until)),
			"begin within the version that was wrong")
	}
	p.checkKeeps(o, v)
}

// contractNotes say what must happen before the terms count.
func (p *planner) contractNotes(o Object, kept []Version) []string {
	var notes []string
	zone := "UTC"
	if o.Terms != nil {
		zone = o.Terms.ZoneName
	}
	agreed := slices.ContainsFunc(kept, Version.inForce)
	switch {
	case o.Corrects > 0:
		notes = append(notes, fmt.Sprintf("corrects version %d: needs the approval of two persons other than its author, and the partner's acceptance", o.Corrects),
			"closed months are not edited: the differences are posted on the next statement")
	case agreed:
		notes = append(notes, fmt.Sprintf("needs approval by another person and the partner's acceptance before %s 00:00 %s", o.Effective, zone))
	default:
		notes = append(notes, "needs approval by another person and the partner's acceptance")
	}
	for _, v := range kept {
		if (v.State == Proposed || v.State == Approved) && v.From == o.Effective && v.Corrects == o.Corrects {
			notes = append(notes, fmt.Sprintf("takes the place of version %d, which was %s", v.Number, v.State))
		}
	}
	return notes
}

// span is a term for people.
func span(from, until period.Date) string {
	s := "from the beginning"
	if !from.IsZero() {
		s = "from " + from.String()
	}
	if !until.IsZero() {
		s += " until " + until.String()
	}
	return s
}

// ids are the IDs of a kind that are kept or described.
func (p *planner) ids(k Kind) []string {
	set := map[string]bool{}
	for key := range p.kept {
		if key.kind == k {
			set[key.id] = true
		}
	}
	for key := range p.documents {
		if key.kind == k {
			set[key.id] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// checkReferences reports names of objects that there are not, and contracts that
// share the sales of somebody else's app.
func (p *planner) checkReferences(objects []Object) {
	known := map[Kind][]string{}
	for _, k := range Kinds() {
		known[k] = p.ids(k)
	}
	for _, o := range objects {
		for _, ref := range o.refs {
			if ref.kind == KindPartner && partner.ID(ref.id) == partner.Platform { // there without a document
				continue
			}
			if _, found := slices.BinarySearch(known[ref.kind], ref.id); !found {
				remedy := didYouMean(ref.id, known[ref.kind])
				if remedy == "" {
					remedy = "describe it in a document of its own"
				}
				p.problems.add(Problem{o.File, ref.line, ref.column, ref.field, fmt.Sprintf("no %s is called %s", ref.kind.words(), ref.id), remedy})
			}
		}
		p.checkOwnApps(o)
		p.checkProcessor(o)
	}
}

// checkOwnApps refuses share rules on apps of other partners.
func (p *planner) checkOwnApps(o Object) {
	if o.Terms == nil {
		return
	}
	for i, r := range o.Terms.Rules {
		if !r.Shares() {
			continue
		}
		apps := r.Apps
		if len(apps) == 0 {
			apps = o.Terms.Apps
		}
		for _, app := range apps {
			if owner := p.ownerOf(app); owner != "" && owner != o.Terms.Partner {
				p.report(o, fmt.Sprintf("rules[%d]", i), fmt.Sprintf("shares the sales of app %s, which is %s's and not %s's", app, owner, o.Terms.Partner),
					"put the rule into a contract with "+string(owner))
			}
		}
	}
}

// checkProcessor refuses a processor that the marketplace does not list.
func (p *planner) checkProcessor(o Object) {
	if o.Terms == nil || o.Terms.Processor == "" || o.Terms.Processor == pricing.DefaultProcessor {
		return
	}
	m := p.marketplace()
	if m == nil || len(m.Processors) == 0 {
		return
	}
	if _, ok := m.Processors[o.Terms.Processor]; !ok {
		names := slices.Sorted(maps.Keys(m.Processors))
		p.report(o, "processor", fmt.Sprintf("the marketplace has no processor called %s", o.Terms.Processor), didYouMean(o.Terms.Processor, names))
	}
}

// ownerOf is the partner of an app as described now, or as kept last.
func (p *planner) ownerOf(id partner.AppID) partner.ID {
	var app partner.App
	if content := p.latest(KindApp, string(id)); content != nil && json.Unmarshal(content, &app) == nil {
		return app.Partner
	}
	return ""
}

// latest is an object's content as described, or else as kept last, nil for none.
func (p *planner) latest(k Kind, id string) json.RawMessage {
	for _, o := range slices.Backward(p.docs.Objects) {
		if o.Kind == k && o.ID == id {
			return o.Content
		}
	}
	if kept := p.kept[objectKey{k, id}]; len(kept) > 0 {
		return kept[len(kept)-1].Content
	}
	return nil
}

func (p *planner) marketplace() *Marketplace {
	for _, id := range p.ids(KindMarketplace) {
		var m Marketplace
		if json.Unmarshal(p.latest(KindMarketplace, id), &m) == nil {
			return &m
		}
	}
	return nil
}

// zone is the marketplace's, UTC while there is none.
func (p *planner) zone() *time.Location {
	if m := p.marketplace(); m != nil {
		if z, err := time.LoadLocation(m.ZoneName); err == nil {
			return z
		}
	}
	return time.UTC
}

// checkOneMarketplace refuses a second marketplace: its books would mix.
func (p *planner) checkOneMarketplace(objects []Object) {
	var first string
	for key := range p.kept {
		if key.kind == KindMarketplace {
			first = key.id
		}
	}
	for _, o := range objects {
		if o.Kind != KindMarketplace {
			continue
		}
		if first == "" {
			first = o.ID
		}
		if o.ID != first {
			p.report(o, string(KindMarketplace), fmt.Sprintf("there is a marketplace already, %s", first), "keep its ID, or run another entity on a store of its own")
		}
	}
}

// claim is one share rule over one span of days.
type claim struct {
	contract    string
	rule        string
	number      int // 0: planned
	terms       *pricing.Terms
	level       pricing.Level
	of          string
	class       metering.Class
	apps        []partner.AppID
	from, until period.Date
	object      *Object // of a document; nil: kept
}

// checkShares reports two contracts of one partner that share the same sales: same
// apps, class, currency, kind of sale and days, and equally specific: both for the same
// deal, for the same customer, for apps they name, or for all.
func (p *planner) checkShares() {
	claims := p.claims()
	for i, a := range claims {
		for _, b := range claims[:i] {
			if a.contract == b.contract || a.object == nil && b.object == nil || !a.overlaps(b) {
				continue
			}
			if a.object == nil {
				a, b = b, a
			}
			what := "all its apps"
			if app := a.common(b); app != "" {
				what = "app " + string(app)
			}
			switch a.level {
			case pricing.ForDeal:
				what += " in deal " + a.terms.Deal
			case pricing.ForCustomer:
				what += " to customer " + string(a.terms.Customer)
			}
			class := string(cmp.Or(a.class, b.class))
			if class == "" {
				class = "every class"
			} else {
				class = "class " + class
			}
			p.report(*a.object, "rules", fmt.Sprintf("contracts %s (rule %s) and %s (rule %s) of %s both share the sales of %s, %s, from %s on",
				a.contract, a.rule, b.contract, b.rule, a.terms.Partner, what, class, later(a.from, b.from)),
				"one sale has one share rule: name other apps or classes, end one contract before the other begins, or make one for a deal or a customer")
		}
	}
}

func later(a, b period.Date) period.Date {
	if a.Before(b) {
		return b
	}
	return a
}

// claims are the share rules of every contract, live or described.
func (p *planner) claims() []claim {
	type version struct {
		number      int
		from, until period.Date
		terms       *pricing.Terms
		object      *Object
	}
	all := map[string][]version{}
	for key, kept := range p.kept {
		if key.kind != KindContract {
			continue
		}
		for _, v := range kept {
			if !v.live() {
				continue
			}
			o, err := reread(v)
			if err != nil || o.Terms == nil {
				p.problems.add(Problem{Field: string(KindContract), Problem: fmt.Sprintf("%s cannot be read: %v", v.Ref, err)})
				continue
			}
			all[v.ID] = append(all[v.ID], version{v.Number, v.From, v.Until, o.Terms, nil})
		}
	}
	for _, ch := range append(slices.Clone(p.changes.Added), p.changes.Changed...) {
		if ch.object.Terms != nil {
			o := ch.object
			all[ch.ID] = append(all[ch.ID], version{ch.Number, ch.From, ch.Until, o.Terms, &o})
		}
	}
	var claims []claim
	for _, id := range slices.Sorted(maps.Keys(all)) {
		vs := all[id]
		slices.SortFunc(vs, func(a, b version) int { return cmp.Or(a.from.Compare(b.from), cmp.Compare(a.number, b.number)) })
		for i, v := range vs {
			until := v.until
			if i+1 < len(vs) && (until.IsZero() || vs[i+1].from.Before(until)) {
				until = vs[i+1].from
			}
			if v.from == until {
				continue
			}
			for _, r := range v.terms.Rules {
				if !r.Shares() {
					continue
				}
				apps := r.Apps
				if len(apps) == 0 {
					apps = v.terms.Apps
				}
				claims = append(claims, claim{id, r.ID, v.number, v.terms, v.terms.LevelOf(&r), shareOf(r), r.Class, apps, v.from, until, v.object})
			}
		}
	}
	return claims
}

// shareOf is the type of sale that a share rule divides.
func shareOf(r pricing.Rule) string {
	if b, ok := r.Body.(*pricing.Share); ok {
		return b.Of
	}
	return ""
}

func (a claim) overlaps(b claim) bool {
	if a.terms.Partner != b.terms.Partner || a.level != b.level || a.terms.Deal != b.terms.Deal || a.terms.Customer != b.terms.Customer || !a.sameMoney(b) {
		return false
	}
	if a.of != "" && b.of != "" && a.of != b.of || a.class != "" && b.class != "" && a.class != b.class {
		return false
	}
	if !a.until.IsZero() && !b.from.Before(a.until) || !b.until.IsZero() && !a.from.Before(b.until) {
		return false
	}
	return len(a.apps) == 0 || len(b.apps) == 0 || a.common(b) != ""
}

// sameMoney reports whether sales in one currency could be of both: in the currency of
// both, or in one that both convert. A contract in the sale's own currency goes before
// one that converts it.
func (a claim) sameMoney(b claim) bool {
	if a.terms.Currency == b.terms.Currency {
		return true
	}
	x, y := a.terms.FX, b.terms.FX
	switch {
	case x == nil || y == nil:
		return false
	case len(x.Convert) > 0:
		return slices.ContainsFunc(x.Convert, func(c money.Currency) bool { return c != b.terms.Currency && b.terms.Converts(c) })
	case len(y.Convert) > 0:
		return slices.ContainsFunc(y.Convert, func(c money.Currency) bool { return c != a.terms.Currency })
	}
	return true
}

// common is an app that both name.
func (a claim) common(b claim) partner.AppID {
	for _, app := range a.apps {
		if slices.Contains(b.apps, app) {
			return app
		}
	}
	return ""
}

// Apply records what Plan found, as versions by the author at the instant. It fails
// with [ErrConflict] if the catalogue was changed since the plan; repeated after an
// unknown outcome it changes nothing. It returns the recorded versions.
func (c Catalogue) Apply(ctx context.Context, ch Changes, author Person, at time.Time) ([]Version, error) {
	if author.Name == "" {
		return nil, errors.New("apply: no author is named; say who proposes the change")
	}
	if at.IsZero() {
		return nil, errors.New("apply: no time is given")
	}
	var vs []Version
	for _, one := range slices.Concat(ch.Added, ch.Changed) {
		o := one.object
		v := Version{Ref: Ref{o.Kind, o.ID, one.Number, o.digest()}, From: one.From, Until: one.Until, Corrects: o.Corrects,
			RecordedAt: at.UTC().Truncate(time.Microsecond), Author: author, File: o.File, Content: o.Content, Document: o.Document}
		if one.Today {
			v.From = period.DateOf(at, ch.zone)
		}
		vs = append(vs, v)
	}
	if len(vs) == 0 {
		return nil, nil
	}
	if err := c.Store.RecordVersions(ctx, ch.base, vs); err != nil {
		return nil, fmt.Errorf("apply %d changes: %w", len(vs), err)
	}
	setStates(vs, nil)
	return vs, nil
}

// diff is what differs between two canonical contents, in order of field.
func diff(old, new json.RawMessage) []FieldChange {
	was, is := flatten(old), flatten(new)
	var fields []FieldChange
	names := maps.Clone(was)
	maps.Copy(names, is)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if was[name] != is[name] {
			fields = append(fields, FieldChange{name, was[name], is[name]})
		}
	}
	return fields
}

// flatten names every value in the content by its path. Entries of lists are named by
// their id, by the date and currencies of a rate, or by their place.
func flatten(content json.RawMessage) map[string]string {
	d := json.NewDecoder(bytes.NewReader(content))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil
	}
	out := map[string]string{}
	flattenInto(out, "", v)
	return out
}

func flattenInto(out map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			flattenInto(out, join(path, k), e)
		}
	case []any:
		if text, ok := simple(v); ok {
			out[path] = text
			return
		}
		for i, e := range v {
			flattenInto(out, fmt.Sprintf("%s[%s]", path, label(e, i)), e)
		}
	case nil:
	default:
		out[path] = fmt.Sprint(v)
	}
}

// simple is a list of single values as text.
func simple(list []any) (string, bool) {
	words := make([]string, len(list))
	for i, e := range list {
		switch e.(type) {
		case map[string]any, []any:
			return "", false
		}
		words[i] = fmt.Sprint(e)
	}
	return strings.Join(words, ", "), true
}

func label(e any, i int) string {
	m, _ := e.(map[string]any)
	if id, ok := m["id"].(string); ok {
		return id
	}
	if on, ok := m["date"].(string); ok {
		return fmt.Sprintf("%s %v to %v", on, m["from"], m["to"])
	}
	return fmt.Sprint(i)
}

// maxShown bounds the fields of one change that the text shows.
const maxShown = 50

// String is the changes for people, as a dry run prints them.
func (ch Changes) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d added, %d changed, %d unchanged\n", len(ch.Added), len(ch.Changed), len(ch.Unchanged))
	for _, one := range ch.Added {
		one.print(&b, "+")
	}
	for _, one := range ch.Changed {
		one.print(&b, "~")
	}
	return b.String()
}

func (c Change) print(b *strings.Builder, sign string) {
	fmt.Fprintf(b, "\n%s %s %s", sign, c.Kind.words(), c.ID)
	switch {
	case kindOf(c.Kind).dated:
		fmt.Fprintf(b, ", version %d", c.Number)
	case c.Today:
		fmt.Fprintf(b, ", version %d, from the day it is recorded", c.Number)
	default:
		fmt.Fprintf(b, ", version %d, %s", c.Number, span(c.From, c.Until))
	}
	fmt.Fprintf(b, "   (%s:%d)\n", c.File, c.Line)
	for i, f := range c.Fields {
		if i == maxShown {
			fmt.Fprintf(b, "    … and %d more fields\n", len(c.Fields)-i)
			break
		}
		fmt.Fprintf(b, "    %s: %s → %s\n", f.Field, cmp.Or(f.Old, "(none)"), cmp.Or(f.New, "(none)"))
	}
	for _, n := range c.Notes {
		fmt.Fprintf(b, "  ! %s\n", n)
	}
}
