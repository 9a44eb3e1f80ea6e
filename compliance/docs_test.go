package compliance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mete/internal/testdata"
)

// The table of the manual says what the rules say, in their order.
func TestManual(t *testing.T) {
	file := filepath.Join(testdata.ModuleRoot(t), "docs", "compliance.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, r := range Rules() {
		to := map[string]string{ToCertifiedDeveloper: "certified developers", ToActor: "actors", ToAnyone: "anyone"}[r.AppliesTo.To]
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s | %s |\n", r.ID, r.Severity, to, r.LooksFor, strings.Join(r.Citation, "; "))
	}
	if !strings.Contains(string(text), "| rule | does | for | looks for | cites |\n|---|---|---|---|---|\n"+want.String()) {
		t.Errorf("%s does not have the table of the rules:\n%s", file, want.String())
	}
}
