package metering

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/shopspring/decimal"
)

// KeyOf is the identity of the event that source calls id: the first 128 bits of
// SHA-256 over both, each behind its length in bytes (32 bits, big-endian), source
// first. It does not depend on what the event says.
func KeyOf(source, id string) Key {
	b := make([]byte, 0, 8+MaxSource+MaxID) // stays on the stack up to the bounds
	b = appendLengthed(b, source)
	b = appendLengthed(b, id)
	sum := sha256.Sum256(b)
	return Key(sum[:len(Key{})])
}

func appendLengthed(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// Key is the identity of e.
func (e Event) Key() Key { return KeyOf(e.Source, e.ID) }

// Partition is where in a stream of n partitions the event lies: the first 8 bytes of
// its key, big-endian, modulo n.
func (k Key) Partition(n int) int { return int(binary.BigEndian.Uint64(k[:8]) % uint64(n)) }

// String is the key as 32 hexadecimal digits.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// Compare orders keys by their bytes.
func (k Key) Compare(o Key) int { return bytes.Compare(k[:], o[:]) }

// MarshalText writes the key as 32 hexadecimal digits.
func (k Key) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, k[:]), nil }

// UnmarshalText reads what MarshalText writes.
func (k *Key) UnmarshalText(b []byte) error {
	return unhex(k[:], b, "event key")
}

// ParseKey reads an event key of 32 hexadecimal digits.
func ParseKey(s string) (Key, error) {
	var k Key
	err := k.UnmarshalText([]byte(s))
	return k, err
}

// String is the hash as 64 hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes the hash as 64 hexadecimal digits.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads what MarshalText writes.
func (h *Hash) UnmarshalText(b []byte) error {
	return unhex(h[:], b, "hash")
}

func unhex(dst, text []byte, what string) error {
	if len(text) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%s of %d characters: want %d hexadecimal digits", what, len(text), hex.EncodedLen(len(dst)))
	}
	if _, err := hex.Decode(dst, text); err != nil {
		return fmt.Errorf("%s: want hexadecimal digits only: %w", what, err)
	}
	return nil
}

// contentVersion opens the hashed bytes, so that another layout can never be
// mistaken for this one.
const contentVersion = "mete event 1"

// ContentHash is the SHA-256 of what the event says: every accept-listed field that
// is present, as name and value, each behind its length. Decimals count by value
// (1.0 is 1), times by instant, dimensions in the order of their names; a time that
// was not sent is absent, whenever the event was accepted. Absent fields are left
// out, so that a field added later changes no hash of an event without it.
func ContentHash(e Event) Hash {
	var space [1024]byte
	b := appendLengthed(space[:0], contentVersion)
	field := func(name, value string) {
		if value != "" {
			b = appendLengthed(appendLengthed(b, name), value)
		}
	}
	number := func(name string, n int64) {
		if n != 0 {
			b = appendLengthed(b, name)
			at := len(b)
			b = strconv.AppendInt(append(b, 0, 0, 0, 0), n, 10)
			binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
		}
	}
	dec := func(name string, d *decimal.Decimal) {
		if d != nil {
			b = appendLengthed(b, name)
			at := len(b)
			b = appendDecimal(append(b, 0, 0, 0, 0), *d)
			binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
		}
	}

	field("id", e.ID)
	field("source", e.Source)
	field("type", e.Type)
	if !e.TimeAbsent && !e.Time.IsZero() {
		b = appendLengthed(b, "time")
		at := len(b)
		b = e.Time.UTC().AppendFormat(append(b, 0, 0, 0, 0), time.RFC3339Nano)
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	field("subject", string(e.Customer))
	d := e.Data
	field("app", string(d.App))
	field("operation", d.Operation)
	field("class", string(d.Class))
	dec("quantity", d.Quantity)
	field("unit", d.Unit)
	dec("amount", d.Amount)
	dec("tax_amount", d.TaxAmount)
	dec("fee", d.Fee)
	field("currency", string(d.Currency))
	number("status", int64(d.Status))
	dec("latency_ms", d.LatencyMS)
	number("bytes", d.Bytes)
	field("environment", string(d.Environment))
	field("deal", d.Deal)
	field("lead", d.Lead)
	field("refers_to", d.RefersTo)
	field("reference", d.Reference)
	field("region", d.Region)
	number("paid_months", int64(d.PaidMonths))
	for _, name := range sortedNames(d.Dimensions) {
		b = appendLengthed(appendLengthed(b, "dimension:"+name), d.Dimensions[name])
	}
	return sha256.Sum256(b)
}

func sortedNames(m map[string]string) []string {
	if len(m) == 0 {
		return nil
	}
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
