package pricing

import (
	"os"
	"path/filepath"
	"testing"
)

// No text makes ParseTerms panic, and what it reads it reads again the same.
func FuzzParseTerms(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*.yaml")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("a: &x [1]\nb: *x\n<<: *x\n? {a: b}\n: c\n--- \n!!str x")
	f.Fuzz(func(t *testing.T, text string) {
		terms, err := ParseTerms("f", []byte(text))
		if (terms == nil) == (err == nil) {
			t.Fatalf("terms %v, error %v", terms, err)
		}
	})
}

// No text makes a condition panic, neither when it is read nor when it is asked.
func FuzzCondition(f *testing.F) {
	for _, s := range []string{"availability >= 0.999 && incidents.open == 0", "certification.state in ['a', \"b\"]", "!(calls * -2 + 1 < 3) || true != false", "((((", "1.2.3",
		"0.1 + 0.2 == 0.3", "--1 in [99999999999999999999, - 2]", "has(calls) ? [1] : {'a': b'x'}", "r'é' == 'é'\n&& availabilty > 1", `"""a"1"2""" == ''`, "calls.x.exists(y, y / 2 > .5e3u) // z",
	} {
		f.Add(s)
	}
	avail := mustNumber(f, "0.999")
	full := &Scorecard{Calls: 7, Availability: &avail, Within: &avail, Certification: Certification{State: "due", Tier: 2}}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := compileCondition(text)
		if err != nil {
			if err.at < 0 || err.at > len(text) {
				t.Fatalf("error at %d of %d", err.at, len(text))
			}
			return
		}
		c.Missing(&Scorecard{})
		c.Holds(&Scorecard{})
		if m, missing := c.Missing(full); missing {
			t.Fatalf("%s is missing", m)
		}
		c.Holds(full)
	})
}
