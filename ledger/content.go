package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// canonicalTag opens every canonical form, so that its bytes are no other document's.
const canonicalTag = "mete entry 1"

// Canonical is the entry as bytes, every field but the guards, each behind its
// length: two entries have the same bytes only if they are equal.
func (e Entry) Canonical() []byte {
	b := make([]byte, 0, 128+64*len(e.Postings))
	text := func(s string) {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, s := range []string{canonicalTag, e.ID, e.Kind, e.ValueOn.String(), e.BookedOn.String(), e.Memo} {
		text(s)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(len(e.Postings)))
	for _, p := range e.Postings {
		text(string(p.Account))
		text(string(p.Amount.Currency))
		b = binary.BigEndian.AppendUint64(b, uint64(p.Amount.Minor))
	}
	return b
}

// ContentHash is the SHA-256 of [Entry.Canonical] in hexadecimal.
func (e Entry) ContentHash() string {
	sum := sha256.Sum256(e.Canonical())
	return hex.EncodeToString(sum[:])
}

// Difference says which field of other is the first to differ from e, or "" when
// both have the same content. Guards are no content.
func (e Entry) Difference(other Entry) string {
	fields := []struct{ name, was, is string }{
		{"id", e.ID, other.ID},
		{"kind", e.Kind, other.Kind},
		{"value_on", e.ValueOn.String(), other.ValueOn.String()},
		{"booked_on", e.BookedOn.String(), other.BookedOn.String()},
		{"memo", e.Memo, other.Memo},
		{"number of postings", fmt.Sprint(len(e.Postings)), fmt.Sprint(len(other.Postings))},
	}
	for i := range min(len(e.Postings), len(other.Postings)) {
		p, q := e.Postings[i], other.Postings[i]
		fields = append(fields,
			struct{ name, was, is string }{fmt.Sprintf("account of posting %d", i+1), string(p.Account), string(q.Account)},
			struct{ name, was, is string }{fmt.Sprintf("amount of posting %d", i+1), p.Amount.String(), q.Amount.String()})
	}
	for _, f := range fields {
		if f.was != f.is {
			return fmt.Sprintf("%s was %q, is %q", f.name, f.was, f.is)
		}
	}
	return ""
}
