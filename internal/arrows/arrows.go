// Package arrows holds the order of this repository: which package may import
// which, and why. Its test reads every Go file and compares.
//
// It knows packages by their path only, reads source and runs nothing. Read
// [Table] first: it is the river, event → usage → line → entry → payout, with
// imports pointing upstream only. To add a package or an arrow, add a row or an
// arrow with its reason there.
package arrows

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Module is the path that all our imports start with.
const Module = "mete"

// Arrow is one permitted import and its reason.
type Arrow struct{ To, Why string }

// Row is what one package may do. A package named XTEST below another, such as
// ledger/ledgertest, holds the promises of X's interfaces: it needs no row, may
// import what X may and X itself, and only tests import it. A package below a
// row that Wires has that row.
type Row struct {
	Package string
	May     []Arrow // of our packages; whatever else is not ours to order
	Tests   []Arrow // and further, in _test.go files
	Pure    bool    // no context, clock, input, output, goroutine
	Driver  bool    // only rows that wire import it, and tests
	Wires   bool    // may import everything but test suites
}

// Files is the source: path relative to the module root, with slashes → text.
type Files map[string][]byte

// Problem is one departure from the order.
type Problem struct {
	At   string // file:line
	What string
}

func (p Problem) String() string { return p.At + ": " + p.What }

// Read takes every Go file under root, whatever its build tags. A folder named
// testdata holds data, except the package internal/testdata.
func Read(root string) (Files, error) {
	files := Files{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			skip := strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "node_modules" || name == "vendor" ||
				name == "testdata" && file != filepath.Join(root, "internal", "testdata")
			if file != root && skip {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		files[filepath.ToSlash(rel)] = text
		return err
	})
	return files, err
}

// Check answers every departure of the files from the table.
func Check(files Files, table []Row) []Problem {
	c := checker{rows: map[string]Row{}, documented: map[string]bool{}}
	for _, r := range table {
		c.rows[r.Package] = r
	}
	for name, text := range files {
		c.file(name, text)
	}
	for pkg, ok := range c.documented {
		if !ok {
			c.add(pkg, "no package comment: say what it is, what it refuses to know, what to read first")
		}
	}
	slices.SortFunc(c.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.What, b.What))
	})
	return c.problems
}

type checker struct {
	rows       map[string]Row
	documented map[string]bool
	problems   []Problem
}

func (c *checker) add(at, format string, args ...any) {
	c.problems = append(c.problems, Problem{at, fmt.Sprintf(format, args...)})
}

func (c *checker) file(name string, text []byte) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		c.add(name, "%v", err)
		return
	}
	at := func(n ast.Node) string { return fmt.Sprintf("%s:%d", name, set.Position(n.Pos()).Line) }

	pkg, test := path.Dir(name), strings.HasSuffix(name, "_test.go")
	row, suite, known := c.row(pkg)
	if !known {
		c.add(name, "package %s is not in the table of internal/arrows: give it a row, with a reason for each arrow", pkg)
		return
	}
	if !test {
		c.documented[pkg] = c.documented[pkg] || file.Doc != nil
	}
	for _, spec := range file.Imports {
		to, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			c.add(at(spec), "%v", err)
			continue
		}
		if why := c.refuse(pkg, row, suite, test, to); why != "" {
			c.add(at(spec), "%s", why)
		}
	}
	if test {
		return
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if why := habit(n, name, row.Pure, suite); why != "" {
			c.add(at(n), "%s", why)
		}
		return true
	})
}

// row finds the rule for a package, and whether it is a test suite.
func (c *checker) row(pkg string) (_ Row, suite, known bool) {
	if r, ok := c.rows[pkg]; ok {
		return r, false, true
	}
	if isSuite(pkg) {
		r, ok := c.rows[path.Dir(pkg)]
		r.Driver, r.Pure = false, false
		r.May = append(slices.Clone(r.May), Arrow{path.Dir(pkg), "the promises it tests"})
		return r, true, ok
	}
	for up := path.Dir(pkg); up != "." && up != "/"; up = path.Dir(up) {
		if r, ok := c.rows[up]; ok && r.Wires {
			return r, false, true
		}
	}
	return Row{}, false, false
}

// isSuite reports whether the package is X/XTEST.
func isSuite(pkg string) bool {
	return path.Base(pkg) == path.Base(path.Dir(pkg))+"test"
}

// refuse says why pkg may not import to; empty when it may.
func (c *checker) refuse(pkg string, row Row, suite, test bool, to string) string {
	own, ours := strings.CutPrefix(to, Module+"/")
	if !ours && to != Module {
		if row.Pure && !test && unclean(to) {
			return fmt.Sprintf("%s is pure: %s brings I/O, a clock, chance or a context", pkg, to)
		}
		return ""
	}
	allowed := slices.Clone(row.May)
	switch {
	case own == pkg && test:
		return "" // the external tests of a package
	case test && (isSuite(own) || row.Wires):
		return ""
	case test:
		allowed = append(append(allowed, row.Tests...), anyTest...)
	case suite:
		allowed = append(allowed, anyTest...)
	case isSuite(own):
		return fmt.Sprintf("%s is for tests, and %s is none", own, pkg)
	case row.Wires:
		return ""
	}
	var names []string
	for _, a := range allowed {
		if a.To == own {
			return ""
		}
		names = append(names, a.To)
	}
	if c.rows[own].Driver {
		return fmt.Sprintf("%s imports the driver %s; only cmd and tests name drivers", pkg, own)
	}
	return fmt.Sprintf("no arrow %s → %s; it may import %s", pkg, own, cmp.Or(strings.Join(names, ", "), "nothing of ours"))
}

// unclean reports whether a pure package may not import it.
func unclean(to string) bool {
	for _, banned := range []string{"context", "os", "net", "log", "database/sql", "io/fs", "io/ioutil", "embed",
		"math/rand", "crypto/rand", "syscall", "plugin", "testing", "golang.org/x/sync", "runtime"} {
		if to == banned || strings.HasPrefix(to, banned+"/") {
			return true
		}
	}
	return false
}

var (
	account = regexp.MustCompile(`\b(assets|liabilities|income|expenses|equity):(\S+|$)`)
	clocks  = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
)

// habit says what is wrong with a node of a file that is no test.
func habit(n ast.Node, file string, pure, suite bool) string {
	switch n := n.(type) {
	case *ast.FuncDecl:
		if n.Recv == nil && n.Name.Name == "init" {
			return "func init runs unseen: set fields in main instead"
		}
	case *ast.GoStmt:
		if pure {
			return "a pure package starts no goroutine"
		}
	case *ast.SelectorExpr:
		pkg, ok := n.X.(*ast.Ident)
		if pure && ok && pkg.Name == "time" && slices.Contains(clocks, n.Sel.Name) {
			return "a pure package reads no clock: time." + n.Sel.Name
		}
	case *ast.BasicLit:
		if n.Kind != token.STRING || file == "ledger/chart.go" || suite || strings.HasPrefix(file, "internal/arrows/") {
			return ""
		}
		if text, err := strconv.Unquote(n.Value); err == nil {
			if name := account.FindString(text); name != "" {
				return fmt.Sprintf("account name %q: ledger/chart.go alone spells accounts; call its function", name)
			}
		}
	}
	return ""
}
