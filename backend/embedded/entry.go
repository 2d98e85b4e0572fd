package embedded

import (
	"slices"
	"strconv"
	"strings"

	"appbind/wire"
)

// attribute is one attribute of an entry.
type attribute struct {
	name   string // as it was first written
	key    string // canonical
	values []string
}

// entry is one entry. It does not change once it is part of a tree.
type entry struct {
	seq      uint64 // its place in the file; pages of a search are cut by it
	dn       string // as written
	name     wire.DN
	key      string
	comments []string // the comment lines that stand before or in it
	attrs    []attribute
}

// newEntry is an entry without attributes.
func newEntry(dn string) (*entry, error) {
	name, err := wire.ParseDN(dn)
	if err != nil {
		return nil, err
	}
	return &entry{dn: dn, name: name, key: name.Key()}, nil
}

// parent is the key of the entry above.
func (e *entry) parent() string { return e.name[1:].Key() }

// clone is a copy whose attributes may be changed.
func (e *entry) clone() *entry {
	c := *e
	c.attrs = make([]attribute, len(e.attrs))
	for i, a := range e.attrs {
		a.values = slices.Clone(a.values)
		c.attrs[i] = a
	}
	return &c
}

// attr finds the attribute of exactly this key; nil when there is none.
func (e *entry) attr(key string) *attribute {
	for i := range e.attrs {
		if e.attrs[i].key == key {
			return &e.attrs[i]
		}
	}
	return nil
}

// get is the values of the attribute of exactly this key.
func (e *entry) get(key string) []string {
	if a := e.attr(key); a != nil {
		return a.values
	}
	return nil
}

// set replaces the values of an attribute; none removes it.
func (e *entry) set(name string, values ...string) {
	key := canonical(name)
	if len(values) == 0 {
		e.attrs = slices.DeleteFunc(e.attrs, func(a attribute) bool { return a.key == key })
		return
	}
	if a := e.attr(key); a != nil {
		a.values = values
		return
	}
	e.attrs = append(e.attrs, attribute{name: name, key: key, values: values})
}

// has reports whether the attribute holds a value that equals this one under the attribute's matching rule.
func (a *attribute) has(value string) bool { return a.index(value) >= 0 }

func (a *attribute) index(value string) int {
	t := typeOf(a.key)
	want := t.normal(value)
	return slices.IndexFunc(a.values, func(v string) bool { return t.normal(v) == want })
}

// lackedNaming is the type of the first naming value that the entry's attributes lack; "" when all are there.
func (e *entry) lackedNaming() string {
	for _, ava := range e.name[0] {
		if a := e.attr(canonical(ava.Type)); a == nil || !a.has(ava.Value) {
			return ava.Type
		}
	}
	return ""
}

// tree is the whole directory at one moment. It never changes: a change makes a new tree.
type tree struct {
	version  bool     // the file begins with "version: 1"
	entries  []*entry // in the order of the file, which is the order of seq; the first is the suffix
	trailer  []string // comment lines after the last entry
	byKey    map[string]*entry
	children map[string]int // the number of entries right below a key
	manager  string         // key of cn=admin,<suffix>
	service  string         // key of cn=appbind,ou=services,<suffix>
}

// with is the same tree with other entries, which must not be empty.
func (t *tree) with(entries []*entry) *tree {
	n := &tree{version: t.version, entries: entries, trailer: t.trailer,
		byKey: make(map[string]*entry, len(entries)), children: make(map[string]int)}
	for _, e := range entries {
		n.byKey[e.key] = e
		n.children[e.parent()]++
	}
	suffix := entries[0].name
	n.manager = below(suffix, "cn", "admin").Key()
	n.service = below(below(suffix, "ou", "services"), "cn", "appbind").Key()
	return n
}

// below is the DN of an entry right below base.
func below(base wire.DN, attrType, value string) wire.DN {
	return append(wire.DN{{{Type: attrType, Value: value}}}, base...)
}

// suffix is the entry at the top.
func (t *tree) suffix() *entry { return t.entries[0] }

// find finds an entry by its DN, in any spelling. An error says that dn is not a DN.
func (t *tree) find(dn string) (*entry, wire.DN, error) {
	name, err := wire.ParseDN(dn)
	if err != nil {
		return nil, nil, fail(resultInvalidDNSyntax, "invalid DN")
	}
	return t.byKey[name.Key()], name, nil
}

// matched is the DN of the nearest entry above name (matchedDN of RFC 4511 4.1.9).
func (t *tree) matched(name wire.DN) string {
	for i := 1; i < len(name); i++ {
		if e := t.byKey[name[i:].Key()]; e != nil {
			return e.dn
		}
	}
	return ""
}

// values is the values of an attribute of an entry, of all its options when key
// has none, and those that are made when they are asked for.
func (t *tree) values(e *entry, key string) []string {
	switch key {
	case keyEntryDN:
		return []string{e.dn}
	case keySubschema:
		return []string{subschemaDN}
	case keyChildren:
		return []string{strings.ToUpper(strconv.FormatBool(t.children[e.key] > 0))}
	}
	var all []string
	for i := range e.attrs {
		if a := &e.attrs[i]; covers(key, a.key) {
			all = append(all, a.values...)
		}
	}
	return all
}
