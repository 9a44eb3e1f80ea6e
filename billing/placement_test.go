package billing_test

import (
	"slices"
	"testing"

	"mete/billing"
)

// What was kept of placements is derived again, each app.
func TestPlacementsAreVerified(t *testing.T) {
	w := testWorld(t)
	w.agree(t, changed(t, "marketplace: meridian-us", "close: {lag: 3 days}", "close: {lag: 3 days}\neffective: 2026-01-01\nplacement: {requires: availability >= 0.99, not_scored_below: 5 calls}"))
	w.deliver(t, 0, calls("c", "notes", "mesa", noon(jan, 6), 100))
	for i := range 5 {
		w.deliver(t, 0, calls(string(rune('d'+i)), "scheduler", "mesa", noon(jan, 6), 1))
	}
	w.closeMonth(t, jan)
	w.checkAll(t)
	got, err := w.closer.Placements(t.Context(), jan)
	if err != nil {
		t.Fatal(err)
	}
	eligible := map[string]bool{}
	for _, a := range got.Apps {
		eligible[string(a.App)] = a.Eligible
	}
	if len(eligible) != 5 || !got.Frozen || !eligible["scheduler"] || eligible["notes"] {
		t.Errorf("%v, want all five apps, the scheduler alone eligible: one event is one call", eligible)
	}
	for _, mutant := range []string{
		`UPDATE placements SET content = json_set(content, '$.eligible', json('true')) WHERE app = 'notes'`,
		`DELETE FROM placements WHERE app = 'notes'`,
		`INSERT INTO placements SELECT month, 'other', json_set(content, '$.app', 'other') FROM placements WHERE app = 'scheduler'`,
	} {
		c := w.copy(t)
		t.Cleanup(c.remove)
		if n := c.exec(t, relationalFile, `DROP TRIGGER placements_no_update`, `DROP TRIGGER placements_no_delete`, mutant); n == 0 {
			t.Fatalf("%s changed nothing", mutant)
		}
		v, err := c.closer.Verify(t.Context(), jan)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(v.Findings, func(f billing.Finding) bool { return f.Check == "placement" }) {
			t.Errorf("%s: not found in %v", mutant, v.Findings)
		}
	}
}
