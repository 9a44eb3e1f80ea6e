package meteringtest

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"mete/metering"
)

// TestQuarantine checks every promise of [metering.Quarantine]. Open returns a new,
// empty one; if it is an [io.Closer] it is closed after use.
func TestQuarantine(t *testing.T, open func(t *testing.T) metering.Quarantine) {
	ctx := context.Background()
	q := open(t)
	closeAfter(t, q)
	var rs []metering.Refusal
	for i := range 9 {
		r := metering.Refusal{ID: fmt.Sprint("receipt-", i), Class: metering.Unclean, Reason: "phi_email", Detail: "it looks like an e-mail address",
			Field: "subject", Source: "gateway", Where: "access.log:7", Digest: "ab12", ReceivedAt: day.Add(time.Duration(i) * time.Minute)}
		if i%3 == 0 {
			r.Class, r.Reason, r.Source, r.Event = metering.Unusable, "unknown_app", "billing", []byte(`{"id":"1"}`)
		}
		rs = append(rs, r)
	}
	for range 2 {
		if err := q.Refuse(ctx, rs); err != nil {
			t.Fatalf("refuse: %v", err)
		}
	}
	changed := rs[4]
	changed.Detail = "something else"
	if err := q.Refuse(ctx, []metering.Refusal{changed}); err != nil {
		t.Fatalf("the same ID again: %v, want nil", err)
	}
	if err := q.Refuse(ctx, nil); err != nil {
		t.Errorf("no refusals: %v", err)
	}
	got, err := q.Refusals(ctx, "", 100)
	if err != nil || len(got) != 9 {
		t.Fatalf("refusals = %d, %v, want 9", len(got), err)
	}
	for i, g := range got {
		w := rs[8-i]
		if !bytes.Equal(g.Event, w.Event) || !g.ReceivedAt.Equal(w.ReceivedAt) || g.ID != w.ID || g.Class != w.Class || g.Reason != w.Reason ||
			g.Detail != w.Detail || g.Field != w.Field || g.Source != w.Source || g.Where != w.Where || g.Digest != w.Digest {
			t.Errorf("refusal %d, newest first:\n got %+v\nwant %+v", i, g, w)
		}
	}
	if got, err := q.Refusals(ctx, "billing", 2); err != nil || len(got) != 2 || got[0].ID != "receipt-6" || got[1].ID != "receipt-3" {
		t.Errorf("refusals of billing, at most 2 = %+v, %v", got, err)
	}
	if got, err := q.Refusals(ctx, "nobody", 2); err != nil || len(got) != 0 {
		t.Errorf("refusals of nobody = %+v, %v", got, err)
	}
	counts, err := q.RefusalCounts(ctx)
	if err != nil || len(counts) != 2 || counts["unclean/phi_email"] != 6 || counts["unusable/unknown_app"] != 3 {
		t.Errorf("counts = %v, %v", counts, err)
	}
	unclean := metering.Refusal{ID: "leak", Class: metering.Unclean, Reason: "phi_email", Event: []byte("somebody@example.org"), ReceivedAt: day}
	if err := q.Refuse(ctx, []metering.Refusal{{ID: "beside", Class: metering.Unclean, Reason: "phi_email", ReceivedAt: day}, unclean}); err == nil {
		t.Error("the event of an unclean refusal was kept")
	}
	if got, _ := q.Refusals(ctx, "", 100); len(got) != 9 {
		t.Errorf("a failed call left %d refusals behind", len(got)-9)
	}
	for _, bad := range []metering.Refusal{{Class: metering.Unclean}, {ID: "x", Class: "other"}} {
		if err := q.Refuse(ctx, []metering.Refusal{bad}); err == nil {
			t.Errorf("refusal %+v was kept", bad)
		}
	}
}
