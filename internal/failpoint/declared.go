package failpoint

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Declaration is a point in the source.
type Declaration struct {
	Name Point
	At   string // file:line, relative to the root
}

// Declared reads every fail-point from the Go source under root, tests left
// out, sorted by name: the list a crash test has to go through. A name in two
// places is an error, since a test could not tell which it hit.
//
// A point is a constant or variable of type failpoint.Point with a literal
// value, or a literal given to failpoint.Hit or failpoint.Point.
func Declared(root string) ([]Declaration, error) {
	var all []Declaration
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		found, err := inFile(path, filepath.ToSlash(rel))
		all = append(all, found...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("fail-points under %s: %w", root, err)
	}
	slices.SortFunc(all, func(a, b Declaration) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.At, b.At))
	})
	for i := 1; i < len(all); i++ {
		if all[i].Name == all[i-1].Name {
			return nil, fmt.Errorf("fail-point %s stands at %s and at %s: give each place a name of its own",
				all[i].Name, all[i-1].At, all[i].At)
		}
	}
	return all, nil
}

func inFile(path, rel string) ([]Declaration, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var found []Declaration
	add := func(e ast.Expr) {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return
		}
		if name, err := strconv.Unquote(lit.Value); err == nil {
			at := fmt.Sprintf("%s:%d", rel, files.Position(lit.Pos()).Line)
			found = append(found, Declaration{Point(name), at})
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			if isOurs(n.Type, "Point") {
				for _, v := range n.Values {
					add(v)
				}
			}
		case *ast.CallExpr:
			if (isOurs(n.Fun, "Hit") || isOurs(n.Fun, "Point")) && len(n.Args) == 1 {
				add(n.Args[0])
			}
		}
		return true
	})
	return found, nil
}

// isOurs reports whether e is failpoint.name.
func isOurs(e ast.Expr, name string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && pkg.Name == "failpoint"
}
