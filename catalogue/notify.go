package catalogue

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"mete/period"
)

// Notification is the record that somebody at the partner was told of an approved
// version, and which words they were given. It decides nothing: a version is in force
// when the partner accepted it, told or not.
type Notification struct {
	Ref
	To         string      `json:"to"`  // who was told
	How        string      `json:"how"` // such as e-mail
	On         period.Date `json:"on"`  // in the contract's zone
	By         Person      `json:"by"`  // who told them
	RecordedAt time.Time   `json:"recorded_at"`
	Evidence   string      `json:"evidence,omitempty"` // where it can be read
	Document   string      `json:"document_sha256"`    // of the YAML as written
	Sheet      Sheet       `json:"term_sheet"`
}

// Sheet names a rendered term sheet by what its bytes are.
type Sheet struct {
	Format string `json:"format"` // as contract render calls it
	SHA256 string `json:"sha256"`
}

// same reports whether both say the same; when they were recorded, and how well the
// name was known, does not matter.
func (n Notification) same(o Notification) bool {
	n.RecordedAt, n.By.Unauthenticated = o.RecordedAt, o.By.Unauthenticated
	return n == o
}

// The most bytes that a notification may have in its texts: all of them together are a
// key of the store.
const (
	maxAddressee = 300
	maxHow       = 100
	maxEvidence  = 500
)

// Notify records that somebody at the partner was told of a version. The version must
// be approved. It may be told of more than once, to several people or as a reminder;
// the same of the same day again changes nothing. Without a day it is that of
// RecordedAt. It returns the notification as it is kept.
func (c Catalogue) Notify(ctx context.Context, n Notification) (Notification, error) {
	const verb = "notify the partner of"
	vs, head, err := c.history(ctx, Query{Kind: n.Kind, ID: n.ID})
	if err != nil {
		return Notification{}, fmt.Errorf("%s %s: %w", verb, n.Ref, err)
	}
	v, ok := numbered(vs, n.Number)
	if !ok {
		return Notification{}, fmt.Errorf("%s %s: %w", verb, n.Ref, ErrUnknown)
	}
	if n.Digest != "" && n.Digest != v.Digest {
		return Notification{}, &refused{v.Ref, verb, "it says something else than what you saw", "look at it again"}
	}
	if v.Kind != KindContract {
		return Notification{}, &refused{v.Ref, verb, "only contracts are told of", "what is no contract is in force once applied"}
	}
	o, err := reread(v)
	if err != nil {
		return Notification{}, fmt.Errorf("%s %s: %w", verb, v.Ref, err)
	}
	n.Ref, n.Document, n.RecordedAt = v.Ref, documentHash(v), n.RecordedAt.UTC().Truncate(time.Microsecond)
	n.To, n.How, n.Evidence = strings.TrimSpace(n.To), strings.TrimSpace(n.How), strings.TrimSpace(n.Evidence)
	if n.On.IsZero() {
		n.On = period.DateOf(n.RecordedAt, o.Terms.Zone)
	}
	for _, made := range v.Notifications {
		if made.same(n) {
			return made, nil // said before
		}
	}
	if why, how := mayNotify(v, n, o.Terms.Zone); why != "" {
		return Notification{}, &refused{v.Ref, verb, why, how}
	}
	if err := c.Store.RecordNotification(ctx, head, n); err != nil {
		return Notification{}, fmt.Errorf("%s %s: %w", verb, v.Ref, err)
	}
	return n, nil
}

// mayNotify says why the notification is not recorded and what to do, "" if it is.
func mayNotify(v Version, n Notification, zone *time.Location) (why, how string) {
	switch {
	case n.By.Name == "":
		return "nobody is named", "say who told the partner"
	case n.RecordedAt.IsZero() || n.RecordedAt.Before(v.RecordedAt):
		return "the time is missing or before the version was recorded", "check the time"
	case n.To == "":
		return "it is not said who was told", "name the addressee at the partner"
	case n.How == "":
		return "it is not said how", "name the way, such as e-mail"
	case len(n.To) > maxAddressee || len(n.How) > maxHow || len(n.Evidence) > maxEvidence:
		return fmt.Sprintf("addressee, way and evidence have more than %d, %d and %d characters", maxAddressee, maxHow, maxEvidence), "name where the rest can be read"
	case strings.ContainsFunc(n.To+n.How+n.Evidence, func(r rune) bool { return r < ' ' }):
		return "addressee, way or evidence has a line break or another control character", "write it on one line"
	case n.Sheet.Format == "" || !isSHA256(n.Sheet.SHA256):
		return "it is not said which term sheet the partner was given", "name its form and SHA-256"
	}
	switch v.State {
	case Proposed:
		return "it is not approved yet" + stillMissing(v), "have another person than its author approve it first: the partner is told of nothing that may still be refused"
	case Rejected:
		return "it is rejected", "propose what the partner shall be told of as another version"
	case Superseded:
		return "it is superseded", "notify the partner of the version that took its place"
	}
	if on := period.DateOf(v.approvedAt(), zone); n.On.Before(on) {
		return fmt.Sprintf("it was approved on %s, after %s", on, n.On), "check the day; what the partner was told before the approval was a draft"
	}
	if today := period.DateOf(n.RecordedAt, zone); today.Before(n.On) {
		return fmt.Sprintf("%s is yet to come", n.On), "record it once the partner was told"
	}
	return "", ""
}

// approvedAt is when the last approval that it needed was given, zero before.
func (v Version) approvedAt() time.Time {
	left := v.approvalsNeeded()
	for _, d := range v.Decisions {
		if d.Verdict == Approve {
			left--
			if left == 0 {
				return d.At
			}
		}
	}
	return time.Time{}
}

// FirstTold is the first day on which the partner was told, zero if nobody was.
func (v Version) FirstTold() period.Date {
	var first period.Date
	for _, n := range v.Notifications {
		if first.IsZero() || n.On.Before(first) {
			first = n.On
		}
	}
	return first
}

func isSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && s == strings.ToLower(s)
}
