package proxy

import (
	"strings"

	"appbind/backend"
	"appbind/wire"
)

// ownEntry answers what a session that was opened with an app password may
// see: the user's own entry, by a few attributes. Stalwart, nslcd and others
// search on the connection of the user's bind and take no entry for a failed
// login.
//
// Such a session has no identity upstream. Its search is run by the service
// identity, which may read far more than the user, so nothing of the client's
// message is forwarded: search builds one base search of the entry. Only
// attributes of the list are returned, and only these can be asked about in the
// filter.
type ownEntry struct {
	// attributes is the list, as configured; all is the same as an encoded selection.
	attributes []string
	all        []byte
	// allowed are its names, and hidden the names that are never shown, in lower case.
	allowed, hidden map[string]bool
}

// newOwnEntry takes own_entry_attributes. Attributes that hold passwords are
// left out whatever the list says; hidden names further ones, the secrets
// attribute as it is configured. Names that are no attribute type are left out
// too: "*" and "+" would show everything.
func newOwnEntry(attributes []string, hidden ...string) *ownEntry {
	o := &ownEntry{allowed: map[string]bool{}, hidden: map[string]bool{}}
	for _, h := range hidden {
		o.hidden[baseType(h)] = true
	}
	for _, a := range attributes {
		name := baseType(a)
		if name == "" || !isAttributeType(name) || o.secret(name) || o.allowed[name] {
			continue
		}
		o.allowed[name] = true
		o.attributes = append(o.attributes, a)
	}
	o.all = wire.AppendStrings(nil, o.attributes...)
	return o
}

// baseType is an attribute description without its options, in lower case.
func baseType[T string | []byte](description T) string {
	name, _, _ := strings.Cut(string(description), ";")
	return strings.ToLower(name)
}

func isAttributeType(name string) bool {
	for i := range len(name) {
		if !isNameByte(name[i]) {
			return false
		}
	}
	return true
}

// secret reports whether an attribute, by its base type, is never shown.
func (o *ownEntry) secret(name string) bool { return o.hidden[name] || backend.PasswordLike(name) }

// guard is a guard that keeps everything from the client that is never shown
// to a session with an app password, not the secrets attribute alone: for
// requests of such a session that go upstream under the user's identity.
func (o *ownEntry) guard(schema secretsSchema) guard { return guard{schema: neverShown{schema, o}} }

// neverShown is a secretsSchema that takes every attribute that holds a
// password for the secrets attribute.
type neverShown struct {
	secretsSchema
	own *ownEntry
}

// Secrets reports whether an attribute is never shown.
func (n neverShown) Secrets(description []byte) bool {
	return n.secretsSchema.Secrets(description) || n.own.secret(baseType(description))
}

// SecretsInFilter reports whether an attribute, or one below it, is never shown.
func (n neverShown) SecretsInFilter(description []byte) bool {
	return n.secretsSchema.SecretsInFilter(description) || n.own.secret(baseType(description))
}

// search turns the client's search s (its context stripped) into one base
// search of the user's own entry, whose DN is dn.
//
// With send, out goes upstream. Without, and r nil, the answer is success
// without an entry: the own entry is not in base and scope, or the filter cannot
// match. Another entry, whether it exists or not, is never told from none. A base
// that is not parsed is answered 34, a critical control 12; other controls are
// ignored (RFC 4511 4.1.11). The root DSE is not the caller's own entry: who
// serves it must do so before.
//
// The filter is evaluated by the upstream, over allowed attributes only. An
// item on any other attribute, or on none, is Undefined (RFC 4511 4.5.1.7), as
// with a directory that grants no access to it. That is no oracle, since the
// outcome does not depend on the value; and unlike a refusal it lets a client's usual filter work
// when one of its alternatives is not allowed: (|(uid=alice)(uidNumber=7)).
// What is always true or false is folded away, since not every server knows the
// empty filters of RFC 4526.
func (o *ownEntry) search(s wire.SearchRequest, controls []byte, dn string) (out wire.SearchRequest, send bool, r *refusal) {
	if r = refuseAnyCritical(controls); r != nil {
		return out, false, r
	}
	in, r := ownEntryInScope(s, dn)
	if r != nil || !in {
		return out, false, r
	}
	filter, outcome, err := o.appendFilter(nil, s.Filter, false, 0)
	switch {
	case err != nil:
		return out, false, refuseRequest
	case outcome == alwaysFalse:
		return out, false, nil
	case outcome == alwaysTrue:
		filter = wire.AppendElement(nil, filterPresent, []byte("objectClass"))
	}
	selection, err := o.selection(s.Attributes)
	if err != nil {
		return out, false, refuseRequest
	}
	return wire.SearchRequest{
		Base:       []byte(dn),
		Scope:      wire.ScopeBase,
		SizeLimit:  s.SizeLimit,
		TimeLimit:  s.TimeLimit,
		TypesOnly:  s.TypesOnly,
		Filter:     filter,
		Attributes: selection,
	}, true, nil
}

// refuseAnyCritical refuses a request with a critical control.
func refuseAnyCritical(controls []byte) *refusal {
	var r *refusal
	err := wire.EachControl(controls, func(c wire.Control) bool {
		if c.Critical {
			r = refuseCritical
		}
		return r == nil
	})
	if err != nil {
		return refuseControlValue
	}
	return r
}

// ownEntryInScope reports whether the entry dn lies in the search's base and
// scope. That names are compared without the upstream's schema grants nothing:
// what is read is dn in any case, and it is the user's own.
func ownEntryInScope(s wire.SearchRequest, dn string) (bool, *refusal) {
	base, err := wire.ParseDN(string(s.Base))
	if err != nil {
		return false, refuseBaseOfOwn
	}
	own, err := wire.ParseDN(dn)
	if err != nil || len(own) == 0 {
		// A name that the upstream wrote and we cannot read: byte for byte, or not at all.
		return string(s.Base) == dn && (s.Scope == wire.ScopeBase || s.Scope == wire.ScopeWhole), nil
	}
	switch s.Scope {
	case wire.ScopeBase:
		return len(own) == len(base) && own.HasSuffix(base), nil
	case wire.ScopeOne:
		return len(own) == len(base)+1 && own.HasSuffix(base), nil
	case wire.ScopeChildren:
		return len(own) > len(base) && own.HasSuffix(base), nil
	}
	return own.HasSuffix(base), nil
}

// selection reduces a requested attribute selection (RFC 4511 4.5.1.8) to the
// allowed attributes, spelled as the client does. None, and "*", are all
// allowed ones; "+" and "@class" stand for attributes that were not allowed one
// by one.
func (o *ownEntry) selection(requested []byte) ([]byte, error) {
	if len(requested) == 0 {
		return o.orNone(o.all), nil
	}
	var out []byte
	everything := false
	err := wire.EachString(requested, func(a []byte) bool {
		if string(a) == "*" {
			everything = true
		} else if o.allowed[baseType(a)] {
			out = wire.AppendStrings(out, string(a))
		}
		return true
	})
	if everything {
		out = o.all
	}
	return o.orNone(out), err
}

// orNone is a selection, or "1.1" in place of an empty one, which would be everything.
func (o *ownEntry) orNone(selection []byte) []byte {
	if len(selection) == 0 {
		return wire.AppendStrings(nil, "1.1")
	}
	return selection
}

// outcome is what is known of a filter without the entry.
type outcome int

const (
	dependsOnEntry outcome = iota
	alwaysTrue
	alwaysFalse
)

// appendFilter appends filter without its items on attributes that are not
// allowed, unless it comes to the same for every entry; then nothing is appended.
//
// Such an item is Undefined. A filter selects an entry only if it is TRUE, and
// grows no truer by an Undefined part: so the item counts as FALSE, and under an odd
// number of NOTs as TRUE, which is the same (Undefined AND x, NOT Undefined and so on never
// are TRUE, and x alone decides in Undefined OR x).
func (o *ownEntry) appendFilter(dst, filter []byte, negated bool, depth int) ([]byte, outcome, error) {
	tag, content, rest, err := wire.Element(filter)
	if err != nil || len(rest) != 0 || depth > wire.MaxNesting {
		return dst, 0, wire.ErrMalformed
	}
	switch tag {
	case filterAnd:
		return o.appendSet(dst, filterAnd, content, negated, depth)
	case filterOr:
		return o.appendSet(dst, filterOr, content, negated, depth)
	case filterNot:
		start := len(dst)
		dst, v, err := o.appendFilter(dst, content, !negated, depth+1)
		if err != nil || v != dependsOnEntry {
			return dst, not(v), err
		}
		return wire.CloseElement(dst, start, filterNot), dependsOnEntry, nil
	}
	return o.appendItem(dst, filter, negated)
}

// appendItem is appendFilter for a leaf.
func (o *ownEntry) appendItem(dst, item []byte, negated bool) ([]byte, outcome, error) {
	ok := false
	if err := wire.EachFilterItem(item, func(i wire.FilterItem) bool {
		name := baseType(i.Attribute)
		// Every entry has a class: (objectClass=*) tells nothing.
		ok = o.allowed[name] || i.Tag == filterPresent && name == "objectclass"
		return true
	}); err != nil {
		return dst, 0, err
	}
	switch {
	case ok:
		return append(dst, item...), dependsOnEntry, nil
	case negated:
		return dst, alwaysTrue, nil
	}
	return dst, alwaysFalse, nil
}

// appendSet is appendFilter for AND and OR: a part that is always TRUE is
// nothing in an AND and decides an OR, and the reverse.
func (o *ownEntry) appendSet(dst []byte, tag byte, parts []byte, negated bool, depth int) ([]byte, outcome, error) {
	neutral, decisive := alwaysTrue, alwaysFalse
	if tag == filterOr {
		neutral, decisive = decisive, neutral
	}
	start := len(dst)
	result := neutral
	for len(parts) > 0 {
		_, _, rest, err := wire.Element(parts)
		if err != nil {
			return dst, 0, err
		}
		var v outcome
		dst, v, err = o.appendFilter(dst, parts[:len(parts)-len(rest)], negated, depth+1)
		switch {
		case err != nil:
			return dst, 0, err
		case v == decisive:
			return dst[:start], decisive, nil
		case v == dependsOnEntry:
			result = dependsOnEntry
		}
		parts = rest
	}
	if result != dependsOnEntry {
		return dst[:start], result, nil
	}
	return wire.CloseElement(dst, start, tag), dependsOnEntry, nil
}

func not(v outcome) outcome {
	switch v {
	case alwaysTrue:
		return alwaysFalse
	case alwaysFalse:
		return alwaysTrue
	}
	return v
}

// entry takes what is never shown out of the body of a SearchResultEntry: a
// second line, against an attribute that was allowed under a name of which we
// do not know what it stands for. If changed, out is dst with the new body
// appended; else it is dst.
func (o *ownEntry) entry(dst, body []byte) (out []byte, changed bool, err error) {
	e, err := wire.DecodeEntry(body)
	if err != nil {
		return dst, false, err
	}
	var list []byte
	err = wire.EachAttribute(e.Attributes, func(a wire.Attribute) bool {
		if o.secret(baseType(a.Type)) {
			changed = true
		} else {
			list = append(list, a.Raw...)
		}
		return true
	})
	if err != nil || !changed {
		return dst, false, err
	}
	e.Attributes = list
	return e.Append(dst), true, nil
}
