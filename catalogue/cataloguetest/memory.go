// Package cataloguetest holds the promises of [catalogue.Store] as a test, and a store
// in memory for tests of what stands above it. It refuses to know an engine. Read
// [TestStore] first.
package cataloguetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"mete/catalogue"
)

// Memory is a catalogue.Store that forgets when the process ends. Its zero value is
// empty and ready.
type Memory struct {
	mu        sync.Mutex
	head      int64
	versions  []catalogue.Version
	decisions []catalogue.Decision
	overrides []catalogue.Override
	notified  []catalogue.Notification
}

var _ catalogue.Store = (*Memory)(nil)

// CatalogueHead implements [catalogue.Store].
func (m *Memory) CatalogueHead(context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head, nil
}

// RecordVersions implements [catalogue.Store].
func (m *Memory) RecordVersions(_ context.Context, base int64, vs []catalogue.Version) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if base != m.head {
		for _, v := range vs {
			if i := m.find(v.Ref); i < 0 || m.versions[i].Digest != v.Digest || m.versions[i].From != v.From {
				return catalogue.ErrConflict
			}
		}
		return nil
	}
	for _, v := range vs {
		if m.find(v.Ref) >= 0 {
			return fmt.Errorf("%s is kept already", v.Ref)
		}
	}
	vs = slices.Clone(vs)
	slices.SortFunc(vs, func(a, b catalogue.Version) int {
		if a.Kind == b.Kind && a.ID == b.ID {
			return a.Number - b.Number
		}
		return 0
	})
	for _, v := range vs {
		v.State, v.Decisions = "", nil
		m.versions = append(m.versions, v)
	}
	m.head++
	return nil
}

func (m *Memory) find(r catalogue.Ref) int {
	return slices.IndexFunc(m.versions, func(v catalogue.Version) bool {
		return v.Kind == r.Kind && v.ID == r.ID && v.Number == r.Number
	})
}

// RecordDecision implements [catalogue.Store].
func (m *Memory) RecordDecision(_ context.Context, base int64, d catalogue.Decision) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, made := range m.decisions {
		if made.Ref == d.Ref && made.Verdict == d.Verdict && made.By.Name == d.By.Name {
			return nil
		}
	}
	if base != m.head {
		return catalogue.ErrConflict
	}
	if i := m.find(d.Ref); i < 0 || m.versions[i].Digest != d.Digest {
		return fmt.Errorf("%s: %w", d.Ref, catalogue.ErrUnknown)
	}
	m.decisions = append(m.decisions, d)
	m.head++
	return nil
}

// RecordOverride implements [catalogue.Store].
func (m *Memory) RecordOverride(_ context.Context, base int64, o catalogue.Override) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, made := range m.overrides {
		if made.Ref == o.Ref && made.Finding == o.Finding && made.By.Name == o.By.Name {
			return nil
		}
	}
	if base != m.head {
		return catalogue.ErrConflict
	}
	if i := m.find(o.Ref); i < 0 || m.versions[i].Digest != o.Digest {
		return fmt.Errorf("%s: %w", o.Ref, catalogue.ErrUnknown)
	}
	m.overrides = append(m.overrides, o)
	m.head++
	return nil
}

// Overrides implements [catalogue.Store].
func (m *Memory) Overrides(_ context.Context, q catalogue.Query) ([]catalogue.Override, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []catalogue.Override
	for _, o := range m.overrides {
		if chosen(q, o.Ref, o.At) {
			out = append(out, o)
		}
	}
	return out, nil
}

// RecordNotification implements [catalogue.Store].
func (m *Memory) RecordNotification(_ context.Context, base int64, n catalogue.Notification) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, made := range m.notified {
		made.RecordedAt, made.By.Unauthenticated = n.RecordedAt, n.By.Unauthenticated
		if made == n {
			return nil
		}
	}
	if base != m.head {
		return catalogue.ErrConflict
	}
	if i := m.find(n.Ref); i < 0 || m.versions[i].Digest != n.Digest {
		return fmt.Errorf("%s: %w", n.Ref, catalogue.ErrUnknown)
	}
	m.notified = append(m.notified, n)
	m.head++
	return nil
}

// Notifications implements [catalogue.Store].
func (m *Memory) Notifications(_ context.Context, q catalogue.Query) ([]catalogue.Notification, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []catalogue.Notification
	for _, n := range m.notified {
		if chosen(q, n.Ref, n.RecordedAt) {
			out = append(out, n)
		}
	}
	return out, nil
}

func chosen(q catalogue.Query, r catalogue.Ref, at time.Time) bool {
	return (q.Kind == "" || q.Kind == r.Kind) && (q.ID == "" || q.ID == r.ID) && (q.UpTo.IsZero() || !at.After(q.UpTo))
}

// Versions implements [catalogue.Store].
func (m *Memory) Versions(_ context.Context, q catalogue.Query) ([]catalogue.Version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []catalogue.Version
	for _, v := range m.versions {
		if chosen(q, v.Ref, v.RecordedAt) {
			out = append(out, v)
		}
	}
	return out, nil
}

// Decisions implements [catalogue.Store].
func (m *Memory) Decisions(_ context.Context, q catalogue.Query) ([]catalogue.Decision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []catalogue.Decision
	for _, d := range m.decisions {
		if chosen(q, d.Ref, d.RecordedAt) {
			out = append(out, d)
		}
	}
	return out, nil
}

// LoadVersions implements [catalogue.Store].
func (m *Memory) LoadVersions(_ context.Context, refs []catalogue.Ref) ([]catalogue.Version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []catalogue.Version
	for _, r := range refs {
		i := m.find(r)
		if i < 0 {
			return nil, fmt.Errorf("%s: %w", r, catalogue.ErrUnknown)
		}
		out = append(out, m.versions[i])
	}
	return out, nil
}

// Alter changes a kept version behind the catalogue's back, for tests that it is
// noticed.
func (m *Memory) Alter(r catalogue.Ref, change func(*catalogue.Version)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.find(r); i >= 0 {
		change(&m.versions[i])
	}
}
