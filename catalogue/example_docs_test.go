package catalogue

import "testing"

// The example is what people copy from.
func TestExampleIsClean(t *testing.T) {
	docs, err := ReadDir("../examples/marketplace")
	if err != nil {
		t.Fatal(err)
	}
	if err := docs.Check(); err != nil {
		t.Fatal(err)
	}
	count := map[Kind]int{}
	for _, o := range docs.Objects {
		count[o.Kind]++
		again := Parse("again.yaml", []byte(o.Document))
		if err := again.Check(); err != nil || len(again.Objects) != 1 || again.Objects[0].digest() != o.digest() {
			t.Errorf("%s %s: its document alone says something else: %v\n%s", o.Kind, o.ID, err, o.Document)
		}
	}
	want := map[Kind]int{KindMarketplace: 1, KindPartner: 3, KindApp: 5, KindCustomer: 3, KindMeter: 2, KindSource: 3,
		KindReferralCode: 2, KindContract: 3, KindFX: 1, KindHolidays: 1}
	for _, k := range Kinds() {
		if count[k] != want[k] {
			t.Errorf("%s: %d, want %d", k, count[k], want[k])
		}
	}
}
