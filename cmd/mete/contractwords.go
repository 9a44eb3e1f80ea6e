package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"mete/catalogue"
	"mete/pricing"
	"mete/pricing/plain"
)

// saidTerms is terms that are put into words: of a version or of a document.
type saidTerms struct {
	terms  *pricing.Terms
	names  plain.Names
	origin string // for people: which version or document it is
}

// write writes the term sheet. Its bytes are what a notification names.
func (s saidTerms) write(w io.Writer, form string) error {
	return plain.Of(s.terms, s.names).Write(w, form, s.origin+" "+renderNote)
}

// sheetForm refuses a form that no term sheet has.
func sheetForm(form string) error {
	if form != plain.Markdown && form != plain.HTML {
		return usageError(fmt.Errorf("--format %q: want %s or %s", form, plain.Markdown, plain.HTML))
	}
	return nil
}

// renderNote says what a term sheet is, and what counts.
const renderNote = "These words are made from the contract's document, which alone counts where the two differ."

func contractRenderCommand(e *env) *cobra.Command {
	var number int
	var form string
	c := &cobra.Command{
		Use: "render FILE|CONTRACT", Short: "Print the term sheet of a contract in plain language, as Markdown or HTML", Args: positional,
		Example: "  mete contract render northwind-agreement --format html > northwind.html\n  mete contract render contracts/northwind.yaml",
		RunE: func(c *cobra.Command, args []string) error {
			if err := sheetForm(form); err != nil {
				return err
			}
			return e.withTerms(c.Context(), args, func(ctx context.Context, a *app, docs *catalogue.Documents) error {
				said, err := e.said(ctx, a, docs, args[0], number)
				if err != nil {
					return usageError(err)
				}
				return e.print(plain.Of(said.terms, said.names), func(w io.Writer) error { return said.write(w, form) })
			})
		},
	}
	c.Flags().IntVar(&number, "version", 0, "version (default: the one that waits, or else the last)")
	c.Flags().StringVar(&form, "format", plain.Markdown, "md or html")
	return c
}

// withTerms reads the documents that the first word names, if it names any, and opens
// the data folder if there is one or if it is needed.
func (e *env) withTerms(ctx context.Context, words []string, fn func(ctx context.Context, a *app, docs *catalogue.Documents) error) error {
	docs, err := e.documents(words[0])
	if err != nil {
		return usageError(err)
	}
	if docs != nil {
		if err := docs.Check(); err != nil {
			return usageError(err)
		}
		if e.app == nil && !isDataFolder(e.path(e.dir)) {
			return fn(ctx, nil, docs)
		}
	}
	return e.withApp(ctx, options{}, func(ctx context.Context, a *app) error { return fn(ctx, a, docs) })
}

// said is the terms of the one contract in the documents, or of a recorded version.
func (e *env) said(ctx context.Context, a *app, docs *catalogue.Documents, word string, number int) (saidTerms, error) {
	if docs == nil {
		return a.saidVersion(ctx, word, number)
	}
	if number != 0 {
		return saidTerms{}, fmt.Errorf("--version %d: a version is of a recorded contract, and %s is a document", number, word)
	}
	var found []*pricing.Terms
	for _, o := range docs.Objects {
		if o.Terms != nil {
			found = append(found, o.Terms)
		}
	}
	if len(found) != 1 {
		return saidTerms{}, fmt.Errorf("%s holds %d contracts; name a file that holds one, or a recorded contract", word, len(found))
	}
	beside, err := a.beside(ctx, docs)
	if err != nil {
		return saidTerms{}, err
	}
	return saidTerms{found[0], namesOf(beside), "Of a document, " + word + "."}, nil
}

// saidVersion is one version of a recorded contract; 0 is the one that waits for a
// decision, or else the last.
func (a *app) saidVersion(ctx context.Context, contract string, number int) (saidTerms, error) {
	if number == 0 {
		v, err := a.waitingVersion(ctx, contract)
		if err != nil {
			return saidTerms{}, err
		}
		number = v.Number
	}
	v, terms, err := a.catalogue.TermsOf(ctx, contract, number)
	if err != nil {
		return saidTerms{}, err
	}
	beside, err := a.beside(ctx, nil)
	if err != nil {
		return saidTerms{}, err
	}
	return saidTerms{terms, namesOf(beside), originOf(v)}, nil
}

// originOf names a version on its term sheet. Of an approved one the sheet stays the
// same when the partner accepts it, so that what the partner was given and what is
// printed later can be compared.
func originOf(v catalogue.Version) string {
	state := ", " + string(v.State)
	if v.State == catalogue.Approved || v.State == catalogue.Accepted {
		state = ""
	}
	return fmt.Sprintf("Version %d%s; digest %s.", v.Number, state, v.Digest)
}

// beside is what contracts stand beside: documents, and what is recorded if a data
// folder is open.
func (a *app) beside(ctx context.Context, docs *catalogue.Documents) (catalogue.Beside, error) {
	if docs == nil {
		docs = &catalogue.Documents{}
	}
	if a == nil {
		return docs.Beside()
	}
	return a.catalogue.Beside(ctx, *docs)
}

func namesOf(b catalogue.Beside) plain.Names {
	n := b.Facts.Names()
	n.Marketplace = b.Market.Name
	return n
}

func contractDiffCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "diff CONTRACT|OLD.yaml [FROM|NEW.yaml] [TO]", Short: "Say in words what changes between two versions, or two files, of a contract", Args: positional,
		Example: "  mete contract diff northwind-agreement\n  mete contract diff northwind-agreement 1 3\n  mete contract diff old.yaml new.yaml --json",
		RunE: func(c *cobra.Command, args []string) error {
			return e.withTerms(c.Context(), args, func(ctx context.Context, a *app, docs *catalogue.Documents) error {
				was, is, err := e.compared(ctx, a, docs, args)
				if err != nil {
					return usageError(err)
				}
				d := plain.Diff(was.terms, is.terms, is.names)
				return e.print(d, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s: %s → %s\n%s", d.Contract, was.origin, is.origin, d)
					return err
				})
			})
		},
	}
}

// compared are the two terms that the words name.
func (e *env) compared(ctx context.Context, a *app, docs *catalogue.Documents, words []string) (was, is saidTerms, err error) {
	if docs == nil {
		return a.comparedVersions(ctx, words)
	}
	if len(words) != 2 {
		return was, is, fmt.Errorf("name the later document, too: contract diff %s NEW.yaml", words[0])
	}
	if was, err = e.said(ctx, a, docs, words[0], 0); err != nil {
		return was, is, err
	}
	later, err := e.documents(words[1])
	if err != nil {
		return was, is, err
	}
	if later == nil {
		return was, is, fmt.Errorf("%s: no such file", words[1])
	}
	if err := later.Check(); err != nil {
		return was, is, err
	}
	is, err = e.said(ctx, a, later, words[1], 0)
	was.origin, is.origin = words[0], words[1]
	return was, is, err
}

// comparedVersions are two versions of a recorded contract: those named, or else the
// last two that were not rejected or superseded.
func (a *app) comparedVersions(ctx context.Context, words []string) (was, is saidTerms, err error) {
	vs, err := a.catalogue.History(ctx, catalogue.KindContract, words[0])
	if err != nil {
		return was, is, err
	}
	live := slices.DeleteFunc(slices.Clone(vs), func(v catalogue.Version) bool {
		return v.State == catalogue.Rejected || v.State == catalogue.Superseded
	})
	slices.SortStableFunc(live, func(x, y catalogue.Version) int {
		return cmp.Or(x.From.Compare(y.From), cmp.Compare(x.Number, y.Number))
	})
	var numbers []int
	for _, w := range words[1:] {
		n, err := versionNumber(w)
		if err != nil {
			return was, is, err
		}
		numbers = append(numbers, n)
	}
	switch len(numbers) {
	case 0:
		if len(live) < 2 {
			return was, is, fmt.Errorf("%s has %d version in force or proposed, nothing to compare; name two: contract diff %s FROM TO", words[0], len(live), words[0])
		}
		numbers = []int{live[len(live)-2].Number, live[len(live)-1].Number}
	case 1:
		if len(live) == 0 {
			return was, is, fmt.Errorf("%s has no version in force or proposed; name two: contract diff %s FROM TO", words[0], words[0])
		}
		numbers = append(numbers, live[len(live)-1].Number)
	}
	if was, err = a.saidVersion(ctx, words[0], numbers[0]); err != nil {
		return was, is, err
	}
	is, err = a.saidVersion(ctx, words[0], numbers[1])
	was.origin, is.origin = fmt.Sprintf("version %d", numbers[0]), fmt.Sprintf("version %d", numbers[1])
	return was, is, err
}

// versionNumber reads 2 or v2.
func versionNumber(word string) (int, error) {
	var n int
	for _, form := range []string{"%d", "v%d"} {
		if k, err := fmt.Sscanf(word, form, &n); err == nil && k == 1 && n > 0 && (word == fmt.Sprintf(form, n)) {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%q is no version: want its number, such as 2", word)
}
