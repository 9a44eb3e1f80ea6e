package catalogue

import (
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
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Snapshot is the catalogue as it was in force: everything a month is priced and
// stated from. It is a value; nothing in it is looked up later. Maps must not be
// changed.
type Snapshot struct {
	Marketplace Marketplace
	Partners    map[partner.ID]partner.Partner
	Apps        map[partner.AppID]partner.App
	Customers   map[partner.CustomerID]partner.Customer
	Meters      map[string]metering.Meter
	Sources     map[string]Source
	Codes       map[string]partner.ReferralCode
	FX          map[string]FXTable
	Calendars   map[string]period.Calendar

	contracts map[string][]agreed // by contract, in order of beginning; one per day
	refs      []Ref
}

// agreed is a version of a contract that is in force from its date.
type agreed struct {
	ref      Ref
	terms    *pricing.Terms
	parties  []partner.ID // other partners its rules name
	corrects int          // the version that was wrong; 0: none
	by       string       // who accepted it at the partner
	at       time.Time    // and when
}

// VersionInForce is the span of a month in which one version of a contract counts.
type VersionInForce struct {
	Ref    Ref            `json:"ref"`
	Terms  *pricing.Terms `json:"terms"`
	Period period.Period  `json:"period"`

	AcceptedBy string    `json:"accepted_by"` // the person at the partner
	AcceptedAt time.Time `json:"accepted_at"`
}

// ErrNoMarketplace says that no document describes the marketplace yet.
var ErrNoMarketplace = errors.New("the catalogue has no marketplace; apply a document that begins with marketplace")

// At is the catalogue in force on the day, as recorded up to and including the
// instant; the zero time is all that is recorded. Of each object that is no contract
// it holds the version of that day; of contracts every accepted version, so that
// months before and after can be asked for.
//
// The zero date is the last version of everything, whenever it begins.
func (c Catalogue) At(ctx context.Context, on period.Date, recordedUpTo time.Time) (*Snapshot, error) {
	vs, _, err := c.history(ctx, Query{UpTo: recordedUpTo})
	if err != nil {
		return nil, fmt.Errorf("catalogue on %s: %w", on, err)
	}
	s, err := snapshotOf(chosen(vs, on))
	if err != nil {
		return nil, fmt.Errorf("catalogue on %s: %w", on, err)
	}
	return s, nil
}

// Current is the catalogue as it is recorded now, with the last version of everything,
// even if it begins later. It serves intake and lists; a close asks [Catalogue.At] for
// its month's last day.
func (c Catalogue) Current(ctx context.Context) (*Snapshot, error) {
	return c.At(ctx, period.Date{}, time.Time{})
}

// FromRefs is the catalogue of exactly these versions, as a manifest names them. It
// fails with [ErrUnknown] if one is gone and with [ErrAltered] if one says something
// else than when it was named.
func (c Catalogue) FromRefs(ctx context.Context, refs []Ref) (*Snapshot, error) {
	vs, err := c.Store.LoadVersions(ctx, refs)
	if err != nil {
		return nil, fmt.Errorf("catalogue of %d versions: %w", len(refs), err)
	}
	for i, v := range vs {
		if v.Digest != refs[i].Digest {
			return nil, fmt.Errorf("%s has digest %.12s, was named with %.12s: %w", v.Ref, v.Digest, refs[i].Digest, ErrAltered)
		}
	}
	ds, err := c.Store.Decisions(ctx, Query{Kind: KindContract})
	if err != nil {
		return nil, fmt.Errorf("catalogue of %d versions: %w", len(refs), err)
	}
	made := map[Ref][]Decision{}
	for _, d := range ds {
		made[d.Ref] = append(made[d.Ref], d)
	}
	for i := range vs {
		vs[i].Decisions = made[vs[i].Ref]
	}
	s, err := snapshotOf(vs)
	if err != nil {
		return nil, fmt.Errorf("catalogue of %d versions: %w", len(refs), err)
	}
	return s, nil
}

// chosen are the versions in force on the day: of each object that is no contract the
// one, of each contract all that were accepted.
func chosen(vs []Version, on period.Date) []Version {
	best := map[objectKey]Version{}
	var out []Version
	for _, v := range vs {
		if v.Kind == KindContract {
			if v.inForce() {
				out = append(out, v)
			}
			continue
		}
		k := objectKey{v.Kind, v.ID}
		was, ok := best[k]
		if kindOf(v.Kind).dated || !ok {
			if ok || on.IsZero() || !on.Before(v.From) {
				best[k] = v
			}
			continue
		}
		if (on.IsZero() || !on.Before(v.From)) && byStart(was, v) < 0 {
			best[k] = v
		}
	}
	return append(out, slices.Collect(maps.Values(best))...)
}

// snapshotOf checks the versions against their digests and decodes them.
func snapshotOf(vs []Version) (*Snapshot, error) {
	s := &Snapshot{
		Partners: map[partner.ID]partner.Partner{}, Apps: map[partner.AppID]partner.App{},
		Customers: map[partner.CustomerID]partner.Customer{}, Meters: map[string]metering.Meter{},
		Sources: map[string]Source{}, Codes: map[string]partner.ReferralCode{}, FX: map[string]FXTable{},
		Calendars: map[string]period.Calendar{}, contracts: map[string][]agreed{},
	}
	vs = slices.Clone(vs)
	slices.SortFunc(vs, func(a, b Version) int {
		return cmp.Or(cmp.Compare(rank(a.Kind), rank(b.Kind)), strings.Compare(a.ID, b.ID), byStart(a, b))
	})
	for _, v := range vs {
		if digest(v.Kind, v.ID, v.Content) != v.Digest {
			return nil, fmt.Errorf("%s: %w", v.Ref, ErrAltered)
		}
		if err := s.add(v); err != nil {
			return nil, fmt.Errorf("%s: %w", v.Ref, err)
		}
		s.refs = append(s.refs, v.Ref)
	}
	if s.Marketplace.Entity == "" {
		return nil, ErrNoMarketplace
	}
	return s, nil
}

func (s *Snapshot) add(v Version) error {
	switch v.Kind {
	case KindMarketplace:
		if s.Marketplace.Entity != "" {
			return fmt.Errorf("a second marketplace beside %s", s.Marketplace.Entity)
		}
		if err := json.Unmarshal(v.Content, &s.Marketplace); err != nil {
			return err
		}
		zone, err := time.LoadLocation(s.Marketplace.ZoneName)
		s.Marketplace.Zone = zone
		return err
	case KindPartner:
		return put(s.Partners, partner.ID(v.ID), v)
	case KindApp:
		return put(s.Apps, partner.AppID(v.ID), v)
	case KindCustomer:
		return put(s.Customers, partner.CustomerID(v.ID), v)
	case KindMeter:
		return put(s.Meters, v.ID, v)
	case KindSource:
		return put(s.Sources, v.ID, v)
	case KindReferralCode:
		return put(s.Codes, v.ID, v)
	case KindFX:
		return put(s.FX, v.ID, v)
	case KindHolidays:
		var h Holidays
		err := json.Unmarshal(v.Content, &h)
		s.Calendars[v.ID] = period.Calendar{Holidays: h.Days}
		return err
	case KindContract:
		return s.addContract(v)
	}
	return fmt.Errorf("no kind is called %q", v.Kind)
}

func put[K comparable, V any](m map[K]V, k K, v Version) error {
	var x V
	err := json.Unmarshal(v.Content, &x)
	m[k] = x
	return err
}

// addContract decodes terms from the document as written, which must still say what
// the digest covers. Of two versions that begin on one day the later number counts.
func (s *Snapshot) addContract(v Version) error {
	o, err := reread(v)
	if err != nil {
		return err
	}
	if o.digest() != v.Digest {
		return fmt.Errorf("its document: %w", ErrAltered)
	}
	a := agreed{ref: v.Ref, terms: o.Terms, parties: parties(o.Terms), corrects: v.Corrects}
	for _, d := range v.Decisions {
		if d.Verdict == Accept {
			a.by, a.at = d.By.Name, d.At
		}
	}
	list := s.contracts[v.ID]
	if n := len(list); n > 0 && list[n-1].terms.From == a.terms.From {
		list[n-1] = a
		return nil
	}
	s.contracts[v.ID] = append(list, a)
	return nil
}

// Refs name the snapshot's versions, for a manifest: [Catalogue.FromRefs] gives the
// same snapshot back.
func (s *Snapshot) Refs() []Ref { return slices.Clone(s.refs) }

// Digest is one digest over all of [Snapshot.Refs].
func (s *Snapshot) Digest() string { return digest("snapshot", s.Marketplace.Entity, encode(s.refs)) }

// Contracts are the names of all contracts with accepted terms, in order.
func (s *Snapshot) Contracts() []string { return slices.Sorted(maps.Keys(s.contracts)) }

// ContractsIn are the spans of the month in which versions of contracts are in force,
// in order of contract and beginning. A month begins and ends in the zone of the
// version that is in force; a version ends where the next one begins, or on its own
// last day if that is earlier.
func (s *Snapshot) ContractsIn(m period.Month) []VersionInForce {
	var out []VersionInForce
	for _, id := range s.Contracts() {
		list := s.contracts[id]
		for i, a := range list {
			t := a.terms
			p := t.InForce(m)
			if i+1 < len(list) {
				next := list[i+1].terms
				if start := next.From.In(next.Zone); start.Before(p.End) {
					p.End = start
				}
			}
			if !p.IsEmpty() {
				out = append(out, VersionInForce{a.ref, t, p, a.by, a.at})
			}
		}
	}
	return out
}

// ScopeGroup is contracts that are priced together: those of one partner, of partners
// of one account group, and of partners whom a rule names.
type ScopeGroup struct {
	ID        string           `json:"id"` // the first contract's
	Partners  []partner.ID     `json:"partners"`
	Contracts []VersionInForce `json:"contracts"` // in order of contract and beginning
}

// Groups are the month's contracts by scope group, in order of ID. Every contract in
// force in the month is in exactly one.
func (s *Snapshot) Groups(m period.Month) []ScopeGroup {
	spans := s.ContractsIn(m)
	root := map[string]string{} // a node's parent: contracts "c:", partners "p:", account groups "g:"
	var find func(string) string
	find = func(n string) string {
		up, ok := root[n]
		if !ok || up == n {
			root[n] = n
			return n
		}
		root[n] = find(up)
		return root[n]
	}
	unite := func(a, b string) { root[find(a)] = find(b) }
	for _, v := range spans {
		unite("c:"+v.Ref.ID, "p:"+string(v.Terms.Partner))
		for _, p := range s.partiesOf(v.Ref) {
			unite("c:"+v.Ref.ID, "p:"+string(p))
		}
	}
	for id, p := range s.Partners {
		if p.AccountGroup != "" {
			unite("p:"+string(id), "g:"+p.AccountGroup)
		}
	}
	at := map[string]int{}
	var groups []ScopeGroup
	for _, v := range spans {
		r := find("c:" + v.Ref.ID)
		i, ok := at[r]
		if !ok {
			i, at[r] = len(groups), len(groups)
			groups = append(groups, ScopeGroup{ID: v.Ref.ID})
		}
		g := &groups[i]
		g.Contracts = append(g.Contracts, v)
		for _, p := range append([]partner.ID{v.Terms.Partner}, s.partiesOf(v.Ref)...) {
			if !slices.Contains(g.Partners, p) {
				g.Partners = append(g.Partners, p)
			}
		}
	}
	for i := range groups {
		slices.Sort(groups[i].Partners)
	}
	return groups
}

func (s *Snapshot) partiesOf(r Ref) []partner.ID {
	for _, a := range s.contracts[r.ID] {
		if a.ref == r {
			return a.parties
		}
	}
	return nil
}

// With is the snapshot as if the contracts of the objects had been agreed as they are
// there, whatever was agreed for their time and later. The snapshot itself stays as it
// is.
func (s *Snapshot) With(objects ...Object) (*Snapshot, error) {
	with := *s
	with.contracts, with.refs = maps.Clone(s.contracts), slices.Clone(s.refs)
	for _, o := range objects {
		if o.Kind != KindContract {
			return nil, fmt.Errorf("%s %s: only contracts can be tried, apply the rest first", o.Kind, o.ID)
		}
		terms := *o.Terms
		var list []agreed
		for _, a := range s.contracts[o.ID] {
			terms.Version = max(terms.Version, a.ref.Number+1)
			if a.terms.From.Before(terms.From) {
				list = append(list, a)
			}
		}
		terms.Version = max(terms.Version, 1)
		ref := Ref{Kind: KindContract, ID: o.ID, Number: terms.Version, Digest: o.digest()}
		with.contracts[o.ID] = append(list, agreed{ref: ref, terms: &terms, parties: parties(o.Terms)})
		with.refs = append(with.refs, ref)
	}
	return &with, nil
}

// AppsOf are the apps that terms are about: those they name, or else all apps of the
// partner, in order.
func (s *Snapshot) AppsOf(t *pricing.Terms) []partner.AppID {
	if len(t.Apps) > 0 {
		return slices.Clone(t.Apps)
	}
	var apps []partner.AppID
	for id, a := range s.Apps {
		if a.Partner == t.Partner {
			apps = append(apps, id)
		}
	}
	slices.Sort(apps)
	return apps
}

// MeterList is the meters in order of ID.
func (s *Snapshot) MeterList() []metering.Meter { return inOrder(s.Meters) }

// CodeList is the referral codes in order.
func (s *Snapshot) CodeList() []partner.ReferralCode { return inOrder(s.Codes) }

// AppList is the apps in order of ID.
func (s *Snapshot) AppList() []partner.App { return inOrder(s.Apps) }

// PartnerList is the partners in order of ID.
func (s *Snapshot) PartnerList() []partner.Partner { return inOrder(s.Partners) }

// SourceList is the sources in order of name.
func (s *Snapshot) SourceList() []Source { return inOrder(s.Sources) }

func inOrder[K cmp.Ordered, V any](m map[K]V) []V {
	out := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

// Directory is what metering must know to take events in.
func (s *Snapshot) Directory() *metering.Directory {
	var sources []metering.Source
	for _, src := range s.SourceList() {
		sources = append(sources, src.Source)
	}
	return metering.NewDirectory(s.AppList(), s.MeterList(), sources)
}
