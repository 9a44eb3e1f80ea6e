package metering

import (
	"fmt"
	"regexp"
	"strings"

	"mete/period"
)

// Extension is an exception that moves the day on which a review of an app is due. It
// stands in the reference of an exception.granted, as "until 2026-10-31 by s.lindqvist:
// the auditor moved to October"; any other reference grants an exception without one.
type Extension struct {
	Until  period.Date `json:"until"` // the review may be decided on this day and is not overdue
	By     string      `json:"by"`
	Reason string      `json:"reason"`
}

const extensionWord = "until "

var extensionForm = regexp.MustCompile(`^until (\d{4}-\d{2}-\d{2}) by ([A-Za-z0-9][A-Za-z0-9._-]{0,39}): (\S.*)$`)

// ExtensionOf is the extension that the reference of an exception grants. It is false
// for a reference that grants none, and fails for one that begins like an extension and
// does not say until when, by whom and why.
func ExtensionOf(reference string) (Extension, bool, error) {
	if !strings.HasPrefix(reference, extensionWord) {
		return Extension{}, false, nil
	}
	m := extensionForm.FindStringSubmatch(reference)
	if m == nil {
		return Extension{}, false, fmt.Errorf("an extension says until when, by whom and why: until 2026-10-31 by s.lindqvist: the auditor moved to October")
	}
	until, err := period.ParseDate(m[1])
	if err != nil {
		return Extension{}, false, err
	}
	return Extension{until, m[2], m[3]}, true, nil
}
