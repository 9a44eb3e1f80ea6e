package billing_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"mete/billing"
	"mete/metering"
)

// TestRedactions: a value may be overwritten if no amount follows from it. Then closed
// months verify as before, whatever comes late, and say which values are gone.
func TestRedactions(t *testing.T) {
	w := testWorld(t)
	ctx := context.Background()
	with := func(e metering.Event, change func(*metering.Event)) metering.Event {
		change(&e)
		return e
	}
	refunded := sale("inv-1", "scheduler", "lakeside", noon(jan, 5), "1400.00")
	noted := with(sale("inv-2", "scheduler", "lakeside", noon(jan, 6), "100.00"), func(e *metering.Event) {
		e.Data.Reference, e.Data.Deal, e.Data.Unit = "doe-jane", "doe-deal", "doe-unit"
	})
	called := with(calls("c-1", "scheduler", "lakeside", noon(jan, 7), 120), func(e *metering.Event) {
		e.Data.Reference, e.Data.Lead, e.Data.Region = "doe-jane", "doe-lead", "doe-region"
	})
	opened := metering.Event{ID: "i-1", Source: "programme", Type: metering.IncidentOpened, Time: noon(jan, 8), Data: metering.Data{App: "scheduler", Reference: "doe-jane"}}
	free := with(calls("c-2", "scheduler", "lakeside", noon(jan, 7), 1), func(e *metering.Event) { e.Data.Status = 404 })
	qualified := lead(metering.LeadQualified, "l-1", "MARKET-1", "harbor", noon(jan, 9))
	wrong := with(sale("inv-9", "scheduler", "lakeside", noon(jan, 10), "55.00"), func(e *metering.Event) { e.Customer = "doe-jane" })
	sandbox := with(sale("inv-8", "scheduler", "doe-jane", noon(jan, 10), "55.00"), func(e *metering.Event) { e.Data.Environment = metering.Sandbox })
	w.deliver(t, 0, refunded, refund("ref-1", refunded, noon(jan, 20), "400.00"), noted, called, free, opened, qualified, wrong, void("v-9", wrong, noon(jan, 11)), sandbox)

	// While the month is open, what a close may price by is voided and sent again first.
	check := func(e metering.Event, field string) error {
		t.Helper()
		r, err := metering.ProposeRedaction(e.Key(), field, "looks like a person", "k.lee", noon(feb, 1))
		if err != nil {
			t.Fatal(err)
		}
		return w.closer.CheckRedactions(ctx, r)
	}
	for _, c := range []struct {
		e     metering.Event
		field string
		ok    bool
	}{
		{noted, "data.reference", false}, {noted, "subject", false}, {noted, "data.unit", true}, {called, "subject", false}, {called, "data.operation", false},
		{called, "data.reference", true}, {called, "id", true}, {qualified, "data.lead", false}, {wrong, "subject", true}, {wrong, "id", true}, {sandbox, "subject", true},
	} {
		err := check(c.e, c.field)
		if c.ok && err != nil || !c.ok && (!errors.Is(err, billing.ErrPriced) || !strings.Contains(err.Error(), "void it and send it again")) {
			t.Errorf("open, %s of %s: %v, want allowed: %t", c.field, c.e.ID, err, c.ok)
		}
	}
	w.closeMonth(t, jan)
	w.issueMonth(t, jan)
	before := w.digests(t)

	redact := func(e metering.Event, field string) metering.Redaction {
		t.Helper()
		r, err := metering.ProposeRedaction(e.Key(), field, "looks like a person", "k.lee", noon(feb, 1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.events.ProposeRedaction(ctx, r); err != nil {
			t.Fatal(err)
		}
		rs, err := w.events.ApproveRedactions(ctx, []string{r.ID}, "r.shah", noon(feb, 2))
		if err != nil {
			t.Fatal(err)
		}
		return rs[0]
	}
	for _, c := range []struct {
		e     metering.Event
		field string
		ok    bool
	}{
		{refunded, "id", false},       // the refund names it
		{refunded, "subject", false},  // allocations name the customer
		{called, "subject", false},    // so do those of calls
		{qualified, "subject", false}, // it may convert in a later month
		{qualified, "data.lead", false},
		{qualified, "id", true},
		{noted, "id", false}, // the attribution names the sale
		{noted, "data.reference", true},
		{noted, "data.deal", true},
		{noted, "data.unit", true},
		{called, "id", true},
		{called, "data.operation", true}, // no meter asks for it
		{called, "data.reference", true},
		{called, "data.lead", true},
		{called, "data.region", true},
		{opened, "data.reference", true},
		{opened, "id", false}, // what closes it will name it
		{wrong, "subject", true},
		{wrong, "id", true},
		{sandbox, "subject", true},
	} {
		err := check(c.e, c.field)
		if c.ok && err != nil || !c.ok && !errors.Is(err, billing.ErrPriced) {
			t.Errorf("closed, %s of %s: %v, want allowed: %t", c.field, c.e.ID, err, c.ok)
		}
		if !c.ok {
			continue
		}
		r := redact(c.e, c.field)
		w.checkAll(t)
		if t.Failed() {
			t.Fatalf("after %s of %s was redacted", c.field, c.e.ID)
		}
		v, err := w.closer.Verify(ctx, jan)
		if err != nil {
			t.Fatal(err)
		}
		if last := v.Redacted[len(v.Redacted)-1]; last != r {
			t.Errorf("verify names %+v, want %+v", last, r)
		}
	}
	v, err := w.closer.Verify(ctx, jan)
	if err != nil || v.Inputs == 0 || len(v.Findings) > 0 {
		t.Errorf("%d inputs differ by redactions, %d findings, %v", v.Inputs, len(v.Findings), err)
	}

	// A late event prices the month again, with what is left of the values.
	w.deliver(t, 1, calls("late", "scheduler", "lakeside", noon(jan, 30), 77), sale("inv-3", "scheduler", "lakeside", noon(feb, 3), "10.00"))
	w.closeMonth(t, feb)
	w.checkAll(t)
	after := w.digests(t)
	for id, digest := range before {
		if after[id] != digest {
			t.Errorf("statement %s was %s, is %s", id, digest, after[id])
		}
	}

	// Altered behind a redaction, the store's own check finds it.
	w.exec(t, eventsFile, `UPDATE events SET reference = 'altered' WHERE event_id = 'inv-2'`)
	if found := w.findings()["events check"]; len(found) != 1 || !strings.Contains(found[0], "altered") {
		t.Errorf("findings %q", found)
	}
}
