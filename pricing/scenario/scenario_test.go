package scenario

import "testing"

func TestScenarios(t *testing.T) {
	r, err := Run("../testdata")
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() {
		t.Fatal("\n" + r.String())
	}
	t.Logf("%d scenarios, %d lines compared", len(r.Files), r.Wanted())
}
