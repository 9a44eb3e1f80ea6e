package phi_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mete/internal/testdata"
	"mete/metering/phi"
)

// Each row of the table is held against its own examples.
func TestTable(t *testing.T) {
	names := map[string]bool{}
	for _, p := range phi.Patterns() {
		t.Run(p.Name, func(t *testing.T) {
			if p.Name == "" || p.Text == "" || names[p.Name] {
				t.Errorf("name %q, text %q: a pattern needs both, and a name of its own", p.Name, p.Text)
			}
			if len(p.Anywhere)+len(p.Alone) == 0 || len(p.Passes) == 0 {
				t.Error("a pattern needs texts that it catches and near-misses that pass")
			}
			for _, s := range slices.Concat(p.Anywhere, p.Alone) {
				if got := phi.Find(s); got != p.Name {
					t.Errorf("%q is caught as %q", s, got)
				}
			}
			for _, s := range p.Passes {
				if got := phi.Find(s); got != "" {
					t.Errorf("%q should pass, is caught as %s", s, got)
				}
			}
		})
		names[p.Name] = true
	}
}

// texts are what the fields of events hold in use.
var texts = []string{
	"957cc5fcfa8c506b0f9f8d0249342212", "line:4da45fcea7b55bb504259cdae1f5db26", "0192f5a8-2c4e-7d3a-9b61-3f2a1c0d4e5f",
	"cust-83.149.9.216", "app-presentations", "app-~psionic", "inv-2026-000123", "inv-2026-09-14", "evt_1PgafmB7WZ01zgkWYmZQ9G0k",
	"https://gateway.example.com/prod-1", "//github.com/cloudevents/cloudeventsconformance/yaml/v1.yaml", "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
	"northwind-scheduler", "certified_api", "us-tx", "fhir.patient.read", "PO 4711", "in_1NxYz2eZvKYlo2C", "01ARZ3NDEKTSV4RRFFQ69G5FAV",
	"A234-1234-1234", "2026-11-23T15:01:45.396Z", "1795446105.396", "1-2-3", "practice-harbor", "usage.api", "slots.read", "USD", "gold",
	"gw-us-east-1.prod", "/v1/appointments/{id}", "sub_1MowQVLkdIwHu7ixeraBm864", "k8s://cluster-7/ns/pod-6d4cf56db6-x2x9p",
	"build 125.0.6422.142", "2026/11/26 batch 3", "May 2026", "appointment-2026-11-26-7", "chart-of-accounts-2026", "patient-app",
	"member-tier-2", "social-share-2026", "birth-centre-2026", "Mr. Fox 2000", "no-2026-0001", "a&b", "x+y", "C++20", "+5%", "Bücher GmbH", "東京",
	"100%", "5% off", "50%-plan", "slots%2Eread", "café–bar 2026",
}

// plain is how many of texts need no other reading.
const plain = 52

func TestNamesInUsePass(t *testing.T) {
	for _, s := range texts {
		if got := phi.Find(s); got != "" {
			t.Errorf("%q is caught as %s", s, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9]{1,18}|inv-20[0-9]{2}-[0-9]{6}|[0-9A-HJKMNP-TV-Z]{26}|evt_[0-9A-Za-z]{24}|20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-]0[0-9]:[03]0)`).Draw(t, "id")
		if got := phi.Find(id); got != "" {
			t.Fatalf("%q is caught as %s", id, got)
		}
	})
}

// The documents show the table of the code.
func TestDocuments(t *testing.T) {
	manual, err := os.ReadFile(filepath.Join(testdata.ModuleRoot(t), "docs", "formats.md"))
	if err != nil {
		t.Fatal(err)
	}
	design, err := os.ReadFile(filepath.Join(testdata.ModuleRoot(t), "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range phi.Patterns() {
		if !strings.Contains(string(design), "| `"+p.Name+"` | ") {
			t.Errorf("docs/architecture.md lacks a row of `%s`", p.Name)
		}
		row := fmt.Sprintf("| `phi_%s` | %s | %s | %s |\n", p.Name, p.Text, quoted(slices.Concat(p.Anywhere, p.Alone)), quoted(p.Passes))
		if !strings.Contains(string(manual), row) {
			t.Errorf("docs/formats.md lacks the row\n%s", row)
		}
	}
}

// quoted is the first two examples of a row.
func quoted(examples []string) string {
	return "`" + strings.Join(examples[:2], "` `") + "`"
}

// shapes are how an id, a source, a subject and a path are put together; the text
// around comes in for A and B, what must be caught for X.
var shapes = []string{
	"A-X-B", "A_X_B", "A.X", "A X B", "A:X", "A=X", "X", "X-B", "X_B", "X B", "A#X", "A|X|B", "A,X,B", "(X)", "A \"X\" B",
	"https://A.example/X", "https://A.example/v1/X?B", "//A/X", "/A/B/X", "urn:A:X", "A/X", "A;X;B",
}

// words makes a word of a shape out of any text: letters, digits and separators, ending
// in letters on both sides, so that no digit of it runs into a number.
func words(s string) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:~"
	b := []byte("q")
	for i := 0; i < len(s) && i < 200; i++ {
		b = append(b, alphabet[int(s[i])%len(alphabet)])
	}
	return string(append(b, 'q'))
}

// FuzzAround puts each example of the table into any surroundings: it is still caught.
func FuzzAround(f *testing.F) {
	patterns := phi.Patterns()
	for i := range patterns {
		for j := range shapes {
			f.Add("gateway-7", "2026.v1", uint8(i), uint8(0), uint8(j))
		}
	}
	f.Fuzz(func(t *testing.T, a, b string, pattern, example, shape uint8) {
		p := patterns[int(pattern)%len(patterns)]
		if len(p.Anywhere) == 0 {
			return
		}
		x := p.Anywhere[int(example)%len(p.Anywhere)]
		s := strings.NewReplacer("A", words(a), "B", words(b), "X", x).Replace(shapes[int(shape)%len(shapes)])
		if phi.Find(s) == "" {
			t.Errorf("%s: %q is caught alone, and passes in %q", p.Name, x, s)
		}
	})
}

// Every example in every shape, without a fuzzer.
func TestAround(t *testing.T) {
	for _, p := range phi.Patterns() {
		for _, x := range p.Anywhere {
			for _, shape := range shapes {
				s := strings.NewReplacer("A", "gateway-7x", "B", "y2", "X", x).Replace(shape)
				if phi.Find(s) == "" {
					t.Errorf("%s: %q is caught alone, and passes in %q", p.Name, x, s)
				}
			}
		}
	}
}

// FuzzFind: no text makes it panic, and what is caught in the plain is caught
// percent-encoded once and up to five times, and in wide letters.
func FuzzFind(f *testing.F) {
	for _, p := range phi.Patterns() {
		for _, s := range slices.Concat(p.Anywhere, p.Alone, p.Passes) {
			f.Add(s)
		}
	}
	for _, s := range texts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := phi.Find(s)
		if name == "" || strings.ContainsRune(s, '%') {
			return
		}
		encoded := s
		for layer := 1; layer <= 5; layer++ {
			if encoded = strings.ReplaceAll(url.QueryEscape(encoded), "+", "%20"); phi.Find(encoded) == "" {
				t.Fatalf("%q is caught as %s, but passes percent-encoded %d times", s, name, layer)
			}
		}
		if isASCII(s) && phi.Find(wide(s)) == "" {
			t.Errorf("%q is caught as %s, but passes in wide letters", s, name)
		}
	})
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// wide writes the ASCII of s in the wide forms that stand beside Chinese signs.
func wide(s string) string {
	return strings.Map(func(r rune) rune {
		if '!' <= r && r <= '~' {
			return r - '!' + 0xff01
		}
		return r
	}, s)
}

// hard are texts of which a careless search would take the square of their length.
var hard = []string{
	"a", "1", "@", "@a", "a@a.", "/", "Patient/", "Patient//", "a/", "mrn", "mrn-", "mrn 1", "patient-id", "1-", "1-1-", "12-12-", "1961-", "apr ", "12 apr ",
	"+1", "+1 ", "(555)", "555-", "ssn:", "%25", "%2525", "%", "%4", "&a", "&", "family:", "a:", "::", "1.", "１", "\u00ad", "mbi-1", "ＰＡＴＩＥＮＴ", "dob.", "555-234-",
}

// checkTime looks for the square: unit repeated to 32 times the length may take five
// times 32 times as long, and a twentieth of a second whatever the machine does.
func checkTime(t *testing.T, unit string) {
	t.Helper()
	took := func(s string) time.Duration {
		best := time.Hour
		for range 3 {
			start := time.Now()
			phi.Find(s)
			best = min(best, time.Since(start))
		}
		return best
	}
	const small, factor = 4 << 10, 32
	s := strings.Repeat(unit, max(1, small/len(unit)))
	short, long := took(s), took(strings.Repeat(s, factor))
	if long > 5*factor*short && long > 50*time.Millisecond {
		t.Errorf("%q: %v for %d bytes, %v for %d", unit, short, len(s), long, factor*len(s))
	}
}

func TestTimeGrowsWithLength(t *testing.T) {
	for _, unit := range hard {
		checkTime(t, unit)
	}
}

// FuzzTime looks for a text that takes the square of its length.
func FuzzTime(f *testing.F) {
	for _, unit := range hard {
		f.Add(unit)
	}
	f.Fuzz(func(t *testing.T, unit string) {
		if unit != "" && len(unit) <= 64 {
			checkTime(t, unit)
		}
	})
}

// event is the texts of one event in use.
type event struct {
	name  string
	texts []string
}

var events = []event{
	{"call", []string{"0192f5a8-2c4e-7d3a-9b61-3f2a1c0d4e5f", "gw-us-east-1", "usage.api", "practice-harbor", "northwind-scheduler", "slots.read", "certified_api", "production", "gold"}},
	{"call, URL as source", []string{"957cc5fcfa8c506b0f9f8d0249342212", "https://gateway.example.com/prod-1", "usage.api", "cust-1042", "contoso-notes", "fhir.patient.read", "api"}},
	{"log line", []string{"line:4da45fcea7b55bb504259cdae1f5db26", "nginx-eu-7", "usage.api", "practice-0417", "northwind-scheduler", "other", "api"}},
	{"sale", []string{"inv-2026-000123", "billing", "sale.paid", "practice-harbor", "northwind-scheduler", "marketplace", "USD", "us-tx", "deal-77", "PO 4711"}},
	{"refund", []string{"re_3MtwBwLkdIwHu7ix28a3tqPa", "billing", "sale.refunded", "practice-harbor", "northwind-scheduler", "marketplace", "USD", "inv-2026-000123"}},
	{"encoded", []string{"01ARZ3NDEKTSV4RRFFQ69G5FAV", "gw-us-east-1", "usage.api", "practice-harbor", "northwind-scheduler", "slots%2Eread", "Bücher GmbH"}},
}

// BenchmarkFind is the price of one event: all of its texts.
func BenchmarkFind(b *testing.B) {
	for _, e := range events {
		b.Run(e.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, s := range e.texts {
					if phi.Find(s) != "" {
						b.Fatal("caught")
					}
				}
			}
		})
	}
}

func TestCleanTextAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		for _, s := range texts[:plain] {
			phi.Find(s)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
