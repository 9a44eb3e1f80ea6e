package catalogue_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mete/catalogue"
	"mete/catalogue/cataloguetest"
	"mete/metering"
	"mete/partner"
	"mete/period"
)

func TestMemory(t *testing.T) {
	cataloguetest.TestStore(t, func(*testing.T) catalogue.Store { return &cataloguetest.Memory{} })
}

var (
	ada   = catalogue.Person{Name: "ada"}
	grace = catalogue.Person{Name: "grace"}
	linus = catalogue.Person{Name: "linus"}
	nora  = catalogue.Person{Name: "nora@northwind", Unauthenticated: true}
	day1  = time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)
)

const base = `marketplace: meridian-us
name: Meridian
zone: America/Chicago
currency: USD
contact: finance@meridian.example
close: {lag: 3 days}
processors: {stripe: {name: Stripe}}
---
partner: northwind
name: Northwind
tier: build
---
partner: quill
name: Quill
---
apps:
- {id: scheduler, partner: northwind, name: Scheduler}
- {id: reminders, partner: northwind, name: Reminders}
- {id: notes, partner: quill, name: Notes}
---
meter: api_calls
type: usage.api
aggregate: count
dimensions: [region]
---
source: gateway
kind: gateway
owner: gw
---
referral_code: NW-1
partner: northwind
---
fx: ecb
source: ECB
rates: [{date: 2026-09-30, from: EUR, to: USD, rate: 1.17}, {date: 2026-10-30, from: EUR, to: USD, rate: "1.18"}]
---
holidays: us
days: {2026-11-26: Thanksgiving Day}
`

// contract is a contract of northwind's scheduler; more replaces pairs of text.
func contract(more ...string) string {
	return strings.NewReplacer(more...).Replace(`contract: sched
partner: northwind
apps: [scheduler]
currency: USD
zone: America/Chicago
effective: {from: 2026-02-01}
rules:
- {id: share, kind: share, of: sale.paid, class: marketplace, platform: {rate: 15%}}
- {id: calls, kind: usage_fee, meter: api_calls, class: api, price: {model: per_unit, unit: 0.001}}
`)
}

// world is a catalogue in memory with the tools to change it.
type world struct {
	*testing.T
	store *cataloguetest.Memory
	catalogue.Catalogue
	at time.Time
}

func newWorld(t *testing.T, docs ...string) *world {
	store := &cataloguetest.Memory{}
	w := &world{t, store, catalogue.Catalogue{Store: store}, day1}
	for _, d := range docs {
		w.apply(d)
	}
	return w
}

func (w *world) plan(text string) (catalogue.Changes, error) {
	return w.Plan(w.Context(), catalogue.Parse("t.yaml", []byte(text)))
}

func (w *world) apply(text string) []catalogue.Version {
	w.Helper()
	changes, err := w.plan(text)
	if err != nil {
		w.Fatal(err)
	}
	vs, err := w.Apply(w.Context(), changes, ada, w.at)
	if err != nil {
		w.Fatal(err)
	}
	return vs
}

// agree brings a version into force.
func (w *world) agree(v catalogue.Version) catalogue.Version {
	w.Helper()
	people := []catalogue.Person{grace}
	if v.Corrects > 0 {
		people = append(people, linus)
	}
	for _, p := range people {
		if _, err := w.Approve(w.Context(), v.Ref, p, w.at.Add(time.Minute)); err != nil {
			w.Fatal(err)
		}
	}
	v, err := w.Accept(w.Context(), v.Ref, catalogue.Acceptance{By: nora, At: w.at.Add(2 * time.Minute)})
	if err != nil {
		w.Fatal(err)
	}
	return v
}

func (w *world) snapshot(on string) *catalogue.Snapshot {
	w.Helper()
	d, err := period.ParseDate(on)
	if err != nil {
		w.Fatal(err)
	}
	s, err := w.At(w.Context(), d, time.Time{})
	if err != nil {
		w.Fatal(err)
	}
	return s
}

func (w *world) wantProblem(text, want string) {
	w.Helper()
	_, err := w.plan(text)
	var ps *catalogue.Problems
	if !errors.As(err, &ps) {
		w.Fatalf("got %v, want %s", err, want)
	}
	if !slices.Contains(strings.Split(err.Error(), "\n"), want) {
		w.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func (w *world) wantRefused(err error, want string) {
	w.Helper()
	if !errors.Is(err, catalogue.ErrRefused) || err.Error() != want {
		w.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestPlanInWords(t *testing.T) {
	w := newWorld(t, base)
	w.agree(w.apply(contract())[0])
	changes, err := w.plan(strings.NewReplacer("tier: build", "tier: grow", "rate: \"1.18\"", "rate: 1.19", "name: Notes}", "name: Notes}\n- {id: drafts, partner: quill, name: Drafts, certification_tier: 2}").Replace(base) +
		"---\npartner: quill\nname: Quill Works\neffective: 2026-07-01\n---\n" +
		contract("2026-02-01", "2026-03-15", "15%", "12.5%", "unit: 0.001", "unit: 0.0005"))
	if err != nil {
		t.Fatal(err)
	}
	want := `1 added, 4 changed, 9 unchanged

+ app drafts, version 1, from the beginning   (t.yaml:20)

~ partner northwind, version 2, from the day it is recorded   (t.yaml:9)
    tier: build → grow

~ partner quill, version 2, from 2026-07-01   (t.yaml:41)
    name: Quill → Quill Works
    effective: (none) → 2026-07-01

~ contract sched, version 2, from 2026-03-15   (t.yaml:45)
    effective.from: 2026-02-01 → 2026-03-15
    rules[calls].price.unit: 0.001 → 0.0005
    rules[share].platform.rate: 15% → 12.5%
  ! needs approval by another person and the partner's acceptance before 2026-03-15 00:00 America/Chicago

~ FX table ecb, version 2   (t.yaml:34)
    rates[2026-10-30 EUR to USD].rate: 1.18 → 1.19
`
	if got := changes.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	text, err := json.Marshal(changes)
	if err != nil || !strings.Contains(string(text), `{"field":"tier","old":"build","new":"grow"}`) {
		t.Errorf("as JSON: %s, %v", text, err)
	}
	if again, err := w.plan(base + "---\n" + contract()); err != nil || !again.IsEmpty() {
		t.Errorf("the same documents again: %v, %v", again, err)
	}
}

func TestApply(t *testing.T) {
	w := newWorld(t)
	changes, err := w.plan(base)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Apply(t.Context(), changes, catalogue.Person{}, day1); err == nil || err.Error() != "apply: no author is named; say who proposes the change" {
		t.Errorf("no author: %v", err)
	}
	for range 2 { // the answer of the first was lost
		if _, err := w.Apply(t.Context(), changes, ada, day1); err != nil {
			t.Fatal(err)
		}
	}
	late, err := w.plan(strings.Replace(base, "name: Quill", "name: Quill Works", 1))
	if err != nil {
		t.Fatal(err)
	}
	w.apply("partner: quill\nname: Quill & Sons\n")
	if _, err := w.Apply(t.Context(), late, ada, day1); !errors.Is(err, catalogue.ErrConflict) ||
		!strings.HasSuffix(err.Error(), "the catalogue was changed in between; look at it again and repeat") {
		t.Errorf("a plan that is out of date: %v", err)
	}
}

func TestReferences(t *testing.T) {
	w := newWorld(t, base)
	w.wantProblem("app: x\npartner: northwnd\nname: X\n", `t.yaml:2:10: partner: no partner is called northwnd; did you mean northwind?`)
	w.wantProblem("referral_code: AB\npartner: somebody-else\n", `t.yaml:2:10: partner: no partner is called somebody-else; known are northwind, quill`)
	w.wantProblem(contract("[scheduler]", "[sheduler]"), `t.yaml:3:8: apps: no app is called sheduler; did you mean scheduler?`)
	w.wantProblem(contract("meter: api_calls", "meter: calls"), `t.yaml:9:39: rules[1].meter: no meter is called calls; known are api_calls`)
	w.wantProblem(contract("apps: [scheduler]\n", "processor: strpe\napps: [scheduler]\n"), `t.yaml:3:12: processor: the marketplace has no processor called strpe; did you mean stripe?`)
	w.wantProblem(contract()+"- {id: ref, kind: referral, from: partner, to: zeta, flat: 75.00}\n", `t.yaml:10:48: rules[2].to: no partner is called zeta; known are northwind, quill`)
	w.wantProblem(contract()+"- {id: ref, kind: split, to: {zeta: 10%}}\n", `t.yaml:10:31: rules[2].to: no partner is called zeta; known are northwind, quill`)
	w.wantProblem(contract()+"- {id: u, kind: usage_fee, meter: api_calls, quantity: {as: weighted, less: gone}, price: {model: per_unit, unit: 1}}\n", `t.yaml:10:77: rules[2].quantity.less: no meter is called gone; known are api_calls`)
	w.wantProblem(contract()+"- {id: u, kind: usage_fee, price: {model: capacity, steps: [{limits: {seats: 5}, price: 1.00}, {price: 2.00}]}}\n", `t.yaml:10:71: rules[2].price.steps[0].limits: no meter is called seats; known are api_calls`)
	w.wantProblem(contract("[scheduler]", "[scheduler, notes]"), `t.yaml:8:4: rules[0]: shares the sales of app notes, which is quill's and not northwind's; put the rule into a contract with quill`)
	w.wantProblem("marketplace: other\nname: O\nzone: UTC\ncurrency: USD\ncontact: a@b.example\nclose: {lag: 1 day}\n",
		`t.yaml:1:14: marketplace: there is a marketplace already, meridian-us; keep its ID, or run another entity on a store of its own`)
	w.wantProblem(contract("partner: northwind", "partner: nrthwind")+"---\npartner: p\n", `t.yaml:11:1: name: is missing; write name: name on statements`) // all together
}

// TestIdleClause: new terms that ask for what nothing does are refused; terms that
// were recorded before that stay what they are.
func TestIdleClause(t *testing.T) {
	const clause = "effective: {from: 2026-02-01}\npayout: {minimum: 25.00, setoff: %t}"
	with := func(setoff bool) string {
		return contract("effective: {from: 2026-02-01}", fmt.Sprintf(clause, setoff))
	}
	w := newWorld(t, base)
	w.wantProblem("# terms\n---\n"+with(true), "t.yaml:9:34: payout.setoff: nothing is set off: we collect all that customers pay under this contract, and what the partner owes "+
		"meets its next sales on the same account; leave it out or write false; what is owed on that account is carried forward in any case")
	v := w.apply(with(false))[0]

	old := newWorld(t, base)
	v.Document = strings.Replace(v.Document, "setoff: false", "setoff: true", 1)
	v.Content = []byte(strings.Replace(string(v.Content), `"setoff":false`, `"setoff":true`, 1))
	v.Digest = digestOf(v)
	head, err := old.store.CatalogueHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := old.store.RecordVersions(t.Context(), head, []catalogue.Version{v}); err != nil {
		t.Fatal(err)
	}
	old.agree(v)
	if changes, err := old.plan(with(true)); err != nil || !changes.IsEmpty() {
		t.Errorf("the same document again: %v, %v", changes, err)
	}
	if s := old.snapshot("2026-03-01"); len(s.Contracts()) != 1 {
		t.Errorf("contracts in force: %v", s.Contracts())
	}
	old.wantProblem(contract("effective: {from: 2026-02-01}", "effective: {from: 2026-05-01}\npayout: {setoff: true}"),
		"t.yaml:7:18: payout.setoff: nothing is set off: we collect all that customers pay under this contract, and what the partner owes "+
			"meets its next sales on the same account; leave it out or write false; what is owed on that account is carried forward in any case")
}

// digestOf is the digest of a version, made apart from the code.
func digestOf(v catalogue.Version) string {
	h := sha256.New()
	for _, part := range []string{"mete catalogue 1", string(v.Kind), v.ID, string(v.Content)} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// TestCodesOfThePlatform: a code may be ours, so that a contract can pay us for
// customers; nothing else is the platform's.
func TestCodesOfThePlatform(t *testing.T) {
	w := newWorld(t, base)
	w.apply("referral_code: OURS-1\npartner: platform\n")
	if c := w.snapshot("2026-03-01").Codes["OURS-1"]; c.Partner != partner.Platform {
		t.Errorf("the code is of %q", c.Partner)
	}
	w.wantProblem("referral_code: OURS-2\npartner: partner\n", "t.yaml:2:10: partner: partner is a word that contracts use, no partner may be called so; write a partner's identifier, or platform, such as northwind")
	w.wantProblem("app: ours\npartner: platform\nname: Ours\n", "t.yaml:2:10: partner: platform is a word that contracts use, no partner may be called so; write a partner's identifier of lower-case letters, digits and '-', at most 63 characters, such as northwind")
}

// specific is a contract of northwind's that shares the sales of a deal or a customer.
func specific(id, of string) string {
	return "contract: " + id + "\npartner: northwind\n" + of + `
currency: USD
zone: America/Chicago
effective: {from: 2026-02-01}
rules:
- {id: share, kind: share, of: sale.paid, class: marketplace, platform: {rate: 5%}}
`
}

func TestOverlappingShares(t *testing.T) {
	w := newWorld(t, base)
	w.agree(w.apply(contract())[0])
	other := func(more ...string) string {
		return contract(append([]string{"contract: sched", "contract: other", "meter: api_calls, ", "of: sale.paid, ", "model: per_unit, unit: 0.001", "model: percentage, rate: 1%"}, more...)...)
	}
	both := "t.yaml:8:1: rules: contracts other (rule share) and sched (rule share) of northwind both share the sales of app scheduler, class marketplace, from %s on; " +
		"one sale has one share rule: name other apps or classes, end one contract before the other begins, or make one for a deal or a customer"
	w.wantProblem(other(), fmt.Sprintf(both, "2026-02-01"))
	w.wantProblem(other("2026-02-01", "2026-05-01"), fmt.Sprintf(both, "2026-05-01"))
	w.wantProblem(other("class: marketplace, ", ""), fmt.Sprintf(both, "2026-02-01")) // every class, hence that one too
	for name, text := range map[string]string{
		"another app":       other("[scheduler]", "[reminders]"),
		"all apps":          other("apps: [scheduler]\n", ""), // yields to the contract that names the app
		"a deal":            specific("other", "deal: D-1"),   // goes before it
		"a customer":        "customer: lakeside\nname: Lakeside\n---\n" + specific("other", "customer: lakeside") + "---\n" + specific("third", "deal: D-2"),
		"another class":     other("class: marketplace", "class: value_added"),
		"another currency":  other("currency: USD", "currency: EUR"),
		"before":            other("from: 2026-02-01", "from: 2026-01-01, until: 2026-02-01"),
		"its next version":  contract("2026-02-01", "2026-06-01"),
		"no share of sales": other("platform: {rate: 15%}", "platform: {rate: 15%}", "[scheduler]", "[reminders]"),
	} {
		if _, err := w.plan(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.wantProblem(specific("first", "customer: nobody"), "t.yaml:3:11: customer: no customer is called nobody; describe it in a document of its own")
	for field, of := range map[string]string{"deal: D-1": "in deal D-1", "customer: lakeside": "to customer lakeside"} {
		w.wantProblem("customer: lakeside\nname: Lakeside\n---\n"+specific("first", field)+"---\n"+specific("again", field),
			"t.yaml:11:1: rules: contracts first (rule share) and again (rule share) of northwind both share the sales of all its apps "+of+", class marketplace, from 2026-02-01 on; "+
				"one sale has one share rule: name other apps or classes, end one contract before the other begins, or make one for a deal or a customer")
	}
}

func TestDecisions(t *testing.T) {
	w := newWorld(t, base)
	v := w.apply(contract())[0]
	ctx := t.Context()
	later := day1.Add(time.Hour)
	_, err := w.Approve(ctx, v.Ref, ada, later)
	w.wantRefused(err, "approve contract sched version 1: ada is its author, and nobody approves their own proposal; ask another person")
	_, err = w.Approve(ctx, v.Ref, catalogue.Person{}, later)
	w.wantRefused(err, "approve contract sched version 1: nobody is named; say who decides")
	_, err = w.Accept(ctx, v.Ref, catalogue.Acceptance{By: nora, At: later})
	w.wantRefused(err, "accept contract sched version 1: it is not approved yet (0 of 1 approvals); approve it first")
	seen := v.Ref
	seen.Digest = "something else"
	_, err = w.Approve(ctx, seen, grace, later)
	w.wantRefused(err, "approve contract sched version 1: it says something else than what you saw; look at it again")
	_, err = w.Approve(ctx, v.Ref, grace, day1.Add(-time.Hour))
	w.wantRefused(err, "approve contract sched version 1: it was recorded at 2026-01-02T15:00:00Z, after the decision; check the time")
	_, err = w.Approve(ctx, catalogue.Ref{Kind: catalogue.KindPartner, ID: "quill", Number: 1}, grace, later)
	w.wantRefused(err, "approve partner quill version 1: only contracts are decided on; what is no contract is in force once applied")
	if _, err = w.Approve(ctx, catalogue.Ref{Kind: catalogue.KindContract, ID: "sched", Number: 7}, grace, later); !errors.Is(err, catalogue.ErrUnknown) ||
		err.Error() != "approve contract sched version 7: no such version in the catalogue" {
		t.Errorf("no such version: %v", err)
	}
	_, err = w.Reject(ctx, v.Ref, grace, "", later)
	w.wantRefused(err, "reject contract sched version 1: no reason is given; say why")

	for range 2 { // said twice is said once
		if v, err = w.Approve(ctx, v.Ref, grace, later); err != nil || v.State != catalogue.Approved || len(v.Decisions) != 1 {
			t.Fatalf("approved: %v, %v", v.State, err)
		}
	}
	_, err = w.Accept(ctx, v.Ref, catalogue.Acceptance{By: nora, At: later.Add(time.Hour), RecordedBy: grace})
	w.wantRefused(err, "accept contract sched version 1: no evidence is given; say where the partner's acceptance can be read, such as a signed document's number")
	_, err = w.Accept(ctx, v.Ref, catalogue.Acceptance{By: nora, At: later.Add(-time.Minute)})
	w.wantRefused(err, "accept contract sched version 1: grace approved it at 2026-01-02T16:00:00Z, after the acceptance; check the time")
	_, err = w.Accept(ctx, v.Ref, catalogue.Acceptance{By: ada, At: later.Add(time.Hour), RecordedBy: grace, Evidence: "DocuSign 114"})
	w.wantRefused(err, "accept contract sched version 1: ada is its author, and the partner accepts; name the person at the partner")
	_, err = w.Accept(ctx, v.Ref, catalogue.Acceptance{By: grace, At: later.Add(time.Hour), Evidence: "DocuSign 114"})
	w.wantRefused(err, "accept contract sched version 1: grace approved it inside, and the partner accepts; name the person at the partner")
	v, err = w.Accept(ctx, v.Ref, catalogue.Acceptance{By: nora, At: later.Add(time.Hour), RecordedBy: grace, RecordedAt: later.Add(2 * time.Hour), Evidence: "DocuSign 114"})
	if err != nil || v.State != catalogue.Accepted {
		t.Fatalf("accepted: %v, %v", v.State, err)
	}
	if d := v.Decisions[1]; d.By != nora || d.RecordedBy != grace || d.Text != "DocuSign 114" || len(d.Document) != 64 || d.Digest != v.Digest {
		t.Errorf("decision %+v", d)
	}
	_, err = w.Reject(ctx, v.Ref, linus, "too late", later.Add(3*time.Hour))
	w.wantRefused(err, "reject contract sched version 1: it is accepted already")

	before, err := w.At(ctx, period.Date{Year: 2026, Month: 3, Day: 1}, later.Add(time.Hour)) // accepted by then, but not recorded
	if err != nil || len(before.Contracts()) != 0 {
		t.Errorf("before the acceptance was recorded: %v, %v", before.Contracts(), err)
	}
	if s := w.snapshot("2026-03-01"); len(s.Contracts()) != 1 {
		t.Errorf("contracts %v", s.Contracts())
	}

	// A second proposal for a day takes the place of the first; a rejected one is out.
	w.apply(contract("2026-02-01", "2026-06-01", "15%", "14%"))
	if changes, _ := w.plan(contract("2026-02-01", "2026-06-01", "15%", "13%")); !strings.Contains(changes.String(), "! takes the place of version 2, which was proposed") {
		t.Errorf("changes %v", changes)
	}
	v3 := w.apply(contract("2026-02-01", "2026-06-01", "15%", "13%"))[0]
	if _, err := w.Reject(ctx, v3.Ref, linus, "not agreed", later); err != nil {
		t.Fatal(err)
	}
	w.apply(contract("2026-02-01", "2026-06-01", "15%", "13%")) // anew
	history, err := w.History(ctx, catalogue.KindContract, "sched")
	if err != nil {
		t.Fatal(err)
	}
	var states []catalogue.State
	for _, v := range history {
		states = append(states, v.State)
	}
	if !slices.Equal(states, []catalogue.State{catalogue.Accepted, catalogue.Superseded, catalogue.Rejected, catalogue.Proposed}) {
		t.Errorf("states %v", states)
	}
	open, err := w.Open(ctx)
	if err != nil || len(open) != 1 || open[0].Number != 4 {
		t.Errorf("open %v, %v", open, err)
	}
}

func TestTermsAreNotChangedBackwards(t *testing.T) {
	w := newWorld(t, base)
	ctx := t.Context()
	w.agree(w.apply(contract())[0])
	w.wantProblem(contract("15%", "20%"), "t.yaml:6:19: effective.from: version 1 of sched is in force from 2026-02-01, and terms in force are never edited; "+
		"give the new terms a later effective.from, or write corrects: 1 if version 1 was wrong")
	w.wantProblem("corrects: 4\n"+contract(), "t.yaml:1:11: corrects: version 4 of sched is not in force, there is nothing to correct; name the version in force that was wrong, or leave corrects out")
	w.wantProblem("corrects: 1\n"+contract("from: 2026-02-01", "from: 2026-02-01, until: 2026-06-01"), "t.yaml:7:38: effective.until: the end of version 1 is open, and of this 2026-06-01: a correction keeps it; keep the end; a contract is ended by a later version")
	w.wantProblem("corrects: 1\n"+contract("currency: USD", "currency: USD\nprocessor: stripe"), "t.yaml:6:12: processor: the processor of version 1 is processor, and of this stripe: a correction keeps it; keep it: what was collected lies there; change it by a later version")
	w.wantProblem("corrects: 1\n"+contract()+"- {id: with, kind: split, to: {quill: 30%}}\n", "t.yaml:9:1: rules: they name other partners than version 1 ([], and now [quill]), who would be priced together with this contract in closed months; put the rules with other partners into a later version, and pay for the past by adjustments")
	w.wantProblem("corrects: 1\n"+contract("2026-02-01", "2026-01-01"), "t.yaml:7:19: effective.from: 2026-01-01 lies outside version 1 of sched, which it corrects (from 2026-02-01); begin within the version that was wrong")

	w.at = time.Date(2026, 5, 20, 12, 0, 0, 0, time.UTC)
	v2 := w.apply(contract("2026-02-01", "2026-05-01", "15%", "20%"))[0]
	_, err := w.Approve(ctx, v2.Ref, grace, w.at.Add(time.Hour))
	w.wantRefused(err, "approve contract sched version 2: it begins on 2026-05-01, and it is 2026-05-20 already: terms are not changed backwards; "+
		"propose it with a later effective.from, or, if version 1 was wrong, with corrects: 1 and two approvers")

	// Approved in time, accepted too late.
	v3 := w.apply(contract("2026-02-01", "2026-06-01", "15%", "20%"))[0]
	if _, err := w.Approve(ctx, v3.Ref, grace, w.at.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	_, err = w.Accept(ctx, v3.Ref, catalogue.Acceptance{By: nora, At: time.Date(2026, 6, 1, 5, 0, 0, 0, time.UTC)}) // midnight in Chicago
	w.wantRefused(err, "accept contract sched version 3: it begins on 2026-06-01, and it is 2026-06-01 already: terms are not changed backwards; "+
		"propose it with a later effective.from, or, if version 1 was wrong, with corrects: 1 and two approvers")

	v4 := w.apply("corrects: 1\n" + contract("2026-02-01", "2026-03-01", "15%", "10%"))[0]
	if v4.Corrects != 1 {
		t.Fatalf("corrects %d", v4.Corrects)
	}
	v4, err = w.Approve(ctx, v4.Ref, grace, w.at.Add(time.Hour))
	if err != nil || v4.State != catalogue.Proposed {
		t.Fatalf("after one approval: %v, %v", v4.State, err)
	}
	_, err = w.Accept(ctx, v4.Ref, catalogue.Acceptance{By: nora, At: w.at.Add(time.Hour)})
	w.wantRefused(err, "accept contract sched version 4: it is not approved yet (1 of 2 approvals); approve it first")
	w.at = w.at.Add(2 * time.Hour)
	v4 = w.agree(v4)
	var got []string
	s := w.snapshot("2026-05-31")
	for _, m := range []period.Month{{Year: 2026, Month: 2}, {Year: 2026, Month: 3}} {
		for _, v := range s.ContractsIn(m) {
			got = append(got, fmt.Sprintf("%s %d", m, v.Ref.Number))
			if v.Terms.Version != v.Ref.Number {
				t.Errorf("terms of version %d call themselves %d", v.Ref.Number, v.Terms.Version)
			}
		}
	}
	if !slices.Equal(got, []string{"2026-02 1", "2026-03 4"}) {
		t.Errorf("versions %v", got)
	}
}

func TestVersionsByDate(t *testing.T) {
	w := newWorld(t, base)
	w.at = time.Date(2026, 4, 11, 3, 0, 0, 0, time.UTC) // the 10th in Chicago
	if vs := w.apply("partner: northwind\nname: Northwind\ntier: grow\n"); vs[0].From.String() != "2026-04-10" {
		t.Errorf("from %s, want the day in the marketplace's zone", vs[0].From)
	}
	w.apply("partner: northwind\nname: Northwind\ntier: strategic\neffective: 2026-06-01\n")
	for on, want := range map[string]partner.Tier{"2025-01-01": partner.Build, "2026-04-09": partner.Build, "2026-04-10": partner.Grow,
		"2026-05-31": partner.Grow, "2026-06-01": partner.Strategic} {
		if got := w.snapshot(on).Partners["northwind"].Tier; got != want {
			t.Errorf("on %s: %s, want %s", on, got, want)
		}
	}
	// The whole history in one folder changes nothing, however often it is applied.
	history := "partner: northwind\nname: Northwind\ntier: build\n---\npartner: northwind\nname: Northwind\ntier: grow\neffective: 2026-04-10\n---\n" +
		"partner: northwind\nname: Northwind\ntier: strategic\neffective: 2026-06-01\n"
	if changes, err := w.plan(history); err != nil || !changes.IsEmpty() {
		t.Errorf("%v, %v", changes, err)
	}
	fresh := newWorld(t, strings.Replace(base, "partner: northwind\nname: Northwind\ntier: build\n", history, 1))
	if got := fresh.snapshot("2026-05-01").Partners["northwind"].Tier; got != partner.Grow {
		t.Errorf("on 2026-05-01: %s", got)
	}
	if s, err := w.Current(t.Context()); err != nil || s.Partners["northwind"].Tier != partner.Strategic {
		t.Errorf("current: %v", err)
	}
	early, err := w.At(t.Context(), period.Date{Year: 2026, Month: 7, Day: 1}, day1)
	if err != nil || early.Partners["northwind"].Tier != partner.Build {
		t.Errorf("as recorded on the first day: %v", err)
	}
	if _, err := newWorld(t).At(t.Context(), period.Date{}, time.Time{}); !errors.Is(err, catalogue.ErrNoMarketplace) {
		t.Errorf("empty: %v", err)
	}
}

func TestSnapshot(t *testing.T) {
	w := newWorld(t, base)
	w.agree(w.apply(contract())[0])
	s := w.snapshot("2026-10-31")
	if s.Marketplace.Entity != "meridian-us" || s.Marketplace.Zone.String() != "America/Chicago" || s.Marketplace.CloseLagDays != 3 {
		t.Errorf("marketplace %+v", s.Marketplace)
	}
	d := s.Directory()
	if p, ok := d.Partner("notes"); !ok || p != "quill" {
		t.Errorf("notes belongs to %s", p)
	}
	if !d.Declares(metering.UsageAPI, "region") || d.CheckSource("gateway", "gw") != nil || d.CheckSource("gateway", "eve") == nil {
		t.Error("directory")
	}
	if cal := s.Calendars["us"]; cal.IsBusinessDay(period.Date{Year: 2026, Month: 11, Day: 26}) {
		t.Error("Thanksgiving is a business day")
	}
	if s.Codes["NW-1"].Partner != "northwind" || len(s.CodeList()) != 1 || len(s.MeterList()) != 1 {
		t.Errorf("codes %v", s.Codes)
	}
	v := s.ContractsIn(period.Month{Year: 2026, Month: 2})
	if apps := s.AppsOf(v[0].Terms); !slices.Equal(apps, []partner.AppID{"scheduler"}) {
		t.Errorf("apps %v", apps)
	}
	all := *v[0].Terms
	all.Apps = nil
	if apps := s.AppsOf(&all); !slices.Equal(apps, []partner.AppID{"reminders", "scheduler"}) {
		t.Errorf("apps of a contract that names none: %v", apps)
	}
}

func TestFromRefs(t *testing.T) {
	w := newWorld(t, base)
	v := w.agree(w.apply(contract())[0])
	s := w.snapshot("2026-10-31")
	refs := s.Refs()
	w.apply("partner: quill\nname: Quill Works\n")
	w.at = w.at.AddDate(0, 1, 0)
	w.agree(w.apply(contract("2026-02-01", "2026-10-10", "15%", "10%"))[0])
	if now := w.snapshot("2026-10-31"); now.Digest() == s.Digest() || len(now.ContractsIn(period.Month{Year: 2026, Month: 10})) != 2 {
		t.Error("changes do not show")
	}
	again, err := w.FromRefs(t.Context(), refs)
	if err != nil || again.Digest() != s.Digest() || again.Partners["quill"].Name != "Quill" || len(again.ContractsIn(period.Month{Year: 2026, Month: 10})) != 1 {
		t.Errorf("the same names give another catalogue: %v", err)
	}
	text, _ := json.Marshal(refs)
	var read []catalogue.Ref
	if err := json.Unmarshal(text, &read); err != nil || !slices.Equal(read, refs) {
		t.Errorf("refs do not survive JSON: %v", err)
	}
	gone := append(slices.Clone(refs), catalogue.Ref{Kind: catalogue.KindApp, ID: "nobody", Number: 1})
	if _, err := w.FromRefs(t.Context(), gone); !errors.Is(err, catalogue.ErrUnknown) || !strings.Contains(err.Error(), "app nobody version 1: no such version") {
		t.Errorf("a version that is gone: %v", err)
	}
	quill := refs[slices.IndexFunc(refs, func(r catalogue.Ref) bool { return r.ID == "quill" })]
	for name, change := range map[string]func(){
		"content": func() {
			w.store.Alter(quill, func(v *catalogue.Version) { v.Content = []byte(`{"id":"quill","name":"Quall"}`) })
		},
		"document": func() {
			w.store.Alter(v.Ref, func(v *catalogue.Version) { v.Document = strings.Replace(v.Document, "15%", "1%", 1) })
		},
		"digest": func() { w.store.Alter(quill, func(v *catalogue.Version) { v.Digest = strings.Repeat("0", 64) }) },
	} {
		change()
		if _, err := w.FromRefs(t.Context(), refs); !errors.Is(err, catalogue.ErrAltered) {
			t.Errorf("%s altered: %v", name, err)
		}
		w.store.Alter(quill, func(v *catalogue.Version) {
			v.Content, v.Digest = []byte(`{"id":"quill","name":"Quill"}`), quill.Digest
		})
		w.store.Alter(v.Ref, func(w *catalogue.Version) { w.Document = v.Document })
	}
	if _, err := w.FromRefs(t.Context(), refs); err != nil {
		t.Errorf("put back: %v", err)
	}
}

// A version may move to another zone: no instant is lost or counted twice.
func TestZoneChange(t *testing.T) {
	for _, zones := range [][2]string{{"America/Chicago", "America/New_York"}, {"America/New_York", "America/Chicago"}} {
		for _, from := range []string{"2026-03-01", "2026-03-15"} {
			w := newWorld(t, base)
			w.agree(w.apply(contract("America/Chicago", zones[0]))[0])
			w.agree(w.apply(contract("America/Chicago", zones[1], "2026-02-01", from))[0])
			s := w.snapshot("2026-04-30")
			var end time.Time
			for m := (period.Month{Year: 2026, Month: 2}); m.Compare(period.Month{Year: 2026, Month: 4}) <= 0; m = m.Add(1) {
				for _, v := range s.ContractsIn(m) {
					if !end.IsZero() && !v.Period.Start.Equal(end) {
						t.Errorf("%v from %s: %s begins at %s, the span before ends at %s", zones, from, v.Ref, v.Period.Start, end)
					}
					end = v.Period.End
				}
			}
		}
	}
}

func TestGroups(t *testing.T) {
	docs := base + "---\npartners:\n"
	for _, p := range []string{"alone", "g1", "g2", "payer", "payee"} {
		group := ""
		if strings.HasPrefix(p, "g") {
			group = ", account_group: g"
		}
		docs += fmt.Sprintf("- {id: %s, name: %s%s}\n", p, p, group)
	}
	docs += "---\napps:\n"
	for _, p := range []string{"alone", "g1", "g2", "payer", "payee"} {
		docs += fmt.Sprintf("- {id: app-%s, partner: %s, name: App}\n", p, p)
	}
	of := func(id, p, more string) string {
		return "---\n" + contract("contract: sched", "contract: "+id, "partner: northwind", "partner: "+p, "scheduler", "app-"+p) + more
	}
	docs += of("a-alone", "alone", "") + of("b-g2", "g2", "") + of("c-payer", "payer", "- {id: r, kind: referral, from: partner, to: payee, flat: 75.00}\n") +
		of("d-g1", "g1", "") + of("e-payee", "payee", "")
	w := newWorld(t)
	for _, v := range w.apply(docs) {
		if v.Kind == catalogue.KindContract {
			w.agree(v)
		}
	}
	var got []string
	for _, g := range w.snapshot("2026-03-31").Groups(period.Month{Year: 2026, Month: 3}) {
		var ids []string
		for _, v := range g.Contracts {
			ids = append(ids, v.Ref.ID)
		}
		got = append(got, fmt.Sprintf("%s %v %v", g.ID, ids, g.Partners))
	}
	want := []string{"a-alone [a-alone] [alone]", "b-g2 [b-g2 d-g1] [g1 g2]", "c-payer [c-payer e-payee] [payee payer]"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
