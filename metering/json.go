package metering

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of one JSON value.
const (
	maxJSONDepth = 64   // levels of nesting
	maxJSONNodes = 4096 // values in one event or log record
)

// A node is one JSON value in the text it was read from. The nodes of a value stand
// in one slice in the order of the text, so that reading an event allocates nothing.
type node struct {
	kind       byte  // one of { [ " 0 t f n; 0 is a number
	escaped    bool  // a string with escapes
	keyEscaped bool  // its key has escapes
	key, colon int32 // text of the key without quotes: src[key:colon], empty in an array
	start, end int32 // text of the value; a string without its quotes
	next       int32 // index of the node after this value and all inside it
}

// jsonError says where a text stops being JSON. It never quotes the text.
type jsonError struct {
	offset int
	want   string
}

func (e *jsonError) Error() string {
	return fmt.Sprintf("not JSON at byte %d: want %s", e.offset, e.want)
}

// jsonReader reads strict JSON (RFC 8259): valid UTF-8, no lone surrogates, no
// trailing text, at most maxJSONDepth levels.
type jsonReader struct {
	src     []byte
	pos     int
	depth   int
	nodes   []node
	full    bool   // more than maxJSONNodes values: nodes are not complete
	twice   bool   // some object has a key twice
	scratch []byte // room for unescaped text
	err     *jsonError
}

func (r *jsonReader) reset(src []byte, pos int) {
	*r = jsonReader{src: src, pos: pos, nodes: r.nodes[:0], scratch: r.scratch[:0]}
}

func (r *jsonReader) fail(want string) bool {
	if r.err == nil {
		r.err = &jsonError{r.pos, want}
	}
	return false
}

func (r *jsonReader) space() {
	for r.pos < len(r.src) {
		switch r.src[r.pos] {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return
		}
	}
}

func (r *jsonReader) peek() byte {
	if r.pos < len(r.src) {
		return r.src[r.pos]
	}
	return 0
}

// value reads one value and records it; key is what it is called, if anything.
func (r *jsonReader) value(key, colon int32, keyEscaped bool) bool {
	at := len(r.nodes)
	kept := at < maxJSONNodes
	if kept {
		r.nodes = append(r.nodes, node{key: key, colon: colon, keyEscaped: keyEscaped, start: int32(r.pos)})
	} else {
		r.full = true
	}
	var kind byte
	start, end := r.pos, 0
	escaped := false
	switch c := r.peek(); {
	case c == '{':
		kind = '{'
		if !r.object() {
			return false
		}
		end = r.pos
		if kept && !r.full && r.repeats(at) {
			r.twice = true
		}
	case c == '[':
		kind = '['
		if !r.array() {
			return false
		}
		end = r.pos
	case c == '"':
		kind = '"'
		var ok bool
		if start, end, escaped, ok = r.text(); !ok {
			return false
		}
	case c == '-' || isDigit(c):
		kind = '0'
		if !r.number() {
			return false
		}
		end = r.pos
	case c == 't' && r.word("true"), c == 'f' && r.word("false"), c == 'n' && r.word("null"):
		kind = c
		end = r.pos
	default:
		return r.fail("a JSON value")
	}
	if kept {
		n := &r.nodes[at]
		n.kind, n.escaped, n.start, n.end, n.next = kind, escaped, int32(start), int32(end), int32(len(r.nodes))
	}
	return true
}

func (r *jsonReader) word(w string) bool {
	if len(r.src)-r.pos < len(w) || string(r.src[r.pos:r.pos+len(w)]) != w {
		return false
	}
	r.pos += len(w)
	return true
}

func (r *jsonReader) enter() bool {
	if r.depth++; r.depth > maxJSONDepth {
		return r.fail(fmt.Sprintf("at most %d levels of nesting", maxJSONDepth))
	}
	r.pos++
	r.space()
	return true
}

func (r *jsonReader) leave() bool {
	r.depth--
	r.pos++
	return true
}

func (r *jsonReader) object() bool {
	if !r.enter() {
		return false
	}
	if r.peek() == '}' {
		return r.leave()
	}
	for {
		if r.peek() != '"' {
			return r.fail("a key in quotes")
		}
		key, colon, escaped, ok := r.text()
		if !ok {
			return false
		}
		r.space()
		if r.peek() != ':' {
			return r.fail("a colon after the key")
		}
		r.pos++
		r.space()
		if !r.value(int32(key), int32(colon), escaped) {
			return false
		}
		r.space()
		switch r.peek() {
		case ',':
			r.pos++
			r.space()
		case '}':
			return r.leave()
		default:
			return r.fail("a comma or the end of the object")
		}
	}
}

func (r *jsonReader) array() bool {
	if !r.enter() {
		return false
	}
	if r.peek() == ']' {
		return r.leave()
	}
	for {
		if !r.value(0, 0, false) {
			return false
		}
		r.space()
		switch r.peek() {
		case ',':
			r.pos++
			r.space()
		case ']':
			return r.leave()
		default:
			return r.fail("a comma or the end of the array")
		}
	}
}

// text reads a string and gives its place without the quotes.
func (r *jsonReader) text() (start, end int, escaped, ok bool) {
	r.pos++
	start = r.pos
	for r.pos < len(r.src) {
		switch c := r.src[r.pos]; {
		case c == '"':
			end = r.pos
			r.pos++
			return start, end, escaped, true
		case c == '\\':
			escaped = true
			if !r.escape() {
				return 0, 0, false, false
			}
		case c < 0x20:
			return 0, 0, false, r.fail("no control character in a text")
		case c < utf8.RuneSelf:
			r.pos++
		default:
			ru, n := utf8.DecodeRune(r.src[r.pos:])
			if ru == utf8.RuneError && n == 1 {
				return 0, 0, false, r.fail("valid UTF-8")
			}
			r.pos += n
		}
	}
	return 0, 0, false, r.fail("the closing quote of a text")
}

// escape steps over one escape; half a surrogate pair is none.
func (r *jsonReader) escape() bool {
	if r.pos+1 >= len(r.src) {
		return r.fail("a valid escape")
	}
	switch r.src[r.pos+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		r.pos += 2
		return true
	case 'u':
		c, ok := hex4(r.src[r.pos+2:])
		if !ok || utf16.IsSurrogate(c) && !r.pair(c) {
			return r.fail("a valid \\u escape")
		}
		r.pos += 6
		if utf16.IsSurrogate(c) {
			r.pos += 6
		}
		return true
	}
	return r.fail("a valid escape")
}

func (r *jsonReader) pair(first rune) bool {
	rest := r.src[min(r.pos+6, len(r.src)):]
	if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
		return false
	}
	second, ok := hex4(rest[2:])
	return ok && utf16.DecodeRune(first, second) != utf8.RuneError
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var v rune
	for _, c := range b[:4] {
		switch {
		case isDigit(c):
			v = v<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			v = v<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return v, true
}

func (r *jsonReader) number() bool {
	if r.peek() == '-' {
		r.pos++
	}
	if r.peek() == '0' {
		r.pos++
	} else if !r.digits() {
		return false
	}
	if r.peek() == '.' {
		r.pos++
		if !r.digits() {
			return false
		}
	}
	if c := r.peek(); c == 'e' || c == 'E' {
		r.pos++
		if c := r.peek(); c == '+' || c == '-' {
			r.pos++
		}
		return r.digits()
	}
	return true
}

func (r *jsonReader) digits() bool {
	first := r.pos
	for isDigit(r.peek()) {
		r.pos++
	}
	return r.pos > first || r.fail("a digit")
}

// fewKeys is up to how many keys are compared pair by pair.
const fewKeys = 24

// repeats reports whether the object at has a key twice.
func (r *jsonReader) repeats(at int) bool {
	n := 0
	for i := at + 1; i < len(r.nodes); i = int(r.nodes[i].next) {
		if n++; n > fewKeys {
			return r.repeatsMany(at)
		}
		for j := at + 1; j < i; j = int(r.nodes[j].next) {
			if r.nodes[i].keyEscaped || r.nodes[j].keyEscaped {
				return r.repeatsMany(at)
			}
			if string(r.rawKey(i)) == string(r.rawKey(j)) {
				return true
			}
		}
	}
	return false
}

func (r *jsonReader) repeatsMany(at int) bool {
	seen := map[string]bool{}
	for i := at + 1; i < len(r.nodes); i = int(r.nodes[i].next) {
		k := string(r.keyOf(i))
		if seen[k] {
			return true
		}
		seen[k] = true
	}
	return false
}

func (r *jsonReader) rawKey(i int) []byte { return r.src[r.nodes[i].key:r.nodes[i].colon] }

// keyOf is the key of the value i, unescaped; it is valid until the next text.
func (r *jsonReader) keyOf(i int) []byte {
	if !r.nodes[i].keyEscaped {
		return r.rawKey(i)
	}
	return r.unescape(r.rawKey(i))
}

// textOf is the text of the value i: a string unescaped, anything else as it stands.
// It is valid until the next text.
func (r *jsonReader) textOf(i int) []byte {
	n := &r.nodes[i]
	if !n.escaped {
		return r.src[n.start:n.end]
	}
	return r.unescape(r.src[n.start:n.end])
}

// unescape undoes escapes that text has checked.
func (r *jsonReader) unescape(b []byte) []byte {
	out := r.scratch[:0]
	for i := 0; i < len(b); {
		if b[i] != '\\' {
			out = append(out, b[i])
			i++
			continue
		}
		switch c := b[i+1]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			v, _ := hex4(b[i+2:])
			i += 4
			if utf16.IsSurrogate(v) {
				second, _ := hex4(b[i+4:])
				v = utf16.DecodeRune(v, second)
				i += 6
			}
			out = utf8.AppendRune(out, v)
		default:
			out = append(out, c)
		}
		i += 2
	}
	r.scratch = out
	return out
}

// child is the value called name in the object at, or −1.
func (r *jsonReader) child(at int, name string) int {
	if r.nodes[at].kind != '{' {
		return -1
	}
	end := int(r.nodes[at].next)
	for i := at + 1; i < end; i = int(r.nodes[i].next) {
		if string(r.keyOf(i)) == name {
			return i
		}
	}
	return -1
}

// element is the nth value of the array at, or −1.
func (r *jsonReader) element(at, n int) int {
	if r.nodes[at].kind != '[' {
		return -1
	}
	end := int(r.nodes[at].next)
	for i := at + 1; i < end; i = int(r.nodes[i].next) {
		if n == 0 {
			return i
		}
		n--
	}
	return -1
}
