// Command measure keeps the house rules that a program can count: the length
// of functions and files, no init functions, documented exported names, one
// direction of imports. It prints the lines of code and of tests by package,
// and fails when a rule is broken.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The budget. A function longer than a screen is read in pieces; a file longer
// than this holds more than one concern.
const (
	maxFunction    = 100
	maxFunctionP90 = 45
	maxFile        = 600
)

// imports is the one direction: a package may import those of ours that are listed.
var imports = map[string][]string{
	"wire":             {},
	"secrets":          {},
	"config":           {"wire"},
	"auth":             {"config", "secrets", "wire"},
	"events":           {"config"},
	"backend":          {"auth", "config", "wire"},
	"backend/embedded": {"secrets", "wire"},
	"backend/fakeldap": {"wire"},
	"manage":           {"auth", "backend", "config", "events", "secrets", "wire"},
	"virtual":          {"manage", "secrets", "wire"},
	"proxy":            {"auth", "backend", "config", "events", "manage", "secrets", "virtual", "wire"},
	"history":          {"config", "events", "secrets"},
	"mail":             {"config"},
	"jobs":             {"auth", "backend", "config", "events", "history", "mail", "manage", "secrets", "wire"},
	"observe":          {"auth", "backend", "config", "events", "history", "jobs", "proxy"},
	"cmd/appbind":      {"auth", "backend", "backend/embedded", "config", "events", "history", "jobs", "mail", "manage", "observe", "portal", "proxy", "secrets", "wire"},
	"portal":           {"auth", "backend", "config", "events", "history", "manage", "secrets", "wire"},
	"test/bench":       {"secrets", "test/loopback", "wire"},
	"test/postgres":    {},
	"test/relay":       {},
	"test/loopback":    {},
	"test/browser":     {},
	"test/soak":        {"secrets", "test/loopback", "test/relay", "wire"},
	"test/directories": {},
}

type pack struct {
	code, tests int
	functions   []int
}

type measure struct {
	packages map[string]*pack
	faults   []string
}

func main() {
	m := measure{packages: map[string]*pack{}}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			return m.file(path)
		}
		return nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
	m.report()
	if len(m.faults) > 0 {
		os.Exit(1)
	}
}

// file counts one file.
func (m *measure) file(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	name := filepath.ToSlash(filepath.Dir(path))
	p := m.packages[name]
	if p == nil {
		p = &pack{}
		m.packages[name] = p
	}
	lines := strings.Count(string(text), "\n")
	if strings.HasSuffix(path, "_test.go") {
		p.tests += lines
		return nil
	}
	p.code += lines
	if lines > maxFile {
		m.fault("%s: %d lines, at most %d", path, lines, maxFile)
	}
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, text, parser.ParseComments)
	if err != nil {
		return err
	}
	m.checkImports(path, name, f)
	for _, d := range f.Decls {
		m.declaration(path, set, p, d)
	}
	return nil
}

// checkImports holds a file's imports against the table.
func (m *measure) checkImports(path, name string, f *ast.File) {
	allowed, known := imports[name]
	for _, spec := range f.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		ours, is := strings.CutPrefix(imported, "appbind/")
		if is && known && !slices.Contains(allowed, ours) {
			m.fault("%s: imports %s, which stands above it", path, imported)
		}
	}
}

// declaration checks one top-level declaration.
func (m *measure) declaration(path string, set *token.FileSet, p *pack, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		n := set.Position(d.End()).Line - set.Position(d.Pos()).Line + 1
		p.functions = append(p.functions, n)
		at := fmt.Sprintf("%s:%d: %s", path, set.Position(d.Pos()).Line, d.Name.Name)
		if n > maxFunction {
			m.fault("%s: %d lines, at most %d", at, n, maxFunction)
		}
		if d.Name.Name == "init" && d.Recv == nil {
			m.fault("%s: no init functions", at)
		}
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
			m.fault("%s: exported and not documented", at)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			if t, ok := s.(*ast.TypeSpec); ok && t.Name.IsExported() && d.Doc == nil && t.Doc == nil {
				m.fault("%s:%d: %s: exported and not documented", path, set.Position(t.Pos()).Line, t.Name.Name)
			}
		}
	}
}

// exportedReceiver reports whether d is a function, or a method of an exported type.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	id, ok := t.(*ast.Ident)
	return ok && id.IsExported()
}

func (m *measure) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

// report prints the table and the faults.
func (m *measure) report() {
	names := make([]string, 0, len(m.packages))
	for name := range m.packages {
		names = append(names, name)
	}
	slices.Sort(names)
	var code, tests int
	var all []int
	fmt.Printf("%-20s %6s %6s %9s %9s\n", "package", "code", "tests", "func p90", "func max")
	for _, name := range names {
		p := m.packages[name]
		slices.Sort(p.functions)
		fmt.Printf("%-20s %6d %6d %9d %9d\n", name, p.code, p.tests, percentile(p.functions, 90), percentile(p.functions, 100))
		code, tests, all = code+p.code, tests+p.tests, append(all, p.functions...)
	}
	slices.Sort(all)
	fmt.Printf("%-20s %6d %6d %9d %9d\n", "all", code, tests, percentile(all, 90), percentile(all, 100))
	if p90 := percentile(all, 90); p90 > maxFunctionP90 {
		m.fault("functions: 90th percentile %d lines, at most %d", p90, maxFunctionP90)
	}
	for _, f := range m.faults {
		fmt.Fprintln(os.Stderr, f)
	}
}

// percentile is the p-th percentile of sorted numbers; 0 of none.
func percentile(sorted []int, p int) int {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}
