package plain

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"unicode/utf8"
)

// The forms in which a sheet is written.
const (
	Markdown = "md"
	HTML     = "html"
)

// Write writes the sheet in one of the forms; the note, if there is one, at its end.
func (s Sheet) Write(w io.Writer, form, note string) error {
	if form == HTML {
		return s.html(w, note)
	}
	_, err := io.WriteString(w, s.markdown(note))
	return err
}

// Title names the sheet and its version.
func (s Sheet) Title() string {
	if s.Version == 0 {
		return "Term sheet of " + s.Contract
	}
	return fmt.Sprintf("Term sheet of %s, version %d", s.Contract, s.Version)
}

// heading is a section's title, with the rule it is about.
func (s Section) heading() string {
	if s.Rule != "" {
		return s.Title + ": " + code(s.Rule)
	}
	return s.Title
}

func (s Sheet) markdown(note string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", Escape(s.Title()))
	for i, part := range s.Sections {
		fmt.Fprintf(&b, "## %d. %s\n\n", i+1, Escape(part.heading()))
		for j, c := range part.Clauses {
			fmt.Fprintf(&b, "%d.%d %s\n\n", i+1, j+1, Escape(c.Text))
			if c.Table == nil {
				continue
			}
			row := func(cells []string) {
				for _, cell := range cells {
					fmt.Fprintf(&b, "| %s ", strings.ReplaceAll(Escape(cell), "|", `\|`))
				}
				b.WriteString("|\n")
			}
			row(c.Table.Head)
			b.WriteString(strings.Repeat("|---", len(c.Table.Head)) + "|\n")
			for _, r := range c.Table.Rows {
				row(r.Cells)
			}
			b.WriteByte('\n')
		}
	}
	if note != "" {
		fmt.Fprintf(&b, "*%s*\n", Escape(note))
	}
	return b.String()
}

var marks = strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "<", "&lt;", "&", "&amp;", "`", "\\`", "[", `\[`, "\n", " ")

// Escape is a sentence in Markdown. What stands as written is fenced by more backticks
// than it holds.
func Escape(s string) string {
	var b strings.Builder
	for _, p := range pieces(s) {
		if !p.Code {
			b.WriteString(marks.Replace(p.Text))
			continue
		}
		fence, space := "`", ""
		for strings.Contains(p.Text, fence) {
			fence, space = fence+"`", " "
		}
		b.WriteString(fence + space + p.Text + space + fence)
	}
	return b.String()
}

// piece is a part of a sentence: of ours, or as written in the contract.
type piece struct {
	Text string
	Code bool
}

func pieces(s string) []piece {
	var out []piece
	for s != "" {
		text, rest, found := strings.Cut(s, string(CodeBegin))
		if text != "" {
			out = append(out, piece{Text: text})
		}
		if !found {
			break
		}
		inside, after, _ := strings.Cut(rest, string(CodeEnd))
		out, s = append(out, piece{inside, true}), after
	}
	return out
}

// Bare is a sentence for a terminal: what stands as written is between backticks.
func Bare(s string) string {
	return strings.NewReplacer(string(CodeBegin), "`", string(CodeEnd), "`").Replace(s)
}

//go:embed sheet.html
var page string

var sheetPage = template.Must(template.New("sheet").Funcs(template.FuncMap{
	"pieces": pieces, "heading": Section.heading, "add": func(a, b int) int { return a + b },
}).Parse(page))

func (s Sheet) html(w io.Writer, note string) error {
	return sheetPage.Execute(w, struct {
		Sheet
		Note string
	}{s, note})
}

// The size of a page by which the length of a term sheet is measured.
const (
	PageLines   = 60
	PageColumns = 96
)

// Lines is how many lines of at most [PageColumns] characters the sheet takes: its
// headings, sentences and rows of tables, without what the statement will show, which
// is no term.
func (s Sheet) Lines() int {
	n := 0
	count := func(text string) {
		n++
		for used, words := 0, strings.Fields(Bare(text)); len(words) > 0; words = words[1:] {
			width := utf8.RuneCountInString(words[0])
			if used > 0 && used+1+width > PageColumns {
				n, used = n+1, 0
			}
			used += width + 1
		}
	}
	count(s.Title())
	for _, part := range s.Sections {
		if part.Key == statementKey {
			continue
		}
		count(part.heading())
		for _, c := range part.Clauses {
			count("0.0 " + c.Text)
			if c.Table == nil {
				continue
			}
			count(strings.Join(c.Table.Head, "  "))
			for _, r := range c.Table.Rows {
				count(strings.Join(r.Cells, "  "))
			}
		}
	}
	return n
}

// Sentences are the clauses of a section as sentences, tables included.
func (s Section) Sentences() []string {
	var out []string
	for _, c := range s.Clauses {
		text := c.Text
		if c.Table != nil {
			var rows []string
			for _, r := range c.Table.Rows {
				rows = append(rows, r.Term+": "+r.Value)
			}
			text = strings.TrimSuffix(text, ":") + ": " + strings.Join(rows, "; ") + "."
		}
		out = append(out, text)
	}
	return out
}
