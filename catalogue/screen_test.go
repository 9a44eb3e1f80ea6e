package catalogue_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"mete/catalogue"
	"mete/compliance"
	"mete/period"
)

// certified is base for a marketplace that develops certified API technology.
var certified = strings.Replace(base, "close: {lag: 3 days}", "close: {lag: 3 days}\ncertified_developer: true", 1) +
	"---\ncustomer: lakeside\nname: Lakeside\nhosting: platform\n"

const (
	toCertified = "class: api"
	ofCertified = "class: certified_api"
)

var lex = catalogue.Person{Name: "lex"}

func (w *world) refuses(err error, words ...string) {
	w.Helper()
	if !errors.Is(err, catalogue.ErrRefused) {
		w.Fatalf("%v, want it refused", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			w.Errorf("%v\ndoes not say %q", err, word)
		}
	}
}

func (w *world) override(v catalogue.Version, finding string, by catalogue.Person) error {
	_, err := w.Override(w.Context(), catalogue.Override{Ref: v.Ref, Finding: finding, By: by, Role: catalogue.RoleLegal, Reason: "agreed with ONC, letter 12", At: w.at.Add(time.Minute)})
	return err
}

// A contract with a finding that blocks is refused by the finding's name, until legal
// overrides each and somebody else approves.
func TestBlockedApproval(t *testing.T) {
	w := newWorld(t, certified)
	v := w.apply(contract(toCertified, ofCertified))[0]
	approve := func(by catalogue.Person) (catalogue.Version, error) {
		return w.Approve(t.Context(), v.Ref, by, w.at.Add(time.Hour))
	}
	_, err := approve(grace)
	w.refuses(err, "certified-api-price/calls blocks it", "45 CFR 170.404(a)(3)(i)(A)", "certified-api-cost-basis/calls blocks it", "role legal")

	for _, c := range []struct {
		o    catalogue.Override
		want string
	}{
		{catalogue.Override{Finding: "certified-api-price/calls", By: lex, Role: "finance", Reason: "r"}, `the role "finance" decides nothing`},
		{catalogue.Override{Finding: "certified-api-price/calls", By: lex, Role: "legal", Reason: " "}, "no reason is given"},
		{catalogue.Override{Finding: "certified-api-price/calls", By: ada, Role: "legal", Reason: "r"}, "ada is its author"},
		{catalogue.Override{Finding: "certified-api-price/call", By: lex, Role: "legal", Reason: "r"}, "did you mean certified-api-price/calls?"},
		{catalogue.Override{Finding: "certified-api-price/calls", Role: "legal", Reason: "r"}, "nobody is named"},
		{catalogue.Override{Finding: "certified-api-price/calls", By: lex, Role: "legal", Reason: strings.Repeat("r", 2001)}, "more than 2000"},
	} {
		c.o.Ref, c.o.At = v.Ref, w.at.Add(time.Minute)
		_, err := w.Override(t.Context(), c.o)
		w.refuses(err, c.want)
	}

	if err := w.override(v, "certified-api-price/calls", lex); err != nil {
		t.Fatal(err)
	}
	_, err = approve(grace) // one of two
	w.refuses(err, "certified-api-cost-basis/calls")
	if strings.Contains(err.Error(), "certified-api-price/calls") {
		t.Errorf("what was overridden still blocks: %v", err)
	}
	if err := w.override(v, "certified-api-cost-basis/calls", lex); err != nil {
		t.Fatal(err)
	}
	_, err = approve(lex) // who overrides does not approve
	w.refuses(err, "an override needs a second person")
	got, err := approve(grace)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != catalogue.Approved {
		t.Errorf("state %s", got.State)
	}
	w.refuses(w.override(got, "certified-api-price/calls", linus), "it is approved")

	kept, err := w.History(t.Context(), catalogue.KindContract, "sched")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(kept[0].Overrides); n != 2 || kept[0].Overrides[0].By != lex || kept[0].Overrides[0].Reason != "agreed with ONC, letter 12" {
		t.Errorf("%d overrides %+v", n, kept[0].Overrides)
	}
	s := kept[0].Decisions[0].Screen
	if s == nil || !s.Settings.CertifiedDeveloper || s.Rules != compliance.RulesDigest() || len(s.Findings) != 2 {
		t.Fatalf("kept with the approval: %+v", s)
	}
	for _, f := range s.Findings {
		if f.Override == nil || f.Override.By != "lex" || f.Override.Reason == "" {
			t.Errorf("%s was overridden by %+v", f.ID, f.Override)
		}
	}
}

// Without a finding the approval keeps that nothing was found, and under which settings.
func TestCleanApproval(t *testing.T) {
	w := newWorld(t, certified)
	v := w.agree(w.apply(contract())[0])
	if s := v.Decisions[0].Screen; s == nil || len(s.Findings) != 0 || !s.Settings.CertifiedDeveloper {
		t.Errorf("screen %+v", s)
	}
	if v.Decisions[1].Screen != nil {
		t.Error("an acceptance was screened")
	}
}

const fees = `- {id: listing, kind: fixed_fee, class: listing, due: monthly, amount: 49}
- {id: renewal, kind: fixed_fee, class: certification, due: yearly on 10-15, amount: 250}
`

func TestCounselIsNamed(t *testing.T) {
	w := newWorld(t, certified)
	v := w.apply(contract() + fees)[0]
	day := period.Date{Year: 2026, Month: 1, Day: 1}
	ref := func(finding, counsel, matter string, on period.Date) catalogue.CounselFor {
		return catalogue.CounselFor{Finding: finding, Reference: compliance.Reference{Counsel: counsel, Matter: matter, On: on}}
	}
	listing, renewal := ref("listing-fee/listing", "Hale & Orr", "M-118", day), ref("certification-gate/renewal", "Hale & Orr", "M-119", day)
	for _, c := range []struct {
		refs []catalogue.CounselFor
		want string
	}{
		{nil, "listing-fee/listing needs a reference to counsel"},
		{[]catalogue.CounselFor{listing}, "certification-gate/renewal needs a reference to counsel"},
		{[]catalogue.CounselFor{ref("", "Hale & Orr", "M-118", day)}, "not said for which finding"},
		{[]catalogue.CounselFor{listing, ref("certification-gate/listing", "Hale & Orr", "M-118", day)}, "is no finding that needs counsel"},
		{[]catalogue.CounselFor{listing, ref("certification-gate/renewal", "", "M-118", day)}, "no counsel is named"},
		{[]catalogue.CounselFor{listing, ref("certification-gate/renewal", "Hale & Orr", "", day)}, "no matter is named"},
		{[]catalogue.CounselFor{listing, ref("certification-gate/renewal", "Hale & Orr", "M-118", period.Date{})}, "no date is given"},
		{[]catalogue.CounselFor{listing, ref("certification-gate/renewal", "Hale & Orr", "M-118", day.AddDays(30))}, "after the approval"},
		{[]catalogue.CounselFor{listing, ref("certification-gate/renewal", strings.Repeat("we advise ", 20), "M-118", day)}, "never the advice"},
	} {
		_, err := w.Approve(t.Context(), v.Ref, grace, w.at.Add(time.Hour), c.refs...)
		w.refuses(err, c.want)
	}
	v, err := w.Approve(t.Context(), v.Ref, grace, w.at.Add(time.Hour), listing, renewal)
	if err != nil {
		t.Fatal(err)
	}
	f := v.Decisions[0].Screen.Find("listing-fee/listing")
	if f == nil || f.Counsel == nil || f.Counsel.Matter != "M-118" || f.Counsel.By != "grace" || f.Counsel.On != day {
		t.Errorf("kept %+v", f)
	}
}

// The only finding that needs counsel need not be named, and a second approver need not
// repeat the reference of the first.
func TestCounselOfTheFirstApprover(t *testing.T) {
	w := newWorld(t, certified)
	w.agree(w.apply(contract())[0])
	w.at = w.at.AddDate(0, 2, 0)
	v := w.apply("corrects: 1\n" + contract("rate: 15%", "rate: 14%", "class: api", "class: value_added, certified_access: required"))[0]
	_, err := w.Approve(t.Context(), v.Ref, grace, w.at.Add(time.Hour))
	w.refuses(err, "retroactive-terms blocks it", "calls changes in a way that cannot be shown")
	v = w.apply("corrects: 1\n" + contract("rate: 15%", "rate: 14%", "class: marketplace,", "class: marketplace, certified_access: required,"))[0]
	at := period.DateOf(w.at, time.UTC)
	if v, err = w.Approve(t.Context(), v.Ref, grace, w.at.Add(time.Hour), catalogue.CounselFor{Reference: compliance.Reference{Counsel: "Hale & Orr", Matter: "M-7", On: at}}); err != nil {
		t.Fatal(err)
	}
	if v, err = w.Approve(t.Context(), v.Ref, linus, w.at.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if f := v.Decisions[1].Screen.Find("certification-gate/share"); v.State != catalogue.Approved || f == nil || f.Counsel == nil || f.Counsel.By != "grace" {
		t.Errorf("%s, %+v", v.State, f)
	}
}

// A correction that takes is refused, one that gives back is not.
func TestRetroactiveApproval(t *testing.T) {
	for rate, want := range map[string]string{"16%": "retroactive-terms blocks it", "14%": ""} {
		w := newWorld(t, certified)
		w.agree(w.apply(contract())[0])
		w.at = w.at.AddDate(0, 2, 0)
		v := w.apply("corrects: 1\n" + contract("rate: 15%", "rate: "+rate))[0]
		_, err := w.Approve(t.Context(), v.Ref, grace, w.at.Add(time.Hour))
		if want != "" {
			w.refuses(err, want, "version 1 was in force")
		} else if err != nil {
			t.Errorf("%s: %v", rate, err)
		}
	}
}

// A correction is held against what counts on its days, which may be a correction too,
// whichever version it names.
func TestRetroactiveAgainstACorrection(t *testing.T) {
	w := newWorld(t, certified)
	w.agree(w.apply(contract())[0])
	w.at = w.at.AddDate(0, 2, 0)
	w.agree(w.apply("corrects: 1\n" + contract("rate: 15%", "rate: 13%"))[0])
	for _, c := range []struct {
		text string
		want bool
	}{
		{"corrects: 1\n" + contract("rate: 15%", "rate: 14%", "2026-02-01", "2026-02-10"), true}, // less than 15%, and 13% counts
		{"corrects: 2\n" + contract("rate: 15%", "rate: 12%"), false},
	} {
		docs := catalogue.Parse("c.yaml", []byte(c.text))
		got, err := w.ScreenDocuments(t.Context(), docs, w.at)
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		if f := got[0].Find("retroactive-terms"); (f != nil) != c.want {
			t.Errorf("%s found %+v", c.text, got[0].Findings)
		}
	}
}

// A folder is screened beside what is recorded; a finding names the line of the file.
func TestScreenDocuments(t *testing.T) {
	w := newWorld(t, certified)
	quill := strings.NewReplacer("contract: sched", "contract: notes", "partner: northwind", "partner: quill", "[scheduler]", "[notes]", "{id: calls,", "{id: api,").Replace(contract())
	w.agree(w.apply(quill)[0])
	text := "# two documents\ncustomer: harbor\nname: Harbor\n---\n" + contract("rate: 15%", "rate: 20%", toCertified, ofCertified)
	got, err := w.ScreenDocuments(t.Context(), catalogue.Parse("all.yaml", []byte(text)), w.at)
	if err != nil || len(got) != 1 {
		t.Fatalf("%d screened, %v", len(got), err)
	}
	var ids []string
	for _, f := range got[0].Findings {
		ids = append(ids, f.ID)
		if line := strings.Split(text, "\n")[f.Line-1]; !strings.Contains(line, "id: "+f.ContractRule) {
			t.Errorf("%s is said to stand at line %d: %s", f.ID, f.Line, line)
		}
	}
	want := []string{"certified-api-price/calls", "certified-api-cost-basis/calls", "unequal-rates/share"}
	if !slices.Equal(ids, want) || got[0].File != "all.yaml" || got[0].Version != 0 {
		t.Errorf("%s version %d: %q, want %q", got[0].File, got[0].Version, ids, want)
	}

	// Alone the documents have no settings, so nothing of it applies.
	alone, err := catalogue.Parse("all.yaml", []byte(text)).Screen(w.at)
	if err != nil || len(alone) != 1 || len(alone[0].Findings) != 0 {
		t.Errorf("alone: %+v, %v", alone, err)
	}
	with, err := catalogue.Parse("all.yaml", []byte(certified+"---\n"+text)).Screen(w.at)
	if err != nil || len(with) != 1 || len(with[0].Findings) != 2 {
		t.Errorf("with the marketplace: %+v, %v", with, err)
	}
}

// Terms in force are judged as of their approval: a second version is no change
// backwards only because the day has come.
func TestApprovedTermsAreJudgedThen(t *testing.T) {
	w := newWorld(t, certified)
	w.agree(w.apply(contract())[0])
	second := contract("2026-02-01", "2026-03-01", "rate: 15%", "rate: 18%")
	v := w.agree(w.apply(second)[0])
	w.at = w.at.AddDate(0, 6, 0)
	s, err := w.ScreenVersion(t.Context(), v, w.at)
	if err != nil || len(s.Findings) != 0 {
		t.Errorf("version: %+v, %v", s.Findings, err)
	}
	docs, err := w.ScreenDocuments(t.Context(), catalogue.Parse("c.yaml", []byte(second)), w.at)
	if err != nil || len(docs) != 1 || docs[0].Version != 2 || len(docs[0].Findings) != 0 {
		t.Errorf("document: %+v, %v", docs, err)
	}
	late, err := w.ScreenDocuments(t.Context(), catalogue.Parse("c.yaml", []byte(contract("2026-02-01", "2026-04-01", "rate: 15%", "rate: 19%"))), w.at)
	if err != nil || late[0].Find("retroactive-terms") == nil {
		t.Errorf("a third version that begins in April, in July: %+v, %v", late, err)
	}
}

// The fields that only the screen reads leave documents without them what they were.
func TestScreenFieldsChangeNoDigest(t *testing.T) {
	w := newWorld(t, base)
	snap, err := w.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		"marketplace meridian-us": "1770108d991a4890c18bf3e94ff2d4889cf6210ac8754fb35fba86bf1c9557f4", "partner northwind": "5ba651ff788f0fdce6958cdd5282c488a6eccdd0fc3797cb0219fd5b5ecc22d8", "app scheduler": "6c56e00fb45fe6f7aee92ded5272bc62a32588fd0be80216d842f8a6e7afafe5",
	} {
		i := slices.IndexFunc(snap.Refs(), func(r catalogue.Ref) bool { return strings.HasPrefix(r.String(), ref+" ") })
		if got := snap.Refs()[i].Digest; got != want {
			t.Errorf("%s has the digest %s, and had %s", ref, got, want)
		}
	}
	if got := w.apply(contract())[0].Digest; got != "e0dba0276f5a78353c83d9afb15f28d194980e48ec8f850dbe6b07f716102a7d" {
		t.Errorf("the contract has the digest %s", got)
	}
}
