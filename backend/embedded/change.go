package embedded

import (
	"crypto/rand"
	"fmt"
	"slices"
	"time"
)

// The kinds of a modification (RFC 4511 4.6).
const (
	modifyAdd     = 0
	modifyDelete  = 1
	modifyReplace = 2
)

// modification is one part of a modify request.
type modification struct {
	kind   int64
	name   string
	values []string
	// permissive: a value to add that is there, and one to delete that is not, is left so.
	permissive bool
}

// stamp says who changes something, when, and which change it is.
type stamp struct {
	now    time.Time
	by     string // DN
	number uint64 // unlike any other of the same microsecond
}

const (
	generalizedTime = "20060102150405Z"
	csnTime         = "20060102150405.000000Z"
)

func (s stamp) time() string { return s.now.UTC().Format(generalizedTime) }

func (s stamp) csn() string {
	return fmt.Sprintf("%s#%06x#000#000000", s.now.UTC().Format(csnTime), s.number&0xffffff)
}

// newUUID is a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// complete gives an entry of the file the operational attributes that it lacks
// and hashes passwords in clear. It reports whether anything was done.
func (e *entry) complete(s stamp) (changed bool, err error) {
	for _, want := range []struct{ name, value string }{
		{"entryUUID", newUUID()},
		{"createTimestamp", s.time()},
		{"modifyTimestamp", s.time()},
		{"entryCSN", s.csn()},
	} {
		if e.get(canonical(want.name)) == nil {
			e.set(want.name, want.value)
			changed = true
		}
	}
	for i := range e.attrs {
		a := &e.attrs[i]
		if !covers(keyUserPassword, a.key) {
			continue
		}
		values, replaced, err := hashed(a.values)
		if err != nil {
			return changed, err
		}
		if replaced {
			a.values = values
			changed = true
		}
	}
	return changed, nil
}

// add is the tree with one more entry (RFC 4511 4.7). Passwords are hashed already.
func (t *tree) add(dn string, attrs []attribute, s stamp) (*tree, error) {
	e, err := newEntry(dn)
	if err != nil || len(e.name) == 0 {
		return nil, fail(resultInvalidDNSyntax, "invalid DN")
	}
	if t.byKey[e.key] != nil {
		return nil, fail(resultEntryExists, "")
	}
	if t.byKey[e.parent()] == nil {
		return nil, &failure{code: resultNoSuchObject, matched: t.matched(e.name), text: "the entry above does not exist"}
	}
	for _, a := range attrs {
		if err := e.modify(modification{kind: modifyAdd, name: a.name, values: a.values}); err != nil {
			return nil, err
		}
	}
	if lacked := e.lackedNaming(); lacked != "" {
		return nil, fail(resultNaming, lacked+": the value in the name is not in the entry")
	}
	if e.get(keyObjectClass) == nil {
		return nil, fail(resultObjectClass, "no objectClass")
	}
	e.seq = t.entries[len(t.entries)-1].seq + 1
	e.set("entryUUID", newUUID())
	e.set("creatorsName", s.by)
	e.set("createTimestamp", s.time())
	e.touch(s, e.get(keyUserPassword) != nil)
	return t.with(append(slices.Clone(t.entries), e)), nil
}

// touch notes a change in the operational attributes.
func (e *entry) touch(s stamp, password bool) {
	e.set("modifiersName", s.by)
	e.set("modifyTimestamp", s.time())
	e.set("entryCSN", s.csn())
	if password {
		e.set("pwdChangedTime", s.time())
	}
}

// remove is the tree without an entry, which must be a leaf (RFC 4511 4.8).
func (t *tree) remove(dn string) (*tree, error) {
	e, err := t.existing(dn)
	if err != nil {
		return nil, err
	}
	if t.children[e.key] > 0 {
		return nil, fail(resultNotAllowedOnNonLeaf, "the entry has entries below it")
	}
	if e == t.suffix() {
		return nil, fail(resultUnwilling, "the suffix cannot be deleted")
	}
	return t.with(slices.DeleteFunc(slices.Clone(t.entries), func(x *entry) bool { return x == e })), nil
}

// existing finds an entry that must be there.
func (t *tree) existing(dn string) (*entry, error) {
	e, name, err := t.find(dn)
	switch {
	case err != nil:
		return nil, err
	case e == nil:
		return nil, &failure{code: resultNoSuchObject, matched: t.matched(name)}
	}
	return e, nil
}

// modified is the tree with one entry changed: all modifications in order, or none (RFC 4511 4.6).
func (t *tree) modified(dn string, changes []modification, s stamp) (*tree, error) {
	old, err := t.existing(dn)
	if err != nil {
		return nil, err
	}
	e := old.clone()
	for _, m := range changes {
		if err := e.modify(m); err != nil {
			return nil, err
		}
	}
	if lacked := e.lackedNaming(); lacked != "" {
		return nil, fail(resultNotAllowedOnRDN, lacked+": the value is in the name")
	}
	if e.get(keyObjectClass) == nil {
		return nil, fail(resultObjectClass, "no objectClass left")
	}
	password := !slices.Equal(old.get(keyUserPassword), e.get(keyUserPassword))
	e.touch(s, password)
	if e.get(keyUserPassword) == nil {
		e.set("pwdChangedTime")
	}
	entries := slices.Clone(t.entries)
	entries[slices.Index(entries, old)] = e
	return t.with(entries), nil
}

// modify makes one modification to an entry of its own.
func (e *entry) modify(m modification) error {
	if !validDescription(m.name) {
		return fail(resultUndefinedType, "invalid attribute name")
	}
	key := canonical(m.name)
	if typeOf(key).fixed {
		return fail(resultConstraint, m.name+": no user modification allowed")
	}
	if slices.Contains(m.values, "") {
		return fail(resultInvalidSyntax, m.name+": empty value")
	}
	if m.permissive && m.kind != modifyReplace && len(m.values) > 0 {
		a := e.attr(key)
		m.values = slices.DeleteFunc(slices.Clone(m.values), func(v string) bool {
			return (a != nil && a.has(v)) == (m.kind == modifyAdd)
		})
		if len(m.values) == 0 {
			return nil
		}
	}
	switch m.kind {
	case modifyAdd:
		return e.addValues(m.name, key, m.values)
	case modifyDelete:
		return e.deleteValues(m.name, key, m.values)
	case modifyReplace:
		if len(m.values) == 0 {
			e.set(m.name)
			return nil
		}
		if a := e.attr(key); a != nil {
			a.values = nil // it keeps its place in the file
		}
		return e.addValues(m.name, key, m.values)
	}
	return fail(resultProtocolError, "unknown kind of modification")
}

// addValues adds values, none of which may be there.
func (e *entry) addValues(name, key string, values []string) error {
	if len(values) == 0 {
		return fail(resultProtocolError, name+": no value to add")
	}
	a := e.attr(key)
	if a == nil {
		e.attrs = append(e.attrs, attribute{name: name, key: key})
		a = &e.attrs[len(e.attrs)-1]
	}
	for _, v := range values {
		if a.has(v) {
			return fail(resultValueExists, name+": the value is there already")
		}
		a.values = append(a.values, v)
	}
	if typeOf(key).single && len(a.values) > 1 {
		return fail(resultConstraint, name+": the attribute takes one value")
	}
	return nil
}

// deleteValues removes exactly these values, or the whole attribute when there are none.
func (e *entry) deleteValues(name, key string, values []string) error {
	a := e.attr(key)
	if a == nil {
		return fail(resultNoSuchAttribute, name+": no such attribute")
	}
	if len(values) == 0 {
		e.set(name)
		return nil
	}
	for _, v := range values {
		i := a.index(v)
		if i < 0 {
			return fail(resultNoSuchAttribute, name+": no such value")
		}
		a.values = slices.Delete(a.values, i, i+1)
	}
	if len(a.values) == 0 {
		e.set(name)
	}
	return nil
}
