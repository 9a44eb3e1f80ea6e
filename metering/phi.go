package metering

import (
	"unicode/utf8"

	"mete/metering/phi"
)

// phiReason is the reason of refusals that a pattern of the PHI guard makes.
func phiReason(p phi.Pattern) Reason {
	return Reason{phiWord(p.Name), Unclean, "the text looks like " + p.Text,
		"send a name of your own that says nothing about a person; the value was not kept"}
}

func phiWord(pattern string) string { return "phi_" + pattern }

// guardText is the machine word why a text of an event may not be kept, "" if it may.
func guardText(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == 0x7f {
			return BadText
		} else if c >= utf8.RuneSelf {
			if !cleanUTF8(s[i:]) {
				return BadText
			}
			break
		}
	}
	if pattern := phi.Find(s); pattern != "" {
		return phiWord(pattern)
	}
	return ""
}

func cleanUTF8(s string) bool {
	for i, r := range s {
		if r < 0x20 || 0x7f <= r && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return false
		}
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return false
			}
		}
	}
	return true
}
