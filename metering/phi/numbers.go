package phi

// findEmail looks for name@host.tld. Letters beyond ASCII may stand in either.
func findEmail(s string) bool {
	for i := 1; i < len(s); i++ {
		if s[i] != '@' || s[i-1] <= ' ' || s[i-1] == '/' || s[i-1] == ':' {
			continue
		}
		for j := i + 2; isHost(at(s, j)); j++ {
			if s[j] == '.' && isHostLetter(at(s, j+1)) && isHostLetter(at(s, j+2)) && (isHostLetter(s[j-1]) || isDigit(s[j-1])) {
				return true
			}
		}
	}
	return false
}

func isHostLetter(c byte) bool { return isLetter(c) || c >= 0x80 }
func isHost(c byte) bool       { return isHostLetter(c) || isDigit(c) || c == '-' || c == '.' }

var ssnLabels = newLabels("ssn", "social", "social-security", "itin")

// findSSN looks for 3-2-4 digits between other characters, with one separator, and
// for 9 digits behind a word for them.
func findSSN(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) {
			if !ssnLabels.first[s[i]] {
				continue
			}
			if j, _, ok := ssnLabels.valueOf(s, i); ok && digitsAt(s, j) == 9 {
				return true
			}
			continue
		}
		n := digitsAt(s, i)
		if n == 3 && s[i:i+3] != "000" && !isAlnum(at(s, i-1)) {
			sep := at(s, i+3)
			if isSSNSeparator(sep) && digitsAt(s, i+4) == 2 && at(s, i+6) == sep && digitsAt(s, i+7) == 4 && !isAlnum(at(s, i+11)) &&
				(sep != '.' || !inRow(s, i, i+11, sep)) {
				return true
			}
		}
		i += n - 1
	}
	return false
}

func isSSNSeparator(c byte) bool { return c == '-' || c == ' ' || c == '.' || c == '_' }

// inRow reports whether more numbers with the same separator stand around s[from:to],
// as in a version.
func inRow(s string, from, to int, sep byte) bool {
	return at(s, from-1) == sep && isDigit(at(s, from-2)) || at(s, to) == sep && isDigit(at(s, to+1))
}

// recordLabels stand before a number, the others before a word that says that a
// number follows, or a number sign.
var (
	recordLabels   = newLabels("mrn", "med-rec", "medical-record", "patient", "mbi", "hicn")
	numberedLabels = newLabels("mr", "pat", "member", "subscriber", "chart")
)

// minRecordDigits keeps names such as patient-360 apart from record numbers.
const minRecordDigits = 4

// findMRN looks for a word for a record number before digits.
func findMRN(s string) bool {
	for i := 0; i < len(s); i++ {
		if !recordLabels.first[s[i]] && !numberedLabels.first[s[i]] {
			continue
		}
		j, _, ok := recordLabels.valueOf(s, i)
		if !ok {
			j, ok, _ = numberedLabels.valueOf(s, i) // ok only if named
		}
		if !ok {
			continue
		}
		if isLetter(at(s, j)) && isDigit(at(s, j+1)) { // MRN E1234567
			j++
		}
		if digitsAt(s, j) >= minRecordDigits {
			return true
		}
	}
	return false
}

var medicareLabels = newLabels("mbi", "medicare")

// findMBI looks for the shape of isMBI between other characters, and behind a word
// for it without hyphens and in any case.
func findMBI(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '-':
			if i >= 4 && i+9 <= len(s) && !isAlnum(at(s, i-5)) && !isAlnum(at(s, i+9)) && isMBI(s[i-4:i+9]) {
				return true
			}
		case medicareLabels.first[c]:
			if j, _, ok := medicareLabels.valueOf(s, i); ok && j+11 <= len(s) && !isAlnum(at(s, j+11)) && isPlainMBI(s[j:j+11]) {
				return true
			}
		}
	}
	return false
}

// mbiShape is 4-3-4 characters: C a digit but 0, A a letter but S, L, O, I, B, Z, X
// either, N a digit.
const mbiShape = "CAXN-AXN-AANN"

// isMBI checks 13 characters, letters upper-case.
func isMBI(s string) bool {
	for i := range len(mbiShape) {
		if !isMBIChar(s[i], mbiShape[i]) {
			return false
		}
	}
	return true
}

// isPlainMBI checks 11 characters without hyphens.
func isPlainMBI(s string) bool {
	i := 0
	for k := range len(mbiShape) {
		if mbiShape[k] == '-' {
			continue
		}
		c := s[i]
		if isLetter(c) {
			c &^= 0x20
		}
		if !isMBIChar(c, mbiShape[k]) {
			return false
		}
		i++
	}
	return true
}

func isMBIChar(c, shape byte) bool {
	letter := isUpper(c) && c != 'S' && c != 'L' && c != 'O' && c != 'I' && c != 'B' && c != 'Z'
	switch shape {
	case 'C':
		return isDigit(c) && c != '0'
	case 'A':
		return letter
	case 'X':
		return letter || isDigit(c)
	case 'N':
		return isDigit(c)
	}
	return c == shape
}

// findPhone looks for 3-3-4 digits of the North American plan, and for + and 10 to 15
// digits.
func findPhone(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' && !isAlnum(at(s, i-1)) && isInternational(s, i+1) {
			return true
		}
		if c < '2' || c > '9' {
			continue
		}
		before := at(s, i-1)
		if isAlnum(before) || digitsAt(s, i) != 3 {
			continue
		}
		j := i + 3
		sep := at(s, j)
		if before == '(' && sep == ')' {
			if j++; at(s, j) == ' ' {
				j++
			}
			sep = at(s, j+3)
		} else if (sep == '-' || sep == '.' || sep == ' ') && (before != sep || !isDigit(at(s, i-2)) || isCountryOne(s, i)) {
			j++
		} else {
			continue
		}
		if c := at(s, j); c < '2' || c > '9' {
			continue
		}
		if digitsAt(s, j) == 3 && at(s, j+3) == sep && (sep == '-' || sep == '.' || sep == ' ') && digitsAt(s, j+4) == 4 {
			if after := at(s, j+8); !isAlnum(after) && (after != sep || !isDigit(at(s, j+9))) {
				return true
			}
		}
	}
	return false
}

// isCountryOne reports whether the number at i follows a country code: 1-555-…
func isCountryOne(s string, i int) bool {
	return at(s, i-2) == '1' && !isAlnum(at(s, i-3)) && (at(s, i-3) != at(s, i-1) || !isDigit(at(s, i-4)))
}

// isInternational reports whether 10 to 15 digits begin at i, in groups of at least
// two but the first ones.
func isInternational(s string, i int) bool {
	if c := at(s, i); !isDigit(c) || c == '0' {
		return false
	}
	digits, groups := 0, 0
	for {
		n := digitsAt(s, i)
		if n == 0 || n == 1 && groups > 1 {
			return false
		}
		digits, groups, i = digits+n, groups+1, i+n
		if digits >= 10 {
			return digits <= 15 && !isLetter(at(s, i))
		}
		for open := 0; open < 2; open++ { // at most two separators, as in ") "
			if c := at(s, i); c == ' ' || c == '-' || c == '.' || c == '(' || c == ')' {
				i++
			}
		}
		if !isDigit(at(s, i)) {
			return false
		}
	}
}

// findIP reports whether the whole text is an IPv4 or IPv6 address, with or without a
// port.
func findIP(s string) bool {
	if s[0] == '[' {
		i := 1
		for i < len(s) && s[i] != ']' {
			i++
		}
		return i < len(s) && isPort(s[i+1:]) && isIPv6(s[1:i])
	}
	n := ipv4At(s, 0)
	return n > 0 && isPort(s[n:]) || isIPv6(s)
}

// isPort reports whether s is empty or a colon and a number.
func isPort(s string) bool {
	return s == "" || s[0] == ':' && digitsAt(s, 1) == len(s)-1 && 1 < len(s) && len(s) <= 6
}

// ipv4At is the length of the IPv4 address at i, 0 if there is none.
func ipv4At(s string, i int) int {
	from := i
	for part := range 4 {
		n := digitsAt(s, i)
		if n < 1 || n > 3 || num(s, i, n) > 255 {
			return 0
		}
		i += n
		if part < 3 {
			if at(s, i) != '.' {
				return 0
			}
			i++
		}
	}
	return i - from
}

func isIPv6(s string) bool {
	colons, digits, short := 0, 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ':':
			colons++
			short = short || at(s, i-1) == ':'
			digits = 0
		case c == '.': // the last 32 bits as an IPv4 address
			i -= digits
			return i > 0 && ipv4At(s, i) == len(s)-i && (colons == 6 || short && colons < 6)
		case isDigit(c), 'a' <= c|0x20 && c|0x20 <= 'f':
			if digits++; digits > 4 {
				return false
			}
		default:
			return false
		}
	}
	return colons == 7 || short && colons < 7
}
