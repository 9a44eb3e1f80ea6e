package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Coverage of one document takes the scenarios that name it, says which of them fail,
// and counts only what a want block looks at.
func TestCoverageOfOneContract(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"shop.yaml":  shop,
		"other.yaml": strings.Replace(shop, "contract: shop", "contract: other", 1),
		"a.txt":      "contract shop\nmonth 2026-01\n  sale.paid 10.00 USD\nwant\n  sales 10.00\n  store -1.50\nmonth 2026-02\n  api_calls 100\n",
		"b.txt":      "contract shop\nmonth 2026-01\n  sale.paid 10.00 USD\nwant\n  sales 10.00\n",
		"c.txt":      "contract other\nmonth 2026-01\n",
	})
	folder, err := OpenFolder(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	doc := Document{File: filepath.Join(dir, "shop.yaml"), Text: []byte(shop), Names: []string{"shop"}}
	c, failed, err := folder.Coverage(doc, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(failed) != 1 || filepath.Base(failed[0].File) != "b.txt" {
		t.Errorf("failed: %v", failed)
	}
	if len(c.Scenarios) != 2 || c.Contract != "shop" {
		t.Errorf("%s: scenarios %v", c.Contract, c.Scenarios)
	}
	want := `shop.yaml: 1 of 3 branches
    store  all at 15%                a, b
  ! store  refund, at original rate  not taken; line 8
  ! calls  0.01                      not taken; line 9
`
	if got := strings.ReplaceAll((Covered{[]CoveredContract{c}}).String(), dir+"/", ""); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	doc.Text = []byte("contract: shop\n")
	if _, _, err := folder.Coverage(doc, nil); err == nil {
		t.Error("coverage of a document that is no contract")
	}
	if _, err := OpenFolder(filepath.Join(dir, "gone"), false); err == nil {
		t.Error("a folder that is not there")
	}
}

// A contract that no scenario names is not covered; one that cannot be read is told.
func TestCoverageOfFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"shop.yaml":     shop,
		"idle.yaml":     strings.Replace(shop, "contract: shop", "contract: idle", 1),
		"broken.yaml":   "contract: broken\n",
		"partners.yaml": "partners: []\n",
		"a.txt":         "contract shop\nmonth 2026-01\n  sale.paid 10.00 USD id a\n  sale.refunded 5.00 USD refers a\n  api_calls 3\nwant\n  sales 10.00\n  refunds -5.00\n  store -0.75\n  calls -0.03\n",
	})
	r, err := Run(dir, nil)
	if err != nil || !r.OK() {
		t.Fatal(err, r)
	}
	if got, want := r.Coverage.Summary(), "coverage: 3 of 6 branches of 2 contracts, 50%; 1 contracts without a scenario cannot be read"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	for _, want := range []string{"/broken.yaml: cannot be read: ", "/idle.yaml: 0 of 3 branches; no scenario names it"} {
		if !strings.Contains(r.Coverage.String(), want) {
			t.Errorf("no %q in\n%s", want, r.Coverage)
		}
	}
	if strings.Contains(r.Coverage.String(), "partners") {
		t.Errorf("a document that is no contract is listed:\n%s", r.Coverage)
	}
}
