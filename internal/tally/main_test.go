package main

import (
	"strings"
	"testing"
)

const events = `go: downloading example.com/x v1.0.0
{"Action":"start","Package":"mete/money"}
{"Action":"run","Package":"mete/money","Test":"TestSplit"}
{"Action":"run","Package":"mete/money","Test":"TestSplit/three"}
{"Action":"output","Package":"mete/money","Test":"TestSplit/three","Output":"quiet\n"}
{"Action":"pass","Package":"mete/money","Test":"TestSplit/three","Elapsed":0.1}
{"Action":"pass","Package":"mete/money","Test":"TestSplit","Elapsed":3.5}
{"Action":"output","Package":"mete/money","Test":"TestEngine","Output":"=== RUN   TestEngine\n"}
{"Action":"output","Package":"mete/money","Test":"TestEngine","Output":"    x_test.go:5: SKIPPED, MISSING PostgreSQL\n"}
{"Action":"skip","Package":"mete/money","Test":"TestEngine","Elapsed":0}
{"Action":"output","Package":"mete/money","Output":"\"Action\":\"pass\" --- PASS: not a test\n"}
{"Action":"pass","Package":"mete/money","Elapsed":1.5}
{"Action":"output","Package":"mete/ledger","Test":"TestSum","Output":"    l_test.go:7: off by 1\n"}
{"Action":"fail","Package":"mete/ledger","Test":"TestSum","Elapsed":0.1}
{"Action":"fail","Package":"mete/ledger","Elapsed":0.5}
{"ImportPath":"mete/web","Action":"build-output","Output":"web/x.go:1: undefined: y\n"}
{"ImportPath":"mete/web","Action":"build-fail"}
{"Action":"fail","Package":"mete/web","Elapsed":0,"FailedBuild":"mete/web"}
{"Action":"output","Package":"mete/store","Test":"TestHang","Output":"panic: test timed out\n"}
{"Action":"fail","Package":"mete/store","Elapsed":60}
{"Action":"skip","Package":"mete/cmd","Elapsed":0}
`

func TestTally(t *testing.T) {
	var out strings.Builder
	c := newTally(&out)
	if err := c.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	c.summary()
	if c.passed != 2 || c.failed != 3 || len(c.skipped) != 1 {
		t.Errorf("%d passed, %d failed, %d skipped; want 2, 3, 1", c.passed, c.failed, len(c.skipped))
	}
	for _, want := range []string{
		"go: downloading example.com/x", "ok    mete/money", "FAIL  mete/ledger", "off by 1", "web/x.go:1: undefined: y",
		"panic: test timed out", "SKIP  mete/money TestEngine: x_test.go:5: SKIPPED, MISSING PostgreSQL", "3.5s  TestSplit",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	for _, not := range []string{"quiet", "not a test", "mete/cmd"} {
		if strings.Contains(out.String(), not) {
			t.Errorf("%q in\n%s", not, out.String())
		}
	}
}
