package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"mete/catalogue"
	"mete/period"
	"mete/pricing"
	"mete/pricing/plain"
)

func contractNotifyCommand(e *env) *cobra.Command {
	var number int
	var to, how, on, evidence, form string
	c := act(e, "notify CONTRACT", "Record who was told at the partner of an approved version, and the digest of the term sheet they were given",
		"mete contract notify northwind-agreement --to ops@northwind.example --as k.lee\n"+
			`mete contract notify northwind-agreement --to "Northwind, legal department" --how letter --on 2026-06-12 --evidence "registered letter 4711" --format html --as k.lee`,
		func(ctx context.Context, a *app, by string, args []string) error {
			if err := sheetForm(form); err != nil {
				return err
			}
			day, err := optional(period.ParseDate, "--on", on)
			if err != nil {
				return err
			}
			ref, err := a.toNotify(ctx, args[0], number)
			if err != nil {
				return usageError(err)
			}
			said, err := a.saidVersion(ctx, ref.ID, ref.Number)
			if err != nil {
				return usageError(err)
			}
			sum := sha256.New()
			if err := said.write(sum, form); err != nil {
				return err
			}
			n, err := a.catalogue.Notify(ctx, catalogue.Notification{
				Ref: ref, To: to, How: how, On: day, By: catalogue.Person{Name: by, Unauthenticated: true}, RecordedAt: e.now(), Evidence: evidence,
				Sheet: catalogue.Sheet{Format: form, SHA256: hex.EncodeToString(sum.Sum(nil))},
			})
			if err != nil {
				return usageError(err)
			}
			noticed, err := a.noticed(ctx, e)
			if err != nil {
				return err
			}
			return e.print(n, func(w io.Writer) error {
				if err := writeNotified(w, n); err != nil {
					return err
				}
				return writeNotice(w, "notice      ", noticed(catalogue.Version{Ref: n.Ref}))
			})
		})
	f := c.Flags()
	f.StringVar(&to, "to", "", "who was told at the partner; better an address of a role than of a person")
	f.StringVar(&how, "how", "e-mail", "how they were told")
	f.StringVar(&on, "on", "", "day on which they were told (default today)")
	f.StringVar(&evidence, "evidence", "", "where it can be read that they were told")
	f.StringVar(&form, "format", plain.Markdown, "form of the term sheet they were given, as of contract render: md or html")
	f.IntVar(&number, "version", 0, "version (default: the last that is approved and waits for the partner)")
	required(c, "to", "how")
	return c
}

// writeNotice writes what is said of the notice, if anything is.
func writeNotice(w io.Writer, head, text string) error {
	if text == "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "  %s%s\n", head, text)
	return err
}

// toNotify is the version that the partner is told of: the one of that number, or else
// the last that is approved, or else the one that waits.
func (a *app) toNotify(ctx context.Context, contract string, number int) (catalogue.Ref, error) {
	vs, err := a.catalogue.History(ctx, catalogue.KindContract, contract)
	if err != nil {
		return catalogue.Ref{}, err
	}
	for _, v := range slices.Backward(vs) {
		if number == 0 && v.State == catalogue.Approved {
			return v.Ref, nil
		}
	}
	return a.waiting(ctx, contract, number)
}

// writeNotified says what was recorded, with the digests in full, so that the partner
// can compare.
func writeNotified(w io.Writer, n catalogue.Notification) error {
	_, err := fmt.Fprintf(w, "%s was told of %s version %d by %s on %s, by %s\n  document    SHA-256 %s\n  term sheet  SHA-256 %s, as printed by mete contract render %s --version %d --format %s\n",
		n.To, n.ID, n.Number, n.How, n.On, n.By, n.Document, n.Sheet.SHA256, n.ID, n.Number, n.Sheet.Format)
	return err
}

// toldOf says in a word or two since when the partner knows of a version; "" of one
// that is not approved.
func toldOf(v catalogue.Version) string {
	switch {
	case len(v.Notifications) > 0:
		return "notified on " + v.FirstTold().String()
	case v.State == catalogue.Approved || v.State == catalogue.Accepted:
		return "not notified"
	}
	return ""
}

// noticed says of versions whether the notice is kept that the terms before promised;
// "" where none was.
func (a *app) noticed(ctx context.Context, e *env) (func(catalogue.Version) string, error) {
	b, err := a.beside(ctx, nil)
	if err != nil {
		return nil, err
	}
	today := period.DateOf(e.now(), cmp.Or(b.Market.Zone, time.UTC))
	return func(v catalogue.Version) string {
		for _, s := range b.Contracts {
			if s.Terms.Contract == v.ID && s.Number == v.Number {
				return noticeOf(s, b.Notice(s, today))
			}
		}
		return ""
	}, nil
}

func noticeOf(s catalogue.Standing, n catalogue.Notice) string {
	if n.Days == 0 {
		return ""
	}
	accepted, short := s.State == catalogue.Accepted, n.Short(s.Terms.From)
	text := fmt.Sprintf("%s promised by version %d: ", pricing.Duration{Days: n.Days}, n.Before.Number)
	told := fmt.Sprintf("told on %s, %s before these terms: ", s.Told, pricing.Duration{Days: s.Told.DaysUntil(s.Terms.From)})
	if !s.Told.Before(s.Terms.From) {
		told = fmt.Sprintf("told on %s, not before these terms begin: ", s.Told)
	}
	switch {
	case s.Told.IsZero() && accepted:
		return text + "not notified; waived by the partner's acceptance"
	case s.Told.IsZero() && short:
		return text + fmt.Sprintf("not notified; told today, the partner would have it from %s on; its acceptance waives that", n.Earliest)
	case s.Told.IsZero():
		return text + fmt.Sprintf("notify the partner by %s", s.Terms.From.AddDays(-n.Days))
	case short && accepted:
		return text + told + "short, and waived by the partner's acceptance"
	case short:
		return text + told + fmt.Sprintf("short; the partner has it from %s on, or waives it by its acceptance", n.Earliest)
	}
	return text + told + "kept"
}
