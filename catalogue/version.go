// Package catalogue keeps what a marketplace has agreed and declared: its partners,
// apps, customers, meters and sources, exchange rates and holidays, and the contracts,
// each as a line of immutable versions.
//
// People write YAML documents. [Catalogue.Plan] says what they would change and what
// is wrong with them, [Catalogue.Apply] records it, [Catalogue.Approve] and
// [Catalogue.Accept] bring a contract into force, [Catalogue.Notify] records that the
// partner was told of it, and a [Snapshot] is what was in force, for pricing. A snapshot
// names its versions, and the same names give the same snapshot for ever.
//
// An approval is screened by package compliance and keeps what was found.
//
// It refuses to know usage, prices, balances, who has which role (it only knows that
// nobody approves alone, and takes a role as it is said), and anything about patients.
// It never asks for the current time. Read [Version] and [Store] first, then [Catalogue.Plan].
package catalogue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"mete/compliance"
	"mete/period"
)

// Ref names one version of one object, and by its digest what the version says.
type Ref struct {
	Kind   Kind   `json:"kind"`
	ID     string `json:"id"`
	Number int    `json:"version"`
	Digest string `json:"digest"`
}

func (r Ref) String() string { return fmt.Sprintf("%s %s version %d", r.Kind.words(), r.ID, r.Number) }

// Version is one state of one object. It is never changed; a change is another
// version. Of two versions the one that begins later counts from its beginning; of
// two that begin on the same day, the one with the higher number.
type Version struct {
	Ref
	From       period.Date     `json:"effective_from,omitzero"` // zero: from the beginning
	Until      period.Date     `json:"until,omitzero"`          // contracts, exclusive; zero: open
	Corrects   int             `json:"corrects,omitempty"`      // the version that was wrong
	RecordedAt time.Time       `json:"recorded_at"`
	Author     Person          `json:"author"`
	File       string          `json:"file"`
	Content    json.RawMessage `json:"content"`  // canonical; what the digest covers
	Document   string          `json:"document"` // YAML as written

	State     State      `json:"state,omitempty"`     // set by Catalogue, never stored
	Decisions []Decision `json:"decisions,omitempty"` // set by Catalogue, stored apart
	Overrides []Override `json:"overrides,omitempty"` // set by Catalogue, stored apart

	Notifications []Notification `json:"notifications,omitempty"` // set by Catalogue, stored apart
}

// Person is who did something, and whether the name was proven or merely said.
type Person struct {
	Name            string `json:"name"`
	Unauthenticated bool   `json:"unauthenticated,omitempty"`
}

func (p Person) String() string {
	if p.Unauthenticated {
		return p.Name + " (unauthenticated)"
	}
	return p.Name
}

// State is how far a version has come.
type State string

// The states. What is no contract is recorded and thereby in force from its date. A
// contract is in force from its date when it is accepted.
const (
	Recorded   State = "recorded"
	Proposed   State = "proposed"
	Approved   State = "approved"   // by as many persons as it needs, none of them its author
	Accepted   State = "accepted"   // by the partner: in force from its date
	Rejected   State = "rejected"   // by a person, before it was in force
	Superseded State = "superseded" // by a later proposal for the same day, before it was in force
)

// Verdict is what a decision says.
type Verdict string

// The verdicts.
const (
	Approve Verdict = "approved"
	Accept  Verdict = "accepted"
	Reject  Verdict = "rejected"
)

// Decision is one person's word on one version of a contract. It is bound to what the
// version says by the digest in Ref.
type Decision struct {
	Ref
	Verdict    Verdict   `json:"verdict"`
	By         Person    `json:"by"`                   // Accept: the person at the partner
	At         time.Time `json:"at"`                   // Accept: when the partner accepted
	RecordedBy Person    `json:"recorded_by,omitzero"` // Accept: who wrote it down, if another
	RecordedAt time.Time `json:"recorded_at"`
	Text       string    `json:"text,omitempty"`  // evidence of an acceptance, reason of a rejection
	Document   string    `json:"document_sha256"` // of the YAML as written, which the person saw

	Screen *compliance.Result `json:"screen,omitempty"` // Approve: what the compliance screen found then
}

// Override is the word of a person in the role legal that a blocking finding of the
// compliance screen shall not keep a version from being approved, by somebody else.
type Override struct {
	Ref
	Finding string    `json:"finding"` // its ID
	By      Person    `json:"by"`
	Role    string    `json:"role"` // legal
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// RoleLegal is the role that decides on the terms of contracts.
const RoleLegal = "legal"

// Query chooses versions and decisions. Zero fields choose all.
type Query struct {
	Kind Kind
	ID   string
	UpTo time.Time // recorded at this instant or before
}

// Store keeps versions, decisions and notifications, in one order, for ever. Implementations pass the
// tests of package store.
type Store interface {
	// CatalogueHead counts the steps taken so far; each RecordVersions, RecordDecision,
	// RecordOverride and RecordNotification is one step.
	CatalogueHead(ctx context.Context) (int64, error)

	// RecordVersions keeps the versions in one step, all or none, if the head still is
	// base. If it is not, but exactly these versions are kept already, it changes
	// nothing and returns nil; else it fails with ErrConflict.
	RecordVersions(ctx context.Context, base int64, vs []Version) error

	// RecordDecision keeps a decision in one step if the head still is base, else fails
	// with ErrConflict. The same person's same verdict on the same version again
	// changes nothing and returns nil.
	RecordDecision(ctx context.Context, base int64, d Decision) error

	// RecordOverride keeps an override in one step if the head still is base, else fails
	// with ErrConflict. The same person's on the same finding of the same version again
	// changes nothing and returns nil.
	RecordOverride(ctx context.Context, base int64, o Override) error

	// Overrides are those the query chooses, in the order they were recorded.
	Overrides(ctx context.Context, q Query) ([]Override, error)

	// RecordNotification keeps a notification in one step if the head still is base, else
	// fails with ErrConflict. One that says the same as a kept one, but for RecordedAt and
	// By.Unauthenticated, changes nothing and returns nil.
	RecordNotification(ctx context.Context, base int64, n Notification) error

	// Notifications are those the query chooses, in the order they were recorded.
	Notifications(ctx context.Context, q Query) ([]Notification, error)

	// Versions are those the query chooses, in the order they were recorded, without
	// State and Decisions.
	Versions(ctx context.Context, q Query) ([]Version, error)

	// Decisions are those the query chooses, in the order they were recorded.
	Decisions(ctx context.Context, q Query) ([]Decision, error)

	// LoadVersions is exactly the named versions, in the order of refs. It fails with
	// ErrUnknown if one is not kept. It does not compare digests.
	LoadVersions(ctx context.Context, refs []Ref) ([]Version, error)
}

// ErrConflict says that somebody else changed the catalogue in between.
var ErrConflict = errors.New("the catalogue was changed in between; look at it again and repeat")

// ErrUnknown says that there is no such version.
var ErrUnknown = errors.New("no such version in the catalogue")

// ErrAltered says that a kept version no longer says what its digest covers.
var ErrAltered = errors.New("does not match its digest: it was altered after it was recorded")

// Catalogue reads and changes what a Store keeps.
type Catalogue struct {
	Store Store
}

// history reads the chosen versions with their states, in the order recorded, and the
// head they are at least as new as.
func (c Catalogue) history(ctx context.Context, q Query) ([]Version, int64, error) {
	head, err := c.Store.CatalogueHead(ctx)
	if err != nil {
		return nil, 0, err
	}
	vs, err := c.Store.Versions(ctx, q)
	if err != nil {
		return nil, 0, err
	}
	ds, err := c.Store.Decisions(ctx, q)
	if err != nil {
		return nil, 0, err
	}
	os, err := c.Store.Overrides(ctx, q)
	if err != nil {
		return nil, 0, err
	}
	setStates(vs, ds)
	for _, o := range os {
		if i := slices.IndexFunc(vs, func(v Version) bool { return v.Ref == o.Ref }); i >= 0 {
			vs[i].Overrides = append(vs[i].Overrides, o)
		}
	}
	ns, err := c.Store.Notifications(ctx, q)
	if err != nil {
		return nil, 0, err
	}
	for _, n := range ns {
		if i := slices.IndexFunc(vs, func(v Version) bool { return v.Ref == n.Ref }); i >= 0 {
			vs[i].Notifications = append(vs[i].Notifications, n)
		}
	}
	return vs, head, nil
}

// History is every version of one object, oldest first, with its state and decisions.
func (c Catalogue) History(ctx context.Context, k Kind, id string) ([]Version, error) {
	vs, _, err := c.history(ctx, Query{Kind: k, ID: id})
	if err != nil {
		return nil, fmt.Errorf("history of %s %s: %w", k.words(), id, err)
	}
	if len(vs) == 0 {
		return nil, fmt.Errorf("history of %s %s: %w", k.words(), id, ErrUnknown)
	}
	return vs, nil
}

// Open is every version of a contract that waits for a decision, oldest first.
func (c Catalogue) Open(ctx context.Context) ([]Version, error) {
	vs, _, err := c.history(ctx, Query{Kind: KindContract})
	if err != nil {
		return nil, fmt.Errorf("open proposals: %w", err)
	}
	return slices.DeleteFunc(vs, func(v Version) bool { return v.State != Proposed && v.State != Approved }), nil
}

// setStates gives every version its decisions and the state that follows from them.
// Versions of an object come in the order of their numbers.
func setStates(vs []Version, ds []Decision) {
	made := map[Ref][]Decision{}
	for _, d := range ds {
		made[d.Ref] = append(made[d.Ref], d)
	}
	type day struct {
		id       string
		from     period.Date
		corrects int
	}
	last := map[day]*Version{}
	for i := range vs {
		v := &vs[i]
		v.Decisions = made[v.Ref]
		v.State = stateOf(*v)
		if v.Kind != KindContract {
			continue
		}
		at := day{v.ID, v.From, v.Corrects}
		if was := last[at]; was != nil && (was.State == Proposed || was.State == Approved) {
			was.State = Superseded
		}
		last[at] = v
	}
}

func stateOf(v Version) State {
	if v.Kind != KindContract {
		return Recorded
	}
	approvals := 0
	for _, d := range v.Decisions {
		switch {
		case d.Verdict == Reject:
			return Rejected
		case d.Verdict == Accept && approvals >= v.approvalsNeeded():
			return Accepted
		case d.Verdict == Approve:
			approvals++
		}
	}
	if approvals >= v.approvalsNeeded() {
		return Approved
	}
	return Proposed
}

// approvalsNeeded is one, and two for terms that reach back.
func (v Version) approvalsNeeded() int {
	if v.Corrects > 0 {
		return 2
	}
	return 1
}

// live reports whether the version is in force or may still come into force.
func (v Version) live() bool { return v.State != Rejected && v.State != Superseded }

// inForce reports whether the version counts from its date on.
func (v Version) inForce() bool { return v.State == Recorded || v.State == Accepted }

// byStart orders versions by the day they begin, then by number.
func byStart(a, b Version) int {
	return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.Number, b.Number))
}
