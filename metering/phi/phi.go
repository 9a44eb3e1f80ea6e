// Package phi finds what names a patient in a text: mete is built to hold no
// protected health information, and refuses events that look like it.
//
// It knows texts only, no events and no fields, and keeps nothing of what it reads.
// No pattern finds everything; these find what gets into usage data by accident.
// Read [Patterns] first, the one table of what is caught and what passes; then
// [Find]. A pattern is a row there with its examples, and a function that looks for
// it; nothing else changes.
package phi

// Pattern is a shape of text that names a person more often than anything that mete
// meters. Its examples are what the tests hold it against, and what the manual shows.
type Pattern struct {
	Name string // never changes: refusals carry it
	Text string // what it looks for

	Anywhere []string // caught wherever it stands in a text, apart from letters and digits
	Alone    []string // caught as a whole text; inside another text it may pass
	Passes   []string // near-misses, which no pattern catches

	marks mark // a text without any of these cannot match
	find  func(s string) bool
}

// Patterns is the table of the guard.
func Patterns() []Pattern { return append([]Pattern(nil), patterns[:]...) }

// Find names the pattern that s matches, or "" if it is clean. Percent-encoded text
// is looked at decoded as well, and characters that are drawn alike as the plain ones:
// wide letters and digits, typographic hyphens, spaces. It allocates nothing for a
// clean text without either, and its time grows with the length of s,
// no faster.
func Find(s string) string {
	m := marksOf(s)
	if m == 0 {
		return ""
	}
	i := match(s, m)
	if i < 0 && m&(hasPercent|hasWide) != 0 {
		i = matchPlain(s, m)
	}
	if i < 0 {
		return ""
	}
	return patterns[i].Name
}

// match is the row of the first pattern that s matches, -1 if there is none.
func match(s string, m mark) int {
	for i := range finders {
		if f := &finders[i]; m&f.marks != 0 && f.find(s) {
			return i
		}
	}
	return -1
}

// finder is what match reads of a pattern.
type finder struct {
	marks mark
	find  func(s string) bool
}

// finders are the patterns, close together.
var finders = func() (f [len(patterns)]finder) {
	for i, p := range patterns {
		f[i] = finder{p.marks, p.find}
	}
	return f
}()

// maxLayers is how many layers of percent-encoding are taken off one by one. What is
// below is taken off at once.
const maxLayers = 3

// matchPlain matches what s, which did not match as it stands, says once its encoding
// is undone, and once its characters are plain besides: folding may also join what
// stood apart.
func matchPlain(s string, m mark) int {
	i, wide := -1, m&hasWide != 0
	if m&hasPercent != 0 {
		var more bool
		i, more = matchLayers(s, false)
		wide = wide || more
	}
	if i < 0 && wide {
		i, _ = matchLayers(s, true)
	}
	return i
}

// matchLayers matches each layer below s, folded if so asked, and reports whether any
// has a byte that is not ASCII.
func matchLayers(s string, folded bool) (i int, wide bool) {
	for layer := 0; ; layer++ {
		if folded {
			if f := fold(s); len(f) != len(s) { // no form in ASCII is as long
				s = f
				if i := match(s, marksOf(s)); i >= 0 {
					return i, wide
				}
			}
		}
		if layer > maxLayers {
			return -1, wide
		}
		undo := unquote
		if layer == maxLayers {
			undo = unquoteAll
		}
		plain := undo(s)
		if len(plain) == len(s) {
			return -1, wide
		}
		m := marksOf(plain)
		wide = wide || m&hasWide != 0
		if i := match(plain, m); i >= 0 {
			return i, wide
		}
		s = plain
	}
}

// mark is a kind of byte that a text has.
type mark uint16

const (
	hasAt mark = 1 << iota
	hasDigit
	hasRun // four digits in a row
	hasSlash
	hasQuery // ? or =
	hasPoint // . or :
	hasPlus
	hasPercent
	hasWide // a byte that is not ASCII
)

var byteMarks = func() (t [256]mark) {
	for c := range t {
		switch {
		case c >= 0x80:
			t[c] = hasWide
		case isDigit(byte(c)):
			t[c] = hasDigit
		}
	}
	t['@'], t['/'], t['?'], t['='], t['.'], t[':'], t['+'], t['%'] = hasAt, hasSlash, hasQuery, hasQuery, hasPoint, hasPoint, hasPlus, hasPercent
	return t
}()

func marksOf(s string) mark {
	var m mark
	run := 0
	for i := 0; i < len(s); i++ {
		b := byteMarks[s[i]]
		m |= b
		if b != hasDigit {
			run = 0
		} else if run++; run == 4 {
			m |= hasRun
		}
	}
	return m
}
