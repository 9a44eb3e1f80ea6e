package billing_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"mete/billing"
	"mete/period"
)

// TestErrorTexts shows what people read when they do something that is not allowed.
func TestErrorTexts(t *testing.T) {
	w := testWorld(t)
	ctx := t.Context()
	w.deliver(t, 0, sale("s", "scheduler", "lakeside", noon(jan, 5), "1400.00"))
	closing := func(m period.Month, by string, at time.Time) error {
		_, err := w.closer.Close(ctx, billing.CloseRequest{Month: m, By: by, At: at})
		return err
	}
	issuing := func(m period.Month, by string, ids ...billing.StatementID) error {
		r := issueRequest(m)
		r.By, r.IDs = by, ids
		_, err := w.closer.Issue(ctx, r)
		return err
	}
	want := func(what string, err, kind error, text string) {
		t.Helper()
		if err == nil || err.Error() != text || kind != nil && !errors.Is(err, kind) {
			t.Errorf("%s:\n got %v\nwant %s", what, err, text)
		}
	}
	state := billing.ErrState
	want("before the month ends", closing(jan, closerName, noon(jan, 31)), state,
		"close 2026-01: the month ends in America/Los_Angeles at 2026-02-01T08:00:00Z and waits 3 days for late events: not before 2026-02-04T08:00:00Z: not allowed in this state")
	want("an hour before the lag is over", closing(jan, closerName, time.Date(2026, 2, 4, 7, 0, 0, 0, time.UTC)), state,
		"close 2026-01: the month ends in America/Los_Angeles at 2026-02-01T08:00:00Z and waits 3 days for late events: not before 2026-02-04T08:00:00Z: not allowed in this state")
	want("by nobody", closing(jan, "", closedAt(jan)), nil, "close 2026-01: a close needs the name of who closes: --as NAME")
	want("issue before the close", issuing(jan, issuerName), state, "issue 2026-01: the month is open; close it first: mete close 2026-01: not allowed in this state")
	_, err := w.closer.Verify(ctx, jan)
	want("verify before the close", err, state, "verify 2026-01: the month is open, only a closed month can be verified: not allowed in this state")
	w.closeMonth(t, jan)
	want("a month left out", closing(mar, closerName, closedAt(mar)), state,
		"close 2026-03: the last month closed is 2026-01, so the next is the one after it: not allowed in this state")
	want("issue by the closer", issuing(jan, closerName), state,
		`issue 2026-01: "m.ortiz" closed the month; another person must issue: --as NAME: not allowed in this state`)
	want("issue by nobody", issuing(jan, ""), state,
		`issue 2026-01: "m.ortiz" closed the month; another person must issue: --as NAME: not allowed in this state`)
	want("issue one that is not there", issuing(jan, issuerName, "meridian-us.nobody.usd.2026-01"), billing.ErrNotFound,
		"issue meridian-us.nobody.usd.2026-01: no such statement in 2026-01: not found")
	_, err = w.db.Statement(ctx, "x")
	want("unknown statement", err, billing.ErrNotFound, "statement x: not found")
	_, err = w.closer.Explain(ctx, "x", 1, 0)
	want("explain an unknown statement", err, billing.ErrNotFound, "explain x: statement x: not found")
	_, err = w.closer.Explain(ctx, "meridian-us.northwind.usd.2026-01", 9, 0)
	want("explain a line that is not there", err, nil, "statement meridian-us.northwind.usd.2026-01 has no line 9; it has lines 1 to 2")

	adjustment := billing.Adjustment{Partner: "northwind", Amount: usd("36.00"), Reason: "dispute D-17", ProposedBy: "m.ortiz", ProposedAt: closedAt(jan)}
	propose := func(change func(*billing.Adjustment)) error {
		a := adjustment
		change(&a)
		_, err := w.closer.ProposeAdjustment(ctx, a)
		return err
	}
	want("adjust by nothing", propose(func(a *billing.Adjustment) { a.Amount = usd("0") }), nil, "adjustment: an amount of zero changes nothing")
	want("adjust without a reason", propose(func(a *billing.Adjustment) { a.Reason = " " }), nil, "adjustment: a reason is needed: --reason TEXT; it stands on the partner's statement")
	want("adjust by nobody", propose(func(a *billing.Adjustment) { a.ProposedBy = "" }), nil, "adjustment: the name of who proposes it is needed: --as NAME")
	kept, err := w.closer.ProposeAdjustment(ctx, adjustment)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.closer.ApproveAdjustment(ctx, kept.ID, "m.ortiz", closedAt(jan))
	want("approve one's own", err, state, "adjustment "+kept.ID+" was proposed by m.ortiz; another person must approve: --as NAME: not allowed in this state")
	_, err = w.closer.ApproveAdjustment(ctx, "A-none", "a.kim", closedAt(jan))
	want("approve an unknown one", err, billing.ErrNotFound, "adjustment A-none: not found; mete adjust list shows all")
}

// TestReceiptFiles reads settlement reports, good and bad.
func TestReceiptFiles(t *testing.T) {
	const head = "processor,settlement,settled_on,currency,gross,fee,net\n"
	rs, err := billing.ReadReceipts("r.csv", strings.NewReader(head+"stripe,po_1,2026-02-03,USD,103.00,3.00,100.00\nstripe,po_2,2026-02-04,USD,-5.00,0,-5.00\n"), "manual")
	if err != nil || len(rs) != 2 || rs[0].Net != usd("100.00") || rs[1].Gross != usd("-5.00") || rs[0].Rail != "manual" {
		t.Fatalf("%+v, %v", rs, err)
	}
	for _, r := range rs {
		if err := (func() error { e := r.Entry(); e.BookedOn = r.SettledOn; return e.Validate() })(); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct{ name, file, want string }{
		{"empty", "", "r.csv:1: the file is empty; want the columns processor,settlement,settled_on,currency,gross,fee,net"},
		{"too few columns", "processor,settlement\n", "r.csv:1: wrong number of fields; want the columns processor,settlement,settled_on,currency,gross,fee,net"},
		{"wrong column", strings.Replace(head, "fee", "fees", 1), `r.csv:1: column 6 is "fees", want "fee" (columns: processor,settlement,settled_on,currency,gross,fee,net)`},
		{"short row", head + "stripe,po_1\n", "r.csv:2: wrong number of fields"},
		{"wrong sum", head + "stripe,po_1,2026-02-03,USD,103.00,3.00,100.00\nstripe,po_2,2026-02-03,USD,103.00,3.00,101.00\n",
			"r.csv:3: settlement po_2: gross 103.00 USD is not fee 3.00 USD + net 101.00 USD"},
		{"no day", head + "stripe,po_1,03/02/2026,USD,1,0,1\n", "r.csv:2: settled_on: "},
		{"no currency", head + "stripe,po_1,2026-02-03,DOLLAR,1,0,1\n", "r.csv:2: "},
		{"finer than a cent", head + "stripe,po_1,2026-02-03,USD,1.005,0,1.005\n", "r.csv:2: gross: "},
		{"no settlement", head + "stripe,,2026-02-03,USD,1,0,1\n", "r.csv:2: processor and settlement are needed"},
		{"a processor that is no name", head + "Stripe Inc,po_1,2026-02-03,USD,1,0,1\n", `r.csv:2: processor "Stripe Inc": want its name in the catalogue`},
	} {
		_, err := billing.ReadReceipts("r.csv", strings.NewReader(c.file), "manual")
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s:\n got %v\nwant %s", c.name, err, c.want)
		} else {
			t.Logf("%-28s %v", c.name, err)
		}
	}
	for _, c := range []struct{ file, want string }{
		{"a,b\n", "k.csv:1: want the columns app,month,type,events,amount,currency"},
		{"app,month,type,events,amount,currency\nnotes,2026-01\n", "k.csv:2: wrong number of fields"},
		{"app,month,type,events,amount,currency\nnotes,2026-01,sale.paid,x,,\n", `k.csv:2: events "x" is no count`},
	} {
		if _, err := billing.ReadControl("k.csv", strings.NewReader(c.file)); err == nil || err.Error() != c.want {
			t.Errorf("control totals:\n got %v\nwant %s", err, c.want)
		}
	}
	w := testWorld(t)
	first, err := w.closer.ImportReceipts(t.Context(), rs)
	if err != nil || first.New != 2 {
		t.Fatal(first, err)
	}
	again, err := w.closer.ImportReceipts(t.Context(), rs)
	if err != nil || again.New != 0 || again.Known != 2 {
		t.Errorf("imported again: %+v, %v", again, err)
	}
	rs[0].Fee, rs[0].Net = usd("4.00"), usd("99.00")
	if _, err := w.closer.ImportReceipts(t.Context(), rs); !errors.Is(err, billing.ErrConflict) ||
		err.Error() != "settlement po_1 of stripe: kept as 100.00 USD net of 103.00 USD on 2026-02-03, now 99.00 USD net of 103.00 USD on 2026-02-03: kept before with other content" {
		t.Errorf("other figures: %v", err)
	}
}
