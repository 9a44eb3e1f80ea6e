package phi

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// unquote undoes one layer of percent-encoding, where it is valid.
func unquote(s string) string {
	var b strings.Builder
	from := 0 // what lies before is in b
	for i := 0; i+2 < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		v, ok := hexByte(s[i+1], s[i+2])
		if !ok {
			continue
		}
		if from == 0 {
			b.Grow(len(s))
		}
		b.WriteString(s[from:i])
		b.WriteByte(v)
		i += 2
		from = i + 1
	}
	if from == 0 {
		return s
	}
	b.WriteString(s[from:])
	return b.String()
}

// unquoteAll undoes every layer of percent-encoding: a sign that comes out may begin
// or end the next one.
func unquoteAll(s string) string {
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		out = append(out, s[i])
		for n := len(out); n >= 3 && out[n-3] == '%'; n = len(out) {
			v, ok := hexByte(out[n-2], out[n-1])
			if !ok {
				break
			}
			out = append(out[:n-3], v)
		}
	}
	return string(out)
}

func hexByte(high, low byte) (byte, bool) {
	h, ok1 := hexDigit(high)
	l, ok2 := hexDigit(low)
	return h<<4 | l, ok1 && ok2
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case isDigit(c):
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// fold writes characters that look like plain ones as these: wide forms of ASCII,
// Arabic digits, every dash, space and slash. What is not seen at all is left out.
// A text without any comes back as it is.
func fold(s string) string {
	var out []byte
	from := 0 // what lies before is in out
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if c := plainOf(r); c != r {
			if out = append(out, s[from:i]...); c != unseen {
				out = append(out, byte(c))
			}
			from = i + n
		}
		i += n
	}
	if from == 0 {
		return s
	}
	return string(append(out, s[from:]...))
}

// unseen is what plainOf says of a character that is not drawn.
const unseen rune = 0

// plainOf is the ASCII character that r looks like, or r.
func plainOf(r rune) rune {
	switch {
	case 0xae <= r && r < 0x580: // letters of Europe, quickly
		return r
	case 0xff01 <= r && r <= 0xff5e: // wide forms
		return r - 0xff01 + '!'
	case 0x660 <= r && r <= 0x669:
		return r - 0x660 + '0'
	case 0x6f0 <= r && r <= 0x6f9:
		return r - 0x6f0 + '0'
	case r == '−' || unicode.Is(unicode.Pd, r):
		return '-'
	case r == '⁄' || r == '∕':
		return '/'
	case unicode.Is(unicode.Zs, r):
		return ' '
	case unicode.Is(unicode.Cf, r): // soft hyphens, joiners, marks of direction
		return unseen
	}
	return r
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isUpper(c byte) bool  { return 'A' <= c && c <= 'Z' }
func isAlnum(c byte) bool  { return isDigit(c) || isLetter(c) }

// at is the byte of s at i, 0 outside.
func at(s string, i int) byte {
	if 0 <= i && i < len(s) {
		return s[i]
	}
	return 0
}

// digitsAt is the number of digits of s from i on.
func digitsAt(s string, i int) int {
	n := i
	for 0 <= n && n < len(s) && isDigit(s[n]) {
		n++
	}
	return n - i
}

// num is the number of the n digits at i.
func num(s string, i, n int) int {
	v := 0
	for j := range n {
		v = 10*v + int(s[i+j]-'0')
	}
	return v
}

// hasFold reports whether s has at i the lower-case text, in any case.
func hasFold(s string, i int, lower string) bool {
	if len(s)-i < len(lower) {
		return false
	}
	for j := range len(lower) {
		c := s[i+j]
		if isUpper(c) {
			c |= 0x20
		}
		if c != lower[j] {
			return false
		}
	}
	return true
}

// labels are words that stand before a value, in lower case. A hyphen stands for one
// separator or none.
type labels struct {
	words []string
	first [256]bool // bytes that a word begins with, in any case
}

func newLabels(words ...string) *labels {
	l := &labels{words: words}
	for _, w := range words {
		l.first[w[0]], l.first[w[0]&^0x20] = true, true
	}
	return l
}

// at is the length of the longest label that stands as a word at i, in any case, 0 if
// none does.
func (l *labels) at(s string, i int) int {
	if !l.first[s[i]] || !beginsWord(s, i) {
		return 0
	}
	longest := 0
	for _, w := range l.words {
		if n := wordsAt(s, i, w); n > longest && endsWord(s, i+n) {
			longest = n
		}
	}
	return longest
}

// valueOf finds a label at i and where its value begins: behind separators and a word
// or sign that says that a number follows, named if there is one.
func (l *labels) valueOf(s string, i int) (value int, named, ok bool) {
	if !l.first[s[i]] || !beginsWord(s, i) {
		return 0, false, false
	}
	longest := 0
	for _, w := range l.words {
		n := wordsAt(s, i, w)
		if n <= longest {
			continue
		}
		end := i + n
		j := end + gap(s, end)
		if w := numberWordAt(s, j); w > 0 {
			longest, value, named = n, j+w+gap(s, j+w), true
		} else if endsWord(s, end) {
			longest, value, named = n, j, strings.IndexByte(s[end:j], '#') >= 0
		}
	}
	return value, named, longest > 0
}

// numberWords stand between a label and its number.
var numberWords = []string{"id", "identifier", "no", "nr", "num", "number"}

func numberWordAt(s string, i int) int {
	longest := 0
	for _, w := range numberWords {
		if n := wordsAt(s, i, w); n > longest && endsWord(s, i+n) {
			longest = n
		}
	}
	return longest
}

// beginsWord reports whether the letter at i begins a word: it stands behind anything
// else, or is a capital behind a small letter.
func beginsWord(s string, i int) bool {
	return i == 0 || !isLetter(s[i-1]) || isUpper(s[i]) && !isUpper(s[i-1])
}

// endsWord reports whether a word may end before i.
func endsWord(s string, i int) bool {
	return !isLetter(at(s, i)) || isUpper(s[i]) && !isUpper(s[i-1])
}

// wordsAt is the length of the label at i, 0 if it does not stand there.
func wordsAt(s string, i int, label string) int {
	if at(s, i)|0x20 != label[0] {
		return 0
	}
	j := i
	for k := range len(label) {
		c := at(s, j)
		if label[k] == '-' {
			if c == '-' || c == '_' || c == ' ' || c == '.' || c == '+' {
				j++
			}
			continue
		}
		if isUpper(c) {
			c |= 0x20
		}
		if c != label[k] {
			return 0
		}
		j++
	}
	return j - i
}

// maxGap is how many separators stand between a label and its value.
const maxGap = 4

// gap is the number of separators at i.
func gap(s string, i int) int {
	n := 0
	for n < maxGap {
		switch at(s, i+n) {
		case '-', '_', ':', '=', '#', '.', ' ', '/', '+', '(', '"', '\'':
			n++
		default:
			return n
		}
	}
	return n
}
