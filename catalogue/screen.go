package catalogue

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"mete/compliance"
	"mete/metering"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Screened is what the compliance screen found in one contract.
type Screened struct {
	Contract string `json:"contract"`
	Version  int    `json:"version,omitempty"` // 0: a document that is not recorded
	File     string `json:"file,omitempty"`    // of a document; its findings name lines of the file
	compliance.Result
}

// ScreenVersion screens a recorded version as it would be judged at the instant, or, if
// it was approved, as of the day of its approval.
func (c Catalogue) ScreenVersion(ctx context.Context, v Version, at time.Time) (Screened, error) {
	vs, _, err := c.history(ctx, Query{})
	if err != nil {
		return Screened{}, fmt.Errorf("screen %s: %w", v.Ref, err)
	}
	o, err := reread(v)
	if err != nil {
		return Screened{}, fmt.Errorf("screen %s: %w", v.Ref, err)
	}
	w, err := newScreening(vs, nil)
	if err != nil {
		return Screened{}, fmt.Errorf("screen %s: %w", v.Ref, err)
	}
	return Screened{Contract: v.ID, Version: v.Number, Result: w.screen(o, v.Number, judgedAt(v, at))}, nil
}

// ScreenDocuments screens every contract of the documents at the instant, beside each
// other and beside what is recorded. A document that says what a version says is that
// version.
func (c Catalogue) ScreenDocuments(ctx context.Context, docs Documents, at time.Time) ([]Screened, error) {
	vs, _, err := c.history(ctx, Query{})
	if err != nil {
		return nil, fmt.Errorf("screen %d documents: %w", len(docs.Objects), err)
	}
	return docs.screen(vs, at)
}

// Screen screens every contract of the documents at the instant, beside each other and
// nothing else.
func (d Documents) Screen(at time.Time) ([]Screened, error) { return d.screen(nil, at) }

func (d Documents) screen(vs []Version, at time.Time) ([]Screened, error) {
	w, err := newScreening(vs, d.Objects)
	if err != nil {
		return nil, fmt.Errorf("screen %d documents: %w", len(d.Objects), err)
	}
	out := []Screened{}
	for _, o := range d.Objects {
		if o.Terms == nil {
			continue
		}
		one := Screened{Contract: o.ID, File: o.File}
		when := at
		for _, v := range w.contracts[o.ID] {
			if v.live() && v.Digest == o.digest() {
				one.Version, when = v.Number, judgedAt(v.Version, at)
			}
		}
		one.Result = w.screen(o, one.Version, when)
		for i := range one.Findings {
			one.Findings[i].Line += o.start - 1
		}
		out = append(out, one)
	}
	return out, nil
}

// judgedAt is when a version was approved, or else the instant.
func judgedAt(v Version, at time.Time) time.Time {
	if v.State != Approved && v.State != Accepted {
		return at
	}
	for _, d := range v.Decisions {
		if d.Verdict == Approve {
			at = d.At
		}
	}
	return at
}

// screening is everything that contracts are screened beside.
type screening struct {
	facts     compliance.Facts
	market    Marketplace
	sources   map[string]Source
	codes     map[string]partner.ReferralCode
	contracts map[string][]readVersion // recorded ones that are live, in order of number
	described map[string][]*pricing.Terms
}

// readVersion is a version of a contract with its terms.
type readVersion struct {
	Version
	terms *pricing.Terms
	said  Object
}

// newScreening takes the last version of everything, and documents before versions.
func newScreening(vs []Version, docs []Object) (*screening, error) {
	w := &screening{contracts: map[string][]readVersion{}, described: map[string][]*pricing.Terms{},
		sources: map[string]Source{}, codes: map[string]partner.ReferralCode{}, facts: compliance.Facts{
			Partners: map[partner.ID]partner.Partner{}, Apps: map[partner.AppID]partner.App{},
			Customers: map[partner.CustomerID]partner.Customer{}, Meters: map[string]metering.Meter{},
		}}
	for _, v := range chosen(vs, period.Date{}) {
		if v.Kind != KindContract {
			if err := w.add(v.Kind, v.ID, v.Content); err != nil {
				return nil, fmt.Errorf("%s: %w", v.Ref, err)
			}
		}
	}
	for _, v := range vs {
		if v.Kind != KindContract || !v.live() {
			continue
		}
		o, err := reread(v)
		if err != nil {
			return nil, err
		}
		w.contracts[v.ID] = append(w.contracts[v.ID], readVersion{v, o.Terms, o})
	}
	for _, o := range docs {
		if o.Terms != nil {
			w.described[o.ID] = append(w.described[o.ID], o.Terms)
			continue
		}
		if err := w.add(o.Kind, o.ID, o.Content); err != nil {
			return nil, fmt.Errorf("%s %s: %w", o.Kind.words(), o.ID, err)
		}
	}
	return w, nil
}

func (w *screening) add(k Kind, id string, content json.RawMessage) error {
	v := Version{Ref: Ref{Kind: k, ID: id}, Content: content}
	switch k {
	case KindMarketplace:
		w.market = Marketplace{}
		err := json.Unmarshal(content, &w.market)
		w.facts.Settings = w.market.Settings
		return err
	case KindSource:
		return put(w.sources, id, v)
	case KindReferralCode:
		return put(w.codes, id, v)
	case KindPartner:
		return put(w.facts.Partners, partner.ID(id), v)
	case KindApp:
		return put(w.facts.Apps, partner.AppID(id), v)
	case KindCustomer:
		return put(w.facts.Customers, partner.CustomerID(id), v)
	case KindMeter:
		return put(w.facts.Meters, id, v)
	}
	return nil
}

// screen judges one contract. Number is that of its version, 0 for a document.
func (w *screening) screen(o Object, number int, at time.Time) compliance.Result {
	on := period.DateOf(at, o.Terms.Zone)
	c := compliance.Case{Facts: w.facts, On: on, Terms: o.Terms, Before: w.before(o, number, on)}
	day := later(on, o.Terms.From)
	for id := range w.contracts {
		if id != o.ID && w.described[id] == nil {
			if v := inForceOn(w.contracts[id], day); v != nil {
				c.Others = append(c.Others, v.terms)
			}
		}
	}
	for id, ts := range w.described {
		if id != o.ID {
			c.Others = append(c.Others, ts...)
		}
	}
	slices.SortFunc(c.Others, func(a, b *pricing.Terms) int { return strings.Compare(a.Contract, b.Contract) })
	return compliance.Screen(c)
}

// before is the accepted version of which these terms would change days before the day
// on: the one in force when they begin, or else the first that begins later.
func (w *screening) before(o Object, number int, on period.Date) *pricing.Terms {
	var best *readVersion
	for i := range w.contracts[o.ID] {
		v := &w.contracts[o.ID][i]
		if v.Number == number || !v.inForce() {
			continue
		}
		if !v.From.Before(on) || !v.Until.IsZero() && !o.Terms.From.Before(v.Until) {
			continue
		}
		begun := !o.Terms.From.Before(v.From)
		switch {
		case best == nil,
			begun && (o.Terms.From.Before(best.From) || byStart(best.Version, v.Version) < 0), // the last that has begun
			!begun && byStart(v.Version, best.Version) < 0 && o.Terms.From.Before(best.From):  // or else the first to begin
			best = v
		}
	}
	if best == nil {
		return nil
	}
	return best.terms
}

// inForceOn is the version that counts on the day, nil for none.
func inForceOn(vs []readVersion, day period.Date) *readVersion {
	var best *readVersion
	for i := range vs {
		v := &vs[i]
		if !v.inForce() || day.Before(v.From) || !v.Until.IsZero() && !day.Before(v.Until) {
			continue
		}
		if best == nil || byStart(best.Version, v.Version) < 0 {
			best = v
		}
	}
	return best
}

// CounselFor is a reference to counsel for one finding. Without the finding's ID it is
// for the only one that needs one.
type CounselFor struct {
	Finding string
	compliance.Reference
}

// clear says why what was found does not let a person approve the version, and what to
// do; "" if it does. It notes on each finding what cleared it.
func clear(v Version, by Person, res *compliance.Result, counsel []CounselFor) (why, how string) {
	if why, how := refer(v, by, res, counsel); why != "" {
		return why, how
	}
	for _, o := range v.Overrides {
		if f := res.Find(o.Finding); f != nil && f.Severity == compliance.Block && o.By.Name != by.Name && f.Override == nil {
			f.Override = &compliance.Override{Finding: f.ID, By: o.By.Name, Reason: o.Reason}
		}
	}
	var stops []string
	for _, f := range res.Of(compliance.Block) {
		if f.Override == nil {
			stops = append(stops, fmt.Sprintf("%s blocks it: %s (%s)", f.ID, f.What, strings.Join(f.Citation, ", ")))
		}
	}
	if len(stops) > 0 {
		how = "change the terms, or let a person in the role legal override it by name, with a reason, and another one approve"
		if slices.ContainsFunc(v.Overrides, func(o Override) bool { return o.By.Name == by.Name }) {
			how = "an override needs a second person: let another one approve than who overrode"
		}
		return few(stops), how
	}
	for _, f := range res.Of(compliance.Counsel) {
		if f.Counsel == nil {
			stops = append(stops, fmt.Sprintf("%s needs a reference to counsel: %s (%s)", f.ID, f.What, strings.Join(f.Citation, ", ")))
		}
	}
	if len(stops) > 0 {
		return few(stops), "name counsel, matter and date for each, or change the terms"
	}
	return "", ""
}

// maxStops bounds how many findings one refusal names.
const maxStops = 5

func few(stops []string) string {
	if n := len(stops) - maxStops; n > 0 {
		stops = append(stops[:maxStops:maxStops], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(stops, "; ")
}

// refer notes the references to counsel on the findings that need them: those of
// earlier approvals of the version, then those given now.
func refer(v Version, by Person, res *compliance.Result, counsel []CounselFor) (why, how string) {
	for _, d := range v.Decisions {
		if d.Screen == nil {
			continue
		}
		for _, f := range d.Screen.Of(compliance.Counsel) {
			if now := res.Find(f.ID); now != nil && f.Counsel != nil {
				now.Counsel = f.Counsel
			}
		}
	}
	need := res.Of(compliance.Counsel)
	for _, c := range counsel {
		if c.Finding == "" && len(need) == 1 {
			c.Finding = need[0].ID
		}
		f := res.Find(c.Finding)
		if f == nil || f.Severity != compliance.Counsel {
			var names []string
			for _, f := range need {
				names = append(names, f.ID)
			}
			if c.Finding == "" {
				return "it is not said for which finding the reference to counsel is", "name one of " + strings.Join(names, ", ")
			}
			return c.Finding + " is no finding that needs counsel", didYouMean(c.Finding, names)
		}
		ref := c.Reference
		ref.By = by.Name
		if err := ref.Check(); err != nil {
			return fmt.Sprintf("the reference to counsel for %s: %v", f.ID, err), "name counsel, matter and date, and nothing of the advice"
		}
		if res.On.Before(ref.On) {
			return fmt.Sprintf("the reference to counsel for %s is of %s, after the approval", f.ID, ref.On), "check the date"
		}
		f.Counsel = &ref
	}
	return "", ""
}

// Override records that a person in the role legal wants a blocking finding not to stop
// the approval of a version. It needs a reason, is not for the version's author, and
// serves nobody's own approval: a second person has to approve. It returns the version.
func (c Catalogue) Override(ctx context.Context, o Override) (Version, error) {
	const verb = "override a finding of"
	vs, head, err := c.history(ctx, Query{Kind: o.Kind, ID: o.ID})
	if err != nil {
		return Version{}, fmt.Errorf("%s %s: %w", verb, o.Ref, err)
	}
	v, ok := numbered(vs, o.Number)
	if !ok {
		return Version{}, fmt.Errorf("%s %s: %w", verb, o.Ref, ErrUnknown)
	}
	o.Ref, o.At = v.Ref, o.At.UTC().Truncate(time.Microsecond)
	for _, made := range v.Overrides {
		if made.Finding == o.Finding && made.By.Name == o.By.Name {
			return v, nil // said before
		}
	}
	if why, how := mayOverride(v, o); why != "" {
		return Version{}, &refused{v.Ref, verb, why, how}
	}
	s, err := c.ScreenVersion(ctx, v, o.At)
	if err != nil {
		return Version{}, fmt.Errorf("%s %s: %w", verb, v.Ref, err)
	}
	if f := s.Find(o.Finding); f == nil || f.Severity != compliance.Block {
		var names []string
		for _, f := range s.Of(compliance.Block) {
			names = append(names, f.ID)
		}
		return Version{}, &refused{v.Ref, verb, fmt.Sprintf("%q is no finding that blocks it", o.Finding), didYouMean(o.Finding, names)}
	}
	if err := c.Store.RecordOverride(ctx, head, o); err != nil {
		return Version{}, fmt.Errorf("%s %s: %w", verb, v.Ref, err)
	}
	v.Overrides = append(v.Overrides, o)
	return v, nil
}

// maxReason bounds the reason of an override, in bytes.
const maxReason = 2000

func mayOverride(v Version, o Override) (why, how string) {
	switch {
	case v.Kind != KindContract || v.State != Proposed:
		return "it is " + string(v.State) + ", and only a proposal waits for approval", ""
	case o.By.Name == "":
		return "nobody is named", "say who decides"
	case o.At.IsZero() || o.At.Before(v.RecordedAt):
		return "the time is missing or before the version was recorded", "check the time"
	case o.Role != RoleLegal:
		return fmt.Sprintf("the role %q decides nothing about the terms of contracts", o.Role), "ask a person in the role " + RoleLegal
	case strings.TrimSpace(o.Reason) == "":
		return "no reason is given", "say in writing why the terms may stand"
	case len(o.Reason) > maxReason:
		return fmt.Sprintf("the reason has more than %d characters", maxReason), "name where the rest can be read"
	case o.By.Name == v.Author.Name:
		return o.By.Name + " is its author, and nobody overrides a finding on their own proposal", "ask another person"
	}
	return "", ""
}

// TermsOn are the terms of every contract that are in force on the day, in order of
// contract, and the facts of the catalogue as it is recorded now. It is what rates are
// compared and schedules are printed from.
func (c Catalogue) TermsOn(ctx context.Context, day period.Date) ([]*pricing.Terms, compliance.Facts, error) {
	vs, _, err := c.history(ctx, Query{})
	if err != nil {
		return nil, compliance.Facts{}, fmt.Errorf("terms on %s: %w", day, err)
	}
	w, err := newScreening(vs, nil)
	if err != nil {
		return nil, compliance.Facts{}, fmt.Errorf("terms on %s: %w", day, err)
	}
	var out []*pricing.Terms
	for _, list := range w.contracts {
		if v := inForceOn(list, day); v != nil {
			out = append(out, v.terms)
		}
	}
	slices.SortFunc(out, func(a, b *pricing.Terms) int { return strings.Compare(a.Contract, b.Contract) })
	return out, w.facts, nil
}

// NextTerms are the accepted versions of a contract that begin after the day, in
// order of beginning.
func (c Catalogue) NextTerms(ctx context.Context, contract string, day period.Date) ([]*pricing.Terms, error) {
	vs, err := c.History(ctx, KindContract, contract)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(vs, byStart)
	var out []*pricing.Terms
	for _, v := range vs {
		if !v.inForce() || !day.Before(v.From) {
			continue
		}
		o, err := reread(v)
		if err != nil {
			return nil, fmt.Errorf("terms of %s: %w", v.Ref, err)
		}
		out = append(out, o.Terms)
	}
	return out, nil
}

// TermsOf is one version of a contract with its terms.
func (c Catalogue) TermsOf(ctx context.Context, contract string, number int) (Version, *pricing.Terms, error) {
	vs, err := c.History(ctx, KindContract, contract)
	if err != nil {
		return Version{}, nil, err
	}
	v, ok := numbered(vs, number)
	if !ok {
		return Version{}, nil, fmt.Errorf("contract %s version %d: %w", contract, number, ErrUnknown)
	}
	o, err := reread(v)
	if err != nil {
		return Version{}, nil, fmt.Errorf("terms of %s: %w", v.Ref, err)
	}
	return v, o.Terms, nil
}

// Facts are what the snapshot says about those whom contracts name.
func (s *Snapshot) Facts() compliance.Facts {
	return compliance.Facts{Settings: s.Marketplace.Settings, Partners: s.Partners, Apps: s.Apps, Customers: s.Customers, Meters: s.Meters}
}
