package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mete/catalogue"
	"mete/period"
)

func applyCommand(e *env) *cobra.Command {
	var folder string
	var dry bool
	c := &cobra.Command{
		Use: "apply", Short: "Record the documents of a folder: partners, apps, meters, contracts …",
		Example: "  mete apply -f examples/marketplace --dry-run\n  mete apply -f examples/marketplace --as k.lee", Args: positional,
		RunE: func(c *cobra.Command, _ []string) error {
			return e.withApp(c.Context(), options{begin: true}, func(ctx context.Context, a *app) error {
				docs, err := catalogue.ReadDir(e.path(folder))
				if err != nil {
					return usageError(err)
				}
				ch, err := a.catalogue.Plan(ctx, docs)
				if err != nil {
					return usageError(err)
				}
				if dry || ch.IsEmpty() {
					return e.say(ch, "%s", strings.TrimSpace(ch.String()))
				}
				return a.apply(ctx, e, ch)
			})
		},
	}
	c.Flags().StringVarP(&folder, "file", "f", "", "folder of YAML documents")
	c.Flags().BoolVar(&dry, "dry-run", false, "show what would change, change nothing")
	required(c, "file")
	return c
}

func (a *app) apply(ctx context.Context, e *env, ch catalogue.Changes) error {
	by, err := e.actor()
	if err != nil {
		return err
	}
	vs, err := a.catalogue.Apply(ctx, ch, catalogue.Person{Name: by, Unauthenticated: true}, e.now())
	if err != nil {
		return err
	}
	if err := a.refresh(ctx); err != nil {
		return err
	}
	return e.print(vs, func(w io.Writer) error {
		waiting := 0
		for _, v := range vs {
			if v.State == catalogue.Proposed {
				waiting++
			}
		}
		fmt.Fprintf(w, "%s recorded, %d unchanged\n", things(len(vs), "version"), len(ch.Unchanged))
		if waiting > 0 {
			fmt.Fprintf(w, "%s to be approved by another person: mete contract list\n", things(waiting, "contract"))
		}
		return nil
	})
}

func schemaCommand(e *env) *cobra.Command {
	var names []string
	for _, k := range catalogue.Kinds() {
		names = append(names, string(k))
	}
	return &cobra.Command{
		Use: "schema KIND", Short: "Print the JSON Schema of a kind of document, for editors",
		Example: "  mete schema contract > contract.schema.json", ValidArgs: names,
		Args: positional,
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := catalogue.Schema(catalogue.Kind(args[0]))
			if err != nil {
				return usageError(fmt.Errorf("%w; kinds: %s", err, strings.Join(names, ", ")))
			}
			_, err = e.out.Write(append(b, '\n'))
			return err
		},
	}
}

func contractCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "contract", Short: "Check, approve and accept contracts, who was told; term sheets, changes, history, fee schedules"}
	list := command(e, "list", "List contract versions that wait for a decision", "mete contract list",
		func(ctx context.Context, a *app, _ []string) error {
			vs, err := a.catalogue.Open(ctx)
			if err != nil {
				return err
			}
			return e.print(vs, func(w io.Writer) error { return writeVersions(w, vs) })
		})
	c.AddCommand(list, contractHistoryCommand(e), contractApproveCommand(e), contractNotifyCommand(e), contractAcceptCommand(e),
		contractRejectCommand(e), contractCheckCommand(e), contractOverrideCommand(e), contractScheduleCommand(e), contractRenderCommand(e), contractDiffCommand(e))
	return c
}

func contractApproveCommand(e *env) *cobra.Command {
	var number int
	var digest string
	var counsel counselFlags
	c := act(e, "approve CONTRACT", "Approve the waiting version (another person than its author)", "mete contract approve northwind-agreement --as a.chen",
		func(ctx context.Context, a *app, by string, args []string) error {
			ref, err := a.waiting(ctx, args[0], number)
			if err != nil {
				return usageError(err)
			}
			if digest != "" && !strings.HasPrefix(ref.Digest, digest) {
				return usageError(fmt.Errorf("version %d has the digest %s, not %s: it is not what you read", ref.Number, ref.Digest, digest))
			}
			refs, err := counsel.read()
			if err != nil {
				return err
			}
			v, err := a.catalogue.Approve(ctx, ref, catalogue.Person{Name: by, Unauthenticated: true}, e.now(), refs...)
			return a.decided(ctx, e, v, err)
		})
	c.Flags().StringVar(&digest, "digest", "", "digest of the version that you read")
	counsel.add(c)
	c.Flags().IntVar(&number, "version", 0, versionUsage)
	return c
}

func contractAcceptCommand(e *env) *cobra.Command {
	var number int
	var partnerPerson, evidence, on string
	c := act(e, "accept CONTRACT", "Record that the partner accepted an approved version",
		`mete contract accept northwind-agreement --by "J. Doe, Northwind" --on 2026-06-18 --evidence "signed order form 118" --as k.lee`,
		func(ctx context.Context, a *app, who string, args []string) error {
			ref, err := a.waiting(ctx, args[0], number)
			if err != nil {
				return usageError(err)
			}
			at := e.now()
			if on != "" {
				day, err := typed(period.ParseDate, "--on", on)
				if err != nil {
					return err
				}
				snap, err := a.catalogue.Current(ctx)
				if err != nil {
					return err
				}
				at = day.In(snap.Marketplace.Zone).Add(12 * time.Hour)
			}
			v, err := a.catalogue.Accept(ctx, ref, catalogue.Acceptance{
				By: catalogue.Person{Name: partnerPerson, Unauthenticated: true}, At: at,
				RecordedBy: catalogue.Person{Name: who, Unauthenticated: true}, RecordedAt: e.now(), Evidence: evidence,
			})
			return a.decided(ctx, e, v, err)
		})
	f := c.Flags()
	f.StringVar(&partnerPerson, "by", "", "person at the partner")
	f.StringVar(&on, "on", "", "day of acceptance (default now)")
	f.StringVar(&evidence, "evidence", "", "where the acceptance can be read")
	f.IntVar(&number, "version", 0, versionUsage)
	required(c, "by", "evidence")
	return c
}

func contractRejectCommand(e *env) *cobra.Command {
	var number int
	var reason string
	c := act(e, "reject CONTRACT", "End a version that is not in force yet, with the reason",
		`mete contract reject northwind-agreement --reason "Northwind asks for 12%" --as r.shah`,
		func(ctx context.Context, a *app, by string, args []string) error {
			ref, err := a.waiting(ctx, args[0], number)
			if err != nil {
				return usageError(err)
			}
			v, err := a.catalogue.Reject(ctx, ref, catalogue.Person{Name: by, Unauthenticated: true}, reason, e.now())
			return a.decided(ctx, e, v, err)
		})
	c.Flags().StringVar(&reason, "reason", "", "why")
	c.Flags().IntVar(&number, "version", 0, versionUsage)
	required(c, "reason")
	return c
}

const versionUsage = "version (default: the one that waits)"

// decided tells the outcome of a decision on a contract, once every way in knows it.
func (a *app) decided(ctx context.Context, e *env, v catalogue.Version, err error) error {
	if err != nil {
		return usageError(err)
	}
	if err := a.refresh(ctx); err != nil {
		return err
	}
	noticed, err := a.noticed(ctx, e)
	if err != nil {
		return err
	}
	return e.print(v, func(w io.Writer) error {
		if err := writeVersions(w, []catalogue.Version{v}); err != nil {
			return err
		}
		return writeNotice(w, "notice: ", noticed(v))
	})
}

// waiting is the version of a contract that waits for a decision.
func (a *app) waiting(ctx context.Context, contract string, number int) (catalogue.Ref, error) {
	vs, err := a.catalogue.History(ctx, catalogue.KindContract, contract)
	if err != nil {
		return catalogue.Ref{}, err
	}
	for i := len(vs) - 1; i >= 0; i-- {
		if number == vs[i].Number || number == 0 && (vs[i].State == catalogue.Proposed || vs[i].State == catalogue.Approved) {
			return vs[i].Ref, nil
		}
	}
	if number != 0 {
		return catalogue.Ref{}, fmt.Errorf("%s: %w", catalogue.Ref{Kind: catalogue.KindContract, ID: contract, Number: number}, catalogue.ErrUnknown)
	}
	return vs[len(vs)-1].Ref, nil
}

func writeVersions(w io.Writer, vs []catalogue.Version) error {
	var rows [][]string
	for _, v := range vs {
		var words []string
		for _, d := range v.Decisions {
			words = append(words, fmt.Sprintf("%s by %s on %s", d.Verdict, d.By, d.At.Format(time.DateOnly)))
		}
		if told := toldOf(v); told != "" {
			words = append(words, told)
		}
		rows = append(rows, []string{v.ID, fmt.Sprintf("v%d", v.Number), v.From.String(), string(v.State), v.Author.String(), v.Digest[:12], strings.Join(words, "; ")})
	}
	return table(w, []string{"contract", "", "from", "state", "author", "digest", "decisions"}, rows)
}
