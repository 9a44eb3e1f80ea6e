package catalogue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"mete/period"
)

// ErrRefused says that a decision is not allowed; its text says why and what to do.
var ErrRefused = errors.New("refused")

// refused is a decision that may not be taken.
type refused struct {
	ref      Ref
	verb     string
	why, how string
}

func (e *refused) Error() string {
	s := fmt.Sprintf("%s %s: %s", e.verb, e.ref, e.why)
	if e.how != "" {
		s += "; " + e.how
	}
	return s
}

func (e *refused) Is(target error) bool { return target == ErrRefused }

// Approve records that a person approves a version of a contract. Nobody approves
// their own proposal; terms that begin before they are approved need `corrects: N`
// and two approvers, unless the contract has no earlier terms. Ref's digest, when
// given, must be the version's: it is what the person saw. It returns the version
// with its new state.
//
// The terms are screened first, and what was found is kept with the approval. What
// blocks needs an override by somebody else, see [Catalogue.Override]; what needs
// counsel needs a reference, given here or with an earlier approval of the version.
func (c Catalogue) Approve(ctx context.Context, ref Ref, by Person, at time.Time, counsel ...CounselFor) (Version, error) {
	return c.decide(ctx, ref, Decision{Verdict: Approve, By: by, At: at}, counsel...)
}

// Acceptance is the partner's word on approved terms.
type Acceptance struct {
	By         Person    // the person at the partner
	At         time.Time // when the partner accepted
	RecordedBy Person    // who writes it down; zero: By, in the portal
	RecordedAt time.Time // zero: At
	Evidence   string    // where it can be read: needed when another writes it down
}

// Accept records that the partner accepted an approved version, which thereby is in
// force from its date on.
func (c Catalogue) Accept(ctx context.Context, ref Ref, a Acceptance) (Version, error) {
	return c.decide(ctx, ref, Decision{Verdict: Accept, By: a.By, RecordedBy: a.RecordedBy, At: a.At, RecordedAt: a.RecordedAt, Text: a.Evidence})
}

// Reject ends a version that is not in force yet. A reason is needed.
func (c Catalogue) Reject(ctx context.Context, ref Ref, by Person, reason string, at time.Time) (Version, error) {
	return c.decide(ctx, ref, Decision{Verdict: Reject, By: by, At: at, Text: reason})
}

var verbs = map[Verdict]string{Approve: "approve", Accept: "accept", Reject: "reject"}

func (c Catalogue) decide(ctx context.Context, ref Ref, d Decision, counsel ...CounselFor) (Version, error) {
	verb := verbs[d.Verdict]
	vs, head, err := c.history(ctx, Query{Kind: ref.Kind, ID: ref.ID})
	if err != nil {
		return Version{}, fmt.Errorf("%s %s: %w", verb, ref, err)
	}
	v, ok := numbered(vs, ref.Number)
	if !ok {
		return Version{}, fmt.Errorf("%s %s: %w", verb, ref, ErrUnknown)
	}
	d.Ref = v.Ref
	if d.RecordedAt.IsZero() {
		d.RecordedAt = d.At
	}
	d.At, d.RecordedAt = d.At.UTC().Truncate(time.Microsecond), d.RecordedAt.UTC().Truncate(time.Microsecond)
	d.Document = documentHash(v)
	for _, made := range v.Decisions {
		if made.Verdict == d.Verdict && made.By.Name == d.By.Name {
			return v, nil // said before
		}
	}
	if ref.Digest != "" && ref.Digest != v.Digest {
		return Version{}, &refused{v.Ref, verb, "it says something else than what you saw", "look at it again"}
	}
	if why, how := may(v, d, vs); why != "" {
		return Version{}, &refused{v.Ref, verb, why, how}
	}
	if d.Verdict == Approve {
		s, err := c.ScreenVersion(ctx, v, d.At)
		if err != nil {
			return Version{}, fmt.Errorf("%s %s: %w", verb, v.Ref, err)
		}
		if why, how := clear(v, d.By, &s.Result, counsel); why != "" {
			return Version{}, &refused{v.Ref, verb, why, how}
		}
		d.Screen = &s.Result
	}
	if err := c.Store.RecordDecision(ctx, head, d); err != nil {
		return Version{}, fmt.Errorf("%s %s: %w", verb, v.Ref, err)
	}
	v.Decisions = append(v.Decisions, d)
	v.State = stateOf(v)
	return v, nil
}

// numbered is the version of that number.
func numbered(vs []Version, number int) (Version, bool) {
	for _, v := range vs {
		if v.Number == number {
			return v, true
		}
	}
	return Version{}, false
}

// documentHash is the SHA-256 of the YAML as written, so that a partner can compare it
// with the file at hand.
func documentHash(v Version) string {
	sum := sha256.Sum256([]byte(v.Document))
	return hex.EncodeToString(sum[:])
}

// may says why the decision is not allowed and what to do, "" if it is.
func may(v Version, d Decision, all []Version) (why, how string) {
	switch {
	case v.Kind != KindContract:
		return "only contracts are decided on", "what is no contract is in force once applied"
	case d.By.Name == "":
		return "nobody is named", "say who decides"
	case d.At.IsZero():
		return "no time is given", "say when"
	case d.At.Before(v.RecordedAt):
		return fmt.Sprintf("it was recorded at %s, after the decision", v.RecordedAt.Format(time.RFC3339)), "check the time"
	case v.State == Rejected || v.State == Superseded || v.State == Accepted:
		return "it is " + string(v.State) + " already", ""
	}
	switch d.Verdict {
	case Reject:
		if d.Text == "" {
			return "no reason is given", "say why"
		}
		return "", ""
	case Approve:
		if d.By.Name == v.Author.Name {
			return d.By.Name + " is its author, and nobody approves their own proposal", "ask another person"
		}
	case Accept:
		if d.By.Name == v.Author.Name {
			return d.By.Name + " is its author, and the partner accepts", "name the person at the partner"
		}
		for _, made := range v.Decisions {
			if made.Verdict == Approve && made.By.Name == d.By.Name {
				return d.By.Name + " approved it inside, and the partner accepts", "name the person at the partner"
			}
		}
		for _, made := range v.Decisions {
			if made.Verdict == Approve && d.At.Before(made.At) {
				return fmt.Sprintf("%s approved it at %s, after the acceptance", made.By.Name, made.At.Format(time.RFC3339)), "check the time"
			}
		}
		if v.State != Approved {
			return "it is not approved yet" + stillMissing(v), "approve it first"
		}
		if d.RecordedBy.Name != "" && d.RecordedBy.Name != d.By.Name && d.Text == "" {
			return "no evidence is given", "say where the partner's acceptance can be read, such as a signed document's number"
		}
	}
	return backwards(v, d.At, all)
}

func stillMissing(v Version) string {
	have := 0
	for _, d := range v.Decisions {
		if d.Verdict == Approve {
			have++
		}
	}
	return fmt.Sprintf(" (%d of %d approvals)", have, v.approvalsNeeded())
}

// backwards refuses terms that would change days that have passed under other terms,
// unless they say that those were wrong.
func backwards(v Version, at time.Time, all []Version) (why, how string) {
	o, err := reread(v)
	if err != nil {
		return "its document cannot be read: " + err.Error(), ""
	}
	if v.Corrects > 0 || at.Before(v.From.In(o.Terms.Zone)) {
		return "", ""
	}
	today := period.DateOf(at, o.Terms.Zone)
	for _, w := range all {
		if w.State != Accepted || today.Before(w.From) {
			continue
		}
		if w.Until.IsZero() || v.From.Before(w.Until) {
			return fmt.Sprintf("it begins on %s, and it is %s already: terms are not changed backwards", v.From, today),
				fmt.Sprintf("propose it with a later effective.from, or, if version %d was wrong, with corrects: %d and two approvers", w.Number, w.Number)
		}
	}
	return "", ""
}
