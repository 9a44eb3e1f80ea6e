package pricing

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"mete/metering"
	"mete/partner"
)

// Digest is the SHA-256, in hexadecimal, of the Input in one fixed form: two Inputs
// that mean the same, with cells and facts in another order, have the same digest.
func (in Input) Digest() string { return digest(in.canonical()) }

// Digest is the SHA-256, in hexadecimal, of the Result.
func (r Result) Digest() string { return digest(r) }

func digest(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("pricing: internal error: digest: %v", err))
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// canonical is a copy with everything whose order means nothing sorted, and without
// the instant at which a scorecard was frozen.
func (in Input) canonical() Input {
	in.Before = sorted(in.Before, func(a, b Total) int {
		return cmp.Or(strings.Compare(a.Contract, b.Contract), strings.Compare(a.Rule, b.Rule), strings.Compare(a.What, b.What), strings.Compare(a.Scope, b.Scope))
	})
	in.Originals = sorted(in.Originals, func(a, b Attribution) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), strings.Compare(a.ID, b.ID), strings.Compare(a.Contract, b.Contract), strings.Compare(a.Rule, b.Rule))
	})
	in.Leads = sorted(in.Leads, func(a, b partner.Lead) int { return strings.Compare(a.ID, b.ID) })
	in.Scorecards = sorted(in.Scorecards, func(a, b Scorecard) int { return strings.Compare(string(a.App), string(b.App)) })
	for i := range in.Scorecards {
		in.Scorecards[i].FrozenAt = time.Time{}
	}
	in.Meters = sorted(in.Meters, func(a, b metering.Meter) int { return strings.Compare(a.ID, b.ID) })
	in.Apps = sorted(in.Apps, func(a, b partner.App) int { return strings.Compare(string(a.ID), string(b.ID)) })
	in.Partners = sorted(in.Partners, func(a, b partner.Partner) int { return strings.Compare(string(a.ID), string(b.ID)) })
	in.Rates = sorted(in.Rates, compareRates)
	in.Segments = sorted(in.Segments, func(a, b Segment) int {
		return cmp.Or(strings.Compare(a.Terms.Contract, b.Terms.Contract), a.Period.Start.Compare(b.Period.Start))
	})
	for i := range in.Segments {
		s := &in.Segments[i]
		s.Usage = sorted(s.Usage, compareCells)
		s.Transactions = sorted(s.Transactions, func(a, b metering.Transaction) int { return compareEvents(&a, &b) })
	}
	return in
}

// sorted is a sorted copy, never nil, so that no list and an empty one are the same.
func sorted[T any](list []T, compare func(a, b T) int) []T {
	out := append([]T{}, list...)
	slices.SortStableFunc(out, compare)
	return out
}

// compareCells orders usage cells by their dimensions, then by their sums.
func compareCells(a, b metering.Usage) int {
	return cmp.Or(strings.Compare(string(a.App), string(b.App)), strings.Compare(string(a.Customer), string(b.Customer)),
		strings.Compare(a.Type, b.Type), strings.Compare(string(a.Class), string(b.Class)), strings.Compare(a.Operation, b.Operation),
		strings.Compare(a.Unit, b.Unit), strings.Compare(string(a.Currency), string(b.Currency)), a.Status-b.Status,
		strings.Compare(string(a.Environment), string(b.Environment)), strings.Compare(a.Dimensions, b.Dimensions),
		cmp.Compare(a.Count, b.Count), a.Quantity.Cmp(b.Quantity), cmp.Compare(a.Bytes, b.Bytes), a.Amount.Cmp(b.Amount))
}

// UnmarshalJSON reads terms by decoding their document again: what the JSON says
// beside the document and the version is for readers.
func (t *Terms) UnmarshalJSON(b []byte) error {
	var kept struct {
		Version  int    `json:"version"`
		Document string `json:"document"`
	}
	if err := json.Unmarshal(b, &kept); err != nil {
		return err
	}
	read, err := ParseTerms("contract", []byte(kept.Document))
	if err != nil {
		return fmt.Errorf("stored terms: %w", err)
	}
	*t = *read
	t.Version = kept.Version
	return nil
}
