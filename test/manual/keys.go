package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"

	"appbind/config"
)

// comments are the texts on the fields of package config, by "Type.Field".
type comments map[string]string

// readComments reads the struct types of the package in dir.
func readComments(dir string) (comments, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	c := comments{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if t, ok := n.(*ast.TypeSpec); ok {
				if s, ok := t.Type.(*ast.StructType); ok {
					c.add(t.Name.Name, s)
				}
			}
			return true
		})
	}
	return c, nil
}

func (c comments) add(typeName string, s *ast.StructType) {
	for _, f := range s.Fields.List {
		for _, name := range f.Names {
			c[typeName+"."+name.Name] = strings.TrimSpace(f.Doc.Text())
		}
	}
}

// section is one struct of the configuration: a mapping of the file.
type section struct {
	path string // as in messages: upstream, listeners[]
	def  reflect.Value
}

// keys is the list of all keys in mdoc: the top level first, then a subsection
// for each mapping.
func keys(c comments) (string, error) {
	var b strings.Builder
	todo := []section{{"", reflect.ValueOf(*config.Default())}}
	for len(todo) > 0 {
		s := todo[0]
		inner, err := s.write(&b, c)
		if err != nil {
			return "", err
		}
		todo = append(inner, todo[1:]...)
	}
	return b.String(), nil
}

// write writes the keys of one mapping and returns the mappings in it.
func (s section) write(b *strings.Builder, c comments) (inner []section, err error) {
	title := s.path
	if list, is := strings.CutSuffix(title, "[]"); is {
		title = "Each of " + list
	} else if title == "" {
		title = "The whole file"
	}
	fmt.Fprintf(b, ".Ss %s\n.Bl -tag -width Ds\n", title)
	for i := range s.def.NumField() {
		f := s.def.Type().Field(i)
		key := f.Tag.Get("yaml")
		if key == "-" {
			continue
		}
		text := c[s.def.Type().Name()+"."+f.Name]
		if text == "" {
			return nil, fmt.Errorf("config.%s.%s has no comment", s.def.Type().Name(), f.Name)
		}
		path := strings.TrimPrefix(s.path+"."+key, ".")
		below, isMapping := mapping(path, s.def.Field(i))
		if isMapping {
			inner = append(inner, below)
		}
		fmt.Fprintf(b, ".It Ic %s Pq %s\n%s", key, kind(f.Type), roff(aboutKey(f.Name, text)))
		if !isMapping {
			b.WriteString(roff(about(f.Tag, s.def.Field(i), text)))
		}
	}
	b.WriteString(".El\n")
	return inner, nil
}

// mapping is the section below a key whose value is a mapping or a list of them.
func mapping(path string, v reflect.Value) (section, bool) {
	t := v.Type()
	if t.Kind() == reflect.Slice && isSection(t.Elem()) {
		if t.Elem() == reflect.TypeFor[config.Listener]() {
			return section{path + "[]", reflect.ValueOf(config.DefaultListener())}, true
		}
		return section{path + "[]", reflect.Zero(t.Elem())}, true
	}
	return section{path, v}, isSection(t)
}

func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.PkgPath() == reflect.TypeFor[config.Config]().PkgPath() &&
		t != reflect.TypeFor[config.URL]()
}

// aboutKey is the comment without the field's Go name, which means nothing in
// the file: "Bases are the DNs ..." is "the DNs ...". It begins in lower case,
// since it may begin with a value.
func aboutKey(field, text string) string {
	rest, found := strings.CutPrefix(text, field+" ")
	if !found || strings.HasPrefix(rest, "and ") {
		return text
	}
	for _, verb := range []string{"is ", "are "} {
		if said, ok := strings.CutPrefix(rest, verb); ok {
			return said
		}
	}
	return rest
}

// about says what the code knows besides: bounds, and the default where the
// comment does not name it.
func about(tag reflect.StructTag, def reflect.Value, text string) string {
	var said []string
	if bounds := tag.Get("range"); bounds != "" {
		low, high, _ := strings.Cut(bounds, "..")
		said = append(said, "From "+low+" to "+high+".")
	}
	if d := defaultText(def); d != "" && !strings.Contains(text, "default") {
		said = append(said, "Default: "+d+".")
	}
	return strings.Join(said, "\n")
}

// defaultText is a default as it is written in the file; "" for what is empty.
func defaultText(v reflect.Value) string {
	if v.IsZero() && v.Kind() != reflect.Bool {
		return ""
	}
	if v.Kind() == reflect.Slice {
		items := make([]string, v.Len())
		for i := range items {
			items[i] = fmt.Sprint(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return fmt.Sprint(v)
}

// kind is what a value looks like, for people.
func kind(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[config.Duration]() {
		return "duration"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "number"
	case reflect.Map:
		return "mapping"
	case reflect.Slice:
		if isSection(t.Elem()) {
			return "list of mappings"
		}
		return "list"
	case reflect.Struct:
		if isSection(t) {
			return "mapping"
		}
	}
	return "text"
}

// width is what a line of the page should not exceed; so says mandoc.
const width = 78

// roff is text for mdoc: each sentence begins a line, and nothing in it is
// taken for a request or an escape.
func roff(text string) string {
	var b strings.Builder
	used := 0
	for w := range strings.FieldsSeq(strings.ReplaceAll(text, `\`, `\e`)) {
		switch {
		case used > 0 && used+1+len(w) <= width:
			b.WriteString(" ")
			used++
		case used > 0:
			b.WriteString("\n")
			used = 0
		}
		if used == 0 && (w[0] == '.' || w[0] == '\'') {
			w = `\&` + w
		}
		b.WriteString(w)
		used += len(w)
		if strings.HasSuffix(w, ".") {
			b.WriteString("\n")
			used = 0
		}
	}
	if used > 0 {
		b.WriteString("\n")
	}
	return b.String()
}
