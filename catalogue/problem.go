package catalogue

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with a document: where it stands, what is wrong and what
// to write instead.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Field   string `json:"field,omitempty"`
	Problem string `json:"problem"`
	Remedy  string `json:"remedy,omitempty"`
}

func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, p.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Problem)
	if p.Remedy != "" {
		b.WriteString("; " + p.Remedy)
	}
	return b.String()
}

// maxProblems bounds how many problems are reported together.
const maxProblems = 100

// Problems are all that is wrong with a set of documents, in order of place. It is an
// error when there is at least one.
type Problems struct {
	List []Problem `json:"problems"`
	More int       `json:"more,omitempty"` // found beyond the first hundred
}

func (ps *Problems) Error() string {
	lines := make([]string, 0, len(ps.List)+1)
	for _, p := range ps.List {
		lines = append(lines, p.Error())
	}
	if ps.More > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", ps.More))
	}
	return strings.Join(lines, "\n")
}

func (ps *Problems) add(p Problem) {
	if len(ps.List) == maxProblems {
		ps.More++
		return
	}
	ps.List = append(ps.List, p)
}

// err is ps as an error, in order of place, or nil when nothing is wrong.
func (ps *Problems) err() error {
	if len(ps.List) == 0 {
		return nil
	}
	slices.SortStableFunc(ps.List, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return ps
}

// nearest is the name most like s, or "" when none is near.
func nearest(s string, names []string) string {
	best, least := "", max(2, len(s)/3)+1
	for _, n := range names {
		if d := distance(s, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// didYouMean is the remedy that names what is nearest to s, or else lists the names.
func didYouMean(s string, names []string) string {
	if n := nearest(s, names); n != "" {
		return "did you mean " + n + "?"
	}
	if len(names) == 0 || len(names) > maxListed {
		return ""
	}
	return "known are " + strings.Join(names, ", ")
}

// maxListed bounds how many names a remedy lists.
const maxListed = 20

// distance is the number of letters to change, add or take away to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, above+1, row[j]+1)
			diagonal = above
		}
	}
	return row[len(b)]
}
