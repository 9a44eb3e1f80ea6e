package jetstream

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"mete/metering"
)

func packed(n int) (*nats.Msg, []metering.Event) {
	all := events("p", n)
	lines := make([][]byte, n)
	for i, e := range all {
		lines[i] = append(metering.AppendCanonical(nil, e), '\n')
	}
	return pack(2, lines, testTime), all
}

func TestPackUnpack(t *testing.T) {
	m, all := packed(100)
	got := unpack(new(metering.CanonicalDecoder), 1, 2, raw{sequence: 7, header: m.Header, data: m.Data})
	if got.Announced != 100 || len(got.Events) != 100 || got.Undecoded != nil || !got.AcceptedAt.Equal(testTime) || got.Sequence != 7 {
		t.Fatalf("got %d of %d events, %v", len(got.Events), got.Announced, got.Undecoded)
	}
	for i, a := range got.Events {
		if a.Key != all[i].Key() || a.Hash != metering.ContentHash(all[i]) || a.ID != all[i].ID ||
			a.Position != (metering.Position{Incarnation: 1, Partition: 2, Sequence: 7, Index: i}) || !a.AcceptedAt.Equal(testTime) {
			t.Fatalf("event %d: %+v", i, a)
		}
	}
	again, _ := packed(100)
	if bytes.Equal(again.Data, m.Data) {
		t.Error("two messages of the same events have the same bytes")
	}
}

// What cannot be read is said of as many events as were announced, and nothing of a
// damaged payload counts.
func TestUndecodable(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(*nats.Msg)
		events int
		reason string
		count  int
	}{
		"no count":            {func(m *nats.Msg) { m.Header.Del(headerCount) }, 0, "no count", 1},
		"count of nothing":    {func(m *nats.Msg) { m.Header.Set(headerCount, "0") }, 0, "no count", 1},
		"count out of bounds": {func(m *nats.Msg) { m.Header.Set(headerCount, "99999999") }, 0, "no count", 1},
		"more announced":      {func(m *nats.Msg) { m.Header.Set(headerCount, "9") }, 0, "announces 9 events, the payload has 5", 9},
		"fewer announced":     {func(m *nats.Msg) { m.Header.Set(headerCount, "3") }, 0, "announces 3 events, the payload has 5", 3},
		"damaged":             {func(m *nats.Msg) { m.Data[len(m.Data)/2] ^= 1 }, 0, "digest", 5},
		"cut":                 {func(m *nats.Msg) { m.Data = m.Data[:len(m.Data)-10] }, 0, "digest", 5},
		"empty":               {func(m *nats.Msg) { m.Data = nil }, 0, "digest", 5},
		"foreign":             {func(m *nats.Msg) { m.Data = []byte("hello"); resign(m) }, 0, "does not begin", 5},
		"no last line end":    {func(m *nats.Msg) { m.Data = m.Data[:len(m.Data)-1]; resign(m) }, 0, "whole line", 5},
		"one bad line": {func(m *nats.Msg) {
			m.Data = bytes.Replace(m.Data, []byte(`"status":200`), []byte(`"patient":20`), 1)
			resign(m)
		}, 4, "unknown_field", 5},
	} {
		m, _ := packed(5)
		c.spoil(m)
		got := unpack(new(metering.CanonicalDecoder), 1, 2, raw{sequence: 7, header: m.Header, data: m.Data})
		if got.Announced != c.count || len(got.Events) != c.events || len(got.Events)+len(got.Undecoded) != got.Announced {
			t.Errorf("%s: %d announced, %d read, %d not", name, got.Announced, len(got.Events), len(got.Undecoded))
			continue
		}
		for _, u := range got.Undecoded {
			if !strings.Contains(u.Reason, c.reason) || strings.Contains(u.Reason, "northwind") {
				t.Errorf("%s: reason %q", name, u.Reason)
			}
		}
	}
}

func resign(m *nats.Msg) {
	m.Header.Set(headerMsgID, unpack(new(metering.CanonicalDecoder), 1, 2, raw{header: m.Header, data: m.Data}).Digest.String())
}

// Whatever lies in a message, its counts add up.
func TestUnpackRandomDamage(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		m, _ := packed(1 + r.IntN(8))
		for range 1 + r.IntN(4) {
			switch at := r.IntN(len(m.Data) + 1); r.IntN(4) {
			case 0:
				m.Data = m.Data[:at]
			case 1:
				m.Data = append(m.Data[:at:at], append([]byte{byte(r.Uint32())}, m.Data[at:]...)...)
			case 2:
				m.Data = append(m.Data, '\n')
			case 3:
				m.Header.Set(headerCount, fmt.Sprint(r.IntN(20)-5))
			}
		}
		if r.IntN(2) == 0 {
			resign(m)
		}
		got := unpack(new(metering.CanonicalDecoder), 1, 2, raw{sequence: 1, header: m.Header, data: m.Data})
		if got.Announced < 1 || got.Announced != len(got.Events)+len(got.Undecoded) {
			t.Fatalf("round %d: %d announced, %d read, %d not", i, got.Announced, len(got.Events), len(got.Undecoded))
		}
		seen := map[int]bool{}
		for _, e := range got.Events {
			seen[e.Position.Index] = true
		}
		for _, u := range got.Undecoded {
			seen[u.Index] = true
		}
		if len(seen) != got.Announced {
			t.Fatalf("round %d: %d places of %d events", i, len(seen), got.Announced)
		}
	}
}
