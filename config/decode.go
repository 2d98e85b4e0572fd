package config

import (
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// decoder reads a YAML tree into the struct, noting every mistake on the way.
type decoder struct {
	file, dir string
	mistakes  Mistakes
	// lines is the line of each key that was given, by its path.
	lines map[string]int
	// wrong are the paths with a mistake: what hangs on them is not complained about.
	wrong map[string]bool
	// named are the files that the configuration names.
	named []namedFile
}

func newDecoder(file, dir string) *decoder {
	return &decoder{file: file, dir: dir, lines: map[string]int{}, wrong: map[string]bool{}}
}

// line is the line of a key, or of the closest key above it that was given.
func (d *decoder) line(path string) int {
	for path != "" {
		if n, given := d.lines[path]; given {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 1
}

// given reports whether the file has the key.
func (d *decoder) given(path string) bool {
	_, ok := d.lines[path]
	return ok
}

// value decodes one node. tag is the field's, or that of the list or map around it.
func (d *decoder) value(path string, n *yaml.Node, v reflect.Value, tag reflect.StructTag) {
	switch {
	case n.Kind == yaml.AliasNode:
		d.mistake(n.Line, path, "aliases are not used here; a value that begins with * needs quotes")
		return
	case n.Style&yaml.TaggedStyle != 0:
		d.mistake(n.Line, path, "tags are not used here; a value that begins with ! needs quotes")
		return
	}
	switch v.Interface().(type) {
	case URL, Duration, netip.Prefix:
		d.scalar(path, n, v, tag)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.section(path, n, v)
	case reflect.Slice:
		d.list(path, n, v, tag)
	case reflect.Map:
		d.table(path, n, v, tag)
	case reflect.Pointer:
		inner := reflect.New(v.Type().Elem())
		d.value(path, n, inner.Elem(), tag)
		if !d.wrong[path] {
			v.Set(inner)
		}
	default:
		d.scalar(path, n, v, tag)
	}
}

// section decodes a mapping into a struct. An empty one is a section whose keys
// are all commented out, and leaves the defaults.
func (d *decoder) section(path string, n *yaml.Node, v reflect.Value) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.mistake(n.Line, path, "must be a section: its keys stand indented below it")
		return
	}
	fields := fieldsOf(v.Type())
	d.each(path, n, func(name, path string, key, value *yaml.Node) {
		i, known := fields[name]
		if !known {
			d.mistake(key.Line, path, "unknown key"+suggestion(v.Type(), name))
			return
		}
		d.value(path, value, v.Field(i), v.Type().Field(i).Tag)
	})
}

// table decodes a mapping with free keys, which the tag "keys" describes.
func (d *decoder) table(path string, n *yaml.Node, v reflect.Value, tag reflect.StructTag) {
	if n.Kind != yaml.MappingNode {
		d.mistake(n.Line, path, "must be keys with values, such as {smtp: deny}; {} for none")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	d.each(path, n, func(name, path string, key, value *yaml.Node) {
		if reason := checkText(tag.Get("keys"), name); reason != "" {
			d.mistake(key.Line, path, "the key "+reason)
			return
		}
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(path, value, element, tag)
		v.SetMapIndex(reflect.ValueOf(name), element)
	})
}

// each calls f for each key of a mapping that is a word and stands there for the first time.
func (d *decoder) each(path string, n *yaml.Node, f func(name, path string, key, value *yaml.Node)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Tag == "!!merge" {
			d.mistake(key.Line, path, "merge keys (<<) are not used here")
			continue
		}
		if key.Kind != yaml.ScalarNode || key.Style&yaml.TaggedStyle != 0 {
			d.mistake(key.Line, path, "a key must be a word")
			continue
		}
		at := join(path, printable(key.Value))
		if line, twice := seen[key.Value]; twice {
			d.mistake(key.Line, at, "was given on line "+strconv.Itoa(line)+" already")
			continue
		}
		seen[key.Value] = key.Line
		d.lines[at] = key.Line
		f(key.Value, at, key, value)
	}
}

// list decodes a sequence. A list in the file replaces the default list.
func (d *decoder) list(path string, n *yaml.Node, v reflect.Value, tag reflect.StructTag) {
	switch {
	case isNull(n):
		d.mistake(n.Line, path, "has no value; write [] for an empty list, or leave the key out for the default")
		return
	case n.Kind != yaml.SequenceNode:
		d.mistake(n.Line, path, "must be a list: [a, b], or one a line after \"- \"")
		return
	}
	elements := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		at := path + "[" + strconv.Itoa(i) + "]"
		d.lines[at] = item.Line
		element := elements.Index(i)
		if _, is := element.Interface().(Listener); is {
			element.Set(reflect.ValueOf(DefaultListener()))
		}
		d.value(at, item, element, tag)
		if element.Kind() == reflect.String && element.Len() == 0 && !d.wrong[at] {
			d.mistake(item.Line, at, "must not be empty")
		}
	}
	v.Set(elements)
}

// isNull reports whether a key has no value, or null.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// join appends a key to a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// maxKey is how much of an unknown key is repeated in a mistake.
const maxKey = 40

// printable is the word at the beginning of a key. The rest is not repeated:
// {bind_password:secret} without a space is one key for YAML.
func printable(key string) string {
	end := strings.IndexFunc(key, func(r rune) bool { return !isAlnum(r) && r != '_' && r != '-' })
	if end < 0 && len(key) <= maxKey {
		return key
	}
	if end < 0 || end > maxKey {
		end = maxKey
	}
	return key[:end] + "..."
}

// fieldsOf maps the keys of a section to the indexes of its fields.
func fieldsOf(t reflect.Type) map[string]int {
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("yaml"); key != "" && key != "-" {
			fields[key] = i
		}
	}
	return fields
}

// suggestion is a guess at what an unknown key was meant to be: one of the same
// section that is spelled alike, or the same word elsewhere.
func suggestion(section reflect.Type, name string) string {
	var here []string
	for key := range fieldsOf(section) {
		here = append(here, key)
	}
	slices.Sort(here)
	meant := nearest(name, here)
	if meant == "" {
		meant = elsewhere(reflect.TypeFor[Config](), "", name)
	}
	if meant == "" {
		return ""
	}
	return "; did you mean " + meant + "?"
}

// elsewhere is the path of the first key of that name, in the order of the struct.
func elsewhere(t reflect.Type, path, name string) string {
	for i := range t.NumField() {
		key := t.Field(i).Tag.Get("yaml")
		if key == "" || key == "-" {
			continue
		}
		at, inner := join(path, key), t.Field(i).Type
		if key == name {
			return at
		}
		if inner.Kind() == reflect.Slice {
			inner, at = inner.Elem(), at+"[]"
		}
		if inner.Kind() != reflect.Struct {
			continue
		}
		if found := elsewhere(inner, at, name); found != "" {
			return found
		}
	}
	return ""
}
